"""Calendars: events, their dates as instants, whose time and which rooms they take."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any, cast
from uuid import UUID

import tzdata
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Validation, Violation
from crmkit.mapping import mapper, to_timestamp
from crmkit.resource import Resource
from sqlalchemy import (
    Boolean,
    Date,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
    delete,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.dialects.postgresql import insert as insert_new
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.base import Base
from workspace.model.employee import Employee
from workspace.model.names import check_names
from workspace.model.task import Task
from workspace.recurrence import DEFAULT_ZONE, Change, Occurrence, Series

AHEAD = timedelta(days=731)
MOST_ATTENDEES = 200
MOST_ROOMS = 10
LOOKED_AHEAD = timedelta(days=14)
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
ADDRESS = re.compile(r"[^@\s\"<>,;:]{1,64}@[a-z0-9.-]{1,253}")
NEEDS_ACTION, ACCEPTED, DECLINED, TENTATIVE = (
    pb.CalendarEvent.NEEDS_ACTION, pb.CalendarEvent.ACCEPTED, pb.CalendarEvent.DECLINED, pb.CalendarEvent.TENTATIVE,
)  # fmt: skip
SHOWN_CONFLICTS = 5
TIMES = frozenset(
    ["start", "end", "time_zone", "start_date", "end_date", "recurrence", "extra_dates", "except_dates", "overrides"]
)  # fmt: skip
# What who is invited from outside may say of it in the calendar here.
KEPT_BY_GUESTS = frozenset(["reminders", "links", "visibility", "availability", "minutes"])
PEOPLE = frozenset(["attendees", "owner", "availability", "kind"])


class CalendarInstance(Base):
    """One date of an event as instants."""

    __tablename__ = "calendar_instances"
    __table_args__ = (Index("calendar_instances_time_index", "start_time"),)

    event: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    occurrence: Mapped[str] = mapped_column(Text, primary_key=True)
    start_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    end_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    start_date: Mapped[date | None] = mapped_column(Date)
    end_date: Mapped[date | None] = mapped_column(Date)
    display_name: Mapped[str] = mapped_column(Text)
    location: Mapped[str] = mapped_column(Text)


class CalendarSlot(Base):
    """The time that one date of an event takes of one person; whole days in the person's own zone."""

    __tablename__ = "calendar_slots"
    __table_args__ = (Index("calendar_slots_person_index", "person", "end_time"),)

    event: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    occurrence: Mapped[str] = mapped_column(Text, primary_key=True)
    person: Mapped[str] = mapped_column(Text, primary_key=True)
    start_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    end_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    busy: Mapped[bool] = mapped_column(Boolean)


class RoomBooking(Base):
    """A room for the time of one date. The database lets no two overlap: a range of the room's hash stands for
    the room, for which no extension is needed."""

    __tablename__ = "room_bookings"
    __table_args__ = (
        ExcludeConstraint(
            (text("int8range(hashtextextended(room, 0), hashtextextended(room, 0), '[]')"), "&&"),
            ("during", "&&"),
            name="room_bookings_room_taken",
            using="gist",
        ),
    )

    event: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    occurrence: Mapped[str] = mapped_column(Text, primary_key=True)
    room: Mapped[str] = mapped_column(Text, primary_key=True)
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)


class CalendarEvent(Resource, Base):
    """Something that takes place. Who invites owns it; who comes collaborates."""

    __message__ = pb.CalendarEvent
    refers_by = ("links",)
    __table_args__ = (
        Index("calendar_events_uid_key", "owner", "uid", unique=True),
        Index("calendar_events_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
        Index("calendar_events_links_index", "links", postgresql_using="gin"),
        Index("calendar_events_worked_out_index", "worked_out_until"),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    start: Mapped[str]
    end: Mapped[str]
    time_zone: Mapped[str]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    recurrence: Mapped[str]
    extra_dates: Mapped[list[str]]
    except_dates: Mapped[list[str]]
    overrides: Mapped[Any]
    attendees: Mapped[Any]
    rooms: Mapped[list[str]]
    location: Mapped[str]
    agenda: Mapped[str]
    minutes: Mapped[str]
    links: Mapped[list[str]]
    visibility: Mapped[str]
    availability: Mapped[str]
    reminders: Mapped[Any]
    accept_conflicts: Mapped[bool]
    state: Mapped[str]
    uid: Mapped[str]
    sequence: Mapped[int]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    last_end_time: Mapped[datetime | None]
    source: Mapped[str]
    reason: Mapped[str]
    organizer: Mapped[str]
    # Until when the dates stand in the tables, and by which edition of the zones.
    worked_out_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    zone_edition: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # The address at which an organizer outside has invited the owner.
    invited_as: Mapped[str] = mapped_column(Text, server_default=text("''"))

    async def creating(self, call: Call) -> None:
        """Stands in the calendars of all who come, unless times collide."""
        if not call.caller.is_system:
            self.owner = call.caller.employee
        self.uid = self.uid or f"{self.id}@guanxi"
        self.state = self.state or "SCHEDULED"
        self._complete()
        if not self.organizer:
            self.attendees = [_invited(attendee, None) for attendee in self.attendees]
            self._share([])
        await self.put_into_calendars(call)
        self.accept_conflicts = False
        call.emit(events.CalendarEventScheduled, self, calendar_event=self.told())

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its organizer changes it; who was asked keeps the answer, unless the time changes."""
        if changed <= {"accept_conflicts"}:
            self.accept_conflicts = False
            return
        if not (self.organizer and self.owner == call.caller.employee and changed <= KEPT_BY_GUESTS):
            self.check_organizer(call)
        if "minutes" not in changed or changed != {"minutes"}:
            self.check_open()
        self._complete()
        old = _old(self, "attendees") if "attendees" in changed else self.attendees
        if "attendees" in changed:
            known = {who(attendee): attendee for attendee in old}
            self.attendees = [_invited(attendee, known.get(who(attendee))) for attendee in self.attendees]
            self._share(old)
        kept = {who(attendee) for attendee in self.attendees}
        removed = [attendee for attendee in old if who(attendee) not in kept]
        await self._changed(changed, removed, call)

    async def deleting(self, call: Call) -> None:
        """Leaves all calendars."""
        self.check_organizer(call)
        await self._clear(call)
        if self.state == "SCHEDULED":
            self.state = "CANCELLED"
            call.emit(events.CalendarEventCancelled, self, calendar_event=self.told())

    async def _changed(self, changed: frozenset[str], removed: Sequence[Any], call: Call) -> None:
        moved = bool(changed & TIMES)
        if moved:
            self.sequence += 1
            self.attendees = [_asked_again(attendee) for attendee in self.attendees]
        if changed & (TIMES | PEOPLE | {"rooms", "display_name", "location"}):
            await self.put_into_calendars(call)
            event = events.CalendarEventMoved if moved else events.CalendarEventScheduled
            call.emit(event, self, calendar_event=self.told(), removed=list(removed))
        self.accept_conflicts = False

    async def take(self, values: Mapping[str, Any], sequence: int, call: Call) -> None:
        """Becomes as another calendar of its owner's has it; others who come are told and asked again."""
        for key, value in values.items():
            setattr(self, key, value)
        self._complete()
        await self._changed(frozenset(values), [], call)
        self.sequence = max(self.sequence, sequence)
        if self.state == "CANCELLED":
            await self._clear(call)
            call.emit(events.CalendarEventCancelled, self, calendar_event=self.told())

    def check_organizer(self, call: Call) -> None:
        """Refuses whoever has not invited."""
        if not call.caller.is_system and (call.caller.employee != self.owner or self.organizer):
            raise PermissionDenied("NOT_THE_ORGANIZER")

    def check_open(self) -> None:
        """Refuses what is over or cancelled."""
        if self.state != "SCHEDULED":
            raise FailedPrecondition("EVENT_ENDED")

    def _complete(self) -> None:
        """Defaults, and what every event must be."""
        self.kind = self.kind or "MEETING"
        self.visibility = self.visibility or "PUBLIC"
        self.availability = self.availability or "TAKEN"
        self.time_zone = recurrence.check_zone(self.time_zone or DEFAULT_ZONE)
        check_names(self.links, "calendar_event.links")
        if len(self.attendees) > MOST_ATTENDEES or len(self.rooms) > MOST_ROOMS:
            field = "attendees" if len(self.attendees) > MOST_ATTENDEES else "rooms"
            raise Validation(
                Violation(f"calendar_event.{field}", "TOO_MANY", "数量过多", "There are too many.")
            )
        for index, attendee in enumerate(self.attendees):
            if sum(map(bool, (attendee.employee, attendee.contact, attendee.email))) != 1:
                problem = Violation(
                    f"calendar_event.attendees[{index}]", "WRONG_FORMAT", "请填写员工、联系人或邮箱之一",
                    "Give one of employee, contact and address.",
                )  # fmt: skip
                raise Validation(problem)
        if len({who(attendee) for attendee in self.attendees}) < len(self.attendees):
            raise Validation(
                Violation("calendar_event.attendees", "DUPLICATE", "参与人重复", "Somebody is named twice.")
            )

    def complete_draft(self) -> None:
        """What a form has not said yet; nobody is asked and nothing is stored."""
        self._complete()
        self.attendees = [_invited(attendee, None) for attendee in self.attendees]

    def _share(self, before: Sequence[Any]) -> None:
        """Who comes sees it."""
        left = {attendee.employee for attendee in before}
        coming = [attendee.employee for attendee in self.attendees if attendee.employee]
        kept = [name for name in self.collaborators if name not in left]
        self.collaborators = list(dict.fromkeys([*kept, *(name for name in coming if name != self.owner)]))

    @property
    def series(self) -> Series:
        """When it takes place. Validation, RECURRENCE_INVALID."""
        whole_days = self.start_date is not None
        if whole_days == bool(self.start):
            field = "calendar_event.start"
            raise Validation(
                Violation(field, "REQUIRED", "请填写开始时间或开始日期", "Give a start or a first day.")
            )
        if self.start_date is not None:
            start, end = (
                recurrence.as_day(self.start_date),
                recurrence.as_day(self.end_date or self.start_date),
            )
        else:
            start = recurrence.parse(self.start, False, "calendar_event.start")
            end = recurrence.parse(self.end, False, "calendar_event.end")
        recurrence.check_order(
            start, end, whole_days, "calendar_event.end_date" if whole_days else "calendar_event.end"
        )

        def dates(texts: Iterable[str], field: str) -> tuple[datetime, ...]:
            return tuple(recurrence.parse(found, whole_days, f"calendar_event.{field}") for found in texts)

        return Series(
            start, end, self.time_zone, whole_days, self.recurrence, dates(self.extra_dates, "extra_dates"),
            dates(self.except_dates, "except_dates"),
        )  # fmt: skip

    @property
    def repeats(self) -> bool:
        """True where it has more than one date."""
        return bool(self.recurrence or self.extra_dates)

    def changes(self) -> dict[str, Change]:
        """What single dates have of their own."""
        return {
            found.occurrence: Change(
                found.cancelled, found.start, found.end, found.display_name, found.location
            )
            for found in self.overrides
        }

    def occurrences(self, until: datetime) -> list[Occurrence]:
        """Its dates up to a wall-clock time, cancelled ones too."""
        return self.series.occurrences(until, self.changes())

    def people(self) -> list[str]:
        """The employees whose time it takes."""
        coming = [found.employee for found in self.attendees if found.employee and found.response != DECLINED]
        return list(dict.fromkeys(filter(None, coming if self.organizer else [self.owner, *coming])))

    def _dates(self, call: Call) -> tuple[datetime, list[Any]]:
        """Until when dates are worked out, and those that take place."""
        until = max(call.now + AHEAD, recurrence.instant(self.series.start, self.time_zone))
        return until, [found for found in self.occurrences(until.replace(tzinfo=None)) if not found.cancelled]

    async def put_into_calendars(self, call: Call, check: bool = True) -> None:
        """Works its dates out, two years ahead. SCHEDULE_CONFLICT, ROOM_TAKEN."""
        until, dates = self._dates(call)
        if not dates:
            raise recurrence.invalid("没有任何一次", "it never takes place")
        spans = [found.span() for found in dates]
        (self.start_time, self.end_time), self.last_end_time = spans[0], max(end for _, end in spans)
        self.worked_out_until = until if self.repeats else None
        self.zone_edition = zone_edition()
        await self._clear(call)
        if self.state != "SCHEDULED":
            return
        busy = self.availability == "TAKEN"
        zones = await zones_of(self.people(), call)
        slots = [
            {"event": self.id, "occurrence": found.key, "person": person, "start_time": begin, "end_time": end, "busy": busy}
            for person in zones
            for found in dates
            for begin, end in [found.span(zones[person])]
        ]  # fmt: skip
        if check and busy and not call.caller.is_system:
            await self._check_conflicts(slots, call)
        await self._book(dates, spans, call)
        await call.db.execute(
            insert(_INSTANCES), [self._instance(f, s) for f, s in zip(dates, spans, strict=True)]
        )
        if slots:
            await call.db.execute(insert(_SLOTS), slots)

    def _instance(self, found: Occurrence, span: tuple[datetime, datetime]) -> dict[str, Any]:
        return {
            "event": self.id, "occurrence": found.key, "start_time": span[0], "end_time": span[1],
            "start_date": found.start.date() if found.whole_days else None,
            "end_date": found.end.date() if found.whole_days else None,
            "display_name": found.display_name, "location": found.location,
        }  # fmt: skip

    async def _check_conflicts(self, slots: Sequence[dict[str, Any]], call: Call) -> None:
        if self.accept_conflicts and not strict(self.kind, call):
            return
        found = await conflicts(self.id, slots, call)
        if found:
            words = [await conflict.words(self.time_zone, call) for conflict in found[:SHOWN_CONFLICTS]]
            more = f" … (+{len(found) - SHOWN_CONFLICTS})" if len(found) > SHOWN_CONFLICTS else ""
            raise FailedPrecondition("SCHEDULE_CONFLICT", conflicts="; ".join(words) + more, count=len(found))

    async def _book(
        self, dates: Sequence[Occurrence], spans: Sequence[tuple[datetime, datetime]], call: Call
    ) -> None:
        """Takes the rooms. In one order, so that two who want the same rooms cannot wait for each other."""
        for room in sorted(set(self.rooms)):
            rows = [
                {"event": self.id, "occurrence": found.key, "room": room, "during": Range(*span)}
                for found, span in zip(dates, spans, strict=True)
            ]
            taken = insert_new(_BOOKINGS).on_conflict_do_nothing().returning(_BOOKINGS.c.occurrence)
            booked = set((await call.db.execute(taken, rows)).scalars())
            missing = next((f for f in dates if f.key not in booked), None)
            if missing is not None:
                raise FailedPrecondition("ROOM_TAKEN", room=room, time=missing.key)

    async def _clear(self, call: Call) -> None:
        for table in (_INSTANCES, _SLOTS, _BOOKINGS):
            await call.db.execute(delete(table).where(table.c.event == self.id))

    def told(self) -> pb.CalendarEvent:
        """What facts tell: of events that are not public only when, whose and what kind."""
        message = cast("pb.CalendarEvent", mapper(CalendarEvent).message(self))
        hidden = {
            "PUBLIC": (),
            "BUSY": ("display_name", "location", "agenda", "minutes", "overrides"),
        }.get(
            self.visibility, ("display_name", "location", "agenda", "minutes", "overrides", "links", "rooms")
        )
        for field in hidden:
            message.ClearField(field)
        return message

    async def respond(self, person: str, response: int, comment: str, call: Call) -> None:
        """Somebody who was asked answers. NOT_INVITED, EVENT_ENDED."""
        self.check_open()
        if response not in (ACCEPTED, DECLINED, TENTATIVE):
            raise Validation(Violation("response", "UNKNOWN_VALUE", "请选择回复", "Choose an answer."))
        if not any(who(attendee) == person for attendee in self.attendees):
            raise PermissionDenied("NOT_INVITED")
        answered: list[Any] = []
        for attendee in self.attendees:
            answer = pb.CalendarEvent.Attendee()
            answer.CopyFrom(attendee)
            if who(attendee) == person:
                answer.response, answer.comment = cast("Any", response), comment
                answer.response_time.CopyFrom(to_timestamp(call.now))
            answered.append(answer)
        self.attendees = answered
        await self.put_into_calendars(call, check=False)

    async def cancel(self, range: str, occurrence: str, reason: str, call: Call) -> None:
        """Takes all dates, one, or one and those behind it out; where no date is left, the whole is over."""
        self.check_organizer(call)
        self.check_open()
        left = (
            [found.key for found in self._dates(call)[1] if found.key != occurrence] if self.repeats else []
        )
        if range == "ONE" and left:
            await self._change_one(
                occurrence, pb.CalendarEvent.Override(occurrence=occurrence, cancelled=True), call
            )
            call.emit(events.CalendarEventCancelled, self, calendar_event=self.told(), occurrence=occurrence)
        elif range == "FOLLOWING" and any(key < occurrence for key in left):
            self._end_before(occurrence)
            self.sequence += 1
            await self.put_into_calendars(call, check=False)
            call.emit(events.CalendarEventMoved, self, calendar_event=self.told())
        else:
            self.state, self.reason = "CANCELLED", reason
            self.sequence += 1
            await self._clear(call)
            call.emit(events.CalendarEventCancelled, self, calendar_event=self.told())

    async def move(self, occurrence: str, start: str, end: str, accept_conflicts: bool, call: Call) -> None:
        """Moves all, or one date alone; the others of the series stay where they are."""
        self.check_organizer(call)
        self.check_open()
        self.accept_conflicts = accept_conflicts
        if occurrence and self.repeats:
            moved = pb.CalendarEvent.Override(occurrence=occurrence, start=start, end=end)
            await self._change_one(occurrence, moved, call)
        else:
            self._set_times(start, end)
            self.sequence += 1
            self.attendees = [_asked_again(attendee) for attendee in self.attendees]
            await self.put_into_calendars(call)
        self.accept_conflicts = False
        call.emit(events.CalendarEventMoved, self, calendar_event=self.told())

    async def _change_one(self, occurrence: str, change: Any, call: Call) -> None:
        self._check_occurrence(occurrence)
        before = next((found for found in self.overrides if found.occurrence == occurrence), None)
        if before is not None and not change.cancelled:
            change.display_name, change.location = before.display_name, before.location
        self.overrides = [*(found for found in self.overrides if found.occurrence != occurrence), change]
        self.sequence += 1
        await self.put_into_calendars(call)

    def _check_occurrence(self, occurrence: str) -> datetime:
        series = self.series
        start = recurrence.parse(occurrence, series.whole_days, "occurrence")
        if start not in series.starts(recurrence.FOREVER):
            raise FailedPrecondition("OCCURRENCE_UNKNOWN", occurrence=occurrence)
        return start

    def _set_times(self, start: str, end: str) -> None:
        """New times of the whole: what the series leaves out and what differs moves with it."""
        old = self.series
        whole_days = old.whole_days
        begin, finish = (recurrence.parse(found, whole_days, "start") for found in (start, end))
        recurrence.check_order(begin, finish, whole_days, "end")
        shift, days = begin - old.start, (begin.date() - old.start.date()).days

        def moved(key: str) -> str:
            return old.key(recurrence.parse(key, whole_days, "") + shift)

        if whole_days:
            self.start_date, self.end_date = begin.date(), finish.date()
        else:
            self.start, self.end = start, end
        if shift:
            self.extra_dates, self.except_dates = (
                [moved(key) for key in keys] for keys in (self.extra_dates, self.except_dates)
            )
            changed = [pb.CalendarEvent.Override(occurrence=moved(found.occurrence), cancelled=found.cancelled,
                       start=found.start, end=found.end, display_name=found.display_name, location=found.location)
                       for found in self.overrides]  # fmt: skip
            self.overrides = changed
            if self.recurrence:
                self.recurrence = _shifted(self.recurrence, shift, days, whole_days)

    def _end_before(self, occurrence: str) -> None:
        """Leaves the dates before one."""
        first = self._check_occurrence(occurrence)
        series = self.series

        def earlier(key: str) -> bool:
            return recurrence.parse(key, series.whole_days, "") < first

        last = first - timedelta(minutes=1)
        until = last.strftime("%Y%m%d" if series.whole_days else "%Y%m%dT%H%M%S")
        if self.recurrence:
            self.recurrence = recurrence.write_rule(self.recurrence, COUNT="", UNTIL=until)
        self.extra_dates = [key for key in self.extra_dates if earlier(key)]
        self.except_dates = [key for key in self.except_dates if earlier(key)]
        self.overrides = [found for found in self.overrides if earlier(found.occurrence)]

    async def split(self, occurrence: str, call: Call) -> "CalendarEvent":
        """Ends here before a date; a new series begins there with the same people, rooms and rule."""
        self.check_organizer(call)
        self.check_open()
        first, series = self._check_occurrence(occurrence), self.series
        if not self.recurrence or first == series.start:
            raise recurrence.invalid("第一次之前不能拆分", "a series is split behind its first date")
        by_rule = replace(series, extra=(), left_out=()).starts(recurrence.FOREVER)
        if first not in by_rule:
            raise recurrence.invalid("该次不在规则内", "the date is not one of the rule's")
        rule = self.recurrence
        if "COUNT" in recurrence.read_rule(rule):
            rule = recurrence.write_rule(rule, COUNT=str(sum(start >= first for start in by_rule)))

        def later(keys: Iterable[str]) -> list[str]:
            return [key for key in keys if recurrence.parse(key, series.whole_days, "") >= first]

        copied = {
            name: getattr(self, name)
            for name in ("display_name", "kind", "time_zone", "rooms", "location", "agenda", "links", "visibility",
                         "availability", "reminders", "attendees", "owner", "department")
        }  # fmt: skip
        new = CalendarEvent(
            **copied, recurrence=rule, extra_dates=later(self.extra_dates), except_dates=later(self.except_dates),
            overrides=[found for found in self.overrides if later([found.occurrence])], accept_conflicts=True,
        )  # fmt: skip
        end = first + (series.end - series.start)
        if series.whole_days:
            new.start_date, new.end_date = first.date(), end.date()
        else:
            new.start, new.end = series.key(first), series.key(end)
        self._end_before(occurrence)
        self.sequence += 1
        await self.put_into_calendars(call, check=False)
        call.emit(events.CalendarEventMoved, self, calendar_event=self.told())
        return await call.add(new)

    async def rest(self, call: Call) -> "CalendarEvent":
        """What is to come of it, as a series of its own where dates are over and the rule lets it be split."""
        later = [found.key for found in self._dates(call)[1] if found.span()[0] > call.now]
        begun = self.start_time is not None and self.start_time <= call.now
        if not (self.recurrence and begun and later):
            return self
        try:
            return await self.split(later[0], call)
        except InvalidArgument:
            return self

    async def hand_over(self, heir: Employee, call: Call) -> None:
        """Somebody else invites from now on; who comes is told."""
        leaver, before = self.owner, self.attendees
        self.owner, self.department = heir.name, heir.department
        self.attendees = [one for one in before if one.employee not in (heir.name, leaver)]
        self._share(before)
        self.sequence += 1
        await self.put_into_calendars(call, check=False)
        call.emit(events.CalendarEventScheduled, self, calendar_event=self.told())

    async def complete(self, minutes: str, action_items: Sequence[Any], call: Call) -> None:
        """Has taken place; what is to be done becomes tasks."""
        self.check_organizer(call)
        self.check_state("SCHEDULED")
        self.state, self.minutes = "DONE", minutes or self.minutes
        for action in action_items:
            due = action.due_time.ToDatetime(UTC) if action.HasField("due_time") else None
            owner = action.owner or call.caller.employee
            await call.add(
                Task(display_name=action.display_name, owner=owner, due_time=due, links=[self.name])
            )


@dataclass(frozen=True)
class Conflict:
    """A time that is taken: whose or which room, and by what."""

    person: str
    room: str
    start: datetime
    end: datetime
    occurrence: str
    event: UUID

    async def title(self, call: Call) -> str:
        """By what, where the caller may know; else nothing."""
        event = await call.find(CalendarEvent, CalendarEvent.id == self.event)
        return event.display_name if event is not None and shows(event, self.person, call) else ""

    async def words(self, zone: str, call: Call) -> str:
        """Who or what is taken when, by what."""
        entry = call.entry(self.person)
        start, end = (recurrence.wall_clock(moment, zone) for moment in (self.start, self.end))
        until = end.strftime("%H:%M" if end.date() == start.date() else "%m-%d %H:%M")
        title = await self.title(call) or call.text("忙碌", "busy")
        return f"{self.room or entry.get('displayName', '')} {start:%Y-%m-%d %H:%M}–{until} {title}"


async def conflicts(event: UUID | None, slots: Sequence[dict[str, Any]], call: Call) -> list[Conflict]:
    """What else takes the time of the same people; an event never collides with its own earlier version."""
    mine: dict[str, list[tuple[datetime, datetime, str]]] = {}
    for slot in slots:
        mine.setdefault(slot["person"], []).append((slot["start_time"], slot["end_time"], slot["occurrence"]))
    if not mine:
        return []
    others = select(_SLOTS.c.person, _SLOTS.c.start_time, _SLOTS.c.end_time, _SLOTS.c.event).where(
        _SLOTS.c.person.in_(mine),
        _SLOTS.c.busy,
        _SLOTS.c.event != event,
        _SLOTS.c.end_time > min(slot["start_time"] for slot in slots),
        _SLOTS.c.start_time < max(slot["end_time"] for slot in slots),
    )
    theirs: dict[str, list[tuple[datetime, datetime, UUID]]] = {}
    for person, start, end, other in await call.db.execute(others):
        theirs.setdefault(person, []).append((start, end, other))
    found = [
        Conflict(person, "", start, end, key, other)
        for person, taken in theirs.items()
        for key, start, end, other in recurrence.colliding(sorted(mine[person]), taken)
    ]
    return sorted(found, key=lambda conflict: (conflict.start, conflict.person))


async def room_conflicts(event: CalendarEvent, dates: Sequence[Occurrence], call: Call) -> list[Conflict]:
    """Who else has the rooms at the times of the event."""
    if not event.rooms or not dates:
        return []
    spans = sorted((*found.span(), found.key) for found in dates)
    window = Range(spans[0][0], max(end for _, end, _ in spans))
    taken = select(_BOOKINGS.c.room, _BOOKINGS.c.during, _BOOKINGS.c.event).where(
        _BOOKINGS.c.room.in_(event.rooms), _BOOKINGS.c.event != event.id, _BOOKINGS.c.during.overlaps(window)
    )
    others = [(d.lower, d.upper, (room, other)) for room, d, other in await call.db.execute(taken)]
    found = recurrence.colliding(spans, cast("Any", others))
    return [Conflict("", room, start, end, key, other) for key, start, end, (room, other) in found]


async def free_slots(event: CalendarEvent, call: Call, wanted: int = 3) -> list[tuple[datetime, datetime]]:
    """The next times within two weeks, in working hours of the event's zone, that are free for all and all rooms."""
    series, zone = event.series, event.time_zone
    length = series.end - series.start
    first = max(recurrence.instant(series.start, zone), call.now)
    last = first + LOOKED_AHEAD
    busy = select(_SLOTS.c.start_time, _SLOTS.c.end_time).where(
        _SLOTS.c.person.in_(event.people()), _SLOTS.c.busy, _SLOTS.c.event != event.id, _SLOTS.c.end_time > first,
        _SLOTS.c.start_time < last,
    )  # fmt: skip
    taken = select(_BOOKINGS.c.during).where(
        _BOOKINGS.c.room.in_(event.rooms), _BOOKINGS.c.event != event.id, _BOOKINGS.c.during.overlaps(Range(first, last))
    )  # fmt: skip
    blocked = [(start, end) for start, end in await call.db.execute(busy)]
    blocked += [(cast("Any", d).lower, cast("Any", d).upper) for d in await call.db.scalars(taken)]
    found: list[tuple[datetime, datetime]] = []
    step = timedelta(days=1) if series.whole_days else timedelta(minutes=30)
    wall = recurrence.wall_clock(first, zone).replace(second=0, microsecond=0)
    wall = (
        wall.replace(hour=0, minute=0) if series.whole_days else wall.replace(minute=wall.minute // 30 * 30)
    )
    while len(found) < wanted and recurrence.instant(wall, zone) < last:
        span = Occurrence("", wall, wall + length, zone, series.whole_days).span()
        fits = span[0] >= first and _working(wall, wall + length, series.whole_days)
        if fits and not any(recurrence.overlaps(span, other) for other in blocked):
            found.append(span)
            wall += max(length, step) - step
        wall += step
    return found


def _working(start: datetime, end: datetime, whole_days: bool) -> bool:
    """True within Monday to Friday, nine to six; whole days and what takes longer may lie anywhere."""
    if start.weekday() > 4:
        return False
    if whole_days or end - start > timedelta(hours=9):
        return True
    return start.hour >= 9 and end <= start.replace(hour=18, minute=0)


def shows(event: CalendarEvent, person: str, call: Call) -> bool:
    """True where the caller may know what takes the person's time: who takes part, and whoever's scope covers
    the person where the event is public."""
    me = call.caller.employee
    if call.caller.is_system or (me and (me == event.owner or me in event.collaborators)):
        return True
    return event.visibility == "PUBLIC" and oversees(person or event.owner, call)


def oversees(person: str, call: Call) -> bool:
    """True where the caller's data scope covers the department of an employee."""
    if call.caller.account or not call.caller.employee:
        return False
    entry = call.entry(person)
    reach = call.caller.reach("calendarEvents")
    return reach.everything or entry.get("department", "") in reach.departments or person in reach.owners


def strict(kind: str, call: Call) -> bool:
    """True for kinds of events that the company does not let collide: entries of the dictionary strictEventKinds."""
    entry: dict[str, Any] = call.config("dictionary.strictEventKinds") or {}
    return any(found.get("key") == kind and not found.get("retired") for found in entry.get("entries", ()))


async def zones_of(people: Sequence[str], call: Call) -> dict[str, str]:
    """The zone of each of the people."""
    keys = [UUID(name.rpartition("/")[2]) for name in people]
    async with call.everybody():
        found = await call.db.execute(select(Employee.id, Employee.time_zone).where(Employee.id.in_(keys)))
        zones = {f"employees/{key}": zone for key, zone in found}
    known = recurrence.zones()
    return {name: zones[name] if zones.get(name) in known else DEFAULT_ZONE for name in people}


def zone_edition() -> str:
    """The edition of the zone data that dates are worked out by."""
    return tzdata.IANA_VERSION


def who(attendee: Any) -> str:
    """What tells one of those who come from the others."""
    return attendee.employee or attendee.contact or attendee.email.strip().lower()


def _invited(attendee: Any, known: Any) -> Any:
    """Somebody who is asked: with the answer that there is already."""
    fresh = pb.CalendarEvent.Attendee(
        employee=attendee.employee, contact=attendee.contact, email=attendee.email.strip().lower(),
        display_name=attendee.display_name, optional=attendee.optional, response=NEEDS_ACTION,
    )  # fmt: skip
    if fresh.email and not ADDRESS.fullmatch(fresh.email):
        raise Validation(
            Violation("calendar_event.attendees", "WRONG_FORMAT", "邮箱无效", "This is no mail address.")
        )
    if known is not None and known.response != NEEDS_ACTION:
        fresh.response, fresh.comment = known.response, known.comment
        fresh.response_time.CopyFrom(known.response_time)
    return fresh


def _asked_again(attendee: Any) -> Any:
    """Another time wants another answer; who has declined is asked again too."""
    return _invited(attendee, None)


def _old(event: CalendarEvent, field: str) -> list[Any]:
    history = inspect(event).attrs[field].history
    return list(chain.from_iterable(history.deleted or ()))


def _shifted(rule: str, shift: timedelta, days: int, whole_days: bool) -> str:
    """The rule of a series that moves as a whole: weekdays turn, the end moves; other days cannot."""
    parts = recurrence.read_rule(rule)
    if until := parts.get("UNTIL", ""):
        last = recurrence.read_until(until, "UTC") + shift
        parts["UNTIL"] = last.strftime("%Y%m%d" if whole_days or len(until) == 8 else "%Y%m%dT%H%M%S")
    if days % 7 and "BYDAY" in parts and parts["FREQ"] == "WEEKLY":
        parts["BYDAY"] = ",".join(
            WEEKDAYS[(WEEKDAYS.index(day) + days) % 7] for day in parts["BYDAY"].split(",")
        )
    elif (
        days
        and parts.keys() & {"BYDAY", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYMONTH"}
        and parts["FREQ"] != "WEEKLY"
    ):
        raise recurrence.invalid(
            "请修改重复规则后再改期", "change the rule to move the series to another day"
        )
    return ";".join(f"{key}={value}" for key, value in parts.items())


async def extend(call: Call) -> None:
    """Works out the dates of series that have come nearer than two years, and those of older zone data."""
    soon = (CalendarEvent.worked_out_until < call.now + AHEAD) & (
        CalendarEvent.last_end_time > call.now - AHEAD
    )
    old = CalendarEvent.zone_edition != zone_edition()
    waiting = select(CalendarEvent).where(CalendarEvent.state == "SCHEDULED", soon | old)
    async for row in await call.db.stream_scalars(waiting.execution_options(yield_per=200)):
        await row.put_into_calendars(call, check=False)


_INSTANCES, _SLOTS, _BOOKINGS = (
    cast("Table", table.__table__) for table in (CalendarInstance, CalendarSlot, RoomBooking)
)
