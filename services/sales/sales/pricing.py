"""What a line of a quote costs: pure reckoning with decimals, rounded half up to the minor unit of the currency.

Each adjustment is rounded once, so that list amount and adjustments give the net amount exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from crmkit import amounts
from crmkit.amounts import HUNDRED
from crmkit.values import Money, zero

# The widest quantity times the widest price has 40 digits; the default context would round it.
_WIDE = Context(prec=80)
TOO_MUCH = Decimal(10) ** 16


@dataclass(frozen=True)
class Amounts:
    """The amounts of a line, or of a document: net = list − discount, gross = net + tax."""

    listed: Money
    discount: Money
    net: Money
    tax: Money
    gross: Money

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.listed + other.listed, self.discount + other.discount, self.net + other.net,
            self.tax + other.tax, self.gross + other.gross,
        )  # fmt: skip

    @property
    def fits(self) -> bool:
        """False where an amount is more than a column can keep."""
        return self.listed.amount < TOO_MUCH and self.gross.amount < TOO_MUCH


def extended(quantity: Decimal, unit_price: Money) -> Money:
    """Quantity times price."""
    with localcontext(_WIDE):
        return (unit_price * quantity).rounded()


def share(amount: Money, percent: Decimal) -> Money:
    """So many percent of an amount."""
    with localcontext(_WIDE):
        return (amount * percent.scaleb(-2)).rounded()


def without_tax(price: Money, rate: Decimal) -> Money:
    """The price less the tax that it contains."""
    with localcontext(_WIDE):
        return Money(price.amount * HUNDRED / (HUNDRED + rate), price.currency).rounded()


def line_amounts(
    quantity: Decimal, unit_price: Money, discount_percent: Decimal, tax_rate: Decimal
) -> Amounts:
    """The amounts of one line; a discount of 100 % leaves exactly nothing."""
    listed = extended(quantity, unit_price)
    discount = share(listed, discount_percent)
    with localcontext(_WIDE):
        priced = amounts.line_amounts(quantity, unit_price, discount, tax_rate)
    return Amounts(listed, discount, priced.net, priced.tax, priced.gross)


def totals(lines: Iterable[Amounts], currency: str) -> Amounts:
    """The sum of the lines."""
    nothing = zero(currency)
    with localcontext(_WIDE):
        return sum(lines, Amounts(nothing, nothing, nothing, nothing, nothing))


def margin_percent(net: Money, cost: Money) -> Decimal | None:
    """What is left of the net amount after cost, in percent with two places; None where nothing is charged."""
    if not net:
        return None
    with localcontext(_WIDE):
        return ((net - cost).amount * HUNDRED / net.amount).quantize(Decimal("0.01"))
