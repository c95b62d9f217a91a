"""The discount policy: what makes prices better, by rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, check_currency, same_currency
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.values import Money, zero
from sales.engine import Given, Line, Policy
from sales.engine.policies import meets, rank
from sales.model import versions
from sales.model.base import Base
from sales.model.product import Product, products
from sales.model.versions import DraftOnly
from sqlalchemy import Index, or_, select, text
from sqlalchemy.orm import Mapped

_COPIED = (
    "display_name", "label", "kind", "priority", "valid_from_date", "valid_to_date", "accounts", "account_levels",
    "account_types", "regions", "channels", "products", "categories", "currency", "count", "min_quantity", "max_quantity",
    "min_amount", "max_amount", "coupon", "percent", "amount_off", "fixed_price", "free_product", "free_quantity", "free_per",
    "tiers", "basis", "exclusive", "budget", "cash_mode", "days", "net_days", "roles",
)  # fmt: skip
_SCOPE = (
    "accounts", "account_levels", "account_types", "regions", "channels", "products", "categories", "roles", "currency",
    "coupon",
)  # fmt: skip
# What customers are told where a policy has no label of its own.
_LABELS = {"PROMOTION": "促销优惠", "VOLUME": "批量优惠", "CUSTOMER_TYPE": "客户优惠", "CASH": "现金优惠"}
# A trace also names what has just ended or will begin soon; older and later policies tell nobody anything.
_AROUND = timedelta(days=30)


class DiscountPolicy(DraftOnly, Base):
    """One version of a policy. Only a draft changes; at most one version is in force."""

    __message__ = pb.DiscountPolicy
    __table_args__ = (
        Index("discount_policies_one_draft_key", "root", unique=True, postgresql_where=text("state = 'DRAFT'")),
        Index(
            "discount_policies_one_live_key", "root", unique=True, postgresql_where=text("state IN ('ACTIVE', 'PAUSED')")
        ),
    )  # fmt: skip

    display_name: Mapped[str]
    label: Mapped[str]
    kind: Mapped[str]
    priority: Mapped[int]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]
    accounts: Mapped[list[str]]
    account_levels: Mapped[list[str]]
    account_types: Mapped[list[str]]
    regions: Mapped[list[str]]
    channels: Mapped[list[str]]
    products: Mapped[list[str]]
    categories: Mapped[list[str]]
    currency: Mapped[str]
    count: Mapped[str]
    min_quantity: Mapped[Decimal | None]
    max_quantity: Mapped[Decimal | None]
    min_amount: Mapped[Decimal | None]
    max_amount: Mapped[Decimal | None]
    coupon: Mapped[str]
    percent: Mapped[Decimal | None]
    amount_off: Mapped[Money | None]
    fixed_price: Mapped[Money | None]
    free_product: Mapped[str]
    free_quantity: Mapped[Decimal | None]
    free_per: Mapped[Decimal | None]
    tiers: Mapped[Any]
    basis: Mapped[str]
    exclusive: Mapped[bool]
    budget: Mapped[Money | None]
    budget_used: Mapped[Money | None]
    cash_mode: Mapped[str]
    days: Mapped[int]
    net_days: Mapped[int]
    roles: Mapped[list[str]]
    version_number: Mapped[int]
    root: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state = "DRAFT"
        self.check_content()

    async def activate(self, call: Call) -> None:
        """Puts it in force, in place of the version before; a paused one comes back."""
        self.check_state("DRAFT", "PAUSED")
        self._check_effect()
        free = (await products([self.free_product], call)).get(self.free_product)
        if self.budget is not None and free is not None and self._worth_of(free) is None:
            raise FailedPrecondition("PRICE_MISSING", items=free.display_name)
        await call.one_at_a_time(["discountPolicies.activate"])
        if twin := await self._twin(call):
            raise FailedPrecondition("POLICY_CONFLICT", policy=twin.display_name)
        live = select(DiscountPolicy).where(
            DiscountPolicy.root == self.root, DiscountPolicy.state.in_(("ACTIVE", "PAUSED")),
            DiscountPolicy.id != self.id,
        )  # fmt: skip
        for other in await call.db.scalars(live.with_for_update()):
            other.state = "EXPIRED"
            if self.budget is not None:
                # What is used cannot be taken from a budget of another currency.
                same_currency(self.budget.currency, [other.budget_used])
            self.budget_used = other.budget_used
        await call.flush()
        self.state = "ACTIVE"

    def pause(self) -> None:
        """Takes it out of force for a while."""
        self.check_state("ACTIVE")
        self.state = "PAUSED"

    def expire(self) -> None:
        """Ends it; its days were over before."""
        self.check_state("ACTIVE", "PAUSED")
        self.state = "EXPIRED"

    async def new_version(self, call: Call) -> DiscountPolicy:
        """A draft like this version."""
        return await versions.next_version(self, _COPIED, call)

    def take(self, amount: Money) -> None:
        """Reserves so much of the budget; the row is locked."""
        if self.budget is None:
            return
        used = (self.budget_used or zero(self.budget.currency)) + amount
        if used > self.budget:
            raise FailedPrecondition("BUDGET_USED_UP", policy=self.shown_as())
        self.budget_used = used

    @property
    def on_payment(self) -> bool:
        """Whether it is a term of payment, which lowers nothing now; only a cash discount can be."""
        return self.kind == "CASH" and self.cash_mode == "ON_PAYMENT"

    def shown_as(self) -> str:
        """What customers are told."""
        return self.label or _LABELS.get(self.kind, "")

    def policy(self, free: Product | None = None) -> Policy:
        """As the engine takes it."""
        left, worth = None, Decimal(0)
        if self.budget is not None:
            left = (self.budget - (self.budget_used or zero(self.budget.currency))).amount
            if free is not None and (price := self._worth_of(free)) is not None:
                worth = price.amount
            elif self.free_product:
                # Nobody knows what it would cost, so nothing is left for it.
                left = Decimal(0)
        # An amount is in one currency, so the policy asks for that one.
        money = next(
            (one for one in (self.budget, self.amount_off, self.fixed_price) if one is not None), None
        )
        return Policy(
            name=self.name, label=self.shown_as(), kind=self.kind, version=self.version_number, priority=self.priority,
            start=self.valid_from_date, end=self.valid_to_date, accounts=tuple(self.accounts),
            levels=tuple(self.account_levels), types=tuple(self.account_types), regions=tuple(self.regions),
            channels=tuple(self.channels), products=tuple(self.products), categories=tuple(self.categories),
            currency=self.currency or (money.currency if money is not None else ""), count=self.count or "LINE",
            min_quantity=self.min_quantity, max_quantity=self.max_quantity, min_amount=self.min_amount,
            max_amount=self.max_amount, coupon=self.coupon, percent=self.percent,
            amount_off=self.amount_off.amount if self.amount_off is not None else None,
            fixed_price=self.fixed_price.amount if self.fixed_price is not None else None, free_product=self.free_product,
            free_description=free.display_name if free else "", free_unit=free.unit if free else "",
            free_quantity=self.free_quantity, free_per=self.free_per,
            tiers=tuple((Decimal(tier.from_quantity), Decimal(tier.percent)) for tier in self.tiers),
            on_list=self.basis == "LIST", exclusive=self.exclusive, budget_left=left, free_worth=worth,
            on_payment=self.on_payment, days=self.days, net_days=self.net_days,
        )  # fmt: skip

    def _worth_of(self, free: Product) -> Money | None:
        """What one of the free product takes out of the budget: its list price, where that is in the same currency."""
        price = free.list_price
        return price if price and self.budget and price.currency == self.budget.currency else None

    def check_content(self) -> None:
        """Refuses what can never be right."""
        violations = list(self._wrong())
        if violations:
            raise Validation(*violations)
        if self.currency:
            check_currency(self.currency, "discount_policy.currency")
        given = [money for money in (self.amount_off, self.fixed_price, self.budget) if money is not None]
        same_currency(self.currency or (given[0].currency if given else ""), given)

    def _wrong(self) -> Iterator[Violation]:
        if self.percent is not None and self.percent > HUNDRED:
            yield Violation("discount_policy.percent", "TOO_LARGE", "不能大于 100", "At most 100.")
        for low, high in (
            ("min_quantity", "max_quantity"), ("min_amount", "max_amount"), ("valid_from_date", "valid_to_date"),
        ):  # fmt: skip
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and most < least:
                zh, en = "不能小于下限", "This is below the lower bound."
                yield Violation(f"discount_policy.{high}", "TOO_SMALL", zh, en)
        if (self.min_amount is not None or self.max_amount is not None) and not self.currency:
            yield required("discount_policy.currency")
        if self.kind == "AUTHORITY" and not self.roles:
            yield required("discount_policy.roles")

    def _check_effect(self) -> None:
        """A volume discount has rising tiers; every other says what it gives, once."""
        given = [self.percent, self.amount_off, self.fixed_price, self.free_product or None]
        if self.kind == "VOLUME":
            starts = [Decimal(tier.from_quantity) for tier in self.tiers]
            percents = [Decimal(tier.percent) for tier in self.tiers]
            if not starts or starts != sorted(set(starts)):
                raise FailedPrecondition("TIERS_INVALID", detail="起始数量必须递增 / from_quantity must rise")
            if percents != sorted(set(percents)) or percents[-1] > HUNDRED:
                raise FailedPrecondition(
                    "TIERS_INVALID", detail="折扣必须递增且不超过 100 / percent must rise to 100 at most"
                )
        elif sum(value is not None for value in given) != 1 or (self.on_payment and self.percent is None):
            raise Validation(required("discount_policy.percent"))
        if self.on_payment and not self.days:
            raise Validation(required("discount_policy.days"))

    async def _twin(self, call: Call) -> DiscountPolicy | None:
        """Another policy in force of the same rank, scope and days: nobody could say which one counts."""
        same = select(DiscountPolicy).where(
            DiscountPolicy.state == "ACTIVE", DiscountPolicy.kind == self.kind, DiscountPolicy.root != self.root,
            DiscountPolicy.priority == self.priority,
        )  # fmt: skip
        for other in await call.db.scalars(same):
            if _scope(self) == _scope(other) and _overlap(self, other):
                return other
        return None


def _scope(policy: DiscountPolicy) -> list[Any]:
    values = [getattr(policy, name) for name in _SCOPE]
    bounds = [policy.min_quantity, policy.max_quantity, policy.min_amount, policy.max_amount]
    return [tuple(sorted(value)) if isinstance(value, list) else value for value in values] + bounds


def _overlap(one: DiscountPolicy, other: DiscountPolicy) -> bool:
    return (one.valid_from_date or date.min) <= (other.valid_to_date or date.max) and (
        other.valid_from_date or date.min
    ) <= (one.valid_to_date or date.max)


async def policies_around(day: date, call: Call) -> tuple[list[Policy], list[DiscountPolicy]]:
    """The policies that a pricing of a day looks at, and the limits of manual discounts."""
    statement = select(DiscountPolicy).where(
        or_(
            DiscountPolicy.state == "ACTIVE",
            (DiscountPolicy.state == "EXPIRED") & (DiscountPolicy.valid_to_date < day),
        ),
        or_(DiscountPolicy.valid_to_date.is_(None), DiscountPolicy.valid_to_date >= day - _AROUND),
        or_(DiscountPolicy.valid_from_date.is_(None), DiscountPolicy.valid_from_date <= day + _AROUND),
    )
    rows = list(await call.db.scalars(statement.order_by(DiscountPolicy.id)))
    free = await products((row.free_product for row in rows), call)
    limits = [row for row in rows if row.kind == "AUTHORITY"]
    return [row.policy(free.get(row.free_product)) for row in rows if row.kind != "AUTHORITY"], limits


def limit_for(
    given: Given, line: Line, limits: Iterable[DiscountPolicy], roles: Iterable[str]
) -> Decimal | None:
    """The most that the roles may take off a line by hand, in percent; None where no limit is set for it.

    Of each role the limit counts that is meant most closely, as of policies; of several roles the one that may give most.
    """
    live = [(row.policy(), row.roles) for row in limits if row.state == "ACTIVE"]
    meant = [(policy, named) for policy, named in live if meets(policy, given, line)]
    if not meant:
        return None
    closest: dict[str, Decimal] = {}
    # The closest comes last and stays; of equals the one that gives more.
    for policy, named in sorted(meant, key=lambda one: (rank(one[0]), -(one[0].percent or 0)), reverse=True):
        closest |= dict.fromkeys(named, policy.percent or Decimal(0))
    return max((closest[role] for role in set(roles) & closest.keys()), default=Decimal(0))
