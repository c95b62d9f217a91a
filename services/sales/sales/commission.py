"""What collected money earns, reckoned without any I/O.

What a person has in all is always the rounded function of what was collected for him, however it came in: each entry is
the difference of two such values, so that the ledger never drifts from a full reckoning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sales.engine.reckoning import WIDE, cents, percent_of, shared

NOTHING = Decimal(0)
HUNDRED = Decimal(100)
Tiers = Sequence[tuple[Decimal, Decimal]]


@dataclass(frozen=True)
class Earned:
    """What one movement of money changes for one person."""

    amount: Decimal
    true_up: Decimal
    slices: tuple[tuple[Decimal, Decimal], ...]


def slabs(tiers: Tiers, low: Decimal, high: Decimal) -> list[tuple[Decimal, Decimal]]:
    """The parts of an interval in each tier, with its percentage."""
    found: list[tuple[Decimal, Decimal]] = []
    for place, (start, percent) in enumerate(tiers):
        end = tiers[place + 1][0] if place + 1 < len(tiers) else max(high, start)
        part = min(high, end) - max(low, start)
        if part > 0:
            found.append((part, percent))
    return found


def marginal(tiers: Tiers, total: Decimal, places: int) -> Decimal:
    """What a total is worth where each slab has its own rate."""
    exact = sum((WIDE.multiply(part, percent) for part, percent in slabs(tiers, NOTHING, total)), NOTHING)
    return percent_of(exact, Decimal(1), places)


def rate_at(tiers: Tiers, total: Decimal) -> Decimal:
    """The rate that a total has reached."""
    reached = [percent for start, percent in tiers if start <= total]
    return reached[-1] if reached else NOTHING


def whole(tiers: Tiers, total: Decimal, places: int) -> Decimal:
    """What a total is worth where all of it has the rate that is reached."""
    return percent_of(total, rate_at(tiers, total), places)


def earn(mode: str, tiers: Tiers, before: Decimal, base: Decimal, places: int) -> Earned:
    """What a further base earns, or, where it is below nothing, takes back from the top."""
    after = before + base
    if mode == "MARGINAL":
        amount = marginal(tiers, after, places) - marginal(tiers, before, places)
        low, high = sorted((before, after))
        return Earned(amount, NOTHING, tuple(slabs(tiers, low, high)))
    percent = rate_at(tiers, after if base > 0 else before)
    amount = percent_of(base, percent, places)
    true_up = whole(tiers, after, places) - whole(tiers, before, places) - amount
    return Earned(amount, true_up, ((abs(base), percent),))


def split(base: Decimal, shares: Sequence[Decimal], places: int) -> list[Decimal]:
    """A base by the shares of a team, exact in sum; what is not given to anybody is left out."""
    rest = HUNDRED - sum(shares, NOTHING)
    parts = shared(abs(base), [*shares, rest], places)[: len(shares)]
    return [part if base >= 0 else -part for part in parts]


def tiers_wrong(tiers: Tiers, units: bool = False) -> str:
    """Why tiers are no tiers; empty where they are."""
    starts = [start for start, _ in tiers]
    if not tiers or starts[0] != 0:
        return "第一档必须从 0 开始 / the first tier starts at 0"
    if starts != sorted(set(starts)):
        return "起始金额必须递增 / from_amount must rise"
    if not units and any(percent > HUNDRED for _, percent in tiers):
        return "比例不能超过 100 / percent is at most 100"
    return ""


@dataclass(frozen=True)
class Item:
    """A part of a movement of money: what it was for, and how much of it is paid."""

    amount: Decimal
    units: Decimal = NOTHING
    margin_percent: Decimal | None = None
    product: str = ""
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A rate of its own for some products, customers or deals. What names products leaves free text out."""

    percent: Decimal
    products: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    account_types: frozenset[str] = frozenset()
    # "NEW", "REPEAT" or empty for both.
    deals: str = ""

    def fits(self, item: Item, account_type: str, repeat: bool) -> bool:
        """Whether the rate is for that."""
        sold = item.product in self.products or bool(self.categories.intersection(item.categories))
        return (
            (sold or not (self.products or self.categories))
            and (not self.account_types or account_type in self.account_types)
            and (not self.deals or self.deals == ("REPEAT" if repeat else "NEW"))
        )


@dataclass(frozen=True)
class Terms:
    """A plan, without any I/O."""

    basis: str
    mode: str
    tiers: Tiers
    rules: Sequence[Rule]
    cap: Decimal | None
    # Decimal places of what it pays.
    places: int

    @property
    def scale(self) -> Decimal:
        """Rates for units are money, all others percent."""
        return HUNDRED if self.basis == "UNITS" else Decimal(1)

    @property
    def scaled(self) -> Tiers:
        """The tiers with rates in percent."""
        return [(start, percent * self.scale) for start, percent in self.tiers]

    @property
    def base_places(self) -> int:
        """Decimal places of what counts."""
        return 4 if self.basis == "UNITS" else self.places

    def counted(self, item: Item) -> Decimal:
        """What of a part counts."""
        if self.basis == "UNITS":
            return item.units
        if self.basis == "MARGIN":
            return WIDE.multiply(item.amount, (item.margin_percent or NOTHING).scaleb(-2))
        return item.amount


@dataclass(frozen=True)
class Total:
    """What a person has in a calendar year under a plan: what counts for the tiers, and earned before the cap."""

    tier_base: Decimal = NOTHING
    earned: Decimal = NOTHING


@dataclass
class Worth:
    """What a movement is worth to one person."""

    base: Decimal = NOTHING
    tier_base: Decimal = NOTHING
    amount: Decimal = NOTHING
    true_up: Decimal = NOTHING
    before_cap: Decimal = NOTHING
    slices: list[tuple[Decimal, Decimal, str]] = field(default_factory=list[tuple[Decimal, Decimal, str]])


def worth(
    terms: Terms, items: Sequence[Item], account_type: str, repeat: bool, shares: Sequence[Decimal],
    totals: Mapping[int, Total],
) -> dict[int, Worth]:  # fmt: skip
    """What a movement is worth to those of a team who earn by a plan: `totals` has them by their place in `shares`.

    Of a flat rate the people's parts add up to the rate of the whole to the cent; by tiers each has the difference of two
    rounded totals.
    """
    found = {place: Worth() for place in totals}
    groups: dict[int, Decimal] = {}
    for item in items:
        fitting = (n for n, rule in enumerate(terms.rules) if rule.fits(item, account_type, repeat))
        rule = next(fitting, -1)
        groups[rule] = groups.get(rule, NOTHING) + terms.counted(item)
    for rule, counted in sorted(groups.items()):
        if rule < 0 and not terms.tiers:
            continue
        parts = split(cents(counted, terms.base_places), shares, terms.base_places)
        flat = (
            terms.rules[rule].percent if rule >= 0 else terms.tiers[0][1] if len(terms.tiers) == 1 else None
        )
        if flat is not None:
            _flat(
                terms,
                flat,
                {place: parts[place] for place in found},
                f"RATE {rule + 1}" if rule >= 0 else "TIER",
                found,
            )
        for place, one in found.items():
            one.base += parts[place]
            if rule < 0:
                one.tier_base = parts[place]
            if flat is None and parts[place]:
                got = earn(terms.mode, terms.scaled, totals[place].tier_base, parts[place], terms.places)
                one.amount, one.true_up = one.amount + got.amount, one.true_up + got.true_up
                one.slices += [(size, percent / terms.scale, "TIER") for size, percent in got.slices]
    for place, one in found.items():
        one.before_cap = one.amount + one.true_up
        if terms.cap is not None:
            before = totals[place].earned
            capped = min(before + one.before_cap, terms.cap) - min(before, terms.cap)
            if capped != one.before_cap:
                one.amount, one.true_up = capped, NOTHING
    return found


def _flat(
    terms: Terms, percent: Decimal, parts: Mapping[int, Decimal], rule: str, found: Mapping[int, Worth]
) -> None:
    whole = sum(parts.values(), NOTHING)
    total = percent_of(abs(whole), percent * terms.scale, terms.places)
    weights = [abs(part) for part in parts.values()]
    for place, amount in zip(parts, shared(total, weights, terms.places), strict=True):
        found[place].amount += amount if whole >= 0 else -amount
        if parts[place]:
            found[place].slices.append((abs(parts[place]), percent, rule))
