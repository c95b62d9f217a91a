"""Tickets: what a customer asks for, until it is solved and closed."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from crm.servicedesk.v1 import events_pb2 as events
from crm.servicedesk.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.mapping import mapper, to_timestamp
from crmkit.phones import e164
from crmkit.resource import Resource
from servicedesk import clocks
from servicedesk.model.base import Base
from servicedesk.model.queue import Queue
from servicedesk.model.sla_policy import SlaPolicy
from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped

RUNNING = ("ACKNOWLEDGED", "IN_PROGRESS")
RESTING = ("HELD", "PENDING")
OPEN = (*RUNNING, *RESTING)
# 受理 → 记录 → 调查 → 方案 → 客户确认 → 执行 → 回访 → 改进
STEPS = ("RECEIVE", "RECORD", "INVESTIGATE", "PROPOSE", "CONFIRM", "EXECUTE", "FOLLOW_UP", "IMPROVE")
LONGEST_SEARCHED = 2000
# Pages of a visitor, and for how many days they are kept.
PAGES_KEPT, PAGES_DAYS = 50, 30


class Ticket(Resource, Base):
    """One request of a customer. Its department is that of its queue; its owner has it in hand."""

    __message__ = pb.Ticket
    refers_by = ("related",)
    __table_args__ = (
        Index("tickets_source_key", "source", unique=True, postgresql_where=text("source <> ''")),
        Index("tickets_next_escalation_time_index", "next_escalation_time"),
        Index("tickets_resolve_time_index", "resolve_time", postgresql_where=text("state = 'RESOLVED'")),
    )

    description: Mapped[str]
    type: Mapped[str]
    priority: Mapped[str]
    channel: Mapped[str]
    account: Mapped[str]
    contact: Mapped[str]
    requester_address: Mapped[str]
    queue: Mapped[str]
    assignee: Mapped[str]
    awaiting: Mapped[str]
    resolution: Mapped[Any]
    steps: Mapped[Any]
    messages: Mapped[Any]
    notes: Mapped[Any]
    clocks: Mapped[Any]
    sla_policy: Mapped[str]
    next_escalation_time: Mapped[datetime | None]
    breached: Mapped[bool]
    reopen_count: Mapped[int]
    parent: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]
    resolve_time: Mapped[datetime | None]
    close_time: Mapped[datetime | None]
    end_reason: Mapped[str]
    service_tier: Mapped[str]
    pages: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """Completes a new ticket: who asks, the queue and its department, the steps of a complaint, the clocks."""
        self.state, self.priority = "ACKNOWLEDGED", self.priority or "P3"
        if call.caller.account:
            self.account, self.channel = call.caller.account, "PORTAL"
        self.channel = self.channel or "PHONE"
        if self.contact and not self.account:
            self.account = (await call.copy(self.contact) or {}).get("account", "")
        if self.channel != "INTERNAL" and not (self.account or self.contact or self.requester_address):
            raise FailedPrecondition("REQUESTER_REQUIRED")
        if queue := await self._queue(call):
            self.queue, self.department = queue.name, queue.department or self.department
        if self.type == "COMPLAINT":
            self.steps = [pb.Ticket.Step(key=key) for key in STEPS]
        await self._tier(call)
        await self._promise(call)
        requester = self.contact or self.requester_address or self.account or self.owner
        call.emit(events.TicketOpened, ticket=self, requester=requester, source=self.source)

    @classmethod
    async def asked_back(cls, queue: Queue, request: pb.AskCallBackRequest, call: Call) -> None:
        """A visitor of the web site wants to be called. One who asks again is one ticket while that is open."""
        if not queue.web_callbacks:
            raise FailedPrecondition("NO_CALLBACKS")
        number = e164(request.phone)
        if not number:
            raise FailedPrecondition("PHONE_NEEDED")
        waits = (cls.queue == queue.name, cls.type == "CALLBACK", cls.requester_address == number)
        async with call.everybody():
            if request.website or await call.find(cls, *waits, cls.state.in_(OPEN)) is not None:
                return
        who = request.person.strip() or number
        await call.add(
            cls(
                display_name=call.text(f"{who} 请求回电", f"{who} asks to be called"),
                description=request.note or call.text("网站回拨", "Call-back from the web site"),
                type="CALLBACK", severity="MINOR", channel="FORM", requester_address=number, queue=queue.name,
                owner=queue.owner, department=queue.department, pages=_kept(request, call),
            )
        )  # fmt: skip

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """An open ticket changes; its queue moves it to a department, its priority reckons the clocks again."""
        self.check_state(*OPEN, "RESOLVED")
        if "owner" in changed:
            self._give(self.owner, "ASSIGN", call)
        if "queue" in changed and (queue := await self._queue(call)):
            self.department = queue.department or self.department
        if changed & {"priority", "type", "severity", "account", "queue"}:
            self.priority = self.priority or "P3"
            if "account" in changed:
                await self._tier(call)
            await self._promise(call)

    async def assign(self, assignee: str, call: Call) -> None:
        """Gives it to an employee of its queue; who opened it goes on seeing it."""
        self.check_state(*OPEN)
        entry = call.entry(assignee)
        if not entry or entry.get("disabled"):
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        queue = await self._queue(call)
        if queue:
            queue.check_member(assignee)
        if self.owner and self.owner != assignee and not self.assignee:
            self.collaborators = [*dict.fromkeys([*self.collaborators, self.owner])]
        if not (queue and queue.department):
            self.department = entry.get("department", self.department)
        self.owner = assignee
        self._give(assignee, "ASSIGN", call)

    def release(self, call: Call) -> None:
        """Gives it back to its queue."""
        self.check_state(*OPEN)
        self.owner = ""
        self._give("", "RELEASE", call)

    async def start(self, call: Call) -> None:
        """Starts work; who starts what nobody has, has it."""
        self.check_state("ACKNOWLEDGED")
        if not self.assignee and call.caller.employee:
            await self.assign(call.caller.employee, call)
        await self._move("IN_PROGRESS", call)

    async def hold(self, call: Call) -> None:
        """Holds it for reasons of our own."""
        self.check_state("IN_PROGRESS")
        await self._move("HELD", call)

    async def wait(self, awaiting: str, call: Call) -> None:
        """Waits for somebody else."""
        self.check_state("IN_PROGRESS")
        if not awaiting:
            raise FailedPrecondition("AWAITING_REQUIRED")
        self.awaiting = awaiting
        await self._move("PENDING", call)

    async def resume(self, call: Call) -> None:
        """Goes on with what was left of the time."""
        self.check_state(*RESTING)
        await self._move("IN_PROGRESS", call)

    async def resolve(self, code: str, text: str, call: Call) -> None:
        """Solves it; the solution is said to the customer."""
        self.check_state("IN_PROGRESS")
        if not code or not text:
            raise FailedPrecondition("RESOLUTION_REQUIRED")
        if step := next((step for step in self.steps if not step.HasField("time")), None):
            raise FailedPrecondition("COMPLAINT_STEP_OPEN", step=step.key)
        if children := await self._open_children(call):
            raise FailedPrecondition("CHILDREN_OPEN", count=children)
        self.resolution = pb.Ticket.Resolution(code=code, text=text)
        self.resolve_time = call.now
        self.messages = [*self.messages, _message(text, False, call)]
        await self._move("RESOLVED", call, tell=False)
        call.emit(events.TicketResolved, ticket=self)

    async def close(self, call: Call) -> None:
        """Ends it for ever."""
        self.check_state("RESOLVED")
        self.close_time = call.now
        await self._move("CLOSED", call, tell=False)
        call.emit(events.TicketClosed, ticket=self)

    async def reopen(self, reason: str, call: Call) -> None:
        """The customer is not content with the solution."""
        self.check_state("RESOLVED")
        if not reason:
            raise FailedPrecondition("REASON_REQUIRED")
        queue = await self._queue(call)
        days = queue.reopen_days if queue else 7
        if self.resolve_time is None or self.resolve_time + timedelta(days=days) < call.now:
            raise FailedPrecondition("REOPEN_WINDOW_OVER", days=days)
        self.end_reason, self.reopen_count = reason, self.reopen_count + 1
        await self._move("IN_PROGRESS", call, tell=False)
        call.emit(events.TicketReopened, ticket=self, reason=reason)

    async def reject(self, reason: str, call: Call) -> None:
        """Refuses a new one."""
        self.check_state("ACKNOWLEDGED")
        await self._end("REJECTED", reason, call)

    async def cancel(self, reason: str, call: Call) -> None:
        """Nobody needs it any more. What is held is resumed first."""
        self.check_state(*RUNNING, "PENDING")
        await self._end("CANCELLED", reason, call)

    def complete_step(self, text: str, call: Call) -> None:
        """Notes that the next step of a complaint is done."""
        self.check_state(*OPEN)
        at = next((i for i, step in enumerate(self.steps) if not step.HasField("time")), None)
        if at is None:
            raise FailedPrecondition("STEP_NOT_OPEN")
        done = pb.Ticket.Step(
            key=self.steps[at].key, actor=call.caller.actor, time=to_timestamp(call.now), text=text
        )
        self.steps = [*self.steps[:at], done, *self.steps[at + 1 :]]

    async def comment(self, text: str, internal: bool, from_customer: bool, call: Call) -> None:
        """Adds a message or a note. A customer's words go on with what waits or was solved."""
        self.check_state(*OPEN, "RESOLVED")
        if call.caller.account:
            internal, from_customer = False, True
        message = _message(text, from_customer, call)
        if internal:
            self.notes = [*self.notes, message]
            return
        self.messages = [*self.messages, message]
        if not from_customer:
            await self._run_clocks(call, answered=True)
        elif self.state == "PENDING":
            await self.resume(call)
        elif self.state == "RESOLVED":
            await self.reopen(text[:1000], call)

    def escalate(self, as_of: datetime, call: Call) -> None:
        """Tells warnings and breaches that are due, the warning first, each once."""
        found: list[pb.Ticket.Clock] = []
        for clock in self.clocks:
            copy = pb.Ticket.Clock()
            copy.CopyFrom(clock)
            if copy.state == "RUNNING":
                if not copy.warned and not copy.breached and clocks.instant(copy.warn_time) <= as_of:
                    copy.warned = True
                    self._tell(events.SlaWarned, copy, clocks.instant(copy.warn_time), call)
                if not copy.breached and clocks.instant(copy.due_time) <= as_of:
                    copy.breached = self.breached = True
                    self._tell(events.SlaBreached, copy, clocks.instant(copy.due_time), call)
            found.append(copy)
        self.clocks = found
        self.next_escalation_time = clocks.next_escalation(found)

    def search_texts(self, hidden: Collection[str] = ()) -> list[str]:
        """The beginning of a long description finds it, too."""
        names = [
            name
            for name in ("number", "display_name", "requester_address", "description")
            if name not in hidden
        ]
        return [found for name in names if (found := getattr(self, name)[:LONGEST_SEARCHED])]

    async def _end(self, state: str, reason: str, call: Call) -> None:
        if not reason:
            raise FailedPrecondition("REASON_REQUIRED")
        self.end_reason, self.close_time = reason, call.now
        await self._move(state, call)

    async def _move(self, state: str, call: Call, tell: bool = True) -> None:
        """Sets the state and what follows from it: every move tells one fact."""
        before, self.state = self.state, state
        if state != "PENDING":
            self.awaiting = ""
        await self._run_clocks(call)
        if tell:
            call.emit(events.TicketStateChanged, ticket=self, **{"from": before, "to": state})

    def _give(self, employee: str, rule: str, call: Call) -> None:
        before, self.assignee = self.assignee, employee
        if before != employee:
            call.emit(events.TicketAssigned, ticket=self, **{"from": before, "to": employee, "rule": rule})

    async def _queue(self, call: Call) -> Queue | None:
        if self.queue:
            return await call.named(Queue, self.queue)
        return await call.find(Queue, Queue.is_default)

    async def _open_children(self, call: Call) -> int:
        statement = select(func.count()).where(Ticket.parent == self.name, Ticket.state.in_(OPEN))
        async with call.everybody():
            return await call.db.scalar(statement) or 0

    async def _tier(self, call: Call) -> None:
        account = await call.copy(self.account) if self.account else None
        self.service_tier = (account or {}).get("serviceTier", "")

    async def _promise(self, call: Call) -> None:
        """Takes the policy that fits now; clocks that ran go on with its promises, the others end."""
        record = call.running.json_of(mapper(Ticket).message(self))
        statement = select(SlaPolicy).where(SlaPolicy.state == "ACTIVE").order_by(SlaPolicy.order)
        policies = (await call.db.scalars(statement)).all()
        policy = next((policy for policy in policies if policy.fits(record, call.now)), None)
        self.sla_policy = policy.name if policy else ""
        found: list[pb.Ticket.Clock] = []
        if policy:
            work, percent = policy.working_time(), policy.warn_percent
            known = {pb.SlaPolicy.ClockKind.Name(clock.kind): clock for clock in self.clocks}
            for kind, minutes in policy.promised(self.priority).items():
                if kind in known:
                    found.append(clocks.retargeted(known[kind], minutes, call.now, work, percent))
                else:
                    found.append(clocks.started(kind, minutes, call.now, work, percent))
        self.clocks = found
        self.breached = any(clock.breached for clock in found)
        if self.state in OPEN:
            await self._run_clocks(call)

    async def _run_clocks(self, call: Call, answered: bool = False) -> None:
        """Lets the clocks run, rest or end as the state says; a public answer ends the first response."""
        policy = await call.named(SlaPolicy, self.sla_policy)
        if policy is None:
            self.next_escalation_time = None
            return
        work = policy.working_time()
        state = "RUNNING" if self.state in RUNNING else "PAUSED" if self.state in RESTING else "DONE"
        found: list[pb.Ticket.Clock] = []
        for clock in self.clocks:
            response = clock.kind == pb.SlaPolicy.FIRST_RESPONSE
            wanted = "DONE" if response and (answered or clock.state == "DONE") else state
            found.append(clock if wanted == clock.state else clocks.moved(clock, wanted, call.now, work))
        self.clocks = found
        self.next_escalation_time = clocks.next_escalation(found)

    def _tell(self, event: Any, clock: pb.Ticket.Clock, due: datetime, call: Call) -> None:
        breach = event is events.SlaBreached
        entry = call.entry(self.assignee)
        people = [self.assignee or self.owner, entry.get("superior") or "" if breach else ""]
        step = 100 if breach else clock.warn_percent
        used = clock.target_minutes * step // 100
        call.emit(
            event, ticket=self, clock=clock.kind, step=step, due_time=due,
            in_minutes=used, diff_minutes=clock.target_minutes - used, recipients=[one for one in people if one],
        )  # fmt: skip


def _message(words: str, from_customer: bool, call: Call) -> pb.Ticket.Message:
    return pb.Ticket.Message(
        actor=call.caller.actor, time=to_timestamp(call.now), text=words, from_customer=from_customer
    )


def _kept(request: pb.AskCallBackRequest, call: Call) -> list[Any]:
    """The last pages that were looked at, if their visitor agrees; addresses without what forms and campaigns add."""
    if not request.pages_consent:
        return []
    kept: list[Any] = []
    for one in request.pages[-PAGES_KEPT:]:
        page = pb.Ticket.Page(address=one.address.partition("?")[0].partition("#")[0], title=one.title)
        page.time.CopyFrom(one.time if one.HasField("time") else to_timestamp(call.now))
        kept.append(page)
    return kept
