"""What marketing hears: who its people are, and what became of those it brought."""

from collections.abc import Iterable
from typing import Any

from crm.marketing.v1 import events_pb2 as marketing
from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb as sales
from crmkit import copies
from crmkit.call import Call
from crmkit.events import Fact, listens
from crmkit.tables import Copy
from crmkit.values import Money
from sqlalchemy import or_, select

from marketing.model.campaign import Campaign
from marketing.model.form import Submission
from marketing.model.member import CampaignMember, reckon
from marketing.model.segment import MEMBERSHIP_SHARED, Segment, SegmentMember

AUDIENCES = {"accounts": "ACCOUNTS", "contacts": "CONTACTS"}


@listens(*(f"crm.customer.v1.ResourceChanged.{collection}" for collection in AUDIENCES))
async def on_people_changed(events: list[Fact], call: Call) -> None:
    """Lets accounts and contacts join and leave segments, by what is known of them now."""
    names = sorted({event.payload["name"] for event in events})
    # The copies may be newer than these facts: facts come in any order.
    await copies.keep(events, call, set(AUDIENCES))
    await call.db.execute(MEMBERSHIP_SHARED)
    active = select(Segment).where(Segment.state == "ACTIVE").order_by(Segment.id)
    segments = (await call.db.scalars(active)).all()
    if not segments:
        return
    known = select(Copy.name, Copy.payload).where(Copy.name.in_(names), ~Copy.deleted)
    records = {row.name: row.payload for row in await call.db.execute(known)}
    rows = await call.db.scalars(select(SegmentMember).where(SegmentMember.member.in_(names)))
    inside = {(row.member, row.segment): row for row in rows}
    for name in names:
        for segment in segments:
            if segment.audience == AUDIENCES[name.partition("/")[0]]:
                await segment.follow(name, records.get(name), inside.get((name, segment.name)), call)


async def on_form_submitted(event: marketing.FormSubmitted, call: Call) -> None:
    """Who filled in a campaign's form is a member who answered."""
    submission = event.submission
    if not event.campaign or await _member(call, CampaignMember.submission == submission.name):
        return
    campaign = await call.named(Campaign, event.campaign)
    if campaign is None:
        return
    await _join(
        campaign, call, submission=submission.name, display_name=submission.display_name, state="RESPONDED"
    )
    await reckon(event.campaign, call)


async def on_lead_created(event: events.LeadCreated, call: Call) -> None:
    """The member became a lead; who was none joins as one."""
    await _show(event.lead, call)
    await _lead(event.lead, call)


async def on_lead_state_changed(event: events.LeadStateChanged, call: Call) -> None:
    """The submission shows where its lead stands."""
    await _show(event.lead, call)


async def on_lead_converted(event: events.LeadConverted, call: Call) -> None:
    """The lead became an account."""
    await _show(event.lead, call)
    await _lead(event.lead, call, event.account, event.contact)


async def on_lead_disqualified(event: events.LeadDisqualified, call: Call) -> None:
    """The submission shows where its lead stands."""
    await _show(event.lead, call)


async def on_lead_cancelled(event: events.LeadCancelled, call: Call) -> None:
    """The submission shows where its lead stands."""
    await _show(event.lead, call)


async def on_opportunity_opened(event: events.OpportunityOpened, call: Call) -> None:
    """A campaign brought a deal."""
    await _deal(event.opportunity, call)


async def on_opportunity_won(event: events.OpportunityWon, call: Call) -> None:
    """A campaign brought money."""
    await _deal(event.opportunity, call)


async def on_opportunity_lost(event: events.OpportunityLost, call: Call) -> None:
    """The deal brought nothing."""
    await _deal(event.opportunity, call)


async def on_opportunity_reopened(event: events.OpportunityReopened, call: Call) -> None:
    """What was won is open again."""
    await _deal(event.opportunity, call)


async def _show(lead: sales.Lead, call: Call) -> None:
    if not lead.source.startswith("submissions/"):
        return
    submission = await call.named(Submission, lead.source, lock=True)
    if submission is not None:
        submission.take_lead(lead.name, sales.Lead.State.Name(lead.state), int(lead.etag or 0))


async def _lead(lead: sales.Lead, call: Call, account: str = "", contact: str = "") -> None:
    if not lead.campaign:
        return
    campaign = await call.named(Campaign, lead.campaign, lock=True)
    if campaign is None:
        return
    own = CampaignMember.campaign == campaign.name
    by_lead = await _member(call, own, CampaignMember.lead == lead.name)
    member = await _source_of(lead, campaign.name, call) or by_lead
    if member is None:
        member = await _join(campaign, call, lead=lead.name, display_name=lead.display_name)
    elif by_lead is not None and by_lead is not member:
        # The deal was heard of before the lead: it goes on with the member that the lead began as.
        heard = (
            by_lead.opportunity,
            by_lead.opportunity_version,
            by_lead.state == "CUSTOMER",
            by_lead.won_amount,
        )
        await call.db.delete(by_lead)
        await call.flush()
        member.take_deal(*heard)
    member.lead = lead.name
    member.came_to("LEAD")
    member.account = member.account or account
    if contact and not member.contact and not await _member(call, own, CampaignMember.contact == contact):
        member.contact = contact
    await reckon(campaign.name, call)


async def _deal(opportunity: sales.Opportunity, call: Call) -> None:
    campaign_name = opportunity.campaign or opportunity.origin.campaign
    campaign = await call.named(Campaign, campaign_name, lock=True)
    if campaign is None:
        return
    own = CampaignMember.campaign == campaign.name
    member = await _member(call, own, CampaignMember.opportunity == opportunity.name)
    if member is None and opportunity.lead:
        member = await _member(
            call, own, CampaignMember.lead == opportunity.lead, CampaignMember.opportunity == ""
        )
    if member is None:
        taken = (
            bool(opportunity.lead)
            and await _member(call, own, CampaignMember.lead == opportunity.lead) is not None
        )
        member = await _join(
            campaign, call, lead="" if taken else opportunity.lead, opportunity=opportunity.name,
            account=opportunity.account, display_name=opportunity.display_name,
        )  # fmt: skip
    won = opportunity.state == sales.Opportunity.WON
    amount = Money.parse(opportunity.amount)
    member.take_deal(opportunity.name, int(opportunity.etag or 0), won, amount)
    await reckon(campaign.name, call)


async def _source_of(lead: sales.Lead, campaign: str, call: Call) -> CampaignMember | None:
    """The member that the lead began as: by the submission, or by a telephone number or address of a contact."""
    own = CampaignMember.campaign == campaign
    if lead.source.startswith("submissions/"):
        return await _member(call, own, CampaignMember.submission == lead.source)
    reached = [
        Copy.payload.contains({"phones": [{"number": phone.number}]}) for phone in lead.phones if phone.number
    ]
    reached += [
        Copy.payload.contains({"emails": [{"address": mail.address}]}) for mail in lead.emails if mail.address
    ]
    if not reached:
        return None
    people = select(Copy.name).where(Copy.collection == "contacts", ~Copy.deleted, or_(*reached))
    return await _member(
        call, own, CampaignMember.lead.in_(["", lead.name]), CampaignMember.contact.in_(people)
    )


async def _member(call: Call, *conditions: Any) -> CampaignMember | None:
    return await call.find(CampaignMember, *conditions, lock=True)


async def _join(campaign: Campaign, call: Call, **values: Any) -> CampaignMember:
    whose = {"owner": campaign.owner, "department": campaign.department, "creator": campaign.creator}
    member = await call.add(CampaignMember(campaign=campaign.name, **values, **whose))
    await call.flush()
    return member


def handlers() -> Iterable[Any]:
    """Everything that is listened to."""
    return (
        on_people_changed, on_form_submitted, on_lead_created, on_lead_state_changed, on_lead_converted,
        on_lead_disqualified, on_lead_cancelled, on_opportunity_opened, on_opportunity_won, on_opportunity_lost,
        on_opportunity_reopened,
    )  # fmt: skip
