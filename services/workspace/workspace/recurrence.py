"""Wall-clock time and series: RFC 5545 rules in a zone become instants.

A time that the spring change leaves out moves forward by the gap; of a time that the autumn change has twice the
first counts. Days are floating: their instants depend on whose zone is asked.
"""

# ruff: noqa: DTZ001, DTZ007, DTZ901 - what a wall clock shows has no zone; `instant` gives it one.

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import TypeVar
from zoneinfo import ZoneInfo, available_timezones

from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation
from dateutil.rrule import rrule, rrulestr

DEFAULT_ZONE = "Asia/Shanghai"
LONGEST_YEARS = 10
CYCLE = 400
MOST_DATES = 4000
MOST_TIMES_A_DAY = 24
WALL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
T = TypeVar("T")
FOREVER = datetime.max
FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
PARTS = frozenset(
    ["FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYYEARDAY", "BYWEEKNO", "BYSETPOS",
     "BYHOUR", "BYMINUTE", "WKST"]
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What one date of a series has in place of what the others have."""

    cancelled: bool = False
    start: str = ""
    end: str = ""
    display_name: str = ""
    location: str = ""


@dataclass(frozen=True)
class Series:
    """When something takes place, on the wall clock of a zone; whole days where `whole_days`."""

    start: datetime
    end: datetime
    zone: str
    whole_days: bool = False
    rule: str = ""
    extra: tuple[datetime, ...] = ()
    left_out: tuple[datetime, ...] = ()

    def key(self, start: datetime) -> str:
        """How a date of the series is named: its start on the wall clock, or its day."""
        return start.date().isoformat() if self.whole_days else start.isoformat(timespec="minutes")

    def starts(self, until: datetime) -> list[datetime]:
        """Starts on the wall clock up to a time, in order. RECURRENCE_INVALID, RECURRENCE_TOO_LONG."""
        found = set(self._by_rule()) if self.rule else {self.start}
        found = (found | set(self.extra)) - set(self.left_out)
        if not found:
            raise invalid("没有任何一次", "it never takes place")
        if len(found) > MOST_DATES:
            raise invalid(f"超过 {MOST_DATES} 次", f"more than {MOST_DATES} dates")
        return sorted(start for start in found if start <= until)

    def occurrences(self, until: datetime, changes: dict[str, Change]) -> "list[Occurrence]":
        """Its dates up to a time with the changes of single ones. OCCURRENCE_UNKNOWN for a change of no date."""
        starts = self.starts(until)
        known = {self.key(start) for start in starts}
        for key in changes:
            if key not in known and parse(key, self.whole_days, "") <= until:
                raise FailedPrecondition("OCCURRENCE_UNKNOWN", occurrence=key)
        return [self._occurrence(start, changes.get(self.key(start), Change())) for start in starts]

    def _occurrence(self, start: datetime, change: Change) -> "Occurrence":
        begin, end = start, start + (self.end - self.start)
        if change.start and change.end:
            begin, end = (parse(text, self.whole_days, "override") for text in (change.start, change.end))
            check_order(begin, end, self.whole_days, "override")
        return Occurrence(
            self.key(start), begin, end, self.zone, self.whole_days, change.cancelled, change.display_name,
            change.location,
        )  # fmt: skip

    def _by_rule(self) -> Iterator[datetime]:
        parts = read_rule(self.rule)
        latest = years_later(self.start, LONGEST_YEARS)
        count, until = parts.pop("COUNT", ""), parts.pop("UNTIL", "")
        if count and until:
            raise invalid("COUNT 与 UNTIL 不能同时使用", "COUNT and UNTIL exclude each other")
        if not count and not until:
            raise too_long()
        last = read_until(until, self.zone) if until else latest
        if last > latest:
            raise too_long()
        if count and (not count.isdecimal() or not 0 < int(count) <= MOST_DATES):
            raise invalid("COUNT 超出范围", "COUNT is out of range")
        wanted = int(count) if count else MOST_DATES + 1
        dates = list(islice(self._dates(parts, last), wanted))
        if count and len(dates) < wanted:
            raise too_long()
        return iter(dates)

    def _dates(self, parts: dict[str, str], last: datetime) -> Iterator[datetime]:
        """What the rule gives; the first date counts whether the rule would have it or not, as RFC 5545 says."""
        text = ";".join(f"{key}={value}" for key, value in parts.items())
        # A rule that never fits is tried up to the year 9999. The calendar repeats every 400 years, so it is asked
        # about the last of these cycles, where that end is near.
        ahead = (MAXYEAR - LONGEST_YEARS - 1 - self.start.year) // CYCLE * CYCLE
        yield self.start
        try:
            rule = rrulestr(text, dtstart=self.start.replace(year=self.start.year + ahead))
            assert isinstance(rule, rrule)
            for later in rule.replace(until=last.replace(year=last.year + ahead)):
                found = later.replace(year=later.year - ahead)
                if found != self.start:
                    yield found
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise invalid(str(error)[:100], str(error)[:100]) from None


@dataclass(frozen=True)
class Occurrence:
    """One date: on the wall clock of the series' zone, or whole days."""

    key: str
    start: datetime
    end: datetime
    zone: str
    whole_days: bool
    cancelled: bool = False
    display_name: str = ""
    location: str = ""

    def span(self, zone: str = "") -> tuple[datetime, datetime]:
        """Its instants; whole days begin and end at midnight of the zone asked for."""
        if self.whole_days:
            return instant(self.start, zone or self.zone), instant(
                self.end + timedelta(days=1), zone or self.zone
            )
        start, end = instant(self.start, self.zone), instant(self.end, self.zone)
        # A start that the spring change leaves out has moved; an end behind the gap must not come before it.
        return (start, end) if end > start else (start, start + (self.end - self.start))


def instant(wall: datetime, zone: str) -> datetime:
    """The instant of a wall-clock time; fold 0 is the first of two, and in a gap moves forward by the gap."""
    return wall.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)


def wall_clock(moment: datetime, zone: str) -> datetime:
    """What the wall clock of a zone shows at an instant."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def check_zone(zone: str) -> str:
    """The zone's own name; TIME_ZONE_UNKNOWN for anything that the IANA data do not have."""
    if zone not in zones():
        raise InvalidArgument("TIME_ZONE_UNKNOWN", zone=zone[:60])
    return zone


@cache
def zones() -> frozenset[str]:
    """The names of all zones. What is no name of a zone is never opened as a file."""
    return frozenset(name for name in available_timezones() if name != "localtime")


def parse(text: str, whole_days: bool, field: str) -> datetime:
    """A wall-clock time such as 2026-12-01T09:00, or a day; Validation for anything else."""
    try:
        if not (DAY if whole_days else WALL).fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text)
    except ValueError:
        example = "2026-12-01" if whole_days else "2026-12-01T09:00"
        problem = Violation(
            field or "occurrence", "WRONG_FORMAT", f"格式应为 {example}", f"Write it as {example}."
        )
        raise Validation(problem) from None


def check_order(start: datetime, end: datetime, whole_days: bool, field: str) -> None:
    """Refuses what ends before it begins, takes no time or takes more than 60 days."""
    if end < start or (end == start and not whole_days):
        raise Validation(
            Violation(field, "END_BEFORE_START", "结束必须晚于开始", "It ends before it begins.")
        )
    if end - start > timedelta(days=60):
        raise Validation(Violation(field, "TOO_LONG", "不能超过 60 天", "At most 60 days."))
    if not 1970 <= start.year <= 2200:
        raise Validation(Violation(field, "OUT_OF_RANGE", "年份超出范围", "The year is out of range."))


def read_rule(rule: str) -> dict[str, str]:
    """The parts of an RFC 5545 rule; RECURRENCE_INVALID where one is unknown, doubled or too fine."""
    parts: dict[str, str] = {}
    for piece in rule.strip().upper().removeprefix("RRULE:").split(";"):
        key, _, value = piece.partition("=")
        if key not in PARTS or key in parts or not value or len(value) > 200:
            raise invalid(f"不支持 {piece[:40]}", f"{piece[:40]} is not supported")
        parts[key] = value
    if parts.get("FREQ") not in FREQUENCIES:
        raise invalid("FREQ 须为每日、每周、每月或每年", "FREQ is DAILY, WEEKLY, MONTHLY or YEARLY")
    interval = parts.get("INTERVAL", "1")
    if not interval.isdecimal() or not 0 < int(interval) <= 1000:
        raise invalid("INTERVAL 超出范围", "INTERVAL is out of range")
    times = [len(parts.get(key, "0").split(",")) for key in ("BYHOUR", "BYMINUTE")]
    if times[0] * times[1] > MOST_TIMES_A_DAY:
        raise invalid("每天次数过多", "too many times a day")
    return parts


def read_until(text: str, zone: str) -> datetime:
    """UNTIL as wall clock of the zone: an instant where it ends in Z, a whole day where it is a date."""
    try:
        if len(text) == 8:
            return datetime.strptime(text, "%Y%m%d") + timedelta(days=1, minutes=-1)
        if text.endswith("Z"):
            return wall_clock(datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC), zone)
        return datetime.strptime(text, "%Y%m%dT%H%M%S")
    except ValueError:
        raise invalid(f"UNTIL={text[:20]}", f"UNTIL={text[:20]}") from None


def write_rule(rule: str, **changed: str) -> str:
    """The rule with parts changed, or taken out where empty."""
    parts = {**read_rule(rule), **changed}
    return ";".join(f"{key}={value}" for key, value in parts.items() if value)


def years_later(moment: datetime, years: int) -> datetime:
    """The same day some years later; the 29th of February becomes the 28th."""
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, day=28)


def overlaps(a: tuple[datetime, datetime], b: tuple[datetime, datetime]) -> bool:
    """True where two half-open ranges have a moment in common."""
    return a[0] < b[1] and b[0] < a[1]


def colliding(
    mine: Sequence[tuple[datetime, datetime, str]], others: Iterable[tuple[datetime, datetime, T]]
) -> Iterator[tuple[str, datetime, datetime, T]]:
    """Those of the others that overlap one of mine, with the key of that; `mine` in the order of starts."""
    for start, end, what in others:
        for begin, finish, key in mine:
            if begin >= end:
                break
            if finish > start:
                yield key, start, end, what
                break


def as_day(value: date) -> datetime:
    """A day as wall-clock midnight."""
    return datetime(value.year, value.month, value.day)


def invalid(zh: str, en: str) -> InvalidArgument:
    """RECURRENCE_INVALID in both languages; the detail is the one that both can read where they are the same."""
    detail = zh if zh == en else f"{zh} / {en}"
    return InvalidArgument("RECURRENCE_INVALID", detail=detail)


def too_long() -> InvalidArgument:
    """RECURRENCE_TOO_LONG."""
    return InvalidArgument("RECURRENCE_TOO_LONG", limit=LONGEST_YEARS)
