"""What the three runs of an import share: its row, its file, its errors."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, BinaryIO, cast
from uuid import UUID

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import blobs, runs, sheets
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.errors import CHINESE, FailedPrecondition, Problem
from crmkit.runs import Run
from crmkit.sheetfields import RowProblem
from crmkit.sheets import Row, Sheet, SheetError
from crmkit.tables import BulkRow
from sqlalchemy import select
from uuid_utils.compat import uuid7

from customer.model.importation import Import

# Every line locks a few keys, and the server's table of locks is one for all.
CHUNK = 500
SHOWN = 200
PER_LINE = 20


async def the_import(run: Run, call: Call) -> Import:
    """The import, locked."""
    found = await call.find(Import, Import.id == UUID(run.spec["import"]), lock=True)
    if found is None:
        raise FailedPrecondition("NOT_FOUND")
    return found


@asynccontextmanager
async def opened(run: Run, encoding: str) -> AsyncIterator[Sheet]:
    """The file as a sheet; what cannot be read is IMPORT_UNREADABLE, other bytes IMPORT_FILE_CHANGED."""
    try:
        async with blobs.fetched(run.running.store, run.spec["digest"]) as file:
            yield await asyncio.to_thread(_sheet, file, run.spec["format"], encoding)
    except blobs.Changed:
        raise FailedPrecondition("IMPORT_FILE_CHANGED") from None
    except FileNotFoundError:
        raise FailedPrecondition("IMPORT_UNREADABLE", detail=run.spec["digest"]) from None
    except SheetError as error:
        where = f"第 {error.line} 行：" if error.line else ""
        raise FailedPrecondition("IMPORT_UNREADABLE", detail=where + error.detail_zh) from None


def _sheet(file: BinaryIO, format: str, encoding: str) -> Sheet:
    # The csv module wants a file that says of itself that it can be read.
    file = io.BufferedReader(cast("Any", file)) if not hasattr(file, "readable") else file
    return sheets.rows(file, cast("sheets.Format", format), encoding or None)


async def next_rows(sheet: Sheet, count: int = CHUNK) -> list[Row]:
    """The next lines; empty at the end."""
    return await asyncio.to_thread(lambda: list(islice(sheet.entries, count)))


async def skip_rows(sheet: Sheet, count: int) -> None:
    """Passes what was done before."""
    await asyncio.to_thread(lambda: sum(1 for _ in islice(sheet.entries, count)))


async def note_problems(run: Run, problems: Sequence[RowProblem], call: Call) -> None:
    """Keeps what is wrong with lines."""
    parts: dict[int, int] = {}
    rows: list[dict[str, Any]] = []
    for problem in problems:
        parts[problem.line] = parts.get(problem.line, 9) + 1
        if parts[problem.line] < 10 + PER_LINE:
            detail = {"column": problem.column, "reason": problem.reason, "zh": problem.zh, "en": problem.en}
            rows.append({"run": run.id, "line": problem.line, "part": parts[problem.line], "action": "ERROR",
                         "name": "", "detail": detail})  # fmt: skip
    await insert_rows(call, BulkRow.__table__, rows)


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


async def write_error_file(run: Run, found: Import, call: Call) -> None:
    """Stores the lines in error with what is wrong with them, and tells of the file."""
    statement = (
        select(BulkRow.line, BulkRow.detail)
        .where(BulkRow.run == run.id, BulkRow.action == "ERROR")
        .order_by(BulkRow.line, BulkRow.part)
    )
    errors: dict[int, str] = {}
    for line, detail in (await call.db.execute(statement)).all():
        text = f"{detail['column']}：{detail['zh']}" if detail["column"] else detail["zh"]
        errors[line] = f"{errors[line]}；{text}" if line in errors else text
    if not errors:
        return
    workbook = run.spec["format"] != "csv"
    with tempfile.TemporaryFile() as target:
        async with opened(run, found.encoding) as original:
            bad = sheets.error_file(original, errors)
            values = (row.values for row in bad.entries)
            write = sheets.write_xlsx if workbook else sheets.write_csv
            await asyncio.to_thread(write, cast("Any", target), bad.columns, values)
        sha256, size = await blobs.keep(run.running.store, cast("BinaryIO", target))
    found.error_file = f"files/{uuid7()}"
    base = found.file_name.rpartition(".")[0] or found.file_name
    stored = common_pb2.StoredFile(
        name=found.error_file,
        owner=found.owner,
        display_name=f"{base[:240]}-{sheets.ERROR_COLUMN}.{'xlsx' if workbook else 'csv'}",
        media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        if workbook
        else "text/csv",
        size=str(size),
        sha256=sha256,
    )
    call.tell("crm.customer.v1.FileStored", common_pb2.FileStored(file=stored, about=found.name), None)


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """Says in the import why it cannot go on; what a run has written before is taken back."""
    found = await call.find(Import, Import.id == UUID(run.spec["import"]), lock=True)
    if found is None:
        return
    text = problem.text(run.spec.get("locale", CHINESE))
    found.fail(text)
    if run.kind == "RunImport":
        call.emit(events.ImportFinished, **{"import": found})
        spec = {"import": run.spec["import"], "failure": text}
        await runs.start(call, "RevertImport", run.about, spec, call.caller.actor)
