"""Who decides a step of an approval: found in the tree, by role, by name or in the record, each with the reason why."""

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.filters.values import snake

from workspace.model.department import Department, ancestors
from workspace.model.employee import Employee, holders, superiors
from workspace.model.role import Role

Policy = pb.ApprovalPolicy
ADMINISTRATOR = "administrator"
CHOSEN = "chosen by the requester"
MOST_APPROVERS = 50
LONGEST_DELEGATION = 3


async def deciders(
    step: Policy.Step,
    self_approval: int,
    requester: str,
    record: Mapping[str, Any],
    call: Call,
    chosen: Collection[str] = (),
    every_candidate: bool = False,
) -> dict[str, str]:
    """Approvers with the reason why each of them is asked; empty where the step finds nobody."""
    found: dict[str, str] = {}
    async for person, why in _asked(step, requester, record, call):
        if why == CHOSEN and not every_candidate and person.name not in chosen:
            continue
        able, reason = await _able(person, why, call)
        if able is not None and requester in (able.name, person.name):
            # The rule also holds where the requester would decide as somebody's delegate.
            able, reason = await _instead(able, person, requester, self_approval, reason, call)
        if able is not None and len(found) < MOST_APPROVERS:
            found.setdefault(able.name, reason)
    return found


async def employee(name: str, call: Call) -> Employee | None:
    """The employee of the name."""
    if not name.startswith("employees/"):
        return None
    return await call.named(Employee, name)


async def stand_in(person: Employee, call: Call) -> Employee | None:
    """The nearest superior who works here now."""
    chain = (await superiors(person.superior, call)) if person.superior else []
    return next((superior for superior in chain if superior.state == "ACTIVE"), None)


async def administrators(requester: str, call: Call) -> dict[str, str]:
    """Who decides where nobody else can."""
    able = [one for one in await _holders(ADMINISTRATOR, [], call) if one.state == "ACTIVE"]
    return {person.name: "nobody else can decide" for person in able if person.name != requester}


async def delegate_of(person: Employee, at: datetime, call: Call) -> Employee | None:
    """Who decides for the person at that time, at the end of the line; None where nobody does."""
    seen, now, found = {person.name}, person, None
    for _ in range(LONGEST_DELEGATION):
        given = next((one for one in now.delegations if _runs(one, at)), None)
        following = await employee(given.delegate, call) if given is not None else None
        if following is None or following.name in seen or following.state != "ACTIVE":
            break
        seen.add(following.name)
        now = found = following
    return found


async def check_delegation(person: Employee, delegate: str, call: Call) -> None:
    """Refuses a delegate who is away, and lines that come back or are too long."""
    name, steps = delegate, 0
    while name:
        steps += 1
        if name == person.name or steps > LONGEST_DELEGATION:
            raise FailedPrecondition("DELEGATION_CYCLE", limit=LONGEST_DELEGATION)
        following = await employee(name, call)
        if following is None or following.state != "ACTIVE":
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        name = next((one.delegate for one in following.delegations if not _over(one, call.now)), "")


async def _asked(
    step: Policy.Step, requester: str, record: Mapping[str, Any], call: Call
) -> AsyncIterator[tuple[Employee, str]]:
    """Everybody whom the step names, in its order."""
    chain = await superiors(requester, call) if requester.startswith("employees/") else []
    for source in step.approvers:
        level = source.level or 1
        match source.source:
            case Policy.EMPLOYEE:
                people, why = [await employee(source.employee, call)], "named"
            case Policy.SUPERIOR:
                people, why = list[Employee | None](chain[level : level + 1]), f"superior {level}"
            case Policy.CHAIN:
                people, why = list[Employee | None](_climb(chain[1:], source, record, call.now)), "superior"
            case Policy.DEPARTMENT_HEAD:
                people, why = [await _head(chain, level, call)], f"head of department {level}"
            case Policy.ROLE:
                people = list[Employee | None](await _holders(source.role, chain, call))
                why = f"role {source.role}"
            case Policy.FIELD:
                people, why = [await employee(_value(record, source.field), call)], f"field {source.field}"
            case Policy.CHOICE:
                people, why = [await employee(name, call) for name in source.candidates], CHOSEN
            case Policy.PARTNER_MANAGER:
                people, why = [await _partner_manager(chain, call)], "partner manager"
            case _:
                people, why = list[Employee | None](), ""
        for person in people:
            if person is not None:
                yield person, why


async def _able(person: Employee, why: str, call: Call) -> tuple[Employee | None, str]:
    """The person, or who decides in the place of one who is away."""
    if person.state == "ACTIVE":
        delegate = await delegate_of(person, call.now, call)
        return (person, why) if delegate is None else (delegate, f"{why}, for {person.display_name}")
    other = await delegate_of(person, call.now, call) or await stand_in(person, call)
    return other, f"{why}, in place of {person.display_name}"


async def _instead(
    able: Employee, person: Employee, requester: str, rule: int, why: str, call: Call
) -> tuple[Employee | None, str]:
    if rule == Policy.ALLOW:
        return able, why
    if rule != Policy.TO_SUPERIOR:
        return None, ""
    chain = (await superiors(person.superior, call)) if person.superior else []
    fit = (one for one in chain if one.state == "ACTIVE" and one.name != requester)
    return next(fit, None), f"{why}, in place of the requester"


def _climb(superiors: list[Employee], source: Any, record: Mapping[str, Any], at: datetime) -> list[Employee]:
    """The chain up to its level, to the first who may decide the amount alone, or to the first with the role."""
    steps = source.level or (len(superiors) if source.limits or source.role else 1)
    if source.limits:
        amount = _amount(record, source.field)
        able = next(
            (place for place, limit in enumerate(source.limits) if Decimal(limit) >= amount),
            len(source.limits),
        )
        steps = min(steps, able + 1)
    if source.role:
        holder = next(
            (place for place, one in enumerate(superiors) if source.role in one.held(at)), len(superiors)
        )
        steps = min(steps, holder + 1)
    return superiors[:steps]


def _amount(record: Mapping[str, Any], field: str) -> Decimal:
    """The amount in a field of the record; endless where it cannot be read, so that nobody decides more than he may."""
    found: Any = next((value for key, value in record.items() if snake(key) == snake(field)), None)
    text = found.get("amount") if isinstance(found, Mapping) else found
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return Decimal("Infinity")


async def _partner_manager(chain: list[Employee], call: Call) -> Employee | None:
    """Who owns the partner's account, else the superior of the partner's person."""
    account = chain[0].account if chain else ""
    owner = str((await call.copy(account) or {}).get("owner", "")) if account else ""
    return await employee(owner, call) or (chain[1] if account and len(chain) > 1 else None)


async def _head(chain: list[Employee], level: int, call: Call) -> Employee | None:
    """Who leads the requester's department, or the one `level - 1` above: its manager, else a deputy who is there."""
    above = await ancestors(chain[0].department, call) if chain and chain[0].department else []
    if len(above) < level:
        return None
    manager = await employee(above[level - 1].manager, call)
    for deputy in above[level - 1].deputies if manager is None or manager.state != "ACTIVE" else ():
        there = await employee(deputy, call)
        if there is not None and there.state == "ACTIVE":
            return there
    return manager


async def _holders(role: str, chain: list[Employee], call: Call) -> list[Employee]:
    """Holders in the own department, else in the nearest one above that has any, else in the company."""
    found = await call.find(Role, Role.code == role, Role.state == "ACTIVE")
    # Machines decide nothing.
    everybody = await holders(found, call) if found is not None else []
    people = [one for one in everybody if one.kind != "SERVICE"]
    above: list[Department] = await ancestors(chain[0].department, call) if chain else []
    for department in above:
        near = [one for one in people if department.name in (one.department, *one.posts)]
        if near:
            return near[:MOST_APPROVERS]
    return people[:MOST_APPROVERS]


def _value(record: Mapping[str, Any], field: str) -> str:
    return str(next((value for key, value in record.items() if snake(key) == snake(field)), ""))


def _over(given: Any, at: datetime) -> bool:
    return given.HasField("until_time") and given.until_time.ToDatetime(UTC) <= at


def _runs(given: Any, at: datetime) -> bool:
    return given.from_time.ToDatetime(UTC) <= at and not _over(given, at)
