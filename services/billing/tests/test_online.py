"""What a buyer pays by the payment service: signed, once, and tied to what he bought."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crm.billing.v1 import pb
from crmkit.paying import instant, signature
from crmkit.testing import Client, Refused, Service

KEY = "shared-with-the-payment-service"


@pytest.fixture
def provider(billing: Service) -> Iterator[Client]:
    """The payment service, whom nobody knows but by his signature."""
    settings = billing.running.settings.__dict__
    settings["pay_key"] = KEY
    yield Client(billing.running, billing.channel, "")
    settings["pay_key"] = ""


def report(quote: str, amount: str, currency: str = "CNY", **fields: Any) -> dict[str, Any]:
    """What the payment service tells."""
    now = datetime.now(UTC).replace(microsecond=0)
    told = {"reference": quote, "providerPayment": f"pay-{uuid4().hex}", "method": "WECHAT", **fields}
    parts = (
        *(told[name] for name in ("reference", "providerPayment", "method")),
        amount,
        currency,
        instant(now),
    )
    return {
        **told, "amount": {"currencyCode": currency, "amount": amount}, "time": now.isoformat(),
        "signature": signature(KEY, parts),
    }  # fmt: skip


async def payments(desk: Any, key: str) -> list[Any]:
    found = await desk.finance.ListPayments(filter=f'provider_payment = "{key}"')
    return list(found.payments)


async def test_what_a_buyer_paid_is_received_once_and_pays_his_order_before_and_after_it_is_invoiced(
    billing: Service, desk: Any, provider: Client
) -> None:
    customer, quote = await desk.account(), f"quotes/{uuid4()}"
    told = report(quote, "226.00")
    # The order has not come yet: the service tells it again later.
    with pytest.raises(Refused) as refused:
        await provider.ReportPayment(**told)
    assert (refused.value.reason, refused.value.info.metadata["reference"]) == ("REFERENCE_UNKNOWN", quote)
    placed = desk.order(customer, ("2", "100.00"), quote=quote)
    await desk.tell("OrderPlaced", order=placed)

    async def taken() -> bool:
        try:
            await provider.ReportPayment(**told)
        except Refused as refusal:
            assert refusal.reason == "REFERENCE_UNKNOWN"
            return False
        return True

    await billing.eventually(taken, 30)
    # Told again, and by several at once, it is the one payment.
    await asyncio.gather(*(provider.ReportPayment(**told) for _ in range(3)))
    [payment] = await payments(desk, told["providerPayment"])
    assert (payment.state, payment.account, payment.amount.amount, payment.reference) == (
        pb.Payment.RECEIVED, customer, "226.00", told["providerPayment"],
    )  # fmt: skip
    assert (payment.method, payment.owner) == (pb.Payment.WECHAT, placed["owner"])
    assert (payment.allocated.amount, payment.unapplied.amount) == ("226.00", "0.00")
    [ahead] = await desk.allocations(payment.name)
    assert (ahead.invoice, ahead.amount.amount, ahead.order) == ("", "226.00", placed["name"])
    [fact] = await billing.facts("crm.billing.v1.PaymentAllocated", payment.name)
    assert [target["quote"] for target in fact["targets"]] == [quote]
    # A second payment finds nothing open: it is there and tied to nothing.
    more = report(quote, "10.00")
    await provider.ReportPayment(**more)
    [left] = await payments(desk, more["providerPayment"])
    assert (left.allocated.amount, left.unapplied.amount) == ("0.00", "10.00")


async def test_what_nobody_with_the_key_has_signed_is_not_taken(
    billing: Service, desk: Any, provider: Client
) -> None:
    customer, quote = await desk.account(), f"quotes/{uuid4()}"
    await desk.tell("OrderPlaced", order=desk.order(customer, ("2", "100.00"), quote=quote))
    told = report(quote, "226.00")
    for wrong in (
        {"amount": {"currencyCode": "CNY", "amount": "226000.00"}},
        {"method": "CARD"},
        {"reference": f"quotes/{uuid4()}"},
        {"providerPayment": "pay-other"},
        {"time": "2026-01-01T00:00:00Z"},
        {"signature": "0" * 64},
    ):
        with pytest.raises(Refused) as refused:
            await provider.ReportPayment(**{**told, **wrong})
        assert (refused.value.code.name, refused.value.reason) == ("PERMISSION_DENIED", "SIGNATURE_INVALID")
    # Where no key is agreed nobody can sign.
    billing.running.settings.__dict__["pay_key"] = ""
    with pytest.raises(Refused) as refused:
        await provider.ReportPayment(**{**told, "signature": signature("", ["x"])})
    assert refused.value.reason == "SIGNATURE_INVALID"
    assert not await payments(desk, told["providerPayment"])
