"""RPCs about sessions and devices."""

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard

from workspace.model.session import Device, Session, end_others


class SessionMethods:
    """Where people are signed in."""

    devices = Standard(Device)
    sessions = Standard(Session)

    async def EndOtherSessions(
        self, request: pb.EndOtherSessionsRequest, call: Call
    ) -> pb.EndOtherSessionsResponse:
        ended = await end_others(call.caller.employee, request.session, call)
        return pb.EndOtherSessionsResponse(ended=ended)
