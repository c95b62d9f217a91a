"""The credit of an account: what is granted by people, what is used by facts alone."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import read_date, to_date, to_timestamp
from crmkit.notices import raise_notice
from crmkit.resource import Resource
from crmkit.values import Money
from customer.model.account import Account
from customer.model.base import Base
from customer.model.figure import Figure
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

YEAR = timedelta(days=365)
KEPT_CHECKS = 50
GONE = ("吊销", "注销", "REVOKED", "CANCELLED")


class CreditProfile(Resource, Base):
    """The credit of one account."""

    __message__ = pb.CreditProfile
    __table_args__ = (Index("credit_profiles_one_key", "account", unique=True),)

    account: Mapped[str]
    display_name: Mapped[str]
    grade: Mapped[str]
    scorecard: Mapped[Any]
    score: Mapped[Decimal | None]
    limit: Mapped[Money | None]
    temporary_limit: Mapped[Any]
    term_days: Mapped[int]
    used: Mapped[Money | None]
    available: Mapped[Money | None]
    valid_until_date: Mapped[date | None]
    checks: Mapped[Any]
    state: Mapped[str]
    reason: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins without a grade; belongs to whom the account belongs."""
        account = await call.load(Account, self.account, lock=False)
        self.display_name, self.owner, self.department = (
            account.display_name,
            account.owner,
            account.department,
        )
        self.state = "UNDER_REVIEW"
        await self.reckon(call)

    async def give_grade(self, request: Any, call: Call) -> None:
        """Grades, with line, terms and last day."""
        self.check_state("ACTIVE", "UNDER_REVIEW", "ON_HOLD", "EXPIRED")
        limit = Money.parse(request.limit)
        assert limit is not None
        if self.limit is not None and limit.currency != self.limit.currency and await self._exposed(call):
            raise FailedPrecondition("CREDIT_CURRENCY_LOCKED", currency=self.limit.currency)
        self._score(list(request.scorecard))
        until = read_date(request.valid_until_date) or today(call) + YEAR
        if until < today(call):
            raise Validation(Violation("valid_until_date", "IN_PAST", "不能早于今天", "This day is over."))
        self.grade = pb.CreditProfile.Grade.Name(request.grade)
        self.limit, self.term_days, self.valid_until_date = limit, request.term_days, until
        if self.state != "ON_HOLD":
            self.state, self.reason = "ACTIVE", ""
        await self.reckon(call)
        self._tell(call)

    async def raise_limit(self, request: Any, call: Call) -> None:
        """Grants more for a while; it needs proof."""
        self.check_state("ACTIVE")
        amount, until = Money.parse(request.amount), read_date(request.until_date)
        assert amount is not None and self.limit is not None
        if not request.evidence:
            raise FailedPrecondition("CREDIT_EVIDENCE_MISSING")
        if amount.currency != self.limit.currency:
            raise FailedPrecondition("CURRENCY_MISMATCH", expected=self.limit.currency, found=amount.currency)
        if until is None or until < today(call):
            raise Validation(Violation("until_date", "IN_PAST", "不能早于今天", "This day is over."))
        self.temporary_limit = pb.CreditProfile.Temporary(amount=amount.message(), until_date=to_date(until))
        await self.reckon(call)
        self._tell(call)

    def hold(self, reason: str, call: Call) -> None:
        """Stops new business on credit."""
        self.check_state("ACTIVE", "UNDER_REVIEW", "EXPIRED")
        self.state, self.reason = "ON_HOLD", reason
        self._tell(call)

    def release(self, call: Call) -> None:
        """Lets business on credit go on, as far as the grade is good."""
        self.check_state("ON_HOLD")
        self.reason = ""
        if not self.grade:
            self.state = "UNDER_REVIEW"
        else:
            over = self.valid_until_date is not None and self.valid_until_date < today(call)
            self.state = "EXPIRED" if over else "ACTIVE"
        self._tell(call)

    def review(self, held: bool, call: Call) -> None:
        """Another customer has come to it: the grade is looked at anew, and a hold of either stays."""
        self.state, self.reason = ("ON_HOLD" if held else "UNDER_REVIEW"), "MERGE"
        self._tell(call)

    def check(self, source: str, status: str, evidence: str, call: Call) -> None:
        """Keeps what a register said; a company that is no more asks for a review."""
        one = pb.CreditProfile.Check(
            source=source, status=status, evidence=evidence, time=to_timestamp(call.now)
        )
        self.checks = [*self.checks, one][-KEPT_CHECKS:]
        if any(word in status.upper() for word in GONE) and self.state != "ON_HOLD":
            self.state, self.reason = "UNDER_REVIEW", f"{source}: {status}"
            self._tell(call)

    async def follow(self, call: Call) -> None:
        """Takes what billing says, and what has ended, into the figures; tells where that changes something."""
        before = (self.used, self.available, self.state)
        day = today(call)
        if self.state == "ACTIVE" and self.valid_until_date is not None and self.valid_until_date < day:
            self.state = "EXPIRED"
        if self.temporary_limit is not None and (read_date(self.temporary_limit.until_date) or day) < day:
            self.temporary_limit = None
        await self.reckon(call)
        if (self.used, self.available, self.state) != before:
            self._tell(call)

    async def reckon(self, call: Call) -> None:
        """used = what the account owes; available = limit and valid temporary limit less used."""
        balances = (
            await call.db.execute(
                select(Figure.currency, func.sum(Figure.amount))
                .where(
                    Figure.account == self.account,
                    Figure.collection == "accountBalances",
                    Figure.state != "DELETED",
                )
                .group_by(Figure.currency)
            )
        ).all()
        owed = {row[0]: Decimal(row[1] or 0) for row in balances}
        was_over = self.available is not None and self.available.amount < 0
        if self.limit is None:
            currency = next(iter(sorted(owed)), "")
            self.used, self.available = Money(owed[currency], currency) if currency else None, None
            return
        currency = self.limit.currency
        more = Decimal(self.temporary_limit.amount.amount) if self.temporary_limit is not None else Decimal(0)
        used = owed.get(currency, Decimal(0))
        left = self.limit.amount + more - used
        self.used, self.available = Money(used, currency), Money(left, currency)
        if left < 0 and not was_over:
            self._warn(call)

    async def _exposed(self, call: Call) -> bool:
        await self.reckon(call)
        return self.used is not None and self.used.amount != 0

    def _score(self, scorecard: Sequence[Any]) -> None:
        if scorecard and sum(Decimal(one.weight) for one in scorecard) != 100:
            raise Validation(
                Violation(
                    "scorecard", "WEIGHTS_NOT_100", "权重合计必须为 100%", "The weights must add up to 100 %."
                )
            )
        if any(Decimal(one.score or 0) > 100 for one in scorecard):
            raise Validation(
                Violation("scorecard", "TOO_LARGE", "得分不能超过 100", "A score is at most 100.")
            )
        self.scorecard = list(scorecard)
        points = sum((Decimal(one.weight) * Decimal(one.score or 0) / 100 for one in scorecard), Decimal(0))
        self.score = points.quantize(Decimal("0.01")) if scorecard else None

    def _tell(self, call: Call) -> None:
        call.emit(events.CreditProfileChanged, profile=self, hold=self.state == "ON_HOLD")

    def _warn(self, call: Call) -> None:
        assert self.used is not None and self.limit is not None
        used, limit = f"{self.used.amount:f}", f"{self.limit.amount:f}"
        zh = f"{self.display_name} 已用额度 {used} 超过信用额度 {limit}"
        en = f"{self.display_name} uses {used} of a credit line of {limit}"
        raise_notice(
            "credit", zh, en, call, key=f"credit:{self.id}:{limit}:{used}",
            employees=[self.owner], roles=["finance"], subjects=[self.name, self.account],
        )  # fmt: skip


async def follow_accounts(accounts: Iterable[str], call: Call) -> None:
    """Brings the profiles of these accounts up to date."""
    statement = (
        select(CreditProfile).where(CreditProfile.account.in_(sorted(accounts))).order_by(CreditProfile.id)
    )
    for profile in await call.db.scalars(statement.with_for_update()):
        await profile.follow(call)


async def follow_days(as_of: datetime, call: Call) -> None:
    """Ends grades and temporary limits whose last day is over."""
    day = today(call)
    until = text(
        "make_date((temporary_limit #>> '{untilDate,year}')::int, (temporary_limit #>> '{untilDate,month}')::int,"
        " (temporary_limit #>> '{untilDate,day}')::int) < :day"
    ).bindparams(day=day)
    over = (CreditProfile.state == "ACTIVE") & (CreditProfile.valid_until_date < day)
    statement = select(CreditProfile).where(over | until).limit(500)
    for profile in await call.db.scalars(statement.with_for_update(skip_locked=True)):
        await profile.follow(call)
