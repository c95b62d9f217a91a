"""Live configuration: what `workspace` puts into the bucket `crm-config`, in the memory of every app.

A change is seen within a second. An app that starts while NATS is away starts with what it knew last,
kept in the table `config_entries`.
"""

# pyright: reportUnknownMemberType=false
# The NATS client tells the types of some of its methods only in part.

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Self, cast

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from crmkit.background import ended, forever, stopping
from crmkit.bus import Bus
from crmkit.tables import ConfigEntry

BUCKET = "crm-config"
# The owner writes it after all the rest: a bucket without it is new, and says nothing about deletions.
COMPLETE = "complete"
FIRST_SIGHT = 2.0
CHECK_EVERY = 2.0
SAVE_EVERY = 1.0
MOST_READ = 20
# How NATS says that a key has another revision than expected.
SET_MEANWHILE = {10071, 10164}

log = logging.getLogger(__name__)

Changed = Callable[[str, Any], None]


class Config:
    """`async with Config(…) as config`, then `config.get("role.sales_manager")`.

    `owner=True`, for workspace alone, refills a bucket that NATS has lost.
    """

    def __init__(self, engine: AsyncEngine | None, bus: Bus, owner: bool = False) -> None:
        self._engine = engine
        self._bus = bus
        self._owner = owner
        self._values: dict[str, Any] = {}
        self._revisions: dict[str, int] = {}
        self._unsaved: set[str] = set()
        self._listeners: list[tuple[str, Changed]] = []
        self._seen = asyncio.Event()

    def get(self, key: str) -> Any:
        """The value of a key as JSON, or None."""
        return self._values.get(key)

    def prefix(self, prefix: str) -> dict[str, Any]:
        """All values whose key begins so, by the rest of their key. Walks over everything known."""
        return {key[len(prefix) :]: value for key, value in self._values.items() if key.startswith(prefix)}

    def changed(self, prefix: str, listener: Changed) -> None:
        """Calls the listener with key and new value (None when deleted) from now on; it must be quick."""
        self._listeners.append((prefix, listener))

    async def put(self, key: str, value: Any) -> None:
        """Sets a key for everybody. Raises while NATS is away: call it from a handler, which is repeated."""
        await (await self._bucket()).put(key, json.dumps(value, ensure_ascii=False).encode())

    async def delete(self, key: str) -> None:
        """Removes a key for everybody."""
        await (await self._bucket()).delete(key)

    async def revise(self, key: str, read: Callable[[], Awaitable[Any]]) -> None:
        """Sets a key to what `read` gives, or removes it where that is None.

        It is read again where somebody else has set the key meanwhile: who has read first may come last.
        """
        for _ in range(MOST_READ):
            bucket = await self._bucket()
            try:
                entry: KeyValue.Entry | None = await bucket.get(key)
                known = json.loads((entry and entry.value) or b"null")
            except KeyNotFoundError as gone:
                entry, known = cast("KeyValue.Entry | None", gone.entry), None
            last = entry.revision if entry else 0
            if (value := await read()) == known:
                return
            try:
                if value is None:
                    await bucket.delete(key, last)
                else:
                    await bucket.update(key, json.dumps(value, ensure_ascii=False).encode(), last)
                return
            except APIError as error:
                if not isinstance(error, KeyWrongLastSequenceError) and error.err_code not in SET_MEANWHILE:
                    raise
        raise ConnectionError(f"{key} is set by others all the time")

    async def __aenter__(self) -> Self:
        await self._load()
        self._tasks = [
            asyncio.create_task(forever(self._watch, 0)),
            asyncio.create_task(forever(self._save, SAVE_EVERY)),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SIGHT):
                await self._seen.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await ended(self._tasks)
        await self._save()

    async def _bucket(self) -> KeyValue:
        if not self._bus.up:
            raise ConnectionError("NATS is away")
        js = self._bus.js
        try:
            return await js.key_value(BUCKET)
        except BucketNotFoundError:
            replicas = self._bus.limits.replicas
            return await js.create_key_value(
                KeyValueConfig(bucket=BUCKET, history=1, storage=StorageType.FILE, replicas=replicas)
            )

    async def _watch(self) -> None:
        """Follows the bucket until the watch has missed something; the next one starts afresh."""
        await self._bus.connected()
        connection = self._bus.connections
        bucket = await self._bucket()
        state = (await bucket.status()).stream_info.state
        last, seen = state.last_seq, 0
        watcher = await bucket.watchall()
        try:
            before, found = set(self._values), set[str]()
            # Up to the last entry of the bucket, and not to the client's mark of the end: that one may come
            # before entries which the server has sent and the client has not read yet.
            while state.messages and seen < last:
                if entry := await _next(watcher, 5):
                    found.add(entry.key)
                    seen = entry.revision or 0
                    self._take(entry)
            last = max(last, seen)
            await self._compare(bucket, before - found, complete=COMPLETE in found)
            self._seen.set()
            while connection == self._bus.connections and not stopping():
                try:
                    entry = await _next(watcher, CHECK_EVERY)
                except NatsTimeoutError:
                    status = await bucket.status()
                    if status.stream_info.state.last_seq != last:
                        return
                    continue
                if entry:
                    last = entry.revision or last
                    self._take(entry)
        finally:
            await watcher.stop()

    async def _compare(self, bucket: KeyValue, missing: set[str], complete: bool) -> None:
        """What is known but not in the bucket was deleted, unless NATS has lost the bucket."""
        if complete:
            for key in missing:
                try:
                    # Written again while the rest was read, its entry is yet to come.
                    await bucket.get(key)
                except KeyNotFoundError:
                    self._set(key, None, 0)
        elif self._owner:
            for key in sorted(missing):
                await self.put(key, self._values[key])
            await self.put(COMPLETE, True)

    def _take(self, entry: KeyValue.Entry) -> None:
        if entry.key == COMPLETE:
            return
        value = None if entry.operation else json.loads(entry.value or b"null")
        self._set(entry.key, value, entry.revision or 0)

    def _set(self, key: str, value: Any, revision: int) -> None:
        if self._values.get(key) == value:
            return
        if value is None:
            del self._values[key]
        else:
            self._values[key] = value
        self._revisions[key] = revision
        self._unsaved.add(key)
        for prefix, listener in self._listeners:
            if key.startswith(prefix):
                listener(key, value)

    async def _load(self) -> None:
        if self._engine:
            async with self._engine.connect() as connection:
                rows = await connection.execute(select(ConfigEntry.key, ConfigEntry.value))
                self._values = {row.key: row.value for row in rows}

    async def _save(self) -> None:
        if not (self._engine and self._unsaved):
            return
        unsaved = sorted(self._unsaved)
        kept = [
            {"key": key, "value": self._values[key], "revision": self._revisions[key]}
            for key in unsaved
            if key in self._values
        ]
        async with self._engine.begin() as connection:
            gone = [key for key in unsaved if key not in self._values]
            await connection.execute(delete(ConfigEntry).where(ConfigEntry.key.in_(gone)))
            if kept:
                entry = insert(ConfigEntry)
                fresh = {"value": entry.excluded.value, "revision": entry.excluded.revision}
                await connection.execute(
                    entry.on_conflict_do_update(index_elements=["key"], set_=fresh), kept
                )
        self._unsaved.difference_update(unsaved)


async def _next(watcher: KeyValue.KeyWatcher, seconds: float) -> KeyValue.Entry | None:
    """The next entry; None is the client's mark of the end of what there was at the start."""
    entry = await watcher.updates(seconds)
    if entry is None or isinstance(entry, KeyValue.Entry):
        return entry
    raise ConnectionError("the watch has ended")
