"""The commission plan: by which rules collected money earns."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, check_currency
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.values import places
from sales.commission import Rule, Terms, tiers_wrong
from sales.model import versions
from sales.model.base import Base
from sales.model.beneficiaries import is_partner
from sales.model.versions import DraftOnly
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

_COPIED = (
    "display_name", "currency", "mode", "tiers", "overrides", "employees", "valid_from_date", "valid_to_date", "clawback_months",
    "basis", "rates", "spiffs", "cap", "referral_percent", "after_handover", "handover_months",
    "partners", "for_partners", "counts_penalties",
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
    partners: Mapped[list[str]]
    for_partners: Mapped[bool]
    counts_penalties: Mapped[bool]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]
    clawback_months: Mapped[int]
    basis: Mapped[str]
    rates: Mapped[Any]
    spiffs: Mapped[Any]
    cap: Mapped[Decimal | None]
    referral_percent: Mapped[Decimal | None]
    after_handover: Mapped[str]
    handover_months: Mapped[int]
    version_number: Mapped[int]
    root: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state, self.mode, self.basis = "DRAFT", self.mode or "MARGINAL", self.basis or "COLLECTED"
        self.check_content()

    async def activate(self, call: Call) -> None:
        """Puts it in force from its first day on; the version before ends the day before."""
        self.check_state("DRAFT")
        terms = self.terms()
        # Rates of their own are enough.
        if (terms.tiers or not terms.rules) and (wrong := tiers_wrong(terms.tiers, terms.basis == "UNITS")):
            raise FailedPrecondition("TIERS_INVALID", detail=wrong)
        before = await versions.put_in_force(self, "root", call)
        if before is not None and self.valid_from_date is not None:
            before.valid_to_date = self.valid_from_date - timedelta(days=1)

    def retire(self, call: Call) -> None:
        """Ends it today."""
        self.check_state("ACTIVE")
        self.state, self.valid_to_date = "RETIRED", today(call)

    async def new_version(self, call: Call) -> CommissionPlan:
        """A draft like this version."""
        return await versions.next_version(self, _COPIED, call)

    def covers(self, beneficiary: str, registered: bool) -> bool:
        """Whether somebody earns by it; a partner does for what he has registered, or where it was agreed by name."""
        if is_partner(beneficiary):
            return beneficiary in self.partners or (self.for_partners and registered)
        everybody = not (self.employees or self.partners or self.for_partners)
        return everybody or beneficiary in self.employees

    def terms(self) -> Terms:
        """Its rules, to reckon with."""
        return Terms(
            self.basis, self.mode, [(Decimal(tier.from_amount or 0), Decimal(tier.percent)) for tier in self.tiers],
            [
                Rule(
                    Decimal(rate.percent), frozenset(rate.products), frozenset(rate.categories), frozenset(rate.account_types),
                    pb.CommissionPlan.Deals.Name(rate.deals) if rate.deals else "",
                )
                for rate in self.rates
            ],
            self.cap, places(self.currency),
        )  # fmt: skip

    def check_content(self) -> None:
        """Refuses what can never be right."""
        check_currency(self.currency, "commission_plan.currency")
        if self.valid_from_date and self.valid_to_date and self.valid_to_date < self.valid_from_date:
            text = "不能早于生效日期", "This lies before the first day."
            raise Validation(Violation("commission_plan.valid_to_date", "BEFORE_START", *text))
        for place, rate in enumerate(self.rates if self.basis != "UNITS" else ()):
            if Decimal(rate.percent) > HUNDRED:
                path = f"commission_plan.rates[{place}].percent"
                raise Validation(Violation(path, "TOO_LARGE", "不能大于 100", "At most 100."))


async def plan_for(
    beneficiary: str, day: date, call: Call, registered: bool = False
) -> CommissionPlan | None:
    """The version that counts for somebody on a day: a plan of his own before that for everybody."""
    statement = select(CommissionPlan).where(
        CommissionPlan.state.in_(("ACTIVE", "RETIRED")), CommissionPlan.valid_from_date <= day,
        CommissionPlan.valid_to_date.is_(None) | (CommissionPlan.valid_to_date >= day),
    )  # fmt: skip
    plans = [plan for plan in await call.db.scalars(statement) if plan.covers(beneficiary, registered)]

    def rank(plan: CommissionPlan) -> tuple[bool, int, str]:
        return beneficiary not in (*plan.employees, *plan.partners), -plan.version_number, plan.name

    return min(plans, key=rank, default=None)
