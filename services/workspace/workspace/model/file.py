"""Files: the record of bytes in the file store."""

import re
from collections.abc import Collection, Sequence
from decimal import Decimal

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.auth import Caller
from crmkit.blobs import storage_key
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from crmkit.tables import Collaborator
from sqlalchemy import Boolean, ColumnElement, Index, Text, and_, exists, or_, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model import file_place
from workspace.model.base import Base
from workspace.model.names import check_names

SHA256 = re.compile(r"[0-9a-f]{64}")
_HANGING, _ALONE = text("hangs"), text("NOT hangs")
_LATEST, _ID = text("update_time DESC"), "id"


class File(Resource, Base):
    """An uploaded file. Its content never changes: another content is another file.

    What hangs on a record is read by those who may read the record and the field that names it: `file_place`. The
    columns `place_…` are the first of its places, so that an index gives a person's files in their order.
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
        if not self.hangs and not all(noted):
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
        self.media_type = self.media_type or "application/octet-stream"
        self.storage_key = storage_key(self.sha256)
        check_names(self.attached_to, "file.attached_to")
        self.attach(self.attached_to)
        call.emit(events.FileUploaded, file=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what it is attached to changes."""
        check_names(self.attached_to, "file.attached_to")
        self.attach(self.attached_to)
