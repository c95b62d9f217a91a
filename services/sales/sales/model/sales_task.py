"""Sales tasks: executors do them, the supervisor alone accepts them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import employed
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation, required
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sales.model.base import HANDOVER, Base
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

ANYBODY = "sales.salesTasks.assign_any"
OPEN = ("ASSIGNED", "IN_PROGRESS", "RETURNED")
DUE_BEFORE = timedelta(days=1)
DEEPEST = 20


class SalesTask(Resource, Base):
    """Work that somebody supervises. What was reported of it stays."""

    __message__ = pb.SalesTask
    refers_by = ("about",)
    __table_args__ = (
        Index("sales_tasks_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
        Index("sales_tasks_about_index", "about", postgresql_where=text("about <> ''")),
        Index("sales_tasks_due_index", "due_time", postgresql_where=text("due_time IS NOT NULL")),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    description: Mapped[str]
    supervisor: Mapped[str]
    project_lead: Mapped[str]
    executors: Mapped[list[str]]
    about: Mapped[str]
    plan: Mapped[Any]
    due_time: Mapped[datetime | None]
    progress: Mapped[int]
    result: Mapped[str]
    reports: Mapped[Any]
    notice_step: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A new one is a draft that its author supervises."""
        self.state, self.kind = "DRAFT", self.kind or "TASK"
        self.supervisor = self.supervisor or call.caller.employee
        self._share()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The executors tick steps; everything else changes in a draft."""
        if changed <= HANDOVER:
            return
        self.check_state("DRAFT", *(OPEN if changed <= HANDOVER | {"plan", "due_time"} else ()))
        if "due_time" in changed:
            self.notice_step = ""
        self._share()

    async def deleting(self, call: Call) -> None:
        """Only a draft goes."""
        self.check_state("DRAFT")

    def submit(self, call: Call) -> None:
        """Gives it to the executors once whoever must agree has agreed: a policy may hold it."""
        self._give(call)

    def assign(self, call: Call) -> None:
        """Gives it to the executors."""
        self._give(call)

    def start(self) -> None:
        """Begins it, or takes it up again."""
        self.check_state("ASSIGNED", "RETURNED")
        self.state = "IN_PROGRESS"

    def report(self, text: str, progress: int, call: Call) -> None:
        """Says how far it is."""
        self.check_state("ASSIGNED", "IN_PROGRESS", "RETURNED")
        if progress > 100:
            raise Validation(Violation("progress", "OUT_OF_RANGE", "不能超过 100。", "At most 100."))
        self.state, self.progress = "IN_PROGRESS", progress
        self._tell("REPORT", text, call)

    def finish(self, result: str, call: Call) -> None:
        """Says that it is done; the supervisor looks at it."""
        self.check_state("ASSIGNED", "IN_PROGRESS", "RETURNED")
        self.state, self.result, self.progress = "DONE", result, 100
        self._tell("FINISH", result, call)
        call.emit(events.SalesTaskFinished, sales_task=self)

    def accept(self, call: Call) -> None:
        """Agrees that it is done."""
        self._check_supervisor(call)
        self.check_state("DONE")
        self.state = "ACCEPTED"
        self._tell("ACCEPT", "", call)

    def give_back(self, reason: str, call: Call) -> None:
        """Wants more; what was reported before stays."""
        self._check_supervisor(call)
        self.check_state("DONE")
        self.state = "RETURNED"
        self._tell("RETURN", reason, call)
        call.emit(events.SalesTaskAssigned, sales_task=self, people=self.executors)

    def cancel(self, reason: str, call: Call) -> None:
        """Will not be done."""
        self._check_supervisor(call)
        self.check_state("DRAFT", *OPEN)
        self.state = "CANCELLED"
        self._tell("CANCEL", reason, call)

    def remind(self, now: datetime, call: Call) -> None:
        """Tells the executors that it is due, later the supervisor too that it is over: once for each step."""
        if self.state not in OPEN or self.due_time is None:
            return
        step = "OVERDUE" if self.due_time <= now else "DUE" if self.due_time - DUE_BEFORE <= now else ""
        if not step or step == self.notice_step:
            return
        self.notice_step = step
        people = [*self.executors, *([self.supervisor] if step == "OVERDUE" else [])]
        call.emit(events.SalesTaskDue, sales_task=self, step=step, people=list(dict.fromkeys(people)))

    def hand_out(self, call: Call) -> None:
        """The executors have it from now on."""
        self.state = "ASSIGNED"
        self.tell_executors(call)

    def tell_executors(self, call: Call) -> None:
        """Says who has it to do."""
        call.emit(events.SalesTaskAssigned, sales_task=self, people=self.executors)

    def _give(self, call: Call) -> None:
        self.check_state("DRAFT")
        if not self.executors:
            raise Validation(required("sales_task.executors"))
        for employee in self.executors:
            if not employed(employee, call):
                raise FailedPrecondition("EMPLOYEE_INACTIVE")
            entry = call.entry(employee)
            if not call.caller.may(ANYBODY) and not self._beneath(employee, entry, call):
                raise PermissionDenied("TASK_OUTSIDE", employee=entry.get("displayName") or employee)
        self.hand_out(call)

    def _beneath(self, employee: str, entry: dict[str, Any], call: Call) -> bool:
        """Whether somebody is the caller, or works under the caller by the superiors."""
        me = call.caller.employee
        for _ in range(DEEPEST):
            if employee == me:
                return True
            employee = entry.get("superior") or ""
            entry = call.entry(employee)
            if not employee:
                break
        return False

    def _check_supervisor(self, call: Call) -> None:
        if call.caller.employee != self.supervisor:
            raise PermissionDenied("NOT_SUPERVISOR")

    def _share(self) -> None:
        people = [
            name for name in (self.supervisor, self.project_lead, *self.executors) if name != self.owner
        ]
        self.collaborators = list(dict.fromkeys([*self.collaborators, *filter(None, people)]))

    def _tell(self, kind: str, text: str, call: Call) -> None:
        made = pb.SalesTask.Report(
            actor=call.caller.actor, time=to_timestamp(call.now), kind=kind, text=text, progress=self.progress
        )
        self.reports = [*self.reports, made]


async def go_along(before: str, after: str, call: Call) -> None:
    """What was about one record is about another from now on."""
    async with call.everybody():
        for task in await call.db.scalars(select(SalesTask).where(SalesTask.about == before)):
            task.about = after
