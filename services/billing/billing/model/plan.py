"""The payment plan: in which parts the money of a contract or an order is due."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from billing.model.base import Base
from billing.model.words import shown
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.amounts import HUNDRED, number, same_currency
from crmkit.call import Call
from crmkit.company import legal_entity, today
from crmkit.errors import FailedPrecondition, Validation, Violation, check_frozen
from crmkit.mapping import read_date, to_date
from crmkit.resource import Resource
from crmkit.values import Money, zero
from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

PLANNED_CONTENT = frozenset(["account", "own_entity", "total", "instalments"])
Trigger, Part = pb.PaymentPlan.Trigger, pb.PaymentPlan.InstalmentState


class PaymentPlan(Resource, Base):
    """The instalments of one contract or one order. Counts once it is active."""

    __message__ = pb.PaymentPlan
    __table_args__ = (
        # One contract, one plan; one order, one plan; however often their facts arrive.
        Index(
            "payment_plans_contract_key", "contract", unique=True,
            postgresql_where=text("contract <> '' AND state <> 'CANCELLED'"),
        ),
        Index(
            "payment_plans_order_key", "order", unique=True,
            postgresql_where=text("\"order\" <> '' AND state <> 'CANCELLED'"),
        ),
    )  # fmt: skip

    display_name: Mapped[str]
    direction: Mapped[str]
    contract: Mapped[str]
    order: Mapped[str]
    account: Mapped[str]
    own_entity: Mapped[str]
    total: Mapped[Money]
    instalments: Mapped[Any]
    state: Mapped[str]
    invoiced: Mapped[Money]
    paid: Mapped[Money]
    next_due: Mapped[date | None]
    opportunity: Mapped[str]
    # The quote that the order was made of; by it the payment service names what is paid.
    quote: Mapped[str] = mapped_column(Text, server_default=text("''"), index=True)
    # What is charged: the lines of the contract, and its net and tax, for the invoices of the instalments.
    basis: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))

    async def creating(self, call: Call) -> None:
        """A new plan is a draft."""
        self.state, self.direction = "DRAFT", self.direction or "RECEIVABLE"
        self.basis = getattr(self, "basis", None) or {}
        self.quote = self.basis.get("quote", "")
        self.own_entity = self.own_entity or legal_entity(self.department, call)
        self.complete()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Parts change in the draft alone."""
        if self.state != "DRAFT":
            check_frozen("PLAN_FROZEN", changed & PLANNED_CONTENT)
        elif changed & PLANNED_CONTENT:
            self.complete()

    async def deleting(self, call: Call) -> None:
        """What has a number stays."""
        raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    def complete(self) -> None:
        """Computes the amounts of the parts; the last percent takes what rounding leaves."""
        currency = self.total.currency
        violations: list[Violation] = []
        parts = list[Any]()
        for index, given in enumerate(self.instalments, start=1):
            amount = Money.parse(given.amount)
            same_currency(currency, (amount,))
            path = f"payment_plan.instalments[{index - 1}]"
            if amount is None and not given.percent:
                violations.append(
                    Violation(f"{path}.percent", "ONE_OF", "比例与金额填一项", "Give a percent or an amount.")
                )
            if given.trigger == Trigger.DATE and not given.date.year:
                violations.append(Violation(f"{path}.date", "REQUIRED", "必填", "This field is required."))
            part = pb.PaymentPlan.Instalment()
            part.CopyFrom(given)
            part.key = str(index)
            part.state = Part.PLANNED
            part.ClearField("due")
            part.invoiced.CopyFrom(zero(currency).message())
            part.paid.CopyFrom(zero(currency).message())
            part.advance.CopyFrom(zero(currency).message())
            part.credited.CopyFrom(zero(currency).message())
            if part.percent:
                part.amount.CopyFrom((self.total * (number(part.percent) / HUNDRED)).rounded().message())
            parts.append(part)
        if violations:
            raise Validation(*violations)
        if parts and all(p.percent for p in parts) and sum(number(p.percent) for p in parts) == HUNDRED:
            others = sum((number(p.amount.amount) for p in parts[:-1]), Decimal(0))
            parts[-1].amount.CopyFrom(Money(self.total.amount - others, currency).message())
        self.instalments = parts
        self.invoiced = self.paid = zero(currency)

    def activate(self, call: Call, day: date | None = None) -> None:
        """The plan counts from the day on. PLAN_TOTAL_MISMATCH with the difference where the parts are not the total."""
        self.check_state("DRAFT")
        parts = sum((number(part.amount.amount) for part in self.instalments), Decimal(0))
        if parts != self.total.amount:
            difference = shown(Money(self.total.amount - parts, self.total.currency))
            raise FailedPrecondition("PLAN_TOTAL_MISMATCH", difference=difference)
        self.state = "ACTIVE"
        for part in self.instalments:
            if part.trigger == Trigger.ACTIVATION:
                self.trigger(part.key, day or today(call), call)
            elif part.trigger == Trigger.DATE:
                self.trigger(part.key, read_date(part.date) or today(call), call)
        self.follow(call)

    def part(self, key: str) -> Any:
        """The instalment with the key. INSTALMENT_UNKNOWN."""
        found = next((part for part in self.instalments if part.key == key), None)
        if found is None:
            raise FailedPrecondition("INSTALMENT_UNKNOWN", instalment=key)
        return found

    def trigger(self, key: str, day: date, call: Call) -> None:
        """What makes the instalment due has happened; the first time counts."""
        if self.part(key).due.year:
            return
        self._change(key, due=day + timedelta(days=self.part(key).terms_days))
        self.follow(call)

    def to_invoice(self, key: str) -> Money:
        """What of the instalment is not invoiced."""
        return Money(
            number(self.part(key).amount.amount) - number(self.part(key).invoiced.amount), self.total.currency
        )

    def add_invoiced(self, key: str, amount: Money) -> None:
        """Invoiced, or with a negative amount taken back."""
        self._change(key, invoiced=Money(number(self.part(key).invoiced.amount), amount.currency) + amount)
        self.invoiced += amount

    def add_paid(self, key: str, amount: Money, call: Call) -> None:
        """Paid, or with a negative amount undone."""
        self._change(key, paid=Money(number(self.part(key).paid.amount), amount.currency) + amount)
        self.paid += amount
        self.follow(call)

    def give_back(self, key: str, refunded: Money, credited: Money, call: Call) -> None:
        """What was paid goes back, and so much of what was invoiced is no longer asked for; or both come back."""
        part, currency = self.part(key), refunded.currency
        self._change(
            key,
            paid=Money(number(part.paid.amount), currency) - refunded,
            credited=Money(number(part.credited.amount), currency) + credited,
        )
        self.paid -= refunded
        self.follow(call)

    def add_advance(self, key: str, amount: Money) -> None:
        """Paid before there is an invoice, or with a negative amount gone to one."""
        self._change(key, advance=Money(number(self.part(key).advance.amount), amount.currency) + amount)

    def net_of(self, amount: Money) -> Money:
        """The part of an amount that is no tax, by the contract's or order's own net."""
        net = Decimal(self.basis.get("net") or self.total.amount)
        return (amount * (net / self.total.amount)).rounded() if self.total else amount

    def follow(self, call: Call, day: date | None = None) -> None:
        """States of the parts by what is paid and by the day; tells what has become due, overdue or paid."""
        if self.state not in ("ACTIVE", "DONE"):
            return
        day, parts, open_dues = day or today(call), list[Any](), list[date]()
        for given in self.instalments:
            part, before = _copy(given), given.state
            due, paid = read_date(part.due), number(part.paid.amount)
            amount = number(part.amount.amount) - number(part.credited.amount)
            part.state = _state(due, amount, paid, day)
            if due is not None and part.state != Part.PAID:
                open_dues.append(due)
            parts.append(part)
            fact = {
                Part.DUE: events.InstalmentDue,
                Part.OVERDUE: events.InstalmentOverdue,
                Part.PAID: events.InstalmentPaid,
            }
            if part.state != before and part.state in fact:
                call.emit(fact[part.state], plan=self, instalment=part)
        self.instalments = parts
        self.next_due = min(open_dues, default=None)
        self.state = "DONE" if parts and all(part.state == Part.PAID for part in parts) else "ACTIVE"

    def shrink(self, total: Money, call: Call) -> None:
        """Nothing more than this is due: the one instalment of a cancelled order."""
        self._change("1", amount=total)
        self.total = total
        self.follow(call)

    def end(self, how: str) -> None:
        """The contract or order is over: done where it was closed, else dropped."""
        if self.state in ("DRAFT", "ACTIVE"):
            self.state = "DONE" if how == "CLOSED" else "CANCELLED"
            self.next_due = None

    def _change(self, key: str, **values: Any) -> None:
        parts = [_copy(part) for part in self.instalments]
        part = next(part for part in parts if part.key == key)
        for name, value in values.items():
            getattr(part, name).CopyFrom(value.message() if isinstance(value, Money) else to_date(value))
        self.instalments = parts


def delivery_parts(instalments: Sequence[Any]) -> list[str]:
    """Keys of the instalments that a delivery makes due."""
    return [part.key for part in instalments if part.trigger == Trigger.DELIVERY]


def _state(due: date | None, amount: Decimal, paid: Decimal, day: date) -> Any:
    if paid >= amount:
        return Part.PAID
    if due is not None and due < day:
        return Part.OVERDUE
    if paid:
        return Part.PARTLY
    return Part.DUE if due is not None and due <= day else Part.PLANNED


def _copy(part: Any) -> Any:
    copy = pb.PaymentPlan.Instalment()
    copy.CopyFrom(part)
    return copy
