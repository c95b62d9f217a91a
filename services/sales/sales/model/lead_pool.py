"""Pools of leads without an owner, and what waits in them as the members see it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.company import with_beneath
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from sales.model.base import Base, coming_from
from sqlalchemy import ColumnElement, DateTime, Index, Text, Uuid, exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

if TYPE_CHECKING:
    from sales.model.lead import Lead

HIDEABLE = frozenset(["displayName", "companyName", "personName", "phone", "email", "need"])
MANAGE = "sales.leadPools.manage"


class LeadIntake(Resource, Base):
    """What happens to leads of certain channels: where they wait, and how soon somebody must answer."""

    __message__ = pb.LeadIntake

    display_name: Mapped[str]
    position: Mapped[int]
    channels: Mapped[list[str]]
    pool: Mapped[str]
    lead_department: Mapped[str]
    first_response_minutes: Mapped[int]
    superior_days: Mapped[int]
    reassign_days: Mapped[int]
    pool_days: Mapped[int]
    opens: Mapped[Any]
    closes: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """The steps come one after the other."""
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """They still do."""
        self._check()

    def _check(self) -> None:
        days = [self.superior_days or 3, self.reassign_days or 5, self.pool_days or 7]
        if days != sorted(set(days)):
            zh, en = (
                "升级、重新分配、退回的天数必须依次增加。",
                "Each step must come later than the one before.",
            )
            raise Validation(Violation("lead_intake.pool_days", "OUT_OF_RANGE", zh, en))
        if (self.opens or 9) >= (self.closes or 18):
            zh, en = "下班时间必须晚于上班时间。", "It must close after it opens."
            raise Validation(Violation("lead_intake.closes", "OUT_OF_RANGE", zh, en))


class LeadPool(Resource, Base):
    """Leads without an owner that the members may claim."""

    __message__ = pb.LeadPool

    display_name: Mapped[str]
    member_departments: Mapped[list[str]]
    member_roles: Mapped[list[str]]
    member_employees: Mapped[list[str]]
    managers: Mapped[list[str]]
    hidden_fields: Mapped[list[str]]
    state: Mapped[str]
    # The members as a caller names itself: departments with all below, people, "roles/<code>".
    audience: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")

    async def creating(self, call: Call) -> None:
        """A new pool is open."""
        self.state = "OPEN"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Keeps the members as they are found by."""
        self._check(call)
        if "hidden_fields" in changed:
            for item in await call.db.scalars(select(LeadPoolItem).where(LeadPoolItem.pool == self.name)):
                item.show(await lead_of(item, call), self)

    async def close(self, call: Call) -> None:
        """Takes it out of use."""
        self.check_state("OPEN")
        if await call.find(LeadPoolItem, LeadPoolItem.pool == self.name) is not None:
            raise FailedPrecondition("POOL_NOT_EMPTY")
        self.state = "CLOSED"

    def has_member(self, caller: Caller) -> bool:
        """Whether the caller may claim here."""
        return bool(
            set(self.audience) & {caller.employee, *caller.departments, caller.department, *roles_of(caller)}
        )

    def managed_by(self, caller: Caller) -> bool:
        """Whether the caller assigns out of it and sees what it hides."""
        return caller.is_system or caller.employee in self.managers or caller.may(MANAGE)

    def takes_from(self, owner: str, call: Call) -> bool:
        """Whether what an employee has may come into it: where the employee could claim it again."""
        entry = call.entry(owner)
        mine = {owner, entry.get("department", ""), *(f"roles/{role}" for role in entry.get("roles", ()))}
        return bool(set(self.audience) & mine)

    def _check(self, call: Call) -> None:
        if wrong := sorted(set(self.hidden_fields) - HIDEABLE):
            zh, en = f"不能隐藏字段“{wrong[0]}”。", f"The field {wrong[0]} cannot be hidden."
            raise Validation(Violation("lead_pool.hidden_fields", "UNKNOWN_FIELD", zh, en))
        members = {
            *with_beneath(self.member_departments, call),
            *self.member_employees,
            *(f"roles/{role}" for role in self.member_roles),
        }
        self.audience = sorted(members)


class LeadPoolItem(Resource, Base):
    """A lead's stay in a pool as the members see it; what the pool hides is not in the row."""

    __message__ = pb.LeadPoolItem
    __table_args__ = (
        Index("lead_pool_items_lead_key", "lead", unique=True),
        Index("lead_pool_items_pooled_time_index", "pool", "pooled_time"),
    )

    display_name: Mapped[str]
    lead: Mapped[str]
    pool: Mapped[str]
    lead_number: Mapped[str]
    company_name: Mapped[str]
    person_name: Mapped[str]
    phone: Mapped[str]
    email: Mapped[str]
    need: Mapped[str]
    channel: Mapped[str]
    product_lines: Mapped[list[str]]
    rating: Mapped[str]
    score: Mapped[int]
    pooled_time: Mapped[datetime | None]
    how: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Members and managers see their pools; portal callers none."""
        if caller.is_system or caller.may(MANAGE):
            return None
        names = [n for n in (caller.employee, caller.department, *caller.departments, *roles_of(caller)) if n]
        row: Any = cls
        members: Any = LeadPool.audience
        mine = or_(
            members.op("&&")(names), func.array_position(LeadPool.managers, caller.employee).is_not(None)
        )
        return exists(select(LeadPool.id).where(LeadPool.sql_name() == row.pool, mine))

    def show(self, lead: Lead, pool: LeadPool) -> None:
        """Takes over from the lead what the pool does not hide."""
        shown = {
            "displayName": lead.display_name,
            "companyName": lead.company_name,
            "personName": lead.person_name,
            "phone": next((phone.number for phone in lead.phones), ""),
            "email": next((email.address for email in lead.emails), ""),
            "need": lead.need,
        }
        hidden = dict.fromkeys(pool.hidden_fields, "")
        if "displayName" in hidden:
            hidden["displayName"] = lead.number or "＊"
        for name, value in (shown | hidden).items():
            setattr(self, "".join(f"_{c.lower()}" if c.isupper() else c for c in name), value)
        self.lead_number, self.channel, self.rating, self.score = (
            lead.number,
            lead.channel,
            lead.rating,
            lead.score,
        )
        self.product_lines = [interest.product_line for interest in lead.interests if interest.product_line]


class LeadMoment(Base):
    """What happened to a lead, and when: the past on which versions of rules are simulated."""

    __tablename__ = "lead_moments"
    __table_args__ = (Index("lead_moments_employee_index", "employee", "kind", "time"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    lead: Mapped[UUID] = mapped_column(Uuid, index=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # OWNED, FREE, FOLLOW_UP, or the state that it came into.
    kind: Mapped[str] = mapped_column(Text)
    # Who got it; for FREE who lost it.
    employee: Mapped[str] = mapped_column(Text, server_default=text("''"))
    how: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # The pool that it was in then, or last.
    pool: Mapped[str] = mapped_column(Text, server_default=text("''"))


async def put_into_pool(lead: Lead, pool: LeadPool, how: str, reason: str, call: Call) -> None:
    """Clears the owner: the lead waits in the pool for the next one."""
    if pool.state != "OPEN":
        raise FailedPrecondition("POOL_CLOSED")
    before = lead.leave(pool.name, how, reason, call)
    item = LeadPoolItem(lead=lead.name, pool=pool.name, pooled_time=call.now, how=how)
    item.show(lead, pool)
    item.owner = item.department = ""
    await call.add(item)
    call.emit(
        events.LeadReturnedToPool, lead=lead, pool=pool.name, how=how, reason=reason, **coming_from(before)
    )


async def take_out(lead: Lead, call: Call) -> None:
    """Whoever got it, it waits no longer."""
    async with call.everybody():
        for item in await call.db.scalars(select(LeadPoolItem).where(LeadPoolItem.lead == lead.name)):
            await call.db.delete(item)


async def show_again(lead: Lead, call: Call) -> None:
    """Brings what members see of a waiting lead up to date."""
    item = await call.find(LeadPoolItem, LeadPoolItem.lead == lead.name, lock=True)
    pool = await pool_of(lead.pool, call)
    if item is not None and pool is not None:
        item.show(lead, pool)


async def pool_of(name: str, call: Call) -> LeadPool | None:
    """The pool of a name."""
    return await call.named(LeadPool, name)


async def home_of(owner: str, call: Call) -> str:
    """The oldest open pool into which what an employee has may go; empty where there is none."""
    async with call.everybody():
        pools = await call.db.scalars(select(LeadPool).where(LeadPool.state == "OPEN").order_by(LeadPool.id))
        return next((pool.name for pool in pools if pool.takes_from(owner, call)), "")


async def lead_of(item: LeadPoolItem, call: Call) -> Lead:
    """The lead of a stay."""
    from sales.model.lead import Lead

    async with call.everybody():
        return (
            await call.db.scalars(select(Lead).where(Lead.id == UUID(item.lead.rpartition("/")[2])))
        ).one()


async def intake_of(channel: str, call: Call) -> LeadIntake | None:
    """The intake that counts for a channel."""
    statement = select(LeadIntake).order_by(LeadIntake.position, LeadIntake.id)
    async with call.everybody():
        found = list(await call.db.scalars(statement))
    return next((one for one in found if not one.channels or channel in one.channels), None)


def roles_of(caller: Caller) -> list[str]:
    """The caller's roles as members are written."""
    return [f"roles/{role}" for role in caller.roles]
