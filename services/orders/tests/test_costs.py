"""What an order costs the database: its calls make few round trips, however many orders there are."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Service
from crmkit.testing.costs import round_trips

# BEGIN and COMMIT with them.
MOST = {
    "CreateOrder": 5, "SubmitOrder": 6, "StartOrder": 5,
    "CreateDelivery": 7, "ReadyDelivery": 8, "ShipDelivery": 5, "ConfirmDelivery": 8,
}  # fmt: skip


async def test_an_order_makes_few_round_trips(
    orders: Service, desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {
        "account": await desk.account(), "currency": "CNY", "items": desk.lines(("2", "10.00"), ("1", "5.00"), ("3", "1.00")),
        "invoicing": "ORDERED",
    }  # fmt: skip
    with round_trips(orders, monkeypatch) as said:

        async def cost(method: str, **asked: Any) -> Any:
            await asyncio.sleep(0.05)  # the driver tells of a statement a moment after it
            said.clear()
            answer = await getattr(orders.sales1, method)(requestId=uuid4().hex, **asked)
            await asyncio.sleep(0.05)
            assert 0 < len(said) <= MOST[method], (method, len(said), said)
            return answer

        # The first one also draws a block of numbers.
        first = await orders.sales1.CreateOrder(order=order)
        await orders.sales1.SubmitOrder(name=first.name)
        await orders.sales1.StartOrder(name=first.name)
        lines = [{"order": first.name, "item": item.key, "quantity": "1"} for item in first.items]
        delivery = {"account": first.account, "lines": lines}
        draft = await orders.sales1.CreateDelivery(delivery=delivery)
        await orders.sales1.ReadyDelivery(name=draft.name)
        made = await cost("CreateOrder", order=order)
        await cost("SubmitOrder", name=made.name)
        await cost("StartOrder", name=made.name)
        for line, item in zip(lines, made.items, strict=True):
            line |= {"order": made.name, "item": item.key}
        draft = await cost("CreateDelivery", delivery=delivery)
        await cost("ReadyDelivery", name=draft.name)
        await cost("ShipDelivery", name=draft.name, carrier="顺丰")
        await cost("ConfirmDelivery", name=draft.name, signatory="钱进")
