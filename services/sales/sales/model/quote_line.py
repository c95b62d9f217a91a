"""How a line of a quote gets its price, and the trace that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.errors import InvalidArgument, Validation, Violation, required
from crmkit.values import Money, zero
from sales.model.price_book import PriceBook
from sales.model.product import Product
from sales.pricing import HUNDRED, Amounts, extended, line_amounts, without_tax

Line = pb.Quote.Line
Step = pb.Quote.PriceStep


@dataclass(frozen=True)
class Found:
    """A price of one without tax, and where it was found."""

    price: Money
    source: str
    policy: str = ""
    version: str = ""
    why: str = ""


@dataclass(frozen=True)
class Priced:
    """A line with everything reckoned; no amounts where there is no price."""

    line: Any
    amounts: Amounts | None
    cost: Money | None
    below_floor: bool

    @property
    def label(self) -> str:
        """What people call it."""
        return str(self.line.description or self.line.product)


def price_line(
    line: Any, product: Product | None, books: Sequence[PriceBook], currency: str, path: str
) -> Priced:
    """Prices one line. Pure: the same line, product, books and currency give the same answer."""
    discount, rate = _percents(line, product, path)
    quantity = Decimal(line.quantity)
    unit = line.unit or (product.unit if product else "")
    found = _find(line, product, books, currency, quantity, unit, rate)
    priced = Line(
        product=line.product, description=line.description or (product.display_name if product else ""),
        quantity=line.quantity, unit=unit, discount_percent=line.discount_percent, tax_rate=_plain(rate), key=line.key,
    )  # fmt: skip
    if line.unit_price.amount:
        priced.unit_price.CopyFrom(line.unit_price)
    if found is None:
        priced.price_source = pb.Quote.MISSING
        return Priced(priced, None, None, False)
    amounts = line_amounts(quantity, found.price, discount, rate)
    if not amounts.fits:
        raise Validation(Violation(f"{path}.quantity", "TOO_LARGE", "金额过大", "The amount is too large."))
    _write(priced, found, amounts, discount, rate)
    return Priced(
        priced, amounts, _cost(product, quantity, currency), _below_floor(product, amounts.net, quantity)
    )


def _percents(line: Any, product: Product | None, path: str) -> tuple[Decimal, Decimal]:
    discount = Decimal(line.discount_percent or 0)
    rate = Decimal(line.tax_rate) if line.tax_rate else (product.tax_rate if product else None) or Decimal(0)
    for name, value in (("discount_percent", discount), ("tax_rate", rate)):
        if value > HUNDRED:
            raise Validation(Violation(f"{path}.{name}", "TOO_LARGE", "不能大于 100", "At most 100."))
    if product is None and not line.description:
        raise Validation(required(f"{path}.description"))
    return discount, rate


def _find(
    line: Any,
    product: Product | None,
    books: Sequence[PriceBook],
    currency: str,
    quantity: Decimal,
    unit: str,
    rate: Decimal,
) -> Found | None:
    """The typed price, else that of the first book that has one, else the list price."""
    if typed := Money.parse(line.unit_price):
        if typed.currency != currency:
            raise InvalidArgument("CURRENCY_MISMATCH", expected=currency, found=typed.currency)
        return Found(typed, "TYPED")
    if product is None:
        return None
    for book in books:
        if hit := book.price(product.name, unit, quantity):
            price, start = hit
            if book.tax_included:
                price = without_tax(price, rate)
            return Found(price, "PRICE_BOOK", book.name, book.etag, f"≥ {_plain(start)}")
    if product.list_price is not None and product.list_price.currency == currency:
        return Found(product.list_price, "LIST_PRICE", product.name, product.etag)
    return None


def _write(priced: Any, found: Found, amounts: Amounts, discount: Decimal, rate: Decimal) -> None:
    """Puts price, amounts and trace into the line."""
    priced.unit_list_price.CopyFrom(found.price.message())
    priced.price_source = pb.Quote.PriceSource.Value(found.source)
    for name, money in (
        ("list_amount", amounts.listed), ("discount_amount", amounts.discount), ("net_amount", amounts.net),
        ("tax_amount", amounts.tax), ("gross_amount", amounts.gross),
    ):  # fmt: skip
        getattr(priced, name).CopyFrom(money.message())
    nothing = zero(found.price.currency)
    steps = [_step(found.source, found.price, f"× {priced.quantity}", nothing, amounts.listed, found)]
    if discount:
        steps.append(_step("MANUAL", amounts.listed, f"-{_plain(discount)}%", -amounts.discount, amounts.net))
    steps.append(_step("TAX", amounts.net, f"+{_plain(rate)}%", amounts.tax, amounts.gross))
    for seq, step in enumerate(steps, start=1):
        step.seq = seq
    priced.trace.extend(steps)


def _step(
    kind: str, basis: Money, effect: str, adjustment: Money, after: Money, found: Found | None = None
) -> Any:
    step = Step(
        kind=kind,
        effect=effect,
        basis=basis.message(),
        adjustment=adjustment.message(),
        after=after.message(),
    )
    if found is not None:
        step.policy, step.version, step.why = found.policy, found.version, found.why
    return step


def _cost(product: Product | None, quantity: Decimal, currency: str) -> Money | None:
    if product is None or product.cost is None or product.cost.currency != currency:
        return None
    return extended(quantity, product.cost)


def _below_floor(product: Product | None, net: Money, quantity: Decimal) -> bool:
    floor = product.min_price if product else None
    return floor is not None and floor.currency == net.currency and net < extended(quantity, floor)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
