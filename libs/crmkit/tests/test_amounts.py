"""Rules MON-1 to MON-3 of billing."""

from decimal import Decimal

import pytest
from crmkit.amounts import line_amounts, price_lines, split
from crmkit.values import Money
from hypothesis import given
from hypothesis import strategies as st


def cny(text: str) -> Money:
    return Money.of(text, "CNY")


@pytest.mark.parametrize(
    ("net", "rate", "tax", "gross"),
    [
        ("71.43", "20", "14.29", "85.72"),
        ("193.33", "25.00", "48.33", "241.66"),
        ("154.67", "25", "38.67", "193.34"),
        ("100.01", "13", "13.00", "113.01"),
    ],
)
def test_tax_is_rounded_half_up_and_gross_is_the_sum(net: str, rate: str, tax: str, gross: str) -> None:
    found = line_amounts(Decimal(1), cny(net), None, Decimal(rate))
    assert (found.tax, found.gross) == (cny(tax), cny(gross))


def test_size_goods_are_priced_by_area() -> None:
    assert line_amounts(Decimal("7.20"), cny("25.00"), None, Decimal(0)).gross == cny("180.00")


def test_minor_units_follow_the_currency() -> None:
    assert line_amounts(Decimal("1.5"), Money.of("333", "JPY"), None, Decimal(10)).net == Money.of(
        "500", "JPY"
    )
    assert line_amounts(Decimal(1), Money.of("1.2345", "KWD"), None, Decimal(0)).net == Money.of(
        "1.235", "KWD"
    )


def test_a_hundred_by_three_gives_the_rest_to_the_first() -> None:
    assert split(cny("100.00"), [Decimal(1)] * 3) == [cny("33.34"), cny("33.33"), cny("33.33")]


@given(
    st.integers(min_value=-(10**12), max_value=10**12),
    st.lists(st.integers(min_value=1, max_value=10**6), min_size=1, max_size=12),
)
def test_every_split_is_exact_and_no_part_is_a_unit_off(cents: int, weights: list[int]) -> None:
    total = Money(Decimal(cents).scaleb(-2), "CNY")
    parts = split(total, [Decimal(weight) for weight in weights])
    assert sum((part.amount for part in parts), Decimal(0)) == total.amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part.amount - total.amount * weight / sum(weights)) < Decimal("0.01")


def test_a_key_that_only_looks_like_a_number_is_replaced() -> None:
    from crm.orders.v1 import pb

    price = {"currency_code": "CNY", "amount": "1.00"}
    lines = [pb.Order.Item(key=key, quantity="1", unit_price=price) for key in ("²", "７", "3", "3")]
    priced, total = price_lines(lines, "CNY", "items")
    assert [line.key for line in priced] == ["8", "７", "3", "9"] and total.gross.amount == 4
