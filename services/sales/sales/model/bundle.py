"""The bundle: a package, or a product that is configured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, Validation, Violation, required
from crmkit.resource import parse_name
from crmkit.values import Money
from sales.configuration import Broken, Choices, Shape
from sales.model import versions
from sales.model.base import Base, held
from sales.model.product import Product, products
from sales.model.versions import DraftOnly
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

_COPIED = (
    "display_name", "code", "category", "unit", "tax_rate", "groups", "rules", "questions", "price_mode", "fixed_price",
    "discount_percent", "description", "in_shop",
)  # fmt: skip


class Bundle(DraftOnly, Base):
    """One version of a bundle. Only a draft changes; at most one version is for sale."""

    __message__ = pb.Bundle
    __table_args__ = (
        Index("bundles_one_draft_key", "root", unique=True, postgresql_where=text("state = 'DRAFT'")),
        Index("bundles_one_active_key", "root", unique=True, postgresql_where=text("state = 'ACTIVE'")),
        Index("bundles_code_key", "code", unique=True, postgresql_where=text("version_number = 1")),
    )

    display_name: Mapped[str]
    code: Mapped[str]
    category: Mapped[str]
    unit: Mapped[str]
    tax_rate: Mapped[Decimal | None]
    groups: Mapped[Any]
    rules: Mapped[Any]
    questions: Mapped[Any]
    price_mode: Mapped[str]
    fixed_price: Mapped[Money | None]
    discount_percent: Mapped[Decimal | None]
    description: Mapped[str]
    in_shop: Mapped[bool]
    version_number: Mapped[int]
    root: Mapped[str]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state, self.price_mode = "DRAFT", self.price_mode or "SUM"
        self.check_content()

    async def activate(self, call: Call) -> None:
        """Puts it on sale, unless some option can never be chosen."""
        self.check_state("DRAFT")
        if not self.groups:
            raise Validation(required("bundle.groups"))
        shape = await self.shape(call)
        if not shape.satisfiable():
            raise FailedPrecondition("CONFIGURATION_UNSATISFIABLE", detail=self.display_name)
        if never := shape.contradictions():
            raise FailedPrecondition(
                "CONFIGURATION_UNSATISFIABLE", detail=", ".join(shape.label(key) for key in never)
            )
        await versions.put_in_force(self, "root", call)
        call.emit(events.BundleChanged, bundle=self)

    def retire(self) -> None:
        """Takes it out of new quotes."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    async def new_version(self, call: Call) -> Bundle:
        """A draft like this version."""
        return await versions.next_version(self, _COPIED, call)

    async def for_sale(self, call: Call) -> Bundle | None:
        """The version of it that is for sale."""
        return await call.find(Bundle, Bundle.root == self.root, Bundle.state == "ACTIVE")

    async def shape(self, call: Call, day: date | None = None) -> Shape:
        """Its rules, with what people call the options; for choices of a day without what is not on sale then."""
        return self.shape_of(await self.parts(call), day)

    def shape_of(self, known: Mapping[str, Product], day: date | None, kept: Collection[str] = ()) -> Shape:
        """Its rules among products that are known; those that are kept may be chosen on any day."""
        options = [option for group in self.groups for option in group.options]
        labels = {one.product: known[one.product].display_name for one in options if one.product in known}
        gone = [
            one.key
            for one in options
            if day is not None and one.product not in kept
            if one.product not in known or not known[one.product].on_sale(day)
        ]
        return Shape(self, labels, gone)

    async def parts(self, call: Call) -> dict[str, Product]:
        """The products of its options."""
        return await products((option.product for group in self.groups for option in group.options), call)

    def answers(self, given: Iterable[str], path: str) -> list[Any]:
        """The options that answers choose, each "question:answer" by place."""
        found: list[Any] = []
        for place, text_ in enumerate(given):
            question, _, answer = text_.partition(":")
            try:
                chosen = self.questions[int(question)].answers[int(answer)]
            except (ValueError, IndexError):
                wrong = Violation(
                    f"{path}[{place}]", "UNKNOWN_VALUE", "没有这个回答", "There is no such answer."
                )
                raise Validation(wrong) from None
            found += [pb.Quote.Choice(option=key) for key in chosen.options]
        return found

    def check_content(self) -> None:
        """Refuses what can never be right."""
        violations = [*self._wrong_groups(), *self._wrong_rules(), *self._wrong_price()]
        if violations:
            raise Validation(*violations)

    def _wrong_groups(self) -> Iterator[Violation]:
        keys = [option.key for group in self.groups for option in group.options]
        groups = [group.key for group in self.groups]
        for place, group in enumerate(self.groups):
            path = f"bundle.groups[{place}]"
            if groups.count(group.key) > 1:
                yield Violation(f"{path}.key", "DUPLICATE", "分组代码重复", "Two groups have this key.")
            if group.maximum and group.maximum < group.minimum:
                yield Violation(
                    f"{path}.maximum", "TOO_SMALL", "不能小于至少选", "This is below the least number."
                )
            for number, option in enumerate(group.options):
                if keys.count(option.key) > 1:
                    where = f"{path}.options[{number}].key"
                    yield Violation(where, "DUPLICATE", "选项代码重复", "Two options have this key.")

    def _wrong_rules(self) -> Iterator[Violation]:
        keys = {option.key for group in self.groups for option in group.options}
        for place, rule in enumerate(self.rules):
            for name in ("option", "other"):
                if getattr(rule, name) not in keys:
                    path = f"bundle.rules[{place}].{name}"
                    yield Violation(path, "UNKNOWN_VALUE", "没有这个选项", "There is no such option.")

    def _wrong_price(self) -> Iterator[Violation]:
        if self.price_mode == "FIXED" and self.fixed_price is None:
            yield required("bundle.fixed_price")
        for name in ("discount_percent", "tax_rate"):
            if (getattr(self, name) or 0) > HUNDRED:
                yield Violation(f"bundle.{name}", "TOO_LARGE", "不能大于 100", "At most 100.")


def invalid(shape: Shape, chosen: Choices, broken: list[Broken], call: Call) -> InvalidArgument:
    """The refusal of choices, with every broken rule and the nearest choices that break none."""
    nearest = shape.nearest(chosen)
    named = ", ".join(
        f"{shape.label(key)} × {quantity}" for key, quantity in shape.digestible(nearest or {})
    ) or call.text("无", "none")
    told = [call.text(one.zh, one.en) for one in broken]
    problem = InvalidArgument("CONFIGURATION_INVALID", broken="; ".join(told), nearest=named)
    problem.violations = [Violation("choices", "CONFIGURATION_INVALID", one.zh, one.en) for one in broken]
    return problem


async def bundles(names: Iterable[str], call: Call) -> dict[str, Bundle]:
    """The versions of these names."""
    keys = {parse_name(name, "bundles") for name in names if name}
    return {row.name: row for row in await held(Bundle, keys, call)}
