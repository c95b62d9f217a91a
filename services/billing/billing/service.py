"""Implements crm.billing.v1.BillingService."""

from typing import Any

from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.standard import Standard
from google.protobuf.empty_pb2 import Empty
from sqlalchemy import select

from billing import crediting, refunding
from billing.allocating import allocate, most_urgent, plan_of, undo
from billing.model.balance import AccountBalance, post
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment
from billing.model.payout import Payout
from billing.model.plan import PaymentPlan
from billing.model.refund import CreditNote, Refund
from billing.online import take
from billing.sources import draft_instalment, issue

MOST_INVOICES = 200


class BillingService:
    """Payment plans, invoices, payments and what pays what."""

    payment_plans = Standard(PaymentPlan)
    invoices = Standard(Invoice)
    payments = Standard(Payment)
    allocations = Standard(Allocation)
    account_balances = Standard(AccountBalance)
    refunds = Standard(Refund, refunding)
    credit_notes = Standard(CreditNote, crediting)
    payouts = Standard(Payout)

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
        plan = await plan_of(invoice.plan, call)
        if plan is not None:
            plan.add_invoiced(invoice.instalment, -invoice.gross)
        await post(call, invoice, issued=-invoice.gross)
        return invoice

    async def ConfirmPayment(self, request: Any, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.confirm(call)
        await post(call, payment, unapplied=payment.amount)
        return payment

    async def ReportPayment(self, request: pb.ReportPaymentRequest, call: Call) -> Empty:
        await take(request, call)
        return Empty()

    async def AllocatePayment(self, request: pb.AllocatePaymentRequest, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.check_state("RECEIVED")
        await allocate(payment, request.targets, call)
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
        targets = await most_urgent(payment, names, call)
        if not targets:
            raise FailedPrecondition("NOTHING_TO_ALLOCATE")
        await allocate(payment, targets, call)
        return payment

    async def ConfirmPayout(self, request: pb.ConfirmPayoutRequest, call: Call) -> Payout:
        """The money has arrived; a refund that it was for is paid by that."""
        payout = await call.load(Payout, request)
        payout.confirm(request, call)
        if payout.kind == "REFUND":
            refund = await call.named(Refund, payout.source, lock=True)
            assert refund is not None
            await refunding.settle(refund, payout.date, payout.reference, call)
        return payout

    async def ReversePayment(self, request: pb.ReasonRequest, call: Call) -> Payment:
        payment = await call.load(Payment, request)
        payment.check_state("RECEIVED")
        active = select(Allocation).where(Allocation.payment == payment.name, Allocation.state == "ACTIVE")
        await undo(payment, list(await call.db.scalars(active)), request.reason, call)
        unapplied, credit = payment.unapplied, payment.credit
        payment.take_back(request.reason, call)
        await post(call, payment, unapplied=-unapplied, credit=-credit)
        return payment

    async def ReverseAllocation(self, request: pb.ReasonRequest, call: Call) -> Allocation:
        allocation = await call.load(Allocation, request, lock=False)
        payment = await call.load(Payment, allocation.payment)
        await undo(payment, [allocation], request.reason, call)
        return allocation
