"""What a plan would change, before it changes anything (TER-2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.positions import metres
from crmkit.values import Money
from google.protobuf import json_format
from sqlalchemy import func, select

from sales.model.base import coming_from
from sales.model.lead import OPEN as OPEN_LEADS
from sales.model.lead import Lead
from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING
from sales.model.target import Target
from sales.model.territory import as_nodes, in_force, owner_of
from sales.model.territory_plan import TerritoryPlan
from sales.territory_cut import Customer, Cut, decisions
from sales.territory_map import Place, TerritoryMap

LISTED, KEYS_LISTED = 200, 500
_PERIODS = ("MONTH", "QUARTER", "YEAR")


async def previewed(plan: TerritoryPlan, call: Call) -> tuple[Any, str]:
    """Everything that a plan would change, with its digest: the same cut of the same market has the same."""
    cut = await Cut.of(plan, plan.effective_time or call.now, call)
    keys = set(plan.key_levels) or {"A"}
    result, digest = pb.TerritoryPlan.Preview(), sha256(_content(plan))
    moved: dict[str, tuple[str, str]] = {}
    before, after = _Loads(), _Loads()
    async for one in decisions(cut, call):
        result.accounts += 1
        customer, name = one.customer, one.customer.place.name
        if rivals := one.overlap:
            result.overlaps += 1
            _list(result.overlapping, customer, ", ".join(rivals), LISTED)
        if one.gap:
            result.gaps += 1
            _list(result.without, customer, customer.place.division, LISTED)
        if one.excluded and one.to != customer.owner:
            _list(result.excluded, customer, one.excluded, KEYS_LISTED)
        before.take(customer.owner, customer)
        after.take(one.to if one.moves else customer.owner, customer)
        if one.moves:
            moved[name] = (customer.owner, one.to)
            digest.update(f"{name} {customer.owner} {one.to}\n".encode())
            if customer.level in keys:
                _list(result.key_accounts, customer, customer.level, KEYS_LISTED)
    result.moved = len(moved)
    await _business(plan, result, moved, before, after, call)
    return result, digest.hexdigest()


async def _business(
    plan: TerritoryPlan,
    result: Any,
    moved: dict[str, tuple[str, str]],
    before: _Loads,
    after: _Loads,
    call: Call,
) -> None:
    """Leads, deals and targets of the flows and of the people."""
    flows: dict[tuple[str, str], Any] = {}
    amounts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for pair in moved.values():
        flow = flows.setdefault(pair, pb.TerritoryPlan.Flow(to=pair[1], **coming_from(pair[0])))
        flow.accounts += 1
    cuts = as_nodes(await in_force(call)), plan.tree
    for pair, count in (await _lead_flows(cuts, plan.effective_time or call.now, call)).items():
        flow = flows.setdefault(pair, pb.TerritoryPlan.Flow(to=pair[1], **coming_from(pair[0])))
        flow.leads += count
    table: Any = Opportunity.__table__
    deals = select(
        Opportunity.account, Opportunity.owner, table.c.amount_currency, func.count(), func.sum(table.c.amount_amount)
    ).where(Opportunity.state.in_(RUNNING))  # fmt: skip
    goes = plan.open_deals == "MOVE"
    grouped = deals.group_by(Opportunity.account, Opportunity.owner, table.c.amount_currency)
    for account, owner, currency, count, amount in await call.db.execute(grouped):
        pair = moved.get(account)
        mine = pair is not None and owner == pair[0]
        if pair is not None and mine:
            flows[pair].deals += count
        if currency:
            before.pipeline[owner][currency] += amount
            after.pipeline[pair[1] if pair is not None and mine and goes else owner][currency] += amount
            if pair is not None and mine:
                amounts[pair][currency] += amount
    for pair, flow in sorted(flows.items()):
        flow.amounts.extend(_money(amounts[pair]))
        result.flows.append(flow)
    people = sorted({who for pair in moved.values() for who in pair})
    targets = await _targets(people, call)
    for who in people:
        load = result.loads.add(
            employee=who, accounts_before=before.accounts[who], accounts_after=after.accounts[who]
        )
        load.cities_before, load.cities_after = len(before.cities[who]), len(after.cities[who])
        load.spread_before, load.spread_after = before.spread(who), after.spread(who)
        load.pipeline_before.extend(_money(before.pipeline[who]))
        load.pipeline_after.extend(_money(after.pipeline[who]))
        if who in targets:
            load.target.CopyFrom(targets[who].message())


async def _lead_flows(cuts: tuple[Any, Any], now: datetime, call: Call) -> Counter[tuple[str, str]]:
    """How many open leads go from whom to whom: those that whoever owned their territory had."""
    before, after = (TerritoryMap(nodes) for nodes in cuts)
    found: Counter[tuple[str, str]] = Counter()
    columns = (Lead.owner, Lead.division_code, Lead.industry)
    grouped = (
        select(*columns, func.count()).where(Lead.state.in_(OPEN_LEADS), Lead.owner != "").group_by(*columns)
    )
    for owner, division, industry, count in await call.db.execute(grouped):
        if to := heir(owner, Place("", division, "", industry), (before, after), now):
            found[owner, to] += count
    return found


def heir(owner: str, where: Place, cuts: tuple[TerritoryMap, TerritoryMap], now: datetime) -> str:
    """Who has the territory afterwards of what its owner had before; empty where nobody else has."""
    owners: list[str] = []
    for cut in cuts:
        match = cut.match(where).get("")
        owners.append(owner_of(match.code, cut.nodes, now) if match else "")
    return owners[1] if owners[0] == owner and owners[1] != owner else ""


class _Loads:
    """What everybody has."""

    def __init__(self) -> None:
        self.accounts: Counter[str] = Counter()
        self.cities: dict[str, set[str]] = defaultdict(set)
        self.positions: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.pipeline: dict[str, Counter[str]] = defaultdict(Counter)

    def take(self, owner: str, customer: Customer) -> None:
        self.accounts[owner] += 1
        if city := customer.place.division[:4]:
            self.cities[owner].add(city)
        if customer.position:
            self.positions[owner].append(customer.position)

    def spread(self, owner: str) -> int:
        """How far the customers lie from their middle on average, in km."""
        found = self.positions[owner]
        if not found:
            return 0
        middle = (sum(one[0] for one in found) / len(found), sum(one[1] for one in found) / len(found))
        return round(sum(metres(middle, one) for one in found) / len(found) / 1000)


async def _targets(people: Sequence[str], call: Call) -> dict[str, Money]:
    """The base of the running target in money with the longest period, of each who has one."""
    running = select(Target).where(
        Target.state == "RUNNING", Target.subject.in_(people), Target.currency != "",
        Target.from_date <= today(call), Target.to_date >= today(call),
    )  # fmt: skip
    found: dict[str, Target] = {}
    for target in await call.db.scalars(running.order_by(Target.metric, Target.id)):
        known = found.get(target.subject)
        if known is None or _PERIODS.index(target.period) > _PERIODS.index(known.period):
            found[target.subject] = target
    return {who: Money(one.base or Decimal(0), one.currency) for who, one in found.items()}


def _content(plan: TerritoryPlan) -> bytes:
    """What decides about the moves, as text that is the same for the same."""
    told = pb.TerritoryPlan(
        tree=plan.tree, open_deals=plan.open_deals, pinned_accounts=sorted(plan.pinned_accounts), overrides=plan.overrides,
        default_owner=plan.default_owner, key_levels=plan.key_levels,
    )  # fmt: skip
    return json_format.MessageToJson(told, sort_keys=True).encode()


def _list(listed: Any, customer: Customer, reason: str, most: int) -> None:
    if len(listed) < most:
        listed.add(account=customer.place.name, display_name=customer.display_name, reason=reason)


def _money(sums: Counter[str]) -> list[Any]:
    return [Money(Decimal(amount), currency).message() for currency, amount in sorted(sums.items())]
