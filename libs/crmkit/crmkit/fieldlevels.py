"""What a role takes from a single field of a collection, whatever the other roles of a person give.

    READ_ONLY   it is shown and not changed
    MASKED      a text of which the ends are shown; not changed, filtered, ordered or searched by
    HIDDEN      it is not there at all

The strongest level of all roles of a person counts. Fields are named as filters name them: `amount`, `custom.region`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import Message

from crmkit.errors import Validation, Violation

if TYPE_CHECKING:
    from crmkit.describe import Described, Kind


class FieldLevel(StrEnum):
    """What is taken, the least first."""

    READ_ONLY = "READ_ONLY"
    MASKED = "MASKED"
    HIDDEN = "HIDDEN"


Levels = Mapping[str, FieldLevel]
NONE: Levels = {}
ORDER = list(FieldLevel)
CUSTOM = "custom."
# What only the ends can be shown of.
TEXTS: frozenset[Kind] = frozenset(["text", "texts", "message", "messages"])
SHOWN_ENDS = 3


def together(levels: Sequence[Levels]) -> Levels:
    """The strongest of every field."""
    found: dict[str, FieldLevel] = {}
    for each in levels:
        for name, level in each.items():
            found[name] = max(found.get(name, level), level, key=ORDER.index)
    return found


def concealed(levels: Levels) -> frozenset[str]:
    """The fields of which nothing may be learnt: by no filter, order, sum or search either."""
    return frozenset(name for name, level in levels.items() if level is not FieldLevel.READ_ONLY)


def always_shown(described: Described) -> frozenset[str]:
    """What a record is not without: its names, its version, and what its visibility hangs on."""
    return frozenset(["name", "number", "etag", "owner", "department", "custom", described.title_field])


def mask(text: str) -> str:
    """The ends of a text, so that who knows it knows it again."""
    if len(text) <= SHOWN_ENDS * 2:
        return "*" * len(text)
    return text[:SHOWN_ENDS] + "*" * (len(text) - 2 * SHOWN_ENDS) + text[-SHOWN_ENDS:]


def conceal(message: Any, levels: Levels) -> None:
    """Takes out of a record's message what the levels hide, and masks the rest."""
    for name, level in levels.items():
        if name.startswith(CUSTOM):
            _conceal_custom(message, name.removeprefix(CUSTOM), level)
        elif level is FieldLevel.HIDDEN:
            message.ClearField(name)
        elif level is FieldLevel.MASKED:
            _mask_field(message, name)


def conceal_json(record: Mapping[str, Any], levels: Levels, described: Described) -> dict[str, Any]:
    """The same of a record, or of some of its fields, as JSON. What is no text is left out rather than masked."""
    found = dict(record)
    for name in concealed(levels):
        if name.startswith(CUSTOM):
            key = name.removeprefix(CUSTOM)
            values = cast("dict[str, Any]", found.get("custom") or {})
            if key in values:
                found["custom"] = {k: value for k, value in values.items() if k != key}
            continue
        field = described.fields.get(name)
        json_name = field.json_name if field else name
        value = found.pop(json_name, None)
        if isinstance(value, str) and levels[name] is FieldLevel.MASKED:
            found[json_name] = mask(value)
    return found


def check_unchanged(message: Any, shown: Any, names: Sequence[str], levels: Levels, prefix: str) -> list[str]:
    """Those of the names that may be set. Sending back what one was shown is no change; anything else is refused."""
    violations = [
        read_only(f"{prefix}.{name}")
        for name in names
        if name in levels and getattr(message, name) != getattr(shown, name)
    ]
    if violations:
        raise Validation(*violations)
    return [name for name in names if name not in levels]


def read_only(path: str) -> Violation:
    """The violation of who sets what is not his to set."""
    return Violation(
        path, "FIELD_READ_ONLY", "您的角色不能修改该字段", "Your role may not change this field."
    )


def _mask_field(message: Any, name: str) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    value: Any = getattr(message, name)
    if field.message_type is not None:
        for one in value if field.is_repeated else [value] if message.HasField(name) else []:
            _mask_texts(one)
    elif field.cpp_type != field.CPPTYPE_STRING:
        message.ClearField(name)
    elif field.is_repeated:
        value[:] = [mask(one) for one in value]
    else:
        setattr(message, name, mask(value))


def _mask_texts(message: Message) -> None:
    """Masks every text within; what else stands there is taken out."""
    for field, _ in message.ListFields():
        _mask_field(message, field.name)


def _conceal_custom(message: Any, key: str, level: FieldLevel) -> None:
    if level is FieldLevel.READ_ONLY or key not in message.custom:
        return
    value = message.custom[key]
    if level is FieldLevel.MASKED and isinstance(value, str):
        message.custom[key] = mask(value)
    else:
        del message.custom[key]
