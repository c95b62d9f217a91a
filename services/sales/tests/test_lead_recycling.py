"""Rules of use propose leads for their pool; a manager of the pool decides."""

from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.testing import Refused, Service

State = pb.LeadRecycleProposal.State


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def test_a_manager_of_the_pool_decides_what_a_rule_of_use_proposes(sales: Service) -> None:
    manager, decides = sales.manager, sales.person("manager").employee
    me = sales.person("sales1").employee
    pool = await manager.CreateLeadPool(
        leadPool={"displayName": f"线索池{uuid4().hex[:6]}", "memberEmployees": [me], "managers": [decides]}
    )

    async def lead(client: Any) -> Any:
        return await client.CreateLead(lead={"displayName": f"线索{uuid4().hex[:8]}"})

    async def claimed() -> Any:
        made = await lead(sales.sales1)
        await sales.sales1.ReleaseLead(name=made.name, pool=pool.name, reason="先放回线索池")
        return await sales.sales1.ClaimLead(name=made.name)

    kept, taken, gone = [await claimed() for _ in range(3)]
    others = await lead(sales.sales2)
    records = [kept.name, taken.name, gone.name, others.name, f"leads/{uuid4()}", f"accounts/{uuid4()}", ""]
    finding = {
        "name": f"usageFindings/{uuid4()}", "displayName": "线索月度更新", "owner": me, "outcome": "RECYCLE",
        "evidence": [{"record": one} for one in records],
    }  # fmt: skip
    for _ in range(2):
        await sales.tell("crm.workspace.v1.UsageRecycleProposed", {"usageFinding": finding}, finding["name"])

    async def all_there() -> Any:
        rows = (
            await manager.ListLeadRecycleProposals(filter=f'finding = "{finding["name"]}"')
        ).lead_recycle_proposals
        return {one.lead: one for one in rows} if len(rows) >= 3 else None

    found = await sales.eventually(all_there)
    assert set(found) == {kept.name, taken.name, gone.name}
    assert {(one.state, one.pool, one.owner) for one in found.values()} == {(State.OPEN, pool.name, me)}
    # Nothing returns by itself, and who looks after the pool is told.
    assert (await sales.sales1.GetLead(name=taken.name)).owner == me
    asked = [
        one["employees"]
        for one in await sales.facts("crm.sales.v1.NoticeRaised")
        if found[taken.name].name in one["subjects"]
    ]
    assert asked == [[decides]]
    owner = sales.sales1.AcceptLeadRecycleProposal(name=found[kept.name].name)
    assert await refusal(owner) in ("NOT_LEAD_POOL_MANAGER", "PERMISSION_DENIED")
    short = manager.DeclineLeadRecycleProposal(name=found[kept.name].name, reason="否")
    assert await refusal(short) == "REASON_REQUIRED"
    declined = await manager.DeclineLeadRecycleProposal(name=found[kept.name].name, reason="本周已约见客户")
    assert (declined.state, declined.decider) == (State.DECLINED, decides)
    again = manager.AcceptLeadRecycleProposal(name=declined.name)
    assert await refusal(again) == "ILLEGAL_TRANSITION"
    accepted = await manager.AcceptLeadRecycleProposal(name=found[taken.name].name)
    assert accepted.state == State.ACCEPTED
    back = await sales.admin.GetLead(name=taken.name)
    assert (back.state, back.owner, back.moves[-1].how) == (pb.Lead.NEW, "", "RECYCLE")
    assert (await sales.sales1.GetLead(name=kept.name)).owner == me
    await sales.admin.AssignLead(name=gone.name, owner=sales.person("sales2").employee)
    lapsed = await manager.AcceptLeadRecycleProposal(name=found[gone.name].name)
    assert lapsed.state == State.LAPSED
    assert (await sales.admin.GetLead(name=gone.name)).owner == sales.person("sales2").employee
