"""What every resource of every service promises, for marketing's."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from marketing.app import app


class TestMarketing(Conformance):
    app = app()
    samples: ClassVar = {
        "campaignMembers": {"displayName": "样例{unique}"},
        "forms": {"fields": [{"key": "need", "label": "需求", "mapping": "need"}]},
    }

    # Codes and conditions have a form of their own.
    formed: ClassVar = frozenset(
        [
            "forms.fields.mapping",
            "segments.filter",
        ]
    )

    @pytest.fixture
    def service(self, marketing: Service) -> Service:
        return marketing
