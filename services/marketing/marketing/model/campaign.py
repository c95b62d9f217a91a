"""Campaigns: a tree of plans, programmes and activities, and what they brought."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from crm.marketing.v1 import events_pb2 as events
from crm.marketing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument
from crmkit.listing import ZONE
from crmkit.resource import Resource
from crmkit.values import Money
from marketing.model.base import Base
from sqlalchemy import func, select, text
from sqlalchemy.orm import Mapped

DEEPEST = 6
OVER = ("FINISHED", "EVALUATED", "CANCELLED")
COPIED = (
    "kind", "channel", "parent", "goal", "budget", "targets", "participants", "region", "products", "segments",
)  # fmt: skip
# The campaigns above the new parent, and the levels below this one: one statement each over the edges.
_ABOVE = text(
    "WITH RECURSIVE up(name, depth) AS (SELECT CAST(:parent AS text), 1 UNION SELECT c.parent, depth + 1"
    " FROM campaigns c JOIN up ON 'campaigns/' || c.id = up.name WHERE c.parent <> '' AND depth < 20)"
    " SELECT name FROM up"
)
_BELOW = text(
    "WITH RECURSIVE down(name, depth) AS (SELECT CAST(:name AS text), 1 UNION SELECT 'campaigns/' || c.id, depth + 1"
    " FROM campaigns c JOIN down ON c.parent = down.name WHERE depth < 20) SELECT max(depth) FROM down"
)


class Campaign(Resource, Base):
    """A campaign. What it brought is reckoned from its members."""

    __message__ = pb.Campaign

    display_name: Mapped[str]
    kind: Mapped[str]
    parent: Mapped[str]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    budget: Mapped[Money | None]
    segments: Mapped[list[str]]
    evaluation: Mapped[str]
    member_count: Mapped[int]
    responded_count: Mapped[int]
    lead_count: Mapped[int]
    opportunity_count: Mapped[int]
    won_count: Mapped[int]
    won_amounts: Mapped[Any]
    launch_time: Mapped[datetime | None]
    finish_time: Mapped[datetime | None]
    end_reason: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft, in its place in the tree."""
        self.state, self.kind = "DRAFT", self.kind or "ACTIVITY"
        self._check_dates()
        await self._check_tree(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What is looked back upon or given up stays as it is."""
        self.check_state("DRAFT", "APPROVED", "RUNNING", "PAUSED", "FINISHED")
        self._check_dates()
        if changed & {"parent", "budget"}:
            await self._check_tree(call)

    async def deleting(self, call: Call) -> None:
        """Only a draft may go."""
        self.check_state("DRAFT")

    def submit(self) -> None:
        """Approved, unless a policy holds the verb."""
        self.check_state("DRAFT")
        self.state = "APPROVED"

    async def launch(self, call: Call) -> None:
        """Starts, between approval and end."""
        self.check_state("APPROVED")
        if self.end_date and call.now.astimezone(ZONE).date() > self.end_date:
            raise FailedPrecondition("CAMPAIGN_PERIOD_OVER", date=self.end_date)
        await self._check_parent(call)
        self.state, self.launch_time = "RUNNING", call.now
        call.emit(events.CampaignLaunched, campaign=self)

    def pause(self) -> None:
        """Rests."""
        self.check_state("RUNNING")
        self.state = "PAUSED"

    def resume(self) -> None:
        """Goes on."""
        self.check_state("PAUSED")
        self.state = "RUNNING"

    async def finish(self, call: Call) -> None:
        """Ends, after its parts."""
        self.check_state("RUNNING", "PAUSED")
        await self._check_children(call)
        self.state, self.finish_time = "FINISHED", call.now
        call.emit(events.CampaignFinished, campaign=self)

    def evaluate(self, evaluation: str, call: Call) -> None:
        """Says what it taught."""
        self.check_state("FINISHED")
        if not evaluation.strip():
            raise FailedPrecondition("EVALUATION_REQUIRED")
        self.state, self.evaluation = "EVALUATED", evaluation
        call.emit(events.CampaignEvaluated, campaign=self)

    async def cancel(self, reason: str, call: Call) -> None:
        """Gives it up."""
        self.check_state("DRAFT", "APPROVED", "RUNNING", "PAUSED")
        if not reason.strip():
            raise FailedPrecondition("REASON_REQUIRED")
        await self._check_children(call)
        self.state, self.end_reason, self.finish_time = "CANCELLED", reason, call.now

    def copied(self, display_name: str, start: date | None) -> "Campaign":
        """A draft like this one, as long as this one, without results."""
        row = Campaign(display_name=display_name, **{name: getattr(self, name) for name in COPIED})
        if self.start_date and self.end_date:
            first = start or _a_year_on(self.start_date)
            row.start_date, row.end_date = first, first + (self.end_date - self.start_date)
        return row

    def check_open(self) -> None:
        """Refuses members where it is over."""
        if self.state in OVER:
            raise FailedPrecondition("CAMPAIGN_CLOSED")

    def _check_dates(self) -> None:
        if self.start_date and self.end_date and self.end_date < self.start_date:
            raise InvalidArgument("DATE_RANGE_INVALID")

    async def _check_parent(self, call: Call) -> "Campaign | None":
        if not self.parent:
            return None
        # Locked, so that two parts cannot share out the same budget.
        parent = await call.named(Campaign, self.parent, lock=True)
        if parent is not None and parent.state in OVER:
            raise FailedPrecondition("PARENT_CLOSED")
        return parent

    async def _check_tree(self, call: Call) -> None:
        parent = await self._check_parent(call)
        async with call.everybody():
            if parent:
                above = list(await call.db.scalars(_ABOVE, {"parent": self.parent}))
                if self.name in above:
                    raise FailedPrecondition("CAMPAIGN_CYCLE")
                if len(above) + (await call.db.scalar(_BELOW, {"name": self.name}) or 1) > DEEPEST:
                    raise FailedPrecondition("CAMPAIGN_TOO_DEEP", limit=DEEPEST)
                await self._check_share(parent, call)
            await self._check_shares(call)

    async def _check_share(self, parent: "Campaign", call: Call) -> None:
        """Within the parent's budget there is room for this one beside the others."""
        if not self.budget or not parent.budget:
            return
        _same_currency(parent.budget, self.budget)
        others = await _sum_of(parent.name, call, Campaign.id != self.id)
        if others + self.budget.amount > parent.budget.amount:
            raise FailedPrecondition(
                "BUDGET_EXCEEDS_PARENT", sum=others + self.budget.amount, budget=parent.budget.amount
            )

    async def _check_shares(self, call: Call) -> None:
        """This one's budget has room for those of its parts."""
        if not self.budget:
            return
        currencies = select(Campaign.__table__.c.budget_currency).where(
            Campaign.parent == self.name, Campaign.__table__.c.budget_currency.is_not(None)
        )
        for currency in await call.db.scalars(currencies.distinct()):
            _same_currency(self.budget, Money(Decimal(0), currency))
        parts = await _sum_of(self.name, call)
        if parts > self.budget.amount:
            raise FailedPrecondition("BUDGET_EXCEEDS_PARENT", sum=parts, budget=self.budget.amount)

    async def _check_children(self, call: Call) -> None:
        statement = select(func.count()).where(
            Campaign.parent == self.name, Campaign.state.in_(["RUNNING", "PAUSED"])
        )
        async with call.everybody():
            running = await call.db.scalar(statement) or 0
        if running:
            raise FailedPrecondition("CHILDREN_RUNNING", count=running)


async def _sum_of(parent: str, call: Call, *conditions: Any) -> Decimal:
    """The budgets of the parts, given up ones aside."""
    amount = Campaign.__table__.c.budget_amount
    statement = select(func.coalesce(func.sum(amount), 0)).where(
        Campaign.parent == parent, Campaign.state != "CANCELLED", *conditions
    )
    return Decimal(await call.db.scalar(statement) or 0)


def _same_currency(expected: Money, found: Money) -> None:
    if expected.currency != found.currency:
        raise InvalidArgument("CURRENCY_MISMATCH", expected=expected.currency, found=found.currency)


def _a_year_on(day: date) -> date:
    return day.replace(year=day.year + 1, day=min(day.day, 28) if day.month == 2 else day.day)
