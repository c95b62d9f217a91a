"""A comparison as SQL that is true or false, never null."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Numeric,
    Text,
    and_,
    case,
    collate,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy import (
    cast as sql_cast,
)
from sqlalchemy.dialects.postgresql import JSONB

from crmkit.filters.syntax import Comparison, FilterField, Value
from crmkit.filters.values import (
    COMPARE,
    NUMBER,
    Context,
    ascii_lower,
    asks_empty,
    asks_presence,
    bool_of,
    check_operator,
    choice_of,
    day_of,
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

_Column = ColumnElement[Any]
_Condition = ColumnElement[bool]


def comparison_sql(
    node: Comparison, target: FilterField, rest: tuple[str, ...], context: Context
) -> _Condition:
    value, col = node.value, target.column
    if target.kind == "struct":
        return _sql_loose(_sql_dig(col, rest), node, context)
    if target.kind == "messages":
        return _sql_messages(col, rest, node, context)
    kind = target.kind
    if kind == "money" and rest and snake(rest[0]) == "currency_code":
        assert target.currency is not None
        kind, col = "text", target.currency
    check_operator(node, kind)
    if kind == "texts":
        return _sql_texts(col, node, context)
    if asks_presence(value, node.operator):
        there = col.is_not(None)
        if kind in ("text", "enum", "reference"):
            there = and_(there, col != _text(""))
        return not_(there) if value.is_null else there
    present = col.is_not(None)
    match kind:
        case "text":
            return _sql_text(col, node, value.core)
        case "reference":
            text = loose_text(value, context) if not value.quoted and value.text == "me" else value.core
            if text is None:
                return false()
            found = _sql_text(col, replace(node, operator="="), text)
            # Said for the index of the reference, which leaves out rows without one, whatever plan is used.
            return and_(col != literal_column("''"), found) if text else found
        case "enum":
            if asks_empty(value, node.operator):
                return or_(col.is_(None), col == _text(""))
            return and_(present, col == _text(choice_of(value, target)))
        case "bool":
            return and_(present, col) if bool_of(value) else or_(col.is_(None), not_(col))
        case "number":
            return and_(present, COMPARE[node.operator](col, _number_literal(number_of(value), col)))
        case "money":
            currency, amount = money_of(value)
            test = and_(present, COMPARE[node.operator](col, literal(amount, Numeric())))
            if currency is None:
                return test
            if target.currency is None or rest:
                raise wrong_value(value, "数字", "a number")
            return and_(test, target.currency.is_not(None), target.currency == _text(currency))
        case "date":
            return and_(present, COMPARE[node.operator](col, literal(day_of(value, context), Date())))
        case "time":
            bounds = time_bounds(node, context)
            return and_(
                present, *(compare(col, literal(at, DateTime(timezone=True))) for compare, at in bounds)
            )


def _text(value: str) -> _Column:
    return literal(value, Text())


def _number_literal(number: Decimal, col: _Column) -> _Column:
    # A numeric parameter would keep PostgreSQL from using an index on an integer column.
    if isinstance(col.type, Integer) and number == int(number) and abs(number) < 2**63:
        return literal(int(number), BigInteger())
    return literal(number, Numeric())


def _sql_text(col: _Column, node: Comparison, core: str) -> _Condition:
    value, present = node.value, col.is_not(None)
    if node.operator not in ("=", ":"):
        compare = COMPARE[node.operator]
        return and_(present, col != _text(""), compare(collate(col, "C"), _text(value.text)))
    if asks_empty(value, node.operator):
        return or_(col.is_(None), col == _text(""))
    if not core:
        return true()
    return and_(present, _sql_like(col, node, core))


def _sql_like(col: _Column, node: Comparison, core: str) -> _Condition:
    value, has = node.value, node.operator == ":"
    wild = value.open_start or value.open_end
    if has:
        # In the collation "C", lower() touches ASCII only: the same in every database.
        col, core = func.lower(collate(col, "C")), ascii_lower(core)
    if (has and not wild) or (value.open_start and value.open_end):
        return col.contains(core, autoescape=True)
    if value.open_end:
        return col.startswith(core, autoescape=True)
    if value.open_start:
        return col.endswith(core, autoescape=True)
    return col == _text(core)


def _sql_texts(col: _Column, node: Comparison, context: Context) -> _Condition:
    value, array = node.value, isinstance(col.type, ARRAY)
    if array:
        empty = or_(col.is_(None), func.cardinality(col) == 0)
    else:
        empty = func.coalesce(col, _JSON_NULL).in_([_JSON_NULL, literal_column("'[]'::jsonb")])
    if value.is_null or value.is_any:
        return empty if value.is_null else not_(empty)
    mine = not value.quoted and value.text == "me"
    text = (context.me or None) if mine else value.core
    if text is None:
        return false()
    if not (value.open_start or value.open_end):
        return and_(col.is_not(None), col.op("@>", is_comparison=True)(literal([text], col.type)))
    unnest = func.unnest(col) if array else func.jsonb_array_elements_text(_sql_list(col))
    elements = unnest.table_valued(column("element", Text())).render_derived()
    return exists(
        select(1)
        .select_from(elements)
        .where(_sql_like(elements.c.element, replace(node, operator="="), text))
    )


_JSON_NULL: Final = cast(_Column, literal_column("'null'::jsonb", JSONB()))


def _sql_list(col: _Column) -> _Column:
    return case((func.jsonb_typeof(col) == "array", col), else_=literal_column("'[]'::jsonb", JSONB()))


def _sql_messages(col: _Column, rest: tuple[str, ...], node: Comparison, context: Context) -> _Condition:
    """Some element passes; `= null` asks whether there is no element with a value there."""
    value = node.value
    if value.is_null:
        if node.operator not in ("=", ":"):
            raise no_operator(node)
        there = replace(node, value=Value("*", False, value.position, open_start=True))
        return not_(_sql_messages(col, rest, there, context))
    if not rest and not value.is_any:
        raise no_operator(node)
    elements = (
        func.jsonb_array_elements(_sql_list(col)).table_valued(column("element", JSONB())).render_derived()
    )
    test = _sql_loose(_sql_dig(elements.c.element, rest), node, context)
    return exists(select(1).select_from(elements).where(test))


def _sql_dig(col: _Column, keys: tuple[str, ...]) -> _Column:
    for key in keys:
        values = [col.op("->", return_type=JSONB())(_text(spelling)) for spelling in spellings(key)]
        col = func.coalesce(*values) if len(values) > 1 else values[0]
    return col


def _sql_loose(leaf: _Column, node: Comparison, context: Context) -> _Condition:
    """A comparison with a JSON value whose type is known only row by row."""
    value, op = node.value, node.operator
    empty = _sql_empty(leaf)
    if asks_presence(value, op):
        return empty if value.is_null else not_(empty)
    if value.is_null:
        raise no_operator(node)
    if asks_empty(value, op):
        return empty
    core = loose_text(value, context)
    if core is None:
        return false()
    if op not in ("=", ":"):
        return _sql_loose_order(leaf, node, core)
    if op == ":" and not core:
        return true()
    cases = _sql_scalar(leaf, node, core)
    if op == ":":
        items = (
            func.jsonb_array_elements(_sql_list(leaf)).table_valued(column("item", JSONB())).render_derived()
        )
        item = case(*_sql_scalar(items.c.item, replace(node, operator="="), core), else_=false())
        cases.append((func.jsonb_typeof(leaf) == "array", exists(select(1).select_from(items).where(item))))
        cases.append((func.jsonb_typeof(leaf) == "object", not_(_sql_empty(_sql_dig(leaf, (core,))))))
    found = case(*cases, else_=false())
    return or_(found, empty) if is_bool(value) and value.text == "false" else found


def _sql_empty(leaf: _Column) -> _Condition:
    nothing = ("'null'::jsonb", "'\"\"'::jsonb", "'[]'::jsonb", "'{}'::jsonb")
    return func.coalesce(leaf, _JSON_NULL).in_([literal_column(text) for text in nothing])


def _sql_leaf_text(leaf: _Column) -> _Column:
    return leaf.op("#>>", return_type=Text())(literal_column("'{}'::text[]"))


def _sql_numeric_case(leaf: _Column, node: Comparison) -> tuple[_Condition, _Condition]:
    shape, text = func.jsonb_typeof(leaf), _sql_leaf_text(leaf)
    numeric = or_(shape == "number", and_(shape == "string", text.regexp_match(f"^{NUMBER.pattern}$")))
    number = literal(Decimal(node.value.text), Numeric())
    return numeric, COMPARE[node.operator](sql_cast(text, Numeric()), number)


def _sql_loose_order(leaf: _Column, node: Comparison, core: str) -> _Condition:
    if is_number(node.value):
        return case(_sql_numeric_case(leaf, node), else_=false())
    text = _sql_leaf_text(leaf)
    ordered = and_(text != _text(""), COMPARE[node.operator](collate(text, "C"), _text(core)))
    return case((func.jsonb_typeof(leaf) == "string", ordered), else_=false())


def _sql_scalar(leaf: _Column, node: Comparison, core: str) -> list[tuple[_Condition, _Condition]]:
    """Cases, by the type of the JSON value, of whether it equals (or, as text, contains) the value."""
    value, shape, text = node.value, func.jsonb_typeof(leaf), _sql_leaf_text(leaf)
    cases: list[tuple[_Condition, _Condition]] = []
    if is_number(value):
        cases.append(_sql_numeric_case(leaf, node))
    elif is_bool(value):
        cases.append((shape == "boolean", text == _text(value.text)))
    cases.append((shape == "string", _sql_like(text, node, core)))
    return cases
