"""What requests say to the database, counted: the figures that tests of costs hold."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from sqlalchemy import event

from crmkit.rpc import Pipeline

OF_TYPES = ("typeinfo_tree", "set_config('jit'")
_IN_REQUEST: ContextVar[bool] = ContextVar("in_request", default=False)


@contextmanager
def round_trips(service: Any, patch: pytest.MonkeyPatch) -> Generator[list[str]]:
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

    engine = service.running.engine.sync_engine
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
