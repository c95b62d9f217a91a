"""`python -m tests.load.directory`: how long the telephone directory takes to answer, with half a million numbers.

The directory is the global search over customers, contacts, leads and colleagues. Insight runs by itself on a
PostgreSQL of its own, with both walls up; what is measured are calls through its front door, one after the other.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from crmkit.search import search_columns
from crmkit.testing import Client, Parts, Service
from uuid_utils.compat import uuid7

from tests.load.scenarios import SYLLABLES, company
from tests.load.seed import copy, values, without_fragments

FILTER = " OR ".join(f'collection = "{name}"' for name in ("accounts", "contacts", "leads", "employees"))
KINDS = (("accounts", "customer", 0.4), ("contacts", "customer", 0.4), ("leads", "sales", 0.2))
# Whose records they are: of a few people whom one manager sees together, and a handful of one agent.
DENSE, SPARSE, FEW = ("sales1", "zong"), "sales2", 500
BATCH, GOAL = 5000, 0.05


async def main() -> None:
    """Fills the directory, asks it, prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.directory", description=__doc__)
    parser.add_argument("--numbers", type=int, default=500_000)
    parser.add_argument("--asked", type=int, default=100, help="questions of each kind")
    parser.add_argument("--state", type=Path, default=Path(".local/bench-directory"))
    asked = parser.parse_args()
    from insight.app import app

    os.environ.setdefault("LOG_LEVEL", "WARNING")
    async with Parts(asked.state.resolve()) as parts, parts.service(app()) as service:
        began = time.monotonic()
        known = await fill(service, asked.numbers)
        print(f"{asked.numbers} numbers are there after {time.monotonic() - began:.0f} s")
        await table(service, known, asked.asked)


async def fill(service: Service, count: int) -> Sequence[tuple[str, str]]:
    """As many documents as there are numbers; some names and numbers of them, to ask for."""
    from insight.model.search_document import SearchDocument

    search: Any = SearchDocument.search_table
    connection = await asyncpg.connect(service.parts.admin_url, database="insight")
    if await connection.fetchval("SELECT count(*) FROM search_documents") == count:
        rows = await connection.fetch("SELECT title, keys FROM search_documents ORDER BY id LIMIT 5000")
        await connection.close()
        return [(row["title"], row["keys"][0]) for row in rows]
    await connection.execute("TRUNCATE search_documents CASCADE")
    chance, known = random.Random(count), list[tuple[str, str]]()
    async with without_fragments(connection, search.name):
        for start in range(0, count, BATCH):
            rows = list(documents(service, range(start, min(start + BATCH, count)), count, chance))
            await copy(connection, SearchDocument.__table__, [values(row) for row in rows])
            await copy(connection, search, [_found_by(row) for row in rows])
            known += [(row.title, row.keys[0]) for row in rows[:: max(1, BATCH // 10)]]
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return known


def documents(service: Service, numbers: range, count: int, chance: random.Random) -> Iterator[Any]:
    """Customers, people who work there, and leads, each with a telephone of its own."""
    from insight.model.search_document import SearchDocument

    began = datetime.now(UTC) - timedelta(days=900)
    for number in numbers:
        [(collection, area, _)] = chance.choices(KINDS, [share for _, _, share in KINDS])
        title = company(chance) if collection == "accounts" else "".join(chance.choices(SYLLABLES, k=3))
        person = service.person(SPARSE if number < FEW else DENSE[number % len(DENSE)])
        phone = f"+8613{(number * 7919) % 10**9:09}"
        row = SearchDocument(
            target=f"{collection}/{uuid7()}", collection=collection, area=area, title=title, keys=[phone], texts=[],
            sources=[], state="ACTIVE", account="", requires=f"{area}.{collection}.read", source_scope="OWNED",
            deleted=False, version=1,
        )  # fmt: skip
        row.id = uuid7()
        row.owner, row.department, row.creator = (
            person.employee or "",
            person.department or "",
            "system/bench",
        )
        row.create_time = row.update_time = began + timedelta(seconds=number)
        yield row


async def table(service: Service, known: Sequence[tuple[str, str]], count: int) -> None:
    """Prints what each kind of question took each kind of person."""
    chance = random.Random(1)
    print(
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; CPU of insight and PostgreSQL together"
    )
    print("| who asks | by | CPU ms | p50 ms | p95 ms | most ms | found |\n|---|---|---|---|---|---|---|")
    for who in (SPARSE, DENSE[0], "manager", "admin"):
        for what in ("two characters", "initials", "four digits", "eight digits"):
            questions = [_question(what, *chance.choice(known)) for _ in range(count)]
            spent = _spent(service)
            took, found = await _timed(service.client(who), questions)
            cpu, p95 = (_spent(service) - spent) / (count + 1), statistics.quantiles(took, n=20)[18]
            missed = "" if p95 <= GOAL else " (more than 50 ms)"
            figures = " | ".join(f"{one * 1e3:.1f}" for one in (cpu, statistics.median(took), p95, max(took)))
            print(f"| {who} | {what} | {figures}{missed} | {found / count:.1f} |", flush=True)


def _spent(service: Service) -> float:
    """CPU seconds so far, of this process, in which insight runs, and of the database."""
    [file] = service.parts.directory.rglob("postmaster.pid")
    postmaster = psutil.Process(int(file.read_text().split()[0]))
    times = [one.cpu_times() for one in (postmaster, *postmaster.children())]
    return time.process_time() + sum(one.user + one.system for one in times)


async def _timed(client: Client, questions: Sequence[str]) -> tuple[list[float], int]:
    took, found = list[float](), 0
    for number, q in enumerate([questions[0], *questions]):
        began = time.perf_counter()
        page = await client.ListSearchDocuments(q=q, filter=FILTER, pageSize=20)
        # The first one opens the connection.
        if number:
            took.append(time.perf_counter() - began)
            found += len(page.search_documents)
    return took, found


def _question(what: str, title: str, number: str) -> str:
    from crmkit import text

    if what == "two characters":
        return title[-9:-7] if len(title) > 9 else title[:2]
    if what == "initials":
        return min(text.pinyin_keys(title, ""), key=len)[:4]
    return number[-4:] if what == "four digits" else number[3:11]


def _found_by(row: Any) -> list[Any]:
    return [row.id, *search_columns([row.title], [row.title], phones=row.keys).values()]


if __name__ == "__main__":
    asyncio.run(main())
