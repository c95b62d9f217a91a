"""Keeps Keycloak equal to the organisation: departments → groups, employees → users, roles → composite realm roles.

Every change queues a run; the run calls Keycloak outside any transaction, does the same however often it is done, and
is tried again while Keycloak is away. What counts at a call is the configuration bucket; Keycloak decides who can
sign in at all, and tells other systems who is what.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

import structlog
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import CHINESE, FailedPrecondition, Problem
from crmkit.events import Fact, listens
from crmkit.runs import Kind, Run
from crmkit.settings import Settings
from keycloak import (
    KeycloakAdmin,
    KeycloakError,
    KeycloakGetError,
    KeycloakOpenIDConnection,
    KeycloakPostError,
)
from sqlalchemy import func, select, text

from workspace import alerts
from workspace.model.department import Department
from workspace.model.employee import Employee
from workspace.model.role import Role
from workspace.model.session import Session
from workspace.permissions import expand

RUN = "SynchroniseIdentity"
GROUPS = "ReadIdentityGroups"
SESSION = "EndIdentitySession"
LOCKOUTS = "ReadLockouts"
# How far back a lockout is still news: longer than Keycloak or workspace is away without notice.
LOCKOUTS_BACK = timedelta(hours=6)
MOST_EVENTS = 500
# What Keycloak calls it when the right password would not help either.
LOCKED = frozenset(["user_temporarily_disabled", "user_permanently_disabled"])
API_CLIENT = "crm-api"
PAGE = 500

log = structlog.get_logger(__name__)

MODELS = {"departments": Department, "employees": Employee, "roles": Role}


@listens(*(f"crm.workspace.v1.ResourceChanged.{collection}" for collection in MODELS))
async def on_organisation_changed(event: Fact, call: Call) -> None:
    """Queues the synchronisation of what changed."""
    name: str = event.payload["name"]
    if event.payload["action"] == "DELETED" and name.startswith("employees/"):
        await queue(name, call, gone=str(event.payload.get("resource", {}).get("username", "")))
    elif event.payload["action"] != "DELETED":
        ended = "sessionsEndTime" in (event.payload.get("after") or {})
        await queue(name, call, end_sessions=ended)


async def queue(name: str, call: Call, *, end_sessions: bool = False, gone: str = "") -> None:
    """Queues one record; without an identity provider there is nothing to do. `gone`: whom it is to know no more."""
    if call.running.settings.keycloak_url:
        spec = {"endSessions": end_sessions, "gone": gone}
        await runs.start(call, RUN, name, spec, requester="system/workspace")


@listens("crm.workspace.v1.ResourceChanged.sessions")
async def on_session_ended(event: Fact, call: Call) -> None:
    """What was ended here ends at the provider too; who signs out has ended it there already."""
    resource: dict[str, Any] = event.payload.get("resource", {})
    ended = resource.get("state") == "ENDED" and resource.get("endReason") != "SIGNED_OUT"
    if call.running.settings.keycloak_url and ended and event.payload["action"] != "DELETED":
        await runs.start(call, SESSION, str(event.payload["name"]), {}, requester="system/workspace")


async def end_session(run: Run) -> None:
    """Ends one session in Keycloak, if it is still there."""
    async with run.running.system_call(SESSION, None) as call:
        row = await call.named(Session, run.about)
        provider_id = row.provider_id if row is not None else ""
    if provider_id:
        async with Keycloak.at(run.running.settings) as keycloak:
            await keycloak.end_session(provider_id)


async def fail_session(run: Run, problem: Problem, call: Call) -> None:
    """The gateway refuses the session in any case."""
    log.warning("a session could not be ended at the provider", reason=problem.reason)


async def queue_unfinished(call: Call) -> None:
    """Queues whom Keycloak does not have yet, and all departments and roles."""
    if call.running.settings.keycloak_url:
        waiting = (Employee.state == "INVITED") | (Employee.identity_error != "")
        for model, condition in ((Department, True), (Role, True), (Employee, waiting)):
            for key in await call.db.scalars(select(model.id).where(cast("Any", condition))):
                await queue(f"{model.described.collection}/{key}", call)


async def synchronise(run: Run) -> None:
    """Brings Keycloak to what the tables say of one record."""
    collection, _, key = run.about.partition("/")
    async with run.running.system_call(RUN, None) as call:
        row: Any = await call.find(MODELS[collection], MODELS[collection].id == UUID(key))
        if row is None:
            await _remove(run)
            return
        managed = [role.code for role in await call.db.scalars(select(Role))]
        wanted = _wanted(row)
    subject = ""
    try:
        async with Keycloak.at(run.running.settings) as keycloak:
            if collection == "departments":
                await keycloak.ensure_group(wanted)
            elif collection == "roles":
                await keycloak.ensure_role(wanted)
            else:
                subject = await keycloak.ensure_user(wanted, managed)
                if run.spec.get("endSessions"):
                    await keycloak.admin.a_user_logout(subject)
    except KeycloakError as error:
        if error.response_code is not None and 400 <= error.response_code < 500:
            raise FailedPrecondition("IDENTITY_REFUSED", detail=_detail(error)) from error
        raise
    if subject:
        async with run.chunk() as call:
            employee = await call.find(Employee, Employee.id == UUID(key), lock=True)
            if employee is not None:
                employee.has_account(subject)


async def _remove(run: Run) -> None:
    if username := run.spec.get("gone"):
        async with Keycloak.at(run.running.settings) as keycloak:
            await keycloak.remove_user(username, run.about)


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """The person's record says why there is no account; `:activate` tries again."""
    collection, _, key = run.about.partition("/")
    if collection == "employees" and (
        employee := await call.find(Employee, Employee.id == UUID(key), lock=True)
    ):
        employee.identity_error = problem.text(CHINESE, "workspace")


async def queue_groups(call: Call) -> None:
    """Has the members of groups that bring a role looked up."""
    mapped = select(Role.id).where(Role.state == "ACTIVE", Role.identity_group != "").limit(1)
    if call.running.settings.keycloak_url and await call.db.scalar(mapped) is not None:
        await runs.start(call, GROUPS, "roles", {}, requester="system/workspace")


async def read_groups(run: Run) -> None:
    """Gives and takes the roles of groups, as Keycloak has their members now."""
    if run.phase == "ENDED":
        return
    async with run.running.system_call(GROUPS, None) as call:
        mapped = select(Role.identity_group).where(Role.state == "ACTIVE", Role.identity_group != "")
        groups = set(await call.db.scalars(mapped))
    found: dict[str, set[str]] = {}
    async with Keycloak.at(run.running.settings) as keycloak:
        for group in sorted(groups):
            for username in await keycloak.members(group):
                found.setdefault(username, set()).add(group)
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
    """Has Keycloak asked whom it has locked out, unless it is being asked already."""
    waiting = text("SELECT 1 FROM bulk_runs WHERE kind = :kind AND state IN ('QUEUED', 'RUNNING')")
    if call.running.settings.keycloak_url and await call.db.scalar(waiting, {"kind": LOCKOUTS}) is None:
        await runs.start(call, LOCKOUTS, "lockouts", {}, requester="system/workspace")


async def read_lockouts(run: Run) -> None:
    """Who was locked out after too many wrong passwords is told to administrators, once an hour for each person."""
    if run.phase == "ENDED":
        return
    async with Keycloak.at(run.running.settings) as keycloak:
        found = await keycloak.lockouts()
    async with run.chunk() as call:
        for one in found:
            if one.time < call.now - LOCKOUTS_BACK:
                continue
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
    RUN: Kind(synchronise, fail),
    GROUPS: Kind(read_groups, fail_groups),
    SESSION: Kind(end_session, fail_session),
    LOCKOUTS: Kind(read_lockouts, fail_lockouts),
}


@dataclass(frozen=True)
class Lockout:
    """Somebody whom Keycloak lets in no more for a while."""

    username: str
    address: str
    time: datetime


@dataclass(frozen=True)
class Wanted:
    """What Keycloak is to have of one record, apart from the row, which belongs to its transaction."""

    name: str
    title: str
    parent: str = ""
    attributes: dict[str, list[str]] | None = None
    username: str = ""
    email: str = ""
    enabled: bool = True
    invited: bool = False
    department: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()


def _wanted(row: Any) -> Wanted:
    if isinstance(row, Department):
        return Wanted(row.name, row.display_name, parent=row.parent)
    if isinstance(row, Role):
        live = row.state == "ACTIVE"
        permissions = expand(row.permissions) - {"*"} if live else frozenset[str]()
        title = f"{row.display_name} / {row.english_name}" if row.english_name else row.display_name
        return Wanted(row.code, title, permissions=permissions, attributes={"scope": [row.scope]})
    said = {
        "displayName": row.display_name,
        "locale": row.locale,
        "employee": row.name,
        "account": row.account,
    }
    return Wanted(
        row.name,
        row.display_name,
        attributes={key: [value] for key, value in said.items() if value},
        username=row.username,
        email=row.email,
        enabled=row.state in {"ACTIVE", "INVITED"},
        invited=row.state == "INVITED",
        department=row.department,
        roles=tuple(row.roles),
    )


class Keycloak:
    """The calls that the synchronisation needs; each ensures, so that doing it twice is doing it once."""

    def __init__(self, admin: KeycloakAdmin) -> None:
        self.admin = admin

    @classmethod
    @asynccontextmanager
    async def at(cls, settings: Settings) -> AsyncIterator[Keycloak]:
        """The server of the settings, as the client that may keep people and departments."""
        connection = KeycloakOpenIDConnection(
            server_url=settings.keycloak_url,
            realm_name=settings.keycloak_realm,
            client_id=settings.keycloak_admin_client,
            client_secret_key=settings.keycloak_admin_secret,
            timeout=10,
        )
        try:
            yield cls(KeycloakAdmin(connection=connection))
        finally:
            await connection.aclose()
            await connection.keycloak_openid.connection.aclose()

    async def ensure_group(self, wanted: Wanted) -> None:
        """A group for the department, under that of its parent."""
        found = await self._group(wanted.name)
        parent = await self._group(wanted.parent) if wanted.parent else None
        if wanted.parent and parent is None:
            # The parent's own run is on its way; this one comes back.
            raise KeycloakGetError(f"no group for {wanted.parent}")
        payload = {"name": wanted.title, "attributes": {"department": [wanted.name]}}
        if found is None:
            await self.admin.a_create_group(payload, parent=parent["id"] if parent else None)
            return
        if parent and found.get("parentId") != parent["id"]:
            await self._move(found, parent)
        if found["name"] != wanted.title:
            await self.admin.a_update_group(found["id"], payload)

    async def ensure_role(self, wanted: Wanted) -> None:
        """A realm role composed of its permissions, which are roles of the API's client."""
        payload = {"name": wanted.name, "description": wanted.title, "attributes": wanted.attributes}
        await self.admin.a_create_realm_role(payload, skip_exists=True)
        role = await self.admin.a_get_realm_role(wanted.name)
        client = await self.admin.a_get_client_id(API_CLIENT)
        if client is None:
            raise KeycloakGetError(f"no client {API_CLIENT}", response_code=404)
        permissions = {found["name"]: found for found in await self.admin.a_get_client_roles(client)}
        composed = {found["name"]: found for found in await self._composites(role["id"], client)}
        new = [permissions[name] for name in wanted.permissions - composed.keys() if name in permissions]
        old = [composed[name] for name in composed.keys() - wanted.permissions]
        if new:
            await self.admin.a_add_composite_realm_roles_to_role(wanted.name, new)
        if old:
            await self.admin.a_remove_composite_realm_roles_to_role(wanted.name, old)
        if role.get("description") != wanted.title:
            await self.admin.a_update_realm_role(wanted.name, payload)

    async def ensure_user(self, wanted: Wanted, managed: Iterable[str]) -> str:
        """The person's account, department and roles; who may not sign in is signed out. Returns its subject."""
        if not wanted.username:
            raise FailedPrecondition("IDENTITY_REFUSED", detail="username")
        payload: dict[str, Any] = {
            "username": wanted.username,
            "enabled": wanted.enabled,
            "attributes": wanted.attributes,
            **({"email": wanted.email} if wanted.email else {}),
        }
        users = await self.admin.a_get_users({"username": wanted.username, "exact": True})
        if users:
            subject: str = users[0]["id"]
            await self.admin.a_update_user(subject, {**users[0], **payload})
        else:
            subject = await self.admin.a_create_user({**payload, "requiredActions": ["UPDATE_PASSWORD"]})
        if not wanted.enabled:
            await self.admin.a_user_logout(subject)
        await self._put_into(subject, wanted.department)
        await self._give(subject, set(wanted.roles), set(managed))
        return subject

    async def remove_user(self, username: str, employee: str) -> None:
        """Takes the person's account away, if it is still that person's."""
        for user in await self.admin.a_get_users({"username": username, "exact": True}):
            if (user.get("attributes") or {}).get("employee") == [employee]:
                await self.admin.a_delete_user(user["id"])

    async def end_session(self, provider_id: str) -> None:
        """Ends a session; one that is not there any more has ended."""
        connection = self.admin.connection
        path = f"admin/realms/{connection.realm_name}/sessions/{quote(provider_id, safe='')}"
        answer = await connection.a_raw_delete(path)
        if answer.status_code not in (204, 404):
            raise KeycloakError("the session was not ended", response_code=answer.status_code)

    async def lockouts(self) -> list[Lockout]:
        """The newest sign-ins that were refused because of too many before them."""
        asked = {"type": "LOGIN_ERROR", "max": MOST_EVENTS}
        found = cast("list[dict[str, Any]]", await self.admin.a_get_events(asked))
        return [
            Lockout(
                str((event.get("details") or {}).get("username", event.get("userId", ""))),
                str(event.get("ipAddress", "")),
                datetime.fromtimestamp(event["time"] / 1000, UTC),
            )
            for event in found
            if event.get("error") in LOCKED
        ]

    async def members(self, group: str) -> list[str]:
        """The user names of a group, by its path, or of a realm role; none where it is not there."""
        found: list[str] = []
        try:
            key = (await self.admin.a_get_group_by_path(group))["id"] if group.startswith("/") else ""
            while True:
                query = {"first": len(found), "max": PAGE}
                page: list[dict[str, Any]] = (
                    await self.admin.a_get_group_members(key, query)
                    if key
                    else await self.admin.a_get_realm_role_members(group, query)
                )
                found += [user["username"] for user in page]
                if len(page) < PAGE:
                    return found
        except KeycloakGetError as error:
            if error.response_code == 404:
                return found
            raise

    async def _move(self, group: dict[str, Any], parent: dict[str, Any]) -> None:
        """Keycloak moves a group that is posted as a child, and answers with 204, which the library takes ill."""
        try:
            await self.admin.a_create_group({"id": group["id"], "name": group["name"]}, parent=parent["id"])
        except KeycloakPostError as error:
            if error.response_code != 204:
                raise

    async def _put_into(self, subject: str, department: str) -> None:
        group = await self._group(department)
        if group is None:
            raise KeycloakGetError(f"no group for {department}")
        for other in await self.admin.a_get_user_groups(subject, brief_representation=False):
            if other["id"] != group["id"] and "department" in (other.get("attributes") or {}):
                await self.admin.a_group_user_remove(subject, other["id"])
        await self.admin.a_group_user_add(subject, group["id"])

    async def _give(self, subject: str, wanted: set[str], managed: set[str]) -> None:
        """Exactly the wanted ones of the managed roles; roles that workspace does not know are left alone."""
        held = {role["name"]: role for role in await self.admin.a_get_realm_roles_of_user(subject)}
        gone = [held[name] for name in (managed - wanted) & held.keys()]
        if gone:
            await self.admin.a_delete_realm_roles_of_user(subject, gone)
        new = [await self.admin.a_get_realm_role(name) for name in sorted((wanted & managed) - held.keys())]
        if new:
            await self.admin.a_assign_realm_roles(subject, new)

    async def _group(self, department: str) -> dict[str, Any] | None:
        query = {"q": f'department:"{department}"', "populateHierarchy": False, "briefRepresentation": False}
        found: list[dict[str, Any]] = await self.admin.a_get_groups(query)
        return next((g for g in found if g.get("attributes", {}).get("department") == [department]), None)

    async def _composites(self, role: str, client: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.admin.a_get_role_composites_by_id(role)
        return [one for one in found if one.get("clientRole") and one.get("containerId") == client]


def _detail(error: KeycloakError) -> str:
    return str(error.error_message)[:200]
