"""What events, configuration and timed work count. One per process, on the registry that is scraped."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Every figure carries the app, so that several apps may share a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outbox_unpublished = Gauge(
            "crm_outbox_unpublished", "Facts that JetStream has not acknowledged", ["app"], registry=registry
        )
        self.outbox_oldest = Gauge(
            "crm_outbox_oldest_seconds", "Age of the oldest such fact", ["app"], registry=registry
        )
        self.published = Counter(
            "crm_events_published", "Facts that JetStream acknowledged", ["app"], registry=registry
        )
        self.business = Counter(
            "crm_business", "Business facts that JetStream acknowledged", ["app", "fact"], registry=registry
        )
        self.republished = Counter(
            "crm_events_republished",
            "Facts sent again, lost by the stream",
            ["app"],
            registry=registry,
        )
        self.handled = Histogram(
            "crm_events_handled_seconds",
            "Time of a handler: done, repeated (seen before), failed or dead",
            ["app", "handler", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.pending = Gauge(
            "crm_consumer_pending",
            "Facts of a stream that the app has not handled",
            ["app", "stream"],
            registry=registry,
        )
        self.dead_letters = Gauge(
            "crm_dead_letters", "Facts that wait for a person and replay", ["app"], registry=registry
        )
        self.jobs = Histogram(
            "crm_jobs_seconds",
            "Time of a run of a job: done, failed or given up",
            ["app", "job", "outcome"],
            buckets=(*_SECONDS, 60),
            registry=registry,
        )
        self.rpc_seconds = Histogram(
            "crm_rpc_seconds",
            "Time of an RPC",
            ["app", "method", "code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("crm_rpc_in_flight", "RPCs being served", ["app"], registry=registry)
        self.pool = Gauge("crm_db_pool_in_use", "Database connections in use", ["app"], registry=registry)

    def rpc(self, app: str, method: str, code: str, seconds: float) -> None:
        """Counts one RPC."""
        self.rpc_seconds.labels(app, method, code).observe(seconds)
