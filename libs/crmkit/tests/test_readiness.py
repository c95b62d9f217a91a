"""Readiness tells whether an app can serve, and an app does not start where it could not hold its word."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from crmkit import readiness
from crmkit.bus import Bus, UnsafeStream
from crmkit.readiness import Readiness, Revisions, UnsafeSettings, refuse_unsafe
from nats.js.api import StorageType, StreamConfig
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


@pytest.fixture
def around() -> Any:
    """An app that lacks nothing but what a test takes away."""
    return SimpleNamespace(
        verifier=SimpleNamespace(knows_keys=True, warm=lambda: None),
        config=SimpleNamespace(prefix=lambda _: {"role.administrator": {}}),
        bus=SimpleNamespace(unsafe=""),
    )


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    write(tmp_path, "first", "None")
    return tmp_path


def write(folder: Path, revision: str, before: str) -> None:
    body = f'revision: str = "{revision}"\ndown_revision: str | None = {before}\n'
    (folder / "versions" / f"{revision}.py").write_text(body)


def asking(engine: AsyncEngine, around: Any, migrations: Path) -> Readiness:
    return Readiness(engine, around.verifier, around.config, around.bus, migrations)


async def test_an_app_that_lacks_nothing_is_ready(engine: AsyncEngine, around: Any, migrations: Path) -> None:
    assert await asking(engine, around, migrations).missing() == []


async def test_without_keys_or_roles_nobody_could_be_let_in(
    engine: AsyncEngine, around: Any, migrations: Path
) -> None:
    around.verifier.knows_keys = False
    around.config.prefix = lambda _: {}
    around.bus.unsafe = "the stream crm-sales is not kept in files"
    assert await asking(engine, around, migrations).missing() == [
        "the issuer's keys are not known", "no role is known", "the stream crm-sales is not kept in files",
    ]  # fmt: skip


async def test_older_tables_are_too_old_and_newer_ones_are_not(
    engine: AsyncEngine, around: Any, migrations: Path
) -> None:
    write(migrations, "second", '"first"')
    assert await asking(engine, around, migrations).missing() == ["the database has older tables"]
    revisions = Revisions(migrations)
    assert revisions.newest == "second"
    assert revisions.serves("second")
    assert revisions.serves("of_a_later_release")
    assert not revisions.serves(None)


async def test_a_clock_that_is_off_by_more_than_five_seconds_is_seen(
    engine: AsyncEngine, around: Any, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asking(engine, around, migrations)
    real = time.time
    for off, told in ((4, []), (-300, ["the clock is -300 s off the database's"]), (3600, ["the clock is 3600 s off the database's"])):  # fmt: skip
        monkeypatch.setattr(readiness.time, "time", lambda off=off: real() + off)
        assert await asked.missing() == told


async def test_a_database_without_tables_or_without_an_answer_is_told_apart(
    postgres_url: str, around: Any, migrations: Path
) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    for database, why in (
        ("postgres", "the database has no tables yet"),
        ("nowhere", "the database does not answer"),
    ):
        bare = create_async_engine(f"{url}/{database}")
        assert await asking(bare, around, migrations).missing() == [why]
        await bare.dispose()


async def test_one_hiccup_is_not_told_and_a_return_is(
    engine: AsyncEngine, around: Any, migrations: Path
) -> None:
    told: list[bool] = []

    async def tell(ready: bool) -> None:
        told.append(ready)

    asked = asking(engine, around, migrations)
    for keys in (False, True, False, True, False, False, True):
        around.verifier.knows_keys = keys
        await asked.ask(tell)
    assert told == [False, True, False, True]
    assert asked.ready


@pytest.fixture
async def careless(engine: AsyncEngine, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """The database with an unsafe setting of its own."""
    setting = {"server_settings": {"synchronous_commit": request.param}}
    bent = create_async_engine(engine.url, connect_args=setting)
    yield bent
    await bent.dispose()


@pytest.mark.parametrize("careless", ["off"], indirect=True)
async def test_an_app_refuses_a_database_that_may_lose_what_it_commits(careless: AsyncEngine) -> None:
    with pytest.raises(UnsafeSettings, match="synchronous_commit = off"):
        await refuse_unsafe(careless)


@pytest.mark.parametrize("careless", ["on", "remote_apply", "local"], indirect=True)
async def test_it_takes_one_that_keeps_them(careless: AsyncEngine) -> None:
    await refuse_unsafe(careless)


async def test_fsync_and_full_pages_may_not_be_off(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are the server's own, which other tests share; so another table of the same form is asked.
    monkeypatch.setattr(
        readiness, "_SETTINGS",
        text("SELECT * FROM (VALUES ('fsync', 'off'), ('full_page_writes', 'off')) AS s(name, setting) WHERE name = ANY(:names)"),
    )  # fmt: skip
    with pytest.raises(UnsafeSettings, match="fsync = off, full_page_writes = off"):
        await refuse_unsafe(engine)


async def test_a_stream_in_memory_is_refused_and_told(bus: Bus, area: str) -> None:
    await bus.js.add_stream(
        StreamConfig(name=f"crm-{area}", subjects=[f"crm.{area}.v1.>"], storage=StorageType.MEMORY)
    )
    with pytest.raises(UnsafeStream):
        await bus.ensure_stream(area)
    assert bus.unsafe == f"the stream crm-{area} is not kept in files"
