"""Handovers, as every service follows them: what somebody owns goes to others by a plan, and back.

`customer` plans a handover and moves the customers themselves; here is what every service does with the rest: the
count for the preview, the run that moves records, the log and the run that brings them back.

A record goes along where its model is OWNED and has states. Which rule counts: the first that names the record or its
collection; else it goes with its customer; else the first rule that names nothing. Records that have ended stay unless
a rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from crm.common.v1 import common_pb2
from google.protobuf import json_format
from sqlalchemy import ColumnElement, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert

from crmkit import listing
from crmkit.auth import system
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from crmkit.events import Fact, Function, listens
from crmkit.merging import touched
from crmkit.resource import Resource
from crmkit.runs import Kind, Run, start
from crmkit.scope import one_of
from crmkit.tables import Repoint

if TYPE_CHECKING:
    pass

AT_ONCE = 500
PART = 1000
# States in which nothing is left to do.
OVER = frozenset([
    "ACCEPTED", "ARCHIVED", "CANCELLED", "CLOSED", "COMPLETED", "CONVERTED", "DISCARDED", "DISQUALIFIED", "DONE",
    "DONE_WITH_ERRORS", "ENDED", "ERASED", "EVALUATED", "EXECUTED", "FAILED", "FINISHED", "LEFT", "LOST", "MERGED",
    "MISSED", "QUALIFIED", "REFUSED", "REJECTED", "REVERSED", "REVERTED", "REVOKED", "SKIPPED", "SPAM", "SUPERSEDED",
    "TERMINATED", "UNDONE", "VOID", "WITHDRAWN", "WON",
])  # fmt: skip
_COLUMN = "owner"


@dataclass(frozen=True)
class Step:
    """Records of one collection that go to the same people."""

    model: type[Resource]
    condition: ColumnElement[bool]
    to: tuple[str, ...]
    pool: str = ""


def goes_along(model: type[Resource]) -> bool:
    """Whether records of the model are work that somebody else can go on with."""
    state = model.described.fields.get("state")
    return (
        model.handed_over
        and model.described.scope == "OWNED"
        and state is not None
        and bool(state.enum_numbers)
    )


def still_open(model: type[Resource]) -> ColumnElement[bool]:
    """True for records with work left to do."""
    over = sorted(OVER & set(model.described.fields["state"].enum_numbers))
    return cast("Any", model).state.not_in(over)


def steps_of(
    model: type[Resource],
    rules: Sequence[Mapping[str, Any]],
    customers: Mapping[str, Sequence[str]],
    call: Call,
) -> Iterator[Step]:
    """What the plan gives of the model, in the order in which it counts."""
    collection = model.described.collection
    named: list[Mapping[str, Any]] = []
    general: list[Mapping[str, Any]] = []
    for rule in rules:
        mine = collection in rule.get("collections", ()) or any(
            name.partition("/")[0] == collection for name in rule.get("items", ())
        )
        if mine:
            named.append(rule)
        elif not rule.get("collections") and not rule.get("items"):
            general.append(rule)
    # For customers themselves the order of the plan is the order; everything else asks whose its customer is now.
    accounts = collection == "accounts"
    for rule in [rule for rule in rules if rule in named or rule in general] if accounts else named:
        yield from _step(model, rule, call)
    if accounts:
        return
    if "account" in model.described.fields:
        column: Any = cast("Any", model).account
        for to, names in customers.items():
            if to and names:
                yield Step(model, one_of(column, names) & still_open(model), (to,))
    for rule in general:
        yield from _step(model, rule, call)


def _step(model: type[Resource], rule: Mapping[str, Any], call: Call) -> Iterator[Step]:
    accounts = model.described.collection == "accounts"
    to, pool = tuple(rule.get("to", ())), str(rule.get("pool", ""))
    if (pool or rule.get("divisions")) and not accounts:
        return
    conditions: list[ColumnElement[bool]] = []
    if items := [n for n in rule.get("items", ()) if n.partition("/")[0] == model.described.collection]:
        conditions.append(model.id.in_([name.partition("/")[2] for name in items]))
    elif rule.get("items"):
        return
    if text := str(rule.get("filter", "")):
        conditions.append(listing.where(model, text, system(call.running.app.name), call.now))
    if divisions := [str(code) for code in rule.get("divisions", ())]:
        place = func.jsonb_array_elements(cast("Any", model).addresses).table_valued("value").alias("place")
        code = place.c.value.op("->>")("divisionCode")
        within = or_(*(code.startswith(one, autoescape=True) for one in divisions))
        conditions.append(select(place.c.value).where(within).exists())
    if not rule.get("closed"):
        conditions.append(still_open(model))
    condition = conditions[0] if conditions else literal(True)
    for each in conditions[1:]:
        condition = condition & each
    yield Step(model, condition, to, pool)


async def move(step: Step, about: str, batch: int, leaver: str, run: Run, call: Call) -> bool:
    """Moves up to 500 records of the step; false where it is done. What is refused is logged and stays."""
    model: Any = step.model
    statement = select(step.model).where(model.owner == leaver, step.condition).order_by(model.id)
    if after := run.tally.get("after"):
        statement = statement.where(model.id > after)
    rows = list(await call.db.scalars(statement.limit(AT_ONCE).with_for_update()))
    moved: list[tuple[Resource, dict[str, Any]]] = []
    refused: list[tuple[Resource, str]] = []
    for row in rows:
        before = {"owner": row.owner, "department": row.department, "batch": batch}
        try:
            to = "" if step.pool else await lightest(step, run, call)
            await row.pass_on(to, step.pool or department_of(to, call), about, call)
        except Problem as problem:
            refused.append((row, problem.reason))
            continue
        moved.append((row, {**before, "to": to}))
        # Each takes its place before the next is weighed: what one may own is counted in the database.
        if step.model.described.collection == "accounts":
            await call.flush()
    await call.flush()
    for row, old in moved:
        await _log(about, row, old, "MOVED", call)
    for row, reason in refused:
        await _log(about, row, {"owner": leaver, "batch": batch, "reason": reason}, "KEPT", call)
    run.tally["after"] = str(rows[-1].id) if len(rows) == AT_ONCE else ""
    return len(rows) == AT_ONCE


async def lightest(step: Step, run: Run, call: Call) -> str:
    """The receiver who has the fewest open records of the collection, those of this handover counted."""
    if len(step.to) == 1:
        return step.to[0]
    key = f"load {step.model.described.collection}"
    load: dict[str, int] = run.tally.setdefault(key, {})
    if missing := [one for one in step.to if one not in load]:
        model: Any = step.model
        counts = select(model.owner, func.count()).where(model.owner.in_(missing), still_open(step.model))
        load |= dict.fromkeys(missing, 0)
        load |= {row[0]: row[1] for row in await call.db.execute(counts.group_by(model.owner))}
    if not step.to:
        raise FailedPrecondition("EMPLOYEE_INACTIVE")
    to = min(step.to, key=lambda one: (load[one], step.to.index(one)))
    load[to] += 1
    return to


def department_of(employee: str, call: Call) -> str:
    """Where somebody works."""
    entry = call.entry(employee)
    return str(entry.get("department") or "")


@listens("crm.customer.v1.TransferPreviewRequested")
async def count_for_transfer(event: Fact, call: Call) -> None:
    """Counts what the person owns."""
    leaver, app = str(event.payload["from"]), call.running.app
    answer = common_pb2.TransferPreviewed(transfer=event.payload["transfer"]["name"], service=app.name)
    answer.time.FromJsonString(event.payload["time"])
    for model in app.models:
        if not goes_along(model):
            continue
        row: Any = model
        counted = await call.db.execute(
            select(func.count().filter(still_open(model)), func.count()).where(row.owner == leaver)
        )
        live, total = counted.one()
        if total:
            answer.counts.add(collection=model.described.collection, open=live, closed=total - live)
    call.tell(f"crm.{app.name}.v1.TransferPreviewed", answer, None)


@listens("crm.customer.v1.TransferStarted")
async def follow_transfer(event: Fact, call: Call) -> None:
    """Begins to move. Told again it finds nothing, and answers again."""
    told = event.payload
    spec = {name: told.get(name) for name in ("batch", "from", "rules", "customers")}
    await start(call, "HandOver", told["transfer"]["name"], spec, f"system/{call.running.app.name}")


@listens("crm.customer.v1.TransferUndone")
async def follow_undone(event: Fact, call: Call) -> None:
    """Begins to bring back."""
    await start(call, "HandBack", event.payload["transfer"]["name"], {}, f"system/{call.running.app.name}")


async def hand_over(run: Run) -> None:
    """Moves what the plan gives: one transaction for 500 records, each in the log."""
    app, batch, leaver = run.running.app, int(run.spec["batch"] or 0), str(run.spec["from"])
    customers = {one["to"]: one.get("accounts", []) for one in run.spec["customers"] or () if one.get("to")}
    # In the first batch the customers have moved before the fact was told.
    models = [m for m in app.models if goes_along(m) and (batch > 1 or m.described.collection != "accounts")]
    while run.phase != "ENDED":
        async with run.chunk() as call:
            steps = (
                []
                if not leaver
                else [
                    step
                    for model in models
                    for step in steps_of(model, run.spec["rules"] or (), customers, call)
                ]
            )
            if run.position >= len(steps):
                await answer(run.about, "RUN", batch, call)
                run.next_phase("ENDED")
            elif not await move(steps[run.position], run.about, batch, leaver, run, call):
                run.position += 1


async def hand_back(run: Run) -> None:
    """Brings back what nobody has changed since."""
    models = {model.__table__.name: model for model in run.running.app.models}
    while run.phase != "ENDED":
        async with run.chunk() as call:
            mine = select(Repoint).where(Repoint.merge == run.about, Repoint.state == "MOVED")
            entries = list(await call.db.scalars(mine.order_by(Repoint.table, Repoint.row).limit(AT_ONCE)))
            if not entries:
                await answer(run.about, "UNDO", 0, call)
                run.next_phase("ENDED")
                continue
            run.position += 1
            for entry in entries:
                row = await call.db.get(models[entry.table], entry.row, with_for_update=True)
                entry.state = "LEFT"
                if row is None or row.owner != entry.old["to"] or await touched(row, entry.version, call):
                    continue
                try:
                    await row.pass_on(entry.old["owner"], entry.old["department"], run.about, call)
                except Problem:
                    continue
                await call.flush()
                entry.state = "BACK"


async def answer(about: str, direction: str, batch: int, call: Call) -> None:
    """Tells what was done, from the log: the same however often it is asked."""
    app = call.running.app
    collections = {model.__table__.name: model.described.collection for model in app.models}
    done, stays = ("MOVED", "KEPT") if direction == "RUN" else ("BACK", "LEFT")
    entries = [
        entry
        for entry in await call.db.scalars(
            select(Repoint)
            .where(Repoint.merge == about, Repoint.state.in_([done, stays]))
            .order_by(Repoint.table, Repoint.row)
        )
        if entry.table in collections and (not batch or entry.old["batch"] == batch)
    ]
    for first in range(0, max(len(entries), 1), PART):
        part = common_pb2.TransferApplied(
            transfer=about,
            batch=batch,
            service=app.name,
            direction=direction,
            last=first + PART >= len(entries),
        )
        for entry in entries[first : first + PART]:
            name = f"{collections[entry.table]}/{entry.row}"
            if entry.state == done:
                part.moved.add(name=name, to=entry.old["to"], **{"from": entry.old["owner"]})
            else:
                part.left.add(name=name, reason=entry.old.get("reason") or "CHANGED")
        call.tell(f"crm.{app.name}.v1.TransferApplied", part, None)


async def _log(about: str, row: Resource, old: dict[str, Any], state: str, call: Call) -> None:
    """Keeps how the record was before; in a later batch what it was at first stays, and who has it now changes."""
    key = {"merge": about, "table": row.__table__.name, "row": str(row.id), "column": _COLUMN}
    known = await call.db.get(Repoint, tuple(key.values()))
    if known is not None:
        first = {"owner": known.old["owner"], "department": known.old.get("department", "")}
        known.old, known.version, known.state = {**old, **first}, row.version, state
    else:
        await call.db.execute(insert(Repoint).values(**key, old=old, version=row.version, state=state))


async def _cannot(run: Run, problem: Problem, call: Call) -> None:
    """The watch of customer tells of the handover again; what is done stays done."""


def read_rules(rules: Any) -> list[dict[str, Any]]:
    """Rules of a plan as a fact carries them."""
    return [json_format.MessageToDict(rule) for rule in rules]


HANDLERS: tuple[Function, ...] = (count_for_transfer, follow_transfer, follow_undone)
KINDS = {"HandOver": Kind(hand_over, _cannot), "HandBack": Kind(hand_back, _cannot)}
