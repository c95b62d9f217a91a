"""Reads of the hot path, get and list: compiled text on the driver's connection, records straight to messages.

    BEGIN with the caller's scope → one SELECT → COMMIT

The statements are the ones of `scope` and `listing`, compiled once for each reach of a caller; what they cannot say
(a filter, fields that are properties of the model, a model's own `readable`) goes the way of every other call.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Float, Select, and_, bindparam, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from crmkit import listing
from crmkit.access import Given, Reach
from crmkit.auth import Caller
from crmkit.driver import transaction
from crmkit.errors import NotFound
from crmkit.listing import Query
from crmkit.mapping import mapper
from crmkit.resource import Resource, parse_name
from crmkit.scope import BRANCHES, SETTINGS, predicate, scoped_by, settings
from crmkit.search import SearchTerm

CACHED = 2048
R = TypeVar("R", bound=Resource)
_DIALECT = PGDialect_asyncpg()
# The server's own numbers for the two types of numbers that SQLAlchemy reads differently.
_NUMERIC, _FLOAT8 = 1700, 701
# Columns of JSON that hold nothing.
_EMPTY = frozenset(["[]", "{}"])

Decode = tuple[tuple[int, Callable[[Any], Any]], ...]


class Seen(NamedTuple):
    """What of a caller decides which rows of a collection it sees."""

    system: bool
    employee: str
    account: str
    reach: Reach
    collection: str

    @classmethod
    def by(cls, caller: Caller, model: type[Resource]) -> "Seen":
        """What the caller sees of the model's rows."""
        collection = scoped_by(model)
        return cls(caller.is_system, caller.employee, caller.account, caller.reach(collection), collection)

    def caller(self) -> Caller:
        """A caller who sees the same."""
        actor = "system/reading" if self.system else ""
        return Caller(
            actor, self.employee, permissions=frozenset("*"), account=self.account, access=Given(self.reach)
        )


@dataclass(frozen=True)
class Statement:
    """SQL as the driver takes it, its arguments in order, and what turns its columns into values."""

    text: str
    arguments: tuple[tuple[str, Any], ...]
    decode: Decode

    def with_values(self, values: Mapping[str, Any]) -> list[Any]:
        """The arguments, the named ones from `values`."""
        return [values.get(name, value) for name, value in self.arguments]

    def read(self, record: Sequence[Any]) -> list[Any]:
        """The record's values as `Mapper.record_message` takes them."""
        values = list(record)
        for index, decode in self.decode:
            value = values[index]
            values[index] = (
                None if value is None or (isinstance(value, str) and value in _EMPTY) else decode(value)
            )
        return values


def plain(model: type[Resource]) -> bool:
    """True where messages are made of columns alone and the data scope is the only condition."""
    return bool(mapper(model).columns) and narrow(model)


def narrow(model: type[Resource]) -> bool:
    """True where the data scope is the only condition on who reads the model's rows."""
    return model.readable.__func__ is Resource.readable.__func__


def compiled(statement: Select[Any]) -> Statement:
    """The statement as text."""
    found = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    arguments: list[tuple[str, Any]] = []
    for name in found.positiontup or ():
        # The values of a list (`IN`) have names of their own and go as they are.
        bound = found.binds.get(name)
        process = bound.type.dialect_impl(_DIALECT).bind_processor(_DIALECT) if bound is not None else None
        value = found.params[name]
        arguments.append((name, process(value) if process and value is not None else value))
    decode: list[tuple[int, Callable[[Any], Any]]] = []
    for index, column in enumerate(statement.selected_columns):
        number = _FLOAT8 if isinstance(column.type, Float) else _NUMERIC
        process = column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, number)
        if process is not None:
            decode.append((index, process))
    return Statement(str(found), tuple(arguments), tuple(decode))


def reading(engine: AsyncEngine, seen: Seen, planned: bool = False) -> AbstractAsyncContextManager[Any]:
    """A driver connection in a read-only transaction that knows the caller's scope.

    `planned`: a statement keeps the plan that its connection has of it.
    """
    return transaction(engine, _begin(seen, planned))


def planned_once(seen: Seen) -> bool:
    """True where one plan of a list is good for whatever arguments: none is a set of owners or departments, or a rule.

    To plan it anew, for both walls, costs more than to read a page. How many rows a set stands for no plan can know.
    """
    reach = seen.reach
    return not (reach.rules or reach.owners or reach.wall is not None or len(reach.departments) > BRANCHES)


@lru_cache(CACHED)
def _begin(seen: Seen, planned: bool) -> str:
    """One round trip; the scope holds before any policy is asked, as another statement comes only after it."""
    told = dict[str, str](zip(SETTINGS, settings(seen.caller(), [seen.collection]), strict=True))
    if planned:
        told["plan_cache_mode"] = "force_generic_plan"
    values = ", ".join(f"set_config('{name}', {_quoted(value)}, true)" for name, value in told.items())
    return f"BEGIN READ ONLY; SELECT {values}"


def _quoted(value: str) -> str:
    """A literal; the server takes backslashes as they are (`standard_conforming_strings`, set by `open_engine`)."""
    return "'" + value.replace("'", "''") + "'"


@lru_cache(CACHED)
def _one(model: type[Resource], seen: Seen) -> Statement:
    row: Any = model
    statement = select(*mapper(model).columns).where(
        row.id == bindparam("key"), predicate(model, seen.caller())
    )
    return compiled(statement)


def by_name(model: type[R], caller: Caller, lock: bool) -> Select[R]:
    """The row of the id `key` where the caller sees it, for the ORM: to build it anew costs 150 µs."""
    if narrow(model):
        return _by_name(model, Seen.by(caller, model), lock)
    return _row(model, caller, lock)


@lru_cache(CACHED)
def by_key(model: type[R], lock: bool) -> Select[R]:
    """The row of the id `key`, whoever may see it."""
    statement = select(model).where(model.id == bindparam("key"))
    return statement.with_for_update(of=model) if lock else statement


@lru_cache(CACHED)
def _by_name(model: type[Any], seen: Seen, lock: bool) -> Select[Any]:
    return _row(model, seen.caller(), lock)


def _row(model: type[Any], caller: Caller, lock: bool) -> Select[Any]:
    statement = select(model).where(model.id == bindparam("key"), predicate(model, caller))
    return statement.with_for_update(of=model) if lock else statement


async def get(engine: AsyncEngine, model: type[Resource], name: str, caller: Caller) -> Message:
    """The message of the record with the name; NotFound where it is absent or invisible."""
    key, seen = parse_name(name, model.described.collection), Seen.by(caller, model)
    statement = _one(model, seen)
    async with reading(engine, seen) as connection:
        record = await connection.fetchrow(statement.text, *statement.with_values({"key": key}))
    if record is None:
        raise NotFound()
    return mapper(model).record_message(statement.read(record), caller)


async def page(
    engine: AsyncEngine,
    model: type[Resource],
    request: Any,
    reply: Any,
    field: str,
    caller: Caller,
    secret: bytes,
) -> None:
    """Puts a page of what the caller may see, without a filter, into a reply's field, and its token."""
    query = Query(order_by=request.order_by, q=request.q)
    size, seen = listing.size_of(request.page_size), Seen.by(caller, model)
    token, digest = request.page_token, query.digest(model)
    key = listing.open_token(token, digest, caller, secret) if token else None
    order = listing.order_of(model, query.order_by, caller) if query.order_by or not query.q.strip() else []
    if query.q.strip():
        term = listing.search_term(model, query)
        if term is None:
            return
        offset, planned = int(key[0]) if key else 0, False
        statement = _found(model, seen, query.order_by, term.shape(), size)
        values = {**term.values(), "offset": offset}
    else:
        offset, planned = None, planned_once(seen)
        statement = _listed(model, seen, query.order_by, size, key is not None)
        values = (
            {f"key{n}": value for n, value in enumerate(listing.typed(order, key))} if key is not None else {}
        )
    async with reading(engine, seen, planned) as connection:
        records = await connection.fetch(statement.text, *statement.with_values(values))
    if more := len(records) > size:
        records.pop()
    items, mapping = getattr(reply, field), mapper(model)
    for record in records:
        mapping.record_message(statement.read(record), caller, items.add())
    if more:
        behind = records[-1][-len(order) :] if offset is None else [offset + size]
        reply.next_page_token = listing.seal_token(
            [*map(listing.plain_value, behind)], digest, caller, secret
        )


@lru_cache(CACHED)
def _listed(model: type[Resource], seen: Seen, order_by: str, size: int, following: bool) -> Statement:
    """A page in an order, its records ending in their place in it."""
    caller = seen.caller()
    order = listing.order_of(model, order_by, caller)
    keys = [bindparam(f"key{number}", type_=column.type) for number, (column, _) in enumerate(order)]
    condition = listing.shown(model)
    if following:
        condition = and_(condition, listing.after(order, keys))
    statement = listing.page_statement(model, condition, order, size, caller)
    return compiled(statement.add_columns(*(column.label(f"_key{n}") for n, (column, _) in enumerate(order))))


@lru_cache(CACHED)
def _found(model: type[Resource], seen: Seen, order_by: str, shape: SearchTerm, size: int) -> Statement:
    caller = seen.caller()
    order = listing.order_of(model, order_by, caller) if order_by else []
    return compiled(listing.search_statement(model, shape, listing.shown(model), order, size, 0, caller))
