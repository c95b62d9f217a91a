"""The pipeline: the stages that deals of one kind go through."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.resource import Resource
from sales.model import versions
from sales.model.base import Base
from sqlalchemy import ColumnElement, Index, exists, select, text
from sqlalchemy.orm import Mapped

RUNNING = ("OPEN", "SUSPENDED")
# What a company wants to know of every deal, whatever the first stage asks for beside.
ALWAYS: tuple[str, ...] = ("need", "expected_close_date", "amount")


class Pipeline(Resource, Base):
    """The stages of a deal, in their order."""

    __message__ = pb.Pipeline
    __table_args__ = (
        Index("pipelines_default_key", "is_default", unique=True, postgresql_where=text("is_default")),
        Index("pipelines_one_draft_key", "root", unique=True, postgresql_where=text("state = 'DRAFT'")),
        Index("pipelines_one_active_key", "root", unique=True, postgresql_where=text("state = 'ACTIVE'")),
    )

    display_name: Mapped[str]
    mode: Mapped[str]
    stages: Mapped[Any]
    allow_skip: Mapped[bool]
    is_default: Mapped[bool]
    root: Mapped[str]
    for_partners: Mapped[bool]
    version_number: Mapped[int]
    state: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """Partners see what is for them."""
        return cls.for_partners.is_(True) if caller.account else None

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        versions.begin(self)
        self.state = self.state or "DRAFT"
        self.mode = self.mode or "STAGE_CENTRED"
        self._check_stages()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Keeps every stage in which deals stand."""
        self.check_state("DRAFT", "ACTIVE")
        self._check_stages()
        if "stages" in changed and (stage := await self._lost_stage(call)):
            raise FailedPrecondition("STAGE_IN_USE", stage=stage)

    async def deleting(self, call: Call) -> None:
        """The default one stays: deals that name none need it."""
        if self.is_default:
            raise FailedPrecondition("PIPELINE_IN_USE")

    async def activate(self, mappings: dict[str, str], move_deals: bool, call: Call) -> None:
        """Lets deals in, in place of the version before, whose running deals stay with it or come along."""
        self.check_state("DRAFT", "RETIRED")
        await call.one_at_a_time([self.root])
        before = await call.find(Pipeline, Pipeline.root == self.root, Pipeline.state == "ACTIVE", lock=True)
        if before is not None:
            if move_deals:
                await self._take_over(before, mappings, call)
            before.state, is_default = "RETIRED", before.is_default
            before.is_default = False
            await call.flush()
            self.is_default = is_default
        self.state = "ACTIVE"

    async def new_version(self, call: Call) -> Pipeline:
        """A draft like this version."""
        return await versions.next_version(
            self, ("display_name", "mode", "stages", "allow_skip", "for_partners"), call
        )

    async def _take_over(self, before: Pipeline, mappings: dict[str, str], call: Call) -> None:
        """Moves the running deals of the version before; a stage that is gone needs a mapping (STAGE_IN_USE)."""
        from sales.model.opportunity import Opportunity

        running = select(Opportunity).where(
            Opportunity.pipeline == before.name, Opportunity.state.in_(RUNNING)
        )
        async with call.everybody():
            deals = list(await call.db.scalars(running.with_for_update()))
            for deal in deals:
                target = deal.stage if self.stage(deal.stage) else mappings.get(deal.stage, "")
                if self.stage(target) is None:
                    gone = before.stage(deal.stage)
                    raise FailedPrecondition("STAGE_IN_USE", stage=gone.display_name if gone else deal.stage)
                deal.move_to(self, target, call)
            await call.flush()

    async def retire(self, call: Call) -> None:
        """Lets no more deals in."""
        self.check_state("ACTIVE")
        if self.is_default or await self._runs(call):
            raise FailedPrecondition("PIPELINE_IN_USE")
        self.state = "RETIRED"

    def stage(self, key: str) -> pb.Pipeline.Stage | None:
        """The stage of a key."""
        return next((stage for stage in self.stages if stage.key == key), None)

    def position(self, key: str) -> int:
        """Place of a stage from 0; a stage that is gone stands before the first."""
        return next((place for place, stage in enumerate(self.stages) if stage.key == key), -1)

    def entry_fields(self, place: int) -> list[str]:
        """The fields that must be filled to enter a stage."""
        named = self.stages[place].entry_fields
        return list(dict.fromkeys([*ALWAYS, *named] if place == 0 else named))

    def neighbour(self, key: str, step: int) -> str:
        """Key of the stage so many steps on, empty where there is none."""
        place = self.position(key) + step
        return self.stages[place].key if 0 <= place < len(self.stages) else ""

    def _check_stages(self) -> None:
        keys = [stage.key for stage in self.stages]
        violations = [
            violation
            for place, stage in enumerate(self.stages)
            for violation in _wrong(stage, keys.count(stage.key) > 1, f"pipeline.stages[{place}]")
        ]
        if violations:
            raise Validation(*violations)

    async def _runs(self, call: Call, *conditions: Any) -> bool:
        from sales.model.opportunity import Opportunity

        running = exists().where(
            Opportunity.pipeline == self.name, Opportunity.state.in_(RUNNING), *conditions
        )
        async with call.everybody():
            return bool(await call.db.scalar(select(running)))

    async def _lost_stage(self, call: Call) -> str:
        from sales.model.opportunity import Opportunity

        keys = [stage.key for stage in self.stages]
        lost = select(Opportunity.stage).where(
            Opportunity.pipeline == self.name, Opportunity.state.in_(RUNNING), Opportunity.stage.not_in(keys)
        )
        async with call.everybody():
            return await call.db.scalar(lost.limit(1)) or ""


def _wrong(stage: pb.Pipeline.Stage, twice: bool, path: str) -> Iterator[Violation]:
    """What is wrong with a stage."""
    if twice:
        yield Violation(f"{path}.key", "DUPLICATE", "阶段代码重复", "Two stages have this key.")
    if Decimal(stage.probability or 0) > HUNDRED:
        yield Violation(f"{path}.probability", "TOO_LARGE", "不能大于 100", "At most 100.")
    for name in (*stage.entry_fields, *stage.exit_fields):
        if name not in pb.Opportunity.DESCRIPTOR.fields_by_name:
            zh, en = f"没有字段 {name}", f"There is no field {name}."
            yield Violation(f"{path}.entry_fields", "UNKNOWN_FIELD", zh, en)


async def seed_default_pipeline(call: Call) -> None:
    """Makes the pipeline that an installation starts with, once."""
    await call.one_at_a_time(["pipelines.default"])
    if await call.find(Pipeline, Pipeline.is_default.is_(True)) is None:
        await call.add(
            Pipeline(
                display_name="标准销售流程",
                mode="STAGE_CENTRED",
                stages=_default_stages(),
                is_default=True,
                state="ACTIVE",
            )
        )


def _default_stages() -> list[pb.Pipeline.Stage]:
    first = list(ALWAYS)
    rows: list[tuple[str, str, str, str, str, int, list[str]]] = [
        ("CONTACT", "初步接洽", "First contact", "10", "PIPELINE", 30, first),
        ("NEEDS", "需求确认", "Needs confirmed", "30", "PIPELINE", 30, []),
        ("PROPOSAL", "方案报价", "Proposal", "50", "BEST_CASE", 30, []),
        ("NEGOTIATION", "商务谈判", "Negotiation", "75", "BEST_CASE", 21, []),
        ("CLOSING", "签约推进", "Closing", "90", "COMMIT", 14, []),
    ]
    return [
        pb.Pipeline.Stage(
            key=key, display_name=zh, display_name_en=en, probability=probability,
            forecast_category=category, max_days=days, entry_fields=fields,
        )
        for key, zh, en, probability, category, days, fields in rows
    ]  # fmt: skip
