"""Rows written by text on the driver's connection, in one round trip with what goes along with them.

The ORM knows the rows afterwards as if it had written them itself. What it alone can write (rows beside resources,
columns with defaults of its own, many rows at once) stays with it.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ClauseElement, inspect
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from crmkit.columns import MessageColumn
from crmkit.resource import Resource

FEW = 4
DIALECT = PGDialect_asyncpg()
Plan = tuple[tuple[str, str, Callable[[Any], Any] | None], ...]
"""Of each column: its attribute, its name, and what makes its value one of the driver's."""


def insertable(rows: Collection[Any]) -> bool:
    """Whether the rows can be written by text."""
    return len(rows) <= FEW and all(isinstance(row, Resource) and _plain(type(row)) for row in rows)


def insertion(row: Resource) -> tuple[Any, ...]:
    """The statement that writes a new row, and its arguments."""
    state, model = row.__dict__, type(row)
    # A column that nobody has set gets the default of the table.
    plan = _plan(model, frozenset(attribute for attribute, _, _ in columns_of(model) if attribute in state))
    values = (state[attribute] if bind is None else bind(state[attribute]) for attribute, _, bind in plan)
    return _statement(model, plan), *values


def written(session: Session, rows: Sequence[Resource]) -> None:
    """Tells the ORM that the new rows stand in the database as they are."""
    for row in rows:
        session.expunge(row)
        make_transient_to_detached(row)
        session.add(row)


def updatable(rows: Collection[Resource]) -> bool:
    """Whether the changed rows can be written by text: each of another table, so that none takes what another leaves."""
    models = {type(row) for row in rows}
    return len(models) == len(rows) <= FEW and all(
        _plain(type(row))
        and not any(
            isinstance(row.__dict__.get(name), ClauseElement) for name in inspect(row).committed_state
        )
        for row in rows
    )


def change(row: Resource) -> tuple[Any, ...] | None:
    """The statement that writes what has changed of a row, which has its next version then, and the arguments.

    It returns the row it has written, none where another was quicker. None where nothing has changed.
    """
    state, known = row.__dict__, inspect(row)
    touched = known.committed_state.keys()
    changed = frozenset(
        name
        for name, _, _ in columns_of(type(row))
        if name in touched and known.attrs[name].history.has_changes()
    )
    if not changed:
        return None
    before = row.version
    set_committed_value(row, "version", before + 1)
    plan = _plan(type(row), changed | {"version"})
    values = (state[attribute] if bind is None else bind(state[attribute]) for attribute, _, bind in plan)
    return _change(type(row), plan), *values, row.id, before


def taken_over(session: Session, rows: Sequence[Resource]) -> None:
    """Tells the ORM that the changed rows stand in the database as they are."""
    for row in rows:
        # What the ORM itself does with a row that it has read.
        inspect(row)._commit_all(row.__dict__, session.identity_map)  # pyright: ignore[reportPrivateUsage]


@cache
def _plain(model: type[Resource]) -> bool:
    mapped: Any = inspect(model)
    return not mapped.relationships and all(column.default is None for column in model.__table__.columns)


@cache
def columns_of(model: type[Resource]) -> Plan:
    """The columns of the model's table."""
    mapped: Any = inspect(model)
    return tuple(
        (mapped.get_property_by_column(column).key, column.name, bind_of(column.type))
        for column in model.__table__.columns
    )


def bind_of(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a value of the column one of the driver's; None where it is one."""
    if isinstance(kind, MessageColumn):
        return kind.text_of
    return kind.dialect_impl(DIALECT).bind_processor(DIALECT)


@lru_cache(1024)
def _plan(model: type[Resource], present: frozenset[str]) -> Plan:
    return tuple(column for column in columns_of(model) if column[0] in present)


@cache
def _change(model: type[Resource], plan: Plan) -> str:
    sets = ", ".join(f'"{name}" = ${number}' for number, (_, name, _) in enumerate(plan, start=1))
    key, version = len(plan) + 1, len(plan) + 2
    return f"UPDATE {model.__table__.name} SET {sets} WHERE id = ${key} AND version = ${version} RETURNING 1"


@cache
def _statement(model: type[Resource], plan: Plan) -> str:
    names = ", ".join(f'"{name}"' for _, name, _ in plan)
    values = ", ".join(f"${number}" for number in range(1, len(plan) + 1))
    return f"INSERT INTO {model.__table__.name} ({names}) VALUES ({values})"
