"""Facts through the real servers: each has its effect once, whatever breaks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from crmkit.bus import Bus
from crmkit.events import Consumers, Fact, HandlerCall, OpenCall
from crmkit.metrics import Metrics
from crmkit.outbox import Relay, emit_rows, new_fact
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


async def note(event: Fact, call: HandlerCall) -> None:
    await call.db.execute(text("INSERT INTO effects (note) VALUES (:note)"), {"note": event.payload["note"]})


async def write(engine: AsyncEngine, area: str, *notes: str, aggregate: str = "things/1") -> None:
    facts = [
        new_fact(
            f"crm.{area}.v1.ThingDone",
            aggregate=aggregate,
            version=1,
            payload=json.dumps({"note": note}),
            actor="employees/1",
        )
        for note in notes
    ]
    async with AsyncSession(engine) as session, session.begin():
        await emit_rows(session, facts)


async def effects(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT note FROM effects ORDER BY id")))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def relay(engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics) -> Relay:
    return Relay(engine, bus, area, metrics)


@pytest.fixture
def consumers(
    engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics, open_call: OpenCall
) -> Callable[..., Consumers]:
    def make(*functions: Any) -> Consumers:
        return Consumers("listener", [area], functions, open_call, engine, bus, metrics)

    return make


async def test_a_fact_reaches_its_handler_once(
    engine: AsyncEngine, area: str, relay: Relay, consumers: Any
) -> None:
    await write(engine, area, "a", "b")
    async with running(relay, consumers(note)):
        await until(lambda: _has(engine, 2))
    assert await effects(engine) == ["a", "b"]


async def _has(engine: AsyncEngine, count: int) -> bool:
    return len(await effects(engine)) >= count
