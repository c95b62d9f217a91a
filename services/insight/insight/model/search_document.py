"""What the global search finds: one row for each record of any area."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from crm.insight.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.describe import Described, Field
from crmkit.driver import driver, inserting
from crmkit.events import Fact
from crmkit.fieldlevels import concealed
from crmkit.search import search_columns
from insight.model.base import Base
from insight.model.seen import SeenAsSource
from insight.sources import account_of, moment, seen_by, source_id
from sqlalchemy import Boolean, ColumnElement, Index, and_, false
from sqlalchemy.orm import Mapped, mapped_column

LONGEST_TEXT = 2000
PHONE, EMAIL = "crm.common.v1.Phone", "crm.common.v1.Email"


class SearchDocument(SeenAsSource, Base):
    """One record of any area as the global search finds it; its version is the record's."""

    __message__ = pb.SearchDocument
    __table_args__ = (Index("search_documents_collection_index", "collection", "update_time", "id"),)

    collection: Mapped[str]
    deleted: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What is gone stays as a mark for facts that come late, and is never shown."""
        seen = super().readable(caller)
        there = (
            and_(~cls.deleted, cls.collection.not_in(found))
            if (found := _found_by_hidden(caller))
            else ~cls.deleted
        )
        return there if seen is None else and_(there, seen)

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
        columns = tuple(ordered[0][0])
        statement = inserting(
            cls.__tablename__, columns, "(id) DO UPDATE", "known.version < excluded.version"
        )
        await connection.executemany(statement, [tuple(values.values()) for values, _ in ordered])
        # Most changes are of states and sums: what finds the record stays, and an index of fragments is dear to write.
        await _index([row for row in ordered if not _reads_as(known.get(row[0]["id"]), row[0])], connection)


def _document(event: Fact, source: Described, call: Call) -> tuple[dict[str, Any], list[str]]:
    """The columns of a record's document, and the telephone numbers that find it."""
    record: dict[str, Any] = event.payload.get("resource", {})
    deleted = event.payload["action"] == "DELETED"
    title, keys, texts, phones = ("", [], [], []) if deleted else _words(record, source)
    custom = call.running.directory.custom.search_texts(source.collection, record.get("custom") or {})
    return {
        "id": source_id(event.payload["name"]),
        "target": event.payload["name"],
        "collection": source.collection,
        "area": source.area,
        "title": title,
        "keys": keys,
        "texts": texts if deleted else [*texts, *custom],
        "state": record.get("state", ""),
        "account": account_of(record, source),
        "version": event.version or 0,
        "deleted": deleted,
        "create_time": moment(record.get("createTime")) or call.now,
        "update_time": moment(record.get("updateTime")) or call.now,
        **seen_by(record, source),
    }, phones


async def _index(rows: Sequence[tuple[dict[str, Any], list[str]]], connection: Any) -> None:
    """Writes what finds those documents that stand in these versions now."""
    if gone := [(values["id"], values["version"]) for values, _ in rows if values["deleted"]]:
        await connection.executemany(_UNINDEX, gone)
    found: list[tuple[Any, ...]] = []
    for values, phones in rows:
        if not values["deleted"]:
            words = [word for word in (values["title"], *values["keys"], *values["texts"]) if word]
            columns = search_columns(words, [values["title"]], phones=phones)
            found.append((values["id"], values["version"], *(columns[name] for name in _SEARCHED)))
    if found:
        await connection.executemany(_INDEX, found)


def _reads_as(known: Mapping[str, Any] | None, values: dict[str, Any]) -> bool:
    return known is not None and all(
        known[name] == values[name] for name in ("title", "keys", "texts", "deleted")
    )


# Locked, so that no other replica writes other words in between.
_KNOWN = "SELECT id, title, keys, texts, deleted FROM search_documents WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_SEARCHED = ("search_grams", "search_text", "search_pinyin")
_INDEX = (
    f"INSERT INTO search_documents_search (id, {', '.join(_SEARCHED)})"
    " SELECT id, $3, $4, $5 FROM search_documents WHERE id = $1 AND version = $2 AND NOT deleted"
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _SEARCHED)}"
)
_UNINDEX = (
    "DELETE FROM search_documents_search USING search_documents AS document"
    " WHERE search_documents_search.id = document.id AND document.id = $1 AND document.version = $2"
)


def is_found(source: Described) -> bool:
    """True for resources that have something to be found by."""
    return source.area != "insight" and bool(source.searchable or source.rule.number)


def _found_by_hidden(caller: Caller) -> list[str]:
    """The collections whose documents are found by, or show, a field that a role hides from the caller."""
    if not caller.takes_fields or caller.custom is None:
        return []
    return [
        source.collection
        for source in resources().values()
        if (hidden := concealed(caller.fields(source.collection)))
        and hidden
        & {*_open_names(source), *(one.path for one in caller.custom.of(source.collection).values())}
    ]


@cache
def _open_names(source: Described) -> frozenset[str]:
    shown = (PHONE, EMAIL)
    return frozenset(
        field.name
        for field in source.fields.values()
        if field.rule.searchable
        or field.name == "tax_id"
        or (field.descriptor.message_type is not None and field.descriptor.message_type.full_name in shown)
    )


def _words(record: dict[str, Any], source: Described) -> tuple[str, list[str], list[str], list[str]]:
    """Title, keys, other texts and telephone numbers of a record; fields that not every reader sees left out."""
    open_fields = [field for field in source.fields.values() if not field.rule.read_permission]
    title = str(record.get(source.fields[source.title_field].json_name, ""))
    number = str(record.get("number", ""))
    phones = [item.get("number", "") for item in _items(record, open_fields, PHONE)]
    emails = [item.get("address", "") for item in _items(record, open_fields, EMAIL)]
    tax_id = str(record.get("taxId", "")) if any(field.name == "tax_id" for field in open_fields) else ""
    searched = [field for field in open_fields if field.rule.searchable and field.name != source.title_field]
    texts = [text for field in searched for text in _texts(record.get(field.json_name))]
    keys = [key for key in (number, *phones, *emails, tax_id) if key]
    return (
        (title or number or str(record.get("name", "")))[:LONGEST_TEXT],
        list(dict.fromkeys(keys)),
        [text[:LONGEST_TEXT] for text in dict.fromkeys(texts) if text],
        [phone for phone in phones if phone],
    )


def _items(record: dict[str, Any], fields: list[Field], message: str) -> Iterator[dict[str, Any]]:
    for field in fields:
        inner = field.descriptor.message_type
        if field.kind == "messages" and inner is not None and inner.full_name == message:
            yield from record.get(field.json_name, [])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield item if isinstance(item, str) else str(item.get("text", ""))
