"""Values of a retired custom field that are taken out of the records for good.

A run goes over the collection chunk by chunk; each row that has a value changes like by an update, so that copies, the
search and all readers of facts lose it too. The run ends when a count finds no record with a value, and tells that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm.common.v1 import common_pb2
from sqlalchemy import delete, func, select

from crmkit import runs
from crmkit.auth import system
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.rewriting import CHUNK
from crmkit.runs import Kind, Run
from crmkit.tables import CustomValue

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource

RUN = "CustomFieldPurge"


@listens("crm.workspace.v1.CustomFieldPurgeAsked")
async def on_custom_field_purge_asked(event: Fact, call: Call) -> None:
    """Queues the purge where the collection is one of this service."""
    spec = {name: event.payload[name] for name in ("customField", "collection", "key")}
    about = f"{spec['customField']}#{event.id}"
    if spec["collection"] in call.running.models_by_collection and not await runs.begun(call, RUN, about):
        await runs.start(call, RUN, about, spec, system(call.running.app.name).actor)


async def purge(run: Run) -> None:
    """Empties the field in every record; goes on where it was interrupted."""
    model: Any = run.running.models_by_collection[run.spec["collection"]]
    key: str = run.spec["key"]
    holding = model.custom.has_key(key)
    while True:
        async with run.chunk() as call:
            call.packs = "UPDATED"
            behind = model.id > UUID(run.tally.get("after") or str(UUID(int=0)))
            statement = select(model).where(behind, holding).order_by(model.id).limit(CHUNK)
            rows: list[Resource] = list(await call.db.scalars(statement.with_for_update(of=model)))
            for row in rows:
                row.custom = {name: value for name, value in row.custom.items() if name != key}
            if rows:
                run.tally["after"] = str(rows[-1].id)
                run.position += len(rows)
                run.count(records=len(rows))
                continue
            if await call.db.scalar(select(func.count()).select_from(model).where(holding)):
                # Something old was brought back behind the walk, such as by undoing a merge.
                run.tally["after"] = ""
                continue
            held = (CustomValue.collection == run.spec["collection"]) & (CustomValue.key == key)
            await call.db.execute(delete(CustomValue).where(held))
            told = common_pb2.CustomFieldPurged(
                custom_field=run.spec["customField"], records=run.tally.get("records", 0)
            )
            call.tell(f"crm.{run.running.app.name}.v1.CustomFieldPurged", told, None)
            return


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: the field stays as one that is being purged, and the run says why."""


KINDS = {RUN: Kind(purge, give_up)}
