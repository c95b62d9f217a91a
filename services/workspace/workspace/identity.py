"""Keeps the identity provider equal to the organisation: departments, people and roles.

Every change queues a run; the run calls the provider outside any transaction, does the same however often it is done,
and is tried again while the provider is away. What changed together is one run: people who come by a table are one
conversation and one transaction for many. What counts at a call is the configuration bucket; the provider decides who
can sign in at all, and tells other systems who is what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import structlog
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import CHINESE, FailedPrecondition, Problem
from crmkit.events import Fact, listens
from crmkit.runs import Kind, Run
from sqlalchemy import func, select, text

from workspace import alerts
from workspace.model.department import Department, ancestors
from workspace.model.employee import Employee
from workspace.model.role import Role
from workspace.model.session import Session
from workspace.permissions import expand
from workspace.providers import Account, Composite, Provider, ProviderRefused, Unit, provider

RUN = "SynchroniseIdentity"
GROUPS = "ReadIdentityGroups"
SESSION = "EndIdentitySession"
LOCKOUTS = "ReadLockouts"
# How far back a lockout is still news: longer than the provider or workspace is away without notice.
LOCKOUTS_BACK = timedelta(hours=6)
# People whose accounts are written down in one transaction, and how many the provider is asked about at once.
TOGETHER, AT_ONCE = 50, 8
# What an employee is at the provider.
KINDS = {"STAFF": "staff", "PARTNER_USER": "partner"}

log = structlog.get_logger(__name__)

MODELS = {"departments": Department, "employees": Employee, "roles": Role}


@listens(*(f"crm.workspace.v1.ResourceChanged.{collection}" for collection in MODELS))
async def on_organisation_changed(events: list[Fact], call: Call) -> None:
    """Queues the synchronisation of what changed, all of it together."""
    await queue([one for event in events if (one := _concerned(event.payload)) is not None], call)


def _concerned(change: dict[str, Any]) -> dict[str, Any] | None:
    """What the provider is to hear of a change; None for what it has said itself."""
    name: str = change["name"]
    if change["action"] == "DELETED":
        username = str(change.get("resource", {}).get("username", ""))
        return {"name": name, "gone": username} if name.startswith("employees/") and username else None
    if change.get("method") == RUN:
        return None
    return {"name": name, "endSessions": "sessionsEndTime" in (change.get("after") or {})}


async def queue(concerned: Sequence[dict[str, Any]], call: Call) -> None:
    """Queues records, roles before those who have them; without an identity provider there is nothing to do."""
    if concerned and call.running.settings.keeps_accounts:
        ordered = sorted(concerned, key=lambda one: str(one["name"]).partition("/")[0], reverse=True)
        await runs.start(call, RUN, "identity", {"concerned": ordered}, requester="system/workspace")


@listens("crm.workspace.v1.ResourceChanged.sessions")
async def on_session_ended(event: Fact, call: Call) -> None:
    """What was ended here ends at the provider too; who signs out has ended it there already."""
    resource: dict[str, Any] = event.payload.get("resource", {})
    ended = resource.get("state") == "ENDED" and resource.get("endReason") != "SIGNED_OUT"
    if call.running.settings.keeps_accounts and ended and event.payload["action"] != "DELETED":
        await runs.start(call, SESSION, str(event.payload["name"]), {}, requester="system/workspace")


async def end_session(run: Run) -> None:
    """Ends one session at the provider, if it is still there."""
    async with run.running.system_call(SESSION, None) as call:
        row = await call.named(Session, run.about)
        provider_id = row.provider_id if row is not None else ""
    if provider_id:
        async with provider(run.running.settings) as known:
            await known.end_sessions("", provider_id)


async def fail_session(run: Run, problem: Problem, call: Call) -> None:
    """The gateway refuses the session in any case."""
    log.warning("a session could not be ended at the provider", reason=problem.reason)


async def queue_unfinished(call: Call) -> None:
    """Queues whom the provider does not have yet, and all departments and roles."""
    if call.running.settings.keeps_accounts:
        waiting = (Employee.state == "INVITED") | (Employee.identity_error != "")
        found: list[dict[str, Any]] = []
        for model, condition in ((Role, True), (Employee, waiting), (Department, True)):
            keys = await call.db.scalars(select(model.id).where(cast("Any", condition)))
            found += [{"name": f"{model.described.collection}/{key}"} for key in keys]
        await queue(found, call)


@dataclass(frozen=True)
class Wanted:
    """What the provider is to have of one record, apart from the row, which belongs to its transaction."""

    name: str
    account: Account | None = None
    role: Composite | None = None
    shut: str = ""


async def synchronise(run: Run) -> None:
    """Brings the provider to what the tables say of some records."""
    concerned: list[dict[str, Any]] = run.spec["concerned"]
    async with provider(run.running.settings) as known:
        while run.phase != "ENDED":
            part = concerned[run.position : run.position + TOGETHER]
            again = {str(one["name"]): one for one in part}
            told: dict[str, tuple[Wanted, str, str]] = {}
            while again:
                told |= await _tell(run, known, list(again.values()))
                # Whoever was changed meanwhile is told once more: the last to write has seen the last change.
                again = {name: again[name] for name in await _outdated(run, told) if name in again}
            async with run.chunk() as call:
                for wanted, subject, refused in told.values():
                    await _note(wanted, subject, refused, call)
                run.position += len(part)
                if run.position >= len(concerned):
                    run.next_phase("ENDED")


async def _tell(
    run: Run, known: Provider, concerned: list[dict[str, Any]]
) -> dict[str, tuple[Wanted, str, str]]:
    async with run.running.system_call(RUN, None) as call:
        managed = list(await call.db.scalars(select(Role.code)))
        wanted = await _wanted([str(one["name"]) for one in concerned], call)
    flags = {str(one["name"]): one for one in concerned}
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(what: Wanted) -> tuple[Wanted, str, str]:
        async with slots:
            return await _ask(known, what, managed, flags[what.name])

    # Roles come first: people hold them.
    done = [await one(what) for what in wanted if what.role is not None]
    async with asyncio.TaskGroup() as group:
        rest = [group.create_task(one(what)) for what in wanted if what.role is None]
    for gone in (flag for flag in concerned if flag.get("gone")):
        await known.set_enabled(str(gone["gone"]), str(gone["name"]), False)
    return {answer[0].name: answer for answer in (*done, *(task.result() for task in rest))}


async def _ask(
    known: Provider, what: Wanted, managed: list[str], flags: dict[str, Any]
) -> tuple[Wanted, str, str]:
    """What is asked for, the subject, and why it was refused."""
    try:
        if what.role is not None:
            await known.ensure_role(what.role)
        elif what.account is None:
            await known.set_enabled(what.shut, what.name, False)
        elif not what.account.username:
            raise ProviderRefused("username")
        else:
            subject = await known.ensure_user(what.account, managed)
            if flags.get("endSessions"):
                await known.end_sessions(what.account.username)
            return what, subject, ""
    except ProviderRefused as refused:
        return what, "", str(refused) or "refused"
    return what, "", ""


async def _outdated(run: Run, told: dict[str, tuple[Wanted, str, str]]) -> list[str]:
    async with run.running.system_call(RUN, None) as call:
        now = {one.name: one for one in await _wanted(list(told), call)}
    return [name for name, (wanted, *_) in told.items() if name in now and now[name] != wanted]


async def _note(wanted: Wanted, subject: str, refused: str, call: Call) -> None:
    """Writes down what the provider has answered about a person."""
    if not wanted.name.startswith("employees/"):
        if refused:
            log.warning("the provider refuses what it was told", name=wanted.name, detail=refused)
        return
    person = await call.find(Employee, Employee.id == _key(wanted.name), lock=True)
    if person is not None and subject:
        person.has_account(subject)
    elif person is not None and refused:
        problem = FailedPrecondition("IDENTITY_REFUSED", detail=refused)
        person.identity_error = problem.text(CHINESE, "workspace")


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """The records of people whom the provider was never told of say why there is no account; `:activate` tries again."""
    for one in run.spec["concerned"][run.position :]:
        name = str(one["name"])
        person = (
            await call.find(Employee, Employee.id == _key(name), lock=True)
            if name.startswith("employees/") and not one.get("gone")
            else None
        )
        if person is not None:
            person.identity_error = problem.text(CHINESE, "workspace")


async def queue_groups(call: Call) -> None:
    """Has the members of groups that bring a role looked up."""
    mapped = select(Role.id).where(Role.state == "ACTIVE", Role.identity_group != "").limit(1)
    if call.running.settings.keeps_accounts and await call.db.scalar(mapped) is not None:
        await runs.start(call, GROUPS, "roles", {}, requester="system/workspace")


async def read_groups(run: Run) -> None:
    """Gives and takes the roles of groups, as the provider has their members now."""
    if run.phase == "ENDED":
        return
    async with run.running.system_call(GROUPS, None) as call:
        mapped = select(Role.identity_group).where(Role.state == "ACTIVE", Role.identity_group != "")
        groups = set(await call.db.scalars(mapped))
        since = call.now
    async with provider(run.running.settings) as known:
        found = (await known.list_changes(since, groups)).members
    async with run.chunk() as call:
        concerned = Employee.username.in_(sorted(found)) | (func.cardinality(Employee.identity_roles) > 0)
        people = select(Employee).where(concerned, Employee.state != "OFFBOARDED").order_by(Employee.id)
        for person in list(await call.db.scalars(people.with_for_update())):
            await person.in_groups(found.get(person.username, ()), call)
        run.next_phase("ENDED")


async def fail_groups(run: Run, problem: Problem, call: Call) -> None:
    """The next hour asks again."""
    log.warning("groups could not be read", reason=problem.reason)


async def queue_lockouts(call: Call) -> None:
    """Has the provider asked whom it has locked out, unless it is being asked already."""
    waiting = text("SELECT 1 FROM bulk_runs WHERE kind = :kind AND state IN ('QUEUED', 'RUNNING')")
    if call.running.settings.keeps_accounts and await call.db.scalar(waiting, {"kind": LOCKOUTS}) is None:
        await runs.start(call, LOCKOUTS, "lockouts", {}, requester="system/workspace")


async def read_lockouts(run: Run) -> None:
    """Who was locked out after too many wrong passwords is told to administrators, once an hour for each person."""
    if run.phase == "ENDED":
        return
    async with run.running.system_call(LOCKOUTS, None) as call:
        since = call.now - LOCKOUTS_BACK
    async with provider(run.running.settings) as known:
        found = (await known.list_changes(since)).lockouts
    async with run.chunk() as call:
        for one in found:
            person = await call.find(Employee, Employee.username == one.username)
            who = f"{person.display_name}（{one.username}）" if person is not None else one.username
            zh = f"{who}多次输错密码，已被临时锁定（来源 {one.address}）"
            en = f"{one.username} was locked out after too many wrong passwords, from {one.address}"
            key = f"{one.username}:{one.time:%Y-%m-%dT%H}"
            about = person.name if person is not None else ""
            await alerts.raise_alert("SIGN_IN_LOCKED", about, zh, en, call, key=key)
        run.next_phase("ENDED")


async def fail_lockouts(run: Run, problem: Problem, call: Call) -> None:
    """The next minute asks again."""
    log.warning("lockouts could not be read", reason=problem.reason)


RUNS = {
    RUN: Kind(synchronise, fail, aside=True, urgent=True),
    GROUPS: Kind(read_groups, fail_groups, aside=True),
    SESSION: Kind(end_session, fail_session, aside=True, urgent=True),
    LOCKOUTS: Kind(read_lockouts, fail_lockouts, aside=True),
}


async def _wanted(names: list[str], call: Call) -> list[Wanted]:
    """What the provider is to have of records that are there: a department of somebody in it, whose account leads to it."""
    found: list[Wanted] = []
    units: dict[str, tuple[Unit, ...]] = {}
    for name in names:
        collection = name.partition("/")[0]
        row: Any = await call.find(MODELS[collection], MODELS[collection].id == _key(name))
        if isinstance(row, Role):
            found.append(Wanted(row.name, role=_composite(row)))
        elif isinstance(row, Employee) and row.kind == "SERVICE":
            # A machine calls by its keys: nobody signs in as one.
            continue
        elif isinstance(row, Employee) and row.state in {"FROZEN", "OFFBOARDED"}:
            found.append(Wanted(row.name, shut=row.username))
        elif isinstance(row, Employee):
            found.append(Wanted(row.name, account=await _account(row, units, call)))
        elif isinstance(row, Department) and (person := await _within(row, call)) is not None:
            found.append(Wanted(name, account=await _account(person, units, call)))
    return found


def _composite(role: Role) -> Composite:
    live = role.state == "ACTIVE"
    permissions = expand(role.permissions) - {"*"} if live else frozenset[str]()
    title = f"{role.display_name} / {role.english_name}" if role.english_name else role.display_name
    return Composite(role.code, title, role.scope, frozenset(permissions))


async def _account(person: Employee, units: dict[str, tuple[Unit, ...]], call: Call) -> Account:
    if person.department not in units:
        above = [Unit(one.name, one.display_name) for one in await ancestors(person.department, call)]
        units[person.department] = tuple(reversed(above))
    return Account(
        username=person.username,
        employee=person.name,
        title=person.display_name,
        kind=KINDS[person.kind or "STAFF"],
        email=person.email,
        locale=person.locale,
        account=person.account,
        units=units[person.department],
        roles=tuple(person.roles),
    )


async def _within(department: Department, call: Call) -> Employee | None:
    """Somebody with an account in the department or beneath it."""
    beneath = select(Department.id).where(
        (Department.id == department.id) | Department.path.startswith(f"{department.path}/", autoescape=True)
    )
    names = [f"departments/{key}" for key in await call.db.scalars(beneath)]
    states = Employee.state.in_(["ACTIVE", "INVITED"])
    people = select(Employee).where(
        Employee.department.in_(names), states, Employee.username != "", Employee.kind != "SERVICE"
    )
    return await call.db.scalar(people.order_by(Employee.id).limit(1))


def _key(name: str) -> UUID:
    return UUID(name.partition("/")[2])
