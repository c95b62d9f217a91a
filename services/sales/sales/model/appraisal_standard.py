"""The appraisal standard: by what the people of a department are examined."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, check_currency, plain
from crmkit.call import Call
from crmkit.company import upward
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from sales.model import versions
from sales.model.base import Base
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped


class AppraisalStandard(Resource, Base):
    """What counts, and for how much. One in force for a department; those beneath may have their own."""

    __message__ = pb.AppraisalStandard
    __table_args__ = (
        Index(
            "appraisal_standards_active_key", "for_department", unique=True, postgresql_where=text("state = 'ACTIVE'")
        ),
    )  # fmt: skip

    display_name: Mapped[str]
    for_department: Mapped[str]
    currency: Mapped[str]
    items: Mapped[Any]
    result_metric: Mapped[str]
    rank_shown: Mapped[bool]
    incentives: Mapped[Any]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state, self.result_metric = "DRAFT", self.result_metric or "COLLECTED"
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a draft changes: people must know what they are measured by."""
        self.check_state("DRAFT")
        self._check()

    async def deleting(self, call: Call) -> None:
        """Only a draft goes."""
        self.check_state("DRAFT")

    async def activate(self, call: Call) -> None:
        """Puts it in force, for people whom the caller may judge; the one before of the department retires."""
        self.check_state("DRAFT")
        reach = call.caller.reach("appraisals", "publish")
        if not reach.everything and self.for_department not in reach.departments:
            raise PermissionDenied("PERMISSION_DENIED", permission="sales.appraisals.publish")
        whole = sum((Decimal(item.weight) for item in self.items), Decimal(0))
        if whole != HUNDRED:
            raise FailedPrecondition("WEIGHTS_NOT_100", sum=plain(whole))
        await versions.put_in_force(self, "for_department", call)

    def retire(self) -> None:
        """Takes it out of use."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def _check(self) -> None:
        check_currency(self.currency, "appraisal_standard.currency")
        metrics = [item.metric for item in self.items]
        if len(set(metrics)) != len(metrics):
            zh, en = "同一指标只能出现一次。", "A metric counts once."
            raise Validation(Violation("appraisal_standard.items", "DUPLICATE", zh, en))


async def standards(call: Call) -> dict[str, AppraisalStandard]:
    """The standards in force by department; that of the company under the empty name."""
    asked = select(AppraisalStandard).where(AppraisalStandard.state == "ACTIVE")
    return {row.for_department: row for row in await call.db.scalars(asked)}


def standard_for(
    department: str, known: dict[str, AppraisalStandard], call: Call
) -> AppraisalStandard | None:
    """The standard of a department: its own, else that of the nearest one above, else the company's."""
    nearest = next((name for name, _ in upward(department, call) if name in known), "")
    return known.get(nearest)


def earned(standard: AppraisalStandard, points: Decimal) -> Any:
    """What is to be had for so many points: the highest step that is reached."""
    reached = [one for one in standard.incentives if Decimal(one.from_points) <= points]
    return max(reached, key=lambda one: Decimal(one.from_points), default=None)
