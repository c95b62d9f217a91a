"""Classes of customers: rules that grade them, the history of their levels, groups of tags."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from crm.customer.v1 import pb
from crmkit import listing
from crmkit.call import Call
from crmkit.errors import PermissionDenied, Validation, Violation
from crmkit.resource import Resource
from customer.model.base import Base
from customer.model.rules import DraftRule
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

MANAGE = "customer.gradingRules.activate"
MONTHS = 12


class GradingRule(DraftRule, Base):
    """Points for facts, and levels for points. In force it does not change."""

    __message__ = pb.GradingRule
    __table_args__ = (
        Index(
            "grading_rules_one_key", text("(true)"), unique=True, postgresql_where=text("state = 'ACTIVE'")
        ),
    )

    display_name: Mapped[str]
    filter: Mapped[str]
    currency: Mapped[str]
    factors: Mapped[Any]
    grades: Mapped[Any]
    state: Mapped[str]
    activate_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """Begins as a draft."""
        self.state, self.currency = "DRAFT", self.currency or "CNY"
        self.check_content(call)

    def retire(self) -> None:
        """Out of force; levels stay as they are."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def points_of(self, number: int, value: Decimal | None) -> int:
        """The points of the last step of a factor that is reached; none for what nobody knows."""
        reached = [
            (Decimal(getattr(step, "from") or "0"), step.points) for step in self.factors[number].steps
        ]
        below = [step for step in reached if value is not None and step[0] <= value]
        return max(below, key=lambda step: step[0])[1] if below else 0

    def level_of(self, points: int) -> str:
        """The level of so many points; empty where they are not enough for any."""
        reached = [(grade.points, grade.level) for grade in self.grades if grade.points <= points]
        return max(reached)[1] if reached else ""

    def check_content(self, call: Call) -> None:
        if not call.caller.may(MANAGE):
            raise PermissionDenied("PERMISSION_DENIED", permission=MANAGE)
        from customer.model.account import Account

        listing.where(Account, self.filter, call.caller, call.now)
        wrong: list[Violation] = []
        for n, factor in enumerate(self.factors):
            starts = [getattr(step, "from") for step in factor.steps]
            if len(set(starts)) != len(starts):
                zh, en = "两档的起点相同。", "Two steps begin at the same value."
                wrong.append(Violation(f"grading_rule.factors[{n}].steps", "DUPLICATE", zh, en))
        if len({grade.points for grade in self.grades}) != len(self.grades):
            zh, en = "两个级别的起始分相同。", "Two levels begin at the same points."
            wrong.append(Violation("grading_rule.grades", "DUPLICATE", zh, en))
        if wrong:
            raise Validation(*wrong)


class AccountGrade(Resource, Base):
    """One change of a customer's level."""

    __message__ = pb.AccountGrade
    __table_args__ = (Index("account_grades_account_time_index", "account", "time"),)

    account: Mapped[str]
    before: Mapped[str]
    level: Mapped[str]
    origin: Mapped[str]
    rule: Mapped[str]
    points: Mapped[int]
    results: Mapped[Any]
    until_date: Mapped[date | None]
    reason: Mapped[str]
    time: Mapped[datetime]


class TagGroup(Resource, Base):
    """Tags that belong together; of an exclusive group a customer has one."""

    __message__ = pb.TagGroup

    display_name: Mapped[str]
    tags: Mapped[list[str]]
    exclusive: Mapped[bool]

    async def creating(self, call: Call) -> None:
        """A tag is in one exclusive group."""
        await self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A tag is in one exclusive group."""
        await self._check(call)

    async def _check(self, call: Call) -> None:
        if not call.caller.may(MANAGE):
            raise PermissionDenied("PERMISSION_DENIED", permission=MANAGE)
        if len(set(self.tags)) != len(self.tags):
            zh, en = "标签重复。", "A tag is there twice."
            raise Validation(Violation("tag_group.tags", "DUPLICATE", zh, en))
        if not self.exclusive:
            return
        other = await call.find(
            TagGroup, TagGroup.exclusive, TagGroup.tags.op("&&")(self.tags), TagGroup.id != self.id
        )
        if other is not None:
            zh, en = (
                f"标签已在互斥组“{other.display_name}”中。",
                f"A tag is in the group {other.display_name}.",
            )
            raise Validation(Violation("tag_group.tags", "DUPLICATE", zh, en))


async def exclusive(tags: Sequence[str], before: Sequence[str], call: Call) -> list[str]:
    """The tags with one of each exclusive group: the one that came last."""
    kept = list(dict.fromkeys(tags))
    if len(kept) < 2 or set(kept) <= set(before):
        return kept
    return one_of_each(kept, before, await exclusive_groups(call))


async def exclusive_groups(call: Call) -> list[list[str]]:
    """The tags of every exclusive group."""
    return list(await call.db.scalars(select(TagGroup.tags).where(TagGroup.exclusive)))


def one_of_each(tags: Sequence[str], before: Sequence[str], groups: Sequence[Sequence[str]]) -> list[str]:
    """The tags with the latest of each group."""
    kept = list(tags)
    for group in groups:
        mine = [tag for tag in kept if tag in group]
        last = next((tag for tag in reversed(mine) if tag not in before), mine[-1] if mine else "")
        kept = [tag for tag in kept if tag not in mine or tag == last]
    return kept
