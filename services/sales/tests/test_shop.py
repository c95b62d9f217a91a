"""The web shop and the till: everybody may look, a known customer buys without help, our people sell on the spot."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.paying import LINKED, signed
from crmkit.testing import Client, Refused, Service
from google.protobuf.json_format import MessageToDict, MessageToJson
from sales.jobs import clear_baskets
from sales.model.basket import Basket
from sqlalchemy import event, func, select
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
AMOUNTS = ("net_amount", "tax_amount", "gross_amount")
TOTALS = ("net_total", "discount_total", "tax_total", "gross_total")


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


@pytest.fixture
def visitor(sales: Service) -> Client:
    """Somebody whom nobody knows."""
    return Client(sales.running, sales.channel, "")


@pytest.fixture
def goods(product: Made) -> Made:
    """Something that the shop shows, of which we know what it costs us and how low we go."""

    async def make(**fields: Any) -> Any:
        code = f"69{uuid4().int % 10**11:011d}"
        known = {"inShop": True, "barcode": code, "cost": cny("31.17"), "minPrice": cny("47.23")}
        return await product(**{**known, **fields})

    return make


@pytest.fixture
async def buyer(sales: Service) -> Client:
    """The customer of the demo company, whom the customer service has told of."""
    seller = sales.person("sales1")
    for name, display in ((customer_of(sales), "华东机械"), (sales.person("customer").contact or "", "柯敏")):
        resource = {
            "name": name,
            "displayName": display,
            "owner": seller.employee,
            "department": seller.department,
        }
        payload = {"name": name, "action": "CREATED", "actor": "system/test", "resource": resource}
        await sales.tell("crm.customer.v1.ResourceChanged", payload, name)
    client = sales.client("customer")
    # What another test left in the basket is not this one's.
    for line in (await client.OpenBasket()).lines:
        await client.PutInBasket(key=line.key, quantity="0")
    return client


def customer_of(sales: Service) -> str:
    return sales.person("customer").account or ""


@pytest.mark.capability("s.selfsell")
async def test_the_shop_price_is_the_desk_price_and_nothing_internal_leaves(
    sales: Service, visitor: Client, buyer: Client, goods: Made, policy: Made, bundle: Made, account: Made
) -> None:
    one, other, hidden = await goods(), await goods(), await goods(inShop=False)
    secret = f"绝密底价策略{uuid4().hex[:6]}"
    for kind, fields in (
        ("PROMOTION", {"percent": "10", "label": "新品优惠"}),
        ("VOLUME", {"tiers": [{"fromQuantity": "10", "percent": "5"}], "label": "满十件"}),
    ):
        await policy(kind, displayName=secret, products=[one.name], **fields)
    draft = await bundle(inShop=True)
    station = await sales.manager.ActivateBundle(name=draft.name)
    # Who browses finds by name, code, bar code and class what the shop shows, and nothing else.
    for q in (one.display_name, one.code, one.barcode):
        page = await visitor.BrowseShop(q=q)
        assert [offer.product for offer in page.offers] == [one.name], q
    [offer] = page.offers
    assert (offer.unit_price.amount, offer.unit_gross.amount) == ("100.00", "113.00")
    assert not (await visitor.BrowseShop(q=hidden.code)).offers
    with pytest.raises(Refused) as refused:
        await visitor.PutInBasket(product=hidden.name)
    assert refused.value.reason == "NOT_FOUND"
    # Questions lead to a configuration; what would break a rule cannot be chosen.
    [shown] = (await visitor.BrowseShop(q=station.code)).offers
    assert (shown.bundle, [question.text for question in shown.questions]) == (station.name, ["需要联网吗？"])
    led = await visitor.ConfigureShop(bundle=station.name, answers=["0:0"], partial=True)
    assert (len(led.broken), [one.option for one in led.nearest]) == (1, ["big", "sensor", "licence"])
    priced = await visitor.ConfigureShop(bundle=station.name, choices=list(led.nearest))
    assert priced.line.net_amount.amount
    with pytest.raises(Refused) as refused:
        await visitor.PutInBasket(bundle=station.name, choices=list(led.choices))
    assert refused.value.reason == "CONFIGURATION_INVALID"
    # The basket of a known buyer has, line by line and in all, what the desk says for the same.
    await buyer.PutInBasket(product=one.name, quantity="12")
    await buyer.PutInBasket(product=other.name, quantity="3")
    basket = await buyer.PutInBasket(bundle=station.name, choices=list(led.nearest))
    lines = [
        {"product": one.name, "quantity": "12"}, {"product": other.name, "quantity": "3"},
        {"bundle": station.name, "quantity": "1", "choices": list(led.nearest)},
    ]  # fmt: skip
    lines[2]["choices"] = [MessageToDict(choice) for choice in led.nearest]
    desk = await sales.sales1.CalculateQuote(
        quote={"account": customer_of(sales), "currency": "CNY", "channel": "WEB", "lines": lines}
    )
    for mine, theirs in zip(desk.lines, basket.lines, strict=True):
        assert [getattr(mine, name) for name in AMOUNTS] == [getattr(theirs, name) for name in AMOUNTS]
        assert mine.unit_list_price == theirs.unit_price
    assert [getattr(desk, name) for name in TOTALS] == [getattr(basket, name) for name in TOTALS]
    assert [(step.label, step.amount.amount) for step in basket.lines[0].discounts] == [
        ("新品优惠", "-120.00"), ("满十件", "-54.00"),
    ]  # fmt: skip
    told = "".join(MessageToJson(reply, ensure_ascii=False) for reply in (page, shown, led, priced, basket))
    for word in (
        secret,
        "31.17",
        "47.23",
        "cost",
        "minPrice",
        "margin",
        "floor",
        "discountPolicies/",
        "priceBooks/",
    ):
        assert word not in told, word
    # A visitor without an account pays what a new customer pays.
    anonymous = await visitor.PutInBasket(product=other.name, quantity="3")
    stranger = await sales.sales1.CalculateQuote(
        quote={"account": await account(), "currency": "CNY", "channel": "WEB", "lines": [lines[1]]}
    )
    assert anonymous.gross_total == stranger.gross_total


async def test_a_change_of_a_basket_reads_its_products_once(
    sales: Service, goods: Made, account: Made
) -> None:
    shop = {"account": await account(), "channel": "WAREHOUSE"}
    shelf = [await goods() for _ in range(3)]
    read: list[str] = []

    keys = [one.name.partition("/")[2] for one in shelf]

    def asked(_1: Any, _2: Any, statement: str, given: Any, *_: Any) -> None:
        # What policies of other tests give away is read as well, and is not the basket's.
        wanted = [key for key in (*keys, shelf[2].code) if key in str(given)]
        if "FROM products" in statement and "products_search" not in statement and wanted:
            read.append(statement)

    async def known() -> Any:
        try:
            return await sales.sales1.OpenBasket(shopping=shop)
        except Refused:
            return None

    for line in (await sales.eventually(known)).lines:
        await sales.sales1.PutInBasket(shopping=shop, key=line.key, quantity="0")
    for one in shelf[:2]:
        await sales.sales1.PutInBasket(shopping=shop, product=one.name)
    engine = sales.running.engine.sync_engine
    event.listen(engine, "before_cursor_execute", asked)
    try:
        # The new one by its code, then the others.
        filled = await sales.sales1.PutInBasket(shopping=shop, code=shelf[2].code, quantity="2")
        assert len(filled.lines) == 3 and len(read) == 2, read
        read.clear()
        await sales.sales1.PutInBasket(shopping=shop, key=filled.touched, quantity="4")
        assert len(read) == 1, read
        read.clear()
        await sales.sales1.BuyBasket(
            shopping=shop, digest=(await sales.sales1.OpenBasket(shopping=shop)).digest
        )
        assert len(read) == 2, read
    finally:
        event.remove(engine, "before_cursor_execute", asked)


@pytest.mark.capability("s.selfsell")
async def test_a_basket_survives_signing_in_and_another_device_and_joins_by_product_and_configuration(
    sales: Service, visitor: Client, buyer: Client, goods: Made, bundle: Made
) -> None:
    one, other = await goods(), await goods()
    station = await sales.manager.ActivateBundle(name=(await bundle(inShop=True)).name)
    small, big = [{"option": "small"}], [{"option": "big"}, {"option": "sensor", "quantity": "3"}]
    first = await visitor.PutInBasket(product=one.name, quantity="2")
    shopping = {"token": first.token}
    again = await visitor.PutInBasket(shopping=shopping, product=one.name, quantity="3")
    assert [(line.product, line.quantity) for line in again.lines] == [(one.name, "5")]
    for choices in (small, big, small):
        filled = await visitor.PutInBasket(shopping=shopping, bundle=station.name, choices=choices)
    assert [(line.bundle, line.quantity) for line in filled.lines][1:] == [
        (station.name, "2"),
        (station.name, "1"),
    ]
    # Before signing in, another visitor has nothing of it.
    assert not (await visitor.OpenBasket()).lines
    assert not (await visitor.OpenBasket(shopping={"token": "guessed"})).lines
    await buyer.PutInBasket(product=one.name, quantity="1")
    await buyer.PutInBasket(product=other.name, quantity="4")
    joined = await buyer.OpenBasket(shopping=shopping)
    wanted = [(one.name, "", "6"), (other.name, "", "4"), ("", station.name, "2"), ("", station.name, "1")]
    assert [(line.product, line.bundle, line.quantity) for line in joined.lines] == wanted
    # Signed in it is the same on every device, and it joins once.
    phone = sales.client("customer")
    for shop in ({}, shopping):
        there = await phone.OpenBasket(shopping=shop)
        assert [(line.product, line.bundle, line.quantity) for line in there.lines] == wanted
    assert not (await visitor.OpenBasket(shopping=shopping)).lines
    keys = [line.key for line in there.lines]
    fewer = await phone.PutInBasket(key=keys[0], quantity="2")
    assert (fewer.lines[0].quantity, fewer.touched) == ("2", keys[0])
    for key in keys[1:]:
        fewer = await phone.PutInBasket(key=key, quantity="0")
    assert len(fewer.lines) == 1
    # What is no longer sold is said so, counts in no sum and is not bought.
    await sales.manager.EndProductSale(name=one.name)
    gone = await phone.OpenBasket()
    assert [line.gone for line in gone.lines] == [True]
    with pytest.raises(Refused) as refused:
        await phone.BuyBasket(digest="x")
    assert refused.value.reason == "BASKET_LINE_GONE"
    # Nobody comes back for a basket of long ago.
    async with sales.running.call("test", system("sales")) as call:
        await clear_baskets(call.now + timedelta(days=31), call)
        left = select(func.count()).select_from(Basket).where(Basket.keeper == "")
        assert await call.db.scalar(left) == 0
    assert (await phone.OpenBasket()).lines


@pytest.mark.capability("s.selfsell")
async def test_buying_twice_is_one_order_and_a_price_of_the_page_counts_for_nothing(
    sales: Service, visitor: Client, buyer: Client, goods: Made, caplog: pytest.LogCaptureFixture
) -> None:
    one = await goods()
    with caplog.at_level(logging.WARNING, logger="sales.shop"):
        basket = await buyer.PutInBasket(product=one.name, quantity="2", unitPrice=cny("0.01"))
    assert (basket.lines[0].unit_price.amount, basket.gross_total.amount) == ("100.00", "226.00")
    [record] = [one for one in caplog.records if one.name == "sales.shop"]
    assert (record.__dict__["sent"], record.__dict__["ours"]) == ("0.01 CNY", "100.00 CNY")
    assert record.__dict__["actor"] == sales.person("customer").contact
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="sales.shop"):
        await buyer.PutInBasket(key=basket.lines[0].key, quantity="2", unitPrice=cny("100.00"))
    assert not [one for one in caplog.records if one.name == "sales.shop"]
    # Who is not known does not buy.
    unknown = await visitor.PutInBasket(product=one.name)
    with pytest.raises(Refused) as refused:
        await visitor.BuyBasket(shopping={"token": unknown.token}, digest=unknown.digest)
    assert refused.value.reason == "SIGN_IN_TO_BUY"
    with pytest.raises(Refused) as refused:
        await buyer.BuyBasket(digest=unknown.digest)
    assert refused.value.reason == "QUOTE_CHANGED"
    settings = sales.running.settings.__dict__
    settings["pay_url"], settings["pay_key"] = "https://pay.example/checkout", "agreed"
    try:
        order = {"digest": basket.digest, "consent": "同意销售条款", "grossTotal": cny("1.00")}
        with caplog.at_level(logging.WARNING, logger="sales.shop"):
            clicks = await asyncio.gather(*(buyer.BuyBasket(**order) for _ in range(5)))
        later = await buyer.BuyBasket(**order)
        # Once it is paid there is nothing to be paid; taken back it is to be paid again.
        bought = clicks[0].quote
        assert (await buyer.GetShopOrder(quote=bought)).pay_link.partition("?")[
            0
        ] == "https://pay.example/checkout"
        for event, amount, paid in (
            ("PaymentAllocated", "100.00", "100.00"), ("PaymentAllocated", "126.00", "226.00"),
            ("AllocationReversed", "126.00", "100.00"),
        ):  # fmt: skip
            allocation = {"name": f"allocations/{uuid7()}", "amount": cny(amount), "net": cny(amount)}
            target = {"quote": bought, "allocation": allocation}
            payment = {"name": f"payments/{uuid7()}", "date": {"year": 2026, "month": 11, "day": 2}}
            told = {"payment": payment, "targets": [target]}
            await sales.tell(f"crm.billing.v1.{event}", told, payment["name"], times=2)

            async def is_paid(paid: str = paid) -> Any:
                found = await buyer.GetShopOrder(quote=bought)
                return found if found.paid_total.amount == paid else None

            shown = await sales.eventually(is_paid, 30)
            rest = parse_qs(urlsplit(shown.pay_link).query)
            assert rest.get("amount", ["0.00"]) == [str(Decimal("226.00") - Decimal(paid))]
        with pytest.raises(Refused) as refused:
            await visitor.GetShopOrder(quote=bought)
        assert refused.value.code.name == "UNAUTHENTICATED"
    finally:
        settings["pay_url"] = settings["pay_key"] = ""
    assert {reply.quote for reply in (*clicks, later)} == {clicks[0].quote}
    bought = clicks[0]
    [fact] = await sales.facts("crm.sales.v1.QuoteAccepted", bought.quote)
    quote = fact["quote"]
    assert (quote["channel"], quote["account"], quote["owner"]) == (
        "WEB", customer_of(sales), sales.person("sales1").employee,
    )  # fmt: skip
    assert (quote["grossTotal"]["amount"], bought.gross_total.amount) == ("226.00", "226.00")
    assert (quote["acceptance"]["person"], quote["acceptance"]["consent"]) == ("柯敏", "同意销售条款")
    assert [one.__dict__["sent"] for one in caplog.records if one.name == "sales.shop"] == ["1.00 CNY"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(bought.pay_link).query).items()}
    assert [asked[name] for name in LINKED[:4]] == [bought.quote, bought.number, "226.00", "CNY"]
    assert int(asked["until"]) > datetime.now(UTC).timestamp()
    assert signed("agreed", [asked[name] for name in LINKED], asked["signature"])
    assert not (await buyer.OpenBasket()).lines
    # The buyer sees what he bought; the desk has the whole chain of it.
    assert (await buyer.GetQuote(name=bought.quote)).state == pb.Quote.ACCEPTED
    # The same again some day is another order.
    second = await buyer.PutInBasket(product=one.name, quantity="2")
    assert second.digest == basket.digest
    assert (await buyer.BuyBasket(digest=second.digest)).quote != bought.quote


@pytest.mark.capability("s.selfsell")
async def test_what_the_desk_would_have_to_decide_the_shop_does_not_sell_and_does_not_say_why(
    sales: Service, buyer: Client, goods: Made, policy: Made
) -> None:
    cheap = await goods(minPrice=cny("95.00"))
    await policy("PROMOTION", products=[cheap.name], percent="10", label="活动")
    basket = await buyer.PutInBasket(product=cheap.name)
    with pytest.raises(Refused) as refused:
        await buyer.BuyBasket(digest=basket.digest)
    assert refused.value.reason == "SHOP_ASK_US"
    assert "95" not in str(refused.value.status)
    assert (await buyer.OpenBasket()).digest == basket.digest


@pytest.mark.capability("s.selfsell")
async def test_thirty_lines_are_scanned_at_the_till_and_the_warehouse_gives_whole_cases(
    sales: Service, buyer: Client, goods: Made, account: Made
) -> None:
    shelf = [await goods(inShop=n % 2 == 0) for n in range(10)]
    boxed = await goods(
        caseQuantity="12", variants=[{"code": "B-1", "displayName": "大", "barcode": f"v{uuid4().hex}"}]
    )
    customer = await account()

    async def known() -> Any:
        try:
            return await sales.sales1.OpenBasket(shopping={"account": customer})
        except Refused:
            return None

    opened = await sales.eventually(known)
    for line in opened.lines:
        await sales.sales1.PutInBasket(shopping={"account": customer}, key=line.key, quantity="0")
    began = monotonic()
    for n in range(30):
        till = await sales.sales1.PutInBasket(
            shopping={"account": customer}, code=shelf[n % 10].barcode, quantity=str(n % 3 + 1)
        )
    # The machine's share of a minute in which a person types thirty lines.
    assert monotonic() - began < 30
    assert (len(till.lines), sum(int(line.quantity) for line in till.lines)) == (10, 60)
    with pytest.raises(Refused) as refused:
        await sales.sales1.PutInBasket(code="0000")
    assert (refused.value.reason, refused.value.info.metadata["code"]) == ("CODE_UNKNOWN", "0000")
    by_variant = await sales.sales1.PutInBasket(
        shopping={"account": customer}, code=boxed.variants[0].barcode, quantity="5"
    )
    assert by_variant.lines[-1].product == boxed.name
    sold = await sales.sales1.BuyBasket(
        shopping={"account": customer}, digest=by_variant.digest, person="店内"
    )
    [fact] = await sales.facts("crm.sales.v1.QuoteAccepted", sold.quote)
    assert (fact["quote"]["channel"], fact["quote"]["owner"]) == ("RETAIL", sales.person("sales1").employee)
    # At somebody's home and in the warehouse the baskets are others; only the warehouse asks for whole cases.
    home = {"channel": "HOME", "account": customer}
    assert len((await sales.sales1.PutInBasket(shopping=home, product=boxed.name, quantity="5")).lines) == 1
    store = {"channel": "WAREHOUSE", "account": customer}
    with pytest.raises(Refused) as refused:
        await sales.sales1.PutInBasket(shopping=store, code=boxed.barcode, quantity="5")
    assert (refused.value.reason, refused.value.info.metadata["case"]) == ("CASE_QUANTITY", "12")
    cases = await sales.sales1.PutInBasket(shopping=store, code=boxed.barcode, quantity="24")
    with pytest.raises(Refused) as refused:
        await sales.sales1.PutInBasket(shopping=store, key=cases.lines[0].key, quantity="25")
    assert refused.value.reason == "CASE_QUANTITY"
    assert (await sales.sales1.BuyBasket(shopping=store, digest=cases.digest)).number
    with pytest.raises(Refused) as refused:
        lines = [{"product": boxed.name, "quantity": "7"}]
        body = {"account": customer, "currency": "CNY", "channel": "WAREHOUSE", "lines": lines}
        await sales.sales1.CreateQuote(quote=body)
    assert refused.value.reason == "CASE_QUANTITY"
    # Neither a customer nor somebody without the right says where and for whom is sold.
    mine = await buyer.OpenBasket(shopping={"channel": "WAREHOUSE", "account": customer})
    assert mine.account == customer_of(sales)
    with pytest.raises(Refused) as refused:
        await sales.client("agent").OpenBasket(shopping={"account": customer})
    assert refused.value.reason == "PERMISSION_DENIED"
    with pytest.raises(Refused) as refused:
        await sales.sales2.OpenBasket(shopping={"account": customer})
    assert refused.value.reason == "NOT_FOUND"


@pytest.mark.capability("s.selfsell")
async def test_a_known_buyer_is_told_what_he_may_want_and_nobody_else(
    sales: Service, visitor: Client, buyer: Client, goods: Made
) -> None:
    bought, hidden = await goods(), await goods(inShop=False)
    name, seller = f"orders/{uuid7()}", sales.person("sales1")
    items = [
        {"key": str(n), "product": one.name, "quantity": "2", "net": cny("200.00")}
        for n, one in enumerate((bought, hidden))
    ]
    order = {
        "name": name, "account": customer_of(sales), "items": items, "owner": seller.employee,
        "department": seller.department, "currency": "CNY", "placeTime": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": order}, name)

    async def suggested() -> Any:
        reply = await buyer.SuggestShop()
        return [one for one in reply.suggestions if one.offer.product == bought.name]

    [again] = await sales.eventually(suggested)
    assert (again.ground, again.offer.unit_price.amount) == (pb.SuggestShopResponse.BOUGHT_BEFORE, "100.00")
    everything = await buyer.SuggestShop()
    assert hidden.name not in {one.offer.product for one in everything.suggestions}
    at_the_till = await sales.admin.SuggestShop(account=customer_of(sales))
    assert hidden.name in {one.offer.product for one in at_the_till.suggestions}
    assert not (await visitor.SuggestShop()).suggestions
    assert not (await visitor.SuggestShop(account=customer_of(sales))).suggestions
