"""Fixtures for the tests of every service; named in the root `conftest.py`."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import structlog

from crmkit.app import App
from crmkit.testing import Parts
from crmkit.testing.conformance import Conformance, cases

structlog.configure(
    processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)],
    logger_factory=structlog.stdlib.LoggerFactory(),
)


@pytest.fixture(scope="session")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Parts]:
    """PostgreSQL, NATS and an issuer for this process's tests."""
    async with Parts(tmp_path_factory.mktemp("parts")) as found:
        yield found


@pytest.fixture(scope="module")
def unchanged() -> dict[str, list[Any]]:
    """By collection the records that tests of the conformance suite only look at."""
    return {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test of the conformance suite over the resources of its app that it applies to."""
    if (app := _app_of(metafunc)) is not None and "collection" in metafunc.fixturenames:
        metafunc.parametrize("collection", cases(metafunc.function, app))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of the suite that applies to no resource of the app is none."""
    items[:] = [item for item in items if _app_of(item) is None or "NOTSET" not in item.name]


def _app_of(test: object) -> App | None:
    """The app that a test of the conformance suite is about."""
    suite = cast("type[object] | None", getattr(test, "cls", None))
    return suite.app if suite is not None and issubclass(suite, Conformance) else None
