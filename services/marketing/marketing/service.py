"""Implements crm.marketing.v1.MarketingService."""

from typing import Any

from crm.marketing.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.mapping import read_date
from crmkit.scope import predicate
from crmkit.standard import Standard
from sqlalchemy import select

from marketing.model.campaign import Campaign
from marketing.model.form import THANKS, Form, Submission
from marketing.model.member import CampaignMember
from marketing.model.segment import Segment, SegmentMember

ENROLLED_AT_ONCE = 500


class MarketingService:
    """Campaigns and their members, segments, and forms on the web."""

    campaigns = Standard(Campaign)
    campaign_members = Standard(CampaignMember)
    segments = Standard(Segment)
    segment_members = Standard(SegmentMember)
    forms = Standard(Form)
    submissions = Standard(Submission)

    async def CopyCampaign(self, request: pb.CopyCampaignRequest, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request, lock=False)
        return await call.add(campaign.copied(request.display_name, read_date(request.start_date)))

    async def EnrolCampaign(self, request: pb.EnrolCampaignRequest, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        campaign.check_open()
        segment = await call.load(Segment, request.segment, lock=False)
        of = "account" if segment.audience == "ACCOUNTS" else "contact"
        known = select(getattr(CampaignMember, of)).where(CampaignMember.campaign == campaign.name)
        async with call.everybody():
            inside = set(await call.db.scalars(known))
        members = select(SegmentMember.member, SegmentMember.display_name).where(
            SegmentMember.segment == segment.name,
            SegmentMember.member.not_in(inside),
            predicate(SegmentMember, call.caller),
        )
        rows = await call.db.execute(members.order_by(SegmentMember.member).limit(ENROLLED_AT_ONCE))
        for name, display_name in rows.all():
            await call.add(CampaignMember(campaign=campaign.name, display_name=display_name, **{of: name}))
        return campaign

    async def PreviewSegment(self, request: pb.PreviewSegmentRequest, call: Call) -> dict[str, Any]:
        segment = await call.load(Segment, request.name, lock=False)
        count, samples = await segment.preview(request.filter, call)
        return {"count": count, "samples": samples}

    async def ViewForm(self, request: pb.ViewFormRequest, call: Call) -> pb.ViewFormResponse:
        form = await call.load(Form, request.name, lock=False)
        form.check_live()
        return pb.ViewFormResponse(
            display_name=form.display_name,
            fields=form.fields,
            consent_text=form.consent_text,
            consent_version=form.consent_version,
        )

    async def SubmitForm(self, request: pb.SubmitFormRequest, call: Call) -> dict[str, Any]:
        form = await call.load(Form, request.name)
        form.check_live()
        await Submission.taken(form, request, call)
        return {"message": form.thanks or call.text(*THANKS)}

    async def ReleaseSubmission(self, request: Any, call: Call) -> Submission:
        submission = await call.load(Submission, request)
        form = await call.named(Form, submission.form, lock=True)
        if form is None:
            raise FailedPrecondition("FORM_CLOSED")
        submission.release(form, call)
        return submission
