"""What requests cost the database: few round trips, however long the page."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

import pytest
from crmkit.rpc import Pipeline
from crmkit.testing import Service
from sqlalchemy import event

FEW = 6
# A create also looks for others with the same keys, among customers and leads, and whether a rule sets clocks.
OF_A_CREATE = 8
OF_TYPES = ("typeinfo_tree", "set_config('jit'")
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
        if _IN_REQUEST.get() and not any(sign in record.query for sign in OF_TYPES):
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
