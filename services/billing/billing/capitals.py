"""Amounts of renminbi in Chinese capitals (大写), by rule MON-6."""

from decimal import Decimal

import cn2an
from crmkit.errors import FailedPrecondition
from crmkit.values import Money

LARGEST = Decimal("9999999999999.99")


def in_capitals(money: Money) -> str:
    """`1409.50` → 人民币壹仟肆佰零玖元伍角; empty for other currencies. AMOUNT_TOO_LARGE beyond ten billion thousand."""
    if money.currency != "CNY":
        return ""
    amount = money.rounded().amount
    if abs(amount) > LARGEST:
        raise FailedPrecondition("AMOUNT_TOO_LARGE")
    text: str = cn2an.an2cn(f"{abs(amount):.2f}", "rmb")
    yuan, jiao = int(abs(amount)), int(abs(amount) * 10) % 10
    if yuan and yuan % 10 == 0 and jiao:
        # Where the 元 digit is 0 and the 角 is not, a 零 stands between them, so that nothing can be written in.
        text = text.replace("元", "元零", 1)
    return f"人民币{'负' if amount < 0 else ''}{text}"
