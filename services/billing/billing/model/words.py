"""Small checks that every resource here shares."""

from collections.abc import Set

from crmkit.errors import FailedPrecondition
from crmkit.values import Money

LEAST_REASON = 5


def reason_of(text: str) -> str:
    """The reason that a verb insists on; REASON_REQUIRED where it says too little."""
    reason = text.strip()
    if len(reason) < LEAST_REASON:
        raise FailedPrecondition("REASON_REQUIRED", least=LEAST_REASON)
    return reason


def frozen(reason: str, fields: Set[str]) -> None:
    """Refuses a change of fields that no longer change."""
    if fields:
        raise FailedPrecondition(reason, fields=", ".join(sorted(fields)))


def shown(money: Money) -> str:
    """An amount in a sentence."""
    return f"{money.rounded().amount} {money.currency}"
