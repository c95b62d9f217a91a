"""What a custom field has become, brought to all records that there are: values of another kind, a new formula.

A run goes over the collection chunk by chunk; each row that differs changes like by an update, so that copies, the
search and all readers of facts follow. Records that change meanwhile are reckoned by that.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import select

from crmkit import runs
from crmkit.auth import system
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.rewriting import CHUNK
from crmkit.runs import Kind, Later, Run

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

RUN = "CustomFieldRecast"
# How often and after how many seconds it looks for a configuration that comes behind the fact.
TRIES = 30
PAUSE = 1.0


@listens("crm.workspace.v1.CustomFieldRecastAsked")
async def on_custom_field_recast_asked(event: Fact, call: Call) -> None:
    """Queues the run where the collection is one of this service."""
    asked = ("customField", "collection", "key", "kind", "formula")
    spec = {name: event.payload.get(name, "") for name in asked}
    about = f"{spec['customField']}#{event.id}"
    if spec["collection"] in call.running.models_by_collection and not await runs.begun(call, RUN, about):
        await runs.start(call, RUN, about, spec, system(call.running.app.name).actor)


async def recast(run: Run) -> None:
    """Brings every record to what the field is; goes on where it was interrupted."""
    fields, key = run.running.directory.custom, run.spec["key"]
    model: Any = run.running.models_by_collection[run.spec["collection"]]
    known = fields.of(run.spec["collection"]).get(key)
    if (
        known is None
        or (known.kind, known.formula) != (run.spec["kind"], run.spec["formula"])
        or known.retired
    ):
        if run.attempts < TRIES:
            raise Later(PAUSE)
        # It was changed or retired since: a run of its own follows what is in force.
        return
    while True:
        async with run.chunk() as call:
            call.packs = "UPDATED"
            behind = model.id > UUID(run.tally.get("after") or str(UUID(int=0)))
            statement = select(model).where(behind).order_by(model.id).limit(CHUNK)
            rows: list[Resource] = list(await call.db.scalars(statement.with_for_update(of=model)))
            for row in rows:
                if (values := _values(row, key, known.kind, fields)) != row.custom:
                    row.custom = values
                    run.count(records=1)
            if not rows:
                return
            run.tally["after"] = str(rows[-1].id)
            run.position += len(rows)


def _values(row: Resource, key: str, kind: str, fields: Any) -> dict[str, Any]:
    if kind == "FORMULA":
        return fields.reckoned(row)
    return {**row.custom, key: of_kind(kind, row.custom[key])} if key in row.custom else row.custom


def of_kind(kind: str, value: Any) -> Any:
    """A value of before as one of the kind: a choice as the only one of several, anything as a text."""
    match kind, value:
        case "MULTI_CHOICE", str():
            return [value]
        case "TEXT", bool():
            return "true" if value else "false"
        case "TEXT", int() | float():
            return format(Decimal(str(value)), "f")
        case "TEXT", dict():
            return f"{value['currencyCode']} {value['amount']}"
        case "TEXT", list():
            return "; ".join(cast("list[str]", value))
        case _:
            return value


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What is done stays; the run says why it ended."""


KINDS = {RUN: Kind(recast, give_up)}
