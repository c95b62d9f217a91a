"""A public set of 8,800 deals, imported by sales, adds up in the reports to what is known of it."""

import csv
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from crmkit.tables import Copy
from crmkit.testing import Parts, Service
from sales.app import app as sales_app
from sqlalchemy import func, select
from uuid_utils.compat import uuid7

DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
MAVEN = DATA / "crm-sales-opportunities"
# Deals of the set that name no customer are given to this one, so that all of them come in.
NOBODY = "未登记客户"
CHUNK = 1000


@pytest.mark.skipif(not MAVEN.exists(), reason="the data are not here")
async def test_the_maven_deals_add_up_in_the_funnel_and_in_what_was_won_and_lost(
    insight: Any, parts: Parts
) -> None:
    deals = _rows("sales_pipeline.csv")
    assert len(deals) == 8800
    async with parts.service(sales_app()) as sales:
        pipeline = await _prepared(sales, deals)
        created = 0
        for first in range(0, len(deals), CHUNK):
            reply = await sales.admin.ImportOpportunities(
                rows=[_told(row) for row in deals[first : first + CHUNK]],
                currency="USD",
                pipeline=pipeline,
                firstLine=first + 2,
                products=[{"fromText": "GTXPro", "toText": "GTX Pro"}],
            )
            assert not reply.refusals
            created += reply.created
        assert created == 8800

        async def reported(group: str, of: str = "") -> dict[str, tuple[int, Decimal]]:
            found = await insight.admin.AggregateOpportunityFacts(
                filter=f'pipeline = "{pipeline}"{of}', groupBy=[group], sum=["amount"]
            )
            return {
                row.group[0]: (int(row.count), Decimal(row.sums.get("amount:USD", "0"))) for row in found.rows
            }

        async def all_there() -> bool:
            return sum(count for count, _ in (await reported("state")).values()) == len(deals)

        await insight.eventually(all_there, 120)
        by_state = await reported("state")
        assert {state: count for state, (count, _) in by_state.items()} == {
            "WON": 4238,
            "LOST": 2473,
            "OPEN": 1589 + 500,
        }
        assert by_state["WON"][1] == Decimal(10005534)
        # The funnel has the open deals alone, and every one of them once.
        funnel = await reported("stage", ' AND state = "OPEN"')
        assert sum(count for count, _ in funnel.values()) == 1589 + 500
        # What the reports say is what sales itself says.
        counted = await sales.admin.AggregateOpportunities(
            filter=f'pipeline = "{pipeline}"', groupBy=["state"], sum=["amount"]
        )
        assert by_state == {
            row.group[0]: (int(row.count), Decimal(row.sums.get("amount:USD", "0"))) for row in counted.rows
        }


async def _prepared(sales: Service, deals: list[dict[str, str]]) -> str:
    """The customers and products that the deals name, and a pipeline of their own; its name."""
    person = sales.person("admin")
    names = {row["account"] or NOBODY for row in deals}
    for name in sorted(names):
        account = f"accounts/{uuid7()}"
        resource = {
            "name": account, "displayName": name, "owner": person.employee, "department": person.department,
            "state": "ACTIVE",
        }  # fmt: skip
        told = {"name": account, "action": "CREATED", "actor": "system/test", "resource": resource}
        await sales.tell("crm.customer.v1.ResourceChanged", told, account)
    for row in _rows("products.csv"):
        price = {"currencyCode": "USD", "amount": row["sales_price"]}
        body = {
            "displayName": row["product"],
            "code": f"{uuid4().hex[:6]}-{row['product']}",
            "listPrice": price,
        }
        await sales.admin.CreateProduct(product=body)
    stages = [{"key": "A", "displayName": "接洽", "probability": "30", "forecastCategory": "PIPELINE"}]
    flow = await sales.admin.CreatePipeline(pipeline={"displayName": "公开数据", "stages": stages})
    await sales.admin.ActivatePipeline(name=flow.name)

    async def known() -> bool:
        title = Copy.payload["displayName"].astext
        async with sales.running.sessions() as session:
            count = select(func.count(title.distinct())).where(title.in_(names))
            return await session.scalar(count) == len(names)

    await sales.eventually(known, 30)
    return flow.name


def _told(row: dict[str, str]) -> dict[str, Any]:
    states = {"Won": "WON", "Lost": "LOST"}
    told: dict[str, Any] = {
        "externalId": row["opportunity_id"], "account": row["account"] or NOBODY, "product": row["product"],
        "state": states.get(row["deal_stage"], "OPEN"), "amount": row["close_value"], "agent": row["sales_agent"],
    }  # fmt: skip
    for field, column in (("openDate", "engage_date"), ("closeDate", "close_date")):
        if row[column]:
            day = datetime.strptime(row[column], "%m/%d/%Y").replace(tzinfo=UTC).date()
            told[field] = {"year": day.year, "month": day.month, "day": day.day}
    return told


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((MAVEN / name).read_text(encoding="utf-8").splitlines()))
