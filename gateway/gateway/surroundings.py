"""What the gateway finds around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from obstore.store import ObjectStore
from opentelemetry import trace
from prometheus_client import CollectorRegistry

from gateway.callers import Authenticate, Visible
from gateway.principals import Lookup
from gateway.upstream import Upstream
from gateway.witness import Witness


@dataclass(frozen=True)
class Surroundings:
    """All that is open, and is closed again by whoever opened it."""

    lookup: Lookup
    # Entries of the configuration whose key begins so, by the rest of it.
    prefix: Callable[[str], dict[str, Any]]
    authenticate: Authenticate
    visible: Visible
    ready: Callable[[], bool]
    client: httpx.AsyncClient
    upstream: Upstream
    tracer: trace.Tracer | None
    store: ObjectStore | None
    witness: Witness
    registry: CollectorRegistry
