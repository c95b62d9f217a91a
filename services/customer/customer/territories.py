"""Customers change hands by territory: sales tells batch by batch, and is told what became of them."""

from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.sales.v1 import events_pb2 as sales
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from google.protobuf.json_format import MessageToDict
from sqlalchemy import select

from customer import ownership
from customer.model.account import Account
from customer.model.pool import PoolClaim

MOVE = "MoveTerritories"
AT_ONCE = 50
_OF_TERRITORIES = "territories/"
_LIVE = ("ACTIVE", "POOLED", "FROZEN")


async def on_territory_plan_applied(event: sales.TerritoryPlanApplied, call: Call) -> None:
    """Takes a batch; it is worked off in the background."""
    spec = MessageToDict(event, preserving_proto_field_name=True)
    about = event.plan or event.moves[0].account if event.moves else event.plan
    await runs.start(call, MOVE, about, spec, f"system/{call.running.app.name}")


async def _move(run: Run) -> None:
    moves: list[dict[str, Any]] = run.spec.get("moves", [])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            for move in moves[run.position : run.position + AT_ONCE]:
                if (problem := await _one(move, run.spec, call)) is None:
                    continue
                run.tally.setdefault("left" if problem else "moved", []).append([move["account"], problem])
            run.position += AT_ONCE
            if run.position >= len(moves):
                await _answer(run, call)
                run.next_phase("ENDED")


async def _one(move: dict[str, Any], spec: dict[str, Any], call: Call) -> str | None:
    """Moves one customer; empty where it has the new owner, why it has not, None where no owner was to change."""
    key = UUID(move["account"].partition("/")[2])
    account = (
        await call.db.scalars(select(Account).where(Account.id == key).with_for_update())
    ).one_or_none()
    before, after = move.get("from", ""), move.get("to", "")
    if account is None or account.state not in _LIVE:
        return "GONE" if before != after else None
    problem: str | None = None
    if before != after:
        problem = await _give(account, before, after, spec, call)
    if not spec.get("undo"):
        await _share(account, move.get("collaborators", []), call)
    await call.flush()
    return problem


async def _give(account: Account, before: str, after: str, spec: dict[str, Any], call: Call) -> str:
    plan = spec.get("plan", "")
    if account.owner == after:
        return ""
    if account.owner != before or (spec.get("undo") and not await _moved_by(plan, account, call)):
        return "CHANGED_SINCE"
    change = ownership.Change(
        "TERRITORY", cause=plan, reason=spec.get("number", ""), actor=spec.get("actor", "")
    )
    try:
        await ownership.give(account, after, change, call)
    except Problem as problem:
        # It says so before it changes anything.
        return problem.reason
    return ""


async def _moved_by(plan: str, account: Account, call: Call) -> bool:
    last = select(PoolClaim.cause).where(PoolClaim.account == account.name)
    return await call.db.scalar(last.order_by(PoolClaim.time.desc(), PoolClaim.id.desc()).limit(1)) == plan


async def _share(account: Account, wanted: list[dict[str, str]], call: Call) -> None:
    """Whoever works on the customer by its territories does, and nobody else by any."""
    people = {one["employee"]: one for one in wanted if one["employee"] != account.owner}
    for one in list(account.collaborations):
        if one.cause.startswith(_OF_TERRITORIES) and one.employee not in people:
            await ownership.unshare(account, one.employee, call)
    known = {one.employee: one for one in account.collaborations}
    for employee, one in people.items():
        has = known.get(employee)
        # What somebody has in another way stays as it is.
        other = (
            employee in account.collaborators if has is None else not has.cause.startswith(_OF_TERRITORIES)
        )
        if other or (
            has is not None and (has.access, has.cause) == (one["access"], one.get("territory", ""))
        ):
            continue
        await ownership.share(account, employee, one["access"], None, one.get("territory", ""), call)


async def _answer(run: Run, call: Call) -> None:
    if not run.spec.get("plan"):
        return
    moved = [account for account, _ in run.tally.get("moved", [])]
    left = [
        events.TerritoryMovesApplied.Left(account=account, reason=reason)
        for account, reason in run.tally.get("left", [])
    ]
    call.emit(
        events.TerritoryMovesApplied, plan=run.spec["plan"], batch=int(run.spec.get("batch", 0)),
        undo=bool(run.spec.get("undo")), moved=moved, left=left,
    )  # fmt: skip


async def _failed(run: Run, problem: Problem, call: Call) -> None:
    """What was not reached is left, and sales is told."""
    rest: list[dict[str, Any]] = run.spec.get("moves", [])[run.position :]
    named = [[move["account"], problem.reason] for move in rest if move.get("from") != move.get("to")]
    run.tally.setdefault("left", []).extend(named)
    await _answer(run, call)


RUNS = {MOVE: Kind(_move, _failed)}
