"""Facts of sales that make drafts, facts of billing that fill the figures."""

from decimal import Decimal
from typing import Any

from crm.billing.v1 import events_pb2 as billing_events
from crm.orders.v1 import events_pb2 as events
from crm.orders.v1 import pb
from crm.sales.v1 import events_pb2 as sales_events
from crmkit.amounts import number
from crmkit.call import Call
from crmkit.company import today
from crmkit.values import Money

from orders.model.contract import Contract
from orders.model.figure import COLLECTED, EXECUTED, INVOICED, record, undo
from orders.model.order import Order


async def on_opportunity_won(event: sales_events.OpportunityWon, call: Call) -> None:
    """One contract draft for each deal; the accepted quote's lines count before the deal's own."""
    deal = event.opportunity
    # A deal's two facts come close together. The unique index keeps them from two contracts; this from a retry.
    await call.one_at_a_time([deal.name])
    if await call.find(Contract, Contract.opportunity == deal.name) is not None:
        return
    if event.HasField("quote"):
        await _draft_contract(event.quote, deal.name, call, deal.channel_partner)
        return
    amount = Money.parse(deal.amount)
    currency = amount.currency if amount else next((line.amount.currency_code for line in deal.lines), "")
    if not currency:
        return
    lines = [
        pb.Contract.Line(
            product=line.product, description=line.description or deal.display_name, quantity=line.quantity,
            unit_price=line.unit_price,
        )
        for line in deal.lines
    ]  # fmt: skip
    await call.add(
        Contract(
            display_name=deal.display_name, account=deal.account, opportunity=deal.name, currency=currency, lines=lines,
            gross=None if lines else amount, effective_from=today(call), channel_partner=deal.channel_partner,
            **_held_by(deal),
        )
    )  # fmt: skip


async def on_quote_accepted(event: sales_events.QuoteAccepted, call: Call) -> None:
    """A quote of a deal makes the deal's contract draft, or fills it while nobody has touched it; else a draft order."""
    quote = event.quote
    if not quote.opportunity:
        if await call.find(Order, Order.source == quote.name) is None:
            await _draft_order(quote, call)
        return
    await call.one_at_a_time([quote.opportunity])
    found = await call.find(Contract, Contract.opportunity == quote.opportunity, lock=True)
    if found is None:
        await _draft_contract(quote, quote.opportunity, call)
    elif found.state == "DRAFT" and not found.quote and found.version == 1:
        found.lines, found.quote, found.currency = _contract_lines(quote), quote.name, quote.currency
        found.contact, found.terms = quote.contact or found.contact, quote.terms or found.terms
        found.channel_partner = quote.channel_partner or found.channel_partner
        found.net = found.tax = found.gross = None
        found.complete(frozenset())


async def on_delivery_confirmed(event: events.DeliveryConfirmed, call: Call) -> None:
    """What was accepted counts as executed on the contract."""
    delivery = event.delivery
    for order in event.orders:
        items = {item.key: item for item in order.items}
        value = sum(
            (
                number(items[line.item].gross.amount)
                * number(line.accepted)
                / number(items[line.item].quantity)
                for line in delivery.lines
                if line.order == order.name
            ),
            Decimal(0),
        )
        amount = Money(value, order.currency).rounded().amount
        await record(call, f"{delivery.name}#{order.name}", EXECUTED, order.contract, order.name, amount)


async def on_invoice_issued(event: billing_events.InvoiceIssued, call: Call) -> None:
    """Invoiced on contract, order and item."""
    invoice = event.invoice
    if not (invoice.contract or invoice.order):
        return
    items: dict[str, Decimal] = {}
    for line in invoice.lines:
        if line.order == invoice.order and line.order_item:
            items[line.order_item] = items.get(line.order_item, Decimal(0)) + number(line.quantity)
    amount = number(invoice.gross.amount)
    quantities = {key: str(quantity) for key, quantity in items.items()}
    await record(call, invoice.name, INVOICED, invoice.contract, invoice.order, amount, quantities)


async def on_invoice_voided(event: billing_events.InvoiceVoided, call: Call) -> None:
    """Not invoiced any more."""
    invoice = event.invoice
    if invoice.contract or invoice.order:
        await undo(call, invoice.name, INVOICED, invoice.contract, invoice.order)


async def on_credit_note_issued(event: billing_events.CreditNoteIssued, call: Call) -> None:
    """As much less is invoiced; what was delivered stays invoiced by quantity."""
    note, invoice = event.credit_note, event.invoice
    if invoice.contract or invoice.order:
        less = -number(note.gross.amount)
        await record(call, note.name, INVOICED, invoice.contract, invoice.order, less)


async def on_credit_note_voided(event: billing_events.CreditNoteVoided, call: Call) -> None:
    """Invoiced as before."""
    invoice = event.invoice
    if invoice.contract or invoice.order:
        await undo(call, event.credit_note.name, INVOICED, invoice.contract, invoice.order)


async def on_payment_allocated(event: billing_events.PaymentAllocated, call: Call) -> None:
    """Collected on contract and order."""
    for target in event.targets:
        one = target.allocation
        if one.contract or one.order:
            await record(call, one.name, COLLECTED, one.contract, one.order, number(one.amount.amount))


async def on_allocation_reversed(event: billing_events.AllocationReversed, call: Call) -> None:
    """Not collected any more."""
    for target in event.targets:
        one = target.allocation
        if one.contract or one.order:
            await undo(call, one.name, COLLECTED, one.contract, one.order)


async def _draft_contract(quote: Any, opportunity: str, call: Call, partner: str = "") -> None:
    await call.add(
        Contract(
            display_name=quote.display_name, account=quote.account, contact=quote.contact, opportunity=opportunity,
            quote=quote.name, currency=quote.currency, lines=_contract_lines(quote), terms=quote.terms,
            effective_from=today(call), channel_partner=quote.channel_partner or partner, **_held_by(quote),
        )
    )  # fmt: skip


async def _draft_order(quote: Any, call: Call) -> None:
    items = [pb.Order.Item(**_line(line, index)) for index, line in enumerate(quote.lines)]
    await call.add(
        Order(
            account=quote.account, contact=quote.contact, quote=quote.name, currency=quote.currency, items=items,
            payment_terms=quote.terms[:1000], display_name=quote.display_name, source=quote.name,
            channel="AGENT" if quote.channel_partner else "SALES", channel_partner=quote.channel_partner, **_held_by(quote),
        )
    )  # fmt: skip


def _contract_lines(quote: Any) -> list[Any]:
    return [pb.Contract.Line(**_line(line, index)) for index, line in enumerate(quote.lines)]


def _line(line: Any, index: int) -> dict[str, Any]:
    """A quote's line, field by field; nothing is typed again."""
    fields: dict[str, Any] = {
        "product": line.product, "description": line.description, "quantity": line.quantity, "unit": line.unit,
        "unit_price": line.unit_list_price, "tax_rate": line.tax_rate, "quote_line": str(index + 1),
    }  # fmt: skip
    if number(line.discount_amount.amount):
        fields["discount"] = line.discount_amount
    return fields


def _held_by(source: Any) -> dict[str, Any]:
    """Whoever held the deal holds what comes of it."""
    return {
        "owner": source.owner, "department": source.department, "creator": source.owner,
        "collaborators": list(source.collaborators),
    }  # fmt: skip
