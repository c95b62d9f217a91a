"""Handovers: somebody leaves, and everything has somebody again, over all services, and back."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.mapping import read_date
from crmkit.testing import Refused, Service, local_date
from customer import transfers
from customer.disputes import working_days_after
from customer.sea.jobs import keep_dates
from sqlalchemy import text

State, Item = pb.Transfer.State, pb.TransferItem.State
# What a change of owner changes, and what other services write of their own accord.
_OWNED = {"owner", "department", "collaborators", "collaborations", "owner_time", "owner_how", "owner_from"}
# What links are called is looked up again, and what they name is heard of later.
_OWNED |= {"link_labels"}


async def reached(service: Service, name: str, *states: int) -> Any:
    async def look() -> Any:
        found = await service.admin.GetTransfer(name=name)
        return found if found.state in states else None

    return await service.eventually(look, 60)


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def items(service: Service, transfer: str, **wanted: str) -> dict[str, Any]:
    found = (
        await service.admin.ListTransferItems(filter=f'transfer = "{transfer}"', pageSize=200)
    ).transfer_items
    return {one.item: one for one in found if all(getattr(one, k) == v for k, v in wanted.items())}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, set[str]]:
    """Which columns of which records are not as they were."""
    return {
        key: columns
        for key, row in before.items()
        if (columns := {c for c in row if row[c] != after.get(key, {}).get(c)})
    }


@pytest.mark.capability("c.handover")
async def test_everything_of_a_leaver_goes_to_others_in_all_services_and_comes_back(world: Any) -> None:
    customer = world.customer
    leaver, one, two = (customer.person(who).employee for who in ("sales1", "sales2", "manager"))
    told = await world.business("交接精密轴承有限公司")
    shanghai = await customer.sales1.CreateAccount(
        account={
            "displayName": "交接沪上仪表有限公司",
            "addresses": [{"line": "徐汇1号", "divisionCode": "310104"}],
        }
    )
    contact = await customer.sales1.CreateContact(contact={"displayName": "沪某", "account": shanghai.name})
    lead = await world.sales.client("sales1").CreateLead(
        lead={"displayName": "交接线索", "companyName": "交接线索科技"}
    )
    await world.settled()
    made = await customer.manager.CreateTransfer(
        transfer={
            "from": leaver, "reason": "MOVE",
            "plan": [
                {"collections": ["accounts"], "divisions": ["31"], "to": [one]},
                {"items": [told["deal"]], "to": [one]},
                {"to": [two]},
            ],
        }
    )  # fmt: skip
    await customer.manager.PreviewTransfer(name=made.name)
    previewed = await reached(customer, made.name, State.PREVIEWED)
    counted = {(c.service, c.collection): (c.open, c.closed) for c in previewed.preview}
    assert counted["sales", "opportunities"][0] >= 1 and counted["sales", "leads"][0] >= 1
    assert counted["customer", "accounts"][0] >= 2
    before = await world.contents()
    await customer.manager.RunTransfer(name=made.name, requestId=uuid4().hex)
    waiting = await reached(customer, made.name, State.AWAITING_ACCEPTANCE)
    await world.settled()
    after = await world.contents()
    assert not waiting.left
    # Nothing open is the leaver's any more, in any service.
    for name, service in world.services.items():
        async with service.running.system_call("test", None) as call:
            for model in service.running.app.models:
                from crmkit.handing import goes_along, still_open
                from sqlalchemy import select

                if goes_along(model):
                    mine = select(model.id).where(model.owner == leaver, still_open(model))
                    assert not (await call.db.scalars(mine)).all(), (name, model)
    moved = await items(customer, made.name)
    assert moved[shanghai.name].to == moved[told["deal"]].to == one
    assert moved[told["account"]].to == moved[lead.name].to == moved[told["contract"]].to == two
    assert (await customer.admin.GetContact(name=contact.name)).owner == one
    # Stage, state, amounts, follow-ups and links are as they were.
    own = {key: columns - _OWNED for key, columns in changes(before, after).items()}
    assert not {k: c for k, c in own.items() if c and not k.startswith("customer.transfers/")}
    (last, *_) = (await customer.admin.ListOwnerHistory(name=shanghai.name)).changes
    manager = customer.person("manager").employee
    assert (last.kind, getattr(last, "from"), last.employee, last.actor, last.cause) == (
        pb.PoolClaim.TRANSFER, leaver, one, manager, made.name,
    )  # fmt: skip
    # The one before may still read for a while, and the new one reads the whole history.
    kept = await customer.sales1.GetAccount(name=shanghai.name)
    assert [(c.employee, c.access) for c in kept.collaborations] == [(leaver, "READ")]
    # A receiver declines: it goes to the superior, with what belongs to it.
    assert await refusal(customer.sales2.DeclineTransfer(name=made.name, items=[lead.name], reason="不是我的")) == "NOT_RECEIVER"  # fmt: skip
    await customer.sales2.DeclineTransfer(name=made.name, items=[shanghai.name], reason="行业不熟")
    await reached(customer, made.name, State.AWAITING_ACCEPTANCE)
    zong = customer.person("zong").employee
    assert (await customer.admin.GetAccount(name=shanghai.name)).owner == zong
    declined = (await items(customer, made.name))[shanghai.name]
    assert (declined.to, declined.reason, declined.batch, declined.state) == (zong, "行业不熟", 2, Item.MOVED)
    for client in (customer.sales2, customer.client("zong")):
        accepted = await client.AcceptTransfer(name=made.name)
    assert accepted.state == State.DONE
    # Taken back as far as nobody has changed it since.
    await world.sales.client("manager").UpdateLead(
        lead={"name": lead.name, "need": "改过"}, updateMask="need"
    )
    await world.settled()
    await customer.manager.UndoTransfer(name=made.name, requestId=uuid4().hex)
    undone = await reached(customer, made.name, State.UNDONE)
    assert [(left.name, left.reason) for left in undone.left] == [(lead.name, "CHANGED")]
    await world.settled()
    assert (await customer.admin.GetAccount(name=shanghai.name)).owner == leaver
    assert (await world.sales.admin.GetOpportunity(name=told["deal"])).owner == leaver
    back = changes(before, await world.contents())
    mine = {k: c & {"owner", "department"} for k, c in back.items() if k != f"sales.{lead.name}"}
    assert not {
        k for k, c in mine.items() if c and not k.startswith(("customer.timeline", "customer.transfer"))
    }


async def answered(customer: Service, name: str, kind: str, **payload: Any) -> None:
    """The seven other services answer: they have nothing of the person."""
    for service in sorted(transfers.SERVICES - {"customer"}):
        body = {"transfer": name, "service": service, **payload}
        await customer.tell(f"crm.{service}.v1.{kind}", body)


async def previewed(customer: Service, leaver: str, **fields: Any) -> Any:
    made = await customer.admin.CreateTransfer(transfer={"from": leaver, "reason": "REBALANCE", **fields})
    asked = await customer.admin.PreviewTransfer(name=made.name)
    await answered(customer, made.name, "TransferPreviewed", time=asked.preview_time.ToJsonString())
    return await reached(customer, made.name, State.PREVIEWED)


async def at(customer: Service, now: datetime) -> None:
    async with customer.running.system_call("test", None) as call:
        call.now = now
        await transfers.watch_transfers(now, call)


async def put(customer: Service, who: str, **fields: Any) -> None:
    """An entry of the configuration, as workspace publishes it."""
    key = f"employee.{who.rpartition('/')[2]}"
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, fields)
    await customer.eventually(lambda: customer.running.config.get(key) == fields)


@pytest.mark.capability("c.handover")
async def test_what_stands_against_a_handover_is_said_before_anything_moves(customer: Service) -> None:
    leaver, gone = f"employees/{uuid4()}", f"employees/{uuid4()}"
    place = customer.person("sales1").department
    await put(customer, leaver, department=place, disabled=False, roles=[], displayName="走之前", superior="")
    await put(customer, gone, department=place, disabled=True, roles=[], displayName="已走")
    to = customer.person("everything").employee
    client = customer.admin
    tag = uuid4().hex
    made = [(await client.CreateAccount(account={"displayName": f"阻碍{n}{tag}", "tags": [tag], "owner": leaver})).name for n in range(3)]  # fmt: skip
    draft = await client.CreateTransfer(transfer={"from": leaver, "reason": "LEAVE"})
    run = client.RunTransfer
    assert await refusal(run(name=draft.name, requestId=uuid4().hex)) == "TRANSFER_PREVIEW_INCOMPLETE"
    empty = await previewed(customer, leaver)
    assert await refusal(run(name=empty.name, requestId=uuid4().hex)) == "TRANSFER_PLAN_EMPTY"
    late = await previewed(customer, leaver, plan=[{"to": [gone]}])
    assert await refusal(run(name=late.name, requestId=uuid4().hex)) == "EMPLOYEE_INACTIVE"
    assert await refusal(customer.sales1.PreviewTransfer(name=late.name)) == "PERMISSION_DENIED"
    for wrong in ({"to": [leaver]}, {}, {"to": [to], "filter": "level = A"}):
        assert await refusal(client.CreateTransfer(transfer={"from": leaver, "reason": "MOVE", "plan": [wrong]})) == "VALIDATION"  # fmt: skip
    plan = [{"collections": ["accounts"], "filter": f'tags:"{tag}"', "to": [to]}]
    ready = await previewed(customer, leaver, plan=plan)
    # A key account without a note.
    async with customer.running.system_call("test", None) as call:
        key = {"id": made[0].partition("/")[2]}
        await call.db.execute(
            text("UPDATE sea_states SET key_account = true WHERE account = CAST(:id AS uuid)"), key
        )
    assert await refusal(run(name=ready.name, requestId=uuid4().hex)) == "HANDOVER_NOTE_MISSING"
    note = {
        "account": made[0],
        "state": "年框谈判中",
        "promises": "三月前报价",
        "people": "王总",
        "nextStep": "约见",
    }
    await client.UpdateTransfer(transfer={"name": ready.name, "notes": [note]}, updateMask="notes")
    rule = await client.CreatePoolRule(
        poolRule={"capacity": [{"scope": to, "limit": 2, "countWhen": f'tags:"{tag}"'}]}
    )
    await client.SimulatePoolRule(name=rule.name, days=1)

    async def simulated() -> bool:
        return (await client.GetPoolRule(name=rule.name)).simulation.state == pb.PoolRule.Simulation.DONE

    await customer.eventually(simulated, 60)
    await client.ActivatePoolRule(name=rule.name)
    assert await refusal(run(name=ready.name, requestId=uuid4().hex)) == "CAPACITY_EXCEEDED"
    async with customer.running.system_call("test", None) as call:
        old = {"id": rule.name.partition("/")[2]}
        await call.db.execute(
            text("UPDATE pool_rules SET state = 'RETIRED' WHERE id = CAST(:id AS uuid)"), old
        )
    assert {(await client.GetAccount(name=name)).owner for name in made} == {leaver}
    # At its time, evenly, and silence is yes.
    other = customer.person("stranger").employee
    later = datetime.now(UTC) + timedelta(hours=1)
    fields = {
        "plan": [{**plan[0], "to": [to, other]}],
        "effectiveTime": later.isoformat().replace("+00:00", "Z"),
    }
    await client.UpdateTransfer(transfer={"name": ready.name, **fields}, updateMask="plan,effectiveTime")
    scheduled = await run(name=ready.name, requestId=uuid4().hex)
    assert scheduled.state == State.SCHEDULED
    another = await previewed(customer, leaver, plan=plan)
    assert await refusal(run(name=another.name, requestId=uuid4().hex)) == "TRANSFER_RUNNING"
    await at(customer, later - timedelta(minutes=1))
    assert (await client.GetTransfer(name=ready.name)).state == State.SCHEDULED
    await at(customer, later + timedelta(minutes=1))

    async def told() -> Any:
        return await customer.facts("crm.customer.v1.TransferStarted", ready.name)

    (fact,) = await customer.eventually(told, 60)
    assert sorted(len(one["accounts"]) for one in fact["customers"]) in ([1, 2], [3])
    await answered(customer, ready.name, "TransferApplied", batch=1, direction="RUN", last=True)
    waiting = await reached(customer, ready.name, State.AWAITING_ACCEPTANCE)
    assert waiting.moved == 3
    assert await refusal(client.AcceptTransfer(name=ready.name)) == "NOT_RECEIVER"
    until = waiting.accept_until_time.ToDatetime(UTC)
    for _ in range(2):
        await at(customer, until + timedelta(seconds=1))
    assert (await client.GetTransfer(name=ready.name)).state == State.DONE
    assert {one.state for one in (await items(customer, ready.name)).values()} == {Item.SILENT}
    async with customer.running.system_call("test", None) as call:
        past = {"id": ready.name.partition("/")[2]}
        await call.db.execute(
            text("UPDATE transfers SET undo_until_time = now() WHERE id = CAST(:id AS uuid)"), past
        )
    assert await refusal(client.UndoTransfer(name=ready.name, requestId=uuid4().hex)) == "UNDO_EXPIRED"


@pytest.mark.capability("c.handover")
async def test_who_hands_over_reads_on_for_a_while_but_not_after_resigning_and_receivers_have_three_working_days(
    customer: Service,
) -> None:
    leaver, to = f"employees/{uuid4()}", customer.person("everything").employee
    place = customer.person("sales1").department
    await put(customer, leaver, department=place, disabled=False, roles=[], displayName="交接人", superior="")
    for reason, said, days in (("MOVE", 0, 14), ("LEAVE", 5, 5), ("RESIGN", 5, None)):
        account = await customer.admin.CreateAccount(
            account={"displayName": f"余晖{uuid4().hex}", "owner": leaver}
        )
        plan = [{"collections": ["accounts"], "to": [to]}]
        ready = await previewed(customer, leaver, reason=reason, afterglowDays=said, plan=plan)
        await customer.admin.RunTransfer(name=ready.name, requestId=uuid4().hex)

        async def told(name: str = ready.name) -> Any:
            return await customer.facts("crm.customer.v1.TransferStarted", name)

        await customer.eventually(told, 60)
        await answered(customer, ready.name, "TransferApplied", batch=1, direction="RUN", last=True)
        waiting = await reached(customer, ready.name, State.AWAITING_ACCEPTANCE)
        async with customer.running.system_call("test", None) as call:
            begun = await working_days_after(call.now, 3, call)
        assert begun - timedelta(minutes=1) < waiting.accept_until_time.ToDatetime(UTC) <= begun
        moved = await customer.admin.GetAccount(name=account.name)
        assert moved.owner == to
        shared = {(c.employee, c.access, read_date(c.until_date)) for c in moved.collaborations}
        if days is None:
            assert not shared
            continue
        last = local_date() + timedelta(days=days)
        assert shared == {(leaver, "READ", last)}

        # On that day still, and never after it.
        async def readers(later: int, name: str = account.name) -> int:
            async with customer.running.system_call("test", None) as call:
                call.now += timedelta(days=later)
                await keep_dates(call.now, call)
            return len((await customer.admin.GetAccount(name=name)).collaborations)

        assert await readers(days) == 1

        async def over(later: int = days + 1) -> bool:
            # One whose row a handler holds waits for the next round.
            return await readers(later) == 0

        await customer.eventually(over)


@pytest.mark.capability("c.handover")
async def test_who_loses_access_leaves_customers_that_somebody_looks_after(customer: Service) -> None:
    leaver, heir = f"employees/{uuid4()}", customer.person("everything").employee
    boss, place = customer.person("manager"), customer.person("sales1").department
    here = {"department": place, "roles": [], "displayName": "冻结人", "superior": boss.employee}
    await put(customer, leaver, disabled=False, **here)
    account = await customer.admin.CreateAccount(
        account={"displayName": f"冻结{uuid4().hex}", "owner": leaver}
    )
    pool = await customer.admin.CreatePool(
        pool={"displayName": f"交接公海{uuid4().hex[:6]}", "memberDepartments": [place]}
    )
    pooled = await customer.admin.CreateAccount(
        account={"displayName": f"入海{uuid4().hex}", "owner": leaver}
    )
    employee = {"name": leaver, "department": place, "superior": boss.employee, "displayName": "冻结人"}

    async def frozen() -> Any:
        found = await customer.admin.GetAccount(name=account.name)
        return found if found.state == pb.Account.FROZEN else None

    async def draft() -> Any:
        found = (await customer.admin.ListTransfers(filter=f'from = "{leaver}" AND state = DRAFT')).transfers
        return found[0] if found else None

    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await customer.tell(
        "crm.workspace.v1.EmployeeFrozen", {"employee": employee, "time": now}, leaver, times=2
    )
    held = await customer.eventually(frozen, 30)
    assert held.sea_exemption in ("FROZEN", "") and not held.HasField("sea_due_time")
    assert [(c.employee, c.access) for c in held.collaborations] == [(boss.employee, "WORK")]
    first = await customer.eventually(draft)
    assert (first.owner, first.HasField("deadline")) == (boss.employee, True)
    # Back again: the draft is given up, the customers thaw.
    thawed = {"name": leaver, "action": "UPDATED", "resource": {**employee, "state": "ACTIVE"}}
    await customer.tell("crm.workspace.v1.ResourceChanged", thawed, leaver, 5)

    async def active() -> bool:
        found = await customer.admin.GetAccount(name=account.name)
        return found.state == pb.Account.ACTIVE and not found.collaborations

    await customer.eventually(active, 30)
    assert (await customer.admin.GetTransfer(name=first.name)).state == State.CANCELLED
    # For good: not handed over in time it is said every day, and in the end the plan wins and the heir fills it.
    await customer.tell("crm.workspace.v1.EmployeeFrozen", {"employee": employee, "time": now}, leaver)
    await customer.eventually(frozen, 30)
    second = await customer.eventually(draft)

    async def late() -> list[Any]:
        # The job skips what another transaction holds, as that of the freeze may just do.
        await at(customer, second.deadline.ToDatetime(UTC) + timedelta(minutes=1))
        told = await customer.facts("crm.customer.v1.NoticeRaised")
        return [n for n in told if second.name in n.get("subjects", ()) and "late" in n["dedupeKey"]]

    notices = await customer.eventually(late)
    assert boss.employee in notices[0]["employees"]
    await customer.admin.UpdateTransfer(
        transfer={"name": second.name, "plan": [{"items": [pooled.name], "pool": pool.name}]},
        updateMask="plan",
    )
    before = (await customer.admin.ListUnattendedAccounts(pageSize=1)).total
    await put(customer, leaver, disabled=True, **here)
    unattended = await customer.admin.ListUnattendedAccounts(pageSize=1)
    assert (unattended.total, len(unattended.accounts)) == (before + 2, 1)
    await customer.tell(
        "crm.workspace.v1.EmployeeOffboarded",
        {
            "employee": employee,
            "successor": boss.employee,
            "time": now,
            "successions": [{"collections": ["accounts"], "successor": heir}],
        },
        leaver,
        times=2,
    )

    async def taken() -> Any:
        found = await customer.admin.GetAccount(name=account.name)
        return found if found.owner == heir else None

    found = await customer.eventually(taken, 60)
    assert (found.state, list(found.collaborations)) == (pb.Account.ACTIVE, [])
    assert (await customer.admin.GetAccount(name=pooled.name)).pool == pool.name
    unattended = (await customer.admin.ListUnattendedAccounts()).accounts
    assert not {account.name, pooled.name} & {one.name for one in unattended}
    runs = (await customer.admin.ListTransfers(filter=f'from = "{leaver}" AND state = RUNNING')).transfers
    assert [(one.name, one.successor) for one in runs] == [(second.name, boss.employee)]


@pytest.mark.capability("c.handover")
@pytest.mark.parametrize("scheduled", [False, True])
async def test_a_handover_prepared_before_somebody_loses_access_is_the_one_that_waits(
    customer: Service, scheduled: bool
) -> None:
    leaver, place = f"employees/{uuid4()}", customer.person("sales1").department
    boss = customer.person("manager").employee
    here = {"department": place, "roles": [], "displayName": "将离人", "superior": boss}
    await put(customer, leaver, disabled=False, **here)
    account = await customer.admin.CreateAccount(
        account={"displayName": f"将离{uuid4().hex}", "owner": leaver}
    )
    plan = [{"to": [customer.person("everything").employee]}]
    later = (datetime.now(UTC) + timedelta(days=30)).isoformat().replace("+00:00", "Z")
    # One that has its day goes on whatever its reason.
    reason = "LEAVE" if scheduled else "MOVE"
    day = {"effectiveTime": later} if scheduled else {}
    prepared = await previewed(customer, leaver, reason=reason, plan=plan, **day)
    if scheduled:
        prepared = await customer.admin.RunTransfer(name=prepared.name, requestId=uuid4().hex)
        assert prepared.state == State.SCHEDULED
    employee = {"name": leaver, "department": place, "superior": boss, "displayName": "将离人"}
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await customer.tell(
        "crm.workspace.v1.EmployeeFrozen", {"employee": employee, "time": now}, leaver, times=2
    )

    async def held(state: Any) -> Any:
        found = await customer.admin.GetAccount(name=account.name)
        return found if found.state == state else None

    frozen = await customer.eventually(lambda: held(pb.Account.FROZEN), 30)
    assert [(one.employee, one.access) for one in frozen.collaborations] == [(boss, "WORK")]
    (draft,) = (await customer.admin.ListTransfers(filter=f'from = "{leaver}"')).transfers
    assert (draft.name, draft.HasField("deadline"), len(draft.plan)) == (prepared.name, True, 1)
    # Back again: what was planned for another reason is not lost.
    thawed = {"name": leaver, "action": "UPDATED", "resource": {**employee, "state": "ACTIVE"}}
    await customer.tell("crm.workspace.v1.ResourceChanged", thawed, leaver, 5)
    await customer.eventually(lambda: held(pb.Account.ACTIVE), 30)
    draft = await customer.admin.GetTransfer(name=prepared.name)
    assert (draft.state, draft.HasField("deadline")) == (prepared.state, False)


@pytest.mark.capability("c.handover")
async def test_nobody_rests_for_good_and_a_late_day_is_reminded_of(customer: Service) -> None:
    leaver, place = f"employees/{uuid4()}", customer.person("sales1").department
    boss = customer.person("manager").employee
    here = {"department": place, "roles": [], "displayName": "久别人", "superior": boss}
    await put(customer, leaver, disabled=False, **here)
    account = await customer.admin.CreateAccount(
        account={"displayName": f"久别{uuid4().hex}", "owner": leaver}
    )
    later = (datetime.now(UTC) + timedelta(days=60)).isoformat().replace("+00:00", "Z")
    plan = [{"to": [customer.person("everything").employee]}]
    ready = await previewed(customer, leaver, reason="LEAVE", plan=plan, effectiveTime=later)
    await customer.admin.RunTransfer(name=ready.name, requestId=uuid4().hex)
    employee = {"name": leaver, "department": place, "superior": boss, "displayName": "久别人"}
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await customer.tell("crm.workspace.v1.EmployeeFrozen", {"employee": employee, "time": now}, leaver)

    async def state(wanted: Any) -> bool:
        return (await customer.admin.GetAccount(name=account.name)).state == wanted

    await customer.eventually(lambda: state(pb.Account.FROZEN), 30)

    async def late() -> list[Any]:
        held = await customer.admin.GetTransfer(name=ready.name)
        await at(customer, held.deadline.ToDatetime(UTC) + timedelta(minutes=1))
        told = await customer.facts("crm.customer.v1.NoticeRaised")
        return [n for n in told if ready.name in n.get("subjects", ()) and "late" in n["dedupeKey"]]

    await customer.eventually(late)
    assert (await customer.admin.GetTransfer(name=ready.name)).state == State.SCHEDULED
    # Given up while the person is away: with the person the customers come back all the same.
    await customer.admin.CancelTransfer(name=ready.name)
    thawed = {"name": leaver, "action": "UPDATED", "resource": {**employee, "state": "ACTIVE"}}
    await customer.tell("crm.workspace.v1.ResourceChanged", thawed, leaver, 5)
    await customer.eventually(lambda: state(pb.Account.ACTIVE), 30)
    assert not (await customer.admin.GetAccount(name=account.name)).collaborations
