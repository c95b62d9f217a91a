"""What customers may buy next: from real orders, with a reason in figures."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service, local_date
from sales.model.product import Product
from sales.model.upsell_proposal import UpsellProposal
from sales.upsell import Affinity, Bought, World, grounds, propose_upsell
from sqlalchemy import text, update
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
Way, State, Kind = pb.TakeUpsellProposalRequest.Way, pb.UpsellProposal.State, pb.UpsellProposal.Kind
TODAY = date(2026, 6, 1)


def bought(*ago: int) -> Bought:
    """Orders so many days ago, the oldest first."""
    return Bought(tuple(TODAY - timedelta(days=one) for one in ago), Decimal(2))


def on_sale(**fields: Any) -> Product:
    return Product(
        **{"state": "ACTIVE", "display_name": "传感器", "kind": "GOODS", "successor": "", **fields}
    )


def test_a_rhythm_needs_three_orders_and_is_their_middle_interval() -> None:
    world = World(TODAY, {"products/a": on_sale()})

    def told(*ago: int) -> list[str]:
        return [one.en for one in grounds("accounts/x", {"products/a": bought(*ago)}, world)]

    assert told(200, 100) == []
    # The middle of 61, 62 and 90 days is 62; seventy have passed.
    assert told(283, 222, 132, 70) == ["Last 4 orders every 62 days, now 70 since 2026-03-23"]
    assert told(283, 222, 132, 61) == []
    gone = World(TODAY, {"products/a": on_sale(state="END_OF_SALE")})
    assert list(grounds("accounts/x", {"products/a": bought(200, 140, 70)}, gone)) == []


def test_others_of_the_group_successors_and_services_are_proposed_with_figures() -> None:
    names = ["products/a", "products/b", "products/c", "products/old"]
    known = dict(zip(names, [
        on_sale(), on_sale(), on_sale(kind="SERVICE"), on_sale(state="END_OF_SALE", successor="products/b"),
    ], strict=True))  # fmt: skip
    pairs = {
        "products/a": [
            Affinity(had="products/a", other="products/c", joint_buyers=25, lift=Decimal("2.10")),
            Affinity(had="products/a", other="products/b", joint_buyers=20, lift=Decimal("1.50")),
        ]
    }
    group = {"accounts/x": {"products/b": (2, date(2026, 5, 1)), "products/a": (1, date(2026, 5, 1))}}
    world = World(TODAY, known, pairs, group)
    history = {"products/a": bought(10), "products/old": bought(90, 50)}
    found = {one.kind: one for one in grounds("accounts/x", history, world)}
    assert set(found) == {"UPGRADE", "VALUE_ADDED", "CROSS_SELL", "GROUP"}
    assert found["UPGRADE"].product == "products/b"
    assert "ordered 2 times" in found["UPGRADE"].en
    assert found["VALUE_ADDED"].en.startswith("25 customers have it with 传感器, 2.10 times")
    assert (found["CROSS_SELL"].product, found["CROSS_SELL"].figures.joint_buyers) == ("products/b", 20)
    assert found["GROUP"].en == "2 other companies of the group have bought it, last on 2026-05-01"


@pytest.fixture
def order(sales: Service) -> Made:
    """Tells of an order that was placed so many days ago."""

    async def tell(
        account: str, ago: int, *products: str, subject: str = "OrderPlaced", **fields: Any
    ) -> Any:
        net = {"currencyCode": "CNY", "amount": "200.00"}
        items = [
            {"key": str(n), "product": one, "quantity": "2", "net": net} for n, one in enumerate(products)
        ]
        placed = (datetime.now(UTC) - timedelta(days=ago)).isoformat().replace("+00:00", "Z")
        made = {
            "name": f"orders/{uuid7()}",
            "account": account,
            "items": items,
            "placeTime": placed,
            **fields,
        }
        await sales.tell(f"crm.orders.v1.{subject}", {"order": made}, made["name"])
        return made

    return tell


async def night(sales: Service) -> None:
    """The night's work, to its end."""
    async with sales.running.call("propose_upsell", system("sales")) as call:
        await propose_upsell(datetime.now(UTC), call)

    async def over() -> bool:
        async with sales.running.sessions() as session:
            open_ones = "SELECT count(*) FROM bulk_runs WHERE kind = 'ProposeUpsell' AND state <> 'DONE'"
            return not (await session.execute(text(open_ones))).scalar_one()

    await sales.eventually(over)


async def proposed(sales: Service, account: str, who: str = "sales1") -> dict[str, Any]:
    """What is open for a customer, by kind."""
    asked = await getattr(sales, who).ListUpsellProposals(filter=f'account = "{account}" AND state = OPEN')
    return {Kind.Name(one.kind): one for one in asked.upsell_proposals}


@pytest.mark.capability("s.upsell")
async def test_every_night_customers_are_proposed_what_they_may_buy_next(
    sales: Service, account: Made, product: Made, order: Made
) -> None:
    sensor, bracket = await product(), await product()
    me = await account(phones=[{"number": "+8613800001111", "primary": True}])
    sister = await account("sales2")
    relation = {
        "name": f"accountRelations/{uuid7()}", "from": me, "to": sister, "kind": "AFFILIATE", "state": "ACTIVE",
    }  # fmt: skip
    await sales.tell("crm.customer.v1.AccountRelationChanged", {"relation": relation}, relation["name"])
    for ago in (194, 132, 70):
        await order(me, ago, sensor.name)
    # Of a pair of products that twenty customers have, and thirty others have something else.
    other, almost = await product(), await product()
    for n in range(50):
        # One pair has a buyer too few.
        pair = [sensor.name, bracket.name, *([almost.name] if n < 19 else [])] if n < 20 else [other.name]
        await order(f"accounts/{uuid7()}", 30, *pair)
    await order(sister, 5, bracket.name)
    end = local_date() + timedelta(days=40)
    contract = {
        "name": f"contracts/{uuid7()}", "displayName": "年度维保", "account": me, "state": "ACTIVE", "number": "HT-9",
        "effectiveTo": {"year": end.year, "month": end.month, "day": end.day}, "net": {"currencyCode": "CNY", "amount": "9000.00"},
    }  # fmt: skip
    change = {"name": contract["name"], "action": "CREATED", "resource": contract}
    await sales.tell("crm.orders.v1.ResourceChanged", change, contract["name"])

    async def purchases() -> bool:
        found = await sales.admin.ListPurchases(filter=f'product = "{bracket.name}"', pageSize=100)
        return len(found.purchases) == 21

    await sales.eventually(purchases)
    await night(sales)
    found = await proposed(sales, me)
    assert set(found) == {"REORDER", "CROSS_SELL", "GROUP", "RENEWAL"}
    again = found["REORDER"]
    assert again.product == sensor.name
    assert again.reason_en.startswith("Last 3 orders every 62 days, now 7")
    assert (again.figures.orders, again.figures.every_days, again.figures.quantity) == (3, 62, "2")
    assert (found["CROSS_SELL"].product, found["CROSS_SELL"].figures.joint_buyers) == (bracket.name, 20)
    asked = await sales.sales1.ListUpsellProposals(filter=f'account = "{me}" AND kind = CROSS_SELL')
    assert [one.product for one in asked.upsell_proposals] == [bracket.name]
    assert Decimal(found["CROSS_SELL"].figures.lift) >= Decimal("1.5")
    assert found["GROUP"].figures.companies == 1
    assert "HT-9" in found["RENEWAL"].reason
    # Who bought what is seen by whoever looks after the customer.
    mine = await sales.sales1.ListPurchases(filter=f'account = "{me}"')
    assert len(mine.purchases) == 3
    told = await sales.facts("crm.sales.v1.NoticeRaised")
    assert any(
        one["kind"] == "upsell" and one["employees"] == [sales.person("sales1").employee] for one in told
    )
    # Another night finds the same and makes nothing twice.
    await night(sales)
    assert {one.name for one in (await proposed(sales, me)).values()} == {one.name for one in found.values()}
    with pytest.raises(Refused) as refused:
        await sales.sales2.DismissUpsellProposal(name=again.name, reason="-")
    assert refused.value.reason == "NOT_FOUND"

    # Dismissed with a reason: nothing of the pair for ninety days, however often it is found.
    with pytest.raises(Refused) as refused:
        await sales.sales1.DismissUpsellProposal(name=found["GROUP"].name)
    assert "reason" in refused.value.violations
    gone = await sales.sales1.DismissUpsellProposal(name=found["GROUP"].name, reason="用别家的支架")
    assert (gone.state, gone.dismiss_reason) == (State.DISMISSED, "用别家的支架")
    until = date(gone.silent_until_date.year, gone.silent_until_date.month, gone.silent_until_date.day)
    assert until - local_date() in (timedelta(days=days) for days in (89, 90, 91))
    # The other proposal of the pair is open still; where that ends it does not come back either.
    await sales.sales1.DismissUpsellProposal(name=found["CROSS_SELL"].name, reason="同上")

    # One click makes a deal, a call or a task, which say what they come from.
    deal = await sales.sales1.TakeUpsellProposal(name=again.name, way=Way.OPPORTUNITY)
    made = await sales.sales1.GetOpportunity(name=deal.made)
    assert (made.account, made.origin.proposal, made.lines[0].product) == (me, again.name, sensor.name)
    assert (made.lines[0].quantity, made.amount.amount) == ("2", "200.00")
    task = await sales.sales1.TakeUpsellProposal(name=found["RENEWAL"].name, way=Way.CARE_TASK)
    given = await sales.sales1.GetSalesTask(name=task.made)
    assert (given.about, given.source, given.state) == (me, found["RENEWAL"].name, pb.SalesTask.ASSIGNED)
    with pytest.raises(Refused) as refused:
        await sales.sales1.TakeUpsellProposal(name=again.name, way=Way.CARE_TASK)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await night(sales)
    assert await proposed(sales, me) == {}
    # After the ninety days the pair may be proposed again; a taken one is quiet as long.
    async with sales.running.call("test", system("sales")) as call:
        over = update(UpsellProposal).where(
            UpsellProposal.account == me, UpsellProposal.product == bracket.name
        )
        await call.db.execute(over.values(silent_until_date=local_date() - timedelta(days=1)))
    await night(sales)
    assert set(await proposed(sales, me)) == {"CROSS_SELL", "GROUP"}

    # The sister has a reason of its own, until the order that gave it is cancelled.
    theirs = await proposed(sales, sister, "sales2")
    assert set(theirs) == {"CROSS_SELL", "GROUP"}
    book = await sales.manager.CreateCallList(callList={
        "displayName": "增购回访", "members": [{"employee": sales.person("sales2").employee}],
    })  # fmt: skip
    with pytest.raises(Refused) as refused:
        await sales.sales2.TakeUpsellProposal(name=theirs["GROUP"].name, way=Way.CALL, callList=book.name)
    assert refused.value.reason == "PROPOSAL_WITHOUT_NUMBER"


async def test_a_customer_comes_on_a_call_list_and_a_cancelled_order_gives_no_reason(
    sales: Service, account: Made, product: Made, order: Made
) -> None:
    sensor = await product()
    number = f"+86137{uuid7().int % 10**8:08d}"
    me = await account(phones=[{"number": number, "primary": True}])
    for ago in (194, 132):
        await order(me, ago, sensor.name)
    last = await order(me, 70, sensor.name)
    await sales.eventually(lambda: _bought(sales, me, 3))
    await night(sales)
    again = (await proposed(sales, me))["REORDER"]
    book = await sales.manager.CreateCallList(callList={
        "displayName": "增购回访", "members": [{"employee": sales.person("sales1").employee}],
    })  # fmt: skip
    taken = await sales.sales1.TakeUpsellProposal(name=again.name, way=Way.CALL, callList=book.name)
    [entry] = (await sales.admin.ListCallEntries(filter=f'call_list = "{book.name}"')).call_entries
    assert (entry.name, entry.subject, entry.number_called) == (taken.made, me, number)
    assert (entry.origin, entry.note) == (again.name, again.reason)

    # The same rhythm at another customer, whose last order turns out to be cancelled: two orders have none.
    they = await account()
    for ago in (194, 132):
        await order(they, ago, sensor.name)
    early = {**last, "name": f"orders/{uuid7()}", "account": they}
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": early}, early["name"])
    await sales.eventually(lambda: _bought(sales, they, 3))
    await night(sales)
    theirs = (await proposed(sales, they))["REORDER"]
    # Given to somebody else, the customer takes along what it may buy.
    changed = {
        "account": {"name": they, "owner": sales.person("sales2").employee, "department": sales.person("sales2").department},
        "from": sales.person("sales1").employee, "to": sales.person("sales2").employee,
    }  # fmt: skip
    await sales.tell("crm.customer.v1.AccountOwnerChanged", changed, they)

    async def theirs_now() -> bool:
        return "REORDER" in await proposed(sales, they, "sales2")

    await sales.eventually(theirs_now)
    cancelled = {"order": early, "reason": "重复"}
    # Of the cancellation of an order that it never heard of, sales keeps that it was none.
    unheard = {**early, "name": f"orders/{uuid7()}"}
    await sales.tell("crm.orders.v1.OrderCancelled", cancelled, early["name"])
    await sales.tell("crm.orders.v1.OrderCancelled", {"order": unheard}, unheard["name"])
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": unheard}, unheard["name"])
    await sales.eventually(lambda: _bought(sales, they, 2))
    await night(sales)
    assert (await sales.admin.GetUpsellProposal(name=theirs.name)).state == State.ENDED


async def _bought(sales: Service, account: str, count: int) -> bool:
    found = await sales.admin.ListPurchases(filter=f'account = "{account}"')
    return len(found.purchases) == count
