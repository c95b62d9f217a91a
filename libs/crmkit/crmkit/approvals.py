"""The approval gate: a verb that matches a policy is tried, rolled back, and held until somebody decides.

`workspace` owns policies and decisions. Here: which policy holds a verb, the held action, and what becomes of it.
A decision counts only for what was submitted: its digest is compared with the record as it is then.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from crm.common.v1 import common_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import select

from crmkit import filters
from crmkit.auth import Caller, Scope
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Problem
from crmkit.events import Fact, listens
from crmkit.filters import FilterError
from crmkit.listing import ZONE, record_fields
from crmkit.mapping import to_struct
from crmkit.resource import Resource
from crmkit.tables import HeldAction

if TYPE_CHECKING:
    from crmkit.rpc import Method

HELD_DAYS = 90
# What a decision does not depend on.
_VOLATILE = {"etag", "updateTime", "pendingApproval"}


def policies_for(method: Method, call: Call) -> list[tuple[str, dict[str, Any]]]:
    """The live policies over the method's permission, in the order of their priority."""
    if call.caller.approved:
        return []
    found = [
        (key, p)
        for key, p in call.running.config.prefix("approvalPolicy.").items()
        if p.get("action") == method.permission
    ]
    return sorted(found, key=lambda item: item[1].get("priority", 0))


def matching(
    policies: list[tuple[str, dict[str, Any]]], result: Message, call: Call
) -> tuple[str, dict[str, Any]] | None:
    """The first policy whose condition fits what the verb would have made of the record."""
    record = json_format.MessageToDict(result, always_print_fields_with_no_presence=True)
    model = next((m for m in call.running.app.models if m.described.message is result.DESCRIPTOR), None)
    fields = record_fields(model) if model else None
    for key, policy in policies:
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


async def hold(
    method: Method, request: Any, result: Message, policy: tuple[str, dict[str, Any]], call: Call
) -> Resource:
    """Keeps the verb for later and marks its record; returns the record."""
    model = call.running.models_by_collection[request.name.partition("/")[0]]
    call.db.expunge_all()
    row = await call.load(model, request)
    if row.pending_approval:
        raise FailedPrecondition("PENDING_APPROVAL")
    held = HeldAction(
        id=uuid_utils.uuid7(),
        target=row.name,
        method=method.name,
        request=request.SerializeToString(),
        caller=_caller_json(call.caller),
        digest=digest(row, call),
        policy=policy[0],
        approval=None,
        state="HELD",
    )
    call.db.add(held)
    row.pending_approval = f"{method.permission}#{held.id}"
    await call.flush()
    facts = call.running.json_of(call.message_of(row))
    held_fact = common_pb2.ActionHeld(
        target=row.name,
        action=method.permission,
        digest=held.digest,
        policy=policy[0],
        requester=call.caller.actor,
        held_action=str(held.id),
        request=to_struct(json_format.MessageToDict(request)),
        facts=to_struct({**json_format.MessageToDict(result), "_now": facts}),
    )
    call.tell(f"crm.{row.described.area}.v1.ActionHeld", held_fact, row)
    return row


def digest(row: Resource, call: Call) -> str:
    """What was submitted, without what changes by itself."""
    content = {k: v for k, v in call.running.json_of(call.message_of(row)).items() if k not in _VOLATILE}
    return sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@listens(
    "crm.workspace.v1.ApprovalApproved",
    "crm.workspace.v1.ApprovalRejected",
    "crm.workspace.v1.ApprovalReturned",
    "crm.workspace.v1.ApprovalWithdrawn",
)
async def on_approval_ended(event: Fact, call: Call) -> None:
    """Runs the held verb as its requester, or drops it; tells what became of it."""
    approval: dict[str, Any] = event.payload.get("approval", {})
    try:
        key = UUID(approval.get("heldAction", ""))
    except ValueError:
        return
    held = await call.db.scalar(
        select(HeldAction).where(HeldAction.id == key, HeldAction.state == "HELD").with_for_update()
    )
    if held is None:
        return
    model = call.running.models_by_collection.get(held.target.partition("/")[0])
    row = await call.find(model, model.id == held.target.partition("/")[2], lock=True) if model else None
    outcome, reason = "STALE", ""
    if row is not None:
        row.pending_approval = ""
        await call.flush()
        if not event.subject.endswith("ApprovalApproved"):
            outcome = "DROPPED"
        elif digest(row, call) == held.digest and call.now - held.create_time < timedelta(days=HELD_DAYS):
            outcome, reason = await _execute(held, call)
    held.state, held.approval = outcome, str(approval.get("name", ""))
    ended = common_pb2.HeldActionEnded(
        held_action=str(key), target=held.target, outcome=outcome, reason=reason
    )
    area = call.running.app.name
    call.tell(f"crm.{area}.v1.HeldActionEnded", ended, row)
    await call.flush()


async def _execute(held: HeldAction, call: Call) -> tuple[str, str]:
    method = call.running.pipeline.methods[held.method]
    request: Any = method.request.FromString(held.request)
    # The record's mark was set after the requester read it; the digest has proved that nothing else changed.
    if hasattr(request, "etag"):
        request.etag = ""
    caller = _caller_of(held.caller, call)
    # The rights of this moment count, not those of the day when it was asked for.
    if caller is None or (method.permission != "*" and not caller.may(method.permission)):
        return "FAILED", "PERMISSION_DENIED"
    caller = replace(caller, approved=held.policy)
    async with call.running.acting(call, caller, held.method) as inner:
        try:
            async with call.db.begin_nested():
                await method.handler(request, inner)
                await inner.flush()
        except Problem as problem:
            call.db.expire_all()
            return "FAILED", problem.reason
    return "EXECUTED", ""


def _caller_json(caller: Caller) -> dict[str, Any]:
    return {
        "actor": caller.actor, "employee": caller.employee, "display_name": caller.display_name,
        "roles": list(caller.roles), "permissions": sorted(caller.permissions), "scope": caller.scope.value,
        "department": caller.department, "departments": list(caller.departments), "account": caller.account,
        "locale": caller.locale, "principal": caller.principal,
    }  # fmt: skip


def _caller_of(value: dict[str, Any], call: Call) -> Caller | None:
    if value["employee"] or value["actor"].startswith("apiKeys/"):
        known = call.running.directory.acting(value["actor"])
        return known and replace(known, locale=value["locale"], principal=value["principal"])
    exact: dict[str, Any] = {
        "roles": tuple(value["roles"]),
        "permissions": frozenset(value["permissions"]),
        "departments": tuple(value["departments"]),
        "scope": Scope(value["scope"]),
    }
    return Caller(**{**value, **exact})
