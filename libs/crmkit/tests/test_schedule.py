"""Timed work: once per due time over all replicas, nothing missed."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from crmkit.metrics import Metrics
from crmkit.schedule import ATTEMPTS, CATCH_UP, Job, JobCall, OpenCall, Schedules, cron, every
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

UTC_NOW = datetime(2026, 11, 21, 20, 7, 31, tzinfo=UTC)


async def note(as_of: datetime, call: JobCall) -> None:
    await call.db.execute(text("INSERT INTO effects (note) VALUES (:note)"), {"note": as_of.isoformat()})


async def effects(engine: AsyncEngine) -> list[datetime]:
    async with engine.connect() as connection:
        notes = await connection.scalars(text("SELECT note FROM effects ORDER BY id"))
        return [datetime.fromisoformat(note) for note in notes]


async def due_since(engine: AsyncEngine, since: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO schedules (name, next_time)"
                f" VALUES ('note', date_trunc('minute', clock_timestamp()) - interval '{since}')"
            )
        )


def schedules(engine: AsyncEngine, open_call: OpenCall, metrics: Metrics, job: Job) -> Schedules:
    return Schedules("test", [job], open_call, engine, metrics)


def test_periods_are_counted_on_the_clock() -> None:
    five = every("5m")(note)
    assert five.after(UTC_NOW) == datetime(2026, 11, 21, 20, 10, tzinfo=UTC)
    assert five.before(UTC_NOW) == datetime(2026, 11, 21, 20, 5, tzinfo=UTC)
    assert five.after(five.after(UTC_NOW)) == datetime(2026, 11, 21, 20, 15, tzinfo=UTC)
    for wrong in ("5", "0m", "m", "5 m", "-1h"):
        with pytest.raises(ValueError, match="period"):
            every(wrong)


def test_cron_lines_follow_the_wall_clock_of_their_zone() -> None:
    nightly = cron("0 2 * * *")(note)
    assert nightly.after(UTC_NOW) == datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    assert nightly.before(UTC_NOW) == datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
    exactly = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
    assert nightly.before(exactly) == exactly and nightly.after(exactly) == exactly + timedelta(days=1)
    with pytest.raises(ValueError, match="cron"):
        cron("61 * * * *")


def test_a_day_is_a_day_where_the_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    noon = cron("0 12 * * *", zone="Europe/Berlin")(note)
    moment = datetime(2026, 3, 27, 12, tzinfo=berlin).astimezone(UTC)
    for day in range(28, 32):
        moment = noon.after(moment)
        assert moment.astimezone(berlin) == datetime(2026, 3, day, 12, tzinfo=berlin)


def test_of_many_missed_times_the_last_are_run_and_one_if_they_collapse() -> None:
    minutely, collapsed = every("1m")(note), every("1m", collapse=True)(note)
    since = UTC_NOW - timedelta(days=30)
    whole = UTC_NOW.replace(second=0)
    assert minutely.due(since, UTC_NOW) == whole - timedelta(minutes=CATCH_UP - 1)
    assert minutely.due(whole - timedelta(minutes=2), UTC_NOW) == whole - timedelta(minutes=2)
    assert collapsed.due(since, UTC_NOW) == whole
    assert minutely.due(UTC_NOW, UTC_NOW) is None


async def test_two_replicas_run_each_missed_time_once(
    engine: AsyncEngine, open_call: OpenCall, metrics: Metrics
) -> None:
    job = every("1m")(note)
    await due_since(engine, "9 minutes")
    tasks = [asyncio.create_task(schedules(engine, open_call, metrics, job).run()) for _ in range(2)]
    async with asyncio.timeout(60):
        while len(await effects(engine)) < 10:  # noqa: ASYNC110 (it is in a database)
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = await effects(engine)
    assert len(set(found)) == len(found)
    assert all(second - first == timedelta(minutes=1) for first, second in pairwise(found))


async def test_a_failed_run_leaves_nothing_and_is_tried_again(
    engine: AsyncEngine, open_call: OpenCall, metrics: Metrics
) -> None:
    broken = True

    async def flaky(as_of: datetime, call: JobCall) -> None:
        await note(as_of, call)
        if broken:
            raise ValueError("not now")

    job = every("1m", collapse=True)(flaky)
    job = Job(job.function, "note", job.after, job.before, job.collapse)
    await due_since(engine, "0 minutes")
    runner = schedules(engine, open_call, metrics, job)
    assert await runner.run_due(job)
    assert not await runner.run_due(job), "the next attempt comes later"
    assert await effects(engine) == []
    broken = False
    await hurry(engine)
    assert await runner.run_due(job)
    assert len(await effects(engine)) == 1
    assert not await runner.run_due(job)


async def test_after_the_last_attempt_the_job_goes_on_to_the_next_time(
    engine: AsyncEngine, open_call: OpenCall, metrics: Metrics
) -> None:
    async def hopeless(as_of: datetime, call: JobCall) -> None:
        raise ValueError("never")

    job = every("1d")(hopeless)
    job = Job(job.function, "note", job.after, job.before, job.collapse)
    await due_since(engine, "1 day")
    runner = schedules(engine, open_call, metrics, job)
    for _ in range(ATTEMPTS):
        assert await runner.run_due(job)
        await hurry(engine)
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT *, clock_timestamp() AS now FROM schedules"))).one()
    assert row.next_time > row.now and row.attempts == 0 and row.last_error == "ValueError: never"


async def hurry(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE schedules SET retry_time = NULL"))
