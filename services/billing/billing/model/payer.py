"""Who pays for whom, as customer tells it."""

from datetime import date
from typing import Any

from billing.model.base import Base
from crmkit.call import Call
from crmkit.company import today
from crmkit.events import Fact, listens
from sqlalchemy import Integer, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column


class Payer(Base):
    """A relation by which one customer pays what another owes."""

    __tablename__ = "payers"

    relation: Mapped[str] = mapped_column(Text, primary_key=True)
    payer: Mapped[str] = mapped_column(Text, index=True, info={"refers": True})
    account: Mapped[str] = mapped_column(Text, info={"refers": True})
    from_date: Mapped[date | None]
    active: Mapped[bool]
    version: Mapped[int] = mapped_column(Integer)


@listens("crm.customer.v1.AccountRelationChanged")
async def on_relation_changed(event: Fact, call: Call) -> None:
    """Keeps who pays: the head office for its branch, else the one that the relation starts from."""
    told: dict[str, Any] = event.payload["relation"]
    payer, account = told["from"], told["to"]
    if told.get("kind") == "BRANCH_OF":
        payer, account = account, payer
    day = told.get("fromDate")
    values = {
        "payer": payer, "account": account, "version": event.version or 0,
        "from_date": date(day["year"], day["month"], day["day"]) if day else None,
        "active": told.get("state") == "ACTIVE" and bool(told.get("paysFor")),
    }  # fmt: skip
    statement = insert(Payer).values(relation=told["name"], **values)
    newer = Payer.version < statement.excluded.version
    await call.db.execute(
        statement.on_conflict_do_update(index_elements=[Payer.relation], set_=values, where=newer)
    )


async def pays_for(payer: str, account: str, call: Call) -> bool:
    """Whether the money of one customer may pay what another owes today."""
    if payer == account:
        return True
    found = select(Payer.relation).where(
        Payer.payer == payer, Payer.account == account, Payer.active,
        Payer.from_date.is_(None) | (Payer.from_date <= today(call)),
    )  # fmt: skip
    return await call.db.scalar(found.limit(1)) is not None
