"""The methods of documents: folders, versions, what is held, and what is found in texts."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.mapping import read_date
from crmkit.standard import Standard

from workspace import texts
from workspace.model.file import File, told_version
from workspace.model.folder import Folder


class DocumentMethods:
    """Files in folders."""

    folders = Standard(Folder)
    files = Standard(File)

    async def MoveFile(self, request: pb.MoveFileRequest, call: Call) -> File:
        seen = await self._changed(request, call)
        await call.check_references(request, "", ["folder"])
        if request.folder:
            (await call.load(Folder, request.folder, lock=False)).check_adds(call)
        async with call.others(seen) as file:
            file.move(request.folder)
        return file

    async def NewFileVersion(self, request: pb.NewFileVersionRequest, call: Call) -> File:
        seen = await self._changed(request, call)
        await call.check_references(request, "", ["content"])
        upload = await call.load(File, request.content)
        async with call.others(seen) as file:
            await file.replace(upload, request.note, call)
        return file

    async def RestoreFileVersion(self, request: pb.RestoreFileVersionRequest, call: Call) -> File:
        seen = await self._changed(request, call)
        async with call.others(seen) as file:
            await file.restore(request.version, call)
        return file

    async def HoldFile(self, request: pb.HoldFileRequest, call: Call) -> File:
        seen = await call.load(File, request, lock=False)
        async with call.others(seen) as file:
            file.hold(request.reason, read_date(request.retention_until), call)
        return file

    async def ReleaseFile(self, request: pb.ReasonRequest, call: Call) -> File:
        seen = await call.load(File, request, lock=False)
        async with call.others(seen) as file:
            file.release(request.reason)
        return file

    async def ListFileVersions(
        self, request: pb.ListFileVersionsRequest, call: Call
    ) -> pb.ListFileVersionsResponse:
        file = await call.load(File, request, lock=False)
        return pb.ListFileVersionsResponse(versions=[told_version(one) for one in await file.versions(call)])

    async def ReadFileVersion(self, request: pb.ReadFileVersionRequest, call: Call) -> Any:
        file = await call.load(File, request, lock=False)
        found = [one for one in await file.versions(call) if one.version == request.version]
        if not found:
            raise NotFound()
        told: Any = call.shown(file, call.caller)
        version = told_version(found[0])
        told.version_number = version.version
        for field in ("display_name", "media_type", "size", "sha256"):
            setattr(told, field, getattr(version, field))
        return told

    async def SearchFiles(self, request: pb.SearchFilesRequest, call: Call) -> pb.SearchFilesResponse:
        return await texts.search(request, call)

    async def _changed(self, request: Any, call: Call) -> File:
        file = await call.load(File, request, lock=False)
        await file.check_changes(call)
        return file
