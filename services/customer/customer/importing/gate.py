"""Records of an import that a policy wants decided: held row by row, as if each had come alone from the screen.

What stands in the same file and needs a held account (its contact, its parent) waits with it, and follows once it is
made; it goes with it where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from crmkit.alone import PASSING, alone, creation
from crmkit.approvals import policy_over
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.resource import Resource
from crmkit.rpc import Method
from crmkit.runs import Run
from crmkit.sheetfields import RowProblem
from crmkit.tables import BulkRow, BulkRun
from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from customer.importing.duplicates import named
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.importation import Import, ImportHeld
from customer.model.relation import AccountRelation

R = TypeVar("R", bound=Resource)


class Came(NamedTuple):
    """What became of one record that a policy is over."""

    row: Resource | None = None
    held: bool = False
    problem: RowProblem | None = None


def apart(rows: Sequence[R], call: Call) -> tuple[list[R], list[R]]:
    """The new rows that nobody has to decide, and those that somebody has."""
    gated = {row.id for row in rows if policy_over(row, "create", call) is not None}
    if not gated:
        return [*rows], []
    return [row for row in rows if row.id not in gated], [row for row in rows if row.id in gated]


async def make(row: Resource, line: int, call: Call) -> Came:
    """Makes one record by its create method, where it is held, or done because it needs no decision after all."""
    made = await _asked(*creation(row, call), line, call)
    if isinstance(made, RowProblem):
        return Came(problem=made)
    return Came(made) if isinstance(made, Resource) else Came(held=True)


def updates_are_gated(call: Call) -> bool:
    """Whether changes of customers have to pass the gate one by one."""
    return bool(call.running.policies.over("customer.accounts.update")) and not call.caller.approved


async def change(target: Account, names: Sequence[str], line: int, call: Call) -> Came:
    """Brings a customer that is there, and filled in, to what it is now; or asks for it."""
    method = call.running.pipeline.methods["UpdateAccount"]
    message = call.message_of(target)
    # What it is filled with is for the request alone: the record stays as it is.
    before = target.pending_approval
    call.db.expunge(target)
    request: Any = method.request(account=message)
    request.update_mask.paths.extend(names)
    made = await _asked(method, request, line, call)
    if isinstance(made, RowProblem):
        return Came(problem=made)
    return Came(made, held=made.pending_approval != before)


async def _asked(method: Method, request: Message, line: int, call: Call) -> Any:
    """What the call by itself answers, or what the line is told where it is refused."""
    try:
        return await alone(method, request, call)
    except Problem as problem:
        if problem.reason in PASSING:
            raise
        return _told(line, problem)


def _told(line: int, problem: Problem) -> RowProblem:
    if problem.violations:
        first = problem.violations[0]
        return RowProblem(line, first.field.partition(".")[2], first.reason, first.zh, first.en)
    return RowProblem.of(line, "", problem, "customer")


def waiting(target: str, run: Run, line: int, part: int, **detail: str | dict[str, Any]) -> dict[str, Any]:
    """A row that says what is done once the held record is there; nothing said means the record itself."""
    return {"target": target, "run": run.id, "line": line, "part": part, "detail": detail}


@listens("crm.customer.v1.HeldActionEnded")
async def on_held_record_ended(event: Fact, call: Call) -> None:
    """What waited for a held record of an import follows it, as who brought it in; or goes with it."""
    target, outcome = event.payload.get("target", ""), event.payload.get("outcome", "")
    if outcome not in ("EXECUTED", "DROPPED", "STALE"):
        return
    mine = ImportHeld.target == target
    statement = (
        select(ImportHeld, BulkRun)
        .join(BulkRun, BulkRun.id == ImportHeld.run)
        .where(mine)
        .order_by(ImportHeld.line, ImportHeld.part)
    )
    found = (await call.db.execute(statement)).all()
    gone = delete(ImportHeld).where(mine).execution_options(synchronize_session=False)
    await call.db.execute(gone)
    for row, run in found if outcome == "EXECUTED" else ():
        caller = call.running.directory.acting(run.requester)
        if caller is None:
            continue
        async with call.running.acting(call, caller, "RunImport") as inner:
            await _follow(row, run, inner)
            await inner.flush()


async def _follow(held: ImportHeld, run: BulkRun, call: Call) -> None:
    made: Resource | None = None
    try:
        if "contact" in held.detail:
            contact: Any = json_format.ParseDict(held.detail["contact"], Contact.__message__())
            method = call.running.pipeline.methods["CreateContact"]
            made = await alone(method, method.request(contact=contact), call)
        elif "parent" in held.detail:
            made = await _child(held.target, held.detail["parent"], held.line, call)
        else:
            model = call.running.models_by_collection[held.target.partition("/")[0]]
            made = await call.find(model, model.id == held.target.partition("/")[2])
    except Problem as problem:
        if problem.reason in PASSING:
            raise
        await _show(_told(held.line, problem), run, call)
        return
    if made is not None and isinstance(made, Resource):
        # From now on it is taken back with the import.
        row = {"run": held.run, "line": held.line, "part": held.part, "action": "CREATED", "name": made.name,
               "detail": {"version": made.version}}  # fmt: skip
        await call.db.execute(
            insert(BulkRow)
            .values(**row)
            .on_conflict_do_update(index_elements=["run", "line", "part"], set_=row)
        )


async def _child(child: str, parent: str, line: int, call: Call) -> Resource | None:
    known = (await named([parent], call))[parent]
    if len(known) != 1:
        raise Problem("UNKNOWN_REFERENCE", field="parent", name=parent)
    relation = AccountRelation(to=child, kind="PARENT_OF", **{"from": f"accounts/{known[0]}"})
    return await alone(*creation(relation, call), call)


async def _show(problem: RowProblem, run: BulkRun, call: Call) -> None:
    """Says in the import why what waited for a held record could not follow it."""
    found = await call.find(Import, Import.id == UUID(run.spec["import"]), lock=True)
    if found is not None:
        found.show(problem, call.caller.locale)
