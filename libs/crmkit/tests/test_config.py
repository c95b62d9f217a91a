"""Live configuration through a real bucket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest
from crmkit.bus import Bus
from crmkit.config import BUCKET, Config
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


class OwnNats(Protocol):
    url: str

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the point is how soon it is seen)
            await asyncio.sleep(0.01)


async def saved(engine: AsyncEngine) -> dict[str, Any]:
    async with engine.connect() as connection:
        return {row.key: row.value for row in await connection.execute(text("SELECT * FROM config_entries"))}


@pytest.fixture
async def own_bus(own_nats: OwnNats) -> AsyncIterator[Bus]:
    """The bucket has one name, so these tests need a server each."""
    async with Bus(own_nats.url, "test") as bus:
        yield bus


@pytest.fixture
async def workspace(own_bus: Bus, engine: AsyncEngine) -> AsyncIterator[Config]:
    async with Config(engine, own_bus, owner=True) as config:
        yield config


@pytest.fixture
async def reader(own_bus: Bus, workspace: Config) -> AsyncIterator[Config]:
    async with Config(None, own_bus) as config:
        yield config


async def test_a_change_is_seen_by_everybody_within_a_second(workspace: Config, reader: Config) -> None:
    told: list[tuple[str, Any]] = []
    reader.changed("role.", lambda key, value: told.append((key, value)))
    begun = time.monotonic()
    await workspace.put("role.seller", {"scope": "OWN", "label": {"zh": "销售"}})
    await workspace.put("employee.1", {"disabled": False})
    await until(lambda: reader.get("employee.1") is not None and workspace.get("employee.1") is not None)
    # A second on a machine of its own.
    assert time.monotonic() - begun < 5
    assert reader.get("role.seller") == {"scope": "OWN", "label": {"zh": "销售"}}
    assert reader.prefix("role.") == {"seller": {"scope": "OWN", "label": {"zh": "销售"}}}
    await workspace.delete("role.seller")
    await until(lambda: reader.get("role.seller") is None)
    assert told == [("role.seller", {"scope": "OWN", "label": {"zh": "销售"}}), ("role.seller", None)]
    assert reader.prefix("role.") == {}


async def test_who_read_first_and_writes_last_reads_again(own_bus: Bus, workspace: Config) -> None:
    bucket = await own_bus.js.key_value(BUCKET)
    for first, quicker in (({"scope": "BELOW"}, {"scope": "ALL"}), (None, {"scope": "OWN"}), ({}, None)):
        truth, looked = first, 0

        async def slow() -> Any:
            nonlocal truth, looked
            looked += 1
            read = truth
            if looked == 1:
                # Between its look and its word somebody quicker changes the truth and tells it.
                truth = quicker  # noqa: B023
                await (workspace.put("role.seller", truth) if truth else workspace.delete("role.seller"))
            return read

        await workspace.revise("role.seller", slow)
        assert looked == 2
        if quicker:
            assert json.loads((await bucket.get("role.seller")).value or b"") == quicker
    with pytest.raises(KeyNotFoundError):
        await bucket.get("role.seller")


async def test_who_starts_later_knows_all_at_once(workspace: Config, own_bus: Bus) -> None:
    for number in range(300):
        await workspace.put(f"employee.{number}", {"department": f"departments/{number}"})
    async with Config(None, own_bus) as late:
        assert len(late.prefix("employee.")) == 300


async def test_an_app_starts_with_what_it_knew_last_while_nats_is_away(
    own_bus: Bus, own_nats: OwnNats, engine: AsyncEngine, workspace: Config
) -> None:
    await workspace.put("role.seller", {"scope": "OWN"})
    await workspace.put("role.clerk", {"scope": "ALL"})
    await until(lambda: len(workspace.prefix("role.")) == 2)
    await asyncio.sleep(1.2)
    assert await saved(engine) == {"role.seller": {"scope": "OWN"}, "role.clerk": {"scope": "ALL"}}
    await own_nats.kill()
    async with Bus(own_nats.url, "later") as bus, Config(engine, bus) as config:
        assert config.get("role.seller") == {"scope": "OWN"}
        await own_nats.start()
        await until(lambda: bus.up and own_bus.up)
        await workspace.delete("role.clerk")
        await workspace.put("role.seller", {"scope": "BELOW"})
        await until(lambda: config.get("role.seller") == {"scope": "BELOW"} and not config.get("role.clerk"))
    assert await saved(engine) == {"role.seller": {"scope": "BELOW"}}


async def test_changes_are_seen_again_after_nats_was_killed(
    own_bus: Bus, own_nats: OwnNats, workspace: Config, reader: Config
) -> None:
    await workspace.put("role.seller", {"scope": "OWN"})
    await until(lambda: reader.get("role.seller") is not None)
    await own_nats.kill()
    await asyncio.sleep(0.3)
    assert reader.get("role.seller") == {"scope": "OWN"}
    await own_nats.start()
    await asyncio.wait_for(own_bus.connected(), 30)
    await workspace.put("role.seller", {"scope": "ALL"})
    await until(lambda: reader.get("role.seller") == {"scope": "ALL"})


async def test_the_owner_fills_a_lost_bucket_and_nobody_forgets(
    own_bus: Bus, workspace: Config, reader: Config
) -> None:
    await workspace.put("role.seller", {"scope": "OWN"})
    await until(lambda: reader.get("role.seller") is not None and workspace.get("role.seller") is not None)
    await own_bus.js.delete_key_value(BUCKET)
    forgot = False

    def refilled() -> bool:
        nonlocal forgot
        forgot |= reader.get("role.seller") is None
        return False

    with pytest.raises(TimeoutError):
        await until(refilled, 4)
    assert not forgot
    assert (await (await own_bus.js.key_value(BUCKET)).get("role.seller")).value == b'{"scope": "OWN"}'
    await workspace.put("role.seller", {"scope": "ALL"})
    await until(lambda: reader.get("role.seller") == {"scope": "ALL"})


async def test_a_mark_of_the_end_that_comes_too_early_brings_nothing_back(
    own_bus: Bus, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own_bus.connected()
    async with Config(engine, own_bus, owner=True) as workspace:
        await workspace.put("role.seller", {"scope": "OWN"})
        await workspace.put("role.clerk", {"scope": "ALL"})
        await until(lambda: len(workspace.prefix("role.")) == 2)
    bucket = await own_bus.js.key_value(BUCKET)
    await bucket.delete("role.clerk")
    whole = KeyValue.watchall

    async def early(bucket: KeyValue, **options: Any) -> KeyValue.KeyWatcher:
        watcher = await whole(bucket, **options)
        entries = [watcher._updates.get_nowait() for _ in range(watcher._updates.qsize())]
        for entry in [None, *entries]:
            watcher._updates.put_nowait(entry)
        return watcher

    monkeypatch.setattr(KeyValue, "watchall", early)
    async with Config(engine, own_bus, owner=True) as later:
        await until(lambda: later.prefix("role.") == {"seller": {"scope": "OWN"}})
    with pytest.raises(KeyNotFoundError):
        await bucket.get("role.clerk")


async def test_a_value_that_cannot_be_sent_is_not_believed(
    own_bus: Bus, own_nats: OwnNats, workspace: Config
) -> None:
    await own_nats.kill()
    await until(lambda: not own_bus.up)
    with pytest.raises(ConnectionError):
        await workspace.put("role.seller", {"scope": "OWN"})
    assert workspace.get("role.seller") is None


async def test_who_is_written_again_while_the_bucket_is_read_is_not_forgotten(
    own_bus: Bus, engine: AsyncEngine, workspace: Config
) -> None:
    people = [f"employee.{number}" for number in range(20)]
    for person in people:
        await workspace.put(person, {"written": 0})
    await workspace.put("role.last", {"scope": "OWN"})
    await until(lambda: len(workspace.prefix("employee.")) == 20)
    await asyncio.sleep(1.2)
    told: list[tuple[str, Any]] = []

    async def write() -> None:
        for number in range(1, 100_000):
            await workspace.put(people[number % 20], {"written": number})

    writing = asyncio.create_task(write())
    for _ in range(30):
        later = Config(engine, own_bus)
        later.changed("employee.", lambda key, value: told.append((key, value)))
        async with later:
            assert len(later.prefix("employee.")) == 20
    writing.cancel()
    assert told and all(value for _, value in told)
