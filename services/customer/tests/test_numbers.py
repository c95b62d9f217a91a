"""Human numbers: unique always, without gaps where the rule says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from crmkit.app import Running
from crmkit.auth import system
from crmkit.numbering import Counting, valid
from crmkit.testing import Refused, Service
from customer.model.account import Account


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


async def test_a_gap_free_series_has_no_gaps_although_some_calls_fail(customer: Service) -> None:
    turns = asyncio.Semaphore(12)
    async with number_rule(customer, {"pattern": f"G{uuid4().hex[:6]}-{{seq:4}}", "gapFree": True}):

        async def create(index: int) -> str | None:
            async with turns, customer.running.call("CreateAccount", system("customer")) as call:
                made = await call.add(Account(display_name=name()))
                await call.flush()
                if index % 3 == 0:
                    raise LookupError
                return made.number

        found = await asyncio.gather(*(create(index) for index in range(50)), return_exceptions=True)
    numbers = [one for one in found if isinstance(one, str)]
    assert len(numbers) == 33
    assert all(isinstance(one, str | LookupError) for one in found), found
    assert sorted(int(number[-4:]) for number in numbers) == list(range(1, 34))


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
