"""The clocks of a ticket: how much of a promised time is used, and when it is over. Plain functions of time."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from crm.servicedesk.v1 import pb
from crmkit.mapping import to_timestamp
from crmkit.worktime import WorkingTime

Clock = pb.Ticket.Clock


def started(kind: str, minutes: int, now: datetime, work: WorkingTime, warn_percent: int) -> pb.Ticket.Clock:
    """A clock that runs from now on."""
    clock = Clock(kind=kind, target_minutes=minutes, warn_percent=warn_percent, state="RUNNING")
    return _due(clock, now, work)


def moved(clock: pb.Ticket.Clock, state: str, now: datetime, work: WorkingTime) -> pb.Ticket.Clock:
    """The clock as it goes on in another state: what it used so far is settled, what is left counts from now."""
    found = Clock()
    found.CopyFrom(clock)
    if clock.state == "RUNNING":
        found.consumed_seconds += work.between(instant(clock.since_time), now)
    found.state = state
    if state == "DONE":
        found.in_minutes = found.consumed_seconds // 60
        found.diff_minutes = found.target_minutes - found.in_minutes
    return _due(found, now, work)


def retargeted(
    clock: pb.Ticket.Clock, minutes: int, now: datetime, work: WorkingTime, warn_percent: int
) -> pb.Ticket.Clock:
    """The clock with another promise, counted from its beginning; a breach that the new promise undoes is undone."""
    found = Clock()
    found.CopyFrom(clock)
    found.target_minutes, found.warn_percent = minutes, warn_percent
    found = moved(found, clock.state, now, work)
    found.breached = clock.breached and found.consumed_seconds >= minutes * 60
    found.warned = clock.warned and found.consumed_seconds >= minutes * 60 * warn_percent // 100
    return found


def next_escalation(clocks: Iterable[pb.Ticket.Clock]) -> datetime | None:
    """When the first warning or breach of a running clock is due."""
    due = [instant(c.warn_time) for c in clocks if c.state == "RUNNING" and not c.warned and not c.breached]
    due += [instant(c.due_time) for c in clocks if c.state == "RUNNING" and not c.breached]
    return min(due, default=None)


def instant(stamp: object) -> datetime:
    """A timestamp as instant."""
    return stamp.ToDatetime(UTC)  # type: ignore[attr-defined]


def _due(clock: pb.Ticket.Clock, now: datetime, work: WorkingTime) -> pb.Ticket.Clock:
    """Completes a clock: its due times are those of running from now on, paused or not."""
    clock.since_time.CopyFrom(to_timestamp(now))
    target = clock.target_minutes * 60
    for stamp, seconds in ((clock.due_time, target), (clock.warn_time, target * clock.warn_percent // 100)):
        left = seconds - clock.consumed_seconds
        if left > 0:
            stamp.CopyFrom(to_timestamp(work.after(now, left)))
        elif not stamp.seconds or instant(stamp) > now:
            # Used up by a promise made shorter: due this very moment.
            stamp.CopyFrom(to_timestamp(now - timedelta(seconds=1)))
    return clock
