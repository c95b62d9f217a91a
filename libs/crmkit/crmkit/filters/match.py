"""A comparison tested against a JSON-shaped record, with the answers that `sql` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, cast

from crmkit.filters.syntax import Comparison, FilterError, FilterField
from crmkit.filters.values import (
    COMPARE,
    DATE,
    INSTANT,
    NUMBER,
    RELATIVE,
    Context,
    ascii_lower,
    asks_empty,
    asks_presence,
    bool_of,
    check_operator,
    choice_of,
    day_of,
    find_field,
    is_bool,
    is_number,
    loose_text,
    money_of,
    no_operator,
    number_of,
    snake,
    spellings,
    time_bounds,
    wrong_value,
)

_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


def test_record(node: Comparison, record: Mapping[str, Any], context: Context) -> bool:
    """Whether the record passes the comparison, whose operator is not `!=`."""
    if node.field is None:
        try:
            return _test_guessed(_dig(record, node.path), node, context)
        except FilterError:
            return False
    target, rest = find_field(node, {node.field.name: node.field})
    value = _dig(record, node.path[: len(node.path) - len(rest)])
    if target.kind == "struct":
        return _test_loose(_dig(value, rest), node, context)
    if target.kind == "messages":
        return _test_messages(value, rest, node, context)
    return _test_typed(value, node, target, rest, context)


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    """The value at the path. Within a list it is the list of what its elements have there."""
    for index, key in enumerate(path):
        if isinstance(value, list):
            return _Each(_dig(element, path[index:]) for element in cast("list[Any]", value))
        if not isinstance(value, Mapping):
            return None
        keyed = cast("Mapping[str, Any]", value)
        value = next((keyed[spelling] for spelling in spellings(key) if spelling in keyed), None)
    return value


class _Each(list[Any]):
    """The values at one path of every element of a list; a comparison holds if it holds for one of them."""


def _test_guessed(value: Any, node: Comparison, context: Context) -> bool:
    """A comparison with a value whose type is read off the value and the text of the filter."""
    if isinstance(value, _Each):
        if node.value.is_null:
            return all(each in _EMPTY for each in value)
        return any(_test_guessed(each, node, context) for each in value)
    shaped = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if asks_presence(node.value, node.operator):
        return (value in _EMPTY) == node.value.is_null
    if "amount" in shaped and ("currencyCode" in shaped or "currency_code" in shaped):
        return _test_money(shaped, node, context)
    timely = not node.value.quoted and RELATIVE.fullmatch(node.value.text)
    timely = timely or DATE.fullmatch(node.value.text) or INSTANT.fullmatch(node.value.text)
    if isinstance(value, datetime) or (timely and isinstance(value, str) and INSTANT.fullmatch(value)):
        return _test_time(value, node, context)
    if isinstance(value, date) or {"year", "month", "day"} <= shaped.keys():
        return _test_date(value, node, context)
    if timely and isinstance(value, str) and DATE.fullmatch(value):
        return _test_date(value, node, context)
    return _test_loose(value, node, context)


def _test_typed(
    value: Any, node: Comparison, target: FilterField, rest: tuple[str, ...], context: Context
) -> bool:
    kind = target.kind
    if kind == "money" and rest:
        value = _dig(value, rest)
        if snake(rest[0]) == "currency_code":
            kind = "text"
    check_operator(node, kind)
    if kind == "texts":
        return _test_texts(value or [], node, context)
    if asks_presence(node.value, node.operator):
        if kind == "money" and not rest:
            value = _dig(value, ("amount",))
        return (value in (None, "")) == node.value.is_null
    match kind:
        case "text":
            return _test_text(value or "", node, node.value.core)
        case "reference":
            mine = not node.value.quoted and node.value.text == "me"
            core = loose_text(node.value, context) if mine else node.value.core
            return core is not None and _test_text(value or "", replace(node, operator="="), core)
        case "enum":
            if asks_empty(node.value, node.operator):
                return value in (None, "")
            return choice_of(node.value, target) == value
        case "bool":
            return bool_of(node.value) == bool(value)
        case "number":
            return _test_number(value, node, number_of(node.value))
        case "money":
            if not rest:
                return _test_money(value, node, context)
            currency, amount = money_of(node.value)
            if currency is not None:
                raise wrong_value(node.value, "数字", "a number")
            return _test_number(value, node, amount)
        case "date":
            return _test_date(value, node, context)
        case _:
            return _test_time(value, node, context)


def _test_text(value: str, node: Comparison, core: str) -> bool:
    if node.operator not in ("=", ":"):
        return bool(value) and COMPARE[node.operator](value, node.value.text)
    if asks_empty(node.value, node.operator):
        return not value
    return not core or _test_like(value, node, core)


def _test_like(value: str, node: Comparison, core: str) -> bool:
    start, end = node.value.open_start, node.value.open_end
    if node.operator == ":":
        value, core = ascii_lower(value), ascii_lower(core)
    if (node.operator == ":" and not (start or end)) or (start and end):
        return core in value
    if end:
        return value.startswith(core)
    return value.endswith(core) if start else value == core


def _test_texts(value: list[str], node: Comparison, context: Context) -> bool:
    if node.value.is_null or node.value.is_any:
        return bool(value) == node.value.is_any
    mine = not node.value.quoted and node.value.text == "me"
    core = loose_text(node.value, context) if mine else node.value.core
    exact = replace(node, operator="=")
    return core is not None and any(_test_like(each, exact, core) for each in value)


def _test_number(value: Any, node: Comparison, number: Decimal) -> bool:
    if value is None:
        return False
    if isinstance(value, float):
        return COMPARE[node.operator](value, float(number))
    return COMPARE[node.operator](Decimal(value), number)


def _test_money(value: Any, node: Comparison, context: Context) -> bool:
    currency, number = money_of(node.value)
    if currency is not None and _dig(value, ("currency_code",)) != currency:
        return False
    amount = _dig(value, ("amount",))
    return _test_number(None if amount == "" else amount, node, number)


def _test_date(value: Any, node: Comparison, context: Context) -> bool:
    wanted = day_of(node.value, context)
    if value in (None, ""):
        return False
    if isinstance(value, str):
        value = date.fromisoformat(value)
    elif isinstance(value, Mapping):
        parts = cast("Mapping[str, int]", value)
        value = date(parts["year"], parts["month"], parts["day"])
    return COMPARE[node.operator](value, wanted)


def _test_time(value: Any, node: Comparison, context: Context) -> bool:
    bounds = time_bounds(node, context)
    if value in (None, ""):
        return False
    moment = datetime.fromisoformat(value) if isinstance(value, str) else cast(datetime, value)
    return all(compare(moment.astimezone(UTC), bound) for compare, bound in bounds)


def _test_messages(value: Any, rest: tuple[str, ...], node: Comparison, context: Context) -> bool:
    """Some element passes; `= null` asks whether there is no element with a value there."""
    elements = cast("list[Any]", value) if isinstance(value, list) else []
    if node.value.is_null:
        if node.operator not in ("=", ":"):
            raise no_operator(node)
        return all(_dig_plain(element, rest) in _EMPTY for element in elements)
    if not rest and not node.value.is_any:
        raise no_operator(node)
    return any(_test_loose(_dig_plain(element, rest), node, context) for element in elements)


def _dig_plain(value: Any, path: tuple[str, ...]) -> Any:
    """The value at the path, but none beyond a list."""
    found = _dig(value, path)
    return None if isinstance(found, _Each) else found


def _test_loose(leaf: Any, node: Comparison, context: Context) -> bool:
    """A comparison with a JSON value of no declared type."""
    value, op = node.value, node.operator
    empty = isinstance(leaf, _Each) or leaf in _EMPTY
    if asks_presence(value, op):
        return empty == value.is_null
    if value.is_null:
        raise no_operator(node)
    if asks_empty(value, op):
        return empty
    core = loose_text(value, context)
    if core is None:
        return False
    if op not in ("=", ":"):
        return _test_loose_order(leaf, node, core)
    if op == ":" and not core:
        return True
    if is_bool(value) and value.text == "false" and empty:
        return True
    if op == ":" and isinstance(leaf, list):
        exact = replace(node, operator="=")
        return any(_test_scalar(item, exact, core) for item in cast("list[Any]", leaf))
    if op == ":" and isinstance(leaf, Mapping):
        return _dig(leaf, (core,)) not in _EMPTY
    return _test_scalar(leaf, node, core)


def _test_loose_order(leaf: Any, node: Comparison, core: str) -> bool:
    if is_number(node.value):
        number = _loose_number(leaf)
        return number is not None and COMPARE[node.operator](number, Decimal(node.value.text))
    return isinstance(leaf, str) and leaf != "" and COMPARE[node.operator](leaf, core)


def _test_scalar(leaf: Any, node: Comparison, core: str) -> bool:
    if is_number(node.value):
        number = _loose_number(leaf)
        if number is not None:
            return number == Decimal(node.value.text)
    if is_bool(node.value) and isinstance(leaf, bool):
        return leaf == (node.value.text == "true")
    return isinstance(leaf, str) and _test_like(leaf, node, core)


def _loose_number(leaf: Any) -> Decimal | None:
    if isinstance(leaf, bool) or not isinstance(leaf, int | float | Decimal | str):
        return None
    if isinstance(leaf, str) and not NUMBER.fullmatch(leaf):
        return None
    return Decimal(str(leaf))
