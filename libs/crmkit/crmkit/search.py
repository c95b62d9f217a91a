"""Search by fragment, pinyin and telephone number, on built-in index types of PostgreSQL alone.

A searchable table has the three columns of `search_table_columns`, filled by `search_columns`:

- `search_grams text[]`: every character and pair of neighbours of every name; GIN.
- `search_text text`: the folded names, one a line, to recheck and to rank what the pairs found.
- `search_pinyin text[]`: what is found by its beginning: spellings, initials, telephone numbers, and
  telephone numbers backwards after a `-`, so that their end is a beginning too. GIN on arrays knows no
  prefixes, GIN on text search vectors does: the index is on `array_to_tsvector(search_pinyin)`, which takes
  the elements as they are and compares bytes, and it is asked with `'zyyy':*`. The column stays an array that
  COPY and unnest can write.

Reading: `candidates` first (cut at 1,000 and in no order, so that the planner can not walk the index of the
order and filter on the way), joined to the table and sorted by its `rank` and `position`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    FromClause,
    Index,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    inspect,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY

from crmkit import text

CANDIDATES = 1000
"""Rows that are ranked; one more is read, so that a count above it says that there is more."""

Searched = FromClause | type[Any]
"""A table, an alias, or a mapped class."""


class SearchKind(StrEnum):
    """What a query looks like; each kind is also looked for as a fragment."""

    SINGLE = "SINGLE"
    FRAGMENT = "FRAGMENT"
    PINYIN = "PINYIN"
    PHONE = "PHONE"


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """What somebody typed into a search box, understood."""

    kind: SearchKind
    forms: tuple[str, ...]
    """The fragment as it may stand in `search_text`; the likely form first."""
    prefix: str = ""
    """The spelling without spaces (PINYIN) or the digits (PHONE)."""

    @classmethod
    def parse(cls, q: str) -> "SearchTerm | None":
        """The term, or None where nothing is left to look for. ValueError as of `text.reject_bad_text`."""
        forms = text.foldings(q)
        if not forms:
            return None
        folded = forms[0]
        digits = _PHONE_PUNCTUATION.sub("", folded)
        if len(digits) >= _PHONE_DIGITS and digits.isascii() and digits.isdigit():
            return cls(SearchKind.PHONE, forms, digits)
        if len(folded) == 1:
            return cls(SearchKind.SINGLE, forms)
        spelling = _SPELLING_PUNCTUATION.sub("", folded).replace("ü", "v")
        if len(spelling) > 1 and _SPELLING.fullmatch(spelling):
            return cls(SearchKind.PINYIN, forms, spelling[: text.KEY_LENGTH])
        return cls(SearchKind.FRAGMENT, forms)

    def shape(self) -> "SearchTerm":
        """The same for all terms whose statements differ in their values alone."""
        forms = tuple("一二"[: len(form)] for form in self.forms)
        return SearchTerm(SearchKind.FRAGMENT, forms, "yi" if self.prefix else "")

    def values(self) -> dict[str, Any]:
        """What the statements bind, by name."""
        found: dict[str, Any] = {}
        for number, form in enumerate(self.forms):
            found[f"form{number}"] = form
            found[f"grams{number}"] = [form] if len(form) == 1 else sorted(set(text.pairs(form)))
            found[f"holds{number}"] = _pattern(form)
            found[f"begins{number}"] = _pattern(text.SEPARATOR + form)
            found[f"equals{number}"] = _pattern(text.SEPARATOR + form + text.SEPARATOR)
        if self.prefix:
            found |= {"key": [self.prefix], "prefix": _prefix_query(self)}
        return found


def search_columns(
    texts: Iterable[str],
    pinyin_of: Iterable[str] = (),
    *,
    from_brand: Mapping[str, str] | None = None,
    phones: Iterable[str] = (),
    spelled: Mapping[str, tuple[str, list[str]]] | None = None,
) -> dict[str, Any]:
    """The values to store for a row that `texts` find.

    `pinyin_of` are the texts that are found by their spelling too, `from_brand` says for some of them which
    part begins with the brand, `phones` are numbers in E.164 (others are taken digit by digit), `spelled` has
    texts folded, and their spellings, where they are known already.
    """
    brands = from_brand or {}
    known = spelled or {}
    keys = [
        key
        for name in pinyin_of
        for key in (known[name][1] if name in known else text.pinyin_keys(name, brands.get(name, "")))
    ]
    keys += [key for phone in phones for key in phone_keys(phone)]
    folded = [known[name][0] if name in known else text.fold(name) for name in texts]
    return {
        "search_grams": text.folded_grams(folded),
        "search_text": text.SEPARATOR.join(dict.fromkeys(filter(None, folded))),
        "search_pinyin": list(dict.fromkeys(keys)),
    }


def phone_keys(number: str) -> list[str]:
    """What a telephone number is found by: its digits, of a Chinese one also the ways to dial it at home, and
    the digits backwards."""
    digits = "".join(character for character in text.fold(number) if character in "0123456789")
    if not digits:
        return []
    forms = [digits]
    if number.startswith("+86"):
        at_home = digits.removeprefix("86")
        forms += [at_home] if at_home.startswith("1") and len(at_home) == 11 else [at_home, "0" + at_home]
    return [*forms, "-" + digits[::-1]]


def search_condition(term: SearchTerm, table: Searched) -> ColumnElement[bool]:
    """True for the rows that the term finds; served by the indexes of `search_indexes`."""
    columns, values = _columns(table), term.values()
    found: list[ColumnElement[bool]] = []
    for number, form in enumerate(term.forms):
        grams = columns.search_grams.contains(_bound(f"grams{number}", values, ARRAY(Text)))
        found.append(
            grams if len(form) == 1 else and_(grams, _like(columns.search_text, f"holds{number}", values))
        )
    if term.prefix:
        query = cast(cast(_bound("prefix", values), Text), TSQUERY)
        found.append(func.array_to_tsvector(columns.search_pinyin).bool_op("@@")(query))
    return or_(*found)


def found_by(term: SearchTerm, texts: Iterable[str], phones: Iterable[str]) -> bool:
    """Whether the term finds a row of these texts and numbers: `search_condition` over one row in memory."""
    texts = [*texts]
    columns = search_columns(texts, texts, phones=phones)
    prefixes = _prefixes(term) if term.prefix else []
    return any(form in columns["search_text"] for form in term.forms) or any(
        key.startswith(prefix) for key in columns["search_pinyin"] for prefix in prefixes
    )


def search_ranking(term: SearchTerm, table: Searched) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Rank (0 a whole name, 1 the beginning of a name, spelling or number, 2 elsewhere) and position in the
    text; what comes after, such as the last activity, is the caller's."""
    columns, values, numbers = _columns(table), term.values(), range(len(term.forms))
    lines = text.SEPARATOR + columns.search_text + text.SEPARATOR
    exact = [_like(lines, f"equals{number}", values) for number in numbers]
    begins = [_like(lines, f"begins{number}", values) for number in numbers]
    if term.prefix:
        exact.append(columns.search_pinyin.contains(_bound("key", values, ARRAY(Text))))
        # Every hit that the fragment does not explain is the beginning of a key.
        begins.append(~or_(*(_like(columns.search_text, f"holds{number}", values) for number in numbers)))
    position = func.greatest(
        *(func.strpos(columns.search_text, _bound(f"form{number}", values)) for number in numbers)
    )
    return case((or_(*exact), 0), (or_(*begins), 1), else_=2), position


def candidates(
    term: SearchTerm, table: Searched, *columns: ColumnElement[Any], where: Iterable[ColumnElement[bool]] = ()
) -> CTE:
    """At most 1,001 rows inside the data scope `where` that the term finds: `columns`, `rank`, `position`.

    Join it to the table by its key, order by `rank`, `position` and what else counts, and cut the page.
    """
    rank, position = search_ranking(term, table)
    found = select(*columns, rank.label("rank"), position.label("position"))
    found = (
        found.select_from(table)
        .where(*where, search_condition(term, table))
        .limit(literal_column(str(CANDIDATES + 1), Integer))
    )
    return found.cte("candidates").prefix_with("MATERIALIZED")


def search_table_columns() -> list[Column[Any]]:
    """Fresh columns for a searchable table."""
    words = ARRAY(Text(collation="C"))
    return [
        Column("search_grams", words, nullable=False, server_default="{}"),
        Column("search_text", Text(collation="C"), nullable=False, server_default=""),
        Column("search_pinyin", words, nullable=False, server_default="{}"),
    ]


def search_indexes(table: str) -> list[Index]:
    """The two indexes of a searchable table of that name."""
    # A name has some fifty fragments. A short list of what waits takes a new row for a sixth of the CPU, and costs
    # a search nothing that can be measured; with PostgreSQL's own 4 MB it would.
    waiting = {"fastupdate": "on", "gin_pending_list_limit": "256"}
    options: dict[str, Any] = {"postgresql_using": "gin", "postgresql_with": waiting}
    keys = func.array_to_tsvector(literal_column("search_pinyin"))
    return [
        Index(f"ix_{table}_search_grams", "search_grams", **options),
        Index(f"ix_{table}_search_pinyin", keys, **options),
    ]


_PHONE_DIGITS = 4
_PHONE_PUNCTUATION = re.compile(r"[\s+().\-‐‑–—]")
_SPELLING_PUNCTUATION = re.compile(r"[\s'’\-]")
_SPELLING = re.compile(r"(?=.*[a-z])[a-z0-9]+")


def _columns(table: Searched) -> Any:
    return inspect(table).selectable.c


def _bound(name: str, values: Mapping[str, Any], kind: Any = Text) -> ColumnElement[Any]:
    return bindparam(name, values[name], kind)


def _like(column: ColumnElement[str], name: str, values: Mapping[str, Any]) -> ColumnElement[bool]:
    return column.like(_bound(name, values))


def _pattern(fragment: str) -> str:
    escaped = re.sub(r"([\\%_])", r"\\\1", fragment)
    return f"%{escaped}%"


def _prefix_query(term: SearchTerm) -> str:
    return " | ".join(f"'{prefix}':*" for prefix in _prefixes(term))


def _prefixes(term: SearchTerm) -> list[str]:
    prefixes = [term.prefix]
    if term.kind is SearchKind.PHONE:
        prefixes.append("-" + term.prefix[::-1])
        if term.prefix.startswith("00") and len(term.prefix) >= 2 + _PHONE_DIGITS:
            prefixes.append(term.prefix[2:])
    return prefixes
