"""What the global search finds: one row for each record of any area."""

from collections.abc import Iterator
from typing import Any

from crm.insight.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.describe import Described, Field
from crmkit.events import Fact
from crmkit.search import search_columns
from insight.model.base import Base
from insight.model.seen import SeenAsSource
from insight.sources import account_of, moment, seen_by, source_id
from sqlalchemy import Boolean, ColumnElement, Index, and_, delete, false
from sqlalchemy.dialects.postgresql import insert
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
        return ~cls.deleted if seen is None else and_(~cls.deleted, seen)

    @classmethod
    async def keep(cls, event: Fact, source: Described, call: Call) -> None:
        """Writes the document of a changed record, unless a later version of it is there already."""
        record: dict[str, Any] = event.payload.get("resource", {})
        deleted = event.payload["action"] == "DELETED"
        title, keys, texts, phones = _words(record, source)
        values = {
            "id": source_id(event.payload["name"]),
            "target": event.payload["name"],
            "collection": source.collection,
            "area": source.area,
            "state": record.get("state", ""),
            "account": account_of(record, source),
            "version": event.version or 0,
            "deleted": deleted,
            "create_time": moment(record.get("createTime")) or call.now,
            "update_time": moment(record.get("updateTime")) or call.now,
            **(
                {"title": "", "keys": [], "texts": []}
                if deleted
                else {"title": title, "keys": keys, "texts": texts}
            ),
            **seen_by(record, source),
        }
        # No change fact: the search is a reading of facts and tells none itself.
        table: Any = cls.__table__
        statement = insert(table).values(values)
        written = await call.db.scalar(
            statement.on_conflict_do_update(
                index_elements=["id"], set_=values, where=table.c.version < statement.excluded.version
            ).returning(table.c.id)
        )
        if written is not None:
            await _index(cls.search_table, values, [] if deleted else phones, call)


async def _index(table: Any, values: dict[str, Any], phones: list[str], call: Call) -> None:
    if values["deleted"]:
        await call.db.execute(delete(table).where(table.c.id == values["id"]))
        return
    words = [values["title"], *values["keys"], *values["texts"]]
    columns = search_columns([word for word in words if word], [values["title"]], phones=phones)
    statement = insert(table).values(id=values["id"], **columns)
    await call.db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=columns))


def is_found(source: Described) -> bool:
    """True for resources that have something to be found by."""
    return source.area != "insight" and bool(source.searchable or source.rule.number)


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
