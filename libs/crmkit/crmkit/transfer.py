"""Import and export of any resource of any service, driven by workspace's bulk jobs.

A job becomes a run of the service that owns the collection. Rows come in through the create method of the resource as
the job's owner, and go out as the owner sees them: the same rights, rules and references as one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from crmkit import runs
from crmkit.alone import PASSING, alone, together
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.convert import propose_mapping
from crmkit.errors import CHINESE, FailedPrecondition, Problem, reason_text
from crmkit.events import Fact, listens
from crmkit.exports import count, write_out
from crmkit.jobs import UNDO, finish, model_of, need, progress
from crmkit.naming import named, unnamed
from crmkit.resource import Resource
from crmkit.runfiles import (
    FORMATS,
    lines_in_error,
    next_rows,
    note_problems,
    opened,
    skip_rows,
    write_error_file,
)
from crmkit.runs import Kind, Run
from crmkit.sheetfields import Column, RowProblem, columns, read_row, violations
from crmkit.sheets import Row, Sheet
from crmkit.standard import used
from crmkit.tables import BulkRow, BulkRun

CHUNK = 100
# Rows that are made at once where the model allows; where one of them is bad, each comes alone.
TOGETHER = 20


@listens("crm.workspace.v1.BulkRequested")
async def on_bulk_requested(event: Fact, call: Call) -> None:
    """Queues the run of a job whose collection is this service's."""
    job: dict[str, Any] = event.payload["bulkJob"]
    if job["collection"] not in call.running.models_by_collection:
        return
    kind = {"EXPORT": "BulkExport", "REVERT": "BulkRevert"}.get(job["mode"], "BulkImport")
    options = {each["key"]: each.get("value", "") for each in job.get("options", [])}
    if options.get("count"):
        kind = "BulkCount"
    if await runs.begun(call, kind, job["name"]):
        return
    file: dict[str, Any] = event.payload.get("file") or {}
    name = str(file.get("displayName", ""))
    spec = {
        "job": job["name"], "collection": job["collection"], "mode": job["mode"], "reverts": job.get("reverts", ""),
        "mapping": {each["column"]: each.get("field", "") for each in job.get("mapping", [])},
        "options": options,
        "digest": file.get("sha256", ""), "fileName": name,
        "format": FORMATS.get(name.rpartition(".")[2].lower(), "csv"), "locale": CHINESE,
    }  # fmt: skip
    await runs.start(call, kind, job["name"], spec, job["owner"])


@listens("crm.workspace.v1.BulkCancelled")
async def on_bulk_cancelled(event: Fact, call: Call) -> None:
    """Stops the run behind the chunk that is under way; what is written stays and can be taken back."""
    await runs.cancel(call, event.payload["bulkJob"]["name"])


async def bring_in(run: Run) -> None:
    """Tries every row, then writes them; a row with errors keeps all out.

    Where the job says to skip such rows there is nothing to try before: each is written or noted as it comes.
    """
    if run.phase == "ENDED":
        return
    model = model_of(run)
    need(run, model, "create")
    options, encoding = run.spec["options"], run.spec["options"].get("encoding", "")
    skip_errors = str(options.get("skipErrors", "")).lower() == "true"
    for phase in ("", "WRITE"):
        if run.phase != phase:
            continue
        writes = phase == "WRITE" or (skip_errors and run.spec["mode"] == "IMPORT")
        async with opened(run, encoding) as sheet:
            plan = _Plan(model, run, sheet)
            await skip_rows(sheet, run.position)
            while rows := await next_rows(sheet, CHUNK):
                async with run.chunk() as call:
                    problems = await plan.do(rows, call, writes)
                    if writes and problems and not skip_errors:
                        # The trial found none; what has come since must not leave half of the file here.
                        raise FailedPrecondition("VALIDATION")
                    await note_problems(run, problems, call)
                    run.position += len(rows)
                    run.tally["total"] = max(run.tally.get("total", 0), run.position)
                    await progress(run, call)
        async with run.chunk() as call:
            failed = run.tally["failed"] = await lines_in_error(run, call)
            last = writes or run.spec["mode"] == "DRY_RUN" or (failed and not skip_errors)
            run.next_phase("END" if last else "WRITE")
    async with run.chunk() as call:
        wrote = run.tally.get("created", 0)
        file = await write_error_file(run, encoding, run.spec["fileName"], run.requester, call)
        failed = run.tally["failed"]
        state = (
            "DONE"
            if not failed
            else "DONE_WITH_ERRORS"
            if wrote or run.spec["mode"] == "DRY_RUN"
            else "FAILED"
        )
        await finish(run, call, state, error_file=file, reason="VALIDATION" if state == "FAILED" else "")
        run.next_phase("ENDED")


class _Plan:
    """Which columns of the sheet fill which fields of the resource."""

    def __init__(self, model: type[Resource], run: Run, sheet: Sheet) -> None:
        self.model, self.run, self.columns = model, run, sheet.columns
        found = columns(model.described, run.running.config.get)
        wanted = run.spec["mapping"] or propose_mapping(sheet.columns, [c.target for c in found.values()])
        self.mapped: list[tuple[str, Column, Mapping[str, str]]] = [
            (header, found[path], {})
            for header, path in wanted.items()
            if header in sheet.columns and path in found
        ]
        self.headers = {column.path: header for header, column, _ in self.mapped}
        self.method = run.running.pipeline.methods[f"Create{model.__message__.DESCRIPTOR.name}"]
        self.field = next(f.name for f in self.method.request.DESCRIPTOR.fields if f.message_type is not None)

    async def do(self, rows: Sequence[Row], call: Call, writes: bool) -> list[RowProblem]:
        """Creates the rows that have no problem; takes all back again unless they are to stay."""
        read = [self._read(row) for row in rows]
        names = await self._names([values for values, _ in read], call)
        problems = [one for row, (values, found) in zip(rows, read, strict=True)
                    for one in (*found, *self._name(row.number, values, names))]  # fmt: skip
        bad = {one.line for one in problems}
        good = [
            (row.number, values) for row, (values, _) in zip(rows, read, strict=True) if row.number not in bad
        ]
        kept: list[dict[str, Any]] = []
        for start in range(0, len(good), TOGETHER):
            for line, made in await self._make(good[start : start + TOGETHER], call, writes, problems):
                # What joined a record that was there, or one that the caller may not see, is not taken back again.
                if writes and isinstance(made, Resource) and made.create_time >= call.now:
                    kept.append({"run": self.run.id, "line": line, "part": 0, "action": "CREATED", "name": made.name,
                                 "detail": {"version": made.version}})  # fmt: skip
                elif writes and not isinstance(made, Resource) and getattr(made, "pending_approval", ""):
                    # It is no record yet, only the message of what it would be.
                    kept.append({"run": self.run.id, "line": line, "part": 0, "action": "HELD", "name": made.name,
                                 "detail": {}})  # fmt: skip
        await insert_rows(call, BulkRow.__table__, kept)
        self.run.count(created=sum(one["action"] == "CREATED" for one in kept))
        return problems

    def _read(self, row: Row) -> tuple[dict[str, Any], list[RowProblem]]:
        if row.error:
            return {}, [
                RowProblem(row.number, "", row.error.reason, row.error.detail_zh, row.error.detail_en)
            ]
        return read_row(row.number, dict(zip(self.columns, row.values, strict=True)), self.mapped)

    async def _make(
        self,
        rows: Sequence[tuple[int, Mapping[str, Any]]],
        call: Call,
        writes: bool,
        problems: list[RowProblem],
    ) -> list[tuple[int, Any]]:
        """What is made of the rows, or held; the others have a problem."""
        requests = [(line, self._request(values)) for line, values in rows]
        if self.model.made_together and len(requests) > 1:
            made = await together(self.method, [request for _, request in requests], call, keep=writes)
            if made is not None:
                return [(line, one) for (line, _), one in zip(requests, made, strict=True)]
        found: list[tuple[int, Any]] = []
        for line, request in requests:
            try:
                found.append((line, await alone(self.method, request, call, keep=writes)))
            except Problem as problem:
                if problem.reason in PASSING:
                    raise
                problems += violations(line, self.headers, problem.violations) or [
                    RowProblem.of(line, "", problem, call.running.app.name)
                ]
        return found

    def _request(self, values: Mapping[str, Any]) -> Any:
        request = self.method.request()
        message = getattr(request, self.field)
        message.SetInParent()
        for _, column, _ in self.mapped:
            if column.path in values:
                column.write(message, values[column.path])
        return request

    def _name(
        self, line: int, values: dict[str, Any], names: Mapping[tuple[str, str], list[str]]
    ) -> list[RowProblem]:
        """Puts resource names in the place of the texts that name records."""
        problems: list[RowProblem] = []
        for header, column, _ in self.mapped:
            if not (column.references and column.path in values):
                continue
            value: Any = values[column.path]
            several = column.target.repeated
            texts: list[str] = value if several else [value]
            found: list[str] = []
            for text in texts:
                fits = names[column.references, text]
                if len(fits) == 1:
                    found += fits
                else:
                    problems.append(unnamed(line, header, text, len(fits)))
            values[column.path] = found if several else "".join(found)
        return problems

    async def _names(self, rows: Sequence[Mapping[str, Any]], call: Call) -> dict[tuple[str, str], list[str]]:
        wanted: set[tuple[str, str]] = set()
        for _, column, _ in self.mapped:
            if column.references:
                for values in rows:
                    value = values.get(column.path, [])
                    wanted |= {
                        (column.references, text) for text in ([value] if isinstance(value, str) else value)
                    }
        return {(kind, text): await named(kind, text, call) for kind, text in sorted(wanted)}


async def take_back(run: Run) -> None:
    """Deletes what an import has made and nobody has touched since, last first."""
    if run.phase == "ENDED":
        return
    model = model_of(run)
    while True:
        async with run.chunk() as call:
            made = select(BulkRun.id).where(
                BulkRun.about == run.spec["reverts"], BulkRun.kind == "BulkImport"
            )
            rows = (
                await call.db.scalars(
                    select(BulkRow)
                    .where(BulkRow.run.in_(made), BulkRow.action == "CREATED")
                    .order_by(BulkRow.line.desc())
                    .offset(run.position)
                    .limit(CHUNK)
                )
            ).all()
            ids = [UUID(row.name.partition("/")[2]) for row in rows]
            records = {
                r.name: r
                for r in await call.db.scalars(select(model).where(model.id.in_(ids)).with_for_update())
            }
            in_use = await used(call, model.described, list(records))
            for row in rows:
                record = records.get(row.name)
                if record is not None and (
                    reason := await remove(record, row.detail["version"], in_use, call)
                ):
                    text = reason_text(reason, call.running.app.name)
                    zh, en = (text.zh, text.en) if text else (reason, reason)
                    await note_problems(
                        run, [RowProblem(row.line, "", reason, f"{row.name} {zh}", f"{row.name} {en}")], call
                    )
                    run.count(failed=1)
            run.position += len(rows)
            run.tally["total"] = run.position
            await call.flush()
            await progress(run, call)
            if not rows:
                await finish(run, call, "DONE_WITH_ERRORS" if run.tally.get("failed") else "DONE")
                run.next_phase("ENDED")
                return


async def remove(record: Resource, version: int, in_use: set[str], call: Call) -> str:
    """Deletes a record that is as it was then; else the reason why it stays."""
    if record.version != version or record.pending_approval:
        return "CHANGED_SINCE"
    if record.name in in_use:
        return "IN_USE"
    try:
        await record.deleting(call)
    except Problem as problem:
        return problem.reason
    await call.db.delete(record)
    return ""


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """Tells that the job cannot go on; what an import has written before is taken away again."""
    if run.kind == "BulkImport" and run.tally.get("created"):
        spec = {**run.spec, "reverts": run.about}
        await runs.start(call, UNDO, f"{run.about}#undo", spec, call.caller.actor)
    await finish(run, call, "FAILED", reason=problem.reason)


async def undo(run: Run) -> None:
    """Takes away what a failed import had written; its job has ended already."""
    await take_back(run)


KINDS = {
    "BulkImport": Kind(bring_in, fail),
    "BulkCount": Kind(count, fail),
    "BulkExport": Kind(write_out, fail),
    "BulkRevert": Kind(take_back, fail),
    UNDO: Kind(undo, fail),
}
