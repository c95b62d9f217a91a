"""Rules of use propose customers for the public sea; a manager of the pool decides."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Client, Refused, Service

State = pb.RecycleProposal.State
Told = Callable[..., Awaitable[str]]


async def account(client: Client) -> Any:
    return await client.CreateAccount(account={"displayName": f"回收{uuid4().hex}"})


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def test_managers_decide_what_a_rule_of_use_proposes_and_nothing_returns_by_itself(
    customer: Service, told: Told
) -> None:
    owner, manager = customer.client("stranger"), customer.client("everything2")
    me, decides = customer.person("stranger").employee or "", customer.person("everything2").employee or ""
    body = {"displayName": f"公海{uuid4().hex[:6]}", "memberEmployees": [me], "managers": [decides]}
    pool = await customer.admin.CreatePool(pool=body)
    kept, taken, gone = [await account(owner) for _ in range(3)]
    others = await account(customer.sales1)
    deal = await told("opportunities", taken.name, "stranger", state="OPEN")

    async def known() -> bool:
        found = await owner.GetAccountOverview(name=taken.name)
        return any(one.collection == "opportunities" for one in found.figures)

    await customer.eventually(known)
    records = [kept.name, deal, taken.name, gone.name, others.name, f"leads/{uuid4()}", ""]
    finding = {
        "name": f"usageFindings/{uuid4()}", "displayName": "客户月度更新", "owner": me, "outcome": "RECYCLE",
        "evidence": [{"record": one} for one in records],
    }  # fmt: skip
    for _ in range(2):
        await customer.tell(
            "crm.workspace.v1.UsageRecycleProposed", {"usageFinding": finding}, finding["name"]
        )

    async def proposals() -> dict[str, Any]:
        rows = (await manager.ListRecycleProposals(filter=f'finding = "{finding["name"]}"')).recycle_proposals
        return {one.account: one for one in rows}

    async def all_there() -> Any:
        found = await proposals()
        return found if len(found) == 3 else None

    found = await customer.eventually(all_there)
    assert set(found) == {kept.name, taken.name, gone.name}
    assert {(one.state, one.pool, one.owner) for one in found.values()} == {(State.OPEN, pool.name, me)}
    for one in (kept, taken):
        assert (await owner.GetAccount(name=one.name)).owner == me
    notices = await customer.facts("crm.customer.v1.NoticeRaised", "")
    asked = [one for one in notices if found[kept.name].name in one.get("subjects", ())]
    assert [one["employees"] for one in asked] == [[decides]]

    # The owner sees the proposal, and does not decide it.
    assert await refusal(owner.AcceptRecycleProposal(name=found[kept.name].name)) == "NOT_POOL_MANAGER"
    short = manager.DeclineRecycleProposal(name=found[kept.name].name, reason="否")
    assert await refusal(short) == "REASON_REQUIRED"
    declined = await manager.DeclineRecycleProposal(name=found[kept.name].name, reason="本周已约见客户")
    assert (declined.state, declined.decider) == (State.DECLINED, decides)
    assert (await owner.GetAccount(name=kept.name)).state == pb.Account.ACTIVE
    assert await refusal(manager.AcceptRecycleProposal(name=declined.name)) == "ILLEGAL_TRANSITION"

    accepted = await manager.AcceptRecycleProposal(name=found[taken.name].name)
    assert accepted.state == State.ACCEPTED
    back = await customer.admin.GetAccount(name=taken.name)
    assert (back.state, back.owner, back.pool) == (pb.Account.POOLED, "", pool.name)
    history = (await customer.admin.ListOwnerHistory(name=taken.name)).changes
    assert (pb.PoolClaim.Kind.Name(history[0].kind), history[0].cause) == ("RECYCLE", finding["name"])

    other = customer.person("sales1").employee
    await customer.admin.AssignAccount(name=gone.name, owner=other)
    lapsed = await manager.AcceptRecycleProposal(name=found[gone.name].name)
    assert lapsed.state == State.LAPSED
    assert (await customer.admin.GetAccount(name=gone.name)).owner == other
