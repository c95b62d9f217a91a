"""The life of a person's sign-in: what ends at once, what is left to hand over."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.testing import Service
from google.protobuf import json_format
from workspace.asking import climb_ladders


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


@pytest.mark.capability("a.account")
async def test_an_account_its_change_and_its_end_are_asked_for_and_escalated_once_after_a_working_day(
    workspace: Service, office: Any
) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    department = (
        await admin.CreateDepartment(department={"displayName": f"板块{mark}", "kind": "SEGMENT"})
    ).name
    key = f"department.{department.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key))
    at = {"department": department}
    head = await office.hire(f"head.{mark}", ["segment_administrator", "general_manager"])
    clerk = await office.hire(f"clerk.{mark}", ["segment_administrator"], superior=head.name, **at)
    may = ["read", "create", "update", "offboard"]
    code = f"asks_{mark}"
    permissions = [
        *(f"workspace.employees.{one}" for one in may),
        "workspace.approvals.*",
        "workspace.departments.read",
    ]
    await admin.CreateRole(
        role={"code": code, "displayName": code, "permissions": permissions, "scope": "SEGMENT"}
    )
    asks = await office.client_of(await office.hire(f"asks.{mark}", [code], **at))
    clients = {one.name: await office.client_of(one) for one in (head, clerk)}

    # The shipped drafts, for this department alone, as the other tests hire people too.
    shipped = (await admin.ListApprovalPolicies(pageSize=200)).approval_policies
    for action in ("create", "update", "offboard"):
        (draft,) = [
            one
            for one in shipped
            if one.action == f"workspace.employees.{action}" and one.display_name.startswith("账号")
        ]
        assert draft.state == pb.ApprovalPolicy.DRAFT
        made = await admin.CreateApprovalPolicy(
            approvalPolicy={
                "displayName": f"{draft.display_name} {mark}", "action": draft.action, "condition": f'department = "{department}"',
                "selfApproval": "TO_SUPERIOR", "steps": [_json(step) for step in draft.steps],
            }
        )  # fmt: skip
        await admin.ActivateApprovalPolicy(name=made.name)
        policy = f"approvalPolicy.{made.name.partition('/')[2]}"
        await workspace.eventually(lambda policy=policy: workspace.running.config.get(policy), 30)

    async def asked(target: str) -> Any:
        async def there() -> Any:
            page = await admin.ListApprovals(filter=f'target = "{target}" AND state = "PENDING"')
            return page.approvals[0] if page.approvals else None

        return await workspace.eventually(there, 30)

    async def later(days: float) -> None:
        async with workspace.running.call("test", system("workspace")) as call:
            await climb_ladders(datetime.now(UTC) + timedelta(days=days), call)

    def waiting(approval: Any) -> set[str]:
        return {one.approver for one in approval.decisions if not one.vote}

    account = {
        "displayName": f"新人{mark}",
        "username": f"new.{mark}",
        "email": f"new.{mark}@example.com",
        **at,
    }
    held = await asks.CreateEmployee(employee=account)
    assert held.pending_approval and await office.refusal(asks.GetEmployee(name=held.name)) == "NOT_FOUND"
    request = await asked(held.name)
    assert waiting(request) == {clerk.name}
    await later(0)
    assert waiting(await admin.GetApproval(name=request.name)) == {clerk.name}
    # Longer than any public holiday.
    for days in (20, 21, 22):
        await later(days)
        escalated = await admin.GetApproval(name=request.name)
        assert waiting(escalated) == {clerk.name, head.name} and escalated.steps[0].rungs == 1
    (told,) = await office.notices(clients[head.name], request.name)
    assert told.count == 1
    await clients[head.name].ApproveApproval(name=request.name)

    async def exists() -> Any:
        page = await admin.ListEmployees(filter=f'username = "new.{mark}"')
        return page.employees[0] if page.employees else None

    person = await workspace.eventually(exists, 30)
    assert (person.name, person.state) == (held.name, pb.Employee.ACTIVE)

    changed = await asks.UpdateEmployee(
        employee={"name": person.name, "phone": "13800000000"}, updateMask="phone"
    )
    assert changed.pending_approval and not changed.phone
    await clients[clerk.name].ApproveApproval(name=(await asked(person.name)).name)

    async def now(done: Any) -> Any:
        async def there() -> Any:
            found = await admin.GetEmployee(name=person.name)
            return found if done(found) and not found.pending_approval else None

        return await workspace.eventually(there, 30)

    await now(lambda found: found.phone == "13800000000")
    await asks.OffboardEmployee(name=person.name, successor=clerk.name)
    end = await asked(person.name)
    refused = await clients[clerk.name].RejectApproval(name=end.name, reason="他还在职，不应注销")
    assert refused.state == pb.Approval.REJECTED
    await now(lambda found: found.state == pb.Employee.ACTIVE)
    await asks.OffboardEmployee(name=person.name, successor=clerk.name)
    await clients[clerk.name].ApproveApproval(name=(await asked(person.name)).name)
    await now(lambda found: found.state == pb.Employee.OFFBOARDED)


def _json(step: Any) -> dict[str, Any]:
    return json_format.MessageToDict(step)
