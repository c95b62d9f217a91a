"""Mailboxes: whose they are, where they are, and how far they have been read."""

import ipaddress
from collections.abc import Container
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from sqlalchemy import BigInteger, Index, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base, check_owner
from workspace.model.calendar import ADDRESS
from workspace.model.polled import Polled
from workspace.model.taken import TakesPassword

FOLLOW = "FollowMailAccount"
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


class MailAccount(Polled, Base):
    """A mailbox."""

    __message__ = pb.MailAccount
    sealed_for = "mail account"
    __table_args__ = (
        Index("mail_accounts_address_key", "address", unique=True),
        Index("mail_accounts_due_index", "next_time", postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    address: Mapped[str]
    user_name: Mapped[str]
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
    password = TakesPassword.password  # pyright: ignore[reportIncompatibleMethodOverride]

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it, and is read at once where its password is there."""
        self.owner = call.caller.employee
        self._complete(call)
        self.state, self.next_time = ("ACTIVE" if self.secret else "PAUSED"), call.now

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its owner changes it; a new password or server is tried at once."""
        check_owner(self, call)
        self._complete(call)
        if changed & {"password", "imap_host", "imap_port", "imap_security", "user_name"} and self.secret:
            self.begin_again(call)
        if changed & {"sharing", "collaborators", "owner"}:
            await runs.start(call, FOLLOW, self.name, {}, requester="system/workspace")

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
        self.keep_password(call)

    def fetch(self, call: Call) -> None:
        """Is read as soon as can be."""
        self.poll(call)

    @property
    def members(self) -> list[str]:
        """Who reads and writes in it."""
        return [self.owner, *self.collaborators]


def check_host(host: str, port: int, local: bool, ports: Container[int] = ALLOWED_PORTS) -> None:
    """Refuses what is no server of others: this machine, the cloud's own addresses, other ports. HOST_NOT_ALLOWED."""
    if local:
        return
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        bad = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    except ValueError:
        bad = _is_local(host) or "." not in host.strip(".")
    if bad or port not in ports:
        raise FailedPrecondition("HOST_NOT_ALLOWED", host=f"{host[:200]}:{port}")


def _is_local(host: str) -> bool:
    return host.lower().rstrip(".") in {"localhost", "127.0.0.1", "::1"} or host.lower().endswith(
        ".localhost"
    )
