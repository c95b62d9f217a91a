"""What was agreed with a partner: until when, where, at which grade."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service, local_date

Made = Callable[..., Awaitable[Any]]


def cny(amount: str) -> dict[str, str]:
    """An amount as JSON."""
    return {"currencyCode": "CNY", "amount": amount}


def day(days: int) -> dict[str, int]:
    """A day from today on, as a date of the protos."""
    found = local_date() + timedelta(days=days)
    return {"year": found.year, "month": found.month, "day": found.day}


async def test_after_the_last_day_of_an_agreement_nothing_begins_until_it_is_prolonged(
    sales: Service, account: Made, product: Made, agreed: Any
) -> None:
    goods, partner, customer = await product(), await account(displayName="渠道"), await account()
    lines = [
        {"product": goods.name, "quantity": "1", "unitPrice": {"currencyCode": "CNY", "amount": "10.00"}}
    ]
    quote = {"account": customer, "currency": "CNY", "channelPartner": partner, "lines": lines}

    def answers(reason: str) -> Any:
        async def same() -> bool:
            try:
                await sales.manager.CreateQuote(quote=quote)
            except Refused as refused:
                return refused.reason == reason
            return not reason

        return same

    agreement = agreed(partner)
    await agreement.told()
    await sales.eventually(answers(""))
    await agreement.told(endDate=day(-1))
    await sales.eventually(answers("PARTNER_NO_AGREEMENT"))
    # Today is its last day, and counts.
    await agreement.told(endDate=day(0))
    await sales.eventually(answers(""))
    await agreement.told(startDate=day(1), endDate=day(9))
    await sales.eventually(answers("PARTNER_NO_AGREEMENT"))
    # Another agreement with the same company counts, whatever the first says.
    await agreed(partner).told()
    await sales.eventually(answers(""))


async def test_the_grade_of_a_partner_opens_the_books_of_that_grade(
    sales: Service, account: Made, product: Made, agreed: Any
) -> None:
    goods, partner, customer = await product(), await account(displayName="渠道"), await account()
    grade = f"G{uuid4().hex[:6]}"
    entries = [{"product": goods.name, "tiers": [{"price": {"currencyCode": "CNY", "amount": "55.00"}}]}]
    book = await sales.manager.CreatePriceBook(
        priceBook={"displayName": "金牌价", "currency": "CNY", "partnerGrades": [grade], "entries": entries}
    )
    await sales.manager.ActivatePriceBook(name=book.name)
    lines = [{"product": goods.name, "quantity": "1"}]
    quote = {"account": customer, "currency": "CNY", "channelPartner": partner, "lines": lines}

    def costs(amount: str) -> Any:
        async def same() -> bool:
            try:
                return (await sales.sales1.CalculateQuote(quote=quote)).net_total.amount == amount
            except Refused as refused:
                assert refused.reason == "UNKNOWN_REFERENCE"
                return False

        return same

    agreement = agreed(partner)
    await agreement.told(grade=grade)
    await sales.eventually(costs("55.00"))
    # Without the grade no direct price takes its place.
    await agreement.told(grade="")
    await sales.eventually(costs("0.00"))


async def test_a_sale_outside_the_region_is_told_once_for_each_deal_to_the_channel_manager(
    sales: Service, account: Made, product: Made, agreed: Any
) -> None:
    goods, partner = await product(), await account(displayName="华东渠道")
    near = await account(addresses=[{"divisionCode": "310115"}])
    far = await account(addresses=[{"divisionCode": "440300"}])
    agreement = agreed(partner)
    await agreement.told(regions=["310000"])

    async def sold(customer: str) -> str:
        deal = {
            "displayName": "渠道单", "account": customer, "need": "x", "channelPartner": partner,
            "lines": [{"product": goods.name, "quantity": "1", "unitPrice": {"currencyCode": "CNY", "amount": "9.00"}}],
            "expectedCloseDate": day(30),
        }  # fmt: skip
        made = await sales.sales1.CreateOpportunity(opportunity=deal)
        quote = await sales.sales1.CreateQuote(
            quote={"account": customer, "currency": "CNY", "opportunity": made.name, "channelPartner": partner, "lines": deal["lines"]}
        )  # fmt: skip
        submitted = await sales.sales1.SubmitQuote(name=quote.name)
        await sales.sales1.AcceptQuote(
            name=quote.name, digest=submitted.digest, person="客户", consent="同意"
        )
        await sales.sales1.WinOpportunity(name=made.name)
        return made.name

    async def notices() -> list[Any]:
        return [
            fact for fact in await sales.facts("crm.sales.v1.NoticeRaised") if fact["kind"] == "crossRegion"
        ]

    inside, outside = await sold(near), await sold(far)
    again = await sold(far)

    async def both() -> bool:
        return {one["dedupeKey"] for one in await notices()} >= {
            f"crossRegion:{outside}",
            f"crossRegion:{again}",
        }

    await sales.eventually(both)
    told = [one for one in await notices() if inside in one["dedupeKey"] or outside in one["dedupeKey"]]
    # The accepted quote and the won deal are one sale, and what is sold at home is none to tell.
    [notice] = told
    assert notice["employees"] == [agreement.owner]
    assert "440300" in notice["text"]["zh"]


@pytest.mark.parametrize("state", ["SUSPENDED", "ENDED"])
async def test_a_partner_who_rests_or_has_ended_registers_nothing(
    sales: Service, account: Made, agreed: Any, state: str
) -> None:
    partner = await account(displayName="渠道")
    await agreed(partner).told(state=state)

    async def refused() -> bool:
        body = {"companyName": f"{uuid4().hex[:8]}公司", "partner": partner, "region": "310000"}
        try:
            await sales.manager.CreateDealRegistration(dealRegistration=body)
        except Refused as refusal:
            return refusal.reason == "PARTNER_NO_AGREEMENT"
        return False

    await sales.eventually(refused)


@pytest.fixture
async def ours(sales: Service) -> AsyncIterator[Any]:
    """The demo company's partner: who comes in, and the company that it is."""
    who, seller = sales.person("partner"), sales.person("sales1")
    resource = {
        "name": who.account, "displayName": "蓝海渠道", "owner": seller.employee, "department": seller.department,
    }  # fmt: skip
    told = {"name": who.account, "action": "UPDATED", "actor": "system/test", "resource": resource}
    await sales.tell("crm.customer.v1.ResourceChanged", told, who.account or "", version=9)
    yield sales.client("partner")


async def not_found(call: Awaitable[Any]) -> None:
    with pytest.raises(Refused) as refused:
        await call
    assert refused.value.reason == "NOT_FOUND"


async def test_a_partner_sees_and_counts_his_own_quotes_drafts_too_and_nobody_elses(
    sales: Service, ours: Any, account: Made, product: Made
) -> None:
    mine = sales.person("partner").account
    goods, customer = await product(), await account()
    line = {"product": goods.name, "quantity": "1", "unitPrice": cny("77.00")}
    made = {
        partner: await sales.sales1.CreateQuote(
            quote={"account": customer, "currency": "CNY", "channelPartner": partner, "lines": [line]}
        )
        for partner in (mine, await account(displayName="另一渠道"), "")
    }
    own, *others = made.values()
    assert (await ours.GetQuote(name=own.name)).net_total.amount == "77.00"
    for other in others:
        await not_found(ours.GetQuote(name=other.name))
        await not_found(ours.CompareQuote(name=own.name, other=other.name))
        await not_found(ours.RenderQuote(name=other.name))
        await not_found(ours.BatchGetQuotes(names=[own.name, other.name]))
    theirs = f'account = "{customer}"'
    assert [one.name for one in (await ours.ListQuotes(filter=theirs)).quotes] == [own.name]
    [row] = (await ours.AggregateQuotes(filter=theirs, sum=["netTotal"])).rows
    assert (row.count, Decimal(row.sums["netTotal:CNY"])) == ("1", Decimal(77))
    assert [one.kind for one in (await ours.ExplainQuoteAccess(name=own.name)).grounds] == ["ACCOUNT"]


async def test_what_a_partner_enters_joins_no_lead_of_others_and_tells_him_of_none(
    sales: Service, ours: Any
) -> None:
    phone = f"139{uuid4().int % 10**8:08}"
    body = {"displayName": "询价", "companyName": "某厂", "phones": [{"number": phone}], "channel": "PARTNER"}
    direct = await sales.sales1.CreateLead(lead={**body, "need": "直销的需求", "externalId": phone})
    entered = await ours.CreateLead(lead={**body, "need": "伙伴的需求", "externalId": phone})
    assert entered.name != direct.name
    assert entered.channel_partner == sales.person("partner").account
    # The same once more is his own lead again.
    again = await ours.CreateLead(lead={**body, "externalId": phone})
    assert again.name == entered.name
    untouched = await sales.sales1.GetLead(name=direct.name)
    assert (len(untouched.touches), untouched.need) == (1, "直销的需求")
    await not_found(ours.GetLead(name=direct.name))
    assert not (await ours.ListLeadTwins(name=entered.name)).twins
    # Our own people are told that the two may be one.
    assert [one.lead for one in (await sales.admin.ListLeadTwins(name=entered.name)).twins] == [direct.name]


async def test_the_outlook_of_a_partners_deal_counts_his_own_deals_alone(
    sales: Service, ours: Any, deal: Made
) -> None:
    mine = sales.person("partner").account
    stages = [{"key": "ONE", "displayName": "唯一", "probability": "10"}]
    pipeline = await sales.admin.CreatePipeline(pipeline={"displayName": "渠道流程", "stages": stages})
    await sales.admin.ActivatePipeline(name=pipeline.name)
    for partner in (mine, "", ""):
        closed = await deal(pipeline=pipeline.name, channelPartner=partner)
        await sales.sales1.WinOpportunity(name=closed.name)
    running = await deal(pipeline=pipeline.name, channelPartner=mine)
    assert (await sales.sales1.GetOpportunityOutlook(name=running.name)).closed == 3
    assert (await ours.GetOpportunityOutlook(name=running.name)).closed == 1


async def test_a_partner_sees_his_prices_and_no_direct_one_in_any_answer(
    sales: Service, ours: Any, account: Made, product: Made, agreed: Any
) -> None:
    mine, goods, other = (
        sales.person("partner").account,
        await product(inShop=True),
        await product(inShop=True),
    )
    rival, customer, grade = await account(displayName="另一渠道"), await account(), f"G{uuid4().hex[:6]}"

    async def book(price: str, *goods: Any, **fields: Any) -> Any:
        entries = [{"product": one.name, "tiers": [{"price": cny(price)}]} for one in goods]
        made = await sales.manager.CreatePriceBook(
            priceBook={"displayName": f"价格 {price}", "currency": "CNY", "entries": entries, **fields}
        )
        return await sales.manager.ActivatePriceBook(name=made.name)

    shared = await book("61.00", goods, partners=[mine, rival])
    of_grade = await book("59.00", other, partnerGrades=[grade])
    direct = await book("88.00", goods, other, accounts=[customer])
    await agreed(mine).told(grade=grade)

    async def of_his_grade() -> bool:
        names = [one.name for one in (await ours.ListPriceBooks(pageSize=200)).price_books]
        return {shared.name, of_grade.name} <= set(names) and direct.name not in names

    await sales.eventually(of_his_grade)
    await not_found(ours.GetPriceBook(name=direct.name))
    # Whose book it is besides is not told, nor found by asking.
    seen = await ours.GetPriceBook(name=shared.name)
    assert (list(seen.partners), seen.entries[0].tiers[0].price.amount) == ([], "61.00")
    with pytest.raises(Refused):
        await ours.ListPriceBooks(filter=f'partners:"{rival}"')
    shown = await ours.GetProduct(name=goods.name)
    assert not shown.HasField("list_price")
    for question in ({"filter": "list_price.amount > 1"}, {"orderBy": "list_price"}):
        with pytest.raises(Refused):
            await ours.ListProducts(**question)
    with pytest.raises(Refused):
        await ours.AggregateProducts(sum=["listPrice"])
    # In the shop he has the prices of his books, also with a key, which has no role.
    for visitor in (ours, sales.client("partner", roles=[])):
        prices = {
            offer.product: offer.unit_price.amount
            for one in (goods, other)
            for offer in (await visitor.BrowseShop(q=one.code)).offers
        }
        assert prices == {goods.name: "61.00", other.name: "59.00"}
    lines = [{"product": one.name, "quantity": "1"} for one in (goods, other, await product())]
    quote = await sales.sales1.CreateQuote(
        quote={"account": customer, "currency": "CNY", "channelPartner": mine, "lines": lines}
    )
    told = await ours.GetQuote(name=quote.name)
    assert [line.unit_list_price.amount for line in told.lines] == ["61.00", "59.00", ""]
    assert not (told.grounds or told.line_costs or told.price_book)
    assert not {"100.00", "88.00"} & set(re.findall(r"\d+\.\d\d", str(told)))


async def test_of_tools_scripts_and_tips_partners_see_those_that_are_for_them(
    sales: Service, ours: Any, deal: Made
) -> None:
    word, stage = uuid4().hex[:8], f"S{uuid4().hex[:6]}"

    async def both(create: Any, field: str, body: dict[str, Any]) -> tuple[str, str]:
        made = [
            await create(**{field: {**body, "displayName": f"{word} {marked}", "forPartners": marked}})
            for marked in (True, False)
        ]
        return made[0].name, made[1].name

    tip, inner = await both(
        sales.sales1.CreateTip, "tip", {"text": "先问预算", "skills": [word], "stages": [stage]}
    )
    script, inner_script = await both(
        sales.manager.CreateCallScript, "callScript",
        {"nodes": [{"key": "a", "text": "您好"}], "faq": [{"question": f"{word} 吗", "answer": "是"}]},
    )  # fmt: skip
    for name in (script, inner_script):
        await sales.manager.ActivateCallScript(name=name)
    stages = [{"key": stage, "displayName": "唯一", "probability": "10", "guide": "指引"}]
    pipeline, inner_pipeline = await both(sales.admin.CreatePipeline, "pipeline", {"stages": stages})
    for name in (pipeline, inner_pipeline):
        await sales.admin.ActivatePipeline(name=name)
    assert [one.name for one in (await ours.ListTips(q=word)).tips] == [tip]
    assert [one.name for one in (await ours.ListCallScripts(q=word)).call_scripts] == [script]
    assert [one.name for one in (await ours.ListPipelines(q=word)).pipelines] == [pipeline]
    for get, name in (
        (ours.GetTip, inner), (ours.GetCallScript, inner_script), (ours.GetPipeline, inner_pipeline),
    ):  # fmt: skip
        await not_found(get(name=name))
    assert [one.script for one in (await ours.SearchFaq(q=word)).answers] == [script]
    assert [one.tips for one in (await ours.ListExperts(skill=word)).experts] == [1]
    assert [one.tips for one in (await sales.sales1.ListExperts(skill=word)).experts] == [2]
    # A new version of a script is for partners as the one before was.
    assert (await sales.manager.NewCallScriptVersion(name=script)).for_partners
    running = await deal(pipeline=pipeline, channelPartner=sales.person("partner").account)
    assert [one.name for one in (await ours.SuggestTips(name=running.name)).tips] == [tip]
    assert {one.name for one in (await sales.sales1.SuggestTips(name=running.name)).tips} == {tip, inner}


async def test_orders_of_a_partner_count_for_his_target_and_tell_of_a_sale_elsewhere_once(
    sales: Service, account: Made, agreed: Any
) -> None:
    partner = await account(displayName="华东渠道", accountType="PARTNER")
    far = await account(addresses=[{"divisionCode": "440300"}])
    agreement, seller = agreed(partner), sales.person("sales1")
    await agreement.told(regions=["310000"])
    start = local_date().replace(day=1)
    target = await sales.admin.CreateTarget(
        target={
            "displayName": "渠道订单", "subject": partner, "metric": "ORDERED", "currency": "CNY", "period": "MONTH",
            "fromDate": {"year": start.year, "month": start.month, "day": 1}, "base": "1000.00", "actions": [{"text": "每周一会"}],
        }
    )  # fmt: skip
    await sales.admin.ApproveTarget(name=target.name)
    for number, amount in (("1", "300.00"), ("2", "200.00")):
        order = {
            "name": f"orders/{uuid4()}", "displayName": f"渠道订单 {number}", "account": far, "owner": seller.employee,
            "department": seller.department, "channelPartner": partner, "opportunity": "", "quote": "quotes/gone",
            "items": [{"key": "1", "quantity": "1", "net": cny(amount)}], "currency": "CNY",
        }  # fmt: skip
        await sales.tell("crm.orders.v1.OrderPlaced", {"order": order}, order["name"], times=2)

    async def counted() -> bool:
        return (await sales.admin.GetTarget(name=target.name)).actual == "500"

    async def told() -> bool:
        facts = await sales.facts("crm.sales.v1.NoticeRaised")
        mine = [
            fact for fact in facts if fact["kind"] == "crossRegion" and agreement.owner in fact["employees"]
        ]
        return sum("渠道订单" in fact["text"]["zh"] for fact in mine) == 2

    await sales.eventually(counted)
    await sales.eventually(told)
