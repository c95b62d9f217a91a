"""`python -m tests.load.customers`: the collision check and the simulation of the sea, with half a million customers.

Customer runs by itself on a PostgreSQL of its own, with both walls up. What stands in `--state` afterwards is what
`python -m tests.load --accounts 500000 --apps gateway,customer,workspace --rows get,list` takes up.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
from crm.common.v1 import common_pb2
from crm.customer.v1 import pb
from crmkit.testing import Parts, Service

from tests.load import seed
from tests.load.bench import SPARSE
from tests.load.scenarios import company

STATES, DAYS = 6, 90
GOAL, MINUTES = 0.02, 5
# Six states of each in ninety days, as follow-ups and facts leave them; a third is never followed up.
_PAST = """
INSERT INTO sea_states (account, from_time, to_time, state, owner, department, tags, owned_time, follow_up)
SELECT a.id, now() - make_interval(days => 15 * (6 - s), hours => a.n % 24),
  CASE WHEN s = 5 THEN 'infinity' ELSE now() - make_interval(days => 15 * (5 - s), hours => a.n % 24) END,
  'ACTIVE', a.owner, a.department, ARRAY['load' || a.n % 5], now() - interval '100 days',
  CASE WHEN a.n % 3 <> 0 THEN now() - make_interval(days => 15 * (6 - s)) END
FROM (SELECT id, owner, department, substr(number, 3)::int AS n FROM accounts WHERE number LIKE 'S-%') a,
  generate_series(0, 5) s
ORDER BY a.id, s
"""


async def main() -> None:
    """Fills the database, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.customers", description=__doc__)
    parser.add_argument("--accounts", type=int, default=500_000)
    parser.add_argument("--asked", type=int, default=300, help="checks of each kind")
    parser.add_argument("--state", type=Path, default=Path(".local/bench-customers"))
    parser.add_argument("--rows", default="check,sea")
    asked = parser.parse_args()
    from customer.app import app

    os.environ.setdefault("LOG_LEVEL", "WARNING")
    async with Parts(asked.state.resolve()) as parts, parts.service(app()) as service:
        began = time.monotonic()
        await fill(service, asked.accounts)
        print(f"{asked.accounts} customers are there after {time.monotonic() - began:.0f} s", flush=True)
        if "check" in asked.rows:
            await checks(service, asked.asked)
        if "sea" in asked.rows:
            await simulation(service, asked.accounts)


async def fill(service: Service, count: int) -> None:
    """So many customers with their keys, and what the clocks of the sea saw of them in ninety days."""
    from customer.model.account import Account
    from customer.normalising import rules_in_force, settle

    # Keys come with the customers, by the rules in force: nothing is to be made anew while it is measured.
    async with service.running.system_call("bench", None) as call:
        await settle(rules_in_force(call.config), call)

    def owner(username: str) -> tuple[str, str]:
        person = service.person(username)
        return person.employee or "", person.department or ""

    url = service.parts.admin_url
    connection = await asyncpg.connect(f"{url}/customer")
    if await connection.fetchval("SELECT count(*) FROM accounts") < count:
        async with seed.without_fragments(connection, Account.search_table.name):
            await seed.accounts(url, SPARSE, [owner("sales2")])
            await seed.accounts(url, count, [owner("sales1"), owner("zong")])
        await connection.execute("VACUUM ANALYZE accounts")
    if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM sea_states WHERE 'load0' = ANY (tags))"):
        await connection.execute(_PAST, timeout=1800)
        await connection.execute("VACUUM ANALYZE sea_states")
    await connection.close()


async def checks(service: Service, count: int) -> None:
    """What the check adds to a create: of a new customer, of one whose name is there, and beside a plain get."""
    from crmkit.errors import AlreadyExists
    from customer.collision import refuse_collision
    from customer.model.account import Account

    chance = random.Random()
    async with service.running.system_call("bench", None) as call:
        known = (await call.db.execute(_some(count))).all()

    async def check(name: str, phone: str) -> None:
        async with service.running.system_call("bench", None) as call:
            person = service.person("sales1")
            account = Account(display_name=name, kind="COMPANY", department=person.department)
            account.owner = person.employee or ""
            account.phones = [common_pb2.Phone(number=phone, valid=True)]
            await timed(took, refuse_collision(account, call))
            raise Undone

    print("| what | CPU ms | p50 ms | p95 ms | most ms |\n|---|---|---|---|---|")
    took = list[float]()
    for what, names in (
        ("the check of a new customer", [company(chance) for _ in range(count + 5)]),
        ("the check of one that is there", [row.display_name for row in known]),
    ):
        took.clear()
        spent = _spent(service)
        for name in names:
            try:
                await check(name, f"+8613{chance.randrange(10**9):09}")
            except (AlreadyExists, Undone):
                continue
        _print(what, took, _spent(service) - spent, GOAL)
    for what, one in (
        ("a create through the front door", lambda row: service.sales1.CreateAccount(account={"displayName": company(chance)}, requestId=uuid4().hex)),
        ("a get of it", lambda row: service.client("zong").GetAccount(name=f"accounts/{row.id}")),
    ):  # fmt: skip
        took.clear()
        spent = _spent(service)
        for row in [row for row in known if row.owner == service.person("zong").employee]:
            await timed(took, one(row))
        _print(what, took, _spent(service) - spent, 0)


class Undone(Exception):
    """Ends the transaction of a check: nothing is made."""


async def timed(took: list[float], work: Awaitable[Any]) -> None:
    """Notes how long it took, whatever came of it."""
    began = time.perf_counter()
    try:
        await work
    finally:
        took.append(time.perf_counter() - began)


async def simulation(service: Service, count: int) -> None:
    """How long a version is replayed over all of them."""
    person = service.person("sales1")
    pool = {"displayName": f"公海{uuid4().hex[:6]}", "memberDepartments": [person.department]}
    made = await service.admin.CreatePool(pool=pool)
    clauses = [
        {"key": f"K{n}", "when": {"tags": [f"load{n}"]},
         "clocks": [{"kind": "NO_FOLLOW_UP", "days": 20 + n}, {"kind": "NO_DEAL", "days": 200}]}
        for n in range(5)
    ]  # fmt: skip
    draft = await service.admin.CreatePoolRule(poolRule={"pool": made.name, "clauses": clauses})
    spent, began = _spent(service), time.monotonic()
    await service.admin.SimulatePoolRule(name=draft.name, days=DAYS)
    while True:
        found = (await service.admin.GetPoolRule(name=draft.name)).simulation
        if found.state in (pb.PoolRule.Simulation.DONE, pb.PoolRule.Simulation.FAILED):
            break
        if time.monotonic() - began > 4 * MINUTES * 60:
            raise TimeoutError("the simulation does not end")
        await asyncio.sleep(0.5)
    took = time.monotonic() - began
    print(
        f"a simulation of {count} customers over {DAYS} days, {STATES} states of each: {took:.0f} s"
        f" (goal {MINUTES * 60} s), CPU {_spent(service) - spent:.0f} s, {found.returns} returns,"
        f" {found.tonight} tonight; load average {os.getloadavg()[0]:.1f}"
    )


def _some(count: int) -> Any:
    from customer.model.account import Account
    from sqlalchemy import func, select

    return (
        select(Account.id, Account.display_name, Account.owner)
        .where(Account.number.like("S-%"))
        .order_by(func.md5(Account.number))
        .limit(count)
    )


def _print(what: str, took: list[float], spent: float, goal: float) -> None:
    count, took = len(took), took[5:]  # the first ones open connections and plan
    p95 = statistics.quantiles(took, n=20)[18]
    missed = f" (more than {goal * 1e3:.0f} ms)" if goal and p95 > goal else ""
    figures = " | ".join(
        f"{one * 1e3:.1f}" for one in (spent / count, statistics.median(took), p95, max(took))
    )
    print(f"| {what} | {figures}{missed} |", flush=True)


def _spent(service: Service) -> float:
    """CPU seconds so far, of this process, in which customer runs, and of the database."""
    [file] = service.parts.directory.rglob("postmaster.pid")
    postmaster = psutil.Process(int(file.read_text().split()[0]))
    times = [one.cpu_times() for one in (postmaster, *postmaster.children())]
    return time.process_time() + sum(one.user + one.system for one in times)


if __name__ == "__main__":
    asyncio.run(main())
