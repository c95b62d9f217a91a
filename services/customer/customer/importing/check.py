"""The check of an import: everything is read, no record is written, every line is judged."""

from __future__ import annotations

import asyncio
import difflib
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.errors import PermissionDenied
from crmkit.naming import unnamed
from crmkit.runfiles import lines_in_error, next_rows, note_problems, opened
from crmkit.runs import Run
from crmkit.sheets import Row, Sheet
from crmkit.tables import BulkRow
from sqlalchemy import delete

from customer.importing import duplicates, judge, kept
from customer.importing.plan import PARENT, Line, Plan, propose
from customer.importing.seen import Seen
from customer.importing.work import CHUNK, SHOWN, keep_error_file, show_errors, the_import
from customer.model.importation import Import

ALIKE = 0.75
# Two processes read lines: a line costs one of them more than the database and this process together.
READERS = 2
# How many texts that are no choice are counted.
REMEMBERED = 10_000


@dataclass
class _Findings:
    seen: Seen
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    duplicates: list[pb.Import.Duplicate] = field(default_factory=list[pb.Import.Duplicate])
    duplicate_count: int = 0


async def check(run: Run) -> None:
    """Reads the whole file. A check that was interrupted begins anew: it has written nothing but its findings."""
    if run.phase == "ENDED":
        return
    async with run.chunk() as call:
        found = await the_import(run, call)
        await call.db.execute(delete(BulkRow).where(BulkRow.run == run.id))
        await kept.forget(found.id, call)
        run.next_phase("READ")
    async with opened(run, found.encoding) as sheet:
        plan = Plan.of(found, sheet.columns, run.running.config.get, run.caller())
        _refuse_without_rights(plan, run)
        with closing(Seen(plan.public_domains)) as seen:
            findings = _Findings(seen)
            await _read_all(sheet, plan, findings, found, run)
            async with run.chunk() as call:
                found = await the_import(run, call)
                await _judge_parents(plan, findings, run, call)
                await _conclude(found, plan, findings, run, call)
                run.next_phase("ENDED")


async def _read_all(sheet: Sheet, plan: Plan, findings: _Findings, found: Import, run: Run) -> None:
    stamp, turn = kept.stamp(plan, run.spec["digest"]), asyncio.Lock()
    async with AsyncExitStack() as stack:
        workers = [run.running.crew.worker(partial(_read, plan)) for _ in range(READERS)]
        readers = cycle([await stack.enter_async_context(worker) for worker in workers])

        async def prepared() -> tuple[list[Row], bytes]:
            read = next(readers)
            async with turn:
                rows = await next_rows(sheet, CHUNK)
            return rows, await read(rows) if rows else b""

        # The next lines are read while the database is asked about these.
        ahead = deque(asyncio.create_task(prepared()) for _ in workers)
        try:
            while (chunk := await ahead.popleft())[0]:
                ahead.append(asyncio.create_task(prepared()))
                rows, told = chunk
                lines = kept.filled(kept.decode(told), rows, plan)
                async with run.chunk() as call:
                    await kept.keep(found.id, run.position, stamp, told, call)
                    await _judge(lines, rows, plan, findings, found.duplicate_policy, run, call)
                    run.position += len(rows)
                    found = await the_import(run, call)
                    found.total = found.done = run.position
        finally:
            await asyncio.gather(*ahead, return_exceptions=True)


def _read(plan: Plan, rows: Sequence[Row]) -> bytes:
    """The lines as they are kept for the run."""
    return kept.encode(plan.lines(rows))


async def _judge(
    lines: Sequence[Line],
    rows: Sequence[Row],
    plan: Plan,
    findings: _Findings,
    policy: str,
    run: Run,
    call: Call,
) -> None:
    _count_unknown(lines, rows, plan, findings)
    await judge.name_records(lines, plan, call)
    await judge.check_customs(lines, plan, call)
    good = [line for line in lines if not line.problems and line.identity is not None]
    twins = await duplicates.existing([line.identity for line in good if line.identity], call)
    seen = await judge.visible(twins, call)
    for line, twin in zip(good, twins, strict=True):
        earlier = findings.seen.twin(line)
        twin = twin or earlier
        if twin is not None:
            findings.duplicate_count += 1
            if len(findings.duplicates) < SHOWN:
                account = f"accounts/{twin.account}" if twin.account in seen else ""
                findings.duplicates.append(
                    pb.Import.Duplicate(
                        line=line.number, earlier_line=twin.line, account=account, level=twin.level.value
                    )
                )
        if refused := judge.refusal(line, twin, policy, seen, plan, call):
            line.problems.append(refused)
    if PARENT in plan.headers:
        findings.seen.family(lines)
    await note_problems(run, [each for line in lines for each in line.problems], call)


def _count_unknown(lines: Sequence[Line], rows: Sequence[Row], plan: Plan, findings: _Findings) -> None:
    """Texts that no choice of their field is, to be offered as replacements."""
    for line, row in zip(lines, rows, strict=True):
        for each in line.problems:
            if each.reason == "UNKNOWN_CHOICE":
                text = each.column, row.values[plan.columns.index(each.column)].strip()
                # Of a column that names no choices at all, every line has another one.
                if text in findings.unknown or len(findings.unknown) < REMEMBERED:
                    findings.unknown[text] += 1


async def _judge_parents(plan: Plan, findings: _Findings, run: Run, call: Call) -> None:
    """Parents may stand anywhere in the file, so they are looked for at its end."""
    for wishes in findings.seen.outsiders(CHUNK):
        known = await duplicates.named({text for _, text in wishes}, call)
        problems = [
            unnamed(line, plan.headers[PARENT], text, len(known[text]))
            for line, text in wishes
            if len(known[text]) != 1
        ]
        await note_problems(run, problems, call)


async def _conclude(found: Import, plan: Plan, findings: _Findings, run: Run, call: Call) -> None:
    found.state = "CHECKED"
    if not found.mapping:
        found.mapping = plan.message(propose(found.kind, plan.columns, call.config))
    found.failed = await lines_in_error(run, call)
    choices = {header: column for mapped in plan.mapped.values() for header, column, _ in mapped}
    proposals: list[pb.Import.Proposal] = []
    for (header, text), count in findings.unknown.most_common(SHOWN):
        column = choices[header]
        labels = {
            spelled.casefold(): labels[0] or key
            for key, labels in {**(column.dictionary or {}), **column.target.choices}.items()
            for spelled in (key, *labels)
            if spelled
        }
        alike = difflib.get_close_matches(text.casefold(), labels, 1, ALIKE)
        value = labels[alike[0]] if alike else ""
        proposals.append(pb.Import.Proposal(column=header, text=text[:200], value=value, rows=count))
    found.proposals = proposals
    found.duplicates, found.duplicate_count = findings.duplicates, findings.duplicate_count
    await show_errors(run, found, call)
    await keep_error_file(run, found, call)


def _refuse_without_rights(plan: Plan, run: Run) -> None:
    if PARENT in plan.headers and not run.caller().may("customer.accountRelations.create"):
        raise PermissionDenied("PERMISSION_DENIED", permission="customer.accountRelations.create")
