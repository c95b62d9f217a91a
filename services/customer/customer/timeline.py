"""The time line: facts become entries, the same ones however often and in whatever order they are told."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import uuid5

from crmkit.bulk import insert_rows
from crmkit.call import Call
from crmkit.catalog import business_facts, resources
from crmkit.describe import Described
from crmkit.events import Fact, listens
from crmkit.runs import Kind, Run, start
from crmkit.values import Money
from sqlalchemy import delete, select, update

from customer.figures import apply_scopes
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.figure import RecordScope
from customer.model.timeline import AMOUNTS, TITLES, TimelineEntry, TimelineFact

DEEPEST = 6
CHUNK = 500
# Answers and bookkeeping: they name accounts, but nothing has happened to those.
SILENT = (
    "crm.billing.v1.BalanceChanged",
    "crm.customer.v1.CreditProfileChanged",
    "crm.customer.v1.ImportFinished",
    "crm.customer.v1.LeadAccountResolved",
    "crm.customer.v1.ProfileCodeRequested",
    "crm.insight.v1.ScoreChanged",
    "crm.workspace.v1.MailRecordChanged",
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
    "requires", "besides", "follows", "source_scope", "owner", "department", "collaborators", "create_time",
    "update_time", "creator", "version",
)  # fmt: skip
Heard = tuple[Fact, list[str]]


@listens(*(fact for fact in business_facts() if fact not in SILENT))
async def on_any_fact(events: list[Fact], call: Call) -> None:
    """Puts the facts on the time line of every account that they name."""
    named = [(event, set(_names(event.payload, DEEPEST))) for event in events]
    # A fact that names people alone is about the accounts they belong to.
    people = {name.rpartition("/")[2] for _, names in named if not _accounts(names) for name in names}
    belonging: dict[str, str] = {}
    if people:
        found = await call.db.execute(select(Contact.id, Contact.account).where(Contact.id.in_(people)))
        belonging = {f"contacts/{key}": account for key, account in found}
    heard: list[Heard] = []
    for event, names in named:
        accounts = _accounts(names) or {belonging.get(name, "") for name in names} - {""}
        if accounts:
            heard.append((event, sorted(accounts)))
    if not heard:
        return
    rows = [
        {
            "id": e.id, "subject": e.subject, "time": e.time, "actor": e.actor, "aggregate": e.aggregate,
            "version": e.version, "payload": e.payload, "accounts": accounts,
        }
        for e, accounts in heard
    ]  # fmt: skip
    await insert_rows(call, TimelineFact.__table__, rows)
    await _write(heard, call)


async def rebuild(account: str, call: Call) -> int:
    """Writes the time line of an account, or of all in the background, anew from the facts that were heard."""
    if not account:
        await start(call, "RebuildTimeline", "timeline/-", {}, "system/customer")
        return 0
    await call.db.execute(delete(TimelineEntry).where(TimelineEntry.account == account))
    statement = select(TimelineFact).where(TimelineFact.accounts.contains([account]))
    facts = (await call.db.scalars(statement)).all()
    await _write([(_fact(row), [account]) for row in facts], call)
    return len(facts)


async def retell(
    account: str, ref: str, field: str, values: dict[str, Any], summary: str, call: Call
) -> None:
    """What the time line says of a record that tells less than it did, now and whenever it is rebuilt."""
    entries = update(TimelineEntry).where(TimelineEntry.account == account, TimelineEntry.ref == ref)
    await call.db.execute(entries.values(summary=summary[:500]))
    facts = select(TimelineFact).where(
        TimelineFact.accounts.contains([account]), TimelineFact.aggregate == ref
    )
    for fact in await call.db.scalars(facts.with_for_update()):
        if isinstance(fact.payload.get(field), dict):
            fact.payload = {**fact.payload, field: {**fact.payload[field], **values}}


async def rebuild_all(run: Run) -> None:
    """Goes through all facts that were heard, in the order of their ids, and writes the entries of each anew."""
    last = ""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = str(run.tally.get("last", "")) or "00000000-0000-0000-0000-000000000000"
            statement = (
                select(TimelineFact).where(TimelineFact.id > last).order_by(TimelineFact.id).limit(CHUNK)
            )
            facts = (await call.db.scalars(statement)).all()
            if not facts:
                run.next_phase("ENDED")
                return
            heard = [(_fact(row), row.accounts) for row in facts]
            ids = [uuid5(event.id, account) for event, accounts in heard for account in accounts]
            await call.db.execute(delete(TimelineEntry).where(TimelineEntry.id.in_(ids)))
            await _write(heard, call)
            run.tally["last"] = str(facts[-1].id)
            run.position += len(facts)


async def _nothing(run: Run, problem: Any, call: Call) -> None:
    """A rebuild that cannot go on leaves what it has written: entries are the same, rebuilt or not."""


RUNS = {"RebuildTimeline": Kind(rebuild_all, _nothing)}


async def _write(heard: Sequence[Heard], call: Call) -> None:
    """The entries of the facts, seen by those who may open what they tell of today."""
    accounts = {account.rpartition("/")[2] for _, names in heard for account in names}
    statement = select(Account.id, Account.owner, Account.department, Account.collaborators)
    found = await call.db.execute(statement.where(Account.id.in_(accounts)))
    scopes = {f"accounts/{key}": tuple(scope) for key, *scope in found}
    entries = [_entry(event, account, scopes) for event, names in heard for account in names]
    if not entries:
        return
    # No change fact: the time line is a reading of facts and tells none itself.
    rows: list[dict[str, Any]] = [dict(zip(_COLUMNS, entry, strict=True)) for entry in entries]
    await insert_rows(call, TimelineEntry.__table__, rows)
    follows = {str(row["follows"]) for row in rows}
    moved = select(RecordScope.name).where(RecordScope.name.in_(follows))
    if names := (await call.db.scalars(moved)).all():
        await apply_scopes(sorted(names), call)


def _fact(row: TimelineFact) -> Fact:
    return Fact(row.subject, row.id, row.time, row.actor, row.aggregate, row.version, row.payload)


def _accounts(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("accounts/")}


def _entry(event: Fact, account: str, scopes: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """The values of `_COLUMNS`."""
    source, area = event.record, event.subject.split(".")[1]
    ref = str(source.get("name", event.aggregate))
    collection = ref.partition("/")[0] if "/" in ref else ""
    described = _collections().get(collection)
    amount, rule = _amount(source), described.scope if described else "SHARED"
    reads = described.permission("read") if described else ""
    # What came with a lead that became the account is the account's, whoever has it now (SEA-11).
    converted = collection == "leads" and source.get("account") == account
    if rule == "SHARED" or not source or ref == account or converted:
        follows, scope, rule = account, scopes.get(account, ("", "", [])), "OWNED"
        requires, besides = _collections()["accounts"].permission("read"), reads
    else:
        follows, requires, besides = ref, reads, ""
        scope = (source.get("owner", ""), source.get("department", ""), source.get("collaborators", []))
    return (
        uuid5(event.id, account), account, _occurred(event), event.subject, _PHASES.get(area, "COLLABORATION"), ref,
        next((str(source[key])[:500] for key in TITLES if source.get(key)), ""), event.actor,
        amount.amount if amount else None, amount.currency if amount else None,
        requires, besides, follows, rule, *scope,
        event.time, event.time, event.actor, 1,
    )  # fmt: skip


@cache
def _collections() -> dict[str, Described]:
    """Every resource of the platform by its collection."""
    return {described.collection: described for described in resources().values()}


def names_in(payload: Any) -> list[str]:
    """Accounts and contacts that a fact names, in its order, each once."""
    return list(dict.fromkeys(_names(payload, DEEPEST)))


def _names(value: Any, depth: int) -> Iterator[str]:
    """Every resource name of an account or contact in the payload."""
    if depth == 0:
        return
    if isinstance(value, str):
        if value.startswith(("accounts/", "contacts/")) and _NAME.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _names(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner, depth - 1)


def _occurred(event: Fact) -> datetime:
    time = event.payload.get("time")
    return datetime.fromisoformat(time) if isinstance(time, str) else event.time


def _amount(source: dict[str, Any]) -> Money | None:
    for key in AMOUNTS:
        value = source.get(key)
        if isinstance(value, dict) and value.get("currencyCode") and value.get("amount"):
            return Money(Decimal(value["amount"]), value["currencyCode"])
    return None
