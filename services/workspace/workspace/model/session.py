"""Where people are signed in, and with what. The gateway tells of sessions; workspace says which still count.

SignedIn, SessionsSeen → a row → (ended by somebody or a rule) → `session.<id>` in the configuration → the gateway
"""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.resource import Resource
from sqlalchemy import Index, Text, select, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base


class Device(Resource, Base):
    """A browser that a person has signed in with."""

    __message__ = pb.Device
    handed_over = False
    follows_departments: ClassVar[bool] = False
    __table_args__ = (Index("devices_key_key", "owner", "device_key", unique=True),)

    display_name: Mapped[str]
    kind: Mapped[str]
    address: Mapped[str]
    seen_time: Mapped[datetime | None]
    state: Mapped[str]
    # What the gateway knows the browser by.
    device_key: Mapped[str] = mapped_column(Text)

    async def revoke(self, call: Call) -> None:
        """Sends it away: whoever is signed in with it is so no more."""
        self.check_state("KNOWN")
        self.state = "REVOKED"
        await end_all([Session.device == self.name], "DEVICE_REVOKED", call)

    def allow(self) -> None:
        """Lets people sign in with it again."""
        self.check_state("REVOKED")
        self.state = "KNOWN"


class Session(Resource, Base):
    """A person signed in with a device; its id is the gateway's."""

    __message__ = pb.Session
    handed_over = False
    follows_departments: ClassVar[bool] = False
    __table_args__ = (
        Index("sessions_open_index", "owner", postgresql_where=text("state = 'OPEN'")),
        Index("sessions_seen_index", "seen_time", postgresql_where=text("state = 'OPEN'")),
        Index("sessions_ended_index", "end_time", postgresql_where=text("state = 'ENDED'")),
    )

    display_name: Mapped[str]
    device: Mapped[str]
    kind: Mapped[str]
    address: Mapped[str]
    begin_time: Mapped[datetime | None]
    seen_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    end_reason: Mapped[str]
    state: Mapped[str]
    # What the identity provider calls it; no answer shows that.
    provider_id: Mapped[str] = mapped_column(Text)

    def end(self, call: Call) -> None:
        """Ends it, by the person or an administrator."""
        self.check_state("OPEN")
        self.over("ENDED_BY_HAND", call)

    def over(self, reason: str, call: Call) -> None:
        """It counts no more."""
        self.state, self.end_reason, self.end_time = "ENDED", reason, call.now


async def end_all(which: list[Any], reason: str, call: Call) -> int:
    """Ends the open sessions that fit; how many there were."""
    async with call.everybody():
        chosen = select(Session).where(Session.state == "OPEN", *which).order_by(Session.id)
        rows = list(await call.db.scalars(chosen.with_for_update()))
        for row in rows:
            row.over(reason, call)
        await call.flush()
    return len(rows)


async def end_others(person: str, but: str, call: Call) -> int:
    """Ends a person's sessions but one."""
    kept = [Session.id != UUID(but.partition("/")[2])] if but else []
    return await end_all([Session.owner == person, *kept], "ENDED_BY_HAND", call)
