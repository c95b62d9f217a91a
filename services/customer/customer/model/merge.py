"""The merge of accounts: its own record, and what accounts and contacts were before it."""

from datetime import datetime
from typing import Any

from crm.customer.v1 import pb
from crmkit import withholding
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.fieldlevels import read_only
from crmkit.mapping import Reader
from crmkit.resource import Resource
from customer.model.account import Account
from customer.model.base import Base
from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

MOST_LOSERS = 9


class Merge(Resource, Base):
    """Several accounts become one; the references to them follow, in every service."""

    __message__ = pb.Merge
    __table_args__ = (
        Index(
            "merges_waiting_index", "update_time", postgresql_where=text("state IN ('RUNNING', 'UNDOING')")
        ),
        Index("merges_losers_index", "losers", postgresql_using="gin"),
    )
    follows_merges = False

    display_name: Mapped[str]
    survivor: Mapped[str]
    losers: Mapped[list[str]]
    choices: Mapped[Any]
    contact_pairs: Mapped[Any]
    proposed_pairs: Mapped[Any]
    reason: Mapped[str]
    state: Mapped[str]
    preview: Mapped[Any]
    blockers: Mapped[Any]
    acknowledgements: Mapped[Any]
    moved: Mapped[Any]
    left: Mapped[Any]
    preview_time: Mapped[datetime | None]
    digest: Mapped[str]
    run_time: Mapped[datetime | None]
    undo_until_time: Mapped[datetime | None]
    lifted: Mapped[str]
    arrived: Mapped[Any]

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """That two contacts have a number or address in common is told to who may read those."""
        if withholding.hides_any("contacts", ("phones", "emails"), reader):
            del message.proposed_pairs[:]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state = "DRAFT"
        self._check()
        self._check_choices(call)
        row = await call.named(Account, self.survivor)
        self.display_name = row.display_name if row else ""

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What is changed has to be previewed again."""
        self.check_state("DRAFT", "PREVIEWED")
        self._check()
        self._check_choices(call)
        if changed - {"owner", "department", "collaborators", "reason"}:
            self.state, self.lifted = "DRAFT", ""

    def lift(self, reason: str) -> None:
        """Finance says that two tax ids are one customer's."""
        self.check_state("DRAFT", "PREVIEWED")
        self.lifted = reason
        self.blockers = [one for one in self.blockers if one.reason != "TAX_IDS_DIFFER"]

    def cancel(self) -> None:
        """Given up."""
        self.check_state("DRAFT", "PREVIEWED")
        self.state = "CANCELLED"

    def answered(self, step: str) -> set[str]:
        """The services that have done a step."""
        return {one.service for one in self.acknowledgements if one.step == step}

    def check_runnable(self) -> None:
        """MERGE_PREVIEW_INCOMPLETE or MERGE_BLOCKED."""
        if self.state == "DRAFT":
            raise FailedPrecondition("MERGE_PREVIEW_INCOMPLETE")
        self.check_state("PREVIEWED")
        if self.blockers:
            raise FailedPrecondition("MERGE_BLOCKED", reason=self.blockers[0].reason)

    def _check_choices(self, call: Call) -> None:
        """Who may not write a field does not choose its value either; without a choice the survivor's stays."""
        taken = call.caller.fields("accounts")
        wrong = [
            read_only(f"merge.choices[{n}].field")
            for n, choice in enumerate(self.choices)
            if choice.field in taken
        ]
        if wrong:
            raise Validation(*wrong)

    def _check(self) -> None:
        wrong: list[Violation] = []
        if not 1 <= len(self.losers) <= MOST_LOSERS or len(set(self.losers)) != len(self.losers):
            zh, en = (
                f"请选择 1 到 {MOST_LOSERS} 个不同的客户。",
                f"Choose 1 to {MOST_LOSERS} different accounts.",
            )
            wrong.append(Violation("merge.losers", "OUT_OF_RANGE", zh, en))
        if self.survivor in self.losers:
            zh, en = "保留客户不能同时被并入。", "The survivor cannot go into itself."
            wrong.append(Violation("merge.losers", "SELF", zh, en))
        known = {self.survivor, *self.losers}
        for n, choice in enumerate(self.choices):
            if choice.source not in known:
                zh, en = "取值来源不在本次合并中。", "This account is no part of the merge."
                wrong.append(Violation(f"merge.choices[{n}].source", "UNKNOWN_VALUE", zh, en))
        ends = [pair.loser for pair in self.contact_pairs]
        if len(set(ends)) != len(ends) or set(ends) & {pair.survivor for pair in self.contact_pairs}:
            zh, en = "同一联系人只能并入一次。", "A contact is merged once, and does not stay then."
            wrong.append(Violation("merge.contact_pairs", "DUPLICATE", zh, en))
        if wrong:
            raise Validation(*wrong)


class MergeSnapshot(Base):
    """An account or contact as it was before and right after a merge, for undoing it."""

    __tablename__ = "merge_snapshots"

    merge: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    before: Mapped[dict[str, Any]] = mapped_column(JSONB)
    after: Mapped[dict[str, Any]] = mapped_column(JSONB)
