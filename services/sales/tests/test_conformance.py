"""What every resource of every service promises, for those of sales."""

from datetime import timedelta
from typing import ClassVar
from uuid import uuid4

import pytest
from crmkit.auth import system
from crmkit.company import today
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from sales.app import app
from sales.model.contact_keys import company_key
from sales.model.deal_registration import PROTECTED_DAYS, DealRegistration

# A customer and somebody there, whom sales was told of.
KNOWN = "01900000-0000-7000-8000-00000000c0de"


@pytest.fixture(scope="session")
async def known(sales: Service) -> Service:
    """The service, which knows them."""
    person = sales.person("everything")
    whose = {
        "displayName": "样例",
        "owner": person.employee,
        "department": person.department,
        "state": "ACTIVE",
        "etag": "1",
    }
    for collection, more in (("accounts", {}), ("contacts", {"account": f"accounts/{KNOWN}"})):
        name = f"{collection}/{KNOWN}"
        payload = {
            "name": name,
            "action": "CREATED",
            "actor": "system/test",
            "resource": {"name": name, **whose, **more},
        }
        await sales.tell("crm.customer.v1.ResourceChanged", payload, name)
    # Joint work is asked for where a registration protects the deal.
    async with sales.running.call("test", system("sales")) as call:
        key = company_key("样例")
        if await call.find(DealRegistration, DealRegistration.company_key == key) is None:
            until = today(call) + timedelta(days=PROTECTED_DAYS)
            protected = DealRegistration(company_name="样例", partner=f"accounts/{uuid4()}")
            await call.add(protected)
            protected.state, protected.protect_until_date = "APPROVED", until
    return sales


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

    whole: ClassVar = {
        "bundles": {
            "groups": [{"key": "g", "displayName": "选件", "options": [{"key": "a", "product": "products/{products}"}, {"key": "b", "product": "products/{products}"}]}],
            "rules": [{"kind": "EXCLUDES", "option": "a", "other": "b"}],
            "questions": [{"text": "联网？", "answers": [{"text": "是", "options": ["a"]}]}],
        },
        "leadPoolRules": {"clauses": [{"key": "A", "clock": "NO_FOLLOW_UP", "days": 30}]},
        "opportunities": {
            "account": f"accounts/{KNOWN}", "team": [{"employee": "employees/01900000-0000-7000-8000-0000000000e8", "role": "技术"}],
            "contacts": [{"contact": f"contacts/{KNOWN}"}],
            "lines": [{"description": "设备", "quantity": "1", "unitPrice": {"currencyCode": "CNY", "amount": "10.00"}}],
        },
    }  # fmt: skip
    # What is chosen is of a bundle.
    altered: ClassVar = frozenset(["quotes.lines.choices.option"])
    # Codes, filters, addresses and times have a form of their own.
    formed: ClassVar = frozenset(
        [
            "appraisalStandards.currency",
            "bundles.groups.options.key",
            "bundles.questions.answers.options",
            "bundles.rules.option",
            "bundles.rules.other",
            "callLists.lead_filter",
            "callLists.subjects",
            "commissionPlans.currency",
            "discountPolicies.currency",
            # Only a protected line is one that joint work can be asked for.
            "jointWorkRequests.product_lines",
            "leadPoolRules.clauses.stage",
            "leadPoolRules.warn_days",
            "leadPools.hidden_fields",
            "opportunities.stage",
            "pipelines.stages.entry_fields",
            "pipelines.stages.exit_fields",
            "priceBooks.currency",
            "quotes.currency",
            "quotes.lines.key",
            "targets.currency",
            "targets.measure",
            "targets.subject",
            "territoryPlans.tree.parent",
        ]
    )

    @pytest.fixture
    def service(self, known: Service) -> Service:
        return known
