"""Logs as JSON with the trace's id and without personal data; spans to an OTLP collector where one is set."""

import logging
import sys

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON

from crmkit.settings import Settings

# Fields that a log line may have. What is not here is not written: that is how logs stay free of people.
ALLOWED = frozenset(
    [
        "timestamp",
        "level",
        "event",
        "logger",
        "app",
        "method",
        "reason",
        "handler",
        "attempt",
        "trace_id",
        "span_id",
        "seconds",
        "code",
        "exception",
        "facts",
        "failures",
        "job",
        "as_of",
        "connections",
        "subject",
        "port",
        "stream",
        "path",
        "status",
        "address_hash",
        "count",
    ]
)


def start(app: str, settings: Settings) -> None:
    """Sets logging and tracing of this process up, once."""
    structlog.configure(
        processors=[*_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_processors()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _only_allowed,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("httpx", "httpcore", "nats", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Where nobody collects spans, a call has ids for its errors and logs, and nothing more.
    sampler = DEFAULT_ON if settings.otel_exporter_otlp_endpoint else ALWAYS_OFF
    provider = TracerProvider(sampler, resource=Resource.create({"service.name": app}))
    if settings.otel_exporter_otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(settings.otel_exporter_otlp_endpoint))
        )
    trace.set_tracer_provider(provider)


def _processors() -> list[structlog.typing.Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _trace_ids,
    ]


def _trace_ids(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
    return event


def _only_allowed(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if key in ALLOWED}
