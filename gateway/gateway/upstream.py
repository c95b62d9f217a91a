"""Calls to the services: one channel each, a deadline on every call, one retry, and a breaker.

Retries happen here and nowhere else: of a service that is gone only, once, and only for calls that may be
repeated. A service that answers nothing at all is not asked again for a second, so that its
callers wait no longer than they must and the others keep their share of the gateway.
"""

import asyncio
import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

import grpc
import grpc.aio

from gateway.errors import GONE, Refusal

CHANNEL_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", 2 * 1024 * 1024),
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
]
# A deadline shorter than this is the caller's haste and says nothing about the service.
PATIENCE_SECONDS = 1.0
BREAKER_FAILURES = 20
BREAKER_SECONDS = 1.0
RETRY_TOKENS = 10.0
RETRY_REFUND = 0.1

Metadata = Sequence[tuple[str, str]]


class Service:
    """One service behind its channel."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(f"dns:///{target}", options=CHANNEL_OPTIONS)
        self._methods: dict[str, Any] = {}
        self._failures = 0
        self._closed_until = 0.0
        self._retry_tokens = RETRY_TOKENS

    async def call(
        self, method: str, request: bytes, metadata: Metadata, seconds: float, *, repeatable: bool
    ) -> tuple[bytes, Metadata]:
        """The reply's bytes and initial metadata; AioRpcError, or Refusal while the breaker is open."""
        rpc = self._methods.get(method)
        if rpc is None:
            rpc = self._methods[method] = self._channel.unary_unary(method)
        deadline = monotonic() + seconds
        if self._failures >= BREAKER_FAILURES:
            if monotonic() < self._closed_until:
                raise Refusal("UNAVAILABLE", "UNAVAILABLE")
            # One call goes through to see; the others wait for its outcome another second.
            self._closed_until = monotonic() + BREAKER_SECONDS
        try:
            reply = await self._once(rpc, request, metadata, seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() not in GONE or not repeatable or self._retry_tokens < 1:
                raise
            self._retry_tokens -= 1
            await asyncio.sleep(random.uniform(0.02, 0.1))
            remaining = deadline - monotonic()
            if remaining < 0.05:
                raise
            reply = await self._once(rpc, request, metadata, remaining)
        self._retry_tokens = min(RETRY_TOKENS, self._retry_tokens + RETRY_REFUND)
        return reply

    async def close(self) -> None:
        await self._channel.close(grace=1)

    async def _once(
        self, rpc: Any, request: bytes, metadata: Metadata, seconds: float
    ) -> tuple[bytes, Metadata]:
        call = rpc(request, timeout=seconds, metadata=metadata)
        try:
            reply = await call
            initial = await call.initial_metadata()
        except grpc.aio.AioRpcError as error:
            if _is_silence(error.code(), seconds):
                self._failures += 1
                if self._failures == BREAKER_FAILURES:
                    self._closed_until = monotonic() + BREAKER_SECONDS
            else:
                self._failures = 0
            raise
        self._failures = 0
        return reply, initial or ()


def _is_silence(code: grpc.StatusCode, seconds: float) -> bool:
    waited = code == grpc.StatusCode.DEADLINE_EXCEEDED and seconds >= PATIENCE_SECONDS
    return waited or code in GONE


class Upstream:
    """All services by app name."""

    def __init__(self, targets: dict[str, str]) -> None:
        self.services = {app: Service(target) for app, target in targets.items()}

    async def call(
        self,
        app: str,
        method: str,
        request: bytes,
        metadata: Metadata,
        seconds: float,
        *,
        repeatable: bool = False,
    ) -> tuple[bytes, Metadata]:
        """Calls a method of an app; see `Service.call`."""
        return await self.services[app].call(method, request, metadata, seconds, repeatable=repeatable)

    async def close(self) -> None:
        for service in self.services.values():
            await service.close()
