"""Rows to messages and back, by field name.

One `Mapper` per resource, compiled at start: attribute = proto field = JSON key. A field without an attribute
fails there, not in a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, Protocol, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from sqlalchemy import Column
from sqlalchemy.orm import InstrumentedAttribute

from crmkit.catalog import codec
from crmkit.describe import COMMON, Described, Field, describe_field
from crmkit.errors import Validation, Violation, required
from crmkit.fieldlevels import Levels, conceal, together
from crmkit.options import has_option
from crmkit.resource import Resource
from crmkit.text import clean_name, reject_bad_text
from crmkit.values import Money, decimal

if TYPE_CHECKING:
    from crmkit.customfields import CustomFields, Definition

WRITABLE_COMMON = frozenset(["owner", "department", "collaborators", "custom"])
MAX_ITEMS = 1000


class Reader(Protocol):
    """Who reads a message: a caller, or nobody in particular."""

    @property
    def custom(self) -> CustomFields | None:
        """The fields that administrators have defined; None where nothing is known of them."""
        ...

    def may(self, permission: str) -> bool:
        """Whether what the permission guards is read."""
        ...

    def fields(self, collection: str) -> Levels:
        """What is taken from single fields of the collection."""
        ...

    @property
    def is_system(self) -> bool:
        """True for services, which are told everything of other records."""
        ...


class Mapper:
    """Turns rows of one model into messages and takes messages into rows."""

    def __init__(self, model: type[Resource]) -> None:
        self.model = model
        self.described: Described = model.described
        self._class: type[Message] = model.__message__
        for name in self.described.fields:
            if not hasattr(model, name):
                raise TypeError(
                    f"{model.__name__} has no attribute for {self.described.message.full_name}.{name}"
                )
            if self.described.fields[name].rule.secret and name in model.__table__.c:
                raise TypeError(
                    f"{model.__name__}.{name} is a secret and no column: seal it, or keep its hash"
                )
        self._writers: list[tuple[str, Callable[[Message, str, Any], None]]] = [
            (field.name, _WRITERS[field.kind](field)) for field in self.described.fields.values()
        ]
        # What a row has under its own name, and nothing reckons.
        self._stored = {
            name
            for name in self.described.fields
            if isinstance(getattr_static(model, name), InstrumentedAttribute)
        }
        self.columns, self._takes = _record_plan(model)
        self._withholds = model.withhold.__func__ is not Resource.withhold.__func__
        self.guarded = {
            field.name: field.rule.read_permission
            for field in self.described.fields.values()
            if field.rule.read_permission
        }
        # Lists whose entries each name the permission that their reader needs.
        self.by_entry = [
            field.name for field in self.described.fields.values() if field.rule.entry_permission
        ]

    def message(self, row: Resource, reader: Reader | None = None, whole: Message | None = None) -> Message:
        """The row as message; fields whose read permission the reader lacks are left out.

        `whole` is the row's message with all fields, where that is made already.
        """
        message = self._class()
        if whole is not None:
            message.CopyFrom(whole)
        else:
            for name, write in self._writers:
                value = getattr(row, name)
                if value or isinstance(value, Money | Decimal):
                    write(message, name, value)
        if reader is not None:
            self._hide(message, reader)
        return message

    def messages(self, rows: Sequence[Resource]) -> Iterator[bytes]:
        """The rows as the bytes of their messages; what is the same in all of them is written once."""
        states = [row.__dict__ for row in rows]
        same, differing = self._class(), list[tuple[str, Writer]]()
        for name, write in self._writers:
            value = states[0].get(name, _UNKNOWN) if name in self._stored else _UNKNOWN
            if value is _UNKNOWN or [state.get(name, _UNKNOWN) for state in states].count(value) < len(rows):
                differing.append((name, write))
            elif value or isinstance(value, Money | Decimal):
                write(same, name, value)
        common = same.SerializeToString()
        for row in rows:
            message = self._class()
            for name, write in differing:
                value = getattr(row, name)
                if value or isinstance(value, Money | Decimal):
                    write(message, name, value)
            # Messages that stand behind each other are read as one with the fields of both.
            yield common + message.SerializeToString()

    def _hide(self, message: Message, reader: Reader) -> None:
        """Takes out what the reader may not read."""
        may = reader.may
        if reader.custom is not None and message.HasField("custom"):
            hide_custom(message, reader.custom.of(self.described.collection), may)
        for name, permission in self.guarded.items():
            if not may(permission):
                message.ClearField(name)
        for name in self.by_entry:
            entries: Any = getattr(message, name)
            for index in reversed(range(len(entries))):
                if not may(entries[index].permission):
                    del entries[index]
        if levels := levels_of(self.model, reader):
            conceal(message, levels)
        if self._withholds and not reader.is_system:
            self.model.withhold(message, reader)

    def record_message(
        self, record: Sequence[Any], reader: Reader | None = None, into: Message | None = None
    ) -> Message:
        """The message of a record of `columns`, without a row in between: for reading alone."""
        message = self._class() if into is None else into
        for name, write, first, second in self._takes:
            value = record[first]
            if second is not None:
                if value is not None:
                    write(message, name, Money(value, record[second]))
            elif value or isinstance(value, Decimal):
                write(message, name, value)
        if reader is not None:
            self._hide(message, reader)
        return message

    def sets_apart(self, custom: CustomFields) -> bool:
        """Whether there is anything that only some may read."""
        return bool(self.guarded) or any(one.roles for one in custom.of(self.described.collection).values())

    def set_apart(self, changed: dict[str, Any], custom: CustomFields) -> None:
        """Moves what only some may read out of a change fact's objects into parts, one for each permission."""
        for name, permission in self.guarded.items():
            key = self.described.fields[name].json_name
            for where in ("before", "after", "resource"):
                if key in changed.get(where, {}):
                    _part(changed, permission).setdefault(where, {})[key] = changed[where].pop(key)
        for key, definition in custom.of(self.described.collection).items():
            for where in ("before", "after", "resource") if definition.roles else ():
                values: dict[str, Any] = changed.get(where, {}).get("custom") or {}
                if key in values:
                    part = _part(changed, definition.permission).setdefault(where, {})
                    part.setdefault("custom", {})[key] = values[key]
                    # The resource and what it is after the change share their objects.
                    changed[where]["custom"] = {k: value for k, value in values.items() if k != key}

    def value_json(self, name: str, value: Any) -> Any:
        """One field's value as JSON value, for the before and after of change facts."""
        message = self._class()
        if value or isinstance(value, Money | Decimal):
            dict(self._writers)[name](message, name, value)
        told = codec().to_json(message.DESCRIPTOR.full_name, message.SerializeToString())
        return json.loads(told).get(self.described.fields[name].json_name)

    def assign(
        self, row: Resource, message: Message, names: Collection[str], new: bool, prefix: str
    ) -> frozenset[str]:
        """Sets the named fields of the row from the message; Validation lists everything that is wrong.

        Returns the fields whose value really changed. Output-only fields are ignored, as AIP-203 says; changing
        an immutable one is refused.
        """
        violations: list[Violation] = []
        changed: set[str] = set()
        for name in names:
            field = self.described.fields[name]
            if name == "name" or field.output_only or (name in COMMON and name not in WRITABLE_COMMON):
                continue
            path = f"{prefix}.{name}" if prefix else name
            wrong = len(violations)
            value = _read(field, message, path, violations)
            if field.required and _absent(value) and len(violations) == wrong:
                violations.append(required(path))
            if len(violations) > wrong:
                continue
            if value != getattr(row, name):
                if field.immutable and not new:
                    violations.append(
                        Violation(
                            path, "IMMUTABLE", "创建后不能修改", "This cannot be changed after creation."
                        )
                    )
                    continue
                setattr(row, name, value)
                changed.add(name)
        if violations:
            raise Validation(*violations)
        return frozenset(changed)


def levels_of(model: type[Resource], reader: Reader) -> Levels:
    """What is taken from the fields of the model's records; of a copy also what is taken from its original."""
    own = reader.fields(model.described.collection)
    if not model.copies:
        return own
    of_original = reader.fields(model.copies)
    return together([own, {name: one for name, one in of_original.items() if name in model.described.fields}])


def _part(changed: dict[str, Any], permission: str) -> dict[str, Any]:
    """The part of a change fact for readers with the permission."""
    parts: list[dict[str, Any]] = changed.setdefault("guarded", [])
    part = next((part for part in parts if part["permission"] == permission), None)
    if part is None:
        parts.append(part := {"permission": permission})
    return part


def hide_custom(message: Any, fields: Mapping[str, Definition], may: Callable[[str], bool]) -> None:
    """Takes the custom fields out of a message that the reader may not read."""
    for key, definition in fields.items():
        if key in message.custom and not may(definition.permission):
            del message.custom[key]


def check_message(message: Message, prefix: str = "") -> None:
    """Required fields, lengths and texts of a request message that is no resource; Validation where wrong."""
    violations: list[Violation] = []
    _check_nested(message, prefix, violations, skip_resources=True)
    if violations:
        raise Validation(*violations)


@cache
def mapper(model: type[Resource]) -> Mapper:
    """The mapper of a model, compiled once."""
    return Mapper(model)


def to_timestamp(value: datetime) -> Timestamp:
    """An instant as message."""
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def to_date(value: date) -> Date:
    """A day as message."""
    return Date(year=value.year, month=value.month, day=value.day)


def read_date(message: Date) -> date | None:
    """The day of a message; None where it is empty; ValueError where there is no such day."""
    if not (message.year or message.month or message.day):
        return None
    return date(message.year, message.month, message.day)


def told_date(told: Mapping[str, int] | None) -> date | None:
    """The day of a message's JSON, as facts and copies have it; None where it is absent or empty."""
    return date(told["year"], told["month"], told["day"]) if told and told.get("year") else None


def to_struct(value: dict[str, Any]) -> Struct:
    """A JSON object as message."""
    struct = Struct()
    struct.update(value)
    return struct


Writer = Callable[[Message, str, Any], None]

_UNKNOWN = object()

Take = tuple[str, Writer, int, int | None]


def _record_plan(model: type[Resource]) -> tuple[list[Column[Any]], list[Take]]:
    """The columns that a message is made of and how; no columns where a field is a property of the model."""
    table = model.__table__
    columns: list[Column[Any]] = []
    takes: list[Take] = []
    for field in model.described.fields.values():
        write = _WRITERS[field.kind](field)
        if field.name in _DERIVED:
            columns.append(table.c[_DERIVED[field.name][0]])
            takes.append((field.name, _derived(model, field.name), len(columns) - 1, None))
        elif field.kind == "money" and f"{field.name}_amount" in table.c:
            columns += [table.c[f"{field.name}_amount"], table.c[f"{field.name}_currency"]]
            takes.append((field.name, write, len(columns) - 2, len(columns) - 1))
        elif field.name in table.c:
            columns.append(table.c[field.name])
            takes.append((field.name, write, len(columns) - 1, None))
        elif field.name != "delete_time":
            return [], []
    return columns, takes


_DERIVED: dict[str, tuple[str, Callable[[str], Callable[[Any], str]]]] = {
    "name": ("id", lambda collection: lambda value: f"{collection}/{value}"),
    "etag": ("version", lambda _: str),
}


def _derived(model: type[Resource], name: str) -> Writer:
    make = _DERIVED[name][1](model.described.collection)
    return lambda message, name, value: setattr(message, name, make(value))


def _set(message: Message, name: str, value: Any) -> None:
    setattr(message, name, value)


def _copy(message: Message, name: str, value: Any) -> None:
    getattr(message, name).CopyFrom(value)


def _extend(message: Message, name: str, value: Any) -> None:
    getattr(message, name).extend(value)


def _enum_writer(field: Field) -> Writer:
    numbers = field.enum_numbers
    return lambda message, name, value: setattr(message, name, numbers[value])


def _enums_writer(field: Field) -> Writer:
    numbers = field.enum_numbers
    return lambda message, name, value: getattr(message, name).extend(numbers[item] for item in value)


_WRITERS: dict[str, Callable[[Field], Writer]] = {
    **dict.fromkeys(["text", "reference", "int", "float", "bool"], lambda _: _set),
    **dict.fromkeys(["texts", "references", "messages"], lambda _: _extend),
    "message": lambda _: _copy,
    "decimal": lambda _: lambda message, name, value: setattr(message, name, f"{value.normalize():f}"),
    "enum": _enum_writer,
    "enums": _enums_writer,
    "time": lambda _: lambda message, name, value: getattr(message, name).FromDatetime(value),
    "date": lambda _: lambda message, name, value: getattr(message, name).CopyFrom(to_date(value)),
    "money": lambda _: lambda message, name, value: getattr(message, name).CopyFrom(value.message()),
    "struct": lambda _: lambda message, name, value: getattr(message, name).update(value),
}


def read(fields: Iterable[Field], message: Message) -> dict[str, Any]:
    """The fields' values as a row would keep them; Validation where one is wrong."""
    violations: list[Violation] = []
    values = {field.name: _read(field, message, field.name, violations) for field in fields}
    if violations:
        raise Validation(*violations)
    return values


def _read(field: Field, message: Message, path: str, violations: list[Violation]) -> Any:
    """The field's value as the row keeps it; what is wrong goes to `violations`."""
    value: Any = getattr(message, field.name)
    match field.kind:
        case "text" | "reference":
            # Bytes are a file's, and no text.
            return value if isinstance(value, bytes) else _text(field, value, path, violations)
        case "texts" | "references":
            items = [_text(field, item, f"{path}[{i}]", violations) for i, item in enumerate(value)]
            for i, item in enumerate(items if field.rule.decimal else ()):
                _decimal(field, item, f"{path}[{i}]", violations)
            return list(dict.fromkeys(items)) if _few(items, path, violations) else []
        case "decimal":
            return _decimal(field, value, path, violations) if value else None
        case "enum":
            return _enum(field, value, path, violations)
        case "enums":
            return list(dict.fromkeys(_enum(field, item, path, violations) for item in value))
        case "time":
            return _time(value, path, violations) if message.HasField(field.name) else None
        case "date":
            try:
                return read_date(value)
            except ValueError:
                violations.append(Violation(path, "BAD_DATE", "不是有效日期", "There is no such day."))
                return None
        case "money":
            return _money(field, value, path, violations)
        case "struct":
            found = json_format.MessageToDict(value)
            _check_json(found, path, violations)
            return found
        case "message":
            if not message.HasField(field.name):
                return None
            _check_nested(value, path, violations)
            return value
        case "messages":
            if _few(value, path, violations):
                for i, item in enumerate(value):
                    _check_nested(item, f"{path}[{i}]", violations)
            return list(value)
        case "int" | "float":
            _check_minimum(field, Decimal(str(value)), path, violations)
            return value
        case _:
            return value


def _text(field: Field, value: str, path: str, violations: list[Violation]) -> str:
    if len(value) > field.max_length:
        limit = field.max_length
        violations.append(
            Violation(path, "TOO_LONG", f"不能超过 {limit} 个字符", f"At most {limit} characters.")
        )
    if not _check_text(value, path, violations):
        return value
    return clean_name(value) if field.name.endswith("name") else value


def _check_text(value: str, path: str, violations: list[Violation]) -> bool:
    try:
        reject_bad_text(value)
    except ValueError:
        violations.append(
            Violation(
                path,
                "TEXT_CONTROL_CHARACTER",
                "包含不允许的字符",
                "The text has characters that are not allowed.",
            )
        )
        return False
    return True


def _check_json(value: Any, path: str, violations: list[Violation]) -> None:
    """Refuses keys and texts within a JSON value that a text field would not take either."""
    if isinstance(value, str):
        _check_text(value, path, violations)
    elif isinstance(value, list):
        for i, item in enumerate(cast("list[Any]", value)):
            _check_json(item, f"{path}[{i}]", violations)
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            _check_text(key, path, violations)
            _check_json(item, f"{path}.{key}", violations)


def _decimal(field: Field, value: str, path: str, violations: list[Violation]) -> Decimal | None:
    try:
        number = decimal(value)
        if abs(number) >= Decimal(10) ** 14 or int(number.as_tuple().exponent) < -6:
            raise ValueError
    except ValueError:
        violations.append(Violation(path, "NOT_A_NUMBER", "不是有效数字", "This is no number."))
        return None
    _check_minimum(field, number, path, violations)
    return number


def _money(field: Field, value: Any, path: str, violations: list[Violation]) -> Money | None:
    try:
        money = Money.parse(value)
    except ValueError as error:
        zh, en = _MONEY_TEXTS[str(error)]
        violations.append(Violation(path, str(error), zh, en))
        return None
    if money is not None:
        _check_minimum(field, money.amount, path, violations)
    return money


_MONEY_TEXTS = {
    "NOT_A_NUMBER": ("不是有效金额", "This is no amount."),
    "CURRENCY_UNKNOWN": (
        "没有这个币种，请用 ISO 4217 代码",
        "There is no such currency. Use a code of ISO 4217.",
    ),
    "TOO_MANY_PLACES": ("小数位数超过该币种允许的位数", "The amount has more places than its currency."),
}


def _check_minimum(field: Field, value: Decimal, path: str, violations: list[Violation]) -> None:
    if field.minimum is not None and value < field.minimum:
        least = field.rule.minimum
        violations.append(Violation(path, "TOO_SMALL", f"不能小于 {least}", f"At least {least}."))


def _enum(field: Field, value: int, path: str, violations: list[Violation]) -> str:
    name = field.enum_names.get(value)
    if name is None:
        violations.append(Violation(path, "UNKNOWN_VALUE", "没有这个选项", "There is no such choice."))
        return ""
    return name


def _time(value: Timestamp, path: str, violations: list[Violation]) -> datetime | None:
    try:
        moment = value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        violations.append(Violation(path, "BAD_TIME", "不是有效时间", "There is no such time."))
        return None
    return moment


def _few(items: Collection[Any], path: str, violations: list[Violation]) -> bool:
    if len(items) > MAX_ITEMS:
        violations.append(
            Violation(path, "TOO_MANY", f"不能超过 {MAX_ITEMS} 项", f"At most {MAX_ITEMS} entries.")
        )
        return False
    return True


@cache
def nested_fields(descriptor: Descriptor) -> tuple[Field, ...]:
    """The fields of a request or of a message within a record; not those of kinds that records do not have."""
    return tuple(
        describe_field(field)
        for field in descriptor.fields
        if not (field.message_type is not None and field.message_type.GetOptions().map_entry)
        and (
            field.message_type is not None or field.enum_type is not None or field.cpp_type in (1, 5, 6, 7, 9)
        )
    )


def _check_nested(
    message: Message, prefix: str, violations: list[Violation], skip_resources: bool = False
) -> None:
    from crm.options.v1 import options_pb2

    if message.DESCRIPTOR.full_name.startswith("google."):
        return
    for field in nested_fields(message.DESCRIPTOR):
        path = f"{prefix}.{field.name}" if prefix else field.name
        inner = field.descriptor.message_type
        if skip_resources and inner is not None and has_option(inner, options_pb2.resource):
            if field.required and not field.descriptor.is_repeated and not message.HasField(field.name):
                violations.append(required(path))
            continue
        if skip_resources and field.name == "requests":
            continue
        wrong = len(violations)
        value = _read(field, message, path, violations)
        if field.kind == "text" and isinstance(value, str) and value != getattr(message, field.name):
            setattr(message, field.name, value)  # a name within a line is a name too
        if field.required and _absent(value) and len(violations) == wrong:
            violations.append(required(path))


def _absent(value: Any) -> bool:
    """Whether nothing was said: a zero that was said is something."""
    return not value and not isinstance(value, Decimal | Money)


def references(message: Message, names: Iterable[str] | None = None) -> list[tuple[str, str, str]]:
    """Every reference in the message, nested ones too: path, name, type referred to."""
    found: list[tuple[str, str, str]] = []
    for field in nested_fields(message.DESCRIPTOR):
        if names is not None and field.name not in names:
            continue
        value: Any = getattr(message, field.name)
        if field.kind == "reference" and value:
            found.append((field.name, value, field.references))
        elif field.kind == "references":
            found.extend((f"{field.name}[{i}]", item, field.references) for i, item in enumerate(value))
        elif field.kind == "message" and message.HasField(field.name):
            found.extend((f"{field.name}.{path}", name, kind) for path, name, kind in references(value))
        elif field.kind == "messages":
            for i, item in enumerate(value):
                found.extend(
                    (f"{field.name}[{i}].{path}", name, kind) for path, name, kind in references(item)
                )
    return found
