"""Tells those who come of an event: ours by a notice, others by mail."""

from collections.abc import Iterable
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call

from workspace import ical, mail, recurrence
from workspace.model.calendar import CalendarEvent, who
from workspace.telling import notify


async def tell(
    told: pb.CalendarEvent,
    removed: Iterable[Any],
    zh: str,
    en: str,
    call: Call,
    occurrence: str = "",
    cancelled: bool = False,
) -> None:
    """Tells each of those who come once per version. The row is read, for facts hide what is not public."""
    event = await call.named(CalendarEvent, told.name)
    title = event.display_name if event is not None else told.display_name
    when = occurrence.replace("T", " ") or _when(told)
    outside = event is not None and bool(event.organizer)
    coming = [
        found.employee
        for found in told.attendees
        if found.employee and (outside or found.employee != told.owner)
    ]
    key = f"calendar:{told.name}:{told.sequence}:{occurrence}:{cancelled}"
    await notify(
        call, coming, "calendar", key, told.name, f"{zh}：{title}（{when}）", f"{en}: {title} ({when})"
    )
    gone = [found.employee for found in removed if found.employee]
    key = f"calendar:{told.name}:removed:{told.etag}"
    await notify(
        call, gone, "calendar", key, told.name, f"日程取消：{title}（{when}）", f"Cancelled: {title} ({when})"
    )
    if event is not None and not outside:
        await _write(event, list(removed), zh, en, when, occurrence, cancelled, call)


async def _write(
    event: CalendarEvent,
    removed: list[Any],
    zh: str,
    en: str,
    when: str,
    occurrence: str,
    cancelled: bool,
    call: Call,
) -> None:
    """Mail to those who are none of us, with the event in the form that their calendars read."""
    organizer = call.running.settings.mail_from
    gone = cancelled and not occurrence
    for attendee in event.attendees:
        address = await address_of(attendee, call)
        if address:
            method = "CANCEL" if gone else "REQUEST"
            calendar = ical.write([event], method, organizer=organizer, addressed={who(attendee): address})
            key = f"calendar:{event.name}:{event.sequence}:{address}:{method}"
            title = f"{zh} / {en}: {event.display_name} ({when})"
            await mail.send(
                call, key, address, title, f"{title}\n{event.location}\n\n{event.agenda}", calendar, method
            )
    for attendee in removed:
        address = await address_of(attendee, call)
        if address:
            calendar = ical.write([event], "CANCEL", organizer=organizer)
            key = f"calendar:{event.name}:removed:{event.etag}:{address}"
            title = f"日程取消 / Cancelled: {event.display_name} ({when})"
            await mail.send(call, key, address, title, title, calendar, "CANCEL")


async def address_of(attendee: Any, call: Call) -> str:
    """The mail address of somebody outside; a contact's is the first that its record has."""
    if attendee.email:
        return attendee.email
    if not attendee.contact:
        return ""
    contact: dict[str, Any] = await call.copy(attendee.contact) or {}
    emails: list[Any] = contact.get("emails") or []
    first = emails[0] if emails else contact.get("email", "")
    return str(first.get("address") or first.get("email") or "") if isinstance(first, dict) else str(first)


def _when(told: pb.CalendarEvent) -> str:
    if told.HasField("start_date"):
        day = told.start_date
        return f"{day.year:04}-{day.month:02}-{day.day:02}"
    return recurrence.parse(told.start, False, "").strftime("%Y-%m-%d %H:%M")
