"""What is held, how it changes on its way, and what is decided about which edition of the policy and the request."""

import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.testing import Refused, Service
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from sqlalchemy import text
from workspace.asking import return_delegated

REASON = "请补充说明后再提交"


class Rounds:
    """Policies over departments whose code begins with the mark, and two who decide."""

    def __init__(self, workspace: Service, office: Any) -> None:
        self.workspace, self.office, self.mark = workspace, office, f"R{uuid4().hex[:6]}"
        self.first, self.second = workspace.client("zong"), workspace.client("finance")
        names = [workspace.person(one).employee for one in ("zong", "finance")]
        self.step, self.next = ({"approvers": [{"source": "EMPLOYEE", "employee": one}]} for one in names)

    async def policy(self, action: str, *steps: Any, **fields: Any) -> Any:
        body = {
            "displayName": f"{action} {self.mark}",
            "action": action,
            "condition": f'code = "{self.mark}*"',
            "steps": list(steps or [self.step]),
            **fields,
        }
        made = await self.workspace.admin.CreateApprovalPolicy(approvalPolicy=body)
        active = await self.workspace.admin.ActivateApprovalPolicy(name=made.name)
        await self.known(active)
        return active

    async def known(self, policy: Any) -> None:
        key, config = f"approvalPolicy.{policy.name.partition('/')[2]}", self.workspace.running.config
        await self.workspace.eventually(lambda: (config.get(key) or {}).get("version") == policy.edition)

    async def department(self, name: str = "") -> Any:
        body = {"displayName": name or uuid4().hex, "code": f"{self.mark}-{uuid4().hex[:8]}"}
        return await self.workspace.admin.CreateDepartment(department=body)

    async def approval(self, target: str) -> Any:
        async def found() -> Any:
            page = await self.workspace.admin.ListApprovals(filter=f'target = "{target}"')
            return page.approvals[0] if page.approvals else None

        return await self.workspace.eventually(found)

    async def until(self, approval: Any, fits: Any) -> Any:
        async def there() -> Any:
            now = await self.workspace.admin.GetApproval(name=approval.name)
            return now if fits(now) else None

        return await self.workspace.eventually(there)

    async def ends(self, approval: Any, state: int) -> Any:
        return await self.until(approval, lambda now: now.state == state)


@pytest.fixture
def rounds(workspace: Service, office: Any) -> Rounds:
    return Rounds(workspace, office)


async def test_creating_waits_and_nothing_exists_before(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy("workspace.departments.create")
    answered = await rounds.department()
    assert answered.pending_approval.startswith("workspace.departments.create#")
    assert await office.refusal(workspace.admin.GetDepartment(name=answered.name)) == "NOT_FOUND"
    approval = await rounds.approval(answered.name)
    # Seen by who asked and who decides, and by no colleague.
    assert (await rounds.first.GetApproval(name=approval.name)).facts["code"] == answered.code
    assert await office.refusal(workspace.sales2.GetApproval(name=approval.name)) == "NOT_FOUND"
    await rounds.first.ApproveApproval(name=approval.name, digest=approval.digest)
    await rounds.ends(approval, pb.Approval.EXECUTED)
    assert (await workspace.admin.GetDepartment(name=answered.name)).code == answered.code


async def test_changes_of_some_fields_wait_one_by_one_and_others_go_on(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy("workspace.departments.update:kind", watchedFields=["kind", "manager"])
    one, two = await rounds.department(), await rounds.department()
    admin = workspace.admin

    async def change(mask: str, **fields: Any) -> Any:
        return await admin.UpdateDepartment(department={"name": one.name, **fields}, updateMask=mask)

    assert (await change("englishName", englishName="Plain")).english_name == "Plain"
    before = await admin.GetDepartment(name=one.name)
    requests = [
        {"department": {"name": one.name, "kind": "TEAM"}, "updateMask": "kind"},
        {"department": {"name": two.name, "englishName": "Two"}, "updateMask": "englishName"},
    ]
    done = (await admin.BatchUpdateDepartments(requests=requests)).departments
    assert [(bool(row.pending_approval), row.english_name) for row in done] == [
        (True, "Plain"),
        (False, "Two"),
    ]
    # What is watched stays as it is, the rest may change; a second such action is refused.
    assert (
        await office.refusal(change("manager", manager=workspace.person("zong").employee))
        == "PENDING_APPROVAL"
    )
    assert await office.refusal(change("kind", kind="TEAM")) == "PENDING_APPROVAL"
    approval = await rounds.approval(one.name)
    assert [(c.field, c.before, c.after) for c in approval.changes] == [("kind", '"DEPARTMENT"', '"TEAM"')]
    await rounds.first.RejectApproval(name=approval.name, reason=REASON)

    async def free() -> Any:
        now = await admin.GetDepartment(name=one.name)
        return None if now.pending_approval else now

    # Byte for byte what it was: version and times too.
    assert (await workspace.eventually(free)).SerializeToString() == before.SerializeToString()
    await change("kind", kind="TEAM")
    await change("englishName", englishName="Meanwhile")

    async def waiting() -> Any:
        found = await admin.ListApprovals(filter=f'target = "{one.name}" AND state = PENDING')
        return found.approvals[0] if found.approvals else None

    again = await workspace.eventually(waiting)
    await rounds.first.ApproveApproval(name=again.name, digest=again.digest)
    await rounds.ends(again, pb.Approval.EXECUTED)
    now = await admin.GetDepartment(name=one.name)
    assert (now.kind, now.english_name) == (pb.Department.TEAM, "Meanwhile")


async def test_a_deletion_waits_and_says_so(workspace: Service, office: Any, rounds: Rounds) -> None:
    await rounds.policy("workspace.departments.delete")
    made = await rounds.department()
    assert await office.refusal(workspace.admin.DeleteDepartment(name=made.name)) == "HELD_FOR_APPROVAL"
    assert (await workspace.admin.GetDepartment(name=made.name)).pending_approval
    approval = await rounds.approval(made.name)
    await rounds.first.ApproveApproval(name=approval.name)
    await rounds.ends(approval, pb.Approval.EXECUTED)
    assert await office.refusal(workspace.admin.GetDepartment(name=made.name)) == "NOT_FOUND"


async def test_a_running_approval_keeps_the_edition_of_its_policy(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    policy = await rounds.policy("workspace.departments.close", rounds.step, rounds.next)
    old = await rounds.department()
    await workspace.admin.CloseDepartment(name=old.name)
    running = await rounds.approval(old.name)
    changed = await workspace.admin.UpdateApprovalPolicy(
        approvalPolicy={"name": policy.name, "steps": [rounds.next]}, updateMask="steps"
    )
    assert (policy.edition, changed.edition, changed.state) == (1, 2, pb.ApprovalPolicy.ACTIVE)
    await rounds.known(changed)
    new = await rounds.department()
    await workspace.admin.CloseDepartment(name=new.name)
    later = await rounds.approval(new.name)
    assert [(len(one.steps), one.policy_edition) for one in (running, later)] == [(2, 1), (1, 2)]
    unheld = {"name": policy.name, "steps": [{"approvers": [{"source": "ROLE", "role": "no_such_role"}]}]}
    broken = workspace.admin.UpdateApprovalPolicy(approvalPolicy=unheld, updateMask="steps")
    assert await office.refusal(broken) == "POLICY_NO_APPROVER"
    # Two decided at once: what one cannot decide keeps nobody from deciding the other.
    items = [{"name": later.name, "digest": later.digest}, {"name": running.name}]
    told = (await rounds.second.BatchDecideApprovals(items=items, vote="AGREED")).items
    assert [(one.reason, one.state) for one in told] == [
        ("", pb.Approval.APPROVED), ("NOT_FOUND", pb.Approval.STATE_UNSPECIFIED)
    ]  # fmt: skip
    assert told[1].text == "记录不存在。"
    await rounds.first.ApproveApproval(name=running.name)
    assert (await rounds.second.ApproveApproval(name=running.name)).state == pb.Approval.APPROVED


async def test_what_is_given_back_is_changed_and_submitted_again(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy(
        "workspace.departments.update:display_name", rounds.step, rounds.next, resubmission="FROM_RETURNED"
    )
    made, admin = await rounds.department(), workspace.admin
    body = {"name": made.name, "displayName": f"一{rounds.mark}"}
    await admin.UpdateDepartment(department=body, updateMask="displayName")
    approval = await rounds.approval(made.name)
    early = admin.ResubmitApproval(name=approval.name)
    assert await office.refusal(early) == "APPROVAL_OPEN"
    await rounds.first.ApproveApproval(name=approval.name)
    await rounds.second.ReturnApproval(name=approval.name, reason=REASON)
    foreign = rounds.first.ResubmitApproval(name=approval.name)
    assert await office.refusal(foreign) == "NOT_THE_REQUESTER"
    # A change that would fail is told, and changes nothing.
    await admin.ResubmitApproval(name=approval.name, content={"department": {"displayName": ""}})
    failed = await rounds.until(approval, lambda now: now.outcome == "VALIDATION")
    assert (failed.state, failed.revision) == (pb.Approval.RETURNED, 1)
    await admin.ResubmitApproval(
        name=approval.name, content={"department": {"displayName": f"二{rounds.mark}"}}
    )
    again = await rounds.until(approval, lambda now: now.revision == 2)
    # It goes on where it was given back; what was decided about the first content stands.
    assert (again.state, [one.state for one in again.steps]) == (pb.Approval.PENDING, ["AGREED", "ACTIVE"])
    assert again.facts["displayName"] == f"二{rounds.mark}"
    with pytest.raises(Refused) as refused:
        await rounds.second.ApproveApproval(name=approval.name, digest=approval.digest)
    assert refused.value.reason == "SNAPSHOT_STALE"
    assert f"二{rounds.mark}" in refused.value.info.metadata["changes"]
    await rounds.second.ApproveApproval(name=approval.name, digest=again.digest)
    await rounds.ends(approval, pb.Approval.EXECUTED)
    assert (await admin.GetDepartment(name=made.name)).display_name == f"二{rounds.mark}"
    # The next request says what differs from what was approved.
    body["displayName"] = f"三{rounds.mark}"
    await admin.UpdateDepartment(department=body, updateMask="displayName")

    async def next_one() -> Any:
        page = await admin.ListApprovals(filter=f'target = "{made.name}" AND state = PENDING')
        return page.approvals[0] if page.approvals else None

    later = await workspace.eventually(next_one)
    assert {one.field for one in later.since_approved} >= {"displayName"}


async def test_who_decides_changes_what_the_step_allows_and_those_before_confirm(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    editing = {**rounds.next, "editable": ["department.englishName"], "reconfirmOnEdit": True}
    await rounds.policy("workspace.departments.update:kind", rounds.step, editing)
    made = await rounds.department()
    body = {"name": made.name, "kind": "STORE", "englishName": "Before"}
    await workspace.admin.UpdateDepartment(department=body, updateMask="kind,englishName")
    approval = await rounds.approval(made.name)
    await rounds.first.ApproveApproval(name=approval.name, digest=approval.digest)
    hidden = rounds.second.ReviseApproval(name=approval.name, content={"department": {"kind": "TEAM"}})
    assert await office.refusal(hidden) == "FIELD_NOT_EDITABLE"
    await rounds.second.ReviseApproval(name=approval.name, content={"department": {"englishName": "After"}})
    again = await rounds.until(approval, lambda now: now.revision == 2)
    assert [one.state for one in again.steps] == ["ACTIVE", "WAITING"]
    await rounds.first.ApproveApproval(name=approval.name, digest=again.digest)
    await rounds.second.ApproveApproval(name=approval.name, digest=again.digest)
    await rounds.ends(approval, pb.Approval.EXECUTED)
    now = await workspace.admin.GetDepartment(name=made.name)
    assert (now.kind, now.english_name) == (pb.Department.STORE, "After")


async def test_what_fails_after_the_decision_is_told_and_tried_again(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy("workspace.departments.close")
    made, admin = await rounds.department(), workspace.admin
    await admin.CloseDepartment(name=made.name)
    approval = await rounds.approval(made.name)
    child = await admin.CreateDepartment(department={"displayName": uuid4().hex, "parent": made.name})
    await rounds.first.ApproveApproval(name=approval.name)
    failed = await rounds.ends(approval, pb.Approval.FAILED)
    assert failed.outcome == "DEPARTMENT_NOT_EMPTY"

    async def both_told() -> bool:
        for client in (admin, rounds.first):
            told = (await client.ListNotifications(filter=f'target = "{approval.name}"')).notifications
            if not any("执行失败" in one.display_name for one in told):
                return False
        return True

    await workspace.eventually(both_told)
    assert await office.refusal(rounds.first.RetryApproval(name=approval.name)) == "NOT_THE_REQUESTER"
    await admin.DeleteDepartment(name=child.name)
    later = "UPDATE approvals SET outcome_time = outcome_time + :by WHERE id = :id"
    for hours in (-73, 73):
        async with workspace.running.sessions() as session, session.begin():
            await enter(session, system("workspace"))
            by = {"by": timedelta(hours=hours), "id": approval.name.partition("/")[2]}
            await session.execute(text(later), by)
        if hours < 0:
            assert await office.refusal(admin.RetryApproval(name=approval.name)) == "RETRY_TOO_LATE"
    await admin.RetryApproval(name=approval.name)
    await rounds.ends(approval, pb.Approval.EXECUTED)
    assert (await admin.GetDepartment(name=made.name)).state == pb.Department.CLOSED


async def test_the_requester_chooses_limits_end_a_chain_and_some_read_along(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    people = [await office.hire(f"c{uuid4().hex[:6]}", ["general_manager"]) for _ in range(2)]
    choice = {"source": "CHOICE", "candidates": [one.name for one in people]}
    reader = {"source": "EMPLOYEE", "employee": workspace.person("finance").employee}
    await rounds.policy("workspace.departments.close", {"approvers": [choice]}, copied=[reader])
    made, admin = await rounds.department(), workspace.admin
    await admin.CloseDepartment(name=made.name)
    approval = await rounds.approval(made.name)
    assert (approval.steps[0].state, list(approval.copied)) == ("CHOOSING", [reader["employee"]])
    assert (await rounds.second.GetApproval(name=approval.name)).name == approval.name
    assert await office.refusal(rounds.second.ApproveApproval(name=approval.name)) == "NOT_AN_APPROVER"
    zong = admin.ChooseApprovers(name=approval.name, approvers=[workspace.person("zong").employee])
    assert await office.refusal(zong) == "NOT_A_CANDIDATE"
    chosen = await admin.ChooseApprovers(name=approval.name, approvers=[people[1].name])
    assert [one.approver for one in chosen.decisions] == [people[1].name]

    top = await office.hire(f"t{uuid4().hex[:6]}", ["general_manager"])
    middle = await office.hire(f"m{uuid4().hex[:6]}", ["general_manager"], superior=top.name)
    asker = await office.hire(f"a{uuid4().hex[:6]}", ["sales_representative"], superior=middle.name)
    chain = {"source": "CHAIN", "field": "amount", "limits": ["1000", "50000"]}
    draft = await admin.CreateApprovalPolicy(
        approvalPolicy={
            "displayName": "额度",
            "action": "sales.quotes.submit",
            "steps": [{"approvers": [chain]}],
        }
    )
    reached = []
    for amount in ("1000.00", "1000.01", "99999"):
        path = await admin.SimulateApprovalPolicy(
            name=draft.name,
            requester=asker.name,
            record={"amount": {"amount": amount, "currencyCode": "CNY"}},
        )
        reached.append(len(path.steps[0].approvers))
    assert reached == [1, 2, 2]
    manager = {"displayName": "伙伴", "action": "sales.quotes.submit", "steps": [
        {"approvers": [{"source": "PARTNER_MANAGER"}]}
    ]}  # fmt: skip
    account = f"accounts/{uuid4()}"
    known = {"name": account, "displayName": "经销商", "owner": top.name, "etag": "1"}
    told = {"name": account, "action": "CREATED", "resource": known}
    await workspace.tell("crm.customer.v1.ResourceChanged", told, account, 1)
    partner = await office.hire(
        f"p{uuid4().hex[:6]}", ["partner"], superior=middle.name, kind="PARTNER_USER", account=account
    )
    by_partner = await admin.CreateApprovalPolicy(approvalPolicy=manager)
    asked = await admin.SimulateApprovalPolicy(name=by_partner.name, requester=partner.name)
    # Who owns the partner's account.
    assert [list(one.approvers) for one in asked.steps] == [[top.name]]
    own = await admin.SimulateApprovalPolicy(name=by_partner.name, requester=asker.name)
    assert [list(one.approvers) for one in own.steps] == [[]]


async def test_roles_are_looked_for_near_the_requester_and_nobody_decides_for_himself_unless_it_is_said(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    admin, mark = workspace.admin, uuid4().hex[:6]
    role = f"near_{mark}"
    await admin.CreateRole(
        role={"code": role, "displayName": role, "permissions": ["workspace.approvals.approve"]}
    )
    above = await rounds.department()
    places = [
        await admin.CreateDepartment(department={"displayName": uuid4().hex, "parent": above.name})
        for _ in range(2)
    ]
    boss = await office.hire(f"b{mark}", ["general_manager"])
    asker = await office.hire(
        f"a{mark}", ["sales_representative"], department=places[0].name, superior=boss.name
    )

    async def path(step: Any, **fields: Any) -> list[str]:
        body = {"displayName": mark, "action": "sales.quotes.submit", "steps": [step], **fields}
        draft = await admin.CreateApprovalPolicy(approvalPolicy=body)
        found = await admin.SimulateApprovalPolicy(name=draft.name, requester=asker.name)
        return sorted(found.steps[0].approvers)

    by_role = {"approvers": [{"source": "ROLE", "role": role}]}
    far = await office.hire(f"f{mark}", [role], department=places[1].name)
    assert await path(by_role) == [far.name]
    nearer = await office.hire(f"n{mark}", [role], department=above.name)
    assert await path(by_role) == [nearer.name]
    own = await office.hire(f"o{mark}", [role], department=places[0].name)
    assert await path(by_role) == [own.name]
    # However the role was given, while it counts; machines decide nothing.
    await office.hire(f"m{mark}", [role], department=places[0].name, kind="SERVICE")
    await admin.RevokeEmployeeRole(name=own.name, role=role)
    assert await path(by_role) == [nearer.name]
    await admin.AssignEmployeeRole(name=own.name, role=role, untilTime="2099-01-01T00:00:00Z")
    assert await path(by_role) == [own.name]
    holding = (await admin.ListRoles(filter=f'code = "{role}"')).roles[0]
    assert await office.refusal(admin.RetireRole(name=holding.name)) == "ROLE_IN_USE"
    seen = await admin.SimulateRole(name=holding.name, permissions=[])
    assert own.name in [one.employee for one in seen.changes]
    await admin.AssignEmployeeRole(
        name=own.name, role=role, fromTime="2098-01-01T00:00:00Z", untilTime="2099-01-01T00:00:00Z"
    )
    assert await path(by_role) == [nearer.name]
    posted = await office.hire(f"p{mark}", [], department=places[0].name, position="FINANCE")
    await admin.UpdateRole(role={"name": holding.name, "positions": ["FINANCE"]}, updateMask="positions")
    assert posted.name in await path(by_role)
    await admin.UpdateRole(role={"name": holding.name, "positions": []}, updateMask="positions")
    await admin.UpdateDepartment(
        department={"name": above.name, "manager": nearer.name}, updateMask="manager"
    )
    assert await path({"approvers": [{"source": "DEPARTMENT_HEAD", "level": 2}]}) == [nearer.name]
    himself = {"approvers": [{"source": "EMPLOYEE", "employee": asker.name}]}
    assert await path(himself) == await path(himself, selfApproval="SKIP") == []
    assert await path(himself, selfApproval="ALLOW") == [asker.name]
    assert await path(himself, selfApproval="TO_SUPERIOR") == [boss.name]
    # The same where he would only decide as somebody's delegate.
    away = await office.hire(f"w{mark}", ["general_manager"], superior=boss.name)
    client = await office.client_of(away)
    await client.DelegateEmployee(name=away.name, delegate=asker.name, reason="出差")
    as_delegate = {"approvers": [{"source": "EMPLOYEE", "employee": away.name}]}
    assert await path(as_delegate) == []
    assert await path(as_delegate, selfApproval="TO_SUPERIOR") == [boss.name]


async def test_who_stands_in_several_steps_is_asked_as_often_as_the_policy_says(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    for duplicates, asked_again in (("ONCE", False), ("EVERY", True)):
        policy = await rounds.policy(
            "workspace.departments.close", rounds.step, rounds.next, rounds.step, duplicates=duplicates
        )
        made = await rounds.department()
        await workspace.admin.CloseDepartment(name=made.name)
        approval = await rounds.approval(made.name)
        await rounds.first.ApproveApproval(name=approval.name)
        now = await rounds.second.ApproveApproval(name=approval.name)
        assert (now.state == pb.Approval.PENDING) == asked_again
        if asked_again:
            assert (await rounds.first.ApproveApproval(name=approval.name)).state == pb.Approval.APPROVED
        await rounds.ends(approval, pb.Approval.EXECUTED)
        await workspace.admin.RetireApprovalPolicy(name=policy.name)
        key = f"approvalPolicy.{policy.name.partition('/')[2]}"
        await workspace.eventually(lambda key=key: workspace.running.config.get(key) is None)


async def test_what_went_to_a_delegate_returns_when_the_delegation_ends(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    boss, deputy = [await office.hire(f"d{uuid4().hex[:6]}", ["general_manager"]) for _ in range(2)]
    await rounds.policy(
        "workspace.departments.close", {"approvers": [{"source": "EMPLOYEE", "employee": boss.name}]}
    )
    made = await rounds.department()
    await workspace.admin.CloseDepartment(name=made.name)
    approval = await rounds.approval(made.name)
    client = await office.client_of(boss)
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    await client.DelegateEmployee(name=boss.name, delegate=deputy.name, untilTime=until, reason="出差")

    async def open_for() -> list[str]:
        now = await workspace.admin.GetApproval(name=approval.name)
        return [one.approver for one in now.decisions if not one.vote]

    assert await open_for() == [deputy.name]
    await client.DelegateEmployee(name=boss.name)
    async with workspace.running.call("test", system("workspace")) as call:
        await return_delegated(call)
    assert await open_for() == [boss.name]


async def test_the_shipped_policies_are_there(workspace: Service) -> None:
    found = (
        await workspace.admin.ListApprovalPolicies(filter='action = "sales.quotes.submit" AND state = ACTIVE')
    ).approval_policies
    assert [one.condition for one in found] == ["below_floor = true OR over_limit = true"]
    drafts = {
        one.action for one in (await workspace.admin.ListApprovalPolicies(pageSize=200)).approval_policies
    }
    assert {
        "orders.contracts.approve",
        "customer.accounts.update:owner",
        "workspace.employees.assignRole",
    } <= drafts


class Device:
    """A phone that signs without connection."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        encoded = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public, self.key = base64.b64encode(encoded).decode(), ""

    def signed(self, approval: Any, how: str, reason: str = "", **bent: Any) -> dict[str, Any]:
        moment = datetime.now(UTC).isoformat()
        signed = "\n".join((approval.name, approval.digest, how, moment, reason)).encode()
        halves = utils.decode_dss_signature(self.private.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = base64.b64encode(b"".join(half.to_bytes(32) for half in halves)).decode()
        return {
            "name": approval.name, "digest": approval.digest, "vote": how, "time": moment, "reason": reason,
            "key": self.key, "signature": signature, **bent,
        }  # fmt: skip


async def test_what_was_signed_without_connection_counts_while_it_is_open(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy("workspace.departments.close", {**rounds.step, "mode": "ANY"})
    waiting = []
    for _ in range(3):
        made = await rounds.department()
        await workspace.admin.CloseDepartment(name=made.name)
        waiting.append(await rounds.approval(made.name))
    device, foreign = Device(), Device()
    assert await office.refusal(rounds.first.RegisterDecisionKey(publicKey="bm8ga2V5")) == "KEY_INVALID"
    device.key = (await rounds.first.RegisterDecisionKey(publicKey=device.public, device="手机")).key
    foreign.key = device.key
    items = [
        device.signed(waiting[0], "AGREED"),
        device.signed(waiting[1], "AGREED", vote="REFUSED"),
        foreign.signed(waiting[1], "AGREED"),
        device.signed(waiting[2], "REFUSED", REASON),
    ]
    await workspace.admin.WithdrawApproval(name=waiting[2].name)
    told = (await rounds.first.ReplayDecisions(items=items)).items
    assert [(one.counted, one.reason) for one in told] == [
        (True, ""), (False, "SIGNATURE_INVALID"), (False, "SIGNATURE_INVALID"), (False, "APPROVAL_CLOSED")
    ]  # fmt: skip
    assert told[1].text == "离线审批的签名无效。"
    decided = await rounds.ends(waiting[0], pb.Approval.EXECUTED)
    assert decided.decisions[0].offline
    assert (await workspace.admin.GetApproval(name=waiting[1].name)).state == pb.Approval.PENDING
    kept = await workspace.admin.GetApproval(name=waiting[2].name)
    assert REASON in kept.remarks[0].text
    notices = await office.notices(rounds.first, waiting[2].name)
    assert any("离线审批" in one.display_name for one in notices)
    # Of another person the key signs nothing.
    other = (await rounds.second.ReplayDecisions(items=[device.signed(waiting[1], "AGREED")])).items
    assert other[0].reason == "SIGNATURE_INVALID"


async def test_signers_stand_three_behind_each_other_and_policies_have_twenty_steps(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    await rounds.policy("workspace.departments.close")
    made = await rounds.department()
    await workspace.admin.CloseDepartment(name=made.name)
    approval, client = await rounds.approval(made.name), rounds.first
    for depth in range(4):
        signer = await office.hire(f"s{uuid4().hex[:6]}", ["general_manager"])
        added = client.AddApprovalSigner(name=approval.name, approver=signer.name)
        if depth == 3:
            assert await office.refusal(added) == "SIGNER_LIMIT"
        else:
            await added
        client = await office.client_of(signer)
    many = {"displayName": "太多", "action": "workspace.departments.close", "steps": [rounds.step] * 21}
    assert await office.refusal(workspace.admin.CreateApprovalPolicy(approvalPolicy=many)) == "POLICY_INVALID"


async def test_ten_thousand_open_approvals_are_listed_by_the_page(
    workspace: Service, office: Any, rounds: Rounds
) -> None:
    """Copies of one open approval, all of one person; the page comes by indexes, in the time of a small one."""
    decider = await office.hire(f"l{uuid4().hex[:6]}", ["general_manager"])
    await rounds.policy(
        "workspace.departments.close", {"approvers": [{"source": "EMPLOYEE", "employee": decider.name}]}
    )
    made = await rounds.department()
    await workspace.admin.CloseDepartment(name=made.name)
    approval = await rounds.approval(made.name)
    one = {"id": approval.name.partition("/")[2], "mark": rounds.mark, "who": decider.name}
    crowd = (
        "INSERT INTO approvals SELECT made.* FROM approvals a, generate_series(1, 10000) n,"
        " LATERAL jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(),"
        " 'held_action', :mark || n, 'number', '', 'target', :mark)) made WHERE a.id = :id"
    )
    seen = (
        "INSERT INTO collaborators (employee, collection, id)"
        " SELECT :who, 'approvals', id FROM approvals WHERE target = :mark"
    )
    async with workspace.running.sessions() as session, session.begin():
        await enter(session, system("workspace"))
        await session.execute(text("SET LOCAL statement_timeout = '60s'"))
        await session.execute(text(crowd), one)
        await session.execute(text(seen), one)
        await session.execute(text("ANALYZE approvals"))
        await session.execute(text("ANALYZE collaborators"))
    client = await office.client_of(decider)
    taken: list[float] = []
    for _ in range(5):
        begun = time.monotonic()
        page = await client.ListApprovals(filter="state = PENDING", pageSize=50)
        taken.append(time.monotonic() - begun)
    assert len(page.approvals) == 50 and page.next_page_token
    # The figure is 0.3 s; here is only told apart what goes through all rows on a busy machine.
    assert min(taken) < 3
    async with workspace.running.sessions() as session, session.begin():
        await enter(session, system("workspace"))
        await session.execute(
            text("DELETE FROM collaborators WHERE employee = :who AND collection = 'approvals'"), one
        )
        await session.execute(text("DELETE FROM approvals WHERE target = :mark"), one)
