"""Exports under control: a purpose, a limit, a decision, a mark, one reader, an end."""

import io
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import obstore
import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.blobs import storage_key
from crmkit.testing import Service
from workspace.jobs import expire_exports
from workspace.model.export import Export
from workspace.permissions import shipped

WHY = {"purpose": "REPORT", "purposeText": "季度销售分析会使用的材料"}
STATES = pb.Export.State


async def ask(client: Any, collection: str = "tasks", **fields: Any) -> Any:
    return await client.CreateExport(export={"collection": collection, **WHY, **fields})


async def comes_to(workspace: Service, client: Any, export: Any, state: str) -> Any:
    async def there() -> Any:
        now = await client.GetExport(name=export.name)
        if STATES.Name(now.state) == "FAILED" != state:
            raise AssertionError(now.reason)
        return now if STATES.Name(now.state) == state else None

    return await workspace.eventually(there)


async def bytes_of(workspace: Service, export: Any) -> bytes:
    found = await obstore.get_async(workspace.running.store, storage_key(export.sha256))
    return bytes(await found.bytes_async())


async def count(workspace: Service, export: Any, rows: int) -> None:
    """The owning service has counted."""
    told = {"job": export.name, "state": "DONE", "total": rows, "done": rows}
    await workspace.tell("crm.customer.v1.BulkFinished", told, export.name)


@pytest.mark.capability("a.export")
async def test_an_export_says_what_it_is_for_and_asks_only_for_what_its_person_may_read(
    workspace: Service, office: Any
) -> None:
    sales1 = workspace.sales1
    assert await office.refusal(ask(sales1, purposeText="短")) == "PURPOSE_REQUIRED"
    assert await office.refusal(ask(sales1, purpose="")) == "VALIDATION"
    assert await office.refusal(ask(sales1, collection="planets")) != ""
    assert await office.refusal(ask(sales1, collection="auditEntries")) == "PERMISSION_DENIED"
    assert await office.refusal(ask(sales1, "products", fields=["cost"])) == "EXPORT_FIELD_HIDDEN"
    assert await office.refusal(ask(sales1, "contacts", fields=["nonsense"])) == "VALIDATION"
    job = {"collection": "tasks", "mode": "EXPORT"}
    assert await office.refusal(sales1.CreateBulkJob(bulkJob=job)) == "EXPORT_REQUIRED"


@pytest.mark.capability("a.export")
async def test_an_export_is_written_marked_given_out_to_its_person_and_gone(
    workspace: Service, office: Any
) -> None:
    sales1, unique = workspace.sales1, uuid4().hex[:8]
    await sales1.CreateTask(task={"displayName": f"=HYPERLINK({unique})"})
    mine = f'displayName = "=HYPERLINK({unique})"'
    asked = await ask(sales1, filter=mine, fields=["displayName", "owner"], format="CSV")
    assert await office.refusal(sales1.DownloadExport(name=asked.name)) == "ILLEGAL_TRANSITION"
    ready = await comes_to(workspace, sales1, asked, "READY")
    assert (ready.estimated_rows, ready.rows) == (1, 1)
    assert ready.number in ready.file_name and ready.file_name.endswith(".csv")
    person = workspace.running.config.get(f"employee.{ready.owner.partition('/')[2]}")["displayName"]
    assert person.replace(" ", "-") in ready.file_name
    assert f"'=HYPERLINK({unique})".encode() in await bytes_of(workspace, ready)
    assert await office.notices(sales1, ready.name)

    for _ in range(3):
        given = await sales1.DownloadExport(name=ready.name)
    assert len(given.downloads) == 3 and given.downloads[0].time.seconds
    assert await office.refusal(sales1.DownloadExport(name=ready.name)) == "DOWNLOAD_LIMIT"
    seen = await workspace.manager.GetExport(name=ready.name)
    assert seen.purpose_text == WHY["purposeText"]
    assert await office.refusal(workspace.admin.DownloadExport(name=ready.name)) == "EXPORT_NOT_YOURS"
    async with workspace.running.call("test", system("workspace")) as call:
        await expire_exports(call.now, call)
    await comes_to(workspace, sales1, asked, "EXPIRED")
    assert await office.refusal(sales1.DownloadExport(name=ready.name)) == "EXPORT_EXPIRED"

    async def deleted() -> bool:
        with pytest.raises(FileNotFoundError):
            await bytes_of(workspace, ready)
        return True

    await workspace.eventually(deleted)


@pytest.mark.capability("a.export")
async def test_a_workbook_bears_its_mark_on_every_page_and_ends_by_time_or_when_it_is_taken_back(
    workspace: Service, office: Any
) -> None:
    import zipfile

    sales1 = workspace.sales1
    await sales1.CreateTask(task={"displayName": "写成表格"})
    ready = await comes_to(workspace, sales1, await ask(sales1), "READY")
    with zipfile.ZipFile(io.BytesIO(await bytes_of(workspace, ready))) as book:
        page = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<oddHeader>" in page and "<oddFooter>" in page and ready.number in page
    kept = ready.expire_time.seconds - ready.create_time.seconds
    assert kept >= timedelta(days=7).total_seconds()
    assert (
        await office.refusal(workspace.admin.RevokeExport(name=ready.name, reason="短")) == "REASON_REQUIRED"
    )
    assert (
        await office.refusal(sales1.RevokeExport(name=ready.name, reason="发错了人，收回"))
        == "PERMISSION_DENIED"
    )
    await workspace.admin.RevokeExport(name=ready.name, reason="发错了人，收回")
    assert await office.refusal(sales1.DownloadExport(name=ready.name)) == "EXPORT_EXPIRED"
    late = await comes_to(workspace, sales1, await ask(sales1), "READY")
    async with workspace.running.call("test", system("workspace")) as call:
        row = await call.find(Export, Export.number == late.number)
        assert row is not None
        row.expire_time = call.now - timedelta(seconds=1)
    assert await office.refusal(sales1.DownloadExport(name=late.name)) == "EXPORT_EXPIRED"


@pytest.mark.capability("a.export")
async def test_telephones_are_masked_for_who_may_not_export_them_in_clear(
    workspace: Service, office: Any
) -> None:
    phone, unique = "13812345678", f"masked{uuid4().hex[:6]}"
    await office.hire(unique, ["sales_representative"], phone=phone)
    about: dict[str, Any] = {
        "fields": ["displayName", "phone"],
        "format": "CSV",
        "filter": f'displayName = "{unique}"',
    }
    texts: list[str] = []
    for client in (workspace.manager, workspace.admin):
        asked = await ask(client, "employees", **about)
        assert list(asked.sensitive_fields) == ["phone"]
        ready = await comes_to(workspace, client, asked, "READY")
        texts.append((await bytes_of(workspace, ready)).decode("utf-8-sig"))
    assert phone not in texts[0] and "138*****678" in texts[0]
    assert phone in texts[1]
    # For programs: one object a line, values as the API gives them, and the same masks.
    asked = await ask(workspace.manager, "employees", **{**about, "format": "NDJSON"})
    ready = await comes_to(workspace, workspace.manager, asked, "READY")
    assert ready.file_name.endswith(".ndjson") and ready.number in ready.file_name
    (line,) = (await bytes_of(workspace, ready)).decode().splitlines()
    assert json.loads(line) == {"displayName": unique, "phone": "138*****678"}


def test_who_exports_more_and_in_clear_is_said_by_the_roles() -> None:
    roles = {code: set(role["permissions"]) for code, role in shipped().items()}

    def those_with(permission: str) -> set[str]:
        return {code for code, given in roles.items() if f"workspace.exports.{permission}" in given}

    assert those_with("readSensitive") == {"general_manager", "finance"}
    assert those_with("upTo200000") == {"general_manager"}
    assert those_with("upTo20000") == {"segment_head", "sales_manager", "service_manager", "finance"}
    assert those_with("unlimited") == set()


@pytest.mark.capability("a.export")
async def test_customer_data_waits_for_the_department_head_and_is_written_as_the_person_sees_it(
    workspace: Service, office: Any
) -> None:
    sales1 = workspace.sales1
    asked = await ask(sales1, "accounts", filter='displayName = "某客户"', fields=["displayName"])
    (request, *_) = await workspace.facts("crm.workspace.v1.BulkRequested", asked.name)
    options = {one["key"]: one["value"] for one in request["bulkJob"]["options"]}
    assert options == {"count": "true", "filter": 'displayName = "某客户"'}
    await count(workspace, asked, 12)
    approval = await approval_of(workspace, asked.name)
    assert (await sales1.GetExport(name=asked.name)).pending_approval
    await decide(workspace, approval, "APPROVE")
    await comes_to(workspace, sales1, asked, "APPROVED")
    _, write = await workspace.facts("crm.workspace.v1.BulkRequested", asked.name)
    options = {one["key"]: one["value"] for one in write["bulkJob"]["options"]}
    assert asked.number in options["mark"] and options["fields"] == "displayName"
    file = {"displayName": "客户.xlsx", "mediaType": "text/csv", "size": "7", "sha256": "cd" * 32}
    told = {"job": asked.name, "state": "DONE", "total": 12, "done": 12, "resultFile": file}
    await workspace.tell("crm.customer.v1.BulkFinished", told, asked.name)
    assert (await comes_to(workspace, sales1, asked, "READY")).rows == 12

    refused = await ask(sales1, "accounts")
    await count(workspace, refused, 12)
    await decide(workspace, await approval_of(workspace, refused.name), "REJECT")
    await comes_to(workspace, sales1, refused, "REJECTED")

    large = await ask(sales1, "accounts")
    await count(workspace, large, 1001)
    failed = await comes_to(workspace, sales1, large, "FAILED")
    assert failed.reason == "EXPORT_TOO_LARGE"

    # In a month it is ten times what one export may have.
    async with workspace.running.call("test", system("workspace")) as call:
        row = await call.find(Export, Export.number == asked.number)
        assert row is not None
        row.rows = 9_995
    another = await ask(sales1, "accounts")
    await count(workspace, another, 12)
    assert (await comes_to(workspace, sales1, another, "FAILED")).reason == "EXPORT_MONTH_LIMIT"
    async with workspace.running.call("test", system("workspace")) as call:
        row = await call.find(Export, Export.number == asked.number)
        assert row is not None
        row.rows = 12

    taken_back = await ask(sales1, "accounts")
    assert await office.refusal(workspace.admin.CancelExport(name=taken_back.name)) == "EXPORT_NOT_YOURS"
    await sales1.CancelExport(name=taken_back.name)
    await count(workspace, taken_back, 1)
    assert (await sales1.GetExport(name=taken_back.name)).state == pb.Export.CANCELLED


async def approval_of(workspace: Service, target: str) -> Any:
    async def found() -> Any:
        page = await workspace.admin.ListApprovals(filter=f'target = "{target}"')
        return page.approvals[0] if page.approvals else None

    return await workspace.eventually(found)


async def decide(workspace: Service, approval: Any, vote: str) -> None:
    """Decides as whoever is asked."""
    approver = next(one.approver for one in approval.decisions)
    client = workspace.client("sales1", employee=approver, sub=uuid4().hex, roles=[])
    if vote == "APPROVE":
        await client.ApproveApproval(name=approval.name, digest=approval.digest)
    else:
        await client.RejectApproval(name=approval.name, reason="用途不明，请线下说明")
