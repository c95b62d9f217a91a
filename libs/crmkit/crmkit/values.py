"""Values that are more than one column: money."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from crm.common.v1 import common_pb2
from iso4217 import Currency

from crmkit.errors import InvalidArgument

# Minor units of the currencies that amounts can be in; metals and test codes have none.
_PLACES = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}
# Digits of one script, and nothing that a reader could take for another number.
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


def is_currency(code: str) -> bool:
    """Whether amounts can be in it: an active code of ISO 4217 that has a minor unit."""
    return code in _PLACES


def places(currency: str) -> int:
    """Decimal places of a currency's minor unit."""
    return _PLACES.get(currency, 2)


def decimal(text: str) -> Decimal:
    """A number as it is written in a request; ValueError where it is none."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("NOT_A_NUMBER")
    return Decimal(text)


@dataclass(frozen=True, order=False)
class Money:
    """An amount in one currency. Adding two currencies raises CURRENCY_MISMATCH."""

    amount: Decimal
    currency: str

    @staticmethod
    def of(amount: str | int | Decimal, currency: str) -> Money:
        """Money from text or number, exactly."""
        return Money(Decimal(amount), currency)

    @staticmethod
    def parse(message: common_pb2.Money) -> Money | None:
        """The value of a message; None where it is empty; ValueError where it is no money."""
        if not message.amount and not message.currency_code:
            return None
        amount = decimal(message.amount)
        if abs(amount) >= Decimal(10) ** 16:
            raise ValueError("NOT_A_NUMBER")
        if not is_currency(message.currency_code):
            raise ValueError("CURRENCY_UNKNOWN")
        if amount != amount.quantize(Decimal(1).scaleb(-places(message.currency_code))):
            raise ValueError("TOO_MANY_PLACES")
        return Money(amount, message.currency_code)

    def message(self) -> common_pb2.Money:
        """The value as message, with the places of its currency."""
        return common_pb2.Money(currency_code=self.currency, amount=str(self.rounded().amount))

    def __composite_values__(self) -> tuple[Decimal, str]:
        return self.amount, self.currency

    def rounded(self) -> Money:
        """Rounded half up to the minor unit."""
        return Money(
            self.amount.quantize(Decimal(1).scaleb(-places(self.currency)), ROUND_HALF_UP), self.currency
        )

    def __add__(self, other: Money) -> Money:
        return Money(self.amount + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount - self._same(other), self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(self.amount * factor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount >= self._same(other)

    def __bool__(self) -> bool:
        return self.amount != 0

    def _same(self, other: Money) -> Decimal:
        if other.currency != self.currency:
            raise InvalidArgument("CURRENCY_MISMATCH", expected=self.currency, found=other.currency)
        return other.amount


def zero(currency: str) -> Money:
    """Nothing, in a currency."""
    return Money(Decimal(0), currency)
