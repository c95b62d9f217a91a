"""How much the gateway takes at once: sizes, calls per caller, calls in flight."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from gateway.errors import Refusal

MAX_BODY = 1024 * 1024
MAX_URL = 8 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
QUEUE_SECONDS = 0.5
MAX_BUCKETS = 20_000


def check_size(scope: Any) -> None:
    """Refuses addresses and headers over the limit, and NUL in an address."""
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL:
        raise Refusal("INVALID_ARGUMENT", "URI_TOO_LONG", limit="8 KiB")
    headers = scope["headers"]
    if len(headers) > MAX_HEADERS or sum(len(k) + len(v) for k, v in headers) > MAX_HEADER_BYTES:
        raise Refusal("INVALID_ARGUMENT", "HEADERS_TOO_LARGE", limit="100, 16 KiB")
    if "\0" in scope["path"]:
        raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="a NUL character")


async def read_body(headers: dict[bytes, bytes], receive: Any) -> bytes:
    """The whole body, at most 1 MiB of it."""
    if int(headers.get(b"content-length", b"0")) > MAX_BODY:
        raise Refusal("RESOURCE_EXHAUSTED", "TOO_LARGE", limit="1 MiB")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return _within(body)
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise Refusal("RESOURCE_EXHAUSTED", "TOO_LARGE", limit="1 MiB")
    return b"".join(parts)


def _within(body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise Refusal("RESOURCE_EXHAUSTED", "TOO_LARGE", limit="1 MiB")
    return body


class Buckets:
    """A token bucket per caller: `rate` a second, twice that at once."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str, rate: float) -> None:
        """Refuses with 429 a caller that has used up its share."""
        now = monotonic()
        tokens, then = self._buckets.get(caller, (rate * 2, now))
        tokens = min(rate * 2, tokens + (now - then) * rate)
        if tokens < 1:
            wait = str(max(1, round((1 - tokens) / rate))).encode()
            raise Refusal("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", headers=[(b"retry-after", wait)])
        if len(self._buckets) >= MAX_BUCKETS:
            # Full buckets hold nothing back, so forgetting the longest untouched ones is harmless.
            for stale in list(self._buckets)[: MAX_BUCKETS // 10]:
                del self._buckets[stale]
        self._buckets.pop(caller, None)
        self._buckets[caller] = (tokens - 1, now)


class Shedder:
    """Bounded work in flight behind a short, bounded queue; what fits neither gets 503."""

    def __init__(self, max_in_flight: int, max_queue: int) -> None:
        self.in_flight = 0
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds a place; Refusal where none comes free within half a second."""
        if self.in_flight >= self._max_in_flight:
            await self._wait()
        else:
            self.in_flight += 1
        try:
            yield
        finally:
            self._release()

    async def _wait(self) -> None:
        if len(self._queue) >= self._max_queue:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE")
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await asyncio.wait_for(asyncio.shield(place), QUEUE_SECONDS)
        except (TimeoutError, asyncio.CancelledError) as error:
            if place.done():
                self._release()
            else:
                place.cancel()
            if isinstance(error, TimeoutError):
                raise Refusal("UNAVAILABLE", "UNAVAILABLE") from None
            raise

    def _release(self) -> None:
        # The place goes to the next in the queue without coming free in between.
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.in_flight -= 1
