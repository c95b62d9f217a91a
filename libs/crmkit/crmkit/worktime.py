"""Working time: when something is due, and how much of a stretch of time counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from crmkit.workdays import SATURDAY, is_working_day

HORIZON = timedelta(days=730)

Window = tuple[int, int]
"""Minutes of the day from and to, 1440 for its end."""


class Unreachable(Exception):
    """There is not enough working time within the horizon."""


@dataclass
class WorkingTime:
    """The windows of working days in a zone. `china` takes the holidays and make-up days of the State Council."""

    zone: ZoneInfo
    windows: Sequence[Window]
    china: bool = True

    def windows_of(self, day: date) -> Sequence[Window]:
        """The windows of a working day."""
        return self.windows

    def after(self, start: datetime, seconds: float, horizon: timedelta = HORIZON) -> datetime:
        """The instant at which so much working time has passed since the start; Unreachable beyond the horizon."""
        left = timedelta(seconds=seconds)
        for opens, closes in self._open(start, start + horizon):
            if left <= closes - opens:
                return opens + left
            left -= closes - opens
        raise Unreachable

    def between(self, start: datetime, end: datetime) -> int:
        """Whole seconds of working time between two instants."""
        worked = sum((closes - opens for opens, closes in self._open(start, end)), timedelta())
        return int(worked.total_seconds())

    def _open(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The stretches of working time from start to end, in order."""
        day, last = start.astimezone(self.zone).date(), end.astimezone(self.zone).date()
        while day <= last:
            for opens, closes in self._windows(day):
                opens, closes = max(opens, start), min(closes, end)
                if opens < closes:
                    yield opens, closes
            day += timedelta(days=1)

    def _windows(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        if self._works(day):
            for opens, closes in self.windows_of(day):
                yield self._instant(day, opens), self._instant(day, closes)

    def _works(self, day: date) -> bool:
        return is_working_day(day) if self.china else day.weekday() < SATURDAY

    def _instant(self, day: date, minutes: int) -> datetime:
        """The instant of a wall-clock time; one that a change of clocks leaves out moves to the next that is."""
        wall = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minutes)
        instant = wall.replace(tzinfo=self.zone).astimezone(UTC)
        if instant.astimezone(self.zone).replace(tzinfo=None) == wall:
            return instant
        # Within the gap the two readings lie around the change: look for it, to the minute.
        before = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        offset = before.astimezone(self.zone).utcoffset()
        while before.astimezone(self.zone).utcoffset() == offset:
            before += timedelta(minutes=1)
        return before


def minutes_of(clock: str) -> int:
    """ "09:30" → 570; ValueError for what is no time of day."""
    hours, _, minutes = clock.partition(":")
    if len(hours) != 2 or len(minutes) != 2 or not (hours + minutes).isdecimal():
        raise ValueError(clock)
    found = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or found > 24 * 60:
        raise ValueError(clock)
    return found
