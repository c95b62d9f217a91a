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

    async def AssignTicket(self, request: pb.AssignTicketRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.assign(request.assignee, call)
        return ticket

    async def ReleaseTicket(self, request: Any, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        ticket.release(call)
        return ticket

    async def StartTicket(self, request: Any, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.start(call)
        return ticket

    async def HoldTicket(self, request: Any, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.hold(call)
        return ticket

    async def WaitTicket(self, request: pb.WaitTicketRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.wait(pb.Ticket.Awaiting.Name(request.awaiting) if request.awaiting else "", call)
        return ticket

    async def ResumeTicket(self, request: Any, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.resume(call)
        return ticket

    async def ResolveTicket(self, request: pb.ResolveTicketRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.resolve(request.code, request.text, call)
        return ticket

    async def CloseTicket(self, request: Any, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.close(call)
        return ticket

    async def ReopenTicket(self, request: pb.TicketReasonRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.reopen(request.reason, call)
        return ticket

    async def RejectTicket(self, request: pb.TicketReasonRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.reject(request.reason, call)
        return ticket

    async def CancelTicket(self, request: pb.TicketReasonRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.cancel(request.reason, call)
        return ticket

    async def CompleteTicketStep(self, request: pb.CompleteTicketStepRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        ticket.complete_step(request.text, call)
        return ticket

    async def CommentTicket(self, request: pb.CommentTicketRequest, call: Call) -> Ticket:
        ticket = await call.load(Ticket, request)
        await ticket.comment(request.text, request.internal, request.from_customer, call)
        return ticket

    async def LogTicket(self, request: pb.LogTicketRequest, call: Call) -> Ticket:
        created = pb.CreateTicketRequest(ticket=request.ticket)
        ticket: Any = await self.tickets.create(created, call)
        await ticket.start(call)
        await ticket.resolve(request.code, request.text, call)
        return ticket

    async def ActivateSlaPolicy(self, request: Any, call: Call) -> SlaPolicy:
        policy = await call.load(SlaPolicy, request)
        policy.activate()
        return policy

    async def RetireSlaPolicy(self, request: Any, call: Call) -> SlaPolicy:
        policy = await call.load(SlaPolicy, request)
        policy.retire()
        return policy

    async def SimulateSlaPolicy(self, request: pb.SimulateSlaPolicyRequest, call: Call) -> dict[str, Any]:
        policy = await call.load(SlaPolicy, request.name, lock=False)
        return {"due_time": policy.due(instant(request.start_time), request.minutes)}
