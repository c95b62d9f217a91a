"""Bulk jobs: asked of the service that owns the collection, followed by its facts."""

from typing import Any
from uuid import uuid4

from crm.workspace.v1 import pb
from crmkit.testing import Service


async def upload(workspace: Service) -> Any:
    return await workspace.sales1.CreateFile(
        file={"displayName": "线索.csv", "size": "9", "sha256": uuid4().hex * 2}
    )


async def ask(workspace: Service, **fields: Any) -> Any:
    return await workspace.sales1.CreateBulkJob(bulkJob={"collection": "leads", "mode": "IMPORT", **fields})


async def ends(workspace: Service, job: str, state: int) -> Any:
    async def ended() -> Any:
        now = await workspace.sales1.GetBulkJob(name=job)
        return now if now.state == state else None

    return await workspace.eventually(ended)


async def test_an_import_is_asked_for_followed_and_taken_back(workspace: Service, office: Any) -> None:
    file = await upload(workspace)
    job = await ask(workspace, file=file.name, mapping=[{"column": "名称", "field": "displayName"}])
    assert (job.state, job.owner) == (pb.BulkJob.QUEUED, workspace.person("sales1").employee)
    (asked,) = await workspace.facts("crm.workspace.v1.BulkRequested", job.name)
    assert (asked["bulkJob"]["name"], asked["file"]["sha256"]) == (job.name, file.sha256)
    assert (
        await office.refusal(workspace.sales1.RevertBulkJob(name=job.name, requestId=uuid4().hex))
        == "ILLEGAL_TRANSITION"
    )

    for done in (50, 20):
        progress = {"job": job.name, "total": 100, "done": done, "failed": 1}
        await workspace.tell("crm.sales.v1.BulkProgressed", progress, job.name)
    running = await ends(workspace, job.name, pb.BulkJob.RUNNING)
    assert running.total == 100

    stored = {"displayName": "错误.csv", "mediaType": "text/csv", "size": "7", "sha256": "bb" * 32}
    finished = {
        "job": job.name,
        "state": "DONE_WITH_ERRORS",
        "total": 100,
        "done": 98,
        "failed": 2,
        "errorFile": stored,
    }
    await workspace.tell("crm.sales.v1.BulkFinished", finished, job.name, times=2)
    ended = await ends(workspace, job.name, pb.BulkJob.DONE_WITH_ERRORS)
    assert (ended.done, ended.failed) == (98, 2)
    error_file = await workspace.sales1.GetFile(name=ended.error_file)
    assert (error_file.display_name, error_file.sha256) == ("错误.csv", "bb" * 32)
    (notice,) = await office.notices(workspace.sales1, job.name)
    assert "完成 98" in notice.display_name
    assert await office.refusal(workspace.sales1.CancelBulkJob(name=job.name)) == "ILLEGAL_TRANSITION"

    back = await workspace.sales1.RevertBulkJob(name=job.name, requestId=uuid4().hex)
    assert (back.mode, back.reverts) == (pb.BulkJob.REVERT, job.name)
    assert len(await workspace.facts("crm.workspace.v1.BulkRequested", back.name)) == 1
    await workspace.tell(
        "crm.sales.v1.BulkFinished", {"job": back.name, "state": "DONE", "done": 98}, back.name
    )
    await ends(workspace, job.name, pb.BulkJob.REVERTED)


async def test_a_cancelled_job_stays_cancelled(workspace: Service) -> None:
    file = await upload(workspace)
    job = await ask(workspace, mode="DRY_RUN", file=file.name)
    cancelled = await workspace.sales1.CancelBulkJob(name=job.name)
    assert cancelled.state == pb.BulkJob.CANCELLED
    assert len(await workspace.facts("crm.workspace.v1.BulkCancelled", job.name)) == 1
    await workspace.tell("crm.sales.v1.BulkFinished", {"job": job.name, "state": "DONE", "done": 5}, job.name)
    other = await ask(workspace, mode="DRY_RUN", file=file.name)
    await workspace.tell(
        "crm.sales.v1.BulkFinished", {"job": other.name, "state": "DONE", "done": 5}, other.name
    )
    await ends(workspace, other.name, pb.BulkJob.DONE)
    assert (await workspace.sales1.GetBulkJob(name=job.name)).state == pb.BulkJob.CANCELLED


async def test_nobody_asks_for_what_he_may_not_do_record_by_record(workspace: Service, office: Any) -> None:
    sales1 = workspace.sales1
    assert (
        await office.refusal(sales1.CreateBulkJob(bulkJob={"collection": "employees", "mode": "IMPORT"}))
        == "PERMISSION_DENIED"
    )
    assert await office.refusal(ask(workspace)) == "FILE_REQUIRED"
    foreign = await workspace.sales2.CreateFile(file={"displayName": "别人的.csv", "sha256": "cd" * 32})
    assert await office.refusal(ask(workspace, file=foreign.name)) == "UNKNOWN_REFERENCE"
    assert await office.refusal(ask(workspace, collection="unicorns")) == "COLLECTION_UNKNOWN"
    assert await office.refusal(ask(workspace, mode="REVERT")) == "ILLEGAL_TRANSITION"
