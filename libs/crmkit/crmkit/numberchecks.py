"""Human numbers held against their counters, and counters that an administrator has go on from a higher number.

Workspace has the rules, the owner of a collection its counters: `NumbersAsked` → `NumbersAnswered`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crm.common.v1 import common_pb2
from sqlalchemy import and_, select, text
from sqlalchemy.dialects.postgresql import insert

from crmkit import runs
from crmkit.auth import system
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.numberform import Form, form_of
from crmkit.runs import Kind, Run
from crmkit.tables import NumberCounter, NumberJump

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

RUN = "NumberCheck"
MOST_FINDINGS = 1000
MISSING, DOUBLE, OUT_OF_ORDER = "MISSING", "DOUBLE", "OUT_OF_ORDER"

# A row at each end of a counter makes what is missing before the first and behind the last number a hole too.
_CHECK = """
WITH parsed AS MATERIALIZED (
  SELECT series, concat({period}) AS period, m[{sequence}]::bigint AS place, number, create_time
  FROM (SELECT {series} AS series, number, create_time, regexp_match(number, :expression) AS m
        FROM {table} WHERE number <> '') AS numbered WHERE m IS NOT NULL
), counters AS (
  SELECT CASE WHEN rule = :rule THEN '' ELSE substr(rule, length(:rule) + 2) END AS series, period, first, last
  FROM number_counters WHERE (rule = :rule OR starts_with(rule, :rule || '/')) AND period ~ :counters
), placed AS (
  SELECT series, period, place, number, create_time
  FROM parsed JOIN counters USING (series, period) WHERE place BETWEEN first AND last
  UNION ALL SELECT series, period, first - 1, '', NULL FROM counters
  UNION ALL SELECT series, period, last + 1, '', NULL FROM counters
), paired AS (
  SELECT series, period, place, number, create_time, lag(place) OVER counter AS place_before,
    lag(number) OVER counter AS number_before,
    :ordered AND create_time < lag(create_time) OVER counter - interval '1 minute' AS early
  FROM placed WINDOW counter AS (PARTITION BY series, period ORDER BY place, create_time)
)
SELECT (SELECT count(*) FROM placed WHERE number <> '') AS numbers,
  (SELECT count(*) FROM {table} WHERE number <> '') AS there,
  series, period, place, place_before, number, number_before, early
FROM (SELECT) AS once LEFT JOIN (
  SELECT * FROM paired WHERE place - place_before <> 1 AND (place > place_before + 1 OR number <> '')
    OR early
  ORDER BY series, period, place LIMIT :most
) AS odd ON true
"""


@listens("crm.workspace.v1.NumbersAsked")
async def on_numbers_asked(event: Fact, call: Call) -> None:
    """Advances a counter at once, or queues the look through the numbers."""
    payload: dict[str, Any] = event.payload
    rule: dict[str, Any] = payload["numberRule"]
    if rule["collection"] not in call.running.models_by_collection:
        return
    asked = {"rule": rule, "time": payload["askedTime"]}
    if not payload.get("nextNumber"):
        await runs.start(call, RUN, f"{rule['name']}#{event.id}", asked, system(call.running.app.name).actor)
        return
    refused = await _advance(payload, event.actor, call)
    answer = _answer(asked, advance=True, refused=refused)
    call.tell(f"crm.{call.running.app.name}.v1.NumbersAnswered", answer, None)


async def _advance(payload: dict[str, Any], actor: str, call: Call) -> str:
    """Passes over the numbers before the one that is to come next; says why it does not."""
    rule: dict[str, Any] = payload["numberRule"]
    described = call.running.models_by_collection[rule["collection"]].described
    found = form_of(call, described, rule["pattern"], rule.get("reset", "")).place(payload["nextNumber"])
    if found is None:
        return "NUMBER_PATTERN_INVALID"
    period, place = found
    counter = f"{rule['collection']}/{payload['series']}" if payload.get("series") else rule["collection"]
    key = and_(NumberCounter.rule == counter, NumberCounter.period == period)
    fresh = insert(NumberCounter).values(rule=counter, period=period, first=place, last=place - 1)
    begun = await call.db.scalar(fresh.on_conflict_do_nothing().returning(NumberCounter.last))
    if begun is not None:
        return ""
    row = (await call.db.scalars(select(NumberCounter).where(key).with_for_update())).one()
    if row.last >= place:
        return "NUMBER_BACKWARDS"
    if row.last < place - 1:
        call.db.add(
            NumberJump(
                rule=counter, period=period, first=row.last + 1, last=place - 1, reason=payload.get("reason", ""),
                actor=actor, time=call.now,
            )
        )  # fmt: skip
        row.last = place - 1
    # What this process had taken in advance is passed over as well.
    call.running.number_blocks.pop((counter, period), None)
    return ""


async def check(run: Run) -> None:
    """Looks through the numbers of the collection and tells what it found."""
    rule: dict[str, Any] = run.spec["rule"]
    if run.phase == "ENDED":
        return
    model = run.running.models_by_collection[rule["collection"]]
    async with run.chunk() as call:
        # A million numbers take some seconds.
        await call.db.execute(text("SET LOCAL statement_timeout = '25s'"))
        answer = _answer(run.spec)
        await _look(answer, rule, model, call)
        call.tell(f"crm.{run.running.app.name}.v1.NumbersAnswered", answer, None)
        run.next_phase("ENDED")


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Tells that it could not be done."""
    answer = _answer(run.spec, refused=problem.reason)
    call.tell(f"crm.{run.running.app.name}.v1.NumbersAnswered", answer, None)


KINDS = {RUN: Kind(check, give_up)}


async def _look(
    answer: common_pb2.NumbersAnswered, rule: dict[str, Any], model: type[Resource], call: Call
) -> None:
    form = form_of(call, model.described, rule["pattern"], rule.get("reset", ""))
    declared = model.described.rule
    gap_free = bool(rule.get("gapFree"))
    statement, literals = _statement(form, model)
    rows = await call.db.execute(
        statement,
        {
            **literals,
            "rule": rule["collection"],
            "expression": form.expression,
            "counters": form.counters,
            # Several processes draw blocks of a rule that lets gaps be, and drafts are older than their numbers.
            "ordered": gap_free and not declared.number_later,
            "most": MOST_FINDINGS,
        },
    )
    jumps = list(await call.db.scalars(select(NumberJump).order_by(NumberJump.first)))
    for row in rows.all():
        answer.numbers, answer.strangers = row.numbers, row.there - row.numbers
        if row.place is None:
            continue
        if row.place > row.place_before + 1:
            rule_name = f"{rule['collection']}/{row.series}" if row.series else rule["collection"]
            mine = [jump for jump in jumps if (jump.rule, jump.period) == (rule_name, row.period)]
            for first, last, jump in _split(row.place_before + 1, row.place - 1, mine):
                reason = "ADVANCED" if jump else "UNKNOWN" if gap_free else "NOT_GAP_FREE"
                _find(answer, MISSING, form, row, first, last, reason, jump.reason if jump else "")
                answer.missing += 0 if jump else last - first + 1
        elif row.place == row.place_before:
            _find(answer, DOUBLE, form, row, row.place, row.place)
        if row.early:
            _find(answer, OUT_OF_ORDER, form, row, row.place_before, row.place)


def _statement(form: Form, model: type[Resource]) -> tuple[Any, dict[str, str]]:
    table = model.__table__
    within = [f'"{name}"' for name in model.described.rule.number_per]
    literals = {f"literal{place}": part for place, part in enumerate(form.counter) if isinstance(part, str)}
    period = [
        f"CAST(:literal{place} AS text)"
        if isinstance(part, str)
        else f"left(m[{part[0]}], {part[1]})"
        if part[1]
        else f"m[{part[0]}]"
        for place, part in enumerate(form.counter)
    ]
    filled = _CHECK.format(
        table=table.name,
        sequence=form.sequence,
        period=", ".join(period) or "''",
        series=f"concat_ws('/', {', '.join(within)})" if within else "''",
    )
    return text(filled), literals


def _split(
    first: int, last: int, jumps: Sequence[NumberJump]
) -> Iterator[tuple[int, int, NumberJump | None]]:
    """The hole cut where somebody has passed over numbers."""
    for jump in jumps:
        if jump.last < first or jump.first > last:
            continue
        if jump.first > first:
            yield first, jump.first - 1, None
        yield max(first, jump.first), min(last, jump.last), jump
        first = jump.last + 1
    if first <= last:
        yield first, last, None


def _find(
    answer: common_pb2.NumbersAnswered,
    kind: str,
    form: Form,
    row: Any,
    first: int,
    last: int,
    reason: str = "",
    note: str = "",
) -> None:
    if kind == MISSING:
        known = row.number_before or row.number
        texts = [form.beside(known, place) or str(place) for place in (first, last)]
    else:
        texts = [row.number_before, row.number]
    answer.findings.add(
        kind=kind, series=row.series, first=texts[0], last=texts[1], reason=reason, note=note,
        count=last - first + 1 if kind == MISSING else 2,
    )  # fmt: skip


def _answer(asked: dict[str, Any], advance: bool = False, refused: str = "") -> common_pb2.NumbersAnswered:
    answer = common_pb2.NumbersAnswered(number_rule=asked["rule"]["name"], advance=advance, refused=refused)
    answer.asked_time.FromDatetime(datetime.fromisoformat(asked["time"]))
    return answer
