"""The people of a customer: who reports to whom, and how well we know those who decide."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crmkit.testing import Refused, Service


async def person(customer: Service, account: str, name: str, **fields: Any) -> str:
    contact = {"displayName": name, "account": account, **fields}
    return (await customer.sales1.CreateContact(contact=contact)).name


async def spoke(customer: Service, account: str, contact: str, days_ago: int) -> None:
    start = datetime.now(UTC) - timedelta(days=days_ago)
    await customer.sales1.CreateInteraction(
        interaction={
            "account": account, "contacts": [contact], "channel": "CALL", "summary": "谈了年度采购的安排",
            "startTime": start.isoformat().replace("+00:00", "Z"),
        }
    )  # fmt: skip


@pytest.mark.capability("c.orgchart")
async def test_the_chart_shows_lines_gaps_and_how_well_the_deciders_are_known(customer: Service) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "组织图谱航空有限公司"})).name

    async def chart(client: Any = None) -> Any:
        return await (client or customer.sales1).GetAccountOrgChart(name=account)

    assert (await chart()).coverage_percent == ""
    boss = await person(customer, account, "总经理图", title="总经理", decisionRole="DECIDER", counterpart=customer.person("manager").employee)  # fmt: skip
    head = await person(customer, account, "主任图", decisionRole="INFLUENCER", reportsTo=boss, worries="预算被砍", attitude=-1)  # fmt: skip
    clerk = await person(customer, account, "科员图", decisionRole="USER", reportsTo=head)
    gone = await person(customer, account, "离任图", decisionRole="DECIDER", reportsTo=boss)
    await spoke(customer, account, boss, 89)
    await spoke(customer, account, head, 91)
    await spoke(customer, account, gone, 1)
    first = await chart()
    assert (first.key_people, first.covered_people, first.coverage_percent) == (3, 2, "66.7")
    last_day = {"year": 2026, "month": 11, "day": 20}
    await customer.sales1.LeaveContact(name=gone, date=last_day)

    found = await chart()
    people = {p.contact: p for p in found.people}
    assert (found.people[0].contact, set(people)) == (boss, {boss, head, clerk, gone})
    assert (people[clerk].reports_to, people[head].reports_to, people[boss].reports_to) == (head, boss, "")
    assert people[boss].title == "总经理"
    assert people[gone].left and people[gone].left_date.day == 20
    assert not people[boss].left
    assert (found.key_people, found.covered_people, found.coverage_percent) == (2, 1, "50.0")
    assert {(gap.kind, gap.contact) for gap in found.gaps} == {
        ("NO_COUNTERPART", head),
        ("NOT_COVERED", head),
    }

    # What is sensitive is absent without the permission, here and on the contact itself.
    assert (people[head].worries, people[head].attitude) == ("预算被砍", -1)
    service = customer.client("agent")
    seen = {p.contact: p for p in (await chart(service)).people}
    assert not seen[head].HasField("worries") and not seen[head].HasField("attitude")
    assert not (await service.GetContact(name=head)).worries

    # Dragging somebody below one of their own people saves nothing.
    for superior in (clerk, boss):
        with pytest.raises(Refused) as refused:
            await customer.sales1.UpdateContact(
                contact={"name": boss, "reportsTo": superior}, updateMask="reportsTo"
            )
        assert refused.value.reason == "REPORTING_CYCLE"
    assert {p.contact: p.reports_to for p in (await chart()).people}[boss] == ""
    moved = await customer.sales1.UpdateContact(
        contact={"name": clerk, "reportsTo": boss}, updateMask="reportsTo"
    )
    assert moved.reports_to == boss
    with pytest.raises(Refused) as refused:
        await chart(customer.sales2)
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("c.orgchart")
async def test_without_people_who_decide_the_coverage_is_unknown(customer: Service) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "无人决策物流有限公司"})).name
    await person(customer, account, "普通图", decisionRole="USER")
    found = await customer.sales1.GetAccountOrgChart(name=account)
    assert (found.key_people, found.coverage_percent) == (0, "")
    assert [gap.kind for gap in found.gaps] == ["NO_DECIDER", "NO_INFLUENCER"]
