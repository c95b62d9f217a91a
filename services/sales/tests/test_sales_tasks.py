"""Sales tasks: who may give them, who accepts them, and what is told of them; through the front door."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.jobs import remind_of_tasks
from uuid_utils.compat import uuid7


def employee(sales: Service, name: str) -> str:
    return sales.person(name).employee or ""


@pytest.mark.capability("s.task")
async def test_only_the_supervisor_accepts_and_a_returned_task_keeps_its_reports(sales: Service) -> None:
    me, boss = employee(sales, "sales1"), employee(sales, "manager")
    body = {
        "displayName": "拜访十家老客户",
        "executors": [me],
        "plan": [{"text": "列名单"}],
        "about": f"accounts/{uuid7()}",
    }
    task = await sales.manager.CreateSalesTask(salesTask=body)
    assert (task.state, task.supervisor) == (pb.SalesTask.DRAFT, boss)
    assert (await sales.manager.AssignSalesTask(name=task.name)).state == pb.SalesTask.ASSIGNED
    [fact] = await sales.facts("crm.sales.v1.SalesTaskAssigned", task.name)
    assert fact["people"] == [me]
    assert (await sales.sales1.StartSalesTask(name=task.name)).state == pb.SalesTask.IN_PROGRESS
    with pytest.raises(Refused) as refused:
        await sales.sales1.ReportSalesTask(name=task.name, text="太多", progress=120)
    assert refused.value.violations == {"progress": "OUT_OF_RANGE"}
    await sales.sales1.ReportSalesTask(name=task.name, text="已约五家", progress=50)
    with pytest.raises(Refused) as refused:
        await sales.manager.AcceptSalesTask(name=task.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await sales.sales1.FinishSalesTask(name=task.name, result="九家")
    for verb in ("AcceptSalesTask", "ReturnSalesTask", "CancelSalesTask"):
        reason = {} if verb.startswith("Accept") else {"reason": "自己"}
        with pytest.raises(Refused) as refused:
            await getattr(sales.sales1, verb)(name=task.name, **reason)
        assert refused.value.reason == "NOT_SUPERVISOR"
    back = await sales.manager.ReturnSalesTask(name=task.name, reason="还差一家")
    assert back.state == pb.SalesTask.RETURNED
    await sales.sales1.FinishSalesTask(name=task.name, result="十家")
    done = await sales.manager.AcceptSalesTask(name=task.name)
    assert (done.state, done.result, done.progress) == (pb.SalesTask.ACCEPTED, "十家", 100)
    assert [(one.kind, one.text) for one in done.reports] == [
        ("REPORT", "已约五家"), ("FINISH", "九家"), ("RETURN", "还差一家"), ("FINISH", "十家"), ("ACCEPT", ""),
    ]  # fmt: skip
    with pytest.raises(Refused) as refused:
        await sales.manager.UpdateSalesTask(
            salesTask={"name": task.name, "description": "x"}, updateMask="description"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"


@pytest.mark.capability("s.task")
async def test_tasks_go_to_ones_own_people_and_across_with_the_right_to(sales: Service) -> None:
    me, other, boss = (employee(sales, name) for name in ("sales1", "sales2", "manager"))
    mine = await sales.sales1.CreateSalesTask(
        salesTask={"displayName": "自己的行动", "kind": "ACTION", "executors": [me]}
    )
    assert (await sales.sales1.SubmitSalesTask(name=mine.name)).state == pb.SalesTask.ASSIGNED
    for person in (other, boss):
        theirs = await sales.sales1.CreateSalesTask(
            salesTask={"displayName": "别人的", "executors": [person]}
        )
        with pytest.raises(Refused) as refused:
            await sales.sales1.SubmitSalesTask(name=theirs.name)
        assert (refused.value.code.name, refused.value.reason) == ("PERMISSION_DENIED", "TASK_OUTSIDE")
    across = await sales.manager.CreateSalesTask(
        salesTask={"displayName": "跨部门", "executors": [me, other]}
    )
    assert (await sales.manager.AssignSalesTask(name=across.name)).state == pb.SalesTask.ASSIGNED
    # Whoever has it sees it, in whichever department.
    assert (await sales.sales2.GetSalesTask(name=across.name)).name == across.name
    # Without that right one's own people alone, by their superiors.
    config, key = sales.running.config, f"employee.{boss.partition('/')[2]}"
    entry = config.get(key)
    rights = [f"sales.salesTasks.{verb}" for verb in ("read", "create", "assign")]
    async with sales.parts.configuration() as bucket:
        await bucket.put("role.group_manager", {"permissions": rights, "scope": "BELOW"})
        await bucket.put(key, {**entry, "roles": ["group_manager"]})
        await sales.eventually(
            lambda: config.get("role.group_manager") and config.get(key)["roles"] == ["group_manager"]
        )
        try:
            own, foreign = [
                await sales.manager.CreateSalesTask(salesTask={"displayName": "组内", "executors": [person]})
                for person in (me, employee(sales, "marketer"))
            ]
            assert (await sales.manager.AssignSalesTask(name=own.name)).state == pb.SalesTask.ASSIGNED
            with pytest.raises(Refused) as refused:
                await sales.manager.AssignSalesTask(name=foreign.name)
            assert refused.value.reason == "TASK_OUTSIDE"
        finally:
            await bucket.put(key, entry)
            await bucket.delete("role.group_manager")
            await sales.eventually(lambda: config.get(key)["roles"] == entry["roles"])
    empty = await sales.manager.CreateSalesTask(salesTask={"displayName": "没有执行人"})
    with pytest.raises(Refused) as refused:
        await sales.manager.AssignSalesTask(name=empty.name)
    assert refused.value.violations == {"sales_task.executors": "REQUIRED"}


@pytest.mark.capability("s.task")
async def test_a_new_customer_told_twice_makes_one_task_which_is_reminded_of_once_a_step(
    sales: Service,
) -> None:
    me, account = employee(sales, "sales1"), f"accounts/{uuid7()}"
    own = {
        "owner": me,
        "department": sales.person("sales1").department,
        "displayName": "新客机械",
        "ownerHow": "CREATE",
    }
    for _ in range(3):
        await sales.tell("crm.customer.v1.AccountCreated", {"account": {"name": account, **own}}, account)

    async def made() -> Any:
        return list((await sales.sales1.ListSalesTasks(filter=f'source = "{account}"')).sales_tasks)

    await sales.eventually(made, 30)
    # A second customer is heard after the first was told three times.
    later = f"accounts/{uuid7()}"
    await sales.tell("crm.customer.v1.AccountCreated", {"account": {"name": later, **own}}, later)

    async def heard() -> Any:
        return (await sales.sales1.ListSalesTasks(filter=f'source = "{later}"')).sales_tasks

    await sales.eventually(heard, 30)
    [task] = await made()
    assert (task.state, list(task.executors), task.about) == (pb.SalesTask.ASSIGNED, [me], account)
    due = task.due_time.ToDatetime(UTC)

    async def reminded(at: datetime) -> None:
        async with sales.running.call("test", system("sales")) as call:
            await remind_of_tasks(at, call)

    for at in (
        due - timedelta(days=2),
        due - timedelta(hours=20),
        due - timedelta(hours=19),
        due,
        due + timedelta(days=3),
    ):
        await reminded(at)
    told = await sales.facts("crm.sales.v1.SalesTaskDue", task.name)
    assert [(fact["step"], fact["people"]) for fact in told] == [
        ("DUE", [me]),
        ("OVERDUE", [me, task.supervisor]),
    ]


@pytest.mark.capability("s.task")
async def test_an_import_gives_nobody_a_first_task_and_who_made_a_customer_is_not_told_of_his(
    sales: Service,
) -> None:
    me = employee(sales, "sales1")
    given, imported, mine = (f"accounts/{uuid7()}" for _ in range(3))
    own = {"owner": me, "department": sales.person("sales1").department, "displayName": "新客电子"}
    for name, more in (
        (given, {"ownerHow": "CREATE", "creator": employee(sales, "manager")}),
        (imported, {"creator": me}),
        (mine, {"ownerHow": "CREATE", "creator": me}),
    ):
        await sales.tell("crm.customer.v1.AccountCreated", {"account": {"name": name, **own, **more}}, name)

    async def tasks(account: str) -> Any:
        return list((await sales.sales1.ListSalesTasks(filter=f'source = "{account}"')).sales_tasks)

    await sales.eventually(lambda: tasks(mine), 30)
    await sales.eventually(lambda: tasks(given), 30)
    [own_task], [given_task] = await tasks(mine), await tasks(given)
    assert not await tasks(imported)
    [told] = await sales.facts("crm.sales.v1.SalesTaskAssigned", given_task.name)
    assert told["people"] == [me]
    assert not await sales.facts("crm.sales.v1.SalesTaskAssigned", own_task.name)
