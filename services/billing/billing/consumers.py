"""Facts of orders and of sales: what is agreed makes plans, what is delivered invoices, what is earned payouts."""

from crm.orders.v1 import events_pb2 as orders_events
from crm.sales.v1 import events_pb2 as sales_events
from crmkit.call import Call
from crmkit.mapping import read_date
from sqlalchemy import select

from billing.model.invoice import Invoice
from billing.model.payout import draft_commission
from billing.sources import activate_plan, bill_delivery, plan_of_contract, plan_of_order


async def on_contract_signed(event: orders_events.ContractSigned, call: Call) -> None:
    """The plan is drafted, once for each contract."""
    await plan_of_contract(event.contract, call)


async def on_contract_activated(event: orders_events.ContractActivated, call: Call) -> None:
    """The plan counts, and what is due on activation is drafted."""
    plan = await plan_of_contract(event.contract, call)
    if plan is not None:
        await activate_plan(plan, read_date(event.contract.activation_date), call)


async def on_contract_ended(event: orders_events.ContractEnded, call: Call) -> None:
    """The plan is done or dropped; drafts of its instalments go with it. An end that comes first counts all the same."""
    contract = event.contract
    if not contract.sign_date.year:
        return
    plan = await plan_of_contract(contract, call)
    if plan is None:
        return
    if event.how != "CLOSED":
        drafts = select(Invoice).where(
            Invoice.plan == plan.name, Invoice.state == "DRAFT", Invoice.delivery == ""
        )
        for draft in await call.db.scalars(drafts):
            plan.add_invoiced(draft.instalment, -draft.gross)
            await call.db.delete(draft)
    plan.end(event.how)


async def on_order_placed(event: orders_events.OrderPlaced, call: Call) -> None:
    """An order without a contract has a plan of its own."""
    if not event.order.contract:
        await plan_of_order(event.order, call)


async def on_order_cancelled(event: orders_events.OrderCancelled, call: Call) -> None:
    """What was not delivered is not due; what was invoiced stays."""
    if event.order.contract:
        return
    plan = await plan_of_order(event.order, call)
    if plan is None or plan.state != "ACTIVE":
        return
    if plan.invoiced:
        plan.shrink(plan.invoiced, call)
    else:
        plan.end("CANCELLED")


async def on_delivery_confirmed(event: orders_events.DeliveryConfirmed, call: Call) -> None:
    """What was accepted is invoiced, or makes instalments due; in the order of their names, as others lock them."""
    contracts = {contract.name: contract for contract in event.contracts}
    for order in sorted(event.orders, key=lambda order: order.name):
        await bill_delivery(event.delivery, order, contracts.get(order.contract), call)


async def on_commission_payout_requested(event: sales_events.CommissionPayoutRequested, call: Call) -> None:
    """One payout is drafted for each statement of commissions."""
    await draft_commission(event, call)
