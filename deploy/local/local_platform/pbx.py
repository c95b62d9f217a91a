"""A little telephone exchange to try telesales with: it takes calls over HTTP and tells how they go.

The contract of the exchange, which an adapter of a real one keeps too:

- `POST /calls` with `{call, from, to, agent}` → `202 {"providerCall": key}`. The same `Idempotency-Key` is one call.
- It tells the platform by `POST {report}` (`/v1/calls:report`, with an API key of the role `exchange`) of `STARTED`, `ANSWERED`
  and `ENDED`, each as often as it likes and in any order: `{call, providerCall, event, time, cause, recording}`.

Who is called decides what happens: a number that ends in 1 is busy, in 2 nobody answers, in 3 the end is never told, in 4
everything is told twice and the end first; all others answer and hang up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Report = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


class Exchange:
    """Takes calls, plays them, and tells of each step."""

    def __init__(self, report: Report, ring: float = 2.0, talk: float = 8.0) -> None:
        self._report, self._ring, self._talk = report, ring, talk
        self.asked: list[dict[str, Any]] = []
        self._keys: dict[str, str] = {}
        self._playing: set[asyncio.Task[None]] = set()

    def app(self) -> Starlette:
        """What answers on the port."""
        return Starlette(routes=[Route("/calls", self._dial, methods=["POST"])])

    async def _dial(self, request: Request) -> JSONResponse:
        asked = await request.json()
        key = request.headers.get("Idempotency-Key") or uuid4().hex
        if key not in self._keys:
            self._keys[key] = f"pbx-{uuid4().hex}"
            self.asked.append(asked)
            task = asyncio.create_task(self._play(asked, self._keys[key]))
            self._playing.add(task)
            task.add_done_callback(self._playing.discard)
        return JSONResponse({"providerCall": self._keys[key]}, status_code=202)

    async def _play(self, asked: dict[str, Any], key: str) -> None:
        began, last = datetime.now(UTC), asked["to"][-1]
        answered, ended = (
            began + timedelta(seconds=self._ring), began + timedelta(seconds=self._ring + self._talk),
        )  # fmt: skip
        cause = {"1": "BUSY", "2": "NO_ANSWER"}.get(last, "NORMAL")
        steps = [("STARTED", began, ""), ("ANSWERED", answered, ""), ("ENDED", ended, cause)]
        if cause != "NORMAL":
            steps = [steps[0], ("ENDED", answered, cause)]
        if last == "3":
            steps = steps[:2]
        if last == "4":
            steps = [*steps[::-1], *steps]
        for event, when, why in steps:
            await asyncio.sleep(max(0.0, (when - datetime.now(UTC)).total_seconds()))
            told = {
                "call": asked["call"],
                "providerCall": key,
                "event": event,
                "time": when.isoformat(),
                "cause": why,
            }
            if event == "ENDED" and cause == "NORMAL":
                told["recording"] = f"recordings/{key}.wav"
            await self._report(told)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """Serves on a port of this machine, any free one if 0; gives the address."""
        server = _Server(uvicorn.Config(self.app(), log_config=None, access_log=False, lifespan="off"))
        listening = socket.create_server(("127.0.0.1", port))
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
            for one in self._playing:
                one.cancel()


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        # Signals belong to the launcher, which stops this server in its turn.
        return nullcontext()


def over_http(url: str, key: str) -> Report:
    """Tells the platform through its front door; what it does not take at once is told again."""

    async def report(told: dict[str, Any]) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            for pause in (1, 2, 4, 8):
                try:
                    answer = await client.post(url, json=told, headers={"Authorization": f"Bearer {key}"})
                except httpx.HTTPError as problem:
                    log.warning("the platform does not answer: %r", problem)
                else:
                    if answer.status_code < 500:
                        return
                await asyncio.sleep(pause)

    return report


async def _serve(port: int, report: Report) -> None:
    async with Exchange(report).serving(port) as address:
        print(f"exchange at {address}")
        await asyncio.Event().wait()


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--port", type=int, default=7490)
    options.add_argument("--report", required=True, help="http://…/v1/calls:report")
    options.add_argument("--key", required=True, help="an API key of the role exchange")
    given = options.parse_args()
    asyncio.run(_serve(given.port, over_http(given.report, given.key)))
