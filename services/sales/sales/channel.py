"""Sales through partners: what they sell outside their region is told to who looks after them."""

from __future__ import annotations

from datetime import datetime

from crmkit.call import Call
from crmkit.events import Fact, listens
from crmkit.notices import raise_notice
from sqlalchemy import DateTime, Text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from sales.achievements import region_of
from sales.model.base import Base
from sales.model.opportunity import Opportunity
from sales.model.partnership import partnership
from sales.model.quote import Quote


class SaleElsewhere(Base):
    """A deal that a partner has sold outside its region; told once, however often it was agreed (PAR-4)."""

    __tablename__ = "sales_elsewhere"

    deal: Mapped[str] = mapped_column(Text, primary_key=True)
    partner: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


# What is sold, by the fact that tells of it.
_SOLD = {"OpportunityWon": "opportunity", "QuoteAccepted": "quote", "OrderPlaced": "order"}


@listens("crm.sales.v1.OpportunityWon", "crm.sales.v1.QuoteAccepted", "crm.orders.v1.OrderPlaced")
async def on_sold_by_partner(event: Fact, call: Call) -> None:
    """A sale outside the region that was agreed (串货): the channel manager is told, once for each deal."""
    key = next(key for name, key in _SOLD.items() if event.subject.endswith(name))
    sold = event.payload[key]
    known = await partnership(partner, call) if (partner := sold.get("channelPartner")) else None
    if known is None or known.allows(region := await region_of(sold.get("account", ""), call)):
        return
    # A deal, its quote in every version, and the orders that follow are one sale.
    quote = await call.named(Quote, sold.get("quote", ""))
    deal = sold.get("opportunity") or sold.get("root") or (quote.root if quote else sold["name"])
    fresh = insert(SaleElsewhere).values(deal=deal, partner=known.account, region=region, time=event.time)
    told = await call.db.scalar(fresh.on_conflict_do_nothing().returning(SaleElsewhere.deal))
    if told is None:
        return
    # Where an order tells of it first, nothing here is what it is about.
    record = await call.named(Opportunity, sold["name"]) or await call.named(Quote, sold["name"])
    title = sold.get("displayName", "")
    zh = f"疑似串货：“{title}”售往 {region}，不在伙伴的授权区域内"
    en = f"{title} is sold to {region}, outside the partner's region"
    raise_notice(
        "crossRegion", zh, en, call, key=f"crossRegion:{deal}", employees=[known.owner],
        roles=[] if known.owner else ["sales_manager"], subjects=[sold["name"]], about=record,
    )  # fmt: skip
