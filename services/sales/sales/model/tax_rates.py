"""The tax rates of billing, as its facts told them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from crmkit.call import Call
from crmkit.mapping import read_date
from sales.model.base import Base
from sqlalchemy import Date, Numeric, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column


class TaxRate(Base):
    """One validity of a code of billing's tax rates, in percent."""

    __tablename__ = "tax_rates"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    code: Mapped[str] = mapped_column(Text, index=True)
    percent: Mapped[Decimal] = mapped_column(Numeric)
    start: Mapped[date | None] = mapped_column(Date)
    end: Mapped[date | None] = mapped_column(Date)
    state: Mapped[str] = mapped_column(Text)


async def learn(told: dict[str, Any], call: Call) -> None:
    """Takes over what billing says of a rate."""
    values = {
        "code": str(told.get("code", "")), "percent": Decimal(str(told.get("rate") or 0)) * 100,
        "start": _day(told.get("validFromDate") or told.get("validFrom")),
        "end": _day(told.get("validToDate") or told.get("validTo")), "state": str(told.get("state", "")),
    }  # fmt: skip
    statement = insert(TaxRate).values(name=str(told["name"]), **values)
    await call.db.execute(statement.on_conflict_do_update(index_elements=[TaxRate.name], set_=values))


async def rates_of(codes: Iterable[str], day: date, call: Call) -> dict[str, Decimal]:
    """The percentages of codes on a day; a code that billing has no rate for is not among them."""
    wanted = {code for code in codes if code}
    if not wanted:
        return {}
    statement = select(TaxRate.code, TaxRate.percent).where(
        TaxRate.code.in_(wanted), TaxRate.state != "RETIRED",
        TaxRate.start.is_(None) | (TaxRate.start <= day), TaxRate.end.is_(None) | (TaxRate.end >= day),
    )  # fmt: skip
    rows = await call.db.execute(statement.order_by(TaxRate.start.nulls_first()))
    return {row.code: row.percent for row in rows}


def _day(value: Any) -> date | None:
    """A day as facts tell it: three numbers or a text."""
    if isinstance(value, dict):
        from google.type import date_pb2

        return read_date(date_pb2.Date(**value))  # pyright: ignore[reportUnknownArgumentType]
    return date.fromisoformat(value) if value else None
