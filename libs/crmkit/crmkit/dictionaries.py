"""Values of dictionaries in the records of a service: what may be chosen, and what a merge rewrites."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from crm.common.v1 import common_pb2
from sqlalchemy import Text, func, inspect, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONPATH

from crmkit import runs
from crmkit.auth import system
from crmkit.customfields import not_chosen
from crmkit.describe import Field, describe_field
from crmkit.errors import Problem, Validation, Violation
from crmkit.events import Fact, listens
from crmkit.resource import Resource
from crmkit.rewriting import Place, rewrite
from crmkit.runs import Kind, Run

if TYPE_CHECKING:
    from crmkit.app import Running
    from crmkit.call import Call

RUN = "DictionaryMerge"


def check_choices(row: Resource, names: Collection[str], call: Call) -> None:
    """Refuses an entry that is no choice any more, not today or not here, where the row did not have it before."""
    fields, violations = call.running.directory.custom, list[Violation]()
    for dictionary, place in _declared(type(row)):
        value: Any = getattr(row, place.field) if place.field in names else None
        entries = fields.dictionary(dictionary) if value else {}
        if not entries:
            continue
        given = _held(value, place.inner)
        news = given - _before(row, place) if given else given
        for value in sorted(news & entries.keys()):
            if refused := not_chosen(entries[value], row, call):
                path = ".".join(filter(None, [row.described.singular, place.field, place.inner]))
                violations.append(Violation(path, *refused))
    if violations:
        raise Validation(*violations)


def _before(row: Resource, place: Place) -> set[str]:
    """The entries that the row had in the place."""
    old: Any = inspect(row).attrs[place.field].history.deleted
    return _held(old[0], place.inner) if old else set()


def _held(value: Any, inner: str) -> set[str]:
    """The entries in a field's value, those within its nested messages where `inner` names their field."""
    items = cast("list[Any]", value if isinstance(value, list) else [value])
    found = set[str]()
    for item in items:
        entry: Any = getattr(item, inner) if inner and item is not None else item
        found.update([entry] if isinstance(entry, str) else cast("Sequence[str]", entry or ()))
    return found - {""}


@listens("crm.workspace.v1.DictionaryItemMerged")
async def on_dictionary_item_merged(event: Fact, call: Call) -> None:
    """Queues the rewriting of the records that have the merged entry."""
    about, requester = f"dictionaries#{event.id}", system(call.running.app.name).actor
    if await runs.begun(call, RUN, about):
        return
    spec = {
        "dictionary": event.payload["dictionary"],
        "from": event.payload["entry"],
        "into": event.payload["into"],
    }
    await runs.start(call, RUN, about, spec, requester)


@listens("crm.workspace.v1.DictionaryUsesAsked")
async def on_dictionary_uses_asked(event: Fact, call: Call) -> None:
    """Counts how many records have each entry, place by place, and tells."""
    dictionary: str = event.payload["dictionary"]
    answer = common_pb2.DictionaryUsesCounted(dictionary=dictionary, service=call.running.app.name)
    answer.asked_time.FromDatetime(datetime.fromisoformat(event.payload["askedTime"]))
    for place in _places(call.running, dictionary):
        path = ".".join(filter(None, [place.field, place.inner or place.key]))
        rows: Any = await call.db.execute(_uses(place))
        for row in rows:
            collection = place.model.described.collection
            answer.uses.add(entry=row[0], collection=collection, field=path, count=row[1])
    call.tell(f"crm.{call.running.app.name}.v1.DictionaryUsesCounted", answer, None)


def _uses(place: Place) -> Any:
    """Entry and number of records that have it, in one place."""
    column: Any = getattr(place.model.__table__.c, place.field)
    if not place.key and isinstance(column.type, Text):
        return select(column, func.count()).where(column != "").group_by(column)
    value = column[place.key] if place.key else func.to_jsonb(column)
    path = "$[*]"
    if place.inner:
        nested = place.model.described.fields[place.field].nested
        path += f'."{nested.fields_by_name[place.inner].json_name}"'
    found = func.jsonb_path_query(value, sql_cast(path, JSONPATH)).op("#>>")(sql_cast([], ARRAY(Text)))
    # Lines of one record that say the same are one use of it.
    each = select(place.model.__table__.c.id, found.label("entry")).distinct().subquery()
    return select(each.c.entry, func.count()).where(each.c.entry != "").group_by(each.c.entry)


@cache
def _declared(model: type[Resource]) -> tuple[tuple[str, Place], ...]:
    """Dictionary and place of every field of the model whose proto names one."""
    return tuple(_declared_in(model))


def _declared_in(model: type[Resource]) -> Iterator[tuple[str, Place]]:
    columns = model.__table__.c
    for field in model.described.fields.values():
        if field.name not in columns:
            continue
        if field.rule.dictionary:
            yield field.rule.dictionary, Place(model, field.name)
        for inner in _inner(field):
            yield inner.rule.dictionary, Place(model, field.name, inner=inner.name)


def _inner(field: Field) -> list[Field]:
    if field.kind not in {"message", "messages"} or field.nested.full_name.startswith("google."):
        return []
    nested = (describe_field(inner) for inner in field.nested.fields if inner.message_type is None)
    return [inner for inner in nested if inner.rule.dictionary]


def _places(running: Running, dictionary: str) -> list[Place]:
    found: list[Place] = []
    for model in running.models_by_collection.values():
        found += [place for name, place in _declared(model) if name == dictionary]
        fields = running.directory.custom.of(model.described.collection).values()
        found += [Place(model, "custom", key=one.key) for one in fields if one.dictionary == dictionary]
    return found


async def merge(run: Run) -> None:
    """Gives every record of the service the entry that the merged one became."""
    await rewrite(run, _places(run.running, run.spec["dictionary"]), run.spec["from"], run.spec["into"])


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: what is left has the retired entry, and the run says so."""


KINDS = {RUN: Kind(merge, give_up)}
