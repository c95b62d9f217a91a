"""Timed work: once per due time over all replicas, on the database's clock.

    @every("5m")
    async def escalate(as_of: datetime, call: Call) -> None: ...

    @cron("0 2 * * *", zone="Asia/Shanghai", collapse=True)
    async def recycle_leads(as_of: datetime, call: Call) -> None: ...

A run, its effect and the step to the next due time are one transaction. `as_of` is the due time, so a
run that comes late does what it would have done then.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from croniter import croniter
from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from crmkit.background import forever, stopping
from crmkit.metrics import Metrics

CATCH_UP = 24
ATTEMPTS = 5
LONGEST_SLEEP = 5.0
FRESH = 1.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)
tracer = trace.get_tracer("crmkit.schedule")

JobFunction = Callable[[datetime, Any], Awaitable[None]]


class JobCall(Protocol):
    """What this module needs of a call."""

    @property
    def db(self) -> AsyncSession: ...


class OpenCall(Protocol):
    """Opens a call of the system itself: a transaction, committed when left, rolled back by an exception."""

    def __call__(self, method: str, cause: None) -> AbstractAsyncContextManager[JobCall]: ...


@dataclass(frozen=True)
class Job:
    """A function and when it is due. Of missed due times the last 24 are run, or one if it collapses."""

    function: JobFunction
    name: str
    after: Callable[[datetime], datetime]
    before: Callable[[datetime], datetime]
    collapse: bool

    async def __call__(self, as_of: datetime, call: Any) -> None:
        await self.function(as_of, call)

    def due(self, since: datetime, now: datetime) -> datetime | None:
        """The due time to run now, of those from `since` to `now`."""
        found = None
        moment = self.before(now)
        for _ in range(1 if self.collapse else CATCH_UP):
            if moment < since:
                break
            found, moment = moment, self.before(moment - timedelta(microseconds=1))
        return found


def every(period: str, *, collapse: bool = False) -> Callable[[JobFunction], Job]:
    """Due at the whole multiples of a period such as "30s", "5m", "2h" or "1d", counted from 1970 UTC."""
    if not (match := re.fullmatch(r"([1-9]\d*)([smhd])", period)):
        raise ValueError(f"{period!r} is no period such as 5m")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    step = timedelta(**{unit: int(match[1])})

    def before(moment: datetime) -> datetime:
        return EPOCH + (moment - EPOCH) // step * step

    return lambda function: Job(function, _name(function), lambda m: before(m) + step, before, collapse)


def cron(
    expression: str, zone: str = "Asia/Shanghai", *, collapse: bool = False
) -> Callable[[JobFunction], Job]:
    """Due as a cron line of five fields says, by the wall clock of a zone."""
    if not croniter.is_valid(expression):
        raise ValueError(f"{expression!r} is no cron line")
    where = ZoneInfo(zone)

    def after(moment: datetime) -> datetime:
        return croniter(expression, moment.astimezone(where)).get_next(datetime).astimezone(UTC)

    def before(moment: datetime) -> datetime:
        # get_prev excludes its start, and whole seconds are the finest grain of a cron line.
        start = moment.astimezone(where).replace(microsecond=0) + timedelta(seconds=1)
        return croniter(expression, start).get_prev(datetime).astimezone(UTC)

    return lambda function: Job(function, _name(function), after, before, collapse)


def _name(function: JobFunction) -> str:
    return getattr(function, "__name__", repr(function))


_WAIT = text(
    "SELECT name, extract(epoch FROM greatest(next_time, retry_time) - clock_timestamp()) FROM schedules"
)
# A row that is new, or whose job has come to be due more often, must not wait for the old time.
_REGISTER = text(
    "INSERT INTO schedules (name, next_time) VALUES (:name, :next)"
    " ON CONFLICT (name) DO UPDATE SET next_time = least(schedules.next_time, excluded.next_time)"
)
_CLAIM = text(
    "SELECT next_time, clock_timestamp() AS now FROM schedules WHERE name = :name"
    " AND greatest(next_time, retry_time) <= clock_timestamp() FOR UPDATE SKIP LOCKED"
)
_ADVANCE = text(
    "UPDATE schedules SET next_time = :next, last_as_of = coalesce(:as_of, last_as_of), attempts = 0,"
    " retry_time = NULL, last_error = :error WHERE name = :name"
)
_RETRY = text(
    "UPDATE schedules SET attempts = attempts + 1, last_error = :error,"
    " retry_time = clock_timestamp() + interval '5 seconds' * power(2, attempts)"
    " WHERE name = :name RETURNING attempts"
)


class Schedules:
    """Runs the jobs of an app; every replica runs one of these."""

    def __init__(
        self, app: str, jobs: Sequence[Job], open_call: OpenCall, engine: AsyncEngine, metrics: Metrics
    ) -> None:
        if len({job.name for job in jobs}) != len(jobs):
            raise ValueError(f"{app}: two jobs have the same name")
        self._app = app
        self._jobs = jobs
        self._open_call = open_call
        self._engine = engine
        self._metrics = metrics
        # How long each job was to wait when that was read last: what one reads serves all.
        self._waits: dict[str, float] = {}
        self._read = -FRESH
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Runs what is due, until cancelled; what is cancelled is rolled back and run by another."""
        async with asyncio.TaskGroup() as tasks:
            for job in self._jobs:
                tasks.create_task(forever(lambda job=job: self._follow(job), 0))

    async def _follow(self, job: Job) -> None:
        async with self._engine.begin() as connection:
            now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            await connection.execute(_REGISTER, {"name": job.name, "next": job.after(now)})
        self._read = -FRESH
        while not stopping():
            if (wait := await self._wait(job)) > 0:
                await asyncio.sleep(min(wait, LONGEST_SLEEP))
                continue
            ran = await self.run_due(job)
            self._read = -FRESH
            if not ran:
                await asyncio.sleep(1)

    async def _wait(self, job: Job) -> float:
        """How long until the job is due."""
        async with self._reading:
            if job.name not in self._waits or time.monotonic() - self._read > FRESH:
                async with self._engine.connect() as connection:
                    rows = (await connection.execute(_WAIT)).all()
                self._waits, self._read = {row[0]: float(row[1]) for row in rows}, time.monotonic()
            return self._waits[job.name] - (time.monotonic() - self._read)

    async def run_due(self, job: Job) -> bool:
        """Runs a job once if it is due; False where it is not, or another replica runs it."""
        begun, as_of, outcome = time.monotonic(), None, "done"
        try:
            with tracer.start_as_current_span(job.name):
                async with self._open_call(job.name, None) as call:
                    row = (await call.db.execute(_CLAIM, {"name": job.name})).one_or_none()
                    if row is None:
                        return False
                    as_of = job.due(row.next_time, row.now)
                    if as_of:
                        await job(as_of, call)
                    step = {
                        "name": job.name,
                        "next": job.after(as_of or row.now),
                        "as_of": as_of,
                        "error": None,
                    }
                    await call.db.execute(_ADVANCE, step)
        except Exception as error:
            if not as_of:
                raise
            outcome = await self._failed(job, as_of, error)
        self._metrics.jobs.labels(self._app, job.name, outcome).observe(time.monotonic() - begun)
        return True

    async def _failed(self, job: Job, as_of: datetime, error: Exception) -> str:
        """Plans another attempt, or after the last one goes on to the next due time."""
        log.error("a job failed", exc_info=error, extra={"job": job.name, "as_of": as_of.isoformat()})
        blame = {"name": job.name, "error": f"{type(error).__name__}: {error}"[:4000]}
        async with self._engine.begin() as connection:
            attempts: int = (await connection.execute(_RETRY, blame)).scalar_one()
            if attempts < ATTEMPTS:
                return "failed"
            await connection.execute(_ADVANCE, {**blame, "next": job.after(as_of), "as_of": None})
            return "given up"
