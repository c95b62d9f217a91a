"""The time line: every fact about an account, in order of occurrence."""

from datetime import datetime

from crm.customer.v1 import pb
from crmkit.resource import Resource
from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from customer.model.base import Base


class TimelineEntry(Resource, Base):
    """One fact on the time line of an account. Its id is made from fact and account: twice is once."""

    __message__ = pb.TimelineEntry
    __table_args__ = (Index("timeline_account_occur_time_index", "account", "occur_time", "id"),)

    account: Mapped[str]
    occur_time: Mapped[datetime]
    kind: Mapped[str]
    phase: Mapped[str]
    ref: Mapped[str]
    summary: Mapped[str]
    actor: Mapped[str]
    requires: Mapped[str]
