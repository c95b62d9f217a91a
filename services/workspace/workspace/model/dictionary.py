"""Dictionaries: selectable values in two languages."""

import re
from datetime import datetime
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, Validation, Violation, required
from crmkit.resource import Resource
from sqlalchemy import Index, inspect
from sqlalchemy.orm import Mapped

from workspace.model.base import Base

KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Dictionary(Resource, Base):
    """A list or tree of values. What was published once is retired, never deleted."""

    __message__ = pb.Dictionary
    __table_args__ = (Index("dictionaries_key_key", "key", unique=True),)

    key: Mapped[str]
    display_name: Mapped[str]
    english_name: Mapped[str]
    kind: Mapped[str]
    entries: Mapped[Any]
    publish_time: Mapped[datetime | None]

    async def creating(self, call: Call) -> None:
        """A new dictionary has no choices until it is published; what comes with the platform is."""
        if not KEY.fullmatch(self.key):
            raise Validation(
                Violation(
                    "dictionary.key", "WRONG_FORMAT", "只能使用字母、数字和下划线", "Letters, digits, _."
                )
            )
        self.kind = self.kind or "USER"
        if not call.caller.is_system:
            self.entries = [_like(entry, None) for entry in self.entries]
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Entries come, change their words and their order; published ones do not go."""
        if "entries" not in changed:
            return
        history = inspect(self).attrs.entries.history
        before = {entry.key: entry for entry in (history.deleted[0] if history.deleted else ())}
        self.entries = [_like(entry, before.get(entry.key)) for entry in self.entries]
        kept = {entry.key for entry in self.entries}
        for key, entry in before.items():
            if entry.published and key not in kept:
                raise FailedPrecondition("DICTIONARY_ITEM_PUBLISHED", key=key)
        self._check()

    async def deleting(self, call: Call) -> None:
        """Fields refer to those that came with the platform."""
        if self.kind == "SYSTEM":
            raise FailedPrecondition("DICTIONARY_IS_SYSTEM")

    def publish(self, call: Call) -> None:
        """Makes the entries the choices."""
        self.entries = [_copy(entry, published=True) for entry in self.entries]
        self.publish_time = call.now

    def retire(self, key: str) -> None:
        """Takes an entry out of the choices."""
        if key not in {entry.key for entry in self.entries}:
            raise FailedPrecondition("DICTIONARY_ITEM_UNKNOWN", key=key)
        self.entries = [_copy(entry, retired=True) if entry.key == key else entry for entry in self.entries]

    def _check(self) -> None:
        violations: list[Violation] = []
        parents = {entry.key: entry.parent for entry in self.entries}
        for index, entry in enumerate(self.entries):
            path = f"dictionary.entries[{index}]"
            if not entry.label.zh and not entry.label.en:
                violations.append(required(f"{path}.label"))
        if len(parents) < len(self.entries):
            violations.append(
                Violation("dictionary.entries", "DUPLICATE", "条目代码重复", "A key occurs twice.")
            )
        if violations:
            raise Validation(*violations)
        for key in parents:
            seen, at = {key}, parents[key]
            while at:
                if at in seen or at not in parents:
                    raise FailedPrecondition("DICTIONARY_ITEM_CYCLE", key=key)
                seen.add(at)
                at = parents[at]


def _like(entry: Any, before: Any) -> Any:
    """The entry with the flags that only verbs set."""
    return _copy(entry, published=bool(before and before.published), retired=bool(before and before.retired))


def _copy(entry: Any, **flags: bool) -> Any:
    copy = pb.Dictionary.Entry()
    copy.CopyFrom(entry)
    for name, value in flags.items():
        setattr(copy, name, value)
    return copy
