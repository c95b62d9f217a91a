"""Identity providers follow the organisation: the development issuer and Keycloak by one contract, held to one test.

Slow with Keycloak: the real server is fetched and built the first time.
"""

import asyncio
import base64
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
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
from keycloak import KeycloakAdmin, KeycloakGetError
from local_platform.child import StartFailed
from local_platform.issuer import issuer
from local_platform.keycloak import find_java, keycloak
from local_platform.layout import STATE
from local_platform.secret import Secrets
from local_platform.servers import postgres
from local_platform.signin import Tokens, refresh, sign_in
from sqlalchemy import text
from workspace.identity import RUN, queue_groups, queue_lockouts
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
    # The test's own PostgreSQL lasts as long; a directory that is kept saves the import.
    place = STATE / "keycloak-of-workspace"
    async with (
        postgres(place / "postgres", free_port()) as server,
        keycloak(place, free_port(), [ORIGIN], server, secrets) as url,
    ):
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


def session_of(tokens: Tokens) -> str:
    """What the provider calls the session, as it tells the gateway."""
    part = tokens.id_token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sid"]


Prepare = Callable[[str], Awaitable[None]]


async def nothing(username: str) -> None:
    """Whoever is known to the development issuer may choose the name."""


async def give_a_password(realm: KeycloakAdmin, username: str) -> None:
    """What an administrator of Keycloak or a mail with a link would do for who is new."""
    user = await user_of(realm, username)
    await realm.a_set_user_password(user["id"], PASSWORD, temporary=False)
    await realm.a_update_user(user["id"], {**user, "requiredActions": []})


@pytest.fixture
async def house(workspace: Service, tmp_path: Path) -> AsyncIterator[str]:
    """A development issuer that the running service has been told of."""
    before, secret = workspace.running.settings, uuid4().hex
    async with issuer(tmp_path, free_port(), secret=secret) as url:
        told = {"keycloak_url": "", "dev_issuer_url": url, "dev_issuer_secret": secret}
        workspace.running.settings = before.model_copy(update=told)
        try:
            yield url
        finally:
            workspace.running.settings = before


async def keeps_the_contract(settings: Settings, issuer_url: str, prepare: Prepare) -> None:
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
        assert claims["exp"] - claims["iat"] == 300 and claims["acr"]
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
        ended = session_of(one)
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


@pytest.mark.capability("a.role")
async def test_the_development_issuer_keeps_the_contract(tmp_path: Path, workspace: Service) -> None:
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
    settings = workspace.running.settings
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"
    await keeps_the_contract(settings, url, partial(give_a_password, realm))


async def follows_the_organisation(
    workspace: Service, office: Any, prepare: Prepare, issuer_url: str
) -> None:
    """What administrators do here is so at the provider, as the people feel it who sign in there."""
    admin, tag = workspace.admin, uuid4().hex[:8]
    verifier, patience = Verifier(issuer_url, "crm-api"), workspace.running.settings.patience
    permissions = ["workspace.tasks.*"]
    role, other = [
        await admin.CreateRole(role={"code": f"{letter}{tag}", "displayName": "同步角色", "permissions": permissions})
        for letter in "rq"
    ]  # fmt: skip
    department = await admin.CreateDepartment(department={"displayName": f"同步部门{tag}"})
    elsewhere = await admin.CreateDepartment(department={"displayName": f"别处{tag}"})
    begun = time.monotonic()
    person = await office.hire(
        f"person.{tag}", [role.code], department=department.name, email=f"{tag}@example.com"
    )
    assert person.state == pb.Employee.INVITED

    async def began() -> Any:
        now = await admin.GetEmployee(name=person.name)
        return now if now.state == pb.Employee.ACTIVE else None

    now = await workspace.eventually(began, 60)
    assert time.monotonic() - begun < 5 * patience
    await prepare(person.username)

    async def enters() -> Tokens | None:
        try:
            return await sign_in(issuer_url, person.username, BACK, password=PASSWORD)
        except (ValueError, httpx.HTTPStatusError):
            # Shut out at once, or between the page and the token.
            return None

    async def says() -> dict[str, Any]:
        tokens = await enters()
        return await verifier.verify(tokens.access_token) if tokens else {}

    claims = await says()
    assert (claims["sub"], claims["employee"], claims["kind"]) == (now.subject, person.name, "staff")
    assert {role.code, other.code} & set(claims["roles"]) == {role.code}
    (group,) = claims["groups"]
    assert group.endswith(f"/同步部门{tag}")

    # Another role, and a department with another name.
    await admin.UpdateEmployee(employee={"name": person.name, "roles": [other.code]}, updateMask="roles")
    renamed = {"name": department.name, "displayName": f"改名部门{tag}"}
    await admin.UpdateDepartment(department=renamed, updateMask="displayName")

    async def becomes(roles: set[str], place: str) -> Any:
        claims = await says()
        fits = {role.code, other.code} & set(claims.get("roles", ())) == roles
        (found,) = claims.get("groups") or [""]
        return found if fits and found.endswith(place) else None

    group = await workspace.eventually(lambda: becomes({other.code}, f"/改名部门{tag}"), 60)

    # A group brings a role, and takes it with the membership; what was given here stays.
    brought = await admin.CreateRole(
        role={"code": f"g{tag}", "displayName": "组", "permissions": permissions, "identityGroup": group}
    )

    async def has(roles: list[str]) -> bool:
        async with workspace.running.call("test", system("workspace")) as call:
            await queue_groups(call)
        now = await admin.GetEmployee(name=person.name)
        assert list(now.roles) == [other.code]
        return list(now.identity_roles) == roles

    await workspace.eventually(lambda: has([brought.code]), 60)
    moved = {"name": person.name, "department": elsewhere.name}
    await admin.UpdateEmployee(employee=moved, updateMask="department")
    await workspace.eventually(lambda: becomes({other.code}, f"/别处{tag}"), 60)
    await workspace.eventually(lambda: has([]), 60)

    # A session that is ended here is renewed there no more, and neither is any where all end.
    one, two = [[await sign_in(issuer_url, person.username, BACK, password=PASSWORD)] for _ in range(2)]
    session, instant = str(uuid4()), datetime.now(UTC).isoformat()
    told = {
        "id": session, "providerId": session_of(one[0]), "person": person.name,
        "deviceKey": tag, "device": "Chrome", "address": "10.0.0.7", "beginTime": instant, "seenTime": instant,
    }  # fmt: skip
    fact = {"person": person.name, "method": "browser", "session": told}
    await workspace.tell("crm.gateway.v1.SignedIn", fact, person.name)

    async def listed() -> bool:
        return bool((await admin.ListSessions(filter=f'owner = "{person.name}"')).sessions)

    await workspace.eventually(listed, 60)
    await admin.EndSession(name=f"sessions/{session}")

    async def only_one_is_over() -> bool:
        return await goes_on(issuer_url, two) and not await goes_on(issuer_url, one)

    await workspace.eventually(only_one_is_over, 60)
    await admin.EndEmployeeSessions(name=person.name)

    async def all_are_over() -> bool:
        return not await goes_on(issuer_url, two)

    await workspace.eventually(all_are_over, 60)

    # Who is frozen is shut out, and let in again. Keycloak locks out who fails too often: the first refusal counts, and
    # nobody tries again before the provider was told.
    async def told() -> tuple[int, int]:
        """How often the provider was told of the person, and how often it is still to be."""
        done = (
            "SELECT count(*) FILTER (WHERE state = 'DONE'), count(*) FILTER (WHERE state IN ('QUEUED', 'RUNNING')) FROM bulk_runs"
            " WHERE kind = :kind AND strpos(spec::text, :name) > 0"
        )
        async with workspace.running.engine.begin() as connection:
            found = await connection.execute(text(done), {"kind": RUN, "name": person.name})
            often, waiting = found.one()
            return often, waiting

    async def shut_out() -> bool:
        return await enters() is None

    await admin.FreezeEmployee(name=person.name, reason="不能再登录系统")
    await workspace.eventually(shut_out, 60)

    async def all_told() -> bool:
        _, waiting = await told()
        return not waiting

    # The person is shut out before the run that did it has ended, and its end is not that of the next one.
    await workspace.eventually(all_told, 60)
    before, _ = await told()
    await admin.UnfreezeEmployee(name=person.name)

    async def told_again() -> bool:
        often, waiting = await told()
        return often > before and not waiting

    await workspace.eventually(told_again, 60)
    assert await enters() is not None
    # Machines call by keys: nobody signs in as one, and none waits for an account.
    machine = await office.hire(f"machine.{tag}", [], kind="SERVICE")
    assert machine.state == pb.Employee.ACTIVE
    async with provider(workspace.running.settings) as known:
        members = (await known.list_changes(datetime.now(UTC), [f"/别处{tag}", other.code])).members
        assert f"machine.{tag}" not in members


async def waits_for_what_is_refused(
    workspace: Service, office: Any, prepare: Prepare, issuer_url: str
) -> None:
    """Whom the provider does not take stays invited, is nobody there, and begins once the reason is gone."""
    admin, tag = workspace.admin, uuid4().hex[:8]
    taken = f"taken.{tag}@example.com"
    async with provider(workspace.running.settings) as known:
        await known.ensure_user(Account(f"other.{tag}", f"employees/{uuid4()}", "别人", email=taken), [])
    person = await office.hire(f"second.{tag}", [], email=taken)

    async def refused() -> Any:
        now = await admin.GetEmployee(name=person.name)
        return now if now.identity_error else None

    now = await workspace.eventually(refused, 60)
    assert now.state == pb.Employee.INVITED and "身份系统拒绝" in now.identity_error
    with pytest.raises(ValueError, match="could not sign in"):
        await sign_in(issuer_url, person.username, BACK, password=PASSWORD)
    again = admin.CreateEmployee(
        employee={"displayName": "重复", "department": person.department, "email": taken.upper()}
    )
    assert await office.refusal(again) == "ALREADY_EXISTS"
    free = {"name": person.name, "email": f"free.{tag}@example.com"}
    await admin.UpdateEmployee(employee=free, updateMask="email")
    await admin.ActivateEmployee(name=person.name)

    async def began() -> bool:
        now = await admin.GetEmployee(name=person.name)
        return now.state == pb.Employee.ACTIVE and not now.identity_error

    await workspace.eventually(began, 60)
    await prepare(person.username)
    await sign_in(issuer_url, person.username, BACK, password=PASSWORD)


STORIES = [follows_the_organisation, waits_for_what_is_refused]


@pytest.mark.capability("a.user")
@pytest.mark.capability("a.role")
@pytest.mark.parametrize("story", STORIES)
async def test_the_development_issuer_follows_the_organisation(
    story: Any, workspace: Service, office: Any, house: str
) -> None:
    await story(workspace, office, nothing, house)


@real
@pytest.mark.parametrize("story", STORIES)
async def test_keycloak_follows_the_organisation(
    story: Any, workspace: Service, office: Any, realm: KeycloakAdmin
) -> None:
    settings = workspace.running.settings
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"
    await story(workspace, office, partial(give_a_password, realm), url)
    # Permissions are what roles are composed of there.
    if story is follows_the_organisation:
        role = await workspace.admin.CreateRole(
            role={"code": f"c{uuid4().hex[:8]}", "displayName": "组成", "permissions": ["workspace.tasks.*"]}
        )

        async def composed() -> set[str]:
            try:
                found = await realm.a_get_composite_realm_roles_of_role(role.code)
            except KeycloakGetError:
                return set()
            return {one["name"] for one in found}

        async def follows(wanted: set[str]) -> bool:
            return wanted <= (found := await composed()) and (len(wanted) > 1 or found == wanted)

        await workspace.eventually(lambda: follows({"workspace.tasks.read", "workspace.tasks.create"}), 60)
        less = {"name": role.name, "permissions": ["workspace.tasks.read"]}
        await workspace.admin.UpdateRole(role=less, updateMask="permissions")
        await workspace.eventually(lambda: follows({"workspace.tasks.read"}), 60)


@real
async def test_a_session_that_is_renewed_while_it_ends_is_over_all_the_same(
    workspace: Service, office: Any, realm: KeycloakAdmin
) -> None:
    settings = workspace.running.settings
    url = f"{settings.keycloak_url}/realms/{settings.keycloak_realm}"
    mark = uuid4().hex[:8]
    account = Account(
        f"busy.{mark}", f"employees/{uuid4()}", "忙", units=(Unit(f"departments/{mark}", mark),)
    )
    async with provider(settings) as known:
        await known.ensure_user(account, [])
        await give_a_password(realm, account.username)

        for number in range(20):
            kept = [await sign_in(url, account.username, BACK, password=PASSWORD)]
            session = "" if number % 2 else session_of(kept[0])
            ending = asyncio.create_task(end_later(known, account.username, session, number / 100))
            while not ending.done():
                await goes_on(url, kept)
            await ending
            assert not await goes_on(url, kept)


async def end_later(known: Any, username: str, session: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await known.end_sessions(username, session)


async def goes_on(url: str, kept: list[Tokens]) -> bool:
    """Whether there is a next token; a refresh token works once, so each look takes the newest."""
    try:
        kept.append(await refresh(url, kept[-1]))
    except httpx.HTTPStatusError:
        return False
    return True


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
