"""The ledger of commissions: what each movement of money was worth to whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import Validation, Violation, required
from crmkit.mapping import read_date
from crmkit.resource import Resource
from crmkit.values import Money, places, zero
from sales.commission import NOTHING, Item, Total, Worth, worth
from sales.engine.reckoning import cents, percent_of
from sales.model.base import Base
from sales.model.beneficiaries import earned_by, held_by, present
from sales.model.commission_movement import CommissionMovement, plans_of
from sales.model.commission_plan import CommissionPlan
from sales.model.opportunity import REFERRER
from sqlalchemy import Index, extract, func, select
from sqlalchemy.orm import Mapped


class CommissionEntry(Resource, Base):
    """A line of the ledger; its owner is the beneficiary. It is never changed but for the statement that takes it."""

    __message__ = pb.CommissionEntry
    __table_args__ = (
        Index("commission_entries_once_key", "cause", "plan", "owner", "partner", "kind", unique=True),
        Index("commission_entries_open_index", "owner", "statement"),
    )

    kind: Mapped[str]
    plan: Mapped[str]
    cause: Mapped[str]
    opportunity: Mapped[str]
    base: Mapped[Money | None]
    split: Mapped[Decimal | None]
    slices: Mapped[Any]
    amount: Mapped[Money | None]
    date: Mapped[date | None]
    exchange_rate: Mapped[Decimal | None]
    reverses: Mapped[str]
    statement: Mapped[str]
    note: Mapped[str]
    tier_base: Mapped[Decimal | None]
    before_cap: Mapped[Decimal | None]
    partner: Mapped[str]

    @property
    def beneficiary(self) -> str:
        """Who earned it."""
        return self.partner or self.owner

    async def correct(self, amount: Decimal, note: str, call: Call) -> CommissionEntry:
        """A line that puts this one right; it comes on the next statement."""
        if self.amount is None or not amount:
            raise Validation(required("amount"))
        if amount != cents(amount, places(self.amount.currency)):
            text = "小数位过多。", "Too many decimal places."
            raise Validation(Violation("amount", "OUT_OF_RANGE", *text))
        return await call.add(
            CommissionEntry(
                kind="CORRECTION", plan=self.plan, cause=f"{self.name}#{uuid4().hex[:8]}", opportunity=self.opportunity,
                amount=Money(amount, self.amount.currency), date=today(call), reverses=self.name, note=note, owner=self.owner,
                department=self.department, partner=self.partner,
            )
        )  # fmt: skip


async def enter(movement: CommissionMovement, call: Call) -> None:
    """Writes what a movement is worth to everybody who has credit of the deal. Once it is written, it stays."""
    team = present(movement.credit, call)
    await call.one_at_a_time([f"commission:{one['employee']}" for one in team])
    plans = await plans_of([movement], call)
    shares = [Decimal(one["share"]) for one in team]
    for name, plan in plans.items():
        mine = {place: one for place, one in enumerate(team) if one["plan"] == name}
        items = movement.parts(plan.currency, Decimal(next(iter(mine.values()))["rate"]))
        earning = {place: one for place, one in mine.items() if not one["role"]}
        totals = {
            place: await total(one["employee"], plan, movement.day.year, call)
            for place, one in earning.items()
        }
        found = worth(plan.terms(), items, movement.account_type, movement.repeat, shares, totals)
        for place, one in mine.items():
            writer = _Writer(movement, plan, one, call)
            if place in found:
                await writer.earned(found[place], plan.basis == "MARGIN" and not _margins_known(items))
            for extra in extras(plan, one, items, movement.day):
                await writer.extra(extra)
    await call.flush()


async def total(employee: str, plan: CommissionPlan, year: int, call: Call) -> Total:
    """What a person has in a calendar year under all versions of a plan."""
    versions = select(CommissionPlan.id).where(CommissionPlan.root == plan.root)
    names = [f"commissionPlans/{key}" for key in await call.db.scalars(versions)]
    sums = select(func.sum(CommissionEntry.tier_base), func.sum(CommissionEntry.before_cap)).where(
        earned_by(employee, CommissionEntry), CommissionEntry.plan.in_(names), CommissionEntry.kind.in_(("EARN", "CLAWBACK")),
        extract("year", CommissionEntry.date) == year,
    )  # fmt: skip
    tier_base, earned = (await call.db.execute(sums)).one()
    return Total(tier_base or NOTHING, earned or NOTHING)


@dataclass(frozen=True)
class Extra:
    """What is paid on top: to whom, why, of what and how much."""

    owner: str
    kind: str
    rule: str
    base: Decimal
    percent: Decimal
    amount: Decimal


def extras(plan: CommissionPlan, one: dict[str, Any], items: list[Item], day: date) -> list[Extra]:
    """Bonuses, the referrer's part and what superiors get, for one person's share of a movement."""
    digits, terms, found = places(plan.currency), plan.terms(), list[Extra]()
    base = sum((item.amount for item in items), NOTHING)
    employee = one["employee"]
    if one["role"] == REFERRER:
        percent = plan.referral_percent or NOTHING
        return [Extra(employee, "SPIFF", "REFERRAL", base, percent, percent_of(base, percent, digits))]
    share = Decimal(one["share"])
    for spiff in plan.spiffs:
        units = sum((item.units for item in items if item.product == spiff.product), NOTHING)
        first, last = read_date(spiff.from_date), read_date(spiff.to_date)
        if (first is None or day >= first) and (last is None or day <= last):
            mine, each = units * share.scaleb(-2), Decimal(spiff.per_unit)
            found.append(Extra(employee, "SPIFF", "SPIFF", mine, each, cents(mine * each, digits)))
    counted = sum((terms.counted(item) for item in items), NOTHING) if terms.basis == "MARGIN" else base
    part = cents(counted * share.scaleb(-2), digits)
    for superior, percent in one["over"]:
        amount = percent_of(part, Decimal(percent), digits)
        found.append(Extra(superior, "OVERRIDE", "OVERRIDE", part, Decimal(percent), amount))
    return found


class _Writer:
    """Writes the entries of one person for one movement."""

    def __init__(
        self, movement: CommissionMovement, plan: CommissionPlan, one: dict[str, Any], call: Call
    ) -> None:
        self.movement, self.plan, self.one, self.call = movement, plan, one, call

    async def earned(self, found: Worth, margin_unknown: bool) -> None:
        """What he earns, or what is taken back from him, and the true-up of what was before."""
        if not found.base and not margin_unknown:
            return
        kind = "EARN" if self.movement.sign > 0 else "CLAWBACK"
        slices = [
            pb.CommissionEntry.Slice(base=plain(size), percent=plain(percent), rule=rule)
            for size, percent, rule in found.slices
        ]
        base = None if self.plan.basis == "UNITS" else self._money(found.base)
        await self._write(
            self.one["employee"], kind=kind, base=base, amount=self._money(found.amount), slices=slices,
            tier_base=found.tier_base, before_cap=found.before_cap, reverses=await self._earlier("EARN"),
            note="成本未知，按毛利不计提 / the cost is unknown, no margin counts" if margin_unknown else "",
        )  # fmt: skip
        if found.true_up:
            await self._write(
                self.one["employee"], kind="TRUE_UP", base=zero(self.plan.currency), amount=self._money(found.true_up),
                reverses=await self._earlier("TRUE_UP"),
            )  # fmt: skip

    async def extra(self, extra: Extra) -> None:
        """What is paid on top; nothing is not written."""
        if not extra.amount:
            return
        # The same superior may stand above several of the team, and a person have several bonuses.
        suffix = f"#{self.one['employee']}" if extra.kind == "OVERRIDE" else f"#{extra.rule.lower()}"
        slices = [
            pb.CommissionEntry.Slice(
                base=plain(abs(extra.base)), percent=plain(extra.percent), rule=extra.rule
            )
        ]
        await self._write(
            extra.owner, kind=extra.kind, cause=f"{self.movement.cause}{suffix}", amount=self._money(extra.amount),
            base=None if extra.rule == "SPIFF" else self._money(extra.base), slices=slices,
            reverses=await self._earlier(extra.kind, suffix, extra.owner),
        )  # fmt: skip

    def _money(self, amount: Decimal) -> Money:
        return Money(amount, self.plan.currency)

    async def _write(self, beneficiary: str, **values: Any) -> None:
        common = {
            **await held_by(beneficiary, self.call),
            "plan": self.plan.name, "cause": self.movement.cause, "opportunity": self.movement.opportunity,
            "split": Decimal(self.one["share"]), "date": self.movement.day,
            "exchange_rate": Decimal(self.one["rate"]) if self.movement.currency != self.plan.currency else None,
        }  # fmt: skip
        await self.call.add(CommissionEntry(**(common | values)))

    async def _earlier(self, kind: str, suffix: str = "", owner: str = "") -> str:
        """The entry that a movement takes back."""
        if not self.movement.undoes:
            return ""
        entry = await self.call.find(
            CommissionEntry, CommissionEntry.cause == f"{self.movement.undoes}{suffix}", CommissionEntry.kind == kind,
            earned_by(owner or self.one["employee"], CommissionEntry), CommissionEntry.plan == self.plan.name,
        )  # fmt: skip
        return entry.name if entry else ""


def _margins_known(items: list[Item]) -> bool:
    return all(item.margin_percent is not None for item in items)
