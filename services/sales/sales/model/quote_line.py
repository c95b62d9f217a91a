"""How a line of a quote gets its price, and the trace that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.errors import InvalidArgument, Validation, Violation, required
from crmkit.values import Money, zero
from sales.model.price_book import PriceBook
from sales.model.product import Product
from sales.pricing import Amounts, extended, line_amounts, without_tax

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


@dataclass(frozen=True)
class _Wanted:
    """What a line asks for, with the product filling what it leaves open."""

    line: Any
    product: Product | None
    quantity: Decimal
    unit: str
    discount: Decimal
    rate: Decimal
    currency: str


def price_line(
    line: Any, product: Product | None, books: Sequence[PriceBook], currency: str, path: str
) -> Priced:
    """Prices one line. Pure: the same line, product, books and currency give the same answer."""
    wanted = _wanted(line, product, currency, path)
    found, priced = _find(wanted, books), _completed(wanted)
    if found is None:
        priced.price_source = pb.Quote.MISSING
        return Priced(priced, None, None, False)
    amounts = line_amounts(wanted.quantity, found.price, wanted.discount, wanted.rate)
    if not amounts.fits:
        raise Validation(Violation(f"{path}.quantity", "TOO_LARGE", "金额过大", "The amount is too large."))
    _write_amounts(priced, found, amounts)
    priced.trace.extend(_trace(wanted, found, amounts))
    return Priced(priced, amounts, _cost(wanted), _below_floor(wanted, amounts.net))


def _wanted(line: Any, product: Product | None, currency: str, path: str) -> _Wanted:
    if product is None and not line.description:
        raise Validation(required(f"{path}.description"))
    discount = Decimal(line.discount_percent or 0)
    rate = Decimal(line.tax_rate) if line.tax_rate else (product.tax_rate if product else None) or Decimal(0)
    for name, value in (("discount_percent", discount), ("tax_rate", rate)):
        if value > HUNDRED:
            raise Validation(Violation(f"{path}.{name}", "TOO_LARGE", "不能大于 100", "At most 100."))
    quantity, unit = Decimal(line.quantity), line.unit or (product.unit if product else "")
    if quantity <= 0:
        raise Validation(
            Violation(f"{path}.quantity", "TOO_SMALL", "必须大于 0", "This must be more than 0.")
        )
    return _Wanted(line, product, quantity, unit, discount, rate, currency)


def _completed(wanted: _Wanted) -> Any:
    """The line as it is kept, still without amounts."""
    line, product = wanted.line, wanted.product
    kept = Line(
        product=line.product, description=line.description or (product.display_name if product else ""), key=line.key,
        quantity=line.quantity, unit=wanted.unit, discount_percent=line.discount_percent, tax_rate=_plain(wanted.rate),
    )  # fmt: skip
    if line.unit_price.amount:
        kept.unit_price.CopyFrom(line.unit_price)
    return kept


def _find(wanted: _Wanted, books: Sequence[PriceBook]) -> Found | None:
    """The typed price, else that of the first book that has one, else the list price."""
    product, typed = wanted.product, Money.parse(wanted.line.unit_price)
    if typed is not None and typed.currency != wanted.currency:
        raise InvalidArgument("CURRENCY_MISMATCH", expected=wanted.currency, found=typed.currency)
    if typed is not None:
        return Found(typed, "TYPED")
    if product is None:
        return None
    if found := _find_in_books(wanted, product, books):
        return found
    if product.list_price is not None and product.list_price.currency == wanted.currency:
        return Found(product.list_price, "LIST_PRICE", product.name, product.etag)
    return None


def _find_in_books(wanted: _Wanted, product: Product, books: Sequence[PriceBook]) -> Found | None:
    for book in books:
        if hit := book.price(product.name, wanted.unit, wanted.quantity):
            price, start = hit
            if book.tax_included:
                price = without_tax(price, wanted.rate)
            return Found(price, "PRICE_BOOK", book.name, book.etag, f"≥ {_plain(start)}")
    return None


def _write_amounts(priced: Any, found: Found, amounts: Amounts) -> None:
    priced.price_source = pb.Quote.PriceSource.Value(found.source)
    for name, money in (
        ("unit_list_price", found.price), ("list_amount", amounts.listed), ("discount_amount", amounts.discount),
        ("net_amount", amounts.net), ("tax_amount", amounts.tax), ("gross_amount", amounts.gross),
    ):  # fmt: skip
        getattr(priced, name).CopyFrom(money.message())


def _trace(wanted: _Wanted, found: Found, amounts: Amounts) -> list[Any]:
    """The steps from the price found to the gross amount, in their fixed order (PRC-1)."""
    nothing = zero(wanted.currency)
    steps = [_step(found.source, found.price, f"× {_plain(wanted.quantity)}", nothing, amounts.listed, found)]
    if wanted.discount:
        effect = f"-{_plain(wanted.discount)}%"
        steps.append(_step("MANUAL", amounts.listed, effect, -amounts.discount, amounts.net))
    steps.append(_step("TAX", amounts.net, f"+{_plain(wanted.rate)}%", amounts.tax, amounts.gross))
    for seq, step in enumerate(steps, start=1):
        step.seq = seq
    return steps


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


def _cost(wanted: _Wanted) -> Money | None:
    cost = wanted.product.cost if wanted.product else None
    return extended(wanted.quantity, cost) if cost is not None and cost.currency == wanted.currency else None


def _below_floor(wanted: _Wanted, net: Money) -> bool:
    floor = wanted.product.min_price if wanted.product else None
    return floor is not None and floor.currency == net.currency and net < extended(wanted.quantity, floor)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
