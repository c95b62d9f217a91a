"""The methods of plans, summaries and what was really done."""

from datetime import timedelta
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import NotFound, Validation, required
from crmkit.standard import Standard
from sqlalchemy import select

from workspace import recurrence
from workspace.model import work_record
from workspace.model.calendar import CalendarEvent, CalendarSlot, oversees
from workspace.model.employee import Employee
from workspace.model.plan import WorkPlan, WorkSummary
from workspace.periods import Span, read_day, span

PERIODS_SHOWN = 5


class PlanMethods:
    """What people mean to do, have done, and say of it."""

    work_plans = Standard(WorkPlan)
    work_summaries = Standard(WorkSummary)

    async def ReturnWorkPlan(self, request: pb.ReasonRequest, call: Call) -> WorkPlan:
        plan = await call.load(WorkPlan, request)
        await plan.give_back(request.reason, call)
        return plan

    async def ReturnWorkSummary(self, request: pb.ReasonRequest, call: Call) -> WorkSummary:
        summary = await call.load(WorkSummary, request)
        summary.give_back(request.reason, call)
        return summary

    async def ReadSubmissions(self, request: pb.ReadSubmissionsRequest, call: Call) -> dict[str, Any]:
        period = _period(request.period, request.day)
        model: Any = WorkSummary if request.summaries else WorkPlan
        working = select(Employee.id, Employee.department).where(
            Employee.state == "ACTIVE", Employee.kind == "STAFF"
        )
        async with call.everybody():
            people = [(f"employees/{key}", department) for key, department in await call.db.execute(working)]
            covered = [
                (name, department)
                for name, department in people
                if oversees(name, call) or name == call.caller.employee
            ]
            sent = select(model.owner, model.late).where(
                model.period == period.kind, model.start_date == period.first, model.submit_time.is_not(None)
            )
            submitted = {row.owner: row.late for row in await call.db.execute(sent)}
            away = await _on_leave([name for name, _ in covered], period, call)
        found: dict[str, pb.DepartmentSubmissions] = {}
        for name, department in sorted(covered):
            entry = found.setdefault(department, pb.DepartmentSubmissions(department=department))
            if name in submitted:
                (entry.late if submitted[name] else entry.submitted).append(name)
            else:
                (entry.excused if name in away else entry.missing).append(name)
        for entry in found.values():
            there = len(entry.submitted) + len(entry.late)
            entry.rate = 100 * there // (there + len(entry.missing)) if there + len(entry.missing) else 100
        return {"departments": [found[key] for key in sorted(found)]}

    async def ReadWorkRecord(self, request: pb.ReadWorkRecordRequest, call: Call) -> dict[str, Any]:
        person, period = _person(request.employee, call), _period(request.period, request.day)
        periods: list[pb.PeriodRecord] = []
        for _ in range(PERIODS_SHOWN):
            counts = await work_record.counts(person, period, call)
            days = {"start_day": period.first.isoformat(), "end_day": period.last.isoformat()}
            periods.append(pb.PeriodRecord(**days, counts=counts))
            period = period.before()
        return {"periods": periods}

    async def ListWorkFacts(self, request: pb.ListWorkFactsRequest, call: Call) -> pb.ListWorkFactsResponse:
        first, last = read_day(request.from_day, "from_day"), read_day(request.to_day, "to_day")
        return await work_record.facts(_person(request.employee, call), first, last, request, call)


def _period(kind: int, day: str) -> Span:
    if not kind:
        raise Validation(required("period"))
    return span(pb.Period.Name(kind), read_day(day, "day"))  # pyright: ignore[reportArgumentType]


def _person(asked: str, call: Call) -> str:
    """Whose figures: one's own, or of whom one oversees."""
    person = asked or call.caller.employee
    if not person or (person != call.caller.employee and not oversees(person, call)):
        raise NotFound()
    return person


async def _on_leave(people: list[str], period: Span, call: Call) -> set[str]:
    """Who is on leave on every working day of the period."""
    zone = recurrence.DEFAULT_ZONE
    begin = recurrence.instant(recurrence.as_day(period.first), zone) - timedelta(days=1)
    end = recurrence.instant(recurrence.as_day(period.last), zone) + timedelta(days=2)
    leave = select(CalendarSlot.person, CalendarSlot.start_time, CalendarSlot.end_time).join(
        CalendarEvent, CalendarEvent.id == CalendarSlot.event
    ).where(
        CalendarEvent.kind == "LEAVE", CalendarSlot.person.in_(people), CalendarSlot.end_time > begin,
        CalendarSlot.start_time < end,
    )  # fmt: skip
    away: dict[str, list[tuple[Any, Any]]] = {}
    for person, start, finish in await call.db.execute(leave):
        away.setdefault(person, []).append((start, finish))
    noons = [
        recurrence.instant(recurrence.as_day(day) + timedelta(hours=12), zone)
        for day in period.working_days()
    ]
    return {
        person
        for person, spans in away.items()
        if noons and all(any(start <= noon < finish for start, finish in spans) for noon in noons)
    }
