"""Timed work of the service desk."""

from datetime import datetime, timedelta

from crmkit.call import Call
from crmkit.schedule import every
from sqlalchemy import func, select

from servicedesk.model.queue import DAYS, Queue
from servicedesk.model.sla_policy import SlaPolicy
from servicedesk.model.ticket import PAGES_DAYS, Ticket

BATCH = 200


async def seed_standard_policy(call: Call) -> None:
    """A fresh installation promises something until it says what."""
    if await call.find(SlaPolicy) is None:
        policy = await call.add(SlaPolicy.standard())
        policy.activate()


@every("10s", collapse=True)
async def escalate(as_of: datetime, call: Call) -> None:
    """Tells the warnings and breaches that are due; the rest of a long queue follows ten seconds later."""
    due = select(Ticket).where(Ticket.next_escalation_time <= as_of).order_by(Ticket.next_escalation_time)
    for ticket in await call.db.scalars(due.limit(BATCH).with_for_update(of=Ticket, skip_locked=True)):
        ticket.escalate(as_of, call)


@every("1h", collapse=True)
async def close_resolved(as_of: datetime, call: Call) -> None:
    """Closes tickets whose solution nobody has refused for the days of their queue."""
    queues = {queue.name: queue.close_days for queue in await call.db.scalars(select(Queue))}
    soonest = min([*queues.values(), DAYS])
    resolved = (
        select(Ticket)
        .where(Ticket.state == "RESOLVED", Ticket.resolve_time <= as_of - timedelta(days=soonest))
        .order_by(Ticket.resolve_time)
    )
    for ticket in await call.db.scalars(resolved.limit(BATCH).with_for_update(of=Ticket, skip_locked=True)):
        days = queues.get(ticket.queue, DAYS)
        if ticket.resolve_time and ticket.resolve_time <= as_of - timedelta(days=days):
            await ticket.close(call)


@every("1h", collapse=True)
async def forget_pages(as_of: datetime, call: Call) -> None:
    """What visitors looked at is kept for thirty days."""
    old = select(Ticket).where(
        Ticket.type == "CALLBACK", func.jsonb_array_length(Ticket.pages) > 0,
        Ticket.create_time <= as_of - timedelta(days=PAGES_DAYS),
    )  # fmt: skip
    for ticket in await call.db.scalars(old.order_by(Ticket.id).limit(BATCH).with_for_update(of=Ticket)):
        ticket.pages = []
