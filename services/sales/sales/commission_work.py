"""Commissions by facts: what is heard, what would be earned, what a plan would cost, and whether the ledger is right."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import NotFound
from crmkit.exchange import rate_of
from crmkit.mapping import to_date
from crmkit.values import Money, places
from sqlalchemy import extract, select
from sqlalchemy.dialects.postgresql import insert

from sales.commission import NOTHING, Item, Total, worth
from sales.engine.reckoning import cents
from sales.model.beneficiaries import present
from sales.model.commission_entry import CommissionEntry, enter, extras, total
from sales.model.commission_movement import (
    CommissionMovement,
    CommissionReturn,
    back,
    freeze,
    heard,
    keep,
    plans_of,
)
from sales.model.commission_plan import CommissionPlan, plan_for
from sales.model.opportunity import Opportunity

MONTHS = 12


async def money_moved(target: Any, call: Call) -> None:
    """An allocation that pays something of a deal; twice is once."""
    allocation = target.allocation
    deal = await _deal(target.opportunity, call)
    if deal is None or not allocation.net.amount:
        return
    net = Money.of(allocation.net.amount, allocation.net.currency_code)
    day = (
        date(allocation.date.year, allocation.date.month, allocation.date.day)
        if allocation.date.year
        else today(call)
    )
    invoice = target.invoice
    issued = Decimal(invoice.net.amount) if invoice.net.amount else None
    await _take(
        deal,
        allocation.name,
        "COLLECTED",
        day,
        net,
        invoice.lines,
        target.quote,
        call,
        (invoice.name, issued),
    )
    if invoice.name:
        await settle(invoice.name, call)


async def money_went_back(target: Any, call: Call) -> None:
    """An allocation that was undone takes its commission back, as far as that is not back already."""
    if target.allocation.net.amount:
        await _take_back(target.opportunity, target.allocation.name, call)
        if target.invoice.name:
            await settle(target.invoice.name, call)


async def gave_back(cause: str, kind: str, invoice: str, allocation: str, net: Decimal, call: Call) -> None:
    """Money of an invoice went back, or the invoice was credited: what is not earned any more is taken back."""
    row = {"cause": cause, "kind": kind, "invoice": invoice, "allocation": allocation, "net": abs(net)}
    await call.db.execute(insert(CommissionReturn).values(**row).on_conflict_do_nothing())
    await settle(invoice, call)


async def settle(invoice: str, call: Call) -> None:
    """Commission counts what an invoice still asks for and what of it is still paid, whichever is less.

    In whatever order refunds, credit notes and allocations are told, what is taken back is the same.
    """
    await call.one_at_a_time([f"movements:{invoice}"])
    rows = select(CommissionMovement).where(CommissionMovement.invoice == invoice)
    movements = list(await call.db.scalars(rows.order_by(CommissionMovement.day, CommissionMovement.cause)))
    returns = list(await call.db.scalars(select(CommissionReturn).where(CommissionReturn.invoice == invoice)))
    paid = {one.cause: one for one in movements if one.sign > 0}
    if not paid or not returns:
        return
    gone = {one.undoes for one in movements if one.cause == f"{one.undoes}#reversed"}
    left = {cause: one.amount for cause, one in paid.items()}
    for one in movements:
        if one.sign < 0:
            left[one.undoes] += one.amount
    refunded = [one for one in returns if one.kind == "REFUND" and one.allocation not in gone]
    allowed = sum((one.amount for cause, one in paid.items() if cause not in gone), NOTHING)
    allowed -= sum((one.net for one in refunded), NOTHING)
    asked = next((one.invoice_net for one in paid.values() if one.invoice_net is not None), None)
    if asked is not None:
        allowed = min(allowed, asked - sum((one.net for one in returns if one.kind == "CREDIT"), NOTHING))
    excess = sum(left.values(), NOTHING) - max(allowed, NOTHING)
    # The money that went back first, then what came last.
    first = [one.allocation for one in refunded]
    for cause in [*dict.fromkeys(first), *reversed(list(paid))]:
        part = min(excess, left.get(cause, NOTHING))
        if part > 0:
            excess -= part
            left[cause] -= part
            number = sum(1 for one in movements if one.undoes == cause) + 1
            await _undo(paid[cause], f"{cause}#returned{number}", part, call)


async def signed(contract: Any, call: Call) -> None:
    """A signed contract earns by the plans that count what is signed."""
    deal = await _deal(contract.opportunity, call)
    if deal is not None and contract.net.amount:
        net = Money.of(contract.net.amount, contract.net.currency_code)
        await _take(deal, contract.name, "SIGNED", today(call), net, contract.lines, contract.quote, call)


async def took_nothing(cause: str, kind: str, invoice: str, call: Call) -> None:
    """What takes back was itself taken back, before anybody had paid what is left; it may be told first."""
    row = {"cause": cause, "kind": kind, "invoice": invoice, "allocation": "", "net": NOTHING}
    none = insert(CommissionReturn).values(**row)
    await call.db.execute(none.on_conflict_do_update(index_elements=["cause"], set_={"net": NOTHING}))
    await settle(invoice, call)


async def unsigned(contract: Any, call: Call) -> None:
    """A terminated one takes that back."""
    if contract.net.amount:
        await _take_back(contract.opportunity, contract.name, call)


async def enter_waiting(opportunity: str, call: Call) -> None:
    """What came in for a deal before it was won counts from then on."""
    waiting = (
        select(CommissionMovement)
        .where(CommissionMovement.opportunity == opportunity, ~CommissionMovement.entered)
        .order_by(CommissionMovement.sign.desc(), CommissionMovement.day, CommissionMovement.cause)
    )
    movements = (await call.db.scalars(waiting.with_for_update())).all()
    deal = await _deal(opportunity, call) if movements else None
    if deal is None or not deal.credit:
        return
    for movement in movements:
        await freeze(movement, deal, call)
        await enter(movement, call)


async def estimate(deal: Opportunity, call: Call) -> pb.EstimateCommissionResponse:
    """What the caller would earn if the deal were paid today."""
    me = call.caller.account or call.caller.employee
    team = {
        one.employee or one.partner: Decimal(one.split) for one in (deal.credit or deal.team) if one.split
    }
    share = team.get(me, NOTHING) if team else Decimal(100 if deal.owner == me else 0)
    plan = await plan_for(me, today(call), call, bool(deal.deal_registration))
    reply = pb.EstimateCommissionResponse(split=plain(share), plan=plan.name if plan else "")
    if plan is None or deal.amount is None:
        return reply
    movement = await heard(deal, "", "COLLECTED", today(call), deal.amount, (), "", call)
    if not any(one["product"] for one in movement.items) and deal.lines:
        lines = [_OfDeal(line) for line in deal.lines]
        movement = await heard(deal, "", "COLLECTED", today(call), deal.amount, lines, "", call)
    rate = rate_of(movement.currency, plan.currency, movement.day, call)
    if rate is None:
        return reply
    items = movement.parts(plan.currency, rate.value)
    so_far = {0: await total(me, plan, movement.day.year, call)}
    found = worth(plan.terms(), items, movement.account_type, movement.repeat, [share], so_far)[0]
    bonus = extras(plan, {"employee": me, "share": plain(share), "role": "", "over": []}, items, movement.day)
    base = sum((item.amount for item in items), NOTHING) * share.scaleb(-2)
    amount = found.amount + found.true_up + sum((one.amount for one in bonus), NOTHING)
    reply.base.CopyFrom(Money(cents(base, places(plan.currency)), plan.currency).message())
    reply.amount.CopyFrom(Money(amount, plan.currency).message())
    return reply


async def simulated(plan: CommissionPlan, months: int, call: Call) -> pb.SimulateCommissionPlanResponse:
    """What a plan would have paid for the money of some months, beside what was earned for it. Nothing is written."""
    months = months or MONTHS
    day = today(call)
    place = day.year * 12 + day.month - 1 - months
    first = date(place // 12, place % 12 + 1, 1)
    rows = select(CommissionMovement).where(CommissionMovement.day >= first, CommissionMovement.entered)
    reply = pb.SimulateCommissionPlanResponse(from_date=to_date(first))
    book, terms, causes = _Book(), plan.terms(), set[str]()
    for movement in await call.db.scalars(rows.order_by(CommissionMovement.day, CommissionMovement.cause)):
        if (plan.basis == "SIGNED") != (movement.basis == "SIGNED"):
            continue
        rate = rate_of(movement.currency, plan.currency, movement.day, call)
        reply.movements += 1
        if rate is None:
            reply.without_rate += 1
            continue
        causes.add(movement.cause)
        team = [
            {
                **one,
                "over": [],
                "plan": plan.name if plan.covers(one["employee"], one["registered"]) else "",
            }
            for one in present(movement.credit, call)
        ]
        book.enter(movement, team, plan, terms, movement.parts(plan.currency, rate.value))
    earned = await _earned(first, plan, call)
    nothing = Money(NOTHING, plan.currency)
    people = sorted({*book.amounts, *earned})
    for employee in people:
        reply.people.add(
            employee=employee, simulated=Money(book.amounts.get(employee, NOTHING), plan.currency).message(),
            current=earned.get(employee, nothing).message(),
        )  # fmt: skip
    reply.simulated.CopyFrom(Money(sum(book.amounts.values(), NOTHING), plan.currency).message())
    reply.current.CopyFrom(sum(earned.values(), nothing).message())
    return reply


async def differing(call: Call, year: int) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Where the ledger of a year is not what a full reckoning of its movements gives: (person, plan) → ledger, reckoned."""
    await call.one_at_a_time(["commissions"])
    rows = select(CommissionMovement).where(
        CommissionMovement.entered, extract("year", CommissionMovement.day) == year
    )
    movements = list(await call.db.scalars(rows.order_by(CommissionMovement.day, CommissionMovement.cause)))
    plans, book = await plans_of(movements, call), _Book()
    for movement in movements:
        for name in {one["plan"] for one in movement.credit if one["plan"]}:
            plan = plans[name]
            rate = next(Decimal(one["rate"]) for one in movement.credit if one["plan"] == name)
            team = present(movement.credit, call)
            book.enter(movement, team, plan, plan.terms(), movement.parts(plan.currency, rate))
    ledger: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    roots = {f"commissionPlans/{row.id}": row.root for row in await call.db.scalars(select(CommissionPlan))}
    kept = select(CommissionEntry).where(
        extract("year", CommissionEntry.date) == year, CommissionEntry.kind != "CORRECTION"
    )
    for entry in await call.db.scalars(kept):
        ledger[entry.beneficiary, roots.get(entry.plan, "")] += (
            entry.amount.amount if entry.amount else NOTHING
        )
    keys = {*ledger, *book.by_plan}
    both = {key: (ledger.get(key, NOTHING), book.by_plan.get(key, NOTHING)) for key in keys}
    return {key: pair for key, pair in both.items() if pair[0] != pair[1]}


class _Book:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.amounts: dict[str, Decimal] = defaultdict(Decimal)
        self.by_plan: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._totals: dict[tuple[str, str, int], Total] = {}

    def enter(
        self, movement: CommissionMovement, team: list[dict[str, Any]], plan: CommissionPlan, terms: Any, items: list[Item]
    ) -> None:  # fmt: skip
        """Adds what a movement is worth to those of a team who earn by a plan."""
        mine = {place: one for place, one in enumerate(team) if one["plan"] == plan.name}
        keys = {
            place: (one["employee"], plan.root, movement.day.year)
            for place, one in mine.items()
            if not one["role"]
        }
        totals = {place: self._totals.get(key, Total()) for place, key in keys.items()}
        shares = [Decimal(one["share"]) for one in team]
        for place, found in worth(
            terms, items, movement.account_type, movement.repeat, shares, totals
        ).items():
            before = totals[place]
            self._totals[keys[place]] = Total(
                before.tier_base + found.tier_base, before.earned + found.before_cap
            )
            self._add(mine[place]["employee"], plan, found.amount + found.true_up)
        for one in mine.values():
            for extra in extras(plan, one, items, movement.day):
                self._add(extra.owner, plan, extra.amount)

    def _add(self, employee: str, plan: CommissionPlan, amount: Decimal) -> None:
        self.amounts[employee] += amount
        self.by_plan[employee, plan.root] += amount


class _OfDeal:
    """A line of a deal, read as one of a document."""

    def __init__(self, line: Any) -> None:
        self.product, self.quantity, self.net = line.product, line.quantity, line.amount


async def _take(
    deal: Opportunity, cause: str, basis: str, day: date, net: Money, lines: Any, quote: str, call: Call,
    invoice: tuple[str, Decimal | None] = ("", None),
) -> None:  # fmt: skip
    await call.one_at_a_time([f"movement:{cause}"])
    if await call.db.get(CommissionMovement, cause) is not None:
        return
    movement = await heard(deal, cause, basis, day, net, lines, quote, call)
    movement.invoice, movement.invoice_net = invoice
    if deal.credit:
        await freeze(movement, deal, call)
        await enter(movement, call)
    await keep(movement, call)


async def _take_back(opportunity: str, cause: str, call: Call) -> None:
    if await _deal(opportunity, call) is None:
        return
    await call.one_at_a_time([f"movement:{cause}"])
    before, undone = await call.db.get(CommissionMovement, cause), f"{cause}#reversed"
    if before is None:
        # What it takes back is told before; where that was not heard yet, this waits.
        raise NotFound()
    if await call.db.get(CommissionMovement, undone) is not None:
        return
    back_already = select(CommissionMovement).where(CommissionMovement.undoes == cause)
    rest = before.amount + sum((one.amount for one in await call.db.scalars(back_already)), NOTHING)
    # Where parts went back before, the rest does, even if it is nothing: the fact was heard.
    await _undo(before, undone, None if rest == before.amount else rest, call)


async def _undo(before: CommissionMovement, cause: str, part: Decimal | None, call: Call) -> None:
    plans = await plans_of([before], call)
    months = {name: plan.clawback_months for name, plan in plans.items()}
    movement = back(before, cause, today(call), months, part)
    if movement.entered:
        await enter(movement, call)
    await keep(movement, call)


async def _earned(first: date, plan: CommissionPlan, call: Call) -> dict[str, Money]:
    """What people earned since a day, in the currency of a plan."""
    kept = select(CommissionEntry).where(
        CommissionEntry.date >= first, CommissionEntry.kind.not_in(("CORRECTION", "OVERRIDE"))
    )
    earned: dict[str, Money] = {}
    for entry in await call.db.scalars(kept):
        if (
            entry.amount is None
            or entry.date is None
            # What a partner earned was earned for a deal that he had registered, or by name.
            or not plan.covers(entry.beneficiary, True)
        ):
            continue
        rate = rate_of(entry.amount.currency, plan.currency, entry.date, call)
        if rate is not None:
            amount = Money(cents(entry.amount.amount * rate.value, places(plan.currency)), plan.currency)
            before = earned.get(entry.beneficiary, Money(NOTHING, plan.currency))
            earned[entry.beneficiary] = before + amount
    return earned


async def _deal(name: str, call: Call) -> Opportunity | None:
    return await call.named(Opportunity, name)
