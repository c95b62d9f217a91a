"""Keycloak follows the organisation. Slow: the real server is fetched and built the first time."""

import re
import shutil
from collections.abc import AsyncIterator
from html import unescape
from typing import Any
from uuid import uuid4

import httpx
import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.testing import Service, free_port
from keycloak import KeycloakAdmin
from local_platform.child import StartFailed
from local_platform.keycloak import find_java, keycloak
from local_platform.layout import STATE
from local_platform.secret import Secrets
from workspace.identity import Keycloak, queue_lockouts


def missing() -> str:
    try:
        find_java()
    except StartFailed as failure:
        return str(failure)
    return "" if shutil.which("mvn") else "mvn is missing"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
async def realm(workspace: Service) -> AsyncIterator[KeycloakAdmin]:
    """A Keycloak that the running service has been told of, and an eye into it."""
    secrets = Secrets()
    async with keycloak(
        STATE / "keycloak-of-workspace", free_port(), ["http://127.0.0.1:8080"], secrets
    ) as url:
        address, _, name = url.partition("/realms/")
        secret = secrets.get("keycloak.guanxi-admin")
        before = workspace.running.settings
        told = {"keycloak_url": address, "keycloak_realm": name, "keycloak_admin_secret": secret}
        workspace.running.settings = before.model_copy(update=told)
        try:
            async with Keycloak.at(workspace.running.settings) as eye:
                yield eye.admin
        finally:
            workspace.running.settings = before


async def user_of(realm: KeycloakAdmin, username: str) -> Any:
    found = await realm.a_get_users({"username": username, "exact": True})
    return found[0] if found else None


async def roles_of(realm: KeycloakAdmin, subject: str) -> set[str]:
    return {role["name"] for role in await realm.a_get_realm_roles_of_user(subject)}


async def test_people_departments_and_roles_appear_change_and_go(
    workspace: Service, office: Any, realm: KeycloakAdmin
) -> None:
    admin, tag = workspace.admin, uuid4().hex[:8]
    role = await admin.CreateRole(
        role={
            "code": f"r{tag}",
            "displayName": "同步角色",
            "permissions": ["workspace.tasks.*"],
            "scope": "OWN",
        }
    )
    department = await admin.CreateDepartment(department={"displayName": f"同步部门{tag}"})
    person = await office.hire(
        f"person.{tag}", [role.code], department=department.name, email=f"{tag}@example.com"
    )
    assert person.state == pb.Employee.INVITED

    async def began() -> Any:
        now = await admin.GetEmployee(name=person.name)
        return now if now.state == pb.Employee.ACTIVE else None

    now = await workspace.eventually(began, 60)
    user = await user_of(realm, person.username)
    assert now.subject == user["id"]
    assert user["enabled"] and user["attributes"]["employee"] == [person.name]
    assert role.code in await roles_of(realm, user["id"])
    groups = await realm.a_get_user_groups(user["id"])
    assert [group["name"] for group in groups] == [department.display_name]
    composed = await realm.a_get_composite_realm_roles_of_role(role.code)
    assert {one["name"] for one in composed} >= {"workspace.tasks.read", "workspace.tasks.create"}

    await admin.UpdateRole(
        role={"name": role.name, "permissions": ["workspace.tasks.read"]}, updateMask="permissions"
    )
    await admin.UpdateEmployee(employee={"name": person.name, "roles": ["finance"]}, updateMask="roles")
    await admin.UpdateDepartment(
        department={"name": department.name, "displayName": f"改名部门{tag}"}, updateMask="displayName"
    )

    async def followed() -> bool:
        composed = await realm.a_get_composite_realm_roles_of_role(role.code)
        groups = await realm.a_get_user_groups(user["id"])
        return (
            {one["name"] for one in composed} == {"workspace.tasks.read"}
            and {"finance"} == await roles_of(realm, user["id"]) & {"finance", role.code}
            and [group["name"] for group in groups] == [f"改名部门{tag}"]
        )

    await workspace.eventually(followed, 60)
    await admin.FreezeEmployee(name=person.name, reason="不能再登录系统")

    async def shut_out() -> bool:
        return not (await user_of(realm, person.username))["enabled"]

    await workspace.eventually(shut_out, 60)


async def test_who_cannot_have_an_account_stays_invited_and_says_why(
    workspace: Service, office: Any, realm: KeycloakAdmin
) -> None:
    tag = uuid4().hex[:8]
    await office.hire(f"first.{tag}", [], email=f"same.{tag}@example.com")
    await realm.a_create_user(
        {
            "username": f"other.{tag}",
            "email": f"taken.{tag}@example.com",
            "attributes": {"displayName": ["别人"]},
        }
    )
    person = await office.hire(f"second.{tag}", [], email=f"taken.{tag}@example.com")

    async def refused() -> Any:
        now = await workspace.admin.GetEmployee(name=person.name)
        return now if now.identity_error else None

    now = await workspace.eventually(refused, 60)
    assert now.state == pb.Employee.INVITED
    await workspace.admin.UpdateEmployee(
        employee={"name": person.name, "email": f"free.{tag}@example.com"}, updateMask="email"
    )
    await workspace.admin.ActivateEmployee(name=person.name)

    async def began() -> bool:
        return (await workspace.admin.GetEmployee(name=person.name)).state == pb.Employee.ACTIVE

    await workspace.eventually(began, 60)


async def test_who_guesses_a_password_is_locked_out_and_administrators_are_told(
    workspace: Service, office: Any, realm: KeycloakAdmin
) -> None:
    username = f"guessed.{uuid4().hex[:8]}"
    person = await office.hire(username, [])

    async def began() -> bool:
        return (await workspace.admin.GetEmployee(name=person.name)).state == pb.Employee.ACTIVE

    await workspace.eventually(began, 60)
    user, right = await user_of(realm, username), uuid4().hex
    await realm.a_set_user_password(user["id"], right, temporary=False)
    address = f"{workspace.running.settings.keycloak_url}/realms/{workspace.running.settings.keycloak_realm}"
    for _ in range(6):
        assert not await signs_in(address, username, "wrong-password-of-somebody")
    # The right one does not help any more: guessing on is of no use.
    assert not await signs_in(address, username, right)

    async def told() -> list[str]:
        async with workspace.running.call("test", system("workspace")) as call:
            await queue_lockouts(call)
        found = (await workspace.admin.ListNotifications(pageSize=200)).notifications
        return [one.display_name for one in found if username in one.display_name]

    [alert] = await workspace.eventually(told, 60)
    assert "锁定" in alert
    alerts = await workspace.facts("crm.workspace.v1.SecurityAlertRaised")
    mine = [one for one in alerts if one["kind"] == "SIGN_IN_LOCKED" and username in one["en"]]
    assert [one["subject"] for one in mine] == [person.name]


async def signs_in(issuer: str, username: str, password: str) -> bool:
    """Whether a browser that types this gets in."""
    back = "http://127.0.0.1:8080/session/callback"
    asked = {"response_type": "code", "client_id": "guanxi-web", "redirect_uri": back, "scope": "openid",
             "state": "s", "code_challenge": "0" * 43, "code_challenge_method": "S256"}  # fmt: skip
    async with httpx.AsyncClient(timeout=30) as browser:
        page = await browser.get(f"{issuer}/protocol/openid-connect/auth", params=asked)
        for cookie in browser.cookies.jar:
            cookie.secure = False
        found = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert found is not None, page.text
        form = {"username": username, "password": password, "credentialId": ""}
        answer = await browser.post(unescape(found[1]), data=form)
        return answer.headers.get("location", "").startswith(back)
