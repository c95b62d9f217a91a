"""Contacts from cards and to cards."""

import re
from typing import Any

from crm.customer.v1 import pb
from crmkit import blobs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem, Validation, required
from crmkit.scope import predicate
from sqlalchemy import select

from customer.importing import duplicates
from customer.importing.gate import apart, make
from customer.model.account import Account
from customer.model.contact import Contact
from customer.vcards import Card, read_cards, write_card

_NOT_IN_FILE_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


async def card_of(name: str, version: str, call: Call) -> dict[str, Any]:
    """The contact as a card, with the name of its account where the caller may see that."""
    contact = await call.load(Contact, name, lock=False)
    organisation = await call.db.scalar(
        select(Account.display_name).where(
            Account.id == _key(contact.account), predicate(Account, call.caller)
        )
    ) if contact.account else ""  # fmt: skip
    file_name = _NOT_IN_FILE_NAMES.sub("_", contact.display_name)[:100]
    return {"file_name": f"{file_name}.vcf", "text": write_card(contact, organisation or "", version)}


async def from_cards(request: Any, call: Call) -> dict[str, Any]:
    """A contact of each card that can be read and is not here yet."""
    await call.check_references(request, "", ["file", "account"])
    made: list[Contact] = []
    skipped: list[Any] = []
    for position, card in enumerate(read_cards(await _content(request, call)), 1):
        left_out = pb.SkippedVcard(position=position, display_name=card.display_name)
        if not card.readable or not card.display_name:
            left_out.reason = "UNREADABLE"
            skipped.append(left_out)
            continue
        account = request.account or await _account_named(card.organisation, call)
        same = (Contact.account == account, Contact.display_name == card.display_name)
        known = await call.db.scalar(select(Contact).where(*same, predicate(Contact, call.caller)).limit(1))
        if account and known is not None:
            left_out.reason, left_out.contact = "ALREADY_EXISTS", known.name
            skipped.append(left_out)
            continue
        contact = _contact(card, account)
        if apart([contact], call)[1]:
            came = await make(contact, position, call)
            if isinstance(came.row, Contact):
                made.append(came.row)
                continue
            left_out.reason = came.problem.reason if came.problem else "HELD_FOR_APPROVAL"
            left_out.contact = "" if came.problem else contact.name
            skipped.append(left_out)
            continue
        try:
            made.append(await call.add(contact))
        except Problem as problem:
            left_out.reason = problem.reason
            skipped.append(left_out)
            continue
        await call.flush()
    if not made and not skipped:
        raise FailedPrecondition("IMPORT_UNREADABLE", detail="vCard")
    return {"contacts": made, "skipped": skipped}


async def _content(request: Any, call: Call) -> bytes:
    if not request.file:
        if not request.text:
            raise Validation(required("file"))
        return request.text.encode()
    file = await call.copy(request.file) or {}
    if not file.get("sha256"):
        raise FailedPrecondition("IMPORT_UNREADABLE", detail=request.file)
    try:
        async with blobs.fetched(call.running.store, file["sha256"]) as stored:
            return stored.read()
    except (FileNotFoundError, blobs.Changed):
        raise FailedPrecondition("IMPORT_UNREADABLE", detail=file.get("displayName", "")) from None


async def _account_named(organisation: str, call: Call) -> str:
    """The one account that the caller sees with this name; none where there are more."""
    found = (await duplicates.named([organisation], call))[organisation] if organisation else []
    return f"accounts/{found[0]}" if len(found) == 1 else ""


def _contact(card: Card, account: str) -> Contact:
    contact = Contact(
        display_name=card.display_name, family_name=card.family_name, given_name=card.given_name,
        account=account, title=card.title, phones=card.phones, emails=card.emails,
        wechat=card.wechat, qq=card.qq, birth=card.birth,
    )  # fmt: skip
    if account:
        contact.affiliations = [
            pb.Contact.Affiliation(
                account=account, title=card.title, department=card.department, primary=True
            )
        ]
    return contact


def _key(name: str) -> str:
    return name.rpartition("/")[2]
