"""Files of runs: read in chunks of lines, and written out again where lines are wrong."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from itertools import islice
from typing import Any, BinaryIO, cast

from crm.common.v1 import common_pb2
from sqlalchemy import distinct, func, select
from uuid_utils.compat import uuid7

from crmkit import blobs, sheets
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.runs import Run
from crmkit.sheetfields import RowProblem
from crmkit.sheets import Row, Sheet, SheetError
from crmkit.tables import BulkRow

PER_LINE = 20
# Parts of a line below this are records.
FIRST_PROBLEM = 10
FORMATS = {"csv": "csv", "txt": "csv", "tsv": "csv", "xlsx": "xlsx", "ods": "ods", "xls": "xls"}
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@asynccontextmanager
async def opened(run: Run, encoding: str) -> AsyncGenerator[Sheet]:
    """The run's file as a sheet; what cannot be read is IMPORT_UNREADABLE, other bytes IMPORT_FILE_CHANGED."""
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
    # Before Python 3.12 a spooled file does not say of itself that it can be read.
    file = io.BufferedReader(cast("Any", file)) if not hasattr(file, "readable") else file
    return sheets.rows(file, cast("sheets.Format", format), encoding or None)


async def next_rows(sheet: Sheet, count: int) -> list[Row]:
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
        parts[problem.line] = parts.get(problem.line, FIRST_PROBLEM - 1) + 1
        if parts[problem.line] < FIRST_PROBLEM + PER_LINE:
            detail = {"column": problem.column, "reason": problem.reason, "zh": problem.zh, "en": problem.en}
            rows.append({"run": run.id, "line": problem.line, "part": parts[problem.line], "action": "ERROR",
                         "name": "", "detail": detail})  # fmt: skip
    await insert_rows(call, BulkRow.__table__, rows)


async def lines_in_error(run: Run, call: Call) -> int:
    """How many lines have something wrong."""
    found = select(func.count(distinct(BulkRow.line))).where(BulkRow.run == run.id, BulkRow.action == "ERROR")
    return await call.db.scalar(found) or 0


async def write_error_file(
    run: Run, encoding: str, file_name: str, owner: str, call: Call
) -> common_pb2.StoredFile | None:
    """Stores the lines in error with what is wrong with them; None where there are none."""
    statement = (
        select(BulkRow.line, BulkRow.detail)
        .where(BulkRow.run == run.id, BulkRow.action == "ERROR")
        .order_by(BulkRow.line, BulkRow.part)
    )
    # Every line may be wrong: their texts stand in a file that ends with its connection, not in memory.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as told:
        told.execute("CREATE TABLE errors (line INTEGER PRIMARY KEY, text TEXT)")
        told.execute("BEGIN")
        found = await call.db.stream(statement.execution_options(yield_per=1000))
        async for page in found.partitions():
            told.executemany(_ALSO_WRONG, [(line, _text(detail)) for line, detail in page])

        def text_of(line: int) -> str | None:
            return next(
                (text for (text,) in told.execute("SELECT text FROM errors WHERE line = ?", (line,))), None
            )

        if not told.execute("SELECT EXISTS (SELECT 1 FROM errors)").fetchone()[0]:
            return None
        workbook = run.spec["format"] != "csv"
        base = (file_name.rpartition(".")[0] or file_name)[:240]
        name = f"{base}-{sheets.ERROR_COLUMN}.{'xlsx' if workbook else 'csv'}"
        async with opened(run, encoding) as original:
            bad = sheets.error_file(original, text_of)
            values = (row.values for row in bad.entries)
            write = sheets.write_xlsx if workbook else sheets.write_csv
            return await store(run, name, owner, lambda file: write(cast("Any", file), bad.columns, values))


_ALSO_WRONG = (
    "INSERT INTO errors VALUES (?, ?)"
    " ON CONFLICT (line) DO UPDATE SET text = errors.text || '；' || excluded.text"
)


def _text(detail: dict[str, str]) -> str:
    return f"{detail['column']}：{detail['zh']}" if detail["column"] else detail["zh"]


async def store(
    run: Run, name: str, owner: str, write: Callable[[BinaryIO], object]
) -> common_pb2.StoredFile:
    """What `write` writes, in the file store, with the name that its record is to have."""
    with tempfile.TemporaryFile() as target:
        await asyncio.to_thread(write, cast("BinaryIO", target))
        sha256, size = await blobs.keep(run.running.store, cast("BinaryIO", target))
    media_type = XLSX if name.endswith(".xlsx") else "text/csv"
    return common_pb2.StoredFile(
        name=f"files/{uuid7()}",
        owner=owner,
        display_name=name,
        media_type=media_type,
        size=str(size),
        sha256=sha256,
    )
