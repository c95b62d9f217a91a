"""Rules of the commission ledger that need people or partners of their own, through facts and the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service, local_date
from sales.commission_work import differing
from sales.jobs import replay_commissions, write_statements
from sales.model.commission_statement import CommissionStatement
from sqlalchemy import update

Made = Callable[..., Awaitable[Any]]
Entry = pb.CommissionEntry
TODAY = local_date()


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def on(when: date) -> dict[str, int]:
    return {"year": when.year, "month": when.month, "day": when.day}


@pytest.fixture
def plan(sales: Service) -> Made:
    """A plan in force."""

    async def make(*people: str, **fields: Any) -> Any:
        body = {
            "displayName": f"方案 {uuid4().hex[:6]}", "currency": "CNY", "tiers": [{"percent": "10"}], "employees": people,
            "validFromDate": {"year": 2020, "month": 1, "day": 1}, **fields,
        }  # fmt: skip
        made = await sales.admin.CreateCommissionPlan(commissionPlan=body)
        return await sales.admin.ActivateCommissionPlan(name=made.name)

    return make


@pytest.fixture
def won(sales: Service, deal: Made) -> Made:
    """A deal that was won with a team; gives its name."""

    async def make(*team: tuple[str, str], **fields: Any) -> str:
        members = [
            {"partner" if one.startswith("accounts/") else "employee": one, "split": split}
            for one, split in team
        ]
        made = await deal(team=members, **fields)
        return (await sales.sales1.WinOpportunity(name=made.name)).name

    return make


async def paid(
    sales: Service, deal: str, net: dict[str, str], verb: str = "PaymentAllocated", when: date = TODAY, name: str = "",
    **target: Any,
) -> str:  # fmt: skip
    """Money is allocated, as billing would say."""
    name = name or f"allocations/{uuid4()}"
    allocation = {"name": name, "amount": net, "net": net, "date": on(when)}
    payload = {
        "payment": {"name": f"payments/{uuid4()}"},
        "targets": [{"allocation": allocation, "opportunity": deal, **target}],
    }
    await sales.tell(f"crm.billing.v1.{verb}", payload, name)
    return name


async def ledger(sales: Service, deal: str, count: int) -> list[Any]:
    async def found() -> list[Any]:
        asked = await sales.admin.ListCommissionEntries(filter=f'opportunity = "{deal}"', pageSize=100)
        rows = list(asked.commission_entries)
        return sorted(rows, key=lambda row: (row.cause, row.owner)) if len(rows) >= count else []

    return await sales.eventually(found, 30)


async def right(sales: Service) -> None:
    """The ledger is what a full reckoning gives; the job would fail."""
    async with sales.running.call("test", system("sales")) as call:
        await replay_commissions(datetime(TODAY.year, 12, 1, tzinfo=UTC), call)


@pytest.mark.capability("s.commission")
async def test_a_partner_earns_for_what_he_registered_or_was_promised_by_name_and_sees_his_own_alone(
    sales: Service, plan: Made, won: Made, person: Made, account: Made
) -> None:
    looks_after, me = sales.person("sales1").employee, await person()
    told = {
        "name": sales.person("partner").account, "displayName": "蓝海渠道", "owner": looks_after,
        "department": sales.person("sales1").department,
    }  # fmt: skip
    partner, rival = told["name"], await account(displayName="另一渠道")
    payload = {"name": partner, "action": "CREATED", "actor": "system/test", "resource": told}
    await sales.tell("crm.customer.v1.ResourceChanged", payload, partner)
    await plan(me)
    await plan(forPartners=True, tiers=[{"percent": "5"}])
    with pytest.raises(Refused) as refused:
        await won(("", "100"))
    assert refused.value.violations == {"opportunity.team[0].employee": "REQUIRED"}

    # What nobody registered earns a partner nothing, unless a plan names him.
    plain = await won((partner, "20"), (rival, "30"), (me, "50"))
    await paid(sales, plain, cny("1000.00"))
    assert [(row.owner, row.amount.amount) for row in await ledger(sales, plain, 1)] == [(me, "50.00")]
    agreed = await plan(partners=[rival], tiers=[{"percent": "8"}])
    named = await won((partner, "20"), (rival, "30"), (me, "50"))
    await paid(sales, named, cny("1000.00"))
    rows = {row.partner: row for row in await ledger(sales, named, 2)}
    assert set(rows) == {rival, ""}
    assert (rows[rival].amount.amount, rows[rival].base.amount, rows[rival].plan) == (
        "24.00",
        "300.00",
        agreed.name,
    )

    # What he registered and was converted does; whoever looks after him has the entry.
    registered = await sales.client("partner").CreateDealRegistration(
        dealRegistration={
            "companyName": f"{uuid4().hex[:8]}物流有限公司", "contactName": "周敏", "phone": "13900001111",
            "productLines": ["分拣机"], "region": "310000", "amount": cny("1000.00"),
            "expectedCloseDate": {"year": 2027, "month": 6, "day": 30}, "evidence": ["files/minutes"], "need": "x",
        }
    )  # fmt: skip
    await sales.client("partner").SubmitDealRegistration(name=registered.name)
    await sales.manager.ApproveDealRegistration(name=registered.name)
    converted = await sales.manager.ConvertDealRegistration(name=registered.name, account=await account())
    team = [{"partner": partner, "split": "20"}, {"employee": me, "split": "80"}]
    await sales.manager.UpdateOpportunity(
        opportunity={"name": converted.opportunity, "team": team}, updateMask="team"
    )
    await sales.manager.WinOpportunity(name=converted.opportunity)
    cause = await paid(sales, converted.opportunity, cny("1000.00"))
    rows = {row.partner: row for row in await ledger(sales, converted.opportunity, 2)}
    assert (rows[partner].amount.amount, rows[partner].owner, rows[partner].split) == (
        "10.00",
        looks_after,
        "20",
    )
    assert rows[""].amount.amount == "80.00"
    mine = (await sales.client("partner").ListCommissionEntries()).commission_entries
    assert [row.name for row in mine] == [rows[partner].name]
    total = await sales.client("partner").AggregateCommissionEntries(sum=["amount"])
    assert [Decimal(row.sums["amount:CNY"]) for row in total.rows] == [Decimal(10)]
    with pytest.raises(Refused) as refused:
        await sales.client("partner").GetCommissionEntry(name=rows[""].name)
    assert refused.value.reason == "NOT_FOUND"

    # A verdict shares what is left when the partner has his part.
    customer = await account()
    open_deal = await sales.manager.CreateOpportunity(
        opportunity={
            "displayName": "共享", "account": customer, "need": "x", "amount": cny("10.00"), "team": team,
            "expectedCloseDate": {"year": 2027, "month": 6, "day": 30},
        }
    )  # fmt: skip
    sides = [sales.person(name).employee for name in ("sales1", "sales2")]
    splits = [{"employee": one, "percent": part} for one, part in zip(sides, ("60", "40"), strict=True)]
    fact = {
        "case": {"name": "duplicateCases/9"},
        "verdict": "SHARE",
        "splits": splits,
        "accounts": [customer],
    }
    await sales.tell("crm.customer.v1.CollisionDecided", fact, "duplicateCases/9")

    async def shared() -> Any:
        found = await sales.admin.GetOpportunity(name=open_deal.name)
        return {one.partner or one.employee: one.split for one in found.team} if len(found.team) == 4 else {}

    assert await sales.eventually(shared, 30) == {partner: "20", sides[0]: "48", sides[1]: "32", me: ""}

    # His statement is one for the month, he may doubt it, and the payout is his.
    month = (TODAY.replace(day=1) + timedelta(days=32)).replace(day=5)
    for _ in range(2):
        async with sales.running.call("write_statements", system("sales")) as call:
            await write_statements(datetime(month.year, month.month, 5, 4, tzinfo=UTC), call)
    [statement] = (await sales.client("partner").ListCommissionStatements()).commission_statements
    assert (statement.payable.amount, statement.partner, statement.owner) == ("10.00", partner, looks_after)
    await sales.admin.IssueCommissionStatement(name=statement.name)
    with pytest.raises(Refused) as refused:
        await sales.manager.DisputeCommissionStatement(
            name=statement.name, entries=[rows[partner].name], reason="x"
        )
    assert refused.value.reason == "PERMISSION_DENIED"
    await sales.client("partner").ConfirmCommissionStatement(name=statement.name)
    await sales.admin.PayCommissionStatement(name=statement.name)
    [asked] = await sales.facts("crm.sales.v1.CommissionPayoutRequested", statement.name)
    assert (asked["payee"], asked["amount"]) == (partner, cny("10.00"))
    # What goes back after the payout is a line of its own for the next statement.
    await paid(sales, converted.opportunity, cny("1000.00"), "AllocationReversed", name=cause)
    rows = [row for row in await ledger(sales, converted.opportunity, 4) if row.partner]
    assert sorted((row.amount.amount, bool(row.statement)) for row in rows) == [
        ("-10.00", False),
        ("10.00", True),
    ]
    await right(sales)


@pytest.mark.capability("s.commission")
async def test_a_later_owner_earns_as_the_plan_says_from_the_handover_on_and_never_before(
    sales: Service, plan: Made, won: Made, person: Made, account: Made
) -> None:
    for after, expected in (
        ("KEEP", ["100.00", ""]),
        ("SHARE", ["50.00", "50.00"]),
        ("MOVE", ["", "100.00"]),
    ):
        one, other = await person(), await person()
        await plan(one, other, afterHandover=after, handoverMonths=2)
        customer = await account()
        deal = await won((one, "100"), account=customer)
        before = await paid(sales, deal, cny("1000.00"), when=TODAY - timedelta(days=1))
        await ledger(sales, deal, 1)
        department = sales.person("sales2").department
        owner = {"account": {"name": customer, "owner": other, "department": department}}
        await sales.tell("crm.customer.v1.AccountOwnerChanged", {**owner, "from": one, "to": other}, customer)

        async def handed(deal: str = deal) -> Any:
            return list((await sales.admin.GetOpportunity(name=deal)).handovers)

        await sales.eventually(handed, 30)
        later = await paid(sales, deal, cny("1000.00"))
        # Money that was there before the day is the first owner's, whenever it is told.
        late = await paid(sales, deal, cny("500.00"), when=TODAY - timedelta(days=2))
        rows = await ledger(sales, deal, 4 if after == "SHARE" else 3)
        told = {(row.cause, row.owner): row.amount.amount for row in rows}
        assert (told[before, one], told[late, one]) == ("100.00", "50.00")
        assert [told.get((later, who), "") for who in (one, other)] == expected
        assert {row.owner for row in rows if row.cause in (before, late)} == {one}
    await right(sales)


@pytest.mark.capability("s.commission")
async def test_facts_told_at_once_count_once_by_the_version_of_their_day_and_foreign_money_at_its_rate(
    sales: Service, plan: Made, won: Made, person: Made
) -> None:
    me = await person()
    first = await plan(me, validFromDate={"year": 2010, "month": 1, "day": 1})
    second = await sales.admin.NewCommissionPlanVersion(name=first.name)
    changed = {
        "name": second.name, "validFromDate": on(TODAY), "tiers": [{"percent": "20"}]
    }  # fmt: skip
    await sales.admin.UpdateCommissionPlan(commissionPlan=changed, updateMask="validFromDate,tiers")
    await sales.admin.ActivateCommissionPlan(name=second.name)
    deal = await won((me, "100"))
    # Nothing is earned on what is issued or has come in without paying anything.
    await sales.tell(
        "crm.billing.v1.InvoiceIssued", {"invoice": {"name": "invoices/1", "opportunity": deal}}, "x"
    )
    name = f"allocations/{uuid4()}"
    yesterday = TODAY - timedelta(days=1)
    await asyncio.gather(*(paid(sales, deal, cny("100.00"), name=name, when=yesterday) for _ in range(8)))
    today = await paid(sales, deal, cny("100.00"))
    rows = {row.cause: row for row in await ledger(sales, deal, 2)}
    assert {cause: (row.amount.amount, row.plan) for cause, row in rows.items()} == {
        name: ("10.00", first.name), today: ("20.00", second.name),
    }  # fmt: skip
    # Each entry explains itself.
    told = rows[today]
    assert (told.base.amount, told.split, told.kind) == ("100.00", "100", Entry.EARN)
    assert [(one.base, one.percent, one.rule) for one in told.slices] == [("100", "20", "TIER")]
    async with sales.parts.configuration() as config:
        # Before the years that other tests look at.
        then = date(2010, 5, 4)
        rates = [[str(then), "7.10"], [str(then + timedelta(days=1)), "7.30"]]
        await config.put("currencyRate.USD-CNY", {"rates": rates})
        await sales.eventually(lambda: sales.running.config.get("currencyRate.USD-CNY"))
        usd = {"currencyCode": "USD", "amount": "10.01"}
        foreign = await paid(sales, deal, usd, when=then)
        [row] = [row for row in await ledger(sales, deal, 3) if row.cause == foreign]
        await config.delete("currencyRate.USD-CNY")
    # 10.01 USD at the rate of its day are 71.07 CNY; a rate that changes later changes nothing.
    assert (row.base.amount, row.amount.amount, row.exchange_rate) == ("71.07", "7.11", "7.1")
    await right(sales)


@pytest.mark.capability("s.commission")
async def test_an_accepted_return_takes_back_once_and_a_dispute_has_ten_days(
    sales: Service, plan: Made, won: Made
) -> None:
    me = sales.person("stranger").employee or ""
    await plan(
        me,
        validFromDate={"year": TODAY.year - 1, "month": 1, "day": 1},
        validToDate=on(TODAY - timedelta(days=1)),
    )
    deal = await won((me, "100"))
    yesterday = TODAY - timedelta(days=1)
    invoice = {"name": f"invoices/{uuid4()}", "net": cny("1000.00")}
    cause = await paid(sales, deal, cny("1000.00"), when=yesterday, invoice=invoice)
    [earned] = await ledger(sales, deal, 1)
    # Goods come back: billing credits what was charged for them, and that takes back, once.
    back = {
        "name": f"returns/{uuid4()}",
        "opportunity": deal,
        "currency": "CNY",
        "lines": [{"net": cny("400.00")}],
    }
    note = {"name": f"creditNotes/{uuid4()}", "invoice": invoice["name"], "lines": [{"net": cny("400.00")}]}
    for _ in range(2):
        await sales.tell("crm.orders.v1.ReturnAccepted", {"return": back}, back["name"])
        await sales.tell("crm.billing.v1.CreditNoteIssued", {"creditNote": note}, str(note["name"]))
    rows = await ledger(sales, deal, 2)
    [taken] = [row for row in rows if row.kind == Entry.CLAWBACK]
    assert (taken.amount.amount, taken.reverses, taken.split) == ("-40.00", earned.name, earned.split)
    assert (len(rows), earned.cause) == (2, cause)

    month = TODAY.year * 12 + TODAY.month + 24
    at = datetime(month // 12, month % 12 + 1, 5, 4, tzinfo=UTC)
    async with sales.running.call("write_statements", system("sales")) as call:
        await write_statements(at, call)
    asked = f'owner = "{me}" AND state = "DRAFT"'
    [statement] = (await sales.admin.ListCommissionStatements(filter=asked)).commission_statements
    await sales.admin.IssueCommissionStatement(name=statement.name)
    async with sales.running.call("later", system("sales")) as call:
        issued = datetime.now(UTC) - timedelta(days=10, minutes=1)
        key = statement.name.rpartition("/")[2]
        await call.db.execute(
            update(CommissionStatement).where(CommissionStatement.id == key).values(issue_time=issued)
        )
    with pytest.raises(Refused) as refused:
        await sales.client("stranger").DisputeCommissionStatement(
            name=statement.name, entries=[earned.name], reason="晚了"
        )
    assert refused.value.reason == "DISPUTE_TOO_LATE"


@pytest.mark.parametrize(("outcome", "amount"), [("PENALTY", "-200.00"), ("REWARD", "200.00")])
async def test_a_confirmed_penalty_or_reward_is_one_correction_where_the_plan_counts_them(
    sales: Service, person: Made, plan: Made, outcome: str, amount: str
) -> None:
    me, other, nobody = await person(), await person(), await person()
    counting = await plan(me, countsPenalties=True)
    await plan(other)

    async def confirmed(who: str) -> str:
        finding = {
            "name": f"usageFindings/{uuid4()}", "displayName": "长期未登录", "owner": who, "outcome": outcome,
            "amount": cny("200.00"), "state": "CONFIRMED",
        }  # fmt: skip
        payload = {"usageFinding": finding}
        await sales.tell("crm.workspace.v1.UsagePenaltyConfirmed", payload, finding["name"], times=2)
        return finding["name"]

    for who in (nobody, other):
        await confirmed(who)
    causes = [await confirmed(me), await confirmed(me)]

    async def entries(who: str) -> list[Any]:
        return list((await sales.admin.ListCommissionEntries(filter=f'owner = "{who}"')).commission_entries)

    async def both() -> bool:
        return len(await entries(me)) == 2

    await sales.eventually(both)
    # The same told again, as another fact, changes nothing.
    again = {
        "name": causes[0],
        "owner": me,
        "outcome": outcome,
        "amount": cny("200.00"),
        "displayName": "再说一次",
    }
    await sales.tell("crm.workspace.v1.UsagePenaltyConfirmed", {"usageFinding": again}, causes[0])
    there = await entries(me)
    assert {one.cause for one in there} == set(causes)
    assert {(one.kind, one.amount.amount, one.plan, one.note) for one in there} == {
        (Entry.CORRECTION, amount, counting.name, "长期未登录")
    }
    assert not await entries(other)
    assert not await entries(nobody)
    # The nightly reckoning of the ledger by its movements is not disturbed.
    async with sales.running.call("replay", system("sales")) as call:
        assert not [key for key in await differing(call, TODAY.year) if key[0] == me]
