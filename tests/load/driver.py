"""HTTP load from a process of its own: `python -m tests.load.driver < task.json`, figures as JSON on stdout.

Closed loop: each connection sends when its last operation is answered. With a `rate`, open loop: operations begin at
their times whatever the answers do, and latency counts from the time when one was due.
"""

import asyncio
import contextlib
import itertools
import json
import random
import resource
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvloop

from tests.load.scenarios import SCENARIOS, TOLD, Request, Told

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


class Invoices:
    """The invoices of orders as a person's client hears of them: by the event stream, each then read once."""

    READERS = 8

    def __init__(self, task: Task, head: str) -> None:
        self._task, self._head = task, head
        self._found: dict[str, asyncio.Future[bytes]] = {}
        self._told: asyncio.Queue[str] = asyncio.Queue()

    def of(self, order: str) -> asyncio.Future[bytes]:
        """The order's invoice."""
        return self._found.setdefault(order, asyncio.get_running_loop().create_future())

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Listens inside the context."""
        url = f"http://{self._task.host}:{self._task.port}/v1/stream?collections=invoices"
        headers = {"authorization": f"Bearer {self._task.token}"}
        async with (
            httpx.AsyncClient(timeout=TIMEOUT) as client,
            client.stream("GET", url, headers=headers) as stream,
        ):
            lines = stream.aiter_lines()
            await anext(lines)
            work = [self._listen(lines), *(self._read() for _ in range(self.READERS))]
            tasks = [asyncio.create_task(one) for one in work]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, lines: AsyncIterator[str]) -> None:
        told = set[str]()
        async for line in lines:
            name = json.loads(line[6:]).get("name") if line.startswith("data: ") else None
            if name and name not in told:
                told.add(name)
                self._told.put_nowait(name)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._task.host, self._task.port)
        while True:
            name = await self._told.get()
            status, body = await connection.send(self._head, Request("GET", f"/v1/{name}"))
            order = json.loads(body).get("order") if status == 200 else ""
            if order and not (found := self.of(order)).done():
                found.set_result(body)


async def drive(task: Task) -> Outcome:
    """Runs the scenario on every connection until the time is over."""
    loop, outcome = asyncio.get_running_loop(), Outcome()
    head = f"host: {task.host}\r\nauthorization: Bearer {task.token}\r\n"
    began = time.perf_counter()
    counted_from, until = began + task.warmup, began + task.warmup + task.seconds
    arrivals, invoices = itertools.count(), Invoices(task, head)

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
                    async with asyncio.timeout(TIMEOUT):
                        if isinstance(request, Told):
                            request = steps.send(await invoices.of(request.order))
                            continue
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

    async with invoices.followed() if task.scenario in TOLD else contextlib.nullcontext():
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
