"""What a role takes from fields of a record is taken wherever workspace tells of that record."""

from typing import Any
from uuid import uuid4

from crm.workspace.v1 import pb
from crmkit.testing import Service
from google.protobuf.json_format import MessageToJson
from workspace import decision_links
from workspace.model.approval import Approval

TAKEN = [
    {"collection": "customer.accounts", "field": "legal_name", "level": "HIDDEN"},
    {"collection": "customer.accounts", "field": "tax_id", "level": "MASKED"},
]


async def readers(workspace: Service, office: Any, mark: str) -> tuple[Any, Any, Any, Any]:
    """Somebody who reads accounts whole and somebody who does not, each with a client."""
    may = [
        "customer.accounts.read",
        "workspace.approvals.*",
        "workspace.notifications.*",
        "workspace.tasks.*",
    ]
    for code, fields in (("whole", []), ("kept", TAKEN)):
        role = {"code": f"{code}_{mark}", "displayName": code, "permissions": may, "scope": "ALL"}
        await workspace.admin.CreateRole(role={**role, "fields": fields})
    whole, kept = [await office.hire(f"{code}.{mark}", [f"{code}_{mark}"]) for code in ("whole", "kept")]
    return whole, kept, await office.client_of(whole), await office.client_of(kept)


async def test_who_decides_sees_of_the_record_what_its_own_page_would_show(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:6]
    whole, kept, whole_client, kept_client = await readers(workspace, office, mark)
    step = {
        "mode": "ALL",
        "approvers": [{"source": "EMPLOYEE", "employee": one.name} for one in (whole, kept)],
    }
    step["editable"] = ["account.legalName", "account.website"]
    policy = await workspace.admin.CreateApprovalPolicy(
        approvalPolicy={
            "displayName": f"改客户 {mark}", "action": "customer.accounts.update", "steps": [step],
            "condition": f'display_name = "客户{mark}"',
        }
    )  # fmt: skip
    await workspace.admin.ActivateApprovalPolicy(name=policy.name)
    target = f"accounts/{uuid4()}"
    old, new = f"旧法名{mark}", f"新法名{mark}"
    account = {
        "name": target,
        "displayName": f"客户{mark}",
        "legalName": new,
        "taxId": f"9131{mark}7788",
        "website": "b",
    }
    held = {
        "target": target, "action": "customer.accounts.update", "digest": "d", "heldAction": str(uuid4()), "revision": 1,
        "policy": policy.name.partition("/")[2], "requester": workspace.person("sales1").employee, "facts": account,
        "now": {**account, "legalName": old, "taxId": f"1111{mark}2222", "website": "a"},
        "request": {"account": account, "updateMask": "legalName,taxId,website"},
    }  # fmt: skip
    await workspace.tell("crm.customer.v1.ActionHeld", held, target)

    async def asked() -> Any:
        page = await whole_client.ListApprovals(filter=f'target = "{target}"')
        return page.approvals[0] if page.approvals else None

    all_of_it = await workspace.eventually(asked, 30)
    assert {one.field for one in all_of_it.changes} == {"legalName", "taxId", "website"}
    assert all_of_it.request["account"]["legalName"] == all_of_it.facts["legalName"] == new
    named = f'name = "{all_of_it.name}"'
    for seen in (
        await kept_client.GetApproval(name=all_of_it.name),
        (await kept_client.ListApprovals(filter=named)).approvals[0],
        (await kept_client.BatchGetApprovals(names=[all_of_it.name])).approvals[0],
        await kept_client.CommentApproval(name=all_of_it.name, text="看一下"),
    ):
        told = MessageToJson(seen, ensure_ascii=False)
        assert old not in told and new not in told and f"{mark}7788" not in told and f"{mark}2222" not in told
        changes = {one.field: (one.before, one.after) for one in seen.changes}
        assert changes.keys() == {"taxId", "website"} and changes["website"] == ('"a"', '"b"')
        assert changes["taxId"][1].startswith('"913') and "*" in changes["taxId"][1]
        assert seen.facts["displayName"] == seen.request["account"]["displayName"] == f"客户{mark}"
    for asked_by in ('facts.legalName = "x"', f'changes:"{old}"'):
        assert await office.refusal(kept_client.ListApprovals(filter=asked_by)) == "FILTER_INVALID"
    revise = kept_client.ReviseApproval(name=all_of_it.name, content={"account": {"legalName": "三"}})
    assert await office.refusal(revise) == "FIELD_NOT_EDITABLE"
    # The mail's page, which needs no sign-in, is for its person.
    async with workspace.running.system_call("test", None) as call:
        row = await call.find(Approval, Approval.held_action == held["heldAction"])
        assert row is not None
        for person, hidden in ((whole, False), (kept, True)):
            link = decision_links.Link(row.name, person.name, "d", 0, 1, call.now)
            assert (old not in str(decision_links.shown(link, row, call))) == hidden
        # What services are told to run is whole.
        assert call.shown(row, call.running.nobody).request["account"]["legalName"] == new
    await whole_client.ApproveApproval(name=all_of_it.name)
    assert (await kept_client.ApproveApproval(name=all_of_it.name)).state == pb.Approval.APPROVED


async def test_notices_tell_each_person_what_the_persons_roles_show(workspace: Service, office: Any) -> None:
    mark = uuid4().hex[:6]
    whole, kept, whole_client, kept_client = await readers(workspace, office, mark)
    rule = await workspace.admin.CreateNotificationRule(
        notificationRule={
            "displayName": f"规则{mark}", "trigger": "CONDITION", "collection": "accounts",
            "condition": f'display_name = "客户{mark}"', "titleZh": "{displayName}：{legalName}", "bodyZh": "税号 {taxId}",
            "recipients": [{"who": "EMPLOYEE", "value": one.name} for one in (whole, kept)],
            "actions": ["NOTIFY", "CREATE_TASK"],
        }
    )  # fmt: skip
    await workspace.admin.ActivateNotificationRule(name=rule.name)
    target = f"accounts/{uuid4()}"
    account = {
        "name": target,
        "displayName": f"客户{mark}",
        "legalName": f"法名{mark}",
        "taxId": f"9131{mark}7788",
    }
    change = {"name": target, "action": "CREATED", "resource": account}
    await workspace.tell("crm.customer.v1.ResourceChanged", change, target, 1)
    (all_of_it,) = await office.notices(whole_client, target)
    assert (all_of_it.display_name, all_of_it.body) == (f"客户{mark}：法名{mark}", f"税号 9131{mark}7788")
    (less,) = await office.notices(kept_client, target)
    assert less.display_name == f"客户{mark}：" and f"{mark}7788" not in less.body and "913" in less.body

    async def tasks(client: Any, person: Any) -> Any:
        mine = f'source:"{rule.name}" AND owner = "{person.name}"'
        return list((await client.ListTasks(filter=mine)).tasks)

    (task,) = await workspace.eventually(lambda: tasks(kept_client, kept), 30)
    assert f"法名{mark}" not in MessageToJson(task, ensure_ascii=False)
    assert f"{mark}7788" not in MessageToJson(task, ensure_ascii=False)
    (task,) = await workspace.eventually(lambda: tasks(whole_client, whole), 30)
    assert f"法名{mark}" in task.display_name
    await workspace.admin.PauseNotificationRule(name=rule.name)
