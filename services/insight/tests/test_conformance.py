"""What every resource of every service promises, for insight's."""

import pytest
from crmkit.testing import Service
from crmkit.testing.conformance import Conformance
from insight.app import app


class TestInsight(Conformance):
    app = app()

    @pytest.fixture
    def service(self, insight: Service) -> Service:
        return insight
