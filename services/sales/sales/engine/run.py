"""The chain of one quote from list to gross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from crmkit.amounts import plain

from sales.engine.given import Given, Line, Policy
from sales.engine.policies import KINDS, Applied, Scale, Situation, choose, in_scope, next_threshold, validity
from sales.engine.reckoning import WIDE, cents, percent_of, shared
from sales.engine.result import CashTerm, FreeLine, Ground, Hint, PricedLine, Result, Step

NOTHING = Decimal(0)
# A next tier is worth a word where no more than a fifth of it is missing.
NEAR = Decimal("0.2")


class TooMuchOff(Exception):
    """More is taken off by hand than there is: the key of the line, or nothing for the whole quote."""


@dataclass
class _Chain:
    """A line while its steps are made."""

    line: Line
    places: int
    steps: list[Step]
    grounds: list[Ground]
    applied: list[Applied]
    left: Decimal

    def step(self, kind: str, label: str, effect: str, adjustment: Decimal) -> None:
        after = self.left + adjustment
        self.steps.append(Step(kind, label, self.left, effect, adjustment, after))
        self.left = after


def run(given: Given) -> Result:
    """Prices the quote. A policy whose budget the quote would exceed is left out of all of it."""
    blocked: frozenset[str] = frozenset()
    while True:
        result = _once(given, blocked)
        over = {
            policy.name
            for policy in given.policies
            if policy.budget_left is not None and result.used.get(policy.name, NOTHING) > policy.budget_left
        }
        if not over:
            return result
        blocked |= over


def _once(given: Given, blocked: frozenset[str]) -> Result:
    counted = [line for line in given.lines if line.price is not None or line.typed is not None]
    scales = _Scales(counted, given.places)
    chains = [_chain(line, scales.of(line), given, blocked) for line in counted]
    _order_level(chains, given)
    priced = {chain.line.key: _priced(chain) for chain in chains}
    used: dict[str, Decimal] = {}
    for chain in chains:
        for one in chain.applied:
            used[one.policy.name] = used.get(one.policy.name, NOTHING) + one.off
    free = tuple(free for chain in chains for free in _free(chain))
    worth = {policy.name: policy.free_worth for policy in given.policies}
    for one in free:
        if worth[one.policy]:
            used[one.policy] += cents(WIDE.multiply(worth[one.policy], one.quantity), given.places)
    return Result(
        lines=tuple(priced.get(line.key) or PricedLine(line.key, "MISSING") for line in given.lines),
        free=free,
        hints=tuple(_hints(chains, scales, given, blocked)),
        cash_terms=tuple(_cash_terms(chains)),
        used=used,
    )


class _Scales:
    """What the conditions look at: the line, its class, the whole quote."""

    def __init__(self, lines: Sequence[Line], places: int) -> None:
        self._places = places
        self._classes: dict[str, Scale] = {}
        self._whole = Scale(NOTHING, NOTHING)
        for line in lines:
            self._add(line, line.quantity, _listed(line, places))

    def of(self, line: Line) -> dict[str, Scale]:
        """Those of a line."""
        one = Scale(line.quantity, _listed(line, self._places))
        return {"LINE": one, "CATEGORY": self._classes[_class(line)], "QUOTE": self._whole}

    def instead(self, line: Line, more: Line) -> dict[str, Scale]:
        """Those of a line if more of it were wanted."""
        plus = Scale(more.quantity - line.quantity, _listed(more, self._places) - _listed(line, self._places))
        return {key: _sum(scale, plus) for key, scale in self.of(line).items()}

    def _add(self, line: Line, quantity: Decimal, amount: Decimal) -> None:
        here, plus = self._classes.get(_class(line), Scale(NOTHING, NOTHING)), Scale(quantity, amount)
        self._classes[_class(line)], self._whole = _sum(here, plus), _sum(self._whole, plus)


def _class(line: Line) -> str:
    return line.categories[0] if line.categories else ""


def _sum(one: Scale, other: Scale) -> Scale:
    return Scale(one.quantity + other.quantity, one.amount + other.amount)


def _listed(line: Line, places: int) -> Decimal:
    unit = line.price.amount if line.price else line.typed or NOTHING
    return cents(WIDE.multiply(unit, line.quantity), places)


def _chain(line: Line, scales: dict[str, Scale], given: Given, blocked: frozenset[str]) -> _Chain:
    """The steps of one line but for what is shared by all."""
    places, price = given.places, line.price
    # A typed price above the one that was found is a price, not a discount.
    typed_alone = line.typed is not None and (
        price is None or line.typed >= price.amount + price.configuration
    )
    if typed_alone or price is None:
        unit, source = line.typed or NOTHING, Ground("TYPED")
    else:
        unit, source = price.amount, Ground(price.source, price.policy, price.version, "", price.why)
    listed = cents(WIDE.multiply(unit, line.quantity), places)
    first = Step(source.kind, "", unit, f"× {plain(line.quantity)}", cents(NOTHING, places), listed)
    chain = _Chain(line, places, [first], [source], [], listed)
    if not typed_alone and price is not None and price.configuration:
        off = cents(WIDE.multiply(price.configuration, line.quantity), places)
        chain.step("CONFIGURATION", "", plain(price.configuration), off)
    if line.typed is None:
        _policies(chain, scales, given, blocked)
    _manual(chain, None if typed_alone else line.typed)
    return chain


def _policies(chain: _Chain, scales: dict[str, Scale], given: Given, blocked: frozenset[str]) -> None:
    listed, exclusive = chain.left, None
    for kind in KINDS:
        at = Situation(given, chain.line, listed, chain.left, scales, blocked)
        one, rejected = choose(kind, exclusive, at)
        if one is not None:
            now = NOTHING if one.policy.on_payment else one.off
            chain.step(kind, one.policy.label, one.effect, -cents(now, chain.places))
            chain.applied.append(replace(one, off=now))
            exclusive = exclusive or (one.policy if one.policy.exclusive else None)
            policy = one.policy
            days = validity((policy.start, policy.end))
            chain.grounds.append(Ground(kind, policy.name, str(policy.version), days, one.why, rejected))
        elif rejected:
            chain.grounds.append(Ground(kind, rejected=rejected))


def _manual(chain: _Chain, typed: Decimal | None) -> None:
    line = chain.line
    if typed is not None:
        off = chain.left - cents(WIDE.multiply(typed, line.quantity), chain.places)
        chain.step("MANUAL", "", f"= {plain(typed)}", -off)
    if line.manual_amount is not None and line.manual_amount:
        if line.manual_amount > chain.left:
            raise TooMuchOff(line.key)
        chain.step("MANUAL", "", f"-{plain(line.manual_amount)}", -cents(line.manual_amount, chain.places))
    elif line.manual_percent:
        off = percent_of(chain.left, line.manual_percent, chain.places)
        chain.step("MANUAL", "", f"-{plain(line.manual_percent)}%", -off)


def _order_level(chains: Sequence[_Chain], given: Given) -> None:
    """The discount on the whole, shared by amount with the largest remainder."""
    whole = sum((chain.left for chain in chains), NOTHING)
    if given.order_amount is not None:
        total = given.order_amount
    else:
        total = percent_of(whole, given.order_percent or NOTHING, given.places)
    if total > whole:
        raise TooMuchOff("")
    if not total:
        return
    effect = (
        f"-{plain(given.order_percent)}%"
        if given.order_amount is None and given.order_percent
        else f"-{plain(total)}"
    )
    for chain, part in zip(
        chains, shared(total, [chain.left for chain in chains], given.places), strict=True
    ):
        if part:
            chain.step("ORDER", "", effect, -part)


def _priced(chain: _Chain) -> PricedLine:
    line, net = chain.line, chain.left
    by_hand = [step for step in chain.steps if step.kind in ("MANUAL", "ORDER")]
    found = by_hand[0].basis if by_hand else NOTHING
    manual = WIDE.divide((found - net) * 100, found) if found else NOTHING
    tax = percent_of(net, line.tax_rate, chain.places)
    chain.steps.append(Step("TAX", "", net, f"+{plain(line.tax_rate)}%", tax, net + tax))
    source, first = chain.grounds[0].kind, chain.steps[0]
    unit = (line.typed or NOTHING) if source == "TYPED" else line.price.amount if line.price else NOTHING
    return PricedLine(
        line.key, source, unit, first.after, net, tax, tuple(chain.steps), tuple(chain.grounds), manual
    )


def _free(chain: _Chain) -> list[FreeLine]:
    found: list[FreeLine] = []
    for one in chain.applied:
        policy = one.policy
        if not policy.free_product:
            continue
        times = chain.line.quantity // policy.free_per if policy.free_per else Decimal(1)
        quantity = times * (policy.free_quantity or Decimal(1))
        if quantity:
            found.append(
                FreeLine(
                    chain.line.key, policy.free_product, policy.free_description, policy.free_unit, quantity,
                    policy.name, policy.label,
                )
            )  # fmt: skip
    return found


def _cash_terms(chains: Sequence[_Chain]) -> list[CashTerm]:
    terms: dict[str, CashTerm] = {}
    for chain in chains:
        for one in chain.applied:
            policy = one.policy
            if policy.on_payment:
                amount = percent_of(chain.left, policy.percent or NOTHING, chain.places)
                before = terms[policy.name].amount if policy.name in terms else NOTHING
                terms[policy.name] = CashTerm(
                    policy.name,
                    policy.label,
                    policy.percent or NOTHING,
                    before + amount,
                    policy.days,
                    policy.net_days,
                )
    return list(terms.values())


def _hints(chains: Sequence[_Chain], scales: _Scales, given: Given, blocked: frozenset[str]) -> list[Hint]:
    """For each line the nearest next tier, where it is near and would take more off."""
    found: list[Hint] = []
    steps = [policy for policy in given.policies if policy.kind in ("VOLUME", "PROMOTION")]
    for chain in chains if steps else []:
        line = chain.line
        if line.typed is not None:
            continue
        here = scales.of(line)
        nearest = sorted(
            (threshold - here[policy.count].quantity, policy.name, policy)
            for policy in steps
            if in_scope(policy, line)
            and (threshold := next_threshold(policy, here[policy.count].quantity)) is not None
            and (threshold - here[policy.count].quantity) <= threshold * NEAR
        )
        for missing, _, policy in nearest:
            if hint := _hint(chain, missing, policy, scales, given, blocked):
                found.append(hint)
                break
    return found


def _hint(
    chain: _Chain,
    missing: Decimal,
    policy: Policy,
    scales: _Scales,
    given: Given,
    blocked: frozenset[str],
) -> Hint | None:
    more = replace(chain.line, quantity=chain.line.quantity + missing)
    then = _chain(replace(more, manual_amount=None), scales.instead(chain.line, more), given, blocked)
    gained = next((one.off for one in then.applied if one.policy.name == policy.name), NOTHING)
    had = next((one.off for one in chain.applied if one.policy.kind == policy.kind), NOTHING)
    if gained <= had:
        return None
    return Hint(chain.line.key, policy.label, missing, gained - had)
