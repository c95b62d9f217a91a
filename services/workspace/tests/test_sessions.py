"""Where people are signed in: they see it and end it, one of a kind goes on, what looks borrowed is told."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import session_id, system
from crmkit.testing import Service
from workspace import signed_in
from workspace.model.session import Session

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari"


class Browser:
    """A browser of a person, as the gateway tells of it."""

    def __init__(
        self, workspace: Service, person: Any, agent: str = CHROME, address: str = "10.0.0.7"
    ) -> None:
        self.workspace, self.person, self.agent, self.address = workspace, person, agent, address
        self.device = uuid4().hex

    def told(self, session: str, begins: datetime, seen: datetime) -> dict[str, Any]:
        """A session as the gateway's facts have it."""
        return {
            "id": session, "providerId": f"p{session}", "person": self.person.name, "deviceKey": self.device,
            "device": self.agent, "address": self.address, "beginTime": begins.isoformat(), "seenTime": seen.isoformat(),
        }  # fmt: skip

    async def signs_in(self, begins: datetime | None = None, replaces: str = "") -> str:
        """Opens a session; its id."""
        session, begins = str(uuid4()), begins or datetime.now(UTC)
        fact = {
            "person": self.person.name,
            "method": "browser",
            "session": self.told(session, begins, begins),
        }
        await self.workspace.tell("crm.gateway.v1.SignedIn", {**fact, "replaces": replaces}, self.person.name)
        return session


async def become(workspace: Service, client: Any, wanted: dict[str, tuple[str, str]]) -> list[Any]:
    """The caller's sessions, once they are these: state and reason by id."""

    async def there() -> Any:
        found = list((await client.ListSessions()).sessions)
        said = {
            one.name.partition("/")[2]: (
                pb.Session.State.Name(one.state),
                pb.Session.EndReason.Name(one.end_reason).removeprefix("END_REASON_UNSPECIFIED"),
            )
            for one in found
        }
        return found if said == wanted else None

    return await workspace.eventually(there, 30)


async def refused_by_gateway(workspace: Service, session: str, reason: str) -> None:
    """Waits until the gateway is told that the session counts no more."""

    async def there() -> bool:
        return (workspace.running.config.get(f"session.{session}") or {}).get("reason") == reason

    await workspace.eventually(there, 30)


OPEN, LIMIT, BY_HAND = ("OPEN", ""), ("ENDED", "LIMIT"), ("ENDED", "ENDED_BY_HAND")


async def test_a_person_sees_and_ends_own_sessions_and_an_administrator_those_of_others(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:6]
    person = await office.hire(f"seen.{mark}", ["finance"])
    client = await office.client_of(person)
    desk, phone = Browser(workspace, person), Browser(workspace, person, PHONE)
    first, second = await desk.signs_in(), await phone.signs_in()
    found = await become(workspace, client, {first: OPEN, second: OPEN})
    by_id = {one.name.partition("/")[2]: one for one in found}
    shown = by_id[first]
    assert (shown.display_name, shown.kind, shown.address) == ("Chrome · Windows", pb.DESKTOP, "10.0.0.7")
    assert (by_id[second].display_name, by_id[second].kind) == ("Safari · iPhone", pb.MOBILE)
    assert shown.begin_time.seconds and shown.owner == person.name
    devices = (await client.ListDevices()).devices
    assert {one.name for one in devices} == {one.device for one in found}

    # What the gateway sees each minute is noted; a session whose beginning was lost is listed by that alone.
    later, address = datetime.now(UTC) + timedelta(minutes=5), "10.0.9.9"
    desk.address = address
    told = desk.told(first, datetime.now(UTC), later)
    await workspace.tell("crm.gateway.v1.SessionsSeen", {"sessions": [told]}, "")

    async def noted() -> bool:
        now = await client.GetSession(name=shown.name)
        return now.address == address and now.seen_time.seconds == int(later.timestamp())

    await workspace.eventually(noted, 30)
    # Only sessions of one's own: neither a colleague nor the manager, but the administrator.
    colleague = await office.client_of(await office.hire(f"other.{mark}", ["finance", "sales_manager"]))
    assert not [one for one in (await colleague.ListSessions()).sessions if one.owner == person.name]
    assert await office.refusal(colleague.EndSession(name=shown.name)) == "NOT_FOUND"
    system_admin = await office.client_of(await office.hire(f"sys.{mark}", ["system_administrator"]))
    listed = await system_admin.ListSessions(filter=f'owner = "{person.name}" AND state = "OPEN"')
    assert {one.name for one in listed.sessions} == {one.name for one in found}

    # The person ends all but the one at hand, the administrator one; the gateway hears of both.
    answer = await client.EndOtherSessions(session=f"sessions/{second}")
    assert answer.ended == 1
    await become(workspace, client, {first: BY_HAND, second: OPEN})
    await refused_by_gateway(workspace, first, "ENDED_BY_HAND")
    assert await office.refusal(client.EndSession(name=f"sessions/{first}")) == "ILLEGAL_TRANSITION"
    await system_admin.EndSession(name=f"sessions/{second}")
    await refused_by_gateway(workspace, second, "ENDED_BY_HAND")

    # A lost telephone is sent away: what it has open ends, and it does not come back until it is allowed to.
    third = await phone.signs_in()
    await become(workspace, client, {first: BY_HAND, second: BY_HAND, third: OPEN})
    lost = by_id[second].device
    await client.RevokeDevice(name=lost)
    await refused_by_gateway(workspace, third, "DEVICE_REVOKED")
    fourth = await phone.signs_in()
    await refused_by_gateway(workspace, fourth, "DEVICE_REVOKED")
    await client.AllowDevice(name=lost)
    fifth = await phone.signs_in()
    gone = ("ENDED", "DEVICE_REVOKED")
    now = {first: BY_HAND, second: BY_HAND, third: gone, fourth: gone, fifth: OPEN}
    await become(workspace, client, now)

    # Signing out, and another session in the same browser.
    await workspace.tell("crm.gateway.v1.SignedOut", {"person": person.name, "session": fifth}, person.name)
    out = ("ENDED", "SIGNED_OUT")
    await become(workspace, client, {**now, fifth: out})
    sixth = await desk.signs_in()
    seventh = await desk.signs_in(replaces=sixth)
    await become(workspace, client, {**now, fifth: out, sixth: out, seventh: OPEN})
    # What nobody uses any more is over; what is used again was not.
    async with workspace.running.call("test", system("workspace")) as call:
        row = await call.find(Session, Session.owner == person.name, Session.state == "OPEN", lock=True)
        assert row is not None
        row.begin_time = row.seen_time = datetime.now(UTC) - timedelta(hours=1)
        await call.flush()
        await signed_in.expire(datetime.now(UTC), call)
    await become(workspace, client, {**now, fifth: out, sixth: out, seventh: ("EXPIRED", "")})
    assert workspace.running.config.get(f"session.{seventh}") is None


@pytest.mark.capability("a.account")
async def test_one_session_of_a_kind_goes_on_by_setting_and_what_looks_borrowed_is_told(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:6]
    person = await office.hire(f"limit.{mark}", ["finance"])
    client = await office.client_of(person)
    now = datetime.now(UTC)
    desks = [Browser(workspace, person) for _ in range(3)]
    phone = Browser(workspace, person, PHONE, "203.0.113.9")

    async def alerts(one: Any) -> list[str]:
        found = await workspace.facts("crm.workspace.v1.SecurityAlertRaised", "")
        return [told["en"] for told in found if told.get("subject") == one.name]

    # A computer and a telephone go together, wherever the telephone is; the second computer ends the first.
    ids = [await desks[0].signs_in(now), await phone.signs_in(now)]
    await become(workspace, client, dict.fromkeys(ids, OPEN))
    ids.append(await desks[1].signs_in(now + timedelta(seconds=1)))
    said = {ids[0]: LIMIT, ids[1]: OPEN, ids[2]: OPEN}
    await become(workspace, client, said)
    await refused_by_gateway(workspace, ids[0], "LIMIT")
    # Facts that come late change nothing: the session that began last goes on.
    ids.append(await desks[2].signs_in(now - timedelta(seconds=1)))
    await become(workspace, client, {**said, ids[3]: LIMIT})
    assert not await alerts(person)
    # Computers that push each other out again and again are more than one person's; nobody is kept out for that.
    ids.append(await desks[0].signs_in(now + timedelta(seconds=2)))
    await become(workspace, client, {**said, ids[2]: LIMIT, ids[3]: LIMIT, ids[4]: OPEN})
    (turns,) = await workspace.eventually(lambda: alerts(person), 30)
    assert "3 times" in turns
    await client.ListTasks()

    # Two places at once.
    traveller = await office.hire(f"places.{mark}", ["finance"])
    here, there = Browser(workspace, traveller), Browser(workspace, traveller, address="198.51.100.4")
    one = await here.signs_in(now)
    near = Browser(workspace, traveller, address="10.0.200.1")
    two = await near.signs_in(now + timedelta(seconds=1))
    client = await office.client_of(traveller)
    await become(workspace, client, {one: LIMIT, two: OPEN})
    assert not await alerts(traveller)
    three = await there.signs_in(now + timedelta(minutes=2))
    await become(workspace, client, {one: LIMIT, two: LIMIT, three: OPEN})
    (places,) = await workspace.eventually(lambda: alerts(traveller), 30)
    assert "198.51.100.4" in places and "10.0.200.1" in places
    warned = list((await workspace.admin.ListNotifications(q=f"places.{mark}")).notifications)
    assert warned and "借用" in warned[0].display_name
    # By the other setting it is the second one that ends.
    before = workspace.running.settings
    workspace.running.settings = before.model_copy(update={"session_limit": "REFUSE"})
    try:
        careful = await office.hire(f"refuse.{mark}", ["finance"])
        kept = await Browser(workspace, careful).signs_in(now)
        client = await office.client_of(careful)
        await become(workspace, client, {kept: OPEN})
        second = await Browser(workspace, careful).signs_in(now + timedelta(seconds=1))
        await become(workspace, client, {kept: OPEN, second: LIMIT})
        await refused_by_gateway(workspace, second, "LIMIT")
    finally:
        workspace.running.settings = before


@pytest.mark.capability("a.account")
async def test_apps_with_a_token_and_no_cookie_are_listed_and_limited_too_and_end_in_every_service(
    workspace: Service, office: Any
) -> None:
    person = await office.hire(f"app.{uuid4().hex[:6]}", ["finance"])
    key, issuer = f"employee.{person.name.partition('/')[2]}", workspace.parts.issuer.url
    await workspace.eventually(lambda: workspace.running.config.get(key), 30)
    now = datetime.now(UTC)
    clients, ids = [], []
    for number in range(2):
        sid = uuid4().hex
        claims = {"employee": person.name, "sub": person.subject, "roles": [], "sid": sid}
        clients.append(workspace.client("sales1", **claims))
        ids.append(session_id(issuer, sid))
        # The gateway tells that it was seen; nobody told that it began.
        app = Browser(workspace, person, "okhttp/4.12.0")
        told = app.told(ids[-1], now + timedelta(seconds=number), now + timedelta(seconds=number))
        await workspace.tell("crm.gateway.v1.SessionsSeen", {"sessions": [told]}, "")
    last = clients[1]
    found = await become(workspace, last, {ids[0]: LIMIT, ids[1]: OPEN})
    assert {one.kind for one in found} == {pb.MOBILE}
    await refused_by_gateway(workspace, ids[0], "LIMIT")
    assert await office.refusal(clients[0].ListTasks()) == "UNAUTHENTICATED"
    await last.EndSession(name=f"sessions/{ids[1]}")
    await refused_by_gateway(workspace, ids[1], "ENDED_BY_HAND")
    assert await office.refusal(last.ListTasks()) == "UNAUTHENTICATED"


@pytest.mark.capability("a.account")
async def test_freezing_ends_sessions_and_keys_and_keeps_the_records_in_sight(
    workspace: Service, office: Any
) -> None:
    mark, admin = uuid4().hex[:6], workspace.admin
    boss = await office.hire(f"boss.{mark}", ["sales_manager"])
    permissions = [f"workspace.{one}.*" for one in ("tasks", "apiKeys", "sessions")]
    role = {"code": f"keyed_{mark}", "displayName": "有钥匙的人", "permissions": permissions, "scope": "OWN"}
    await admin.CreateRole(role=role)
    person = await office.hire(f"frozen.{mark}", [f"keyed_{mark}"], superior=boss.name)
    client = await office.client_of(person)
    task = await client.CreateTask(task={"displayName": f"冻结前{mark}"})
    key = await client.CreateApiKey(
        apiKey={"displayName": f"钥匙{mark}", "permissions": ["workspace.tasks.read"], "scope": "OWN"}
    )
    entry = f"apiKey.{key.key_id}"
    await workspace.eventually(lambda: workspace.running.config.get(entry), 30)
    session, phone = (
        await Browser(workspace, person).signs_in(),
        await Browser(workspace, person, PHONE).signs_in(),
    )
    await become(workspace, client, {session: OPEN, phone: OPEN})

    began = datetime.now(UTC)
    await admin.FreezeEmployee(name=person.name, reason="可能离职，先行冻结")
    await refused_by_gateway(workspace, session, "ACCESS_LOST")
    await refused_by_gateway(workspace, phone, "ACCESS_LOST")
    key_of_person = f"employee.{person.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key_of_person).get("frozen"), 30)
    assert await office.refusal(client.ListTasks()) == "EMPLOYEE_FROZEN"
    await workspace.eventually(lambda: workspace.running.config.get(entry).get("disabled"), 30)
    took = datetime.now(UTC) - began
    assert took < timedelta(seconds=5 * workspace.running.settings.patience), took
    # A session that was on its way at that moment ends as it comes in.
    late = await Browser(workspace, person, PHONE).signs_in()
    await refused_by_gateway(workspace, late, "ACCESS_LOST")
    # The manager works with the records as before.
    assert (await (await office.client_of(boss)).GetTask(name=task.name)).owner == person.name


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", ("Safari · macOS", "DESKTOP")),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/141.0 Mobile Safari/537.36", ("Chrome · Android", "MOBILE")),
        ("Mozilla/5.0 (Linux; Android 15) Mobile MicroMessenger/8.0", ("WeChat · Android", "MOBILE")),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/141.0 Safari/537.36 Edg/141.0", ("Edge · Windows", "DESKTOP")),
        ("okhttp/4.12.0", ("Android", "MOBILE")),
        ("Guanxi/12 CFNetwork/1494.0.7 Darwin/23.4.0", ("iOS", "MOBILE")),
        ("curl/8", ("?", "DESKTOP")),
        ("", ("?", "DESKTOP")),
    ],
)  # fmt: skip
def test_browsers_are_called_as_people_know_them(agent: str, said: tuple[str, str]) -> None:
    assert signed_in.client_of(agent) == said
