"""Key accounts: who they are, their plans, and what a plan changes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.company import ZONE
from crmkit.testing import Client, Refused, Service
from customer import key_accounts
from customer.sea import jobs
from sqlalchemy import text

Told = Callable[..., Awaitable[str]]
State = pb.AccountPlan.State


def day(offset: int) -> dict[str, int]:
    """A day so many days from today, as JSON has it."""
    found = datetime.now(ZONE).date() + timedelta(days=offset)
    return {"year": found.year, "month": found.month, "day": found.day}


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def nok(amount: str) -> dict[str, str]:
    """Money that no other test tells of."""
    return {"currencyCode": "NOK", "amount": amount}


async def refusal(awaitable: Awaitable[Any]) -> Refused:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value


async def account(client: Client, **fields: Any) -> Any:
    return await client.CreateAccount(account={"displayName": f"大客户{uuid4().hex}", **fields})


@pytest.mark.capability("c.keyacct")
async def test_the_fewest_that_bring_four_fifths_are_the_candidates(
    customer: Service, told: Told, refunded: Told
) -> None:
    reader = customer.client("everything")
    made = [await account(reader) for _ in range(5)]
    # 100 in all: 50, 20 (30 less 10 that went back), 15, 15, and what is older than a year.
    for one, amount in zip(made, ("50.00", "30.00", "15.00", "15.00", "900.00"), strict=True):
        old = one is made[-1]
        await told(
            "allocations",
            one.name,
            "everything",
            amount=nok(amount),
            date=day(-400 if old else -30),
            state="APPLIED",
        )
    await told("allocations", made[0].name, "everything", amount=nok("70.00"), date=day(-3), state="REVERSED")
    today = datetime.now(ZONE).date()
    await refunded(made[1].name, "10.00", today - timedelta(days=20), "NOK")
    await refunded(made[1].name, "9.00", today - timedelta(days=400), "NOK")

    async def counted() -> Any:
        found = await reader.ListKeyAccountCandidates(currency="NOK")
        return found if found.total.amount == "100.00" else None

    found = await customer.eventually(counted)
    # 50 + 20 are 70: of the two equal ones the lower number makes it 85.
    assert [(one.account, one.collected.amount, one.cumulative_percent) for one in found.candidates] == [
        (made[0].name, "50.00", "50.0"), (made[1].name, "20.00", "70.0"), (made[2].name, "15.00", "85.0"),
    ]  # fmt: skip
    assert [one.number for one in found.candidates] == [one.number for one in made[:3]]
    assert len((await reader.ListKeyAccountCandidates(currency="NOK", sharePercent=100)).candidates) == 4
    assert len((await reader.ListKeyAccountCandidates(currency="NOK", sharePercent=50)).candidates) == 1
    # Nobody's scope is wider here than anywhere else.
    stranger = await customer.client("stranger").ListKeyAccountCandidates(currency="NOK")
    assert not {one.account for one in stranger.candidates} & {one.name for one in made}


@pytest.mark.capability("c.keyacct")
async def test_a_plan_is_complete_before_it_runs_and_then_changes_how_its_account_is_served(
    customer: Service,
) -> None:
    sales, year, employee = customer.manager, datetime.now(ZONE).year, customer.person
    tag = uuid4().hex
    pool = await customer.admin.CreatePool(
        pool={"displayName": f"公海{tag[:6]}", "memberEmployees": [employee("sales1").employee]}
    )
    clauses = [
        {"key": "N", "when": {"tags": [tag], "types": ["NAMED"]}, "clocks": [{"kind": "NO_FOLLOW_UP", "days": 30}],
         "notExempt": ["KEY_ACCOUNT"]},
        {"key": "A", "when": {"tags": [tag]}, "clocks": [{"kind": "NO_FOLLOW_UP", "days": 30}]},
    ]  # fmt: skip
    rule = await customer.admin.CreatePoolRule(poolRule={"pool": pool.name, "clauses": clauses})
    await customer.admin.SimulatePoolRule(name=rule.name, days=1)

    async def simulated() -> bool:
        found = await customer.admin.GetPoolRule(name=rule.name)
        return found.simulation.state == pb.PoolRule.Simulation.DONE

    await customer.eventually(simulated)
    await customer.admin.ActivatePoolRule(name=rule.name)
    made, named = await account(sales, tags=[tag]), await account(sales, tags=[tag], type="NAMED")
    assert (made.sea_clause, named.sea_clause) == ("A", "N")

    plan = await sales.CreateAccountPlan(
        accountPlan={"account": made.name, "year": year, "objectives": [{"text": "增长"}]}
    )
    assert (plan.display_name, plan.number[:3]) == (f"{made.display_name} {year}", "KA-")
    incomplete = await refusal(sales.ApproveAccountPlan(name=plan.name))
    assert list(incomplete.violations) == [
        "account_plan.sponsor",
        "account_plan.team",
        "account_plan.objectives",
    ]
    complete = {
        "sponsor": employee("zong").employee, "team": [{"employee": employee("sales2").employee, "role": "方案"}],
        "objectives": [{"text": "增长", "target": cny("1000000.00")}], "serviceTier": "KEY",
    }  # fmt: skip
    await sales.UpdateAccountPlan(
        accountPlan={"name": plan.name, **complete}, updateMask="sponsor,team,objectives,serviceTier"
    )
    plan = await sales.ApproveAccountPlan(name=plan.name)
    assert plan.state == State.RUNNING
    (fact,) = await customer.facts("crm.customer.v1.ServiceTierChanged", made.name)
    assert (fact["account"]["serviceTier"], fact["to"], fact["plan"]) == ("KEY", "KEY", plan.name)
    seen = await sales.GetAccount(name=made.name)
    assert (seen.service_tier, seen.sea_exemption) == ("KEY", "KEY_ACCOUNT") and not seen.HasField(
        "sea_due_time"
    )
    # The team works on it.
    assert (await customer.sales2.GetAccount(name=made.name)).name == made.name
    # A key account that a clause names is not exempt from it.
    other = await sales.CreateAccountPlan(accountPlan={"account": named.name, "year": year, **complete})
    await sales.ApproveAccountPlan(name=other.name)
    seen = await sales.GetAccount(name=named.name)
    assert (seen.sea_clause, seen.sea_exemption) == ("N", "") and seen.HasField("sea_due_time")

    second = await sales.CreateAccountPlan(accountPlan={"account": made.name, "year": year, **complete})
    refused = await refusal(sales.ApproveAccountPlan(name=second.name))
    assert (refused.reason, refused.info.metadata["plan"]) == ("PLAN_EXISTS", plan.number)
    emptied = await refusal(
        sales.UpdateAccountPlan(accountPlan={"name": plan.name, "team": []}, updateMask="team")
    )
    assert list(emptied.violations) == ["account_plan.team"]

    # What nobody follows up stays out of the sea as long as it runs, and comes back into reckoning with its end.
    async def gone() -> bool:
        after: Any = None
        while True:
            async with customer.running.system_call("test", None) as call:
                call.now = datetime.now(UTC) + timedelta(days=60)
                after = await jobs.return_round(after, call)
            if after is None:
                return (await customer.admin.GetAccount(name=named.name)).state == pb.Account.POOLED

    await customer.eventually(gone)
    assert (await sales.GetAccount(name=made.name)).state == pb.Account.ACTIVE
    await sales.CloseAccountPlan(name=plan.name)
    seen = await sales.GetAccount(name=made.name)
    assert (seen.service_tier, seen.sea_exemption, seen.sea_clause) == ("", "", "A")
    assert (await refusal(customer.sales2.GetAccount(name=made.name))).reason == "NOT_FOUND"
    assert (await sales.ApproveAccountPlan(name=second.name)).state == State.RUNNING


@pytest.mark.capability("c.keyacct")
async def test_pairs_that_have_not_met_for_too_long_are_overdue_and_a_review_sees_it(
    customer: Service, told: Told
) -> None:
    sales, year, me = customer.sales1, datetime.now(ZONE).year, customer.person("sales1").employee
    made = await account(sales)
    people = [
        await sales.CreateContact(
            contact={"displayName": name, "account": made.name, "decisionRole": "DECIDER"}
        )
        for name in ("常见面", "久不见", "从未见")
    ]
    for person, days in zip(people, (5, 45), strict=False):
        start = (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")
        await sales.CreateInteraction(
            interaction={"account": made.name, "contacts": [person.name], "channel": "MEETING", "startTime": start,
                         "summary": "讨论年度合作框架的执行情况"}
        )  # fmt: skip
    plan = await sales.CreateAccountPlan(
        accountPlan={
            "account": made.name, "year": year, "sponsor": customer.person("zong").employee, "team": [{"employee": me}],
            "objectives": [{"text": "增长", "target": cny("1000.00")}],
            "meetings": [{"contact": one.name, "employee": me, "everyDays": 30} for one in people],
        }
    )  # fmt: skip
    pairs = (await sales.ListMeetings(name=plan.name)).pairs
    assert [(one.contact, one.overdue, one.HasField("last_time")) for one in pairs] == [
        (people[1].name, True, True), (people[0].name, False, True), (people[2].name, False, False),
    ]  # fmt: skip
    twice = await refusal(
        sales.UpdateAccountPlan(
            accountPlan={
                "name": plan.name,
                "meetings": [{"contact": people[0].name, "employee": me, "everyDays": 9}] * 2,
            },
            updateMask="meetings",
        )
    )
    assert twice.violations == {"account_plan.meetings": "DUPLICATE"}
    await customer.manager.ApproveAccountPlan(name=plan.name)
    action = {"text": "拜访总经理", "dueDate": day(10)}
    early = await refusal(sales.ReviewAccountPlan(name=plan.name, findings="尚早", actions=[action]))
    assert early.reason == "PLAN_REVIEW_EARLY"
    await told(
        "allocations",
        made.name,
        amount=cny("250.00"),
        date={"year": year, "month": 1, "day": 1},
        state="APPLIED",
    )
    async with customer.running.system_call("test", None) as call:
        await call.db.execute(
            text("UPDATE account_plans SET review_date = current_date - 1 WHERE id = CAST(:id AS uuid)"),
            {"id": plan.name.rpartition("/")[2]},
        )

    async def collected() -> bool:
        found = await sales.ListKeyAccountCandidates(sharePercent=100)
        return made.name in {one.account for one in found.candidates}

    await customer.eventually(collected)
    # Reminded of once, however often the morning comes.
    for _ in range(2):
        async with customer.running.system_call("test", None) as call:
            await key_accounts.mind_plans(call.now, call)
    notices = [
        one
        for one in await customer.facts("crm.customer.v1.NoticeRaised")
        if plan.name in one.get("subjects", [])
    ]
    assert len({one["dedupeKey"] for one in notices}) == 1
    done = await sales.ReviewAccountPlan(name=plan.name, findings="关键人覆盖不足", actions=[action])
    (review,) = done.reviews
    assert (review.collected.amount, review.overdue_meetings, review.coverage_percent) == (
        "250.00",
        1,
        "66.7",
    )
    assert done.state in (State.RUNNING, State.REVIEWED) and done.actions[-1].text == "拜访总经理"
    (fact,) = await customer.facts("crm.customer.v1.AccountPlanReviewed", plan.name)
    assert [(one["text"], one["employee"]) for one in fact["actions"]] == [("拜访总经理", me)]


@pytest.mark.capability("c.keyacct")
async def test_a_plan_agreed_to_before_its_year_begins_with_it(customer: Service) -> None:
    sales, year = customer.sales1, datetime.now(ZONE).year
    made = await account(sales)
    plan = await sales.CreateAccountPlan(
        accountPlan={
            "account": made.name, "year": year + 1, "sponsor": customer.person("zong").employee, "serviceTier": "KEY",
            "team": [{"employee": customer.person("sales2").employee}],
            "objectives": [{"text": "增长", "target": cny("1000.00")}],
        }
    )  # fmt: skip
    assert (await customer.manager.ApproveAccountPlan(name=plan.name)).state == State.APPROVED
    assert not (await sales.GetAccount(name=made.name)).service_tier
    async with customer.running.system_call("test", None) as call:
        call.now = datetime(year + 1, 1, 1, 0, 5, tzinfo=ZONE)
        await key_accounts.mind_plans(call.now, call)
    assert (await sales.GetAccountPlan(name=plan.name)).state == State.RUNNING
    assert (await sales.GetAccount(name=made.name)).service_tier == "KEY"
