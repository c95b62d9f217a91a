"""The credit of deals whose customer is shared by a verdict, as long as that verdict may still change (COL-7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.call import Call
from google.protobuf import json_format
from sales.model.base import Base
from sales.model.opportunity import Opportunity
from sqlalchemy import Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Mapped, mapped_column


class SharedCredit(Base):
    """The team of a deal before a verdict shared its credit, and as the verdict left it."""

    __tablename__ = "shared_credits"

    opportunity: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    case: Mapped[str] = mapped_column(Text)
    before: Mapped[Any] = mapped_column(JSONB)
    given: Mapped[Any] = mapped_column(JSONB)


async def share_credit(opportunity: Opportunity, case: str, shares: Mapping[str, str], call: Call) -> None:
    """The deal's credit is shared as the verdict of the case says."""
    kept = await call.db.get(SharedCredit, opportunity.id)
    before = kept.before if kept is not None and kept.case == case else _plain(opportunity.team)
    opportunity.split(shares)
    row = {"case": case, "before": before, "given": _plain(opportunity.team)}
    write = insert(SharedCredit).values(opportunity=opportunity.id, **row)
    await call.db.execute(write.on_conflict_do_update(index_elements=["opportunity"], set_=row))


async def share_no_more(opportunity: Opportunity, case: str, call: Call) -> None:
    """The case ended otherwise: the team is as before it was shared, unless somebody has changed it since."""
    kept = await call.db.get(SharedCredit, opportunity.id)
    if kept is None or kept.case != case:
        return
    if _plain(opportunity.team) == kept.given:
        opportunity.team = [json_format.ParseDict(one, pb.Opportunity.Member()) for one in kept.before]
    await call.db.delete(kept)


def _plain(team: Sequence[Any]) -> list[dict[str, Any]]:
    return [json_format.MessageToDict(one) for one in team]
