"""The methods of pools, intakes and what is done with a lead before it is converted."""

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from crmkit.standard import Standard

from sales.capture import lead_of_card, lead_of_mail
from sales.model.lead import Lead, seen_or_told, waiting_in
from sales.model.lead_forward import LeadForward, forward
from sales.model.lead_pool import LeadIntake, LeadPool, LeadPoolItem
from sales.model.lead_pool_rule import LeadPoolRule
from sales.model.lead_recycle import LeadRecycleProposal

MERGED_AT_ONCE = 20
ASSIGNED_AT_ONCE = 200
LONGEST_PAST = 365


class LeadMethods:
    """Where leads come in, wait, are followed up and brought together."""

    lead_intakes = Standard(LeadIntake)
    lead_pools = Standard(LeadPool)
    lead_pool_items = Standard(LeadPoolItem)
    lead_pool_rules = Standard(LeadPoolRule)
    lead_forwards = Standard(LeadForward)
    lead_recycle_proposals = Standard(LeadRecycleProposal)

    async def ForwardLead(self, request: pb.ForwardLeadRequest, call: Call) -> LeadForward:
        lead = await call.load(Lead, request)
        await call.check_references(request, "", ["partners"])
        return await forward(lead, request, call)

    async def ReleaseLead(self, request: pb.ReleaseLeadRequest, call: Call) -> Lead:
        lead = await call.load(Lead, request)
        name = request.pool or lead.pool
        if not name:
            raise FailedPrecondition("POOL_MISSING")
        await lead.release(await call.load(LeadPool, name, lock=False), request.reason, call)
        async with call.everybody():
            await call.flush()
        return lead

    async def AssignLeadPoolItems(self, request: pb.AssignLeadPoolItemsRequest, call: Call) -> LeadPool:
        pool = await call.load(LeadPool, request)
        if not pool.managed_by(call.caller):
            raise PermissionDenied("NOT_LEAD_POOL_MANAGER")
        if len(request.leads) > ASSIGNED_AT_ONCE:
            raise InvalidArgument("MALFORMED", detail="leads")
        await call.check_references(request, "", ["employees"])
        people = list(dict.fromkeys(request.employees))
        wanted = len(people) * request.each if request.each else len(request.leads) or ASSIGNED_AT_ONCE
        async with call.everybody():
            for n, lead in enumerate(await waiting_in(pool, list(request.leads), wanted, call)):
                await lead.assign(people[n % len(people)], call)
            await call.flush()
        return pool

    async def MergeLeads(self, request: pb.MergeLeadsRequest, call: Call) -> Lead:
        if len(request.others) > MERGED_AT_ONCE:
            raise InvalidArgument("MALFORMED", detail="others")
        lead = await call.load(Lead, request)
        others = [await call.load(Lead, name) for name in dict.fromkeys(request.others)]
        await lead.merge(others, call)
        return lead

    async def ListLeadTwins(self, request: pb.ListLeadTwinsRequest, call: Call) -> pb.ListLeadTwinsResponse:
        reply = pb.ListLeadTwinsResponse()
        for lead, reason in await (await call.load(Lead, request.name, lock=False)).twins(call):
            reply.twins.add(lead=lead.name, display_name=lead.display_name, reason=reason)
        return reply

    async def CaptureLeadMail(self, request: pb.CaptureLeadMailRequest, call: Call) -> Lead | pb.Lead:
        await call.check_references(request, "", ["campaign"])
        lead = lead_of_mail(request.content)
        lead.campaign = request.campaign
        return await seen_or_told(lead, call)

    async def CaptureLeadCard(self, request: pb.CaptureLeadCardRequest, call: Call) -> Lead | pb.Lead:
        await call.check_references(request, "", ["campaign"])
        lead = lead_of_card(request.content)
        lead.campaign, lead.need = request.campaign, request.need
        return await seen_or_told(lead, call)

    async def SimulateLeadPoolRule(self, request: pb.SimulateLeadPoolRuleRequest, call: Call) -> LeadPoolRule:
        if request.days > LONGEST_PAST:
            raise InvalidArgument("MALFORMED", detail="days")
        rule = await call.load(LeadPoolRule, request)
        await rule.simulate(request.days, call)
        return rule
