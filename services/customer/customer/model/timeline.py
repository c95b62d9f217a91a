"""The time line: every fact about an account, in order of occurrence."""

from datetime import datetime
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crmkit import withholding
from crmkit.auth import Caller
from crmkit.mapping import Reader
from crmkit.seen import SeenAsSource
from crmkit.values import Money
from customer.model.base import Base
from sqlalchemy import ColumnElement, DateTime, Index, Integer, Text, Uuid, and_, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

# The scope of a record that is gone: nobody opens it.
GONE = "GONE"
# Where a record has what an entry tells of it, by JSON name; the first that is there counts.
TITLES = ("displayName", "title", "subject", "summary", "number", "name")
AMOUNTS = ("amount", "totalAmount", "grossTotal", "gross", "grossAmount", "total")
# Step of the path → the fact that reaches it.
PATH = {
    "LEAD": "crm.sales.v1.LeadConverted",
    "INTENT": "crm.sales.v1.OpportunityOpened",
    "FIRST_PURCHASE": "crm.orders.v1.OrderPlaced",
    "SIGNED": "crm.orders.v1.ContractSigned",
}
ON_PATH = f"kind IN {tuple(PATH.values())}"


class TimelineEntry(SeenAsSource, Base):
    """One fact on the time line of an account.

    Its id is made from fact and account: twice is once. Scope, owner, department and collaborators are those of the
    record that the fact is about, so that an entry is seen by those who could open that record.
    """

    __message__ = pb.TimelineEntry
    # Written anew from the facts, whose accounts follow.
    follows_merges = False
    __table_args__ = (
        Index("timeline_account_occur_time_index", "account", "occur_time", "id"),
        Index("timeline_account_phase_index", "account", "phase", "occur_time", "id"),
        Index(
            "timeline_path_index",
            "account",
            "kind",
            "occur_time",
            postgresql_where=text(ON_PATH),
        ),
        Index("timeline_follows_index", "follows"),
    )

    account: Mapped[str]
    # Never absent, so that its index has the order of pages.
    occur_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    kind: Mapped[str]
    phase: Mapped[str]
    ref: Mapped[str]
    summary: Mapped[str]
    actor: Mapped[str]
    amount: Mapped[Money | None]
    requires: Mapped[str]
    # The record whose owner, department and collaborators the entry has; the account where the source has none.
    follows: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # How far the record of `follows` is seen: OWNED, PRIVATE, or GONE.
    source_scope: Mapped[str] = mapped_column(Text, server_default=text("'OWNED'"))
    # The permission to read the source, where `requires` is the one to read the account that the entry follows.
    besides: Mapped[str] = mapped_column(Text, server_default=text("''"))

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """An entry tells of its source no more than the source's own page would."""
        if withholding.hides_first(message.ref, TITLES, reader):
            message.ClearField("summary")
        if withholding.hides_any(message.ref, AMOUNTS, reader):
            message.ClearField("amount")

    @classmethod
    def quoted(cls, caller: Caller) -> frozenset[str]:
        """Nobody asks by what some source would not show him."""
        if not caller.takes_fields:
            return frozenset()
        fields = {"summary": TITLES, "amount": AMOUNTS}
        return frozenset(name for name, known in fields.items() if withholding.hidden_anywhere(known, caller))

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Whoever could open the record that the entry tells of, and the account where the record has no scope of its own."""
        seen = super().readable(caller)
        if seen is None or "*" in caller.permissions:
            return seen
        return and_(
            seen, cls.besides.in_(["", *sorted(p for p in caller.permissions if p.endswith(".read"))])
        )


class TimelineFact(Base):
    """A fact that is on a time line, as it was heard: what the time line is rebuilt from."""

    __tablename__ = "timeline_facts"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    subject: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    actor: Mapped[str] = mapped_column(Text)
    aggregate: Mapped[str] = mapped_column(Text)
    version: Mapped[int | None] = mapped_column(Integer)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    accounts: Mapped[list[str]] = mapped_column(ARRAY(Text), info={"refers": True})

    __table_args__ = (Index("timeline_facts_accounts_index", "accounts", postgresql_using="gin"),)
