"""A whole organisation taken over from a table: what is to be made, moved and changed, all or nothing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import InvalidArgument, Problem
from crmkit.rpc import problem_of
from sqlalchemy import select

from workspace.model.department import Department
from workspace.model.employee import Employee

LARGEST = 2000
Row = pb.ImportDepartmentsRequest.Row


async def reshape(rows: Sequence[Row], dry_run: bool, call: Call) -> pb.ImportDepartmentsResponse:
    """Brings the tree to what the rows say, parents before children; one bad row keeps all out."""
    if not 0 < len(rows) <= LARGEST:
        raise InvalidArgument("MALFORMED", detail=f"rows 1–{LARGEST}")
    answer = pb.ImportDepartmentsResponse()
    with suppress(_Undone):
        async with call.db.begin_nested():
            await _bring(rows, answer, call)
            if dry_run or answer.problems:
                raise _Undone
            answer.written = True
    if not answer.written:
        call.db.expunge_all()
    return answer


class _Undone(Exception):
    """Takes back what was tried."""


async def _bring(rows: Sequence[Row], answer: pb.ImportDepartmentsResponse, call: Call) -> None:
    table = await _Table.read(rows, call)
    answer.problems.extend(table.wrong(call))
    for index in table.order() if not answer.problems else ():
        try:
            async with call.db.begin_nested():
                for what in await table.take(rows[index], call):
                    setattr(answer, what, getattr(answer, what) + 1)
        except Exception as error:
            answer.problems.append(_problem(index, problem_of(error), call))
            # What hangs beneath would be refused for that alone.
            break


class _Table:
    """The rows, and what the tree has of them."""

    def __init__(
        self, rows: Sequence[Row], known: Mapping[str, Department], people: Mapping[str, str]
    ) -> None:
        self.rows, self.known, self.people = rows, dict(known), people
        # The first of a code counts.
        self.places = {row.code: place for place, row in reversed(list(enumerate(rows)))}

    @classmethod
    async def read(cls, rows: Sequence[Row], call: Call) -> "_Table":
        """With the departments and the people that the rows name."""
        codes = {row.code for row in rows} | {row.parent_code for row in rows}
        usernames = {row.manager_username.strip().lower() for row in rows}
        departments = await call.db.scalars(
            select(Department).where(Department.code.in_(sorted(codes - {""})))
        )
        people = await call.db.scalars(
            select(Employee).where(Employee.username.in_(sorted(usernames - {""})))
        )
        return cls(rows, {one.code: one for one in departments}, {one.username: one.name for one in people})

    def wrong(self, call: Call) -> Iterator[pb.ImportDepartmentsResponse.Problem]:
        """Rows that contradict each other or name what there is not."""
        for place, row in enumerate(self.rows):
            above = row.parent_code
            if self.places[row.code] != place:
                yield _said(call, place, "DUPLICATE", "代码重复", "The code stands in two rows.")
            elif above and above not in self.places and above not in self.known:
                yield _said(call, place, "UNKNOWN_REFERENCE", "没有这个上级部门", "There is no such parent.")
            elif row.manager_username and row.manager_username.strip().lower() not in self.people:
                yield _said(call, place, "UNKNOWN_REFERENCE", "没有这个登录名", "There is no such user name.")
            elif self._turns(row):
                yield _said(
                    call, place, "DEPARTMENT_CYCLE", "部门不能在自己的下级之下", "It hangs beneath itself."
                )

    def _turns(self, row: Row) -> bool:
        seen, above = {row.code}, row.parent_code
        while above in self.places:
            if above in seen:
                return True
            seen.add(above)
            above = self.rows[self.places[above]].parent_code
        return False

    def order(self) -> list[int]:
        """Every row behind that of its parent."""
        return sorted(range(len(self.rows)), key=lambda place: (self._depth(self.rows[place]), place))

    def _depth(self, row: Row) -> int:
        depth = 0
        while row.parent_code in self.places:
            row, depth = self.rows[self.places[row.parent_code]], depth + 1
        return depth

    async def take(self, row: Row, call: Call) -> list[str]:
        """Makes the department, or moves and changes it; says which of these."""
        said = {"display_name": row.display_name, "english_name": row.english_name, "legal_entity": row.legal_entity,
                "kind": pb.Department.Kind.Name(row.kind) if row.kind else "DEPARTMENT"}  # fmt: skip
        if row.manager_username:
            said["manager"] = self.people[row.manager_username.strip().lower()]
        parent = self.known[row.parent_code].name if row.parent_code else ""
        department = self.known.get(row.code)
        if department is None:
            made = await call.add(Department(code=row.code, parent=parent, **said))
            await call.flush()
            self.known[row.code] = made
            return ["created"]
        done: list[str] = []
        changed = frozenset(name for name, value in said.items() if getattr(department, name) != value)
        if changed:
            for name in changed:
                setattr(department, name, said[name])
            await department.updating(call, changed)
            done.append("changed")
        if parent and parent != department.parent:
            await department.move(parent, call)
            done.append("moved")
        await call.flush()
        return done or ["unchanged"]


def _problem(index: int, problem: Problem, call: Call) -> Any:
    first = next(iter(problem.violations), None)
    return pb.ImportDepartmentsResponse.Problem(
        row=index,
        reason=first.reason if first else problem.reason,
        text=problem.text(call.caller.locale, "workspace"),
    )


def _said(call: Call, index: int, reason: str, zh: str, en: str) -> Any:
    return pb.ImportDepartmentsResponse.Problem(row=index, reason=reason, text=call.text(zh, en))
