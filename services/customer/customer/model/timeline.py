"""The time line: every fact about an account, in order of occurrence."""

from datetime import datetime
from typing import Any

from crm.customer.v1 import pb
from crmkit.auth import Caller
from crmkit.resource import Resource
from crmkit.values import Money
from customer.model.base import Base
from sqlalchemy import ColumnElement, Index
from sqlalchemy.orm import Mapped


class TimelineEntry(Resource, Base):
    """One fact on the time line of an account.

    Its id is made from fact and account: twice is once. Owner, department and collaborators are those of the record
    that the fact is about, so that an entry is seen by those who could open that record.
    """

    __message__ = pb.TimelineEntry
    __table_args__ = (Index("timeline_account_occur_time_index", "account", "occur_time", "id"),)

    account: Mapped[str]
    occur_time: Mapped[datetime]
    kind: Mapped[str]
    phase: Mapped[str]
    ref: Mapped[str]
    summary: Mapped[str]
    actor: Mapped[str]
    amount: Mapped[Money | None]
    requires: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Beside the data scope, the reader needs the permission to read the source record."""
        if "*" in caller.permissions:
            return None
        row: Any = cls
        return row.requires.in_(["", *(p for p in caller.permissions if p.endswith(".read"))])
