"""What every resource of every service promises, for orders'."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from orders.app import app

ITEM = {"description": "灯箱", "quantity": "2", "unitPrice": {"currencyCode": "CNY", "amount": "100.00"}}


class TestOrders(Conformance):
    app = app()
    samples: ClassVar = {
        "contracts": {"displayName": "年度供货 {unique}", "currency": "CNY"},
        "orders": {"displayName": "补货 {unique}", "currency": "CNY", "items": [ITEM]},
        "deliveries": {
            "displayName": "送货 {unique}",
            "lines": [{"order": "orders/{orders}", "item": "1", "quantity": "1"}],
        },
    }

    # Keys of lines are given, not taken.
    altered: ClassVar = frozenset(["contracts.lines.key", "orders.items.key"])
    whole: ClassVar = {
        "contracts": {
            "instalments": [{"title": "全款", "percent": "100", "trigger": "DATE", "date": {"year": 2031, "month": 1, "day": 31}}],
        },
    }  # fmt: skip
    # Codes have a form of their own.
    formed: ClassVar = frozenset(
        [
            "contracts.currency",
            "deliveries.lines.item",
            "orders.currency",
        ]
    )

    @pytest.fixture
    def service(self, orders: Service) -> Service:
        return orders
