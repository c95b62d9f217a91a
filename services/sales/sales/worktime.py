"""Instants reckoned in working time: hours of working days in the company's zone."""

from datetime import datetime, time, timedelta

from crmkit.listing import ZONE
from crmkit.workdays import is_working_day

OPENS, CLOSES = 9.0, 18.0
FURTHEST = 400


def later(start: datetime, minutes: float, opens: float = OPENS, closes: float = CLOSES) -> datetime:
    """The instant when so many working minutes have passed since the start."""
    moment, left = start.astimezone(ZONE), timedelta(minutes=minutes)
    for _ in range(FURTHEST):
        day = moment.date()
        first, last = (datetime.combine(day, time.min, ZONE) + timedelta(hours=h) for h in (opens, closes))
        moment = max(moment, first)
        if is_working_day(day) and moment < last:
            if moment + left <= last:
                return (moment + left).astimezone(start.tzinfo)
            left -= last - moment
        moment = datetime.combine(day + timedelta(days=1), time.min, ZONE)
    return moment.astimezone(start.tzinfo)
