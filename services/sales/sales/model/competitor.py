"""The competitor: somebody who sells against us."""

from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.resource import Resource
from sales.model.base import Base
from sqlalchemy.orm import Mapped


class Competitor(Resource, Base):
    """Somebody who sells against us."""

    __message__ = pb.Competitor

    display_name: Mapped[str]
    products: Mapped[Any]
    news: Mapped[Any]
    battle_card: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.state = "ACTIVE"

    def archive(self) -> None:
        """Takes it out of daily work."""
        self.check_state("ACTIVE")
        self.state = "ARCHIVED"

    def unarchive(self) -> None:
        """Takes it back."""
        self.check_state("ARCHIVED")
        self.state = "ACTIVE"
