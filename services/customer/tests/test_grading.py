"""Classes of customers: graded by facts, by hand for a while, and one tag of each exclusive group."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.listing import ZONE
from crmkit.testing import Refused, Service
from customer.care import care_of_the_day
from customer.grading import grade_everybody
from customer.model.figure import Figure
from sqlalchemy import func, select

Origin = pb.AccountGrade.Origin


def day(value: date) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


async def night(customer: Service, job: Any, days: int = 0) -> None:
    """A nightly job as it runs in so many days, and what it began."""
    async with customer.running.call("test", system("customer")) as call:
        call.now += timedelta(days=days)
        await job(call.now, call)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def history(customer: Service, account: str) -> list[tuple[str, str, str]]:
    page = await customer.admin.ListAccountGrades(filter=f'account = "{account}"', orderBy="time")
    return [(Origin.Name(one.origin), one.before, one.level) for one in page.account_grades]


async def levelled(customer: Service, account: str, level: str) -> Any:
    async def look() -> Any:
        found = await customer.admin.GetAccount(name=account)
        return found if found.level == level else None

    return await customer.eventually(look, 30)


@pytest.mark.capability("c.class")
async def test_a_rule_grades_by_facts_and_a_person_decides_for_a_while(
    customer: Service, told: Callable[..., Awaitable[str]], refunded: Callable[..., Awaitable[None]]
) -> None:
    tag, today = uuid4().hex, datetime.now(ZONE).date()
    account = (await customer.sales1.CreateAccount(account={"displayName": f"评级{tag}", "tags": [tag], "employeeCount": 300})).name  # fmt: skip
    small = (await customer.sales1.CreateAccount(account={"displayName": f"评级小{tag}", "tags": [tag]})).name
    paid = {"state": "ACTIVE", "currency": "CNY", "date": day(today - timedelta(days=40))}
    await told("allocations", account, amount={"currencyCode": "CNY", "amount": "900000.00"}, **paid)
    await told("allocations", account, amount={"currencyCode": "USD", "amount": "5.00"}, **paid)
    old = {**paid, "date": day(today - timedelta(days=500))}
    await told("allocations", account, amount={"currencyCode": "CNY", "amount": "7000000.00"}, **old)
    await refunded(account, "100000.00", today - timedelta(days=5))
    await told("orders", account, state="COMPLETED", placeTime=f"{today - timedelta(days=10)}T02:00:00Z")
    rule = {
        "displayName": "年度评级", "filter": f'tags:"{tag}"', "currency": "CNY",
        "factors": [
            {"measure": "COLLECTED", "steps": [{"from": "1", "points": 10}, {"from": "500000", "points": 40}]},
            {"measure": "DAYS_SINCE_ORDER", "steps": [{"from": "0", "points": 20}, {"from": "90", "points": 0}]},
            {"measure": "EMPLOYEES", "steps": [{"from": "200", "points": 15}]},
            {"measure": "REVENUE", "steps": [{"from": "1", "points": 99}]},
        ],
        "grades": [{"level": "D", "points": 0}, {"level": "B", "points": 30}, {"level": "A", "points": 70}],
    }  # fmt: skip
    assert await refusal(customer.sales1.CreateGradingRule(gradingRule=rule)) == "PERMISSION_DENIED"
    twice = {**rule, "grades": [{"level": "A", "points": 1}, {"level": "B", "points": 1}]}
    assert await refusal(customer.admin.CreateGradingRule(gradingRule=twice)) == "VALIDATION"
    made = await customer.admin.CreateGradingRule(gradingRule=rule)

    async def graded() -> Any:
        found = await customer.sales1.GetAccountGrading(name=account)
        return found if found.results and found.results[0].facts == 2 and found.results[1].facts else None

    async def arrived() -> bool:
        async with customer.running.system_call("look", None) as call:
            count = select(func.count()).select_from(Figure).where(Figure.account == account)
            return await call.db.scalar(count) == 5

    await customer.eventually(arrived, 30)
    # Not in force yet: nothing is said. In force: points by factor, and why.
    assert not (await customer.sales1.GetAccountGrading(name=account)).rule
    await customer.admin.ActivateGradingRule(name=made.name)
    found = await customer.eventually(graded, 30)
    assert [(r.value, r.points, r.facts) for r in found.results] == [
        ("800000", 40, 2), ("10", 20, 1), ("300", 15, 1), ("", 0, 0),
    ]  # fmt: skip
    assert (found.points, found.by_rule, found.rule) == (75, "A", made.name)
    await night(customer, grade_everybody)
    await levelled(customer, account, "A")
    await levelled(customer, small, "D")
    changed = [
        f for f in await customer.facts("crm.customer.v1.AccountLevelChanged", account) if f["level"] == "A"
    ]
    assert [(f["origin"], f["points"], f["rule"]) for f in changed] == [("RULE", 75, made.name)]
    renamed = {"name": made.name, "displayName": "改名"}
    assert await refusal(customer.admin.UpdateGradingRule(gradingRule=renamed, updateMask="displayName")) == "RULE_IMMUTABLE"  # fmt: skip
    # By hand until the day, then the rule decides again; every change is kept.
    client, until = customer.manager, today + timedelta(days=3)
    too_long = day(today + timedelta(days=500))
    assert (
        await refusal(client.SetAccountLevel(name=account, level="C", untilDate=too_long, reason="x"))
        == "VALIDATION"
    )
    by_hand = await client.SetAccountLevel(name=account, level="C", untilDate=day(until), reason="付款有争议")
    assert (by_hand.level, by_hand.level_until_date.day) == ("C", until.day)
    await night(customer, grade_everybody)
    typed = await customer.sales1.UpdateAccount(account={"name": small, "level": "B"}, updateMask="level")
    assert typed.HasField("level_until_date")
    assert (await customer.admin.GetAccount(name=account)).level == "C"
    async with customer.running.call("test", system("customer")) as call:
        from customer.grading import _grade  # pyright: ignore[reportPrivateUsage]
        from customer.model.account import Account
        from customer.model.grading import GradingRule

        call.now += timedelta(days=5)
        in_force = (await call.db.scalars(select(GradingRule).where(GradingRule.state == "ACTIVE"))).one()
        ids = [row.id for row in await call.db.scalars(select(Account).where(Account.tags.contains([tag])))]
        await _grade(in_force, ids, call)
    await levelled(customer, account, "A")
    kept = [(origin, level) for origin, _, level in await history(customer, account)]
    assert kept == [("RULE", "A"), ("MANUAL", "C"), ("RULE", "A")]
    assert (await history(customer, small))[-1] == ("MANUAL", "D", "B")
    await customer.admin.RetireGradingRule(name=made.name)
    assert await refusal(customer.admin.RetireGradingRule(name=made.name)) == "ILLEGAL_TRANSITION"


@pytest.mark.capability("c.class")
async def test_another_level_has_another_day_in_the_sea_and_another_cycle_of_care(customer: Service) -> None:
    tag = uuid4().hex
    pool = await customer.admin.CreatePool(
        pool={"displayName": f"分级公海{tag[:6]}", "memberEmployees": [customer.person("sales1").employee]}
    )
    clauses = [
        {
            "key": key,
            "when": {"tags": [tag], "levels": [level]},
            "clocks": [{"kind": "NO_FOLLOW_UP", "days": days}],
        }
        for key, level, days in (("A-60", "A", 60), ("C-10", "C", 10))
    ]
    rule = await customer.admin.CreatePoolRule(poolRule={"pool": pool.name, "clauses": clauses})
    await customer.admin.SimulatePoolRule(name=rule.name, days=1)

    async def simulated() -> bool:
        return (
            await customer.admin.GetPoolRule(name=rule.name)
        ).simulation.state == pb.PoolRule.Simulation.DONE

    await customer.eventually(simulated, 60)
    await customer.admin.ActivatePoolRule(name=rule.name)
    made = await customer.sales1.CreateAccount(
        account={"displayName": f"换级{tag}", "level": "A", "tags": [tag]}
    )
    assert made.sea_clause == "A-60"
    plan = await customer.manager.CreateCarePlan(
        carePlan={
            "displayName": f"回访{tag[:6]}", "trigger": "CYCLE", "audience": "ACCOUNTS", "everyDays": 50, "channel": "CALL",
            "audienceFilter": f'tags:"{tag}"', "cycles": [{"level": "C", "days": 20}],
        }
    )  # fmt: skip
    await customer.manager.ActivateCarePlan(name=plan.name)
    await night(customer, care_of_the_day)

    async def due() -> date:
        page = await customer.manager.ListCareOccurrences(filter=f'plan = "{plan.name}"')
        (one,) = page.care_occurrences
        return date(one.due_date.year, one.due_date.month, one.due_date.day)

    before = await due()
    changed = await customer.manager.SetAccountLevel(name=made.name, level="C", reason="降级")
    assert changed.sea_clause == "C-10"
    assert changed.sea_due_time.ToDatetime() == made.sea_due_time.ToDatetime() - timedelta(days=50)
    assert await due() == before - timedelta(days=30)


@pytest.mark.capability("c.class")
async def test_of_an_exclusive_group_a_customer_has_the_tag_that_came_last(customer: Service) -> None:
    a, b, free = (f"{letter}{uuid4().hex[:8]}" for letter in "甲乙丙")
    group = {"displayName": "客户温度", "tags": [a, b], "exclusive": True}
    assert await refusal(customer.sales1.CreateTagGroup(tagGroup=group)) == "PERMISSION_DENIED"
    await customer.admin.CreateTagGroup(tagGroup=group)
    assert await refusal(customer.admin.CreateTagGroup(tagGroup={**group, "tags": [b, free]})) == "VALIDATION"
    made = await customer.sales1.CreateAccount(
        account={"displayName": f"标签{uuid4().hex}", "tags": [a, free]}
    )

    async def tags(*wanted: str) -> list[str]:
        account = {"name": made.name, "tags": list(wanted)}
        return list((await customer.sales1.UpdateAccount(account=account, updateMask="tags")).tags)

    assert list(made.tags) == [a, free]
    assert await tags(a, free, b) == [free, b]
    assert await tags(a, free, b) == [a, free]
    other = await customer.sales1.CreateAccount(account={"displayName": f"标签{uuid4().hex}", "tags": [a, b]})
    assert list(other.tags) == [b]
    answer = await customer.sales1.TagAccounts(names=[made.name, other.name], add=[b], remove=[free])
    assert [list(account.tags) for account in answer.accounts] == [[b], [b]]
    strange = await customer.admin.CreateAccount(account={"displayName": f"标签{uuid4().hex}"})
    assert await refusal(customer.sales1.TagAccounts(names=[made.name, strange.name], add=[a])) == "NOT_FOUND"
    assert list((await customer.sales1.GetAccount(name=made.name)).tags) == [b]
