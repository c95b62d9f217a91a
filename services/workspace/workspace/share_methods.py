"""The methods of links to files."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.call import Call
from crmkit.mapping import mapper
from crmkit.standard import Standard

from workspace.model.file_share import FileShare


class ShareMethods:
    """Links by which people outside fetch a file."""

    file_shares = Standard(FileShare)

    async def CreateFileShare(self, request: pb.CreateFileShareRequest, call: Call) -> Any:
        share: Any = await self.file_shares.create(request, call)
        answer: Any = mapper(FileShare).message(share)
        answer.path = share.shown
        return answer

    async def ReadFileShare(self, request: pb.ReadFileShareRequest, call: Call) -> pb.SharedFile:
        share = await FileShare.of(request.secret, call)
        return share.told(await share.content(call), given=False)

    async def OpenFileShare(self, request: pb.OpenFileShareRequest, call: Call) -> pb.SharedFile:
        # Whoever has the link is nobody here; that it was fetched is kept all the same.
        async with call.running.acting(call, system(call.running.app.name), call.method) as own:
            share = await FileShare.of(request.secret, own, lock=True)
            file = await share.open(request.password, own)
            await own.flush()
            return share.told(file, given=True)
