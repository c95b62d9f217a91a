"""A whole new cut of the market: looked at, sent on its way, taken back (TER-1 … TER-5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from crmkit.tables import BulkRun
from sales.model.base import HANDOVER, Base
from sqlalchemy import ARRAY, Boolean, Integer, false, select, text
from sqlalchemy.orm import Mapped, mapped_column

HOLDS_FOR = timedelta(days=7)
UNDO_FOR = timedelta(days=7)
MOST_NODES = 2000
PREVIEW, PLAN, APPLY, UNDO = (
    "PreviewTerritoryPlan",
    "PlanTerritoryMoves",
    "ApplyTerritoryPlan",
    "UndoTerritoryPlan",
)
UNDER_WAY = ("SCHEDULED", "APPLYING", "UNDOING")


class TerritoryPlan(Resource, Base):
    """Territories as they shall be. What it would change is known before it changes anything."""

    __message__ = pb.TerritoryPlan

    display_name: Mapped[str]
    tree: Mapped[Any]
    open_deals: Mapped[str]
    pinned_accounts: Mapped[list[str]]
    overrides: Mapped[Any]
    notes: Mapped[Any]
    key_levels: Mapped[list[str]]
    default_owner: Mapped[str]
    effective_time: Mapped[datetime | None]
    preview: Mapped[Any]
    preview_time: Mapped[datetime | None]
    digest: Mapped[str]
    outcome: Mapped[Any]
    undo_until_time: Mapped[datetime | None]
    before: Mapped[Any]
    paused: Mapped[bool]
    actor: Mapped[str]
    state: Mapped[str]
    # Whether the moves of the preview are written down, so that the plan may begin.
    planned: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # Whether the cut before is written down.
    begun: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # How many batches the customer service was told, whether these are all, and which it has answered.
    batches: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    all_told: Mapped[bool] = mapped_column(Boolean, server_default=false())
    answered: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default="{}")

    async def creating(self, call: Call) -> None:
        """A new one is a draft."""
        self.state, self.open_deals = "DRAFT", self.open_deals or "STAY"
        self.check_tree()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Whatever changes the moves needs a new preview; notes, name and time do not."""
        if changed <= HANDOVER:
            return
        self.check_state("DRAFT", "PREVIEWED")
        self.check_tree()
        if changed - HANDOVER - {"display_name", "notes", "effective_time"}:
            self.state, self.digest = "DRAFT", ""

    async def deleting(self, call: Call) -> None:
        """Only what was never sent on its way goes."""
        self.check_state("DRAFT", "PREVIEWED", "CANCELLED")

    async def start_preview(self, call: Call) -> None:
        """Reckons in the background what it would change."""
        self.check_state("DRAFT", "PREVIEWED")
        self.check_tree()
        self.state, self.digest, self.preview_time = "DRAFT", "", None
        await runs.start(call, PREVIEW, self.name, {}, f"system/{call.running.app.name}")

    async def schedule(self, digest: str, call: Call) -> None:
        """Sends it on its way, as it was looked at."""
        self.check_state("DRAFT", "PREVIEWED")
        fresh = self.preview_time is not None and call.now - self.preview_time <= HOLDS_FOR
        if self.state != "PREVIEWED" or digest != self.digest or not fresh:
            raise FailedPrecondition("PREVIEW_STALE")
        if self.preview.overlaps:
            example = self.preview.overlapping[0]
            raise FailedPrecondition(
                "TERRITORY_OVERLAP", count=self.preview.overlaps, example=f"{example.display_name} ({example.reason})"
            )  # fmt: skip
        if self.preview.gaps:
            raise FailedPrecondition("TERRITORY_GAP", count=self.preview.gaps)
        said = {note.account for note in self.notes}
        if silent := [one.display_name for one in self.preview.key_accounts if one.account not in said]:
            raise FailedPrecondition("KEY_ACCOUNT_NOTE_MISSING", accounts="、".join(silent[:20]))
        await self._check_alone(call)
        self.state, self.planned, self.actor = "SCHEDULED", False, call.caller.actor
        await runs.start(call, PLAN, self.name, {}, f"system/{call.running.app.name}")

    async def begin(self, call: Call) -> None:
        """Its time has come."""
        self.check_state("SCHEDULED")
        self.state, self.batches, self.answered, self.all_told = "APPLYING", 0, [], False
        self.undo_until_time = call.now + UNDO_FOR
        await runs.start(call, APPLY, self.name, {}, f"system/{call.running.app.name}")

    async def cancel(self, call: Call) -> None:
        """Gives it up before its time."""
        self.check_state("DRAFT", "PREVIEWED", "SCHEDULED")
        self.state = "CANCELLED"

    async def pause(self, call: Call) -> None:
        """Rests behind the batch that is under way."""
        self.check_state("APPLYING", "UNDOING")
        self.paused = True
        await runs.pause(call, self.name)

    async def resume(self, call: Call) -> None:
        """Goes on behind it; work that had to be given up begins anew and finds what it has done."""
        self.check_state("APPLYING", "UNDOING")
        self.paused = False
        await runs.resume(call, self.name)
        last = select(BulkRun.state).where(BulkRun.about == self.name)
        if await call.db.scalar(last.order_by(BulkRun.create_time.desc()).limit(1)) == "FAILED":
            kind = APPLY if self.state == "APPLYING" else UNDO
            await runs.start(call, kind, self.name, {}, f"system/{call.running.app.name}")

    async def undo(self, call: Call) -> None:
        """Gives back what nobody has changed since."""
        self.check_state("APPLIED")
        if self.undo_until_time is None or call.now > self.undo_until_time:
            raise FailedPrecondition("UNDO_EXPIRED")
        await self._check_alone(call)
        # Its batches are numbered on, so that no late answer is taken for that of another.
        self.state, self.all_told = "UNDOING", False
        await runs.start(call, UNDO, self.name, {}, f"system/{call.running.app.name}")

    async def _check_alone(self, call: Call) -> None:
        """Two plans would move the same customers."""
        await call.one_at_a_time(["territoryPlans"])
        other = await call.find(
            TerritoryPlan, TerritoryPlan.state.in_(UNDER_WAY), TerritoryPlan.id != self.id
        )
        if other is not None:
            raise FailedPrecondition("TERRITORY_PLAN_RUNNING", plan=other.number)

    def answer(self, batch: int) -> bool:
        """Notes a batch that was answered; whether it is new."""
        if batch in self.answered or batch > self.batches:
            return False
        self.answered = [*self.answered, batch]
        return True

    def settle(self) -> None:
        """Has come to its end once every batch is answered."""
        if self.all_told and len(self.answered) == self.batches:
            self.state = {"APPLYING": "APPLIED", "UNDOING": "UNDONE"}.get(self.state, self.state)

    def count(self, **numbers: int) -> None:
        """Adds to the outcome."""
        made = pb.TerritoryPlan.Outcome()
        if self.outcome is not None:
            made.CopyFrom(self.outcome)
        for name, number in numbers.items():
            setattr(made, name, getattr(made, name) + number)
        if made != self.outcome:
            self.outcome = made

    def check_tree(self) -> None:
        """Every territory has a code of its own, and lies in another of the tree or in none."""
        codes = {node.code: node.parent for node in self.tree}
        wrong: list[Violation] = []
        if len(codes) != len(self.tree):
            wrong.append(_bad("tree", "代码重复。", "Two territories have the same code."))
        if len(self.tree) > MOST_NODES:
            wrong.append(_bad("tree", f"最多 {MOST_NODES} 个区域。", f"At most {MOST_NODES} territories."))
        for n, node in enumerate(self.tree):
            above, seen = node.parent, {node.code}
            while above:
                if above not in codes or above in seen:
                    path = f"tree[{n}].parent"
                    wrong.append(
                        _bad(
                            path,
                            "上级区域不存在或形成循环。",
                            "The parent is not in the tree, or in a circle.",
                        )
                    )
                    break
                seen.add(above)
                above = codes[above]
        if wrong:
            raise Validation(*wrong)


def _bad(field: str, zh: str, en: str) -> Violation:
    return Violation(f"territory_plan.{field}", "OUT_OF_RANGE", zh, en)
