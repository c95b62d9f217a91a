"""The text fields of a resource wherever they are: its own, those of nested messages and of lines, and lists of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.message import Message

from crmkit.describe import COMMON, Described, Field
from crmkit.mapping import nested_fields
from crmkit.testing import hostile
from crmkit.text import clean_name

# A list of texts carries this many at once.
SEVERAL = 3


@dataclass(frozen=True, eq=False)
class Leaf:
    """A field that people write a text into, and the fields of messages on the way to it."""

    path: tuple[Field, ...]

    def __repr__(self) -> str:
        return self.dotted

    @property
    def field(self) -> Field:
        """The field itself."""
        return self.path[-1]

    @property
    def dotted(self) -> str:
        """Its path without indexes, such as `lines.description`."""
        return ".".join(field.name for field in self.path)

    @property
    def immutable(self) -> bool:
        """Whether it is as it was when the record was made."""
        return any(field.immutable for field in self.path)

    def way(self) -> dict[str, Any]:
        """A body in JSON that has nothing but the messages on the way to it."""
        body: dict[str, Any] = {}
        for field in reversed(self.path[:-1]):
            inner: list[Any] = [body]
            body = {field.json_name: inner if field.kind == "messages" else inner[0]}
        return body

    def texts(self, turn: int, place: int) -> list[str]:
        """What it carries in a turn."""
        count = SEVERAL if self.field.kind == "texts" else 1
        length = self.field.max_length
        return list(dict.fromkeys(hostile.window(length, turn + n, place) for n in range(count)))

    def put(self, body: dict[str, Any], texts: list[str]) -> None:
        """Writes the texts into a body in JSON, whose messages on the way are there."""
        found = [body]
        for field in self.path[:-1]:
            below: list[Any] = [one[field.json_name] for one in found]
            found = [each for one in below for each in (one if field.kind == "messages" else [one])]
        for inner in found:
            inner[self.field.json_name] = texts if self.field.kind == "texts" else texts[0]

    def took(self, message: Message, sent: Iterable[str]) -> bool:
        """Whether every text sent is among those that the message has here, names without direction marks."""
        got = set(self.read(message))
        return all(got & {text, clean_name(text), " ".join(clean_name(text).split())} for text in sent)

    def beside(self, resource: str, violations: Iterable[str]) -> bool:
        """Whether one of the violations is about something else in the outermost message on the way."""
        return any(bared(path, resource).startswith(f"{self.path[0].name}.") for path in violations)

    def read(self, message: Message) -> list[str]:
        """The texts that the message has here."""
        found: list[Any] = [message]
        for field in self.path:
            below: list[Any] = []
            for one in found:
                value = getattr(one, field.name)
                below += value if field.descriptor.is_repeated else [value]
            found = below
        return found


@cache
def leaves(described: Described) -> tuple[Leaf, ...]:
    """All of a resource that people fill and read; entries of dictionaries are chosen, and numbers no texts."""
    own = [field for name, field in described.fields.items() if name not in {*COMMON, "name"}]
    return tuple(Leaf(path) for path in _paths(own, (), frozenset()))


def _paths(
    fields: Iterable[Field], way: tuple[Field, ...], seen: frozenset[str]
) -> Iterator[tuple[Field, ...]]:
    for field in fields:
        if field.output_only or field.rule.dictionary or field.rule.secret or field.rule.decimal:
            continue
        if field.kind in {"text", "texts"}:
            yield (*way, field)
        elif field.kind in {"message", "messages"}:
            inner = field.nested.full_name
            if not inner.startswith("google.") and inner not in seen:
                yield from _paths(nested_fields(field.nested), (*way, field), seen | {inner})


def filled(body: Mapping[str, Any], carried: Mapping[Leaf, list[str]]) -> dict[str, Any]:
    """The body with the texts."""
    whole = deepcopy(dict(body))
    for leaf, texts in carried.items():
        leaf.put(whole, texts)
    return whole


def named(leaf: Leaf, resource: str, violations: Iterable[str]) -> bool:
    """Whether one of the violations is about the leaf or a message on the way to it."""
    for path in violations:
        bare = bared(path, resource)
        if bare and f"{leaf.dotted}.".startswith(f"{bare}."):
            return True
    return False


def bared(path: str, resource: str) -> str:
    """The path of a violation without its indexes and the resource."""
    return re.sub(r"\[\d+\]", "", path).removeprefix(f"{resource}.")
