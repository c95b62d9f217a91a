"""Leads come in by many ways, are brought together, and leave as customers with all that was done."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.model.lead import Lead
from sqlalchemy import text
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]

CARD = """BEGIN:VCARD
VERSION:3.0
N:韩;梅梅;;;
FN:韩梅梅
ORG:苏州精密仪器有限公司;采购部
TITLE:采购经理
TEL;TYPE=CELL:{phone}
EMAIL:HAN@{host}
END:VCARD
"""


def mobile() -> str:
    return f"138{uuid4().int % 10**8:08}"


def mail(sender: str, message_id: str, text: str, charset: str = "utf-8") -> str:
    """A mail as it came, as JSON has bytes."""
    import base64

    made = EmailMessage()
    made["From"], made["To"], made["Subject"], made["Message-ID"] = (
        sender,
        "info@us.cn",
        "询价：传感器",
        message_id,
    )
    made.set_content(text, charset=charset)
    return base64.b64encode(made.as_bytes()).decode()


@pytest.mark.capability("s.lead")
async def test_mail_and_card_of_one_person_are_one_lead(sales: Service) -> None:
    import base64

    host, phone = f"{uuid4().hex[:8]}.cn", mobile()
    sender, key = f"李雷 <LiLei@{host}>", f"<{uuid4()}@{host}>"
    text = f"您好，我们要十台传感器。电话 {phone}\n> 上次的邮件\n"
    first = await sales.sales1.CaptureLeadMail(content=mail(sender, key, text, "gb18030"))
    assert (first.display_name, first.person_name, first.channel) == ("询价：传感器", "李雷", pb.Lead.MAIL)
    assert (first.emails[0].address, first.phones[0].number) == (f"LiLei@{host}", f"+86{phone}")
    assert "十台传感器" in first.need and "上次" not in first.need
    assert await sales.sales1.CaptureLeadMail(content=mail(sender, key, text, "gb18030")) == first
    card = base64.b64encode(
        CARD.format(phone=f"+86 {phone[:3]} {phone[3:]}", host=host).encode("gb18030")
    ).decode()
    joined = await sales.sales1.CaptureLeadCard(content=card, need="展会上见过")
    assert (joined.name, joined.company_name, joined.title) == (
        first.name,
        "苏州精密仪器有限公司",
        "采购经理",
    )
    assert [touch.channel for touch in joined.touches] == [pb.Lead.MAIL, pb.Lead.CARD]
    assert {email.address for email in joined.emails} == {f"LiLei@{host}", f"HAN@{host}"}
    for call, content, reason in (
        (sales.sales1.CaptureLeadMail, b"From: nobody\n\nhello", "MAIL_UNREADABLE"),
        (sales.sales1.CaptureLeadCard, b"hello", "CARD_UNREADABLE"),
        (sales.sales1.CaptureLeadCard, b"BEGIN:VCARD\nVERSION:3.0\nEND:VCARD\n", "CARD_UNREADABLE"),
    ):
        with pytest.raises(Refused) as refused:
            await call(content=base64.b64encode(content).decode())
        assert refused.value.reason == reason


@pytest.mark.capability("s.lead")
async def test_a_file_is_brought_in_by_the_same_rules_as_single_leads(sales: Service, imported: Made) -> None:
    """Round robin, joining and cleansing hold for rows of a file; a converted lead does not stop its next import."""
    line, number = uuid4().hex[:10], mobile()
    people = [sales.person(name).employee or "" for name in ("sales1", "sales2")]
    rule = await sales.manager.CreateAssignmentRule(
        assignmentRule={
            "displayName": "导入轮转", "channels": ["IMPORT"], "position": -5, "method": "WEIGHTED",
            "members": [{"employee": people[0], "weight": 2}, {"employee": people[1], "weight": 1}],
        }
    )  # fmt: skip
    await sales.manager.ActivateAssignmentRule(name=rule.name)
    rows = [("线索名称", "公司", "来源渠道", "外部标识", "电话")]
    rows += [(f"文件 {n}", "　宁波　轴承有限公司 ", "IMPORT", f"{line}-{n}", "") for n in range(9)]
    rows += [(f"文件 {n}", "重复的人", "IMPORT", f"{line}-x{n}", number) for n in range(3)]
    try:
        done = await imported("leads", rows, "marketer")
        again = await imported("leads", rows, "marketer")
    finally:
        await sales.manager.RetireAssignmentRule(name=rule.name)
    assert (done["total"], done["failed"], again["failed"]) == (12, 0, 0)
    found = [
        lead
        for lead in (await sales.admin.ListLeads(q="文件", pageSize=200)).leads
        if lead.external_id.startswith(line)
    ]
    assert Counter(lead.owner for lead in found) == {people[0]: 7, people[1]: 3}
    assert {lead.company_name for lead in found} == {"宁波 轴承有限公司", "重复的人"}
    [same] = [lead for lead in found if lead.company_name == "重复的人"]
    assert len(same.touches) == 3


@pytest.mark.capability("s.lead")
async def test_many_leads_are_shared_two_to_one_to_one_to_none(sales: Service) -> None:
    line = uuid4().hex[:10]
    people = [sales.person(name).employee or "" for name in ("sales1", "sales2", "manager", "everything")]
    members = [
        {"employee": person, "weight": weight} for person, weight in zip(people, (2, 1, 1, 0), strict=True)
    ]
    body = {"displayName": "许多", "productLines": [line], "members": members, "method": "WEIGHTED"}
    rule = await sales.manager.CreateAssignmentRule(assignmentRule=body)
    await sales.manager.ActivateAssignmentRule(name=rule.name)
    owners: Counter[str] = Counter()
    try:
        for batch in range(5):
            async with sales.running.call("test", system("sales")) as call:
                for number in range(200):
                    lead = Lead(
                        display_name=f"许多 {batch}-{number}", channel="API", external_id=str(uuid4())
                    )
                    lead.interests = [pb.Lead.Interest(product_line=line)]
                    owners[(await lead.capture(call)).owner] += 1
    finally:
        await sales.manager.RetireAssignmentRule(name=rule.name)
    assert owners == {people[0]: 500, people[1]: 250, people[2]: 250}


@pytest.mark.capability("s.lead")
async def test_scattered_leads_of_a_company_become_one(sales: Service) -> None:
    stem = f"无锡{uuid4().hex[:6]}机电"
    one = await sales.sales1.CreateLead(lead={"displayName": "甲", "companyName": f"{stem}有限公司"})
    source = {"channel": "API", "externalId": uuid4().hex}
    two = await sales.sales1.CreateLead(
        lead={
            "displayName": "乙",
            "companyName": f" {stem} 股份公司",
            "phones": [{"number": mobile()}],
            **source,
        }
    )
    await sales.sales1.FollowUpLead(name=two.name, summary="问过预算")
    theirs = await sales.sales2.CreateLead(lead={"displayName": "丙", "companyName": stem})
    found = (await sales.sales1.ListLeadTwins(name=one.name)).twins
    assert [(twin.lead, twin.reason) for twin in found] == [(two.name, "COMPANY")]
    with pytest.raises(Refused) as refused:
        await sales.sales1.MergeLeads(name=one.name, others=[theirs.name])
    assert refused.value.code.name == "NOT_FOUND"
    whole = await sales.sales1.MergeLeads(name=one.name, others=[two.name])
    assert (len(whole.touches), len(whole.follow_ups), len(whole.phones)) == (2, 1, 1)
    ended = await sales.sales1.GetLead(name=two.name)
    assert (ended.state, ended.merged_into, ended.end_reason) == (pb.Lead.CANCELLED, one.name, "DUPLICATE")
    # Its source and its phone lead to the one that is left.
    again = await sales.sales1.CreateLead(lead={"displayName": "再来", **source})
    assert again.name == one.name
    by_phone = await sales.sales1.CreateLead(
        lead={"displayName": "再来", "phones": [{"number": two.phones[0].number}]}
    )
    assert by_phone.name == one.name


@pytest.mark.capability("s.lead")
async def test_a_converted_lead_stays_and_offers_itself_again_when_its_account_is_deleted(
    sales: Service, account: Any
) -> None:
    source = {"channel": "API", "externalId": uuid4().hex}
    body = {"displayName": "转化", "companyName": "华东机械", "phones": [{"number": mobile()}]}
    lead = await sales.sales1.CreateLead(lead={**body, **source})
    await sales.sales1.FollowUpLead(name=lead.name, summary="谈妥", channel="VISIT", nextStep="寄合同")
    await sales.sales1.ConvertLead(name=lead.name)
    customer = await account()
    answer = {"lead": lead.name, "account": customer, "contact": f"contacts/{uuid7()}"}
    await sales.tell("crm.customer.v1.LeadAccountResolved", answer, lead.name)

    async def state(wanted: Any) -> Any:
        found = await sales.sales1.GetLead(name=lead.name)
        return found if wanted(found) else None

    await sales.eventually(lambda: state(lambda found: found.state == pb.Lead.CONVERTED), 30)
    # What was said goes along.
    [fact] = await sales.facts("crm.sales.v1.LeadConverted", lead.name)
    assert [said["summary"] for said in fact["lead"]["followUps"]] == ["谈妥"]
    # It is readable, counts, and stands in nobody's way.
    assert (await sales.sales1.CreateLead(lead={**body, **source})).name == lead.name
    other = await sales.sales1.CreateLead(lead={**body, "channel": "API", "externalId": uuid4().hex})
    assert other.name != lead.name
    rows = (await sales.sales1.AggregateLeads(filter=f'account = "{customer}"', groupBy=["state"])).rows
    assert [int(row.count) for row in rows] == [1]
    gone = {"name": customer, "action": "DELETED", "actor": "system/test", "resource": {"name": customer}}
    await sales.tell("crm.customer.v1.ResourceChanged", gone, customer, 2, times=2)
    await sales.eventually(lambda: state(lambda found: found.HasField("account_delete_time")), 30)
    await asyncio.sleep(0)
    assert len(await sales.facts("crm.sales.v1.LeadAccountDeleted", lead.name)) == 1
    assert (await sales.sales1.GetLead(name=lead.name)).state == pb.Lead.CONVERTED
    offered = await sales.sales1.CopyLead(name=lead.name)
    assert (offered.company_name, offered.state) == ("华东机械", pb.Lead.WORKING)


async def test_of_a_person_who_wishes_to_be_forgotten_the_lead_keeps_the_company_alone(
    sales: Service,
) -> None:
    stem, contact = f"忘{uuid4().hex[:8]}", f"contacts/{uuid4()}"
    made = {"phones": [{"number": "13811112222"}], "emails": [{"address": f"{stem}@forget.example"}]}
    firm = await sales.sales1.CreateLead(
        lead={"displayName": "贾记忆", "personName": "贾记忆", "companyName": f"{stem}有限公司", **made}
    )
    other = await sales.sales1.CreateLead(
        lead={"displayName": "旁人", "personName": "旁人", "companyName": f"{stem}乙公司"}
    )
    async with sales.running.system_call("test", None) as call:
        await call.db.execute(
            text("UPDATE leads SET contact = :contact WHERE id = CAST(:id AS uuid)"),
            {"contact": contact, "id": firm.name.rpartition("/")[2]},
        )
    await sales.tell("crm.customer.v1.PersonalDataErased", {"person": contact}, contact, times=2)

    async def forgotten() -> Any:
        found = await sales.sales1.GetLead(name=firm.name)
        return found if not found.person_name else None

    found = await sales.eventually(forgotten)
    assert (found.display_name, found.company_name) == (f"{stem}有限公司", f"{stem}有限公司")
    assert not found.phones and not found.emails and not (await sales.sales1.ListLeads(q="贾记忆")).leads
    assert (await sales.sales1.GetLead(name=other.name)).person_name == "旁人"
