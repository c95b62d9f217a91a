"""What the clocks of the sea look at: for every account as it was at every time, and where that comes from."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from customer.model.base import Base
from sqlalchemy import BigInteger, Boolean, Date, DateTime, Index, Integer, Numeric, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

_TIME = DateTime(timezone=True)


class SeaState(Base):
    """An account as the clocks saw it from one time to another; the present row ends in infinity."""

    __tablename__ = "sea_states"

    account: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    from_time: Mapped[datetime] = mapped_column(_TIME, primary_key=True)
    to_time: Mapped[datetime] = mapped_column(_TIME, server_default=text("'infinity'"))
    state: Mapped[str] = mapped_column(Text, server_default="")
    owner: Mapped[str] = mapped_column(Text, server_default="")
    department: Mapped[str] = mapped_column(Text, server_default="")
    departments: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    zone: Mapped[str] = mapped_column(Text, server_default="Asia/Shanghai")
    level: Mapped[str] = mapped_column(Text, server_default="")
    type: Mapped[str] = mapped_column(Text, server_default="")
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    product_lines: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    divisions: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    source: Mapped[str] = mapped_column(Text, server_default="")
    stage: Mapped[str] = mapped_column(Text, server_default="")
    stage_time: Mapped[datetime | None] = mapped_column(_TIME)
    owned_time: Mapped[datetime | None] = mapped_column(_TIME)
    owned_how: Mapped[str] = mapped_column(Text, server_default="")
    owned_from: Mapped[str] = mapped_column(Text, server_default="")
    protected_until: Mapped[datetime | None] = mapped_column(_TIME)
    key_account: Mapped[bool] = mapped_column(Boolean, server_default="false")
    follow_up: Mapped[datetime | None] = mapped_column(_TIME)
    follow_ups: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    deal_time: Mapped[datetime | None] = mapped_column(_TIME)
    order_time: Mapped[datetime | None] = mapped_column(_TIME)
    contract_end: Mapped[date | None] = mapped_column(Date)
    paused_until: Mapped[datetime | None] = mapped_column(_TIME)
    # Since when it was frozen with this owner, each time, and until when; the last one may go on.
    frozen_from: Mapped[list[datetime]] = mapped_column(ARRAY(_TIME), server_default="{}")
    frozen_until: Mapped[list[datetime]] = mapped_column(ARRAY(_TIME), server_default="{}")
    running_contracts: Mapped[int] = mapped_column(Integer, server_default="0")
    open_opportunities: Mapped[int] = mapped_column(Integer, server_default="0")
    open_tickets: Mapped[int] = mapped_column(Integer, server_default="0")
    balance: Mapped[Decimal] = mapped_column(Numeric(20, 4), server_default="0")

    __table_args__ = (
        Index(
            "sea_states_present_key", "account", unique=True, postgresql_where=text("to_time = 'infinity'")
        ),
        Index("sea_states_from_time_index", "from_time"),
    )


class SeaRecord(Base):
    """A deal, contract, order, ticket or balance of an account, as its service last told."""

    __tablename__ = "sea_records"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[UUID] = mapped_column(Uuid, index=True)
    collection: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(BigInteger)
    live: Mapped[bool] = mapped_column(Boolean)
    pending: Mapped[bool] = mapped_column(Boolean, server_default="false")
    time: Mapped[datetime | None] = mapped_column(_TIME)
    day: Mapped[date | None] = mapped_column(Date)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(20, 4))


class SeaWarning(Base):
    """That an owner was warned of a return, once per step."""

    __tablename__ = "sea_warnings"

    account: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    due_time: Mapped[datetime] = mapped_column(_TIME, primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)


class WorkingDay(Base):
    """Working days in order, so that the database can count them."""

    __tablename__ = "working_days"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, unique=True)
