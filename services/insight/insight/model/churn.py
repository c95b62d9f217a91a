"""The risk that a customer leaves, by rules over business facts, with its reasons in words."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from uuid import UUID

from insight.model.base import Base
from sqlalchemy import Boolean, DateTime, Index, Integer, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

MODEL = "churn-rules-1"
ORDERED = "crm.orders.v1.OrderPlaced"
SPOKEN = "crm.customer.v1.InteractionLogged"
TICKET = "crm.servicedesk.v1.TicketOpened"
BACK = ("crm.billing.v1.PaymentRefunded", "crm.orders.v1.OrderCancelled")
OVERDUE = "crm.billing.v1.InstalmentOverdue"
KINDS = (ORDERED, SPOKEN, TICKET, *BACK, OVERDUE)
# A customer is lost after twice the usual interval without an order, or after this if that is more.
SOONEST = 90
MOST_FACTORS = 5


class ChurnScore(Base):
    """The last score that was told of an account; due where something has happened since."""

    __tablename__ = "churn_scores"
    __table_args__ = (Index("churn_scores_due_index", "id", postgresql_where=text("due")),)

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    value: Mapped[int | None] = mapped_column(Integer)
    band: Mapped[str] = mapped_column(Text, server_default=text("''"))
    due: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True)
class Factor:
    """One reason, in words."""

    code: str
    zh: str
    en: str
    points: int


@dataclass(frozen=True)
class Told:
    """One business fact about the account."""

    kind: str
    day: date


def reasons(facts: Sequence[Told], day: date) -> list[Factor] | None:
    """What makes up the score on a day, the weightiest first; None for who has never ordered: nobody to lose."""
    orders = sorted({one.day for one in facts if one.kind == ORDERED})
    if not orders:
        return None
    since = (day - orders[-1]).days
    usual = median((b - a).days for a, b in itertools.pairwise(orders)) if len(orders) > 1 else 0
    limit = max(2 * usual, SOONEST)
    found = [
        Factor("NO_ORDER", f"已 {since} 天没有下单，通常不超过 {limit:.0f} 天",
               f"No order for {since} days; {limit:.0f} at most is usual", min(50, int(50 * since / limit))),
    ]  # fmt: skip
    spoken = max((one.day for one in facts if one.kind == SPOKEN), default=None)
    quiet = (day - spoken).days if spoken else None
    if quiet is None or quiet > 90:
        zh, en = (
            ("从未跟进", "Never contacted")
            if quiet is None
            else (f"已 {quiet} 天没有联系", f"No contact for {quiet} days")
        )
        found.append(Factor("NO_CONTACT", zh, en, 20))
    elif quiet > 30:
        found.append(Factor("NO_CONTACT", f"已 {quiet} 天没有联系", f"No contact for {quiet} days", 10))
    for code, kinds, days, each, most, zh, en in _COUNTED:
        count = sum(1 for one in facts if one.kind in kinds and day - one.day <= timedelta(days=days))
        if count:
            found.append(
                Factor(code, zh.format(days, count), en.format(days, count), min(most, each * count))
            )
    found = [one for one in found if one.points]
    return sorted(found, key=lambda one: (-one.points, one.code))[:MOST_FACTORS]


def band_of(value: int) -> str:
    """LOW, MEDIUM or HIGH."""
    return "HIGH" if value >= 70 else "MEDIUM" if value >= 40 else "LOW"


# Reason, facts, within how many days, points for each, points at most, in words.
_COUNTED = (
    ("TICKETS", (TICKET,), 90, 5, 15, "{0} 天内提出 {1} 个服务请求", "{1} tickets within {0} days"),
    ("MONEY_BACK", BACK, 180, 5, 10, "{0} 天内退款或取消订单 {1} 次", "{1} refunds or cancelled orders within {0} days"),
    ("OVERDUE", (OVERDUE,), 90, 5, 5, "{0} 天内 {1} 笔款项逾期", "{1} payments overdue within {0} days"),
)  # fmt: skip
