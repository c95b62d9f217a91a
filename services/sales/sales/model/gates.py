"""What the gates of stages count: files and follow-ups of a deal, and the courses of whoever moves it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.resource import parse_name
from crmkit.tables import Copy
from sales.model.base import Base
from sales.model.course_completion import CourseCompletion
from sqlalchemy import DateTime, Text, Uuid, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

FILE, ACTIVITY = "FILE", "ACTIVITY"
_DEALS = "opportunities/"


class DealRecord(Base):
    """A file or a follow-up of a deal that lies in another service."""

    __tablename__ = "deal_records"

    deal: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True)
class Counted:
    """How much there is of a deal."""

    files: int = 0
    activities: int = 0
    courses: frozenset[str] = frozenset()


async def note(kind: str, name: str, about: Iterable[str], time: datetime, call: Call) -> None:
    """Notes a record for every deal that it is about, once."""
    deals = {parse_name(one, "opportunities") for one in about if one.startswith(_DEALS)}
    if deals:
        rows = [{"deal": deal, "kind": kind, "name": name, "time": time} for deal in deals]
        await call.db.execute(insert(DealRecord).values(rows).on_conflict_do_nothing())


def counts(stages: Iterable[pb.Pipeline.Stage]) -> bool:
    """Whether any of the stages asks for what is counted."""
    return any(stage.least_files or stage.least_activities or stage.courses for stage in stages)


async def counted(deal: UUID, since: datetime | None, employee: str, call: Call) -> Counted:
    """The files of a deal that are still there, its follow-ups since an instant, and a person's courses."""
    gone = exists().where(Copy.name == DealRecord.name, Copy.collection == "files", Copy.deleted)
    mine = select(func.count()).select_from(DealRecord).where(DealRecord.deal == deal)
    activities = mine.where(DealRecord.kind == ACTIVITY)
    if since is not None:
        activities = activities.where(DealRecord.time >= since)
    async with call.everybody():
        done = await call.db.scalars(
            select(CourseCompletion.course).where(CourseCompletion.owner == employee)
        )
        return Counted(
            files=await call.db.scalar(mine.where(DealRecord.kind == FILE, ~gone)) or 0,
            activities=await call.db.scalar(activities) or 0,
            courses=frozenset(done),
        )
