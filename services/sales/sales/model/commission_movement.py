"""What commissions are reckoned from: every movement of money for a deal, as it was heard, and by whose plans it counted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.exchange import rate_of
from crmkit.resource import parse_name
from crmkit.values import Money, places
from sales.commission import Item
from sales.engine.reckoning import cents, shared
from sales.model.base import Base
from sales.model.commission_plan import CommissionPlan, plan_for
from sales.model.opportunity import REFERRER, Opportunity
from sales.model.product import products
from sales.model.product_category import tree
from sales.model.quote import Quote
from sqlalchemy import Boolean, Date, Index, Integer, Numeric, Text, exists, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

CLAWBACK_MONTHS = 12
HALF = Decimal(2)


class CommissionMovement(Base):
    """Money that came in for a deal or was signed, or, below nothing, went back. The ledger follows from these rows."""

    __tablename__ = "commission_movements"
    __table_args__ = (
        Index("commission_movements_waiting_index", "opportunity", postgresql_where=text("NOT entered")),
        Index("commission_movements_day_index", "day"),
    )

    cause: Mapped[str] = mapped_column(Text, primary_key=True)
    # The cause that it takes back.
    undoes: Mapped[str] = mapped_column(Text)
    # COLLECTED or SIGNED.
    basis: Mapped[str] = mapped_column(Text)
    opportunity: Mapped[str] = mapped_column(Text)
    day: Mapped[date] = mapped_column(Date)
    sign: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str] = mapped_column(Text)
    items: Mapped[Any] = mapped_column(JSONB)
    account_type: Mapped[str] = mapped_column(Text)
    repeat: Mapped[bool] = mapped_column(Boolean)
    # Who has a share of it and by which plan, with the rate into its currency and the superiors who get a part.
    credit: Mapped[Any] = mapped_column(JSONB)
    # False while the deal is not won, and nobody has credit.
    entered: Mapped[bool] = mapped_column(Boolean)
    # The invoice that was paid and its amount without tax, as it was issued; empty for what was signed.
    invoice: Mapped[str] = mapped_column(Text, server_default="", index=True)
    invoice_net: Mapped[Decimal | None] = mapped_column(Numeric(20, 4))

    @property
    def amount(self) -> Decimal:
        """What came in, or below nothing went back, in its own currency."""
        return sum((Decimal(one["amount"]) for one in self.items), Decimal(0)) * self.sign

    def parts(self, currency: str, rate: Decimal) -> list[Item]:
        """What it was for, in the currency of a plan; what goes back is below nothing."""
        digits = places(currency)
        return [
            Item(
                cents(Decimal(one["amount"]) * rate, digits) * self.sign, Decimal(one["units"]) * self.sign,
                Decimal(one["margin"]) if one["margin"] else None, one["product"], tuple(one["categories"]),
            )
            for one in self.items
        ]  # fmt: skip


class CommissionReturn(Base):
    """Money of an invoice that was paid back, or an amount that it was credited with: each fact once."""

    __tablename__ = "commission_returns"
    __table_args__ = (Index("commission_returns_invoice_index", "invoice"),)

    cause: Mapped[str] = mapped_column(Text, primary_key=True)
    # REFUND or CREDIT.
    kind: Mapped[str] = mapped_column(Text)
    invoice: Mapped[str] = mapped_column(Text)
    # The allocation whose money went back.
    allocation: Mapped[str] = mapped_column(Text)
    net: Mapped[Decimal] = mapped_column(Numeric(20, 4))


async def heard(
    deal: Opportunity, cause: str, basis: str, day: date, net: Money, lines: Iterable[Any], quote: str, call: Call
) -> CommissionMovement:  # fmt: skip
    """A movement as told, not yet added: shared by what it pays for."""
    accepted = await _quote(quote or deal.accepted_quote, call)
    items = [Line.of_document(line) for line in lines]
    if accepted is not None and not any(one.product for one in items):
        # An instalment says nothing of products; what was sold stands on the quote.
        items = [Line.of_quote(line) for line in accepted.lines]
    items = [one for one in items if one.net] or [Line("", net.amount, Decimal(0))]
    parts = shared(abs(net.amount), [one.net for one in items], places(net.currency))
    known = await products((one.product for one in items), call)
    classes = await tree(call)
    told: list[dict[str, Any]] = []
    for one, part in zip(items, parts, strict=True):
        product = known.get(one.product)
        margin = accepted.margin_percent if accepted is not None else None
        told.append(
            {
                "product": one.product if product else "", "amount": plain(part), "units": plain(one.quantity * part / one.net),
                "categories": list(classes.above(product.category)) if product else [],
                "margin": plain(margin),
            }
        )  # fmt: skip
    account = await call.copy(deal.account) or {}
    return CommissionMovement(
        cause=cause, undoes="", basis=basis, opportunity=deal.name, day=day, sign=1, currency=net.currency, items=told,
        account_type=account.get("type", ""), repeat=await _repeated(deal, call), credit=[], entered=False,
    )  # fmt: skip


def back(
    before: CommissionMovement, cause: str, day: date, months: dict[str, int], part: Decimal | None = None
) -> CommissionMovement:
    """The same, or a part of it, taken back: same people, shares, plans and rates, where the plan still takes back then."""
    credit = [
        one if one["plan"] and within(before.day, day, months[one["plan"]]) else {**one, "plan": ""}
        for one in before.credit
    ]
    return CommissionMovement(
        cause=cause, undoes=before.cause, basis=before.basis, opportunity=before.opportunity, day=before.day, sign=-1,
        currency=before.currency, items=before.items if part is None else _part(before, part),
        account_type=before.account_type, repeat=before.repeat, credit=credit, entered=before.entered,
        invoice=before.invoice, invoice_net=before.invoice_net,
    )  # fmt: skip


def _part(before: CommissionMovement, part: Decimal) -> list[dict[str, Any]]:
    """A part of what it was for, shared as the whole was."""
    amounts = [Decimal(one["amount"]) for one in before.items]
    parts = shared(part, amounts, places(before.currency))
    return [
        {
            **one,
            "amount": plain(mine),
            "units": plain(Decimal(one["units"]) * mine / amount if amount else Decimal(0)),
        }
        for one, amount, mine in zip(before.items, amounts, parts, strict=True)
    ]


async def freeze(movement: CommissionMovement, deal: Opportunity, call: Call) -> None:
    """Settles who has credit of a movement on its day, and by which plan."""
    people = [(one.employee or one.partner, Decimal(one.split), "") for one in deal.credit if one.split]
    for handover in deal.handovers:
        people = await _handed_over(people, handover, movement.day, call)
    referrers = (one for one in deal.credit if one.role == REFERRER)
    people += [(one.employee or one.partner, Decimal(0), REFERRER) for one in referrers]
    movement.credit = [await _credited(*one, movement, bool(deal.deal_registration), call) for one in people]
    movement.entered = True


async def keep(movement: CommissionMovement, call: Call) -> None:
    """Stores a movement; nothing of it changes any more but that it is entered once its deal is won."""
    columns = CommissionMovement.__table__.columns
    await call.db.execute(
        insert(CommissionMovement).values({c.key: getattr(movement, c.key) for c in columns})
    )


def within(original: date, day: date, months: int) -> bool:
    """Whether money that came in on one day may still be taken back on another."""
    return (day.year - original.year) * 12 + day.month - original.month <= (months or CLAWBACK_MONTHS)


class Line:
    """What a line says of product, net amount and quantity, on whatever document it stands."""

    def __init__(self, product: str, net: Decimal, quantity: Decimal) -> None:
        self.product, self.net, self.quantity = product, net, quantity

    @classmethod
    def of_document(cls, line: Any) -> Line:
        """A line of an invoice or contract."""
        return cls(line.product, Decimal(line.net.amount or 0), Decimal(line.quantity or 0))

    @classmethod
    def of_quote(cls, line: Any) -> Line:
        """A line of a quote."""
        return cls(line.product, Decimal(line.net_amount.amount or 0), Decimal(line.quantity or 0))


async def _handed_over(
    people: list[tuple[str, Decimal, str]], handover: Any, day: date, call: Call
) -> list[tuple[str, Decimal, str]]:
    since = date(handover.date.year, handover.date.month, handover.date.day)
    if day < since:
        return people
    found: list[tuple[str, Decimal, str]] = []
    for employee, share, role in people:
        plan = await plan_for(employee, day, call) if employee == handover.from_employee else None
        after = plan.after_handover if plan else ""
        if after == "SHARE" and plan is not None and within(since, day, plan.handover_months):
            found += [(employee, share / HALF, role), (handover.to_employee, share / HALF, role)]
        else:
            found.append((handover.to_employee if after in ("MOVE", "SHARE") else employee, share, role))
    return found


async def _credited(
    employee: str, share: Decimal, role: str, movement: CommissionMovement, registered: bool, call: Call
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "employee": employee, "share": plain(share), "role": role, "plan": "", "registered": registered,
    }  # fmt: skip
    plan = await plan_for(employee, movement.day, call, registered)
    if plan is None or (plan.basis == "SIGNED") != (movement.basis == "SIGNED"):
        return told
    rate = rate_of(movement.currency, plan.currency, movement.day, call)
    if rate is None:
        raise LookupError(f"no rate {movement.currency}-{plan.currency} for {movement.day}")
    over = [(_superior(employee, one.level, call), one.percent) for one in plan.overrides if not role]
    told |= {"plan": plan.name, "rate": plain(rate.value), "over": [one for one in over if one[0]]}
    return told


def _superior(employee: str, level: int, call: Call) -> str:
    for _ in range(level):
        entry = call.entry(employee)
        employee = entry.get("superior") or ""
        if not employee:
            return ""
    return employee


async def _quote(name: str, call: Call) -> Quote | None:
    return await call.named(Quote, name)


async def _repeated(deal: Opportunity, call: Call) -> bool:
    """Whether the customer had bought before the deal."""
    earlier = (
        Opportunity.account == deal.account, Opportunity.state == "WON", Opportunity.id != deal.id,
        Opportunity.close_time < (deal.close_time or call.now),
    )  # fmt: skip
    return bool(await call.db.scalar(select(exists().where(*earlier))))


async def plans_of(movements: Iterable[CommissionMovement], call: Call) -> dict[str, CommissionPlan]:
    """The plans by which movements counted."""
    names = {one["plan"] for movement in movements for one in movement.credit if one["plan"]}
    keys = [parse_name(name, "commissionPlans") for name in names]
    rows = await call.db.scalars(select(CommissionPlan).where(CommissionPlan.id.in_(keys)))
    return {row.name: row for row in rows}
