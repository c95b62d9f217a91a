"""Rule MON-6: amounts in Chinese capitals."""

import pytest
from billing.capitals import in_capitals
from crmkit.errors import FailedPrecondition
from crmkit.values import Money

TABLE = """
1409.50 壹仟肆佰零玖元伍角
6007.14 陆仟零柒元壹角肆分
1680.32 壹仟陆佰捌拾元零叁角贰分
107000.53 壹拾万柒仟元零伍角叁分
16409.02 壹万陆仟肆佰零玖元零贰分
325.04 叁佰贰拾伍元零肆分
10.00 壹拾元整
0.05 伍分
0.00 零元整
1000500.00 壹佰万零伍佰元整
100000005.00 壹亿零伍元整
-1234.56 负壹仟贰佰叁拾肆元伍角陆分
"""


@pytest.mark.parametrize("row", TABLE.split("\n")[1:-1])
def test_the_examples_of_the_rule_are_written_as_it_says(row: str) -> None:
    amount, capitals = row.split()
    assert in_capitals(Money.of(amount, "CNY")) == f"人民币{capitals}"


def test_other_currencies_have_no_capitals_and_too_much_is_refused() -> None:
    assert in_capitals(Money.of("10.00", "USD")) == ""
    assert in_capitals(Money.of("9999999999999.99", "CNY"))
    with pytest.raises(FailedPrecondition, match="AMOUNT_TOO_LARGE"):
        in_capitals(Money.of("10000000000000.00", "CNY"))
