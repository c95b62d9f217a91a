"""What requests cost the database: few round trips, however long the page."""

import asyncio
import statistics
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from crmkit import listing
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.testing import Service, plans
from crmkit.testing.costs import round_trips
from customer.model.timeline import TimelineEntry
from sqlalchemy import event, text

FEW = 6
# A create also looks for others with the same keys, among customers and leads, and whether a rule sets clocks.
OF_A_CREATE = 8


async def test_requests_make_few_round_trips_whatever_the_size_of_the_page(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = f"往返{uuid4().hex[:8]}"
    made = [
        await customer.sales1.CreateAccount(account={"displayName": f"{word}{n}甲乙丙丁"[: 12 + n]})
        for n in range(12)
    ]
    with round_trips(customer, monkeypatch) as said:

        async def cost(method: str, **asked: Any) -> int:
            await asyncio.sleep(0.05)  # the driver tells of a statement a moment after it
            said.clear()
            await getattr(customer.sales1, method)(**asked)
            await asyncio.sleep(0.05)
            assert 0 < len(said) <= (OF_A_CREATE if method == "CreateAccount" else FEW), (method, said)
            return len(said)

        phone = {"number": f"13{uuid4().int % 10**9:09}"}
        account = {"displayName": f"{word}新建", "source": "WEBSITE", "phones": [phone]}
        await cost("CreateAccount", account=account, requestId=uuid4().hex)
        assert await cost("GetAccount", name=made[0].name) == 3
        for asked in ({}, {"q": word}, {"orderBy": "create_time"}):
            assert {await cost("ListAccounts", pageSize=size, **asked) for size in (1, 5, 200)} == {3}


# Of every two entries the reader sees one.
ENTRIES = """
INSERT INTO timeline (id, account, occur_time, kind, phase, ref, summary, requires, owner, department, create_time,
  update_time, version)
SELECT gen_random_uuid(), :account, timestamptz '2020-01-01Z' + n * interval '1 min', 'crm.sales.v1.QuoteSent',
  (ARRAY['PRESALE', 'INSALE', 'AFTERSALE'])[1 + n / 2 % 3], 'quotes/' || n, 'q' || n,
  CASE n % 2 WHEN 0 THEN 'sales.quotes.read' ELSE 'x.y.read' END, :owner, :department, now(), now(), 1
FROM generate_series(1, 20000) n
"""
RECORDS = """
INSERT INTO figures (source, collection, account, state, amount, currency, day, owner, department, version)
SELECT :account || n, (ARRAY['orders', 'allocations', 'tickets', 'opportunities'])[1 + n % 4], :account, 'S' || n % 3, 10,
  'CNY', current_date - n % 700, CASE WHEN n % 8 < 4 THEN :owner ELSE 'employees/other' END,
  CASE WHEN n % 8 < 4 THEN :department ELSE 'departments/other' END, 1
FROM generate_series(1, 10000) n
"""


@pytest.mark.capability("c.360")
async def test_an_account_with_ten_thousand_entries_and_records_is_opened_by_few_statements_that_read_little(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = customer.person("sales1")
    made = (await customer.sales1.CreateAccount(account={"displayName": f"万条{uuid4().hex}"})).name
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        values = {"account": made, "owner": reader.employee, "department": reader.department}
        for statement in (ENTRIES, RECORDS):
            await session.execute(text(statement), values)
        await session.commit()
    page = {"filter": f'account = "{made}"', "orderBy": "occur_time desc", "pageSize": 50}
    told: list[tuple[str, Any]] = []

    def listened(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        told.append((statement, parameters))

    engine = customer.running.engine.sync_engine
    with round_trips(customer, monkeypatch) as said:
        event.listen(engine, "before_cursor_execute", listened)
        try:
            seen = await customer.sales1.GetAccountOverview(name=made)
        finally:
            event.remove(engine, "before_cursor_execute", listened)
        await asyncio.sleep(0.05)
        assert len(said) <= FEW, said
        said.clear()
        first = await customer.sales1.ListTimeline(**page)
        await asyncio.sleep(0.05)
        assert len(said) <= FEW, said

    # Half of all, and of the tabs a thousand at most.
    quotes = [int(one.ref.partition("/")[2]) for one in first.timeline if one.ref.startswith("quotes/")]
    assert len(first.timeline) == 50 and len(quotes) >= 49 and {number % 2 for number in quotes} == {0}
    tabs = {tab.filter.rpartition(" ")[2]: tab.count for tab in seen.tabs}
    assert {tabs[phase] for phase in ("PRESALE", "INSALE", "AFTERSALE")} == {1000}
    counts = {(one.collection, one.state): one.count for one in seen.figures}
    assert sum(counts.values()) == 5000 and {key[0] for key in counts} == {
        "orders",
        "allocations",
        "opportunities",
        "tickets",
    }

    caller = customer.running.directory.explained(reader.employee or "")
    assert caller is not None
    connection = await asyncpg.connect(customer.parts.admin_url, database="customer")
    async with connection.transaction():
        await connection.execute(
            "ANALYZE timeline, figures; SET LOCAL ROLE customer; SET LOCAL enable_seqscan = off"
        )
        condition = listing.where(TimelineEntry, page["filter"], caller, datetime.now(UTC))
        order = listing.order_of(TimelineEntry, page["orderBy"], caller)
        asked = listing.page_statement(TimelineEntry, condition, order, 50, caller)
        read, shown, plan = await plans.read_and_shown(connection, TimelineEntry, asked, caller)
        assert shown == 51 and read <= 4 * shown, plan
        # Records are summed where they lie; of entries no more is read than is counted and hidden between.
        for table, most in (("figures", 10_000), ("timeline", 3 * 2 * 1000 + 10)):
            statement, parameters = next(one for one in told if f"FROM {table} " in one[0])
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *parameters)
            assert plans.rows_read(plan) <= most and "Seq Scan" not in plan, plan
    await connection.close()

    # Beside a plain get in the same run, which is as slow as the machine is just then.
    took: dict[str, list[float]] = {"get": [], "page": [], "overview": []}
    for _ in range(30):
        for what, ask in (
            ("get", lambda: customer.sales1.GetAccount(name=made)),
            ("page", lambda: customer.sales1.ListTimeline(**page)),
            ("overview", lambda: customer.sales1.GetAccountOverview(name=made)),
        ):
            began = time.perf_counter()
            await ask()
            took[what].append(time.perf_counter() - began)
    usual = {what: statistics.median(times) for what, times in took.items()}
    assert usual["page"] <= 15 * usual["get"] and usual["overview"] <= 40 * usual["get"], usual
