"""What the customer service hears."""

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid5

from crmkit.call import Call
from crmkit.catalog import business_facts
from crmkit.driver import driver
from crmkit.events import Fact, listens
from crmkit.values import Money
from sqlalchemy import select

from customer.model.contact import Contact
from customer.model.timeline import TimelineEntry

DEEPEST = 6
# Answers and bookkeeping: they name accounts, but nothing has happened to those.
_SILENT = (
    "crm.billing.v1.BalanceChanged",
    "crm.customer.v1.ImportFinished",
    "crm.customer.v1.LeadAccountResolved",
)
_NAME = re.compile(r"(accounts|contacts)/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PHASES = {
    "marketing": "PRESALE",
    "sales": "PRESALE",
    "orders": "INSALE",
    "billing": "INSALE",
    "servicedesk": "AFTERSALE",
}
_COLUMNS = (
    "id", "account", "occur_time", "kind", "phase", "ref", "summary", "actor", "amount_amount", "amount_currency",
    "requires", "owner", "department", "collaborators", "create_time", "update_time", "creator", "version",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO {TimelineEntry.__tablename__} ({', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'${n}' for n in range(1, len(_COLUMNS) + 1))}) ON CONFLICT DO NOTHING"
)
_TITLES = ("displayName", "title", "subject", "summary", "number", "name")


@listens(*(fact for fact in business_facts() if fact not in _SILENT))
async def on_any_fact(events: list[Fact], call: Call) -> None:
    """Puts the facts on the time line of every account that they name."""
    named = [(event, set(_names(event.payload, DEEPEST))) for event in events]
    # A fact that names people alone is about the accounts they belong to.
    people = {name.rpartition("/")[2] for _, names in named if not _accounts(names) for name in names}
    belonging: dict[str, str] = {}
    if people:
        found = await call.db.execute(select(Contact.id, Contact.account).where(Contact.id.in_(people)))
        belonging = {f"contacts/{key}": account for key, account in found}
    entries = [
        _entry(event, account, call)
        for event, names in named
        for account in sorted(_accounts(names) or {belonging.get(name, "") for name in names} - {""})
    ]
    if entries:
        # No change fact: the time line is a reading of facts and tells none itself.
        await (await driver(call.db)).executemany(_INSERT, entries)


def _accounts(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("accounts/")}


def _entry(event: Fact, account: str, call: Call) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    source, area = _source(event), event.subject.split(".")[1]
    ref = str(source.get("name", event.aggregate))
    amount = _amount(source)
    return (
        uuid5(event.id, account), account, _occurred(event), event.subject, _PHASES.get(area, "COLLABORATION"), ref,
        next((str(source[key])[:500] for key in _TITLES if source.get(key)), ""), event.actor,
        amount.amount if amount else None, amount.currency if amount else None,
        f"{area}.{ref.partition('/')[0]}.read" if "/" in ref else "", source.get("owner", ""),
        source.get("department", ""), source.get("collaborators", []), call.now, call.now, event.actor, 1,
    )  # fmt: skip


def _names(value: Any, depth: int) -> Iterator[str]:
    """Every resource name of an account or contact in the payload."""
    if depth == 0:
        return
    if isinstance(value, str):
        if _NAME.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _names(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner, depth - 1)


def _source(event: Fact) -> dict[str, Any]:
    """The resource that the fact is about: the one of its aggregate, else the first."""
    found = [value for value in event.payload.values() if isinstance(value, dict) and "name" in value]
    return next((value for value in found if value["name"] == event.aggregate), found[0] if found else {})


def _occurred(event: Fact) -> datetime:
    time = event.payload.get("time")
    return datetime.fromisoformat(time) if isinstance(time, str) else event.time


def _amount(source: dict[str, Any]) -> Money | None:
    for key in ("amount", "totalAmount", "grossAmount", "total"):
        value = source.get(key)
        if isinstance(value, dict) and value.get("currencyCode"):
            return Money(Decimal(value["amount"]), value["currencyCode"])
    return None
