"""Money tied to invoices and instalments, and untied.

Locks are taken in one order: payment, invoices by name, plans, balance.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.errors import Validation, Violation, check_reason
from crmkit.values import Money, zero
from sqlalchemy import func, select

from billing.model.balance import post, post_each
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment, in_advance, pays, target
from billing.model.plan import PaymentPlan

# Payments of one customer with credit at a time; what more there are wait for the invoice after.
MOST_CREDITS = 50

Tied = tuple[Allocation, Invoice | PaymentPlan]


async def allocate(payment: Payment, targets: Sequence[Any], call: Call) -> None:
    """Ties money of a locked payment to each target, and tells it in one fact."""
    wrong = [i for i, one in enumerate(targets) if bool(one.invoice) == bool(one.plan and one.instalment)]
    if wrong:
        text = ("账单与分期填一项", "Give an invoice or an instalment.")
        raise Validation(*(Violation(f"targets[{i}].invoice", "ONE_OF", *text) for i in wrong))
    invoices = await lock_invoices({one.invoice for one in targets if one.invoice}, call)
    made, credit = list[Tied](), payment.credit
    for one in targets:
        wanted = Money.parse(one.amount)
        made.append(
            await _pay(payment, invoices[one.invoice], wanted, call)
            if one.invoice
            else await _pay_ahead(payment, one.plan, one.instalment, wanted, call)
        )
    entries = [entry for one, _ in made for entry in _entries(payment, one, one.amount)]
    await post_each(call, payment, [*entries, (payment.account, "credit", payment.credit - credit)])
    await _tell(events.PaymentAllocated, payment, made, call)


async def undo(payment: Payment, allocations: Sequence[Allocation], reason: str, call: Call) -> None:
    """Undoes allocations of a locked payment; both sides are open again."""
    check_reason(reason)
    invoices = await lock_invoices({one.invoice for one in allocations if one.invoice}, call)
    undone = list[Tied]()
    for one in allocations:
        one.undo(reason)
        payment.apply(-one.amount)
        invoice, plan = invoices.get(one.invoice), await plan_of(one.plan, call)
        if invoice is not None:
            invoice.add_paid(-one.amount, call)
        if plan is not None:
            plan.add_paid(one.instalment, -one.amount, call)
            if invoice is None:
                plan.add_advance(one.instalment, -one.amount)
        undone.extend((one, origin) for origin in (invoice or plan,) if origin is not None)
    if not allocations:
        return
    await post_each(
        call, payment, [entry for one in allocations for entry in _entries(payment, one, -one.amount)]
    )
    await _tell(events.AllocationReversed, payment, undone, call, reason=reason)


async def take_advances(invoice: Invoice, plan: PaymentPlan, call: Call) -> Money:
    """What was paid ahead on the instalment pays its invoice, as far as it goes; returns how much that is.

    The old allocation is undone and new ones stand for it, so that whoever keeps count by allocation stays right.
    """
    ahead = select(Allocation).where(
        Allocation.plan == plan.name,
        Allocation.instalment == invoice.instalment,
        Allocation.invoice == "",
        Allocation.state == "ACTIVE",
    )
    taken = zero(invoice.currency)
    for old in list(await call.db.scalars(ahead.order_by(Allocation.create_time, Allocation.id))):
        amount = min(old.amount, invoice.balance, key=lambda money: money.amount)
        if not amount:
            break
        payment = await call.load(Payment, old.payment, lock=False)
        old.undo(f"转入账单 {invoice.number}")
        new: list[Tied] = [(await call.add(pays(payment, invoice, amount, call)), invoice)]
        if rest := old.amount - amount:
            new.append((await call.add(in_advance(old.payment, old.date, plan, old.instalment, rest)), plan))
        plan.add_advance(old.instalment, -amount)
        taken = taken + amount
        await _tell(events.AllocationReversed, payment, [(old, plan)], call, reason=old.reason)
        await _tell(events.PaymentAllocated, payment, new, call)
    return taken


async def use_credit(invoice: Invoice, call: Call) -> None:
    """What credit notes have freed pays an invoice that was just issued, the oldest money first.

    The invoice is locked before the money here, so whoever has a payment is not waited for: what that leaves stays
    credit for the next invoice.
    """
    there = (
        select(Payment)
        .where(
            Payment.account == invoice.account, Payment.own_entity == invoice.own_entity, Payment.state == "RECEIVED",
            Payment.__table__.c.credit_amount > 0, Payment.__table__.c.credit_currency == invoice.currency,
        )
        .order_by(Payment.date, Payment.id)
        .limit(MOST_CREDITS)
        .with_for_update(skip_locked=True, of=Payment)
    )  # fmt: skip
    async with call.everybody():
        payments = list(await call.db.scalars(there))
        for payment in payments:
            amount = min(payment.credit, invoice.balance, key=lambda money: money.amount)
            if not amount:
                return
            payment.use_credit(amount)
            made = await _pay(payment, invoice, amount, call)
            await post(call, payment, allocated=amount, unapplied=-amount, credit=-amount)
            await _tell(events.PaymentAllocated, payment, [made], call)


async def free(
    invoice: Invoice, payments: Mapping[str, Payment], wanted: Money, reason: str, call: Call
) -> Money:
    """Unties so much of what paid a locked invoice, the newest first; it is the customer's credit from now on.

    Returns how much that is: money of which some went back already stays tied, as do payments that are not locked.
    """
    freed = zero(invoice.currency)
    for old in await paying(invoice, call):
        amount = min(old.amount, wanted - freed, key=lambda money: money.amount)
        payment = payments.get(old.payment)
        if not amount or payment is None or old.refunded:
            continue
        old.undo(reason)
        invoice.add_paid(-old.amount, call)
        new: list[Tied] = []
        if rest := old.amount - amount:
            new.append((await call.add(pays(payment, invoice, rest, call)), invoice))
        payment.free(amount)
        freed = freed + amount
        freed_credit = (payment.account, "credit", amount)
        await post_each(call, payment, [*_entries(payment, old, -amount), freed_credit])
        await _tell(events.AllocationReversed, payment, [(old, invoice)], call, reason=old.reason)
        if new:
            await _tell(events.PaymentAllocated, payment, new, call)
    return freed


async def paying(invoice: Invoice, call: Call) -> list[Allocation]:
    """What pays an invoice, the newest first."""
    active = select(Allocation).where(Allocation.invoice == invoice.name, Allocation.state == "ACTIVE")
    async with call.everybody():
        return list(
            await call.db.scalars(active.order_by(Allocation.create_time.desc(), Allocation.id.desc()))
        )


async def most_urgent(payment: Payment, names: Sequence[str], call: Call) -> list[Any]:
    """What is left of a locked payment, over the invoices in the order given."""
    invoices = await lock_invoices(names, call)
    left, targets = payment.unapplied, list[Any]()
    for invoice in (invoices[name] for name in names):
        amount = min(left, invoice.balance, key=lambda money: money.amount)
        if amount:
            targets.append(pb.AllocationTarget(invoice=invoice.name, amount=amount.message()))
            left = left - amount
    return targets


async def lock_invoices(names: Iterable[str], call: Call) -> dict[str, Invoice]:
    """The invoices, locked in one order so that two calls cannot wait for each other."""
    return {name: await call.load(Invoice, name) for name in sorted(names)}


async def plan_of(name: str, call: Call) -> PaymentPlan | None:
    """The plan, locked; None where there is none."""
    if not name:
        return None
    return await call.named(PaymentPlan, name, lock=True)


def _entries(payment: Payment, allocation: Allocation, amount: Money) -> list[tuple[str, str, Money]]:
    """What is tied counts where it is owed, and is no longer free at its payer."""
    figure = "allocated" if allocation.invoice else "advances"
    return [(allocation.account, figure, amount), (payment.account, "unapplied", -amount)]


async def _pay(payment: Payment, invoice: Invoice, wanted: Money | None, call: Call) -> Tied:
    allocation = await call.add(await payment.allocate(invoice, wanted, call))
    plan = await plan_of(invoice.plan, call)
    if plan is not None:
        plan.add_paid(invoice.instalment, allocation.amount, call)
    return allocation, invoice


async def _pay_ahead(payment: Payment, name: str, key: str, wanted: Money | None, call: Call) -> Tied:
    plan = await call.load(PaymentPlan, name)
    open_ = await open_ahead(plan, key, call)
    return await call.add(await payment.advance(plan, key, open_, wanted, call)), plan


async def open_ahead(plan: PaymentPlan, key: str, call: Call) -> Money:
    """What of an instalment is neither invoiced nor paid ahead."""
    part, currency = plan.part(key), plan.total.currency
    issued = await call.db.scalar(
        select(func.sum(Invoice.__table__.c.gross_amount)).where(
            Invoice.plan == plan.name, Invoice.instalment == key, Invoice.state == "ISSUED"
        )
    )
    amount, advance = Money.parse(part.amount) or zero(currency), Money.parse(part.advance) or zero(currency)
    return amount - advance - (Money(issued, currency) if issued else zero(currency))


async def _tell(event: Any, payment: Payment, tied: Sequence[Tied], call: Call, **more: Any) -> None:
    """Facts carry the rows as they are written."""
    await call.flush()
    targets = [target(allocation, origin, call) for allocation, origin in tied]
    call.emit(event, payment=payment, targets=targets, handler=payment.handler, **more)
