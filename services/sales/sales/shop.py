"""The web shop and the till: browsing, configuring, the basket, and buying without help.

Whoever shops sees what `ShopOffer` and `ShopLine` have room for: no cost, no lowest price, no policy. Every price is that
of the desk, for the basket is priced as a quote that nobody stores.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, TypeVar

from crm.sales.v1 import pb
from crmkit import approvals
from crmkit.amounts import HUNDRED, check_currency, plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied
from crmkit.listing import ZONE
from crmkit.paying import instant, link
from crmkit.resource import parse_name
from crmkit.values import Money, zero
from sqlalchemy import cast, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

from sales.model.basket import Basket, Shopper, kept, line_of
from sales.model.bundle import Bundle, bundles, invalid
from sales.model.partnership import partnership
from sales.model.product import Product, products
from sales.model.product_category import ProductCategory
from sales.model.purchase import Purchase
from sales.model.quote import Quote
from sales.model.quote_pricing import Shelf, check_cases, shelf_for
from sales.model.upsell_proposal import UpsellProposal
from sales.offers import configured

SELLS = "sales.quotes.create"
PLACES = ("RETAIL", "HOME", "WAREHOUSE")
# Kinds of steps that take something off; the others say where a price comes from.
_TAKING_OFF = ("PROMOTION", "VOLUME", "CUSTOMER_TYPE", "CASH", "MANUAL", "ORDER")
_PAY_WITHIN = timedelta(hours=24)
_SUGGESTED, _REMEMBERED = 12, 60
_GROUNDS = {
    "REORDER": "DUE_AGAIN", "CROSS_SELL": "GOES_WITH", "VALUE_ADDED": "GOES_WITH", "GROUP": "GOES_WITH",
    "UPGRADE": "SUCCESSOR",
}  # fmt: skip

R = TypeVar("R", Product, Bundle)

log = logging.getLogger(__name__)


class ShopMethods:
    """What everybody may ask of the shop."""

    async def BrowseShop(self, request: pb.BrowseShopRequest, call: Call) -> pb.BrowseShopResponse:
        shopper = await shopper_of(request, call)
        reply = pb.BrowseShopResponse()
        conditions = [*_shown(Product, shopper, call)]
        if request.category:
            conditions.append(Product.category.in_(await _beneath(request.category, call)))
        asked = SimpleNamespace(
            filter="",
            order_by="code",
            q=request.q,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        found, following = await _page(Product, asked, conditions, call)
        if not request.page_token:
            reply.categories.extend(await _categories(call))
            reply.offers.extend(await _bundles(request, shopper, call))
        reply.offers.extend(await offers(found, shopper, call))
        reply.next_page_token = following
        return reply

    async def ConfigureShop(self, request: pb.ConfigureShopRequest, call: Call) -> pb.ConfigureShopResponse:
        shopper = await shopper_of(request.shopping, call)
        bundle = await _bundle(request.bundle, shopper, call)
        asked = pb.ConfigureBundleRequest(
            choices=request.choices, answers=request.answers, account=shopper.account, currency=shopper.currency,
            quantity=request.quantity, partial=request.partial,
        )  # fmt: skip
        found = await configured(bundle, asked, call, shopper.channel, shopper.partner)
        reply = pb.ConfigureShopResponse(
            choices=found.choices, options=found.options, broken=found.broken, nearest=found.nearest
        )
        if found.HasField("line"):
            reply.line.CopyFrom(_line(found.line))
        return reply

    async def SuggestShop(self, request: pb.SuggestShopRequest, call: Call) -> pb.SuggestShopResponse:
        shopper = await shopper_of(request, call)
        reply = pb.SuggestShopResponse()
        for product, ground in (await _suggested(shopper, call)) if shopper.account else ():
            told = reply.suggestions.add(ground=ground)
            told.offer.CopyFrom((await offers([product], shopper, call))[0])
        return reply

    async def OpenBasket(self, request: pb.OpenBasketRequest, call: Call) -> pb.ShopBasket:
        shopper = await shopper_of(request.shopping, call)
        basket, token = await kept(shopper, call)
        return (await _told(basket, token, await _stock(basket, call), shopper, call))[0]

    async def PutInBasket(self, request: pb.PutInBasketRequest, call: Call) -> pb.ShopBasket:
        shopper = await shopper_of(request.shopping, call)
        basket, token = await kept(shopper, call)
        if request.coupons:
            basket.coupons = list(dict.fromkeys(request.coupons))
        key, found = request.key, list[Product | Bundle]()
        if key:
            basket.set(key, Decimal(request.quantity or 0))
        elif request.product or request.code or request.bundle:
            row, line = await _wanted(request, shopper, call)
            key, found = basket.put(line), [row]
        stock = await _stock(basket, call, found)
        if shopper.channel == "WAREHOUSE" and key:
            # Whole cases at the moment of the entry, when the person is there who can change it.
            check_cases(basket.wanted([key]), stock.products)
        reply, quote = await _told(basket, token, stock, shopper, call)
        reply.touched = key
        priced = next((line for line in quote.lines if line.key == key), None) if quote else None
        if priced is not None:
            _watch(request.unit_price, priced.unit_list_price, basket, key, call)
        return reply

    async def BuyBasket(self, request: pb.BuyBasketRequest, call: Call) -> pb.BuyBasketResponse:
        shopper = await shopper_of(request.shopping, call)
        if not shopper.account:
            raise FailedPrecondition("SIGN_IN_TO_BUY")
        basket, token = await kept(shopper, call)
        if not basket.lines and basket.bought and basket.bought_digest == request.digest:
            return await _bought(basket.bought, call)
        stock = await _stock(basket, call)
        shown, _ = await _told(basket, token, stock, shopper, call)
        _watch(request.gross_total, shown.gross_total, basket, "", call)
        if gone := [line.description or line.key for line in shown.lines if line.gone]:
            raise FailedPrecondition("BASKET_LINE_GONE", items=", ".join(gone))
        if not shown.lines:
            raise FailedPrecondition("QUOTE_EMPTY")
        if request.digest != shown.digest:
            raise FailedPrecondition("QUOTE_CHANGED")
        quote = await _accepted(basket, shopper, request, call)
        basket.lines, basket.coupons = [], []
        basket.bought, basket.bought_digest = quote.name, request.digest
        return await _bought(quote.name, call)

    async def GetShopOrder(self, request: pb.GetShopOrderRequest, call: Call) -> pb.BuyBasketResponse:
        quote = await call.load(Quote, request.quote, lock=False)
        if quote.state != "ACCEPTED" or quote.gross_total is None:
            raise NotFound()
        return _order(quote, quote.gross_total, call)


async def shopper_of(asked: Any, call: Call) -> Shopper:
    """Who shops: a customer by his token, our own people for whom they say, else nobody that we know."""
    currency, caller = asked.currency or "CNY", call.caller
    check_currency(currency, "currency")
    token = getattr(asked, "token", "")
    if caller.account:
        # A partner's key has no role; whoever has ever agreed to sell for us is no direct buyer.
        sells = "partner" in caller.roles or await partnership(caller.account, call) is not None
        partner = caller.account if sells else ""
        contact = caller.actor if caller.actor.startswith("contacts/") else ""
        return Shopper(caller.account, contact, "WEB", currency, partner, caller.actor, token, staff=False)
    if not caller.employee:
        return Shopper("", "", "WEB", currency, "", "", token, staff=False)
    if not caller.may(SELLS):
        raise PermissionDenied("PERMISSION_DENIED", permission=SELLS)
    if asked.account and not await call.knows(asked.account, "accounts"):
        raise NotFound()
    told = pb.Quote.Channel.Name(asked.channel)
    channel = told if told in PLACES else "RETAIL"
    return Shopper(
        asked.account, "", channel, currency, "", f"{caller.employee}:{channel}", token, staff=True
    )


def _shown(model: type[Product] | type[Bundle], shopper: Shopper, call: Call) -> Iterable[Any]:
    """The shop shows what is meant for it; our own people sell everything that is for sale."""
    sold = Product.sold_on(today(call)) if model is Product else model.state == "ACTIVE"
    return (sold, *(() if shopper.staff else (model.in_shop,)))


async def _page(model: type[R], asked: Any, conditions: Iterable[Any], call: Call) -> tuple[list[R], str]:
    """A page of what fits, in its order, and the token of what follows."""
    page = await call.page(model, asked, *conditions)
    keys = [row.id for row in page.rows]
    known = {row.id: row for row in await call.db.scalars(select(model).where(model.id.in_(keys)))}
    return [known[key] for key in keys], page.next_page_token


async def _beneath(category: str, call: Call) -> list[str]:
    rows = list(await call.db.scalars(select(ProductCategory)))
    found = [category]
    for name in found:
        found += [row.name for row in rows if row.parent == name and row.name not in found]
    return found


async def _categories(call: Call) -> list[Any]:
    rows = await call.db.scalars(select(ProductCategory).order_by(ProductCategory.display_name))
    return [
        pb.ShopCategory(category=row.name, display_name=row.display_name, parent=row.parent) for row in rows
    ]


async def offers(rows: Sequence[Product], shopper: Shopper, call: Call) -> list[Any]:
    """What products cost one by one, at the prices of who looks."""
    known = {row.name: row for row in rows}
    day = call.now.astimezone(ZONE).date()
    shelf = await shelf_for(
        shopper.account, shopper.channel, shopper.partner, shopper.currency, known, day, call
    )
    return [_offer(row, shelf, shopper.currency) for row in rows]


def _offer(product: Product, shelf: Shelf, currency: str) -> Any:
    told = pb.ShopOffer(
        product=product.name, display_name=product.display_name, code=product.code, barcode=product.barcode,
        description=product.description, unit=product.unit, category=product.category,
        case_quantity=plain(product.case_quantity) if product.case_quantity else "",
    )  # fmt: skip
    rate = shelf.tax(product)
    price = shelf.price(product, product.unit, Decimal(1), rate or Decimal(0))
    if price is not None and rate is not None:
        net = Money(price.amount, currency)
        told.unit_price.CopyFrom(net.message())
        told.unit_gross.CopyFrom((net + (net * (rate / HUNDRED)).rounded()).message())
    return told


async def _bundles(request: pb.BrowseShopRequest, shopper: Shopper, call: Call) -> list[Any]:
    conditions = [*_shown(Bundle, shopper, call)]
    if request.category:
        conditions.append(Bundle.category.in_(await _beneath(request.category, call)))
    asked = SimpleNamespace(filter="", order_by="code", q=request.q, page_size=50, page_token="")
    found, _ = await _page(Bundle, asked, conditions, call)
    return [await _bundle_offer(row, call) for row in found]


async def _bundle_offer(bundle: Bundle, call: Call) -> Any:
    parts = await bundle.parts(call)
    told = pb.ShopOffer(
        bundle=bundle.name, display_name=bundle.display_name, code=bundle.code, description=bundle.description,
        unit=bundle.unit, category=bundle.category,
    )  # fmt: skip
    for group in bundle.groups:
        made = told.groups.add(
            key=group.key, display_name=group.display_name, minimum=group.minimum, maximum=group.maximum
        )
        for option in group.options:
            part = parts.get(option.product)
            made.options.add(
                key=option.key, display_name=part.display_name if part else option.key, preset=option.preset
            )
    for question in bundle.questions:
        told.questions.add(text=question.text, answers=[answer.text for answer in question.answers])
    return told


async def _bundle(name: str, shopper: Shopper, call: Call) -> Bundle:
    key = parse_name(name, "bundles")
    found = await call.db.scalar(select(Bundle).where(Bundle.id == key, *_shown(Bundle, shopper, call)))
    if found is None:
        raise NotFound()
    return found


async def _wanted(
    request: pb.PutInBasketRequest, shopper: Shopper, call: Call
) -> tuple[Product | Bundle, dict[str, Any]]:
    """What is put in, by name, by code or as a configuration, and the line for it."""
    quantity = Decimal(request.quantity or 1)
    if request.bundle:
        bundle = await _bundle(request.bundle, shopper, call)
        shape = await bundle.shape(call, today(call))
        chosen = shape.completed(request.choices)
        if broken := shape.broken(chosen):
            raise invalid(shape, chosen, broken, call)
        choices = [pb.Quote.Choice(option=key, quantity=many) for key, many in shape.digestible(chosen)]
        return bundle, line_of("", bundle.name, choices, quantity)
    if request.product:
        named = Product.id == parse_name(request.product, "products")
    else:
        code = request.code.strip()
        variant = cast(type_coerce(Product.variants, JSONB), JSONB).contains
        named = or_(
            Product.barcode == code,
            Product.code == code,
            variant([{"barcode": code}]),
            variant([{"code": code}]),
        )
    found = list(
        await call.db.scalars(select(Product).where(named, *_shown(Product, shopper, call)).limit(2))
    )
    if not found or (request.code and not request.code.strip()):
        raise NotFound() if request.product else FailedPrecondition("CODE_UNKNOWN", code=request.code)
    return found[0], line_of(found[0].name, "", (), quantity)


@dataclass(frozen=True)
class Stock:
    """What a basket has lines of. While a call holds it, pricing reads none of it again."""

    products: dict[str, Product]
    bundles: dict[str, Bundle]

    def sold(self, line: dict[str, Any], shopper: Shopper, day: date) -> bool:
        """Whether the line is still for sale where somebody shops, with all that a bundle was configured of."""
        row = self.products.get(line["product"]) or self.bundles.get(line["bundle"])
        if row is None or not (shopper.staff or row.in_shop):
            return False
        if isinstance(row, Product):
            return row.on_sale(day)
        chosen = {choice["option"] for choice in line["choices"]}
        return row.state == "ACTIVE" and chosen.isdisjoint(row.shape_of(self.products, day).gone)


async def _stock(basket: Basket, call: Call, found: Sequence[Product | Bundle] = ()) -> Stock:
    """All that the basket has lines of, without reading again what was `found`."""
    there = {row.name: row for row in found}
    wanted = [
        line[kind] for line in basket.lines for kind in ("product", "bundle") if line[kind] not in there
    ]
    known = await bundles((name for name in wanted if name.startswith("bundles/")), call)
    known |= {name: row for name, row in there.items() if isinstance(row, Bundle)}
    parts = [option.product for row in known.values() for group in row.groups for option in group.options]
    goods = await products([*(name for name in wanted if name.startswith("products/")), *parts], call)
    return Stock(goods | {name: row for name, row in there.items() if isinstance(row, Product)}, known)


async def _told(
    basket: Basket, token: str, stock: Stock, shopper: Shopper, call: Call
) -> tuple[pb.ShopBasket, Quote | None]:
    """The basket as it is shown, and the quote that nobody stores of which its prices are."""
    here = [line["key"] for line in basket.lines if stock.sold(line, shopper, today(call))]
    reply = pb.ShopBasket(token=token, account=shopper.account, coupons=basket.coupons)
    quote = None
    if here:
        quote = _quote(basket, here, shopper)
        quote.transient = True
        await quote.complete(call)
        reply.lines.extend(_line(line) for line in quote.lines)
        reply.hints.extend(quote.hints)
        reply.digest = quote.digest
        for name in ("net_total", "discount_total", "tax_total", "gross_total"):
            getattr(reply, name).CopyFrom(getattr(quote, name).message())
    for line in basket.lines:
        if line["key"] not in here:
            reply.lines.add(
                key=line["key"],
                product=line["product"],
                bundle=line["bundle"],
                quantity=line["quantity"],
                gone=True,
            )
    return reply, quote


def _quote(basket: Basket, keys: Sequence[str], shopper: Shopper, **more: Any) -> Quote:
    return Quote(
        account=shopper.account, contact=shopper.contact, channel=shopper.channel, currency=shopper.currency,
        channel_partner=shopper.partner, coupons=list(basket.coupons), lines=basket.wanted(keys), version_number=1,
        **({"display_name": "-"} | more),
    )  # fmt: skip


def _line(line: Any) -> Any:
    """What a customer sees of a line."""
    told = pb.ShopLine(
        key=line.key, product=line.product, bundle=line.bundle, choices=line.choices, description=line.description,
        quantity=line.quantity, unit=line.unit, free_with=line.free_with,
        price_missing=line.price_source == pb.Quote.MISSING,
    )  # fmt: skip
    if not told.price_missing:
        told.unit_price.CopyFrom(line.unit_list_price)
        for name in ("net_amount", "tax_amount", "gross_amount"):
            getattr(told, name).CopyFrom(getattr(line, name))
    for step in line.trace:
        if step.kind in _TAKING_OFF and Decimal(step.adjustment.amount or 0):
            told.discounts.add(label=step.label).amount.CopyFrom(step.adjustment)
    return told


def _watch(shown: Any, ours: Any, basket: Basket, key: str, call: Call) -> None:
    """A price that a page sends is never taken; one that is not ours is either old or somebody's invention."""
    if shown.amount and (Decimal(shown.amount), shown.currency_code) != (
        Decimal(ours.amount or 0), ours.currency_code,
    ):  # fmt: skip
        log.warning(
            "a shop page sent a price that is not ours",
            extra={
                "basket": str(basket.id), "line": key, "sent": f"{shown.amount} {shown.currency_code}",
                "ours": f"{ours.amount} {ours.currency_code}", "actor": call.caller.actor, "address": call.caller.address,
            },
        )  # fmt: skip


async def _accepted(basket: Basket, shopper: Shopper, request: pb.BuyBasketRequest, call: Call) -> Quote:
    """An accepted quote of the basket, by the rules of the desk: what these hold for a decision is not sold unasked."""
    customer = await call.copy(shopper.account) or {}
    person = request.person or str((await call.copy(shopper.contact) or {}).get("displayName", ""))
    keys = [line["key"] for line in basket.lines]
    made = _quote(basket, keys, shopper, display_name=str(customer.get("displayName", "")))
    made.owner = call.caller.employee or str(customer.get("owner", ""))
    made.department = str(customer.get("department", "")) if not call.caller.employee else ""
    async with call.everybody():
        quote = await call.add(made)
        await call.flush()
        await quote.submit(call)
        policies = approvals.policies_for(call.running.pipeline.methods["SubmitQuote"], call)
        held = approvals.matching(policies, call.message_of(quote), call) is not None
        if held or quote.below_floor or quote.over_limit:
            raise FailedPrecondition("SHOP_ASK_US")
        quote.state, quote.send_time, quote.shown_to = "SENT", call.now, quote.account
        await call.flush()
        await quote.accept(quote.digest, person, request.consent, call)
        await call.flush()
    return quote


async def _bought(name: str, call: Call) -> pb.BuyBasketResponse:
    quote = await call.named(Quote, name)
    if quote is None or quote.gross_total is None:
        raise NotFound()
    return _order(quote, quote.gross_total, call)


def _order(quote: Quote, gross: Money, call: Call) -> pb.BuyBasketResponse:
    """What was bought, what is paid of it, and where the rest is."""
    paid = quote.paid_total or zero(quote.currency)
    reply = pb.BuyBasketResponse(
        quote=quote.name, number=quote.number, pay_link=pay_link(quote, gross - paid, call)
    )
    reply.gross_total.CopyFrom(gross.message())
    reply.paid_total.CopyFrom(paid.message())
    return reply


def pay_link(quote: Quote, left: Money, call: Call) -> str:
    """Where the buyer pays: the page of the payment service, told by a signature what for and until when."""
    settings = call.running.settings
    if not settings.pay_url or not settings.pay_key or left.amount <= 0:
        return ""
    asked = {
        "reference": quote.name, "title": quote.number, "amount": str(left.rounded().amount), "currency": quote.currency,
        "until": instant(call.now + _PAY_WITHIN),
    }  # fmt: skip
    return link(settings.pay_url, settings.pay_key, asked)


async def _suggested(shopper: Shopper, call: Call) -> list[tuple[Product, Any]]:
    """What is proposed to a known buyer, then what he bought last; as far as the shop has it."""
    async with call.everybody():
        open_ones = select(UpsellProposal).where(
            UpsellProposal.account == shopper.account,
            UpsellProposal.state == "OPEN",
            UpsellProposal.product != "",
        )
        told = [
            (one.product, _GROUNDS[one.kind])
            for one in await call.db.scalars(open_ones.order_by(UpsellProposal.kind, UpsellProposal.id))
            if one.kind in _GROUNDS
        ]
        before = select(Purchase.product).where(
            Purchase.account == shopper.account, ~Purchase.cancelled, Purchase.product != ""
        )
        latest = before.order_by(Purchase.order_date.desc(), Purchase.id.desc()).limit(_REMEMBERED)
        told += [(product, "BOUGHT_BEFORE") for product in await call.db.scalars(latest)]
    grounds = dict(reversed(told))
    names = list(dict.fromkeys(product for product, _ in told))
    known = await products(names, call)
    sold = [
        known[name]
        for name in names
        if name in known and known[name].on_sale(today(call)) and (shopper.staff or known[name].in_shop)
    ]
    return [(row, pb.SuggestShopResponse.Ground.Value(grounds[row.name])) for row in sold[:_SUGGESTED]]
