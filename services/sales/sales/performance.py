"""How people do: the figures of a month by the standard of their department, and what their records of work say."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, NotFound, Problem
from crmkit.filters import condition, parse
from crmkit.listing import ZONE, filter_fields
from crmkit.runs import Kind, Run, start
from crmkit.schedule import cron
from crmkit.standard import Standard
from crmkit.workdays import working_days
from sqlalchemy import exists, func, select

from sales.model.absence import absent_days
from sales.model.appraisal import Appraisal
from sales.model.appraisal_standard import AppraisalStandard, earned, standard_for, standards
from sales.model.gates import ACTIVITY, DealRecord
from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING
from sales.model.sales_task import OPEN as TASK_OPEN
from sales.model.sales_task import SalesTask
from sales.model.target import IN_MONEY, LIVE, Target, TargetFact
from sales.model.visit import Visit

DRAFT, AT_ONCE = "DraftAppraisals", 50
CAP = Decimal(120)
SHOWN, THIN, QUIET = 20, 10, timedelta(days=30)
_HUNDREDTH = Decimal("0.01")

log = logging.getLogger(__name__)
# What is counted from records, and not from achievements.
_OF_RECORDS = ("PIPELINE", "WIN_RATE", "TASKS_IN_TIME")
_WORDS = {
    "MISSED_VISITS": ("次拜访未签到", "visits nobody checked in at"),
    "ODD_CHECK_INS": ("次签到被标记异常", "check-ins were flagged"),
    "THIN_REPORTS": (f"份拜访结果不足 {THIN} 字", f"visit reports have fewer than {THIN} characters"),
    "TASKS_LATE": ("项任务逾期", "tasks were late"),
    "TASKS_RETURNED": ("项任务被退回", "tasks came back from the supervisor"),
    "DEALS_WITHOUT_FOLLOW_UP": ("个商机 30 天没有跟进", "open deals had no follow-up for 30 days"),
    "DEALS_SLIPPED": ("个商机已过预计成交日", "open deals are past their expected date"),
    "DEALS_LOST": ("个商机输单", "deals were lost"),
}


class AppraisalMethods:
    """Standards, sheets and the present state of somebody's month."""

    appraisal_standards = Standard(AppraisalStandard)
    appraisals = Standard(Appraisal)

    async def AppealAppraisal(self, request: pb.AppraisalWordsRequest, call: Call) -> Appraisal:
        sheet = await call.load(Appraisal, request)
        sheet.object(request.text, call)
        return sheet

    async def ReckonAppraisal(self, request: Any, call: Call) -> Appraisal:
        sheet = await call.load(Appraisal, request)
        sheet.check_state("DRAFT")
        standard = await call.named(AppraisalStandard, sheet.standard)
        if standard is None:
            raise NotFound()
        await reckon(sheet, standard, Peers(standard, await standards(call), call), call)
        return sheet

    async def GetPerformance(self, request: pb.GetPerformanceRequest, call: Call) -> Any:
        """Of oneself, or of whom one's role reaches; others are not there."""
        employee = request.employee or call.caller.employee
        month = request.month or f"{today(call):%Y-%m}"
        sheet = _sheet(employee, month, call)
        if employee != call.caller.employee and not call.caller.is_system and not _reached(sheet, call):
            raise NotFound()
        known = await standards(call)
        standard = standard_for(sheet.department, known, call)
        if standard is None:
            raise FailedPrecondition("NO_STANDARD")
        await reckon(sheet, standard, Peers(standard, known, call), call)
        return call.shown(sheet, call.caller)

    async def GetAppraisalRank(
        self, request: pb.GetAppraisalRankRequest, call: Call
    ) -> pb.GetAppraisalRankResponse:
        return await (await call.load(Appraisal, request.name, lock=False)).rank(call)


async def draft_sheets(run: Run) -> None:
    """A draft for everybody whom a standard is for, once for each month."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            month, known, peers = run.spec["month"], await standards(call), dict[str, Peers]()
            people = call.running.config.prefix("employee.")
            page = sorted(f"employees/{key}" for key in people if key > run.tally.get("last", ""))[:AT_ONCE]
            mine = Appraisal.month == month, Appraisal.employee.in_(page)
            there = set(await call.db.scalars(select(Appraisal.employee).where(*mine)))
            for employee in page:
                entry = people[employee.partition("/")[2]]
                standard = standard_for(entry.get("department") or "", known, call)
                if standard is not None and not entry.get("disabled") and employee not in there:
                    sheet = _sheet(employee, month, call)
                    others = peers.setdefault(standard.name, Peers(standard, known, call))
                    await reckon(sheet, standard, others, call)
                    await call.add(sheet)
            if page:
                run.position, run.tally["last"] = run.position + 1, page[-1].partition("/")[2]
            else:
                run.next_phase("ENDED")


async def _failed(run: Run, problem: Problem, call: Call) -> None:
    log.error("appraisals were not drafted to the end", extra={"run": str(run.id), "reason": problem.reason})


RUNS = {DRAFT: Kind(draft_sheets, _failed)}


@cron("0 5 1 * *", zone="Asia/Shanghai", collapse=True)
async def draft_appraisals(as_of: datetime, call: Call) -> None:
    """Makes the sheets of the month before."""
    month = f"{as_of.astimezone(ZONE).date() - timedelta(days=1):%Y-%m}"
    await start(call, DRAFT, f"appraisals/{month}", {"month": month})


def _sheet(employee: str, month: str, call: Call) -> Appraisal:
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise NotFound() from None
    entry = call.entry(employee)
    if not entry:
        raise NotFound()
    return Appraisal(
        employee=employee, month=f"{first:%Y-%m}", state="DRAFT", owner=employee, creator=call.caller.actor,
        department=entry.get("department") or "",
    )  # fmt: skip


def _reached(sheet: Appraisal, call: Call) -> bool:
    reach = call.caller.reach("appraisals")
    behind = reach.wall is not None and sheet.department not in reach.wall
    return reach.everything or (
        not behind and (sheet.department in reach.departments or sheet.employee in reach.owners)
    )


async def reckon(sheet: Appraisal, standard: AppraisalStandard, peers: Peers, call: Call) -> None:
    """Everything that a sheet tells, from the facts of now."""
    month = Month(sheet, standard, peers, call)
    async with call.everybody():
        await month.fill()


class Peers:
    """Everybody whom a standard is for; those with a narrower one of their own are not among them."""

    def __init__(self, standard: AppraisalStandard, known: dict[str, AppraisalStandard], call: Call) -> None:
        self._standard, self._call, self._middles = standard, call, dict[tuple[str, date], Decimal]()
        # A sheet may be reckoned by one that is no longer in force.
        known = {**known, standard.for_department: standard}
        self._names = [
            f"employees/{key}"
            for key, entry in call.running.config.prefix("employee.").items()
            if not entry.get("disabled")
            and standard_for(entry.get("department") or "", known, call) is standard
        ]

    async def middle(self, metric: str, first: date, last: date) -> Decimal:
        """The median of what each of them did."""
        if (metric, first) not in self._middles:
            asked = _in_month(metric, first, last, self._standard.currency)
            mine = asked.where(TargetFact.employee.in_(self._names))
            found = {row.employee: row.value for row in await self._call.db.execute(mine)}
            values = [found.get(name, Decimal(0)) for name in self._names]
            self._middles[metric, first] = Decimal(median(values)) if values else Decimal(0)
        return self._middles[metric, first]


def _in_month(metric: str, first: date, last: date, currency: str) -> Any:
    asked = select(TargetFact.employee, func.sum(TargetFact.value).label("value")).where(
        TargetFact.metric == metric, TargetFact.day >= first, TargetFact.day <= last
    )
    if metric in IN_MONEY:
        asked = asked.where(TargetFact.currency == currency)
    return asked.group_by(TargetFact.employee)


class Month:
    """The month of one person while it is reckoned."""

    def __init__(self, sheet: Appraisal, standard: AppraisalStandard, peers: Peers, call: Call) -> None:
        self._sheet, self._standard, self._peers, self._call = sheet, standard, peers, call
        self._first = date.fromisoformat(f"{sheet.month}-01")
        self._last = (self._first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        self._before = (self._first - timedelta(days=1)).replace(day=1)

    async def fill(self) -> None:
        """Items, points, efficiency, findings and what is to be had for it."""
        sheet = self._sheet
        sheet.standard, sheet.currency, sheet.reckon_time = (
            self._standard.name, self._standard.currency, self._call.now
        )  # fmt: skip
        sheet.items = [await self._item(one) for one in self._standard.items]
        points = sum((Decimal(item.points) for item in sheet.items), Decimal(0))
        sheet.efficiency = await self._efficiency()
        sheet.findings = await self._findings()
        sheet.points, sheet.incentive = points, earned(self._standard, points)

    async def _item(self, rule: Any) -> pb.Appraisal.Item:
        metric = pb.AppraisalStandard.Metric.Name(rule.metric)
        item = pb.Appraisal.Item(metric=rule.metric, weight=rule.weight)
        if metric in _OF_RECORDS:
            actual, evidence = await self._of_records(metric)
            item.evidence.extend(evidence)
        else:
            item.facts_filter = self._facts(metric)
            actual = await self._sum(metric)
            item.before = plain(await self._sum_before(metric))
            item.middle = plain(await self._peers.middle(metric, self._first, self._last))
        item.actual = plain(actual)
        target = Decimal(rule.target) if rule.target else await self._own_target(metric)
        weight, cap = Decimal(rule.weight), Decimal(rule.cap_percent) if rule.cap_percent else CAP
        if not target:
            item.points, item.formula = "0", "未设定目标：0 分 / no target: 0 points"
            return item
        item.target = plain(target)
        percent = min(max(actual * HUNDRED / target, Decimal(0)), cap)
        item.points = plain((weight * percent / HUNDRED).quantize(_HUNDREDTH, ROUND_HALF_UP))
        item.formula = f"{plain(weight)} × min({item.actual} ÷ {item.target}, {plain(cap)}%) = {item.points}"
        return item

    def _facts(self, metric: str) -> str:
        """The facts that count, as a filter of achievements that anybody can put to the list."""
        return " AND ".join([
            f"metric = {metric}", f'employee = "{self._sheet.employee}"', f'day >= "{self._first}"', f'day <= "{self._last}"',
            *([f'currency = "{self._standard.currency}"'] if metric in IN_MONEY else []),
            f'create_time <= "{self._call.now.isoformat()}"',
        ])  # fmt: skip

    async def _sum(self, metric: str) -> Decimal:
        """The sum of exactly what the filter lists."""
        counted = condition(
            parse(self._facts(metric)), filter_fields(TargetFact), me="", now=self._call.now, zone=ZONE
        )
        return await self._call.db.scalar(select(func.sum(TargetFact.value)).where(counted)) or Decimal(0)

    async def _sum_before(self, metric: str) -> Decimal:
        last = self._first - timedelta(days=1)
        asked = _in_month(metric, self._before, last, self._standard.currency)
        mine = asked.where(TargetFact.employee == self._sheet.employee)
        found = (await self._call.db.execute(mine)).one_or_none()
        return found.value if found else Decimal(0)

    async def _own_target(self, metric: str) -> Decimal | None:
        """What the person was given for the month."""
        found = await self._call.find(
            Target, Target.subject == self._sheet.employee, Target.metric == metric, Target.period == "MONTH",
            Target.from_date == self._first, Target.state.in_(LIVE), Target.product_line == "", Target.region == "",
            Target.currency == (self._standard.currency if metric in IN_MONEY else ""),
        )  # fmt: skip
        return found.base if found else None

    async def _of_records(self, metric: str) -> tuple[Decimal, list[Any]]:
        if metric == "PIPELINE":
            deals = await self._deals(Opportunity.state.in_(RUNNING))
            counted = [
                (deal.name, deal.weighted_amount.amount)
                for deal in deals
                if deal.weighted_amount is not None
                and deal.weighted_amount.currency == self._standard.currency
            ]
            return sum((value for _, value in counted), Decimal(0)), _evidence(counted)
        if metric == "WIN_RATE":
            closed = await self._deals(*self._during(Opportunity.close_time))
            return _share([(deal.name, deal.state == "WON") for deal in closed])
        tasks = await self._tasks()
        return _share([(task.name, _in_time(task)) for task in tasks])

    async def _efficiency(self) -> pb.Appraisal.Efficiency:
        """The result for a working day; days on leave do not count."""
        metric = self._standard.result_metric
        result = await self._sum(metric) if metric not in _OF_RECORDS else (await self._of_records(metric))[0]
        until = min(self._last, today(self._call))
        days = Decimal(working_days(self._first, until))
        away = await absent_days(self._sheet.employee, self._first, until, self._call)
        told = pb.Appraisal.Efficiency(
            metric=metric, result=plain(result), working_days=plain(days),
            absence_days=plain(away),
        )  # fmt: skip
        if days > away:
            told.per_day = plain((result / (days - away)).quantize(_HUNDREDTH, ROUND_HALF_UP))
            told.formula = f"{told.result} ÷ ({told.working_days} − {told.absence_days}) = {told.per_day}"
        return told

    async def _findings(self) -> list[Any]:
        """What the person's own records of work say."""
        found = {**await self._of_visits(), **await self._of_tasks(), **await self._of_deals()}
        told = list[Any]()
        for kind, rows in found.items():
            zh, en = _WORDS[kind]
            why = _reasons(rows) if kind == "DEALS_LOST" else ""
            if rows:
                told.append(
                    pb.Appraisal.Finding(
                        kind=kind, count=len(rows), text=f"{len(rows)} {zh}{why}", text_en=f"{len(rows)} {en}{why}",
                        records=[row.name for row in rows[:SHOWN]],
                    )
                )  # fmt: skip
        return told

    async def _of_visits(self) -> dict[str, list[Any]]:
        mine = select(Visit).where(Visit.owner == self._sheet.employee, *self._during(Visit.planned_time))
        visits = list(await self._call.db.scalars(mine.order_by(Visit.planned_time)))
        done = [visit for visit in visits if visit.state == "COMPLETED"]
        return {
            "MISSED_VISITS": [visit for visit in visits if visit.state == "MISSED"],
            "ODD_CHECK_INS": [visit for visit in visits if visit.check_in and visit.check_in.flags],
            "THIN_REPORTS": [visit for visit in done if len(visit.result) < THIN],
        }

    async def _of_tasks(self) -> dict[str, list[Any]]:
        tasks = await self._tasks()
        return {
            "TASKS_LATE": [task for task in tasks if not _in_time(task)],
            "TASKS_RETURNED": [task for task in tasks if any(one.kind == "RETURN" for one in task.reports)],
        }

    async def _of_deals(self) -> dict[str, list[Any]]:
        until = min(self._last, today(self._call))
        since = datetime.combine(until, time.max, ZONE) - QUIET
        heard = exists().where(
            DealRecord.deal == Opportunity.id, DealRecord.kind == ACTIVITY, DealRecord.time > since
        )
        running = Opportunity.state.in_(RUNNING)
        return {
            "DEALS_WITHOUT_FOLLOW_UP": await self._deals(running, Opportunity.create_time <= since, ~heard),
            "DEALS_SLIPPED": await self._deals(running, Opportunity.expected_close_date < until),
            "DEALS_LOST": await self._deals(
                Opportunity.state == "LOST", *self._during(Opportunity.close_time)
            ),
        }

    async def _tasks(self) -> list[SalesTask]:
        """The tasks of the person that were due."""
        mine = SalesTask.executors.contains([self._sheet.employee])
        given = SalesTask.state.not_in(("DRAFT", "CANCELLED"))
        due = select(SalesTask).where(mine, given, *self._during(SalesTask.due_time))
        return list(await self._call.db.scalars(due.order_by(SalesTask.id)))

    async def _deals(self, *conditions: Any) -> list[Opportunity]:
        mine = select(Opportunity).where(Opportunity.owner == self._sheet.employee, *conditions)
        return list(await self._call.db.scalars(mine.order_by(Opportunity.id)))

    def _during(self, column: Any) -> tuple[Any, Any]:
        begins = datetime.combine(self._first, time.min, ZONE)
        ends = datetime.combine(self._last + timedelta(days=1), time.min, ZONE)
        return column >= begins, column < min(ends, self._call.now)


def _in_time(task: SalesTask) -> bool:
    """Whether a task was done before its time was over, by its reports."""
    if task.due_time is None:
        return True
    done = [one.time.ToDatetime(task.due_time.tzinfo) for one in task.reports if one.kind == "FINISH"]
    return bool(done) and min(done) <= task.due_time and task.state not in TASK_OPEN


def _share(rows: list[tuple[str, bool]]) -> tuple[Decimal, list[Any]]:
    """The good ones of all in percent, and each as 1 or 0."""
    counted = [(name, Decimal(bool(good))) for name, good in rows]
    good = sum((value for _, value in counted), Decimal(0))
    percent = (good * HUNDRED / len(counted)).quantize(_HUNDREDTH, ROUND_HALF_UP) if counted else Decimal(0)
    return percent, _evidence(counted)


def _evidence(rows: Iterable[tuple[str, Decimal]]) -> list[Any]:
    return [pb.Appraisal.Evidence(record=name, value=plain(value)) for name, value in rows]


def _reasons(lost: list[Opportunity]) -> str:
    counts = defaultdict[str, int](int)
    for deal in lost:
        counts[deal.loss_reason or "-"] += 1
    named = ", ".join(
        f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    )
    return f" ({named})" if named else ""
