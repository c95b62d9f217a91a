"""The short way of get and list: it answers as the long way does, and the database's wall stands behind it."""

import random
from typing import Any

import pytest
from crmkit import reading
from crmkit.testing import Refused, Service
from sqlalchemy import true

BRANDS = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
MONEY = {"currencyCode": "CNY", "amount": "1250000"}


@pytest.fixture
async def accounts(customer: Service) -> list[Any]:
    """Some of one owner, some of another."""
    made: list[Any] = []
    for number, client in enumerate([customer.sales1, customer.sales1, customer.sales1, customer.sales2]):
        account = {
            "displayName": f"同路{''.join(random.choices(BRANDS, k=6))}测绘行",
            "phones": [{"number": f"139{random.randrange(10**4):04}000{number}"}],
            "birth": {"calendar": "GREGORIAN", "month": 5, "day": number + 1}, "annualRevenue": MONEY,
        }  # fmt: skip
        made.append(await client.CreateAccount(account=account))
    return made


async def test_both_ways_give_the_same(
    customer: Service, accounts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [
        ("GetAccount", {"name": accounts[0].name}),
        ("ListAccounts", {"pageSize": 2}),
        ("ListAccounts", {"pageSize": 3, "orderBy": "display_name desc"}),
        ("ListAccounts", {"pageSize": 2, "q": "同路"}),
        ("ListAccounts", {"pageSize": 2, "q": "tongl"}),
        ("ListAccounts", {"pageSize": 2, "q": "0000"}),
        ("ListAccounts", {"pageSize": 2, "q": "路", "orderBy": "display_name"}),
    ]
    methods = customer.running.pipeline.methods
    for client in (customer.admin, customer.manager, customer.sales1, customer.sales2):
        for name, fields in calls:
            short = await _everything(client, name, fields)
            method = methods[name]
            monkeypatch.setitem(vars(method), "reader", None)
            assert short == await _everything(client, name, fields), (name, fields)
            monkeypatch.undo()


async def test_the_second_wall_stands_behind_the_first(
    customer: Service, accounts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "predicate", lambda *_: true())
    reading._one.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        with pytest.raises(Refused) as refused:
            await customer.sales2.GetAccount(name=accounts[0].name)
        assert refused.value.reason == "NOT_FOUND"
        assert (await customer.sales1.GetAccount(name=accounts[0].name)).name == accounts[0].name
    finally:
        reading._one.cache_clear()  # pyright: ignore[reportPrivateUsage]


async def test_a_read_leaves_nothing_on_its_connection(customer: Service, accounts: list[Any]) -> None:
    await customer.sales1.GetAccount(name=accounts[0].name)
    async with customer.running.engine.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT current_setting('crm.scope', true), count(*) FROM accounts"
        )
        assert found.one()[1] == 0


async def _everything(client: Any, name: str, fields: dict[str, Any]) -> list[Any]:
    """Every record of the call, page after page, or the refusal's reason."""
    try:
        reply = await getattr(client, name)(**fields)
        if not name.startswith("List"):
            return [reply]
        found = list(reply.accounts)
        for _ in range(3):
            if not reply.next_page_token:
                break
            reply = await getattr(client, name)(**fields, pageToken=reply.next_page_token)
            found.extend(reply.accounts)
        return found
    except Refused as refused:
        return [refused.reason]
