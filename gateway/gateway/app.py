"""The gateway put together: FastAPI with pure ASGI rings around it, from the outside in

Edge          trace, limits, headers, errors, figures, log
CORS          where other sites may call
Compression   bodies of 1 KiB and more
Rest          everything that `google.api.http` says
FastAPI       session, files, stream, health, pages
"""

from typing import Any

from crmkit.json import codec_of
from crmkit.scanning import Scanner
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from gateway import openapi
from gateway.descriptors import descriptors_of
from gateway.edge import Edge
from gateway.errors import Errors, Refusal
from gateway.limits import Buckets, Shedder
from gateway.livedocument import LiveDocument
from gateway.paging import Pages
from gateway.principals import ApiKeys, Principals
from gateway.rest import Rest
from gateway.routes import decide, feeds, files, health, session, shares, stream, web
from gateway.sessions import Issuer, Sessions
from gateway.settings import Settings
from gateway.surroundings import Surroundings
from gateway.transcoder import Transcoder

MIN_COMPRESSED = 1024
NOT_COMPRESSED = ("/v1/files", "/v1/stream")


def create_app(settings: Settings, descriptor_set: bytes, around: Surroundings) -> FastAPI:
    """The ASGI application. Raises at once where a binding is not supported."""
    descriptors = descriptors_of(descriptor_set)
    codec, errors = codec_of(descriptor_set), Errors(descriptors)
    transcoder = Transcoder(descriptors, codec, settings.targets)
    keys = ApiKeys(around.lookup, settings.secret_key, settings.oidc_audience)
    sessions = Sessions(settings, Issuer(settings, around.client), around.lookup)
    principals = Principals(
        sessions, keys, Buckets(), settings.rate_limit, around.witness, around.authenticate
    )
    changes = stream.Changes(descriptors, around.authenticate, around.visible)

    off: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, telemetry=off)
    app.state.changes = changes
    app.state.ready = around.ready
    app.add_exception_handler(HTTPException, _refuse_plainly)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.include_router(health.routes)
    app.include_router(session.router(sessions, keys, around, settings))
    app.include_router(stream.router(changes, principals))
    if around.store is not None and "workspace" in settings.targets and descriptors.knows(files.FILE):
        app.include_router(
            files.router(
                around,
                around.store,
                principals,
                codec,
                Scanner(settings.clamav_url),
                files.Taken.of(settings),
            )
        )
    if around.store is not None and "workspace" in settings.targets and descriptors.knows(shares.READ):
        app.include_router(shares.router(around, around.store, codec, errors))
    if "workspace" in settings.targets and descriptors.knows(feeds.READ):
        app.include_router(feeds.router(around, codec))
    if "workspace" in settings.targets and descriptors.knows(decide.READ):
        app.include_router(decide.router(around, codec, errors))
    document = LiveDocument(openapi.document(descriptors, transcoder.routes))
    app.include_router(web.api_pages(document, principals, around.authenticate))
    app.mount("/docs/assets", web.docs_assets())
    if settings.web_root is not None:
        app.mount("/", web.WebClient(settings.web_root))

    # Added from the inside out.
    pages = Pages(around.authenticate)
    app.add_middleware(
        Rest, transcoder=transcoder, upstream=around.upstream, principals=principals, pages=pages
    )
    app.add_middleware(Compression, minimum_size=MIN_COMPRESSED, compresslevel=5)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "if-match", "idempotency-key", "x-api-key"],
            expose_headers=["etag", "idempotent-replayed", "retry-after", "traceparent"],
        )
    app.add_middleware(
        Edge,
        errors=errors,
        shedder=Shedder(settings.max_in_flight, settings.max_queue),
        registry=around.registry,
        tracer=around.tracer,
        witness=around.witness,
        secure=settings.secure_cookies,
    )
    return app


class Compression(GZipMiddleware):
    """Compresses for who asks for it; costs the others nothing. Files and streams stay as they are."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = scope["type"] == "http" and b"gzip" in scope["header_map"].get(b"accept-encoding", b"")
        if asked and not scope["path"].startswith(NOT_COMPRESSED):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def _refuse_plainly(_: Any, error: Exception) -> Any:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        raise Refusal("UNIMPLEMENTED", "METHOD_NOT_ALLOWED")
    raise Refusal("NOT_FOUND", "NOT_FOUND") if status == 404 else error


async def _refuse_parameters(_: Any, error: Exception) -> Any:
    assert isinstance(error, RequestValidationError)
    fields = [(str(problem["loc"][-1]), "WRONG_FORMAT") for problem in error.errors()]
    raise Refusal("INVALID_ARGUMENT", "VALIDATION", violations=fields)
