"""The life of a person's sign-in: what ends at once, what is left to hand over."""

import time
from typing import Any
from uuid import uuid4

from crmkit.testing import Service


async def test_ended_sessions_count_no_more_and_a_new_one_does(workspace: Service, office: Any) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    person = await office.hire(f"sessions.{mark}", ["finance"])
    key = f"employee.{person.name.partition('/')[2]}"
    before = await office.client_of(person)
    await before.ListTasks()
    ended = await admin.EndEmployeeSessions(name=person.name)
    assert ended.HasField("sessions_end_time") and ended.state == person.state
    await workspace.eventually(lambda: workspace.running.config.get(key).get("signedOut"), 30)
    assert await office.refusal(before.ListTasks()) == "UNAUTHENTICATED"
    # Tokens tell whole seconds.
    await workspace.eventually(lambda: time.time() >= ended.sessions_end_time.seconds + 1)
    await (await office.client_of(person)).ListTasks()
    # What the person may do is explained as ever.
    assert (await admin.ListEmployeePermissions(name=person.name)).active
    assert await office.refusal(before.EndEmployeeSessions(name=person.name)) == "UNAUTHENTICATED"
    sales = workspace.sales1.EndEmployeeSessions(name=person.name)
    assert await office.refusal(sales) == "PERMISSION_DENIED"
    await admin.FreezeEmployee(name=person.name, reason="已经停用账号")
    assert await office.refusal(admin.EndEmployeeSessions(name=person.name)) == "ILLEGAL_TRANSITION"


async def test_what_a_leaver_owns_is_counted_until_nothing_is_left(workspace: Service, office: Any) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    leaver, heir = (
        await office.hire(f"leaver.{mark}", ["finance"]),
        await office.hire(f"heir.{mark}", ["finance"]),
    )
    client = await office.client_of(leaver)
    for number in range(3):
        await client.CreateTask(task={"displayName": f"交接{mark}{number}"})
    await client.CreateNote(note={"displayName": f"私人便签{mark}"})
    account = f"accounts/{uuid4()}"

    async def told(owner: str, version: int) -> None:
        resource = {"name": account, "displayName": "客户", "owner": owner, "department": leaver.department}
        change = {"name": account, "action": "UPDATED", "resource": resource}
        await workspace.tell("crm.customer.v1.ResourceChanged", change, account, version)

    async def counted(person: Any) -> dict[str, int]:
        answer = await admin.CountEmployeeBelongings(name=person.name)
        assert answer.total == sum(one.count for one in answer.counts)
        return {one.collection: one.count for one in answer.counts}

    await told(leaver.name, 1)

    async def owns(person: Any, wanted: dict[str, int]) -> None:
        async def there() -> bool:
            return await counted(person) == wanted

        await workspace.eventually(there, 30)

    await owns(leaver, {"tasks": 3, "accounts": 1})
    await admin.OffboardEmployee(name=leaver.name, successor=heir.name)
    await owns(leaver, {"accounts": 1})
    # The customer service hands its part over.
    await told(heir.name, 2)
    await owns(leaver, {})
    await owns(heir, {"tasks": 3, "accounts": 1})
    assert (
        await office.refusal(workspace.sales1.CountEmployeeBelongings(name=leaver.name))
        == "PERMISSION_DENIED"
    )
