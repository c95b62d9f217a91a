"""The platform of the stories over HTTP serves those of the browser too."""

from tests.e2e.conftest import platform

__all__ = ["platform"]
