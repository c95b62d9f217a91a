"""What telesales tells of the people that it called: wrong numbers, and who wants to be called no more."""

from typing import Any
from uuid import UUID

from crm.sales.v1 import events_pb2 as sales
from crm.sales.v1 import pb as sales_pb
from crmkit.call import Call
from crmkit.phones import mark_wrong
from sqlalchemy import select

from customer.model.account import Account
from customer.model.consent import Consent
from customer.model.contact import Contact


async def on_call_ended_in_words(event: sales.CallWrappedUp, call: Call) -> None:
    """A wrong number is marked as such, whoever is not to be called any more has withdrawn the consent. Once each."""
    told = event.call
    model: Any = {"accounts": Account, "contacts": Contact}.get(told.subject.partition("/")[0])
    if model is None:
        return
    key = UUID(told.subject.partition("/")[2])
    person = (await call.db.scalars(select(model).where(model.id == key).with_for_update())).one_or_none()
    if person is None:
        return
    if told.disposition == sales_pb.Call.WRONG_NUMBER:
        number = told.from_number if told.direction == sales_pb.Call.INBOUND else told.to_number
        mark_wrong(person, number)
    elif told.disposition == sales_pb.Call.DO_NOT_CALL:
        await _withdraw(person, told.name, call)


async def _withdraw(person: Any, source: str, call: Call) -> None:
    known = (Consent.subject == person.name, Consent.evidence == source)
    if await call.find(Consent, *known) is None:
        await call.add(
            Consent(
                subject=person.name, channel="CALL", purpose="MARKETING", decision="WITHDRAWN", source="CALL",
                evidence=source, creator=person.owner,
            )
        )  # fmt: skip
