"""What one currency is worth in another: the rates of workspace, from the configuration bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from crmkit.call import Call


@dataclass(frozen=True)
class Rate:
    """A rate and the day from which it counts; one currency in itself has no day."""

    value: Decimal
    day: date | None


def rate_of(own: str, wanted: str, day: date, call: Call) -> Rate | None:
    """The latest rate up to a day, of the pair or turned round; None where nobody gave one."""
    if own == wanted:
        return Rate(Decimal(1), None)
    known = [(since, value) for since, value in _known(f"{own}-{wanted}", call) if since <= day]
    turned = [(since, 1 / value) for since, value in _known(f"{wanted}-{own}", call) if since <= day]
    if not known and not turned:
        return None
    # Of one day the pair's own rate counts.
    since, value = max([*known, *turned], key=lambda one: one[0])
    return Rate(value, since)


def _known(pair: str, call: Call) -> list[tuple[date, Decimal]]:
    entry: dict[str, list[tuple[str, str]]] = call.config(f"currencyRate.{pair}") or {}
    return [(date.fromisoformat(since), Decimal(value)) for since, value in entry.get("rates", [])]
