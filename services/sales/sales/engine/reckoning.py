"""Decimals: each amount is rounded once, half up, to the minor unit."""

from collections.abc import Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

# The widest quantity times the widest price has 40 digits; the default context would round it.
WIDE = Context(prec=80)


def cents(amount: Decimal, places: int) -> Decimal:
    """Rounded half up to the minor unit."""
    return amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, WIDE)


def percent_of(amount: Decimal, percent: Decimal, places: int) -> Decimal:
    """So many percent of an amount."""
    return cents(WIDE.multiply(amount, percent.scaleb(-2)), places)


def shared(total: Decimal, weights: Sequence[Decimal], places: int) -> list[Decimal]:
    """The total by weight, exact in sum: largest remainder, ties to the earlier."""
    unit, whole = Decimal(1).scaleb(-places), sum(weights, Decimal(0))
    if not whole:
        return [Decimal(0).quantize(unit) for _ in weights]
    exact = [WIDE.divide(WIDE.multiply(total, weight), whole) for weight in weights]
    parts = [part.quantize(unit, ROUND_DOWN, WIDE) for part in exact]
    left = int((total - sum(parts, Decimal(0))) / unit)
    for index in sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])[:left]:
        parts[index] += unit
    return parts
