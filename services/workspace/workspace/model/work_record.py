"""What somebody has done, counted from facts: each record that tells of work counts once, on the day it happened."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from statistics import median
from typing import Any, cast

from crm.workspace.v1 import pb
from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.events import Fact
from crmkit.listing import open_token, seal_token
from sqlalchemy import Boolean, Date, Index, Integer, Text, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model.base import Base
from workspace.model.employee import Employee
from workspace.model.task import zones_of
from workspace.periods import Span

SMALLEST_GROUP = 5
# Facts of one page.
MOST = 1000
CHANNELS = {"VISIT": "VISITS", "CALL": "CALLS", "EMAIL": "MAILS"}
MEASURES = tuple(name for name, number in pb.Measure.items() if number)
# Fact → the place of its record, and what it counts as.
COUNTED = {
    "crm.sales.v1.OpportunityStageChanged": ("opportunity", "DEALS_MOVED"),
    "crm.sales.v1.LeadStateChanged": ("lead", "LEADS_ANSWERED"),
    "crm.sales.v1.QuoteSent": ("quote", "DOCUMENTS"),
    "crm.orders.v1.ContractSubmitted": ("contract", "DOCUMENTS"),
    "crm.workspace.v1.FileUploaded": ("file", "DOCUMENTS"),
    "crm.sales.v1.VisitCompleted": ("visit", "VISITS"),
    "crm.sales.v1.CallWrappedUp": ("call", "CALLS"),
    "crm.sales.v1.OpportunityWon": ("opportunity", "DEALS_WON"),
    "crm.sales.v1.QuoteAccepted": ("quote", "QUOTES_ACCEPTED"),
    "crm.customer.v1.InteractionLogged": ("interaction", ""),
    "crm.workspace.v1.TaskCompleted": ("task", "TASKS_DONE"),
}


# What counts for whoever did it, and not for whose the record is.
_BY_ACTOR = ("DEALS_MOVED", "DOCUMENTS")


class WorkDone(Base):
    """One record that counts for somebody."""

    __tablename__ = "work_done"
    __table_args__ = (
        Index("work_done_employee_index", "employee", "day"),
        Index("work_done_recorded_index", "employee", "recorded"),
    )

    source: Mapped[str] = mapped_column(Text, primary_key=True)
    measure: Mapped[str] = mapped_column(Text, primary_key=True)
    # Tells apart what one record counts for several times.
    part: Mapped[str] = mapped_column(Text, primary_key=True, server_default="")
    employee: Mapped[str] = mapped_column(Text)
    day: Mapped[date] = mapped_column(Date)
    late: Mapped[bool] = mapped_column(Boolean)
    # The day on which it came into the system.
    recorded: Mapped[date | None] = mapped_column(Date)
    about: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # How long a first answer took.
    minutes: Mapped[int | None] = mapped_column(Integer)


async def count(facts: Sequence[Fact], call: Call) -> set[tuple[str, date]]:
    """Counts facts; whose they are and of which days, without those that do not count or have counted."""
    told = [(fact, *found) for fact in facts if (found := _told(fact)) is not None]
    zones = await zones_of((person for _, person, _, _ in told), call)
    rows: list[dict[str, Any]] = []
    for fact, person, measure, record in told:
        # A visit happened when somebody came, another moment of the customer when it began.
        begun: dict[str, Any] = record.get("checkIn") or {}
        happened = begun.get("serverTime") or record.get("startTime") or record.get("firstResponseTime")
        moment = datetime.fromisoformat(happened) if happened else fact.time
        day, recorded = (recurrence.wall_clock(time, zones[person]).date() for time in (moment, fact.time))
        # A mail of last year comes with its mailbox: nobody has been late with what nobody writes down.
        recorded = day if _by_itself(fact.subject, record) else recorded
        rows.append({
            "source": record["name"], "measure": measure, "part": str(fact.id) if measure == "DEALS_MOVED" else "",
            "employee": person, "day": day, "late": recorded > day, "recorded": recorded, "about": names(fact),
            "minutes": _minutes(person, record) if measure == "LEADS_ANSWERED" else None,
        })  # fmt: skip
    new = await insert_rows(call, WorkDone.__table__, rows, _ONCE)
    return {(row["employee"], row["day"]) for row in new}


_ONCE = "ON CONFLICT DO NOTHING RETURNING employee, day"


def _told(fact: Fact) -> tuple[str, str, dict[str, Any]] | None:
    """Who has done it, what it counts as, and the record; None where it does not count."""
    place, measure = COUNTED[fact.subject]
    record: dict[str, Any] = fact.payload.get(place) or {}
    person = str(record.get("employee") or record.get("agent") or record.get("owner") or "")
    if measure in _BY_ACTOR:
        person = fact.actor
    if measure == "LEADS_ANSWERED" and not record.get("firstResponseTime"):
        return None
    if not person.startswith("employees/") or not record.get("name"):
        return None
    if _by_itself(fact.subject, record) and not _counts_by_itself(record):
        return None
    return person, measure or CHANNELS.get(str(record.get("channel", "")), "INTERACTIONS"), record


def _minutes(person: str, lead: Mapping[str, Any]) -> int:
    """From when the lead was the person's to its first answer."""
    answered = datetime.fromisoformat(lead["firstResponseTime"])
    got = [
        datetime.fromisoformat(move["time"]) for move in lead.get("moves") or () if move.get("to") == person
    ]
    since = max(
        (time for time in got if time <= answered), default=datetime.fromisoformat(lead["createTime"])
    )
    return max(0, round((answered - since).total_seconds() / 60))


async def keep(plan: str, person: str, day: date, kept: bool, call: Call) -> None:
    """A plan of which everything is done counts on its last day, as long as that is so."""
    mine = WorkDone.source == plan, WorkDone.measure == "PLANS_KEPT"
    if not kept:
        await call.db.execute(delete(WorkDone).where(*mine))
        return
    row = {
        "source": plan, "measure": "PLANS_KEPT", "part": "", "employee": person, "day": day, "late": False,
        "recorded": day, "about": [plan], "minutes": None,
    }  # fmt: skip
    await insert_rows(call, WorkDone.__table__, [row], "ON CONFLICT DO NOTHING")


def _by_itself(subject: str, record: dict[str, Any]) -> bool:
    """True for an interaction that a mail, a form or an exchange has made, and no person."""
    return COUNTED[subject] == ("interaction", "") and bool(record.get("sourceKey"))


def _counts_by_itself(record: dict[str, Any]) -> bool:
    """False for what a visit or call of its own has made, which counts with that, and for what customers have done."""
    if str(record["sourceKey"]).startswith(("visits/", "calls/")):
        return False
    return record.get("direction") == "OUTBOUND" or record.get("channel") == "CALL"


def names(fact: Fact) -> list[str]:
    """The record of a fact that counts, and those that it is about."""
    record: dict[str, Any] = fact.payload.get(COUNTED[fact.subject][0]) or {}
    about = [str(record[key]) for key in ("name", "account", "opportunity", "contact") if record.get(key)]
    return about + [str(name) for key in ("subjects", "links", "contacts") for name in record.get(key) or ()]


async def counts(person: str, period: Span, call: Call) -> list[pb.WorkCount]:
    """What a person has done in a period, beside the median of the department where that hides everybody."""
    mine = await _by_measure([person], period, call)
    entry = call.entry(person)
    peers = select(Employee.id).where(
        Employee.department == entry.get("department", ""), Employee.state == "ACTIVE",
        # Machines and partners' people hide nobody: their figures are known to be 0.
        Employee.kind == "STAFF",
    )  # fmt: skip
    async with call.everybody():
        names = [f"employees/{key}" for key in await call.db.scalars(peers)]
    theirs = await _by_measure(names, period, call) if len(names) >= SMALLEST_GROUP else {}
    answered = select(WorkDone.minutes).where(
        WorkDone.employee == person,
        WorkDone.day.between(period.first, period.last),
        WorkDone.minutes.is_not(None),
    )
    minutes = [took for took in await call.db.scalars(answered) if took is not None]
    found: list[pb.WorkCount] = []
    for measure in MEASURES:
        total, late = mine.get((person, measure), (0, 0))
        told = pb.WorkCount(
            measure=cast("Any", pb.Measure.Value(measure)), count=total, late=late, department_median=-1,
            median_minutes=round(median(minutes)) if minutes and measure == "LEADS_ANSWERED" else -1,
        )  # fmt: skip
        if len(names) >= SMALLEST_GROUP:
            told.department_median = int(median(theirs.get((name, measure), (0, 0))[0] for name in names))
        found.append(told)
    return found


async def _by_measure(
    people: Sequence[str], period: Span, call: Call
) -> dict[tuple[str, str], tuple[int, int]]:
    late = func.count().filter(WorkDone.late)
    found = select(WorkDone.employee, WorkDone.measure, func.count(), late).where(
        WorkDone.employee.in_(people), WorkDone.day.between(period.first, period.last)
    )
    rows = await call.db.execute(found.group_by(WorkDone.employee, WorkDone.measure))
    return {(employee, measure): (total, after) for employee, measure, total, after in rows}


async def facts(
    person: str, first: date, last: date, request: pb.ListWorkFactsRequest, call: Call
) -> pb.ListWorkFactsResponse:
    """The records behind the figures, page by page."""
    measure = pb.Measure.Name(request.measure) if request.measure else ""
    rows = select(WorkDone).where(WorkDone.employee == person, WorkDone.day.between(first, last))
    if measure:
        rows = rows.where(WorkDone.measure == measure)
    caller, secret = call.caller, call.running.settings.secret
    order = WorkDone.day, WorkDone.source, WorkDone.measure, WorkDone.part
    digest = f"{person} {first} {last} {measure}"
    if request.page_token:
        day, *key = open_token(request.page_token, digest, caller, secret)
        rows = rows.where(tuple_(*order) > tuple_(date.fromisoformat(day), *key))
    size = min(max(request.page_size, 0) or MOST, MOST)
    found = list(await call.db.scalars(rows.order_by(*order).limit(size + 1)))
    shown = found[:size]
    end = shown[-1] if len(found) > size else None
    return pb.ListWorkFactsResponse(
        facts=[
            pb.WorkFact(
                source=row.source, measure=cast("Any", pb.Measure.Value(row.measure)), day=row.day.isoformat(),
                late=row.late,
            )
            for row in shown
        ],
        next_page_token=seal_token([end.day.isoformat(), end.source, end.measure, end.part], digest, caller, secret)
        if end else "",
    )  # fmt: skip
