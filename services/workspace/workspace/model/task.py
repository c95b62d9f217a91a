"""Tasks: what somebody is to do, with what must be done before and what comes again."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, check_reason
from crmkit.resource import Resource, parse_name
from dateutil.relativedelta import relativedelta
from sqlalchemy import Date, DateTime, Index, Text, select, text
from sqlalchemy.orm import Mapped, mapped_column

from workspace import recurrence
from workspace.model import known_record
from workspace.model.base import Base
from workspace.model.employee import Employee
from workspace.model.names import check_names

LIVE = ("OPEN", "IN_PROGRESS", "BLOCKED")
MOST_PEOPLE = 20
MOST_ITEMS = 100
MOST_STEPS = 366
STEPS = {"DAYS": "days", "WEEKS": "weeks", "MONTHS": "months", "YEARS": "years"}


class Task(Resource, Base):
    """Something that its owner is to do."""

    __message__ = pb.Task
    refers_by = ("links", "link_labels")
    __table_args__ = (
        Index("tasks_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
        Index("tasks_links_index", "links", postgresql_using="gin"),
        Index("tasks_open_index", "owner", "due_time", postgresql_where=text("state NOT IN ('DONE', 'CANCELLED')")),
    )  # fmt: skip

    display_name: Mapped[str]
    description: Mapped[str]
    due_time: Mapped[datetime | None]
    due_date: Mapped[date | None]
    start_date: Mapped[date | None]
    priority: Mapped[str]
    links: Mapped[list[str]]
    link_labels: Mapped[Any]
    assignees: Mapped[list[str]]
    watchers: Mapped[list[str]]
    progress: Mapped[int]
    parent: Mapped[str]
    checklist: Mapped[Any]
    depends_on: Mapped[list[str]]
    repeat: Mapped[str]
    repeat_every: Mapped[int]
    repeat_until: Mapped[date | None]
    state: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str]
    source: Mapped[str]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    # When the first of a repeated task was due, so that the 31st comes back behind shorter months.
    first_due_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    first_due_date: Mapped[date | None] = mapped_column(Date)
    repeated: Mapped[int] = mapped_column(server_default=text("0"))
    shared: Mapped[str] = mapped_column(Text, server_default=text("''"))

    async def creating(self, call: Call) -> None:
        """Begins open, and tells who has it."""
        self.state = "OPEN"
        self.repeated = self.repeated or 0
        self.first_due_time = self.first_due_time or self.due_time
        self.first_due_date = self.first_due_date or self.due_date
        await self._complete(call)
        call.emit(events.TaskAssigned, task=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what is not over changes."""
        self.check_open()
        if changed & {"due_time", "due_date", "repeat"}:
            self.first_due_time, self.first_due_date, self.repeated = self.due_time, self.due_date, 0
        await self._complete(call)
        if changed & {"owner", "assignees"}:
            call.emit(events.TaskAssigned, task=self)

    def check_open(self) -> None:
        """Refuses what is over."""
        if self.state not in LIVE:
            raise FailedPrecondition("TASK_CLOSED")

    async def _complete(self, call: Call) -> None:
        self.priority = self.priority or "NORMAL"
        check_names(self.links, "task.links")
        if self.due_time and self.due_date:
            raise _wrong("due_date", "截止时间与截止日期只能填一个", "Give a due time or a due day.")
        if len(self.assignees) > MOST_PEOPLE or len(self.checklist) > MOST_ITEMS:
            raise _wrong(
                "assignees" if len(self.assignees) > MOST_PEOPLE else "checklist",
                "数量过多",
                "There are too many.",
            )
        if self.progress > 100:
            raise _wrong("progress", "不能超过 100", "At most 100.")
        if self.repeat and not (self.due_time or self.due_date):
            raise _wrong("repeat", "重复任务须有截止时间", "A task that repeats needs a due time.")
        if self.repeat_every > MOST_STEPS:
            raise _wrong("repeat_every", f"不能超过 {MOST_STEPS}", f"At most {MOST_STEPS}.")
        self.repeat_every = (self.repeat_every or 1) if self.repeat else 0
        await self._check_cycle(call)
        self._share()
        await self.label_links(call)

    async def _check_cycle(self, call: Call) -> None:
        """TASK_CYCLE where it would wait for itself, by dependence or as a part."""
        for column, first in (
            (Task.depends_on, self.depends_on),
            (Task.parent, [self.parent] if self.parent else []),
        ):
            seen, waiting = set[str](), list(first)
            while waiting:
                if self.name in waiting:
                    raise FailedPrecondition("TASK_CYCLE")
                seen.update(waiting)
                keys = [parse_name(name, "tasks") for name in waiting]
                async with call.everybody():
                    found = list(await call.db.scalars(select(column).where(Task.id.in_(keys))))
                names = [n for value in found for n in ([value] if isinstance(value, str) else value) if n]
                waiting = [name for name in dict.fromkeys(names) if name not in seen]

    def _share(self) -> None:
        """Whoever does it or follows it sees it."""
        before = set(filter(None, (self.shared or "").split(",")))
        now = dict.fromkeys([*self.assignees, *self.watchers])
        kept = [name for name in self.collaborators if name not in before]
        self.collaborators = list(dict.fromkeys([*kept, *now]))
        self.shared = ",".join(now)

    async def label_links(self, call: Call) -> None:
        """What the links are called, and who of those who have the task may not see them."""
        known = await known_record.records(self.links, call)
        people = list(dict.fromkeys(filter(None, [self.owner, *self.assignees])))
        labels = [
            pb.Task.LinkLabel(
                name=name, label=known[name].label,
                unseen_by=[person for person in people if not known_record.may_see(person, known[name], call)],
            )
            for name in self.links
            if name in known
        ]  # fmt: skip
        if list(self.link_labels) != labels:
            self.link_labels = labels

    def start(self, call: Call) -> None:
        """Begins it, or goes on with it."""
        self.check_state("OPEN", "BLOCKED")
        self.state, self.reason = "IN_PROGRESS", ""
        self.start_time = self.start_time or call.now

    def block(self, reason: str) -> None:
        """Says that it cannot go on."""
        self.check_state("OPEN", "IN_PROGRESS")
        self.state, self.reason = "BLOCKED", check_reason(reason)

    async def complete(self, result: str, call: Call) -> None:
        """Ends it as done; a task that repeats comes again. TASK_CHECKLIST_OPEN, TASK_BLOCKED_BY."""
        self.check_state(*LIVE)
        missing = [item.text for item in self.checklist if item.required and not item.done]
        if missing:
            raise FailedPrecondition(
                "TASK_CHECKLIST_OPEN", count=len(missing), items="; ".join(missing)[:300]
            )
        if first := await self._waits_for(call):
            raise FailedPrecondition("TASK_BLOCKED_BY", tasks="; ".join(first)[:300])
        self.state, self.result, self.end_time, self.progress = "DONE", result, call.now, 100
        call.emit(events.TaskCompleted, task=self)
        again = self._again()
        if again is None:
            return
        async with call.everybody():
            # What was begun again has its next one already.
            there = await call.find(Task, Task.source == again.source)
        if there is None:
            await call.add(again)

    async def _waits_for(self, call: Call) -> list[str]:
        keys = [parse_name(name, "tasks") for name in self.depends_on]
        # What is not to be done any more holds nothing up.
        open_ones = select(Task.display_name).where(Task.id.in_(keys), Task.state.in_(LIVE))
        async with call.everybody():
            return list(await call.db.scalars(open_ones.order_by(Task.create_time)))

    def _again(self) -> "Task | None":
        """The next of a task that repeats. Counted from the first, so that no short month moves those behind it."""
        if not self.repeat:
            return None
        count = self.repeated + 1
        step = relativedelta(**{STEPS[self.repeat]: count * self.repeat_every})  # pyright: ignore[reportArgumentType]
        day = self.first_due_date + step if self.first_due_date else None
        moment = self.first_due_time + step if self.first_due_time else None
        last = day or (moment.date() if moment else None)
        if self.repeat_until and last and last > self.repeat_until:
            return None
        copied = {
            name: getattr(self, name)
            for name in ("display_name", "description", "priority", "links", "owner", "department", "assignees", "watchers",
                         "parent", "repeat", "repeat_every", "repeat_until", "first_due_time", "first_due_date", "creator")
        }  # fmt: skip
        unticked = [pb.Task.ChecklistItem(text=item.text, required=item.required) for item in self.checklist]
        source = f"{self.name}#again"
        return Task(
            **copied, checklist=unticked, due_date=day, due_time=moment, repeated=count, source=source
        )

    def reopen(self) -> None:
        """Begins it again."""
        self.check_state("DONE", "CANCELLED")
        self.state, self.end_time, self.result = "OPEN", None, ""

    def decline(self, reason: str, call: Call) -> None:
        """Gives it back to who made it."""
        self.check_open()
        self.reason = check_reason(reason)
        if self.creator.startswith("employees/") and self.creator != self.owner:
            self.owner, self.state = self.creator, "OPEN"
            entry = call.entry(self.creator)
            self.department = entry.get("department", self.department)
            call.emit(events.TaskAssigned, task=self)

    def cancel(self, reason: str, call: Call) -> None:
        """Ends it as not to be done."""
        self.check_state(*LIVE)
        self.state, self.result, self.end_time = "CANCELLED", check_reason(reason), call.now

    def over(self, call: Call) -> None:
        """Ends it as not to be done any more: what it was made of has ended."""
        self.state, self.result, self.end_time = "CANCELLED", "", call.now

    async def assign(self, owner: str, call: Call) -> None:
        """Gives it to somebody who works here."""
        self.check_state(*LIVE)
        person = await call.named(Employee, owner)
        if person is None or person.state != "ACTIVE":
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        await self.hand_over(person, call)

    async def pass_on(self, to: str, department: str, cause: str, call: Call) -> None:
        """Goes to whoever takes over, as if it had been assigned."""
        await self.assign(to, call)

    async def hand_over(self, owner: Employee, call: Call) -> None:
        """Gives it to somebody else."""
        self.owner, self.department = owner.name, owner.department
        await self.label_links(call)
        call.emit(events.TaskAssigned, task=self)


async def my_day(person: str, call: Call) -> tuple[date, list[Task], list[Task], list[Task]]:
    """The person's day, and what is overdue, due today, and due within a week, by the person's own midnight."""
    zone = await zone_of(person, call)
    today = recurrence.wall_clock(call.now, zone).date()

    def due(task: Task) -> date | None:
        return task.due_date or (recurrence.wall_clock(task.due_time, zone).date() if task.due_time else None)

    mine = (Task.owner == person) | Task.assignees.contains([person])
    soon = (Task.due_date <= today + timedelta(days=7)) | (Task.due_time < call.now + timedelta(days=9))
    rows = await call.db.scalars(select(Task).where(mine, Task.state.in_(LIVE), soon).limit(1000))
    days = sorted(
        ((due(task), task.due_time or datetime.max.replace(tzinfo=UTC), task) for task in rows),
        key=lambda f: f[:2],
    )

    def within(first: date, last: date) -> list[Task]:
        return [task for day, _, task in days if day is not None and first <= day <= last][:100]

    over = [task for day, moment, task in days if day is not None and (day < today or moment < call.now)][
        :100
    ]
    left = [task for task in within(today, today) if task not in over]
    return today, over, left, within(today + timedelta(days=1), today + timedelta(days=7))


async def zone_of(person: str, call: Call) -> str:
    """The zone of an employee."""
    return (await zones_of([person], call))[person]


async def zones_of(people: Iterable[str], call: Call) -> dict[str, str]:
    """The zones of employees, by their names."""
    names = set(people)
    keys = [key for name in names if (key := Employee.key_of(name)) is not None]
    async with call.everybody():
        told = await call.db.execute(select(Employee.id, Employee.time_zone).where(Employee.id.in_(keys)))
    zones = {f"employees/{key}": zone for key, zone in told if zone in recurrence.zones()}
    return {name: zones.get(name, recurrence.DEFAULT_ZONE) for name in names}


def live_of(people: Iterable[str]) -> Any:
    """The tasks of people that are not over."""
    owners: Sequence[str] = list(people)
    return select(Task).where(Task.owner.in_(owners), Task.state.in_(LIVE))


def _wrong(field: str, zh: str, en: str) -> Validation:
    return Validation(Violation(f"task.{field}", "WRONG_VALUE", zh, en))
