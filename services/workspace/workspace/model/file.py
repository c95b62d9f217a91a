"""Files: the record of bytes in the file store."""

import re
from collections.abc import Sequence
from decimal import Decimal

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.auth import Caller
from crmkit.blobs import storage_key
from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from sqlalchemy import Boolean, ColumnElement, Index, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.names import check_names

SHA256 = re.compile(r"[0-9a-f]{64}")


class File(Resource, Base):
    """An uploaded file. Its content never changes: another content is another file."""

    __message__ = pb.File
    refers_by = ("attached_to",)
    __table_args__ = (
        Index("files_attached_to_index", "attached_to", postgresql_using="gin"),
        Index("files_sha256_index", "sha256"),
    )

    display_name: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[Decimal | None]
    sha256: Mapped[str]
    storage_key: Mapped[str]
    attached_to: Mapped[list[str]]
    account: Mapped[str]
    # True where it hangs on nothing but private notes and mails.
    private: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What hangs on a private note or mail is read by those who read that, whatever a reader's scope."""
        if caller.is_system:
            return None
        return or_(~cls.private, cls.owner == caller.employee, cls.collaborators.contains([caller.employee]))

    def attach(self, names: Sequence[str]) -> None:
        """Hangs it on these records."""
        self.attached_to = list(names)
        self.private = bool(names) and all(name.startswith(("notes/", "mailMessages/")) for name in names)

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
