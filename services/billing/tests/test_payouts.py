"""Money that we pay out, through the front door."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.billing.v1 import pb
from crmkit.testing import Refused, Service, local_date

Payout = pb.Payout
BANK = {"payeeBank": "中国银行上海分行", "payeeAccount": "6216000011112222"}


async def asked(billing: Service, amount: str = "1240.00", **fields: Any) -> Any:
    """The payout that billing drafts for a statement of sales1."""
    person, statement = billing.person("sales1"), f"commissionStatements/{uuid4()}"
    money = {"currencyCode": "CNY", "amount": amount}
    told = {"name": statement, "owner": person.employee, "department": person.department, "payable": money}
    fact = {"statement": told, "payee": person.employee, "amount": money, **fields}
    for _ in range(2):
        # The same statement by two facts of their own: a stream that was published again.
        await billing.tell("crm.sales.v1.CommissionPayoutRequested", fact, statement, times=2)

    async def drafted() -> Any:
        found = await billing.client("finance").ListPayouts(filter=f'source = "{statement}"')
        return found.payouts[0] if found.payouts else None

    made = await billing.eventually(drafted)
    assert len((await billing.client("finance").ListPayouts(filter=f'source = "{statement}"')).payouts) == 1
    return made


async def test_a_commission_is_drafted_once_approved_sent_and_paid(billing: Service, desk: Any) -> None:
    finance, person = desk.finance, billing.person("sales1")
    made = await asked(billing)
    assert (made.state, made.kind, made.amount.amount, made.employee, made.number[:4]) == (
        Payout.DRAFT,
        Payout.COMMISSION,
        "1240.00",
        person.employee,
        "FK20",
    )
    assert made.payee_name and made.own_entity
    # Nobody can pay to an account that is not known; what was approved does not change.
    assert (await desk.refused(finance.ApprovePayout(name=made.name))).reason == "PAYEE_ACCOUNT_MISSING"
    assert (await desk.refused(finance.SendPayout(name=made.name))).reason == "ILLEGAL_TRANSITION"
    mask = ",".join(BANK)
    await finance.UpdatePayout(payout={"name": made.name, **BANK}, updateMask=mask)
    assert (await finance.ApprovePayout(name=made.name)).state == Payout.APPROVED
    late = finance.UpdatePayout(payout={"name": made.name, **BANK}, updateMask=mask)
    assert (await desk.refused(late)).reason == "ILLEGAL_TRANSITION"
    assert (await finance.SendPayout(name=made.name)).state == Payout.SENT
    assert (
        await desk.refused(finance.CancelPayout(name=made.name, reason="不再支付了"))
    ).reason == "PAYOUT_SENT"
    tomorrow = local_date() + timedelta(days=1)
    day = {"year": tomorrow.year, "month": tomorrow.month, "day": tomorrow.day}
    future = finance.ConfirmPayout(name=made.name, date=day)
    assert (await desk.refused(future)).violations == {"date": "DATE_IN_FUTURE"}
    # Two who confirm at once: it is paid and told once.
    answers = await asyncio.gather(
        *(finance.ConfirmPayout(name=made.name, reference="BK-1") for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in answers) == 1
    paid = await finance.GetPayout(name=made.name)
    assert (paid.state, paid.reference, bool(paid.date.year)) == (Payout.PAID, "BK-1", True)
    [fact] = await billing.facts("crm.billing.v1.PayoutPaid", made.name)
    assert (fact["source"], fact["amount"]["amount"]) == (made.source, "1240.00")
    assert len(await billing.facts("crm.billing.v1.PayoutSent", made.name)) == 1
    for verb in (finance.SendPayout, finance.ApprovePayout):
        assert (await desk.refused(verb(name=made.name))).reason == "ILLEGAL_TRANSITION"


async def test_one_cause_is_paid_once_and_again_only_where_it_came_to_nothing(
    billing: Service, desk: Any
) -> None:
    finance = desk.finance
    made = await asked(billing, "88.00")
    body = {
        "kind": "COMMISSION", "payeeName": "李雷", "amount": desk.money("88.00"), "source": made.source, **BANK,
    }  # fmt: skip
    twice = finance.CreatePayout(payout=body, requestId=uuid4().hex)
    assert (await desk.refused(twice)).reason == "DUPLICATE_PAYOUT"
    await finance.UpdatePayout(payout={"name": made.name, **BANK}, updateMask=",".join(BANK))
    await finance.ApprovePayout(name=made.name)
    await finance.SendPayout(name=made.name)
    assert (await desk.refused(finance.FailPayout(name=made.name, reason="no"))).reason == "REASON_REQUIRED"
    failed = await finance.FailPayout(name=made.name, reason="账号与户名不符")
    assert (failed.state, failed.failure) == (Payout.FAILED, "账号与户名不符")
    assert len(await billing.facts("crm.billing.v1.PayoutFailed", made.name)) == 1
    answers = await asyncio.gather(
        *(finance.CreatePayout(payout=body, requestId=uuid4().hex) for _ in range(5)), return_exceptions=True
    )
    [second] = [one for one in answers if not isinstance(one, BaseException)]
    assert {one.reason for one in answers if isinstance(one, Refused)} == {"DUPLICATE_PAYOUT"}
    cancelled = await finance.CancelPayout(name=second.name, reason="结算单有误")
    assert (cancelled.state, cancelled.failure) == (Payout.CANCELLED, "结算单有误")


async def test_the_number_of_a_payees_account_is_for_finance_and_paying_is_finances(
    billing: Service, desk: Any
) -> None:
    made = await asked(billing)
    await desk.finance.UpdatePayout(payout={"name": made.name, **BANK}, updateMask=",".join(BANK))
    seen = await billing.client("manager").GetPayout(name=made.name)
    assert (seen.amount.amount, seen.payee_account, seen.payee_bank) == ("1240.00", "", "")
    assert (await desk.finance.GetPayout(name=made.name)).payee_account == BANK["payeeAccount"]
    for refused in (billing.client("manager").ApprovePayout, billing.client("sales1").SendPayout):
        with pytest.raises(Refused) as answer:
            await refused(name=made.name)
        assert answer.value.reason in ("PERMISSION_DENIED", "NOT_FOUND")
    nothing = {"kind": "SUPPLIER", "payeeName": "供应商", "amount": desk.money("0.00"), "source": "x"}
    empty = desk.finance.CreatePayout(payout=nothing, requestId=uuid4().hex)
    assert (await desk.refused(empty)).violations == {"payout.amount": "AMOUNT_INVALID"}


async def test_a_payout_of_a_refund_pays_it_and_nothing_else_does_meanwhile(
    billing: Service, desk: Any
) -> None:
    customer, finance = await desk.account(), desk.finance
    payment = await desk.received(customer, "90.00")
    refund = await desk.refund(payment.name, "40.00")

    async def payout(amount: str = "40.00") -> Any:
        body = {
            "kind": "REFUND",
            "payeeName": "客户",
            "amount": desk.money(amount),
            "source": refund.name,
            **BANK,
        }
        return await finance.CreatePayout(payout=body, requestId=uuid4().hex)

    assert (await desk.refused(payout())).reason == "REFUND_NOT_APPROVED"
    await finance.ApproveRefund(name=refund.name)
    assert (await desk.refused(payout("39.99"))).violations == {"payout.amount": "SUM_MISMATCH"}
    answers = await asyncio.gather(*(payout() for _ in range(5)), return_exceptions=True)
    [made] = [one for one in answers if not isinstance(one, BaseException)]
    assert {one.reason for one in answers if isinstance(one, Refused)} == {"DUPLICATE_PAYOUT"}
    assert (made.account, made.own_entity) == (customer, payment.own_entity)
    for verb in (
        finance.PayRefund(name=refund.name), finance.FailRefund(name=refund.name, reason="账号有误被退回"),
    ):  # fmt: skip
        assert (await desk.refused(verb)).reason == "REFUND_BEING_PAID"
    # What the bank refused is paid by another one.
    await finance.ApprovePayout(name=made.name)
    await finance.SendPayout(name=made.name)
    await finance.FailPayout(name=made.name, reason="账号与户名不符")
    assert (await finance.GetRefund(name=refund.name)).state == pb.Refund.APPROVED
    second = await payout()
    await finance.ApprovePayout(name=second.name)
    await finance.SendPayout(name=second.name)
    await finance.ConfirmPayout(name=second.name, reference="BK-7")
    paid = await finance.GetRefund(name=refund.name)
    assert (paid.state, paid.reference, bool(paid.date.year)) == (pb.Refund.PAID, "BK-7", True)
    assert len(await billing.facts("crm.billing.v1.PaymentRefunded", refund.name)) == 1
    assert (await finance.GetPayment(name=payment.name)).refunded.amount == "40.00"
    assert (await desk.refused(payout())).reason in ("DUPLICATE_PAYOUT", "REFUND_NOT_APPROVED")
