"""What an entry of the audit says of a fact.

Of what is private it says that it happened. What only some may read stands apart, with the permission that it needs.
Personal values stand there too, encrypted under a key of the person's own: erasing a person destroys the key, and the
chain of hashes over what is written stays whole.
"""

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.driver import driver
from crmkit.events import Fact
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

MARK = "sealed:1:"
NONCE = 12
LONGEST_TEXT = 2000
# Kinds of work over many rows: what they do is done by a job, for the person who asked for it.
JOBS = ("Bulk", "Run")
Keys = Mapping[str, bytes | None]


class AuditKey(Base):
    """The key of a person's values in the audit, wrapped by the installation's; none where it was destroyed."""

    __tablename__ = "audit_keys"

    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)


def told(fact: Fact, keys: Keys) -> dict[str, Any]:
    """The entry of a fact, but for its place in the chain."""
    payload = fact.payload
    if not fact.subject.endswith(".ResourceChanged"):
        after = json.dumps(payload, ensure_ascii=False, sort_keys=True)
        about = fact.aggregate or str(payload.get("record") or payload.get("caller", ""))
        return _entry(fact, about, fact.subject.rpartition(".")[2], "", after)
    name, action = str(payload.get("name", fact.aggregate)), str(payload.get("action", ""))
    collection = name.partition("/")[0]
    if collection in _private():
        return _entry(fact, name, action, "", "")
    personal = _personal().get(collection)
    parts = [
        {"permission": part["permission"], "before": before, "after": after}
        for part in payload.get("guarded", [])
        for before, after in [_change(part, action)]
        if before or after
    ]
    if personal is not None:
        permission, names = personal
        own = _only(payload, names)
        before, after = _change(own, action)
        if before or after:
            key = keys.get(name)
            part = {"before": _sealed(before, key, name), "after": _sealed(after, key, name)}
            parts.append({"permission": permission, **part})
        payload = _without(payload, names)
    return _entry(fact, name, action, *_change(payload, action), parts)


async def keys_for(facts: Sequence[Fact], call: Call) -> Keys:
    """The keys of those whom the facts are about; who has none gets one, unless it was destroyed."""
    names = sorted(
        {
            name
            for fact in facts
            if fact.subject.endswith(".ResourceChanged")
            and (name := str(fact.payload.get("name", ""))).partition("/")[0] in _personal()
        }
    )
    if not names:
        return {}
    found = await _wrapped(names, call)
    if new := [name for name in names if name not in found]:
        wrapped = [_wrap(name, secrets.token_bytes(32), call) for name in new]
        await (await driver(call.db)).execute(_ADD, new, wrapped)
        found |= dict(zip(new, wrapped, strict=True))
    return {name: _unwrap(name, wrapped, call) if wrapped else None for name, wrapped in found.items()}


async def opened(entries: Sequence[Any], call: Call) -> None:
    """Puts the values into the guarded parts of entries; what is erased stays empty."""
    sealed = [
        (entry.resource, part)
        for entry in entries
        for part in entry.guarded
        if part.before.startswith(MARK) or part.after.startswith(MARK)
    ]
    if not sealed:
        return
    found = await _wrapped(sorted({name for name, _ in sealed}), call)
    for name, part in sealed:
        wrapped = found.get(name)
        key = _unwrap(name, wrapped, call) if wrapped else None
        part.before, part.after = _open(part.before, key, name), _open(part.after, key, name)


async def destroy_key(subject: str, call: Call) -> None:
    """Makes a person's values unreadable for good, those that are still on their way too."""
    await (await driver(call.db)).execute(_DESTROY, subject)


_FIND = "SELECT subject, wrapped FROM audit_keys WHERE subject = ANY($1::text[])"
_ADD = "INSERT INTO audit_keys (subject, wrapped) SELECT * FROM unnest($1::text[], $2::bytea[])"
_DESTROY = (
    "INSERT INTO audit_keys (subject, wrapped) VALUES ($1, NULL)"
    " ON CONFLICT (subject) DO UPDATE SET wrapped = NULL"
)


async def _wrapped(names: Sequence[str], call: Call) -> dict[str, bytes | None]:
    return {row[0]: row[1] for row in await (await driver(call.db)).fetch(_FIND, list(names))}


def _wrapping(call: Call) -> AESGCM:
    secret = call.running.settings.secret
    return AESGCM(HKDF(hashes.SHA256(), 32, salt=None, info=b"guanxi audit keys").derive(secret))


def _wrap(subject: str, key: bytes, call: Call) -> bytes:
    nonce = secrets.token_bytes(NONCE)
    return nonce + _wrapping(call).encrypt(nonce, key, subject.encode())


def _unwrap(subject: str, wrapped: bytes, call: Call) -> bytes:
    return _wrapping(call).decrypt(wrapped[:NONCE], wrapped[NONCE:], subject.encode())


def _sealed(text: str, key: bytes | None, subject: str) -> str:
    """The text under the key; of whom is erased nothing is kept."""
    if not text or key is None:
        return ""
    nonce = secrets.token_bytes(NONCE)
    return MARK + b64encode(nonce + AESGCM(key).encrypt(nonce, text.encode(), subject.encode())).decode()


def _open(text: str, key: bytes | None, subject: str) -> str:
    if not text.startswith(MARK):
        return text
    data = b64decode(text.removeprefix(MARK))
    try:
        return AESGCM(key).decrypt(data[:NONCE], data[NONCE:], subject.encode()).decode() if key else ""
    except InvalidTag:
        return ""


def _only(payload: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    parts = ((where, payload.get(where) or {}) for where in ("before", "after", "resource"))
    return {where: {k: v for k, v in values.items() if k in names} for where, values in parts}


def _without(payload: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    parts = ((where, payload.get(where) or {}) for where in ("before", "after", "resource"))
    kept = {where: {k: v for k, v in values.items() if k not in names} for where, values in parts}
    return {**payload, **kept}


def _change(part: Mapping[str, Any], action: str) -> tuple[str, str]:
    """Before and after as JSON: of what was made all is new, of what was deleted all is old."""
    before, after = part.get("before"), part.get("after")
    if action == "CREATED":
        after = part.get("resource")
    elif action == "DELETED":
        before = part.get("resource")
    old, new = (json.dumps(v, ensure_ascii=False, sort_keys=True) if v else "" for v in (before, after))
    return old, new


def _entry(
    fact: Fact, resource: str, action: str, before: str, after: str, guarded: Sequence[Any] = ()
) -> dict[str, Any]:
    payload = fact.payload
    method = str(payload.get("method", ""))
    return {
        "time": fact.time, "actor": fact.actor, "address": str(payload.get("address", "")), "method": method,
        "resource": resource, "action": action, "before": before, "after": after, "subject": fact.subject,
        "guarded": list(guarded), "reason": str(payload.get("reason", ""))[:LONGEST_TEXT],
        "origin": _origin(fact.actor, method), "request": _request(fact.trace),
        "device": str(payload.get("device", "")), "on_behalf_of": _in_place_of(fact),
    }  # fmt: skip


def _origin(actor: str, method: str) -> str:
    if actor.startswith("apiKeys/"):
        return pb.AuditEntry.Origin.Name(pb.AuditEntry.KEY)
    if actor.startswith("system/") or not actor:
        return pb.AuditEntry.Origin.Name(pb.AuditEntry.SYSTEM)
    found = pb.AuditEntry.JOB if method.startswith(JOBS) else pb.AuditEntry.PERSON
    return pb.AuditEntry.Origin.Name(found)


def _request(trace: str) -> str:
    parts = trace.split("-")
    return parts[1] if len(parts) == 4 else ""


def _in_place_of(fact: Fact) -> str:
    """Whose decision a delegate has taken."""
    payload = fact.payload
    if not str(payload.get("name", "")).startswith("approvals/"):
        return ""
    before, after = ((payload.get(where) or {}).get("decisions") or [] for where in ("before", "after"))
    return next(
        (
            str(one["replaced"])
            for one in after
            if one.get("approver") == fact.actor
            and one.get("vote")
            and one.get("replaced")
            and one not in before
        ),
        "",
    )


@cache
def _private() -> frozenset[str]:
    return frozenset(found.collection for found in resources().values() if found.scope == "PRIVATE")


@cache
def _personal() -> Mapping[str, tuple[str, frozenset[str]]]:
    """By collection: what a reader of personal fields needs, and their JSON names."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for described in resources().values():
        names = frozenset(field.json_name for field in described.fields.values() if field.rule.personal)
        if names:
            found[described.collection] = (described.permission("read"), names)
    return found
