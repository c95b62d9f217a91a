"""Mail of people leaves by the SMTP server of their mailbox, each once.

Whether a mail has left when the process dies in the midst of sending nobody knows: it is not sent again by itself, and
its writer is told. Sent again by hand it bears the same Message-ID, so that whoever has it sees it once.
"""

import ssl
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import aiosmtplib
from crmkit import blobs, runs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from crmkit.runs import Kind, Run
from crmkit.scanning import ScannerAway, ScanTooLarge
from sqlalchemy import select

from workspace import alerts, filing, mailboxes
from workspace.mailboxes import SECONDS, bounced, check_peer, fail_box
from workspace.model.mail_account import MailAccount
from workspace.model.mail_message import POST, MailBody, MailMessage
from workspace.telling import notify

PATIENCE = timedelta(hours=24)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(hours=1)


async def deliver(run: Run) -> None:
    """Gives a mail to the server of its mailbox. What was not taken is tried later; what is refused has failed."""
    if run.phase == "ENDED":
        return
    if run.phase == "SENDING":
        await _end(run, "FAILED", "SEND_UNKNOWN", [])
        return
    async with run.chunk() as call:
        message = await _loaded(run, call)
        box = await call.named(MailAccount, message.mailbox)
        if box is None or message.state != "QUEUED":
            run.next_phase("ENDED")
            return
        body = await call.db.get(MailBody, message.id)
        files = await message.attached(call)
        message.state = "SENDING"
        run.next_phase("SENDING")
    state, problem, refused = await _looked_through(files, run)
    if not state:
        mail = await _compose(message, box, body, files, run)
        state, problem, refused = await post(mail, message.people(), box, run.running.settings)
    await _end(run, state, problem, refused)


async def _loaded(run: Run, call: Call) -> MailMessage:
    row = select(MailMessage).where(MailMessage.id == UUID(run.about.partition("/")[2])).with_for_update()
    return (await call.db.scalars(row)).one()


async def _looked_through(files: Any, run: Run) -> tuple[str, str, list[tuple[str, str, str]]]:
    """Nothing where the files may leave: what was clean when it came may be known by now."""
    for file in files:
        async with blobs.fetched(run.running.store, file.sha256) as content:
            held = content.read()
        try:
            found = await run.running.scanner.look(held)
        except ScannerAway:
            return "QUEUED", "SCANNER_AWAY", []
        except ScanTooLarge:
            found = mailboxes.UNSCANNED
        if found:
            sha256 = await blobs.quarantine(run.running.store, held)
            async with run.running.system_call("file_infected", None) as call:
                people, key = [file.owner], f"{run.about}:{sha256}"
                await alerts.infected(people, file.owner, file.display_name, found, sha256, call, key)
            return "FAILED", f"FILE_INFECTED: {file.display_name} ({found})", []
    return "", "", []


async def _compose(
    message: MailMessage, box: MailAccount, body: MailBody | None, files: Any, run: Run
) -> EmailMessage:
    """The mail: text, signature, files, and what makes it one with its thread."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = _address(box.address, box.display_name)
    for name, parties in (("To", message.to), ("Cc", message.cc)):
        if parties:
            mail[name] = [_address(party.address, party.display_name) for party in parties]
    mail["Subject"] = " ".join(message.display_name.split())
    mail["Date"] = format_datetime(message.occur_time or message.create_time)
    mail["Message-ID"] = message.message_id
    references = body.references if body is not None else []
    if references:
        mail["In-Reply-To"], mail["References"] = references[-1], " ".join(references)
    text = body.text if body is not None else ""
    mail.set_content(f"{text}\n\n-- \n{box.signature}\n" if box.signature else f"{text}\n")
    if body is not None and body.calendar:
        mail.add_alternative(body.calendar, subtype="calendar", params={"method": "REPLY"})
    for file in files:
        async with blobs.fetched(run.running.store, file.sha256) as content:
            main, _, sub = (
                file.media_type if "/" in file.media_type else "application/octet-stream"
            ).partition("/")
            if main in {"message", "multipart"}:
                main, sub = "application", "octet-stream"
            mail.add_attachment(
                content.read(), maintype=main, subtype=sub.partition(";")[0], filename=file.display_name
            )
    return mail


def _address(address: str, name: str) -> Address:
    user, _, domain = address.strip().rpartition("@")
    return Address(" ".join(name.split()), user, domain)


async def post(
    mail: EmailMessage | None, people: list[str], box: MailAccount, settings: Any
) -> tuple[str, str, list[tuple[str, str, str]]]:
    """Gives a mail to the server, or signs in alone: what became of it, why, and the addresses that it refuses."""
    try:
        check_peer(box.smtp_host, box.smtp_port, settings.environment)
        client = aiosmtplib.SMTP(
            hostname=box.smtp_host, port=box.smtp_port, use_tls=box.smtp_security == "TLS",
            start_tls=box.smtp_security == "STARTTLS", timeout=SECONDS,
            tls_context=None if box.smtp_security == "PLAIN" else ssl.create_default_context(),
        )  # fmt: skip
        await client.connect()
    except (aiosmtplib.SMTPException, OSError) as error:
        return "QUEUED", f"MAIL_UNREACHABLE: {error}", []
    except Problem as problem:
        return ("QUEUED" if problem.reason == "MAIL_UNREACHABLE" else "FAILED"), problem.reason, []
    try:
        await client.login(box.user_name or box.address, box.opened(settings.secret))
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        return ("FAILED" if error.code >= 500 else "QUEUED"), f"MAIL_AUTH_FAILED: {error.message}", []
    except (aiosmtplib.SMTPException, OSError) as error:
        client.close()
        return "QUEUED", f"MAIL_UNREACHABLE: {error}", []
    if mail is None:
        client.close()
        return "SENT", "", []
    try:
        refused, _ = await client.send_message(mail, sender=box.address, recipients=people)
    except aiosmtplib.SMTPRecipientsRefused as error:
        lost = [(one.recipient, *_code(one)) for one in error.recipients]
        lasting = all(one.code >= 500 for one in error.recipients)
        return ("BOUNCED" if lasting else "QUEUED"), str(lost[0][2])[:300], lost if lasting else []
    except aiosmtplib.SMTPResponseException as error:
        return ("FAILED" if error.code >= 500 else "QUEUED"), f"{error.code} {error.message}", []
    except (aiosmtplib.SMTPException, OSError) as error:
        # It may have been taken.
        return "FAILED", f"SEND_UNKNOWN: {error!r}", []
    finally:
        client.close()
    return (
        "SENT",
        "",
        [(address, _status(reply.code, reply.message), reply.message) for address, reply in refused.items()],
    )


def _code(one: aiosmtplib.SMTPRecipientRefused) -> tuple[str, str]:
    return _status(one.code, one.message), one.message


def _status(code: int, message: str) -> str:
    """The enhanced code, where the server gives one."""
    first = message.split(" ")[0]
    return first if first.count(".") == 2 and first.replace(".", "").isdigit() else f"{code // 100}.0.0"


async def _end(run: Run, state: str, problem: str, refused: list[tuple[str, str, str]]) -> None:
    async with run.chunk() as call:
        message = await _loaded(run, call)
        begun = message.occur_time or message.create_time
        if state == "QUEUED" and call.now - begun > PATIENCE:
            state = "FAILED"
        message.state, message.problem = ("SENT" if refused else state), problem[:500]
        message.attempts += 1
        if state == "QUEUED":
            message.next_time = call.now + min(
                FIRST_PAUSE * 2 ** min(message.attempts - 1, 10), LONGEST_PAUSE
            )
        elif state in {"SENT", "BOUNCED"}:
            message.occur_time = call.now
            before = None if message.filing == "UNKNOWN" else message
            if message.account:
                message.filing = "FILED"
            else:
                box = await call.named(MailAccount, message.mailbox)
                if box is not None:
                    filing.put(message, await filing.place_of(message.people(), before, box, call))
            await call.flush()
            await filing.share(message, call)
        if problem.startswith("MAIL_AUTH_FAILED") and state == "FAILED":
            await fail_box(UUID(message.mailbox.partition("/")[2]), "MAIL_AUTH_FAILED", problem, call)
        if state == "FAILED":
            await _tell(message, call)
        for address, code, detail in refused:
            await bounced(message, address, code, detail, call)
        run.next_phase("ENDED")


async def _tell(message: MailMessage, call: Call) -> None:
    await notify(
        call, [message.owner], "mail", f"{message.name}:failed:{call.now.isoformat()}", message.name,
        f"邮件未能发送：{message.display_name}", f"A mail was not sent: {message.display_name}", message.problem,
    )  # fmt: skip


async def start_waiting(call: Call) -> None:
    """Tries again what a server has not taken."""
    due = select(MailMessage).where(MailMessage.state == "QUEUED", MailMessage.next_time <= call.now)
    for message in list(await call.db.scalars(due.with_for_update(skip_locked=True).limit(200))):
        message.next_time = None
        await runs.start(call, POST, message.name, {}, requester="system/workspace")


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What could not be sent for a reason of our own."""
    message = await _loaded(run, call)
    if message.state in {"QUEUED", "SENDING"}:
        message.state, message.problem = "FAILED", problem.reason
        await _tell(message, call)


async def test(box: MailAccount, settings: Any) -> None:
    """Tries both servers. MAIL_AUTH_FAILED, MAIL_UNREACHABLE, MAIL_FOLDER_UNKNOWN."""
    await mailboxes.test(box, settings)
    state, problem, _ = await post(None, [], box, settings)
    if state != "SENT":
        reason, _, detail = problem.partition(": ")
        raise FailedPrecondition(reason, step="SMTP", detail=detail[:200])


RUNS = {POST: Kind(deliver, give_up, aside=True)}
