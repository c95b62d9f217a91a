"""Reminders of events, tasks and notes: one notice for each person and thing, and a mail where one can be sent."""

from datetime import timedelta
from uuid import UUID

from crmkit.call import Call
from sqlalchemy import func, select

from workspace import mail, recurrence
from workspace.model.calendar import DECLINED, CalendarEvent, CalendarInstance
from workspace.model.employee import Employee
from workspace.model.task import LIVE, Task, zone_of
from workspace.model.work import Note, notify

LATEST = timedelta(hours=24)
FURTHEST = timedelta(days=28)
TASK_AHEAD = timedelta(minutes=30)
AT_ONCE = 500


async def remind(call: Call) -> None:
    """Reminds of what has become due within a day; what is older is past. Each thing once, however often this runs."""
    await _events(call)
    due = select(Task).where(
        Task.state.in_(LIVE), Task.due_time <= call.now + TASK_AHEAD, Task.due_time > call.now - LATEST
    )
    for task in list(await call.db.scalars(due.limit(AT_ONCE))):
        key = f"remind:{task.name}:{task.due_time.isoformat() if task.due_time else ''}"
        zh, en = f"任务即将到期：{task.display_name}", f"Due soon: {task.display_name}"
        for person in dict.fromkeys([task.owner, *task.assignees]):
            await _tell(person, key, task.name, zh, en, call)
    notes = select(Note).where(Note.remind_time <= call.now, Note.remind_time > call.now - LATEST)
    for note in list(await call.db.scalars(notes.limit(AT_ONCE))):
        key = f"remind:{note.name}:{note.remind_time.isoformat() if note.remind_time else ''}"
        await _tell(
            note.owner, key, note.name, f"便签提醒：{note.display_name}", f"Note: {note.display_name}", call
        )


async def _events(call: Call) -> None:
    """Reminders of the dates to come. The largest lead is four weeks."""
    soon = (
        select(CalendarEvent, CalendarInstance)
        .join(CalendarInstance, CalendarInstance.event == CalendarEvent.id)
        .where(CalendarEvent.state == "SCHEDULED", func.jsonb_array_length(CalendarEvent.reminders) > 0)
        .where(
            CalendarInstance.start_time > call.now - LATEST, CalendarInstance.start_time < call.now + FURTHEST
        )
    )
    for event, instance in list(await call.db.execute(soon.limit(20 * AT_ONCE))):
        coming = [a.employee for a in event.attendees if a.employee and a.response != DECLINED]
        for reminder in event.reminders:
            at = instance.start_time - timedelta(minutes=reminder.minutes)
            if not call.now - LATEST < at <= call.now:
                continue
            title = instance.display_name or event.display_name
            for person in dict.fromkeys([event.owner, *coming]):
                wall = recurrence.wall_clock(instance.start_time, await zone_of(person, call))
                key = f"remind:{event.name}:{instance.occurrence}:{at.isoformat()}"
                zh, en = f"日程提醒：{title}（{wall:%m-%d %H:%M}）", f"Reminder: {title} ({wall:%m-%d %H:%M})"
                await _tell(person, key, event.name, zh, en, call)


async def _tell(person: str, key: str, target: str, zh: str, en: str, call: Call) -> None:
    """In the client, and by mail to whoever has an address; each once."""
    await notify(call, [person], "reminder", key, target, zh, en)
    row = await call.find(
        Employee, Employee.id == UUID(person.rpartition("/")[2]), Employee.state == "ACTIVE"
    )
    if row is not None and row.email:
        title = en if row.locale == "en" else zh
        await mail.send(call, f"{key}:{person}:MAIL", row.email, title, title)
