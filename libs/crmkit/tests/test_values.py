"""Money keeps to its currency and its places."""

from decimal import Decimal

import pytest
from crm.common.v1 import common_pb2
from crmkit.errors import InvalidArgument
from crmkit.values import Money, zero


def test_two_currencies_never_add_up() -> None:
    with pytest.raises(InvalidArgument) as refused:
        Money.of("1", "CNY") + Money.of("1", "USD")
    assert refused.value.reason == "CURRENCY_MISMATCH"


@pytest.mark.parametrize(
    ("amount", "currency", "reason"),
    [("NaN", "CNY", "NOT_A_NUMBER"), ("Infinity", "CNY", "NOT_A_NUMBER"), ("1e400", "CNY", "NOT_A_NUMBER"),
     ("1,5", "CNY", "NOT_A_NUMBER"), ("1.001", "CNY", "TOO_MANY_PLACES"), ("1.5", "JPY", "TOO_MANY_PLACES"),
     ("1", "cny", "CURRENCY_UNKNOWN"), ("1", "", "CURRENCY_UNKNOWN")],
)  # fmt: skip
def test_what_is_no_money_is_refused(amount: str, currency: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Money.parse(common_pb2.Money(currency_code=currency, amount=amount))


def test_rounding_is_half_up_to_the_minor_unit() -> None:
    assert Money.of("0.125", "CNY").rounded().amount == Decimal("0.13")
    assert Money.of("0.5", "JPY").rounded().amount == Decimal("1")
    assert Money.of("1.0005", "KWD").rounded().amount == Decimal("1.001")


def test_absent_is_absent_and_nothing_is_false() -> None:
    assert Money.parse(common_pb2.Money()) is None
    assert not zero("CNY")
