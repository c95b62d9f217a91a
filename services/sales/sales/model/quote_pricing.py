"""From a quote to what the engine takes, and back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, plain
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation, required
from crmkit.exchange import rate_of
from crmkit.listing import ZONE
from crmkit.values import Money, places, zero
from sales.configuration import Shape
from sales.engine import Given, Line, Party, Price, PricedLine, Result, TooMuchOff, run
from sales.model.bundle import Bundle, bundles, invalid
from sales.model.discount_policy import DiscountPolicy, limit_for, policies_around
from sales.model.price_book import Buyer, PriceBook, Prices, books_for, buyer_of
from sales.model.product import Product, products
from sales.model.product_category import Tree, tree
from sales.model.tax_rates import rates_of
from sales.pricing import TOO_MUCH, extended, margin_percent, share, without_tax

if TYPE_CHECKING:
    from sales.model.quote import Quote

_Line = pb.Quote.Line


@dataclass
class _Wanted:
    """A line with what is known of it beside the price."""

    kept: Any
    line: Line
    # What the whole line costs us, its lowest amount, and its lowest margin; None where unknown.
    cost: Money | None = None
    floor: Money | None = None
    margin_floor: Decimal | None = None
    # Whether a lowest price or a cost is in a currency that no rate leads from, so that nobody knows the floor.
    unknown: bool = False


@dataclass
class Pricing:
    """Everything that one pricing of a quote looked at, and what came out."""

    given: Given
    wanted: list[_Wanted]
    limits: list[DiscountPolicy]
    result: Result
    shelf: Shelf
    free: dict[str, Product] = field(default_factory=dict[str, Product])

    def over_limit(self, call: Call) -> bool:
        """Whether more is taken off by hand than the caller's roles may give."""
        for one, priced in zip(self.wanted, self.result.lines, strict=True):
            limit = limit_for(self.given, one.line, self.limits, call.caller.roles)
            if limit is not None and priced.manual_percent > limit:
                return True
        return False


class Shelf:
    """What is on offer to one buyer on one day: products, bundles, books, classes."""

    def __init__(
        self,
        currency: str,
        buyer: Buyer,
        books: Sequence[PriceBook],
        known: dict[str, Product],
        categories: Tree,
        taxes: dict[str, Decimal],
        day: date,
        offered: Collection[str],
        call: Call,
    ) -> None:
        self.currency, self.buyer, self._taxes = currency, buyer, taxes
        self._day, self._offered, self._call = day, offered, call
        self._prices = [Prices(book) for book in books]
        self._shapes: dict[str, Shape] = {}
        self.known, self.categories = known, categories

    def price(self, product: Product, unit: str, quantity: Decimal, rate: Decimal) -> Price | None:
        """The price of one without tax: that of the first book that has one, else the list price."""
        for prices in self._prices:
            if hit := prices.price(product, unit, quantity):
                (price, start), book = hit, prices.book
                if book.tax_included:
                    price = without_tax(price, rate)
                return Price(price.amount, "PRICE_BOOK", book.name, book.etag, f"≥ {plain(start)}")
        listed = product.list_price
        # A partner has the prices of his own books and no others.
        direct = listed is not None and listed.currency == self.currency and not self.buyer.partner
        if listed is not None and direct and product.sold_in(unit):
            return Price(listed.amount, "LIST_PRICE", product.name, product.etag)
        return None

    def tiers(self, product: Product, rate: Decimal) -> tuple[str, list[tuple[Decimal, Money]]]:
        """All prices of a product in its own unit, and where they come from: what `price` says of every quantity."""
        found: list[tuple[Decimal, Money]] = []
        source = ""
        for prices in self._prices:
            # A later book counts for the quantities that no book before has a price for.
            least = min((start for start, _ in found), default=None)
            for start, each in prices.tiers(product, product.unit):
                if least is None or start < least:
                    found.append((start, without_tax(each, rate) if prices.book.tax_included else each))
            source = source or ("PRICE_BOOK" if found else "")
        listed = product.list_price
        direct = listed is not None and listed.currency == self.currency and not self.buyer.partner
        if listed is not None and direct and all(start > 0 for start, _ in found):
            found.append((Decimal(0), listed))
            source = source or "LIST_PRICE"
        return source or "MISSING", sorted(found, key=lambda one: one[0])

    def tax(self, product: Product) -> Decimal | None:
        """The tax rate in percent: that of billing's code, else the product's own; None where a code says nothing."""
        if product.tax_category in self._taxes:
            return self._taxes[product.tax_category]
        return product.tax_rate if product.tax_rate is not None or product.tax_category else Decimal(0)

    def worth(self, each: Money | None) -> Money | None:
        """A cost or a lowest price in the currency of the quote, by the rate of the day; None where there is none."""
        if each is None or each.currency == self.currency:
            return each
        rate = rate_of(each.currency, self.currency, self._day, self._call)
        return Money(each.amount * rate.value, self.currency).rounded() if rate else None

    def floor_unknown(self, product: Product, margin_floor: Decimal | None) -> bool:
        """Whether the product has a floor that cannot be told in the currency of the quote."""
        asked = [product.min_price, product.cost if margin_floor is not None else None]
        return any(one is not None and self.worth(one) is None for one in asked)

    def shape(self, bundle: Bundle) -> Shape:
        """The rules of a bundle, read once."""
        if bundle.name not in self._shapes:
            self._shapes[bundle.name] = bundle.shape_of(self.known, self._day, self._offered)
        return self._shapes[bundle.name]


async def shelf_for(
    account: str,
    channel: str,
    partner: str,
    currency: str,
    known: dict[str, Product],
    day: date,
    call: Call,
    agreed: str = "",
    offered: Collection[str] = (),
) -> Shelf:
    """What is on offer to a buyer on a day, and what was offered before; a book agreed for the deal counts first."""
    buyer = await buyer_of(account, channel, partner, call)
    taxes = await rates_of((product.tax_category for product in known.values()), day, call)
    books = await books_for(buyer, currency, call, agreed)
    return Shelf(currency, buyer, books, known, await tree(call), taxes, day, offered, call)


async def price(quote: Quote, call: Call) -> Pricing:
    """Prices the lines of a quote by the books and policies of today."""
    day = call.now.astimezone(ZONE).date()
    asked = [line for line in quote.lines if not line.free_with]
    offered = await bundles((line.bundle for line in asked), call)
    parts = [
        option.product for bundle in offered.values() for group in bundle.groups for option in group.options
    ]
    known = await products([*(line.product for line in asked), *parts], call)
    before = quote.offered_before()
    shelf = await shelf_for(
        quote.account,
        quote.channel,
        quote.channel_partner,
        quote.currency,
        known,
        day,
        call,
        quote.price_book,
        before,
    )
    buyer = shelf.buyer
    await _check_for_sale(asked, known, offered, before, day, call)
    if quote.channel == "WAREHOUSE":
        check_cases(asked, known)
    wanted = [
        _wanted(line, shelf, offered, f"quote.lines[{place}]", call)
        for place, line in enumerate(_keyed(asked))
    ]
    policies, limits = await policies_around(day, call)
    given = Given(
        currency=quote.currency, places=places(quote.currency), day=day,
        party=Party(buyer.account, buyer.level, buyer.type, buyer.region, buyer.channel),
        coupons=tuple(quote.coupons), lines=tuple(one.line for one in wanted), policies=tuple(policies),
        order_amount=quote.order_discount.amount if quote.order_discount else None,
        order_percent=quote.order_discount_percent,
    )  # fmt: skip
    try:
        result = run(given)
    except TooMuchOff as found:
        keys = [one.line.key for one in wanted]
        at = str(found)
        path = f"quote.lines[{keys.index(at)}].manual_discount" if at else "quote.order_discount"
        raise Validation(
            Violation(path, "TOO_LARGE", "折让超过金额", "More is taken off than there is.")
        ) from None
    free = await products((line.product for line in result.free), call)
    return Pricing(given, wanted, limits, result, shelf, free)


def write(quote: Quote, pricing: Pricing) -> None:
    """Writes lines, totals and grounds of a pricing into the quote."""
    currency, result = quote.currency, pricing.result
    lines: list[Any] = []
    costs: list[Any] = []
    below = False
    whole_cost: Money | None = zero(currency)
    for one, priced in zip(pricing.wanted, result.lines, strict=True):
        lines.append(_line_of(one.kept, priced, currency, typed=one.line.typed is not None))
        cost = _cost_of(one, priced, currency)
        costs.append(cost)
        below = below or cost.below_floor
        whole_cost = whole_cost + one.cost if whole_cost is not None and one.cost is not None else None
        for number, free in enumerate((line for line in result.free if line.cause == priced.key), start=1):
            key = f"{priced.key}f{number}"
            given_away = pricing.free.get(free.product)
            lines.append(_free_line(free, key, given_away, currency))
            given = _extended(free.quantity, pricing.shelf.worth(given_away.cost if given_away else None))
            whole_cost = whole_cost + given if whole_cost is not None and given is not None else None
    quote.lines, quote.line_costs, quote.below_floor = lines, costs, below
    _totals(quote, [priced for priced in result.lines if priced.steps])
    complete = len(result.lines) == sum(bool(priced.steps) for priced in result.lines)
    quote.margin_percent = None
    if complete and whole_cost is not None and quote.net_total is not None:
        quote.margin_percent = margin_percent(quote.net_total, whole_cost)
    quote.grounds = [_ground(priced.key, ground) for priced in result.lines for ground in priced.grounds]
    quote.hints = [
        pb.Quote.Hint(
            line=hint.line, label=hint.label, add_quantity=plain(hint.add_quantity),
            saving=Money(hint.saving, currency).message(),
        )
        for hint in result.hints
    ]  # fmt: skip
    quote.cash_terms = [
        pb.Quote.CashTerm(
            label=term.label, percent=plain(term.percent), amount=Money(term.amount, currency).message(), days=term.days,
            net_days=term.net_days,
        )
        for term in result.cash_terms
    ]  # fmt: skip
    manual = [priced.manual_percent for priced in result.lines if priced.steps]
    quote.max_discount_percent = max(manual, default=Decimal(0)).quantize(Decimal("0.01"))
    quote.engine_version, quote.price_date = pricing.given.engine, pricing.given.day


def _totals(quote: Quote, lines: Sequence[PricedLine]) -> None:
    def total(name: str) -> Money:
        return Money(sum((getattr(line, name) for line in lines), Decimal(0)), quote.currency).rounded()

    listed, net, tax = total("listed"), total("net"), total("tax")
    if max(listed.amount, (net + tax).amount) >= TOO_MUCH:
        raise Validation(Violation("quote.lines", "TOO_LARGE", "金额过大", "The amount is too large."))
    quote.list_total, quote.net_total, quote.tax_total = listed, net, tax
    quote.discount_total, quote.gross_total = listed - net, net + tax


def _wanted(line: Any, shelf: Shelf, offered: dict[str, Bundle], path: str, call: Call) -> _Wanted:
    """The line as it is kept, still without amounts, and what the engine needs of it."""
    quantity, percent = _checked(line, path)
    typed = Money.parse(line.unit_price)
    manual = Money.parse(line.manual_discount)
    for money in (typed, manual):
        if money is not None and money.currency != shelf.currency:
            raise InvalidArgument("CURRENCY_MISMATCH", expected=shelf.currency, found=money.currency)
    if manual and percent:
        text = "折扣比例和折让金额只能填一个", "Give a percentage or an amount, not both."
        raise Validation(Violation(f"{path}.manual_discount", "CONFLICT", *text))
    product, bundle = shelf.known.get(line.product), offered.get(line.bundle)
    if line.bundle and line.product:
        text = "一行只能有产品或组合产品", "A line has a product or a bundle."
        raise Validation(Violation(f"{path}.bundle", "CONFLICT", *text))
    if product is None and bundle is None and not line.description:
        raise Validation(required(f"{path}.description"))
    kept = _Line(
        product=line.product, bundle=line.bundle, key=line.key, quantity=line.quantity, discount_percent=line.discount_percent,
        description=line.description, unit=line.unit, free_text=product is None and bundle is None,
    )  # fmt: skip
    for name in ("unit_price", "manual_discount"):
        if getattr(line, name).amount:
            getattr(kept, name).CopyFrom(getattr(line, name))
    base = Line(
        key=line.key, quantity=quantity, typed=typed.amount if typed is not None else None, manual_percent=percent,
        manual_amount=manual.amount if manual is not None else None,
    )  # fmt: skip
    if bundle is not None:
        return _of_bundle(base, kept, line, bundle, shelf, path, call)
    return _of_product(base, kept, line, product, shelf, path)


def _checked(line: Any, path: str) -> tuple[Decimal, Decimal]:
    discount, rate = Decimal(line.discount_percent or 0), Decimal(line.tax_rate or 0)
    for name, value in (("discount_percent", discount), ("tax_rate", rate)):
        if value > HUNDRED:
            raise Validation(Violation(f"{path}.{name}", "TOO_LARGE", "不能大于 100", "At most 100."))
    quantity = Decimal(line.quantity)
    if quantity <= 0:
        text = "必须大于 0", "This must be more than 0."
        raise Validation(Violation(f"{path}.quantity", "TOO_SMALL", *text))
    return quantity, discount


def _of_product(
    base: Line, kept: Any, line: Any, product: Product | None, shelf: Shelf, path: str
) -> _Wanted:
    rate = Decimal(line.tax_rate) if line.tax_rate else shelf.tax(product) if product else Decimal(0)
    if rate is None:
        raise Validation(required(f"{path}.tax_rate"))
    kept.tax_rate = plain(rate)
    if product is None:
        return _Wanted(kept, _with(base, tax_rate=rate))
    kept.unit, kept.description = line.unit or product.unit, line.description or product.display_name
    found = shelf.price(product, kept.unit, base.quantity, rate)
    full = _with(
        base,
        product=product.name,
        categories=shelf.categories.above(product.category),
        price=found,
        tax_rate=rate,
    )
    least = shelf.categories.floor(product.category)
    return _Wanted(
        kept, full, _extended(base.quantity, shelf.worth(product.cost)),
        _extended(base.quantity, shelf.worth(product.min_price)), least, shelf.floor_unknown(product, least),
    )  # fmt: skip


def _of_bundle(
    base: Line, kept: Any, line: Any, bundle: Bundle, shelf: Shelf, path: str, call: Call
) -> _Wanted:
    """A configured bundle: the sum of what was chosen, and then its own rule."""
    shape = shelf.shape(bundle)
    chosen = shape.completed(line.choices)
    if broken := shape.broken(chosen):
        problem = invalid(shape, chosen, broken, call)
        problem.violations = [
            Violation(f"{path}.choices", one.reason, one.zh, one.en) for one in problem.violations
        ]
        raise problem
    rates: list[Decimal] = []
    total, cost, floor = zero(shelf.currency), zero(shelf.currency), zero(shelf.currency)
    known_cost, missing, unknown = True, False, False
    least = shelf.categories.floor(bundle.category)
    for key, quantity in ((key, chosen[key]) for key in shape.options if key in chosen):
        part = shelf.known[shape.options[key].product]
        rate = shelf.tax(part)
        if rate is None:
            raise Validation(required(f"{path}.tax_rate"))
        rates.append(rate)
        found = shelf.price(part, part.unit, quantity * base.quantity, rate)
        component = pb.Quote.Component(product=part.name, quantity=plain(quantity), option=key)
        if found is None:
            missing = True
        else:
            one = Money(found.amount, shelf.currency)
            component.unit_price.CopyFrom(one.message())
            total += extended(quantity, one)
        kept.components.append(component)
        kept.choices.append(pb.Quote.Choice(option=key, quantity=plain(quantity)))
        part_cost = _extended(quantity * base.quantity, shelf.worth(part.cost))
        known_cost = known_cost and part_cost is not None
        cost += part_cost or zero(shelf.currency)
        floor += _extended(quantity * base.quantity, shelf.worth(part.min_price)) or zero(shelf.currency)
        unknown = unknown or shelf.floor_unknown(part, least)
    rate = (
        Decimal(line.tax_rate)
        if line.tax_rate
        else bundle.tax_rate
        if bundle.tax_rate is not None
        else max(rates)
    )
    kept.tax_rate, kept.unit = plain(rate), line.unit or bundle.unit
    kept.description = line.description or bundle.display_name
    rule = _bundle_rule(bundle, total, shelf.currency)
    price = None
    if not missing or bundle.price_mode == "FIXED":
        version = str(bundle.version_number)
        price = None if rule is None else Price(total.amount, "CONFIGURED", bundle.name, version, "", rule)
    full = _with(base, categories=shelf.categories.above(bundle.category), price=price, tax_rate=rate)
    return _Wanted(
        kept,
        full,
        cost if known_cost else None,
        floor if floor else None,
        least,
        unknown,
    )


def _bundle_rule(bundle: Bundle, total: Money, currency: str) -> Decimal | None:
    """What the bundle's own rule adds to the sum; None where its price is in another currency."""
    if bundle.price_mode == "FIXED" and bundle.fixed_price is not None:
        return (bundle.fixed_price - total).amount if bundle.fixed_price.currency == currency else None
    if bundle.price_mode == "DISCOUNT":
        return -share(total, bundle.discount_percent or Decimal(0)).amount
    return Decimal(0)


def _with(line: Line, **values: Any) -> Line:
    from dataclasses import replace

    return replace(line, **values)


def _line_of(kept: Any, priced: PricedLine, currency: str, typed: bool) -> Any:
    if not priced.steps:
        kept.price_source = pb.Quote.MISSING
        return kept
    kept.price_source = pb.Quote.TYPED if typed else pb.Quote.PriceSource.Value(priced.source)
    for name, amount in (
        ("unit_list_price", priced.unit_price), ("list_amount", priced.listed), ("discount_amount", priced.listed - priced.net),
        ("net_amount", priced.net), ("tax_amount", priced.tax), ("gross_amount", priced.gross),
    ):  # fmt: skip
        getattr(kept, name).CopyFrom(Money(amount, currency).message())
    for seq, step in enumerate(priced.steps, start=1):
        kept.trace.append(
            pb.Quote.PriceStep(
                seq=seq, kind=step.kind, label=step.label, basis=Money(step.basis, currency).message(), effect=step.effect,
                adjustment=Money(step.adjustment, currency).message(), after=Money(step.after, currency).message(),
            )
        )  # fmt: skip
    return kept


def _free_line(free: Any, key: str, product: Product | None, currency: str) -> Any:
    """A line of its own at nothing, which goes with the line that caused it."""
    rate = (product.tax_rate if product else None) or Decimal(0)
    line = _Line(
        product=free.product, description=free.description, quantity=plain(free.quantity), unit=free.unit, key=key,
        free_with=free.cause, price_source=pb.Quote.FREE, tax_rate=plain(rate),
    )  # fmt: skip
    nothing = zero(currency).message()
    for name in (
        "unit_list_price", "list_amount", "discount_amount", "net_amount", "tax_amount", "gross_amount",
    ):  # fmt: skip
        getattr(line, name).CopyFrom(nothing)
    line.trace.append(
        pb.Quote.PriceStep(
            seq=1, kind="FREE", label=free.label, basis=nothing, adjustment=nothing, after=nothing
        )
    )
    return line


def _cost_of(one: _Wanted, priced: PricedLine, currency: str) -> Any:
    net = Money(priced.net, currency)
    told = pb.Quote.LineCost(line=priced.key)
    if not priced.steps:
        return told
    told.below_floor = one.unknown or (one.floor is not None and net < one.floor)
    if one.cost is not None:
        told.cost.CopyFrom(one.cost.message())
        margin = margin_percent(net, one.cost)
        told.margin_percent = plain(margin)
        if one.margin_floor is not None:
            least = net.amount * (HUNDRED - one.margin_floor) / HUNDRED
            told.below_floor = told.below_floor or one.cost.amount > least
    return told


def _ground(key: str, ground: Any) -> Any:
    return pb.Quote.Ground(
        line=key, kind=ground.kind, policy=ground.policy, version=ground.version, validity=ground.validity, why=ground.why,
        rejected=[
            pb.Quote.Rejection(policy=one.policy, label=one.label, reason=one.reason) for one in ground.rejected
        ],
    )  # fmt: skip


def _extended(quantity: Decimal, each: Money | None) -> Money | None:
    return extended(quantity, each) if each is not None else None


async def _check_for_sale(
    lines: Sequence[Any],
    known: dict[str, Product],
    offered: dict[str, Bundle],
    before: Collection[str],
    day: date,
    call: Call,
) -> None:
    """A quote offers what is on sale, and keeps what it, or the version before, offered already."""
    wrong: list[Violation] = []
    for place, line in enumerate(lines):
        product, bundle = known.get(line.product), offered.get(line.bundle)
        kept = product is not None and product.name in before and product.state in ("ACTIVE", "END_OF_SALE")
        if line.product and (product is None or not (kept or product.on_sale(day))):
            successor = product.successor if product else ""
            instead = (await products([successor], call)).get(successor)
            named = f"{instead.display_name} ({instead.code})" if instead else ""
            path = f"quote.lines[{place}].product"
            zh = f"产品不在售，可改用 {named}" if named else "产品不在售"
            en = "The product is not on sale." + (f" {named} takes its place." if named else "")
            wrong.append(Violation(path, "NOT_FOR_SALE", zh, en))
        if line.bundle and (bundle is None or not (bundle.name in before or bundle.state == "ACTIVE")):
            path = f"quote.lines[{place}].bundle"
            wrong.append(Violation(path, "NOT_FOR_SALE", "组合产品不在售", "The bundle is not on sale."))
    if wrong:
        raise Validation(*wrong)


def check_cases(lines: Sequence[Any], known: dict[str, Product]) -> None:
    """The warehouse gives whole cases of what comes in cases (CASE_QUANTITY)."""
    for line in lines:
        product = known.get(line.product)
        case = product.case_quantity if product else None
        if product is not None and case and Decimal(line.quantity) % case:
            raise FailedPrecondition("CASE_QUANTITY", product=product.display_name, case=plain(case))


def _keyed(lines: Sequence[Any]) -> list[Any]:
    """The lines, each with a key of its own that later versions keep."""
    taken = {line.key for line in lines if line.key}
    free = (str(number) for number in range(1, 2 * len(lines) + 1) if str(number) not in taken)
    keyed: list[Any] = []
    seen: set[str] = set()
    for line in lines:
        copy = _Line()
        copy.CopyFrom(line)
        copy.key = line.key if line.key and line.key not in seen else next(free)
        seen.add(copy.key)
        keyed.append(copy)
    return keyed
