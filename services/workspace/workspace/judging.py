"""What facts show of people and a rule of use, from one day to another. Nothing is written here."""

import json
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.handing import OVER
from crmkit.listing import ZONE
from crmkit.mapping import read_date
from crmkit.workdays import working_days
from sqlalchemy import func, select

from workspace import recurrence
from workspace.holidays import works
from workspace.model.audit import AuditEntry
from workspace.model.calendar import CalendarEvent, CalendarSlot, zones_of
from workspace.model.employee import Employee
from workspace.model.known_record import KnownRecord
from workspace.model.usage import UsageRule
from workspace.model.usage_facts import WATCHED, Progress, UsageDay
from workspace.model.work_record import WorkDone
from workspace.periods import Span, span

DAY = timedelta(days=1)
# A record that was made on this day of the month or later has its first month still before it.
MADE_BEFORE = 25
REPEATED = 3
Kind = pb.UsageFinding.Evidence.Kind
Evidence = pb.UsageFinding.Evidence


@dataclass(frozen=True)
class Person:
    """Somebody of whom a rule speaks, and since when there is something to be seen."""

    name: str
    department: str
    since: date


@dataclass
class Judgement:
    """One period in which somebody has not kept the rule, or with a reward has."""

    employee: str
    first: date
    last: date
    evidence: list[Any] = field(default_factory=list[Any])


async def judge(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    """All that is found in the days from first to last, both looked at."""
    if not people:
        return []
    look = _LOOKS[rule.kind]
    if rule.outcome != "REWARD":
        return await look(rule, people, first, last, call)
    kept: list[Judgement] = []
    for month in _months(first, last):
        there = [person for person in people if person.since < month.first]
        missed = (
            {one.employee for one in await look(rule, there, month.first, month.last, call)}
            if there
            else set()
        )
        kept += [
            Judgement(
                person.name, month.first, month.last, [Evidence(kind=Kind.KEPT, day=month.last.isoformat())]
            )
            for person in there
            if person.name not in missed
        ]
    return kept


async def _logins(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    monday = first - timedelta(days=first.weekday())
    acted = await _days_of(people, monday, last, call)
    leave = await _away(people, "LEAVE", monday, last, call)
    travel = await _away(people, "TRAVEL", monday, last, call)
    found: list[Judgement] = []
    for person in people:
        mine, gone, away = acted[person.name], leave[person.name], travel[person.name]
        at_work = works(person.department, call)
        for day in _each(max(first, person.since), last):
            if not at_work(day) or day in mine | gone | away:
                continue
            said = Evidence(kind=Kind.NO_LOGIN, day=day.isoformat())
            found.append(Judgement(person.name, day, day, [said]))
        for week in _weeks(max(first, person.since), last):
            days = set(_each(week.first, week.last))
            missed = sorted(day for day in (away - gone - mine) & days if at_work(day))
            if missed and len(mine & days) < rule.travel_threshold:
                said = [Evidence(kind=Kind.NO_LOGIN, day=day.isoformat()) for day in missed]
                found.append(Judgement(person.name, week.first, week.last, said))
    return found


async def _silences(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    acted = await _days_of(people, None, last, call)
    leave = await _away(people, "LEAVE", first - timedelta(days=366), last, call)
    found: list[Judgement] = []
    for person in people:
        seen = [day for day in sorted(acted[person.name]) if day >= person.since] or []
        for begin, end in zip([person.since - DAY, *seen], [*seen, last + DAY], strict=True):
            silent = [day for day in _each(begin + DAY, end - DAY) if day not in leave[person.name]]
            if len(silent) >= rule.threshold and first <= silent[rule.threshold - 1] <= last:
                until = silent[rule.threshold - 1]
                said = Evidence(kind=Kind.SILENT, day=begin.isoformat(), count=rule.threshold)
                found.append(Judgement(person.name, begin + DAY, until, [said]))
    return found


async def _updates(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    collections = [rule.collection] if rule.collection else list(WATCHED)
    found: list[Judgement] = []
    for month in _months(first, last):
        begin, end = _instants(month)
        records = await _open_at(people, collections, end, call)
        records = {
            name: one for name, one in records.items() if _made(one) < month.first.replace(day=MADE_BEFORE)
        }
        said: dict[str, list[Progress]] = defaultdict(list)
        rows = select(Progress).where(Progress.record.in_(list(records)), Progress.time < end)
        for row in await call.db.scalars(rows.order_by(Progress.time, Progress.source)):
            said[row.record].append(row)
        by_person: dict[str, list[Any]] = defaultdict(list)
        for name, record in sorted(records.items()):
            counted, repeated = _counted(said[name], begin)
            if not counted:
                kind = Kind.DUPLICATE_TEXT if repeated else Kind.NO_UPDATE
                by_person[record.scope["owner"]].append(Evidence(kind=kind, record=name))
        found += [Judgement(name, month.first, month.last, said) for name, said in by_person.items()]
    return found


def _counted(rows: Sequence[Progress], begin: datetime) -> tuple[int, int]:
    """How many updates since then count, and how many say the same for the third time."""
    counted, repeated, times = 0, 0, defaultdict[str, int](int)
    for row in rows:
        times[row.digest] += 1
        again = bool(row.digest) and times[row.digest] >= REPEATED
        if row.time >= begin:
            counted, repeated = counted + (not again), repeated + again
    return counted, repeated


async def _late_records(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    rows = select(WorkDone).where(
        WorkDone.employee.in_([person.name for person in people]), WorkDone.recorded.between(first, last),
        WorkDone.recorded > WorkDone.day,
    )  # fmt: skip
    found: dict[tuple[str, date], Judgement] = {}
    days = {person.name: works(person.department, call) for person in people}
    for row in await call.db.scalars(rows.order_by(WorkDone.recorded, WorkDone.source)):
        assert row.recorded is not None
        took = working_days(row.day + DAY, row.recorded, days[row.employee])
        if took > rule.threshold:
            one = found.setdefault(
                (row.employee, row.recorded), Judgement(row.employee, row.recorded, row.recorded)
            )
            said = Evidence(kind=Kind.RECORDED_LATE, record=row.source, day=row.day.isoformat(), count=took)
            one.evidence.append(said)
    return list(found.values())


async def _completeness(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    found: list[Judgement] = []
    for month in _months(first, last):
        _, end = _instants(month)
        asked, lacking = defaultdict[str, int](int), defaultdict[str, list[Any]](list)
        for name, known in sorted((await _open_at(people, [rule.collection], end, call)).items()):
            owner, stands = known.scope["owner"], {known.record.get("state"), known.record.get("stage"), ""}
            wanted = {key for one in rule.requirements if one.stage in stands for key in one.fields}
            empty = sorted(key for key in wanted if not known.record.get(key))
            asked[owner] += len(wanted)
            if empty:
                lacking[owner].append(Evidence(kind=Kind.INCOMPLETE, record=name, fields=empty))
        for owner, evidence in lacking.items():
            share = 100 * (asked[owner] - sum(len(one.fields) for one in evidence)) // asked[owner]
            if share < rule.threshold:
                said = Evidence(kind=Kind.INCOMPLETE, count=share)
                found.append(Judgement(owner, month.first, month.last, [said, *evidence]))
    return found


async def _marks(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    owners = [person.name for person in people]
    due = timedelta(days=rule.threshold + 1)
    since, until = _instants(Span("DAY", first - due, last - due))
    won = select(KnownRecord).where(
        KnownRecord.scope["owner"].astext.in_(owners), ~KnownRecord.deleted,
        KnownRecord.name.like("opportunities/%"), KnownRecord.record["state"].astext == "WON",
        KnownRecord.dates["closeTime"].astext >= f"{since:%Y-%m-%dT%H:%M:%SZ}",
        KnownRecord.dates["closeTime"].astext < f"{until:%Y-%m-%dT%H:%M:%SZ}",
    )  # fmt: skip
    deals = {row.name: row for row in await call.db.scalars(won)}
    followed = select(KnownRecord.record["opportunity"].astext).where(
        KnownRecord.record["opportunity"].astext.in_(list(deals)), ~KnownRecord.deleted,
        func.split_part(KnownRecord.name, "/", 1).in_(["contracts", "orders"]),
    )  # fmt: skip
    marked = set(await call.db.scalars(followed)) if deals else set[str]()
    found: dict[tuple[str, date], Judgement] = {}
    for name, deal in sorted(deals.items()):
        if name not in marked:
            closed = datetime.fromisoformat(deal.dates["closeTime"]).astimezone(ZONE).date()
            owner = str(deal.scope["owner"])
            one = found.setdefault((owner, closed), Judgement(owner, closed, closed + due - DAY))
            one.evidence.append(
                Evidence(kind=Kind.NOT_MARKED, record=name, day=closed.isoformat(), count=rule.threshold)
            )
    return list(found.values())


async def _certificates(
    rule: UsageRule, people: Sequence[Person], first: date, last: date, call: Call
) -> list[Judgement]:
    found: dict[tuple[str, date], Judgement] = {}
    for person, item, until in await certificates(rule.certificates, people, call):
        # Without one since the person is here; with one since the day behind its last.
        since = until + DAY if until else person.since
        if until is None or until < last:
            one = found.setdefault((person.name, since), Judgement(person.name, since, max(since, last)))
            one.evidence.append(Evidence(kind=Kind.NO_CERTIFICATE, day=since.isoformat(), fields=[item]))
    return list(found.values())


async def certificates(
    items: Sequence[str], people: Sequence[Person], call: Call
) -> list[tuple[Person, str, date | None]]:
    """Until when each certificate of each person counts; None where there is none, and none for those for good."""
    keys = {UUID(person.name.partition("/")[2]): person for person in people}
    found: list[tuple[Person, str, date | None]] = []
    for row in await call.db.scalars(select(Employee).where(Employee.id.in_(list(keys)))):
        for item in items:
            ends = [read_date(one.expires) for one in row.certificates if one.item == item]
            dated = [end for end in ends if end is not None]
            if len(dated) == len(ends):
                found.append((keys[row.id], item, max(dated, default=None)))
    return found


_Look = Callable[[UsageRule, Sequence[Person], date, date, Call], Coroutine[Any, Any, list[Judgement]]]
_LOOKS: Mapping[str, _Look] = {
    "LOGIN": _logins, "SILENCE": _silences, "MONTHLY_UPDATE": _updates, "TIMELINESS": _late_records,
    "COMPLETENESS": _completeness, "CLOSE_MARK": _marks, "CERTIFICATE": _certificates,
}  # fmt: skip


async def _days_of(
    people: Sequence[Person], first: date | None, last: date, call: Call
) -> Mapping[str, set[date]]:
    """On which days each has acted."""
    rows = select(UsageDay.employee, UsageDay.day).where(
        UsageDay.employee.in_([person.name for person in people]), UsageDay.day <= last
    )
    if first is not None:
        rows = rows.where(UsageDay.day >= first)
    found: dict[str, set[date]] = {person.name: set() for person in people}
    for employee, day in await call.db.execute(rows):
        found[employee].add(day)
    return found


async def _away(
    people: Sequence[Person], kind: str, first: date, last: date, call: Call
) -> Mapping[str, set[date]]:
    """The days whose noon, in the person's zone, lies in an event of a kind."""
    names = [person.name for person in people]
    begin, end = _instants(Span("DAY", first - DAY, last + DAY))
    slots = select(CalendarSlot.person, CalendarSlot.start_time, CalendarSlot.end_time).join(
        CalendarEvent, CalendarEvent.id == CalendarSlot.event
    ).where(
        CalendarEvent.kind == kind, CalendarEvent.state != "CANCELLED", CalendarSlot.person.in_(names),
        CalendarSlot.end_time > begin, CalendarSlot.start_time < end,
    )  # fmt: skip
    zones = await zones_of(names, call)
    found: dict[str, set[date]] = {name: set() for name in names}
    for name, start, finish in await call.db.execute(slots):
        from_day = recurrence.wall_clock(start, zones[name]).date()
        for day in _each(from_day, recurrence.wall_clock(finish, zones[name]).date()):
            noon = recurrence.instant(recurrence.as_day(day) + timedelta(hours=12), zones[name])
            if start <= noon < finish:
                found[name].add(day)
    return found


async def _open_at(
    people: Sequence[Person], collections: Sequence[str], moment: datetime, call: Call
) -> dict[str, KnownRecord]:
    """The records of people with work left to do at a moment: what has ended since was still open then."""
    rows = select(KnownRecord).where(
        KnownRecord.scope["owner"].astext.in_([person.name for person in people]), ~KnownRecord.deleted,
        func.split_part(KnownRecord.name, "/", 1).in_(collections),
    )  # fmt: skip
    found: dict[str, KnownRecord] = {}
    for row in await call.db.scalars(rows):
        state = str(row.record.get("state", ""))
        if state in OVER and row.touch_time >= moment:
            state = await _state_at(row.name, state, moment, call)
        if state not in OVER:
            found[row.name] = row
    return found


async def _state_at(name: str, state: str, moment: datetime, call: Call) -> str:
    """The state that the first change of it since then has found."""
    later = select(AuditEntry.before).where(
        AuditEntry.resource == name, AuditEntry.time >= moment, AuditEntry.before.like('%"state"%')
    )
    before = await call.db.scalar(later.order_by(AuditEntry.time).limit(1))
    return str(json.loads(before).get("state", state)) if before else state


def _made(record: KnownRecord) -> date:
    told = record.dates.get("createTime")
    return datetime.fromisoformat(told).astimezone(ZONE).date() if told else date.min


def _instants(period: Span) -> tuple[datetime, datetime]:
    """From when to before when a period lasts, by the company's clock."""
    begin = datetime(period.first.year, period.first.month, period.first.day, tzinfo=ZONE)
    end = period.last + DAY
    return begin.astimezone(UTC), datetime(end.year, end.month, end.day, tzinfo=ZONE).astimezone(UTC)


def _each(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _weeks(first: date, last: date) -> list[Span]:
    return [span("WEEK", day) for day in _each(first, last) if day.weekday() == 6]


def _months(first: date, last: date) -> list[Span]:
    return [span("MONTH", day) for day in _each(first, last) if (day + DAY).day == 1]
