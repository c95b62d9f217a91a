"""What becomes of an export: counted, decided, written, told, and its file taken away at the end of its time."""

from contextlib import suppress
from datetime import datetime
from typing import Any

import obstore
from crm.common.v1 import common_pb2 as common
from crmkit.approvals import gated
from crmkit.blobs import storage_key
from crmkit.call import Call
from sqlalchemy import exists, or_, select

from workspace.model.export import MOST_DOWNLOADS, Export, export_of
from workspace.model.file import File
from workspace.telling import notify

AT_ONCE = 200


async def progressed(event: common.BulkProgressed, call: Call) -> None:
    """It is being written."""
    export = await export_of(event.job, call)
    if export is not None and export.state == "APPROVED":
        export.state = "RUNNING"


async def finished(event: common.BulkFinished, call: Call) -> None:
    """Its rows are counted, or its file is written, or neither could be done."""
    export = await export_of(event.job, call)
    if export is None:
        return
    if event.state != "DONE":
        export.fail(event.reason or "INTERNAL", call)
        await _tell(export, "导出未完成", "Your export was not written", event.reason, call)
    elif event.HasField("result_file"):
        export.written(event.total, event.result_file, call)
        if export.state == "READY":
            await _tell(export, "导出已可下载", "Your export is ready", "", call)
    elif not export.counted:
        await _begin(export, event.total, call)


async def rejected(approval: dict[str, Any], call: Call) -> None:
    """Who decides has said no."""
    export = await export_of(str(approval["target"]), call)
    if export is not None:
        export.rejected(str(approval.get("outcome", "")))


async def expire(as_of: datetime, call: Call) -> None:
    """Takes away what has been there long enough, or was given out as often as it may be."""
    over = select(Export).where(Export.state == "READY")
    over = over.where(or_(Export.expire_time <= as_of, Export.downloads != []))
    for export in list(await call.db.scalars(over.with_for_update(skip_locked=True).limit(AT_ONCE))):
        due = export.expire_time is not None and export.expire_time <= as_of
        if due or len(export.downloads) >= MOST_DOWNLOADS:
            export.state = "EXPIRED"
            await delete_file(export, call)


async def delete_file(export: Export, call: Call) -> None:
    """Deletes the bytes; not where they happen to be those of something else too."""
    others = select(
        or_(
            exists().where(File.sha256 == export.sha256),
            exists().where(Export.sha256 == export.sha256, Export.id != export.id, Export.state == "READY"),
        )
    )
    if not export.sha256 or await call.db.scalar(others):
        return

    async def delete() -> None:
        with suppress(FileNotFoundError):
            await obstore.delete_async(call.running.store, storage_key(export.sha256))

    call.after_flush(delete)


async def _begin(export: Export, rows: int, call: Call) -> None:
    """Goes on as who asked for it: at once, or after a decision."""
    requester = call.running.directory.acting(export.owner)
    if requester is None:
        export.fail("PERMISSION_DENIED", call)
        return
    if not await export.counted_as(rows, requester, call):
        await _tell(export, "导出未完成", "Your export was not written", export.reason, call)
        return
    await call.flush()
    method = call.running.pipeline.methods["StartExport"]
    request = method.request(name=export.name)
    async with call.running.acting(call, requester, method.name) as inner:
        await gated(method, request, inner)
        await inner.flush()


async def _tell(export: Export, zh: str, en: str, reason: str, call: Call) -> None:
    key = f"export:{export.name}:{export.state}"
    title = f"{zh}：{export.number}", f"{en}: {export.number}"
    await notify(call, [export.owner], "export", key, export.name, *title, reason)
