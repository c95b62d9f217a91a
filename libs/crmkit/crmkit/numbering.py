"""Human numbers by rule: `Q-{yyyyMM}-{seq:4}` → `Q-202611-0042`.

A gap-free rule (contracts, invoices) draws in the call's own transaction, so that a rolled-back call gives its
number back. Other rules take blocks in a short transaction of their own and wait for nobody.
"""

from __future__ import annotations

import re
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
_PART = re.compile(r"\{(yyyy|yy|MM|dd|yyyyMM|yyyyMMdd|seq(?::(\d+))?)\}")


def valid(pattern: str) -> bool:
    """True for a pattern of known parts with one counter."""
    counters = sum(match[1].startswith("seq") for match in _PART.finditer(pattern))
    return counters == 1 and not set("{}") & set(_PART.sub("", pattern))


def example(pattern: str, now: datetime) -> str:
    """What the pattern gives as the 42nd number at that time."""
    return _render(pattern, now, 42)


async def draw(call: Call, described: Described, series: str = "") -> str:
    """The next number of the resource in the series, by the live rule or the declared one."""
    rule: dict[str, Any] = call.config(f"numberRule.{described.collection}") or {}
    pattern: str = rule.get("pattern") or described.rule.number
    gap_free = bool(rule.get("gapFree", described.rule.gap_free))
    period, moment = _render(pattern, call.now, None), call.now
    counter = f"{described.collection}/{series}" if series else described.collection
    if gap_free:
        sequence = await _advance(call.db, counter, period, 1)
        return _render(pattern, moment, sequence)
    blocks = call.running.number_blocks
    key = (counter, period)
    left = blocks.setdefault(key, [])
    if not left:
        async with call.running.number_turn:
            if not left:
                last = await _take(call, counter, period, BLOCK)
                left.extend(range(last, last - BLOCK, -1))
    return _render(pattern, moment, left.pop())


async def draw_many(call: Call, described: Described, count: int) -> list[str]:
    """As many numbers of the resource, in one step."""
    if not count:
        return []
    rule: dict[str, Any] = call.config(f"numberRule.{described.collection}") or {}
    pattern: str = rule.get("pattern") or described.rule.number
    period = _render(pattern, call.now, None)
    if rule.get("gapFree", described.rule.gap_free):
        last = await _advance(call.db, described.collection, period, count)
    else:
        last = await _take(call, described.collection, period, count)
    return [_render(pattern, call.now, sequence) for sequence in range(last - count + 1, last + 1)]


async def _take(call: Call, rule: str, period: str, by: int) -> int:
    """Advances a counter in a transaction of its own."""
    async with call.running.number_sessions() as session, session.begin():
        return await _advance(session, rule, period, by)


async def _advance(session: AsyncSession, rule: str, period: str, by: int) -> int:
    statement = insert(NumberCounter).values(rule=rule, period=period, last=by)
    statement = statement.on_conflict_do_update(
        index_elements=["rule", "period"], set_={"last": NumberCounter.last + by}
    )
    return (await session.execute(statement.returning(NumberCounter.last))).scalar_one()


def _render(pattern: str, now: datetime, sequence: int | None) -> str:
    local = now.astimezone(ZONE)

    def part(match: re.Match[str]) -> str:
        if match[1].startswith("seq"):
            return "" if sequence is None else f"{sequence:0{int(match[2] or 1)}d}"
        formats = {"yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "yyyyMM": "%Y%m", "yyyyMMdd": "%Y%m%d"}
        return local.strftime(formats[match[1]])

    return _PART.sub(part, pattern)
