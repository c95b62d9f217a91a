"""Exports under control: asked for with a purpose, counted, decided where a policy says so, given out to one person."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied, Validation, Violation, check_reason
from crmkit.exports import sensitive
from crmkit.fieldlevels import FieldLevel
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.custom_field import check_collection

SHORTEST_PURPOSE = 10
KEPT = timedelta(days=7)
MOST_DOWNLOADS = 3
# Rows that one export may have: the most of what the person's roles give, and this for everybody.
USUAL_ROWS = 1000
LIMITS = {
    "workspace.exports.upTo20000": 20_000,
    "workspace.exports.upTo200000": 200_000,
    "workspace.exports.unlimited": 10_000_000,
}
# In a month, so many times as much.
MONTHLY = 10
OPEN = ("REQUESTED", "APPROVED", "RUNNING")
WRITING = ("APPROVED", "RUNNING")


class Export(Resource, Base):
    """One export. Its file is no file of the platform's: who asked for it gets the bytes here, and nobody else."""

    __message__ = pb.Export

    collection: Mapped[str]
    filter: Mapped[str]
    q: Mapped[str]
    order_by: Mapped[str]
    fields: Mapped[list[str]]
    format: Mapped[str]
    purpose: Mapped[str]
    purpose_text: Mapped[str]
    state: Mapped[str]
    area: Mapped[str]
    estimated_rows: Mapped[int]
    counted: Mapped[bool]
    rows: Mapped[int]
    sensitive_fields: Mapped[list[str]]
    file_name: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[Decimal | None]
    sha256: Mapped[str]
    expire_time: Mapped[datetime | None]
    downloads: Mapped[Any]
    reason: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Asks the service that owns the collection how many rows there are. Nobody asks for what he may not read."""
        check_collection(self.collection)
        described = next(found for found in resources().values() if found.collection == self.collection)
        permission = described.permission("read")
        if not call.caller.may(permission):
            raise PermissionDenied("PERMISSION_DENIED", permission=permission)
        if len(self.purpose_text.strip()) < SHORTEST_PURPOSE:
            raise FailedPrecondition("PURPOSE_REQUIRED", minimum=SHORTEST_PURPOSE)
        self.owner, self.area, self.state = call.caller.employee, described.area, "REQUESTED"
        self.format = self.format or "XLSX"
        self.sensitive_fields = self._check_fields(described, call)
        self._ask(call, count="true")

    def _check_fields(self, described: Any, call: Call) -> list[str]:
        """EXPORT_FIELD_HIDDEN for what the person may not read; the sensitive ones among those asked for."""
        custom = {one.path: one for one in call.running.directory.custom.of(self.collection).values()}
        fields = {field.json_name: field for field in described.fields.values()}
        for name in self.fields:
            if name not in custom and name not in fields:
                raise Validation(
                    Violation(
                        "export.fields", "UNKNOWN_FIELD", f"没有字段 {name}", f"There is no field {name}."
                    )
                )
            needed = custom[name].permission if name in custom else fields[name].rule.read_permission
            path = name if name in custom else fields[name].name
            hidden = call.caller.fields(self.collection).get(path) is FieldLevel.HIDDEN
            if hidden or (needed and not call.caller.may(needed)):
                raise FailedPrecondition("EXPORT_FIELD_HIDDEN", field=name)
        wanted = self.fields or list(fields)
        return [name for name in wanted if name in fields and sensitive(fields[name])]

    async def counted_as(self, rows: int, requester: Caller, call: Call) -> bool:
        """Keeps how many rows there are; False where they are more than the person may export."""
        self.estimated_rows, self.counted = rows, True
        limit = limit_of(requester)
        if rows > limit:
            self.fail("EXPORT_TOO_LARGE", call)
            return False
        month = call.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        mine = select(func.coalesce(func.sum(Export.rows), 0)).where(
            Export.owner == self.owner, Export.create_time >= month, Export.id != self.id
        )
        if (await call.db.scalar(mine) or 0) + rows > MONTHLY * limit:
            self.fail("EXPORT_MONTH_LIMIT", call)
            return False
        return True

    def start(self, call: Call) -> None:
        """Has it written, as the person sees the records then."""
        self._check_mine(call)
        self.check_state("REQUESTED")
        if not self.counted:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        self.state = "APPROVED"
        limit = limit_of(call.caller)
        self._ask(
            call, filter=self.filter, q=self.q, orderBy=self.order_by, fields=",".join(self.fields), format=self.format,
            mark=f"{self.number} {call.caller.display_name} {call.now:%Y-%m-%d %H:%M}Z", limit=str(limit),
            private="true",
        )  # fmt: skip

    def cancel(self, call: Call) -> None:
        """Stops it."""
        self._check_mine(call)
        self.check_state(*OPEN)
        self.state = "CANCELLED"
        call.emit(events.BulkCancelled, bulk_job=self._job())

    def rejected(self, reason: str) -> None:
        """Who decides has said no."""
        if self.state == "REQUESTED":
            self.state, self.reason = "REJECTED", reason

    def fail(self, reason: str, call: Call) -> None:
        """It cannot be written."""
        if self.state in OPEN:
            self.state, self.reason = "FAILED", reason

    def written(self, rows: int, file: Any, call: Call) -> None:
        """The file is there, for a while."""
        if self.state not in WRITING:
            return
        self.state, self.rows, self.expire_time = "READY", rows, call.now + KEPT
        self.file_name, self.media_type = file.display_name, file.media_type
        self.size, self.sha256 = Decimal(file.size or 0), file.sha256

    def download(self, call: Call) -> None:
        """Gives it out once more."""
        self._check_mine(call)
        if self.state == "EXPIRED" or (self.expire_time is not None and self.expire_time <= call.now):
            raise FailedPrecondition("EXPORT_EXPIRED")
        self.check_state("READY")
        if len(self.downloads) >= MOST_DOWNLOADS:
            raise FailedPrecondition("DOWNLOAD_LIMIT", limit=MOST_DOWNLOADS)
        given: Timestamp = to_timestamp(call.now)
        self.downloads = [*self.downloads, pb.Export.Download(time=given, address=call.caller.address)]

    def revoke(self, reason: str, call: Call) -> None:
        """Takes the file away before its time."""
        self.check_state("READY")
        self.reason = check_reason(reason)
        self.state = "EXPIRED"

    def _check_mine(self, call: Call) -> None:
        if self.owner != call.caller.employee:
            raise FailedPrecondition("EXPORT_NOT_YOURS")

    def _job(self, **options: str) -> pb.BulkJob:
        """What is asked of the service that owns the collection."""
        asked = [pb.BulkJob.Option(key=key, value=value) for key, value in options.items() if value]
        return pb.BulkJob(
            name=self.name,
            collection=self.collection,
            mode=pb.BulkJob.EXPORT,
            owner=self.owner,
            options=asked,
        )

    def _ask(self, call: Call, **options: str) -> None:
        if "count" in options:
            options |= {"filter": self.filter, "q": self.q}
        call.emit(events.BulkRequested, self, bulk_job=self._job(**options))


def limit_of(caller: Caller) -> int:
    """How many rows one export of the person may have."""
    return max([USUAL_ROWS, *(rows for permission, rows in LIMITS.items() if caller.may(permission))])


async def export_of(name: str, call: Call) -> Export | None:
    """The export that a fact speaks of, locked."""
    try:
        return await call.named(Export, name, lock=True)
    except NotFound:
        return None
