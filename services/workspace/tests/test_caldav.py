"""Calendars on other servers, against a real one: both ways, property by property, and nothing in circles."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from crmkit.auth import system
from crmkit.testing import Service, free_port
from icalendar import Calendar
from workspace import caldav

PROPFIND = '<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'


class Radicale:
    """A calendar server as its own programs see it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.AsyncClient(base_url=self.url, auth=("me", "secret"), timeout=30, trust_env=False)

    async def calendar(self) -> str:
        """A new calendar of a person; the address of it."""
        where = f"/me/{uuid4()}/"
        body = """<?xml version="1.0"?><mkcol xmlns="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><set><prop>
        <resourcetype><collection/><c:calendar/></resourcetype><displayname>work</displayname></prop></set></mkcol>"""
        assert (await self.client.request("MKCOL", where, content=body)).status_code == 201
        return where

    async def put(self, where: str, content: str) -> None:
        answer = await self.client.put(
            where, content=content.encode(), headers={"content-type": "text/calendar"}
        )
        assert answer.status_code in {201, 204}, answer.text

    async def get(self, where: str) -> Any:
        """The first event, and the text."""
        text = (await self.client.get(where)).text
        return Calendar.from_ical(text).walk("VEVENT")[0], text.replace("\r\n ", "")

    async def versions(self, calendar: str) -> dict[str, str]:
        answer = await self.client.request("PROPFIND", calendar, content=PROPFIND, headers={"depth": "1"})
        pieces = answer.text.split("<href>")[2:]
        return {piece.partition("<")[0]: piece.partition("getetag>")[2].partition("<")[0] for piece in pieces}


@pytest.fixture(scope="module")
def radicale_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real CalDAV server with one person."""
    home: Path = tmp_path_factory.mktemp("radicale")
    (home / "users").write_text("me:secret\n")
    port = free_port()
    (home / "config").write_text(
        f"[server]\nhosts = 127.0.0.1:{port}\n[auth]\ntype = htpasswd\nhtpasswd_filename = {home}/users\n"
        f"htpasswd_encryption = plain\ndelay = 0\n[storage]\nfilesystem_folder = {home}/data\n[logging]\nlevel = error\n"
    )
    arguments = [sys.executable, "-m", "radicale", "--config", str(home / "config")]
    process = subprocess.Popen(arguments, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    yield port
    process.terminate()
    process.wait(30)


@pytest.fixture
async def radicale(radicale_port: int) -> AsyncIterator[Radicale]:
    server = Radicale(radicale_port)
    for _ in range(600):
        try:
            await server.client.get("/")
            break
        except httpx.TransportError:
            await asyncio.sleep(0.1)
    yield server
    await server.client.aclose()


class Desk:
    """A person with a calendar on another server."""

    def __init__(self, workspace: Service, office: Any, radicale: Radicale) -> None:
        self.workspace, self.office, self.radicale = workspace, office, radicale

    async def sit_down(self, **more: Any) -> None:
        hired = await self.office.hire(f"dav{uuid4().hex[:8]}", ["sales_representative"])
        self.me, self.client = hired, await self.office.client_of(hired)
        self.calendar = await self.radicale.calendar()
        url = self.radicale.url + self.calendar
        body = {"displayName": "手机日历", "url": url, "userName": "me", "password": "secret", **more}
        self.account = await self.client.CreateCalendarAccount(calendarAccount=body)
        self.synced = self.account.sync_time.ToJsonString() if self.account.HasField("sync_time") else ""

    async def sync(self) -> Any:
        """Brings both in step."""
        if self.synced:
            await self.client.SyncCalendarAccount(name=self.account.name)

        async def done() -> Any:
            async with self.workspace.running.call("test", system("workspace")) as call:
                await caldav.start_due(call)
            found = await self.client.GetCalendarAccount(name=self.account.name)
            return (
                found
                if found.HasField("sync_time") and found.sync_time.ToJsonString() != self.synced
                else None
            )

        found = await self.workspace.eventually(done, 60)
        self.synced = found.sync_time.ToJsonString()
        return found

    async def events(self) -> list[Any]:
        return list((await self.client.ListCalendarEvents(orderBy="display_name")).calendar_events)


@pytest.fixture
async def desk(workspace: Service, office: Any, radicale: Radicale) -> Desk:
    made = Desk(workspace, office, radicale)
    await made.sit_down()
    return made


THEIRS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Phone//EN
BEGIN:VTIMEZONE
TZID:Asia/Shanghai
BEGIN:STANDARD
DTSTART:19910915T000000
TZOFFSETFROM:+0900
TZOFFSETTO:+0800
TZNAME:CST
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:{uid}
DTSTAMP:20261101T000000Z
DTSTART;TZID=Asia/Shanghai:20270301T100000
DTEND;TZID=Asia/Shanghai:20270301T110000
RRULE:FREQ=WEEKLY;COUNT=3
SUMMARY;LANGUAGE=zh:客户例会
DESCRIPTION;ALTREP="cid:part1@phone":议程一
ORGANIZER;CN=Me:mailto:me@phone.example
ATTENDEE;CN=Wang;PARTSTAT=ACCEPTED;X-NUM-GUESTS=2:mailto:wang@customer.example
ATTENDEE;CN=Li;PARTSTAT=NEEDS-ACTION:mailto:li@customer.example
X-PHONE-COLOR:#ff0000
CATEGORIES:VIP,中国
BEGIN:VALARM
ACTION:DISPLAY
DESCRIPTION:phone alarm
TRIGGER:-PT15M
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:{uid}
RECURRENCE-ID:20270308T020000Z
DTSTAMP:20261101T000000Z
DTSTART;TZID=Asia/Shanghai:20270309T150000
DTEND;TZID=Asia/Shanghai:20270309T160000
SUMMARY:改到周二
X-PHONE-NOTE:keep me
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.capability("w.calendar")
async def test_events_go_both_ways_and_attendees_and_unknown_properties_of_the_other_side_stay(
    desk: Desk,
) -> None:
    radicale, client = desk.radicale, desk.client
    theirs = f"{desk.calendar}phone.ics"
    await radicale.put(theirs, THEIRS.format(uid=f"{uuid4()}@phone").replace("\n", "\r\n"))
    ours = await client.CreateCalendarEvent(
        calendarEvent={
            "displayName": "签约",
            "start": "2027-04-01T09:00",
            "end": "2027-04-01T10:00",
            "agenda": "带合同",
        }
    )
    found = await desk.sync()
    assert (found.problem, found.calendar_url.endswith(desk.calendar)) == ("", True)
    taken, mine = await desk.events()
    assert (taken.display_name, taken.recurrence, mine.name) == ("客户例会", "FREQ=WEEKLY;COUNT=3", ours.name)
    assert [(one.occurrence, one.start, one.display_name) for one in taken.overrides] == [
        ("2027-03-08T10:00", "2027-03-09T15:00", "改到周二")
    ]
    (written,) = [href for href in await radicale.versions(desk.calendar) if not href.endswith("phone.ics")]
    component, text = await radicale.get(written)
    assert (str(component["SUMMARY"]), str(component["UID"])) == ("签约", ours.uid) and "METHOD" not in text

    # Nothing has changed: nothing is written and nothing is read into a new version.
    versions = await radicale.versions(desk.calendar)
    for _ in range(2):
        await desk.sync()
    assert await radicale.versions(desk.calendar) == versions
    assert [one.etag for one in await desk.events()] == [taken.etag, mine.etag]

    # What is changed here goes there; all that is not ours stays as it was written.
    await client.UpdateCalendarEvent(
        calendarEvent={"name": taken.name, "displayName": "客户周会", "location": "上海"},
        updateMask="displayName,location",
    )
    await desk.sync()
    component, text = await radicale.get(theirs)
    assert (str(component["SUMMARY"]), str(component["LOCATION"])) == ("客户周会", "上海")
    for line in (
        'DESCRIPTION;ALTREP="cid:part1@phone":议程一', "ORGANIZER;CN=Me:mailto:me@phone.example",
        "ATTENDEE;CN=Wang;PARTSTAT=ACCEPTED;X-NUM-GUESTS=2:mailto:wang@customer.example",
        "ATTENDEE;CN=Li;PARTSTAT=NEEDS-ACTION:mailto:li@customer.example", "X-PHONE-COLOR:#ff0000",
        "CATEGORIES:VIP,中国", "DESCRIPTION:phone alarm", "TRIGGER:-PT15M", "X-PHONE-NOTE:keep me", "RRULE:FREQ=WEEKLY;COUNT=3",
    ):  # fmt: skip
        assert line in text.split("\r\n"), line
    # A date that is moved here moves there; the exception that it had is one still.
    await client.MoveCalendarEvent(
        name=taken.name, occurrence="2027-03-15T10:00", start="2027-03-16T08:00", end="2027-03-16T09:00"
    )
    await desk.sync()
    _, text = await radicale.get(theirs)
    events = Calendar.from_ical(text).walk("VEVENT")
    moved = {str(one["RECURRENCE-ID"].dt): str(one["DTSTART"].dt) for one in events if "RECURRENCE-ID" in one}
    assert sorted(moved.values()) == ["2027-03-09 15:00:00+08:00", "2027-03-16 08:00:00+08:00"]
    assert "X-PHONE-NOTE:keep me" in text and "wang@customer.example" in text

    # What is changed there comes here, and what goes there goes here.
    _, text = await radicale.get(written)
    await radicale.put(
        written, text.replace("SUMMARY:签约", "SUMMARY:签约仪式").replace("T090000", "T093000")
    )
    await radicale.client.delete(theirs)
    await desk.sync()
    events = await desk.events()
    assert [(one.display_name, one.start, one.agenda) for one in events if one.state == 1] == [
        ("签约仪式", "2027-04-01T09:30", "带合同")
    ]
    # What is cancelled here goes there.
    await client.CancelCalendarEvent(name=ours.name)
    await desk.sync()
    assert await radicale.versions(desk.calendar) == {}


@pytest.mark.capability("w.calendar")
async def test_what_both_sides_change_is_merged_and_a_write_that_comes_too_late_is_read_again(
    desk: Desk,
) -> None:
    radicale, client = desk.radicale, desk.client
    ours = await client.CreateCalendarEvent(
        calendarEvent={"displayName": "评审", "start": "2027-05-06T09:00", "end": "2027-05-06T10:00"}
    )
    await desk.sync()
    (href,) = await radicale.versions(desk.calendar)
    _, text = await radicale.get(href)
    # Both change something else: both stay.
    await radicale.put(href, text.replace("SUMMARY:评审", "SUMMARY:评审\r\nLOCATION:二楼"))
    await client.UpdateCalendarEvent(
        calendarEvent={"name": ours.name, "agenda": "看样品"}, updateMask="agenda"
    )
    await desk.sync()
    event = await client.GetCalendarEvent(name=ours.name)
    component, text = await radicale.get(href)
    assert (event.location, event.agenda) == ("二楼", "看样品")
    assert (str(component["LOCATION"]), str(component["DESCRIPTION"])) == ("二楼", "看样品")

    # Somebody is quicker between our reading and our writing: 412, read again, merged.
    put, late = caldav.Dav.put, []

    async def slow(self: Any, where: str, content: str, etag: str) -> str:
        if not late:
            late.append(where)
            await radicale.put(href, text.replace("LOCATION:二楼", "LOCATION:三楼\r\nX-LATE:yes"))
        return await put(self, where, content, etag)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caldav.Dav, "put", slow)
        await client.UpdateCalendarEvent(
            calendarEvent={"name": ours.name, "displayName": "复审"}, updateMask="displayName"
        )
        await desk.sync()
    assert late
    component, text = await radicale.get(href)
    assert (str(component["SUMMARY"]), str(component["LOCATION"]), str(component["X-LATE"])) == (
        "复审",
        "三楼",
        "yes",
    )
    event = await client.GetCalendarEvent(name=ours.name)
    assert (event.display_name, event.location) == ("复审", "三楼")


async def test_meetings_with_others_are_written_and_stay_here_when_they_go_there(desk: Desk) -> None:
    radicale, boss = desk.radicale, desk.workspace.person("manager").employee
    await desk.client.CreateCalendarEvent(calendarEvent={
        "displayName": "同事会", "start": "2027-05-10T09:00", "end": "2027-05-10T10:00",
        "attendees": [{"employee": boss}, {"email": "guest@customer.example"}],
    })  # fmt: skip
    invited = await desk.workspace.manager.CreateCalendarEvent(calendarEvent={
        "displayName": "经理召集", "start": "2027-05-11T09:00", "end": "2027-05-11T10:00",
        "attendees": [{"employee": desk.me.name}],
    })  # fmt: skip
    await desk.sync()
    versions = await radicale.versions(desk.calendar)
    texts = {href: (await radicale.get(href))[1] for href in versions}
    (own,) = [href for href, text in texts.items() if "同事会" in text]
    (others,) = [href for href, text in texts.items() if "经理召集" in text]
    assert "SCHEDULE-AGENT=CLIENT" in texts[own] and "mailto:guest@customer.example" in texts[own]
    # Who is invited alone changes nothing of it; taken away there, a meeting stays here and is not written again.
    await radicale.put(others, texts[others].replace("经理召集", "改了"))
    await radicale.client.delete(own)
    for _ in range(2):
        await desk.sync()
    event = await desk.client.GetCalendarEvent(name=invited.name)
    assert (event.display_name, len(await desk.events())) == ("经理召集", 2)
    assert all(one.state == 1 for one in await desk.events())
    assert list(await radicale.versions(desk.calendar)) == [others]
    component, _ = await radicale.get(others)
    assert str(component["SUMMARY"]) == "经理召集"


async def test_what_cannot_be_taken_is_named_and_a_wrong_password_is_told_once(
    desk: Desk, workspace: Service, office: Any
) -> None:
    radicale = desk.radicale
    endless = THEIRS.format(uid="endless").replace(";COUNT=3", "")
    await radicale.put(f"{desk.calendar}endless.ics", endless)
    bad_zone = (
        THEIRS.format(uid="hostile")
        .replace("Asia/Shanghai", "Evil/Zone")
        .replace("RRULE:FREQ=WEEKLY;COUNT=3\n", "")
    )
    await radicale.put(
        f"{desk.calendar}hostile.ics",
        bad_zone.partition("BEGIN:VEVENT\nUID:hostile\nRECUR")[0] + "END:VCALENDAR\n",
    )
    found = await desk.sync()
    assert {(one.uid, one.reason) for one in found.refused} == {
        ("endless", "RECURRENCE_TOO_LONG"), ("hostile", "TIME_ZONE_UNKNOWN")
    }  # fmt: skip
    assert not await desk.events()
    # What is mended there is taken and named no more, and so is what is gone.
    await radicale.put(f"{desk.calendar}endless.ics", THEIRS.format(uid="endless"))
    await radicale.client.delete(f"{desk.calendar}hostile.ics")
    assert not (await desk.sync()).refused
    assert [one.display_name for one in await desk.events()] == ["客户例会"]
    # A server's address leads to the person's first calendar.
    await desk.client.UpdateCalendarAccount(
        calendarAccount={"name": desk.account.name, "url": f"{radicale.url}/"}, updateMask="url"
    )
    found = await desk.sync()
    assert found.calendar_url.startswith(f"{radicale.url}/me/")

    await desk.client.UpdateCalendarAccount(
        calendarAccount={"name": desk.account.name, "password": "wrong"}, updateMask="password"
    )

    async def failing() -> Any:
        async with workspace.running.call("test", system("workspace")) as call:
            await caldav.start_due(call)
        account = await desk.client.GetCalendarAccount(name=desk.account.name)
        return account if account.problem else None

    account = await workspace.eventually(failing, 60)
    assert (account.state, account.problem[:20], account.password) == (3, "CALENDAR_AUTH_FAILED", "")
    (notice,) = await office.notices(desk.client, desk.account.name)
    assert "被拒绝" in notice.display_name
    other = workspace.sales2.PauseCalendarAccount(name=desk.account.name)
    assert await office.refusal(other) == "NOT_FOUND"
    assert (
        await office.refusal(desk.client.SyncCalendarAccount(name=desk.account.name)) == "ILLEGAL_TRANSITION"
    )
