"""Credit notes by hand: what an open invoice no longer asks for."""

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


async def test_what_was_paid_goes_back_by_a_refund_and_what_was_used_stays(desk: Any) -> None:
    customer, finance = await desk.account(), desk.finance
    invoice = await issued(desk, customer, ("1", "100.00", "0"))
    payment = await desk.received(customer, "95.00")
    await desk.allocate(payment.name, (invoice.name, ""))
    over = await note(desk, invoice, ("1", "5.01"))
    problem = await desk.refused(finance.IssueCreditNote(name=over.name))
    assert (problem.reason, problem.info.metadata["left"]) == ("CREDIT_OVER_BALANCE", "5.00 CNY")
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
