"""Reports of the platform's own safety, one a day."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.resource import Resource
from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from workspace.model.base import Base


class SecurityReport(Resource, Base):
    """What was looked at in one night, and how it stood."""

    __message__ = pb.SecurityReport
    __table_args__ = (Index("security_reports_day_key", "day", unique=True),)

    day: Mapped[str]
    verdict: Mapped[str]
    checks: Mapped[Any]
    reds: Mapped[int]
