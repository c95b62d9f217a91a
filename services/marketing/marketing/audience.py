"""Filters over accounts and contacts as this service knows them from their change facts."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from crmkit import filters
from crmkit.auth import Caller, visible
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.describe import Described
from crmkit.errors import CHINESE, InvalidArgument
from crmkit.filters import FilterError, FilterField, Kind, Node
from crmkit.listing import ZONE
from crmkit.resource import snake
from crmkit.tables import Copy
from sqlalchemy import null, select

BATCH = 1000
TYPES = {"ACCOUNTS": "crm.customer/Account", "CONTACTS": "crm.customer/Contact"}
# Merged and erased records are nobody to be reached.
GONE = ("MERGED", "ERASED")
KINDS: dict[str, Kind] = {
    "text": "text", "decimal": "number", "int": "number", "float": "number", "bool": "bool", "enum": "enum",
    "enums": "texts", "texts": "texts", "time": "time", "date": "date", "money": "money", "message": "struct",
    "messages": "messages", "struct": "struct", "reference": "reference", "references": "texts",
}  # fmt: skip


def described(audience: str) -> Described:
    """The resource that the audience consists of."""
    return resources()[TYPES[audience]]


def compiled(audience: str, text: str, caller: Caller) -> Node | None:
    """The filter, bound to fields that the caller may read; None for an empty one. FILTER_INVALID says where it is wrong."""
    if not text.strip():
        return None
    fields = {
        name: FilterField(name, KINDS[field.kind], null(), frozenset(field.enum_numbers) if field.kind == "enum" else frozenset())
        for name, field in described(audience).fields.items()
        if not field.rule.read_permission or caller.may(field.rule.read_permission)
    }  # fmt: skip
    try:
        node = filters.bind(filters.parse(text), fields)
        # Values of the wrong type show themselves at the first comparison.
        filters.matches(node, {}, me="", now=datetime.now(ZONE), zone=ZONE)
    except FilterError as error:
        detail = error.detail_zh if caller.locale == CHINESE else error.detail_en
        raise InvalidArgument("FILTER_INVALID", position=error.position + 1, detail=detail) from None
    return node


def fits(node: Node | None, record: Mapping[str, Any], audience: str, now: datetime) -> bool:
    """True where the record passes; an empty filter finds nobody."""
    if node is None or record.get("state") in GONE:
        return False
    numbers = {f.json_name: 0 for f in described(audience).fields.values() if f.kind in ("int", "float")}
    return filters.matches(node, {**numbers, **record}, me="", now=now, zone=ZONE)


async def everyone(audience: str, call: Call) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Every account or contact that is known, in batches."""
    last = ""
    while True:
        page = (
            select(Copy.name, Copy.payload)
            .where(Copy.collection == described(audience).collection, ~Copy.deleted, Copy.name > last)
            .order_by(Copy.name)
            .limit(BATCH)
        )
        rows = (await call.db.execute(page)).all()
        for name, record in rows:
            yield name, record
        if len(rows) < BATCH:
            return
        last = rows[-1][0]


def sees(caller: Caller, audience: str, record: Mapping[str, Any]) -> bool:
    """True where the caller may see the record."""
    source = described(audience)
    values = {snake(key): value for key, value in record.items()}
    return visible(caller, source.scope, values, source.account_fields, source.collection)
