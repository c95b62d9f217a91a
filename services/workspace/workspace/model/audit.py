"""The audit chain: every entry holds the hash of the one before it. Entries are only ever added."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit import withholding
from crmkit.auth import Caller
from crmkit.bulk import JsonText, insert_rows
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.driver import driver
from crmkit.events import Fact
from crmkit.mapping import Reader
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, Integer, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.audit_archive import AuditArchive
from workspace.model.audit_told import keys_for, told
from workspace.model.base import Base

BEGINNING = "0" * 64
# An auditor's: what records were and became, also where he may not open the records themselves.
READ_VALUES = "workspace.auditEntries.read_values"
PROVEN_AT_ONCE = 20_000
CHUNK = 2000
SEALED = (
    "seq", "time", "actor", "address", "method", "resource", "action", "before", "after", "subject", "guarded",
    "reason", "origin", "request", "device", "on_behalf_of",
)  # fmt: skip
_PART = ("permission", "before", "after")


class AuditEntry(Resource, Base):
    """One thing that happened; its id is the fact's. A table of months that grows without end."""

    __message__ = pb.AuditEntry
    follows_departments = False
    quotes = frozenset(["before", "after"])
    __table_args__ = (
        Index("audit_entries_seq_index", "seq"),
        Index("audit_entries_resource_index", "resource", "time"),
        Index("audit_entries_actor_index", "actor", "time"),
        {"postgresql_partition_by": "RANGE (time)"},
    )

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """Of a record that the reader may not read at all, the names of what changed; of others what is for him."""
        described = withholding.described_of(message.resource)
        if described is None or reader.is_system:
            return
        readable = reader.may(READ_VALUES) or reader.may(described.permission("read"))
        for part in (message, *message.guarded):
            for name in ("before", "after"):
                values = json.loads(told) if (told := getattr(part, name)).startswith("{") else None
                if isinstance(values, dict):
                    record = cast("dict[str, Any]", values)
                    shown = (
                        withholding.without(record, message.resource, reader)
                        if readable
                        else dict.fromkeys(record)
                    )
                    setattr(part, name, json.dumps(shown, ensure_ascii=False, sort_keys=True))

    @classmethod
    def quoted(cls, caller: Caller) -> frozenset[str]:
        """By values asks only who may read them all."""
        all_of_it = caller.may(READ_VALUES) or all(
            caller.may(one.permission("read")) for one in resources().values()
        )
        return super().quoted(caller) if all_of_it else cls.quotes

    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    seq: Mapped[int]
    actor: Mapped[str]
    address: Mapped[str]
    method: Mapped[str]
    resource: Mapped[str]
    action: Mapped[str]
    before: Mapped[str]
    after: Mapped[str]
    subject: Mapped[str]
    guarded: Mapped[Any]
    reason: Mapped[str]
    origin: Mapped[str]
    request: Mapped[str]
    device: Mapped[str]
    on_behalf_of: Mapped[str]
    prev_hash: Mapped[str]
    hash: Mapped[str]


class AuditHead(Base):
    """The end of the chain. Its row is locked by the one writer."""

    __tablename__ = "audit_heads"

    chain: Mapped[str] = mapped_column(Text, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(Text)


@dataclass(frozen=True)
class Proof:
    """How far the chain was proven, and the first entry that does not fit."""

    verified: int
    next_seq: int
    head_seq: int
    head_hash: str
    first_break: int = 0
    kind: str = ""
    sealed_seq: int = 0
    archived_seq: int = 0
    missing_facts: int = 0


async def append(facts: Sequence[Fact], call: Call) -> None:
    """Adds the facts to the chain in their order; one that is there already changes nothing."""
    connection = await driver(call.db)
    while (end := await connection.fetchrow(_LOCKED_END)) is None:
        await connection.execute(_BEGIN_CHAIN, BEGINNING)
    seq, head = end
    # Looked up with the time too, so that only the months concerned are searched.
    times = [fact.time for fact in facts]
    found = await connection.fetch(_KNOWN, [fact.id for fact in facts], min(times), max(times))
    known = {row["id"] for row in found}
    keys = await keys_for(facts, call)
    rows: list[dict[str, Any]] = []
    for fact in facts:
        if fact.id in known:
            continue
        known.add(fact.id)
        seq += 1
        entry = {"seq": seq, **told(fact, keys)}
        sealed = seal(head, fact.id, entry)
        rows.append(
            {
                "id": fact.id,
                "create_time": fact.time,
                "update_time": fact.time,
                "version": 1,
                **entry,
                "guarded": JsonText(json.dumps(entry["guarded"], ensure_ascii=False)),
                "prev_hash": head,
                "hash": sealed,
            }
        )
        head = sealed
    if rows:
        # None may be left out: the chain would be broken.
        await insert_rows(call, AuditEntry.__table__, rows, conflict="")
        await connection.execute(_MOVE_END, seq, head)


def seal(prev_hash: str, event: UUID, entry: Mapping[str, Any]) -> str:
    """SHA-256 over the previous hash and the entry as canonical JSON (RFC 8785)."""
    content = {name: entry[name] for name in SEALED} | {"event": str(event)}
    content["guarded"] = [
        part if isinstance(part, dict) else {name: getattr(part, name) for name in _PART}
        for part in entry["guarded"]
    ]
    content["time"] = entry["time"].astimezone(UTC).isoformat(timespec="microseconds")
    # Of names in ASCII, texts and integers below 2⁵³ these are the bytes of RFC 8785, ten times as fast.
    return hashlib.sha256(prev_hash.encode() + _CANONICAL.encode(content).encode()).hexdigest()


async def prove(from_seq: int, limit: int, call: Call) -> Proof:
    """Walks the chain from an entry on and finds what was changed, taken out, put in or cut off."""
    head = (
        await call.db.execute(select(AuditHead.seq, AuditHead.hash).where(AuditHead.chain == "main"))
    ).one_or_none()
    head_seq, head_hash = (head.seq, head.hash) if head else (0, BEGINNING)
    archived, archived_hash = await AuditArchive.dropped_until(call)
    expected, verified = max(from_seq, archived + 1), 0
    previous = archived_hash or BEGINNING
    if expected > archived + 1:
        before = select(AuditEntry.hash).where(AuditEntry.seq == expected - 1).limit(1)
        previous = await call.db.scalar(before) or ""
    limit = min(limit or PROVEN_AT_ONCE, PROVEN_AT_ONCE)

    def broken(kind: str) -> Proof:
        return Proof(verified, 0, head_seq, head_hash, expected, kind, archived_seq=archived)

    connection = await driver(call.db)
    while verified < limit:
        size = min(CHUNK, limit - verified)
        rows = await connection.fetch(_WINDOW, expected, expected + size - 1)
        if not rows:
            break
        for row in rows:
            entry = dict(row)
            if entry["seq"] != expected:
                return broken("INSERTED" if entry["seq"] < expected else "MISSING")
            if entry["prev_hash"] != previous or seal(previous, entry["id"], entry) != entry["hash"]:
                return broken("CHANGED")
            previous, expected, verified = entry["hash"], expected + 1, verified + 1
    if expected <= head_seq and verified < limit:
        later = await call.db.scalar(select(AuditEntry.seq).where(AuditEntry.seq > expected).limit(1))
        return broken("MISSING" if later else "CUT")
    if expected == head_seq + 1:
        if previous != head_hash:
            expected -= 1
            return broken("CHANGED")
        if await call.db.scalar(select(AuditEntry.seq).where(AuditEntry.seq > head_seq).limit(1)):
            return broken("INSERTED")
    return Proof(
        verified, expected if expected <= head_seq else 0, head_seq, head_hash, archived_seq=archived
    )


_LOCKED_END = "SELECT seq, hash FROM audit_heads WHERE chain = 'main' FOR UPDATE"
_BEGIN_CHAIN = "INSERT INTO audit_heads (chain, seq, hash) VALUES ('main', 0, $1) ON CONFLICT DO NOTHING"
_KNOWN = "SELECT id FROM audit_entries WHERE id = ANY($1::uuid[]) AND time BETWEEN $2 AND $3"
_MOVE_END = "UPDATE audit_heads SET seq = $1, hash = $2 WHERE chain = 'main'"
_WINDOW = (
    "SELECT id, prev_hash, hash, " + ", ".join(SEALED)
    + " FROM audit_entries WHERE seq BETWEEN $1 AND $2 ORDER BY seq"
)  # fmt: skip
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
