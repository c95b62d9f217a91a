"""Rules of use at work: what was found stands once for each person and period, and climbs while it is open."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.call import Call
from crmkit.company import beneath
from crmkit.errors import Problem
from crmkit.listing import ZONE
from crmkit.runs import Kind, Run
from sqlalchemy import select

from workspace.judging import Judgement, Person, certificates, judge
from workspace.model.calendar import zones_of
from workspace.model.employee import Employee
from workspace.model.usage import UsageFinding, UsageRule
from workspace.model.usage_facts import UsageDay
from workspace.recurrence import wall_clock
from workspace.telling import Manner, notify

RUN = "RunUsageRule"
CHUNK = 100
DAY = timedelta(days=1)


async def start_due(as_of: datetime, call: Call) -> None:
    """Has every rule in force look at the days since it looked last, yesterday being the last of them."""
    yesterday = as_of.astimezone(ZONE).date() - DAY
    active = select(UsageRule).where(UsageRule.state == "ACTIVE", UsageRule.covered_date < yesterday)
    for rule in list(await call.db.scalars(active.with_for_update(skip_locked=True))):
        assert rule.covered_date is not None
        spec = {"first": (rule.covered_date + DAY).isoformat(), "last": yesterday.isoformat()}
        await runs.start(call, RUN, rule.name, spec, "system/workspace")
        rule.covered_date = yesterday


async def work(run: Run) -> None:
    """Looks at one part of the people after the other."""
    first, last = date.fromisoformat(run.spec["first"]), date.fromisoformat(run.spec["last"])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            rule = await call.named(UsageRule, run.about)
            page = await _page(str(run.tally.get("after", "")), call)
            if rule is not None and rule.state == "ACTIVE":
                for lag, people in (await _by_lag(concerned(rule, page, call), last, call)).items():
                    for found in await judge(rule, people, first - lag, last - lag, call):
                        run.count(found=await _open(rule, found, people, call))
            if len(page) < CHUNK:
                run.next_phase("ENDED")
            else:
                run.tally["after"] = str(page[-1].id)


async def give_up(run: Run, problem: Problem, call: Call) -> None:
    """The days stay unlooked at; the run says why."""


RUNS = {RUN: Kind(work, give_up)}


async def everybody(rule: UsageRule, call: Call) -> list[Person]:
    """All people that the rule is for."""
    people = list(await call.db.scalars(_staff()))
    return concerned(rule, people, call)


def concerned(rule: UsageRule, people: Iterable[Employee], call: Call) -> list[Person]:
    """Those of the people whom the rule speaks of."""
    return [
        Person(person.name, person.department, person.create_time.astimezone(ZONE).date())
        for person in people
        if (not rule.roles or set(rule.roles) & set(person.roles))
        and (not rule.positions or person.position in rule.positions)
        and (not rule.departments or beneath(person.department, rule.departments, call))
    ]


async def climb(as_of: datetime, call: Call) -> None:
    """Takes the steps of open findings whose day has come, each once, while their rule is in force.

    A silence that has ended is closed.
    """
    waiting = select(UsageFinding, UsageRule).join(
        UsageRule, UsageRule.sql_name() == UsageFinding.rule
    ).where(UsageFinding.state.in_(["OPEN", "EXPLAINED"]))  # fmt: skip
    today = as_of.astimezone(ZONE).date()
    for finding, rule in list(
        await call.db.execute(waiting.with_for_update(of=UsageFinding, skip_locked=True))
    ):
        if rule.kind == "SILENCE" and await _back(finding, call):
            finding.end("已恢复登录", call)
            continue
        if rule.state != "ACTIVE":
            # What was found stays with those who decide it; nothing more follows from a rule that is no rule any more.
            continue
        age = (today - finding.create_time.astimezone(ZONE).date()).days
        for step in sorted(rule.steps, key=lambda step: step.after_days)[finding.rung :]:
            if step.after_days > age:
                break
            finding.rung += 1
            if step.propose:
                finding.outcome, finding.amount = rule.outcome, rule.amount
            key, title = f"usage:{finding.name}:{finding.rung}", finding.display_name
            told = _recipient(step.to, finding, rule, call)
            zh, en = f"未处理：{title}", f"Still open: {title}"
            await notify(call, [told], "usage", key, finding.name, zh, en, manner=_manner(step.channel))


async def remind_of_reviews(as_of: datetime, call: Call) -> None:
    """Who looks after a rule is reminded each month once it should have been looked at again."""
    today = as_of.astimezone(ZONE).date()
    past = select(UsageRule).where(UsageRule.state == "ACTIVE", UsageRule.review_date < today)
    for rule in list(await call.db.scalars(past)):
        zh, en = (
            f"使用规范待复审：{rule.display_name}",
            f"A rule of use is to be reviewed: {rule.display_name}",
        )
        await notify(call, [rule.owner], "usage", f"review:{rule.name}:{today:%Y-%m}", rule.name, zh, en)


async def warn_of_certificates(as_of: datetime, call: Call) -> None:
    """Whose certificate ends within the rule's days is told, once for each end."""
    today = as_of.astimezone(ZONE).date()
    active = select(UsageRule).where(UsageRule.state == "ACTIVE", UsageRule.kind == "CERTIFICATE")
    for rule in list(await call.db.scalars(active)):
        for person, item, until in await certificates(rule.certificates, await everybody(rule, call), call):
            if until is None or not today <= until <= today + timedelta(days=rule.threshold):
                continue
            zh, en = f"证书“{item}”将于 {until} 到期", f"Your certificate {item} ends on {until}"
            await notify(
                call, [person.name], "usage", f"certificate:{person.name}:{item}:{until}", person.name, zh, en
            )


async def _open(rule: UsageRule, found: Judgement, people: Sequence[Person], call: Call) -> int:
    """Keeps what was found, and tells the person; what is known is not found again."""
    known = await call.find(
        UsageFinding, UsageFinding.rule == rule.name, UsageFinding.owner == found.employee,
        UsageFinding.start_date == found.first,
    )  # fmt: skip
    if known is not None:
        return 0
    department = next(person.department for person in people if person.name == found.employee)
    at_once = rule.proposes_at_once()
    days = found.first.isoformat() if found.first == found.last else f"{found.first}～{found.last}"
    row = await call.add(
        UsageFinding(
            rule=rule.name, display_name=f"{rule.display_name} {days}"[:300], start_date=found.first,
            end_date=found.last, evidence=found.evidence, owner=found.employee, department=department,
            creator="system/workspace", outcome=rule.outcome if at_once else "NOTE",
            amount=rule.amount if at_once else None,
        )
    )  # fmt: skip
    await call.flush()
    call.emit(events.UsageFindingOpened, usage_finding=row)
    zh, en = f"使用规范：{row.display_name}", f"Rule of use: {row.display_name}"
    await notify(call, [row.owner], "usage", f"usage:{row.name}", row.name, zh, en)
    return 1


async def _page(after: str, call: Call) -> list[Employee]:
    rows = _staff().order_by(Employee.id).limit(CHUNK)
    return list(await call.db.scalars(rows.where(Employee.id > after) if after else rows))


def _staff() -> Any:
    return select(Employee).where(Employee.state == "ACTIVE", Employee.kind == "STAFF")


async def _by_lag(people: Sequence[Person], last: date, call: Call) -> dict[timedelta, list[Person]]:
    """People by how far their own calendar is behind: a day that is not over is not looked at."""
    zones = await zones_of([person.name for person in people], call)
    found: dict[timedelta, list[Person]] = {}
    for person in people:
        today = wall_clock(call.now, zones[person.name]).date()
        found.setdefault(max(last - (today - DAY), timedelta()), []).append(person)
    return found


async def _back(finding: UsageFinding, call: Call) -> bool:
    later = select(UsageDay.day).where(UsageDay.employee == finding.owner, UsageDay.day >= finding.start_date)
    return await call.db.scalar(later.limit(1)) is not None


def _manner(channel: int) -> Manner:
    """How a step of a rule is told."""
    if channel == pb.UsageRule.CHANNEL_UNSPECIFIED:
        return Manner()
    way = pb.UsageRule.Channel.Name(channel)
    return Manner(channels=[] if way == "IN_APP" else [way])


def _recipient(to: int, finding: UsageFinding, rule: UsageRule, call: Call) -> str:
    if to == pb.UsageRule.RULE_OWNER:
        return rule.owner
    if to != pb.UsageRule.SUPERIOR:
        return finding.owner
    entry = call.entry(finding.owner)
    return str(entry.get("superior") or "")
