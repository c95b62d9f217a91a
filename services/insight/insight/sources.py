"""What a change fact says of the record that it speaks of."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.company import upward
from crmkit.describe import Described


@cache
def sources() -> Mapping[str, Described]:
    """Every resource of the platform by its collection."""
    return {described.collection: described for described in resources().values()}


def source_id(name: str) -> UUID:
    """The id of what is kept about a record: the same for every fact about it."""
    return uuid5(NAMESPACE_URL, name)


def seen_by(record: Mapping[str, Any], source: Described) -> dict[str, Any]:
    """The columns that say who may see what is kept about the record."""
    hidden = bool(source.rule.private_in) and record.get("state") == source.rule.private_in
    return {
        "owner": record.get("creator" if hidden else "owner", ""),
        "department": record.get("department", ""),
        "collaborators": record.get("collaborators", []),
        "requires": source.permission("read"),
        "source_scope": "PRIVATE" if hidden else source.scope,
    }


def department_path(department: str, call: Call) -> str:
    """Names from the company down to the department, as the tree is now."""
    names = [entry.get("displayName", "") for _, entry in upward(department, call)]
    return "/".join(name for name in reversed(names) if name)


def account_of(record: Mapping[str, Any], source: Described) -> str:
    """The account through which portal callers see the record."""
    if source.collection == "accounts":
        return str(record.get("name", ""))
    field = source.rule.account_field
    return str(record.get(source.fields[field].json_name, "")) if field else ""


def partner_of(record: Mapping[str, Any], source: Described) -> str:
    """The partner that sells the record, who sees it beside the customer."""
    field = source.rule.partner_field
    return str(record.get(source.fields[field].json_name, "")) if field else ""


def moment(value: Any) -> datetime | None:
    """The instant of a JSON text; None where there is none."""
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None
