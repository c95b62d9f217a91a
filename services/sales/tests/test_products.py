"""Products and price books through the front door."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.testing import Refused, Service

Made = Callable[..., Awaitable[Any]]


def cny(amount: str) -> dict[str, str]:
    """An amount as JSON."""
    return {"currencyCode": "CNY", "amount": amount}


async def test_a_product_without_a_price_is_not_put_on_sale(sales: Service) -> None:
    made = await sales.admin.CreateProduct(product={"displayName": "无价之宝", "code": uuid4().hex})
    with pytest.raises(Refused) as refused:
        await sales.admin.ActivateProduct(name=made.name)
    assert refused.value.reason == "PRICE_MISSING"
    await sales.admin.UpdateProduct(
        product={"name": made.name, "listPrice": cny("9.90")}, updateMask="listPrice"
    )
    assert (await sales.admin.ActivateProduct(name=made.name)).state == pb.Product.ACTIVE


async def test_a_code_belongs_to_one_product(sales: Service) -> None:
    body = {"displayName": "甲", "code": uuid4().hex}
    await sales.admin.CreateProduct(product=body)
    with pytest.raises(Refused) as refused:
        await sales.admin.CreateProduct(product=body)
    assert refused.value.reason == "ALREADY_EXISTS"


@pytest.mark.capability("a.coding")
async def test_a_product_without_a_code_gets_it_by_the_rule_of_products(sales: Service) -> None:
    mark, config = uuid4().hex[:6].upper(), sales.running.config
    rule = {
        "pattern": f"G{mark}-{{seq:3}}", "gapFree": True, "start": 7,
        "rules": [{"pattern": f"S{mark}-{{seq:3}}", "gapFree": True, "condition": "kind = SERVICE"}],
    }  # fmt: skip
    async with sales.parts.configuration() as bucket:
        await bucket.put("numberRule.products", rule)
        try:
            await sales.eventually(lambda: config.get("numberRule.products") == rule)
            made = [
                await sales.admin.CreateProduct(product={"displayName": "按规则编码", **fields})
                for fields in ({}, {"kind": "SERVICE"}, {"code": f"OWN{mark}"}, {"kind": "SERVICE"})
            ]
        finally:
            await bucket.delete("numberRule.products")
            await sales.eventually(lambda: config.get("numberRule.products") is None)
    codes = [f"G{mark}-007", f"S{mark}-001", f"OWN{mark}", f"S{mark}-002"]
    assert [one.code for one in made] == codes
    assert [one.number for one in made] == [codes[0], codes[1], f"G{mark}-008", codes[3]]
    kept = await sales.admin.UpdateProduct(product={"name": made[0].name, "code": ""}, updateMask="code")
    assert kept.code == codes[0]


@pytest.mark.capability("s.catalog")
async def test_cost_never_leaves_without_its_permission(sales: Service, product: Made) -> None:
    made = await product(cost=cny("61.00"), minPrice=cny("80.00"))
    assert (made.cost.amount, made.min_price.amount) == ("61.00", "80.00")
    shown = await sales.sales1.GetProduct(name=made.name)
    assert not shown.HasField("cost")
    assert not shown.HasField("min_price")
    for query in ({"filter": "cost > 1"}, {"orderBy": "cost"}):
        with pytest.raises(Refused) as refused:
            await sales.sales1.ListProducts(**query)
        assert refused.value.reason in {"FILTER_INVALID", "ORDER_BY_INVALID"}
    [told] = await sales.facts("crm.sales.v1.ProductChanged", made.name)
    assert not {"cost", "minPrice"} & set(told["product"])
    assert told["product"]["etag"] == made.etag
    await sales.admin.UpdateProduct(product={"name": made.name, "cost": cny("62.00")}, updateMask="cost")
    created, *_, updated = await sales.facts("crm.sales.v1.ResourceChanged", made.name)
    for change in (created, updated):
        parts = {part["permission"]: part for part in change.pop("guarded")}
        part = parts["sales.products.read_cost"]
        assert part["resource"]["cost"]["amount"] in {"61.00", "62.00"}
        assert "cost" not in str(change) and "minPrice" not in str(change)
    assert (part["before"]["cost"]["amount"], part["after"]["cost"]["amount"]) == ("61.00", "62.00")


async def test_partners_and_customers_see_no_list_price(sales: Service, product: Made) -> None:
    made = await product(displayName=f"标准价{uuid4().hex}", listPrice=cny("77.00"))
    portal = [sales.client(one) for one in sales.parts.people if sales.person(one).account]
    shown = [await client.GetProduct(name=made.name) for client in portal if await _may_read(client)]
    assert shown and not [one for one in shown if one.HasField("list_price") or one.HasField("cost")]
    for client in portal:
        for path in (
            client.ListProducts(filter="list_price > 1"),
            client.ListProducts(orderBy="listPrice"),
            client.AggregateProducts(sum=["listPrice"]),
        ):
            with pytest.raises(Refused) as refused:
                await path
            assert refused.value.reason in {"FILTER_INVALID", "ORDER_BY_INVALID", "PERMISSION_DENIED"}
    assert (await sales.sales1.GetProduct(name=made.name)).list_price.amount == "77.00"


async def _may_read(client: Any) -> bool:
    try:
        return bool(await client.ListProducts(pageSize=1))
    except Refused as refused:
        assert refused.reason == "PERMISSION_DENIED"
        return False


async def test_a_used_product_is_not_deleted(sales: Service, product: Made, deal: Made) -> None:
    used, unused = await product(), await product()
    await deal(lines=[{"product": used.name, "quantity": "1"}])
    with pytest.raises(Refused) as refused:
        await sales.admin.DeleteProduct(name=used.name)
    assert refused.value.reason == "PRODUCT_IN_USE"
    await sales.admin.DeleteProduct(name=unused.name)


@pytest.mark.capability("s.catalog")
async def test_what_a_bundle_a_policy_or_an_order_names_is_not_deleted(
    sales: Service, product: Made, bundle: Made, policy: Made, account: Made
) -> None:
    part = (await bundle()).groups[0].options[0].product
    gift, promoted, ordered = (await product()).name, (await product()).name, (await product()).name
    await policy("PROMOTION", freeProduct=gift, products=[promoted])
    order = {
        "name": f"orders/{uuid4()}", "number": "DD-9", "account": await account(), "owner": sales.person("sales1").employee,
        "items": [{"key": "1", "product": ordered, "quantity": "1", "net": cny("9.00")}],
    }  # fmt: skip
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": order}, order["name"])

    async def bought() -> Any:
        return (await sales.admin.ListPurchases(filter=f'product = "{ordered}"')).purchases

    await sales.eventually(bought)
    for name in (part, gift, promoted, ordered):
        with pytest.raises(Refused) as refused:
            await sales.admin.DeleteProduct(name=name)
        assert refused.value.reason == "PRODUCT_IN_USE"


async def test_a_product_is_found_by_fragment_pinyin_and_code(sales: Service, product: Made) -> None:
    made = await product(displayName="激光测距雷达", barcode="6901234567892")
    for q in ("测距", "jgcjld", made.code, "6901234567892"):
        assert made.name in [found.name for found in (await sales.sales1.ListProducts(q=q)).products], q


async def _book(sales: Service, entries: list[dict[str, Any]], **fields: Any) -> Any:
    body = {"displayName": "华东价格表", "currency": "CNY", "entries": entries, **fields}
    return await sales.admin.CreatePriceBook(priceBook=body)


def tier(price: str, start: str = "") -> dict[str, Any]:
    """A tier as JSON."""
    return {"price": cny(price), "fromQuantity": start}


@pytest.mark.capability("s.catalog")
async def test_two_prices_for_one_thing_are_refused(sales: Service, product: Made) -> None:
    made = await product()
    twice = [{"product": made.name, "tiers": [tier("9.00")]}, {"product": made.name, "tiers": [tier("8.00")]}]
    same_start = [{"product": made.name, "tiers": [tier("9.00", "10"), tier("8.00", "10.0")]}]
    # An entry without a unit is for the unit of the product.
    same_unit = [
        {"product": made.name, "unit": unit, "tiers": [tier(price)]}
        for unit, price in (("", "9.00"), ("件", "8.00"))
    ]
    for entries in (twice, same_start, same_unit):
        book = await _book(sales, entries)
        with pytest.raises(Refused) as refused:
            await sales.admin.ActivatePriceBook(name=book.name)
        assert refused.value.reason == "PRICE_BOOK_OVERLAP"
        assert refused.value.info.metadata["product"] == made.display_name


async def test_two_books_of_one_rank_do_not_meet(sales: Service, product: Made) -> None:
    entries = [{"product": (await product()).name, "tiers": [tier("9.00")]}]
    days = {
        "validFromDate": {"year": 2027, "month": 1, "day": 1},
        "validToDate": {"year": 2027, "month": 6, "day": 30},
    }
    later = {"validFromDate": {"year": 2027, "month": 7, "day": 1}}
    first = await _book(sales, entries, **days)
    assert (await sales.admin.ActivatePriceBook(name=first.name)).state == pb.PriceBook.ACTIVE
    with pytest.raises(Refused) as refused:
        await sales.admin.ActivatePriceBook(name=(await _book(sales, entries)).name)
    assert refused.value.reason == "PRICE_BOOK_OVERLAP"
    for fields in (later, {"priority": 5}, {"accountLevels": ["A"]}):
        await sales.admin.ActivatePriceBook(name=(await _book(sales, entries, **fields)).name)
    with pytest.raises(Refused) as refused:
        await sales.admin.UpdatePriceBook(
            priceBook={"name": first.name, "priority": 9}, updateMask="priority"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_a_book_has_one_currency(sales: Service, product: Made) -> None:
    foreign = {"price": {"currencyCode": "USD", "amount": "1.00"}}
    with pytest.raises(Refused) as refused:
        await _book(sales, [{"product": (await product()).name, "tiers": [foreign]}])
    assert refused.value.reason == "CURRENCY_MISMATCH"
