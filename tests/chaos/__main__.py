"""`make chaos`: faults on the running platform while people write.

Each fault runs under load for some seconds. Afterwards: every write that was answered is there exactly once, every
one of them is on the time line exactly once, and nothing but 503, 504 and the network's own silence was refused.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
from local_platform.launcher import Platform, Running
from local_platform.secret import Secrets
from local_platform.signin import sign_in

WRITERS = 4
ALLOWED = {409, 429, 503, 504}


@dataclass
class Load:
    """People who make customers, again and again, each with its own key until it is answered."""

    url: str
    token: str
    stop: threading.Event = field(default_factory=threading.Event)
    made: list[str] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)

    def write(self) -> None:
        """One writer."""
        with httpx.Client(base_url=self.url, timeout=6) as http:
            while not self.stop.is_set():
                key, title = uuid4().hex, f"{uuid4().hex}有限公司"
                headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": key}
                while True:
                    try:
                        answer = http.post("/v1/accounts", json={"displayName": title}, headers=headers)
                    except httpx.TransportError:
                        time.sleep(0.2)
                        continue
                    if answer.status_code == 201:
                        self.made.append(answer.json()["name"])
                        break
                    self.refusals[answer.status_code] += 1
                    if answer.status_code not in ALLOWED:
                        return
                    time.sleep(0.2)


def process(module: str) -> psutil.Process:
    """The process of an app of this platform."""
    mine = psutil.Process().children(recursive=True)
    return next(p for p in mine if p.is_running() and ["-m", module, "serve"] == p.cmdline()[-3:])


def kill(app: str) -> None:
    """kill -9."""
    process(app).send_signal(signal.SIGKILL)


def freeze(app: str) -> None:
    """SIGSTOP for five seconds."""
    frozen = process(app)
    frozen.suspend()
    time.sleep(5)
    frozen.resume()


FAULTS: dict[str, Callable[[], None]] = {
    "kill -9 customer": lambda: kill("customer"),
    "kill -9 gateway": lambda: kill("gateway"),
    "kill -9 workspace": lambda: kill("workspace"),
    "freeze customer 5 s": lambda: freeze("customer"),
}


def suffer(name: str, fault: Callable[[], None], running: Running, token: str, seconds: float) -> bool:
    """True where the platform kept its word under the fault."""
    load = Load(running.url, token)
    writers = [threading.Thread(target=load.write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds / 3)
    before = len(load.made)
    fault()
    time.sleep(seconds * 2 / 3)
    load.stop.set()
    for writer in writers:
        writer.join(60)
    lost, twice = audit(running, token, load.made)
    bad = {status: n for status, n in load.refusals.items() if status not in ALLOWED}
    good = not (lost or twice or bad) and len(load.made) > before
    told = f"{len(load.made)} written ({before} before), refused {dict(load.refusals)}, lost {lost}, doubled {twice}"
    print(f"{'ok  ' if good else 'FAIL'} {name}: {told}", flush=True)
    return good


def audit(running: Running, token: str, made: list[str]) -> tuple[int, int]:
    """How many answered writes are missing, and how many have more or less than one entry on the time line."""
    lost = doubled = 0
    with httpx.Client(base_url=running.url, timeout=10, headers={"Authorization": f"Bearer {token}"}) as http:
        for name in made:
            lost += http.get(f"/v1/{name}").status_code != 200
        deadline = time.monotonic() + 60
        waiting = list(made)
        while waiting and time.monotonic() < deadline:
            name = waiting[-1]
            query = {"filter": f'account = "{name}"'}
            entries = http.get("/v1/timeline", params=query).json().get("timeline", [])
            if len(entries) == 1:
                waiting.pop()
            elif len(entries) > 1:
                doubled += 1
                waiting.pop()
            else:
                time.sleep(0.2)
    return lost, doubled + len(waiting)


async def main(seconds: float) -> int:
    """Runs every fault; 1 where one broke a promise."""
    os.environ.setdefault("PORT_OFFSET", "8000")
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        async with Platform(state=state).running() as running:
            good = True
            for name, fault in FAULTS.items():
                callback = f"{running.url}/session/callback"
                tokens = await sign_in(running.issuer, "sales1", callback, Secrets(state / "secrets.json"))
                good &= await asyncio.to_thread(suffer, name, fault, running, tokens.access_token, seconds)
        return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…")
    parser.add_argument("--seconds", type=float, default=12)
    sys.exit(asyncio.run(main(parser.parse_args().seconds)))
