"""Daily work: notes and saved views."""

from collections.abc import Sequence
from datetime import datetime

from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.call import Call
from crmkit.errors import InvalidArgument, Validation, Violation
from crmkit.filters import FilterError
from crmkit.resource import Resource, parse_name
from sqlalchemy import or_, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base, check_owner
from workspace.model.custom_field import check_collection
from workspace.model.file import File
from workspace.model.names import check_names
from workspace.model.task import Task

LARGEST_BODY = 65536


class Note(Resource, Base):
    """A memo of its owner."""

    __message__ = pb.Note
    refers_by = ("links",)

    display_name: Mapped[str]
    body: Mapped[str]
    links: Mapped[list[str]]
    files: Mapped[list[str]]
    remind_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Nobody writes notes into the notebook of somebody else."""
        self.owner = call.caller.employee
        self._check()
        await self._open_files(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only its owner shows it to others."""
        self._check()
        if changed & {"collaborators", "owner"}:
            check_owner(self, call)
        await self._open_files(call)

    def _check(self) -> None:
        check_names(self.links, "note.links")
        if len(self.body.encode()) > LARGEST_BODY:
            raise Validation(Violation("note.body", "TOO_LONG", "不能超过 64 KiB", "At most 64 KiB."))

    async def share(self, people: Sequence[str], call: Call) -> None:
        """Shows it to these too."""
        check_owner(self, call)
        self.collaborators = list(dict.fromkeys([*self.collaborators, *people]))
        await self._open_files(call)

    async def unshare(self, employees: Sequence[str], call: Call) -> None:
        """Shows it to these no more; to nobody where none are named."""
        check_owner(self, call)
        self.collaborators = [name for name in self.collaborators if employees and name not in employees]
        await self._open_files(call)

    async def _open_files(self, call: Call) -> None:
        """Whoever reads the note reads its files, and no longer than that. Files of others are theirs to show."""
        keys = [parse_name(name, "files") for name in self.files]
        held = or_(File.id.in_(keys), File.attached_to.contains([self.name]))
        for file in list(
            await call.db.scalars(select(File).where(held, File.owner == self.owner).with_for_update())
        ):
            here = file.name in self.files
            beside = select(Note.collaborators).where(
                Note.owner == self.owner, Note.files.contains([file.name]), Note.id != self.id
            )
            people = [name for found in await call.db.scalars(beside) for name in found]
            file.collaborators = list(dict.fromkeys([*people, *(self.collaborators if here else ())]))
            others = [name for name in file.attached_to if name != self.name]
            file.attach([*others, self.name] if here else others)

    async def task(self, call: Call) -> Task:
        """The task that is made of it, once by everybody who reads it: what one does of it is not told to another."""
        me = call.caller.employee
        source = self.name if me == self.owner else f"{self.name}#{me}"
        known = await call.find(Task, Task.source == source)
        made = Task(display_name=self.display_name, description=self.body[:5000], owner=me, source=source,
                    links=list(self.links))  # fmt: skip
        return known or await call.add(made)


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
