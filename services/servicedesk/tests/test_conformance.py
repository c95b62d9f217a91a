"""What every resource of every service promises, for the service desk's."""

from typing import ClassVar

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from servicedesk.app import app


class TestServicedesk(Conformance):
    app = app()
    samples: ClassVar = {"tickets": {"requesterAddress": "13900000000"}}

    # Codes and conditions have a form of their own.
    formed: ClassVar = frozenset(
        [
            "slaPolicies.condition",
            "slaPolicies.time_zone",
            "slaPolicies.windows.from",
            "slaPolicies.windows.to",
        ]
    )

    @pytest.fixture
    def service(self, servicedesk: Service) -> Service:
        return servicedesk
