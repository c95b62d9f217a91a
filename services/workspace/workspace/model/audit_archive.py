"""Months of the audit as files: written, proven by reading them again, and only then taken out of the database.

    entries of the month, in the order of the chain → lines of JSON, compressed → file store → read and hashed again

An archive ends where the next month begins in the chain: what came late stays and goes with that month.
"""

import gzip
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, cast
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit import blobs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason
from crmkit.resource import Resource
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

from workspace import seals
from workspace.model import audit
from workspace.model.base import Base

CHUNK = 5000


class AuditArchive(Resource, Base):
    """One month in a file. The months are archived, and leave the database, in their order."""

    __message__ = pb.AuditArchive
    __table_args__ = (Index("audit_archives_month_key", "month", unique=True),)

    month: Mapped[str]
    state: Mapped[str]
    first_seq: Mapped[int]
    last_seq: Mapped[int]
    before_hash: Mapped[str]
    last_hash: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[Decimal | None]
    signature: Mapped[str]
    verify_time: Mapped[datetime | None]
    drop_time: Mapped[datetime | None]

    @classmethod
    async def dropped_until(cls, call: Call) -> tuple[int, str]:
        """The last entry that is no more in the database, and its hash."""
        last = select(cls.last_seq, cls.last_hash).where(cls.state == "DROPPED").order_by(cls.last_seq.desc())
        found = (await call.db.execute(last.limit(1))).one_or_none()
        return (found.last_seq, found.last_hash) if found else (0, "")

    @classmethod
    async def of_month(cls, month: str, call: Call) -> "AuditArchive":
        """The month's archive, written and proven; the one that is there where it was before."""
        first = _first_day(month)
        end = _next_month(first)
        if end > call.now:
            raise FailedPrecondition("AUDIT_MONTH_OPEN", month=month)
        if (known := await call.find(cls, cls.month == month)) is not None:
            return known
        begin, before_hash = await cls._end_of_archived(call)
        later = select(func.min(audit.AuditEntry.seq)).where(
            audit.AuditEntry.time >= end, audit.AuditEntry.seq > begin
        )
        head = select(func.max(audit.AuditEntry.seq))
        found = await call.db.scalar(later)
        last = found - 1 if found else (await call.db.scalar(head) or 0)
        oldest = await call.db.scalar(
            select(func.min(audit.AuditEntry.time)).where(audit.AuditEntry.seq.between(begin + 1, last))
        )
        if oldest is None:
            raise FailedPrecondition("AUDIT_MONTH_EMPTY", month=month)
        made = cls(month=month, state="VERIFIED", first_seq=begin + 1, last_seq=last, before_hash=before_hash)
        last_hash = select(audit.AuditEntry.hash).where(audit.AuditEntry.seq == last).limit(1)
        made.last_hash = await call.db.scalar(last_hash) or ""
        with tempfile.TemporaryFile() as file:
            await made._write(cast("BinaryIO", file), call)
            sha256, size = await blobs.keep(call.running.store, cast("BinaryIO", file))
        made.sha256, made.size = sha256, Decimal(size)
        made.signature = seals.sign(made._content(), call)
        await made._prove(call)
        return await call.add(made)

    async def drop(self, reason: str, call: Call) -> None:
        """Proves the file again; then the database's owner takes the month away."""
        self.check_state("VERIFIED")
        check_reason(reason)
        earlier = select(func.min(AuditArchive.month)).where(
            AuditArchive.state == "VERIFIED", AuditArchive.month < self.month
        )
        if (first := await call.db.scalar(earlier)) is not None:
            raise FailedPrecondition("AUDIT_MONTH_EARLIER", month=first)
        await self._prove(call)
        self.state, self.drop_time = "DROPPED", call.now
        await call.flush()
        # The function looks at this very row, so that nothing goes that is not archived.
        await call.db.execute(
            text("SELECT audit_drop(:until, :hash)"), {"until": self.last_seq, "hash": self.last_hash}
        )

    @classmethod
    async def _end_of_archived(cls, call: Call) -> tuple[int, str]:
        last = select(cls.last_seq, cls.last_hash).order_by(cls.last_seq.desc()).limit(1)
        found = (await call.db.execute(last)).one_or_none()
        return (found.last_seq, found.last_hash) if found else (0, audit.BEGINNING)

    async def _write(self, file: BinaryIO, call: Call) -> None:
        # Without a time of its own in the file: the same entries give the same bytes.
        with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
            async for row in _rows(self.first_seq, self.last_seq, call):
                packed.write(json.dumps(_line(row), ensure_ascii=False, sort_keys=True).encode() + b"\n")

    async def _prove(self, call: Call) -> None:
        """AUDIT_ARCHIVE_BROKEN unless the file is whole, its chain closed, and its ends those of the archive."""
        try:
            async with blobs.fetched(call.running.store, self.sha256) as file:
                seq, head = self.first_seq - 1, self.before_hash
                for entry in _lines(file):
                    fits = entry["seq"] == seq + 1 and entry["prev_hash"] == head
                    if not fits or audit.seal(head, UUID(entry["id"]), entry) != entry["hash"]:
                        raise FailedPrecondition("AUDIT_ARCHIVE_BROKEN")
                    seq, head = entry["seq"], entry["hash"]
        except (FileNotFoundError, blobs.Changed, OSError, ValueError, KeyError):
            raise FailedPrecondition("AUDIT_ARCHIVE_BROKEN") from None
        genuine = seals.signed(self._content(), self.signature, call)
        if (seq, head) != (self.last_seq, self.last_hash) or not genuine:
            raise FailedPrecondition("AUDIT_ARCHIVE_BROKEN")
        self.verify_time = call.now

    def _content(self) -> dict[str, Any]:
        return {
            "month": self.month, "first": self.first_seq, "last": self.last_seq, "before": self.before_hash,
            "hash": self.last_hash, "sha256": self.sha256,
        }  # fmt: skip


async def _rows(first: int, last: int, call: Call) -> AsyncIterator[Any]:
    after = first - 1
    entry = audit.AuditEntry
    columns = [entry.id, entry.prev_hash, entry.hash, *(getattr(entry, name) for name in audit.SEALED)]
    while after < last:
        part = select(*columns).where(entry.seq > after, entry.seq <= last).order_by(entry.seq).limit(CHUNK)
        rows = (await call.db.execute(part)).all()
        if not rows:
            return
        for row in rows:
            yield row
        after = rows[-1].seq


def _line(row: Any) -> dict[str, Any]:
    values = {**row._mapping, "id": str(row.id), "time": row.time.astimezone(UTC).isoformat()}
    values["guarded"] = [
        {"permission": part.permission, "before": part.before, "after": part.after} for part in row.guarded
    ]
    return values


def _lines(file: BinaryIO) -> Iterator[dict[str, Any]]:
    with gzip.GzipFile(fileobj=file, mode="rb") as packed:
        for line in packed:
            entry: dict[str, Any] = json.loads(line)
            entry["time"] = datetime.fromisoformat(entry["time"])
            yield entry


def _first_day(month: str) -> datetime:
    try:
        found = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise Validation(
            Violation("month", "WRONG_FORMAT", "月份格式应为 2026-10", "A month is written as 2026-10.")
        ) from None
    return datetime(found.year, found.month, 1, tzinfo=UTC)


def _next_month(first: datetime) -> datetime:
    return (first + timedelta(days=32)).replace(day=1)
