"""Amounts in sentences."""

from crmkit.values import Money


def shown(money: Money) -> str:
    """An amount in a sentence."""
    return f"{money.rounded().amount} {money.currency}"
