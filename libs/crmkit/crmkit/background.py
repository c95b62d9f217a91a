"""Loops that run as long as the process."""

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

LONGEST_PAUSE = 5.0
FINISH_SECONDS = 20.0

log = logging.getLogger(__name__)


async def forever(step: Callable[[], Awaitable[object]], pause: float) -> None:
    """Repeats a step until cancelled. What it raises is logged and backed off from, never the end.

    Each is a task of its own: `asyncio.TaskGroup` of Python 3.11 leaves the task that waits for it marked as cancelled
    where one of its own fails, and the loop would take that for being asked to end.
    """
    failures = 0
    while not stopping():
        wait = pause
        try:
            await asyncio.create_task(_once(step))
            failures = 0
        except (Exception, asyncio.CancelledError) as error:
            if stopping() and isinstance(error, asyncio.CancelledError):
                raise
            failures += 1
            wait = min(0.1 * 2 ** min(failures, 10), LONGEST_PAUSE)
            log.warning("a background step is tried again: %r", error, extra={"failures": failures})
        if wait and not stopping():
            await asyncio.sleep(wait)


async def _once(step: Callable[[], Awaitable[object]]) -> None:
    await step()


def stopping() -> bool:
    """Whether the running task was asked to end.

    Loops ask, since `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with
    what it waits for, and the NATS client is full of it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def lingering(least: float, most: float, came: int, full: int) -> float:
    """How long to wait for company while work flows: the longer, the more came with the last turn."""
    return least + (most - least) * min(1.0, came / full)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks and waits until they have ended, which lets consumers finish what they have begun.

    Asks again only after that time: a second request would cut the finishing short.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=FINISH_SECONDS)


def settle() -> None:
    """Spares the collector what was made at start and stays: it would walk over it again and again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # What the start has needed and freed goes back to the system; other C libraries do so themselves.
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
