"""Events as RFC 5545 text: feeds, invitations, and files of other calendars.

What others wrote is not trusted: the zones that a file defines are dropped unread, a zone's name counts only where
the IANA data have it, and every event passes the rules that ours pass.
"""

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import InvalidArgument, Problem
from crmkit.text import reject_bad_text
from icalendar import Calendar, Event, vRecur
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON
from sqlalchemy import select

from workspace import recurrence
from workspace.model.calendar import CalendarEvent, CalendarSlot, who
from workspace.model.calendar_feed import CalendarFeed
from workspace.recurrence import DEFAULT_ZONE

PRODUCT = "-//Guanxi//Guanxi CRM//ZH"
MOST_EVENTS = 2000
LAST_SEQUENCE = 2**31 - 1
FEED_BACK = timedelta(days=90)
FOLD = re.compile(r"\r?\n[ \t]")
ZONES = re.compile(r"^BEGIN:VTIMEZONE\r?$.*?^END:VTIMEZONE\r?$\n?", re.DOTALL | re.MULTILINE | re.IGNORECASE)
TZID = re.compile(r";TZID=(?P<zone>\"[^\"]*\"|[^:;]*)", re.IGNORECASE)
PARTSTAT = {0: "NEEDS-ACTION", 1: "NEEDS-ACTION", 2: "ACCEPTED", 3: "DECLINED", 4: "TENTATIVE"}


async def feed(feed: CalendarFeed, title: str, call: Call) -> str:
    """One person's calendar, from ninety days back on."""
    taken = select(CalendarSlot.event).where(
        CalendarSlot.person == feed.owner, CalendarSlot.end_time > call.now - FEED_BACK
    )
    async with call.everybody():
        rows = list(
            await call.db.scalars(select(CalendarEvent).where(CalendarEvent.id.in_(taken)).limit(MOST_EVENTS))
        )
    return write(rows, "PUBLISH", title, busy_only=feed.detail == "BUSY_TIMES")


def write(
    rows: Iterable[CalendarEvent],
    method: str,
    title: str = "",
    organizer: str = "",
    busy_only: bool = False,
    addressed: dict[str, str] | None = None,
    agent: str = "",
) -> str:
    """The events as a calendar."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    if method:
        calendar.add("method", method)
    if title:
        calendar.add("x-wr-calname", title)
    for row in rows:
        for component in _components(row, busy_only, cancelled=method == "CANCEL"):
            if organizer:
                _people(component, row, organizer, addressed or {}, agent)
            calendar.add_component(component)
    calendar.add_missing_timezones()
    return calendar.to_ical().decode()


def _components(row: CalendarEvent, busy_only: bool, cancelled: bool) -> Iterable[Event]:
    series, changes = row.series, row.changes()
    gone = [key for key, change in changes.items() if change.cancelled]
    master = _component(row, series.start, series.end, busy_only, cancelled)
    if row.recurrence:
        master.add("rrule", vRecur.from_ical(_rule(row)))
    for start in series.extra:
        master.add("rdate", _value(row, start))
    for start in [*series.left_out, *(recurrence.parse(key, series.whole_days, "") for key in gone)]:
        master.add("exdate", _value(row, start))
    yield master
    for key, change in changes.items():
        if change.cancelled:
            continue
        start = recurrence.parse(key, series.whole_days, "")
        begin, end = start, start + (series.end - series.start)
        if change.start and change.end:
            begin, end = (
                recurrence.parse(found, series.whole_days, "") for found in (change.start, change.end)
            )
        component = _component(row, begin, end, busy_only, cancelled)
        component.add("recurrence-id", _value(row, start))
        if change.display_name and not busy_only:
            component["SUMMARY"] = change.display_name
        if change.location and not busy_only:
            component["LOCATION"] = change.location
        yield component


def _rule(row: CalendarEvent) -> str:
    """The rule with its end as RFC 5545 wants it beside a start in a zone: as an instant."""
    parts = recurrence.read_rule(row.recurrence)
    if (until := parts.get("UNTIL")) and row.start_date is None:
        last = recurrence.instant(recurrence.read_until(until, row.time_zone), row.time_zone)
        parts["UNTIL"] = last.strftime("%Y%m%dT%H%M%SZ")
    return ";".join(f"{key}={value}" for key, value in parts.items())


def _component(row: CalendarEvent, start: datetime, end: datetime, busy_only: bool, cancelled: bool) -> Event:
    component = Event()
    component.add("uid", row.uid)
    component.add("dtstamp", row.update_time.astimezone(UTC))
    component.add("sequence", row.sequence)
    component.add("dtstart", _value(row, start))
    component.add("dtend", _value(row, end + timedelta(days=1)) if row.start_date else _value(row, end))
    component.add("status", "CANCELLED" if cancelled or row.state == "CANCELLED" else "CONFIRMED")
    component.add("transp", "TRANSPARENT" if row.availability == "FREE" else "OPAQUE")
    component.add("class", "PUBLIC" if row.visibility == "PUBLIC" else "PRIVATE")
    component.add("summary", "忙碌 Busy" if busy_only else row.display_name)
    if busy_only:
        return component
    if row.location:
        component.add("location", row.location)
    if row.agenda:
        component.add("description", row.agenda)
    return component


def _people(
    component: Event, row: CalendarEvent, organizer: str, addressed: dict[str, str], agent: str
) -> None:
    """Who invites, by the address that answers go to, and who is invited; `agent` says who does the inviting."""
    said = {"SCHEDULE-AGENT": agent} if agent else {}
    component.add("organizer", f"mailto:{organizer}", parameters=said)
    for attendee in row.attendees:
        email = addressed.get(who(attendee)) or attendee.email
        if email:
            role = "OPT-PARTICIPANT" if attendee.optional else "REQ-PARTICIPANT"
            state = PARTSTAT[attendee.response]
            component.add(
                "attendee",
                f"mailto:{email}",
                parameters={"ROLE": role, "PARTSTAT": state, "RSVP": "TRUE", **said},
            )


def _value(row: CalendarEvent, wall: datetime) -> date | datetime:
    return (
        wall.date() if row.start_date is not None else wall.replace(tzinfo=recurrence.ZoneInfo(row.time_zone))
    )


def write_reply(row: CalendarEvent, address: str, response: int, comment: str, now: datetime) -> str:
    """The answer of one who was invited, for the organizer's calendar (iTIP REPLY)."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "REPLY")
    component = Event()
    component.add("uid", row.uid)
    component.add("dtstamp", now)
    component.add("sequence", row.sequence)
    component.add("dtstart", _value(row, row.series.start))
    component.add("summary", row.display_name)
    component.add("organizer", f"mailto:{row.organizer}")
    component.add("attendee", f"mailto:{address}", parameters={"PARTSTAT": PARTSTAT[response]})
    if comment:
        component.add("comment", comment)
    calendar.add_component(component)
    calendar.add_missing_timezones()
    return calendar.to_ical().decode()


@dataclass(frozen=True)
class Reply:
    """What somebody answers to an invitation."""

    uid: str
    email: str
    response: int
    sequence: int
    comment: str


@contextmanager
def understood() -> Generator[None]:
    """Refuses what others wrote where nothing can be made of it. CALENDAR_UNREADABLE.

    The parser lets a broken or doubled property through, which fails only where it is looked at.
    """
    try:
        yield
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InvalidArgument("CALENDAR_UNREADABLE", detail=str(error)[:200]) from None


@understood()
def replies(content: str) -> list[Reply]:
    """The answers in an iTIP REPLY; none in anything else. CALENDAR_UNREADABLE."""
    calendar = read(content)
    if str(calendar.get("METHOD", "")).upper() != "REPLY":
        return []
    found: list[Reply] = []
    for event in calendar.walk("VEVENT"):
        attendees: Any = event.get("ATTENDEE", [])
        for attendee in attendees if isinstance(attendees, list) else [attendees]:
            answer = {
                "ACCEPTED": pb.CalendarEvent.ACCEPTED, "DECLINED": pb.CalendarEvent.DECLINED,
                "TENTATIVE": pb.CalendarEvent.TENTATIVE,
            }.get(str(attendee.params.get("PARTSTAT", "")).upper())  # fmt: skip
            email = str(attendee).lower().removeprefix("mailto:")
            if answer:
                comment = str(event.get("COMMENT", ""))[:500]
                found.append(Reply(str(event.get("UID", "")), email, answer, sequence_of([event]), comment))
    return found


@understood()
def sequence_of(components: Iterable[Any]) -> int:
    """Which edition of the event it is. CALENDAR_UNREADABLE."""
    sequence = max(int(found.get("SEQUENCE", 0)) for found in components)
    if not 0 <= sequence <= LAST_SEQUENCE:
        raise ValueError(f"SEQUENCE:{sequence}")
    return sequence


@understood()
def read(content: str) -> Calendar:
    """The calendar of a text. CALENDAR_UNREADABLE."""
    unfolded = FOLD.sub("", reject_bad_text(content.replace("\r\n", "\n")))
    # A zone stays a word until it is looked up: what a file says a zone is, is never worked out.
    plain = TZID.sub(r";X-ZONE=\g<zone>", ZONES.sub("", unfolded))
    calendar = Calendar.from_ical(plain)
    # Who reads it walks over it, which very deep nesting would not let him.
    if getattr(calendar, "name", "") != "VCALENDAR" or not calendar.walk():
        raise InvalidArgument("CALENDAR_UNREADABLE", detail="VCALENDAR")
    return cast("Calendar", calendar)


async def bring_in(content: str, call: Call) -> dict[str, Any]:
    """Brings the events of a file into the caller's calendar. Nobody is invited by it."""
    calendar = read(content)
    groups: dict[str, list[Any]] = {}
    for component in calendar.walk("VEVENT"):
        groups.setdefault(str(component.get("UID", "")) or f"{id(component)}@file", []).append(component)
    if len(groups) > MOST_EVENTS:
        raise InvalidArgument("CALENDAR_UNREADABLE", detail=f"> {MOST_EVENTS}")
    done = {"created": 0, "updated": 0, "unchanged": 0}
    refused: list[pb.RefusedEvent] = []
    mine = select(CalendarEvent).where(
        CalendarEvent.owner == call.caller.employee, CalendarEvent.uid.in_(groups)
    )
    known = {row.uid: row for row in await call.db.scalars(mine)}
    for uid, components in groups.items():
        try:
            async with call.db.begin_nested():
                done[await _take(uid, components, known.get(uid), call)] += 1
        except Problem as problem:
            text = problem.violations[0] if problem.violations else None
            detail = call.text(text.zh, text.en) if text else problem.text(call.caller.locale, "workspace")
            title = str(components[0].get("SUMMARY", ""))[:200]
            refused.append(
                pb.RefusedEvent(
                    uid=uid[:300],
                    display_name=title,
                    reason=text.reason if text else problem.reason,
                    detail=detail,
                )
            )
    return {**done, "refused": refused}


async def _take(uid: str, components: Sequence[Any], known: CalendarEvent | None, call: Call) -> str:
    sequence = sequence_of(components)
    if known is not None and sequence <= known.sequence:
        return "unchanged"
    values = values_of(components)
    values["sequence"] = sequence
    if known is None:
        await call.add(CalendarEvent(uid=uid[:300], accept_conflicts=True, **values))
        await call.flush()
        return "created"
    for key, value in values.items():
        setattr(known, key, value)
    known.accept_conflicts = True
    await known.put_into_calendars(call)
    known.accept_conflicts = False
    await call.flush()
    return "updated"


@understood()
def values_of(components: Sequence[Any]) -> dict[str, Any]:
    """What the components of one UID say, as the fields of an event. CALENDAR_UNREADABLE and refusals of series."""
    master = next((found for found in components if found.get("RECURRENCE-ID") is None), None)
    if master is None:
        raise InvalidArgument("CALENDAR_UNREADABLE", detail="RECURRENCE-ID")
    others = [found for found in components if found is not master]
    if master.get("DTSTART") is None:
        raise InvalidArgument("CALENDAR_UNREADABLE", detail="DTSTART")
    whole_days = not isinstance(master["DTSTART"].dt, datetime)
    zone = DEFAULT_ZONE if whole_days else _zone(master["DTSTART"])
    start, end = _span(master, zone)
    rules = master.get("RRULE")
    if isinstance(rules, list):
        raise recurrence.invalid("RRULE", "RRULE")

    def text(wall: datetime) -> str:
        return wall.date().isoformat() if whole_days else wall.isoformat(timespec="minutes")

    def dates(name: str) -> list[str]:
        found = master.get(name, [])
        lists = found if isinstance(found, list) else [found]
        return [text(_wall(item, zone, one)) for one in lists for item in one.dts]

    overrides = [override_of(other, zone, whole_days) for other in others]
    when: dict[str, Any] = {"start": text(start), "end": text(end)}
    if whole_days:
        when = {"start_date": start.date(), "end_date": end.date()}
    return {
        **when, "time_zone": zone, "display_name": _words(master, "SUMMARY", 200) or "（无标题）",
        "location": _words(master, "LOCATION", 300), "agenda": _words(master, "DESCRIPTION", 20000),
        "recurrence": rules.to_ical().decode() if rules is not None else "",
        "extra_dates": dates("RDATE"), "except_dates": dates("EXDATE"), "overrides": overrides,
        "kind": "APPOINTMENT", "state": "CANCELLED" if str(master.get("STATUS", "")).upper() == "CANCELLED" else "SCHEDULED",
        "availability": "FREE" if str(master.get("TRANSP", "")).upper() == "TRANSPARENT" else "TAKEN",
        "visibility": "PUBLIC" if str(master.get("CLASS", "PUBLIC")).upper() == "PUBLIC" else "PRIVATE",
    }  # fmt: skip


@understood()
def override_of(component: Any, zone: str, whole_days: bool) -> Any:
    """What one date of a series has of its own."""
    times = [
        wall.date().isoformat() if whole_days else wall.isoformat(timespec="minutes")
        for wall in _span(component, zone)
    ]
    return pb.CalendarEvent.Override(
        occurrence=occurrence_of(component, zone), start=times[0], end=times[1],
        cancelled=str(component.get("STATUS", "")).upper() == "CANCELLED",
        display_name=_words(component, "SUMMARY", 200), location=_words(component, "LOCATION", 300),
    )  # fmt: skip


@understood()
def occurrence_of(component: Any, zone: str) -> str:
    """The date of a series that a component is about, on the wall clock of the zone; empty for the series itself."""
    if component.get("RECURRENCE-ID") is None:
        return ""
    wall = _wall(component["RECURRENCE-ID"], zone)
    whole_days = not isinstance(component["RECURRENCE-ID"].dt, datetime)
    return wall.date().isoformat() if whole_days else wall.isoformat(timespec="minutes")


def _span(component: Any, zone: str) -> tuple[datetime, datetime]:
    """Start and end on the wall clock of the zone; the last day of whole days."""
    start = _wall(component["DTSTART"], zone)
    whole_days = not isinstance(component["DTSTART"].dt, datetime)
    if component.get("DTEND") is not None:
        end = _wall(component["DTEND"], zone)
    elif component.get("DURATION") is not None:
        end = start + component["DURATION"].dt
    else:
        end = start + (timedelta(days=1) if whole_days else timedelta(minutes=30))
    return (start, max(start, end - timedelta(days=1))) if whole_days else (start, end)


def _wall(item: Any, zone: str, holder: Any = None) -> datetime:
    found = item.dt
    if isinstance(found, tuple):
        raise recurrence.invalid("RDATE;VALUE=PERIOD", "RDATE;VALUE=PERIOD")
    if not isinstance(found, datetime):
        return recurrence.as_day(found)
    if found.tzinfo is not None:
        return recurrence.wall_clock(found, zone).replace(second=0)
    own = _zone(holder if holder is not None else item)
    wall = found.replace(second=0, microsecond=0)
    return wall if own == zone else recurrence.wall_clock(recurrence.instant(wall, own), zone)


def _zone(item: Any) -> str:
    """The zone of a property: its own, UTC, or ours for a time that floats. TIME_ZONE_UNKNOWN."""
    said = str(item.params.get("X-ZONE", "")).strip('"')
    if said:
        return recurrence.check_zone(WINDOWS_TO_OLSON.get(said, said))
    moment = getattr(item, "dt", None)
    return "UTC" if isinstance(moment, datetime) and moment.tzinfo is not None else DEFAULT_ZONE


def _words(component: Any, name: str, longest: int) -> str:
    found = component.get(name)
    return str(found[0] if isinstance(found, list) else found)[:longest] if found else ""
