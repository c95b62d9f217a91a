"""What is agreed with the partners that orders come by, as workspace tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from crmkit.call import Call
from crmkit.tables import Copy
from sqlalchemy import select


@dataclass(frozen=True)
class Agreement:
    """One partnership of a company."""

    name: str
    active: bool
    start_date: date | None
    end_date: date | None

    def in_force(self, day: date) -> bool:
        """Whether it counts on a day: after its last one it does not, though nobody has ended it."""
        begun = self.start_date is None or self.start_date <= day
        return self.active and begun and (self.end_date is None or day <= self.end_date)


async def agreement_with(account: str, call: Call) -> Agreement | None:
    """The last agreement with a company, as it has one at a time; None where nothing was ever agreed."""
    if not account:
        return None
    told = select(Copy.name, Copy.payload).where(
        Copy.collection == "partners", ~Copy.deleted, Copy.payload["account"].astext == account
    )
    # Names of records rise with the time at which they were made.
    found = (await call.db.execute(told.order_by(Copy.name.desc()).limit(1))).one_or_none()
    if found is None:
        return None
    name, payload = found
    return Agreement(
        name, payload.get("state") == "ACTIVE", _day(payload.get("startDate")), _day(payload.get("endDate"))
    )


def _day(told: dict[str, Any] | None) -> date | None:
    return date(told["year"], told["month"], told["day"]) if told and told.get("year") else None
