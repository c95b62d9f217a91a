"""The group that an account belongs to: units above and below, each once, compared side by side."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crmkit.amounts import plain
from crmkit.call import Call
from crmkit.company import today
from crmkit.scope import predicate
from crmkit.values import Money
from sqlalchemy import Row, Text, Uuid, any_, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from customer.model.account import Account
from customer.model.figure import Figure
from customer.model.relation import DEEPEST

YEAR = timedelta(days=365)
OPEN_TICKETS = ("RESOLVED", "CLOSED", "REJECTED", "CANCELLED", "DELETED")
_ON_THE_DAY = "(from_date IS NULL OR from_date <= CAST(:day AS date)) AND (state = 'ACTIVE' OR to_date > CAST(:day AS date))"
_OWNED = (
    'SELECT id, kind, share, "from" AS above, "to" AS below FROM account_relations WHERE'
    f" kind IN ('PARENT_OF', 'JOINT_VENTURE') AND {_ON_THE_DAY}"
)
# A branch names its head office; every other edge of ownership leads from above to below.
_BRANCHES = (
    'SELECT id, kind, share, "to" AS above, "from" AS below FROM account_relations WHERE'
    f" kind = 'BRANCH_OF' AND {_ON_THE_DAY}"
)
_BELOW = text(f'{_OWNED} AND "from" = ANY(:nodes) UNION ALL {_BRANCHES} AND "to" = ANY(:nodes)')
_ABOVE = text(f'{_OWNED} AND "to" = ANY(:nodes) UNION ALL {_BRANCHES} AND "from" = ANY(:nodes)')


async def hierarchy(account: Account, day: date, call: Call) -> pb.AccountHierarchy:
    """The group on a day, as far as the caller sees its units."""
    async with call.everybody():
        levels, edges = await _group(account.name, day, call)
    ids = [UUID(name.partition("/")[2]) for name in levels]
    statement = select(Account.id, Account.display_name).where(
        Account.id == any_(literal(ids, ARRAY(Uuid))), predicate(Account, call.caller)
    )
    seen = {f"accounts/{row.id}": row.display_name for row in await call.db.execute(statement)}
    figures = await _figures(seen, call)
    parents = _nearest(levels, edges, seen)
    answer = pb.AccountHierarchy(not_shown=len(levels) - len(seen))
    if answer.not_shown:
        answer.not_shown_text = call.text(
            f"另有 {answer.not_shown} 个单位未显示", f"{answer.not_shown} units not shown"
        )
    total = _Sums()
    for name in sorted(seen, key=lambda one: (levels[one], seen[one], one)):
        unit = answer.units.add(account=name, display_name=seen[name], level=levels[name])
        if name in parents:
            parent, edge = parents[name]
            unit.parent, unit.relation, unit.kind = parent, f"accountRelations/{edge.id}", edge.kind
            unit.share = plain(edge.share)
        figures[name].into(unit)
        total.add(figures[name])
    total.into(answer.total)
    return answer


async def _group(account: str, day: date, call: Call) -> tuple[dict[str, int], list[Row[Any]]]:
    """The deepest level of every unit below the tops above the account, and the edges between them."""
    tops, nodes = set[str](), {account}
    for _ in range(DEEPEST):
        found = (await call.db.execute(_ABOVE, {"nodes": sorted(nodes), "day": day})).all()
        tops |= nodes - {edge.below for edge in found}
        nodes = {edge.above for edge in found}
        if not nodes:
            break
    levels, edges = dict.fromkeys(tops | nodes, 1), dict[Any, Row[Any]]()
    nodes = set(levels)
    for level in range(2, DEEPEST + 1):
        found = (await call.db.execute(_BELOW, {"nodes": sorted(nodes), "day": day})).all()
        edges.update({edge.id: edge for edge in found})
        nodes = {edge.below for edge in found}
        if not nodes:
            break
        levels.update(dict.fromkeys(nodes, level))
    return levels, list(edges.values())


_COUNTED = ("opportunities", "orders", "allocations", "refunds", "accountBalances", "tickets")


class _Sums:
    """What a unit, or all of them, do with us."""

    def __init__(self) -> None:
        self.money: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        self.tickets = self.orders = self.deals = 0

    def add(self, other: "_Sums") -> None:
        for kind, amounts in other.money.items():
            for currency, amount in amounts.items():
                self.money[kind][currency] += amount
        self.tickets += other.tickets
        self.orders += other.orders
        self.deals += other.deals

    def into(self, unit: Any) -> None:
        for kind in ("revenue", "pipeline", "credit_used"):
            amounts = sorted(self.money[kind].items())
            getattr(unit, kind).extend(
                Money(amount, currency).message() for currency, amount in amounts if amount
            )
        unit.open_tickets = self.tickets
        unit.unserved = not self.orders and not self.deals


async def _figures(names: Iterable[str], call: Call) -> dict[str, _Sums]:
    found: dict[str, _Sums] = defaultdict(_Sums)
    statement = select(
        Figure.account, Figure.collection, Figure.state, Figure.amount, Figure.currency, Figure.day
    ).where(
        Figure.account == any_(literal(list(names), ARRAY(Text))),
        Figure.collection.in_(_COUNTED),
        Figure.state.not_in(["DELETED", "DRAFT", "CANCELLED", "REVERSED"]),
    )
    since = today(call) - YEAR
    for account, collection, state, amount, currency, day in await call.db.execute(statement):
        sums = found[account]
        if collection == "tickets":
            sums.tickets += state not in OPEN_TICKETS
        elif collection == "orders":
            sums.orders += 1
        elif collection == "allocations" and day is not None and day >= since:
            sums.money["revenue"][currency] += amount or 0
        elif collection == "refunds" and day is not None and day >= since:
            sums.money["revenue"][currency] -= amount or 0
        elif collection == "accountBalances":
            sums.money["credit_used"][currency] += amount or 0
        elif collection == "opportunities" and state in ("OPEN", "SUSPENDED"):
            sums.deals += 1
            sums.money["pipeline"][currency] += amount or 0
    return found


def _nearest(
    levels: dict[str, int], edges: Sequence[Row[Any]], seen: dict[str, str]
) -> dict[str, tuple[str, Row[Any]]]:
    """For every unit seen, the unit above it that is seen too, over the shortest way."""
    above: dict[str, list[Row[Any]]] = defaultdict(list)
    for edge in sorted(edges, key=lambda one: (one.kind != "PARENT_OF", -(one.share or 0), str(one.id))):
        above[edge.below].append(edge)
    found: dict[str, tuple[str, Row[Any]]] = {}
    for name in seen:
        waiting = [(edge.above, edge) for edge in above[name]]
        been = {name}
        while waiting:
            parent, edge = waiting.pop(0)
            if parent in seen:
                found[name] = (parent, edge)
                break
            if parent not in been:
                been.add(parent)
                waiting += [(further.above, edge) for further in above[parent]]
    return found
