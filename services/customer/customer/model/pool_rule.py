"""Versioned rules of the pools, and what simulations found."""

import json
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from customer.model.base import Base
from customer.model.pool import Pool
from customer.model.rules import DraftRule
from sqlalchemy import Index, Text, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

MANAGE = "customer.poolRules.manage"
DEFAULT_WARNINGS = (7, 3, 1)
DEFAULT_GRACE = 7
DEFAULT_VIEWS = 20
SIMULATION_COUNTS = timedelta(days=7)
_CONTENT = ("clauses", "claim", "viewPerDay", "capacity", "warnDays", "graceDays")


class PoolRule(DraftRule, Base):
    """One version of the rules of a pool. In force it does not change."""

    __message__ = pb.PoolRule
    __table_args__ = (
        Index("pool_rules_revision_key", "pool", "revision", unique=True),
        Index("pool_rules_active_key", "pool", unique=True, postgresql_where=text("state = 'ACTIVE'")),
        Index("pool_rules_scheduled_key", "pool", unique=True, postgresql_where=text("state = 'SCHEDULED'")),
    )

    display_name: Mapped[str]
    pool: Mapped[str]
    revision: Mapped[int]
    clauses: Mapped[Any]
    claim: Mapped[Any]
    view_per_day: Mapped[int]
    capacity: Mapped[Any]
    warn_days: Mapped[list[str]]
    grace_days: Mapped[int]
    digest: Mapped[str]
    state: Mapped[str]
    effective_time: Mapped[datetime | None]
    retire_time: Mapped[datetime | None]
    simulation: Mapped[Any]
    # That of its pool.
    segment: Mapped[str] = mapped_column(Text, server_default="")

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"segment": "", **values})

    async def creating(self, call: Call) -> None:
        """A new version is the next one of its pool, counted without gaps."""
        self.state = "DRAFT"
        self.check_content(call)
        pool = await call.named(Pool, self.pool)
        self.segment = pool.segment if pool else ""
        await call.one_at_a_time([f"poolRules:{self.pool}"])
        last = await call.db.scalar(select(func.max(PoolRule.revision)).where(PoolRule.pool == self.pool))
        self.revision = (last or 0) + 1
        self.display_name = self.display_name or f"V{self.revision}"

    async def deleting(self, call: Call) -> None:
        """Versions are counted without gaps: none goes."""
        await super().deleting(call)
        later = await call.find(PoolRule, PoolRule.pool == self.pool, PoolRule.revision > self.revision)
        if later is not None:
            raise FailedPrecondition("RULE_IMMUTABLE")

    def check_content(self, call: Call) -> None:
        if not call.caller.may(MANAGE):
            raise PermissionDenied("PERMISSION_DENIED", permission=MANAGE)
        wrong: list[Violation] = []
        if self.clauses and not self.pool:
            wrong.append(
                _bad("clauses", "所有公海共用的规则只含保有量。", "Without a pool there are no clauses.")
            )
        keys = [clause.key for clause in self.clauses]
        if len(set(keys)) != len(keys):
            wrong.append(_bad("clauses", "条款标识重复。", "Two clauses have the same key."))
        for n, clause in enumerate(self.clauses):
            for m, clock in enumerate(clause.clocks):
                first = clock.kind == pb.PoolRule.NO_FIRST_FOLLOW_UP
                if (clock.hours if first else clock.days) <= 0:
                    path = f"clauses[{n}].clocks[{m}].{'hours' if first else 'days'}"
                    wrong.append(_bad(path, "必须大于 0。", "Must be above zero."))
        if any(not day.isdecimal() or not 0 < int(day) < 366 for day in self.warn_days):
            wrong.append(_bad("warn_days", "应为 1 到 365 的天数。", "Days from 1 to 365."))
        if wrong:
            raise Validation(*wrong)
        self.digest = self.content_digest(call)

    def content_digest(self, call: Call) -> str:
        """SHA-256 of what the version says, whoever wrote it and whatever it is called."""
        content = call.running.json_of(call.message_of(self))
        kept = {key: content.get(key) for key in _CONTENT}
        return sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def again(self) -> "PoolRule":
        """A new draft with the same content."""
        return PoolRule(
            pool=self.pool, display_name="", clauses=list(self.clauses), claim=self.claim,
            view_per_day=self.view_per_day, capacity=list(self.capacity), warn_days=list(self.warn_days),
            grace_days=self.grace_days,
        )  # fmt: skip

    @property
    def warnings(self) -> list[int]:
        """Days before the return on which the owner is warned, the longest first."""
        return sorted((int(day) for day in self.warn_days), reverse=True) or list(DEFAULT_WARNINGS)

    def check_simulated(self, now: datetime) -> None:
        """Refuses a version that was not simulated as it is, lately."""
        found: Any = self.simulation
        if found is None or found.digest != self.digest or found.state != pb.PoolRule.Simulation.DONE:
            raise FailedPrecondition("POOL_RULE_NOT_SIMULATED")
        if now - found.time.ToDatetime(UTC) > SIMULATION_COUNTS:
            raise FailedPrecondition("POOL_RULE_NOT_SIMULATED")


class SimulatedReturn(Resource, Base):
    """One return that a simulation found; owner and department are those of the account at that time."""

    __message__ = pb.SimulatedReturn
    follows_merges = False

    rule: Mapped[str]
    account: Mapped[str]
    time: Mapped[datetime]
    day: Mapped[date | None]
    clause: Mapped[str]
    difference: Mapped[str]
    reason: Mapped[str]
    tonight: Mapped[bool]


def _bad(path: str, zh: str, en: str) -> Violation:
    return Violation(f"pool_rule.{path}", "OUT_OF_RANGE", zh, en)
