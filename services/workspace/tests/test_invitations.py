"""Invitations and their answers by mail, over real mail servers; reminders that come once."""

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.errors import InvalidArgument
from crmkit.testing import Service
from icalendar import Calendar
from sqlalchemy import text
from workspace import jobs, mail, reminders, replies


def meeting(address: str, day: str, **more: Any) -> dict[str, Any]:
    return {
        "displayName": "方案评审", "start": f"{day}T10:00", "end": f"{day}T11:00", "location": "上海",
        "attendees": [{"email": address, "displayName": "王客户"}], "acceptConflicts": True, **more,
    }  # fmt: skip


def calendar_of(message: Any) -> Any:
    part = next(part for part in message.walk() if part.get_content_type() == "text/calendar")
    return Calendar.from_ical(part.get_content()), part["Content-Type"].params["method"]


def reply(event: Any, address: str, answer: str, sender: str = "", sequence: int | None = None) -> bytes:
    """The mail by which a calendar program answers."""
    content = f"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Test//EN
METHOD:REPLY
BEGIN:VEVENT
UID:{event.uid}
SEQUENCE:{event.sequence if sequence is None else sequence}
DTSTAMP:20261122T000000Z
DTSTART:20270301T020000Z
ATTENDEE;PARTSTAT={answer}:mailto:{address}
COMMENT:好的
END:VEVENT
END:VCALENDAR
"""
    head = f"From: {sender or address}\nTo: calendar@guanxi.example\nSubject: Re\nMIME-Version: 1.0\n"
    return (head + 'Content-Type: text/calendar; method=REPLY; charset="utf-8"\n\n' + content).encode()


async def test_who_is_outside_is_invited_moved_and_cancelled_by_mail_once(
    workspace: Service, postbox: Any
) -> None:
    address = f"wang{uuid4().hex[:8]}@example.com"
    event = await workspace.sales1.CreateCalendarEvent(
        calendarEvent=meeting(address, "2027-03-15", agenda="看样品")
    )
    (invited,) = await workspace.eventually(lambda: postbox.of(address))
    calendar, method = calendar_of(invited)
    (component,) = calendar.walk("VEVENT")
    assert (method, str(calendar["METHOD"]), str(component["UID"])) == ("REQUEST", "REQUEST", event.uid)
    assert (
        str(component["ATTENDEE"]) == f"mailto:{address}"
        and str(component["ORGANIZER"]) == "mailto:calendar@guanxi.example"
    )
    assert component["DTSTART"].dt.isoformat() == "2027-03-15T10:00:00+08:00"
    assert invited["Subject"] == "日程邀请 / Invitation: 方案评审 (2027-03-15 10:00)"
    await workspace.sales1.MoveCalendarEvent(
        name=event.name, start="2027-03-16T14:00", end="2027-03-16T15:00", acceptConflicts=True
    )
    await workspace.eventually(lambda: len(postbox.of(address)) == 2)
    moved, method = calendar_of(postbox.of(address)[1])
    assert (method, int(moved.walk("VEVENT")[0]["SEQUENCE"])) == ("REQUEST", 1)
    await workspace.sales1.CancelCalendarEvent(name=event.name)
    await workspace.eventually(lambda: len(postbox.of(address)) == 3)
    gone, method = calendar_of(postbox.of(address)[2])
    assert (method, str(gone.walk("VEVENT")[0]["STATUS"])) == ("CANCEL", "CANCELLED")


async def test_an_answer_counts_from_whom_it_comes_and_for_the_newest_version(workspace: Service) -> None:
    address = f"li{uuid4().hex[:8]}@example.com"
    event = await workspace.sales1.CreateCalendarEvent(calendarEvent=meeting(address, "2027-03-22"))

    async def answered(raw: bytes) -> int:
        async with workspace.running.call("test", system("workspace")) as call:
            await replies.receive(raw, call)
        return (await workspace.sales1.GetCalendarEvent(name=event.name)).attendees[0].response

    assert (
        await answered(reply(event, address, "ACCEPTED", sender="evil@example.com"))
        == pb.CalendarEvent.NEEDS_ACTION
    )
    assert await answered(reply(event, "other@example.com", "ACCEPTED")) == pb.CalendarEvent.NEEDS_ACTION
    for _ in range(2):
        assert await answered(reply(event, address, "ACCEPTED")) == pb.CalendarEvent.ACCEPTED
    found = await workspace.sales1.GetCalendarEvent(name=event.name)
    assert (found.attendees[0].comment, found.etag) == ("好的", "2")
    moved = await workspace.sales1.MoveCalendarEvent(
        name=event.name, start="2027-03-23T14:00", end="2027-03-23T15:00", acceptConflicts=True
    )
    assert await answered(reply(moved, address, "DECLINED", sequence=0)) == pb.CalendarEvent.NEEDS_ACTION
    assert await answered(reply(moved, address, "DECLINED")) == pb.CalendarEvent.DECLINED
    good = reply(moved, address, "ACCEPTED")
    for broken in (
        b"", b"From: x\n\nhello", b"From: x\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR",
        good.replace(b"SEQUENCE:", b"SEQUENCE:x"), good.replace(b"SEQUENCE:", b"SEQUENCE:7\nSEQUENCE:"),
        good.replace(b"BEGIN:VEVENT\n", b"BEGIN:VEVENT\n" * 3000), good.replace(b"SEQUENCE:", b"SEQUENCE:-"),
    ):  # fmt: skip
        # The mailbox is read on behind a mail that is refused by name; anything else would come up again and again.
        with suppress(InvalidArgument):
            await answered(broken)


@pytest.mark.capability("w.calendar")
async def test_who_is_outside_answers_by_mail_and_the_answer_stands_with_the_event(
    workspace: Service, postbox: Any, dovecot: tuple[str, Path]
) -> None:
    """The invitation leaves by a mail server, its answer comes by another one that our job reads."""
    url, inbox = dovecot
    address = f"zhao{uuid4().hex[:8]}@example.com"
    event = await workspace.sales1.CreateCalendarEvent(calendarEvent=meeting(address, "2027-03-29"))
    (invited,) = await workspace.eventually(lambda: postbox.of(address), 30)
    calendar, _ = calendar_of(invited)
    (asked,) = calendar.walk("VEVENT")
    # The guest's program answers to the organizer of the invitation with what it was sent.
    answer = reply(event, address, "ACCEPTED").replace(event.uid.encode(), str(asked["UID"]).encode())
    assert f"To: {asked['ORGANIZER'].removeprefix('mailto:')}".encode() in answer
    for number, raw in enumerate((b"From: a@b\nSubject: no calendar\n\nhello", answer)):
        path = inbox / f"{number}.test"
        path.write_bytes(raw)
        os.chown(path, 65534, 65534)
    settings = workspace.running.settings
    workspace.running.settings = settings.model_copy(update={"imap_url": url})
    try:
        for _ in range(2):
            async with workspace.running.call("test", system("workspace")) as call:
                await jobs.read_replies(call.now, call)
    finally:
        workspace.running.settings = settings
    found = await workspace.sales1.GetCalendarEvent(name=event.name)
    assert (found.attendees[0].response, found.etag) == (pb.CalendarEvent.ACCEPTED, "2")
    # The mailbox is read twice a minute.
    once = jobs.read_replies.after(datetime(2026, 11, 22, tzinfo=UTC))
    assert jobs.read_replies.after(once) - once <= timedelta(seconds=30)


async def test_a_mail_is_tried_again_until_the_server_takes_it_and_never_sent_twice(
    workspace: Service, postbox: Any
) -> None:
    address = f"retry{uuid4().hex[:8]}@example.com"
    postbox.answer = "451 later"
    try:
        await workspace.sales1.CreateCalendarEvent(calendarEvent=meeting(address, "2027-04-05"))

        async def state() -> Any:
            async with workspace.running.sessions() as session:
                found = await session.execute(
                    text("SELECT id, state, attempts FROM mails WHERE recipient = :to"), {"to": address}
                )
                return found.one_or_none()

        async def waiting() -> bool:
            row = await state()
            return row is not None and row.state == "WAITING"

        await workspace.eventually(waiting)
    finally:
        postbox.answer = ""
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            call.now = datetime.now(UTC) + timedelta(minutes=1)
            await mail.start_waiting(call)
    await workspace.eventually(lambda: postbox.of(address))
    await asyncio.sleep(0.5)
    assert len(postbox.of(address)) == 1

    # The process dies in the midst of sending: the run is taken up again and the mail is not sent again.
    row = await state()
    async with workspace.running.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE bulk_runs SET state = 'RUNNING', phase = 'SENDING', lease_until = clock_timestamp() WHERE about = :id"
            ),
            {"id": str(row.id)},
        )

    async def unknown() -> bool:
        return (await state()).state == "UNKNOWN"

    await workspace.eventually(unknown)
    assert len(postbox.of(address)) == 1


async def test_people_are_reminded_once_in_the_client_and_by_mail(
    workspace: Service, office: Any, postbox: Any
) -> None:
    address = f"me{uuid4().hex[:8]}@guanxi.example"
    client = await office.client_of(
        await office.hire(f"remind{uuid4().hex[:8]}", ["sales_representative"], email=address)
    )
    soon = datetime.now(UTC) + timedelta(minutes=10)
    wall = (soon + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M")
    end = (soon + timedelta(hours=9)).strftime("%Y-%m-%dT%H:%M")
    event = await client.CreateCalendarEvent(
        calendarEvent={
            "displayName": "电话会",
            "start": wall,
            "end": end,
            "reminders": [{"minutes": 15}, {"minutes": 5}],
        }
    )
    task = await client.CreateTask(
        task={"displayName": "交方案", "dueTime": soon.isoformat().replace("+00:00", "Z")}
    )
    note = await client.CreateNote(note={"displayName": "买花", "remindTime": "2026-11-01T00:00:00Z"})
    now = datetime.now(UTC) - timedelta(seconds=1)
    late = await client.CreateNote(
        note={"displayName": "取样品", "remindTime": now.isoformat().replace("+00:00", "Z")}
    )
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await reminders.remind(call)
    found = (await client.ListNotifications(filter='kind = "reminder"')).notifications
    assert sorted(one.target for one in found) == sorted([event.name, task.name, late.name])
    assert note.name not in {one.target for one in found}
    await workspace.eventually(lambda: len(postbox.of(address)) == 3)
    await asyncio.sleep(0.3)
    assert len(postbox.of(address)) == 3
