"""Feeds: secret addresses of one person's calendar."""

import hashlib
import secrets

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource
from sqlalchemy import Index, Text, func, select
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

MOST_FEEDS = 10


class CalendarFeed(Resource, Base):
    """An address whose secret is shown once and kept as a hash."""

    __message__ = pb.CalendarFeed
    __table_args__ = (Index("calendar_feeds_secret_hash_key", "secret_hash", unique=True),)

    display_name: Mapped[str]
    detail: Mapped[str]
    # No field of the message, so that no answer and no fact can hold it.
    secret_hash: Mapped[str] = mapped_column(Text)

    # Shown by the answer to the one who makes it alone.
    path = ""
    shown = ""

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it. FEED_LIMIT."""
        self.owner, self.detail = call.caller.employee, self.detail or "FULL"
        mine = select(func.count()).where(CalendarFeed.owner == self.owner)
        if (await call.db.scalar(mine) or 0) >= MOST_FEEDS:
            raise FailedPrecondition("FEED_LIMIT", limit=MOST_FEEDS)
        secret = secrets.token_urlsafe(32)
        self.secret_hash, self.shown = digest_of(secret), f"/feeds/{secret}.ics"

    @classmethod
    async def of(cls, secret: str, call: Call) -> "CalendarFeed | None":
        """The feed whose address has the secret."""
        return await call.find(cls, cls.secret_hash == digest_of(secret))


def digest_of(secret: str) -> str:
    """How a secret of an address is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()
