"""The pipeline of every RPC, once.

deadline and trace → authenticate → permission → second factor → required fields and limits
→ request_id known? replay its reply
→ handler(message, call)          (read-only transaction if bound to GET)
→ flush → rows become messages → outbox rows and the replay record → commit → reply
any exception → roll back → Status; an unknown one: INTERNAL with a fixed text, logged with its trace id
"""

# pyright: reportMissingTypeStubs=false
# googleapis-common-protos has its types beside it and does not say so.

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
import structlog
from asyncpg import InterfaceError, InternalClientError, PostgresError
from crm.options.v1 import options_pb2
from google.api import annotations_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry import propagate, trace
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError

from crmkit import approvals, numbering
from crmkit.auth import Caller, Scope, locale_of
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    PermissionDenied,
    Problem,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from crmkit.mapping import check_message
from crmkit.options import has_option, option
from crmkit.replies import reply_message
from crmkit.resource import Resource
from crmkit.scope import Claim
from crmkit.secretfields import holds_secrets, told
from crmkit.standard import Handler, Reader, Standard

if TYPE_CHECKING:
    from crmkit.app import Running

LARGEST_MESSAGE = 1 << 20
LONGEST_KEY = 64
# Kept back from the caller's deadline, so that the deepest service says what was slow and not the gateway.
SHAVE = 0.02
RETRIES = 3
PUBLIC = "public"
ANYBODY = "*"

_KNOWN = "SELECT body_hash, reply FROM replays WHERE principal = $1 AND method = $2 AND key = $3"
_REMEMBER = "UPDATE replays SET reply = $4 WHERE principal = $1 AND method = $2 AND key = $3"

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("crmkit.rpc")
Metadata = Mapping[str, str]


@dataclass(frozen=True)
class Method:
    """One RPC, compiled at start."""

    descriptor: MethodDescriptor
    request: type[Message]
    reply: type[Message]
    permission: str
    handler: Handler
    reader: Reader | None
    read_only: bool
    key_required: bool
    step_up: bool
    standard: int

    @property
    def name(self) -> str:
        """Its short name, such as "WinOpportunity"."""
        return self.descriptor.name

    @property
    def verb(self) -> bool:
        """True where the protos declare it themselves."""
        return not self.standard


def compile_service(service: ServiceDescriptor, implementation: object) -> list[Method]:
    """Binds every RPC of a proto service to the object that implements it.

    ValueError at start where an RPC has no implementation, permission or HTTP binding, or the object has a
    method that is no RPC.
    """
    # A service of many methods is written as several classes that it inherits.
    written = {
        name: value for part in reversed(type(implementation).__mro__) for name, value in vars(part).items()
    }
    standards = {s.described.message.full_name: s for s in written.values() if isinstance(s, Standard)}
    methods = [_compile(method, implementation, standards) for method in service.methods]
    names = {method.name for method in methods}
    for name in written:
        if name[0].isupper() and name not in names:
            raise ValueError(f"{service.full_name} has no RPC {name}")
    return methods


def _compile(method: MethodDescriptor, implementation: object, standards: Mapping[str, Standard]) -> Method:
    permission: str = option(method, options_pb2.permission)
    if not permission:
        raise ValueError(f"{method.full_name} has no permission")
    if not has_option(method, annotations_pb2.http):
        raise ValueError(f"{method.full_name} has no google.api.http")
    standard = option(method, options_pb2.standard)
    handler, reader = getattr(implementation, method.name, None), None
    reply = message_factory.GetMessageClass(method.output_type)
    if handler is None and standard:
        resource = _standard_resource(method, permission)
        found = next((s for s in standards.values() if s.described.collection == resource), None)
        if found:
            handler, reader = found.handler(standard), found.reader(standard, reply)
    elif handler is None:
        handler = _verb(method, standards)
    if handler is None:
        raise ValueError(f"{method.full_name} is not implemented")
    http = option(method, annotations_pb2.http)
    if not standard and http.WhichOneof("pattern") != "get":
        handler = _numbering(handler, permission)
    return Method(
        descriptor=method,
        request=message_factory.GetMessageClass(method.input_type),
        reply=reply,
        permission=permission,
        handler=handler,
        reader=reader,
        read_only=http.WhichOneof("pattern") == "get",
        key_required=option(method, options_pb2.idempotency_key_required),
        step_up=option(method, options_pb2.step_up),
        standard=standard,
    )


def _numbering(handler: Handler, permission: str) -> Handler:
    """The verb, by which a record gets its number where a rule says so."""
    _, _, names = permission.partition(".")
    collection, _, verb = names.partition(".")

    async def run(request: Any, call: Call) -> Any:
        result = await handler(request, call)
        if isinstance(result, Resource) and result.described.collection == collection:
            await numbering.assign(call, result, verb)
        return result

    return run


def _verb(method: MethodDescriptor, standards: Mapping[str, Standard]) -> Handler | None:
    """What the model of the resource that the permission names does by itself."""
    collection = _standard_resource(method, option(method, options_pb2.permission))
    return next((s.verb(method) for s in standards.values() if s.described.collection == collection), None)


def _standard_resource(method: MethodDescriptor, permission: str) -> str:
    return permission.split(".")[1]


class Pipeline:
    """Runs the methods of one app."""

    def __init__(self, running: Running, methods: list[Method]) -> None:
        self.running = running
        self.methods = {method.name: method for method in methods}
        self._in_flight = 0
        running.metrics.in_flight.labels(running.app.name).set_function(lambda: self._in_flight)

    def grpc_handler(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """The handler that a grpc.aio server takes."""

        def bind(method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
            async def serve(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
                return await self._serve(method, request, context)

            return grpc.unary_unary_rpc_method_handler(serve)

        return grpc.method_handlers_generic_handler(
            service.full_name, {name: bind(method) for name, method in self.methods.items()}
        )

    async def _serve(
        self, method: Method, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        started = time.perf_counter()
        metadata = {
            key: str(value) for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        locale = locale_of(metadata.get("accept-language", ""))
        code = grpc.StatusCode.OK
        self._in_flight += 1
        with tracer.start_as_current_span(
            method.name, propagate.extract(metadata), trace.SpanKind.SERVER
        ) as span:
            try:
                if self._in_flight > self.running.settings.max_concurrent_calls:
                    raise Unavailable("UNAVAILABLE")
                remaining = cast("float | None", context.time_remaining())
                if remaining is None:
                    raise InvalidArgument("DEADLINE_REQUIRED")
                async with asyncio.timeout(max(remaining - SHAVE, 0.001)):
                    reply, replayed = await self._answer(method, request, metadata, locale)
                if replayed:
                    await context.send_initial_metadata((("crm-replayed", "true"),))
                return reply
            except Exception as error:
                problem = problem_of(error)
                code = problem.code
                trace_id = f"{span.get_span_context().trace_id:032x}"
                if isinstance(problem, InternalError):
                    span.record_exception(error)
                    log.exception("rpc failed", method=method.name, trace_id=trace_id)
                else:
                    log.info("rpc refused", method=method.name, reason=problem.reason, trace_id=trace_id)
                status = problem.status(locale, trace_id, self.running.app.name)
                await context.abort(
                    code, status.message, (("grpc-status-details-bin", status.SerializeToString()),)
                )
                raise AssertionError("abort returns never") from None
            finally:
                self._in_flight -= 1
                self.running.metrics.rpc(
                    self.running.app.name, method.name, code.name, time.perf_counter() - started
                )

    async def _answer(
        self, method: Method, data: bytes, metadata: Metadata, locale: str
    ) -> tuple[bytes, bool]:
        caller = await self.authenticate(metadata, locale, public=method.permission == PUBLIC)
        if method.permission not in {PUBLIC, ANYBODY} and not caller.may(method.permission):
            raise PermissionDenied("PERMISSION_DENIED", permission=method.permission)
        if method.step_up:
            caller.check_step_up()
        if len(data) > LARGEST_MESSAGE:
            raise ResourceExhausted("TOO_LARGE", limit="1 MiB")
        try:
            request = method.request.FromString(data)
        except DecodeError:
            raise InvalidArgument("MALFORMED", detail="protobuf") from None
        check_message(request)
        if method.reader and (found := await method.reader(request, caller, self.running)) is not None:
            return found.SerializeToString(), False
        for attempt in range(RETRIES):
            try:
                return await self._transact(method, request, data, caller)
            except Problem as problem:
                if problem.afterwards is not None:
                    async with self.running.call(method.name, caller) as call:
                        await problem.afterwards(call)
                raise
            except (DBAPIError, PostgresError) as error:
                # Serialisation failure or deadlock: the whole transaction runs again.
                if _sqlstate(error) not in {"40001", "40P01"} or attempt == RETRIES - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def authenticate(self, metadata: Metadata, locale: str, public: bool = False) -> Caller:
        """The caller that the metadata's token names; Unauthenticated without a valid one."""
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if not token and public:
            address = metadata.get("x-forwarded-for", "")
            return Caller(
                actor="anonymous", scope=Scope.ALL, locale=locale, address=address, principal="anonymous"
            )
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated
        claims = await self.running.verifier.verify(token)
        return self.running.directory.caller(claims, locale, metadata.get("x-forwarded-for", ""))

    async def _transact(
        self, method: Method, request: Any, data: bytes, caller: Caller
    ) -> tuple[bytes, bool]:
        key = "" if method.read_only else getattr(request, "request_id", "")
        if not key and method.key_required:
            raise InvalidArgument("IDEMPOTENCY_KEY_REQUIRED")
        claim = _claim(caller, method, key, data) if key else None
        async with self.running.call(method.name, caller, method.read_only, claim) as call:
            if claim is None:
                return await self.run(method, request, call), False
            if not call.claimed:
                return await _known_reply(call, claim), True
            reply = await self.run(method, request, call, claim)
            if not call.reply_kept:
                await (await driver(call.db)).execute(_REMEMBER, *claim[:3], _kept(method, reply))
        return reply, False

    async def run(self, method: Method, request: Any, call: Call, claim: Claim | None = None) -> bytes:
        """Runs the handler, or holds it where an approval policy says so, and gives the reply's bytes."""
        if isinstance(reason := getattr(request, "reason", ""), str):
            call.reason = reason
        if method.read_only or not approvals.policies_for(method, call):
            result = await method.handler(request, call)
            made = b""

            def reply() -> None:
                # The replay goes along with what the call writes.
                nonlocal made
                made = reply_message(method.reply, result, call).SerializeToString()
                if claim is not None:
                    call.along(_REMEMBER, *claim[:3], _kept(method, made))
                    call.reply_kept = True

            await call.flush(reply)
            return made
        result = await approvals.gated(method, request, call)
        return reply_message(method.reply, result, call).SerializeToString()


def _kept(method: Method, reply: bytes) -> bytes:
    """What a repeated call gets: not what is shown but once."""
    if not holds_secrets(method.reply.DESCRIPTOR):
        return reply
    return told(method.reply.FromString(reply)).SerializeToString()


def _claim(caller: Caller, method: Method, key: str, data: bytes) -> Claim:
    if len(key) > LONGEST_KEY or not key.isascii():
        raise InvalidArgument("MALFORMED", detail="request_id")
    return caller.principal, method.name, key, sha256(data).digest()


async def _known_reply(call: Call, claim: Claim) -> bytes:
    """The reply that the key already has."""
    body_hash, reply = await (await driver(call.db)).fetchrow(_KNOWN, *claim[:3])
    if body_hash != claim[3]:
        raise InvalidArgument("IDEMPOTENCY_KEY_REUSED")
    return reply


def problem_of(error: BaseException) -> Problem:
    """The problem that an exception is to the caller."""
    match error:
        case Problem():
            return error
        case TimeoutError() if not isinstance(error, PoolTimeout):
            return DeadlineExceeded("DEADLINE_EXCEEDED")
        case PoolTimeout():
            return Unavailable("UNAVAILABLE")
        case StaleDataError():
            return Aborted("ETAG_MISMATCH")
        case DBAPIError() | PostgresError() | InterfaceError():
            if _constraint(error).endswith("_number_key"):
                return AlreadyExists("NUMBER_TAKEN")
            return _database_problem("08" if _is_lost(error) else _sqlstate(error))
        # What the driver says of a connection that the server ended at that very moment.
        case OSError() | InternalClientError():
            return Unavailable("UNAVAILABLE")
        case _:
            return InternalError("INTERNAL")


def _database_problem(state: str) -> Problem:
    match state:
        case "23505":
            return AlreadyExists("ALREADY_EXISTS")
        case "23503":
            return FailedPrecondition("IN_USE")
        case "40001" | "40P01" | "55P03":
            return Aborted("CONFLICT")
        case "57014":
            return DeadlineExceeded("DEADLINE_EXCEEDED")
        case _ if state[:2] in {"08", "53", "57"}:
            return Unavailable("UNAVAILABLE")
        case _:
            return InternalError("INTERNAL")


def _is_lost(error: DBAPIError | PostgresError | InterfaceError) -> bool:
    """True where the connection is gone, which the driver tells in a text where it notices by itself."""
    invalidated = isinstance(error, DBAPIError) and error.connection_invalidated
    return invalidated or any(
        words in str(error) for words in ("connection is closed", "connection was closed")
    )


def _constraint(error: DBAPIError | PostgresError | InterfaceError) -> str:
    """The constraint that a row breaks; empty where it is something else."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    for one in (origin, getattr(origin, "__cause__", None)):
        if found := getattr(one, "constraint_name", None):
            return str(found)
    return ""


def _sqlstate(error: DBAPIError | PostgresError | InterfaceError) -> str:
    """The database's code for what went wrong; the kit's own statements raise the driver's errors as they are."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(origin, "sqlstate", "") or "")
