"""What a deal costs the database: its three calls make few round trips, however many deals there are."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Service
from crmkit.testing.costs import round_trips

Made = Callable[..., Awaitable[Any]]
# BEGIN and COMMIT with them. One of a create looks whether a registration may protect the customer.
MOST = {"CreateOpportunity": 7, "AdvanceOpportunity": 6, "WinOpportunity": 5}


async def test_a_deal_makes_few_round_trips(
    sales: Service, account: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    opportunity = {
        "displayName": "年度采购", "account": await account(), "need": "年度采购",
        "amount": {"currencyCode": "CNY", "amount": "5000.00"},
        "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
    }  # fmt: skip
    with round_trips(sales, monkeypatch) as said:

        async def cost(method: str, **asked: Any) -> Any:
            await asyncio.sleep(0.05)  # the driver tells of a statement a moment after it
            said.clear()
            answer = await getattr(sales.sales1, method)(requestId=uuid4().hex, **asked)
            await asyncio.sleep(0.05)
            assert 0 < len(said) <= MOST[method], (method, len(said), said)
            return answer

        # The first one also draws a block of numbers.
        await sales.sales1.CreateOpportunity(opportunity=opportunity)
        made = await cost("CreateOpportunity", opportunity=opportunity)
        await cost("AdvanceOpportunity", name=made.name)
        await cost("WinOpportunity", name=made.name)
