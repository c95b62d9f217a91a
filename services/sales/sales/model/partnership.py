"""Partners whose agreement has ended or rests: they begin nothing new, what runs goes on (PAR-6)."""

from __future__ import annotations

from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.events import Fact, listens
from sales.model.base import Base
from sqlalchemy import BigInteger, Boolean, Text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column


class Partnership(Base):
    """What workspace said last of a partner's agreement. A partner of whom it has said nothing may begin."""

    __tablename__ = "partnerships"

    account: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    over: Mapped[bool] = mapped_column(Boolean)


@listens(
    "crm.workspace.v1.PartnerActivated",
    "crm.workspace.v1.PartnerSuspended",
    "crm.workspace.v1.PartnerEnded",
)
async def on_partner_changed(event: Fact, call: Call) -> None:
    """The latest word counts, in whatever order they come."""
    account = str(event.payload.get("account", ""))
    if not account:
        return
    over = not event.subject.endswith("PartnerActivated")
    told = insert(Partnership).values(account=account, version=event.version or 0, over=over)
    latest = told.on_conflict_do_update(
        index_elements=["account"], set_={"version": told.excluded.version, "over": told.excluded.over},
        where=Partnership.version <= told.excluded.version,
    )  # fmt: skip
    await call.db.execute(latest)


async def check_agreement(partner: str, call: Call) -> None:
    """PARTNER_NO_AGREEMENT where something new would begin with a partner whose agreement is over."""
    if not partner:
        return
    known = await call.db.get(Partnership, partner)
    if known is not None and known.over:
        raise FailedPrecondition("PARTNER_NO_AGREEMENT")
