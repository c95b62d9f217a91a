"""The opportunity: a deal that may be won."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.mapping import to_date, to_timestamp, told_date
from crmkit.resource import Resource, parse_name
from crmkit.values import Money
from sales.engine.reckoning import shared
from sales.model.base import HANDOVER, Base, coming_from
from sales.model.gates import Counted, counted, counts
from sales.model.pipeline import ALWAYS, Pipeline
from sales.model.product import Product, products
from sales.pricing import TOO_MUCH, extended, share
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

# A lost deal to a competitor must say to whom.
TO_COMPETITOR = "COMPETITOR"
# Who brought the deal and has no share of the credit.
REFERRER = "REFERRER"
TOO_LARGE_SPLIT = Violation(
    "split", "TOO_LARGE", "超过了可分配的比例", "There is not so much of the credit left to share."
)


class Opportunity(Resource, Base):
    """A deal that may be won. Only an open one changes."""

    __message__ = pb.Opportunity
    __table_args__ = (
        Index("opportunities_lead_key", "lead", unique=True, postgresql_where=text("lead <> ''")),
        Index(
            "opportunities_external_key",
            "external_id",
            unique=True,
            postgresql_where=text("external_id <> ''"),
        ),
        Index(
            "opportunities_registration_key",
            "deal_registration",
            unique=True,
            postgresql_where=text("deal_registration <> ''"),
        ),
    )

    display_name: Mapped[str]
    account: Mapped[str]
    contacts: Mapped[Any]
    need: Mapped[str]
    pipeline: Mapped[str]
    stage: Mapped[str]
    amount: Mapped[Money | None]
    lines: Mapped[Any]
    probability: Mapped[Decimal | None]
    probability_source: Mapped[str]
    expected_close_date: Mapped[date | None]
    forecast_category: Mapped[str]
    weighted_amount: Mapped[Money | None]
    team: Mapped[Any]
    campaign: Mapped[str]
    channel_partner: Mapped[str]
    lead: Mapped[str]
    origin: Mapped[Any]
    stage_history: Mapped[Any]
    suspend_until_date: Mapped[date | None]
    loss_reason: Mapped[str]
    lost_to: Mapped[str]
    close_time: Mapped[datetime | None]
    accepted_quote: Mapped[str]
    ordered: Mapped[bool]
    competitors: Mapped[Any]
    checked: Mapped[list[str]]
    strategy_sheet: Mapped[Any]
    external_id: Mapped[str]
    credit: Mapped[Any]
    handovers: Mapped[Any]
    deal_registration: Mapped[str]
    price_book: Mapped[str]
    upsell_proposal: Mapped[str]
    reviews: Mapped[Any]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Enters the pipeline."""
        pipeline = await self.enter_pipeline(call, "opportunity")
        if not call.caller.is_system:
            await self._check_contacts(call)
        self.state = "OPEN"
        self.channel_partner = call.caller.account or self.channel_partner
        if call.caller.account:
            # Who has which share is agreed with us, not told by the partner.
            self.team = []
        self._check_team()
        self.origin = pb.Origin(
            lead=self.lead,
            campaign=self.campaign,
            opportunity=self.name,
            channel_partner=self.channel_partner,
            proposal=self.upsell_proposal,
        )
        await self._check_protection(call)
        self._enter(pipeline, self.stage, call)
        call.emit(events.OpportunityOpened, opportunity=self)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Reckons anew; a closed deal changes hands only, and what every deal must have stays."""
        if changed <= HANDOVER:
            return
        self.check_state("OPEN", "SUSPENDED")
        if changed & {"contacts", "account"}:
            await self._check_contacts(call)
        self._check_team()
        if changed & {"account", "lines"}:
            await self._check_protection(call)
        if gone := [name for name in ALWAYS if name in changed and getattr(self, name) in (None, "")]:
            raise Validation(*(required(f"opportunity.{name}") for name in gone))
        if "probability_source" in changed and self.probability_source == "STAGE":
            stage = (await self.its_pipeline(call)).stage(self.stage)
            self.probability = Decimal(stage.probability or 0) if stage else self.probability
        elif "probability" in changed:
            self.probability_source = "MANUAL"
        await self._reckon(call, "opportunity")

    def _check_team(self) -> None:
        """Each of the team is somebody of ours or a partner."""
        for place, member in enumerate(self.team):
            if bool(member.employee) == bool(member.partner):
                raise Validation(required(f"opportunity.team[{place}].employee"))

    async def _check_protection(self, call: Call) -> None:
        # A registration makes an opportunity itself.
        from sales.model.deal_registration import check_protection

        await check_protection(self, call)

    async def _check_contacts(self, call: Call) -> None:
        """CONTACT_NOT_OF_ACCOUNT for somebody who does not work at the account today."""
        for participant in self.contacts:
            contact = await call.copy(participant.contact) or {}
            if not works_at(contact, self.account, today(call)):
                raise FailedPrecondition("CONTACT_NOT_OF_ACCOUNT", contact=contact.get("displayName", ""))

    async def enter_pipeline(self, call: Call, path: str) -> Pipeline:
        """Settles pipeline, stage and probability; Validation lists what the stages up to it ask for."""
        pipeline = await self.its_pipeline(call)
        if pipeline.state != "ACTIVE":
            text = "销售流程未启用", "The pipeline takes no deals."
            raise Validation(Violation(f"{path}.pipeline", "NOT_ACTIVE", *text))
        self.pipeline, self.stage = pipeline.name, self.stage or pipeline.stages[0].key
        if pipeline.stage(self.stage) is None:
            raise _unknown_stage(f"{path}.stage")
        follows = self.probability is None or self.probability_source == "STAGE"
        self.probability_source = "STAGE" if follows else self.probability_source or "MANUAL"
        await self._reckon(call, path)
        if missing := await self._missing(pipeline, -1, pipeline.position(self.stage), call):
            raise Validation(*(required(f"{path}.{name}") for name, _, _ in missing))
        return pipeline

    async def its_pipeline(self, call: Call) -> Pipeline:
        """The pipeline it runs in; the default one where it names none."""
        default = Pipeline.is_default.is_(True)
        named = call.named(Pipeline, self.pipeline) if self.pipeline else call.find(Pipeline, default)
        pipeline = await named
        if pipeline is None:
            raise Validation(required("opportunity.pipeline"))
        return pipeline

    async def advance(self, target: str, call: Call) -> pb.Pipeline.Stage:
        """Moves it forward, to the next stage unless another is named; every missing criterion is listed at once."""
        self.check_state("OPEN")
        pipeline = await self.its_pipeline(call)
        here, target = pipeline.position(self.stage), target or pipeline.neighbour(self.stage, 1)
        stage, there = pipeline.stage(target), pipeline.position(target)
        if target and stage is None:
            raise _unknown_stage("stage")
        if stage is None or there <= here:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.stage)
        if there > here + 1 and not pipeline.allow_skip:
            raise FailedPrecondition("STAGE_SKIPPED", next=pipeline.stages[here + 1].display_name)
        if missing := await self._missing(pipeline, here, there, call):
            raise self._criteria_missing(stage, missing, call)
        self._move(pipeline, target, call)
        return stage

    async def retreat(self, stage: str, reason: str, call: Call) -> None:
        """Moves it back, to the stage before unless another is named."""
        self.check_state("OPEN")
        pipeline = await self.its_pipeline(call)
        stage = stage or pipeline.neighbour(self.stage, -1)
        if stage and pipeline.stage(stage) is None:
            raise _unknown_stage("stage")
        if not stage or pipeline.position(stage) >= pipeline.position(self.stage):
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.stage)
        self._move(pipeline, stage, call, reason)

    def suspend(self, until: date | None) -> None:
        """Lets it rest."""
        self.check_state("OPEN")
        self.state, self.suspend_until_date = "SUSPENDED", until

    def resume(self) -> None:
        """Ends the rest."""
        self.check_state("SUSPENDED")
        self.state, self.suspend_until_date = "OPEN", None

    def win(self, call: Call) -> None:
        """Wins it: something is sold, and the whole credit is given."""
        self.check_state("OPEN")
        if not self.lines and not self.amount:
            raise FailedPrecondition("OPPORTUNITY_EMPTY")
        splits = [Decimal(member.split) for member in self.team if member.split]
        whole = sum(splits, Decimal(0))
        if splits and whole != HUNDRED:
            raise FailedPrecondition("SPLIT_NOT_100", sum=plain(whole))
        alone = [pb.Opportunity.Member(employee=self.owner, split="100")]
        shares = [member for member in self.team if member.split] or (alone if self.owner else [])
        self.credit = [*shares, *(one for one in self.team if one.role == REFERRER and not one.split)]
        self._close("WON", HUNDRED, "CLOSED", call)

    def lose(self, reason: str, competitor: str, call: Call) -> None:
        """Ends it without a sale."""
        self.check_state("OPEN", "SUSPENDED")
        if reason == TO_COMPETITOR and not competitor:
            raise Validation(required("competitor"))
        self.loss_reason, self.lost_to = reason, competitor
        self._close("LOST", Decimal(0), "OMITTED", call)
        call.emit(events.OpportunityLost, opportunity=self, reason=reason, competitor=competitor)

    async def reopen(self, call: Call) -> None:
        """Opens it again in the stage where it was, unless an order stands on it."""
        self.check_state("WON", "LOST")
        if self.ordered:
            raise FailedPrecondition("ORDER_EXISTS")
        self.state, self.loss_reason, self.lost_to, self.close_time = "OPEN", "", "", None
        self.probability_source, self.credit, self.handovers = "STAGE", [], []
        self._enter(await self.its_pipeline(call), self.stage, call)
        call.emit(events.OpportunityReopened, opportunity=self)

    def review(self, findings: str, call: Call) -> None:
        """Notes what a look at it has found; nothing else changes."""
        self.check_state("OPEN", "SUSPENDED")
        found = pb.Opportunity.Review(
            actor=call.caller.actor, time=to_timestamp(call.now), stage=self.stage, findings=findings
        )
        self.reviews = [*self.reviews, found]

    def follow(self, owner: str, department: str) -> None:
        """Goes with its account to another owner; stage and state stay."""
        self.owner, self.department = owner, department or self.department

    def hand_over(self, before: str, after: str, day: date) -> None:
        """Notes who has the customer of a won deal now; what that means for the credit is said by the plans."""
        told = pb.Opportunity.Handover(from_employee=before, to_employee=after, date=to_date(day))
        if told not in self.handovers:
            self.handovers = [*self.handovers, told]

    def split(self, shares: Mapping[str, str]) -> None:
        """The credit is shared as a verdict says; whoever else is in the team stays without a share.

        What partners were promised stays theirs; the verdict shares the rest.
        """
        partners = [member for member in self.team if member.partner]
        roles = {member.employee: member.role for member in self.team if member.employee}
        people = list(dict.fromkeys([*shares, *roles]))
        rest = HUNDRED - sum((Decimal(one.split or 0) for one in partners), Decimal(0))
        told = [Decimal(shares.get(one) or 0) for one in people]
        parts = told if not partners else shared(rest, told, 2)
        splits = [plain(part) if one in shares else "" for one, part in zip(people, parts, strict=True)]
        self.team = [
            *partners,
            *(
                pb.Opportunity.Member(employee=one, role=roles.get(one, ""), split=split)
                for one, split in zip(people, splits, strict=True)
            ),
        ]

    def join(self, employee: str, share_of_credit: Decimal | None) -> None:
        """Somebody works on it too. His share comes from that of whoever has the deal; what others were promised stays."""
        self.check_state("OPEN", "SUSPENDED")
        if employee == self.owner:
            return
        self.collaborators = list(dict.fromkeys([*self.collaborators, employee]))
        splits = {one.employee: Decimal(one.split or 0) for one in self.team if one.employee}
        if share_of_credit:
            given = sum((Decimal(one.split or 0) for one in self.team), Decimal(0))
            # Before anything is shared the whole credit is that of whoever has the deal.
            left = (splits.get(self.owner, Decimal(0)) if given else HUNDRED) - share_of_credit
            if left < 0:
                raise Validation(TOO_LARGE_SPLIT)
            splits[self.owner] = left
        splits[employee] = splits.get(employee, Decimal(0)) + (share_of_credit or Decimal(0))
        roles = {one.employee: one.role for one in self.team if one.employee}
        self.team = [
            *(one for one in self.team if one.partner),
            *(
                pb.Opportunity.Member(
                    employee=one, role=roles.get(one, ""), split=plain(part) if part else ""
                )
                for one, part in splits.items()
            ),
        ]

    def move_to(self, pipeline: Pipeline, target: str, call: Call) -> None:
        """Goes over to another version of its pipeline; the visit of a stage that both have goes on."""
        self.pipeline = pipeline.name
        if target != self.stage:
            self._move(pipeline, target, call)
        else:
            self._follow(pipeline.stage(target))

    async def _missing(
        self, pipeline: Pipeline, after: int, until: int, call: Call
    ) -> list[tuple[str, str, str]]:
        """What the stages on the way ask for and is not there: field, and what it is called in both languages."""
        since = self.stage_history[-1].enter_time.ToDatetime(UTC) if self.stage_history else None
        stages, there = pipeline.stages[max(after, 0) : until + 1], Counted()
        if counts(stages):
            there = await counted(self.id, since, call.caller.employee, call)
        found: dict[tuple[str, str], tuple[str, str, str]] = {}
        for place, stage in enumerate(stages, start=max(after, 0)):
            entered, left = place > after, place < until and after >= 0
            names = [*(pipeline.entry_fields(place) if entered else ()), *(stage.exit_fields if left else ())]
            for name in names:
                if getattr(self, name) in (None, "", []):
                    label = self.described.fields[name].rule.label
                    found[name, ""] = (name, label.zh, label.en)
            for item in stage.checklist if left else ():
                if f"{stage.key}/{item}" not in self.checked:
                    found["checked", item] = ("checked", item, item)
            if entered and self._lacks_strategy(stage):
                found["strategy_sheet", ""] = ("strategy_sheet", "策略表", "the strategy sheet")
            if left:
                for kind, zh, en in _too_few(stage, there):
                    found[kind, ""] = (kind, zh, en)
            for course in await _courses(set(stage.courses) - there.courses if entered else set(), call):
                found["courses", course] = ("courses", f"课程“{course}”", f"the course {course}")
        return list(found.values())

    def _lacks_strategy(self, stage: Any) -> bool:
        """Whether the deal is great enough to need a strategy sheet and has none."""
        above = Money.parse(stage.strategy_above)
        if above is None or self.amount is None or above.currency != self.amount.currency:
            return False
        sheet = self.strategy_sheet
        return self.amount >= above and not (sheet and sheet.goal and sheet.power_map and sheet.next_steps)

    def _criteria_missing(
        self, stage: Any, missing: list[tuple[str, str, str]], call: Call
    ) -> FailedPrecondition:
        named = ", ".join(call.text(zh, en) for _, zh, en in missing)
        problem = FailedPrecondition("STAGE_CRITERIA_MISSING", stage=stage.display_name, missing=named)
        problem.violations = [required(f"opportunity.{name}") for name, _, _ in missing]
        return problem

    def _move(self, pipeline: Pipeline, target: str, call: Call, reason: str = "") -> None:
        before = self.stage
        days = self._leave(call.now)
        self.stage = target
        self._enter(pipeline, target, call, reason)
        call.emit(
            events.OpportunityStageChanged, opportunity=self, to=target, days=days, **coming_from(before)
        )

    def _enter(self, pipeline: Pipeline, key: str, call: Call, reason: str = "") -> None:
        """Notes the visit; the probability follows unless it was typed."""
        visit = pb.Opportunity.StageVisit(
            stage=key, enter_time=to_timestamp(call.now), actor=call.caller.actor, reason=reason
        )
        self.stage_history = [*self.stage_history, visit]
        self._follow(pipeline.stage(key))

    def _follow(self, stage: pb.Pipeline.Stage | None) -> None:
        """Probability, unless it was typed, and category are those of the stage."""
        if stage is not None:
            if self.probability_source == "STAGE":
                self.probability = Decimal(stage.probability or 0)
            self.forecast_category = (
                pb.Pipeline.ForecastCategory.Name(stage.forecast_category) if stage.forecast_category else ""
            )
        self._weigh()

    def _leave(self, now: datetime) -> int:
        """Closes the present visit; gives its whole days."""
        *earlier, last = self.stage_history
        visit = pb.Opportunity.StageVisit()
        visit.CopyFrom(last)
        visit.leave_time.FromDatetime(now)
        visit.days = (visit.leave_time.ToDatetime() - visit.enter_time.ToDatetime()).days
        self.stage_history = [*earlier, visit]
        return visit.days

    def _close(self, state: str, probability: Decimal, category: str, call: Call) -> None:
        self._leave(call.now)
        self.state, self.close_time = state, call.now
        self.probability, self.forecast_category = probability, category
        self._weigh()

    async def _reckon(self, call: Call, path: str) -> None:
        """Prices the lines and sums them up."""
        if (self.probability or 0) > HUNDRED:
            raise Validation(Violation(f"{path}.probability", "TOO_LARGE", "不能大于 100", "At most 100."))
        if self.lines:
            known = await products((line.product for line in self.lines), call)
            self.lines = [
                _priced(line, known.get(line.product), f"{path}.lines[{n}]")
                for n, line in enumerate(self.lines)
            ]
            amounts = [Money.of(line.amount.amount, line.amount.currency_code) for line in self.lines]
            self.amount = sum(amounts[1:], amounts[0])
        self._weigh()

    def _weigh(self) -> None:
        if self.amount is not None:
            if self.amount.amount >= TOO_MUCH:
                raise Validation(
                    Violation("opportunity.amount", "TOO_LARGE", "金额过大", "The amount is too large.")
                )
            self.weighted_amount = share(self.amount, self.probability or Decimal(0))
        else:
            self.weighted_amount = None


def works_at(contact: dict[str, Any], account: str, day: date) -> bool:
    """Whether the person, as customer last told, works at the account on the day."""
    affiliations = contact.get("affiliations", [])
    if not affiliations:
        return contact.get("account", "") == account
    return any(
        one.get("account") == account
        and (told_date(one.get("fromDate")) or date.min) <= day
        and day < (told_date(one.get("toDate")) or date.max)
        for one in affiliations
    )


def _priced(line: Any, product: Product | None, path: str) -> Any:
    """The line with its price and amount."""
    typed = Money.parse(line.unit_price)
    price = typed if typed is not None else product.list_price if product else None
    if price is None:
        raise Validation(required(f"{path}.unit_price"))
    if Decimal(line.quantity) <= 0:
        raise Validation(
            Violation(f"{path}.quantity", "TOO_SMALL", "必须大于 0", "This must be more than 0.")
        )
    priced = pb.Opportunity.Line()
    priced.CopyFrom(line)
    priced.description = line.description or (product.display_name if product else "")
    priced.unit_price.CopyFrom(price.message())
    priced.amount.CopyFrom(extended(Decimal(line.quantity), price).message())
    return priced


def _too_few(stage: Any, there: Counted) -> Iterator[tuple[str, str, str]]:
    """The records that a stage counts and that are too few to leave it."""
    if lacking := max(stage.least_files - there.files, 0):
        yield "files", f"{lacking} 个附件", f"{lacking} more files"
    if lacking := max(stage.least_activities - there.activities, 0):
        yield "activities", f"{lacking} 次跟进", f"{lacking} more follow-ups"


async def _courses(names: set[str], call: Call) -> list[str]:
    """The titles of courses."""
    from sales.model.tip import Tip

    if not names:
        return []
    keys = [parse_name(name, "tips") for name in names]
    return list(await call.db.scalars(select(Tip.display_name).where(Tip.id.in_(keys)).order_by(Tip.id)))


def _unknown_stage(path: str) -> Validation:
    return Validation(
        Violation(path, "UNKNOWN_VALUE", "流程中没有这个阶段", "The pipeline has no such stage.")
    )
