"""Calendars of people on other servers, and what is known of each of their events."""

from typing import Any
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from sqlalchemy import Index, Integer, Text, Uuid, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace.dav import check_url
from workspace.model.base import Base, check_owner
from workspace.model.polled import Polled
from workspace.model.taken import TakesPassword

MOST_ACCOUNTS = 50


class CalendarItem(Base):
    """An event on another server: the version and text that were seen last, and the version here that fits them."""

    __tablename__ = "calendar_items"
    __table_args__ = (Index("calendar_items_event_index", "account", "event"),)

    account: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    href: Mapped[str] = mapped_column(Text, primary_key=True)
    etag: Mapped[str] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)
    # The event here, none where it was not taken; and its version that is written there, 0 where that must be done.
    event: Mapped[UUID | None] = mapped_column(Uuid)
    version: Mapped[int] = mapped_column(Integer)
    # Attendees that we have written there.
    attendees: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # True where it was taken away there though others come: it stays here and is not written again.
    left: Mapped[bool] = mapped_column(server_default=text("false"))


class CalendarAccount(Polled, Base):
    """A calendar of a person on another server, kept in step both ways."""

    __message__ = pb.CalendarAccount
    sealed_for, told_as = "calendar account", "calendar"
    __table_args__ = (
        Index("calendar_accounts_due_index", "next_time", postgresql_where=text("state = 'ACTIVE'")),
        Index("calendar_accounts_address_key", "owner", "url", unique=True),
    )

    display_name: Mapped[str]
    url: Mapped[str]
    user_name: Mapped[str]
    calendar_url: Mapped[str]
    refused: Mapped[Any]
    password = TakesPassword.password  # pyright: ignore[reportIncompatibleMethodOverride]

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it, and is read at once where its password is there."""
        self.owner = call.caller.employee
        mine = select(func.count()).where(CalendarAccount.owner == self.owner)
        if (await call.db.scalar(mine) or 0) >= MOST_ACCOUNTS:
            raise FailedPrecondition("FEED_LIMIT", limit=MOST_ACCOUNTS)
        check_url(self.url, call.running.settings.environment)
        self.keep_password(call)
        self.state, self.next_time = ("ACTIVE" if self.secret else "PAUSED"), call.now

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its owner changes it; a new password or address is tried at once."""
        check_owner(self, call)
        check_url(self.url, call.running.settings.environment)
        self.keep_password(call)
        if "url" in changed:
            self.calendar_url = ""
        if changed & {"password", "url", "user_name"} and self.secret:
            self.begin_again(call)

    def sync(self, call: Call) -> None:
        """Is brought in step as soon as can be."""
        self.poll(call)
