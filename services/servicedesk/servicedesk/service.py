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

    async def SimulateSlaPolicy(self, request: pb.SimulateSlaPolicyRequest, call: Call) -> dict[str, Any]:
        policy = await call.load(SlaPolicy, request.name, lock=False)
        return {"due_time": policy.due(instant(request.start_time), request.minutes)}
