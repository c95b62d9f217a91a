"""Keycloak as identity provider: departments are groups, people users, roles composite realm roles.

Roles that workspace does not know, and groups that are no departments, are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

from crmkit.settings import Settings
from keycloak import (
    KeycloakAdmin,
    KeycloakError,
    KeycloakGetError,
    KeycloakOpenIDConnection,
    KeycloakPostError,
)

from workspace.providers import (
    Account,
    Changes,
    Composite,
    Lockout,
    ProviderAway,
    ProviderRefused,
    Unit,
)

MOST_EVENTS = 500
# What Keycloak calls it when the right password would not help either.
LOCKED = frozenset(["user_temporarily_disabled", "user_permanently_disabled"])
API_CLIENT = "crm-api"
# Answers that say nothing of what was asked for: not signed in, too late, too much.
NOT_NOW = frozenset([401, 408, 429])
PAGE = 500
# Seconds after which no request that was under way when a session ended still brings it back.
UNDER_WAY = 2.0


class Keycloak:
    """One server, as the client that keeps people and roles. Groups and roles it has met are remembered while it lives."""

    def __init__(self, admin: KeycloakAdmin) -> None:
        self.admin = admin
        self._making = asyncio.Lock()
        self._groups: dict[str, tuple[str, str, str]] = {}
        self._roles: dict[str, dict[str, Any]] = {}

    @classmethod
    @asynccontextmanager
    async def at(cls, settings: Settings) -> AsyncGenerator[Keycloak]:
        """The server of the settings; what it refuses is ProviderRefused, whatever else goes wrong ProviderAway."""
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

    async def ensure_user(self, account: Account, managed: Collection[str]) -> str:
        """See `Provider`. The account is made shut, and opened when it has its department and roles."""
        with _told():
            group = await self._path(account.units)
            said = {
                "displayName": account.title, "locale": account.locale, "employee": account.employee,
                "account": account.account, "kind": account.kind,
            }  # fmt: skip
            payload: dict[str, Any] = {
                "username": account.username,
                "attributes": {key: [value] for key, value in said.items() if value},
                **({"email": account.email} if account.email else {}),
            }
            user = await self._user(account.username)
            if user is not None and _owner(user) not in ("", account.employee):
                if user["enabled"]:
                    raise ProviderRefused(f"the user name {account.username} is somebody else's")
                await self.admin.a_delete_user(user["id"])
                user = None
            if user is None:
                user = await self._made({**payload, "enabled": False, "requiredActions": ["UPDATE_PASSWORD"]})
            await self._put_into(user["id"], group)
            await self._give(user["id"], set(account.roles), set(managed))
            await self.admin.a_update_user(user["id"], {**_to_write(user), **payload, "enabled": True})
            return str(user["id"])

    async def ensure_role(self, role: Composite) -> None:
        """See `Provider`. Permissions are roles of the API's client."""
        with _told():
            payload = {"name": role.code, "description": role.title, "attributes": {"scope": [role.scope]}}
            await self.admin.a_create_realm_role(payload, skip_exists=True)
            found = await self.admin.a_get_realm_role(role.code)
            client = await self.admin.a_get_client_id(API_CLIENT)
            if client is None:
                raise ProviderRefused(f"there is no client {API_CLIENT}")
            known = {one["name"]: one for one in await self.admin.a_get_client_roles(client)}
            composed = {one["name"]: one for one in await self._composites(found["id"], client)}
            new = [known[name] for name in role.permissions - composed.keys() if name in known]
            old = [composed[name] for name in composed.keys() - role.permissions]
            if new:
                await self.admin.a_add_composite_realm_roles_to_role(role.code, new)
            if old:
                await self.admin.a_remove_composite_realm_roles_to_role(role.code, old)
            if found.get("description") != role.title:
                await self.admin.a_update_realm_role(role.code, payload)

    async def set_enabled(self, username: str, employee: str, enabled: bool) -> None:
        """See `Provider`."""
        with _told():
            user = await self._user(username)
            if user is None or _owner(user) != employee:
                return
            await self.admin.a_update_user(user["id"], {**_to_write(user), "enabled": enabled})
            if not enabled:
                await self._sign_out(user["id"])

    async def end_sessions(self, username: str, session: str = "") -> None:
        """See `Provider`."""
        with _told():
            if session:
                await self._end([session])
                await self._end_again([session])
            elif (user := await self._user(username)) is not None:
                await self._sign_out(user["id"])

    async def list_changes(self, since: datetime, groups: Collection[str] = ()) -> Changes:
        """See `Provider`. Lockouts are the newest sign-ins that were refused because of too many before them."""
        with _told():
            members: dict[str, set[str]] = {}
            for group in sorted(groups):
                for username in await self._members(group):
                    members.setdefault(username, set()).add(group)
            asked = {"type": "LOGIN_ERROR", "max": MOST_EVENTS}
            events = cast("list[dict[str, Any]]", await self.admin.a_get_events(asked))
            locked = [
                Lockout(
                    str((event.get("details") or {}).get("username", event.get("userId", ""))),
                    str(event.get("ipAddress", "")),
                    datetime.fromtimestamp(event["time"] / 1000, UTC),
                )
                for event in events
                if event.get("error") in LOCKED
            ]
            held = {name: frozenset(found) for name, found in members.items()}
            return Changes(held, tuple(one for one in locked if one.time >= since))

    async def _made(self, new: dict[str, Any]) -> dict[str, Any]:
        """The new account, or that which another process has made of the same person meanwhile."""
        try:
            return {**new, "id": await self.admin.a_create_user(new)}
        except KeycloakPostError:
            user = await self._user(new["username"])
            if user is None or _owner(user) != new["attributes"]["employee"][0]:
                raise
            return user

    async def _sign_out(self, user: str) -> None:
        known = [str(one["id"]) for one in await self.admin.a_get_sessions(user)]
        await self.admin.a_user_logout(user)
        await self._end_again(known)

    async def _end_again(self, sessions: Collection[str]) -> None:
        """A request under way while a session ends brings it back into Keycloak's cache, where it is renewed for ever and
        no list shows it; by its id it still ends (keycloak/keycloak#51127)."""
        if sessions:
            await asyncio.sleep(UNDER_WAY)
            await self._end(sessions)

    async def _end(self, sessions: Collection[str]) -> None:
        connection = self.admin.connection
        for session in sessions:
            path = f"admin/realms/{connection.realm_name}/sessions/{quote(session, safe='')}"
            answer = await connection.a_raw_delete(path)
            if answer.status_code not in (204, 404):
                raise KeycloakError("the session was not ended", response_code=answer.status_code)

    async def _user(self, username: str) -> dict[str, Any] | None:
        found = await self.admin.a_get_users({"username": username, "exact": True})
        return found[0] if found else None

    async def _members(self, group: str) -> list[str]:
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

    async def _path(self, units: Collection[Unit]) -> str:
        """The group of the last of the departments; each is made, called and placed as they are now."""
        parent = ""
        # Those who come together make each group once.
        async with self._making:
            for unit in units:
                parent = await self._group(unit, parent)
        return parent

    async def _group(self, unit: Unit, parent: str) -> str:
        found = self._groups.get(unit.name)
        if found is None and (there := await self._find_group(unit.name)) is not None:
            found = (str(there["id"]), str(there["name"]), str(there.get("parentId") or ""))
        payload = {"name": unit.title, "attributes": {"department": [unit.name]}}
        if found is None:
            try:
                made = await self.admin.a_create_group(payload, parent=parent or None)
            except KeycloakPostError as error:
                if error.response_code == 409:
                    # Somebody else makes it at this moment, or a sibling is about to give the title up.
                    raise ProviderAway(f"the group {unit.title} is there already") from error
                raise
            if made is None:
                raise ProviderAway(f"the group {unit.title} was not made")
            found = (str(made), unit.title, parent)
        key, title, above = found
        if above != parent:
            await self._move(key, title, parent)
        if title != unit.title:
            await self.admin.a_update_group(key, payload)
        self._groups[unit.name] = (key, unit.title, parent)
        return key

    async def _move(self, key: str, title: str, parent: str) -> None:
        """Keycloak moves a group that is posted as a child, and answers with 204, which the library takes ill."""
        try:
            await self.admin.a_create_group({"id": key, "name": title}, parent=parent or None)
        except KeycloakPostError as error:
            if error.response_code != 204:
                raise

    async def _put_into(self, subject: str, group: str) -> None:
        there = False
        for other in await self.admin.a_get_user_groups(subject, brief_representation=False):
            if other["id"] == group:
                there = True
            elif "department" in (other.get("attributes") or {}):
                await self.admin.a_group_user_remove(subject, other["id"])
        if group and not there:
            await self.admin.a_group_user_add(subject, group)

    async def _give(self, subject: str, wanted: set[str], managed: set[str]) -> None:
        held = {role["name"]: role for role in await self.admin.a_get_realm_roles_of_user(subject)}
        gone = [held[name] for name in (managed - wanted) & held.keys()]
        if gone:
            await self.admin.a_delete_realm_roles_of_user(subject, gone)
        new = [await self._role(name) for name in sorted((wanted & managed) - held.keys())]
        if new:
            await self.admin.a_assign_realm_roles(subject, new)

    async def _role(self, name: str) -> dict[str, Any]:
        if name not in self._roles:
            try:
                self._roles[name] = await self.admin.a_get_realm_role(name)
            except KeycloakGetError as error:
                # Its own change is on its way.
                raise ProviderAway(f"no role {name} yet") from error
        return self._roles[name]

    async def _find_group(self, department: str) -> dict[str, Any] | None:
        query = {"q": f'department:"{department}"', "populateHierarchy": False, "briefRepresentation": False}
        found: list[dict[str, Any]] = await self.admin.a_get_groups(query)
        return next((g for g in found if g.get("attributes", {}).get("department") == [department]), None)

    async def _composites(self, role: str, client: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.admin.a_get_role_composites_by_id(role)
        return [one for one in found if one.get("clientRole") and one.get("containerId") == client]


@contextmanager
def _told() -> Generator[None]:
    """Says in the words of the contract what Keycloak has answered."""
    try:
        yield
    except KeycloakError as error:
        code = error.response_code
        refused = code is not None and 400 <= code < 500 and code not in NOT_NOW
        raise (ProviderRefused if refused else ProviderAway)(str(error.error_message)[:200]) from error


def _to_write(user: dict[str, Any]) -> dict[str, Any]:
    """The account without what the person may be doing at this moment, such as choosing a password."""
    return {key: value for key, value in user.items() if key != "requiredActions"}


def _owner(user: dict[str, Any]) -> str:
    return str(next(iter((user.get("attributes") or {}).get("employee") or ()), ""))
