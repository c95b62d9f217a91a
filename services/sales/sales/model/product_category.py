"""The class of products: a tree of at most six levels."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource, parse_name
from sales.model.base import Base
from sqlalchemy import Index, exists, select
from sqlalchemy.orm import Mapped

DEEPEST = 6


class ProductCategory(Resource, Base):
    """A class of products, within another or a root."""

    __message__ = pb.ProductCategory
    __table_args__ = (Index("product_categories_code_key", "code", unique=True),)

    display_name: Mapped[str]
    code: Mapped[str]
    parent: Mapped[str]
    level: Mapped[int]
    margin_floor_percent: Mapped[Decimal | None]

    async def creating(self, call: Call) -> None:
        """Finds its place."""
        self._check()
        await self._place(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Moves it with what lies in it."""
        self._check()
        if "parent" in changed:
            await self._place(call)

    async def deleting(self, call: Call) -> None:
        """Only an empty one goes."""
        from sales.model.product import Product

        filled = exists().where(ProductCategory.parent == self.name) | exists().where(
            Product.category == self.name
        )
        if await call.db.scalar(select(filled)):
            raise FailedPrecondition("CATEGORY_NOT_EMPTY", category=self.display_name)

    def _check(self) -> None:
        if self.margin_floor_percent is not None and self.margin_floor_percent > HUNDRED:
            text = "不能大于 100", "At most 100."
            raise Validation(Violation("product_category.margin_floor_percent", "TOO_LARGE", *text))

    async def _place(self, call: Call) -> None:
        """Settles the level of itself and of everything below, one move at a time."""
        await call.one_at_a_time(["productCategories"])
        tree = {row.id: row for row in await call.db.scalars(select(ProductCategory))}
        tree[self.id] = self
        above = lineage(self, tree)
        if above is None:
            raise FailedPrecondition("CATEGORY_CYCLE")
        self.level = len(above)
        below, depth = [self], self.level
        while below:
            names = {row.name for row in below}
            below = [row for row in tree.values() if row.parent in names]
            depth += 1
            for row in below:
                row.level = depth
            if depth > DEEPEST and (below or self.level > DEEPEST):
                raise FailedPrecondition("CATEGORY_TOO_DEEP", limit=DEEPEST)


def lineage(category: ProductCategory, tree: dict[UUID, ProductCategory]) -> list[ProductCategory] | None:
    """A class and those that it lies in, the nearest first; None where they go in a circle."""
    found: list[ProductCategory] = []
    here: ProductCategory | None = category
    while here is not None:
        if here in found:
            return None
        found.append(here)
        here = tree.get(parse_name(here.parent, "productCategories")) if here.parent else None
    return found


class Tree:
    """The whole tree, read once for a pricing: it is small."""

    def __init__(self, rows: Iterable[ProductCategory]) -> None:
        self._rows = {row.id: row for row in rows}

    def above(self, name: str) -> tuple[str, ...]:
        """A class and those that it lies in, the nearest first."""
        return tuple(row.name for row in self._lineage(name))

    def floor(self, name: str) -> Decimal | None:
        """The lowest margin that the nearest class names."""
        floors = (row.margin_floor_percent for row in self._lineage(name))
        return next((floor for floor in floors if floor is not None), None)

    def _lineage(self, name: str) -> list[ProductCategory]:
        here = self._rows.get(parse_name(name, "productCategories")) if name else None
        return (lineage(here, self._rows) or []) if here else []


async def tree(call: Call) -> Tree:
    """The tree as it is."""
    return Tree(await call.db.scalars(select(ProductCategory)))
