"""Facts are partitioned by month; who sees a row is that of its source, in the database too."""

from collections.abc import Sequence

from alembic import op

revision: str = "5d0c3e7f18a2"
down_revision: str | None = "1dbc93fb65b1"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Months beyond these fall into the table for all others, which a later migration splits.
FIRST_YEAR, LAST_YEAR = 2025, 2031

# What `SeenAsSource` says, as the second wall.
SOURCE_SCOPE = """
    source_scope = 'SHARED'
    OR (SELECT current_setting('crm.scope', true)) = 'SYSTEM'
    OR (SELECT current_setting('crm.scope', true)) = 'ALL' AND source_scope = 'OWNED'
    OR (SELECT current_setting('crm.scope', true)) = 'ACCOUNT' AND source_scope = 'OWNED'
        AND account = (SELECT current_setting('crm.account', true))
    OR (SELECT current_setting('crm.scope', true)) IN ('OWN', 'DEPARTMENT', 'BELOW', 'ALL') AND (
        owner = (SELECT nullif(current_setting('crm.employee', true), ''))
        OR collaborators @> ARRAY[(SELECT nullif(current_setting('crm.employee', true), ''))]
        OR source_scope = 'OWNED'
            AND department = ANY ((SELECT current_setting('crm.departments', true)::text[])::text[])
    )
"""


def upgrade() -> None:
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            following = f"{year + month // 12}-{month % 12 + 1:02}-01"
            op.execute(
                f"CREATE TABLE facts_{year}_{month:02} PARTITION OF facts"
                f" FOR VALUES FROM ('{year}-{month:02}-01') TO ('{following}')"
            )
    op.execute("CREATE TABLE facts_other PARTITION OF facts DEFAULT")
    for table in ("search_documents", "facts"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY source_scope ON {table} AS RESTRICTIVE FOR SELECT USING ({SOURCE_SCOPE})")


def downgrade() -> None:
    for table in ("search_documents", "facts"):
        op.execute(f"DROP POLICY source_scope ON {table}")
    op.execute("DROP TABLE facts_other")
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            op.execute(f"DROP TABLE facts_{year}_{month:02}")
