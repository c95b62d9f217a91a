"""Leads through the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.testing import Refused, Service
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
Lead = pb.Lead
CLOSE = {"year": 2027, "month": 3, "day": 31}


def mobile() -> str:
    """A Chinese mobile number that no other test has."""
    return f"13{uuid4().int % 10**9:09d}"


async def test_the_same_channel_and_external_id_twice_is_one_lead(sales: Service) -> None:
    body = {"displayName": "网站询价", "channel": "API", "externalId": uuid4().hex}
    first = await sales.client("marketer").CreateLead(lead=body)
    assert await sales.client("marketer").CreateLead(lead=body) == first
    assert len(first.touches) == 1
    assert len(await sales.facts("crm.sales.v1.LeadCreated", first.name)) == 1
    answers = await asyncio.gather(
        *(
            sales.client("marketer").CreateLead(lead={**body, "externalId": body["externalId"] + "x"})
            for _ in range(10)
        )
    )
    assert len({answer.name for answer in answers}) == 1


async def test_a_touch_with_the_phone_of_an_open_lead_joins_it(sales: Service) -> None:
    number = mobile()
    first = await sales.sales1.CreateLead(
        lead={"displayName": "李雷", "phones": [{"number": number}], "interests": [{"productLine": "传感器"}]}
    )
    source = {"channel": "WECHAT", "externalId": uuid4().hex}
    touch = {
        "displayName": "微信来客",
        "need": "要十台",
        "phones": [{"number": f"+86 {number}"}],
        "emails": [{"address": f"{number}@li.cn"}],
        "interests": [{"productLine": "控制器"}],
        **source,
    }
    joined = await sales.sales1.CreateLead(lead=touch)
    assert joined.name == first.name
    assert [t.channel for t in joined.touches] == [Lead.SELF, Lead.WECHAT]
    assert [interest.product_line for interest in joined.interests] == ["传感器", "控制器"]
    assert (joined.need, len(joined.phones), len(joined.emails)) == ("要十台", 1, 1)
    # The source of a touch is known as well as that of the lead, and the mail address joins too.
    assert await sales.sales1.CreateLead(lead={"displayName": "再来", **source}) == joined
    by_mail = await sales.sales1.CreateLead(
        lead={"displayName": "邮件", "emails": [{"address": f"{number}@LI.cn"}]}
    )
    assert (by_mail.name, len(by_mail.touches)) == (first.name, 3)


async def test_ten_touches_of_one_person_at_once_are_one_lead(sales: Service) -> None:
    body = {"displayName": "同一人", "phones": [{"number": mobile()}]}
    answers = await asyncio.gather(*(sales.sales1.CreateLead(lead=body) for _ in range(10)))
    assert len({answer.name for answer in answers}) == 1
    assert len((await sales.sales1.GetLead(name=answers[0].name)).touches) == 10


async def test_who_may_not_see_the_lead_learns_no_more_than_he_told(sales: Service) -> None:
    number = mobile()
    theirs = await sales.sales1.CreateLead(
        lead={"displayName": "机密客户", "companyName": "机密公司", "phones": [{"number": number}]}
    )
    told = await sales.sales2.CreateLead(lead={"displayName": "我的客户", "phones": [{"number": number}]})
    assert told == Lead(name=theirs.name, display_name="我的客户", department=theirs.department)
    assert len((await sales.sales1.GetLead(name=theirs.name)).touches) == 2


async def test_a_closed_lead_does_not_stop_a_new_one(sales: Service) -> None:
    body = {"displayName": "回头客", "phones": [{"number": mobile()}]}
    first = await sales.sales1.CreateLead(lead=body)
    ended = await sales.sales1.DisqualifyLead(name=first.name, reason="NO_BUDGET")
    assert (ended.state, ended.end_reason) == (Lead.DISQUALIFIED, "NO_BUDGET")
    assert (await sales.sales1.CreateLead(lead=body)).name != first.name
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateLead(lead={"name": first.name, "need": "x"}, updateMask="need")
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    [fact] = await sales.facts("crm.sales.v1.LeadDisqualified", first.name)
    assert fact["reason"] == "NO_BUDGET"


async def test_a_salesperson_works_on_what_he_enters_and_a_marketers_lead_waits(sales: Service) -> None:
    own = await sales.sales1.CreateLead(lead={"displayName": "自己的"})
    assert (own.state, own.owner) == (Lead.WORKING, sales.person("sales1").employee)
    assert own.number.startswith("L-")
    new = await sales.client("marketer").CreateLead(lead={"displayName": "展会名片", "channel": "EVENT"})
    assert (new.state, new.owner) == (Lead.NEW, "")
    given = await sales.client("marketer").AssignLead(name=new.name, owner=sales.person("sales2").employee)
    assert (given.state, given.owner, given.department) == (
        Lead.WORKING,
        sales.person("sales2").employee,
        sales.person("sales2").department,
    )
    [fact] = await sales.facts("crm.sales.v1.LeadAssigned", new.name)
    assert (fact["to"], fact["rule"]) == (sales.person("sales2").employee, "ASSIGN")


async def test_thirty_claims_at_once_give_one_owner(sales: Service) -> None:
    new = await sales.client("marketer").CreateLead(lead={"displayName": "抢单", "channel": "WEB"})
    clients = [(sales.sales1, sales.sales2, sales.manager)[turn % 3] for turn in range(30)]
    answers = await asyncio.gather(*(c.ClaimLead(name=new.name) for c in clients), return_exceptions=True)
    [claimed] = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert {answer.reason for answer in answers if isinstance(answer, Refused)} <= {
        "ALREADY_CLAIMED",
        "CONFLICT",
    }
    assert sum(isinstance(answer, Refused) for answer in answers) == 29
    found = await sales.admin.GetLead(name=new.name)
    assert (found.owner, found.state) == (claimed.owner, Lead.WORKING)
    assert len(await sales.facts("crm.sales.v1.LeadAssigned", new.name)) == 1


async def test_a_lead_rests_and_goes_on(sales: Service) -> None:
    lead = await sales.sales1.CreateLead(lead={"displayName": "等预算"})
    past, later = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 30))
    with pytest.raises(Refused) as refused:
        await sales.sales1.WaitLead(name=lead.name, until=past.isoformat())
    assert refused.value.violations == {"until": "IN_PAST"}
    assert (await sales.sales1.WaitLead(name=lead.name, until=later.isoformat())).state == Lead.WAITING
    back = await sales.sales1.ResumeLead(name=lead.name)
    assert (back.state, back.HasField("wait_until_time")) == (Lead.WORKING, False)
    with pytest.raises(Refused) as refused:
        await sales.sales1.CancelLead(name=lead.name, reason="x")
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    changes = await sales.facts("crm.sales.v1.LeadStateChanged", lead.name)
    assert [(fact["from"], fact["to"]) for fact in changes] == [
        ("WORKING", "WAITING"),
        ("WAITING", "WORKING"),
    ]


async def test_a_new_record_that_was_no_lead_is_cancelled(sales: Service) -> None:
    new = await sales.client("marketer").CreateLead(lead={"displayName": "广告", "channel": "WEB"})
    assert (await sales.client("marketer").CancelLead(name=new.name, reason="SPAM")).state == Lead.CANCELLED
    assert await sales.facts("crm.sales.v1.LeadCancelled", new.name)


async def _converting(sales: Service, **request: Any) -> Any:
    lead = await sales.sales1.CreateLead(
        lead={
            "displayName": "二号线改造",
            "companyName": "华东机械",
            "personName": "李雷",
            "title": "厂长",
            "need": "更换传感器",
            "phones": [{"number": mobile()}],
        }
    )
    return await sales.sales1.ConvertLead(name=lead.name, **request)


async def _ended(sales: Service, name: str) -> Any:
    async def converted() -> Any:
        found = await sales.sales1.GetLead(name=name)
        return found if found.state == Lead.CONVERTED else None

    return await sales.eventually(converted)


async def test_a_conversion_asks_once_and_ends_with_one_opportunity(sales: Service, account: Made) -> None:
    draft = {"amount": {"currencyCode": "CNY", "amount": "80000.00"}, "expectedCloseDate": CLOSE}
    lead = await _converting(sales, opportunityDraft=draft)
    assert lead.state == Lead.CONVERTING
    task = await sales.sales1.CreateSalesTask(salesTask={"displayName": "回访二号线", "about": lead.name})
    [asked] = await sales.facts("crm.sales.v1.LeadConversionRequested", lead.name)
    assert asked["accountDraft"]["displayName"] == "华东机械"
    assert asked["contactDraft"]["displayName"] == "李雷"
    assert asked["contactDraft"]["phones"][0]["number"].startswith("+86")
    assert (asked.get("account", ""), asked["lead"]["owner"]) == ("", sales.person("sales1").employee)

    answer = {"lead": lead.name, "account": await account(), "contact": f"contacts/{uuid7()}"}
    for _ in range(3):
        await sales.tell("crm.customer.v1.LeadAccountResolved", answer, lead.name)
    done = await _ended(sales, lead.name)
    assert (done.account, done.contact) == (answer["account"], answer["contact"])
    made = await sales.sales1.GetOpportunity(name=done.opportunity)
    assert (made.account, made.lead, made.need, made.amount.amount) == (
        answer["account"],
        lead.name,
        "更换传感器",
        "80000.00",
    )
    assert (made.owner, made.origin.lead) == (lead.owner, lead.name)
    assert [person.contact for person in made.contacts] == [answer["contact"]]
    # What was to be done about the lead is to be done about the opportunity.
    assert (await sales.sales1.GetSalesTask(name=task.name)).about == made.name
    await asyncio.sleep(0.3)
    assert len(await sales.facts("crm.sales.v1.LeadConverted", lead.name)) == 1
    page = await sales.sales1.ListOpportunities(filter=f'lead = "{lead.name}"')
    assert len(page.opportunities) == 1
    with pytest.raises(Refused) as refused:
        await sales.sales1.ReopenLead(name=lead.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_a_conversion_links_what_was_chosen(
    sales: Service, account: Made, contact: Made, deal: Made
) -> None:
    name = await account()
    running, person = await deal(account=name), await contact(account=name)
    lead = await _converting(sales, account=name, contact=person, opportunity=running.name)
    [asked] = await sales.facts("crm.sales.v1.LeadConversionRequested", lead.name)
    assert (asked["account"], asked["contact"]) == (name, person)
    assert "accountDraft" not in asked
    answer = {"lead": lead.name, "account": name, "contact": person}
    await sales.tell("crm.customer.v1.LeadAccountResolved", answer, lead.name)
    assert (await _ended(sales, lead.name)).opportunity == running.name


async def test_an_opportunity_that_cannot_be_made_is_refused_before_the_question(sales: Service) -> None:
    with pytest.raises(Refused) as refused:
        await _converting(sales, opportunityDraft={"displayName": "x"})
    assert refused.value.violations == {
        "opportunity_draft.expected_close_date": "REQUIRED",
        "opportunity_draft.amount": "REQUIRED",
    }


async def test_a_collision_holds_the_conversion_and_it_can_be_reopened(sales: Service) -> None:
    lead = await _converting(sales)
    department = sales.person("sales2").department
    answer = {"lead": lead.name, "reason": "ACCOUNT_COLLISION", "level": "STRONG", "department": department}
    await sales.tell("crm.customer.v1.LeadAccountResolved", {**answer, "case": "cases/x"}, lead.name)

    async def held() -> Any:
        found = await sales.sales1.GetLead(name=lead.name)
        return found if found.collision_case else None

    found = await sales.eventually(held)
    assert (found.state, found.collision_case) == (Lead.CONVERTING, "cases/x")
    assert (found.conversion_problem, found.collision_department) == ("ACCOUNT_COLLISION", department)
    opened = await sales.sales1.ReopenLead(name=lead.name)
    assert (opened.state, opened.collision_case, opened.conversion_problem) == (Lead.WORKING, "", "")


async def test_a_submitted_form_is_one_lead(sales: Service) -> None:
    submission, campaign = f"submissions/{uuid7()}", f"campaigns/{uuid7()}"
    fact = {
        "submission": {
            "name": submission,
            "displayName": "新客机械",
            "department": sales.person("marketer").department,
        },
        "values": {
            "companyName": "新客机械",
            "personName": "韩梅梅",
            "phone": mobile(),
            "productLine": "传感器",
        },
        "campaign": campaign,
    }
    await sales.tell("crm.marketing.v1.FormSubmitted", fact, submission, times=2)

    async def captured() -> Any:
        page = await sales.client("marketer").ListLeads(filter=f'source = "{submission}"')
        return page.leads[0] if page.leads else None

    lead = await sales.eventually(captured)
    await asyncio.sleep(0.3)
    assert len((await sales.admin.ListLeads(filter=f'source = "{submission}"')).leads) == 1
    assert (lead.display_name, lead.state, lead.channel, lead.campaign) == (
        "新客机械",
        Lead.NEW,
        Lead.WEB,
        campaign,
    )
    assert len((await sales.admin.GetLead(name=lead.name)).touches) == 1


async def test_what_marketing_decides_of_a_submission_happens_to_its_lead(sales: Service) -> None:
    names = [f"submissions/{uuid7()}" for _ in range(2)]
    for name in names:
        submission = {"name": name, "displayName": "表单"}
        await sales.tell("crm.marketing.v1.FormSubmitted", {"submission": submission}, name)
    seller = sales.person("sales2").employee
    good = {"submission": {"name": names[0]}, "assignee": seller}
    await sales.tell("crm.marketing.v1.SubmissionQualified", good, names[0])
    await sales.tell(
        "crm.marketing.v1.SubmissionDiscarded", {"submission": {"name": names[1]}, "reason": "SPAM"}, names[1]
    )

    async def decided() -> Any:
        found = [(await sales.admin.ListLeads(filter=f'source = "{name}"')).leads for name in names]
        return found if all(f and f[0].state != Lead.NEW for f in found) else None

    [[worked], [cancelled]] = await sales.eventually(decided)
    assert (worked.state, worked.owner) == (Lead.WORKING, seller)
    assert (cancelled.state, cancelled.end_reason) == (Lead.CANCELLED, "SPAM")
