"""The real servers, once per session, and a database of its own for every test."""

import contextlib
import itertools
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from crmkit import migrate
from crmkit.bus import Bus, StreamLimits
from crmkit.events import Fact
from crmkit.metrics import Metrics
from local_platform.servers import ensure_database, nats, postgres
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

SMALL = StreamLimits(max_bytes=32 * 1024 * 1024)
_numbers = itertools.count(1)


@dataclass
class Call:
    """What a handler or job gets in these tests: a transaction."""

    db: AsyncSession
    method: str = ""

    async def flush(self) -> None:
        await self.db.flush()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The administrator's URL, without a database."""
    async with postgres(tmp_path_factory.mktemp("postgres"), free_port()) as url:
        yield url


@pytest.fixture(scope="session")
async def nats_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with nats(tmp_path_factory.mktemp("nats"), free_port()) as url:
        yield url


@pytest.fixture(scope="session")
async def template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a database with the kit's tables and one for effects, to be copied; as the app's role."""
    own = tmp_path_factory.mktemp("service") / "migrations"
    (own / "versions").mkdir(parents=True)
    (own / "env.py").write_text(
        "from crmkit.migrate import run\nfrom sqlalchemy import MetaData\nrun(MetaData())\n"
    )
    (own / "versions" / "first.py").write_text(
        "from alembic import op\n"
        'revision = "first"\n'
        "down_revision = None\n"
        "def upgrade():\n"
        '    op.execute("CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY, note text)")\n'
    )
    database = await ensure_database(postgres_url, "kit")
    await migrate.upgrade(f"{database.owner_url}/kit", "kit", own)
    # Again, as every start does.
    await migrate.upgrade(f"{database.owner_url}/kit", "kit", own)
    return database.url


@pytest.fixture
async def engine(postgres_url: str, template: str) -> AsyncIterator[AsyncEngine]:
    """A fresh database, as the app sees it."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_url, database="postgres")
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE kit")
    await admin.close()
    url = template.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(f"{url}/{name}", pool_size=20)
    yield engine
    await engine.dispose()


@pytest.fixture
def area() -> str:
    """An area of its own, so that tests share a server and not a stream."""
    return f"area{next(_numbers)}"


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with Bus(nats_url, "test", SMALL) as bus:
        await bus.connected()
        yield bus


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


OpenCall = Callable[[str, Fact | None], AbstractAsyncContextManager[Call]]


@pytest.fixture
def open_call(engine: AsyncEngine) -> OpenCall:
    @asynccontextmanager
    async def open_call(method: str, cause: Fact | None) -> AsyncIterator[Call]:
        async with AsyncSession(engine) as session, session.begin():
            yield Call(session)

    return open_call


class OwnNats:
    """A NATS of one test alone, to be killed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._running = contextlib.AsyncExitStack()
        self.url = ""

    async def start(self) -> None:
        self.url = await self._running.enter_async_context(nats(self._directory, self._port))

    async def kill(self) -> None:
        """As kill -9: nothing is said or flushed."""
        pid = int((self._directory / "nats.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await self._running.aclose()

    async def stop(self) -> None:
        await self._running.aclose()


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[OwnNats]:
    server = OwnNats(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()
