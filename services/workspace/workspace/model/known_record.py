"""What workspace knows of the records of all services: what they are called, who may see them, and what rules ask of them.

Fed by every change fact. Tasks, notices and files refer to records by name; whoever may not see a record is told no
more of it than its label.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, cast

from crmkit import filters
from crmkit.auth import ZONE, Caller, visible
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.catalog import FILTER_KINDS, resources
from crmkit.describe import Described
from crmkit.driver import driver
from crmkit.events import Fact
from crmkit.filters import FilterField
from crmkit.handing import OVER
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    Numeric,
    Text,
    exists,
    false,
    func,
    literal,
    select,
    text,
)
from sqlalchemy import cast as cast_
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

# What comes by the million and has no day of its own that somebody could be reminded of.
UNWATCHED = frozenset({"interactions", "notifications", "auditEntries", "calendarFeeds"})
# Models that say `handed_over = False`: decisions, plans, figures and means of access of the person alone.
STAY = frozenset([
    "apiKeys", "appraisals", "approvals", "bulkJobs", "commissionStatements", "devices", "forecasts", "imports",
    "interactions", "sessions", "targets", "territoryMoves", "transferItems", "transfers", "usageFindings", "workPlans",
    "workSummaries",
])  # fmt: skip
LONGEST_VALUE = 300
# Under which the short fields name those that were too long.
CUT = "~cut"


class KnownRecord(Base):
    """A record of any service."""

    __tablename__ = "known_records"
    __table_args__ = (
        Index("known_records_owner_index", text("(scope ->> 'owner')"), postgresql_where=text("NOT deleted")),
        Index(
            "known_records_department_index",
            text("(scope ->> 'department')"),
            postgresql_where=text("NOT deleted"),
        ),
    )

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    deleted: Mapped[bool] = mapped_column(Boolean)
    label: Mapped[str] = mapped_column(Text)
    # Whose it is, in the words of `crmkit.auth.visible`.
    scope: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # Its short fields as the change fact told them, without those that want a permission of their own.
    record: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # Its days and times by the field's JSON name, as ISO text that sorts.
    dates: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # When something was last heard of it: a change, a visit, a call, an interaction.
    touch_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


@cache
def described_as(collection: str) -> Described | None:
    """The declaration of a collection; None where there is no such."""
    return next((found for found in resources().values() if found.collection == collection), None)


async def learn(events: Iterable[Fact], call: Call) -> None:
    """Remembers what changed, unless something later is known: facts come in any order."""
    latest: dict[str, dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: event.version or 0):
        name = str(event.payload["name"])
        described = described_as(name.partition("/")[0])
        if described is None:
            continue
        record = cast("dict[str, Any]", event.payload.get("resource") or {})
        scope = scope_of({**record, "name": name})
        title = described.fields[described.title_field].json_name
        label = str(record.get(title) or record.get("number") or "")[:200]
        gone = event.payload["action"] == "DELETED"
        watched = {} if described.collection in UNWATCHED else record
        latest[name] = {
            "name": name, "version": event.version or 0, "deleted": gone, "label": label, "scope": scope,
            "record": _short(watched), "dates": _days(described, watched), "touch_time": event.time,
        }  # fmt: skip
    rows = [latest[name] for name in sorted(latest)]
    await insert_rows(call, KnownRecord.__table__, rows, _UNLESS_LATER)


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in record.items()
        if not isinstance(value, str | list | dict) or len(json.dumps(value)) <= LONGEST_VALUE
    }
    cut = sorted(record.keys() - kept.keys())
    return {**kept, CUT: cut} if cut else kept


def _days(described: Described, record: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in described.fields.values():
        if field.kind in {"date", "time"} and (told := iso(record.get(field.json_name))):
            found[field.json_name] = told
    return found


def iso(value: Any) -> str:
    """A day or an instant of a record as ISO text; empty where there is none."""
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        year, month, day = (int(parts.get(key) or 0) for key in ("year", "month", "day"))
        return date(year, month, day).isoformat() if year and month and day else ""
    if not isinstance(value, str) or not value:
        return ""
    return (
        value if len(value) == 10 else f"{datetime.fromisoformat(value).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


async def touch(moments: Mapping[str, datetime], call: Call) -> None:
    """Something was heard of these, at that time."""
    names = sorted(moments)
    await (await driver(call.db)).execute(_TOUCH, names, [moments[name] for name in names])


_TOUCH = (
    "UPDATE known_records SET touch_time = told.moment FROM unnest($1::text[], $2::timestamptz[]) AS told(name, moment)"
    " WHERE known_records.name = told.name AND touch_time < told.moment"
)


async def belongings(person: str, call: Call) -> list[tuple[Described, int]]:
    """How many records of each collection the person owns, the most first; what is private stays with the person."""
    collection = func.split_part(KnownRecord.name, "/", 1)
    owned = (KnownRecord.scope["owner"].astext == person, ~KnownRecord.deleted)
    counted = await call.db.execute(select(collection, func.count()).where(*owned).group_by(collection))
    found = [(described_as(name), count) for name, count in counted]
    left = [(one, count) for one, count in found if one is not None and one.scope == "OWNED"]
    return sorted(left, key=lambda pair: (-pair[1], pair[0].collection))


async def left_over(person: str, call: Call) -> list[tuple[Described, int]]:
    """The same of what somebody else can go on with: work that is open, and neither what was done nor what was said."""
    collection = func.split_part(KnownRecord.name, "/", 1)
    state = func.coalesce(KnownRecord.record["state"].astext, "")
    owned = (KnownRecord.scope["owner"].astext == person, ~KnownRecord.deleted, state.not_in(OVER))
    counted = await call.db.execute(
        select(collection, func.count()).where(*owned).group_by(collection).order_by(collection)
    )
    found = [(described_as(name), count) for name, count in counted if name not in STAY]
    left = [(one, count) for one, count in found if one is not None and one.scope == "OWNED"]
    open_ones = [
        (one, count) for one, count in left if (field := one.fields.get("state")) and field.enum_numbers
    ]
    return sorted(open_ones, key=lambda pair: (-pair[1], pair[0].collection))


async def records(names: Sequence[str], call: Call) -> dict[str, KnownRecord]:
    """What is known of the named records."""
    rows = await call.db.scalars(select(KnownRecord).where(KnownRecord.name.in_(names), ~KnownRecord.deleted))
    return {row.name: row for row in rows}


def may_see(person: str, record: KnownRecord, call: Call) -> bool:
    """True where an employee may read the record: by permission and by data scope, as at a call."""
    return may_see_as(person, record.scope, call)


def may_see_as(person: str, scope: Mapping[str, Any], call: Call) -> bool:
    """The same for a record that is told by its own fields, `name` among them."""
    described = described_as(str(scope.get("name", "")).partition("/")[0])
    caller = call.running.directory.explained(person)
    if described is None or caller is None or not caller.may(described.permission("read")):
        return False
    return visible(caller, described.scope, scope, described.account_fields, described.collection)


def reads(reader: Caller, described: Described, known: KnownRecord) -> bool:
    """True where somebody reads a record by its data scope and the row rules, as far as these can be asked here."""
    if not (rules := reader.reach(described.collection).rules):
        return visible(reader, described.scope, known.scope, described.account_fields, described.collection)
    named = _asked(rules, described)
    if named is None or set(named) & set(known.record.get(CUT, ())):
        return False
    whole = {**known.record, **known.scope}
    return visible(reader, described.scope, whole, described.account_fields, described.collection)


def passing(described: Described, name: Any, reader: Caller) -> ColumnElement[bool] | None:
    """True where the record of that name passes the reader's row rules; None where these cannot be asked here."""
    rules = reader.reach(described.collection).rules
    named = _asked(rules, described)
    if named is None:
        return None
    fields, now = _fields(described), datetime.now(UTC)
    try:
        passes = [
            filters.condition(filters.parse(rule), fields, me=reader.actor, now=now, zone=ZONE)
            for rule in rules
        ]
    except filters.FilterError:
        return None
    cut = func.coalesce(KnownRecord.record[CUT], cast_(literal("[]"), JSONB))
    whole = ~func.jsonb_exists_any(cut, cast_(list(named), ARRAY(Text)))
    return exists().where(KnownRecord.name == name, ~KnownRecord.deleted, whole, *passes)


def _asked(rules: Iterable[str], described: Described) -> list[str] | None:
    """The JSON names of the fields that rules speak of; None where not all of them are told to everybody."""
    if described.collection in UNWATCHED:
        return None
    found: list[str] = []
    for field in described.fields.values():
        spoken = re.compile(rf"(?<!\w)({field.name}|{field.json_name})(?!\w)")
        if any(spoken.search(rule) for rule in rules):
            if field.rule.read_permission or field.name == "custom":
                return None
            found.append(field.json_name)
    return found


@cache
def _fields(described: Described) -> Mapping[str, FilterField]:
    """The fields of a record elsewhere as a filter asks for them: JSON leaves out what is empty."""
    found: dict[str, FilterField] = {}
    for name, field in described.fields.items():
        value, kind = KnownRecord.record[field.json_name], FILTER_KINDS[field.kind]
        text_, currency = value.astext, None
        column: Any
        if kind in ("text", "reference", "enum"):
            column = func.coalesce(text_, "")
        elif kind == "number":
            column = cast_(text_, Numeric)
            column = column if field.kind == "decimal" else func.coalesce(column, 0)
        elif kind == "bool":
            column = func.coalesce(cast_(text_, Boolean), false())
        elif kind in ("date", "time"):
            column = cast_(
                KnownRecord.dates[field.json_name].astext,
                Date() if kind == "date" else DateTime(timezone=True),
            )
        elif kind == "money":
            column, currency = cast_(value["amount"].astext, Numeric), value["currencyCode"].astext
        else:
            column = func.coalesce(value, cast_(literal("{}" if kind == "struct" else "[]"), JSONB))
        found[name] = FilterField(name, kind, column, frozenset(field.enum_numbers or ()), currency)
    found["name"] = FilterField("name", "reference", KnownRecord.__table__.c["name"])
    return found


def scope_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whose a record is, from its JSON, in the words of `crmkit.auth.visible`."""
    described = described_as(str(record.get("name", "")).partition("/")[0])
    found = {key: record[key] for key in ("name", "owner", "department", "collaborators") if record.get(key)}
    if described is not None:
        for name in described.account_fields:
            found[name] = record.get(described.fields[name].json_name, "")
    return found


_UNLESS_LATER = (
    "ON CONFLICT (name) DO UPDATE SET version = excluded.version, deleted = excluded.deleted,"
    " label = excluded.label, scope = excluded.scope, record = excluded.record, dates = excluded.dates,"
    " touch_time = greatest(known.touch_time, excluded.touch_time) WHERE known.version < excluded.version"
)
