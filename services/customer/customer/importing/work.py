"""What the three runs of an import share: its row, its errors, its failure."""

from __future__ import annotations

from uuid import UUID

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import CHINESE, FailedPrecondition, Problem
from crmkit.runfiles import write_error_file
from crmkit.runs import Run
from crmkit.tables import BulkRow
from sqlalchemy import select

from customer.model.importation import Import

# Every line locks a few keys, and the server's table of locks is one for all.
CHUNK = 500
SHOWN = 200


async def the_import(run: Run, call: Call) -> Import:
    """The import, locked."""
    found = await call.find(Import, Import.id == UUID(run.spec["import"]), lock=True)
    if found is None:
        raise FailedPrecondition("NOT_FOUND")
    return found


async def show_errors(run: Run, found: Import, call: Call, action: str = "ERROR") -> None:
    """Puts the first errors into the import, in the language of who asked."""
    statement = (
        select(BulkRow.line, BulkRow.detail)
        .where(BulkRow.run == run.id, BulkRow.action == action)
        .order_by(BulkRow.line, BulkRow.part)
        .limit(SHOWN)
    )
    language = "zh" if call.caller.locale == CHINESE else "en"
    found.errors = [
        pb.Import.RowError(
            line=line, column=detail["column"], reason=detail["reason"], text=detail[language][:1000]
        )
        for line, detail in (await call.db.execute(statement)).all()
    ]


async def keep_error_file(run: Run, found: Import, call: Call) -> None:
    """Stores the lines in error and tells of the file."""
    stored = await write_error_file(run, found.encoding, found.file_name, found.owner, call)
    if stored is not None:
        found.error_file = stored.name
        call.tell("crm.customer.v1.FileStored", common_pb2.FileStored(file=stored, about=found.name), None)


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """Says in the import why it cannot go on; what a run has written before is taken back."""
    found = await call.find(Import, Import.id == UUID(run.spec["import"]), lock=True)
    if found is None:
        return
    text = problem.text(run.spec.get("locale", CHINESE), call.running.app.name)
    found.fail(text)
    if run.kind == "RunImport":
        call.emit(events.ImportFinished, **{"import": found})
        spec = {"import": run.spec["import"], "failure": text}
        await runs.start(call, "RevertImport", run.about, spec, call.caller.actor)
