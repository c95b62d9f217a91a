"""The way of a refund: set aside at the approval, told when it is paid, undone where it fails.

Locks are taken in one order: refund, payment, invoices by name, plans, balance.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, check_reason
from crmkit.mapping import read_date
from crmkit.values import Money, zero
from sqlalchemy import select

from billing.allocating import plan_of
from billing.model.balance import post_each
from billing.model.base import locked
from billing.model.checks import day_of
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment, target
from billing.model.payout import on_its_way
from billing.model.refund import CreditNote, Refund, draft_credit, net_of


async def approve(refund: Refund, call: Call) -> None:
    """Sets the money aside: nobody else spends it, and its invoices are open again or ask for less."""
    refund.check_state("REQUESTED")
    payment = await locked(Payment, refund.payment, call)
    payment.check_state("RECEIVED")
    parts = list[Any]()
    for allocation, amount in await refund.choose(payment, call):
        net = net_of(allocation, amount)
        parts.append(
            pb.Refund.Part(
                allocation=allocation.name,
                amount=amount.message(),
                net=net.message(),
                invoice=allocation.invoice,
            )
        )
    refund.parts = parts
    refund.unapplied = refund.amount - _sum(parts, refund)
    invoices = await _invoices(parts, call)
    for invoice in invoices.values() if refund.adjust else ():
        of_it = _sum([part for part in parts if part.invoice == invoice.name], refund)
        await draft_credit(refund, invoice, of_it, call)
    await call.flush()
    await _move(refund, payment, invoices, 1, call)
    refund.state = "APPROVED"


async def pay(refund: Refund, request: pb.PayRefundRequest, call: Call) -> None:
    """The money was given back by hand; not where a payout does it."""
    refund.check_state("APPROVED")
    await _check_no_payout(refund, call)
    await settle(refund, read_date(request.date), request.reference, call)


async def settle(refund: Refund, day: date | None, reference: str, call: Call) -> None:
    """The money is with the payer: the credit notes are issued, and it is told what went back."""
    refund.check_state("APPROVED")
    refund.date, refund.reference = day_of(day, call), reference
    payment = await locked(Payment, refund.payment, call)
    invoices = await _invoices(refund.parts, call)
    refund.state = "PAID"
    for note in await _notes(refund, call):
        await note.use(invoices[note.invoice], call)
    await call.flush()
    targets = list[Any]()
    for part in refund.parts:
        allocation = await call.named(Allocation, part.allocation)
        assert allocation is not None
        told = target(allocation, invoices[part.invoice], call)
        told.allocation.amount.CopyFrom(part.amount)
        told.allocation.net.CopyFrom(part.net)
        targets.append(told)
    call.emit(
        events.PaymentRefunded, refund=refund, payment=payment, targets=targets, handler=payment.handler
    )


async def fail(refund: Refund, reason: str, call: Call) -> None:
    """Not approved, or the money did not arrive: every balance is what it was."""
    refund.check_state("REQUESTED", "APPROVED")
    refund.failure = check_reason(reason)
    if refund.state == "APPROVED":
        await _check_no_payout(refund, call)
        payment = await locked(Payment, refund.payment, call)
        await _move(refund, payment, await _invoices(refund.parts, call), -1, call)
        for note in await _notes(refund, call):
            note.state = "VOID"
    refund.state = "FAILED"


async def _check_no_payout(refund: Refund, call: Call) -> None:
    if await on_its_way(refund.name, call):
        raise FailedPrecondition("REFUND_BEING_PAID")


async def _move(refund: Refund, payment: Payment, invoices: dict[str, Invoice], way: int, call: Call) -> None:
    """The money leaves payment, allocations, invoices and plans, or with way −1 comes back to them."""
    nothing = zero(refund.amount.currency)
    credited = {note.invoice: note.gross * way for note in await _notes(refund, call)}
    tied = _sum(refund.parts, refund) * way
    entries = list[tuple[str, str, Money]]()
    for part in refund.parts:
        allocation = await locked(Allocation, part.allocation, call)
        allocation.refunded += (Money.parse(part.amount) or nothing) * way
    before = payment.credit
    payment.give_back(tied, refund.unapplied * way)
    if way < 0:
        payment.credit += refund.credit
    refund.credit = before - payment.credit if way > 0 else nothing
    for name, invoice in invoices.items():
        amount = _sum([part for part in refund.parts if part.invoice == name], refund) * way
        less = credited.get(name, nothing)
        invoice.give_back(amount, less)
        entries += [(invoice.account, "issued", -less), (invoice.account, "allocated", -amount)]
        plan = await plan_of(invoice.plan, call)
        if plan is not None:
            plan.give_back(invoice.instalment, amount, less, call)
    entries += [
        (payment.account, "unapplied", -refund.unapplied * way), (payment.account, "credit", payment.credit - before),
    ]  # fmt: skip
    await post_each(call, payment, entries)


async def _invoices(parts: Sequence[Any], call: Call) -> dict[str, Invoice]:
    return {name: await locked(Invoice, name, call) for name in sorted({part.invoice for part in parts})}


async def _notes(refund: Refund, call: Call) -> list[CreditNote]:
    rows = select(CreditNote).where(CreditNote.refund == refund.name).order_by(CreditNote.invoice)
    async with call.everybody():
        return list(await call.db.scalars(rows))


def _sum(parts: Sequence[Any], refund: Refund) -> Money:
    nothing = zero(refund.amount.currency)
    return sum((Money.parse(part.amount) or nothing for part in parts), nothing)
