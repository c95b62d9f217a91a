"""Secrets are planted, work is done and refused with them, and then they are looked for wherever something is kept."""

import logging
from typing import Any, cast
from uuid import uuid4

import asyncpg
import obstore
import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Refused, Service
from google.protobuf.json_format import MessageToJson

# Of every table with its partitions, every row as text: what a backup of the database holds.
TABLES = (
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
    " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
)


@pytest.mark.capability("a.security")
async def test_no_answer_log_fact_or_row_holds_a_secret_in_clear(
    workspace: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    me, mark = workspace.sales1, uuid4().hex[:10]
    planted = {
        what: f"Planted-{what}-{uuid4().hex}"
        for what in ("mail", "changed", "dav", "refused", "wrong", "held", "again")
    }
    answers: list[str] = []

    async def heard(call: Any) -> Any:
        try:
            answer = await call
        except Refused as refused:
            answers.append(f"{refused} {refused.status}")
            return None
        answers.append(MessageToJson(answer, ensure_ascii=False))
        return answer

    body = {"displayName": "密", "address": f"{mark}@guanxi.example", "imapHost": "127.0.0.1", "imapPort": 1,
            "smtpHost": "127.0.0.1", "smtpPort": 1, "imapSecurity": "PLAIN", "smtpSecurity": "PLAIN"}  # fmt: skip
    box = await heard(me.CreateMailAccount(mailAccount={**body, "password": planted["mail"]}))
    await heard(
        me.UpdateMailAccount(
            mailAccount={"name": box.name, "password": planted["changed"]}, updateMask="password"
        )
    )
    # Both with servers that are not there, so that errors are told and logged.
    await heard(me.FetchMailAccount(name=box.name))
    await heard(me.GetMailAccount(name=box.name))
    await heard(me.ListMailAccounts(q="密"))
    await heard(me.ListMailAccounts(filter=f'address = "{body["address"]}"'))
    for asked in (
        {"filter": f'password = "{planted["changed"]}"'},
        {"orderBy": "password"},
        {"q": planted["changed"]},
    ):
        found = await heard(me.ListMailAccounts(**asked))
        assert found is None or not found.mail_accounts, asked
    dav = {
        "displayName": "历",
        "url": f"https://127.0.0.1:1/{mark}/",
        "userName": "me",
        "password": planted["dav"],
    }
    await heard(me.CreateCalendarAccount(calendarAccount=dav))
    too_long = planted["refused"] * 100
    await heard(me.CreateMailAccount(mailAccount={**body, "password": too_long}))
    await heard(me.CreateMailAccount(mailAccount={**body, "address": "x", "password": planted["wrong"]}))
    waiting = {**body, "address": f"held-{mark}@guanxi.example"}
    await held(workspace, waiting, planted["held"], planted["again"])
    key = await workspace.admin.CreateApiKey(
        apiKey={"displayName": f"密{mark}", "permissions": ["workspace.tasks.read"], "scope": "OWN"},
        requestId=uuid4().hex,
    )
    # Shown by that one answer; its second half is what must be kept nowhere.
    planted["key"] = key.secret[-52:-9]
    assert key.secret.count(planted["key"]) == 1
    await heard(workspace.admin.GetApiKey(name=key.name))
    await heard(workspace.admin.ListApiKeys(filter=f'name = "{key.name}"'))
    settings = workspace.running.settings
    planted["installation"] = settings.secret_key
    planted["database"] = settings.database_url.partition("@")[0].rpartition(":")[2]

    async def told() -> bool:
        page = await workspace.admin.ListAuditEntries(filter=f'resource = "{key.name}"', pageSize=10)
        answers.append(MessageToJson(page, ensure_ascii=False))
        return len(page.audit_entries) > 0

    await workspace.eventually(told)

    async def tried() -> bool:
        now = await heard(me.GetMailAccount(name=box.name))
        return bool(now.problem)

    await workspace.eventually(tried)
    kept = {"answers": "\n".join(answers), "logs": caplog.text}
    connection = cast("Any", await asyncpg.connect(workspace.parts.admin_url, database="workspace"))
    try:
        for table in [row[0] for row in await connection.fetch(TABLES)]:
            rows = await connection.fetch(f"SELECT t::text FROM {table} t")
            kept[table] = "\n".join(row[0] for row in rows)
    finally:
        await connection.close()
    store = workspace.running.store
    for listed in obstore.list(store):
        for one in listed:
            if one["size"] < 1 << 20:
                content = await (await obstore.get_async(store, one["path"])).bytes_async()
                kept[f"files/{one['path']}"] = bytes(content).decode("latin-1")
    assert (
        "public.mail_accounts" in kept
        and "public.outbox" in kept
        and box.address in kept["public.mail_accounts"]
    )
    leaks = [
        (what, where) for what, secret in planted.items() for where, text in kept.items() if secret in text
    ]
    assert not leaks


async def held(workspace: Service, box: dict[str, Any], password: str, again: str) -> None:
    """A mailbox waits for its approval, is given back and asked for again, and has its password in the end."""
    admin, me, decider = workspace.admin, workspace.sales1, workspace.client("zong")
    policy = await admin.CreateApprovalPolicy(
        approvalPolicy={
            "displayName": "邮箱须审批", "action": "workspace.mailAccounts.create",
            "condition": f'address = "{box["address"]}"', "approvers": [workspace.person("zong").employee],
        }
    )  # fmt: skip
    policy = await admin.ActivateApprovalPolicy(name=policy.name)
    key = f"approvalPolicy.{policy.name.partition('/')[2]}"
    await workspace.eventually(lambda: workspace.running.config.get(key))
    waits = await me.CreateMailAccount(mailAccount={**box, "password": password})
    assert waits.pending_approval

    async def approval(state: int, revision: int) -> Any:
        found = (await decider.ListApprovals(filter=f'target = "{waits.name}"')).approvals
        return found[0] if found and (found[0].state, found[0].revision) == (state, revision) else None

    asked = await workspace.eventually(lambda: approval(pb.Approval.PENDING, 1))
    await decider.ReturnApproval(name=asked.name, reason="请写明用途")
    with pytest.raises(Refused) as refused:
        await me.ResubmitApproval(name=asked.name, content={"mailAccount": {"password": again}})
    assert refused.value.reason == "FIELD_NOT_EDITABLE"
    await me.ResubmitApproval(name=asked.name, content={"mailAccount": {"signature": "用途：询价"}})
    asked = await workspace.eventually(lambda: approval(pb.Approval.PENDING, 2))
    await decider.ApproveApproval(name=asked.name, digest=asked.digest)

    async def works() -> Any:
        found = (await me.ListMailAccounts(filter=f'address = "{box["address"]}"')).mail_accounts
        return found[0] if found and found[0].HasField("password_time") else None

    made = await workspace.eventually(works)
    assert made.signature == "用途：询价"
    await admin.RetireApprovalPolicy(name=policy.name)
