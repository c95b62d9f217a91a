"""What buyers pay by the payment service comes in by its signed report, and pays what they bought."""

from typing import Any

from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.listing import ZONE
from crmkit.paying import instant, signed
from crmkit.values import Money
from sqlalchemy import select

from billing.allocating import allocate, most_urgent, open_ahead
from billing.model.balance import post
from billing.model.invoice import Invoice
from billing.model.payment import Payment
from billing.model.plan import PaymentPlan


async def take(request: pb.ReportPaymentRequest, call: Call) -> None:
    """Receives the money once, however often it is told, and ties it to the order that the quote became."""
    when = request.time.ToDatetime(ZONE)
    method = pb.Payment.Method.Name(request.method)
    told = (
        request.reference, request.provider_payment, method, request.amount.amount, request.amount.currency_code,
        instant(when),
    )  # fmt: skip
    if not signed(call.running.settings.pay_key, told, request.signature):
        raise PermissionDenied("SIGNATURE_INVALID")
    async with call.everybody():
        if await call.find(Payment, Payment.provider_payment == request.provider_payment) is not None:
            return
        plan = await call.find(PaymentPlan, PaymentPlan.quote == request.reference)
        if plan is None:
            # The order is on its way here; the service tells it again.
            raise FailedPrecondition("REFERENCE_UNKNOWN", reference=request.reference)
        payment = Payment(
            account=plan.account, own_entity=plan.own_entity, method=method, amount=Money.parse(request.amount), date=when.date(),
            reference=request.provider_payment, provider_payment=request.provider_payment, owner=plan.owner,
            department=plan.department,
        )  # fmt: skip
        await call.add(payment)
        payment.confirm(call)
        await post(call, payment, unapplied=payment.amount)
        await call.flush()
        if targets := await _targets(payment, plan, call):
            await allocate(payment, targets, call)


async def _targets(payment: Payment, plan: PaymentPlan, call: Call) -> list[Any]:
    """The invoices of the order, the one that is due first, then what is not invoiced yet."""
    if payment.amount.currency != plan.total.currency or plan.state not in ("DRAFT", "ACTIVE"):
        return []
    issued = select(Invoice.id).where(
        Invoice.plan == plan.name, Invoice.state == "ISSUED", Invoice.__table__.c.balance_amount > 0
    )
    names = [f"invoices/{key}" for key in await call.db.scalars(issued.order_by(Invoice.due, Invoice.number))]
    targets = await most_urgent(payment, names, call)
    left = payment.unapplied
    for one in targets:
        left = left - Money(one.amount.amount, one.amount.currency_code)
    for part in plan.instalments:
        amount = min(left, await open_ahead(plan, part.key, call), key=lambda money: money.amount)
        if amount.amount > 0:
            targets.append(pb.AllocationTarget(plan=plan.name, instalment=part.key, amount=amount.message()))
            left = left - amount
    return targets
