"""Instants reckoned in working time: hours of working days in the company's zone."""

from datetime import datetime, time, timedelta

from crmkit.listing import ZONE
from crmkit.worktime import Unreachable, WorkingTime

OPENS, CLOSES = 9.0, 18.0
FURTHEST = timedelta(days=400)


def later(start: datetime, minutes: float, opens: float = OPENS, closes: float = CLOSES) -> datetime:
    """The instant when so many working minutes have passed since the start; at the latest in 400 days."""
    day = WorkingTime(ZONE, [(int(opens * 60), int(closes * 60))])
    try:
        moment = day.after(start, minutes * 60, FURTHEST)
    except Unreachable:
        moment = datetime.combine(start.astimezone(ZONE).date() + FURTHEST, time.min, ZONE)
    return moment.astimezone(start.tzinfo)
