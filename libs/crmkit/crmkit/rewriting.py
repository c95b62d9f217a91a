"""One value becomes another one in every record of a service: entries of dictionaries and departments that merge.

A run goes over every place that may hold the value, chunk by chunk, behind the last row of the chunk before; each row
that has it changes like by an update, with its change fact, so that copies and readers of facts follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from sqlalchemy import Text, select
from sqlalchemy import cast as sql_cast

from crmkit.resource import Resource

if TYPE_CHECKING:
    from crmkit.runs import Run

CHUNK = 500


@dataclass(frozen=True)
class Place:
    """A field that may hold the value; `inner` within nested messages, `key` within `custom`."""

    model: type[Resource]
    field: str
    inner: str = ""
    key: str = ""

    def replaced(self, row: Resource, old: str, new: str) -> Any:
        """The field's value with the other one; None where the row does not have the old one."""
        value: Any = getattr(row, self.field)
        if self.key:
            found = _swap(row.custom.get(self.key), old, new)
            return None if found is None else {**row.custom, self.key: found}
        if not self.inner:
            return _swap(value, old, new)
        items = cast("list[Any]", value) if isinstance(value, list) else [value] if value is not None else []
        if all(_swap(getattr(item, self.inner), old, new) is None for item in items):
            return None
        copies = [_rewritten(item, self.inner, old, new) for item in items]
        return copies if isinstance(value, list) else copies[0]


async def rewrite(run: Run, places: Sequence[Place], old: str, new: str) -> None:
    """Gives every record of the places the new value; goes on where it was interrupted."""
    for place in sorted(
        places, key=lambda place: (place.model.__name__, place.field, place.inner, place.key)
    ):
        phase = f"{place.model.__name__}.{place.field}.{place.inner}{place.key}"
        if phase in run.tally.get("ended", ()):
            continue
        model: Any = place.model
        while True:
            async with run.chunk() as call:
                call.packs = "UPDATED"
                if run.phase != phase:
                    run.next_phase(phase)
                    run.tally["after"] = str(UUID(int=0))
                column = model.custom if place.key else getattr(model.__table__.c, place.field)
                if not place.key and isinstance(column.type, Text):
                    holding = column == old
                else:
                    # The text is no more than a sieve, alike for lists and nested messages.
                    holding = sql_cast(column, Text).contains(old, autoescape=True)
                behind = model.id > UUID(run.tally["after"])
                statement = select(model).where(behind, holding).order_by(model.id).limit(CHUNK)
                rows: list[Resource] = list(await call.db.scalars(statement.with_for_update(of=model)))
                for row in rows:
                    value = place.replaced(row, old, new)
                    if value is not None:
                        setattr(row, place.field, value)
                        run.count(changed=1)
                if rows:
                    run.tally["after"] = str(rows[-1].id)
                    run.position += len(rows)
                else:
                    run.tally["ended"] = [*run.tally.get("ended", []), phase]
            if not rows:
                break


def _swap(value: Any, old: str, new: str) -> Any:
    """The text or the list with the other value, once; None where the old one is not there."""
    if isinstance(value, str):
        return new if value == old else None
    items = list(cast("Sequence[str]", value or ()))
    return list(dict.fromkeys(new if item == old else item for item in items)) if old in items else None


def _rewritten(item: Any, inner: str, old: str, new: str) -> Any:
    copy = type(item)()
    copy.CopyFrom(item)
    found = _swap(getattr(item, inner), old, new)
    if isinstance(found, str):
        setattr(copy, inner, found)
    elif found is not None:
        del getattr(copy, inner)[:]
        getattr(copy, inner).extend(found)
    return copy
