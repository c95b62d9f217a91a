"""The one connection of a process to NATS, and the streams.

NATS is a courier and never the record: an app starts, answers and commits while it is away.
Only this module, `events` and `config` import the client.
"""

# pyright: reportUnknownMemberType=false
# The NATS client tells the types of some of its methods only in part.

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import Any, Self, cast

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

STREAM_AGE = 7 * 86400
DUPLICATE_WINDOW = 10 * 60
REQUEST_TIMEOUT = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How large a stream may grow, and on how many servers it is kept."""

    max_bytes: int = 512 * 1024 * 1024
    replicas: int = 1


class Bus:
    """Connects in the background and for ever; `async with Bus(…)` never waits for NATS.

    `js` is usable once `connected()` has returned. Work that finds NATS away waits for `connected()`.
    """

    def __init__(self, url: str, name: str, limits: StreamLimits = StreamLimits()) -> None:
        self._url = url
        self._name = name
        self.limits = limits
        self._client = Client()
        self._up = asyncio.Event()
        self.js: JetStreamContext = self._client.jetstream(timeout=REQUEST_TIMEOUT)
        # Counts the connections made so far: who keeps state on the server looks whether it changed.
        self.connections = 0
        # Why facts would not be safe in JetStream; empty where they are, as far as is known.
        self.unsafe = ""

    @property
    def client(self) -> Client:
        """The client, for pull requests."""
        return self._client

    @property
    def up(self) -> bool:
        """True while the connection stands."""
        return self._up.is_set()

    async def connected(self) -> JetStreamContext:
        """Waits until the connection stands."""
        await self._up.wait()
        return self.js

    async def __aenter__(self) -> Self:
        self._connecting = asyncio.create_task(self._connect())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._connecting
        self._up.clear()
        with contextlib.suppress(NatsError, OSError):
            await self._client.close()

    async def _connect(self) -> None:
        await self._client.connect(
            self._url,
            name=self._name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=cast("int", 0.25),  # seconds; a fraction is as good
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_connect,
        )
        await self._on_connect()

    async def _on_connect(self) -> None:
        self.connections += 1
        self._up.set()
        log.info("connected to NATS", extra={"connections": self.connections})

    async def _on_disconnect(self) -> None:
        if self._up.is_set():
            log.warning("NATS is away")
        self._up.clear()

    async def _on_error(self, error: Exception) -> None:
        log.debug("NATS client: %s", error)

    async def request(self, api: str, body: dict[str, Any]) -> dict[str, Any]:
        """Asks the JetStream API what the client does not."""
        reply = await self._client.request(f"$JS.API.{api}", json.dumps(body).encode(), REQUEST_TIMEOUT)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise APIError.from_error(answer["error"])
        return answer

    async def ensure_stream(self, area: str) -> str:
        """Makes the stream of an area, or brings it to the limits of the settings; returns its name."""
        try:
            found = await ensure_stream(self.js, area, self.limits)
        except UnsafeStream as error:
            self.unsafe = str(error)
            raise
        self.unsafe = ""
        return found


class UnsafeStream(RuntimeError):
    """A stream whose storage would lose facts."""


def stream_of(area: str) -> str:
    """The stream that keeps an area's facts."""
    return f"crm-{area}"


async def ensure_stream(js: JetStreamContext, area: str, limits: StreamLimits) -> str:
    """Makes or updates the stream of an area; refuses one whose storage would lose facts."""
    config = StreamConfig(
        name=stream_of(area),
        subjects=[f"crm.{area}.v1.>"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_bytes=limits.max_bytes,
        max_age=STREAM_AGE,
        duplicate_window=DUPLICATE_WINDOW,
        num_replicas=limits.replicas,
    )
    try:
        found = (await js.stream_info(stream_of(area))).config
    except NotFoundError:
        await js.add_stream(config)
        return stream_of(area)
    if found.storage != StorageType.FILE:
        raise UnsafeStream(f"the stream {stream_of(area)} is not kept in files")
    wanted = config.as_dict()
    if any(found.as_dict().get(key) != value for key, value in wanted.items() if value is not None):
        await js.update_stream(config)
    return stream_of(area)
