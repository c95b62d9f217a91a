"""Care: the right day by both calendars, once for each, with consent, and never for ever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.tables import HeldAction
from crmkit.testing import Refused, Service, local_date
from customer.care import care_of_the_day
from customer.days import day_in_year, days_between
from sqlalchemy import select

State, Way = pb.CareOccurrence.State, pb.CareOccurrence.Way


def test_birthdays_fall_on_the_right_day_of_both_calendars() -> None:
    assert day_in_year("SOLAR", 2027, 2, 29) == date(2027, 2, 28)
    assert day_in_year("SOLAR", 2027, 2, 29, march=True) == date(2027, 3, 1)
    assert (
        day_in_year("SOLAR", 2028, 2, 29)
        == day_in_year("SOLAR", 2028, 2, 29, march=True)
        == date(2028, 2, 29)
    )
    assert day_in_year("LUNAR", 2026, 8, 15) == date(2026, 9, 25)
    assert day_in_year("LUNAR", 2025, 12, 30) == date(2026, 2, 16)
    assert day_in_year("LUNAR", 2025, 6, 1, leap_month=True) == date(2025, 7, 25)
    assert day_in_year("LUNAR", 2026, 6, 1, leap_month=True) == day_in_year("LUNAR", 2026, 6, 1)
    assert day_in_year("SOLAR", 2026, 4, 31) is None
    # A day of the last lunar month lies in the solar year after its own.
    assert list(days_between(date(2026, 1, 1), date(2026, 12, 31), "LUNAR", 12, 30)) == [
        (date(2026, 2, 16), 2025)
    ]
    assert list(days_between(date(2026, 12, 30), date(2027, 1, 2), "SOLAR", 1, 1)) == [
        (date(2027, 1, 1), 2027)
    ]


def birth(day: date, year: int = 0) -> dict[str, Any]:
    return {"calendar": "SOLAR", "year": year, "month": day.month, "day": day.day}


async def night(customer: Service, days: int = 0) -> None:
    """The job as it runs in so many days."""
    async with customer.running.call("test", system("customer")) as call:
        call.now += timedelta(days=days)
        await care_of_the_day(call.now, call)


async def occurrences(customer: Service, plan: str) -> list[Any]:
    page = await customer.manager.ListCareOccurrences(
        filter=f'plan = "{plan}"', orderBy="due_date", pageSize=200
    )
    return list(page.care_occurrences)


async def running(customer: Service, **fields: Any) -> Any:
    plan = await customer.manager.CreateCarePlan(
        carePlan={"displayName": f"关怀{uuid4().hex[:6]}", "channel": "SMS", **fields}
    )
    return await customer.manager.ActivateCarePlan(name=plan.name)


async def people(customer: Service, tag: str, *births: dict[str, Any]) -> tuple[str, list[str]]:
    account = (await customer.sales1.CreateAccount(account={"displayName": f"关怀{tag}有限公司"})).name
    names = [
        (await customer.sales1.CreateContact(contact={"displayName": f"{tag}{n}", "account": account, "hobbies": tag, "birth": one})).name
        for n, one in enumerate(births)
    ]  # fmt: skip
    return account, names


@pytest.mark.capability("c.care")
async def test_one_occasion_for_each_person_and_day_however_often_the_night_comes(customer: Service) -> None:
    today = datetime.now(UTC).astimezone().date()
    soon = today + timedelta(days=20)
    account, (known, unknown, _far) = await people(
        customer, "寿星", birth(soon, 1980), birth(soon), birth(today + timedelta(days=100))
    )
    plan = await running(customer, trigger="BIRTHDAY", audienceFilter='hobbies = "寿星"', leadDays=3)
    for _ in range(2):
        await night(customer)
    found = await occurrences(customer, plan.name)
    assert [(o.contact, o.account, State.Name(o.state), Way.Name(o.way)) for o in sorted(found, key=lambda o: o.contact)] == [
        (name, account, "DUE", "WAY_UNSPECIFIED") for name in sorted([known, unknown])
    ]  # fmt: skip
    by_person = {o.contact: o for o in found}
    assert (by_person[known].age, by_person[unknown].age) == (soon.year - 1980, 0)
    assert (by_person[known].due_date.day, by_person[known].owner) == (
        soon.day,
        customer.person("sales1").employee,
    )

    # Consent counts when the message would go: with it a message, without it a call; each is asked for once.
    yes = {"subject": known, "channel": "SMS", "purpose": "SERVICE", "decision": "GRANTED", "source": "FORM"}
    await customer.sales1.CreateConsent(consent=yes)
    for _ in range(2):
        await night(customer, days=18)
    by_person = {o.contact: o for o in await occurrences(customer, plan.name)}
    assert (Way.Name(by_person[known].way), by_person[known].why) == ("MESSAGE", "")
    assert (Way.Name(by_person[unknown].way), by_person[unknown].why) == ("CALL_TASK", "NO_CONSENT")
    tasks = [f for f in await customer.facts("crm.customer.v1.CareTaskDue") if f["plan"]["name"] == plan.name]
    assert sorted((t["occurrence"]["contact"], t["channel"]) for t in tasks) == sorted(
        [(known, "SMS"), (unknown, "CALL")]
    )

    # A message that was stopped becomes a call, one that arrived is done.
    stopped = by_person[known].name
    await customer.tell("crm.marketing.v1.SendStopped", {"send": {"name": f"sends/{uuid4()}", "cause": stopped}, "reason": "SUPPRESSED"}, stopped)  # fmt: skip

    async def a_call() -> bool:
        found = await customer.manager.GetCareOccurrence(name=stopped)
        return (Way.Name(found.way), found.why) == ("CALL_TASK", "SUPPRESSED")

    await customer.eventually(a_call)
    done = await customer.sales1.CompleteCareOccurrence(name=stopped, result="很高兴", satisfaction=5)
    assert (State.Name(done.state), done.satisfaction) == ("DONE", 5)
    with pytest.raises(Refused) as refused:
        await customer.sales1.SkipCareOccurrence(name=stopped, reason="重复")
    assert refused.value.reason == "ILLEGAL_TRANSITION"

    # Seven days later what nobody did is missed, and said once.
    for _ in range(2):
        await night(customer, days=28)
    states = {o.contact: State.Name(o.state) for o in await occurrences(customer, plan.name)}
    assert (states[known], states[unknown]) == ("DONE", "MISSED")
    missed = by_person[unknown].name
    notices = [
        n for n in await customer.facts("crm.customer.v1.NoticeRaised") if missed in n.get("subjects", ())
    ]
    assert len(notices) == 1
    assert customer.person("sales1").superior in notices[0]["employees"]


async def test_days_that_were_slept_through_are_made_up_but_not_sent(customer: Service) -> None:
    today = datetime.now(UTC).astimezone().date()
    _, (first, second) = await people(
        customer, "沉睡", birth(today + timedelta(days=2)), birth(today + timedelta(days=30))
    )
    plan = await running(customer, trigger="BIRTHDAY", audienceFilter='hobbies = "沉睡"')
    await night(customer, days=31)
    by_person = {o.contact: o for o in await occurrences(customer, plan.name)}
    assert State.Name(by_person[first].state) == "MISSED"
    assert not by_person[first].HasField("told_time")
    assert by_person[second].HasField("told_time")


@pytest.mark.capability("c.care")
async def test_a_return_visit_runs_after_approval_and_asks_again_when_it_changes(customer: Service) -> None:
    await people(customer, "回访", birth(date(1980, 1, 1)))

    @asynccontextmanager
    async def policy() -> AsyncIterator[None]:
        key = f"approvalPolicy.{uuid4()}"
        async with customer.parts.configuration() as bucket:
            await bucket.put(
                key, {"action": "customer.carePlans.activate", "condition": "trigger = CYCLE", "priority": 1}
            )
            await customer.eventually(lambda: customer.running.config.get(key) is not None)
            try:
                yield
            finally:
                await bucket.delete(key)
                await customer.eventually(lambda: customer.running.config.get(key) is None)

    async def approve(plan: str) -> None:
        async with customer.running.sessions() as session:
            held = select(HeldAction).where(HeldAction.target == plan, HeldAction.state == "HELD")
            waiting = (await session.scalars(held)).one()
        approval = {"name": f"approvals/{uuid4()}", "heldAction": str(waiting.id)}
        await customer.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, approval["name"])

    async def active() -> bool:
        found = await customer.manager.GetCarePlan(name=plan.name)
        return pb.CarePlan.State.Name(found.state) == "ACTIVE"

    async with policy():
        plan = await customer.manager.CreateCarePlan(
            carePlan={
                "displayName": "大客户季度回访", "trigger": "CYCLE", "everyDays": 30, "channel": "CALL",
                "audienceFilter": 'hobbies = "回访"', "cycles": [{"level": "VIP", "days": 10}],
            }
        )  # fmt: skip
        held = await customer.manager.ActivateCarePlan(name=plan.name)
        assert held.pending_approval and pb.CarePlan.State.Name(held.state) == "DRAFT"
        await night(customer)
        assert not await occurrences(customer, plan.name)
        await approve(plan.name)
        await customer.eventually(active)
        for _ in range(2):
            await night(customer)
        (one,) = await occurrences(customer, plan.name)
        assert (local_date() + timedelta(days=30) - _date(one.due_date)).days in (0, -1, 1)

        change = {"name": plan.name, "everyDays": 45}
        changed = await customer.manager.UpdateCarePlan(carePlan=change, updateMask="everyDays")
        assert pb.CarePlan.State.Name(changed.state) == "DRAFT"
        again = await customer.manager.ActivateCarePlan(name=plan.name)
        assert again.pending_approval
        await approve(plan.name)
        await customer.eventually(active)
    with pytest.raises(Refused) as refused:
        await running(customer, trigger="BIRTHDAY", audienceFilter='hobbies = "没有这样的人"')
    assert refused.value.reason == "AUDIENCE_EMPTY"
    for wrong in (
        {"trigger": "CYCLE"},
        {"trigger": "HOLIDAY"},
        {"trigger": "BIRTHDAY", "audience": "ACCOUNTS"},
    ):
        with pytest.raises(Refused) as refused:
            await running(customer, **wrong)
        assert refused.value.reason == "VALIDATION"


def _date(day: Any) -> date:
    return date(day.year, day.month, day.day)
