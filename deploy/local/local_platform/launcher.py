"""Starts the whole platform in order, keeps it running, and stops it in reverse.

Servers → databases → migrations → apps and gateway. An app that crashes starts again; Ctrl-C and SIGTERM stop
everything gracefully, and after a kill -9 the next start ends what was left. `DATABASE_URL`, `NATS_URL` and
`OIDC_ISSUER` in the environment replace the embedded server of that kind.
"""

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx
from crmkit import map
from crmkit.map import APPS, AppEntry, moved
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local_platform import people, servers
from local_platform.child import Child, StartFailed
from local_platform.issuer import issuer
from local_platform.keycloak import keycloak
from local_platform.layout import ROOT, STATE
from local_platform.secret import Secrets

GATEWAY = "gateway"
LOGS = STATE / "logs"
LOG_LIMIT = 20 * 2**20
READY_WITHIN = 60
RESTART_AFTER = (0.5, 1, 2, 5, 10)


@dataclass(frozen=True)
class Platform:
    """Where the running platform is reached."""

    url: str
    issuer: str
    identity: str


async def run(identity: str, demo: bool) -> None:
    """Run the platform until it is told to stop; raise `StartFailed` if it cannot start."""
    stopping = _stop_on_signals()
    began = time.monotonic()
    with _only_one():
        try:
            async with platform(identity) as running:
                say(f"ready in {time.monotonic() - began:.1f} s")
                _welcome(running)
                if demo:
                    await _load_demo(running)
                await stopping.wait()
        except asyncio.CancelledError:
            if not stopping.is_set():
                raise
    say("stopped")


@asynccontextmanager
async def platform(identity: str) -> AsyncIterator[Platform]:
    """Start everything and yield once every app is ready; stop it in reverse on the way out."""
    secrets = Secrets()
    url = f"http://127.0.0.1:{moved(_entry(GATEWAY).port)}"
    async with AsyncExitStack() as stack:
        admin_url, nats_url, issuer_url = await _start_servers(stack, identity, url, secrets)
        common = {
            **os.environ,
            "NATS_URL": nats_url,
            "OIDC_ISSUER": issuer_url,
            "OIDC_AUDIENCE": "crm-api",
            "SECRET_KEY": secrets.get("platform"),
            "FILES_URL": (STATE / "files").as_uri(),
            "ENVIRONMENT": "local",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "INFO"),
        }
        (STATE / "files").mkdir(parents=True, exist_ok=True)
        environments = {}
        for app in APPS:
            environments[app.name] = await _environment(app, common, admin_url, secrets)
        say("databases ready; migrating")
        await _together(_migrate(app, environments[app.name]) for app in APPS if app.database)
        say("starting " + ", ".join(app.name for app in APPS))
        apps = [App(app, environments[app.name]) for app in APPS]
        for app in apps:
            await stack.enter_async_context(app.running())
        await _together(app.ready() for app in apps)
        yield Platform(url, issuer_url, identity)
        say("stopping")


class App:
    """One app as a process that is started again when it ends by itself."""

    def __init__(self, entry: AppEntry, environment: dict[str, str]) -> None:
        self.entry = entry
        self._child = _python(entry.name, [entry.name, "serve"], environment)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the process running inside the context."""
        await self._child.start()
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._child.stop()

    async def ready(self) -> None:
        """Wait until the app answers its health check."""
        deadline = time.monotonic() + READY_WITHIN
        while not await self._healthy():
            if not self._child.running:
                raise StartFailed(f"{self.entry.name} ended while starting.\n{self._child.tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.entry.name} was not ready in {READY_WITHIN} s.\n{self._child.tail()}"
                )
            await asyncio.sleep(0.2)
        say(f"  {self.entry.name} on port {moved(self.entry.port)}")

    async def _healthy(self) -> bool:
        target = f"127.0.0.1:{moved(self.entry.port)}"
        if self.entry.name == GATEWAY:
            try:
                async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                    return (await client.get(f"http://{target}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False
        async with grpc.aio.insecure_channel(target) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=2
                )
            except grpc.aio.AioRpcError:
                return False
            return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def _keep(self) -> None:
        crashes = 0
        while True:
            started = time.monotonic()
            code = await self._child.wait()
            crashes = 0 if time.monotonic() - started > 60 else crashes + 1
            pause = RESTART_AFTER[min(crashes, len(RESTART_AFTER) - 1)]
            say(f"{self.entry.name} ended with code {code}; it starts again in {pause} s ({self._child.log})")
            await asyncio.sleep(pause)
            await self._child.start()


async def _start_servers(
    stack: AsyncExitStack, identity: str, url: str, secrets: Secrets
) -> tuple[str, str, str]:
    """Start what the environment does not name, all at once, and return the three URLs."""

    async def start(variable: str, title: str, server: Callable[[], AbstractAsyncContextManager[str]]) -> str:
        if variable in os.environ:
            say(f"{title}: {variable} is set, nothing to start")
            return os.environ[variable]
        address = await stack.enter_async_context(server())
        say(f"{title} ready")
        return address

    async with asyncio.TaskGroup() as group:
        database = group.create_task(
            start(
                "DATABASE_URL",
                "PostgreSQL",
                lambda: servers.postgres(STATE / "postgres", moved(map.POSTGRES_PORT)),
            )
        )
        bus = group.create_task(
            start("NATS_URL", "NATS", lambda: servers.nats(STATE / "nats", moved(map.NATS_PORT)))
        )
        provider = group.create_task(
            start("OIDC_ISSUER", "Identity", lambda: _identity(identity, url, secrets))
        )
    return database.result(), bus.result(), provider.result()


def _identity(identity: str, url: str, secrets: Secrets) -> AbstractAsyncContextManager[str]:
    if identity == "keycloak":
        say("Keycloak takes half a minute; the first time it is fetched and built")
        origins = [url, url.replace("127.0.0.1", "localhost")]
        return keycloak(STATE / "keycloak", moved(map.KEYCLOAK_PORT), origins, secrets)
    return issuer(STATE / "issuer", moved(map.ISSUER_PORT))


async def _environment(
    app: AppEntry, common: dict[str, str], admin_url: str, secrets: Secrets
) -> dict[str, str]:
    environment = {**common, "METRICS_PORT": str(moved(app.metrics_port))}
    if app.database:
        database = await servers.ensure_database(admin_url, app.name, secrets)
        environment["DATABASE_URL"] = database.url
        environment["MIGRATION_DATABASE_URL"] = database.owner_url
    else:
        environment.pop("DATABASE_URL", None)
    if app.name == GATEWAY:
        environment["HTTP_PORT"] = str(moved(app.port))
        environment["WEB_ROOT"] = str(ROOT / "web" / "dist")
        environment["SERVICES"] = ",".join(
            f"{other.name}=127.0.0.1:{moved(other.port)}" for other in APPS if other.name != GATEWAY
        )
    else:
        environment["GRPC_PORT"] = str(moved(app.port))
    return environment


async def _migrate(app: AppEntry, environment: dict[str, str]) -> None:
    child = _python(f"{app.name}-migrate", [app.name, "migrate"], environment)
    await child.start()
    try:
        if await child.wait():
            raise StartFailed(f"{app.name} could not migrate.\n{child.tail()}")
    finally:
        await child.stop()


async def _load_demo(running: Platform) -> None:
    """Load the demo company once per database, after the platform is ready for use."""
    server = os.environ.get("DATABASE_URL") or (STATE / "postgres" / "password").read_text()
    stamp = STATE / "state" / f"demo-{hashlib.sha256(server.encode()).hexdigest()[:12]}"
    if stamp.exists():
        return
    say("loading the demo company; it can be watched while it grows")
    environment = {**os.environ, "CRM_URL": running.url, "OIDC_ISSUER": running.issuer}
    child = _python("demo", ["local_platform.demo"], environment)
    await child.start()
    try:
        if await child.wait():
            say(f"the demo company could not be loaded:\n{child.tail()}")
            return
    finally:
        await child.stop()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    say("the demo company is loaded")


def _python(name: str, module: list[str], environment: dict[str, str]) -> Child:
    log = LOGS / f"{name}.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    return Child(
        name,
        [sys.executable, "-m", *module],
        log=log,
        pid_file=STATE / "run" / f"{name}.pid",
        env=environment,
        cwd=ROOT,
    )


def _welcome(running: Platform) -> None:
    """Print where to go and who may sign in."""
    print(
        f"\n  Guanxi CRM   {running.url}\n  API          {running.url}/docs\n  Sign in at   {running.issuer}\n"
    )
    secrets = Secrets()
    for person in people.load().people.values():
        key = people.password(person, secrets) if running.identity == "keycloak" else ""
        print(f"  {person.username:<10} {person.en:<12} {', '.join(person.roles):<22} {key}")
    print("\n  Ctrl-C stops everything.\n", flush=True)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _entry(name: str) -> AppEntry:
    return next(app for app in APPS if app.name == name)


async def _together(work: Any) -> None:
    """Run all at once; the first failure ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        for piece in work:
            group.create_task(piece)


def _stop_on_signals() -> asyncio.Event:
    """Return the event that Ctrl-C or SIGTERM sets; before the platform is ready they cancel the start."""
    stopping, task = asyncio.Event(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        # A second Ctrl-C must not cut the graceful stop short.
        if not stopping.is_set():
            stopping.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping


@contextmanager
def _only_one() -> Any:
    """Hold the state directory; two launchers would end each other's processes."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"The platform of {STATE} is running already.") from None
        yield
