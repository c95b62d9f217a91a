"""Money that goes back, through the front door."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

from crm.billing.v1 import pb
from crmkit.testing import Service

Refund, Invoice, CreditNote = pb.Refund, pb.Invoice, pb.CreditNote
REASON = "客户银行账号有误"


async def paid_invoice(desk: Any, customer: str, *lines: tuple[str, str, str]) -> tuple[Any, Any, str]:
    """An invoice that one payment has paid whole; with the allocation."""
    draft = await desk.draft(customer, *lines)
    invoice = await desk.finance.IssueInvoice(name=draft.name)
    payment = await desk.received(customer, invoice.gross.amount)
    await desk.allocate(payment.name, (invoice.name, ""))
    [allocation] = await desk.allocations(payment.name)
    return invoice, payment, allocation.name


async def figures(desk: Any, customer: str) -> list[str]:
    found = await desk.balance(customer)
    assert await desk.finance.RecomputeAccountBalance(name=found.name) == found
    return [money.amount for money in (found.issued, found.allocated, found.balance, found.unapplied)]


async def test_ten_of_a_hundred_go_back_and_the_invoice_is_open_again_or_asks_for_ninety(
    billing: Service, desk: Any
) -> None:
    """Without adjustment: charged 100, balance 10. With: charged 90, balance 0, no credit."""
    customer, finance = await desk.account(), desk.finance
    invoice, payment, allocation = await paid_invoice(desk, customer, ("1", "100.00", "0"))
    refund = await desk.refund(payment.name, "10.00")
    assert (refund.state, refund.account, refund.number[:4]) == (Refund.REQUESTED, customer, "TK20")
    assert (await finance.GetInvoice(name=invoice.name)).refunded.amount == "0.00"
    refund = await finance.ApproveRefund(name=refund.name)
    assert [(part.allocation, part.amount.amount) for part in refund.parts] == [(allocation, "10.00")]
    assert await billing.facts("crm.billing.v1.PaymentRefunded", refund.name) == []
    refund = await finance.PayRefund(name=refund.name, reference="BK-77")
    assert (refund.state, refund.reference, refund.unapplied.amount) == (Refund.PAID, "BK-77", "0.00")
    assert refund.date.year
    now = await finance.GetInvoice(name=invoice.name)
    assert (now.paid.amount, now.refunded.amount, now.credited.amount) == ("100.00", "10.00", "0.00")
    assert (now.balance.amount, now.payment_state) == ("10.00", Invoice.PARTLY_PAID)
    assert await figures(desk, customer) == ["100.00", "90.00", "10.00", "0.00"]
    [fact] = await billing.facts("crm.billing.v1.PaymentRefunded", refund.name)
    assert (fact["refund"]["name"], fact["payment"]["refunded"]["amount"]) == (refund.name, "10.00")
    [target] = fact["targets"]
    assert (target["allocation"]["name"], target["invoice"]["name"]) == (allocation, invoice.name)
    assert [target["allocation"][key]["amount"] for key in ("amount", "net")] == ["10.00", "10.00"]

    customer = await desk.account()
    invoice, payment, allocation = await paid_invoice(desk, customer, ("1", "100.00", "0"))
    refund = await desk.refunded(payment.name, "10.00", adjust=True)
    now = await finance.GetInvoice(name=invoice.name)
    assert (now.credited.amount, now.balance.amount, now.payment_state) == ("10.00", "0.00", Invoice.PAID)
    assert await figures(desk, customer) == ["90.00", "90.00", "0.00", "0.00"]
    [note] = (await finance.ListCreditNotes(filter=f'invoice = "{invoice.name}"')).credit_notes
    assert (note.state, note.gross.amount, note.refund) == (CreditNote.USED, "10.00", refund.name)
    [fact] = await billing.facts("crm.billing.v1.CreditNoteIssued", note.name)
    assert fact["creditNote"]["number"] == note.number and note.number.startswith("CN20")
    assert (fact["creditNote"]["invoice"], fact["invoice"]["credited"]["amount"]) == (invoice.name, "10.00")


async def test_no_more_goes_back_than_was_paid_however_many_ask_at_once(desk: Any) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice, payment, allocation = await paid_invoice(desk, customer, ("1", "100.00", "0"))
    problem = await desk.refused(desk.refund(payment.name, "100.01"))
    assert (problem.reason, problem.info.metadata["left"]) == ("REFUND_OVER_PAID", "100.00 CNY")
    body = {"payment": payment.name, "amount": desk.money("40.00"), "reason": "客户退货退款"}
    assert (await desk.refused(finance.CreateRefund(refund=body))).reason == "IDEMPOTENCY_KEY_REQUIRED"
    key = uuid4().hex
    same = await asyncio.gather(*(finance.CreateRefund(refund=body, requestId=key) for _ in range(5)))
    assert len({one.name for one in same}) == 1
    asked = [same[0], *[await desk.refund(payment.name, "40.00") for _ in range(4)]]
    answers = await asyncio.gather(
        *(finance.ApproveRefund(name=one.name) for one in asked), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in answers) == 2
    assert {one.reason for one in answers if isinstance(one, BaseException)} == {"REFUND_OVER_PAID"}  # type: ignore[union-attr]
    now = await finance.GetPayment(name=payment.name)
    assert [m.amount for m in (now.allocated, now.unapplied, now.refunded)] == ["20.00", "0.00", "80.00"]
    # What went back is not freed once more, and the rest is not spent twice.
    undo = finance.ReverseAllocation(name=allocation, reason=REASON)
    assert (await desk.refused(undo)).reason == "MONEY_REFUNDED"
    bounce = finance.ReversePayment(name=payment.name, reason=REASON)
    assert (await desk.refused(bounce)).reason == "MONEY_REFUNDED"
    void = finance.VoidInvoice(name=invoice.name, reason=REASON)
    assert (await desk.refused(void)).reason == "INVOICE_HAS_PAYMENTS"


async def test_what_is_asked_for_wrongly_is_refused_at_its_field(desk: Any) -> None:
    customer, other = await desk.account(), await desk.account("另一家")
    invoice, payment, allocation = await paid_invoice(desk, customer, ("1", "100.00", "0"))
    _, _, foreign = await paid_invoice(desk, other, ("1", "100.00", "0"))
    part = {"allocation": allocation, "amount": desk.money("10.00")}
    line = {"invoice": invoice.name, "line": "1", "amount": desk.money("10.00")}
    for fields, violations in (
        ({"amount": desk.money("0.00")}, {"refund.amount": "AMOUNT_INVALID"}),
        ({"amount": desk.money("1.001")}, {"refund.amount": "TOO_MANY_PLACES"}),
        ({"parts": [{**part, "allocation": foreign}]}, {"refund.parts.allocation": "UNKNOWN"}),
        ({"parts": [part, part]}, {"refund.parts": "DUPLICATE"}),
        ({"parts": [{**part, "amount": desk.money("10.01")}]}, {"refund.parts": "SUM_MISMATCH"}),
        ({"lines": [line]}, {"refund.lines": "NOT_ADJUSTED"}),
        ({"adjust": True, "lines": [line, line]}, {"refund.lines": "SUM_MISMATCH"}),
    ):
        body = {"payment": payment.name, "amount": desk.money("10.00"), "reason": "客户退货退款", **fields}
        problem = await desk.refused(desk.finance.CreateRefund(refund=body, requestId=uuid4().hex))
        assert problem.violations == violations, fields
    assert (await desk.refused(desk.refund(payment.name, "10.00", reason="退"))).reason == "REASON_REQUIRED"
    dollars = desk.refund(payment.name, "10.00", "USD")
    assert (await desk.refused(dollars)).reason == "CURRENCY_MISMATCH"
    pending = await desk.pending(customer, "10.00")
    assert (await desk.refused(desk.refund(pending.name, "10.00"))).reason == "ILLEGAL_TRANSITION"
    refund = await desk.refund(payment.name, "10.00")
    assert (await desk.refused(desk.finance.PayRefund(name=refund.name))).reason == "ILLEGAL_TRANSITION"
    await desk.finance.ApproveRefund(name=refund.name)
    late = desk.finance.PayRefund(name=refund.name, date={"year": 2099, "month": 1, "day": 1})
    assert (await desk.refused(late)).violations == {"date": "DATE_IN_FUTURE"}


async def test_money_tied_to_nothing_goes_first_and_named_allocations_alone_where_they_are_named(
    desk: Any,
) -> None:
    customer = await desk.account()
    one, two = await desk.issued(customer, "50.00"), await desk.issued(customer, "70.00")
    payment = await desk.received(customer, "150.00")
    await desk.allocate(payment.name, (one.name, ""), (two.name, ""))
    first, second = await desk.allocations(payment.name)
    refund = await desk.refunded(payment.name, "40.00")
    assert refund.unapplied.amount == "30.00"
    assert [(part.allocation, part.amount.amount) for part in refund.parts] == [(second.name, "10.00")]
    named = await desk.refunded(payment.name, "50.00", parts=[{"allocation": first.name}])
    assert [(p.invoice, p.amount.amount) for p in named.parts] == [(one.name, "50.00")]
    assert await figures(desk, customer) == ["120.00", "60.00", "60.00", "0.00"]
    over = desk.refund(payment.name, "1.00", parts=[{"allocation": first.name, "amount": desk.money("1.00")}])
    assert (await desk.refused(over)).reason == "REFUND_OVER_PAID"


async def test_all_credits_of_a_line_are_never_more_than_the_line_and_give_exactly_its_tax(
    desk: Any,
) -> None:
    """Of a line of 922.80 that 872.23 were taken off, 50.57 are left; its net and tax are credited to the cent."""
    customer, finance = await desk.account(), desk.finance
    invoice, payment, _ = await paid_invoice(desk, customer, ("1", "816.64", "13"), ("2", "100.00", "0"))
    assert [line.gross.amount for line in invoice.lines] == ["922.80", "200.00"]

    def taken(amount: str, line: str = "1") -> dict[str, Any]:
        return {
            "adjust": True,
            "lines": [{"invoice": invoice.name, "line": line, "amount": desk.money(amount)}],
        }

    await desk.refunded(payment.name, "872.23", **taken("872.23"))
    over = await desk.refund(payment.name, "50.58", **taken("50.58"))
    problem = await desk.refused(finance.ApproveRefund(name=over.name))
    assert (problem.reason, problem.info.metadata["left"]) == ("REFUND_OVER_CREDITABLE", "50.57 CNY")
    unknown = await desk.refund(payment.name, "1.00", **taken("1.00", "9"))
    assert (await desk.refused(finance.ApproveRefund(name=unknown.name))).reason == "VALIDATION"
    await desk.refunded(payment.name, "50.57", **taken("50.57"))
    # What is left of the invoice, over all lines that have something left.
    last = await desk.refunded(payment.name, "200.00", adjust=True)
    notes = (await finance.ListCreditNotes(filter=f'invoice = "{invoice.name}"')).credit_notes
    assert sum(Decimal(note.net.amount) for note in notes) == Decimal(invoice.net.amount)
    assert sum(Decimal(note.tax.amount) for note in notes) == Decimal(invoice.tax.amount)
    [note] = [note for note in notes if note.refund == last.name]
    assert [(line.line, line.gross.amount) for line in note.lines] == [("2", "200.00")]
    refunds = (await finance.ListRefunds(filter=f'payment = "{payment.name}" AND state = PAID')).refunds
    nets = [Decimal(part.net.amount) for refund in refunds for part in refund.parts]
    assert sum(nets) == Decimal(invoice.net.amount)
    numbers = sorted(int(note.number[-6:]) for note in notes)
    assert numbers == list(range(numbers[0], numbers[0] + 3)), "numbers of an entity have no gaps"
    assert await figures(desk, customer) == ["0.00", "0.00", "0.00", "0.00"]


async def test_a_refund_that_fails_leaves_every_balance_as_it_was(billing: Service, desk: Any) -> None:
    customer, finance = await desk.account(), desk.finance
    body = {
        "displayName": "一次付清", "account": customer, "total": desk.money("100.00"),
        "instalments": [{"title": "全款", "percent": "100", "trigger": "ACTIVATION"}],
    }  # fmt: skip
    plan = await finance.CreatePaymentPlan(paymentPlan=body)
    await finance.ActivatePaymentPlan(name=plan.name)
    draft = await finance.InvoicePaymentPlan(name=plan.name, instalment="1")
    invoice = await finance.IssueInvoice(name=draft.name)
    payment = await desk.received(customer, "130.00")
    await finance.AutoAllocatePayment(name=payment.name)

    async def everything() -> list[Any]:
        [allocation] = await desk.allocations(payment.name)
        rows = [
            await finance.GetInvoice(name=invoice.name), await finance.GetPayment(name=payment.name), allocation,
            await finance.GetPaymentPlan(name=plan.name), await desk.balance(customer),
        ]  # fmt: skip
        for row in rows:
            row.ClearField("etag")
            row.ClearField("update_time")
        return rows

    before = await everything()
    for adjust in (False, True):
        refund = await desk.refund(payment.name, "60.00", adjust=adjust)
        await finance.ApproveRefund(name=refund.name)
        held = await finance.GetPaymentPlan(name=plan.name)
        # What is no longer asked for is no longer open either.
        open_ = (pb.PaymentPlan.ACTIVE, "70.00") if not adjust else (pb.PaymentPlan.DONE, "40.00")
        assert (held.state, held.paid.amount) == open_
        assert (await desk.refused(finance.FailRefund(name=refund.name))).reason == "REASON_REQUIRED"
        failed = await finance.FailRefund(name=refund.name, reason=REASON)
        assert (failed.state, failed.failure) == (Refund.FAILED, REASON)
        assert await everything() == before
        assert await billing.facts("crm.billing.v1.PaymentRefunded", refund.name) == []
    [note] = (await finance.ListCreditNotes(filter=f'invoice = "{invoice.name}"')).credit_notes
    assert (note.state, note.number) == (CreditNote.VOID, "")
    again = await desk.refund(payment.name, "130.00")
    dropped = await finance.FailRefund(name=again.name, reason=REASON)
    assert dropped.state == Refund.FAILED and await everything() == before
    await desk.refunded(payment.name, "130.00")
    assert await figures(desk, customer) == ["100.00", "0.00", "100.00", "0.00"]
