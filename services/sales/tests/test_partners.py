"""What was agreed with a partner: until when, where, at which grade."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service, local_date

Made = Callable[..., Awaitable[Any]]


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
