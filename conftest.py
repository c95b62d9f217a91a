"""Fixtures that all tests share.

The folder `gateway/` and the package in it share a name: the package is imported before pytest makes the folder a
module.
"""

import gateway  # noqa: F401  # pyright: ignore[reportUnusedImport]

pytest_plugins = ["crmkit.testing.fixtures"]
