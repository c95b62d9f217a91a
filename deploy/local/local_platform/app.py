"""One app as a process: ready when its health check says so, started again when it crashes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import httpx
from crmkit import http
from crmkit.map import AppEntry, moved
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local_platform.child import Child, StartFailed

READY_WITHIN = 60


class App:
    """Keeps one app running."""

    def __init__(self, entry: AppEntry, child: Child) -> None:
        self.entry = entry
        self._child = child

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the process running inside the context."""
        await self._child.start()
        async with self._child.kept():
            yield

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


async def healthy(entry: AppEntry) -> bool:
    """Whether the app says that it can serve: gRPC health, and `/readyz` of the gateway, which has no gRPC."""
    target = f"127.0.0.1:{moved(entry.port)}"
    if entry.name == "gateway":
        try:
            async with http.client(timeout=2, trust_env=False) as client:
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
