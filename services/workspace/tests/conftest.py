from collections.abc import AsyncIterator

import pytest
from crmkit.testing import Parts, Service
from local_platform.layout import PEOPLE
from workspace.app import app


@pytest.fixture(scope="session")
async def workspace(parts: Parts) -> AsyncIterator[Service]:
    """The workspace service on real parts, with the demo company."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEED_COMPANY", str(PEOPLE))
        async with parts.service(app()) as service:
            yield service
