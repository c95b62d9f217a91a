"""The methods of attendance."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard
from sqlalchemy import select

from workspace.model.attendance import Attendance, AttendanceMonth, AttendanceRule, close_month
from workspace.model.attendance_device import AttendanceDevice
from workspace.model.calendar import oversees
from workspace.model.work_record import WorkDone
from workspace.periods import read_day, span


class AttendanceMethods:
    """Punches, their rules, and the sheet of a month."""

    attendance = Standard(Attendance)
    attendance_rules = Standard(AttendanceRule)
    attendance_devices = Standard(AttendanceDevice)

    async def CloseAttendanceMonth(
        self, request: pb.CloseAttendanceMonthRequest, call: Call
    ) -> dict[str, Any]:
        await close_month(request.month, call)
        return {"month": request.month}

    async def ReadAttendanceSheet(self, request: pb.ReadAttendanceSheetRequest, call: Call) -> dict[str, Any]:
        month = span("MONTH", read_day(f"{request.month}-01", "month"))
        first, last = month.first.isoformat(), month.last.isoformat()
        async with call.everybody():
            punches = select(
                Attendance.owner, Attendance.kind, Attendance.verdict, Attendance.work_day
            ).where(Attendance.work_day.between(first, last))
            rows = (await call.db.execute(punches)).all()
        visits = select(WorkDone.employee, WorkDone.day).where(
            WorkDone.measure == "VISITS", WorkDone.day.between(month.first, month.last)
        )
        visited = (await call.db.execute(visits)).all()
        people = {row.owner for row in rows} | {row.employee for row in visited}
        lines: list[pb.AttendanceLine] = []
        for person in sorted(p for p in people if p == call.caller.employee or oversees(p, call)):
            mine = [row for row in rows if row.owner == person]
            verdicts = [row.verdict for row in mine]
            field_days = {row.work_day for row in mine if row.kind == "FIELD"}
            days = {row.day.isoformat() for row in visited if row.employee == person}
            lines.append(
                pb.AttendanceLine(
                    employee=person, days=len({row.work_day for row in mine}), late=verdicts.count("LATE"),
                    early=verdicts.count("EARLY"), outside=verdicts.count("OUTSIDE"), suspect=verdicts.count("SUSPECT"),
                    field=sum(row.kind == "FIELD" for row in mine),
                    visits_without_punch=len(days - field_days),
                )
            )  # fmt: skip
        closed = await call.db.scalar(
            select(AttendanceMonth.month).where(AttendanceMonth.month == request.month)
        )
        return {"lines": lines, "closed": closed is not None}
