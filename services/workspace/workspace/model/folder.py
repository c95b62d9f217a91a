"""Folders of documents. A topmost one says whom it is for; all in it, however deep, is for the same."""

from collections.abc import Sequence

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from sqlalchemy import ColumnElement, Index, delete, select, text
from sqlalchemy.orm import Mapped

from workspace.model import audience
from workspace.model.audience import Audience, AudienceMember, Shown
from workspace.model.base import Base

DEEPEST = 10
AUDIENCE = ("everyone", "audience_departments", "audience_people")
KEEPERS = ("owner", "department", "collaborators")


class Folder(Shown, Base):
    """A folder. Its keepers are the owner of the topmost one and those beside him."""

    __message__ = pb.Folder
    handed_over = False
    __table_args__ = (
        *audience.show_indexes("folders"),
        Index(
            "folders_sibling_key",
            "parent",
            "display_name",
            unique=True,
            postgresql_where=text("parent <> ''"),
        ),
    )

    display_name: Mapped[str]
    parent: Mapped[str]
    everyone: Mapped[bool]
    audience_departments: Mapped[list[str]]
    audience_people: Mapped[list[str]]
    open_to_readers: Mapped[bool]
    path: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Of who makes it; within another one, of its keepers."""
        self.owner = call.caller.employee
        if self.parent:
            (await call.load(Folder, self.parent, lock=False)).check_adds(call)
        await self._lie(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Whom it is for, and whose it is, its topmost folder says; what lies in it follows."""
        self._check_said(changed)
        if changed & {"display_name", *AUDIENCE, *KEEPERS}:
            await self._lie(call)
            await self._spread(call)

    async def deleting(self, call: Call) -> None:
        """Of an empty one nothing stays."""
        for table in (Audience, AudienceMember):
            await call.db.execute(delete(table).where(table.record == self.name))

    async def move(self, parent: str, call: Call) -> None:
        """Puts it into another one, or beside the topmost ones. FOLDER_CYCLE, FOLDER_TOO_DEEP, FOLDER_CLOSED."""
        await call.check_references(pb.MoveFolderRequest(parent=parent), "", ["parent"])
        if parent and parent in await self.beneath(call):
            raise FailedPrecondition("FOLDER_CYCLE")
        if parent:
            above = await call.load(Folder, parent, lock=False)
            above.check_adds(call)
            # From here on the topmost folder says whom it is for.
            self.everyone, self.audience_departments, self.audience_people = False, [], []
        self.parent = parent
        await self._lie(call)
        await self._spread(call)

    async def beneath(self, call: Call) -> list[str]:
        """Itself and all folders in it, the upper ones first."""
        name = Folder.sql_name()
        found = select(name.label("name")).where(Folder.id == self.id).cte("beneath", recursive=True)
        found = found.union(select(name).where(Folder.parent == found.c.name))
        async with call.everybody():
            return list(await call.db.scalars(select(found.c.name)))

    def check_adds(self, call: Call) -> None:
        """FOLDER_CLOSED where the caller only reads it: keepers put into it, and all its readers where it says so."""
        keeps = call.caller.is_system or call.caller.employee in (self.owner, *self.collaborators)
        if not keeps and not self.open_to_readers:
            raise FailedPrecondition("FOLDER_CLOSED")

    def _check_said(self, changed: frozenset[str]) -> None:
        said = [name for name in (*AUDIENCE, *KEEPERS) if name in changed] if self.parent else []
        if said:
            raise Validation(
                *(
                    Violation(
                        f"folder.{name}", "FROM_PARENT", "由最上级文件夹决定", "The topmost folder says so."
                    )
                    for name in said
                )
            )

    async def _lie(self, call: Call) -> None:
        """For whom it is, whose, and where it lies."""
        if not self.parent:
            self.path = self.display_name
            members = 0
            if not self.everyone:
                members = await audience.keep(
                    self.name, False, self.audience_departments, self.audience_people, call
                )
            self.shown_to_all = self.everyone
            # Departments without people may get some.
            self.shown_as = self.name if members or self.audience_departments else ""
            return
        self._check_said(frozenset(name for name in AUDIENCE if getattr(self, name)))
        async with call.everybody():
            above = await call.named(Folder, self.parent)
        assert above is not None
        depth = above.path.count("\n") + 2
        if depth > DEEPEST:
            raise FailedPrecondition("FOLDER_TOO_DEEP", limit=DEEPEST)
        self.owner, self.department, self.collaborators = (
            above.owner,
            above.department,
            [*above.collaborators],
        )
        self.shown_to_all, self.shown_as = above.shown_to_all, above.shown_as
        self.path = f"{above.path}\n{self.display_name}"

    async def _spread(self, call: Call) -> None:
        """What lies in it goes along."""
        await call.flush()
        for name in (await self.beneath(call))[1:]:
            async with call.everybody():
                below = await call.named(Folder, name, lock=True)
                assert below is not None
                await below._lie(call)
                await call.flush()


def topmost_for(departments: Sequence[str]) -> ColumnElement[bool]:
    """Topmost folders that are for one of the departments."""
    return (Folder.parent == "") & Folder.audience_departments.overlap(list(departments))
