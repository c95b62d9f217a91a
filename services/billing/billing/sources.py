"""Plans and invoices that facts make: one for each source.

An order without a contract is billed by what is delivered and accepted, or where it says so when it is placed. A contract
with one instalment is billed by deliveries too, as far as that is not invoiced already; one with several by these.
"""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from crm.billing.v1 import pb
from crm.orders.v1 import pb as orders_pb
from crmkit.amounts import number, plain, split
from crmkit.call import Call
from crmkit.company import today
from crmkit.mapping import read_date
from crmkit.values import Money, zero
from google.protobuf import json_format

from billing.allocating import plan_of, take_advances, use_credit
from billing.model.balance import post
from billing.model.invoice import Invoice
from billing.model.plan import PaymentPlan, Trigger, delivery_parts

# What applies where a contract says nothing: everything, thirty days after it is in force, invoiced at once.
DEFAULT_TERMS = 30


async def plan_of_contract(contract: Any, call: Call) -> PaymentPlan | None:
    """The contract's plan, drafted where there is none yet; None for a contract without an amount."""
    found = await call.find(PaymentPlan, PaymentPlan.contract == contract.name, lock=True)
    total = Money.parse(contract.gross)
    if found is not None or not total:
        return found
    parts = [
        pb.PaymentPlan.Instalment(
            title=part.title, percent=part.percent, trigger=part.trigger, terms_days=part.terms_days,
            amount=part.amount if part.HasField("amount") else None, date=part.date if part.HasField("date") else None,
        )
        for part in contract.instalments
    ]  # fmt: skip
    basis = _basis(contract.lines, contract)
    if not parts:
        parts = [_whole("合同全款", Trigger.ACTIVATION)]
        basis["issueAtOnce"] = True
    return await call.add(
        PaymentPlan(
            display_name=f"{contract.number} {contract.display_name}".strip()[:200], contract=contract.name, total=total,
            instalments=parts, opportunity=contract.opportunity, basis=basis, **_parties(contract),
        )
    )  # fmt: skip


async def plan_of_order(order: Any, call: Call) -> PaymentPlan | None:
    """The plan of an order without a contract: everything on delivery, or invoiced at once. None without an amount."""
    found = await call.find(PaymentPlan, PaymentPlan.order == order.name, lock=True)
    total = Money.parse(order.gross)
    if found is not None or not total:
        return found
    basis, at_once = _basis(order.items, order), order.invoicing == orders_pb.Order.ORDERED
    if at_once:
        basis["issueAtOnce"] = True
        for line, item in zip(basis["lines"], order.items, strict=True):
            line |= {"order": order.name, "orderItem": item.key}
    plan = await call.add(
        PaymentPlan(
            display_name=f"{order.number} {order.display_name}".strip()[:200], order=order.name, total=total,
            instalments=[_whole("订单货款", Trigger.ACTIVATION if at_once else Trigger.DELIVERY)],
            opportunity=order.opportunity, basis=basis, **_parties(order),
        )
    )  # fmt: skip
    await activate_plan(plan, None, call)
    return plan


async def activate_plan(plan: PaymentPlan, day: date | None, call: Call) -> None:
    """The plan counts; what is due by that is drafted, and issued where the contract gave no plan of its own."""
    if plan.state != "DRAFT":
        return
    plan.activate(call, day)
    for part in plan.instalments:
        if part.trigger == Trigger.ACTIVATION:
            invoice = await draft_instalment(plan, part.key, call)
            if invoice is not None and plan.basis.get("issueAtOnce"):
                await issue(invoice, read_date(part.due), call)


async def draft_instalment(plan: PaymentPlan, key: str, call: Call) -> Invoice | None:
    """The draft invoice of what is not yet invoiced of an instalment; None where nothing is left."""
    part, amount = plan.part(key), plan.to_invoice(key)
    if amount.amount <= 0:
        return None
    plan.add_invoiced(key, amount)
    return await call.add(
        Invoice(
            source=f"{plan.name}#{key}", account=plan.account, own_entity=plan.own_entity, currency=amount.currency,
            contract=plan.contract, order=plan.order, plan=plan.name, instalment=key, opportunity=plan.opportunity,
            quote=plan.basis.get("quote", ""), terms_days=part.terms_days, lines=_instalment_lines(plan, part, amount),
            display_name=f"{plan.display_name} · {part.title}"[:200], owner=plan.owner, department=plan.department,
        )
    )  # fmt: skip


async def bill_delivery(delivery: Any, order: Any, contract: Any | None, call: Call) -> None:
    """What a confirmed delivery makes due: its own invoice, or instalments of the contract's plan."""
    accepted: dict[str, Decimal] = {}
    for line in delivery.lines:
        if line.order == order.name and number(line.accepted):
            accepted[line.item] = accepted.get(line.item, Decimal(0)) + number(line.accepted)
    if not accepted:
        return
    plan = await (plan_of_contract(contract, call) if contract is not None else plan_of_order(order, call))
    if plan is not None and contract is not None and contract.activation_date.year:
        await activate_plan(plan, read_date(contract.activation_date), call)
    if plan is not None and plan.state == "CANCELLED":
        plan = None
    if not order.contract and order.invoicing == orders_pb.Order.ORDERED:
        return
    if plan is None or plan.order or len(plan.instalments) == 1:
        await _draft_delivery(delivery, order, accepted, plan, call)
    elif order.delivery_state == orders_pb.Order.FULL:
        for key in delivery_parts(plan.instalments):
            plan.trigger(key, today(call), call)
            await draft_instalment(plan, key, call)


async def issue(invoice: Invoice, due: date | None, call: Call) -> None:
    """Numbers the invoice, makes it final, adds it to what the account owes; what was paid ahead pays it."""
    plan = await plan_of(invoice.plan, call)
    if plan is not None and due is None:
        # An agreed day counts, unless it has passed before anybody was asked to pay.
        agreed = read_date(plan.part(invoice.instalment).due)
        due = max(agreed, today(call)) if agreed is not None else None
    await invoice.issue(call, due)
    taken = await take_advances(invoice, plan, call) if plan is not None else zero(invoice.currency)
    await post(call, invoice, issued=invoice.gross, allocated=taken, advances=-taken)
    await use_credit(invoice, call)


async def _draft_delivery(
    delivery: Any, order: Any, accepted: dict[str, Decimal], plan: PaymentPlan | None, call: Call
) -> None:
    """The delivery's own invoice. What its contract has invoiced already is not invoiced again."""
    source = f"{delivery.name}#{order.name}"
    if await call.find(Invoice, Invoice.source == source) is not None:
        return
    lines = _delivery_lines(order, accepted)
    gross = sum((Money.parse(line.gross) or zero(order.currency) for line in lines), zero(order.currency))
    part: Any = plan.instalments[0] if plan is not None else None
    if plan is not None and gross > plan.to_invoice(part.key):
        if plan.contract:
            await draft_instalment(plan, part.key, call)
            return
        plan = part = None
    invoice = Invoice(
        source=source, account=order.account, own_entity=order.own_entity, currency=order.currency, contract=order.contract,
        order=order.name, delivery=delivery.name, opportunity=order.opportunity, quote=order.quote, lines=lines,
        terms_days=DEFAULT_TERMS, display_name=f"{delivery.number} {order.display_name}".strip()[:200], owner=order.owner,
        department=order.department,
    )  # fmt: skip
    if plan is not None:
        invoice.plan, invoice.instalment, invoice.terms_days = plan.name, part.key, part.terms_days
        if part.trigger == Trigger.DELIVERY:
            plan.trigger(part.key, today(call), call)
        plan.add_invoiced(part.key, gross)
    await call.add(invoice)


def _delivery_lines(order: Any, accepted: dict[str, Decimal]) -> list[Any]:
    """Accepted quantities at the order's prices. Shares are rounded on the sum so far, so that all parts are the item."""
    lines = list[Any]()
    for item in order.items:
        quantity = accepted.get(item.key, Decimal(0))
        if not quantity:
            continue
        now, whole = number(item.delivered), number(item.quantity)
        line = pb.Invoice.Line(
            product=item.product, description=item.description, quantity=plain(quantity), unit=item.unit,
            unit_price=item.unit_price, tax_rate=item.tax_rate, order=order.name, order_item=item.key,
        )  # fmt: skip
        for name in ("discount", "net", "tax"):
            money = Money.parse(getattr(item, name))
            if money is not None:
                before = (money * ((now - quantity) / whole)).rounded()
                share = (money * (now / whole)).rounded() - before
                getattr(line, name).CopyFrom(share.message())
        nothing = zero(order.currency)
        gross = (Money.parse(line.net) or nothing) + (Money.parse(line.tax) or nothing)
        line.gross.CopyFrom(gross.message())
        lines.append(line)
    return lines


def _instalment_lines(plan: PaymentPlan, part: Any, amount: Money) -> list[Any]:
    """The contract's own lines where everything is charged at once; else one line for each tax rate."""
    lines = [
        json_format.ParseDict(line, pb.Invoice.Line(), ignore_unknown_fields=True)
        for line in plan.basis.get("lines", ())
    ]
    if lines and amount == plan.total:
        return lines
    groups = _tax_groups(lines, plan)
    shares = split(amount, [gross.amount for _, _, gross in groups])
    drafted = list[Any]()
    for (rate, net, gross), share in zip(groups, shares, strict=True):
        net_share = (net * (share.amount / gross.amount)).rounded()
        line = pb.Invoice.Line(
            description=f"{plan.display_name} · {part.title}"[:500], quantity="1", tax_rate=rate
        )
        line.unit_price.CopyFrom(net_share.message())
        line.net.CopyFrom(net_share.message())
        line.tax.CopyFrom((share - net_share).message())
        line.gross.CopyFrom(share.message())
        drafted.append(line)
    return drafted


def _tax_groups(lines: Iterable[Any], plan: PaymentPlan) -> list[tuple[str, Money, Money]]:
    """Tax rate, net and gross of what the plan charges."""
    groups: dict[str, tuple[Money, Money]] = {}
    nothing = zero(plan.total.currency)
    for line in lines:
        net, gross = groups.get(line.tax_rate, (nothing, nothing))
        groups[line.tax_rate] = (
            net + (Money.parse(line.net) or nothing),
            gross + (Money.parse(line.gross) or nothing),
        )
    found = [(rate, net, gross) for rate, (net, gross) in groups.items() if gross]
    return found or [
        ("", Money.of(plan.basis.get("net") or plan.total.amount, plan.total.currency), plan.total)
    ]


def _basis(lines: Iterable[Any], document: Any) -> dict[str, Any]:
    kept = [json_format.MessageToDict(line) for line in lines]
    for line in kept:
        for name in ("key", "state", "specification"):
            line.pop(name, None)
    return {"lines": kept, "net": document.net.amount, "quote": document.quote}


def _whole(title: str, trigger: Any) -> Any:
    return pb.PaymentPlan.Instalment(title=title, percent="100", trigger=trigger, terms_days=DEFAULT_TERMS)


def _parties(document: Any) -> dict[str, Any]:
    return {
        "account": document.account, "own_entity": document.own_entity, "owner": document.owner,
        "department": document.department, "collaborators": list(document.collaborators),
    }  # fmt: skip
