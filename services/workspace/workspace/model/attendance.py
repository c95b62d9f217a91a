"""Attendance: punches, what the department's rule says to them, and months that are closed."""

import re
from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import upward
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason, required
from crmkit.mapping import to_timestamp
from crmkit.positions import metres, to_wgs
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, Text, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.attendance_device import content_of, signed
from workspace.model.base import Base
from workspace.model.names import check_names
from workspace.model.task import zone_of

COARSEST_M = 200
MOST_SKEW = timedelta(minutes=5)
FASTEST_M_PER_S = 300 / 3.6
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
KINDS = {"IN": ("上班", "In"), "OUT": ("下班", "Out"), "FIELD": ("外勤", "Field")}


class AttendanceMonth(Base):
    """A month that is closed."""

    __tablename__ = "attendance_months"

    month: Mapped[str] = mapped_column(Text, primary_key=True)
    close_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AttendanceRule(Resource, Base):
    """Where and when the people of a department, and of those beneath it, work."""

    __message__ = pb.AttendanceRule
    __table_args__ = (Index("attendance_rules_department_key", "department_ref", unique=True),)

    display_name: Mapped[str]
    department_ref: Mapped[str]
    sites: Mapped[Any]
    shifts: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """Sites and shifts make sense."""
        await self.updating(call, frozenset())

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Sites and shifts make sense."""
        for index, site in enumerate(self.sites):
            if not 50 <= site.radius_m <= 2000 or abs(site.lat) > 90 or abs(site.lon) > 180:
                raise _wrong(
                    f"attendance_rule.sites[{index}]",
                    "位置无效，或半径不在 50–2000 米",
                    "Radius 50 to 2000 m.",
                )
        for index, shift in enumerate(self.shifts):
            if not re.fullmatch(r"[1-7]{1,7}", shift.weekdays) or not (
                CLOCK.fullmatch(shift.to) and CLOCK.fullmatch(getattr(shift, "from"))
            ):
                raise _wrong(
                    f"attendance_rule.shifts[{index}]", "班次无效", "Give weekdays and times such as 09:00."
                )


class Attendance(Resource, Base):
    """One punch of its owner."""

    __message__ = pb.Attendance
    __table_args__ = (
        Index("attendance_owner_punch_time_index", "owner", "punch_time"),
        Index("attendance_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    punch_time: Mapped[datetime | None]
    server_time: Mapped[datetime | None]
    device_time: Mapped[datetime | None]
    lat: Mapped[float]
    lon: Mapped[float]
    datum: Mapped[str]
    accuracy_m: Mapped[float]
    method: Mapped[str]
    place: Mapped[str]
    photo: Mapped[str]
    offline: Mapped[bool]
    uptime_ms: Mapped[float]
    sent_uptime_ms: Mapped[float]
    signature: Mapped[str]
    device: Mapped[str]
    mock_location: Mapped[bool]
    site: Mapped[str]
    distance_m: Mapped[int]
    verdict: Mapped[str]
    remark: Mapped[str]
    work_day: Mapped[str]
    corrections: Mapped[Any]
    # The fact that it was made of, where it was made of one.
    source: Mapped[str] = mapped_column(Text, server_default=text("''"))

    async def creating(self, call: Call) -> None:
        """Places are kept in WGS84. LOCATION_REQUIRED, LOCATION_IMPRECISE, ATTENDANCE_LOCKED."""
        if not call.caller.is_system:
            self.owner = call.caller.employee
        self.source = self.source or ""
        self.method = self.method or "GPS"
        if self.place:
            check_names([self.place], "attendance.place")
        if self.method == "GPS" and not (self.lat or self.lon):
            raise FailedPrecondition("LOCATION_REQUIRED")
        if abs(self.lat) > 90 or abs(self.lon) > 180:
            raise _wrong("attendance.lat", "位置无效", "There is no such place.")
        if self.method == "GPS" and self.accuracy_m > COARSEST_M:
            raise FailedPrecondition("LOCATION_IMPRECISE", accuracy=round(self.accuracy_m), limit=COARSEST_M)
        if self.offline and (self.device_time is None or not self.signature):
            raise Validation(
                required("attendance.signature" if self.device_time else "attendance.device_time")
            )
        unsigned = await self._check_signature(call) if self.offline else ""
        self.lat, self.lon = to_wgs(self.lat, self.lon, self.datum)
        self.datum, self.server_time = "WGS84", call.now
        self.punch_time = self.device_time if self.offline and self.device_time else call.now
        await self.judge(call)
        if unsigned:
            self.verdict, self.remark = "SUSPECT", unsigned
        await self.check_month(call)
        call.emit(events.AttendanceRecorded, attendance=self)

    async def _check_signature(self, call: Call) -> str:
        """Why the device's signature does not count; a punch is marked for it and never refused."""
        assert self.device_time is not None
        content = content_of(
            self.kind, self.datum or "WGS84", self.device_time, self.lat, self.lon, self.uptime_ms
        )
        return await signed(self.device, self.owner, self.device_time, content, self.signature, call)

    async def judge(self, call: Call) -> None:
        """What clocks, places and the rule say to it. Nothing that is hard to believe is refused; it is marked."""
        assert self.punch_time is not None
        wall = recurrence.wall_clock(self.punch_time, await zone_of(self.owner, call))
        self.work_day = wall.date().isoformat()
        self.display_name = f"{KINDS[self.kind][0]} {wall:%Y-%m-%d %H:%M}"
        self.verdict, self.remark = "NORMAL", ""
        rule = await rule_of(self.owner, call)
        if doubt := await self._doubt(call):
            self.verdict, self.remark = "SUSPECT", doubt
        if rule is not None and rule.sites:
            near = min(rule.sites, key=lambda site: metres((site.lat, site.lon), (self.lat, self.lon)))
            self.site, self.distance_m = (
                near.label,
                round(metres((near.lat, near.lon), (self.lat, self.lon))),
            )
            if (
                self.kind != "FIELD"
                and self.method == "GPS"
                and self.distance_m > near.radius_m
                and self.verdict == "NORMAL"
            ):
                self.verdict, self.remark = "OUTSIDE", f"{self.distance_m} m"
        if rule is not None and self.verdict == "NORMAL":
            self._hold_against(rule, wall)

    def _hold_against(self, rule: AttendanceRule, wall: datetime) -> None:
        shifts = [shift for shift in rule.shifts if str(wall.isoweekday()) in shift.weekdays]
        if not shifts or self.kind == "FIELD":
            return

        def at(clock: str) -> datetime:
            return wall.replace(hour=int(clock[:2]), minute=int(clock[3:]), second=0, microsecond=0)

        flex = timedelta(minutes=max(shift.flex_minutes for shift in shifts))
        if self.kind == "IN" and wall >= min(
            at(getattr(shift, "from")) for shift in shifts
        ) + flex + timedelta(minutes=1):
            self.verdict = "LATE"
        if self.kind == "OUT" and wall < max(at(shift.to) for shift in shifts) - flex:
            self.verdict = "EARLY"

    async def _doubt(self, call: Call) -> str:
        """Why the punch is hard to believe; empty where it is not."""
        assert self.punch_time is not None and self.server_time is not None
        if self.mock_location:
            return "MOCK_LOCATION"
        if self.device_time is not None:
            now = self.device_time
            if self.offline:
                # What the device's clock should show now, by the clock of it that nobody can set.
                now += timedelta(milliseconds=self.sent_uptime_ms - self.uptime_ms)
            if abs(self.server_time - now) > MOST_SKEW:
                return "CLOCK_SKEW"
        if self.method != "GPS":
            return ""
        before = (
            select(Attendance)
            .where(Attendance.owner == self.owner, Attendance.method == "GPS", Attendance.id != self.id)
            .where(Attendance.punch_time <= self.punch_time)
            .order_by(Attendance.punch_time.desc())
        )
        async with call.everybody():
            last = (await call.db.scalars(before.limit(1))).one_or_none()
        if last is None or last.punch_time is None:
            return ""
        way = metres((last.lat, last.lon), (self.lat, self.lon))
        seconds = max((self.punch_time - last.punch_time).total_seconds(), 1.0)
        return "TOO_FAST" if way > 2 * COARSEST_M and way / seconds > FASTEST_M_PER_S else ""

    async def check_month(self, call: Call) -> None:
        """Refuses what belongs to a closed month."""
        month = self.work_day[:7]
        if await call.db.scalar(select(AttendanceMonth.month).where(AttendanceMonth.month == month)):
            raise FailedPrecondition("ATTENDANCE_LOCKED", month=month)

    async def correct(self, time: datetime, reason: str, call: Call) -> None:
        """Says when it really was. What stood there stays readable."""
        check_reason(reason)
        await self.check_month(call)
        assert self.punch_time is not None
        if time > call.now:
            raise _wrong("time", "不能晚于现在", "It cannot be in the future.")
        entry = pb.Attendance.Correction(
            before=to_timestamp(self.punch_time), requester=call.caller.employee, reason=reason, time=to_timestamp(call.now)
        )  # fmt: skip
        self.corrections = [*self.corrections, entry]
        self.punch_time, kept = time, (self.verdict, self.remark)
        await self.judge(call)
        if kept[0] == "SUSPECT":
            self.verdict, self.remark = kept
        await self.check_month(call)


async def rule_of(person: str, call: Call) -> AttendanceRule | None:
    """The rule of the person's department, or of the nearest one above it."""
    for department, _ in upward(call.entry(person).get("department") or "", call):
        rule = await call.find(AttendanceRule, AttendanceRule.department_ref == department)
        if rule is not None:
            return rule
    return None


async def close_month(month: str, call: Call) -> None:
    """Closes a month; a second time changes nothing."""
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", month):
        raise _wrong("month", "格式应为 2026-11", "Write it as 2026-11.")
    row = insert(AttendanceMonth).values(month=month, close_time=call.now)
    await call.db.execute(row.on_conflict_do_nothing())


async def checked_in(visit: dict[str, Any], moment: datetime, call: Call) -> None:
    """A visit that was begun is a field punch, once."""
    person, name = str(visit.get("owner", "")), str(visit.get("name", ""))
    if not person.startswith("employees/") or await call.find(Attendance, Attendance.source == name):
        return
    stamp: dict[str, Any] = visit.get("checkIn") or {}
    place: dict[str, Any] = stamp.get("position") or {}
    punch = Attendance(
        kind="FIELD", owner=person, creator=person, place=name, source=name, device_time=moment, offline=False,
        lat=float(place.get("latitude") or 0), lon=float(place.get("longitude") or 0),
        accuracy_m=float(stamp.get("accuracy") or 0), method="GPS" if place else "MANUAL",
    )  # fmt: skip
    await call.add(punch)
    punch.punch_time = moment
    await punch.judge(call)


def _wrong(field: str, zh: str, en: str) -> Validation:
    return Validation(Violation(field, "WRONG_VALUE", zh, en))
