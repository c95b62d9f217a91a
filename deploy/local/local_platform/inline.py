"""One app on this event loop instead of in a process of its own, for `--one-process`.

No module of the platform holds state, so all apps can live side by side; only a crash is then everybody's.
"""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

import uvicorn
from crmkit.app import Running
from crmkit.map import AppEntry
from crmkit.settings import Settings
from prometheus_client import CollectorRegistry

from local_platform.app import READY_WITHIN, healthy
from local_platform.child import StartFailed


class InlineApp:
    """Runs one app here; its context is entered before it is ready, which may need the others."""

    def __init__(self, entry: AppEntry, environment: Mapping[str, str]) -> None:
        self.entry = entry
        self._environment = environment

    async def ready(self) -> None:
        """Wait until the app can serve."""
        deadline = time.monotonic() + READY_WITHIN
        while not await healthy(self.entry):
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.entry.name} was not ready in {READY_WITHIN} s.")
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve inside the context and finish what is under way on the way out."""
        serving = self._gateway() if self.entry.name == "gateway" else self._service()
        async with serving:
            yield

    @asynccontextmanager
    async def _service(self) -> AsyncIterator[None]:
        settings = _settings(Settings, self._environment)
        async with Running(_app(self.entry), settings) as running:
            await running.work()
            server = await running.serve(settings.grpc_port, settings.bind_address)
            try:
                yield
            finally:
                await running.health.enter_graceful_shutdown()
                await server.stop(5)

    @asynccontextmanager
    async def _gateway(self) -> AsyncIterator[None]:
        # Imported here, because nothing but this mode needs the gateway in the launcher's process.
        from gateway.__main__ import running
        from gateway.settings import Settings as GatewaySettings

        settings = _settings(GatewaySettings, self._environment)
        async with AsyncExitStack() as stack:
            app = await stack.enter_async_context(running(settings, CollectorRegistry()))
            config = uvicorn.Config(
                app,
                host="127.0.0.1",
                port=settings.http_port,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started:
                if serving.done():
                    serving.result()
                await asyncio.sleep(0.05)
            try:
                yield
            finally:
                # Open streams would hold the end up to its limit.
                app.state.changes.close()
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        # Signals belong to the launcher, which stops this server in its turn.
        return nullcontext()


def _app(entry: AppEntry) -> Any:
    return importlib.import_module(f"{entry.name}.app").app()


def _settings(kind: Any, environment: Mapping[str, str]) -> Any:
    """Read settings from this mapping, where a process would read its environment."""
    values = {name.lower(): value for name, value in environment.items()}
    return kind(**{name: values[name] for name in kind.model_fields if name in values})
