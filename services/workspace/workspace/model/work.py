"""Daily work: tasks, notes, notifications, saved views."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation
from crmkit.filters import FilterError
from crmkit.resource import Resource, parse_name
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.definitions import check_collection
from workspace.model.employee import Employee, check_reason

NAME = re.compile(r"[a-z][A-Za-z]*/[0-9a-f-]{36}")


def check_names(names: Sequence[str], path: str) -> None:
    """Refuses what is no resource name. Whether the record exists, only its service knows."""
    for index, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise Validation(
                Violation(f"{path}[{index}]", "WRONG_FORMAT", "不是记录名称", "This is no resource name.")
            )


class Task(Resource, Base):
    """Something that its owner is to do."""

    __message__ = pb.Task
    __table_args__ = (
        Index("tasks_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
        Index("tasks_links_index", "links", postgresql_using="gin"),
    )

    display_name: Mapped[str]
    description: Mapped[str]
    due_time: Mapped[datetime | None]
    priority: Mapped[str]
    links: Mapped[list[str]]
    state: Mapped[str]
    result: Mapped[str]
    source: Mapped[str]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Begins open, and tells who has it."""
        self.state = "OPEN"
        self.priority = self.priority or "NORMAL"
        check_names(self.links, "task.links")
        call.emit(events.TaskAssigned, task=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only what is not over changes."""
        self.check_state("OPEN", "IN_PROGRESS")
        self.priority = self.priority or "NORMAL"
        check_names(self.links, "task.links")
        if "owner" in changed:
            call.emit(events.TaskAssigned, task=self)

    def start(self, call: Call) -> None:
        """Begins it."""
        self.check_state("OPEN")
        self.state, self.start_time = "IN_PROGRESS", call.now

    def complete(self, result: str, call: Call) -> None:
        """Ends it as done."""
        self.check_state("OPEN", "IN_PROGRESS")
        self.state, self.result, self.end_time = "DONE", result, call.now
        call.emit(events.TaskCompleted, task=self)

    def cancel(self, reason: str, call: Call) -> None:
        """Ends it as not to be done."""
        self.check_state("OPEN", "IN_PROGRESS")
        self.state, self.result, self.end_time = "CANCELLED", check_reason(reason), call.now

    async def assign(self, owner: str, call: Call) -> None:
        """Gives it to somebody who works here."""
        self.check_state("OPEN", "IN_PROGRESS")
        person = await call.find(Employee, Employee.id == parse_name(owner, "employees"))
        if person is None or person.state != "ACTIVE":
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        self.hand_over(person, call)

    def hand_over(self, owner: Employee, call: Call) -> None:
        """Gives it to somebody else."""
        self.owner, self.department = owner.name, owner.department
        call.emit(events.TaskAssigned, task=self)


class Note(Resource, Base):
    """A memo of its owner."""

    __message__ = pb.Note

    display_name: Mapped[str]
    body: Mapped[str]
    links: Mapped[list[str]]

    async def creating(self, call: Call) -> None:
        """Nobody writes notes into the notebook of somebody else."""
        self.owner = call.caller.employee
        check_names(self.links, "note.links")

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Links stay names."""
        check_names(self.links, "note.links")


class Notification(Resource, Base):
    """Something that one person should know, once."""

    __message__ = pb.Notification
    __table_args__ = (
        Index("notifications_dedupe_key", "owner", "dedupe_key", unique=True),
        Index("notifications_unread_index", "owner", postgresql_where=text("read_time IS NULL")),
    )

    display_name: Mapped[str]
    body: Mapped[str]
    kind: Mapped[str]
    target: Mapped[str]
    read_time: Mapped[datetime | None]
    dedupe_key: Mapped[str]

    def mark_read(self, call: Call) -> None:
        """Marks it as read; the first time counts."""
        self.read_time = self.read_time or call.now


class SavedView(Resource, Base):
    """A list as its owner wants to see it again."""

    __message__ = pb.SavedView

    collection: Mapped[str]
    kind: Mapped[str]
    filter: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Belongs to who makes it."""
        check_collection(self.collection)
        self.owner = call.caller.employee
        await self.updating(call, frozenset())

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """The filter stays readable."""
        self.kind = self.kind or "LIST"
        try:
            if self.filter.strip():
                filters.parse(self.filter)
        except FilterError as error:
            detail = call.text(error.detail_zh, error.detail_en)
            raise InvalidArgument("FILTER_INVALID", position=error.position + 1, detail=detail) from None


async def notify(
    call: Call, people: Iterable[str], kind: str, key: str, target: str, zh: str, en: str, body: str = ""
) -> None:
    """Tells each of the people once per key, in the person's language. Who has left is not told."""
    for name in dict.fromkeys(people):
        identity = name.removeprefix("employees/")
        if identity == name:
            continue
        person = (
            await call.db.scalars(
                select(Employee).where(Employee.id == identity, Employee.state != "OFFBOARDED")
            )
        ).one_or_none()
        told = select(Notification.id).where(Notification.owner == name, Notification.dedupe_key == key)
        if person is None or await call.db.scalar(told):
            continue
        await call.add(
            Notification(
                owner=name,
                department=person.department,
                display_name=en if person.locale == "en" else zh,
                body=body,
                kind=kind,
                target=target,
                dedupe_key=key,
            )
        )
        await call.flush()
