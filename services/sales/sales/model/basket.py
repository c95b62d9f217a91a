"""The basket: what somebody wants to buy, kept for a person or, before he signs in, for whoever has its token."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from sales.model.base import Base
from sqlalchemy import DateTime, Index, Text, Uuid, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

MOST_LINES = 300
# Baskets that nobody has touched for so many days are gone.
KEPT_DAYS, KEPT_DAYS_SIGNED_IN = 30, 180


@dataclass(frozen=True)
class Shopper:
    """Who shops, where and at whose prices. A keeper has one basket, whatever device he comes with."""

    account: str
    contact: str
    channel: str
    currency: str
    partner: str
    keeper: str
    token: str
    staff: bool


class Basket(Base):
    """Lines without prices: these are reckoned whenever somebody looks."""

    __tablename__ = "baskets"
    __table_args__ = (
        Index("baskets_keeper_key", "keeper", unique=True, postgresql_where=text("keeper <> ''")),
        Index("baskets_token_key", "token", unique=True, postgresql_where=text("token <> ''")),
        Index("baskets_touch_time_index", "touch_time"),
    )

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    keeper: Mapped[str] = mapped_column(Text)
    token: Mapped[str] = mapped_column(Text)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    coupons: Mapped[list[str]] = mapped_column(JSONB)
    # What was bought last of it, so that a second click is told the same.
    bought_digest: Mapped[str] = mapped_column(Text)
    bought: Mapped[str] = mapped_column(Text)
    touch_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    def put(self, line: dict[str, Any]) -> str:
        """Adds to the line of the same product and configuration, else a line of its own; gives its key."""
        for place, there in enumerate(self.lines):
            if _same(there) == _same(line):
                quantity = plain(Decimal(there["quantity"]) + Decimal(line["quantity"]))
                self.lines = [*self.lines[:place], there | {"quantity": quantity}, *self.lines[place + 1 :]]
                return str(there["key"])
        if len(self.lines) >= MOST_LINES:
            raise FailedPrecondition("BASKET_FULL", limit=MOST_LINES)
        key = str(max((int(there["key"]) for there in self.lines), default=0) + 1)
        self.lines = [*self.lines, line | {"key": key}]
        return key

    def set(self, key: str, quantity: Decimal) -> None:
        """So many of a line from now on; none takes it out. What is out already stays out."""
        kept = [
            there | {"quantity": plain(quantity)} if there["key"] == key else there for there in self.lines
        ]
        self.lines = [there for there in kept if Decimal(there["quantity"]) > 0]

    def join(self, other: Basket) -> None:
        """Takes over the lines of another."""
        for line in other.lines:
            self.put({name: value for name, value in line.items() if name != "key"})
        self.coupons = list(dict.fromkeys([*self.coupons, *other.coupons]))

    def quantity_of(self, key: str) -> Decimal:
        """How many there are of a line."""
        return next((Decimal(one["quantity"]) for one in self.lines if one["key"] == key), Decimal(0))

    def wanted(self, keys: Iterable[str]) -> list[Any]:
        """The lines of these keys as a quote takes them."""
        taken = set(keys)
        return [
            pb.Quote.Line(
                key=one["key"], product=one["product"], bundle=one["bundle"], quantity=one["quantity"],
                choices=[pb.Quote.Choice(**choice) for choice in one["choices"]],
            )
            for one in self.lines
            if one["key"] in taken
        ]  # fmt: skip


def line_of(product: str, bundle: str, choices: Sequence[Any], quantity: Decimal) -> dict[str, Any]:
    """A line for the basket."""
    if quantity <= 0:
        words = "必须大于 0", "This must be more than 0."
        raise Validation(Violation("quantity", "TOO_SMALL", *words))
    chosen = [{"option": one.option, "quantity": one.quantity} for one in choices]
    return {"product": product, "bundle": bundle, "choices": chosen, "quantity": plain(quantity)}


async def kept(shopper: Shopper, call: Call) -> tuple[Basket, str]:
    """The basket of who shops, locked, and its token: a new one where he has none; the one that he brings joins it."""
    key = _hash(shopper.token) if shopper.token else ""
    await call.one_at_a_time([f"basket:{one}" for one in (shopper.keeper, key) if one])
    brought = await _of(Basket.token == key, call) if key else None
    if not shopper.keeper:
        if brought is not None:
            brought.touch_time = call.now
            return brought, shopper.token
        token = secrets.token_urlsafe(32)
        return await _new("", _hash(token), call), token
    basket = await _of(Basket.keeper == shopper.keeper, call) or await _new(shopper.keeper, "", call)
    if brought is not None:
        basket.join(brought)
        await call.db.delete(brought)
    basket.touch_time = call.now
    return basket, ""


async def _of(condition: Any, call: Call) -> Basket | None:
    return await call.db.scalar(select(Basket).where(condition).with_for_update())


async def _new(keeper: str, token: str, call: Call) -> Basket:
    key = uuid7()
    empty = {"lines": [], "coupons": [], "bought_digest": "", "bought": "", "touch_time": call.now}
    await call.db.execute(insert(Basket).values(id=key, keeper=keeper, token=token, **empty))
    return (await call.db.scalars(select(Basket).where(Basket.id == key))).one()


def _same(line: dict[str, Any]) -> tuple[Any, ...]:
    chosen = sorted((one["option"], Decimal(one["quantity"] or 1)) for one in line["choices"])
    return line["product"], line["bundle"], tuple(chosen)


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
