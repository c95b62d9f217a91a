"""What prices are reckoned from: plain values, which are kept as JSON so that a price can be reckoned again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from pydantic import TypeAdapter

ENGINE = 2
Names = tuple[str, ...]


@dataclass(frozen=True)
class Party:
    """Who buys, and through whom."""

    account: str = ""
    level: str = ""
    type: str = ""
    region: str = ""
    channel: str = ""


@dataclass(frozen=True)
class Policy:
    """A discount policy as it was. Empty lists and absent bounds ask for nothing."""

    name: str
    label: str
    kind: str
    version: int = 1
    priority: int = 0
    start: date | None = None
    end: date | None = None
    accounts: Names = ()
    levels: Names = ()
    types: Names = ()
    regions: Names = ()
    channels: Names = ()
    products: Names = ()
    categories: Names = ()
    currency: str = ""
    count: str = "LINE"
    min_quantity: Decimal | None = None
    max_quantity: Decimal | None = None
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None
    coupon: str = ""
    percent: Decimal | None = None
    amount_off: Decimal | None = None
    fixed_price: Decimal | None = None
    free_product: str = ""
    free_description: str = ""
    free_unit: str = ""
    free_quantity: Decimal | None = None
    free_per: Decimal | None = None
    tiers: tuple[tuple[Decimal, Decimal], ...] = ()
    on_list: bool = False
    exclusive: bool = False
    budget_left: Decimal | None = None
    # What one of the free product is worth, taken out of the budget.
    free_worth: Decimal = Decimal(0)
    on_payment: bool = False
    days: int = 0
    net_days: int = 0


@dataclass(frozen=True)
class Price:
    """The price of one without tax, and where it was found."""

    amount: Decimal
    source: str
    policy: str = ""
    version: str = ""
    why: str = ""
    # What the bundle's own rule adds to or takes from the sum of what was chosen, for one.
    configuration: Decimal = Decimal(0)


@dataclass(frozen=True)
class Line:
    """One thing wanted."""

    key: str
    quantity: Decimal
    product: str = ""
    categories: Names = ()
    price: Price | None = None
    # A price of one that was typed: the policies stay out of it.
    typed: Decimal | None = None
    manual_percent: Decimal = Decimal(0)
    manual_amount: Decimal | None = None
    tax_rate: Decimal = Decimal(0)


@dataclass(frozen=True)
class Given:
    """Everything that prices depend on."""

    currency: str
    places: int
    day: date
    party: Party = field(default_factory=Party)
    coupons: Names = ()
    lines: tuple[Line, ...] = ()
    policies: tuple[Policy, ...] = ()
    order_amount: Decimal | None = None
    order_percent: Decimal | None = None
    engine: int = ENGINE

    def json(self) -> bytes:
        """The input as JSON."""
        return _JSON.dump_json(self)

    @staticmethod
    def of_json(text: bytes | str) -> Given:
        """The input of JSON."""
        return _JSON.validate_json(text)


_JSON = TypeAdapter(Given)
