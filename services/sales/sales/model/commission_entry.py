"""The ledger of commissions: what each movement of money was worth to whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.exchange import rate_of
from crmkit.resource import Resource
from crmkit.values import Money, places, zero
from sales.commission import earn, split
from sales.engine.reckoning import cents, percent_of, plain
from sales.model.base import Base, one_at_a_time
from sales.model.commission_plan import CommissionPlan, plan_for
from sales.model.opportunity import Opportunity
from sqlalchemy import Index, extract, func, select
from sqlalchemy.orm import Mapped

CLAWBACK_MONTHS = 12


class CommissionEntry(Resource, Base):
    """A line of the ledger; its owner is the beneficiary. It is never changed but for the statement that takes it."""

    __message__ = pb.CommissionEntry
    __table_args__ = (
        Index("commission_entries_once_key", "cause", "plan", "owner", "kind", unique=True),
        Index("commission_entries_open_index", "owner", "statement"),
    )

    kind: Mapped[str]
    plan: Mapped[str]
    cause: Mapped[str]
    opportunity: Mapped[str]
    base: Mapped[Money | None]
    split: Mapped[Decimal | None]
    slices: Mapped[Any]
    amount: Mapped[Money | None]
    date: Mapped[date | None]
    exchange_rate: Mapped[Decimal | None]
    reverses: Mapped[str]
    statement: Mapped[str]
    note: Mapped[str]


@dataclass(frozen=True)
class Movement:
    """Money that came in for a deal, or, below nothing, went back."""

    cause: str
    deal: Opportunity
    net: Money
    day: date
    # The cause that it undoes.
    undoes: str = ""


async def enter(movement: Movement, call: Call) -> None:
    """Writes what a movement is worth to everybody who has credit of the deal. Twice is once."""
    credit = [(member.employee, Decimal(member.split)) for member in movement.deal.credit]
    await one_at_a_time(call, [f"commission:{employee}" for employee, _ in credit])
    done = await call.db.scalar(select(func.count()).where(CommissionEntry.cause == movement.cause))
    if done or not credit:
        return
    parts = split(movement.net.amount, [share for _, share in credit], places(movement.net.currency))
    for (employee, share), part in zip(credit, parts, strict=True):
        plan = await plan_for(employee, movement.day, call)
        if plan is not None and part:
            await _enter(movement, plan, employee, share, Money(part, movement.net.currency), call)


async def _enter(
    movement: Movement, plan: CommissionPlan, employee: str, share: Decimal, part: Money, call: Call
) -> None:
    rate = _rate(part.currency, plan.currency, movement.day, call)
    base = Money(cents(part.amount * rate, places(plan.currency)), plan.currency)
    before = await collected(employee, plan, movement.day.year, call)
    found = earn(plan.mode, plan.rates(), before, base.amount, places(plan.currency))
    kind = "EARN" if part.amount > 0 else "CLAWBACK"
    common = {
        "plan": plan.name, "cause": movement.cause, "opportunity": movement.deal.name, "split": share, "date": movement.day,
        "exchange_rate": rate if part.currency != plan.currency else None,
    }  # fmt: skip
    slices = [
        pb.CommissionEntry.Slice(base=plain(size), percent=plain(percent)) for size, percent in found.slices
    ]
    amount = Money(found.amount, plan.currency)
    earlier = await _earlier(movement, employee, call)
    await _write(
        employee,
        {**common, "kind": kind, "base": base, "amount": amount, "slices": slices, "reverses": earlier},
        call,
    )
    if found.true_up:
        true_up = Money(found.true_up, plan.currency)
        await _write(
            employee, {**common, "kind": "TRUE_UP", "base": zero(plan.currency), "amount": true_up}, call
        )
    for override in plan.overrides:
        superior = _superior(employee, override.level, call)
        percent = Decimal(override.percent)
        worth = Money(percent_of(base.amount, percent, places(plan.currency)), plan.currency)
        if superior and worth:
            slices = [pb.CommissionEntry.Slice(base=plain(base.amount), percent=plain(percent))]
            # The same superior may stand above several of the team: one line for each of them.
            cause = f"{movement.cause}#{employee}"
            over = {
                **common,
                "cause": cause,
                "kind": "OVERRIDE",
                "base": base,
                "amount": worth,
                "slices": slices,
            }
            await _write(superior, over, call)
    await call.flush()


async def collected(employee: str, plan: CommissionPlan, year: int, call: Call) -> Decimal:
    """What was collected for a person in a calendar year, under all versions of a plan."""
    versions = select(CommissionPlan.id).where(CommissionPlan.root == plan.root)
    names = [f"commissionPlans/{key}" for key in await call.db.scalars(versions)]
    whole = select(func.sum(CommissionEntry.base_amount)).where(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        CommissionEntry.owner == employee, CommissionEntry.plan.in_(names), CommissionEntry.kind.in_(("EARN", "CLAWBACK")),
        extract("year", CommissionEntry.date) == year,
    )  # fmt: skip
    return await call.db.scalar(whole) or Decimal(0)


async def estimate(deal: Opportunity, call: Call) -> pb.EstimateCommissionResponse:
    """What the caller would earn if the deal were paid today."""
    from crmkit.company import today

    team = {member.employee: Decimal(member.split) for member in (deal.credit or deal.team) if member.split}
    share = (
        team.get(call.caller.employee, Decimal(0))
        if team
        else Decimal(100 if deal.owner == call.caller.employee else 0)
    )
    plan = await plan_for(call.caller.employee, today(call), call)
    reply = pb.EstimateCommissionResponse(split=plain(share), plan=plan.name if plan else "")
    if plan is None or deal.amount is None:
        return reply
    part = percent_of(deal.amount.amount, share, places(deal.amount.currency))
    base = cents(part * _rate(deal.amount.currency, plan.currency, today(call), call), places(plan.currency))
    before = await collected(call.caller.employee, plan, today(call).year, call)
    found = earn(plan.mode, plan.rates(), before, base, places(plan.currency))
    reply.base.CopyFrom(Money(base, plan.currency).message())
    reply.amount.CopyFrom(Money(found.amount + found.true_up, plan.currency).message())
    return reply


def within(original: date, day: date, months: int) -> bool:
    """Whether money that came in on one day may still be taken back on another."""
    return (day.year - original.year) * 12 + day.month - original.month <= (months or CLAWBACK_MONTHS)


async def _write(employee: str, values: dict[str, Any], call: Call) -> None:
    await call.add(CommissionEntry(**values, owner=employee))


async def _earlier(movement: Movement, employee: str, call: Call) -> str:
    """The entry that a movement takes back."""
    if not movement.undoes:
        return ""
    mine = (
        CommissionEntry.cause == movement.undoes,
        CommissionEntry.owner == employee,
        CommissionEntry.kind == "EARN",
    )
    entry = await call.find(CommissionEntry, *mine)
    return entry.name if entry else ""


def _rate(own: str, wanted: str, day: date, call: Call) -> Decimal:
    """The rate of a day; money without one cannot be counted, and the fact waits for it."""
    found = rate_of(own, wanted, day, call)
    if found is None:
        raise LookupError(f"no rate {own}-{wanted} for {day}")
    return found.value


def _superior(employee: str, level: int, call: Call) -> str:
    for _ in range(level):
        entry = call.config(f"employee.{employee.rpartition('/')[2]}") or {}
        employee = entry.get("superior") or ""
        if not employee:
            return ""
    return employee
