"""Fixtures for the tests of every service; named in the root `conftest.py`."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import structlog

from crmkit.testing import Parts
from crmkit.testing.conformance import Conformance

structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)],
    logger_factory=structlog.stdlib.LoggerFactory(),
)


@pytest.fixture(scope="session")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    """PostgreSQL, NATS and an issuer for this process's tests."""
    async with Parts(tmp_path_factory.mktemp("parts")) as found:
        yield found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the conformance suite over every resource of its app."""
    tests = cast("type[object] | None", cast("Any", metafunc).cls)
    if "collection" in metafunc.fixturenames and tests is not None and issubclass(tests, Conformance):
        metafunc.parametrize("collection", [model.described.collection for model in tests.app.models])
