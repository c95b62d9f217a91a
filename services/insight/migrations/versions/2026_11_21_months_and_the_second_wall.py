"""Facts are partitioned by month. The second wall is `SeenAsSource.further_policies`."""

from collections.abc import Sequence

from alembic import op

revision: str = "5d0c3e7f18a2"
down_revision: str | None = "1dbc93fb65b1"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Months beyond these fall into the table for all others, which a later migration splits.
FIRST_YEAR, LAST_YEAR = 2025, 2031


def upgrade() -> None:
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            following = f"{year + month // 12}-{month % 12 + 1:02}-01"
            op.execute(
                f"CREATE TABLE facts_{year}_{month:02} PARTITION OF facts"
                f" FOR VALUES FROM ('{year}-{month:02}-01') TO ('{following}')"
            )
    op.execute("CREATE TABLE facts_other PARTITION OF facts DEFAULT")


def downgrade() -> None:
    op.execute("DROP TABLE facts_other")
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        for month in range(1, 13):
            op.execute(f"DROP TABLE facts_{year}_{month:02}")
