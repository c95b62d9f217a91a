from collections.abc import AsyncIterator

import pytest
from crmkit.testing import Parts, Service
from sales.app import app


@pytest.fixture(scope="session")
async def sales(parts: Parts) -> AsyncIterator[Service]:
    """The sales service on real parts."""
    async with parts.service(app()) as service:
        yield service
