"""The methods of the audit."""

from collections.abc import Sequence
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.replies import shown
from crmkit.standard import Standard
from google.protobuf.empty_pb2 import Empty

from workspace import proof
from workspace.model.audit import AuditEntry
from workspace.model.audit_archive import AuditArchive
from workspace.model.audit_told import opened
from workspace.model.names import check_names
from workspace.model.security_report import SecurityReport


class AuditMethods:
    """What happened, and the proof of it. Readers get what stands sealed in the chain, as far as they may read it."""

    audit_entries = Standard(AuditEntry)
    audit_archives = Standard(AuditArchive)
    security_reports = Standard(SecurityReport)

    async def GetAuditEntry(self, request: Any, call: Call) -> Any:
        (entry,) = await _shown([await call.load(AuditEntry, request, lock=False)], call)
        return entry

    async def ListAuditEntries(self, request: Any, call: Call) -> dict[str, Any]:
        page = await call.page(AuditEntry, request)
        return {"audit_entries": await _shown(page.rows, call), "next_page_token": page.next_page_token}

    async def BatchGetAuditEntries(self, request: Any, call: Call) -> dict[str, Any]:
        found = await self.audit_entries.batch_get(request, call)
        return {"audit_entries": await _shown(found["audit_entries"], call)}

    async def WriteAuditEntry(self, request: pb.WriteAuditEntryRequest, call: Call) -> Any:
        raise FailedPrecondition("AUDIT_READ_ONLY")

    async def PrintRecord(self, request: pb.PrintRecordRequest, call: Call) -> Empty:
        check_names([request.record], "record")
        call.emit(events.RecordPrinted, record=request.record, address=call.caller.address)
        return Empty()

    async def VerifyAuditEntries(self, request: pb.VerifyAuditEntriesRequest, call: Call) -> dict[str, Any]:
        return vars(await proof.prove(request.from_seq, request.limit, call))

    async def ArchiveAuditMonth(self, request: pb.ArchiveAuditMonthRequest, call: Call) -> AuditArchive:
        return await AuditArchive.of_month(request.month, call)


async def _shown(rows: Sequence[Any], call: Call) -> list[Any]:
    entries = [shown(row, call) for row in rows]
    await opened(entries, call)
    for entry in entries:
        AuditEntry.withhold(entry, call.caller)
    return entries
