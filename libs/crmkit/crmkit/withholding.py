"""What a row tells of another record, for who may not read all of that record.

Rows that carry values of others' records (approvals, the time line, notices, the global search) call these in their
`Resource.withhold`, or before they put values into words. What a reader may not read is what his roles take
(`crmkit.fieldlevels`), what is guarded by a permission that he lacks, and custom fields of other roles.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from crmkit.catalog import resources
from crmkit.fieldlevels import CUSTOM, NONE, FieldLevel, Levels, always_shown, conceal_json, concealed, mask

if TYPE_CHECKING:
    from crmkit.describe import Described
    from crmkit.mapping import Reader


@cache
def _described() -> Mapping[str, Described]:
    return {one.collection: one for one in resources().values()}


def described_of(name: str) -> Described | None:
    """The declaration of the collection that a record's name, or its own name, speaks of."""
    return _described().get(name.partition("/")[0])


def taken_of(collection: str, reader: Reader) -> Levels:
    """What the reader may not read whole of the collection's records."""
    described = _described().get(collection)
    if described is None or reader.is_system:
        return NONE
    taken = dict(reader.fields(collection))
    for field in described.fields.values():
        if (field.rule.read_permission and not reader.may(field.rule.read_permission)) or (
            field.rule.entry_permission and not reader.may("*")
        ):
            taken[field.name] = FieldLevel.HIDDEN
    if reader.custom is not None:
        for key, definition in reader.custom.of(collection).items():
            if not reader.may(definition.permission):
                taken[f"{CUSTOM}{key}"] = FieldLevel.HIDDEN
    return taken


def without(record: Mapping[str, Any], name: str, reader: Reader) -> dict[str, Any]:
    """The record of that name as JSON, or parts of it; one that stands within, too: as requests carry it."""
    described, taken = described_of(name), taken_of(name.partition("/")[0], reader)
    if described is None or not concealed(taken):
        return dict(record)
    inner = described.message.name[0].lower() + described.message.name[1:]
    found = conceal_json(record, taken, described)
    if isinstance(within := found.get(inner), dict):
        found[inner] = conceal_json(cast("dict[str, Any]", within), taken, described)
    return found


def withhold_changes(changes: Any, name: str, reader: Reader) -> None:
    """The same of changes of single fields: messages of the JSON name `field`, with `before` and `after` as JSON."""
    described, taken = described_of(name), taken_of(name.partition("/")[0], reader)
    hidden = concealed(taken)
    if described is None or not hidden:
        return
    by_json = {field.json_name: field.name for field in described.fields.values()}
    custom = {one.removeprefix(CUSTOM) for one in hidden if one.startswith(CUSTOM)}
    for index in reversed(range(len(changes))):
        change = changes[index]
        field = by_json.get(change.field, change.field)
        if field in hidden and taken[field] is FieldLevel.HIDDEN:
            del changes[index]
        elif field in hidden:
            change.before, change.after = _masked(change.before), _masked(change.after)
        elif field == "custom" and custom:
            change.before, change.after = _less(change.before, custom), _less(change.after, custom)


def hides_any(name: str, fields: Iterable[str], reader: Reader) -> bool:
    """Whether any of these fields of the record's collection, by JSON name, is not for the reader."""
    described = described_of(name)
    hidden = concealed(taken_of(name.partition("/")[0], reader))
    if described is None or not hidden:
        return False
    wanted = {*fields}
    return any(field.json_name in wanted and field.name in hidden for field in described.fields.values())


def hides_first(name: str, fields: Iterable[str], reader: Reader) -> bool:
    """Whether the first of these fields that has a value may be one that is not for the reader."""
    described = described_of(name)
    if described is None:
        return False
    there = [one for one in fields if any(field.json_name == one for field in described.fields.values())]
    always = {described.fields[one].json_name for one in always_shown(described) & described.fields.keys()}
    before = next((there.index(one) for one in there if one in always), len(there))
    return hides_any(name, there[:before], reader)


def hidden_anywhere(fields: Iterable[str], reader: Reader) -> bool:
    """Whether any collection has one of these fields, by JSON name, that is not for the reader."""
    return any(hides_any(collection, fields, reader) for collection in _described())


def _masked(told: str) -> str:
    value = json.loads(told) if told else ""
    return json.dumps(mask(value), ensure_ascii=False) if isinstance(value, str) and value else ""


def _less(told: str, keys: set[str]) -> str:
    values = json.loads(told) if told else None
    if not isinstance(values, dict):
        return told
    kept = {key: value for key, value in cast("dict[str, Any]", values).items() if key not in keys}
    return json.dumps(kept, ensure_ascii=False)
