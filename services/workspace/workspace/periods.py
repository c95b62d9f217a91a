"""Days, weeks that begin on Monday, months, quarters and years."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta

from crmkit.errors import Validation, Violation


@dataclass(frozen=True)
class Span:
    """A period of the calendar."""

    kind: str
    first: date
    last: date

    @property
    def label(self) -> str:
        """What it is called, such as 2026年第53周; a week belongs to the year of its Thursday."""
        year, month = self.first.year, self.first.month
        match self.kind:
            case "DAY":
                return self.first.isoformat()
            case "WEEK":
                iso = self.first.isocalendar()
                return f"{iso.year}年第{iso.week}周"
            case "MONTH":
                return f"{year}年{month}月"
            case "QUARTER":
                return f"{year}年第{(month + 2) // 3}季度"
            case _:
                return f"{year}年"

    def next(self) -> "Span":
        """The period behind it."""
        return span(self.kind, self.last + timedelta(days=1))

    def before(self) -> "Span":
        """The period before it."""
        return span(self.kind, self.first - timedelta(days=1))

    def working_days(self) -> list[date]:
        """Its days from Monday to Friday."""
        days = [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]
        return [day for day in days if day.weekday() < 5]


def span(kind: str, day: date) -> Span:
    """The period of a kind that a day lies in; Validation for a day of no year that anybody works in."""
    if not 1970 <= day.year <= 2200:
        raise Validation(Violation("start_date", "OUT_OF_RANGE", "年份超出范围", "The year is out of range."))
    match kind:
        case "DAY":
            return Span(kind, day, day)
        case "WEEK":
            monday = day - timedelta(days=day.weekday())
            return Span(kind, monday, monday + timedelta(days=6))
        case "MONTH":
            return Span(kind, day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1]))
        case "QUARTER":
            first = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
            last = first.replace(month=first.month + 2)
            return Span(kind, first, last.replace(day=monthrange(last.year, last.month)[1]))
        case _:
            return Span(kind, day.replace(month=1, day=1), day.replace(month=12, day=31))


def read_day(text: str, field: str) -> date:
    """A day such as 2026-12-01; Validation for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Validation(Violation(field, "BAD_DATE", "不是有效日期", "There is no such day.")) from None
