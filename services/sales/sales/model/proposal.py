"""Proposals and tenders: made of blocks, answered requirement by requirement, handed in once."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call, changed_fields
from crmkit.company import today
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.listing import ZONE
from crmkit.notices import raise_notice
from crmkit.resource import Resource, parse_name
from sales.model.base import HANDOVER, Base
from sales.model.opportunity import Opportunity
from sales.model.quote import Quote
from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

OPEN = ("DRAFT", "IN_REVIEW", "APPROVED")
HANDED_IN = ("SUBMITTED", "WON", "LOST")
OFFERED = ("APPROVED", "SENT", "ACCEPTED")
# What may still change while it is looked at: the customer moves dates.
DATES = frozenset(["questions_time", "bond_time", "submission_time", "opening_time"])
NOTICES = (1, 3, 7)
_SHORT = 60
_TOLD = {
    "questions_time": ("答疑截止", "questions end"),
    "bond_time": ("保证金截止", "the bond is due"),
    "submission_time": ("递交截止", "it is to be handed in"),
    "opening_time": ("开标", "the bids are opened"),
}


class ProposalBlock(Resource, Base):
    """A text of the library. Proposals take it over, so that changing it changes no proposal."""

    __message__ = pb.ProposalBlock

    display_name: Mapped[str]
    kind: Mapped[str]
    body: Mapped[str]
    valid_until_date: Mapped[date | None]
    issuer: Mapped[str]
    files: Mapped[list[str]]

    async def creating(self, call: Call) -> None:
        """A qualification says until when it holds."""
        if self.kind == "QUALIFICATION" and self.valid_until_date is None:
            raise Validation(required("proposal_block.valid_until_date"))

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A qualification still says until when it holds."""
        await self.creating(call)

    def check_valid(self, day: date) -> None:
        """BLOCK_EXPIRED after its last day."""
        if self.valid_until_date is not None and self.valid_until_date < day:
            raise FailedPrecondition("BLOCK_EXPIRED", block=self.display_name, date=self.valid_until_date)


class ProposalTemplate(Resource, Base):
    """What a proposal begins with."""

    __message__ = pb.ProposalTemplate

    display_name: Mapped[str]
    blocks: Mapped[list[str]]
    requirements: Mapped[list[str]]


class Proposal(Resource, Base):
    """A document for a deal. What was handed in stays as it was."""

    __message__ = pb.Proposal
    __table_args__ = (
        Index(
            "proposals_unprinted_index",
            "id",
            postgresql_where=text("pdf = '' AND state IN ('SUBMITTED', 'WON', 'LOST')"),
        ),
        Index(
            "proposals_dated_index",
            "id",
            postgresql_where=text("state IN ('DRAFT', 'IN_REVIEW', 'APPROVED', 'SUBMITTED')"),
        ),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    opportunity: Mapped[str]
    account: Mapped[str]
    quote: Mapped[str]
    template: Mapped[str]
    sections: Mapped[Any]
    requirements: Mapped[Any]
    questions_time: Mapped[datetime | None]
    bond_time: Mapped[datetime | None]
    submission_time: Mapped[datetime | None]
    opening_time: Mapped[datetime | None]
    files: Mapped[list[str]]
    submit_time: Mapped[datetime | None]
    digest: Mapped[str]
    pdf: Mapped[str]
    reason: Mapped[str]
    reminders: Mapped[list[str]]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Takes over what the template says, and the texts of the blocks."""
        self.state, self.kind = "DRAFT", self.kind or "PROPOSAL"
        deal = await call.named(Opportunity, self.opportunity)
        self.account = deal.account if deal is not None else ""
        if self.template:
            await self._begin(call)
        await self._check_quote(call)
        await self._take_blocks(frozenset(), call)
        self._share()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only a draft changes; dates do until it is handed in."""
        if changed <= HANDOVER:
            return
        self.check_state(*(OPEN if changed <= HANDOVER | DATES else ("DRAFT",)))
        if "quote" in changed:
            await self._check_quote(call)
        if "sections" in changed:
            before: list[dict[str, Any]] = changed_fields(self).get("sections") or []
            await self._take_blocks(frozenset(str(one.get("block", "")) for one in before), call)
        self._share()

    async def deleting(self, call: Call) -> None:
        """Only a draft goes."""
        self.check_state("DRAFT")

    def review(self) -> None:
        """Asks for a review."""
        self.check_state("DRAFT")
        self.state = "IN_REVIEW"

    def approve(self) -> None:
        """Lets it be handed in."""
        self.check_state("IN_REVIEW")
        self.state = "APPROVED"

    def revise(self, reason: str) -> None:
        """Gives it back to its writers."""
        self.check_state("IN_REVIEW", "APPROVED")
        self.state, self.reason = "DRAFT", reason

    async def check_complete(self, call: Call) -> None:
        """Refuses to hand in what is not whole: every open requirement is named at once."""
        self.check_state("APPROVED")
        still = [place for place, one in enumerate(self.requirements) if _is_open(one)]
        if still:
            problem = FailedPrecondition(
                "REQUIREMENT_OPEN",
                requirements="；".join(self.requirements[place].text[:_SHORT] for place in still),
            )
            problem.violations = [required(f"proposal.requirements[{place}].answer") for place in still]
            raise problem
        if self.submission_time is not None and call.now > self.submission_time:
            raise FailedPrecondition(
                "SUBMISSION_DATE_PASSED", time=f"{self.submission_time.astimezone(ZONE):%Y-%m-%d %H:%M}"
            )
        for block in (await self._blocks(call)).values():
            block.check_valid(today(call))
        quote = await self.quotation(call)
        if quote is not None and (
            quote.state not in OFFERED or (quote.state != "ACCEPTED" and quote.over(call.now))
        ):
            raise FailedPrecondition("QUOTE_NOT_APPROVED", quote=quote.number)

    def hand_in(self, filled: list[tuple[str, str]], digest: str, call: Call) -> None:
        """Hands it in with these headings and texts, which stay."""
        chapters: list[Any] = []
        for section, (title, body) in zip(self.sections, filled, strict=True):
            chapter = pb.Proposal.Section()
            chapter.CopyFrom(section)
            chapter.title, chapter.body = title, body
            chapters.append(chapter)
        self.sections, self.digest = chapters, digest
        self.state, self.submit_time = "SUBMITTED", call.now

    def win(self) -> None:
        """The customer took it."""
        self.check_state("SUBMITTED")
        self.state = "WON"

    def lose(self, reason: str) -> None:
        """The customer took another."""
        self.check_state("SUBMITTED")
        self.state, self.reason = "LOST", reason

    def withdraw(self, reason: str) -> None:
        """Gives it up."""
        self.check_state(*OPEN, "SUBMITTED")
        self.state, self.reason = "WITHDRAWN", reason

    def remind(self, day: date, call: Call) -> None:
        """Tells of dates that come, once for each step; the opening of the bids after handing in too."""
        for name, (zh, en) in _TOLD.items():
            when: datetime | None = getattr(self, name)
            if when is None or self.state not in (*OPEN, *(("SUBMITTED",) if name == "opening_time" else ())):
                continue
            on = when.astimezone(ZONE).date()
            left = (on - day).days
            step = next((one for one in NOTICES if left <= one), None)
            key = f"{name}:{step}:{on}"
            if left < 0 or step is None or key in self.reminders:
                continue
            self.reminders = [*self.reminders, key]
            raise_notice(
                "proposal", f"{self.display_name}：{on} {zh}，还剩 {left} 天",
                f"{self.display_name}: {en} on {on}, {left} days left", call, key=f"{self.name}:{key}",
                employees=[self.owner, *self.collaborators], subjects=[self.name], about=self, due=when,
            )  # fmt: skip

    async def quotation(self, call: Call) -> Quote | None:
        """The version of the quotation that goes with it."""
        return await call.named(Quote, self.quote)

    async def _begin(self, call: Call) -> None:
        key = parse_name(self.template, "proposalTemplates")
        template = await call.find(ProposalTemplate, ProposalTemplate.id == key)
        if template is None:
            return
        self.sections = [*(pb.Proposal.Section(block=one) for one in template.blocks), *self.sections]
        asked = [pb.Proposal.Requirement(text=one) for one in template.requirements]
        self.requirements = [*asked, *self.requirements]

    async def _check_quote(self, call: Call) -> None:
        quote = await self.quotation(call)
        if quote is not None and quote.account != self.account:
            raise Validation(
                Violation(
                    "proposal.quote", "OTHER_ACCOUNT", "报价单属于其他客户", "The quote is another account's."
                )
            )

    async def _take_blocks(self, there: frozenset[str], call: Call) -> None:
        """Takes over heading and text of the blocks; one that has expired is not put in."""
        known, chapters = await self._blocks(call), list[Any]()
        for section in self.sections:
            chapter = pb.Proposal.Section()
            chapter.CopyFrom(section)
            block = known.get(section.block)
            if block is not None:
                if section.block not in there:
                    block.check_valid(today(call))
                chapter.title = chapter.title or block.display_name
                chapter.body = chapter.body or block.body
            chapters.append(chapter)
        if chapters != list(self.sections):
            self.sections = chapters

    async def _blocks(self, call: Call) -> dict[str, ProposalBlock]:
        found: dict[str, ProposalBlock] = {}
        for name in dict.fromkeys(section.block for section in self.sections if section.block):
            block = await call.named(ProposalBlock, name)
            if block is not None:
                found[name] = block
        return found

    def _share(self) -> None:
        people = [one.owner for one in (*self.sections, *self.requirements) if one.owner]
        kept = [*self.collaborators, *(one for one in people if one != self.owner)]
        if list(dict.fromkeys(kept)) != list(self.collaborators):
            self.collaborators = list(dict.fromkeys(kept))


def _is_open(requirement: Any) -> bool:
    """Nobody has said how it is met, or not explained why it is not wholly met."""
    if requirement.verdict == pb.Proposal.COMPLIES:
        return False
    return not requirement.verdict or not requirement.answer.strip()
