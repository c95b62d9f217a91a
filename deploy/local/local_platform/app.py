"""One app as a process: ready when its health check says so, started again when it crashes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import httpx
from crmkit.map import AppEntry, moved
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local_platform.child import Child, StartFailed

READY_WITHIN = 60
RESTART_AFTER = (0.5, 1.0, 2.0, 5.0, 10.0)


class App:
    """Keeps one app running."""

    def __init__(self, entry: AppEntry, child: Child) -> None:
        self.entry = entry
        self._child = child

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
        """Wait until the app is healthy; `StartFailed` if it ends before, or takes a minute."""
        deadline = time.monotonic() + READY_WITHIN
        while not await healthy(self.entry):
            if not self._child.running:
                raise StartFailed(f"{self.entry.name} ended while starting.\n{self._child.tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self.entry.name} was not ready in {READY_WITHIN} s.\n{self._child.tail()}"
                )
            await asyncio.sleep(0.2)

    async def _keep(self) -> None:
        crashes = 0
        while True:
            started = time.monotonic()
            code = await self._child.wait()
            crashes = 0 if time.monotonic() - started > 60 else crashes + 1
            pause = RESTART_AFTER[min(crashes, len(RESTART_AFTER) - 1)]
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp}  {self.entry.name} ended with code {code}, starts again in {pause} s", flush=True)
            await asyncio.sleep(pause)
            await self._child.start()


async def healthy(entry: AppEntry) -> bool:
    """Whether the app says that it can serve: gRPC health, and `/readyz` of the gateway, which has no gRPC."""
    target = f"127.0.0.1:{moved(entry.port)}"
    if entry.name == "gateway":
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(f"http://{target}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False
    # A channel that has failed once waits a second before it tries again; a new one does not.
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await stub.Check(request, timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING
