"""What the people of a deal are told of in the morning: it stands still, its date is over, its rest ends."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.notices import raise_notice
from sales.model.base import Base
from sales.model.opportunity import Opportunity
from sales.model.pipeline import Pipeline
from sqlalchemy import Date, DateTime, ForeignKey, Integer, Text, Uuid, cast, exists, func, insert, select
from sqlalchemy.dialects.postgresql import JSONPATH
from sqlalchemy.orm import Mapped, mapped_column

AT_ONCE = 500


class DealNotice(Base):
    """A step that somebody was told of, once for each date that it is about."""

    __tablename__ = "deal_notices"

    deal: Mapped[UUID] = mapped_column(
        Uuid, ForeignKey("opportunities.id", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    date: Mapped[date] = mapped_column(Date, primary_key=True)


async def tell_of_deals(as_of: datetime, call: Call) -> None:
    """Tells owners which of their deals stand longer in a stage than it lasts, are past their date, or rest no more:
    of some at once, of the others the next time."""
    day, deal = as_of.astimezone(ZONE).date(), Opportunity
    stage = func.jsonb_path_query_first(
        Pipeline.stages, cast("$[*] ? (@.key == $key)", JSONPATH), func.jsonb_build_object("key", deal.stage)
    )
    visit = func.jsonb_path_query_first(deal.stage_history, cast("$[last]", JSONPATH))
    entered = cast(visit.op("->>")("enterTime"), DateTime(timezone=True))
    most = cast(stage.op("->>")("maxDays"), Integer)
    left = cast(func.timezone(ZONE.key, entered), Date) + most
    steps: list[tuple[str, Any, tuple[Any, ...], str, str]] = [
        ("STUCK", left, (deal.state == "OPEN", most > 0, left < day),
         "在当前阶段停留过久", "has been in its stage for too long"),
        ("SLIPPED", deal.expected_close_date, (deal.state == "OPEN", deal.expected_close_date < day),
         "已过预计成交日", "is past its expected close date"),
        ("RESUME", deal.suspend_until_date, (deal.state == "SUSPENDED", deal.suspend_until_date <= day),
         "搁置期已到", "has rested until its day"),
    ]  # fmt: skip
    for step, about, when, zh, en in steps:
        told = exists().where(DealNotice.deal == deal.id, DealNotice.step == step, DealNotice.date == about)
        due = (
            select(deal, about.label("about"))
            .join(Pipeline, deal.pipeline == Pipeline.sql_name())
            .where(*when, deal.owner != "", ~told)
        )
        rows = (await call.db.execute(due.order_by(deal.id).limit(AT_ONCE))).all()
        for row, on in rows:
            raise_notice(
                "deal", f"商机“{row.display_name}”{zh}", f"{row.display_name} {en}", call,
                key=f"{row.name}:{step}:{on}", employees=[row.owner], subjects=[row.name], about=row,
            )  # fmt: skip
        if rows:
            told_now = [{"deal": row.id, "step": step, "date": on} for row, on in rows]
            await call.db.execute(insert(DealNotice), told_now)
