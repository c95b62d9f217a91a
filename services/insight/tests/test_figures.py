"""The funnel and the facts: figures that the reader may see, once each, whatever comes twice or late."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Client
from uuid_utils.compat import uuid7

Row = tuple[list[str], str, dict[str, str]]


async def deal(
    service: Any, pipeline: str, stage: str, amount: str, username: str = "sales1", **more: Any
) -> str:
    """An opportunity as sales tells it."""
    resource = {
        "displayName": f"商机{stage}", "pipeline": pipeline, "stage": stage, "state": "OPEN", "probability": "40",
        "amount": {"currencyCode": "CNY", "amount": amount}, "createTime": "2026-03-02T01:00:00Z",
        "updateTime": "2026-03-02T01:00:00Z", "expectedCloseDate": {"year": 2026, "month": 12, "day": 31},
        **service.of(username),
    }  # fmt: skip
    version = more.pop("version", 1)
    return await service.told("opportunities", "sales", {**resource, **more}, version)


async def funnel(client: Client, pipeline: str, group: str = "stage") -> dict[str, tuple[str, str]]:
    """Count and sum by stage."""
    figures = await client.AggregateOpportunityFacts(
        filter=f'pipeline = "{pipeline}"', groupBy=[group], sum=["amount"]
    )
    return {row.group[0]: (row.count, row.sums.get("amount:CNY", "")) for row in figures.rows}


async def test_the_funnel_counts_and_sums_by_stage_inside_the_readers_scope(insight: Any) -> None:
    pipeline = f"pipelines/{uuid7()}"
    await deal(insight, pipeline, "NEEDS", "1000.50")
    await deal(insight, pipeline, "NEEDS", "500.25")
    await deal(insight, pipeline, "QUOTE", "200.00", "sales2")
    helper = insight.person("sales1").employee
    await deal(insight, pipeline, "QUOTE", "70.00", "sales2", collaborators=[helper])

    async def all_there() -> bool:
        return sum(int(count) for count, _ in (await funnel(insight.admin, pipeline)).values()) == 4

    await insight.eventually(all_there)
    assert await funnel(insight.admin, pipeline) == {"NEEDS": ("2", "1500.75"), "QUOTE": ("2", "270")}
    assert await funnel(insight.manager, pipeline) == {"NEEDS": ("2", "1500.75")}
    assert await funnel(insight.sales1, pipeline) == {"NEEDS": ("2", "1500.75"), "QUOTE": ("1", "70")}
    assert await funnel(insight.client("agent"), pipeline) == {}
    rows = (await insight.sales1.ListOpportunityFacts(filter=f'pipeline = "{pipeline}"')).opportunity_facts
    assert len(rows) == 3


async def test_who_may_not_read_the_source_sees_no_figure_of_it(insight: Any) -> None:
    pipeline = f"pipelines/{uuid7()}"
    await deal(insight, pipeline, "NEEDS", "10.00", "marketer")
    await insight.eventually(lambda: funnel(insight.admin, pipeline))
    assert await funnel(insight.client("marketer"), pipeline) == {}


async def test_a_later_stage_counts_once_and_an_older_fact_does_not_move_it_back(insight: Any) -> None:
    pipeline, name = f"pipelines/{uuid7()}", f"opportunities/{uuid7()}"
    await deal(insight, pipeline, "QUOTE", "900.00", name=name, version=5)

    async def quoted() -> bool:
        return await funnel(insight.sales1, pipeline) == {"QUOTE": ("1", "900")}

    await insight.eventually(quoted)
    await deal(insight, pipeline, "NEEDS", "100.00", name=name, version=4)
    await deal(insight, pipeline, "QUOTE", "900.00", name=name, version=5)
    other = await deal(insight, pipeline, "OTHER", "1.00")
    won = {"state": "WON", "closeTime": "2026-04-01T02:00:00Z", "name": other}
    await deal(insight, pipeline, "OTHER", "1.00", version=2, **won)

    async def closed() -> bool:
        return (await funnel(insight.sales1, pipeline, "state")).get("WON") == ("1", "1")

    await insight.eventually(closed)
    assert await funnel(insight.sales1, pipeline) == {"QUOTE": ("1", "900"), "OTHER": ("1", "1")}
    months = await insight.sales1.AggregateOpportunityFacts(
        filter=f'pipeline = "{pipeline}" AND state = "WON"',
        groupBy=["closeTime:month"],
        average=["cycleDays"],
    )
    assert [(list(row.group), row.averages["cycleDays"]) for row in months.rows] == [(["2026-04-01"], "30")]


async def test_invoices_are_summed_by_what_is_left_to_pay(insight: Any) -> None:
    account = f"accounts/{uuid7()}"
    for balance, state in (("100.00", "UNPAID"), ("0.00", "PAID")):
        money = {"currencyCode": "CNY", "amount": balance}
        invoice = {
            "displayName": "账单",
            "account": account,
            "state": "ISSUED",
            "paymentState": state,
            "balance": money,
        }
        await insight.told("invoices", "billing", {**invoice, **insight.of("sales1")})

    async def there() -> Any:
        figures = await insight.sales1.AggregateInvoiceFacts(
            filter=f'account = "{account}"', groupBy=["paymentState"], sum=["balance"]
        )
        return (
            {row.group[0]: row.sums["balance:CNY"] for row in figures.rows}
            if len(figures.rows) == 2
            else None
        )

    assert await insight.eventually(there) == {"UNPAID": "100", "PAID": "0"}


async def test_a_business_fact_is_one_row_however_often_it_comes(insight: Any) -> None:
    name, mark = f"opportunities/{uuid7()}", uuid4().hex
    opportunity = {
        "name": name, "displayName": mark, "state": "WON", "account": f"accounts/{uuid7()}",
        "amount": {"currencyCode": "CNY", "amount": "88.80"}, **insight.of("sales1"),
    }  # fmt: skip
    event, now = str(uuid7()), datetime.now(UTC).isoformat()
    headers = {
        "ce-id": event, "ce-type": "crm.sales.v1.OpportunityWon", "ce-source": "crm/sales", "ce-time": now,
        "ce-subject": name, "crm-actor": "employees/x", "crm-version": "2",
    }  # fmt: skip
    js = await insight.running.bus.connected()
    await insight.running.bus.ensure_stream("sales")
    for _ in range(2):
        body = json.dumps({"opportunity": opportunity}).encode()
        await js.publish("crm.sales.v1.OpportunityWon", body, headers={"Nats-Msg-Id": uuid4().hex, **headers})
    moved = {"opportunity": {**opportunity, "state": "OPEN"}, "from": "NEEDS", "to": "QUOTE"}
    await insight.tell("crm.sales.v1.OpportunityStageChanged", moved, name)

    async def rows(client: Client) -> list[Any]:
        return list((await client.ListFacts(filter=f'title = "{mark}"', orderBy="kind")).facts)

    async def both() -> bool:
        return len(await rows(insight.sales1)) == 2

    await insight.eventually(both)
    stage, won = await rows(insight.sales1)
    assert (stage.state_from, stage.state_to, won.state_to) == ("NEEDS", "QUOTE", "WON")
    assert (won.amount.amount, won.account, won.area) == ("88.80", opportunity["account"], "sales")
    assert not await rows(insight.sales2)
    assert not await rows(insight.client("marketer"))
    figures = await insight.sales1.AggregateFacts(
        filter=f'title = "{mark}"', groupBy=["kind", "occurTime:month"], sum=["amount"]
    )
    assert {row.sums["amount:CNY"] for row in figures.rows} == {"88.8"}


async def test_facts_lie_in_the_table_of_their_month(insight: Any) -> None:
    mark = uuid4().hex
    await insight.tell(
        "crm.sales.v1.LeadCreated", {"lead": {"name": f"leads/{uuid7()}", "displayName": mark}}
    )
    table = "SELECT tableoid::regclass::text FROM facts WHERE title = :mark"
    found = await insight.eventually(lambda: insight.scalar(table, mark=mark))
    assert found == f"facts_{datetime.now(UTC):%Y_%m}"


@pytest.mark.capability("a.org")
async def test_a_report_of_the_past_shows_the_structure_of_the_past(insight: Any) -> None:
    mark, names = uuid4().hex[:8], [f"departments/{uuid4()}" for _ in range(4)]
    company, north, south, team = names

    async def hang(config: Any, name: str, title: str, parent: str | None) -> None:
        key, value = (
            f"department.{name.partition('/')[2]}",
            {"parent": parent, "displayName": f"{title}{mark}"},
        )
        await config.put(key, value)
        await insight.eventually(lambda: insight.running.config.get(key) == value, 30)

    async def won(count: int) -> None:
        name = f"opportunities/{uuid7()}"
        owner = {"owner": insight.person("sales1").employee, "department": team}
        opportunity = {"name": name, "displayName": mark, "state": "WON", **owner}
        await insight.tell("crm.sales.v1.OpportunityWon", {"opportunity": opportunity}, name)

        async def there() -> bool:
            figures = await insight.admin.AggregateFacts(filter=f'title = "{mark}"')
            return [row.count for row in figures.rows] == [str(count)]

        await insight.eventually(there, 30)

    async with insight.parts.configuration() as config:
        await hang(config, company, "集团", None)
        await hang(config, north, "北", company)
        await hang(config, south, "南", company)
        await hang(config, team, "队", north)
        await won(1)
        await hang(config, team, "队", south)
        await won(2)
        # The team becomes part of another one: what happened before stays where it happened.
        ended = {"department": {"name": team}, "into": south}
        await insight.tell("crm.workspace.v1.DepartmentMerged", ended, team)
        await hang(config, team, "散", company)
        await won(3)
    figures = await insight.admin.AggregateFacts(filter=f'title = "{mark}"', groupBy=["departmentPath"])
    assert {row.group[0].replace(mark, ""): row.count for row in figures.rows} == {
        "集团/北/队": "1", "集团/南/队": "1", "集团/散": "1"
    }  # fmt: skip
