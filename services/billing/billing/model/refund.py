"""Money that goes back to who paid, and what an invoice no longer asks for because of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from billing.model.base import Base, locked
from billing.model.checks import above_zero, check
from billing.model.invoice import Invoice
from billing.model.payment import Allocation, Payment
from billing.model.words import shown
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.amounts import same_currency, split
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason
from crmkit.resource import Resource
from crmkit.values import Money, zero
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped


class Refund(Resource, Base):
    """What goes back of one payment: asked for, set aside, paid; or failed, and then nothing has happened."""

    __message__ = pb.Refund

    payment: Mapped[str]
    amount: Mapped[Money]
    reason: Mapped[str]
    adjust: Mapped[bool]
    parts: Mapped[Any]
    lines: Mapped[Any]
    state: Mapped[str]
    account: Mapped[str]
    own_entity: Mapped[str]
    date: Mapped[date | None]
    reference: Mapped[str]
    unapplied: Mapped[Money]
    credit: Mapped[Money]
    failure: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Asked for; refused at once where the payment has not that much left."""
        check_reason(self.reason)
        payment = await call.named(Payment, self.payment)
        assert payment is not None
        payment.check_state("RECEIVED")
        self._check(payment)
        self.account, self.own_entity, self.state = payment.account, payment.own_entity, "REQUESTED"
        self.owner, self.department = self.owner or payment.owner, self.department or payment.department
        # What is not named is worked out when the money is set aside.
        await self.choose(payment, call)
        self.unapplied = self.credit = zero(payment.amount.currency)

    def _check(self, payment: Payment) -> None:
        amounts = (Money.parse(one.amount) for one in [*self.parts, *self.lines])
        same_currency(payment.amount.currency, [self.amount, *amounts])
        told = ("只有冲减账单时才填写明细", "Lines are for refunds that adjust.")
        astray = bool(self.lines) and not self.adjust
        check(
            above_zero("refund.amount", self.amount),
            Violation("refund.lines", "NOT_ADJUSTED", *told) if astray else None,
        )

    async def choose(self, payment: Payment, call: Call) -> list[tuple[Allocation, Money]]:
        """Which allocations it is taken from, and how much of each. REFUND_OVER_PAID with what is left.

        Those that are named; else, where invoices are adjusted, the newest of these, and where not, the newest behind
        what is tied to nothing. Money paid ahead is undone first by who wants it back.
        """
        tied = select(Allocation).where(
            Allocation.payment == payment.name, Allocation.state == "ACTIVE", Allocation.invoice != ""
        )
        newest = tied.order_by(Allocation.create_time.desc(), Allocation.id.desc())
        async with call.everybody():
            found = list(await call.db.scalars(newest.execution_options(populate_existing=True)))
        nothing = zero(payment.amount.currency)
        if self.parts:
            chosen = [_named(part, found, payment) for part in self.parts]
            if len({one.name for one, _ in chosen}) < len(chosen):
                raise Validation(Violation("refund.parts", "DUPLICATE", "重复", "Named twice."))
            _enough(self.amount, sum((amount for _, amount in chosen), nothing) + payment.unapplied)
        elif self.lines:
            chosen = list[tuple[Allocation, Money]]()
            for invoice, wanted in _by_invoice(self.lines, nothing).items():
                chosen += _newest([one for one in found if one.invoice == invoice], wanted, nothing)
        else:
            free = (
                nothing
                if self.adjust
                else min(payment.unapplied, self.amount, key=lambda money: money.amount)
            )
            chosen = _newest(found, self.amount - free, nothing, free)
        tied_up = sum((amount for _, amount in chosen), nothing)
        if tied_up > self.amount or (self.lines and tied_up != self.amount):
            told = ("与退款金额不一致", "Does not add up to the amount of the refund.")
            raise Validation(
                Violation("refund.lines" if self.lines else "refund.parts", "SUM_MISMATCH", *told)
            )
        return chosen


class CreditNote(Resource, Base):
    """What lines of an issued invoice no longer ask for. All notes on a line together never exceed it."""

    __message__ = pb.CreditNote
    __table_args__ = (
        Index(
            "credit_notes_refund_key", "refund", "invoice", unique=True, postgresql_where=text("refund <> ''")
        ),
    )

    invoice: Mapped[str]
    refund: Mapped[str]
    account: Mapped[str]
    own_entity: Mapped[str]
    lines: Mapped[Any]
    net: Mapped[Money]
    tax: Mapped[Money]
    gross: Mapped[Money]
    credit: Mapped[Money]
    reason: Mapped[str]
    void_reason: Mapped[str]
    issue_date: Mapped[date | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """By hand: so much of each line, or all that it has left. A refund brings its own along."""
        self.state = "DRAFT"
        self.refund = getattr(self, "refund", None) or ""
        if self.refund:
            return
        self.reason = check_reason(self.reason)
        # Two who credit one line at once: the second one sees what the first has set aside.
        invoice = await locked(Invoice, self.invoice, call)
        if invoice.state != "ISSUED":
            raise FailedPrecondition("INVOICE_NOT_ISSUED")
        before = await _credited(invoice, call)
        self._take(invoice, _by_hand(self.lines, before), before)

    def _take(self, invoice: Invoice, shares: dict[str, Money], before: "_Credited") -> None:
        """Its lines and sums, of so much of each line of the invoice."""
        nothing = zero(invoice.currency)
        lines, sums = list[Any](), [nothing, nothing]
        for line in invoice.lines:
            part = shares.get(line.key, nothing)
            if not part:
                continue
            # Rounded on the sum, so that all credits of a line give exactly its net and its tax.
            so_far = (before.gross.get(line.key, nothing) + part).amount / before.whole[line.key].amount
            whole_net = Money.parse(line.net) or nothing
            part_net = (whole_net * so_far).rounded() - before.net.get(line.key, nothing)
            lines.append(
                pb.CreditNote.Line(
                    line=line.key, description=line.description, net=part_net.message(),
                    tax=(part - part_net).message(), gross=part.message(),
                )
            )  # fmt: skip
            sums = [sums[0] + part_net, sums[1] + part]
        self.lines, self.net, self.tax, self.gross = lines, sums[0], sums[1] - sums[0], sums[1]
        self.credit = nothing
        self.account, self.own_entity = invoice.account, invoice.own_entity
        self.owner, self.department = self.owner or invoice.owner, self.department or invoice.department

    async def use(self, invoice: Invoice, call: Call) -> None:
        """Numbered and told, with the money of its refund."""
        self.check_state("DRAFT")
        await self.finish("USED", invoice, call)

    async def finish(self, state: str, invoice: Invoice, call: Call) -> None:
        """It counts from today on, and is told."""
        self.state, self.issue_date = state, today(call)
        await call.number(self)
        await call.flush()
        call.emit(events.CreditNoteIssued, credit_note=self, invoice=invoice)


@dataclass(frozen=True)
class _Credited:
    """What notes that count have taken of the lines of an invoice, and what the lines have left."""

    gross: dict[str, Money]
    net: dict[str, Money]
    whole: dict[str, Money]

    @property
    def left(self) -> dict[str, Money]:
        return {key: value - self.gross.get(key, zero(value.currency)) for key, value in self.whole.items()}


async def _credited(invoice: Invoice, call: Call) -> _Credited:
    nothing = zero(invoice.currency)
    gross, net = dict[str, Money](), dict[str, Money]()
    before = select(CreditNote).where(CreditNote.invoice == invoice.name, CreditNote.state != "VOID")
    async with call.everybody():
        for note in await call.db.scalars(before):
            for line in note.lines:
                gross[line.line] = gross.get(line.line, nothing) + (Money.parse(line.gross) or nothing)
                net[line.line] = net.get(line.line, nothing) + (Money.parse(line.net) or nothing)
    return _Credited(gross, net, {line.key: Money.parse(line.gross) or nothing for line in invoice.lines})


async def draft_credit(refund: Refund, invoice: Invoice, amount: Money, call: Call) -> CreditNote:
    """The note by which a locked invoice asks for so much less. REFUND_OVER_CREDITABLE with what the lines have left."""
    before = await _credited(invoice, call)
    note = CreditNote(
        invoice=invoice.name, refund=refund.name, reason=refund.reason, owner=invoice.owner,
        department=invoice.department,
    )  # fmt: skip
    note._take(invoice, _shares(refund, invoice.name, amount, before.left), before)  # pyright: ignore[reportPrivateUsage]
    return await call.add(note)


def _by_hand(lines: Sequence[Any], before: _Credited) -> dict[str, Money]:
    shares = dict[str, Money]()
    same_currency(next(iter(before.whole.values())).currency, [Money.parse(line.gross) for line in lines])
    for number, line in enumerate(lines):
        left = before.left.get(line.line)
        if left is None:
            told = ("账单没有这一行", "The invoice has no such line.")
            raise Validation(Violation(f"credit_note.lines[{number}].line", "UNKNOWN", *told))
        if line.line in shares:
            raise Validation(
                Violation(f"credit_note.lines[{number}].line", "DUPLICATE", "重复", "Named twice.")
            )
        wanted = Money.parse(line.gross) or left
        if wanted > left or wanted.amount <= 0:
            raise FailedPrecondition("CREDIT_OVER_LINE", line=line.line, left=shown(left))
        shares[line.line] = wanted
    return shares


def _shares(refund: Refund, invoice: str, amount: Money, left: dict[str, Money]) -> dict[str, Money]:
    nothing = zero(amount.currency)
    named = [line for line in refund.lines if line.invoice == invoice]
    if not named:
        room = sum(left.values(), nothing)
        if amount > room:
            raise FailedPrecondition("REFUND_OVER_CREDITABLE", left=shown(room))
        return dict(zip(left, split(amount, [one.amount for one in left.values()]), strict=True))
    shares: dict[str, Money] = {}
    for line in named:
        if line.line not in left:
            told = ("账单没有这一行", "The invoice has no such line.")
            raise Validation(Violation("refund.lines.line", "UNKNOWN", *told))
        shares[line.line] = shares.get(line.line, nothing) + (Money.parse(line.amount) or nothing)
    for key, share in shares.items():
        if share > left[key]:
            raise FailedPrecondition("REFUND_OVER_CREDITABLE", left=shown(left[key]))
    if sum(shares.values(), nothing) != amount:
        told = ("与该账单的退款金额不一致", "Does not add up to what goes back of the invoice.")
        raise Validation(Violation("refund.lines", "SUM_MISMATCH", *told))
    return shares


def _named(part: Any, found: Sequence[Allocation], payment: Payment) -> tuple[Allocation, Money]:
    allocation = next((one for one in found if one.name == part.allocation), None)
    if allocation is None:
        told = ("不是该收款的有效账单核销", "No allocation of the payment that counts and pays an invoice.")
        raise Validation(Violation("refund.parts.allocation", "UNKNOWN", *told))
    left = allocation.amount - allocation.refunded
    wanted = Money.parse(part.amount) or left
    _enough(wanted, left)
    return allocation, wanted


def _newest(
    found: Sequence[Allocation], wanted: Money, nothing: Money, besides: Money | None = None
) -> list[tuple[Allocation, Money]]:
    chosen, open_ = list[tuple[Allocation, Money]](), wanted
    for one in found:
        part = min(one.amount - one.refunded, open_, key=lambda money: money.amount)
        if part:
            chosen.append((one, part))
            open_ = open_ - part
    if open_:
        raise FailedPrecondition("REFUND_OVER_PAID", left=shown(wanted - open_ + (besides or nothing)))
    return chosen


def _enough(wanted: Money, left: Money) -> None:
    if wanted > left:
        raise FailedPrecondition("REFUND_OVER_PAID", left=shown(left))


def _by_invoice(lines: Sequence[Any], nothing: Money) -> dict[str, Money]:
    sums: dict[str, Money] = {}
    for line in lines:
        sums[line.invoice] = sums.get(line.invoice, nothing) + (Money.parse(line.amount) or nothing)
    return sums


def net_of(allocation: Allocation, amount: Money) -> Money:
    """The part without tax of what goes back next; all parts of an allocation give exactly its net."""

    def net(value: Money) -> Money:
        share = value.amount / allocation.amount.amount if allocation.amount else Decimal(0)
        return (allocation.net * share).rounded()

    return net(allocation.refunded + amount) - net(allocation.refunded)
