"""Fixtures that all tests share.

The folder `gateway/` and the package in it share a name: the package is imported before pytest makes the folder a
module.
"""

import os

# A stalled machine is no fault of what is tested: it waits longer for locks and connections than production does.
os.environ.setdefault("PATIENCE", "10")

import gateway  # noqa: F401  # pyright: ignore[reportUnusedImport]

pytest_plugins = ["crmkit.testing.fixtures"]
