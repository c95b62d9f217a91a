"""The web client and the API's own pages. Every asset comes from here, none from elsewhere."""

import secrets
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from crmkit.auth import Caller
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from gateway.callers import Authenticate
from gateway.edge import CSP
from gateway.errors import Refusal
from gateway.livedocument import LiveDocument
from gateway.principals import Principals

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
DOCS = """<!doctype html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "none",
  requestInterceptor: (request) => {
    const session = window.crmSession;
    if (session && request.method !== "GET") request.headers["X-CSRF"] = session.csrf;
    return request;
  },
});
fetch("/session").then((answer) => answer.json()).then((session) => { window.crmSession = session; });
"""


def api_pages(document: LiveDocument, principals: Principals, authenticate: Authenticate) -> APIRouter:
    """/openapi.json, with the custom fields that whoever asks may read, and /docs."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        caller: Caller | None = None
        with suppress(Refusal):
            principal = await principals.of(request.scope)
            if principal.authorization:
                caller = await authenticate(principal.authorization.removeprefix("Bearer "))
        found = document.of(caller)
        headers = {
            "cache-control": REVALIDATE,
            "vary": "accept-encoding, cookie, authorization, x-api-key",
            "etag": found.etag,
        }
        if request.headers.get("if-none-match", "").removeprefix("W/") == found.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(found.unpacked(), media_type="application/json", headers=headers)
        headers["content-encoding"] = "gzip"
        return Response(found.gzipped, media_type="application/json", headers=headers)

    @routes.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(DOCS, headers={"cache-control": REVALIDATE})

    @routes.get("/docs/start.js")
    async def start() -> Response:
        return Response(START, media_type="text/javascript", headers={"cache-control": REVALIDATE})

    return routes


def docs_assets() -> StaticFiles:
    """Swagger UI's own files, as the package brings them."""
    return StaticFiles(directory=str(files("fastapi_offline") / "static"))


class WebClient(StaticFiles):
    """The built web client: hashed assets for ever, everything else asked for again, paths of its own
    router answered with its one page. Each answer of the page names a nonce of its own, without which no
    style element counts.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(directory=root, html=True)
        self._page = root / "index.html"

    async def get_response(self, path: str, scope: Any) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or not _is_page(path, scope):
                raise
            response = await super().get_response("index.html", scope)
        hashed = path.startswith("assets/") and response.status_code in (200, 304)
        response.headers.setdefault("cache-control", IMMUTABLE if hashed else REVALIDATE)
        return response

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        if Path(full_path) != self._page.resolve():
            return super().file_response(full_path, *args, **kwargs)
        nonce = secrets.token_urlsafe(16)
        return HTMLResponse(
            self._page.read_text().replace("__CSP_NONCE__", nonce),
            headers={
                "cache-control": "no-store",
                "content-security-policy": CSP.format(styles=f"'self' 'nonce-{nonce}'"),
            },
        )


def _is_page(path: str, scope: Any) -> bool:
    return b"text/html" in scope["header_map"].get(b"accept", b"") and not path.startswith(("v1/", "session"))
