"""The methods of calendars."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from crmkit.mapping import mapper, to_timestamp
from crmkit.standard import Standard
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import Range

from workspace import ical, invited
from workspace.model.calendar import (
    AHEAD,
    CalendarEvent,
    CalendarInstance,
    CalendarSlot,
    RoomBooking,
    conflicts,
    free_slots,
    oversees,
    room_conflicts,
    shows,
    strict,
    who,
    zones_of,
)
from workspace.model.calendar_account import CalendarAccount
from workspace.model.calendar_feed import CalendarFeed
from workspace.model.employee import Employee

LONGEST_RANGE = timedelta(days=400)
MOST_PEOPLE = 100
MOST_INSTANCES = 20_000
SHOWN = 50


class CalendarMethods:
    """Events, conflicts, who has time when, feeds and files of other calendars."""

    calendar_events = Standard(CalendarEvent)
    calendar_feeds = Standard(CalendarFeed)
    calendar_accounts = Standard(CalendarAccount)

    async def RespondCalendarEvent(
        self, request: pb.RespondCalendarEventRequest, call: Call
    ) -> CalendarEvent:
        event = await call.load(CalendarEvent, request)
        await event.respond(call.caller.employee, request.response, request.comment, call)
        if event.organizer:
            await invited.answer(event, request.response, request.comment, call)
        return event

    async def CheckConflicts(self, request: pb.CheckConflictsRequest, call: Call) -> dict[str, Any]:
        event = await _draft(request.calendar_event, call)
        until = (call.now + AHEAD).replace(tzinfo=None)
        dates = [found for found in event.occurrences(max(until, event.series.start)) if not found.cancelled]
        zones = await zones_of(event.people(), call)
        slots = [
            {"person": person, "start_time": span[0], "end_time": span[1], "occurrence": found.key}
            for person in zones
            for found in dates
            for span in [found.span(zones[person])]
        ]
        rooms = await room_conflicts(event, dates, call)
        found = rooms if event.availability == "FREE" else [*rooms, *await conflicts(event.id, slots, call)]
        told = [
            pb.TimeConflict(
                employee=conflict.person, room=conflict.room, start_time=to_timestamp(conflict.start),
                end_time=to_timestamp(conflict.end), display_name=await conflict.title(call),
                occurrence=conflict.occurrence,
            )
            for conflict in found[:SHOWN]
        ]  # fmt: skip
        free = await free_slots(event, call) if found else []
        return {
            "conflicts": told,
            "free_slots": [
                pb.FreeSlot(start_time=to_timestamp(a), end_time=to_timestamp(b)) for a, b in free
            ],
            "acceptable": not rooms and not (found and strict(event.kind, call)),
        }

    async def QueryCalendar(self, request: pb.QueryCalendarRequest, call: Call) -> dict[str, Any]:
        begin, finish = request.from_time.ToDatetime(UTC), request.to_time.ToDatetime(UTC)
        if not begin < finish <= begin + LONGEST_RANGE:
            raise InvalidArgument("MALFORMED", detail="from_time, to_time")
        people = await _asked(request, call)
        found: list[pb.CalendarInstance] = []
        async with call.everybody():
            slot = select(
                CalendarSlot.event, CalendarSlot.occurrence, CalendarSlot.person, CalendarSlot.start_time,
                CalendarSlot.end_time, CalendarSlot.busy,
            ).where(CalendarSlot.person.in_(people), CalendarSlot.end_time > begin, CalendarSlot.start_time < finish)  # fmt: skip
            taken = select(
                RoomBooking.event, RoomBooking.occurrence, RoomBooking.room, RoomBooking.during
            ).where(RoomBooking.room.in_(request.rooms), RoomBooking.during.overlaps(Range(begin, finish)))
            slots = (
                await call.db.execute(slot.order_by(CalendarSlot.start_time).limit(MOST_INSTANCES + 1))
            ).all()
            booked = (await call.db.execute(taken.limit(MOST_INSTANCES + 1))).all() if request.rooms else []
            if max(len(slots), len(booked)) > MOST_INSTANCES:
                raise ResourceExhausted("TOO_LARGE", limit=MOST_INSTANCES)
            keys = {row.event for row in (*slots, *booked)}
            rows = await call.db.scalars(select(CalendarEvent).where(CalendarEvent.id.in_(keys)))
            known = {event.id: event for event in rows}
            # Plain rows: a month of a team has thousands.
            dates = select(
                CalendarInstance.event, CalendarInstance.occurrence, CalendarInstance.start_date, CalendarInstance.end_date,
                CalendarInstance.display_name, CalendarInstance.location,
            ).where(
                CalendarInstance.event.in_(keys),
                CalendarInstance.end_time > begin - timedelta(days=2),
                CalendarInstance.start_time < finish + timedelta(days=2),
            )  # fmt: skip
            instances = {(date.event, date.occurrence): date for date in await call.db.execute(dates)}
        views = _Views(known, request.link, call)
        for row in slots:
            if told := views.told(
                row.event, instances.get((row.event, row.occurrence)), row.occurrence, row.person, ""
            ):
                told.busy = row.busy
                _span(told, row.start_time, row.end_time)
                found.append(told)
        for row in booked:
            if told := views.told(
                row.event, instances.get((row.event, row.occurrence)), row.occurrence, "", row.room
            ):
                told.busy = True
                _span(told, row.during.lower, row.during.upper)
                found.append(told)
        found.sort(key=lambda instance: (instance.start_time.seconds, instance.employee, instance.room))
        return {"instances": found}

    async def ImportCalendar(self, request: pb.ImportCalendarRequest, call: Call) -> dict[str, Any]:
        return await ical.bring_in(request.content, call)

    async def CreateCalendarFeed(self, request: pb.CreateCalendarFeedRequest, call: Call) -> Any:
        feed: Any = await self.calendar_feeds.create(request, call)
        answer: Any = mapper(CalendarFeed).message(feed)
        answer.path = feed.shown
        return answer

    async def ReadCalendarFeed(self, request: pb.ReadCalendarFeedRequest, call: Call) -> dict[str, Any]:
        feed = await CalendarFeed.of(request.secret, call)
        person = call.entry(feed.owner) if feed else None
        if feed is None or not person or person.get("disabled"):
            raise NotFound()
        return {"content": await ical.feed(feed, str(person.get("displayName", "")), call)}


async def _asked(request: pb.QueryCalendarRequest, call: Call) -> Sequence[str]:
    """Whose calendars are asked for."""
    if call.caller.account or not call.caller.employee:
        raise PermissionDenied("PERMISSION_DENIED", permission="workspace.calendarEvents.read")
    if not request.team:
        if len(request.employees) > MOST_PEOPLE:
            raise ResourceExhausted("TOO_LARGE", limit=MOST_PEOPLE)
        return list(request.employees) or ([] if request.rooms else [call.caller.employee])
    # Of a large company those who report to the caller come first, then who has been there longest.
    nearest = (Employee.superior != call.caller.employee, Employee.id)
    working = select(Employee.id).where(Employee.state == "ACTIVE").order_by(*nearest)
    async with call.everybody():
        names = [f"employees/{key}" for key in await call.db.scalars(working)]
    covered = [name for name in names if name == call.caller.employee or oversees(name, call)]
    return covered[:MOST_PEOPLE]


class _Views:
    """What the caller may know of events; looked at once for each event and person."""

    def __init__(self, known: Mapping[UUID, CalendarEvent], link: str, call: Call) -> None:
        self._known, self._link, self._call = known, link, call
        self._views: dict[tuple[UUID, str, str], pb.CalendarInstance | None] = {}

    def told(
        self, key: UUID, date: Any, occurrence: str, person: str, room: str
    ) -> pb.CalendarInstance | None:
        """What the caller may know of a date; None where it is not asked for."""
        if (key, person, room) not in self._views:
            self._views[key, person, room] = self._view(self._known[key], person, room)
        view = self._views[key, person, room]
        if view is None:
            return None
        told = pb.CalendarInstance()
        told.CopyFrom(view)
        if date is not None and date.start_date and date.end_date:
            told.start_date, told.end_date = date.start_date.isoformat(), date.end_date.isoformat()
        if told.event:
            told.occurrence = occurrence
            if date is not None:
                told.display_name = date.display_name or told.display_name
                told.location = date.location or told.location
        return told

    def _view(self, event: CalendarEvent, person: str, room: str) -> pb.CalendarInstance | None:
        shown = shows(event, person, self._call)
        if self._link and not (shown and self._link in event.links):
            return None
        told = pb.CalendarInstance(employee=person, room=room)
        if shown:
            told.event, told.series = event.name, event.repeats
            told.display_name, told.location = event.display_name, event.location
            told.kind = cast("Any", pb.CalendarEvent.Kind.Value(event.kind))
            told.state = cast("Any", pb.CalendarEvent.State.Value(event.state))
            told.response = next((a.response for a in event.attendees if who(a) == person), told.response)
        return told


def _span(told: pb.CalendarInstance, start: datetime, end: datetime) -> None:
    told.start_time.seconds, told.end_time.seconds = int(start.timestamp()), int(end.timestamp())


async def _draft(message: pb.CalendarEvent, call: Call) -> CalendarEvent:
    """The event of a form, not stored; with the id of what is stored where it names that."""
    event = CalendarEvent()
    if message.name:
        stored = await call.load(CalendarEvent, message.name, lock=False)
        stored.check_organizer(call)
        event.id = stored.id
    names = [
        name for name in CalendarEvent.described.fields if name not in {"name", "display_name", "custom"}
    ]
    mapper(CalendarEvent).assign(event, message, names, new=True, prefix="calendar_event")
    await call.check_references(message, "calendar_event", ["attendees"])
    event.owner = call.caller.employee
    event.complete_draft()
    return event
