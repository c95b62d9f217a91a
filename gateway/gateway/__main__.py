"""`python -m gateway serve | check | openapi`."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType

import crmprotos
import uvicorn
import uvloop
from crmkit import http, telemetry
from crmkit.background import ended, settle
from crmkit.blobs import open_store
from crmkit.bus import Bus
from crmkit.config import Config
from crmkit.json import JsonCodec
from fastapi import FastAPI
from nats.aio.msg import Msg
from opentelemetry import trace
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from gateway import openapi
from gateway.app import create_app
from gateway.callers import Callers
from gateway.descriptors import Descriptors, descriptors_of
from gateway.routes.stream import Changes
from gateway.settings import Settings
from gateway.surroundings import Surroundings
from gateway.transcoder import Transcoder
from gateway.upstream import Upstream
from gateway.witness import Witness

CHANGES = "crm.*.v1.ResourceChanged.>"
# Longer than the longest deadline, so that what has begun is answered.
DRAIN_SECONDS = 20
DOCUMENT = Path(__file__).parents[1] / "openapi.json"

log = logging.getLogger("gateway")


def main() -> None:
    """Runs a command."""
    parser = argparse.ArgumentParser(prog="gateway")
    parser.add_argument("command", choices=["serve", "check", "openapi"])
    parser.add_argument("--check", action="store_true", help="openapi: compare instead of writing")
    arguments = parser.parse_args()
    match arguments.command:
        case "serve":
            settings = Settings()
            telemetry.start("gateway", settings)
            # Lines of calls are JSON already, many at a time.
            logging.getLogger("gateway.access").addHandler(logging.StreamHandler(sys.stdout))
            logging.getLogger("gateway.access").propagate = False
            uvloop.run(serve(settings))
        case "check":
            _compile()
        case _:
            descriptors, transcoder = _compile()
            document = openapi.document(descriptors, transcoder.routes)
            if not arguments.check:
                DOCUMENT.write_bytes(document)
            elif DOCUMENT.read_bytes() != document:
                sys.exit("openapi.json is not that of the protos; `python -m gateway openapi` writes it")


async def serve(settings: Settings) -> None:
    """Serves until told to stop."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    start_http_server(settings.metrics_port, settings.bind_address, registry)
    async with running(settings, registry) as app:
        config = uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            http="httptools",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        settle()
        await _Server(config, app.state.changes).serve()


@asynccontextmanager
async def running(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[FastAPI]:
    """The application with all that it needs, open as long as the context."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus(settings.nats_url, "gateway"))
        config = await stack.enter_async_context(Config(None, bus))
        # SSL_CERT_FILE where an issuer inside a company has its own authorities.
        client = await stack.enter_async_context(http.client(timeout=5, trust_env=False))
        data = crmprotos.load_bytes()
        callers = Callers(settings, config, descriptors_of(data))
        stack.push_async_callback(callers.close)
        upstream = Upstream(settings.targets)
        stack.push_async_callback(upstream.close)
        witness = Witness()
        around = Surroundings(
            lookup=config.get,
            prefix=config.prefix,
            authenticate=callers.authenticate,
            visible=callers.visible,
            ready=lambda: callers.ready and bool(config.prefix("role.")),
            client=client,
            upstream=upstream,
            tracer=trace.get_tracer("gateway") if settings.otel_exporter_otlp_endpoint else None,
            store=open_store(settings.files_url) if settings.files_url else None,
            witness=witness,
            registry=registry,
        )
        app = create_app(settings, data, around)
        listening = asyncio.create_task(_listen(bus, app.state.changes))
        stack.callback(listening.cancel)
        stack.push_async_callback(ended, [asyncio.create_task(witness.run(bus))])
        yield app


async def _listen(bus: Bus, changes: Changes) -> None:
    """Feeds the streams. Live subjects suffice: what a break lost, `reset` makes the readers read again."""

    async def on_fact(message: Msg) -> None:
        await changes.publish(message.data, message.headers or {})

    await bus.connected()
    await bus.client.subscribe(CHANGES, cb=on_fact)
    connections = bus.connections
    while True:
        await asyncio.sleep(1)
        if bus.connections != connections:
            connections = bus.connections
            changes.reset()


class _Server(uvicorn.Server):
    """Ends the open streams first, which would hold the others' end up to the limit."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._changes.close()
        super().handle_exit(sig, frame)


def _compile() -> tuple[Descriptors, Transcoder]:
    """All routes of the platform; raises where a binding is not supported."""
    data = crmprotos.load_bytes()
    descriptors = Descriptors(data)
    apps = {method.app for method in descriptors.methods()}
    transcoder = Transcoder(descriptors, JsonCodec(data), apps)
    print(json.dumps({"routes": len(transcoder.routes), "apps": sorted(apps)}), file=sys.stderr)
    return descriptors, transcoder


if __name__ == "__main__":
    main()
