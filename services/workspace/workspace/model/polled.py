"""What is read from a server of others again and again: its sealed password, and when it is read next."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from crmkit.sealing import seal, unseal
from sqlalchemy import DateTime, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import check_owner
from workspace.model.taken import TakesPassword


class Polled(TakesPassword, Resource):
    """A connection of a person to another server. Its password is sealed by the installation's key."""

    sealed_for = ""
    # The kind of notice by which its owner is told that it fails.
    told_as = "mail"
    if TYPE_CHECKING:
        # Columns of the messages.
        state: Mapped[str]
        problem: Mapped[str]
        password_time: Mapped[datetime | None]
        sync_time: Mapped[datetime | None]

    secret: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # When it is read next, how often in a row that failed, and since when.
    next_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    def opened(self, secret: bytes) -> str:
        """The password in clear, for the server alone."""
        return unseal(self.secret, self.sealed_for, secret) if self.secret else ""

    def keep_password(self, call: Call) -> None:
        """Seals a password that was given."""
        if self.given:
            self.secret = seal(self.given, self.sealed_for, call.running.settings.secret)
            self.password_time, self.given = call.now, ""

    async def deleting(self, call: Call) -> None:
        """Only its owner takes it away."""
        check_owner(self, call)

    def pause(self, call: Call) -> None:
        """Rests."""
        check_owner(self, call)
        self.check_state("ACTIVE", "FAILING")
        self.state = "PAUSED"

    def resume(self, call: Call) -> None:
        """Is read again."""
        check_owner(self, call)
        self.check_state("PAUSED", "FAILING")
        if not self.secret:
            raise Validation(Violation("password", "REQUIRED", "请填写密码或授权码", "Give the password."))
        self.begin_again(call)

    def poll(self, call: Call) -> None:
        """Is read as soon as can be."""
        self.check_state("ACTIVE")
        self.next_time = call.now

    def begin_again(self, call: Call) -> None:
        """Is tried at once, whatever was before."""
        self.state, self.problem, self.failures, self.failing_since = "ACTIVE", "", 0, None
        self.next_time = call.now

    def read_well(self, pause: timedelta, call: Call) -> None:
        """Has been read."""
        self.failures, self.failing_since, self.problem = 0, None, ""
        self.sync_time = call.now
        # Whoever has asked meanwhile is not put off.
        if self.next_time is None or self.next_time > call.now:
            self.next_time = call.now + pause
