"""The methods of exports."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard

from workspace import exporting
from workspace.model.export import Export


class ExportMethods:
    """Records that leave the platform as a file."""

    exports = Standard(Export)

    async def RevokeExport(self, request: pb.ReasonRequest, call: Call) -> Any:
        export = await call.load(Export, request)
        export.revoke(request.reason, call)
        await exporting.delete_file(export, call)
        return export
