import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from local_platform.issuer import issuer


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Give a port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest_asyncio.fixture(scope="session")
async def issuer_url(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> AsyncIterator[str]:
    """A running dev issuer."""
    async with issuer(tmp_path_factory.mktemp("issuer"), free_port()) as url:
        yield url
