"""Fixtures that all tests share.

The folder `gateway/` and the package in it share a name: the package is imported before pytest makes the folder a
module.
"""

import os

# A stalled machine is no fault of what is tested: it waits longer for locks and connections than production does.
os.environ.setdefault("PATIENCE", "10")

from hypothesis import HealthCheck, settings

import gateway  # noqa: F401  # pyright: ignore[reportUnusedImport]

# Nor is it the fault of examples that they are slow to make and to try. What a test has made for it serves them all.
unhurried = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("unhurried", deadline=None, suppress_health_check=unhurried)
settings.load_profile("unhurried")

pytest_plugins = ["crmkit.testing.fixtures"]
