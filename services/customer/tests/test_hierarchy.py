"""Groups of customers: levels, units compared, what is hidden, what has ended."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.testing import Client, Refused, Service, local_date
from grpc import StatusCode
from sqlalchemy import text

Told = Callable[..., Awaitable[str]]


def yuan(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


async def account(client: Client, name: str) -> str:
    return (await client.CreateAccount(account={"displayName": name})).name


async def relate(client: Client, above: str, below: str, kind: str = "PARENT_OF", **fields: Any) -> Any:
    return await client.CreateAccountRelation(
        accountRelation={"from": above, "to": below, "kind": kind, **fields}
    )


@pytest.mark.capability("c.hierarchy")
async def test_a_group_counts_every_unit_once_and_says_how_many_it_does_not_show(
    customer: Service, told: Told
) -> None:
    top = await account(customer.sales1, "群岛控股集团")
    left = await account(customer.sales1, "群岛左翼贸易有限公司")
    right = await account(customer.sales1, "群岛右翼电子有限公司")
    bottom = await account(customer.sales1, "群岛共管基金")
    hidden = await account(customer.sales2, "群岛北方船舶有限公司")
    branch = await account(customer.sales1, "群岛海南办事处")
    admin = customer.admin
    await relate(customer.sales1, top, left, share="60")
    await relate(customer.sales1, top, right)
    # Two ways lead to the same unit; one of them through a unit that the reader does not see.
    await relate(customer.sales1, left, bottom, "JOINT_VENTURE", share="50")
    await relate(customer.sales1, right, bottom, "JOINT_VENTURE", share="50")
    await relate(admin, top, hidden)
    # A branch names its head office: it stands below it.
    await relate(customer.sales1, branch, top, "BRANCH_OF")
    await told("allocations", bottom, amount=yuan("1000.00"), date={"year": 2026, "month": 10, "day": 1})
    await told("allocations", bottom, amount=yuan("9.00"), date={"year": 2020, "month": 10, "day": 1})
    await told("opportunities", bottom, state="OPEN", amount=yuan("500.00"))
    await told("opportunities", left, state="LOST", amount=yuan("7.00"))
    await told("tickets", bottom, state="IN_PROGRESS")
    await told("tickets", bottom, state="CLOSED")
    await told("accountBalances", left, balance=yuan("30.00"))

    async def ready() -> Any:
        tree = await customer.sales1.GetAccountHierarchy(name=left)
        return tree if tree.total.credit_used and tree.total.open_tickets and tree.total.pipeline else None

    tree = await customer.eventually(ready)
    units = {unit.account: unit for unit in tree.units}
    assert set(units) == {top, left, right, bottom, branch}
    assert [unit.level for unit in tree.units] == [1, 2, 2, 2, 3]
    assert (units[left].parent, units[left].share) == (top, "60")
    assert units[branch].parent == top
    assert units[bottom].parent in (left, right)
    assert (tree.not_shown, tree.not_shown_text) == (1, "另有 1 个单位未显示")
    assert (
        await customer.client("sales1", "en").GetAccountHierarchy(name=left)
    ).not_shown_text == "1 units not shown"
    assert [m.amount for m in units[bottom].revenue] == ["1000.00"]
    assert [m.amount for m in tree.total.revenue] == ["1000.00"]
    assert [m.amount for m in tree.total.pipeline] == ["500.00"]
    assert [m.amount for m in tree.total.credit_used] == ["30.00"]
    assert (units[bottom].open_tickets, tree.total.open_tickets) == (1, 1)
    assert (units[bottom].unserved, units[right].unserved) == (False, True)
    assert (await admin.GetAccountHierarchy(name=left)).not_shown == 0
    with pytest.raises(Refused) as refused:
        await customer.sales2.GetAccountHierarchy(name=left)
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("c.hierarchy")
async def test_an_ended_relation_is_known_for_the_days_before(customer: Service) -> None:
    above = await account(customer.sales1, "往昔母公司集团")
    below = await account(customer.sales1, "往昔子公司有限公司")
    made = await relate(customer.sales1, above, below, fromDate={"year": 2025, "month": 1, "day": 1})
    day = {"year": 2026, "month": 6, "day": 30}
    ended = await customer.sales1.EndAccountRelation(name=made.name, date=day)
    assert ended.state == pb.AccountRelation.ENDED

    async def units(**date: int) -> int:
        return len((await customer.sales1.GetAccountHierarchy(name=below, date=date)).units)

    assert await units(year=2026, month=6, day=29) == 2
    assert await units(year=2026, month=6, day=30) == 1
    assert await units(year=2024, month=12, day=31) == 1
    assert (await customer.sales1.GetAccountHierarchy(name=below)).units[0].account == below
    # The same edge may begin again.
    await relate(customer.sales1, above, below)


async def test_a_changed_share_is_held_to_the_whole_and_told_and_what_is_over_stays(
    customer: Service,
) -> None:
    mother = await account(customer.sales1, "股比母公司集团")
    other = await account(customer.sales1, "股比另一股东有限公司")
    child = await account(customer.sales1, "股比子公司有限公司")
    made = await relate(customer.sales1, mother, child, share="60")
    await relate(customer.sales1, other, child, "JOINT_VENTURE", share="40")

    async def change(mask: str, **fields: Any) -> Any:
        return await customer.sales1.UpdateAccountRelation(
            accountRelation={"name": made.name, **fields}, updateMask=mask
        )

    for share in ("61", "101"):
        with pytest.raises(Refused) as refused:
            await change("share", share=share)
        assert refused.value.reason == "SHARE_OVER_100"
    with pytest.raises(Refused) as refused:
        await relate(customer.sales1, mother, child, "SUPPLIES", share="100.01")
    assert refused.value.reason == "SHARE_OVER_100"
    with pytest.raises(Refused) as refused:
        await relate(customer.sales1, mother, child)
    assert (refused.value.code, refused.value.reason) == (StatusCode.ALREADY_EXISTS, "RELATION_EXISTS")
    assert (await change("share,paysFor", share="55", paysFor=True)).share == "55"
    told = await customer.facts("crm.customer.v1.AccountRelationChanged", made.name)
    assert [(one["relation"].get("share"), one["relation"].get("paysFor", False)) for one in told] == [
        ("60", False),
        ("55", True),
    ]
    # One made by mistake and thrown away is over for those who keep the group.
    await customer.sales1.DeleteAccountRelation(name=made.name)
    told = await customer.facts("crm.customer.v1.AccountRelationChanged", made.name)
    assert told[-1]["relation"]["state"] == "ENDED"
    over = await relate(customer.sales1, mother, child, share="60")
    await customer.sales1.EndAccountRelation(name=over.name)
    with pytest.raises(Refused) as refused:
        await customer.sales1.UpdateAccountRelation(
            accountRelation={"name": over.name, "share": "10"}, updateMask="share"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"


@pytest.mark.capability("c.hierarchy")
async def test_a_group_has_ten_levels_and_no_circle_whatever_the_kinds(customer: Service) -> None:
    chain = [await account(customer.sales1, f"深度{level}层仪表有限公司") for level in range(1, 12)]
    for above, below in pairwise(chain[:9]):
        await relate(customer.sales1, above, below)
    await relate(customer.sales1, chain[9], chain[8], "BRANCH_OF")
    tree = await customer.sales1.GetAccountHierarchy(name=chain[4])
    assert [unit.level for unit in tree.units] == list(range(1, 11))
    for kind, start, end in (("PARENT_OF", chain[9], chain[10]), ("BRANCH_OF", chain[10], chain[9])):
        with pytest.raises(Refused) as refused:
            await relate(customer.sales1, start, end, kind)
        assert refused.value.reason == "RELATION_TOO_DEEP"
    for kind, start, end in (("PARENT_OF", chain[9], chain[0]), ("BRANCH_OF", chain[0], chain[9])):
        with pytest.raises(Refused) as refused:
            await relate(customer.sales1, start, end, kind)
        assert refused.value.reason == "RELATION_CYCLE"


@pytest.mark.capability("c.hierarchy")
async def test_a_group_of_five_thousand_units_is_shown_in_half_a_second(customer: Service) -> None:
    person = customer.person("sales1")
    root = await account(customer.sales1, "五千单位总部集团")
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        units = (
            "INSERT INTO accounts (id, display_name, kind, state, owner, department, create_time, update_time, version)"
            " SELECT gen_random_uuid(), '五千单位' || n, 'COMPANY', 'ACTIVE', :owner, :department, now(), now(), 1"
            " FROM generate_series(1, 4999) n RETURNING id"
        )
        scope = {"owner": person.employee, "department": person.department}
        ids = [f"accounts/{row.id}" for row in await session.execute(text(units), scope)]
        everyone = [root, *ids]
        # Nine below each: five levels.
        edges = [
            {"above": everyone[(n - 1) // 9], "below": everyone[n], **scope} for n in range(1, len(everyone))
        ]
        await session.execute(
            text(
                'INSERT INTO account_relations (id, "from", "to", kind, state, owner, department, create_time,'
                " update_time, version) VALUES (gen_random_uuid(), :above, :below, 'PARENT_OF', 'ACTIVE', :owner,"
                " :department, now(), now(), 1)"
            ),
            edges,
        )
        await session.commit()
    took: list[float] = []
    # Others work on the same machine: the best of a few counts.
    while not took or (min(took) >= 0.5 and len(took) < 20):
        began = time.perf_counter()
        tree = await customer.sales1.GetAccountHierarchy(name=ids[-1])
        took.append(time.perf_counter() - began)
    assert (len(tree.units), tree.units[0].account, tree.not_shown) == (5000, root, 0)
    # The best of several: others work on the same machine.
    assert min(took) < 0.5, took


async def test_money_that_was_paid_back_counts_no_more(
    customer: Service, told: Told, refunded: Callable[..., Awaitable[None]]
) -> None:
    name = await account(customer.sales1, f"退款{uuid4().hex[:8]}有限公司")
    day = local_date() - timedelta(days=30)
    paid = {"year": day.year, "month": day.month, "day": day.day}
    await told("allocations", name, amount=yuan("1000.00"), date=paid)
    await refunded(name, "250.00", day)

    async def net() -> bool:
        seen = await customer.sales1.GetAccountOverview(name=name)
        revenue = (await customer.sales1.GetAccountHierarchy(name=name)).total.revenue
        sums = [[money.amount for money in one] for one in (seen.collected, seen.collected_year, revenue)]
        assert not [one for one in seen.figures if one.collection == "refunds"]
        return sums == [["750.00"]] * 3

    await customer.eventually(net)
