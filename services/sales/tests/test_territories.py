"""Territories: cut anew with a preview, in force by batches, taken back, worked in from one instant to another."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.model.lead import Lead
from sales.model.territory_plan import TerritoryPlan
from sales.territories import begin_territory_plans, follow_members
from sales.territory_map import Place, TerritoryMap
from sqlalchemy import text, update
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
Plan = pb.TerritoryPlan
TOLD = "crm.sales.v1.TerritoryPlanApplied"


def node(code: str, **fields: Any) -> Any:
    return Plan.Node(code=code, display_name=code, **fields)


def criteria(**fields: Any) -> Any:
    return pb.TerritoryCriteria(**fields)


async def reached(sales: Service, name: str, state: int) -> Any:
    async def look() -> Any:
        found = await sales.admin.GetTerritoryPlan(name=name)
        return found if found.state == state and not found.paused else None

    return await sales.eventually(look, 60)


async def morning(sales: Service, job: Any, when: datetime | None = None) -> None:
    async with sales.running.call("test", system("sales")) as call:
        await job(when or datetime.now(UTC), call)


async def moment(sales: Service, plan: str, **times: datetime) -> None:
    """Sets an instant of a plan, as if time had gone by."""
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(
            update(TerritoryPlan).where(TerritoryPlan.id == plan.partition("/")[2]).values(**times)
        )


async def scheduled(sales: Service, tree: list[dict[str, Any]], **choices: Any) -> Any:
    """A plan of that tree, previewed and on its way."""
    body = {"displayName": "划分", "effectiveTime": "2026-01-01T00:00:00Z", "tree": tree, **choices}
    plan = await sales.admin.CreateTerritoryPlan(territoryPlan=body)
    await sales.admin.PreviewTerritoryPlan(name=plan.name)
    seen = await reached(sales, plan.name, Plan.PREVIEWED)
    notes = [{"account": row.account, "text": "无"} for row in seen.preview.key_accounts]
    await sales.admin.UpdateTerritoryPlan(
        territoryPlan={"name": plan.name, "notes": notes}, updateMask="notes"
    )
    return await sales.admin.ScheduleTerritoryPlan(name=plan.name, digest=seen.digest)


async def put_in_force(sales: Service, tree: list[dict[str, Any]]) -> Any:
    """A plan of that tree, applied."""
    plan = await scheduled(sales, tree)

    async def started() -> bool:
        await morning(sales, begin_territory_plans)
        return (await sales.admin.GetTerritoryPlan(name=plan.name)).state != Plan.SCHEDULED

    await sales.eventually(started, 60)
    await settled(sales, plan.name, Plan.APPLIED)
    return plan


async def lies(sales: Service, account: str) -> dict[str, Any]:
    found = await sales.admin.ListTerritoryAccounts(filter=f'account = "{account}"')
    return {row.product_line: row for row in found.territory_accounts}


def test_the_narrowest_criterion_decides_then_priority_and_code_and_equal_right_is_an_overlap() -> None:
    tree = TerritoryMap([
        node("cn", fallback=True),
        node("zj", parent="cn", criteria=criteria(divisions=["330000"])),
        node("hz", parent="zj", criteria=criteria(divisions=["330100"])),
        node("xh", parent="hz", criteria=criteria(divisions=["330106"])),
        node("post", criteria=criteria(postcodes=[{"from": "310000", "to": "310012"}])),
        node("named", criteria=criteria(named_accounts=["accounts/1"])),
        node("steel", criteria=criteria(industries=["钢铁"])),
        node("big", criteria=criteria(min_employees=1000)),
        node("small", criteria=criteria(max_employees=50)),
        node("b-first", criteria=criteria(divisions=["4401"]), priority=1),
        node("a-second", criteria=criteria(divisions=["440100"])),
        node("twin-b", criteria=criteria(divisions=["5101"])),
        node("twin-a", criteria=criteria(divisions=["5101"])),
        node("pumps", product_line="泵", criteria=criteria(divisions=["33"])),
    ])  # fmt: skip

    def decided(**fields: Any) -> tuple[str, str, str]:
        match = tree.match(Place(**{"name": "accounts/9", **fields}))[""]
        return match.code, match.criterion, match.value

    west_lake = {"division": "330106", "postcode": "310007", "industry": "钢铁", "employees": 2000}
    assert decided(**west_lake, name="accounts/1") == ("named", "NAMED_ACCOUNT", "accounts/1")
    assert decided(**west_lake) == ("post", "POSTCODE", "310007")
    assert decided(**{**west_lake, "postcode": "310013"}) == ("xh", "DISTRICT", "330106")
    assert decided(division="330100", industry="钢铁") == ("hz", "CITY", "3301")
    assert decided(division="330212") == ("zj", "PROVINCE", "33")
    assert decided(division="110101", industry="钢铁", employees=2000) == ("steel", "INDUSTRY", "钢铁")
    assert decided(employees=1000) == ("big", "SIZE", "1000")
    assert decided(employees=50) == ("small", "SIZE", "50")
    assert decided(employees=51) == ("cn", "DEFAULT", "")
    assert decided(division="440106") == ("b-first", "CITY", "4401")
    overlap = tree.match(Place("accounts/9", "510104"))[""]
    assert (overlap.code, overlap.rivals) == ("twin-a", ("twin-b",))
    # One territory for each product line that has any.
    assert {line: one.code for line, one in tree.match(Place("accounts/9", "330106")).items()} == {
        "": "xh",
        "泵": "pumps",
    }
    assert tree.beneath("zj") == {"zj", "hz", "xh"}


async def answer(sales: Service, plan: str, answered: set[tuple[int, bool]], **left: str) -> None:
    """The customer service does what it was told, but for those that it leaves; it says so twice."""
    for fact in await sales.facts(TOLD, plan):
        batch = fact["batch"], fact.get("undo", False)
        if fact.get("plan") != plan or batch in answered:
            continue
        answered.add(batch)
        moves = [one for one in fact["moves"] if one.get("from") != one.get("to")]
        reply = {
            "plan": plan, "batch": fact["batch"], "undo": fact.get("undo", False),
            "moved": [one["account"] for one in moves if one["account"] not in left],
            "left": [{"account": a, "reason": r} for a, r in left.items() if a in {m["account"] for m in moves}],
        }  # fmt: skip
        await sales.tell("crm.customer.v1.TerritoryMovesApplied", reply, plan, times=2)


async def settled(sales: Service, plan: str, state: int, **left: str) -> Any:
    answered: set[tuple[int, bool]] = set()

    async def look() -> Any:
        await answer(sales, plan, answered, **left)
        found = await sales.admin.GetTerritoryPlan(name=plan)
        return found if found.state == state else None

    return await sales.eventually(look, 60)


@pytest.mark.capability("s.telesales")
async def test_a_new_cut_is_looked_at_scheduled_applied_in_batches_and_taken_back(
    sales: Service, account: Made, contact: Made, deal: Made
) -> None:
    one, two, manager = (sales.person(who).employee or "" for who in ("sales1", "sales2", "manager"))
    steel = f"钢铁{uuid4().hex[:4]}"
    lake = {"addresses": [{"divisionCode": "330106", "postcode": "310007"}]}
    phone, other = ([{"number": f"+86139{uuid4().int % 10**8:08d}"}] for _ in range(2))
    moving = await account(**lake, displayName="西湖仪表", level="A", phones=phone)
    pinned, own = await account(**lake), await account(username="sales2", **lake)
    frozen = await account(**lake, state="FROZEN")
    disputed = await account(**lake)
    special = await account(industry=steel)
    later = await account(**lake)
    person = await contact(account=moving, title="厂长", phones=other)
    opened = await deal(account=moving)
    dispute = {"name": f"duplicateCases/{uuid7()}", "state": "IN_ARBITRATION", "account": disputed}
    await sales.tell(
        "crm.customer.v1.ResourceChanged",
        {"name": dispute["name"], "action": "UPDATED", "resource": dispute}, dispute["name"],
    )  # fmt: skip

    def owner(employee: str) -> list[dict[str, Any]]:
        return [{"employee": employee, "role": "OWNER"}]

    tree = [
        {"code": "cn", "displayName": "全国", "fallback": True, "members": owner(one)},
        {"code": "zj", "displayName": "浙江", "parent": "cn", "criteria": {"divisions": ["330000"]}, "members": owner(two)},
        {"code": "hz", "displayName": "杭州", "parent": "zj", "criteria": {"divisions": ["330100"]},
         "members": [{"employee": manager, "access": "READ"}]},
        {"code": "st", "displayName": "钢铁", "criteria": {"industries": [steel]}, "members": owner(manager)},
        {"code": "dup", "displayName": "重复", "criteria": {"industries": [steel]}, "members": owner(two)},
    ]  # fmt: skip
    with pytest.raises(Refused) as refused:
        await sales.admin.CreateTerritoryPlan(
            territoryPlan={"displayName": "错", "effectiveTime": "2026-01-01T00:00:00Z",
                           "tree": [{"code": "x", "displayName": "x", "parent": "y"}]}
        )  # fmt: skip
    assert refused.value.violations == {"territory_plan.tree[0].parent": "OUT_OF_RANGE"}
    plan = await sales.admin.CreateTerritoryPlan(
        territoryPlan={"displayName": "2027 新划分", "effectiveTime": "2026-01-01T00:00:00Z", "tree": tree,
                       "pinnedAccounts": [pinned]}
    )  # fmt: skip
    name = plan.name

    async def preview() -> Any:
        await sales.admin.PreviewTerritoryPlan(name=name)
        return await reached(sales, name, Plan.PREVIEWED)

    seen = await preview()
    assert (seen.preview.overlaps, seen.preview.overlapping[0].reason) == (1, "dup, st")
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert refused.value.reason == "TERRITORY_OVERLAP"
    del tree[-1]
    # Without a territory for all, somebody must be named.
    lone = [{**tree[1], "parent": ""}]
    await sales.admin.UpdateTerritoryPlan(territoryPlan={"name": name, "tree": lone}, updateMask="tree")
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert refused.value.reason == "PREVIEW_STALE"
    gaps = await preview()
    assert gaps.preview.gaps >= 1
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest=gaps.digest)
    assert refused.value.reason == "TERRITORY_GAP"
    await sales.admin.UpdateTerritoryPlan(territoryPlan={"name": name, "tree": tree}, updateMask="tree")
    seen = await preview()
    assert (await preview()).digest == seen.digest
    # Nothing but the plan was written.
    assert await sales.facts(TOLD, name) == []
    [flow] = [f for f in seen.preview.flows if (getattr(f, "from"), f.to) == (one, two)]
    assert flow.accounts >= 2 and flow.deals >= 1
    assert {m.currency_code for m in flow.amounts} == {"CNY"}
    loads = {load.employee: load for load in seen.preview.loads}
    more = sum(f.accounts for f in seen.preview.flows if f.to == two)
    fewer = sum(f.accounts for f in seen.preview.flows if getattr(f, "from") == two)
    assert loads[two].accounts_after - loads[two].accounts_before == more - fewer
    assert loads[two].cities_after >= 1
    excluded = {row.account: row.reason for row in seen.preview.excluded}
    assert (excluded[frozen], excluded[disputed]) == ("HANDOVER", "DISPUTE")
    [key] = [row for row in seen.preview.key_accounts if row.account == moving]
    assert key.display_name == "西湖仪表"
    moves = (
        await sales.admin.ListTerritoryPlanMoves(name=name, **{"from": one, "to": two}, pageSize=200)
    ).moves
    told = {move.account: (move.territory, move.criterion, move.matched, move.key) for move in moves}
    assert told[moving] == ("hz", "CITY", "3301", True)
    assert not {pinned, own, frozen, disputed} & set(told)
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert refused.value.reason == "KEY_ACCOUNT_NOTE_MISSING"
    notes = [{"account": row.account, "text": "年度框架在谈"} for row in seen.preview.key_accounts]
    await sales.admin.UpdateTerritoryPlan(territoryPlan={"name": name, "notes": notes}, updateMask="notes")
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest="0" * 64)
    assert refused.value.reason == "PREVIEW_STALE"
    with pytest.raises(Refused) as refused:
        await sales.sales1.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert refused.value.code.name in ("PERMISSION_DENIED", "NOT_FOUND")
    # A preview holds for a week.
    at = seen.preview_time.ToDatetime(UTC)
    await moment(sales, name, preview_time=at - timedelta(days=8))
    with pytest.raises(Refused) as refused:
        await sales.admin.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert refused.value.reason == "PREVIEW_STALE"
    await moment(sales, name, preview_time=at)
    scheduled = await sales.admin.ScheduleTerritoryPlan(name=name, digest=seen.digest)
    assert scheduled.state == Plan.SCHEDULED

    async def written() -> bool:
        return (await sales.admin.GetTerritoryPlan(name=name)).outcome.planned == seen.preview.moved

    await sales.eventually(written, 60)
    # A dispute about one of them begins after the preview; somebody else comes to lie there.
    begun = {"name": f"duplicateCases/{uuid7()}", "state": "OPEN", "account": later}
    await sales.tell(
        "crm.customer.v1.ResourceChanged",
        {"name": begun["name"], "action": "CREATED", "resource": begun}, begun["name"],
    )  # fmt: skip
    fresh = await account(**lake)
    moved_to_plan = moving

    async def started() -> bool:
        await morning(sales, begin_territory_plans)
        return (await sales.admin.GetTerritoryPlan(name=name)).state != Plan.SCHEDULED

    await sales.eventually(started, 60)
    done = await settled(sales, name, Plan.APPLIED, **{special: "CAPACITY_EXCEEDED"})
    out = done.outcome
    assert (out.dropped, out.added, out.left) == (1, 1, 1)
    assert out.moved + out.left == out.planned - out.dropped + out.added
    state: dict[str, Any] = {}
    for one_of_them in (moving, later, special, fresh):
        mine = f'plan = "{name}" AND account = "{one_of_them}"'
        [move] = (await sales.admin.ListTerritoryMoves(filter=mine)).territory_moves
        state[one_of_them] = (move.state, move.reason, move.added)
    assert state[moving] == (pb.TerritoryMove.MOVED, "", False)
    assert state[later] == (pb.TerritoryMove.DROPPED, "DISPUTE", False)
    assert state[special] == (pb.TerritoryMove.LEFT, "CAPACITY_EXCEEDED", False)
    assert state[fresh] == (pb.TerritoryMove.MOVED, "", True)
    # Each batch says who works on which customer.
    batches = await sales.facts(TOLD, name)
    assert all(len(fact["moves"]) <= 500 for fact in batches)
    [move] = [m for fact in batches for m in fact["moves"] if m["account"] == moving]
    territories = {
        t.code: t for t in (await sales.admin.ListTerritories(filter='state = "ACTIVE"')).territories
    }
    hz = territories["hz"]
    assert move["collaborators"] == [{"employee": manager, "access": "READ", "territory": hz.name}]
    assert hz.parent == territories["zj"].name
    row = (await lies(sales, moving))[""]
    assert (row.territory, row.criterion, row.matched) == (hz.name, "CITY", "3301")
    listed = await sales.admin.ListTerritoryCustomers(name=territories["zj"].name, pageSize=200)
    assert moving in {row.account for row in listed.territory_accounts}
    assert (person, "厂长") in {(p.contact, p.title) for p in listed.people}
    alone = await sales.admin.ListTerritoryCustomers(name=territories["zj"].name, alone=True, pageSize=200)
    assert moving not in {row.account for row in alone.territory_accounts}

    # Open deals stay with whoever had them, as the plan says.
    resource = {"name": moving, "owner": two, "department": sales.person("sales2").department}
    changed = {"account": resource, "from": one, "to": two, "how": "TERRITORY", "cause": name}
    await sales.tell("crm.customer.v1.AccountOwnerChanged", changed, moving)
    assert (await sales.admin.GetOpportunity(name=opened.name)).owner == one

    # A lead is given to whoever owns the territory that it lies in.
    rule = await sales.admin.CreateAssignmentRule(
        assignmentRule={
            "displayName": "按区域",
            "method": "TERRITORY",
            "position": -5,
            "channels": ["TERRITORY-TEST"],
        }
    )
    await sales.admin.ActivateAssignmentRule(name=rule.name)
    lead = await sales.manager.CreateLead(
        lead={
            "displayName": "杭州线索",
            "divisionCode": "330106",
            "phones": [{"number": f"139{time.time_ns() % 10**8:08d}"}],
        }
    )
    tested = await sales.admin.TestAssignment(lead=lead.name)
    assert rule.name in {reason.rule for reason in tested.reasons} | {tested.rule}
    await sales.admin.UpdateAssignmentRule(
        assignmentRule={"name": rule.name, "channels": []}, updateMask="channels"
    )
    tested = await sales.admin.TestAssignment(lead=lead.name)
    assert (tested.rule, tested.employee) == (rule.name, two)
    await sales.admin.RetireAssignmentRule(name=rule.name)

    # A call list is given to whoever looks after the territory of a customer, of its people, of a lead; what lies
    # nowhere is shared out evenly, as is everything where no way is named.
    typed = [{"displayName": f"散客{n}", "number": f"+86139{uuid4().int % 10**8:08d}"} for n in range(3)]
    book = await sales.admin.CreateCallList(
        callList={
            "displayName": "按区域", "subjects": [moving, person, lead.name], "numbers": typed,
            "members": [{"employee": one}, {"employee": two}],
        }
    )  # fmt: skip
    assert (await sales.admin.GenerateCallList(name=book.name)).added == 6

    async def shares(**fields: Any) -> dict[str, int]:
        reply = await sales.admin.DistributeCallList(name=book.name, again=True, **fields)
        return {share.employee: share.entries for share in reply.shares}

    assert await shares() == {one: 3, two: 3}
    told_shares = await shares(method="TERRITORY")
    listed_entries = await sales.admin.ListCallEntries(filter=f'call_list = "{book.name}"')
    given = {entry.subject: entry.owner for entry in listed_entries.call_entries if entry.subject}
    assert given == dict.fromkeys((moving, person, lead.name), two)
    assert told_shares[two] in (4, 5) and sum(told_shares.values()) == 6
    # Whoever does not call for the list gets nothing by his territory.
    alone_in_it = {"name": book.name, "members": [{"employee": one}]}
    await sales.admin.UpdateCallList(callList=alone_in_it, updateMask="members")
    assert await shares(method="TERRITORY") == {one: 6}

    # Taken back: customers that nobody has changed since.
    until = done.undo_until_time.ToDatetime(UTC)
    await moment(sales, name, undo_until_time=datetime.now(UTC) - timedelta(minutes=1))
    with pytest.raises(Refused) as refused:
        await sales.admin.UndoTerritoryPlan(name=name)
    assert refused.value.reason == "UNDO_EXPIRED"
    await moment(sales, name, undo_until_time=until)
    await sales.admin.UndoTerritoryPlan(name=name)
    undone = await settled(sales, name, Plan.UNDONE, **{fresh: "CHANGED_SINCE"})
    assert undone.outcome.undone == out.moved - 1
    back = [m for fact in await sales.facts(TOLD, name) if fact.get("undo") for m in fact["moves"]]
    assert [(m["from"], m["to"]) for m in back if m["account"] == moved_to_plan] == [(two, one)]
    assert not (await sales.admin.ListTerritories(filter='state = "ACTIVE"')).territories
    assert await lies(sales, moving) == {}
    with pytest.raises(Refused) as refused:
        await sales.admin.UndoTerritoryPlan(name=name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_members_come_and_go_at_their_instants(sales: Service, account: Made) -> None:
    one, two = (sales.person(who).employee or "" for who in ("sales1", "sales2"))
    industry = f"行业{uuid4().hex[:6]}"
    mine = await account(industry=industry)
    plan = await put_in_force(sales, [
        {"code": "m0", "displayName": "其他", "fallback": True, "members": [{"employee": one, "role": "OWNER"}]},
        {"code": "m1", "displayName": industry, "criteria": {"industries": [industry]},
         "members": [{"employee": one, "role": "OWNER"}]},
    ])  # fmt: skip
    [row] = (await lies(sales, mine)).values()
    territory = row.territory

    async def helpers() -> list[str] | None:
        """Whom the latest fact about the customer names."""
        found = [m for fact in await sales.facts(TOLD) for m in fact["moves"] if m["account"] == mine]
        return [c["employee"] for c in found[-1].get("collaborators", [])] if found else None

    begin, end = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(hours=2)
    member = {"employee": two, "access": "READ", "fromTime": begin.isoformat(), "toTime": end.isoformat()}
    await sales.admin.AddTerritoryMember(name=territory, member=member)
    with pytest.raises(Refused) as refused:
        await sales.admin.AddTerritoryMember(name=territory, member={**member, "role": "OWNER"})
    assert refused.value.violations == {"member.role": "OUT_OF_RANGE"}
    with pytest.raises(Refused):
        await sales.sales2.GetTerritoryAccount(name=row.name)
    # The instants are reached by moving them, not by waiting for them.
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await sales.admin.AddTerritoryMember(name=territory, member={**member, "fromTime": soon.isoformat()})

    async def in_there() -> bool:
        await morning(sales, follow_members)
        return await helpers() == [two]

    await sales.eventually(in_there, 60)
    # Lists and search follow.
    assert (await sales.sales2.GetTerritoryAccount(name=row.name)).account == mine
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await sales.admin.RemoveTerritoryMember(name=territory, employee=two, toTime=soon.isoformat())

    async def gone() -> bool:
        await morning(sales, follow_members)
        return await helpers() == []

    await sales.eventually(gone, 60)
    with pytest.raises(Refused):
        await sales.sales2.GetTerritoryAccount(name=row.name)
    with pytest.raises(Refused) as refused:
        await sales.admin.RemoveTerritoryMember(name=territory, employee=two)
    assert refused.value.reason == "MEMBER_UNKNOWN"
    # A customer that comes to lie there is placed at once; its owner stays.
    newcomer = await account(username="sales2", industry=industry)

    async def placed() -> bool:
        return bool(await lies(sales, newcomer))

    await sales.eventually(placed, 30)
    [found] = (await lies(sales, newcomer)).values()
    assert (found.territory, found.criterion, found.owner) == (territory, "INDUSTRY", two)
    await sales.admin.UndoTerritoryPlan(name=plan.name)
    await settled(sales, plan.name, Plan.UNDONE)


@pytest.mark.capability("s.territory")
async def test_a_plan_rests_and_goes_on_where_it_was_keeps_to_overrides_and_takes_open_deals_along(
    sales: Service, account: Made, deal: Made
) -> None:
    one, two, manager = (sales.person(who).employee or "" for who in ("sales1", "sales2", "manager"))
    industry = f"行业{uuid4().hex[:6]}"
    moving, special = await account(industry=industry), await account(industry=industry)
    opened = await deal(account=moving)
    plan = await scheduled(
        sales,
        [
            {"code": "r0", "displayName": "其他", "fallback": True, "members": [{"employee": one, "role": "OWNER"}]},
            {"code": "r1", "displayName": industry, "criteria": {"industries": [industry]},
             "members": [{"employee": two, "role": "OWNER"}]},
        ],
        openDeals="MOVE", overrides=[{"account": special, "to": manager}],
    )  # fmt: skip
    found = (await sales.admin.ListTerritoryPlanMoves(name=plan.name, **{"from": one}, pageSize=200)).moves
    told = {move.account: (move.to, move.criterion) for move in found if move.account in (moving, special)}
    assert told == {moving: (two, "INDUSTRY"), special: (manager, "OVERRIDE")}

    async def rests() -> bool:
        async with sales.running.call("test", system("sales")) as call:
            await begin_territory_plans(datetime.now(UTC), call)
            row = await call.named(TerritoryPlan, plan.name, lock=True)
            if row is None or row.state != "APPLYING":
                return False
            await call.flush()
            await row.pause(call)
        return True

    await sales.eventually(rests, 60)
    with pytest.raises(Refused) as refused:
        await sales.admin.CancelTerritoryPlan(name=plan.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await morning(sales, begin_territory_plans)
    still = await sales.admin.GetTerritoryPlan(name=plan.name)
    assert (still.state, still.paused, await sales.facts(TOLD, plan.name)) == (Plan.APPLYING, True, [])
    assert not (await sales.admin.ResumeTerritoryPlan(name=plan.name)).paused
    done = await settled(sales, plan.name, Plan.APPLIED)
    assert done.outcome.moved == done.outcome.planned - done.outcome.dropped + done.outcome.added
    moves = [m for fact in await sales.facts(TOLD, plan.name) for m in fact["moves"]]
    assert [(m["from"], m["to"]) for m in moves if m["account"] == moving] == [(one, two)]
    assert [m["to"] for m in moves if m["account"] == special] == [manager]
    # The plan says that open deals go along, and so they do with their customer.
    resource = {"name": moving, "owner": two, "department": sales.person("sales2").department}
    changed = {"account": resource, "from": one, "to": two, "how": "TERRITORY", "cause": plan.name}
    await sales.tell("crm.customer.v1.AccountOwnerChanged", changed, moving, times=2)

    async def gone_along() -> bool:
        after = await sales.admin.GetOpportunity(name=opened.name)
        return (after.owner, after.stage) == (two, opened.stage)

    await sales.eventually(gone_along)
    await sales.admin.UndoTerritoryPlan(name=plan.name)
    await settled(sales, plan.name, Plan.UNDONE)


@pytest.mark.capability("s.territory")
async def test_one_plan_is_on_its_way_at_a_time_and_one_that_is_given_up_never_begins(sales: Service) -> None:
    owner = [{"employee": sales.person("sales1").employee, "role": "OWNER"}]
    tree = [{"code": "c0", "displayName": "全国", "fallback": True, "members": owner}]
    first = await scheduled(sales, tree)
    with pytest.raises(Refused) as refused:
        await scheduled(sales, tree)
    assert (refused.value.reason, refused.value.info.metadata["plan"]) == (
        "TERRITORY_PLAN_RUNNING",
        first.number,
    )
    with pytest.raises(Refused) as refused:
        await sales.admin.UpdateTerritoryPlan(
            territoryPlan={"name": first.name, "displayName": "改名"}, updateMask="displayName"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert (await sales.admin.CancelTerritoryPlan(name=first.name)).state == Plan.CANCELLED
    await morning(sales, begin_territory_plans)
    assert (await sales.admin.GetTerritoryPlan(name=first.name)).state == Plan.CANCELLED
    assert await sales.facts(TOLD, first.name) == []
    assert not (await sales.admin.ListTerritories(filter='code = "c0" AND state = "ACTIVE"')).territories
    # Whoever has left comes into no territory.
    second, gone = await put_in_force(sales, tree), sales.person("everything").employee or ""
    [territory] = (await sales.admin.ListTerritories(filter='code = "c0" AND state = "ACTIVE"')).territories
    key, config = f"employee.{gone.partition('/')[2]}", sales.running.config
    entry = config.get(key)
    async with sales.parts.configuration() as bucket:
        await bucket.put(key, {**entry, "disabled": True})
        await sales.eventually(lambda: config.get(key).get("disabled"))
        try:
            with pytest.raises(Refused) as refused:
                await sales.admin.AddTerritoryMember(name=territory.name, member={"employee": gone})
            assert refused.value.reason == "EMPLOYEE_INACTIVE"
        finally:
            await bucket.put(key, entry)
            await sales.eventually(lambda: not config.get(key).get("disabled"))
    await sales.admin.UndoTerritoryPlan(name=second.name)
    await settled(sales, second.name, Plan.UNDONE)


@pytest.mark.capability("s.territory")
async def test_while_the_owner_of_a_territory_is_away_its_leads_go_to_who_works_in_it_then_to_who_owns_what_is_around(
    sales: Service,
) -> None:
    one, two, helper, reader = (
        sales.person(who).employee or "" for who in ("sales1", "sales2", "manager", "everything")
    )
    plan = await put_in_force(sales, [
        {"code": "w0", "displayName": "全国", "fallback": True, "members": [{"employee": one, "role": "OWNER"}]},
        {"code": "w1", "displayName": "云南", "parent": "w0", "criteria": {"divisions": ["530000"]},
         "members": [{"employee": reader, "access": "READ"}, {"employee": helper, "access": "WORK"},
                     {"employee": two, "role": "OWNER"}]},
    ])  # fmt: skip
    body = {"displayName": "按区域", "method": "TERRITORY", "position": -5, "channels": ["WEB"]}
    rule = await sales.admin.CreateAssignmentRule(assignmentRule=body)
    await sales.admin.ActivateAssignmentRule(name=rule.name)
    lead = await sales.manager.CreateLead(
        lead={"displayName": "昆明", "divisionCode": "530102", "channel": "WEB", "externalId": uuid4().hex}
    )
    start, leaves = datetime.now(UTC), dict[str, dict[str, Any]]()

    async def turn(taker: str, **away: str) -> None:
        async def reached() -> bool:
            dry = await sales.manager.TestAssignment(lead=lead.name)
            why = {reason.employee: reason.reason for reason in dry.reasons if reason.rule == rule.name}
            return (
                (dry.rule, dry.employee) == (rule.name, taker) if taker else dry.rule != rule.name
            ) and why == away

        await sales.eventually(reached, 30)
        async with sales.running.call("test", system("sales")) as call:
            new = Lead(display_name="丽江", division_code="530702", channel="WEB", external_id=uuid4().hex)
            got = (await new.capture(call)).owner
        assert got == taker if taker else got not in (one, two, helper)

    async def leave(employee: str) -> None:
        leaves[employee] = told = {
            "name": f"calendarEvents/{uuid4()}", "kind": "LEAVE", "owner": employee, "state": "SCHEDULED",
            "startTime": start.isoformat(), "endTime": (start + timedelta(days=3)).isoformat(),
        }  # fmt: skip
        await sales.tell("crm.workspace.v1.CalendarEventScheduled", {"calendarEvent": told}, told["name"], 1)

    await turn(two)
    await leave(two)
    await turn(helper, **{two: "AWAY"})
    await leave(helper)
    await turn(one, **{two: "AWAY", helper: "AWAY"})
    await leave(one)
    # Nobody of the territory is there: whoever only reads gets none, and the next rule has its turn.
    await turn("", **dict.fromkeys((one, two, helper), "AWAY"))
    for told in leaves.values():
        over = {"calendarEvent": {**told, "state": "CANCELLED"}}
        await sales.tell("crm.workspace.v1.CalendarEventCancelled", over, told["name"], 2)
    await turn(two)
    await sales.admin.RetireAssignmentRule(name=rule.name)
    await sales.admin.UndoTerritoryPlan(name=plan.name)
    await settled(sales, plan.name, Plan.UNDONE)


async def test_many_customers_are_previewed_by_pages_of_the_index_within_the_minute(sales: Service) -> None:
    """20,000 within the budget of 200,000 divided by four; they are gone afterwards."""
    count = 20_000
    made = (
        "INSERT INTO copies (name, collection, payload, version) SELECT 'accounts/ffffffff-' || lpad(n::text, 8, '0'),"
        " 'accounts', jsonb_build_object('name', 'accounts/ffffffff-' || lpad(n::text, 8, '0'), 'displayName', 'K' || n,"
        " 'owner', CAST(:owner AS text), 'state', 'ACTIVE', 'addresses', jsonb_build_array(jsonb_build_object('divisionCode',"
        " CASE n % 4 WHEN 0 THEN '330106' WHEN 1 THEN '310104' WHEN 2 THEN '440106' ELSE '110105' END))), 1"
        " FROM generate_series(1, CAST(:count AS int)) AS n"
    )
    one, two = (sales.person(who).employee or "" for who in ("sales1", "sales2"))
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(text(made), {"owner": one, "count": count})
    try:
        analyst = cast("Any", await asyncpg.connect(sales.parts.admin_url, database="sales"))
        await analyst.execute("ANALYZE copies")
        await analyst.close()
        tree = [
            {"code": "n0", "displayName": "其他", "fallback": True, "members": [{"employee": one, "role": "OWNER"}]},
            {"code": "n1", "displayName": "沪", "criteria": {"divisions": ["31"]}, "members": [{"employee": two, "role": "OWNER"}]},
        ]  # fmt: skip
        plan = await sales.admin.CreateTerritoryPlan(
            territoryPlan={"displayName": "大", "effectiveTime": "2026-01-01T00:00:00Z", "tree": tree}
        )
        begun = time.process_time()
        await sales.admin.PreviewTerritoryPlan(name=plan.name)
        seen = await reached(sales, plan.name, Plan.PREVIEWED)
        assert time.process_time() - begun < 60 / 4
        assert seen.preview.accounts >= count
        assert seen.preview.moved >= count / 4
        assert await sales.facts(TOLD, plan.name) == []
        async with sales.running.call("test", system("sales")) as call:
            page = (
                "EXPLAIN SELECT name FROM copies WHERE collection = 'accounts' AND NOT deleted"
                " AND name > 'accounts/ffffffff-00000100' ORDER BY name LIMIT 2000"
            )
            steps = " ".join((await call.db.execute(text(page))).scalars())
        assert "copies_pkey" in steps and "Sort" not in steps
    finally:
        async with sales.running.call("test", system("sales")) as call:
            await call.db.execute(text("DELETE FROM copies WHERE name LIKE 'accounts/ffffffff-%'"))
