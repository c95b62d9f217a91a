"""The standard methods of a resource, declared: `accounts = Standard(Account)`.

A service that needs one of them to be special writes a method of its name; the others stay here. So do the verbs
that are nothing but behaviour of the model, or a function of the module that works on it: `Standard(Merge, merges)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import Parameter, isawaitable, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm.common.v1 import common_pb2
from crm.options.v1 import options_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from sqlalchemy import select

from crmkit import explain, listing, reading
from crmkit.auth import Caller
from crmkit.call import Call, changed_fields
from crmkit.customfields import check_custom
from crmkit.describe import COMMON, Described
from crmkit.dictionaries import check_choices
from crmkit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Validation,
    Violation,
    required,
)
from crmkit.fieldlevels import check_unchanged
from crmkit.held import check_watched
from crmkit.listing import Query
from crmkit.mapping import WRITABLE_COMMON, mapper, nested_fields, read
from crmkit.numberform import gap_free
from crmkit.resource import Resource, parse_name, snake
from crmkit.scope import predicate, scoped_by

if TYPE_CHECKING:
    from crmkit.app import Running

MAX_BATCH = 100
Handler = Callable[[Any, Call], Awaitable[Any]]
Reader = Callable[[Any, Caller, "Running"], Awaitable[Message | None]]


class Standard:
    """Get, list, create, update, delete, batches, aggregate and access of one model."""

    def __init__(self, model: type[Resource], work: ModuleType | None = None) -> None:
        self.model, self.work = model, work
        self.described = model.described
        self.mapper = mapper(model)
        # `accountRelations` → `account_relations`, `account_relation`: the fields of requests and replies.
        self.plural = snake(self.described.collection)
        self.singular = snake(model.__message__.DESCRIPTOR.name).lstrip("_")

    def handler(self, standard: int) -> Handler:
        """The handler of one standard method."""
        return getattr(self, options_pb2.StandardMethod.Name(standard).lower())  # pyright: ignore[reportArgumentType]

    def reader(self, standard: int, reply: type[Message]) -> Reader | None:
        """The short way of a standard method, where it has one; it gives None for what only the handler can."""
        if not reading.plain(self.model):
            return None

        # Row rules may speak of now; their statements are not kept.
        collection = scoped_by(self.model)

        async def get(request: Any, caller: Caller, running: Running) -> Message | None:
            if caller.reach(collection).rules:
                return None
            return await reading.get(running.engine, self.model, request.name, caller)

        async def list(request: Any, caller: Caller, running: Running) -> Message | None:
            # What custom fields are may change; their statements are not kept either.
            if request.filter.strip() or "custom." in request.order_by or caller.reach(collection).rules:
                return None
            if request.q.strip() and self.model.not_searched(caller):
                return None
            page = reply()
            secret = running.settings.secret
            await reading.page(running.engine, self.model, request, page, self.plural, caller, secret)
            return page

        short: dict[int, Reader] = {options_pb2.GET: get, options_pb2.LIST: list}
        return short.get(standard)

    def verb(self, method: MethodDescriptor) -> Handler | None:
        """The handler of `HoldOrder`: the order, locked, and its `hold`; None where there is no such method.

        Where the model has none it is the function `hold` of the module `work`, for what concerns more than one record.
        It takes what it names: `call`, the `request`, and fields of it as a row would keep them. What
        it returns is the reply; nothing means the row. ValueError where it names what the request does not have.
        """
        name = snake(method.name.replace(self.model.__message__.DESCRIPTOR.name, "", 1)).lstrip("_")
        found = (getattr(place, name, None) for place in (self.model, self.work))
        # A field may have the verb's name.
        behaviour = next((one for one in found if callable(one)), None)
        if name == method.name or behaviour is None:
            return None
        given = {field.name: field for field in nested_fields(method.input_type)}
        wanted = list(signature(behaviour).parameters.values())[1:]
        for one in wanted:
            if one.name not in {*given, "call", "request"} and one.default is Parameter.empty:
                raise ValueError(
                    f"{method.full_name} has no field {one.name}, which {self.model.__name__}.{name} wants"
                )
        fields = [given[one.name] for one in wanted if one.name in given]
        names = {one.name for one in wanted}

        async def run(request: Any, call: Call) -> Any:
            row = await call.load(self.model, request)
            own = {"call": call, "request": request}
            done = behaviour(row, **read(fields, request), **{name: own[name] for name in names & own.keys()})
            if isawaitable(done):
                done = await done
            return row if done is None else done

        return run

    async def get(self, request: Any, call: Call) -> Resource:
        return await call.load(self.model, request, lock=False)

    async def list(self, request: Any, call: Call) -> dict[str, Any]:
        page = await call.page(self.model, request)
        return {self.plural: page.rows, "next_page_token": page.next_page_token}

    async def create(self, request: Any, call: Call) -> Resource:
        message: Message = getattr(request, self.singular)
        row = self.model()
        # A client may name what it makes (AIP-133): devices that work offline refer to it before they are heard.
        if given := getattr(message, "name", ""):
            row.id = self._given(given)
        names = [n for n in self.described.fields if n not in COMMON or n in WRITABLE_COMMON]
        if levels := call.caller.fields(self.described.collection):
            names = check_unchanged(message, type(message)(), names, levels, self.singular)
        self.mapper.assign(row, message, names, new=True, prefix=self.singular)
        check_choices(row, names, call)
        await call.check_references(message, self.singular, names)
        return await call.add(row)

    async def update(self, request: Any, call: Call) -> Resource:
        message: Any = getattr(request, self.singular)
        row = await call.load(self.model, message, held=True)
        await self._apply(row, message, request.update_mask.paths, call)
        return row

    async def delete(self, request: Any, call: Call) -> Empty:
        row = await call.load(self.model, request)
        await row.deleting(call)
        if row.number and gap_free(row, call):
            raise FailedPrecondition("NUMBERED_NOT_DELETABLE")
        await self._refuse_if_used(row, call)
        await call.db.delete(row)
        return Empty()

    async def batch_get(self, request: Any, call: Call) -> dict[str, Any]:
        names = list(request.names)
        _check_batch(names, "names")
        keys = [parse_name(name, self.described.collection) for name in names]
        statement = select(self.model).where(self.model.id.in_(keys), predicate(self.model, call.caller))
        rows = {row.id: row for row in await call.db.scalars(statement)}
        for index, key in enumerate(keys):
            if key not in rows:
                raise NotFound(index=index)
        return {self.plural: [rows[key] for key in keys]}

    async def batch_update(self, request: Any, call: Call) -> dict[str, Any]:
        _check_batch(request.requests, "requests")
        messages = [getattr(one, self.singular) for one in request.requests]
        rows: dict[int, Resource] = {}
        # Locked in one order, so that two batches over the same rows cannot wait for each other.
        for index in sorted(range(len(messages)), key=lambda i: messages[i].name):
            try:
                rows[index] = await call.load(self.model, messages[index], held=True)
            except NotFound:
                raise NotFound(index=index) from None
        for index, one in enumerate(request.requests):
            await self._apply(rows[index], messages[index], one.update_mask.paths, call)
        return {self.plural: [rows[index] for index in range(len(messages))]}

    async def aggregate(self, request: Any, call: Call) -> dict[str, Any]:
        query = Query(filter=request.filter, q=request.q)
        found = await listing.aggregate(
            call.db,
            self.model,
            query,
            request.group_by,
            request.sum,
            request.average,
            call.caller,
            call.now,
        )
        rows = [
            common_pb2.AggregateRow(group=group, count=str(count), sums=sums, averages=averages)
            for group, count, sums, averages in found
        ]
        return {"rows": rows}

    async def explain_access(self, request: Any, call: Call) -> dict[str, Any]:
        """Why the caller sees the record; for whoever may explain, why another person does or does not."""
        if not request.employee or request.employee == call.caller.employee:
            row = await call.load(self.model, request.name, lock=False)
            return explain.answer(
                self.described, self._json(row, call), call.caller, call, scoped_by(self.model)
            )
        if not call.caller.may(explain.EXPLAIN):
            raise PermissionDenied("PERMISSION_DENIED", permission=explain.EXPLAIN)
        # Nothing of the record is shown but whose it is: whoever may explain need not see it.
        row = await call.find(
            self.model, self.model.id == parse_name(request.name, self.described.collection)
        )
        if row is None or not call.entry(request.employee):
            raise NotFound()
        await self._told(row, request.employee, call)
        other = call.running.directory.explained(request.employee)
        if other is None:
            text = call.text("账号已停用", "The account is not active")
            return {"visible": False, "grounds": [common_pb2.AccessGround(kind="DISABLED", text=text)]}
        return explain.answer(self.described, self._json(row, call), other, call, scoped_by(self.model))

    def _json(self, row: Resource, call: Call) -> dict[str, Any]:
        return {snake(key): value for key, value in call.running.json_of(self.mapper.message(row)).items()}

    async def _told(self, row: Resource, employee: str, call: Call) -> None:
        """Asking about somebody else is a fact for the audit, written beside the reading transaction."""
        async with call.running.call(call.method, call.caller) as aside:
            explained = common_pb2.AccessExplained(
                name=row.name, employee=employee, method=call.method, address=call.caller.address
            )
            aside.tell(f"crm.{self.described.area}.v1.AccessExplained", explained, None)

    def _given(self, name: str) -> UUID:
        try:
            return parse_name(name, self.described.collection)
        except NotFound:
            path = f"{self.singular}.name"
            raise Validation(
                Violation(
                    path, "WRONG_FORMAT", "不是有效的资源名", "This is no resource name of the collection."
                )
            ) from None

    async def _apply(self, row: Resource, message: Any, paths: Iterable[str], call: Call) -> None:
        names = list(dict.fromkeys(path.split(".")[0] for path in paths)) or [
            f.name for f, _ in message.ListFields()
        ]
        for name in names:
            if name not in self.described.fields:
                path = f"{self.singular}.{name[:60]}"
                raise Validation(Violation(path, "UNKNOWN_FIELD", "没有这个字段", "There is no such field."))
        if levels := call.caller.fields(self.described.collection):
            shown = self.mapper.message(row, call.caller)
            names = check_unchanged(message, shown, names, levels, self.singular)
        custom_keys = [path.split(".", 1)[1] for path in paths if path.startswith("custom.")]
        old_custom = dict(row.custom)
        department_before = row.department
        changed = self.mapper.assign(row, message, names, new=False, prefix=self.singular)
        if custom_keys:
            given = json_format.MessageToDict(message.custom)
            row.custom = {**old_custom, **{key: given.get(key) for key in custom_keys}}
        if {"owner", "department"} & changed:
            await self._check_handover(row, department_before, changed, call)
        check_choices(row, changed, call)
        await call.check_references(message, self.singular, [name for name in names if name in changed])
        await row.updating(call, changed)
        custom = call.running.directory.custom
        if "custom" in changed or custom_keys or custom.decided_by(self.described.collection, changed):
            await check_custom(row, call, old_custom)
        if row.pending_approval and not call.caller.approved:
            await check_watched(row, {snake(name) for name in changed_fields(row)}, call)

    async def _check_handover(
        self, row: Resource, department_before: str, changed: frozenset[str], call: Call
    ) -> None:
        """Moving a record needs rights on where it comes from (it was loaded) and where it goes."""
        if self.model.kept_in and not row.owner:
            # Where a person works is no handing over; the model looks to it (`Call.check_kept`).
            return
        if "owner" in changed and row.owner and "department" not in changed:
            entry = call.entry(row.owner)
            row.department = entry.get("department", row.department)
        caller, permission = call.caller, self.described.permission("assign")
        if caller.is_system:
            return
        await self._check_crossing(department_before, row.department, call)
        if caller.may(permission):
            if not caller.account and not await call.reaches(row, "assign"):
                raise PermissionDenied("PERMISSION_DENIED", permission=permission)
        elif row.owner != caller.employee and not caller.reach(scoped_by(self.model), "update").everything:
            raise PermissionDenied("PERMISSION_DENIED", permission=permission)

    async def _check_crossing(self, before: str, after: str, call: Call) -> None:
        """From one segment to another only head office moves records."""
        organisation = call.running.directory.organisation
        if self.described.scope != "OWNED" or organisation.segment(before) == organisation.segment(after):
            return
        reach = call.caller.reach(scoped_by(self.model), "across")
        if reach.wall is not None or not call.caller.may(self.described.permission("across")):
            raise PermissionDenied("SEGMENT_CROSSING")

    async def _refuse_if_used(self, row: Resource, call: Call) -> None:
        if await used(call, self.described, [row.name]):
            raise FailedPrecondition("IN_USE")


async def used(call: Call, described: Described, names: Sequence[str]) -> set[str]:
    """Of the records, those that others of the service refer to, whoever may see those."""
    found: set[str] = set()
    async with call.everybody():
        for model in call.running.models_by_type.values():
            if options_pb2.CREATE in model.described.rule.without:
                # Nobody makes these: they are readings of facts, and hold nothing.
                continue
            for name, field in model.described.fields.items():
                if field.kind == "reference" and field.references == described.type and name not in COMMON:
                    column: Any = getattr(model, name)
                    found.update(await call.db.scalars(select(column).where(column.in_(names)).distinct()))
    return found


def _check_batch(items: Any, field: str) -> None:
    if not items:
        raise Validation(required(field))
    if len(items) > MAX_BATCH:
        raise InvalidArgument("MALFORMED", detail=f"{field} > {MAX_BATCH}")
