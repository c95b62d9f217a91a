"""Values of dictionaries in the records of a service: what may be chosen, and what a merge rewrites."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import Text, select
from sqlalchemy import cast as sql_cast

from crmkit import runs
from crmkit.auth import system
from crmkit.describe import Field, describe_field
from crmkit.errors import Problem, Validation, Violation
from crmkit.events import Fact, listens
from crmkit.resource import Resource
from crmkit.runs import Kind, Run
from crmkit.tables import BulkRun

if TYPE_CHECKING:
    from crmkit.call import Call

CHUNK = 200


def check_choices(row: Resource, names: Collection[str], call: Call) -> None:
    """Refuses an entry that was taken out of its dictionary, in the fields that are new or have changed."""
    fields, violations = call.running.directory.custom, list[Violation]()
    for name in names:
        field = row.described.fields.get(name)
        if field is None or not field.rule.dictionary:
            continue
        found: Any = getattr(row, name) or []
        entries = fields.dictionary(field.rule.dictionary)
        for value in [found] if isinstance(found, str) else cast("list[str]", found):
            if entries.get(value, {}).get("retired"):
                path = f"{row.described.singular}.{name}"
                zh, en = "该选项已停用，不能再选择", "The entry is retired and not chosen any more."
                violations.append(Violation(path, "DICTIONARY_ITEM_RETIRED", zh, en))
    if violations:
        raise Validation(*violations)


@listens("crm.workspace.v1.DictionaryItemMerged")
async def on_dictionary_item_merged(event: Fact, call: Call) -> None:
    """Queues the rewriting of the records that have the merged entry."""
    if await call.db.scalar(select(BulkRun.id).where(BulkRun.about == f"dictionaries#{event.id}")):
        return
    spec = {
        "dictionary": event.payload["dictionary"],
        "from": event.payload["entry"],
        "into": event.payload["into"],
    }
    about, requester = f"dictionaries#{event.id}", system(call.running.app.name).actor
    await runs.start(call, "DictionaryMerge", about, spec, requester)


@dataclass(frozen=True)
class _Place:
    """A field that holds keys of the dictionary; `inner` within nested messages, `key` within `custom`."""

    model: type[Resource]
    field: str
    inner: str = ""
    key: str = ""

    def replaced(self, row: Resource, old: str, new: str) -> Any:
        """The field's value with the other key; None where the row does not have the old one."""
        value: Any = getattr(row, self.field)
        if self.key:
            found = _swap(row.custom.get(self.key), old, new)
            return None if found is None else {**row.custom, self.key: found}
        if not self.inner:
            return _swap(value, old, new)
        items = cast("list[Any]", value) if isinstance(value, list) else [value] if value is not None else []
        if all(_swap(getattr(item, self.inner), old, new) is None for item in items):
            return None
        copies = [_rewritten(item, self.inner, old, new) for item in items]
        return copies if isinstance(value, list) else copies[0]


def _swap(value: Any, old: str, new: str) -> Any:
    """The text or the list with the other key, once; None where the old one is not there."""
    if isinstance(value, str):
        return new if value == old else None
    items = list(cast("Sequence[str]", value or ()))
    return list(dict.fromkeys(new if item == old else item for item in items)) if old in items else None


def _rewritten(item: Any, inner: str, old: str, new: str) -> Any:
    copy = type(item)()
    copy.CopyFrom(item)
    found = _swap(getattr(item, inner), old, new)
    if isinstance(found, str):
        setattr(copy, inner, found)
    elif found is not None:
        del getattr(copy, inner)[:]
        getattr(copy, inner).extend(found)
    return copy


@cache
def _declared(model: type[Resource]) -> tuple[tuple[str, _Place], ...]:
    """Dictionary and place of every field of the model whose proto names one."""
    return tuple(_declared_in(model))


def _declared_in(model: type[Resource]) -> Iterator[tuple[str, _Place]]:
    columns: Any = getattr(model, "__table__").c  # noqa: B009
    for field in model.described.fields.values():
        if field.name not in columns:
            continue
        if field.rule.dictionary:
            yield field.rule.dictionary, _Place(model, field.name)
        for inner in _inner(field):
            yield inner.rule.dictionary, _Place(model, field.name, inner=inner.name)


def _inner(field: Field) -> list[Field]:
    if field.kind not in {"message", "messages"} or field.nested.full_name.startswith("google."):
        return []
    nested = (describe_field(inner) for inner in field.nested.fields if inner.message_type is None)
    return [inner for inner in nested if inner.rule.dictionary]


def _places(run: Run, dictionary: str) -> list[_Place]:
    found: list[_Place] = []
    for model in run.running.models_by_collection.values():
        found += [place for name, place in _declared(model) if name == dictionary]
        fields = run.running.directory.custom.of(model.described.collection).values()
        found += [_Place(model, "custom", key=one.key) for one in fields if one.dictionary == dictionary]
    return sorted(found, key=lambda place: (place.model.__name__, place.field, place.inner, place.key))


async def rewrite(run: Run) -> None:
    """Gives every record of the service the entry that the merged one became; goes on where it was interrupted."""
    old, new = run.spec["from"], run.spec["into"]
    for place in _places(run, run.spec["dictionary"]):
        phase = f"{place.model.__name__}.{place.field}.{place.inner}{place.key}"
        if phase in run.tally.get("ended", ()):
            continue
        model: Any = place.model
        while True:
            async with run.chunk() as call:
                if run.phase != phase:
                    run.next_phase(phase)
                    run.tally["after"] = str(UUID(int=0))
                column = model.custom if place.key else getattr(model.__table__.c, place.field)
                # The text is no more than a sieve, alike for texts, lists and nested messages.
                holding = sql_cast(column, Text).contains(old, autoescape=True)
                behind = model.id > UUID(run.tally["after"])
                statement = select(model).where(behind, holding).order_by(model.id).limit(CHUNK)
                rows: list[Resource] = list(await call.db.scalars(statement.with_for_update(of=model)))
                for row in rows:
                    value = place.replaced(row, old, new)
                    if value is not None:
                        setattr(row, place.field, value)
                        run.count(changed=1)
                if rows:
                    run.tally["after"] = str(rows[-1].id)
                    run.position += len(rows)
                else:
                    run.tally["ended"] = [*run.tally.get("ended", []), phase]
            if not rows:
                break


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: what is left has the retired entry, and the run says so."""


KINDS = {"DictionaryMerge": Kind(rewrite, give_up)}
