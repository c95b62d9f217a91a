"""Links that open one quote without signing in: they end with its validity, and can be revoked."""

from __future__ import annotations

import secrets
from datetime import datetime, time, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.listing import ZONE
from crmkit.mapping import mapper
from sales.model.base import Base
from sales.model.quote import ACCEPTABLE, Quote
from sqlalchemy import DateTime, ForeignKey, Text, Uuid, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

# A quote without a last day is open to its link for this long.
OPEN_DAYS = 90
# What a buyer does not see, whatever his link.
_INTERNAL = (
    "grounds", "line_costs", "below_floor", "margin_percent", "over_limit", "engine_version", "owner", "department",
    "collaborators", "creator", "custom", "origin", "opportunity", "copied_from", "pending_approval", "max_discount_percent",
)  # fmt: skip


class QuoteLink(Base):
    """A link, by the hash of its token: the token itself is shown once and kept nowhere."""

    __tablename__ = "quote_links"

    token: Mapped[str] = mapped_column(Text, primary_key=True)
    quote: Mapped[UUID] = mapped_column(Uuid, ForeignKey("quotes.id", ondelete="CASCADE"), index=True)
    expire_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def make_link(quote: Quote, call: Call) -> pb.CreateQuoteLinkResponse:
    """A new link to an approved or sent version; sending on, the customer sees it."""
    quote.check_state(*ACCEPTABLE)
    token = secrets.token_urlsafe(32)
    until = call.now + timedelta(days=OPEN_DAYS)
    if quote.valid_until_date is not None:
        until = datetime.combine(quote.valid_until_date + timedelta(days=1), time(), ZONE)
    row = {"token": _hash(token), "quote": quote.id, "expire_time": until}
    await call.db.execute(insert(QuoteLink).values(**row))
    reply = pb.CreateQuoteLinkResponse(token=token)
    reply.expire_time.FromDatetime(until)
    return reply


async def revoke_links(quote: Quote, call: Call) -> None:
    """Ends every link of a quote."""
    await call.db.execute(delete(QuoteLink).where(QuoteLink.quote == quote.id))


async def opened(token: str, call: Call) -> tuple[Quote, datetime]:
    """The quote behind a link and until when the link accepts it (LINK_INVALID).

    An expired link still opens, so that it can say what counts now.
    """
    columns = select(QuoteLink.quote, QuoteLink.expire_time).where(QuoteLink.token == _hash(token))
    found = (await call.db.execute(columns)).one_or_none()
    quote = await call.find(Quote, Quote.id == found.quote) if found else None
    if found is None or quote is None:
        raise FailedPrecondition("LINK_INVALID")
    return quote, found.expire_time


def check_open(quote: Quote, until: datetime, call: Call) -> None:
    """QUOTE_EXPIRED where the link is over and the quote, which has no last day, is not."""
    if quote.state in ACCEPTABLE and until <= call.now:
        raise FailedPrecondition("QUOTE_EXPIRED", date=until.astimezone(ZONE).date())


async def shown(quote: Quote, until: datetime, call: Call) -> pb.OpenQuoteLinkResponse:
    """What a buyer sees: nothing of what is ours alone, and the number of the version that counts."""
    message: Any = mapper(Quote).message(quote, call.running.nobody)
    for name in _INTERNAL:
        message.ClearField(name)
    reply = pb.OpenQuoteLinkResponse(
        quote=message, acceptable=quote.acceptable(call.now) and until > call.now
    )
    if not reply.acceptable and quote.state != "ACCEPTED":
        valid = await call.find(Quote, Quote.root == quote.root, Quote.state.in_(("SENT", "ACCEPTED")))
        reply.valid_number = valid.number if valid else ""
    return reply


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
