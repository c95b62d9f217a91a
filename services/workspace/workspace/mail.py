"""What leaves the house: mail, and notices by the adapters of text messages, push and chat robots; once for each key.

Whether a message has left when the process dies in the midst of sending nobody knows; it is not sent again.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
import httpx
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.mapping import to_timestamp
from crmkit.runs import Kind, Run
from crmkit.settings import Settings
from sqlalchemy import DateTime, Index, Integer, Table, Text, Uuid, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from workspace import decision_links
from workspace.model.base import Base
from workspace.model.employee import Employee
from workspace.model.notification import Notification, put

RUN = "SendMail"
PATIENCE = timedelta(hours=24)
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=1)
# A way that has failed so often is dead for that notice, and the next one takes over.
TRIES = 3
NOTICE_PAUSE = timedelta(seconds=5)
LATER = (408, 425, 429)
AT_ONCE = 200
LINES = 100


class Mail(Base):
    """A message to one person or address, and what became of it."""

    __tablename__ = "mails"
    __table_args__ = (
        Index("mails_key_key", "key", unique=True),
        Index("mails_waiting_index", "next_time", postgresql_where=text("state IN ('WAITING', 'DIGEST')")),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    recipient: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    calendar: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    channel: Mapped[str] = mapped_column(Text)
    # Of a notice: the person, the ways that are left, and what a notification says beside its words.
    person: Mapped[str] = mapped_column(Text)
    rest: Mapped[list[str]] = mapped_column(ARRAY(Text))
    told: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # WAITING, DIGEST, STARTED, SENT, FAILED, or UNKNOWN where the process died while it was being sent.
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # When it may leave first.
    begin_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    next_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def send(
    call: Call, key: str, recipient: str, subject: str, body: str, calendar: str = "", method: str = ""
) -> None:
    """Queues a mail, once for each key. Without a mail server there is nothing to do."""
    if call.running.settings.smtp_url:
        await _add(
            call, key=key, recipient=recipient, subject=subject, body=body, calendar=calendar, method=method
        )


async def queue(
    call: Call,
    key: str,
    person: Employee,
    channel: str,
    rest: Sequence[str],
    title: str,
    body: str,
    told: Mapping[str, Any],
    until: datetime | None,
    *,
    digest: bool = False,
) -> None:
    """Queues a notice to a person by a way, or by the next one where there is no such way to that person."""
    ways = [channel, *rest]
    while ways and not address(ways[0], person, call.running.settings):
        ways = ways[1:]
    if not ways:
        return
    state = "DIGEST" if digest else "WAITING" if until else "STARTED"
    await _add(
        call, key=f"{key}:{person.name}:{ways[0]}", recipient=address(ways[0], person, call.running.settings),
        subject=title, body=body, channel=ways[0], person=person.name, rest=ways[1:], told=dict(told), state=state,
        begin_time=until or call.now, next_time=until or call.now,
    )  # fmt: skip


def address(channel: str, person: Employee, settings: Settings) -> str:
    """Where a way reaches a person; empty where it does not."""
    match channel:
        case "IN_APP":
            return person.name
        case "MAIL":
            return person.email if settings.smtp_url else ""
        case "SMS":
            return person.phone if settings.sms_url else ""
        case "PUSH":
            return person.name if settings.push_url else ""
        case _:
            return (person.phone or person.display_name) if settings.chat_bot_url else ""


async def _add(call: Call, **values: Any) -> None:
    row = {
        "id": uuid7(), "calendar": "", "method": "", "channel": "MAIL", "person": "", "rest": [], "told": {},
        "state": "STARTED", "attempts": 0, "error": "", "create_time": call.now, "begin_time": call.now,
        "next_time": call.now, **values,
    }  # fmt: skip
    made = await call.db.scalar(insert(_MAILS).values(**row).on_conflict_do_nothing().returning(_MAILS.c.id))
    if made is not None and row["state"] == "STARTED":
        await runs.start(call, RUN, str(made), {}, requester="system/workspace")


async def start_waiting(call: Call) -> None:
    """Begins again with those whose pause is over; gives up what is a day old; gathers digests."""
    late = update(_MAILS).where(_MAILS.c.state == "WAITING", _MAILS.c.begin_time < call.now - PATIENCE)
    await call.db.execute(late.values(state="FAILED"))
    due = (
        select(_MAILS.c.id).where(_MAILS.c.state == "WAITING", _MAILS.c.next_time <= call.now).limit(AT_ONCE)
    )
    for key in list(await call.db.scalars(due.with_for_update(skip_locked=True))):
        await call.db.execute(update(_MAILS).where(_MAILS.c.id == key).values(state="STARTED"))
        await runs.start(call, RUN, str(key), {}, requester="system/workspace")
    await _gather(call)


async def _gather(call: Call) -> None:
    """What waits for a message of the day becomes one for each person and way."""
    due = select(Mail).where(Mail.state == "DIGEST", Mail.next_time <= call.now).order_by(Mail.create_time)
    found: dict[tuple[str, str], list[Mail]] = {}
    for row in list(await call.db.scalars(due.with_for_update(skip_locked=True).limit(20 * AT_ONCE))):
        found.setdefault((row.person, row.channel), []).append(row)
    for (person, channel), rows in found.items():
        last = rows[-1]
        lines = [
            f"• {row.subject}" + (f"\n  {row.body}" if row.body and row.body != row.subject else "")
            for row in rows
        ]
        more = f"\n… +{len(rows) - LINES}" if len(rows) > LINES else ""
        await _add(
            call, key=f"digest:{rows[0].id}", recipient=last.recipient, person=person, channel=channel, rest=last.rest,
            subject=f"今日提醒 {len(rows)} 条 / {len(rows)} reminders", body="\n".join(lines[:LINES]) + more,
        )  # fmt: skip
        for row in rows:
            row.state = "SENT"


async def deliver(run: Run) -> None:
    """Sends one message. What the other side has not taken is tried later; what it refuses has failed."""
    if run.phase == "ENDED":
        return
    if run.phase == "SENDING":
        await _end(run, "UNKNOWN", "")
        return
    async with run.chunk() as call:
        mail = (await call.db.scalars(select(Mail).where(Mail.id == UUID(run.about)))).one()
        if mail.channel == "IN_APP":
            await _show(mail, call)
            run.next_phase("ENDED")
            return
        # Made now and nowhere kept: whoever reads a link could decide by it.
        more = await decision_links.lines(mail.person, mail.told, call) if mail.channel == "MAIL" else ""
        run.next_phase("SENDING")
    if mail.channel == "MAIL":
        state, error = await _post(mail, run.running.settings, more)
    else:
        state, error = await _call_adapter(mail, run.running.settings)
    await _end(run, state, error)


async def _show(mail: Mail, call: Call) -> None:
    """A notice that had to wait comes into the client."""
    person = await call.named(Employee, mail.person)
    if person is not None and person.state != "OFFBOARDED":
        key = mail.key.removesuffix(f":{mail.person}:IN_APP")
        await put(call, mail.person, person.department, key, mail.subject, mail.body, mail.told)
    await call.db.execute(update(_MAILS).where(_MAILS.c.id == mail.id).values(state="SENT"))


async def _post(mail: Mail, settings: Settings, more: str) -> tuple[str, str]:
    server = Server.of(settings.smtp_url)
    try:
        await aiosmtplib.send(
            compose(mail, settings, more), hostname=server.host, port=server.port, username=server.user,
            password=server.password, recipients=[mail.recipient], use_tls=server.tls, timeout=20,
        )  # fmt: skip
    except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
        lasting = isinstance(error, aiosmtplib.SMTPRecipientsRefused) or error.code >= 500
        return "FAILED" if lasting else "WAITING", repr(error)
    except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError, ConnectionError) as error:
        # Nothing has left: the server was not reached.
        return "WAITING", repr(error)
    return "SENT", ""


async def _call_adapter(mail: Mail, settings: Settings) -> tuple[str, str]:
    """Gives a notice to the adapter of its way: signed JSON with a key, by which the other side knows it again."""
    url = {"SMS": settings.sms_url, "PUSH": settings.push_url, "CHAT_BOT": settings.chat_bot_url}[
        mail.channel
    ]
    content = "\n".join(filter(None, [mail.subject, mail.body]))
    if mail.channel == "CHAT_BOT":
        message: dict[str, Any] = {"msgtype": "text", "text": {"content": content}}
        if mail.recipient.startswith("+") or mail.recipient.isdigit():
            message["text"]["mentioned_mobile_list"] = [mail.recipient]
            message["at"] = {"atMobiles": [mail.recipient]}
    else:
        message = {
            "id": str(mail.id), "channel": mail.channel, "to": mail.recipient, "title": mail.subject, "text": mail.body,
            "target": mail.told.get("target", ""),
        }  # fmt: skip
    payload = json.dumps(message, ensure_ascii=False).encode()
    signature = hmac.new(settings.secret, payload, "sha256").hexdigest()
    headers = {
        "Content-Type": "application/json", "Idempotency-Key": str(mail.id), "X-Guanxi-Signature": f"sha256={signature}",
    }  # fmt: skip
    try:
        async with httpx.AsyncClient(timeout=10, follow_redirects=False) as client:
            answer = await client.post(url, content=payload, headers=headers)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return "WAITING", repr(error)
    except httpx.HTTPError as error:
        # It may have been taken.
        return "UNKNOWN", repr(error)
    if answer.is_success:
        return "SENT", ""
    lasting = 300 <= answer.status_code < 500 and answer.status_code not in LATER
    return "FAILED" if lasting else "WAITING", f"HTTP {answer.status_code}"


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """What could not be sent for a reason of our own."""
    await call.db.execute(
        update(_MAILS).where(_MAILS.c.id == UUID(run.about)).values(state="FAILED", error=problem.reason)
    )


async def _end(run: Run, state: str, error: str) -> None:
    async with run.chunk() as call:
        mail = (await call.db.scalars(select(Mail).where(Mail.id == UUID(run.about)).with_for_update())).one()
        mail.attempts += 1
        if mail.person and state == "WAITING" and mail.rest and mail.attempts >= TRIES:
            state = "FAILED"
        first = NOTICE_PAUSE if mail.rest else FIRST_PAUSE
        mail.state, mail.error = state, error[:1000]
        mail.next_time = call.now + min(first * 2 ** min(mail.attempts - 1, 10), LONGEST_PAUSE)
        if mail.person and state != "WAITING":
            await _remember(mail, call)
        if mail.person and state == "FAILED":
            await _take_next_way(mail, call)
        run.next_phase("ENDED")


async def _remember(mail: Mail, call: Call) -> None:
    """The notification says what became of it on other ways."""
    key = mail.key.removesuffix(f":{mail.person}:{mail.channel}")
    shown = await call.find(
        Notification, Notification.owner == mail.person, Notification.dedupe_key == key, lock=True
    )
    if shown is not None:
        entry = pb.Notification.Delivery(
            channel=cast("Any", pb.NoticeChannel.Value(mail.channel)), state=mail.state, error=mail.error[:200],
            time=to_timestamp(call.now.astimezone(UTC)),
        )  # fmt: skip
        shown.deliveries = [*shown.deliveries, entry][-10:]


async def _take_next_way(mail: Mail, call: Call) -> None:
    person = await call.named(Employee, mail.person)
    key = mail.key.removesuffix(f":{mail.person}:{mail.channel}")
    if person is None or person.state == "OFFBOARDED":
        return
    if mail.rest:
        await queue(call, key, person, mail.rest[0], mail.rest[1:], mail.subject, mail.body, mail.told, None)
    elif mail.told:
        await put(call, person.name, person.department, key, mail.subject, mail.body, mail.told)


def compose(mail: Mail, settings: Settings, more: str = "") -> EmailMessage:
    """The message: text and what is said beside it, and for invitations the calendar part that programs read (RFC 6047)."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        settings.mail_from,
        mail.recipient,
        _line(mail.subject),
    )
    message["Date"] = format_datetime(mail.create_time)
    message["Message-ID"] = f"<{mail.id}@{settings.mail_from.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content((mail.body or mail.subject) + more)
    if mail.calendar:
        message.add_alternative(mail.calendar, subtype="calendar", params={"method": mail.method})
    return message


def _line(text: str) -> str:
    """A header has one line."""
    return " ".join(text.split())[:200]


@dataclass(frozen=True)
class Server:
    """Where a mail server is, from its URL."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool
    folder: str

    @classmethod
    def of(cls, url: str) -> "Server":
        """Reads smtp://, smtps://, imap:// and imaps:// addresses."""
        parts = urlsplit(url)
        ports = {"smtp": 25, "smtps": 465, "imap": 143, "imaps": 993}
        user, password = (unquote(value) if value else None for value in (parts.username, parts.password))
        return cls(
            parts.hostname or "localhost", parts.port or ports[parts.scheme], user, password, parts.scheme.endswith("s"),
            parts.path.strip("/") or "INBOX",
        )  # fmt: skip


RUNS = {RUN: Kind(deliver, fail)}
_MAILS = cast("Table", Mail.__table__)
