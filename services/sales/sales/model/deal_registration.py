"""Deals that partners register: the first is protected, and learns nothing of the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.options.v1 import options_pb2
from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.amounts import HUNDRED, plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.listing import ZONE
from crmkit.notices import raise_notice
from crmkit.options import option
from crmkit.resource import Resource
from crmkit.tables import Copy
from crmkit.values import Money
from crmkit.workdays import working_days
from sales.engine.policies import covers
from sales.model.base import HANDOVER, Base
from sales.model.contact_keys import company_key
from sales.model.opportunity import Opportunity
from sales.model.partnership import check_agreement, partnership
from sales.model.pipeline import RUNNING
from sales.model.product import products
from sqlalchemy import Index, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

PROTECTED_DAYS, EXTENSION_DAYS = 90, 30
# Whoever does nothing for so long is asked what becomes of it.
IDLE = timedelta(days=30)
NOTICES = (14, 7, 1)
DECIDE_WITHIN = 2
REVIEWER = "sales.dealRegistrations.approve"
_WANTED = (
    "company_name",
    "contact_name",
    "product_lines",
    "region",
    "amount",
    "expected_close_date",
    "evidence",
)


class ProtectedCompany(Base):
    """A company of which somebody's registration was ever approved: whoever begins a deal with another asks no further.

    It tells nothing of a registration, so no wall stands before it.
    """

    __tablename__ = "protected_companies"

    company_key: Mapped[str] = mapped_column(Text, primary_key=True)


class DealRegistration(Resource, Base):
    """A deal of a partner. When it was received here decides who was first."""

    __message__ = pb.DealRegistration
    __table_args__ = (Index("deal_registrations_key_index", "company_key", "state"),)

    company_name: Mapped[str]
    partner: Mapped[str]
    contact_name: Mapped[str]
    phone: Mapped[str]
    email: Mapped[str]
    product_lines: Mapped[list[str]]
    region: Mapped[str]
    amount: Mapped[Money | None]
    expected_close_date: Mapped[date | None]
    need: Mapped[str]
    evidence: Mapped[list[str]]
    submit_time: Mapped[datetime | None]
    protect_until_date: Mapped[date | None]
    extended: Mapped[bool]
    progress: Mapped[str]
    refusal: Mapped[str]
    opportunity: Mapped[str]
    conflicts: Mapped[Any]
    waits_for: Mapped[str]
    company_key: Mapped[str]
    notice_step: Mapped[str]
    price_book: Mapped[str]
    split: Mapped[Decimal | None]
    activity_time: Mapped[datetime | None]
    under_review: Mapped[bool]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A partner registers for himself alone."""
        self.state = "DRAFT"
        self.partner = call.caller.account or self.partner
        if call.caller.account:
            # Whoever looks after the partner has it.
            known = await call.copy(self.partner) or {}
            self.owner, self.department = str(known.get("owner", "")), str(known.get("department", ""))
        self.company_key = company_key(self.company_name)
        await check_agreement(self.partner, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a draft changes."""
        if changed <= HANDOVER:
            return
        self.check_state("DRAFT")
        self.company_key = company_key(self.company_name)

    async def deleting(self, call: Call) -> None:
        """Only a draft goes; evidence stays."""
        self.check_state("DRAFT")

    async def submit(self, call: Call) -> None:
        """Receives it, and looks for what it meets; the partner learns that it was received."""
        self.check_state("DRAFT")
        await check_agreement(self.partner, call)
        missing = [name for name in _WANTED if getattr(self, name) in (None, "", [])]
        if not self.phone and not self.email:
            missing.append("phone")
        if not self.partner:
            missing.append("partner")
        if missing:
            labels = [self.described.fields[name].rule.label for name in missing]
            problem = FailedPrecondition(
                "REGISTRATION_INCOMPLETE", missing=", ".join(call.text(one.zh, one.en) for one in labels)
            )
            problem.violations = [required(f"deal_registration.{name}") for name in missing]
            raise problem
        await call.one_at_a_time([f"dealRegistrations:{self.company_key}"])
        self.state, self.submit_time = "SUBMITTED", call.now
        async with call.everybody():
            earlier = await self._others(("SUBMITTED", "APPROVED", "CONVERTED"), call)
            self.waits_for = next(
                (one.name for one in earlier if one.state == "SUBMITTED" and self._meets(one)), ""
            )
            self.conflicts = [
                *(_conflict("REGISTRATION", one.name, one.partner, self._meets(one)) for one in earlier),
                *await self._met(call),
            ]

    async def approve(self, price_book: str, split: Decimal | None, call: Call) -> None:
        """Protects it for 90 days, at agreed prices and for a share; of two that meet, the first is decided first."""
        self.check_state("SUBMITTED")
        if (split or 0) > HUNDRED:
            raise Validation(Violation("split", "TOO_LARGE", "不能大于 100", "At most 100."))
        await call.one_at_a_time([f"dealRegistrations:{self.company_key}"])
        async with call.everybody():
            for one in await self._others(("SUBMITTED", "APPROVED", "CONVERTED"), call):
                if not self._meets(one) or not one.submit_time or not self.submit_time:
                    continue
                if one.state == "SUBMITTED" and one.submit_time < self.submit_time:
                    raise FailedPrecondition("REGISTRATION_WAITS", registration=one.number)
                if one.state != "SUBMITTED" and one.protected(today(call)):
                    raise FailedPrecondition("REGISTRATION_CONFLICT", registration=one.number)
        known = insert(ProtectedCompany).values(company_key=self.company_key)
        await call.db.execute(known.on_conflict_do_nothing())
        self.state, self.protect_until_date = "APPROVED", today(call) + timedelta(days=PROTECTED_DAYS)
        self.notice_step, self.waits_for = "", ""
        self.price_book, self.split, self.activity_time = price_book, split, call.now
        call.emit(events.DealRegistrationApproved, deal_registration=self)
        until = self.protect_until_date
        await self.tell_partner(
            "APPROVED", f"报备已通过，保护至 {until}", f"is registered and protected until {until}", call
        )

    async def reject(self, refusal: str, call: Call) -> None:
        """Does not take it, for a reason that says nothing of others."""
        self.check_state("SUBMITTED")
        self.state, self.refusal = "REJECTED", refusal
        call.emit(events.DealRegistrationRejected, deal_registration=self)
        because = option(pb.DealRegistration.Refusal.DESCRIPTOR.values_by_name[refusal], options_pb2.text)
        await self.tell_partner(
            "REJECTED", f"报备未通过：{because.zh}", f"was not registered: {because.en}", call
        )

    def withdraw(self) -> None:
        """The partner takes it back."""
        self.check_state("DRAFT", "SUBMITTED", "APPROVED")
        self.state = "WITHDRAWN"

    def extend(self, progress: str, call: Call) -> None:
        """Thirty days more, once, for who tells what he did."""
        self._check_protected(call)
        if self.extended:
            raise FailedPrecondition("EXTENSION_USED")
        if self.protect_until_date is not None:
            self.protect_until_date += timedelta(days=EXTENSION_DAYS)
        self.extended, self.notice_step = True, ""
        self._went_on(progress, call)

    def report(self, progress: str, call: Call) -> None:
        """What the partner did since; a protection that nobody works on is reviewed."""
        self._check_protected(call)
        self._went_on(progress, call)

    def review(self, end: bool, call: Call) -> None:
        """Nothing was done for a month: it goes on all the same, or is over."""
        self.check_state("APPROVED")
        if not self.under_review:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        self.under_review, self.activity_time = False, call.now
        if end:
            self.protect_until_date = today(call)
            self.expire()

    async def convert(self, account: str, call: Call) -> None:
        """Makes the one deal of it, with the partner."""
        if self.state == "CONVERTED":
            return
        self._check_protected(call)
        deal = Opportunity(
            display_name=f"{self.company_name}"[:200], account=account, need=self.need or self.company_name,
            amount=self.amount, expected_close_date=self.expected_close_date, channel_partner=self.partner,
            deal_registration=self.name, price_book=self.price_book,
        )  # fmt: skip
        await call.add(deal)
        if self.split:
            # What the partner was promised; the rest is that of whoever has the deal.
            rest = HUNDRED - self.split
            ours = [pb.Opportunity.Member(employee=deal.owner, split=plain(rest))] if rest else []
            deal.team = [pb.Opportunity.Member(partner=self.partner, split=plain(self.split)), *ours]
        self.state, self.opportunity = "CONVERTED", deal.name
        from sales.model.joint_work_request import accepted

        async with call.everybody():
            for request in await accepted(self, call):
                request.join(deal)

    def expire(self) -> None:
        """The protection is over; what was handed in stays."""
        self.check_state("APPROVED")
        self.state, self.under_review = "EXPIRED", False

    def protected(self, day: date) -> bool:
        """Whether nobody else may have the deal on a day."""
        live = self.state in ("APPROVED", "CONVERTED")
        return live and self.protect_until_date is not None and day <= self.protect_until_date

    async def remind(self, day: date, call: Call) -> None:
        """Tells of a decision that is late, and of a protection that ends, once for each step."""
        if self.state == "SUBMITTED" and self.submit_time is not None:
            waited = working_days(self.submit_time.date() + timedelta(days=1), day)
            if waited > DECIDE_WITHIN and self._steps_to("REVIEW"):
                self._tell(f"REVIEW:{self.protect_until_date}", "商机报备待审", "waits for a decision", call)
        elif self.state == "APPROVED" and self.protect_until_date is not None:
            left = (self.protect_until_date - day).days
            step = next((str(one) for one in sorted(NOTICES) if left <= one), "")
            if step and self._steps_to(step):
                told = f"报备保护期还剩 {left} 天", f"is protected for {left} days more"
                self._tell(f"{step}:{self.protect_until_date}", *told, call)
                await self.tell_partner(f"{step}:{self.protect_until_date}", *told, call)
            await self._ask_for_review(day, call)

    async def _ask_for_review(self, day: date, call: Call) -> None:
        """Nothing was done for thirty days: once until somebody decides or the partner goes on."""
        worked = self.activity_time.astimezone(ZONE).date() if self.activity_time else day
        if self.under_review or day - worked < IDLE:
            return
        self.under_review = True
        self._tell(f"IDLE:{worked}", "报备 30 天没有进展，请复核", "has seen nothing for 30 days", call)
        told = "报备 30 天没有进展，请填写进展", "has seen nothing for 30 days; tell what was done"
        await self.tell_partner(f"IDLE:{worked}", *told, call)

    async def tell_partner(self, key: str, zh: str, en: str, call: Call) -> None:
        """Tells the partner's people, of his own deal alone."""
        known = await partnership(self.partner, call)
        raise_notice(
            "dealRegistration", f"{zh}：{self.company_name}", f"{self.company_name} {en}", call,
            key=f"{self.name}:PARTNER:{key}", employees=known.people if known else [], subjects=[self.name], about=self,
        )  # fmt: skip

    def _went_on(self, progress: str, call: Call) -> None:
        self.progress, self.activity_time, self.under_review = progress, call.now, False

    def _steps_to(self, step: str) -> bool:
        """Whether the step is a new one."""
        new, self.notice_step = step != self.notice_step, step
        return new

    def _tell(self, key: str, zh: str, en: str, call: Call) -> None:
        raise_notice(
            "dealRegistration", f"{zh}：{self.company_name}", f"{self.company_name} {en}", call,
            key=f"{self.name}:{key}", employees=[self.owner], roles=["sales_manager"], subjects=[self.name], about=self,
        )  # fmt: skip

    def check_live(self, call: Call) -> None:
        """REGISTRATION_EXPIRED unless it protects its deal or has become it."""
        if self.state != "CONVERTED":
            self._check_protected(call)

    def _check_protected(self, call: Call) -> None:
        if self.state == "EXPIRED" or (self.state == "APPROVED" and not self.protected(today(call))):
            raise FailedPrecondition("REGISTRATION_EXPIRED", date=self.protect_until_date)
        self.check_state("APPROVED")

    def concerns(self, lines: Collection[str] | None, regions: Iterable[str]) -> bool:
        """Whether somebody wants the same: product lines and region overlap. Different lines may have different partners.

        Who does not say what he wants, or where, may want this.
        """
        where, here = [one for one in regions if one], self.region
        near = not where or not here or any(covers(one, here) or covers(here, one) for one in where)
        return near and (lines is None or not set(self.product_lines).isdisjoint(lines))

    def _meets(self, other: DealRegistration) -> bool:
        return self.concerns(other.product_lines, [other.region])

    async def _others(self, states: Iterable[str], call: Call) -> list[DealRegistration]:
        asked = select(DealRegistration).where(
            DealRegistration.company_key == self.company_key, DealRegistration.state.in_(list(states)),
            DealRegistration.id != self.id, DealRegistration.partner != self.partner,
        )  # fmt: skip
        return list(await call.db.scalars(asked.order_by(DealRegistration.submit_time)))

    async def _met(self, call: Call) -> list[Any]:
        """Our own customers of that name, and their open deals."""
        core = self.company_name[:4]
        asked = select(Copy.name, Copy.payload).where(
            Copy.collection == "accounts", ~Copy.deleted, Copy.payload["displayName"].astext.contains(core, autoescape=True)
        )  # fmt: skip
        found = list[Any]()
        for name, payload in await call.db.execute(asked.limit(500)):
            if company_key(str(payload.get("displayName", ""))) != self.company_key:
                continue
            found.append(_conflict("ACCOUNT", name, str(payload.get("owner", "")), False))
            deals = select(Opportunity).where(Opportunity.account == name, Opportunity.state.in_(RUNNING))
            for deal in await call.db.scalars(deals.limit(50)):
                overlaps = self.concerns(await _lines_of(deal, call), regions_of(payload))
                found.append(_conflict("OPPORTUNITY", deal.name, deal.owner, overlaps))
        return found


async def check_protection(deal: Opportunity, call: Call) -> None:
    """DEAL_PROTECTED where direct staff begin what a partner has registered; by whom is not said.

    A deal that was there before it was registered goes on.
    """
    if deal.deal_registration or call.caller.is_system or call.caller.may(REVIEWER):
        return
    account = await call.copy(deal.account) or {}
    company = company_key(str(account.get("displayName", "")))
    if await call.db.get(ProtectedCompany, company) is None:
        return
    async with call.everybody():
        asked = select(DealRegistration).where(
            DealRegistration.company_key == company,
            DealRegistration.state.in_(("APPROVED", "CONVERTED")), DealRegistration.partner != deal.channel_partner,
        )  # fmt: skip
        rows = list(await call.db.scalars(asked))
    lines, begun = await _lines_of(deal, call) if rows else None, deal.create_time or call.now
    for one in rows:
        later = one.submit_time is not None and begun < one.submit_time
        if one.protected(today(call)) and not later and one.concerns(lines, regions_of(account)):
            meant = sorted(set(one.product_lines) & lines if lines else one.product_lines)
            raise FailedPrecondition(
                "DEAL_PROTECTED", until=one.protect_until_date, product_lines=", ".join(meant)
            )


def regions_of(account: Mapping[str, Any]) -> list[str]:
    """The divisions of the addresses of a customer."""
    return [str(one.get("divisionCode", "")) for one in account.get("addresses", [])]


async def _lines_of(deal: Opportunity, call: Call) -> set[str] | None:
    """The product lines that a deal is about; None where it names no product yet."""
    known = await products((line.product for line in deal.lines if line.product), call)
    return {product.line for product in known.values() if product.line} if known else None


def _conflict(kind: str, record: str, owner: str, overlaps: bool) -> Any:
    return pb.DealRegistration.Conflict(kind=kind, record=record, owner=owner, overlaps=overlaps)
