"""Queues: where tickets of one kind wait, and who takes them."""

from crm.servicedesk.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource
from servicedesk.model.base import Base
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

DAYS = 7


class Queue(Resource, Base):
    """A queue. At most one is the default."""

    __message__ = pb.Queue
    __table_args__ = (
        Index("queues_default_key", "is_default", unique=True, postgresql_where=text("is_default")),
    )

    members: Mapped[list[str]]
    is_default: Mapped[bool]
    reopen_days: Mapped[int]
    close_days: Mapped[int]
    web_callbacks: Mapped[bool]

    def check_member(self, employee: str) -> None:
        """Refuses people from outside; a queue without members takes everybody."""
        if self.members and employee not in self.members:
            raise FailedPrecondition("NOT_QUEUE_MEMBER")

    async def creating(self, call: Call) -> None:
        """A queue sees the department that it is made for, or its maker's."""
        self.reopen_days, self.close_days = self.reopen_days or DAYS, self.close_days or DAYS
