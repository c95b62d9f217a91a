"""What every resource of every service promises, for those of sales."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from sales.app import app


class TestSales(Conformance):
    app = app()
    samples: ClassVar = {
        "opportunities": {
            "need": "更换产线",
            "amount": {"currencyCode": "CNY", "amount": "1000.00"},
            "expectedCloseDate": {"year": 2027, "month": 3, "day": 31},
        },
        "priceBooks": {"currency": "CNY"},
        "appraisalStandards": {"currency": "CNY"},
        "quotes": {"currency": "CNY"},
        "targets": {"currency": "CNY", "actions": [{"text": "每周复盘"}]},
        "commissionPlans": {"currency": "CNY", "validFromDate": {"year": 2031, "month": 1, "day": 1}},
    }

    @pytest.fixture
    def service(self, sales: Service) -> Service:
        return sales
