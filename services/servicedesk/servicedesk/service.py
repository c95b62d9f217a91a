"""Implements crm.servicedesk.v1.ServicedeskService."""

from typing import Any

from crm.servicedesk.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard

from servicedesk.clocks import instant
from servicedesk.model.queue import Queue
from servicedesk.model.sla_policy import SlaPolicy
from servicedesk.model.ticket import Ticket


class ServicedeskService:
    """Tickets, the queues where they wait, and what is promised for them."""

    tickets = Standard(Ticket)
    queues = Standard(Queue)
    sla_policies = Standard(SlaPolicy)

    async def LogTicket(self, request: pb.LogTicketRequest, call: Call) -> Ticket:
        created = pb.CreateTicketRequest(ticket=request.ticket)
        ticket: Any = await self.tickets.create(created, call)
        await ticket.start(call)
        await ticket.resolve(request.code, request.text, call)
        return ticket

    async def AskCallBack(self, request: pb.AskCallBackRequest, call: Call) -> dict[str, Any]:
        """The answer is the same whether he was written down already, or is a machine."""
        queue = await call.load(Queue, request.name, lock=True)
        await Ticket.asked_back(queue, request, call)
        return {"message": call.text("我们会尽快给您回电。", "We will call you soon.")}

    async def SimulateSlaPolicy(self, request: pb.SimulateSlaPolicyRequest, call: Call) -> dict[str, Any]:
        policy = await call.load(SlaPolicy, request.name, lock=False)
        return {"due_time": policy.due(instant(request.start_time), request.minutes)}
