"""What is kept beside a quote: the input of its price, what was sold at what price, and budgets."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.values import Money
from sales.engine import Given, run
from sales.model.base import Base
from sales.model.discount_policy import DiscountPolicy
from sales.model.quote_pricing import Pricing
from sqlalchemy import DateTime, ForeignKey, Index, Integer, Numeric, Text, Uuid, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Mapped, mapped_column

if TYPE_CHECKING:
    from sales.model.quote import Quote


class QuotePricing(Base):
    """Everything that the price of a version depended on, so that it can be reckoned again for ever."""

    __tablename__ = "quote_pricings"

    quote: Mapped[UUID] = mapped_column(Uuid, ForeignKey("quotes.id", ondelete="CASCADE"), primary_key=True)
    engine: Mapped[int] = mapped_column(Integer)
    given: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text)


class SoldPrice(Base):
    """What a customer paid for a product, by an accepted quote or an order."""

    __tablename__ = "sold_prices"
    __table_args__ = (
        Index("sold_prices_account_index", "account", "product", "time"),
        Index("sold_prices_level_index", "product", "level", "currency", "time"),
    )

    document: Mapped[str] = mapped_column(Text, primary_key=True)
    line: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text, info={"refers": True})
    product: Mapped[str] = mapped_column(Text)
    level: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    quantity: Mapped[Decimal] = mapped_column(Numeric)
    unit_price: Mapped[Decimal] = mapped_column(Numeric)
    currency: Mapped[str] = mapped_column(Text)
    employee: Mapped[str] = mapped_column(Text)
    number: Mapped[str] = mapped_column(Text)


async def keep(quote: Quote, pricing: Pricing, call: Call) -> None:
    """Keeps the input of the price and what came out."""
    values = {
        "engine": pricing.given.engine, "given": pricing.given.json().decode(), "digest": pricing.result.digest,
    }  # fmt: skip
    statement = insert(QuotePricing).values(quote=quote.id, **values)
    await call.db.execute(statement.on_conflict_do_update(index_elements=[QuotePricing.quote], set_=values))


async def reserve_budgets(quote: Quote, call: Call) -> None:
    """Takes what the quote's policies gave out of their budgets, all or nothing (BUDGET_USED_UP)."""
    row = await call.db.get_one(QuotePricing, quote.id)
    # What the price gave away says the price itself; free goods count with what they are worth.
    used = {
        name: Money(amount, quote.currency)
        for name, amount in run(Given.of_json(row.given)).used.items()
        if amount
    }
    if not used:
        return
    keys = [name.rpartition("/")[2] for name in used]
    async with call.everybody():
        named = list(await call.db.scalars(select(DiscountPolicy).where(DiscountPolicy.id.in_(keys))))
        roots = {row.root for row in named if row.budget is not None}
        live = select(DiscountPolicy).where(
            DiscountPolicy.root.in_(roots), DiscountPolicy.state.in_(("ACTIVE", "PAUSED"))
        )
        # Locked in one order, so that two acceptances cannot wait for each other.
        locked = {
            row.root: row
            for row in await call.db.scalars(
                live.order_by(DiscountPolicy.id).with_for_update().execution_options(populate_existing=True)
            )
        }
    for row in named:
        if row.root in roots:
            (locked.get(row.root) or row).take(used[row.name])


async def remember_sale(quote: Quote, call: Call) -> None:
    """Keeps what was sold at what price."""
    lines = [
        (line.key, line.product, Decimal(line.quantity), Money.of(line.net_amount.amount, quote.currency))
        for line in quote.lines
        if line.product and not line.free_with
    ]
    await remember(quote.name, quote.number, quote.account, quote.owner, lines, call.now, call)


async def remember(
    document: str, number: str, account: str, employee: str, lines: list[tuple[str, str, Decimal, Money]], time: datetime,
    call: Call,
) -> None:  # fmt: skip
    """Keeps the prices of a document, once."""
    level = (await call.copy(account) or {}).get("level", "")
    rows = [
        {
            "document": document, "line": key, "account": account, "product": product, "level": level, "time": time,
            "quantity": quantity, "unit_price": Money(net.amount / quantity, net.currency).rounded().amount,
            "currency": net.currency, "employee": employee, "number": number,
        }
        for key, product, quantity, net in lines
        if product and quantity
    ]  # fmt: skip
    if rows:
        await call.db.execute(insert(SoldPrice).values(rows).on_conflict_do_nothing())


async def last_price(account: str, product: str, currency: str, call: Call) -> Any:
    """What the customer paid last, and what others of his level pay."""
    told = pb.ListLastPricesResponse.LastPrice(product=product)
    mine = select(SoldPrice).where(SoldPrice.account == account, SoldPrice.product == product)
    if currency:
        mine = mine.where(SoldPrice.currency == currency)
    rows = list(await call.db.scalars(mine.order_by(SoldPrice.time.desc()).limit(100)))
    if rows:
        last = rows[0]
        told.found, told.times = True, len({row.document for row in rows})
        told.time.FromDatetime(last.time)
        told.quantity, told.employee = plain(last.quantity), last.employee
        told.document, told.number = last.document, last.number
        told.net_unit_price.CopyFrom(Money(last.unit_price, last.currency).message())
        currency = currency or last.currency
    level = (await call.copy(account) or {}).get("level", "")
    if level and (middle := await _middle(account, product, level, currency or "CNY", call)):
        told.suggested_price.CopyFrom(Money(middle, currency or "CNY").message())
    return told


async def _middle(account: str, product: str, level: str, currency: str, call: Call) -> Decimal | None:
    """The middle of what at least three others paid within a year."""
    others = (
        select(SoldPrice.account, SoldPrice.unit_price)
        .where(
            SoldPrice.product == product, SoldPrice.level == level, SoldPrice.currency == currency,
            SoldPrice.account != account, SoldPrice.time > call.now - timedelta(days=365),
        )
        .order_by(SoldPrice.account, SoldPrice.time.desc())
        .ext(distinct_on(SoldPrice.account))
    )  # fmt: skip
    paid = [row.unit_price for row in await call.db.execute(others)]
    return median(paid) if len(paid) >= 3 else None
