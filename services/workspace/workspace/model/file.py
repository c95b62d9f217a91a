"""Files: the record of bytes in the file store."""

import re
from collections.abc import Collection, Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.auth import Caller
from crmkit.blobs import storage_key
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.company import today
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied, Validation, Violation, check_reason
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from crmkit.standard import used
from crmkit.tables import Collaborator
from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    Numeric,
    Text,
    Uuid,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model import file_place, file_text, known_record
from workspace.model.base import Base
from workspace.model.file_place import FilePlace
from workspace.model.file_text import FileText
from workspace.model.folder import Folder
from workspace.model.names import check_names, unknown_record

MOST_VERSIONS = 200
SHA256 = re.compile(r"[0-9a-f]{64}")
_HANGING, _ALONE = text("hangs"), text("NOT hangs")
_LATEST, _ID = text("update_time DESC"), "id"


class FileVersion(Base):
    """A content that a document has or has had; none is written before there is a second one."""

    __tablename__ = "file_versions"

    file: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    display_name: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size: Mapped[Decimal] = mapped_column(Numeric)
    sha256: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class File(Resource, Base):
    """An uploaded file. Its content changes by a new version alone, and never while it hangs on a record.

    A document is a file in a folder, which is the record that it hangs on. What hangs on a record is read by those who
    may read the record and the field that names it: `file_place`. The columns `place_…` are the first of its places, so
    that an index gives a person's files in their order.
    """

    __message__ = pb.File
    refers_by = ("attached_to",)
    __table_args__ = (
        Index("files_attached_to_index", "attached_to", postgresql_using="gin"),
        Index("files_sha256_index", "sha256"),
        Index("files_alone_index", _LATEST, _ID, postgresql_where=_ALONE),
        Index("files_alone_owner_index", "owner", _LATEST, _ID, postgresql_where=_ALONE),
        Index("files_alone_department_index", "department", _LATEST, _ID, postgresql_where=_ALONE),
        Index("files_hanging_index", _LATEST, _ID, postgresql_where=_HANGING),
        Index("files_place_owner_index", "place_owner", _LATEST, _ID, postgresql_where=_HANGING),
        Index("files_place_department_index", "place_department", _LATEST, _ID, postgresql_where=_HANGING),
        Index("files_place_account_index", "place_account", _LATEST, _ID, postgresql_where=_HANGING),
        Index(
            "files_place_shared_index",
            _LATEST,
            _ID,
            postgresql_where=text("hangs AND place_source_scope = 'SHARED'"),
        ),
        Index("files_private_index", "owner", postgresql_where=text("private")),
    )

    display_name: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[Decimal | None]
    sha256: Mapped[str]
    storage_key: Mapped[str]
    attached_to: Mapped[list[str]]
    account: Mapped[str]
    folder: Mapped[str]
    version_number: Mapped[int]
    legal_hold: Mapped[bool]
    retention_until: Mapped[date | None]
    hold_reason: Mapped[str]
    # Output: whether it hangs on a record that is no private note and no mail.
    hangs: Mapped[bool]
    # True where it hangs on private notes or mails.
    private: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    place_field: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_permission: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_requires: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_source_scope: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_owner: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_department: Mapped[str] = mapped_column(Text, server_default=text("''"))
    place_collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    place_account: Mapped[str] = mapped_column(Text, server_default=text("''"))

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What hangs on records is read as those are; what hangs on private notes and mails, by their readers."""
        if caller.is_system:
            return None
        alone = and_(~cls.hangs, ~cls.private)
        return or_(alone, *cls._noted(caller), *file_place.read_along(cls, caller))

    @classmethod
    def ways(cls, caller: Caller, own: list[ColumnElement[bool]] | None) -> list[ColumnElement[bool]] | None:
        """What hangs on nothing by its own scope, and the rest by the records that it hangs on, whosever file it is."""
        if caller.is_system:
            return None
        alone = (~cls.hangs, ~cls.private)
        by_own = [and_(*alone)] if own is None else [and_(branch, *alone) for branch in own]
        return [*by_own, *cls._noted(caller), *file_place.read_along(cls, caller)]

    @classmethod
    def _noted(cls, caller: Caller) -> list[ColumnElement[bool]]:
        if not caller.employee:
            return []
        shared = exists().where(
            Collaborator.employee == caller.employee,
            Collaborator.collection == "files",
            Collaborator.id == cls.id,
        )
        return [and_(cls.private, cls.owner == caller.employee), and_(cls.private, shared)]

    @classmethod
    def scoped_as(cls) -> Collection[str]:
        """Every collection: files are seen through records of all."""
        return ("", *(described.collection for described in resources().values()))

    @classmethod
    def further_policies(cls) -> list[str]:
        """The second wall goes by the records as well."""
        return file_place.policies(cls.__tablename__)

    def attach(self, names: Sequence[str]) -> None:
        """Hangs it on these records; until their change facts say who reads them, it is its uploader's alone."""
        noted = [file_place.is_noted(name) for name in names]
        self.attached_to, self.private = list(names), any(noted)
        if not self.hangs and (self.folder or not all(noted)):
            self.hangs, self.place_source_scope = True, "PRIVATE"
            self.place_requires, self.place_owner = file_place.OWN, self.owner
            self.place_account = self.account

    async def creating(self, call: Call) -> None:
        """Belongs to who uploads it; what a portal user uploads belongs to the account too."""
        if not SHA256.fullmatch(self.sha256):
            raise Validation(
                Violation("file.sha256", "HASH_INVALID", "不是有效的 SHA-256", "This is no SHA-256 in hex.")
            )
        if not call.caller.is_system:
            self.owner, self.account = call.caller.employee, call.caller.account
        self.media_type, self.version_number = self.media_type or "application/octet-stream", 1
        self.storage_key = storage_key(self.sha256)
        check_names(self.attached_to, "file.attached_to")
        if call.caller.account:
            await self._check_seen(call)
        self.attach(self.attached_to)
        call.emit(events.FileUploaded, file=self)
        await file_text.read_later(self, call)

    async def _check_seen(self, call: Call) -> None:
        """Customers and partners hang files on records that they see: others' would show what they never asked for."""
        known = await known_record.records(self.attached_to, call)
        for index, name in enumerate(self.attached_to):
            described, record = known_record.described_as(name.partition("/")[0]), known.get(name)
            if described is None or record is None or not call.caller.may(described.permission("read")):
                raise unknown_record(f"file.attached_to[{index}]")
            if not known_record.reads(call.caller, described, record):
                raise unknown_record(f"file.attached_to[{index}]")

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what it is attached to changes."""
        check_names(self.attached_to, "file.attached_to")
        self.attach(self.attached_to)

    async def deleting(self, call: Call) -> None:
        """Its versions go along, and its text where no other file has the same. FILE_ON_HOLD."""
        self.check_not_held(call)
        await call.db.execute(delete(FileVersion).where(FileVersion.file == self.id))
        await self._forget_text(call)

    def held(self, call: Call) -> bool:
        """Whether it must be kept as it is."""
        return self.legal_hold or (self.retention_until is not None and self.retention_until >= today(call))

    def check_not_held(self, call: Call) -> None:
        """FILE_ON_HOLD where it must be kept as it is."""
        if self.held(call):
            raise FailedPrecondition("FILE_ON_HOLD")

    async def check_changes(self, call: Call) -> None:
        """That the caller may move it and give it versions: whoever puts documents into its folder.

        FILE_ON_RECORD where it is no document, FILE_ON_HOLD.
        """
        if self.folder:
            (await call.load(Folder, self.folder, lock=False)).check_adds(call)
        elif self.owner != call.caller.employee:
            raise PermissionDenied("NOT_THE_OWNER")
        named = exists().where(FilePlace.file == self.id, FilePlace.field != "")
        if self.attached_to or await call.db.scalar(select(named)):
            raise FailedPrecondition("FILE_ON_RECORD")
        self.check_not_held(call)

    def move(self, folder: str) -> None:
        """Puts it into a folder, whose readers read it from now on; or out of all."""
        self.folder = folder
        self.attach(self.attached_to)

    async def replace(self, upload: "File", note: str, call: Call) -> None:
        """Takes the content of a file that was just uploaded, whose own record goes. FILE_ON_RECORD, IN_USE."""
        if upload.id == self.id or upload.hangs or upload.private or upload.version_number != 1:
            raise FailedPrecondition("FILE_ON_RECORD")
        if upload.owner != call.caller.employee:
            raise PermissionDenied("NOT_THE_OWNER")
        upload.check_not_held(call)
        if await used(call, File.described, [upload.name]):
            raise FailedPrecondition("IN_USE")
        content = FileVersion(
            display_name=upload.display_name, media_type=upload.media_type, size=upload.size or Decimal(0),
            sha256=upload.sha256,
        )  # fmt: skip
        await call.db.delete(upload)
        await self._become(content, note, call)

    async def restore(self, version: int, call: Call) -> None:
        """Has the content of an earlier version again, as a further one. NOT_FOUND."""
        before = await call.db.get(FileVersion, (self.id, version))
        if before is None:
            raise NotFound()
        note = call.text(f"恢复第 {version} 版", f"Version {version} again")
        await self._become(before, note, call)

    async def versions(self, call: Call) -> list[FileVersion]:
        """What it holds and has held, the newest first."""
        rows = select(FileVersion).where(FileVersion.file == self.id).order_by(FileVersion.version.desc())
        return list(await call.db.scalars(rows.limit(MOST_VERSIONS))) or [self._present()]

    def hold(self, reason: str, retention_until: date | None, call: Call) -> None:
        """Keeps it as it is: until a day, or until it is released. REASON_REQUIRED."""
        self.hold_reason = check_reason(reason)
        if retention_until is None:
            self.legal_hold = True
            return
        if retention_until < max(today(call), self.retention_until or date.min):
            raise Validation(
                Violation(
                    "retention_until",
                    "OUT_OF_RANGE",
                    "不能早于今天或原定日期",
                    "Not earlier than today or before.",
                )
            )
        self.retention_until = retention_until

    def release(self, reason: str) -> None:
        """Holds it no more; the day until which it is kept stays. REASON_REQUIRED, ILLEGAL_TRANSITION."""
        if not self.legal_hold:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state="")
        self.hold_reason, self.legal_hold = check_reason(reason), False

    def _present(self) -> FileVersion:
        return FileVersion(
            file=self.id, version=self.version_number, display_name=self.display_name, media_type=self.media_type,
            size=self.size or Decimal(0), sha256=self.sha256, note="", author=self.creator,
            create_time=self.create_time,
        )  # fmt: skip

    async def _become(self, content: FileVersion, note: str, call: Call) -> None:
        if self.version_number == 1:
            await _keep(self._present(), call)
        await self._forget_text(call)
        self.version_number += 1
        self.display_name, self.media_type = content.display_name, content.media_type
        self.size, self.sha256, self.storage_key = content.size, content.sha256, storage_key(content.sha256)
        now = self._present()
        now.note, now.author, now.create_time = note, call.caller.actor, call.now
        await _keep(now, call)
        call.emit(events.FileUploaded, file=self)
        await file_text.read_later(self, call)

    async def _forget_text(self, call: Call) -> None:
        async with call.everybody():
            others = exists().where(File.sha256 == self.sha256, File.id != self.id)
            await call.db.execute(delete(FileText).where(FileText.c.sha256 == self.sha256, ~others))


async def _keep(version: FileVersion, call: Call) -> None:
    columns = FileVersion.__table__.columns.keys()
    await call.db.execute(insert(FileVersion).values({name: getattr(version, name) for name in columns}))


def told_version(version: FileVersion) -> pb.ListFileVersionsResponse.Version:
    """A version as its readers are told of it."""
    return pb.ListFileVersionsResponse.Version(
        version=version.version, display_name=version.display_name, media_type=version.media_type,
        size=str(int(version.size)), sha256=version.sha256, note=version.note, author=version.author,
        create_time=to_timestamp(version.create_time),
    )  # fmt: skip
