"""The commission statement: what a person earned in a month."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied
from crmkit.listing import ZONE
from crmkit.resource import Resource, parse_name
from crmkit.values import Money, zero
from sales.model.base import Base
from sales.model.beneficiaries import earned_by, held_by
from sales.model.commission_entry import CommissionEntry
from sqlalchemy import Index, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Mapped

DISPUTE_DAYS = 10


class CommissionStatement(Resource, Base):
    """A month of one person in one currency. What is below nothing is carried, never paid."""

    __message__ = pb.CommissionStatement
    handed_over = False
    __table_args__ = (
        # Who looks after a partner may change; the partner's month is one.
        Index(
            "commission_statements_month_key",
            text("coalesce(nullif(partner, ''), owner)"),
            "month",
            "entries_total_currency",
            unique=True,
        ),
    )

    month: Mapped[str]
    opening: Mapped[Money | None]
    entries_total: Mapped[Money | None]
    disputed_total: Mapped[Money | None]
    payable: Mapped[Money | None]
    disputed_entries: Mapped[list[str]]
    dispute_reason: Mapped[str]
    leaver: Mapped[bool]
    partner: Mapped[str]
    issue_time: Mapped[datetime | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.state = "DRAFT"
        self._settle(call)

    @property
    def beneficiary(self) -> str:
        """Whose it is."""
        return self.partner or self.owner

    @property
    def owed(self) -> bool:
        """Whether more was taken back than earned."""
        return self.payable is not None and self.payable.amount < 0

    def add(self, further: Money, call: Call) -> bool:
        """Takes further entries while nobody has seen it; False where it was issued."""
        if self.state != "DRAFT":
            return False
        self.entries_total = (self.entries_total or zero(further.currency)) + further
        self._settle(call)
        return True

    def issue(self, call: Call) -> None:
        """Shows it to its person."""
        self.check_state("DRAFT")
        self.state, self.issue_time = "ISSUED", call.now

    async def dispute(self, entries: list[str], reason: str, call: Call) -> None:
        """Its person doubts entries within ten days; the rest is payable."""
        self.check_state("ISSUED")
        if (call.caller.account or call.caller.employee) != self.beneficiary:
            raise PermissionDenied("PERMISSION_DENIED", permission="sales.commissionStatements.dispute")
        if self.issue_time and call.now - self.issue_time > timedelta(days=DISPUTE_DAYS):
            raise FailedPrecondition("DISPUTE_TOO_LATE", days=DISPUTE_DAYS)
        keys = [parse_name(name, "commissionEntries") for name in entries]
        chosen = select(CommissionEntry).where(
            CommissionEntry.id.in_(keys), CommissionEntry.statement == self.name
        )
        rows = list(await call.db.scalars(chosen))
        if len(rows) != len(set(keys)):
            raise NotFound()
        currency = self._currency()
        self.disputed_total = sum((row.amount for row in rows if row.amount), zero(currency))
        self.disputed_entries, self.dispute_reason, self.state = (
            [row.name for row in rows],
            reason,
            "DISPUTED",
        )
        self._sum()

    def confirm(self) -> None:
        """Agrees to it."""
        self.check_state("ISSUED", "DISPUTED")
        self.state = "CONFIRMED"

    async def pay(self, call: Call) -> None:
        """Asks for the payout; what is in dispute comes on the next statement."""
        self.check_state("CONFIRMED", "DISPUTED")
        if self.payable is None or self.payable.amount <= 0:
            raise FailedPrecondition("STATEMENT_NEGATIVE")
        keys = [parse_name(name, "commissionEntries") for name in self.disputed_entries]
        for row in await call.db.scalars(select(CommissionEntry).where(CommissionEntry.id.in_(keys))):
            row.statement = ""
        self.state = "PAYING"
        call.emit(
            events.CommissionPayoutRequested, statement=self, payee=self.beneficiary, amount=self.payable
        )

    def paid(self) -> None:
        """The payout has left."""
        self.check_state("PAYING")
        self.state = "PAID"

    def _currency(self) -> str:
        return self.entries_total.currency if self.entries_total is not None else ""

    def _settle(self, call: Call) -> None:
        self._sum()
        self.leaver = self.owed and bool(call.entry(self.beneficiary).get("disabled"))

    def _sum(self) -> None:
        nothing = zero(self._currency())
        self.payable = (
            (self.opening or nothing) + (self.entries_total or nothing) - (self.disputed_total or nothing)
        )


async def make_statements(as_of: datetime, call: Call) -> None:
    """A statement for everybody who has entries of the months before."""
    first = as_of.astimezone(ZONE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month = (first - timedelta(days=1)).strftime("%Y-%m")
    await call.one_at_a_time(["commissionStatements"])
    waiting = select(CommissionEntry).where(
        CommissionEntry.statement == "", CommissionEntry.create_time < first
    )
    entries: dict[tuple[str, str], list[CommissionEntry]] = defaultdict(list)
    for entry in await call.db.scalars(waiting.with_for_update()):
        if entry.amount is not None:
            entries[entry.beneficiary, entry.amount.currency].append(entry)
    for (beneficiary, currency), rows in entries.items():
        made = await _statement(beneficiary, month, currency, rows, call)
        for row in rows:
            row.statement = made.name if made is not None else ""


async def debts_left(employee: str, call: Call) -> None:
    """What somebody owes who leaves goes on the list of finance: his last statement in each currency says how much."""
    table: Any = CommissionStatement
    last = (
        select(table.id)
        .ext(distinct_on(table.entries_total_currency))
        .where(earned_by(employee, table))
        .order_by(table.entries_total_currency, table.month.desc())
    )
    asked = select(CommissionStatement).where(CommissionStatement.id.in_(last)).with_for_update()
    for statement in await call.db.scalars(asked):
        statement.leaver = statement.owed


async def _statement(
    beneficiary: str, month: str, currency: str, rows: list[CommissionEntry], call: Call
) -> CommissionStatement | None:
    """The month's statement with these entries; None where it is issued already, and they wait for the next."""
    there = await call.find(
        CommissionStatement, earned_by(beneficiary, CommissionStatement), CommissionStatement.month == month,
        CommissionStatement.entries_total_currency == currency, lock=True,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    )  # fmt: skip
    total = sum((row.amount.amount for row in rows if row.amount is not None), Decimal(0))
    if there is not None:
        return there if there.add(Money(total, currency), call) else None
    before = await call.find(
        CommissionStatement, earned_by(beneficiary, CommissionStatement), CommissionStatement.month < month,
        CommissionStatement.entries_total_currency == currency,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
        CommissionStatement.id == _latest(beneficiary, month, currency),
    )  # fmt: skip
    carried = zero(currency)
    if before is not None and before.owed:
        # From now on this one says what is owed.
        carried, before.leaver = before.payable, False
    statement = CommissionStatement(
        month=month,
        **await held_by(beneficiary, call),
        opening=carried,
        entries_total=Money(total, currency),
        disputed_total=zero(currency),
    )
    return await call.add(statement)


def _latest(beneficiary: str, month: str, currency: str) -> Any:
    table: Any = CommissionStatement
    return (
        select(table.id)
        .where(earned_by(beneficiary, table), table.month < month, table.entries_total_currency == currency)
        .order_by(table.month.desc())
        .limit(1)
        .scalar_subquery()
    )
