"""Column types and columns of declared fields."""

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from sqlalchemy import Boolean, Date, DateTime, Double, Integer, Numeric, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import composite, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from crmkit.catalog import codec
from crmkit.describe import Field
from crmkit.json import InvalidMessage
from crmkit.values import Money


class MessageColumn(TypeDecorator[Any]):
    """A nested message, or a list of them, as JSONB. Replace the value to change it; do not edit in place."""

    impl = JSONB(none_as_null=True)
    cache_ok = True

    def __init__(self, full_name: str, repeated: bool, descriptor: Descriptor) -> None:
        super().__init__()
        self.full_name, self.repeated = full_name, repeated
        self._class = message_factory.GetMessageClass(descriptor)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return [_to_dict(item) for item in value] if self.repeated else _to_dict(value)

    def text_of(self, value: Any) -> str | None:
        """The value as JSON text, for statements that are text."""
        if value is None:
            return None
        items = [_to_text(item) for item in (value if self.repeated else [value])]
        return f"[{','.join(items)}]" if self.repeated else items[0]

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return [self._read(item) for item in value] if self.repeated else self._read(value)

    def compare_values(self, x: Any, y: Any) -> bool:
        return (list(x) if x else x) == (list(y) if y else y) if self.repeated else x == y

    def _read(self, value: dict[str, Any]) -> Message:
        try:
            return self._class.FromString(codec().from_value(self.full_name, value))
        except InvalidMessage:
            # Unknown fields are left out: an older process may meet what a newer one wrote.
            return json_format.ParseDict(value, self._class(), ignore_unknown_fields=True)


def column_of(field: Field) -> Any:
    """The mapped column, or composite, that keeps a declared field."""
    match field.kind:
        case "money":
            return composite(
                _money,
                mapped_column(f"{field.name}_amount", Numeric(20, 4)),
                mapped_column(f"{field.name}_currency", Text),
            )
        case "message":
            return mapped_column(MessageColumn(field.nested.full_name, False, field.nested), nullable=True)
        case "messages":
            return mapped_column(
                MessageColumn(field.nested.full_name, True, field.nested),
                nullable=False,
                server_default=text("'[]'"),
            )
        case "time" | "date" | "decimal":
            return mapped_column(_TYPES[field.kind], nullable=True)
        case kind:
            default = {"int": "0", "float": "0", "bool": "false"}.get(
                kind, "'{}'" if kind in ("texts", "references", "enums", "struct") else "''"
            )
            return mapped_column(_TYPES[kind], nullable=False, server_default=text(default))


def empty_value(field: Field) -> Any:
    """What a field holds where nothing was said."""
    match field.kind:
        case "text" | "reference" | "enum":
            return ""
        case "texts" | "references" | "enums" | "messages":
            return []
        case "int" | "float":
            return 0
        case "bool":
            return False
        case "struct":
            return {}
        case _:
            return None


_TYPES: dict[str, TypeEngine[Any]] = {
    "text": Text(),
    "reference": Text(),
    "enum": Text(),
    "texts": ARRAY(Text()),
    "references": ARRAY(Text()),
    "enums": ARRAY(Text()),
    "int": Integer(),
    "float": Double(),
    "bool": Boolean(),
    "time": DateTime(timezone=True),
    "date": Date(),
    "decimal": Numeric(20, 6),
    "struct": JSONB(),
}
COLUMN_TYPES = {
    str: Text(),
    list[str]: ARRAY(Text()),
    datetime: DateTime(timezone=True),
    date: Date(),
    Decimal: Numeric(20, 6),
    dict[str, Any]: JSONB(),
}


def _money(amount: Decimal | None, currency: str | None) -> Money | None:
    return None if amount is None or currency is None else Money(amount, currency)


def _to_dict(message: Message) -> dict[str, Any]:
    return json.loads(_to_text(message))


def _to_text(message: Message) -> str:
    return codec().to_json(message.DESCRIPTOR.full_name, message.SerializeToString()).decode()
