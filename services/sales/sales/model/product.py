"""The product: something that we sell."""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.mapping import mapper
from crmkit.resource import Resource, parse_name
from crmkit.values import Money
from sales.model.base import Base, held
from sqlalchemy import ColumnElement, Index, and_, exists, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped


class Product(Resource, Base):
    """Something that we sell. A used one is never deleted."""

    __message__ = pb.Product
    __table_args__ = (Index("products_code_key", "code", unique=True),)

    display_name: Mapped[str]
    code: Mapped[str]
    kind: Mapped[str]
    category: Mapped[str]
    line: Mapped[str]
    unit: Mapped[str]
    tax_category: Mapped[str]
    tax_rate: Mapped[Decimal | None]
    list_price: Mapped[Money | None]
    cost: Mapped[Money | None]
    min_price: Mapped[Money | None]
    valid_from_date: Mapped[date | None]
    valid_to_date: Mapped[date | None]
    successor: Mapped[str]
    description: Mapped[str]
    barcode: Mapped[str]
    variants: Mapped[Any]
    in_shop: Mapped[bool]
    case_quantity: Mapped[Decimal | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.state = "DRAFT"
        self.kind = self.kind or "GOODS"
        if not self.code:
            await call.number(self)
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Tells the others what changed of a product that they know."""
        self.check_state("DRAFT", "ACTIVE", "END_OF_SALE")
        self._check()
        if self.state != "DRAFT":
            self._tell(call)

    async def deleting(self, call: Call) -> None:
        """Refuses while documents name it."""
        if await self._used(call):
            raise FailedPrecondition("PRODUCT_IN_USE")

    async def activate(self, call: Call) -> None:
        """Puts it on sale; somebody must know its price."""
        self.check_state("DRAFT")
        if self.list_price is None and not await self._in_price_book(call):
            raise FailedPrecondition("PRICE_MISSING", items=self.display_name)
        self.state = "ACTIVE"
        self._tell(call)

    def on_sale(self, day: date) -> bool:
        """Whether a new quote of the day may offer it."""
        begun = self.valid_from_date is None or self.valid_from_date <= day
        return self.state == "ACTIVE" and begun and (self.valid_to_date is None or day <= self.valid_to_date)

    def sold_in(self, unit: str) -> bool:
        """Whether it is the unit that its own price is for; one without a unit has whatever is asked for."""
        return not self.unit or unit == self.unit

    @classmethod
    def sold_on(cls, day: date) -> ColumnElement[bool]:
        """`on_sale` as a condition."""
        return and_(
            cls.state == "ACTIVE",
            or_(cls.valid_from_date.is_(None), cls.valid_from_date <= day),
            or_(cls.valid_to_date.is_(None), cls.valid_to_date >= day),
        )

    def end_sale(self, successor: str, call: Call) -> None:
        """Takes it out of new quotes; old ones keep it."""
        self.check_state("ACTIVE")
        if successor == self.name:
            text = "不能是产品自己", "A product does not follow itself."
            raise Validation(Violation("successor", "CYCLE", *text))
        self.state, self.successor = "END_OF_SALE", successor
        self._tell(call)

    def retire(self, call: Call) -> None:
        """Retires it."""
        self.check_state("END_OF_SALE")
        self.state = "RETIRED"
        self._tell(call)

    def _check(self) -> None:
        self.code = self.code or self.number
        if self.tax_rate is not None and self.tax_rate > HUNDRED:
            raise Validation(Violation("product.tax_rate", "TOO_LARGE", "不能大于 100", "At most 100."))
        if self.valid_from_date and self.valid_to_date and self.valid_to_date < self.valid_from_date:
            raise Validation(
                Violation(
                    "product.valid_to_date",
                    "BEFORE_START",
                    "不能早于生效日期",
                    "This lies before the first day.",
                )
            )

    def _tell(self, call: Call) -> None:
        """Emits the product as it is after the flush, without what only few may know."""

        async def emit() -> None:
            call.emit(events.ProductChanged, self, product=mapper(Product).message(self, call.running.nobody))

        call.after_flush(emit)

    async def _in_price_book(self, call: Call) -> bool:
        from sales.model.price_book import PriceBook

        entries = type_coerce(PriceBook.entries, JSONB)
        return bool(await call.db.scalar(select(exists().where(entries.contains([{"product": self.name}])))))

    async def _used(self, call: Call) -> bool:
        """Whether a document, an order, a bundle or a policy names it: none of them can be priced without it."""
        from sales.model.bundle import Bundle
        from sales.model.discount_policy import DiscountPolicy
        from sales.model.opportunity import Opportunity
        from sales.model.purchase import Purchase
        from sales.model.quote import Quote

        named = [{"product": self.name}]
        uses = (
            *(type_coerce(model.lines, JSONB).contains(named) for model in (Opportunity, Quote)),
            type_coerce(Quote.lines, JSONB).contains([{"components": named}]),
            type_coerce(Bundle.groups, JSONB).contains([{"options": named}]),
            DiscountPolicy.free_product == self.name,
            DiscountPolicy.products.contains([self.name]),
            Purchase.product == self.name,
        )
        async with call.everybody():
            used = bool(await call.db.scalar(select(or_(*(exists().where(one) for one in uses)))))
        return used or await self._in_price_book(call)


async def products(names: Iterable[str], call: Call) -> dict[str, Product]:
    """The products of these names."""
    keys = {parse_name(name, "products") for name in names if name}
    return {product.name: product for product in await held(Product, keys, call)}
