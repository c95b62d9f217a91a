"""Calls on the telephone: through an exchange, or on a telephone that tells us nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.phones import e164
from crmkit.resource import Resource
from sales.model.base import Base
from sales.model.call_list import CallEntry, CallList, dialled, dialled_of, place_of, refuse, refusing
from sales.model.calling_hours import APART, ATTEMPTS, WITHIN, Hours, zone_of
from sales.model.known_number import records_with
from sales.model.lead import Lead, LeadKey
from sales.model.phone_line import line_of
from sqlalchemy import ColumnElement, Index, func, select, text
from sqlalchemy.orm import Mapped

LIVE = ("DIALLING", "CONNECTED", "ENDED")
NOT_REACHED = ("NO_ANSWER", "BUSY")
# A call whose end nobody told is over after that.
LOST = timedelta(hours=4)
UNAVAILABLE = "EXCHANGE_UNAVAILABLE"
# Fields of a lead that the answers of a script are written to.
ANSWERED = ("need", "company_name", "person_name", "title")


class PhoneCall(Resource, Base):
    """One call. What an exchange tells of it may come twice and in any order."""

    __message__ = pb.Call
    refers_by = ("subject",)
    __table_args__ = (
        Index(
            "calls_provider_key", "provider_call", unique=True, postgresql_where=text("provider_call <> ''")
        ),
        Index("calls_number_index", "to_number", "start_time"),
        Index(
            "calls_live_index", "owner", postgresql_where=text("state IN ('DIALLING', 'CONNECTED', 'ENDED')")
        ),
    )

    direction: Mapped[str]
    from_number: Mapped[str]
    to_number: Mapped[str]
    entry: Mapped[str]
    subject: Mapped[str]
    start_time: Mapped[datetime | None]
    answer_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    duration_seconds: Mapped[int]
    cause: Mapped[str]
    recording: Mapped[str]
    provider_call: Mapped[str]
    disposition: Mapped[str]
    summary: Mapped[str]
    answers: Mapped[Any]
    callback_time: Mapped[datetime | None]
    script: Mapped[str]
    state: Mapped[str]

    def answer(self, call: Call) -> None:
        """They talk; where there is no exchange the agent says so."""
        self.check_state("DIALLING")
        self._check_agent(call)
        self.state, self.answer_time = "CONNECTED", call.now

    def end(self, call: Call) -> None:
        """It is over; where there is no exchange the agent says so."""
        self.check_state("DIALLING", "CONNECTED")
        self._check_agent(call)
        self._over(call.now, "")

    async def wrap_up(
        self, disposition: str, summary: str, answers: Any, callback_time: datetime | None, callback_note: str, call: Call
    ) -> None:  # fmt: skip
        """Writes what came of it, and what that means for the list."""
        self.check_state("ENDED", *(() if self.provider_call else ("DIALLING", "CONNECTED")))
        self._check_agent(call)
        if not disposition:
            raise FailedPrecondition("DISPOSITION_UNKNOWN")
        entry = await self._entry(call)
        book = await call_list_of(entry, call)
        hours = book.hours if book else Hours()
        zone = zone_of(self._number, await place_of(self.subject, call))
        if disposition == "CALLBACK":
            if callback_time is None or callback_time <= call.now:
                raise FailedPrecondition("CALLBACK_IN_PAST")
            slot = hours.next_open(callback_time, zone)
            if slot != callback_time:
                raise FailedPrecondition("CALL_NOT_ALLOWED", next=slot.isoformat())
            self.callback_time = callback_time
        if self.end_time is None:
            self._over(call.now, "")
        self.state, self.disposition, self.summary, self.answers = (
            "WRAPPED",
            disposition,
            summary,
            list(answers),
        )
        if entry is not None:
            again = self.callback_time or hours.next_open(call.now + APART, zone)
            entry.outcome(disposition, self.owner, again, callback_note, book.attempts if book else 1)
        if disposition == "DO_NOT_CALL":
            await call.flush()
            await refuse([self._number, self.subject], call)
        await self._write_back(call)
        ticket = entry.origin if entry is not None and entry.origin.startswith("tickets/") else ""
        call.emit(events.CallWrappedUp, call=self, source_key=self.provider_call, ticket=ticket)
        if self.callback_time is not None:
            call.emit(
                events.CallbackScheduled, call=self, entry=self.entry, time=self.callback_time, zone=str(zone), note=callback_note
            )  # fmt: skip

    async def fail(self, call: Call) -> None:
        """The exchange could not be reached: as if nobody had tried."""
        if self.state != "DIALLING":
            return
        self.state, self.cause, self.end_time = "FAILED", UNAVAILABLE, call.now
        if entry := await self._entry(call):
            entry.put_back()

    def told(self, event: str, when: datetime, cause: str, recording: str) -> None:
        """What an exchange tells. What is over stays over, and what is written stays written."""
        if event == "STARTED":
            self.start_time = min(self.start_time or when, when)
        elif event == "ANSWERED":
            self.answer_time = self.answer_time or when
            if self.state == "DIALLING":
                self.state = "CONNECTED"
        elif event == "ENDED" and self.end_time is None:
            self._over(when, cause)
        self.recording = self.recording or recording
        self._measure()

    def close_lost(self, now: datetime) -> None:
        """Nobody told that it is over."""
        if self.state in ("DIALLING", "CONNECTED"):
            self._over(now, "UNKNOWN")

    async def _write_back(self, call: Call) -> None:
        """What was asked for by the script is known of the lead from then on, and that its number is another's."""
        told = {one.field: one.value for one in self.answers if one.field in ANSWERED and one.value}
        wrong = self.disposition == "WRONG_NUMBER"
        if not (told or wrong) or not self.subject.startswith("leads/"):
            return
        lead = await call.named(Lead, self.subject, lock=True)
        if lead is None or lead.state in ("CONVERTED", "DISQUALIFIED", "CANCELLED"):
            return
        async with call.everybody():
            for name, value in told.items():
                setattr(lead, name, value)
            if wrong:
                lead.reached_nobody(self._number, call)
            await call.flush()

    @property
    def _number(self) -> str:
        return self.from_number if self.direction == "INBOUND" else self.to_number

    def _over(self, when: datetime, cause: str) -> None:
        self.end_time, self.cause = when, cause
        if self.state in ("DIALLING", "CONNECTED"):
            self.state = "ENDED"
        self._measure()

    def _measure(self) -> None:
        if self.answer_time is not None and self.end_time is not None:
            self.duration_seconds = max(0, round((self.end_time - self.answer_time).total_seconds()))

    def _check_agent(self, call: Call) -> None:
        if call.caller.employee != self.owner:
            raise PermissionDenied("PERMISSION_DENIED", permission="sales.calls.make")

    async def _entry(self, call: Call) -> CallEntry | None:
        if not self.entry:
            return None
        async with call.everybody():
            return await call.named(CallEntry, self.entry, lock=True)


async def dial(entry: CallEntry, call: Call) -> PhoneCall:
    """Calls somebody, if that is allowed now; an exchange hears of it by the fact."""
    me = call.caller.employee
    await check_wrapped_up(call)
    entry.check_state("NEW", "CALLBACK", "RETRY", "LOCKED")
    held = entry.state == "LOCKED" and entry.lock_until_time is not None and entry.lock_until_time > call.now
    if held and entry.locked_by != me:
        raise FailedPrecondition("ENTRY_TAKEN")
    if await refusing([entry.number_called, entry.subject], call):
        raise FailedPrecondition("DO_NOT_CALL")
    book = await call_list_of(entry, call)
    hours = book.hours if book else Hours()
    # A promise is kept whatever was tried.
    promised = "CALLBACK" in (entry.state, entry.locked_from)
    most = book.attempts if book else 1
    earliest = call.now if promised else await _next_attempt(entry.number_called, most, call)
    await _check_time(entry.number_called, entry.subject, hours, earliest, call)
    async with call.everybody():
        entry.keep(me, call.now)
        entry.owner = me
        await call.flush()
    made = PhoneCall(
        direction="OUTBOUND", from_number=await line_of(me, call), to_number=entry.number_called, entry=entry.name,
        subject=entry.subject, start_time=call.now, script=book.script if book else "", state="DIALLING", owner=me,
    )  # fmt: skip
    await call.add(made)
    call.emit(events.CallRequested, call=made)
    return made


async def incoming(request: pb.ReportCallRequest, when: datetime, call: Call) -> PhoneCall:
    """A call that comes in: whose number it is, as far as we know."""
    number = e164(request.from_number) or request.from_number
    made = PhoneCall(
        direction="INBOUND", from_number=number, to_number=request.to_number, start_time=when, state="DIALLING",
        provider_call=request.provider_call, subject=await subject_of(number, call), owner=request.employee,
    )  # fmt: skip
    return await call.add(made)


async def check_wrapped_up(call: Call) -> None:
    """CALL_NOT_WRAPPED_UP while the caller has a call without an outcome."""
    mine = (PhoneCall.owner == call.caller.employee, PhoneCall.state.in_(LIVE))
    if await call.find(PhoneCall, *mine) is not None:
        raise FailedPrecondition("CALL_NOT_WRAPPED_UP")


async def call_list_of(entry: CallEntry | None, call: Call) -> CallList | None:
    """The list of an entry, whoever may see it."""
    if entry is None:
        return None
    async with call.everybody():
        return await call.named(CallList, entry.call_list)


async def _check_time(number: str, subject: str, hours: Hours, earliest: datetime, call: Call) -> None:
    """CALL_NOT_ALLOWED with the next time: outside the hours, or before the earliest."""
    zone = zone_of(number, await place_of(subject, call))
    slot = hours.next_open(max(earliest, call.now), zone)
    if slot > call.now:
        raise FailedPrecondition("CALL_NOT_ALLOWED", next=slot.astimezone(zone).isoformat(timespec="minutes"))


async def _next_attempt(number: str, most: int, call: Call, *which: ColumnElement[bool]) -> datetime:
    """When a number may be tried again after the calls that count: neither too often nor too soon."""
    async with call.everybody():
        asked = select(func.count(), func.min(PhoneCall.start_time), func.max(PhoneCall.start_time)).where(
            PhoneCall.to_number == number,
            PhoneCall.start_time >= call.now - WITHIN,
            PhoneCall.state != "FAILED",
            *which,
        )
        times, first, last = (await call.db.execute(asked)).one()
    earliest = first + WITHIN if first is not None and times >= most else call.now
    return earliest if last is None else max(earliest, last + APART)


async def dial_anybody(subject: str, number: str, call: Call) -> PhoneCall:
    """Calls somebody who stands on no list. Colleagues are called at any time, all others as on a list."""
    await check_wrapped_up(call)
    colleague = subject.startswith("employees/")
    number = e164(number) or (number if colleague else "")
    number = number or await _number_of(subject, call)
    if not number:
        raise FailedPrecondition("NUMBER_MISSING")
    if not colleague:
        if await refusing([number, subject], call):
            raise FailedPrecondition("DO_NOT_CALL")
        # With whom one has talked one may talk on; who was not reached is left in peace for a while.
        missed = PhoneCall.disposition.in_(NOT_REACHED)
        await _check_time(number, subject, Hours(), await _next_attempt(number, ATTEMPTS, call, missed), call)
    me = call.caller.employee
    made = PhoneCall(
        direction="OUTBOUND", from_number=await line_of(me, call), to_number=number, subject=subject, start_time=call.now,
        state="DIALLING", owner=me,
    )  # fmt: skip
    await call.add(made)
    call.emit(events.CallRequested, call=made)
    return made


async def _number_of(subject: str, call: Call) -> str:
    """The number of a record to call first."""
    if subject.startswith("leads/"):
        lead = await call.named(Lead, subject)
        return dialled(lead.phones) if lead else ""
    if subject.startswith("employees/"):
        entry = call.entry(subject)
        return str(entry.get("extension") or entry.get("phone") or "")
    return dialled_of((await call.copy(subject) or {}).get("phones", [])) if subject else ""


async def subject_of(number: str, call: Call) -> str:
    """The open lead of a number, a person or customer who has it, or whoever was called by it last."""
    async with call.everybody():
        lead = await call.db.scalar(select(LeadKey.lead).where(LeadKey.value == f"phone:{number}"))
        if lead is not None:
            return f"leads/{lead}"
        if records := await records_with(number, call):
            return records[0]
        known = select(CallEntry.subject).where(CallEntry.number_called == number, CallEntry.subject != "")
        return await call.db.scalar(known.order_by(CallEntry.create_time.desc()).limit(1)) or ""
