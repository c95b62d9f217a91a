"""Rules as SQL: which clause an account falls under, when its clock runs out, what holds it (SEA-1 … SEA-3).

One text serves one account, all accounts and every account of the past: it reads rows `s` of `sea_states` and
nothing else but the calendar. So a simulation cannot differ from what the sweep does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import with_beneath
from sqlalchemy import select

from customer.model.pool_rule import DEFAULT_GRACE, PoolRule

IDLE = "IDLE"
NONE = "NULL::timestamptz"
_EXEMPT = {
    "KEY_ACCOUNT": "s.key_account",
    "RUNNING_CONTRACT": "s.running_contracts > 0",
    "OPEN_OPPORTUNITY": "s.open_opportunities > 0",
    "OPEN_TICKET": "s.open_tickets > 0",
    "UNPAID_BALANCE": "s.balance > 0",
    "FROZEN": "s.state = 'FROZEN'",
}
_TEXT = re.compile("\x01([0-9a-f]*)\x01")
# What holds a claim without a first follow-up.
_IDLE_EXEMPT = ("FROZEN",)


@dataclass(frozen=True)
class Clause:
    """A clause as it is numbered in the SQL."""

    rule: str
    pool: str
    key: str
    message: Any


@dataclass(frozen=True)
class Compiled:
    """The rules in force, or one that is tried; whoever runs their SQL has it `bound` before.

    `columns` give clause (a number), due, exemption and kept (reason).
    """

    clauses: tuple[Clause, ...]
    joins: str
    fits: str
    """The number of the clause that an account falls under, 0 for none."""

    @property
    def shown(self) -> str:
        """What holds the account, for people: a protection moves the return instead of stopping the clock."""
        return "CASE WHEN d.exemption IS NULL AND s.protected_until = d.due THEN 'PROTECTED' ELSE d.exemption END"


async def active_rules(call: Call) -> list[PoolRule]:
    """The versions in force that have clauses or a first follow-up, in the order of their pools."""
    statement = (
        select(PoolRule).where(PoolRule.state == "ACTIVE", PoolRule.pool != "").order_by(PoolRule.pool)
    )
    return list(await call.db.scalars(statement))


def compiled(
    rules: Sequence[PoolRule], call: Call, *, grace: bool = True, effective: datetime | None = None
) -> Compiled:
    """The clauses of the rules as one SQL text.

    `grace` spares what was overdue when the version came into force, at `effective` for one that is tried.
    """
    clauses: list[Clause] = []
    conditions: list[str] = []
    dues: list[str] = []
    holds: list[str] = []
    whys: list[str] = []
    idle: list[str] = []
    for rule in rules:
        if rule.claim is not None and rule.claim.first_follow_up_hours:
            hours = _hours("s.owned_time", rule.claim.first_follow_up_hours)
            idle.append(
                f"WHEN s.owned_from = {quoted(rule.pool)} AND s.owned_how IN ('CLAIM', 'ASSIGN')"
                f" AND (s.follow_up IS NULL OR s.follow_up < s.owned_time) THEN {hours}"
            )
        for message in rule.clauses:
            number = len(clauses) + 1
            clauses.append(Clause(rule.name, message.target or rule.pool, message.key, message))
            within = _segment(rule.segment, call)
            conditions.append(f"WHEN {within}{_condition(message.when, call)} THEN {number}")
            clocks = [_clock(clock) for clock in message.clocks]
            off = pb.PoolRule.PROTECTED in message.not_exempt
            due = (
                f"greatest(least({', '.join(clocks)}), s.paused_until{'' if off else ', s.protected_until'})"
            )
            if grace and (came := effective or rule.effective_time) is not None:
                due = _with_grace(due, came, rule.grace_days or DEFAULT_GRACE)
            # GREATEST leaves an absent clock out, so that a pause alone would be a return.
            dues.append(f"WHEN {number} THEN CASE WHEN least({', '.join(clocks)}) IS NOT NULL THEN {due} END")
            holds.append(f"WHEN {number} THEN {_exemption(message)}")
            whys.append(f"WHEN {number} THEN {_why(message.clocks, clocks)}")
    idle_due = f"CASE {' '.join(idle)} END" if idle else NONE
    idle_held = _case_of_exemptions(_IDLE_EXEMPT)
    fits = _case("", conditions, "0")
    joins = (
        f" CROSS JOIN LATERAL (SELECT {fits} AS clause, {idle_due} AS idle) r"
        f" CROSS JOIN LATERAL (SELECT {_case('r.clause', dues, NONE)} AS due,"
        f" {_case('r.clause', holds, 'NULL::text')} AS exemption,"
        f" {_case('r.clause', whys, 'NULL::text')} AS why,"
        f" CASE WHEN r.idle IS NOT NULL AND {idle_held} IS NULL THEN greatest(r.idle, s.protected_until) END AS idle) q"
        " CROSS JOIN LATERAL (SELECT q.idle IS NOT NULL AND (q.due IS NULL OR q.exemption IS NOT NULL"
        " OR q.idle < q.due) AS first) i"
        " CROSS JOIN LATERAL (SELECT CASE WHEN i.first THEN -1 ELSE r.clause END AS clause) c"
        " CROSS JOIN LATERAL (SELECT CASE WHEN i.first THEN q.idle WHEN q.exemption IS NULL THEN q.due END AS due,"
        " CASE WHEN NOT i.first THEN q.exemption END AS exemption,"
        f" CASE WHEN i.first THEN '{IDLE}' ELSE q.why END AS why) d"
    )
    return Compiled(tuple(clauses), joins, fits)


def returning(rules: Compiled) -> str:
    """The numbers of the clauses that return, as a list for SQL; a claim without a follow-up returns always."""
    numbers = [n + 1 for n, c in enumerate(rules.clauses) if c.message.action != pb.PoolRule.NOTIFY]
    return ", ".join(str(n) for n in (-1, *numbers))


def names(rules: Compiled) -> str:
    """The clauses as a table of number and key for SQL."""
    rows = [f"({n + 1}, {quoted(clause.key)})" for n, clause in enumerate(rules.clauses)]
    return f"(VALUES {', '.join([*rows, f'(-1, {quoted(IDLE)})'])}) AS n(number, key)"


def _case(operand: str, branches: list[str], otherwise: str) -> str:
    return f"CASE {operand} {' '.join(branches)} ELSE {otherwise} END" if branches else otherwise


def _condition(when: Any, call: Call) -> str:
    parts = ["true"]
    for column, values in (
        ("s.level", when.levels), ("s.type", when.types), ("s.source", when.sources), ("s.stage", when.stages),
    ):  # fmt: skip
        if values:
            parts.append(f"{column} = ANY ({_array(values)})")
    if when.tags:
        parts.append(f"s.tags && {_array(when.tags)}")
    if when.product_lines:
        parts.append(f"s.product_lines && {_array(when.product_lines)}")
    if when.roles:
        parts.append(f"s.roles && {_array(when.roles)}")
    if when.divisions:
        some = " OR ".join(f"starts_with(division, {quoted(code)})" for code in when.divisions)
        parts.append(f"EXISTS (SELECT 1 FROM unnest(s.divisions) AS division WHERE {some})")
    if when.departments:
        parts.append(f"s.department = ANY ({_array(with_beneath(when.departments, call))})")
    match when.contract:
        case pb.PoolRule.NONE:
            parts.append("s.running_contracts = 0 AND s.contract_end IS NULL")
        case pb.PoolRule.RUNNING:
            parts.append("s.running_contracts > 0")
        case pb.PoolRule.ENDED:
            parts.append("s.running_contracts = 0 AND s.contract_end IS NOT NULL")
        case _:
            pass
    return " AND ".join(parts)


def _segment(segment: str, call: Call) -> str:
    """A pool of a segment takes the customers of that segment alone."""
    if not segment:
        return ""
    return f"s.department = ANY ({_array(call.running.directory.organisation.within([segment]))}) AND "


def _start(clock: Any) -> str:
    """Since when the clock runs; null where it does not."""
    match clock.kind:
        case pb.PoolRule.NO_FOLLOW_UP if clock.channels:
            each = ", ".join(f"(s.follow_ups ->> {quoted(c)})::timestamptz" for c in clock.channels)
            return f"greatest(s.owned_time, {each})"
        case pb.PoolRule.NO_FOLLOW_UP:
            return "greatest(s.owned_time, s.follow_up)"
        case pb.PoolRule.NO_DEAL:
            return "CASE WHEN s.deal_time IS NULL OR s.deal_time < s.owned_time THEN s.owned_time END"
        case pb.PoolRule.AFTER_CONTRACT_END:
            end = "(s.contract_end::timestamp AT TIME ZONE s.zone)"
            return f"CASE WHEN s.running_contracts = 0 AND s.contract_end IS NOT NULL THEN greatest({end}, s.owned_time) END"
        case pb.PoolRule.NO_ORDER:
            return "greatest(s.owned_time, s.order_time)"
        case pb.PoolRule.STAGE_STUCK:
            return f"CASE WHEN s.stage = {quoted(clock.stage)} THEN greatest(s.stage_time, s.owned_time) END"
        case _:
            return "CASE WHEN s.follow_up IS NULL OR s.follow_up < s.owned_time THEN s.owned_time END"


def _clock(clock: Any) -> str:
    start = _start(clock)
    if clock.kind == pb.PoolRule.NO_FIRST_FOLLOW_UP:
        return _hours(start, clock.hours)
    if clock.working_days:
        return (
            "((SELECT w.day FROM working_days w WHERE w.ordinal = (SELECT max(p.ordinal) FROM working_days p"
            f" WHERE p.day <= ({start} AT TIME ZONE s.zone)::date) + {int(clock.days) + 1})::timestamp AT TIME ZONE s.zone)"
        )
    return f"((({start} AT TIME ZONE s.zone)::date + {int(clock.days) + 1})::timestamp AT TIME ZONE s.zone)"


def _hours(start: str, hours: int) -> str:
    """So many hours later, those of working days alone."""
    local = f"({start} AT TIME ZONE s.zone)"
    return (
        f"(SELECT ((SELECT t.day FROM working_days t WHERE t.ordinal = f.ordinal + floor(f.total / 24)::int)"
        " + make_interval(secs => (f.total - 24 * floor(f.total / 24)) * 3600)) AT TIME ZONE s.zone"
        f" FROM (SELECT w.ordinal, {int(hours)} + CASE WHEN w.day = {local}::date"
        f" THEN extract(epoch FROM {local} - date_trunc('day', {local}))::float8 / 3600 ELSE 0 END AS total"
        f" FROM working_days w WHERE w.day >= {local}::date ORDER BY w.day LIMIT 1) f)"
    )


def _with_grace(due: str, effective: datetime, days: int) -> str:
    since = f"{quoted(effective.isoformat())}::timestamptz"
    later = f"(({since} AT TIME ZONE s.zone)::date + {int(days) + 1})::timestamp AT TIME ZONE s.zone"
    return f"CASE WHEN {due} <= {since} THEN ({later}) ELSE {due} END"


def _exemption(clause: Any) -> str:
    off = {pb.PoolRule.Exemption.Name(kind) for kind in clause.not_exempt}
    return _case_of_exemptions([name for name in _EXEMPT if name not in off])


def _case_of_exemptions(names: Sequence[str]) -> str:
    branches = [f"WHEN {_EXEMPT[name]} THEN '{name}'" for name in names]
    return f"CASE {' '.join(branches)} ELSE NULL::text END" if branches else "NULL::text"


def _why(clocks: Sequence[Any], dues: Sequence[str]) -> str:
    """Which clock was the earliest and since when it ran, as text."""
    least = f"least({', '.join(dues)})"
    branches = [
        f"WHEN {due} = {least} THEN '{pb.PoolRule.ClockKind.Name(clock.kind)}({clock.days or clock.hours}) since '"
        f" || coalesce(to_char(({_start(clock)}) AT TIME ZONE s.zone, 'YYYY-MM-DD HH24:MI'), '')"
        for clock, due in zip(clocks, dues, strict=True)
    ]
    return f"CASE {' '.join(branches)} END" if branches else "NULL::text"


def quoted(value: str) -> str:
    """What stands in a statement for the text until `bound` makes a parameter of it."""
    return f"\x01{value.encode().hex()}\x01"


def bound(statement: str, after: int) -> tuple[str, list[list[str]]]:
    """The statement with its texts bound, all in the one parameter behind the first `after`; none without texts."""
    texts: dict[str, int] = {}

    def element(match: re.Match[str]) -> str:
        place = texts.setdefault(bytes.fromhex(match[1]).decode(), len(texts) + 1)
        return f"(${after + 1}::text[])[{place}]"

    return _TEXT.sub(element, statement), [[*texts]] if texts else []


def _array(values: Sequence[str]) -> str:
    return f"ARRAY[{', '.join(quoted(value) for value in values)}]::text[]"
