"""The visit: planned, checked in at the door, and told about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, required
from crmkit.mapping import to_timestamp
from crmkit.positions import Position, metres
from crmkit.resource import Resource
from sales.model.base import HANDOVER, Base
from sqlalchemy.orm import Mapped

FAR, INACCURATE, CLOCK = 500, 200, timedelta(minutes=10)
USUAL_MINUTES = 60


class Visit(Resource, Base):
    """A visit to a customer. What looks odd at a check-in is flagged, never refused."""

    __message__ = pb.Visit

    account: Mapped[str]
    contacts: Mapped[list[str]]
    purpose: Mapped[str]
    planned_time: Mapped[datetime | None]
    duration_minutes: Mapped[int]
    position: Mapped[Any]
    companions: Mapped[list[str]]
    result: Mapped[str]
    check_in: Mapped[Any]
    check_out: Mapped[Any]
    unplanned: Mapped[bool]
    end_reason: Mapped[str]
    review: Mapped[str]
    reviewer: Mapped[str]
    start_time: Mapped[datetime | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the plan: without a time it is now, without a place it is at the customer's."""
        self.state, self.unplanned = "PLANNED", self.planned_time is None
        self.planned_time = self.planned_time or call.now
        if not _known(self.position):
            self.position = await _place_of(self.account, call)
        self._bring_along()
        call.emit(events.VisitPlanned, visit=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a plan changes."""
        if changed <= HANDOVER:
            return
        self.check_state("PLANNED")
        self._bring_along()
        call.emit(events.VisitPlanned, visit=self)

    def arrive(self, request: pb.CheckInVisitRequest, call: Call) -> None:
        """Checks in; the same device twice is one check-in."""
        if self.check_in and self.check_in.device:
            if self.check_in.device == request.device:
                return
            raise FailedPrecondition("ALREADY_CHECKED_IN")
        self.check_state("PLANNED", "MISSED")
        if not _known(request.position) and not request.no_position_reason.strip():
            raise Validation(required("no_position_reason"))
        self.check_in = self._stamp(request, call)
        self.check_in.photo, self.check_in.no_position_reason = request.photo, request.no_position_reason
        self.state, self.start_time = "CHECKED_IN", call.now
        call.emit(events.VisitCheckedIn, visit=self)

    def complete(self, request: pb.CompleteVisitRequest, call: Call) -> None:
        """Ends it; somebody must say what came of it."""
        self.check_state("CHECKED_IN", "PLANNED")
        if not request.result.strip():
            raise FailedPrecondition("RESULT_MISSING")
        self.check_out, self.result, self.state = (
            self._stamp(request, call),
            request.result.strip(),
            "COMPLETED",
        )
        self.start_time = self.start_time or call.now
        call.emit(events.VisitCompleted, visit=self)

    def cancel(self, reason: str, call: Call) -> None:
        """Calls it off."""
        self.check_state("PLANNED")
        self.state, self.end_reason = "CANCELLED", reason
        call.emit(events.VisitPlanned, visit=self)

    def miss(self) -> None:
        """Nobody checked in that day."""
        self.check_state("PLANNED")
        self.state = "MISSED"

    def comment(self, review: str, call: Call) -> None:
        """What the superior says."""
        self.check_state("COMPLETED", "MISSED")
        self.review, self.reviewer = review, call.caller.employee

    def _bring_along(self) -> None:
        self.collaborators = list(dict.fromkeys([*self.collaborators, *self.companions]))

    def _stamp(self, request: Any, call: Call) -> Any:
        stamp = pb.Visit.Stamp(
            device=request.device, accuracy=request.accuracy, server_time=to_timestamp(call.now)
        )
        if request.HasField("device_time"):
            stamp.device_time.CopyFrom(request.device_time)
            if abs(request.device_time.ToDatetime(call.now.tzinfo) - call.now) > CLOCK:
                stamp.flags.append("CLOCK")
        if not _known(request.position):
            stamp.flags.append("NO_POSITION")
            return stamp
        stamp.position.CopyFrom(request.position)
        if request.accuracy > INACCURATE:
            stamp.flags.append("INACCURATE")
        if _known(self.position):
            stamp.distance = round(metres(_at(self.position), _at(request.position)))
            if stamp.distance > FAR:
                stamp.flags.append("FAR")
        return stamp


def _at(position: Any) -> Position:
    return position.latitude, position.longitude


def route(visits: Sequence[Visit], start: Any) -> pb.PlanVisitRouteResponse:
    """The way by the nearest neighbour; who has no place comes last."""
    placed = [visit for visit in visits if _known(visit.position)]
    reply, here = pb.PlanVisitRouteResponse(), start if _known(start) else None
    while placed:
        at = here
        nearest = min(
            placed,
            key=lambda visit: (
                metres(_at(at), _at(visit.position)) if at is not None else 0,
                visit.planned_time,
            ),
        )
        placed.remove(nearest)
        distance = round(metres(_at(here), _at(nearest.position))) if here is not None else 0
        reply.stops.add(visit=nearest.name, distance=distance)
        reply.distance += distance
        here = nearest.position
    for visit in visits:
        if not _known(visit.position):
            reply.stops.add(visit=visit.name)
    reply.conflicts.extend(_conflicts(visits))
    return reply


def _conflicts(visits: Sequence[Visit]) -> list[str]:
    """Pairs whose times overlap and that somebody would have to be at both of."""
    found: list[str] = []
    ordered = sorted(
        (visit for visit in visits if visit.planned_time), key=lambda visit: (visit.planned_time, visit.name)
    )
    for place, one in enumerate(ordered):
        end = one.planned_time + timedelta(minutes=one.duration_minutes or USUAL_MINUTES)  # type: ignore[operator]
        found += [
            f"{one.name} {other.name}"
            for other in ordered[place + 1 :]
            if other.planned_time < end and not _people(one).isdisjoint(_people(other))  # type: ignore[operator]
        ]
    return found


def _people(visit: Visit) -> set[str]:
    return {visit.owner, *(visit.companions or ())}


async def _place_of(account: str, call: Call) -> Any:
    """Where the customer is, where that is known."""
    known = await call.copy(account) or {}
    for address in known.get("addresses", []):
        if "latitude" in address and "longitude" in address:
            return pb.Visit.Position(latitude=address["latitude"], longitude=address["longitude"])
    return None


def _known(position: Any) -> bool:
    return bool(position and (position.latitude or position.longitude))
