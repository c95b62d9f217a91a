"""The map of the platform: which apps there are, where they listen, what they need.

The launcher, the end-to-end tests and a test over the chart's values read it.
"""

import os
from dataclasses import dataclass

POSTGRES_PORT = 7432
NATS_PORT = 7422
ISSUER_PORT = 7480
KEYCLOAK_PORT = 7481
METRICS_OFFSET = 100


@dataclass(frozen=True)
class AppEntry:
    """One app: its module is its name; `port` is gRPC, but HTTP for the gateway."""

    name: str
    port: int
    database: bool = True

    @property
    def metrics_port(self) -> int:
        """Where Prometheus scrapes the app."""
        return self.port + METRICS_OFFSET


APPS = (
    AppEntry("workspace", 7107),
    AppEntry("customer", 7101),
    AppEntry("sales", 7102),
    AppEntry("orders", 7103),
    AppEntry("billing", 7104),
    AppEntry("servicedesk", 7105),
    AppEntry("marketing", 7106),
    AppEntry("insight", 7108),
    AppEntry("gateway", 8080, database=False),
)


def moved(port: int) -> int:
    """The port moved by `PORT_OFFSET`, so that several platforms fit on one machine."""
    return port + int(os.environ.get("PORT_OFFSET", "0"))
