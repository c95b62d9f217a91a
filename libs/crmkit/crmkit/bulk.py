"""Many new rows at once: one statement a table, with the facts and the search entries that every new row has."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from sqlalchemy import text
from sqlalchemy.types import TypeDecorator

from crmkit import approvals, numbering
from crmkit.call import Call
from crmkit.customfields import hold_many
from crmkit.errors import FailedPrecondition
from crmkit.mapping import mapper
from crmkit.outbox import new_fact
from crmkit.resource import Resource
from crmkit.search import search_columns
from crmkit.tables import Collaborator, Outbox


async def insert_rows(call: Call, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows of JSON-like values, all with the same keys, in one statement; those that exist are left out."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in rows[0])
    statement = text(
        f"INSERT INTO {table.name} ({names})"
        f" SELECT {names} FROM json_populate_recordset(CAST(NULL AS {table.name}), CAST(:rows AS json))"
        " ON CONFLICT DO NOTHING"
    )
    await call.db.execute(statement, {"rows": json.dumps(rows, ensure_ascii=False, default=_plain)})


def _refuse_gated(call: Call, rows: Sequence[Resource]) -> None:
    """What a policy holds comes one by one: many at once do not go around the gate."""
    policies = call.running.policies.over(rows[0].described.permission("create"))
    for row in rows if policies and not call.caller.is_system else ():
        if approvals.matching(policies, call.message_of(row), call) is not None:
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
    where a policy would hold one of them.
    """
    if not rows:
        return
    model = type(rows[0])
    _refuse_gated(call, rows)
    call.running.redirects.rows(rows)
    for row in rows:
        call.own(row)
    described = model.described
    if described.rule.number:
        without = [row.department for row in rows if not row.number]
        numbers = await numbering.draw_many(call, described, without)
        for row in rows:
            row.number = row.number or numbers.pop(0)
    values: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    search: list[dict[str, Any]] = []
    custom = call.running.directory.custom
    described_json, mapping = call.running.codec.to_json, mapper(model)
    method, actor, now = call.method, call.caller.actor, call.now.isoformat().replace("+00:00", "Z")
    for row in rows:
        values.append(_values(row))
        people += [
            {"employee": e, "collection": described.collection, "id": row.id} for e in row.collaborators
        ]
        if model.search_table is not None:
            texts = [*row.search_texts(), *custom.search_texts(described.collection, row.custom)]
            search.append({"id": row.id, **search_columns(texts, texts, phones=row.search_phones())})
        if not told:
            continue
        message = mapping.message(row)
        record = described_json(message.DESCRIPTOR.full_name, message.SerializeToString()).decode()
        change: dict[str, Any] = {
            "name": row.name,
            "action": "CREATED",
            "actor": actor,
            "time": now,
            "method": method,
        }
        if mapping.sets_apart(custom):
            apart: dict[str, Any] = {"resource": json.loads(record)}
            mapping.set_apart(apart, custom)
            record = json.dumps(apart.pop("resource"), ensure_ascii=False)
            change |= apart
        head = json.dumps(change, ensure_ascii=False)
        told_of = {f"crm.{described.area}.v1.ResourceChanged": f'{head[:-1]}, "resource": {record}}}'}
        if event is not None:
            told_of[event.DESCRIPTOR.full_name] = f'{{"{field}": {record}}}'
        for subject, payload in told_of.items():
            facts.append(
                new_fact(subject, aggregate=row.name, version=row.version, payload=payload, actor=actor)
            )
    await insert_rows(call, model.__table__, values)
    await hold_many(rows, call)
    if model.search_table is not None:
        await insert_rows(call, model.search_table, search)
    await insert_rows(call, Collaborator.__table__, people)
    facts = [{**fact, "occurred_at": call.now, "attempts": 0} for fact in facts]
    await insert_rows(call, Outbox.__table__, facts)
    call.told = call.told or told


def _values(row: Resource) -> dict[str, Any]:
    return {name: write(getattr(row, name)) for name, write in _writers(type(row))}


@cache
def _writers(model: type[Resource]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for column in model.__table__.columns:
        kind = column.type
        if isinstance(kind, TypeDecorator):
            found.append((column.name, lambda value, kind=kind: kind.process_bind_param(value, None)))  # type: ignore[arg-type]
        else:
            found.append((column.name, _same))
    return tuple(found)


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case _:
            return list(value)
