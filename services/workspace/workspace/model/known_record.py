"""What workspace knows of the records of all services: what they are called and who may see them.

Fed by every change fact. Tasks, notices and files refer to records by name; whoever may not see a record is told no
more of it than its label.
"""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, cast

from crmkit.auth import visible
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.describe import Described
from crmkit.driver import driver
from crmkit.events import Fact
from sqlalchemy import Boolean, Integer, Text, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base


class KnownRecord(Base):
    """A record of any service."""

    __tablename__ = "known_records"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    deleted: Mapped[bool] = mapped_column(Boolean)
    label: Mapped[str] = mapped_column(Text)
    # Whose it is, in the words of `crmkit.auth.visible`.
    scope: Mapped[dict[str, Any]] = mapped_column(JSONB)


@cache
def described_as(collection: str) -> Described | None:
    """The declaration of a collection; None where there is no such."""
    return next((found for found in resources().values() if found.collection == collection), None)


async def learn(events: Iterable[Fact], call: Call) -> None:
    """Remembers what changed, unless something later is known: facts come in any order."""
    latest: dict[str, tuple[Any, ...]] = {}
    for event in sorted(events, key=lambda event: event.version or 0):
        name = str(event.payload["name"])
        described = described_as(name.partition("/")[0])
        if described is None:
            continue
        record = cast("dict[str, Any]", event.payload.get("resource") or {})
        scope = {key: record[key] for key in ("owner", "department", "collaborators") if record.get(key)}
        if described.rule.account_field:
            field = described.fields[described.rule.account_field]
            scope[field.name] = record.get(field.json_name, "")
        title = described.fields[described.title_field].json_name
        label = str(record.get(title) or record.get("number") or "")[:200]
        gone = event.payload["action"] == "DELETED"
        latest[name] = (name, event.version or 0, gone, label, json.dumps({"name": name, **scope}))
    await (await driver(call.db)).executemany(_LEARN, [latest[name] for name in sorted(latest)])


async def records(names: Sequence[str], call: Call) -> dict[str, KnownRecord]:
    """What is known of the named records."""
    rows = await call.db.scalars(select(KnownRecord).where(KnownRecord.name.in_(names), ~KnownRecord.deleted))
    return {row.name: row for row in rows}


def may_see(person: str, record: KnownRecord, call: Call) -> bool:
    """True where an employee may read the record: by permission and by data scope, as at a call."""
    described = described_as(record.name.partition("/")[0])
    caller = call.running.directory.explained(person)
    if described is None or caller is None or not caller.may(described.permission("read")):
        return False
    return visible(caller, described.scope, record.scope, described.rule.account_field, described.collection)


_LEARN = (
    "INSERT INTO known_records AS known (name, version, deleted, label, scope) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (name) DO UPDATE SET version = excluded.version, deleted = excluded.deleted,"
    " label = excluded.label, scope = excluded.scope WHERE known.version < excluded.version"
)
