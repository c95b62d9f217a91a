"""Documents in versions: a new one is a draft, and all versions of one share their root."""

from collections.abc import Iterable
from typing import Any, TypeVar

from crmkit.call import Call
from crmkit.resource import Resource
from sales.model.base import one_at_a_time
from sqlalchemy import func, select

V = TypeVar("V", bound=Resource)


def begin(row: Any) -> None:
    """Makes a new record the first of its versions, unless it follows another."""
    if not row.root:
        row.root, row.version_number = row.name, 1


async def next_version(row: V, copied: Iterable[str], call: Call) -> V:
    """A draft like this version in the copied fields, numbered after the last one there is."""
    before: Any = row
    model: Any = type(row)
    await one_at_a_time(call, [before.root])
    last = await call.db.scalar(select(func.max(model.version_number)).where(model.root == before.root))
    kept = {name: getattr(row, name) for name in copied}
    return await call.add(model(**kept, root=before.root, version_number=(last or 0) + 1))
