"""Dictionaries: selectable values in two languages."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from crm.common.v1 import common_pb2 as common
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, Validation, Violation, required
from crmkit.mapping import read_date
from crmkit.resource import Resource
from sqlalchemy import DateTime, Index, Text, delete, insert, inspect, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base


class DictionaryUseCount(Base):
    """What a service has counted of the entries of a dictionary; without counts while it has not answered."""

    __tablename__ = "dictionary_use_counts"

    dictionary: Mapped[str] = mapped_column(Text, primary_key=True)
    # The service; empty for the question itself.
    service: Mapped[str] = mapped_column(Text, primary_key=True)
    asked_time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    uses: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)


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
            self._check_group(call)
        self._check()

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Entries come, change their words and their order; published ones do not go."""
        if changed - {"entries"}:
            self._check_group(call)
        if "entries" not in changed:
            return
        history = inspect(self).attrs.entries.history
        before = {entry.key: entry for entry in (history.deleted[0] if history.deleted else ())}
        self.entries = [_like(entry, before.get(entry.key)) for entry in self.entries]
        kept = {entry.key for entry in self.entries}
        for key, entry in before.items():
            if entry.published and key not in kept:
                raise FailedPrecondition("DICTIONARY_ITEM_PUBLISHED", key=key)
        after = {entry.key: entry for entry in self.entries}
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                self._check_mine(key, [one for one in (before.get(key), after.get(key)) if one], call)
        stays = [key for key in after if key in before]
        if stays != [key for key in before if key in after]:
            self._check_mine(stays[0], [after[key] for key in stays], call)
        self._check()

    async def deleting(self, call: Call) -> None:
        """Fields refer to those that came with the platform; what was a choice once may stand in any record."""
        from workspace.model.custom_field import CustomField

        self._check_group(call)
        if self.kind == "SYSTEM":
            raise FailedPrecondition("DICTIONARY_IS_SYSTEM")
        user = await call.find(CustomField, CustomField.dictionary == self.key)
        if self.publish_time or user is not None:
            raise FailedPrecondition("DICTIONARY_IN_USE", field=user.display_name if user else "—")

    def publish(self, call: Call) -> None:
        """Makes the entries the choices; who extends the dictionary for some departments, those of these."""
        self.entries = [
            _copy(entry, published=True) if self._mine([entry], call) else entry for entry in self.entries
        ]
        self.publish_time = call.now

    def retire(self, key: str, call: Call) -> None:
        """Takes an entry out of the choices."""
        self._check_free(self._known(key), call)
        self.entries = [_copy(entry, retired=True) if entry.key == key else entry for entry in self.entries]

    def merge(self, key: str, into: str, call: Call) -> None:
        """Retires an entry in favour of another one, which takes what hung beneath it and became it before."""
        ending, target = self._known(key), self._known(into)
        if target.retired:
            raise FailedPrecondition("DICTIONARY_ITEM_RETIRED", key=into)
        if ending.merged_into:
            raise FailedPrecondition("DICTIONARY_ITEM_RETIRED", key=key)
        self._check_free(ending, call)
        entries = {entry.key: entry for entry in self.entries}
        above = into
        while above:
            if above == key:
                raise FailedPrecondition("DICTIONARY_ITEM_CYCLE", key=key)
            above = entries[above].parent
        changed: list[Any] = []
        for entry in self.entries:
            if entry.key == key:
                changed.append(_copy(entry, retired=True, merged_into=into))
            elif entry.parent == key or entry.merged_into == key:
                hung = {"parent": into} if entry.parent == key else {}
                became = {"merged_into": into} if entry.merged_into == key else {}
                changed.append(_copy(entry, **hung, **became))
            else:
                changed.append(entry)
        self.entries = changed
        call.emit(events.DictionaryItemMerged, self, dictionary=self.key, entry=key, into=into)

    async def count_uses(self, call: Call) -> pb.DictionaryUses:
        """Asks every service; what was counted before is forgotten."""
        await call.db.execute(delete(DictionaryUseCount).where(DictionaryUseCount.dictionary == self.key))
        asked = insert(DictionaryUseCount).values(
            dictionary=self.key, service="", asked_time=call.now, uses=[]
        )
        await call.db.execute(asked)
        call.emit(events.DictionaryUsesAsked, self, dictionary=self.key, asked_time=call.now)
        return pb.DictionaryUses(asked_time=call.now)

    async def list_uses(self, call: Call) -> pb.DictionaryUses:
        """What the services have told."""
        rows = select(DictionaryUseCount).where(DictionaryUseCount.dictionary == self.key)
        answer = pb.DictionaryUses()
        for row in await call.db.scalars(rows.order_by(DictionaryUseCount.service)):
            if not row.service:
                answer.asked_time.FromDatetime(row.asked_time)
                continue
            answer.services.append(row.service)
            for use in row.uses:
                answer.uses.add(**use)
        answer.uses.sort(key=lambda use: (use.entry, use.collection, use.field))
        return answer

    def _known(self, key: str) -> Any:
        found = next((entry for entry in self.entries if entry.key == key), None)
        if found is None:
            raise FailedPrecondition("DICTIONARY_ITEM_UNKNOWN", key=key)
        return found

    def _check_free(self, entry: Any, call: Call) -> None:
        """What the platform works with stays a choice, and what others work with is theirs to end."""
        if entry.system:
            raise FailedPrecondition("DICTIONARY_ITEM_IS_SYSTEM", key=entry.key)
        self._check_mine(entry.key, [entry], call)

    def _extends(self, call: Call) -> tuple[str, ...] | None:
        """The departments for which alone the caller extends: who works in segments alone. None: for the group."""
        if call.caller.is_system:
            return None
        reach = call.caller.reach("dictionaries", call.permission.rpartition(".")[2])
        return None if reach.wall is None else reach.departments

    def _check_group(self, call: Call) -> None:
        """The dictionary itself is the group's."""
        if self._extends(call) is not None:
            raise PermissionDenied("PERMISSION_DENIED", permission=call.permission)

    def _mine(self, entries: Sequence[Any], call: Call) -> bool:
        extends = self._extends(call)
        return extends is None or all(
            entry.departments and set(entry.departments) <= set(extends) for entry in entries
        )

    def _check_mine(self, key: str, entries: Sequence[Any], call: Call) -> None:
        """Who works for some departments extends the dictionary for these and leaves the rest as it is."""
        if not self._mine(entries, call):
            raise PermissionDenied("DICTIONARY_ENTRY_OF_OTHERS", key=key)

    def _check(self) -> None:
        violations: list[Violation] = []
        parents = {entry.key: entry.parent for entry in self.entries}
        for index, entry in enumerate(self.entries):
            path = f"dictionary.entries[{index}]"
            if not entry.label.zh and not entry.label.en:
                violations.append(required(f"{path}.label"))
            first, last = validity(entry).values()
            if first and last and last < first:
                violations.append(
                    Violation(
                        f"{path}.validTo", "OUT_OF_RANGE", "失效日期早于生效日期", "It ends before it begins."
                    )
                )
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


async def uses_counted(told: common.DictionaryUsesCounted, call: Call) -> None:
    """Keeps what a service has counted, if it is the answer to the last question."""
    asked = await call.db.get(DictionaryUseCount, (told.dictionary, ""))
    if asked is None or asked.asked_time != told.asked_time.ToDatetime(UTC):
        return
    uses = [
        {"entry": use.entry, "collection": use.collection, "field": use.field, "count": use.count}
        for use in told.uses
    ]
    await call.db.merge(
        DictionaryUseCount(
            dictionary=told.dictionary, service=told.service, asked_time=asked.asked_time, uses=uses
        )
    )


def validity(entry: Any) -> dict[str, date | None]:
    """From when to when an entry may be chosen; None where that is open."""
    return {
        "validFrom": read_date(entry.valid_from) if entry.HasField("valid_from") else None,
        "validTo": read_date(entry.valid_to) if entry.HasField("valid_to") else None,
    }


def _like(entry: Any, before: Any) -> Any:
    """The entry with the flags that only verbs set."""
    return _copy(
        entry,
        published=bool(before and before.published),
        retired=bool(before and before.retired),
        merged_into=before.merged_into if before else "",
        system=bool(before and before.system),
    )


def _copy(entry: Any, **flags: bool | str) -> Any:
    copy = pb.Dictionary.Entry()
    copy.CopyFrom(entry)
    for name, value in flags.items():
        setattr(copy, name, value)
    return copy
