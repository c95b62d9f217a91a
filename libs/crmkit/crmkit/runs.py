"""Work over many rows in the background: a row in `bulk_runs`, done chunk by chunk.

Every chunk is one transaction that writes its rows and moves the run's position, as the requester: a process that
is killed has done a chunk or has not, and whoever takes the run up goes on behind the last one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from crmkit.auth import Caller, system
from crmkit.background import forever
from crmkit.errors import PermissionDenied, Problem
from crmkit.tables import BulkRow, BulkRun

if TYPE_CHECKING:
    from crmkit.app import Running
    from crmkit.call import Call

LEASE_SECONDS = 30
POLL_SECONDS = 1.0
# Where nothing was queued here for so long, what other processes have queued or left is looked for less often.
BUSY_SECONDS = 30.0
IDLE_SECONDS = 5.0
ATTEMPTS = 5
# How many runs wait for servers of others at once.
ASIDE = 4

log = logging.getLogger(__name__)

_CLAIM = text(
    "UPDATE bulk_runs SET state = 'RUNNING', attempts = attempts + 1,"
    " lease_until = clock_timestamp() + make_interval(secs => :lease)"
    " WHERE id = (SELECT id FROM bulk_runs WHERE state IN ('QUEUED', 'RUNNING') AND kind = ANY(:kinds)"
    " AND lease_until <= clock_timestamp()"
    " AND NOT EXISTS (SELECT 1 FROM bulk_rows WHERE run = bulk_runs.id AND action = 'PAUSE')"
    " ORDER BY create_time LIMIT 1 FOR UPDATE SKIP LOCKED)"
    " RETURNING id, about, kind, requester, spec, phase, position, tally, attempts"
)
_CANCELLED = "EXISTS (SELECT 1 FROM bulk_rows WHERE run = :id AND action = 'CANCEL')"
_PAUSED = "EXISTS (SELECT 1 FROM bulk_rows WHERE run = :id AND action = 'PAUSE')"
_MINE = text(
    f"SELECT phase, position FROM bulk_runs WHERE id = :id AND state = 'RUNNING' AND NOT {_CANCELLED}"
    f" AND NOT {_PAUSED} FOR UPDATE"
)
# A run that waits for a person is nobody's, so that it goes on at once where it is taken up again.
_REST = text(f"UPDATE bulk_runs SET lease_until = clock_timestamp() WHERE id = :id AND {_PAUSED}")
_DROP = text(f"UPDATE bulk_runs SET state = 'CANCELLED' WHERE id = :id AND {_CANCELLED}")
_MOVE = text(
    "UPDATE bulk_runs SET phase = :phase, position = :position, tally = CAST(:tally AS jsonb), attempts = 0,"
    " lease_until = clock_timestamp() + make_interval(secs => :lease) WHERE id = :id"
)
_LATER = text(
    "UPDATE bulk_runs SET lease_until = clock_timestamp() + make_interval(secs => :pause) WHERE id = :id AND state = 'RUNNING'"
)


class Lost(Exception):
    """The run was cancelled or paused, or somebody else does it."""


class Later(Exception):
    """What the run needs is not there yet: it is tried again after a pause in seconds, and others come first."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause


@dataclass
class Run:
    """A run under way in this process."""

    running: Running
    id: UUID
    about: str
    kind: str
    requester: str
    spec: dict[str, Any]
    phase: str
    position: int
    tally: dict[str, Any]
    attempts: int

    def caller(self) -> Caller:
        """The requester with the rights of this moment; a Problem where there are none left."""
        if self.requester.startswith("system/"):
            return system(self.running.app.name)
        caller = self.running.directory.acting(self.requester)
        if caller is None:
            raise PermissionDenied("PERMISSION_DENIED", permission=self.requester)
        return replace(caller, locale=self.spec.get("locale", caller.locale))

    @asynccontextmanager
    async def chunk(self) -> AsyncGenerator[Call]:
        """One transaction of the requester, which ends with phase, position and tally as they are then."""
        before = (self.phase, self.position)
        async with self.running.call(self.kind, self.caller()) as call:
            found = (await call.db.execute(_MINE, {"id": self.id})).one_or_none()
            if found is None or tuple(found) != before:
                raise Lost
            yield call
            await call.flush()
            moved = {"phase": self.phase, "position": self.position, "tally": json.dumps(self.tally)}
            await call.db.execute(_MOVE, {"id": self.id, "lease": LEASE_SECONDS, **moved})

    def next_phase(self, phase: str) -> None:
        """Begins the next part from its first row."""
        self.phase, self.position = phase, 0

    def count(self, **numbers: int) -> None:
        """Adds to the tally."""
        for key, number in numbers.items():
            self.tally[key] = self.tally.get(key, 0) + number


@dataclass(frozen=True)
class Kind:
    """A kind of work: what does it to its end, and what is told when it cannot go on.

    What waits for servers of others is done `aside`, several at once, so that nothing else waits for them. For what is
    `urgent` among it one more is kept free, so that it does not wait for slow servers either.
    """

    work: Callable[[Run], Awaitable[None]]
    fail: Callable[[Run, Problem, Any], Awaitable[None]]
    aside: bool = False
    urgent: bool = False


async def start(call: Call, kind: str, about: str, spec: dict[str, Any], requester: str = "") -> UUID:
    """Queues work about a record, for the caller."""
    run = BulkRun(
        id=uuid7(), about=about, kind=kind, requester=requester or call.caller.actor,
        spec={"locale": call.caller.locale, **spec},
    )  # fmt: skip
    call.db.add(run)
    call.running.runs.wake()
    return run.id


async def begun(call: Call, kind: str, about: str) -> bool:
    """Whether such work about a record was ever queued: a fact that is told again queues none."""
    known = select(BulkRun.id).where(BulkRun.about == about, BulkRun.kind == kind)
    return await call.db.scalar(known) is not None


async def cancel(call: Call, about: str) -> None:
    """Stops the work about a record behind the chunk that is under way.

    A row of its own says so: the run's row is locked as long as a chunk takes.
    """
    await _mark(call, about, 0, "CANCEL")


async def pause(call: Call, about: str) -> None:
    """Lets the work about a record rest behind the chunk that is under way, until `resume`."""
    await _mark(call, about, 1, "PAUSE")


async def resume(call: Call, about: str) -> None:
    """Lets the work about a record go on behind its last chunk."""
    mine = select(BulkRun.id).where(BulkRun.about == about)
    await call.db.execute(delete(BulkRow).where(BulkRow.run.in_(mine), BulkRow.action == "PAUSE"))
    call.running.runs.wake()


async def _mark(call: Call, about: str, part: int, action: str) -> None:
    waiting = await call.db.scalars(
        select(BulkRun.id).where(BulkRun.about == about, BulkRun.state.in_(["QUEUED", "RUNNING"]))
    )
    for run in waiting:
        row = insert(BulkRow).values(run=run, line=0, part=part, action=action)
        await call.db.execute(row.on_conflict_do_nothing())


class Runs:
    """The loop that does what is queued. Any number of processes may; each run is one process's at a time."""

    def __init__(self, running: Running, kinds: Mapping[str, Kind]) -> None:
        self._running, self._kinds = running, kinds
        self._work = asyncio.Event()
        self._woken = time.monotonic()

    def wake(self) -> None:
        """Says that a run may be waiting; it is seen at the latest after `POLL_SECONDS`."""
        self._woken = time.monotonic()
        self._work.set()

    async def run(self) -> None:
        """Works until cancelled."""
        mine = [name for name, kind in self._kinds.items() if not kind.aside]
        aside = [name for name, kind in self._kinds.items() if kind.aside]
        urgent = [name for name, kind in self._kinds.items() if kind.urgent]
        lanes = [mine, *([aside] * ASIDE if aside else []), *([urgent] if urgent else [])]
        async with asyncio.TaskGroup() as group:
            for kinds in lanes:
                group.create_task(forever(partial(self._step, kinds), 0))

    async def _step(self, kinds: list[str]) -> None:
        self._work.clear()
        async with self._running.engine.begin() as connection:
            found = await connection.execute(_CLAIM, {"lease": LEASE_SECONDS, "kinds": kinds})
            claimed = found.mappings().one_or_none()
        if claimed is None:
            busy = time.monotonic() - self._woken < BUSY_SECONDS
            try:
                await asyncio.wait_for(self._work.wait(), POLL_SECONDS if busy else IDLE_SECONDS)
            except TimeoutError:
                return
            # The one who queued it has not committed yet.
            await asyncio.sleep(0.05)
            return
        run = Run(self._running, **{str(key): value for key, value in claimed.items()})
        await self._do(run)

    async def _do(self, run: Run) -> None:
        try:
            await self._kinds[run.kind].work(run)
            await self._end(run, "DONE")
        except Lost:
            async with self._running.engine.begin() as connection:
                await connection.execute(_DROP, {"id": run.id})
                await connection.execute(_REST, {"id": run.id})
        except Later as later:
            await self._later(run, later.pause)
        except Problem as problem:
            await self._fail(run, problem)
        except asyncio.CancelledError:
            await asyncio.shield(self._later(run, 0))
            raise
        except Exception as error:
            log.warning("a run is tried again: %r", error, exc_info=error, extra={"run": str(run.id)})
            if run.attempts >= ATTEMPTS:
                await self._fail(run, Problem("INTERNAL"))
            else:
                await self._later(run, min(2.0**run.attempts, LEASE_SECONDS))

    async def _later(self, run: Run, pause: float) -> None:
        async with self._running.engine.begin() as connection:
            await connection.execute(_LATER, {"pause": pause, "id": run.id})

    async def _fail(self, run: Run, problem: Problem) -> None:
        async with self._running.call(run.kind, system(self._running.app.name)) as call:
            await self._kinds[run.kind].fail(run, problem, call)
        await self._end(run, "FAILED")

    async def _end(self, run: Run, state: str) -> None:
        async with self._running.engine.begin() as connection:
            await connection.execute(
                text("UPDATE bulk_runs SET state = :state WHERE id = :id AND state = 'RUNNING'"),
                {"state": state, "id": run.id},
            )
