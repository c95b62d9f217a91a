"""Facts heard: each handler has its effect once.

    outbox → Relay → JetStream → Consumers → handler, with its inbox row, in one transaction → ack

A fact may be delivered twice, late or out of order, never not at all; the inbox row makes its effect
happen once. A fact that a handler refuses too often becomes a dead letter and the others flow on.

Facts that are there together share transactions: one for all handlers that take lists, and one for those that take
facts one by one. Where such a transaction fails its parts are tried again, down to one handler with one fact.

A pack (`packs`) goes through lists as a whole, with one inbox row; where it is refused, its facts have rows of their
own. Handlers that take facts one by one get its facts so.
"""

# pyright: reportUnknownMemberType=false
# The NATS client tells the types of some of its methods only in part.

import asyncio
import contextlib
import inspect
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from crmkit import packs
from crmkit.background import ended, forever, lingering, stopping
from crmkit.bus import Bus
from crmkit.catalog import codec
from crmkit.driver import driver
from crmkit.metrics import Metrics
from crmkit.tables import DeadLetter

# How many facts are under way in handlers that take them one by one, and how many of them share a transaction: few
# enough to hold locks for a moment only.
AT_ONCE = 64
ONE_BY_ONE = 8
TOGETHER = 128
# Where the last list was this short ago, one that is not full waits for more facts: the longer, the more the last had.
FLOW_SECONDS = 0.4
LINGER = (0.02, 0.25)
# Somebody waits for what is done one by one, and for the lists before it.
PROMPT_SECONDS = 0.06
FULL = 8
# A fact that came more often than this is in no list: what takes a process down would take others along.
TRUSTED = 2
PULL = 64
# A request waits so long at the broker: 64 consumers that ask every two seconds cost an idle machine a tenth of a core.
PULL_SECONDS = 10.0
COUNT_SECONDS = 5.0
# More than the largest fact; of packs only some are pulled at once, and read.
PULL_BYTES = 1_000_000
PACKS = 3
# So many facts are read and wait for their turn; the others wait at the broker.
MANY = 512
ACK_WAIT = 30
ATTEMPTS = 5
BACK_OFF = (1.0, 2.0, 5.0, 10.0)
# A fact whose handler takes the process down never fails in Python: its deliveries give it away.
DELIVERIES = 10
STOP_SECONDS = 15.0
# What a change fact says has been done.
ACTIONS = ("CREATED", "UPDATED", "DELETED")

log = logging.getLogger(__name__)
tracer = trace.get_tracer("crmkit.events")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as it came, for handlers that read every kind."""

    subject: str
    id: UUID
    time: datetime
    actor: str
    aggregate: str
    version: int | None
    payload: dict[str, Any]
    # The trace of the request that it came of, as W3C traceparent.
    trace: str = ""

    @property
    def message(self) -> Message:
        """The fact as its message; KeyError where this process knows no such message."""
        area_message = self.subject.rpartition(".")[2]
        pool = descriptor_pool.Default()
        names = (self.subject, f"crm.common.v1.{area_message}")
        for name in names:
            with contextlib.suppress(KeyError):
                return _read(GetMessageClass(pool.FindMessageTypeByName(name)), self.payload)
        raise KeyError(self.subject)

    @property
    def record(self) -> dict[str, Any]:
        """The resource that it is about: the one of its aggregate, else the first; empty where it carries none."""
        found: list[dict[str, Any]] = [
            one for one in self.payload.values() if isinstance(one, dict) and "name" in one
        ]
        return next((one for one in found if one["name"] == self.aggregate), found[0] if found else {})


class HandlerCall(Protocol):
    """What this module needs of a call."""

    method: str

    async def flush(self) -> None:
        """Writes what a handler has changed so far."""

    @property
    def db(self) -> AsyncSession:
        """The session of the call's transaction."""
        ...


class OpenCall(Protocol):
    """Opens a call of the system itself: a transaction, committed when left, rolled back by an exception."""

    def __call__(self, method: str, cause: Fact | None) -> AbstractAsyncContextManager[HandlerCall]: ...


Function = Callable[[Any, Any], Awaitable[None]]
F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that listens: to which subjects, and as what it takes the fact."""

    name: str
    function: Function
    patterns: tuple[str, ...]
    takes: type[Message] | type[Fact]
    together: bool = False

    def hears(self, subject: str) -> bool:
        """Whether the subject is one of those listened to."""
        return any(covers(pattern, subject) for pattern in self.patterns)

    async def __call__(self, facts: Sequence[Fact], call: HandlerCall) -> None:
        """Gives the function the facts: all at once if it takes a list, else the only one."""
        if self.together:
            return await self.function(list(facts), call)
        (fact,) = facts
        event = fact if self.takes is Fact else _read(cast("type[Message]", self.takes), fact.payload)
        return await self.function(event, call)


def listens(*patterns: str) -> Callable[[F], F]:
    """Says which subjects a handler hears, where the annotation of its event does not say it all.

    `crm.sales.v1.ResourceChanged` are all changes of an area, `….ResourceChanged.leads` those of one collection and
    `….ResourceChanged.leads.DELETED` (or `….*.DELETED`) of one kind: what nobody hears is not delivered.
    """

    def mark(function: F) -> F:
        function.__dict__["listens"] = patterns
        return function

    return mark


def handler_of(function: Function) -> Handler:
    """Reads from the annotation of the first parameter what the function listens to."""
    name = getattr(function, "__name__", repr(function))
    parameter = next(iter(inspect.signature(function).parameters.values()))
    takes: Any = parameter.annotation
    if isinstance(takes, str):
        takes = eval(takes, inspect.unwrap(function).__globals__)
    if together := takes == list[Fact]:
        takes = Fact
    if not (inspect.isclass(takes) and issubclass(takes, Fact | Message)):
        raise TypeError(f"{name}: the event must be annotated with a message, with Fact or with list[Fact]")
    patterns: tuple[str, ...] = function.__dict__.get("listens", ())
    if not patterns and takes is Fact:
        patterns = ("crm.>",)
    elif not patterns:
        # Messages of crm.common are sent by every area under its own name.
        full_name = cast("type[Message]", takes).DESCRIPTOR.full_name
        patterns = (full_name.replace("crm.common.", "crm.*.", 1),)
    return Handler(name, function, tuple(map(_of_changes, patterns)), takes, together)


def _of_changes(pattern: str) -> str:
    """Changes are sent as `crm.<area>.v1.ResourceChanged.<collection>.<action>`; what is not said means all."""
    tokens = pattern.split(".")
    return f"{pattern}{'.*' * (6 - len(tokens))}" if tokens[3:4] == ["ResourceChanged"] else pattern


def covers(pattern: str, subject: str) -> bool:
    """Whether a NATS pattern takes in a subject or another pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def filters(handlers: Sequence[Handler], area: str) -> list[str]:
    """The subjects of one area that the handlers hear, no two with a fact in common, as JetStream wants it."""
    found: set[str] = set()
    for pattern in (pattern for handler in handlers for pattern in handler.patterns):
        tokens = pattern.split(".")
        if tokens[1] == ">":
            found.add(f"crm.{area}.v1.>")
        elif tokens[1] in ("*", area):
            found.add(".".join(("crm", area, *tokens[2:])))
    if any(".ResourceChanged.*." in one for one in found):
        # All changes of one collection, and one kind of change of all, have facts in common: told apart by action.
        found = {part for one in found for part in _by_action(one)}
    return sorted(one for one in found if not any(covers(other, one) for other in found - {one}))


def _by_action(pattern: str) -> list[str]:
    head, _, action = pattern.rpartition(".")
    apart = action == "*" and ".ResourceChanged." in head and not head.endswith(".*")
    return [f"{head}.{one}" for one in ACTIONS] if apart else [pattern]


_FIRST_TIMES = (
    "INSERT INTO inbox (event_id, together, handlers)"
    " SELECT id, $2, string_to_array(names, ',') FROM unnest($1::uuid[], $3::text[]) AS told(id, names)"
    " ON CONFLICT DO NOTHING RETURNING event_id"
)
_SEEN = (
    "SELECT event_id, handlers FROM inbox WHERE event_id = ANY($1::uuid[]) AND together = $2"
    " ORDER BY event_id FOR UPDATE"
)
_MORE = (
    "UPDATE inbox SET handlers = handlers || string_to_array(told.names, ',')"
    " FROM unnest($1::uuid[], $3::text[]) AS told(id, names) WHERE event_id = told.id AND together = $2"
)
_Work = list[tuple["Handler", list["_Arrival"]]]


# What of a pack was handled before, whole or in parts: its facts have the numbers behind its own.
_BEFORE = (
    "SELECT event_id, unnest(handlers) FROM unnest($1::uuid[], $2::uuid[]) AS pack(first, last)"
    " JOIN inbox ON event_id BETWEEN first AND last WHERE together = $3"
)
# Two replicas never have the whole and a part at once.
_ONE_AT_A_TIME = "SELECT count(pg_advisory_xact_lock(key)) FROM unnest($1::bigint[]) AS key"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A message on its way through handlers of one kind; `done` says whether all are done with it.

    It has one fact, or those of a bundle, or of a pack all, or a part of them where the whole was refused.
    """

    message: Msg
    facts: Sequence[Fact]
    deliveries: int
    done: asyncio.Future[bool]
    # When its message came.
    begun: float
    pack: UUID | None = None
    last: UUID | None = None
    whole: bool = False

    @property
    def keys(self) -> Sequence[UUID]:
        """The events of its inbox rows."""
        return (self.pack,) if self.whole and self.pack else [fact.id for fact in self.facts]

    def fresh(self, handler: str, new: set[tuple[UUID, str]], before: set[tuple[UUID, str]]) -> list[Fact]:
        """What of it the handler has not handled before."""
        if self.pack is None:
            return [fact for fact in self.facts if (fact.id, handler) in new]
        if self.whole:
            there = (self.pack, handler) in new
            return [fact for fact in self.facts if there and (fact.id, handler) not in before]
        gone = (self.pack, handler) in before
        return [fact for fact in self.facts if not gone and (fact.id, handler) in new]


class _Lane:
    """Facts that wait for the next transaction of handlers of one kind, and when the last one was."""

    def __init__(self, together: bool, most: int) -> None:
        self.together, self.most = together, most
        self.arrived: deque[_Arrival] = deque()
        self.some = asyncio.Event()
        self.listed, self.came = -FLOW_SECONDS, 0

    async def linger(self, awaited: asyncio.Event) -> None:
        """Waits for more of the facts that flow, to take them in one transaction; not for long where one is awaited."""
        seconds = lingering(*LINGER, self.came, FULL)
        # What comes one by one has waited already, with those that lists took before it.
        waited = 0.0 if self.together else time.monotonic() - self.arrived[0].begun
        await asyncio.sleep(min(seconds, PROMPT_SECONDS) - waited)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - max(waited, PROMPT_SECONDS)):
                await awaited.wait()


async def dead_letters(engine: AsyncEngine) -> list[dict[str, Any]]:
    """The dead letters that wait for a person, oldest first: what an operator needs to decide."""
    statement = "SELECT id, handler, subject, error, first_time FROM dead_letters WHERE resolved_at IS NULL ORDER BY id"
    async with engine.connect() as connection:
        rows = (await connection.execute(text(statement))).mappings()
        return [{**row, "first_time": row["first_time"].isoformat()} for row in rows]


class Consumers:
    """Runs the handlers of an app over the streams of the areas they listen to.

    One durable consumer per app and stream, shared by all replicas. Facts of one aggregate are handled
    one after another within a process, those of a list in turns that have at most one of each; across
    replicas and after a failure they may come in any order.
    """

    def __init__(
        self,
        app: str,
        areas: Sequence[str],
        functions: Sequence[Function],
        open_call: OpenCall,
        engine: AsyncEngine,
        bus: Bus,
        metrics: Metrics,
        ack_wait: float = ACK_WAIT,
        back_off: Sequence[float] = BACK_OFF,
        resolve: Callable[[Fact], Fact] = lambda fact: fact,
    ) -> None:
        self.handlers = [handler_of(function) for function in functions]
        if len({handler.name for handler in self.handlers}) != len(self.handlers):
            raise ValueError(f"{app}: two handlers have the same name")
        self._app = app
        self._filters = {area: found for area in areas if (found := filters(self.handlers, area))}
        self._open_call = open_call
        self._engine = engine
        self._bus = bus
        self._metrics = metrics
        self._ack_wait = ack_wait
        self._back_off = back_off
        # Names of merged records are read as their survivors'.
        self._resolve = resolve
        self._slots = asyncio.Semaphore(AT_ONCE)
        # Whether a fact is under way that somebody waits for, and how many are.
        self._awaited, self._singly = asyncio.Event(), 0
        self._packs = asyncio.Semaphore(PACKS)
        self._concerned: dict[str, tuple[list[Handler], list[Handler]]] = {}
        self._lists = _Lane(together=True, most=TOGETHER)
        self._singles = _Lane(together=False, most=ONE_BY_ONE)
        self._answers: set[asyncio.Task[None]] = set()
        self._under_way, self._fewer = 0, asyncio.Event()
        # The last fact of each aggregate that is under way.
        self._last: dict[str, asyncio.Future[Any]] = {}

    def listen_to(self, area: str) -> bool:
        """True where some handler hears facts of the area."""
        return area in self._filters

    def hear(self, subject: str) -> bool:
        """True where some handler hears facts with this subject of the bus."""
        return any(covers(one, subject) for one in self._filters.get(subject.split(".")[1], ()))

    async def run(self) -> None:
        """Listens until cancelled; then finishes what it has begun and gives the rest back."""
        lanes = [
            asyncio.create_task(
                forever(lambda lane=lane: self._take_list(lane), 0), name=f"{self._app} facts"
            )
            for lane in (self._lists, self._singles)
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for area in self._filters:
                    tasks.create_task(forever(lambda area=area: self._listen(area), 0))
        finally:
            if begun := list(self._last.values()):
                _, late = await asyncio.wait(begun, timeout=STOP_SECONDS)
                for task in late:
                    task.cancel()
            await ended(lanes)
            await asyncio.gather(*self._answers, return_exceptions=True)

    async def replay(self, id: int) -> None:
        """Runs the handler of a dead letter again, now, and raises what it raises."""
        async with self._engine.connect() as connection:
            letter = (
                await connection.execute(text("SELECT * FROM dead_letters WHERE id = :id"), {"id": id})
            ).one()
        handler = next(handler for handler in self.handlers if handler.name == letter.handler)
        (fact,) = _facts(letter.headers, letter.payload)
        await self._effect(handler, fact)
        async with self._engine.begin() as connection:
            await connection.execute(
                text("UPDATE dead_letters SET resolved_at = clock_timestamp() WHERE id = :id"), {"id": id}
            )

    async def _listen(self, area: str) -> None:
        """Makes the consumer and pulls from it, until it is gone or the connection is another one."""
        js = await self._bus.connected()
        stream = await self._bus.ensure_stream(area)
        config = ConsumerConfig(
            durable_name=self._app,
            filter_subjects=self._filters[area],
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait,
            max_ack_pending=4 * PULL,
            # The broker would drop a fact silently where we write a dead letter; so the limit is ours.
            max_deliver=-1,
        )
        await js.add_consumer(stream, config)
        inbox, inlet = self._bus.client.new_inbox(), _Inlet()
        subscription = await self._bus.client.subscribe(inbox, cb=inlet.put)
        connection, counted = self._bus.connections, 0.0
        try:
            while connection == self._bus.connections and not stopping():
                silent = not await self._pull(stream, inbox, inlet)
                if silent or time.monotonic() - counted > COUNT_SECONDS:
                    info = await js.consumer_info(stream, self._app)
                    waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
                    self._metrics.pending.labels(self._app, stream).set(waiting)
                    counted = time.monotonic()
        finally:
            await self._give_back(subscription, inlet)

    async def _pull(self, stream: str, inbox: str, inlet: "_Inlet") -> bool:
        """Asks once for facts and begins those that come; False where none came for a while."""
        asked = {"batch": PULL, "max_bytes": PULL_BYTES, "expires": int(PULL_SECONDS * 1e9)}
        ask = json.dumps(asked).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{self._app}"
        await self._bus.client.publish(subject, ask, reply=inbox)
        connection, deadline = self._bus.connections, time.monotonic() + PULL_SECONDS + 1
        for taken in range(PULL):
            # The request is gone with its connection.
            while (message := await inlet.get(1)) is None:
                if connection != self._bus.connections or time.monotonic() > deadline or stopping():
                    return False
            if not message.reply:
                # A status instead of a fact: this request is over.
                return taken > 0
            await self._begin(message)
        return True

    async def _begin(self, message: Msg) -> None:
        """Starts a fact behind the one before it of the same aggregate, when a slot is free.

        What only lists take needs no slot: one transaction is under way however many wait for it.
        """
        begun, packed = time.monotonic(), packs.HEADER in (message.headers or {})
        if packed:
            await self._packs.acquire()
        try:
            facts = [self._resolve(fact) for fact in _facts(message.headers or {}, message.data)]
        except (KeyError, TypeError, ValueError) as error:
            log.error("what no outbox has sent is not a fact: %r", error, extra={"subject": message.subject})
            if packed:
                self._packs.release()
            await message.term()
            return
        while self._under_way >= MANY:
            self._fewer.clear()
            await self._fewer.wait()
        self._under_way += len(facts)
        _, singles = self._concern(message.subject)
        # A fact about nothing in particular waits for no other.
        aggregates = {fact.aggregate or str(fact.id) for fact in facts}
        before = {self._last[one] for one in aggregates if one in self._last}
        if singles:
            await self._slots.acquire()
            self._singly += 1
            self._awaited.set()
        if singles or any(isinstance(one, asyncio.Task) for one in before):
            under_way = asyncio.create_task(self._take(message, facts, before, begun))
        else:
            under_way = self._join(self._lists, message, facts, begun)
            under_way.add_done_callback(lambda done: self._answer_later(message, done))
        for one in aggregates:
            self._last[one] = under_way

        def done(ended: asyncio.Future[Any]) -> None:
            self._under_way -= len(facts)
            self._fewer.set()
            if singles:
                self._slots.release()
                self._singly -= 1
                if not self._singly:
                    self._awaited.clear()
            if packed:
                self._packs.release()
            for one in aggregates:
                if self._last.get(one) is ended:
                    del self._last[one]
            if not ended.cancelled() and (error := ended.exception()):
                log.error("a fact was left to be delivered again", exc_info=error)

        under_way.add_done_callback(done)

    def _concern(self, subject: str) -> tuple[list[Handler], list[Handler]]:
        """The handlers that hear the subject: those that take lists, and the others."""
        found = self._concerned.get(subject)
        if found is None:
            hear = [handler for handler in self.handlers if handler.hears(subject)]
            found = [h for h in hear if h.together], [h for h in hear if not h.together]
            self._concerned[subject] = found
        return found

    def _join(self, lane: _Lane, message: Msg, facts: Sequence[Fact], begun: float) -> asyncio.Future[bool]:
        """Puts a fact, or a pack, into the next list."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        deliveries = message.metadata.num_delivered
        if packs.HEADER in (message.headers or {}) and lane.together:
            pack = UUID((message.headers or {})["ce-id"])
            arrival = _Arrival(message, facts, deliveries, done, begun, pack, facts[-1].id, whole=True)
        else:
            arrival = _Arrival(message, facts, deliveries, done, begun)
        lane.arrived.append(arrival)
        lane.some.set()
        return done

    def _answer_later(self, message: Msg, done: asyncio.Future[bool]) -> None:
        """Acknowledges what only lists take, or asks for it again."""
        if not done.cancelled() and not done.exception():
            task = asyncio.ensure_future(self._answer(message, done.result()))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, message: Msg, finished: bool) -> None:
        if finished:
            await message.ack()
        else:
            deliveries = message.metadata.num_delivered
            await message.nak(self._back_off[min(deliveries, len(self._back_off)) - 1])

    async def _take(
        self, message: Msg, facts: Sequence[Fact], before: Collection[asyncio.Future[Any]], begun: float
    ) -> None:
        """Gives facts to every handler that hears them, and acknowledges their message after the commits."""
        if before:
            await asyncio.wait(before)
        lists, singles = self._concern(message.subject)
        finished = True
        if lists:
            finished &= await self._join(self._lists, message, facts, begun)
        if singles:
            done = [self._join(self._singles, message, [fact], begun) for fact in facts]
            finished &= all(await asyncio.gather(*done))
        await self._answer(message, finished)

    async def _handle(self, handler: Handler, arrival: _Arrival) -> bool:
        """True when the handler is done with the fact: its effect is committed, or it is a dead letter."""
        message, deliveries, (fact,) = arrival.message, arrival.deliveries, arrival.facts
        parent = _trace_of(fact)
        while True:
            begun, outcome = time.monotonic(), "stopped"
            try:
                if deliveries > DELIVERIES:
                    raise RuntimeError(f"delivered {deliveries} times and never finished")
                with tracer.start_as_current_span(handler.name, parent, trace.SpanKind.CONSUMER):
                    outcome = "done" if await self._effect(handler, fact, arrival) else "repeated"
                return True
            except Exception as error:
                if not await self._database_answers():
                    # Not the fact's fault, so not an attempt: it waits here for the database.
                    outcome = "waited"
                    await message.in_progress()
                    await asyncio.sleep(1)
                    continue
                dead = deliveries >= ATTEMPTS
                outcome = "dead" if dead else "failed"
                log.log(
                    logging.ERROR if dead else logging.WARNING,
                    "a handler refused a fact",
                    exc_info=error,
                    extra={"handler": handler.name, "event": str(fact.id), "attempt": deliveries},
                )
                if dead:
                    await self._bury(handler, arrival, error)
                return dead
            finally:
                self._metrics.handled.labels(self._app, handler.name, outcome).observe(
                    time.monotonic() - begun
                )

    async def _take_list(self, lane: _Lane) -> None:
        """Gives the facts that are there to the handlers of the lane."""
        await lane.some.wait()
        waiting = sum(len(arrival.facts) for arrival in lane.arrived)
        if time.monotonic() - lane.listed < FLOW_SECONDS and waiting < lane.most:
            await lane.linger(self._awaited)
        lane.listed = time.monotonic()
        batch = self._next_list(lane)
        lane.came = sum(len(arrival.facts) for arrival in batch)
        heard: dict[Handler, list[_Arrival]] = {}
        for arrival in batch:
            lists, singles = self._concern(arrival.message.subject)
            for handler in lists if lane.together else singles:
                heard.setdefault(handler, []).append(arrival)
        try:
            unfinished = await self._settle(list(heard.items()))
        except BaseException as error:
            for arrival in batch:
                if not arrival.done.done():
                    arrival.done.set_exception(error) if isinstance(
                        error, Exception
                    ) else arrival.done.cancel()
            raise
        for arrival in batch:
            if not arrival.done.done():
                arrival.done.set_result(all(fact.id not in unfinished for fact in arrival.facts))

    def _next_list(self, lane: _Lane) -> list[_Arrival]:
        """Takes what waits, one by one at most one fact of each aggregate. What came several times already comes alone."""
        taken: list[_Arrival] = []
        left: deque[_Arrival] = deque()
        held: set[str] = set()
        count = 0
        while lane.arrived and count < lane.most:
            arrival = lane.arrived.popleft()
            if arrival.done.done():
                continue
            its = {fact.aggregate or str(fact.id) for fact in arrival.facts}
            alone = arrival.deliveries > TRUSTED
            if not held.isdisjoint(its) or (alone and taken):
                left.append(arrival)
                held |= its
                continue
            taken.append(arrival)
            count += len(its)
            if alone:
                break
            if not lane.together:
                held |= its
        lane.arrived.extendleft(reversed(left))
        if not lane.arrived:
            lane.some.clear()
        return taken

    async def _settle(self, work: _Work) -> set[UUID]:
        """Has every handler take its facts; gives the facts that some handler is not done with.

        Where the list fails its parts are tried, down to one handler with one fact, so that one fails alone.
        """
        arrivals = [arrival for _, taken in work for arrival in taken]
        if len(arrivals) == 1 and len(arrivals[0].facts) == 1:
            (handler, (one,)), *_ = work
            return set() if await self._handle(handler, one) else {one.facts[0].id}
        if any(len(one.facts) > 1 and one.deliveries > ATTEMPTS for one in arrivals):
            # It is not refused and never finished: one of its facts takes the process down.
            return {id for part in _parts(work) for id in await self._settle(part)}
        begun = time.monotonic()
        while arrivals:
            try:
                new = await self._effects(work)
            except Exception as error:
                if await self._database_answers():
                    log.warning("a list of facts was refused", exc_info=error)
                    return {id for part in _parts(work) for id in await self._settle(part)}
                for arrival in arrivals:
                    await arrival.message.in_progress()
                await asyncio.sleep(1)
            else:
                spent = time.monotonic() - begun
                for handler, taken in work:
                    handled = self._metrics.handled
                    for key in (key for arrival in taken for key in arrival.keys):
                        outcome = "done" if (key, handler.name) in new else "repeated"
                        handled.labels(self._app, handler.name, outcome).observe(spent)
                break
        return set()

    async def _effects(self, work: _Work) -> set[tuple[UUID, str]]:
        """Inbox rows and effects of all handlers in one transaction; gives what had no effect before."""
        wanted: dict[UUID, list[str]] = {}
        for handler, taken in work:
            for id in (id for arrival in taken for id in arrival.keys):
                wanted.setdefault(id, []).append(handler.name)
        arrivals, together = [arrival for _, taken in work for arrival in taken], work[0][0].together
        async with self._open_call(work[0][0].name, None) as call:
            new, before = await _first_times(wanted, together, arrivals, await driver(call.db))
            for handler, taken in work:
                fresh = [(a, facts) for a in taken if (facts := a.fresh(handler.name, new, before))]
                call.method = handler.name
                if not handler.together:
                    for _, facts in fresh:
                        parent = _trace_of(facts[0])
                        with tracer.start_as_current_span(handler.name, parent, trace.SpanKind.CONSUMER):
                            await handler(facts, call)
                            await call.flush()
                        # The next one reads for itself, as in a transaction of its own.
                        call.db.expunge_all()
                elif fresh:
                    with tracer.start_as_current_span(handler.name, kind=trace.SpanKind.CONSUMER) as span:
                        if span.is_recording():
                            for fact in (fact for _, facts in fresh for fact in facts):
                                found = trace.get_current_span(_trace_of(fact))
                                span.add_link(found.get_span_context())
                        for turn in _turns(fact for _, facts in fresh for fact in facts):
                            await handler(turn, call)
                            await call.flush()
                            call.db.expunge_all()
        return new

    async def _effect(self, handler: Handler, fact: Fact, arrival: _Arrival | None = None) -> bool:
        """Inbox row and effect of one fact in one transaction; whether it had no effect before."""
        async with self._open_call(handler.name, fact) as call:
            arrivals, wanted = [arrival] if arrival else [], {fact.id: [handler.name]}
            new, before = await _first_times(wanted, handler.together, arrivals, await driver(call.db))
            fresh = arrival.fresh(handler.name, new, before) if arrival else [fact] if new else []
            if fresh:
                await handler(fresh, call)
        return bool(fresh)

    async def _bury(self, handler: Handler, arrival: _Arrival, error: Exception) -> None:
        message, (fact,) = arrival.message, arrival.facts
        letter = insert(DeadLetter).values(
            handler=handler.name,
            event_id=fact.id,
            subject=fact.subject,
            headers=packs.headers_of(message.headers or {}, fact.id, fact.aggregate, fact.version)
            | {"ce-time": fact.time.isoformat(), "crm-actor": fact.actor, "traceparent": fact.trace},
            payload=json.dumps(fact.payload, ensure_ascii=False),
            error=f"{type(error).__name__}: {error}"[:4000],
            attempts=arrival.deliveries,
        )
        again = {
            "error": letter.excluded.error,
            "last_time": letter.excluded.last_time,
            "attempts": DeadLetter.attempts + letter.excluded.attempts,
            "resolved_at": None,
        }
        async with self._engine.begin() as connection:
            await connection.execute(
                letter.on_conflict_do_update(index_elements=["event_id", "handler"], set_=again)
            )

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(3), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception:
            log.warning("the database is away", exc_info=True)
            return False
        return True

    async def _give_back(self, subscription: Subscription, inlet: "_Inlet") -> None:
        """Facts that were delivered and not begun go to somebody else at once."""
        with contextlib.suppress(Exception):
            await subscription.unsubscribe()
            while (message := await inlet.get(0.01)) is not None:
                if message.reply:
                    await message.nak()


class _Inlet:
    """Messages of a subscription in the order they came. `next_msg` of the client makes two tasks for each."""

    def __init__(self) -> None:
        self._messages: deque[Msg] = deque()
        self._some = asyncio.Event()

    async def put(self, message: Msg) -> None:
        """Takes a message, as the subscription's callback."""
        self._messages.append(message)
        self._some.set()

    async def get(self, seconds: float) -> Msg | None:
        """The next message; None where none comes in time."""
        if not self._messages:
            self._some.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._some.wait()
            except TimeoutError:
                return None
        return self._messages.popleft()


def _parts(work: _Work) -> list[_Work]:
    """The handlers one by one; of one handler the halves of its list, of one pack the halves of its facts."""
    if len(work) > 1:
        return [[one] for one in work]
    ((handler, taken),) = work
    if len(taken) == 1:
        (pack,) = taken
        half = len(pack.facts) // 2
        parts = (replace(pack, facts=facts, whole=False) for facts in (pack.facts[:half], pack.facts[half:]))
        return [[(handler, [part])] for part in parts]
    half = len(taken) // 2
    return [[(handler, taken[:half])], [(handler, taken[half:])]]


def _turns(facts: Iterable[Fact]) -> list[list[Fact]]:
    """The facts in turns that have at most one of each aggregate."""
    turns: list[list[Fact]] = []
    had: dict[str, int] = {}
    for fact in facts:
        turn = had.get(fact.aggregate, 0) if fact.aggregate else 0
        had[fact.aggregate] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(fact)
    return turns


def _trace_of(fact: Fact) -> Context:
    return propagate.extract({"traceparent": fact.trace})


def _facts(headers: Mapping[str, str], data: bytes | str) -> list[Fact]:
    """The facts of a message: one, or all of a pack or bundle."""
    return [_fact(alone, payload) for alone, payload in packs.unpacked(headers, data)]


def _fact(headers: Mapping[str, str], payload: dict[str, Any]) -> Fact:
    version = headers.get("crm-version")
    return Fact(
        subject=headers["ce-type"],
        id=UUID(headers["ce-id"]),
        time=datetime.fromisoformat(headers["ce-time"]),
        actor=headers["crm-actor"],
        aggregate=headers["ce-subject"],
        version=int(version) if version else None,
        payload=payload,
        trace=headers.get("traceparent", ""),
    )


async def _first_times(
    wanted: Mapping[UUID, Sequence[str]], together: bool, arrivals: Sequence[_Arrival], connection: Any
) -> tuple[set[tuple[UUID, str]], set[tuple[UUID, str]]]:
    """Events with the handlers that have none of their effects yet, now noted; and of packs those noted before."""
    packed = {arrival.pack: arrival.last for arrival in arrivals if arrival.pack}
    if packed:
        await connection.execute(_ONE_AT_A_TIME, sorted({id.int % 2**63 for id in packed}))
    # In one order, so that two replicas cannot wait for each other.
    ids = sorted(wanted)
    names = [",".join(wanted[id]) for id in ids]
    first = {row[0] for row in await connection.fetch(_FIRST_TIMES, ids, together, names)}
    new = {(id, name) for id in first for name in wanted[id]}
    if len(first) < len(ids):
        seen = await connection.fetch(_SEEN, [id for id in ids if id not in first], together)
        left = {row[0]: [name for name in wanted[row[0]] if name not in row[1]] for row in seen}
        if more := {id: names for id, names in left.items() if names}:
            await connection.execute(_MORE, [*more], together, [",".join(names) for names in more.values()])
        new |= {(id, name) for id, names in more.items() for name in names}
    rows = await connection.fetch(_BEFORE, [*packed], [*packed.values()], together) if packed else ()
    return new, {(row[0], row[1]) for row in rows} - new


def _read(message_class: type[M], payload: dict[str, Any]) -> M:
    """The message; fields that a newer sender knows are left out."""
    return message_class.FromString(codec().from_newer(message_class.DESCRIPTOR.full_name, payload))
