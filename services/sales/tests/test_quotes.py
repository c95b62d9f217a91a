"""Quotes through the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service, local_date
from sales.jobs import expire_quotes
from sqlalchemy import text

Made = Callable[..., Awaitable[Any]]
Quote = pb.Quote
DAYS = {"year": 2027, "month": 12, "day": 31}


def cny(amount: str) -> dict[str, str]:
    """An amount as JSON."""
    return {"currencyCode": "CNY", "amount": amount}


@pytest.fixture
def offer(sales: Service, account: Made, product: Made) -> Made:
    """A draft of sales1: twelve of a product at 100.00 with 13 % tax, 10 % off."""

    async def make(**fields: Any) -> Any:
        if "account" not in fields:
            fields["account"] = await account()
        if "lines" not in fields:
            line = {"product": (await product()).name, "quantity": "12", "discountPercent": "10"}
            fields["lines"] = [line]
        return await sales.sales1.CreateQuote(quote={"currency": "CNY", "validUntilDate": DAYS, **fields})

    return make


@pytest.fixture
def sent(sales: Service, offer: Made) -> Made:
    """A version that the customer has."""

    async def make(**fields: Any) -> Any:
        made = await offer(**fields)
        await sales.sales1.SubmitQuote(name=made.name)
        return await sales.sales1.SendQuote(name=made.name)

    return make


async def test_every_line_and_total_is_reckoned_and_explained(sales: Service, offer: Made) -> None:
    made = await offer()
    [line] = made.lines
    assert (line.unit_list_price.amount, line.list_amount.amount, line.discount_amount.amount) == (
        "100.00",
        "1200.00",
        "120.00",
    )
    assert (line.net_amount.amount, line.tax_amount.amount, line.gross_amount.amount) == (
        "1080.00",
        "140.40",
        "1220.40",
    )
    assert (made.net_total.amount, made.tax_total.amount, made.gross_total.amount) == (
        "1080.00",
        "140.40",
        "1220.40",
    )
    assert [(step.seq, step.kind, step.adjustment.amount, step.after.amount) for step in line.trace] == [
        (1, "LIST_PRICE", "0.00", "1200.00"),
        (2, "MANUAL", "-120.00", "1080.00"),
        (3, "TAX", "140.40", "1220.40"),
    ]
    assert (made.number.startswith("Q-"), made.number.endswith("-V1"), made.display_name) == (
        True,
        True,
        "华东机械",
    )
    assert (line.description.startswith("光电传感器"), line.unit, line.tax_rate) == (True, "件", "13")


async def test_totals_that_a_client_sends_are_ignored(offer: Made) -> None:
    bent = {
        "quantity": "1",
        "description": "安装",
        "unitPrice": cny("50.00"),
        "netAmount": cny("0.01"),
        "priceSource": "LIST_PRICE",
    }
    made = await offer(lines=[bent])
    assert (made.lines[0].net_amount.amount, made.net_total.amount) == ("50.00", "50.00")
    assert made.lines[0].price_source == Quote.TYPED


async def test_a_typed_price_of_nothing_is_a_price(offer: Made, product: Made) -> None:
    made = await offer(lines=[{"product": (await product()).name, "quantity": "2", "unitPrice": cny("0.00")}])
    assert (made.lines[0].price_source, made.gross_total.amount) == (Quote.TYPED, "0.00")


async def test_what_is_no_quantity_or_discount_is_refused_at_its_field(offer: Made) -> None:
    line = {"description": "x", "unitPrice": cny("1.00"), "quantity": "1"}
    for field, value, reason in (
        ("quantity", "0", "TOO_SMALL"),
        ("quantity", "-1", "TOO_SMALL"),
        ("quantity", "99999999999999", "TOO_LARGE"),
        ("discountPercent", "100.01", "TOO_LARGE"),
        ("taxRate", "101", "TOO_LARGE"),
        ("description", "", "REQUIRED"),
    ):
        with pytest.raises(Refused) as refused:
            await offer(lines=[{**line, "unitPrice": cny("9999999.99"), field: value}])
        assert list(refused.value.violations.values()) == [reason], field


async def test_the_price_comes_from_the_narrowest_book_and_the_highest_tier_reached(
    sales: Service, offer: Made, account: Made, product: Made
) -> None:
    goods, level = await product(), uuid4().hex
    special, plain = await account(level=level), await account()
    tiers = [{"price": cny("95.00")}, {"price": cny("90.00"), "fromQuantity": "10"}]
    for fields, prices in (
        ({"accountLevels": [level]}, [{"price": cny("81.00")}]),
        ({"priority": 1}, tiers),
        ({"priority": 2, "taxIncluded": True, "accounts": [await account()]}, [{"price": cny("113.00")}]),
    ):
        entries = [{"product": goods.name, "tiers": prices}]
        book = await sales.admin.CreatePriceBook(
            priceBook={"displayName": "价格表", "currency": "CNY", "entries": entries, **fields}
        )
        await sales.admin.ActivatePriceBook(name=book.name)

    async def price(customer: str, quantity: str) -> str:
        made = await offer(account=customer, lines=[{"product": goods.name, "quantity": quantity}])
        assert (made.lines[0].price_source, made.lines[0].trace[0].kind) == (Quote.PRICE_BOOK, "PRICE_BOOK")
        return made.lines[0].unit_list_price.amount

    assert await price(special, "10") == "81.00"
    assert await price(plain, "9.99") == "95.00"
    assert await price(plain, "10") == "90.00"


async def test_a_book_with_tax_gives_prices_without(
    sales: Service, offer: Made, account: Made, product: Made
) -> None:
    goods, named = await product(), await account()
    entries = [{"product": goods.name, "tiers": [{"price": cny("113.00")}]}]
    book = await sales.admin.CreatePriceBook(
        priceBook={
            "displayName": "含税",
            "currency": "CNY",
            "taxIncluded": True,
            "accounts": [named],
            "entries": entries,
        }
    )
    await sales.admin.ActivatePriceBook(name=book.name)
    made = await offer(account=named, lines=[{"product": goods.name, "quantity": "2"}])
    assert (made.lines[0].unit_list_price.amount, made.gross_total.amount) == ("100.00", "226.00")


@pytest.mark.capability("s.quote")
async def test_a_line_without_a_price_blocks_the_submission(
    sales: Service, offer: Made, product: Made
) -> None:
    goods = await product(listPrice={"currencyCode": "USD", "amount": "5.00"})
    made = await offer(lines=[{"product": goods.name, "quantity": "1"}])
    assert made.lines[0].price_source == Quote.MISSING
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=made.name)
    assert (refused.value.reason, refused.value.info.metadata["items"]) == (
        "PRICE_MISSING",
        goods.display_name,
    )
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=(await offer(lines=[])).name)
    assert refused.value.reason == "QUOTE_EMPTY"


async def test_one_quote_has_one_currency(offer: Made) -> None:
    with pytest.raises(Refused) as refused:
        await offer(
            lines=[
                {"quantity": "1", "description": "x", "unitPrice": {"currencyCode": "USD", "amount": "1.00"}}
            ]
        )
    assert refused.value.reason == "CURRENCY_MISMATCH"


async def test_what_is_no_longer_sold_is_not_offered_anew(sales: Service, offer: Made, product: Made) -> None:
    goods = await product()
    old = await offer(lines=[{"product": goods.name, "quantity": "1"}])
    await sales.sales1.SubmitQuote(name=old.name)
    ended = await sales.admin.EndProductSale(name=goods.name, successor=(await product()).name)
    assert ended.state == pb.Product.END_OF_SALE
    with pytest.raises(Refused) as refused:
        await offer(lines=[{"product": goods.name, "quantity": "1"}])
    assert refused.value.violations == {"quote.lines[0].product": "NOT_FOR_SALE"}
    assert (await sales.sales1.NewQuoteVersion(name=old.name)).lines[0].product == goods.name


@pytest.mark.capability("s.quote")
async def test_below_the_lowest_price_it_needs_an_approval(
    sales: Service, offer: Made, product: Made
) -> None:
    goods = await product(minPrice=cny("90.00"), cost=cny("60.00"))
    line = {"product": goods.name, "quantity": "1", "discountPercent": "10.01"}
    made = await offer(lines=[line])
    assert not made.below_floor
    assert not made.margin_percent
    seen = await sales.admin.GetQuote(name=made.name)
    assert (seen.below_floor, seen.margin_percent) == (True, "33.33")
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=made.name)
    assert refused.value.reason == "MARGIN_BELOW_FLOOR"
    async with sales.parts.configuration() as config:
        policy = {"action": "sales.quotes.submit", "condition": "below_floor = true", "priority": 1}
        await config.put("approvalPolicy.floor", policy)
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.floor"))
        held = await sales.sales1.SubmitQuote(name=made.name)
        await config.delete("approvalPolicy.floor")
    assert held.state == Quote.DRAFT
    assert held.pending_approval.startswith("sales.quotes.submit#")
    await sales.eventually(lambda: sales.running.config.get("approvalPolicy.floor") is None)
    approval = {"name": "approvals/x", "heldAction": held.pending_approval.partition("#")[2]}
    await sales.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, "approvals/x")

    async def approved() -> bool:
        return (await sales.admin.GetQuote(name=made.name)).state == Quote.APPROVED

    await sales.eventually(approved)
    at_the_floor = await offer(lines=[{**line, "discountPercent": "10"}])
    assert (await sales.sales1.SubmitQuote(name=at_the_floor.name)).state == Quote.APPROVED


async def test_a_submitted_version_is_frozen(sales: Service, sent: Made) -> None:
    made = await sent()
    for change in (
        sales.sales1.UpdateQuote(quote={"name": made.name, "terms": "x"}, updateMask="terms"),
        sales.sales1.PriceQuote(name=made.name),
        sales.sales1.DeleteQuote(name=made.name),
    ):
        with pytest.raises(Refused) as refused:
            await change
        assert refused.value.reason == "QUOTE_FROZEN"
    given = {"name": made.name, "collaborators": [sales.person("sales2").employee]}
    assert (await sales.sales1.UpdateQuote(quote=given, updateMask="collaborators")).digest == made.digest
    assert len(await sales.facts("crm.sales.v1.QuoteSent", made.name)) == 1


@pytest.mark.capability("s.quote")
async def test_the_customer_accepts_what_was_shown(sales: Service, deal: Made, sent: Made) -> None:
    opportunity = await deal()
    made = await sent(account=opportunity.account, opportunity=opportunity.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptQuote(name=made.name, digest="0" * 64)
    assert refused.value.reason == "QUOTE_CHANGED"
    accepted = await sales.sales1.AcceptQuote(
        name=made.name, digest=made.digest, person="李雷", consent="同意"
    )
    assert (accepted.state, accepted.acceptance.person, accepted.acceptance.digest) == (
        Quote.ACCEPTED,
        "李雷",
        made.digest,
    )
    [fact] = await sales.facts("crm.sales.v1.QuoteAccepted", made.name)
    told = fact["quote"]
    assert (told["account"], told["opportunity"], told["owner"]) == (
        opportunity.account,
        opportunity.name,
        opportunity.owner,
    )
    assert (told["lines"][0]["netAmount"]["amount"], told["grossTotal"]["amount"]) == ("1080.00", "1220.40")
    assert told["origin"] == {"opportunity": opportunity.name, "quote": made.name}
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptQuote(name=made.name, digest=made.digest)
    assert refused.value.reason == "QUOTE_ACCEPTED"
    await sales.sales1.WinOpportunity(name=opportunity.name)
    [won] = await sales.facts("crm.sales.v1.OpportunityWon", opportunity.name)
    assert (won["quote"]["name"], won["opportunity"]["acceptedQuote"]) == (made.name, made.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.NewQuoteVersion(name=made.name)
    assert refused.value.reason == "QUOTE_ACCEPTED"


async def test_the_customer_sees_a_version_once_it_is_sent_and_accepts_it(
    sales: Service, deal: Made, offer: Made
) -> None:
    buyer = sales.client("customer")
    opportunity = await deal(account=await _buyers_account(sales))
    made = await offer(account=opportunity.account, opportunity=opportunity.name)
    await sales.sales1.SubmitQuote(name=made.name)
    with pytest.raises(Refused) as refused:
        await buyer.GetQuote(name=made.name)
    assert refused.value.reason == "NOT_FOUND"
    await sales.sales1.SendQuote(name=made.name)
    draft = await sales.sales1.NewQuoteVersion(name=made.name)
    assert [quote.name for quote in (await buyer.ListQuotes(filter=f'root = "{made.root}"')).quotes] == [
        made.name
    ]
    shown = await buyer.GetQuote(name=made.name)
    assert (
        await buyer.AcceptQuote(name=made.name, digest=shown.digest, person="柯敏")
    ).state == Quote.ACCEPTED
    assert (await sales.sales1.GetQuote(name=draft.name)).state == Quote.CANCELLED
    assert (await sales.sales1.GetOpportunity(name=opportunity.name)).accepted_quote == made.name


async def _buyers_account(sales: Service) -> str:
    """The account of the demo company's portal customer, told as the customer service would."""
    name, seller = sales.person("customer").account or "", sales.person("sales1")
    resource = {
        "name": name,
        "displayName": "华东机械",
        "owner": seller.employee,
        "department": seller.department,
    }
    payload = {"name": name, "action": "CREATED", "actor": "system/test", "resource": resource}
    await sales.tell("crm.customer.v1.ResourceChanged", payload, name)
    return name


async def test_a_quote_belongs_to_the_account_of_its_opportunity(deal: Made, offer: Made) -> None:
    with pytest.raises(Refused) as refused:
        await offer(opportunity=(await deal()).name)
    assert refused.value.violations == {"quote.opportunity": "OTHER_ACCOUNT"}


@pytest.mark.capability("s.quote")
async def test_a_version_stays_acceptable_until_the_next_is_approved(sales: Service, sent: Made) -> None:
    first = await sent()
    second = await sales.sales1.NewQuoteVersion(name=first.name)
    assert (second.number, second.version_number, second.root) == (first.number[:-1] + "2", 2, first.name)
    assert [line.key for line in second.lines] == [line.key for line in first.lines]
    with pytest.raises(Refused) as refused:
        await sales.sales1.NewQuoteVersion(name=first.name)
    assert refused.value.reason == "ALREADY_EXISTS"
    assert (await sales.sales1.GetQuote(name=first.name)).state == Quote.SENT
    await sales.sales1.SubmitQuote(name=second.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptQuote(name=first.name, digest=first.digest)
    assert refused.value.reason == "QUOTE_SUPERSEDED"


@pytest.mark.capability("s.quote")
async def test_accepting_a_version_ends_the_open_draft(sales: Service, sent: Made) -> None:
    first = await sent()
    second = await sales.sales1.NewQuoteVersion(name=first.name)
    await sales.sales1.AcceptQuote(name=first.name, digest=first.digest)
    assert (await sales.sales1.GetQuote(name=second.name)).state == Quote.CANCELLED
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=second.name)
    assert refused.value.reason == "QUOTE_ACCEPTED"


@pytest.mark.capability("s.quote")
async def test_of_accepting_one_version_and_approving_the_next_exactly_one_succeeds(
    sales: Service, sent: Made
) -> None:
    for _ in range(5):
        first = await sent()
        second = await sales.sales1.NewQuoteVersion(name=first.name)
        answers = await asyncio.gather(
            sales.sales1.AcceptQuote(name=first.name, digest=first.digest),
            sales.sales1.SubmitQuote(name=second.name),
            return_exceptions=True,
        )
        [refused] = [answer for answer in answers if isinstance(answer, Refused)]
        assert refused.reason in {"QUOTE_SUPERSEDED", "QUOTE_ACCEPTED"}


async def test_twenty_acceptances_at_once_are_one_fact(sales: Service, sent: Made) -> None:
    made = await sent()
    answers = await asyncio.gather(
        *(sales.sales1.AcceptQuote(name=made.name, digest=made.digest) for _ in range(20)),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert len(await sales.facts("crm.sales.v1.QuoteAccepted", made.name)) == 1


@pytest.mark.capability("s.quote")
async def test_after_its_last_day_a_quote_is_not_accepted_and_the_job_says_so(
    sales: Service, sent: Made
) -> None:
    made = await sent()
    async with sales.running.call("test", system("sales")) as call:
        values = {"day": call.now.date() - timedelta(days=2), "id": made.name.rpartition("/")[2]}
        await call.db.execute(text("UPDATE quotes SET valid_until_date = :day WHERE id = :id"), values)
    with pytest.raises(Refused) as refused:
        await sales.sales1.AcceptQuote(name=made.name, digest=made.digest)
    assert refused.value.reason == "QUOTE_EXPIRED"
    for _ in range(2):
        async with sales.running.call("expire_quotes", system("sales")) as call:
            await expire_quotes(datetime.now(UTC), call)
    assert (await sales.sales1.GetQuote(name=made.name)).state == Quote.EXPIRED
    assert len(await sales.facts("crm.sales.v1.QuoteExpired", made.name)) == 1
    assert (await sales.sales1.NewQuoteVersion(name=made.name)).version_number == 2


async def test_a_quote_is_rejected_or_withdrawn_with_a_reason(sales: Service, sent: Made) -> None:
    rejected = await sales.sales1.RejectQuote(name=(await sent()).name, reason="太贵")
    assert (rejected.state, rejected.end_reason) == (Quote.REJECTED, "太贵")
    assert (await sales.facts("crm.sales.v1.QuoteRejected", rejected.name))[0]["reason"] == "太贵"
    assert (
        await sales.sales1.WithdrawQuote(name=(await sent()).name, reason="有误")
    ).state == Quote.WITHDRAWN


async def test_pricing_again_takes_the_price_of_today(sales: Service, offer: Made, product: Made) -> None:
    goods = await product()
    made = await offer(lines=[{"product": goods.name, "quantity": "3"}])
    again = await sales.sales1.PriceQuote(name=made.name)
    assert (again.digest, again.lines) == (made.digest, made.lines)
    await sales.admin.UpdateProduct(
        product={"name": goods.name, "listPrice": cny("110.00")}, updateMask="listPrice"
    )
    unchanged = {"name": made.name, "terms": "款到发货"}
    assert (await sales.sales1.UpdateQuote(quote=unchanged, updateMask="terms")).net_total.amount == "300.00"
    priced = await sales.sales1.PriceQuote(name=made.name)
    assert (priced.net_total.amount, Decimal(priced.lines[0].unit_list_price.amount)) == (
        "330.00",
        Decimal(110),
    )


@pytest.mark.capability("s.quote")
async def test_the_last_price_comes_from_an_order_too_and_by_an_index(
    sales: Service, account: Made, product: Made
) -> None:
    customer, goods = await account(), await product()
    item = {"key": "1", "product": goods.name, "quantity": "4", "net": cny("380.00")}
    order = {
        "name": f"orders/{uuid4()}", "number": "DD-1", "account": customer, "owner": sales.person("sales2").employee,
        "items": [item],
    }  # fmt: skip
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": order}, order["name"])

    async def found() -> Any:
        [last] = (await sales.sales1.ListLastPrices(account=customer, products=[goods.name])).prices
        return last if last.found else None

    last = await sales.eventually(found, 30)
    assert (last.net_unit_price.amount, last.quantity, last.employee) == ("95.00", "4", order["owner"])
    assert (last.document, last.number, last.time.seconds > 0) == (order["name"], "DD-1", True)
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(text("SET LOCAL enable_seqscan = off"))
        asked = "EXPLAIN SELECT * FROM sold_prices WHERE account = 'a' AND product = 'p' ORDER BY time DESC LIMIT 100"
        plan = "\n".join(await call.db.scalars(text(asked)))
    assert "sold_prices_account_index" in plan
    assert "Sort" not in plan


@pytest.mark.capability("s.quote")
async def test_the_price_of_a_piece_is_not_that_of_a_box(
    sales: Service, offer: Made, product: Made, account: Made
) -> None:
    goods, customer = await product(), await account()

    async def asked(unit: str) -> Any:
        [line] = (
            await offer(account=customer, lines=[{"product": goods.name, "quantity": "2", "unit": unit}])
        ).lines
        return Quote.PriceSource.Name(line.price_source), line.net_amount.amount

    assert [await asked(unit) for unit in ("", "件", "箱")] == [
        ("LIST_PRICE", "200.00"), ("LIST_PRICE", "200.00"), ("MISSING", ""),
    ]  # fmt: skip
    entries = [
        {"product": goods.name, "tiers": [{"price": cny("95.00")}]},
        {"product": goods.name, "unit": "箱", "tiers": [{"price": cny("1100.00")}]},
    ]
    body = {"displayName": "箱价", "currency": "CNY", "accounts": [customer], "entries": entries}
    book = await sales.manager.CreatePriceBook(priceBook=body)
    await sales.manager.ActivatePriceBook(name=book.name)
    assert [await asked(unit) for unit in ("件", "箱", "托")] == [
        ("PRICE_BOOK", "190.00"), ("PRICE_BOOK", "2200.00"), ("MISSING", ""),
    ]  # fmt: skip


@pytest.mark.capability("s.catalog")
async def test_before_its_first_and_after_its_last_day_a_product_is_not_offered_anew_and_old_drafts_keep_it(
    sales: Service, offer: Made, product: Made
) -> None:
    def on(days: int) -> dict[str, int]:
        day = local_date() + timedelta(days=days)
        return {"year": day.year, "month": day.month, "day": day.day}

    for days in ({"validFromDate": on(1)}, {"validToDate": on(-1)}):
        soon = await product(**days)
        with pytest.raises(Refused) as refused:
            await offer(lines=[{"product": soon.name, "quantity": "1"}])
        assert refused.value.violations == {"quote.lines[0].product": "NOT_FOR_SALE"}
    goods, other = await product(validFromDate=on(0), validToDate=on(0)), await product()
    draft = await offer(lines=[{"product": goods.name, "quantity": "1"}])
    successor = await product(displayName=f"后继{uuid4().hex[:6]}")
    await sales.admin.EndProductSale(name=goods.name, successor=successor.name)
    # The draft was there before: it changes, is priced and is submitted with what it offers, and nothing new of that kind.
    more = [{"product": goods.name, "quantity": "3", "key": "1"}]
    changed = await sales.sales1.UpdateQuote(quote={"name": draft.name, "lines": more}, updateMask="lines")
    assert changed.net_total.amount == "300.00"
    await sales.admin.EndProductSale(name=other.name)
    with pytest.raises(Refused) as refused:
        lines = [*more, {"product": other.name, "quantity": "1"}]
        await sales.sales1.UpdateQuote(quote={"name": draft.name, "lines": lines}, updateMask="lines")
    assert refused.value.violations == {"quote.lines[1].product": "NOT_FOR_SALE"}
    assert not (await sales.sales1.RepriceQuote(name=draft.name, confirm=True)).changes
    await sales.sales1.SubmitQuote(name=draft.name)
    later = await sales.sales1.NewQuoteVersion(name=draft.name)
    with pytest.raises(Refused):
        await sales.sales1.UpdateQuote(quote={"name": later.name, "lines": lines}, updateMask="lines")
    assert (await sales.sales1.SubmitQuote(name=later.name)).state == Quote.APPROVED
    with pytest.raises(Refused) as refused:
        await sales.sales1.CopyQuote(name=later.name)
    # What takes its place is named as people know it.
    assert f"({successor.code})" in str(refused.value.status)
    with pytest.raises(Refused) as refused:
        await sales.admin.EndProductSale(name=successor.name, successor=successor.name)
    assert refused.value.violations == {"successor": "CYCLE"}


@pytest.mark.capability("s.quote")
async def test_a_draft_whose_last_day_is_over_ends_no_version_that_can_be_accepted(
    sales: Service, sent: Made
) -> None:
    first = await sent()
    second = await sales.sales1.NewQuoteVersion(name=first.name)
    over = {"year": 2020, "month": 1, "day": 1}
    await sales.sales1.UpdateQuote(
        quote={"name": second.name, "validUntilDate": over}, updateMask="validUntilDate"
    )
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=second.name)
    assert refused.value.reason == "QUOTE_EXPIRED"
    accepted = await sales.sales1.AcceptQuote(name=first.name, digest=first.digest)
    assert accepted.state == Quote.ACCEPTED


@pytest.mark.capability("s.quote")
async def test_a_quote_goes_to_a_contact_of_its_customer_and_to_no_other(
    sales: Service, offer: Made, account: Made, contact: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first print of a process reads the fonts.
    monkeypatch.setattr("crmkit.testing.DEADLINE", 90.0)
    customer = await account()
    mine = await contact(account=customer, emails=[{"address": "li@example.cn"}])
    stranger = await contact(
        displayName="韩梅", account=await account(), emails=[{"address": "han@example.cn"}]
    )
    with pytest.raises(Refused) as refused:
        await offer(account=customer, contact=stranger)
    assert (refused.value.reason, refused.value.info.metadata["contact"]) == (
        "CONTACT_NOT_OF_ACCOUNT",
        "韩梅",
    )
    made = await offer(account=customer, contact=mine)
    for change in ({"contact": stranger}, {"account": await account()}):
        with pytest.raises(Refused) as refused:
            await sales.sales1.UpdateQuote(quote={"name": made.name, **change}, updateMask=",".join(change))
        assert refused.value.reason == "CONTACT_NOT_OF_ACCOUNT"
    await sales.sales1.SubmitQuote(name=made.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.SendQuote(name=made.name, recipients=["li@example.cn", "nobody"])
    assert refused.value.violations == {"recipients[1]": "WRONG_FORMAT"}
    await sales.sales1.SendQuote(name=made.name)
    [fact] = await sales.facts("crm.sales.v1.QuoteSent", made.name)
    assert fact["recipients"] == ["li@example.cn"]
    # The mail takes the print along, which is the file that the quote keeps.
    printed = await sales.sales1.RenderQuote(name=made.name)
    assert (
        fact["file"]["sha256"]
        == sha256(printed.content).hexdigest()
        == (await sales.sales1.GetQuote(name=made.name)).pdf
    )
    [stored] = await sales.facts("crm.sales.v1.FileStored", made.name)
    assert stored["file"] == fact["file"]
