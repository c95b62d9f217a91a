"""Facts of orders: twice, in odd order, and what they make."""

import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from billing.jobs import follow_instalments
from crm.billing.v1 import pb
from crmkit.testing import Refused, Service
from hypothesis import given, settings
from hypothesis import strategies as st

Plan, Invoice = pb.PaymentPlan, pb.Invoice
State, Part = Plan.State, Plan.InstalmentState
DAY = {"year": 2026, "month": 1, "day": 1}


def day(ahead: int) -> dict[str, int]:
    moment = datetime.now(UTC) + timedelta(hours=8, days=ahead)
    return {"year": moment.year, "month": moment.month, "day": moment.day}


def active(contract: dict[str, Any]) -> dict[str, Any]:
    return {**contract, "state": "ACTIVE", "activationDate": day(0)}


async def test_a_contract_without_a_plan_of_its_own_is_one_instalment_invoiced_at_once(
    billing: Service, desk: Any
) -> None:
    customer = await desk.account()
    lines = [
        {"key": "1", "description": "设备", "quantity": "1", "unitPrice": desk.money("100.01"), "taxRate": "13",
         "net": desk.money("100.01"), "tax": desk.money("13.00"), "gross": desk.money("113.01")},
    ]  # fmt: skip
    signed = desk.contract(
        customer, "113.01", net=desk.money("100.01"), lines=lines, opportunity="", quote="quotes/x"
    )
    await desk.tell("ContractSigned", contract=signed)
    draft = await desk.plan(signed["name"])
    assert (draft.state, draft.total.amount, draft.owner) == (State.DRAFT, "113.01", signed["owner"])
    assert await desk.invoices(contract=signed["name"]) == []
    for _ in range(3):
        await desk.tell("ContractActivated", contract=active(signed))
    plan = await desk.plan(signed["name"])
    (invoice,) = await desk.invoices(contract=signed["name"])
    assert (invoice.state, invoice.plan, invoice.quote) == (Invoice.ISSUED, plan.name, "quotes/x")
    assert (invoice.net.amount, invoice.tax.amount, invoice.gross.amount) == ("100.01", "13.00", "113.01")
    assert [line.description for line in invoice.lines] == ["设备"]
    due = day(30)
    assert (invoice.due.year, invoice.due.month, invoice.due.day) == tuple(due.values())
    assert (plan.state, plan.invoiced.amount, plan.next_due) == (State.ACTIVE, "113.01", invoice.due)
    payment = await desk.received(customer, "113.01")
    await desk.finance.AutoAllocatePayment(name=payment.name)
    done = await desk.plan(signed["name"])
    assert (done.state, done.paid.amount, done.instalments[0].state) == (State.DONE, "113.01", Part.PAID)
    assert len(await billing.facts("crm.billing.v1.InstalmentPaid", plan.name)) == 1


async def test_the_plan_is_the_same_in_whatever_order_its_facts_come(desk: Any) -> None:
    customer = await desk.account()
    for order in permutations(["ContractSigned", "ContractActivated", "ContractActivated"]):
        signed = desk.contract(customer, "100.00")
        for subject in order:
            await desk.tell(subject, contract=signed if subject == "ContractSigned" else active(signed))
        plan = await desk.plan(signed["name"])
        assert (plan.state, plan.invoiced.amount, len(await desk.invoices(contract=signed["name"]))) == (
            State.ACTIVE,
            "100.00",
            1,
        )


async def test_an_end_that_overtakes_the_signature_leaves_nothing_due(desk: Any) -> None:
    signed = desk.contract(await desk.account(), "100.00")
    await desk.tell("ContractEnded", contract={**signed, "state": "CANCELLED"}, how="CANCELLED")
    await desk.tell("ContractSigned", contract=signed)
    await desk.tell("ContractActivated", contract=active(signed))
    assert (await desk.plan(signed["name"])).state == State.CANCELLED
    assert await desk.invoices(contract=signed["name"]) == []


async def test_thirty_sixty_ten_percent_give_the_rest_to_the_last(desk: Any) -> None:
    parts = [
        {"title": "首付", "percent": "30", "trigger": "ACTIVATION"},
        {"title": "中期", "percent": "60", "trigger": "DATE", "date": day(400)},
        {"title": "质保", "percent": "10", "trigger": "DELIVERY", "termsDays": 10},
    ]  # fmt: skip
    signed = desk.contract(await desk.account(), "100000.01", instalments=parts)
    await desk.tell("ContractActivated", contract=active(signed))
    plan = await desk.plan(signed["name"])
    assert [part.amount.amount for part in plan.instalments] == ["30000.00", "60000.01", "10000.00"]
    (first,) = await desk.invoices(contract=signed["name"])
    assert (first.state, first.gross.amount, first.instalment) == (Invoice.DRAFT, "30000.00", "1")
    await desk.finance.InvoicePaymentPlan(name=plan.name, instalment="2")
    again = desk.finance.InvoicePaymentPlan(name=plan.name, instalment="2")
    assert (await desk.refused(again)).reason == "INSTALMENT_INVOICED"
    unknown = desk.finance.InvoicePaymentPlan(name=plan.name, instalment="9")
    assert (await desk.refused(unknown)).reason == "INSTALMENT_UNKNOWN"
    change = {"invoice": {"name": first.name, "lines": []}, "updateMask": "lines"}
    assert (await desk.refused(desk.finance.UpdateInvoice(**change))).reason == "INVOICE_LINES_FIXED"


async def test_instalments_of_several_tax_rates_add_up_to_the_contract_to_the_cent(desk: Any) -> None:
    def line(net: str, rate: str, tax: str) -> dict[str, Any]:
        gross = str(Decimal(net) + Decimal(tax))
        return {"description": "货", "quantity": "1", "unitPrice": desk.money(net), "taxRate": rate, "net": desk.money(net),
                "tax": desk.money(tax), "gross": desk.money(gross)}  # fmt: skip

    parts = [
        {"title": f"第{i}期", "percent": p, "trigger": "ACTIVATION"}
        for i, p in enumerate(("33.3333", "33.3333", "33.3334"), 1)
    ]
    lines = [line("333.33", "13", "43.33"), line("66.67", "6", "4.00")]
    signed = desk.contract(
        await desk.account(), "447.33", net=desk.money("400.00"), lines=lines, instalments=parts
    )
    await desk.tell("ContractActivated", contract=active(signed))
    found = await desk.invoices(contract=signed["name"])
    assert len(found) == 3
    assert sum(Decimal(one.gross.amount) for one in found) == Decimal("447.33")
    for one in found:
        assert Decimal(one.net.amount) + Decimal(one.tax.amount) == Decimal(one.gross.amount)
        assert [row.tax_rate for row in one.lines] == ["13", "6"]


async def test_a_plan_that_does_not_add_up_is_not_activated(desk: Any) -> None:
    body = {
        "displayName": "手工计划", "account": await desk.account(), "total": desk.money("100.00"),
        "instalments": [{"title": "一期", "amount": desk.money("60.00"), "trigger": "ACTIVATION"}],
    }  # fmt: skip
    plan = await desk.finance.CreatePaymentPlan(paymentPlan=body)
    problem = await desk.refused(desk.finance.ActivatePaymentPlan(name=plan.name))
    assert (problem.reason, problem.info.metadata["difference"]) == ("PLAN_TOTAL_MISMATCH", "40.00 CNY")
    more = [
        *body["instalments"],
        {"title": "二期", "amount": desk.money("40.00"), "trigger": "DATE", "date": DAY},
    ]
    await desk.finance.UpdatePaymentPlan(
        paymentPlan={"name": plan.name, "instalments": more}, updateMask="instalments"
    )
    done = await desk.finance.ActivatePaymentPlan(name=plan.name)
    assert [part.state for part in done.instalments] == [Part.DUE, Part.OVERDUE]
    change = {"paymentPlan": {"name": plan.name, "instalments": more[:1]}, "updateMask": "instalments"}
    assert (await desk.refused(desk.finance.UpdatePaymentPlan(**change))).reason == "PLAN_FROZEN"


async def test_accepted_quantities_of_an_order_are_drafted_once_for_each_delivery(desk: Any) -> None:
    customer = await desk.account()
    order = desk.order(customer, ("3", "33.33"), ("10", "0.07"))
    first = {
        **order,
        "items": [{**item, "delivered": d} for item, d in zip(order["items"], ("1", "10"), strict=True)],
    }
    second = {
        **order,
        "items": [{**item, "delivered": d} for item, d in zip(order["items"], ("3", "10"), strict=True)],
    }
    one = desk.delivery(customer, order["name"], ("1", "1"), ("2", "10"))
    two = desk.delivery(customer, order["name"], ("1", "2"))
    # The second delivery is told before the first, the order last, and everything twice.
    for _ in range(2):
        await desk.tell("DeliveryConfirmed", delivery=two, orders=[second])
        await desk.tell("DeliveryConfirmed", delivery=one, orders=[first])
        await desk.tell("OrderPlaced", order=order)
    found = await desk.invoices(order=order["name"])
    assert len(found) == 2
    assert {one.state for one in found} == {Invoice.DRAFT}
    for name in ("net", "tax", "gross"):
        whole = sum(Decimal(item[name]["amount"]) for item in order["items"])
        assert sum(Decimal(getattr(one, name).amount) for one in found) == whole, name
    plan = await desk.plan(order["name"])
    assert (plan.state, plan.invoiced.amount) == (State.ACTIVE, order["gross"]["amount"])
    for one in found:
        await desk.finance.IssueInvoice(name=one.name)
    payment = await desk.received(customer, order["gross"]["amount"])
    await desk.finance.AutoAllocatePayment(name=payment.name)
    assert (await desk.plan(order["name"])).state == State.DONE


async def test_what_was_refused_is_not_invoiced(desk: Any) -> None:
    customer = await desk.account()
    order = desk.order(customer, ("3", "10.00"))
    refused = desk.delivery(customer, order["name"], ("1", "3"))
    refused["lines"] = [{**line, "accepted": "0", "refused": "3"} for line in refused["lines"]]
    await desk.tell("DeliveryConfirmed", delivery=refused, orders=[order])
    assert await desk.invoices(order=order["name"]) == []


async def test_a_contract_that_is_due_on_delivery_is_billed_by_what_is_delivered_and_not_again(
    desk: Any,
) -> None:
    customer = await desk.account()
    parts = [{"title": "货到付款", "percent": "100", "trigger": "DELIVERY", "termsDays": 15}]
    contract = active(desk.contract(customer, "113.00", net=desk.money("100.00"), instalments=parts))
    order = desk.order(customer, ("10", "10.00"), delivered=("4",), contract=contract["name"])
    await desk.tell("ContractActivated", contract=contract)
    assert await desk.invoices(contract=contract["name"]) == []
    note = desk.delivery(customer, order["name"], ("1", "4"))
    await desk.tell("DeliveryConfirmed", delivery=note, orders=[order], contracts=[contract])
    (invoice,) = await desk.invoices(contract=contract["name"])
    assert (invoice.gross.amount, invoice.order, invoice.delivery, invoice.terms_days) == (
        "45.20",
        order["name"],
        note["name"],
        15,
    )
    plan = await desk.plan(contract["name"])
    assert (plan.invoiced.amount, bool(plan.instalments[0].due.year)) == ("45.20", True)
    rest = await desk.finance.InvoicePaymentPlan(name=plan.name, instalment="1")
    assert rest.gross.amount == "67.80"


async def test_a_contract_due_on_a_day_is_invoiced_when_it_is_delivered_and_due_on_that_day(
    desk: Any,
) -> None:
    customer = await desk.account()
    parts = [{"title": "货款", "percent": "100", "trigger": "DATE", "date": day(20)}]
    contract = active(desk.contract(customer, "113.00", net=desk.money("100.00"), instalments=parts))
    await desk.tell("ContractActivated", contract=contract)
    plan = await desk.plan(contract["name"])
    assert (plan.invoiced.amount, plan.instalments[0].state) == ("0.00", Part.PLANNED)
    order = desk.order(
        customer, ("10", "10.00"), delivered=("10",), contract=contract["name"], deliveryState="FULL"
    )
    note = desk.delivery(customer, order["name"], ("1", "10"))
    for _ in range(2):
        await desk.tell("DeliveryConfirmed", delivery=note, orders=[order], contracts=[contract])
    (draft,) = await desk.invoices(contract=contract["name"])
    invoice = await desk.finance.IssueInvoice(name=draft.name)
    due = invoice.due
    assert (invoice.gross.amount, [due.year, due.month, due.day]) == ("113.00", list(day(20).values()))
    assert (await desk.plan(contract["name"])).invoiced.amount == "113.00"


async def test_a_contract_billed_by_its_plan_is_not_billed_again_by_delivery(desk: Any) -> None:
    customer = await desk.account()
    contract = active(desk.contract(customer, "113.00", net=desk.money("100.00")))
    order = desk.order(
        customer, ("10", "10.00"), delivered=("10",), contract=contract["name"], deliveryState="FULL"
    )
    note = desk.delivery(customer, order["name"], ("1", "10"))
    # The delivery is told before the contract: the plan comes from what the fact carries.
    await desk.tell("DeliveryConfirmed", delivery=note, orders=[order], contracts=[contract])
    await desk.tell("ContractSigned", contract=contract)
    await desk.tell("ContractActivated", contract=contract)
    (invoice,) = await desk.invoices(contract=contract["name"])
    assert (invoice.gross.amount, invoice.delivery) == ("113.00", "")


async def test_the_last_instalment_is_due_when_the_order_is_delivered_whole(
    billing: Service, desk: Any
) -> None:
    customer = await desk.account()
    parts = [
        {"title": "首付", "percent": "30", "trigger": "ACTIVATION"},
        {"title": "尾款", "percent": "70", "trigger": "DELIVERY"},
    ]
    contract = active(desk.contract(customer, "113.00", net=desk.money("100.00"), instalments=parts))
    await desk.tell("ContractActivated", contract=contract)
    order = desk.order(
        customer, ("10", "10.00"), delivered=("4",), contract=contract["name"], deliveryState="PARTLY"
    )
    note = desk.delivery(customer, order["name"], ("1", "4"))
    await desk.tell("DeliveryConfirmed", delivery=note, orders=[order], contracts=[contract])
    assert len(await desk.invoices(contract=contract["name"])) == 1
    full = {**order, "deliveryState": "FULL"}
    last = desk.delivery(customer, order["name"], ("1", "6"))
    for _ in range(2):
        await desk.tell("DeliveryConfirmed", delivery=last, orders=[full], contracts=[contract])
    found = await desk.invoices(contract=contract["name"])
    assert [one.gross.amount for one in found] == ["33.90", "79.10"]
    plan = await desk.plan(contract["name"])
    assert plan.instalments[1].state == Part.DUE
    assert len(await billing.facts("crm.billing.v1.InstalmentDue", plan.name)) == 2


async def test_a_terminated_contract_drops_its_plan_and_the_drafts_and_keeps_what_was_issued(
    desk: Any,
) -> None:
    customer = await desk.account()
    parts = [{"title": f"第{i}期", "percent": "50", "trigger": "ACTIVATION"} for i in (1, 2)]
    contract = active(desk.contract(customer, "100.00", instalments=parts))
    await desk.tell("ContractActivated", contract=contract)
    one, _ = await desk.invoices(contract=contract["name"])
    await desk.finance.IssueInvoice(name=one.name)
    await desk.tell("ContractEnded", contract={**contract, "state": "TERMINATED"}, how="TERMINATED")
    (left,) = await desk.invoices(contract=contract["name"])
    plan = await desk.plan(contract["name"])
    assert (left.name, plan.state, plan.invoiced.amount) == (one.name, State.CANCELLED, "50.00")


@pytest.mark.parametrize("first", ["OrderPlaced", "DeliveryConfirmed"])
async def test_an_order_that_is_invoiced_when_it_is_placed_has_one_invoice_whatever_is_delivered(
    billing: Service, desk: Any, first: str
) -> None:
    customer = await desk.account()
    order = desk.order(customer, ("10", "10.00"), ("1", "0.05"), delivered=("4", "0"), invoicing="ORDERED")
    delivery = desk.delivery(customer, order["name"], ("1", "4"))
    facts = [
        ("OrderPlaced", {"order": order}),
        ("DeliveryConfirmed", {"delivery": delivery, "orders": [order]}),
    ]
    for subject, fields in sorted(facts * 2, key=lambda fact: fact[0] != first):
        await desk.tell(subject, **fields)
    (invoice,) = await desk.invoices(order=order["name"])
    assert (invoice.state, invoice.delivery) == (Invoice.ISSUED, "")
    assert (invoice.gross.amount, invoice.due.day) == (order["gross"]["amount"], day(30)["day"])
    lines = [(line.order, line.order_item, line.quantity) for line in invoice.lines]
    assert lines == [(order["name"], "1", "10"), (order["name"], "2", "1")]
    plan = await desk.plan(order["name"])
    assert (plan.state, plan.invoiced.amount) == (State.ACTIVE, order["gross"]["amount"])
    assert len(await billing.facts("crm.billing.v1.InvoiceIssued", invoice.name)) == 1


@pytest.mark.parametrize("delivered", [False, True])
async def test_a_cancelled_order_owes_what_was_delivered_and_no_more(desk: Any, delivered: bool) -> None:
    customer = await desk.account()
    order = desk.order(customer, ("10", "10.00"), delivered=("4",))
    await desk.tell("OrderPlaced", order=order)
    if delivered:
        await desk.tell(
            "DeliveryConfirmed", delivery=desk.delivery(customer, order["name"], ("1", "4")), orders=[order]
        )
    for _ in range(2):
        await desk.tell("OrderCancelled", order={**order, "state": "CANCELLED"}, reason="客户取消")
    plan = await desk.plan(order["name"])
    assert (plan.state, plan.total.amount) == (
        (State.ACTIVE, "45.20") if delivered else (State.CANCELLED, "113.00")
    )


async def test_the_daily_job_drafts_what_has_come_and_says_overdue_once(billing: Service, desk: Any) -> None:
    parts = [{"title": "到期款", "percent": "100", "trigger": "DATE", "date": day(10), "termsDays": 5}]
    contract = active(desk.contract(await desk.account(), "100.00", instalments=parts))
    await desk.tell("ContractActivated", contract=contract)
    assert await desk.invoices(contract=contract["name"]) == []
    for ahead, invoices, state in (
        (9, 0, Part.PLANNED),
        (10, 1, Part.PLANNED),
        (15, 1, Part.DUE),
        (16, 1, Part.OVERDUE),
    ):
        for _ in range(2):
            async with billing.running.system_call("follow", None) as call:
                await follow_instalments.function(datetime.now(UTC) + timedelta(days=ahead), call)
        plan = await desk.plan(contract["name"])
        assert (len(await desk.invoices(contract=contract["name"])), plan.instalments[0].state) == (
            invoices,
            state,
        ), ahead
    for subject in ("InstalmentDue", "InstalmentOverdue"):
        assert len(await billing.facts(f"crm.billing.v1.{subject}", plan.name)) == 1


FACTS = st.lists(
    st.sampled_from(["ContractSigned", "ContractActivated", "first", "second", "pay"]), max_size=10
)


@settings(max_examples=5)
@given(early=FACTS)
async def test_in_whatever_order_and_however_often_facts_come_everything_is_billed_once(
    desk: Any, early: list[str]
) -> None:
    """A contract due on delivery, delivered in two parts, paid in between; at the end every fact has come at least once."""
    customer = await desk.account()
    parts = [{"title": "货到付款", "percent": "100", "trigger": "DELIVERY"}]
    contract = active(desk.contract(customer, "113.01", net=desk.money("100.01"), instalments=parts))
    order = desk.order(customer, ("7", "14.287"), contract=contract["name"])
    notes = {
        "first": (desk.delivery(customer, order["name"], ("1", "3")), "3"),
        "second": (desk.delivery(customer, order["name"], ("1", "4")), "7"),
    }
    payment = await desk.received(customer, "113.01")
    for step in [*early, "second", "first", "ContractActivated", "ContractSigned", "pay"]:
        if step in notes:
            note, so_far = notes[step]
            now = {**order, "items": [{**order["items"][0], "delivered": so_far}]}
            await desk.tell("DeliveryConfirmed", delivery=note, orders=[now], contracts=[contract])
        elif step == "pay":
            for draft in await desk.invoices(contract=contract["name"], state="DRAFT"):
                await desk.finance.IssueInvoice(name=draft.name)
            with contextlib.suppress(Refused):
                await desk.finance.AutoAllocatePayment(name=payment.name)
        else:
            await desk.tell(step, contract=contract)
    found = await desk.invoices(contract=contract["name"])
    assert len(found) == 2
    assert sum(Decimal(one.gross.amount) for one in found) == Decimal("113.01")
    plan, balance = await desk.plan(contract["name"]), await desk.balance(customer)
    assert (plan.state, plan.invoiced.amount, plan.paid.amount) == (State.DONE, "113.01", "113.01")
    assert (balance.issued.amount, balance.allocated.amount, balance.unapplied.amount) == (
        "113.01",
        "113.01",
        "0.00",
    )
