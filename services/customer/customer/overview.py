"""Everything at one glance: what all services have about an account, counted with the reader's own rights.

Two statements, however much the account has: the sums of its records, and what its time line says.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from crm.customer.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.company import today
from crmkit.describe import Described
from crmkit.mapping import to_timestamp
from crmkit.scope import predicate
from crmkit.seen import within
from crmkit.values import Money
from sqlalchemy import ColumnElement, and_, bindparam, false, func, literal, or_, select, true

from customer.figures import COUNTED
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.model.timeline import PATH, TimelineEntry

YEAR = timedelta(days=365)
MOST = 1000
_MONEY = ("allocations", "refunds")
_PHASES = ("PRESALE", "INSALE", "AFTERSALE", "COLLABORATION")
_BY_COLLECTION = {described.collection: described for described in resources().values()}


async def overview(account: Account, call: Call) -> pb.AccountOverview:
    """The account's figures, path, and tabs."""
    answer = pb.AccountOverview(name=account.name)
    signed = await _add_figures(answer, account.name, call)
    await _add_time_line(answer, signed, account.name, call)
    return answer


def openable(caller: Caller) -> ColumnElement[bool]:
    """The figures of records that the reader could open: by permission and data scope, as their own services would say.

    Where row rules narrow a collection nothing of it is shown: they speak of fields that figures do not have.
    """
    parts: list[ColumnElement[bool]] = []
    for collection in COUNTED:
        described = _BY_COLLECTION.get(collection)
        if described is not None and caller.may(described.permission("read")):
            # Money that was paid back is seen by whoever sees what it had paid.
            alike = _MONEY if collection == "allocations" else (collection,)
            parts.append(and_(Figure.collection.in_(alike), _reached(described, caller)))
    return or_(false(), *parts)


def _reached(described: Described, caller: Caller) -> ColumnElement[bool]:
    if caller.is_system:
        return true()
    if caller.account:
        own = described.rule.account_field == "account"
        return Figure.account == caller.account if own else false()
    reach = caller.reach(described.collection)
    return false() if reach.rules else within(Figure, reach, caller)


async def _add_figures(answer: Any, account: str, call: Call) -> date | None:
    """Adds the sums by kind, state and currency; gives the day of the first contract."""
    this_year = Figure.day >= today(call) - YEAR
    statement = (
        select(
            Figure.collection, Figure.state, Figure.currency, func.count(), func.sum(Figure.amount),
            func.sum(Figure.amount).filter(this_year), func.min(Figure.day),
        )
        .where(Figure.account == account, Figure.state != "DELETED", openable(call.caller))
        .group_by(Figure.collection, Figure.state, Figure.currency)
        .order_by(Figure.collection, Figure.state, Figure.currency)
    )  # fmt: skip
    figures: dict[tuple[str, str], Any] = {}
    collected, year = defaultdict[str, Decimal](Decimal), defaultdict[str, Decimal](Decimal)
    signed: list[date] = []
    for row in await call.db.execute(statement):
        collection, state, currency, count, amount, in_year, first = row
        if collection in _MONEY and state != "REVERSED" and currency:
            sign = -1 if collection == "refunds" else 1
            for sums, one in ((collected, amount), (year, in_year)):
                if one is not None:
                    sums[currency] += sign * one
        if collection == "refunds":
            continue
        if collection == "contracts" and state not in ("DRAFT", "CANCELLED") and first is not None:
            signed.append(first)
        if (collection, state) not in figures:
            condition = f" AND state = {state}" if state else ""
            figures[collection, state] = answer.figures.add(
                collection=collection, state=state, filter=f'account = "{account}"{condition}'
            )
        figures[collection, state].count += count
        if amount is not None and currency:
            figures[collection, state].amounts.append(Money(amount, currency).message())
    answer.collected.extend(_money(collected))
    answer.collected_year.extend(_money(year))
    return min(signed, default=None)


def _money(sums: Mapping[str, Decimal]) -> list[Any]:
    return [Money(amount, currency).message() for currency, amount in sorted(sums.items())]


async def _add_time_line(answer: Any, signed: date | None, account: str, call: Call) -> None:
    """The path, the tabs, and how many people and contacts with them there are."""
    caller = call.caller
    # Asked anew for each tab and step, so that each walks an index of its own and stops early.
    seen = (
        select(TimelineEntry.phase, TimelineEntry.kind, TimelineEntry.occur_time)
        .where(TimelineEntry.account == account, predicate(TimelineEntry, caller))
        .cte("seen")
        .prefix_with("NOT MATERIALIZED")
    )
    asked: dict[str, Any] = {}
    for step, kind in PATH.items():
        # In the text: an index of these kinds alone serves them.
        wanted = seen.c.kind == bindparam(step, kind, literal_execute=True)
        asked[step] = select(seen.c.occur_time).where(wanted).order_by(seen.c.occur_time).limit(1)
    if caller.may("customer.timeline.read"):
        for phase in _PHASES:
            asked[phase] = _capped(select(literal(1)).select_from(seen).where(seen.c.phase == phase))
    for model, name in ((Contact, "contacts"), (Interaction, "interactions")):
        if caller.may(f"customer.{name}.read"):
            asked[name] = _capped(select(model.id).where(model.account == account, predicate(model, caller)))
    statement = select(*(one.scalar_subquery().label(name) for name, one in asked.items()))
    found = (await call.db.execute(statement)).mappings().one()
    for step in PATH:
        moment = found[step]
        if step == "SIGNED" and moment is None and signed is not None:
            moment = datetime.combine(signed, time(), UTC)
        answer.path.add(step=step, time=to_timestamp(moment) if moment else None)
    for phase in _PHASES:
        if phase in found:
            part = f'account = "{account}" AND phase = {phase}'
            answer.tabs.add(phase=phase, count=found[phase], filter=part)
    answer.contact_count = found.get("contacts", 0)
    answer.interaction_count = found.get("interactions", 0)


def _capped(some: Any) -> Any:
    return select(func.count()).select_from(some.limit(MOST).subquery())
