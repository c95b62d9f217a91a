"""Fields that nobody reads again (`secret` in their proto): where requests and replies are kept, they are not in clear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

from crm.options.v1 import options_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from crmkit.options import option
from crmkit.sealing import seal, unseal

M = TypeVar("M", bound=Message)
_PURPOSE = "held request"


def is_secret(field: FieldDescriptor) -> bool:
    """Whether the field's proto says so."""
    return bool(option(field, options_pb2.field).secret)


@cache
def holds_secrets(message: Descriptor) -> bool:
    """Whether the message, or one within it, has such a field."""
    return _holds(message, frozenset())


def told(message: M) -> M:
    """The message without its secrets, as it may be kept and told."""
    if not holds_secrets(message.DESCRIPTOR):
        return message
    copied = type(message)()
    copied.CopyFrom(message)
    for one, name, _ in _found(copied):
        one.ClearField(name)
    return copied


def sealed(message: M, key: bytes) -> M:
    """The message with its secrets sealed, as it is kept to be used later."""
    return _with(message, lambda text: seal(text, _PURPOSE, key))


def opened(message: M, key: bytes) -> M:
    """What `sealed` was given."""
    return _with(message, lambda text: unseal(text, _PURPOSE, key))


def _with(message: M, change: Callable[[str], str]) -> M:
    if not holds_secrets(message.DESCRIPTOR):
        return message
    copied = type(message)()
    copied.CopyFrom(message)
    for one, name, text in list(_found(copied)):
        setattr(one, name, change(text))
    return copied


def _found(message: Message) -> Iterator[tuple[Message, str, str]]:
    """Every secret that is set: the message that has it, the field's name, and the text."""
    for field, value in list(message.ListFields()):
        if field.message_type is None:
            if is_secret(field):
                yield message, field.name, value
        elif holds_secrets(field.message_type):
            for one in value if field.is_repeated else [value]:
                yield from _found(one)


def _holds(message: Descriptor, seen: frozenset[str]) -> bool:
    if message.full_name in seen:
        return False
    within = seen | {message.full_name}
    return any(
        is_secret(field) if field.message_type is None else _holds(field.message_type, within)
        for field in message.fields
    )
