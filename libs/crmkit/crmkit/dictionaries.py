"""Values of dictionaries in the records of a service: what may be chosen, and what a merge rewrites."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from crmkit import runs
from crmkit.auth import system
from crmkit.company import today
from crmkit.customfields import NOT_CHOSEN, choosable
from crmkit.describe import Field, describe_field
from crmkit.errors import Problem, Validation, Violation
from crmkit.events import Fact, listens
from crmkit.resource import Resource
from crmkit.rewriting import Place, rewrite
from crmkit.runs import Kind, Run

if TYPE_CHECKING:
    from crmkit.call import Call

RUN = "DictionaryMerge"


def check_choices(row: Resource, names: Collection[str], call: Call) -> None:
    """Refuses an entry that is no choice any more, or not today, in the fields that are new or have changed."""
    fields, violations = call.running.directory.custom, list[Violation]()
    day = today(call)
    for name in names:
        field = row.described.fields.get(name)
        if field is None or not field.rule.dictionary:
            continue
        found: Any = getattr(row, name) or []
        entries = fields.dictionary(field.rule.dictionary)
        for value in [found] if isinstance(found, str) else cast("list[str]", found):
            if value in entries and not choosable(entries[value], day):
                path = f"{row.described.singular}.{name}"
                violations.append(Violation(path, "DICTIONARY_ITEM_RETIRED", *NOT_CHOSEN))
    if violations:
        raise Validation(*violations)


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


def _places(run: Run, dictionary: str) -> list[Place]:
    found: list[Place] = []
    for model in run.running.models_by_collection.values():
        found += [place for name, place in _declared(model) if name == dictionary]
        fields = run.running.directory.custom.of(model.described.collection).values()
        found += [Place(model, "custom", key=one.key) for one in fields if one.dictionary == dictionary]
    return found


async def merge(run: Run) -> None:
    """Gives every record of the service the entry that the merged one became."""
    await rewrite(run, _places(run, run.spec["dictionary"]), run.spec["from"], run.spec["into"])


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: what is left has the retired entry, and the run says so."""


KINDS = {RUN: Kind(merge, give_up)}
