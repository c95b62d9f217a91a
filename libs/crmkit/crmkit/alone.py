"""One of many records of a run, done as if its request had come alone: held where a policy wants it decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crmkit.approvals import gated, policies_for
from crmkit.call import Call
from crmkit.resource import Resource
from crmkit.rpc import problem_of

if TYPE_CHECKING:
    from crmkit.rpc import Method

# The row is not at fault, the moment is.
PASSING = ("INTERNAL", "CONFLICT", "UNAVAILABLE", "DEADLINE_EXCEEDED")


async def alone(method: Method, request: Any, call: Call, keep: bool = True) -> Any:
    """What the method gives, or what the gate holds of it; a Problem where it is refused, and nothing stays of it.

    Rows that the call knows and has changed are to be flushed before: the gate forgets them.
    """
    try:
        async with (
            call.running.acting(call, call.caller, method.name) as inner,
            call.db.begin_nested() as attempt,
        ):
            made = await gated(method, request, inner)
            await inner.flush()
            if not keep:
                await attempt.rollback()
    except Exception as error:
        problem = problem_of(error)
        if problem.reason in PASSING:
            raise
        call.db.expunge_all()
        if problem is error:
            raise
        raise problem from error
    return made


async def together(
    method: Method, requests: Sequence[Any], call: Call, keep: bool = True
) -> list[Any] | None:
    """What the method gives for each, with one way to the database for all; None where one of them has to come alone.

    That is where any is refused, or a policy may hold it; nothing stays of them then. For models that say `made_together`.
    """
    if policies_for(method, call):
        return None
    try:
        async with (
            call.running.acting(call, call.caller, method.name) as inner,
            call.db.begin_nested() as attempt,
        ):
            made = [await method.handler(request, inner) for request in requests]
            await inner.flush()
            if not keep:
                await attempt.rollback()
    except Exception as error:
        if problem_of(error).reason in PASSING:
            raise
        call.db.expunge_all()
        return None
    return made


def creation(row: Resource, call: Call) -> tuple[Method, Any]:
    """The method that makes such a record, and its request for this one."""
    method = call.running.pipeline.methods[f"Create{row.described.message.name}"]
    request = method.request()
    field = next(one.name for one in method.request.DESCRIPTOR.fields if one.message_type is not None)
    getattr(request, field).CopyFrom(call.message_of(row))
    return method, request
