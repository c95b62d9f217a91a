"""What becomes of a held action once it is decided: run as its requester, dropped, tried again, or submitted anew.

A decision counts only for what was submitted: its digest is compared with the record as it is then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from crm.common.v1 import common_pb2
from google.protobuf import json_format
from sqlalchemy import select

from crmkit import approvals
from crmkit.auth import Caller, Scope
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.held import digest, held_by, mark
from crmkit.resource import Resource
from crmkit.secretfields import opened, sealed
from crmkit.tables import HeldAction

if TYPE_CHECKING:
    from crmkit.rpc import Method

HELD_DAYS = 90


@listens(
    "crm.workspace.v1.ApprovalApproved",
    "crm.workspace.v1.ApprovalRejected",
    "crm.workspace.v1.ApprovalReturned",
    "crm.workspace.v1.ApprovalWithdrawn",
    "crm.workspace.v1.ApprovalRetried",
)
async def on_approval_ended(event: Fact, call: Call) -> None:
    """Runs the held action as its requester, or drops it; tells what became of it."""
    how = event.subject.rpartition(".Approval")[2]
    approval: dict[str, Any] = event.payload.get("approval", {})
    held = await _held(approval, call, "FAILED" if how == "Retried" else "HELD")
    if held is None:
        return
    method = call.running.pipeline.methods[held.method]
    row = await _target(held, call)
    if row is not None and held_by(row) == str(held.id):
        await mark(row, "", call)
    outcome, reason = "STALE", ""
    if how not in ("Approved", "Retried"):
        outcome = "DROPPED"
    elif row is None and not approvals.makes(method):
        outcome = "STALE"
    elif row is not None and row.pending_approval:
        outcome, reason = "FAILED", "PENDING_APPROVAL"
    elif _unchanged(held, method, row, call) and call.now - held.create_time < timedelta(days=HELD_DAYS):
        outcome, reason = await _execute(held, method, call)
        if reason:
            # What was rolled back is known no more.
            await call.db.refresh(held)
            row = await _target(held, call)
    held.state, held.approval = outcome, str(approval.get("name", ""))
    _tell(held, outcome, reason, row, call)
    await call.flush()


@listens("crm.workspace.v1.ApprovalRevised")
async def on_approval_revised(event: Fact, call: Call) -> None:
    """What was asked for is changed: tried as it is now, and asked for anew; UNCHANGED where it would fail."""
    approval: dict[str, Any] = event.payload.get("approval", {})
    held = await _held(approval, call, "HELD", "DROPPED", "STALE", "FAILED")
    if held is None or held.revision >= int(event.payload.get("revision", 0)):
        return
    method = call.running.pipeline.methods[held.method]
    row = await _target(held, call)
    waits = row is not None and held_by(row) == str(held.id)
    reason = "PENDING_APPROVAL"
    if row is not None or approvals.makes(method):
        if waits or row is None or not row.pending_approval:
            reason = await _submit_anew(held, method, row, event.payload, call)
            await call.flush()
            await call.db.refresh(held)
            row = await _target(held, call)
    else:
        reason = "NOT_FOUND"
    if reason:
        _tell(held, "UNCHANGED", reason, row, call)
    await call.flush()


async def _submit_anew(
    held: HeldAction, method: Method, row: Resource | None, told: dict[str, Any], call: Call
) -> str:
    """Tries the changed request as its requester; the reason why it cannot be held."""
    request: Any = method.request()
    was = json_format.MessageToDict(_kept(held, method, call))
    try:
        json_format.ParseDict(_merged(was, told.get("content", {})), request)
    except json_format.ParseError:
        return "MALFORMED"
    caller = _caller_of(held.caller, call)
    if caller is None or not caller.may(method.permission):
        return "PERMISSION_DENIED"
    before = call.message_of(row) if row is not None else None
    policies = call.running.policies.over(method.permission)
    async with call.running.acting(call, replace(caller, approved=held.policy), held.method) as inner:
        try:
            async with call.db.begin_nested() as attempt:
                result = await method.handler(_bare(request), inner)
                await inner.flush()
                whole = inner.message_of(result) if isinstance(result, Resource) else before
                await attempt.rollback()
        except Problem as problem:
            call.db.expire_all()
            return problem.reason
    call.db.expire_all()
    await call.db.refresh(held)
    if whole is None:
        return "MALFORMED"
    policy = approvals.matching(policies, whole, call)
    row = await _target(held, call)
    kept = sealed(request, call.running.settings.secret)
    held.request, held.state, held.revision = kept.SerializeToString(), "HELD", int(told["revision"])
    if policy is not None:
        held.policy, held.policy_version = policy[0], int(policy[1].get("version", 0))
    held.digest = digest(row, kept, held.watched, call)
    if row is not None:
        await mark(row, f"{method.permission}#{held.id}", call)
    async with call.running.acting(call, caller, held.method) as inner:
        approvals.tell_held(held, whole, before, row, request, method, inner)
        await inner.flush()
    return ""


def _merged(request: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    merged = dict(request)
    for key, value in content.items():
        old: Any = merged.get(key)
        nested = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(cast("dict[str, Any]", old), cast("dict[str, Any]", value)) if nested else value
    return merged


async def _held(approval: dict[str, Any], call: Call, *states: str) -> HeldAction | None:
    try:
        key = UUID(approval.get("heldAction", ""))
    except ValueError:
        return None
    found = select(HeldAction).where(HeldAction.id == key, HeldAction.state.in_(states))
    return await call.db.scalar(found.with_for_update())


async def _target(held: HeldAction, call: Call) -> Resource | None:
    collection, _, key = held.target.partition("/")
    model = call.running.models_by_collection.get(collection)
    return await call.find(model, model.id == key, lock=True) if model else None


def _unchanged(held: HeldAction, method: Method, row: Resource | None, call: Call) -> bool:
    return digest(row, method.request.FromString(held.request), held.watched, call) == held.digest


def _kept(held: HeldAction, method: Method, call: Call) -> Any:
    """The request as it was sent."""
    return opened(method.request.FromString(held.request), call.running.settings.secret)


def _bare(request: Any) -> Any:
    """Without etags: the digest has proved that nothing changed that counts."""
    copied = type(request)()
    copied.CopyFrom(request)
    for one in (
        copied,
        *(value for field, value in copied.ListFields() if field.message_type and not field.is_repeated),
    ):
        if "etag" in one.DESCRIPTOR.fields_by_name:
            one.etag = ""
    return copied


def _tell(held: HeldAction, outcome: str, reason: str, row: Resource | None, call: Call) -> None:
    ended = common_pb2.HeldActionEnded(
        held_action=str(held.id), target=held.target, outcome=outcome, reason=reason
    )
    call.tell(f"crm.{call.running.app.name}.v1.HeldActionEnded", ended, row)


async def _execute(held: HeldAction, method: Method, call: Call) -> tuple[str, str]:
    caller = _caller_of(held.caller, call)
    # The rights of this moment count, not those of the day when it was asked for.
    if caller is None or (method.permission != "*" and not caller.may(method.permission)):
        return "FAILED", "PERMISSION_DENIED"
    caller = replace(caller, approved=held.policy)
    async with call.running.acting(call, caller, held.method) as inner:
        try:
            async with call.db.begin_nested():
                await method.handler(_bare(_kept(held, method, call)), inner)
                await inner.flush()
        except Problem as problem:
            call.db.expire_all()
            return "FAILED", problem.reason
    return "EXECUTED", ""


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
