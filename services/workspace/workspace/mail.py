"""Mail that workspace sends: once for each key. Whether a mail has left when the process dies in the midst of sending
nobody knows; it is not sent again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import cast
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from crmkit.settings import Settings
from sqlalchemy import DateTime, Index, Integer, Table, Text, Uuid, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from workspace.model.base import Base

RUN = "SendMail"
PATIENCE = timedelta(hours=24)
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=1)


class Mail(Base):
    """A mail to one address, and what became of it."""

    __tablename__ = "mails"
    __table_args__ = (
        Index("mails_key_key", "key", unique=True),
        Index("mails_waiting_index", "next_time", postgresql_where=text("state = 'WAITING'")),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    key: Mapped[str] = mapped_column(Text)
    recipient: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    calendar: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    # WAITING, STARTED, SENT, FAILED, or UNKNOWN where the process died while it was being sent.
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    next_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def send(
    call: Call, key: str, recipient: str, subject: str, body: str, calendar: str = "", method: str = ""
) -> None:
    """Queues a mail, once for each key. Without a mail server there is nothing to do."""
    if not call.running.settings.smtp_url:
        return
    row = {
        "id": uuid7(), "key": key, "recipient": recipient, "subject": subject, "body": body, "calendar": calendar,
        "method": method, "state": "STARTED", "attempts": 0, "error": "", "create_time": call.now, "next_time": call.now,
    }  # fmt: skip
    made = await call.db.scalar(insert(_MAILS).values(**row).on_conflict_do_nothing().returning(_MAILS.c.id))
    if made is not None:
        await runs.start(call, RUN, str(made), {}, requester="system/workspace")


async def start_waiting(call: Call) -> None:
    """Begins again with those whose pause is over; gives up what is a day old."""
    late = update(_MAILS).where(_MAILS.c.state == "WAITING", _MAILS.c.create_time < call.now - PATIENCE)
    await call.db.execute(late.values(state="FAILED"))
    due = select(_MAILS.c.id).where(_MAILS.c.state == "WAITING", _MAILS.c.next_time <= call.now).limit(200)
    for key in list(await call.db.scalars(due.with_for_update(skip_locked=True))):
        await call.db.execute(update(_MAILS).where(_MAILS.c.id == key).values(state="STARTED"))
        await runs.start(call, RUN, str(key), {}, requester="system/workspace")


async def deliver(run: Run) -> None:
    """Sends one mail. What the server has not taken is tried later; what it refuses has failed."""
    if run.phase == "ENDED":
        return
    if run.phase == "SENDING":
        await _end(run, "UNKNOWN", "")
        return
    async with run.chunk() as call:
        mail = (await call.db.scalars(select(Mail).where(Mail.id == UUID(run.about)))).one()
        message, recipient = compose(mail, run.running.settings), mail.recipient
        run.next_phase("SENDING")
    server = Server.of(run.running.settings.smtp_url)
    try:
        await aiosmtplib.send(
            message, hostname=server.host, port=server.port, username=server.user, password=server.password,
            recipients=[recipient], use_tls=server.tls, timeout=20,
        )  # fmt: skip
    except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as error:
        lasting = isinstance(error, aiosmtplib.SMTPRecipientsRefused) or error.code >= 500
        await _end(run, "FAILED" if lasting else "WAITING", repr(error))
    except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError, ConnectionError) as error:
        # Nothing has left: the server was not reached.
        await _end(run, "WAITING", repr(error))
    else:
        await _end(run, "SENT", "")


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """What could not be sent for a reason of our own."""
    await call.db.execute(
        update(_MAILS).where(_MAILS.c.id == UUID(run.about)).values(state="FAILED", error=problem.reason)
    )


async def _end(run: Run, state: str, error: str) -> None:
    async with run.chunk() as call:
        mail = (await call.db.scalars(select(Mail).where(Mail.id == UUID(run.about)).with_for_update())).one()
        pause = min(FIRST_PAUSE * 2 ** min(mail.attempts, 10), LONGEST_PAUSE)
        values = {
            "state": state,
            "error": error[:1000],
            "attempts": mail.attempts + 1,
            "next_time": call.now + pause,
        }
        await call.db.execute(update(_MAILS).where(_MAILS.c.id == mail.id).values(**values))
        run.next_phase("ENDED")


def compose(mail: Mail, settings: Settings) -> EmailMessage:
    """The message: text, and for invitations the calendar part that programs read (RFC 6047)."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        settings.mail_from,
        mail.recipient,
        _line(mail.subject),
    )
    message["Date"] = format_datetime(mail.create_time)
    message["Message-ID"] = f"<{mail.id}@{settings.mail_from.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.body)
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
