"""Which territory a customer belongs to, and why: pure, so that a preview is the same whenever it is reckoned."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

# The narrower a criterion, the sooner it counts.
CRITERIA = ("NAMED_ACCOUNT", "POSTCODE", "DISTRICT", "CITY", "PROVINCE", "INDUSTRY", "SIZE", "DEFAULT")
_DIGITS = {"DISTRICT": 6, "CITY": 4, "PROVINCE": 2}


@dataclass(frozen=True, slots=True)
class Place:
    """As much of a customer, or of a lead, as territories ask for."""

    name: str
    division: str = ""
    postcode: str = ""
    industry: str = ""
    employees: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """The territory that takes a customer, by what, and which others would have equal right."""

    code: str
    criterion: str
    value: str
    rivals: tuple[str, ...] = ()


@dataclass
class _Line:
    """The territories of one product line, by what they take."""

    named: dict[str, list[Any]] = field(default_factory=dict)
    postcodes: list[tuple[str, str, Any]] = field(default_factory=list)
    divisions: dict[str, list[Any]] = field(default_factory=dict)
    industries: dict[str, list[Any]] = field(default_factory=dict)
    sizes: list[Any] = field(default_factory=list)
    defaults: list[Any] = field(default_factory=list)
    # The end of a range that begins before or here, so that a look from the start of the codes finds all that reach.
    starts: list[str] = field(default_factory=list)


class TerritoryMap:
    """Territories (plan nodes or territories in force), indexed by their criteria."""

    def __init__(self, nodes: Iterable[Any]) -> None:
        self.nodes = {node.code: node for node in nodes}
        self._lines: dict[str, _Line] = {}
        for node in self.nodes.values():
            self._take(self._lines.setdefault(node.product_line, _Line()), node)
        for line in self._lines.values():
            line.postcodes.sort(key=lambda one: one[0])
            line.starts = [one[0] for one in line.postcodes]

    def match(self, place: Place) -> dict[str, Match]:
        """The territory of every product line that has one; the line '' is for all others."""
        found: dict[str, Match] = {}
        for name, line in self._lines.items():
            if (match := _best(line, place)) is not None:
                found[name] = match
        return found

    def beneath(self, code: str) -> set[str]:
        """The codes of a territory and all within it."""
        found, more = {code}, True
        while more:
            inner = {node.code for node in self.nodes.values() if node.parent in found} - found
            found |= inner
            more = bool(inner)
        return found

    def _take(self, line: _Line, node: Any) -> None:
        criteria = node.criteria
        if node.fallback:
            line.defaults.append(node)
        if criteria is None:
            return
        for account in criteria.named_accounts:
            line.named.setdefault(account, []).append(node)
        for one in criteria.postcodes:
            first = getattr(one, "from")  # a word of the language
            line.postcodes.append((first, one.to or first, node))
        for code in criteria.divisions:
            line.divisions.setdefault(stem(code), []).append(node)
        for industry in criteria.industries:
            line.industries.setdefault(industry, []).append(node)
        if criteria.min_employees or criteria.max_employees:
            line.sizes.append(node)


def stem(code: str) -> str:
    """A division's code as far as it says something: 330000 is 33."""
    return (
        code[:-4] if code.endswith("0000") else code[:-2] if code.endswith("00") and len(code) > 2 else code
    )


def _best(line: _Line, place: Place) -> Match | None:
    for criterion in CRITERIA:
        nodes, value = _takers(line, place, criterion)
        if nodes:
            nodes = sorted({node.code: node for node in nodes}.values(), key=lambda n: (-n.priority, n.code))
            rivals = tuple(node.code for node in nodes[1:] if node.priority == nodes[0].priority)
            return Match(nodes[0].code, criterion, value, rivals)
    return None


def _takers(line: _Line, place: Place, criterion: str) -> tuple[Sequence[Any], str]:
    match criterion:
        case "NAMED_ACCOUNT":
            return line.named.get(place.name, ()), place.name
        case "POSTCODE":
            reach = bisect_right(line.starts, place.postcode) if place.postcode else 0
            return [n for _, last, n in line.postcodes[:reach] if place.postcode <= last], place.postcode
        case "INDUSTRY":
            return (line.industries.get(place.industry, ()) if place.industry else ()), place.industry
        case "SIZE":
            fits = [node for node in line.sizes if _fits(node.criteria, place.employees)]
            return fits, str(place.employees)
        case "DEFAULT":
            return line.defaults, ""
        case _:
            code = place.division[: _DIGITS[criterion]]
            # 330100 in an address is the whole city, no district of it.
            wide = len(stem(place.division)) < _DIGITS[criterion]
            return (() if wide else line.divisions.get(code, ())), code


def _fits(criteria: Any, employees: int) -> bool:
    return bool(employees) and criteria.min_employees <= employees <= (criteria.max_employees or employees)
