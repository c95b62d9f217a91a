"""The appraisal: how somebody did in a month."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied, Validation, Violation, required
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sales.model.appraisal_standard import AppraisalStandard, earned
from sales.model.base import HANDOVER, Base
from sqlalchemy import ColumnElement, Index, or_, select
from sqlalchemy.orm import Mapped

PUBLISHES = "sales.appraisals.publish"
APPEAL_DAYS = timedelta(days=10)


class Appraisal(Resource, Base):
    """A month of somebody. The draft is the superiors'; published it is frozen, and what changes is a line of its own."""

    __message__ = pb.Appraisal
    handed_over = False
    follows_departments = False
    __table_args__ = (
        Index("appraisals_month_key", "employee", "month", unique=True),
        Index("appraisals_standard_month_index", "standard", "month"),
    )

    employee: Mapped[str]
    month: Mapped[str]
    standard: Mapped[str]
    currency: Mapped[str]
    items: Mapped[Any]
    points: Mapped[Decimal | None]
    corrections: Mapped[Any]
    efficiency: Mapped[Any]
    findings: Mapped[Any]
    incentive: Mapped[Any]
    comment: Mapped[str]
    appeal: Mapped[str]
    answer: Mapped[str]
    appeal_until_date: Mapped[date | None]
    reckon_time: Mapped[datetime | None]
    state: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Drafts are the superiors', also those of a superior's own month."""
        if caller.is_system:
            return None
        shown = cls.state != "DRAFT"
        return or_(shown, cls.employee != caller.employee) if caller.may(PUBLISHES) else shown

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The comment is written in the draft."""
        if changed - HANDOVER:
            self.check_state("DRAFT")

    def publish(self, call: Call) -> None:
        """Shows it to the person and freezes it; there are ten days to appeal."""
        self._not_own(call)
        self.check_state("DRAFT")
        last = today(call) + APPEAL_DAYS
        self.state, self.appeal_until_date = "PUBLISHED", last
        due = datetime.combine(last + timedelta(days=1), time.min, ZONE)
        call.emit(events.AppraisalPublished, appraisal=self, people=[self.employee], due=to_timestamp(due))

    def object(self, text: str, call: Call) -> None:
        """The person does not agree."""
        self._only_own(call)
        self.check_state("PUBLISHED")
        if not text.strip():
            raise Validation(required("text"))
        if self.appeal_until_date is not None and today(call) > self.appeal_until_date:
            raise FailedPrecondition("APPEAL_TOO_LATE", date=self.appeal_until_date.isoformat())
        self.state, self.appeal = "APPEALED", text.strip()

    async def correct(self, metric: str, points: Decimal, reason: str, call: Call) -> None:
        """More points or fewer, as a line beside what was published."""
        self._not_own(call)
        self.check_state("PUBLISHED", "APPEALED", "CONFIRMED")
        number = pb.AppraisalStandard.Metric.Value(metric) if metric else 0
        if number not in {item.metric for item in self.items}:
            zh, en = "考核表没有这个指标。", "The sheet has no such item."
            raise Validation(Violation("metric", "UNKNOWN_VALUE", zh, en))
        line = pb.Appraisal.Correction(
            metric=pb.AppraisalStandard.Metric.Name(number), points=plain(points), reason=reason,
            actor=call.caller.actor, time=to_timestamp(call.now),
        )  # fmt: skip
        self.corrections = [*self.corrections, line]
        whole = (self.points or Decimal(0)) + points
        self.points, self.incentive = whole, earned(await self._its_standard(call), whole)

    def confirm(self, text: str, call: Call) -> None:
        """The person agrees; an appeal is answered by a superior."""
        self.check_state("PUBLISHED", "APPEALED")
        if self.state == "PUBLISHED":
            self._only_own(call)
        else:
            self._not_own(call)
            if not call.caller.may(PUBLISHES):
                raise PermissionDenied("PERMISSION_DENIED", permission=PUBLISHES)
            if not text.strip():
                raise Validation(required("text"))
            self.answer = text.strip()
        self.settle(call)

    def settle(self, call: Call) -> None:
        """It stands."""
        self.state = "CONFIRMED"
        call.emit(events.AppraisalConfirmed, appraisal=self)

    async def rank(self, call: Call) -> pb.GetAppraisalRankResponse:
        """The place among those with the same standard and month, without names."""
        if not (await self._its_standard(call)).rank_shown:
            raise FailedPrecondition("RANK_NOT_SHOWN")
        alike = select(Appraisal.points).where(
            Appraisal.standard == self.standard, Appraisal.month == self.month, Appraisal.state != "DRAFT"
        )
        async with call.everybody():
            found = [points or Decimal(0) for points in await call.db.scalars(alike)]
        mine = self.points or Decimal(0)
        return pb.GetAppraisalRankResponse(
            rank=1 + sum(points > mine for points in found), people=len(found),
            points=[f"{points:.2f}" for points in sorted(found, reverse=True)],
        )  # fmt: skip

    async def _its_standard(self, call: Call) -> AppraisalStandard:
        found = await call.named(AppraisalStandard, self.standard)
        if found is None:
            raise NotFound()
        return found

    def _only_own(self, call: Call) -> None:
        if call.caller.employee != self.employee:
            raise PermissionDenied("NOT_YOUR_APPRAISAL")

    def _not_own(self, call: Call) -> None:
        if call.caller.employee == self.employee:
            raise PermissionDenied("OWN_APPRAISAL")
