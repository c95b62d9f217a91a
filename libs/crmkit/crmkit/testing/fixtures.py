"""Fixtures for the tests of every service; named in the root `conftest.py`."""

from collections.abc import AsyncIterator

import pytest

from crmkit.testing import Parts


@pytest.fixture(scope="session")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    """PostgreSQL, NATS and an issuer for this process's tests."""
    async with Parts(tmp_path_factory.mktemp("parts")) as found:
        yield found
