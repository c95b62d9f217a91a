"""Departments that merge: the records of every service go over to the department that goes on.

A move changes nothing in records, which name their department and not its place in the tree; a merge ends a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from crmkit import runs
from crmkit.auth import system
from crmkit.describe import describe_field
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.rewriting import Place, rewrite
from crmkit.runs import Kind, Run

if TYPE_CHECKING:
    from crmkit.call import Call

TYPE = "crm.workspace/Department"
RUN = "DepartmentMerge"


@listens("crm.workspace.v1.DepartmentMerged")
async def on_department_merged(event: Fact, call: Call) -> None:
    """Queues what the service has of the department that ended."""
    department, into = event.payload["department"]["name"], event.payload["into"]
    if not await runs.begun(call, RUN, department):
        requester = system(call.running.app.name).actor
        await runs.start(call, RUN, department, {"from": department, "into": into}, requester)


async def follow(run: Run) -> None:
    """Gives every record the department that the merged one became."""
    await rewrite(run, list(_places(run)), run.spec["from"], run.spec["into"])


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """Nothing is told: what is left lies in the closed department, beneath the one that goes on."""


KINDS = {RUN: Kind(follow, give_up)}


def _places(run: Run) -> Iterator[Place]:
    """Where records lie, and what people have chosen; what a record says of the past stays."""
    for model in run.running.models_by_collection.values():
        if not model.follows_departments:
            continue
        columns = model.__table__.c
        yield Place(model, "department")
        for field in model.described.fields.values():
            if field.name not in columns or field.output_only:
                continue
            if field.kind in ("reference", "references") and field.references == TYPE:
                yield Place(model, field.name)
            if field.kind in ("message", "messages") and field.nested.full_name.startswith("crm."):
                for each in field.nested.fields:
                    inner = describe_field(each) if each.message_type is None else None
                    if inner is not None and inner.references == TYPE:
                        yield Place(model, field.name, inner=inner.name)
        for one in run.running.directory.custom.of(model.described.collection).values():
            if one.references == "departments":
                yield Place(model, "custom", key=one.key)
