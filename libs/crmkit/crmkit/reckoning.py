"""A new formula of a custom field, reckoned for all records that there are.

A run goes over the collection chunk by chunk; each row of which the number differs changes like by an update, so that
copies, the search and all readers of facts follow. Records that change meanwhile are reckoned by that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
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

RUN = "CustomFieldReckoning"
# How often and after how many seconds it looks for a configuration that comes behind the fact.
TRIES = 30
PAUSE = 1.0


@listens("crm.workspace.v1.CustomFieldReckoningAsked")
async def on_custom_field_reckoning_asked(event: Fact, call: Call) -> None:
    """Queues the run where the collection is one of this service."""
    spec = {name: event.payload[name] for name in ("customField", "collection", "key", "formula")}
    about = f"{spec['customField']}#{event.id}"
    if spec["collection"] in call.running.models_by_collection and not await runs.begun(call, RUN, about):
        await runs.start(call, RUN, about, spec, system(call.running.app.name).actor)


async def reckon(run: Run) -> None:
    """Reckons every record; goes on where it was interrupted."""
    fields = run.running.directory.custom
    model: Any = run.running.models_by_collection[run.spec["collection"]]
    known = fields.of(run.spec["collection"]).get(run.spec["key"])
    if known is None or known.formula != run.spec["formula"] or known.retired:
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
                reckoned = fields.reckoned(row)
                if reckoned != row.custom:
                    row.custom = reckoned
                    run.count(records=1)
            if not rows:
                return
            run.tally["after"] = str(rows[-1].id)
            run.position += len(rows)


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """What is reckoned stays; the run says why it ended."""


KINDS = {RUN: Kind(reckon, give_up)}
