import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from crmkit import blobs
from crmkit.testing import Parts, Service
from sales.app import app
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
async def sales(parts: Parts) -> AsyncIterator[Service]:
    """The sales service on real parts."""
    async with parts.service(app()) as service:
        yield service


@pytest.fixture
async def person(sales: Service) -> AsyncIterator[Made]:
    """Somebody of whom no other test tells anything, nor another service on the same bus."""
    made: list[str] = []
    async with sales.parts.configuration() as config:

        async def make() -> str:
            key = uuid4()
            made.append(f"employee.{key}")
            told = {"department": sales.person("sales1").department, "roles": [], "displayName": "某人"}
            await config.put(made[-1], told)
            await sales.eventually(lambda: sales.running.config.get(f"employee.{key}"))
            return f"employees/{key}"

        yield make
        for key in made:
            await config.delete(key)


@pytest.fixture
def account(sales: Service) -> Made:
    """Tells of a customer as the customer service would; gives its name."""

    async def tell(username: str = "sales1", **fields: Any) -> str:
        return await _told(sales, "accounts", username, **{"displayName": "华东机械", **fields})

    return tell


@pytest.fixture
def contact(sales: Service) -> Made:
    """Tells of a contact; gives its name."""

    async def tell(username: str = "sales1", **fields: Any) -> str:
        return await _told(sales, "contacts", username, **{"displayName": "李雷", **fields})

    return tell


@pytest.fixture
def product(sales: Service) -> Made:
    """A product on sale."""

    async def make(**fields: Any) -> Any:
        code = uuid4().hex[:12]
        body = {
            "displayName": f"光电传感器 {code}",
            "code": code,
            "unit": "件",
            "taxRate": "13",
            "listPrice": cny("100.00"),
        }
        made = await sales.manager.CreateProduct(product={**body, **fields})
        return await sales.manager.ActivateProduct(name=made.name)

    return make


@pytest.fixture
def imported(sales: Service) -> Made:
    """Brings a table in as workspace asks for it, and waits for the end."""

    async def bring(collection: str, rows: Sequence[Sequence[str]], username: str) -> dict[str, Any]:
        table = io.StringIO()
        csv.writer(table).writerows(rows)
        sha256, size = await blobs.keep(sales.running.store, io.BytesIO(table.getvalue().encode()))
        name = f"bulkJobs/{uuid4()}"
        owner = sales.person(username).employee
        job = {"name": name, "mode": "IMPORT", "owner": owner, "collection": collection}
        file = {"name": f"files/{uuid4()}", "displayName": "导入.csv", "sha256": sha256, "size": str(size)}
        await sales.tell("crm.workspace.v1.BulkRequested", {"bulkJob": job, "file": file}, name)

        async def ended() -> Any:
            facts = await sales.facts("crm.sales.v1.BulkFinished")
            return next((fact for fact in facts if fact["job"] == name), None)

        return {"total": 0, "failed": 0, **await sales.eventually(ended, 30)}

    return bring


@pytest.fixture
def agreed(sales: Service) -> "Callable[[str], Agreement]":
    """What workspace tells of a partner, by its account."""
    return lambda account: Agreement(sales, account)


@pytest.fixture
def policy(sales: Service) -> Made:
    """A policy in force."""

    async def make(kind: str, **fields: Any) -> Any:
        body = {"displayName": f"内部名 {uuid4().hex[:6]}", "kind": kind, **fields}
        made = await sales.manager.CreateDiscountPolicy(discountPolicy=body)
        return await sales.manager.ActivateDiscountPolicy(name=made.name)

    return make


@pytest.fixture
def bundle(sales: Service, product: Made) -> Made:
    """A machine with a controller (one of two), sensors, and a licence, and rules between them."""

    async def make(**fields: Any) -> Any:
        keys = ("small", "big", "sensor", "licence")
        parts = {
            key: await product(displayName=f"{key} {uuid4().hex[:6]}", cost=cny("40.00")) for key in keys
        }

        def option(key: str, **more: Any) -> dict[str, Any]:
            return {"key": key, "product": parts[key].name, **more}

        body = {
            "displayName": "检测站", "code": uuid4().hex[:10], "unit": "套",
            "groups": [
                {"key": "controller", "displayName": "控制器", "minimum": 1, "maximum": 1,
                 "options": [option("small", preset=True), option("big")]},
                {"key": "extras", "displayName": "选件",
                 "options": [option("sensor", preset=True, quantity="2", maxQuantity="8"), option("licence")]},
            ],
            "rules": [
                {"kind": "EXCLUDES", "option": "small", "other": "licence"},
                {"kind": "QUANTITY", "option": "big", "other": "sensor", "ratio": "2", "plus": "1"},
            ],
            "questions": [{"text": "需要联网吗？", "answers": [{"text": "是", "options": ["big", "licence"]}, {"text": "否", "options": ["small"]}]}],
            **fields,
        }  # fmt: skip
        return await sales.manager.CreateBundle(bundle=body)

    return make


@pytest.fixture
def deal(sales: Service, account: Made) -> Made:
    """An opportunity of sales1 that the first stage takes."""

    async def make(**fields: Any) -> Any:
        body = {
            "displayName": "二号线改造", "need": "更换传感器", "amount": cny("50000.00"),
            "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
        }  # fmt: skip
        if "account" not in fields:
            fields["account"] = await account()
        return await sales.sales1.CreateOpportunity(opportunity={**body, **fields})

    return make


def cny(amount: str) -> dict[str, str]:
    """An amount as JSON."""
    return {"currencyCode": "CNY", "amount": amount}


async def _told(sales: Service, collection: str, username: str, **fields: Any) -> str:
    person, name = sales.person(username), f"{collection}/{uuid7()}"
    resource = {
        "name": name,
        "owner": person.employee,
        "department": person.department,
        "state": "ACTIVE",
        **fields,
    }
    if "phones" in resource:
        # Customer says of each whether it can be one and nobody found it wrong.
        resource["phones"] = [{"valid": True, **phone} for phone in resource["phones"]]
    payload = {"name": name, "action": "CREATED", "actor": "system/test", "resource": resource}
    await sales.tell("crm.customer.v1.ResourceChanged", payload, name)
    return name


class Agreement:
    """A partner as workspace tells of it."""

    def __init__(self, sales: Service, account: str) -> None:
        self.sales, self.name, self.version = sales, f"partners/{uuid7()}", 0
        self.owner = sales.person("manager").employee
        self.resource = {
            "name": self.name, "account": account, "state": "ACTIVE", "owner": self.owner, "startDate": {"year": 2026, "month": 1, "day": 1},
        }  # fmt: skip

    async def told(self, **fields: Any) -> None:
        """It is so from now on."""
        self.resource, self.version = self.resource | fields, self.version + 1
        told = {"name": self.name, "action": "UPDATED", "actor": "system/test", "resource": self.resource}
        await self.sales.tell(
            "crm.workspace.v1.ResourceChanged", told, self.name, version=self.version, times=2
        )
