"""Orders and contracts that come by partners (PAR-5, PAR-6)."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from crmkit.testing import Refused, Service, local_date
from uuid_utils.compat import uuid7

from .conftest import Desk
from .test_facts import before, contracts_of, deal, handled, quote


def day(days: int) -> dict[str, int]:
    """A day from today on, as a date of the protos."""
    found = local_date() + timedelta(days=days)
    return {"year": found.year, "month": found.month, "day": found.day}


async def agreed(orders: Service, partner: str, version: int = 1, name: str = "", **fields: Any) -> str:
    """What workspace tells of an agreement; gives its name."""
    name = name or f"partners/{uuid7()}"
    resource = {"name": name, "account": partner, "state": "ACTIVE", "startDate": day(-30), **fields}
    told = {"name": name, "action": "UPDATED", "actor": "system/test", "resource": resource}
    await orders.tell("crm.workspace.v1.ResourceChanged", told, name, version=version)
    return name


async def test_what_a_partner_sold_names_him_from_the_deal_to_the_order_and_adds_up_by_him(
    orders: Service, desk: Desk
) -> None:
    partner, customer = await desk.account("蓝海渠道"), await desk.account()
    won = deal(orders, customer, channelPartner=partner)
    wins, accepts = await before(orders, "on_opportunity_won"), await before(orders, "on_quote_accepted")
    await orders.tell("crm.sales.v1.OpportunityWon", {"opportunity": won}, won["name"], times=2)
    await handled(orders, "on_opportunity_won", wins + 1)
    [contract] = await contracts_of(orders, won["name"])
    assert contract.channel_partner == partner
    # The order of the contract, and that of a quote without a deal.
    name = contract.name
    await orders.sales1.SubmitContract(name=name)
    await orders.manager.ApproveContract(name=name)
    await orders.manager.SignContract(name=name, counterpartySignatory="钱进")
    called = await orders.sales1.CreateOrderFromContract(name=name)
    direct = quote(orders, customer) | {"channelPartner": partner}
    await orders.tell("crm.sales.v1.QuoteAccepted", {"quote": direct}, direct["name"])
    await handled(orders, "on_quote_accepted", accepts + 1)
    [drafted] = (await orders.manager.ListOrders(filter=f'quote = "{direct["name"]}"')).orders
    assert {called.channel_partner, drafted.channel_partner} == {partner}
    assert {called.channel, drafted.channel} == {drafted.AGENT}
    by_hand = await desk.placed(customer, ("1", "100.00"), channelPartner=partner)
    await desk.placed(customer, ("1", "7.00"))
    rows = (
        await orders.manager.AggregateOrders(
            filter=f'account = "{customer}"', groupBy=["channelPartner"], sum=["gross"]
        )
    ).rows
    sums = {row.group[0]: (row.count, Decimal(row.sums["gross:CNY"])) for row in rows}
    whole = sum(Decimal(one.gross.amount) for one in (called, drafted, by_hand))
    assert sums == {partner: ("3", whole), "": ("1", Decimal("7.91"))}
    # The fact tells whose it is, for targets and reports.
    [placed] = await orders.facts("crm.orders.v1.OrderPlaced", by_hand.name)
    assert placed["order"]["channelPartner"] == partner


async def test_a_partner_sees_the_orders_that_came_by_him_and_no_others(orders: Service, desk: Desk) -> None:
    mine, customer = orders.person("partner").account or "", await desk.account()
    told = {
        "name": mine, "action": "UPDATED", "actor": "system/test",
        "resource": {"name": mine, "displayName": "蓝海渠道", "owner": orders.person("sales1").employee},
    }  # fmt: skip
    await orders.tell("crm.customer.v1.ResourceChanged", told, mine, version=9)
    rival = await desk.account("另一渠道")
    made = {
        partner: await desk.placed(customer, ("1", "100.00"), channelPartner=partner)
        for partner in (mine, rival, "")
    }
    ours, theirs = orders.client("partner"), f'account = "{customer}"'
    assert (await ours.GetOrder(name=made[mine].name)).state == made[mine].state
    assert [one.name for one in (await ours.ListOrders(filter=theirs)).orders] == [made[mine].name]
    [row] = (await ours.AggregateOrders(filter=theirs)).rows
    assert row.count == "1"
    for partner in (rival, ""):
        with pytest.raises(Refused) as refused:
            await ours.GetOrder(name=made[partner].name)
        assert refused.value.reason == "NOT_FOUND"


async def test_no_order_begins_with_a_partner_without_an_agreement_in_force_and_what_runs_goes_on(
    orders: Service, desk: Desk
) -> None:
    partner, customer = await desk.account("渠道"), await desk.account()
    body = {"account": customer, "currency": "CNY", "items": desk.lines(("1", "10.00"))}
    agreement = await agreed(orders, partner, endDate=day(0))

    async def known(**fields: Any) -> None:
        async def there() -> bool:
            async with orders.running.system_call("look", None) as call:
                told = await call.copy(agreement) or {}
            return all(told.get(key) == value for key, value in fields.items())

        await orders.eventually(there)

    await known(endDate=day(0))
    # Its last day counts.
    begun = await orders.sales1.CreateOrder(order={**body, "channelPartner": partner})
    assert begun.agreement == agreement
    contract = await desk.signed(customer, channelPartner=partner, lines=desk.lines(("1", "20.00")))
    other = await orders.sales1.CreateOrder(order=body)
    version = 1
    for fields in ({"state": "ENDED"}, {"state": "SUSPENDED"}, {"endDate": day(-1)}, {"startDate": day(1)}):
        version += 1
        await agreed(orders, partner, version, agreement, **fields)
        await known(**fields)
        refused = await desk.refused(orders.sales1.CreateOrder(order={**body, "channelPartner": partner}))
        assert refused.reason == "PARTNER_NO_AGREEMENT", fields
    change = {"order": {"name": other.name, "channelPartner": partner}, "updateMask": "channelPartner"}
    assert (await desk.refused(orders.sales1.UpdateOrder(**change))).reason == "PARTNER_NO_AGREEMENT"
    # What was begun is placed, the contract is called off, and an accepted quote becomes its order.
    assert (await orders.sales1.SubmitOrder(name=begun.name)).channel_partner == partner
    assert (await orders.sales1.CreateOrderFromContract(name=contract.name)).channel_partner == partner
    accepted, accepts = quote(orders, customer), await before(orders, "on_quote_accepted")
    accepted |= {"channelPartner": partner}
    await orders.tell("crm.sales.v1.QuoteAccepted", {"quote": accepted}, accepted["name"])
    await handled(orders, "on_quote_accepted", accepts + 1)
    [drafted] = (await orders.manager.ListOrders(filter=f'quote = "{accepted["name"]}"')).orders
    assert drafted.channel_partner == partner
    # A company with which nothing was ever agreed may begin, as everywhere.
    assert not (
        await desk.placed(customer, ("1", "1.00"), channelPartner=await desk.account("新渠道"))
    ).agreement
