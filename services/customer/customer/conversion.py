"""Leads become accounts and contacts: made or linked, once for each lead."""

from dataclasses import replace
from typing import Any, TypeVar

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crm.sales.v1 import events_pb2 as sales
from crmkit.call import Call
from crmkit.errors import AlreadyExists, FailedPrecondition, NotFound, Problem
from crmkit.mapping import mapper
from crmkit.resource import Resource, parse_name
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from customer.collision import find_hits
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.conversion import LeadResolution
from customer.normalising import public_domains

R = TypeVar("R", bound=Resource)


async def on_lead_conversion_requested(event: sales.LeadConversionRequested, call: Call) -> None:
    """Answers with the lead's account and contact; with why there is none where the customer exists already."""
    await call.db.execute(insert(LeadResolution).values(lead=event.lead.name).on_conflict_do_nothing())
    resolution = (
        await call.db.scalars(
            select(LeadResolution).where(LeadResolution.lead == event.lead.name).with_for_update()
        )
    ).one()
    answer = events.LeadAccountResolved(lead=event.lead.name)
    if not resolution.account:
        # The service may do everything, and so would not be refused a customer that exists.
        modest = replace(call.caller, permissions=frozenset[str]())
        async with call.running.acting(call, modest, call.method) as inner:
            await _resolve(event, resolution, answer, inner)
            await inner.flush()
    answer.account, answer.contact = resolution.account, resolution.contact
    call.tell(answer.DESCRIPTOR.full_name, answer, None)


async def _resolve(
    event: sales.LeadConversionRequested, resolution: LeadResolution, answer: Any, call: Call
) -> None:
    try:
        # Whatever may be wrong with the contact is known before the account is made.
        contact = await _contact(event, call)
        account = await _account(event, answer, call)
    except Problem as problem:
        answer.reason = problem.reason
        answer.level, answer.case = problem.metadata.get("level", ""), problem.metadata.get("case", "")
        if problem.afterwards is not None:
            await problem.afterwards(call)
        return
    if contact is not None and not event.contact:
        same = (Contact.account == account.name, Contact.display_name == contact.display_name)
        known = await call.find(Contact, *same, Contact.state == "ACTIVE")
        contact.account = account.name
        contact = known or await call.add(contact)
    resolution.account, resolution.contact = account.name, contact.name if contact else ""


async def _account(event: sales.LeadConversionRequested, answer: Any, call: Call) -> Account:
    if event.account:
        return await _existing(Account, event.account, call)
    account = Account()
    _assign(account, event.account_draft, event.lead)
    try:
        return await call.add(account)
    except AlreadyExists:
        hits = await find_hits(account, account.identity(public_domains(call.config)), call)
        answer.department = hits[0].account.department if hits else ""
        raise


async def _contact(event: sales.LeadConversionRequested, call: Call) -> Contact | None:
    """The chosen contact, or one of the draft that is at no account yet."""
    if event.contact:
        return await _existing(Contact, event.contact, call)
    if not event.contact_draft.display_name:
        return None
    contact = Contact()
    _assign(contact, event.contact_draft, event.lead)
    return contact


async def _existing(model: type[R], name: str, call: Call) -> R:
    try:
        found = await call.find(model, model.id == parse_name(name, model.described.collection))
    except NotFound:
        found = None
    if found is None:
        raise FailedPrecondition("UNKNOWN_REFERENCE", name=name)
    return found


def _assign(record: Resource, draft: Any, lead: Any) -> None:
    """Takes the draft's fields into the record, which belongs to whom the lead belongs."""
    message = type(record).__message__()
    names = [field.name for field in draft.DESCRIPTOR.fields]
    for field, value in draft.ListFields():
        if field.name == "kind":
            value = pb.Account.Kind.Value(value)
        if field.is_repeated:
            getattr(message, field.name).extend(value)
        else:
            setattr(message, field.name, value)
    mapper(type(record)).assign(record, message, names, new=True, prefix=record.described.singular)
    record.owner, record.department, record.creator = lead.owner, lead.department, lead.owner
