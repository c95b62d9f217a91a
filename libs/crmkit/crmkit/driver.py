"""The driver under a session: for the kit's own statements, which are text and known at start.

They run in the session's transaction and cost a tenth of what the same costs through the ORM. Application code has
no need of this.
"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

# Where a session that lives for one transaction alone keeps its connection.
_KEPT = "crmkit.driver"


async def keep_driver(session: AsyncSession) -> None:
    """Spares the session of one transaction the way to its connection at every statement."""
    session.info[_KEPT] = await driver(session)


async def driver(session: AsyncSession) -> Any:
    """The asyncpg connection of the session's open transaction."""
    if (kept := session.info.get(_KEPT)) is not None:
        return kept
    connection = await session.connection()
    found = await driver_of(connection)
    if not found.is_in_transaction():
        # SQLAlchemy begins with the first statement that goes through itself; before that one, each would commit.
        await connection.exec_driver_sql("SELECT 1")
    return found


async def driver_of(connection: AsyncConnection) -> Any:
    """The asyncpg connection under a connection whose transaction has begun."""
    return (await connection.get_raw_connection()).driver_connection
