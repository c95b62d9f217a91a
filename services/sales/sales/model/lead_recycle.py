"""Rules of use propose leads for their pool; a manager of the pool decides, nothing returns by itself."""

from __future__ import annotations

from datetime import datetime

from crm.sales.v1 import pb
from crm.workspace.v1 import events_pb2 as workspace
from crmkit.call import Call
from crmkit.errors import PermissionDenied, check_reason
from crmkit.notices import raise_notice
from crmkit.resource import Resource
from sales.model.base import Base
from sales.model.lead import OPEN, Lead
from sales.model.lead_pool import LeadPool, home_of, pool_of, put_into_pool
from sqlalchemy import Index
from sqlalchemy.orm import Mapped


class LeadRecycleProposal(Resource, Base):
    """One lead of one finding; decided once. Its owner is whose lead it is, its collaborators decide."""

    __message__ = pb.LeadRecycleProposal
    __table_args__ = (Index("lead_recycle_proposals_key", "finding", "lead", unique=True),)

    display_name: Mapped[str]
    lead: Mapped[str]
    pool: Mapped[str]
    employee: Mapped[str]
    finding: Mapped[str]
    state: Mapped[str]
    decider: Mapped[str]
    decide_time: Mapped[datetime | None]
    reason: Mapped[str]

    async def accept(self, call: Call) -> None:
        """The lead goes into the pool. Too late where it has changed hands, or is over."""
        pool = await self._decide(call)
        async with call.everybody():
            lead = await call.named(Lead, self.lead, lock=True)
            if lead is None or lead.owner != self.employee or lead.state not in OPEN:
                self.state = "LAPSED"
            else:
                self.state = "ACCEPTED"
                await put_into_pool(lead, pool, "RECYCLE", self.display_name[:500], call)
            await call.flush()

    async def decline(self, reason: str, call: Call) -> None:
        """The owner keeps the lead."""
        await self._decide(call)
        self.state, self.reason = "DECLINED", check_reason(reason)

    async def _decide(self, call: Call) -> LeadPool:
        self.check_state("OPEN")
        pool = await pool_of(self.pool, call)
        if pool is None or not pool.managed_by(call.caller):
            raise PermissionDenied("NOT_LEAD_POOL_MANAGER")
        self.decider, self.decide_time = call.caller.employee, call.now
        return pool


async def on_usage_recycle_proposed(event: workspace.UsageRecycleProposed, call: Call) -> None:
    """One proposal for each lead that the finding names and that is still the person's; its pool's managers hear."""
    finding = event.usage_finding
    for name in sorted({one.record for one in finding.evidence if one.record.startswith("leads/")}):
        lead = await call.named(Lead, name)
        if lead is None or lead.state not in OPEN or lead.owner != finding.owner:
            continue
        pool = await pool_of(lead.pool or await home_of(lead.owner, call), call)
        known = LeadRecycleProposal.finding == finding.name, LeadRecycleProposal.lead == name
        if pool is None or not pool.managers or await call.find(LeadRecycleProposal, *known) is not None:
            continue
        proposal = await call.add(
            LeadRecycleProposal(
                display_name=f"{lead.display_name}：{finding.display_name}"[:400], lead=name, pool=pool.name,
                employee=lead.owner, finding=finding.name, state="OPEN", owner=lead.owner, department=lead.department,
                collaborators=[one for one in pool.managers if one != lead.owner],
            )
        )  # fmt: skip
        raise_notice(
            "leadPool", f"建议回收线索“{lead.display_name}”", f"{lead.display_name} is proposed for the pool", call,
            key=f"recycle:{proposal.id}", employees=pool.managers, subjects=[proposal.name, name], about=proposal,
        )  # fmt: skip
