"""An app: what a service serves, consumes, schedules and stores, and the process that runs it.

`python -m <app> serve | migrate | check | dead-letters | replay <dead letter> | replay-outbox <from> <to>`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import grpc
import grpc.aio
import structlog
import uvloop
from asyncpg import PostgresError  # pyright: ignore[reportMissingTypeStubs]
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from obstore.store import ObjectStore
from prometheus_client import CollectorRegistry, start_http_server
from sqlalchemy import MetaData, QueuePool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from crmkit import (
    copies,
    departments,
    dictionaries,
    erasure,
    handing,
    merging,
    numberchecks,
    purging,
    recasting,
    scope,
    telemetry,
    transfer,
)
from crmkit.approvals import Policies
from crmkit.auth import Caller, Directory, Verifier, system
from crmkit.background import ended, settle
from crmkit.blobs import open_store
from crmkit.bus import Bus, StreamLimits
from crmkit.call import CONFIGURED, Call
from crmkit.catalog import codec, import_proto, permissions, resources
from crmkit.config import Config
from crmkit.customfields import Nobody
from crmkit.decided import on_approval_ended, on_approval_revised
from crmkit.describe import Described
from crmkit.dictionaries import on_dictionary_item_merged, on_dictionary_uses_asked
from crmkit.driver import Driver, KeptPool, replace_closed
from crmkit.events import Consumers, Fact, Function, dead_letters
from crmkit.mapping import mapper
from crmkit.metrics import Metrics
from crmkit.outbox import Relay
from crmkit.readiness import Readiness, refuse_unsafe
from crmkit.resource import Resource
from crmkit.rpc import LARGEST_MESSAGE, Pipeline, compile_service
from crmkit.runs import Kind, Runs
from crmkit.scanning import Scanner
from crmkit.schedule import Job, Schedules
from crmkit.settings import Settings
from crmkit.tally import tell_facts
from crmkit.transfer import on_bulk_cancelled, on_bulk_requested
from crmkit.workers import Crew

GRACE_SECONDS = 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class App:
    """The table of contents of a service."""

    name: str
    serves: object
    tables: MetaData
    migrations: Path
    consumes: Sequence[Function] = ()
    schedules: Sequence[Job] = ()
    on_start: Sequence[Callable[[Call], Any]] = ()
    # What the app itself must have done before it can serve: each says why not, or nothing.
    ready: Sequence[Callable[[Call], Awaitable[str]]] = ()
    runs: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    # Whether its runs have work for further processes (`crmkit.workers`).
    crew: bool = False
    # What the app does beside moving references when records were merged, or are their own again.
    merged: Sequence[merging.After] = ()

    @property
    def descriptor(self) -> ServiceDescriptor:
        """The proto service of the app."""
        return _service_of(self.name)

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections whose reaches the tables' policies ask for."""
        found = {name for model in self.models for name in model.scoped_as()}
        return tuple(sorted(found))

    @property
    def models(self) -> list[type[Resource]]:
        """Every resource model over the app's tables."""
        return [model for model in _subclasses(Resource) if getattr(model, "metadata", None) is self.tables]


class Running:
    """An app with its connections. `async with Running(app, settings) as running`."""

    def __init__(
        self, app: App, settings: Settings, metrics: Metrics | None = None, crew: Crew | None = None
    ) -> None:
        self.app, self.settings = app, settings
        self.crew = crew or Crew()
        self.metrics = metrics or Metrics(CollectorRegistry())
        self.codec = codec()
        self.models_by_type: dict[str, type[Resource]] = {model.described.type: model for model in app.models}
        self.models_by_collection = {model.described.collection: model for model in app.models}
        for model in app.models:
            mapper(model)
        wanted = copies.referenced_types(
            [*(model.described.message.file for model in app.models), app.descriptor.file]
        )
        everything = resources()
        self.foreign: Mapping[str, Described] = {
            kind: everything[kind]
            for kind in wanted - set(CONFIGURED)
            if kind in everything and kind not in self.models_by_type
        }
        self.number_blocks: dict[tuple[str, str], list[int]] = {}
        self.number_turn = asyncio.Lock()
        self.pipeline = Pipeline(self, compile_service(app.descriptor, app.serves))
        self.port = 0

    async def __aenter__(self) -> Self:
        settings, app = self.settings, self.app
        self._stack = AsyncExitStack()
        self.engine: AsyncEngine = open_engine(settings, app.name)
        self._stack.push_async_callback(self.engine.dispose)
        await refuse_unsafe(self.engine)
        pool = cast("QueuePool", self.engine.pool)
        self.metrics.pool.labels(app.name).set_function(pool.checkedout)
        # Which collections' reaches the second wall is told of.
        known = {"collections": app.collections}
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False, info=known)
        # Numbers are drawn by calls that hold a connection already: from the same pool, as many calls as it has
        # connections would wait for one more for ever.
        aside = open_engine(settings, app.name, size=1, overflow=0)
        self._stack.push_async_callback(aside.dispose)
        self.number_sessions = async_sessionmaker(aside)
        self.bus = await self._stack.enter_async_context(
            Bus(settings.nats_url, app.name, StreamLimits(replicas=settings.nats_replicas))
        )
        self.config = await self._stack.enter_async_context(
            Config(self.engine, self.bus, owner=app.name == "workspace")
        )
        self.redirects = merging.Redirects(self)
        self.directory = Directory(self.config, permissions())
        self.nobody = Nobody(self.directory.custom)
        self.verifier = Verifier(
            settings.oidc_issuer,
            settings.oidc_audience,
            settings.gateway_issuer_jwks,
            settings.oidc_discovery_url,
        )
        self.verifier.warm()
        self.relay = Relay(self.engine, self.bus, app.name, self.metrics)
        self.readiness = Readiness(
            aside, self.verifier, self.config, self.bus, app.migrations, [self._further(q) for q in app.ready]
        )
        self.runs = Runs(
            self,
            {
                **transfer.KINDS,
                **dictionaries.KINDS,
                **departments.KINDS,
                **purging.KINDS,
                **recasting.KINDS,
                **numberchecks.KINDS,
                **erasure.KINDS,
                **merging.KINDS,
                **handing.KINDS,
                **app.runs,
            },
        )
        self._tasks: list[asyncio.Task[None]] = []
        return self

    async def __aexit__(self, *error: object) -> None:
        await ended(self._tasks)
        await self.verifier.close()
        await self._stack.aclose()

    async def work(self) -> None:
        """Starts the relay, the consumers and the timed work in the background."""
        functions = [
            *self.app.consumes,
            on_approval_ended,
            on_approval_revised,
            on_bulk_requested,
            on_bulk_cancelled,
            on_dictionary_item_merged,
            on_dictionary_uses_asked,
            departments.on_department_merged,
            purging.on_custom_field_purge_asked,
            recasting.on_custom_field_recast_asked,
            numberchecks.on_numbers_asked,
            erasure.empty_personal_fields,
            *merging.HANDLERS,
            *handing.HANDLERS,
        ]
        if keeper := copies.keeper(self.foreign):
            functions.append(keeper)
        areas = sorted({described.area for described in resources().values()} | {"gateway"})
        consumers = Consumers(
            self.app.name, areas, functions, self.system_call, self.engine, self.bus, self.metrics,
            resolve=self.redirects.fact,
        )  # fmt: skip
        self.consumers = consumers
        schedules = Schedules(
            self.app.name, [*self.app.schedules, tell_facts], self.system_call, self.engine, self.metrics
        )
        for function in self.app.on_start:
            async with self.call(getattr(function, "__name__", "start"), system(self.app.name)) as call:
                await function(call)
        for name, loop in (
            ("relay", self.relay.run()),
            ("consumers", consumers.run()),
            ("schedules", schedules.run()),
            ("runs", self.runs.run()),
        ):
            self._tasks.append(asyncio.create_task(loop, name=f"{self.app.name} {name}"))

    async def serve(self, port: int, address: str = "127.0.0.1") -> grpc.aio.Server:
        """A started gRPC server on the port (0 = any free one; `self.port` tells)."""
        server = grpc.aio.server(
            maximum_concurrent_rpcs=self.settings.max_concurrent_calls * 2,
            options=[
                ("grpc.max_receive_message_length", LARGEST_MESSAGE + 65536),
                ("grpc.max_send_message_length", 8 * LARGEST_MESSAGE),
                ("grpc.so_reuseport", 0),
            ],
        )
        server.add_generic_rpc_handlers((self.pipeline.grpc_handler(self.app.descriptor),))
        # grpcio-health-checking tells no types of its asyncio side.
        status: Any = cast("Any", health).aio.HealthServicer()
        cast("Any", health_pb2_grpc).add_HealthServicer_to_server(status, server)
        self.port = server.add_insecure_port(f"{address}:{port}")
        await server.start()
        # "live" says that the event loop turns, whatever the others say of readiness.
        await status.set("live", health_pb2.HealthCheckResponse.SERVING)

        async def tell(ready: bool) -> None:
            answer = health_pb2.HealthCheckResponse
            for name in ("", self.app.descriptor.full_name):
                await status.set(name, answer.SERVING if ready else answer.NOT_SERVING)

        await tell(False)
        self._tasks.append(asyncio.create_task(self.readiness.run(tell), name=f"{self.app.name} readiness"))
        self.health: Any = status
        return server

    def _further(self, question: Callable[[Call], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        async def ask() -> str:
            async with self.call("readiness", system(self.app.name), read_only=True) as call:
                return await question(call)

        return ask

    @asynccontextmanager
    async def call(
        self, method: str, caller: Caller, read_only: bool = False, claim: scope.Claim | None = None
    ) -> AsyncGenerator[Call, None]:
        """One call, one transaction: committed when left, rolled back by an exception."""
        async with self.sessions() as session, session.begin():
            now, claimed = await scope.begin(session, caller, read_only, claim)
            call = Call(self, session, caller, now, method)
            call.claimed = claimed
            yield call
            await call.flush()
        if call.told:
            self.relay.wake()

    @asynccontextmanager
    async def system_call(self, method: str, cause: Fact | None) -> AsyncGenerator[Call, None]:
        """A call of the service itself, for facts and timed work; its actor is whoever caused the fact."""
        async with self.call(method, system(self.app.name)) as call:
            yield call

    @asynccontextmanager
    async def acting(self, outer: Call, caller: Caller, method: str) -> AsyncGenerator[Call, None]:
        """A call as somebody else within the transaction of another call."""
        await scope.enter(outer.db, caller)
        inner = Call(self, outer.db, caller, outer.now, method)
        try:
            yield inner
        except Exception:
            # A transaction that has failed takes nothing more, and what made it fail is what counts.
            with suppress(DBAPIError, PostgresError):
                await scope.enter(outer.db, outer.caller)
            raise
        await scope.enter(outer.db, outer.caller)
        outer.told = outer.told or inner.told

    @cached_property
    def policies(self) -> Policies:
        """The approval policies in force."""
        return Policies(self.config)

    @cached_property
    def store(self) -> ObjectStore:
        """The store of files; missing is an error where it is needed."""
        if not self.settings.files_url:
            raise ValueError("FILES_URL is not set")
        return open_store(self.settings.files_url)

    @cached_property
    def scanner(self) -> Scanner:
        """Looks through files that come in other ways than by the gateway."""
        return Scanner(self.settings.clamav_url)

    def json_of(self, message: Any) -> dict[str, Any]:
        """A message as JSON object."""
        return json.loads(self.codec.to_json(message.DESCRIPTOR.full_name, message.SerializeToString()))


def open_engine(settings: Settings, app: str, size: int = 0, overflow: int = 5) -> AsyncEngine:
    """The app's engine: bounded pool, bounded statements, no prepared surprises."""
    engine = create_async_engine(
        settings.database(app),
        poolclass=KeptPool,
        pool_size=(size or settings.db_pool_size) + overflow,
        max_overflow=0,
        pool_timeout=1.5 * settings.patience,
        pool_pre_ping=False,
        # Connections that are seldom needed stay idle, so a server with `idle_session_timeout` ends them.
        pool_use_lifo=True,
        pool_recycle=1800,
        connect_args={
            "connection_class": Driver,
            "timeout": 5,
            "command_timeout": 30,
            "server_settings": {
                "application_name": app,
                "lock_timeout": str(int(1000 * settings.patience)),
                "statement_timeout": str(int(10000 * settings.patience)),
                "idle_in_transaction_session_timeout": str(int(10000 * settings.patience)),
                "jit": "off",
                # The scope is set by a literal, see crmkit.reading.
                "standard_conforming_strings": "on",
            },
        },
    )
    replace_closed(engine)
    cast("KeptPool", engine.pool).keep = size or settings.db_pool_size
    return engine


def _service_of(name: str) -> ServiceDescriptor:
    file = f"crm/{name}/v1/{name}.proto"
    import_proto(file)
    services = list(descriptor_pool.Default().FindFileByName(file).services_by_name.values())
    if len(services) != 1:
        raise ValueError(f"{file} must have one service")
    return services[0]


def _subclasses(of: type[Resource]) -> list[type[Resource]]:
    return [found for direct in of.__subclasses__() for found in (direct, *_subclasses(direct))]


async def migrated(app: App, settings: Settings) -> None:
    """Brings the database to the code: the kit's tables, the app's tables, row-level security."""
    from crmkit import migrate  # 9 MB that a process which serves has no use for

    url = settings.database(app.name, owner=True)
    await migrate.upgrade(url, app.name, app.migrations)
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            for model in app.models:
                for statement in scope.policy_statements(model):
                    await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def serve(app: App, settings: Settings, crew: Crew) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is under way."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    async with Running(app, settings, Metrics(registry), crew) as running:
        await running.work()
        server = await running.serve(settings.grpc_port, settings.bind_address)
        if settings.metrics_port:
            start_http_server(settings.metrics_port, settings.bind_address, registry)
        settle()
        log.info("serving", app=app.name, port=running.port)
        await stop.wait()
        await running.health.enter_graceful_shutdown()
        await server.stop(GRACE_SECONDS)


def main(make: Callable[[], App]) -> None:
    """The command line of an app."""
    app = make()
    parser = argparse.ArgumentParser(prog=f"python -m {app.name}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until told to stop")
    commands.add_parser("migrate", help="bring the database to the version of the code")
    commands.add_parser("check", help="compare models and migrations, proto and implementation")
    revise = commands.add_parser("revise", help="write the migration that changed models need")
    revise.add_argument("message")
    commands.add_parser("dead-letters", help="list the facts that wait for a person")
    replay = commands.add_parser("replay", help="run the handler of a dead letter again")
    replay.add_argument("id", type=int)
    outbox = commands.add_parser("replay-outbox", help="send the facts of a time again")
    outbox.add_argument("start", type=datetime.fromisoformat)
    outbox.add_argument("end", type=datetime.fromisoformat)
    arguments = parser.parse_args()
    settings, crew = Settings(), Crew()
    if app.crew and arguments.command == "serve":
        crew.start()
    telemetry.start(app.name, settings)
    uvloop.run(_command(app, settings, crew, arguments))


async def _command(app: App, settings: Settings, crew: Crew, arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "serve":
            await serve(app, settings, crew)
        case "migrate":
            await migrated(app, settings)
        case "check":
            from crmkit import migrate

            await migrate.check(settings.database(app.name, owner=True), app.migrations)
            Running(app, settings)
        case "revise":
            from crmkit import migrate

            await migrate.revise(settings.database(app.name, owner=True), app.migrations, arguments.message)
        case "dead-letters":
            engine = open_engine(settings, app.name, size=1, overflow=0)
            for letter in await dead_letters(engine):
                print(json.dumps(letter, ensure_ascii=False))
            await engine.dispose()
        case _:
            async with Running(app, settings) as running:
                await running.bus.connected()
                if arguments.command == "replay":
                    await running.work()
                    await running.consumers.replay(arguments.id)
                else:
                    await running.relay.replay(arguments.start, arguments.end)
