"""What formulas of custom fields make of the values of a record, and which of them are refused."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from crmkit.formulas import FormulaError, Kind, in_order, plain, read
from crmkit.values import Money
from hypothesis import given
from hypothesis import strategies as st

KINDS: Mapping[str, Kind] = {
    "amount": "number", "rate": "number", "custom.area": "number", "custom.none": "number", "state": "text", "vip": "bool",
    "custom.start": "date", "custom.end": "date", "other": "number",
}  # fmt: skip
VALUES: Mapping[str, Any] = {
    "amount": Money(Decimal("1200.50"), "CNY"), "rate": 3, "custom.area": Decimal("12.5"), "state": "WON", "vip": True,
    "custom.start": date(2026, 2, 27), "custom.end": date(2026, 3, 2), "other": Money(Decimal(1), "USD"),
}  # fmt: skip


def made(text: str) -> str | None:
    formula = read(text)
    formula.check(KINDS)
    number = formula.reckon(VALUES.get)
    return None if number is None else plain(number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("10 - 2 - 3", "5"),
        ("2 / 3", "0.666667"),
        ("0.1 + 0.2", "0.3"),
        ("-custom.area * 2", "-25"),
        ("amount * rate / 100", "36.015"),
        ("ROUND(amount * rate / 100, 2)", "36.02"),
        ("ROUND(2.5)", "3"),
        ("FLOOR(-1.5) + CEIL(1.2) + ABS(-4)", "4"),
        ("custom.end - custom.start", "3"),
        ('IF(state = "WON" AND amount >= 1000, 1, 2)', "1"),
        ('IF(state != "WON" OR NOT vip, 1, 2)', "2"),
        ("IF(vip, MAX(1, rate, 2), 0)", "3"),
        ("custom.none + 1", None),
        ("COALESCE(custom.none, 7)", "7"),
        ("SUM(custom.none, 1, 2)", "3"),
        ("MIN(custom.none)", None),
        ("IF(custom.none > 0, 1, 0)", "0"),
        ("1 / (rate - 3)", None),
        ("amount + other", None),
        ("1000000000 * 1000000000", None),
        ("100", "100"),
    ],
)
def test_a_formula_makes_a_decimal_number_or_nothing(text: str, number: str | None) -> None:
    assert made(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "amount amount", "secret + 1", "__import__", "state", 'state + "x"', "vip * 2", "custom.end + 1",
        "IF(amount, 1, 2)", "IF(vip, 1)", 'IF(vip, 1, "x")', 'state < "X"', "ROUND(1, 2, 3)", "1 = 1", "custom.end - 3",
        "open(1)", "amount.x", "1e9", "-" * 40 + "1", "(" * 400 + "1" + ")" * 400 + "+", "1" * 1001, "1\x00",
    ],
)  # fmt: skip
def test_what_makes_no_number_is_refused_in_words(text: str) -> None:
    with pytest.raises(FormulaError) as refused:
        made(text)
    assert refused.value.zh and refused.value.en


@given(st.text(max_size=60))
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    try:
        made(text)
    except FormulaError:
        return


def test_formulas_are_reckoned_behind_those_that_they_need() -> None:
    texts = {
        "total": "custom.net + custom.tax",
        "tax": "custom.net * 0.13",
        "net": "amount",
        "a": "custom.b",
        "b": "custom.a",
    }
    assert list(in_order({key: read(text) for key, text in texts.items()})) == ["net", "tax", "total"]
