"""Many new rows at once: one statement a table, with the facts and the search entries that every new row has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

from google.protobuf.message import Message
from sqlalchemy import ARRAY, Table

from crmkit import numbering
from crmkit.approvals import policy_over
from crmkit.call import Call
from crmkit.columns import MessageColumn
from crmkit.customfields import hold_many
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition
from crmkit.inserting import DIALECT, bind_of, columns_of
from crmkit.mapping import mapper
from crmkit.outbox import emit_rows, new_fact, traced
from crmkit.packs import packed
from crmkit.resource import Resource
from crmkit.search import search_columns
from crmkit.tables import Collaborator

# Few rows have one statement for all that they may have in common, which is prepared once.
MANY = 50


class JsonText(str):
    """JSON that is written already, for a column of JSON."""


async def insert_rows(
    call: Call, table: Any, rows: Sequence[Mapping[str, Any]], conflict: str = "ON CONFLICT DO NOTHING"
) -> list[Any]:
    """Inserts rows that have the same keys in one statement; those that exist are left out, unless `conflict`, which
    knows them as `known`, says otherwise. Gives what that returns."""
    if not rows:
        return []
    return await insert_columns(
        call, table, {name: [row[name] for row in rows] for name in rows[0]}, conflict
    )


async def insert_columns(
    call: Call, table: Any, columns: Mapping[str, Sequence[Any]], conflict: str = "ON CONFLICT DO NOTHING"
) -> list[Any]:
    """Inserts rows by their columns. What is the same in all of many rows is sent once."""
    shape: list[tuple[str, bool]] = []
    given: list[Any] = []
    for name, values in columns.items():
        kind, first = _kinds(table)[name], values[0]
        one = len(values) >= MANY and values.count(first) == len(values)
        shape.append((name, one))
        given.append(kind.write(first) if one else [kind.write(value) for value in values])
    if all(one for _, one in shape):
        # Something has to say how many there are.
        shape[0], given[0] = (shape[0][0], False), [given[0]] * len(next(iter(columns.values())))
    return await (await driver(call.db)).fetch(_insertion(table, tuple(shape), conflict), *given)


@lru_cache(512)
def _insertion(table: Table, shape: tuple[tuple[str, bool], ...], conflict: str) -> str:
    kinds = _kinds(table)
    names = ", ".join(f'"{name}"' for name, _ in shape)
    numbered = [(number, name, one) for number, (name, one) in enumerate(shape, start=1)]
    taken = ", ".join(
        f"${number}::{kinds[name].sent}::{kinds[name].type}" if one else f"u.c{number}::{kinds[name].type}"
        for number, name, one in numbered
    )
    arrays = [(number, name) for number, name, one in numbered if not one]
    unnested = ", ".join(f"${number}::{kinds[name].sent}[]" for number, name in arrays)
    aliases = ", ".join(f"c{number}" for number, _ in arrays)
    return (
        f"INSERT INTO {table.name} AS known ({names}) SELECT {taken} FROM unnest({unnested}) AS u({aliases})"
        f" {conflict}"
    )


@cache
def newer(key: str, columns: tuple[str, ...], later: str = "known.version < excluded.version") -> str:
    """The conflict of rows that are written anew, in these columns, where theirs is the later version."""
    anew = ", ".join(f"{name} = excluded.{name}" for name in columns if name != key)
    return f"ON CONFLICT ({key}) DO UPDATE SET {anew} WHERE {later}"


class _Kind(NamedTuple):
    """How values of a column are sent: lists and JSON as text, for they cannot be unnested."""

    type: str
    sent: str
    write: Callable[[Any], Any]


@cache
def _kinds(table: Table) -> dict[str, _Kind]:
    found: dict[str, _Kind] = {}
    for column in table.columns:
        kind: Any = column.type
        bind, name = bind_of(kind), kind.compile(dialect=DIALECT).partition(" COLLATE ")[0]
        if isinstance(kind, ARRAY):
            found[column.name] = _Kind(name, "text", _array)
        elif name == "JSONB":
            text = kind.text_of if isinstance(kind, MessageColumn) else _json
            found[column.name] = _Kind(name, "text", partial(_json_text, text))
        else:
            found[column.name] = _Kind(name, name, bind or _same)
    return found


def _json_text(write: Callable[[Any], str | None], value: Any) -> str | None:
    return value if isinstance(value, JsonText) else write(value)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _array(values: Iterable[Any] | None) -> str | None:
    """A list of texts as PostgreSQL writes one."""
    if values is None:
        return None
    texts = list(map(str, values))
    plain = "".join(texts)
    if '"' in plain or "\\" in plain:
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(texts) + '"}' if texts else "{}"


def _same(value: Any) -> Any:
    return value


def _refuse_gated(call: Call, rows: Sequence[Resource]) -> None:
    """What a policy holds comes one by one: many at once do not go around the gate."""
    if any(policy_over(row, "create", call) for row in rows):
        raise FailedPrecondition("APPROVAL_NEEDED")


async def create_many(
    call: Call,
    rows: Sequence[Resource],
    event: type[Message] | None = None,
    field: str = "",
    told: bool = True,
) -> None:
    """Writes new rows that have checked and completed themselves, and tells for each its change and, in the field, the event.

    Readings of facts, which nobody makes or changes, tell no change of their own (`told`).

    The same as `call.add` and the flush for every row, but for `creating`, which is the caller's. APPROVAL_NEEDED
    where a policy would hold one of them: who can do without it holds those before (`crmkit.alone`, `hold_row`).
    """
    if not rows:
        return
    model = type(rows[0])
    _refuse_gated(call, rows)
    call.running.redirects.rows(rows)
    _own(rows, call)
    described = model.described
    if described.rule.number:
        without = [row for row in rows if not row.number]
        numbers = await numbering.draw_many(call, described, without)
        for row in rows:
            row.number = row.number or numbers.pop(0)
    async with meanwhile(insert_columns(call, model.__table__, _columns(rows))):
        search = _search(rows, call) if model.search_table is not None else []
    await hold_many(rows, call)
    async with meanwhile(insert_rows(call, model.search_table, search)):
        told_of = packed(_facts(rows, event, field, call), "CREATED") if told else []
    people = [
        {"employee": employee, "collection": described.collection, "id": row.id}
        for row in rows
        for employee in row.collaborators
    ]
    await insert_rows(call, Collaborator.__table__, people)
    if told:
        await emit_rows(call.db, told_of)
        call.told = True


_OWN = ("creator", "owner", "department", "create_time", "update_time")


def _own(rows: Sequence[Resource], call: Call) -> None:
    """Says of the new rows whose they are: once for all that say the same of it themselves."""
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        state = row.__dict__
        said = tuple(state.get(name) for name in _OWN)
        if said in known:
            # Nobody else has seen the row yet, so it has no history.
            state.update(known[said])
        else:
            call.own(row)
            known[said] = {name: state[name] for name in _OWN if name in state}


@asynccontextmanager
async def meanwhile(statement: Coroutine[Any, Any, Any]) -> AsyncGenerator[None]:
    """Waits for a statement behind what is reckoned within, which takes no time of its own: the database works."""
    sent = asyncio.ensure_future(statement)
    try:
        await asyncio.sleep(0)
        yield
    except BaseException:
        # The connection is taken back by somebody else at once, so nothing may be under way on it.
        sent.cancel()
        await asyncio.wait([sent])
        raise
    await sent


def _search(rows: Sequence[Resource], call: Call) -> list[dict[str, Any]]:
    """What finds each row."""
    custom, collection = call.running.directory.custom, rows[0].described.collection
    found: list[dict[str, Any]] = []
    for row in rows:
        texts = (*row.search_texts(), *custom.search_texts(collection, row.custom))
        columns = search_columns(texts, texts, phones=row.search_phones(), spelled=row.spelled)
        found.append({"id": row.id, **columns})
    return found


def _facts(
    rows: Sequence[Resource], event: type[Message] | None, field: str, call: Call
) -> Iterator[dict[str, Any]]:
    """The facts of each new row: its change and, in the field, the event."""
    described, mapping, custom = rows[0].described, mapper(type(rows[0])), call.running.directory.custom
    described_json, apart = call.running.codec.to_json, mapping.sets_apart(custom)
    actor = call.caller.actor
    change: dict[str, Any] = {
        "action": "CREATED",
        "actor": actor,
        "time": call.now.isoformat().replace("+00:00", "Z"),
        "method": call.method,
    }
    head = json.dumps(change, ensure_ascii=False)[:-1]
    kind, trace = described.message.full_name, traced()
    changed = f"crm.{described.area}.v1.ResourceChanged"
    for row, message in zip(rows, mapping.messages(rows), strict=True):
        record = described_json(kind, message).decode()
        more = ""
        if apart:
            parts: dict[str, Any] = {"resource": json.loads(record)}
            mapping.set_apart(parts, custom)
            record = json.dumps(parts.pop("resource"), ensure_ascii=False)
            more = "".join(
                f', "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in parts.items()
            )
        name, version = row.name, row.version
        told_of = {changed: f'{head}, "name": "{name}"{more}, "resource": {record}}}'}
        if event is not None:
            told_of[event.DESCRIPTOR.full_name] = f'{{"{field}": {record}}}'
        for type_, payload in told_of.items():
            yield new_fact(type_, aggregate=name, version=version, payload=payload, actor=actor, trace=trace)


def _columns(rows: Sequence[Resource]) -> dict[str, list[Any]]:
    """The rows by columns; a column that nobody has set gets the default of the table."""
    states, found = [row.__dict__ for row in rows], dict[str, list[Any]]()
    for attribute, name, _ in columns_of(type(rows[0])):
        if any(attribute in state for state in states):
            found[name] = [state.get(attribute) for state in states]
    return found
