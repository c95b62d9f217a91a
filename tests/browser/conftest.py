"""The platform of the stories over HTTP serves those of the browser too."""

from collections.abc import Iterator

import pytest

from tests.browser.post import post
from tests.e2e.conftest import platform

__all__ = ["platform"]


@pytest.fixture(scope="session")
def mailbox() -> Iterator[dict[str, str]]:
    """Where the story of a mailbox finds its servers."""
    with post() as environment:
        yield environment
