"""The driver under a session: for the kit's own statements, which are text and known at start.

They run in the session's transaction and cost a tenth of what the same costs through the ORM. Application code has
no need of this.
"""

import re
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import cache, lru_cache
from typing import Any, NamedTuple, cast

from asyncpg import Connection, InterfaceError, InternalClientError, PostgresError  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy import AsyncAdaptedQueuePool, event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

# Where a session that lives for one transaction alone keeps its connection.
_KEPT = "crmkit.driver"


class _Begun:
    """A transaction that was begun by text, as SQLAlchemy's side of the driver ends one."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def commit(self) -> None:
        """Keeps what was done."""
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        """Takes back what was done."""
        await self._connection.execute("ROLLBACK")


async def begin(session: AsyncSession) -> Any:
    """Begins the one transaction of a session, without the ORM's detours; gives the driver's connection.

    `tests/test_driver.py` holds what this takes for granted of SQLAlchemy.
    """
    pooled: Any = await (await session.connection()).get_raw_connection()
    connection, adapted = pooled.driver_connection, pooled.dbapi_connection
    # Before it has begun: who is stopped while it begins must take it back.
    adapted._transaction = _Begun(connection)
    await connection.execute("BEGIN")
    session.info[_KEPT] = connection
    return connection


class _Asked(NamedTuple):
    """The statement that asks about types, where none was needed: named, so it has put no other aside."""

    name: str = "none"


class Driver(Connection):
    """A connection that asks about no type which the process knows: to be told of one costs as much as thirty
    statements, and every new connection meets the same arrays. What a database made itself is asked about.

    `tests/test_driver.py` holds what this takes for granted of asyncpg.
    """

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:  # noqa: ASYNC109
        oids = frozenset(typeoids)
        ask = cast("Any", super())._introspect_types
        if max(oids) >= _FIRST_OF_DATABASE:
            return await ask(typeoids, timeout)
        if oids not in _BUILT_IN:
            _BUILT_IN[oids], statement = await ask(typeoids, timeout)
            return _BUILT_IN[oids], statement
        return _BUILT_IN[oids], _Asked()


# By PostgreSQL's rule: types below it are the same in every database of a server.
_FIRST_OF_DATABASE = 16384
_BUILT_IN: dict[frozenset[int], list[Any]] = {}


class KeptPool(AsyncAdaptedQueuePool):
    """Keeps connections for as long as they are needed: to make one costs as much as fifty statements.

    What lay idle for a whole while is closed, one after the other, down to `keep`.
    """

    keep = 0
    idle_seconds = 30.0

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._since, self._least_idle = time.monotonic(), self._pool.maxsize

    def _do_return_conn(self, record: Any) -> None:
        self._least_idle = min(self._least_idle, self._pool.qsize())
        if time.monotonic() - self._since < self.idle_seconds:
            super()._do_return_conn(record)
            return
        idle, self._since, self._least_idle = self._least_idle, time.monotonic(), self._pool.maxsize
        if not idle or self._pool.qsize() < self.keep:
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()


def replace_closed(engine: AsyncEngine) -> None:
    """Lets the pool hand out no connection that the driver knows to be closed."""

    def on_checkout(dbapi_connection: Any, record: Any, proxy: Any) -> None:
        if dbapi_connection.driver_connection.is_closed():
            raise InvalidatePoolError

    event.listen(engine.sync_engine.pool, "checkout", on_checkout)


@lru_cache(1024)
def together(statements: tuple[str, ...], counted: int = 0) -> str:
    """One statement that does what several INSERT, UPDATE and DELETE do, with their arguments one behind the other.

    All see the database as it was before: no row may be written by two of them. The first ones, which return their
    rows, can be `counted`: then the statement's value is how many rows these have written.
    """
    parts: list[str] = []
    count = 0
    for statement in statements:
        numbers = [int(number) for number in _PLACEHOLDER.findall(statement)]
        parts.append(_PLACEHOLDER.sub(lambda found, shift=count: f"${int(found[1]) + shift}", statement))
        count += max(numbers, default=0)
    if counted:
        parts.append(
            "SELECT " + " + ".join(f"(SELECT count(*) FROM part{number})" for number in range(counted))
        )
    *others, last = parts
    if not others:
        return last
    named = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(others))
    return f"WITH {named} {last}"


_PLACEHOLDER = re.compile(r"\$(\d+)")


async def driver(session: AsyncSession) -> Any:
    """The asyncpg connection of the session's open transaction."""
    if (kept := session.info.get(_KEPT)) is not None:
        if session.in_nested_transaction():
            # SQLAlchemy sets a savepoint with the first statement behind it that goes through itself.
            await session.connection()
        return kept
    connection = await session.connection()
    found = await driver_of(connection)
    if not found.is_in_transaction():
        # SQLAlchemy begins with the first statement that goes through itself; before that one, each would commit.
        await connection.exec_driver_sql("SELECT 1")
    return found


async def driver_of(connection: AsyncConnection) -> Any:
    """The asyncpg connection under a connection whose transaction has begun."""
    return (await connection.get_raw_connection()).driver_connection


async def _pooled(engine: AsyncEngine) -> Any:
    """A connection of the pool; ConnectionError where the server cannot be reached."""
    try:
        return await engine.raw_connection()
    except AsyncAdapt_asyncpg_dbapi.Error as error:
        # Without a statement under way SQLAlchemy leaves the driver's error as it is.
        raise ConnectionError(str(error)) from error


# For a transaction whose every statement serves all arguments alike: none is planned for each anew.
BEGIN_PLANNED = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan"


@asynccontextmanager
async def planned_once(connection: Any) -> AsyncGenerator[None]:
    """Within, statements keep the plan that the connection has of them, whatever their arguments.

    Not for what a partial index serves by its arguments: such a plan cannot use one.
    """
    await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    yield
    await connection.execute("SET LOCAL plan_cache_mode = auto")


@asynccontextmanager
async def transaction(engine: AsyncEngine, begin: str = "BEGIN") -> AsyncGenerator[Any]:
    """A driver connection in a transaction of its own, committed when left, rolled back by an exception."""
    pooled = await _pooled(engine)
    while (connection := pooled.driver_connection).is_closed():
        # The server has ended it while it lay in the pool; a fresh one takes its place.
        pooled.invalidate()
        pooled = await _pooled(engine)
    clean = False
    try:
        await connection.execute(begin)
        yield connection
        await connection.execute("COMMIT")
        clean = True
    except Exception:
        with suppress(PostgresError, InterfaceError, InternalClientError, OSError, TimeoutError):
            await connection.execute("ROLLBACK", timeout=1)
            clean = True
        raise
    finally:
        if not clean:
            # What state it is in nobody knows, as after a deadline in the middle of a statement.
            pooled.invalidate()
        # One that the pool has no room for is closed, which SQLAlchemy does as it does all its waiting.
        await greenlet_spawn(pooled.close)


@cache
def inserting(table: str, columns: tuple[str, ...], conflict: str, unless_newer: str = "") -> str:
    """The text that inserts a row of these columns, in this order; `conflict` follows ON CONFLICT.

    Where that ends in DO UPDATE all columns are set anew, under a condition on `known` and `excluded` if one is given.
    """
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    statement = (
        f"INSERT INTO {table} AS known ({', '.join(columns)}) VALUES ({values}) ON CONFLICT {conflict}"
    )
    if conflict.endswith("DO UPDATE"):
        statement += f" SET {', '.join(f'{column} = excluded.{column}' for column in columns)}"
    return f"{statement} WHERE {unless_newer}" if unless_newer else statement
