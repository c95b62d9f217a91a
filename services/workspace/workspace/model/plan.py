"""Plans and summaries of work."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, check_reason
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sqlalchemy import Index, inspect, select
from sqlalchemy.orm import Mapped
from uuid_utils.compat import uuid7

from workspace import recurrence
from workspace.model import work_record
from workspace.model.base import Base, check_owner
from workspace.model.calendar import oversees
from workspace.model.names import check_names
from workspace.model.task import zone_of
from workspace.model.work_record import WorkDone
from workspace.periods import Span, span

OPEN = ("DRAFT", "RETURNED")


class WorkPlan(Resource, Base):
    """What its owner means to do in a period. One for each person and period."""

    __message__ = pb.WorkPlan
    handed_over = False
    __table_args__ = (Index("work_plans_period_key", "owner", "period", "start_date", unique=True),)

    display_name: Mapped[str]
    period: Mapped[str]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    items: Mapped[Any]
    approver: Mapped[str]
    state: Mapped[str]
    submit_time: Mapped[datetime | None]
    late: Mapped[bool]
    remark: Mapped[str]

    @property
    def span(self) -> Span:
        """The period."""
        assert self.start_date is not None
        return span(self.period, self.start_date)

    async def creating(self, call: Call) -> None:
        """PLAN_PERIOD_TAKEN where the person has one for the period."""
        if not call.caller.is_system:
            self.owner = call.caller.employee
        period = self.span
        self.start_date, self.end_date, self.display_name = period.first, period.last, period.label
        await take(WorkPlan, self, "PLAN_PERIOD_TAKEN", call)
        entry = call.entry(self.owner)
        self.approver = self.approver or entry.get("superior") or ""
        self.state = "DRAFT"
        self._keep_items([])
        await self.fill(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Items change while it is written; later only what is said to be done."""
        check_owner(self, call)
        before: Any = []
        if "items" in changed:
            before = (inspect(self).attrs["items"].history.deleted or [[]])[0]
            if self.state not in OPEN and [_plan(item) for item in before] != [
                _plan(item) for item in self.items
            ]:
                raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
            self._keep_items(before)
            await self.fill(call)
            await self.judge(call)
        self.check_state("DRAFT", "RETURNED", "SUBMITTED", "APPROVED")

    async def deleting(self, call: Call) -> None:
        """What was submitted stays."""
        check_owner(self, call)
        self.check_state(*OPEN)

    def _keep_items(self, before: Any) -> None:
        """Items keep their keys and figures; new ones get a key."""
        known = {item.key: item for item in before if item.key}
        check_names([item.target for item in self.items if item.target], "work_plan.items")
        kept: list[Any] = []
        for item in self.items:
            fresh = pb.WorkPlan.Item()
            fresh.CopyFrom(item)
            fresh.key = (
                item.key
                if item.key in known
                else item.key
                if item.key.startswith("carried:")
                else str(uuid7())
            )
            fresh.actual = known[item.key].actual if item.key in known else 0
            kept.append(fresh)
        self.items = kept

    async def fill(self, call: Call) -> None:
        """Counts the facts of the period for every item that is counted."""
        done = select(WorkDone.measure, WorkDone.about).where(
            WorkDone.employee == self.owner, WorkDone.day.between(self.start_date, self.end_date)
        )
        rows = list(await call.db.execute(done))
        filled: list[Any] = []
        for item in self.items:
            fresh = pb.WorkPlan.Item()
            fresh.CopyFrom(item)
            measure = pb.Measure.Name(item.measure)
            if item.measure:
                fresh.actual = sum(
                    m == measure and (not item.target or item.target in about) for m, about in rows
                )
            filled.append(fresh)
        if filled != list(self.items):
            self.items = filled
            await self.judge(call)

    async def judge(self, call: Call) -> None:
        """A plan that was handed in counts as kept where everything of it is done."""
        if self.state in OPEN:
            return
        kept = all(item.actual >= max(item.planned, 1) if item.measure else item.done for item in self.items)
        assert self.end_date is not None
        await work_record.keep(self.name, self.owner, self.end_date, kept, call)

    async def submit(self, call: Call) -> None:
        """Gives it to the superior; late behind its first day."""
        check_owner(self, call)
        self.check_state(*OPEN)
        if not self.items:
            raise FailedPrecondition("PLAN_EMPTY")
        self.state, self.submit_time = "SUBMITTED", call.now
        self.late = await today(self.owner, call) > self.span.first
        await self.judge(call)

    def approve(self, remark: str, call: Call) -> None:
        """Agrees to it."""
        check_superior(self, self.approver, call)
        self.check_state("SUBMITTED")
        self.state, self.remark = "APPROVED", remark
        call.emit(events.WorkPlanApproved, work_plan=self)

    async def give_back(self, reason: str, call: Call) -> None:
        """Gives it back to be changed."""
        check_superior(self, self.approver, call)
        self.check_state("SUBMITTED")
        self.state, self.remark = "RETURNED", check_reason(reason)
        assert self.end_date is not None
        await work_record.keep(self.name, self.owner, self.end_date, False, call)

    def close(self, call: Call) -> None:
        """Ends it."""
        check_owner(self, call)
        self.check_state("APPROVED", "SUBMITTED")
        self.state = "CLOSED"

    async def carry_over(self, call: Call) -> "WorkPlan":
        """What is unfinished stands in the next plan too, each item once."""
        check_owner(self, call)
        period = self.span.next()
        plan = await call.find(
            WorkPlan, WorkPlan.owner == self.owner, WorkPlan.period == self.period, WorkPlan.start_date == period.first,
            lock=True,
        )  # fmt: skip
        left = [
            item
            for item in self.items
            if (item.actual < max(item.planned, 1) if item.measure else not item.done)
        ]
        carried = [
            pb.WorkPlan.Item(
                text=item.text, target=item.target, measure=item.measure, key=f"carried:{item.key.rpartition(':')[2]}",
                planned=max(item.planned - item.actual, 0),
            )
            for item in left
        ]  # fmt: skip
        if plan is None:
            return await call.add(
                WorkPlan(period=self.period, start_date=period.first, items=carried, owner=self.owner)
            )
        plan.check_state(*OPEN)
        there = {item.key for item in plan.items}
        if fresh := [item for item in carried if item.key not in there]:
            plan.items = [*plan.items, *fresh]
            await plan.fill(call)
        return plan


class WorkSummary(Resource, Base):
    """What its owner has done in a period."""

    __message__ = pb.WorkSummary
    handed_over = False
    __table_args__ = (Index("work_summaries_period_key", "owner", "period", "start_date", unique=True),)

    display_name: Mapped[str]
    period: Mapped[str]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    plan: Mapped[str]
    accomplished: Mapped[str]
    problems: Mapped[str]
    next_steps: Mapped[str]
    activity: Mapped[Any]
    score: Mapped[int]
    comments: Mapped[Any]
    state: Mapped[str]
    submit_time: Mapped[datetime | None]
    late: Mapped[bool]

    async def creating(self, call: Call) -> None:
        """SUMMARY_PERIOD_TAKEN where the person has one for the period."""
        self.owner = call.caller.employee
        assert self.start_date is not None
        period = span(self.period, self.start_date)
        self.start_date, self.end_date, self.display_name = period.first, period.last, period.label
        await take(WorkSummary, self, "SUMMARY_PERIOD_TAKEN", call)
        plan = await call.find(
            WorkPlan,
            WorkPlan.owner == self.owner,
            WorkPlan.period == self.period,
            WorkPlan.start_date == period.first,
        )
        self.plan = plan.name if plan else ""
        self.state = "DRAFT"
        await self.fill(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Written until it is submitted."""
        check_owner(self, call)
        self.check_state("DRAFT")

    async def deleting(self, call: Call) -> None:
        """What was submitted stays."""
        check_owner(self, call)
        self.check_state("DRAFT")

    async def fill(self, call: Call) -> None:
        """Counts the facts of the period."""
        assert self.start_date is not None
        found = await work_record.counts(self.owner, span(self.period, self.start_date), call)
        counted = [
            pb.WorkCount(
                measure=one.measure, count=one.count, late=one.late, median_minutes=one.median_minutes
            )
            for one in found
            if one.count
        ]
        if counted != list(self.activity):
            self.activity = counted

    async def submit(self, call: Call) -> None:
        """Gives it to the superior; late behind the day after the period."""
        check_owner(self, call)
        self.check_state("DRAFT")
        assert self.end_date is not None
        await self.fill(call)
        self.state, self.submit_time = "SUBMITTED", call.now
        self.late = await today(self.owner, call) > self.end_date + timedelta(days=1)
        call.emit(events.WorkSummarySubmitted, work_summary=self)

    def review(self, score: int, comment: str, call: Call) -> None:
        """Marks it."""
        check_superior(self, "", call)
        self.check_state("SUBMITTED", "REVIEWED")
        self.state, self.score = "REVIEWED", min(score, 100)
        self._comment(comment, call)

    def give_back(self, reason: str, call: Call) -> None:
        """Gives it back to be changed."""
        check_superior(self, "", call)
        self.check_state("SUBMITTED")
        self.state = "DRAFT"
        self._comment(check_reason(reason), call)

    def _comment(self, words: str, call: Call) -> None:
        if words:
            said = pb.WorkSummary.Comment(
                author=call.caller.employee, text=words, time=to_timestamp(call.now)
            )
            self.comments = [*self.comments, said]


async def take(model: Any, row: Any, reason: str, call: Call) -> None:
    """Refuses a second one for the same person and period, also of two at the same moment."""
    await call.one_at_a_time([f"{reason}:{row.owner}/{row.period}/{row.start_date}"])
    if await call.find(
        model, model.owner == row.owner, model.period == row.period, model.start_date == row.start_date
    ):
        raise FailedPrecondition(reason, period=row.display_name)


async def fill_plans(worked: Collection[tuple[str, date]], call: Call) -> None:
    """The figures of all plans and unsubmitted summaries of people over days on which they worked."""
    if not worked:
        return
    people, days = {person for person, _ in worked}, [day for _, day in worked]
    for model, unfinished in (
        (WorkPlan, WorkPlan.state != "CLOSED"),
        (WorkSummary, WorkSummary.state == "DRAFT"),
    ):
        # Some may be between two of the days: their figures stay what they are.
        theirs = model.owner.in_(sorted(people)), model.start_date <= max(days), model.end_date >= min(days)
        rows = select(model).where(unfinished, *theirs).order_by(model.id).with_for_update()
        for row in list(await call.db.scalars(rows)):
            await row.fill(call)


async def today(person: str, call: Call) -> date:
    """The day that it is for somebody."""
    return recurrence.wall_clock(call.now, await zone_of(person, call)).date()


def check_superior(row: Any, approver: str, call: Call) -> None:
    """Lets the one named decide, else whoever oversees the owner; never the owner."""
    me = call.caller.employee
    if me == row.owner or not (me == approver or oversees(row.owner, call)):
        raise PermissionDenied("NOT_AN_APPROVER")


def _plan(item: Any) -> tuple[Any, ...]:
    return item.key, item.text, item.target, item.measure, item.planned
