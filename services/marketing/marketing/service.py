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

    async def SubmitCampaign(self, request: Any, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        campaign.submit()
        return campaign

    async def LaunchCampaign(self, request: Any, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        await campaign.launch(call)
        return campaign

    async def PauseCampaign(self, request: Any, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        campaign.pause()
        return campaign

    async def ResumeCampaign(self, request: Any, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        campaign.resume()
        return campaign

    async def FinishCampaign(self, request: Any, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        await campaign.finish(call)
        return campaign

    async def EvaluateCampaign(self, request: pb.EvaluateCampaignRequest, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        campaign.evaluate(request.evaluation, call)
        return campaign

    async def CancelCampaign(self, request: pb.CancelCampaignRequest, call: Call) -> Campaign:
        campaign = await call.load(Campaign, request)
        await campaign.cancel(request.reason, call)
        return campaign

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

    async def RespondCampaignMember(
        self, request: pb.RespondCampaignMemberRequest, call: Call
    ) -> CampaignMember:
        member = await call.load(CampaignMember, request)
        await member.respond(request.response, call)
        return member

    async def PreviewSegment(self, request: pb.PreviewSegmentRequest, call: Call) -> dict[str, Any]:
        segment = await call.load(Segment, request.name, lock=False)
        count, samples = await segment.preview(request.filter, call)
        return {"count": count, "samples": samples}

    async def RebuildSegment(self, request: Any, call: Call) -> Segment:
        segment = await call.load(Segment, request)
        await segment.rebuild(call)
        return segment

    async def AddSegmentMembers(self, request: pb.SegmentMembersRequest, call: Call) -> Segment:
        segment = await call.load(Segment, request)
        await segment.add(list(request.members), call)
        return segment

    async def RemoveSegmentMembers(self, request: pb.SegmentMembersRequest, call: Call) -> Segment:
        segment = await call.load(Segment, request)
        await segment.remove(list(request.members), call)
        return segment

    async def ArchiveSegment(self, request: Any, call: Call) -> Segment:
        segment = await call.load(Segment, request)
        await segment.archive(call)
        return segment

    async def PublishForm(self, request: Any, call: Call) -> Form:
        form = await call.load(Form, request)
        form.publish()
        return form

    async def CloseForm(self, request: Any, call: Call) -> Form:
        form = await call.load(Form, request)
        form.close()
        return form

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
        form = await call.find(Form, Form.id == submission.form.rpartition("/")[2], lock=True)
        if form is None:
            raise FailedPrecondition("FORM_CLOSED")
        submission.release(form, call)
        return submission

    async def QualifySubmission(self, request: Any, call: Call) -> Submission:
        submission = await call.load(Submission, request)
        submission.qualify(call)
        return submission

    async def DiscardSubmission(self, request: pb.DiscardSubmissionRequest, call: Call) -> Submission:
        submission = await call.load(Submission, request)
        submission.discard(request.reason, call)
        return submission

    async def MarkSubmissionSpam(self, request: Any, call: Call) -> Submission:
        submission = await call.load(Submission, request)
        submission.mark_spam()
        return submission
