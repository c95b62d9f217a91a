"""Lists, search, figures, exports and explanations give the same records, and those that the page's rules say.

A hundred situations drawn at random: who asks, with which roles, levels, walls and row rules, for what by own and
custom fields. What is right is worked out here once more, by hand.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from crmkit import explain, listing
from crmkit.access import Access, Grant, Role, Scope
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import NotFound
from crmkit.listing import Query
from crmkit.resource import snake
from crmkit.scope import predicate
from crmkit.testing import Service
from crmkit.testing.personas import (
    EAST,
    HELPER,
    ME,
    OTHER,
    PARENTS,
    REPORT,
    WEST,
    organisation,
)
from customer.model.account import Account

SITUATIONS, RECORDS = 100, 30
FIELDS = [
    {"key": "grade", "kind": "CHOICE", "choices": ["A", "B", "C"]},
    {"key": "seats", "kind": "NUMBER"},
    {"key": "since", "kind": "DATE"},
    {"key": "note", "kind": "TEXT"},
    {"key": "tags", "kind": "MULTI_CHOICE", "choices": ["x", "y"]},
    {"key": "active", "kind": "BOOL"},
]
ORDERS = [
    "",
    "custom.seats",
    "custom.grade desc",
    "displayName",
    "createTime desc",
    "custom.since desc, displayName",
]
Rightly = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Laid:
    """A record where it lies, with what it says."""

    name: str
    owner: str
    department: str
    collaborators: tuple[str, ...]
    said: Mapping[str, Any]


async def test_every_path_gives_the_same_records_in_a_hundred_situations(customer: Service) -> None:
    chance, mark, config = random.Random(42), f"一致{uuid4().hex[:8]}", customer.running.config
    async with customer.parts.configuration() as bucket:
        await bucket.put("customField.accounts", {"fields": FIELDS})
        try:
            await customer.eventually(lambda: config.get("customField.accounts") is not None)
            records = [await laid(customer, mark, chance) for _ in range(RECORDS)]
            shown = 0
            for _ in range(SITUATIONS):
                shown += await agrees(customer, mark, records, chance)
        finally:
            await bucket.delete("customField.accounts")
            await customer.eventually(lambda: config.get("customField.accounts") is None)
    # Neither nothing nor everything: or nothing would have been compared.
    assert 0.02 < shown / (SITUATIONS * RECORDS) < 0.6


async def laid(customer: Service, mark: str, chance: random.Random) -> Laid:
    """A new account somewhere."""
    some: dict[str, Any] = {
        "grade": chance.choice("ABC"), "seats": chance.choice([0, 1, 2.5, 40]), "since": f"2026-0{chance.randint(1, 9)}-15",
        "note": chance.choice(["甲方", "乙方", "a\"b\\c", "100%_"]), "tags": chance.sample(["x", "y"], chance.randint(1, 2)),
        "active": chance.random() < 0.5,
    }  # fmt: skip
    custom = {key: value for key, value in some.items() if chance.random() < 0.7}
    kind = chance.choice(["COMPANY", "INDIVIDUAL"])
    body = {"displayName": f"{mark}{uuid4().hex[:10]}", "kind": kind, "custom": custom}
    made = await customer.client("everything").CreateAccount(account=body)
    owner, department = chance.choice([ME, REPORT, OTHER, HELPER]), chance.choice([*PARENTS])
    beside = tuple(chance.sample([ME, HELPER], chance.choice([0, 0, 1])))
    async with customer.running.system_call("test", None) as call:
        row: Any = await call.find(Account, Account.id == UUID(made.name.partition("/")[2]))
        row.owner, row.department, row.collaborators = owner, department, list(beside)
    return Laid(made.name, owner, department, beside, {**custom, "kind": kind})


async def agrees(customer: Service, mark: str, records: list[Laid], chance: random.Random) -> int:
    """One situation; how many of the records were shown in it."""
    running = customer.running
    caller, reached = asking(chance, running.directory.custom)
    text, fits = wanted(chance)
    right = {verb: {one.name for one in records if reached(one, verb)} for verb in ("read", "export")}
    fit = {one.name for one in records if fits(one.said)}
    mine = f'displayName : "{mark}"'
    query = Query(f"{mine} AND ({text})" if text else mine, chance.choice(ORDERS))
    async with running.call("test", caller, read_only=True) as call:
        found = {
            "list": await paged(call, query),
            "search": await paged(call, Query(text, "", mark)),
            "export": await paged(call, query, predicate(Account, caller, "export")),
        }
        for path, names in found.items():
            assert len(names) == len(set(names)), (path, "twice", query)
            expected = right["read"] & fit & (right["export"] if path == "export" else right["read"])
            assert set(names) == expected, (path, query, caller.access, set(names) ^ expected)
        figures = await listing.aggregate(call.db, Account, query, ["kind"], [], [], caller, call.now)
        assert sum(row[1] for row in figures) == len(found["list"]), (query, caller.access)
        some = chance.sample(records, 6)
        for one in some:
            try:
                row = await call.load(Account, one.name, lock=False)
            except NotFound:
                row = None
            assert (row is not None) == (one.name in right["read"]), (one, caller.access)
    async with running.system_call("test", None) as call:
        for one in some:
            row = await call.find(Account, Account.id == UUID(one.name.partition("/")[2]))
            told = {snake(key): value for key, value in running.json_of(call.message_of(row)).items()}
            explained = explain.answer(Account.described, told, caller, call)
            assert explained["visible"] == (one.name in right["read"]), (one, caller.access, explained)
    return len(found["list"])


async def paged(call: Call, query: Query, extra: Any = None) -> list[str]:
    """Everything that the pages hold."""
    names, token, secret = list[str](), "", call.running.settings.secret
    while True:
        page = await listing.page(call.db, Account, query, 7, token, call.caller, call.now, secret, extra)
        names += [f"accounts/{row.id}" for row in page.rows]
        if not (token := page.next_page_token):
            return names


def asking(chance: random.Random, custom: Any) -> tuple[Caller, Callable[[Laid, str], bool]]:
    """Somebody, and whom that one rightly reaches by a verb."""
    me, post = chance.choice([ME, REPORT, HELPER, OTHER]), chance.choice([*PARENTS])
    posts = tuple(dict.fromkeys([post, *chance.sample([*PARENTS], chance.choice([0, 0, 1]))]))
    roles = [role(chance, number) for number in range(chance.randint(1, 3))]
    areas = {"accounts": "customer"}
    fields = frozenset(one.permission for one in custom.of("accounts").values())
    access = Access(me, posts, roles, organisation(), areas, fields)
    caller = Caller(
        me, me, permissions=access.permissions, scope=access.scope, department=post,
        departments=access.departments, access=access,
    )  # fmt: skip
    return replace(caller, custom=custom), lambda one, verb: reaches(one, me, posts, roles, verb)


def role(chance: random.Random, number: int) -> Role:
    grants: list[Grant] = []
    for _ in range(chance.choice([0, 0, 1, 2])):
        level = chance.choice([*Scope])
        grants.append(
            Grant(
                level,
                chance.choice(["customer.accounts", "accounts", "customer.*", "*"]),
                chance.choice(["", "READ", "EXPORT", "WRITE"]),
                tuple(chance.sample([*PARENTS], 2)) if level is Scope.DEPARTMENTS else (),
                chance.choice(["", "", "kind = COMPANY", 'owner != "employees/nobody"']),
            )
        )
    permissions = chance.choice(
        [{"customer.accounts.read"}, {"customer.accounts.read", "customer.accounts.export"}, {"*"}]
    )
    levels = [one for one in Scope if one is not Scope.DEPARTMENTS]
    return Role(f"r{number}", frozenset(permissions), chance.choice(levels), tuple(grants))


def reaches(one: Laid, me: str, posts: tuple[str, ...], roles: list[Role], verb: str) -> bool:
    """By the words of the page: levels of the roles that give the permission together, then the wall, then the rules."""
    giving = [role for role in roles if {f"customer.accounts.{verb}", "*"} & role.permissions]
    giving = giving or [role for role in roles if {"customer.accounts.read", "*"} & role.permissions]
    levels: list[Grant] = []
    for each in giving:
        speaking = [grant for grant in each.grants if grant.action in ("", verb.upper())]
        exact = max((exactness(grant) for grant in speaking), default=0)
        levels += [grant for grant in speaking if exactness(grant) == exact] or [Grant(each.scope)]
    covers = one.owner == me or me in one.collaborators
    for grant in levels:
        match grant.level:
            case Scope.ALL:
                covers = True
            case Scope.REPORTS:
                covers |= me == ME and one.owner == REPORT
            case Scope.DEPARTMENT:
                covers |= one.department in posts
            case Scope.DEPARTMENTS:
                covers |= any(chosen in above(one.department) for chosen in grant.departments)
            case Scope.BELOW:
                covers |= any(post in above(one.department) for post in posts)
            case Scope.SEGMENT:
                own = {segment(post) for post in posts} - {""}
                covers |= segment(one.department) in own
            case _:
                pass
    segments = [segment(post) for post in posts]
    walled = all(segments)
    # Beside the own segments there is what lies in none: the head office's.
    if walled and segment(one.department) not in (*segments, ""):
        return False
    return covers and not any(
        grant.rule.startswith("kind") and one.said["kind"] != "COMPANY" for grant in levels
    )


def exactness(grant: Grant) -> int:
    """A collection says more than an area, that more than everything, and each more where it names the action."""
    return {"*": 0, "customer.*": 2}.get(grant.collection, 6) + bool(grant.action) + 1


def above(department: str) -> list[str]:
    return [department, *above(PARENTS[department])] if department else []


def segment(department: str) -> str:
    return next((one for one in above(department) if one in (EAST, WEST)), "")


def wanted(chance: random.Random, depth: int = 2) -> tuple[str, Rightly]:
    """A filter, and what it rightly lets through."""
    if depth and chance.random() < 0.5:
        (left, a), (right, b) = (wanted(chance, depth - 1) for _ in range(2))
        match chance.choice(["AND", "OR", "NOT"]):
            case "AND":
                return f"({left}) AND ({right})", lambda said: a(said) and b(said)
            case "OR":
                return f"({left}) OR ({right})", lambda said: a(said) or b(said)
            case _:
                return f"NOT ({left})", lambda said: not a(said)
    grade, seats, day = (
        chance.choice("ABC"),
        chance.choice([0, 1, 2.5, 39.5]),
        f"2026-0{chance.randint(1, 9)}-15",
    )
    note = chance.choice(["甲方", "100%_", 'a"b\\c'])
    quoted = note.replace("\\", "\\\\").replace('"', '\\"')
    simple: list[tuple[str, Rightly]] = [
        (f'custom.grade = "{grade}"', lambda said: said.get("grade") == grade),
        (f'custom.grade != "{grade}"', lambda said: said.get("grade") != grade),
        (f"custom.seats > {seats}", lambda said: "seats" in said and said["seats"] > seats),
        (f"custom.seats <= {seats}", lambda said: "seats" in said and said["seats"] <= seats),
        (f"custom.since < {day}", lambda said: "since" in said and said["since"] < day),
        (f'custom.note = "{quoted}"', lambda said: said.get("note") == note),
        ('custom.tags : "x"', lambda said: "x" in said.get("tags", ())),
        ("custom.active = true", lambda said: said.get("active") is True),
        ("custom.active != true", lambda said: said.get("active") is not True),
        ("kind = INDIVIDUAL", lambda said: said["kind"] == "INDIVIDUAL"),
    ]
    return chance.choice(simple)
