"""Signed seals of the audit chain, kept in a second place: the file store, where nothing is ever overwritten.

Who rewrites the whole chain with the owner's password still cannot make the seals agree with it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import obstore
from crmkit.blobs import open_store
from crmkit.call import Call
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from obstore.exceptions import AlreadyExistsError
from sqlalchemy import select

from workspace.model import audit

FOLDER = "audit-seals"


@dataclass(frozen=True)
class Seal:
    """What the chain ended with at a time; `genuine` where the signature is ours."""

    seq: int
    hash: str
    time: str
    genuine: bool


async def seal(call: Call) -> bool:
    """Writes a seal of the head; False where the head is sealed already. A second run changes nothing."""
    settings = call.running.settings
    head = (
        await call.db.execute(
            select(audit.AuditHead.seq, audit.AuditHead.hash).where(audit.AuditHead.chain == "main")
        )
    ).one_or_none()
    if head is None or not settings.files_url:
        return False
    body = {"seq": head.seq, "hash": head.hash, "time": call.now.isoformat()}
    signature = _key(settings.secret).sign(_content(body)).hex()
    store = open_store(settings.files_url)
    with suppress(AlreadyExistsError):
        text = json.dumps({**body, "signature": signature}).encode()
        await obstore.put_async(store, _path(head.seq), text, mode="create")
        return True
    return False


async def seals(call: Call, first: int, last: int) -> AsyncIterator[Seal]:
    """The seals of a part of the chain, in its order."""
    settings = call.running.settings
    if not settings.files_url:
        return
    store = open_store(settings.files_url)
    listed = await asyncio.to_thread(
        lambda: obstore.list(store, f"{FOLDER}/", offset=_path(max(first - 1, 0))).collect()
    )
    paths = sorted(str(cast("Any", entry)["path"]) for entry in listed)
    public = _key(settings.secret).public_key()
    for path in paths:
        if not _path(first) <= path <= _path(last):
            continue
        found = await obstore.get_async(store, path)
        try:
            body: dict[str, Any] = json.loads(bytes(await found.bytes_async()))
            signature = bytes.fromhex(body.pop("signature"))
            claimed = Seal(int(body["seq"]), str(body["hash"]), str(body["time"]), True)
        except (ValueError, KeyError, AttributeError):
            yield Seal(_seq(path), "", "", False)
            continue
        try:
            public.verify(signature, _content(body))
            yield claimed if _path(claimed.seq) == path else Seal(_seq(path), "", "", False)
        except InvalidSignature:
            yield Seal(_seq(path), claimed.hash, claimed.time, False)


def sign(body: dict[str, Any], call: Call) -> str:
    """The signature over a body, in hex, by the key of the seals."""
    return _key(call.running.settings.secret).sign(_content(body)).hex()


def signed(body: dict[str, Any], signature: str, call: Call) -> bool:
    """Whether the signature over a body is ours."""
    try:
        _key(call.running.settings.secret).public_key().verify(bytes.fromhex(signature), _content(body))
    except (InvalidSignature, ValueError):
        return False
    return True


def _key(secret: bytes) -> Ed25519PrivateKey:
    """The signing key, drawn from the installation's secret; the database does not know it."""
    seed = HKDF(hashes.SHA256(), 32, salt=None, info=b"guanxi audit seal").derive(secret)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _content(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _path(seq: int) -> str:
    return f"{FOLDER}/{seq:012}.json"


def _seq(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])
