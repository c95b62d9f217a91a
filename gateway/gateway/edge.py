"""The outermost ring, as one pure ASGI application: trace, limits, headers, errors, figures, log."""

import asyncio
import json
import logging
import secrets
import time
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import grpc.aio
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.errors import Errors, Refusal, language_of
from gateway.limits import Shedder, check_size
from gateway.witness import Witness

log = logging.getLogger("gateway")
propagator = TraceContextTextMapPropagator()
access = logging.getLogger("gateway.access")

CSP = (
    "default-src 'self'; script-src 'self'; style-src {styles}; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    (b"content-security-policy", CSP.format(styles="'self'").encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), geolocation=(self), microphone=()"),
]
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# RPCs of this name give a record out as a paper; that is told, as the download of a file is.
PRINTS = "Render"
# Whoever hears one of these is somewhere else now, or should not have been here: what the browser holds of ours goes.
WIPED = frozenset({"EMPLOYEE_FROZEN", "SESSION_ENDED", "DEVICE_REVOKED"})
WIPE = (b"clear-site-data", b'"cache", "storage"')
# Answered also under full load, or open so long that they would use up the places of all others.
NOT_COUNTED = ("/healthz", "/readyz", "/v1/stream", "/v1/files")


@dataclass(slots=True)
class Exchange:
    """What one request and its answer share. `label` is the route, never the address with its ids."""

    trace_id: str
    traceparent: str
    language: str
    label: str = ""
    status: int = 0
    started: bool = False
    # What the services were given to know the caller by; empty while nobody is known.
    authorization: str = ""
    extra_headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])


class Edge:
    """Wraps the application; nothing leaves without the security headers, no exception leaves at all."""

    def __init__(
        self,
        app: Any,
        *,
        errors: Errors,
        shedder: Shedder,
        registry: CollectorRegistry,
        tracer: trace.Tracer | None,
        witness: Witness,
        secure: bool,
    ) -> None:
        self._app = app
        self._errors = errors
        self._shedder = shedder
        self._tracer = tracer
        self._witness = witness
        self._headers = [*SECURITY_HEADERS, HSTS] if secure else SECURITY_HEADERS
        self._seconds = Histogram(
            "http_request_seconds",
            "Time to answer, by route and status",
            ["route", "status"],
            registry=registry,
        )
        self._refused = Counter("http_refusals", "Requests refused, by reason", ["reason"], registry=registry)
        Gauge("http_in_flight", "Requests in flight", registry=registry).set_function(
            lambda: shedder.in_flight
        )
        self._series: dict[tuple[str, int], Any] = {}
        self._log = _AccessLog()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        headers = dict(scope["headers"])
        trace_id, traceparent = _trace(headers.get(b"traceparent", b""))
        span = None
        if self._tracer is not None:
            span, trace_id, traceparent = _span(self._tracer, headers.get(b"traceparent", b""))
        exchange = Exchange(
            trace_id, traceparent, language_of(headers.get(b"accept-language", b"").decode("latin-1"))
        )
        scope["exchange"] = exchange
        scope["header_map"] = headers

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                exchange.started = True
                exchange.status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(h for h in self._headers if h[0] not in present),
                    (b"traceparent", traceparent.encode()),
                    *exchange.extra_headers,
                ]
            await send(message)

        try:
            if scope["method"] not in METHODS:
                scope["method"] = "OTHER"
                raise Refusal("UNIMPLEMENTED", "METHOD_NOT_ALLOWED")
            check_size(scope)
            if scope["path"].startswith(NOT_COUNTED):
                await self._app(scope, receive, send_with_headers)
            else:
                async with self._shedder.slot():
                    await self._app(scope, receive, send_with_headers)
        except ConnectionResetError:
            exchange.status = exchange.status or 499
        except Exception as error:
            if exchange.started:
                raise
            await self._refuse(error, exchange, scope, send_with_headers)
        finally:
            self._record(scope, exchange, perf_counter() - began)
            self._tell_of_print(scope, exchange)
            if span is not None:
                span.update_name(exchange.label or "other")
                span.set_attribute("http.response.status_code", exchange.status)
                span.end()

    async def _refuse(self, error: Exception, exchange: Exchange, scope: Any, send: Any) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            status, headers, body = self._errors.rpc(error, exchange.language, exchange.trace_id)
        else:
            if not isinstance(error, Refusal):
                log.error("unexpected error", exc_info=error, extra={"trace_id": exchange.trace_id})
                error = Refusal("INTERNAL", "INTERNAL")
            self._refused.labels(error.reason).inc()
            status, headers, body = self._errors.refusal(error, exchange.language, exchange.trace_id)
        reason = _reason(body) if status in (401, 403) else ""
        if status == 401 and reason in WIPED:
            headers.append(WIPE)
        if reason and (exchange.authorization or _brings_credentials(scope["header_map"])):
            address = scope["client"][0] if scope["client"] else ""
            route = exchange.label or scope["path"][:200]
            self._witness.refused(exchange.authorization, route, reason, address, believed=status == 403)
        await respond(send, status, body, headers)

    def _tell_of_print(self, scope: Any, exchange: Exchange) -> None:
        method = exchange.label.rpartition("/")[2]
        if exchange.status == 200 and method.startswith(PRINTS):
            record = scope["path"].removeprefix("/v1/").rpartition(":")[0]
            self._witness.printed(exchange.authorization, record, method, scope)

    def _record(self, scope: Any, exchange: Exchange, seconds: float) -> None:
        key = (exchange.label or "other", exchange.status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._seconds.labels(key[0], str(key[1]))
        series.observe(seconds)
        if access.isEnabledFor(logging.INFO):
            self._log.add(
                f'{{"time":{time.time():.3f},"method":"{scope["method"]}","route":"{key[0]}",'
                f'"status":{key[1]},"ms":{seconds * 1000:.1f},"trace_id":"{exchange.trace_id}"}}'
            )


class _AccessLog:
    """One line per request, written four times a second: `logging` costs as much as a small route."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(0.25, self._write)
        self._lines.append(line)

    def _write(self) -> None:
        access.info("\n".join(self._lines))
        self._lines.clear()


async def respond(send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Sends a whole answer."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _reason(body: bytes) -> str:
    return next((d["reason"] for d in json.loads(body)["error"]["details"] if "reason" in d), "")


def _brings_credentials(headers: dict[bytes, bytes]) -> bool:
    return b"authorization" in headers or b"x-api-key" in headers


def _span(tracer: trace.Tracer, incoming: bytes) -> tuple[trace.Span, str, str]:
    """A span below the caller's, its trace id and traceparent."""
    parent = propagator.extract({"traceparent": incoming.decode("latin-1")})
    span = tracer.start_span("request", parent, trace.SpanKind.SERVER)
    carrier: dict[str, str] = {}
    propagator.inject(carrier, trace.set_span_in_context(span))
    return span, f"{span.get_span_context().trace_id:032x}", carrier["traceparent"]


def _trace(incoming: bytes) -> tuple[str, str]:
    """The trace id and the traceparent that goes on; a new trace where none comes in well formed."""
    parts = incoming.decode("latin-1").split("-")
    if (
        len(parts) == 4
        and len(parts[1]) == 32
        and len(parts[2]) == 16
        and _hex(parts[1])
        and int(parts[1], 16)
    ):
        trace_id = parts[1].lower()
    else:
        trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-01"


def _hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
