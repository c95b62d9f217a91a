"""Tables of the workspace service."""

from crmkit.call import Call
from crmkit.columns import COLUMN_TYPES
from crmkit.errors import PermissionDenied
from crmkit.resource import Resource, service_metadata
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of the workspace service's tables."""

    metadata = service_metadata()
    type_annotation_map = COLUMN_TYPES


def check_owner(row: Resource, call: Call) -> None:
    """NOT_THE_OWNER for whoever only reads along."""
    if not call.caller.is_system and call.caller.employee != row.owner:
        raise PermissionDenied("NOT_THE_OWNER")
