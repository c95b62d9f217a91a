"""A pattern of human numbers taken apart: which numbers are its own, and which counter and place they come from."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING

from crmkit import numbering
from crmkit.listing import ZONE
from crmkit.numbering import NO_DEPARTMENT, PART, begins, render

if TYPE_CHECKING:
    from crmkit.call import Call
    from crmkit.describe import Described
    from crmkit.resource import Resource

# How many characters a part of a date has.
_WIDTHS = {"yyyy": 4, "yy": 2, "MM": 2, "dd": 2, "yyyyMM": 6, "yyyyMMdd": 8}
_FORM_WIDTHS = {"%Y": 4, "%y": 2, "%m": 2, "%d": 2, "%Y%m": 6, "%Y%m%d": 8}


def form_of(call: Call, described: Described, pattern: str, reset: str = "") -> Form:
    """The form with the departments and entries that there are: a code may end in digits, and digits may follow."""
    words: dict[str, Collection[str]] = {}
    for match in PART.finditer(pattern):
        if match[1] == "dept":
            departments = call.running.config.prefix("department.").values()
            words["dept"] = {str(entry.get("code") or NO_DEPARTMENT) for entry in departments}
        elif match[2] and (field := described.fields.get(match[2])):
            words[match[1]] = call.running.directory.custom.dictionary(field.rule.dictionary)
    return Form(pattern, reset, words)


def gap_free(row: Resource, call: Call) -> bool:
    """Whether the row's number is of a rule without gaps: by its form, else by the rule that counts for the row now."""
    described = row.described
    rules = numbering.live_rules(call, described)
    own = [
        rule
        for rule in rules
        if form_of(call, described, rule["pattern"], rule.get("reset", "")).place(row.number)
    ]
    if not own:
        own = [numbering.rule_for(call, row)]
    return any(rule.get("gapFree", described.rule.gap_free) for rule in own)


class Form:
    """What the numbers of a pattern look like, for PostgreSQL and for Python alike."""

    def __init__(
        self, pattern: str, reset: str = "", words: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self.pattern, self.reset = pattern, reset
        self.words = {
            part: "|".join(
                re.escape(one) for one in sorted({*some, NO_DEPARTMENT}, key=lambda w: (-len(w), w))
            )
            for part, some in (words or {}).items()
        }
        self._parts: dict[int, str] = {}
        # Literal texts and groups of the expression with how many of their characters begin a counter (0: all).
        self.counter: list[str | tuple[int, int]] = []
        self.sequence = 0
        expression, position, group = "", 0, 0
        for match in PART.finditer(pattern):
            expression += self._literal(pattern[position : match.start()])
            position, group, part = match.end(), group + 1, match[1]
            kept = begins(part, reset)
            if part.startswith("seq"):
                self.sequence, kept = group, ""
                expression += rf"(\d{{{int(match[3] or 1)},18}})"
            elif part in _WIDTHS:
                expression += rf"(\d{{{_WIDTHS[part]}}})"
            else:
                self._parts[group] = self.words.get(part, ".+?")
                expression += f"({self._parts[group]})"
            if kept is None or kept:
                self.counter.append((group, _FORM_WIDTHS[kept] if kept else 0))
        self.expression = f"^{expression}{self._literal(pattern[position:])}$"

    def _literal(self, text: str) -> str:
        if text:
            self.counter.append(text)
        return re.escape(text)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.expression)

    @property
    def counters(self) -> str:
        """An expression that the period of each counter of this form fits."""
        parts = [
            re.escape(part)
            if isinstance(part, str)
            else rf"\d{{{part[1]}}}"
            if part[1]
            else f"({self._parts.get(part[0], '.+?')})"
            for part in self.counter
        ]
        return f"^{''.join(parts)}$"

    def place(self, number: str) -> tuple[str, int] | None:
        """The period of the number's counter and its place there; None for a number of another form."""
        match = self._compiled.match(number)
        if match is None:
            return None
        parts = (
            part if isinstance(part, str) else match[part[0]][: part[1] or None] for part in self.counter
        )
        return "".join(parts), int(match[self.sequence])

    def beside(self, number: str, place: int) -> str:
        """The number at another place of the same counter; empty beside what is no number of the form."""
        match = self._compiled.match(number)
        if match is None:
            return ""
        start, end = match.span(self.sequence)
        width = next(int(part[3] or 1) for part in PART.finditer(self.pattern) if part[1].startswith("seq"))
        return f"{number[:start]}{place:0{width}d}{number[end:]}"

    def soon(self, now: datetime, first: int, steps: int, zone: tzinfo = ZONE) -> Iterator[str]:
        """Expressions of the numbers that a new counter would give now, for any department and entry."""
        mark = "\x00"
        entries = {part[2]: mark for part in PART.finditer(self.pattern) if part[2]}
        for place in range(first, first + steps):
            number = render(self.pattern, now, place, mark, zone, entries)
            yield f"^{re.escape(number).replace(re.escape(mark), '.+').replace(mark, '.+')}$"
