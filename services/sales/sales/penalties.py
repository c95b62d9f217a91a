"""Penalties and rewards of the rules of use that were confirmed, as lines of the commission ledger."""

from __future__ import annotations

from crm.workspace.v1 import events_pb2 as workspace
from crm.workspace.v1 import pb as workspace_pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.exchange import rate_of
from crmkit.values import Money, places

from sales.engine.reckoning import cents
from sales.model.commission_entry import CommissionEntry
from sales.model.commission_plan import plan_for


async def on_usage_penalty_confirmed(event: workspace.UsagePenaltyConfirmed, call: Call) -> None:
    """One line on the next statement, where the person's plan says that penalties and rewards count; twice is once."""
    finding, day = event.usage_finding, today(call)
    amount, plan = Money.parse(finding.amount), await plan_for(finding.owner, day, call)
    if not amount or plan is None or not plan.counts_penalties:
        return
    await call.one_at_a_time([f"commission:{finding.name}"])
    if await call.find(CommissionEntry, CommissionEntry.cause == finding.name) is not None:
        return
    rate = rate_of(amount.currency, plan.currency, day, call)
    if rate is None:
        raise LookupError(f"no rate {amount.currency}-{plan.currency} for {day}")
    sign = 1 if workspace_pb.UsageOutcome.Name(finding.outcome) == "REWARD" else -1
    value = sign * cents(amount.amount * rate.value, places(plan.currency))
    await call.add(
        CommissionEntry(
            kind="CORRECTION", plan=plan.name, cause=finding.name, amount=Money(value, plan.currency), date=day,
            exchange_rate=rate.value if amount.currency != plan.currency else None, note=finding.display_name[:2000],
            owner=finding.owner, department=call.entry(finding.owner).get("department") or finding.department,
        )
    )  # fmt: skip
