"""What becomes of a line: made, filled in, left out, or refused; the same in the check and in the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from crmkit.call import Call
from crmkit.customfields import check_custom, taken_of
from crmkit.dictionaries import check_choices
from crmkit.errors import AlreadyExists, Validation
from crmkit.naming import unnamed
from crmkit.resource import Resource
from crmkit.scope import predicate
from crmkit.sheetfields import RowProblem, violations
from sqlalchemy import select

from customer.importing import duplicates
from customer.importing.duplicates import Twin
from customer.importing.plan import Line, Plan
from customer.matching import Level
from customer.model.account import Account

DESPITE = "customer.accounts.create_despite"


async def name_records(lines: Sequence[Line], plan: Plan, call: Call) -> None:
    """Turns named records into references; a line that names none or several gets a problem."""
    people = _people(call) if any("owner" in path or "counterpart" in path for path in plan.headers) else {}
    wanted = {line.given["account"] for line in lines if "account" in line.given}
    accounts = await duplicates.named(wanted, call) if wanted else {}
    for line in lines:
        for path, text in line.given.items():
            prefix, _, name = path.rpartition(".")
            record: Any = line.contact if prefix else line.account or line.contact or line.interaction
            if name in ("owner", "counterpart"):
                found = [text] if text in people.get("", ()) else people.get(text.strip(), [])
            elif name == "account":
                found = [f"accounts/{key}" for key in accounts[text]]
            else:
                continue
            if len(found) == 1 and record is not None:
                setattr(record, name, found[0])
            else:
                line.problems.append(unnamed(line.number, plan.headers.get(path, ""), text, len(found)))
        if line.interaction is not None and "account" not in line.given:
            line.problems.append(
                RowProblem(
                    line.number,
                    plan.headers.get("account", ""),
                    "REQUIRED",
                    "必填",
                    "This field is required.",
                )
            )


async def check_customs(lines: Sequence[Line], plan: Plan, call: Call) -> None:
    """Checks entries of dictionaries and custom fields by their live definitions."""
    for prefix in ("", "contact."):
        records: list[tuple[Line, Resource]] = []
        for line in lines:
            record = line.contact if prefix else line.account or line.interaction
            if record is None:
                continue
            try:
                check_choices(record, record.described.fields, call)
                await check_custom(record, call, hold=False)
                records.append((line, record))
            except Validation as refused:
                line.problems += violations(line.number, plan.headers, refused.violations, prefix)
        taken = await taken_of([record for _, record in records], call)
        for line, record in records:
            line.problems += violations(line.number, plan.headers, taken.get(record.id, ()), prefix)


async def visible(twins: Sequence[Twin | None], call: Call) -> set[UUID]:
    """Of the accounts that exist, those that the caller may see."""
    ids = {twin.account for twin in twins if twin is not None and twin.account}
    if not ids:
        return set()
    return set(
        await call.db.scalars(select(Account.id).where(Account.id.in_(ids), predicate(Account, call.caller)))
    )


def refusal(
    line: Line, twin: Twin | None, policy: str, seen: set[UUID], plan: Plan, call: Call
) -> RowProblem | None:
    """Why a line whose customer exists cannot be brought in under the policy."""
    if twin is None or policy in ("SKIP", ""):
        return None
    hidden = policy == "UPDATE" and twin.account is not None and twin.account not in seen
    again = (
        policy == "CREATE"
        and twin.level in duplicates.REFUSING
        and not (
            twin.level is Level.STRONG
            and call.caller.may(DESPITE)
            and line.account is not None
            and line.account.distinction
        )
    )
    if hidden or again:
        refused = AlreadyExists("ACCOUNT_COLLISION", level=twin.level.value)
        return RowProblem.of(line.number, plan.headers.get("display_name", ""), refused)
    return None


def _people(call: Call) -> Mapping[str, list[str]]:
    """Employees by displayed name; all of their resource names under the empty one."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, entry in call.running.config.prefix("employee.").items():
        if not entry.get("disabled"):
            name = f"employees/{key.removeprefix('employee.')}"
            found[entry.get("displayName", "") or name].append(name)
            found[""].append(name)
    return found
