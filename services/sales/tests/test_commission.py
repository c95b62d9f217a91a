"""Collected money earns, through facts and the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.jobs import write_statements

Made = Callable[..., Awaitable[Any]]
TODAY = datetime.now(UTC).date()
TIERS = [{"percent": "3"}, {"fromAmount": "100000", "percent": "5"}, {"fromAmount": "300000", "percent": "8"}]


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def day(year: int, month: int = 1, date: int = 1) -> dict[str, int]:
    return {"year": year, "month": month, "day": date}


@pytest.fixture
def plan(sales: Service) -> Made:
    """A plan in force for some people alone."""

    async def make(*people: str, **fields: Any) -> Any:
        employees = [sales.person(name).employee for name in people]
        body = {
            "displayName": f"方案 {uuid4().hex[:6]}", "currency": "CNY", "tiers": TIERS, "employees": employees,
            "validFromDate": day(2020), **fields,
        }  # fmt: skip
        made = await sales.admin.CreateCommissionPlan(commissionPlan=body)
        return await sales.admin.ActivateCommissionPlan(name=made.name)

    return make


async def told(sales: Service, deal: str, net: str, verb: str = "PaymentAllocated", name: str = "") -> str:
    """Money is allocated, or taken back, as billing would say."""
    name = name or f"allocations/{uuid4()}"
    allocation = {
        "name": name, "amount": cny(net), "net": cny(net), "date": day(TODAY.year, TODAY.month, TODAY.day),
    }  # fmt: skip
    payload = {
        "payment": {"name": f"payments/{uuid4()}"},
        "targets": [{"allocation": allocation, "opportunity": deal}],
    }
    await sales.tell(f"crm.billing.v1.{verb}", payload, name)
    return name


async def ledger(sales: Service, deal: str, count: int) -> list[Any]:
    """The entries of a deal, when there are so many."""

    async def found() -> list[Any]:
        rows = (
            await sales.admin.ListCommissionEntries(filter=f'opportunity = "{deal}"', pageSize=100)
        ).commission_entries
        return list(rows) if len(rows) >= count else []

    return await sales.eventually(found)


async def test_collected_money_earns_by_slab_once_and_goes_back_from_the_top(
    sales: Service, plan: Made, account: Made
) -> None:
    """The seller is somebody whose deals no other test wins."""
    await plan("everything")
    seller = sales.client("everything")
    body = {
        "displayName": "提成", "account": await account("everything"), "need": "x", "amount": cny("200000.00"),
        "expectedCloseDate": day(2027, 3, 31),
    }  # fmt: skip
    deal = await seller.CreateOpportunity(opportunity=body)
    await told(sales, deal.name, "1000.00")
    estimate = await seller.EstimateCommission(opportunity=deal.name)
    # 100,000 at 3 %, 100,000 at 5 %.
    assert (estimate.split, estimate.amount.amount) == ("100", "8000.00")
    won = await seller.WinOpportunity(name=deal.name)
    assert [(member.employee, member.split) for member in won.credit] == [(won.owner, "100")]
    first = await told(sales, deal.name, "90000.00")
    [earned] = await ledger(sales, deal.name, 1)
    assert (earned.amount.amount, earned.base.amount, earned.owner) == ("2700.00", "90000.00", won.owner)
    await told(sales, deal.name, "90000.00", name=first)
    second = await told(sales, deal.name, "50000.00")
    entries = {entry.cause: entry for entry in await ledger(sales, deal.name, 2)}
    assert entries[second].amount.amount == "2300.00"
    assert [(one.base, one.percent) for one in entries[second].slices] == [("10000", "3"), ("40000", "5")]
    await told(sales, deal.name, "50000.00", "AllocationReversed", second)
    back = {entry.cause: entry for entry in await ledger(sales, deal.name, 3)}[f"{second}#reversed"]
    assert (back.kind, back.amount.amount) == (pb.CommissionEntry.CLAWBACK, "-2300.00")
    assert back.reverses == entries[second].name
    await told(sales, deal.name, "50000.00", "AllocationReversed", second)
    await asyncio.sleep(0.5)
    assert len(await ledger(sales, deal.name, 3)) == 3
    hidden = await sales.sales2.ListCommissionEntries(filter=f'opportunity = "{deal.name}"')
    assert not hidden.commission_entries


async def test_the_team_shares_to_the_cent_superiors_get_their_part_and_the_statement_is_paid(
    sales: Service, plan: Made, deal: Made
) -> None:
    one, other = sales.person("sales1").employee or "", sales.person("sales2").employee or ""
    await plan("sales1", "sales2", overrides=[{"level": 1, "percent": "1"}], mode="WHOLE", tiers=TIERS[:2])
    team = [{"employee": one, "split": "33.33"}, {"employee": other, "split": "66.67"}]
    made = await deal(team=team)
    await sales.sales1.WinOpportunity(name=made.name)
    cause = await told(sales, made.name, "100.01")
    superior = sales.person("sales1").superior
    expected = 3 if superior else 2
    entries = await ledger(sales, made.name, expected)
    bases = {entry.owner: Decimal(entry.base.amount) for entry in entries if entry.cause == cause}
    assert bases == {one: Decimal("33.33"), other: Decimal("66.68")}
    if superior:
        over = [
            entry
            for entry in entries
            if entry.kind == pb.CommissionEntry.OVERRIDE and entry.owner == superior
        ]
        assert over
    next_month = (TODAY.replace(day=1) + timedelta(days=32)).replace(day=5)
    at = datetime(next_month.year, next_month.month, 5, 4, tzinfo=UTC)
    for _ in range(2):
        async with sales.running.call("write_statements", system("sales")) as call:
            await write_statements(at, call)
            await call.flush()
    found = await sales.admin.ListCommissionStatements(filter=f'owner = "{other}"')
    [statement] = found.commission_statements
    mine = [entry for entry in await ledger(sales, made.name, expected) if entry.owner == other]
    assert {entry.statement for entry in mine} == {statement.name}
    assert Decimal(statement.payable.amount) == sum(Decimal(entry.amount.amount) for entry in mine)
    issued = await sales.admin.IssueCommissionStatement(name=statement.name)
    assert issued.state == pb.CommissionStatement.ISSUED
    with pytest.raises(Refused) as refused:
        await sales.admin.DisputeCommissionStatement(
            name=statement.name, entries=[mine[0].name], reason="不是我"
        )
    assert refused.value.reason == "PERMISSION_DENIED"
    with pytest.raises(Refused) as refused:
        await sales.admin.PayCommissionStatement(name=statement.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await sales.admin.ConfirmCommissionStatement(name=statement.name)
    paying = await sales.admin.PayCommissionStatement(name=statement.name)
    [asked] = await sales.facts("crm.sales.v1.CommissionPayoutRequested", statement.name)
    assert (asked["payee"], asked["amount"]) == (other, cny(paying.payable.amount))
    payout = {"payout": {"name": f"payouts/{uuid4()}"}, "source": statement.name, "amount": asked["amount"]}
    await sales.tell("crm.billing.v1.PayoutPaid", payout, statement.name)

    async def paid() -> bool:
        return (
            await sales.admin.GetCommissionStatement(name=statement.name)
        ).state == pb.CommissionStatement.PAID

    await sales.eventually(paid)


async def test_a_new_version_counts_from_its_first_day_and_bad_tiers_never(
    sales: Service, plan: Made
) -> None:
    first = await plan("nobody")
    second = await sales.admin.NewCommissionPlanVersion(name=first.name)
    later = {"name": second.name, "validFromDate": day(2030)}
    await sales.admin.UpdateCommissionPlan(commissionPlan=later, updateMask="validFromDate")
    await sales.admin.ActivateCommissionPlan(name=second.name)
    ended = await sales.admin.GetCommissionPlan(name=first.name)
    assert (ended.state, ended.valid_to_date.year, ended.valid_to_date.month) == (
        pb.CommissionPlan.RETIRED,
        2029,
        12,
    )
    for tiers in ([], [{"fromAmount": "5", "percent": "3"}], [{"percent": "3"}, {"percent": "4"}]):
        with pytest.raises(Refused) as refused:
            await plan("nobody", tiers=tiers)
        assert refused.value.reason == "TIERS_INVALID"
