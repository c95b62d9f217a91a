"""Files and exports: bytes go straight to the blob store, under the hash of their content; all else is a resource
of workspace. Who may read a file's record may read its bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, unquote

import filetype
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
from gateway.settings import Settings
from gateway.surroundings import Surroundings

# What tells the kind of a file by its content is in its first bytes.
HEAD = 8192
# Programs of every system, whatever their ending.
PROGRAMS = ("application/x-msdownload", "application/x-executable")
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
    around: Surroundings,
    store: ObjectStore,
    principals: Principals,
    codec: JsonCodec,
    scanner: Scanner,
    taken: Taken,
) -> APIRouter:
    """The two routes of files that carry bytes."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/files")
    async def upload(request: Request) -> Response:
        """Stores the body, of a size and kind that the company takes; its name comes in `X-File-Name`, percent-encoded.

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
        said = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
        taken.check_name(name)
        taken.check_size(int(headers.get(b"content-length", b"0")))
        try:
            digest, size, head = await _store(request)
        except Infected as infected:
            # Nobody gets these bytes; who looks after the platform may have a look at them where they lie.
            token = principal.authorization.removeprefix("Bearer ")
            found = {"display_name": name, "sha256": infected.sha256, "size": str(infected.size)}
            around.witness.infected(token, infected.signature, found, request.scope)
            raise Refusal("INVALID_ARGUMENT", "FILE_INFECTED", signature=infected.signature) from None
        except ScannerAway:
            raise Refusal("UNAVAILABLE", "UNAVAILABLE") from None
        except ScanTooLarge:
            raise taken.too_large() from None
        file: dict[str, Any] = {
            "displayName": name,
            "mediaType": media_type_of(head, said),
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

    async def _store(request: Request) -> tuple[str, int, bytes]:
        """Streams the body away and past the scanner, then gives it the name of its content; Infected where it is.

        Gives the hash, the size and the first bytes.
        """
        async with scanner.scan() as scan:
            return await _keep(request, scan)

    async def _keep(request: Request, scan: Scan) -> tuple[str, int, bytes]:
        hashed, size, head = hashlib.sha256(), 0, bytearray()

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in request.stream():
                size += len(chunk)
                taken.check_size(size)
                if len(head) < HEAD:
                    head.extend(chunk[: HEAD - len(head)])
                hashed.update(chunk)
                await scan.feed(chunk)
                yield chunk

        incoming = f"incoming/{secrets.token_hex(16)}"
        try:
            await obstore.put_async(store, incoming, chunks())
            # The store may have said otherwise of what the stream has refused.
            taken.check_size(size)
            taken.check_content(bytes(head))
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
        return hashed.hexdigest(), size, bytes(head)

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


@dataclass(frozen=True)
class Taken:
    """What files the company takes: how large at most, in bytes, and of which kinds none."""

    largest: int
    refused: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say."""
        endings = (ending.strip().lstrip(".").lower() for ending in settings.refused_files.split(","))
        return cls(settings.file_limit_mb * 2**20, frozenset(filter(None, endings)))

    def check_name(self, name: str) -> None:
        """FILE_TYPE_REFUSED by the ending; dots and blanks behind it are none to Windows."""
        ending = name.rstrip(". ").rpartition(".")[2].lower()
        if ending in self.refused:
            raise Refusal("INVALID_ARGUMENT", "FILE_TYPE_REFUSED", type=f".{ending}")

    def check_content(self, head: bytes) -> None:
        """FILE_TYPE_REFUSED for a program under another name, where programs are refused."""
        found = filetype.guess(head)
        if "exe" in self.refused and found is not None and found.mime in PROGRAMS:
            raise Refusal("INVALID_ARGUMENT", "FILE_TYPE_REFUSED", type=found.mime)

    def check_size(self, size: int) -> None:
        """FILE_TOO_LARGE."""
        if size > self.largest:
            raise self.too_large()

    def too_large(self) -> Refusal:
        """Says so."""
        return Refusal("RESOURCE_EXHAUSTED", "FILE_TOO_LARGE", limit=f"{self.largest // 2**20} MB")


def media_type_of(head: bytes, said: str) -> str:
    """The type by the content where that tells it, else what the client says, but no picture, sound or film that it
    is not: those a page may show."""
    found = filetype.guess(head)
    if found is not None and found.mime != "application/zip":
        return found.mime
    told = said if MEDIA_TYPE.fullmatch(said) else "application/octet-stream"
    return "application/octet-stream" if told.startswith(("image/", "audio/", "video/")) else told


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
