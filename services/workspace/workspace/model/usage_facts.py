"""What rules of use look at: on which days people have acted, and what they have said of leads and opportunities."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.events import Fact
from sqlalchemy import Date, DateTime, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.audit_told import JOBS
from workspace.model.base import Base
from workspace.model.calendar import zones_of
from workspace.model.known_record import described_as

WATCHED = ("leads", "opportunities")
STAGES = frozenset({"state", "stage"})


class UsageDay(Base):
    """A day, in the person's own zone, on which somebody has done something with the own hands."""

    __tablename__ = "usage_days"

    employee: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)


class Progress(Base):
    """One update of a lead or an opportunity by a person. What it says stands here as a hash."""

    __tablename__ = "usage_progress"
    __table_args__ = (Index("usage_progress_record_index", "record", "time"),)

    source: Mapped[str] = mapped_column(Text, primary_key=True)
    record: Mapped[str] = mapped_column(Text, primary_key=True)
    employee: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Empty where it is no text but a step.
    digest: Mapped[str] = mapped_column(Text)


def by_hand(fact: Fact) -> bool:
    """True for what a person has done: no key, no system, no job of the person."""
    return fact.actor.startswith("employees/") and not str(fact.payload.get("method", "")).startswith(JOBS)


async def keep_days(facts: Sequence[Fact], call: Call) -> None:
    """Remembers on which days people have acted."""
    told = [fact for fact in facts if by_hand(fact)]
    zones = await zones_of(sorted({fact.actor for fact in told}), call) if told else {}
    days = {(fact.actor, recurrence.wall_clock(fact.time, zones[fact.actor]).date()) for fact in told}
    if days:
        rows = [{"employee": employee, "day": day} for employee, day in sorted(days)]
        await insert_rows(call, UsageDay.__table__, rows)


async def keep_changes(facts: Sequence[Fact], call: Call) -> None:
    """Remembers steps of leads and opportunities, and texts about them, that a person has written."""
    rows: list[dict[str, Any]] = []
    for fact in facts:
        name = str(fact.payload.get("name", ""))
        if (
            name.partition("/")[0] not in WATCHED
            or fact.payload.get("action") != "UPDATED"
            or not by_hand(fact)
        ):
            continue
        after: Mapping[str, Any] = fact.payload.get("after") or {}
        said = " ".join(str(after[key]) for key in sorted(_texts(name.partition("/")[0]) & after.keys()))
        if STAGES & after.keys() or said:
            stepped = bool(STAGES & after.keys())
            rows.append(_progress(str(fact.id), name, fact, "" if stepped else digest(said)))
    await insert_rows(call, Progress.__table__, rows)


async def keep_interaction(fact: Fact, call: Call) -> None:
    """Remembers what was said of leads and opportunities."""
    told: Mapping[str, Any] = fact.payload.get("interaction") or {}
    names = [name for name in told.get("subjects") or () if str(name).partition("/")[0] in WATCHED]
    if names and fact.actor.startswith("employees/"):
        said = digest(str(told.get("summary", "")))
        rows = [_progress(told["name"], name, fact, said) for name in sorted(set(names))]
        await insert_rows(call, Progress.__table__, rows)


def _progress(source: str, record: str, fact: Fact, said: str) -> dict[str, Any]:
    return {"source": source, "record": record, "employee": fact.actor, "time": fact.time, "digest": said}


def digest(said: str) -> str:
    """A text without its blanks, as a hash."""
    return hashlib.sha256("".join(said.split()).encode()).hexdigest()


@cache
def _texts(collection: str) -> frozenset[str]:
    """The JSON names of the fields in which somebody says how it stands."""
    described = described_as(collection)
    fields = described.fields.values() if described else ()
    return frozenset(field.json_name for field in fields if field.rule.multiline)
