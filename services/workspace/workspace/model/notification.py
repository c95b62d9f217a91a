"""Notifications, and how each person wants to be told."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, cast

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from crmkit.workdays import is_working_day
from sqlalchemy import Index, Table, Text, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.base import Base
from workspace.model.task import zone_of

CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
LONGEST_QUIET = 40
DIGEST_CLOCK = "08:30"
LONGEST_BODY = 4000


class Told(Base):
    """What a person was told in the client: each key once."""

    __tablename__ = "notices_told"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)


class Notification(Resource, Base):
    """Something that one person should know; what is of one group stands together while it is unread."""

    __message__ = pb.Notification
    __table_args__ = (
        Index("notifications_group_index", "owner", "group_key", postgresql_where=text("read_time IS NULL")),
        Index("notifications_unread_index", "owner", postgresql_where=text("read_time IS NULL")),
        Index("notifications_snoozed_index", "snooze_time", postgresql_where=text("snooze_time IS NOT NULL")),
    )

    display_name: Mapped[str]
    body: Mapped[str]
    kind: Mapped[str]
    target: Mapped[str]
    read_time: Mapped[datetime | None]
    dedupe_key: Mapped[str]
    importance: Mapped[str]
    group_key: Mapped[str]
    count: Mapped[int]
    snooze_time: Mapped[datetime | None]
    archive_time: Mapped[datetime | None]
    due_time: Mapped[datetime | None]
    deliveries: Mapped[Any]

    def mark_read(self, call: Call) -> None:
        """Marks it as read; the first time counts."""
        self.read_time, self.snooze_time = self.read_time or call.now, None

    def snooze(self, until: datetime, call: Call) -> None:
        """Puts it off: it is unread again from then on."""
        if not call.now < until < call.now + timedelta(days=366):
            raise Validation(
                Violation(
                    "until", "WRONG_VALUE", "须晚于现在且在一年以内", "It must be later, within a year."
                )
            )
        self.snooze_time, self.read_time = until, None

    def archive(self, call: Call) -> None:
        """Lays it aside, as read."""
        self.mark_read(call)
        self.archive_time = self.archive_time or call.now

    def join(self, title: str, body: str, key: str, call: Call) -> None:
        """Takes a further notice of its group."""
        self.count, self.display_name, self.dedupe_key = max(self.count, 1) + 1, title, key
        self.body, self.snooze_time, self.create_time = body[:LONGEST_BODY], None, call.now


class NotificationPreference(Resource, Base):
    """How its owner wants to be told: one for each."""

    __message__ = pb.NotificationPreference
    __table_args__ = (Index("notification_preferences_owner_key", "owner", unique=True),)

    quiet_from: Mapped[str]
    quiet_to: Mapped[str]
    working_days_only: Mapped[bool]
    muted_kinds: Mapped[list[str]]
    channels: Mapped[list[str]]
    digest: Mapped[bool]
    digest_clock: Mapped[str]
    time_zone: Mapped[str]

    @classmethod
    async def set(cls, wish: pb.SetNotificationPreferenceRequest, call: Call) -> "NotificationPreference":
        """What the caller wants from now on."""
        me = call.caller.employee
        row = await call.find(cls, cls.owner == me, lock=True)
        row = row or await call.add(cls(owner=me, time_zone=await zone_of(me, call)))
        for name in ("quiet_from", "quiet_to", "working_days_only", "digest", "digest_clock"):
            setattr(row, name, getattr(wish, name))
        row.muted_kinds = list(dict.fromkeys(wish.muted_kinds))
        row.channels = [pb.NoticeChannel.Name(way) for way in dict.fromkeys(wish.channels) if way]
        check_clocks(row, "notification_preference", "quiet_from", "quiet_to", "digest_clock")
        return row


def check_clocks(row: Any, path: str, *names: str) -> None:
    """Refuses what is no time of day; both ends of a span are there or none."""
    for name in names:
        value: str = getattr(row, name)
        other = {"quiet_from": "quiet_to", "quiet_to": "quiet_from"}.get(name)
        if (value and not CLOCK.fullmatch(value)) or (not value and other and getattr(row, other)):
            raise Validation(
                Violation(
                    f"{path}.{name}",
                    "WRONG_VALUE",
                    "请填写时刻，如 22:00",
                    "Give a time of day, such as 22:00.",
                )
            )


def quiet_until(
    moment: datetime, zone: str, spans: list[tuple[str, str]], working_days_only: bool
) -> datetime | None:
    """When somebody may be told again; None where that is now."""
    wall = start = recurrence.wall_clock(moment, zone)
    for _ in range(LONGEST_QUIET):
        before = wall
        if working_days_only and not is_working_day(wall.date()):
            wall = datetime.combine(wall.date() + timedelta(days=1), time())
        for first, last in spans:
            if first and last:
                wall = _behind(wall, _clock(first), _clock(last))
        if wall == before:
            break
    return recurrence.instant(wall, zone) if wall != start else None


def _behind(wall: datetime, first: time, last: time) -> datetime:
    """The end of the span that the moment lies in, or the moment itself."""
    now, day = wall.time(), wall.date()
    if first <= last:
        return datetime.combine(day, last) if first <= now < last else wall
    if now >= first:
        return datetime.combine(day + timedelta(days=1), last)
    return datetime.combine(day, last) if now < last else wall


def next_clock(moment: datetime, zone: str, clock: str) -> datetime:
    """The next time that the clock of a zone shows this."""
    wall = recurrence.wall_clock(moment, zone)
    at = datetime.combine(wall.date(), _clock(clock))
    return recurrence.instant(at if at > wall else at + timedelta(days=1), zone)


def _clock(value: str) -> time:
    return time(int(value[:2]), int(value[3:]))


async def put(
    call: Call, owner: str, department: str, key: str, title: str, body: str, told: Mapping[str, Any]
) -> None:
    """Puts a notice into the client of a person, once for a key; beside those of its group that are unread."""
    first = insert(_TOLD).values(owner=owner, key=key).on_conflict_do_nothing().returning(_TOLD.c.key)
    if await call.db.scalar(first) is None:
        return
    unread = select(Notification).where(
        Notification.owner == owner, Notification.group_key == told["group"], Notification.read_time.is_(None)
    )
    gathers: Sequence[str] = told["gathers"]
    known = (
        (await call.db.scalars(unread.with_for_update().limit(1))).one_or_none() if told["group"] else None
    )
    if known is None:
        heading = _gathered(gathers, 1, call, owner)
        await call.add(
            Notification(
                owner=owner, department=department, display_name=heading or title, body=title if heading else body,
                kind=told["kind"], target=told["target"], dedupe_key=key, importance=told["importance"],
                group_key=told["group"], count=1, due_time=datetime.fromisoformat(told["due"]),
            )
        )  # fmt: skip
    else:
        heading = _gathered(gathers, max(known.count, 1) + 1, call, owner)
        known.join(heading or title, f"{known.body}\n{title}" if heading else body, key, call)
    await call.flush()


def _gathered(gathers: Sequence[str], count: int, call: Call, owner: str) -> str:
    if not gathers:
        return ""
    entry = call.entry(owner)
    return gathers[1 if entry.get("locale") == "en" else 0].format(count=count)


_TOLD = cast("Table", Told.__table__)
