"""Whose telephone numbers are whose: those of customers and the people there, beside the keys of leads."""

from __future__ import annotations

from typing import Any

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.events import Fact, listens
from crmkit.phones import e164
from sales.model.base import Base
from sqlalchemy import Index, Text, select
from sqlalchemy.orm import Mapped, mapped_column


class KnownNumber(Base):
    """A number in E.164 of an account or a contact."""

    __tablename__ = "known_numbers"
    __table_args__ = (Index("known_numbers_name_index", "name"),)

    number: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)


@listens("crm.customer.v1.ResourceChanged.accounts", "crm.customer.v1.ResourceChanged.contacts")
async def on_numbers_changed(changes: list[Fact], call: Call) -> None:
    """The latest word of a record counts; who was merged, left or forgotten has none."""
    latest = {event.aggregate: event for event in sorted(changes, key=lambda event: event.version or 0)}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for name, event in latest.items():
        told: dict[str, Any] = event.payload.get("resource") or {}
        if event.payload.get("action") == "DELETED" or told.get("state") in ("MERGED", "LEFT", "ERASED"):
            continue
        for phone in told.get("phones", []):
            # Somebody else answers at a number that was found to be wrong.
            if phone.get("valid") and (number := e164(str(phone.get("number", "")))):
                rows[number, name] = {"number": number, "name": name}
    await (await driver(call.db)).execute("DELETE FROM known_numbers WHERE name = ANY($1)", list(latest))
    await insert_rows(call, KnownNumber.__table__, [*rows.values()])


async def records_with(number: str, call: Call) -> list[str]:
    """The contacts, then the accounts, with a number, whoever may see them."""
    asked = select(KnownNumber.name).where(KnownNumber.number == number).order_by(KnownNumber.name.desc())
    return list(await call.db.scalars(asked.limit(20)))
