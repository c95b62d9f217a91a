"""Documents in versions: a new one is a draft, and all versions of one share their root."""

from collections.abc import Iterable
from typing import Any, TypeVar

from crmkit.call import Call
from crmkit.resource import Resource
from sqlalchemy import func, select

V = TypeVar("V", bound=Resource)


class DraftOnly(Resource):
    """Only a draft changes or goes: other records name what was in force once."""

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Checks what a draft says now."""
        self.check_state("DRAFT")
        self.check_content()

    async def deleting(self, call: Call) -> None:
        """Leaves what others may name."""
        self.check_state("DRAFT")

    def check_content(self) -> None:
        """Refuses what can never be right; a model says what that is."""


def begin(row: Any) -> None:
    """Makes a new record the first of its versions, unless it follows another."""
    if not row.root:
        row.root, row.version_number = row.name, 1


async def put_in_force(row: V, alike: str, call: Call) -> V | None:
    """Puts a version in force; the one in force with the same value in the field `alike` retires and is returned."""
    model: Any = type(row)
    value = getattr(row, alike)
    await call.one_at_a_time([value])
    before = await call.find(model, getattr(model, alike) == value, model.state == "ACTIVE", lock=True)
    if before is not None:
        before.state = "RETIRED"
        await call.flush()
    changed: Any = row
    changed.state = "ACTIVE"
    return before


async def next_version(row: V, copied: Iterable[str], call: Call) -> V:
    """A draft like this version in the copied fields, numbered after the last one there is."""
    before: Any = row
    model: Any = type(row)
    await call.one_at_a_time([before.root])
    last = await call.db.scalar(select(func.max(model.version_number)).where(model.root == before.root))
    kept = {name: getattr(row, name) for name in copied}
    return await call.add(model(**kept, root=before.root, version_number=(last or 0) + 1))
