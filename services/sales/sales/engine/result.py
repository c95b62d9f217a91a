"""What comes out: amounts, and the chain that explains them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Step:
    """One step: basis and adjustment give what is left."""

    kind: str
    label: str
    basis: Decimal
    effect: str
    adjustment: Decimal
    after: Decimal


@dataclass(frozen=True)
class Rejection:
    """A policy that did not apply."""

    policy: str
    label: str
    reason: str


@dataclass(frozen=True)
class Ground:
    """What stands behind a step, and what was not taken for it."""

    kind: str
    policy: str = ""
    version: str = ""
    validity: str = ""
    why: str = ""
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class PricedLine:
    """A line with its amounts; without steps where there is no price."""

    key: str
    source: str
    unit_price: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)
    net: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)
    steps: tuple[Step, ...] = ()
    grounds: tuple[Ground, ...] = ()
    # Percent that people took off by hand, of what they found.
    manual_percent: Decimal = Decimal(0)

    @property
    def gross(self) -> Decimal:
        """Net and tax."""
        return self.net + self.tax


@dataclass(frozen=True)
class FreeLine:
    """What comes free with a line."""

    cause: str
    product: str
    description: str
    unit: str
    quantity: Decimal
    policy: str
    label: str


@dataclass(frozen=True)
class Hint:
    """What a little more would bring."""

    line: str
    label: str
    add_quantity: Decimal
    saving: Decimal


@dataclass(frozen=True)
class CashTerm:
    """A discount for paying soon."""

    policy: str
    label: str
    percent: Decimal
    amount: Decimal
    days: int
    net_days: int


@dataclass(frozen=True)
class Result:
    """The whole quote."""

    lines: tuple[PricedLine, ...]
    free: tuple[FreeLine, ...] = ()
    hints: tuple[Hint, ...] = ()
    cash_terms: tuple[CashTerm, ...] = ()
    used: dict[str, Decimal] = field(default_factory=dict[str, Decimal])

    @property
    def digest(self) -> str:
        """SHA-256 of the whole."""
        return sha256(_JSON.dump_json(self)).hexdigest()


_JSON = TypeAdapter(Result)
