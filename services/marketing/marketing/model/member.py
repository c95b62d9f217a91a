"""Members of campaigns, and how far they came."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from crm.marketing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource
from crmkit.values import Money
from marketing.model.base import Base
from marketing.model.campaign import Campaign
from sqlalchemy import Index, Integer, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

# Everybody is in a campaign once.
ONCE = {
    "contact": "contact <> ''",
    "account": "account <> '' AND contact = '' AND lead = '' AND submission = '' AND opportunity = ''",
    "lead": "lead <> ''",
    "submission": "submission <> ''",
    "opportunity": "opportunity <> ''",
}
REACHED = ("TARGETED", "RESPONDED", "LEAD", "CUSTOMER")


class CampaignMember(Resource, Base):
    """One person, account or lead within a campaign."""

    __message__ = pb.CampaignMember
    __table_args__ = tuple(
        Index(
            f"campaign_members_campaign_{name}_key",
            "campaign",
            name,
            unique=True,
            postgresql_where=text(condition),
        )
        for name, condition in ONCE.items()
    )

    campaign: Mapped[str]
    display_name: Mapped[str]
    contact: Mapped[str]
    account: Mapped[str]
    lead: Mapped[str]
    submission: Mapped[str]
    opportunity: Mapped[str]
    won_amount: Mapped[Money | None]
    response: Mapped[str]
    response_time: Mapped[datetime | None]
    state: Mapped[str]
    opportunity_version: Mapped[int] = mapped_column(Integer, server_default="0", default=0)

    async def creating(self, call: Call) -> None:
        """Belongs to an open campaign; is named after the person, account or lead."""
        self.state = self.state or "TARGETED"
        campaign = await call.named(Campaign, self.campaign, lock=True)
        if campaign is None:
            return
        if not call.caller.is_system:
            campaign.check_open()
            if not (self.contact or self.account or self.lead or self.display_name):
                raise FailedPrecondition("MEMBER_REQUIRED")
        if not self.display_name:
            copy = await call.copy(self.contact or self.account or self.lead) or {}
            self.display_name = copy.get("displayName", "")
        campaign.member_count += 1

    async def deleting(self, call: Call) -> None:
        """Who became a lead stays in the figures."""
        self.check_state("TARGETED", "RESPONDED")
        campaign = await call.named(Campaign, self.campaign, lock=True)
        if campaign is not None:
            campaign.member_count -= 1
            campaign.responded_count -= self.state == "RESPONDED"

    async def respond(self, response: str, call: Call) -> None:
        """Has answered."""
        self.check_state("TARGETED")
        self.state, self.response, self.response_time = "RESPONDED", response, call.now
        campaign = await call.named(Campaign, self.campaign, lock=True)
        if campaign is not None:
            campaign.responded_count += 1

    def came_to(self, state: str) -> None:
        """Came at least so far."""
        if REACHED.index(state) > REACHED.index(self.state):
            self.state = state

    def take_deal(self, name: str, version: int, won: bool, amount: Money | None) -> None:
        """Takes what a later version of its opportunity says; a deal that is open again was not won."""
        if self.opportunity == name and version <= self.opportunity_version:
            return
        self.opportunity, self.opportunity_version = name, version
        self.won_amount = amount if won else None
        self.state = "CUSTOMER" if won else "LEAD"


async def reckon(name: str, call: Call) -> None:
    """Reckons the figures of a campaign from its members, whatever has come and in what order."""
    campaign = await call.named(Campaign, name, lock=True)
    if campaign is None:
        return
    await call.flush()
    member: Any = CampaignMember.__table__.c
    mine = member.campaign == name
    count = func.count()
    figures = select(
        count,
        count.filter(member.state != "TARGETED"),
        count.filter(member.state.in_(["LEAD", "CUSTOMER"])),
        count.filter(member.opportunity != ""),
        count.filter(member.state == "CUSTOMER"),
    ).where(mine)
    members, responded, leads, opportunities, won = (await call.db.execute(figures)).one()
    amounts = (
        select(member.won_amount_currency, func.sum(member.won_amount_amount))
        .where(mine, member.won_amount_currency.is_not(None))
        .group_by(member.won_amount_currency)
        .order_by(member.won_amount_currency)
    )
    campaign.member_count, campaign.responded_count, campaign.lead_count = members, responded, leads
    campaign.opportunity_count, campaign.won_count = opportunities, won
    campaign.won_amounts = [
        Money(Decimal(amount), currency).message()
        for currency, amount in (await call.db.execute(amounts)).all()
    ]
