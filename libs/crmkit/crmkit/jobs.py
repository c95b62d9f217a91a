"""What import, export and revert of bulk jobs share: the model, the right, and what is told of them."""

from __future__ import annotations

from typing import Any

from crm.common.v1 import common_pb2

from crmkit.call import Call
from crmkit.errors import PermissionDenied
from crmkit.resource import Resource
from crmkit.runs import Run

UNDO = "BulkUndo"


async def progress(run: Run, call: Call) -> None:
    """Tells how far a job is."""
    event = common_pb2.BulkProgressed(
        job=run.about, total=run.tally.get("total", 0), done=run.position, failed=run.tally.get("failed", 0)
    )
    if run.kind != UNDO:
        call.tell(f"crm.{run.running.app.name}.v1.BulkProgressed", event, None)


async def finish(
    run: Run, call: Call, state: str, error_file: Any = None, result_file: Any = None, reason: str = ""
) -> None:
    """Tells how a job ended."""
    if run.kind == UNDO:
        return
    total, failed = run.tally.get("total", 0), run.tally.get("failed", 0)
    event = common_pb2.BulkFinished(
        job=run.about, state=state, total=total, done=total - failed, failed=failed, reason=reason,
        error_file=error_file, result_file=result_file,
    )  # fmt: skip
    call.tell(f"crm.{run.running.app.name}.v1.BulkFinished", event, None)


def model_of(run: Run) -> type[Resource]:
    """The model of the job's collection."""
    return run.running.models_by_collection[run.spec["collection"]]


def need(run: Run, model: type[Resource], verb: str) -> None:
    """Refuses where the owner of the job has lost the right."""
    permission = model.described.permission(verb)
    if not run.caller().may(permission):
        raise PermissionDenied("PERMISSION_DENIED", permission=permission)
