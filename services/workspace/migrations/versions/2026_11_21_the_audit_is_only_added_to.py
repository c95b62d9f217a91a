"""The audit is only added to: months as partitions, and no right to change or delete."""

from collections.abc import Sequence

from alembic import op

revision: str = "0b6f1d2a9c41"
down_revision: str | None = "918727113921"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# The partitions lie in a schema of their own, to which the app has no right: it reaches them through the one table.
# The app may not make tables; the owner's function makes those of a month for it.
_MONTH = """
CREATE FUNCTION audit_month(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    first date := date_trunc('month', day);
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS audit_months.%I PARTITION OF audit_entries FOR VALUES FROM (%L) TO (%L)',
        'audit_' || to_char(first, 'YYYY_MM'), first::timestamp AT TIME ZONE 'UTC',
        (first + interval '1 month')::timestamp AT TIME ZONE 'UTC'
    );
END
$$
"""
# Takes away what an archive has, once the service has proven it again and marked it as dropped, and nothing else. A month
# that has nothing else goes as a table; what came late in it, behind the archive's end, stays.
_DROP = """
CREATE FUNCTION audit_drop(until bigint, expected text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public AS $$
DECLARE
    part record;
    rest bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM audit_archives WHERE state = 'DROPPED' AND last_seq = until AND last_hash = expected)
        OR NOT EXISTS (SELECT FROM audit_entries WHERE seq = until AND hash = expected) THEN
        RAISE EXCEPTION 'the entries until % are not archived', until;
    END IF;
    FOR part IN
        SELECT child.oid::regclass AS place, child.relname FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = 'audit_entries'::regclass
    LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE seq > $1', part.place) INTO rest USING until;
        IF rest = 0 AND part.relname ~ '^audit_[0-9]{4}_[0-9]{2}$'
            AND to_date(right(part.relname, 7), 'YYYY_MM') < date_trunc('month', now())::date THEN
            EXECUTE format('DROP TABLE %s', part.place);
        ELSE
            EXECUTE format('DELETE FROM %s WHERE seq <= $1', part.place) USING until;
        END IF;
    END LOOP;
END
$$
"""


def upgrade() -> None:
    op.execute("CREATE SCHEMA audit_months")
    op.execute(_MONTH)
    op.execute(_DROP)
    op.execute("SELECT audit_month((now() + make_interval(months => n))::date) FROM generate_series(-1, 3) n")
    # What is dated outside the months that exist is kept too.
    op.execute("CREATE TABLE audit_months.audit_other PARTITION OF audit_entries DEFAULT")
    op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON audit_entries FROM workspace")


def downgrade() -> None:
    op.execute("GRANT UPDATE, DELETE ON audit_entries TO workspace")
    op.execute("DROP FUNCTION audit_drop(bigint, text)")
    op.execute("DROP FUNCTION audit_month(date)")
    op.execute("DROP SCHEMA audit_months CASCADE")
