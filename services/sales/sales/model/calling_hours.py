"""When a number may be called: by the clock of the place where it rings, on working days, and not too often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
from crmkit.listing import ZONE
from crmkit.workdays import is_working_day
from phonenumbers import timezone

OPENS, CLOSES = 9, 20
# Attempts at one number: so many within seven days, four hours apart.
ATTEMPTS, WITHIN, APART = 3, timedelta(days=7), timedelta(hours=4)
# Provinces by GB/T 2260 where people do not live by Beijing time.
_ZONES = {"65": "Asia/Urumqi", "71": "Asia/Taipei", "81": "Asia/Hong_Kong", "82": "Asia/Macau"}


@dataclass(frozen=True)
class Hours:
    """The hours of a list, from and to, at the place that is called."""

    opens: int = OPENS
    closes: int = CLOSES

    def next_open(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The moment itself where it lies within the hours of a working day, else when the next ones begin."""
        here = moment.astimezone(zone)
        first, last = time(self.opens), timedelta(hours=self.closes)
        for ahead in range(60):
            day = here.date() + timedelta(days=ahead)
            start = datetime.combine(day, first, zone)
            end = datetime.combine(day, time(), zone) + last
            if is_working_day(day) and here < end:
                return max(here, start).astimezone(moment.tzinfo)
        raise LookupError("no working day in sixty days")


def zone_of(number: str, division: str = "") -> ZoneInfo:
    """Where a number rings: at the division that is known of whom it is, else as far as it tells; else where we are."""
    if division:
        return ZoneInfo(_ZONES.get(division[:2], "Asia/Shanghai"))
    try:
        zones = timezone.time_zones_for_number(phonenumbers.parse(number, "CN"))
    except phonenumbers.NumberParseException:
        return ZONE
    return ZoneInfo(zones[0]) if len(zones) == 1 and zones[0] != "Etc/Unknown" else ZONE
