"""Starts the whole platform in order, keeps it running, and stops it in reverse.

Servers → databases → migrations → apps and gateway. An app that crashes starts again; Ctrl-C and SIGTERM stop
everything gracefully, and after a kill -9 the next start ends what was left. `DATABASE_URL`, `NATS_URL` and
`OIDC_ISSUER` in the environment replace the embedded server of that kind.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmkit.map import APPS, ISSUER_PORT, KEYCLOAK_PORT, NATS_PORT, POSTGRES_PORT, AppEntry, moved

from local_platform import migrations, people, servers
from local_platform.agent import Agent
from local_platform.app import App
from local_platform.child import Child, StartFailed
from local_platform.forks import ForkedChild, Forks
from local_platform.issuer import CLIENT, issuer
from local_platform.keycloak import keycloak
from local_platform.layout import PEOPLE, ROOT, STATE
from local_platform.secret import Secrets

if TYPE_CHECKING:
    from local_platform.inline import InlineApp

GATEWAY = "gateway"
LOG_LIMIT = 20 * 2**20


@dataclass(frozen=True)
class Running:
    """Where a running platform is reached."""

    url: str
    issuer: str
    # The administrator's URL of PostgreSQL.
    database: str = ""


class Platform:
    """One platform: the apps of the map, with all state in one directory."""

    def __init__(
        self,
        identity: str = "dev",
        apps: Sequence[AppEntry] = APPS,
        state: Path = STATE,
        one_process: bool = False,
    ) -> None:
        self.identity, self.apps, self.state, self.one_process = identity, apps, state, one_process
        self.secrets = Secrets(state / "secrets.json")
        self.forks = Forks(
            [] if one_process else [app.name for app in apps],
            log=state / "logs" / "forks.log",
            pid_file=state / "run" / "forks.pid",
            cwd=ROOT,
        )
        self.url = f"http://127.0.0.1:{moved(next(app.port for app in APPS if app.name == GATEWAY))}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Running]:
        """Start everything and yield once every app is ready; stop it in reverse on the way out."""
        with self._alone():
            async with AsyncExitStack() as stack:
                # First, since it imports for longer than the servers take.
                await stack.enter_async_context(self.forks.running())
                admin_url, nats_url, issuer_url = await self._start_servers(stack)
                environments = await self._environments(admin_url, nats_url, issuer_url)
                say("databases ready, migrating")
                await self._migrate(admin_url, environments)
                say("starting the apps")
                await self._start_apps(stack, environments)
                try:
                    yield Running(self.url, issuer_url, admin_url)
                finally:
                    say("stopping")

    async def load_demo(self, running: Running) -> None:
        """Load the demo company, once per database."""
        server = os.environ.get("DATABASE_URL") or (self.state / "postgres" / "password").read_text()
        stamp = self.state / "state" / f"demo-{hashlib.sha256(server.encode()).hexdigest()[:12]}"
        if stamp.exists():
            return
        say("loading the demo company; the platform can be used meanwhile")
        environment = {**os.environ, "CRM_URL": running.url, "OIDC_ISSUER": running.issuer}
        try:
            await self._finish(self._python("local_platform.demo", None, environment))
        except StartFailed as failure:
            # The platform itself is well; the next start tries again.
            say(f"the demo company could not be loaded: {failure}")
            return
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        say("the demo company is loaded")

    async def _start_apps(self, stack: AsyncExitStack, environments: dict[str, dict[str, str]]) -> None:
        apps = [self._app(entry, environments[entry.name]) for entry in self.apps]
        for app in apps:
            await stack.enter_async_context(app.running())
        await together(app.ready() for app in apps)

    def _app(self, entry: AppEntry, environment: dict[str, str]) -> "App | InlineApp":
        if self.one_process:
            from local_platform.inline import InlineApp

            return InlineApp(entry, environment)
        return App(entry, self._python(entry.name, "serve", environment))

    async def _start_servers(self, stack: AsyncExitStack) -> tuple[str, str, str]:
        """Start at once what the environment does not name, and return the three URLs."""

        async def start(
            variable: str, title: str, server: Callable[[], AbstractAsyncContextManager[str]]
        ) -> str:
            if os.environ.get(variable):
                say(f"{title}: {variable} is set, nothing to start")
                return os.environ[variable]
            address = await stack.enter_async_context(server())
            say(f"{title} ready")
            return address

        async with asyncio.TaskGroup() as group:
            database = group.create_task(start("DATABASE_URL", "PostgreSQL", self._postgres))
            bus = group.create_task(start("NATS_URL", "NATS", self._nats))
            provider = group.create_task(start("OIDC_ISSUER", "identity", lambda: self._identity(database)))
        return database.result(), bus.result(), provider.result()

    def _postgres(self) -> AbstractAsyncContextManager[str]:
        return servers.postgres(self.state / "postgres", moved(POSTGRES_PORT))

    def _nats(self) -> AbstractAsyncContextManager[str]:
        return servers.nats(self.state / "nats", moved(NATS_PORT))

    @asynccontextmanager
    async def _identity(self, database: asyncio.Task[str]) -> AsyncIterator[str]:
        if self.identity == "keycloak":
            say("Keycloak takes a while, the first time longer: it is fetched and built")
            origins = [self.url, self.url.replace("127.0.0.1", "localhost")]
            directory, port = self.state / "keycloak", moved(KEYCLOAK_PORT)
            async with keycloak(directory, port, origins, await database, self.secrets) as url:
                yield url
            return
        secret = self.secrets.get("issuer.accounts")
        async with issuer(self.state / "issuer", moved(ISSUER_PORT), secret=secret) as url:
            yield url

    async def _environments(
        self, admin_url: str, nats_url: str, issuer_url: str
    ) -> dict[str, dict[str, str]]:
        """Make every app's database and return every app's environment, as docs/kit.md lists it."""
        files = self.state / "files"
        files.mkdir(parents=True, exist_ok=True)
        common = {
            # A backend that has served a while has 5 to 12 MB of its own, and there are eight services of them.
            "DB_POOL_SIZE": "6",
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "NATS_URL": nats_url,
            "OIDC_ISSUER": issuer_url,
            "OIDC_AUDIENCE": "crm-api",
            "SECRET_KEY": self.secrets.get("platform"),
            "FILES_URL": files.as_uri(),
            "GATEWAY_ISSUER_JWKS": f"{self.url}/session/jwks",
            "ENVIRONMENT": "local",
            # The people whom the issuer signs in are employees from the first start on.
            "SEED_COMPANY": str(PEOPLE),
        }
        environments = {}
        for app in self.apps:
            own = {"METRICS_PORT": str(moved(app.metrics_port))}
            if app.database:
                database = await servers.ensure_database(admin_url, app.name, self.secrets)
                own |= {"DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": database.owner_url}
            if app.name == "workspace" and not os.environ.get("OIDC_ISSUER"):
                # The provider follows the people whom workspace knows.
                own |= self._provider_settings(issuer_url)
            own |= self._gateway_settings() if app.name == GATEWAY else {"GRPC_PORT": str(moved(app.port))}
            environments[app.name] = common | own
        return environments

    def _provider_settings(self, issuer_url: str) -> dict[str, str]:
        if self.identity != "keycloak":
            secret = self.secrets.get("issuer.accounts")
            return {"DEV_ISSUER_URL": issuer_url, "DEV_ISSUER_SECRET": secret}
        secret = self.secrets.get("keycloak.guanxi-admin")
        return {"KEYCLOAK_URL": issuer_url.partition("/realms/")[0], "KEYCLOAK_ADMIN_SECRET": secret}

    def _gateway_settings(self) -> dict[str, str]:
        services = (f"{app.name}=127.0.0.1:{moved(app.port)}" for app in self.apps if app.name != GATEWAY)
        settings = {
            "HTTP_PORT": self.url.rpartition(":")[2],
            "SERVICES": ",".join(services),
            "OIDC_CLIENT_ID": CLIENT,
        }
        web = ROOT / "web" / "dist"
        if not web.exists():
            say("the web client is not built (`make setup`), so there is only the API")
            return settings
        return settings | {"WEB_ROOT": str(web)}

    async def _migrate(self, admin_url: str, environments: dict[str, dict[str, str]]) -> None:
        """Bring every database to the version of the code."""
        code = migrations.digest()
        behind = await migrations.behind(admin_url, [app.name for app in self.apps if app.database], code)
        if behind:
            own = {app: environments[app] for app in behind}
            environment = {**os.environ, "MIGRATIONS": json.dumps(own)}
            await self._finish(self._python("local_platform.migrations", None, environment))
            await migrations.note(admin_url, behind, code)

    async def _finish(self, child: Child) -> None:
        """Run a process to its end; a failure of it is a `StartFailed`."""
        await child.start()
        try:
            if await child.wait():
                raise StartFailed(f"{child.name} failed.\n{child.tail()}")
        finally:
            await child.stop()

    def _python(self, module: str, command: str | None, environment: dict[str, str]) -> Child:
        name = module.rpartition(".")[2] + (f"-{command}" if command and command != "serve" else "")
        log = self.state / "logs" / f"{name}.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        return ForkedChild(
            self.forks,
            name,
            module,
            [command] if command else [],
            log=log,
            pid_file=self.state / "run" / f"{name}.pid",
            env=environment,
            cwd=ROOT,
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the state directory: two launchers would end each other's processes."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartFailed(f"A platform with its state in {self.state} is running already.") from None
            yield


async def run(identity: str, demo: bool, one_process: bool) -> None:
    """Run the platform until Ctrl-C or SIGTERM; `StartFailed` if it cannot start."""
    stopping = cancel_on_signals()
    try:
        while not stopping.is_set():
            await _run_until_restore(Platform(identity, one_process=one_process), demo)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    say("stopped")


async def _run_until_restore(platform: Platform, demo: bool) -> None:
    """Run the platform until two people want a backup restored, and put that in place once everything is stopped."""
    began = time.monotonic()
    async with platform.running() as running:
        say(f"ready in {time.monotonic() - began:.1f} s")
        _welcome(platform, running)
        if demo:
            await platform.load_demo(running)
        # At the dev issuer choosing a name is all; elsewhere a person makes the agent's key.
        own = platform.identity == "dev" and not os.environ.get("OIDC_ISSUER")
        agent = Agent(running.url, running.issuer if own else "", platform.state)
        wanted = await agent.run()
        say(f"{' and '.join(wanted.confirmed_by)} want {wanted.number} restored")
    if problem := agent.restore(wanted):
        say(f"{wanted.number} is not restored, everything is as it was: {problem}")
    else:
        say(f"{wanted.number} is in place")


def _welcome(platform: Platform, running: Running) -> None:
    """Print where to go and who may sign in."""
    print(f"\n  Guanxi CRM   {running.url}\n  API          {running.url}/docs\n")
    for person in people.load().people.values():
        word = people.password(person, platform.secrets) if platform.identity == "keycloak" else ""
        print(f"  {person.username:<10} {person.en:<12} {', '.join(person.roles):<22} {word}")
    print("\n  Ctrl-C stops everything.\n", flush=True)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first failure ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        for piece in work:
            group.create_task(piece)


def cancel_on_signals() -> asyncio.Event:
    """Let Ctrl-C and SIGTERM cancel this task, once; return the event that tells so."""
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
