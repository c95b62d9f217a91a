"""Facts that count for targets. Each may come twice and in any order; what is taken back counts against the day of that."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from crm.billing.v1 import events_pb2 as billing
from crm.customer.v1 import events_pb2 as customer
from crm.customer.v1 import pb as customer_pb
from crm.orders.v1 import events_pb2 as orders
from crm.sales.v1 import events_pb2 as sales
from crmkit.call import Call
from crmkit.company import today
from crmkit.events import Fact, listens
from crmkit.mapping import read_date
from sqlalchemy import select

from sales.model.lead import uuid_of
from sales.model.opportunity import Opportunity
from sales.model.product import Product
from sales.model.quote import Quote
from sales.model.target import TargetFact, achieve

HUNDRED = Decimal(100)


@listens("crm.customer.v1.AccountCreated")
async def on_account_created(events: list[Fact], call: Call) -> None:
    """New customers."""
    accounts: list[dict[str, Any]] = [event.payload["account"] for event in events]
    facts = [
        TargetFact(
            metric="NEW_CUSTOMERS", day=today(call), value=Decimal(1), employee=account["owner"], source=account["name"],
            key=account["name"], region=_division(account), account=account["name"],
        )
        for account in accounts
        if account.get("owner")
    ]  # fmt: skip
    await achieve(facts, call)


async def on_call_logged(event: customer.InteractionLogged, call: Call) -> None:
    """A call with a customer."""
    logged = event.interaction
    if logged.channel == customer_pb.Interaction.CALL:
        await _one("CALLS", logged.name, logged.owner, logged.account, call)


async def on_visit_completed(event: sales.VisitCompleted, call: Call) -> None:
    """A visit."""
    await _one("VISITS", event.visit.name, event.visit.owner, event.visit.account, call)


async def on_quote_sent(event: sales.QuoteSent, call: Call) -> None:
    """A version of a quote."""
    await _one("QUOTES", event.quote.name, event.quote.owner, event.quote.account, call)


async def on_quote_accepted(event: sales.QuoteAccepted, call: Call) -> None:
    """What is earned by what was accepted, where the cost of every line is known."""
    quote = await call.find(Quote, Quote.id == uuid_of(event.quote.name))
    if quote is None or quote.margin_percent is None or quote.net_total is None:
        return
    cent = quote.net_total.amount.as_tuple().exponent
    margin = (quote.net_total.amount * quote.margin_percent / HUNDRED).quantize(
        Decimal((0, (1,), int(cent))), ROUND_HALF_UP
    )
    shares = {"": margin}
    await _money("MARGIN", quote.name, "", quote, shares, quote.net_total.currency, today(call), call)


async def on_contract_counted(event: orders.ContractSigned, call: Call) -> None:
    """A signed contract, by product line."""
    contract = event.contract
    shares = await _by_line(contract.lines, call) or {"": Decimal(contract.net.amount or 0)}
    await _money("SIGNED", contract.name, "", contract, shares, contract.currency, today(call), call)


async def on_order_counted(event: orders.OrderPlaced, call: Call) -> None:
    """A placed order, by product line."""
    await _order(event.order, 1, "", call)


async def on_order_cancelled(event: orders.OrderCancelled, call: Call) -> None:
    """What was ordered no longer counts."""
    await _order(event.order, -1, "#cancelled", call)


async def on_money_collected(event: billing.PaymentAllocated, call: Call) -> None:
    """Money that came in, net of tax."""
    for target in event.targets:
        await _collected(target, 1, "", call)


async def on_collection_reversed(event: billing.AllocationReversed, call: Call) -> None:
    """Money that went back."""
    for target in event.targets:
        await _collected(target, -1, "#reversed", call)


HANDLERS = [
    on_account_created,
    on_call_logged,
    on_visit_completed,
    on_quote_sent,
    on_quote_accepted,
    on_contract_counted,
    on_order_counted,
    on_order_cancelled,
    on_money_collected,
    on_collection_reversed,
]


async def _collected(target: Any, sign: int, suffix: str, call: Call) -> None:
    allocation = target.allocation
    if not allocation.net.amount:
        return
    deal = (
        await call.find(Opportunity, Opportunity.id == uuid_of(target.opportunity))
        if target.opportunity
        else None
    )
    # Without a deal it is whose invoice it is.
    record = deal if deal is not None else target.invoice
    day = (read_date(allocation.date) if sign > 0 else None) or today(call)
    shares = {"": sign * Decimal(allocation.net.amount)}
    currency = allocation.net.currency_code
    await _money("COLLECTED", allocation.name, suffix, record, shares, currency, day, call)


async def _order(order: Any, sign: int, suffix: str, call: Call) -> None:
    shares = {line: sign * value for line, value in (await _by_line(order.items, call)).items()}
    currency = next((item.net.currency_code for item in order.items if item.net.currency_code), "")
    await _money("ORDERED", order.name, suffix, order, shares, currency, today(call), call)


async def _money(
    metric: str, source: str, suffix: str, record: Any, shares: dict[str, Decimal], currency: str, day: date, call: Call
) -> None:  # fmt: skip
    region = await _region(record.account, call)
    facts = [
        TargetFact(
            metric=metric, day=day, value=value, currency=currency, employee=record.owner, source=source,
            fact_department=record.department, product_line=line, region=region, account=record.account,
            partner=getattr(record, "channel_partner", ""), key=f"{source}{suffix}#{line}",
        )
        for line, value in shares.items()
        if value
    ]  # fmt: skip
    await achieve(facts, call)


async def _one(metric: str, source: str, employee: str, account: str, call: Call) -> None:
    if employee:
        fact = TargetFact(
            metric=metric, day=today(call), value=Decimal(1), employee=employee, source=source, key=source,
            region=await _region(account, call), account=account,
        )  # fmt: skip
        await achieve([fact], call)


async def _by_line(items: Iterable[Any], call: Call) -> dict[str, Decimal]:
    """The net amounts by the product lines of the products."""
    found = [(item.product, Decimal(item.net.amount)) for item in items if item.net.amount]
    keys = {uuid_of(product) for product, _ in found if product}
    rows = await call.db.execute(select(Product.id, Product.line).where(Product.id.in_(keys)))
    lines = {f"products/{row.id}": row.line for row in rows}
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for product, value in found:
        sums[lines.get(product, "")] += value
    return dict(sums)


async def _region(account: str, call: Call) -> str:
    return _division(await call.copy(account) or {}) if account else ""


def _division(account: dict[str, Any]) -> str:
    return next((a["divisionCode"] for a in account.get("addresses", []) if a.get("divisionCode")), "")
