"""Positions of accounts by cell, for what is near."""

from uuid import UUID

from customer.model.base import Base
from sqlalchemy import Double, ForeignKey, Index, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column


class AccountPin(Base):
    """Where an account is, with its geohash."""

    __tablename__ = "account_pins"

    account: Mapped[UUID] = mapped_column(
        Uuid, ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    cell: Mapped[str] = mapped_column(Text(collation="C"))
    latitude: Mapped[float] = mapped_column(Double)
    longitude: Mapped[float] = mapped_column(Double)

    __table_args__ = (Index("account_pins_cell_index", "cell"),)
