"""Targets as plan, do, check and act, and the facts that they are measured by."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import uuid4

from crm.options.v1 import options_pb2
from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import check_currency, plain, split
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.company import today, with_beneath
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, NotFound, Validation, Violation, required
from crmkit.listing import ZONE
from crmkit.mapping import read_date, to_date, to_timestamp
from crmkit.options import option
from crmkit.resource import Resource
from crmkit.values import Money, places
from crmkit.workdays import working_days
from sales.model.base import HANDOVER, Base
from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING
from sales.model.sales_task import SalesTask
from sqlalchemy import ColumnElement, Index, func, or_, select
from sqlalchemy.orm import Mapped

IN_MONEY = ("COLLECTED", "SIGNED", "ORDERED", "MARGIN")
# What open deals may still bring.
_FORESEEN = ("SIGNED", "ORDERED")
LIVE = ("RUNNING", "CHECKED", "CLOSED")
REVIEW_DAYS = {"OWNER": 5, "SUPERIOR": 10}
_MONTHS = {"YEAR": 12, "QUARTER": 3, "MONTH": 1}
_MONTH_NAMES = (
    "", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_ONE_PLACE = Decimal("0.1")


class Target(Resource, Base):
    """What somebody should achieve in a period. In force its values change by a revision alone."""

    __message__ = pb.Target
    handed_over = False
    __table_args__ = (Index("targets_period_index", "metric", "from_date", "to_date"),)

    display_name: Mapped[str]
    subject: Mapped[str]
    period: Mapped[str]
    from_date: Mapped[date | None]
    to_date: Mapped[date | None]
    metric: Mapped[str]
    currency: Mapped[str]
    product_line: Mapped[str]
    region: Mapped[str]
    base: Mapped[Decimal | None]
    stretch: Mapped[Decimal | None]
    challenge: Mapped[Decimal | None]
    parent: Mapped[str]
    over_allocated: Mapped[bool]
    actions: Mapped[Any]
    actual: Mapped[Decimal | None]
    after_closing: Mapped[Decimal | None]
    revision: Mapped[int]
    versions: Mapped[Any]
    standings: Mapped[Any]
    reviews: Mapped[Any]
    light: Mapped[str]
    amber_percent: Mapped[Decimal | None]
    red_percent: Mapped[Decimal | None]
    review_step: Mapped[str]
    measure: Mapped[str]
    posts: Mapped[Any]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Settles the period and whose it is; what was not finished in the period before is carried over."""
        self._check()
        self.state, self.revision, self.actual = "DRAFT", 1, Decimal(0)
        self.from_date, self.to_date = span(self.period, self._first_day)
        await self._check_parent(call)
        if self.subject.startswith("employees/"):
            entry = call.entry(self.subject)
            self.owner, self.department = self.subject, entry.get("department") or self.department
        elif self.subject.startswith("departments/"):
            entry = call.entry(self.subject)
            self.owner, self.department = entry.get("manager") or self.owner, self.subject
        self.display_name = self.display_name or await self._title(call)
        self._name_actions()
        await self._carry_over(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A draft changes; in force only what is done for it."""
        free = HANDOVER | {"actions", "display_name", "amber_percent", "red_percent", "over_allocated"}
        if changed - HANDOVER:
            self.check_state("DRAFT", *(("RUNNING", "CHECKED") if changed <= free else ()))
        self._check()
        self._name_actions()
        if self.state != "DRAFT" and not self.actions:
            raise FailedPrecondition("TARGET_ACTION_MISSING")

    async def deleting(self, call: Call) -> None:
        """Only a draft goes."""
        self.check_state("DRAFT")

    async def approve(self, call: Call) -> None:
        """Puts it in force: its parts are the whole, it is a part of its own whole, and something is done for it."""
        self.check_state("DRAFT")
        if not self.actions:
            raise FailedPrecondition("TARGET_ACTION_MISSING")
        await call.one_at_a_time([self.parent or self.name, self.name])
        await self._check_sum(self, call)
        if whole := await self._whole(call):
            await self._check_sum(whole, call)
        self.state = "RUNNING"
        await self.recount(call)
        call.emit(events.TargetChanged, target=self)

    async def revise(
        self, reason: str, base: Decimal, stretch: Decimal | None, challenge: Decimal | None, call: Call
    ) -> None:
        """Sets other values from now on; those before stay to be seen."""
        self.check_state("RUNNING")
        self.versions = [
            *self.versions,
            pb.Target.Version(
                number=self.revision, base=plain(self.base), stretch=plain(self.stretch), challenge=plain(self.challenge),
                until_time=to_timestamp(call.now), reason=reason, actor=call.caller.actor,
            ),
        ]  # fmt: skip
        self.base, self.stretch, self.challenge = base, stretch, challenge
        self.revision += 1
        await self._share_posts(call)
        call.emit(events.TargetChanged, target=self)

    async def review(self, cause: str, text: str, actions: Sequence[Any], call: Call) -> None:
        """Says why it went as it went. After the period it is checked by that; far behind, something is done about it."""
        self.check_state("RUNNING", "CHECKED")
        standing = await self.standing(min(today(call), self._last_day), call)
        red = standing.light == pb.Target.RED
        if red and not any(action.expected_effect for action in actions):
            raise FailedPrecondition("REVIEW_ACTION_MISSING")
        made = pb.Target.Review(
            time=to_timestamp(call.now), actor=call.caller.actor, cause=cause, text=text, standing=standing
        )
        for action in self.actions:
            if action.expected_effect:
                made.effects.add(action=action.text, expected=action.expected_effect, real=action.real_effect)
        self.reviews = [*self.reviews, made]
        self.actions = [*self.actions, *actions]
        self._name_actions()
        await self._make_tasks(len(actions), call)
        if today(call) > self._last_day:
            self.state = "CHECKED"
        call.emit(events.TargetReviewed, target=self, cause=cause)

    def finish_action(self, action: str, real_effect: Decimal | None) -> None:
        """Notes that an action is done and what it brought."""
        self.check_state("RUNNING", "CHECKED")
        found = [_copy(one) for one in self.actions]
        wanted = next((one for one in found if one.key == action), None)
        if wanted is None:
            raise NotFound()
        wanted.done, wanted.real_effect = True, plain(real_effect)
        self.actions = found

    def task_done(self, task: str) -> None:
        """Notes that the task of an action is accepted; what it brought is told by whoever looks."""
        found = [_copy(one) for one in self.actions]
        for one in found:
            one.done = one.done or one.task == task
        if found != list(self.actions):
            self.actions = found

    async def move(self, department: str, day: date, call: Call) -> None:
        """The person works in another department from that day on: the target goes along by the days."""
        first = max(day, self._first_day)
        told = [(read_date(post.from_date) or first, post.department) for post in self.posts]
        told = told or [(self._first_day, self.department)]
        if self.state not in ("DRAFT", "RUNNING") or first > self._last_day or (first, department) in told:
            return
        moves = dict([*told, (first, department)])
        starts = sorted(moves)
        self.posts = [pb.Target.Post(department=moves[start], from_date=to_date(start)) for start in starts]
        self.department = moves[starts[-1]]
        await self._share_posts(call)

    async def _share_posts(self, call: Call) -> None:
        """Splits the base by the days, and the actual by when it came; who never moved has no posts."""
        if not self.posts:
            return
        starts = [read_date(post.from_date) or self._first_day for post in self.posts]
        ends = [*(start - timedelta(days=1) for start in starts[1:]), self._last_day]
        spans = list(zip(starts, ends, strict=True))
        bases = self._split(self.base, [Decimal((last - first).days + 1) for first, last in spans])
        posts: list[Any] = []
        for post, base, (first, last) in zip(self.posts, bases, spans, strict=True):
            made = pb.Target.Post()
            made.CopyFrom(post)
            made.base, made.actual = plain(base), plain(await self._sum(first, last, call))
            posts.append(made)
        if posts != list(self.posts):
            self.posts = posts

    def close(self, call: Call) -> None:
        """Freezes it."""
        self.check_state("RUNNING", "CHECKED")
        if today(call) <= self._last_day:
            raise FailedPrecondition("TARGET_PERIOD_RUNS", date=self._last_day.isoformat())
        if self.state != "CHECKED":
            raise FailedPrecondition("REVIEW_MISSING")
        self.state, self.after_closing = "CLOSED", Decimal(0)
        call.emit(events.TargetChanged, target=self)

    async def distribute(
        self, period: str, subjects: Sequence[str], method: str, weights: Sequence[str], call: Call
    ) -> list[Target]:
        """Drafts of its parts, which add up to it to the last digit; those that are there take their new shares."""
        self.check_state("DRAFT", "RUNNING")
        if bool(period) == bool(subjects):
            raise Validation(required("period"))
        spans = [(self._first_day, self._last_day)]
        if period:
            if _MONTHS[period] >= _MONTHS[self.period]:
                zh, en = "必须比目标的周期短。", "It must be shorter than the target's period."
                raise Validation(Violation("period", "OUT_OF_RANGE", zh, en))
            spans = list(_parts(period, self._first_day, self._last_day))
        parts = [(subject, *one) for subject in subjects or [self.subject] for one in spans]
        shares = await self._shares(method, weights, parts, call)
        values = [self._split(value, shares) for value in (self.base, self.stretch, self.challenge)]
        there = await self._parts_by_what(call)
        made: list[Target] = []
        for (subject, first, _), base, stretch, challenge in zip(parts, *values, strict=True):
            of_period = period or self.period
            if part := there.get((subject, of_period, first)):
                if part.state != "DRAFT":
                    raise FailedPrecondition("TARGET_PART_IN_FORCE", target=part.display_name)
                part.base, part.stretch, part.challenge = base, stretch, challenge
                made.append(part)
                continue
            part = Target(
                subject=subject, period=of_period, from_date=first, metric=self.metric, currency=self.currency,
                measure=self.measure, product_line=self.product_line, region=self.region, parent=self.name, base=base,
                stretch=stretch, challenge=challenge, over_allocated=self.over_allocated, amber_percent=self.amber_percent,
                red_percent=self.red_percent,
            )  # fmt: skip
            made.append(await call.add(part))
        async with call.everybody():
            await call.flush()
        return made

    async def _parts_by_what(self, call: Call) -> dict[tuple[str, str, date], Target]:
        """Its parts of the same product line and region, by subject, period and first day."""
        await call.one_at_a_time([self.name])
        same = (Target.product_line == self.product_line, Target.region == self.region)
        parts = (
            select(Target)
            .where(Target.parent == self.name, *same)
            .order_by(Target.id.desc())
            .with_for_update()
        )
        async with call.everybody():
            return {
                (part.subject, part.period, part._first_day): part for part in await call.db.scalars(parts)
            }

    async def standing(self, day: date, call: Call) -> Any:
        """How it stands on a day against the line of the plan, which rises by working days."""
        first, last = self._first_day, self._last_day
        whole, gone = working_days(first, last), working_days(first, min(day, last))
        base = self.base or Decimal(0)
        unit = self._unit
        line = (base * gone / whole).quantize(unit, ROUND_HALF_UP) if whole else base
        actual = await self._sum(first, min(day, last), call)
        expected = actual + await self._foreseen(day, actual, gone, whole, call)
        left = working_days(max(day + timedelta(days=1), first), last)
        told = pb.Target.Standing(
            day=to_date(day),
            plan_line=plain(line),
            actual=plain(actual),
            forecast=plain(expected),
            gap=plain(base - expected),
        )
        missing = max(base - actual, Decimal(0))
        told.needed_per_day = (
            plain((missing / left).quantize(unit, ROUND_HALF_UP)) if left else plain(missing)
        )
        told.light = pb.Target.GREEN
        if line:
            percent = actual * 100 / line
            told.percent = plain(percent.quantize(_ONE_PLACE, ROUND_HALF_UP))
            if percent < (self.red_percent or 75):
                told.light = pb.Target.RED
            elif percent < (self.amber_percent or 90):
                told.light = pb.Target.AMBER
        return told

    async def look(self, day: date, call: Call) -> None:
        """Keeps how it stands on a day; the same day twice is one line."""
        standing = await self.standing(day, call)
        kept = [one for one in self.standings if one.day != standing.day]
        self.standings, self.light = [*kept, standing], pb.Target.Light.Name(standing.light)

    def remind(self, day: date, call: Call) -> None:
        """Tells the owner, later the superior, that nobody has reviewed the period that is over."""
        waited = working_days(self._last_day + timedelta(days=1), day)
        reached = [step for step, days in REVIEW_DAYS.items() if waited > days]
        if self.state != "RUNNING" or not reached or reached[-1] == self.review_step:
            return
        self.review_step = reached[-1]
        entry = call.entry(self.owner)
        told = [self.owner, *([entry.get("superior") or ""] if self.review_step == "SUPERIOR" else [])]
        recipients = list(filter(None, told))
        call.emit(events.TargetReviewOverdue, target=self, step=self.review_step, recipients=recipients)

    async def recount(self, call: Call) -> bool:
        """The sum of its facts; what comes after closing stands beside it. Says whether anything was otherwise."""
        found = await self._sum(self._first_day, self._last_day, call)
        if self.state == "CLOSED":
            beside = found - (self.actual or Decimal(0))
            different = beside != self.after_closing
            self.after_closing = beside
            return different
        await self._share_posts(call)
        if self.actual == found:
            return False
        self.actual = found
        return True

    def measured_by(self, call: Call) -> list[ColumnElement[bool]]:
        """Which facts count: of the subject, whoever was in the department when it happened."""
        fact = TargetFact
        conditions = [
            fact.metric == self.metric, fact.day >= self.from_date, fact.day <= self.to_date, fact.currency == self.currency
        ]  # fmt: skip
        if self.subject.startswith("employees/"):
            conditions.append(fact.employee == self.subject)
        elif self.subject.startswith("departments/"):
            conditions.append(fact.fact_department.in_(with_beneath([self.subject], call)))
        elif self.subject:
            conditions.append(fact.partner == self.subject)
        if self.measure:
            conditions.append(fact.measure == self.measure)
        if self.product_line:
            conditions.append(fact.product_line == self.product_line)
        if self.region:
            conditions.append(fact.region.startswith(self.region))
        return conditions

    @property
    def _first_day(self) -> date:
        if self.from_date is None:
            raise Validation(required("target.from_date"))
        return self.from_date

    @property
    def _last_day(self) -> date:
        return self.to_date or self._first_day

    @property
    def _unit(self) -> Decimal:
        return Decimal(1).scaleb(-places(self.currency)) if self.currency else Decimal(1)

    def _check(self) -> None:
        if bool(self.measure) != (self.metric == "CUSTOM"):
            zh, en = (
                "自定义指标须有指标代码，其他指标没有。",
                "The custom metric has a measure, no other has.",
            )
            raise Validation(Violation("target.measure", "OUT_OF_RANGE", zh, en))
        if self.metric in IN_MONEY or (self.metric == "CUSTOM" and self.currency):
            check_currency(self.currency, "target.currency")
        elif self.currency:
            zh, en = "数量指标没有币种。", "A number has no currency."
            raise Validation(Violation("target.currency", "OUT_OF_RANGE", zh, en))
        if self.subject and self.subject.partition("/")[0] not in ("departments", "employees", "accounts"):
            zh, en = "应为部门、员工或伙伴。", "A department, an employee or a partner's account."
            raise Validation(Violation("target.subject", "UNKNOWN_REFERENCE", zh, en))
        for name in ("base", "stretch", "challenge"):
            value: Decimal | None = getattr(self, name)
            if value is not None and value != value.quantize(self._unit):
                zh, en = "小数位过多。", "Too many decimal places."
                raise Validation(Violation(f"target.{name}", "OUT_OF_RANGE", zh, en))
        rising = [value for value in (self.base, self.stretch, self.challenge) if value is not None]
        if rising != sorted(rising):
            zh, en = "争取目标和挑战目标不能低于基本目标。", "Stretch and challenge are not below the base."
            raise Validation(Violation("target.stretch", "OUT_OF_RANGE", zh, en))

    async def _check_parent(self, call: Call) -> None:
        whole = await self._whole(call)
        if whole is None:
            return
        same = (whole.metric, whole.measure, whole.currency) == (self.metric, self.measure, self.currency)
        if not same or not whole._first_day <= self._first_day <= self._last_day <= whole._last_day:
            zh, en = (
                "指标、币种与周期必须在上级目标之内。",
                "Metric, currency and period must lie within the parent's.",
            )
            raise Validation(Violation("target.parent", "OUT_OF_RANGE", zh, en))

    async def _whole(self, call: Call) -> Target | None:
        return await call.named(Target, self.parent)

    async def _check_sum(self, whole: Target, call: Call) -> None:
        """The parts of each kind (by period, by subject, by product) add up to the whole, unless more is allowed."""
        if whole.over_allocated:
            return
        statement = select(Target).where(Target.parent == whole.name)
        kinds: dict[tuple[Any, ...], Decimal] = {}
        async with call.everybody():
            for part in await call.db.scalars(statement):
                key = (
                    part.subject == whole.subject, part.period, part.product_line == whole.product_line,
                    part.region == whole.region,
                )  # fmt: skip
                kinds[key] = kinds.get(key, Decimal(0)) + (part.base or 0)
        base = whole.base or Decimal(0)
        for found in kinds.values():
            if found != base:
                told = {"sum": plain(found), "base": plain(base), "difference": plain(found - base)}
                raise FailedPrecondition("TARGET_SUM_MISMATCH", **told)

    async def _title(self, call: Call) -> str:
        key = self.subject.rpartition("/")[2]
        kind = {"employees": "employee", "departments": "department"}.get(self.subject.partition("/")[0], "")
        entry: dict[str, Any] = (
            call.config(f"{kind}.{key}") if kind else await call.copy(self.subject)
        ) or {}
        metrics = pb.Target.DESCRIPTOR.enum_types_by_name["Metric"].values_by_name
        told = option(metrics[self.metric], options_pb2.text)
        first = self._first_day
        quarter = (first.month + 2) // 3
        zh = {
            "YEAR": f"{first:%Y}年",
            "QUARTER": f"{first:%Y}年{quarter}季度",
            "MONTH": f"{first:%Y}年{first.month}月",
        }
        en = {
            "YEAR": f"{first:%Y}",
            "QUARTER": f"Q{quarter} {first:%Y}",
            "MONTH": f"{_MONTH_NAMES[first.month]} {first:%Y}",
        }
        who, limits = entry.get("displayName", ""), [self.measure, self.product_line, self.region]
        names = (
            [who or "公司", told.zh, *limits, zh[self.period]], [who or "Company", told.en, *limits, en[self.period]]
        )  # fmt: skip
        return call.text(*(" ".join(filter(None, words)) for words in names))

    async def _make_tasks(self, last: int, call: Call) -> None:
        """Of each of the last actions that should bring something a sales task, which its maker supervises."""
        actions = [_copy(action) for action in self.actions]
        for action in actions[len(actions) - last :]:
            if not action.expected_effect or action.task or not call.caller.employee:
                continue
            task = SalesTask(
                display_name=action.text[:200], about=self.name, source=f"{self.name}#{action.key}", owner=self.owner,
                department=self.department, executors=[action.employee or self.owner], supervisor=call.caller.employee,
            )  # fmt: skip
            if due := read_date(action.due_date):
                task.due_time = datetime.combine(due + timedelta(days=1), time.min, ZONE)
            await call.add(task)
            task.assign(call)
            action.task = task.name
        self.actions = actions

    def _name_actions(self) -> None:
        named = [_copy(action) for action in self.actions]
        for action in named:
            action.key = action.key or uuid4().hex[:8]
        if named != list(self.actions):
            self.actions = named

    async def _carry_over(self, call: Call) -> None:
        """What was planned and not finished for the period before."""
        before = await call.find(
            Target, Target.subject == self.subject, Target.metric == self.metric, Target.period == self.period,
            Target.measure == self.measure,
            Target.product_line == self.product_line, Target.region == self.region, Target.currency == self.currency,
            Target.to_date == self._first_day - timedelta(days=1), Target.state.in_(LIVE),
        )  # fmt: skip
        carried: list[Any] = []
        for action in before.actions if before else ():
            if not action.done:
                one = _copy(action)
                one.carried_from = before.name if before else ""
                carried.append(one)
        if carried:
            self.actions = [*self.actions, *carried]

    async def _shares(
        self, method: str, weights: Sequence[str], parts: Sequence[Any], call: Call
    ) -> list[Decimal]:
        if method == "SEASON":
            found = [
                await self._sum_of(subject, _year_before(first), _year_before(last), call)
                for subject, first, last in parts
            ]
            shares = [max(value, Decimal(0)) for value in found]
        elif method == "WEIGHTS":
            try:
                shares = [Decimal(weight) for weight in weights]
            except ArithmeticError:
                shares = []
        else:
            shares = [Decimal(1)] * len(parts)
        if len(shares) != len(parts) or any(share < 0 for share in shares) or not sum(shares):
            zh, en = (
                "权重的个数须与分解的份数一致，且合计大于 0。",
                "One weight for each part, more than zero in all.",
            )
            raise Validation(Violation("weights", "OUT_OF_RANGE", zh, en))
        return shares

    def _split(self, value: Decimal | None, shares: list[Decimal]) -> list[Decimal | None]:
        if value is None:
            return [None] * len(shares)
        # Numbers are split as yen are: without places.
        return [part.amount for part in split(Money(value, self.currency or "JPY"), shares)]

    async def _sum(self, first: date, last: date, call: Call) -> Decimal:
        counted = select(func.sum(TargetFact.value)).where(
            *self.measured_by(call), TargetFact.day >= first, TargetFact.day <= last
        )
        async with call.everybody():
            return await call.db.scalar(counted) or Decimal(0)

    async def _sum_of(self, subject: str, first: date, last: date, call: Call) -> Decimal:
        other = Target(
            subject=subject, metric=self.metric, measure=self.measure, currency=self.currency,
            product_line=self.product_line, region=self.region, from_date=first, to_date=last,
        )  # fmt: skip
        return await other._sum(first, last, call)

    async def _foreseen(self, day: date, actual: Decimal, gone: int, whole: int, call: Call) -> Decimal:
        """What open deals may still bring in the period; where deals say nothing of the metric, the pace goes on."""
        if self.metric not in _FORESEEN:
            rest = actual * (whole - gone) / gone if gone and whole else Decimal(0)
            return rest.quantize(self._unit, ROUND_HALF_UP)
        deals = select(Opportunity.weighted_amount).where(
            Opportunity.state.in_(RUNNING), Opportunity.expected_close_date >= day,
            Opportunity.expected_close_date <= self.to_date,
        )  # fmt: skip
        if self.subject.startswith("employees/"):
            deals = deals.where(Opportunity.owner == self.subject)
        elif self.subject.startswith("departments/"):
            deals = deals.where(Opportunity.department.in_(with_beneath([self.subject], call)))
        elif self.subject:
            deals = deals.where(Opportunity.channel_partner == self.subject)
        async with call.everybody():
            found = [one for one in await call.db.scalars(deals) if one is not None]
        return sum((one.amount for one in found if one.currency == self.currency), Decimal(0))


class TargetFact(Resource, Base):
    """One thing that was achieved, as a fact told of it. Never changed; a correction is another one."""

    __message__ = pb.TargetFact
    follows_merges = False
    __table_args__ = (
        Index("target_facts_key_key", "metric", "key", unique=True),
        Index("target_facts_metric_employee_index", "metric", "employee", "day"),
        Index("target_facts_day_index", "metric", "day"),
        Index("target_facts_source_index", "metric", "source"),
    )

    metric: Mapped[str]
    day: Mapped[date | None]
    value: Mapped[Decimal | None]
    currency: Mapped[str]
    employee: Mapped[str]
    fact_department: Mapped[str]
    partner: Mapped[str]
    product_line: Mapped[str]
    region: Mapped[str]
    source: Mapped[str]
    key: Mapped[str]
    account: Mapped[str]
    measure: Mapped[str]


async def achieve(facts: Sequence[TargetFact], call: Call) -> None:
    """Writes facts, each once, and brings every target up to date that they count for."""
    if not facts:
        return
    await call.one_at_a_time([f"targetFacts:{fact.metric}:{fact.key}" for fact in facts])
    connection = await driver(call.db)
    known = await connection.fetch(_KNOWN, [fact.metric for fact in facts], [fact.key for fact in facts])
    told = {(row["metric"], row["key"]) for row in known}
    fresh = {(fact.metric, fact.key): fact for fact in facts if (fact.metric, fact.key) not in told}
    for fact in fresh.values():
        entry = call.entry(fact.employee)
        fact.fact_department = fact.fact_department or entry.get("department") or ""
        fact.owner, fact.department = fact.employee, fact.fact_department
    await create_many(call, [*fresh.values()], told=False)
    for target in await call.db.scalars(_touched([*fresh.values()]).with_for_update()) if fresh else ():
        await target.recount(call)


def serving(target: Target) -> Any:
    """The target and those that its unfinished actions are carried into, to be changed."""
    same = (
        Target.subject == target.subject,
        Target.metric == target.metric,
        Target.measure == target.measure,
    )
    return (
        select(Target)
        .where(*same, Target.state != "CLOSED", Target.from_date >= target.from_date)
        .order_by(Target.id)
        .with_for_update()
    )


def _touched(facts: Sequence[TargetFact]) -> Any:
    people = {fact.employee for fact in facts} | {fact.partner for fact in facts}
    days = [fact.day for fact in facts if fact.day is not None]
    return (
        select(Target)
        .where(
            Target.metric.in_({fact.metric for fact in facts}),
            Target.state.in_(LIVE),
            Target.from_date <= max(days),
            Target.to_date >= min(days),
        )
        .where(or_(Target.subject.startswith("departments/"), Target.subject.in_({*people, ""})))
        .order_by(Target.id)
    )


_KNOWN = (
    "SELECT metric, key FROM target_facts JOIN unnest($1::text[], $2::text[]) AS told(metric, key)"
    " USING (metric, key)"
)


def span(period: str, day: date) -> tuple[date, date]:
    """First and last day of the period of a day."""
    months = _MONTHS[period]
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    last = first.month + months - 1
    return first, date(day.year, last, monthrange(day.year, last)[1])


def _parts(period: str, first: date, last: date) -> Any:
    while first <= last:
        one = span(period, first)
        yield one
        first = one[1] + timedelta(days=1)


def _year_before(day: date) -> date:
    return date(day.year - 1, day.month, min(day.day, monthrange(day.year - 1, day.month)[1]))


def _copy(action: Any) -> Any:
    one = pb.Target.Action()
    one.CopyFrom(action)
    return one
