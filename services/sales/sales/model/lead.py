"""The lead: a first hint that somebody may buy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied, Validation, Violation
from crmkit.mapping import to_timestamp
from crmkit.phones import keep_marks, mark_wrong
from crmkit.resource import Resource
from crmkit.scope import predicate
from crmkit.text import clean_name
from sales.model.assignment_rule import assign_by_rule
from sales.model.base import HANDOVER, Base, coming_from
from sales.model.contact_keys import company_key, keys_of, mail_key, normal_phone
from sales.model.lead_pool import (
    LeadIntake,
    LeadMoment,
    LeadPool,
    LeadPoolItem,
    home_of,
    intake_of,
    pool_of,
    put_into_pool,
    show_again,
    take_out,
)
from sales.model.lead_pool_rule import next_check, rule_of, wind
from sales.worktime import later
from sqlalchemy import (
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Text,
    Uuid,
    delete,
    exists,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

OPEN = ("NEW", "WORKING", "WAITING")
# What comes when nobody answers, in days after the start; the first step is in working minutes.
LADDER = ("OWNER", "SUPERIOR", "REASSIGN", "RECYCLE")
TWINS = 20
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
            # Partners have ids of their own.
            "leads_source_key",
            "channel",
            "external_id",
            "channel_partner",
            unique=True,
            postgresql_where=text("external_id <> ''"),
        ),
        Index("leads_company_key_index", "company_key", postgresql_where=text("company_key <> ''")),
        Index(
            "leads_response_index",
            "next_response_time",
            postgresql_where=text("next_response_time IS NOT NULL"),
        ),
        Index(
            "leads_return_index", "return_check_time", postgresql_where=text("return_check_time IS NOT NULL")
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
    pool: Mapped[str]
    score: Mapped[int]
    first_response_due_time: Mapped[datetime | None]
    first_response_time: Mapped[datetime | None]
    response_step: Mapped[str]
    last_follow_up_time: Mapped[datetime | None]
    follow_ups: Mapped[Any]
    moves: Mapped[Any]
    owner_time: Mapped[datetime | None]
    return_due_time: Mapped[datetime | None]
    merged_into: Mapped[str]
    account_delete_time: Mapped[datetime | None]
    state: Mapped[str]
    # When the next step of the ladder comes, and since when it counts.
    next_response_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    response_start_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The clause that takes it back, and the fewest days before that of which the owner was warned.
    return_clause: Mapped[str] = mapped_column(Text, server_default=text("''"))
    return_warned: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    return_check_time: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The company's name as it is compared.
    company_key: Mapped[str] = mapped_column(Text, server_default=text("''"))

    async def creating(self, call: Call) -> None:
        """Whoever sells works on what he enters; what others enter waits for an owner."""
        self.normalise()
        self.channel = self.channel or "SELF"
        self.channel_partner = call.caller.account or self.channel_partner
        if self.owner == call.caller.employee and not call.caller.may(SELLS):
            self.owner = ""
        self.state, self.state_time = "WORKING" if self.owner else "NEW", call.now
        self.touches = [self._touch(call)]
        intake = await intake_of(self.channel, call)
        if intake is not None:
            self.pool = self.pool or intake.pool
            self.department = (
                intake.lead_department if intake.lead_department and not self.owner else self.department
            )
        call.after_flush(lambda: self._write_keys(call))
        call.emit(events.LeadCreated, lead=self)
        self._remember(self.state, call)
        if self.owner:
            await self._taken("", "CREATE", call, intake)
            if self.owner != call.caller.employee:
                self._tell_owner("", "ASSIGN", call)
            return
        self._start_clock(intake, call)
        if not await assign_by_rule(self, call) and (pool := await pool_of(self.pool, call)) is not None:
            await call.number(self)
            if pool.state == "OPEN":
                await put_into_pool(self, pool, "CREATE", "", call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Only an open lead changes; a new owner works on it."""
        if "owner" in changed and self.owner:
            await self._taken("", "ASSIGN", call)
            self._start(call)
            self._tell_owner("", "ASSIGN", call)
        if changed <= HANDOVER:
            return
        self.check_state(*OPEN)
        if "segment" in changed:
            self._check_crossing(next(iter(inspect(self).attrs.segment.history.deleted or ()), ""), call)
        self.normalise()
        call.after_flush(lambda: self._write_keys(call))
        if self.owner:
            await self._rewind(call)
        elif self.pool:
            await show_again(self, call)

    def normalise(self) -> None:
        """Brings names and phones into the form in which they can be compared."""
        self.phones = keep_marks(self, [normal_phone(phone) for phone in self.phones])
        for name in ("display_name", "company_name", "person_name", "title", "wechat"):
            setattr(self, name, " ".join(clean_name(getattr(self, name) or "").split()))
        self.company_key = company_key(self.company_name)

    async def capture(self, call: Call) -> Lead:
        """Becomes a new lead, unless its source is known or an open lead has its phone or mail: that one is given.

        What a partner tells joins his own leads alone: he learns of no others, not even that there are any.
        """
        self.channel_partner = call.caller.account or self.channel_partner
        self.normalise()
        self.channel = self.channel or "SELF"
        keys = keys_of(self.phones, self.emails)
        source = [f"source:{self.channel}:{self.external_id}"] if self.external_id else []
        # Two touches of one person at once meet here, so that one makes the lead and the other joins it.
        await call.one_at_a_time(keys + source)
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
        self.touches = [*self.touches, *(other.touches or [other._touch(call)])]
        known = {(interest.product_line, interest.note) for interest in self.interests}
        self.interests = [
            *self.interests,
            *(i for i in other.interests if (i.product_line, i.note) not in known),
        ]
        numbers = {phone.number for phone in self.phones}
        self.phones = [*self.phones, *(phone for phone in other.phones if phone.number not in numbers)]
        addresses = {mail_key(email.address) for email in self.emails}
        self.emails = [
            *self.emails,
            *(email for email in other.emails if mail_key(email.address) not in addresses),
        ]
        for name in ("company_name", "person_name", "title", "wechat", "need", "campaign", "industry"):
            setattr(self, name, getattr(self, name) or getattr(other, name))
        call.after_flush(lambda: self._write_keys(call))

    async def merge(self, others: list[Lead], call: Call) -> None:
        """Takes other open leads of the same person or company in; they end, and their sources lead here."""
        self.check_state(*OPEN)
        for other in others:
            other.check_state(*OPEN)
            if other.id == self.id:
                raise Validation(Violation("others", "CYCLE", "不能并入自己。", "It cannot go into itself."))
            self.follow_ups = sorted(
                [*self.follow_ups, *other.follow_ups], key=lambda one: one.time.ToNanoseconds()
            )
            other.merged_into = self.name
            await take_out(other, call)
            other._end("CANCELLED", "DUPLICATE", call)
            call.emit(events.LeadCancelled, lead=other, reason="DUPLICATE")
            self.join(other, call)
            call.after_flush(lambda key=other.id: self._take_sources(key, call))
        times = [follow_up.time.ToDatetime(UTC) for follow_up in self.follow_ups]
        self.last_follow_up_time = max(times, default=None)
        self.company_key = company_key(self.company_name)
        if times:
            self._answered(min(times))
        await self._rewind(call)

    async def twins(self, call: Call) -> list[tuple[Lead, str]]:
        """Open leads that the caller may see and that may be of the same person or company, with the reason."""
        found: dict[UUID, tuple[Lead, str]] = {}
        keys = keys_of(self.phones, self.emails)
        held = select(LeadKey.lead, LeadKey.value).where(LeadKey.value.in_(keys), LeadKey.lead != self.id)
        reasons = {row.lead: row.value for row in await call.db.execute(held)}
        seen = select(Lead).where(Lead.state.in_(OPEN), Lead.id != self.id, predicate(Lead, call.caller))
        for lead in await call.db.scalars(seen.where(Lead.id.in_(reasons)).limit(TWINS)):
            found[lead.id] = lead, "PHONE" if reasons[lead.id].startswith("phone:") else "MAIL"
        if self.company_key:
            same = seen.where(Lead.company_key == self.company_key).order_by(Lead.id).limit(TWINS)
            for lead in await call.db.scalars(same):
                found.setdefault(lead.id, (lead, "COMPANY"))
        return list(found.values())[:TWINS]

    async def assign(self, owner: str, call: Call, rule: str = "ASSIGN") -> None:
        """Gives it to an employee, who then works on it; by hand or by a rule."""
        self.check_state(*OPEN)
        entry = call.entry(owner)
        if entry.get("disabled"):
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        before, self.owner = self.owner, owner
        self.department = entry.get("department") or self.department
        await self._taken(before, rule, call)
        self._start(call)
        self._tell_owner(before, rule, call)

    async def release(self, pool: LeadPool, reason: str, call: Call) -> None:
        """Its owner gives it back."""
        self.check_state(*OPEN)
        if not self.owner:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)
        if not pool.takes_from(self.owner, call):
            raise FailedPrecondition("NOT_POOL_MEMBER")
        await put_into_pool(self, pool, "RELEASE", reason, call)

    def leave(self, pool: str, how: str, reason: str, call: Call) -> str:
        """Has no owner any more and waits in a pool; gives the owner before."""
        before, self.owner, self.pool, self.claim_time = self.owner, "", pool, None
        if self.state != "NEW":
            self._go("NEW", OPEN, call)
        self.wait_until_time = None
        if before:
            self._note_move(how, before, "", reason, call)
            self._remember("FREE", call, before, how)
            self.owner_time = call.now
            self.next_response_time = self.first_response_due_time = None
        self._unwind()
        return before

    async def follow_up(self, request: pb.FollowUpLeadRequest, call: Call) -> None:
        """Notes that somebody spoke with the person."""
        self.check_state(*OPEN)
        made = pb.Lead.FollowUp(
            channel=request.channel or "CALL", time=to_timestamp(call.now), employee=call.caller.employee,
            summary=request.summary, next_step=request.next_step,
        )  # fmt: skip
        if request.HasField("next_time"):
            made.next_time.CopyFrom(request.next_time)
        self.follow_ups = [*self.follow_ups, made]
        self.last_follow_up_time = call.now
        self._answered(call.now)
        self._remember("FOLLOW_UP", call, call.caller.employee)
        self._start(call)
        await self._rewind(call)

    def allocate(self, segment: str, call: Call) -> None:
        """Gives it to a business segment; to another one only the head office does."""
        self.check_state(*OPEN)
        before, self.segment = self.segment, segment
        self._check_crossing(before, call)

    def _check_crossing(self, before: str, call: Call) -> None:
        """SEGMENT_CROSSING where somebody else than the head office moves it out of a business segment."""
        if before and before != self.segment and not call.caller.may(ACROSS):
            raise PermissionDenied("SEGMENT_CROSSING")

    async def copied(self, call: Call) -> Lead:
        """A new lead with the data of this one, which has ended."""
        self.check_state("CONVERTED", "DISQUALIFIED", "CANCELLED")
        copy = Lead(**{name: getattr(self, name) for name in _COPIED}, owner=call.caller.employee)
        return await call.add(copy)

    async def claim(self, call: Call) -> None:
        """Takes it; the first one gets it. Out of a pool its members do, within the quotas of the pool."""
        if self.owner:
            raise FailedPrecondition("ALREADY_CLAIMED")
        self.check_state(*OPEN)
        pool = await pool_of(self.pool, call)
        if pool is not None:
            if not pool.has_member(call.caller):
                raise FailedPrecondition("NOT_POOL_MEMBER")
            # Claims of one person go one after another, so that quotas hold.
            await call.one_at_a_time([f"claims:{call.caller.employee}"])
            if rule := await rule_of(pool.name, call):
                await rule.check_claim(self, call.caller.employee, call)
        self.owner, self.claim_time = call.caller.employee, call.now
        self.department = call.caller.department or self.department
        await self._taken("", "CLAIM", call)
        self._start(call)
        self._tell_owner("", "CLAIM", call)

    def work(self, call: Call) -> None:
        """Starts work on it."""
        self._go("WORKING", ("NEW",), call)

    async def wait(self, until: datetime, call: Call) -> None:
        """Lets it rest."""
        if until <= call.now:
            raise Validation(Violation("until", "IN_PAST", "必须晚于现在", "This lies in the past."))
        self.wait_until_time = until
        self._go("WAITING", ("WORKING",), call)
        self._answered(call.now)
        await self._rewind(call)

    async def resume(self, call: Call) -> None:
        """Ends the rest."""
        self.wait_until_time = None
        self._go("WORKING", ("WAITING",), call)
        await self._rewind(call)

    def request_conversion(self, conversion: pb.Conversion, call: Call) -> None:
        """Asks the customer service for account and contact."""
        self.check_state("WORKING", "WAITING")
        self.state, self.conversion, self.wait_until_time = "CONVERTING", conversion, None
        self._answered(call.now)
        self._remember("CONVERTING", call)
        self._unwind()
        wanted: dict[str, Any] = {"account": conversion.account, "contact": conversion.contact}
        for draft in ("account_draft", "contact_draft"):
            if conversion.HasField(draft):
                wanted[draft] = getattr(conversion, draft)
        call.emit(events.LeadConversionRequested, lead=self, **wanted)

    def hold_conversion(self, case: str, problem: str, department: str) -> None:
        """Notes why there is no account yet; it stays CONVERTING and can be reopened."""
        self.check_state("CONVERTING")
        self.collision_case, self.conversion_problem, self.collision_department = case, problem, department

    async def reopen(self, call: Call) -> None:
        """Takes it back out of a conversion that is not complete."""
        self._go("WORKING", ("CONVERTING",), call)
        self._release()
        await self._rewind(call)

    def convert(self, account: str, contact: str, opportunity: str, call: Call) -> None:
        """Completes the conversion; this is final."""
        self.check_state("CONVERTING")
        self.account, self.contact, self.opportunity = account, contact, opportunity
        self._release()
        self._end("CONVERTED", "", call)
        call.emit(events.LeadConverted, lead=self, account=account, contact=contact, opportunity=opportunity)

    async def disqualify(self, reason: str, call: Call) -> None:
        """Ends it: it will not buy."""
        self.check_state(*OPEN)
        await take_out(self, call)
        self._end("DISQUALIFIED", reason, call)
        call.emit(events.LeadDisqualified, lead=self, reason=reason)

    async def cancel(self, reason: str, call: Call) -> None:
        """Ends it: it was no lead."""
        self.check_state("NEW")
        await take_out(self, call)
        self._end("CANCELLED", reason, call)
        call.emit(events.LeadCancelled, lead=self, reason=reason)

    async def escalate(self, now: datetime, call: Call) -> None:
        """Goes up the ladder to the latest step whose time has come; nothing where that was done."""
        if self.first_response_time is not None or self.state not in OPEN or self.response_start_time is None:
            self.next_response_time = None
            return
        times = self._steps(await intake_of(self.channel, call))
        reached = max((n for n, time in enumerate(times) if time <= now), default=-1)
        done = LADDER.index(self.response_step) if self.response_step else -1
        self.next_response_time = next((time for time in times[max(reached, done) + 1 :]), None)
        if reached <= done:
            return
        self.response_step, before = LADDER[reached], self.owner
        waiting = self.next_response_time, self.response_start_time, self.first_response_due_time
        if self.response_step == "REASSIGN":
            await assign_by_rule(self, call, besides=before)
        elif self.response_step == "RECYCLE" and before:
            pool = await pool_of(self.pool or await home_of(before, call), call)
            if pool is not None and pool.state == "OPEN":
                await put_into_pool(self, pool, "RESPONSE", LADDER[reached], call)
        if self.owner:
            # Whoever gets it now is no more in time than the owner before.
            self.next_response_time, self.response_start_time, self.first_response_due_time = waiting
            self.response_step = LADDER[reached]
        told = [before]
        if not before and (pool := await pool_of(self.pool, call)) is not None:
            told = list(pool.managers)
        if reached:
            entry = call.entry(before)
            told.append(entry.get("superior") or "")
        recipients = list(dict.fromkeys(filter(None, [*told, self.owner])))
        call.emit(events.LeadResponseOverdue, lead=self, step=LADDER[reached], recipients=recipients)

    async def sweep(self, now: datetime, call: Call) -> None:
        """Warns the owner that it goes back soon, and takes it back when its time has come."""
        rule = await rule_of(self.pool, call)
        due = self.return_due_time
        if rule is None or due is None or not self.owner or self.state not in OPEN:
            self._unwind()
            return
        clause = next((one for one in rule.clauses if one.key == self.return_clause), None)
        if clause is None:
            await self._rewind(call)
        elif due <= now:
            self._unwind()
            if clause.action == pb.LeadPoolRule.NOTIFY:
                call.emit(events.LeadReturnWarned, lead=self, days=0)
            elif (pool := await pool_of(self.pool, call)) is not None and pool.state == "OPEN":
                await put_into_pool(self, pool, "RECYCLE", clause.key, call)
        else:
            # Late: only the latest warning.
            reached = [day for day in rule.warnings if due - timedelta(days=day) <= now]
            if reached and (not self.return_warned or min(reached) < self.return_warned):
                self.return_warned = min(reached)
                call.emit(events.LeadReturnWarned, lead=self, days=(due - now).days)
            self.return_check_time = next_check(due, rule, min(reached) if reached else None)

    def _unwind(self) -> None:
        """Does not go back."""
        self.return_due_time = self.return_check_time = None
        self.return_clause = ""

    async def forget_person(self, call: Call) -> None:
        """A lead that is called like the person is called by its company, or by its number."""
        if self.display_name != self.company_name:
            self.display_name = self.company_name or self.number
        await super().forget_person(call)
        await self._write_keys(call)

    def reached_nobody(self, number: str, call: Call) -> None:
        """Somebody else answers at this number: it is dialled no more and says nothing of who calls."""
        if mark_wrong(self, number):
            call.after_flush(lambda: self._write_keys(call))

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

    async def _taken(self, before: str, how: str, call: Call, intake: LeadIntake | None = None) -> None:
        """Belongs to somebody from now on: it is in no pool, and its clocks begin."""
        if not before and self.pool:
            await take_out(self, call)
        self.pool = self.pool or await home_of(self.owner, call)
        self.owner_time = call.now
        self._note_move(how, before, self.owner, "", call)
        if before:
            self._remember("FREE", call, before, how)
        self._remember("OWNED", call, self.owner, how)
        self._start_clock(intake or await intake_of(self.channel, call), call)
        await self._rewind(call)

    def _start_clock(self, intake: LeadIntake | None, call: Call) -> None:
        """Waits for the first response from now on, unless there was one."""
        if self.first_response_time is None:
            self.response_start_time, self.response_step = call.now, ""
            self.first_response_due_time = self.next_response_time = self._steps(intake)[0]

    def _steps(self, intake: LeadIntake | None) -> list[datetime]:
        start: Any = self.response_start_time
        minutes = (intake.first_response_minutes if intake else 0) or 30
        opens = float(intake.opens or 9) if intake else 9.0
        closes = float(intake.closes or 18) if intake else 18.0
        days = (
            (intake.superior_days if intake else 0) or 3,
            (intake.reassign_days if intake else 0) or 5,
            (intake.pool_days if intake else 0) or 7,
        )
        first = later(start, minutes, opens, closes)
        # Over long holidays the first step may come after the others; then all come in their order.
        return [first, *(max(first, start + timedelta(days=day)) for day in days)]

    def _answered(self, time: datetime) -> None:
        self.first_response_time = self.first_response_time or time
        self.next_response_time = None

    async def _rewind(self, call: Call) -> None:
        """Winds the clock that takes it back."""
        wind(self, await rule_of(self.pool, call))

    def _note_move(self, how: str, before: str, to: str, reason: str, call: Call) -> None:
        move = pb.Lead.Move(how=how, to=to, time=to_timestamp(call.now), reason=reason, pool=self.pool)
        setattr(move, "from", before)
        self.moves = [*self.moves, move]

    def _remember(self, kind: str, call: Call, employee: str = "", how: str = "") -> None:
        kept: Any = self.__dict__
        rows: list[dict[str, Any]] = kept.setdefault("_moments", [])
        if not rows:
            call.after_flush(lambda: self._write_moments(call))
        rows.append(
            {
                "lead": self.id,
                "time": call.now,
                "kind": kind,
                "employee": employee,
                "how": how,
                "pool": self.pool,
            }
        )

    async def _write_moments(self, call: Call) -> None:
        kept: Any = self.__dict__
        await call.db.execute(insert(LeadMoment), kept.pop("_moments"))

    async def _take_sources(self, other: UUID, call: Call) -> None:
        await call.db.execute(update(LeadSource).where(LeadSource.lead == other).values(lead=self.id))

    def _go(self, state: str, allowed: tuple[str, ...], call: Call) -> None:
        self.check_state(*allowed)
        before, self.state, self.state_time = self.state, state, call.now
        self._remember(state, call)
        call.emit(events.LeadStateChanged, lead=self, to=state, **coming_from(before))

    def _end(self, state: str, reason: str, call: Call) -> None:
        self.state, self.end_reason, self.end_time, self.wait_until_time = state, reason, call.now, None
        self._answered(call.now)
        self._remember(state, call)
        self._unwind()
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
            LeadSource.external_id == self._source(self.external_id),
            LeadSource.lead == Lead.id,
        )
        return await call.find(Lead, known)

    async def _of_same_person(self, keys: list[str], call: Call) -> Lead | None:
        if not keys:
            return None
        theirs = [Lead.channel_partner == call.caller.account] if call.caller.account else []
        same = exists().where(LeadKey.value.in_(keys), LeadKey.lead == Lead.id)
        return await call.find(Lead, same, *theirs, lock=True)

    def _source(self, external_id: str) -> str:
        """The id as its source knows it; partners have their own, which may be those of others."""
        return f"{self.channel_partner}#{external_id}" if self.channel_partner else external_id

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
                "external_id": self._source(touch.external_id),
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


async def seen_or_told(lead: Lead, call: Call) -> Lead | pb.Lead:
    """The lead that a touch became or joined. Whoever may not see that one gets back what he told, and no more."""
    found = await lead.capture(call)
    if found is lead or await call.db.scalar(visible_to_caller(found, call)):
        return found
    return pb.Lead(name=found.name, display_name=lead.display_name, department=found.department)


def visible_to_caller(lead: Lead, call: Call) -> Any:
    """The statement that says whether the caller may see the lead."""
    return select(exists().where(Lead.id == lead.id, predicate(Lead, call.caller)))


async def waiting_in(pool: LeadPool, names: list[str], most: int, call: Call) -> list[Lead]:
    """Leads that wait in a pool, locked: those named, all of which must be there, or the longest waiting."""
    waits = select(Lead).join(LeadPoolItem, LeadPoolItem.lead == Lead.sql_name())
    waits = waits.where(LeadPoolItem.pool == pool.name, Lead.owner == "")
    if names:
        waits = waits.where(Lead.id.in_({uuid_of(name) for name in names}))
    ordered = waits.order_by(LeadPoolItem.pooled_time, Lead.id).limit(most)
    found = list(await call.db.scalars(ordered.with_for_update(of=Lead)))
    if names and len(found) < min(len(set(names)), most):
        raise NotFound()
    return found
