"""Mailboxes are read by IMAP: every folder from where it was read last, each mail once.

What is slow or broken is the server's alone: others wait for nobody, a password that is refused is not tried again
until its owner says so, and what cannot be reached is tried less and less often.
"""

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from imaplib import IMAP4
from io import BytesIO
from typing import Any, cast
from uuid import UUID

import imap_tools
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import blobs
from crmkit.app import Running
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from crmkit.runs import Kind, Run
from crmkit.scanning import ScannerAway, ScanTooLarge
from imap_tools.utils import encode_folder
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, DBAPIError

from workspace import alerts, filing, invited, mime, polling, replies
from workspace.model.file import File
from workspace.model.mail_account import MailAccount, MailFolder
from workspace.model.mail_message import PREVIEW, BouncedAddress, MailBody, MailMessage
from workspace.telling import notify

RUN = "FetchMail"
POLL = timedelta(seconds=30)
# Of one step: a run's lease is longer.
SECONDS = 20
# Of a person who waits for the answer, within a transaction.
TEST_SECONDS = 5
AT_ONCE = 20
MOST_A_RUN = 1000
LARGEST = 40 * 1024 * 1024
AHEAD = timedelta(minutes=10)
# What is larger than the scanner looks through goes to nobody either.
UNSCANNED = "Not-Scanned-Too-Large"
SIZE = re.compile(rb"RFC822\.SIZE (\d+)")

log = logging.getLogger(__name__)


@dataclass
class Fetched:
    """Mails of a folder, by their UIDs, and how far that goes."""

    uid_validity: int
    last_uid: int
    mails: list[tuple[int, bytes]]
    more: bool


async def start_due(call: Call) -> None:
    """Begins to read the mailboxes whose time has come."""
    await polling.start_due(MailAccount, RUN, call)


async def fetch(run: Run) -> None:
    """Reads what is new in the folders of a mailbox, some mails at a time."""
    key, done = UUID(run.about.partition("/")[2]), 0
    while run.phase != "ENDED":
        async with run.chunk() as call:
            box = await call.find(MailAccount, MailAccount.id == key)
            if box is None or box.state != "ACTIVE":
                run.next_phase("ENDED")
                return
            if call.running.directory.explained(box.owner) is None:
                await fail_box(box.id, "EMPLOYEE_INACTIVE", "", call)
                run.next_phase("ENDED")
                return
            folder = box.folders[run.position] if run.position < len(box.folders) else ""
            known = await call.db.get(MailFolder, (key, folder))
            since = box.create_time - timedelta(days=box.first_days)
        try:
            async with asyncio.timeout(SECONDS + 5):
                found = await asyncio.to_thread(_fetch, box, run.running.settings, folder, known, since)
        except Problem as problem:
            await polling.not_read(run, MailAccount, problem, POLL, box.address)
            return
        except TimeoutError:
            late = FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail="timeout")
            await polling.not_read(run, MailAccount, late, POLL, box.address)
            return
        for uid, raw in found.mails:
            # Each in a transaction of its own: one that cannot be kept keeps none from coming.
            try:
                mail = await screened(mime.read(raw), run.running)
                async with run.running.system_call("receive_mail", None) as own:
                    await receive(raw, mail, key, own)
                    await _read_until(key, folder, found.uid_validity, uid, own)
            except ScannerAway:
                # No file comes in that nobody has looked through; the mail is read again later.
                away = FailedPrecondition("MAIL_UNREACHABLE", step="SCAN", detail="clamd")
                await polling.not_read(run, MailAccount, away, POLL, box.address)
                return
            except Exception as error:
                # What the database cannot do now it can do later; a mail that cannot be kept must not stop the others.
                if isinstance(error, DBAPIError) and not isinstance(error, DataError):
                    raise
                log.warning(
                    "a mail cannot be kept: %r",
                    error,
                    extra={"mailbox": run.about, "folder": folder, "uid": uid},
                )
        done += len(found.mails)
        async with run.chunk() as call:
            await _read_until(key, folder, found.uid_validity, found.last_uid, call)
            if not found.more or done >= MOST_A_RUN:
                run.position += 1
            if run.position >= len(box.folders):
                again = await call.find(MailAccount, MailAccount.id == key, lock=True)
                if again is not None:
                    again.read_well(POLL, call)
                run.next_phase("ENDED")


async def _read_until(box: UUID, folder: str, validity: int, uid: int, call: Call) -> None:
    values = {"uid_validity": validity, "last_uid": uid}
    row = insert(MailFolder).values(mailbox=box, folder=folder, **values)
    await call.db.execute(row.on_conflict_do_update(index_elements=["mailbox", "folder"], set_=values))


async def fail_box(key: UUID, reason: str, detail: str, call: Call) -> None:
    """A mailbox cannot be used, and its owner is told."""
    box = await call.find(MailAccount, MailAccount.id == key, lock=True)
    if box is not None:
        await polling.fail(box, reason, detail, box.address, call)


async def screened(mail: mime.Mail, running: Running) -> mime.Mail:
    """The mail, its infected files in quarantine and not among those to keep. ScannerAway where nobody can tell."""
    for file in mail.files:
        try:
            file.infected = await running.scanner.look(file.content)
        except ScanTooLarge:
            file.infected = UNSCANNED
        if file.infected:
            file.sha256 = await blobs.quarantine(running.store, file.content)
    return mail


async def receive(raw: bytes, mail: mime.Mail, key: UUID, call: Call) -> MailMessage | None:
    """Keeps a mail of a mailbox, once; with its thread, its customer, its files and what it says of others."""
    # Locked, so that nobody else keeps the same mail meanwhile.
    box = await call.find(MailAccount, MailAccount.id == key, lock=True)
    if box is None or await _known(mail, box, call):
        return None
    ours = {box.address}
    outbound = mail.sender[0] in ours
    addresses = [address for address, _ in ((*mail.to, *mail.cc) if outbound else (mail.sender,)) if address]
    before = await filing.thread_of(mail, box, addresses, call)
    message = MailMessage(
        display_name=mail.subject, mailbox=box.name, direction="OUTBOUND" if outbound else "INBOUND",
        state="SENT" if outbound else "RECEIVED", sender=_party(mail.sender), to=[_party(one) for one in mail.to],
        cc=[_party(one) for one in mail.cc], preview=mail.text[:PREVIEW], message_id=mail.message_id,
        message_key=mail.message_id, base_subject=mime.base_subject(mail.subject), digest=mail.digest, owner=box.owner,
        department=box.department, collaborators=list(box.collaborators), creator=box.owner, read=outbound,
        occur_time=min(mail.time or call.now, call.now) if _plausible(mail.time, call.now) else call.now,
    )  # fmt: skip
    if await call.find(
        MailMessage, MailMessage.mailbox == box.name, MailMessage.message_key == mail.message_id
    ):
        message.message_key = f"{mail.message_id}#{mail.digest}"
    message.thread = before.thread if before is not None else str(message.id)
    if before is not None:
        message.links = list(before.links)
    filing.put(
        message,
        await filing.place_of(addresses, before, box, call) if not mail.bounce else filing.Place("UNKNOWN"),
    )
    infected = [file for file in mail.files if file.infected]
    message.files = [await _keep(file, message, call) for file in mail.files if not file.infected]
    message.problem = "; ".join(f"FILE_INFECTED: {one.display_name} ({one.infected})" for one in infected)[
        :500
    ]
    await call.add(message)
    for file in infected:
        where = (file.display_name, file.infected, file.sha256)
        await alerts.infected([box.owner], mail.sender[0], *where, call, f"{message.name}:{file.sha256}")
    await MailBody.keep(message.id, mail.text, mail.quote, mail.html, mail.references, call)
    await call.flush()
    await filing.share(message, call)
    if mail.bounce is not None:
        await _come_back(mail.bounce, box, call)
    if mail.calendar:
        with suppress(Problem, ValueError, RecursionError):
            async with call.db.begin_nested():
                await replies.receive(raw, call)
                sender, calendars = replies.contents(raw)
                for content in calendars:
                    await invited.receive(content, sender, box, message, call)
    return message


async def _known(mail: mime.Mail, box: MailAccount, call: Call) -> bool:
    """Whether the mailbox has the mail: by its Message-ID, unless another mail bears the same one."""
    same = select(MailMessage).where(
        MailMessage.mailbox == box.name, MailMessage.message_id == mail.message_id
    )
    for row in list(await call.db.scalars(same.with_for_update())):
        # What we have sent ourselves comes back from the folder of sent mail.
        if row.direction == "OUTBOUND" and mail.sender[0] == box.address:
            return True
        if row.digest == mail.digest or (
            row.sender.address == mail.sender[0] and row.occur_time == mail.time
        ):
            return True
    return False


async def _come_back(bounce: mime.Bounce, box: MailAccount, call: Call) -> None:
    """A mail has come back: its address is marked, and who has sent it is told."""
    found = select(MailMessage).where(
        MailMessage.mailbox == box.name,
        MailMessage.message_id == bounce.message_id,
        MailMessage.direction == "OUTBOUND",
    )
    sent = (await call.db.scalars(found.with_for_update())).first()
    for address, code, detail in bounce.failed:
        if sent is None or address not in sent.people():
            # Whoever writes a notification could mark any address otherwise.
            continue
        await bounced(sent, address, code, detail, call)


async def bounced(sent: MailMessage, address: str, code: str, detail: str, call: Call) -> None:
    """A mail of ours has not reached an address."""
    sent.state, sent.problem = "BOUNCED", f"{address} {code} {detail}"[:500]
    if code.startswith("5"):
        await BouncedAddress.note(address, code, detail, call)
    await call.flush()
    record = await filing.share(sent, call)
    shared = {"mail_record": record} if record is not None else {}
    call.emit(events.MailBounced, record or sent, **shared, address=address, code=code)
    await notify(
        call, [sent.owner], "mail", f"{sent.name}:bounced:{address}", sent.name,
        f"邮件被退回：{address}（{sent.display_name}）", f"Mail has come back: {address} ({sent.display_name})", sent.problem,
    )  # fmt: skip


async def _keep(file: mime.Attachment, message: MailMessage, call: Call) -> str:
    """Stores a file of a mail; those who share the mailbox read it."""
    sha256, size = await blobs.keep(call.running.store, BytesIO(file.content))
    row = File(
        display_name=file.display_name, media_type=file.media_type, size=Decimal(size), sha256=sha256, owner=message.owner,
        department=message.department, collaborators=list(message.collaborators), attached_to=[message.name],
    )  # fmt: skip
    return (await call.add(row)).name


def _party(one: tuple[str, str]) -> Any:
    return pb.MailParty(address=one[0], display_name=one[1])


def _plausible(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment.year > 1990 and moment <= now + AHEAD


def _fetch(
    box: MailAccount, settings: Any, folder: str, known: MailFolder | None, since: datetime
) -> Fetched:
    """The next mails of a folder. MAIL_AUTH_FAILED, MAIL_UNREACHABLE, MAIL_FOLDER_UNKNOWN."""
    try:
        with connected(box, settings) as client:
            validity = _select(client, folder)
            last = known.last_uid if known is not None and known.uid_validity == validity else 0
            query = [f"UID {last + 1}:*"] if last else [f"SINCE {since:%d-%b-%Y}"]
            _, listed = client.uid("SEARCH", *query)
            words = cast("bytes | None", listed[0] if listed else None) or b""
            # A server answers "last+1:*" with its last mail even where that is older.
            uids = sorted(uid for uid in map(int, words.split()) if uid > last)
            mails = [(uid, _content(client, uid)) for uid in uids[:AT_ONCE]]
            until = uids[:AT_ONCE][-1] if uids else last
            return Fetched(validity, until, mails, len(uids) > AT_ONCE)
    except (IMAP4.error, OSError, ValueError) as error:
        raise FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail=str(error)[:200]) from None


def _select(client: IMAP4, folder: str) -> int:
    state, _ = client.select(cast("Any", encode_folder(folder)).decode(), readonly=True)
    if state != "OK":
        raise FailedPrecondition("MAIL_FOLDER_UNKNOWN", folder=folder)
    _, told = client.response("UIDVALIDITY")
    return int(cast("bytes", told[0])) if told and told[0] else 0


def _content(client: IMAP4, uid: int) -> bytes:
    """The mail, its head alone where it is too large."""
    _, told = client.uid("FETCH", str(uid), "(RFC822.SIZE)")
    size = int((SIZE.search(b" ".join(cast("bytes", piece) for piece in told if piece)) or [b"", b"0"])[1])
    part = "BODY.PEEK[]" if size <= LARGEST else "BODY.PEEK[HEADER]"
    _, parts = client.uid("FETCH", str(uid), f"({part})")
    return next((bytes(piece[1]) for piece in cast("Sequence[Any]", parts) if isinstance(piece, tuple)), b"")


async def test(box: MailAccount, settings: Any) -> None:
    """Signs in and opens every folder. MAIL_AUTH_FAILED, MAIL_UNREACHABLE, MAIL_FOLDER_UNKNOWN."""

    def look() -> None:
        with connected(box, settings) as client:
            for folder in box.folders:
                _select(client, folder)

    try:
        async with asyncio.timeout(TEST_SECONDS):
            await asyncio.to_thread(look)
    except TimeoutError:
        raise FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail="timeout") from None


class connected:
    """A mailbox's server, signed in. MAIL_AUTH_FAILED, MAIL_UNREACHABLE."""

    def __init__(self, box: MailAccount, settings: Any) -> None:
        self._box, self._settings = box, settings

    def __enter__(self) -> IMAP4:
        box = self._box
        check_peer(box.imap_host, box.imap_port, self._settings.environment)
        kinds: dict[str, Any] = {
            "TLS": imap_tools.MailBox, "STARTTLS": imap_tools.MailBoxStartTls, "PLAIN": imap_tools.MailBoxUnencrypted,
        }  # fmt: skip
        more = {} if box.imap_security == "PLAIN" else {"ssl_context": ssl.create_default_context()}
        try:
            client: IMAP4 = kinds[box.imap_security](
                box.imap_host, box.imap_port, timeout=SECONDS, **more
            ).client
        except (IMAP4.error, OSError) as error:
            raise FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail=str(error)[:200]) from None
        self._client = client
        try:
            client.login(box.user_name or box.address, box.opened(self._settings.secret))
            # Some providers (163, 126) open no mailbox to who does not say what it is.
            if "ID" in client.capabilities:
                with suppress(IMAP4.error):
                    client.xatom("ID", '("name" "Guanxi" "version" "1")')
        except IMAP4.abort as error:
            self.__exit__()
            raise FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail=str(error)[:200]) from None
        except IMAP4.error as error:
            self.__exit__()
            raise FailedPrecondition("MAIL_AUTH_FAILED", step="IMAP", detail=str(error)[:200]) from None
        except OSError as error:
            self.__exit__()
            raise FailedPrecondition("MAIL_UNREACHABLE", step="IMAP", detail=str(error)[:200]) from None
        return client

    def __exit__(self, *_: object) -> None:
        with suppress(IMAP4.error, OSError):
            self._client.logout()
        with suppress(OSError):
            self._client.shutdown()


def check_peer(host: str, port: int, environment: str) -> None:
    """Refuses a name that leads to this machine or to the cloud's own addresses. HOST_NOT_ALLOWED."""
    if environment == "local":
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise FailedPrecondition("MAIL_UNREACHABLE", step="DNS", detail=str(error)[:200]) from None
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
            raise FailedPrecondition("HOST_NOT_ALLOWED", host=f"{host[:200]}:{port}")


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What keeps a mailbox from being read for a reason of our own is tried again later."""
    await polling.give_up(run, MailAccount, POLL, call)


RUNS = {RUN: Kind(fetch, give_up, aside=True)}
