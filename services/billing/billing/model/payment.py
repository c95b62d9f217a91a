"""The payment, and what it pays."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from billing.model.base import Base
from billing.model.checks import above_zero, check, has_come
from billing.model.invoice import Invoice
from billing.model.payer import pays_for
from billing.model.plan import PaymentPlan
from billing.model.words import shown
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.company import legal_entity
from crmkit.errors import (
    FailedPrecondition,
    InvalidArgument,
    check_frozen,
    check_reason,
)
from crmkit.resource import Resource
from crmkit.values import Money, zero
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

RECEIVED_CONTENT = frozenset(
    ["account", "own_entity", "method", "amount", "date", "handler", "bank_account", "reference"]
)


class Payment(Resource, Base):
    """Money that came in. Allocated, unapplied and refunded are always its amount together, once it is received."""

    __message__ = pb.Payment

    account: Mapped[str]
    own_entity: Mapped[str]
    method: Mapped[str]
    amount: Mapped[Money]
    date: Mapped[date]
    handler: Mapped[str]
    state: Mapped[str]
    allocated: Mapped[Money]
    unapplied: Mapped[Money]
    refunded: Mapped[Money]
    credit: Mapped[Money]
    confirm_time: Mapped[datetime | None]
    reason: Mapped[str]
    provider_payment: Mapped[str]

    __table_args__ = (
        Index(
            "payments_provider_key", "provider_payment", unique=True,
            postgresql_where=text("provider_payment <> ''"),
        ),
        Index("payments_credit_index", "account", postgresql_where=text("credit_amount > 0")),
    )  # fmt: skip

    async def creating(self, call: Call) -> None:
        """A new payment is pending."""
        self.check(call)
        self.handler = self.handler or call.caller.employee
        self.own_entity = self.own_entity or legal_entity(self.department, call)
        self.state = "PENDING"

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What was confirmed does not change."""
        if self.state != "PENDING":
            check_frozen("PAYMENT_FINAL", changed & RECEIVED_CONTENT)
        elif changed & RECEIVED_CONTENT:
            self.check(call)

    async def deleting(self, call: Call) -> None:
        """What has a number stays."""
        raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    def check(self, call: Call) -> None:
        """An amount above zero, a day that has come."""
        check(above_zero("payment.amount", self.amount), has_come("payment.date", self.date, call))
        self.allocated = self.unapplied = self.refunded = self.credit = zero(self.amount.currency)

    def confirm(self, call: Call) -> None:
        """The money is here."""
        self.check_state("PENDING")
        self.state, self.confirm_time, self.unapplied = "RECEIVED", call.now, self.amount
        call.emit(events.PaymentReceived, payment=self, handler=self.handler)

    async def allocate(self, invoice: Invoice, wanted: Money | None, call: Call) -> "Allocation":
        """Ties money to an invoice, never more than is open on either side. Both rows are locked."""
        if invoice.state != "ISSUED":
            raise FailedPrecondition("INVOICE_NOT_ISSUED")
        amount = await self._tie(invoice, invoice.currency, invoice.balance, wanted, call)
        return pays(self, invoice, amount, call)

    async def advance(
        self, plan: PaymentPlan, key: str, open_: Money, wanted: Money | None, call: Call
    ) -> "Allocation":
        """Ties money to an instalment before it is invoiced. Both rows are locked."""
        plan.check_state("DRAFT", "ACTIVE")
        amount = await self._tie(plan, plan.total.currency, open_, wanted, call)
        plan.add_advance(key, amount)
        plan.add_paid(key, amount, call)
        return in_advance(self.name, self.date, plan, key, amount)

    async def _tie(
        self, to: Invoice | PaymentPlan, currency: str, open_: Money, wanted: Money | None, call: Call
    ) -> Money:
        """How much is tied: what is wanted, or what both sides have; refused where they do not fit."""
        if not await pays_for(self.account, to.account, call):
            raise FailedPrecondition("PAYER_MISMATCH")
        for found in (currency, wanted.currency if wanted is not None else currency):
            if found != self.amount.currency:
                raise InvalidArgument("CURRENCY_MISMATCH", expected=self.amount.currency, found=found)
        if to.own_entity != self.own_entity:
            raise FailedPrecondition("ENTITY_MISMATCH")
        left = self.unapplied
        amount = wanted if wanted is not None else min(left, open_, key=lambda money: money.amount)
        check(above_zero("targets.amount", amount) if wanted is not None else None)
        if amount > left or not left:
            raise FailedPrecondition("ALLOCATION_OVER_PAYMENT", left=shown(left))
        if amount > open_ or not open_:
            raise FailedPrecondition("ALLOCATION_OVER_BALANCE", left=shown(open_))
        self.apply(amount)
        return amount

    def apply(self, amount: Money) -> None:
        """Money is tied, or with a negative amount free again. What is no credit is used up first."""
        self.allocated += amount
        self.unapplied -= amount
        self._keep_credit()

    def free(self, amount: Money) -> None:
        """Money that had paid what is no longer asked for is the customer's credit."""
        self.apply(-amount)
        self.credit += amount

    def use_credit(self, amount: Money) -> None:
        """Credit is money like any other, just before it is tied to an invoice."""
        self.credit -= amount

    def _keep_credit(self) -> None:
        self.credit = min(self.credit, self.unapplied, key=lambda money: money.amount)

    def give_back(self, tied: Money, free: Money) -> None:
        """Money goes back to the payer, some that was tied and some that was free; with negative amounts it is here again."""
        self.allocated -= tied
        self.unapplied -= free
        self.refunded += tied + free
        self._keep_credit()

    def take_back(self, reason: str, call: Call) -> None:
        """A chargeback or a bounced cheque; its allocations are undone already."""
        self.check_state("RECEIVED")
        if self.refunded:
            raise FailedPrecondition("MONEY_REFUNDED")
        self.reason = check_reason(reason)
        self.state, self.unapplied = "REVERSED", zero(self.amount.currency)
        self.credit = self.unapplied
        call.emit(events.PaymentReversed, payment=self, handler=self.handler, reason=self.reason)


class Allocation(Resource, Base):
    """Money of one payment that pays one invoice."""

    __message__ = pb.Allocation
    __table_args__ = (
        Index("allocations_active_index", "payment", postgresql_where=text("state = 'ACTIVE'")),
    )

    payment: Mapped[str]
    invoice: Mapped[str]
    account: Mapped[str]
    plan: Mapped[str]
    instalment: Mapped[str]
    amount: Mapped[Money]
    net: Mapped[Money]
    date: Mapped[date | None]
    state: Mapped[str]
    reason: Mapped[str]
    contract: Mapped[str]
    order: Mapped[str]
    refunded: Mapped[Money]

    async def creating(self, call: Call) -> None:
        """A new allocation counts."""
        self.state, self.refunded = "ACTIVE", zero(self.amount.currency)

    def undo(self, reason: str) -> None:
        """Counts no more. What went back to the payer of it counts against it, so that it stays."""
        self.check_state("ACTIVE")
        if self.refunded:
            raise FailedPrecondition("MONEY_REFUNDED")
        self.state, self.reason = "REVERSED", check_reason(reason)


def pays(payment: Payment, invoice: Invoice, amount: Money, call: Call) -> Allocation:
    """The allocation of money that pays an invoice; the invoice is paid by it."""
    before = invoice.paid
    invoice.add_paid(amount, call)
    net = _net(invoice, before + amount) - _net(invoice, before)
    return Allocation(
        payment=payment.name, invoice=invoice.name, account=invoice.account, plan=invoice.plan,
        instalment=invoice.instalment, amount=amount, net=net, date=payment.date, contract=invoice.contract,
        order=invoice.order, owner=invoice.owner, department=invoice.department,
    )  # fmt: skip


def in_advance(payment: str, day: date | None, plan: PaymentPlan, key: str, amount: Money) -> Allocation:
    """The allocation of money paid on an instalment that is not invoiced yet."""
    return Allocation(
        payment=payment, account=plan.account, plan=plan.name, instalment=key, amount=amount, net=plan.net_of(amount),
        date=day, contract=plan.contract, order=plan.order, owner=plan.owner, department=plan.department,
    )  # fmt: skip


def target(allocation: Allocation, origin: Invoice | PaymentPlan, call: Call) -> Any:
    """What one allocation pays, with its origin, for facts."""
    fact = events.AllocatedTarget(allocation=call.message_of(allocation), opportunity=origin.opportunity)
    if isinstance(origin, Invoice):
        fact.invoice.CopyFrom(call.message_of(origin))
        fact.quote = origin.quote
    else:
        fact.quote = origin.basis.get("quote", "")
    return fact


def _net(invoice: Invoice, paid: Money) -> Money:
    """The part without tax of what is paid so far: rounded on the sum, so that all parts give exactly the net."""
    share = paid.amount / invoice.gross.amount if invoice.gross else Decimal(0)
    return (invoice.net * share).rounded()
