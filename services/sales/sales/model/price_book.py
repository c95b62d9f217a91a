"""The price book: prices in one currency, for some customers and some time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, check_currency
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation
from crmkit.listing import ZONE
from crmkit.values import Money
from sales.engine.policies import covers
from sales.model.base import Base
from sales.model.partnership import Partnership, partnership
from sales.model.product import Product, products
from sales.model.versions import DraftOnly
from sales.pricing import share
from sqlalchemy import ColumnElement, any_, exists, or_, select
from sqlalchemy.orm import Mapped

_AUDIENCE = (
    "accounts", "account_levels", "account_types", "regions", "channels", "partners", "partner_grades",
)  # fmt: skip
_COPIED = (
    "display_name", "currency", "tax_included", "priority", "valid_from_date", "valid_to_date", *_AUDIENCE, "entries",
)  # fmt: skip


class PriceBook(DraftOnly, Base):
    """Prices in one currency. Only a draft changes; what must change later is a new book."""

    __message__ = pb.PriceBook

    display_name: Mapped[str]
    currency: Mapped[str]
    tax_included: Mapped[bool]
    priority: Mapped[int]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]
    accounts: Mapped[list[str]]
    account_levels: Mapped[list[str]]
    account_types: Mapped[list[str]]
    regions: Mapped[list[str]]
    channels: Mapped[list[str]]
    partners: Mapped[list[str]]
    partner_grades: Mapped[list[str]]
    replaces: Mapped[str]
    entries: Mapped[Any]
    state: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """A partner reads his own books and those of his grade, no others."""
        if not caller.account:
            return None
        of_grade = exists().where(
            Partnership.account == caller.account,
            Partnership.active,
            Partnership.grade == any_(cls.partner_grades),
        )
        return or_(cls.partners.contains([caller.account]), of_grade)

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.state = "DRAFT"
        self.check_content()

    async def activate(self, call: Call) -> None:
        """Puts it in force, unless two prices would hold for one thing."""
        self.check_state("DRAFT")
        await call.one_at_a_time(["priceBooks.activate"])
        before = await call.named(PriceBook, self.replaces)
        if before is not None and before.state == "ACTIVE":
            before.state = "EXPIRED"
            await call.flush()
        twice = await self._twice(call) or await self._elsewhere(call)
        if twice:
            named = (await products([twice], call)).get(twice)
            raise FailedPrecondition("PRICE_BOOK_OVERLAP", product=named.display_name if named else twice)
        self.state = "ACTIVE"
        call.emit(events.PriceBookChanged, price_book=self)

    async def new_version(self, call: Call) -> PriceBook:
        """A draft like this book, which replaces it when it comes into force."""
        self.check_state("ACTIVE")
        copy = PriceBook(**{name: getattr(self, name) for name in _COPIED}, replaces=self.name)
        return await call.add(copy)

    def adjust(self, percent: Decimal, only: Collection[str]) -> list[Any]:
        """Changes every price by a percentage, or those of some products; tells what changes."""
        if percent <= -HUNDRED:
            raise Validation(Violation("percent", "TOO_SMALL", "必须大于 -100", "This must be above -100."))
        changes: list[Any] = []
        entries: list[Any] = []
        for entry in self.entries:
            kept = pb.PriceBook.Entry()
            kept.CopyFrom(entry)
            for tier in kept.tiers if not only or entry.product in only else ():
                before = Money.of(tier.price.amount, tier.price.currency_code)
                after = before + share(before, percent)
                changes.append(
                    pb.AdjustPriceBookResponse.Change(
                        product=entry.product, from_quantity=tier.from_quantity, before=before.message(), after=after.message()
                    )
                )  # fmt: skip
                tier.price.CopyFrom(after.message())
            entries.append(kept)
        self.entries = entries
        return changes

    def expire(self) -> None:
        """Ends it; its days were over before."""
        self.check_state("ACTIVE")
        self.state = "EXPIRED"

    def breadth(self, buyer: Buyer) -> int | None:
        """How narrowly it fits a buyer: 0 by name up to 5 for all; None where it does not.

        Where a partner sells, only the partner's own books count, and nobody else gets their prices.
        """
        theirs = bool(self.partners or self.partner_grades)
        if theirs != bool(buyer.partner):
            return None
        if theirs and buyer.partner not in self.partners and buyer.grade not in self.partner_grades:
            return None
        tests = (
            (self.accounts, buyer.account in self.accounts),
            (self.account_levels, buyer.level in self.account_levels),
            (self.account_types, buyer.type in self.account_types),
            (self.regions, any(covers(region, buyer.region) for region in self.regions)),
            (self.channels, buyer.channel in self.channels),
        )
        asked = [place for place, (names, _) in enumerate(tests) if names]
        if not all(tests[place][1] for place in asked):
            return None
        return min(asked, default=0 if theirs else len(tests))

    def check_content(self) -> None:
        """Refuses what can never be right."""
        check_currency(self.currency, "price_book.currency")
        if self.valid_from_date and self.valid_to_date and self.valid_to_date < self.valid_from_date:
            raise Validation(
                Violation(
                    "price_book.valid_to_date",
                    "BEFORE_START",
                    "不能早于生效日期",
                    "This lies before the first day.",
                )
            )
        for entry in self.entries:
            for tier in entry.tiers:
                if tier.price.currency_code != self.currency:
                    raise InvalidArgument(
                        "CURRENCY_MISMATCH", expected=self.currency, found=tier.price.currency_code
                    )

    async def _twice(self, call: Call) -> str:
        """A product that has two entries for one unit, or two tiers from one quantity."""
        often = Counter(entry.product for entry in self.entries)
        known = await products((name for name, times in often.items() if times > 1), call)
        seen: set[tuple[str, str]] = set()
        for entry in self.entries:
            starts = [Decimal(tier.from_quantity or 0) for tier in entry.tiers]
            own = known[entry.product].unit if entry.product in known else ""
            if (entry.product, entry.unit or own) in seen or len(set(starts)) < len(starts):
                return entry.product
            seen.add((entry.product, entry.unit or own))
        return ""

    async def _elsewhere(self, call: Call) -> str:
        """A product that another book in force prices for the same customers, days and rank."""
        same = select(PriceBook).where(
            PriceBook.id != self.id, PriceBook.state == "ACTIVE", PriceBook.currency == self.currency,
            PriceBook.priority == self.priority,
        )  # fmt: skip
        ours = {entry.product for entry in self.entries}
        for other in await call.db.scalars(same):
            if self._meets(other) and (shared := ours & {entry.product for entry in other.entries}):
                return min(shared)
        return ""

    def _meets(self, other: PriceBook) -> bool:
        days = _overlap(self.valid_from_date, self.valid_to_date, other.valid_from_date, other.valid_to_date)
        return days and self._audience() == other._audience()

    def _audience(self) -> list[tuple[str, ...]]:
        return [tuple(sorted(getattr(self, name))) for name in _AUDIENCE]


class Prices:
    """The prices of a book by product, read once for a pricing of many lines."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._tiers: dict[str, list[tuple[str, Decimal, Money]]] = {}
        for entry in book.entries:
            self._tiers.setdefault(entry.product, []).extend(
                (
                    entry.unit,
                    Decimal(tier.from_quantity or 0),
                    Money.of(tier.price.amount, tier.price.currency_code),
                )
                for tier in entry.tiers
            )

    def tiers(self, product: Product, unit: str) -> list[tuple[Decimal, Money]]:
        """All prices of one in a unit, by the quantity from which each holds."""
        # An entry without a unit is for the product's own: the price of a piece is not that of a box.
        units = ("", unit) if product.sold_in(unit) else (unit,)
        found = [(start, price) for each, start, price in self._tiers.get(product.name, ()) if each in units]
        return sorted(found, key=lambda one: one[0])

    def price(self, product: Product, unit: str, quantity: Decimal) -> tuple[Money, Decimal] | None:
        """The price of one, and the quantity from which it holds; None where the book has none."""
        reached = [(start, price) for start, price in self.tiers(product, unit) if start <= quantity]
        if not reached:
            return None
        start, price = reached[-1]
        return price, start


@dataclass(frozen=True)
class Buyer:
    """Who buys, and through whom."""

    account: str
    level: str = ""
    type: str = ""
    region: str = ""
    channel: str = ""
    partner: str = ""
    grade: str = ""


async def buyer_of(account: str, channel: str, partner: str, call: Call) -> Buyer:
    """A customer as prices look at him."""
    known = await call.copy(account) or {}
    selling = await partnership(partner, call)
    regions = [address.get("divisionCode", "") for address in known.get("addresses", [])]
    return Buyer(
        account, known.get("level", ""), known.get("type", ""), next(filter(None, regions), ""), channel, partner,
        selling.grade if selling else "",
    )  # fmt: skip


async def books_for(buyer: Buyer, currency: str, call: Call, agreed: str = "") -> list[PriceBook]:
    """The books in force today for a buyer, the one that counts first: that which was agreed for the deal, if any."""
    today = call.now.astimezone(ZONE).date()
    statement = select(PriceBook).where(
        PriceBook.state == "ACTIVE",
        PriceBook.currency == currency,
        or_(PriceBook.valid_from_date.is_(None), PriceBook.valid_from_date <= today),
        or_(PriceBook.valid_to_date.is_(None), PriceBook.valid_to_date >= today),
    )
    books = list(await call.db.scalars(statement))
    return [
        *(book for book in books if book.name == agreed),
        *(book for book in ranked(books, buyer) if book.name != agreed),
    ]


def ranked(books: Iterable[PriceBook], buyer: Buyer) -> list[PriceBook]:
    """Those that fit the buyer: narrower first, then of higher priority, then by name."""
    fitting = [
        (breadth, -book.priority, book.name, book)
        for book in books
        if (breadth := book.breadth(buyer)) is not None
    ]
    return [book for *_, book in sorted(fitting, key=lambda found: found[:3])]


def _overlap(start: date | None, end: date | None, other_start: date | None, other_end: date | None) -> bool:
    return (start or date.min) <= (other_end or date.max) and (other_start or date.min) <= (end or date.max)
