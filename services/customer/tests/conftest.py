from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Parts, Service
from customer.app import app

AREAS = {
    "opportunities": "sales", "quotes": "sales", "orders": "orders", "contracts": "orders", "allocations": "billing",
    "accountBalances": "billing", "paymentRefunds": "billing", "tickets": "servicedesk", "surveyResponses": "servicedesk",
}  # fmt: skip


@pytest.fixture(scope="session")
async def customer(parts: Parts) -> AsyncIterator[Service]:
    """The customer service on real parts."""
    async with parts.service(app()) as service:
        yield service


@pytest.fixture
def told(customer: Service) -> Callable[..., Awaitable[str]]:
    """Tells of a record of another service about an account, or of its next version, as that service would."""

    async def tell(
        collection: str, account: str, who: str = "sales1", name: str = "", etag: int = 1, **fields: Any
    ) -> str:
        name = name or f"{collection}/{uuid4()}"
        person = customer.person(who)
        resource = {
            "name": name, "account": account, "owner": person.employee, "department": person.department,
            "etag": str(etag), "createTime": "2026-11-01T00:00:00Z", **fields,
        }  # fmt: skip
        action = "CREATED" if etag == 1 else "UPDATED"
        payload = {"name": name, "action": action, "actor": person.employee, "resource": resource}
        await customer.tell(f"crm.{AREAS[collection]}.v1.ResourceChanged", payload, name, etag)
        return name

    return tell
