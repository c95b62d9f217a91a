"""What was agreed with partners, as workspace told it last: who may begin something new, where, and at which grade."""

from __future__ import annotations

from datetime import date
from typing import Any

from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition
from crmkit.events import Fact, listens
from crmkit.mapping import told_date
from sales.engine.policies import covers
from sales.model.base import Base
from sqlalchemy import BigInteger, Boolean, Date, Index, Text, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, mapped_column


class Partnership(Base):
    """A partner of workspace. A company of whose partnerships nothing was ever told may begin."""

    __tablename__ = "partnerships"
    __table_args__ = (Index("partnerships_account_index", "account"),)

    partner: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    account: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    grade: Mapped[str] = mapped_column(Text)
    regions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Those of its people who come in.
    people: Mapped[list[str]] = mapped_column(ARRAY(Text))
    active: Mapped[bool] = mapped_column(Boolean)
    start_date: Mapped[date | None] = mapped_column(Date)
    end_date: Mapped[date | None] = mapped_column(Date)

    def counts(self, day: date) -> bool:
        """Whether the agreement is in force: after its last day it is not, though nobody has ended it."""
        begun = self.start_date is None or self.start_date <= day
        return self.active and begun and (self.end_date is None or day <= self.end_date)

    def allows(self, region: str) -> bool:
        """Whether the partner may sell there; where no region was agreed, or none is known, he may."""
        return not self.regions or not region or any(covers(one, region) for one in self.regions)


@listens(
    "crm.workspace.v1.PartnerActivated",
    "crm.workspace.v1.PartnerSuspended",
    "crm.workspace.v1.PartnerEnded",
    "crm.workspace.v1.ResourceChanged.partners",
)
async def on_partner_changed(event: Fact, call: Call) -> None:
    """The latest word counts, in whatever order they come."""
    told: dict[str, Any] = event.payload.get("partner") or event.payload.get("resource") or {}
    if event.payload.get("action") == "DELETED" or not told.get("account"):
        return
    values = {
        "version": event.version or 0, "account": told["account"], "owner": told.get("owner", ""),
        "grade": told.get("grade", ""), "regions": told.get("regions", []), "active": told.get("state") == "ACTIVE",
        "people": [user["employee"] for user in told.get("users", [])],
        "start_date": told_date(told.get("startDate")), "end_date": told_date(told.get("endDate")),
    }  # fmt: skip
    written = insert(Partnership).values(partner=told["name"], **values)
    latest = written.on_conflict_do_update(
        index_elements=["partner"], set_=values, where=Partnership.version <= written.excluded.version
    )
    await call.db.execute(latest)


async def partnership(account: str, call: Call) -> Partnership | None:
    """What is agreed with a company: what is in force, else what was last; None where nothing was ever told."""
    if not account:
        return None
    rows = await call.db.scalars(
        select(Partnership).where(Partnership.account == account).order_by(Partnership.partner.desc())
    )
    known, day = list(rows), today(call)
    return next((one for one in known if one.counts(day)), known[0] if known else None)


async def check_agreement(partner: str, call: Call) -> None:
    """PARTNER_NO_AGREEMENT where something new would begin with a partner whose agreement is not in force."""
    known = await partnership(partner, call)
    if known is not None and not known.counts(today(call)):
        raise FailedPrecondition("PARTNER_NO_AGREEMENT")


async def in_force(partner: str, call: Call) -> Partnership | None:
    """The agreement with a company where one is in force today."""
    known = await partnership(partner, call)
    return known if known is not None and known.counts(today(call)) else None
