"""Call lists and who stands on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import employed
from crmkit.errors import FailedPrecondition, Validation, Violation
from crmkit.listing import where
from crmkit.phones import e164
from crmkit.resource import Resource
from crmkit.scope import predicate
from sales.engine.reckoning import shared
from sales.model.absence import absent
from sales.model.base import HANDOVER, Base
from sales.model.calling_hours import ATTEMPTS, CLOSES, OPENS, WITHIN, Hours, zone_of
from sales.model.lead import Lead, uuid_of
from sales.model.territory import Territory, TerritoryAccount, as_nodes, in_force, owner_of, works
from sales.territory_map import Place, TerritoryMap
from sqlalchemy import ColumnElement, Index, Text, and_, case, delete, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

LOCK = timedelta(minutes=10)
# Others take over a callback so long after its time; then the supervisor is told.
OTHERS, SUPERVISOR = timedelta(minutes=30), timedelta(minutes=60)
WAITING = ("NEW", "CALLBACK", "RETRY")
OPEN = (*WAITING, "LOCKED")
MOST = 2000
# For so long it is kept what somebody looked at on the web site.
PAGES_DAYS = 30
_NOBODY = "DO_NOT_CALL"


class DoNotCall(Base):
    """A number, or an account or contact, that is not called any more."""

    __tablename__ = "do_not_call"

    key: Mapped[str] = mapped_column(Text, primary_key=True, info={"refers": True})


class CallList(Resource, Base):
    """Whom to call; its owner supervises it."""

    __message__ = pb.CallList

    display_name: Mapped[str]
    lead_filter: Mapped[str]
    subjects: Mapped[list[str]]
    numbers: Mapped[Any]
    script: Mapped[str]
    queue: Mapped[str]
    members: Mapped[Any]
    from_hour: Mapped[int]
    to_hour: Mapped[int]
    max_attempts: Mapped[int]
    state: Mapped[str]

    async def creating(self, call: Call) -> None:
        """A new list is a draft; the filter must be one of leads."""
        self.state = "DRAFT"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A finished list only changes hands."""
        if changed <= HANDOVER:
            return
        self.check_state("DRAFT", "RUNNING", "PAUSED")
        self._check(call)

    async def deleting(self, call: Call) -> None:
        """Only a draft that nobody stands on goes."""
        self.check_state("DRAFT")
        await call.db.execute(delete(CallEntry).where(CallEntry.call_list == self.name))

    def start(self) -> None:
        """Agents may call."""
        self.check_state("DRAFT", "PAUSED")
        self.state = "RUNNING"

    def pause(self) -> None:
        """Nobody calls for a while."""
        self.check_state("RUNNING")
        self.state = "PAUSED"

    async def finish(self, call: Call) -> None:
        """Nobody calls any more; what is open is skipped, so that other lists may have the numbers. A promise is kept."""
        self.check_state("RUNNING", "PAUSED")
        left = await self._entries(call, CallEntry.state.in_(OPEN))
        if promised := sum("CALLBACK" in (entry.state, entry.locked_from) for entry in left):
            raise FailedPrecondition("CALLBACKS_PROMISED", count=promised)
        self.state = "FINISHED"
        for entry in left:
            entry.leave_out("FINISHED")

    @property
    def hours(self) -> Hours:
        """When numbers are called."""
        return Hours(self.from_hour or OPENS, self.to_hour or CLOSES)

    @property
    def attempts(self) -> int:
        """How often within seven days."""
        return self.max_attempts or ATTEMPTS

    async def generate(self, preview: bool, call: Call) -> pb.GenerateCallListResponse:
        """Brings everybody on the list who can and may be called; counts the others by what is in the way."""
        self.check_state("DRAFT", "RUNNING", "PAUSED")
        await call.one_at_a_time(["callEntries"])
        found = [one async for one in self._candidates(call)]
        numbers = [one.number for one in found if one.number]
        taken = await _known(select(CallEntry.number_called).where(
            CallEntry.number_called.in_(numbers), CallEntry.state.in_(OPEN)), call)  # fmt: skip
        taken |= await _known(select(CallEntry.subject).where(
            CallEntry.call_list == self.name, CallEntry.subject != ""), call)  # fmt: skip
        recent = await recently_called(numbers, call.now - WITHIN, call)
        refused = await refusing([*numbers, *(one.subject for one in found)], call)
        told, rows = Counter[str](), list[CallEntry]()
        for one in found:
            why = (
                "no_number" if not one.number else "do_not_call" if refused.intersection((one.number, one.subject))
                else "duplicates" if taken.intersection((one.number, one.subject or one.number))
                else "recently_called" if one.number in recent else "left" if len(rows) == MOST else "added"
            )  # fmt: skip
            told[why] += 1
            taken.add(one.number)
            if why == "added":
                rows.append(
                    CallEntry(
                        display_name=one.display_name[:200] or one.number, call_list=self.name, subject=one.subject,
                        number_called=one.number, score=one.score, state="NEW", owner="", department=self.department,
                        creator=call.caller.actor,
                    )
                )  # fmt: skip
        for row in rows if not preview else ():
            await call.add(row)
            # Nobody has it until it is given to somebody.
            row.owner = ""
        return pb.GenerateCallListResponse(found=len(found), **told)

    async def distribute(self, method: str, again: bool, call: Call) -> list[tuple[str, int]]:
        """Gives the entries that nobody has, and those of people who do not call any more, to the agents."""
        agents = await self.present(call)
        if not agents:
            raise FailedPrecondition("LIST_HAS_NO_MEMBER")
        people = [member.employee for member in agents]
        fresh = CallEntry.owner == ""
        stale = CallEntry.owner.not_in(people)
        given = or_(fresh, stale, CallEntry.state == "NEW") if again else or_(fresh, stale)
        rows = await self._entries(call, CallEntry.state.in_(WAITING), given)
        told = dict.fromkeys(people, 0)
        rest = list[CallEntry]()
        territories = await in_force(call) if method == "TERRITORY" else []
        tree = TerritoryMap(as_nodes(territories))
        for row in rows:
            owners = [await _owner_of(row.subject, call)] if method == "OWNER" else []
            owners = (
                await workers_of(row.subject, territories, tree, call) if method == "TERRITORY" else owners
            )
            owner = next((one for one in owners if one in told), "")
            if owner:
                row.owner, told[owner] = owner, told[owner] + 1
            else:
                rest.append(row)
        weights = [Decimal(member.weight or 1) if method == "WEIGHTED" else Decimal(1) for member in agents]
        shares = [int(share) for share in shared(Decimal(len(rest)), weights, 0)]
        turns = [person for person, share in zip(people, shares, strict=True) for _ in range(share)]
        for row, person in zip(rest, _mixed(turns, people), strict=True):
            row.owner, told[person] = person, told[person] + 1
        return list(told.items())

    async def enlist(self, subjects: Sequence[str], call: Call) -> pb.GenerateCallListResponse:
        """Brings further records on the list, as far as they can and may be called."""
        self.check_state("DRAFT", "RUNNING", "PAUSED")
        self.subjects = list(dict.fromkeys([*self.subjects, *subjects]))
        self._check(call)
        return await self.generate(False, call)

    async def present(self, call: Call) -> list[Any]:
        """The members who still work here and are not on leave."""
        on_leave = await absent([member.employee for member in self.members], call)
        return [
            member
            for member in self.members
            if employed(member.employee, call) and member.employee not in on_leave
        ]

    async def take_next(self, call: Call) -> CallEntry:
        """Keeps the next one for the caller: what he promised, what he tries again, what others forgot, what is new."""
        self.check_state("RUNNING")
        me = call.caller.employee
        async with call.everybody():
            held = await call.find(
                CallEntry, CallEntry.call_list == self.name, CallEntry.state == "LOCKED", CallEntry.locked_by == me,
                CallEntry.lock_until_time > call.now, lock=True,
            )  # fmt: skip
            if held is not None:
                return held
            while True:
                row = await call.db.scalar(_next(self.name, me, call.now))
                if row is None:
                    raise FailedPrecondition("LIST_EMPTY")
                if await refusing([row.number_called, row.subject], call):
                    row.leave_out(_NOBODY)
                    await call.flush()
                    continue
                row.keep(me, call.now)
                # Written while everybody's rows may be: it was nobody's before.
                await call.flush()
                return row

    async def _entries(self, call: Call, *conditions: Any) -> list[CallEntry]:
        asked = select(CallEntry).where(CallEntry.call_list == self.name, *conditions)
        async with call.everybody():
            return list(
                await call.db.scalars(asked.order_by(CallEntry.score.desc(), CallEntry.id).with_for_update())
            )

    async def _candidates(self, call: Call) -> AsyncIterator[Candidate]:
        leads = {uuid_of(name) for name in self.subjects if name.startswith("leads/")}
        wanted: list[ColumnElement[bool]] = [Lead.id.in_(leads)] if leads else []
        if self.lead_filter.strip():
            wanted.append(where(Lead, self.lead_filter, call.caller, call.now))
        if wanted:
            seen = (
                select(Lead)
                .where(predicate(Lead, call.caller), or_(*wanted))
                .order_by(Lead.id)
                .limit(MOST * 5)
            )
            for lead in await call.db.scalars(seen):
                yield Candidate(
                    lead.name, lead.person_name or lead.display_name, dialled(lead.phones), lead.score or 0
                )
        for name in self.subjects:
            if name.startswith(("accounts/", "contacts/")):
                known = await call.copy(name) or {}
                number = dialled_of(known.get("phones", []))
                yield Candidate(name, str(known.get("displayName", "")), number, 0)
        for typed in self.numbers:
            yield Candidate("", typed.display_name, e164(typed.number), 0)

    def _check(self, call: Call) -> None:
        if self.lead_filter.strip():
            where(Lead, self.lead_filter, call.caller, call.now)
        if not 0 <= self.from_hour < (self.to_hour or CLOSES) <= 24:
            text = "应为一天之内的时段。", "The hours lie within a day."
            raise Validation(Violation("call_list.to_hour", "OUT_OF_RANGE", *text))
        kinds = ("leads", "accounts", "contacts")
        for place, name in enumerate(self.subjects):
            if name.partition("/")[0] not in kinds:
                text = "应为线索、客户或联系人。", "A lead, an account or a contact."
                raise Validation(Violation(f"call_list.subjects[{place}]", "UNKNOWN_REFERENCE", *text))


@dataclass(frozen=True)
class Candidate:
    """Somebody who might be called."""

    subject: str
    display_name: str
    number: str
    score: int


class CallEntry(Resource, Base):
    """Somebody on a list. Its owner is the agent; an open number stands on one list alone."""

    __message__ = pb.CallEntry
    refers_by = ("subject",)
    __table_args__ = (
        Index(
            "call_entries_open_number_key", "number_called", unique=True,
            postgresql_where=text("state IN ('NEW', 'LOCKED', 'CALLBACK', 'RETRY')"),
        ),
        Index("call_entries_list_index", "call_list", "state", "owner"),
        Index("call_entries_due_index", "next_time", postgresql_where=text("state = 'CALLBACK'")),
    )  # fmt: skip

    display_name: Mapped[str]
    call_list: Mapped[str]
    subject: Mapped[str]
    number_called: Mapped[str]
    score: Mapped[int]
    next_time: Mapped[datetime | None]
    note: Mapped[str]
    attempts: Mapped[int]
    locked_by: Mapped[str]
    lock_until_time: Mapped[datetime | None]
    locked_from: Mapped[str]
    skip_reason: Mapped[str]
    last_disposition: Mapped[str]
    notice_step: Mapped[str]
    origin: Mapped[str]
    pages: Mapped[Any]
    state: Mapped[str]

    def keep(self, employee: str, now: datetime) -> None:
        """Keeps it for an agent for ten minutes."""
        self.locked_from = self.state if self.state != "LOCKED" else self.locked_from
        self.state, self.locked_by, self.lock_until_time = "LOCKED", employee, now + LOCK
        self.owner = self.owner or employee

    def put_back(self) -> None:
        """It stands where it stood."""
        if self.state == "LOCKED":
            self._settle(self.locked_from or "NEW")

    def leave_out(self, reason: str) -> None:
        """It is not called."""
        self.check_state(*OPEN)
        self.skip_reason = reason
        self._settle("SKIPPED")

    def skip(self, reason: str) -> None:
        """It is not called, for a reason that somebody gives."""
        self.leave_out(reason)

    def outcome(self, disposition: str, agent: str, next_time: datetime | None, note: str, most: int) -> None:
        """What a call came to: done, promised, to be tried again, or never again."""
        self.attempts, self.last_disposition = self.attempts + 1, disposition
        self.next_time, self.note, self.notice_step = None, "", ""
        if disposition == "CALLBACK":
            self.next_time, self.note, self.owner = next_time, note, agent
            self._settle("CALLBACK")
        elif disposition in ("NO_ANSWER", "BUSY") and self.attempts < most:
            self.next_time, self.owner = next_time, agent
            self._settle("RETRY")
        elif disposition == _NOBODY:
            self.skip_reason = _NOBODY
            self._settle("SKIPPED")
        else:
            self._settle("CONVERTED" if disposition == "CONVERTED" else "DONE")

    def _settle(self, state: str) -> None:
        self.state, self.locked_by, self.lock_until_time, self.locked_from = state, "", None, ""
        if state not in OPEN:
            self.pages = []


def _next(name: str, me: str, now: datetime) -> Any:
    """The next entry of a list for an agent, of those that nobody else looks at this moment."""
    entry = CallEntry
    state = case((entry.state == "LOCKED", entry.locked_from), else_=entry.state)
    mine, due = entry.owner == me, entry.next_time <= now
    rank = case(
        # Who asked to be called belongs to whoever is free first.
        (and_(state == "CALLBACK", or_(mine, entry.owner == ""), due), 0),
        (and_(state == "RETRY", or_(mine, entry.owner == ""), due), 1),
        (and_(state == "CALLBACK", entry.next_time <= now - OTHERS), 2),
        (and_(state == "NEW", or_(mine, entry.owner == "")), 3),
    )
    free = or_(entry.state.in_(WAITING), and_(entry.state == "LOCKED", entry.lock_until_time <= now))
    return (
        select(entry)
        .where(entry.call_list == name, free, rank.is_not(None))
        .order_by(rank, entry.next_time, entry.score.desc(), entry.create_time, entry.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )


async def refusing(keys: Iterable[str], call: Call) -> set[str]:
    """Those of some numbers and records that do not want to be called."""
    return await _known(select(DoNotCall.key).where(DoNotCall.key.in_([key for key in keys if key])), call)


async def refuse(keys: Iterable[str], call: Call) -> None:
    """Calls somebody no more: what is open on any list is skipped at once."""
    named = [key for key in keys if key]
    if not named:
        return
    await call.db.execute(insert(DoNotCall).values([{"key": key} for key in named]).on_conflict_do_nothing())
    asked = select(CallEntry).where(
        CallEntry.state.in_(OPEN), or_(CallEntry.number_called.in_(named), CallEntry.subject.in_(named))
    )
    async with call.everybody():
        for entry in await call.db.scalars(asked.order_by(CallEntry.id).with_for_update()):
            entry.leave_out(_NOBODY)


async def allow(key: str, call: Call) -> None:
    """May be called again."""
    await call.db.execute(delete(DoNotCall).where(DoNotCall.key == key))


async def recently_called(numbers: Sequence[str], since: datetime, call: Call) -> set[str]:
    """Those of some numbers that were called since."""
    from sales.model.phone_call import PhoneCall

    asked = select(PhoneCall.to_number).where(
        PhoneCall.to_number.in_(numbers), PhoneCall.start_time >= since, PhoneCall.state != "FAILED"
    )
    return await _known(asked, call)


async def _known(statement: Any, call: Call) -> set[str]:
    async with call.everybody():
        return set(await call.db.scalars(statement))


async def _owner_of(subject: str, call: Call) -> str:
    if subject.startswith("leads/"):
        lead = await call.named(Lead, subject)
        return lead.owner if lead else ""
    return str((await call.copy(subject) or {}).get("owner", "")) if subject else ""


async def workers_of(
    subject: str, territories: Sequence[Territory], tree: TerritoryMap, call: Call
) -> list[str]:
    """Who looks after the territory that a record lies in: its owner, then its members."""
    if subject.startswith("leads/"):
        lead = await call.named(Lead, subject)
        match = tree.match(Place(subject, lead.division_code, "", lead.industry)).get("") if lead else None
        code = match.code if match else ""
    else:
        known = await call.copy(subject) or {}
        account = str(known.get("account", "")) if subject.startswith("contacts/") else subject
        lies = (TerritoryAccount.account == account, TerritoryAccount.product_line == "")
        async with call.everybody():
            found = await call.find(TerritoryAccount, *lies) if account else None
        code = next((one.code for one in territories if found and one.name == found.territory), "")
    if not code:
        return []
    members = [one.employee for one in tree.nodes[code].members if works(one, call.now)]
    return [owner_of(code, tree.nodes, call.now), *members]


def _mixed(turns: list[str], people: list[str]) -> list[str]:
    """The turns in rounds, so that nobody has all the best ones."""
    seen, placed = Counter[str](), list[tuple[int, int, str]]()
    for person in turns:
        placed.append((seen[person], people.index(person), person))
        seen[person] += 1
    return [person for _, _, person in sorted(placed)]


def dialled(phones: Iterable[Any]) -> str:
    """The number to call first, in E.164, of those that are not known to be wrong."""
    ordered = sorted((phone for phone in phones if phone.valid), key=lambda phone: not phone.primary)
    return next((number for phone in ordered if (number := e164(phone.number))), "")


def dialled_of(phones: Iterable[dict[str, Any]]) -> str:
    """The same of the copy of a customer or contact."""
    ordered = sorted(
        (phone for phone in phones if phone.get("valid")), key=lambda phone: not phone.get("primary")
    )
    return next((number for phone in ordered if (number := e164(str(phone.get("number", ""))))), "")


async def place_of(subject: str, call: Call) -> str:
    """The division where a lead, a customer or one of its people is; empty where nobody knows."""
    if subject.startswith("leads/"):
        async with call.everybody():
            lead = await call.named(Lead, subject)
        return lead.division_code if lead else ""
    known = (await call.copy(subject) or {}) if subject.startswith(("accounts/", "contacts/")) else {}
    told = [one.get("divisionCode", "") for one in known.get("addresses", [])]
    if not any(told) and (account := str(known.get("account", ""))):
        told = [one.get("divisionCode", "") for one in (await call.copy(account) or {}).get("addresses", [])]
    return next(filter(None, told), "")


@dataclass(frozen=True)
class Asked:
    """Somebody who asks to be called, by a ticket on a queue."""

    ticket: str
    queue: str
    subject: str
    display_name: str
    number: str
    note: str
    pages: Sequence[Any] = ()


async def ask_back(asked: Asked, call: Call) -> None:
    """He stands first on the list of the queue, once for each ticket, with what is known of him."""
    number = e164(asked.number)
    if not number and asked.subject:
        number = dialled_of((await call.copy(asked.subject) or {}).get("phones", []))
    if not number or await call.find(CallEntry, CallEntry.origin == asked.ticket) is not None:
        return
    # One that is not called now keeps him until it is.
    lists = select(CallList).where(
        CallList.queue == asked.queue, CallList.state.in_(("RUNNING", "PAUSED", "DRAFT"))
    )
    async with call.everybody():
        book = await call.db.scalar(
            lists.order_by((CallList.state == "RUNNING").desc(), CallList.id.desc()).limit(1)
        )
    if book is None:
        return
    await call.one_at_a_time(["callEntries"])
    at = book.hours.next_open(call.now, zone_of(number, await place_of(asked.subject, call)))
    there = await call.find(
        CallEntry, CallEntry.number_called == number, CallEntry.state.in_(OPEN), lock=True
    )
    if there is not None:
        # Whoever has him already calls him first; while somebody is at it, it is promised behind that.
        there.origin, there.next_time, there.note, there.notice_step = asked.ticket, at, asked.note, ""
        there.pages = list(asked.pages)
        if there.state == "LOCKED":
            there.locked_from = "CALLBACK"
        else:
            there.state = "CALLBACK"
        return
    row = CallEntry(
        display_name=asked.display_name[:200] or number, call_list=book.name, subject=asked.subject, number_called=number,
        state="CALLBACK", next_time=at, note=asked.note, origin=asked.ticket, pages=list(asked.pages),
        department=book.department, owner="", creator=call.caller.actor,
    )  # fmt: skip
    await call.add(row)


async def agents_left(employee: str, call: Call) -> None:
    """What somebody promised and had to call goes to those who supervise the lists."""
    asked = select(CallEntry).where(CallEntry.owner == employee, CallEntry.state.in_(OPEN))
    owners: dict[str, str] = {}
    for entry in await call.db.scalars(asked.order_by(CallEntry.id).with_for_update()):
        if entry.call_list not in owners:
            found = await call.named(CallList, entry.call_list)
            owners[entry.call_list] = found.owner if found else ""
        entry.put_back()
        entry.owner = owners[entry.call_list] if entry.state == "CALLBACK" else ""
