"""Telling approvers that they are waited for, and what happens when they are waited for too long."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from crmkit.call import Call
from sqlalchemy import select

from workspace.model.approval import Approval
from workspace.model.deciders import employee
from workspace.telling import notify

# The usual day, where nothing else is said: Monday to Friday.
OPENS, CLOSES, SATURDAY = time(9), time(18), 5
USUAL_ZONE = "Asia/Shanghai"
AT_ONCE = 5000


async def ask(approval: Approval, people: list[str], call: Call, again: str = "") -> None:
    """Tells the people that an approval waits for them."""
    title, key = approval.display_name, f"approval:{approval.name}:{approval.current}{again}"
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
        zone = await _zone(approval, call)
        waited = working_hours(progress.start_time.ToDatetime(UTC), as_of, zone)
        while progress.rungs < len(rungs) and waited >= rungs[progress.rungs].after_hours:
            told = await approval.climb(rungs[progress.rungs], call)
            await ask(approval, told, call, f":rung{progress.rungs}")
            if approval.state != "PENDING" or approval.current != index:
                break
            progress = approval.steps[index]


def working_hours(start: datetime, end: datetime, zone: ZoneInfo) -> float:
    """Hours of working time between two instants, as the clocks of the zone say."""
    day, last, hours = start.astimezone(zone).date(), end.astimezone(zone).date(), 0.0
    while day <= last:
        if day.weekday() < SATURDAY:
            opens, closes = _at(day, OPENS, zone), _at(day, CLOSES, zone)
            hours += max((min(end, closes) - max(start, opens)).total_seconds(), 0) / 3600
        day += timedelta(days=1)
    return hours


def _at(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)


async def _zone(approval: Approval, call: Call) -> ZoneInfo:
    waiting = approval.open_decisions()
    person = await employee(waiting[0].approver, call) if waiting else None
    return ZoneInfo(person.time_zone if person is not None and person.time_zone else USUAL_ZONE)
