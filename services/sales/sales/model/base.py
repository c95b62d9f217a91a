"""Tables of the sales service."""

from collections.abc import Collection
from typing import Any, TypeVar
from uuid import UUID

from crmkit.call import Call
from crmkit.columns import COLUMN_TYPES
from crmkit.resource import Resource, service_metadata
from sqlalchemy import inspect, select
from sqlalchemy.orm import DeclarativeBase

# Changes that leave the content of a record alone, so that a closed one takes them too.
HANDOVER = frozenset(["owner", "department", "collaborators"])


R = TypeVar("R", bound=Resource)


class Base(DeclarativeBase):
    """Base of the sales service's tables."""

    metadata = service_metadata()
    type_annotation_map = COLUMN_TYPES


async def held(model: type[R], keys: Collection[UUID], call: Call) -> list[R]:
    """The rows of these keys. What somebody in the call holds already is not read again."""
    known = call.db.sync_session.identity_map
    there = [known.get(inspect(model).identity_key_from_primary_key((key,))) for key in keys]
    rows: list[Any] = [row for row in there if row is not None and not inspect(row).expired]
    missing = set(keys) - {row.id for row in rows}
    if missing:
        # `id` is the primary key of every resource.
        column: Any = getattr(model, "id")  # noqa: B009
        rows += await call.db.scalars(select(model).where(column.in_(missing)))
    return rows


def coming_from(before: str) -> dict[str, Any]:
    """The field `from` of a fact, which as a word of the language cannot be a keyword argument."""
    return {"from": before}
