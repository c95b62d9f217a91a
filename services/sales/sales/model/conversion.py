"""What a conversion asks for: the request's choices, with the lead filling what they leave open."""

from __future__ import annotations

from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.mapping import read_date
from crmkit.values import Money
from sales.model.lead import Lead
from sales.model.opportunity import Opportunity
from sales.model.sales_task import go_along


async def conversion_of(lead: Lead, request: pb.ConvertLeadRequest, call: Call) -> pb.Conversion:
    """Settles what is chosen and what is to be made; Validation where the opportunity cannot be made so."""
    conversion = pb.Conversion(
        account=request.account, contact=request.contact, opportunity=request.opportunity
    )
    if request.opportunity:
        conversion.account = await _account_of(request, call)
    elif request.HasField("opportunity_draft"):
        conversion.opportunity_draft.CopyFrom(_opportunity_draft(lead, request.opportunity_draft))
        await opportunity_of(lead, conversion).enter_pipeline(call, "opportunity_draft")
    if not conversion.account:
        conversion.account_draft.CopyFrom(_account_draft(lead, request.account_draft))
    if not conversion.contact and (lead.person_name or request.contact_draft.display_name):
        conversion.contact_draft.CopyFrom(_contact_draft(lead, request.contact_draft))
    return conversion


def opportunity_of(lead: Lead, conversion: pb.Conversion) -> Opportunity:
    """The opportunity that a lead becomes; the database lets one lead have only one."""
    draft = conversion.opportunity_draft
    return Opportunity(
        display_name=draft.display_name, need=draft.need, pipeline=draft.pipeline, amount=Money.parse(draft.amount),
        expected_close_date=read_date(draft.expected_close_date), lead=lead.name, campaign=lead.campaign,
        channel_partner=lead.channel_partner, owner=lead.owner, department=lead.department, creator=lead.owner,
    )  # fmt: skip


async def complete(lead: Lead, account: str, contact: str, call: Call) -> None:
    """Ends the conversion with the account that the customer service made or linked."""
    conversion: Any = lead.conversion
    opportunity = conversion.opportunity
    if not opportunity and conversion.HasField("opportunity_draft"):
        made = opportunity_of(lead, conversion)
        made.account = account
        made.contacts = [pb.Opportunity.Participant(contact=contact)] if contact else []
        opportunity = (await call.add(made)).name
    await go_along(lead.name, opportunity or account, call)
    lead.convert(account, contact, opportunity, call)


async def _account_of(request: pb.ConvertLeadRequest, call: Call) -> str:
    """The account of the chosen opportunity, which must be the chosen one."""
    opportunity = await call.named(Opportunity, request.opportunity)
    account = opportunity.account if opportunity else ""
    if request.account and request.account != account:
        raise Validation(
            Violation(
                "opportunity", "OTHER_ACCOUNT", "商机属于其他客户", "The opportunity is another account's."
            )
        )
    return account


def _account_draft(lead: Lead, draft: pb.AccountDraft) -> pb.AccountDraft:
    full = pb.AccountDraft()
    full.CopyFrom(draft)
    full.display_name = draft.display_name or lead.company_name or lead.person_name or lead.display_name
    person = lead.person_name and not lead.company_name
    full.kind = draft.kind or ("INDIVIDUAL" if person else "COMPANY")
    full.industry, full.source = draft.industry or lead.industry, draft.source or lead.channel
    _fill_addresses(full, lead)
    return full


def _contact_draft(lead: Lead, draft: pb.ContactDraft) -> pb.ContactDraft:
    full = pb.ContactDraft()
    full.CopyFrom(draft)
    full.display_name = draft.display_name or lead.person_name
    full.title, full.wechat = draft.title or lead.title, draft.wechat or lead.wechat
    _fill_addresses(full, lead)
    return full


def _opportunity_draft(lead: Lead, draft: pb.OpportunityDraft) -> pb.OpportunityDraft:
    full = pb.OpportunityDraft()
    full.CopyFrom(draft)
    full.display_name, full.need = draft.display_name or lead.display_name, draft.need or lead.need
    return full


def _fill_addresses(draft: Any, lead: Lead) -> None:
    if not draft.phones:
        draft.phones.extend(lead.phones)
    if not draft.emails:
        draft.emails.extend(lead.emails)
