"""What every resource of every service promises, for customer's."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from customer.app import app


class TestCustomer(Conformance):
    app = app()
    # Kept without blanks and in capitals, as it is printed on invoices.
    # The title of a contact is that of the first of its affiliations.
    altered: ClassVar = frozenset(["accounts.tax_id", "contacts.title"])
    samples: ClassVar = {
        "consents": {"subject": "accounts/{accounts}", "source": "FORM"},
        "profileChanges": {"account": "accounts/{accounts}", "patch": {"language": "zh-CN"}},
        "traits": {"account": "accounts/{accounts}", "origin": "DECLARED"},
        "accountPlans": {"account": "accounts/{accounts}", "year": 2027},
        "carePlans": {"trigger": "BIRTHDAY", "channel": "SMS"},
    }

    whole: ClassVar = {
        "poolRules": {
            "pool": "pools/{pools}",
            "clauses": [{"key": "A", "clocks": [{"kind": "NO_FOLLOW_UP", "days": 30}]}], "warnDays": [],
        },
        "transfers": {"plan": [{"to": ["employees/01900000-0000-7000-8000-0000000000e8"]}]},
    }  # fmt: skip
    # Codes, filters, addresses and times have a form of their own.
    formed: ClassVar = frozenset(
        [
            "carePlans.audience_filter",
            "consents.subject",
            "gradingRules.filter",
            "imports.mapping.field",
            "merges.choices.field",
            "poolRules.warn_days",
            "pools.hidden_fields",
            "transfers.plan.collections",
            "transfers.plan.divisions",
            "transfers.plan.filter",
            "transfers.plan.items",
        ]
    )

    @pytest.fixture
    def service(self, customer: Service) -> Service:
        return customer
