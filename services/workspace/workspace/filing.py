"""To which customer a mail belongs, and what others see of it there.

By its thread first, then by the addresses that customers and contacts have; where several customers have one, a
person says which, and is never overruled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.runs import Kind, Run
from sqlalchemy import Index, Text, delete, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from workspace.mime import PREFIX, Mail, base_subject
from workspace.model import known_record
from workspace.model.base import Base
from workspace.model.file import File
from workspace.model.mail_account import FOLLOW, MailAccount
from workspace.model.mail_message import MailBody, MailMessage, MailRecord

FOLLOW_CUSTOMER = "FollowMailCustomer"
SAME_SUBJECT = timedelta(days=30)
CHUNK = 100
LONGEST_BODY = 20_000
SHARED = ("SUBJECT", "FULL")


class MailAddress(Base):
    """An address that a customer or a contact has."""

    __tablename__ = "mail_addresses"
    __table_args__ = (Index("mail_addresses_name_index", "name"),)

    address: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text, info={"refers": True})


@listens("crm.customer.v1.ResourceChanged.accounts", "crm.customer.v1.ResourceChanged.contacts")
async def on_customer_changed(events: list[Fact], call: Call) -> None:
    """Remembers the addresses of customers and contacts; what is shared of mail follows who has the customer."""
    known: dict[str, Mapping[str, Any] | None] = {}
    for event in sorted(events, key=lambda event: event.version or 0):
        name = str(event.payload["name"])
        gone = event.payload["action"] == "DELETED"
        after: Mapping[str, Any] = event.payload.get("after") or {}
        if gone or event.payload["action"] == "CREATED" or after.keys() & {"emails", "account"}:
            known[name] = None if gone else event.payload.get("resource") or {}
        if event.payload["action"] == "UPDATED" and after.keys() & {"owner", "collaborators", "department"}:
            await runs.start(call, FOLLOW_CUSTOMER, name, {}, requester="system/workspace")
    if known:
        await call.db.execute(delete(MailAddress).where(MailAddress.name.in_(known)))
        rows = [
            (address, name, name if name.startswith("accounts/") else str(record.get("account", "")))
            for name, record in known.items()
            for address in {
                str(one.get("address", "")).strip().lower() for one in (record or {}).get("emails") or ()
            }
            if record is not None and address
        ]
        statement = (
            "INSERT INTO mail_addresses (address, name, account) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        )
        await (await driver(call.db)).executemany(statement, rows)


@dataclass(frozen=True)
class Place:
    """Where a mail belongs."""

    filing: str
    account: str = ""
    contact: str = ""
    candidates: Sequence[str] = ()


async def thread_of(mail: Mail, box: MailAccount, parties: Sequence[str], call: Call) -> MailMessage | None:
    """The newest mail of the thread that a mail belongs to: by what it refers to, else by subject and people."""
    newest = (
        select(MailMessage)
        .where(MailMessage.mailbox == box.name)
        .order_by(MailMessage.occur_time.desc())
        .limit(1)
    )
    if mail.references:
        found = await call.db.scalar(newest.where(MailMessage.message_id.in_(mail.references)))
        if found is not None:
            return found
    subject = base_subject(mail.subject)
    if not subject or not PREFIX.match(mail.subject):
        return None
    since = (mail.time or call.now) - SAME_SUBJECT
    same = newest.where(
        MailMessage.base_subject == subject, MailMessage.occur_time > since, MailMessage.state != "DRAFT"
    )
    found = await call.db.scalar(same)
    if found is not None and {found.sender.address, *found.people()} & set(parties):
        return found
    return None


async def place_of(
    addresses: Sequence[str], before: MailMessage | None, box: MailAccount, call: Call
) -> Place:
    """Where a mail belongs that goes between us and these addresses."""
    if before is not None and before.filing != "UNKNOWN":
        return Place(before.filing, before.account, before.contact, before.candidates)
    wanted = select(MailAddress).where(MailAddress.address.in_(addresses[:50])).order_by(MailAddress.name)
    found = list(await call.db.scalars(wanted))
    seen = await known_record.records([row.account for row in found], call)
    found = [
        row
        for row in found
        if row.account in seen and known_record.may_see(box.owner, seen[row.account], call)
    ]
    accounts = list(dict.fromkeys(row.account for row in found))
    if not accounts:
        return Place("UNKNOWN")
    if len(accounts) > 1:
        return Place("AMBIGUOUS", candidates=accounts[:20])
    contacts = [row.name for row in found if row.name.startswith("contacts/")]
    return Place("FILED", accounts[0], contacts[0] if len(set(contacts)) == 1 else "")


def put(message: MailMessage, place: Place) -> None:
    """Says of a mail where it belongs."""
    message.filing, message.account, message.contact = place.filing, place.account, place.contact
    message.candidates = list(place.candidates)


async def file_by_hand(
    message: MailMessage, account: str, contact: str, links: Sequence[str], call: Call
) -> None:
    """A person says where a mail belongs, and with it the thread."""
    for one in await _thread(message, call):
        if one.id == message.id or one.filing != "FILED":
            if one.account not in {"", account}:
                await withdraw(one, call)
                await call.flush()
            put(one, Place("FILED", account, contact))
            one.links = list(dict.fromkeys([*one.links, *links]))
            await share(one, call)


async def hide(message: MailMessage, call: Call) -> None:
    """A person keeps a thread to the mailbox: nothing of it is shared, nor of what comes later."""
    for one in await _thread(message, call):
        put(one, Place("PERSONAL"))
        await withdraw(one, call)


async def _thread(message: MailMessage, call: Call) -> Sequence[MailMessage]:
    rows = select(MailMessage).where(
        MailMessage.mailbox == message.mailbox, MailMessage.thread == message.thread
    )
    return (await call.db.scalars(rows.order_by(MailMessage.id).limit(1000).with_for_update())).all()


async def share(message: MailMessage, call: Call) -> MailRecord | None:
    """Keeps what is shared of a mail that stands with a customer, as far as its mailbox wishes, and tells of it."""
    if message.filing != "FILED" or message.state in {"DRAFT", "QUEUED", "SENDING", "FAILED"}:
        return None
    box = await call.named(MailAccount, message.mailbox)
    if box is None:
        return None
    record = await call.find(MailRecord, MailRecord.message == message.name, lock=True)
    new = record is None
    record = record or MailRecord(message=message.name, owner=message.owner, creator=message.owner)
    body = await call.db.get(MailBody, message.id) if box.sharing == "FULL" else None
    scope = await _scope(message.account, call)
    people = [
        name
        for name in (str(scope.get("owner", "")), *scope.get("collaborators", ()), *box.collaborators)
        if name
    ]
    values: dict[str, Any] = {
        "sharing": box.sharing, "direction": message.direction, "occur_time": message.occur_time,
        "sender": message.sender, "people": [*message.to, *message.cc], "account": message.account,
        "contact": message.contact, "links": list(message.links), "owner": box.owner,
        "department": str(scope.get("department", "")) or message.department,
        "collaborators": sorted({*people} - {box.owner}),
        "display_name": message.display_name if box.sharing in SHARED else "",
        "body": body.text[:LONGEST_BODY] if body else "", "files": list(message.files) if box.sharing == "FULL" else [],
    }  # fmt: skip
    changed = {key: value for key, value in values.items() if getattr(record, key) != value}
    for key, value in changed.items():
        setattr(record, key, value)
    await _open_files(message, record if record.files else None, call)
    if new:
        await call.add(record)
        event = events.MailReceived if message.direction == "INBOUND" else events.MailSent
        call.emit(event, record, mail_record=record)
    elif changed:
        call.emit(events.MailRecordChanged, record, mail_record=record)
    return record


async def withdraw(message: MailMessage, call: Call) -> None:
    """Nothing is shared of a mail any more."""
    record = await call.find(MailRecord, MailRecord.message == message.name, lock=True)
    if record is not None:
        call.emit(
            events.MailRecordChanged,
            record,
            mail_record=pb.MailRecord(name=record.name, account=record.account),
            withdrawn=True,
        )
        await call.db.delete(record)
    await _open_files(message, None, call)


async def _open_files(message: MailMessage, record: MailRecord | None, call: Call) -> None:
    """The files of a mail are read by those who share the mailbox, and by those to whom all of it is shared."""
    keys = [UUID(name.partition("/")[2]) for name in message.files]
    if not keys:
        return
    for file in list(
        await call.db.scalars(select(File).where(File.id.in_(keys), File.owner == message.owner))
    ):
        people = [*message.collaborators, *(record.collaborators if record is not None else ())]
        file.collaborators = sorted({*people} - {message.owner})
        others = [name for name in file.attached_to if not name.startswith(("mailMessages/", "mailRecords/"))]
        file.attach([*others, message.name])


async def _scope(account: str, call: Call) -> Mapping[str, Any]:
    known = (await known_record.records([account], call)).get(account)
    return known.scope if known is not None else {}


async def follow(run: Run) -> None:
    """What is in a mailbox, and what is shared of it, follows the mailbox; or what is shared follows the customer."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = UUID(str(run.tally.get("last") or UUID(int=0)))
            rows = select(MailMessage).where(MailMessage.id > last).order_by(MailMessage.id).limit(CHUNK)
            if run.kind == FOLLOW:
                rows = rows.where(MailMessage.mailbox == run.about)
            else:
                rows = rows.where(or_(MailMessage.account == run.about, MailMessage.contact == run.about))
                rows = rows.where(MailMessage.filing == "FILED")
            found = (await call.db.scalars(rows.with_for_update())).all()
            for message in found:
                await _follow(message, call)
            if len(found) < CHUNK:
                run.next_phase("ENDED")
                return
            run.tally["last"] = str(found[-1].id)
            run.position += len(found)


async def _follow(message: MailMessage, call: Call) -> None:
    box = await call.named(MailAccount, message.mailbox)
    if box is None:
        return
    if message.owner != box.owner or message.collaborators != box.collaborators:
        message.owner, message.collaborators = box.owner, list(box.collaborators)
    await share(message, call)


async def _nothing(run: Run, problem: Problem, call: Call) -> None:
    """What could not follow keeps what it has; the next change takes it up again."""


RUNS = {FOLLOW: Kind(follow, _nothing), FOLLOW_CUSTOMER: Kind(follow, _nothing)}
