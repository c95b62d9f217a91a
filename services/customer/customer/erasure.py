"""Erasing a person: what this service itself knows of a contact beside the record."""

from typing import Any

from crm.customer.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.describe import Described
from sqlalchemy import select, update

from customer.model.care import CareOccurrence
from customer.model.consent import Consent
from customer.model.contact import ERASED_NAME, Contact
from customer.model.merge import MergeSnapshot
from customer.model.timeline import TimelineEntry, TimelineFact
from customer.model.trait import Trait

SOURCE = "ERASURE"
# Of the person, though not what the person is known by.
_FURTHER = ("title", "worries", "preferences", "attitude", "preferredChannel", "custom", "affiliations")


async def forget(contact: Contact, call: Call) -> None:
    """Empties the contact and what was written down of it, ends every consent, and tells every service."""
    fields = _personal(contact.described)
    await contact.forget_person(call)
    async with call.everybody():
        for trait in await call.db.scalars(select(Trait).where(Trait.contact == contact.name)):
            await call.db.delete(trait)
        care = select(CareOccurrence).where(CareOccurrence.contact == contact.name)
        for occasion in await call.db.scalars(care.with_for_update()):
            occasion.display_name = ERASED_NAME
            if occasion.state == "DUE":
                occasion.skip(SOURCE)
        await _withdraw(contact, call)
        await _retell(contact, fields, call)
        for picture in await call.db.scalars(select(MergeSnapshot).where(MergeSnapshot.name == contact.name)):
            # Undoing a merge gives back what was in it, and this no more.
            picture.before, picture.after = _without(picture.before, fields), _without(picture.after, fields)
    call.emit(events.PersonalDataErased, person=contact.name, fields=sorted(fields), time=call.now)


async def _withdraw(contact: Contact, call: Call) -> None:
    """Whoever wishes to be forgotten does not want to be spoken to."""
    decisions = select(Consent).where(Consent.subject == contact.name).order_by(Consent.time, Consent.id)
    latest = {(one.channel, one.purpose): one.decision for one in await call.db.scalars(decisions)}
    for (channel, purpose), decision in sorted(latest.items()):
        if decision == "GRANTED":
            await call.add(
                Consent(
                    subject=contact.name, channel=channel, purpose=purpose, decision="WITHDRAWN", source=SOURCE,
                    evidence="", time=call.now,
                )
            )  # fmt: skip


async def _retell(contact: Contact, fields: frozenset[str], call: Call) -> None:
    """The time line says that something was done with a person, and no more who it was; also when it is rebuilt."""
    entries = update(TimelineEntry).where(TimelineEntry.ref == contact.name)
    await call.db.execute(entries.values(summary=ERASED_NAME))
    facts = select(TimelineFact).where(TimelineFact.aggregate == contact.name).with_for_update()
    for fact in await call.db.scalars(facts):
        fact.payload = {
            key: _without(value, fields)
            if isinstance(value, dict) and value.get("name") == contact.name
            else value
            for key, value in fact.payload.items()
        }


def _personal(described: Described) -> frozenset[str]:
    return frozenset(f.json_name for f in described.fields.values() if f.rule.personal) | frozenset(_FURTHER)


def _without(resource: dict[str, Any], fields: frozenset[str]) -> dict[str, Any]:
    kept = {key: value for key, value in resource.items() if key not in fields}
    return {**kept, "displayName": ERASED_NAME}
