"""Everything at one glance: what all services have about an account, counted with the reader's own rights."""

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from crm.customer.v1 import pb
from crmkit.auth import visible
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.company import today
from crmkit.mapping import to_timestamp
from crmkit.scope import predicate
from crmkit.values import Money
from sqlalchemy import func, select

from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.model.timeline import TimelineEntry

YEAR = timedelta(days=365)
MOST = 1000
# Step of the path → the fact that reaches it.
_PATH = {
    "LEAD": ("crm.sales.v1.LeadConverted",),
    "INTENT": ("crm.sales.v1.OpportunityOpened",),
    "FIRST_PURCHASE": ("crm.orders.v1.OrderPlaced",),
    "SIGNED": ("crm.orders.v1.ContractSigned",),
}
_MONEY = ("allocations", "refunds")
_BY_COLLECTION = {described.collection: described for described in resources().values()}


async def overview(account: Account, call: Call) -> pb.AccountOverview:
    """The account's figures, path, and tabs."""
    answer = pb.AccountOverview(name=account.name)
    rows = [row for row in await _figures(account.name, call) if openable(row, call)]
    groups: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for row in rows:
        if row.collection != "refunds":
            groups[row.collection, row.state].append(row)
    for (collection, state), members in sorted(groups.items()):
        figure = answer.figures.add(collection=collection, state=state, count=len(members))
        figure.amounts.extend(_sums(members))
        condition = f" AND state = {state}" if state else ""
        figure.filter = f'account = "{account.name}"{condition}'
    collected = [row for row in rows if row.collection in _MONEY and row.state != "REVERSED"]
    since = today(call) - YEAR
    answer.collected.extend(_sums(collected))
    answer.collected_year.extend(
        _sums([row for row in collected if row.day is not None and row.day >= since])
    )
    await _add_path(answer, rows, account.name, call)
    await _add_tabs(answer, account.name, call)
    if call.caller.may("customer.contacts.read"):
        answer.contact_count = await _count(Contact, account.name, call)
    if call.caller.may("customer.interactions.read"):
        answer.interaction_count = await _count(Interaction, account.name, call)
    return answer


async def _figures(account: str, call: Call) -> Any:
    statement = select(Figure).where(Figure.account == account, Figure.state != "DELETED")
    return (await call.db.scalars(statement)).all()


def openable(row: Figure, call: Call) -> bool:
    """Whether the reader could open the record: its permission and the data scope, as its own service would say."""
    # Money that was paid back is seen by whoever sees what it had paid.
    collection = "allocations" if row.collection == "refunds" else row.collection
    described = _BY_COLLECTION.get(collection)
    if described is None or not call.caller.may(described.permission("read")):
        return False
    record = {
        "owner": row.owner, "department": row.department, "collaborators": row.collaborators, "account": row.account,
    }  # fmt: skip
    return visible(call.caller, described.scope, record, described.rule.account_field, collection)


def _sums(rows: list[Figure]) -> list[Any]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row.amount is not None and row.currency:
            sums[row.currency] += -row.amount if row.collection == "refunds" else row.amount
    return [Money(amount, currency).message() for currency, amount in sorted(sums.items())]


async def _add_path(answer: Any, rows: list[Figure], account: str, call: Call) -> None:
    kinds = [kind for facts in _PATH.values() for kind in facts]
    statement = (
        select(TimelineEntry.kind, func.min(TimelineEntry.occur_time))
        .where(
            TimelineEntry.account == account,
            TimelineEntry.kind.in_(kinds),
            predicate(TimelineEntry, call.caller),
        )
        .group_by(TimelineEntry.kind)
    )
    first: dict[str, datetime] = {row[0]: row[1] for row in await call.db.execute(statement)}
    signed = [
        row.day
        for row in rows
        if row.collection == "contracts" and row.state not in ("DRAFT", "CANCELLED") and row.day
    ]
    for step, facts in _PATH.items():
        moments = [first[fact] for fact in facts if fact in first]
        if step == "SIGNED" and signed and not moments:
            moments = [datetime.combine(min(signed), time(), UTC)]
        answer.path.add(step=step, time=to_timestamp(min(moments)) if moments else None)


async def _add_tabs(answer: Any, account: str, call: Call) -> None:
    if not call.caller.may("customer.timeline.read"):
        return
    for phase in ("PRESALE", "INSALE", "AFTERSALE", "COLLABORATION"):
        condition = (TimelineEntry.account == account, TimelineEntry.phase == phase)
        some = select(TimelineEntry.id).where(*condition, predicate(TimelineEntry, call.caller)).limit(MOST)
        count = await call.db.scalar(select(func.count()).select_from(some.subquery()))
        answer.tabs.add(phase=phase, count=count or 0, filter=f'account = "{account}" AND phase = {phase}')


async def _count(model: Any, account: str, call: Call) -> int:
    some = select(model.id).where(model.account == account, predicate(model, call.caller)).limit(MOST)
    return await call.db.scalar(select(func.count()).select_from(some.subquery())) or 0
