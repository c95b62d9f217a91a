"""Fixtures that all tests share.

The folder `gateway/` and the package in it share a name: the package is imported before pytest makes the folder a
module.
"""

from pathlib import Path

import pytest

import gateway  # noqa: F401  # pyright: ignore[reportUnusedImport]

pytest_plugins = ["crmkit.testing.fixtures"]

# What is started once for a folder: a service, or the whole platform.
TOGETHER = {"services": 2, "tests": 2, "deploy": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests that share started servers on one worker, so that nothing is started twice."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent)
        depth = TOGETHER.get(path.parts[0], len(path.parts))
        item.add_marker(pytest.mark.xdist_group("/".join(path.parts[:depth])))
