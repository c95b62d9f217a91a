"""Handovers: somebody leaves, and everything has somebody again, over all services, and back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Refused, Service
from customer import transfers
from sqlalchemy import text

State, Item = pb.Transfer.State, pb.TransferItem.State
# What a change of owner changes, and what other services write of their own accord.
_OWNED = {"owner", "department", "collaborators", "collaborations", "owner_time", "owner_how", "owner_from"}


async def reached(service: Service, name: str, *states: int) -> Any:
    async def look() -> Any:
        found = await service.admin.GetTransfer(name=name)
        return found if found.state in states else None

    return await service.eventually(look, 60)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def items(service: Service, transfer: str, **wanted: str) -> dict[str, Any]:
    found = (await service.admin.ListTransferItems(filter=f'transfer = "{transfer}"', pageSize=200)).transfer_items
    return {one.item: one for one in found if all(getattr(one, k) == v for k, v in wanted.items())}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, set[str]]:
    """Which columns of which records are not as they were."""
    return {
        key: columns
        for key, row in before.items()
        if (columns := {c for c in row if row[c] != after.get(key, {}).get(c)})
    }


@pytest.mark.capability("c.handover")
async def test_everything_of_a_leaver_goes_to_others_in_all_services_and_comes_back(world: Any) -> None:
    customer = world.customer
    leaver, one, two = (customer.person(who).employee for who in ("sales1", "sales2", "manager"))
    told = await world.business("交接精密轴承有限公司")
    shanghai = await customer.sales1.CreateAccount(
        account={"displayName": "交接沪上仪表有限公司", "addresses": [{"line": "徐汇1号", "divisionCode": "310104"}]}
    )
    contact = await customer.sales1.CreateContact(contact={"displayName": "沪某", "account": shanghai.name})
    lead = await world.sales.client("sales1").CreateLead(lead={"displayName": "交接线索", "companyName": "交接线索科技"})
    await world.settled()
    made = await customer.manager.CreateTransfer(
        transfer={
            "from": leaver, "reason": "MOVE",
            "plan": [
                {"collections": ["accounts"], "divisions": ["31"], "to": [one]},
                {"items": [told["deal"]], "to": [one]},
                {"to": [two]},
            ],
        }
    )  # fmt: skip
    await customer.manager.PreviewTransfer(name=made.name)
    previewed = await reached(customer, made.name, State.PREVIEWED)
    counted = {(c.service, c.collection): (c.open, c.closed) for c in previewed.preview}
    assert counted["sales", "opportunities"][0] >= 1 and counted["sales", "leads"][0] >= 1
    assert counted["customer", "accounts"][0] >= 2
    before = await world.contents()
    await customer.manager.RunTransfer(name=made.name, requestId=uuid4().hex)
    waiting = await reached(customer, made.name, State.AWAITING_ACCEPTANCE)
    await world.settled()
    after = await world.contents()
    assert not waiting.left
    # Nothing open is the leaver's any more, in any service.
    for name, service in world.services.items():
        async with service.running.system_call("test", None) as call:
            for model in service.running.app.models:
                from crmkit.handing import goes_along, still_open
                from sqlalchemy import select

                if goes_along(model):
                    mine = select(model.id).where(model.owner == leaver, still_open(model))
                    assert not (await call.db.scalars(mine)).all(), (name, model)
    moved = await items(customer, made.name)
    assert moved[shanghai.name].to == moved[told["deal"]].to == one
    assert moved[told["account"]].to == moved[lead.name].to == moved[told["contract"]].to == two
    assert (await customer.admin.GetContact(name=contact.name)).owner == one
    # Stage, state, amounts, follow-ups and links are as they were.
    own = {key: columns - _OWNED for key, columns in changes(before, after).items()}
    assert not {k: c for k, c in own.items() if c and not k.startswith("customer.transfers/")}
    (last, *_) = (await customer.admin.ListOwnerHistory(name=shanghai.name)).changes
    manager = customer.person("manager").employee
    assert (last.kind, getattr(last, "from"), last.employee, last.actor, last.cause) == (
        pb.PoolClaim.TRANSFER, leaver, one, manager, made.name,
    )  # fmt: skip
    # The one before may still read for a while, and the new one reads the whole history.
    kept = await customer.sales1.GetAccount(name=shanghai.name)
    assert [(c.employee, c.access) for c in kept.collaborations] == [(leaver, "READ")]
    # A receiver declines: it goes to the superior, with what belongs to it.
    assert await refusal(customer.sales2.DeclineTransfer(name=made.name, items=[lead.name], reason="不是我的")) == "NOT_RECEIVER"  # fmt: skip
    await customer.sales2.DeclineTransfer(name=made.name, items=[shanghai.name], reason="行业不熟")
    await reached(customer, made.name, State.AWAITING_ACCEPTANCE)
    zong = customer.person("zong").employee
    assert (await customer.admin.GetAccount(name=shanghai.name)).owner == zong
    declined = (await items(customer, made.name))[shanghai.name]
    assert (declined.to, declined.reason, declined.batch, declined.state) == (zong, "行业不熟", 2, Item.MOVED)
    for client in (customer.sales2, customer.client("zong")):
        accepted = await client.AcceptTransfer(name=made.name)
    assert accepted.state == State.DONE
    # Taken back as far as nobody has changed it since.
    await world.sales.client("manager").UpdateLead(lead={"name": lead.name, "need": "改过"}, updateMask="need")
    await world.settled()
    await customer.manager.UndoTransfer(name=made.name, requestId=uuid4().hex)
    undone = await reached(customer, made.name, State.UNDONE)
    assert [(left.name, left.reason) for left in undone.left] == [(lead.name, "CHANGED")]
    await world.settled()
    assert (await customer.admin.GetAccount(name=shanghai.name)).owner == leaver
    assert (await world.sales.admin.GetOpportunity(name=told["deal"])).owner == leaver
    back = changes(before, await world.contents())
    mine = {k: c & {"owner", "department"} for k, c in back.items() if k != f"sales.{lead.name}"}
    assert not {k for k, c in mine.items() if c and not k.startswith(("customer.timeline", "customer.transfer"))}
