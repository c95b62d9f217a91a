"""What a handler is given: the database, the caller, the time, and the ways to load, page and emit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from asyncpg import PostgresError, UniqueViolationError  # pyright: ignore[reportMissingTypeStubs]
from google.protobuf.message import Message
from sqlalchemy import ColumnElement, ColumnExpressionArgument, Select, Table, exists, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from crmkit import catalog, listing, numbering
from crmkit.auth import Caller, system, visible
from crmkit.customfields import check_custom, let_go
from crmkit.driver import driver, together
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied, Validation, Violation
from crmkit.inserting import FEW, change, insertable, insertion, taken_over, updatable, written
from crmkit.listing import Page, Query
from crmkit.mapping import Reader, mapper, references, to_date, to_timestamp
from crmkit.outbox import new_fact, outbox_rows
from crmkit.packs import packed
from crmkit.reading import by_key, by_name
from crmkit.resource import Resource, parse_name, snake
from crmkit.scope import enter, open_to_all, predicate, scoped_by
from crmkit.search import search_columns
from crmkit.tables import CHANGE_KEY
from crmkit.values import Money

if TYPE_CHECKING:
    from crmkit.app import Running

R = TypeVar("R", bound=Resource)
REFERENCE_WAIT = 1.5
# The people and the tree are in every service's live configuration; no copies are needed.
CONFIGURED = {
    "crm.workspace/Employee": ("employees", "employee"),
    "crm.workspace/Department": ("departments", "department"),
}


@dataclass
class _Emitted:
    type: type[Message]
    fields: dict[str, Any]
    subject: str
    about: Resource | None


class Call:
    """One call, one transaction. Application code never commits."""

    def __init__(
        self, running: Running, db: AsyncSession, caller: Caller, now: datetime, method: str
    ) -> None:
        self.running, self.db, self.caller, self.now, self.method = running, db, caller, now, method
        served = running.pipeline.methods.get(method)
        self.permission = served.permission if served is not None else ""
        self._emitted: list[_Emitted] = []
        self._facts: list[dict[str, Any]] = []
        # Where many records change alike and each once a flush: the action whose facts go as packs.
        self.packs = ""
        self._before_flush: list[Callable[[], None]] = []
        self._after_flush: list[Callable[[], Awaitable[None]]] = []
        # Messages of changed rows with all their fields, made once for change facts, business facts and reply.
        self._whole: dict[UUID, Message] = {}
        # Foreign records that a method has looked at.
        self._copies: dict[str, dict[str, Any]] = {}
        self._everybody = False
        self.told = False
        # Why, in the caller's words, where the request says so.
        self.reason = ""
        self._along: list[tuple[str, tuple[Any, ...]]] = []
        self._changes: list[tuple[Any, ...]] = []
        # Whether the call's idempotency key is new, and whether its reply is written already.
        self.claimed = self.reply_kept = False

    def emit(self, event: type[Message], about: Resource | None = None, /, **fields: Any) -> None:
        """Records a business fact, sent once the transaction is written. Rows become messages after the flush."""
        first = next((value for value in fields.values() if isinstance(value, Resource)), None)
        self._emitted.append(_Emitted(event, fields, event.DESCRIPTOR.full_name, about or first))

    async def load(
        self, model: type[R], request: Message | str, *, lock: bool = True, held: bool = False
    ) -> R:
        """The row a request names, visible to the caller, in the version the caller saw, locked for the change.

        NotFound where it is absent or invisible; ETAG_MISMATCH where the request's etag is stale;
        PENDING_APPROVAL where a held verb waits for a decision, unless the caller of `load` looks to that (`held`).
        """
        name = request if isinstance(request, str) else getattr(request, "name")  # noqa: B009
        statement, key = by_name(model, self.caller, lock), parse_name(name, model.described.collection)
        row = (await self.db.scalars(statement, {"key": key})).one_or_none()
        if row is None:
            raise NotFound()
        if lock:
            await self._check_reached(row)
        if not isinstance(request, str):
            row.check_etag(getattr(request, "etag", ""))
            if lock and not held and row.pending_approval and not self.caller.approved:
                raise FailedPrecondition("PENDING_APPROVAL")
        return row

    async def reaches(self, row: Resource, verb: str) -> bool:
        """True where the caller's verb reaches the row, seen already, as the database has it."""
        model, collection = type(row), row.scoped_by or row.described.collection
        reach, seen = self.caller.reach(collection, verb), self.caller.reach(collection)
        if model.kept_in and reach.wall is not None:
            return getattr(row, model.kept_in) in reach.departments
        if row.described.scope != "OWNED" or self.caller.account or reach == seen:
            return True
        return bool(
            await self.db.scalar(
                select(exists().where(model.id == row.id, predicate(model, self.caller, verb)))
            )
        )

    def check_kept(self, model: type[Resource], departments: Iterable[str]) -> None:
        """Refuses who works in segments alone to put a shared record elsewhere: `Resource.kept_in`."""
        reach = self.caller.reach(model.described.collection, self.permission.rpartition(".")[2])
        if not self.caller.is_system and reach.wall is not None and set(departments) - set(reach.departments):
            raise PermissionDenied("SEGMENT_CROSSING")

    async def _check_reached(self, row: Resource) -> None:
        """What one sees one may not always change: the reach of the method's own permission counts for that."""
        head, _, verb = self.permission.rpartition(".")
        if head == f"{row.described.area}.{row.described.collection}" and not await self.reaches(row, verb):
            raise PermissionDenied("PERMISSION_DENIED", permission=self.permission)

    def after_flush(self, write: Callable[[], Awaitable[None]]) -> None:
        """Runs `write` once the rows themselves are written: for tables that refer to them."""
        self._after_flush.append(write)

    def along(self, statement: str, *arguments: Any) -> None:
        """Writes by text in the same round trip as the new rows; the statement sees nothing of theirs."""
        self._along.append((statement, arguments))

    def before_flush(self, compose: Callable[[], None]) -> None:
        """Runs `compose` when the rows are as they will be written: for what goes `along` and depends on them."""
        self._before_flush.append(compose)

    @asynccontextmanager
    async def everybody(self) -> AsyncGenerator[None, None]:
        """Within, the database's second wall lets every row be read: for rules over everybody's rows.

        What is read so may decide, but must not be shown.
        """
        if self.caller.is_system or self._everybody:
            yield
            return
        await enter(self.db, system(self.running.app.name))
        self._everybody = True
        try:
            yield
        except Exception:
            self._everybody = False
            # A transaction that has failed takes nothing more, and what made it fail is what counts.
            with suppress(DBAPIError, PostgresError):
                await enter(self.db, self.caller)
            raise
        self._everybody = False
        await enter(self.db, self.caller)

    async def find(
        self, model: type[R], *conditions: ColumnExpressionArgument[bool], lock: bool = False
    ) -> R | None:
        """The one row that fits, whoever may see it: for rules that hold over everybody's rows."""
        statement = select(model).where(*conditions).limit(1)
        return await self._found(model, statement.with_for_update(of=model) if lock else statement, {})

    async def named(self, model: type[R], name: str, *, lock: bool = False) -> R | None:
        """The row of that name, whoever may see it; None where there is none, or it is the name of something else."""
        key = model.key_of(name)
        return None if key is None else await self._found(model, by_key(model, lock), {"key": key})

    async def _found(self, model: type[R], statement: Select[R], values: dict[str, Any]) -> R | None:
        if open_to_all(model) and not self.caller.reach(scoped_by(model)).rules:
            return (await self.db.scalars(statement, values)).one_or_none()
        async with self.everybody():
            return (await self.db.scalars(statement, values)).one_or_none()

    @asynccontextmanager
    async def others(self, seen: R) -> AsyncGenerator[R, None]:
        """The row that the caller sees, locked to be changed although it is somebody else's; written at the end."""
        async with self.everybody():
            row = await self.named(type(seen), seen.name, lock=True)
            assert row is not None
            yield row
            await self.flush()

    async def one_at_a_time(self, keys: Iterable[str]) -> None:
        """Lets one transaction at a time go on that asks for any of the keys: for rules over rows that may not exist."""
        await (await driver(self.db)).execute(_TURNS, sorted(set(keys)))

    async def page(self, model: type[R], request: Any, *conditions: ColumnElement[bool]) -> Page:
        """A page of what the caller may see, by the request's filter, order, search and token."""
        query = Query(request.filter, request.order_by, request.q)
        extra = None
        for condition in conditions:
            extra = condition if extra is None else extra & condition
        return await listing.page(
            self.db, model, query, request.page_size, request.page_token, self.caller, self.now,
            self.running.settings.secret, extra,
        )  # fmt: skip

    async def copy(self, name: str) -> dict[str, Any] | None:
        """A foreign resource as JSON object, as its service last told; None if unknown or deleted."""
        if (known := self._copies.get(name)) is not None:
            return known
        found = await (await driver(self.db)).fetchval(_COPY, name)
        if found is not None and self.permission:
            # Who hears facts writes copies himself meanwhile.
            self._copies[name] = found
        return found

    def config(self, key: str) -> Any:
        """A value of the live configuration, None if absent."""
        return self.running.config.get(key)

    def entry(self, name: str) -> dict[str, Any]:
        """An employee or department as the live configuration knows it; empty if unknown."""
        collection, _, key = name.partition("/")
        return self.config(f"{collection.removesuffix('s')}.{key}") or {}

    async def check_references(
        self, message: Message, prefix: str, names: Sequence[str] | None = None
    ) -> None:
        """Refuses references that name nothing the caller may use, waiting a moment for facts on their way."""
        known = set[tuple[str, str]]()
        for path, name, kind in references(message, names):
            if (name, kind) in known:
                continue
            known.add((name, kind))
            if not await self._known(name, kind):
                where = f"{prefix}.{path}" if prefix else path
                problem = Validation(
                    Violation(
                        where,
                        "UNKNOWN_REFERENCE",
                        "引用的记录不存在",
                        "The referenced record does not exist.",
                    )
                )
                problem.reason, problem.metadata = "UNKNOWN_REFERENCE", {"name": name[:100]}
                raise problem

    async def knows(self, name: str, collection: str) -> bool:
        """Whether the name is of the collection and, where this service knows its records, of one the caller sees."""
        kind = catalog.type_of(collection)
        if kind in self.running.models_by_type or kind in CONFIGURED or kind in self.running.foreign:
            return await self._known(name, kind)
        try:
            return bool(parse_name(name, collection))
        except NotFound:
            return False

    async def _known(self, name: str, kind: str) -> bool:
        model = self.running.models_by_type.get(kind)
        if model is not None:
            try:
                key = parse_name(name, model.described.collection)
            except NotFound:
                return False
            return bool(
                await self.db.scalar(select(exists().where(model.id == key, predicate(model, self.caller))))
            )
        if kind in CONFIGURED:
            collection, key = CONFIGURED[kind]
            return (
                name.startswith(f"{collection}/")
                and self.config(f"{key}.{name.partition('/')[2]}") is not None
            )
        foreign = self.running.foreign.get(kind)
        if foreign is None:
            return False
        try:
            parse_name(name, foreign.collection)
        except NotFound:
            return False
        deadline = asyncio.get_running_loop().time() + REFERENCE_WAIT
        while True:
            payload = await self.copy(name)
            if payload is not None:
                fields = foreign.account_fields
                return visible(self.caller, foreign.scope, _snake_keys(payload), fields, foreign.collection)
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.05)

    async def add(self, row: R) -> R:
        """Adds a new row, completed: owner, department, number, its own checks."""
        described = row.described
        self.own(row)
        await row.creating(self)
        await check_custom(row, self)
        if described.rule.number and not row.number and numbering.at_creation(self, row):
            await self.draw_number(row)
        self.db.add(row)
        return row

    async def number(self, row: Resource) -> None:
        """Gives the row its human number, unless it has one or a rule has it wait for a verb.

        For verbs of resources whose drafts have none it is the latest moment, whatever a rule says; for others it is
        part of being made.
        """
        if not row.number and (row.described.rule.number_later or numbering.at_creation(self, row)):
            await self.draw_number(row)

    async def draw_number(self, row: Resource) -> None:
        """Draws the next number of the row's series."""
        series = "/".join(str(getattr(row, name)) for name in row.described.rule.number_per)
        row.number = await numbering.draw(self, row.described, row, series, row.department)

    def own(self, row: Resource) -> None:
        """Says of a new row whose it is and when it was made."""
        row.creator = row.creator or self.caller.actor
        row.create_time = row.update_time = self.now
        if row.described.scope != "SHARED" and not row.owner:
            row.owner = self.caller.employee
        if row.owner and not row.department:
            entry = self.entry(row.owner)
            row.department = entry.get("department", "") or (
                self.caller.department if row.owner == self.caller.employee else ""
            )
        row.department = row.department or self.caller.department

    async def flush(self, settled: Callable[[], None] = lambda: None) -> None:
        """Writes what changed: rows, their search and collaborator entries, change facts, emitted facts.

        `settled` is called when the rows are as they will be: what it puts `along` needs no round trip of its own.
        """
        session = self.db.sync_session
        self.running.redirects.rows([*session.new, *session.dirty])
        self._reckon()
        created = [row for row in session.new if isinstance(row, Resource)]
        deleted = [row for row in session.deleted if isinstance(row, Resource)]
        changes = [
            (row, changed_fields(row))
            for row in session.dirty
            if isinstance(row, Resource) and session.is_modified(row)
        ]
        for row in created:
            if not getattr(row, "create_time", None):
                raise RuntimeError(
                    f"{type(row).__name__} was added behind the kit; use `await call.add(row)`"
                )
        for row, before in changes:
            if before:
                row.update_time = self.now
        quick = self._quick(created, changes, deleted)
        if not quick:
            await self._write(changes)
            await self._write_later()
        changed = [(row, before) for row, before in changes if before]
        if quick:
            for row in created:
                self.along(*insertion(row))
            self._changes += [made for row, _ in changes if (made := change(row)) is not None]
        composed, self._before_flush = self._before_flush, []
        for compose in composed:
            compose()
        await self._index([(row, None) for row in created] + changed)
        await self._unindex([*deleted])
        await let_go(deleted, self)
        for row in created:
            self._change_fact(row, "CREATED", {})
        for row, before in changed:
            self._change_fact(row, "UPDATED", before)
        for row in deleted:
            self._change_fact(row, "DELETED", {})
        # Nothing is written after the new rows themselves, so they are as they will be.
        final = not quick or not self._after_flush
        if final:
            settled()
        await self._tell_all()
        self._whole.clear()
        if quick:
            written(session, created)
            taken_over(session, [row for row, _ in changes])
            await self._write_later()
            if not final:
                settled()
            await self._tell_all()

    def _reckon(self) -> None:
        """What custom fields are reckoned from may have changed by any verb."""
        custom = self.running.directory.custom
        for row in (*self.db.sync_session.new, *self.db.sync_session.dirty):
            if isinstance(row, Resource) and custom.formulas(row.described.collection):
                reckoned = custom.reckoned(row)
                if reckoned != row.custom:
                    row.custom = reckoned

    def _quick(
        self, created: list[Resource], changes: list[tuple[Resource, dict[str, Any]]], deleted: list[Resource]
    ) -> bool:
        """Whether new or changed rows can go by text, in one round trip with what is told of them."""
        session = self.db.sync_session
        if deleted or bool(created) == bool(changes):
            return False
        if created:
            return insertable(session.new)
        others = session.new or [row for row in session.dirty if not isinstance(row, Resource)]
        moved = any(before.keys() & _scoping(row) for row, before in changes)
        return (
            not others
            and not moved
            and not session.in_nested_transaction()
            and updatable([row for row, _ in changes])
        )

    async def _write_later(self) -> None:
        later, self._after_flush = self._after_flush, []
        for write in later:
            await write()

    async def _tell_all(self) -> None:
        """Writes the facts, and in the same round trip what goes along."""
        emitted, self._emitted = self._emitted, []
        for fact in emitted:
            self.tell(fact.subject, self._event_message(fact), fact.about)
        if self._facts:
            facts = packed(self._facts, self.packs) if self.packs else self._facts
            self.along(*outbox_rows(facts))
            self._facts, self.told = [], True
        changes, self._changes = self._changes, []
        along, self._along = [*((text, values) for text, *values in changes), *self._along], []
        if along:
            statement = together(tuple(text for text, _ in along), counted=len(changes))
            values = [value for _, arguments in along for value in arguments]
            connection = await driver(self.db)
            if not changes:
                await connection.execute(statement, *values)
                return
            try:
                done = await connection.fetchval(statement, *values)
            except UniqueViolationError as error:
                # Another change has told of this version already.
                if cast("Any", error).constraint_name != CHANGE_KEY:
                    raise
                done = 0
            if done != len(changes):
                raise StaleDataError("somebody else has changed a row meanwhile")

    async def _write(self, changes: list[tuple[Resource, dict[str, Any]]]) -> None:
        """Writes the rows. PostgreSQL wants an updated row to stay visible, and a handover leaves the caller's scope."""
        if any(before.keys() & _scoping(row) for row, before in changes):
            async with self.everybody():
                await self.db.flush()
        else:
            await self.db.flush()

    def _event_message(self, fact: _Emitted) -> Message:
        message = fact.type()
        for key, value in fact.fields.items():
            field = fact.type.DESCRIPTOR.fields_by_name[key]
            if isinstance(value, list | tuple) and field.is_repeated:
                getattr(message, key).extend(self._open(item) for item in cast("Sequence[Any]", value))
            elif value is not None:
                converted = self._open(value)
                if isinstance(converted, Message):
                    getattr(message, key).CopyFrom(converted)
                elif isinstance(converted, dict):
                    getattr(message, key).update(converted)
                else:
                    setattr(message, key, converted)
        return message

    def _open(self, value: Any) -> Any:
        """What a business fact tells of a value: it goes to everybody, so without guarded fields."""
        if isinstance(value, Resource):
            return self.shown(value, self.running.nobody)
        return self.message_of(value)

    def shown(self, row: Resource, reader: Reader) -> Message:
        """The row as message, as far as the reader may read it."""
        return mapper(type(row)).message(row, reader, self._whole.get(row.id))

    def message_of(self, value: Any) -> Any:
        """A row, money, time or day as message; anything else as it is."""
        if isinstance(value, Resource):
            return mapper(type(value)).message(value)
        if isinstance(value, Money):
            return value.message()
        if isinstance(value, datetime):
            return to_timestamp(value)
        return to_date(value) if hasattr(value, "toordinal") else value

    def _change_fact(self, row: Resource, action: str, before: dict[str, Any]) -> None:
        described, mapping = row.described, mapper(type(row))
        whole = self._whole[row.id] = mapping.message(row)
        resource = self.running.json_of(whole)
        # The proto JSON of crm.common.v1.ResourceChanged, whose structs are plain JSON objects.
        changed: dict[str, Any] = {
            "name": row.name,
            "action": action,
            "actor": self.caller.actor,
            "resource": resource,
            "time": self.now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "method": self.method,
            "address": self.caller.address,
        }
        if self.reason:
            changed["reason"] = self.reason
        if before:
            changed["before"] = before
            changed["after"] = {key: resource.get(key) for key in before}
        mapping.set_apart(changed, self.running.directory.custom)
        payload = json.dumps(changed, ensure_ascii=False, separators=(",", ":"))
        self._record(f"crm.{described.area}.v1.ResourceChanged", payload, row, action == "DELETED")

    def tell(self, subject: str, message: Message, about: Resource | None) -> None:
        """Puts a fact that is a message already into the outbox, at the next flush."""
        payload = self.running.codec.to_json(
            message.DESCRIPTOR.full_name, message.SerializeToString()
        ).decode()
        self._record(subject, payload, about)

    def _record(self, subject: str, payload: str, about: Resource | None, deleted: bool = False) -> None:
        version = None if about is None else about.version + (1 if deleted else 0)
        aggregate = about.name if about is not None else ""
        self._facts.append(
            new_fact(subject, aggregate=aggregate, version=version, payload=payload, actor=self.caller.actor)
        )

    async def _index(self, written: Sequence[tuple[Resource, dict[str, Any] | None]]) -> None:
        """Writes search and collaborator entries of new rows and of those where they changed, a statement a table."""
        found: dict[Table, list[dict[str, Any]]] = {}
        moved: list[Resource] = []
        for row, before in written:
            table = row.search_table
            if table is not None and (before is None or any(self._searched(row, key) for key in before)):
                custom = self.running.directory.custom.search_texts(row.described.collection, row.custom)
                texts = [*row.search_texts(), *custom]
                values = search_columns(texts, texts, phones=row.search_phones())
                found.setdefault(table, []).append({"id": row.id, **values})
            if row.collaborators if before is None else "collaborators" in before:
                moved.append(row)
        for table, rows in found.items():
            statement = _upsert(table.name, tuple(rows[0]))
            if len(rows) <= FEW:
                for row in rows:
                    self.along(statement, *row.values())
            else:
                await (await driver(self.db)).executemany(statement, [tuple(row.values()) for row in rows])
        await self._unindex(moved)
        people = [
            (employee, row.described.collection, row.id) for row in moved for employee in row.collaborators
        ]
        if people:
            statement = "INSERT INTO collaborators (employee, collection, id) VALUES ($1, $2, $3)"
            await (await driver(self.db)).executemany(statement, people)

    def _searched(self, row: Resource, json_name: str) -> bool:
        names = {*row.described.searchable, "number", "phones", "custom"}
        return any(
            row.described.fields[name].json_name == json_name
            for name in names
            if name in row.described.fields
        )

    async def _unindex(self, rows: Sequence[Resource]) -> None:
        if rows:
            keys = [row.id for row in rows]
            await (await driver(self.db)).execute("DELETE FROM collaborators WHERE id = ANY($1)", keys)

    def require(self, condition: bool, reason: str, **metadata: object) -> None:
        """Raises FAILED_PRECONDITION with the reason unless the condition holds."""
        if not condition:
            raise FailedPrecondition(reason, **metadata)

    def text(self, zh: str, en: str) -> str:
        """The text in the caller's language."""
        return zh if self.caller.locale.startswith("zh") else en


# One after the other in the order of the keys, so that two cannot wait for each other.
_TURNS = "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest($1::text[]) AS key"
_COPY = "SELECT payload FROM copies WHERE name = $1 AND NOT deleted"


def _scoping(row: Resource) -> set[str]:
    """What decides who sees the row, by JSON name."""
    accounts = {row.described.fields[name].json_name for name in row.described.account_fields}
    return {"owner", "department", "collaborators", *accounts}


def changed_fields(row: Resource) -> dict[str, Any]:
    """Changed fields with their old JSON values."""
    mapping, state, before = mapper(type(row)), inspect(row), dict[str, Any]()
    # What nobody has set has no history, and of fifty fields a verb sets five.
    touched: set[str] = {
        key.removesuffix("_amount").removesuffix("_currency") for key in state.committed_state
    }
    touched |= state.committed_state.keys()
    for name, field in row.described.fields.items():
        if name not in touched or name in {"update_time", "etag", "name"}:
            continue
        if name not in state.mapper.all_orm_descriptors:
            continue
        if name not in state.attrs:
            continue
        history = state.attrs[name].history
        if history.has_changes():
            old = history.deleted[0] if history.deleted else None
            if field.kind == "money":
                # The history of a composite lacks the column that stays: the currency, mostly.
                amount, currency = (_was(state, f"{name}_{part}") for part in ("amount", "currency"))
                old = None if amount is None else Money(amount, currency)
            before[field.json_name] = mapping.value_json(name, old)
    return before


def _was(state: Any, column: str) -> Any:
    """A column's value before the change."""
    history = state.attrs[column].history
    return next(iter((*(history.deleted or ()), *(history.unchanged or ()))), None)


@cache
def _upsert(table: str, columns: tuple[str, ...]) -> str:
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    fresh = ", ".join(f"{column} = excluded.{column}" for column in columns if column != "id")
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {fresh}"
    )


def _snake_keys(payload: dict[str, Any]) -> dict[str, Any]:
    return {snake(key): value for key, value in payload.items()}
