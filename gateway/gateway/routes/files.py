"""Files and exports: bytes go straight to the blob store, under the hash of their content; all else is a resource
of workspace. Who may read a file's record may read its bytes.
"""

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import obstore
from crmkit.blobs import QUARANTINE, storage_key
from crmkit.json import JsonCodec
from crmkit.scanning import Scan, Scanner, ScannerAway, ScanTooLarge
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore
from starlette.requests import ClientDisconnect

from gateway.errors import LOCALES, Refusal
from gateway.principals import Principal, Principals
from gateway.rest import READ_SECONDS, WRITE_SECONDS, idempotency_key
from gateway.surroundings import Surroundings

MAX_FILE = 200 * 1024 * 1024
CHUNK = 256 * 1024
SERVICE = "crm.workspace.v1.WorkspaceService"
MESSAGES = "crm.workspace.v1"
FILE = f"{MESSAGES}.File"
PERMISSION = "workspace.files.create"
MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
# Pictures that a browser may show in a page of ours; everything else is only ever saved.
SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp")
BIDI = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])


def router(
    around: Surroundings, store: ObjectStore, principals: Principals, codec: JsonCodec, scanner: Scanner
) -> APIRouter:
    """The two routes of files that carry bytes."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/files")
    async def upload(request: Request) -> Response:
        """Stores the body, at most 200 MB; its name comes in `X-File-Name`, percent-encoded.

        It hangs on the record that `X-Attached-To` names, where one is.
        """
        principal = await _caller(request)
        caller = await around.authenticate(principal.authorization.removeprefix("Bearer "))
        # The service decides again; this keeps out bytes that it would refuse.
        if not caller.may(PERMISSION):
            raise Refusal("PERMISSION_DENIED", "PERMISSION_DENIED", permission=PERMISSION)
        headers: dict[bytes, bytes] = request.scope["header_map"]
        name = _file_name(headers)
        key = idempotency_key(headers).decode()
        media_type = (
            headers.get(b"content-type", b"application/octet-stream").decode("latin-1").partition(";")[0]
        )
        if int(headers.get(b"content-length", b"0")) > MAX_FILE:
            raise _too_large()
        try:
            digest, size = await _store(request)
        except Infected as infected:
            # Nobody gets these bytes; who looks after the platform may have a look at them where they lie.
            token = principal.authorization.removeprefix("Bearer ")
            found = {"display_name": name, "sha256": infected.sha256, "size": str(infected.size)}
            around.witness.infected(token, infected.signature, found, request.scope)
            raise Refusal("INVALID_ARGUMENT", "FILE_INFECTED", signature=infected.signature) from None
        except ScannerAway:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE") from None
        except ScanTooLarge:
            raise _too_large() from None
        file: dict[str, Any] = {
            "displayName": name,
            "mediaType": media_type if MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",
            "size": str(size),
            "sha256": digest,
        }
        if record := headers.get(b"x-attached-to", b"").decode("latin-1"):
            file["attachedTo"] = [record]
        made = codec.from_value(f"{MESSAGES}.CreateFileRequest", {"file": file, "requestId": key})
        reply = await _call(request, principal, "CreateFile", made, WRITE_SECONDS)
        return Response(codec.to_json(FILE, reply), media_type="application/json")

    @routes.get("/files/{file_id}:download")
    async def download(
        request: Request, file_id: str, disposition: str = "attachment", version: int = 0
    ) -> Response:
        """The bytes of a file that the caller may see; a part of them where `Range` asks for it.

        Of the `version` that is named, where one is.
        """
        principal = await _caller(request)
        name = f"files/{file_id}"
        if version:
            of_version = {"name": name, "version": version}
            asked = codec.from_value(f"{MESSAGES}.ReadFileVersionRequest", of_version)
            reply = await _call(request, principal, "ReadFileVersion", asked, READ_SECONDS)
        else:
            asked = codec.from_value(f"{MESSAGES}.GetFileRequest", {"name": name})
            reply = await _call(request, principal, "GetFile", asked, READ_SECONDS)
        file: dict[str, Any] = json.loads(codec.to_json(FILE, reply))
        return await _send(request, principal, file, name, disposition)

    @routes.get("/exports/{export_id}:download")
    async def download_export(request: Request, export_id: str) -> Response:
        """The file of an export, for who asked for it; each time counts."""
        principal = await _caller(request)
        asked = codec.from_value("crm.common.v1.VerbRequest", {"name": f"exports/{export_id}"})
        reply = await _call(request, principal, "DownloadExport", asked, WRITE_SECONDS)
        export: dict[str, Any] = json.loads(codec.to_json(f"{MESSAGES}.Export", reply))
        file = {**export, "displayName": export.get("fileName", "")}
        return await _send(request, principal, file, f"exports/{export_id}", "attachment")

    async def _send(
        request: Request, principal: Principal, file: dict[str, Any], name: str, disposition: str
    ) -> Response:
        """The bytes that a record tells of, or the part that is asked for."""
        size, etag = int(file.get("size", 0)), f'"{file["sha256"]}"'
        headers = {
            "etag": etag,
            "accept-ranges": "bytes",
            "cache-control": "private, no-cache",
            "content-security-policy": "default-src 'none'; sandbox",
            "content-disposition": _disposition(file, disposition),
        }
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        status, start, end = _range(request, size, etag)
        headers["content-length"] = str(end - start)
        if status == 206:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        media_type = file.get("mediaType") or "application/octet-stream"
        if start == 0:
            token = principal.authorization.removeprefix("Bearer ")
            around.witness.downloaded(token, name, request.scope)
        if start == end:
            return Response(b"", media_type=media_type, headers=headers)
        found = await obstore.get_async(store, storage_key(file["sha256"]), options={"range": (start, end)})
        chunks = found.stream(min_chunk_size=CHUNK)
        body = (bytes(chunk) async for chunk in chunks)
        return StreamingResponse(body, status, headers=headers, media_type=media_type)

    async def _caller(request: Request) -> Principal:
        request.scope["exchange"].label = f"{request.method} /v1/files"
        principal = await principals.of(request.scope)
        if not principal.authorization:
            raise Refusal("UNAUTHENTICATED", "UNAUTHENTICATED")
        return principal

    async def _store(request: Request) -> tuple[str, int]:
        """Streams the body away and past the scanner, then gives it the name of its content; Infected where it is."""
        async with scanner.scan() as scan:
            return await _keep(request, scan)

    async def _keep(request: Request, scan: Scan) -> tuple[str, int]:
        hashed, size = hashlib.sha256(), 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_FILE:
                    raise _too_large()
                hashed.update(chunk)
                await scan.feed(chunk)
                yield chunk

        incoming = f"incoming/{secrets.token_hex(16)}"
        try:
            await obstore.put_async(store, incoming, chunks())
            if size > MAX_FILE:
                raise _too_large()
            if signature := await scan.verdict():
                sha256 = hashed.hexdigest()
                await obstore.copy_async(store, incoming, f"{QUARANTINE}/{sha256}")
                raise Infected(signature, sha256, size)
            with suppress(AlreadyExistsError):
                await obstore.copy_async(store, incoming, storage_key(hashed.hexdigest()), overwrite=False)
        except ClientDisconnect:
            raise ConnectionResetError from None
        finally:
            with suppress(FileNotFoundError):
                await obstore.delete_async(store, incoming)
        return hashed.hexdigest(), size

    async def _call(
        request: Request, principal: Principal, rpc: str, message: bytes, seconds: float
    ) -> bytes:
        exchange = request.scope["exchange"]
        metadata = [
            ("accept-language", LOCALES[exchange.language]),
            ("traceparent", exchange.traceparent),
            *principal.metadata,
        ]
        reply, _ = await around.upstream.call("workspace", f"/{SERVICE}/{rpc}", message, metadata, seconds)
        return reply

    return routes


class Infected(Exception):
    """The scanner has found something; the bytes lie in quarantine under their hash."""

    def __init__(self, signature: str, sha256: str, size: int) -> None:
        self.signature, self.sha256, self.size = signature, sha256, size


def _too_large() -> Refusal:
    return Refusal("RESOURCE_EXHAUSTED", "TOO_LARGE", limit="200 MB")


def _file_name(headers: dict[bytes, bytes]) -> str:
    """The last part of the name, without control and direction characters."""
    try:
        name = unquote(headers.get(b"x-file-name", b"").decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="X-File-Name") from None
    name = "".join(c for c in name.translate(BIDI).replace("\\", "/").rpartition("/")[2] if c.isprintable())
    if not name.strip() or len(name) > 255:
        raise Refusal("INVALID_ARGUMENT", "MALFORMED", detail="X-File-Name")
    return name.strip()


def _disposition(file: dict[str, Any], wanted: str) -> str:
    kind = "inline" if wanted == "inline" and file.get("mediaType") in SHOWN else "attachment"
    return f"{kind}; filename*=UTF-8''{quote(file.get('displayName') or 'file', safe='')}"


def _range(request: Request, size: int, etag: str) -> tuple[int, int, int]:
    """Status, start and end (exclusive) of what is sent."""
    match = RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match[1] == match[2] == "" or request.headers.get("if-range", etag) != etag:
        return 200, 0, size
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size - 1) + 1, size)
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        headers = [(b"content-range", f"bytes */{size}".encode())]
        raise Refusal("OUT_OF_RANGE", "RANGE_NOT_SATISFIABLE", headers=headers)
    return 206, start, end
