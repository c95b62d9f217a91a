"""The data scope against a model of it in a few lines of Python (figures A-2 and A-3).

Random trees, people, records and filters; list, figures and search must give what the model gives, with both walls and
with either alone. `SEED` and `SCOPE_SECONDS` choose another run or a longer one.
"""

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from crmkit import filters, listing
from crmkit.auth import Caller, Directory, Scope, system, visible
from crmkit.listing import ZONE, Query
from crmkit.mapping import mapper
from crmkit.testing import Service
from crmkit.values import Money
from customer.model.account import Account
from google.protobuf import json_format
from sqlalchemy import select, text, true
from sqlalchemy.ext.asyncio import create_async_engine

SEED = int(os.environ.get("SEED", "1"))
SECONDS = float(os.environ.get("SCOPE_SECONDS", "20"))
RECORDS = 120


class Tree:
    """Departments as the configuration bucket has them; the only part of it that scopes read."""

    def __init__(self, chance: random.Random) -> None:
        self.names = [
            f"departments/{UUID(int=chance.getrandbits(128))}" for _ in range(chance.randint(1, 14))
        ]
        self.parents = {
            name: chance.choice([None, *self.names[:index]]) for index, name in enumerate(self.names)
        }

    def get(self, key: str) -> Any:
        return None

    def prefix(self, prefix: str) -> Mapping[str, Any]:
        return {f"department.{n.partition('/')[2]}": {"parent": p} for n, p in self.parents.items()}

    def is_below(self, name: str, top: str) -> bool:
        """The model's own way: walk up."""
        at: str | None = name
        while at is not None:
            if at == top:
                return True
            at = self.parents[at]
        return False


class World:
    """What there is: a tree, people, and records in the database."""

    def __init__(self, service: Service, chance: random.Random) -> None:
        self.service, self.chance = service, chance
        self.mark = f"范围{uuid4().hex[:8]}"
        self.people = [f"employees/{UUID(int=chance.getrandbits(128))}" for _ in range(8)]
        self.tree = Tree(chance)

    async def fill(self) -> None:
        async with self.service.running.call("test", system("customer")) as call:
            for _ in range(RECORDS):
                row = Account(display_name=f"{self.mark}{uuid4().hex}", **self.content(), **self.belonging())
                row.creator = "system/test"
                await call.add(row)

    def content(self) -> dict[str, Any]:
        chance = self.chance
        return {
            "level": chance.choice(["", "A", "B", "C"]),
            "industry": chance.choice(["", "制造", "100%_x", "O'Neil"]),
            "employee_count": chance.choice([0, 0, 1, 5, 100]),
            "tags": chance.sample(["新", "老", "vip"], chance.randint(0, 3)),
            "annual_revenue": chance.choice([None, Money.of("0", "CNY"), Money.of("10.5", "CNY"), Money.of("9", "USD")]),
            "collaborators": chance.sample(self.people, chance.choice([0, 0, 1, 2])),
        }  # fmt: skip

    def belonging(self) -> dict[str, str]:
        return {"owner": self.chance.choice(self.people), "department": self.chance.choice(self.tree.names)}

    async def stir(self) -> None:
        """Moves records and departments, as reorganisations and hand-overs do."""
        self.tree.parents[self.tree.names[-1]] = self.chance.choice([None, *self.tree.names[:-1]])
        async with self.service.running.call("test", system("customer")) as call:
            found = select(Account).where(Account.display_name.startswith(self.mark))
            rows = list(await call.db.scalars(found.order_by(Account.id)))
            for row in self.chance.sample(rows, 8):
                for name, value in (self.belonging() | self.content()).items():
                    setattr(row, name, value)

    def caller(self) -> tuple[Caller, Callable[[Mapping[str, Any]], bool]]:
        """Somebody, and the model of what that one sees."""
        scope = self.chance.choice(list(Scope))
        posts = self.chance.sample(self.tree.names, self.chance.randint(0, min(2, len(self.tree.names))))
        employee = self.chance.choice([*self.people, ""])
        caller = Caller(
            actor=employee or "users/x", employee=employee, permissions=frozenset("*"), scope=scope, principal="x",
            departments=Directory(self.tree, ()).visible_departments(posts, scope),
        )  # fmt: skip

        def sees(record: Mapping[str, Any]) -> bool:
            if scope is Scope.ALL or (employee and employee in (record["owner"], *record["collaborators"])):
                return True
            department = record["department"]
            if scope is Scope.DEPARTMENT:
                return department in posts
            return scope is Scope.BELOW and any(self.tree.is_below(department, post) for post in posts)

        return caller, sees

    def filter(self, depth: int = 2) -> str:
        if depth and self.chance.random() < 0.5:
            parts = [self.filter(depth - 1) for _ in range(2)]
            return self.chance.choice(["NOT ({0})", "({0}) AND ({1})", "({0}) OR ({1})"]).format(*parts)
        return self.chance.choice([
            'level = "A"', 'level != "B"', "level:*", 'industry = "制造"', 'industry = "100%_x"', 'industry = "1*"',
            "industry = \"O'Neil\"", "employee_count > 1", "employee_count = 0", "NOT employee_count < 5",
            'tags:"新"', "tags:*", 'annual_revenue > "CNY 1"', "annual_revenue = null", "owner = me", "collaborators:me",
            f'owner = "{self.chance.choice(self.people)}"', f'department = "{self.chance.choice(self.tree.names)}"',
            "create_time > today-1d", "update_time > now+1d",
        ])  # fmt: skip

    async def records(self) -> list[dict[str, Any]]:
        async with self.service.running.call("test", system("customer")) as call:
            rows = await call.db.scalars(select(Account).where(Account.display_name.startswith(self.mark)))
            return [
                json_format.MessageToDict(
                    mapper(Account).message(row), always_print_fields_with_no_presence=True
                )
                for row in rows
            ]


async def found(world: World, caller: Caller, condition: str) -> tuple[set[str], int, set[str]]:
    """What list, figures and search give."""
    running = world.service.running
    query = Query(f'display_name = "{world.mark}*" AND ({condition})', "", "")
    async with running.call("test", caller, read_only=True) as call:
        secret = running.settings.secret
        listed: list[str] = []
        token = ""
        while True:
            page = await listing.page(call.db, Account, query, 50, token, caller, call.now, secret)
            listed += [f"accounts/{row.id}" for row in page.rows]
            if not (token := page.next_page_token):
                break
        assert len(listed) == len(set(listed))
        figures = await listing.aggregate(call.db, Account, query, [], [], [], caller, call.now)
        sought = Query(query.filter, "", world.mark)
        hits = await listing.page(call.db, Account, sought, 200, "", caller, call.now, secret)
        return set(listed), figures[0][1] if figures else 0, {f"accounts/{row.id}" for row in hits.rows}


async def compare(world: World, seconds: float) -> int:
    """Cases until the time is over; the number of them."""
    fields = listing.record_fields(Account)
    cases, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds or cases < 20:
        if cases % 50 == 0:
            await world.stir()
            records = await world.records()
        caller, sees = world.caller()
        condition = world.filter()
        node = filters.bind(filters.parse(condition), fields)
        now = datetime.now(ZONE)
        wanted: set[str] = set()
        for record in records:
            assert visible(caller, "OWNED", record, "", "accounts") == sees(record), (SEED, caller, record)
            if sees(record) and filters.matches(node, record, me=caller.actor, now=now, zone=ZONE):
                wanted.add(record["name"])
        listed, counted, hits = await found(world, caller, condition)
        assert listed == wanted, (SEED, cases, condition, caller, len(listed), len(wanted))
        assert counted == len(wanted), (SEED, cases, condition, caller)
        assert hits == wanted, (SEED, cases, condition, caller)
        cases += 1
    return cases


@pytest.fixture
async def world(customer: Service) -> World:
    found = World(customer, random.Random(SEED))
    await found.fill()
    return found


@asynccontextmanager
async def without_row_level_security(customer: Service) -> AsyncIterator[None]:
    """The database's wall is down."""
    engine = create_async_engine(customer.running.settings.database("customer", owner=True))

    async def say(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    try:
        await say("ALTER TABLE accounts DISABLE ROW LEVEL SECURITY")
        yield
    finally:
        await say("ALTER TABLE accounts ENABLE ROW LEVEL SECURITY")
        await engine.dispose()


async def test_lists_figures_and_search_agree_with_the_model(world: World) -> None:
    cases = await compare(world, SECONDS)
    print(f"seed {SEED}: {cases} cases without a difference")


async def test_the_predicate_alone_is_right(world: World) -> None:
    async with without_row_level_security(world.service):
        await compare(world, SECONDS / 10)


async def test_row_level_security_alone_is_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "branch_predicates", lambda *_: None)
    monkeypatch.setattr(listing, "predicate", lambda *_: true())
    await compare(world, SECONDS / 10)


async def test_without_both_walls_the_comparison_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "branch_predicates", lambda *_: None)
    monkeypatch.setattr(listing, "predicate", lambda *_: true())
    async with without_row_level_security(world.service):
        with pytest.raises(AssertionError):
            await compare(world, 1)
