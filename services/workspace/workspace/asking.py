"""Telling approvers that they are waited for, and what happens when they are waited for too long."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from crmkit import worktime
from crmkit.call import Call
from crmkit.workdays import SATURDAY
from crmkit.worktime import Window, minutes_of
from sqlalchemy import select

from workspace.model.approval import Approval, hand_back
from workspace.model.attendance import AttendanceRule
from workspace.model.deciders import employee
from workspace.model.department import ancestors
from workspace.telling import notify

# The usual day, where no shift is set.
USUAL = ((9 * 60, 18 * 60),)
USUAL_ZONE = "Asia/Shanghai"
AT_ONCE = 5000


async def ask(approval: Approval, people: list[str], call: Call, again: str = "") -> None:
    """Tells the people that an approval waits for them."""
    title, key = (
        approval.display_name,
        f"approval:{approval.name}:{approval.current}:{approval.revision}{again}",
    )
    zh, en = f"待审批：{title}", f"Waits for your approval: {title}"
    await notify(call, people, "approval", key, approval.name, zh, en)


async def climb_ladders(as_of: datetime, call: Call) -> None:
    """Takes the rungs whose time has come; each of them is taken once."""
    waiting = select(Approval).where(Approval.state == "PENDING").order_by(Approval.update_time)
    for approval in list(await call.db.scalars(waiting.with_for_update(skip_locked=True).limit(AT_ONCE))):
        index = approval.current
        if index < 0:
            continue
        progress = approval.steps[index]
        rungs = sorted(progress.step.ladder, key=lambda rung: rung.after_hours)
        if progress.rungs >= len(rungs):
            continue
        working = await working_time(approval, call)
        waited = working.hours(progress.start_time.ToDatetime(UTC), as_of)
        while progress.rungs < len(rungs) and waited >= rungs[progress.rungs].after_hours:
            told = await approval.climb(rungs[progress.rungs], call)
            await ask(approval, told, call, f":rung{progress.rungs}")
            if approval.state != "PENDING" or approval.current != index:
                break
            progress = approval.steps[index]


class WorkingTime(worktime.WorkingTime):
    """When somebody works: the shifts of the own department or of the nearest above, on the working days of China."""

    def __init__(self, zone: ZoneInfo, shifts: Sequence[Any] = ()) -> None:
        super().__init__(zone, USUAL)
        self.shifts = [
            (shift.weekdays, (minutes_of(getattr(shift, "from")), minutes_of(shift.to))) for shift in shifts
        ]

    def hours(self, start: datetime, end: datetime) -> float:
        """Hours of working time between two instants, as the clocks of the zone say."""
        return self.between(start, end) / 3600

    def windows_of(self, day: date) -> Sequence[Window]:
        """Those of the shifts of the day, where there are shifts."""
        if not self.shifts:
            return self.windows
        # A Saturday that makes up for a holiday is worked like a Monday.
        weekday = str(day.isoweekday() if day.weekday() < SATURDAY else 1)
        wanted = [window for weekdays, window in self.shifts if str(day.isoweekday()) in weekdays]
        return wanted or [window for weekdays, window in self.shifts if weekday in weekdays]


async def working_time(approval: Approval, call: Call) -> WorkingTime:
    """The working time of who is waited for."""
    waiting = approval.open_decisions()
    person = await employee(waiting[0].approver, call) if waiting else None
    zone = ZoneInfo(person.time_zone if person is not None and person.time_zone else USUAL_ZONE)
    for department in await ancestors(person.department, call) if person is not None else ():
        rule = await call.find(AttendanceRule, AttendanceRule.department_ref == department.name)
        if rule is not None and rule.shifts:
            return WorkingTime(zone, rule.shifts)
    return WorkingTime(zone)


async def return_delegated(call: Call) -> None:
    """Whose delegation has ended decides again what waits still, and is told."""
    for approval in await hand_back(call):
        await ask(approval, [one.approver for one in approval.open_decisions()], call, ":back")
