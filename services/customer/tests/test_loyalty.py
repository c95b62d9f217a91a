"""Loyalty: five indicators with their facts, churn with its reasons, what came in, and who cares when a degree falls."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.testing import Client, Service, local_date
from customer import loyalty
from customer.model.account import Account
from customer.model.care import CareOccurrence
from sqlalchemy import update

Told = Callable[..., Awaitable[str]]
Loyalty = pb.AccountLoyalty
Degree, Measure = Loyalty.Degree, Loyalty.Measure


def day(back: int) -> dict[str, int]:
    value = local_date() - timedelta(days=back)
    return {"year": value.year, "month": value.month, "day": value.day}


def yuan(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def instant(back: int) -> str:
    return (datetime.now(UTC) - timedelta(days=back)).isoformat()


async def made(client: Client, **fields: Any) -> str:
    return (await client.CreateAccount(account={"displayName": f"忠诚{uuid4().hex}", **fields})).name


async def shown(client: Client, account: str) -> tuple[Any, dict[str, Any]]:
    found = await client.GetAccountLoyalty(name=account)
    return found, {Measure.Name(one.measure): one for one in found.indicators}


async def values(client: Client, account: str, **wanted: str) -> dict[str, Any] | None:
    _, lines = await shown(client, account)
    return lines if all(lines[key].value == value for key, value in wanted.items()) else None


async def reckoned(customer: Service, account: str) -> None:
    """What the night does for one customer."""
    async with customer.running.call("test", system("customer")) as call:
        row = await call.find(Account, Account.id == UUID(account.partition("/")[2]))
        assert row is not None
        await loyalty.reckon([row], call)


async def answered(customer: Service, account: str, score: int, etag: int = 1, name: str = "") -> str:
    name = name or f"surveyResponses/{uuid4()}"
    response = {"name": name, "account": account, "score": score, "maximum": 5, "etag": str(etag)}
    await customer.tell("crm.servicedesk.v1.SurveyAnswered", {"response": response}, name, etag)
    return name


@pytest.mark.capability("c.loyal")
async def test_the_degree_is_the_weighted_mean_of_what_is_known_with_value_period_and_facts(
    customer: Service, told: Told
) -> None:
    sales, account = customer.sales1, await made(customer.sales1)
    found, lines = await shown(sales, account)
    assert (found.degree, found.score, len(lines)) == (Degree.UNKNOWN, 0, 5)
    assert sum(one.weight for one in found.indicators) == 100
    for back, state in (
        (10, "COMPLETED"),
        (100, "IN_PROGRESS"),
        (300, "COMPLETED"),
        (20, "CANCELLED"),
        (900, "COMPLETED"),
    ):
        await told("orders", account, gross=yuan("100.00"), placeTime=instant(back), state=state)
    lines = await customer.eventually(lambda: values(sales, account, REPEAT_PURCHASE="3"))
    repeat = lines["REPEAT_PURCHASE"]
    # What is cancelled or older than 24 months is no fact of the period.
    assert (repeat.points, repeat.facts, repeat.weight) == (50, 3, 30)
    assert repeat.to_date.year and repeat.from_date.year == loyalty.since(local_date(), 24).year
    # One indicator alone says nothing yet.
    assert (await shown(sales, account))[0].degree == Degree.UNKNOWN

    for amount, state in (("60.00", "WON"), ("40.00", "LOST"), ("900.00", "OPEN")):
        await told("opportunities", account, amount=yuan(amount), expectedCloseDate=day(30), state=state)
    lines = await customer.eventually(lambda: values(sales, account, SHARE_OF_WALLET="60"))
    assert (lines["SHARE_OF_WALLET"].points, lines["SHARE_OF_WALLET"].facts) == (60, 2)
    found, _ = await shown(sales, account)
    # (30 × 50 + 20 × 60) / 50
    assert (found.degree, found.score) == (Degree.STABLE, 54)

    quoted = [
        {"unitPrice": yuan("100.00"), "quantity": "9", "discountPercent": "10"},
        {"unitPrice": yuan("100.00"), "quantity": "1", "discountPercent": "0"},
    ]
    for state in ("ACCEPTED", "SENT"):
        await told(
            "quotes", account, grossTotal=yuan("910.00"), validUntilDate=day(5), state=state, lines=quoted
        )
    lines = await customer.eventually(lambda: values(sales, account, PRICE_TOLERANCE="9"))
    assert (lines["PRICE_TOLERANCE"].points, lines["PRICE_TOLERANCE"].facts) == (70, 1)

    answer = await answered(customer, account, 2)
    await answered(customer, account, 4)
    await customer.eventually(lambda: values(sales, account, SATISFACTION="60"))
    # The answer was changed; the older one comes late and twice.
    await answered(customer, account, 5, 3, answer)
    await answered(customer, account, 1, 2, answer)
    lines = await customer.eventually(lambda: values(sales, account, SATISFACTION="90"))
    assert lines["SATISFACTION"].facts == 2
    found, lines = await shown(sales, account)
    # (30 × 50 + 20 × 60 + 15 × 70 + 20 × 90) / 85
    assert (found.score, lines["REFERRAL"].value, lines["REFERRAL"].facts) == (65, "", 0)
    # Who may not read what an indicator is made of sees neither value nor points.
    _, lines = await shown(customer.client("agent"), account)
    hidden = lines["PRICE_TOLERANCE"]
    assert (hidden.withheld, hidden.value, hidden.points, hidden.facts) == (True, "", 0, 0)
    assert lines["REPEAT_PURCHASE"].value == "3"


@pytest.mark.capability("c.loyal")
async def test_a_customer_that_was_brought_counts_after_its_first_paid_order(
    customer: Service, told: Told
) -> None:
    sales = customer.sales1
    first = await made(sales)
    brought = await made(sales, source=first)
    other = await made(sales)
    paid = await told(
        "orders", other, gross=yuan("10.00"), placeTime=instant(3), state="COMPLETED", paymentState="PAID"
    )
    order = await told(
        "orders",
        brought,
        gross=yuan("10.00"),
        placeTime=instant(3),
        state="IN_PROGRESS",
        paymentState="UNPAID",
    )
    await customer.eventually(lambda: values(sales, brought, REPEAT_PURCHASE="1"))
    _, lines = await shown(sales, first)
    assert (lines["REFERRAL"].value, paid != order) == ("", True)
    await told(
        "orders", brought, name=order, etag=2, gross=yuan("10.00"), placeTime=instant(3), state="COMPLETED",
        paymentState="PAID",
    )  # fmt: skip
    lines = await customer.eventually(lambda: values(sales, first, REFERRAL="1"))
    assert (lines["REFERRAL"].points, lines["REFERRAL"].facts) == (60, 1)
    # A second paid order of the same customer brings nothing more.
    await told(
        "orders", brought, gross=yuan("10.00"), placeTime=instant(1), state="COMPLETED", paymentState="PAID"
    )
    await customer.eventually(lambda: values(sales, brought, REPEAT_PURCHASE="2"))
    assert (await shown(sales, first))[1]["REFERRAL"].value == "1"


@pytest.mark.capability("c.loyal")
async def test_the_risk_of_churn_is_insights_with_the_three_weightiest_reasons(customer: Service) -> None:
    account = await made(customer.sales1)

    def score(value: int, *points: int) -> dict[str, Any]:
        factors = [
            {"code": f"F{n}", "text": {"zh": f"原因{n}", "en": f"Reason {n}"}, "points": n} for n in points
        ]
        return {
            "target": account,
            "kind": "CHURN",
            "value": value,
            "band": "HIGH",
            "factors": factors,
            "model": "m-1",
        }

    assert not (await shown(customer.sales1, account))[0].HasField("churn")
    await customer.tell("crm.insight.v1.ScoreChanged", {**score(9, 9), "kind": "WIN"})
    await customer.tell("crm.insight.v1.ScoreChanged", score(75, 5, 40, 10, 20), times=2)

    async def heard() -> Any:
        found = await customer.sales1.GetAccountLoyalty(name=account)
        return found.churn if found.HasField("churn") else None

    churn = await customer.eventually(heard)
    assert (churn.value, churn.band, churn.model) == (75, "HIGH", "m-1")
    assert [(one.text, one.points) for one in churn.reasons] == [
        ("原因40", 40),
        ("原因20", 20),
        ("原因10", 10),
    ]


@pytest.mark.capability("c.loyal")
async def test_a_degree_that_falls_opens_one_care_occurrence_in_thirty_days(
    customer: Service, told: Told
) -> None:
    sales, account = customer.sales1, await made(customer.sales1)

    async def occurrences() -> list[Any]:
        page = await sales.ListCareOccurrences(filter=f'account = "{account}"', orderBy="create_time")
        return list(page.care_occurrences)

    for _ in range(3):
        await told("orders", account, gross=yuan("100.00"), placeTime=instant(2), state="COMPLETED")
    answer = await answered(customer, account, 5)
    await customer.eventually(lambda: values(sales, account, REPEAT_PURCHASE="3", SATISFACTION="100"))
    async with customer.running.call("test", system("customer")) as call:
        await loyalty.reckon_loyalty(call.now, call)

    async def known() -> Any:
        found, _ = await shown(sales, account)
        return found if found.reckoned == Degree.STABLE else None

    # (30 × 50 + 20 × 100) / 50 = 70; the first degree that is known is no fall.
    found = await customer.eventually(known, 60)
    assert (found.score, bool(found.reckoned_since.year), await occurrences()) == (70, True, [])

    await answered(customer, account, 2, 2, answer)
    await customer.eventually(lambda: values(sales, account, SATISFACTION="40"))
    for _ in range(2):
        await reckoned(customer, account)
    [opened] = await occurrences()
    assert (opened.why, opened.way, opened.owner) == (
        "LOYALTY_FELL",
        pb.CareOccurrence.CALL_TASK,
        customer.person("sales1").employee,
    )
    assert "稳定 → 摇摆" in opened.display_name
    [fact] = await customer.facts("crm.customer.v1.CareTaskDue", opened.name)
    assert (fact["channel"], fact["occurrence"]["owner"]) == ("CALL", opened.owner)

    # Up, and down once more within thirty days: nobody is asked twice. After that it is.
    async def again() -> None:
        for score in (5, 2):
            nonlocal etag
            etag += 1
            await answered(customer, account, score, etag, answer)
            await customer.eventually(partial(values, sales, account, SATISFACTION=f"{score * 20}"))
            await reckoned(customer, account)

    etag = 2
    await again()
    assert len(await occurrences()) == 1
    async with customer.running.call("test", system("customer")) as call:
        old: date = local_date() - timedelta(days=30)
        key = UUID(opened.name.partition("/")[2])
        await call.db.execute(update(CareOccurrence).where(CareOccurrence.id == key).values(due_date=old))
    await again()
    assert len(await occurrences()) == 2


@pytest.mark.capability("c.loyal")
async def test_what_a_customer_brings_is_collected_money_net_of_refunds_that_the_reader_may_see(
    customer: Service, told: Told, refunded: Told
) -> None:
    account = await made(customer.sales1)
    for amount, back, state in (
        ("800.00", 30, "ACTIVE"),
        ("70.00", 20, "REVERSED"),
        ("500.00", 400, "ACTIVE"),
    ):
        await told("allocations", account, amount=yuan(amount), date=day(back), state=state)
    await told("allocations", account, "sales2", amount=yuan("5.00"), date=day(1), state="ACTIVE")
    await refunded(account, "300.00", local_date() - timedelta(days=5))

    async def brought() -> Any:
        found = await customer.sales1.GetAccountLoyalty(name=account)
        return [(one.amount, one.currency_code) for one in found.contribution] == [("500.00", "CNY")]

    await customer.eventually(brought)
