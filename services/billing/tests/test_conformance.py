"""What every resource of every service promises, for billing's."""

from typing import Any, ClassVar

import pytest
from billing.app import app
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance

CNY = {"currencyCode": "CNY", "amount": "100.00"}


class TestBilling(Conformance):
    app = app()
    samples: ClassVar = {
        "paymentPlans": {
            "displayName": "回款 {unique}", "total": CNY,
            "instalments": [{"title": "全款", "percent": "100", "trigger": "ACTIVATION"}],
        },
        "invoices": {
            "displayName": "账单 {unique}", "currency": "CNY",
            "lines": [{"description": "服务", "quantity": "1", "unitPrice": CNY}],
        },
    }  # fmt: skip

    # Keys of lines are given, not taken; of which order a line is, deliveries say.
    altered: ClassVar = frozenset(
        [
            "invoices.lines.key",
            "invoices.lines.order",
            "invoices.lines.order_item",
            "paymentPlans.instalments.key",
        ]
    )
    # Codes have a form of their own; keys of lines are those of the invoice.
    formed: ClassVar = frozenset(["invoices.currency", "refunds.lines.line", "creditNotes.lines.line"])

    @pytest.fixture
    async def service(self, billing: Service, desk: Any) -> Service:
        # Of money alone that is here something goes back.
        made = await desk.pending(
            await desk.account(), "100000.00", owner=billing.person("everything").employee
        )
        here = await desk.finance.ConfirmPayment(name=made.name)
        refund = {"payment": here.name, "amount": {**CNY, "amount": "0.01"}, "reason": "客户退货退款"}
        # Of an open invoice alone a note takes something off.
        invoice = await desk.issued(
            await desk.account(), "100000.00", owner=billing.person("everything").employee
        )
        cent = {**CNY, "amount": "0.01"}
        note = {"invoice": invoice.name, "lines": [{"line": "1", "gross": cent}], "reason": "数量开多了"}
        self.samples = {**type(self).samples, "refunds": refund, "creditNotes": note}
        return billing
