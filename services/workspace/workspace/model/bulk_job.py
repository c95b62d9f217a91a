"""Bulk jobs: what is asked of the service that owns the collection, and how far it is."""

from datetime import datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.resource import Resource
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.custom_field import check_collection
from workspace.model.file import File

REVERT_DAYS = 30
NEEDED = {"IMPORT": "create", "DRY_RUN": "create"}
OPEN = ("QUEUED", "RUNNING")


class BulkJob(Resource, Base):
    """One job. It runs as its owner in the service that owns the collection."""

    __message__ = pb.BulkJob
    handed_over = False

    collection: Mapped[str]
    mode: Mapped[str]
    file: Mapped[str]
    mapping: Mapped[Any]
    options: Mapped[Any]
    reverts: Mapped[str]
    state: Mapped[str]
    total: Mapped[int]
    done: Mapped[int]
    failed: Mapped[int]
    error_file: Mapped[str]
    result_file: Mapped[str]
    reason: Mapped[str]
    end_time: Mapped[datetime | None]
    revert_until_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Asks for the job. Nobody asks for what he may not do record by record."""
        check_collection(self.collection)
        self.state, self.owner = "QUEUED", call.caller.employee
        if self.mode == "EXPORT":
            raise FailedPrecondition("EXPORT_REQUIRED")
        action = NEEDED.get(self.mode)
        if action is None and not self.reverts:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.mode)
        described = next(found for found in resources().values() if found.collection == self.collection)
        permission = described.permission(action or "create")
        if not call.caller.may(permission):
            raise PermissionDenied("PERMISSION_DENIED", permission=permission)
        file = None
        if self.mode in {"IMPORT", "DRY_RUN"}:
            if not self.file:
                raise FailedPrecondition("FILE_REQUIRED")
            file = await call.load(File, self.file, lock=False)
        call.emit(events.BulkRequested, bulk_job=self, file=file)

    def cancel(self, call: Call) -> None:
        """Stops it."""
        self.check_state(*OPEN)
        self.state, self.end_time = "CANCELLED", call.now
        call.emit(events.BulkCancelled, bulk_job=self)

    def reversal(self, call: Call) -> "BulkJob":
        """A job that takes this import back."""
        self.check_state("DONE", "DONE_WITH_ERRORS")
        if self.mode != "IMPORT":
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.mode)
        if self.revert_until_time is None or self.revert_until_time < call.now:
            raise FailedPrecondition("REVERT_EXPIRED", limit=REVERT_DAYS)
        return BulkJob(collection=self.collection, mode="REVERT", reverts=self.name)

    def progressed(self, total: int, done: int, failed: int) -> None:
        """How far it is. Facts may come in any order: it never goes back."""
        if self.state in OPEN:
            self.state = "RUNNING"
            self.total, self.done = max(self.total, total), max(self.done, done)
            self.failed = max(self.failed, failed)

    def finished(self, event: Any, call: Call) -> bool:
        """How it ended; False where that is known already."""
        if self.state not in OPEN:
            return False
        self.state = event.state if event.state in {"DONE", "DONE_WITH_ERRORS", "CANCELLED"} else "FAILED"
        self.total, self.done, self.failed = event.total or self.total, event.done, event.failed
        self.reason, self.end_time = event.reason, call.now
        if self.mode == "IMPORT" and self.state != "FAILED":
            self.revert_until_time = call.now + timedelta(days=REVERT_DAYS)
        return True
