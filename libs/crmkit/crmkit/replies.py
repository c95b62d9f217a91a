"""What a handler returned, as the reply that its caller gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from google.protobuf.message import Message

from crmkit.call import Call
from crmkit.listing import Record
from crmkit.mapping import mapper
from crmkit.resource import Resource


def reply_message(reply: type[Message], result: Any, call: Call) -> Message:
    """What a handler returned, as its reply: a row, a message, or the reply's fields."""
    if isinstance(result, Message):
        return result
    if isinstance(result, Resource):
        return call.shown(result, call.caller)
    message = reply()
    fields: dict[str, Any] = result or {}
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            getattr(message, name).extend(shown(item, call) for item in cast("Sequence[Any]", value))
        elif isinstance(one := shown(value, call), Message):
            getattr(message, name).CopyFrom(one)
        else:
            setattr(message, name, one)
    return message


def shown(value: Any, call: Call) -> Any:
    """A row, as a query or a page gave it, as the message that the caller gets."""
    if isinstance(value, Record):
        return mapper(value.model).record_message(value.values, call.caller)
    if isinstance(value, Resource):
        return call.shown(value, call.caller)
    return call.message_of(value)
