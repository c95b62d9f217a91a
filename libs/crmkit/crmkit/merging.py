"""Merges of accounts and contacts, as every service follows them: what refers to a record that is no more its own.

`customer` decides a merge and puts `redirect.<id>` into the configuration, so that every process knows the survivor.
Here: the count for the preview, the run that brings references over, the log and the run that brings them back, and
the redirects themselves, which hold for whatever arrives later.

What refers is read from the `resource_reference` options of the protos; texts that name records of any kind are told
by `Resource.refers_by`, columns of a service's private tables by `info={"refers": True}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from crm.common.v1 import common_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from sqlalchemy import Table, Text, func, literal, or_, select, tuple_, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import IntegrityError

from crmkit.call import Call
from crmkit.describe import Field, describe_field
from crmkit.events import Fact, Function, listens
from crmkit.resource import Resource
from crmkit.runs import Kind, Run, start
from crmkit.scope import one_of
from crmkit.tables import Outbox, Repoint

if TYPE_CHECKING:
    from crmkit.app import Running
    from crmkit.errors import Problem

TYPES = ("crm.customer/Account", "crm.customer/Contact")
PREFIX = "redirect."
AT_ONCE = 500
ROUNDS = 2
SIGHT_SECONDS = 20
# What a service does beside moving references: `after(call, merge, redirects, undone)`.
After = Callable[[Call, str, Mapping[str, str], bool], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """A column that refers to accounts or contacts."""

    model: type[Resource] | None
    table: Table
    column: str
    kind: str


def places(models: Iterable[type[Resource]], tables: Iterable[Table]) -> list[Place]:
    """Every column that refers, in a fixed order."""
    found: list[Place] = []
    own: set[str] = set()
    for model in sorted(models, key=lambda model: model.described.collection):
        table = model.__table__
        own.add(table.name)
        if model.follows_merges:
            found += [
                Place(model, table, name, _shape(field))
                for name, field in model.described.fields.items()
                if name in table.columns and (_refers(field) or name in model.refers_by)
            ]
    for table in sorted(tables, key=lambda table: table.name):
        if table.name not in own:
            found += [
                Place(None, table, column.name, "list" if isinstance(column.type, ARRAY) else "text")
                for column in table.columns
                if column.info.get("refers")
            ]
    return found


def _shape(field: Field) -> str:
    if field.kind in ("message", "messages"):
        return "json"
    return "list" if field.kind in ("references", "texts") else "text"


def _refers(field: Field) -> bool:
    if field.kind in ("reference", "references"):
        return field.references in TYPES
    return field.kind in ("message", "messages") and _nested(field.nested, frozenset())


def _nested(message: Descriptor, seen: frozenset[str]) -> bool:
    """Whether anything within the message refers."""
    if message.full_name in seen or not message.full_name.startswith("crm."):
        return False
    seen |= {message.full_name}
    for each in message.fields:
        field = describe_field(each)
        if field.kind in ("reference", "references") and _refers(field):
            return True
        if each.message_type is not None and _nested(each.message_type, seen):
            return True
    return False


class Redirects:
    """What was merged into what, in memory; `names` has the survivor of every merged record, chains flattened."""

    def __init__(self, running: Running) -> None:
        self.names: dict[str, str] = {}
        config = running.config
        for key, value in config.prefix(PREFIX).items():
            self._take(PREFIX + key, value)
        config.changed(PREFIX, self._take)
        self._places: dict[type[Resource], list[Place]] = {}
        for place in places(running.app.models, ()):
            if place.model is not None:
                self._places.setdefault(place.model, []).append(place)

    def _take(self, key: str, value: Any) -> None:
        name = key.removeprefix(PREFIX)
        for collection in ("accounts", "contacts"):
            self.names.pop(f"{collection}/{name}", None)
        if value:
            self.names[str(value["from"])] = str(value["to"])

    def of(self, payload: Any) -> Any:
        """The payload with the survivors' names."""
        return substituted(payload, self.names) if self.names else payload

    def fact(self, fact: Fact) -> Fact:
        """A fact of another service as it reads today; customer itself speaks of merged records on purpose."""
        if not self.names or fact.subject.startswith("crm.customer."):
            return fact
        payload = substituted(fact.payload, self.names)
        if payload == fact.payload:
            return fact
        return Fact(
            fact.subject, fact.id, fact.time, fact.actor, fact.aggregate, fact.version, payload, fact.trace
        )

    def rows(self, rows: Iterable[Any]) -> None:
        """Brings new references of rows that are about to be written to the survivors."""
        if not self.names:
            return
        for row in rows:
            for place in self.places_of(row):
                replace(row, place, self.names)

    def places_of(self, row: Any) -> Sequence[Place]:
        """The columns of the row that may refer."""
        return self._places.get(cast("type[Resource]", type(row)), ())


def replace(row: Resource, place: Place, redirects: Mapping[str, str]) -> Any:
    """Brings a column of the row over; gives its old value as JSON, None where nothing referred."""
    value = getattr(row, place.column)
    old = _plain(value)
    new = substituted(old, redirects)
    if new == old:
        return None
    setattr(row, place.column, _typed(row, place, new))
    return old


def replace_all(row: Resource, redirects: Mapping[str, str], call: Call) -> list[tuple[Resource, str, Any]]:
    """Brings every column of the row over; gives those that referred, with their old values."""
    found = [
        (place.column, replace(row, place, redirects)) for place in call.running.redirects.places_of(row)
    ]
    return [(row, column, old) for column, old in found if old is not None]


def substituted(value: Any, redirects: Mapping[str, str]) -> Any:
    """The JSON value with the survivors' names; a list of names has each once."""
    if isinstance(value, str):
        return redirects.get(value, value)
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: substituted(inner, redirects) for key, inner in fields.items()}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        found = [substituted(item, redirects) for item in items]
        if found != items and all(isinstance(item, str) for item in found):
            return list(dict.fromkeys(found))
        return found
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "DESCRIPTOR"):
        return json_format.MessageToDict(value)
    return [_plain(item) for item in value]


def _typed(row: Resource, place: Place, value: Any) -> Any:
    if place.kind != "json" or value is None:
        return value
    field = row.described.fields[place.column]
    made = message_factory.GetMessageClass(field.nested)
    if isinstance(value, list):
        return [json_format.ParseDict(item, made()) for item in cast("list[Any]", value)]
    return json_format.ParseDict(value, made())


@listens("crm.customer.v1.MergePreviewRequested")
async def count_for_merge(event: Fact, call: Call) -> None:
    """Counts what refers to the records that are to be merged."""
    names = [str(name) for name in event.payload.get("names", [])]
    app = call.running.app.name
    answer = common_pb2.MergePreviewed(
        merge=event.payload["merge"]["name"], service=app, digest=str(event.payload.get("digest", ""))
    )
    for place in places(call.running.app.models, call.running.app.tables.tables.values()):
        if place.model is not None:
            answer.counts.extend(await _counted(place, names, call))
    call.tell(f"crm.{app}.v1.MergePreviewed", answer, None)


async def _counted(place: Place, names: list[str], call: Call) -> list[common_pb2.MergeCount]:
    assert place.model is not None
    column, collection = place.table.c[place.column], place.model.described.collection
    state: Any = place.table.c.get("state", literal(""))
    if place.kind == "text":
        statement = select(column, state, func.count()).where(one_of(column, names)).group_by(column, state)
    else:
        statement = select(literal(""), literal(""), func.count()).where(_refer(place, names))
    rows = (await call.db.execute(statement)).all()
    return [
        common_pb2.MergeCount(collection=collection, field=place.column, name=name, state=state, count=count)
        for name, state, count in rows
        if count
    ]


def _refer(place: Place, names: Sequence[str]) -> Any:
    column = place.table.c[place.column]
    match place.kind:
        case "text":
            return one_of(column, names)
        case "list":
            return column.op("&&")(literal(list(names), ARRAY(Text)))
        case _:
            return or_(*(sql_cast(column, Text).contains(name, autoescape=True) for name in names))


@listens("crm.customer.v1.AccountMerged")
async def follow_merge(event: Fact, call: Call) -> None:
    """Begins to bring references over. Told again it finds nothing, and answers again."""
    await _begin("RepointReferences", event, call)


@listens("crm.customer.v1.AccountUnmerged")
async def follow_unmerge(event: Fact, call: Call) -> None:
    """Begins to bring references back."""
    await _begin("RestoreReferences", event, call)


async def _begin(kind: str, event: Fact, call: Call) -> None:
    redirects = {one["from"]: one["to"] for one in event.payload.get("redirects", [])}
    merge: str = event.payload["merge"]["name"]
    spec = {"redirects": redirects, "since": event.payload["merge"].get("previewTime", "")}
    await start(call, kind, merge, spec, f"system/{call.running.app.name}")


async def repoint(run: Run) -> None:
    """Brings every reference to the survivors: one transaction for 500 rows, each change in the log."""
    redirects: dict[str, str] = run.spec["redirects"]
    app = run.running.app
    found = places(app.models, app.tables.tables.values())
    await _sight(run.running, redirects, known=True)
    while run.phase != "ENDED":
        async with run.chunk() as call:
            # A second round finds what was on its way while the first one passed.
            if run.position >= ROUNDS * len(found):
                for after in app.merged:
                    await after(call, run.about, redirects, False)
                await _answer(run, "RUN", call)
                run.next_phase("ENDED")
                continue
            place = found[run.position % len(found)]
            last = await _move(place, run.about, redirects, str(run.tally.get("after", "")), call)
            run.tally["after"] = last
            if not last:
                run.position += 1


async def _move(place: Place, merge: str, redirects: Mapping[str, str], after: str, call: Call) -> str:
    """Brings up to 500 rows of a place over; gives the last one, nothing where the place is done."""
    if place.model is None:
        await _move_private(place, merge, redirects, call)
        return ""
    statement = select(place.model).where(_refer(place, list(redirects))).order_by(place.model.id)
    if after:
        statement = statement.where(place.model.id > after)
    rows = list(await call.db.scalars(statement.limit(AT_ONCE).with_for_update()))
    try:
        async with call.db.begin_nested():
            changed = [change for row in rows for change in replace_all(row, redirects, call)]
            await call.flush()
    except IntegrityError:
        changed = await _one_by_one(place, merge, redirects, [row.id for row in rows], call)
    await log_changes(call, merge, changed)
    return str(rows[-1].id) if len(rows) == AT_ONCE else ""


async def _one_by_one(
    place: Place, merge: str, redirects: Mapping[str, str], ids: Sequence[Any], call: Call
) -> list[tuple[Resource, str, Any]]:
    """As far as the survivor has not the same already; what collides stays and is told of."""
    assert place.model is not None
    changed: list[tuple[Resource, str, Any]] = []
    call.db.expire_all()
    for key in ids:
        try:
            async with call.db.begin_nested():
                row = await call.db.get(place.model, key, populate_existing=True)
                assert row is not None
                found = replace_all(row, redirects, call)
                await call.flush()
                changed += found
        except IntegrityError:
            call.db.expire_all()
            kept = insert(Repoint).values(
                merge=merge, table=place.table.name, row=str(key), column=place.column, old=None, version=0, state="KEPT"
            )  # fmt: skip
            await call.db.execute(kept.on_conflict_do_nothing())
    return changed


async def log_changes(call: Call, merge: str, changes: Sequence[tuple[Resource, str, Any]]) -> None:
    """Keeps how columns were before the merge changed them; what a column was at first stays."""
    for row, column, old in changes:
        table = row.__table__.name
        entry = insert(Repoint).values(
            merge=merge, table=table, row=str(row.id), column=column, old=old, version=row.version
        )
        await call.db.execute(entry.on_conflict_do_nothing())
        mine = (Repoint.merge == merge, Repoint.table == table, Repoint.row == str(row.id))
        await call.db.execute(update(Repoint).where(*mine).values(version=row.version))


async def own_changes(call: Call, merge: str, versions: Mapping[Resource, int]) -> None:
    """What undoing writes itself, from these versions on, is no change by a person."""
    for row, version in versions.items():
        mine = (Repoint.merge == merge, Repoint.table == row.__table__.name, Repoint.row == str(row.id))
        await call.db.execute(
            update(Repoint).where(*mine, Repoint.version == version).values(version=row.version)
        )


async def _move_private(place: Place, merge: str, redirects: Mapping[str, str], call: Call) -> None:
    """A table of the service's own: no versions, no facts."""
    table, column = place.table, place.table.c[place.column]
    keys = list(table.primary_key.columns)
    rows = (
        await call.db.execute(select(*keys, column.label("_old")).where(_refer(place, list(redirects))))
    ).all()
    for row in rows:
        values = list(row)
        here = tuple_(*keys) == tuple_(*(literal(v, k.type) for k, v in zip(keys, values[:-1], strict=True)))
        new, state = substituted(values[-1], redirects), "MOVED"
        try:
            async with call.db.begin_nested():
                await call.db.execute(update(table).where(here).values({column: new}))
        except IntegrityError:
            state, new = "KEPT", values[-1]
        at = {
            k.name: str(new if k.name == column.name else v) for k, v in zip(keys, values[:-1], strict=True)
        }
        entry = insert(Repoint).values(
            merge=merge, table=table.name, row=json.dumps(at, sort_keys=True), column=column.name, old=values[-1],
            version=0, state=state,
        )  # fmt: skip
        await call.db.execute(entry.on_conflict_do_nothing())


async def restore(run: Run) -> None:
    """Brings back what the merge brought over, as far as nobody has changed it since."""
    redirects: dict[str, str] = run.spec["redirects"]
    app = run.running.app
    await _sight(run.running, redirects, known=False)
    known = {(p.table.name, p.column): p for p in places(app.models, app.tables.tables.values())}
    while run.phase != "ENDED":
        async with run.chunk() as call:
            mine = select(Repoint).where(Repoint.merge == run.about, Repoint.state.in_(["MOVED", "KEPT"]))
            entries = list(await call.db.scalars(mine.order_by(Repoint.table, Repoint.row).limit(AT_ONCE)))
            if not entries:
                for after in app.merged:
                    await after(call, run.about, redirects, True)
                await _answer(run, "UNDO", call)
                run.next_phase("ENDED")
                continue
            run.position += 1
            for table, row, columns in _by_row(entries):
                await _bring_back(table, row, columns, known, redirects, call)


def _by_row(entries: Sequence[Repoint]) -> Iterator[tuple[str, str, list[Repoint]]]:
    rows: dict[tuple[str, str], list[Repoint]] = {}
    for entry in entries:
        rows.setdefault((entry.table, entry.row), []).append(entry)
    for (table, row), columns in rows.items():
        yield table, row, columns


async def _bring_back(
    table: str,
    key: str,
    entries: list[Repoint],
    known: Mapping[tuple[str, str], Place],
    redirects: Mapping[str, str],
    call: Call,
) -> None:
    moved = [entry for entry in entries if entry.state == "MOVED"]
    for entry in entries:
        entry.state = "BACK"
    model = next((m for m in call.running.app.models if m.__table__.name == table), None)
    if model is None:
        for entry in moved:
            await _bring_private_back(known[table, entry.column], entry, redirects, call)
        return
    row = await call.db.get(model, key, with_for_update=True)
    if row is None or (moved and await touched(row, moved[0].version, call)):
        for entry in moved:
            entry.state = "LEFT"
        return
    for entry in moved:
        place = known.get((table, entry.column)) or Place(model, model.__table__, entry.column, "plain")
        now = _plain(getattr(row, entry.column))
        if place.kind != "plain" and now != substituted(entry.old, redirects):
            entry.state = "LEFT"
        else:
            setattr(row, entry.column, _typed(row, place, entry.old))
    await call.flush()


async def _bring_private_back(place: Place, entry: Repoint, redirects: Mapping[str, str], call: Call) -> None:
    table, column, at = place.table, place.table.c[place.column], json.loads(entry.row)
    here: list[Any] = [sql_cast(cast("Any", table.c[name]), Text) == value for name, value in at.items()]
    result = await call.db.execute(
        update(table).where(*here, column == substituted(entry.old, redirects)).values({column: entry.old})
    )
    if not cast("Any", result).rowcount:
        entry.state = "LEFT"


async def touched(row: Resource, version: int, call: Call) -> bool:
    """Whether a person has changed the record since; changes of the services themselves do not count."""
    if row.version == version:
        return False
    later = select(Outbox.actor, Outbox.aggregate_version).where(
        Outbox.aggregate_id == row.name,
        Outbox.aggregate_version > version,
        Outbox.type.endswith(".ResourceChanged"),
    )
    known = (await call.db.execute(later)).all()
    return any(not actor.startswith("system/") for actor, _ in known)


async def _answer(run: Run, direction: str, call: Call) -> None:
    """Tells what was done, from the log: the same however often it is asked."""
    app, merge = call.running.app, run.about
    answer = common_pb2.MergeRepointed(merge=merge, service=app.name, direction=direction)
    done = "MOVED" if direction == "RUN" else "BACK"
    collections = {model.__table__.name: model.described.collection for model in app.models}
    counts = select(Repoint.table, Repoint.column, func.count()).where(Repoint.merge == merge)
    for table, column, count in await call.db.execute(
        counts.where(Repoint.state == done).group_by(Repoint.table, Repoint.column).order_by(Repoint.table)
    ):
        if table in collections:
            answer.counts.add(collection=collections[table], field=column, count=count)
    stays = select(Repoint).where(
        Repoint.merge == merge, Repoint.state == ("KEPT" if direction == "RUN" else "LEFT")
    )
    for entry in await call.db.scalars(stays.order_by(Repoint.table, Repoint.row)):
        if entry.table in collections:
            answer.left.add(
                name=f"{collections[entry.table]}/{entry.row}", field=entry.column,
                reason="EXISTS" if direction == "RUN" else "CHANGED",
            )  # fmt: skip
    if direction == "RUN" and (since := str(run.spec.get("since", ""))):
        answer.arrived.extend(await _arrived(merge, datetime.fromisoformat(since), call))
    call.tell(f"crm.{app.name}.v1.MergeRepointed", answer, None)


async def _arrived(merge: str, since: datetime, call: Call) -> list[str]:
    """What was brought over without having been counted, because it did not exist yet."""
    found: list[str] = []
    for model in call.running.app.models:
        moved = select(Repoint.row).where(
            Repoint.merge == merge, Repoint.table == model.__table__.name, Repoint.state == "MOVED"
        )
        new = select(model.id).where(model.create_time > since, sql_cast(model.id, Text).in_(moved))
        found += [
            f"{model.described.collection}/{key}" for key in await call.db.scalars(new.order_by(model.id))
        ]
    return found


async def _sight(running: Running, redirects: Mapping[str, str], known: bool) -> None:
    """Waits until this process resolves the names, or does no more: what is written meanwhile goes the same way."""
    for _ in range(SIGHT_SECONDS * 20):
        if all((name in running.redirects.names) == known for name in redirects):
            return
        await asyncio.sleep(0.05)
    raise RuntimeError("the configuration does not say what was merged")


async def _cannot(run: Run, problem: Problem, call: Call) -> None:
    """The watch of customer tells of the merge again; what is done stays done."""


HANDLERS: tuple[Function, ...] = (count_for_merge, follow_merge, follow_unmerge)
KINDS = {"RepointReferences": Kind(repoint, _cannot), "RestoreReferences": Kind(restore, _cannot)}
