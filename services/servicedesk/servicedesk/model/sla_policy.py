"""Service levels: what is promised for which tickets, in whose working time."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from crm.servicedesk.v1 import pb
from crmkit import filters
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument
from crmkit.filters import FilterError
from crmkit.listing import ZONE, filter_fields
from crmkit.resource import Resource
from crmkit.worktime import Unreachable, Window, WorkingTime, minutes_of
from servicedesk.model.base import Base
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

WINDOWS: tuple[Window, ...] = ((9 * 60, 18 * 60),)
WARN_PERCENT = 80
LONGEST = 525_600
STANDARD = {
    "P1": (30, 240), "P2": (60, 540), "P3": (240, 1620), "P4": (540, 2700),
}  # fmt: skip


class SlaPolicy(Resource, Base):
    """What is promised for the tickets that fit its condition. The active one with the lowest order counts."""

    __message__ = pb.SlaPolicy
    __table_args__ = (
        Index("sla_policies_order_key", "order", unique=True, postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    order: Mapped[int]
    condition: Mapped[str]
    time_zone: Mapped[str]
    calendar: Mapped[str]
    windows: Mapped[Any]
    targets: Mapped[Any]
    warn_percent: Mapped[int]
    state: Mapped[str]

    @classmethod
    def standard(cls) -> "SlaPolicy":
        """What an installation promises until it says something else."""
        kinds = ("FIRST_RESPONSE", "SOLUTION")
        targets = [
            pb.SlaPolicy.Target(priority=priority, clock=kind, minutes=minutes)
            for priority, promised in STANDARD.items()
            for kind, minutes in zip(kinds, promised, strict=True)
        ]
        return cls(display_name="标准服务级别", order=1000, targets=targets, owner="")

    def working_time(self) -> WorkingTime:
        """The working time in which it promises."""
        windows = [(minutes_of(getattr(w, "from")), minutes_of(w.to)) for w in self.windows] or WINDOWS
        return WorkingTime(ZoneInfo(self.time_zone), tuple(windows), self.calendar == "CHINA")

    def promised(self, priority: str) -> dict[str, int]:
        """Minutes by kind of clock for tickets of the priority."""
        wanted = pb.Ticket.Priority.Value(priority)
        return {pb.SlaPolicy.ClockKind.Name(t.clock): t.minutes for t in self.targets if t.priority == wanted}

    def fits(self, ticket: dict[str, Any], now: datetime) -> bool:
        """True where the condition holds for the ticket as JSON."""
        if not self.condition.strip():
            return True
        return filters.matches(_bound(self.condition), ticket, me="", now=now, zone=ZONE)

    async def creating(self, call: Call) -> None:
        """Completes a draft and refuses what could never be reckoned with."""
        self.state = "DRAFT"
        self.time_zone = self.time_zone or ZONE.key
        self.calendar = self.calendar or "CHINA"
        self.warn_percent = min(self.warn_percent or WARN_PERCENT, 100)
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A draft changes freely; what is in force is retired and written anew, so that clocks keep their promise."""
        if changed - {"owner", "department", "collaborators", "custom", "display_name"}:
            self.check_state("DRAFT")
        self._check(call)

    async def deleting(self, call: Call) -> None:
        """Only a draft may go; tickets follow the others."""
        self.check_state("DRAFT")

    def activate(self) -> None:
        """Puts it into force for new tickets."""
        self.check_state("DRAFT")
        if not self.targets:
            raise FailedPrecondition("SLA_EMPTY")
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def due(self, start: datetime, minutes: int) -> datetime:
        """When so many working minutes from the start are over."""
        try:
            return self.working_time().after(start, minutes * 60)
        except Unreachable:
            raise FailedPrecondition("DEADLINE_UNREACHABLE") from None

    def _check(self, call: Call) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise InvalidArgument("TIME_ZONE_UNKNOWN") from None
        end = 0
        try:
            for opens, closes in ((minutes_of(getattr(w, "from")), minutes_of(w.to)) for w in self.windows):
                if opens < end or opens >= closes:
                    raise ValueError
                end = closes
        except ValueError:
            raise InvalidArgument("CALENDAR_WINDOW_INVALID") from None
        if self.condition.strip():
            try:
                _bound(self.condition)
            except FilterError as error:
                detail = call.text(error.detail_zh, error.detail_en)
                raise InvalidArgument(
                    "RULE_CONDITION_INVALID", position=error.position + 1, detail=detail
                ) from None
        for target in self.targets:
            if target.minutes > LONGEST:
                raise FailedPrecondition("DEADLINE_UNREACHABLE")
            self.due(call.now, target.minutes)


def _bound(condition: str) -> filters.Node:
    """The condition, bound to the fields of a ticket."""
    from servicedesk.model.ticket import Ticket

    return filters.bind(filters.parse(condition), filter_fields(Ticket))
