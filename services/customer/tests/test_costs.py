"""What requests cost the database: few round trips, and statements that read little more than they give."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from crmkit import listing, reading
from crmkit.auth import Caller, Scope
from crmkit.driver import transaction
from crmkit.listing import Query
from crmkit.rpc import Pipeline
from crmkit.search import CANDIDATES
from crmkit.testing import Service
from customer.model.account import Account
from sqlalchemy import event

FEW = 6
# A create also asks seas, hierarchy and credit, each as everybody and back.
OF_A_CREATE = 14
ROWS = 20_000
READ_FOR_EACH = 50
_IN_REQUEST: ContextVar[bool] = ContextVar("in_request", default=False)


@contextmanager
def round_trips(customer: Service, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Everything that requests say to the database, BEGIN and COMMIT too; what goes on beside them left out."""
    said: list[str] = []
    answer = Pipeline._answer  # pyright: ignore[reportPrivateUsage]

    async def marked(*given: Any) -> Any:
        _IN_REQUEST.set(True)
        return await answer(*given)

    def by_driver(record: Any) -> None:
        # What a connection asks once, about types that it meets for the first time, is no part of a request.
        if _IN_REQUEST.get() and "typeinfo_tree" not in record.query:
            said.append(record.query)

    def by_sqlalchemy(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if _IN_REQUEST.get():
            said.append(statement)

    logged: set[Any] = set()

    def on_checkout(dbapi_connection: Any, *_: Any) -> None:
        connection = dbapi_connection.driver_connection
        if connection not in logged:
            logged.add(connection)
            connection.add_query_logger(by_driver)

    engine = customer.running.engine.sync_engine
    patch.setattr(Pipeline, "_answer", marked)
    event.listen(engine.pool, "checkout", on_checkout)
    event.listen(engine, "before_cursor_execute", by_sqlalchemy)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", by_sqlalchemy)
        event.remove(engine.pool, "checkout", on_checkout)
        for connection in logged:
            connection.remove_query_logger(by_driver)


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


async def test_lists_and_searches_read_little_more_than_they_give(customer: Service) -> None:
    """Dense, sparse and empty scope in a table of many rows: EXPLAIN tells how many rows every scan has read."""
    engine, mark = customer.running.engine, uuid4().hex[:6]
    dense, sparse, nobody = (f"employees/{uuid4()}" for _ in range(3))
    async with transaction(engine, "BEGIN; SELECT set_config('crm.scope', 'ALL', true)") as db:
        await db.execute("SET LOCAL statement_timeout = '60s'")
        await db.execute(_FILL, ROWS, dense, sparse, mark)
        await db.execute(_FIND, mark)
    owner = await asyncpg.connect(customer.parts.admin_url, database="customer")
    await owner.execute("ANALYZE accounts, accounts_search")
    await owner.close()
    for employee, expected in ((dense, 20), (sparse, 8), (nobody, 0)):
        reach = reading.Reach.of(Caller(actor=employee, employee=employee, scope=Scope.OWN))
        listed = reading._listed(Account, reach, "", 20, False)  # pyright: ignore[reportPrivateUsage]
        given, read = await _explained(customer, reach, listed, {})
        assert min(given, 20) == expected, (employee, given)
        assert read <= READ_FOR_EACH * max(given, 1), (employee, given, read)
        # What every tenth row holds, and what all hold: a search stops at its candidates, however many there are.
        for q in (f"{mark}1", f"规模{mark}"):
            term = listing.search_term(Account, Query(q=q))
            assert term is not None
            found = reading._found(Account, reach, "", term.shape(), 20)  # pyright: ignore[reportPrivateUsage]
            given, read = await _explained(customer, reach, found, {**term.values(), "offset": 0})
            assert read <= 5 * (CANDIDATES + 1), (employee, q, given, read)


_FILL = """
    INSERT INTO accounts (id, display_name, kind, state, number, owner, create_time, update_time, version)
    SELECT gen_random_uuid(), '规模' || $4 || n, 'COMPANY', 'ACTIVE', '', CASE WHEN n % 2500 = 0 THEN $3 ELSE $2 END,
        now() - make_interval(mins => n), now() - make_interval(mins => n), 1
    FROM generate_series(1, $1) AS n
"""
_FIND = """
    INSERT INTO accounts_search (id, search_text, search_grams)
    SELECT id, display_name, ARRAY(
        SELECT DISTINCT substr(display_name, place, length)
        FROM generate_series(1, char_length(display_name)) AS place, generate_series(1, 2) AS length
    ) FROM accounts WHERE display_name LIKE '规模' || $1 || '%'
"""


async def _explained(
    customer: Service, reach: reading.Reach, statement: reading.Statement, values: dict[str, Any]
) -> tuple[int, int]:
    """Rows given, and rows that all scans have read for them."""
    async with reading.reading(customer.running.engine, reach) as connection:
        text = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}"
        found = await connection.fetchval(text, *statement.with_values(values))
    plan: dict[str, Any] = found[0]["Plan"]
    return round(plan["Actual Rows"]), _read(plan)


def _read(plan: dict[str, Any]) -> int:
    read = 0
    if "Relation Name" in plan:
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read = round((plan["Actual Rows"] + removed) * plan["Actual Loops"])
    return read + sum(_read(inner) for inner in plan.get("Plans", []))
