"""Somebody leaves: everything that is open goes to whom it was given, over all services, whatever dies on the way."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Refused
from sqlalchemy import text
from workspace.model.known_record import STAY


@pytest.mark.capability("a.account")
async def test_who_is_frozen_is_refused_by_every_service_at_once_and_let_in_again_after(world: Any) -> None:
    admin, mark = world.workspace.admin, uuid4().hex[:6]
    department = world.workspace.person("sales1").department
    person = await admin.CreateEmployee(
        employee={"displayName": "冻结", "username": f"frozen.{mark}", "department": department, "roles": []}
    )
    key = f"employee.{person.name.partition('/')[2]}"

    async def answer(service: Any) -> str:
        """Why a call is refused; any other reason is as good as an answer here."""
        client = service.client("sales1", employee=person.name, sub=person.subject, roles=[])
        method = next(name for name in sorted(service.running.pipeline.methods) if name.startswith("List"))
        try:
            await client.send(method, b"")
        except Refused as refused:
            return refused.reason
        return ""

    async def all_refuse(frozen: bool) -> None:
        for service in world.services.values():
            await service.eventually(lambda service=service: service.running.config.get(key), 60)

            async def so(service: Any = service) -> bool:
                reason = await answer(service)
                return reason != "UNAUTHENTICATED" and (reason == "EMPLOYEE_FROZEN") == frozen

            await service.eventually(so, 5 * service.running.settings.patience)

    await all_refuse(False)
    await admin.FreezeEmployee(name=person.name, reason="可能离职，先行冻结")
    await all_refuse(True)
    await admin.UnfreezeEmployee(name=person.name)
    await all_refuse(False)


@pytest.mark.capability("a.account")
async def test_an_offboarding_killed_in_the_middle_ends_with_nothing_left(world: Any) -> None:
    workspace, customer = world.workspace, world.customer
    mark = uuid4().hex[:6]
    person = workspace.person("sales1")

    async def hired(name: str) -> Any:
        made = await workspace.admin.CreateEmployee(
            employee={
                "displayName": name, "username": f"{name}.{mark}", "department": person.department,
                "roles": ["sales_manager"],
            }
        )  # fmt: skip
        key = f"employee.{made.name.partition('/')[2]}"
        for service in world.services.values():
            await service.eventually(lambda service=service: service.running.config.get(key), 60)
        return made

    leaver, general, deals = [await hired(name) for name in ("leaver", "general", "deals")]

    def of(service: Any) -> Any:
        return service.client("sales1", employee=leaver.name, sub=leaver.subject, roles=[])

    account = (await of(customer).CreateAccount(account={"displayName": f"交接客户{mark}"})).name
    opportunity = await of(world.sales).CreateOpportunity(
        opportunity={
            "displayName": f"交接商机{mark}", "account": account, "need": "备件",
            "amount": {"currencyCode": "CNY", "amount": "5000.00"},
            "expectedCloseDate": {"year": 2099, "month": 3, "day": 31},
        }
    )  # fmt: skip
    tasks = [(await of(workspace).CreateTask(task={"displayName": f"{n}{mark}"})).name for n in range(3)]
    await of(workspace).CompleteTask(name=tasks[2])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    event = await of(workspace).CreateCalendarEvent(
        calendarEvent={
            "displayName": f"会议{mark}", "start": f"{tomorrow:%Y-%m-%d}T09:00", "end": f"{tomorrow:%Y-%m-%d}T10:00",
            "acceptConflicts": True,
        }
    )  # fmt: skip
    key = await workspace.admin.CreateApiKey(
        apiKey={
            "displayName": mark,
            "permissions": ["workspace.tasks.read"],
            "scope": "OWN",
            "owner": leaver.name,
        }
    )

    async def counted() -> dict[str, int]:
        answer = await world.workspace.admin.CountEmployeeBelongings(name=leaver.name)
        return {one.collection: one.count for one in answer.counts}

    wanted = {"tasks": 2, "accounts": 1, "opportunities": 1, "calendarEvents": 1, "apiKeys": 1}

    async def known() -> bool:
        now = await counted()
        return wanted.items() <= now.items()

    await workspace.eventually(known, 60)

    # Rows that somebody else holds stop the services on their way; there they die, and others take their place.
    stopped = {"customer": "accounts", "sales": "opportunities", "workspace": "tasks"}
    async with AsyncExitStack() as stack:
        for name, table in stopped.items():
            call = await stack.enter_async_context(world.services[name].running.system_call("test", None))
            # Held for as long as it takes.
            await call.db.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await call.db.execute(
                text(f"SELECT 1 FROM {table} WHERE owner = :owner FOR UPDATE"), {"owner": leaver.name}
            )
        successions = [{"collections": ["opportunities"], "successor": deals.name}]
        await workspace.admin.OffboardEmployee(
            name=leaver.name, successor=general.name, successions=successions
        )
        for name in ("workspace", "customer"):
            await world.services[name].eventually(world.held_up(name), 60)
            await world.killed(name)
    for name in ("workspace", "customer"):
        await world.started(name)
    await world.killed("sales")
    await world.started("sales")

    async def nothing_left() -> bool:
        now = await counted()
        return now == {}

    await world.workspace.eventually(nothing_left, 120)
    assert (await world.customer.admin.GetAccount(name=account)).owner == general.name
    assert (await world.sales.admin.GetOpportunity(name=opportunity.name)).owner == deals.name
    assert {(await world.workspace.admin.GetTask(name=name)).owner for name in tasks[:2]} == {general.name}
    # What was done stays with who did it.
    assert (await world.workspace.admin.GetTask(name=tasks[2])).owner == leaver.name
    heir = world.workspace.client("sales1", employee=general.name, sub=general.subject, roles=[])
    assert (await heir.GetCalendarEvent(name=event.name)).owner == general.name
    assert (await world.workspace.admin.GetApiKey(name=key.name)).state == pb.ApiKey.REVOKED


async def test_what_stays_with_who_leaves_is_not_counted_as_left(world: Any) -> None:
    stay = {
        model.described.collection
        for service in world.services.values()
        for model in service.running.app.models
        if model.described.scope == "OWNED" and not model.handed_over
        and (state := model.described.fields.get("state")) and state.enum_numbers
    }  # fmt: skip
    assert stay == STAY
