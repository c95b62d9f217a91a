"""Fifty thousand accounts, quickly: the rows, search entries, match keys and copies that creates would have written.

They are made by the service's own model and go in with COPY, without change facts: the figures are of a database that
has been there for long, not of one that still tells of its import.
"""

import json
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from crmkit.mapping import mapper
from crmkit.resource import Resource
from crmkit.search import search_columns
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from tests.load.scenarios import company

BATCH = 2000
# What is measured refers to accounts in these.
_KEEP_COPIES = ("sales", "orders", "billing")
_DIALECT = PGDialect_asyncpg()


async def accounts(url: str, count: int, owners: Sequence[tuple[str, str]]) -> None:
    """Fills the database of customer, and the copies of others, up to `count` accounts; the owners take turns.

    `owners` are employees with their departments.
    """
    from customer.model.account import Account, MatchKeyRow
    from customer.normalising import rules_in_force

    customer = await asyncpg.connect(f"{url}/customer")
    there = await customer.fetchval("SELECT count(*) FROM accounts")
    others = [found for app in _KEEP_COPIES if (found := await _connect(url, app)) is not None]
    chance, began = random.Random(there), datetime.now(UTC) - timedelta(days=900)
    for start in range(there, count, BATCH):
        rows: list[Any] = []
        for number in range(start, min(start + BATCH, count)):
            owner, department = owners[number % len(owners)]
            row = Account(
                display_name=company(chance),
                kind="COMPANY",
                roles=["PROSPECT"],
                state="ACTIVE",
                source="IMPORT",
            )
            row.number, row.owner, row.department, row.creator = f"S-{number:07}", owner, department, owner
            row.create_time = row.update_time = began + timedelta(minutes=number)
            row.normalise()
            rows.append(row)
        identities = [(row, row.identity()) for row in rows]
        keys = [
            (row.id, key.kind.value, key.value, began)
            for row, identity in identities
            for key in identity.keys
        ]
        await copy(customer, Account.__table__, map(values, rows))
        await copy(customer, Account.search_table, map(found_by, rows))
        await copy(customer, MatchKeyRow.__table__, keys)
        for other in others:
            await other.copy_records_to_table(
                "copies", columns=["name", "collection", "payload", "version", "deleted"],
                records=[(row.name, "accounts", told(row), 1, False) for row in rows],
            )  # fmt: skip
    # Else the keys of all would be made anew within five minutes, in the middle of a row.
    await customer.execute(
        "INSERT INTO scan_marks (name, time, value) VALUES ('normaliser', now(), $1)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value", rules_in_force(lambda _: None),
    )  # fmt: skip
    for connection in (customer, *others):
        await connection.execute("ANALYZE")
        await connection.close()


@asynccontextmanager
async def without_fragments(connection: Any, table: str) -> AsyncGenerator[None]:
    """The table without its indexes of fragments, for very many rows: they are made anew at the end."""
    found = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1 AND indexdef LIKE '%gin%'", table
    )
    # It waits for all rows, and the local database ends sessions that only wait.
    await connection.execute("SET maintenance_work_mem = '256MB'; SET idle_session_timeout = 0")
    for index in found:
        await connection.execute(f'DROP INDEX "{index["indexname"]}"')
    yield
    for index in found:
        await connection.execute(index["indexdef"])


async def opportunities(url: str, count: int, names: Sequence[str], owner: tuple[str, str]) -> None:
    """Fills the database of sales up to `count` open deals."""
    from sales.model.opportunity import Opportunity

    sales = await _connect(url, "sales")
    if sales is None:
        return
    there = await sales.fetchval("SELECT count(*) FROM opportunities")
    pipeline = await sales.fetchrow("SELECT id, stages->0->>'key' AS stage FROM pipelines WHERE is_default")
    began = datetime.now(UTC) - timedelta(days=300)
    for start in range(there, count, BATCH):
        rows: list[Any] = []
        for number in range(start, min(start + BATCH, count)):
            row = Opportunity(
                display_name=f"采购 {number}", account=names[number % len(names)], state="OPEN",
                pipeline=f"pipelines/{pipeline['id']}", stage=pipeline["stage"],
            )  # fmt: skip
            row.number, (row.owner, row.department) = f"S-{number:07}", owner
            row.create_time = row.update_time = began + timedelta(minutes=number)
            rows.append(row)
        await copy(sales, Opportunity.__table__, map(values, rows))
        if Opportunity.search_table is not None:
            await copy(sales, Opportunity.search_table, map(found_by, rows))
    await sales.execute("ANALYZE")
    await sales.close()


async def copy(connection: Any, table: Any, records: Iterable[Sequence[Any]]) -> None:
    """COPY into every column of the table, in its order."""
    columns = [column.name for column in table.columns]
    await connection.copy_records_to_table(table.name, columns=columns, records=list(records))


def values(row: Resource) -> list[Any]:
    """The row as the database keeps it."""
    table: Table = getattr(row, "__table__")  # noqa: B009
    found: list[Any] = []
    for column in table.columns:
        value = getattr(row, column.key)
        bind = column.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
        found.append(bind(value) if bind is not None else value)
    return found


def found_by(row: Resource) -> list[Any]:
    """The row's search entry."""
    texts = row.search_texts()
    return [row.id, *search_columns(texts, texts, phones=row.search_phones()).values()]


def told(row: Resource) -> str:
    """The row as its change fact would tell it."""
    from google.protobuf.json_format import MessageToDict

    return json.dumps(MessageToDict(mapper(type(row)).message(row)), ensure_ascii=False)


async def _connect(url: str, app: str) -> Any:
    try:
        return await asyncpg.connect(f"{url}/{app}")
    except asyncpg.InvalidCatalogNameError:
        return None
