"""Care as days go by: occurrences are made ahead, begin in time, and are missed once."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from crmkit.call import Call
from crmkit.company import today
from crmkit.events import Fact, listens
from crmkit.notices import raise_notice
from crmkit.schedule import cron
from sqlalchemy import select

from customer.days import days_between
from customer.model.account import Account
from customer.model.care import CareOccurrence, CarePlan
from customer.model.consent import Consent
from customer.model.contact import Contact
from customer.model.figure import Figure

AHEAD = timedelta(days=60)
PATIENCE = timedelta(days=7)
PAGE = 500


@cron("0 1 * * *", collapse=True)
async def care_of_the_day(as_of: datetime, call: Call) -> None:
    """Makes the occurrences of the next sixty days, begins those of today, and ends what nobody did."""
    await make_occurrences(call)
    await begin_occurrences(call)
    await miss_occurrences(call)


async def make_occurrences(call: Call) -> None:
    """One occurrence for each plan, person and day, however often this runs. Missed days are made up."""
    for plan in (await call.db.scalars(select(CarePlan).where(CarePlan.state == "ACTIVE"))).all():
        model, last = plan.model(), UUID(int=0)
        while True:
            statement = (
                select(model).where(plan.condition(call), model.id > last).order_by(model.id).limit(PAGE)
            )
            people: Sequence[Any] = (await call.db.scalars(statement)).all()
            if not people:
                break
            await _make(plan, people, call)
            last = people[-1].id


async def begin_occurrences(call: Call) -> None:
    """Asks for the message or call of every occurrence whose time has come, once."""
    day = today(call)
    statement = (
        select(CareOccurrence, CarePlan)
        .join(CarePlan, CareOccurrence.plan == CarePlan.sql_name())
        .where(
            CareOccurrence.state == "DUE",
            CareOccurrence.told_time.is_(None),
            CareOccurrence.begin_date <= day,
            CareOccurrence.due_date > day - PATIENCE,
            CarePlan.state == "ACTIVE",
        )
        .order_by(CareOccurrence.due_date, CareOccurrence.id)
        .with_for_update(of=CareOccurrence, skip_locked=True)
    )
    for row in (await call.db.execute(statement)).all():
        occurrence, plan = row[0], row[1]
        subject = occurrence.contact or occurrence.account
        occurrence.begin(plan, await _allowed(subject, plan.channel, call), call)


async def miss_occurrences(call: Call) -> None:
    """What nobody did within seven days is missed, and its plan's owner is told once."""
    over = today(call) - PATIENCE
    statement = select(CareOccurrence).where(CareOccurrence.state == "DUE", CareOccurrence.due_date <= over)
    for occurrence in await call.db.scalars(statement.with_for_update(skip_locked=True)):
        occurrence.state = "MISSED"
        plan = await call.named(CarePlan, occurrence.plan)
        entry = call.entry(occurrence.owner)
        raise_notice(
            "care", f"关怀“{occurrence.display_name}”已逾期 7 天",
            f"{occurrence.display_name} was not done within 7 days", call, key=f"care:{occurrence.id}",
            employees=[occurrence.owner, plan.owner if plan else "", str(entry.get("superior") or "")],
            subjects=[occurrence.name, occurrence.account],
        )  # fmt: skip


async def change_cycles(account: Account, before: str, call: Call) -> None:
    """Another level has another cycle: what is still to come moves by the difference, never into the past."""
    coming = (
        select(CareOccurrence, CarePlan)
        .join(CarePlan, CareOccurrence.plan == CarePlan.sql_name())
        .where(
            CareOccurrence.account == account.name,
            CareOccurrence.state == "DUE",
            CareOccurrence.told_time.is_(None),
            CarePlan.trigger.in_(["CYCLE", "MAINTENANCE", "AFTER_EVENT"]),
        )
        .with_for_update(of=CareOccurrence)
    )
    async with call.everybody():
        for row in (await call.db.execute(coming)).all():
            occurrence, plan = row[0], row[1]
            shift = timedelta(days=plan.cycle_of(account.level) - plan.cycle_of(before))
            due = max(occurrence.due_date + shift, today(call))
            taken = select(CareOccurrence.id).where(
                CareOccurrence.plan == plan.name, CareOccurrence.account == account.name,
                CareOccurrence.contact == occurrence.contact, CareOccurrence.due_date == due,
            )  # fmt: skip
            if due != occurrence.due_date and await call.db.scalar(taken) is None:
                occurrence.due_date, occurrence.begin_date = due, due - timedelta(days=plan.lead_days)


@listens("crm.marketing.v1.SendStopped", "crm.marketing.v1.SendDelivered")
async def on_send_ended(event: Fact, call: Call) -> None:
    """A greeting that arrived is done; one that was stopped becomes a call."""
    cause = str(event.payload.get("cause") or (event.payload.get("send") or {}).get("cause") or "")
    if not cause.startswith("careOccurrences/"):
        return
    occurrence = await call.named(CareOccurrence, cause, lock=True)
    plan = occurrence and await call.named(CarePlan, occurrence.plan)
    if occurrence is None or plan is None:
        return
    if event.subject.endswith("SendStopped"):
        occurrence.call_instead(plan, str(event.payload.get("reason") or "STOPPED"), call)
    elif occurrence.state == "DUE":
        occurrence.state, occurrence.result = "DONE", "SENT"


async def _make(plan: CarePlan, people: Sequence[Any], call: Call) -> None:
    by_account = {person.name if isinstance(person, Account) else person.account: None for person in people}
    ids = [UUID(name.partition("/")[2]) for name in by_account if name]
    found = {a.name: a for a in await call.db.scalars(select(Account).where(Account.id.in_(ids)))}
    known = await _known(plan, people, call)
    bought = await _bought(list(found), call) if plan.trigger in ("ANNIVERSARY", "AFTER_EVENT") else {}
    for person in people:
        account = person if isinstance(person, Account) else found.get(person.account)
        if account is None:
            continue
        key = (account.name, person.name if isinstance(person, Contact) else "")
        for due, age in _days(
            plan, person, account, bought.get(account.name, []), known.get(key, set()), call
        ):
            if due in known.get(key, set()):
                continue
            occurrence = CareOccurrence(
                plan=plan.name, account=key[0], contact=key[1], due_date=due, age=age, state="DUE",
                begin_date=due - timedelta(days=plan.lead_days),
                display_name=f"{plan.display_name}：{person.display_name}"[:400],
                owner=account.owner or plan.owner, department=account.department or plan.department,
            )  # fmt: skip
            await call.add(occurrence)
    await call.flush()


async def _known(plan: CarePlan, people: Sequence[Any], call: Call) -> dict[tuple[str, str], set[date]]:
    """The days that these people have occurrences of the plan for."""
    column = CareOccurrence.contact if plan.audience == "CONTACTS" else CareOccurrence.account
    statement = select(CareOccurrence.account, CareOccurrence.contact, CareOccurrence.due_date).where(
        CareOccurrence.plan == plan.name, column.in_([person.name for person in people])
    )
    known: dict[tuple[str, str], set[date]] = {}
    for account, contact, due in await call.db.execute(statement):
        known.setdefault((account, contact), set()).add(due)
    return known


def _days(
    plan: CarePlan, person: Any, account: Account, bought: list[date], known: set[date], call: Call
) -> Iterator[tuple[date, int]]:
    """The days to care for a person, from the plan's beginning to sixty days ahead, with the age on a birthday."""
    day = today(call)
    first, last = max(plan.from_date or day, day - AHEAD), day + AHEAD
    march = plan.leap_day_in_march
    if plan.trigger in ("BIRTHDAY", "HOLIDAY"):
        birth = person.birth if plan.trigger == "BIRTHDAY" else plan.holiday
        if birth is None:
            return
        kind = "LUNAR" if birth.calendar == "LUNAR" else "SOLAR"
        for due, year in days_between(first, last, kind, birth.month, birth.day, birth.leap_month, march):
            yield due, year - birth.year if birth.year and plan.trigger == "BIRTHDAY" else 0
    elif plan.trigger == "ANNIVERSARY":
        if bought and (start := min(bought)):
            for due, year in days_between(first, last, "SOLAR", start.month, start.day, march=march):
                if year > start.year:
                    yield due, 0
    elif plan.trigger == "AFTER_EVENT":
        for start in sorted(set(bought)):
            due = start + timedelta(days=plan.cycle_of(account.level))
            if first <= due <= last:
                yield due, 0
    else:
        # From the last occasion, whether it was kept or not; at first from the last contact.
        since = max(known) if known else (account.last_interaction_time or account.create_time).date()
        due = max(since + timedelta(days=plan.cycle_of(account.level)), first)
        if due <= last and not any(one >= day for one in known):
            yield due, 0


async def _bought(accounts: list[str], call: Call) -> dict[str, list[date]]:
    """The days of completed orders."""
    statement = select(Figure.account, Figure.day).where(
        Figure.account.in_(accounts),
        Figure.collection == "orders",
        Figure.state == "COMPLETED",
        Figure.day.is_not(None),
    )
    found: dict[str, list[date]] = {}
    for account, day in await call.db.execute(statement):
        if day is not None:
            found.setdefault(account, []).append(day)
    return found


async def _allowed(subject: str, channel: str, call: Call) -> bool:
    """Whether the person's latest decision lets a service or marketing message go out now."""
    statement = (
        select(Consent.decision, Consent.expire_time)
        .where(
            Consent.subject == subject,
            Consent.channel == channel,
            Consent.purpose.in_(["SERVICE", "MARKETING"]),
        )
        .order_by(Consent.time.desc(), Consent.id.desc())
        .limit(1)
    )
    latest = (await call.db.execute(statement)).one_or_none()
    if latest is None or latest[0] != "GRANTED":
        return False
    until: datetime | None = latest[1]
    return until is None or until > call.now
