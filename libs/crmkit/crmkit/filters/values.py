"""What fields and values mean, alike for SQL and for records."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from crmkit.filters.syntax import Comparison, FilterError, FilterField, Kind, Value


@dataclass(frozen=True)
class Context:
    me: str
    now: datetime
    zone: ZoneInfo


def snake(name: str) -> str:
    """`displayName` as `display_name`."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: "_" + found[0], name).lower()


def camel(name: str) -> str:
    """`display_name` as `displayName`."""
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def spellings(key: str) -> list[str]:
    return list(dict.fromkeys((key, camel(key), snake(key))))


def find_field(node: Comparison, fields: Mapping[str, FilterField]) -> tuple[FilterField, tuple[str, ...]]:
    """The field with the longest name that starts the path, and what of the path lies within it."""
    for length in range(len(node.path), 0, -1):
        head, rest = node.path[:length], node.path[length:]
        target = fields.get(".".join(head)) or fields.get(".".join(map(snake, head)))
        if target is None:
            continue
        inside = target.kind in ("struct", "messages") or not rest
        if target.kind == "money" and rest:
            part = snake(rest[0])
            inside = len(rest) == 1 and (
                part == "amount" or (part == "currency_code" and target.currency is not None)
            )
        if inside:
            return target, rest
    raise unknown_field(".".join(node.path), node.position)


def unknown_field(name: str, position: int) -> FilterError:
    return FilterError(position, f"没有字段“{name}”", f'there is no field "{name}"')


def wrong_value(value: Value, zh: str, en: str) -> FilterError:
    return FilterError(value.position, f"“{value.text}”不是{zh}", f'"{value.text}" is not {en}')


def no_operator(node: Comparison) -> FilterError:
    name = ".".join(node.path)
    return FilterError(
        node.position,
        f"字段“{name}”不支持“{node.operator}”{node.value.text}",
        f'"{name}" cannot be compared by "{node.operator}" with "{node.value.text}"',
    )


# Forty digits on either side hold every amount there is and stay far from PostgreSQL's limits.
NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")
_MONEY = re.compile(r"(?:([A-Z]{3}) )?(-?[0-9]{1,40}(?:\.[0-9]{1,40})?)")
RELATIVE = re.compile(
    r"(today|now|startOfWeek|startOfMonth|startOfQuarter|startOfYear)(?:\(\))?((?:[+-][0-9]{1,5}(?:min|[hdwmqy]))*)"
)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
Compare = Callable[[Any, Any], Any]
COMPARE: Final[dict[str, Compare]] = {
    "=": operator.eq,
    ":": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Bounds = Sequence[tuple[Compare, Any]]


def number_of(value: Value) -> Decimal:
    if not NUMBER.fullmatch(value.text):
        raise wrong_value(value, "数字", "a number")
    return Decimal(value.text)


def bool_of(value: Value) -> bool:
    if value.text not in ("true", "false"):
        raise wrong_value(value, " true 或 false", "true or false")
    return value.text == "true"


def money_of(value: Value) -> tuple[str | None, Decimal]:
    found = _MONEY.fullmatch(value.text)
    if not found:
        raise wrong_value(value, '金额，例如 100 或 "CNY 100"', 'an amount such as 100 or "CNY 100"')
    return found[1], Decimal(found[2])


def day_of(value: Value, context: Context) -> date:
    moment = moment_of(value, context)
    if not isinstance(moment, datetime):
        return moment
    if value.quoted or not RELATIVE.fullmatch(value.text):
        raise wrong_value(value, "日期", "a date")
    return moment.astimezone(context.zone).date()


def moment_of(value: Value, context: Context) -> date | datetime:
    """A day, or an instant, that the value means; instants without an offset are in the zone."""
    try:
        relative = None if value.quoted else RELATIVE.fullmatch(value.text)
        if relative:
            return _relative(relative[1], relative[2], context)
        if DATE.fullmatch(value.text):
            return date.fromisoformat(value.text)
        if INSTANT.fullmatch(value.text):
            moment = datetime.fromisoformat(value.text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=context.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise wrong_value(value, "日期或时间", "a date or time")


def _relative(start: str, offsets: str, context: Context) -> date | datetime:
    local = context.now.astimezone(context.zone)
    today = local.date()
    starts: dict[str, date | datetime] = {
        "now": local,
        "today": today,
        "startOfWeek": today - timedelta(days=today.weekday()),
        "startOfMonth": today.replace(day=1),
        "startOfQuarter": today.replace(month=(today.month - 1) // 3 * 3 + 1, day=1),
        "startOfYear": today.replace(month=1, day=1),
    }
    moment = starts[start]
    for amount, unit in re.findall(r"([+-][0-9]+)(min|[hdwmqy])", offsets):
        moment = _shift(moment, int(amount), unit, context.zone)
    return moment.astimezone(UTC) if isinstance(moment, datetime) else moment


def _shift(moment: date | datetime, amount: int, unit: str, zone: ZoneInfo) -> date | datetime:
    if unit in ("h", "min"):
        instant = moment if isinstance(moment, datetime) else datetime.combine(moment, time.min, zone)
        step = timedelta(hours=amount) if unit == "h" else timedelta(minutes=amount)
        return (instant.astimezone(UTC) + step).astimezone(zone)
    if unit in ("d", "w"):
        return moment + timedelta(days=amount * (7 if unit == "w" else 1))
    years, month = divmod(moment.year * 12 + moment.month - 1 + amount * {"m": 1, "q": 3, "y": 12}[unit], 12)
    following = date(years + month // 11, (month + 1) % 12 + 1, 1)
    return moment.replace(
        year=years, month=month + 1, day=min(moment.day, (following - timedelta(days=1)).day)
    )


def time_bounds(node: Comparison, context: Context) -> Bounds:
    """What an instant must satisfy; a day is the half-open interval from its start to the next day's."""
    moment = moment_of(node.value, context)
    if isinstance(moment, datetime):
        return [(COMPARE[node.operator], moment)]
    try:
        start = datetime.combine(moment, time.min, context.zone).astimezone(UTC)
        end = datetime.combine(moment + timedelta(days=1), time.min, context.zone).astimezone(UTC)
    except OverflowError:
        raise wrong_value(node.value, "日期或时间", "a date or time") from None
    bounds: dict[str, Bounds] = {
        "=": [(operator.ge, start), (operator.lt, end)],
        ":": [(operator.ge, start), (operator.lt, end)],
        "<": [(operator.lt, start)],
        "<=": [(operator.lt, end)],
        ">": [(operator.ge, end)],
        ">=": [(operator.ge, start)],
    }
    return bounds[node.operator]


def loose_text(value: Value, context: Context) -> str | None:
    """The text that an untyped value is compared with; None where it means the caller and there is none."""
    if value.quoted:
        return value.core
    if value.text == "me":
        return context.me or None
    relative = RELATIVE.fullmatch(value.text)
    return day_of(value, context).isoformat() if relative else value.core


def is_number(value: Value) -> bool:
    return not value.quoted and NUMBER.fullmatch(value.text) is not None


def is_bool(value: Value) -> bool:
    return not value.quoted and value.text in ("true", "false")


def check_operator(node: Comparison, kind: Kind) -> None:
    """Refuse operators that the kind does not have."""
    ordering = node.operator in ("<", "<=", ">", ">=")
    if ordering and (node.value.is_null or kind in ("bool", "enum", "reference", "texts")):
        raise no_operator(node)
    if kind == "texts" and node.operator == "=" and not (node.value.is_null or node.value.is_any):
        raise no_operator(node)


def asks_presence(value: Value, op: str) -> bool:
    return op in ("=", ":") and (value.is_null or value.is_any)


def asks_empty(value: Value, op: str) -> bool:
    """`= ""`: true of null too, as an empty text is null."""
    return op == "=" and value.quoted and not value.text


def choice_of(value: Value, target: FilterField) -> str:
    if target.choices and value.text not in target.choices:
        listed = ", ".join(sorted(target.choices))
        raise wrong_value(value, f"以下之一：{listed}", f"one of {listed}")
    return value.text


def ascii_lower(text: str) -> str:
    return text.encode().lower().decode()
