"""The degree of loyalty that was last known of an account, and its risk of churn as insight told it."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from customer.model.base import Base
from sqlalchemy import Date, DateTime, Integer, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column


class Loyalty(Base):
    """One row for each account of which something is known; its id is that of the account."""

    __tablename__ = "loyalties"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    degree: Mapped[str] = mapped_column(Text, server_default=text("''"))
    since: Mapped[date | None] = mapped_column(Date)
    churn: Mapped[int | None] = mapped_column(Integer)
    churn_band: Mapped[str] = mapped_column(Text, server_default=text("''"))
    churn_factors: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    churn_model: Mapped[str] = mapped_column(Text, server_default=text("''"))
    churn_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
