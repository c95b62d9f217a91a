"""What a list and a search of a resource read, on a table that is large enough for the planner to choose.

One record of the resource is multiplied in a transaction that is rolled back, with the planner's statistics; what is
unique is not, for as long. Owners and departments are dense (every second row), sparse (eight rows) or not there.
"""

import json
import random
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from sqlalchemy import Select

from crmkit import listing, reading, scope
from crmkit.access import Given, Reach
from crmkit.auth import Caller
from crmkit.resource import Resource
from crmkit.search import SearchTerm, search_columns

ROWS, SPARSE, PAGE = 3000, 8, 20
# Of a database with millions of rows: what is read for one that is shown.
READ_FOR_ONE = 50
WORD = "罕见词"

_KIND = f"CASE WHEN one.number % {ROWS // SPARSE} = 0 THEN 'sparse' WHEN one.number % 2 = 1 THEN 'dense' ELSE 'other' END"
_CHANGED = {
    "id": "one.id",
    "create_time": "now() - one.number * interval '1 minute'",
    "update_time": "now() - one.number * interval '1 minute'",
    "owner": f"'employees/' || {_KIND}",
    "department": f"'departments/' || {_KIND}",
}
_UNIQUE = """
SELECT index.relname, pg_get_indexdef(index.oid) AS made, con.conname
FROM pg_index i JOIN pg_class index ON index.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
WHERE i.indrelid = $1::regclass AND NOT i.indisprimary AND (i.indisunique OR i.indisexclusion)
"""


def callers() -> Iterator[tuple[str, Caller]]:
    """Who asks, by what they reach."""
    for kind in ("dense", "sparse", "empty"):
        for what, departments in (("own", ()), ("departments", (f"departments/{kind}",))):
            yield (
                f"{kind} {what}",
                _caller(f"employees/{kind}" if not departments else "", Reach(departments=departments)),
            )
    yield "everything", _caller("", Reach(everything=True))


def _caller(employee: str, reach: Reach) -> Caller:
    employee = employee or f"employees/{uuid4()}"
    return Caller(employee, employee, permissions=frozenset("*"), access=Given(reach))


@asynccontextmanager
async def multiplied(server: str, app: str, model: type[Resource], key: UUID) -> AsyncGenerator[Any]:
    """A connection that sees the record `ROWS` times, as the app's user."""
    table = model.__table__
    connection = cast("Any", await asyncpg.connect(server, database=app))  # pyright: ignore[reportUnknownMemberType]
    transaction = connection.transaction()
    await transaction.start()
    try:
        await let_repeat(connection, table.name)
        ids = [uuid4() for _ in range(ROWS)]
        columns = [column.name for column in table.columns if column.computed is None]
        values = ", ".join(_CHANGED.get(name, f'row."{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        await connection.execute(
            f'INSERT INTO "{table.name}" ({names}) SELECT {values} FROM "{table.name}" row,'
            " unnest($1::uuid[]) WITH ORDINALITY AS one(id, number) WHERE row.id = $2",
            ids,
            key,
        )
        await connection.execute(f'ANALYZE "{table.name}"')
        if model.search_table is not None:
            await let_repeat(connection, model.search_table.name)
            entries = list(_entries(ids))
            await connection.copy_records_to_table(
                model.search_table.name,
                columns=list(entries[0]),
                records=[tuple(e.values()) for e in entries],
            )
            await connection.execute(f'ANALYZE "{model.search_table.name}"')
        # Tables beside it are short here, and of a short one the planner reads all although it has an index.
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(f'SET LOCAL ROLE "{app}"')
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


def statements(model: type[Resource], caller: Caller) -> Iterator[tuple[str, Select[Any]]]:
    """The first page in the order that is given to who asks for none, and what a seldom word finds."""
    shown = listing.shown(model)
    yield "list", listing.page_statement(model, shown, listing.order_of(model, "", caller), PAGE, caller)
    if model.search_table is not None and (term := SearchTerm.parse(WORD)) is not None:
        yield "search", listing.search_statement(model, term, shown, [], PAGE, 0, caller)


async def read_and_shown(
    connection: Any, model: type[Resource], statement: Select[Any], caller: Caller, planned: bool = False
) -> tuple[int, int, str]:
    """How many rows the statement read and how many it gave, and the plan: for these arguments or, `planned`, for any."""
    collections = [*model.scoped_as()]
    for name, value in zip(scope.SETTINGS, scope.settings(caller, collections), strict=True):
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
    text = reading.compiled(statement)
    explain = "EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON)"
    if planned:
        # As the hot path has it: one plan, whatever the arguments.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE asked AS {text.text}")
        given = ", ".join(_quoted(value) for value in text.with_values({}))
        plan = await connection.fetchval(f"{explain} EXECUTE asked{f'({given})' if given else ''}")
        await connection.execute("DEALLOCATE asked; SET LOCAL plan_cache_mode = auto")
    else:
        plan = await connection.fetchval(f"{explain} {text.text}", *text.with_values({}))
    return rows_read(plan), round(json.loads(plan)[0]["Plan"]["Actual Rows"]), plan


def _quoted(value: object) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def rows_read(plan: str) -> int:
    """The rows that an explained statement took from tables, those that it threw away included."""
    return _read(json.loads(plan)[0]["Plan"])


def _read(node: Mapping[str, Any]) -> int:
    own = 0
    if "Relation Name" in node:
        thrown = (value for name, value in node.items() if name.startswith("Rows Removed by"))
        own = round((node["Actual Rows"] + sum(thrown)) * node["Actual Loops"])
    return own + sum(_read(below) for below in node.get("Plans", ()))


async def let_repeat(connection: Any, table: str) -> None:
    """Drops what keeps rows of the table apart, and the owner under its policies."""
    await connection.execute(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY')
    for index in await connection.fetch(_UNIQUE, table):
        if index["conname"]:
            await connection.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{index["conname"]}" CASCADE')
        else:
            await connection.execute(f'DROP INDEX "{index["relname"]}"')
        if index["made"].startswith("CREATE UNIQUE"):
            await connection.execute(index["made"].replace("UNIQUE ", "", 1))


def _entries(ids: Iterable[UUID]) -> Iterator[dict[str, Any]]:
    chance = random.Random(1)
    for number, key in enumerate(ids):
        name = "".join(chr(chance.randrange(0x4E00, 0x5E00)) for _ in range(8))
        texts = [name + WORD if number % (ROWS // SPARSE) == 0 else name]
        yield {"id": key, **search_columns(texts)}
