"""Identity providers follow the organisation: the development issuer and Keycloak by one contract, held to one test.

Slow with Keycloak: the real server is fetched and built the first time.
"""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from crm.workspace.v1 import pb
from crmkit.auth import Verifier, system
from crmkit.settings import Settings
from crmkit.testing import Service, free_port
from keycloak import KeycloakAdmin
from local_platform.child import StartFailed
from local_platform.issuer import issuer
from local_platform.keycloak import find_java, keycloak
from local_platform.layout import STATE
from local_platform.secret import Secrets
from local_platform.signin import Tokens, refresh, sign_in
from workspace.identity import queue_lockouts
from workspace.providers import Account, Composite, ProviderAway, ProviderRefused, Unit, provider
from workspace.providers.keycloak import Keycloak


def missing() -> str:
    try:
        find_java()
    except StartFailed as failure:
        return str(failure)
    return "" if shutil.which("mvn") else "mvn is missing"


ORIGIN = "http://127.0.0.1:8080"
BACK = f"{ORIGIN}/session/callback"
PASSWORD = "right-horse-battery"


def real(test: Any) -> Any:
    """Wants a real Keycloak."""
    return pytest.mark.slow(pytest.mark.skipif(bool(missing()), reason=missing())(test))


@pytest.fixture(scope="module")
async def realm(workspace: Service) -> AsyncIterator[KeycloakAdmin]:
    """A Keycloak that the running service has been told of, and an eye into it."""
    secrets = Secrets()
    async with keycloak(STATE / "keycloak-of-workspace", free_port(), [ORIGIN], secrets) as url:
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


async def keeps_the_contract(
    settings: Settings, issuer_url: str, prepare: Callable[[str], Awaitable[None]]
) -> None:
    """What `workspace.providers` says of the five calls, as a person who signs in sees it."""
    mark = uuid4().hex[:8]
    company, north, south = (
        Unit(f"departments/{uuid4()}", f"{title}{mark}") for title in ("公司", "北", "南")
    )
    code, other = f"r{mark}", f"q{mark}"
    verifier = Verifier(issuer_url, "crm-api")

    async def enter(username: str) -> Tokens:
        return await sign_in(issuer_url, username, BACK, password=PASSWORD)

    async def said(tokens: Tokens) -> dict[str, Any]:
        return await verifier.verify(tokens.access_token)

    async def shut(username: str) -> None:
        with pytest.raises(ValueError, match="could not sign in"):
            await enter(username)

    async def over(tokens: Tokens) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            await refresh(issuer_url, tokens)

    async with provider(settings) as known:
        for _ in range(2):
            for role in (code, other):
                await known.ensure_role(Composite(role, "角色", "OWN", frozenset(["workspace.tasks.read"])))
        first = Account(
            f"first.{mark}", f"employees/{uuid4()}", "欧阳", kind="partner", email=f"{mark}@example.com",
            account="accounts/01900000-0000-7000-8000-0000000000a1", units=(company, north), roles=(code,),
        )  # fmt: skip
        subject = await known.ensure_user(first, [code, other])
        assert await known.ensure_user(first, [code, other]) == subject
        await prepare(first.username)
        claims = await said(await enter(first.username))
        wanted = {
            "sub": subject, "kind": "partner", "employee": first.employee, "account": first.account, "name": "欧阳",
            "preferred_username": first.username, "locale": "zh-CN", "groups": [f"/公司{mark}/北{mark}"],
        }  # fmt: skip
        assert {key: claims.get(key) for key in wanted} == wanted
        assert {code, other} & set(claims["roles"]) == {code}
        assert claims["exp"] - claims["iat"] == 300 and claims["sid"] and claims["acr"]
        asked = {f"/公司{mark}/北{mark}", f"/公司{mark}/南{mark}", code, other, "/nowhere", "nothing"}
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        changes = await known.list_changes(long_ago, asked)
        assert changes.members == {first.username: {f"/公司{mark}/北{mark}", code}}
        assert (await known.list_changes(long_ago)).members == {}

        # Another department with another name, another role; what is not managed stays.
        moved = replace(
            first, title="诸葛", units=(replace(company, title=f"集团{mark}"), south), roles=(other,)
        )
        assert await known.ensure_user(moved, [other]) == subject
        claims = await said(await enter(first.username))
        assert {code, other} & set(claims["roles"]) == {code, other}
        await known.ensure_user(moved, [code, other])
        claims = await said(await enter(first.username))
        assert ({code, other} & set(claims["roles"]), claims["name"]) == ({other}, "诸葛")
        assert claims["groups"] == [f"/集团{mark}/南{mark}"]
        changes = await known.list_changes(long_ago, [f"/集团{mark}/北{mark}", f"/集团{mark}/南{mark}", code])
        assert changes.members == {first.username: {f"/集团{mark}/南{mark}"}}

        # A name or an address of somebody else is refused, and leaves no account behind.
        for taken in (
            replace(first, employee=f"employees/{uuid4()}"),
            replace(first, username=f"second.{mark}", employee=f"employees/{uuid4()}"),
        ):
            with pytest.raises(ProviderRefused):
                await known.ensure_user(taken, [code, other])
        await shut(f"second.{mark}")
        assert (await said(await enter(first.username)))["employee"] == first.employee

        # One session ends, and only that one; then all of them.
        one, two = await enter(first.username), await enter(first.username)
        ended = (await said(one))["sid"]
        for _ in range(2):
            await known.end_sessions(first.username, ended)
        await over(one)
        two = await refresh(issuer_url, two)
        for _ in range(2):
            await known.end_sessions(first.username)
        await over(two)

        # Shut, for whoever it is; then open again, by either call.
        three = await enter(first.username)
        await known.set_enabled(first.username, f"employees/{uuid4()}", False)
        three = await refresh(issuer_url, three)
        await known.set_enabled(first.username, first.employee, False)
        await known.set_enabled(f"nobody.{mark}", first.employee, False)
        await over(three)
        await shut(first.username)
        await known.set_enabled(first.username, first.employee, True)
        await enter(first.username)
        await known.set_enabled(first.username, first.employee, False)
        assert await known.ensure_user(moved, [code, other]) == subject
        await enter(first.username)

        # The name of somebody who is gone goes to another person, and nothing of the one before goes with it.
        await known.set_enabled(first.username, first.employee, False)
        after = replace(moved, employee=f"employees/{uuid4()}", roles=())
        assert await known.ensure_user(after, [code, other]) != subject
        await prepare(first.username)
        claims = await said(await enter(first.username))
        assert (claims["employee"], {code, other} & set(claims["roles"])) == (after.employee, set())


async def test_the_development_issuer_keeps_the_contract(tmp_path: Path, workspace: Service) -> None:
    async def nothing(username: str) -> None:
        """Whoever is known there may choose the name."""

    secret = uuid4().hex
    async with issuer(tmp_path, free_port(), secret=secret) as url:
        told = {"dev_issuer_url": url, "dev_issuer_secret": secret}
        settings = workspace.running.settings.model_copy(update=told)
        await keeps_the_contract(settings, url, nothing)
        wrong = settings.model_copy(update={"dev_issuer_secret": "guessed"})
        async with provider(wrong) as known:
            with pytest.raises(ProviderAway, match="401"):
                await known.ensure_role(Composite("guessed", "x"))
    # What it was told outlives it; without a secret it keeps no accounts at all.
    async with issuer(tmp_path, free_port()) as url, httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/accounts/ensure-role", json={})).status_code == 404


@real
async def test_keycloak_keeps_the_contract(workspace: Service, realm: KeycloakAdmin) -> None:
    async def give_a_password(username: str) -> None:
        user = await user_of(realm, username)
        await realm.a_set_user_password(user["id"], PASSWORD, temporary=False)

    settings = workspace.running.settings
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"
    await keeps_the_contract(settings, url, give_a_password)


@real
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


@real
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


@pytest.mark.capability("a.security")
@real
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
    back = BACK
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
