"""Tables of the marketing service."""

from crmkit.columns import COLUMN_TYPES
from crmkit.resource import service_metadata
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of the marketing service's tables."""

    metadata = service_metadata()
    type_annotation_map = COLUMN_TYPES
