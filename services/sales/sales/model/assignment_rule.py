"""Who gets a lead that nobody owns: the first rule that fits, and in it the next person in turn."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import employed, today
from crmkit.errors import FailedPrecondition
from crmkit.mapping import read_date
from crmkit.resource import Resource
from sales.engine.policies import covers
from sales.model.absence import absent
from sales.model.base import Base
from sales.model.known_number import records_with
from sales.model.territory import as_nodes, in_force, in_turn
from sales.territory_map import Place, TerritoryMap
from sqlalchemy import DateTime, ForeignKey, Index, Integer, Text, Uuid, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

if TYPE_CHECKING:
    from sales.model.lead import Lead

MONTH = timedelta(days=30)


class AssignmentTurn(Base):
    """How far a member is from his next turn: the more, the sooner. Who is passed over gathers nothing."""

    __tablename__ = "assignment_turns"

    rule: Mapped[UUID] = mapped_column(
        Uuid, ForeignKey("assignment_rules.id", ondelete="CASCADE"), primary_key=True
    )
    employee: Mapped[str] = mapped_column(Text, primary_key=True)
    credit: Mapped[int] = mapped_column(Integer)


class Assignment(Base):
    """A lead that a rule gave to somebody, for limits by time."""

    __tablename__ = "assignments"
    __table_args__ = (Index("assignments_employee_time_index", "employee", "time"),)

    lead: Mapped[UUID] = mapped_column(Uuid, ForeignKey("leads.id", ondelete="CASCADE"), primary_key=True)
    employee: Mapped[str] = mapped_column(Text)
    rule: Mapped[UUID] = mapped_column(Uuid)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AssignmentRule(Resource, Base):
    """Which leads go to whom in turn."""

    __message__ = pb.AssignmentRule

    display_name: Mapped[str]
    position: Mapped[int]
    channels: Mapped[list[str]]
    regions: Mapped[list[str]]
    product_lines: Mapped[list[str]]
    segments: Mapped[list[str]]
    ratings: Mapped[list[str]]
    method: Mapped[str]
    members: Mapped[Any]
    pool: Mapped[str]
    min_score: Mapped[int]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.state, self.method = "DRAFT", self.method or "ROUND_ROBIN"

    def activate(self) -> None:
        """Lets it give leads."""
        self.check_state("DRAFT", "RETIRED")
        needs_none = (self.method == "POOL" and self.pool) or self.method in _BY_RECORD
        if not needs_none and not any(self._weight(member) for member in self.members):
            raise FailedPrecondition("RULE_HAS_NO_MEMBER")
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Ends it."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def misfit(self, lead: Lead) -> str:
        """Why it is not for a lead; empty where it is."""
        lines = {interest.product_line for interest in lead.interests}
        tests = (
            (self.channels, lead.channel in self.channels, "OTHER_CHANNEL"),
            (
                self.regions,
                any(covers(region, lead.division_code) for region in self.regions),
                "OTHER_REGION",
            ),
            (self.product_lines, bool(lines & set(self.product_lines)), "OTHER_PRODUCT"),
            (self.segments, lead.segment in self.segments, "OTHER_SEGMENT"),
            (self.ratings, lead.rating in self.ratings, "OTHER_RATING"),
            (self.min_score, lead.score >= self.min_score, "LOW_SCORE"),
        )
        return next((reason for wanted, fits, reason in tests if wanted and not fits), "")

    async def passed_over(self, call: Call) -> dict[str, str]:
        """The members who get nothing now, with the reason."""
        day, found = today(call), dict[str, str]()
        on_leave = await absent([member.employee for member in self.members], call)
        for member in self.members:
            if not employed(member.employee, call):
                found[member.employee] = "INACTIVE"
            elif _away(member, day) or member.employee in on_leave:
                found[member.employee] = "AWAY"
            elif not self._weight(member):
                found[member.employee] = "NO_WEIGHT"
            elif await self._full(member, call):
                found[member.employee] = "FULL"
        return found

    async def next_of(self, free: list[Any], call: Call) -> str:
        """Whose turn it is, among the members who may get something; the turn is not taken yet."""
        if self.method == "LEAST_OPEN":
            counts = {member.employee: await _open_leads(member.employee, call) for member in free}
            return min(free, key=lambda member: counts[member.employee]).employee
        credit = await self._credits(call)
        return max(free, key=lambda member: credit.get(member.employee, 0) + self._weight(member)).employee

    async def take_turn(self, employee: str, free: list[Any], call: Call) -> None:
        """Everybody in the round moves on by his weight; whoever got the lead pays the whole round."""
        if self.method == "LEAST_OPEN":
            return
        credit, whole = await self._credits(call), sum(self._weight(member) for member in free)
        rows = [
            {
                "rule": self.id, "employee": member.employee,
                "credit": credit.get(member.employee, 0) + self._weight(member) - (whole if member.employee == employee else 0),
            }
            for member in free
        ]  # fmt: skip
        statement = insert(AssignmentTurn)
        keys = [AssignmentTurn.rule, AssignmentTurn.employee]
        await call.db.execute(
            statement.on_conflict_do_update(index_elements=keys, set_={"credit": statement.excluded.credit}),
            rows,
        )

    async def _credits(self, call: Call) -> dict[str, int]:
        rows = await call.db.execute(
            select(AssignmentTurn.employee, AssignmentTurn.credit).where(AssignmentTurn.rule == self.id)
        )
        return {row.employee: row.credit for row in rows}

    def _weight(self, member: Any) -> int:
        return member.weight if self.method == "WEIGHTED" else 1

    async def _full(self, member: Any, call: Call) -> bool:
        if member.max_open and await _open_leads(member.employee, call) >= member.max_open:
            return True
        if not member.max_30_days:
            return False
        given = select(func.count()).where(
            Assignment.employee == member.employee, Assignment.time > call.now - MONTH
        )
        return (await call.db.scalar(given) or 0) >= member.max_30_days


async def assign_by_rule(lead: Lead, call: Call, besides: str = "") -> bool:
    """Gives a lead to the person whose turn it is; it stays as it is where no rule fits or nobody is free."""
    for rule in await rules(call, lock=True):
        if rule.misfit(lead):
            continue
        if rule.method == "POOL":
            lead.pool = rule.pool
            return False
        if rule.method in _BY_RECORD:
            free, _ = await _record_turn(rule.method, lead, call)
            if taker := next((one for one in free if one != besides), ""):
                await lead.assign(taker, call, rule=rule.name)
                return True
            continue
        busy = await rule.passed_over(call)
        free = [m for m in rule.members if m.employee not in busy and m.employee != besides]
        if not free:
            continue
        employee = await rule.next_of(free, call)
        await rule.take_turn(employee, free, call)
        await lead.assign(employee, call, rule=rule.name)
        row = {"lead": lead.id, "employee": employee, "rule": rule.id, "time": call.now}

        call.after_flush(partial(_keep, row, call))
        return True
    return False


async def _keep(row: dict[str, Any], call: Call) -> None:
    statement = insert(Assignment).values(**row)
    again = {key: row[key] for key in ("employee", "rule", "time")}
    await call.db.execute(statement.on_conflict_do_update(index_elements=[Assignment.lead], set_=again))


async def tested(lead: Lead, call: Call) -> pb.TestAssignmentResponse:
    """Who would get a lead, and why not the others."""
    reply = pb.TestAssignmentResponse()
    for rule in await rules(call):
        if reason := rule.misfit(lead):
            reply.reasons.add(rule=rule.name, reason=reason)
            continue
        if rule.method == "POOL":
            reply.rule, reply.pool = rule.name, rule.pool
            return reply
        if rule.method in _BY_RECORD:
            free, busy = await _record_turn(rule.method, lead, call)
            for employee, reason in busy.items():
                reply.reasons.add(rule=rule.name, employee=employee, reason=reason)
            if free:
                reply.rule, reply.employee = rule.name, free[0]
                return reply
            if not busy:
                reply.reasons.add(rule=rule.name, reason=_BY_RECORD[rule.method][1])
            continue
        busy = await rule.passed_over(call)
        free = [member for member in rule.members if member.employee not in busy]
        for employee, reason in busy.items():
            reply.reasons.add(rule=rule.name, employee=employee, reason=reason)
        if free:
            reply.rule, reply.employee = rule.name, await rule.next_of(free, call)
            for member in free:
                if member.employee != reply.employee:
                    reply.reasons.add(rule=rule.name, employee=member.employee, reason="NOT_NEXT")
            return reply
    return reply


async def rules(call: Call, lock: bool = False) -> list[AssignmentRule]:
    """The rules in force, in their order; locked, so that two leads at once take two turns."""
    statement = (
        select(AssignmentRule)
        .where(AssignmentRule.state == "ACTIVE")
        .order_by(AssignmentRule.position, AssignmentRule.id)
    )
    async with call.everybody():
        return list(await call.db.scalars(statement.with_for_update() if lock else statement))


async def _open_leads(employee: str, call: Call) -> int:
    from sales.model.lead import OPEN, Lead

    async with call.everybody():
        counted = select(func.count()).where(Lead.owner == employee, Lead.state.in_(OPEN))
        return await call.db.scalar(counted) or 0


async def _record_turn(method: str, lead: Lead, call: Call) -> tuple[list[str], dict[str, str]]:
    """Who takes a lead by what is known of it, in turn, and who of them is passed over and why."""
    turn = await _BY_RECORD[method][0](lead, call)
    on_leave = await absent(turn, call)
    busy = {
        one: "AWAY" if employed(one, call) else "INACTIVE"
        for one in turn if one in on_leave or not employed(one, call)
    }  # fmt: skip
    return [one for one in turn if one not in busy], busy


async def _by_territory(lead: Lead, call: Call) -> list[str]:
    """Whose the territory is that the lead lies in, by its product lines first."""
    tree = TerritoryMap(as_nodes(await in_force(call)))
    matches = tree.match(Place(lead.account, lead.division_code, "", lead.industry))
    lines = [interest.product_line for interest in lead.interests if interest.product_line]
    match = next((matches[line] for line in lines if line in matches), matches.get(""))
    return in_turn(match.code, tree.nodes, call.now) if match else []


async def _by_account(lead: Lead, call: Call) -> list[str]:
    """Who has the customers that answer at the numbers of the lead, themselves or by their people."""
    names = [name for phone in lead.phones if phone.valid for name in await records_with(phone.number, call)]
    known = [await call.copy(name) or {} for name in names]
    accounts = [
        told if name.startswith("accounts/") else await call.copy(str(told.get("account", ""))) or {}
        for name, told in zip(names, known, strict=True)
    ]
    return list(dict.fromkeys(owner for told in accounts if (owner := str(told.get("owner", "")))))


# Ways that need no members: who takes a lead by what is known of it, and what a dry run says where nobody does.
_BY_RECORD = {"TERRITORY": (_by_territory, "NO_TERRITORY"), "ACCOUNT_OWNER": (_by_account, "NO_ACCOUNT")}


def _away(member: Any, day: date) -> bool:
    start, end = read_date(member.away_from), read_date(member.away_to)
    return start is not None and start <= day <= (end or date.max)
