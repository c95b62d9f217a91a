"""The department: the tree of the organisation."""

from datetime import datetime
from typing import Any

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from google.protobuf import json_format
from sqlalchemy import BigInteger, Boolean, DateTime, Index, Text, exists, func, inspect, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB, distinct_on, insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base

DEEPEST = 12
MOST_DEPUTIES = 5
# Who hangs what lies in one segment into another one.
RESTRUCTURE = "workspace.departments.restructure"


class Department(Resource, Base):
    """A unit of the organisation. The tree has one root and no cycle."""

    __message__ = pb.Department
    kept_in = "name"
    __table_args__ = (
        Index("departments_root_key", "parent", unique=True, postgresql_where=text("parent = ''")),
        Index(
            "departments_sibling_key",
            "parent",
            "display_name",
            unique=True,
            postgresql_where=text("state = 'ACTIVE'"),
        ),
        Index("departments_code_key", "code", unique=True, postgresql_where=text("code <> ''")),
    )

    display_name: Mapped[str]
    code: Mapped[str]
    kind: Mapped[str]
    parent: Mapped[str]
    manager: Mapped[str]
    deputies: Mapped[list[str]]
    merged_into: Mapped[str]
    path: Mapped[str]
    legal_entity: Mapped[bool]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Hangs the department into the tree: under the company where nothing else is said."""
        self.state = "ACTIVE"
        self.kind = self.kind or "DEPARTMENT"
        if not self.parent and (root := await call.find(Department, Department.parent == "")):
            self.parent = root.name
        self._check_deputies()
        call.check_kept(Department, [self.parent])
        await self._place(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A new name is in the paths of all beneath."""
        self.check_state("ACTIVE")
        self._check_deputies()
        if "kind" in changed and "SEGMENT" in (self.kind, *(inspect(self).attrs.kind.history.deleted or ())):
            self._check_restructures(call)
        if "display_name" in changed:
            await self._place_children(call, await self._place(call))

    async def deleting(self, call: Call) -> None:
        """Only what nothing hangs on goes: who came back, and records that lie there, would be nowhere."""
        from workspace.model.employee import Employee
        from workspace.model.known_record import KnownRecord

        await self._check_empty(call)
        hanging = (
            exists().where((Employee.department == self.name) | Employee.posts.contains([self.name])),
            exists().where(Department.parent == self.name),
            exists().where(
                KnownRecord.scope["department"].astext == self.name,
                KnownRecord.name != self.name,
                ~KnownRecord.deleted,
            ),
        )
        if await call.db.scalar(select(or_(*hanging))):
            raise FailedPrecondition("DEPARTMENT_HAS_HISTORY")

    async def move(self, parent: str, call: Call) -> None:
        """Hangs it, with all beneath, under another one."""
        self.check_state("ACTIVE")
        # One move at a time: two moves that are right alone can make a cycle together.
        await call.one_at_a_time(["departments"])
        await self._check_segment(self.parent, parent, call)
        self.parent = parent
        await self._place_children(call, await self._place(call))

    async def merge(self, into: str, call: Call) -> None:
        """Puts people and children into another department and ends; records follow, service by service."""
        from workspace.model.employee import Employee

        self.check_state("ACTIVE")
        await call.one_at_a_time(["departments"])
        above = await ancestors(into, call)
        if not above or any(department.id == self.id for department in above):
            raise FailedPrecondition("DEPARTMENT_CYCLE")
        if above[0].state == "CLOSED":
            raise FailedPrecondition("DEPARTMENT_CLOSED")
        if self.legal_entity:
            raise FailedPrecondition("DEPARTMENT_IS_LEGAL_ENTITY")
        await self._check_segment(self.name, into, call)
        for child in list(await call.db.scalars(select(Department).where(Department.parent == self.name))):
            child.parent = into
            await child._place_children(call, await child._place(call))
        works_here = (Employee.department == self.name) | Employee.posts.contains([self.name])
        for person in list(await call.db.scalars(select(Employee).where(works_here))):
            person.department = into if person.department == self.name else person.department
            posts = [into if post == self.name else post for post in person.posts]
            person.posts = list(dict.fromkeys(post for post in posts if post != person.department))
        await call.flush()
        # Beneath the other one, whoever reads that and below sees the records before they have followed.
        self.state, self.merged_into, self.parent = "CLOSED", into, into
        self.path = f"{above[0].path}/{self.display_name}"
        call.emit(events.DepartmentMerged, department=self, into=into)

    async def preview(self, target: str, call: Call) -> pb.PreviewDepartmentResponse:
        """What hanging it elsewhere would concern."""
        from workspace.model.approval import Approval
        from workspace.model.employee import Employee
        from workspace.model.known_record import KnownRecord
        from workspace.model.role import Role

        organisation = call.running.directory.organisation
        inside = organisation.below([self.name])
        there = (Employee.department.in_(inside), Employee.state != "OFFBOARDED")
        people = list(await call.db.scalars(select(Employee).where(*there)))
        names = [person.name for person in people]
        waiting = select(func.count()).where(
            Approval.state == "PENDING", Approval.collaborators.overlap(names)
        )
        lying = select(func.count()).where(
            KnownRecord.scope["department"].astext.in_(inside), ~KnownRecord.deleted
        )
        async with call.everybody():
            approvals = await call.db.scalar(waiting) if names else 0
        roles = [
            role
            for role in await call.db.scalars(select(Role).where(Role.state == "ACTIVE"))
            if any(set(inside) & set(grant.departments) for grant in role.grants)
        ]
        crosses = await _segment(self.parent, call) != await _segment(target, call)
        return pb.PreviewDepartmentResponse(
            departments=len(inside), people=len(people), approvals=approvals or 0, crosses_segment=crosses,
            records=await call.db.scalar(lying) or 0, roles=len(roles),
        )  # fmt: skip

    async def close(self, call: Call) -> None:
        """Takes an empty department out of use."""
        self.check_state("ACTIVE")
        await self._check_empty(call)
        self.state = "CLOSED"

    async def reopen(self, call: Call) -> None:
        """Takes it back into use."""
        self.check_state("CLOSED")
        await self._place(call)
        self.state, self.merged_into = "ACTIVE", ""

    def _check_deputies(self) -> None:
        if len(self.deputies) > MOST_DEPUTIES:
            raise Validation(
                Violation(
                    "department.deputies", "TOO_MANY", f"最多 {MOST_DEPUTIES} 个", f"At most {MOST_DEPUTIES}."
                )
            )

    async def _check_segment(self, before: str, after: str, call: Call) -> None:
        """From one segment to another, or into one or out of one, only head office hangs departments."""
        if await _segment(before, call) != await _segment(after, call):
            self._check_restructures(call)

    def _check_restructures(self, call: Call) -> None:
        if not call.caller.is_system and not call.caller.may(RESTRUCTURE):
            raise PermissionDenied("SEGMENT_CROSSING")

    async def _place(self, call: Call) -> int:
        """Checks the place and writes the path; returns the depth."""
        above = await ancestors(self.parent, call)
        if any(department.id == self.id for department in above):
            raise FailedPrecondition("DEPARTMENT_CYCLE")
        if len(above) >= DEEPEST:
            raise FailedPrecondition("DEPARTMENT_TOO_DEEP", limit=DEEPEST)
        if above and above[0].state == "CLOSED":
            raise FailedPrecondition("DEPARTMENT_CLOSED")
        self.path = "/".join(department.display_name for department in [*reversed(above), self])
        return len(above) + 1

    async def _place_children(self, call: Call, depth: int) -> None:
        for child in list(await call.db.scalars(select(Department).where(Department.parent == self.name))):
            if depth >= DEEPEST:
                raise FailedPrecondition("DEPARTMENT_TOO_DEEP", limit=DEEPEST)
            child.path = f"{self.path}/{child.display_name}"
            await child._place_children(call, depth + 1)

    async def _check_empty(self, call: Call) -> None:
        from workspace.model.employee import Employee

        people = select(func.count()).where(
            (Employee.department == self.name) | (Employee.posts.contains([self.name])),
            Employee.state != "OFFBOARDED",
        )
        children = select(func.count()).where(Department.parent == self.name, Department.state == "ACTIVE")
        counts = {"people": await call.db.scalar(people), "departments": await call.db.scalar(children)}
        if any(counts.values()):
            raise FailedPrecondition("DEPARTMENT_NOT_EMPTY", **counts)


async def ancestors(name: str, call: Call) -> list[Department]:
    """The department of the name and all above it, nearest first."""
    found: list[Department] = []
    while name and len(found) <= DEEPEST:
        above = await call.named(Department, name)
        if above is None:
            break
        found.append(above)
        name = above.parent
    return found


async def _segment(name: str, call: Call) -> str:
    """The nearest segment at or above the department, as the table has it."""
    return next((one.name for one in await ancestors(name, call) if one.kind == "SEGMENT"), "")


class DepartmentVersion(Base):
    """A department as it was from a time on: reports of the past show the tree of the past."""

    __tablename__ = "department_versions"

    department: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    deleted: Mapped[bool] = mapped_column(Boolean)

    @classmethod
    async def keep(cls, name: str, version: int, told: dict[str, Any], time: datetime, call: Call) -> None:
        """Writes what a fact says, once."""
        values = {
            "department": name,
            "version": version,
            "time": time,
            "payload": told.get("resource", {}),
            "deleted": told["action"] == "DELETED",
        }
        await call.db.execute(insert(cls).values(values).on_conflict_do_nothing())


async def tree_at(time: datetime, call: Call) -> list[pb.Department]:
    """The departments that there were, as they were."""
    last = (
        select(DepartmentVersion)
        .where(DepartmentVersion.time <= time)
        .ext(distinct_on(DepartmentVersion.department))
        .order_by(DepartmentVersion.department, DepartmentVersion.version.desc())
    )
    found = [
        json_format.ParseDict(row.payload, pb.Department(), ignore_unknown_fields=True)
        for row in await call.db.scalars(last)
        if not row.deleted
    ]
    return sorted(found, key=lambda department: department.path)
