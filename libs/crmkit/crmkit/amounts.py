"""Amounts of documents: one function for quotes, contracts, orders and invoices.

Decimal only; a line's net is rounded once, half up, then its tax; totals are sums of lines and never rounded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from crmkit.errors import InvalidArgument, Validation, Violation
from crmkit.values import Money, is_currency, places, zero

if TYPE_CHECKING:
    from crmkit.call import Call

HUNDRED = Decimal(100)


@dataclass(frozen=True)
class Amounts:
    """Net, tax and gross of a line or a document."""

    net: Money
    tax: Money
    gross: Money


async def titled(account: str, lines: Sequence[Any], call: Call) -> str:
    """What a document is called that nobody has named: its account and its first line."""
    copy = await call.copy(account) or {}
    parts = [copy.get("displayName", ""), lines[0].description if lines else ""]
    return " · ".join(part for part in parts if part)[:200]


def line_amounts(
    quantity: Decimal, unit_price: Money, discount: Money | None, tax_percent: Decimal
) -> Amounts:
    """Net = quantity × price − discount, tax = net × rate, each rounded once."""
    net = unit_price * quantity
    net = (net - discount if discount else net).rounded()
    tax = (net * (tax_percent / HUNDRED)).rounded()
    return Amounts(net, tax, net + tax)


def split(total: Money, weights: Sequence[Decimal]) -> list[Money]:
    """The total in parts by weight, exact in sum: largest remainder, ties to the earlier."""
    unit = Decimal(1).scaleb(-places(total.currency))
    whole = sum(weights, Decimal(0))
    exact = [total.amount * weight / whole for weight in weights]
    parts = [part.quantize(unit, ROUND_DOWN) for part in exact]
    left = int((total.amount - sum(parts, Decimal(0))) / unit)
    step = unit if left >= 0 else -unit
    for index in sorted(range(len(parts)), key=lambda i: -abs(exact[i] - parts[i]))[: abs(left)]:
        parts[index] += step
    return [Money(part, total.currency) for part in parts]


def check_currency(currency: str, path: str) -> None:
    """Refuses what is no ISO 4217 code."""
    if not is_currency(currency):
        zh, en = "没有这个币种，请用 ISO 4217 代码", "There is no such currency. Use a code of ISO 4217."
        raise Validation(Violation(path, "CURRENCY_UNKNOWN", zh, en))


def same_currency(currency: str, amounts: Iterable[Money | None]) -> None:
    """Refuses an amount in another currency than the document's: CURRENCY_MISMATCH."""
    for amount in amounts:
        if amount is not None and amount.currency != currency:
            raise InvalidArgument("CURRENCY_MISMATCH", expected=currency, found=amount.currency)


def number(text: str) -> Decimal:
    """A decimal of a nested message; nothing where it is empty."""
    return Decimal(text) if text else Decimal(0)


def plain(value: Decimal | None) -> str:
    """A decimal as nested messages keep it: no exponent, no trailing zeros; empty where there is none."""
    return "" if value is None else f"{value.normalize():f}"


def price_lines(lines: Sequence[Any], currency: str, path: str) -> tuple[list[Any], Amounts]:
    """Copies of the lines with key, net, tax and gross, and the totals.

    A line is a message with `key, quantity, unit_price, discount, tax_rate, net, tax, gross`. Keys that are there
    stay; new lines get the next free one.
    """
    violations: list[Violation] = []
    priced: list[Any] = []
    total = Amounts(zero(currency), zero(currency), zero(currency))
    last = max((int(line.key) for line in lines if line.key.isdecimal()), default=0)
    seen: set[str] = set()
    for index, line in enumerate(lines):
        copy = type(line)()
        copy.CopyFrom(line)
        if not copy.key.isdecimal() or copy.key in seen:
            last += 1
            copy.key = str(last)
        seen.add(copy.key)
        price, discount = Money.parse(line.unit_price), Money.parse(line.discount)
        same_currency(currency, (price, discount))
        quantity = number(line.quantity)
        if quantity <= 0:
            text = Violation(
                f"{path}[{index}].quantity", "TOO_SMALL", "数量必须大于零", "The quantity must be above zero."
            )
            violations.append(text)
            continue
        amounts = line_amounts(quantity, price or zero(currency), discount, number(line.tax_rate))
        if amounts.net.amount < 0:
            text = Violation(
                f"{path}[{index}].discount", "TOO_LARGE", "折扣超过金额", "The discount exceeds the amount."
            )
            violations.append(text)
            continue
        copy.net.CopyFrom(amounts.net.message())
        copy.tax.CopyFrom(amounts.tax.message())
        copy.gross.CopyFrom(amounts.gross.message())
        total = Amounts(total.net + amounts.net, total.tax + amounts.tax, total.gross + amounts.gross)
        priced.append(copy)
    if violations:
        raise Validation(*violations)
    return priced, total
