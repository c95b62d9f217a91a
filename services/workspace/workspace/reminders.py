"""Reminders of events, tasks and notes: each person once for each thing, in the client and by mail."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from crmkit.call import Call
from sqlalchemy import ColumnElement, DateTime, Text, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.base import Base
from workspace.model.calendar import DECLINED, CalendarEvent, CalendarInstance
from workspace.model.notification import NotificationPreference
from workspace.model.task import LIVE, Task, zone_of
from workspace.model.work import Note
from workspace.rules import MISSED
from workspace.telling import Manner, notify

# What is later than this comes as one list.
LATEST = timedelta(hours=24)
FURTHEST = timedelta(days=28)
# Nobody wants to hear after an outage of what was due before.
OLDEST = timedelta(days=30)
TASK_AHEAD = timedelta(minutes=30)
OVERLAP = timedelta(minutes=5)
FIRST_CHANNELS = ("MAIL",)


class ReminderMark(Base):
    """Until when everything that was due has been told."""

    __tablename__ = "reminder_marks"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    covered_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def remind(call: Call) -> None:
    """Reminds of what has become due since the last time, each thing once, however often this runs."""
    mark = (await call.db.scalars(select(ReminderMark).where(ReminderMark.name == "remind"))).one_or_none()
    since = max(mark.covered_time if mark is not None else call.now - LATEST, call.now - OLDEST) - OVERLAP
    await _events(since, call)
    await _tasks(since, call)
    await _notes(since, call)
    row = insert(ReminderMark).values(name="remind", covered_time=call.now)
    await call.db.execute(row.on_conflict_do_update(index_elements=["name"], set_={"covered_time": call.now}))


def _due(moment: Any, changed: Any, since: datetime, call: Call) -> ColumnElement[bool]:
    """What came to be due since then; and what was written since then, though it was due before."""
    return (moment <= call.now) & or_(
        moment > since, (changed > since) & (moment > call.now - LATEST)
    )  # fmt: skip


async def _tasks(since: datetime, call: Call) -> None:
    moment = Task.due_time - TASK_AHEAD
    due = select(Task).where(Task.state.in_(LIVE), _due(moment, Task.update_time, since, call))
    for task in list(await call.db.scalars(due.order_by(Task.due_time))):
        assert task.due_time is not None
        key = f"remind:{task.name}:{task.due_time.isoformat()}"
        zh, en = f"任务即将到期：{task.display_name}", f"Due soon: {task.display_name}"
        await _tell([task.owner, *task.assignees], key, task.name, zh, en, task.due_time - TASK_AHEAD, call)


async def _notes(since: datetime, call: Call) -> None:
    due = select(Note).where(_due(Note.remind_time, Note.update_time, since, call))
    for note in list(await call.db.scalars(due.order_by(Note.remind_time))):
        assert note.remind_time is not None
        key = f"remind:{note.name}:{note.remind_time.isoformat()}"
        zh, en = f"便签提醒：{note.display_name}", f"Note: {note.display_name}"
        await _tell([note.owner], key, note.name, zh, en, note.remind_time, call)


async def _events(since: datetime, call: Call) -> None:
    for at, event, instance in await event_reminders(since, call.now, call):
        title = instance.display_name or event.display_name
        for person in people_of(event):
            wall = recurrence.wall_clock(instance.start_time, await zone_of(person, call))
            key = f"remind:{event.name}:{instance.occurrence}:{at.isoformat()}"
            zh, en = f"日程提醒：{title}（{wall:%m-%d %H:%M}）", f"Reminder: {title} ({wall:%m-%d %H:%M})"
            await _tell([person], key, event.name, zh, en, at, call)


def people_of(event: CalendarEvent) -> list[str]:
    """Who comes to an event."""
    coming = [a.employee for a in event.attendees if a.employee and a.response != DECLINED]
    return list(dict.fromkeys([event.owner, *coming]))


async def event_reminders(
    since: datetime, until: datetime, call: Call
) -> list[tuple[datetime, CalendarEvent, CalendarInstance]]:
    """The reminders of events between two times, and of those written since that are less than a day late."""
    soon = (
        select(CalendarEvent, CalendarInstance)
        .join(CalendarInstance, CalendarInstance.event == CalendarEvent.id)
        .where(CalendarEvent.state == "SCHEDULED", func.jsonb_array_length(CalendarEvent.reminders) > 0)
        .where(
            CalendarInstance.start_time > min(since, until - LATEST),
            CalendarInstance.start_time < until + FURTHEST,
        )
    )
    found: list[tuple[datetime, CalendarEvent, CalendarInstance]] = []
    for event, instance in list(await call.db.execute(soon)):
        first = min(since, until - LATEST) if event.update_time > since else since
        for reminder in event.reminders:
            at = instance.start_time - timedelta(minutes=reminder.minutes)
            if first < at <= until:
                found.append((at, event, instance))
    return found


async def _tell(
    people: Sequence[str], key: str, target: str, zh: str, en: str, due: datetime, call: Call
) -> None:
    """In the client, and by mail where the person has not chosen other ways; what is a day late stands in one list."""
    late = due <= call.now - LATEST
    for person in dict.fromkeys(people):
        wish = await call.find(NotificationPreference, NotificationPreference.owner == person)
        manner = Manner(
            channels=wish.channels if wish is not None and wish.channels else FIRST_CHANNELS, due=due,
            gathers=MISSED if late else None, group=f"missed:{call.now:%Y-%m-%dT%H}" if late else "", digest=late,
        )  # fmt: skip
        await notify(call, [person], "reminder", key, target, zh, en, manner=manner)
