"""Everything at one glance: what all services have about an account, counted with the reader's own rights.

Two statements, however much the account has: the sums of its records, and what its time line says.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Text,
    and_,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from customer.figures import COUNTED
from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.model.timeline import ON_PATH, PATH, TimelineEntry

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
    rows: Any = await call.db.execute(union_all(*_time_line(account, call.caller)))
    found = {what: (count, first) for what, count, first in rows}
    for step, kind in PATH.items():
        moment = found[kind][1] if kind in found else None
        if step == "SIGNED" and moment is None and signed is not None:
            moment = datetime.combine(signed, time(), UTC)
        answer.path.add(step=step, time=to_timestamp(moment) if moment else None)
    if call.caller.may("customer.timeline.read"):
        for phase in _PHASES:
            count, _ = found.get(phase, (0, None))
            part = f'account = "{account}" AND phase = {phase}'
            answer.tabs.add(phase=phase, count=count, filter=part)
    answer.contact_count = found.get("contacts", (0, None))[0]
    answer.interaction_count = found.get("interactions", (0, None))[0]


def _time_line(account: str, caller: Caller) -> Iterator[Any]:
    """What there is, how many of it, and when the first was: each walks an index of its own and stops early."""
    entry = TimelineEntry
    seen = (entry.account == account, predicate(entry, caller))
    kinds = _each(PATH.values(), "kinds")
    # The condition of the index is in the text, so that any plan may use it.
    first = (
        select(entry.occur_time)
        .where(*seen, entry.kind == kinds.c.one, text(ON_PATH))
        .order_by(entry.occur_time)
        .limit(1)
        .lateral("first")
    )
    yield select(kinds.c.one, literal(1), first.c.occur_time).select_from(kinds.join(first, true()))
    nothing = cast(null(), DateTime(timezone=True))
    if caller.may("customer.timeline.read"):
        phases = _each(_PHASES, "phases")
        some = select(literal(1).label("there")).where(*seen, entry.phase == phases.c.one).limit(MOST)
        counted = select(phases.c.one, func.count(), nothing)
        yield counted.select_from(phases.join(some.lateral("some"), true())).group_by(phases.c.one)
    for model, name in ((Contact, "contacts"), (Interaction, "interactions")):
        if caller.may(f"customer.{name}.read"):
            some = select(model.id).where(model.account == account, predicate(model, caller)).limit(MOST)
            yield select(literal(name), func.count(), nothing).select_from(some.subquery())


def _each(values: Iterable[str], name: str) -> Any:
    """A row for each of the values."""
    return func.unnest(literal([*values], ARRAY(Text))).table_valued("one", name=name).render_derived()
