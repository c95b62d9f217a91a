"""Cutting the market anew: preview, the moves in batches, the answers, members from one instant to another.

Customers belong to the customer service: it is told by `TerritoryPlanApplied` and answers by `TerritoryMovesApplied`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as customer_events
from crm.sales.v1 import events_pb2 as events
from crm.sales.v1 import pb
from crmkit.bulk import create_many
from crmkit.call import Call
from crmkit.company import employed
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.replies import shown
from crmkit.runs import Kind, Run, start
from crmkit.schedule import every
from crmkit.standard import Standard
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from sales.model.base import coming_from
from sales.model.lead import OPEN as OPEN_LEADS
from sales.model.lead import Lead
from sales.model.territory import (
    AccountHold,
    AccountPerson,
    Territory,
    TerritoryAccount,
    TerritoryMove,
    as_nodes,
    in_force,
)
from sales.model.territory_plan import APPLY, PLAN, PREVIEW, UNDO, TerritoryPlan
from sales.territory_cut import LIVE, Customer, Cut, Decision, customer_of, customers, decisions
from sales.territory_map import Match, Place, TerritoryMap
from sales.territory_preview import LISTED, heir, previewed

MEMBERS = "TellTerritoryMembers"
BATCH, PEOPLE = 500, 1000
_HOLDING = {
    "merges": ("MERGE", ("RUNNING", "UNDOING")),
    "duplicateCases": ("DISPUTE", ("OPEN", "WAITING_OWNER", "IN_ARBITRATION", "APPEALED")),
    "transfers": ("HANDOVER", ("SCHEDULED", "RUNNING", "AWAITING_ACCEPTANCE", "UNDOING")),
}


# What a plan would change


async def _preview(run: Run) -> None:
    if run.phase == "ENDED":
        return
    async with run.chunk() as call:
        plan = await call.named(TerritoryPlan, run.about, lock=True)
        if plan is not None and plan.state == "DRAFT":
            plan.preview, plan.digest = await previewed(plan, call)
            plan.preview_time, plan.state = call.now, "PREVIEWED"
        run.next_phase("ENDED")


# The moves


def _while(
    state: str, step: Callable[[Run, TerritoryPlan, Call], Awaitable[None]]
) -> Callable[[Run], Awaitable[None]]:
    """Goes on step by step, each a transaction of its own, as long as the plan is in the state."""

    async def work(run: Run) -> None:
        while run.phase != "ENDED":
            async with run.chunk() as call:
                plan = await call.named(TerritoryPlan, run.about, lock=True)
                if plan is None or plan.state != state:
                    run.next_phase("ENDED")
                else:
                    await step(run, plan, call)

    return work


async def _write_plan(run: Run, plan: TerritoryPlan, call: Call) -> None:
    """Writes down what the preview moves, to compare with what will be moved."""
    cut = await Cut.of(plan, plan.effective_time or call.now, call)
    page = await customers(call, run.tally.get("after", ""))
    rows = [_row(plan, one, "PLANNED", 0) for one in _decided(page, cut) if one.moves]
    await create_many(call, rows, told=False)
    plan.count(planned=len(rows))
    if page:
        run.tally["after"] = page[-1].place.name
        run.position += len(page)
    else:
        plan.planned = True
        run.next_phase("ENDED")


async def _apply(run: Run, plan: TerritoryPlan, call: Call) -> None:
    """Brings the tree in force, then tells batch by batch who has which customer."""
    if not run.phase:
        if not plan.begun:
            plan.before, plan.begun = as_nodes(await in_force(call)), True
        await bring_in_force(list(plan.tree), plan.name, call)
        run.next_phase("LEADS")
    elif run.phase == "LEADS":
        await _leads_go(run, plan, call)
    else:
        await _next_batch(run, plan, await Cut.of(plan, call.now, call), call)


async def _leads_go(run: Run, plan: TerritoryPlan, call: Call) -> None:
    """A page of open leads goes with the territories, or comes back with them."""
    page = select(Lead).where(Lead.state.in_(OPEN_LEADS), Lead.owner != "")
    if last := run.tally.get("lead"):
        page = page.where(Lead.id > UUID(last))
    leads = list(await call.db.scalars(page.order_by(Lead.id).limit(BATCH).with_for_update()))
    cuts = TerritoryMap(plan.before), TerritoryMap(plan.tree)
    for lead in leads:
        if plan.state == "UNDOING":
            last_move = lead.moves[-1] if lead.moves else None
            mine = last_move is not None and last_move.how == plan.name and last_move.to == lead.owner
            to: str = getattr(last_move, "from") if mine else ""
        else:
            to = heir(lead.owner, Place("", lead.division_code, "", lead.industry), cuts, call.now)
        if to and employed(to, call):
            await lead.assign(to, call, rule=plan.name)
    if leads:
        run.tally["lead"] = str(leads[-1].id)
        run.position += len(leads)
    else:
        run.next_phase("ACCOUNTS")


async def _undo(run: Run, plan: TerritoryPlan, call: Call) -> None:
    """Customers go back first, then the tree before counts again."""
    if not run.phase:
        moved = select(TerritoryMove).where(
            TerritoryMove.plan == plan.name, TerritoryMove.state == "MOVED",
            TerritoryMove.account > run.tally.get("after", ""),
        )  # fmt: skip
        rows = list(await call.db.scalars(moved.order_by(TerritoryMove.account).limit(BATCH)))
        if rows:
            back = [_told(row.account, row.to, getattr(row, "from"), {}) for row in rows]
            _tell(plan, back, call, undo=True)
            run.tally["after"] = rows[-1].account
            run.position += len(rows)
            return
        await bring_in_force(list(plan.before), plan.name, call)
        run.tally.pop("after", None)
        run.next_phase("LEADS")
    elif run.phase == "LEADS":
        await _leads_go(run, plan, call)
    else:
        await _next_batch(run, plan, Cut(TerritoryMap(plan.before), call.now), call)


async def _next_batch(run: Run, plan: TerritoryPlan, cut: Cut, call: Call) -> None:
    page = await customers(call, run.tally.get("after", ""), BATCH)
    if not page:
        dropped = select(TerritoryMove).where(
            TerritoryMove.plan == plan.name, TerritoryMove.state == "PLANNED"
        )
        left = list(await call.db.scalars(dropped)) if plan.state == "APPLYING" else []
        for row in left:
            row.state, row.reason = "DROPPED", "GONE"
        plan.count(dropped=len(left))
        plan.all_told = True
        plan.settle()
        run.next_phase("ENDED")
        return
    run.tally["after"] = page[-1].place.name
    run.position += len(page)
    live = _decided(page, cut, stay=plan.state == "UNDOING")
    told = await place(live, page, cut, call)
    if plan.state == "APPLYING":
        await _compare(plan, live, call)
    if told:
        _tell(plan, told, call)


def _decided(page: Iterable[Customer], cut: Cut, *, stay: bool = False) -> list[Decision]:
    """What becomes of the customers that are not gone; owners that stay are not asked about."""
    live = [cut.decide(one) for one in page if one.state in LIVE]
    for one in live if stay else ():
        one.to = one.customer.owner
    return live


async def _compare(plan: TerritoryPlan, live: list[Decision], call: Call) -> None:
    """Notes the moves of a page against those of the preview."""
    names = [one.customer.place.name for one in live]
    known = {
        row.account: row
        for row in await call.db.scalars(
            select(TerritoryMove).where(TerritoryMove.plan == plan.name, TerritoryMove.account.in_(names))
        )
    }
    added: list[TerritoryMove] = []
    batch = plan.batches + 1
    for one in live:
        row = known.get(one.customer.place.name)
        if one.moves:
            if row is None:
                added.append(_row(plan, one, "TOLD", batch, added=True))
            else:
                setattr(row, "from", one.customer.owner)
                row.to, row.state, row.batch = one.to, "TOLD", batch
        elif row is not None and row.state == "PLANNED":
            row.state, row.reason = "DROPPED", one.excluded or "CHANGED"
            plan.count(dropped=1)
    await create_many(call, added, told=False)
    plan.count(added=len(added))


def _row(plan: TerritoryPlan, one: Decision, state: str, batch: int, added: bool = False) -> TerritoryMove:
    return TerritoryMove(
        plan=plan.name, account=one.customer.place.name, to=one.to, state=state, batch=batch, added=added,
        owner=plan.owner, department=plan.department, creator=plan.actor, **coming_from(one.customer.owner),
    )  # fmt: skip


async def bring_in_force(nodes: list[Any], plan: str, call: Call) -> None:
    """Makes these the territories in force: those of the same code go on, the others end."""
    known = {one.code: one for one in await in_force(call)}
    wanted = {node.code for node in nodes}
    for code, one in known.items():
        if code not in wanted:
            one.state, one.next_time = "RETIRED", None
    await call.flush()
    for node in nodes:
        one = known.get(node.code) or await call.add(Territory(code=node.code, state="ACTIVE"))
        known[node.code] = one
        one.display_name, one.criteria, one.product_line = node.display_name, node.criteria, node.product_line
        one.priority, one.fallback, one.members, one.plan = (
            node.priority,
            node.fallback,
            list(node.members),
            plan,
        )
        one.wind(call.now)
    await call.flush()
    for node in nodes:
        known[node.code].parent = known[node.parent].name if node.parent else ""
    await call.flush()


async def place(live: Sequence[Decision], page: Sequence[Customer], cut: Cut, call: Call) -> list[Any]:
    """Keeps the territories of customers; gives those whose collaborators by territory are others than before."""
    names = [one.place.name for one in page]
    codes = {one.code: one.name for one in await in_force(call)}
    found = select(TerritoryAccount).where(TerritoryAccount.account.in_(names)).with_for_update()
    known: dict[str, dict[str, TerritoryAccount]] = defaultdict(dict)
    for row in await call.db.scalars(found):
        known[row.account][row.product_line] = row
    made: list[TerritoryAccount] = []
    told: list[Any] = []
    by_name = {made.customer.place.name: made for made in live}
    for one in page:
        name, rows = one.place.name, known.get(one.place.name, {})
        if any(row.known > one.version for row in rows.values()):
            continue
        decision = by_name.get(name)
        before = _union(row.told for row in rows.values())
        if decision is None:
            for row in rows.values():
                await call.db.delete(row)
            continue
        helpers = cut.collaborators(decision, codes)
        for line, row in rows.items():
            if line not in decision.matches:
                await call.db.delete(row)
        for line, match in decision.matches.items():
            row = rows.get(line)
            if row is None:
                row = TerritoryAccount(account=name, product_line=line)
                made.append(row)
            _show(row, match, codes, one, helpers[line])
        now = _union(helpers.values())
        if now != before or decision.moves:
            after = decision.to if decision.moves else one.owner
            told.append(_told(name, one.owner, after, now))
    await create_many(call, made, told=False)
    return told


def _show(
    row: TerritoryAccount, match: Match, codes: dict[str, str], customer: Customer, helpers: dict[str, str]
) -> None:
    """Brings a row up to date, touching only what is otherwise."""
    people = sorted(helpers)
    wanted: dict[str, Any] = {
        "territory": codes.get(match.code, ""), "criterion": match.criterion, "matched": match.value,
        "owner": customer.owner, "department": customer.department, "collaborators": people, "told": helpers,
        "known": customer.version,
    }  # fmt: skip
    for name, value in wanted.items():
        if getattr(row, name) != value:
            setattr(row, name, value)


def _union(told: Iterable[dict[str, str]]) -> dict[str, str]:
    """Who works on a customer by any of its territories; of two that may do different things the more counts."""
    found: dict[str, str] = {}
    for one in told:
        for who, what in one.items():
            if who not in found or (found[who].startswith("READ") and what.startswith("WORK")):
                found[who] = what
    return found


def _told(account: str, before: str, after: str, helpers: dict[str, str]) -> Any:
    move = events.TerritoryPlanApplied.Move(account=account, to=after, **coming_from(before))
    for who, what in sorted(helpers.items()):
        access, _, territory = what.partition(" ")
        if who != after:
            move.collaborators.add(employee=who, access=access, territory=territory)
    return move


def _tell(plan: TerritoryPlan, moves: list[Any], call: Call, undo: bool = False) -> None:
    plan.batches += 1
    call.emit(
        events.TerritoryPlanApplied, plan, plan=plan.name, number=plan.number, batch=plan.batches, undo=undo, moves=moves,
        time=call.now, actor=plan.actor,
    )  # fmt: skip


async def on_territory_moves_applied(event: customer_events.TerritoryMovesApplied, call: Call) -> None:
    """What the customer service could do of a batch."""
    plan = await call.named(TerritoryPlan, event.plan, lock=True)
    if plan is None or plan.state not in ("APPLYING", "UNDOING") or not plan.answer(event.batch):
        return
    reasons = {one.account: one.reason for one in event.left}
    names = [*event.moved, *reasons]
    rows = select(TerritoryMove).where(TerritoryMove.plan == plan.name, TerritoryMove.account.in_(names))
    for row in await call.db.scalars(rows.with_for_update()):
        if row.account in reasons:
            row.reason = reasons[row.account]
            if not event.undo:
                row.state = "LEFT"
                plan.count(left=1)
        elif event.undo:
            row.state = "UNDONE"
            plan.count(undone=1)
        elif row.state == "TOLD":
            row.state = "MOVED"
            plan.count(moved=1)
    plan.settle()


# Members, customers and holds


async def _tell_members(run: Run) -> None:
    """Tells who works in a territory now, customer by customer."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            after = run.tally.get("after", "")
            mine = select(TerritoryAccount.account).where(
                TerritoryAccount.territory == run.about, TerritoryAccount.account > after
            )
            names = list(await call.db.scalars(mine.order_by(TerritoryAccount.account).limit(BATCH)))
            if not names:
                run.next_phase("ENDED")
                return
            await retell(await customers(call, only=names), call)
            run.tally["after"] = names[-1]
            run.position += len(names)


async def retell(page: Sequence[Customer], call: Call) -> None:
    """Puts customers into their territories and tells whose collaborators change."""
    territories = await in_force(call)
    cut = Cut(TerritoryMap(as_nodes(territories)), call.now)
    moves = await place(_decided(page, cut, stay=True), page, cut, call)
    if moves:
        call.emit(
            events.TerritoryPlanApplied, territories[0] if territories else None, moves=moves, time=call.now,
            actor=call.caller.actor,
        )  # fmt: skip


@listens("crm.customer.v1.ResourceChanged.accounts")
async def on_customers_changed(changes: list[Fact], call: Call) -> None:
    """A customer that is new, or lies elsewhere, comes into its territory; owners change by plans alone."""
    if await call.db.scalar(select(Territory.id).where(Territory.state == "ACTIVE").limit(1)) is None:
        return
    latest: dict[str, Customer] = {}
    for event in sorted(changes, key=lambda event: event.version or 0):
        resource = dict(event.payload.get("resource") or {"name": event.aggregate})
        if event.payload.get("action") == "DELETED":
            resource["state"] = "DELETED"
        latest[event.aggregate] = customer_of({"name": event.aggregate, **resource}, event.version or 0)
    await retell(list(latest.values()), call)


@listens(*(f"crm.customer.v1.ResourceChanged.{collection}" for collection in _HOLDING))
async def on_holds_changed(changes: list[Fact], call: Call) -> None:
    """Customers in a merge, a dispute or a handover stay out of a plan for the time."""
    for event in changes:
        resource: dict[str, Any] = event.payload.get("resource") or {}
        reason, states = _HOLDING[event.aggregate.partition("/")[0]]
        fields = (resource.get(key) for key in ("survivor", "account", "from"))
        subjects = [*filter(None, fields), *resource.get("losers", ())]
        await call.db.execute(delete(AccountHold).where(AccountHold.name == event.aggregate))
        if resource.get("state") in states and subjects and event.payload.get("action") != "DELETED":
            held = insert(AccountHold).values(name=event.aggregate, reason=reason, subjects=subjects)
            await call.db.execute(held)


@listens("crm.customer.v1.ResourceChanged.contacts")
async def on_people_changed(changes: list[Fact], call: Call) -> None:
    """Who is to be met at which customer."""
    latest = {event.aggregate: event for event in sorted(changes, key=lambda event: event.version or 0)}
    rows: list[dict[str, Any]] = []
    for name, event in sorted(latest.items()):
        told: dict[str, Any] = event.payload.get("resource") or {}
        works_there = event.payload.get("action") != "DELETED" and told.get("state", "ACTIVE") == "ACTIVE"
        rows.append({
            "name": name, "account": told.get("account", "") if works_there else "", "title": told.get("title", ""),
            "display_name": told.get("displayName", ""), "version": event.version or 0,
        })  # fmt: skip
    statement = insert(AccountPerson)
    fresh = {key: statement.excluded[key] for key in ("account", "title", "display_name", "version")}
    later = AccountPerson.version <= statement.excluded.version
    await call.db.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_=fresh, where=later), rows
    )


async def stays(plan: str, call: Call) -> bool:
    """Whether open deals stay with the owner before where a plan has moved a customer."""
    found = await call.named(TerritoryPlan, plan)
    return found is not None and found.open_deals != "MOVE"


@every("30s", collapse=True)
async def begin_territory_plans(as_of: datetime, call: Call) -> None:
    """Starts the plan whose time has come."""
    due = select(TerritoryPlan).where(
        TerritoryPlan.state == "SCHEDULED", TerritoryPlan.planned, TerritoryPlan.effective_time <= as_of
    )
    for plan in await call.db.scalars(due.with_for_update(skip_locked=True)):
        await plan.begin(call)


@every("5s", collapse=True)
async def follow_members(as_of: datetime, call: Call) -> None:
    """Gives and ends the access of members at their instants."""
    due = select(Territory).where(Territory.next_time <= as_of).limit(BATCH)
    for territory in await call.db.scalars(due.with_for_update(skip_locked=True)):
        territory.wind(max(as_of, call.now))
        await start(call, MEMBERS, territory.name, {}, f"system/{call.running.app.name}")


class TerritoryMethods:
    """Territories, plans, their moves, and whose customers lie where."""

    territories = Standard(Territory)
    territory_plans = Standard(TerritoryPlan)
    territory_accounts = Standard(TerritoryAccount)
    territory_moves = Standard(TerritoryMove)

    async def PreviewTerritoryPlan(self, request: Any, call: Call) -> TerritoryPlan:
        plan = await call.load(TerritoryPlan, request)
        await plan.start_preview(call)
        return plan

    async def AddTerritoryMember(self, request: pb.AddTerritoryMemberRequest, call: Call) -> Territory:
        territory = await call.load(Territory, request)
        territory.add_member(request.member, call)
        await start(call, MEMBERS, territory.name, {}, f"system/{call.running.app.name}")
        return territory

    async def RemoveTerritoryMember(self, request: pb.RemoveTerritoryMemberRequest, call: Call) -> Territory:
        territory = await call.load(Territory, request)
        until = request.to_time.ToDatetime(UTC) if request.HasField("to_time") else None
        territory.remove_member(request.employee, until, call)
        await start(call, MEMBERS, territory.name, {}, f"system/{call.running.app.name}")
        return territory

    async def ListTerritoryPlanMoves(
        self, request: pb.ListTerritoryPlanMovesRequest, call: Call
    ) -> pb.ListTerritoryPlanMovesResponse:
        plan = await call.load(TerritoryPlan, request.name, lock=False)
        size = min(request.page_size or 50, LISTED)
        keys = set(plan.key_levels) or {"A"}
        cut = await Cut.of(plan, plan.effective_time or call.now, call)
        reply = pb.ListTerritoryPlanMovesResponse()
        before = getattr(request, "from")  # a word of the language
        async for one in decisions(cut, call, request.page_token):
            customer = one.customer
            if (
                not one.moves
                or (before or customer.owner) != customer.owner
                or (request.to or one.to) != one.to
            ):
                continue
            if len(reply.moves) == size:
                reply.next_page_token = reply.moves[-1].account
                break
            general = one.matches.get("")
            reply.moves.add(
                account=customer.place.name, display_name=customer.display_name, to=one.to, criterion=one.criterion,
                matched=one.matched, territory=general.code if general else "", key=customer.level in keys,
                **coming_from(customer.owner),
            )  # fmt: skip
        return reply

    async def ListTerritoryCustomers(
        self, request: pb.ListTerritoryCustomersRequest, call: Call
    ) -> dict[str, Any]:
        territory = await call.load(Territory, request.name, lock=False)
        inside = {territory.name}
        if not request.alone:
            every_one = await in_force(call)
            codes = TerritoryMap(as_nodes(every_one)).beneath(territory.code)
            inside |= {one.name for one in every_one if one.code in codes}
        page = await call.page(TerritoryAccount, request, TerritoryAccount.territory.in_(inside))
        here = [shown(row, call) for row in page.rows]
        names = sorted({one.account for one in here})
        people = await call.db.scalars(
            select(AccountPerson)
            .where(AccountPerson.account.in_(names))
            .order_by(AccountPerson.name)
            .limit(PEOPLE)
        )
        return {
            "territory_accounts": here,
            "next_page_token": page.next_page_token,
            "people": [
                pb.ListTerritoryCustomersResponse.Person(
                    contact=one.name, display_name=one.display_name, account=one.account, title=one.title
                )
                for one in people
            ],
        }  # fmt: skip


async def _failed(run: Run, problem: Problem, call: Call) -> None:
    """A plan that cannot go on rests, and says so; whoever takes it up again resumes it."""
    plan = await call.named(TerritoryPlan, run.about, lock=True)
    if plan is not None:
        plan.paused = True


RUNS = {
    PREVIEW: Kind(_preview, _failed),
    PLAN: Kind(_while("SCHEDULED", _write_plan), _failed),
    APPLY: Kind(_while("APPLYING", _apply), _failed),
    UNDO: Kind(_while("UNDOING", _undo), _failed),
    MEMBERS: Kind(_tell_members, _failed),
}
HANDLERS = [on_territory_moves_applied, on_customers_changed, on_people_changed, on_holds_changed]
