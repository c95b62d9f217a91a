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
        # Somebody who is asked and reads none of it otherwise.
        "supportRequests": {"experts": ["employees/01900000-0000-7000-8000-0000000000e8"]},
        "quotes": {"currency": "CNY"},
        "targets": {"currency": "CNY", "actions": [{"text": "每周复盘"}]},
        "commissionPlans": {"currency": "CNY", "validFromDate": {"year": 2031, "month": 1, "day": 1}},
    }

    # Codes, filters, addresses and times have a form of their own.
    formed: ClassVar = frozenset(
        [
            "appraisalStandards.currency",
            "callLists.lead_filter",
            "commissionPlans.currency",
            "discountPolicies.currency",
            "opportunities.stage",
            "priceBooks.currency",
            "quotes.currency",
            "targets.currency",
            "targets.measure",
            "targets.subject",
        ]
    )

    @pytest.fixture
    def service(self, sales: Service) -> Service:
        return sales
