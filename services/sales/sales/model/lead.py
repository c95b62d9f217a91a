"""The lead: a first hint that somebody may buy."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from sales.model.assignment_rule import assign_by_rule
from sales.model.base import HANDOVER, Base, coming_from, one_at_a_time
from sales.model.contact_keys import keys_of, normal_phone
from sqlalchemy import ForeignKey, Index, Text, Uuid, delete, exists, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

OPEN = ("NEW", "WORKING", "WAITING")
SELLS = "sales.opportunities.create"
ACROSS = "sales.leads.across"
_COPIED = (
    "display_name", "company_name", "person_name", "title", "phones", "emails", "wechat", "need", "interests", "channel",
    "campaign", "industry", "division_code", "segment", "rating",
)  # fmt: skip


class LeadKey(Base):
    """A phone or mail address of an open lead: the next touch with it joins that lead."""

    __tablename__ = "lead_keys"

    value: Mapped[str] = mapped_column(Text, primary_key=True)
    lead: Mapped[UUID] = mapped_column(Uuid, ForeignKey("leads.id", ondelete="CASCADE"), index=True)


class LeadSource(Base):
    """A key of a source within its channel, and the lead that it made or joined: never two."""

    __tablename__ = "lead_sources"

    channel: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    lead: Mapped[UUID] = mapped_column(Uuid, ForeignKey("leads.id", ondelete="CASCADE"), index=True)


class Lead(Resource, Base):
    """A first hint that somebody may buy. Nothing is refused: what belongs together joins."""

    __message__ = pb.Lead
    __table_args__ = (
        Index(
            "leads_source_key",
            "channel",
            "external_id",
            unique=True,
            postgresql_where=text("external_id <> ''"),
        ),
    )

    display_name: Mapped[str]
    company_name: Mapped[str]
    person_name: Mapped[str]
    title: Mapped[str]
    phones: Mapped[Any]
    emails: Mapped[Any]
    wechat: Mapped[str]
    need: Mapped[str]
    interests: Mapped[Any]
    channel: Mapped[str]
    external_id: Mapped[str]
    campaign: Mapped[str]
    touches: Mapped[Any]
    industry: Mapped[str]
    division_code: Mapped[str]
    segment: Mapped[str]
    rating: Mapped[str]
    wait_until_time: Mapped[datetime | None]
    claim_time: Mapped[datetime | None]
    channel_partner: Mapped[str]
    source: Mapped[str]
    conversion: Mapped[Any]
    collision_case: Mapped[str]
    conversion_problem: Mapped[str]
    collision_department: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    opportunity: Mapped[str]
    end_reason: Mapped[str]
    end_time: Mapped[datetime | None]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Whoever sells works on what he enters; what others enter waits for an owner."""
        self.normalise()
        self.channel = self.channel or "SELF"
        self.channel_partner = self.channel_partner or call.caller.account
        if self.owner == call.caller.employee and not call.caller.may(SELLS):
            self.owner = ""
        self.state = "WORKING" if self.owner else "NEW"
        self.touches = [self._touch(call)]
        call.after_flush(lambda: self._write_keys(call))
        call.emit(events.LeadCreated, lead=self)
        if self.owner and self.owner != call.caller.employee:
            self._tell_owner("", "ASSIGN", call)

        if not self.owner:
            await assign_by_rule(self, call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only an open lead changes; a new owner works on it."""
        if "owner" in changed and self.owner:
            self._start(call)
            self._tell_owner("", "ASSIGN", call)
        if changed <= HANDOVER:
            return
        self.check_state(*OPEN)
        self.normalise()
        call.after_flush(lambda: self._write_keys(call))

    def normalise(self) -> None:
        """Brings phones into their normal form."""
        self.phones = [normal_phone(phone) for phone in self.phones]

    async def capture(self, call: Call) -> Lead:
        """Becomes a new lead, unless its source is known or an open lead has its phone or mail: that one is given."""
        self.normalise()
        self.channel = self.channel or "SELF"
        keys = keys_of(self.phones, self.emails)
        source = [f"source:{self.channel}:{self.external_id}"] if self.external_id else []
        # Two touches of one person at once meet here, so that one makes the lead and the other joins it.
        await one_at_a_time(call, keys + source)
        if known := await self._of_same_source(call):
            return known
        if same := await self._of_same_person(keys, call):
            async with call.everybody():
                same.join(self, call)
                await call.flush()
            return same
        await call.add(self)
        await call.flush()
        return self

    def join(self, other: Lead, call: Call) -> None:
        """Takes in another touch of the same person."""
        self.touches = [*self.touches, other._touch(call)]
        known = {(interest.product_line, interest.note) for interest in self.interests}
        self.interests = [
            *self.interests,
            *(i for i in other.interests if (i.product_line, i.note) not in known),
        ]
        numbers = {phone.number for phone in self.phones}
        self.phones = [*self.phones, *(phone for phone in other.phones if phone.number not in numbers)]
        addresses = {email.address.lower() for email in self.emails}
        self.emails = [
            *self.emails,
            *(email for email in other.emails if email.address.lower() not in addresses),
        ]
        for name in ("company_name", "person_name", "title", "wechat", "need", "campaign", "industry"):
            setattr(self, name, getattr(self, name) or getattr(other, name))
        call.after_flush(lambda: self._write_keys(call))

    def assign(self, owner: str, call: Call, rule: str = "ASSIGN") -> None:
        """Gives it to an employee, who then works on it; by hand or by a rule."""
        self.check_state(*OPEN)
        entry = call.config(f"employee.{owner.rpartition('/')[2]}") or {}
        if entry.get("disabled"):
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        before, self.owner = self.owner, owner
        self.department = entry.get("department") or self.department
        self._start(call)
        self._tell_owner(before, rule, call)

    def allocate(self, segment: str, call: Call) -> None:
        """Gives it to a business segment; to another one only the head office does."""
        self.check_state(*OPEN)
        if self.segment and segment != self.segment and not call.caller.may(ACROSS):
            raise PermissionDenied("SEGMENT_CROSSING")
        self.segment = segment

    async def copied(self, call: Call) -> Lead:
        """A new lead with the data of this one, which has ended."""
        self.check_state("CONVERTED", "DISQUALIFIED", "CANCELLED")
        copy = Lead(**{name: getattr(self, name) for name in _COPIED}, owner=call.caller.employee)
        return await call.add(copy)

    def claim(self, call: Call) -> None:
        """Takes it; the first one gets it."""
        if self.owner:
            raise FailedPrecondition("ALREADY_CLAIMED")
        self.check_state(*OPEN)
        self.owner, self.claim_time = call.caller.employee, call.now
        self.department = call.caller.department or self.department
        self._start(call)
        self._tell_owner("", "CLAIM", call)

    def work(self, call: Call) -> None:
        """Starts work on it."""
        self._go("WORKING", ("NEW",), call)

    def wait(self, until: datetime, call: Call) -> None:
        """Lets it rest."""
        if until <= call.now:
            raise Validation(Violation("until", "IN_PAST", "必须晚于现在", "This lies in the past."))
        self.wait_until_time = until
        self._go("WAITING", ("WORKING",), call)

    def resume(self, call: Call) -> None:
        """Ends the rest."""
        self.wait_until_time = None
        self._go("WORKING", ("WAITING",), call)

    def request_conversion(self, conversion: pb.Conversion, call: Call) -> None:
        """Asks the customer service for account and contact."""
        self.check_state("WORKING", "WAITING")
        self.state, self.conversion, self.wait_until_time = "CONVERTING", conversion, None
        wanted: dict[str, Any] = {"account": conversion.account, "contact": conversion.contact}
        for draft in ("account_draft", "contact_draft"):
            if conversion.HasField(draft):
                wanted[draft] = getattr(conversion, draft)
        call.emit(events.LeadConversionRequested, lead=self, **wanted)

    def hold_conversion(self, case: str, problem: str, department: str) -> None:
        """Notes why there is no account yet; it stays CONVERTING and can be reopened."""
        self.check_state("CONVERTING")
        self.collision_case, self.conversion_problem, self.collision_department = case, problem, department

    def reopen(self, call: Call) -> None:
        """Takes it back out of a conversion that is not complete."""
        self._go("WORKING", ("CONVERTING",), call)
        self._release()

    def convert(self, account: str, contact: str, opportunity: str, call: Call) -> None:
        """Completes the conversion; this is final."""
        self.check_state("CONVERTING")
        self.account, self.contact, self.opportunity = account, contact, opportunity
        self._release()
        self._end("CONVERTED", "", call)
        call.emit(events.LeadConverted, lead=self, account=account, contact=contact, opportunity=opportunity)

    def disqualify(self, reason: str, call: Call) -> None:
        """Ends it: it will not buy."""
        self.check_state(*OPEN)
        self._end("DISQUALIFIED", reason, call)
        call.emit(events.LeadDisqualified, lead=self, reason=reason)

    def cancel(self, reason: str, call: Call) -> None:
        """Ends it: it was no lead."""
        self.check_state("NEW")
        self._end("CANCELLED", reason, call)
        call.emit(events.LeadCancelled, lead=self, reason=reason)

    def search_phones(self) -> list[str]:
        """Numbers that `q` finds."""
        return [phone.number for phone in self.phones if phone.valid]

    def _touch(self, call: Call) -> pb.Lead.Touch:
        return pb.Lead.Touch(
            channel=self.channel, external_id=self.external_id, campaign=self.campaign,
            time=to_timestamp(call.now), need=self.need, source=self.source, actor=call.caller.actor,
        )  # fmt: skip

    def _start(self, call: Call) -> None:
        if self.state == "NEW":
            self.work(call)

    def _go(self, state: str, allowed: tuple[str, ...], call: Call) -> None:
        self.check_state(*allowed)
        before, self.state = self.state, state
        call.emit(events.LeadStateChanged, lead=self, to=state, **coming_from(before))

    def _end(self, state: str, reason: str, call: Call) -> None:
        self.state, self.end_reason, self.end_time, self.wait_until_time = state, reason, call.now, None
        call.after_flush(lambda: self._write_keys(call))

    def _release(self) -> None:
        """Forgets what held the conversion."""
        self.collision_case = self.conversion_problem = self.collision_department = ""

    def _tell_owner(self, before: str, rule: str, call: Call) -> None:
        call.emit(events.LeadAssigned, lead=self, to=self.owner, rule=rule, **coming_from(before))

    async def _of_same_source(self, call: Call) -> Lead | None:
        if not self.external_id:
            return None
        known = exists().where(
            LeadSource.channel == self.channel,
            LeadSource.external_id == self.external_id,
            LeadSource.lead == Lead.id,
        )
        return await call.find(Lead, known)

    async def _of_same_person(self, keys: list[str], call: Call) -> Lead | None:
        if not keys:
            return None
        return await call.find(
            Lead, exists().where(LeadKey.value.in_(keys), LeadKey.lead == Lead.id), lock=True
        )

    async def _write_keys(self, call: Call) -> None:
        """Keeps the keys of an open lead and of its sources; a key that another open lead has stays with that one."""
        await call.db.execute(delete(LeadKey).where(LeadKey.lead == self.id))
        values = keys_of(self.phones, self.emails) if self.state in OPEN or self.state == "CONVERTING" else []
        if values:
            rows = [{"value": value, "lead": self.id} for value in values]
            await call.db.execute(insert(LeadKey).on_conflict_do_nothing(), rows)
        sources = [
            {
                "channel": pb.Lead.Channel.Name(touch.channel),
                "external_id": touch.external_id,
                "lead": self.id,
            }
            for touch in self.touches
            if touch.external_id
        ]
        if sources:
            await call.db.execute(insert(LeadSource).on_conflict_do_nothing(), sources)


def uuid_of(name: str) -> UUID:
    """The id in a resource name that a fact has brought."""
    return UUID(name.rpartition("/")[2])


def visible_to_caller(lead: Lead, call: Call) -> Any:
    """The statement that says whether the caller may see the lead."""
    from crmkit.scope import predicate

    return select(exists().where(Lead.id == lead.id, predicate(Lead, call.caller)))
