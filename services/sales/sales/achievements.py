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
from crmkit.listing import ZONE
from crmkit.mapping import read_date
from sqlalchemy import exists, func, select

from sales.model.lead import uuid_of
from sales.model.opportunity import Opportunity
from sales.model.product import Product
from sales.model.quote import Quote
from sales.model.target import Target, TargetFact, achieve

HUNDRED = Decimal(100)
NOTHING = Decimal(0)


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
    quote = await call.named(Quote, event.quote.name)
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
    if await _corrected("SIGNED", contract.name, call):
        return
    shares = await _by_line(contract.lines, call) or {"": Decimal(contract.net.amount or 0)}
    await _money("SIGNED", contract.name, "", contract, shares, contract.currency, today(call), call)


async def on_order_counted(event: orders.OrderPlaced, call: Call) -> None:
    """A placed order, by product line."""
    if not await _corrected("ORDERED", event.order.name, call):
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


@listens("crm.orders.v1.ContractTerminated")
async def on_contract_uncounted(event: Fact, call: Call) -> None:
    """What was signed no longer counts, from then on."""
    await _become("SIGNED", event.payload["contract"], {}, event, call)


@listens("crm.orders.v1.ContractChanged")
async def on_contract_recounted(event: Fact, call: Call) -> None:
    """A changed contract counts as it is now: the difference on the day of the change."""
    contract = event.payload["contract"]
    shares = await _told_by_line(contract.get("lines", []), call) or {"": _net(contract)}
    await _become("SIGNED", contract, shares, event, call)


@listens("crm.orders.v1.OrderAmended")
async def on_order_amended(event: Fact, call: Call) -> None:
    """An amended order counts as it is now."""
    order = event.payload["order"]
    await _become("ORDERED", order, await _told_by_line(order.get("items", []), call), event, call)


@listens("crm.orders.v1.ReturnAccepted")
async def on_return_counted(event: Fact, call: Call) -> None:
    """What came back at the prices that were charged."""
    back = event.payload["return"]
    shares = {line: -value for line, value in (await _told_by_line(back.get("lines", []), call)).items()}
    await _told("ORDERED", back["name"], back, shares, event, call)


@listens("crm.billing.v1.PaymentRefunded")
async def on_money_refunded(event: Fact, call: Call) -> None:
    """Money that was paid back, net of tax, for each thing that it had paid."""
    for target in event.payload.get("targets", []):
        allocation = target["allocation"]
        key = uuid_of(target["opportunity"]) if target.get("opportunity") else None
        deal = await call.find(Opportunity, Opportunity.id == key) if key else None
        record = target["invoice"] if deal is None else {
            "owner": deal.owner, "department": deal.department, "account": deal.account,
            "channelPartner": deal.channel_partner,
        }  # fmt: skip
        net = {"net": allocation.get("net") or {}}
        currency = net["net"].get("currencyCode", "")
        shares = {"": -_net(net)}
        await _told("COLLECTED", allocation["name"], record | {"currency": currency}, shares, event, call)


@listens("crm.insight.v1.MetricMeasured")
async def on_metric_measured(event: Fact, call: Call) -> None:
    """A figure of the analysis for a person or a department on a day, or a correction of one."""
    told = event.payload
    value = told.get("money") or {"amount": told.get("value", "0"), "currencyCode": ""}
    unit = str(told.get("unit", ""))
    person = unit if unit.startswith("employees/") else ""
    fact = TargetFact(
        metric="CUSTOM", measure=told["metric"], day=date.fromisoformat(told["day"]) if "day" in told else today(call),
        value=Decimal(value["amount"]), currency=value["currencyCode"], employee=person,
        fact_department="" if person else unit, source=event.aggregate, key=str(event.id),
    )  # fmt: skip
    await achieve([fact], call)


@listens("crm.workspace.v1.ResourceChanged.employees.UPDATED")
async def on_person_moved(events: list[Fact], call: Call) -> None:
    """The target of who works in another department goes along, by the days."""
    for event in events:
        person = event.payload["resource"]
        if not person.get("department"):
            continue
        day = event.time.astimezone(ZONE).date()
        running = select(Target).where(Target.subject == person["name"], Target.to_date >= day)
        for target in await call.db.scalars(running.order_by(Target.id).with_for_update()):
            if target.department != person["department"]:
                await target.move(person["department"], day, call)


HANDLERS = [
    on_contract_uncounted,
    on_contract_recounted,
    on_order_amended,
    on_return_counted,
    on_money_refunded,
    on_metric_measured,
    on_person_moved,
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
    deal = await call.named(Opportunity, target.opportunity)
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
    region = await region_of(record.account, call)
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


async def _corrected(metric: str, source: str, call: Call) -> bool:
    """Whether a later fact has told already what a document counts for."""
    await call.one_at_a_time([f"targetFacts:{metric}:{source}"])
    told = TargetFact.metric == metric, TargetFact.source == source
    async with call.everybody():
        return (
            await call.db.scalar(select(exists().where(*told, TargetFact.key.startswith(f"{source}!"))))
            or False
        )


async def _become(
    metric: str, record: dict[str, Any], shares: dict[str, Decimal], event: Fact, call: Call
) -> None:
    """What a document counts for is from now on this; the difference is told on the day of the change."""
    await call.one_at_a_time([f"targetFacts:{metric}:{record['name']}"])
    told = select(TargetFact.product_line, func.sum(TargetFact.value)).where(
        TargetFact.metric == metric, TargetFact.source == record["name"]
    )
    async with call.everybody():
        rows = await call.db.execute(told.group_by(TargetFact.product_line))
    before: dict[str, Decimal] = {line: value or NOTHING for line, value in rows}
    changes = {line: shares.get(line, NOTHING) - before.get(line, NOTHING) for line in {*shares, *before}}
    # Where nothing was told before, a line of nothing says that the first fact, when it comes, is out of date.
    kept = {line: value for line, value in changes.items() if value} if before else changes or {"": NOTHING}
    await _told(metric, record["name"], record, kept, event, call)


async def _told(
    metric: str, source: str, record: dict[str, Any], shares: dict[str, Decimal], event: Fact, call: Call
) -> None:
    """Facts of a document as its JSON has it, each once for the fact that told."""
    account: str = record.get("account", "")
    lines = [*record.get("lines", []), *record.get("items", [])]
    currency: str = record.get("currency") or next(
        (line["net"]["currencyCode"] for line in lines if line.get("net")), ""
    )
    facts = [
        TargetFact(
            metric=metric, day=event.time.astimezone(ZONE).date(), value=value, currency=currency,
            employee=record.get("owner", ""), fact_department=record.get("department", ""), source=source,
            product_line=line, region=await region_of(account, call), account=account,
            partner=record.get("channelPartner", ""), key=f"{source}!{event.id}#{line}",
        )
        for line, value in sorted(shares.items())
    ]  # fmt: skip
    await achieve(facts, call)


async def _told_by_line(lines: list[dict[str, Any]], call: Call) -> dict[str, Decimal]:
    """The net amounts of lines by product line, as JSON has them."""
    named = await _lines_of([line.get("product", "") for line in lines], call)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        sums[named.get(line.get("product", ""), "")] += _net(line)
    return dict(sums)


def _net(told: dict[str, Any]) -> Decimal:
    return Decimal((told.get("net") or {}).get("amount") or 0)


async def _one(metric: str, source: str, employee: str, account: str, call: Call) -> None:
    if employee:
        fact = TargetFact(
            metric=metric, day=today(call), value=Decimal(1), employee=employee, source=source, key=source,
            region=await region_of(account, call), account=account,
        )  # fmt: skip
        await achieve([fact], call)


async def _by_line(items: Iterable[Any], call: Call) -> dict[str, Decimal]:
    """The net amounts by the product lines of the products."""
    found = [(item.product, Decimal(item.net.amount)) for item in items if item.net.amount]
    lines = await _lines_of([product for product, _ in found], call)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for product, value in found:
        sums[lines.get(product, "")] += value
    return dict(sums)


async def _lines_of(products: Iterable[str], call: Call) -> dict[str, str]:
    keys = {uuid_of(product) for product in products if product}
    rows = await call.db.execute(select(Product.id, Product.line).where(Product.id.in_(keys)))
    return {f"products/{row.id}": row.line for row in rows}


async def region_of(account: str, call: Call) -> str:
    """The division code of where a customer is; empty where nobody has said."""
    return _division(await call.copy(account) or {}) if account else ""


def _division(account: dict[str, Any]) -> str:
    return next((a["divisionCode"] for a in account.get("addresses", []) if a.get("divisionCode")), "")
