"""The incumbent: a customer who works with a competitor now."""

from __future__ import annotations

from datetime import date, timedelta

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.resource import Resource
from sales.model.base import Base
from sqlalchemy.orm import Mapped

AHEAD = timedelta(days=180)


class Incumbency(Resource, Base):
    """A customer of a competitor; in good time before their contract ends it is time to win him over."""

    __message__ = pb.Incumbency

    account: Mapped[str]
    competitor: Mapped[str]
    contract_end_date: Mapped[date | None]
    on_attack_list: Mapped[bool]
    listed_for_date: Mapped[date | None]

    async def creating(self, call: Call) -> None:
        """Comes on the list at once where it is time."""
        self.refresh(today(call))

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Another end is another chance."""
        self.refresh(today(call))

    def refresh(self, day: date) -> bool:
        """Settles whether it is on the list; True where it has just come there, once for each end."""
        end = self.contract_end_date
        self.on_attack_list = end is not None and end - AHEAD <= day <= end
        if not self.on_attack_list or self.listed_for_date == end:
            return False
        self.listed_for_date = end
        return True
