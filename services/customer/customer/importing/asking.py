"""The lines of a chunk whose records a policy is over: asked for one by one, and noted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from crmkit.call import Call, changed_fields
from crmkit.mapping import mapper
from crmkit.resource import Resource
from crmkit.runs import Run

from customer.importing import gate
from customer.importing.filling import fill
from customer.importing.plan import Line, Plan
from customer.model.account import Account

ACCOUNT, CONTACT, RELATION, WISH = 0, 1, 2, 3
"""The parts of a line."""


async def ask_accounts(
    lines: Sequence[Line], held: list[dict[str, Any]], run: Run, call: Call
) -> list[dict[str, Any]]:
    """Holds new customers that a policy wants decided, each for itself."""
    done: list[dict[str, Any]] = []
    for line in lines:
        assert line.account is not None
        came = await gate.make(line.account, line.number, call)
        done += note(came, line, ACCOUNT, line.account, held, run)
        if came.problem is not None:
            line.account = None
    return done


async def ask_changes(
    asked: Sequence[tuple[Line, UUID]], plan: Plan, run: Run, call: Call
) -> list[dict[str, Any]]:
    """Brings lines into customers that exist where every change of one has to pass the gate."""
    done: list[dict[str, Any]] = []
    paths = [column.path for _, column, _ in plan.mapped[""]]
    for line, known in asked:
        new, target = line.account, await call.find(Account, Account.id == known)
        assert new is not None and target is not None
        line.account, names = target, fill(target, new, paths)
        if not names:
            run.count(skipped=1)
            continue
        before, mapping = changed_fields(target), mapper(Account)
        after = {
            target.described.fields[name].json_name: mapping.value_json(name, getattr(target, name))
            for name in names
        }
        came = await gate.change(target, names, line.number, call)
        if came.problem is not None:
            line.problems.append(came.problem)
        elif came.held:
            run.count(held=1)
            done.append(entry(run, line.number, ACCOUNT, "HELD", target, {}))
        else:
            run.count(updated=1)
            detail = {"before": {key: before.get(key) for key in after}, "after": after}
            done.append(entry(run, line.number, ACCOUNT, "UPDATED", target, detail))
    return done


def waits(account: Account, held: Sequence[dict[str, Any]]) -> bool:
    return any(row["target"] == account.name for row in held)


def note(
    came: gate.Came, line: Line, part: int, row: Resource, held: list[dict[str, Any]], run: Run
) -> list[dict[str, Any]]:
    """Counts what became of a record that a policy was over, and keeps what follows when it is decided."""
    if came.problem is not None:
        line.problems.append(came.problem)
        return []
    if came.held:
        run.count(held=1)
        held.append(gate.waiting(row.name, run, line.number, part))
        return [entry(run, line.number, part, "HELD", row, {})]
    run.count(created=1)
    return [
        entry(run, line.number, part, "CREATED", came.row, {"version": came.row.version if came.row else 1})
    ]


def entry(
    run: Run, line: int, part: int, action: str, record: Resource | None, detail: dict[str, Any]
) -> dict[str, Any]:
    name = record.name if record is not None else ""
    return {"run": run.id, "line": line, "part": part, "action": action, "name": name, "detail": detail}
