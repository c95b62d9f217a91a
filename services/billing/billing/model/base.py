"""Tables of the billing service."""

from typing import TypeVar

from crmkit.call import Call
from crmkit.columns import COLUMN_TYPES
from crmkit.resource import Resource, service_metadata
from sqlalchemy.orm import DeclarativeBase

R = TypeVar("R", bound=Resource)


class Base(DeclarativeBase):
    """Base of the billing service's tables."""

    metadata = service_metadata()
    type_annotation_map = COLUMN_TYPES


async def locked(model: type[R], name: str, call: Call) -> R:
    """A row that a document names, whoever may see it: who decides the document decides for all of it."""
    row = await call.named(model, name, lock=True)
    assert row is not None
    return row
