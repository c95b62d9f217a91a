"""Loops in the background end when they are asked to, and by nothing else."""

import asyncio
import contextlib

from crmkit.background import ended, forever


async def test_a_loop_goes_on_where_tasks_of_its_step_have_failed() -> None:
    turns, many = 0, asyncio.Event()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("the other side is away")

    async def step() -> None:
        nonlocal turns
        turns += 1
        if turns < 4:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(asyncio.sleep(5))
        elif turns == 10:
            many.set()
        await asyncio.sleep(0.01)

    loop = asyncio.create_task(forever(step, 0))
    async with asyncio.timeout(10):
        await many.wait()
    await ended([loop])
    assert loop.cancelled()


async def test_a_loop_ends_though_its_step_loses_what_asks_for_it() -> None:
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)

    loop = asyncio.create_task(forever(step, 0))
    await begun.wait()
    async with asyncio.timeout(3):
        await ended([loop])
    assert loop.done()


async def test_a_step_that_cancels_itself_has_failed_and_the_loop_goes_on() -> None:
    turns, several = 0, asyncio.Event()

    async def step() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            several.set()
        raise asyncio.CancelledError

    loop = asyncio.create_task(forever(step, 0))
    async with asyncio.timeout(10):
        await several.wait()
    await ended([loop])
    assert loop.cancelled()
