"""Timed work of the billing service."""

from datetime import datetime, timedelta

from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.mapping import read_date
from crmkit.schedule import cron
from sqlalchemy import select

from billing.model.plan import PaymentPlan, Trigger
from billing.sources import draft_instalment

AT_ONCE = 5000
# An instalment of a date is drafted on that date; its due date lies so much later at most.
LONGEST_TERMS = 120


@cron("10 0 * * *")
async def follow_instalments(as_of: datetime, call: Call) -> None:
    """Instalments become due and overdue, and those of a date are drafted; comparing states, a second run finds none."""
    day = as_of.astimezone(ZONE).date()
    reach = day + timedelta(days=LONGEST_TERMS)
    statement = (
        select(PaymentPlan)
        .where(PaymentPlan.state == "ACTIVE", PaymentPlan.next_due <= reach)
        .order_by(PaymentPlan.next_due)
        .limit(AT_ONCE)
    )
    for plan in await call.db.scalars(statement.with_for_update(skip_locked=True)):
        for part in plan.instalments:
            reached = read_date(part.date)
            if part.trigger == Trigger.DATE and reached is not None and reached <= day:
                await draft_instalment(plan, part.key, call)
        plan.follow(call, day)
