"""Help on a deal: experts one after the other, then the superior, and who sees the deal meanwhile."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.jobs import mind_support
from sales.model.opportunity import Opportunity
from sqlalchemy import update

Made = Callable[..., Awaitable[Any]]
State = pb.SupportRequest.State


async def after(sales: Service, days: float) -> None:
    """The job so many days from now."""
    async with sales.running.call("mind_support", system("sales")) as call:
        await mind_support(datetime.now(UTC) + timedelta(days=days), call)


async def refusal(change: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as refused:
        await change
    return refused.value.reason


@pytest.mark.capability("s.support")
async def test_who_is_asked_in_vain_is_followed_by_the_next_and_by_the_superior_once_each(
    sales: Service, deal: Made
) -> None:
    made, other = await deal(), await deal()
    people = {name: sales.person(name).employee for name in ("sales2", "agent", "manager")}
    assert await refusal(sales.sales2.GetOpportunity(name=made.name)) == "NOT_FOUND"
    body = {
        "opportunity": made.name, "kind": "TECHNICAL", "question": "能否耐受 200 度？",
        "experts": [people["sales2"], people["agent"]],
    }  # fmt: skip
    asked = await sales.sales1.CreateSupportRequest(supportRequest=body)
    assert (asked.state, asked.expert, asked.let_in) == (State.OPEN, people["sales2"], [people["sales2"]])
    # Who is asked sees that deal and no other.
    assert (await sales.sales2.GetOpportunity(name=made.name)).name == made.name
    assert await refusal(sales.sales2.GetOpportunity(name=other.name)) == "NOT_FOUND"
    assert await refusal(sales.sales1.AnswerSupportRequest(name=asked.name, text="-")) == "NOT_THE_EXPERT"

    async def steps() -> list[tuple[str, str]]:
        row = await sales.admin.GetSupportRequest(name=asked.name)
        return [(one.employee, one.step) for one in row.asked]

    # Before its time nothing happens; after it the next one is asked, then the superior, then nobody.
    await after(sales, 1.9)
    assert await steps() == [(people["sales2"], "FIRST")]
    await sales.sales2.AcceptSupportRequest(name=asked.name)
    await after(sales, 2.1)
    assert await steps() == [(people["sales2"], "FIRST"), (people["agent"], "NEXT_EXPERT")]
    assert await refusal(sales.sales2.AnswerSupportRequest(name=asked.name, text="可以")) == "NOT_THE_EXPERT"
    assert (await sales.client("agent").GetOpportunity(name=made.name)).name == made.name
    assert await refusal(sales.client("agent").GetOpportunity(name=other.name)) == "NOT_FOUND"
    for _ in range(3):
        await after(sales, 2.1)
    assert await steps() == [
        (people["sales2"], "FIRST"), (people["agent"], "NEXT_EXPERT"), (people["manager"], "SUPERIOR"),
    ]  # fmt: skip
    told = await sales.facts("crm.sales.v1.SupportRequested", asked.name)
    assert [one["people"] for one in told] == [[people[name]] for name in ("sales2", "agent", "manager")]
    answered = await sales.manager.AnswerSupportRequest(name=asked.name, text="可以，见报告 12")
    assert (answered.state, answered.answer) == (State.ANSWERED, "可以，见报告 12")
    assert await refusal(sales.manager.CloseSupportRequest(name=asked.name)) == "NOT_YOUR_REQUEST"
    assert (await sales.sales1.CloseSupportRequest(name=asked.name)).state == State.CLOSED

    # Two weeks after the deal was closed those who were let in see it no more; its people do.
    await sales.sales1.LoseOpportunity(name=made.name, reason="PRICE")
    await after(sales, 13.9)
    assert (await sales.sales2.GetOpportunity(name=made.name)).name == made.name
    async with sales.running.call("test", system("sales")) as call:
        closed = datetime.now(UTC) - timedelta(days=14, minutes=1)
        mine = update(Opportunity).where(Opportunity.id == made.name.partition("/")[2])
        await call.db.execute(mine.values(close_time=closed))
    await after(sales, 0)
    for expert in (sales.sales2, sales.client("agent")):
        assert await refusal(expert.GetOpportunity(name=made.name)) == "NOT_FOUND"
    assert (await sales.sales1.GetOpportunity(name=made.name)).name == made.name


@pytest.mark.capability("s.support")
async def test_those_known_for_a_skill_are_asked_and_a_refusal_goes_on_at_once(
    sales: Service, deal: Made
) -> None:
    made = await deal()
    skill = f"高温{made.name[-6:]}"
    tip = {"displayName": "耐温选型", "text": "看外壳", "skills": [skill]}
    await sales.sales2.CreateTip(tip=tip)
    body = {"opportunity": made.name, "kind": "STRATEGY", "question": "怎么赢？", "skill": skill}
    asked = await sales.sales1.CreateSupportRequest(supportRequest=body)
    assert asked.expert == sales.person("sales2").employee
    passed = await sales.sales2.DeclineSupportRequest(name=asked.name, text="出差")
    assert (passed.expert, passed.asked[1].because) == (sales.person("manager").employee, "出差")
    declined = await sales.manager.DeclineSupportRequest(name=asked.name, text="这单不值得")
    assert (declined.state, declined.answer) == (State.DECLINED, "这单不值得")
    # An executive comes along: whoever is named is asked, and sees the deal as before.
    body = {**body, "kind": "EXECUTIVE", "experts": [sales.person("manager").employee], "skill": ""}
    help_ = await sales.sales1.CreateSupportRequest(supportRequest=body)
    assert (await sales.manager.AcceptSupportRequest(name=help_.name)).state == State.ACCEPTED
    # A look at the deal is noted with the stage of then.
    reviewed = await sales.manager.ReviewOpportunity(name=made.name, findings="决策人未见过")
    assert [(one.findings, one.stage) for one in reviewed.reviews] == [("决策人未见过", made.stage)]
    await sales.sales1.LoseOpportunity(name=made.name, reason="PRICE")
    assert await refusal(sales.sales1.CreateSupportRequest(supportRequest=body)) == "ILLEGAL_TRANSITION"
