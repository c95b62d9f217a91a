"""What every resource of every service promises, for customer's."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from customer.app import app


class TestCustomer(Conformance):
    app = app()
    # Kept without blanks and in capitals, as it is printed on invoices.
    altered: ClassVar = frozenset(["accounts.tax_id"])
    samples: ClassVar = {
        "consents": {"subject": "accounts/{accounts}", "source": "FORM"},
        "profileChanges": {"account": "accounts/{accounts}", "patch": {"language": "zh-CN"}},
        "traits": {"account": "accounts/{accounts}", "origin": "DECLARED"},
        "accountPlans": {"account": "accounts/{accounts}", "year": 2027},
        "carePlans": {"trigger": "BIRTHDAY", "channel": "SMS"},
    }

    # Codes, filters, addresses and times have a form of their own.
    formed: ClassVar = frozenset(["carePlans.audience_filter", "consents.subject", "gradingRules.filter"])

    @pytest.fixture
    def service(self, customer: Service) -> Service:
        return customer
