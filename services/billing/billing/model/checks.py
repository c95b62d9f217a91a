"""What is refused of every sum of money and of every day on which money moves."""

from datetime import date

from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import Validation, Violation
from crmkit.values import Money


def check(*found: Violation | None) -> None:
    """Raises with all that is wrong."""
    wrong = [one for one in found if one is not None]
    if wrong:
        raise Validation(*wrong)


def above_zero(field: str, amount: Money) -> Violation | None:
    """What is wrong with an amount of nothing or less."""
    if amount.amount > 0:
        return None
    return Violation(field, "AMOUNT_INVALID", "金额必须大于零", "The amount must be above zero.")


def has_come(field: str, day: date, call: Call) -> Violation | None:
    """What is wrong with a day that lies in the future."""
    if day <= today(call):
        return None
    return Violation(field, "DATE_IN_FUTURE", "日期不能晚于今天", "The date lies in the future.")


def day_of(said: date | None, call: Call) -> date:
    """The day on which money moved as somebody says, or today."""
    day = said or today(call)
    check(has_come("date", day, call))
    return day
