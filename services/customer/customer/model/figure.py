"""What other services have about an account, one row for each record, as its service last told it."""

from datetime import date
from decimal import Decimal
from typing import Any

from customer.model.base import Base
from sqlalchemy import Date, Index, Integer, Numeric, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column


class Figure(Base):
    """One record of another service that counts for an account: a deal, an order, money, a ticket."""

    __tablename__ = "figures"

    source: Mapped[str] = mapped_column(Text, primary_key=True)
    collection: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Text, info={"refers": True})
    state: Mapped[str] = mapped_column(Text, server_default=text("''"))
    amount: Mapped[Decimal | None] = mapped_column(Numeric(20, 4))
    currency: Mapped[str] = mapped_column(Text, server_default=text("''"))
    day: Mapped[date | None] = mapped_column(Date)
    owner: Mapped[str] = mapped_column(Text, server_default=text("''"))
    department: Mapped[str] = mapped_column(Text, server_default=text("''"))
    collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    version: Mapped[int] = mapped_column(Integer)

    __table_args__ = (Index("figures_account_index", "account", "collection", "day"),)


class RecordScope(Base):
    """Who owns a record since it last moved, for time line entries that are seen by those who may open it."""

    __tablename__ = "record_scopes"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    owner: Mapped[str] = mapped_column(Text, server_default=text("''"))
    department: Mapped[str] = mapped_column(Text, server_default=text("''"))
    collaborators: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = mapped_column(Integer)
