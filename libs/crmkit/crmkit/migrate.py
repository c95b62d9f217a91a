"""Brings the database of a service to the version of its code: the kit's tables, then its own.

A service's `migrations/env.py` is three lines:

    from crmkit.migrate import run
    from sales.model import Base
    run(Base.metadata)
"""

import asyncio
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, MetaData, String, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from crmkit.columns import MessageColumn
from crmkit.tables import kit_metadata

KIT_MIGRATIONS = Path(__file__).with_name("migrations")
VERSION_TABLE = "kit_version"
LOCK_ATTEMPTS = 30

log = logging.getLogger(__name__)


async def upgrade(url_owner: str, app_name: str, service_migrations_path: Path) -> None:
    """Migrates as the owner and grants the app's role, which must exist, the use of the tables.

    Two may start at once: one waits. A migration that cannot get its lock within a second gives way
    to the traffic and is tried again.
    """

    def migrate(connection: Connection) -> None:
        _let_in(connection, app_name)
        command.upgrade(_config(KIT_MIGRATIONS, connection), "head")
        command.upgrade(_config(service_migrations_path, connection), "head")

    await _with_connection(url_owner, migrate)


async def check(url_owner: str, service_migrations_path: Path) -> None:
    """Raises alembic.util.CommandError where models and migrations differ."""

    def compare(connection: Connection) -> None:
        command.check(_config(KIT_MIGRATIONS, connection))
        command.check(_config(service_migrations_path, connection))

    await _with_connection(url_owner, compare)


async def revise(url_owner: str, migrations_path: Path, message: str) -> None:
    """Writes the migration that the changed models need; a person reads it before it is committed."""

    def write(connection: Connection) -> None:
        command.revision(_config(migrations_path, connection), message, autogenerate=True)

    await _with_connection(url_owner, write)


def run(metadata: MetaData) -> None:
    """What env.py calls: runs the migrations of one folder on the connection that it was given."""
    connection: Connection = context.config.attributes["connection"]
    ours = metadata is kit_metadata
    kit_tables = {VERSION_TABLE, *kit_metadata.tables}

    @cache
    def partitions() -> set[str]:
        return set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))

    def included(name: str | None, kind: str, _: Any) -> bool:
        # Partitions come and go with time; the model is that of the table which they are parts of.
        return kind != "table" or ((name in kit_tables) == ours and name not in partitions())

    def render(kind: str, found: Any, autogen: Any) -> str | Literal[False]:
        # A migration must run with tomorrow's kit too, so it names the types of the database and not ours.
        if kind == "type" and isinstance(found, MessageColumn):
            autogen.imports.add("from sqlalchemy.dialects import postgresql")
            return "postgresql.JSONB()"
        if kind == "type" and isinstance(found, ARRAY):
            item: Any = cast("Any", found).item_type
            if isinstance(item, String) and item.collation:
                autogen.imports.add("from sqlalchemy.dialects import postgresql")
                return f"postgresql.ARRAY(sa.Text(collation={item.collation!r}))"
        return False

    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE if ours else "alembic_version",
        include_name=included,
        render_item=render,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _config(path: Path, connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(path))
    config.set_main_option("file_template", "%%(year)d_%%(month).2d_%%(day).2d_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def _let_in(connection: Connection, role: str) -> None:
    """The owner's tables, those that come included, can be used by the app, and not altered."""
    quoted = connection.dialect.identifier_preparer.quote(role)
    connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {quoted}"))
    for what in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT ON SEQUENCES"):
        connection.execute(text(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {what} TO {quoted}"))
    connection.commit()


async def _with_connection(url: str, work: Callable[[Connection], None]) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)
    try:
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                return await _locked(engine, work)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03" or attempt == LOCK_ATTEMPTS:
                    raise
                log.warning("a migration waits for a lock", extra={"attempt": attempt})
                await asyncio.sleep(1)
    finally:
        await engine.dispose()


async def _locked(engine: AsyncEngine, work: Callable[[Connection], None]) -> None:
    async with engine.connect() as connection:
        # A session lock, so that migrations outside a transaction hold it too; and asked for again and
        # again, since a statement that waits would itself be waited for by an index made concurrently.
        while not await connection.scalar(text("SELECT pg_try_advisory_lock(hashtext('crmkit.migrate'))")):
            await connection.rollback()
            await asyncio.sleep(0.2)
        await connection.execute(text("SET lock_timeout = '1s'"))
        await connection.execute(text("SET statement_timeout = '15min'"))
        await connection.commit()
        await connection.run_sync(work)
        await connection.commit()
