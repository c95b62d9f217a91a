"""Versioned rules of the lead pools: when a lead goes back, and who may claim how much."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, ResourceExhausted, Validation, Violation
from crmkit.listing import ZONE
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from crmkit.runs import Kind, Run, start
from sales.model import versions
from sales.model.base import HANDOVER, Base
from sales.model.lead_pool import LeadMoment, LeadPool, pool_of
from sales.worktime import later
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

if TYPE_CHECKING:
    from sales.model.lead import Lead

CHUNK = 500
EXAMPLES = 50
USUAL_DAYS = 90
SIMULATE, APPLY = "SimulateLeadPoolRule", "ApplyLeadPoolRule"
_CONTENT = (
    "clauses",
    "claimsPerDay",
    "claimsPerMonth",
    "previousOwnerDays",
    "maxOpen",
    "warnDays",
    "graceDays",
)
_OWNED = ("NEW", "WORKING", "WAITING")


@dataclass
class Course:
    """As much of a lead's past as clocks ask for."""

    channel: str
    product_lines: frozenset[str]
    rating: str
    score: int
    state: str = ""
    owner: str = ""
    owner_time: datetime | None = None
    answered: bool = False
    follow_up_time: datetime | None = None
    state_time: datetime | None = None


class LeadPoolRule(Resource, Base):
    """One version of the rules of a pool. In force it does not change."""

    __message__ = pb.LeadPoolRule
    __table_args__ = (
        Index("lead_pool_rules_revision_key", "pool", "revision", unique=True),
        Index("lead_pool_rules_active_key", "pool", unique=True, postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    pool: Mapped[str]
    revision: Mapped[int]
    clauses: Mapped[Any]
    claims_per_day: Mapped[int]
    claims_per_month: Mapped[int]
    previous_owner_days: Mapped[int]
    max_open: Mapped[int]
    warn_days: Mapped[list[str]]
    grace_days: Mapped[int]
    digest: Mapped[str]
    state: Mapped[str]
    effective_time: Mapped[datetime | None]
    simulation: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """A new version is the next one of its pool, counted without gaps."""
        self.state = "DRAFT"
        self._check(call)
        await call.one_at_a_time([self.pool])
        last = select(func.max(LeadPoolRule.revision)).where(LeadPoolRule.pool == self.pool)
        self.revision = (await call.db.scalar(last) or 0) + 1
        self.display_name = self.display_name or f"V{self.revision}"

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only drafts change."""
        if self.state != "DRAFT" and changed - HANDOVER:
            raise FailedPrecondition("RULE_IMMUTABLE")
        self._check(call)

    async def deleting(self, call: Call) -> None:
        """Versions are counted without gaps: only the last draft goes."""
        later_one = LeadPoolRule.pool == self.pool, LeadPoolRule.revision > self.revision
        if self.state != "DRAFT" or await call.find(LeadPoolRule, *later_one) is not None:
            raise FailedPrecondition("RULE_IMMUTABLE")

    async def simulate(self, days: int, call: Call) -> None:
        """Queues the reckoning over the past; it stands on the version."""
        self.check_state("DRAFT")
        days = days or USUAL_DAYS
        self.simulation = pb.LeadPoolRule.Simulation(
            digest=self.digest,
            days=days,
            time=to_timestamp(call.now),
            state=pb.LeadPoolRule.Simulation.RUNNING,
        )
        spec = {"days": days, "now": call.now.isoformat(), "digest": self.digest}
        # As the service: what a version does to everybody's leads is nobody's data scope.
        await start(call, SIMULATE, self.name, spec, requester=f"system/{call.running.app.name}")

    async def activate(self, call: Call) -> None:
        """Puts it in force in place of the version before; leads that would be overdue at once get days of grace."""
        self.check_state("DRAFT")
        found: Any = self.simulation
        if found is None or found.digest != self.digest or found.state != pb.LeadPoolRule.Simulation.DONE:
            raise FailedPrecondition("POOL_RULE_NOT_SIMULATED")
        await versions.put_in_force(self, "pool", call)
        self.effective_time = call.now
        await start(call, APPLY, self.name, {"now": call.now.isoformat()}, f"system/{call.running.app.name}")

    def fitting(self, course: Course) -> Any:
        """The first clause that fits; None where none does."""
        for clause in self.clauses:
            tests = (
                (clause.channels, course.channel in clause.channels),
                (clause.product_lines, bool(course.product_lines & set(clause.product_lines))),
                (clause.ratings, course.rating in clause.ratings),
                (clause.min_score, course.score >= clause.min_score),
            )
            if all(fits for wanted, fits in tests if wanted):
                return clause
        return None

    def due(self, course: Course) -> tuple[datetime, Any] | None:
        """When the clock of the lead runs out, and the clause; None where none runs."""
        clause = (
            self.fitting(course) if course.owner and course.state in _OWNED and course.owner_time else None
        )
        if clause is None or course.owner_time is None:
            return None
        clock = pb.LeadPoolRule.Clock.Name(clause.clock)
        if clock == "NO_FIRST_RESPONSE":
            return None if course.answered else (later(course.owner_time, clause.hours * 60), clause)
        if clock == "NO_FOLLOW_UP":
            since = max(course.owner_time, course.follow_up_time or course.owner_time)
            return since + timedelta(days=clause.days), clause
        if clause.stage and clause.stage != course.state:
            return None
        return max(course.owner_time, course.state_time or course.owner_time) + timedelta(
            days=clause.days
        ), clause

    @property
    def warnings(self) -> list[int]:
        """Days before the return on which the owner is warned, the longest first."""
        return sorted((int(day) for day in self.warn_days), reverse=True) or [3, 1]

    async def check_claim(self, lead: Lead, employee: str, call: Call) -> None:
        """Refuses whoever has claimed or works on enough, or has just had it."""
        local = call.now.astimezone(ZONE)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        claimed = select(func.count()).where(
            LeadMoment.employee == employee, LeadMoment.how == "CLAIM", LeadMoment.pool == lead.pool
        )
        async with call.everybody():
            if self.previous_owner_days:
                lost = select(func.max(LeadMoment.time)).where(
                    LeadMoment.lead == lead.id, LeadMoment.kind == "FREE", LeadMoment.employee == employee
                )
                until = (await call.db.scalar(lost) or datetime.min.replace(tzinfo=UTC)) + timedelta(
                    days=self.previous_owner_days
                )
                if until > call.now:
                    raise FailedPrecondition(
                        "CLAIM_TOO_SOON", until=f"{until.astimezone(ZONE):%Y-%m-%d %H:%M}"
                    )
            for limit, since in (
                (self.claims_per_day, midnight),
                (self.claims_per_month, midnight.replace(day=1)),
            ):
                if limit and (await call.db.scalar(claimed.where(LeadMoment.time >= since)) or 0) >= limit:
                    raise ResourceExhausted("CLAIM_QUOTA_EXCEEDED", limit=limit)
            if self.max_open:
                model = type(lead)
                mine = select(func.count()).where(model.owner == employee, model.state.in_(_OWNED))
                if (await call.db.scalar(mine) or 0) >= self.max_open:
                    raise FailedPrecondition("CAPACITY_EXCEEDED", limit=self.max_open)

    def _check(self, call: Call) -> None:
        wrong: list[Violation] = []
        keys = [clause.key for clause in self.clauses]
        if len(set(keys)) != len(keys):
            wrong.append(_bad("clauses", "条款标识重复。", "Two clauses have the same key."))
        for n, clause in enumerate(self.clauses):
            first = clause.clock == pb.LeadPoolRule.NO_FIRST_RESPONSE
            if (clause.hours if first else clause.days) <= 0:
                path = f"clauses[{n}].{'hours' if first else 'days'}"
                wrong.append(_bad(path, "必须大于 0。", "Must be above zero."))
            if clause.stage not in ("", "WORKING", "WAITING"):
                wrong.append(_bad(f"clauses[{n}].stage", "应为跟进中或等待中。", "WORKING or WAITING."))
        if any(not day.isdecimal() or not 0 < int(day) < 366 for day in self.warn_days):
            wrong.append(_bad("warn_days", "应为 1 到 365 的天数。", "Days from 1 to 365."))
        if wrong:
            raise Validation(*wrong)
        content = call.running.json_of(call.message_of(self))
        kept = {key: content.get(key) for key in _CONTENT}
        self.digest = sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


async def rule_of(pool: str, call: Call) -> LeadPoolRule | None:
    """The version in force."""
    if not pool:
        return None
    return await call.find(LeadPoolRule, LeadPoolRule.pool == pool, LeadPoolRule.state == "ACTIVE")


def course_of(lead: Lead) -> Course:
    """The lead as its clocks see it now."""
    lines = frozenset(interest.product_line for interest in lead.interests)
    return Course(
        lead.channel, lines, lead.rating, lead.score, lead.state, lead.owner, lead.owner_time,
        lead.first_response_time is not None, lead.last_follow_up_time, lead.state_time,
    )  # fmt: skip


def replayed(
    rule: LeadPoolRule, course: Course, moments: Sequence[LeadMoment], now: datetime
) -> list[tuple[datetime, str, str]]:
    """The returns that a version would have made: time, owner and clause; each ownership has at most one."""
    found: list[tuple[datetime, str, str]] = []

    def look(until: datetime) -> None:
        if (due := rule.due(course)) and due[0] <= until and due[1].action != pb.LeadPoolRule.NOTIFY:
            found.append((due[0], course.owner, due[1].key))
            course.owner = ""

    for moment in moments:
        look(moment.time)
        if moment.kind == "OWNED":
            course.owner, course.owner_time, course.answered = moment.employee, moment.time, False
            course.follow_up_time = None
        elif moment.kind == "FREE":
            course.owner = ""
        elif moment.kind == "FOLLOW_UP":
            course.follow_up_time, course.answered = moment.time, True
        else:
            course.state, course.state_time = moment.kind, moment.time
    look(now)
    return found


async def _simulate(run: Run) -> None:
    from sales.model.lead import Lead

    now = datetime.fromisoformat(run.spec["now"])
    since = now - timedelta(days=run.spec["days"])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            rule = await _version(run, call)
            if rule is None or rule.digest != run.spec["digest"]:
                run.next_phase("ENDED")
                return
            page = select(Lead).where(Lead.pool == rule.pool, Lead.create_time <= now)
            if last := run.tally.get("last"):
                page = page.where(Lead.id > last)
            leads = list(await call.db.scalars(page.order_by(Lead.id).limit(CHUNK)))
            for lead, moments in await _past(leads, call):
                lines = frozenset(interest.product_line for interest in lead.interests)
                course = Course(lead.channel, lines, lead.rating, lead.score)
                made = [one for one in replayed(rule, course, moments, now) if one[0] >= since]
                run.count(leads=1, returns=len(made))
                overdue = rule.due(course_of(lead))
                run.count(today=int(overdue is not None and overdue[0] <= now and _returns(overdue[1])))
                shown = run.tally.setdefault("examples", [])
                shown.extend([lead.name, who, key, time.isoformat()] for time, who, key in made)
                del shown[EXAMPLES:]
            if leads:
                run.tally["last"] = str(leads[-1].id)
                run.position += len(leads)
                continue
            rule.simulation = _result(run, rule)
            run.next_phase("ENDED")


async def _apply(run: Run) -> None:
    """Winds the clocks of all leads of the pool by the new version."""
    from sales.model.lead import OPEN, Lead

    now = datetime.fromisoformat(run.spec["now"])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            rule = await _version(run, call)
            if rule is None or rule.state != "ACTIVE":
                run.next_phase("ENDED")
                return
            page = select(Lead).where(Lead.pool == rule.pool, Lead.owner != "", Lead.state.in_(OPEN))
            if last := run.tally.get("last"):
                page = page.where(Lead.id > last)
            leads = list(await call.db.scalars(page.order_by(Lead.id).limit(CHUNK).with_for_update()))
            for lead in leads:
                wind(lead, rule)
                if lead.return_due_time is not None and lead.return_due_time <= now:
                    due = now + timedelta(days=rule.grace_days or 7)
                    lead.return_due_time, lead.return_check_time = due, next_check(due, rule, None)
            if not leads:
                run.next_phase("ENDED")
                return
            run.tally["last"] = str(leads[-1].id)
            run.position += len(leads)


async def _failed(run: Run, problem: Any, call: Call) -> None:
    rule = await _version(run, call)
    if rule is not None and run.kind == SIMULATE:
        result = pb.LeadPoolRule.Simulation()
        result.CopyFrom(rule.simulation)
        result.state = pb.LeadPoolRule.Simulation.FAILED
        rule.simulation = result


RUNS = {SIMULATE: Kind(_simulate, _failed), APPLY: Kind(_apply, _failed)}


def wind(lead: Lead, rule: LeadPoolRule | None) -> None:
    """Says when the lead goes back; never, where no clause fits."""
    due = rule.due(course_of(lead)) if rule is not None else None
    lead.return_due_time, lead.return_clause = (due[0], due[1].key) if due else (None, "")
    lead.return_warned, lead.return_check_time = 0, None
    if due and rule is not None:
        lead.return_check_time = next_check(due[0], rule, None)


def next_check(due: datetime, rule: LeadPoolRule, warned: int | None) -> datetime:
    """When to look again: at the next warning, or when the time is over."""
    ahead = next((day for day in rule.warnings if warned is None or day < warned), 0)
    return due - timedelta(days=ahead)


def _returns(clause: Any) -> bool:
    return clause.action != pb.LeadPoolRule.NOTIFY


def _result(run: Run, rule: LeadPoolRule) -> Any:
    result = pb.LeadPoolRule.Simulation()
    result.CopyFrom(rule.simulation)
    result.state = pb.LeadPoolRule.Simulation.DONE
    result.leads, result.returns, result.today = (
        run.tally.get(key, 0) for key in ("leads", "returns", "today")
    )
    for lead, who, key, moment in run.tally.get("examples", ()):
        time = to_timestamp(datetime.fromisoformat(moment))
        result.examples.add(lead=lead, employee=who, clause=key, time=time)
    return result


async def _version(run: Run, call: Call) -> LeadPoolRule | None:
    return await call.named(LeadPoolRule, run.about, lock=True)


async def _past(leads: Iterable[Lead], call: Call) -> list[tuple[Lead, list[LeadMoment]]]:
    rows = {lead.id: (lead, list[LeadMoment]()) for lead in leads}
    statement = select(LeadMoment).where(LeadMoment.lead.in_(rows)).order_by(LeadMoment.time, LeadMoment.id)
    for moment in await call.db.scalars(statement):
        rows[moment.lead][1].append(moment)
    return list(rows.values())


async def open_pool(name: str, call: Call) -> LeadPool | None:
    """The pool, where it is open."""
    pool = await pool_of(name, call)
    return pool if pool is not None and pool.state == "OPEN" else None


def _bad(path: str, zh: str, en: str) -> Violation:
    return Violation(f"lead_pool_rule.{path}", "OUT_OF_RANGE", zh, en)
