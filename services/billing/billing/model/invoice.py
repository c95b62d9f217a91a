"""The invoice: what a customer is asked to pay."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from billing.capitals import in_capitals
from billing.model.base import Base
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.amounts import Amounts, check_currency, price_lines, titled
from crmkit.call import Call
from crmkit.company import legal_entity, today
from crmkit.errors import FailedPrecondition, check_frozen, check_reason
from crmkit.resource import Resource
from crmkit.values import Money, zero
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

FINAL_CONTENT = frozenset(
    {"account", "own_entity", "currency", "lines", "contract", "order", "terms_days", "note", "display_name"}
)


class Invoice(Resource, Base):
    """An invoice. Its draft is free; from `issue` on it is final, and its number stays for ever."""

    __message__ = pb.Invoice
    __table_args__ = (
        # One document for each source, however often its fact arrives.
        Index(
            "invoices_source_key",
            "source",
            unique=True,
            postgresql_where=text("source <> '' AND state <> 'VOID'"),
        ),
        Index(
            "invoices_open_index",
            "account",
            "due",
            postgresql_where=text("state = 'ISSUED' AND balance_amount > 0"),
        ),
    )

    display_name: Mapped[str]
    account: Mapped[str]
    own_entity: Mapped[str]
    currency: Mapped[str]
    lines: Mapped[Any]
    contract: Mapped[str]
    order: Mapped[str]
    delivery: Mapped[str]
    plan: Mapped[str]
    instalment: Mapped[str]
    opportunity: Mapped[str]
    quote: Mapped[str]
    terms_days: Mapped[int]
    note: Mapped[str]
    state: Mapped[str]
    issue_date: Mapped[date | None]
    due: Mapped[date | None]
    net: Mapped[Money]
    tax: Mapped[Money]
    gross: Mapped[Money]
    gross_in_capitals: Mapped[str]
    paid: Mapped[Money]
    balance: Mapped[Money]
    credited: Mapped[Money]
    refunded: Mapped[Money]
    payment_state: Mapped[str]
    buyer: Mapped[Any]
    reason: Mapped[str]
    source: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A new invoice is a draft. What a plan or a delivery drafts brings its amounts along."""
        self.source = getattr(self, "source", None) or ""
        self.state, self.payment_state = "DRAFT", "UNPAID"
        self.own_entity = self.own_entity or legal_entity(self.department, call)
        check_currency(self.currency, "invoice.currency")
        self.paid = self.balance = self.credited = self.refunded = zero(self.currency)
        if self.source:
            self.total(self.lines)
        else:
            await self.complete(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Nothing of an issued invoice changes; the lines of a source do not change at all."""
        if self.state != "DRAFT":
            check_frozen("INVOICE_FINAL", changed & FINAL_CONTENT)
        elif self.source and changed & {"lines", "currency", "account", "contract", "order"}:
            raise FailedPrecondition("INVOICE_LINES_FIXED")
        elif not self.source and changed & FINAL_CONTENT:
            await self.complete(call)

    async def deleting(self, call: Call) -> None:
        """What has a number, or a source, stays."""
        if self.number or self.source:
            raise FailedPrecondition("NUMBERED_NOT_DELETABLE")

    async def complete(self, call: Call) -> None:
        """Computes the amounts of lines that a person wrote."""
        check_currency(self.currency, "invoice.currency")
        self.lines, total = price_lines(self.lines, self.currency, "invoice.lines")
        self._set_total(total)
        for line in self.lines:
            line.order = line.order_item = ""
        if not self.display_name:
            self.display_name = await titled(self.account, self.lines, call)

    def total(self, lines: Sequence[Any]) -> None:
        """Totals as sums of lines, never rounded again."""
        sums = [zero(self.currency)] * 3
        for index, line in enumerate(lines, start=1):
            line.key = str(index)
            for place, name in enumerate(("net", "tax", "gross")):
                sums[place] += Money.parse(getattr(line, name)) or zero(self.currency)
        self._set_total(Amounts(*sums))

    def _set_total(self, total: Amounts) -> None:
        self.net, self.tax, self.gross = total.net, total.tax, total.gross
        self.gross_in_capitals = in_capitals(total.gross)

    async def issue(self, call: Call, due: date | None = None) -> None:
        """Numbers the invoice and makes it final."""
        self.check_state("DRAFT")
        if not self.lines or not self.gross:
            raise FailedPrecondition("INVOICE_EMPTY")
        if not self.own_entity:
            raise FailedPrecondition("INVOICE_INCOMPLETE", fields="own_entity")
        copy = await call.copy(self.account) or {}
        self.buyer = pb.Invoice.Buyer(
            title=copy.get("legalName", "") or copy.get("displayName", ""), tax_id=copy.get("taxId", "")
        )
        day = today(call)
        self.issue_date, self.due = day, due or day + timedelta(days=self.terms_days)
        self.state, self.balance = "ISSUED", self.gross
        await call.number(self)
        call.emit(events.InvoiceIssued, invoice=self)

    def void(self, reason: str, call: Call) -> None:
        """Takes the invoice back; the number stays."""
        self.check_state("ISSUED")
        if self.paid:
            raise FailedPrecondition("INVOICE_HAS_PAYMENTS")
        if self.credited:
            raise FailedPrecondition("INVOICE_CREDITED")
        self.reason = check_reason(reason)
        self.state, self.balance = "VOID", zero(self.currency)
        call.emit(events.InvoiceVoided, invoice=self, reason=self.reason)

    def add_paid(self, amount: Money, call: Call) -> None:
        """Paid, or with a negative amount undone."""
        self.paid += amount
        self._follow()
        if self.payment_state == "PAID" and amount.amount > 0:
            call.emit(events.InvoicePaid, invoice=self)

    def give_back(self, refunded: Money, credited: Money) -> None:
        """What was paid goes back, and so much is no longer asked for; with negative amounts both come back."""
        self.refunded += refunded
        self.credited += credited
        self._follow()

    def _follow(self) -> None:
        kept = self.paid - self.refunded
        self.balance = self.gross - self.credited - kept
        self.payment_state = "PAID" if not self.balance else "PARTLY_PAID" if kept else "UNPAID"
