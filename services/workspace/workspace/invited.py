"""Invitations of others that come by mail (iMIP): they stand in the calendar of whom they ask, and answers go back.

An invitation counts only from its organizer, and changes only what the same organizer has sent before.
"""

import logging
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from sqlalchemy import select

from workspace import ical
from workspace.model.calendar import MOST_ATTENDEES, CalendarEvent
from workspace.model.mail_account import MailAccount
from workspace.model.mail_message import MailBody, MailMessage
from workspace.telling import notify

ANSWERS = {
    "ACCEPTED": pb.CalendarEvent.ACCEPTED, "DECLINED": pb.CalendarEvent.DECLINED,
    "TENTATIVE": pb.CalendarEvent.TENTATIVE,
}  # fmt: skip
TITLES: dict[int, str] = {
    pb.CalendarEvent.ACCEPTED: "接受 / Accepted", pb.CalendarEvent.DECLINED: "谢绝 / Declined",
    pb.CalendarEvent.TENTATIVE: "暂定 / Tentative",
}  # fmt: skip

log = logging.getLogger(__name__)


async def receive(content: str, sender: str, box: MailAccount, message: MailMessage, call: Call) -> None:
    """Takes the invitations, changes and cancellations of a calendar that came to a mailbox."""
    calendar = ical.read(content)
    method = str(calendar.get("METHOD", "")).upper()
    if method not in {"REQUEST", "CANCEL"}:
        return
    groups: dict[str, list[Any]] = {}
    for component in calendar.walk("VEVENT"):
        if _address(component.get("ORGANIZER")) == sender and component.get("UID"):
            groups.setdefault(str(component["UID"])[:300], []).append(component)
    for uid, components in list(groups.items())[:50]:
        mine = select(CalendarEvent).where(CalendarEvent.owner == box.owner, CalendarEvent.uid == uid)
        event = (await call.db.scalars(mine.with_for_update())).first()
        if event is not None and event.organizer != sender:
            continue
        try:
            async with call.db.begin_nested():
                if method == "CANCEL":
                    await _cancel(event, components, call)
                else:
                    await _request(event, uid, components, sender, box, message, call)
        except Problem as problem:
            title = str(components[0].get("SUMMARY", ""))[:200]
            entry = call.entry(box.owner)
            await notify(
                call, [box.owner], "calendar", f"{message.name}:{uid}", message.name,
                f"日程邀请无法放入日历：{title}", f"An invitation cannot be put into the calendar: {title}",
                problem.text(str(entry.get("locale", call.caller.locale)), "workspace"),
            )  # fmt: skip


async def _request(
    event: CalendarEvent | None, uid: str, components: Sequence[Any], sender: str, box: MailAccount,
    message: MailMessage, call: Call,
) -> None:  # fmt: skip
    sequence = ical.sequence_of(components)
    if event is not None and (sequence < event.sequence or event.state == "DONE"):
        return
    if all(found.get("RECURRENCE-ID") is not None for found in components):
        if event is not None:
            changed = [_override(found, event) for found in components]
            await _put(event, {"overrides": _with(event, changed)}, sequence, call)
        return
    values = ical.values_of(components)
    attendees = _attendees(components, box)
    if attendees is None:
        return
    if event is None:
        event = CalendarEvent(
            **{**values, "kind": "MEETING"}, uid=uid, sequence=sequence, organizer=sender, owner=box.owner,
            creator=box.owner, department=box.department, attendees=attendees, links=[message.name],
        )  # fmt: skip
        event.invited_as = box.address
        await call.add(event)
        await call.flush()
    else:
        del values["visibility"], values["availability"], values["kind"]
        await _put(event, {**values, "state": "SCHEDULED", "attendees": attendees}, sequence, call)


async def _put(event: CalendarEvent, values: dict[str, Any], sequence: int, call: Call) -> None:
    """The organizer has changed it; another time wants another answer."""
    before = {one.employee: one for one in event.attendees if one.employee}
    if sequence == event.sequence:
        for one in values.get("attendees", ()):
            if one.employee in before:
                one.CopyFrom(before[one.employee])
    changed = {key for key, value in values.items() if getattr(event, key) != value}
    if not changed and sequence == event.sequence:
        return
    for key in changed:
        setattr(event, key, values[key])
    event.sequence = sequence
    await event.put_into_calendars(call)
    call.emit(events.CalendarEventMoved, event, calendar_event=event.told())
    await call.flush()


async def _cancel(event: CalendarEvent | None, components: Sequence[Any], call: Call) -> None:
    sequence = ical.sequence_of(components)
    if event is None or event.state != "SCHEDULED" or sequence < event.sequence:
        return
    single = [found for found in components if found.get("RECURRENCE-ID") is not None]
    if single and len(single) == len(components):
        gone = [
            pb.CalendarEvent.Override(occurrence=ical.occurrence_of(found, event.time_zone), cancelled=True)
            for found in single
        ]
        await _put(event, {"overrides": _with(event, gone)}, sequence, call)
    else:
        await event.take({"state": "CANCELLED"}, sequence, call)
        await call.flush()


def _with(event: CalendarEvent, changed: Sequence[Any]) -> list[Any]:
    new = {one.occurrence for one in changed}
    return [*(one for one in event.overrides if one.occurrence not in new), *changed]


def _override(component: Any, event: CalendarEvent) -> Any:
    return ical.override_of(component, event.time_zone, event.start_date is not None)


@ical.understood()
def _attendees(components: Sequence[Any], box: MailAccount) -> list[Any] | None:
    """Who is asked; None where the mailbox is not among them."""
    master = next(found for found in components if found.get("RECURRENCE-ID") is None)
    listed: Any = master.get("ATTENDEE", [])
    found: dict[str, Any] = {}
    for one in listed if isinstance(listed, list) else [listed]:
        address = _address(one)
        answer = ANSWERS.get(str(one.params.get("PARTSTAT", "")).upper(), pb.CalendarEvent.NEEDS_ACTION)
        optional = str(one.params.get("ROLE", "")).upper() == "OPT-PARTICIPANT"
        if address == box.address:
            found[address] = pb.CalendarEvent.Attendee(
                employee=box.owner, optional=optional, response=pb.CalendarEvent.NEEDS_ACTION
            )
        elif len(found) < MOST_ATTENDEES - 1:
            name = str(one.params.get("CN", "")).strip('"')[:100]
            found[address] = pb.CalendarEvent.Attendee(
                email=address, display_name=name, optional=optional, response=answer
            )
    return list(found.values()) if box.address in found else None


def _address(value: Any) -> str:
    return str(value or "").strip().lower().removeprefix("mailto:")


async def answer(event: CalendarEvent, response: int, comment: str, call: Call) -> None:
    """Tells the organizer outside by a mail of the mailbox that was asked. MAILBOX_NOT_ACTIVE."""
    box = await call.find(MailAccount, MailAccount.address == event.invited_as)
    if box is None or box.owner != event.owner:
        raise FailedPrecondition("MAILBOX_NOT_ACTIVE")
    title = f"{TITLES[response]}: {event.display_name}"[:500]
    mail = MailMessage(
        display_name=title, mailbox=box.name, direction="OUTBOUND", state="DRAFT", owner=box.owner,
        department=box.department, collaborators=list(box.collaborators), creator=box.owner, read=True,
        sender=pb.MailParty(address=box.address, display_name=box.display_name),
        to=[pb.MailParty(address=event.organizer)], preview=comment, filing="UNKNOWN", occur_time=call.now,
    )  # fmt: skip
    mail.message_id = mail.message_key = f"<{mail.id}@{box.address.rpartition('@')[2]}>"
    mail.thread = str(mail.id)
    await call.add(mail)
    content = ical.write_reply(event, box.address, response, comment, call.now.astimezone(UTC))
    await MailBody.keep(mail.id, comment or title, "", "", [], call, calendar=content)
    await call.flush()
    await mail.send_now(call)
