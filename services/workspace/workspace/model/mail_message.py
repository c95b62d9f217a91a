"""Mails: written and received in a mailbox, and what is shared of them with those who see the customer."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Validation, Violation
from crmkit.resource import Resource, parse_name
from sqlalchemy import DateTime, Index, Integer, Text, Uuid, delete, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace import mime
from workspace.model import known_record
from workspace.model.base import Base
from workspace.model.calendar import ADDRESS
from workspace.model.file import File
from workspace.model.mail_account import MailAccount
from workspace.model.names import check_names
from workspace.model.work import LARGEST_BODY

POST = "PostMail"
MOST_PEOPLE = 200
LARGEST_FILES = 25 * 1024 * 1024
PREVIEW = 1000
REFERENCES_SENT = 50
PLACE = re.compile(r"\{(account|contact|sender|record)\.([A-Za-z]+)\}")
BRACES = re.compile(r"\{[^{}\n]*\}")
OPEN = ("FAILED", "DRAFT")


class MailBody(Base):
    """The text of a mail. Facts of the mail do not carry it."""

    __tablename__ = "mail_bodies"

    message: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    quote: Mapped[str] = mapped_column(Text)
    html: Mapped[str] = mapped_column(Text)
    references: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # The answer to an invitation that goes with it, as calendars read it.
    calendar: Mapped[str] = mapped_column(Text, server_default="")

    @classmethod
    async def keep(
        cls,
        message: UUID,
        text: str,
        quote: str,
        html: str,
        references: Sequence[str],
        call: Call,
        calendar: str = "",
    ) -> None:
        """The text of a new mail."""
        values = {
            "text": text,
            "quote": quote,
            "html": html,
            "references": list(references),
            "calendar": calendar,
        }
        await call.db.execute(insert(cls).values(message=message, **values))


class BouncedAddress(Base):
    """An address from which mail has come back for good."""

    __tablename__ = "bounced_addresses"

    address: Mapped[str] = mapped_column(Text, primary_key=True)
    code: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    @classmethod
    async def note(cls, address: str, code: str, detail: str, call: Call) -> None:
        """Mail to this address has come back."""
        values = {"code": code[:20], "detail": detail[:300], "time": call.now}
        row = insert(cls).values(address=address, **values)
        await call.db.execute(row.on_conflict_do_update(index_elements=["address"], set_=values))


class MailMessage(Resource, Base):
    """A mail. Who has the mailbox owns it, who shares the mailbox collaborates."""

    __message__ = pb.MailMessage
    refers_by = ("links", "candidates")
    __table_args__ = (
        Index("mail_messages_message_id_key", "mailbox", "message_key", unique=True),
        Index("mail_messages_thread_index", "mailbox", "thread", "occur_time"),
        Index("mail_messages_subject_index", "mailbox", "base_subject", "occur_time"),
        Index("mail_messages_waiting_index", "next_time", postgresql_where=text("state = 'QUEUED'")),
        Index("mail_messages_sent_index", "message_id", postgresql_where=text("direction = 'OUTBOUND'")),
    )

    display_name: Mapped[str]
    mailbox: Mapped[str]
    direction: Mapped[str]
    state: Mapped[str]
    sender: Mapped[Any]
    to: Mapped[Any]
    cc: Mapped[Any]
    bcc: Mapped[Any]
    occur_time: Mapped[datetime | None]
    preview: Mapped[str]
    thread: Mapped[str]
    message_id: Mapped[str]
    read: Mapped[bool]
    files: Mapped[list[str]]
    account: Mapped[str]
    contact: Mapped[str]
    links: Mapped[list[str]]
    filing: Mapped[str]
    candidates: Mapped[list[str]]
    template: Mapped[str]
    reply_to: Mapped[str]
    problem: Mapped[str]
    accept_bounced: Mapped[bool]
    # What tells it from others in the mailbox, the subject without "Re:", the hash of the mail as it came.
    message_key: Mapped[str] = mapped_column(Text)
    base_subject: Mapped[str] = mapped_column(Text, server_default=text("''"))
    digest: Mapped[str] = mapped_column(Text, server_default=text("''"))

    # How often it was given to a server that did not take it, and when it is tried next.
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    # Set while it is being written, and kept apart.
    _given = ""

    @property
    def body(self) -> str:
        """Taken, and told by `ReadMailMessage`."""
        return ""

    @body.setter
    def body(self, value: str) -> None:
        self._given = value

    async def forget_person(self, call: Call) -> None:
        """What was written goes, and to whom or by whom; that there was a mail, and when, stays."""
        await super().forget_person(call)
        self.base_subject = ""
        if self.direction == "INBOUND":
            self.sender = pb.MailParty()
        if self.state == "QUEUED":
            self.state = "DRAFT"
        await call.db.execute(delete(MailBody).where(MailBody.message == self.id))

    async def creating(self, call: Call) -> None:
        """A draft of the caller's, in a mailbox that is the caller's to write in; what has come is complete."""
        if self.direction:
            return
        box = await call.load(MailAccount, self.mailbox, lock=False)
        self.owner, self.department, self.collaborators = box.owner, box.department, list(box.collaborators)
        self.direction, self.state, self.filing, self.read = "OUTBOUND", "DRAFT", "UNKNOWN", True
        self.sender = pb.MailParty(address=box.address, display_name=box.display_name)
        self.message_id = self.message_key = f"<{self.id}@{box.address.rpartition('@')[2]}>"
        self.occur_time, self.thread = call.now, self.thread or str(self.id)
        references: list[str] = []
        if self.reply_to:
            references = await self._continue(await call.load(MailMessage, self.reply_to, lock=False), call)
        given = self._given
        if self.template:
            template = await call.load(MailTemplate, self.template, lock=False)
            self.display_name = (
                self.display_name or (await template.filled(template.subject, self, call))[:500]
            )
            given = given or await template.filled(template.body, self, call)
        self._check()
        await MailBody.keep(self.id, given, "", "", references, call)
        self.preview, self.base_subject = given[:PREVIEW], mime.base_subject(self.display_name)

    async def _continue(self, answered: "MailMessage", call: Call) -> list[str]:
        """Belongs to the thread of what it answers, and to its customer."""
        if answered.mailbox != self.mailbox:
            raise Validation(
                Violation(
                    "mail_message.reply_to",
                    "WRONG_FORMAT",
                    "须在同一邮箱内回复",
                    "Answer from the same mailbox.",
                )
            )
        self.thread = answered.thread
        self.account, self.contact = self.account or answered.account, self.contact or answered.contact
        self.links = list(dict.fromkeys([*self.links, *answered.links]))
        body = await call.db.get(MailBody, answered.id)
        return [*(body.references if body else []), answered.message_id][-REFERENCES_SENT:]

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What is written changes until it leaves; of others only whether it is read, and what it is about."""
        if changed - {"read", "links", "collaborators"} and self.state not in OPEN:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        # A mail stays in its mailbox; who has it may show it to a colleague.
        if {"owner", "department"} & changed or (
            "collaborators" in changed and not call.caller.is_system and call.caller.employee != self.owner
        ):
            raise PermissionDenied("NOT_THE_OWNER")
        self._check()
        if self._given and (body := await call.db.get(MailBody, self.id)) is not None:
            body.text, self.preview, self._given = self._given, self._given[:PREVIEW], ""
        self.base_subject = mime.base_subject(self.display_name)

    async def deleting(self, call: Call) -> None:
        """Drafts alone are thrown away."""
        self.check_state(*OPEN)

    def _check(self) -> None:
        check_names(self.links, "mail_message.links")
        if len(self._given.encode()) > LARGEST_BODY:
            raise Validation(Violation("mail_message.body", "TOO_LONG", "不能超过 64 KiB", "At most 64 KiB."))
        if len(self.people()) > MOST_PEOPLE:
            raise Validation(Violation("mail_message.to", "TOO_MANY", "收件人过多", "There are too many."))
        for field in ("to", "cc", "bcc"):
            for index, party in enumerate(getattr(self, field)):
                if not ADDRESS.fullmatch(party.address.strip().lower()):
                    where = f"mail_message.{field}[{index}].address"
                    raise Validation(Violation(where, "WRONG_FORMAT", "邮箱无效", "This is no mail address."))

    def people(self) -> list[str]:
        """The addresses it goes to."""
        parties: Iterable[Any] = (*self.to, *self.cc, *self.bcc)
        return list(dict.fromkeys(party.address.strip().lower() for party in parties))

    async def send(self, call: Call) -> None:
        """Leaves as soon as can be, once."""
        self.check_state("DRAFT")
        people = self.people()
        if not people:
            raise FailedPrecondition("RECIPIENT_MISSING")
        if sum([int(file.size or 0) for file in await self.attached(call)]) > LARGEST_FILES:
            raise FailedPrecondition("MAIL_TOO_LARGE", limit=LARGEST_FILES // 1024 // 1024)
        if not self.accept_bounced:
            known = select(BouncedAddress).where(BouncedAddress.address.in_(people)).limit(1)
            if (found := await call.db.scalar(known)) is not None:
                raise FailedPrecondition("ADDRESS_BOUNCED", address=found.address, code=found.code)
        await self.send_now(call)

    async def retry(self, call: Call) -> None:
        """The same mail again, under its own Message-ID: who has it already sees it once."""
        self.check_state("FAILED")
        await self.send_now(call)

    async def send_now(self, call: Call) -> None:
        """Goes to the server of its mailbox. MAILBOX_NOT_ACTIVE."""
        box = await call.load(MailAccount, self.mailbox, lock=False)
        if box.state != "ACTIVE":
            raise FailedPrecondition("MAILBOX_NOT_ACTIVE")
        self.state, self.problem, self.occur_time = "QUEUED", "", call.now
        await runs.start(call, POST, self.name, {}, requester="system/workspace")

    async def attached(self, call: Call) -> Sequence[File]:
        """Its files, as far as whoever writes may read them."""
        keys = [parse_name(name, "files") for name in self.files]
        return (await call.db.scalars(select(File).where(File.id.in_(keys)))).all() if keys else []

    async def reply(self, body: str, all: bool, call: Call) -> "MailMessage":
        """The draft of an answer."""
        mine = (await call.load(MailAccount, self.mailbox, lock=False)).address
        others = [party for party in (*self.to, *self.cc) if party.address != mine]
        if self.direction == "INBOUND":
            to, cc = [self.sender], others if all else []
        else:
            to, cc = list(self.to), list(self.cc) if all else []
        subject = self.display_name if mime.PREFIX.match(self.display_name) else f"Re: {self.display_name}"
        draft = MailMessage(
            display_name=subject[:500], mailbox=self.mailbox, to=to, cc=cc, reply_to=self.name
        )
        draft.body = body
        return await call.add(draft)


class MailRecord(Resource, Base):
    """As much of a mail with a customer as its mailbox shares: lists, search, time lines and exports have no more."""

    __message__ = pb.MailRecord
    refers_by = ("links",)
    __table_args__ = (Index("mail_records_message_key", "message", unique=True),)

    display_name: Mapped[str]
    message: Mapped[str]
    sharing: Mapped[str]
    direction: Mapped[str]
    occur_time: Mapped[datetime | None]
    sender: Mapped[Any]
    people: Mapped[Any]
    body: Mapped[str]
    files: Mapped[list[str]]
    account: Mapped[str]
    contact: Mapped[str]
    links: Mapped[list[str]]

    async def forget_person(self, call: Call) -> None:
        """As of its mail; time lines that tell of it hear so."""
        await super().forget_person(call)
        self.files = []
        if self.direction == "INBOUND":
            self.sender = pb.MailParty()
        if self.account:
            shown = pb.MailRecord(name=self.name, account=self.account)
            call.emit(events.MailRecordChanged, self, mail_record=shown, withdrawn=True)


class MailTemplate(Resource, Base):
    """A subject and a text from which mails are begun."""

    __message__ = pb.MailTemplate

    display_name: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Its places are known."""
        for sentence in (self.subject, self.body):
            for place in BRACES.findall(sentence):
                if not PLACE.fullmatch(place):
                    raise InvalidArgument("TEMPLATE_INVALID", place=place[:60])

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Its places stay known."""
        await self.creating(call)

    async def filled(self, sentence: str, message: MailMessage, call: Call) -> str:
        """The sentence with what the writer may see of the records; nothing stands for what there is not."""
        sender = call.entry(call.caller.employee)
        about = (await known_record.records(message.links[:1], call)).get(next(iter(message.links), ""))
        if about is not None and not known_record.may_see(call.caller.employee, about, call):
            about = None
        records: dict[str, Any] = {
            "account": await call.copy(message.account) if message.account else None,
            "contact": await call.copy(message.contact) if message.contact else None,
            "record": about.record if about is not None else None,
            "sender": {"displayName": sender.get("displayName", "")},
        }

        def word(found: re.Match[str]) -> str:
            value = (records[found[1]] or {}).get(found[2], "")
            return str(value) if isinstance(value, str | int | float) else ""

        return PLACE.sub(word, sentence)
