"""Values that are more than one column: money."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from crm.common.v1 import common_pb2

from crmkit.errors import InvalidArgument

# Minor units that differ from two (ISO 4217).
_PLACES = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
}


def places(currency: str) -> int:
    """Decimal places of a currency's minor unit."""
    return _PLACES.get(currency, 2)


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
        try:
            amount = Decimal(message.amount)
        except InvalidOperation:
            raise ValueError("NOT_A_NUMBER") from None
        if not amount.is_finite() or abs(amount) >= Decimal(10) ** 16:
            raise ValueError("NOT_A_NUMBER")
        if not (
            len(message.currency_code) == 3
            and message.currency_code.isascii()
            and message.currency_code.isupper()
        ):
            raise ValueError("CURRENCY_UNKNOWN")
        if -int(amount.as_tuple().exponent) > max(
            places(message.currency_code), 0
        ) and amount != amount.quantize(Decimal(1).scaleb(-places(message.currency_code))):
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
