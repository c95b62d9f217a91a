"""The page behind the link to a file: what it is, a field for the password, and the file itself."""

import json
import re
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote

import obstore
from crmkit.blobs import storage_key
from crmkit.json import JsonCodec
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from grpc.aio import AioRpcError
from obstore.store import ObjectStore

from gateway.errors import LOCALES, Errors, Refusal
from gateway.rest import READ_SECONDS, WRITE_SECONDS
from gateway.routes import plain
from gateway.surroundings import Surroundings

MESSAGES = "crm.workspace.v1"
READ, OPEN = f"{MESSAGES}.ReadFileShareRequest", f"{MESSAGES}.OpenFileShareRequest"
REPLY = f"{MESSAGES}.SharedFile"
SECRET = re.compile(r"[A-Za-z0-9_-]{40,60}")
CHUNK = 256 * 1024
WORDS = {
    "zh": {"title": "文件下载", "password": "访问密码", "get": "下载", "until": "有效期至"},
    "en": {"title": "Download", "password": "Password", "get": "Download", "until": "Until"},
}


def router(around: Surroundings, store: ObjectStore, codec: JsonCodec, errors: Errors) -> APIRouter:
    """The page and the file."""
    routes = APIRouter(prefix="/shares")

    async def ask(
        request: Request, rpc: str, kind: str, body: dict[str, str], seconds: float
    ) -> dict[str, Any]:
        exchange = request.scope["exchange"]
        exchange.label = f"{request.method} /shares"
        if not SECRET.fullmatch(body["secret"]):
            raise Refusal("NOT_FOUND", "NOT_FOUND")
        metadata = [("accept-language", LOCALES[exchange.language]), ("traceparent", exchange.traceparent)]
        method = f"/{MESSAGES}.WorkspaceService/{rpc}"
        message = codec.from_value(kind, body)
        reply, _ = await around.upstream.call("workspace", method, message, metadata, seconds)
        return json.loads(codec.to_json(REPLY, reply))

    @routes.get("/{secret}")
    async def show(request: Request, secret: str) -> Response:
        """What the link gives. To look counts nothing."""
        words = WORDS[plain.language(request)]
        try:
            told = await ask(request, "ReadFileShare", READ, {"secret": secret}, READ_SECONDS)
        except AioRpcError as error:
            return plain.refused(request, words["title"], error, errors)
        size = f"{int(told.get('size') or 0) / 1024:,.0f} KiB"
        until = f"{words['until']} {escape(told.get('expireTime', '')[:10])}"
        heading = f"<h1>{escape(told.get('displayName', ''))}</h1><p>{size} · {until}</p>"
        return plain.page(request, words["title"], heading + _form(words, bool(told.get("protected"))))

    @routes.post("/{secret}")
    async def fetch(request: Request, secret: str) -> Response:
        """The file, once more."""
        words = WORDS[plain.language(request)]
        password = parse_qs(await plain.body(request)).get("password", [""])[0]
        asked = {"secret": secret, "password": password[:100]}
        try:
            file = await ask(request, "OpenFileShare", OPEN, asked, WRITE_SECONDS)
        except AioRpcError as error:
            return plain.refused(request, words["title"], error, errors, _form(words, bool(password)))
        headers = {
            "cache-control": "no-store", "content-length": str(int(file.get("size") or 0)), "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; sandbox",
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.get('displayName') or 'file', safe='')}",
        }  # fmt: skip
        media_type = file.get("mediaType") or "application/octet-stream"
        if not int(file.get("size") or 0):
            return Response(b"", media_type=media_type, headers=headers)
        found = await obstore.get_async(store, storage_key(file["sha256"]))
        chunks = found.stream(min_chunk_size=CHUNK)
        return StreamingResponse(
            (bytes(chunk) async for chunk in chunks), headers=headers, media_type=media_type
        )

    return routes


def _form(words: dict[str, str], protected: bool) -> str:
    field = '<input name="password" type="password" maxlength="100" required autocomplete="off">'
    password = f"<label>{words['password']}{field}</label>" if protected else ""
    return f'<form method="post">{password}<button>{words["get"]}</button></form>'
