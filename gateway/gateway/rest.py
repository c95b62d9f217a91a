"""The hot path: every transcoded request, as pure ASGI in front of FastAPI's own routes."""

from typing import Any

from gateway.edge import Exchange, respond
from gateway.errors import LOCALES, Refusal
from gateway.limits import read_body
from gateway.paging import Pages
from gateway.principals import Principals
from gateway.transcoder import Route, Transcoder
from gateway.upstream import Upstream

READ_SECONDS = 2.0
WRITE_SECONDS = 5.0
MAX_KEY = 64
PUBLIC = "public"
# Written by hand in `routes/`: no resource, or more than its bytes of JSON.
OWN_ROUTES = frozenset({("POST", "/v1/files"), ("GET", "/v1/stream")})
JSON = (b"content-type", b"application/json")
NO_STORE = (b"cache-control", b"no-store")


class Rest:
    """Serves what the transcoder knows below /v1; all else goes on to the next application."""

    def __init__(
        self,
        app: Any,
        *,
        transcoder: Transcoder,
        upstream: Upstream,
        principals: Principals,
        pages: Pages,
    ) -> None:
        self._app = app
        self._transcoder = transcoder
        self._upstream = upstream
        self._principals = principals
        self._pages = pages

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/") or _is_own(scope):
            await self._app(scope, receive, send)
            return
        exchange: Exchange = scope["exchange"]
        headers: dict[bytes, bytes] = scope["header_map"]
        route, segments = self._transcoder.match(scope["method"], scope["path"])
        exchange.label = route.method.path
        principal = await self._principals.of(scope)
        if not principal.authorization and route.method.permission != PUBLIC:
            raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED")
        paging = b"pageToken=" in scope["query_string"] and bool(principal.authorization)
        if paging:
            await self._pages.check(principal)
        body = await _json_body(headers, receive) if route.body else b""
        key = idempotency_key(headers)
        request = self._transcoder.request(route, segments, scope["query_string"], body)
        request += _preconditions(route, headers, key)
        metadata = [
            ("accept-language", LOCALES[exchange.language]),
            ("traceparent", exchange.traceparent),
            *principal.metadata,
        ]
        reply, said = await self._upstream.call(
            route.method.app,
            route.method.path,
            request,
            metadata,
            _timeout(headers, READ_SECONDS if route.verb == "GET" else WRITE_SECONDS),
            repeatable=route.verb == "GET" or bool(key and route.request_id),
        )
        if paging:
            self._pages.count(principal, reply)
        text, etag = self._transcoder.reply(route, reply)
        answer = [JSON, NO_STORE]
        if etag:
            answer.append((b"etag", b'"' + etag.encode() + b'"'))
        if key and any(name == "crm-replayed" for name, _ in said):
            answer.append((b"idempotent-replayed", b"true"))
        await respond(send, route.status, text, answer)


def _is_own(scope: Any) -> bool:
    path: str = scope["path"]
    return (scope["method"], path) in OWN_ROUTES or (
        path.endswith(":download")
        and (path.startswith("/v1/files/") or (scope["method"] == "GET" and path.startswith("/v1/exports/")))
    )


async def _json_body(headers: dict[bytes, bytes], receive: Any) -> bytes:
    body = await read_body(headers, receive)
    if body:
        kind, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
        if kind.strip() != "application/json" or parameters.strip() not in ("", "charset=utf-8"):
            raise Refusal("INVALID_ARGUMENT", "MEDIA_TYPE_UNSUPPORTED", expected="application/json")
    return body


def idempotency_key(headers: dict[bytes, bytes]) -> bytes:
    """The key, checked; empty where none came."""
    key = headers.get(b"idempotency-key", b"")
    if len(key) > MAX_KEY or not all(0x21 <= byte <= 0x7E for byte in key):
        raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="Idempotency-Key")
    return key


def _preconditions(route: Route, headers: dict[bytes, bytes], key: bytes) -> bytes:
    """If-Match and Idempotency-Key as fields of the request."""
    data = b""
    if key and route.request_id is not None:
        data = route.request_id(key)
    match = headers.get(b"if-match")
    if match is not None:
        etag = match.removeprefix(b"W/")
        if route.etag is None or len(etag) < 3 or etag[:1] != b'"' or etag[-1:] != b'"' or b'"' in etag[1:-1]:
            raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="If-Match")
        data += route.etag(etag[1:-1])
    return data


def _timeout(headers: dict[bytes, bytes], budget: float) -> float:
    """The budget, or less where the caller wants its answer sooner."""
    wanted = headers.get(b"x-request-timeout")
    if wanted is None:
        return budget
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="X-Request-Timeout")
    return min(budget, seconds)
