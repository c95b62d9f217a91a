"""What every resource of every service promises, for billing's."""

from typing import ClassVar

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
    # Codes and conditions have a form of their own.
    formed: ClassVar = frozenset(["invoices.currency"])

    @pytest.fixture
    def service(self, billing: Service) -> Service:
        return billing
