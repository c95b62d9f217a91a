"""What one currency is worth in another."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from crm.workspace.v1 import pb
from crmkit.amounts import check_currency
from crmkit.call import Call
from crmkit.errors import Validation, Violation
from crmkit.resource import Resource
from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from workspace.model.base import Base


class CurrencyRate(Resource, Base):
    """A rate from a day on, once for each pair and day. All services learn it by the configuration bucket."""

    __message__ = pb.CurrencyRate
    __table_args__ = (Index("currency_rates_pair_date_key", "pair", "rate_date", unique=True),)

    from_currency: Mapped[str]
    to_currency: Mapped[str]
    rate_date: Mapped[date | None]
    rate: Mapped[Decimal | None]
    source: Mapped[str]
    pair: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Two currencies that there are, and not one twice."""
        check_currency(self.from_currency, "currency_rate.from_currency")
        check_currency(self.to_currency, "currency_rate.to_currency")
        if self.from_currency == self.to_currency:
            text = "两个币种不能相同", "These are one currency."
            raise Validation(Violation("currency_rate.to_currency", "SAME_CURRENCY", *text))
        self.pair = f"{self.from_currency}-{self.to_currency}"
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A rate stays above nothing."""
        self._check()

    def _check(self) -> None:
        if not self.rate or self.rate <= 0:
            text = "必须大于 0", "This must be more than 0."
            raise Validation(Violation("currency_rate.rate", "TOO_SMALL", *text))
