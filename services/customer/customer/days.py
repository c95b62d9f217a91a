"""Days that come every year: by the solar and by the lunar calendar."""

import calendar
from collections.abc import Iterator
from datetime import date
from typing import Any

import lunardate

# The library has no types.
_LunarDate: Any = lunardate.LunarDate
# The library's table ends there.
LUNAR_YEARS = range(1901, 2099)


def day_in_year(
    kind: str, year: int, month: int, day: int, leap_month: bool = False, march: bool = False
) -> date | None:
    """The solar day in a year of the calendar; None where there is none.

    29 February is 28 February in common years, or 1 March where that is wanted. Lunar: a leap month that the year
    does not have is the month of the same number, and a day 30 of a month of 29 days is its last day.
    """
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    if kind == "LUNAR":
        return _lunar(year, month, min(day, 30), leap_month)
    if month == 2 and day == 29 and not calendar.isleap(year):
        return date(year, 3, 1) if march else date(year, 2, 28)
    return date(year, month, day) if day <= calendar.monthrange(year, month)[1] else None


def days_between(
    first: date, last: date, kind: str, month: int, day: int, leap_month: bool = False, march: bool = False
) -> Iterator[tuple[date, int]]:
    """Every such day from first to last, with the year of its calendar."""
    # A lunar year ends in the solar year after it.
    for year in range(first.year - 1, last.year + 1):
        found = day_in_year(kind, year, month, day, leap_month, march)
        if found is not None and first <= found <= last:
            yield found, year


def _lunar(year: int, month: int, day: int, leap_month: bool) -> date | None:
    if year not in LUNAR_YEARS:
        return None
    leap = leap_month and _LunarDate.leap_month_for_year(year) == month
    for last in (day, day - 1):
        try:
            return _LunarDate(year, month, last, leap).to_solar_date()
        except ValueError:
            continue
    return None
