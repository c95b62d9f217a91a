"""Credit notes by hand: what an invoice no longer asks for, and what becomes of what was paid of it."""

import asyncio
from typing import Any

from crm.billing.v1 import pb
from crmkit.testing import Refused, Service

CreditNote, Invoice = pb.CreditNote, pb.Invoice
WHY = "数量开多了，客户已确认"


async def issued(desk: Any, customer: str, *lines: tuple[str, str, str]) -> Any:
    """An issued invoice of such lines."""
    draft = await desk.draft(customer, *lines)
    return await desk.finance.IssueInvoice(name=draft.name)


async def note(desk: Any, invoice: Any, *lines: tuple[str, str], **fields: Any) -> Any:
    """A draft: so much of each line; an empty amount is all that it has left."""
    body = [{"line": key} | ({"gross": desk.money(amount)} if amount else {}) for key, amount in lines]
    return await desk.finance.CreateCreditNote(
        creditNote={"invoice": invoice.name, "lines": body, "reason": WHY, **fields}
    )


async def figures(desk: Any, customer: str) -> list[str]:
    """Issued, allocated, balance; and they are those of the documents."""
    found = await desk.balance(customer)
    assert await desk.finance.RecomputeAccountBalance(name=found.name) == found
    return [money.amount for money in (found.issued, found.allocated, found.balance)]


async def test_a_note_lowers_what_is_asked_for_is_told_and_can_be_taken_back(
    billing: Service, desk: Any
) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await issued(desk, customer, ("1", "100.00", "13"), ("2", "50.00", "0"))
    draft = await note(desk, invoice, ("1", "11.30"))
    assert (draft.state, draft.number, draft.account) == (CreditNote.DRAFT, "", customer)
    assert [m.amount for m in (draft.net, draft.tax, draft.gross)] == ["10.00", "1.30", "11.30"]
    # A draft sets the line aside and changes nothing else.
    assert (await finance.GetInvoice(name=invoice.name)).balance.amount == "213.00"
    given = await finance.IssueCreditNote(name=draft.name)
    assert (given.state, given.number[:4]) == (CreditNote.ISSUED, "CN20")
    now = await finance.GetInvoice(name=invoice.name)
    assert [m.amount for m in (now.gross, now.credited, now.balance)] == ["213.00", "11.30", "201.70"]
    assert await figures(desk, customer) == ["201.70", "0.00", "201.70"]
    [fact] = await billing.facts("crm.billing.v1.CreditNoteIssued", given.name)
    assert (fact["creditNote"]["number"], fact["invoice"]["balance"]["amount"]) == (given.number, "201.70")
    # An invoice that was credited is not taken back under the note.
    whole = finance.VoidInvoice(name=invoice.name, reason=WHY)
    assert (await desk.refused(whole)).reason == "INVOICE_CREDITED"
    again = finance.IssueCreditNote(name=draft.name)
    assert (await desk.refused(again)).reason == "ILLEGAL_TRANSITION"
    assert (
        await desk.refused(finance.VoidCreditNote(name=draft.name, reason="no"))
    ).reason == "REASON_REQUIRED"
    void = await finance.VoidCreditNote(name=draft.name, reason="开错了账单")
    assert (void.state, void.number, void.void_reason) == (CreditNote.VOID, given.number, "开错了账单")
    assert (await finance.GetInvoice(name=invoice.name)).balance.amount == "213.00"
    assert await figures(desk, customer) == ["213.00", "0.00", "213.00"]
    assert len(await billing.facts("crm.billing.v1.CreditNoteVoided", given.name)) == 1
    assert (await finance.VoidInvoice(name=invoice.name, reason=WHY)).state == Invoice.VOID


async def test_all_notes_of_a_line_are_exactly_the_line_however_many_are_made_at_once(desk: Any) -> None:
    """MON-4: 100.01 at 13 % credited in three parts gives exactly its tax of 13.00."""
    customer, finance = await desk.account(), desk.finance
    invoice = await issued(desk, customer, ("1", "100.01", "13"))
    assert invoice.gross.amount == "113.01"
    made = await asyncio.gather(
        *(note(desk, invoice, ("1", "37.67")) for _ in range(6)), return_exceptions=True
    )
    drafts = [one for one in made if not isinstance(one, BaseException)]
    assert len(drafts) == 3
    assert {one.reason for one in made if isinstance(one, Refused)} == {"CREDIT_OVER_LINE"}
    taxes = [one.tax.amount for one in drafts]
    assert sorted(taxes) == ["4.33", "4.33", "4.34"]
    for one in drafts:
        await finance.IssueCreditNote(name=one.name)
    now = await finance.GetInvoice(name=invoice.name)
    assert (now.balance.amount, now.payment_state) == ("0.00", Invoice.PAID)
    # What a draft has set aside is free again once that is void.
    second = await issued(desk, customer, ("1", "20.00", "0"))
    first = await note(desk, second, ("1", ""))
    assert first.gross.amount == "20.00"
    assert (await desk.refused(note(desk, second, ("1", "")))).reason == "CREDIT_OVER_LINE"
    await finance.VoidCreditNote(name=first.name, reason="数量没有开多")
    assert (await note(desk, second, ("1", "20.00"))).gross.amount == "20.00"


async def test_what_was_used_stays_and_the_notes_of_refunds_go_with_their_refunds(desk: Any) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await issued(desk, customer, ("1", "100.00", "0"))
    payment = await desk.received(customer, "95.00")
    await desk.allocate(payment.name, (invoice.name, ""))
    rest = await note(desk, invoice, ("1", "5.00"))
    await finance.IssueCreditNote(name=rest.name)
    now = await finance.GetInvoice(name=invoice.name)
    assert (now.balance.amount, now.payment_state) == ("0.00", Invoice.PAID)
    # Money was taken for the rest.
    used = finance.VoidCreditNote(name=rest.name, reason="想把贷项撤回")
    assert (await desk.refused(used)).reason == "CREDIT_USED"
    # The notes of refunds go with their refunds.
    paid = await issued(desk, customer, ("1", "30.00", "0"))
    money = await desk.received(customer, "30.00")
    await desk.allocate(money.name, (paid.name, ""))
    refund = await desk.refund(money.name, "10.00", adjust=True)
    await finance.ApproveRefund(name=refund.name)
    [theirs] = (await finance.ListCreditNotes(filter=f'refund = "{refund.name}"')).credit_notes
    for verb in (
        finance.IssueCreditNote(name=theirs.name),
        finance.VoidCreditNote(name=theirs.name, reason=WHY),
    ):
        assert (await desk.refused(verb)).reason == "CREDIT_OF_REFUND"
    await finance.PayRefund(name=refund.name)
    assert (await desk.refused(finance.VoidCreditNote(name=theirs.name, reason=WHY))).reason == "CREDIT_USED"


async def credit(desk: Any, customer: str) -> list[str]:
    """Unapplied and of it credit, of the account; and they are those of the documents."""
    await figures(desk, customer)
    found = await desk.balance(customer)
    return [found.unapplied.amount, found.credit.amount]


async def paid_invoice(desk: Any, customer: str, amount: str, *payments: str) -> Any:
    """An issued invoice that these payments have paid whole."""
    invoice = await issued(desk, customer, ("1", amount, "0"))
    for one in payments:
        money = await desk.received(customer, one)
        await desk.allocate(money.name, (invoice.name, one))
    return await desk.finance.GetInvoice(name=invoice.name)


async def test_what_a_paid_invoice_no_longer_asks_for_is_credit_that_the_next_invoice_takes(
    billing: Service, desk: Any
) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await paid_invoice(desk, customer, "100.00", "60.00", "40.00")
    draft = await note(desk, invoice, ("1", "50.00"))
    given = await finance.IssueCreditNote(name=draft.name)
    assert (given.state, given.credit.amount) == (CreditNote.ISSUED, "50.00")
    now = await finance.GetInvoice(name=invoice.name)
    assert [m.amount for m in (now.paid, now.credited, now.balance)] == ["50.00", "50.00", "0.00"]
    assert now.payment_state == Invoice.PAID
    assert await figures(desk, customer) == ["50.00", "50.00", "0.00"]
    assert await credit(desk, customer) == ["50.00", "50.00"]
    # The newest money first: all of 40, and 10 of 60; what stays is tied anew, at the day of its payment.
    there = (
        await finance.ListAllocations(filter=f'invoice = "{invoice.name}"', orderBy="create_time")
    ).allocations
    assert sorted((one.amount.amount, one.State.Name(one.state)) for one in there) == [
        ("40.00", "REVERSED"), ("50.00", "ACTIVE"), ("60.00", "REVERSED"),
    ]  # fmt: skip
    assert len({(one.date.year, one.date.month, one.date.day) for one in there}) == 1
    # It was paid once, and that was told once.
    assert len(await billing.facts("crm.billing.v1.InvoicePaid", invoice.name)) == 1
    [told] = await billing.facts("crm.billing.v1.CreditNoteIssued", given.name)
    assert (told["creditNote"]["credit"]["amount"], told["invoice"]["balance"]["amount"]) == ("50.00", "0.00")
    void = finance.VoidCreditNote(name=given.name, reason=WHY)
    assert (await desk.refused(void)).reason == "CREDIT_USED"
    # The next invoices take it by themselves; money that is merely unapplied waits for somebody (B-12, B-40).
    await desk.received(customer, "500.00")
    small = await issued(desk, customer, ("1", "20.00", "0"))
    assert (small.balance.amount, small.payment_state) == ("0.00", Invoice.PAID)
    assert await credit(desk, customer) == ["530.00", "30.00"]
    large = await issued(desk, customer, ("1", "90.00", "0"))
    assert (large.balance.amount, large.payment_state) == ("60.00", Invoice.PARTLY_PAID)
    assert await credit(desk, customer) == ["500.00", "0.00"]
    assert await figures(desk, customer) == ["160.00", "100.00", "60.00"]


async def test_credit_pays_only_the_same_customer_at_the_same_entity_in_its_currency_and_once(
    desk: Any,
) -> None:
    customer, stranger, finance = await desk.account(), await desk.account(), desk.finance
    invoice = await paid_invoice(desk, customer, "30.00", "30.00")
    await finance.IssueCreditNote(name=(await note(desk, invoice, ("1", ""))).name)
    assert (await issued(desk, stranger, ("1", "10.00", "0"))).balance.amount == "10.00"
    drafts = [await desk.draft(customer, ("1", "20.00", "0")) for _ in range(3)]
    done = await asyncio.gather(*(finance.IssueInvoice(name=one.name) for one in drafts))
    assert sorted(one.balance.amount for one in done) == ["0.00", "10.00", "20.00"]
    assert await credit(desk, customer) == ["0.00", "0.00"]


async def test_credit_is_paid_out_by_a_refund_and_is_credit_again_where_that_fails(desk: Any) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await paid_invoice(desk, customer, "80.00", "80.00")
    await finance.IssueCreditNote(name=(await note(desk, invoice, ("1", "25.00"))).name)
    [payment] = (await finance.ListPayments(filter=f'account = "{customer}"')).payments
    assert [m.amount for m in (payment.allocated, payment.unapplied, payment.credit)] == [
        "55.00",
        "25.00",
        "25.00",
    ]
    refund = await desk.refund(payment.name, "10.00")
    approved = await finance.ApproveRefund(name=refund.name)
    assert [m.amount for m in (approved.unapplied, approved.credit)] == ["10.00", "10.00"]
    assert await credit(desk, customer) == ["15.00", "15.00"]
    await finance.FailRefund(name=refund.name, reason="账号有误被退回")
    assert await credit(desk, customer) == ["25.00", "25.00"]
    again = await desk.refund(payment.name, "25.00")
    await finance.ApproveRefund(name=again.name)
    await finance.PayRefund(name=again.name)
    assert await credit(desk, customer) == ["0.00", "0.00"]
    assert await figures(desk, customer) == ["55.00", "55.00", "0.00"]


async def test_money_of_which_some_went_back_stays_tied_and_the_note_says_how_much_can_be_credited(
    desk: Any,
) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await paid_invoice(desk, customer, "100.00", "100.00")
    [payment] = (await finance.ListPayments(filter=f'account = "{customer}"')).payments
    refund = await desk.refund(payment.name, "20.00")
    await finance.ApproveRefund(name=refund.name)
    await finance.PayRefund(name=refund.name)
    over = await note(desk, invoice, ("1", "20.01"))
    problem = await desk.refused(finance.IssueCreditNote(name=over.name))
    assert (problem.reason, problem.info.metadata["left"]) == ("CREDIT_OVER_BALANCE", "20.00 CNY")
    assert await figures(desk, customer) == ["100.00", "80.00", "20.00"]


async def test_a_note_names_lines_of_an_issued_invoice_once_each(desk: Any) -> None:
    customer = await desk.account()
    draft = await desk.draft(customer, ("1", "10.00", "0"))
    assert (await desk.refused(note(desk, draft, ("1", "")))).reason == "INVOICE_NOT_ISSUED"
    invoice = await desk.finance.IssueInvoice(name=draft.name)
    unknown = await desk.refused(note(desk, invoice, ("9", "1.00")))
    assert unknown.violations == {"credit_note.lines[0].line": "UNKNOWN"}
    twice = await desk.refused(note(desk, invoice, ("1", "1.00"), ("1", "1.00")))
    assert twice.violations == {"credit_note.lines[1].line": "DUPLICATE"}
    assert (await desk.refused(note(desk, invoice, ("1", "1.00"), reason="no"))).reason == "REASON_REQUIRED"
