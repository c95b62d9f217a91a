"""Collected money earns, through facts and the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from billing.app import app as billing_app
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service, local_date
from sales.jobs import replay_commissions, write_statements

Made = Callable[..., Awaitable[Any]]
TODAY = local_date()
TIERS = [{"percent": "3"}, {"fromAmount": "100000", "percent": "5"}, {"fromAmount": "300000", "percent": "8"}]


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def day(year: int, month: int = 1, number: int = 1) -> dict[str, int]:
    return {"year": year, "month": month, "day": number}


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


async def told(
    sales: Service, deal: str, net: str, verb: str = "PaymentAllocated", name: str = "", when: date = TODAY, **target: Any
) -> str:  # fmt: skip
    """Money is allocated, or taken back, as billing would say."""
    name = name or f"allocations/{uuid4()}"
    allocation = {
        "name": name, "amount": cny(net), "net": cny(net), "date": day(when.year, when.month, when.day),
    }  # fmt: skip
    payload = {
        "payment": {"name": f"payments/{uuid4()}"},
        "targets": [{"allocation": allocation, "opportunity": deal, **target}],
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


async def test_refunds_and_credit_notes_take_back_once_what_is_no_longer_earned_in_whatever_order(
    sales: Service, plan: Made, account: Made
) -> None:
    """Of 140,000 collected 20,000 go back at 5 %; a credit note for the same money takes nothing more."""
    await plan("everything")
    seller = sales.client("everything")
    body = {
        "displayName": "退款", "account": await account("everything"), "need": "x", "amount": cny("200000.00"),
        "expectedCloseDate": day(2027, 3, 31),
    }  # fmt: skip
    # Within the twelve months in which a plan takes back, in a year of its own.
    when = date(TODAY.year - 1, 12, 31)

    async def paid() -> tuple[str, str, str]:
        deal = (await seller.CreateOpportunity(opportunity=body)).name
        await seller.WinOpportunity(name=deal)
        invoice: dict[str, Any] = {"name": f"invoices/{uuid4()}", "net": cny("140000.00")}
        first = await told(sales, deal, "140000.00", when=when, invoice=invoice)
        await ledger(sales, deal, 1)
        return deal, str(invoice["name"]), first

    async def refund(deal: str, invoice: str, allocation: str, net: str, name: str) -> None:
        target = {
            "allocation": {"name": allocation, "net": cny(net)}, "opportunity": deal, "invoice": {"name": invoice}
        }  # fmt: skip
        await sales.tell(
            "crm.billing.v1.PaymentRefunded",
            {"refund": {"name": name}, "targets": [target]},
            name,
            times=2,
        )

    async def credit(invoice: str, net: str, name: str) -> None:
        note = {"name": name, "invoice": invoice, "lines": [{"net": cny(net)}]}
        await sales.tell("crm.billing.v1.CreditNoteIssued", {"creditNote": note}, name, times=2)

    async def amounts(deal: str, count: int) -> list[str]:
        return [
            row.amount.amount for row in sorted(await ledger(sales, deal, count), key=lambda row: row.cause)
        ]

    deal, invoice, allocation = await paid()
    await refund(deal, invoice, allocation, "20000.00", f"refunds/{uuid4()}")
    assert await amounts(deal, 2) == ["5000.00", "-1000.00"]
    [_, back] = sorted(await ledger(sales, deal, 2), key=lambda row: row.cause)
    assert (back.kind, [(one.base, one.percent) for one in back.slices]) == (
        pb.CommissionEntry.CLAWBACK,
        [("20000", "5")],
    )
    [earned] = [row for row in await ledger(sales, deal, 2) if row.kind == pb.CommissionEntry.EARN]
    assert back.reverses == earned.name
    await credit(invoice, "20000.00", f"creditNotes/{uuid4()}")
    # A further credit does take back, then the chargeback of the rest only the rest: nothing is left.
    await credit(invoice, "40000.00", f"creditNotes/{uuid4()}")
    assert await amounts(deal, 3) == ["5000.00", "-1000.00", "-1600.00"]
    await told(sales, deal, "140000.00", "AllocationReversed", allocation, invoice={"name": invoice})
    assert sum(Decimal(one) for one in await amounts(deal, 4)) == 0

    deal, invoice, allocation = await paid()
    await credit(invoice, "20000.00", f"creditNotes/{uuid4()}")
    await refund(deal, invoice, allocation, "20000.00", f"refunds/{uuid4()}")
    assert await amounts(deal, 2) == ["5000.00", "-1000.00"]
    await right(sales)


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
    # Billing itself drafts the payout and pays it; what it tells ends the statement.
    async with sales.parts.service(billing_app()) as billing:
        finance = billing.client("finance")

        async def drafted() -> Any:
            found = await finance.ListPayouts(filter=f'source = "{statement.name}"')
            return found.payouts[0] if found.payouts else None

        payout = await billing.eventually(drafted, 60)
        assert (payout.employee, payout.amount.amount) == (other, paying.payable.amount)
        bank = {"payeeBank": "中国银行", "payeeAccount": "6216000011112222"}
        await finance.UpdatePayout(payout={"name": payout.name, **bank}, updateMask=",".join(bank))
        for step in (finance.ApprovePayout, finance.SendPayout):
            await step(name=payout.name)
        open_still = await sales.admin.GetCommissionStatement(name=statement.name)
        assert open_still.state == pb.CommissionStatement.PAYING
        await finance.ConfirmPayout(name=payout.name)

        async def paid() -> bool:
            found = await sales.admin.GetCommissionStatement(name=statement.name)
            return found.state == pb.CommissionStatement.PAID

        await sales.eventually(paid, 30)


@pytest.fixture
def yearly(plan: Made) -> Made:
    """A plan of sales1 and sales2 for one year that has passed, so that no other test's money falls into it."""

    async def make(year: int, **fields: Any) -> Any:
        body = {
            "validFromDate": day(year),
            "validToDate": day(year, 12, 31),
            "clawbackMonths": 999,
            "tiers": [],
        }
        return await plan("sales1", "sales2", **(body | fields))

    return make


@pytest.fixture
def sold(sales: Service, account: Made) -> Made:
    """A won deal of sales1 with what the customer accepted; gives its name."""

    async def make(*lines: dict[str, Any], team: Any = (), customer: str = "") -> str:
        customer = customer or await account()
        body = {
            "displayName": "成交", "need": "x", "amount": cny("1500.00"), "expectedCloseDate": day(2027, 3, 31),
            "account": customer, "team": list(team),
        }  # fmt: skip
        deal = await sales.sales1.CreateOpportunity(opportunity=body)
        if lines:
            asked = {"account": customer, "opportunity": deal.name, "currency": "CNY", "lines": list(lines)}
            quote = await sales.sales1.CreateQuote(quote=asked)
            await sales.sales1.SubmitQuote(name=quote.name)
            await sales.sales1.AcceptQuote(name=quote.name, digest=quote.digest)
        return (await sales.sales1.WinOpportunity(name=deal.name)).name

    return make


async def right(sales: Service) -> None:
    """The ledger is what a full reckoning gives; the job would fail."""
    for year in range(2011, TODAY.year + 1, 2):
        async with sales.running.call("test", system("sales")) as call:
            await replay_commissions(datetime(year, 12, 1, tzinfo=UTC), call)


@pytest.mark.capability("s.quote")
async def test_commission_by_product_class_and_customer_leaves_free_text_out(
    sales: Service, yearly: Made, sold: Made, account: Made, product: Made
) -> None:
    code = uuid4().hex[:10]
    root = await sales.manager.CreateProductCategory(
        productCategory={"displayName": "机器", "code": f"R{code}"}
    )
    leaf = await sales.manager.CreateProductCategory(
        productCategory={"displayName": "部件", "code": f"L{code}", "parent": root.name}
    )
    goods, part, other = await product(), await product(category=leaf.name), await product()
    rates = [
        {"products": [goods.name], "percent": "5"}, {"categories": [root.name], "deals": "REPEAT", "percent": "1"},
        {"categories": [root.name], "percent": "2"}, {"accountTypes": ["DEALER"], "percent": "4"},
    ]  # fmt: skip
    await yearly(2016, rates=rates)
    customer = await account()
    lines = [
        {"product": goods.name, "quantity": "10"}, {"product": part.name, "quantity": "5"},
        {"product": other.name, "quantity": "1"}, {"description": "安装调试", "quantity": "1", "unitPrice": cny("400.00")},
    ]  # fmt: skip
    deal = await sold(*lines, customer=customer)
    # An instalment of half of it: 2,000.00 of which 400.00 are free text; it names no products.
    whole = date(2016, 5, 1)
    instalment = {
        "name": f"invoices/{uuid4()}",
        "lines": [{"description": "首付款", "quantity": "1", "net": cny("1000.00")}],
    }
    cause = await told(sales, deal, "1000.00", when=whole, invoice=instalment)
    [entry] = await ledger(sales, deal, 1)
    # 500.00 at 5 %, 250.00 at 2 %; 50.00 of the product without a rate and 200.00 of free text earn nothing.
    assert (entry.amount.amount, entry.cause, entry.base.amount) == ("30.00", cause, "750.00")
    assert [(one.base, one.percent, one.rule) for one in entry.slices] == [
        ("500", "5", "RATE 1"),
        ("250", "2", "RATE 3"),
    ]
    # An invoice of its own says what it is for; the customer's second deal has another rate.
    again = await sold(*lines, customer=customer)
    paid = [
        {"product": part.name, "description": "x", "quantity": "1", "net": cny("100.00")},
        {"description": "运费", "quantity": "1", "net": cny("100.00")},
    ]
    await told(sales, again, "200.00", when=whole, invoice={"name": f"invoices/{uuid4()}", "lines": paid})
    [entry] = await ledger(sales, again, 1)
    assert (entry.amount.amount, [one.rule for one in entry.slices]) == ("1.00", ["RATE 2"])
    # A rate by the customer's type alone is none by product.
    dealer = await sold(lines[3], customer=await account(type="DEALER"))
    await told(sales, dealer, "400.00", when=whole)
    [entry] = await ledger(sales, dealer, 1)
    assert entry.amount.amount == "16.00"
    await right(sales)


async def test_shares_of_one_cause_are_the_rate_of_the_whole_and_superiors_finders_and_bonuses_come_on_top(
    sales: Service, yearly: Made, sold: Made, product: Made
) -> None:
    one, other, finder = (sales.person(name).employee or "" for name in ("sales1", "sales2", "marketer"))
    goods = await product()
    spiffs = [{"product": goods.name, "perUnit": "7.00", "toDate": day(2014, 6, 30)}]
    rules = {
        "tiers": [{"percent": "3"}],
        "overrides": [{"level": 1, "percent": "1"}],
        "spiffs": spiffs,
        "cap": "6.00",
    }
    made = await yearly(2014, **rules)
    await yearly(2014, employees=[finder], tiers=[{"percent": "0"}], referralPercent="0.5")
    team = [
        {"employee": one, "split": "50"}, {"employee": other, "split": "50"}, {"employee": finder, "role": "REFERRER"},
    ]  # fmt: skip
    deal = await sold({"product": goods.name, "quantity": "10"}, team=team)
    cause = await told(sales, deal, "1.00", when=date(2014, 6, 30))

    async def of(kind: int, count: int, since: str) -> list[Any]:
        async def there() -> list[Any]:
            rows = [
                row
                for row in await ledger(sales, deal, 1)
                if row.kind == kind and row.cause.startswith(since)
            ]
            return rows if len(rows) >= count else []

        return sorted(await sales.eventually(there, 30), key=lambda row: row.amount.amount)

    Kind = pb.CommissionEntry
    # 3 % of 1.00 are 0.03 and no more; a hundredth of the ten units is paid, 0.35 for each.
    assert [row.amount.amount for row in await of(Kind.EARN, 2, cause)] == ["0.01", "0.02"]
    assert [(row.amount.amount, row.slices[0].rule) for row in await of(Kind.SPIFF, 2, cause)][-2:] == [
        ("0.04", "SPIFF"), ("0.04", "SPIFF"),
    ]  # fmt: skip
    # After the bonus is over, a greater sum comes against the cap of 6.00 for each.
    late = await told(sales, deal, "999.00", when=date(2014, 7, 1))
    assert sorted(row.amount.amount for row in await of(Kind.EARN, 2, late)) == ["5.98", "5.99"]
    assert {row.before_cap for row in await of(Kind.EARN, 2, late)} == {"14.98", "14.99"}
    [found] = [row for row in await of(Kind.SPIFF, 1, late) if row.owner == finder]
    assert (found.amount.amount, found.slices[0].rule) == ("5.00", "REFERRAL")
    superior = sales.running.config.get(f"employee.{one.partition('/')[2]}")["superior"]
    assert {row.owner for row in await of(Kind.OVERRIDE, 1, late)} >= {superior}
    # Taken back as it came, twice told once done, and by all.
    for _ in range(2):
        await told(sales, deal, "999.00", "AllocationReversed", late)
    back = await of(Kind.CLAWBACK, 2, late)
    assert sorted(row.amount.amount for row in back) == ["-5.98", "-5.99"]
    assert {row.reverses for row in back} == {row.name for row in await of(Kind.EARN, 2, late)}
    assert sum(Decimal(row.amount.amount) for row in await of(Kind.OVERRIDE, 2, late)) == 0
    # What the plan would cost on the months that have passed, which is not written anywhere.
    before = len(await ledger(sales, deal, 1))
    reply = await sales.admin.SimulateCommissionPlan(name=made.name, months=12 * (TODAY.year - 2013))
    people = {person.employee: person for person in reply.people}
    assert (reply.from_date.year, reply.without_rate, one in people) == (2013, 0, True)
    assert sum(Decimal(p.simulated.amount) for p in reply.people) == Decimal(reply.simulated.amount) > 0
    assert len(await ledger(sales, deal, 1)) == before
    await right(sales)


async def test_signing_units_and_margin_earn_where_a_plan_says_so(
    sales: Service, yearly: Made, sold: Made, product: Made
) -> None:
    goods = await product(cost=cny("60.00"))
    line = {"product": goods.name, "quantity": "10"}
    await yearly(2017, basis="UNITS", tiers=[{"percent": "2"}, {"fromAmount": "5", "percent": "3.50"}])
    await yearly(2018, basis="MARGIN", tiers=[{"percent": "10"}])
    deal = await sold(line)
    first = await told(sales, deal, "400.00", when=date(2017, 3, 1))
    await ledger(sales, deal, 1)
    second = await told(sales, deal, "400.00", when=date(2017, 3, 2))
    third = await told(sales, deal, "200.00", when=date(2018, 3, 1))
    found = {entry.cause: entry for entry in await ledger(sales, deal, 3)}
    # Four units at 2.00; the fifth too, three at 3.50; 40 % of 200.00 is margin.
    assert [found[cause].amount.amount for cause in (first, second, third)] == ["8.00", "12.50", "8.00"]
    assert (found[second].tier_base, found[third].base.amount) == ("4", "80.00")
    unknown = await sold()
    await told(sales, unknown, "200.00", when=date(2018, 3, 1))
    [entry] = await ledger(sales, unknown, 1)
    assert (entry.amount.amount, "成本未知" in entry.note) == ("0.00", True)
    # What is signed counts on the day that it is heard, for somebody who has such a plan.
    employees = [sales.person("agent").employee]
    body = {
        "displayName": "签约",
        "currency": "CNY",
        "basis": "SIGNED",
        "tiers": [{"percent": "1"}],
        "employees": employees,
    }
    signing = await sales.admin.CreateCommissionPlan(commissionPlan=body | {"validFromDate": day(2020)})
    await sales.admin.ActivateCommissionPlan(name=signing.name)
    team = [{"employee": employees[0], "split": "100"}]
    deal = await sold(line, team=team)
    contract = {"name": f"contracts/{uuid4()}", "opportunity": deal, "net": cny("1000.00"), "currency": "CNY"}
    await sales.tell("crm.orders.v1.ContractSigned", {"contract": contract}, contract["name"])
    await told(sales, deal, "1000.00")
    [entry] = await ledger(sales, deal, 1)
    assert (entry.cause, entry.amount.amount, entry.owner) == (contract["name"], "10.00", employees[0])
    await sales.tell(
        "crm.orders.v1.ContractTerminated", {"contract": contract, "reason": "解除"}, contract["name"]
    )
    taken = await ledger(sales, deal, 2)
    assert sorted(entry.amount.amount for entry in taken) == ["-10.00", "10.00"]
    await right(sales)


async def test_money_before_the_win_counts_from_it_on_and_after_a_handover_as_the_plan_says(
    sales: Service, yearly: Made, account: Made
) -> None:
    one, other = sales.person("sales1").employee or "", sales.person("sales2").employee or ""
    await yearly(2012, tiers=[{"percent": "10"}], afterHandover="SHARE", handoverMonths=2, clawbackMonths=1)
    customer = await account()
    body = {
        "displayName": "移交", "need": "x", "amount": cny("100.00"), "expectedCloseDate": day(2027, 3, 31), "account": customer,
    }  # fmt: skip
    deal = await sales.sales1.CreateOpportunity(opportunity=body)
    early = await told(sales, deal.name, "100.00", when=date(2012, 3, 1))
    assert not (
        await sales.admin.ListCommissionEntries(filter=f'opportunity = "{deal.name}"')
    ).commission_entries
    won = await sales.sales1.WinOpportunity(name=deal.name)
    [entry] = await ledger(sales, deal.name, 1)
    assert (entry.cause, entry.amount.amount, entry.owner) == (early, "10.00", one)
    # The customer goes to sales2 as customer tells; nothing that was earned moves.
    owner = {"account": {"name": customer, "owner": other, "department": sales.person("sales2").department}}
    await sales.tell("crm.customer.v1.AccountOwnerChanged", {**owner, "from": one, "to": other}, customer)

    async def handed() -> Any:
        return list((await sales.admin.GetOpportunity(name=deal.name)).handovers)

    [handover] = await sales.eventually(handed, 30)
    assert (handover.from_employee, handover.to_employee, won.owner) == (one, other, one)
    assert (await sales.admin.GetOpportunity(name=deal.name)).owner == one
    # Long before it is his; from that day on the plan of that day says, here one that moves it.
    await told(sales, deal.name, "50.00", when=date(2012, 9, 1))
    assert {entry.owner for entry in await ledger(sales, deal.name, 2)} == {one}
    # Too late to be taken back: a line of nothing is not written.
    await told(sales, deal.name, "100.00", "AllocationReversed", early)
    late = await told(sales, deal.name, "60.00", when=date(2012, 9, 1))
    assert {entry.kind for entry in await ledger(sales, deal.name, 3)} == {pb.CommissionEntry.EARN}
    assert late
    await right(sales)


async def test_what_was_wrong_is_put_right_by_a_line_of_its_own_after_an_approval_and_a_debt_is_never_paid(
    sales: Service, plan: Made, sold: Made
) -> None:
    me = sales.person("manager").employee or ""

    async def statement(ahead: int) -> Any:
        """The statement of the month that is over by then."""
        month = TODAY.year * 12 + TODAY.month - 1 + ahead
        at = datetime(month // 12, month % 12 + 1, 5, 4, tzinfo=UTC)
        async with sales.running.call("write_statements", system("sales")) as call:
            await write_statements(at, call)
        month -= 1
        told_month = f"{month // 12}-{month % 12 + 1:02}"
        asked = f'owner = "{me}" AND month = "{told_month}"'
        found = (await sales.admin.ListCommissionStatements(filter=asked)).commission_statements
        return found[0] if found else None

    # What other tests made for him is on a statement of its own.
    await statement(11)
    await plan("manager", tiers=[{"percent": "10"}])
    deal = await sold(team=[{"employee": me, "split": "100"}])
    first = await told(sales, deal, "100.00")
    [entry] = await ledger(sales, deal, 1)
    wanted = {"name": entry.name, "amount": "-3.00", "note": "折扣未计"}
    with pytest.raises(Refused) as refused:
        await sales.admin.CorrectCommissionEntry(**wanted)
    assert refused.value.reason == "CORRECTION_NEEDS_APPROVAL"
    async with sales.parts.configuration() as config:
        await config.put(
            "approvalPolicy.correct", {"action": "sales.commissionEntries.correct", "priority": 1}
        )
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.correct"))
        held = await sales.admin.CorrectCommissionEntry(**wanted)
        await config.delete("approvalPolicy.correct")
    assert held.pending_approval.startswith("sales.commissionEntries.correct#")
    await sales.eventually(lambda: sales.running.config.get("approvalPolicy.correct") is None)
    approval = {"name": "approvals/c", "heldAction": held.pending_approval.partition("#")[2]}
    await sales.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, "approvals/c")
    rows = await ledger(sales, deal, 2)
    [put_right] = [row for row in rows if row.kind == pb.CommissionEntry.CORRECTION]
    assert (put_right.amount.amount, put_right.reverses, put_right.note) == ("-3.00", entry.name, "折扣未计")

    paid = await statement(12)
    assert paid.payable.amount == "7.00"
    await sales.admin.IssueCommissionStatement(name=paid.name)
    mine = sales.client("manager")
    with pytest.raises(Refused) as refused:
        await mine.DisputeCommissionStatement(
            name=paid.name, entries=[f"commissionEntries/{uuid4()}"], reason="x"
        )
    assert refused.value.reason in ("NOT_FOUND", "UNKNOWN_REFERENCE")
    disputed = await mine.DisputeCommissionStatement(
        name=paid.name, entries=[put_right.name], reason="折扣已批"
    )
    assert (disputed.disputed_total.amount, disputed.payable.amount) == ("-3.00", "10.00")
    await sales.admin.PayCommissionStatement(name=paid.name)
    # The refund comes after the payout: on the next statement, where it is more than there is to pay.
    await told(sales, deal, "100.00", "AllocationReversed", first)
    await ledger(sales, deal, 3)
    async with sales.parts.configuration() as config:
        key = f"employee.{me.partition('/')[2]}"
        known = sales.running.config.get(key)
        await config.put(key, known | {"disabled": True})
        await sales.eventually(lambda: (sales.running.config.get(key) or {}).get("disabled"))
        owing = await statement(13)
        await config.put(key, known)
        await sales.eventually(lambda: not (sales.running.config.get(key) or {}).get("disabled"))
    assert (owing.payable.amount, owing.entries_total.amount, owing.leaver) == ("-13.00", "-13.00", True)
    assert owing.name in [
        one.name for one in (await sales.admin.ListCommissionStatements(filter="leaver = true", pageSize=100)).commission_statements
    ]  # fmt: skip
    await sales.admin.IssueCommissionStatement(name=owing.name)
    await sales.admin.ConfirmCommissionStatement(name=owing.name)
    with pytest.raises(Refused) as refused:
        await sales.admin.PayCommissionStatement(name=owing.name)
    assert refused.value.reason == "STATEMENT_NEGATIVE"
    # What is negative is carried into the next one.
    await told(sales, deal, "40.00")
    await ledger(sales, deal, 4)
    following = await statement(14)
    assert (following.opening.amount, following.payable.amount) == ("-13.00", "-9.00")
    # Nobody owes it twice; who leaves only now owes what the last one says.
    assert not (await sales.admin.GetCommissionStatement(name=owing.name)).leaver
    assert not following.leaver
    await sales.tell("crm.workspace.v1.EmployeeOffboarded", {"employee": {"name": me}}, me)

    async def owed() -> bool:
        return (await sales.admin.GetCommissionStatement(name=following.name)).leaver

    await sales.eventually(owed)
    assert not (await sales.admin.GetCommissionStatement(name=owing.name)).leaver
    await right(sales)


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
