"""Human numbers by rule: `Q-{yyyyMM}-{seq:4}` → `Q-202611-0042`.

A gap-free rule (contracts, invoices) draws in the call's own transaction, so that a rolled-back call gives its
number back. Other rules take blocks in a short transaction of their own and wait for nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from crmkit.describe import Described
from crmkit.listing import ZONE
from crmkit.tables import NumberCounter

if TYPE_CHECKING:
    from crmkit.call import Call

BLOCK = 50
_PART = re.compile(r"\{(yyyy|yy|MM|dd|yyyyMM|yyyyMMdd|dept|seq(?::(\d+))?)\}")
_YEARS, _MONTHS, _DAYS = (
    {"yyyy", "yy", "yyyyMM", "yyyyMMdd"},
    {"MM", "yyyyMM", "yyyyMMdd"},
    {"dd", "yyyyMMdd"},
)
# What of the date must stand in a number, so that no two counters give the same.
_NEEDED = {"YEAR": (_YEARS,), "MONTH": (_YEARS, _MONTHS), "DAY": (_YEARS, _MONTHS, _DAYS)}
_FORMATS = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "yyyyMM": "%Y%m", "yyyyMMdd": "%Y%m%d"}
# What of these begins a counter; a rule that says nothing begins one with every part.
_YEARLY = {"yyyy": "%Y", "yy": "%y", "yyyyMM": "%Y", "yyyyMMdd": "%Y"}
_BEGINS: dict[str, dict[str, str]] = {
    "NEVER": {},
    "YEAR": _YEARLY,
    "MONTH": {**_YEARLY, "MM": "%m", "yyyyMM": "%Y%m", "yyyyMMdd": "%Y%m"},
    "DAY": _FORMATS,
}
# The department of whoever has none, or one without a code.
NO_DEPARTMENT = "00"


def valid(pattern: str, reset: str = "") -> bool:
    """True for a pattern of known parts with one counter whose numbers differ whenever it starts anew."""
    parts = [match[1] for match in _PART.finditer(pattern)]
    counters = sum(part.startswith("seq") for part in parts)
    told = all(needed & set(parts) for needed in _NEEDED.get(reset, ()))
    return counters == 1 and told and not set("{}") & set(_PART.sub("", pattern))


def example(pattern: str, now: datetime, sequence: int = 42, department: str = "D01") -> str:
    """What the pattern gives at that time."""
    return _render(pattern, now, sequence, department)


@dataclass(frozen=True)
class Counting:
    """How the numbers of a collection are made, now."""

    pattern: str
    gap_free: bool
    reset: str
    start: int
    department: str
    now: datetime

    @property
    def period(self) -> str:
        """What the counter counts within."""
        if self.reset not in _BEGINS:
            return _render(self.pattern, self.now, None, self.department)
        return _render(self.pattern, self.now, None, "", _BEGINS[self.reset])

    def number(self, sequence: int) -> str:
        """The number of that place."""
        return _render(self.pattern, self.now, sequence, self.department)


def _rule(call: Call, described: Described, department: str) -> Counting:
    live: dict[str, Any] = call.config(f"numberRule.{described.collection}") or {}
    entry = call.entry(department)
    return Counting(
        live.get("pattern") or described.rule.number, bool(live.get("gapFree", described.rule.gap_free)),
        live.get("reset", ""), int(live.get("start") or 1), entry.get("code") or NO_DEPARTMENT, call.now,
    )  # fmt: skip


async def draw(call: Call, described: Described, series: str = "", department: str = "") -> str:
    """The next number of the resource in the series, by the live rule or the declared one."""
    rule = _rule(call, described, department)
    counter = f"{described.collection}/{series}" if series else described.collection
    if rule.gap_free:
        return rule.number(await _advance(call.db, counter, rule, 1))
    blocks = call.running.number_blocks
    key = (counter, rule.period)
    left = blocks.setdefault(key, [])
    if not left:
        async with call.running.number_turn:
            if not left:
                last = await _take(call, counter, rule, BLOCK)
                left.extend(range(last, last - BLOCK, -1))
    return rule.number(left.pop())


async def draw_many(call: Call, described: Described, departments: Sequence[str]) -> list[str]:
    """A number for each of the departments, a step for each counter."""
    numbers: list[str] = [""] * len(departments)
    for department in dict.fromkeys(departments):
        places = [place for place, one in enumerate(departments) if one == department]
        rule = _rule(call, described, department)
        if rule.gap_free:
            last = await _advance(call.db, described.collection, rule, len(places))
        else:
            last = await _take(call, described.collection, rule, len(places))
        for sequence, place in enumerate(places, last - len(places) + 1):
            numbers[place] = rule.number(sequence)
    return numbers


async def _take(call: Call, counter: str, rule: Counting, by: int) -> int:
    """Advances a counter in a transaction of its own."""
    async with call.running.number_sessions() as session, session.begin():
        return await _advance(session, counter, rule, by)


async def _advance(session: AsyncSession, counter: str, rule: Counting, by: int) -> int:
    first = rule.start - 1 + by
    statement = insert(NumberCounter).values(rule=counter, period=rule.period, last=first)
    statement = statement.on_conflict_do_update(
        index_elements=["rule", "period"], set_={"last": NumberCounter.last + by}
    )
    return (await session.execute(statement.returning(NumberCounter.last))).scalar_one()


def _render(
    pattern: str,
    now: datetime,
    sequence: int | None,
    department: str,
    formats: Mapping[str, str] = _FORMATS,
) -> str:
    local = now.astimezone(ZONE)

    def part(match: re.Match[str]) -> str:
        if match[1] == "dept":
            return department
        if match[1].startswith("seq"):
            return "" if sequence is None else f"{sequence:0{int(match[2] or 1)}d}"
        return local.strftime(formats.get(match[1], ""))

    return _PART.sub(part, pattern)
