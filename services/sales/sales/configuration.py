"""Choices of a bundle: which rules they break, what else may be chosen, and whether anything can be right at all.

Pure. Rules between options are clauses for a SAT solver, which finds contradictions and the nearest valid choices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import plain
from pysat.card import CardEnc, EncType
from pysat.examples.rc2 import RC2
from pysat.formula import CNF, WCNF
from pysat.solvers import Solver

Choices = dict[str, Decimal]
ONE = Decimal(1)


@dataclass(frozen=True)
class Broken:
    """A rule that choices break, in both languages."""

    zh: str
    en: str


class Shape:
    """The groups, options and rules of a bundle, by key."""

    def __init__(
        self, bundle: Any, labels: Mapping[str, str] | None = None, gone: Collection[str] = ()
    ) -> None:
        # Options whose product is not on sale: whoever chooses anew cannot have them.
        self.gone = gone
        self.groups: list[Any] = list(bundle.groups)
        self.rules: list[Any] = list(bundle.rules)
        self.options: dict[str, Any] = {
            option.key: option for group in self.groups for option in group.options
        }
        self.group_of: dict[str, Any] = {
            option.key: group for group in self.groups for option in group.options
        }
        self._labels = labels or {}

    def label(self, key: str) -> str:
        """What people call an option."""
        option = self.options.get(key)
        return self._labels.get(option.product, key) if option is not None else key

    def presets(self) -> Choices:
        """The default choices."""
        return {key: self.quantity(key) for key, option in self.options.items() if option.preset}

    def quantity(self, key: str) -> Decimal:
        """How many of an option unless somebody says otherwise."""
        return Decimal(self.options[key].quantity or 1)

    def completed(self, given: Iterable[Any]) -> Choices:
        """The choices given, quantities filled in; the default ones where none are given."""
        chosen = {
            choice.option: Decimal(choice.quantity)
            if choice.quantity
            else (self.quantity(choice.option) if choice.option in self.options else ONE)
            for choice in given
        }
        return chosen or self.presets()

    def broken(self, chosen: Choices) -> list[Broken]:
        """Every rule that the choices break."""
        return [
            *self._unknown(chosen),
            *(self._not_sold(key) for key in chosen if key in self.gone),
            *(found for group in self.groups for found in _group(group, chosen)),
            *(found for key in chosen for found in self._too_many(key, chosen)),
            *(found for rule in self.rules for found in self._rule(rule, chosen)),
        ]

    def unavailable(self, chosen: Choices) -> dict[str, Broken]:
        """Options that are not chosen and would break a rule if they were, with the first such rule."""
        before = {(one.zh, one.en) for one in self.broken(chosen)}
        found: dict[str, Broken] = {}
        for key in self.options.keys() - chosen.keys():
            group = self.group_of[key]
            # Of a group of which one is chosen, another takes its place.
            others = {option.key for option in group.options} if group.maximum == 1 else set[str]()
            then = {name: many for name, many in chosen.items() if name not in others}
            then[key] = self.quantity(key)
            fresh = [one for one in self.broken(then) if (one.zh, one.en) not in before]
            if fresh:
                found[key] = fresh[0]
        return found

    def nearest(self, chosen: Choices) -> Choices | None:
        """The choices that break nothing and differ in the fewest options; None where there are none."""
        numbers, formula = self._clauses()
        weighted = WCNF()
        weighted.extend([*formula.clauses, *([-numbers[key]] for key in self.gone)])
        for key, number in numbers.items():
            weighted.append([number if key in chosen else -number], weight=1)
        with RC2(weighted) as solver:
            model = solver.compute()
        if model is None:
            return None
        kept = {key for key, number in numbers.items() if model[number - 1] > 0}
        return self._settled(
            {key: chosen.get(key) or self.quantity(key) for key in self.options if key in kept}
        )

    def contradictions(self) -> list[str]:
        """Keys of options that no valid choice has; all of them where nothing is valid."""
        numbers, formula = self._clauses()
        with Solver(bootstrap_with=formula.clauses) as solver:
            return [key for key, number in numbers.items() if not solver.solve(assumptions=[number])]

    def satisfiable(self) -> bool:
        """Whether any choice is valid."""
        _, formula = self._clauses()
        with Solver(bootstrap_with=formula.clauses) as solver:
            return bool(solver.solve())

    def digestible(self, chosen: Choices) -> list[tuple[str, str]]:
        """The choices in the bundle's order, as plain text."""
        return [(key, plain(chosen[key])) for key in self.options if key in chosen]

    def _clauses(self) -> tuple[dict[str, int], CNF]:
        numbers = {key: place for place, key in enumerate(self.options, start=1)}
        formula, top = CNF(), len(numbers)
        for group in self.groups:
            literals = [numbers[option.key] for option in group.options]
            for bound, encode in ((group.minimum, CardEnc.atleast), (group.maximum, CardEnc.atmost)):
                if not bound or (encode is CardEnc.atmost and bound >= len(literals)):
                    continue
                if bound > len(literals):
                    formula.extend([[literal] for literal in literals] + [[-literals[0]]])
                    continue
                part = encode(lits=literals, bound=bound, top_id=top, encoding=EncType.seqcounter)
                formula.extend(part.clauses)
                top = max(top, part.nv)
        for rule in self.rules:
            formula.append(self._clause(rule, numbers))
        return numbers, formula

    def _clause(self, rule: Any, numbers: Mapping[str, int]) -> list[int]:
        one, other = numbers[rule.option], numbers[rule.other]
        if rule.kind == pb.Bundle.EXCLUDES:
            return [-one, -other]
        if rule.kind == pb.Bundle.QUANTITY and not self._can_have(rule):
            return [-one]
        return [-one, other]

    def _can_have(self, rule: Any) -> bool:
        most = self.options[rule.other].max_quantity
        return not most or _needed(rule, self.quantity(rule.option)) <= Decimal(most)

    def _settled(self, chosen: Choices) -> Choices:
        """Quantities raised until every quantity rule holds."""
        for _ in range(len(self.rules) + 1):
            for rule in self.rules:
                if rule.kind == pb.Bundle.QUANTITY and rule.option in chosen:
                    needed = _needed(rule, chosen[rule.option])
                    chosen[rule.other] = max(chosen.get(rule.other, needed), needed)
        return chosen

    def _unknown(self, chosen: Choices) -> Iterator[Broken]:
        for key in chosen.keys() - self.options.keys():
            yield Broken(f"没有选项“{key}”", f"there is no option {key}")

    def _not_sold(self, key: str) -> Broken:
        return Broken(f"{self.label(key)}不在售", f"{self.label(key)} is not on sale")

    def _too_many(self, key: str, chosen: Choices) -> Iterator[Broken]:
        most = self.options[key].max_quantity if key in self.options else ""
        if chosen[key] <= 0:
            yield Broken(
                f"{self.label(key)}的数量必须大于 0", f"the quantity of {self.label(key)} must be above 0"
            )
        if most and chosen[key] > Decimal(most):
            yield Broken(f"{self.label(key)}最多 {most} 件", f"at most {most} of {self.label(key)}")

    def _rule(self, rule: Any, chosen: Choices) -> Iterator[Broken]:
        one, other = self.label(rule.option), self.label(rule.other)
        if rule.option not in chosen:
            return
        has = rule.other in chosen
        if rule.kind == pb.Bundle.REQUIRES and not has:
            yield self._told(rule, f"{one}需要{other}", f"{one} needs {other}")
        elif rule.kind == pb.Bundle.EXCLUDES and has:
            yield self._told(rule, f"{one}与{other}不能同时选择", f"{one} excludes {other}")
        elif rule.kind == pb.Bundle.QUANTITY:
            needed = _needed(rule, chosen[rule.option])
            if chosen.get(rule.other, Decimal(0)) < needed:
                many = plain(needed)
                yield self._told(
                    rule, f"{one}需要至少 {many} 件{other}", f"{one} needs at least {many} of {other}"
                )

    def _told(self, rule: Any, zh: str, en: str) -> Broken:
        return Broken(rule.text or zh, rule.text or en)


def _group(group: Any, chosen: Choices) -> Iterator[Broken]:
    count = sum(option.key in chosen for option in group.options)
    if count < group.minimum:
        zh, en = (
            f"“{group.display_name}”至少选 {group.minimum} 项",
            f"at least {group.minimum} of {group.display_name}",
        )
        yield Broken(zh, en)
    if group.maximum and count > group.maximum:
        zh, en = (
            f"“{group.display_name}”至多选 {group.maximum} 项",
            f"at most {group.maximum} of {group.display_name}",
        )
        yield Broken(zh, en)


def _needed(rule: Any, quantity: Decimal) -> Decimal:
    exact = quantity * Decimal(rule.ratio or 0) + Decimal(rule.plus or 0)
    return max(exact.to_integral_value(ROUND_CEILING), ONE)
