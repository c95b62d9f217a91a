"""Answers to invitations that come by mail (iMIP, RFC 6047)."""

import asyncio
import email
import imaplib
import logging
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from email.policy import default
from email.utils import parseaddr
from typing import cast

from crmkit.call import Call
from crmkit.errors import Problem

from workspace import ical
from workspace.mail import Server
from workspace.model.calendar import CalendarEvent

AT_ONCE = 50
LARGEST = 2_000_000

log = logging.getLogger(__name__)


async def receive(raw: bytes, call: Call) -> int:
    """Takes the answers of a mail; how many there were.

    Only whoever has written the mail answers for that address. An answer to an older version counts no more.
    """
    sender, calendars = contents(raw)
    taken = 0
    for content in calendars:
        for reply in ical.replies(content):
            if reply.email != sender:
                continue
            event = await call.find(CalendarEvent, CalendarEvent.uid == reply.uid, lock=True)
            if event is None or reply.sequence < event.sequence or event.state != "SCHEDULED":
                continue
            known = {attendee.email: attendee for attendee in event.attendees if attendee.email}
            if reply.email in known and known[reply.email].response != reply.response:
                await event.respond(reply.email, reply.response, reply.comment, call)
                taken += 1
    return taken


def contents(raw: bytes) -> tuple[str, list[str]]:
    """Who has written a mail, and the calendars that come with it."""
    message = cast("EmailMessage", email.message_from_bytes(raw[:LARGEST], policy=default))
    return parseaddr(str(message.get("From", "")))[1].lower(), list(_calendars(message))


def _calendars(message: EmailMessage) -> Iterator[str]:
    for part in message.walk():
        if part.get_content_type() == "text/calendar":
            with suppress(LookupError, UnicodeDecodeError):
                yield str(cast("EmailMessage", part).get_content())


async def poll(call: Call) -> None:
    """Reads what is unread in the mailbox of the calendar. A mail is marked as read once its effect is written."""
    url = call.running.settings.imap_url
    if not url:
        return
    server = Server.of(url)
    box = await asyncio.to_thread(_open, server)
    try:
        for key, raw in await asyncio.to_thread(_unread, box):
            try:
                async with call.running.system_call("receive_reply", None) as own:
                    await receive(raw, own)
            except (Problem, ValueError) as error:
                log.warning("a mail to the calendar cannot be read: %r", error)
            await asyncio.to_thread(box.store, key, "+FLAGS", "\\Seen")
    finally:
        with suppress(imaplib.IMAP4.error, OSError):
            await asyncio.to_thread(box.logout)


def _open(server: Server) -> imaplib.IMAP4:
    kind = imaplib.IMAP4_SSL if server.tls else imaplib.IMAP4
    box = kind(server.host, server.port, timeout=20)
    box.login(server.user or "", server.password or "")
    box.select(server.folder)
    return box


def _unread(box: imaplib.IMAP4) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    _, listed = box.search(None, "UNSEEN")
    for key in cast("bytes", listed[0]).decode().split()[:AT_ONCE]:
        _, parts = box.fetch(key, "(BODY.PEEK[])")
        found += [(key, part[1]) for part in parts if isinstance(part, tuple)]
    return found
