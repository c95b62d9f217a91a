from collections.abc import AsyncIterator

import pytest
from crmkit.testing import Parts, Service
from servicedesk.app import app


@pytest.fixture(scope="session")
async def servicedesk(parts: Parts) -> AsyncIterator[Service]:
    """The servicedesk service on real parts."""
    async with parts.service(app()) as service:
        yield service
