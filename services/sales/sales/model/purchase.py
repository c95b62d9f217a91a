"""The purchase: a line of an order, as it was placed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.auth import Caller
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.resource import Resource
from crmkit.values import Money
from sales.model.base import Base
from sqlalchemy import Boolean, ColumnElement, Index, false, text, update
from sqlalchemy.orm import Mapped, mapped_column


class Purchase(Resource, Base):
    """Who bought what. Its owner is whoever looks after the customer; what was cancelled nobody sees."""

    __message__ = pb.Purchase
    __table_args__ = (
        Index("purchases_order_key", "order", "line", unique=True),
        Index("purchases_history_index", "account", "product", postgresql_where=text("NOT cancelled")),
        Index("purchases_buyers_index", "product", "account", postgresql_where=text("NOT cancelled")),
    )

    account: Mapped[str]
    product: Mapped[str]
    order: Mapped[str]
    line: Mapped[str]
    order_date: Mapped[date | None]
    quantity: Mapped[Decimal | None]
    net: Mapped[Money | None]
    # A fact of the cancellation may come before that of the order.
    cancelled: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What was cancelled was not bought."""
        return ~cls.cancelled


async def bought(order: Any, cancelled: bool, call: Call) -> None:
    """Keeps the lines of an order, once; a cancellation counts whenever it comes."""
    if not order.account:
        return
    if cancelled:
        await call.db.execute(update(Purchase).where(Purchase.order == order.name).values(cancelled=True))
    customer = await call.copy(order.account) or {}
    day = order.place_time.ToDatetime(call.now.tzinfo) if order.HasField("place_time") else call.now
    rows = [
        Purchase(
            account=order.account, product=item.product, order=order.name, line=item.key,
            order_date=day.astimezone(ZONE).date(), quantity=Decimal(item.quantity or 0), net=Money.parse(item.net),
            owner=customer.get("owner") or order.owner, department=customer.get("department") or order.department,
            creator=order.creator, cancelled=cancelled,
        )
        for item in order.items
        if item.product
    ]  # fmt: skip
    await create_many(call, rows, told=False)
