"""Facts told: written with the change, and sent surely.

    call.emit → outbox row in the change's transaction → Relay → JetStream

The outbox is the record and NATS the courier. What was not acknowledged is sent again with the same
id; what the stream has lost is found and sent again.
"""

# pyright: reportUnknownMemberType=false
# The NATS client tells the types of some of its methods only in part.

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import NoStreamResponseError
from opentelemetry import propagate
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from uuid_utils.compat import uuid7

from crmkit import packs
from crmkit.background import forever, lingering
from crmkit.bus import Bus
from crmkit.driver import BEGIN_PLANNED, driver, transaction
from crmkit.metrics import Metrics

LARGEST_PAYLOAD = 900_000
FLIGHT = 256
# Where the last flight was this short ago, the next one waits for more facts: the longer, the more flew with the last.
FLOW_SECONDS = 0.4
LINGER = (0.02, 0.15)
FULL = 6
PUBLISH_TIMEOUT = 5.0
POLL = 0.5
# So long packs wait at most for the run that writes them.
HELD_SECONDS = 20
RECONCILE_EVERY = 300.0
TIDY_EVERY = 600.0
OBSERVE_EVERY = 5.0

log = logging.getLogger(__name__)


def new_fact(
    type: str,
    *,
    aggregate: str,
    version: int | None,
    payload: str,
    actor: str,
    schema_version: int = 1,
    trace: str | None = None,
) -> dict[str, Any]:
    """An outbox row. `type` is the subject, `aggregate` a resource name, `payload` proto JSON.

    `trace` is where the call stands in its trace; who tells many facts asks once.
    """
    # No character has more than four bytes.
    if len(payload) * 4 > LARGEST_PAYLOAD and len(payload.encode()) > LARGEST_PAYLOAD:
        # Refused here, where the caller can be told: in the outbox it could never be sent.
        raise ValueError(f"a fact {type} of {len(payload)} characters is too large to send")
    return {
        "event_id": uuid7(),
        "type": type,
        "schema_version": schema_version,
        "aggregate_type": aggregate.partition("/")[0],
        "aggregate_id": aggregate,
        "aggregate_version": version,
        "payload": payload,
        "actor": actor,
        "trace": traced() if trace is None else trace,
        "facts": 1,
    }


def traced() -> str:
    """Where the present call stands in its trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


async def emit_rows(session: AsyncSession, facts: Sequence[dict[str, Any]]) -> None:
    """Writes facts in the session's transaction, in one statement. Afterwards, wake the relay."""
    if facts:
        statement, *columns = outbox_rows(facts)
        await (await driver(session)).execute(statement, *columns)


def outbox_rows(facts: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """The statement that writes facts, and its arguments."""
    return _EMIT, *([fact[name] for fact in facts] for name in _EMITTED)


_EMITTED = {
    "event_id": "uuid",
    "type": "text",
    "schema_version": "int",
    "aggregate_type": "text",
    "aggregate_id": "text",
    "aggregate_version": "int",
    "payload": "text",
    "actor": "text",
    "trace": "text",
    "facts": "int",
}
_EMIT = (
    f"INSERT INTO outbox ({', '.join(_EMITTED)}) SELECT * FROM unnest("
    + ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_EMITTED.values(), start=1))
    + ")"
)
# One relay at a time per database, else two batches could overtake each other within an aggregate.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('crmkit.relay'))"
# By null, never by "id greater than last": ids are handed out before commit, and a slower
# transaction would be skipped for ever.
_CLAIM = (
    "WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtext('crmkit.relay')) AS mine)"
    " SELECT waiting.* FROM turn, LATERAL (SELECT * FROM outbox WHERE turn.mine AND published_at IS NULL"
    # Who has many rows written waits for their end, and all that hear of them work on the same machine: for a while
    # they hear of them afterwards.
    f" AND (facts = 1 OR occurred_at < clock_timestamp() - interval '{HELD_SECONDS} s' OR NOT EXISTS"
    " (SELECT 1 FROM bulk_runs WHERE state = 'RUNNING' AND lease_until > clock_timestamp()))"
    " ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) AS waiting"
)
_MARK = (
    "UPDATE outbox SET published_at = clock_timestamp(), stream_sequence = acked.sequence, last_error = NULL"
    " FROM unnest($1::bigint[], $2::bigint[]) AS acked(id, sequence)"
    " WHERE outbox.id = acked.id"
)
_BLAME = "UPDATE outbox SET attempts = attempts + 1, last_error = $2 WHERE id = ANY($1::bigint[])"
_RANGE = (
    "SELECT * FROM outbox WHERE published_at IS NOT NULL AND occurred_at BETWEEN $1 AND $2"
    " AND id > $3 ORDER BY id LIMIT $4"
)
# Six days, since the stream itself forgets after seven.
_LOST = (
    "SELECT * FROM outbox"
    " WHERE published_at > clock_timestamp() - interval '6 days' AND published_at < $1"
    " AND (published_at < $2 OR stream_sequence < $3 OR stream_sequence > $4"
    " OR stream_sequence = ANY($5::bigint[])) ORDER BY id LIMIT $6"
)
_BACKLOG = (
    "SELECT coalesce(sum(facts), 0), coalesce(extract(epoch FROM clock_timestamp() - min(occurred_at)), 0),"
    " (SELECT count(*) FROM dead_letters WHERE resolved_at IS NULL)"
    " FROM outbox WHERE published_at IS NULL"
)
_TIDY = tuple(
    f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {old} LIMIT 5000))"
    for table, old in (
        ("outbox", "published_at < clock_timestamp() - interval '7 days'"),
        # Longer than the stream's age and a replay together: a fact may come again that late.
        ("inbox", "handled_at < clock_timestamp() - interval '30 days'"),
        ("replays", "create_time < clock_timestamp() - interval '3 days'"),
    )
)


class NotSent(Exception):
    """Facts of a batch were not acknowledged: whether JetStream has them is unknown."""


class Relay:
    """Sends what the outbox of one database holds. Any number may run; one works at a time."""

    def __init__(self, engine: AsyncEngine, bus: Bus, area: str, metrics: Metrics) -> None:
        self._engine = engine
        self._bus = bus
        self._area = area
        self._metrics = metrics
        self._work = asyncio.Event()
        self._sent, self._flew = -FLOW_SECONDS, 0
        self._flight = FLIGHT
        # The connection on which outbox and stream were last compared.
        self._compared = 0

    def wake(self) -> None:
        """Says that a transaction with facts was committed."""
        self._work.set()

    async def run(self) -> None:
        """Sends, repairs, tidies and counts until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever(self._send_all, 0))
            tasks.create_task(forever(self.reconcile, RECONCILE_EVERY))
            tasks.create_task(forever(self.tidy, TIDY_EVERY))
            tasks.create_task(forever(self.observe, OBSERVE_EVERY))

    async def _send_all(self) -> None:
        await self._bus.connected()
        if self._compared != (connection := self._bus.connections):
            # NATS was away: it may have come back with less than it had, or with nothing.
            await self.reconcile()
            self._compared = connection
        if not await self.send_batch():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._work.wait()
            self._work.clear()
        since = time.monotonic() - self._sent
        if since < FLOW_SECONDS and self._flew < FLIGHT:
            # Facts are flowing, so more of them will share the flight.
            await asyncio.sleep(max(LINGER[0], lingering(*LINGER, self._flew, FULL) - since))

    async def send_batch(self) -> int:
        """Sends the next facts, in the order of each aggregate; NotSent if some stay unsent."""
        async with transaction(self._engine, BEGIN_PLANNED) as connection:
            rows = await connection.fetch(_CLAIM, self._flight)
            error = await self._send(connection, rows, "")
        if error:
            raise error
        facts = sum(row["facts"] for row in rows)
        # Packs are large: of those only some are in memory at once.
        self._flight = max(FLIGHT // 8, FLIGHT * len(rows) // facts) if facts else FLIGHT
        if rows:
            self._sent, self._flew = time.monotonic(), facts
            self._metrics.published.labels(self._area).inc(facts)
        for row in rows:
            if not row["type"].endswith(".ResourceChanged"):
                self._metrics.business.labels(self._area, row["type"]).inc(row["facts"])
        return len(rows)

    async def replay(self, start: datetime, end: datetime) -> int:
        """Sends the facts of a time again, whatever the stream holds; every inbox absorbs repetitions."""
        await self._bus.ensure_stream(self._area)
        sent, after, stamp = 0, 0, uuid4().hex
        while True:
            async with transaction(self._engine) as connection:
                rows = await connection.fetch(_RANGE, start, end, after, FLIGHT)
                error = await self._send(connection, rows, f"/{stamp}")
            if error:
                raise error
            if not rows:
                return sent
            sent, after = sent + len(rows), rows[-1]["id"]

    async def reconcile(self) -> int:
        """Compares outbox and stream, and sends again what the stream has lost, be it all."""
        await self._bus.connected()
        sent = 0
        while lost := await self._send_lost():
            sent += lost
        if sent:
            self._metrics.republished.labels(self._area).inc(sent)
            log.error("the stream had lost facts; they were sent again", extra={"facts": sent})
        return sent

    async def _send_lost(self) -> int:
        async with transaction(self._engine) as connection:
            if not await connection.fetchval(_LOCK):
                return 0
            before = await connection.fetchval("SELECT clock_timestamp()")
            stream = await self._bus.ensure_stream(self._area)
            info = await self._bus.request(f"STREAM.INFO.{stream}", {"deleted_details": True})
            state = info["state"]
            created: datetime = datetime.fromisoformat(info["created"])
            deleted: list[int] = state.get("deleted") or []
            window = before, created, state["first_seq"], state["last_seq"], deleted
            rows = await connection.fetch(_LOST, *window, FLIGHT)
            error = await self._send(connection, rows, f"/{state['last_seq']}")
        if error:
            raise error
        return len(rows)

    async def _send(self, connection: Any, rows: Sequence[Any], repetition: str) -> Exception | None:
        """Publishes, waits for every acknowledgement, then marks those that came."""
        if not rows:
            return None
        outcomes = await _publish(self._bus.js, rows, self._area, repetition)
        pairs = [(row["id"], outcome) for row, outcome in zip(rows, outcomes, strict=True)]
        acked = [(id, outcome.seq) for id, outcome in pairs if isinstance(outcome, PubAck)]
        failed = [(id, outcome) for id, outcome in pairs if isinstance(outcome, Exception)]
        if acked:
            await connection.execute(_MARK, [id for id, _ in acked], [sequence for _, sequence in acked])
        if not failed:
            return None
        if any(isinstance(error, NoStreamResponseError) for _, error in failed):
            self._compared = 0
        error = failed[0][1]
        await connection.execute(_BLAME, [id for id, _ in failed], repr(error)[:500])
        return NotSent(f"{len(failed)} of {len(rows)} facts: {error!r}")

    async def tidy(self) -> None:
        """Deletes what is past its keeping time, in short transactions."""
        for statement in _TIDY:
            deleted = ""
            while deleted != "DELETE 0":
                async with transaction(self._engine) as connection:
                    deleted = await connection.execute(statement)

    async def observe(self) -> None:
        """Counts what waits."""
        async with transaction(self._engine) as connection:
            unpublished, oldest, dead = await connection.fetchrow(_BACKLOG)
        self._metrics.outbox_unpublished.labels(self._area).set(unpublished)
        self._metrics.outbox_oldest.labels(self._area).set(float(oldest))
        self._metrics.dead_letters.labels(self._area).set(dead or 0)


async def _publish(
    js: JetStreamContext, rows: Sequence[Any], area: str, repetition: str
) -> list[PubAck | BaseException]:
    """One flight: written in order on one connection, so that a fault loses an end and not a middle."""
    messages = packs.bundled(rows, _subject)
    sent: list[asyncio.Future[PubAck]] = []
    broken: Exception | None = None
    for subject, together in messages:
        try:
            headers = _headers(together, area, repetition)
            payload = together[0]["payload"] if len(together) == 1 else packs.bundle(together)
            sent.append(await js.publish_async(subject, payload.encode(), headers=headers))
        except NatsError as error:
            broken = error
            break
    if sent:
        _, late = await asyncio.wait(sent, timeout=PUBLISH_TIMEOUT)
        for acknowledgement in late:
            acknowledgement.set_exception(TimeoutError("no acknowledgement"))
    outcomes: list[PubAck | BaseException] = [one.exception() or one.result() for one in sent]
    outcomes += [broken] * (len(messages) - len(sent)) if broken else []
    by_row = {
        row["id"]: outcome
        for (_, together), outcome in zip(messages, outcomes, strict=True)
        for row in together
    }
    return [by_row[row["id"]] for row in rows]


def _subject(row: Any) -> str:
    return subject_of(row["type"], row["aggregate_type"], row["payload"], row["facts"])


def subject_of(type: str, collection: str, payload: str, facts: int = 1) -> str:
    """Where a fact is sent: changes by collection and action, so that who does not hear them is not sent them."""
    if not type.endswith(".ResourceChanged"):
        return type
    action = json.loads(payload)["action"] if facts == 1 else packs.action_of(payload)
    return f"{type}.{collection}.{action}"


def _headers(rows: Sequence[Any], area: str, repetition: str) -> dict[str, str]:
    """The headers of a message with these facts; in a bundle each fact has its own beside it."""
    row = rows[0]
    headers = {
        # A repetition is not the first sending: the broker must not drop it, the inbox will know it.
        "Nats-Msg-Id": f"{row['event_id']}{repetition}",
        "ce-specversion": "1.0",
        "ce-type": row["type"],
        "ce-source": f"crm/{area}",
    }
    if len(rows) > 1:
        # Of all of them: with others the same first fact is another message, which the broker must not drop either.
        known = sha256(b"".join(one["event_id"].bytes for one in rows)).hexdigest()
        return headers | {"Nats-Msg-Id": f"{known}{repetition}", packs.BUNDLE: str(len(rows))}
    headers |= dict(zip(packs.OWN, packs.own(row), strict=True))
    if not row["trace"]:
        del headers["traceparent"]
    if row["facts"] > 1:
        headers[packs.HEADER] = str(row["facts"])
    return headers
