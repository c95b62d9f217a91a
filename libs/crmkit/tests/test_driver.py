"""What the driver's own ways take for granted of SQLAlchemy, and that they are transactions."""

from contextlib import AsyncExitStack
from datetime import date
from typing import Any, cast
from uuid import uuid4

import pytest
from asyncpg import connect  # pyright: ignore[reportMissingTypeStubs]
from crmkit.driver import Driver, KeptPool, begin, driver, replace_closed, together, transaction
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine


async def marks(engine: AsyncEngine) -> list[str]:
    async with transaction(engine) as connection:
        return [
            row["mark"] for row in await connection.fetch("SELECT note AS mark FROM effects ORDER BY note")
        ]


async def test_a_session_begun_by_text_commits_and_rolls_back_as_any_other(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await begin(session)
        await session.execute(text("INSERT INTO effects (note) VALUES ('orm')"))
        await (await driver(session)).execute("INSERT INTO effects (note) VALUES ('driver')")
        async with session.begin_nested() as inner:
            await (await driver(session)).execute("INSERT INTO effects (note) VALUES ('taken back')")
            await inner.rollback()
    assert await marks(engine) == ["driver", "orm"]
    with pytest.raises(ValueError, match="refused"):
        async with AsyncSession(engine) as session, session.begin():
            await (await begin(session)).execute("INSERT INTO effects (note) VALUES ('never')")
            raise ValueError("refused")
    async with AsyncSession(engine) as session:
        await (await begin(session)).execute("INSERT INTO effects (note) VALUES ('left')")
    assert await marks(engine) == ["driver", "orm"]
    async with engine.connect() as connection:
        assert not await connection.scalar(text("SELECT pg_current_xact_id_if_assigned()"))


async def test_a_transaction_of_its_own_is_kept_or_taken_back_whole(engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await connection.execute("INSERT INTO effects (note) VALUES ('kept')")
    with pytest.raises(ValueError, match="refused"):
        async with transaction(engine) as connection:
            await connection.execute("INSERT INTO effects (note) VALUES ('never')")
            raise ValueError("refused")
    assert await marks(engine) == ["kept"]


async def test_a_connection_that_was_closed_is_replaced(engine: AsyncEngine) -> None:
    replace_closed(engine)
    for _ in range(2):
        async with transaction(engine) as connection:
            closed = connection
        closed.terminate()
        async with AsyncSession(engine) as session, session.begin():
            assert await (await begin(session)).fetchval("SELECT 1") == 1


async def test_of_built_in_types_one_connection_asks_and_of_the_database_own_each(
    engine: AsyncEngine,
) -> None:
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    ids, asked = [uuid4()], list[int]()
    for _ in range(2):
        connection: Any = await connect(address, connection_class=Driver)
        said: list[str] = []
        connection.add_query_logger(lambda record, said=said: said.append(record.query))
        assert await connection.fetchval("SELECT $1::uuid[]", ids) == ids
        assert await connection.fetchval("SELECT $1::date[]", [date(2026, 2, 28)]) == [date(2026, 2, 28)]
        asked.append(sum("typeinfo_tree" in query for query in said))
        await connection.execute("CREATE TYPE pg_temp.mood AS ENUM ('glad')")
        assert await connection.fetchval("SELECT $1::pg_temp.mood[]", ["glad"]) == ["glad"]
        assert sum("typeinfo_tree" in query for query in said) == asked[-1] + 1
        await connection.close()
    assert asked[1] == 0


async def test_connections_are_kept_while_they_are_needed_and_closed_when_they_lay_idle(
    engine: AsyncEngine,
) -> None:
    kept = create_async_engine(
        engine.url, poolclass=KeptPool, pool_size=4, max_overflow=0, pool_use_lifo=True
    )
    pool = cast("KeptPool", kept.pool)
    pool.keep = 2

    async def at_once(count: int) -> set[int]:
        async with AsyncExitStack() as stack:
            open_ones = [await stack.enter_async_context(transaction(kept)) for _ in range(count)]
            return {await connection.fetchval("SELECT pg_backend_pid()") for connection in open_ones}

    first = await at_once(4)
    for _ in range(3):
        assert await at_once(4) == first
        assert await at_once(1) < first
    pool.idle_seconds = 0
    for _ in range(5):
        assert await at_once(1) < first
    assert pool.checkedin() == 2
    assert len(await at_once(4)) == 4
    await kept.dispose()


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (("DELETE FROM a WHERE b = $1",), "DELETE FROM a WHERE b = $1"),
        (
            ("INSERT INTO a VALUES ($1, $2)", "UPDATE b SET c = $2 WHERE d = $1 OR e = $2", "DELETE FROM f"),
            "WITH part0 AS (INSERT INTO a VALUES ($1, $2)),"
            " part1 AS (UPDATE b SET c = $4 WHERE d = $3 OR e = $4) DELETE FROM f",
        ),
    ],
)
def test_statements_become_one(statements: tuple[str, ...], text: str) -> None:
    assert together(statements) == text
