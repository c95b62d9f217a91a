from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import uuid4

import pytest
from billing.app import app
from crmkit.testing import Client, Parts, Refused, Service
from sqlalchemy import text
from uuid_utils.compat import uuid7

COMPANY = "departments/01900000-0000-7000-8000-0000000000d0"
DAY = {"year": 2026, "month": 1, "day": 1}


@pytest.fixture(scope="session")
async def billing(parts: Parts) -> AsyncIterator[Service]:
    """The billing service on real parts."""
    async with parts.service(app()) as service:
        yield service


@pytest.fixture(scope="session")
def desk(billing: Service) -> "Desk":
    """Steps that the stories share."""
    return Desk(billing)


class Desk:
    """The finance desk: makes what a story needs, through the front door."""

    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    def finance(self) -> Client:
        """The one in finance."""
        return self.service.client("finance")

    def money(self, amount: str, currency: str = "CNY") -> dict[str, str]:
        """An amount."""
        return {"currencyCode": currency, "amount": amount}

    async def account(self, name: str = "华东机械", **fields: Any) -> str:
        """A customer of sales1, as the customer service would tell of it."""
        key, person = f"accounts/{uuid7()}", self.service.person("sales1")
        resource = {
            "name": key, "displayName": name, "owner": person.employee, "department": person.department, "etag": "1", **fields,
        }  # fmt: skip
        payload = {"name": key, "action": "CREATED", "actor": "system/test", "resource": resource}
        await self.service.tell("crm.customer.v1.ResourceChanged", payload, key)
        return key

    async def draft(
        self, customer: str, *lines: tuple[str, str, str], currency: str = "CNY", **fields: Any
    ) -> Any:
        """A draft invoice: quantity, price, tax in percent."""
        body = [
            {"description": f"服务{i}", "quantity": q, "unitPrice": self.money(p, currency), "taxRate": r}
            for i, (q, p, r) in enumerate(lines, start=1)
        ]
        return await self.finance.CreateInvoice(
            invoice={"account": customer, "currency": currency, "lines": body, **fields}
        )

    async def issued(self, customer: str, gross: str, currency: str = "CNY", **fields: Any) -> Any:
        """An issued invoice over an amount without tax."""
        made = await self.draft(customer, ("1", gross, "0"), currency=currency, **fields)
        return await self.finance.IssueInvoice(name=made.name)

    async def pending(self, customer: str, amount: str, currency: str = "CNY", **fields: Any) -> Any:
        """A payment that was told of."""
        body = {
            "account": customer,
            "method": "BANK",
            "amount": self.money(amount, currency),
            "date": DAY,
            **fields,
        }
        return await self.finance.CreatePayment(payment=body, requestId=uuid4().hex)

    async def received(self, customer: str, amount: str, currency: str = "CNY", **fields: Any) -> Any:
        """A payment that is here."""
        made = await self.pending(customer, amount, currency, **fields)
        return await self.finance.ConfirmPayment(name=made.name)

    async def allocate(self, payment: str, *targets: tuple[str, str], currency: str = "CNY") -> Any:
        """Ties money to invoices; an empty amount takes what both sides have."""
        body = [{"invoice": i} | ({"amount": self.money(a, currency)} if a else {}) for i, a in targets]
        return await self.finance.AllocatePayment(name=payment, targets=body)

    async def refund(self, payment: str, amount: str, currency: str = "CNY", **fields: Any) -> Any:
        """A refund that was asked for."""
        body = {
            "payment": payment,
            "amount": self.money(amount, currency),
            "reason": "客户退货退款",
            **fields,
        }
        return await self.finance.CreateRefund(refund=body, requestId=uuid4().hex)

    async def refunded(self, payment: str, amount: str, currency: str = "CNY", **fields: Any) -> Any:
        """A refund that is paid."""
        made = await self.refund(payment, amount, currency, **fields)
        await self.finance.ApproveRefund(name=made.name)
        return await self.finance.PayRefund(name=made.name)

    async def allocations(self, payment: str) -> list[Any]:
        """What the payment pays and has paid."""
        return list(
            (
                await self.finance.ListAllocations(filter=f'payment = "{payment}"', orderBy="create_time")
            ).allocations
        )

    async def balance(self, customer: str, currency: str = "CNY") -> Any:
        """What the customer owes; None where nothing ever was."""
        found = await self.finance.ListAccountBalances(
            filter=f'account = "{customer}" AND currency = "{currency}"'
        )
        return found.account_balances[0] if found.account_balances else None

    def contract(self, customer: str, gross: str, **fields: Any) -> dict[str, Any]:
        """A signed contract, as orders would tell of it."""
        person = self.service.person("sales1")
        return {
            "name": f"contracts/{uuid7()}", "number": "HT-S20260001", "displayName": "设备采购", "account": customer,
            "ownEntity": COMPANY, "owner": person.employee, "department": person.department, "currency": "CNY",
            "gross": self.money(gross), "net": self.money(gross), "state": "SIGNED", "signDate": DAY, **fields,
        }  # fmt: skip

    def order(
        self, customer: str, *items: tuple[str, str], delivered: tuple[str, ...] = (), **fields: Any
    ) -> dict[str, Any]:
        """An order with 13 % tax, as orders would tell of it: quantity and price of each item."""
        from decimal import ROUND_HALF_UP, Decimal

        cent, person, rows = Decimal("0.01"), self.service.person("sales1"), list[dict[str, Any]]()
        for i, (quantity, price) in enumerate(items, start=1):
            net = (Decimal(quantity) * Decimal(price)).quantize(cent, ROUND_HALF_UP)
            tax = (net * Decimal("0.13")).quantize(cent, ROUND_HALF_UP)
            rows.append(
                {"key": str(i), "description": f"产品{i}", "quantity": quantity, "unitPrice": self.money(price), "taxRate": "13",
                 "net": self.money(str(net)), "tax": self.money(str(tax)), "gross": self.money(str(net + tax)),
                 "delivered": delivered[i - 1] if delivered else "0"}
            )  # fmt: skip
        net, gross = (sum(Decimal(row[name]["amount"]) for row in rows) for name in ("net", "gross"))
        return {
            "name": f"orders/{uuid7()}", "number": "DD202611210001", "displayName": "补货", "account": customer,
            "ownEntity": COMPANY, "owner": person.employee, "department": person.department, "currency": "CNY",
            "items": rows, "net": self.money(str(net)), "gross": self.money(str(gross)), "state": "IN_PROGRESS", **fields,
        }  # fmt: skip

    def delivery(self, customer: str, order: str, *accepted: tuple[str, str]) -> dict[str, Any]:
        """A confirmed delivery: item and accepted quantity."""
        lines = [{"order": order, "item": item, "quantity": q, "accepted": q} for item, q in accepted]
        return {
            "name": f"deliveries/{uuid7()}",
            "number": "SH202611210001",
            "account": customer,
            "lines": lines,
        }

    async def tell(self, name: str, **payload: Any) -> None:
        """A fact of orders, and waits until it was handled."""
        handler = "on" + "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        seen = await self._handled(handler)
        await self.service.tell(f"crm.orders.v1.{name}", payload)

        async def done() -> bool:
            return await self._handled(handler) > seen

        await self.service.eventually(done)

    async def _handled(self, handler: str) -> int:
        async with self.service.running.sessions() as session:
            count = await session.scalar(
                text("SELECT count(*) FROM inbox WHERE :h = ANY(handlers)"), {"h": handler}
            )
            return int(count or 0)

    async def plan(self, source: str) -> Any:
        """The plan of a contract or an order; None where there is none."""
        kind = "contract" if source.startswith("contracts/") else "order"
        found = await self.finance.ListPaymentPlans(filter=f'{kind} = "{source}"')
        assert len(found.payment_plans) <= 1
        return found.payment_plans[0] if found.payment_plans else None

    async def invoices(self, **fields: str) -> list[Any]:
        """Invoices by field."""
        text = " AND ".join(f'{name} = "{value}"' for name, value in fields.items())
        return list((await self.finance.ListInvoices(filter=text, orderBy="create_time")).invoices)

    async def refused(self, call: Awaitable[Any]) -> Refused:
        """The refusal that the call must give."""
        with pytest.raises(Refused) as found:
            await call
        return found.value
