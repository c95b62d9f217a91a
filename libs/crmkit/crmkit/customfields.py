"""Fields that administrators define at run time, checked against their live definitions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, cast

from crmkit.errors import Validation, Violation, required

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.resource import Resource


def check_custom(row: Resource, call: Call) -> None:
    """Validates `custom` by the definitions of the collection; Validation where a value does not fit."""
    entry: dict[str, Any] = call.config(f"customField.{row.described.collection}") or {}
    definitions: list[dict[str, Any]] = entry.get("fields", [])
    if not definitions and not row.custom:
        return
    known = {definition["key"]: definition for definition in definitions}
    violations: list[Violation] = []
    for key, value in row.custom.items():
        path = f"{row.described.singular}.custom.{key}"
        definition = known.get(key)
        if definition is None:
            violations.append(
                Violation(path, "UNKNOWN_FIELD", "没有这个自定义字段", "There is no such custom field.")
            )
        elif value is not None and not _fits(definition, value):
            violations.append(
                Violation(path, "WRONG_TYPE", "值与字段类型不符", "The value does not fit the field.")
            )
    for key, definition in known.items():
        if (
            definition.get("required")
            and not definition.get("retired")
            and row.custom.get(key) in (None, "", [])
        ):
            violations.append(required(f"{row.described.singular}.custom.{key}"))
    if violations:
        raise Validation(*violations)


def _fits(definition: dict[str, Any], value: Any) -> bool:
    choices = {
        choice if isinstance(choice, str) else choice["key"] for choice in definition.get("choices", [])
    }
    match definition["kind"]:
        case "NUMBER" | "MONEY":
            try:
                return not isinstance(value, bool) and Decimal(str(value)).is_finite()
            except InvalidOperation:
                return False
        case "BOOL":
            return isinstance(value, bool)
        case "DATE":
            try:
                return isinstance(value, str) and bool(date.fromisoformat(value))
            except ValueError:
                return False
        case "CHOICE":
            return isinstance(value, str) and (not choices or value in choices)
        case "MULTI_CHOICE":
            return isinstance(value, list) and all(
                isinstance(item, str) and (not choices or item in choices)
                for item in cast("list[Any]", value)
            )
        case _:
            return isinstance(value, str) and len(value) <= int(definition.get("maxLength") or 2000)
