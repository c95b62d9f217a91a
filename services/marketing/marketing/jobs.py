"""Timed work of marketing."""

from datetime import datetime

from crmkit.call import Call
from crmkit.schedule import cron
from sqlalchemy import select

from marketing.model.segment import Segment


@cron("0 2 * * *", collapse=True)
async def rebuild_segments(as_of: datetime, call: Call) -> None:
    """Works dynamic segments out again: conditions on time come true without any fact."""
    dynamic = select(Segment).where(Segment.kind == "DYNAMIC", Segment.state == "ACTIVE").order_by(Segment.id)
    for segment in (await call.db.scalars(dynamic.with_for_update())).all():
        await segment.rebuild(call)
