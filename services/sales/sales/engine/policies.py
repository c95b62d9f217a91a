"""Which policy of a kind applies to a line, and what it takes off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from crmkit.amounts import plain

from sales.engine.given import Given, Line, Policy
from sales.engine.reckoning import WIDE, cents, percent_of, shared
from sales.engine.result import Rejection

# Of very many policies those are told that nearly fit, before those for other products and people.
MOST_TOLD = 20
_FAR = ("OTHER_PRODUCT", "OTHER_CUSTOMER")
KINDS = ("PROMOTION", "VOLUME", "CUSTOMER_TYPE", "CASH")


@dataclass(frozen=True)
class Scale:
    """Quantity and list amount that the conditions of a policy look at."""

    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True)
class Situation:
    """A line on its way through the chain."""

    given: Given
    line: Line
    listed: Decimal
    left: Decimal
    scales: dict[str, Scale]
    blocked: frozenset[str]


@dataclass(frozen=True)
class Applied:
    """A policy that fits, and what it takes off."""

    policy: Policy
    off: Decimal
    effect: str
    why: str


def choose(
    kind: str, exclusive: Policy | None, at: Situation
) -> tuple[Applied | None, tuple[Rejection, ...]]:
    """The one policy of a kind, by a total order; the others with the reason that kept each out."""
    fitting: list[Applied] = []
    rejected: list[Rejection] = []
    for policy in at.given.policies:
        if policy.kind != kind:
            continue
        reason = "EXCLUSIVE_WITH" if exclusive else _reason(policy, at)
        if reason:
            rejected.append(Rejection(policy.name, policy.label, reason))
        else:
            fitting.append(_applied(policy, at))
    fitting.sort(key=lambda one: _rank(one))
    outranked = (Rejection(one.policy.name, one.policy.label, "OUTRANKED") for one in fitting[1:])
    told = sorted([*outranked, *rejected], key=lambda one: one.reason in _FAR)
    return (fitting[0] if fitting else None), tuple(told[:MOST_TOLD])


def next_threshold(policy: Policy, quantity: Decimal) -> Decimal | None:
    """The next quantity from which the policy gives more."""
    starts = (
        [start for start, _ in policy.tiers]
        if policy.kind == "VOLUME"
        else [policy.min_quantity or Decimal(0)]
    )
    above = [start for start in starts if start > quantity]
    return min(above, default=None)


def in_scope(policy: Policy, line: Line) -> bool:
    """Whether it is for the product."""
    if policy.products and line.product not in policy.products:
        return False
    return not policy.categories or bool(set(policy.categories) & set(line.categories))


def meets(policy: Policy, given: Given, line: Line) -> bool:
    """Whether it is for the day, the customer, the product and the currency."""
    apart = _of_time(policy, given) or _of_party(policy, given) or not in_scope(policy, line)
    return not apart and policy.currency in ("", given.currency)


def rank(policy: Policy) -> tuple[int, int, int]:
    """Higher priority, then narrower scope: whom it is for, then what."""
    whom = 0 if policy.accounts else 1 if policy.levels else 2 if policy.types else 3
    what = 0 if policy.products else 1 if policy.categories else 2
    return -policy.priority, whom, what


def _reason(policy: Policy, at: Situation) -> str:
    """What keeps a policy out; empty where nothing does."""
    return (
        _of_time(policy, at.given)
        or _of_party(policy, at.given)
        or _of_thing(policy, at)
        or _of_scale(policy, at)
    )


def _of_time(policy: Policy, given: Given) -> str:
    if policy.start and given.day < policy.start:
        return "NOT_STARTED"
    if policy.end and given.day > policy.end:
        return "EXPIRED"
    return ""


def _of_party(policy: Policy, given: Given) -> str:
    party = given.party
    if policy.accounts and party.account not in policy.accounts:
        return "OTHER_CUSTOMER"
    if (policy.levels and party.level not in policy.levels) or (
        policy.types and party.type not in policy.types
    ):
        return "OTHER_CUSTOMER_TYPE"
    if policy.regions and not any(covers(region, party.region) for region in policy.regions):
        return "OTHER_REGION"
    if policy.channels and party.channel not in policy.channels:
        return "OTHER_CHANNEL"
    return ""


def _of_thing(policy: Policy, at: Situation) -> str:
    if not in_scope(policy, at.line):
        return "OTHER_PRODUCT"
    if policy.currency and policy.currency != at.given.currency:
        return "CURRENCY"
    if policy.coupon and policy.coupon not in at.given.coupons:
        return "COUPON_MISSING"
    return "BUDGET_USED_UP" if policy.name in at.blocked or policy.budget_left == 0 else ""


def _of_scale(policy: Policy, at: Situation) -> str:
    scale = at.scales[policy.count]
    if policy.kind == "VOLUME" and _tier(policy, scale.quantity) is None:
        return "QUANTITY_BELOW"
    bounds = (
        (policy.min_quantity, scale.quantity, "QUANTITY_BELOW", True),
        (policy.max_quantity, scale.quantity, "QUANTITY_ABOVE", False),
        (policy.min_amount, scale.amount, "AMOUNT_BELOW", True),
        (policy.max_amount, scale.amount, "AMOUNT_ABOVE", False),
    )
    for bound, value, reason, least in bounds:
        if bound is not None and (value < bound if least else value > bound):
            return reason
    return ""


def _tier(policy: Policy, quantity: Decimal) -> tuple[Decimal, Decimal] | None:
    reached = [tier for tier in policy.tiers if tier[0] <= quantity]
    return max(reached, default=None)


def _applied(policy: Policy, at: Situation) -> Applied:
    """What it takes off: never more than is left."""
    line, places = at.line, at.given.places
    if policy.kind == "VOLUME":
        start, percent = _tier(policy, at.scales[policy.count].quantity) or (Decimal(0), Decimal(0))
        why = f"≥ {plain(start)}"
    else:
        percent, why = policy.percent or Decimal(0), _condition(policy)
    if policy.fixed_price is not None:
        off, effect = (
            at.left - cents(policy.fixed_price * line.quantity, places),
            f"= {plain(policy.fixed_price)}",
        )
    elif policy.amount_off is not None:
        off = _part_of(policy, at)
        effect = f"-{plain(off)}"
    elif policy.free_product:
        off, effect = Decimal(0), f"+ {policy.free_description}"
    else:
        off, effect = (
            percent_of(at.listed if policy.on_list else at.left, percent, places),
            f"-{plain(percent)}%",
        )
    return Applied(policy, min(max(off, Decimal(0)), at.left), effect, why)


def _part_of(policy: Policy, at: Situation) -> Decimal:
    """An amount that is earned by one line is taken off it; one that several earn together is shared by what they cost."""
    amount, given = policy.amount_off or Decimal(0), at.given
    if policy.count == "LINE" or given.engine < 2:
        return amount
    own = at.line.categories[:1]
    sharing = [
        line for line in given.lines
        if in_scope(policy, line) and line.typed is None and line.price is not None
        and (policy.count == "QUOTE" or line.categories[:1] == own)
    ]  # fmt: skip
    costs = [
        cents(WIDE.multiply(line.price.amount, line.quantity), given.places)
        for line in sharing if line.price is not None
    ]  # fmt: skip
    parts = zip(sharing, shared(amount, costs, given.places), strict=True)
    return next((part for line, part in parts if line.key == at.line.key), Decimal(0))


def _condition(policy: Policy) -> str:
    parts = [f"≥ {plain(policy.min_quantity)}"] if policy.min_quantity else []
    parts += [f"≥ {plain(policy.min_amount)} {policy.currency}".strip()] if policy.min_amount else []
    return ", ".join([*parts, *([policy.coupon] if policy.coupon else [])])


def _rank(one: Applied) -> tuple[int, int, int, Decimal, int, str]:
    """By rank, then larger benefit, newer version, name."""
    return (*rank(one.policy), -one.off, -one.policy.version, one.policy.name)


def covers(region: str, code: str) -> bool:
    """Whether a division lies in another: 31 or 310000 covers 310115."""
    stem = region[:-4] if region.endswith("0000") else region[:-2] if region.endswith("00") else region
    return bool(code) and code.startswith(stem)


def validity(start: Iterable[object]) -> str:
    """The days of a policy in words."""
    first, last = (str(day) if day else "" for day in start)
    return f"{first}/{last}" if first or last else ""
