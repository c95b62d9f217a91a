"""Somebody leaves: workspace gives tasks, decisions, delegations and dates to come to others, and keys end."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Service


def at(days: int, **more: Any) -> dict[str, Any]:
    """An event of an hour, so many days from now; it collides with nothing that matters here."""
    day = f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"
    return {"start": f"{day}T10:00", "end": f"{day}T11:00", "acceptConflicts": True, **more}


@pytest.mark.capability("a.account")
async def test_tasks_decisions_delegations_and_dates_to_come_go_to_the_successors_and_are_told(
    workspace: Service, office: Any
) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    boss = await office.hire(f"boss.{mark}", ["sales_manager"])
    leaver, heir, planner, decider, guest, trusting = [
        await office.hire(f"{name}.{mark}", ["finance"], superior=boss.name)
        for name in ("leaver", "heir", "planner", "decider", "guest", "trusting")
    ]
    client, others = await office.client_of(leaver), await office.client_of(guest)

    async def event(who: Any, title: str, days: int, *coming: Any, **more: Any) -> str:
        body = at(days, displayName=f"{title}{mark}", **more)
        body["attendees"] = [{"employee": one.name} for one in coming]
        return (await who.CreateCalendarEvent(calendarEvent=body)).name

    meeting = await event(client, "周会", 3, guest, planner)
    series = await event(client, "例会", -14, guest, recurrence="FREQ=WEEKLY;COUNT=20")
    past = await event(client, "上月", -30, guest)
    private = await event(client, "体检", 4, visibility="PRIVATE")
    holiday = await event(client, "休假", 5, kind="LEAVE")
    invited = await event(others, "评审", 6, leaver)
    task = await client.CreateTask(task={"displayName": f"寄样{mark}"})
    key = await admin.CreateApiKey(
        apiKey={
            "displayName": mark,
            "permissions": ["workspace.tasks.read"],
            "scope": "OWN",
            "owner": leaver.name,
        }
    )
    # One decision waits for the leaver, and one colleague lets the leaver decide.
    policy = await admin.CreateApprovalPolicy(
        approvalPolicy={
            "displayName": mark, "action": "workspace.employees.update",
            "condition": f'username = "{guest.username}"',
            "steps": [{"label": "负责人", "approvers": [{"source": "EMPLOYEE", "employee": leaver.name}]}],
        }
    )  # fmt: skip
    await admin.ActivateApprovalPolicy(name=policy.name)
    entry = f"approvalPolicy.{policy.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(entry), 30)
    await admin.UpdateEmployee(employee={"name": guest.name, "phone": "13900000000"}, updateMask="phone")
    await admin.DelegateEmployee(name=trusting.name, delegate=leaver.name, reason="出差")

    async def waiting() -> Any:
        found = (await admin.ListApprovals(filter=f'target = "{guest.name}" AND state = "PENDING"')).approvals
        return found[0] if found else None

    request = await workspace.eventually(waiting, 30)

    def asked(approval: Any) -> list[str]:
        return [one.approver for one in approval.decisions if not one.vote]

    assert asked(request) == [leaver.name]

    async def left() -> dict[str, int]:
        answer = await admin.CountEmployeeBelongings(name=leaver.name)
        return {one.collection: one.count for one in answer.counts}

    async def all_counted() -> bool:
        # What is over and what others have invited to is nothing to hand on.
        return await left() == {"calendarEvents": 4, "tasks": 1, "apiKeys": 1, "approvals": 1}

    await workspace.eventually(all_counted, 30)
    await admin.OffboardEmployee(
        name=leaver.name, successor=heir.name,
        successions=[
            {"collections": ["calendarEvents"], "successor": planner.name},
            {"collections": ["approvals"], "successor": decider.name},
        ],
    )  # fmt: skip

    async def nothing_left() -> bool:
        return await left() == {}

    await workspace.eventually(nothing_left, 30)
    assert (await admin.GetTask(name=task.name)).owner == heir.name
    assert (await admin.GetApiKey(name=key.name)).state == pb.ApiKey.REVOKED
    assert asked(await admin.GetApproval(name=request.name)) == [decider.name]
    (delegation,) = (await admin.GetEmployee(name=trusting.name)).delegations
    assert (delegation.delegate, delegation.reason) == (decider.name, "出差")
    await office.notices(await office.client_of(trusting), trusting.name)

    plans = await office.client_of(planner)
    moved = await plans.GetCalendarEvent(name=meeting)
    assert moved.owner == planner.name
    assert [one.employee for one in moved.attendees] == [guest.name]
    # Of a series the dates that are over stay whose they were.
    assert await office.refusal(plans.GetCalendarEvent(name=series)) == "NOT_FOUND"
    page = (await plans.ListCalendarEvents(q=f"例会{mark}")).calendar_events
    (later,) = [one for one in page if one.owner == planner.name]
    assert later.name != series and later.recurrence.startswith("FREQ=WEEKLY;COUNT=1")
    for name in (meeting, later.name):
        (told,) = await office.notices(others, name)
        assert mark in told.display_name
    await office.notices(plans, leaver.name)

    # The rest of it: what is over stays, own time ends, and who has invited is told that the leaver does not come.
    def seen(name: str) -> Any:
        return workspace.client(
            "sales1", employee=leaver.name, sub=leaver.subject, roles=[]
        ).GetCalendarEvent(name=name)

    assert await office.refusal(seen(past)) == "UNAUTHENTICATED"
    states = {}
    async with workspace.running.system_call("test", None) as call:
        from workspace.model.calendar import CalendarEvent

        for name in (past, private, holiday, series):
            row = await call.named(CalendarEvent, name)
            assert row is not None and row.owner == leaver.name
            states[name] = row.state
    assert states == {past: "SCHEDULED", private: "CANCELLED", holiday: "CANCELLED", series: "SCHEDULED"}
    (answer,) = (await others.GetCalendarEvent(name=invited)).attendees
    assert (answer.employee, answer.response) == (leaver.name, pb.CalendarEvent.DECLINED)
    assert [one for one in await office.notices(others, invited) if "不再参加" in one.display_name]


@pytest.mark.capability("a.account")
async def test_without_a_named_successor_decisions_climb_and_delegations_end(
    workspace: Service, office: Any
) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    leaver, heir, trusting = [
        await office.hire(f"{name}.{mark}", ["finance"]) for name in ("bare", "next", "trusts")
    ]
    await admin.DelegateEmployee(name=trusting.name, delegate=leaver.name, reason="休假中")
    gone = await admin.OffboardEmployee(name=leaver.name, successor=heir.name)
    assert gone.state == pb.Employee.OFFBOARDED

    async def free() -> bool:
        return not (await admin.GetEmployee(name=trusting.name)).delegations

    await workspace.eventually(free, 30)
    (told,) = await office.notices(await office.client_of(trusting), trusting.name)
    assert "另行委托" in told.display_name


@pytest.mark.capability("a.account")
async def test_the_successor_stands_where_the_leaver_stood_in_the_organisation(
    workspace: Service, office: Any
) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    boss = await office.hire(f"top.{mark}", ["finance"])
    leaver = await office.hire(f"head.{mark}", ["sales_manager"], superior=boss.name)
    near = await office.hire(f"near.{mark}", ["finance"], superior=leaver.name)
    # The successor of the place stands two levels beneath it; departments go to somebody else.
    heir = await office.hire(f"heir.{mark}", ["sales_manager"], superior=near.name)
    chief, other = [
        await office.hire(f"{name}.{mark}", ["finance"], superior=boss.name) for name in ("chief", "other")
    ]
    led = await admin.CreateDepartment(
        department={"displayName": f"甲部{mark}", "manager": leaver.name, "deputies": [chief.name]}
    )
    helped = await admin.CreateDepartment(
        department={
            "displayName": f"乙部{mark}", "manager": other.name, "deputies": [leaver.name, near.name],
        }
    )  # fmt: skip
    await admin.UpdateEmployee(employee={"name": near.name, "department": led.name}, updateMask="department")

    async def left() -> dict[str, int]:
        answer = await admin.CountEmployeeBelongings(name=leaver.name)
        return {one.collection: one.count for one in answer.counts}

    assert await left() == {"employees": 1, "departments": 2}
    await admin.OffboardEmployee(
        name=leaver.name, successor=heir.name,
        successions=[{"collections": ["departments"], "successor": chief.name}],
    )  # fmt: skip

    async def nothing_left() -> bool:
        return await left() == {}

    await workspace.eventually(nothing_left, 30)

    async def superior_of(person: Any) -> str:
        return (await admin.GetEmployee(name=person.name)).superior

    assert (await superior_of(near), await superior_of(heir)) == (heir.name, boss.name)
    department = await admin.GetDepartment(name=led.name)
    assert (department.manager, list(department.deputies)) == (chief.name, [])
    department = await admin.GetDepartment(name=helped.name)
    assert (department.manager, list(department.deputies)) == (other.name, [chief.name, near.name])
    for person in (heir, chief):
        await office.notices(await office.client_of(person), leaver.name)

    # Approvals find the new ones by the tree, and every service is told of it.
    async def told() -> bool:
        entry = workspace.running.config.get(f"employee.{near.name.partition('/')[2]}") or {}
        return entry.get("superior") == heir.name

    await workspace.eventually(told, 30)
    for way, decides in (
        ({"source": "SUPERIOR"}, heir),
        ({"source": "SUPERIOR", "level": 2}, boss),
        ({"source": "DEPARTMENT_HEAD"}, chief),
    ):
        body = {"displayName": mark, "action": "sales.quotes.submit", "steps": [{"approvers": [way]}]}
        draft = await admin.CreateApprovalPolicy(approvalPolicy=body)
        found = await admin.SimulateApprovalPolicy(name=draft.name, requester=near.name)
        assert list(found.steps[0].approvers) == [decides.name], way
