"""Payments and what they pay, through the front door."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

from crm.billing.v1 import pb
from crmkit.testing import Refused, Service
from hypothesis import given, settings
from hypothesis import strategies as st

Invoice, Payment, Allocation = pb.Invoice, pb.Payment, pb.Allocation
REASON = "客户支票退票"


async def test_a_payment_needs_a_key_and_the_same_key_makes_one(billing: Service, desk: Any) -> None:
    body = {
        "account": await desk.account(),
        "method": "BANK",
        "amount": desk.money("10.00"),
        "date": {"year": 2026, "month": 1, "day": 1},
    }
    assert (await desk.refused(desk.finance.CreatePayment(payment=body))).reason == "IDEMPOTENCY_KEY_REQUIRED"
    key = uuid4().hex
    answers = await asyncio.gather(
        *(desk.finance.CreatePayment(payment=body, requestId=key) for _ in range(10))
    )
    assert len({answer.name for answer in answers}) == 1
    other = {**body, "amount": desk.money("11.00")}
    assert (
        await desk.refused(desk.finance.CreatePayment(payment=other, requestId=key))
    ).reason == "IDEMPOTENCY_KEY_REUSED"
    assert answers[0].number.startswith("SK2026")
    assert answers[0].handler == billing.person("finance").employee


async def test_an_amount_is_above_zero_in_the_places_of_its_currency_and_the_day_has_come(desk: Any) -> None:
    customer = await desk.account()
    assert (await desk.refused(desk.pending(customer, "0.00"))).violations == {
        "payment.amount": "AMOUNT_INVALID"
    }
    assert (await desk.refused(desk.pending(customer, "-5.00"))).violations == {"payment.amount": "TOO_SMALL"}
    assert (await desk.refused(desk.pending(customer, "1.001"))).violations == {
        "payment.amount": "TOO_MANY_PLACES"
    }
    late = {"year": 2099, "month": 1, "day": 1}
    assert (await desk.refused(desk.pending(customer, "1.00", date=late))).violations == {
        "payment.date": "DATE_IN_FUTURE"
    }


async def test_a_pending_payment_pays_nothing(desk: Any) -> None:
    customer = await desk.account()
    invoice, payment = await desk.issued(customer, "10.00"), await desk.pending(customer, "10.00")
    assert (
        await desk.refused(desk.allocate(payment.name, (invoice.name, "1.00")))
    ).reason == "ILLEGAL_TRANSITION"
    done = await desk.finance.ConfirmPayment(name=payment.name)
    assert (done.state, done.unapplied.amount) == (Payment.RECEIVED, "10.00")
    assert (await desk.refused(desk.finance.ConfirmPayment(name=payment.name))).reason == "ILLEGAL_TRANSITION"
    change = {"payment": {"name": payment.name, "amount": desk.money("99.00")}, "updateMask": "amount"}
    assert (await desk.refused(desk.finance.UpdatePayment(**change))).reason == "PAYMENT_FINAL"


async def test_an_allocation_is_never_more_than_is_open_on_either_side(desk: Any) -> None:
    customer = await desk.account()
    invoice, payment = await desk.issued(customer, "100.00"), await desk.received(customer, "60.00")
    assert (
        await desk.refused(desk.allocate(payment.name, (invoice.name, "60.01")))
    ).reason == "ALLOCATION_OVER_PAYMENT"
    done = await desk.allocate(payment.name, (invoice.name, "60.00"))
    assert (done.allocated.amount, done.unapplied.amount) == ("60.00", "0.00")
    second = await desk.received(customer, "60.00")
    problem = await desk.refused(desk.allocate(second.name, (invoice.name, "40.01")))
    assert (problem.reason, problem.info.metadata["left"]) == ("ALLOCATION_OVER_BALANCE", "40.00 CNY")
    await desk.allocate(second.name, (invoice.name, ""))
    now = await desk.finance.GetInvoice(name=invoice.name)
    assert (now.paid.amount, now.balance.amount, now.payment_state) == ("100.00", "0.00", Invoice.PAID)
    found = await desk.balance(customer)
    assert (found.balance.amount, found.allocated.amount, found.unapplied.amount) == (
        "0.00",
        "100.00",
        "20.00",
    )


async def test_payment_and_invoice_are_of_one_customer_one_currency_and_the_invoice_is_issued(
    desk: Any,
) -> None:
    customer, other = await desk.account(), await desk.account("另一家")
    payment = await desk.received(customer, "60.00")
    foreign = await desk.issued(other, "10.00")
    assert (await desk.refused(desk.allocate(payment.name, (foreign.name, "")))).reason == "PAYER_MISMATCH"
    dollars = await desk.issued(customer, "10.00", "USD")
    assert (await desk.refused(desk.allocate(payment.name, (dollars.name, "")))).reason == "CURRENCY_MISMATCH"
    draft = await desk.draft(customer, ("1", "10.00", "0"))
    assert (await desk.refused(desk.allocate(payment.name, (draft.name, "")))).reason == "INVOICE_NOT_ISSUED"
    entity = await desk.issued(
        customer, "10.00", ownEntity="departments/01900000-0000-7000-8000-0000000000d1"
    )
    assert (await desk.refused(desk.allocate(payment.name, (entity.name, "")))).reason == "ENTITY_MISMATCH"


async def test_one_refused_target_leaves_all_as_they_were_and_tells_nothing(
    billing: Service, desk: Any
) -> None:
    customer = await desk.account()
    one, two = await desk.issued(customer, "10.00"), await desk.issued(customer, "10.00")
    payment = await desk.received(customer, "15.00")
    call = desk.allocate(payment.name, (one.name, "10.00"), (two.name, "6.00"))
    assert (await desk.refused(call)).reason == "ALLOCATION_OVER_PAYMENT"
    assert await desk.finance.GetInvoice(name=one.name) == one
    assert await desk.allocations(payment.name) == []
    assert await billing.facts("crm.billing.v1.PaymentAllocated", payment.name) == []


async def test_two_people_allocating_the_same_money_at_once_never_spend_it_twice(desk: Any) -> None:
    customer = await desk.account()
    payment = await desk.received(customer, "100.00")
    invoices = [await desk.issued(customer, "30.00") for _ in range(8)]
    answers = await asyncio.gather(
        *(desk.allocate(payment.name, (one.name, "30.00")) for one in invoices), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 3
    assert {a.reason for a in answers if isinstance(a, BaseException)} == {"ALLOCATION_OVER_PAYMENT"}  # type: ignore[union-attr]
    found = await desk.balance(customer)
    assert (found.issued.amount, found.allocated.amount, found.unapplied.amount) == (
        "240.00",
        "90.00",
        "10.00",
    )


async def test_two_payments_for_one_invoice_at_once_never_pay_it_twice(desk: Any) -> None:
    customer = await desk.account()
    invoice = await desk.issued(customer, "100.00")
    payments = [await desk.received(customer, "60.00") for _ in range(4)]
    await asyncio.gather(
        *(desk.allocate(one.name, (invoice.name, "60.00")) for one in payments), return_exceptions=True
    )
    now = await desk.finance.GetInvoice(name=invoice.name)
    assert (now.paid.amount, now.balance.amount) == ("60.00", "40.00")


async def test_what_is_left_goes_to_the_invoice_that_is_due_first_and_the_split_is_the_payment(
    billing: Service, desk: Any
) -> None:
    customer = await desk.account()
    late, soon, middle = [await desk.issued(customer, "33.34", termsDays=days) for days in (60, 1, 30)]
    payment = await desk.received(customer, "70.00")
    done = await desk.finance.AutoAllocatePayment(name=payment.name)
    assert done.unapplied.amount == "0.00"
    paid = {a.invoice: a.amount.amount for a in await desk.allocations(payment.name)}
    assert paid == {soon.name: "33.34", middle.name: "33.34", late.name: "3.32"}
    (fact,) = await billing.facts("crm.billing.v1.PaymentAllocated", payment.name)
    assert [t["allocation"]["invoice"] for t in fact["targets"]] == [soon.name, middle.name, late.name]
    assert len(await billing.facts("crm.billing.v1.InvoicePaid", soon.name)) == 1
    assert (
        await desk.refused(desk.finance.AutoAllocatePayment(name=payment.name))
    ).reason == "NOTHING_TO_ALLOCATE"


async def test_an_undone_allocation_restores_both_sides(billing: Service, desk: Any) -> None:
    customer = await desk.account()
    invoice, payment = await desk.issued(customer, "100.00"), await desk.received(customer, "60.00")
    await desk.allocate(payment.name, (invoice.name, ""))
    (allocation,) = await desk.allocations(payment.name)
    answers = await asyncio.gather(
        *(desk.finance.ReverseAllocation(name=allocation.name, reason=REASON) for _ in range(4)),
        return_exceptions=True,
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    back, open_ = (
        await desk.finance.GetPayment(name=payment.name),
        await desk.finance.GetInvoice(name=invoice.name),
    )
    assert (back.unapplied.amount, back.allocated.amount) == ("60.00", "0.00")
    assert (open_.balance.amount, open_.paid.amount, open_.payment_state) == (
        "100.00",
        "0.00",
        Invoice.UNPAID,
    )
    (fact,) = await billing.facts("crm.billing.v1.AllocationReversed", payment.name)
    assert fact["targets"][0]["allocation"]["state"] == "REVERSED"


async def test_a_chargeback_returns_every_invoice_to_its_former_balance(billing: Service, desk: Any) -> None:
    customer = await desk.account()
    one, two = await desk.issued(customer, "50.00"), await desk.issued(customer, "70.00")
    payment = await desk.received(customer, "150.00")
    await desk.allocate(payment.name, (one.name, ""), (two.name, "20.00"))
    done = await desk.finance.ReversePayment(name=payment.name, reason=REASON)
    assert (done.state, done.unapplied.amount, done.allocated.amount) == (Payment.REVERSED, "0.00", "0.00")
    for before in (one, two):
        now = await desk.finance.GetInvoice(name=before.name)
        assert (now.balance, now.paid, now.payment_state) == (
            before.balance,
            before.paid,
            before.payment_state,
        )
    assert {a.state for a in await desk.allocations(payment.name)} == {Allocation.REVERSED}
    found = await desk.balance(customer)
    assert (found.balance.amount, found.unapplied.amount) == ("120.00", "0.00")
    assert len(await billing.facts("crm.billing.v1.PaymentReversed", payment.name)) == 1
    assert (
        await desk.refused(desk.allocate(payment.name, (one.name, "1.00")))
    ).reason == "ILLEGAL_TRANSITION"


async def test_the_net_parts_of_all_payments_are_exactly_the_net_of_the_invoice(desk: Any) -> None:
    customer = await desk.account()
    draft = await desk.draft(customer, ("1", "100.01", "13"))
    invoice = await desk.finance.IssueInvoice(name=draft.name)
    payment = await desk.received(customer, "113.01")
    for amount in ("37.67", "37.67", "37.67"):
        await desk.allocate(payment.name, (invoice.name, amount))
    assert sum(Decimal(a.net.amount) for a in await desk.allocations(payment.name)) == Decimal("100.01")


VERBS = st.sampled_from(
    ["issue", "pay", "allocate", "auto", "undo", "void", "bounce", "recompute", "refund", "credit", "fail"]
)
STEPS = st.lists(st.tuples(VERBS, st.integers(0, 5), st.integers(1, 9000)), min_size=4, max_size=14)


@settings(max_examples=12)
@given(steps=STEPS)
async def test_whatever_happens_no_money_is_spent_twice_and_the_balance_is_what_the_documents_say(
    desk: Any, steps: Any
) -> None:
    customer = await desk.account()
    invoices, payments = list[str](), list[str]()
    for step, which, cents in steps:
        amount = str(Decimal(cents).scaleb(-2).quantize(Decimal("0.01")))
        try:
            await act(desk, customer, step, which, amount, invoices, payments)
        except Exception as refusal:
            assert getattr(refusal, "reason", "INTERNAL") != "INTERNAL", refusal
        await check(desk, customer, invoices, payments)


async def act(
    desk: Any, customer: str, step: str, which: int, amount: str, invoices: list[str], payments: list[str]
) -> None:
    invoice = invoices[which % len(invoices)] if invoices else ""
    payment = payments[which % len(payments)] if payments else ""
    match step:
        case "issue":
            invoices.append((await desk.issued(customer, amount)).name)
        case "pay":
            payments.append((await desk.received(customer, amount)).name)
        case "allocate" if invoice and payment:
            await desk.allocate(payments[len(amount) % len(payments)], (invoice, amount))
        case "auto" if payment:
            await desk.finance.AutoAllocatePayment(name=payment)
        case "undo" if payment:
            for allocation in (await desk.allocations(payment))[:1]:
                await desk.finance.ReverseAllocation(name=allocation.name, reason=REASON)
        case "void" if invoice:
            await desk.finance.VoidInvoice(name=invoice, reason=REASON)
        case "refund" | "credit" | "fail" if payment:
            refund = await desk.refund(payment, amount, adjust=step == "credit")
            await desk.finance.ApproveRefund(name=refund.name)
            if step == "fail":
                await desk.finance.FailRefund(name=refund.name, reason=REASON)
            else:
                await desk.finance.PayRefund(name=refund.name)
        case "bounce" if payment:
            await desk.finance.ReversePayment(name=payment, reason=REASON)
        case _:
            if (found := await desk.balance(customer)) is not None:
                assert await desk.finance.RecomputeAccountBalance(name=found.name) == found


async def check(desk: Any, customer: str, invoices: list[str], payments: list[str]) -> None:
    issued = allocated = unapplied = Decimal(0)
    by_invoice: dict[str, Decimal] = {}
    for name in payments:
        payment = await desk.finance.GetPayment(name=name)
        active = [a for a in await desk.allocations(name) if a.state == Allocation.ACTIVE]
        spent = sum((Decimal(a.amount.amount) - Decimal(a.refunded.amount) for a in active), Decimal(0))
        assert spent == Decimal(payment.allocated.amount) <= Decimal(payment.amount.amount)
        if payment.state == Payment.RECEIVED:
            here = spent + Decimal(payment.unapplied.amount) + Decimal(payment.refunded.amount)
            assert here == Decimal(payment.amount.amount)
        unapplied += Decimal(payment.unapplied.amount)
        for one in active:
            by_invoice[one.invoice] = by_invoice.get(one.invoice, Decimal(0)) + Decimal(one.amount.amount)
    for name in invoices:
        invoice = await desk.finance.GetInvoice(name=name)
        paid, back = by_invoice.get(name, Decimal(0)), Decimal(invoice.refunded.amount)
        asked = Decimal(invoice.gross.amount) - Decimal(invoice.credited.amount)
        assert paid == Decimal(invoice.paid.amount) and 0 <= paid - back <= asked
        if invoice.state == Invoice.ISSUED:
            assert Decimal(invoice.balance.amount) == asked - paid + back
            issued, allocated = issued + asked, allocated + paid - back
    found = await desk.balance(customer)
    if found is not None:
        figures = [Decimal(m.amount) for m in (found.issued, found.allocated, found.balance, found.unapplied)]
        assert figures == [issued, allocated, issued - allocated, unapplied]


async def test_money_paid_ahead_on_an_instalment_pays_its_invoice_when_that_is_issued(
    billing: Service, desk: Any
) -> None:
    customer = await desk.account()
    body = {
        "displayName": "定金计划",
        "account": customer,
        "total": desk.money("100.00"),
        "instalments": [{"title": "一期", "amount": desk.money("100.00"), "trigger": "ACTIVATION"}],
    }
    plan = await desk.finance.CreatePaymentPlan(paymentPlan=body)
    await desk.finance.ActivatePaymentPlan(name=plan.name)
    payment = await desk.received(customer, "150.00")
    finance, ahead = desk.finance, {"plan": plan.name, "instalment": "1"}
    for targets, reason in (
        ([{**ahead, "amount": desk.money("100.01")}], "ALLOCATION_OVER_BALANCE"),
        ([{**ahead, "amount": desk.money("150.01")}], "ALLOCATION_OVER_PAYMENT"),
        ([{**ahead, "instalment": "7"}], "INSTALMENT_UNKNOWN"),
        ([{}], "VALIDATION"),
    ):
        assert (
            await desk.refused(finance.AllocatePayment(name=payment.name, targets=targets))
        ).reason == reason
    done = await finance.AllocatePayment(
        name=payment.name, targets=[{**ahead, "amount": desk.money("60.00")}]
    )
    assert (done.allocated.amount, done.unapplied.amount) == ("60.00", "90.00")
    found = await desk.balance(customer)
    assert [m.amount for m in (found.balance, found.advances, found.unapplied)] == ["0.00", "60.00", "90.00"]
    draft = await finance.InvoicePaymentPlan(name=plan.name, instalment="1")
    invoice = await finance.IssueInvoice(name=draft.name)
    assert (invoice.paid.amount, invoice.balance.amount, invoice.payment_state) == (
        "60.00",
        "40.00",
        Invoice.PARTLY_PAID,
    )
    found = await desk.balance(customer)
    figures = (found.issued, found.allocated, found.balance, found.advances, found.unapplied)
    assert [m.amount for m in figures] == ["100.00", "60.00", "40.00", "0.00", "90.00"]
    assert await finance.RecomputeAccountBalance(name=found.name) == found
    # Of what is invoiced nothing more is paid ahead than the invoice leaves; told by allocation, the sums are right.
    late = finance.AllocatePayment(name=payment.name, targets=[ahead])
    assert (await desk.refused(late)).reason == "ALLOCATION_OVER_BALANCE"
    told: dict[str, Decimal] = {}
    for fact in await billing.facts("crm.billing.v1.PaymentAllocated", payment.name):
        told |= {
            t["allocation"]["name"]: Decimal(t["allocation"]["amount"]["amount"]) for t in fact["targets"]
        }
    for fact in await billing.facts("crm.billing.v1.AllocationReversed", payment.name):
        for one in fact["targets"]:
            told.pop(one["allocation"]["name"])
    assert sum(told.values()) == Decimal("60.00")
    await finance.AutoAllocatePayment(name=payment.name)
    now = await finance.GetPaymentPlan(name=plan.name)
    assert (now.state, now.paid.amount, now.instalments[0].advance.amount) == (
        pb.PaymentPlan.DONE,
        "100.00",
        "0.00",
    )
    await finance.ReversePayment(name=payment.name, reason=REASON)
    back = await finance.GetPaymentPlan(name=plan.name)
    assert (back.state, back.paid.amount) == (pb.PaymentPlan.ACTIVE, "0.00")
    found = await desk.balance(customer)
    assert [m.amount for m in (found.balance, found.advances, found.unapplied)] == ["100.00", "0.00", "0.00"]


async def test_an_advance_is_larger_than_one_invoice_and_the_rest_stays_ahead_until_it_is_undone(
    desk: Any,
) -> None:
    customer = await desk.account()
    order = desk.order(customer, ("10", "10.00"), delivered=("4",))
    await desk.tell("OrderPlaced", order=order)
    plan = await desk.plan(order["name"])
    payment = await desk.received(customer, "113.00")
    await desk.finance.AllocatePayment(name=payment.name, targets=[{"plan": plan.name, "instalment": "1"}])
    await desk.tell(
        "DeliveryConfirmed", delivery=desk.delivery(customer, order["name"], ("1", "4")), orders=[order]
    )
    (invoice,) = await desk.invoices(order=order["name"])
    paid = await desk.finance.IssueInvoice(name=invoice.name)
    assert (paid.gross.amount, paid.payment_state) == ("45.20", Invoice.PAID)
    active = [a for a in await desk.allocations(payment.name) if a.state == Allocation.ACTIVE]
    assert sorted((a.amount.amount, a.invoice) for a in active) == [("45.20", invoice.name), ("67.80", "")]
    assert sum(Decimal(a.net.amount) for a in active) == Decimal("100.00")
    rest = next(a for a in active if not a.invoice)
    await desk.finance.ReverseAllocation(name=rest.name, reason=REASON)
    found = await desk.balance(customer)
    assert [m.amount for m in (found.balance, found.advances, found.unapplied)] == ["0.00", "0.00", "67.80"]


async def test_a_head_office_pays_what_its_branch_owes_where_the_relation_says_so(
    billing: Service, desk: Any
) -> None:
    head, branch = await desk.account("华东机械总公司"), await desk.account("华东机械苏州分公司")
    relation = {"name": f"accountRelations/{uuid4()}", "from": branch, "to": head, "kind": "BRANCH_OF"}
    versions = iter(range(1, 10))

    async def related(**fields: Any) -> None:
        told = {"relation": {**relation, "state": "ACTIVE", **fields}}
        await billing.tell("crm.customer.v1.AccountRelationChanged", told, relation["name"], next(versions))

    async def figures(customer: str) -> tuple[str, ...]:
        told = await desk.balance(customer)
        same = await desk.finance.RecomputeAccountBalance(name=told.name)
        for seen in (told, same):
            assert (
                seen.balance.amount == f"{Decimal(seen.issued.amount) - Decimal(seen.allocated.amount):.2f}"
            )
        names = ("issued", "allocated", "unapplied", "advances", "credit")
        assert [getattr(told, one) for one in names] == [getattr(same, one) for one in names]
        return tuple(getattr(told, one).amount for one in names)

    invoice, payment = await desk.issued(branch, "100.00"), await desk.received(head, "150.00")
    await related()
    assert (await desk.refused(desk.allocate(payment.name, (invoice.name, "")))).reason == "PAYER_MISMATCH"
    await related(paysFor=True, fromDate={"year": 2099, "month": 1, "day": 1})
    assert (await desk.refused(desk.allocate(payment.name, (invoice.name, "")))).reason == "PAYER_MISMATCH"
    await related(paysFor=True)

    async def allowed() -> Any:
        try:
            return await desk.allocate(payment.name, (invoice.name, ""))
        except Refused as refused:
            assert refused.reason == "PAYER_MISMATCH"
            return None

    assert (await billing.eventually(allowed)).unapplied.amount == "50.00"
    # The branch does not pay for its head office.
    own, other = await desk.issued(head, "10.00"), await desk.received(branch, "10.00")
    assert (await desk.refused(desk.allocate(other.name, (own.name, "")))).reason == "PAYER_MISMATCH"
    assert await figures(branch) == ("100.00", "100.00", "10.00", "0.00", "0.00")
    assert await figures(head) == ("10.00", "0.00", "50.00", "0.00", "0.00")
    # What the branch is no longer asked for is credit of its head office, and money goes back to who paid it.
    lines = [{"line": invoice.lines[0].key, "gross": desk.money("20.00")}]
    note = await desk.finance.CreateCreditNote(
        creditNote={"invoice": invoice.name, "lines": lines, "reason": REASON}
    )
    await desk.finance.IssueCreditNote(name=note.name)
    assert await figures(branch) == ("80.00", "80.00", "10.00", "0.00", "0.00")
    assert await figures(head) == ("10.00", "0.00", "70.00", "0.00", "20.00")
    await desk.refunded(payment.name, "30.00", adjust=True)
    assert await figures(branch) == ("50.00", "50.00", "10.00", "0.00", "0.00")
    assert await figures(head) == ("10.00", "0.00", "70.00", "0.00", "20.00")
    # What is paid ahead on an instalment of the branch is the branch's too, until it is undone.
    contract = desk.contract(branch, "40.00", instalments=[
        {"title": "预付", "percent": "50", "trigger": "DELIVERY"}, {"title": "尾款", "percent": "50", "trigger": "DELIVERY"},
    ])  # fmt: skip
    await desk.tell("ContractSigned", contract=contract)
    plan = await desk.plan(contract["name"])
    targets = [{"plan": plan.name, "instalment": plan.instalments[0].key}]
    await desk.finance.AllocatePayment(name=payment.name, targets=targets)
    assert await figures(branch) == ("50.00", "50.00", "10.00", "20.00", "0.00")
    assert await figures(head) == ("10.00", "0.00", "50.00", "0.00", "20.00")
    ahead = [one for one in await desk.allocations(payment.name) if one.plan == plan.name]
    await desk.finance.ReverseAllocation(name=ahead[0].name, reason=REASON)
    assert await figures(branch) == ("50.00", "50.00", "10.00", "0.00", "0.00")
    assert (await figures(head))[2] == "70.00"
    await related(paysFor=True, state="ENDED")
    last = await desk.issued(branch, "5.00")

    async def over() -> bool:
        refused = await desk.refused(desk.allocate(payment.name, (last.name, "99.00")))
        return refused.reason == "PAYER_MISMATCH"

    await billing.eventually(over)
