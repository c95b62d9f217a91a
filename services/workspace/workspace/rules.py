"""Notification rules at work: facts and changes set them off at once, days and silence at their time of day."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.events import Fact
from crmkit.runs import Kind, Run
from crmkit.withholding import without
from sqlalchemy import ColumnElement, DateTime, func, select
from sqlalchemy import cast as cast_sql

from workspace import recurrence
from workspace.model import known_record
from workspace.model.known_record import KnownRecord
from workspace.model.notification_rule import OWN_WORK, NotificationRule, heard, id_of
from workspace.model.task import Task
from workspace.telling import Manner, alike, notify, reader_of

RUN = "RunNotificationRule"
KIND = "rule"
CHUNK = 100
LATE = timedelta(hours=24)
MISSED = ("错过的提醒：{count} 条", "Missed reminders: {count}")


async def on_facts(events: list[Fact], call: Call) -> None:
    """Fires the rules that these facts set off, each once for a fact."""
    changes = [event for event in events if event.subject.endswith(".ResourceChanged")]
    collections = {str(event.payload["name"]).partition("/")[0] for event in changes} - OWN_WORK
    rules = await heard(sorted({event.subject for event in events}), sorted(collections), call)
    for rule in rules:
        for event in events:
            if rule.activate_time is not None and event.time >= rule.activate_time:
                record = (
                    _begun(rule, event, call) if rule.trigger == "CONDITION" else _told(rule, event, call)
                )
                if record is not None:
                    await fire(rule, record, f"{rule.name}:{event.id}", call)


def _told(rule: NotificationRule, event: Fact, call: Call) -> Mapping[str, Any] | None:
    """The record of the rule's collection that the fact carries, if it meets the condition."""
    if event.subject != rule.fact:
        return None
    for value in event.payload.values():
        record = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if str(record.get("name", "")).startswith(f"{rule.collection}/"):
            return record if rule.matches(record, call) else None
    return None


def _begun(rule: NotificationRule, event: Fact, call: Call) -> Mapping[str, Any] | None:
    """The record, where this change made it meet the condition."""
    if not event.subject.endswith(".ResourceChanged"):
        return None
    payload, name = event.payload, str(event.payload["name"])
    record: dict[str, Any] = {**(payload.get("resource") or {}), "name": name}
    if name.partition("/")[0] != rule.collection or payload["action"] == "DELETED":
        return None
    if str(record.get("source", "")).startswith("notificationRules/") or not rule.matches(record, call):
        return None
    if payload["action"] == "UPDATED":
        before = {**record, **dict.fromkeys(payload.get("after") or {}), **(payload.get("before") or {})}
        if rule.matches(before, call):
            return None
    return record


async def fire(
    rule: NotificationRule,
    record: Mapping[str, Any],
    key: str,
    call: Call,
    days: int = 0,
    due: datetime | None = None,
    gathers: tuple[str, str] | None = None,
    group: str | None = None,
) -> None:
    """Does what the rule says about a record, once for each person and key."""
    people = [name for name in await rule.people(record, call) if _sees(name, record, call)]
    if "NOTIFY" in rule.actions:
        manner = Manner(
            importance=rule.importance, channels=[way for way in rule.channels if way != "IN_APP"], due=due,
            in_app="IN_APP" in rule.channels, group=group or f"{rule.name}:{record['name']}", gathers=gathers,
            quiet=(rule.quiet_from, rule.quiet_to), digest=rule.digest or gathers is not None, record=record,
        )  # fmt: skip
        for readers, reader in alike(people, call):
            shown = without(record, str(record["name"]), reader)
            zh, en = (
                rule.filled(rule.title_zh, shown, days, False),
                rule.filled(rule.title_en, shown, days, True),
            )
            body = rule.filled(rule.body_zh, shown, days, False)
            await notify(call, readers, KIND, key, str(record["name"]), zh, en, body, manner)
    if "CREATE_TASK" in rule.actions:
        for person in people:
            await _make_task(rule, record, f"{key}#{person}", person, days, call)


async def _make_task(
    rule: NotificationRule, record: Mapping[str, Any], source: str, person: str, days: int, call: Call
) -> None:
    if await call.find(Task, Task.source == source):
        return
    entry = call.entry(person)
    record = without(record, str(record["name"]), reader_of(call, person))
    await call.add(
        Task(
            display_name=rule.filled(rule.title_zh, record, days, False)[:200], owner=person, creator=rule.owner,
            department=entry.get("department", ""), links=[str(record["name"])], source=source,
            description=rule.filled(rule.body_zh, record, days, False)[:5000],
        )
    )  # fmt: skip


def _sees(person: str, record: Mapping[str, Any], call: Call) -> bool:
    return known_record.may_see_as(person, known_record.scope_of(record), call)


async def start_due(as_of: datetime, call: Call) -> None:
    """Begins the rules whose time of day has come since they were looked at; what was missed is looked at once."""
    timed = select(NotificationRule).where(
        NotificationRule.state == "ACTIVE", NotificationRule.trigger.in_(["DATE", "SILENCE", "SCHEDULE"])
    )
    for rule in list(await call.db.scalars(timed.with_for_update(skip_locked=True))):
        since = rule.covered_time or as_of
        moments = rule.moments(since, as_of)
        if not moments:
            continue
        # A list of what is so now, and what has long been silent, are told once for all that was missed.
        wanted = moments if rule.trigger == "DATE" else moments[-1:]
        for moment in wanted:
            await runs.start(
                call, RUN, rule.name, {"at": moment.isoformat(), "since": since.isoformat()}, requester="system/workspace"
            )  # fmt: skip
        rule.covered_time = moments[-1]


async def work(run: Run) -> None:
    """Looks at the records of a rule for one moment, page by page."""
    at, since = datetime.fromisoformat(run.spec["at"]), datetime.fromisoformat(run.spec["since"])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            rule = await call.find(NotificationRule, NotificationRule.id == id_of(run.about))
            if rule is None or rule.state != "ACTIVE":
                run.next_phase("ENDED")
                return
            rows = list(
                await call.db.scalars(_page(rule, at, since, str(run.tally.get("after", ""))).limit(CHUNK))
            )
            late = call.now - at > LATE
            for row in rows:
                record = {**row.record, "name": row.name}
                if rule.matches(record, call):
                    await _fire_timed(rule, row, record, at, late, call)
            run.position += len(rows)
            if len(rows) < CHUNK:
                run.next_phase("ENDED")
            else:
                run.tally["after"] = rows[-1].name


async def _fire_timed(
    rule: NotificationRule, row: KnownRecord, record: Mapping[str, Any], at: datetime, late: bool, call: Call
) -> None:
    today = recurrence.wall_clock(at, rule.time_zone).date()
    if rule.trigger == "SCHEDULE":
        key = f"{rule.name}:{row.name}:{today}"
        title = (f"{rule.display_name}：{{count}} 条", f"{rule.display_name}: {{count}}")
        await fire(rule, record, key, call, due=at, gathers=title, group=f"{rule.name}:{today}")
        return
    if rule.trigger == "SILENCE":
        key = f"{rule.name}:{row.name}:{row.touch_time.isoformat()}"
        await fire(rule, record, key, call, (call.now - row.touch_time).days, at)
        return
    told = str(row.dates.get(rule.date_key, ""))
    day = (
        date.fromisoformat(told)
        if len(told) == 10
        else recurrence.wall_clock(datetime.fromisoformat(told), rule.time_zone).date()
    )
    days = 0 if rule.yearly else abs((day - today).days)
    key = f"{rule.name}:{row.name}:{today}:{told}"
    missed = (MISSED, f"missed:{call.now:%Y-%m-%dT%H}") if late else (None, None)
    await fire(rule, record, key, call, days, at, gathers=missed[0], group=missed[1])


def _page(rule: NotificationRule, at: datetime, since: datetime, after: str) -> Any:
    rows = select(KnownRecord).where(
        KnownRecord.name > max(after, f"{rule.collection}/"),
        KnownRecord.name < f"{rule.collection}0",
        ~KnownRecord.deleted,
    )
    if rule.trigger == "SILENCE":
        silent = timedelta(days=rule.silent_days)
        rows = rows.where(KnownRecord.touch_time <= at - silent, KnownRecord.touch_time > _floor(since, rule))
    if rule.trigger == "DATE":
        rows = rows.where(_on_day(rule, recurrence.wall_clock(at, rule.time_zone).date()))
    return rows.order_by(KnownRecord.name)


def _floor(since: datetime, rule: NotificationRule) -> datetime:
    """Before when silence was told of already; a rule that is new speaks of all that is silent."""
    if rule.activate_time is not None and since <= rule.activate_time:
        return datetime(1970, 1, 1, tzinfo=UTC)
    return since - timedelta(days=rule.silent_days)


def _on_day(rule: NotificationRule, today: date) -> ColumnElement[bool]:
    told = KnownRecord.dates[rule.date_key].astext
    days = rule.days(today)
    field = next(f for f in rule.about.fields.values() if f.json_name == rule.date_key)
    if field.kind == "time":
        moment = func.timezone(rule.time_zone, cast_sql(told, DateTime(timezone=True)))
        told = func.to_char(moment, "YYYY-MM-DD")
    return (func.substr(told, 6, 5) if rule.yearly else told).in_(days)


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """Nothing more to tell: what was told stays told."""


async def upcoming(person: str, days: int, call: Call) -> list[tuple[datetime, str, str, str]]:
    """Of what days of records the person is going to be told: when, what, which record, which rule."""
    entry = call.entry(person)
    english = entry.get("locale") == "en"
    found: list[tuple[datetime, str, str, str]] = []
    dated = select(NotificationRule).where(
        NotificationRule.state == "ACTIVE", NotificationRule.trigger == "DATE"
    )
    for rule in list(await call.db.scalars(dated.limit(100))):
        for at in rule.moments(call.now, call.now + timedelta(days=days)):
            for row in list(await call.db.scalars(_page(rule, at, at, "").limit(CHUNK))):
                record = {**row.record, "name": row.name}
                if not rule.matches(record, call) or person not in await rule.people(record, call):
                    continue
                if _sees(person, record, call):
                    sentence = rule.title_en if english else rule.title_zh
                    ahead, shown = abs(rule.offset_days), without(record, row.name, call.caller)
                    found.append((at, rule.filled(sentence, shown, ahead, english), row.name, rule.name))
    return found


RUNS = {RUN: Kind(work, fail)}
