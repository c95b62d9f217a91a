"""Timed work of sales."""

from datetime import datetime

from crmkit.call import Call
from crmkit.listing import ZONE
from crmkit.schedule import every
from sqlalchemy import select

from sales.model.price_book import PriceBook
from sales.model.quote import ACCEPTABLE, Quote

AT_ONCE = 500


@every("5m", collapse=True)
async def expire_quotes(as_of: datetime, call: Call) -> None:
    """Publishes what has expired; acceptance decides by time itself, so that a late run lets nothing through."""
    today = as_of.astimezone(ZONE).date()
    over = select(Quote).where(Quote.state.in_(ACCEPTABLE), Quote.valid_until_date < today)
    for quote in await call.db.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True)):
        quote.expire(call)


@every("5m", collapse=True)
async def expire_price_books(as_of: datetime, call: Call) -> None:
    """Ends books whose days are over; pricing looks at the days itself."""
    today = as_of.astimezone(ZONE).date()
    over = select(PriceBook).where(PriceBook.state == "ACTIVE", PriceBook.valid_to_date < today)
    for book in await call.db.scalars(over.limit(AT_ONCE).with_for_update(skip_locked=True)):
        book.expire()
