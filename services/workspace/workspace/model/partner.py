"""Companies that sell for us: the agreement with each, and which of its people come in."""

from datetime import date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Validation,
    Violation,
    check_reason,
)
from crmkit.listing import ZONE
from crmkit.resource import Resource
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.employee import Employee, check_roles_not_held
from workspace.model.known_record import KnownRecord
from workspace.model.session import Session, end_all
from workspace.telling import notify

# What every person of a partner may do; no more than portals are given at all.
ROLE = "partner"
# Days before the end of an agreement on which its manager is told.
WARNINGS = (60, 30, 7)
RESTS = ("SUSPENDED", "ENDED")


class Partner(Resource, Base):
    """A partnership. Its people and keys come in only while it does not rest, and one company has one at a time."""

    __message__ = pb.Partner
    __table_args__ = (Index("partners_end_index", "end_date", postgresql_where=text("state = 'ACTIVE'")),)

    display_name: Mapped[str]
    account: Mapped[str]
    kind: Mapped[str]
    grade: Mapped[str]
    regions: Mapped[list[str]]
    product_lines: Mapped[list[str]]
    start_date: Mapped[date | None]
    end_date: Mapped[date | None]
    agreement: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str]
    users: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """An application. Whoever of the company comes in already looks after its people."""
        self._check_days()
        # No unique index: a merge of two companies that both sell for us must not fail for it.
        await call.one_at_a_time([f"partners:{self.account}"])
        async with call.everybody():
            other = await call.db.scalar(
                select(Partner.number).where(Partner.account == self.account, Partner.state != "ENDED")
            )
            people = await call.db.scalars(
                select(Employee)
                .where(Employee.account == self.account, Employee.state != "OFFBOARDED")
                .order_by(Employee.id)
                .limit(500)
            )
            there = [pb.Partner.User(employee=one.name, administrator=True) for one in people]
        if other is not None:
            raise FailedPrecondition("PARTNER_EXISTS", number=other)
        self.state, self.users = "APPLIED", there

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What was agreed may be agreed anew until it is over."""
        self.check_state("APPLIED", "ACTIVE", "SUSPENDED")
        self._check_days()

    async def deleting(self, call: Call) -> None:
        """Only an application goes."""
        self.check_state("APPLIED")

    def approve(self, call: Call) -> None:
        """Takes the partner on."""
        self.check_state("APPLIED")
        self._begin(call)

    async def suspend(self, reason: str, call: Call) -> None:
        """Rests: nothing new begins, nobody comes in."""
        self.check_state("ACTIVE")
        self.state, self.state_reason = "SUSPENDED", check_reason(reason)
        await self._sign_out(call)
        call.emit(events.PartnerSuspended, partner=self)

    def resume(self, call: Call) -> None:
        """Goes on."""
        self.check_state("SUSPENDED")
        self._begin(call)

    async def end(self, reason: str, leave_deals: bool, call: Call) -> None:
        """Is over. Deals that are open are closed before, or go on without the partner."""
        self.check_state("ACTIVE", "SUSPENDED")
        reason = check_reason(reason)
        if not leave_deals and (count := await self._open_deals(call)):
            raise FailedPrecondition("PARTNER_HAS_OPEN_DEALS", count=count)
        self.state, self.state_reason = "ENDED", reason
        await self._sign_out(call)
        call.emit(events.PartnerEnded, partner=self)

    def set_grade(self, grade: str) -> None:
        """Gives a grade, and with it the prices that are for it."""
        self.check_state("APPLIED", "ACTIVE", "SUSPENDED")
        self.grade = grade

    async def invite_user(self, request: Any, call: Call) -> None:
        """Makes the account of one of its people; the first one is an administrator whatever was said."""
        self.check_state("ACTIVE")
        self._check_administrator(call)
        async with call.everybody():
            person = await call.add(
                Employee(
                    display_name=request.display_name, username=request.username, email=request.email,
                    kind="PARTNER_USER", account=self.account, department=self.department,
                )
            )  # fmt: skip
            # The role is part of being one of a partner's people, so that giving it is this verb's permission alone.
            check_roles_not_held(person, call)
            person.roles = [ROLE]
            await call.flush()
        administrator = request.administrator or not any(one.administrator for one in self.users)
        self.users = [*self.users, pb.Partner.User(employee=person.name, administrator=administrator)]

    async def remove_user(self, employee: str, reason: str, call: Call) -> None:
        """Freezes the account of one of its people; somebody has to be left who can let others in."""
        self._check_administrator(call)
        reason = check_reason(reason)
        gone = next((one for one in self.users if one.employee == employee), None)
        if gone is None:
            raise NotFound
        left = [one for one in self.users if one.employee != employee]
        if gone.administrator and not any(one.administrator for one in left):
            raise FailedPrecondition("LAST_PARTNER_ADMIN")
        async with call.everybody():
            person = await call.named(Employee, employee)
            if person is not None and person.state in ("INVITED", "ACTIVE"):
                await person.freeze(reason, call)
            await call.flush()
        self.users = left

    def _begin(self, call: Call) -> None:
        if self.start_date is None or self.end_date is None or self.end_date < today(call):
            raise FailedPrecondition("PARTNER_NO_AGREEMENT")
        self.state, self.state_reason = "ACTIVE", ""
        call.emit(events.PartnerActivated, partner=self)

    def _check_days(self) -> None:
        if self.start_date and self.end_date and self.end_date < self.start_date:
            text = "不能早于协议起始", "This lies before the first day."
            raise Validation(Violation("partner.end_date", "WRONG_ORDER", *text))

    def _check_administrator(self, call: Call) -> None:
        if not call.caller.account:
            return
        if not any(one.administrator and one.employee == call.caller.employee for one in self.users):
            raise PermissionDenied("NOT_A_PARTNER_ADMIN")

    async def _sign_out(self, call: Call) -> None:
        people = select(Employee.sql_name()).where(Employee.account == self.account)
        await end_all([Session.owner.in_(people)], "ACCESS_LOST", call)

    async def _open_deals(self, call: Call) -> int:
        deals = select(func.count()).where(
            KnownRecord.name.startswith("opportunities/"), ~KnownRecord.deleted,
            KnownRecord.record["channelPartner"].astext == self.account,
            KnownRecord.record["state"].astext.in_(["OPEN", "SUSPENDED"]),
        )  # fmt: skip
        return await call.db.scalar(deals) or 0


async def rests(account: str, call: Call) -> bool:
    """Whether those who belong to an account stay out: its last partnership rests or is over."""
    if not account:
        return False
    async with call.everybody():
        last = select(Partner.state).where(Partner.account == account).order_by(Partner.id.desc()).limit(1)
        return await call.db.scalar(last) in RESTS


async def warn_of_agreements(as_of: datetime, call: Call) -> None:
    """Tells the manager 60, 30 and 7 days before an agreement ends, once for each end; late only of the last step."""
    day = as_of.astimezone(ZONE).date()
    soon = select(Partner).where(
        Partner.state == "ACTIVE", Partner.end_date >= day, Partner.end_date <= day + timedelta(days=max(WARNINGS))
    )  # fmt: skip
    for partner in await call.db.scalars(soon.order_by(Partner.id).limit(1000)):
        days = ((partner.end_date or day) - day).days
        step = min(one for one in WARNINGS if days <= one)
        zh = f"合作伙伴“{partner.display_name}”的协议将于 {partner.end_date} 到期（还有 {days} 天）"
        en = f"The agreement with {partner.display_name} ends on {partner.end_date} ({days} days left)"
        key = f"agreement:{partner.name}:{partner.end_date}:{step}"
        await notify(call, [partner.owner], "partner", key, partner.name, zh, en)
