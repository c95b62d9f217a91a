"""Filters in the language of AIP-160, and the `order_by` of AIP-132.

    state = OPEN AND (owner = me OR collaborators:me) AND NOT custom.colour = "red"
    close_date < startOfMonth-1m AND amount >= "CNY 10000" AND lines.product = "products/0190…"

- `OR` binds tighter than `AND`, as AIP-160 demands; two restrictions side by side mean `AND`;
  `state = (OPEN OR WON)` is short for `state = OPEN OR state = WON`.
- **Null.** `x = 1` is false where x is null. `x != 1` and `NOT x = 1` therefore include nulls: `!=` is
  exactly `NOT =`, and no condition ever yields SQL's third truth value. `x = null` and `x:*` ask for null
  itself. Empty texts, lists and objects count as null, because a message does not tell them apart;
  `flag = false` includes null.
- **Has.** `:` means contains for text (ASCII case ignored), has the element for repeated fields, has the key
  for a struct, equals for everything else. A star at either end of a text is a wildcard (`name = "华*"`);
  `\\*` is a star.
- **Time.** A day compared with an instant is the whole day in the caller's zone. Relative values: `today`,
  `now`, `startOfWeek` (Monday), `startOfMonth`, `startOfQuarter`, `startOfYear`, each with offsets in
  `min h d w m q y` (m is months) and optional `()`.
- Values inside structs and repeated messages have no declared type: a bare number compares with numbers and
  with texts that are decimal numbers, everything else compares as text.

Texts are ordered by code point and compared exactly, whatever the database's collation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from crmkit.filters.match import test_record
from crmkit.filters.path import path_of
from crmkit.filters.sql import comparison_sql
from crmkit.filters.syntax import (
    And,
    Comparison,
    FilterError,
    FilterField,
    Kind,
    Node,
    Not,
    Or,
    Value,
    check_text,
    parse,
)
from crmkit.filters.values import Context, find_field, snake, unknown_field

MAX_ORDER_FIELDS: Final = 8

__all__ = [
    "And",
    "Comparison",
    "FilterError",
    "FilterField",
    "Kind",
    "Node",
    "Not",
    "Or",
    "Value",
    "bind",
    "condition",
    "followed",
    "matches",
    "parse",
    "parse_order",
    "path_of",
]


def bind(node: Node, fields: Mapping[str, FilterField]) -> Node:
    """The node with every comparison tied to its field, so that `matches` need not guess types."""
    match node:
        case Comparison():
            return replace(node, field=find_field(node, fields)[0])
        case Not(inner):
            return Not(bind(inner, fields))
        case And(nodes):
            return And(tuple(bind(each, fields) for each in nodes))
        case Or(nodes):
            return Or(tuple(bind(each, fields) for each in nodes))


def followed(node: Node, became: Callable[[tuple[str, ...], str], str]) -> Node:
    """The node that asks for what a value became, too: `became` says it of a field's path and a text, "" for nothing.

    Until all records are rewritten some have the value of before, so both are asked for.
    """
    match node:
        case Comparison():
            other = became(tuple(map(snake, node.path)), node.value.text)
            if not other or node.operator not in ("=", "!=", ":"):
                return node
            both = (node, replace(node, value=replace(node.value, text=other)))
            return And(both) if node.operator == "!=" else Or(both)
        case Not(inner):
            return Not(followed(inner, became))
        case And(nodes):
            return And(tuple(followed(each, became) for each in nodes))
        case Or(nodes):
            return Or(tuple(followed(each, became) for each in nodes))


def condition(
    node: Node, fields: Mapping[str, FilterField], *, me: str, now: datetime, zone: ZoneInfo
) -> ColumnElement[bool]:
    """The filter as an SQL expression with bound parameters only, which is never NULL.

    `NOT x = 1` and `x != 1` include rows where x is null. Raises FilterError for an unknown field, a value of
    the wrong type or an operator that the field does not have.
    """
    context = Context(me, now, zone)

    def build(node: Node) -> ColumnElement[bool]:
        match node:
            case Not(inner):
                return not_(build(inner))
            case And(nodes):
                return and_(true(), *(build(each) for each in nodes))
            case Or(nodes):
                return or_(false(), *(build(each) for each in nodes))
            case Comparison():
                target, rest = find_field(node, fields)
                if node.operator == "!=":
                    return not_(comparison_sql(replace(node, operator="="), target, rest, context))
                return comparison_sql(node, target, rest, context)

    return build(node)


def matches(node: Node, record: Mapping[str, Any], *, me: str, now: datetime, zone: ZoneInfo) -> bool:
    """Whether a JSON-shaped record, with keys in camelCase or snake_case, passes the filter.

    The same answers as `condition`, nulls included, if the node was bound to its fields. Without `bind`,
    types are read off the record: then a bare number also equals a text that is that number. The record must
    have its numbers even where they are zero.
    """
    context = Context(me, now, zone)

    def test(node: Node) -> bool:
        match node:
            case Not(inner):
                return not test(inner)
            case And(nodes):
                return all(test(each) for each in nodes)
            case Or(nodes):
                return any(test(each) for each in nodes)
            case Comparison():
                if node.operator == "!=":
                    return not test_record(replace(node, operator="="), record, context)
                return test_record(node, record, context)

    return test(node)


def parse_order(text: str, fields: Mapping[str, FilterField]) -> list[tuple[FilterField, bool]]:
    """Read `update_time desc, name` into fields and whether each descends; empty text gives an empty list."""
    check_text(text)
    order: list[tuple[FilterField, bool]] = []
    position = 0
    for part in text.split(",") if text.strip() else []:
        start = position + len(part) - len(part.lstrip())
        position += len(part) + 1
        words = part.split()
        if len(words) not in (1, 2) or words[1:] not in ([], ["asc"], ["desc"]):
            raise FilterError(
                start, "排序应为“字段”或“字段 desc”", 'an order is a field, or a field followed by "desc"'
            )
        target = fields.get(words[0]) or fields.get(snake(words[0]))
        if target is None:
            raise unknown_field(words[0], start)
        if target.kind in ("texts", "struct", "messages"):
            raise FilterError(start, f"不能按“{words[0]}”排序", f'"{words[0]}" cannot be ordered by')
        if any(target.name == seen.name for seen, _ in order):
            raise FilterError(start, f"“{words[0]}”重复", f'"{words[0]}" comes twice')
        if len(order) == MAX_ORDER_FIELDS:
            raise FilterError(
                start,
                f"排序字段超过 {MAX_ORDER_FIELDS} 个",
                f"more than {MAX_ORDER_FIELDS} fields to order by",
            )
        order.append((target, words[1:] == ["desc"]))
    return order
