from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from crmkit.testing import Parts, Refused, Service
from orders.app import app
from uuid_utils.compat import uuid7

NEW_YEAR = {"year": 2026, "month": 1, "day": 1}


@pytest.fixture(scope="session")
async def orders(parts: Parts) -> AsyncIterator[Service]:
    """The orders service on real parts."""
    async with parts.service(app()) as service:
        yield service


@pytest.fixture(scope="session")
def desk(orders: Service) -> "Desk":
    """Steps that the stories share."""
    return Desk(orders)


class Desk:
    """The sales desk: makes what a story needs, through the front door."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def cny(self, amount: str) -> dict[str, str]:
        """An amount in renminbi."""
        return {"currencyCode": "CNY", "amount": amount}

    async def account(self, name: str = "华东机械", owner: str = "sales1") -> str:
        """A customer, as the customer service would tell of it."""
        key, person = f"accounts/{uuid7()}", self.service.person(owner)
        resource = {
            "name": key,
            "displayName": name,
            "owner": person.employee,
            "department": person.department,
            "etag": "1",
        }
        payload = {"name": key, "action": "CREATED", "actor": "system/test", "resource": resource}
        await self.service.tell("crm.customer.v1.ResourceChanged", payload, key)
        return key

    def lines(self, *prices: tuple[str, str], rate: str = "13") -> list[dict[str, Any]]:
        """Lines by quantity and unit price."""
        return [
            {
                "description": f"产品{i}",
                "quantity": quantity,
                "unit": "件",
                "unitPrice": self.cny(price),
                "taxRate": rate,
            }
            for i, (quantity, price) in enumerate(prices, start=1)
        ]

    async def contract(self, customer: str, **fields: Any) -> Any:
        """A contract draft of sales1."""
        body = {
            "displayName": "设备采购合同",
            "account": customer,
            "currency": "CNY",
            "effectiveFrom": NEW_YEAR,
            **fields,
        }
        return await self.service.sales1.CreateContract(contract=body)

    async def signed(self, customer: str, **fields: Any) -> Any:
        """A contract of sales1 that both sides have signed."""
        made = await self.contract(customer, **fields)
        await self.service.sales1.SubmitContract(name=made.name)
        await self.service.manager.ApproveContract(name=made.name)
        return await self.service.manager.SignContract(name=made.name, counterpartySignatory="钱进")

    async def placed(self, customer: str, *prices: tuple[str, str], **fields: Any) -> Any:
        """An order of sales1, placed."""
        body = {"account": customer, "currency": "CNY", "items": self.lines(*prices), **fields}
        made = await self.service.sales1.CreateOrder(order=body)
        return await self.service.sales1.SubmitOrder(name=made.name)

    async def started(self, customer: str, *prices: tuple[str, str], **fields: Any) -> Any:
        """An order of sales1 that is being worked on."""
        made = await self.placed(customer, *prices, **fields)
        return await self.service.sales1.StartOrder(name=made.name)

    async def note(self, customer: str, *lines: tuple[str, str, str]) -> Any:
        """A draft delivery note: order, item, quantity."""
        body = {"account": customer, "lines": [{"order": o, "item": i, "quantity": q} for o, i, q in lines]}
        return await self.service.manager.CreateDelivery(delivery=body)

    async def delivered(self, customer: str, *lines: tuple[str, str, str], received: Any = ()) -> Any:
        """A delivery that was confirmed."""
        note = await self.note(customer, *lines)
        await self.service.manager.ReadyDelivery(name=note.name)
        await self.service.manager.ShipDelivery(name=note.name, carrier="顺丰")
        return await self.service.manager.ConfirmDelivery(
            name=note.name, received=list(received), signatory="钱进"
        )

    async def refused(self, call: Awaitable[Any]) -> Refused:
        """The refusal that the call must give."""
        with pytest.raises(Refused) as found:
            await call
        return found.value
