"""Processes for work that only reckons; the one that forks is forked in a process of its own, which has one thread."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from crmkit.workers import Crew


def pid(_: int) -> int:
    return os.getpid()


def thread(_: int) -> str:
    return threading.current_thread().name


def halved(number: int) -> float:
    return 6 / number


async def story() -> None:
    """What a service's process does with its crew."""
    crew = Crew()
    crew.start()
    async with crew.worker(pid) as one, crew.worker(pid) as other, crew.worker(halved) as half:
        first, second = await asyncio.gather(one(0), other(0))
        assert len({os.getpid(), first, second}) == 3
        assert await one(0) == first
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await half(0)
        assert await asyncio.gather(*map(half, (1, 2, 3))) == [6, 3, 2]
        os.kill(first, 9)
        with pytest.raises(RuntimeError, match="has ended"):
            await one(0)
    async with crew.worker(bytes) as large:
        assert await large(3_000_000) == bytes(3_000_000)  # pyright: ignore[reportArgumentType]
    for _ in range(100):
        if not _alive(second):
            break
        await asyncio.sleep(0.05)
    assert not _alive(second)
    print("told")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_are_processes_that_answer_in_order_tell_errors_and_end_with_their_context():
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=60)
    assert done.stdout == "told\n", done.stderr


async def test_without_a_crew_a_thread_does_the_work():
    async with Crew().worker(thread) as name:
        assert await name(0) != threading.main_thread().name


if __name__ == "__main__":
    asyncio.run(story())
