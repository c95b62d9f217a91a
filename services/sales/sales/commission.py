"""What collected money earns, reckoned without any I/O.

What a person has in all is always the rounded function of what was collected for him, however it came in: each entry is
the difference of two such values, so that the ledger never drifts from a full reckoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sales.engine.reckoning import WIDE, percent_of, shared

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


def tiers_wrong(tiers: Tiers) -> str:
    """Why tiers are no tiers; empty where they are."""
    starts = [start for start, _ in tiers]
    if not tiers or starts[0] != 0:
        return "第一档必须从 0 开始 / the first tier starts at 0"
    if starts != sorted(set(starts)):
        return "起始金额必须递增 / from_amount must rise"
    if any(percent > HUNDRED for _, percent in tiers):
        return "比例不能超过 100 / percent is at most 100"
    return ""
