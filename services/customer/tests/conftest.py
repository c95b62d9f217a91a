from collections.abc import AsyncIterator

import pytest
from crmkit.testing import Parts, Service
from customer.app import app


@pytest.fixture(scope="session")
async def customer(parts: Parts) -> AsyncIterator[Service]:
    """The customer service on real parts."""
    async with parts.service(app()) as service:
        yield service
