"""The language: nodes, the error, and the parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Literal, cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput
from sqlalchemy import ColumnElement

MAX_BYTES: Final = 4096
MAX_TERMS: Final = 20
MAX_DEPTH: Final = 10

Kind = Literal[
    "text", "number", "bool", "date", "time", "money", "enum", "reference", "texts", "struct", "messages"
]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", ":"]


class FilterError(ValueError):
    """The filter or order cannot be used; `position` is the 0-based character of the token at fault."""

    def __init__(self, position: int, detail_zh: str, detail_en: str) -> None:
        super().__init__(f"{detail_en} (position {position})")
        self.position = position
        self.detail_zh = detail_zh
        self.detail_en = detail_en


@dataclass(frozen=True)
class FilterField:
    """A field that may be filtered by, and the column that holds it.

    The name is in snake_case and may be dotted. `texts` is a text array or a JSONB list, `struct` and
    `messages` are JSONB, `money` has its amount in `column`. Without `choices` an enum takes any value.
    """

    name: str
    kind: Kind
    column: ColumnElement[Any]
    choices: frozenset[str] = frozenset()
    currency: ColumnElement[Any] | None = None


@dataclass(frozen=True)
class Value:
    """What stands right of the operator: its text, whether a star opens it at either end, where it was."""

    text: str
    quoted: bool
    position: int
    open_start: bool = False
    open_end: bool = False

    @property
    def is_null(self) -> bool:
        return self.text == "null" and not self.quoted

    @property
    def is_any(self) -> bool:
        """Just `*`: the field is there."""
        return self.open_start and not self.core

    @property
    def core(self) -> str:
        """The text without its wildcards."""
        end = len(self.text) - (1 if self.open_end else 0)
        return self.text[1 if self.open_start else 0 : end]


@dataclass(frozen=True)
class Comparison:
    path: tuple[str, ...]
    operator: Operator
    value: Value
    position: int
    field: FilterField | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Not:
    node: Node


@dataclass(frozen=True)
class And:
    """True where all are; without nodes it is the empty filter, which everything passes."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    nodes: tuple[Node, ...]


Node = Comparison | Not | And | Or


@lru_cache(1024)
def parse(text: str) -> Node:
    """Read a filter, which is asked for again and again.

    Raises FilterError for bad syntax, NUL, or more than 4 KiB, 20 terms or 10 levels.
    """
    check_text(text)
    try:
        built: _Built = _PARSER.parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    if built.depth > MAX_DEPTH:
        raise FilterError(
            0, f"筛选条件嵌套超过 {MAX_DEPTH} 层", f"the filter nests deeper than {MAX_DEPTH} levels"
        )
    terms = list(_comparisons(built.node))
    if len(terms) > MAX_TERMS:
        raise FilterError(
            terms[MAX_TERMS].value.position,
            f"筛选条件超过 {MAX_TERMS} 个",
            f"the filter has more than {MAX_TERMS} terms",
        )
    return built.node


_GRAMMAR = r"""
start: conjunction?
conjunction: disjunction (_AND? disjunction)*
disjunction: term (_OR term)*
?term: simple
     | (_NOT | _MINUS) simple      -> negation
?simple: comparison
       | "(" conjunction ")"       -> group
comparison: FIELD OPERATOR argument
?argument: value
         | "(" values ")"          -> group
values: alternatives (_AND alternatives)*   -> conjunction
alternatives: item (_OR item)*              -> disjunction
?item: value
     | _NOT value                  -> negation
     | "(" values ")"              -> group
?value: STRING                     -> quoted
      | BARE                       -> bare

_AND.2: /AND(?=[\s(-])/
_OR.2: /OR(?=[\s(-])/
_NOT.2: /NOT(?=[\s(])/
_MINUS: "-"
OPERATOR: "<=" | ">=" | "!=" | "=" | "<" | ">" | ":"
FIELD: /[^\W\d]\w*(\.(\w+|"(\\.|[^"\\])*"))*/
STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/
BARE: /[^\s()"',=<>!:][^\s()"',=<>!]*(\(\)[^\s()"',=<>!]*)?/
%ignore /\s+/
"""


@dataclass(frozen=True)
class _Built:
    node: Node
    depth: int


def _unescape(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL)


def _stars(raw: str) -> tuple[bool, bool]:
    """Whether the text starts and ends with a star that is not escaped; a lone star is a start."""
    start = raw.startswith("*")
    body = raw[1:] if start else raw
    slashes = len(body) - 1 - len(body[:-1].rstrip("\\")) if body else 0
    return start, body.endswith("*") and slashes % 2 == 0


class _Builder(Transformer[Token, _Built]):
    """Builds nodes while parsing. Inside an argument the values are comparisons that have no path yet."""

    def start(self, children: list[_Built]) -> _Built:
        return children[0] if children else _Built(And(()), 0)

    def conjunction(self, children: list[_Built]) -> _Built:
        return self._several(And, children)

    def disjunction(self, children: list[_Built]) -> _Built:
        return self._several(Or, children)

    def _several(self, join: type[And] | type[Or], children: list[_Built]) -> _Built:
        if len(children) == 1:
            return children[0]
        return _Built(join(tuple(child.node for child in children)), max(child.depth for child in children))

    def negation(self, children: list[_Built]) -> _Built:
        return _Built(Not(children[0].node), children[0].depth)

    def group(self, children: list[_Built]) -> _Built:
        return _Built(children[0].node, children[0].depth + 1)

    def comparison(self, children: list[Any]) -> _Built:
        name, sign, argument = cast("tuple[Token, Token, _Built]", tuple(children))
        path = tuple(
            _unescape(quoted) if quoted else plain
            for plain, quoted in re.findall(r'(\w+)|"((?:\\.|[^"\\])*)"', str(name))
        )
        position = name.start_pos or 0
        sense = cast(Operator, str(sign))
        several = not isinstance(argument.node, Comparison)

        def complete(node: Node) -> Node:
            match node:
                case Comparison():
                    # `x != (a OR b)` is the opposite of `x = (a OR b)`, so the sign moves outside.
                    inner: Operator = "=" if several and sense == "!=" else sense
                    return replace(node, path=path, operator=inner, position=position)
                case Not(inner_node):
                    return Not(complete(inner_node))
                case And(nodes):
                    return And(tuple(map(complete, nodes)))
                case Or(nodes):
                    return Or(tuple(map(complete, nodes)))

        node = complete(argument.node)
        return _Built(Not(node) if several and sense == "!=" else node, argument.depth)

    def quoted(self, children: list[Token]) -> _Built:
        raw = str(children[0])[1:-1]
        return self._value(_unescape(raw), True, children[0], _stars(raw))

    def bare(self, children: list[Token]) -> _Built:
        raw = str(children[0])
        return self._value(raw, False, children[0], _stars(raw))

    def _value(self, text: str, quoted: bool, token: Token, stars: tuple[bool, bool]) -> _Built:
        value = Value(text, quoted, token.start_pos or 0, *stars)
        return _Built(Comparison((), "=", value, value.position), 0)


# Lark declares a tree as the result; with a transformer it is what `start` returns.
_PARSER: Final[Any] = Lark(_GRAMMAR, parser="lalr", transformer=_Builder())


def check_text(text: str) -> None:
    bad = re.search("[\x00\ud800-\udfff]", text)
    if bad:
        raise FilterError(bad.start(), "包含不允许的字符", "there is a character that is not allowed")
    if len(text.encode()) > MAX_BYTES:
        raise FilterError(len(text), f"超过 {MAX_BYTES} 字节", f"the text is longer than {MAX_BYTES} bytes")


def _syntax_error(error: UnexpectedInput, text: str) -> FilterError:
    if isinstance(error, UnexpectedCharacters):
        place: int = cast(Any, error).pos_in_stream
        return FilterError(place, f"无法识别“{text[place]}”", f'"{text[place]}" is not understood here')
    token: Token = cast(Any, error).token
    if token.type == "$END":
        return FilterError(len(text), "筛选条件不完整", "the filter ends too early")
    place = token.start_pos or 0
    if cast(Any, error).expected == {"OPERATOR"}:
        return FilterError(place, f"“{token}”之前缺少比较符", f'a comparison is missing before "{token}"')
    return FilterError(place, f"此处不应出现“{token}”", f'"{token}" is not expected here')


def _comparisons(node: Node) -> Iterator[Comparison]:
    match node:
        case Comparison():
            yield node
        case Not(inner):
            yield from _comparisons(inner)
        case And(nodes) | Or(nodes):
            for each in nodes:
                yield from _comparisons(each)
