"""A held action: what was submitted, and what may change while it waits."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from hashlib import sha256
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import select, update
from sqlalchemy.orm.attributes import set_committed_value

from crmkit.call import Call
from crmkit.errors import FailedPrecondition
from crmkit.resource import Resource, snake
from crmkit.tables import HeldAction

# What a decision does not depend on.
_VOLATILE = {"etag", "updateTime", "pendingApproval"}


def digest(row: Resource | None, request: Message, watched: Collection[str], call: Call) -> str:
    """SHA-256 of what was submitted: the request, and the record as it is, without what changes by itself."""
    record = call.running.json_of(call.message_of(row)) if row is not None else {}
    content = {
        key: value
        for key, value in record.items()
        if key not in _VOLATILE and (not watched or snake(key) in watched)
    }
    submitted = {"record": content, "request": json_format.MessageToDict(request)}
    text = json.dumps(submitted, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


async def mark(row: Resource, value: str, call: Call) -> None:
    """Says of a record that an action on it waits, or does no more.

    It is no change of the record: version and time stay, so that after a refusal it is what it was, byte for byte.
    """
    model = type(row)
    async with call.everybody():
        statement = update(model).where(model.id == row.id).values(pending_approval=value)
        await call.db.execute(statement.execution_options(synchronize_session=False))
    set_committed_value(row, "pending_approval", value)


def held_by(row: Resource) -> str:
    """The id of the held action that the record waits for."""
    return row.pending_approval.rpartition("#")[2]


async def check_watched(row: Resource, changed: Iterable[str], call: Call) -> None:
    """Refuses changes to what the waiting decision depends on; other edits go on."""
    watched = await call.db.scalar(select(HeldAction.watched).where(HeldAction.id == UUID(held_by(row))))
    if not watched or set(watched) & set(changed):
        raise FailedPrecondition("PENDING_APPROVAL")
