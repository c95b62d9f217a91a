"""Numbers that are reckoned from other fields of a record, in words as spreadsheets have them.

    custom.area * custom.price * (1 - custom.rebate / 100)
    IF(state = "WON" AND amount > 10000, ROUND(amount * 0.03, 2), 0)

- Fields are named as filters name them: `amount`, `custom.area`. Amounts count by their figure, percentages by the number
  before the sign, the difference of two days is a number of days, an instant counts as the day that it is of.
- `+ - * /`, comparisons, `AND`, `OR`, `NOT`; `IF(condition, then, else)`, `COALESCE`, `MIN`, `MAX`, `SUM`, `ABS`,
  `FLOOR`, `CEIL`, `ROUND(number, digits)`. `MIN`, `MAX`, `SUM` and `COALESCE` leave out what is not there.
- What is reckoned from a field without a value, by zero, or from amounts of two currencies, has no value. A comparison
  with nothing is false.
- Decimal figures, never binary ones; the result has six digits behind the point at most, rounded half up.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DecimalException
from functools import lru_cache
from typing import Any, Final, Literal, cast

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from crmkit.values import Money

MOST_LETTERS: Final = 1000
MOST_DEPTH: Final = 30
MOST_DIGITS: Final = 6
BEYOND: Final = Decimal(10) ** 18

Kind = Literal["number", "date", "text", "bool"]

_GRAMMAR = r"""
?start: either
?either: both (_OR both)*
?both: nay (_AND nay)*
?nay: _NOT nay -> nay
    | compared
?compared: sum (COMPARE sum)?
?sum: product (ADD product)*
?product: sign (MULTIPLY sign)*
?sign: _MINUS sign -> minus
     | atom
?atom: NUMBER -> number
     | STRING -> text
     | FUNCTION "(" either ("," either)* ")" -> function
     | FIELD -> field
     | "(" either ")"

_AND.2: /AND\b/
_OR.2: /OR\b/
_NOT.2: /NOT\b/
FUNCTION.2: /(IF|COALESCE|MIN|MAX|SUM|ABS|FLOOR|CEIL|ROUND)(?=\s*\()/
COMPARE: "<=" | ">=" | "!=" | "=" | "<" | ">"
ADD: "+" | "-"
_MINUS: "-"
MULTIPLY: "*" | "/"
NUMBER: /\d+(\.\d+)?/
STRING: /"[^"\\]*"/
FIELD: /[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?/
%ignore /\s+/
"""
_PARSER: Final[Any] = Lark(_GRAMMAR, parser="lalr")


class FormulaError(ValueError):
    """The formula cannot be used; why, in both languages."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


@dataclass(frozen=True)
class Formula:
    """A formula that has been read."""

    tree: Any
    fields: frozenset[str]

    def check(self, kinds: Mapping[str, Kind]) -> None:
        """Raises FormulaError unless it makes a number of fields of these kinds."""
        if (found := _kind(self.tree, kinds)) != "number":
            raise FormulaError(
                f"结果须为数字，而不是{_WORDS[found][0]}", f"makes {_WORDS[found][1]}, not a number"
            )

    def reckon(self, value_of: Callable[[str], Any]) -> Decimal | None:
        """The number; None where there is none."""
        currencies: set[str] = set()

        def plain(path: str) -> Any:
            value = value_of(path)
            if isinstance(value, Money):
                currencies.add(value.currency)
                return value.amount
            if isinstance(value, datetime):
                return value.date()
            return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value

        try:
            number = _value(self.tree, plain)
            if not isinstance(number, Decimal) or not number.is_finite() or abs(number) >= BEYOND:
                return None
            return (
                number.quantize(Decimal(1).scaleb(-MOST_DIGITS), ROUND_HALF_UP)
                if len(currencies) < 2
                else None
            )
        except (DecimalException, TypeError):
            # Kinds were checked when it was written; a field may have become one of another kind since.
            return None


@lru_cache(1000)
def read(text: str) -> Formula:
    """The formula of a text; FormulaError where it is none."""
    if len(text) > MOST_LETTERS:
        raise FormulaError(f"公式不能超过 {MOST_LETTERS} 个字符", f"at most {MOST_LETTERS} characters")
    try:
        tree = _PARSER.parse(text)
    except UnexpectedInput as error:
        place = min(error.pos_in_stream if error.pos_in_stream is not None else len(text), len(text))
        near = text[place : place + 20]
        raise FormulaError(
            f"第 {place + 1} 个字符处无法理解：{near}" if near else "公式不完整",
            f"cannot be understood at character {place + 1}: {near}"
            if near
            else "the formula is not complete",
        ) from None
    if _depth(tree) > MOST_DEPTH:
        raise FormulaError(f"嵌套超过 {MOST_DEPTH} 层", f"nests deeper than {MOST_DEPTH} levels")
    return Formula(tree, frozenset(_fields(tree)))


def in_order(formulas: Mapping[str, Formula]) -> dict[str, Formula]:
    """Formulas by the key of their custom field, each behind those that it names; in a cycle none comes."""
    found: dict[str, Formula] = {}
    left = dict(formulas)
    while ready := [
        key for key, one in left.items() if not one.fields & {f"custom.{other}" for other in left}
    ]:
        found |= {key: left.pop(key) for key in ready}
    return found


def plain(number: Decimal) -> str:
    """A result as records keep it: without zeros that say nothing."""
    return format(number.normalize() if number else Decimal(0), "f")


_WORDS: Mapping[Kind, tuple[str, str]] = {
    "number": ("数字", "a number"), "date": ("日期", "a day"), "text": ("文本", "a text"), "bool": ("是否", "yes or no"),
}  # fmt: skip
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
# How many arguments a function has, at least and at most.
_ARGUMENTS: Mapping[str, tuple[int, int]] = {
    "IF": (3, 3), "ROUND": (1, 2), "ABS": (1, 1), "FLOOR": (1, 1), "CEIL": (1, 1),
}  # fmt: skip


def _fields(tree: Any) -> Iterator[str]:
    if isinstance(tree, Tree):
        for one in cast("Tree[Token]", tree).find_data("field"):
            yield str(one.children[0])


def _depth(tree: Any) -> int:
    # Step by step: what is too deep must not be walked by recursion.
    deepest, level = 0, [tree]
    while level := [
        child for one in level if isinstance(one, Tree) for child in cast("Tree[Any]", one).children
    ]:
        deepest += 1
    return deepest


def _kind(tree: Any, kinds: Mapping[str, Kind]) -> Kind:
    parts: list[Any] = tree.children

    def all_of(kind: Kind, *of: Any) -> Kind:
        for one in of or parts:
            if not isinstance(one, Token) and (found := _kind(one, kinds)) != kind:
                raise FormulaError(
                    f"此处须为{_WORDS[kind][0]}，而不是{_WORDS[found][0]}",
                    f"{_WORDS[kind][1]} is needed where {_WORDS[found][1]} stands",
                )
        return kind

    match tree.data:
        case "number":
            return "number"
        case "text":
            return "text"
        case "field":
            if (path := str(parts[0])) not in kinds:
                raise FormulaError(f"不能使用字段 {path}", f"the field {path} cannot be used")
            return kinds[path]
        case "either" | "both" | "nay":
            return all_of("bool")
        case "compared":
            all_of(_kind(parts[0], kinds))
            if parts[1] not in ("=", "!=") and _kind(parts[0], kinds) in ("text", "bool"):
                raise FormulaError(
                    "文本和是否只能用 = 或 != 比较", "texts and yes or no are compared by = and != alone"
                )
            return "bool"
        case "sum" if len(parts) == 3 and parts[1] == "-" and _kind(parts[0], kinds) == "date":
            all_of("date")
            return "number"
        case "function":
            return _result(str(parts[0]), parts[1:], kinds, all_of)
        case _:
            return all_of("number")


def _result(name: str, given: list[Any], kinds: Mapping[str, Kind], all_of: Callable[..., Kind]) -> Kind:
    least, most = _ARGUMENTS.get(name, (1, 20))
    if not least <= len(given) <= most:
        raise FormulaError(f"{name} 的参数个数不对", f"{name} has a wrong number of arguments")
    match name:
        case "IF":
            all_of("bool", given[0])
            return all_of(_kind(given[1], kinds), *given[1:])
        case "COALESCE" | "MIN" | "MAX":
            return all_of(_kind(given[0], kinds), *given)
        case _:
            return all_of("number", *given)


def _value(tree: Any, of: Callable[[str], Any]) -> Any:
    parts: list[Any] = tree.children
    match tree.data:
        case "number":
            return Decimal(str(parts[0]))
        case "text":
            return str(parts[0])[1:-1]
        case "field":
            return of(str(parts[0]))
        case "either":
            return any(_value(one, of) is True for one in parts)
        case "both":
            return all(_value(one, of) is True for one in parts)
        case "nay":
            return _value(parts[0], of) is not True
        case "minus":
            one = _value(parts[0], of)
            return None if one is None else -one
        case "compared":
            left, right = _value(parts[0], of), _value(parts[2], of)
            return left is not None and right is not None and _COMPARE[str(parts[1])](left, right)
        case "function":
            return _call(str(parts[0]), parts[1:], of)
        case _:
            return _chain(parts, of)


def _chain(parts: list[Any], of: Callable[[str], Any]) -> Any:
    """Sums and products, from the left."""
    found = _value(parts[0], of)
    for sign, part in zip(parts[1::2], parts[2::2], strict=True):
        other = _value(part, of)
        if found is None or other is None:
            return None
        match str(sign):
            case "+":
                found = found + other
            case "-":
                found = Decimal((found - other).days) if isinstance(found, date) else found - other
            case "*":
                found = found * other
            case _:
                found = found / other if other else None
    return found


def _call(name: str, given: list[Any], of: Callable[[str], Any]) -> Any:
    if name == "IF":
        return _value(given[1] if _value(given[0], of) is True else given[2], of)
    values = [_value(one, of) for one in given]
    there = [one for one in values if one is not None]
    match name:
        case "COALESCE":
            return there[0] if there else None
        case "MIN":
            return min(there, default=None)
        case "MAX":
            return max(there, default=None)
        case "SUM":
            return sum(there, Decimal(0)) if there else None
        case _ if len(there) < len(values):
            return None
        case "ABS":
            return abs(values[0])
        case "FLOOR":
            return values[0].to_integral_value(ROUND_FLOOR)
        case "CEIL":
            return values[0].to_integral_value(ROUND_CEILING)
        case _:
            digits = int(values[1]) if len(values) > 1 else 0
            return values[0].quantize(Decimal(1).scaleb(-min(max(digits, 0), MOST_DIGITS)), ROUND_HALF_UP)
