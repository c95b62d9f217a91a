"""Facts of other services: twice, in odd order, and what they make."""

from typing import Any

import pytest
from crm.orders.v1 import pb
from crmkit.testing import Service
from uuid_utils.compat import uuid7


def deal(service: Service, customer: str, **fields: Any) -> dict[str, Any]:
    """A won deal of sales1."""
    person = service.person("sales1")
    return {
        "name": f"opportunities/{uuid7()}", "displayName": "二期产线", "account": customer, "owner": person.employee,
        "department": person.department, "state": "WON", "amount": {"currencyCode": "CNY", "amount": "90000.00"},
        "lines": [{"description": "产线", "quantity": "1", "unitPrice": {"currencyCode": "CNY", "amount": "90000.00"},
                   "amount": {"currencyCode": "CNY", "amount": "90000.00"}}], **fields,
    }  # fmt: skip


def quote(service: Service, customer: str, opportunity: str = "") -> dict[str, Any]:
    """An accepted quote of sales1: one line of three at 333.33 with 10 % off and 13 % tax, one without discount."""
    person, cny = service.person("sales1"), lambda amount: {"currencyCode": "CNY", "amount": amount}
    return {
        "name": f"quotes/{uuid7()}", "displayName": "二期产线报价", "account": customer, "opportunity": opportunity,
        "currency": "CNY", "owner": person.employee, "department": person.department, "state": "ACCEPTED",
        "terms": "款到发货", "netTotal": cny("950.00"), "taxTotal": cny("123.50"), "grossTotal": cny("1073.50"),
        "lines": [
            {"description": "灯箱", "quantity": "3", "unit": "件", "unitListPrice": cny("333.33"), "taxRate": "13",
             "listAmount": cny("999.99"), "discountAmount": cny("100.00"), "netAmount": cny("899.99"),
             "taxAmount": cny("117.00"), "grossAmount": cny("1016.99")},
            {"description": "安装", "quantity": "1", "unitListPrice": cny("50.01"), "taxRate": "13",
             "listAmount": cny("50.01"), "netAmount": cny("50.01"), "taxAmount": cny("6.50"), "grossAmount": cny("56.51")},
        ],
    }  # fmt: skip


async def contracts_of(service: Service, opportunity: str) -> list[Any]:
    return list((await service.manager.ListContracts(filter=f'opportunity = "{opportunity}"')).contracts)


async def handled(service: Service, handler: str, times: int) -> None:
    """Waits until the handler has had its effect for so many facts."""
    from sqlalchemy import text

    async def enough() -> bool:
        async with service.running.sessions() as session:
            count = await session.scalar(
                text("SELECT count(*) FROM inbox WHERE :h = ANY(handlers)"), {"h": handler}
            )
            return bool(count and count >= times)

    await service.eventually(enough)


async def before(service: Service, handler: str) -> int:
    from sqlalchemy import text

    async with service.running.sessions() as session:
        return int(
            await session.scalar(text("SELECT count(*) FROM inbox WHERE :h = ANY(handlers)"), {"h": handler})
            or 0
        )


async def test_a_won_deal_makes_one_contract_draft_held_by_its_owner(orders: Service, desk: Any) -> None:
    customer, seen = await desk.account(), await before(orders, "on_opportunity_won")
    won = deal(orders, customer)
    for _ in range(3):
        await orders.tell("crm.sales.v1.OpportunityWon", {"opportunity": won})
    await handled(orders, "on_opportunity_won", seen + 3)
    (contract,) = await contracts_of(orders, won["name"])
    assert (contract.owner, contract.department) == (won["owner"], won["department"])
    assert (contract.state, contract.gross.amount, contract.display_name) == (
        pb.Contract.DRAFT,
        "90000.00",
        "二期产线",
    )
    assert (await orders.sales1.SubmitContract(name=contract.name)).number


@pytest.mark.capability("s.quote")
async def test_the_accepted_quote_is_the_contract_field_by_field_in_either_order(
    orders: Service, desk: Any
) -> None:
    for quote_first in (True, False):
        customer = await desk.account()
        won = deal(orders, customer)
        offer = quote(orders, customer, won["name"])
        facts = [("QuoteAccepted", {"quote": offer}), ("OpportunityWon", {"opportunity": won})]
        for subject, payload in facts if quote_first else reversed(facts):
            await orders.tell(f"crm.sales.v1.{subject}", payload)
            await orders.tell(f"crm.sales.v1.{subject}", payload)

        async def filled(won: dict[str, Any] = won, offer: dict[str, Any] = offer) -> Any:
            found = await contracts_of(orders, won["name"])
            return found if found and found[0].quote == offer["name"] else None

        (contract,) = await orders.eventually(filled)
        assert [line.description for line in contract.lines] == ["灯箱", "安装"]
        for line, quoted in zip(contract.lines, offer["lines"], strict=True):
            amounts = (line.net.amount, line.tax.amount, line.gross.amount)
            assert amounts == tuple(quoted[k]["amount"] for k in ("netAmount", "taxAmount", "grossAmount"))
        assert (contract.net.amount, contract.tax.amount, contract.gross.amount) == (
            "950.00",
            "123.50",
            "1073.50",
        )
        assert contract.terms == "款到发货"
        assert not (await orders.manager.ListOrders(filter=f'quote = "{offer["name"]}"')).orders


@pytest.mark.capability("s.quote")
async def test_a_quote_without_a_deal_makes_one_draft_order(orders: Service, desk: Any) -> None:
    customer, seen = await desk.account(), await before(orders, "on_quote_accepted")
    offer = quote(orders, customer)
    for _ in range(3):
        await orders.tell("crm.sales.v1.QuoteAccepted", {"quote": offer})
    await handled(orders, "on_quote_accepted", seen + 3)
    (order,) = (await orders.sales1.ListOrders(filter=f'quote = "{offer["name"]}"')).orders
    assert (order.state, order.gross.amount, order.payment_terms) == (pb.Order.DRAFT, "1073.50", "款到发货")


async def test_a_draft_that_somebody_has_changed_is_left_alone(orders: Service, desk: Any) -> None:
    customer, seen = await desk.account(), await before(orders, "on_quote_accepted")
    won = deal(orders, customer)
    await orders.tell("crm.sales.v1.OpportunityWon", {"opportunity": won})
    (contract,) = await orders.eventually(lambda: contracts_of(orders, won["name"]))
    await orders.sales1.UpdateContract(
        contract={"name": contract.name, "displayName": "手工改过"}, updateMask="displayName"
    )
    await orders.tell("crm.sales.v1.QuoteAccepted", {"quote": quote(orders, customer, won["name"])})
    await handled(orders, "on_quote_accepted", seen + 1)
    (left,) = await contracts_of(orders, won["name"])
    assert (left.display_name, left.gross.amount, left.quote) == ("手工改过", "90000.00", "")


def invoice(contract: str, order: str, amount: str, items: dict[str, str]) -> dict[str, Any]:
    return {
        "name": f"invoices/{uuid7()}", "contract": contract, "order": order, "currency": "CNY", "state": "ISSUED",
        "gross": {"currencyCode": "CNY", "amount": amount},
        "lines": [{"key": key, "order": order, "orderItem": key, "quantity": quantity} for key, quantity in items.items()],
    }  # fmt: skip


def credit(invoice: dict[str, Any], amount: str, name: str) -> dict[str, Any]:
    return {
        "creditNote": {"name": name, "invoice": invoice["name"], "gross": {"currencyCode": "CNY", "amount": amount}},
        "invoice": invoice,
    }  # fmt: skip


def target(contract: str, order: str, amount: str) -> dict[str, Any]:
    money = {"currencyCode": "CNY", "amount": amount}
    return {
        "allocation": {
            "name": f"allocations/{uuid7()}",
            "contract": contract,
            "order": order,
            "amount": money,
        }
    }


async def test_figures_are_sums_of_facts_however_often_and_in_whatever_order_they_come(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    order = await desk.started(customer, ("10", "10.00"))
    one, two = invoice("", order.name, "56.50", {"1": "5"}), invoice("", order.name, "56.50", {"1": "5"})
    paid, undone = target("", order.name, "56.50"), target("", order.name, "20.00")
    kept, gone = f"creditNotes/{uuid7()}", f"creditNotes/{uuid7()}"
    facts = [
        ("InvoiceVoided", {"invoice": two}), ("AllocationReversed", {"targets": [undone]}),
        ("InvoiceIssued", {"invoice": one}), ("PaymentAllocated", {"targets": [undone]}),
        ("InvoiceIssued", {"invoice": two}), ("PaymentAllocated", {"targets": [paid]}),
        # Less is asked for by one note; another one was taken back, and that was told first.
        ("CreditNoteVoided", credit(one, "9.00", gone)), ("CreditNoteIssued", credit(one, "9.00", gone)),
        ("CreditNoteIssued", credit(one, "6.50", kept)),
    ]  # fmt: skip
    for subject, payload in [*facts, *facts]:
        await orders.tell(f"crm.billing.v1.{subject}", payload)

    async def counted() -> Any:
        found = await orders.sales1.GetOrder(name=order.name)
        return found if (found.invoiced.amount, found.collected.amount) == ("50.00", "56.50") else None

    found = await orders.eventually(counted)
    assert (found.items[0].invoiced, found.invoice_state, found.payment_state) == (
        "5",
        pb.Order.PARTLY,
        pb.Order.PARTLY_PAID,
    )


async def test_a_contract_shows_executed_invoiced_and_collected_and_closes_when_paid(
    orders: Service, desk: Any
) -> None:
    customer = await desk.account()
    # Due in years: no other service that may be running here has anything to invoice.
    far = [
        {"title": "全款", "percent": "100", "trigger": "DATE", "date": {"year": 2099, "month": 1, "day": 1}}
    ]
    contract = await desk.contract(customer, lines=desk.lines(("10", "10.00")), instalments=far)
    await orders.manager.ActivateContract(name=contract.name)
    order = await orders.sales1.CreateOrderFromContract(name=contract.name)
    await orders.sales1.SubmitOrder(name=order.name)
    await orders.sales1.StartOrder(name=order.name)
    await desk.delivered(customer, (order.name, "1", "10"))
    await orders.tell("crm.billing.v1.InvoiceIssued", {"invoice": invoice(contract.name, "", "113.00", {})})
    await orders.tell("crm.billing.v1.PaymentAllocated", {"targets": [target(contract.name, "", "113.00")]})

    async def settled() -> Any:
        found = await orders.sales1.GetContract(name=contract.name)
        figures = (found.executed.amount, found.invoiced.amount, found.collected.amount, found.balance.amount)
        return figures == ("113.00", "113.00", "113.00", "0.00")

    await orders.eventually(settled)
    done = await orders.sales1.GetOrder(name=order.name)
    assert (done.state, done.payment_state, done.invoice_state) == (
        pb.Order.COMPLETED,
        pb.Order.PAID,
        pb.Order.FULL,
    )
    await orders.manager.StartClosingContract(name=contract.name)
    assert (await orders.manager.CloseContract(name=contract.name)).state == pb.Contract.CLOSED
    (ended,) = await orders.facts("crm.orders.v1.ContractEnded", contract.name)
    assert ended["how"] == "CLOSED"
