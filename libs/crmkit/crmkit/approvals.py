"""The approval gate: what matches a policy is tried, rolled back, and held until somebody decides.

`workspace` owns policies and decisions. Here: which policy holds an action, and the holding; what becomes of held
actions stands in `crmkit.decided`. The gate is in the pipeline, so that no path goes around it: verbs, creates,
updates (one by one in a batch, too) and deletes are held, and rows of imports one by one (`crmkit.alone`); what else
works on many records at once is refused where one of them needs an approval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import NAMESPACE_OID, uuid4, uuid5

import uuid_utils.compat as uuid_utils
from crm.common.v1 import common_pb2
from crm.options.v1 import options_pb2 as options
from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import select

from crmkit import filters
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound
from crmkit.filters import FilterError
from crmkit.held import digest, mark
from crmkit.listing import ZONE, record_fields
from crmkit.mapping import to_struct
from crmkit.replies import reply_message
from crmkit.resource import Resource, parse_name, snake
from crmkit.secretfields import sealed, told
from crmkit.tables import HeldAction

if TYPE_CHECKING:
    from crmkit.config import Config
    from crmkit.rpc import Method

PREFIX = "approvalPolicy."
# Id and definition, as workspace publishes it.
Policy = tuple[str, dict[str, Any]]


class Policies:
    """The policies in force by the permission that they are over, in the order of their priority."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._over: dict[str, list[Policy]] | None = None
        config.changed(PREFIX, self._forget)

    def _forget(self, key: str, value: Any) -> None:
        self._over = None

    def over(self, permission: str) -> list[Policy]:
        """Those over one permission."""
        if self._over is None:
            self._over = {}
            found = sorted(self._config.prefix(PREFIX).items(), key=lambda one: one[1].get("priority", 0))
            for key, policy in found:
                self._over.setdefault(policy.get("action", ""), []).append((key, policy))
        return self._over.get(permission, [])


def policies_for(method: Method, call: Call) -> list[Policy]:
    """The live policies over the method's permission, in the order of their priority."""
    return [] if call.caller.approved else call.running.policies.over(method.permission)


def matching(
    policies: list[Policy], result: Message, call: Call, before: dict[str, Any] | None = None
) -> Policy | None:
    """The first policy whose condition fits what the action would have made of the record."""
    record = json_format.MessageToDict(result, always_print_fields_with_no_presence=True)
    model = next((m for m in call.running.app.models if m.described.message is result.DESCRIPTOR), None)
    fields = record_fields(model) if model else None
    for key, policy in policies:
        only: list[str] = policy.get("fields", [])
        if only and before is not None and not set(only) & _changed(before, result):
            continue
        text = policy.get("condition", "")
        try:
            node = filters.parse(text) if text.strip() else None
            if node is not None and fields is not None:
                node = filters.bind(node, fields)
            if node is None or filters.matches(node, record, me=call.caller.actor, now=call.now, zone=ZONE):
                return key, policy
        except FilterError:
            # A policy that cannot be read must not open the gate.
            return key, policy
    return None


def policy_over(row: Resource, action: str, call: Call) -> Policy | None:
    """The policy that wants this action on the record decided; none for what is decided, or done by the system."""
    policies = call.running.policies.over(row.described.permission(action))
    if not policies or call.caller.is_system or call.caller.approved:
        return None
    return matching(policies, call.message_of(row), call)


def hold_row(method: Method, request: Message, row: Resource, policy: Policy, call: Call) -> None:
    """Keeps a request that makes this one new record, and asks for its decision."""
    held = new_held(method, request, row.name, None, policy, call)
    tell_held(held, call.message_of(row), None, None, request, method, call)


def makes(method: Method) -> bool:
    """Whether the method makes what is not there yet: a create, and what names no record."""
    return method.standard == options.CREATE or (
        not method.standard and "name" not in method.request.DESCRIPTOR.fields_by_name
    )


async def gated(method: Method, request: Any, call: Call) -> Any:
    """What the handler gives, or what the caller is told where a policy holds the action."""
    policies = [] if method.read_only else policies_for(method, call)
    if not policies:
        result = await method.handler(request, call)
        await call.flush()
        return result
    if method.standard == options.BATCH_UPDATE:
        return await _one_by_one(method, request, call)
    gate = _Gate(method, request, policies, call)
    return await gate.run()


async def _one_by_one(method: Method, request: Any, call: Call) -> Any:
    """A batch of updates: each is done or held as if it came alone."""
    single = call.running.pipeline.methods["Update" + _resource(method, call).__message__.DESCRIPTOR.name]
    rows = [await gated(single, one, call) for one in request.requests]
    return {method.reply.DESCRIPTOR.fields[0].name: rows}


def _resource(method: Method, call: Call) -> type[Resource]:
    return call.running.models_by_collection[method.permission.split(".")[1]]


class _Gate:
    """One action that a policy may hold."""

    def __init__(self, method: Method, request: Any, policies: list[Policy], call: Call) -> None:
        self.method, self.request, self.policies, self.call = method, request, policies, call
        self.content: Any = None
        if method.standard in (options.CREATE, options.UPDATE):
            kind = _resource(method, call).__message__.DESCRIPTOR
            self.content = getattr(
                request, next(f.name for f in method.request.DESCRIPTOR.fields if f.message_type is kind)
            )
        self.creates = method.standard == options.CREATE
        named = self.content if method.standard == options.UPDATE else request
        self.target = "" if self.creates else str(getattr(named, "name", ""))

    async def run(self) -> Any:
        """Tries the action; keeps what it did, or takes it back and holds it."""
        before = await self._before()
        async with self.call.db.begin_nested() as attempt:
            result = await self.method.handler(self.request, self.call)
            await self.call.flush()
            for whole in self._made(result, before):
                policy = matching(self.policies, whole, self.call, None if before is None else _json(before))
                if policy is not None:
                    break
            else:
                return result
            shown = reply_message(self.method.reply, result, self.call)
            await attempt.rollback()
        self.call.db.expunge_all()
        return await self._hold(policy, whole, before, shown)

    async def _before(self) -> Message | None:
        """The record as it is; None where there is none, or many."""
        model = self.call.running.models_by_collection.get(self.target.partition("/")[0])
        if model is None:
            return None
        try:
            row = await self.call.find(model, model.id == parse_name(self.target, model.described.collection))
        except NotFound:
            return None
        if row is None:
            return None
        message = self.call.message_of(row)
        # The handler loads it anew, and locks it.
        self.call.db.expunge(row)
        return message

    def _made(self, result: Any, before: Message | None) -> Iterator[Message]:
        """The records that the action made or changed, whole: a policy decides also on what the requester may not read."""
        if isinstance(result, Resource):
            yield self.call.message_of(result)
            return
        if self.method.standard == options.DELETE and before is not None:
            yield before
            return
        reply = reply_message(self.method.reply, result, self.call)
        found = False
        for field, value in reply.ListFields():
            for one in value if field.is_repeated else (value,):
                if isinstance(one, Message) and self._is_resource(one):
                    found = True
                    yield one
        if not found:
            yield before if before is not None else reply

    def _is_resource(self, message: Message) -> bool:
        return any(message.DESCRIPTOR is model.described.message for model in self.call.running.app.models)

    async def _hold(self, policy: Policy, whole: Message, before: Message | None, shown: Message) -> Any:
        if self.creates:
            return await self._hold_new(policy, whole, shown)
        if before is None:
            return self._hold_made(policy, whole)
        if self.method.reply.DESCRIPTOR is before.DESCRIPTOR:
            return await self._hold_change(policy, whole, before, self.call)
        # The reply has no place for it: the caller is told by the refusal, which leaves the held action behind.
        refusal = FailedPrecondition("HELD_FOR_APPROVAL")

        async def keep(call: Call) -> None:
            await self._hold_change(policy, whole, before, call)

        refusal.afterwards = keep
        raise refusal

    async def _hold_new(self, policy: Policy, whole: Any, shown: Any) -> Message:
        """Nothing exists before the decision; the name is kept for what it will make."""
        collection = _resource(self.method, self.call).described.collection
        self.content.name = self.content.name or f"{collection}/{uuid_utils.uuid7()}"
        held = new_held(self.method, self.request, self.content.name, None, policy, self.call)
        whole.name = self.content.name
        tell_held(held, whole, None, None, self.request, self.method, self.call)
        if not self._is_resource(shown) or "secret" in shown.DESCRIPTOR.fields_by_name:
            # What is shown but once belongs to a record that there is.
            shown = self.method.reply()
        for field in {"number", "etag", "create_time", "update_time"} & set(shown.DESCRIPTOR.fields_by_name):
            shown.ClearField(field)
        shown.name, shown.pending_approval = self.content.name, f"{self.method.permission}#{held.id}"
        return shown

    def _hold_made(self, policy: Policy, whole: Any) -> NoReturn:
        """Holds what makes one record without being its create, where the request has the record; refuses the rest."""
        field = next(
            (f for f in self.method.request.DESCRIPTOR.fields if f.message_type is whole.DESCRIPTOR), None
        )
        if field is None or field.is_repeated or not makes(self.method) or not self._is_resource(whole):
            raise FailedPrecondition("APPROVAL_NEEDED")
        content = getattr(self.request, field.name)
        collection = _resource(self.method, self.call).described.collection
        # The same request sent again asks once.
        sent = getattr(self.request, "request_id", "")
        key = f"{self.call.caller.actor}:{sent}" if sent else str(uuid4())
        content.name = whole.name = content.name or f"{collection}/{uuid5(NAMESPACE_OID, key)}"
        refusal = FailedPrecondition("HELD_FOR_APPROVAL")

        async def keep(call: Call) -> None:
            if await call.db.scalar(
                select(HeldAction.id).where(HeldAction.target == content.name, HeldAction.state == "HELD")
            ):
                return
            held = new_held(self.method, self.request, content.name, None, policy, call)
            tell_held(held, whole, None, None, self.request, self.method, call)
            await call.flush()

        refusal.afterwards = keep
        raise refusal

    async def _hold_change(self, policy: Policy, whole: Message, before: Message, call: Call) -> Resource:
        model = call.running.models_by_collection[self.target.partition("/")[0]]
        named = self.request if self.content is None else self.content
        row = await call.load(model, named)
        if row.pending_approval:
            raise FailedPrecondition("PENDING_APPROVAL")
        held = new_held(self.method, self.request, row.name, row, policy, call)
        await mark(row, f"{self.method.permission}#{held.id}", call)
        tell_held(held, whole, before, row, self.request, self.method, call)
        await call.flush()
        return row


def new_held(
    method: Method, request: Message, target: str, row: Resource | None, policy: Policy, call: Call
) -> HeldAction:
    """Keeps an action for later."""
    watched = [snake(name) for name in policy[1].get("watched", [])]
    request = sealed(request, call.running.settings.secret)
    held = HeldAction(
        id=uuid_utils.uuid7(),
        target=target,
        method=method.name,
        request=request.SerializeToString(),
        caller=_caller_json(call.caller),
        digest=digest(row, request, watched, call),
        policy=policy[0],
        policy_version=int(policy[1].get("version", 0)),
        watched=watched,
        revision=1,
        approval=None,
        state="HELD",
    )
    call.db.add(held)
    return held


def tell_held(
    held: HeldAction, whole: Message, before: Message | None, row: Resource | None, request: Message, method: Method,
    call: Call,
) -> None:  # fmt: skip
    """Asks workspace for a decision."""
    fact = common_pb2.ActionHeld(
        target=held.target,
        action=method.permission,
        digest=held.digest,
        policy=held.policy,
        policy_version=held.policy_version,
        requester=call.caller.actor,
        held_action=str(held.id),
        revision=held.revision,
        request=to_struct(json_format.MessageToDict(told(request))),
        facts=to_struct(json_format.MessageToDict(whole)),
        now=to_struct(_json(before) if before is not None else {}),
    )
    call.tell(f"crm.{call.running.app.name}.v1.ActionHeld", fact, row)


def _json(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message)


def _changed(before: dict[str, Any], after: Message) -> set[str]:
    """The fields, in proto names, that the action changed."""
    now = _json(after)
    names = {*before, *now} - {"etag", "updateTime", "pendingApproval"}
    return {snake(name) for name in names if before.get(name) != now.get(name)}


def _caller_json(caller: Caller) -> dict[str, Any]:
    return {
        "actor": caller.actor, "employee": caller.employee, "display_name": caller.display_name,
        "roles": list(caller.roles), "permissions": sorted(caller.permissions), "scope": caller.scope.value,
        "department": caller.department, "departments": list(caller.departments), "account": caller.account,
        "locale": caller.locale, "principal": caller.principal,
    }  # fmt: skip
