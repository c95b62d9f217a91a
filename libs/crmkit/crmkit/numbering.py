"""Human numbers by rule: `Q-{yyyyMM}-{seq:4}` → `Q-202611-0042`.

A gap-free rule (contracts, invoices) draws in the call's own transaction, so that a rolled-back call gives its
number back. Other rules take blocks in a short transaction of their own and wait for nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from google.protobuf import json_format
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from crmkit import filters
from crmkit.describe import Described
from crmkit.filters import FilterError
from crmkit.listing import ZONE, record_fields
from crmkit.tables import NumberCounter

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

BLOCK = 50
CREATE = "create"
PART = re.compile(r"\{(yyyy|yy|MM|dd|yyyyMM|yyyyMMdd|dept|dict:([a-z][a-z0-9_]*)|seq(?::(\d{1,2}))?)\}")
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
# The department of whoever has none, or one without a code; the entry of a field that is empty.
NO_DEPARTMENT = "00"


def valid(pattern: str, reset: str = "") -> bool:
    """True for a pattern of known parts with one counter whose numbers differ whenever it starts anew."""
    parts = [match[1] for match in PART.finditer(pattern)]
    counters = sum(part.startswith("seq") for part in parts)
    told = all(needed & set(parts) for needed in _NEEDED.get(reset, ()))
    return counters == 1 and told and not set("{}") & set(PART.sub("", pattern))


@lru_cache(256)
def chosen(pattern: str) -> tuple[str, ...]:
    """The fields of the record whose dictionary entries stand in its number."""
    return tuple(match[2] for match in PART.finditer(pattern) if match[2])


def begins(part: str, reset: str) -> str | None:
    """What of a part of the pattern begins a counter: a form of the date, "" for nothing, None for all of it."""
    if reset not in _BEGINS:
        return None
    return _BEGINS[reset].get(part, "")


def example(
    pattern: str, now: datetime, sequence: int = 42, department: str = "D01", zone: tzinfo = ZONE
) -> str:
    """What the pattern gives at that time; an entry of a dictionary is called by its field."""
    entries = {name: name.upper() for name in chosen(pattern)}
    return render(pattern, now, sequence, department, zone, entries)


@dataclass(frozen=True)
class Counting:
    """How the numbers of a collection are made, now."""

    pattern: str
    gap_free: bool
    reset: str
    start: int
    department: str
    now: datetime
    zone: tzinfo = ZONE
    entries: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def period(self) -> str:
        """What the counter counts within."""
        if self.reset not in _BEGINS:
            return render(self.pattern, self.now, None, self.department, self.zone, self.entries)
        return render(self.pattern, self.now, None, "", self.zone, {}, _BEGINS[self.reset])

    def number(self, sequence: int) -> str:
        """The number of that place."""
        return self.numbers(range(sequence, sequence + 1))[0]

    def numbers(self, sequences: Iterable[int]) -> list[str]:
        """The numbers of those places: they differ in the sequence alone."""
        place = next(match for match in PART.finditer(self.pattern) if match[1].startswith("seq"))
        before, after = (
            render(part, self.now, None, self.department, self.zone, self.entries)
            for part in (self.pattern[: place.start()], self.pattern[place.end() :])
        )
        width = int(place[3] or 1)
        return [f"{before}{sequence:0{width}d}{after}" for sequence in sequences]


def live_rules(call: Call, described: Described) -> list[dict[str, Any]]:
    """The rules in force for the collection, those with a condition first, in their order."""
    live: dict[str, Any] = call.config(f"numberRule.{described.collection}") or {}
    return [*live.get("rules", []), *([live] if live.get("pattern") else [])]


def rule_for(call: Call, row: Resource) -> dict[str, Any]:
    """The first live rule whose condition fits the row; nothing where the declared one counts."""
    rules = live_rules(call, row.described)
    if not any(rule.get("condition") for rule in rules):
        return rules[0] if rules else {}
    record = json_format.MessageToDict(call.message_of(row), always_print_fields_with_no_presence=True)
    fitting = [rule for rule in rules if _fits(rule.get("condition", ""), record, row, call)]
    return fitting[0] if fitting else {}


def _fits(condition: str, record: Mapping[str, Any], row: Resource, call: Call) -> bool:
    if not condition:
        return True
    try:
        node = filters.bind(filters.parse(condition), record_fields(type(row)))
        return filters.matches(node, record, me=call.caller.actor, now=call.now, zone=ZONE)
    except FilterError:
        # A field that is no more fits nothing.
        return False


def at_creation(call: Call, row: Resource) -> bool:
    """Whether a new row gets its number at once: as the live rule says, else as the collection does by itself."""
    rule = row.described.rule
    moment = "" if rule.number_at_once else rule_for(call, row).get("assignOn", "")
    return moment == CREATE or (not moment and not rule.number_later)


async def assign(call: Call, row: Resource, verb: str) -> None:
    """Gives the row its number where the live rule says that the verb does."""
    rule = row.described.rule
    if not row.number and rule.number and rule_for(call, row).get("assignOn") == verb:
        await call.draw_number(row)


def _rule(
    call: Call, described: Described, department: str, row: Resource, live: Mapping[str, Any]
) -> Counting:
    entry = call.entry(department)
    pattern = live.get("pattern") or described.rule.number
    return Counting(
        pattern, bool(live.get("gapFree", described.rule.gap_free)),
        live.get("reset", ""), int(live.get("start") or 1), entry.get("code") or NO_DEPARTMENT, call.now,
        ZoneInfo(live["timeZone"]) if live.get("timeZone") else ZONE,
        {name: str(getattr(row, name, "") or NO_DEPARTMENT) for name in chosen(pattern)},
    )  # fmt: skip


async def draw(
    call: Call, described: Described, row: Resource, series: str = "", department: str = ""
) -> str:
    """The next number of the resource in the series, by the live rule or the declared one."""
    rule = _rule(call, described, department, row, rule_for(call, row))
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


async def draw_many(call: Call, described: Described, rows: Sequence[Resource]) -> list[str]:
    """A number for each of the rows that get theirs when they are made, a step for each counter."""
    numbers: list[str] = [""] * len(rows)
    counters: dict[tuple[str, ...], tuple[Counting, list[int]]] = {}
    rules = live_rules(call, described)
    # Without conditions one rule is every row's, and rows that say the same for it are counted alike.
    conditional = any(rule.get("condition") for rule in rules)
    alike: dict[tuple[str, ...], Counting] = {}
    for place, row in enumerate(rows):
        live = rule_for(call, row) if conditional or not rules else rules[0]
        if live.get("assignOn", CREATE) not in ("", CREATE):
            continue
        entries = (
            str(getattr(row, name, "")) for name in chosen(live.get("pattern") or described.rule.number)
        )
        said = (row.department, *entries)
        rule = None if conditional else alike.get(said)
        if rule is None:
            rule = alike[said] = _rule(call, described, row.department, row, live)
        key = (rule.pattern, rule.department, *rule.entries.values())
        counters.setdefault(key, (rule, []))[1].append(place)
    for rule, places in counters.values():
        if rule.gap_free:
            last = await _advance(call.db, described.collection, rule, len(places))
        else:
            last = await _take(call, described.collection, rule, len(places))
        made = rule.numbers(range(last - len(places) + 1, last + 1))
        for place, number in zip(places, made, strict=True):
            numbers[place] = number
    return numbers


async def _take(call: Call, counter: str, rule: Counting, by: int) -> int:
    """Advances a counter in a transaction of its own."""
    async with call.running.number_sessions() as session, session.begin():
        return await _advance(session, counter, rule, by)


async def _advance(session: AsyncSession, counter: str, rule: Counting, by: int) -> int:
    first = rule.start - 1 + by
    statement = insert(NumberCounter).values(rule=counter, period=rule.period, last=first, first=rule.start)
    statement = statement.on_conflict_do_update(
        index_elements=["rule", "period"], set_={"last": NumberCounter.last + by}
    )
    return (await session.execute(statement.returning(NumberCounter.last))).scalar_one()


def render(
    pattern: str,
    now: datetime,
    sequence: int | None,
    department: str,
    zone: tzinfo,
    entries: Mapping[str, str],
    formats: Mapping[str, str] = _FORMATS,
) -> str:
    """The pattern filled in; None as the sequence leaves its place empty."""
    local = now.astimezone(zone)

    def part(match: re.Match[str]) -> str:
        if match[1] == "dept":
            return department
        if match[2]:
            return entries.get(match[2], "")
        if match[1].startswith("seq"):
            return "" if sequence is None else f"{sequence:0{int(match[3] or 1)}d}"
        return local.strftime(formats.get(match[1], ""))

    return PART.sub(part, pattern)
