"""The first tables of the kit: facts, configuration, timed work, copies, replays, numbers, held actions."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "2026_11_21_first_tables"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "bulk_rows",
        sa.Column("run", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "detail", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.PrimaryKeyConstraint("run", "line", "part", name=op.f("bulk_rows_pkey")),
    )
    op.create_index("bulk_rows_action_index", "bulk_rows", ["run", "action", "line", "part"], unique=False)
    op.create_table(
        "bulk_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'QUEUED'"), nullable=False),
        sa.Column("phase", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "tally", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "lease_until",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "create_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("bulk_runs_pkey")),
    )
    op.create_index(op.f("bulk_runs_about_index"), "bulk_runs", ["about"], unique=False)
    op.create_index(
        "bulk_runs_waiting_index",
        "bulk_runs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')"),
    )
    op.create_table(
        "collaborators",
        sa.Column("employee", sa.Text(), nullable=False),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("employee", "collection", "id", name=op.f("collaborators_pkey")),
    )
    op.create_index(op.f("collaborators_id_index"), "collaborators", ["id"], unique=False)
    op.create_table(
        "config_entries",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("config_entries_pkey")),
    )
    op.create_table(
        "copies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("copies_pkey")),
    )
    op.create_index(op.f("copies_collection_index"), "copies", ["collection"], unique=False)
    op.create_table(
        "custom_values",
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("record", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("collection", "key", "digest", name=op.f("custom_values_pkey")),
    )
    op.create_index(op.f("custom_values_record_index"), "custom_values", ["record"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("handler", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "first_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "last_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("dead_letters_pkey")),
    )
    op.create_index("dead_letters_event_key", "dead_letters", ["event_id", "handler"], unique=True)
    op.create_index(
        "dead_letters_open_index",
        "dead_letters",
        ["id"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "held_actions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("caller", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("watched", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("approval", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "create_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("held_actions_pkey")),
    )
    op.create_index(op.f("held_actions_target_index"), "held_actions", ["target"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("together", sa.Boolean(), nullable=False),
        sa.Column("handlers", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "handled_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("event_id", "together", name=op.f("inbox_pkey")),
    )
    op.create_index(
        "inbox_handled_at_index",
        "inbox",
        ["handled_at"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "number_counters",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("rule", "period", name=op.f("number_counters_pkey")),
    )
    op.create_table(
        "number_jumps",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rule", "period", "first", name=op.f("number_jumps_pkey")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("aggregate_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.Text(), nullable=False),
        sa.Column("aggregate_version", sa.Integer(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("facts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stream_sequence", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
    )
    op.create_index(
        "outbox_change_key",
        "outbox",
        ["aggregate_id", "aggregate_version"],
        unique=True,
        postgresql_where=sa.text("type LIKE '%.ResourceChanged'"),
    )
    op.create_index(
        "outbox_published_at_index",
        "outbox",
        ["published_at"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_index(
        "outbox_stream_sequence_index",
        "outbox",
        ["stream_sequence"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_index(
        "outbox_unpublished_index",
        "outbox",
        ["id"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "replays",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.Column(
            "create_time",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("principal", "method", "key", name=op.f("replays_pkey")),
    )
    op.create_index(
        "replays_create_time_index",
        "replays",
        ["create_time"],
        unique=False,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "repoints",
        sa.Column("merge", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("old", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'MOVED'"), nullable=False),
        sa.PrimaryKeyConstraint("merge", "table", "row", "column", name=op.f("repoints_pkey")),
    )
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_as_of", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("schedules_pkey")),
    )


def downgrade() -> None:
    op.drop_table("schedules")
    op.drop_table("repoints")
    op.drop_index(
        "replays_create_time_index",
        table_name="replays",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.drop_table("replays")
    op.drop_index(
        "outbox_unpublished_index", table_name="outbox", postgresql_where=sa.text("published_at IS NULL")
    )
    op.drop_index(
        "outbox_stream_sequence_index",
        table_name="outbox",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.drop_index(
        "outbox_published_at_index",
        table_name="outbox",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.drop_index(
        "outbox_change_key", table_name="outbox", postgresql_where=sa.text("type LIKE '%.ResourceChanged'")
    )
    op.drop_table("outbox")
    op.drop_table("number_jumps")
    op.drop_table("number_counters")
    op.drop_index(
        "inbox_handled_at_index",
        table_name="inbox",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.drop_table("inbox")
    op.drop_index(op.f("held_actions_target_index"), table_name="held_actions")
    op.drop_table("held_actions")
    op.drop_index(
        "dead_letters_open_index", table_name="dead_letters", postgresql_where=sa.text("resolved_at IS NULL")
    )
    op.drop_index("dead_letters_event_key", table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index(op.f("custom_values_record_index"), table_name="custom_values")
    op.drop_table("custom_values")
    op.drop_index(op.f("copies_collection_index"), table_name="copies")
    op.drop_table("copies")
    op.drop_table("config_entries")
    op.drop_index(op.f("collaborators_id_index"), table_name="collaborators")
    op.drop_table("collaborators")
    op.drop_index(
        "bulk_runs_waiting_index",
        table_name="bulk_runs",
        postgresql_where=sa.text("state IN ('QUEUED', 'RUNNING')"),
    )
    op.drop_index(op.f("bulk_runs_about_index"), table_name="bulk_runs")
    op.drop_table("bulk_runs")
    op.drop_index("bulk_rows_action_index", table_name="bulk_rows")
    op.drop_table("bulk_rows")
