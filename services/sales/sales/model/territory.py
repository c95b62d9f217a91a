"""Territories in force, who works in them, their customers, and what a plan moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import employed
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sales.model.base import Base
from sqlalchemy import BigInteger, DateTime, Index, Text, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column


class Territory(Resource, Base):
    """A part of the market with the people who look after it. A plan changes it, but for its members."""

    __message__ = pb.Territory
    __table_args__ = (
        Index("territories_code_key", "code", unique=True, postgresql_where=text("state = 'ACTIVE'")),
        Index("territories_next_time_index", "next_time", postgresql_where=text("next_time IS NOT NULL")),
    )

    display_name: Mapped[str]
    code: Mapped[str]
    parent: Mapped[str]
    criteria: Mapped[Any]
    product_line: Mapped[str]
    priority: Mapped[int]
    fallback: Mapped[bool]
    members: Mapped[Any]
    plan: Mapped[str]
    state: Mapped[str]
    # When a member begins or ends next.
    next_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    def add_member(self, member: Any, call: Call) -> None:
        """Lets somebody work here from a time to a time."""
        self.check_state("ACTIVE")
        if not employed(member.employee, call):
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        if member.role == pb.TerritoryMember.OWNER:
            zh, en = "负责人只能通过划分方案变更。", "The owner changes by a plan."
            raise Validation(Violation("member.role", "OUT_OF_RANGE", zh, en))
        made = pb.TerritoryMember()
        made.CopyFrom(member)
        made.role = pb.TerritoryMember.MEMBER
        rest = [
            one for one in self.members
            if one.employee != member.employee or one.role == pb.TerritoryMember.OWNER
        ]  # fmt: skip
        self.members = [*rest, made]
        self.wind(call.now)

    def remove_member(self, employee: str, until: datetime | None, call: Call) -> None:
        """Ends that, now or at a time."""
        self.check_state("ACTIVE")
        kept, found = list[Any](), False
        for one in self.members:
            if one.employee != employee or one.role == pb.TerritoryMember.OWNER:
                kept.append(one)
                continue
            last = span(one)[1]
            found = found or last is None or last > call.now
            if until is not None and until > call.now:
                ended = pb.TerritoryMember()
                ended.CopyFrom(one)
                ended.to_time.CopyFrom(to_timestamp(until))
                kept.append(ended)
        if not found:
            raise FailedPrecondition("MEMBER_UNKNOWN")
        self.members = kept
        self.wind(call.now)

    def wind(self, now: datetime) -> None:
        """Notes when a member begins or ends next."""
        moments = [moment for one in self.members for moment in span(one) if moment and moment > now]
        self.next_time = min(moments, default=None) if self.state == "ACTIVE" else None


class TerritoryAccount(Resource, Base):
    """The territory of a customer; seen by whoever sees the customer."""

    __message__ = pb.TerritoryAccount
    scoped_by = "accounts"
    follows_merges = False
    __table_args__ = (Index("territory_accounts_account_key", "account", "product_line", unique=True),)

    account: Mapped[str]
    territory: Mapped[str]
    product_line: Mapped[str]
    criterion: Mapped[str]
    matched: Mapped[str]
    # The version of the customer that it follows.
    known: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # Who works on the customer by its territories, as the customer service was told.
    told: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))


class AccountHold(Base):
    """A merge, a dispute or a handover that keeps customers where they are for the time."""

    __tablename__ = "account_holds"
    __table_args__ = (Index("account_holds_subjects_index", "subjects", postgresql_using="gin"),)

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    # Customers, or the employee all of whose customers are held.
    subjects: Mapped[list[str]] = mapped_column(ARRAY(Text))


class AccountPerson(Base):
    """A person at a customer, by customer; without one where somebody works at none."""

    __tablename__ = "account_people"
    __table_args__ = (Index("account_people_account_index", "account", "name"),)

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(Text)
    display_name: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger)


class TerritoryMove(Resource, Base):
    """A customer that changes hands by a plan."""

    __message__ = pb.TerritoryMove
    follows_merges = False
    handed_over = False
    __table_args__ = (
        Index("territory_moves_plan_key", "plan", "account", unique=True),
        Index("territory_moves_state_index", "plan", "state", "account"),
    )

    plan: Mapped[str]
    account: Mapped[str]
    # `from` is added by the message; the attribute is a word of the language.
    to: Mapped[str]
    reason: Mapped[str]
    batch: Mapped[int]
    added: Mapped[bool]
    state: Mapped[str]


async def in_force(call: Call) -> list[Territory]:
    """All territories that count now."""
    async with call.everybody():
        found = select(Territory).where(Territory.state == "ACTIVE").order_by(Territory.code)
        return list(await call.db.scalars(found))


def as_nodes(territories: Sequence[Territory]) -> list[Any]:
    """Territories as a plan would write them."""
    codes = {one.name: one.code for one in territories}
    return [
        pb.TerritoryPlan.Node(
            code=one.code, display_name=one.display_name, parent=codes.get(one.parent, ""), criteria=one.criteria,
            product_line=one.product_line, priority=one.priority, fallback=one.fallback, members=one.members,
        )
        for one in territories
    ]  # fmt: skip


def span(member: Any) -> tuple[datetime | None, datetime | None]:
    """From when to when somebody works there."""
    first = member.from_time.ToDatetime(UTC) if member.HasField("from_time") else None
    last = member.to_time.ToDatetime(UTC) if member.HasField("to_time") else None
    return first, last


def works(member: Any, now: datetime) -> bool:
    """Whether somebody works there at a moment: from the first instant, no longer at the last."""
    first, last = span(member)
    return (first is None or first <= now) and (last is None or now < last)


def owner_of(code: str, nodes: dict[str, Any], now: datetime) -> str:
    """Who owns the customers of a territory: its own owner, else that of the one around it."""
    return next(owners_of(code, nodes, now), "")


def in_turn(code: str, nodes: dict[str, Any], now: datetime) -> list[str]:
    """Who takes what comes to a territory: its owner, then those who work in it, then the owners around it."""
    owners = list(owners_of(code, nodes, now))
    members = nodes[code].members if code in nodes else ()
    workers = [one.employee for one in members if works(one, now) and one.access != pb.TerritoryMember.READ]
    return list(dict.fromkeys([*owners[:1], *workers, *owners[1:]]))


def owners_of(code: str, nodes: dict[str, Any], now: datetime) -> Iterator[str]:
    """The owners of a territory and of those around it, from the inside out."""
    for _ in range(len(nodes) + 1):
        node = nodes.get(code)
        if node is None:
            return
        yield from (
            member.employee
            for member in node.members
            if member.role == pb.TerritoryMember.OWNER and works(member, now)
        )
        code = node.parent
