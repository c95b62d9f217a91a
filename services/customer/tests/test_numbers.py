"""Human numbers: unique always, without gaps where the rule says so."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crmkit.app import Running
from crmkit.auth import system
from crmkit.numberform import Form
from crmkit.numbering import Counting, valid
from crmkit.testing import Refused, Service
from customer.model.account import Account
from sqlalchemy import select


def name() -> str:
    return f"编号样例{uuid4().hex}"


@asynccontextmanager
async def number_rule(customer: Service, rule: dict[str, Any]) -> AsyncIterator[None]:
    """The rule of accounts, as workspace would publish it; the declared one comes back afterwards."""
    config = customer.running.config

    async with customer.parts.configuration() as bucket:
        await bucket.put("numberRule.accounts", rule)
        await customer.eventually(lambda: config.get("numberRule.accounts") == rule)
        try:
            yield
        finally:
            await bucket.delete("numberRule.accounts")
            await customer.eventually(lambda: config.get("numberRule.accounts") is None)


async def test_fifty_at_once_draw_fifty_numbers(customer: Service) -> None:
    customer.running.number_blocks.clear()
    made = await asyncio.gather(
        *(customer.sales1.CreateAccount(account={"displayName": name()}) for _ in range(50))
    )
    assert len({account.number for account in made}) == 50


async def test_two_replicas_never_draw_the_same_number(customer: Service) -> None:
    """As many at once as the pool has connections: drawing a number must not need one more of them."""
    at_once = customer.running.engine.pool.size() + 5
    async with Running(customer.running.app, customer.running.settings) as other:
        turns = {running: asyncio.Semaphore(at_once) for running in (customer.running, other)}

        async def create(running: Running) -> str:
            async with turns[running], running.call("CreateAccount", system("customer")) as call:
                return (await call.add(Account(display_name=name()))).number

        numbers = await asyncio.gather(
            *(create(running) for _ in range(60) for running in (customer.running, other))
        )
    assert len(set(numbers)) == 120


@pytest.mark.capability("a.coding")
async def test_a_gap_free_series_has_no_gaps_although_some_calls_fail(customer: Service) -> None:
    turns = asyncio.Semaphore(12)
    async with number_rule(customer, {"pattern": f"G{uuid4().hex[:6]}-{{seq:4}}", "gapFree": True}):

        async def create(index: int) -> str | None:
            async with turns, customer.running.call("CreateAccount", system("customer")) as call:
                made = await call.add(Account(display_name=name()))
                await call.flush()
                if index % 5 == 0:
                    raise LookupError
                return made.number

        found = await asyncio.gather(*(create(index) for index in range(50)), return_exceptions=True)
    numbers = [one for one in found if isinstance(one, str)]
    assert len(numbers) == 40
    assert all(isinstance(one, str | LookupError) for one in found), found
    assert sorted(int(number[-4:]) for number in numbers) == list(range(1, 41))


async def test_a_refused_create_gives_its_number_back(customer: Service) -> None:
    async with number_rule(customer, {"pattern": f"H{uuid4().hex[:6]}-{{seq:3}}", "gapFree": True}):
        taken = name()
        first = await customer.sales1.CreateAccount(account={"displayName": taken})
        try:
            await customer.sales2.CreateAccount(account={"displayName": taken})
            raise AssertionError("two of one name")
        except Refused as refused:
            assert refused.reason == "ACCOUNT_COLLISION"
        second = await customer.sales1.CreateAccount(account={"displayName": name()})
    assert (first.number[-3:], second.number[-3:]) == ("001", "002")


async def test_a_rule_counts_by_department_and_begins_where_it_says(customer: Service) -> None:
    """A counter of its own for each department and year, wider than its places where it must be."""
    person, mark = customer.person("sales1"), uuid4().hex[:6].upper()
    entry = customer.running.config.get(f"department.{person.department.rpartition('/')[2]}")
    async with customer.parts.configuration() as bucket:
        key = f"department.{person.department.rpartition('/')[2]}"
        await bucket.put(key, {**entry, "code": "E7"})
        await customer.eventually(lambda: customer.running.config.get(key).get("code") == "E7", 30)
        rule = {"pattern": f"{mark}-{{dept}}-{{yyyy}}-{{seq:2}}", "gapFree": True, "start": 98}
        async with number_rule(customer, rule):
            made = [
                (await customer.sales1.CreateAccount(account={"displayName": name()})).number
                for _ in range(3)
            ]
            other = (await customer.sales2.CreateAccount(account={"displayName": name()})).number
        await bucket.put(key, entry)
        await customer.eventually(lambda: customer.running.config.get(key) == entry, 30)
    assert [number.removeprefix(f"{mark}-E7-")[5:] for number in made] == ["98", "99", "100"]
    assert other.startswith(f"{mark}-00-") and other.endswith("-98")


@pytest.mark.capability("a.coding")
async def test_each_record_is_numbered_by_the_first_rule_that_is_for_it(customer: Service) -> None:
    """Fifty at once of two kinds, a fifth of which fail: each series has no gaps; a rule of all is for the rest."""
    mark, turns = uuid4().hex[:6], asyncio.Semaphore(12)
    rule = {
        "pattern": f"R{mark}-{{seq:3}}", "gapFree": True,
        "rules": [
            {"pattern": f"K{mark}-{{seq:3}}", "gapFree": True, "condition": 'level = "A" AND tags:"key"'},
            {"pattern": f"A{mark}-{{seq:3}}", "gapFree": True, "condition": 'level = "A"'},
            {"pattern": f"X{mark}-{{seq:3}}", "gapFree": True, "condition": 'no_such_field = "A"'},
        ],
    }  # fmt: skip
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("K", {"level": "A", "tags": ["key"]}), ("A", {"level": "A"}), ("R", {"level": "B"}),
    ]  # fmt: skip

    async def create(index: int) -> str:
        async with turns, customer.running.call("CreateAccount", system("customer")) as call:
            made = await call.add(Account(display_name=name(), **kinds[index % 3][1]))
            await call.flush()
            if index % 5 == 0:
                raise LookupError
            return made.number

    async with number_rule(customer, rule):
        found = await asyncio.gather(*(create(index) for index in range(50)), return_exceptions=True)
    kept = {index: one for index, one in enumerate(found) if isinstance(one, str)}
    assert len(kept) == 40 and all(isinstance(one, str | LookupError) for one in found), found
    for place, (letter, _) in enumerate(kinds):
        mine = sorted(one for index, one in kept.items() if index % 3 == place)
        assert mine == [f"{letter}{mark}-{number:03}" for number in range(1, len(mine) + 1)]


@pytest.mark.capability("a.coding")
async def test_a_record_has_its_number_from_the_verb_that_its_rule_names(customer: Service) -> None:
    """None before, none for others, one afterwards that stays; refused verbs give theirs back."""
    mark = uuid4().hex[:6]
    late = {
        "pattern": f"L{mark}-{{seq:3}}",
        "gapFree": True,
        "condition": 'level = "A"',
        "assignOn": "setLevel",
    }
    async with number_rule(customer, {"pattern": f"R{mark}-{{seq:3}}", "rules": [late]}):
        made = [
            await customer.sales1.CreateAccount(account={"displayName": name(), "level": level})
            for level in ("A", "A", "A", "B")
        ]
        assert [one.number for one in made[:3]] == ["", "", ""] and made[3].number == f"R{mark}-001"

        async def named(account: Any, etag: str) -> Any:
            try:
                return await customer.manager.SetAccountLevel(
                    name=account.name, etag=etag, level="A", reason="重点客户的等级"
                )
            except Refused as refused:
                return refused.reason

        # A verb that is refused behind its draw, and those that run at once.
        assert await named(made[0], "99") == "ETAG_MISMATCH"
        done = await asyncio.gather(*(named(one, one.etag) for one in made))
        again = await named(done[0], done[0].etag)
    assert sorted(one.number for one in done[:3]) == [f"L{mark}-00{place}" for place in (1, 2, 3)]
    assert (again.number, done[3].number) == (done[0].number, f"R{mark}-001")


CREATOR = """
import asyncio, sys
from crmkit.app import Running
from crmkit.auth import system
from crmkit.settings import Settings
from customer.app import app
from customer.model.account import Account

async def main():
    async with Running(app(), Settings()) as running:
        while not running.config.get("numberRule.accounts"):
            await asyncio.sleep(0.05)

        async def create(worker):
            for step in range(1000):
                async with running.call("CreateAccount", system("customer")) as call:
                    row = await call.add(Account(display_name=f"{sys.argv[1]}{worker}-{step}"))
                    await call.flush()
                print(row.number, flush=True)

        await asyncio.gather(*(create(worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.mark.capability("a.coding")
async def test_a_process_killed_among_its_creations_leaves_no_gap(customer: Service, tmp_path: Path) -> None:
    """kill -9 of a process with eight creations under way; whoever goes on counts from 1 to n without a hole."""
    settings, mark = customer.running.settings, uuid4().hex[:6]
    environment = {
        "DATABASE_URL": settings.database_url, "NATS_URL": settings.nats_url, "OIDC_ISSUER": settings.oidc_issuer,
        "SECRET_KEY": settings.secret_key, "FILES_URL": settings.files_url, "PATIENCE": "10",
    }  # fmt: skip
    (tmp_path / "creator.py").write_text(CREATOR)
    async with number_rule(customer, {"pattern": f"K{mark}-{{seq:4}}", "gapFree": True}):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(tmp_path / "creator.py"), f"断电{mark}"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(120):
            told = [(await process.stdout.readline()).decode().strip() for _ in range(20)]
        process.kill()
        told += (await process.stdout.read()).decode().split()
        assert await process.wait() == -9

        async def create(_: int) -> str:
            async with customer.running.call("CreateAccount", system("customer")) as call:
                return (await call.add(Account(display_name=name()))).number

        after = await asyncio.gather(*(create(index) for index in range(10)))
    async with customer.running.system_call("test", None) as call:
        found = list(
            await call.db.scalars(select(Account.number).where(Account.number.startswith(f"K{mark}-")))
        )
    assert {*filter(None, told), *after} <= {*found}
    assert sorted(int(number[-4:]) for number in found) == list(range(1, len(found) + 1))


@pytest.mark.capability("a.coding")
async def test_at_midnight_of_the_year_the_counter_begins_anew_once(customer: Service) -> None:
    """Creations of both sides of New Year in Tokyo, in whatever order they come; 99 goes on as 100."""
    mark, turns = uuid4().hex[:6], asyncio.Semaphore(12)
    rule = {
        "pattern": f"Y{mark}-{{yyyy}}-{{seq:2}}", "gapFree": True, "reset": "YEAR", "start": 91, "timeZone": "Asia/Tokyo",
    }  # fmt: skip
    tokyo = ZoneInfo("Asia/Tokyo")
    instants = [
        datetime(2026, 12, 31, 23, 59, 59, 999_000, tokyo),
        datetime(2027, 1, 1, 0, 0, tzinfo=tokyo),
    ]

    async def create(at: datetime) -> str:
        async with turns, customer.running.call("CreateAccount", system("customer")) as call:
            call.now = at.astimezone(UTC)
            return (await call.add(Account(display_name=name()))).number

    async with number_rule(customer, rule):
        made = await asyncio.gather(*(create(instants[step % 2]) for step in range(24)))
    expected = [f"{place:02}" for place in range(91, 103)]
    for year in ("2026", "2027"):
        assert sorted(n[13:] for n in made if n[8:12] == year) == sorted(expected)


def test_a_number_says_which_counter_it_comes_from() -> None:
    form = Form("A{yyyyMM}-{dept}-{seq:3}", "YEAR")
    assert form.place("A202612-D01-1000") == ("A2026--", 1000)
    assert form.place("A202612-D01-12") is None and form.place("B202612-D01-012") is None
    assert form.beside("A202612-D01-999", 1000) == "A202612-D01-1000"
    at = datetime(2026, 12, 3, tzinfo=UTC)
    for pattern, reset in (
        ("A{yyyyMM}-{dept}-{seq:3}", "YEAR"), ("{seq:5}", "NEVER"), ("X{yy}.{dd}{MM}{seq:2}", "DAY"),
        ("Q+{dept}{yyyyMMdd}{seq:4}(a)", ""), ("Q+{yyyyMMdd}{seq:4}", "NEVER"),
    ):  # fmt: skip
        counting = Counting(pattern, True, reset, 1, "D01", at)
        assert Form(pattern, reset, {"dept": ["D0", "D01"]}).place(counting.number(77)) == (
            counting.period,
            77,
        ), pattern


def test_a_counter_begins_anew_as_its_rule_says() -> None:
    just_before = datetime(2026, 12, 31, 15, 59, 59, 999_999, UTC)
    after = datetime(2026, 12, 31, 16, 0, tzinfo=UTC)
    # Midnight is that of Shanghai.
    for reset, pattern, same in (
        ("YEAR", "A{yyyy}{seq:3}", False),
        ("MONTH", "A{yyyyMM}{seq:3}", False),
        ("DAY", "A{yyyyMMdd}{seq:3}", False),
        ("NEVER", "A{yyyyMMdd}{seq:3}", True),
        ("", "A{yy}{seq:3}", False),
    ):
        periods = [Counting(pattern, True, reset, 1, "00", at).period for at in (just_before, after)]
        assert (periods[0] == periods[1]) is same, reset
        assert valid(pattern, reset)
    assert not valid("A{seq:3}", "YEAR") and not valid("A{yyyy}{seq}", "MONTH")
    assert not valid("A{MM}{yyyy}{seq}", "DAY")
