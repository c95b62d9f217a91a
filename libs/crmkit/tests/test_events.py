"""Facts through the real servers: each has its effect once, whatever breaks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg
import pytest
from crm.common.v1 import common_pb2 as common
from crmkit.bus import Bus, StreamLimits, ensure_stream, stream_of
from crmkit.driver import transaction
from crmkit.events import (
    ATTEMPTS,
    Consumers,
    Fact,
    HandlerCall,
    OpenCall,
    covers,
    dead_letters,
    filters,
    handler_of,
    listens,
)
from crmkit.metrics import Metrics
from crmkit.outbox import NotSent, Relay, emit_rows, new_fact, subject_of
from crmkit.packs import BUNDLED, MOST, bundled, numbers, packed
from nats.aio.msg import Msg
from opentelemetry import trace
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

LONG_AGO, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
QUICK = (0.05,)


class OwnNats(Protocol):
    url: str

    async def start(self) -> None: ...
    async def kill(self) -> None: ...


class Listen(Protocol):
    def __call__(self, *functions: Any, bus: Bus | None = None, **settings: Any) -> Consumers: ...


# --- What the tests are made of ---------------------------------------------------------------------


async def note(event: Fact, call: HandlerCall) -> None:
    await call.db.execute(text("INSERT INTO effects (note) VALUES (:note)"), {"note": event.payload["note"]})


def fact(area: str, note: str, aggregate: str = "things/1", version: int = 1) -> dict[str, Any]:
    payload = json.dumps({"note": note})
    return new_fact(
        f"crm.{area}.v1.ThingDone", aggregate=aggregate, version=version, payload=payload, actor="employees/1"
    )


async def write(engine: AsyncEngine, *facts: dict[str, Any]) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await emit_rows(session, facts)


async def effects(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT note FROM effects ORDER BY id")))


async def count(engine: AsyncEngine, query: str) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(text(f"SELECT count(*) FROM {query}"))).scalar_one()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 (what is waited for is in a database)
            await asyncio.sleep(0.02)


async def until_effects(engine: AsyncEngine, number: int) -> None:
    async def reached() -> bool:
        return len(await effects(engine)) >= number

    await until(reached)


async def until_sent(engine: AsyncEngine) -> None:
    async def sent() -> bool:
        return await count(engine, "outbox WHERE published_at IS NULL") == 0

    await until(sent)


@asynccontextmanager
async def running(*parts: Relay | Consumers) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def relay(engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics) -> Relay:
    return Relay(engine, bus, area, metrics)


@pytest.fixture
def listen(engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics, open_call: OpenCall) -> Listen:
    its_bus = bus

    def make(*functions: Any, bus: Bus | None = None, **settings: Any) -> Consumers:
        opens = settings.pop("open_call", open_call)
        kind = settings.pop("kind", Consumers)
        settings = {"back_off": QUICK, "ack_wait": 1.0, **settings}
        return kind("listener", [area], functions, opens, engine, bus or its_bus, metrics, **settings)

    return make


# --- The way of a fact ------------------------------------------------------------------------------


async def test_a_fact_reaches_its_handler(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    async with running(relay, listen(note)):
        await write(engine, fact(area, "a"), fact(area, "b"))
        await until_effects(engine, 2)
    assert await effects(engine) == ["a", "b"]


async def test_a_rolled_back_change_tells_nothing(engine: AsyncEngine, area: str, relay: Relay) -> None:
    async with AsyncSession(engine) as session:
        await emit_rows(session, [fact(area, "never")])
        await session.rollback()
    assert await relay.send_batch() == 0


async def test_a_handler_gets_what_the_sender_said(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def everything(event: Fact, call: HandlerCall) -> None:
        heard.put_nowait(event)

    @listens("crm.*.v1.ResourceChanged")
    async def changes(event: common.ResourceChanged, call: HandlerCall) -> None:
        heard.put_nowait(event)

    payload = '{"name": "things/1", "action": "CREATED", "after": {"title": "水"}, "unknownToUs": 1}'
    change = new_fact(
        f"crm.{area}.v1.ResourceChanged",
        aggregate="things/1",
        version=7,
        payload=payload,
        actor="employees/1",
    )
    await write(engine, change)
    async with running(relay, listen(everything, changes)), asyncio.timeout(30):
        whole, message = await heard.get(), await heard.get()
    assert (whole.id, whole.aggregate, whole.version, whole.actor) == (
        change["event_id"],
        "things/1",
        7,
        "employees/1",
    )
    assert whole.payload["after"] == {"title": "水"} and whole.message == message
    assert (message.name, message.action) == ("things/1", "CREATED")


async def test_a_handler_is_part_of_the_trace_of_the_change(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    traces: list[int] = []

    async def look(event: Fact, call: HandlerCall) -> None:
        traces.append(trace.get_current_span().get_span_context().trace_id)
        await note(event, call)

    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        await write(engine, fact(area, "a"))
    async with running(relay, listen(look)):
        await until_effects(engine, 1)
    assert traces == [0xABC]


async def test_facts_of_one_aggregate_come_in_order(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen, metrics: Metrics
) -> None:
    await write(engine, *(fact(area, str(number)) for number in range(200)))
    async with running(relay, Relay(engine, bus, area, metrics), listen(note)):
        await until_effects(engine, 200)
    assert await effects(engine) == [str(number) for number in range(200)]


async def test_two_replicas_share_the_work_and_never_double_it(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    async with running(relay, listen(note), listen(note)):
        await write(engine, *(fact(area, str(number), f"things/{number}") for number in range(100)))
        await until_effects(engine, 100)
        await asyncio.sleep(0.2)
    assert sorted(await effects(engine)) == sorted(str(number) for number in range(100))


async def test_two_changes_cannot_claim_one_version(engine: AsyncEngine, area: str) -> None:
    def change() -> dict[str, Any]:
        return new_fact(
            f"crm.{area}.v1.ResourceChanged",
            aggregate="things/1",
            version=2,
            payload="{}",
            actor="employees/1",
        )

    await write(engine, change())
    with pytest.raises(asyncpg.UniqueViolationError):
        await write(engine, change())
    # A business fact may be told twice of one version: a payment on three invoices.
    await write(engine, fact(area, "a"), fact(area, "b"))


def test_a_fact_too_large_to_send_is_refused_where_it_is_written(area: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        fact(area, "x" * 1_000_000)


# --- What breaks ------------------------------------------------------------------------------------


async def delivered_twice(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, consumers: Consumers
) -> None:
    """A fact sent again under another message id, as after an outage longer than the broker remembers."""
    await write(engine, fact(area, "a"))
    async with running(consumers):
        await bus.ensure_stream(area)
        await relay.send_batch()
        await relay.replay(LONG_AGO, LATER)
        await write(engine, fact(area, "last"))
        await relay.send_batch()
        await until_effects(engine, 2)
        await asyncio.sleep(0.2)
    assert await effects(engine) == ["a", "last"]


async def killed_after_commit(
    engine: AsyncEngine, area: str, relay: Relay, open_call: OpenCall, listen: Callable[[OpenCall], Consumers]
) -> None:
    """The process stands still for ever right behind the commit, and another takes over."""
    await write(engine, fact(area, "a"))
    stuck = asyncio.Event()

    @asynccontextmanager
    async def freezes(method: str, cause: Fact | None) -> AsyncIterator[HandlerCall]:
        async with open_call(method, cause) as call:
            yield call
        stuck.set()
        await asyncio.Event().wait()

    await _die_and_take_over(engine, relay, listen(freezes), stuck, listen(open_call))


async def killed_before_commit(
    engine: AsyncEngine, area: str, relay: Relay, open_call: OpenCall, listen: Callable[[OpenCall], Consumers]
) -> None:
    """The process stands still for ever before the commit, and another takes over."""
    await write(engine, fact(area, "a"))
    stuck = asyncio.Event()

    @asynccontextmanager
    async def freezes(method: str, cause: Fact | None) -> AsyncIterator[HandlerCall]:
        stuck.set()
        await asyncio.Event().wait()
        yield None  # type: ignore[misc]  # never reached

    await _die_and_take_over(engine, relay, listen(freezes), stuck, listen(open_call))


async def _die_and_take_over(
    engine: AsyncEngine, relay: Relay, first: Consumers, stuck: asyncio.Event, second: Consumers
) -> None:
    async with running(relay):
        dying = asyncio.create_task(first.run())
        await asyncio.wait_for(stuck.wait(), 30)
        async with running(second):
            await asyncio.sleep(2.5)  # longer than the acknowledgement is waited for
        for task in first._last.values():
            task.cancel()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    assert await effects(engine) == ["a"]


async def slow_commit(engine: AsyncEngine, bus: Bus, area: str, relay: Relay) -> None:
    """A transaction draws its id first and commits last."""
    await bus.ensure_stream(area)
    async with AsyncSession(engine) as slow:
        await emit_rows(slow, [fact(area, "slow")])
        await write(engine, fact(area, "quick", "things/2"))
        await relay.send_batch()
        await slow.commit()
    await relay.send_batch()
    assert (await bus.js.stream_info(stream_of(area))).state.messages == 2


async def broker_refuses(engine: AsyncEngine, bus: Bus, area: str, relay: Relay) -> None:
    """The stream does not take the fact at first."""
    await write(engine, fact(area, "a"))
    with pytest.raises(NotSent):
        await relay.send_batch()
    await bus.ensure_stream(area)
    await relay.send_batch()
    assert (await bus.js.stream_info(stream_of(area))).state.messages == 1


async def test_a_fact_delivered_twice_has_its_effect_once(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    await delivered_twice(engine, bus, area, relay, listen(note))


async def test_a_consumer_killed_between_commit_and_acknowledgement_has_its_effect_once(
    engine: AsyncEngine, area: str, relay: Relay, open_call: OpenCall, listen: Listen
) -> None:
    await killed_after_commit(engine, area, relay, open_call, lambda opens: listen(note, open_call=opens))


async def test_a_consumer_killed_before_its_commit_loses_nothing(
    engine: AsyncEngine, area: str, relay: Relay, open_call: OpenCall, listen: Listen
) -> None:
    await killed_before_commit(engine, area, relay, open_call, lambda opens: listen(note, open_call=opens))


async def test_a_transaction_that_commits_late_is_not_skipped(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay
) -> None:
    await slow_commit(engine, bus, area, relay)


async def test_a_fact_that_the_broker_refuses_stays_in_the_outbox(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay
) -> None:
    await broker_refuses(engine, bus, area, relay)
    assert await count(engine, "outbox WHERE attempts = 1 AND published_at IS NOT NULL") == 1


async def test_nothing_is_lost_or_doubled_when_nats_is_killed(
    engine: AsyncEngine, area: str, metrics: Metrics, own_nats: OwnNats, listen: Listen
) -> None:
    async with (
        Bus(own_nats.url, "test", StreamLimits(32 * 1024 * 1024)) as bus,
        running(Relay(engine, bus, area, metrics), listen(note, bus=bus)),
    ):
        for number in range(30):
            await write(engine, fact(area, str(number), f"things/{number}"))
            if number == 10:
                await until_effects(engine, 5)
                await own_nats.kill()
            if number == 20:
                await asyncio.sleep(0.5)
                await own_nats.start()
        await until_effects(engine, 30)
        await until_sent(engine)
    assert sorted(await effects(engine), key=int) == [str(number) for number in range(30)]


async def test_an_app_starts_and_commits_while_nats_is_away(
    engine: AsyncEngine,
    registry: CollectorRegistry,
    area: str,
    metrics: Metrics,
    own_nats: OwnNats,
    listen: Listen,
) -> None:
    await own_nats.kill()
    async with Bus(own_nats.url, "test", StreamLimits(32 * 1024 * 1024)) as bus:
        relay = Relay(engine, bus, area, metrics)
        async with running(relay, listen(note, bus=bus)):
            await write(engine, fact(area, "a"))
            assert not bus.up
            await relay.observe()
            assert registry.get_sample_value("crm_outbox_unpublished", {"app": area}) == 1
            await own_nats.start()
            await until_effects(engine, 1)


async def test_a_deleted_stream_is_found_and_filled_again(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    consumers = listen(note)
    await bus.ensure_stream(area)
    async with running(consumers):
        await write(engine, *(fact(area, str(number), f"things/{number}") for number in range(100)))
        while await relay.send_batch():
            pass
        await until_effects(engine, 100)
        await bus.js.delete_stream(stream_of(area))
        assert await relay.reconcile() == 100
        assert await relay.reconcile() == 0
        await write(engine, fact(area, "after", "things/after"))
        await relay.send_batch()
        await until_effects(engine, 101)
    # Bundles of all that was sent at once, and what came behind them.
    assert (await bus.js.stream_info(stream_of(area))).state.messages == -(-100 // BUNDLED) + 1
    assert len(await effects(engine)) == 101


async def test_ten_messages_deleted_from_a_stream_are_found_and_sent_again(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay
) -> None:
    await bus.ensure_stream(area)
    await write(engine, *(fact(area, str(number)) for number in range(50)))
    await relay.send_batch()
    for sequence in range(20, 30):
        await bus.js.delete_msg(stream_of(area), sequence)
    assert await relay.reconcile() == 10
    assert await relay.reconcile() == 0


async def test_replaying_the_outbox_gives_a_new_listener_what_the_stream_forgot(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    await bus.ensure_stream(area)
    await write(engine, *(fact(area, str(number)) for number in range(100)))
    while await relay.send_batch():
        pass
    await bus.js.purge_stream(stream_of(area))
    assert await relay.replay(LONG_AGO, LATER) == 100
    assert await relay.replay(LONG_AGO, LONG_AGO + timedelta(1)) == 0
    async with running(listen(note)):
        await until_effects(engine, 100)
    assert await effects(engine) == [str(number) for number in range(100)]


async def test_poison_becomes_a_dead_letter_while_the_others_flow_and_runs_again_when_healed(
    engine: AsyncEngine,
    registry: CollectorRegistry,
    area: str,
    relay: Relay,
    listen: Listen,
    metrics: Metrics,
) -> None:
    healed = False
    tried = 0

    async def careful(event: Fact, call: HandlerCall) -> None:
        nonlocal tried
        await note(event, call)
        if event.payload["note"] == "poison" and not healed:
            tried += 1
            raise ValueError("cannot read this")

    async def other(event: Fact, call: HandlerCall) -> None:
        await call.db.execute(text("INSERT INTO effects (note) VALUES ('other')"))

    # A broker that loses patience would deliver the bundle again while its parts are tried.
    consumers = listen(careful, other, ack_wait=60)
    async with running(relay, consumers):
        await write(engine, fact(area, "poison"), *(fact(area, "fine", f"things/{n}") for n in range(2, 12)))
        await until_effects(engine, 21)

        async def buried() -> bool:
            return await count(engine, "dead_letters") == 1

        await until(buried)
    # Deliveries count; within one, the transaction with others is tried and then its parts.
    assert tried >= ATTEMPTS
    assert sorted(await effects(engine)) == ["fine"] * 10 + ["other"] * 11
    async with engine.connect() as connection:
        letter = (await connection.execute(text("SELECT * FROM dead_letters"))).one()
    assert (letter.handler, letter.attempts, letter.error) == (
        "careful",
        ATTEMPTS,
        "ValueError: cannot read this",
    )
    [listed] = await dead_letters(engine)
    assert (listed["id"], listed["handler"], listed["subject"]) == (letter.id, "careful", letter.subject)
    await relay.observe()
    assert registry.get_sample_value("crm_dead_letters", {"app": area}) == 1
    with pytest.raises(ValueError, match="cannot read"):
        await consumers.replay(letter.id)
    healed = True
    await consumers.replay(letter.id)
    await consumers.replay(letter.id)
    assert (await effects(engine)).count("poison") == 1
    assert await dead_letters(engine) == []


async def test_a_handler_of_lists_takes_what_is_there_in_one_transaction_and_once(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    sizes: list[int] = []

    async def note_all(events: list[Fact], call: HandlerCall) -> None:
        sizes.append(len(events))
        assert len({event.aggregate for event in events}) == len(events)
        await asyncio.sleep(0.05)
        await call.db.execute(
            text("INSERT INTO effects (note) SELECT unnest(CAST(:notes AS text[]))"),
            {"notes": [event.payload["note"] for event in events]},
        )

    await write(engine, *(fact(area, str(i), f"things/{i % 100}", i // 100 + 1) for i in range(300)))
    async with running(relay, listen(note_all), listen(note_all)):
        await until_effects(engine, 300)
        await until_sent(engine)
    noted = await effects(engine)
    assert sorted(noted, key=int) == [str(i) for i in range(300)]
    assert max(sizes) > 8
    assert len(sizes) < 100


async def test_poison_in_a_list_is_buried_alone(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    async def note_all(events: list[Fact], call: HandlerCall) -> None:
        for event in events:
            await note(event, call)
        if any(event.payload["note"] == "poison" for event in events):
            raise ValueError("poison")

    names = [*(str(i) for i in range(40)), "poison", *(str(i) for i in range(40, 80))]
    await write(engine, *(fact(area, name, f"things/{name}") for name in names))
    # The parts of the list are tried one after another: a broker that loses patience would deliver all of it again.
    async with running(relay, listen(note_all, ack_wait=60)):
        await until(lambda: _is(engine, "dead_letters", 1))
        await until_effects(engine, 80)
    assert sorted(await effects(engine), key=int) == [str(i) for i in range(80)]
    assert await count(engine, "dead_letters") == 1
    assert await count(engine, "inbox") == 80


async def test_facts_in_packs_are_heard_one_by_one_and_in_lists_once(
    engine: AsyncEngine, area: str, bus: Bus, relay: Relay, listen: Listen
) -> None:
    heard: list[Fact] = []

    async def note_all(events: list[Fact], call: HandlerCall) -> None:
        heard.extend(events)
        notes = [f"list {event.payload['note']}" for event in events]
        await call.db.execute(
            text("INSERT INTO effects (note) SELECT unnest(CAST(:notes AS text[]))"), {"notes": notes}
        )

    rows = packed(fact(area, str(i), f"things/{i}", 7) for i in range(300))
    assert [row["facts"] for row in rows] == [MOST, MOST, 300 - 2 * MOST]
    # Few facts go as they are, and so does what follows about the same record.
    rows += [*packed([fact(area, "few", "things/few")]), fact(area, "later", "things/5", 8)]
    assert [row["facts"] for row in rows[3:]] == [1, 1]
    await write(engine, *rows)
    async with running(relay, listen(note_all, note, ack_wait=60)):
        await until_effects(engine, 604)
        await until_sent(engine)
        # The same again, as after the loss of a stream: every inbox row is there.
        assert await relay.replay(LONG_AGO, LATER) == 5
        await until(lambda: _none_waits(bus, area))
    noted = await effects(engine)
    wanted = [*(str(i) for i in range(300)), "few", "later"]
    assert sorted(noted) == sorted([*wanted, *(f"list {name}" for name in wanted)])
    # One row for each whole pack, where lists took it.
    assert await count(engine, "inbox WHERE 'note_all' = ANY(handlers)") == 5
    first = [event for event in heard if event.id in numbers(rows[0]["event_id"], MOST)]
    assert [(e.aggregate, e.version) for e in first] == [(f"things/{i}", 7) for i in range(MOST)]
    about_5 = [event.payload["note"] for event in heard if event.aggregate == "things/5"]
    assert about_5 == ["5", "later"]


async def test_a_pack_waits_for_the_run_that_writes_it_but_not_for_long(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay
) -> None:
    async def told_of_many(note: str) -> None:
        facts = [fact(area, note, f"things/{note}{number}") for number in range(20)]
        await write(engine, *packed(facts), fact(area, note, f"things/{note}"))
        await relay.send_batch()

    async def changed(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    unsent = "outbox WHERE published_at IS NULL"
    await bus.ensure_stream(area)
    await changed(
        "INSERT INTO bulk_runs (id, about, kind, requester, spec, state, lease_until) VALUES"
        " (gen_random_uuid(), 'imports/1', 'RunImport', 'system/test', '{}', 'RUNNING', now() + interval '30 s')"
    )
    await told_of_many("first")
    assert await count(engine, unsent) == 1
    await changed("UPDATE outbox SET occurred_at = clock_timestamp() - interval '21 s'")
    await told_of_many("second")
    assert await count(engine, unsent) == 1
    await changed("UPDATE bulk_runs SET state = 'DONE'")
    await told_of_many("third")
    assert await count(engine, unsent) == 0


async def test_facts_of_a_flight_go_as_one_message_and_each_has_its_effect_once(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    heard: list[Fact] = []

    async def note_all(events: list[Fact], call: HandlerCall) -> None:
        heard.extend(events)
        for event in events:
            await note(event, call)

    rows = [fact(area, str(i), f"things/{i}", 3) for i in range(30)]
    await write(engine, *rows)
    await bus.ensure_stream(area)
    assert await relay.send_batch() == 30
    assert (await bus.js.stream_info(stream_of(area))).state.messages == 1
    # Sent again with one more, as after a lost acknowledgement, the bundle is another message with the same facts.
    await write(engine, fact(area, "late", "things/late"))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET published_at = NULL"))
    assert await relay.send_batch() == 31
    async with running(listen(note_all, note)):
        await until_effects(engine, 62)
        await until(lambda: _none_waits(bus, area))
    assert sorted(await effects(engine)) == sorted([*(str(i) for i in range(30)), "late"] * 2)
    first = next(event for event in heard if event.payload["note"] == "7")
    row = rows[7]
    assert (first.id, first.aggregate, first.version) == (row["event_id"], "things/7", 3)
    assert (first.actor, first.trace) == (row["actor"], row["trace"])
    assert (await count(engine, "inbox"), await count(engine, "inbox WHERE together")) == (62, 31)


def test_a_bundle_tells_no_fact_before_one_that_was_told_first() -> None:
    def row(type: str, aggregate: str, facts: int = 1) -> dict[str, Any]:
        return {"type": type, "aggregate_id": aggregate, "payload": "{}", "facts": facts}

    told = [
        ("made", "a"), ("made", "b"), ("moved", "a"), ("made", "c"), ("moved", "b"), ("moved", "a"), ("made", "b"),
        ("noticed", ""), ("noticed", ""),
    ]  # fmt: skip
    rows = [row(*one) for one in told]
    rows[5:5] = [row("made", "things/-", facts=3)]
    messages = [
        (subject, "".join(one["aggregate_id"] or "." for one in together))
        for subject, together in bundled(rows, lambda one: one["type"])
    ]
    assert messages == [
        ("made", "abc"), ("moved", "ab"), ("made", "things/-"), ("moved", "a"), ("made", "b"), ("noticed", ".."),
    ]  # fmt: skip


def test_a_pack_is_never_larger_than_a_message(area: str) -> None:
    sizes = [10, 250_000, 10, 880_000, *([5] * 20), 200_000, 100_000]
    facts = [fact(area, "x" * size, f"things/{number}") for number, size in enumerate(sizes)]
    rows = packed(facts)
    assert sum(row["facts"] for row in rows) == len(facts)
    assert all(len(row["payload"].encode()) < 300_000 for row in rows if row["facts"] > 1)
    assert [row["aggregate_id"] for row in rows if row["facts"] == 1] == ["things/3", "things/25"]


async def _none_waits(bus: Bus, area: str) -> bool:
    info = await (await bus.connected()).consumer_info(stream_of(area), "listener")
    return not info.num_pending and not info.num_ack_pending


async def test_poison_in_a_pack_is_buried_alone_and_runs_again(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    poisonous = True

    async def note_all(events: list[Fact], call: HandlerCall) -> None:
        for event in events:
            await note(event, call)
        if poisonous and any(event.payload["note"] == "poison" for event in events):
            raise ValueError("poison")

    async def hear_all(events: list[Fact], call: HandlerCall) -> None:
        await call.db.execute(text("INSERT INTO effects (note) VALUES ('heard')"))

    names = [*(str(i) for i in range(40)), "poison", *(str(i) for i in range(40, 80))]
    (row,) = packed(fact(area, name, f"things/{name}", 3) for name in names)
    await write(engine, row)
    consumers = listen(note_all, hear_all, ack_wait=60)
    async with running(relay, consumers):
        await until(lambda: _is(engine, "dead_letters", 1))
        (letter,) = await dead_letters(engine)
        poisonous = False
        await consumers.replay(letter["id"])
    noted = await effects(engine)
    assert sorted(noted) == sorted([*names, "heard"])
    # The whole pack of the handler that took it, and single facts of the other.
    assert await count(engine, "inbox WHERE 'hear_all' = ANY(handlers)") == 1
    assert await count(engine, "inbox WHERE 'note_all' = ANY(handlers)") == 81


async def _is(engine: AsyncEngine, query: str, number: int) -> bool:
    return await count(engine, query) == number


async def test_a_fact_waits_for_the_database_and_is_not_blamed(
    engine: AsyncEngine,
    area: str,
    relay: Relay,
    listen: Listen,
    postgres_url: str,
    registry: CollectorRegistry,
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def slow(event: Fact, call: HandlerCall) -> None:
        begun.set()
        await closed.wait()
        await note(event, call)

    await relay.reconcile()
    await write(engine, fact(area, "a"))
    await relay.send_batch()
    admin = await asyncpg.connect(postgres_url, database="postgres")
    async with running(listen(slow, ack_wait=30)):
        await begun.wait()
        name = engine.url.database
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        closed.set()
        await asyncio.sleep(2.5)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until_effects(engine, 1)
        await asyncio.sleep(0.1)
    await admin.close()
    assert await effects(engine) == ["a"]
    seen = "crm_events_handled_seconds_count"
    labels = {"app": "listener", "handler": "slow"}
    assert registry.get_sample_value(seen, {**labels, "outcome": "done"}) == 1
    assert registry.get_sample_value(seen, {**labels, "outcome": "failed"}) is None
    assert (registry.get_sample_value(seen, {**labels, "outcome": "waited"}) or 0) >= 1


async def test_old_rows_are_tidied_away_and_unsent_ones_never(
    engine: AsyncEngine, area: str, relay: Relay
) -> None:
    await write(engine, *(fact(area, str(number)) for number in range(3)))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE outbox SET occurred_at = occurred_at - interval '9 days'"))
        await connection.execute(
            text("UPDATE outbox SET published_at = now() - id * interval '5 days' WHERE id < 3")
        )
        old = (
            "INSERT INTO inbox SELECT event_id, false, '{note}', now() - id * interval '20 days' FROM outbox"
        )
        await connection.execute(text(old))
    await relay.tidy()
    assert await count(engine, "outbox") == 2
    assert await count(engine, "outbox WHERE published_at IS NULL") == 1
    assert await count(engine, "inbox") == 1


async def test_a_stop_that_comes_together_with_work_still_stops(
    engine: AsyncEngine, area: str, relay: Relay, listen: Listen
) -> None:
    consumers = listen(note)
    for number in range(40):
        parts = [asyncio.create_task(relay.run()), asyncio.create_task(consumers.run())]
        await asyncio.sleep(0.01 + number * 0.001)
        await write(engine, fact(area, str(number)))
        relay.wake()
        for part in parts:
            part.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait(parts)


async def test_what_no_outbox_has_sent_is_put_aside(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    await bus.ensure_stream(area)
    await bus.js.publish(f"crm.{area}.v1.ThingDone", b"not JSON")
    async with running(relay, listen(note)):
        await write(engine, fact(area, "a"))
        await until_effects(engine, 1)


async def test_a_full_stream_refuses_and_the_outbox_keeps(
    engine: AsyncEngine, area: str, bus: Bus, metrics: Metrics
) -> None:
    await ensure_stream(bus.js, area, StreamLimits(max_bytes=2000))
    relay = Relay(engine, bus, area, metrics)
    await write(engine, *(fact(area, "x" * 500, version=number) for number in range(10)))
    with pytest.raises(NotSent):
        await relay.send_batch()
    waiting = await count(engine, "outbox WHERE published_at IS NULL")
    assert 0 < waiting < 10
    await bus.ensure_stream(area)
    await relay.send_batch()
    assert await count(engine, "outbox WHERE published_at IS NULL") == 0


# --- The tests above can fail: four wrong ways must -------------------------------------------------


class SendsByLastId(Relay):
    """Reads what is newer than the last id that it saw."""

    last = 0

    async def send_batch(self) -> int:
        async with transaction(self._engine) as connection:
            rows = await connection.fetch("SELECT * FROM outbox WHERE id > $1 ORDER BY id", self.last)
            await self._send(connection, rows, "")
        self.last = max([self.last, *(row["id"] for row in rows)])
        return len(rows)


class MarksBeforeItSends(Relay):
    """Marks and commits, then publishes."""

    async def send_batch(self) -> int:
        async with transaction(self._engine) as connection:
            rows = await connection.fetch("SELECT * FROM outbox WHERE published_at IS NULL")
            await connection.execute("UPDATE outbox SET published_at = clock_timestamp()")
        async with transaction(self._engine) as connection:
            if error := await self._send(connection, rows, ""):
                raise error
        return len(rows)


class HasNoInbox(Consumers):
    """Runs the handler without asking whether it has run."""

    async def _effect(self, handler: Any, fact: Fact, arrival: Any = None) -> bool:
        async with self._open_call(handler.name, fact) as call:
            await handler([fact], call)
        return True


class AcknowledgesFirst(Consumers):
    """Acknowledges when the fact comes, not when its effect is committed."""

    async def _take(
        self, message: Msg, facts: Sequence[Fact], before: Collection[asyncio.Future[Any]], begun: float
    ) -> None:
        await message.ack()
        message._ackd = False
        await super()._take(message, facts, before, begun)


async def test_reading_by_last_id_is_caught(
    engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics
) -> None:
    with pytest.raises(AssertionError):
        await slow_commit(engine, bus, area, SendsByLastId(engine, bus, area, metrics))


async def test_marking_before_sending_is_caught(
    engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics
) -> None:
    with pytest.raises(AssertionError):
        await broker_refuses(engine, bus, area, MarksBeforeItSends(engine, bus, area, metrics))


async def test_a_missing_inbox_is_caught(
    engine: AsyncEngine, bus: Bus, area: str, relay: Relay, listen: Listen
) -> None:
    with pytest.raises(AssertionError):
        await delivered_twice(engine, bus, area, relay, listen(note, kind=HasNoInbox))


async def test_acknowledging_first_is_caught(
    engine: AsyncEngine, area: str, relay: Relay, open_call: OpenCall, listen: Listen
) -> None:
    with pytest.raises(AssertionError):
        await killed_before_commit(
            engine,
            area,
            relay,
            open_call,
            lambda opens: listen(note, open_call=opens, kind=AcknowledgesFirst),
        )


# --- Who hears what ---------------------------------------------------------------------------------


def test_the_annotation_says_what_is_listened_to() -> None:
    async def held(event: common.ActionHeld, call: Any) -> None: ...
    async def postponed(event: "common.ResourceChanged", call: Any) -> None: ...
    async def all_of_it(event: Fact, call: Any) -> None: ...
    async def nothing(event: int, call: Any) -> None: ...

    assert handler_of(held).patterns == ("crm.*.v1.ActionHeld",)
    assert handler_of(postponed).takes is common.ResourceChanged
    assert handler_of(all_of_it).patterns == ("crm.>",)
    with pytest.raises(TypeError):
        handler_of(nothing)


def test_the_filters_of_a_stream_never_overlap() -> None:
    @listens("crm.sales.v1.OpportunityWon", "crm.*.v1.ResourceChanged")
    async def some(event: Fact, call: Any) -> None: ...
    async def all_of_it(event: Fact, call: Any) -> None: ...

    one, two = handler_of(some), handler_of(all_of_it)
    assert filters([one], "sales") == ["crm.sales.v1.OpportunityWon", "crm.sales.v1.ResourceChanged.*.*"]
    assert filters([one], "billing") == ["crm.billing.v1.ResourceChanged.*.*"]
    assert filters([one, two], "sales") == ["crm.sales.v1.>"]
    assert covers("crm.>", "crm.sales.v1.X") and not covers("crm.sales.v1.X", "crm.>")
    assert not covers("crm.*.v1", "crm.sales.v1.X") and covers("crm.*.v1.X", "crm.sales.v1.X")


def test_changes_are_heard_by_collection_and_action() -> None:
    @listens("crm.sales.v1.ResourceChanged.leads", "crm.sales.v1.ResourceChanged.quotes.CREATED")
    async def of_two(event: Fact, call: Any) -> None: ...
    @listens("crm.sales.v1.ResourceChanged.*.DELETED")
    async def of_what_goes(event: Fact, call: Any) -> None: ...

    leads, gone = handler_of(of_two), handler_of(of_what_goes)
    change = "crm.sales.v1.ResourceChanged"
    assert filters([leads], "sales") == [f"{change}.leads.*", f"{change}.quotes.CREATED"]
    assert filters([leads, gone], "sales") == [
        f"{change}.*.DELETED",
        f"{change}.leads.CREATED",
        f"{change}.leads.UPDATED",
        f"{change}.quotes.CREATED",
    ]
    assert leads.hears(f"{change}.leads.UPDATED") and not leads.hears(f"{change}.quotes.UPDATED")
    assert gone.hears(f"{change}.quotes.DELETED") and not gone.hears(f"{change}.leads.UPDATED")
    payload = '{"name": "leads/1", "action": "DELETED"}'
    assert subject_of(change, "leads", payload) == f"{change}.leads.DELETED"
    assert subject_of("crm.sales.v1.LeadLost", "leads", "{}") == "crm.sales.v1.LeadLost"


def test_an_app_has_one_handler_of_a_name(listen: Listen) -> None:
    with pytest.raises(ValueError, match="same name"):
        listen(note, note)
