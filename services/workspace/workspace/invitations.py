"""Tells those who come of an event: ours by a notice, others by mail."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call

from workspace import recurrence
from workspace.model.calendar import CalendarEvent
from workspace.model.work import notify


async def tell(
    told: pb.CalendarEvent,
    removed: Iterable[Any],
    zh: str,
    en: str,
    call: Call,
    occurrence: str = "",
    cancelled: bool = False,
) -> None:
    """Tells each of those who come once per version. The row is read, for facts hide what is not public."""
    event = await call.find(CalendarEvent, CalendarEvent.id == UUID(told.name.partition("/")[2]))
    title = event.display_name if event is not None else told.display_name
    when = occurrence.replace("T", " ") or _when(told)
    coming = [found.employee for found in told.attendees if found.employee and found.employee != told.owner]
    key = f"calendar:{told.name}:{told.sequence}:{occurrence}:{cancelled}"
    await notify(
        call, coming, "calendar", key, told.name, f"{zh}：{title}（{when}）", f"{en}: {title} ({when})"
    )
    gone = [found.employee for found in removed if found.employee]
    key = f"calendar:{told.name}:removed:{told.etag}"
    await notify(
        call, gone, "calendar", key, told.name, f"日程取消：{title}（{when}）", f"Cancelled: {title} ({when})"
    )


def _when(told: pb.CalendarEvent) -> str:
    if told.HasField("start_date"):
        day = told.start_date
        return f"{day.year:04}-{day.month:02}-{day.day:02}"
    return recurrence.parse(told.start, False, "").strftime("%Y-%m-%d %H:%M")
