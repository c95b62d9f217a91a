"""Quotes without a network: what a device estimates from, and what becomes of its estimate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import check_currency, plain
from crmkit.call import Call
from crmkit.errors import InvalidArgument
from crmkit.listing import ZONE
from crmkit.mapping import to_date
from crmkit.values import places
from sqlalchemy import select

from sales.engine import ENGINE, Party
from sales.engine.given import Policy
from sales.engine.policies import covers
from sales.model.discount_policy import policies_around
from sales.model.product import Product, products
from sales.model.quote import Quote
from sales.model.quote_pricing import Shelf, shelf_for
from sales.offers import differences

MOST_ASKED, MOST = 1000, 5000
_Told = pb.GetPriceSnapshotResponse
_AMOUNTS = (
    "quantity", "unit_list_price", "discount_amount", "tax_rate", "net_amount", "tax_amount", "gross_amount",
)  # fmt: skip
_TOTALS = ("list_total", "discount_total", "net_total", "tax_total", "gross_total")
_NUMBERS = (
    "min_quantity", "max_quantity", "min_amount", "max_amount", "percent", "amount_off", "fixed_price", "free_quantity",
    "free_per",
)  # fmt: skip


async def snapshot(request: pb.GetPriceSnapshotRequest, call: Call) -> pb.GetPriceSnapshotResponse:
    """What one customer pays today, product by product, and the policies that fit him."""
    check_currency(request.currency, "currency")
    day = call.now.astimezone(ZONE).date()
    channel = pb.Quote.Channel.Name(request.channel or pb.Quote.DIRECT)
    goods = await _goods(list(request.products), day, call)
    partner = request.channel_partner or call.caller.account
    known = {one.name: one for one in goods}
    shelf = await shelf_for(request.account, channel, partner, request.currency, known, day, call)
    buyer = shelf.buyer
    party = Party(buyer.account, buyer.level, buyer.type, buyer.region, buyer.channel)
    fitting = [one for one in (await policies_around(day, call))[0] if _fits(one, party, request.currency)]
    reply = _Told(
        price_date=to_date(day), currency=request.currency, places=places(request.currency), engine_version=ENGINE,
        offers=[_offer(one, shelf) for one in goods],
    )  # fmt: skip
    # Keys tell the order of the names, which decides between equals, and nothing else of them.
    for place, one in enumerate(sorted(fitting, key=lambda policy: policy.name)):
        reply.policies.append(_policy(f"{place:05}", one))
    return reply


async def _goods(names: Sequence[str], day: date, call: Call) -> list[Product]:
    if len(names) > MOST_ASKED:
        raise InvalidArgument("MALFORMED", detail=f"products > {MOST_ASKED}")
    if names:
        return [one for one in (await products(names, call)).values() if one.on_sale(day)]
    active = select(Product).where(Product.sold_on(day)).order_by(Product.code).limit(MOST)
    return list(await call.db.scalars(active))


def _offer(product: Product, shelf: Shelf) -> Any:
    rate = shelf.tax(product)
    source, tiers = shelf.tiers(product, rate or Decimal(0))
    return _Told.Offer(
        product=product.name, display_name=product.display_name, code=product.code, unit=product.unit,
        tax_rate=plain(rate), categories=shelf.categories.above(product.category),
        tiers=[_Told.Tier(from_quantity=plain(start), price=plain(each.amount)) for start, each in tiers],
        source=source,
    )  # fmt: skip


def _fits(policy: Policy, party: Party, currency: str) -> bool:
    """Whether it may apply to the customer. What needs a coupon or has spent its money is not told."""
    named: Iterable[tuple[tuple[str, ...], str]] = (
        (policy.accounts, party.account), (policy.levels, party.level), (policy.types, party.type),
        (policy.channels, party.channel),
    )  # fmt: skip
    region = not policy.regions or any(covers(one, party.region) for one in policy.regions)
    money = policy.currency in ("", currency) and policy.budget_left != 0
    return not policy.coupon and region and money and all(not names or one in names for names, one in named)


def _policy(key: str, policy: Policy) -> Any:
    told = _Told.Policy(
        key=key, label=policy.label, kind=policy.kind, priority=policy.priority, version=policy.version,
        breadth=0 if policy.accounts else 1 if policy.levels else 2 if policy.types else 3,
        products=policy.products, categories=policy.categories, count=policy.count, on_list=policy.on_list,
        exclusive=policy.exclusive, on_payment=policy.on_payment, days=policy.days, net_days=policy.net_days,
        free_product=policy.free_product, free_description=policy.free_description, free_unit=policy.free_unit,
        tiers=[_Told.Tier(from_quantity=plain(start), price=plain(percent)) for start, percent in policy.tiers],
    )  # fmt: skip
    for name in _NUMBERS:
        setattr(told, name, plain(getattr(policy, name)))
    if policy.start:
        told.valid_from_date.CopyFrom(to_date(policy.start))
    if policy.end:
        told.valid_to_date.CopyFrom(to_date(policy.end))
    return told


def without_gifts(quote: pb.Quote) -> tuple[pb.Quote, list[Any]]:
    """The quote without the lines that a device thought come free, and these."""
    asked = pb.Quote()
    asked.CopyFrom(quote)
    del asked.lines[:]
    asked.lines.extend(line for line in quote.lines if not line.free_with)
    return asked, [line for line in quote.lines if line.free_with]


def estimated(sent: pb.Quote, gifts: Sequence[Any], made: Quote) -> pb.SyncQuoteResponse:
    """What the server reckoned otherwise than the device. Lines without a key count in their order."""
    reply = pb.SyncQuoteResponse()
    own = [line for line in made.lines if not line.free_with]
    for before, line in zip(sent.lines, own, strict=True):
        if fields := _others(before, line, _AMOUNTS):
            changed = pb.CompareQuoteResponse.CHANGED
            reply.lines.add(line=line.key, kind=changed, description=line.description, fields=fields)
    thought = [(line.product, _number(line.quantity), line) for line in gifts]
    for line in (line for line in made.lines if line.free_with):
        guess = next((one for one in thought if one[:2] == (line.product, _number(line.quantity))), None)
        if guess is None:
            added = pb.CompareQuoteResponse.ADDED
            reply.lines.add(line=line.key, kind=added, description=line.description)
        else:
            thought.remove(guess)
    for *_, line in thought:
        removed = pb.CompareQuoteResponse.REMOVED
        reply.lines.add(line=line.key, kind=removed, description=line.description)
    reply.totals.extend(_others(sent, made, _TOTALS))
    return reply


def _others(before: Any, after: Any, names: Sequence[str]) -> list[Any]:
    """The fields whose numbers differ, however they are written."""
    wrong = [name for name in names if _number(getattr(before, name)) != _number(getattr(after, name))]
    return differences(before, after, wrong)


def _number(value: Any) -> Decimal | None:
    """The number of a text or an amount; None where a device wrote no number."""
    plain = value.amount if hasattr(value, "amount") else value
    try:
        return Decimal(plain or 0)
    except InvalidOperation:
        return None
