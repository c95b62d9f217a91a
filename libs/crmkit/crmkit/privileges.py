"""What the database lets an app do beyond reading and writing its rows: nothing, where it is set up as it should be.

The fifth layer against bad input: whatever statement came through all the others runs as a role that owns no table,
makes none, goes around no row-level security and belongs to nobody who could.
"""

from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from crmkit.map import APPS

_EXCESSES = text(r"""
SELECT 'role ' || rolname || ' is ' || what FROM pg_roles, LATERAL (VALUES
    ('superuser', rolsuper), ('above row-level security', rolbypassrls),
    ('able to make roles', rolcreaterole), ('able to make databases', rolcreatedb)) AS may (what, so)
  WHERE so AND rolname = ANY(CAST(:roles AS text[]) || CAST(current_user AS text))
UNION ALL
SELECT 'role ' || member.rolname || ' belongs to ' || granted.rolname FROM pg_auth_members
  JOIN pg_roles member ON member.oid = member JOIN pg_roles granted ON granted.oid = roleid
  WHERE member.rolname = ANY(CAST(:roles AS text[]) || CAST(current_user AS text))
UNION ALL
SELECT 'database ' || datname || ' belongs to ' || rolname FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba
  WHERE rolname = ANY(CAST(:roles AS text[]) || CAST(current_user AS text))
UNION ALL
SELECT kind || ' ' || name || ' belongs to the app' FROM (
    SELECT 'relation' AS kind, CAST(relname AS text) AS name, relowner AS owner FROM pg_class
    UNION ALL SELECT 'function', proname, proowner FROM pg_proc
    UNION ALL SELECT 'schema', nspname, nspowner FROM pg_namespace) AS owned
  WHERE owner = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND name NOT LIKE 'pg\_%'
UNION ALL
SELECT 'the app may make objects in schema public' WHERE has_schema_privilege('public', 'CREATE')
UNION ALL
SELECT 'the app may ' || lower(what) || ' in its database' FROM (VALUES ('CREATE'), ('TEMPORARY')) AS may (what)
  WHERE has_database_privilege(current_database(), what)
UNION ALL
SELECT 'the app may ' || lower(what) || ' table ' || relname
  FROM pg_class, (VALUES ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) AS may (what)
  WHERE relkind IN ('r', 'p') AND relnamespace = CAST('public' AS regnamespace) AND has_table_privilege(oid, what)
UNION ALL
SELECT 'table ' || name || ' has no row-level security that holds for everybody' FROM unnest(CAST(:tables AS text[])) AS name
  LEFT JOIN pg_class ON relname = name AND relnamespace = CAST('public' AS regnamespace)
  WHERE NOT coalesce(relrowsecurity AND relforcerowsecurity
                     AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid), false)
ORDER BY 1
""")


async def excesses(connection: AsyncConnection | AsyncSession, tables: list[str]) -> list[str]:
    """What the connected role, and those of all apps on its server, may beyond their work; sentences, sorted.

    `tables` are those of resources, which row-level security has to guard.
    """
    roles = [app.name for app in APPS if app.database]
    found = await cast("Any", connection).execute(_EXCESSES, {"roles": roles, "tables": tables})
    return [str(sentence) for sentence in found.scalars()]
