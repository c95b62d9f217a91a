"""The handover of a person's work: its own record, and what it moved."""

from datetime import date, datetime, timedelta
from typing import Any

from crm.customer.v1 import pb
from crmkit import listing
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.resource import Resource
from customer.model.base import Base
from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

AFTERGLOW_DAYS = 14
MOST_ITEMS = 500


class Transfer(Resource, Base):
    """What somebody owns goes to others, in every service."""

    __message__ = pb.Transfer
    __table_args__ = (
        Index(
            "transfers_waiting_index",
            "state",
            postgresql_where=text("state NOT IN ('DONE', 'UNDONE', 'CANCELLED')"),
        ),
    )
    handed_over = False

    display_name: Mapped[str]
    reason: Mapped[str]
    plan: Mapped[Any]
    notes: Mapped[Any]
    effective_time: Mapped[datetime | None]
    afterglow_days: Mapped[int]
    state: Mapped[str]
    preview: Mapped[Any]
    acknowledgements: Mapped[Any]
    moved: Mapped[int]
    left: Mapped[Any]
    preview_time: Mapped[datetime | None]
    run_time: Mapped[datetime | None]
    accept_until_time: Mapped[datetime | None]
    undo_until_time: Mapped[datetime | None]
    successor: Mapped[str]
    batches: Mapped[int]
    deadline: Mapped[datetime | None]
    actor: Mapped[str]

    @property
    def leaver(self) -> str:
        """Who hands over; `from` is a word of the language."""
        return getattr(self, "from")

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state = "DRAFT"
        entry = call.entry(self.leaver)
        self.display_name = str(entry.get("displayName") or self.leaver)[:200]
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what has not run can be planned anew; what is the person's stays counted."""
        self.check_state("DRAFT", "PREVIEWED")
        self._check(call)

    def cancel(self) -> None:
        """Given up."""
        self.check_state("DRAFT", "PREVIEWED", "SCHEDULED")
        self.state = "CANCELLED"

    def answered(self, step: str, batch: int) -> set[str]:
        """The services that have done a step."""
        return {one.service for one in self.acknowledgements if one.step == step and one.batch == batch}

    def reads_until(self, day: date) -> date | None:
        """The last day on which the person may still read the customers; None where it ends at once."""
        if self.reason == "RESIGN" or self.state == "UNDOING":
            return None
        return day + timedelta(days=self.afterglow_days or AFTERGLOW_DAYS)

    def rules(self) -> list[Any]:
        """The plan, and behind it whoever fills what the plan of a leaver leaves open."""
        return [*self.plan, *([pb.Transfer.Rule(to=[self.successor])] if self.successor else [])]

    def _check(self, call: Call) -> None:
        wrong: list[Violation] = []
        for n, rule in enumerate(self.plan):
            path = f"transfer.plan[{n}]"
            if bool(rule.to) == bool(rule.pool):
                wrong.append(required(f"{path}.to"))
            if self.leaver in rule.to:
                zh, en = "接收人不能是交出人。", "Nobody hands over to themselves."
                wrong.append(Violation(f"{path}.to", "SELF", zh, en))
            if len(rule.items) > MOST_ITEMS:
                zh, en = f"每条规则最多 {MOST_ITEMS} 条记录。", f"At most {MOST_ITEMS} records a rule."
                wrong.append(Violation(f"{path}.items", "TOO_MANY", zh, en))
            if rule.filter and len(rule.collections) != 1:
                zh, en = "筛选条件须指定一个对象。", "A filter is about exactly one collection."
                wrong.append(Violation(f"{path}.collections", "REQUIRED", zh, en))
            model = (
                call.running.models_by_collection.get(rule.collections[0])
                if rule.filter and rule.collections
                else None
            )
            if model is not None:
                listing.where(model, rule.filter, call.caller, call.now)
        if wrong:
            raise Validation(*wrong)

    def check_previewed(self) -> None:
        """TRANSFER_PREVIEW_INCOMPLETE or TRANSFER_PLAN_EMPTY."""
        if self.state == "DRAFT":
            raise FailedPrecondition("TRANSFER_PREVIEW_INCOMPLETE")
        self.check_state("PREVIEWED")
        if not self.plan:
            raise FailedPrecondition("TRANSFER_PLAN_EMPTY")


class TransferItem(Resource, Base):
    """One record that moved; its owner is whoever got it."""

    __message__ = pb.TransferItem
    __table_args__ = (Index("transfer_items_item_key", "transfer", "item", unique=True),)
    handed_over = False

    transfer: Mapped[str]
    item: Mapped[str]
    collection: Mapped[str]
    to: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    batch: Mapped[int]
    # Who declined it last: whoever it left in its batch.
    declined_by: Mapped[str] = mapped_column(Text, server_default="")
