"""The plan of a key account for a year."""

from datetime import date, timedelta
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

REVIEW_DAYS = 90
SERVING = ("RUNNING", "REVIEWED")
IN_FORCE = ("APPROVED", *SERVING)


class AccountPlan(Resource, Base):
    """What is wanted with a key account in a year. While it runs the account is out of the sea and served by its tier."""

    __message__ = pb.AccountPlan
    __table_args__ = (
        Index(
            "account_plans_one_key", "account", "year", unique=True,
            postgresql_where=text("state IN ('APPROVED', 'RUNNING', 'REVIEWED')"),
        ),
        Index("account_plans_review_index", "review_date", postgresql_where=text("state = 'RUNNING'")),
    )  # fmt: skip

    display_name: Mapped[str]
    account: Mapped[str]
    year: Mapped[int]
    objectives: Mapped[Any]
    team: Mapped[Any]
    sponsor: Mapped[str]
    service_tier: Mapped[str]
    meetings: Mapped[Any]
    actions: Mapped[Any]
    scorecard: Mapped[Any]
    review_every_days: Mapped[int]
    review_date: Mapped[date | None]
    reviews: Mapped[Any]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft, called after the account."""
        self.state = "DRAFT"
        account = await call.named(Account, self.account)
        if not self.display_name and account is not None:
            self.display_name = f"{account.display_name} {self.year}"
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Goes on being written while it runs; what was agreed to stays complete."""
        self.check_state("DRAFT", "APPROVED", "RUNNING")
        self._check()
        if self.state != "DRAFT":
            self._check_complete()
        if self.state == "RUNNING":
            from customer import key_accounts

            await key_accounts.follow(self, call)

    async def deleting(self, call: Call) -> None:
        """Only a draft goes."""
        self.check_state("DRAFT")

    async def approve(self, call: Call) -> None:
        """Agreed to; PLAN_EXISTS where the account has one for the year."""
        self.check_state("DRAFT")
        self._check_complete()
        other = await call.find(
            AccountPlan, AccountPlan.account == self.account, AccountPlan.year == self.year,
            AccountPlan.state.in_(IN_FORCE), AccountPlan.id != self.id,
        )  # fmt: skip
        if other is not None:
            raise FailedPrecondition("PLAN_EXISTS", plan=other.number)
        self.state = "APPROVED"
        if self.year <= today(call).year:
            await self.begin(call)

    async def begin(self, call: Call) -> None:
        """Its year has come."""
        from customer import key_accounts

        self.check_state("APPROVED")
        self.state, self.review_date = "RUNNING", today(call) + self._pace()
        await call.flush()
        await key_accounts.follow(self, call)

    async def review(self, findings: str, actions: Any, call: Call) -> None:
        """Looks back; the last time in its year ends with the plan reviewed."""
        from customer import key_accounts

        self.check_state("RUNNING")
        day = today(call)
        if self.review_date is not None and day < self.review_date:
            raise FailedPrecondition("PLAN_REVIEW_EARLY", date=self.review_date.isoformat())
        self.reviews = [*self.reviews, await key_accounts.look_back(self, findings, call)]
        self.actions = [*self.actions, *actions]
        self.review_date = following = day + self._pace()
        if following.year > self.year:
            self.state = "REVIEWED"
        key_accounts.tell_review(self, list(actions), call)

    async def close(self, call: Call) -> None:
        """Over; nothing of it holds the account any more."""
        from customer import key_accounts

        self.check_state(*IN_FORCE)
        self.state = "CLOSED"
        await call.flush()
        await key_accounts.follow(self, call)

    def _pace(self) -> timedelta:
        return timedelta(days=self.review_every_days or REVIEW_DAYS)

    def _check(self) -> None:
        pairs = [(one.contact, one.employee) for one in self.meetings]
        if len(set(pairs)) != len(pairs):
            zh, en = "同一对人员只能列一次。", "Name each pair once."
            raise Validation(Violation("account_plan.meetings", "DUPLICATE", zh, en))

    def _check_complete(self) -> None:
        wrong: list[Violation] = []
        if not self.sponsor:
            wrong.append(required("account_plan.sponsor"))
        if not self.team:
            wrong.append(required("account_plan.team"))
        if not any(one.HasField("target") and one.target.amount for one in self.objectives):
            zh, en = "至少要有一个带金额的目标。", "At least one objective needs money."
            wrong.append(Violation("account_plan.objectives", "REQUIRED", zh, en))
        if wrong:
            raise Validation(*wrong)
