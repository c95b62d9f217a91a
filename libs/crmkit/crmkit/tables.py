"""The kit's own tables, the same in the database of every service."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

kit_metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)


SUMMARY: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"autosummarize": "on"}}


class KitBase(DeclarativeBase):
    """Base of the kit's tables; a service's own tables have another base and other migrations."""

    metadata = kit_metadata
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads the class attribute)
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
        UUID: Uuid,
    }


# Two changes can never claim the same version. Business facts may: one payment is allocated to three invoices by one
# verb.
CHANGE_KEY = "outbox_change_key"


class Outbox(KitBase):
    """A fact written with the change it tells of, or a pack of facts. `published_at` is null until JetStream has it."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[UUID]
    type: Mapped[str]
    schema_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[str]
    aggregate_version: Mapped[int | None]
    payload: Mapped[str]
    actor: Mapped[str]
    trace: Mapped[str]
    # How many facts the row tells, see `packs`.
    facts: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    published_at: Mapped[datetime | None]
    stream_sequence: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_error: Mapped[str | None]

    __table_args__ = (
        Index("outbox_unpublished_index", "id", postgresql_where=text("published_at IS NULL")),
        # These grow as the table does, and are asked seldom: a summary of its pages costs a write nothing.
        Index("outbox_published_at_index", "published_at", **SUMMARY),
        Index("outbox_stream_sequence_index", "stream_sequence", **SUMMARY),
        Index(
            CHANGE_KEY,
            "aggregate_id",
            "aggregate_version",
            unique=True,
            postgresql_where=text("type LIKE '%.ResourceChanged'"),
        ),
    )


class Inbox(KitBase):
    """These handlers have had their effects for this event; the row is in the transaction of the effects.

    Handlers that take lists have a row of their own, since their transactions are others.
    """

    __tablename__ = "inbox"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    together: Mapped[bool] = mapped_column(primary_key=True)
    handlers: Mapped[list[str]] = mapped_column(ARRAY(Text))
    handled_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (Index("inbox_handled_at_index", "handled_at", **SUMMARY),)


class DeadLetter(KitBase):
    """An event that a handler refused too often; it waits for a person and `replay`."""

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    handler: Mapped[str]
    event_id: Mapped[UUID]
    subject: Mapped[str]
    headers: Mapped[dict[str, Any]]
    payload: Mapped[str]
    error: Mapped[str]
    attempts: Mapped[int]
    first_time: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    last_time: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    resolved_at: Mapped[datetime | None]

    __table_args__ = (
        Index("dead_letters_event_key", "event_id", "handler", unique=True),
        Index("dead_letters_open_index", "id", postgresql_where=text("resolved_at IS NULL")),
    )


class ConfigEntry(KitBase):
    """The last known value of a configuration key, for a start while NATS is away."""

    __tablename__ = "config_entries"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB)
    revision: Mapped[int] = mapped_column(BigInteger)


class Schedule(KitBase):
    """When a job is due next. The row is locked while the job runs: once over all replicas."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_time: Mapped[datetime]
    last_as_of: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    retry_time: Mapped[datetime | None]
    last_error: Mapped[str | None]


class Copy(KitBase):
    """A foreign resource as its service last told it."""

    __tablename__ = "copies"

    name: Mapped[str] = mapped_column(primary_key=True)
    collection: Mapped[str] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(BigInteger)
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))


class Collaborator(KitBase):
    """Who collaborates on which row, as an index: the array on the row cannot serve one under row-level security."""

    __tablename__ = "collaborators"

    employee: Mapped[str] = mapped_column(primary_key=True)
    collection: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, index=True)


class Replay(KitBase):
    """The reply to an idempotency key."""

    __tablename__ = "replays"

    principal: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[bytes]
    reply: Mapped[bytes]
    create_time: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (Index("replays_create_time_index", "create_time", **SUMMARY),)


class NumberCounter(KitBase):
    """The first and the last human number drawn by a rule in a period."""

    __tablename__ = "number_counters"

    rule: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    first: Mapped[int] = mapped_column(BigInteger, server_default="1")


class NumberJump(KitBase):
    """Human numbers that an administrator has passed over, and why."""

    __tablename__ = "number_jumps"

    rule: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    actor: Mapped[str]
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CustomValue(KitBase):
    """Which record holds a value of a custom field that is unique."""

    __tablename__ = "custom_values"

    collection: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    record: Mapped[UUID] = mapped_column(index=True)


class HeldAction(KitBase):
    """A verb that waits for an approval, with all that is needed to run it later."""

    __tablename__ = "held_actions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(index=True)
    method: Mapped[str]
    request: Mapped[bytes]
    caller: Mapped[dict[str, Any]]
    digest: Mapped[str]
    policy: Mapped[str]
    policy_version: Mapped[int]
    # The fields whose change makes a decision stale and is refused meanwhile; every field where empty.
    watched: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Counted up each time that the content is changed and submitted anew.
    revision: Mapped[int]
    approval: Mapped[str | None]
    state: Mapped[str]
    create_time: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class BulkRun(KitBase):
    """Work over many rows: what is wanted, and how far it has come. Each chunk moves `position` in its own transaction."""

    __tablename__ = "bulk_runs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    about: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    requester: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default=text("'QUEUED'"))
    phase: Mapped[str] = mapped_column(server_default=text("''"))
    position: Mapped[int] = mapped_column(server_default=text("0"))
    tally: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    create_time: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (
        Index(
            "bulk_runs_waiting_index", "lease_until", postgresql_where=text("state IN ('QUEUED', 'RUNNING')")
        ),
    )


class BulkRow(KitBase):
    """What a run did with one line: the record and how it was before, or what is wrong."""

    __tablename__ = "bulk_rows"

    run: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[str]
    name: Mapped[str] = mapped_column(server_default=text("''"))
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

    __table_args__ = (Index("bulk_rows_action_index", "run", "action", "line", "part"),)


class Repoint(KitBase):
    """A reference that a merge brought to the survivor, as it was before: what undoing it needs."""

    __tablename__ = "repoints"

    merge: Mapped[str] = mapped_column(primary_key=True)
    table: Mapped[str] = mapped_column(primary_key=True)
    row: Mapped[str] = mapped_column(primary_key=True)
    column: Mapped[str] = mapped_column(primary_key=True)
    old: Mapped[Any] = mapped_column(JSONB)
    # Of the record, once it was changed.
    version: Mapped[int] = mapped_column(BigInteger)
    # MOVED; KEPT where the survivor has the same already; LEFT where undoing found it changed; BACK.
    state: Mapped[str] = mapped_column(server_default=text("'MOVED'"))
