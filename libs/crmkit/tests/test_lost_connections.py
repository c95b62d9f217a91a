"""A database that went away and came back costs nobody more than a 503."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from asyncpg import InterfaceError, InternalClientError
from crmkit.driver import transaction
from crmkit.rpc import problem_of
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool


async def test_a_read_takes_a_fresh_connection_for_those_that_the_server_has_ended(
    engine: AsyncEngine,
) -> None:
    async with transaction(engine) as one, transaction(engine) as two:
        ended = {await connection.fetchval("SELECT pg_backend_pid()") for connection in (one, two)}
    async with engine.connect() as other:
        own = (await other.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        for pid in ended - {own}:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    await asyncio.sleep(0.2)
    for _ in range(3):
        async with transaction(engine) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_read_cut_short_by_its_deadline_leaves_no_transaction_behind(engine: AsyncEngine) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), transaction(engine) as connection:
                await connection.execute("SELECT pg_sleep(5)")
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND pid <> pg_backend_pid()"
        )
        assert (await connection.execute(text(f"{count} AND datname = current_database()"))).scalar_one() == 0


def test_a_connection_that_is_gone_is_no_defect_and_a_wrong_use_of_it_is() -> None:
    gone = InterfaceError("cannot call Transaction.rollback(): the underlying connection is closed")
    while_connecting = DBAPIError("", None, Exception("connection was closed in the middle of operation"))
    just_ended = InternalClientError("cannot switch to state 15; another operation (2) is in progress")
    for error in (gone, DBAPIError("COMMIT", None, gone), while_connecting, just_ended):
        assert problem_of(error).reason == "UNAVAILABLE"
    wrong = InterfaceError("cannot perform operation: another operation is in progress")
    assert problem_of(wrong).reason == "INTERNAL"


async def test_a_connection_that_the_pool_has_no_room_for_is_closed(engine: AsyncEngine) -> None:
    surplus = cast("QueuePool", engine.pool).size() + 1
    connections: list[Any] = []
    async with AsyncExitStack() as stack:
        for _ in range(surplus):
            connections.append(await stack.enter_async_context(transaction(engine)))
    assert [connection.is_closed() for connection in connections].count(True) == 1
