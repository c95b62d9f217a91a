"""The import: one file of customers being brought in."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import (
    CHINESE,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    Validation,
    Violation,
)
from crmkit.resource import Resource
from crmkit.runfiles import FORMATS
from crmkit.sheetfields import RowProblem
from customer.model.base import Base
from sqlalchemy import ForeignKey, LargeBinary, Text, Uuid, exists, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

LARGEST = 200 << 20
REVERTIBLE = timedelta(days=30)
NEEDS = {
    "ACCOUNTS": ("accounts",),
    "CONTACTS": ("contacts",),
    "INTERACTIONS": ("interactions",),
    "MIXED": ("accounts", "contacts"),
}


class ImportLines(Base):
    """What a check has read of a chunk of lines, for the run that follows; see `importing.kept`."""

    __tablename__ = "import_lines"

    import_: Mapped[UUID] = mapped_column(
        "import", Uuid, ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    # Of the file, the plan and the code.
    stamp: Mapped[str] = mapped_column(Text)
    lines: Mapped[bytes] = mapped_column(LargeBinary)


class ImportHeld(Base):
    """What waits for a held record of an import: the record itself, or what follows it; see `importing.gate`."""

    __tablename__ = "import_held"

    target: Mapped[str] = mapped_column(Text, primary_key=True)
    run: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)

    @classmethod
    async def holds(cls, name: str, call: Call) -> bool:
        """Whether a record of this name was brought in by an import and waits for a decision, or has just got it."""
        return bool(await call.db.scalar(select(exists().where(cls.target == name))))


class Import(Resource, Base):
    """One file of customers being brought in; the work itself is a run of the kit."""

    __message__ = pb.Import
    handed_over = False

    file: Mapped[str]
    file_name: Mapped[str]
    kind: Mapped[str]
    encoding: Mapped[str]
    mapping: Mapped[Any]
    duplicate_policy: Mapped[str]
    state: Mapped[str]
    total: Mapped[int]
    done: Mapped[int]
    created: Mapped[int]
    updated: Mapped[int]
    skipped: Mapped[int]
    held: Mapped[int]
    failed: Mapped[int]
    left: Mapped[int]
    errors: Mapped[Any]
    error_file: Mapped[str]
    digest: Mapped[str]
    failure: Mapped[str]
    revert_until_time: Mapped[datetime | None]
    proposals: Mapped[Any]
    duplicates: Mapped[Any]
    duplicate_count: Mapped[int]

    async def creating(self, call: Call) -> None:
        """Takes the file's name and the plainest policy."""
        file = await call.copy(self.file) or {}
        self.file_name = file.get("displayName", "")
        self.duplicate_policy = self.duplicate_policy or "SKIP"
        self.state = "UPLOADED"
        self._refuse_unknown_fields(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Another mapping or policy asks for another check."""
        if changed & {"mapping", "duplicate_policy", "encoding"}:
            self.check_state("UPLOADED", "CHECKED", "FAILED")
            self.state = "UPLOADED"
        if changed & {"mapping", "kind"}:
            self._refuse_unknown_fields(call)

    async def deleting(self, call: Call) -> None:
        """Goes only while nothing works on it."""
        self.check_state("UPLOADED", "CHECKED", "DONE", "FAILED", "REVERTED")

    async def check(self, call: Call) -> None:
        """Begins to read the file."""
        self.check_state("UPLOADED", "CHECKED", "FAILED")
        self._refuse_without_rights(call)
        file = await self._stored(call)
        self.digest, self.file_name = file["sha256"], file.get("displayName", "")
        self.state, self.failure, self.error_file = "CHECKING", "", ""
        self.errors, self.proposals, self.duplicates = [], [], []
        self.total = self.done = self.created = self.updated = self.skipped = self.failed = 0
        self.left = self.duplicate_count = self.held = 0
        await self._start("CheckImport", {"format": self._format(file)}, call)

    async def run(self, skip_errors: bool, call: Call) -> None:
        """Begins to bring the rows in."""
        if self.state == "UPLOADED":
            raise FailedPrecondition("IMPORT_NOT_CHECKED")
        self.check_state("CHECKED")
        self._refuse_without_rights(call)
        file = await self._stored(call)
        if file["sha256"] != self.digest:
            raise FailedPrecondition("IMPORT_FILE_CHANGED")
        if self.failed and not skip_errors:
            raise FailedPrecondition("IMPORT_HAS_ERRORS", count=self.failed)
        self.state, self.done, self.failed = "RUNNING", 0, 0
        await self._start("RunImport", {"format": self._format(file), "skipErrors": skip_errors}, call)

    async def revert(self, call: Call) -> None:
        """Begins to take the rows back."""
        self.check_state("DONE")
        if self.revert_until_time is None or call.now > self.revert_until_time:
            raise FailedPrecondition("REVERT_EXPIRED")
        self._refuse_without_rights(call)
        self.state, self.errors, self.left = "REVERTING", [], 0
        await self._start("RevertImport", {}, call)

    async def pause(self, call: Call) -> None:
        """Lets the run rest behind the rows that are being written."""
        self.check_state("RUNNING")
        self.state = "PAUSED"
        await runs.pause(call, self.name)

    async def resume(self, call: Call) -> None:
        """Goes on behind the last row written."""
        self.check_state("PAUSED")
        self._refuse_without_rights(call)
        self.state = "RUNNING"
        await runs.resume(call, self.name)

    def finish(self, now: datetime) -> None:
        """Ends the run, also where it was to rest behind its last row; from now on it can be taken back."""
        self.check_state("RUNNING", "PAUSED")
        self.state, self.revert_until_time = "DONE", now + REVERTIBLE

    def fail(self, text: str) -> None:
        """Cannot go on."""
        self.state, self.failure = "FAILED", text[:2000]

    def show(self, problem: RowProblem, locale: str) -> None:
        """Says what is wrong with a line after its run has ended."""
        text = problem.zh if locale == CHINESE else problem.en
        error = pb.Import.RowError(
            line=problem.line, column=problem.column, reason=problem.reason, text=text[:1000]
        )
        self.errors, self.failed = [*self.errors, error], self.failed + 1

    def fields(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Header → field and replacements, of the columns that fill one."""
        return {
            column.column: (column.field, {each.text: each.value for each in column.replacements})
            for column in self.mapping
            if column.field
        }

    def _refuse_unknown_fields(self, call: Call) -> None:
        """A column that is said to fill what is no field would be lost without a word."""
        from customer.importing.plan import paths

        known = paths(self.kind, call.config)
        wrong = [
            (number, each.field)
            for number, each in enumerate(self.mapping)
            if each.field and each.field not in known
        ]
        if wrong:
            raise Validation(
                *(
                    Violation(
                        f"import.mapping[{number}].field",
                        "UNKNOWN_FIELD",
                        f"没有字段“{field[:100]}”，或它不能由文件填写。",
                        f'There is no field "{field[:100]}", or no file fills it.',
                    )
                    for number, field in wrong
                )
            )

    async def _stored(self, call: Call) -> dict[str, Any]:
        file = await call.copy(self.file)
        if not file or not file.get("sha256"):
            raise FailedPrecondition("IMPORT_UNREADABLE", detail=self.file)
        if int(file.get("size") or 0) > LARGEST:
            raise ResourceExhausted("IMPORT_TOO_LARGE", limit="200 MB")
        return file

    def _format(self, file: dict[str, Any]) -> str:
        ending = str(file.get("displayName", "")).rpartition(".")[2].lower()
        if ending not in FORMATS:
            raise Validation(
                Violation(
                    "import.file",
                    "WRONG_FORMAT",
                    "只支持 CSV、XLSX、XLS 和 ODS 文件",
                    "CSV, XLSX, XLS or ODS only.",
                )
            )
        return FORMATS[ending]

    def _refuse_without_rights(self, call: Call) -> None:
        for verb in ("create", "update") if self.duplicate_policy == "UPDATE" else ("create",):
            for collection in NEEDS[self.kind]:
                if not call.caller.may(permission := f"customer.{collection}.{verb}"):
                    raise PermissionDenied("PERMISSION_DENIED", permission=permission)

    async def _start(self, kind: str, spec: dict[str, Any], call: Call) -> None:
        run = {"import": str(self.id), "digest": self.digest, **spec}
        await runs.start(call, kind, self.name, run, call.caller.employee or call.caller.actor)
