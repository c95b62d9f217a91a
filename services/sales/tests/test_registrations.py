"""Deals that partners register, through the front door."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.jobs import follow_registrations, mind_support
from sales.model.deal_registration import DealRegistration
from sales.model.partnership import in_force
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
Registration = pb.DealRegistration


@pytest.fixture
async def partner(sales: Service, account: Made) -> Any:
    """The demo company's partner, whose account sales knows, and what he registers."""
    person = sales.person("partner")
    resource = {
        "name": person.account,
        "displayName": "蓝海渠道",
        "owner": sales.person("manager").employee,
        "department": sales.person("manager").department,
    }
    told = {"name": person.account, "action": "CREATED", "actor": "system/test", "resource": resource}
    await sales.tell("crm.customer.v1.ResourceChanged", told, person.account)
    return sales.client("partner")


def body(company: str, line: str, **fields: Any) -> dict[str, Any]:
    """All that a registration needs."""
    return {
        "companyName": company, "contactName": "周敏", "phone": "13900001111", "productLines": [line], "region": "310000",
        "amount": {"currencyCode": "CNY", "amount": "80000.00"}, "expectedCloseDate": {"year": 2027, "month": 6, "day": 30},
        "evidence": ["files/meeting-minutes"], "need": "两台分拣机", **fields,
    }  # fmt: skip


async def test_the_first_partner_is_protected_and_nobody_learns_by_whom(
    sales: Service, partner: Any, account: Made, product: Made
) -> None:
    company, line = f"{uuid4().hex[:8]}物流有限公司", f"L{uuid4().hex[:6]}"
    goods, rival = await product(line=line), await account(displayName="另一渠道")
    customer = await account(displayName=company)

    async def known() -> bool:
        async with sales.running.system_call("look", None) as call:
            return await call.copy(customer) is not None

    await sales.eventually(known)
    draft = await partner.CreateDealRegistration(
        dealRegistration={"companyName": company, "region": "310000"}
    )
    assert draft.partner == sales.person("partner").account
    with pytest.raises(Refused) as refused:
        await partner.SubmitDealRegistration(name=draft.name)
    assert refused.value.reason == "REGISTRATION_INCOMPLETE"
    assert set(refused.value.violations) == {
        f"deal_registration.{name}" for name in ("contact_name", "product_lines", "amount", "expected_close_date", "evidence", "phone")
    }  # fmt: skip
    whole = body(company, line)
    await partner.UpdateDealRegistration(
        dealRegistration={"name": draft.name, **whole}, updateMask=",".join(whole)
    )
    first = await partner.SubmitDealRegistration(name=draft.name)
    # The partner learns that it was received, and no more; the reviewer sees what it meets.
    assert (first.state, first.number[:3], len(first.conflicts), first.company_key) == (
        Registration.SUBMITTED,
        "DR-",
        0,
        "",
    )
    seen = await sales.manager.GetDealRegistration(name=first.name)
    assert [(one.kind, one.record) for one in seen.conflicts] == [("ACCOUNT", customer)]
    # The same company written otherwise, by another partner: it waits for the first.
    same = body(company.replace("有限公司", "股份有限公司"), line, partner=rival, region="310115")
    second = await sales.manager.CreateDealRegistration(dealRegistration=same)
    second = await sales.manager.SubmitDealRegistration(name=second.name)
    assert second.waits_for == first.name
    with pytest.raises(Refused) as refused:
        await sales.manager.ApproveDealRegistration(name=second.name)
    assert refused.value.reason == "REGISTRATION_WAITS"
    with pytest.raises(Refused) as refused:
        await partner.GetDealRegistration(name=second.name)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await partner.ApproveDealRegistration(name=first.name)
    assert refused.value.reason == "PERMISSION_DENIED"
    # Approved at agreed prices, for a share of the credit.
    entries = [
        {
            "product": goods.name,
            "unit": goods.unit,
            "tiers": [{"fromQuantity": "1", "price": {"currencyCode": "CNY", "amount": "61.00"}}],
        }
    ]
    book = await sales.manager.CreatePriceBook(
        priceBook={
            "displayName": f"报备价 {line}",
            "currency": "CNY",
            "accounts": [rival],
            "entries": entries,
        }
    )
    await sales.manager.ActivatePriceBook(name=book.name)
    with pytest.raises(Refused) as refused:
        await sales.manager.ApproveDealRegistration(name=first.name, split="100.01")
    assert refused.value.violations == {"split": "TOO_LARGE"}
    approved = await sales.manager.ApproveDealRegistration(name=first.name, priceBook=book.name, split="30")
    assert (approved.state, approved.price_book) == (Registration.APPROVED, book.name)
    assert len(await sales.facts("crm.sales.v1.DealRegistrationApproved", first.name)) == 1
    with pytest.raises(Refused) as refused:
        await sales.manager.ApproveDealRegistration(name=second.name)
    assert refused.value.reason == "REGISTRATION_CONFLICT"
    rejected = await sales.manager.RejectDealRegistration(name=second.name, refusal="PROTECTED")
    assert (rejected.state, rejected.refusal) == (Registration.REJECTED, Registration.PROTECTED)
    # Another product line of the same company may be another partner's.
    other = body(company, f"M{uuid4().hex[:6]}", partner=rival)
    third = await sales.manager.CreateDealRegistration(dealRegistration=other)
    third = await sales.manager.SubmitDealRegistration(name=third.name)
    assert (await sales.manager.ApproveDealRegistration(name=third.name)).state == Registration.APPROVED

    # Our own people meet the protection, not the partner's name.
    deal = {
        "displayName": "直销", "account": customer, "need": "x", "lines": [{"product": goods.name, "quantity": "1"}],
        "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
    }  # fmt: skip
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateOpportunity(opportunity=deal)
    assert refused.value.reason == "DEAL_PROTECTED"
    assert set(refused.value.info.metadata) == {"until", "product_lines"}
    assert refused.value.info.metadata["product_lines"] == line
    # Nor do they come to it by a detour: a deal that does not say what it is about, or is begun about something else.
    without = deal | {"lines": [], "amount": {"currencyCode": "CNY", "amount": "1.00"}}
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateOpportunity(opportunity=without)
    assert (refused.value.reason, refused.value.info.metadata["product_lines"]) == ("DEAL_PROTECTED", line)
    else_ = {"lines": [{"product": (await product(line=f"N{uuid4().hex[:6]}")).name, "quantity": "1"}]}
    detour = await sales.sales1.CreateOpportunity(opportunity=deal | else_)
    for lines in (deal["lines"], []):
        with pytest.raises(Refused) as refused:
            await sales.sales1.UpdateOpportunity(
                opportunity={"name": detour.name, "lines": lines}, updateMask="lines"
            )
        assert refused.value.reason == "DEAL_PROTECTED"
    # One deal of it, with the partner, however often it is asked for.
    for _ in range(2):
        made = await sales.manager.ConvertDealRegistration(name=first.name, account=customer)
    [opened] = (
        await sales.manager.ListOpportunities(filter=f'deal_registration = "{first.name}"')
    ).opportunities
    assert (made.state, made.opportunity, opened.channel_partner) == (
        Registration.CONVERTED,
        opened.name,
        first.partner,
    )
    assert (opened.amount.amount, opened.account) == ("80000.00", customer)
    assert [(one.partner or one.employee, one.split) for one in opened.team] == [
        (first.partner, "30"), (opened.owner, "70"),
    ]  # fmt: skip
    # Its quotes have the agreed prices, which the customer has for nothing else.
    lines = [{"product": goods.name, "quantity": "2"}]
    quote = {"account": customer, "currency": "CNY", "lines": lines}
    agreed = await sales.manager.CreateQuote(quote={**quote, "opportunity": opened.name})
    assert (agreed.price_book, agreed.net_total.amount) == (book.name, "122.00")
    assert (await sales.manager.CreateQuote(quote=quote)).net_total.amount == "200.00"
    await sales.manager.SubmitQuote(name=agreed.name)
    assert (await sales.manager.NewQuoteVersion(name=agreed.name)).net_total.amount == "122.00"
    # The shares are those of the deal when it is won.
    await sales.manager.WinOpportunity(name=opened.name)
    [won] = await sales.facts("crm.sales.v1.OpportunityWon", opened.name)
    assert [one["split"] for one in won["opportunity"]["credit"]] == ["30", "70"]


async def test_a_deal_is_protected_in_the_region_that_was_registered(
    sales: Service, partner: Any, account: Made
) -> None:
    company, line = f"{uuid4().hex[:8]}重工有限公司", f"L{uuid4().hex[:6]}"
    # Four places of one company: in the region, in a part of it, elsewhere, and one that is here as well as there.
    places = {
        "310000": False,
        "310115": False,
        "110105": True,
        "330000": True,
        "110105 310101": False,
        "": False,
    }
    # 310110 and 310112 are neighbours, though the one ends in a nought.
    assert not DealRegistration(region="310110").concerns(None, ["310112"])
    found = {
        where: await account(displayName=company, addresses=[{"divisionCode": one} for one in where.split()])
        for where in places
    }
    begun = {"displayName": "直销", "account": found["310115"], "need": "x"}
    begun |= {
        "amount": {"currencyCode": "CNY", "amount": "1.00"},
        "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
    }
    made = await partner.CreateDealRegistration(dealRegistration=body(company, line))

    async def known() -> bool:
        async with sales.running.system_call("look", None) as call:
            return all([await call.copy(one) for one in found.values()])

    await sales.eventually(known)
    earlier = await sales.sales1.CreateOpportunity(opportunity=begun)
    far = await sales.sales1.CreateOpportunity(opportunity=begun | {"account": found["330000"]})
    await partner.SubmitDealRegistration(name=made.name)
    approved = await sales.manager.ApproveDealRegistration(name=made.name)
    met = {one.record: one.overlaps for one in approved.conflicts}
    assert (met[earlier.name], met[far.name]) == (True, False)
    for where, free in places.items():
        deal = sales.sales1.CreateOpportunity(opportunity=begun | {"account": found[where]})
        asked = sales.sales1.CreateJointWorkRequest(
            jointWorkRequest={"account": found[where], "message": "x"}
        )
        if free:
            assert (await deal).state == pb.Opportunity.OPEN
            with pytest.raises(Refused) as refused:
                await asked
            assert refused.value.reason == "NOT_PROTECTED"
            continue
        with pytest.raises(Refused) as refused:
            await deal
        assert refused.value.reason == "DEAL_PROTECTED"
        assert (await asked).deal_registration == made.name
    # Nor is it moved there; what was there before goes on.
    away = await sales.sales1.CreateOpportunity(opportunity=begun | {"account": found["110105"]})
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateOpportunity(
            opportunity={"name": away.name, "account": found["310000"]}, updateMask="account"
        )
    assert refused.value.reason == "DEAL_PROTECTED"
    on = {"name": earlier.name, "account": found["310000"]}
    moved = await sales.sales1.UpdateOpportunity(opportunity=on, updateMask="account")
    assert moved.account == found["310000"]


async def test_a_protection_is_prolonged_once_reminded_of_and_over(
    sales: Service, partner: Any, account: Made
) -> None:
    whole = body(f"{uuid4().hex[:8]}仓储有限公司", f"L{uuid4().hex[:6]}")
    made = await partner.CreateDealRegistration(dealRegistration=whole)
    await partner.SubmitDealRegistration(name=made.name)

    async def morning(when: datetime) -> None:
        async with sales.running.call("test", system("sales")) as call:
            await follow_registrations(when, call)

    async def steps() -> list[str]:
        told = await sales.facts("crm.sales.v1.NoticeRaised", made.name)
        return [one["text"]["zh"][:6] for one in told if ":PARTNER:" not in one["dedupeKey"]]

    # A decision takes two working days; ten days are more than that whatever the weekday and the holiday.
    now = datetime.now(UTC)
    for days in (0, 12, 13):
        await morning(now + timedelta(days=days))
    assert await steps() == ["商机报备待审"]
    approved = await sales.manager.ApproveDealRegistration(name=made.name)
    until = approved.protect_until_date
    end = datetime(until.year, until.month, until.day, 12, tzinfo=UTC)
    assert 89 <= (end - now).days <= 91
    extended = await partner.ExtendDealRegistration(name=made.name, progress="已演示样机")
    assert (extended.extended, extended.progress) == (True, "已演示样机")
    with pytest.raises(Refused) as refused:
        await partner.ExtendDealRegistration(name=made.name, progress="再来")
    assert refused.value.reason == "EXTENSION_USED"
    # Nothing is done for a month: it is reviewed, once, until the partner goes on or somebody decides.
    assert not (await partner.GetDealRegistration(name=made.name)).under_review
    for days in (29, 30, 31):
        await morning(now + timedelta(days=days))
    assert (await steps())[1:] == ["报备 30 天"[:6]]
    assert (await partner.GetDealRegistration(name=made.name)).under_review
    with pytest.raises(Refused) as refused:
        await partner.ReviewDealRegistration(name=made.name)
    assert refused.value.reason == "PERMISSION_DENIED"
    going_on = await partner.ReportDealRegistration(name=made.name, progress="已报价")
    assert (going_on.under_review, going_on.progress) == (False, "已报价")
    with pytest.raises(Refused) as refused:
        await sales.manager.ReviewDealRegistration(name=made.name, end=True)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await morning(now + timedelta(days=40))
    kept = await sales.manager.ReviewDealRegistration(name=made.name)
    assert (kept.under_review, kept.state) == (False, Registration.APPROVED)
    noticed = len(await steps())
    end += timedelta(days=30)
    for left in (20, 14, 13, 7, 1, 0):
        await morning(end - timedelta(days=left))
    # One more, for nothing was done then either.
    assert len(await steps()) == noticed + 4
    # The partner hears the same of his own: what was decided, what is asked of him, and when it ends.
    texts = [
        one["text"]["zh"].removesuffix(f"：{whole['companyName']}")
        for one in await _told_to_partner(sales, made)
    ]
    days = [f"报备保护期还剩 {left} 天" for left in (14, 7, 1)]
    assert texts[0] == f"报备已通过，保护至 {_date(until)}"
    assert [text for text in texts if text.startswith("报备保护期")] == days
    assert texts.count("报备 30 天没有进展，请填写进展") == 3
    await morning(end + timedelta(days=1))
    over = await partner.GetDealRegistration(name=made.name)
    assert (over.state, list(over.evidence)) == (Registration.EXPIRED, list(made.evidence))
    with pytest.raises(Refused) as refused:
        await sales.manager.ConvertDealRegistration(name=made.name, account=await account())
    assert refused.value.reason == "REGISTRATION_EXPIRED"


async def test_a_partner_whose_agreement_has_ended_begins_nothing_new_and_goes_on_with_what_runs(
    sales: Service, account: Made, product: Made
) -> None:
    ended, line = await account(displayName="旧渠道"), f"L{uuid4().hex[:6]}"
    agreement = f"partners/{uuid4()}"
    goods, customer = await product(line=line), await account()
    lines = [
        {"product": goods.name, "quantity": "1", "unitPrice": {"currencyCode": "CNY", "amount": "10.00"}}
    ]
    quote = {"account": customer, "currency": "CNY", "channelPartner": ended, "lines": lines}

    async def begun() -> Any:
        try:
            return await sales.manager.CreateQuote(quote=quote)
        except Refused as refusal:
            assert refusal.reason == "UNKNOWN_REFERENCE"
            return None

    running = await sales.eventually(begun)
    registered = await sales.manager.CreateDealRegistration(
        dealRegistration=body(f"{uuid4().hex[:8]}公司", line, partner=ended)
    )
    submitted = await sales.manager.SubmitDealRegistration(name=registered.name)
    draft = await sales.manager.CreateDealRegistration(
        dealRegistration=body(f"{uuid4().hex[:8]}公司", line, partner=ended)
    )

    async def told(what: str, version: int) -> None:
        state = what.removeprefix("Partner").upper().replace("ACTIVATED", "ACTIVE")
        resource = {"name": agreement, "account": ended, "state": state}
        await sales.tell(
            f"crm.workspace.v1.{what}", {"partner": resource}, agreement, version=version, times=2
        )

    async def refused_to_begin() -> bool:
        try:
            await sales.manager.CreateQuote(quote=quote)
        except Refused as refusal:
            return refusal.reason == "PARTNER_NO_AGREEMENT"
        return False

    await told("PartnerEnded", 3)
    await sales.eventually(refused_to_begin)
    # What was said before comes late and changes nothing.
    await told("PartnerActivated", 2)
    assert await refused_to_begin()
    for begin in (
        lambda: sales.manager.CreateDealRegistration(dealRegistration=body("新公司", line, partner=ended)),
        lambda: sales.manager.SubmitDealRegistration(name=draft.name),
    ):
        with pytest.raises(Refused) as refused:
            await begin()
        assert refused.value.reason == "PARTNER_NO_AGREEMENT"
    # What ran goes on: a further version of the quote, the decision on what was received.
    await sales.manager.SubmitQuote(name=running.name)
    assert (await sales.manager.NewQuoteVersion(name=running.name)).version_number == 2
    approved = await sales.manager.ApproveDealRegistration(name=submitted.name)
    assert approved.state == Registration.APPROVED
    await told("PartnerActivated", 4)

    async def again() -> bool:
        return not await refused_to_begin()

    await sales.eventually(again)


async def test_a_protection_that_nobody_works_on_can_be_ended(sales: Service, partner: Any) -> None:
    whole = body(f"{uuid4().hex[:8]}运输有限公司", f"L{uuid4().hex[:6]}")
    made = await partner.CreateDealRegistration(dealRegistration=whole)
    await partner.SubmitDealRegistration(name=made.name)
    await sales.manager.ApproveDealRegistration(name=made.name)
    async with sales.running.call("test", system("sales")) as call:
        await follow_registrations(datetime.now(UTC) + timedelta(days=31), call)
    ended = await sales.manager.ReviewDealRegistration(name=made.name, end=True)
    assert (ended.state, ended.under_review) == (Registration.EXPIRED, False)
    # Another partner may register it now.
    again = await sales.manager.CreateDealRegistration(dealRegistration=whole | {"partner": made.partner})
    again = await sales.manager.SubmitDealRegistration(name=again.name)
    assert (await sales.manager.ApproveDealRegistration(name=again.name)).state == Registration.APPROVED


async def test_our_own_people_ask_to_work_on_a_protected_deal_and_share_it_once_its_owner_agrees(
    sales: Service, partner: Any, account: Made
) -> None:
    company, line = f"{uuid4().hex[:8]}冷链有限公司", f"L{uuid4().hex[:6]}"
    customer = await account(displayName=company, collaborators=[sales.person("sales2").employee])

    async def known() -> bool:
        async with sales.running.system_call("look", None) as call:
            return await call.copy(customer) is not None

    await sales.eventually(known)
    asks = {"account": customer, "message": "与该客户的设备部有十年往来，可安排样机"}
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateJointWorkRequest(jointWorkRequest=asks)
    assert refused.value.reason == "NOT_PROTECTED"
    made = await partner.CreateDealRegistration(dealRegistration=body(company, line))
    manager = sales.person("manager").employee
    await _looked_after_by(manager, made, sales)
    await partner.SubmitDealRegistration(name=made.name)
    await _comes_in(sales)
    approved = await sales.manager.ApproveDealRegistration(name=made.name, split="30")
    elsewhere = {**asks, "productLines": [f"M{uuid4().hex[:6]}"]}
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateJointWorkRequest(jointWorkRequest=elsewhere)
    assert refused.value.reason == "NOT_PROTECTED"

    first = await sales.sales1.CreateJointWorkRequest(jointWorkRequest={**asks, "productLines": [line]})
    third = await sales.sales2.CreateJointWorkRequest(jointWorkRequest=asks)
    for again in (asks, {**asks, "message": "再次申请"}):
        with pytest.raises(Refused) as refused:
            await sales.sales2.CreateJointWorkRequest(jointWorkRequest=again)
        assert (refused.value.reason, refused.value.info.metadata["request"]) == (
            "JOINT_WORK_ASKED",
            third.name,
        )
    assert (first.state, list(first.asked)) == (pb.JointWorkRequest.OPEN, [manager])
    [told] = await sales.facts("crm.sales.v1.JointWorkAsked", first.name)
    assert told["people"] == [manager]
    # Whoever asks learns who answers, and nothing of the partner; the partner sees none of it.
    with pytest.raises(Refused) as refused:
        await sales.sales1.GetDealRegistration(name=first.deal_registration)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await partner.GetJointWorkRequest(name=first.name)
    assert refused.value.reason in ("NOT_FOUND", "PERMISSION_DENIED")
    # Only whoever is asked answers, and only whoever has asked takes it back.
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptJointWorkRequest(name=first.name)
    assert refused.value.reason == "NOT_ASKED"
    with pytest.raises(Refused) as refused:
        await sales.manager.WithdrawJointWorkRequest(name=first.name)
    assert refused.value.reason == "NOT_YOUR_REQUEST"
    with pytest.raises(Refused) as refused:
        await sales.manager.AcceptJointWorkRequest(name=first.name, split="70.01")
    assert refused.value.violations == {"split": "TOO_LARGE"}
    with pytest.raises(Refused) as refused:
        await sales.manager.DeclineJointWorkRequest(name=third.name, reason=" ")
    assert refused.value.reason == "REASON_REQUIRED"
    declined = await sales.manager.DeclineJointWorkRequest(name=third.name, reason="一位同事已经足够")
    assert (declined.state, declined.answer) == (pb.JointWorkRequest.DECLINED, "一位同事已经足够")
    # Whoever was declined may ask once more.
    second = await sales.sales2.CreateJointWorkRequest(jointWorkRequest=asks)

    # Agreed before there is a deal: it begins with the deal. Agreed later: at once.
    agreed = await sales.manager.AcceptJointWorkRequest(name=first.name, split="20")
    assert (agreed.state, agreed.opportunity) == (pb.JointWorkRequest.ACCEPTED, "")
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateJointWorkRequest(jointWorkRequest={**asks, "productLines": [line]})
    assert refused.value.reason == "JOINT_WORK_ASKED"
    # The partner's people are told of it, of the decision too, and nobody else is told as a partner.
    told = await _told_to_partner(sales, made)
    assert [one["text"]["zh"] for one in told] == [
        f"报备已通过，保护至 {_date(approved.protect_until_date)}：{company}", f"我方同事将与您协同推进：{company}",
    ]  # fmt: skip
    assert all(one["employees"] == [sales.person("partner").employee] for one in told)
    [answered] = await sales.facts("crm.sales.v1.JointWorkAnswered", first.name)
    assert answered["people"] == [sales.person("sales1").employee]
    converted = await sales.manager.ConvertDealRegistration(name=made.name, account=customer)
    deal = await sales.sales1.GetOpportunity(name=converted.opportunity)
    assert (await sales.sales1.GetJointWorkRequest(name=first.name)).opportunity == deal.name
    with pytest.raises(Refused) as refused:
        await sales.sales2.GetOpportunity(name=deal.name)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await sales.manager.AcceptJointWorkRequest(name=second.name, split="50.01")
    assert refused.value.violations == {"split": "TOO_LARGE"}
    await sales.manager.AcceptJointWorkRequest(name=second.name, split="10")
    with pytest.raises(Refused) as refused:
        await sales.manager.AcceptJointWorkRequest(name=second.name, split="10")
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    deal = await sales.sales2.GetOpportunity(name=deal.name)
    assert {one.partner or one.employee: one.split for one in deal.team} == {
        made.partner: "30", manager: "40", sales.person("sales1").employee: "20", sales.person("sales2").employee: "10",
    }  # fmt: skip
    # What was agreed is what counts when it is won.
    await sales.manager.WinOpportunity(name=deal.name)
    [won] = await sales.facts("crm.sales.v1.OpportunityWon", deal.name)
    assert sorted(one["split"] for one in won["opportunity"]["credit"]) == ["10", "20", "30", "40"]


async def test_the_superior_is_asked_once_where_nobody_answers_a_request_for_joint_work(
    sales: Service, partner: Any, account: Made
) -> None:
    company, line = f"{uuid4().hex[:8]}包装有限公司", f"L{uuid4().hex[:6]}"
    customer = await account("sales2", displayName=company)

    async def known() -> bool:
        async with sales.running.system_call("look", None) as call:
            return await call.copy(customer) is not None

    await sales.eventually(known)
    made = await partner.CreateDealRegistration(dealRegistration=body(company, line))
    await partner.SubmitDealRegistration(name=made.name)
    await sales.manager.ApproveDealRegistration(name=made.name)
    # Of the one who looks after the partner there is a superior.
    await _looked_after_by(sales.person("sales1").employee, made, sales)
    asks = {"account": customer, "message": "愿意一起做方案"}
    asked = await sales.sales2.CreateJointWorkRequest(jointWorkRequest=asks)
    due = asked.due_time.ToDatetime(UTC)
    assert timedelta(days=2) <= due - datetime.now(UTC) + timedelta(minutes=5) <= timedelta(days=14)
    for late in (-timedelta(minutes=1), timedelta(minutes=1), timedelta(days=9)):
        async with sales.running.call("test", system("sales")) as call:
            await mind_support(due + late, call)
        ladder = [one["people"][0] for one in await sales.facts("crm.sales.v1.JointWorkAsked", asked.name)]
        wanted = [sales.person("sales1").employee, sales.person("manager").employee]
        assert ladder == wanted[: 1 if late < timedelta(0) else 2]
    accepted = await sales.sales1.AcceptJointWorkRequest(name=asked.name)
    assert accepted.state == pb.JointWorkRequest.ACCEPTED
    # Nobody joins a protection that is over.
    customer = await account("sales2", displayName=company)
    await sales.eventually(known)
    other = await sales.sales2.CreateJointWorkRequest(jointWorkRequest={**asks, "account": customer})
    await partner.WithdrawDealRegistration(name=made.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptJointWorkRequest(name=other.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    taken_back = await sales.sales2.WithdrawJointWorkRequest(name=other.name)
    assert taken_back.state == pb.JointWorkRequest.WITHDRAWN


async def _comes_in(sales: Service) -> None:
    """The partner's person is one of those of a partnership that is in force."""
    person, agreement = sales.person("partner"), f"partners/{uuid7()}"
    told = {
        "name": agreement,
        "account": person.account,
        "state": "ACTIVE",
        "users": [{"employee": person.employee}],
    }
    await sales.tell("crm.workspace.v1.PartnerActivated", {"partner": told}, agreement)

    async def heard() -> bool:
        async with sales.running.system_call("look", None) as call:
            return (known := await in_force(person.account, call)) is not None and known.partner == agreement

    await sales.eventually(heard)


async def _told_to_partner(sales: Service, registration: Any) -> list[Any]:
    told = await sales.facts("crm.sales.v1.NoticeRaised", registration.name)
    return [one for one in told if ":PARTNER:" in one["dedupeKey"]]


def _date(day: Any) -> str:
    return f"{day.year}-{day.month:02}-{day.day:02}"


async def _looked_after_by(employee: str, registration: Any, sales: Service) -> None:
    async with sales.running.call("test", system("sales")) as call:
        row = await call.named(DealRegistration, registration.name)
        assert row is not None
        row.owner = employee
