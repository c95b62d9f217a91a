"""Approvals in steps: whom each finds, how many must agree, who stands in, and what the clock does."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.testing import Service
from workspace.asking import WorkingTime, climb_ladders

DECIDER = "general_manager"


class Steps:
    """A policy in steps over granting one role, a requester with two superiors, and people who decide."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.mark = workspace, office, uuid4().hex[:6]

    async def found(self) -> None:
        admin, mark = self.workspace.admin, self.mark
        self.role = f"granted_{mark}"
        body = {"code": self.role, "displayName": "待授", "permissions": ["workspace.notes.read"]}
        await admin.CreateRole(role=body)
        asks = {
            "code": f"asks_{mark}",
            "displayName": "申请人",
            "permissions": ["workspace.employees.*", "workspace.approvals.*", "workspace.notes.read"],
        }
        await admin.CreateRole(role=asks)
        self.team = await admin.CreateDepartment(department={"displayName": f"步骤{mark}"})
        self.top = await self.person("top")
        self.boss = await self.person("boss", superior=self.top.name)
        change = {"name": self.team.name, "manager": self.boss.name}
        await admin.UpdateDepartment(department=change, updateMask="manager")
        self.requester = await self.person("asker", f"asks_{mark}", superior=self.boss.name)
        self.client = await self.office.client_of(self.requester)

    async def person(self, name: str, *roles: str, **fields: Any) -> Any:
        where = {"department": self.team.name, **fields}
        return await self.office.hire(f"{name}.{uuid4().hex[:6]}", list(roles or (DECIDER,)), **where)

    async def policy(self, *steps: Any, **fields: Any) -> Any:
        admin = self.workspace.admin
        made = await admin.CreateApprovalPolicy(
            approvalPolicy={
                "displayName": f"授予角色 {self.mark}",
                "action": "workspace.employees.assignRole",
                "condition": f'display_name = "target.{self.mark}*"',
                "steps": list(steps),
                **fields,
            }
        )
        active = await admin.ActivateApprovalPolicy(name=made.name)
        key = f"approvalPolicy.{made.name.partition('/')[2]}"
        await self.workspace.eventually(lambda: self.workspace.running.config.get(key))
        return active

    async def held(self) -> tuple[Any, Any]:
        # Roles that come with a new person would wait for the same approval.
        target = await self.office.hire(
            f"target.{self.mark}.{uuid4().hex[:6]}", [], department=self.team.name
        )
        await self.client.AssignEmployeeRole(name=target.name, role=self.role)

        async def asked() -> Any:
            page = await self.client.ListApprovals(filter=f'target = "{target.name}"')
            return page.approvals[0] if page.approvals else None

        return target, await self.workspace.eventually(asked)

    async def approve(self, person: Any, approval: Any) -> Any:
        client = await self.office.client_of(person)
        return await client.ApproveApproval(name=approval.name)

    async def read(self, approval: Any) -> Any:
        return await self.client.GetApproval(name=approval.name)


@pytest.fixture
async def steps(workspace: Service, office: Any) -> Steps:
    made = Steps(workspace, office)
    await made.found()
    return made


def waiting(approval: Any) -> list[str]:
    active = [i for i, one in enumerate(approval.steps) if one.state == "ACTIVE"]
    return [one.approver for one in approval.decisions if one.step in active and not one.vote]


async def test_a_grant_goes_through_its_steps_and_then_happens(
    workspace: Service, office: Any, steps: Steps
) -> None:
    three = [await steps.person(f"q{number}") for number in range(4)]
    named = [{"source": "EMPLOYEE", "employee": one.name} for one in three]
    policy = await steps.policy(
        {"label": "主管", "approvers": [{"source": "SUPERIOR", "level": 1}]},
        {"label": "不适用", "approvers": named[:1], "condition": 'kind = "SERVICE"'},
        {"label": "再次主管", "approvers": [{"source": "DEPARTMENT_HEAD"}]},
        {"label": "多数", "approvers": named, "mode": "QUORUM", "quorumPercent": 51},
        {"label": "依次", "approvers": [{"source": "CHAIN", "level": 2}], "mode": "SEQUENCE"},
        duplicates="CONSECUTIVE",
    )
    path = await workspace.admin.SimulateApprovalPolicy(
        name=policy.name, requester=steps.requester.name, record={"kind": "STAFF"}
    )
    assert [(one.label, one.taken, len(one.approvers)) for one in path.steps] == [
        ("主管", True, 1), ("不适用", False, 0), ("再次主管", True, 1), ("多数", True, 4), ("依次", True, 2)
    ]  # fmt: skip

    target, approval = await steps.held()
    assert waiting(approval) == [steps.boss.name]
    roles = next(one for one in approval.changes if one.field == "roles")
    assert (steps.role in roles.before, steps.role in roles.after) == (False, True)
    assert (await workspace.admin.GetEmployee(name=target.name)).roles == []

    now = await steps.approve(steps.boss, approval)
    # The second step's condition leaves it out; the third finds somebody who decided, but not in a row.
    assert [one.state for one in now.steps] == ["AGREED", "PASSED", "ACTIVE", "WAITING", "WAITING"]
    now = await steps.approve(steps.boss, approval)
    assert set(waiting(now)) == {one.name for one in three}
    await steps.approve(three[0], approval)
    now = await steps.approve(three[1], approval)
    # 51 % of 4 are 3.
    assert now.steps[3].state == "ACTIVE"
    now = await steps.approve(three[2], approval)
    assert now.steps[3].state == "AGREED"
    top = await office.client_of(steps.top)
    assert await office.refusal(top.ApproveApproval(name=approval.name)) == "NOT_AN_APPROVER"
    await steps.approve(steps.boss, approval)
    ended = await steps.approve(steps.top, approval)
    assert ended.state == pb.Approval.APPROVED

    async def granted() -> bool:
        return steps.role in (await workspace.admin.GetEmployee(name=target.name)).roles

    await workspace.eventually(granted)
    assert (await steps.read(approval)).state in (pb.Approval.APPROVED, pb.Approval.EXECUTED)


async def test_a_step_is_refused_as_soon_as_its_quorum_cannot_be_reached(office: Any, steps: Steps) -> None:
    people = [await steps.person(f"r{number}") for number in range(3)]
    named = [{"source": "EMPLOYEE", "employee": one.name} for one in people]
    await steps.policy({"approvers": named, "mode": "QUORUM", "quorum": 2})
    _, approval = await steps.held()
    for number, one in enumerate(people[:2]):
        client = await office.client_of(one)
        now = await client.RejectApproval(name=approval.name, reason="这样不合适")
        assert (now.state == pb.Approval.REJECTED) == (number == 1)


async def test_delegates_signers_and_others_decide_and_somebody_decides_once(
    workspace: Service, office: Any, steps: Steps
) -> None:
    await steps.policy(
        {"approvers": [{"source": "SUPERIOR"}], "mode": "ALL"},
        {"approvers": [{"source": "CHAIN", "level": 2}], "mode": "ALL"},
        withdrawal="WHILE_OPEN",
    )
    _, approval = await steps.held()
    boss, deputy = await office.client_of(steps.boss), await steps.person("deputy")
    # What waits already goes to the delegate, and lines that come back are refused.
    await boss.DelegateEmployee(name=steps.boss.name, delegate=deputy.name, reason="出差")
    now = await steps.read(approval)
    assert (waiting(now), now.decisions[-1].replaced) == ([deputy.name], steps.boss.name)
    deputy_client = await office.client_of(deputy)
    back = deputy_client.DelegateEmployee(name=deputy.name, delegate=steps.boss.name)
    assert await office.refusal(back) == "DELEGATION_CYCLE"
    foreign = deputy_client.DelegateEmployee(name=steps.top.name, delegate=deputy.name)
    assert await office.refusal(foreign) == "PERMISSION_DENIED"
    # Somebody more is asked, somebody else in his place, and both are needed.
    signer, other = await steps.person("signer"), await steps.person("other")
    await deputy_client.AddApprovalSigner(name=approval.name, approver=signer.name)
    again = deputy_client.AddApprovalSigner(name=approval.name, approver=signer.name)
    assert await office.refusal(again) == "EMPLOYEE_INACTIVE"
    signer_client = await office.client_of(signer)
    await signer_client.ReassignApproval(name=approval.name, approver=other.name)
    assert await office.refusal(signer_client.ApproveApproval(name=approval.name)) == "NOT_AN_APPROVER"
    await steps.approve(other, approval)
    said = await steps.client.CommentApproval(name=approval.name, text="请尽快")
    assert [(one.author, one.text) for one in said.remarks] == [(steps.requester.name, "请尽快")]
    await steps.client.RemindApproval(name=approval.name)
    assert await office.refusal(steps.client.RemindApproval(name=approval.name)) == "REMIND_TOO_SOON"
    now = await steps.approve(deputy, approval)
    # The delegate stands in the chain as well, and is taken to agree: one of two is left.
    assert waiting(now) == [steps.top.name]
    assert [one.repeated_vote for one in now.decisions if one.approver == deputy.name] == [False, True]
    # After decisions only a policy that lets him may be withdrawn from.
    assert (await steps.client.WithdrawApproval(name=approval.name)).state == pb.Approval.WITHDRAWN


async def test_a_requester_does_not_decide_and_an_empty_step_does_as_it_says(
    office: Any, steps: Steps
) -> None:
    nobody = f"empty_{steps.mark}"
    await steps.workspace.admin.CreateRole(
        role={"code": nobody, "displayName": "无人", "permissions": ["workspace.notes.read"]}
    )
    mine = {"source": "EMPLOYEE", "employee": steps.requester.name}
    await steps.policy(
        {"approvers": [mine, {"source": "EMPLOYEE", "employee": steps.top.name}]},
        {"approvers": [{"source": "FIELD", "field": "superior"}], "nobody": "PASS"},
        {"approvers": [{"source": "FIELD", "field": "superior"}], "nobody": "REFUSE"},
    )
    _, approval = await steps.held()
    assert waiting(approval) == [steps.top.name]
    ended = await steps.approve(steps.top, approval)
    assert (ended.steps[1].state, ended.state) == ("PASSED", pb.Approval.REJECTED)


async def test_where_a_step_finds_nobody_its_stand_in_decides_and_else_the_administrators(
    office: Any, steps: Steps
) -> None:
    empty = {"approvers": [{"source": "FIELD", "field": "superior"}], "nobody": "NAMED"}
    await steps.policy(
        {**empty, "standIn": steps.top.name},
        {**empty, "standIn": steps.requester.name},
        {**empty, "standIn": steps.boss.name},
    )
    _, approval = await steps.held()
    (asked,) = [one for one in approval.decisions if not one.vote]
    assert (asked.approver, asked.why) == (steps.top.name, "nobody found, named")
    now = await steps.approve(steps.top, approval)
    # Whoever asks does not stand in: the administrators do.
    whys = {one.why for one in now.decisions if one.step == 1}
    assert now.steps[1].state == "ACTIVE" and whys == {"nobody else can decide"}
    for bad in ({**empty}, {"approvers": empty["approvers"], "standIn": steps.top.name}):
        assert await office.refusal(steps.policy(bad)) == "POLICY_INVALID"


async def test_policies_that_could_never_work_or_let_one_decide_for_himself_are_refused(
    office: Any, steps: Steps
) -> None:
    way = {"source": "SUPERIOR"}
    for bad in (
        {"steps": [{"approvers": [way], "mode": "QUORUM"}]},
        {"steps": [{"approvers": [{"source": "ROLE"}]}]},
        {"steps": [{"approvers": [way], "condition": "= ="}]},
        {"steps": [{"approvers": [way]}], "selfApproval": "ALLOW"},
        {"steps": [{"approvers": [way], "ladder": [{"afterHours": 2, "act": "APPROVE"}]}]},
    ):
        fields = {key: value for key, value in bad.items() if key != "steps"}
        assert await office.refusal(steps.policy(*bad["steps"], **fields)) == "POLICY_INVALID", bad
    unheld = {"approvers": [{"source": "ROLE", "role": "no_such_role"}]}
    assert await office.refusal(steps.policy(unheld)) == "POLICY_NO_APPROVER"


async def test_the_ladder_reminds_and_hands_up_in_working_time_once_each(
    workspace: Service, office: Any, steps: Steps
) -> None:
    await steps.policy(
        {
            "approvers": [{"source": "SUPERIOR"}],
            "ladder": [{"afterHours": 4, "act": "REMIND"}, {"afterHours": 9, "act": "REPLACE"}],
        }
    )
    _, approval = await steps.held()

    async def later(days: int) -> Any:
        async with workspace.running.call("test", system("workspace")) as call:
            await climb_ladders(datetime.now(UTC) + timedelta(days=days), call)
        return await steps.read(approval)

    assert waiting(await later(0)) == [steps.boss.name]
    now = await later(7)
    assert (waiting(now), now.steps[0].rungs) == ([steps.top.name], 2)
    assert (await later(8)).steps[0].rungs == 2
    (told,) = await office.notices(await office.client_of(steps.boss), approval.name)
    assert told.count == 2  # asked, and reminded
    zone = ZoneInfo("Asia/Shanghai")
    friday = datetime(2026, 11, 20, 17, tzinfo=zone)
    monday = datetime(2026, 11, 23, 10, 30, tzinfo=zone)
    assert WorkingTime(zone).hours(friday, monday) == 2.5
    # The shifts of the department, and no work on a public holiday: 1 to 7 October 2025 are the National Day.
    late = pb.AttendanceRule.Shift(weekdays="1234567", to="22:00", **{"from": "14:00"})
    assert WorkingTime(zone, [late]).hours(friday, monday) == 5 + 8 + 8 - 16
    before, after = datetime(2025, 9, 30, 18, tzinfo=zone), datetime(2025, 10, 9, 10, tzinfo=zone)
    assert WorkingTime(zone).hours(before, after) == 1


async def test_who_is_frozen_in_the_middle_is_replaced(workspace: Service, office: Any, steps: Steps) -> None:
    await steps.policy({"approvers": [{"source": "SUPERIOR"}]})
    _, approval = await steps.held()
    await workspace.admin.FreezeEmployee(name=steps.boss.name, reason="长期休假中")

    async def replaced() -> Any:
        now = await steps.read(approval)
        return now if waiting(now) == [steps.top.name] else None

    now = await workspace.eventually(replaced)
    assert now.decisions[-1].replaced == steps.boss.name
