"""The commission plan: by which rules collected money earns."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import check_currency
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation
from sales.commission import tiers_wrong
from sales.model import versions
from sales.model.base import Base, one_at_a_time
from sales.model.versions import DraftOnly
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

_COPIED = (
    "display_name", "currency", "mode", "tiers", "overrides", "employees", "valid_from_date", "valid_to_date", "clawback_months",
)  # fmt: skip


class CommissionPlan(DraftOnly, Base):
    """One version of a plan. Only a draft changes; each day has one version."""

    __message__ = pb.CommissionPlan
    __table_args__ = (
        Index(
            "commission_plans_one_draft_key", "root", unique=True, postgresql_where=text("state = 'DRAFT'")
        ),
        Index(
            "commission_plans_one_active_key", "root", unique=True, postgresql_where=text("state = 'ACTIVE'")
        ),
    )

    display_name: Mapped[str]
    currency: Mapped[str]
    mode: Mapped[str]
    tiers: Mapped[Any]
    overrides: Mapped[Any]
    employees: Mapped[list[str]]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]
    clawback_months: Mapped[int]
    version_number: Mapped[int]
    root: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state, self.mode = "DRAFT", self.mode or "MARGINAL"
        self.check_content()

    async def activate(self, call: Call) -> None:
        """Puts it in force from its first day on; the version before ends the day before."""
        self.check_state("DRAFT")
        if wrong := tiers_wrong(self.rates()):
            raise FailedPrecondition("TIERS_INVALID", detail=wrong)
        await one_at_a_time(call, [self.root])
        before = await call.find(
            CommissionPlan, CommissionPlan.root == self.root, CommissionPlan.state == "ACTIVE", lock=True
        )
        if before is not None:
            before.state = "RETIRED"
            if self.valid_from_date is not None:
                before.valid_to_date = self.valid_from_date - timedelta(days=1)
            await call.flush()
        self.state = "ACTIVE"

    def retire(self, call: Call) -> None:
        """Ends it today."""
        self.check_state("ACTIVE")
        self.state, self.valid_to_date = "RETIRED", today(call)

    async def new_version(self, call: Call) -> CommissionPlan:
        """A draft like this version."""
        return await versions.next_version(self, _COPIED, call)

    def rates(self) -> list[tuple[Decimal, Decimal]]:
        """Its tiers: from which amount, what percentage."""
        return [(Decimal(tier.from_amount or 0), Decimal(tier.percent)) for tier in self.tiers]

    def check_content(self) -> None:
        """Refuses what can never be right."""
        check_currency(self.currency, "commission_plan.currency")
        if self.valid_from_date and self.valid_to_date and self.valid_to_date < self.valid_from_date:
            path, zh, en = (
                "commission_plan.valid_to_date",
                "不能早于生效日期",
                "This lies before the first day.",
            )
            raise Validation(Violation(path, "BEFORE_START", zh, en))


async def plan_for(employee: str, day: date, call: Call) -> CommissionPlan | None:
    """The version that counts for a person on a day: a plan of his own before that for everybody."""
    statement = select(CommissionPlan).where(
        CommissionPlan.state.in_(("ACTIVE", "RETIRED")), CommissionPlan.valid_from_date <= day,
        CommissionPlan.valid_to_date.is_(None) | (CommissionPlan.valid_to_date >= day),
    )  # fmt: skip
    plans = [
        plan for plan in await call.db.scalars(statement) if not plan.employees or employee in plan.employees
    ]
    return min(plans, key=lambda plan: (not plan.employees, -plan.version_number, plan.name), default=None)
