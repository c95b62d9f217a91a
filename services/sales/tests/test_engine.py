"""The chain of prices, without any I/O."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from time import process_time
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import settings
from hypothesis import strategies as st
from sales.engine import Given, Line, Party, Policy, Price, TooMuchOff, run
from sales.engine.reckoning import shared

D = Decimal
DAY = date(2026, 11, 21)


def quote(*lines: Line, policies: tuple[Policy, ...] = (), **values: Any) -> Given:
    return Given(currency="CNY", places=2, day=DAY, lines=lines, policies=policies, **values)


def goods(quantity: str = "12", price: str = "100.00", **values: Any) -> Line:
    fields = {
        "key": "1",
        "product": "products/a",
        "categories": ("productCategories/x",),
        "tax_rate": D(13),
        **values,
    }
    return Line(quantity=D(quantity), price=Price(D(price), "PRICE_BOOK", "priceBooks/p", "1"), **fields)


def off(kind: str, percent: str, name: str = "", **values: Any) -> Policy:
    return Policy(
        name=name or f"discountPolicies/{kind}", label=kind, kind=kind, percent=D(percent), **values
    )


CHAIN = (
    off("PROMOTION", "10"), Policy("discountPolicies/v", "VOLUME", "VOLUME", tiers=((D(10), D(5)),)),
    off("CUSTOMER_TYPE", "3"), off("CASH", "2"),
)  # fmt: skip


def test_the_worked_example_comes_out_step_by_step() -> None:
    [line] = run(quote(goods(manual_amount=D("5.32")), policies=CHAIN)).lines
    assert [(step.kind, str(step.adjustment), str(step.after)) for step in line.steps] == [
        ("PRICE_BOOK", "0.00", "1200.00"),
        ("PROMOTION", "-120.00", "1080.00"),
        ("VOLUME", "-54.00", "1026.00"),
        ("CUSTOMER_TYPE", "-30.78", "995.22"),
        ("CASH", "-19.90", "975.32"),
        ("MANUAL", "-5.32", "970.00"),
        ("TAX", "126.10", "1096.10"),
    ]
    assert (line.net, line.tax, line.gross) == (D("970.00"), D("126.10"), D("1096.10"))


def test_less_quantity_takes_the_volume_step_away_and_a_tier_includes_its_first_piece() -> None:
    for quantity, kinds in (("10", True), ("9.99", False)):
        [line] = run(quote(goods(quantity), policies=CHAIN)).lines
        assert ("VOLUME" in [step.kind for step in line.steps]) is kinds
        reasons = {r.policy: r.reason for ground in line.grounds for r in ground.rejected}
        assert reasons.get("discountPolicies/v") == (None if kinds else "QUANTITY_BELOW")


def test_the_hint_says_how_much_more_saves_what() -> None:
    policies = (CHAIN[0], Policy("discountPolicies/v", "批量", "VOLUME", tiers=((D(12), D(5)),)))
    [hint] = run(quote(goods("10"), policies=policies)).hints
    assert (hint.add_quantity, hint.saving, hint.label) == (D(2), D("54.00"), "批量")
    assert not run(quote(goods("9"), policies=policies)).hints
    assert not run(quote(goods("12"), policies=policies)).hints


def test_one_policy_of_a_kind_applies_by_a_total_order_and_the_others_say_why_not() -> None:
    party = Party("accounts/me", "A", "DIRECT", "310115", "DIRECT")
    candidates = (
        off("PROMOTION", "1", "discountPolicies/all"),
        off("PROMOTION", "2", "discountPolicies/level", levels=("A",)),
        off("PROMOTION", "3", "discountPolicies/mine", accounts=("accounts/me",)),
        off(
            "PROMOTION",
            "4",
            "discountPolicies/mine-product",
            accounts=("accounts/me",),
            products=("products/a",),
        ),
        off("PROMOTION", "50", "discountPolicies/later", start=date(2026, 11, 22)),
        off("PROMOTION", "50", "discountPolicies/over", end=date(2026, 11, 20)),
        off("PROMOTION", "50", "discountPolicies/few", min_quantity=D(13)),
        off("PROMOTION", "50", "discountPolicies/many", max_quantity=D(11)),
        off("PROMOTION", "50", "discountPolicies/small", min_amount=D("1200.01")),
        off("PROMOTION", "50", "discountPolicies/big", max_amount=D("1199.99")),
        off("PROMOTION", "50", "discountPolicies/type", types=("OTHER",)),
        off("PROMOTION", "50", "discountPolicies/other", accounts=("accounts/you",)),
        off("PROMOTION", "50", "discountPolicies/region", regions=("320000",)),
        off("PROMOTION", "50", "discountPolicies/web", channels=("WEB",)),
        off("PROMOTION", "50", "discountPolicies/product", products=("products/b",)),
        off("PROMOTION", "50", "discountPolicies/usd", currency="USD"),
        off("PROMOTION", "50", "discountPolicies/coupon", coupon="X"),
        off("PROMOTION", "50", "discountPolicies/spent", budget_left=D(0)),
        off("VOLUME", "50", "discountPolicies/late"),
    )
    first = replace(candidates[3], exclusive=True)
    [line] = run(quote(goods(), policies=(*candidates[:3], first, *candidates[4:]), party=party)).lines
    reasons = {r.policy.partition("/")[2]: r.reason for ground in line.grounds for r in ground.rejected}
    assert line.net == D("1152.00")
    assert reasons == {
        "all": "OUTRANKED", "level": "OUTRANKED", "mine": "OUTRANKED", "later": "NOT_STARTED", "over": "EXPIRED",
        "few": "QUANTITY_BELOW", "many": "QUANTITY_ABOVE", "small": "AMOUNT_BELOW", "big": "AMOUNT_ABOVE",
        "type": "OTHER_CUSTOMER_TYPE", "other": "OTHER_CUSTOMER", "region": "OTHER_REGION", "web": "OTHER_CHANNEL",
        "product": "OTHER_PRODUCT", "usd": "CURRENCY", "coupon": "COUPON_MISSING", "spent": "BUDGET_USED_UP",
        "late": "EXCLUSIVE_WITH",
    }  # fmt: skip
    higher = off("PROMOTION", "1", "discountPolicies/high", priority=1)
    [line] = run(quote(goods(), policies=(*candidates[:4], higher), party=party)).lines
    assert line.net == D("1188.00")


def test_volume_counts_the_line_its_class_or_all_of_it() -> None:
    lines = (
        goods("6", key="1"), goods("6", key="2", product="products/b"),
        goods("6", key="3", product="products/c", categories=("productCategories/y",)),
    )  # fmt: skip
    for count, start, discounted in (
        ("LINE", 7, 0),
        ("CATEGORY", 12, 2),
        ("CATEGORY", 13, 0),
        ("QUOTE", 18, 3),
    ):
        policy = Policy("discountPolicies/v", "", "VOLUME", count=count, tiers=((D(start), D(5)),))
        result = run(quote(*lines, policies=(policy,)))
        assert sum(line.net < line.listed for line in result.lines) == discounted, (count, start)


def test_free_goods_come_with_their_cause_and_cost_nothing() -> None:
    policy = Policy(
        "discountPolicies/f",
        "买十赠一",
        "PROMOTION",
        free_product="products/z",
        free_quantity=D(1),
        free_per=D(10),
    )
    [free] = run(quote(goods("25"), policies=(policy,))).free
    assert (free.cause, free.product, free.quantity) == ("1", "products/z", D(2))
    assert not run(quote(goods("9"), policies=(policy,))).free


def test_a_discount_on_payment_changes_no_amount_now() -> None:
    policy = off("CASH", "2", on_payment=True, days=10, net_days=30)
    result = run(quote(goods(), policies=(policy,)))
    [term] = result.cash_terms
    assert (result.lines[0].net, term.amount, term.days, term.net_days) == (D("1200.00"), D("24.00"), 10, 30)
    assert result.used == {"discountPolicies/CASH": D(0)}


def test_the_discount_on_the_whole_is_shared_by_amount_and_a_hundred_percent_leaves_nothing() -> None:
    assert shared(D("10.00"), [D(100), D(50), D(30), D(20)], 2) == [
        D("5.00"),
        D("2.50"),
        D("1.50"),
        D("1.00"),
    ]
    lines = tuple(goods("1", price, key=str(n)) for n, price in enumerate(("100", "50", "30", "20")))
    result = run(quote(*lines, order_amount=D("10.00")))
    assert [line.net for line in result.lines] == [D("95.00"), D("47.50"), D("28.50"), D("19.00")]
    assert [line.net for line in run(quote(*lines, order_percent=D(100))).lines] == [D("0.00")] * 4
    with pytest.raises(TooMuchOff):
        run(quote(*lines, order_amount=D("200.01")))


def test_a_quote_that_would_exceed_a_budget_is_priced_without_it() -> None:
    lines = (goods(key="1"), goods(key="2"))
    for left, net, reason in (("240.00", "1080.00", None), ("239.99", "1200.00", "BUDGET_USED_UP")):
        result = run(quote(*lines, policies=(off("PROMOTION", "10", budget_left=D(left)),)))
        assert {line.net for line in result.lines} == {D(net)}
        rejected = [r.reason for line in result.lines for ground in line.grounds for r in ground.rejected]
        assert set(rejected) == ({reason} if reason else set())


def test_without_a_price_there_is_no_amount() -> None:
    [line] = run(quote(replace(goods(), price=None), policies=CHAIN)).lines
    assert (line.source, line.steps) == ("MISSING", ())


def test_two_hundred_lines_of_thirty_options_are_priced_in_a_second() -> None:
    """The options of a line are its components: their prices are found before; here stands the chain over the sums.

    It takes a quarter of a second; the rest is for machines that do other things, too.
    """
    policies = tuple(
        off(kind, "1", f"discountPolicies/{kind}{n}") for kind in ("PROMOTION", "CASH") for n in range(10)
    )
    lines = tuple(goods(key=str(n)) for n in range(200))

    def spent() -> float:
        start = process_time()
        run(quote(*lines, policies=(*CHAIN, *policies)))
        return process_time() - start

    assert min(spent() for _ in range(3)) < 1


percents = st.decimals(0, 100, places=2)
amounts = st.decimals("0", "99999.99", places=2)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    kind = draw(st.sampled_from(["PROMOTION", "VOLUME", "CUSTOMER_TYPE", "CASH"]))
    values: dict[str, Any] = {
        "count": draw(st.sampled_from(["LINE", "CATEGORY", "QUOTE"])), "on_list": draw(st.booleans()),
        "exclusive": draw(st.booleans()), "priority": draw(st.integers(0, 2)),
        "budget_left": draw(st.none() | amounts), "min_quantity": draw(st.none() | st.decimals(0, 50, places=0)),
    }  # fmt: skip
    if kind == "VOLUME":
        values["tiers"] = tuple((D(start), draw(percents)) for start in (1, 10, 100))
    else:
        effect = draw(st.sampled_from(["percent", "amount_off", "fixed_price"]))
        values[effect] = draw(percents if effect == "percent" else amounts)
    return Policy(f"discountPolicies/{draw(st.integers(0, 99))}", "", kind, **values)


@st.composite
def wanted(draw: st.DrawFn) -> Given:
    lines = tuple(
        goods(
            str(draw(st.decimals("0.001", "500", places=3))), str(draw(amounts)), key=str(n),
            manual_percent=draw(percents), product=draw(st.sampled_from(["products/a", "products/b"])),
        )
        for n in range(draw(st.integers(0, 6)))
    )  # fmt: skip
    named = draw(st.lists(policies(), max_size=6, unique_by=lambda policy: policy.name))
    return quote(*lines, policies=tuple(named), order_percent=draw(st.none() | percents))


@settings(max_examples=150)
@examples(wanted())
def test_every_chain_adds_up_is_rounded_once_and_comes_out_the_same_again(given: Given) -> None:
    result = run(given)
    for line in result.lines:
        adjustments = [step.adjustment for step in line.steps if step.kind != "TAX"]
        assert line.listed + sum(adjustments, D(0)) == line.net
        assert line.net >= 0
        assert all(amount == amount.quantize(D("0.01")) for amount in (*adjustments, line.net, line.tax))
        for before, after in zip(line.steps, line.steps[1:], strict=False):
            assert after.basis == before.after
        kinds = [step.kind for step in line.steps]
        assert all(kinds.count(kind) <= 1 for kind in ("PROMOTION", "VOLUME", "CUSTOMER_TYPE", "CASH", "TAX"))
    for policy in given.policies:
        assert policy.budget_left is None or result.used.get(policy.name, D(0)) <= policy.budget_left
    shuffled = replace(given, policies=given.policies[::-1])
    assert [line.net for line in run(shuffled).lines] == [line.net for line in result.lines]
    assert run(Given.of_json(given.json())).digest == result.digest


def test_an_amount_of_the_whole_quote_is_shared_and_what_was_priced_before_stays_as_it_was() -> None:
    amount = Policy("discountPolicies/m", "满减", "PROMOTION", amount_off=D("10.00"), count="QUOTE")
    lines = [goods("1", price, key=str(n)) for n, price in enumerate(("100.00", "50.00", "30.00", "20.00"))]
    typed = goods("1", "100.00", key="t", typed=D("90.00"))
    given = quote(*lines, typed, policies=(amount,))
    assert [line.net for line in run(given).lines] == [
        D("95.00"),
        D("47.50"),
        D("28.50"),
        D("19.00"),
        D("90.00"),
    ]
    assert run(given).used == {amount.name: D("10.00")}
    before = run(replace(given, engine=1))
    assert [line.listed - line.net for line in before.lines[:4]] == [D("10.00")] * 4
    one_class = replace(amount, count="CATEGORY")
    other = goods("1", "100.00", key="o", categories=("productCategories/y",))
    by_class = run(quote(*lines, other, policies=(one_class,))).lines
    assert [line.listed - line.net for line in by_class] == [
        D("5.00"),
        D("2.50"),
        D("1.50"),
        D("1.00"),
        D("10.00"),
    ]
