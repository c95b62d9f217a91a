"""Money that we pay out: asked for, approved, given to the bank, arrived."""

import datetime
from typing import Any

from billing.model.base import Base
from billing.model.checks import above_zero, check, day_of
from billing.model.refund import Refund
from billing.model.words import shown
from crm.billing.v1 import events_pb2 as events
from crm.billing.v1 import pb
from crmkit.call import Call
from crmkit.company import legal_entity
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason
from crmkit.mapping import read_date
from crmkit.resource import Resource
from crmkit.values import Money
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

OVER = ("FAILED", "CANCELLED")


class Payout(Resource, Base):
    """One payment to one payee. What it is for is paid once: by another one only where this came to nothing."""

    __message__ = pb.Payout
    __table_args__ = (
        Index(
            "payouts_source_key",
            "source",
            unique=True,
            postgresql_where=text("state NOT IN ('FAILED', 'CANCELLED')"),
        ),
    )

    kind: Mapped[str]
    payee_name: Mapped[str]
    employee: Mapped[str]
    account: Mapped[str]
    payee_bank: Mapped[str]
    payee_account: Mapped[str]
    amount: Mapped[Money]
    source: Mapped[str]
    own_entity: Mapped[str]
    state: Mapped[str]
    date: Mapped[datetime.date | None]
    reference: Mapped[str]
    failure: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Asked for, once for each cause."""
        check(above_zero("payout.amount", self.amount))
        await call.one_at_a_time([f"payouts:{self.source}"])
        async with call.everybody():
            other = await call.db.scalar(
                select(Payout.number).where(Payout.source == self.source, Payout.state.not_in(OVER))
            )
        if other is not None:
            raise FailedPrecondition("DUPLICATE_PAYOUT", number=other)
        if self.kind == "REFUND":
            await self._of_refund(call)
        self.state = "DRAFT"
        self.own_entity = self.own_entity or legal_entity(self.department, call)

    async def _of_refund(self, call: Call) -> None:
        """All of an approved refund, to the customer whose money it was. Nobody pays it otherwise meanwhile."""
        refund = await call.named(Refund, self.source, lock=True)
        if refund is None or refund.state != "APPROVED":
            raise FailedPrecondition("REFUND_NOT_APPROVED")
        if self.amount != refund.amount:
            told = (f"应为 {shown(refund.amount)}", f"This must be {shown(refund.amount)}.")
            raise Validation(Violation("payout.amount", "SUM_MISMATCH", *told))
        self.account, self.own_entity = refund.account, refund.own_entity

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a draft changes: what was approved is what is paid."""
        self.check_state("DRAFT")

    def approve(self) -> None:
        """To be paid, to an account that is known."""
        self.check_state("DRAFT")
        if not self.payee_bank or not self.payee_account:
            raise FailedPrecondition("PAYEE_ACCOUNT_MISSING")
        self.state = "APPROVED"

    def send(self, call: Call) -> None:
        """The bank is told to pay."""
        self.check_state("APPROVED")
        self.state = "SENT"
        call.emit(events.PayoutSent, payout=self)

    def confirm(self, request: Any, call: Call) -> None:
        """The money has arrived."""
        self.check_state("SENT")
        day = day_of(read_date(request.date), call)
        self.state, self.date, self.reference = "PAID", day, request.reference
        call.emit(events.PayoutPaid, payout=self, source=self.source, amount=self.amount)

    def fail(self, reason: str, call: Call) -> None:
        """The bank did not pay."""
        self.check_state("SENT")
        self.state, self.failure = "FAILED", check_reason(reason)
        call.emit(events.PayoutFailed, payout=self)

    def cancel(self, reason: str) -> None:
        """Not to be paid."""
        if self.state == "SENT":
            raise FailedPrecondition("PAYOUT_SENT")
        self.check_state("DRAFT", "APPROVED")
        self.state, self.failure = "CANCELLED", check_reason(reason)


async def on_its_way(source: str, call: Call) -> bool:
    """Whether a payout of that cause is asked for, approved or with the bank."""
    waiting = Payout.state.in_(("DRAFT", "APPROVED", "SENT"))
    return await call.find(Payout, Payout.source == source, waiting) is not None


async def draft_commission(event: Any, call: Call) -> None:
    """The payout of a statement, once: what finance has cancelled or the bank refused is paid by a new one, by hand."""
    statement = event.statement
    await call.one_at_a_time([f"payouts:{statement.name}"])
    asked = select(Payout.id).where(Payout.source == statement.name).limit(1)
    if await call.db.scalar(asked) is not None:
        return
    amount = Money.parse(event.amount)
    assert amount is not None
    partner = event.payee.startswith("accounts/")
    known = await call.copy(event.payee) if partner else call.entry(event.payee)
    payee = {"account": event.payee} if partner else {"employee": event.payee}
    await call.add(
        Payout(
            kind="COMMISSION", payee_name=str((known or {}).get("displayName") or event.payee), amount=amount,
            source=statement.name, owner=statement.owner, department=statement.department, **payee,
        )
    )  # fmt: skip
