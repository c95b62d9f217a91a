"""Joint work: our own people ask to work on a deal that a partner has registered (DR-4)."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.call import Call
from crmkit.company import employed, today
from crmkit.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Validation,
    check_reason,
    required,
)
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from crmkit.workdays import is_working_day
from sales.model.base import Base
from sales.model.contact_keys import company_key
from sales.model.deal_registration import DECIDE_WITHIN, REVIEWER, DealRegistration, regions_of
from sales.model.opportunity import TOO_LARGE_SPLIT, Opportunity
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped


class JointWorkRequest(Resource, Base):
    """One request. Who has the registration answers; after two working days of silence the superior is asked too."""

    __message__ = pb.JointWorkRequest
    __table_args__ = (
        Index("joint_work_requests_due_index", "due_time", postgresql_where=text("state = 'OPEN'")),
        Index("joint_work_requests_registration_index", "deal_registration"),
        Index(
            "joint_work_requests_once_key", "deal_registration", "account", "owner", unique=True,
            postgresql_where=text("state IN ('OPEN', 'ACCEPTED')"),
        ),
    )  # fmt: skip

    account: Mapped[str]
    product_lines: Mapped[list[str]]
    message: Mapped[str]
    deal_registration: Mapped[str]
    asked: Mapped[list[str]]
    due_time: Mapped[datetime | None]
    answer: Mapped[str]
    split: Mapped[Decimal | None]
    opportunity: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Asks whoever has the registration; NOT_PROTECTED where there is none, JOINT_WORK_ASKED where one has asked."""
        account = await call.copy(self.account) or {}
        async with call.everybody():
            rows = select(DealRegistration).where(
                DealRegistration.company_key == company_key(str(account.get("displayName", ""))),
                DealRegistration.state.in_(("APPROVED", "CONVERTED")),
            )
            wanted = set(self.product_lines) or None
            found = [
                one
                for one in await call.db.scalars(rows.order_by(DealRegistration.submit_time))
                if one.protected(today(call)) and one.concerns(wanted, regions_of(account))
            ]
        if not found:
            raise FailedPrecondition("NOT_PROTECTED")
        if len(found) > 1 and not wanted:
            raise Validation(required("joint_work_request.product_lines"))
        self.state, self.deal_registration = "OPEN", found[0].name
        await call.one_at_a_time([f"{self.deal_registration} {self.account} {self.owner}"])
        earlier = await call.find(
            JointWorkRequest,
            JointWorkRequest.deal_registration == self.deal_registration,
            JointWorkRequest.account == self.account,
            JointWorkRequest.owner == self.owner,
            JointWorkRequest.state.in_(("OPEN", "ACCEPTED")),
        )
        if earlier is not None:
            raise AlreadyExists("JOINT_WORK_ASKED", request=earlier.name)
        self.due_time = _two_working_days_after(call.now)
        self._ask(found[0].owner, call)

    async def accept(self, split: Decimal | None, call: Call) -> None:
        """Both work on the one deal: at once where there is one, else as soon as the registration becomes it."""
        self._check_answers(call)
        async with call.everybody():
            registration = await call.named(DealRegistration, self.deal_registration, lock=True)
            if registration is None:
                raise NotFound()
            registration.check_live(call)
            agreed = await accepted(registration, call)
            promised = sum((one.split or Decimal(0) for one in agreed), registration.split or Decimal(0))
            if promised + (split or 0) > HUNDRED:
                raise Validation(TOO_LARGE_SPLIT)
            self.state, self.split = "ACCEPTED", split
            if registration.opportunity:
                deal = await call.named(Opportunity, registration.opportunity, lock=True)
                if deal is None:
                    raise NotFound()
                self.join(deal)
            await call.flush()
            told = "我方同事将与您协同推进", "is worked on together with a colleague of ours from now on"
            await registration.tell_partner(f"JOINT:{self.name}", *told, call)
        self._tell_answer(call)

    def decline(self, reason: str, call: Call) -> None:
        """The partner goes on alone."""
        self._check_answers(call)
        self.state, self.answer = "DECLINED", check_reason(reason)
        self._tell_answer(call)

    def withdraw(self, call: Call) -> None:
        """Whoever has asked no longer wants to."""
        if call.caller.employee != self.owner:
            raise PermissionDenied("NOT_YOUR_REQUEST")
        self.check_state("OPEN")
        self.state = "WITHDRAWN"
        self._tell_answer(call)

    def join(self, deal: Opportunity) -> None:
        """Lets whoever has asked work on the deal, for the share that was agreed."""
        deal.join(self.owner, self.split)
        self.opportunity = deal.name

    def escalate(self, call: Call) -> None:
        """Nobody has answered in time: the superior of who was asked is asked too, once."""
        self.due_time = None
        entry = call.entry(self.asked[-1]) if self.asked else {}
        self._ask(str(entry.get("superior") or ""), call)

    def _ask(self, employee: str, call: Call) -> None:
        if not employed(employee, call) or employee in self.asked:
            return
        self.asked = [*self.asked, employee]
        self.collaborators = list(dict.fromkeys([*self.collaborators, employee]))
        due = to_timestamp(self.due_time or call.now)
        call.emit(events.JointWorkAsked, joint_work_request=self, people=[employee], due=due)

    def _tell_answer(self, call: Call) -> None:
        people = [self.owner] if self.owner != call.caller.employee else []
        call.emit(events.JointWorkAnswered, joint_work_request=self, people=people)

    def _check_answers(self, call: Call) -> None:
        self.check_state("OPEN")
        if call.caller.employee not in self.asked and not call.caller.may(REVIEWER):
            raise PermissionDenied("NOT_ASKED")


async def accepted(registration: DealRegistration, call: Call) -> list[JointWorkRequest]:
    """Who was let in, in the order of asking."""
    rows = select(JointWorkRequest).where(
        JointWorkRequest.deal_registration == registration.name, JointWorkRequest.state == "ACCEPTED"
    )
    return list(await call.db.scalars(rows.order_by(JointWorkRequest.id)))


async def mind_joint_work(now: datetime, limit: int, call: Call) -> None:
    """Asks the superiors where nobody has answered in time."""
    late = select(JointWorkRequest).where(JointWorkRequest.state == "OPEN", JointWorkRequest.due_time <= now)
    for request in await call.db.scalars(
        late.order_by(JointWorkRequest.due_time).limit(limit).with_for_update(skip_locked=True)
    ):
        request.escalate(call)


def _two_working_days_after(start: datetime) -> datetime:
    due, left = start, DECIDE_WITHIN
    while left:
        due += timedelta(days=1)
        left -= is_working_day(due.astimezone(ZONE).date())
    return due
