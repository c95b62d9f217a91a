import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from crmkit.map import APPS
from crmkit.testing import Parts, Service
from customer.app import app
from local_platform.layout import PEOPLE
from sqlalchemy import text
from stdnum.cn import uscc

AREAS = {
    "opportunities": "sales", "quotes": "sales", "orders": "orders", "contracts": "orders", "allocations": "billing",
    "accountBalances": "billing", "tickets": "servicedesk", "surveyResponses": "servicedesk",
}  # fmt: skip

DAY = {"year": 2026, "month": 1, "day": 1}
# Ledgers and readings of the merge itself, and what says how often a row was written.
_LEDGERS = {
    "merges",
    "pool_claims",
    "audit_entries",
    "notifications",
    "facts",
    "findings",
    "search_documents",
}
_STAY = {"id", "create_time", "creator", "owner", "department"}
_VOLATILE = {"version", "update_time", "etag", "last_interaction_time", "tally"}


@pytest.fixture
def tax_id() -> Callable[[], str]:
    """Makes tax ids with a right check character that no other customer has."""

    def make() -> str:
        # Without letters, which the standard has only some of.
        body = f"91350100{uuid4().int % 10**9:09}"
        return body + uscc.calc_check_digit(body)

    return make


@dataclass(frozen=True)
class World:
    """All services, and who works with them."""

    services: dict[str, Service]
    parts: Parts
    stack: AsyncExitStack

    def __getattr__(self, name: str) -> Service:
        return self.services[name]

    def held_up(self, name: str) -> Callable[[], Awaitable[bool]]:
        """Asks whether the service waits for a row that somebody else holds."""

        async def look() -> bool:
            async with self.services[name].running.sessions() as session:
                waits = "wait_event_type = 'Lock' AND datname = current_database()"
                return bool(
                    await session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waits}"))
                )

        return look

    async def killed(self, name: str) -> None:
        """Ends the work of a service between any two statements: what it had not committed is lost."""
        running = self.services[name].running
        for task in running._tasks:
            task.cancel()
        await asyncio.wait(running._tasks)
        await running.engine.dispose()

    async def started(self, name: str) -> None:
        """Another process of the service takes the place of the one that was killed."""
        app = import_module(f"{name}.app").app()
        self.services[name] = await self.stack.enter_async_context(self.parts.service(app))

    async def contents(self, told: bool = True) -> dict[str, Any]:
        """Every row of every resource in eight databases; without `told` but for what time lines tell of."""
        found: dict[str, Any] = {}
        for name, service in self.services.items():
            for model in service.running.app.models:
                table = model.__tablename__
                if table in _LEDGERS or (table == "timeline" and not told):
                    continue
                async with service.running.system_call("test", None) as call:
                    rows = await call.db.execute(text(f"SELECT * FROM {table}"))
                    for row in rows.mappings():
                        kept = {k: v for k, v in row.items() if k not in _VOLATILE}
                        if table == "timeline" and "erge" in row["kind"]:
                            continue
                        if table == "pool_items":
                            # Another stay goes on where the one before ended.
                            kept = {k: v for k, v in kept.items() if k not in _STAY}
                        key = row["account"] if table == "pool_items" else row["id"]
                        found[f"{name}.{table}/{key}"] = kept
        return found

    async def refers(self, name: str) -> set[str]:
        """Columns of all services that still name the record, ledgers and the record's own life aside."""
        found: set[str] = set()
        for service in self.services.values():
            for model in service.running.app.models:
                table = model.__tablename__
                if table in _LEDGERS | {"timeline"}:
                    continue
                for column in model.__table__.columns:  # type: ignore[attr-defined]
                    async with service.running.system_call("test", None) as call:
                        statement = f'SELECT count(*) FROM {table} WHERE "{column.name}"::text LIKE :name'
                        if await call.db.scalar(text(statement), {"name": f"%{name}%"}):
                            found.add(f"{table}.{column.name}")
        return found

    async def business(self, name: str, owner: str = "sales1") -> dict[str, str]:
        """A customer that every service knows: people, follow-up, consents, deal, contract, invoice, ticket, task."""
        sales = self.customer.client(owner)
        account = (
            await sales.CreateAccount(
                account={
                    "displayName": name,
                    "industry": "机械",
                    "emails": [{"address": f"{uuid4().hex}@a.example"}],
                }
            )
        ).name
        contact = (
            await sales.CreateContact(
                contact={"displayName": "冯同人", "account": account, "phones": [{"number": "13911223344"}]}
            )
        ).name
        interaction = {
            "account": account, "contacts": [contact], "channel": "CALL", "startTime": "2026-11-20T02:00:00Z",
            "subjects": [account], "summary": "谈了备件的年度框架协议和价格", "result": "有意向",
        }  # fmt: skip
        await sales.CreateInteraction(interaction=interaction)
        deal = await self.sales.client(owner).CreateOpportunity(
            opportunity={
                "displayName": "备件框架", "account": account, "need": "备件", "contacts": [{"contact": contact}],
                "amount": {"currencyCode": "CNY", "amount": "5000.00"},
                "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
            }
        )  # fmt: skip
        line = {
            "description": "备件",
            "quantity": "1",
            "unitPrice": {"currencyCode": "CNY", "amount": "100.00"},
            "taxRate": "0",
        }
        contract = await self.orders.client(owner).CreateContract(
            contract={
                "displayName": "备件合同", "account": account, "contact": contact, "currency": "CNY", "effectiveFrom": DAY,
                "lines": [line],
            }
        )  # fmt: skip
        finance = self.billing.client("finance")
        invoice = await finance.CreateInvoice(
            invoice={"account": account, "currency": "CNY", "lines": [line]}
        )
        await finance.IssueInvoice(name=invoice.name)
        ticket = await self.servicedesk.client("agent").CreateTicket(
            ticket={
                "displayName": "漏油",
                "description": "接头漏油",
                "type": "COMPLAINT",
                "severity": "MAJOR",
                "channel": "PHONE",
                "account": account,
                "contact": contact,
                "related": [account],
            }
        )
        task = await self.workspace.client(owner).CreateTask(
            task={"displayName": "寄样品", "links": [account, contact]}
        )
        return {
            "account": account, "contact": contact, "deal": deal.name, "contract": contract.name, "invoice": invoice.name,
            "ticket": ticket.name, "task": task.name,
        }  # fmt: skip

    async def settled(self) -> None:
        """Waits until every service has handled what it was told."""

        async def idle() -> bool:
            for service in self.services.values():
                async with service.running.system_call("test", None) as call:
                    if await call.db.scalar(text("SELECT count(*) FROM outbox WHERE published_at IS NULL")):
                        return False
                    if await call.db.scalar(
                        text("SELECT count(*) FROM bulk_runs WHERE state IN ('QUEUED', 'RUNNING')")
                    ):
                        return False
            js = await self.customer.running.bus.connected()
            for area in self.services:
                for consumer in await js.consumers_info(f"crm-{area}"):
                    if consumer.num_pending or consumer.num_ack_pending:
                        return False
            return True

        quiet = 0
        while quiet < 3:
            await self.customer.eventually(idle, 60)
            quiet += 1


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


@pytest.fixture
def refunded(customer: Service) -> Callable[..., Awaitable[None]]:
    """Tells that money of an account was paid back on a day, twice as it may happen."""

    async def tell(account: str, amount: str, day: date, currency: str = "CNY", who: str = "sales1") -> None:
        name, person = f"refunds/{uuid4()}", customer.person(who)
        allocation = {
            "name": f"allocations/{uuid4()}", "account": account, "owner": person.employee,
            "department": person.department, "amount": {"currencyCode": currency, "amount": amount},
        }  # fmt: skip
        refund = {"name": name, "date": {"year": day.year, "month": day.month, "day": day.day}}
        for _ in range(2):
            payload = {"refund": refund, "targets": [{"allocation": allocation}]}
            await customer.tell("crm.billing.v1.PaymentRefunded", payload, name)

    return tell


@pytest.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The eight services on parts of their own: workspace changes who there is."""
    async with AsyncExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SEED_COMPANY", str(PEOPLE))
        parts = await stack.enter_async_context(Parts(tmp_path_factory.mktemp("everywhere")))
        services: dict[str, Service] = {}
        for entry in APPS:
            if entry.database:
                app = import_module(f"{entry.name}.app").app()
                services[entry.name] = await stack.enter_async_context(parts.service(app))
        yield World(services, parts, stack)


@pytest.fixture
async def segments(customer: Service) -> AsyncIterator[None]:
    """Both branches are segments for a while."""
    keys = [f"department.01900000-0000-7000-8000-0000000000d{n}" for n in (1, 2)]
    async with customer.parts.configuration() as bucket:
        kept = {key: dict(bucket.get(key)) for key in keys}

        async def all_are(kind: str) -> None:
            for key in keys:
                await bucket.put(key, kept[key] | {"kind": kind})

            def known() -> bool:
                return all((customer.running.config.get(key) or {}).get("kind") == kind for key in keys)

            await customer.eventually(known)

        await all_are("SEGMENT")
        yield
        await all_are("BRANCH")
