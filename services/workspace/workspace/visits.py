"""Visits and promised calls of sales stand in the calendars of those who make them."""

from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call

from workspace import recurrence
from workspace.model import known_record
from workspace.model.calendar import CalendarEvent
from workspace.model.task import zone_of

HOUR, CALL_BACK = 60, 15


async def planned(visit: dict[str, Any], call: Call) -> None:
    """A planned visit takes the time of who goes and of who comes along; it moves and goes with the visit."""
    name, person, begins = (str(visit.get(key) or "") for key in ("name", "owner", "plannedTime"))
    event = await call.find(CalendarEvent, CalendarEvent.source == name, lock=True)
    if visit.get("state") == "CANCELLED":
        if event is not None and event.state == "SCHEDULED":
            await event.cancel("EVERY", "", str(visit.get("endReason") or ""), call)
        return
    if not person.startswith("employees/") or not begins:
        return
    account = str(visit.get("account") or "")
    known = await known_record.records([account], call)
    title = known[account].label if account in known else ""
    with_whom = [pb.CalendarEvent.Attendee(employee=one) for one in visit.get("companions") or ()]
    await _stand(
        event, name, person, f"拜访 {title}".strip(), "VISIT", datetime.fromisoformat(begins),
        int(visit.get("durationMinutes") or HOUR), [name, *filter(None, [account])], with_whom, call,
    )  # fmt: skip


async def call_back(payload: dict[str, Any], call: Call) -> None:
    """A promised call takes a quarter of an hour of who has promised it."""
    promised: dict[str, Any] = payload.get("call") or {}
    name = str(promised.get("name") or "")
    person = str(payload.get("agent") or promised.get("agent") or promised.get("owner") or "")
    begins = str(payload.get("time") or payload.get("instant") or "")
    if not name or not person.startswith("employees/") or not begins:
        return
    event = await call.find(CalendarEvent, CalendarEvent.source == name, lock=True)
    note = str(payload.get("note") or "")[:100]
    title = f"回拨 {note}".strip()
    await _stand(
        event, name, person, title, "CALL", datetime.fromisoformat(begins), CALL_BACK, [name], [], call
    )


async def _stand(
    event: CalendarEvent | None,
    source: str,
    person: str,
    title: str,
    kind: str,
    begins: datetime,
    minutes: int,
    links: list[str],
    attendees: list[Any],
    call: Call,
) -> None:
    zone = await zone_of(person, call)
    begin = recurrence.wall_clock(begins, zone)
    start, end = (f"{at:%Y-%m-%dT%H:%M}" for at in (begin, begin + timedelta(minutes=minutes)))
    if event is None:
        entry = call.entry(person)
        await call.add(
            CalendarEvent(
                display_name=title[:200], kind=kind, owner=person, creator=person, start=start, end=end, time_zone=zone,
                links=links, attendees=attendees, source=source, department=entry.get("department", ""),
            )
        )  # fmt: skip
    elif event.state == "SCHEDULED" and (event.start, event.end) != (start, end):
        await event.move("", start, end, True, call)
