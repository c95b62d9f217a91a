"""The support request: help on a deal, from one after the other until somebody answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import employed
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation, required
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sales.model.base import HANDOVER, Base
from sales.model.opportunity import Opportunity
from sales.model.tip import experts
from sqlalchemy import Index, func, or_, select, text
from sqlalchemy.orm import Mapped

WAITING = ("OPEN", "ACCEPTED")
PATIENCE = timedelta(days=2)
# How long those who were asked see a deal that is closed.
AFTERWARDS = timedelta(days=14)
KNOWN = 3


class SupportRequest(Resource, Base):
    """A question to the experts in their order, then to the superior of whoever asks; each is asked once."""

    __message__ = pb.SupportRequest
    __table_args__ = (
        Index("support_requests_due_index", "due_time", postgresql_where=text("state IN ('OPEN', 'ACCEPTED')")),
    )  # fmt: skip

    opportunity: Mapped[str]
    kind: Mapped[str]
    question: Mapped[str]
    skill: Mapped[str]
    experts: Mapped[list[str]]
    expert: Mapped[str]
    due_time: Mapped[datetime | None]
    asked: Mapped[Any]
    answer: Mapped[str]
    patience_minutes: Mapped[int]
    let_in: Mapped[list[str]]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Asks the first one."""
        due = self.due_time or call.now + PATIENCE
        self.due_time = due
        if due <= call.now:
            zh, en = "截止时间必须晚于现在。", "An answer is needed in the future."
            raise Validation(Violation("support_request.due_time", "OUT_OF_RANGE", zh, en))
        self.patience_minutes = max(int((due - call.now).total_seconds()) // 60, 1)
        deal = await self._deal(call)
        if deal is None or deal.state not in ("OPEN", "SUSPENDED"):
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=deal.state if deal else "")
        if not self.experts and self.skill:
            found = (await experts(self.skill, call)).experts
            self.experts = [one.employee for one in found if one.employee != call.caller.employee][:KNOWN]
        self.state = "OPEN"
        if not await self._ask_next("", call):
            raise Validation(required("support_request.experts"))

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The question changes while nobody has answered."""
        if changed - HANDOVER:
            self.check_state(*WAITING)

    def accept(self, call: Call) -> None:
        """The one who is asked works on it."""
        self._only_expert(call)
        self.check_state("OPEN")
        self.state = "ACCEPTED"

    def reply(self, said: str, call: Call) -> None:
        """The one who is asked answers."""
        self._only_expert(call)
        self.check_state(*WAITING)
        self.state, self.answer = "ANSWERED", said
        call.emit(events.SupportAnswered, support_request=self, people=[self.owner])

    async def decline(self, text: str, call: Call) -> None:
        """The one who is asked cannot help: the next one is asked at once."""
        self._only_expert(call)
        self.check_state(*WAITING)
        async with call.everybody():
            if not await self._ask_next(text, call):
                self.state, self.answer = "DECLINED", text
                call.emit(events.SupportAnswered, support_request=self, people=[self.owner])
            await call.flush()

    def close(self, call: Call) -> None:
        """Whoever has asked needs no more."""
        if call.caller.employee != self.owner:
            raise PermissionDenied("NOT_YOUR_REQUEST")
        self.check_state(*WAITING, "ANSWERED", "DECLINED")
        self.state = "CLOSED"

    async def escalate(self, call: Call) -> None:
        """Nobody has answered in time: the next one is asked; where nobody is left, it waits for the last."""
        if not await self._ask_next("LATE", call):
            self.due_time = None

    async def let_out(self, deal: Opportunity) -> None:
        """The deal is closed for long: those who were asked see it no more."""
        deal.collaborators = [one for one in deal.collaborators if one not in self.let_in]
        self.let_in = []

    async def _ask_next(self, because: str, call: Call) -> bool:
        """Asks the next expert, after the last one the superior; False where everybody was asked."""
        before = {one.employee for one in self.asked} | {self.owner or call.caller.employee}
        entry = call.entry(self.owner or call.caller.employee)
        ladder = [*((one, "NEXT_EXPERT") for one in self.experts), (entry.get("superior") or "", "SUPERIOR")]
        following = next(
            ((who, step) for who, step in ladder if employed(who, call) and who not in before), None
        )
        if following is None:
            return False
        who, step = following
        step = step if self.asked or step == "SUPERIOR" else "FIRST"
        asked = pb.SupportRequest.Asked(employee=who, time=to_timestamp(call.now), step=step, because=because)
        self.asked, self.expert, self.state = [*self.asked, asked], who, "OPEN"
        due = self.due_time or call.now + PATIENCE
        self.due_time = due = call.now + timedelta(minutes=self.patience_minutes) if because else due
        self.collaborators = list(dict.fromkeys([*self.collaborators, who]))
        deal = await self._deal(call)
        if deal is not None and who != deal.owner and who not in deal.collaborators:
            deal.collaborators = [*deal.collaborators, who]
            self.let_in = [*self.let_in, who]
        call.emit(events.SupportRequested, support_request=self, people=[who], due=to_timestamp(due))
        return True

    async def _deal(self, call: Call) -> Opportunity | None:
        async with call.everybody():
            return await call.named(Opportunity, self.opportunity, lock=True)

    def _only_expert(self, call: Call) -> None:
        if call.caller.employee != self.expert:
            raise PermissionDenied("NOT_THE_EXPERT")


async def mind_requests(now: datetime, limit: int, call: Call) -> None:
    """Passes on what nobody has answered in time, and lets those out whose deal was closed two weeks ago."""
    late = select(SupportRequest).where(SupportRequest.state.in_(WAITING), SupportRequest.due_time <= now)
    for request in await call.db.scalars(
        late.order_by(SupportRequest.due_time).limit(limit).with_for_update(skip_locked=True)
    ):
        await request.escalate(call)
    await call.flush()
    over = (
        select(SupportRequest, Opportunity)
        .join(Opportunity, SupportRequest.opportunity == Opportunity.sql_name())
        .where(
            func.cardinality(SupportRequest.let_in) > 0,
            or_(Opportunity.state == "WON", Opportunity.state == "LOST"),
            Opportunity.close_time <= now - AFTERWARDS,
        )
        .order_by(SupportRequest.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    for row in (await call.db.execute(over)).all():
        await row[0].let_out(row[1])
