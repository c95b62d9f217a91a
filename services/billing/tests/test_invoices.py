"""Invoices through the front door."""

import asyncio
from typing import Any

import pytest
from crm.billing.v1 import pb
from crmkit.testing import Service

Invoice = pb.Invoice
REASON = "开错抬头了"


@pytest.mark.parametrize(
    ("lines", "net", "tax", "gross"),
    [
        ([("1", "71.43", "20")], "71.43", "14.29", "85.72"),
        ([("1", "193.33", "25")], "193.33", "48.33", "241.66"),
        ([("1", "154.67", "25")], "154.67", "38.67", "193.34"),
        ([("3", "333.33", "13"), ("2.5", "0.01", "13")], "1000.02", "130.00", "1130.02"),
    ],
)
async def test_items_and_taxes_are_the_total_on_every_document(
    desk: Any, lines: list[tuple[str, str, str]], net: str, tax: str, gross: str
) -> None:
    made = await desk.draft(await desk.account(), *lines)
    assert (made.net.amount, made.tax.amount, made.gross.amount) == (net, tax, gross)
    assert made.gross_in_capitals.startswith("人民币")


async def test_minor_units_are_those_of_the_currency(desk: Any) -> None:
    customer = await desk.account()
    assert (await desk.draft(customer, ("1.5", "333", "10"), currency="JPY")).gross.amount == "550"
    assert (await desk.draft(customer, ("1", "1.234", "10"), currency="KWD")).gross.amount == "1.357"


async def test_an_invoice_is_numbered_due_and_final_once_it_is_issued(billing: Service, desk: Any) -> None:
    customer = await desk.account("华东机械", legalName="上海华东机械有限公司", taxId="91350100M000100Y43")
    made = await desk.draft(customer, ("1", "100.00", "13"), termsDays=30)
    assert (made.state, made.number, made.balance.amount) == (Invoice.DRAFT, "", "0.00")
    done = await desk.finance.IssueInvoice(name=made.name, etag=made.etag)
    assert done.number.startswith("INV2026")
    assert (done.balance.amount, done.payment_state) == ("113.00", Invoice.UNPAID)
    assert (done.buyer.title, done.buyer.tax_id) == ("上海华东机械有限公司", "91350100M000100Y43")
    assert (done.due.year, done.issue_date.year) != (0, 0)
    change = {"invoice": {"name": made.name, "note": "改一下"}, "updateMask": "note"}
    assert (await desk.refused(desk.finance.UpdateInvoice(**change))).reason == "INVOICE_FINAL"
    assert (await desk.refused(desk.finance.DeleteInvoice(name=made.name))).reason == "NUMBERED_NOT_DELETABLE"
    assert (await desk.refused(desk.finance.IssueInvoice(name=made.name))).reason == "ILLEGAL_TRANSITION"
    assert (
        await desk.refused(desk.finance.IssueInvoice(name=made.name, etag=made.etag))
    ).reason == "ETAG_MISMATCH"
    (fact,) = await billing.facts("crm.billing.v1.InvoiceIssued", made.name)
    assert fact["invoice"]["number"] == done.number


async def test_nothing_negative_nothing_empty_and_one_currency(desk: Any) -> None:
    customer = await desk.account()
    problem = await desk.refused(desk.draft(customer, ("1", "-1.00", "0")))
    assert problem.violations == {"invoice.lines[0].unit_price": "TOO_SMALL"}
    over = [
        {
            "description": "折",
            "quantity": "1",
            "unitPrice": desk.money("1.00"),
            "discount": desk.money("1.01"),
        }
    ]
    body = {"account": customer, "currency": "CNY", "lines": over}
    assert (await desk.refused(desk.finance.CreateInvoice(invoice=body))).violations == {
        "invoice.lines[0].discount": "TOO_LARGE"
    }
    body["lines"] = [{"description": "外币", "quantity": "1", "unitPrice": desk.money("1.00", "USD")}]
    assert (await desk.refused(desk.finance.CreateInvoice(invoice=body))).reason == "CURRENCY_MISMATCH"
    empty = await desk.finance.CreateInvoice(invoice={"account": customer, "currency": "CNY"})
    assert (await desk.refused(desk.finance.IssueInvoice(name=empty.name))).reason == "INVOICE_EMPTY"
    free = await desk.draft(customer, ("1", "0.00", "13"))
    assert (await desk.refused(desk.finance.IssueInvoice(name=free.name))).reason == "INVOICE_EMPTY"


async def test_sixteen_parallel_issues_with_refusals_leave_no_gap_and_no_double(desk: Any) -> None:
    customer = await desk.account()
    good = [await desk.draft(customer, ("1", "10.00", "13")) for _ in range(16)]
    bad = [await desk.draft(customer, ("1", "0.00", "0")) for _ in range(4)]
    mixed = [one for pair in zip(good, [*bad, *good[4:]], strict=False) for one in pair]
    names = list(dict.fromkeys(one.name for one in [*mixed, *good]))
    answers = await asyncio.gather(
        *(desk.finance.IssueInvoice(name=name) for name in names), return_exceptions=True
    )
    numbers = sorted(int(a.number[-6:]) for a in answers if not isinstance(a, BaseException))
    assert len(numbers) == 16
    assert numbers == list(range(numbers[0], numbers[0] + 16))
    reasons = {a.reason for a in answers if isinstance(a, BaseException)}  # type: ignore[union-attr]
    assert reasons == {"INVOICE_EMPTY"}
    found = await desk.balance(customer)
    assert (found.issued.amount, found.balance.amount) == ("180.80", "180.80")


async def test_of_two_people_who_issue_one_draft_one_does(desk: Any) -> None:
    made = await desk.draft(await desk.account(), ("1", "10.00", "0"))
    answers = await asyncio.gather(
        *(desk.finance.IssueInvoice(name=made.name) for _ in range(8)), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1


async def test_a_void_invoice_keeps_its_number_and_owes_nothing(billing: Service, desk: Any) -> None:
    customer = await desk.account()
    one = await desk.issued(customer, "100.00")
    assert (
        await desk.refused(desk.finance.VoidInvoice(name=one.name, reason="错"))
    ).reason == "REASON_REQUIRED"
    payment = await desk.received(customer, "40.00")
    await desk.allocate(payment.name, (one.name, ""))
    assert (
        await desk.refused(desk.finance.VoidInvoice(name=one.name, reason=REASON))
    ).reason == "INVOICE_HAS_PAYMENTS"
    (allocation,) = await desk.allocations(payment.name)
    await desk.finance.ReverseAllocation(name=allocation.name, reason=REASON)
    done = await desk.finance.VoidInvoice(name=one.name, reason=REASON)
    assert (done.state, done.number, done.balance.amount) == (Invoice.VOID, one.number, "0.00")
    found = await desk.balance(customer)
    assert (found.balance.amount, found.unapplied.amount) == ("0.00", "40.00")
    assert len(await billing.facts("crm.billing.v1.InvoiceVoided", one.name)) == 1


async def test_sales_read_invoices_of_their_own_and_write_none(billing: Service, desk: Any) -> None:
    customer = await desk.account()
    made = await desk.draft(customer, ("1", "10.00", "0"), owner=billing.person("sales1").employee)
    assert (await billing.sales1.GetInvoice(name=made.name)).name == made.name
    assert (await desk.refused(billing.sales2.GetInvoice(name=made.name))).reason == "NOT_FOUND"
    assert (await desk.refused(billing.sales1.IssueInvoice(name=made.name))).reason == "PERMISSION_DENIED"
