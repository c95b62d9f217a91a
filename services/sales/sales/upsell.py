"""What customers may buy next: heard from orders, worked out every night, account by account.

The night's run has four parts: what is bought together (`affinities`), what each customer may buy (`upsell_proposals`),
which contracts end, and the word to the owners.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Any

from crm.customer.v1 import events_pb2 as customer_events
from crm.orders.v1 import events_pb2 as orders_events
from crm.sales.v1 import pb
from crmkit.amounts import plain
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.mapping import to_date, told_date
from crmkit.notices import raise_notice
from crmkit.runs import Kind, Run, start
from crmkit.schedule import cron
from crmkit.tables import Copy
from sqlalchemy import Boolean, ColumnElement, Integer, Numeric, Text, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from sales.model.base import Base
from sales.model.product import Product, products
from sales.model.purchase import Purchase, bought
from sales.model.upsell_proposal import UpsellProposal

PROPOSE = "ProposeUpsell"
# Fewer orders than this have no rhythm; fewer buyers, or a lesser lift, say nothing about two products.
RHYTHM, JOINT_BUYERS, LIFT = 3, 20, Decimal("1.5")
# Contracts are renewed so many days ahead. Of each kind the best few are proposed.
AHEAD, BEST = timedelta(days=90), 5
AT_ONCE, PRODUCTS_AT_ONCE = 500, 50
IN_FORCE = ("ACTIVE", "SIGNED")
_SERVICES = ("SERVICE", "SUBSCRIPTION")
_ONE_GROUP = ("PARENT_OF", "BRANCH_OF", "AFFILIATE", "JOINT_VENTURE")
# What is bought together with each of some products, and how many times more often than by chance.
_TOGETHER = text(
    "WITH buyers AS (SELECT product, count(DISTINCT account) AS n FROM purchases WHERE NOT cancelled GROUP BY product),"
    " everybody AS (SELECT count(DISTINCT account) AS n FROM purchases WHERE NOT cancelled),"
    " joint AS (SELECT one.product AS had, two.product AS other, count(DISTINCT one.account) AS n FROM purchases one"
    " JOIN purchases two ON two.account = one.account AND two.product <> one.product AND NOT two.cancelled"
    " WHERE one.product = ANY(:products) AND NOT one.cancelled GROUP BY 1, 2 HAVING count(DISTINCT one.account) >= :least)"
    " INSERT INTO affinities (had, other, joint_buyers, lift)"
    " SELECT had, other, joint.n, round(joint.n::numeric * everybody.n / (a.n * b.n), 2) FROM joint"
    " JOIN buyers a ON a.product = had JOIN buyers b ON b.product = other CROSS JOIN everybody"
    " WHERE joint.n::numeric * everybody.n >= :lift * a.n * b.n"
)
# The companies that hang together with some by any way of edges, each with the least name as that of its group.
_GROUPS = text(
    "WITH RECURSIVE edges AS (SELECT one, other FROM group_edges WHERE active"
    " UNION SELECT other, one FROM group_edges WHERE active),"
    " reached (seed, account) AS (SELECT DISTINCT one, one FROM edges WHERE one = ANY(:accounts)"
    " UNION SELECT reached.seed, edges.other FROM reached JOIN edges ON edges.one = reached.account)"
    " SELECT seed, account FROM reached WHERE account <> seed"
)


log = logging.getLogger(__name__)


class Affinity(Base):
    """Two products that customers have both bought, more often than by chance."""

    __tablename__ = "affinities"

    had: Mapped[str] = mapped_column(Text, primary_key=True)
    other: Mapped[str] = mapped_column(Text, primary_key=True)
    joint_buyers: Mapped[int] = mapped_column(Integer)
    lift: Mapped[Decimal] = mapped_column(Numeric)


class GroupEdge(Base):
    """Two companies of one group, as customer last told."""

    __tablename__ = "group_edges"

    relation: Mapped[str] = mapped_column(Text, primary_key=True)
    one: Mapped[str] = mapped_column(Text, index=True, info={"refers": True})
    other: Mapped[str] = mapped_column(Text, index=True, info={"refers": True})
    active: Mapped[bool] = mapped_column(Boolean)
    version: Mapped[int] = mapped_column(Integer)


@dataclass(frozen=True)
class Bought:
    """How a customer has bought one product."""

    days: tuple[date, ...]
    quantity: Decimal

    def every(self) -> int | None:
        """The middle of the days between two orders; None without a rhythm."""
        if len(self.days) < RHYTHM:
            return None
        return round(median((after - before).days for before, after in pairwise(self.days)))


@dataclass(frozen=True)
class Ground:
    """A reason to propose something to a customer."""

    account: str
    kind: str
    zh: str
    en: str
    figures: pb.UpsellProposal.Figures
    product: str = ""
    contract: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Of what is open there is one for each."""
        return self.account, self.product, self.contract, self.kind


@dataclass
class World:
    """What is known beside the customer: products, what goes together, what others of the group have."""

    day: date
    products: Mapping[str, Product]
    affinities: Mapping[str, Sequence[Affinity]] = field(default_factory=dict[str, Sequence[Affinity]])
    # By customer, the products that others of the group have: how many companies, and the last day.
    group: Mapping[str, Mapping[str, tuple[int, date]]] = field(
        default_factory=dict[str, Mapping[str, tuple[int, date]]]
    )


def grounds(account: str, history: Mapping[str, Bought], world: World) -> Iterator[Ground]:
    """Everything that a customer's orders give reason to propose."""
    for product, past in history.items():
        known = world.products.get(product)
        if known is None:
            continue
        if known.state == "ACTIVE":
            yield from _again(account, product, past, world.day)
        elif known.successor and known.successor not in history and _sold(known.successor, world):
            yield _instead(account, known, past)
    yield from _together(account, history, world)
    others = sorted(world.group.get(account, {}).items(), key=lambda one: (-one[1][0], one[0]))
    missing = [
        (product, seen) for product, seen in others if product not in history and _sold(product, world)
    ]
    for product, (companies, last) in missing[:BEST]:
        yield Ground(
            account, "GROUP", f"集团内另有 {companies} 家单位购买，最近一次 {last}",
            f"{companies} other companies of the group have bought it, last on {last}",
            pb.UpsellProposal.Figures(companies=companies, last_date=to_date(last)), product,
        )  # fmt: skip


def _again(account: str, product: str, past: Bought, day: date) -> Iterator[Ground]:
    every, last = past.every(), past.days[-1]
    since = (day - last).days
    if every and since >= every:
        count = len(past.days)
        yield Ground(
            account, "REORDER", f"最近 {count} 次订单平均每 {every} 天一次，距上次（{last}）已 {since} 天",
            f"Last {count} orders every {every} days, now {since} since {last}",
            pb.UpsellProposal.Figures(
                orders=count, every_days=every, days=since, last_date=to_date(last), quantity=plain(past.quantity)
            ), product,
        )  # fmt: skip


def _instead(account: str, known: Product, past: Bought) -> Ground:
    count, last = len(past.days), past.days[-1]
    return Ground(
        account, "UPGRADE", f"“{known.display_name}”曾订购 {count} 次，最近 {last}，现已停售，由本产品替代",
        f"{known.display_name} was ordered {count} times, last on {last}; its sale has ended and this follows it",
        pb.UpsellProposal.Figures(
            orders=count, last_date=to_date(last), because_of=known.name, quantity=plain(past.quantity)
        ), known.successor,
    )  # fmt: skip


def _together(account: str, history: Mapping[str, Bought], world: World) -> Iterator[Ground]:
    found = dict[str, Affinity]()
    for had in history:
        for one in world.affinities.get(had, ()):
            best = found.get(one.other)
            if one.other not in history and (best is None or (one.lift, one.had) > (best.lift, best.had)):
                found[one.other] = one
    told = dict.fromkeys(("CROSS_SELL", "VALUE_ADDED"), 0)
    for one in sorted(found.values(), key=lambda one: (-one.lift, one.other)):
        if not _sold(one.other, world):
            continue
        kind = "VALUE_ADDED" if world.products[one.other].kind in _SERVICES else "CROSS_SELL"
        told[kind] += 1
        had = world.products.get(one.had)
        if had is not None and told[kind] <= BEST:
            yield Ground(
                account, kind, f"购买“{had.display_name}”的客户中有 {one.joint_buyers} 家同时购买，提升度 {one.lift}",
                f"{one.joint_buyers} customers have it with {had.display_name}, {one.lift} times more than by chance",
                pb.UpsellProposal.Figures(because_of=one.had, joint_buyers=one.joint_buyers, lift=str(one.lift)), one.other,
            )  # fmt: skip


def _sold(product: str, world: World) -> bool:
    known = world.products.get(product)
    return known is not None and known.state == "ACTIVE"


async def propose(run: Run) -> None:
    """Works out all proposals anew; what is open and has lost its ground ends."""
    if run.phase in ("", "TOGETHER"):
        await _work_out_affinities(run)
    if run.phase == "CUSTOMERS":
        await _work_out_customers(run)
    if run.phase == "CONTRACTS":
        await _work_out_contracts(run)
    if run.phase == "OWNERS":
        async with run.chunk() as call:
            _tell_owners(run, call)
            run.next_phase("ENDED")


async def _work_out_affinities(run: Run) -> None:
    while run.phase in ("", "TOGETHER"):
        async with run.chunk() as call:
            last = run.tally.get("last", "")
            page = select(Purchase.product).where(~Purchase.cancelled, Purchase.product > last).distinct()
            names = list(await call.db.scalars(page.order_by(Purchase.product).limit(PRODUCTS_AT_ONCE)))
            if not names:
                await call.db.execute(delete(Affinity).where(Affinity.had > last))
                _next(run, "CUSTOMERS")
                continue
            gone = delete(Affinity).where(Affinity.had > last, Affinity.had <= names[-1])
            await call.db.execute(gone)
            await call.db.execute(_TOGETHER, {"products": names, "least": JOINT_BUYERS, "lift": LIFT})
            _next(run, "TOGETHER", names[-1])


async def _work_out_customers(run: Run) -> None:
    while run.phase == "CUSTOMERS":
        async with run.chunk() as call:
            page = await _page("accounts", run, call)
            if not page:
                _next(run, "CONTRACTS")
                continue
            names = [*page, *_merged(page, call)]
            mine = (UpsellProposal.contract == "") & UpsellProposal.account.in_(names)
            await _settle(page, await _grounds_of(page, call), mine, run, call)
            _next(run, "CUSTOMERS", max(page))


async def _work_out_contracts(run: Run) -> None:
    while run.phase == "CONTRACTS":
        async with run.chunk() as call:
            page = await _page("contracts", run, call)
            if not page:
                _next(run, "OWNERS")
                continue
            found = [ground for name, row in page.items() for ground in _ending(name, row, today(call))]
            names = {ground.account for ground in found}
            asked = select(Copy.name, Copy.payload).where(Copy.name.in_(names), ~Copy.deleted)
            known = {row.name: row.payload for row in await call.db.execute(asked)}
            await _settle(known, found, UpsellProposal.contract.in_(page), run, call)
            _next(run, "CONTRACTS", max(page))


def _next(run: Run, phase: str, last: str = "") -> None:
    """Goes on behind a name; the position moves with every chunk, so that two cannot do the same one."""
    position = run.position + 1
    run.next_phase(phase)
    run.position, run.tally["last"] = position, last


async def _page(collection: str, run: Run, call: Call) -> dict[str, dict[str, Any]]:
    """The next records of another service; of those that are deleted nothing but the name."""
    asked = (
        select(Copy.name, Copy.payload, Copy.deleted)
        .where(Copy.collection == collection, Copy.name > run.tally.get("last", ""))
        .order_by(Copy.name)
        .limit(AT_ONCE)
    )
    return {row.name: {} if row.deleted else row.payload for row in await call.db.execute(asked)}


async def _grounds_of(page: Mapping[str, Any], call: Call) -> list[Ground]:
    rows = await call.db.execute(
        select(
            Purchase.account, Purchase.product, Purchase.order_date, func.sum(Purchase.quantity).label("quantity")
        )
        .where(Purchase.account.in_(page), ~Purchase.cancelled, Purchase.order_date.is_not(None))
        .group_by(Purchase.account, Purchase.product, Purchase.order_date)
        .order_by(Purchase.order_date)
    )  # fmt: skip
    history: dict[str, dict[str, Bought]] = defaultdict(dict)
    for row in rows:
        before = history[row.account].get(row.product)
        days = (*before.days, row.order_date) if before else (row.order_date,)
        history[row.account][row.product] = Bought(days, row.quantity)
    had = {product for past in history.values() for product in past}
    affinities: dict[str, list[Affinity]] = defaultdict(list)
    for one in await call.db.scalars(select(Affinity).where(Affinity.had.in_(had))):
        affinities[one.had].append(one)
    group = await _in_the_group(list(page), call)
    names = had | {one.other for found in affinities.values() for one in found}
    names |= {product for found in group.values() for product in found}
    known = await products(names, call)
    known |= await products({one.successor for one in known.values() if one.successor} - known.keys(), call)
    world = World(today(call), known, affinities, group)
    people = {name for name in history.keys() | group.keys() if _looked_after(page[name])}
    return [ground for name in sorted(people) for ground in grounds(name, history.get(name, {}), world)]


async def _in_the_group(accounts: list[str], call: Call) -> dict[str, dict[str, tuple[int, date]]]:
    """For each account the products that others of its group have bought."""
    members: dict[str, set[str]] = defaultdict(set)
    for row in await call.db.execute(_GROUPS, {"accounts": accounts}):
        members[row.seed].add(row.account)
    others = {name for found in members.values() for name in found}
    asked = (
        select(Purchase.account, Purchase.product, func.max(Purchase.order_date).label("last"))
        .where(Purchase.account.in_(others), ~Purchase.cancelled, Purchase.order_date.is_not(None))
        .group_by(Purchase.account, Purchase.product)
    )
    have: dict[str, list[tuple[str, date]]] = defaultdict(list)
    for row in await call.db.execute(asked) if others else ():
        have[row.account].append((row.product, row.last))
    found: dict[str, dict[str, tuple[int, date]]] = defaultdict(dict)
    for seed, names in members.items():
        for name in names:
            for product, last in have.get(name, ()):
                companies, latest = found[seed].get(product, (0, last))
                found[seed][product] = (companies + 1, max(latest, last))
    return found


def _ending(name: str, contract: Mapping[str, Any], day: date) -> Iterator[Ground]:
    end = told_date(contract.get("effectiveTo"))
    if contract.get("state") not in IN_FORCE or end is None or not contract.get("account"):
        return
    if day <= end <= day + AHEAD:
        left, title = (end - day).days, contract.get("number") or contract.get("displayName", "")
        yield Ground(
            contract["account"], "RENEWAL", f"合同 {title} 将于 {end} 到期，还有 {left} 天",
            f"Contract {title} ends on {end}, in {left} days",
            pb.UpsellProposal.Figures(end_date=to_date(end), days=left), contract=name,
        )  # fmt: skip


def _looked_after(account: Mapping[str, Any]) -> bool:
    return account.get("state") == "ACTIVE" and bool(account.get("owner"))


def _merged(accounts: Mapping[str, Any], call: Call) -> dict[str, str]:
    """The names of records that went into some accounts."""
    return {old: name for old, name in call.running.redirects.names.items() if name in accounts}


async def _settle(
    accounts: Mapping[str, Any], found: Iterable[Ground], mine: ColumnElement[bool], run: Run, call: Call
) -> None:
    """Opens what is new, brings up to date what is open, ends what has no ground; what is silent stays so."""
    told = {ground.key: ground for ground in found if _looked_after(accounts.get(ground.account, {}))}
    asked = select(UpsellProposal).where(UpsellProposal.state == "OPEN", mine)
    for row in await call.db.scalars(asked.with_for_update()):
        ground = told.pop((row.account, row.product, row.contract, row.kind), None)
        if ground is None:
            row.end()
            continue
        row.reason, row.reason_en, row.figures = ground.zh, ground.en, ground.figures
        row.owner, row.department = _carers(accounts[row.account])
    merged = _merged(accounts, call)
    quiet = select(UpsellProposal.account, UpsellProposal.product, UpsellProposal.contract).where(
        UpsellProposal.account.in_([*accounts, *merged]), UpsellProposal.silent_until_date >= today(call)
    )
    silent = {
        (merged.get(row.account, row.account), row.product, row.contract)
        for row in await call.db.execute(quiet)
    }
    fresh = list[UpsellProposal]()
    for one in told.values():
        if (one.account, one.product, one.contract) not in silent:
            owner, department = _carers(accounts[one.account])
            fresh.append(
                UpsellProposal(
                    account=one.account, product=one.product, contract=one.contract, kind=one.kind, reason=one.zh,
                    reason_en=one.en, figures=one.figures, state="OPEN", owner=owner, department=department,
                    creator=call.caller.actor,
                )
            )  # fmt: skip
    await create_many(call, fresh)
    people: dict[str, int] = run.tally.setdefault("people", {})
    for row in fresh:
        people[row.owner] = people.get(row.owner, 0) + 1


def _carers(account: Mapping[str, Any]) -> tuple[str, str]:
    return str(account["owner"]), str(account.get("department", ""))


def _tell_owners(run: Run, call: Call) -> None:
    """Tells everybody who has new proposals how many, once a night."""
    for employee, count in run.tally.get("people", {}).items():
        zh, en = f"您的客户有 {count} 条新的增购建议", f"{count} new upsell proposals for your customers"
        key = f"{run.about}:{employee}"
        raise_notice("upsell", zh, en, call, key=key, employees=[employee], subjects=["upsellProposals"])


async def _failed(run: Run, problem: Problem, call: Call) -> None:
    log.error(
        "upsell proposals were not worked out to the end",
        extra={"run": str(run.id), "reason": problem.reason},
    )


RUNS = {PROPOSE: Kind(propose, _failed)}


@cron("0 3 * * *", zone="Asia/Shanghai", collapse=True)
async def propose_upsell(as_of: datetime, call: Call) -> None:
    """Works out every night what customers may buy next."""
    await start(call, PROPOSE, f"upsell/{as_of.date()}", {})


async def on_purchase(event: orders_events.OrderPlaced, call: Call) -> None:
    """Who bought what is kept."""
    await bought(event.order, False, call)


async def on_purchase_cancelled(event: orders_events.OrderCancelled, call: Call) -> None:
    """What was cancelled was not bought."""
    await bought(event.order, True, call)


@listens("crm.customer.v1.AccountRelationChanged")
async def on_relation_changed(event: Fact, call: Call) -> None:
    """Which companies belong to one group is kept."""
    told = event.payload["relation"]
    values = {
        "one": told["from"], "other": told["to"], "version": event.version or 0,
        "active": told.get("state") == "ACTIVE" and told.get("kind") in _ONE_GROUP,
    }  # fmt: skip
    statement = insert(GroupEdge).values(relation=told["name"], **values)
    newer = GroupEdge.version < statement.excluded.version
    await call.db.execute(
        statement.on_conflict_do_update(index_elements=[GroupEdge.relation], set_=values, where=newer)
    )


async def on_customer_given(event: customer_events.AccountOwnerChanged, call: Call) -> None:
    """Whoever looks after the customer sees what it has bought and may buy."""
    account, owner = event.account, event.to
    department = account.department
    if not owner:
        return
    mine = update(Purchase).where(Purchase.account == account.name)
    await call.db.execute(mine.values(owner=owner, department=department))
    asked = select(UpsellProposal).where(
        UpsellProposal.account == account.name, UpsellProposal.state == "OPEN"
    )
    for row in await call.db.scalars(asked.with_for_update()):
        row.owner, row.department = owner, department or row.department


HANDLERS = [on_purchase, on_purchase_cancelled, on_relation_changed, on_customer_given]
