"""HTTP load from a process of its own: `python -m tests.load.driver < task.json`, figures as JSON on stdout.

Closed loop: each connection sends when its last operation is answered. With a `rate`, open loop: operations begin at
their times whatever the answers do, and latency counts from the time when one was due.
"""

import asyncio
import itertools
import json
import random
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from tests.load.scenarios import SCENARIOS, Request

TIMEOUT = 30.0


@dataclass(frozen=True)
class Task:
    """What is to be driven."""

    scenario: str
    host: str
    port: int
    token: str
    connections: int
    seconds: float
    warmup: float = 1.0
    rate: float = 0.0
    seed: int = 0
    names: list[str] = field(default_factory=list[str])
    words: list[str] = field(default_factory=list[str])


@dataclass
class Outcome:
    """Latencies in seconds of the operations that ended well within the time, and the refusals of the others."""

    latencies: list[float] = field(default_factory=list[float])
    errors: dict[str, int] = field(default_factory=dict[str, int])


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time: the least that reads what our gateway answers."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._data = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        _, length, rest = head.lower().partition(b"content-length:")
        if not length:
            self._answer.set_exception(ValueError("an answer without content-length"))
        elif len(body) >= int(rest.partition(b"\r\n")[0]):
            self._data = b""
            if not self._answer.done():
                self._answer.set_result((int(head[9:12]), body))

    def send(self, head: str, request: Request) -> asyncio.Future[tuple[int, bytes]]:
        """The status and body of the answer, once it is there."""
        lines = f"{request.method} {request.path} HTTP/1.1\r\n{head}"
        if request.key:
            lines += f"idempotency-key: {request.key}\r\n"
        body = json.dumps(request.body, ensure_ascii=False).encode() if request.body is not None else b""
        if request.body is not None:
            lines += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(f"{lines}\r\n".encode() + body)
        return self._answer


async def drive(task: Task) -> Outcome:
    """Runs the scenario on every connection until the time is over."""
    loop, outcome = asyncio.get_running_loop(), Outcome()
    head = f"host: {task.host}\r\nauthorization: Bearer {task.token}\r\n"
    began = time.perf_counter()
    counted_from, until = began + task.warmup, began + task.warmup + task.seconds
    arrivals = itertools.count()

    async def work(number: int) -> None:
        _, connection = await loop.create_connection(Connection, task.host, task.port)
        chance = random.Random(f"{task.seed}/{number}")
        while True:
            due = time.perf_counter()
            if task.rate:
                due = began + next(arrivals) / task.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if due >= until:
                return
            refused = ""
            steps = SCENARIOS[task.scenario](task, chance)
            try:
                request = next(steps)
                while True:
                    if request.pause:
                        await asyncio.sleep(request.pause)
                    async with asyncio.timeout(TIMEOUT):
                        status, body = await connection.send(head, request)
                    if status >= 400:
                        refused = f"{status} {body[:1000].decode(errors='replace')}"
                        break
                    request = steps.send(body)
            except StopIteration:
                pass
            except (OSError, TimeoutError, ValueError) as error:
                refused = repr(error)
                _, connection = await loop.create_connection(Connection, task.host, task.port)
            if refused:
                outcome.errors[refused] = outcome.errors.get(refused, 0) + 1
            elif due >= counted_from:
                outcome.latencies.append(time.perf_counter() - due)

    await asyncio.gather(*(work(number) for number in range(task.connections)))
    return outcome


def main() -> None:
    """Reads the task, drives it, prints the figures."""
    outcome = uvloop.run(drive(Task(**json.load(sys.stdin))))
    used = resource.getrusage(resource.RUSAGE_SELF)
    json.dump(
        {"latencies": outcome.latencies, "errors": outcome.errors, "cpu": used.ru_utime + used.ru_stime},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
