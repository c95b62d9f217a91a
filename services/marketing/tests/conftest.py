from collections.abc import AsyncIterator

import pytest
from crmkit.testing import Parts, Service
from marketing.app import app


@pytest.fixture(scope="session")
async def marketing(parts: Parts) -> AsyncIterator[Service]:
    """The marketing service on real parts."""
    async with parts.service(app()) as service:
        yield service
