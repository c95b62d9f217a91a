"""The fields of a resource as columns of a table: what may be brought in, and cells as field values of a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast
from unicodedata import normalize

from crm.options.v1 import options_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from crmkit.catalog import type_of
from crmkit.convert import Amount, Refused, Target, convert
from crmkit.customfields import Definition, read_definitions
from crmkit.describe import COMMON, Described, Field
from crmkit.errors import CHINESE, ENGLISH, Problem
from crmkit.listing import ZONE
from crmkit.mapping import to_date
from crmkit.options import option

CURRENCY = "CNY"
MAX_ITEM = 300
# What a cell means for a field of nested messages.
_TEXT_OF = {
    "crm.common.v1.Phone": "number",
    "crm.common.v1.Email": "address",
    "crm.common.v1.Address": "line",
}
_CUSTOM: Mapping[str, Any] = {
    "NUMBER": "decimal", "PERCENT": "decimal", "INSTANT": "time", "MONEY": "money",
    "BOOL": "bool", "DATE": "date", "CHOICE": "enum", "MULTI_CHOICE": "enum",
}  # fmt: skip

Config = Callable[[str], Any]


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a cell or, without a column, with a line."""

    line: int
    column: str
    reason: str
    zh: str
    en: str

    @classmethod
    def of(cls, line: int, column: str, refused: Problem, area: str = "") -> RowProblem:
        """What was refused, as the area says it."""
        return cls(line, column, refused.reason, refused.text(CHINESE, area), refused.text(ENGLISH, area))


@dataclass(frozen=True)
class Column:
    """A field that a column may fill. `dictionary` has the choices of its live dictionary by key.

    `references` is the type of the records that cells name.
    """

    target: Target
    field: Field | None
    dictionary: Mapping[str, tuple[str, str]] | None = None
    references: str = ""
    # What may stand behind the number of a cell: "%".
    unit: str = ""

    @property
    def path(self) -> str:
        """Path of the field, such as "phones" or "custom.region"."""
        return self.target.name

    def read(self, text: str) -> Any:
        """The value of a cell, None where it is blank, or Refused."""
        if self.unit:
            text = normalize("NFKC", text).strip().removesuffix(self.unit)
        found = convert(text, self.target, zone=ZONE, currency=CURRENCY)
        if isinstance(found, Refused):
            return found
        value: Any = found.value
        if self.dictionary and isinstance(value, str):
            return self._choice(value)
        return None if value in (None, []) else value

    def _choice(self, value: str) -> str | Refused:
        assert self.dictionary is not None
        wanted = normalize("NFC", value).casefold()
        for key, labels in self.dictionary.items():
            if wanted in (key.casefold(), *(label.casefold() for label in labels if label)):
                return key
        return Refused(
            "UNKNOWN_CHOICE", f"“{value[:40]}”不在字典中", f'"{value[:40]}" is not in the dictionary'
        )

    def write(self, message: Message, value: Any) -> None:
        """Sets the field of the message."""
        name = self.path
        if self.field is None:
            message.custom.update({name.partition(".")[2]: plain_custom(value)})  # type: ignore[attr-defined]
            return
        match self.field.kind:
            case "enum":
                setattr(message, name, self.field.enum_numbers[value])
            case "enums":
                getattr(message, name).extend(self.field.enum_numbers[item] for item in value)
            case "texts" | "references":
                getattr(message, name).extend(value)
            case "messages":
                inner = _text_field(self.field)
                for item in value:
                    getattr(message, name).add(**{inner: item})
            case "message":
                setattr(getattr(message, name), _text_field(self.field), value)
            case "money":
                getattr(message, name).currency_code, getattr(message, name).amount = (
                    value.currency_code, str(value.amount),
                )  # fmt: skip
            case "date":
                getattr(message, name).CopyFrom(to_date(value))
            case "time":
                getattr(message, name).FromDatetime(value.astimezone(UTC).replace(tzinfo=None))
            case "decimal":
                setattr(message, name, format(value, "f"))
            case "float":
                setattr(message, name, float(value))
            case _:
                setattr(message, name, value)


def columns(described: Described, config: Config) -> dict[str, Column]:
    """Every field of a resource that a table may fill, by path."""
    found: dict[str, Column] = {}
    for field in described.fields.values():
        if (
            field.output_only
            or field.rule.secret
            or field.name == "name"
            or (field.name in COMMON and field.name != "owner")
        ):
            continue
        column = _column(field, config)
        if column is not None:
            found[field.name] = column
    entry = config(f"customField.{described.collection}")
    for definition in read_definitions(described.collection, entry).values():
        fillable = not (definition.retired or definition.hidden) and definition.kind != "FORMULA"
        if fillable and definition.references != "files":
            found[definition.path] = custom_column(definition, config)
    return found


def custom_column(definition: Definition, config: Config) -> Column:
    """A custom field as column."""
    kind, choices = _CUSTOM.get(definition.kind, "text"), dict(definition.choices)
    if definition.dictionary:
        choices = _entries(definition.dictionary, config)
    target = Target(
        definition.path, kind if kind != "enum" or choices else "text", *definition.label,
        definition.kind == "MULTI_CHOICE", choices, definition.max_length,
    )  # fmt: skip
    references = type_of(definition.references) if definition.references else ""
    unit = "%" if definition.kind == "PERCENT" else ""
    return Column(target, None, references=references, unit=unit)


def prefixed(found: Mapping[str, Column], prefix: str, zh: str, en: str) -> dict[str, Target]:
    """The targets of columns of a second record in the row, such as "contact.title"."""
    return {
        f"{prefix}.{path}": replace(
            column.target,
            name=f"{prefix}.{path}",
            label_zh=zh + column.target.label_zh,
            label_en=f"{en} {column.target.label_en}",
        )
        for path, column in found.items()
    }


def _column(field: Field, config: Config) -> Column | None:
    label = field.rule.label
    kinds: dict[str, Any] = {
        "text": "text", "reference": "text", "texts": "text", "references": "text", "messages": "text", "message": "text",
        "int": "int", "float": "decimal", "decimal": "decimal", "bool": "bool", "date": "date", "time": "time",
        "money": "money", "enum": "enum", "enums": "enum",
    }  # fmt: skip
    if field.kind not in kinds or (field.kind in ("message", "messages") and not _text_field(field)):
        return None
    repeated = field.kind in ("texts", "references", "enums", "messages")
    choices: dict[str, tuple[str, str]] = {}
    if field.kind in ("enum", "enums"):
        for value in cast("EnumDescriptor", field.descriptor.enum_type).values:
            if value.number:
                text = option(value, options_pb2.text)
                choices[value.name] = (text.zh, text.en)
    target = Target(
        field.name, kinds[field.kind], label.zh, label.en, repeated, choices,
        MAX_ITEM if field.kind in ("messages", "message") else field.max_length,
    )  # fmt: skip
    return Column(target, field, _dictionary(field, config), field.references)


def _dictionary(field: Field, config: Config) -> dict[str, tuple[str, str]] | None:
    """The choices of the field's live dictionary; None where there is none."""
    return _entries(field.rule.dictionary, config) if field.rule.dictionary else None


def _entries(dictionary: str, config: Config) -> dict[str, tuple[str, str]]:
    found: dict[str, Any] = config(f"dictionary.{dictionary}") or {}
    all_entries: list[dict[str, Any]] = found.get("entries", [])
    entries = [entry for entry in all_entries if not entry.get("retired")]
    labels: dict[str, dict[str, str]] = {entry["key"]: entry.get("label") or {} for entry in entries}
    return {key: (label.get("zh", ""), label.get("en", "")) for key, label in labels.items()}


def _text_field(field: Field) -> str:
    """The field of the nested message that one cell fills; empty where there is none."""
    message = cast("Descriptor", field.descriptor.message_type)
    return _TEXT_OF.get(message.full_name, "text" if "text" in message.fields_by_name else "")


def plain_custom(value: Any) -> Any:
    """A cell's value as records keep it in `custom`."""
    match value:
        case Decimal():
            number = float(value)
            # A text keeps the digits that a number of JSON has no room for.
            return number if Decimal(repr(number)) == value else format(value, "f")
        case date() | datetime():
            return value.isoformat()
        case Amount():
            return {"currencyCode": value.currency_code, "amount": format(value.amount, "f")}
        case _:
            return value


def read_row(
    line: int, cells: Mapping[str, str], mapped: Sequence[tuple[str, Column, Mapping[str, str]]]
) -> tuple[dict[str, Any], list[RowProblem]]:
    """The values of a line by path, and what is wrong with it. `mapped` has header, column and replacements."""
    values: dict[str, Any] = {}
    problems: list[RowProblem] = []
    for header, column, replacements in mapped:
        text = cells.get(header, "")
        text = replacements.get(text.strip(), text) if replacements else text
        value = column.read(text)
        if isinstance(value, Refused):
            problems.append(RowProblem(line, header, value.reason, value.detail_zh, value.detail_en))
        elif value is not None:
            values[column.path] = value
    return values, problems


def violations(
    line: int, headers: Mapping[str, str], found: Iterable[Any], prefix: str = ""
) -> list[RowProblem]:
    """Violations of a record as problems of the columns that fill its fields."""
    problems: list[RowProblem] = []
    for violation in found:
        path = violation.field.partition(".")[2] if "." in violation.field else violation.field
        name = path if path.startswith("custom.") else path.partition(".")[0].partition("[")[0]
        header = headers.get(prefix + name, "")
        problems.append(RowProblem(line, header, violation.reason, violation.zh, violation.en))
    return problems
