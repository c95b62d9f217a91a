"""Who was on leave, as calendars told."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal

from crmkit.call import Call
from crmkit.events import Fact, listens
from crmkit.listing import ZONE
from crmkit.workdays import is_working_day
from sales.model.base import Base
from sales.worktime import CLOSES, OPENS
from sqlalchemy import DateTime, Index, Integer, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

_HUNDREDTH = Decimal("0.01")


class Absence(Base):
    """A leave in somebody's calendar. A cancelled one has no times. Of a leave that repeats, the first counts."""

    __tablename__ = "absences"
    __table_args__ = (Index("absences_employee_index", "employee", "to_time"),)

    event: Mapped[str] = mapped_column(Text, primary_key=True)
    employee: Mapped[str] = mapped_column(Text)
    from_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    to_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(Integer)


@listens(
    "crm.workspace.v1.CalendarEventScheduled",
    "crm.workspace.v1.CalendarEventMoved",
    "crm.workspace.v1.CalendarEventCancelled",
)
async def on_leave(event: Fact, call: Call) -> None:
    """Keeps when somebody is on leave; the latest word counts, in whatever order they come."""
    told = event.payload["calendarEvent"]
    if event.payload.get("occurrence"):
        return
    leave = told.get("kind") == "LEAVE" and told.get("state") != "CANCELLED"
    leave = leave and not event.subject.endswith("Cancelled") and "startTime" in told and "endTime" in told
    values = {
        "employee": told.get("owner", ""), "version": event.version or 0,
        "from_time": datetime.fromisoformat(told["startTime"]) if leave else None,
        "to_time": datetime.fromisoformat(told["endTime"]) if leave else None,
    }  # fmt: skip
    statement = insert(Absence).values(event=told["name"], **values)
    newer = Absence.version < statement.excluded.version
    await call.db.execute(
        statement.on_conflict_do_update(index_elements=[Absence.event], set_=values, where=newer)
    )


async def absent(employees: Collection[str], call: Call) -> set[str]:
    """Who of them is on leave at the moment of the call."""
    asked = select(Absence.employee).where(
        Absence.employee.in_(employees), Absence.to_time > call.now, Absence.from_time <= call.now
    )
    return set(await call.db.scalars(asked))


async def absent_days(employee: str, first: date, last: date, call: Call) -> Decimal:
    """Working days of a span that somebody was on leave; of a part of a day, its part of the working hours."""
    begins = datetime.combine(first, time.min, ZONE)
    ends = datetime.combine(last + timedelta(days=1), time.min, ZONE)
    asked = select(Absence.from_time, Absence.to_time).where(
        Absence.employee == employee, Absence.to_time > begins, Absence.from_time < ends
    )
    leaves = [(row.from_time, row.to_time) for row in await call.db.execute(asked)]
    return sum((_away(first + timedelta(days=n), leaves) for n in range((last - first).days + 1)), Decimal(0))


def _away(day: date, leaves: list[tuple[datetime, datetime]]) -> Decimal:
    """The part of a working day that leaves cover, counted once where they overlap."""
    if not is_working_day(day):
        return Decimal(0)
    opens = datetime.combine(day, time(int(OPENS)), ZONE)
    closes = datetime.combine(day, time(int(CLOSES)), ZONE)
    covered, until = timedelta(), opens
    for start, end in sorted(leaves):
        begin = max(start, until)
        stop = min(end, closes)
        if stop > begin:
            covered, until = covered + (stop - begin), stop
    return (Decimal(covered.total_seconds()) / Decimal((closes - opens).total_seconds())).quantize(
        _HUNDREDTH, ROUND_HALF_UP
    )
