"""A filter as an SQL/JSON path over a row as JSON: what a policy of the database can ask.

A path is true for every row that `condition` gives. What it cannot say as exactly (times, relative values, texts
without regard to case, numbers within structs, nested messages) is left out of it, so that it may give more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from crmkit.filters.syntax import And, Comparison, FilterError, FilterField, Node, Not, Or, Value, parse
from crmkit.filters.values import (
    DATE,
    Context,
    asks_empty,
    asks_presence,
    bool_of,
    check_operator,
    choice_of,
    day_of,
    find_field,
    money_of,
    number_of,
    snake,
    spellings,
)

_EVERY = "exists($)"
_NONE = "!exists($)"
_FILLED = '@ != null && @ != ""'


class _Unsaid(Exception):
    """There is no path for it."""


def path_of(text: str, fields: Mapping[str, FilterField], me: str) -> str:
    """The path of a filter; one that cannot be read gives nothing, as everywhere."""
    try:
        node = parse(text)
        parts = node.nodes if isinstance(node, And) else (node,)
        return " && ".join(f"({found})" for part in parts if (found := _said(part, fields, me))) or _EVERY
    except FilterError:
        return _NONE


def _said(node: Node, fields: Mapping[str, FilterField], me: str) -> str:
    try:
        return _path(node, fields, me)
    except _Unsaid:
        return ""


def _path(node: Node, fields: Mapping[str, FilterField], me: str) -> str:
    match node:
        case Not(inner):
            return f"!({_path(inner, fields, me)})"
        case And(nodes):
            return " && ".join([f"({_path(each, fields, me)})" for each in nodes]) or _EVERY
        case Or(nodes):
            return " || ".join([f"({_path(each, fields, me)})" for each in nodes]) or _NONE
        case Comparison():
            target, rest = find_field(node, fields)
            if node.operator == "!=":
                return f"!({_comparison(replace(node, operator='='), target, rest, me)})"
            return _comparison(node, target, rest, me)


def _comparison(node: Comparison, target: FilterField, rest: tuple[str, ...], me: str) -> str:
    """Never unknown: a test of `exists` is false where the values cannot be compared."""
    value, kind, key = node.value, target.kind, target.name
    if target.name == "name" or kind in ("messages", "time"):
        raise _Unsaid
    if kind == "struct":
        return _in_struct(node, key, rest)
    if kind == "money":
        return _money(node, key, rest)
    check_operator(node, kind)
    if kind == "texts":
        if value.open_start or value.open_end or value.is_null:
            raise _Unsaid
        core = me if _is_me(value) else value.core
        return _has(f"{_key(key)}[*]", f"@ == {_text(core)}") if core else _NONE
    if asks_presence(value, node.operator):
        there = _has(_key(key), _FILLED if kind in ("text", "enum", "reference") else "@ != null")
        return f"!({there})" if value.is_null else there
    match kind:
        case "text":
            return _of_text(node, key, value.core)
        case "reference":
            return _of_text(replace(node, operator="="), key, me if _is_me(value) else value.core)
        case "enum":
            return _empty(key) if asks_empty(value, node.operator) else _is(key, choice_of(value, target))
        case "bool":
            yes = _has(_key(key), "@ == true")
            return yes if bool_of(value) else f"!({yes})"
        case "number":
            return _has(_key(key), f"@ {_sign(node)} {number_of(value):f}")
        case _:
            if not DATE.fullmatch(value.text):
                raise _Unsaid
            day = day_of(value, Context(me, datetime.now(UTC), ZoneInfo("UTC")))
            return _has(_key(key), f"@ {_sign(node)} {_text(day.isoformat())}")


def _of_text(node: Comparison, key: str, core: str) -> str:
    value = node.value
    if node.operator not in ("=", ":"):
        return _has(_key(key), f'@ != "" && @ {node.operator} {_text(value.text)}')
    if asks_empty(value, node.operator):
        return _empty(key)
    if node.operator == ":" or value.open_start:
        raise _Unsaid
    if not core:
        return _NONE
    return _has(_key(key), f"@ starts with {_text(core)}") if value.open_end else _is(key, core)


def _money(node: Comparison, key: str, rest: tuple[str, ...]) -> str:
    if rest and snake(rest[0]) == "currency_code":
        raise _Unsaid
    check_operator(node, "money")
    amount = _key(f"{key}_amount")
    if asks_presence(node.value, node.operator):
        there = _has(amount, "@ != null")
        return f"!({there})" if node.value.is_null else there
    currency, number = money_of(node.value)
    found = _has(amount, f"@ {_sign(node)} {number:f}")
    return found if currency is None else f"{found} && {_is(f'{key}_currency', currency)}"


def _in_struct(node: Comparison, key: str, rest: tuple[str, ...]) -> str:
    value = node.value
    plain = value.quoted and value.text and not value.open_start and not value.open_end
    if node.operator != "=" or not plain or not rest or any(len(spellings(each)) > 1 for each in rest):
        raise _Unsaid
    place = ".".join([_key(key), *map(_text, rest)])
    # A list is no text, although the path of a list looks into it.
    return f'{place}.type() == "string" && {place} == {_text(value.core)}'


def _is_me(value: Value) -> bool:
    return not value.quoted and value.text == "me"


def _is(key: str, text: str) -> str:
    return _has(_key(key), f"@ == {_text(text)}")


def _empty(key: str) -> str:
    return f"!({_has(_key(key), _FILLED)})"


def _has(place: str, test: str) -> str:
    return f"exists({place} ? ({test}))"


def _key(column: str) -> str:
    return f"$.{_text(column)}"


def _sign(node: Comparison) -> str:
    return "==" if node.operator in ("=", ":") else node.operator


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
