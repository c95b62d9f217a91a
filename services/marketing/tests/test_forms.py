"""Forms on the web: anybody may fill in a live one, machines learn nothing, and sales hears of each once."""

import json
from typing import Any
from uuid import uuid4

import pytest
from crm.marketing.v1 import pb
from crmkit.testing import Client, Refused, Service
from google.protobuf import json_format
from uuid_utils.compat import uuid7

FIELDS = [
    {"key": "company", "label": "公司", "required": True, "mapping": "companyName"},
    {"key": "name", "label": "姓名", "mapping": "personName"},
    {"key": "phone", "label": "电话", "type": "PHONE", "required": True, "mapping": "phone"},
    {"key": "mail", "label": "邮箱", "type": "EMAIL", "mapping": "email"},
    {"key": "size", "label": "规模", "type": "CHOICE", "choices": ["小", "大"]},
    {"key": "need", "label": "需求", "type": "LONG_TEXT", "mapping": "need"},
]
CONSENT = {"consentText": "同意我们与您联系", "consentVersion": "2026-1"}


class Visitor(Client):
    """Somebody on the web: without a token."""

    async def send(self, name: str, request: Any, metadata: Any = None) -> Any:
        return await super().send(name, request, {"authorization": "", "x-forwarded-for": self._address})

    def at(self, address: str) -> "Visitor":
        """The visitor, coming from there."""
        self._address = address
        return self


def visitor(service: Service, address: str = "") -> Any:
    return Visitor(service.running, service.channel, "").at(address)


async def live(service: Service, **more: Any) -> pb.Form:
    marketer = service.client("marketer")
    form = await marketer.CreateForm(form={"displayName": "索取资料", "fields": FIELDS, **CONSENT, **more})
    return await marketer.PublishForm(name=form.name)


def filled(**values: str) -> list[dict[str, str]]:
    return [
        {"key": key, "value": value}
        for key, value in {"company": "华东机械", "phone": "139 0000 1111", **values}.items()
    ]


async def submissions(service: Service, form: str) -> list[pb.Submission]:
    page = await service.client("marketer").ListSubmissions(filter=f'form = "{form}"')
    return list(page.submissions)


async def test_what_a_visitor_fills_in_is_told_to_sales_once(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await marketer.CreateCampaign(
        campaign={
            "displayName": "官网获客", "startDate": {"year": 2026, "month": 1, "day": 1},
            "endDate": {"year": 2099, "month": 1, "day": 1},
        }
    )  # fmt: skip
    form = await live(marketing, campaign=campaign.name)
    seen = await visitor(marketing).ViewForm(name=form.name)
    assert (seen.consent_text, len(seen.fields)) == (CONSENT["consentText"], 6)
    request = {
        "name": form.name, "values": filled(mail="a@b.cn", need="需要报价", size="大"), "consent": True,
        "requestId": uuid4().hex, "source": {"url": "https://example.com/p", "utmSource": "baidu"},
    }  # fmt: skip
    first = await visitor(marketing).SubmitForm(**request)
    assert first.message
    assert await visitor(marketing).SubmitForm(**request) == first
    (submission,) = await submissions(marketing, form.name)
    assert (submission.state, submission.display_name, submission.campaign) == (
        pb.Submission.CONFIRMED, "华东机械", campaign.name,
    )  # fmt: skip
    assert submission.owner == form.owner
    (fact,) = await marketing.facts("crm.marketing.v1.FormSubmitted", submission.name)
    assert fact["values"] == {
        "companyName": "华东机械",
        "phone": "139 0000 1111",
        "email": "a@b.cn",
        "need": "需要报价",
    }
    assert (fact["campaign"], fact["consent"], fact["source"]["utmSource"]) == (
        campaign.name,
        "2026-1",
        "baidu",
    )
    assert fact["submission"]["name"] == submission.name
    lead = {
        "name": f"leads/{uuid7()}", "displayName": "华东机械", "source": submission.name, "campaign": campaign.name,
        "state": "NEW", "etag": "1",
    }  # fmt: skip

    async def member() -> Any:
        page = await marketer.ListCampaignMembers(filter=f'submission = "{submission.name}"')
        return list(page.campaign_members)

    assert (await marketing.eventually(member))[0].state == pb.CampaignMember.RESPONDED
    await marketing.tell(
        "crm.sales.v1.LeadStateChanged", {"lead": {**lead, "state": "WORKING", "etag": "2"}}, lead["name"]
    )
    await marketing.tell("crm.sales.v1.LeadCreated", {"lead": lead}, lead["name"], times=2)

    async def became_lead() -> bool:
        return (await member())[0].state == pb.CampaignMember.LEAD

    await marketing.eventually(became_lead)
    (submission,) = await submissions(marketing, form.name)
    assert (submission.lead, submission.lead_state) == (lead["name"], "WORKING")
    figures = await marketer.GetCampaign(name=campaign.name)
    assert (figures.member_count, figures.responded_count, figures.lead_count) == (1, 1, 1)


async def test_what_does_not_fit_is_refused_at_its_field(marketing: Service) -> None:
    form = await live(marketing)
    bad = filled(company="", phone="abc", mail="nobody", size="中", colour="红")
    with pytest.raises(Refused) as refused:
        await visitor(marketing).SubmitForm(name=form.name, values=bad, consent=True)
    assert refused.value.violations == {
        "values.company": "REQUIRED", "values.phone": "NOT_A_NUMBER", "values.mail": "NOT_AN_ADDRESS",
        "values.size": "UNKNOWN_VALUE", "values.colour": "UNKNOWN_FIELD",
    }  # fmt: skip
    with pytest.raises(Refused) as refused:
        await visitor(marketing).SubmitForm(name=form.name, values=filled())
    assert refused.value.reason == "CONSENT_REQUIRED"
    with pytest.raises(Refused) as refused:
        many = [{"key": "need", "value": "长" * 4999}] * 5
        long = [{"key": f"k{i}", "value": one["value"]} for i, one in enumerate(many)]
        await visitor(marketing).SubmitForm(name=form.name, values=[*filled(), *long], consent=True)
    assert refused.value.reason == "TOO_LARGE"
    assert not await submissions(marketing, form.name)


async def test_a_machine_reads_the_same_thanks_and_is_kept_apart(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    form = await live(marketing, thanks="多谢")
    request = {"name": form.name, "values": filled(), "consent": True}
    assert (await visitor(marketing).SubmitForm(**request, website="http://spam")).message == "多谢"
    (submission,) = await submissions(marketing, form.name)
    assert (submission.state, submission.doubt) == (pb.Submission.QUARANTINED, "HONEYPOT")
    assert not await marketing.facts("crm.marketing.v1.FormSubmitted", submission.name)
    with pytest.raises(Refused) as refused:
        await marketer.QualifySubmission(name=submission.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await marketer.ReleaseSubmission(name=submission.name)
    assert len(await marketing.facts("crm.marketing.v1.FormSubmitted", submission.name)) == 1
    address = f"203.0.113.{uuid4().int % 250}"
    for _ in range(6):
        await visitor(marketing, address).SubmitForm(**request)
    doubts = [one.doubt for one in await submissions(marketing, form.name) if one.address == address]
    assert sorted(doubts) == ["", "", "", "", "", "RATE"]


async def test_a_submission_is_qualified_or_discarded_and_both_are_told(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    form = await live(marketing)
    for _ in range(2):
        await visitor(marketing).SubmitForm(name=form.name, values=filled(), consent=True)
    good, bad = await submissions(marketing, form.name)
    assert (await marketer.QualifySubmission(name=good.name)).state == pb.Submission.QUALIFIED
    with pytest.raises(Refused) as refused:
        await marketer.DiscardSubmission(name=bad.name)
    assert refused.value.reason == "REASON_REQUIRED"
    await marketer.DiscardSubmission(name=bad.name, reason="测试数据")
    assert len(await marketing.facts("crm.marketing.v1.SubmissionQualified", good.name)) == 1
    (fact,) = await marketing.facts("crm.marketing.v1.SubmissionDiscarded", bad.name)
    assert fact["reason"] == "测试数据"
    for verb in ("ReleaseSubmission", "MarkSubmissionSpam", "QualifySubmission"):
        with pytest.raises(Refused) as refused:
            await getattr(marketer, verb)(name=bad.name)
        assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_a_form_that_asks_for_a_person_needs_a_consent_text_and_stays_as_it_is(
    marketing: Service,
) -> None:
    marketer = marketing.client("marketer")
    form = await marketer.CreateForm(form={"displayName": "无条款", "fields": FIELDS})
    with pytest.raises(Refused) as refused:
        await marketer.PublishForm(name=form.name)
    assert refused.value.reason == "CONSENT_TEXT_REQUIRED"
    for wrong in (
        [{"key": "a", "label": "甲"}, {"key": "a", "label": "乙"}],
        [{"key": "a", "label": "甲", "type": "CHOICE"}],
        [{"key": "a", "label": "甲", "mapping": "owner"}],
    ):
        with pytest.raises(Refused) as refused:
            await marketer.CreateForm(form={"displayName": "有误", "fields": wrong})
        assert refused.value.reason == "FORM_FIELD_INVALID"
    form = await live(marketing)
    with pytest.raises(Refused) as refused:
        await marketer.UpdateForm(form={"name": form.name, "consentText": "别的"}, updateMask="consentText")
    assert refused.value.reason == "FORM_FROZEN"
    await marketer.CloseForm(name=form.name)
    for answer in (
        visitor(marketing).ViewForm(name=form.name),
        visitor(marketing).SubmitForm(name=form.name, values=filled(), consent=True),
    ):
        with pytest.raises(Refused) as refused:
            await answer
        assert refused.value.reason == "FORM_CLOSED"


async def test_a_visitor_can_do_nothing_else(marketing: Service) -> None:
    form = await live(marketing)
    for verb, fields in (
        ("GetForm", {"name": form.name}),
        ("ListSubmissions", {}),
        ("CloseForm", {"name": form.name}),
    ):
        with pytest.raises(Refused) as refused:
            await getattr(visitor(marketing), verb)(**fields)
        assert refused.value.code.name == "UNAUTHENTICATED", verb
    assert "owner" not in json.dumps(
        json_format.MessageToDict(await visitor(marketing).ViewForm(name=form.name))
    )
