"""Links by which people outside fetch a file."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.calendar_feed import digest_of
from workspace.model.file import File
from workspace.model.taken import TakesPassword

USUAL, LONGEST = timedelta(days=7), timedelta(days=30)
MOST_DOWNLOADS, MOST_TRIES, SHORTEST_PASSWORD = 1000, 10, 8


class FileShare(TakesPassword, Resource, Base):
    """A link to a file. Secret and password are kept as hashes; it gives what its owner may still read."""

    __message__ = pb.FileShare
    handed_over = False
    __table_args__ = (Index("file_shares_secret_hash_key", "secret_hash", unique=True),)

    display_name: Mapped[str]
    file: Mapped[str]
    expire_time: Mapped[datetime | None]
    protected: Mapped[bool]
    download_limit: Mapped[int]
    downloads: Mapped[int]
    failed_tries: Mapped[int]
    last_download_time: Mapped[datetime | None]
    state: Mapped[str]
    # No fields of the message, so that no answer and no fact can hold them.
    secret_hash: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text, server_default=text("''"))

    password = TakesPassword.password  # pyright: ignore[reportIncompatibleMethodOverride]

    # Shown by the answer to the one who makes it alone.
    path = ""
    shown = ""

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it, and counts at most 30 days."""
        self.owner = call.caller.employee
        expires = self.expire_time = self.expire_time or call.now + USUAL
        problems = [
            ("expire_time", call.now < expires <= call.now + LONGEST, "须在 30 天之内", "At most 30 days from now."),
            ("download_limit", 0 <= self.download_limit <= MOST_DOWNLOADS, "最多 1000 次", "At most 1000."),
            ("password", not self.given or len(self.given) >= SHORTEST_PASSWORD, "至少 8 个字符", "At least 8 characters."),
        ]  # fmt: skip
        wrong = [
            Violation(f"file_share.{name}", "OUT_OF_RANGE", zh, en)
            for name, good, zh, en in problems
            if not good
        ]
        if wrong:
            raise Validation(*wrong)
        if self.given:
            self.protected, self.password_hash = True, _hashed(self.given, secrets.token_bytes(16))
        secret = secrets.token_urlsafe(32)
        self.state, self.secret_hash, self.shown = "ACTIVE", digest_of(secret), f"/shares/{secret}"

    def revoke(self) -> None:
        """Gives nothing any more."""
        self.check_state("ACTIVE", "LOCKED")
        self.state = "REVOKED"

    @classmethod
    async def of(cls, secret: str, call: Call, lock: bool = False) -> "FileShare":
        """The link with the secret. SHARE_EXPIRED past its date or limit, taken back or locked."""
        share = await call.find(cls, cls.secret_hash == digest_of(secret), lock=lock)
        if share is None:
            raise NotFound()
        over = share.expire_time is None or share.expire_time <= call.now
        if over or share.state != "ACTIVE" or 0 < share.download_limit <= share.downloads:
            raise FailedPrecondition("SHARE_EXPIRED")
        return share

    async def content(self, call: Call) -> File:
        """The file, as far as its owner may read it at this moment. SHARE_EXPIRED."""
        owner = call.running.directory.acting(self.owner)
        if owner is None or not owner.may("workspace.files.read"):
            raise FailedPrecondition("SHARE_EXPIRED")
        try:
            async with call.running.acting(call, owner, call.method) as own:
                return await own.load(File, self.file, lock=False)
        except NotFound:
            raise FailedPrecondition("SHARE_EXPIRED") from None

    async def open(self, password: str, call: Call) -> File:
        """Gives the file once more. SHARE_PASSWORD_WRONG, and SHARE_EXPIRED after ten of them."""
        if self.protected and not _fits(password, self.password_hash):
            locked = self.failed_tries + 1 >= MOST_TRIES
            refusal = FailedPrecondition("SHARE_EXPIRED" if locked else "SHARE_PASSWORD_WRONG")
            key = self.id

            async def count(later: Call) -> None:
                # The refusal takes everything back but this.
                async with later.running.acting(later, system(later.running.app.name), later.method) as own:
                    share = await own.find(FileShare, FileShare.id == key, lock=True)
                    if share is not None and share.state == "ACTIVE":
                        share.failed_tries += 1
                        share.state = "LOCKED" if share.failed_tries >= MOST_TRIES else "ACTIVE"
                    await own.flush()

            refusal.afterwards = count
            raise refusal
        file = await self.content(call)
        self.downloads += 1
        self.last_download_time = call.now
        return file

    def told(self, file: File, given: bool) -> pb.SharedFile:
        """What whoever has the link is told of the file."""
        assert self.expire_time is not None
        return pb.SharedFile(
            display_name=file.display_name, media_type=file.media_type, size=str(int(file.size or 0)),
            sha256=file.sha256 if given else "", protected=self.protected, expire_time=to_timestamp(self.expire_time),
        )  # fmt: skip


def _hashed(password: str, salt: bytes) -> str:
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"


def _fits(password: str, kept: str) -> bool:
    return hmac.compare_digest(_hashed(password, bytes.fromhex(kept.partition("$")[0])), kept)
