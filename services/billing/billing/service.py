"""Implements crm.billing.v1.BillingService."""

from collections.abc import Iterable, Sequence
from typing import Any

from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.standard import Standard
from crmkit.values import Money, zero
from sqlalchemy import select

from billing.model.balance import AccountBalance, post
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment, target
from billing.model.plan import PaymentPlan
from billing.model.words import reason_of
from billing.sources import draft_instalment, issue

MOST_INVOICES = 200


class BillingService:
    """Payment plans, invoices, payments and what pays what."""

    payment_plans = Standard(PaymentPlan)
    invoices = Standard(Invoice)
    payments = Standard(Payment)
    allocations = Standard(Allocation)
    account_balances = Standard(AccountBalance)

    async def ActivatePaymentPlan(self, request: Any, call: Call) -> PaymentPlan:
        plan = await call.load(PaymentPlan, request)
        plan.activate(call)
        return plan

    async def InvoicePaymentPlan(self, request: pb.InvoicePaymentPlanRequest, call: Call) -> Invoice:
        plan = await call.load(PaymentPlan, request)
        plan.check_state("ACTIVE")
        plan.part(request.instalment)
        invoice = await draft_instalment(plan, request.instalment, call)
        if invoice is None:
            raise FailedPrecondition("INSTALMENT_INVOICED")
        return invoice

    async def IssueInvoice(self, request: Any, call: Call) -> Invoice:
        invoice = await call.load(Invoice, request)
        await issue(invoice, None, call)
        return invoice

    async def VoidInvoice(self, request: pb.ReasonRequest, call: Call) -> Invoice:
        invoice = await call.load(Invoice, request)
        invoice.void(request.reason, call)
        plan = await _plan(invoice.plan, call)
        if plan is not None:
            plan.add_invoiced(invoice.instalment, -invoice.gross)
        await post(call, invoice, issued=-invoice.gross)
        return invoice

    async def ConfirmPayment(self, request: Any, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.confirm(call)
        await post(call, payment, unapplied=payment.amount)
        return payment

    async def AllocatePayment(self, request: pb.AllocatePaymentRequest, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.check_state("RECEIVED")
        invoices = await _lock({one.invoice for one in request.targets}, call)
        pairs = [(invoices[one.invoice], Money.parse(one.amount)) for one in request.targets]
        await _allocate(payment, pairs, call)
        return payment

    async def AutoAllocatePayment(self, request: Any, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.check_state("RECEIVED")
        statement = (
            select(Invoice.id)
            .where(
                Invoice.account == payment.account, Invoice.own_entity == payment.own_entity, Invoice.state == "ISSUED",
                Invoice.currency == payment.amount.currency, Invoice.__table__.c.balance_amount > 0,
            )
            .order_by(Invoice.due, Invoice.number)
            .limit(MOST_INVOICES)
        )  # fmt: skip
        names = [f"invoices/{key}" for key in await call.db.scalars(statement)]
        invoices = await _lock(names, call)
        left, pairs = payment.unapplied, list[tuple[Invoice, Money | None]]()
        for invoice in (invoices[name] for name in names):
            amount = min(left, invoice.balance, key=lambda money: money.amount)
            if amount and invoice.balance:
                pairs.append((invoice, amount))
                left = left - amount
        if not pairs:
            raise FailedPrecondition("NOTHING_TO_ALLOCATE")
        await _allocate(payment, pairs, call)
        return payment

    async def ReversePayment(self, request: pb.ReasonRequest, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.check_state("RECEIVED")
        active = select(Allocation).where(Allocation.payment == payment.name, Allocation.state == "ACTIVE")
        await _undo(payment, list(await call.db.scalars(active)), request.reason, call)
        unapplied = payment.unapplied
        payment.take_back(request.reason, call)
        await post(call, payment, unapplied=-unapplied)
        return payment

    async def ReverseAllocation(self, request: pb.ReasonRequest, call: Call) -> Allocation:
        allocation = await call.load(Allocation, request, lock=False)
        payment = await call.load(Payment, allocation.payment)
        await _undo(payment, [allocation], request.reason, call)
        return allocation

    async def RecomputeAccountBalance(self, request: Any, call: Call) -> AccountBalance:
        balance = await call.load(AccountBalance, request)
        await balance.recompute(call)
        return balance


async def _allocate(payment: Payment, pairs: Sequence[tuple[Invoice, Money | None]], call: Call) -> None:
    """Ties money to invoices and tells it in one fact. The payment and the invoices are locked."""
    made = list[tuple[Allocation, Invoice]]()
    for invoice, amount in pairs:
        allocation = await call.add(payment.allocate(invoice, amount, call))
        plan = await _plan(invoice.plan, call)
        if plan is not None:
            plan.add_paid(invoice.instalment, allocation.amount, call)
        made.append((allocation, invoice))
    total = sum((allocation.amount for allocation, _ in made), zero(payment.amount.currency))
    await post(call, payment, allocated=total, unapplied=-total)
    await call.flush()
    targets = [target(allocation, invoice, call) for allocation, invoice in made]
    call.emit(events.PaymentAllocated, payment=payment, targets=targets, handler=payment.handler)


async def _undo(payment: Payment, allocations: Sequence[Allocation], reason: str, call: Call) -> None:
    """Undoes allocations of one locked payment; both sides are open again."""
    reason_of(reason)
    invoices = await _lock({allocation.invoice for allocation in allocations}, call)
    for allocation in allocations:
        allocation.undo(reason)
        invoice = invoices[allocation.invoice]
        payment.apply(-allocation.amount)
        invoice.add_paid(-allocation.amount, call)
        plan = await _plan(invoice.plan, call)
        if plan is not None:
            plan.add_paid(invoice.instalment, -allocation.amount, call)
    if not allocations:
        return
    total = sum((allocation.amount for allocation in allocations), zero(payment.amount.currency))
    await post(call, payment, allocated=-total, unapplied=total)
    await call.flush()
    targets = [target(allocation, invoices[allocation.invoice], call) for allocation in allocations]
    call.emit(
        events.AllocationReversed, payment=payment, targets=targets, handler=payment.handler, reason=reason
    )


async def _lock(names: Iterable[str], call: Call) -> dict[str, Invoice]:
    """The invoices, locked in one order so that two calls cannot wait for each other."""
    return {name: await call.load(Invoice, name) for name in sorted(names)}


async def _plan(name: str, call: Call) -> PaymentPlan | None:
    if not name:
        return None
    return await call.find(PaymentPlan, PaymentPlan.id == name.rpartition("/")[2], lock=True)
