"""What the global search finds: one row for each record of any area."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from uuid import UUID

from crm.insight.v1 import pb
from crmkit import withholding
from crmkit.auth import Caller
from crmkit.bulk import JsonText, insert_rows, newer
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.customfields import CustomFields
from crmkit.describe import Described, Field
from crmkit.driver import driver
from crmkit.events import Fact
from crmkit.fieldlevels import concealed
from crmkit.mapping import Reader
from crmkit.search import search_columns
from crmkit.seen import SeenAsSource
from insight.model.base import Base
from insight.sources import account_of, moment, partner_of, seen_by, source_id
from sqlalchemy import Boolean, ColumnElement, Index, and_, false
from sqlalchemy.orm import Mapped, mapped_column

LONGEST_TEXT = 2000
PHONE, EMAIL = "crm.common.v1.Phone", "crm.common.v1.Email"


class SearchDocument(SeenAsSource, Base):
    """One record of any area as the global search finds it; its version is the record's."""

    __message__ = pb.SearchDocument
    __table_args__ = (Index("search_documents_collection_index", "collection", "update_time", "id"),)

    # They carry the words of records; nobody filters by them from whom a role hides any field.
    quotes = frozenset(["keys", "texts", "sources"])

    title: Mapped[str]
    collection: Mapped[str]
    sources: Mapped[Any]
    deleted: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What is gone stays as a mark for facts that come late, and is never shown."""
        seen = super().readable(caller)
        return ~cls.deleted if seen is None else and_(~cls.deleted, seen)

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """Shows of the record what its own page would show; nothing of a masked field, for it finds nothing either."""
        hidden = concealed(withholding.taken_of(message.collection, reader))
        kept = [one for one in message.sources if one.field not in hidden]
        if len(kept) < len(message.sources):
            words = {text for one in kept for text in one.texts}
            message.keys[:] = [one for one in message.keys if one in words]
            message.texts[:] = [one for one in message.texts if one in words]
            del message.sources[:]
            message.sources.extend(kept)

    @classmethod
    def not_searched(cls, caller: Caller) -> frozenset[str]:
        """Fields of any collection that documents are found by, as "accounts.tax_id"."""
        if not caller.takes_fields:
            return frozenset()
        return frozenset(
            f"{source.collection}.{name}"
            for source in resources().values()
            if is_found(source)
            for name in concealed(caller.fields(source.collection))
        )

    def searched(self, hidden: Collection[str], custom: CustomFields | None) -> tuple[list[str], list[str]]:
        """The words of the fields that are not hidden."""
        shown = [one for one in self.sources if f"{self.collection}.{one.field}" not in hidden]
        words = [text for one in shown if not one.phones for text in one.texts]
        return [self.title, *words], [text for one in shown if one.phones for text in one.texts]

    @classmethod
    async def keep(cls, changes: Iterable[tuple[Fact, Described]], call: Call) -> None:
        """Writes the documents of changed records, unless later versions of them are there already."""
        rows: dict[UUID, tuple[dict[str, Any], list[str]]] = {}
        for event, source in sorted(changes, key=lambda change: change[0].version or 0):
            values, phones = _document(event, source, call)
            rows[values["id"]] = values, phones
        if not rows:
            return
        # No change facts: the search is a reading of facts and tells none itself. In one order, so that two replicas
        # cannot wait for each other.
        connection, ordered = await driver(call.db), [rows[key] for key in sorted(rows)]
        known = {
            row["id"]: row for row in await connection.fetch(_KNOWN, [values["id"] for values, _ in ordered])
        }
        unless_later = f"{newer('id', tuple(ordered[0][0]))} RETURNING id"
        written = await insert_rows(call, cls.__table__, [values for values, _ in ordered], unless_later)
        latest = {row["id"] for row in written}
        # Most changes are of states and sums: what finds the record stays, and an index of fragments is dear to write.
        anew = [row for row in ordered if row[0]["id"] in latest]
        await _index([row for row in anew if not _reads_as(known.get(row[0]["id"]), row[0])], call)


def _document(event: Fact, source: Described, call: Call) -> tuple[dict[str, Any], list[str]]:
    """The columns of a record's document, and the telephone numbers that find it."""
    record: dict[str, Any] = event.payload.get("resource", {})
    # A file that hangs on records is read as those are, which its own owner and department do not say.
    deleted = event.payload["action"] == "DELETED" or (
        source.collection == "files" and bool(record.get("hangs"))
    )
    title, words = ("", []) if deleted else _words(record, source, call.running.directory.custom)
    keys = list(dict.fromkeys(text for one in words if one.key for text in one.texts))
    texts = list(dict.fromkeys(text for one in words if not one.key for text in one.texts))
    return {
        "id": source_id(event.payload["name"]),
        "target": event.payload["name"],
        "collection": source.collection,
        "area": source.area,
        "title": title,
        "keys": keys,
        "texts": texts,
        "sources": JsonText(
            json.dumps(
                [{"field": one.field, "texts": one.texts, "phones": one.phones} for one in words],
                ensure_ascii=False,
            )
        ),
        "state": record.get("state", ""),
        "account": account_of(record, source),
        "partner": partner_of(record, source),
        "version": event.version or 0,
        "deleted": deleted,
        "create_time": moment(record.get("createTime")) or call.now,
        "update_time": moment(record.get("updateTime")) or call.now,
        **seen_by(record, source),
    }, [text for one in words if one.phones for text in one.texts]


async def _index(rows: Sequence[tuple[dict[str, Any], list[str]]], call: Call) -> None:
    """Writes what finds those documents."""
    if gone := [values["id"] for values, _ in rows if values["deleted"]]:
        await (await driver(call.db)).execute(_UNINDEX, gone)
    found: list[dict[str, Any]] = []
    for values, phones in rows:
        if not values["deleted"]:
            # Numbers are found by how they begin and end: as fragments, any two digits would be in every tenth of them.
            words = [
                values["title"],
                *(word for word in (*values["keys"], *values["texts"]) if word not in phones),
            ]
            columns = search_columns(filter(None, words), [values["title"]], phones=phones)
            found.append({"id": values["id"]} | {name: columns[name] for name in _SEARCHED})
    await insert_rows(call, SearchDocument.search_table, found, _INDEXED)


def _reads_as(known: Mapping[str, Any] | None, values: dict[str, Any]) -> bool:
    return known is not None and all(
        known[name] == values[name] for name in ("title", "keys", "texts", "deleted")
    )


# Locked, so that no other replica writes other words in between.
_KNOWN = "SELECT id, title, keys, texts, deleted FROM search_documents WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_SEARCHED = ("search_grams", "search_text", "search_pinyin")
_INDEXED = f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _SEARCHED)}"
_UNINDEX = "DELETE FROM search_documents_search WHERE id = ANY($1::uuid[])"


def is_found(source: Described) -> bool:
    """True for resources that have something to be found by."""
    if source.area == "insight" or source.rule.members_only:
        return False
    return bool(source.searchable or source.rule.number)


@dataclass(frozen=True)
class Words:
    """What one field of a record finds it by."""

    field: str
    texts: list[str]
    # True for numbers and addresses; the rest is text.
    key: bool = False
    phones: bool = False


def _words(record: dict[str, Any], source: Described, custom: CustomFields) -> tuple[str, list[Words]]:
    """Title of a record and the words of its fields."""
    title = str(record.get(source.fields[source.title_field].json_name, ""))
    number = str(record.get("number", ""))
    found = [Words("number", [number], key=True)]
    for field, kind in _finding(source):
        value = record.get(field.json_name)
        if not value:
            continue
        if kind == "PHONES":
            numbers = [str(item.get("number", "")) for item in value]
            found.append(Words(field.name, numbers, key=True, phones=True))
        elif kind == "EMAILS":
            found.append(Words(field.name, [str(item.get("address", "")) for item in value], key=True))
        elif kind == "TEXTS":
            found.append(Words(field.name, [text[:LONGEST_TEXT] for text in _texts(value)]))
        else:
            found.append(Words(field.name, [str(value)], key=True, phones=kind == "PHONE"))
    values: dict[str, Any] = record.get("custom") or {}
    for key, value in values.items():
        found.append(Words(f"custom.{key}", custom.search_texts(source.collection, {key: value})))
    whole = [replace(one, texts=[text for text in dict.fromkeys(one.texts) if text]) for one in found]
    words = [one for one in whole if one.texts]
    return (title or number or str(record.get("name", "")))[:LONGEST_TEXT], words


@cache
def _finding(source: Described) -> tuple[tuple[Field, str], ...]:
    """The fields that find a record, with what they hold; those that not every reader sees left out."""
    found: list[tuple[Field, str]] = []
    for field in source.fields.values():
        if field.rule.read_permission:
            continue
        if field.name == "tax_id":
            found.append((field, "KEY"))
        if _is_list_of(field, PHONE):
            found.append((field, "PHONES"))
        elif (source.collection, field.name) == ("employees", "phone"):
            found.append((field, "PHONE"))
        elif _is_list_of(field, EMAIL):
            found.append((field, "EMAILS"))
        elif field.rule.searchable and field.name != source.title_field:
            found.append((field, "TEXTS"))
    return tuple(found)


def _is_list_of(field: Field, message: str) -> bool:
    inner = field.descriptor.message_type
    return field.kind == "messages" and inner is not None and inner.full_name == message


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield item if isinstance(item, str) else str(item.get("text", ""))
