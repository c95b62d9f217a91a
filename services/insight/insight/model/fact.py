"""Business facts, one row each, for statistics and for whoever looks back."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from crm.insight.v1 import pb
from crmkit import events, withholding
from crmkit.auth import Caller
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.mapping import Reader
from crmkit.seen import SeenAsSource
from crmkit.values import Money
from insight.model.base import Base
from insight.sources import account_of, department_path, moment, seen_by, sources
from sqlalchemy import DateTime, Index
from sqlalchemy.orm import Mapped, mapped_column

LONGEST_TITLE = 500
# What names no record that is known here is shown to those alone who may do everything.
NOBODYS = {"owner": "", "department": "", "collaborators": [], "requires": "", "source_scope": "OWNED"}
AMOUNTS = ("amount", "gross", "totalAmount", "total", "value")


class Fact(SeenAsSource, Base):
    """One business fact; its id is that of the fact, so that twice is once. Partitioned by month."""

    __message__ = pb.Fact
    # Reports of the past show the tree of the past.
    follows_departments = False
    __table_args__ = (
        Index("facts_kind_occur_time_index", "kind", "occur_time"),
        Index("facts_account_occur_time_index", "account", "occur_time"),
        {"postgresql_partition_by": "RANGE (occur_time)"},
    )

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """A fact tells of its record no more than the record's own page would."""
        if withholding.hides_any(message.record, AMOUNTS, reader):
            message.ClearField("amount")

    @classmethod
    def quoted(cls, caller: Caller) -> frozenset[str]:
        """Nobody asks by amounts some of which their records would not show him."""
        hidden = caller.takes_fields and withholding.hidden_anywhere(AMOUNTS, caller)
        return frozenset(["amount"]) if hidden else frozenset()

    occur_time: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    kind: Mapped[str]
    account: Mapped[str]

    @classmethod
    async def keep(cls, told: Sequence[events.Fact], call: Call) -> list[str]:
        """Writes the rows of business facts; gives the account of each, empty where there is none."""
        # No change facts: this is a reading of facts and tells none itself.
        rows = [_row(event, call) for event in told]
        await insert_rows(call, cls.__table__, rows)
        return [str(row["account"]) for row in rows]


def _row(event: events.Fact, call: Call) -> dict[str, Any]:
    record = event.record
    name = str(record.get("name", event.aggregate))
    source = sources().get(name.partition("/")[0])
    amount = _amount(record) or _amount(event.payload)
    return {
        "id": event.id,
        "kind": event.subject,
        "occur_time": event.time,
        "area": event.subject.split(".")[1],
        "record": name,
        "title": _title(record, source)[:LONGEST_TITLE],
        "actor": event.actor,
        "account": (account_of(record, source) if source else "") or _text(record, "account"),
        "contact": name if name.startswith("contacts/") else _text(record, "contact"),
        "campaign": name if name.startswith("campaigns/") else _text(record, "campaign"),
        "amount_amount": amount.amount if amount else None,
        "amount_currency": amount.currency if amount else None,
        "state_from": _state(event.payload, "from"),
        "state_to": _state(event.payload, "to") or _text(record, "state"),
        "create_time": call.now,
        "update_time": moment(record.get("updateTime")) or event.time,
        "creator": event.actor,
        "version": 1,
        "department_path": department_path(str(record.get("department", "")), call),
        **(seen_by(record, source) if source else NOBODYS),
    }


def _title(record: Mapping[str, Any], source: Any) -> str:
    field = source.fields[source.title_field].json_name if source else "displayName"
    return str(record.get(field) or record.get("number") or "")


def _amount(record: Mapping[str, Any]) -> Money | None:
    for key in AMOUNTS:
        value = record.get(key)
        if isinstance(value, dict) and value.get("currencyCode"):
            return Money(Decimal(value["amount"]), value["currencyCode"])
    return None


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key, "")
    return value if isinstance(value, str) else ""


def _state(payload: Mapping[str, Any], key: str) -> str:
    """A state or stage; a change of hands has names of people there."""
    value = _text(payload, key)
    return "" if "/" in value else value
