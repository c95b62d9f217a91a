"""What collected money earns, without any I/O."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sales.commission import (
    Item,
    Rule,
    Terms,
    Total,
    earn,
    marginal,
    rate_at,
    split,
    tiers_wrong,
    whole,
    worth,
)

D = Decimal
THREE = ((D(0), D(3)), (D(100000), D(5)), (D(300000), D(8)))
TWO = ((D(0), D(3)), (D(100000), D(5)))


def test_marginal_tiers_pay_each_slab_and_take_back_from_the_top() -> None:
    first = earn("MARGINAL", THREE, D(0), D(90000), 2)
    second = earn("MARGINAL", THREE, D(90000), D(50000), 2)
    back = earn("MARGINAL", THREE, D(140000), D(-20000), 2)
    assert (first.amount, second.amount, back.amount) == (D("2700.00"), D("2300.00"), D("-1000.00"))
    assert second.slices == ((D(10000), D(3)), (D(40000), D(5)))
    assert first.true_up == second.true_up == back.true_up == 0


def test_whole_tiers_true_up_what_came_before() -> None:
    first = earn("WHOLE", TWO, D(0), D(90000), 2)
    second = earn("WHOLE", TWO, D(90000), D(50000), 2)
    assert (first.amount, first.true_up) == (D("2700.00"), D("0.00"))
    assert (second.amount, second.true_up) == (D("2500.00"), D("1800.00"))
    assert first.amount + second.amount + second.true_up == D("7000.00")
    back = earn("WHOLE", TWO, D(140000), D(-50000), 2)
    assert (back.amount, back.true_up) == (D("-2500.00"), D("-1800.00"))


def test_shares_are_exact_in_sum() -> None:
    third = D("33.33")
    assert split(D("100.00"), [third, third, D("33.34")], 2) == [D("33.33"), D("33.33"), D("33.34")]
    assert sum(split(D("0.01"), [D(50), D(50)], 2)) == D("0.01")
    assert split(D("-10.00"), [D(25), D(75)], 2) == [D("-2.50"), D("-7.50")]
    assert split(D("10.00"), [D(25)], 2) == [D("2.50")]


def test_tiers_begin_at_nothing_and_rise() -> None:
    assert not tiers_wrong(THREE)
    assert tiers_wrong(())
    assert tiers_wrong(((D(1), D(3)),))
    assert tiers_wrong(((D(0), D(3)), (D(0), D(5))))
    assert tiers_wrong(((D(0), D(101)),))


moves = st.lists(st.decimals("-50000", "120000", places=2), min_size=1, max_size=12)


@settings(max_examples=150)
@given(moves, st.sampled_from(["MARGINAL", "WHOLE"]), st.sampled_from([THREE, TWO]))
def test_the_ledger_is_the_full_reckoning_after_every_movement(
    history: list[Decimal], mode: str, tiers: object
) -> None:
    total, ledger = D(0), D(0)
    for base in history:
        base = max(base, -total)
        found = earn(mode, tiers, total, base, 2)  # type: ignore[arg-type]
        total += base
        ledger += found.amount + found.true_up
        reckoned = marginal if mode == "MARGINAL" else whole
        assert ledger == reckoned(tiers, total, 2)  # type: ignore[arg-type]
        assert found.amount == found.amount.quantize(D("0.01"))
    back = earn(mode, tiers, total, -total, 2)  # type: ignore[arg-type]
    assert ledger + back.amount + back.true_up == 0


@settings(max_examples=150)
@given(
    st.decimals("-9999", "9999", places=2),
    st.lists(st.decimals("0.01", "25", places=2), min_size=1, max_size=4),
)
def test_no_cent_is_lost_between_people(base: Decimal, shares: list[Decimal]) -> None:
    full = [*shares, D(100) - sum(shares, D(0))]
    assert sum(split(base, full, 2), D(0)) == base
    assert rate_at(TWO, D(100000)) == D(5)


paid = st.tuples(st.decimals("0.01", "200000", places=2), st.sampled_from(["a", "b", ""]), st.booleans())


@settings(max_examples=120)
@given(
    st.lists(paid, min_size=1, max_size=6),
    st.sampled_from([None, D("5000")]),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_facts_come_and_go_the_sums_are_the_same(
    history: Any, cap: Any, order: Any
) -> None:
    terms = Terms("COLLECTED", "MARGINAL", THREE, [Rule(D("1.25"), products=frozenset("a"))], cap, 2)
    facts = [Item(amount, product=product) for amount, product, _ in history]
    gone = [Item(-amount, product=product) for amount, product, back in history if back]
    shares = [D("33.33"), D("66.67")]

    def booked(items: list[Item]) -> list[D]:
        totals = {0: Total(), 1: Total()}
        sums = [D(0), D(0)]
        for item in items:
            for place, found in worth(terms, [item], "", False, shares, totals).items():
                before = totals[place]
                totals[place] = Total(before.tier_base + found.tier_base, before.earned + found.before_cap)
                sums[place] += found.amount + found.true_up
        return sums

    shuffled = [*facts, *gone]
    order.shuffle(shuffled)
    assert booked(shuffled) == booked([*facts, *gone])
    kept = [fact for fact, (_, _, back) in zip(facts, history, strict=True) if not back]
    assert booked([*facts, *gone]) == booked(kept)
    assert cap is None or max(booked(kept)) <= cap


@given(st.decimals("0.01", "9999", places=2), st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_shares_of_a_flat_rate_are_the_rate_of_the_whole(base: D, weights: list[int]) -> None:
    whole = sum(weights)
    shares = [D(weight * 100) / D(whole) for weight in weights[:-1]]
    shares = [share.quantize(D("0.01")) for share in shares]
    shares.append(D(100) - sum(shares, D(0)))
    terms = Terms("COLLECTED", "MARGINAL", ((D(0), D(3)),), [], None, 2)
    found = worth(terms, [Item(base)], "", False, shares, {place: Total() for place in range(len(shares))})
    assert sum(one.amount for one in found.values()) == (base * 3 / 100).quantize(D("0.01"), "ROUND_HALF_UP")
