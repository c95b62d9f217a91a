"""Credit notes by hand: what an invoice no longer asks for. Those of refunds go with their refunds.

Locks are taken in one order: credit note, payments by name, invoice, plan, balance.
"""

from crm.billing.v1 import events_pb2 as events
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, check_reason
from crmkit.values import zero
from sqlalchemy import select

from billing.allocating import free, plan_of
from billing.model.balance import post
from billing.model.base import locked
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment
from billing.model.refund import CreditNote
from billing.model.words import shown


async def issue(note: CreditNote, call: Call) -> None:
    """The invoice asks for as much less; what was paid of that already is the customer's credit."""
    _check_by_hand(note)
    note.check_state("DRAFT")
    payments = await _payments(note, call)
    invoice = await locked(Invoice, note.invoice, call)
    if invoice.state != "ISSUED":
        raise FailedPrecondition("INVOICE_NOT_ISSUED")
    open_ = invoice.balance
    if note.gross > open_:
        note.credit = await free(invoice, payments, note.gross - open_, note.reason, call)
    if note.gross > invoice.balance:
        raise FailedPrecondition("CREDIT_OVER_BALANCE", left=shown(invoice.balance))
    await _move(note, invoice, 1, call)
    await note.finish("ISSUED", invoice, call)


async def void(note: CreditNote, reason: str, call: Call) -> None:
    """Takes it back; its number stays. Not once money was taken for what it has left of the invoice."""
    if note.state == "USED":
        raise FailedPrecondition("CREDIT_USED")
    _check_by_hand(note)
    note.check_state("DRAFT", "ISSUED")
    reason = check_reason(reason)
    if note.state == "ISSUED":
        invoice = await locked(Invoice, note.invoice, call)
        if invoice.paid:
            raise FailedPrecondition("CREDIT_USED")
        await _move(note, invoice, -1, call)
        await call.flush()
        call.emit(events.CreditNoteVoided, credit_note=note, invoice=invoice, reason=reason)
    note.state, note.void_reason = "VOID", reason


async def _move(note: CreditNote, invoice: Invoice, way: int, call: Call) -> None:
    nothing, less = zero(invoice.currency), note.gross * way
    invoice.give_back(nothing, less)
    plan = await plan_of(invoice.plan, call)
    if plan is not None:
        plan.give_back(invoice.instalment, note.credit, less, call)
    await post(call, invoice, issued=-less)


async def _payments(note: CreditNote, call: Call) -> dict[str, Payment]:
    """The payments that pay the invoice, locked before it as everywhere."""
    paying = select(Allocation.payment).where(
        Allocation.invoice == note.invoice, Allocation.state == "ACTIVE"
    )
    async with call.everybody():
        names = sorted(set(await call.db.scalars(paying)))
        found = [await call.named(Payment, name, lock=True) for name in names]
    return {payment.name: payment for payment in found if payment is not None}


def _check_by_hand(note: CreditNote) -> None:
    if note.refund:
        raise FailedPrecondition("CREDIT_OF_REFUND")
