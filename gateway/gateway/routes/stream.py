"""Server-sent events: the names of what changes, as far as the caller may see it, never its content.

One subscription per process; everybody's stream is fed from it. What a slow reader or a break in
the subscription loses is answered with `reset`: read again what you show.
"""

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from crmkit import packs
from crmkit.auth import Caller
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from gateway.callers import Authenticate, Visible
from gateway.descriptors import GET, RESOURCE, RESOURCE_TYPE, STANDARD, Descriptors
from gateway.errors import Refusal
from gateway.principals import Principals
from gateway.sessions import claims_of

HEARTBEAT_SECONDS = 15
KEEP_SECONDS = 900
KEEP_MESSAGES, KEEP_BYTES = 5000, 8_000_000
BUFFER = 256
MAX_STREAMS = 2000
# How long a caller's rights are believed before they are looked up again.
RIGHTS_SECONDS = 2.0
RESET = b"event: reset\ndata: {}\n\n"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One fact of change, with the record before and after for the test of visibility."""

    id: str
    collection: str
    name: str
    action: str
    version: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @classmethod
    def read(cls, data: bytes, headers: Mapping[str, str]) -> "list[Change]":
        """The changes that a message (`ResourceChanged`, or many of them) reports; none where it cannot be read."""
        try:
            return [cls._of(fact, alone) for alone, fact in packs.unpacked(headers, data)]
        except (ValueError, KeyError, TypeError):
            log.warning("a change fact cannot be read")
            return []

    @classmethod
    def _of(cls, fact: Mapping[str, Any], headers: Mapping[str, str]) -> "Change":
        record: dict[str, Any] = fact.get("resource") or {}
        return cls(
            id=headers["ce-id"],
            collection=fact["name"].partition("/")[0],
            name=fact["name"],
            action=fact.get("action", ""),
            version=headers.get("crm-version", ""),
            before=record | (fact.get("before") or {}),
            after=record,
        )

    def event(self, kind: str) -> bytes:
        data = json.dumps({"name": self.name, "action": self.action, "version": self.version})
        return f"id: {self.id}\nevent: {kind}\ndata: {data}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Message:
    """Changes as they came: read they are ten times as large, and nearly nobody asks for them again."""

    data: bytes
    headers: Mapping[str, str]
    time: float = field(default_factory=time.monotonic)

    def changes(self) -> list[Change]:
        return Change.read(self.data, self.headers)

    def may_hold(self, id: str) -> bool:
        """False where none of the changes has the id."""
        if packs.BUNDLE in self.headers:
            return id.encode() in self.data
        own, count = self.headers.get("ce-id", ""), int(self.headers.get(packs.HEADER) or 1)
        return own == id if count == 1 else id in map(str, packs.numbers(UUID(own), count))


@dataclass(eq=False, slots=True)
class Reader:
    """One open stream."""

    caller: Caller
    token: str
    collections: frozenset[str]
    checked: float = field(default_factory=time.monotonic)
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(BUFFER))

    def put(self, event: bytes) -> None:
        """Never waits: a full buffer is thrown away and becomes one `reset`."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            event = RESET
        self.queue.put_nowait(event)

    def close(self) -> None:
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Changes:
    """What changed lately, and who wants to know."""

    def __init__(self, descriptors: Descriptors, authenticate: Authenticate, visible: Visible) -> None:
        self._authenticate = authenticate
        self._visible = visible
        self._permissions = dict(_read_permissions(descriptors))
        self._recent: deque[Message] = deque()
        self._kept = 0
        self._readers: set[Reader] = set()

    async def publish(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Tells every reader what it may see of a message."""
        message = Message(data, headers)
        self._keep(message)
        for change in message.changes() if self._readers else ():
            for reader in list(self._readers):
                if await self._current(reader) and (event := self._seen(reader, change)):
                    reader.put(event)

    def _keep(self, message: Message) -> None:
        self._recent.append(message)
        self._kept += len(message.data)
        oldest = message.time - KEEP_SECONDS
        while (
            len(self._recent) > KEEP_MESSAGES or self._kept > KEEP_BYTES or self._recent[0].time < oldest
        ) and len(self._recent) > 1:
            self._kept -= len(self._recent.popleft().data)

    def reset(self) -> None:
        """Something may have been missed."""
        self._recent.clear()
        self._kept = 0
        for reader in self._readers:
            reader.put(RESET)

    def close(self) -> None:
        """Ends all streams; browsers come back by themselves."""
        for reader in self._readers:
            reader.close()

    async def follow(self, token: str, collections: frozenset[str], last_id: str) -> AsyncIterator[bytes]:
        """The stream of one caller until its token ends."""
        if len(self._readers) >= MAX_STREAMS:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE")
        reader = Reader(await self._authenticate(token), token, collections)
        ends = float(claims_of(token).get("exp", 0))
        return self._events(reader, last_id, ends)

    async def _events(self, reader: Reader, last_id: str, ends: float) -> AsyncIterator[bytes]:
        self._readers.add(reader)
        try:
            # Browsers that lost the same gateway do not come back in the same moment.
            yield f"retry: {random.randint(1000, 15000)}\n\n".encode()
            for event in self._missed(reader, last_id) if last_id else ():
                yield event
            while (left := ends - time.time()) > 0:
                try:
                    event = await asyncio.wait_for(reader.queue.get(), min(left, HEARTBEAT_SECONDS))
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._readers.discard(reader)

    def _missed(self, reader: Reader, last_id: str) -> list[bytes]:
        recent = list(self._recent)
        last = next((at for at in reversed(range(len(recent))) if recent[at].may_hold(last_id)), len(recent))
        since = [change for message in recent[last:] for change in message.changes()]
        position = next((at for at, change in enumerate(since) if change.id == last_id), None)
        if position is None:
            return [RESET]
        return [event for change in since[position + 1 :] if (event := self._seen(reader, change))]

    async def _current(self, reader: Reader) -> bool:
        """Whether the reader's rights are known to be of now; ends the stream of who has none left."""
        if time.monotonic() - reader.checked > RIGHTS_SECONDS:
            try:
                reader.caller = await self._authenticate(reader.token)
            except Refusal:
                reader.close()
                return False
            reader.checked = time.monotonic()
        return True

    def _seen(self, reader: Reader, change: Change) -> bytes | None:
        if reader.collections and change.collection not in reader.collections:
            return None
        permission = self._permissions.get(change.collection)
        caller = reader.caller
        if permission is None or not caller.may(permission):
            return None
        if self._visible(caller, change.collection, change.after):
            return change.event("gone" if change.action == "DELETED" else "changed")
        return change.event("gone") if self._visible(caller, change.collection, change.before) else None


def router(changes: Changes, principals: Principals) -> APIRouter:
    """GET /v1/stream."""
    routes = APIRouter()

    @routes.get("/v1/stream")
    async def stream(request: Request, collections: str = "") -> StreamingResponse:
        """Changes as they happen; `collections` (comma separated) narrows them, `Last-Event-ID` resumes."""
        request.scope["exchange"].label = "GET /v1/stream"
        principal = await principals.of(request.scope)
        token = principal.authorization.removeprefix("Bearer ")
        if not token:
            raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED")
        wanted = frozenset(filter(None, collections.split(",")))
        events = await changes.follow(token, wanted, request.headers.get("last-event-id", ""))
        return StreamingResponse(
            events,
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return routes


def _read_permissions(descriptors: Descriptors) -> list[tuple[str, str]]:
    """The permission to read, by collection."""
    found: list[tuple[str, str]] = []
    for method in descriptors.methods():
        reply = method.descriptor.output_type
        if descriptors.option(method.descriptor, STANDARD) == GET and descriptors.option(reply, RESOURCE):
            found.append((descriptors.option(reply, RESOURCE_TYPE).plural, method.permission))
    return found
