"""The data scope against a model of it in a few lines of Python (figures A-2 and A-3).

Random trees with segments, people with reports, roles with grants and rules, records and filters; every path must give
what the model gives, with both walls and with either alone. `SEED` and `SCOPE_CASES` choose another run or a longer
one.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from crmkit import explain, filters, listing, reading
from crmkit.access import Scope
from crmkit.auth import Caller, Directory, system, visible
from crmkit.catalog import permissions, record_fields
from crmkit.errors import NotFound
from crmkit.listing import ZONE, Query
from crmkit.mapping import mapper
from crmkit.scope import predicate
from crmkit.standard import Standard
from crmkit.testing import Service
from crmkit.values import Money
from customer.model.account import Account
from google.protobuf import json_format
from sqlalchemy import false, select, text, true
from sqlalchemy.ext.asyncio import create_async_engine

SEED = int(os.environ.get("SEED", "1"))
RECORDS = 120
CASES = int(os.environ.get("SCOPE_CASES", "10000"))
PERMISSIONS = (
    ["*"], ["customer.*"], ["customer.accounts.read"], ["customer.accounts.read", "customer.accounts.update"],
    ["customer.accounts.update"], ["customer.accounts.delete", "*.read"], ["sales.leads.*"], ["customer.contacts.*"],
    ["customer.accounts.assign"],
)  # fmt: skip
RULES = ('level = "A"', 'industry = "制造" OR level != "B"', "owner = me", "employee_count > 1", 'tags:"新"')
Sees = Callable[[Mapping[str, Any], str], bool]


class Tree:
    """Departments, people and roles as the configuration bucket has them."""

    def __init__(self, chance: random.Random) -> None:
        self.names = [
            f"departments/{UUID(int=chance.getrandbits(128))}" for _ in range(chance.randint(1, 14))
        ]
        self.parents = {
            name: chance.choice([None, *self.names[:index]]) for index, name in enumerate(self.names)
        }
        some = chance.random() < 0.5
        self.kinds = {
            name: "SEGMENT" if some and chance.random() < 0.3 else "DEPARTMENT" for name in self.names
        }
        self.people = [f"employees/{UUID(int=chance.getrandbits(128))}" for _ in range(8)]
        self.superiors = {
            name: chance.choice([None, *self.people[:index]]) for index, name in enumerate(self.people)
        }
        self.roles: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> Any:
        return self.roles.get(key.removeprefix("role.")) if key.startswith("role.") else None

    def prefix(self, prefix: str) -> Mapping[str, Any]:
        if prefix == "employee.":
            return {name.partition("/")[2]: {"superior": one} for name, one in self.superiors.items()}
        return {n.partition("/")[2]: {"parent": p, "kind": self.kinds[n]} for n, p in self.parents.items()}

    def changed(self, prefix: str, listener: Callable[[str, Any], None]) -> None:
        """Every case has a directory of its own."""

    def above(self, name: str | None, lines: Mapping[str, str | None]) -> list[str]:
        """The model's own way: walk up. The name itself comes first."""
        found: list[str] = []
        while name:
            found.append(name)
            name = lines.get(name)
        return found

    def segment(self, department: str) -> str:
        above = self.above(department, self.parents)
        return next((one for one in above if self.kinds[one] == "SEGMENT"), "")


class World:
    """What there is: a tree, people, and records in the database."""

    def __init__(self, service: Service, chance: random.Random) -> None:
        self.service, self.chance = service, chance
        self.mark = f"范围{uuid4().hex[:8]}"
        self.tree = Tree(chance)
        self.people = self.tree.people

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
        tree = self.tree
        tree.parents[tree.names[-1]] = self.chance.choice([None, *tree.names[:-1]])
        tree.superiors[self.people[-1]] = self.chance.choice([None, *self.people[:-1]])
        async with self.service.running.call("test", system("customer")) as call:
            found = select(Account).where(Account.display_name.startswith(self.mark))
            rows = list(await call.db.scalars(found.order_by(Account.id)))
            for row in self.chance.sample(rows, 8):
                for name, value in (self.belonging() | self.content()).items():
                    setattr(row, name, value)

    def role(self, rules: bool) -> dict[str, Any]:
        chance = self.chance
        return {
            "permissions": chance.choice(PERMISSIONS),
            "scope": chance.choice([one.value for one in Scope if one is not Scope.DEPARTMENTS]),
            "grants": [
                {
                    "collection": chance.choice(
                        ["customer.accounts", "accounts", "customer.*", "*", "", "sales.*"]
                    ),
                    "action": chance.choice(["", "READ", "WRITE", "DELETE", "ASSIGN", "EXPORT"]),
                    "level": chance.choice(list(Scope)).value,
                    "departments": chance.sample(self.tree.names, min(2, len(self.tree.names))),
                    "rule": chance.choice(RULES) if rules and chance.random() < 0.3 else "",
                }
                for _ in range(chance.choice([0, 0, 1, 3]))
            ],
        }

    def caller(self, rules: bool = True) -> tuple[Caller, Sees]:
        """Somebody, and the model of what that one's verbs reach."""
        chance, tree = self.chance, self.tree
        tree.roles = {f"r{number}": self.role(rules) for number in range(chance.randint(0, 3))}
        posts = chance.sample(tree.names, chance.randint(0, min(2, len(tree.names))))
        employee = chance.choice([*self.people, ""])
        main, others = (posts[0], posts[1:]) if posts else ("", [])
        directory = Directory(Posted(tree, employee, main, others), permissions())
        claims = {"iss": "x", "sub": "x", "employee": employee, "roles": list(tree.roles)}
        if not employee:
            posts = []
        caller = directory.caller(claims, "en", "")
        return caller, model(tree, employee, posts, dict(tree.roles))

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


class Posted:
    """The tree, and the one person who calls."""

    def __init__(self, tree: Tree, employee: str, department: str, others: list[str]) -> None:
        self._tree, self._key = tree, f"employee.{employee.partition('/')[2]}"
        self._entry = {"department": department, "departments": others}
        self.prefix, self.changed = tree.prefix, tree.changed

    def get(self, key: str) -> Any:
        return self._entry if key == self._key and len(key) > len("employee.") else self._tree.get(key)


def model(tree: Tree, me: str, posts: list[str], roles: dict[str, dict[str, Any]]) -> Sees:
    """The brute force: what the product page says, record by record."""
    known = [one for one in permissions() if one.startswith("customer.accounts.")]

    def gives(role: dict[str, Any], permission: str) -> bool:
        declared = permission in known
        return any(
            pattern == "*" or (declared and fnmatchcase(permission, pattern))
            for pattern in role["permissions"]
        )

    def levels(role: dict[str, Any], action: str) -> list[dict[str, Any]]:
        ranked = []
        for grant in role["grants"]:
            about = grant["collection"] or "*"
            exact = about in ("accounts", "customer.accounts")
            if grant["action"] in ("", action) and (exact or about in ("customer.*", "*")):
                ranked.append(((exact, about != "*", grant["action"] != ""), grant))
        best = max((rank for rank, _ in ranked), default=None)
        return [grant for rank, grant in ranked if rank == best] or [{"level": role["scope"], "rule": ""}]

    def covers(grant: dict[str, Any], record: Mapping[str, Any]) -> bool:
        above = tree.above(record["department"], tree.parents)
        match grant["level"]:
            case "ALL":
                return True
            case "REPORTS":
                return bool(me) and me in tree.above(record["owner"], tree.superiors)[1:]
            case "DEPARTMENT":
                return record["department"] in posts
            case "BELOW":
                return bool(set(above) & set(posts))
            case "DEPARTMENTS":
                return bool(set(above) & set(grant["departments"]))
            case "SEGMENT":
                mine = {tree.segment(post) for post in posts} - {""}
                return tree.segment(record["department"]) in mine
            case _:
                return False

    def sees(record: Mapping[str, Any], verb: str) -> bool:
        action = {"read": "READ", "delete": "DELETE", "assign": "ASSIGN", "export": "EXPORT"}.get(
            verb, "WRITE"
        )
        giving = [role for role in roles.values() if gives(role, f"customer.accounts.{verb}")]
        if not giving and verb == "export":
            giving = [role for role in roles.values() if gives(role, "customer.accounts.read")]
        if not giving and verb == "read":
            giving = [role for role in roles.values() if any(gives(role, one) for one in known)]
        grants = [grant for role in giving for grant in levels(role, action)]
        own = bool(me) and me in (record["owner"], *record["collaborators"])
        segments = {tree.segment(post) for post in posts}
        if posts and "" not in segments and tree.segment(record["department"]) not in {"", *segments}:
            return False
        node = [filters.parse(grant["rule"]) for grant in grants if grant["rule"]]
        fields, now = listing.record_fields(Account), datetime.now(ZONE)
        bound = [filters.bind(one, fields) for one in node]
        if not all(filters.matches(one, record, me=me or "users/x", now=now, zone=ZONE) for one in bound):
            return False
        return own or any(covers(grant, record) for grant in grants)

    return sees


async def found(world: World, caller: Caller, condition: str) -> dict[str, Any]:
    """What every path that takes a filter gives."""
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
        return {
            "list": set(listed),
            "count": figures[0][1] if figures else 0,
            "search": {f"accounts/{row.id}" for row in hits.rows},
        }


async def reached(world: World, caller: Caller) -> dict[str, set[str]]:
    """The records that each verb reaches among those that are seen: what changes, deletions and exports touch."""
    async with world.service.running.call("test", caller, read_only=True) as call:
        reading_too = (Account.display_name.startswith(world.mark), predicate(Account, caller))
        return {
            verb: {
                f"accounts/{key}"
                for key in await call.db.scalars(
                    select(Account.id).where(*reading_too, predicate(Account, caller, verb))
                )
            }
            for verb in ("update", "delete", "assign", "export")
        }


async def opened(world: World, caller: Caller, names: list[str]) -> set[str]:
    """Of the names, those that can be got, alone or in a batch."""
    running, alone, together = world.service.running, set[str](), set[str]()
    standard = Standard(Account)
    for name in names:
        with suppress(NotFound):
            alone.add((await reading.get(running.engine, Account, name, caller)).name)  # type: ignore[attr-defined]
        async with running.call("test", caller, read_only=True) as call:
            with suppress(NotFound):
                await standard.batch_get(SimpleNamespace(names=[name]), call)
                together.add(name)
    assert alone == together
    return alone


async def compare(world: World, enough: int, rules: bool = True, everything: bool = True) -> int:
    """Cases until enough are compared; the number of (tree, person, roles, record, filter) that were compared."""
    fields = listing.record_fields(Account)
    cases, compared = 0, 0
    while compared < enough:
        if cases % 50 == 0:
            await world.stir()
            records = await world.records()
        caller, sees = world.caller(rules)
        case = (SEED, cases, world.tree.roles, caller)
        condition = world.filter()
        node = filters.bind(filters.parse(condition), fields)
        now = datetime.now(ZONE)
        seen = {record["name"] for record in records if sees(record, "read")}
        for record in records if everything else ():
            assert visible(caller, "OWNED", record, (), "accounts") == (record["name"] in seen), (
                case,
                record,
            )
            grounds = list(explain.grounds(Account.described, record, caller))
            assert bool(grounds) == (record["name"] in seen), (case, record, grounds)
        wanted = {
            record["name"]
            for record in records
            if record["name"] in seen and filters.matches(node, record, me=caller.actor, now=now, zone=ZONE)
        }
        paths = await found(world, caller, condition)
        assert paths["list"] == wanted, (case, condition, len(paths["list"]), len(wanted))
        assert paths["count"] == len(wanted), (case, condition)
        assert paths["search"] == wanted, (case, condition)
        if everything:
            for verb, names in (await reached(world, caller)).items():
                asked = {record["name"] for record in records if sees(record, verb)} & seen
                assert names == asked, (case, verb, len(names), len(asked))
            some = world.chance.sample([record["name"] for record in records], 2)
            if not caller.reach("accounts").rules:  # the short way of reading leaves rules to the long one
                assert await opened(world, caller, some) == seen & set(some), case
        cases, compared = cases + 1, compared + len(records)
    return compared


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


@pytest.mark.capability("a.scope")
async def test_every_path_agrees_with_the_model(world: World) -> None:
    compared = await compare(world, CASES)
    print(f"seed {SEED}: {compared} compared without a difference")


async def test_the_predicate_alone_is_right(world: World) -> None:
    async with without_row_level_security(world.service):
        await compare(world, CASES // 4)


@pytest.mark.capability("a.scope")
async def test_row_level_security_alone_is_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "branch_predicates", lambda *_: None)
    monkeypatch.setattr(listing, "predicate", lambda *_: true())
    await compare(world, CASES // 4, everything=False)


UNSAID = ("create_time", "update_time", ":*", '"1*"', '"*')
REGIONS = [
    '{"region": "east"}',
    '{"region": "west"}',
    '{"region": ["east"]}',
    '{"region": 5}',
    '{"region": ""}',
    "{}",
]
FURTHER = (
    'custom.region = "east"', 'NOT custom.region = "east"', 'custom.region != "west" AND level = "A"',
    'custom.region = "ea\\"st"', 'annual_revenue > 9.5', 'annual_revenue <= "USD 9"', "NOT annual_revenue > 1",
    'industry = ""', 'industry != ""', 'industry > "A"', 'industry = "制*"', "owner != me", "collaborators:me",
    'tags:("新" OR "老")', "level = (A OR B)", "annual_revenue:*", "industry = null", "employee_count = 1e1",
    'no_such_field = 1', 'level = "A" AND create_time > now+1d', 'level = "A" OR create_time > now+1d',
)  # fmt: skip


async def test_the_database_is_told_rules_that_give_no_row_less(world: World) -> None:
    """The path of a rule gives what its condition gives; more only for what a path cannot say."""
    me, fields, now = world.people[0], listing.filter_fields(Account), datetime.now(ZONE)
    async with world.service.running.call("test", system("customer")) as call:
        rows = select(Account.id).where(Account.display_name.startswith(world.mark))
        for number, key in enumerate(await call.db.scalars(rows)):
            region = REGIONS[number % len(REGIONS)]
            await call.db.execute(
                text("UPDATE accounts SET custom = cast(:region AS jsonb) WHERE id = :key"),
                {"region": region, "key": key},
            )
        exact = 0
        for rule in [*FURTHER, *(world.filter() for _ in range(150))]:
            try:
                condition = filters.condition(filters.parse(rule), fields, me=me, now=now, zone=ZONE)
            except filters.FilterError:
                condition = false()
            path = filters.path_of(rule, record_fields(Account.described), me)
            told = text("to_jsonb(accounts.*) @@ cast(:path AS jsonpath)").bindparams(path=path)
            wanted = {*await call.db.scalars(rows.where(condition))}
            given = {*await call.db.scalars(rows.where(told))}
            assert wanted <= given, (rule, path)
            if not any(one in rule for one in UNSAID):
                assert wanted == given, (rule, path)
                exact += 1
        assert exact > 60


async def test_without_both_walls_the_comparison_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "branch_predicates", lambda *_: None)
    monkeypatch.setattr(listing, "predicate", lambda *_: true())
    async with without_row_level_security(world.service):
        with pytest.raises(AssertionError):
            await compare(world, CASES // 4)
