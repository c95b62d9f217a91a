"""The course completion: that somebody has finished a course."""

from __future__ import annotations

from datetime import datetime

from crm.sales.v1 import pb
from crmkit.resource import Resource
from sales.model.base import Base
from sqlalchemy import Index
from sqlalchemy.orm import Mapped


class CourseCompletion(Resource, Base):
    """That its owner has finished a course, once for each."""

    __message__ = pb.CourseCompletion
    __table_args__ = (Index("course_completions_owner_course_key", "owner", "course", unique=True),)

    course: Mapped[str]
    finish_time: Mapped[datetime | None]
