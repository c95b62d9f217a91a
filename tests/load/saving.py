"""What people feel of a backup: fifty of them write, and now and then one is made.

Windows without and with a backup take turns, each as long as a backup, so that both see the same machine.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from local_platform.backup import Vault
from local_platform.layout import ROOT

from tests.load.driver import Task

# Fifty people who make one call in five seconds each.
PEOPLE, RATE = 50, 10.0
# Time to begin: the driver counts from here on.
WARMUP = 2.0
SHORTEST_SECONDS = 15.0

Latencies = list[float]


@dataclass(frozen=True)
class Pair:
    """Seconds that people waited in two windows of the same length."""

    quiet: Latencies
    busy: Latencies


def prepare(state: Path) -> None:
    """Makes the key, so that the platform archives WAL as one does that is backed up."""
    vault = Vault(state / "backups")
    if not (vault.folder / "recipient").exists():
        vault.make_key(state / "backup.key")


async def make(state: Path) -> None:
    """Makes a backup with the command that the schedule runs."""
    command = [sys.executable, "-m", "local_platform.backup", "create", "--state", str(state)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError("the backup failed")


def clear(state: Path) -> None:
    """Takes away what was made: the figures are wanted, not the backups."""
    for folder in (state / "backups").glob("BK*"):
        shutil.rmtree(folder)


async def measure(
    state: Path,
    task: Callable[[float], Awaitable[Task]],
    pairs: int,
    work: Callable[[Path], Awaitable[None]] = make,
) -> tuple[float, list[Pair]]:
    """How long the work takes, and pairs of windows; which of the two comes first takes turns."""
    # The first one also warms up what the others find warm.
    await work(state)
    begun = time.monotonic()
    await work(state)
    took = time.monotonic() - begun
    seconds = max(took, SHORTEST_SECONDS)
    found: list[Pair] = []
    for number in range(pairs):
        windows: dict[bool, Latencies] = {}
        for busy in (number % 2 == 1, number % 2 == 0):
            clear(state)
            windows[busy] = await _window(await task(seconds), work(state) if busy else None)
        found.append(Pair(windows[False], windows[True]))
        print(f"  {_told(found[-1])}; load average {os.getloadavg()[0]:.1f}", flush=True)
    clear(state)
    return took, found


async def _window(task: Task, work: Awaitable[None] | None) -> Latencies:
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.driver", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    driven = asyncio.create_task(driver.communicate(json.dumps(asdict(task)).encode()))
    await asyncio.sleep(WARMUP)
    if work is not None:
        await work
    output, _ = await driven
    answer = json.loads(output)
    if answer["errors"]:
        raise RuntimeError(f"refused: {answer['errors']}")
    return answer["latencies"]


def p95(latencies: Latencies) -> float:
    """What 95 of a hundred did not wait longer than."""
    return statistics.quantiles(latencies, n=20)[-1]


def _told(pair: Pair) -> str:
    median, tail = statistics.median, p95
    return (
        f"p50 {median(pair.quiet) * 1e3:.1f} → {median(pair.busy) * 1e3:.1f} ms,"
        f" p95 {tail(pair.quiet) * 1e3:.1f} → {tail(pair.busy) * 1e3:.1f} ms ({tail(pair.busy) / tail(pair.quiet):.2f})"
    )


def verdict(pairs: list[Pair]) -> str:
    """By how much a backup raises the p95: of all that was waited, and the median of the pairs."""
    whole = Pair([one for pair in pairs for one in pair.quiet], [one for pair in pairs for one in pair.busy])
    ratio = statistics.median(p95(pair.busy) / p95(pair.quiet) for pair in pairs)
    return f"{_told(whole)}, median of {len(pairs)} pairs {ratio:.2f} (goal: below 1.20)"
