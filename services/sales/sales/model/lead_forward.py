"""Leads that are offered to partners: to the first, to the next once, then they are back (PAR-2)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason
from crmkit.notices import raise_notice
from crmkit.resource import Resource
from sales.model.base import Base
from sales.model.lead import OPEN, Lead
from sales.model.partnership import check_agreement, in_force
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

USUAL_HOURS, MOST_HOURS, MOST_PARTNERS = 24, 240, 2


class LeadForward(Resource, Base):
    """One partner's offer. Nothing of it says who wants to buy; the lead is the partner's once it accepts."""

    __message__ = pb.LeadForward
    __table_args__ = (
        Index("lead_forwards_offered_key", "lead", unique=True, postgresql_where=text("state = 'OFFERED'")),
        Index("lead_forwards_expire_index", "expire_time", postgresql_where=text("state = 'OFFERED'")),
    )

    display_name: Mapped[str]
    lead: Mapped[str]
    partner: Mapped[str]
    next_partner: Mapped[str]
    region: Mapped[str]
    product_lines: Mapped[list[str]]
    industry: Mapped[str]
    hours: Mapped[int]
    expire_time: Mapped[datetime | None]
    state: Mapped[str]
    decide_time: Mapped[datetime | None]
    reason: Mapped[str]

    async def accept(self, call: Call) -> None:
        """The lead is the partner's, with all that stands in it."""
        self.check_state("OFFERED")
        if self.expire_time is not None and self.expire_time <= call.now:
            raise FailedPrecondition("FORWARD_LAPSED")
        await check_agreement(self.partner, call)
        async with call.everybody():
            lead = await call.named(Lead, self.lead, lock=True)
            if lead is None or lead.state not in OPEN:
                raise FailedPrecondition("FORWARD_LAPSED")
            lead.channel_partner = self.partner
            self.state, self.decide_time = "ACCEPTED", call.now
            await call.flush()
        self._tell_owner("已被伙伴接受", "was accepted by the partner", call)

    async def decline(self, reason: str, call: Call) -> None:
        """The next one is asked."""
        self.check_state("OFFERED")
        self.reason = check_reason(reason)
        await self._over("DECLINED", call.now, call)

    async def lapse(self, at: datetime, call: Call) -> None:
        """Nobody has answered in time: the next one is asked, and has hours of its own, however late this is done."""
        self.check_state("OFFERED")
        await self._over("LAPSED", max(at, call.now), call)

    async def _over(self, state: str, at: datetime, call: Call) -> None:
        async with call.everybody():
            self.state, self.decide_time = state, call.now
            await call.flush()
            lead = await call.named(Lead, self.lead)
            if lead is None or lead.state not in OPEN:
                return
            if self.next_partner and await in_force(self.next_partner, call):
                await _offer(lead, self.next_partner, "", self.display_name, self.hours, at, call)
                await call.flush()
                return
        self._tell_owner("没有伙伴接受，已退回", "was accepted by no partner and is back", call)

    def _tell_owner(self, zh: str, en: str, call: Call) -> None:
        raise_notice(
            "leadForward", f"转发的线索“{self.display_name}”{zh}", f"Lead {self.display_name} {en}", call,
            key=f"{self.name}:{self.state}", employees=[self.owner], roles=[] if self.owner else ["sales_manager"],
            subjects=[self.lead], about=self,
        )  # fmt: skip


async def forward(lead: Lead, request: Any, call: Call) -> LeadForward:
    """Offers a lead to a partner, and names who is next."""
    lead.check_state(*OPEN)
    partners = list(dict.fromkeys(request.partners))
    if len(partners) > MOST_PARTNERS:
        told = f"最多 {MOST_PARTNERS} 个", f"At most {MOST_PARTNERS}."
        raise Validation(Violation("partners", "TOO_MANY", *told))
    if request.hours > MOST_HOURS:
        told = f"最多 {MOST_HOURS} 小时", f"At most {MOST_HOURS} hours."
        raise Validation(Violation("hours", "TOO_LARGE", *told))
    offered = await call.find(LeadForward, LeadForward.lead == lead.name, LeadForward.state == "OFFERED")
    if lead.channel_partner or offered is not None:
        raise FailedPrecondition("LEAD_FORWARDED")
    for partner in partners:
        await check_agreement(partner, call)
    further = partners[1] if len(partners) > 1 else ""
    return await _offer(
        lead, partners[0], further, request.brief, request.hours or USUAL_HOURS, call.now, call
    )


async def _offer(
    lead: Lead, partner: str, further: str, brief: str, hours: int, at: datetime, call: Call
) -> LeadForward:
    made = await call.add(
        LeadForward(
            display_name=brief, lead=lead.name, partner=partner, next_partner=further, region=lead.division_code,
            product_lines=[one.product_line for one in lead.interests if one.product_line], industry=lead.industry,
            hours=hours, expire_time=at + timedelta(hours=hours), state="OFFERED",
            owner=lead.owner or call.caller.employee, department=lead.department,
        )
    )  # fmt: skip
    people = await in_force(partner, call)
    raise_notice(
        "leadForward", f"新的转发线索，请在 {hours} 小时内接受：{brief}",
        f"A lead for you, to be accepted within {hours} hours: {brief}", call, key=f"{made.name}:OFFERED",
        employees=people.people if people else [], subjects=[made.name], about=made,
    )  # fmt: skip
    return made


async def lapse_due(as_of: datetime, most: int, call: Call) -> None:
    """Offers that nobody has accepted in their hours go on."""
    due = select(LeadForward).where(LeadForward.state == "OFFERED", LeadForward.expire_time <= as_of)
    for row in await call.db.scalars(
        due.order_by(LeadForward.expire_time).limit(most).with_for_update(skip_locked=True)
    ):
        await row.lapse(as_of, call)
