"""Mailboxes: whose they are, where they are, and how far they have been read."""

import ipaddress
from datetime import datetime, timedelta
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from crmkit.sealing import seal, unseal
from sqlalchemy import BigInteger, DateTime, Index, Integer, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.calendar import ADDRESS

FOLLOW = "FollowMailAccount"
SEALED_FOR = "mail account"
FIRST_DAYS, MOST_DAYS, MOST_FOLDERS = 30, 365, 20
PORTS = {
    "imap": {"TLS": 993, "STARTTLS": 143, "PLAIN": 143},
    "smtp": {"TLS": 465, "STARTTLS": 587, "PLAIN": 25},
}
# Where mail servers listen. A mailbox is no way to knock at others.
ALLOWED_PORTS = frozenset([25, 143, 465, 587, 993, 2525])


class MailFolder(Base):
    """How far a folder of a mailbox has been read."""

    __tablename__ = "mail_folders"

    mailbox: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    folder: Mapped[str] = mapped_column(Text, primary_key=True)
    uid_validity: Mapped[int] = mapped_column(BigInteger)
    last_uid: Mapped[int] = mapped_column(BigInteger)


class MailAccount(Resource, Base):
    """A mailbox. Its password is sealed by the installation's key and no field of the message."""

    __message__ = pb.MailAccount
    __table_args__ = (
        Index("mail_accounts_address_key", "address", unique=True),
        Index("mail_accounts_due_index", "next_time", postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    address: Mapped[str]
    user_name: Mapped[str]
    password_time: Mapped[datetime | None]
    imap_host: Mapped[str]
    imap_port: Mapped[int]
    imap_security: Mapped[str]
    smtp_host: Mapped[str]
    smtp_port: Mapped[int]
    smtp_security: Mapped[str]
    folders: Mapped[list[str]]
    signature: Mapped[str]
    sharing: Mapped[str]
    first_days: Mapped[int]
    state: Mapped[str]
    problem: Mapped[str]
    sync_time: Mapped[datetime | None]
    secret: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # When it is read next, how often in a row that failed, and since when.
    next_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    # Set while it is being given, and sealed before anything is written.
    _given = ""

    @property
    def password(self) -> str:
        """Taken, never told."""
        return ""

    @password.setter
    def password(self, value: str) -> None:
        self._given = value

    def opened(self, secret: bytes) -> str:
        """The password in clear, for the server alone."""
        return unseal(self.secret, SEALED_FOR, secret) if self.secret else ""

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it, and is read at once where its password is there."""
        self.owner = call.caller.employee
        self._complete(call)
        self.state, self.next_time = ("ACTIVE" if self.secret else "PAUSED"), call.now

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its owner changes it; a new password or server is tried at once."""
        self.check_owner(call)
        self._complete(call)
        if changed & {"password", "imap_host", "imap_port", "imap_security", "user_name"} and self.secret:
            self._begin_again(call)
        if changed & {"sharing", "collaborators", "owner"}:
            await runs.start(call, FOLLOW, self.name, {}, requester="system/workspace")

    async def deleting(self, call: Call) -> None:
        """Only its owner takes it away, and only where no mail is in it."""
        self.check_owner(call)

    def check_owner(self, call: Call) -> None:
        """Refuses those who share it alone."""
        if not call.caller.is_system and call.caller.employee != self.owner:
            raise PermissionDenied("NOT_THE_OWNER")

    def _complete(self, call: Call) -> None:
        self.address = self.address.strip().lower()
        if not ADDRESS.fullmatch(self.address):
            raise Validation(
                Violation("mail_account.address", "WRONG_FORMAT", "邮箱无效", "This is no mail address.")
            )
        self.sharing, self.first_days = self.sharing or "METADATA", self.first_days or FIRST_DAYS
        self.folders = list(dict.fromkeys(filter(None, self.folders))) or ["INBOX"]
        if self.first_days > MOST_DAYS or len(self.folders) > MOST_FOLDERS:
            field = "first_days" if self.first_days > MOST_DAYS else "folders"
            raise Validation(
                Violation(f"mail_account.{field}", "OUT_OF_RANGE", "超出范围", "This is out of range.")
            )
        self.imap_security, self.smtp_security = self.imap_security or "TLS", self.smtp_security or "TLS"
        self.imap_port = self.imap_port or PORTS["imap"][self.imap_security]
        self.smtp_port = self.smtp_port or PORTS["smtp"][self.smtp_security]
        local = call.running.settings.environment == "local"
        for host, port, security in (
            (self.imap_host, self.imap_port, self.imap_security), (self.smtp_host, self.smtp_port, self.smtp_security),
        ):  # fmt: skip
            check_host(host, port, local)
            if security == "PLAIN" and not (local and _is_local(host)):
                raise FailedPrecondition("TLS_REQUIRED")
        if self._given:
            self.secret = seal(self._given, SEALED_FOR, call.running.settings.secret)
            self.password_time, self._given = call.now, ""

    def pause(self, call: Call) -> None:
        """Rests."""
        self.check_owner(call)
        self.check_state("ACTIVE", "FAILING")
        self.state = "PAUSED"

    def resume(self, call: Call) -> None:
        """Is read again."""
        self.check_owner(call)
        self.check_state("PAUSED", "FAILING")
        if not self.secret:
            raise Validation(
                Violation("mail_account.password", "REQUIRED", "请填写密码或授权码", "Give the password.")
            )
        self._begin_again(call)

    def fetch(self, call: Call) -> None:
        """Is read as soon as can be."""
        self.check_state("ACTIVE")
        self.next_time = call.now

    def _begin_again(self, call: Call) -> None:
        self.state, self.problem, self.failures, self.failing_since, self.next_time = (
            "ACTIVE",
            "",
            0,
            None,
            call.now,
        )

    def read_well(self, pause: timedelta, call: Call) -> None:
        """Has been read."""
        self.failures, self.failing_since, self.problem = 0, None, ""
        self.sync_time = call.now
        # Whoever has asked meanwhile is not put off.
        if self.next_time is None or self.next_time > call.now:
            self.next_time = call.now + pause

    @property
    def members(self) -> list[str]:
        """Who reads and writes in it."""
        return [self.owner, *self.collaborators]


def check_host(host: str, port: int, local: bool) -> None:
    """Refuses what is no mail server of others: this machine, the cloud's own addresses, other ports. HOST_NOT_ALLOWED."""
    if local:
        return
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        bad = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    except ValueError:
        bad = _is_local(host) or "." not in host.strip(".")
    if bad or port not in ALLOWED_PORTS:
        raise FailedPrecondition("HOST_NOT_ALLOWED", host=f"{host[:200]}:{port}")


def _is_local(host: str) -> bool:
    return host.lower().rstrip(".") in {"localhost", "127.0.0.1", "::1"} or host.lower().endswith(
        ".localhost"
    )
