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
    terms = [_NO_TERMS]
    clocks = [_NO_CLOCK]
    idle: list[str] = []
    for rule in rules:
        if rule.claim is not None and rule.claim.first_follow_up_hours:
            idle.append(
                f"WHEN s.owned_from = {quoted(rule.pool)} AND s.owned_how IN ('CLAIM', 'ASSIGN')"
                " AND (s.follow_up IS NULL OR s.follow_up < s.owned_time)"
                f" THEN {int(rule.claim.first_follow_up_hours)}"
            )
        for message in rule.clauses:
            number = len(clauses) + 1
            clauses.append(Clause(rule.name, message.target or rule.pool, message.key, message))
            within = _segment(rule.segment, call)
            conditions.append(f"WHEN {within}{_condition(message.when, call)} THEN {number}")
            came = (effective or rule.effective_time) if grace else None
            terms.append(_terms(number, message, came, rule.grace_days or DEFAULT_GRACE))
            clocks += [_clock(number, place, clock) for place, clock in enumerate(message.clocks)]
    fits = _case("", conditions, "0")
    # One text for every clock, however many there are, and OFFSET 0 keeps the planner from writing each part wherever
    # it is named: a text for each clock took a tenth of a second to plan.
    joins = (
        f" CROSS JOIN LATERAL (SELECT {fits} AS clause, {_case('', idle, 'NULL::int')} AS idle OFFSET 0) r"
        f" LEFT JOIN (VALUES {', '.join(terms)}) AS m(number, effective, grace, unprotected, not_exempt)"
        " ON m.number = r.clause"
        f" LEFT JOIN LATERAL (SELECT e.due, {_WHY} AS why"
        f" FROM (VALUES {', '.join(clocks)}) AS k(clause, place, kind, unit, number, stage, channels)"
        f" CROSS JOIN LATERAL (SELECT {_START} AS start OFFSET 0) b CROSS JOIN LATERAL (SELECT {_DUE} AS due OFFSET 0) e"
        " WHERE k.clause = r.clause ORDER BY e.due NULLS LAST, k.place LIMIT 1) w ON true"
        # GREATEST leaves an absent clock out, so that a pause alone would be a return.
        " CROSS JOIN LATERAL (SELECT CASE WHEN w.due IS NOT NULL THEN greatest(w.due, s.paused_until,"
        " CASE WHEN NOT m.unprotected THEN s.protected_until END) END AS due,"
        f" CASE WHEN r.idle IS NOT NULL THEN {_hours('s.owned_time', 'r.idle')} END AS idle OFFSET 0) h"
        f" CROSS JOIN LATERAL (SELECT {_GRACE} AS due, {_EXEMPTION} AS exemption, w.why,"
        # A frozen account alone holds a claim without a first follow-up.
        " CASE WHEN h.idle IS NOT NULL AND s.state <> 'FROZEN' THEN greatest(h.idle, s.protected_until) END AS idle"
        " OFFSET 0) q"
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


def _terms(number: int, clause: Any, effective: datetime | None, grace: int) -> str:
    """What holds for all clocks of a clause, as a row."""
    came = f"{quoted(effective.isoformat())}::timestamptz" if effective is not None else NONE
    off = [pb.PoolRule.Exemption.Name(kind) for kind in clause.not_exempt]
    unprotected = "true" if pb.PoolRule.PROTECTED in clause.not_exempt else "false"
    return f"({number}, {came}, {int(grace)}, {unprotected}, {_array(off)})"


def _clock(clause: int, place: int, clock: Any) -> str:
    """A clock as a row."""
    first = clock.kind == pb.PoolRule.NO_FIRST_FOLLOW_UP
    unit = "HOURS" if first else "WORKING_DAYS" if clock.working_days else "DAYS"
    kind = pb.PoolRule.ClockKind.Name(clock.kind)
    channels = _array(clock.channels) if clock.channels else "NULL"
    number = int(clock.hours if first else clock.days)
    return f"({clause}, {place}, '{kind}', '{unit}', {number}, {quoted(clock.stage)}, {channels})"


def _hours(start: str, hours: str) -> str:
    """So many hours later, those of working days alone."""
    local = f"({start} AT TIME ZONE s.zone)"
    frozen = _frozen(start, _worked("f.until"), _worked("f.since"), "float8")
    return (
        "(SELECT ((SELECT t.day FROM working_days t WHERE t.ordinal = f.ordinal + floor(f.total / 24)::int)"
        " + make_interval(secs => (f.total - 24 * floor(f.total / 24)) * 3600)) AT TIME ZONE s.zone"
        f" FROM (SELECT w.ordinal, {hours} + {frozen} + CASE WHEN w.day = {local}::date"
        f" THEN {_hour(local)} ELSE 0 END AS total"
        f" FROM working_days w WHERE w.day >= {local}::date ORDER BY w.day LIMIT 1) f)"
    )


def _frozen(start: str, until: str, since: str, kind: str = "int") -> str:
    """How much longer a clock runs for having rested while the account was frozen (HND-5).

    `until` and `since` count up to those ends of `f` what the clock counts: days, or hours.
    """
    return (
        f"CASE WHEN s.frozen_until = '{{}}' THEN 0 ELSE (SELECT coalesce(sum({until} - {since}), 0) FROM (SELECT"
        f" greatest(z.since, {start}) AS since, z.until FROM unnest(s.frozen_from, s.frozen_until) AS z(since, until)"
        f" WHERE z.until > {start}) f)::{kind} END"
    )


def _day(time: str) -> str:
    return f"({time} AT TIME ZONE s.zone)::date"


def _ordinal(day: str) -> str:
    """The number of the last working day until that day."""
    return f"(SELECT max(p.ordinal) FROM working_days p WHERE p.day <= {day})"


def _hour(local: str) -> str:
    return f"extract(epoch FROM {local} - date_trunc('day', {local}))::float8 / 3600"


def _worked(time: str) -> str:
    """The hours of working days until that time."""
    local = f"({time} AT TIME ZONE s.zone)"
    return (
        f"(SELECT 24 * p.ordinal - CASE WHEN p.day = {local}::date THEN 24 - {_hour(local)} ELSE 0 END"
        f" FROM working_days p WHERE p.day <= {local}::date ORDER BY p.day DESC LIMIT 1)"
    )


# Rows of no clause, so that the tables are never without one.
_NO_TERMS = f"(-2, {NONE}, 0, false, ARRAY[]::text[])"
_NO_CLOCK = "(-2, 0, '', '', 0, '', NULL::text[])"
# Since when clock `k` runs; null where it does not.
_START = (
    "CASE k.kind WHEN 'NO_FOLLOW_UP' THEN greatest(s.owned_time, CASE WHEN k.channels IS NULL THEN s.follow_up ELSE"
    " (SELECT max((s.follow_ups ->> channel)::timestamptz) FROM unnest(k.channels) AS channel) END)"
    " WHEN 'NO_DEAL' THEN CASE WHEN s.deal_time IS NULL OR s.deal_time < s.owned_time THEN s.owned_time END"
    " WHEN 'AFTER_CONTRACT_END' THEN CASE WHEN s.running_contracts = 0 AND s.contract_end IS NOT NULL"
    " THEN greatest((s.contract_end::timestamp AT TIME ZONE s.zone), s.owned_time) END"
    " WHEN 'NO_ORDER' THEN greatest(s.owned_time, s.order_time)"
    " WHEN 'STAGE_STUCK' THEN CASE WHEN s.stage = k.stage THEN greatest(s.stage_time, s.owned_time) END"
    " ELSE CASE WHEN s.follow_up IS NULL OR s.follow_up < s.owned_time THEN s.owned_time END END"
)
_WORKING_DAYS = (
    f"{_ordinal(_day('b.start'))} + k.number + 1"
    f" + {_frozen('b.start', _ordinal(_day('f.until')), _ordinal(_day('f.since')))}"
)
_DAYS = f"{_day('b.start')} + k.number + 1 + {_frozen('b.start', _day('f.until'), _day('f.since'))}"
# When it has run out.
_DUE = (
    f"CASE k.unit WHEN 'HOURS' THEN {_hours('b.start', 'k.number')}"
    " WHEN 'WORKING_DAYS' THEN"
    f" (SELECT t.day FROM working_days t WHERE t.ordinal = {_WORKING_DAYS})::timestamp AT TIME ZONE s.zone"
    f" ELSE ({_DAYS})::timestamp AT TIME ZONE s.zone END"
)
# Which clock was the earliest and since when it ran, as text.
_WHY = (
    "CASE WHEN e.due IS NOT NULL THEN k.kind || '(' || k.number || ') since '"
    " || coalesce(to_char(b.start AT TIME ZONE s.zone, 'YYYY-MM-DD HH24:MI'), '') END"
)
_GRACE = (
    "CASE WHEN h.due <= m.effective THEN ((m.effective AT TIME ZONE s.zone)::date + m.grace + 1)::timestamp"
    " AT TIME ZONE s.zone ELSE h.due END"
)
_EXEMPTION = "CASE " + " ".join(
    f"WHEN {held} AND NOT '{name}' = ANY (m.not_exempt) THEN '{name}'" for name, held in _EXEMPT.items()
) + " END"  # fmt: skip


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
