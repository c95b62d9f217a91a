"""Drives the rows of the table and prints them with what each process spent."""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import yaml
from crmkit.bus import Bus
from crmkit.config import Config
from crmkit.map import NATS_PORT, POSTGRES_PORT, moved
from local_platform.layout import ROLES, ROOT
from local_platform.people import load

from tests.load import importing, saving, seed
from tests.load.driver import Task

# Who owns the seeded accounts: the representative's lists are sparse, the marketer's empty.
SPARSE = 8
REST = 45


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    scenario: str
    person: str
    first: str
    goal: str
    apps: tuple[str, ...] = ("customer",)


ROWS = {
    "get": [Row("get an account by name", "get", "sales1", "700/s, p99 60 ms", "1,200/s, p99 40 ms")],
    "create": [Row("create an account", "create", "sales1", "350/s, p99 100 ms", "650/s, p99 60 ms")],
    "search": [
        Row("search by a fragment, page of 20", "search", "zong", "350/s, p99 80 ms", "700/s, p99 50 ms")
    ],
    "list": [
        Row("list page, dense scope", "list", "zong", "p99 60 ms", "p99 20 ms"),
        Row("list page, sparse scope", "list", "sales2", "p99 60 ms", "p99 20 ms"),
        Row("list page, empty scope", "list", "marketer", "p99 60 ms", "p99 20 ms"),
    ],
    "order": [
        Row(
            "order of 3 lines → placed → invoice issued",
            "order",
            "admin",
            "40/s, lag p99 1 s",
            "100/s, lag p99 300 ms",
            ("customer", "orders", "billing"),
        )
    ],
    "delivery": [
        Row(
            "order of 3 lines → delivered → invoice issued",
            "delivery",
            "admin",
            "measured",
            "measured",
            ("customer", "orders", "billing"),
        )
    ],
    "deal": [Row("deal: create, move, win", "deal", "sales1", "90/s", "200/s", ("customer", "sales"))],
}


@dataclass
class Figures:
    """What one run gave."""

    rate: float
    percentiles: tuple[float, float, float]
    errors: int
    why: str
    cpu: dict[str, float] = field(default_factory=dict[str, float])
    """CPU microseconds for each operation, by process."""


Spent = dict[tuple[str, int], float]


class Bench:
    """A loaded platform and its rows."""

    def __init__(self, asked: argparse.Namespace, apps: set[str], url: str, issuer: str) -> None:
        self.asked, self.apps, self.url, self.issuer = asked, apps, url, issuer
        self.rows = [row for name in asked.rows.split(",") for row in ROWS.get(name, [])]
        self.names: list[str] = []
        self.words: list[str] = []

    async def load(self) -> None:
        """Publishes the people and fills the databases."""
        nats = (self.asked.state / "nats" / "password").read_text()
        people = load()
        async with Bus(f"nats://guanxi:{nats}@127.0.0.1:{moved(NATS_PORT)}", "bench") as bus:
            await bus.connected()
            async with Config(None, bus) as config:
                if "workspace" not in self.apps:
                    for role, entry in yaml.safe_load(ROLES.read_text()).items():
                        await config.put(f"role.{role}", entry)
                for department in people.departments:
                    key = f"department.{department.name.partition('/')[2]}"
                    await config.put(key, {"parent": department.parent, "displayName": department.zh})
                for person in people.people.values():
                    if person.employee:
                        entry = {
                            "department": person.department, "departments": [], "disabled": False,
                            "roles": list(person.roles), "displayName": person.zh, "superior": person.superior,
                        }  # fmt: skip
                        await config.put(f"employee.{person.employee.partition('/')[2]}", entry)
        server = self.server

        def owner(username: str) -> tuple[str, str]:
            person = people.people[username]
            return person.employee or "", person.department or ""

        await seed.accounts(server, SPARSE, [owner("sales2")])
        await seed.accounts(server, self.asked.accounts, [owner("sales1"), owner("zong")])
        customer = await asyncpg.connect(f"{server}/customer")
        mine = await customer.fetch(
            "SELECT id, display_name FROM accounts WHERE owner = $1 ORDER BY id LIMIT 5000",
            owner("sales1")[0],
        )
        await customer.close()
        self.names = [f"accounts/{row['id']}" for row in mine]
        # Two characters in the midst of a name, as people type them.
        self.words = [row["display_name"][3:5] for row in mine[:500]]
        await seed.opportunities(server, self.asked.opportunities, self.names, owner("sales1"))

    async def table(self, connections: int) -> None:
        """Runs every row, interleaved, and prints the medians."""
        found: dict[str, list[Figures]] = {}
        rows = [row for row in self.rows if self.apps.issuperset(row.apps)]
        for number in range(self.asked.runs):
            for row in rows:
                found.setdefault(row.title, []).append(await self.run(row, connections, number))
        load_average = os.getloadavg()[0]
        print(
            f"\n{connections} connections, {self.asked.runs} runs of {self.asked.seconds:g} s, load average {load_average:.1f}\n"
        )
        print(
            f"| {'operation':34} | rate/s | p50 ms | p95 ms | p99 ms | errors | first | goal | CPU µs an operation |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for row in rows:
            runs = found[row.title]
            rate = statistics.median(run.rate for run in runs)
            p50, p95, p99 = (statistics.median(run.percentiles[i] for run in runs) for i in range(3))
            cpu = {name: statistics.median(run.cpu.get(name, 0) for run in runs) for name in runs[0].cpu}
            spent = " + ".join(f"{name} {round(value)}" for name, value in cpu.items() if value >= 20)
            print(
                f"| {row.title:34} | {rate:.0f} | {p50 * 1e3:.1f} | {p95 * 1e3:.1f} | {p99 * 1e3:.1f} "
                f"| {sum(run.errors for run in runs)} | {row.first} | {row.goal} "
                f"| {round(sum(cpu.values()))} = {spent} |",
                flush=True,
            )
            for why in {run.why for run in runs if run.why}:
                print(f"  {row.title}: {why}")
        for row in self.rows:
            if row not in rows:
                print(f"left out: {row.title} (needs {', '.join(set(row.apps) - self.apps)})")

    async def run(self, row: Row, connections: int, number: int) -> Figures:
        """One run of a row, in a driver of its own process."""
        task = Task(
            scenario=row.scenario, host="127.0.0.1", port=urlsplit(self.url).port or 80, token=await self.token(row.person),
            connections=connections, seconds=self.asked.seconds, rate=self.asked.rate,
            seed=hash((os.getpid(), row.title, connections, number)), names=self.names, words=self.words,
        )  # fmt: skip
        driver = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.load.driver", cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        before = self.spent()
        output, _ = await driver.communicate(json.dumps(asdict(task)).encode())
        if row.scenario in ("create", "deal", "order", "delivery"):
            # What follows by the bus belongs to the operation too.
            await asyncio.sleep(2)
        after = self.spent()
        answer = json.loads(output)
        latencies: Sequence[float] = sorted(answer["latencies"])
        # The processes also worked while the driver warmed up.
        share = task.seconds / (task.seconds + task.warmup)
        count = max(1, len(latencies))
        cpu = {name: spent * share / count * 1e6 for name, spent in _between(before, after).items()}
        return Figures(
            rate=len(latencies) / task.seconds,
            percentiles=tuple(
                latencies[min(count - 1, int(count * p))] if latencies else 0.0 for p in (0.5, 0.95, 0.99)
            ),  # type: ignore[arg-type]
            errors=sum(answer["errors"].values()),
            why=next(iter(answer["errors"]), ""),
            cpu=cpu,
        )

    async def bring_in(self) -> None:
        """Prints the row of the import: one file, once, with what each process spent for a line."""
        if not self.apps.issuperset({"customer", "workspace"}):
            print("left out: import of customers (needs customer and workspace)")
            return
        for kind in self.asked.files.split(","):
            await self._bring_in(kind)

    async def _bring_in(self, kind: str) -> None:
        lines = self.asked.lines
        file = importing.content(kind, lines, random.Random())
        sizes = list[float]()
        watching = asyncio.create_task(self._watch(sizes))
        found = await importing.bring_in(
            self.url, lambda: self.token("manager"), kind, file, lines, self.spent
        )
        lag = await self._followed()
        watching.cancel()
        marks = [*found.marks, self.spent()]
        print(
            f"\nimport of {lines} customers ({kind}): {lines / found.run if found.run else 0:.0f} rows/s (first 3,000,"
            f" goal 10,000), its check {lines / found.check:.0f}, both {lines / (found.check + found.run):.0f};"
            f" what follows by the bus ended {lag:.1f} s later: {lines / (found.run + lag):.0f} rows/s with it;"
            f" load average {os.getloadavg()[0]:.1f}; customer (PSS) {min(sizes):.0f} to {max(sizes):.0f} MB"
        )
        for what, before, after in zip(("check", "run", "afterwards"), marks, marks[1:], strict=False):
            spent = _between(before, after)
            parts = " + ".join(
                f"{name} {s / lines * 1e6:.0f}" for name, s in spent.items() if s > lines * 1e-5
            )
            print(f"  CPU µs a row, {what}: {sum(spent.values()) / lines * 1e6:.0f} = {parts}")
        spent = _between(marks[0], marks[-1])
        parts = " + ".join(f"{name} {s / lines * 1e6:.0f}" for name, s in spent.items() if s > lines * 1e-5)
        print(f"  CPU µs a row, all: {sum(spent.values()) / lines * 1e6:.0f} = {parts}", flush=True)
        if found.wrong:
            print(f"  import: {found.wrong}")

    async def save(self) -> None:
        """Prints what fifty people who write feel of a backup."""
        size = await self._size()
        print(
            f"\nbackup of {size / 2**20:.0f} MiB while {saving.PEOPLE} people write {saving.RATE:g} accounts a second:"
        )

        async def task(seconds: float) -> Task:
            return Task(
                scenario="create", host="127.0.0.1", port=urlsplit(self.url).port or 80,
                token=await self.token("sales1"), connections=saving.PEOPLE, rate=saving.RATE, warmup=saving.WARMUP,
                seconds=seconds, seed=time.time_ns(),
            )  # fmt: skip

        took, pairs = await saving.measure(self.asked.state, task, self.asked.runs)
        print(f"backup in {took:.1f} s: {saving.verdict(pairs)}", flush=True)

    async def _size(self) -> int:
        admin = await asyncpg.connect(f"{self.server}/postgres")
        try:
            return await admin.fetchval("SELECT sum(pg_database_size(oid)) FROM pg_database")
        finally:
            await admin.close()

    async def _watch(self, sizes: list[float]) -> None:
        """Notes every second how large the processes of customer are."""
        while True:
            size = 0.0
            for name, process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    size += process.memory_full_info().pss / 2**20 if name == "customer" else 0
            sizes.append(size)
            await asyncio.sleep(1)

    async def _followed(self) -> float:
        """Seconds until every outbox is told and every consumer has handled what it was told."""
        begun, quiet = time.monotonic(), 0
        nats = (self.asked.state / "nats" / "password").read_text()
        async with Bus(f"nats://guanxi:{nats}@127.0.0.1:{moved(NATS_PORT)}", "bench") as bus:
            js = await bus.connected()
            while time.monotonic() - begun < importing.PATIENCE:
                waiting = await self._untold()
                for stream in await js.streams_info():
                    for consumer in await js.consumers_info(stream.config.name or ""):
                        if consumer.config.durable_name is None:
                            continue  # Who watches the configuration.
                        waiting += (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
                if not waiting:
                    quiet += 1
                    if quiet == 3:
                        return time.monotonic() - begun
                else:
                    quiet = 0
                await asyncio.sleep(0.3)
        raise TimeoutError(f"{waiting} facts are left after {importing.PATIENCE:.0f} s")

    async def _untold(self) -> int:
        """Facts that no relay has sent yet."""
        found = 0
        for app in sorted(self.apps - {"gateway"}):
            connection = await asyncpg.connect(f"{self.server}/{app}")
            found += await connection.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
            await connection.close()
        return found

    @property
    def server(self) -> str:
        """The database server, as its owner."""
        password = (self.asked.state / "postgres" / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{moved(POSTGRES_PORT)}"

    async def token(self, username: str) -> str:
        """A fresh access token."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.issuer}/dev/token", json={"username": username})
            return answer.raise_for_status().json()["access_token"]

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Every process of the platform by the name of what it belongs to."""
        named: dict[str, psutil.Process] = {}
        for file in sorted(Path(self.asked.state).glob("*/*.pid")):
            with contextlib.suppress(psutil.NoSuchProcess, ValueError, IndexError):
                named[file.stem] = psutil.Process(int(file.read_text().split()[0]))
        # The apps are children of the one that forks them, and counted under their own names.
        seen = set(named.values())
        for name, process in named.items():
            yield name, process
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in set(process.children(recursive=True)) - seen:
                    seen.add(child)
                    yield name, child

    def spent(self) -> Spent:
        """CPU seconds so far, by name and process."""
        found: Spent = {}
        for name, process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                # With what its children had spent that have ended: sessions of PostgreSQL, workers of a run.
                found[name, process.pid] = sum(times[:4])
        return found

    async def memory(self) -> None:
        """Prints the proportional set size of every process, at once and when the database has let idle sessions go."""
        self._sizes("right after")
        await asyncio.sleep(REST)
        self._sizes(f"after {REST} s of rest")

    def _sizes(self, when: str) -> None:
        sizes: dict[str, float] = {}
        for name, process in self.processes():
            try:
                sizes[name] = sizes.get(name, 0) + process.memory_full_info().pss / 2**20
            except psutil.NoSuchProcess:
                continue
        parts = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
        print(f"\nmemory (PSS) {when}: {sum(sizes.values()):.0f} MB = {parts} (first 900 MB, goal 600 MB)")


def _between(before: Spent, after: Spent) -> dict[str, float]:
    """CPU seconds by name. What a process has spent that ended meanwhile stands with the one that had started it."""
    total: dict[str, float] = {}
    for found, sign in ((after, 1), (before, -1)):
        for (name, _), seconds in found.items():
            total[name] = total.get(name, 0) + sign * seconds
    return total
