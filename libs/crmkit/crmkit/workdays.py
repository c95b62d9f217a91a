"""Working days of China: with the public holidays and the days that make up for them, as far as announced."""

from collections.abc import Callable
from datetime import date, timedelta

# The package tells no types.
from chinese_calendar import is_workday  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

SATURDAY = 5


def is_working_day(day: date) -> bool:
    """True where China works; in a year that the State Council has not announced, Monday to Friday."""
    try:
        return bool(is_workday(day))
    except NotImplementedError:
        return day.weekday() < SATURDAY


def working_days(first: date, last: date, works: Callable[[date], bool] = is_working_day) -> int:
    """How many working days there are from first to last, both counted; none where last is before first."""
    return sum(works(first + timedelta(days=n)) for n in range((last - first).days + 1))
