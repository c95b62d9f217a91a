"""Quotes without a network, tax rates of billing, prints, links and approvals that end, through the front door."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.mapping import read_date
from crmkit.tables import HeldAction
from crmkit.testing import Refused, Service, local_date
from sales.engine import Given, Line, Party, Policy, Price, run
from sales.jobs import print_quotes
from sales.model.quote import Quote
from sqlalchemy import select, text

Made = Callable[..., Awaitable[Any]]
DAYS = {"year": 2027, "month": 12, "day": 31}


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


@pytest.fixture
def policy(sales: Service) -> Made:
    """A policy in force."""

    async def make(kind: str, **fields: Any) -> Any:
        body = {"displayName": f"内部名 {uuid4().hex[:6]}", "kind": kind, **fields}
        made = await sales.manager.CreateDiscountPolicy(discountPolicy=body)
        return await sales.manager.ActivateDiscountPolicy(name=made.name)

    return make


def estimate(told: pb.GetPriceSnapshotResponse, account: str, product: str, quantity: str) -> Any:
    """What a device reckons of a snapshot, by the rules of the engine."""
    [offer] = [one for one in told.offers if one.product == product]
    reached = [tier for tier in offer.tiers if Decimal(tier.from_quantity) <= Decimal(quantity)]
    policies = [
        Policy(
            name=one.key, label=one.label, kind=one.kind, version=one.version, priority=one.priority,
            start=read_date(one.valid_from_date), end=read_date(one.valid_to_date), products=tuple(one.products),
            categories=tuple(one.categories), count=one.count, min_quantity=number(one.min_quantity),
            max_quantity=number(one.max_quantity), min_amount=number(one.min_amount), max_amount=number(one.max_amount),
            percent=number(one.percent), amount_off=number(one.amount_off), fixed_price=number(one.fixed_price),
            tiers=tuple((Decimal(tier.from_quantity), Decimal(tier.price)) for tier in one.tiers), on_list=one.on_list,
            exclusive=one.exclusive, on_payment=one.on_payment, days=one.days, net_days=one.net_days,
            # The scope of the customer is settled already; how narrow it is decides between policies.
            accounts=(account,) if one.breadth == 0 else (), levels=("-",) if one.breadth == 1 else (),
        )
        for one in told.policies
    ]  # fmt: skip
    price = Price(Decimal(reached[-1].price), "PRICE_BOOK") if reached else None
    line = Line(
        "1", Decimal(quantity), product, tuple(offer.categories), price, tax_rate=Decimal(offer.tax_rate)
    )
    return run(
        Given(
            currency=told.currency, places=told.places, day=read_date(told.price_date) or date.min,
            party=Party(account, "-"), lines=(line,), policies=tuple(policies),
        )
    )  # fmt: skip


async def test_a_device_estimates_from_a_snapshot_and_the_server_lists_what_differs(
    sales: Service, policy: Made, product: Made, account: Made
) -> None:
    level = uuid4().hex[:8]
    goods, customer = await product(cost=cny("40.00")), await account(level=level)
    mine: dict[str, Any] = {"products": [goods.name]}
    await policy("PROMOTION", percent="10", label="双十一", **mine)
    await policy("VOLUME", tiers=[{"fromQuantity": "10", "percent": "5"}], **mine)
    await policy("CUSTOMER_TYPE", percent="3", accountLevels=[level], **mine)
    await policy("CUSTOMER_TYPE", percent="9", accountLevels=["别人"], **mine)
    await policy("PROMOTION", percent="50", coupon="VIP", **mine)
    entries = [{"product": goods.name, "tiers": [{"price": cny("95.00"), "fromQuantity": "5"}]}]
    book = {"displayName": "协议价", "currency": "CNY", "accounts": [customer], "entries": entries}
    await sales.manager.ActivatePriceBook(name=(await sales.manager.CreatePriceBook(priceBook=book)).name)
    asked = {"account": customer, "currency": "CNY", "products": [goods.name]}
    told = await sales.sales1.GetPriceSnapshot(**asked)
    [offer] = told.offers
    assert [(tier.from_quantity, tier.price) for tier in offer.tiers] == [("0", "100"), ("5", "95")]
    assert [one.kind for one in told.policies if goods.name in one.products] != []
    shown = str(told)
    assert "内部名" not in shown
    assert "discountPolicies/" not in shown
    assert "VIP" not in shown
    assert not [one for one in told.policies if one.percent == "9"]
    for quantity in ("1", "5", "12"):
        guess = estimate(told, customer, goods.name, quantity)
        body = {"account": customer, "currency": "CNY", "validUntilDate": DAYS}
        line = {
            "product": goods.name, "quantity": quantity, "unitListPrice": cny(str(guess.lines[0].unit_price)),
            "discountAmount": cny(str(guess.lines[0].listed - guess.lines[0].net)), "taxRate": offer.tax_rate,
            "netAmount": cny(str(guess.lines[0].net)), "taxAmount": cny(str(guess.lines[0].tax)),
            "grossAmount": cny(str(guess.lines[0].gross)),
        }  # fmt: skip
        totals = {
            "listTotal": cny(str(guess.lines[0].listed)), "netTotal": line["netAmount"],
            "discountTotal": line["discountAmount"], "taxTotal": line["taxAmount"], "grossTotal": line["grossAmount"],
        }  # fmt: skip
        synced = await sales.sales1.SyncQuote(quote={**body, **totals, "lines": [line]})
        assert (list(synced.lines), list(synced.totals)) == ([], []), quantity
        assert synced.quote.state == pb.Quote.DRAFT
    # The price has risen since the snapshot; the estimate is wrong in every amount.
    gift = await product()
    await sales.admin.UpdateProduct(
        product={"name": goods.name, "listPrice": cny("110.00")}, updateMask="listPrice"
    )
    late = estimate(told, customer, goods.name, "1").lines[0]
    line = {
        "product": goods.name, "quantity": "1", "unitListPrice": cny("100.00"), "netAmount": cny(str(late.net)),
        "taxRate": "13",
    }  # fmt: skip
    made_up = {"product": gift.name, "quantity": "1", "freeWith": "1"}
    late_key = {"requestId": uuid4().hex}
    body = {"account": customer, "currency": "CNY", "lines": [line, made_up], "netTotal": cny("abc")}
    synced = await sales.sales1.SyncQuote(quote=body, **late_key)
    kinds = [(one.line, pb.CompareQuoteResponse.Kind.Name(one.kind)) for one in synced.lines]
    assert kinds == [("1", "CHANGED"), ("", "REMOVED")]
    fields = {one.field: (one.before, one.after) for one in synced.lines[0].fields}
    assert fields["unit_list_price"] == ("100.00 CNY", "110.00 CNY")
    assert "net_total" in {one.field for one in synced.totals}
    assert (await sales.sales1.SyncQuote(quote=body, **late_key)).quote.name == synced.quote.name
    await sales.sales1.SubmitQuote(name=synced.quote.name)


@pytest.mark.capability("s.discount")
@pytest.mark.capability("a.approval")
async def test_what_a_device_sends_later_is_held_like_what_is_typed_and_asks_once(
    sales: Service, product: Made, account: Made
) -> None:
    goods, customer = await product(), await account()
    quote = {"account": customer, "currency": "CNY", "lines": [{"product": goods.name, "quantity": "3"}]}
    key, sent = f"approvalPolicy.{uuid4()}", uuid4().hex
    async with sales.parts.configuration() as config:
        rule = {"action": "sales.quotes.create", "condition": f'account = "{customer}"', "priority": 1}
        await config.put(key, rule)
        await sales.eventually(lambda: sales.running.config.get(key))
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await sales.sales1.SyncQuote(quote=quote, requestId=sent)
            assert refused.value.reason == "HELD_FOR_APPROVAL"
        await config.delete(key)
        await sales.eventually(lambda: sales.running.config.get(key) is None)
    async with sales.running.sessions() as session:
        mine = select(HeldAction).where(HeldAction.policy == key.partition(".")[2])
        (held,) = await session.scalars(mine)
    asked = await sales.facts("crm.sales.v1.ActionHeld")
    (fact,) = [one for one in asked if one["heldAction"] == str(held.id)]
    assert (fact["target"], fact["facts"]["account"]) == (held.target, customer)
    assert not (await sales.sales1.ListQuotes(filter=f'account = "{customer}"')).quotes
    approval = {"name": f"approvals/{uuid4()}", "heldAction": str(held.id)}
    await sales.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, approval["name"])

    async def made() -> Any:
        return (await sales.sales1.ListQuotes(filter=f'account = "{customer}"')).quotes

    (one,) = await sales.eventually(made)
    assert (one.name, one.lines[0].quantity) == (held.target, "3")


async def test_the_rate_of_a_tax_code_is_that_of_billing_on_the_day_and_stays_with_the_version(
    sales: Service, product: Made, account: Made
) -> None:
    code, today = f"T{uuid4().hex[:6]}", local_date()

    async def told(rate: str, start: date, end: date | None = None) -> None:
        fact = {
            "name": f"taxRates/{uuid4()}", "code": code, "rate": rate, "state": "ACTIVE",
            "validFrom": start.isoformat(), **({"validTo": end.isoformat()} if end else {}),
        }  # fmt: skip
        await sales.tell("crm.billing.v1.TaxRateChanged", {"taxRate": fact}, fact["name"])

    goods = await product(taxRate="", taxCategory=code)
    customer = await account()
    body = {"account": customer, "currency": "CNY", "lines": [{"product": goods.name, "quantity": "1"}]}
    with pytest.raises(Refused) as refused:
        await sales.sales1.CreateQuote(quote=body)
    assert refused.value.violations == {"quote.lines[0].tax_rate": "REQUIRED"}
    await told("0.16", today - timedelta(days=300), today - timedelta(days=100))
    await told("0.13", today - timedelta(days=99))

    async def priced(amount: str) -> Any:
        try:
            made = await sales.sales1.CreateQuote(quote=body)
        except Refused:
            return None
        return made if made.tax_total.amount == amount else None

    first = await sales.eventually(lambda: priced("13.00"))
    assert (first.lines[0].tax_rate, first.gross_total.amount) == ("13", "113.00")
    await sales.sales1.SubmitQuote(name=first.name)
    await told("0.09", today)
    await sales.eventually(lambda: priced("9.00"))
    kept = await sales.sales1.GetQuote(name=first.name)
    assert (kept.lines[0].tax_rate, kept.gross_total.amount) == ("13", "113.00")
    typed = {**body, "lines": [{"product": goods.name, "quantity": "1", "taxRate": "6"}]}
    assert (await sales.sales1.CreateQuote(quote=typed)).tax_total.amount == "6.00"


@pytest.mark.capability("s.quote")
async def test_a_submitted_version_has_its_print_and_ended_links_name_the_one_that_counts(
    sales: Service, product: Made, account: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first print of a process reads the fonts.
    monkeypatch.setattr("crmkit.testing.DEADLINE", 90.0)
    lines = [{"product": (await product()).name, "quantity": "1"}]
    body = {"account": await account(), "currency": "CNY", "validUntilDate": DAYS, "lines": lines}
    first = await sales.sales1.CreateQuote(quote=body)
    submitted = await sales.sales1.SubmitQuote(name=first.name)

    async def print_all() -> None:
        async with sales.running.call("print_quotes", system("sales")) as call:
            # What other tests submitted need not be printed; what the job prints just now is left to it.
            others = (
                "UPDATE quotes SET pdf = 'x' WHERE id IN"
                " (SELECT id FROM quotes WHERE pdf = '' AND id <> :id FOR UPDATE SKIP LOCKED)"
            )
            await call.db.execute(text(others), {"id": first.name.rpartition("/")[2]})
            await print_quotes(datetime.now(UTC), call)

    async def has_print() -> Any:
        await print_all()
        found = await sales.sales1.GetQuote(name=first.name)
        return found if found.pdf else None

    kept = await sales.eventually(has_print, 90)
    assert kept.etag == submitted.etag
    shown = await sales.sales1.RenderQuote(name=first.name)
    assert shown.content[:5] == b"%PDF-"
    [stored] = await sales.facts("crm.sales.v1.FileStored", first.name)
    assert stored["file"]["sha256"] == kept.pdf
    await sales.sales1.SendQuote(name=first.name)
    link = await sales.sales1.CreateQuoteLink(name=first.name)
    second = await sales.sales1.NewQuoteVersion(name=first.name)
    await sales.sales1.SubmitQuote(name=second.name)
    await sales.sales1.SendQuote(name=second.name)
    anybody = sales.client("nobody")
    old = await anybody.OpenQuoteLink(token=link.token)
    assert (old.acceptable, old.quote.state, old.valid_number) == (False, pb.Quote.SUPERSEDED, second.number)
    newer = await sales.sales1.CreateQuoteLink(name=second.name)
    await sales.sales1.WithdrawQuote(name=second.name, reason="有误")
    gone = await anybody.OpenQuoteLink(token=newer.token)
    assert (gone.acceptable, gone.quote.state, gone.valid_number) == (False, pb.Quote.WITHDRAWN, "")
    await sales.sales1.RevokeQuoteLinks(name=second.name)
    with pytest.raises(Refused) as refused:
        await anybody.OpenQuoteLink(token=newer.token)
    assert refused.value.reason == "LINK_INVALID"


def test_a_quote_ends_at_midnight_of_its_last_day_in_the_sellers_zone() -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    quote = Quote(state="SENT", valid_until_date=date(2026, 11, 30))
    assert quote.acceptable(datetime(2026, 11, 30, 23, 59, 59, tzinfo=shanghai))
    assert not quote.acceptable(datetime(2026, 12, 1, 0, 0, 0, tzinfo=shanghai))
    assert not quote.acceptable(datetime(2026, 11, 30, 16, 0, 0, tzinfo=UTC))


@pytest.mark.capability("s.discount")
async def test_what_changes_after_it_was_submitted_for_approval_is_not_approved(
    sales: Service, product: Made, deal: Made
) -> None:
    goods, opportunity = await product(minPrice=cny("90.00"), cost=cny("60.00")), await deal()
    rival = await sales.manager.CreateCompetitor(competitor={"displayName": f"对手{uuid4().hex[:6]}"})
    rivals = [{"competitor": rival.name, "price": cny("79.00")}]
    await sales.sales1.UpdateOpportunity(
        opportunity={"name": opportunity.name, "competitors": rivals}, updateMask="competitors"
    )
    line = {"product": goods.name, "quantity": "1", "discountPercent": "20"}
    body = {
        "account": opportunity.account,
        "opportunity": opportunity.name,
        "currency": "CNY",
        "lines": [line],
    }
    made = await sales.sales1.CreateQuote(quote=body)
    async with sales.parts.configuration() as config:
        rule = {
            "action": "sales.quotes.submit", "condition": f'below_floor = true AND account = "{made.account}"',
            "priority": 1,
        }  # fmt: skip
        await config.put("approvalPolicy.void", rule)
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.void"))
        held = await sales.sales1.SubmitQuote(name=made.name)
        await config.delete("approvalPolicy.void")
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.void") is None)
    # What whoever decides looks at: chain, margin, last price, price of the competitor.
    seen = await sales.manager.GetQuote(name=made.name)
    assert (seen.margin_percent, seen.below_floor) == ("25", True)
    assert [step.kind for step in seen.lines[0].trace] == ["LIST_PRICE", "MANUAL", "TAX"]
    asked = {"account": made.account, "products": [goods.name]}
    assert not (await sales.manager.ListLastPrices(**asked)).prices[0].found
    known = await sales.manager.GetOpportunity(name=opportunity.name)
    assert known.competitors[0].price.amount == "79.00"
    cheaper = {"name": made.name, "lines": [{**line, "discountPercent": "30"}]}
    with pytest.raises(Refused) as refused:
        await sales.sales1.UpdateQuote(quote=cheaper, updateMask="lines")
    assert refused.value.reason == "PENDING_APPROVAL"
    approval = {"name": "approvals/v", "heldAction": held.pending_approval.partition("#")[2]}
    await sales.tell("crm.workspace.v1.ApprovalReturned", {"approval": approval}, "approvals/v")

    async def returned() -> bool:
        return not (await sales.sales1.GetQuote(name=made.name)).pending_approval

    await sales.eventually(returned)
    changed = await sales.sales1.UpdateQuote(quote=cheaper, updateMask="lines")
    assert changed.digest != made.digest
    # What was submitted is no more: a yes to it is a yes to nothing.
    await sales.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, "approvals/v")
    with pytest.raises(Refused) as refused:
        await sales.sales1.SubmitQuote(name=made.name)
    assert refused.value.reason == "MARGIN_BELOW_FLOOR"
    assert (await sales.sales1.GetQuote(name=made.name)).state == pb.Quote.DRAFT


async def test_the_last_price_comes_from_orders_too_and_says_who_sold_it(
    sales: Service, product: Made, account: Made
) -> None:
    goods, customer, seller = await product(), await account(), sales.person("sales2").employee
    order = {
        "name": f"orders/{uuid4()}", "number": "SO-1", "account": customer, "owner": seller,
        "items": [{"key": "1", "product": goods.name, "quantity": "4", "net": cny("340.00")}],
    }  # fmt: skip
    await sales.tell("crm.orders.v1.OrderPlaced", {"order": order}, order["name"], times=2)

    async def found() -> Any:
        [price] = (await sales.sales1.ListLastPrices(account=customer, products=[goods.name])).prices
        return price if price.found else None

    last = await sales.eventually(found)
    assert (last.quantity, last.net_unit_price.amount, last.employee) == ("4", "85.00", seller)
    assert (last.document, last.number, last.times) == (order["name"], "SO-1", 1)


@pytest.mark.capability("s.discount")
async def test_a_discount_on_payment_goes_with_the_accepted_quote(
    sales: Service, product: Made, account: Made, policy: Made
) -> None:
    goods = await product()
    await policy(
        "CASH",
        percent="2",
        cashMode="ON_PAYMENT",
        days=10,
        netDays=30,
        label="2/10 net 30",
        products=[goods.name],
    )
    body = {
        "account": await account(), "currency": "CNY", "lines": [{"product": goods.name, "quantity": "10"}],
    }  # fmt: skip
    made = await sales.sales1.CreateQuote(quote=body)
    assert made.net_total.amount == "1000.00"
    await sales.sales1.SubmitQuote(name=made.name)
    await sales.sales1.AcceptQuote(name=made.name, digest=made.digest)
    [fact] = await sales.facts("crm.sales.v1.QuoteAccepted", made.name)
    [term] = fact["quote"]["cashTerms"]
    assert (term["label"], term["percent"], term["amount"], term["days"], term["netDays"]) == (
        "2/10 net 30", "2", cny("20.00"), 10, 30,
    )  # fmt: skip
