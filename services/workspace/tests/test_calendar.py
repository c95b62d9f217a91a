"""Calendars: whose time is taken when, what others see of it, and that rooms are never taken twice."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sqlalchemy import text
from workspace.model.calendar import CalendarEvent


def meeting(day: str, start: str = "10:00", end: str = "11:00", **more: Any) -> dict[str, Any]:
    """The body of an event."""
    return {"displayName": f"会议 {day}", "start": f"{day}T{start}", "end": f"{day}T{end}", **more}


async def dates(client: Any, first: str, last: str, **more: Any) -> list[Any]:
    """What a caller sees of a range."""
    reply = await client.QueryCalendar(fromTime=f"{first}T00:00:00Z", toTime=f"{last}T00:00:00Z", **more)
    return list(reply.instances)


def people(*names: str) -> list[dict[str, str]]:
    return [{"employee": name} for name in names]


@pytest.mark.capability("w.conflict")
async def test_times_that_collide_are_refused_before_saving_with_times_that_are_free(
    workspace: Service, office: Any
) -> None:
    sales1, manager = workspace.sales1, workspace.manager
    me, boss = workspace.person("sales1").employee, workspace.person("manager").employee
    first = await sales1.CreateCalendarEvent(calendarEvent=meeting("2027-03-01", attendees=people(boss)))
    # Half-open: what begins when the other ends does not collide.
    await sales1.CreateCalendarEvent(calendarEvent=meeting("2027-03-01", "11:00", "12:00"))
    private = meeting("2027-03-01", "12:00", "13:00", displayName="体检", visibility="PRIVATE")
    await manager.CreateCalendarEvent(calendarEvent=private)

    clash = meeting("2027-03-01", "10:30", "12:30", attendees=people(me))
    with pytest.raises(Refused) as refused:
        await manager.CreateCalendarEvent(calendarEvent=clash)
    assert refused.value.reason == "SCHEDULE_CONFLICT"
    told = refused.value.info.metadata["conflicts"]
    assert "10:00–11:00" in told and "会议 2027-03-01" in told and "12:00–13:00 体检" in told
    assert not await dates(manager, "2027-03-02", "2027-03-03")

    found = await sales1.CheckConflicts(calendarEvent={**clash, "attendees": people(boss)})
    assert found.acceptable
    assert {(c.employee, c.display_name) for c in found.conflicts} == {
        (me, "会议 2027-03-01"),
        (boss, "会议 2027-03-01"),
        (boss, ""),  # who is not told of a private event learns only that the time is taken
    }
    free = [slot.start_time.ToDatetime(UTC) for slot in found.free_slots]
    assert len(free) == 3
    assert free[0] == datetime(2027, 3, 1, 5, tzinfo=UTC)  # 13:00 in Shanghai
    again = await sales1.CheckConflicts(
        calendarEvent=meeting("2027-03-01", "13:00", "15:00", attendees=people(boss))
    )
    assert not again.conflicts

    kept = await manager.CreateCalendarEvent(calendarEvent={**clash, "acceptConflicts": True})
    assert not kept.accept_conflicts
    # An event does not collide with its own earlier version.
    await sales1.CancelCalendarEvent(name=first.name)
    await manager.CancelCalendarEvent(name=kept.name)
    third = await sales1.CreateCalendarEvent(calendarEvent=meeting("2027-03-01", "09:00", "10:30"))
    moved = {"name": third.name, "end": "2027-03-01T10:45"}
    await sales1.UpdateCalendarEvent(calendarEvent=moved, updateMask="end")
    assert not (
        await sales1.CheckConflicts(
            calendarEvent={**meeting("2027-03-01", "09:15", "10:45"), "name": third.name}
        )
    ).conflicts
    # Free time takes nobody's.
    await sales1.CreateCalendarEvent(
        calendarEvent=meeting("2027-03-01", "09:00", "10:00", availability="FREE")
    )

    # What the company does not let collide cannot be accepted.
    strict = (await workspace.admin.ListDictionaries(filter='key = "strictEventKinds"')).dictionaries[0]
    entry = {"key": "LEAVE", "label": {"zh": "请假", "en": "Leave"}}
    await workspace.admin.UpdateDictionary(
        dictionary={"name": strict.name, "entries": [entry]}, updateMask="entries"
    )
    await workspace.admin.PublishDictionary(name=strict.name)
    await workspace.eventually(lambda: workspace.running.config.get("dictionary.strictEventKinds")["entries"])
    leave = meeting("2027-03-01", "09:00", "10:00", kind="LEAVE", acceptConflicts=True)
    assert await office.refusal(sales1.CreateCalendarEvent(calendarEvent=leave)) == "SCHEDULE_CONFLICT"
    assert not (await sales1.CheckConflicts(calendarEvent=leave)).acceptable


@pytest.mark.capability("w.conflict")
async def test_of_a_hundred_who_book_a_room_one_has_it(workspace: Service, office: Any) -> None:
    room = f"R{uuid4().hex[:8]}"
    body = meeting("2027-04-01", rooms=[room], acceptConflicts=True)

    async def book() -> str:
        try:
            await workspace.sales1.CreateCalendarEvent(calendarEvent=body)
        except Refused as refused:
            return refused.reason
        return "WON"

    outcomes = await asyncio.gather(*(book() for _ in range(100)))
    assert sorted(set(outcomes)) == ["ROOM_TAKEN", "WON"]
    assert outcomes.count("WON") == 1
    found = await workspace.sales2.CheckConflicts(
        calendarEvent=meeting("2027-04-01", "10:30", "11:30", rooms=[room])
    )
    assert not found.acceptable
    assert [(c.room, c.display_name) for c in found.conflicts] == [(room, "")]
    # The time next to it is free, and a room that is given up is free again.
    after = await workspace.sales2.CreateCalendarEvent(
        calendarEvent=meeting("2027-04-01", "11:00", "12:00", rooms=[room])
    )
    booked = await dates(workspace.sales2, "2027-04-01", "2027-04-02", rooms=[room])
    assert [(one.room, bool(one.event)) for one in booked] == [(room, False), (room, True)]
    await workspace.sales2.CancelCalendarEvent(name=after.name)
    await workspace.sales1.CreateCalendarEvent(
        calendarEvent=meeting("2027-04-01", "11:00", "12:00", rooms=[room])
    )


@pytest.mark.capability("w.conflict")
async def test_a_day_of_leave_collides_in_the_zone_of_the_one_who_takes_it(
    workspace: Service, office: Any
) -> None:
    hired = await office.hire(
        f"abroad{uuid4().hex[:6]}", ["sales_representative"], timeZone="America/New_York"
    )
    abroad = await office.client_of(hired)
    day = {"year": 2027, "month": 5, "day": 4}
    leave = {"displayName": "休假", "kind": "LEAVE", "startDate": day, "endDate": day}
    await abroad.CreateCalendarEvent(calendarEvent=leave)
    # 10:00 on the 4th in Shanghai is still the 3rd in New York; 20:00 is the morning of the 4th there.
    early = meeting("2027-05-04", "10:00", "11:00", attendees=people(hired.name))
    late = meeting("2027-05-04", "20:00", "21:00", attendees=people(hired.name))
    assert not (await workspace.sales1.CheckConflicts(calendarEvent=early)).conflicts
    (conflict,) = (await workspace.sales1.CheckConflicts(calendarEvent=late)).conflicts
    assert (conflict.employee, conflict.display_name) == (hired.name, "")
    shown = await dates(workspace.manager, "2027-05-01", "2027-05-09", employees=[hired.name])
    assert [(one.start_date, one.end_date) for one in shown] == [("2027-05-04", "2027-05-04")]


@pytest.mark.capability("w.calendar")
async def test_superiors_see_what_is_public_and_others_that_the_time_is_taken(
    workspace: Service, office: Any
) -> None:
    me = workspace.person("sales1").employee
    link = f"accounts/{uuid4()}"
    for hour, visibility in ((9, "PUBLIC"), (10, "BUSY"), (11, "PRIVATE")):
        body = meeting(
            "2027-06-01",
            f"{hour:02}:00",
            f"{hour:02}:30",
            visibility=visibility,
            links=[link],
            location="上海",
        )
        await workspace.sales1.CreateCalendarEvent(calendarEvent={**body, "displayName": f"事{visibility}"})
    own = await dates(workspace.sales1, "2027-06-01", "2027-06-02")
    assert [one.display_name for one in own] == ["事PUBLIC", "事BUSY", "事PRIVATE"]
    over = await dates(workspace.manager, "2027-06-01", "2027-06-02", employees=[me])
    assert [(one.display_name, one.location, bool(one.event), one.busy) for one in over] == [
        ("事PUBLIC", "上海", True, True), ("", "", False, True), ("", "", False, True),
    ]  # fmt: skip
    team = await dates(workspace.manager, "2027-06-01", "2027-06-02", team=True)
    assert [one.display_name for one in team if one.employee == me] == ["事PUBLIC", "", ""]
    other = await dates(workspace.sales2, "2027-06-01", "2027-06-02", employees=[me])
    assert [(one.display_name, one.event, one.occurrence, one.busy) for one in other] == [
        ("", "", "", True)
    ] * 3
    assert len(await dates(workspace.manager, "2027-06-01", "2027-06-02", employees=[me], link=link)) == 1
    assert not await dates(workspace.sales2, "2027-06-01", "2027-06-02", employees=[me], link=link)
    event = own[0].event
    for stranger in (workspace.sales2, workspace.admin):
        assert await office.refusal(stranger.GetCalendarEvent(name=event)) == "NOT_FOUND"
    whole = (await workspace.facts("crm.workspace.v1.CalendarEventScheduled", event))[0]["calendarEvent"]
    assert whole["displayName"] == "事PUBLIC"
    hidden = (await workspace.facts("crm.workspace.v1.CalendarEventScheduled", own[2].event))[0][
        "calendarEvent"
    ]
    assert not {"displayName", "location", "links"} & hidden.keys()
    assert hidden["startTime"] == "2027-06-01T03:00:00Z"


@pytest.mark.capability("w.calendar")
async def test_one_date_of_a_series_moves_and_the_others_stay(workspace: Service, office: Any) -> None:
    sales1, boss = workspace.sales1, workspace.person("manager").employee
    body = meeting("2027-07-05", recurrence="FREQ=WEEKLY;COUNT=4", attendees=people(boss), displayName="周会")
    event = await sales1.CreateCalendarEvent(calendarEvent=body)

    async def starts(client: Any) -> list[str]:
        found = await dates(client, "2027-07-01", "2027-08-30")
        return [
            one.start_time.ToDatetime(UTC).strftime("%m-%d %H") for one in found if one.display_name == "周会"
        ]

    assert await starts(sales1) == ["07-05 02", "07-12 02", "07-19 02", "07-26 02"]
    moved = await sales1.MoveCalendarEvent(
        name=event.name, occurrence="2027-07-12T10:00", start="2027-07-13T15:00", end="2027-07-13T16:00"
    )
    assert (moved.sequence, moved.recurrence) == (1, "FREQ=WEEKLY;COUNT=4")
    assert (
        await starts(sales1)
        == await starts(workspace.manager)
        == ["07-05 02", "07-13 07", "07-19 02", "07-26 02"]
    )
    await sales1.CancelCalendarEvent(name=event.name, range="ONE", occurrence="2027-07-19T10:00")
    assert await starts(sales1) == ["07-05 02", "07-13 07", "07-26 02"]
    unknown = sales1.MoveCalendarEvent(
        name=event.name, occurrence="2027-07-14T10:00", start="2027-07-15T15:00", end="2027-07-15T16:00"
    )
    assert await office.refusal(unknown) == "OCCURRENCE_UNKNOWN"
    refused = workspace.manager.CancelCalendarEvent(name=event.name)
    assert await office.refusal(refused) == "NOT_THE_ORGANIZER"

    new = await sales1.SplitCalendarEvent(name=event.name, occurrence="2027-07-26T10:00")
    assert (new.start, new.recurrence, [a.employee for a in new.attendees]) == (
        "2027-07-26T10:00",
        "FREQ=WEEKLY;COUNT=1",
        [boss],
    )
    assert await starts(sales1) == ["07-05 02", "07-13 07", "07-26 02"]
    whole = await sales1.MoveCalendarEvent(name=event.name, start="2027-07-06T09:00", end="2027-07-06T10:00")
    assert [o.occurrence for o in whole.overrides] == ["2027-07-13T09:00", "2027-07-20T09:00"]
    assert await starts(sales1) == ["07-06 01", "07-13 07", "07-26 02"]
    await sales1.CancelCalendarEvent(name=event.name, range="FOLLOWING", occurrence="2027-07-13T09:00")
    assert await starts(sales1) == ["07-06 01", "07-26 02"]
    # The last date of it: so all of it is over.
    await sales1.CancelCalendarEvent(name=event.name, range="ONE", occurrence="2027-07-06T09:00")
    await sales1.DeleteCalendarEvent(name=new.name)
    assert await starts(sales1) == await starts(workspace.manager) == []
    assert await office.refusal(sales1.CancelCalendarEvent(name=event.name)) == "EVENT_ENDED"


async def test_who_is_invited_is_told_and_answers(workspace: Service, office: Any) -> None:
    boss = workspace.person("manager").employee
    event = await workspace.sales1.CreateCalendarEvent(
        calendarEvent=meeting("2027-08-02", attendees=people(boss))
    )
    assert event.attendees[0].response == pb.CalendarEvent.NEEDS_ACTION
    (notice,) = await office.notices(workspace.manager, event.name)
    assert notice.display_name == "日程邀请：会议 2027-08-02（2027-08-02 10:00）"
    answered = await workspace.manager.RespondCalendarEvent(
        name=event.name, response="ACCEPTED", comment="准时到"
    )
    assert (answered.attendees[0].response, answered.attendees[0].comment) == (
        pb.CalendarEvent.ACCEPTED,
        "准时到",
    )
    # The organizer may not answer for others, and others may not change the event.
    forged = [{"employee": boss, "response": "DECLINED"}]
    kept = await workspace.sales1.UpdateCalendarEvent(
        calendarEvent={"name": event.name, "attendees": forged}, updateMask="attendees"
    )
    assert kept.attendees[0].response == pb.CalendarEvent.ACCEPTED
    change = {"name": event.name, "displayName": "别人的"}
    refused = workspace.manager.UpdateCalendarEvent(calendarEvent=change, updateMask="displayName")
    assert await office.refusal(refused) == "NOT_THE_ORGANIZER"
    assert (
        await office.refusal(workspace.sales1.RespondCalendarEvent(name=event.name, response="ACCEPTED"))
        == "NOT_INVITED"
    )
    # Another time wants another answer.
    moved = await workspace.sales1.MoveCalendarEvent(
        name=event.name, start="2027-08-02T14:00", end="2027-08-02T15:00"
    )
    assert moved.attendees[0].response == pb.CalendarEvent.NEEDS_ACTION

    async def told(count: int) -> bool:
        # Unread ones about one event show as one.
        return [one.count for one in await office.notices(workspace.manager, event.name)] == [count]

    await workspace.eventually(lambda: told(2))
    await workspace.manager.RespondCalendarEvent(name=event.name, response="DECLINED")
    assert not await dates(workspace.manager, "2027-08-02", "2027-08-03")
    await workspace.sales1.UpdateCalendarEvent(
        calendarEvent={"name": event.name, "attendees": []}, updateMask="attendees"
    )
    assert await office.refusal(workspace.manager.GetCalendarEvent(name=event.name)) == "NOT_FOUND"


@pytest.mark.capability("w.calendar")
async def test_action_items_of_a_meeting_become_tasks(workspace: Service, office: Any) -> None:
    boss = workspace.person("manager").employee
    event = await workspace.sales1.CreateCalendarEvent(calendarEvent=meeting("2027-08-09"))
    actions = [
        {"displayName": "发会议纪要"},
        {"displayName": "准备报价", "owner": boss, "dueTime": "2027-08-10T01:00:00Z"},
    ]
    done = await workspace.sales1.CompleteCalendarEvent(name=event.name, minutes="谈妥", actionItems=actions)
    assert (done.state, done.minutes) == (pb.CalendarEvent.DONE, "谈妥")
    (task,) = (await workspace.manager.ListTasks(filter=f'links:"{event.name}" AND owner = "{boss}"')).tasks
    assert (task.display_name, task.due_time.ToJsonString()) == ("准备报价", "2027-08-10T01:00:00Z")
    assert (
        await office.refusal(workspace.sales1.CompleteCalendarEvent(name=event.name)) == "ILLEGAL_TRANSITION"
    )


@pytest.mark.capability("w.calendar")
async def test_a_month_of_fifty_people_with_five_thousand_dates_is_seen_at_once(
    workspace: Service, office: Any
) -> None:
    people_ = await asyncio.gather(
        *(office.hire(f"team{uuid4().hex[:8]}", ["sales_representative"]) for _ in range(50))
    )
    boss, names = workspace.manager, [one.name for one in people_]
    # A hundred dates each in the month: five series of four a day would collide, so they stand one after the other.
    async with workspace.running.call("test", system("workspace")) as call:
        for name in names:
            for hour in range(4):
                await call.add(CalendarEvent(
                    display_name=f"例会{hour}", kind="MEETING", owner=name, department=people_[0].department,
                    start=f"2028-03-06T{8 + hour:02}:00", end=f"2028-03-06T{8 + hour:02}:30", visibility="PUBLIC",
                    recurrence="FREQ=DAILY;COUNT=25",
                ))  # fmt: skip
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        reply = await boss.QueryCalendar(
            fromTime="2028-03-01T00:00:00Z", toTime="2028-04-01T00:00:00Z", employees=names
        )
        times.append(time.perf_counter() - begun)
    assert len(reply.instances) == 5000
    assert {one.display_name for one in reply.instances} == {f"例会{hour}" for hour in range(4)}
    # What is read: one range of the index of each person's time, and the events and dates by their keys.
    async with workspace.running.sessions() as session:
        # Of a table that has little else the planner reads all; what is asked is whether the index serves.
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await session.scalars(text(
            "EXPLAIN SELECT event FROM calendar_slots WHERE person = ANY(:people)"
            " AND end_time > '2028-03-01' AND start_time < '2028-04-01'"
        ), {"people": names})  # fmt: skip
        assert "calendar_slots_person_index" in "\n".join(plan)
    print(f"month of 50 people: {sorted(times)[len(times) // 2] * 1000:.0f} ms")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (meeting("2027-09-01", recurrence="FREQ=DAILY"), "RECURRENCE_TOO_LONG"),
        (meeting("2027-09-01", recurrence="FREQ=MINUTELY;COUNT=3"), "RECURRENCE_INVALID"),
        (meeting("2027-09-01", timeZone="../../etc/passwd"), "TIME_ZONE_UNKNOWN"),
        (meeting("2027-09-01", "10:00", "09:00"), "VALIDATION"),
        (meeting("2027-09-31"), "VALIDATION"),
        ({"displayName": "无时间"}, "VALIDATION"),
        (meeting("2027-09-01", startDate={"year": 2027, "month": 9, "day": 1}), "VALIDATION"),
        (meeting("2027-09-01", attendees=[{"email": "no address"}]), "VALIDATION"),
        (meeting("2027-09-01", attendees=[{}]), "VALIDATION"),
        (meeting("2027-09-01", overrides=[{"occurrence": "2027-09-02T10:00"}]), "OCCURRENCE_UNKNOWN"),
    ],
)
async def test_an_event_that_cannot_be_is_refused_with_its_reason(
    workspace: Service, office: Any, body: dict[str, Any], reason: str
) -> None:
    assert await office.refusal(workspace.sales1.CreateCalendarEvent(calendarEvent=body)) == reason


async def test_series_are_worked_out_further_every_night_and_once(workspace: Service) -> None:
    from workspace.jobs import extend_series

    event = await workspace.sales2.CreateCalendarEvent(
        calendarEvent=meeting(
            "2027-10-04", "07:00", "07:30", recurrence="FREQ=WEEKLY;UNTIL=20330101", displayName="长会"
        )
    )

    async def count() -> int:
        found = await dates(workspace.sales2, "2029-09-01", "2030-09-01")
        return len([one for one in found if one.event == event.name])

    assert await count() == 0
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            call.now = datetime(2028, 9, 1, tzinfo=UTC)
            await extend_series(call.now, call)
        assert await count() == 52
    await workspace.sales2.CancelCalendarEvent(name=event.name)


HOSTILE = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//evil//EN
BEGIN:VTIMEZONE
TZID:Evil/Zone
BEGIN:STANDARD
DTSTART:16010101T000000
RRULE:FREQ=SECONDLY;INTERVAL=1
TZOFFSETFROM:+9999
TZOFFSETTO:-9999
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:evil-1
DTSTART;TZID=Evil/Zone:20271101T090000
DTEND;TZID=Evil/Zone:20271101T100000
SUMMARY:恶意时区
END:VEVENT
BEGIN:VEVENT
UID:evil-2
DTSTART;TZID="../../../etc/passwd":20271101T090000
SUMMARY:路径
END:VEVENT
BEGIN:VEVENT
UID:endless
DTSTART:20271101T090000Z
RRULE:FREQ=DAILY
SUMMARY:无尽
END:VEVENT
BEGIN:VEVENT
UID:twice
DTSTART:20271101T090000Z
DTSTART:20271102T090000Z
END:VEVENT
BEGIN:VEVENT
UID:no-number
SEQUENCE:first
DTSTART:20271101T090000Z
END:VEVENT
BEGIN:VEVENT
UID:no-day
DTSTART:tomorrow
END:VEVENT
BEGIN:VEVENT
UID:too-long
DTSTART:20271101T090000Z
DURATION:P9999999D
END:VEVENT
BEGIN:VEVENT
UID:good-1
SEQUENCE:2
DTSTART;TZID=China Standard Time:20271101T090000
DURATION:PT45M
RRULE:FREQ=WEEKLY;COUNT=3
EXDATE;TZID=Asia/Shanghai:20271108T090000
SUMMARY:每周\\, 例会
LOCATION:上海
ATTENDEE:mailto:somebody@example.com
END:VEVENT
BEGIN:VEVENT
UID:good-1
RECURRENCE-ID:20271115T010000Z
DTSTART;TZID=America/New_York:20271114T200000
DTEND;TZID=America/New_York:20271114T210000
SUMMARY:改到晚上
END:VEVENT
BEGIN:VEVENT
UID:day-1
DTSTART;VALUE=DATE:20271201
DTEND;VALUE=DATE:20271203
SUMMARY:两天
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.capability("w.calendar")
async def test_a_file_of_another_calendar_is_taken_and_what_is_hostile_left_out(
    workspace: Service, office: Any
) -> None:
    name = f"import{uuid4().hex[:6]}"
    client = await office.client_of(await office.hire(name, ["sales_representative"]))
    done = await client.ImportCalendar(content=HOSTILE)
    assert (done.created, done.updated, done.unchanged) == (2, 0, 0)
    assert {(one.uid, one.reason) for one in done.refused} == {
        ("evil-1", "TIME_ZONE_UNKNOWN"), ("evil-2", "TIME_ZONE_UNKNOWN"), ("endless", "RECURRENCE_TOO_LONG"),
        *((uid, "CALENDAR_UNREADABLE") for uid in ("twice", "no-number", "no-day", "too-long")),
    }  # fmt: skip
    found = await dates(client, "2027-11-01", "2027-12-30")
    assert [(one.display_name, one.start_time.ToJsonString(), one.start_date) for one in found] == [
        ("每周, 例会", "2027-11-01T01:00:00Z", ""),
        ("改到晚上", "2027-11-15T01:00:00Z", ""),
        ("两天", "2027-11-30T16:00:00Z", "2027-12-01"),
    ]
    event = await client.GetCalendarEvent(name=found[0].event)
    assert (event.time_zone, event.start, event.end, list(event.attendees)) == (
        "Asia/Shanghai", "2027-11-01T09:00", "2027-11-01T09:45", [],
    )  # fmt: skip
    again = await client.ImportCalendar(content=HOSTILE)
    assert (again.created, again.unchanged) == (0, 2)
    newer = HOSTILE.replace("SEQUENCE:2", "SEQUENCE:3").replace("LOCATION:上海", "LOCATION:北京")
    assert (await client.ImportCalendar(content=newer)).updated == 1
    assert (await client.GetCalendarEvent(name=event.name)).location == "北京"
    for broken in ("", "not a calendar", "BEGIN:VCALENDAR\nBEGIN:VEVENT", "BEGIN:VCARD\nEND:VCARD", "\x00"):
        assert await office.refusal(client.ImportCalendar(content=broken)) in {
            "CALENDAR_UNREADABLE",
            "VALIDATION",
        }


@pytest.mark.capability("w.calendar")
async def test_a_feed_is_read_by_its_secret_until_it_is_deleted(workspace: Service, office: Any) -> None:
    from icalendar import Calendar

    hired = await office.hire(f"feed{uuid4().hex[:6]}", ["sales_representative"])
    client = await office.client_of(hired)
    await client.ImportCalendar(content=HOSTILE)
    feed = await client.CreateCalendarFeed(calendarFeed={"displayName": "手机"})
    secret = feed.path.removeprefix("/feeds/").removesuffix(".ics")
    assert len(secret) >= 40
    assert not (await client.GetCalendarFeed(name=feed.name)).path
    nobody = workspace.client("nobody")
    calendar = Calendar.from_ical((await nobody.ReadCalendarFeed(secret=secret)).content)
    events = calendar.walk("VEVENT")
    assert [(str(e["SUMMARY"]), "RRULE" in e, "RECURRENCE-ID" in e) for e in events if "每周" in e["SUMMARY"] or "晚上" in e["SUMMARY"]] == [
        ("每周, 例会", True, False), ("改到晚上", False, True),
    ]  # fmt: skip
    assert calendar.walk("VTIMEZONE")
    busy = await client.CreateCalendarFeed(calendarFeed={"displayName": "给客户", "detail": "BUSY_TIMES"})
    content = (
        await nobody.ReadCalendarFeed(secret=busy.path.removeprefix("/feeds/").removesuffix(".ics"))
    ).content
    assert "例会" not in content and "上海" not in content and "DTSTART" in content
    assert await office.refusal(nobody.ReadCalendarFeed(secret="x" * 43)) == "NOT_FOUND"
    await client.DeleteCalendarFeed(name=feed.name)
    assert await office.refusal(nobody.ReadCalendarFeed(secret=secret)) == "NOT_FOUND"
    await workspace.admin.FreezeEmployee(name=hired.name, reason="离职前冻结")
    key = f"employee.{hired.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key)["disabled"])
    late = busy.path.removeprefix("/feeds/").removesuffix(".ics")
    assert await office.refusal(nobody.ReadCalendarFeed(secret=late)) == "NOT_FOUND"


async def test_a_planned_visit_stands_in_the_calendar_moves_and_goes(workspace: Service) -> None:
    owner, friend = workspace.person("sales1").employee, workspace.person("manager").employee
    visit = {
        "name": f"visits/{uuid4()}", "owner": owner, "companions": [friend], "account": f"accounts/{uuid4()}",
        "plannedTime": "2027-06-07T06:00:00Z", "durationMinutes": 45, "state": "PLANNED",
    }  # fmt: skip

    async def told(**more: Any) -> None:
        visit.update(more)
        await workspace.tell("crm.sales.v1.VisitPlanned", {"visit": visit}, str(visit["name"]), times=2)

    async def found(client: Any) -> Any:
        return (await client.ListCalendarEvents(filter=f'source = "{visit["name"]}"')).calendar_events

    await told()
    (event,) = await workspace.eventually(lambda: found(workspace.sales1), 30)
    assert (event.start, event.end, event.kind) == (
        "2027-06-07T14:00",
        "2027-06-07T14:45",
        pb.CalendarEvent.VISIT,
    )
    assert [one.name for one in await found(workspace.manager)] == [event.name]
    await told(plannedTime="2027-06-08T01:30:00Z")

    async def moved() -> bool:
        return (await found(workspace.sales1))[0].start == "2027-06-08T09:30"

    await workspace.eventually(moved, 30)
    await told(state="CANCELLED", endReason="客户出差")

    async def gone() -> bool:
        return (await found(workspace.sales1))[0].state == pb.CalendarEvent.CANCELLED

    await workspace.eventually(gone, 30)
    call = {"name": f"calls/{uuid4()}", "agent": owner}
    fact = {"call": call, "agent": owner, "time": "2027-06-09T02:00:00Z", "note": "报价"}
    await workspace.tell("crm.sales.v1.CallbackScheduled", fact, call["name"])

    async def promised() -> Any:
        where = f'source = "{call["name"]}"'
        return (await workspace.sales1.ListCalendarEvents(filter=where)).calendar_events

    (back,) = await workspace.eventually(promised, 30)
    assert (back.display_name, back.end) == ("回拨 报价", "2027-06-09T10:15")
