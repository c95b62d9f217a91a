"""Public seas: clocks, returns, claims, quotas, simulation."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.customer.v1 import pb
from crmkit.driver import driver
from crmkit.testing import Client, Refused, Service
from customer.model.account import Account
from customer.model.interaction import Interaction
from customer.model.pool_rule import PoolRule
from customer.sea import emptying, jobs
from customer.sea.clauses import bound, compiled
from customer.sea.follow_up import dice
from sqlalchemy import text

SHANGHAI = ZoneInfo("Asia/Shanghai")
XS1 = "departments/01900000-0000-7000-8000-0000000000d3"
EAST = "departments/01900000-0000-7000-8000-0000000000d1"
# Tests run with as much more patience.
PATIENCE = int(os.environ.get("PATIENCE", "1"))


async def sql(customer: Service, statement: str, **values: Any) -> Any:
    """Runs a statement behind the service, as time and the past would."""
    async with customer.running.system_call("test", None) as call:
        return await call.db.execute(text(statement), values)


async def at(customer: Service, now: datetime, job: Any) -> None:
    """Runs a job as if it were that time."""
    async with customer.running.system_call("test", None) as call:
        call.now = now
        await job(now, call)


async def swept(customer: Service, moment: datetime, *names: str) -> None:
    """Has all that is overdue then go back, and waits for these: one whose row is held waits for the next sweep."""

    async def gone() -> bool:
        after: Any = None
        while True:
            async with customer.running.system_call("test", None) as call:
                call.now = moment
                after = await jobs.return_round(after, call)
            if after is None:
                break
        return all([(await customer.admin.GetAccount(name=name)).pool for name in names])

    await customer.eventually(gone)


async def pool_with(
    customer: Service, rule: dict[str, Any], members: list[str] | None = None, **fields: Any
) -> Any:
    """A pool whose rule is simulated and in force."""
    pool = await customer.admin.CreatePool(
        pool={"displayName": f"公海{uuid4().hex[:6]}", "memberDepartments": [XS1], **fields}
        if members is None
        else {"displayName": f"公海{uuid4().hex[:6]}", "memberEmployees": members, **fields}
    )
    return pool, await in_force(customer, pool.name, rule)


async def in_force(customer: Service, pool: str, rule: dict[str, Any]) -> Any:
    made = await customer.admin.CreatePoolRule(poolRule={"pool": pool, **rule})
    done = await simulated(customer, made.name)
    assert done.simulation.digest == made.digest
    active = await customer.admin.ActivatePoolRule(name=made.name)
    assert active.state == pb.PoolRule.ACTIVE
    return active


async def simulated(customer: Service, name: str, days: int = 90) -> Any:
    await customer.admin.SimulatePoolRule(name=name, days=days)

    async def done() -> Any:
        rule = await customer.admin.GetPoolRule(name=name)
        return rule if rule.simulation.state == pb.PoolRule.Simulation.DONE else None

    return await customer.eventually(done)


def clause(key: str, tag: str, *clocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A clause about accounts with a tag of the test's own, so that tests do not meet."""
    return {"key": key, "when": {"tags": [tag]}, "clocks": list(clocks), **fields}


async def account(client: Client, **fields: Any) -> Any:
    return await client.CreateAccount(account={"displayName": f"客户{uuid4().hex}", **fields})


async def owned_since(customer: Service, name: str, since: datetime) -> None:
    """Sets back since when the account has its owner, also in what the clocks saw."""
    key = name.rpartition("/")[2]
    await sql(customer, "UPDATE accounts SET owner_time = :t WHERE id = CAST(:id AS uuid)", t=since, id=key)
    await sql(
        customer, "DELETE FROM sea_states WHERE account = CAST(:id AS uuid) AND to_time <> 'infinity'", id=key
    )
    await sql(
        customer,
        "UPDATE sea_states SET owned_time = :t, from_time = :t WHERE account = CAST(:id AS uuid)",
        t=since,
        id=key,
    )
    async with customer.running.system_call("test", None) as call:
        from uuid import UUID

        from customer.sea.states import reckon

        await reckon(call, [UUID(key)])


async def observed(customer: Service, name: str, now: datetime, **changes: Any) -> None:
    """What a fact told of the account at that time."""
    async with customer.running.system_call("test", None) as call:
        from uuid import UUID

        from customer.sea.states import observe

        call.now = now
        # Locked, as by everybody who observes: the service's own round may be at it.
        await call.named(Account, name, lock=True)
        await observe(call, {UUID(name.rpartition("/")[2]): changes})


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=SHANGHAI)  # type: ignore[arg-type]


@pytest.mark.capability("c.sea")
async def test_the_day_of_the_return_is_known_from_day_one_and_a_follow_up_moves_it(
    customer: Service,
) -> None:
    tag = uuid4().hex
    _, rule = await pool_with(
        customer, {"clauses": [clause("T-30", tag, {"kind": "NO_FOLLOW_UP", "days": 30})], "graceDays": 1}
    )
    made = await account(customer.sales1, tags=[tag])
    today = datetime.now(SHANGHAI).date()
    due = datetime.combine(today + timedelta(days=31), datetime.min.time(), SHANGHAI)
    assert made.sea_due_time.ToDatetime(UTC) == due
    assert made.sea_clause == "T-30"
    # Logged the day before yesterday, in time: the day it happened counts.
    start = datetime.now(UTC) - timedelta(days=2)
    await owned_since(customer, made.name, datetime.now(UTC) - timedelta(days=20))
    logged = await customer.sales1.CreateInteraction(
        interaction={
            "account": made.name, "channel": "CALL", "startTime": start.isoformat().replace("+00:00", "Z"),
            "summary": "客户确认下周看样品并给出采购计划", "result": "有意向",
        }
    )  # fmt: skip
    assert logged.counts_for_sea
    moved = await customer.sales1.GetAccount(name=made.name)
    day = start.astimezone(SHANGHAI).date() + timedelta(days=31)
    assert moved.sea_due_time.ToDatetime(UTC) == datetime.combine(day, datetime.min.time(), SHANGHAI)
    assert rule.revision == 1


async def test_only_real_follow_ups_count_and_the_others_say_why(customer: Service) -> None:
    made = await account(customer.sales1)
    now = datetime.now(UTC)

    async def log(client: Client | None = None, hours: int = 1, **fields: Any) -> str:
        start = (now - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
        body = {"account": made.name, "channel": "VISIT", "startTime": start, "result": "成交意向"} | fields
        return (await (client or customer.sales1).CreateInteraction(interaction=body)).why_not

    long = f"与采购经理确认了{uuid4().hex[:4]}号设备的技术参数"
    assert await log(summary=long) == ""
    assert await log(summary=long + "。") == "REPEATED"
    assert await log(summary="跟进一下") == "TOO_SHORT"
    assert await log(summary="跟进一下", channel="CALL", durationSeconds=20) == ""
    assert await log(summary=f"客户主动来信{uuid4().hex}", direction="INBOUND") == ""
    assert await log(summary=f"参观工厂并演示了整套流程{uuid4().hex}", result="") == "NO_RESULT"
    assert await log(summary=f"参观工厂并演示了整套流程{uuid4().hex}", hours=80) == "LATE"
    reader = customer.person("sales2").employee
    await customer.admin.UpdateAccount(
        account={"name": made.name, "collaborators": [reader]}, updateMask="collaborators"
    )
    assert await log(customer.sales2, summary=f"协作人完成了一次现场回访{uuid4().hex}") == ""
    await sql(
        customer,
        "UPDATE accounts SET collaborations = jsonb_build_array(jsonb_build_object('employee', CAST(:e AS text), 'access', 'READ'))"
        " WHERE id = CAST(:id AS uuid)",
        e=reader, id=made.name.rpartition("/")[2],
    )  # fmt: skip
    assert (
        await log(customer.sales2, summary=f"只读的人写了很长很长的一段话{uuid4().hex}") == "NO_WORK_ACCESS"
    )
    assert dice("甲乙丙丁", "甲乙丙丁") == 1 and dice("甲乙丙丁", "戊己庚辛") == 0


async def test_a_clock_of_some_channels_is_moved_by_those_alone_and_a_file_or_no_author_counts_as_it_should(
    customer: Service,
) -> None:
    tag = uuid4().hex
    clock = {"kind": "NO_FOLLOW_UP", "days": 30, "channels": ["VISIT", "MEETING"]}
    await pool_with(customer, {"clauses": [clause("V-30", tag, clock)], "graceDays": 1})
    made = await account(customer.sales1, tags=[tag])
    since = datetime.now(UTC) - timedelta(days=20)
    await owned_since(customer, made.name, since)
    # A visit as the page says it, with no more than a picture of it.
    file, person = f"files/{uuid4()}", customer.person("sales1")
    resource = {"name": file, "displayName": "现场.jpg", "owner": person.employee, "department": person.department, "etag": "1"}  # fmt: skip
    payload = {"name": file, "action": "CREATED", "actor": person.employee, "resource": resource}
    await customer.tell("crm.workspace.v1.ResourceChanged", payload, file)

    async def logged(channel: str, **fields: Any) -> tuple[str, Any]:
        start = (datetime.now(UTC) - timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
        body = {"account": made.name, "channel": channel, "startTime": start, "result": "有意向", **fields}
        one = await customer.sales1.CreateInteraction(interaction=body)
        seen = await customer.sales1.GetAccount(name=made.name)
        return one.why_not, seen.sea_due_time.ToDatetime(UTC).astimezone(SHANGHAI).date()

    due = since.astimezone(SHANGHAI).date() + timedelta(days=31)
    called = await logged("CALL", summary=f"电话里约定了下次见面的时间{tag}")
    assert called == ("", due)
    assert await logged("VISIT", summary="看现场") == ("TOO_SHORT", due)
    happened = (datetime.now(UTC) - timedelta(minutes=5)).astimezone(SHANGHAI).date()
    assert await logged("VISIT", summary="看现场", files=[file]) == ("", happened + timedelta(days=31))
    async with customer.running.system_call("test", None) as call:
        written = Interaction(
            account=made.name, channel="VISIT", start_time=call.now, summary=f"系统写入的一次很长的拜访记录{tag}",
            result="有意向",
        )  # fmt: skip
        await call.add(written)
        await call.flush()
        assert (written.counts_for_sea, written.why_not) == (False, "SYSTEM")


async def test_a_visit_or_call_finished_in_sales_is_a_follow_up_of_whoever_did_it(
    customer: Service,
) -> None:
    tag, me = uuid4().hex, customer.person("sales1").employee
    await pool_with(
        customer, {"clauses": [clause("D-30", tag, {"kind": "NO_FOLLOW_UP", "days": 30})], "graceDays": 1}
    )
    made = await account(customer.sales1, tags=[tag])
    await owned_since(customer, made.name, datetime.now(UTC) - timedelta(days=20))
    begun = datetime.now(UTC) - timedelta(hours=1)

    async def done(subject: str, record: str, actor: str, **said: Any) -> str:
        moment = begun.isoformat().replace("+00:00", "Z")
        body = {
            "name": f"{record}s/{uuid4()}",
            "account": made.name,
            "owner": me,
            "startTime": moment,
            **said,
        }
        await customer.tell(f"crm.sales.v1.{subject}", {record: body}, body["name"], actor=actor)

        async def logged() -> Any:
            mine = f'account = "{made.name}" AND source_key = "{body["name"]}"'
            return (await customer.sales1.ListInteractions(filter=mine)).interactions

        (one,) = await customer.eventually(logged)
        return one.why_not

    text = f"看了两条产线并与厂长确认改造范围{tag}"
    assert await done("VisitCompleted", "visit", "system/sales", result=text) == "SYSTEM"
    other = customer.person("sales2").employee
    assert await done("VisitCompleted", "visit", other, result=text) == "NO_WORK_ACCESS"
    assert await done("CallWrappedUp", "call", me, durationSeconds=5, disposition="REACHED") == "TOO_SHORT"
    assert await done("CallWrappedUp", "call", me, durationSeconds=40) == "NO_RESULT"
    before = (await customer.sales1.GetAccount(name=made.name)).sea_due_time.ToDatetime(UTC)
    assert await done("CallWrappedUp", "call", me, durationSeconds=40, disposition="REACHED") == ""
    # The exchange was faster: what is wrapped up is the same call.
    line = uuid4().hex
    told = {"name": f"calls/{uuid4()}", "account": made.name, "sourceKey": line, "durationSeconds": 40}
    ended = {"call": {**told, "startTime": begun.isoformat().replace("+00:00", "Z")}}
    await customer.tell("crm.servicedesk.v1.CallEnded", ended, told["name"])
    wrapped = {"call": {**told, "disposition": "REACHED", "summary": "约了周五"}}
    await customer.tell("crm.sales.v1.CallWrappedUp", wrapped, told["name"], actor=me)

    async def both() -> Any:
        mine = f'account = "{made.name}" AND source_key = "{line}"'
        (one,) = (await customer.admin.ListInteractions(filter=mine)).interactions
        return one if one.counts_for_sea else None

    assert (await customer.eventually(both)).summary == "约了周五"
    assert await done("VisitCompleted", "visit", me, result=text) == ""
    assert await done("VisitCompleted", "visit", me, result=text) == "REPEATED"
    after = (await customer.sales1.GetAccount(name=made.name)).sea_due_time.ToDatetime(UTC)
    assert before < after and (after - begun).days in (30, 31)


async def test_a_follow_up_that_is_rewritten_or_thrown_away_is_judged_anew(customer: Service) -> None:
    tag = uuid4().hex
    await pool_with(
        customer, {"clauses": [clause("E-30", tag, {"kind": "NO_FOLLOW_UP", "days": 30})], "graceDays": 1}
    )
    made = await account(customer.sales1, tags=[tag])
    since = datetime.now(UTC) - timedelta(days=20)
    await owned_since(customer, made.name, since)
    happened = datetime.now(UTC) - timedelta(minutes=5)
    body = {
        "account": made.name, "channel": "VISIT", "summary": "看现场", "result": "有意向",
        "startTime": happened.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    logged = await customer.sales1.CreateInteraction(interaction=body)

    async def rewritten(**fields: Any) -> tuple[str, Any]:
        one = await customer.sales1.UpdateInteraction(
            interaction={"name": logged.name, **fields}, updateMask=",".join(fields)
        )
        return one.why_not, await due()

    async def due() -> Any:
        seen = await customer.sales1.GetAccount(name=made.name)
        return seen.sea_due_time.ToDatetime(UTC).astimezone(SHANGHAI).date() - timedelta(days=31)

    old, fresh = since.astimezone(SHANGHAI).date(), happened.astimezone(SHANGHAI).date()
    text = f"与厂长看了两条产线并记下改造要求{tag}"
    assert (logged.why_not, await due()) == ("TOO_SHORT", old)
    assert await rewritten(summary=text) == ("", fresh)
    assert await rewritten(result="") == ("NO_RESULT", old)
    assert await rewritten(result="有意向") == ("", fresh)
    with pytest.raises(Refused) as refused:
        await rewritten(startTime=(datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z"))
    assert refused.value.violations == {"interaction.start_time": "START_IN_FUTURE"}
    # Of another customer it moves that one's clock.
    other = await account(customer.sales1, tags=[tag])
    assert await rewritten(account=other.name) == ("", old)
    assert await rewritten(account=made.name) == ("", fresh)
    await customer.sales1.DeleteInteraction(name=logged.name)
    assert await due() == old


async def test_contracts_tickets_deals_and_money_hold_an_account_and_the_page_says_which(
    customer: Service,
) -> None:
    tag = uuid4().hex
    await pool_with(
        customer,
        {"clauses": [
            clause("C-90", tag, {"kind": "AFTER_CONTRACT_END", "days": 90}, {"kind": "NO_DEAL", "days": 400}),
        ]},
    )  # fmt: skip
    made = await account(customer.sales1, tags=[tag])

    async def tell(area: str, name: str, version: int, **resource: Any) -> None:
        await customer.tell(
            f"crm.{area}.v1.ResourceChanged",
            {"name": name, "action": "UPDATED", "resource": {"name": name, "account": made.name, **resource}},
            name, version,
        )  # fmt: skip

    async def shows(check: Callable[[Any], Any]) -> Any:
        async def found() -> Any:
            seen = await customer.sales1.GetAccount(name=made.name)
            return seen if check(seen) else None

        return await customer.eventually(found)

    deal, contract, ticket, balance = (
        f"{c}/{uuid4()}" for c in ("opportunities", "contracts", "tickets", "accountBalances")
    )
    await tell("sales", deal, 1, state="OPEN")
    await shows(lambda a: a.sea_exemption == "OPEN_OPPORTUNITY" and not a.HasField("sea_due_time"))
    await tell("orders", contract, 1, state="ACTIVE")
    await shows(lambda a: a.sea_exemption == "RUNNING_CONTRACT")
    # A late fact of the past changes nothing.
    await tell("sales", deal, 3, state="LOST")
    await tell("sales", deal, 2, state="OPEN")
    await tell("servicedesk", ticket, 1, state="IN_PROGRESS")
    await tell("orders", contract, 2, state="CLOSED", endDate={"year": 2026, "month": 6, "day": 30})
    await shows(lambda a: a.sea_exemption == "OPEN_TICKET")
    await tell("servicedesk", ticket, 2, state="CLOSED")
    await tell("billing", balance, 1, balance={"currencyCode": "CNY", "amount": "10.00"})
    await shows(lambda a: a.sea_exemption == "UNPAID_BALANCE")
    await tell("billing", balance, 2, balance={"currencyCode": "CNY", "amount": "0.00"})
    await shows(lambda a: not a.sea_exemption)
    await owned_since(customer, made.name, local(2026, 1, 5, 9))
    # SEA-2: 2026-06-30 and 90 days; grace moves what was overdue when the rule came.
    (due,) = await dues(customer, tag, made.name)
    assert due == datetime(2026, 9, 28, 16, tzinfo=UTC)
    held = await customer.admin.ProtectAccount(
        name=made.name,
        untilTime=(datetime.now(UTC) + timedelta(days=179)).isoformat().replace("+00:00", "Z"),
        reason="重点跟进",
    )
    assert held.sea_exemption == "PROTECTED"
    assert held.sea_due_time == held.protected_until_time
    with pytest.raises(Refused) as refused:
        until = (datetime.now(UTC) + timedelta(days=181)).isoformat().replace("+00:00", "Z")
        await customer.admin.ProtectAccount(name=made.name, untilTime=until, reason="太久")
    assert refused.value.reason == "PROTECTION_TOO_LONG"


async def dues(customer: Service, tag: str, *names: str) -> list[datetime]:
    """When the clocks of accounts run out by the rules in force that know the tag, without their grace."""
    async with customer.running.system_call("test", None) as call:
        from customer.sea.clauses import active_rules, bound, compiled

        mine = [
            r for r in await active_rules(call) if any(tag in key for c in r.clauses for key in c.when.tags)
        ]
        bare = compiled(mine, call, grace=False)
        statement, texts = bound(
            f"SELECT d.due FROM sea_states s{bare.joins} WHERE s.account = $1::uuid AND s.to_time = 'infinity'",
            after=1,
        )
        connection = await driver(call.db)
        return [await connection.fetchval(statement, name.rpartition("/")[2], *texts) for name in names]


@pytest.mark.capability("c.handover")
async def test_clocks_rest_while_a_customer_is_frozen_and_go_on_with_what_was_left(customer: Service) -> None:
    tag, leaver = uuid4().hex, f"employees/{uuid4()}"
    boss = customer.person("manager").employee
    here = {"department": XS1, "superior": boss, "displayName": "冻结人"}
    async with customer.parts.configuration() as bucket:
        key = f"employee.{leaver.rpartition('/')[2]}"
        await bucket.put(key, {**here, "roles": [], "disabled": False})
        await customer.eventually(lambda: customer.running.config.get(key))
    clocks = (
        {"kind": "NO_FOLLOW_UP", "days": 30}, {"kind": "NO_FOLLOW_UP", "days": 10, "workingDays": True},
        {"kind": "NO_FIRST_FOLLOW_UP", "hours": 24}, {"kind": "NO_FOLLOW_UP", "days": 30},
    )  # fmt: skip
    clauses = [clause(f"T-{n}", f"{tag}{n}", clock) for n, clock in enumerate(clocks)]
    await pool_with(customer, {"clauses": clauses})
    names = [(await account(customer.admin, owner=leaver, tags=[f"{tag}{n}"])).name for n in range(4)]
    for name in names:
        await owned_since(customer, name, local(2026, 3, 2, 9))
    assert await dues(customer, tag, *names) == [
        local(2026, 4, 2), local(2026, 3, 17), local(2026, 3, 3, 9), local(2026, 4, 2),
    ]  # fmt: skip

    async def all_are(state: Any) -> bool:
        found = [await customer.admin.GetAccount(name=name) for name in names]
        return all(one.state == state for one in found)

    employee = {"name": leaver, **here}
    lost = {"employee": employee, "time": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    await customer.tell("crm.workspace.v1.EmployeeFrozen", lost, leaver, times=2)
    await customer.eventually(lambda: all_are(pb.Account.FROZEN))
    for name in names:
        assert not (await customer.admin.GetAccount(name=name)).HasField("sea_due_time")
    back = {"name": leaver, "action": "UPDATED", "resource": {**employee, "state": "ACTIVE"}}
    await customer.tell("crm.workspace.v1.ResourceChanged", back, leaver, 5)
    await customer.eventually(lambda: all_are(pb.Account.ACTIVE))
    # From a Monday afternoon to noon of the next; whoever stood in spoke with the last one on the Thursday.
    for name in names:
        changed = await sql(
            customer,
            "UPDATE sea_states SET frozen_from = ARRAY[CAST(:since AS timestamptz)],"
            " frozen_until = ARRAY[CAST(:until AS timestamptz)], follow_up = CAST(:spoke AS timestamptz)"
            " WHERE account = CAST(:id AS uuid) AND to_time = 'infinity'"
            " AND cardinality(frozen_from) = 1 AND cardinality(frozen_until) = 1",
            since=local(2026, 3, 2, 15), until=local(2026, 3, 9, 12), id=name.rpartition("/")[2],
            spoke=local(2026, 3, 5, 10) if name == names[3] else None,
        )  # fmt: skip
        assert changed.rowcount == 1
    assert await dues(customer, tag, *names) == [
        local(2026, 4, 9), local(2026, 3, 24), local(2026, 3, 10, 6), local(2026, 4, 9),
    ]  # fmt: skip
    # The clocks of the next owner begin anew.
    await customer.admin.AssignAccount(name=names[0], owner=customer.person("sales1").employee)
    due = (await customer.admin.GetAccount(name=names[0])).sea_due_time.ToDatetime(UTC)
    today = datetime.now(SHANGHAI).date()
    assert due == datetime.combine(today + timedelta(days=31), datetime.min.time(), SHANGHAI)


@pytest.mark.capability("c.sea")
async def test_what_is_overdue_returns_once_and_what_was_followed_up_before_does_not(
    customer: Service,
) -> None:
    tag = uuid4().hex
    pool, rule = await pool_with(
        customer,
        {"clauses": [clause("T-5", tag, {"kind": "NO_FOLLOW_UP", "days": 5})], "warnDays": ["3", "1"]},
    )
    overdue, saved = await account(customer.sales1, tags=[tag]), await account(customer.sales1, tags=[tag])
    contact = await customer.sales1.CreateContact(contact={"displayName": "张三", "account": overdue.name})
    due = overdue.sea_due_time.ToDatetime(UTC)
    # Warned late: of two steps that were missed only the latest is told, and never twice.
    for _ in range(2):
        await at(customer, due - timedelta(hours=20), jobs.warn_owners)
    warned = await customer.facts("crm.customer.v1.SeaDueSoon", overdue.name)
    assert [fact["step"] for fact in warned] == [1]
    await at(customer, due - timedelta(seconds=1), jobs.return_to_the_sea)
    assert (await customer.sales1.GetAccount(name=overdue.name)).state == pb.Account.ACTIVE
    # A follow-up committed after the due instant and before the sweep: the clock is looked at again.
    await sql(
        customer,
        "UPDATE sea_states SET follow_up = :t WHERE account = CAST(:id AS uuid) AND to_time = 'infinity'",
        t=due - timedelta(hours=3), id=saved.name.rpartition("/")[2],
    )  # fmt: skip
    await asyncio.gather(
        at(customer, due + timedelta(minutes=1), jobs.return_to_the_sea),
        at(customer, due + timedelta(minutes=1), jobs.return_to_the_sea),
    )

    await swept(customer, due + timedelta(minutes=2), overdue.name)
    returned = await customer.admin.GetAccount(name=overdue.name)
    assert (returned.state, returned.owner, returned.pool) == (pb.Account.POOLED, "", pool.name)
    assert (await customer.admin.GetContact(name=contact.name)).owner == ""
    assert (await customer.sales1.GetAccount(name=saved.name)).owner == customer.person("sales1").employee
    facts = await customer.facts("crm.customer.v1.AccountReturnedToPool", overdue.name)
    assert [(f["how"], f["clause"], f["rule"]) for f in facts] == [("RECYCLE", "T-5", rule.name)]
    history = (await customer.admin.ListOwnerHistory(name=overdue.name)).changes
    assert [pb.PoolClaim.Kind.Name(line.kind) for line in history] == ["RECYCLE", "CREATE"]
    assert (
        getattr(history[0], "from") == customer.person("sales1").employee
        and "NO_FOLLOW_UP(5)" in history[0].evidence
    )
    with pytest.raises(Refused) as refused:
        await customer.sales1.GetAccount(name=overdue.name)
    assert refused.value.reason == "NOT_FOUND"


async def test_owners_are_warned_on_the_days_of_the_rule_that_takes_the_customer(customer: Service) -> None:
    due, owned = None, []
    for days in (["12"], ["2"]):
        tag = uuid4().hex
        clock = {"kind": "NO_FOLLOW_UP", "days": 60}
        await pool_with(customer, {"clauses": [clause("W-60", tag, clock)], "warnDays": days})
        owned.append(await account(customer.sales1, tags=[tag]))
        due = owned[-1].sea_due_time.ToDatetime(UTC)
    assert due is not None

    async def warned(before: timedelta) -> list[list[int]]:
        await at(customer, due - before, jobs.warn_owners)
        facts = [await customer.facts("crm.customer.v1.SeaDueSoon", one.name) for one in owned]
        return [[fact["step"] for fact in each] for each in facts]

    assert await warned(timedelta(days=13)) == [[], []]
    assert await warned(timedelta(days=11)) == [[12], []]
    assert await warned(timedelta(days=1)) == [[12], [2]]


@pytest.mark.capability("c.sea")
async def test_of_a_hundred_who_claim_at_once_one_gets_the_customer(customer: Service) -> None:
    person = customer.person
    members = [person("sales1").employee, person("sales2").employee]
    pool, _ = await pool_with(customer, {"claim": {"perDay": 500}}, members)
    waiting = await account(customer.admin, pool=pool.name)
    assert (waiting.state, waiting.owner) == (pb.Account.POOLED, "")

    async def press(n: int) -> str:
        client = customer.sales1 if n % 2 else customer.sales2
        while True:
            try:
                return (await client.ClaimAccount(name=waiting.name)).owner
            except Refused as refused:
                # A server that has its hands full says so, and clients ask again.
                if refused.reason not in ("", "OVERLOADED", "RESOURCE_EXHAUSTED"):
                    return refused.reason
                await asyncio.sleep(0.1)

    answers = await asyncio.gather(*(press(n) for n in range(100)))
    winners = [answer for answer in answers if answer.startswith("employees/")]
    assert len(winners) == 1
    assert set(answers) - set(winners) == {"ALREADY_CLAIMED"}
    assert (await customer.admin.GetAccount(name=waiting.name)).owner == winners[0]
    assert (
        len(
            [
                line
                for line in (await customer.admin.ListOwnerHistory(name=waiting.name)).changes
                if line.kind == pb.PoolClaim.CLAIM
            ]
        )
        == 1
    )
    with pytest.raises(Refused) as refused:
        await customer.client("everything").ClaimAccount(name=f"accounts/{uuid4()}")
    assert refused.value.reason == "NOT_FOUND"


async def test_quotas_waits_idleness_and_capacity_bound_the_claims(customer: Service) -> None:
    me = customer.person("stranger").employee
    stranger = customer.client("stranger")
    pool, _ = await pool_with(
        customer,
        {"claim": {"perDay": 2, "perMonth": 3, "previousOwnerDays": 7, "newcomerHours": 0, "firstFollowUpHours": 48},
         "viewPerDay": 1},
        [me], hiddenFields=["phone", "displayName"],
    )  # fmt: skip

    async def waiting() -> Any:
        return await account(
            customer.admin, pool=pool.name, phones=[{"number": f"138{uuid4().int % 10**8:08d}"}]
        )

    first, second, third = await waiting(), await waiting(), await waiting()
    assert (await stranger.GetPoolQuota(name=pool.name)).claims_today == 2
    items = (await stranger.ListPoolItems(filter=f'pool = "{pool.name}"')).pool_items
    by_account = {one.account: one.name for one in items}
    item = await stranger.GetPoolItem(name=by_account[first.name])
    assert (item.phone, item.display_name) == ("", first.number)
    listed = (await stranger.ListPoolItems(filter=f'pool = "{pool.name}"')).pool_items
    assert {one.phone for one in listed} == {""} and len(listed) == 3
    assert not (await stranger.ListPoolItems(q=first.display_name)).pool_items
    opened = await stranger.OpenPoolItem(name=item.name)
    assert (opened.display_name, len(opened.phones)) == (first.number, 0)
    assert (await stranger.OpenPoolItem(name=item.name)).number == first.number
    with pytest.raises(Refused) as refused:
        await stranger.OpenPoolItem(name=by_account[second.name])
    assert refused.value.reason == "POOL_VIEW_QUOTA"
    assert not (await customer.sales1.ListPoolItems(filter=f'pool = "{pool.name}"')).pool_items
    for one in (first, second):
        assert (await stranger.ClaimAccount(name=one.name)).owner == me
    with pytest.raises(Refused) as refused:
        await stranger.ClaimAccount(name=third.name)
    assert refused.value.reason == "CLAIM_QUOTA_EXCEEDED"
    both = [await stranger.GetAccount(name=one.name) for one in (first, second)]
    assert all(seen.phones and seen.sea_clause == "IDLE" for seen in both)
    # 48 hours of working days later nobody has spoken with them.
    due = both[1].sea_due_time.ToDatetime(UTC) + timedelta(seconds=1)
    await swept(customer, due, first.name, second.name)
    lapsed = await customer.facts("crm.customer.v1.ClaimLapsed", first.name)
    assert [(f["employee"], f["count"]) for f in lapsed] == [(me, lapsed[0]["count"])]
    assert (await customer.admin.GetAccount(name=first.name)).pool == pool.name
    await sql(
        customer,
        "UPDATE pool_claims SET time = time - interval '1 month' WHERE employee = :e AND kind = 'CLAIM'",
        e=me,
    )
    await sql(customer, "UPDATE pool_claims SET time = now() WHERE \"from\" = :e AND kind = 'IDLE'", e=me)
    await sql(
        customer,
        "UPDATE accounts SET owner_time = now() WHERE id = CAST(:id AS uuid)",
        id=first.name.rpartition("/")[2],
    )
    with pytest.raises(Refused) as refused:
        await stranger.ClaimAccount(name=first.name)
    assert refused.value.reason == "CLAIM_TOO_SOON"
    assert (await stranger.ClaimAccount(name=third.name)).owner == me
    third = await stranger.ReleaseAccount(name=third.name, pool=pool.name, reason="客户已停业")
    await sql(
        customer, "UPDATE pool_claims SET kind = 'IDLE' WHERE kind = 'RELEASE' AND account = :a", a=third.name
    )
    with pytest.raises(Refused) as refused:
        await stranger.ClaimAccount(name=third.name)
    assert refused.value.reason == "CLAIM_SUSPENDED"
    assert (await stranger.GetPoolQuota(name=pool.name)).HasField("suspended_until")
    # Other stories have the same person claim.
    await sql(
        customer,
        "UPDATE pool_claims SET time = time - interval '1 year' WHERE \"from\" = :e AND kind = 'IDLE'",
        e=me,
    )


async def test_who_is_quick_waits_for_the_newcomer_hours_and_a_clause_may_leave_readers(
    customer: Service,
) -> None:
    tag, stranger = uuid4().hex, customer.client("stranger")
    me, reader = customer.person("stranger").employee, customer.person("sales2").employee
    kept = clause("R-5", tag, {"kind": "NO_FOLLOW_UP", "days": 5}, keepRead=True)
    rule = {"clauses": [kept], "claim": {"newcomerHours": 24}}
    pool, _ = await pool_with(customer, rule, [me])
    waiting = await account(customer.admin, pool=pool.name)
    with pytest.raises(Refused) as refused:
        await stranger.ClaimAccount(name=waiting.name)
    assert refused.value.reason == "CLAIM_TOO_SOON"
    await sql(
        customer,
        "UPDATE accounts SET owner_time = now() - interval '25 hours' WHERE id = CAST(:id AS uuid)",
        id=waiting.name.rpartition("/")[2],
    )
    assert (await stranger.ClaimAccount(name=waiting.name)).owner == me
    # What returns by itself is still read by those who worked on it, and by nobody changed.
    owned = await account(customer.admin, tags=[tag], owner=customer.person("sales1").employee)
    await customer.admin.UpdateAccount(
        account={"name": owned.name, "collaborators": [reader]}, updateMask="collaborators"
    )
    due = owned.sea_due_time.ToDatetime(UTC)
    await swept(customer, due + timedelta(minutes=1), owned.name)
    seen = await customer.sales2.GetAccount(name=owned.name)
    assert (seen.state, seen.pool) == (pb.Account.POOLED, pool.name)
    with pytest.raises(Refused) as refused:
        await customer.sales2.UpdateAccount(account={"name": owned.name, "needs": "改"}, updateMask="needs")
    assert refused.value.reason == "READ_ONLY_COLLABORATOR"


async def test_a_customer_of_a_pool_comes_back_from_the_archive_to_its_pool(customer: Service) -> None:
    pool, _ = await pool_with(customer, {})
    made = await account(customer.sales1)
    await customer.sales1.ReleaseAccount(name=made.name, pool=pool.name, reason="暂不跟进")
    assert (await customer.admin.ArchiveAccount(name=made.name)).state == pb.Account.ARCHIVED
    back = await customer.admin.UnarchiveAccount(name=made.name)
    assert (back.state, back.pool, back.owner) == (pb.Account.POOLED, pool.name, "")


async def test_a_customer_with_open_business_is_not_archived_and_one_that_ever_had_some_not_deleted(
    customer: Service,
) -> None:
    made = await account(customer.sales1)
    deal = f"opportunities/{uuid4()}"

    async def tell(version: int, action: str, **record: Any) -> None:
        resource = {"name": deal, "account": made.name, **record}
        change = {"name": deal, "action": action, "resource": resource}
        await customer.tell("crm.sales.v1.ResourceChanged", change, deal, version)

    async def refused(answer: Any) -> str:
        with pytest.raises(Refused) as refusal:
            await answer
        return refusal.value.reason

    await tell(1, "CREATED", state="OPEN")
    assert await refused(customer.admin.ArchiveAccount(name=made.name)) == "ACCOUNT_IN_USE"
    assert await refused(customer.admin.DeleteAccount(name=made.name)) == "ACCOUNT_IN_USE"
    await tell(2, "UPDATED", state="WON", closeTime="2026-01-05T00:00:00Z")
    assert await refused(customer.admin.DeleteAccount(name=made.name)) == "ACCOUNT_IN_USE"
    await customer.admin.ArchiveAccount(name=made.name)
    assert (await customer.admin.UnarchiveAccount(name=made.name)).state == pb.Account.ACTIVE


async def test_an_owner_who_releases_says_what_becomes_of_open_deals(customer: Service) -> None:
    pool, _ = await pool_with(customer, {})
    made = await account(customer.sales1)
    deal = f"opportunities/{uuid4()}"
    await customer.tell(
        "crm.sales.v1.ResourceChanged",
        {"name": deal, "action": "CREATED", "resource": {"name": deal, "account": made.name, "state": "OPEN"}}, deal,
    )  # fmt: skip

    async def refused() -> str:
        try:
            await customer.sales1.ReleaseAccount(name=made.name, pool=pool.name, reason="x", etag="999")
        except Refused as refusal:
            assert refusal.reason == "ETAG_MISMATCH"
        count = await sql(customer, "SELECT count(*) FROM sea_records WHERE name = :n", n=deal)
        return "there" if count.scalar() else ""

    await customer.eventually(refused)
    with pytest.raises(Refused) as no:
        await customer.sales1.ReleaseAccount(name=made.name, pool=pool.name, reason="暂不跟进")
    assert no.value.reason == "OPEN_BUSINESS"
    other, _ = await pool_with(customer, {}, [customer.person("sales2").employee])
    with pytest.raises(Refused) as no:
        await customer.sales1.ReleaseAccount(
            name=made.name, pool=other.name, reason="暂不跟进", openBusiness="KEEP"
        )
    assert no.value.reason in ("POOL_NOT_ALLOWED", "UNKNOWN_REFERENCE")
    released = await customer.sales1.ReleaseAccount(
        name=made.name, pool=pool.name, reason="暂不跟进", openBusiness="HAND_OVER"
    )
    assert released.state == pb.Account.POOLED
    fact = (await customer.facts("crm.customer.v1.AccountReturnedToPool", made.name))[0]
    assert (fact["openBusiness"], fact["how"]) == ("HAND_OVER", "RELEASE")


async def test_managers_assign_move_and_close_and_capacity_holds_for_all(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = customer.person("everything").employee, customer.person("stranger").employee
    pool, _ = await pool_with(customer, {})
    target, _ = await pool_with(customer, {})
    tag = uuid4().hex
    names = [(await account(customer.admin, pool=pool.name, tags=[tag])).name for _ in range(4)]
    capacity = await in_force(
        customer, "", {"capacity": [{"scope": two, "limit": 1, "countWhen": f'tags:"{tag}"'}]}
    )
    await customer.admin.AssignPoolItems(name=pool.name, accounts=names[:2], employees=[one, two])
    owners = {(await customer.admin.GetAccount(name=name)).owner for name in names[:2]}
    assert owners == {one, two}
    with pytest.raises(Refused) as refused:
        await customer.admin.AssignPoolItems(name=pool.name, accounts=names[2:], employees=[two])
    assert (refused.value.reason, refused.value.info.metadata["limit"]) == ("CAPACITY_EXCEEDED", "1")
    assert (await customer.admin.GetAccount(name=names[2])).owner == ""
    with pytest.raises(Refused) as refused:
        await customer.admin.ClosePool(name=pool.name)
    assert refused.value.reason == "POOL_NOT_EMPTY"
    await customer.admin.TransferPoolItems(name=pool.name, accounts=names[2:3], target=target.name)
    assert (await customer.admin.ClosePool(name=pool.name, target=target.name)).state == pb.Pool.CLOSED
    assert {(await customer.admin.GetAccount(name=name)).pool for name in names[2:]} == {target.name}
    with pytest.raises(Refused) as refused:
        await customer.admin.TransferPoolItems(name=target.name, accounts=names[2:], target=pool.name)
    assert refused.value.reason == "POOL_CLOSED"
    # Many go the same way, the rest behind the answer, and nobody's pool is its own target.
    with pytest.raises(Refused) as refused:
        await customer.admin.ClosePool(name=target.name, target=target.name)
    assert refused.value.reason == "POOL_CLOSED"
    last, _ = await pool_with(customer, {})
    for n in range(3):
        await account(customer.admin, pool=target.name, displayName=f"尾客{n}{tag}")
    monkeypatch.setattr(emptying, "AT_ONCE", 2)
    await customer.admin.ClosePool(name=target.name, target=last.name)

    async def moved() -> bool:
        left = (await customer.admin.ListPoolItems(filter=f'pool = "{target.name}"')).pool_items
        return (
            not left
            and len((await customer.admin.ListPoolItems(filter=f'pool = "{last.name}"')).pool_items) == 5
        )

    await customer.eventually(moved)
    with pytest.raises(Refused) as refused:
        await customer.sales1.CreatePool(pool={"displayName": "自己的公海"})
    assert refused.value.reason == "PERMISSION_DENIED"
    await sql(
        customer,
        "UPDATE pool_rules SET state = 'RETIRED' WHERE id = CAST(:id AS uuid)",
        id=capacity.name.rpartition("/")[2],
    )


async def test_what_nobody_touched_in_a_pool_goes_to_the_one_above(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was touched waits in front of it and holds nothing up.
    monkeypatch.setattr(jobs, "AT_ONCE", 1)
    above, _ = await pool_with(customer, {})
    pool, _ = await pool_with(customer, {}, parent=above.name, parentAfterDays=10)
    touched = await account(customer.admin, pool=pool.name)
    await sql(
        customer,
        "UPDATE accounts SET last_interaction_time = now() + interval '5 days' WHERE id = CAST(:id AS uuid)",
        id=touched.name.rpartition("/")[2],
    )
    made = await account(customer.admin, pool=pool.name)
    await at(customer, datetime.now(UTC) + timedelta(days=9), jobs.keep_dates)
    assert (await customer.admin.GetAccount(name=made.name)).pool == pool.name
    await at(customer, datetime.now(UTC) + timedelta(days=11), jobs.keep_dates)
    assert (await customer.admin.GetAccount(name=made.name)).pool == above.name
    assert (await customer.admin.GetAccount(name=touched.name)).pool == pool.name


@pytest.mark.capability("c.sea")
async def test_a_version_comes_into_force_only_as_it_was_simulated_and_never_changes(
    customer: Service,
) -> None:
    tag = uuid4().hex
    pool, first = await pool_with(
        customer, {"clauses": [clause("A", tag, {"kind": "NO_FOLLOW_UP", "days": 400})]}
    )
    with pytest.raises(Refused) as refused:
        await customer.admin.UpdatePoolRule(
            poolRule={"name": first.name, "graceDays": 3}, updateMask="graceDays"
        )
    assert refused.value.reason == "RULE_IMMUTABLE"
    draft = await customer.admin.CreatePoolRule(
        poolRule={"pool": pool.name, "clauses": [clause("B", tag, {"kind": "NO_FOLLOW_UP", "days": 20})]}
    )
    assert draft.revision == 2
    with pytest.raises(Refused) as refused:
        await customer.admin.ActivatePoolRule(name=draft.name)
    assert refused.value.reason == "POOL_RULE_NOT_SIMULATED"
    await simulated(customer, draft.name)
    await customer.admin.UpdatePoolRule(poolRule={"name": draft.name, "graceDays": 5}, updateMask="graceDays")
    with pytest.raises(Refused) as refused:
        await customer.admin.ActivatePoolRule(name=draft.name)
    assert refused.value.reason == "POOL_RULE_NOT_SIMULATED"
    old = await account(customer.sales1, tags=[tag])
    await owned_since(customer, old.name, datetime.now(UTC) - timedelta(days=60))
    again = await simulated(customer, draft.name)
    assert (again.simulation.tonight, again.simulation.returns) == (1, 1)
    twice = await simulated(customer, draft.name)
    assert twice.simulation.result_digest == again.simulation.result_digest
    found = (
        await customer.admin.ListSimulatedReturns(filter=f'rule = "{draft.name}" AND tonight = false')
    ).simulated_returns
    assert [(one.account, one.clause, one.difference) for one in found] == [
        (old.name, "B", pb.SimulatedReturn.ONLY_HERE)
    ]
    grouped = await customer.admin.AggregateSimulatedReturns(
        filter=f'rule = "{draft.name}"', groupBy=["clause", "department"]
    )
    assert [row.count for row in grouped.rows] == ["2"]
    # Nothing has come of it: no owner, no fact, no notice.
    assert not await customer.facts("crm.customer.v1.AccountReturnedToPool", old.name)
    active = await customer.admin.ActivatePoolRule(name=draft.name)
    assert (await customer.admin.GetPoolRule(name=first.name)).state == pb.PoolRule.RETIRED
    day = datetime.now(SHANGHAI).date() + timedelta(days=6)

    async def spared() -> Any:
        seen = await customer.sales1.GetAccount(name=old.name)
        return seen if seen.sea_clause == "B" else None

    grace = await customer.eventually(spared)
    assert grace.sea_due_time.ToDatetime(UTC) == datetime.combine(day, datetime.min.time(), SHANGHAI)
    back = await customer.admin.RollbackPoolRule(name=active.name, version=1)
    assert (back.revision, back.state, back.digest) == (3, pb.PoolRule.DRAFT, first.digest)
    other, _ = await pool_with(customer, {})
    clash = await customer.admin.CreatePoolRule(
        poolRule={"pool": other.name, "clauses": [clause("X", tag, {"kind": "NO_ORDER", "days": 20})]}
    )
    await simulated(customer, clash.name)
    with pytest.raises(Refused) as refused:
        await customer.admin.ActivatePoolRule(name=clash.name)
    assert (refused.value.reason, refused.value.info.metadata["count"]) == ("POOL_RULE_OVERLAP", "1")


async def test_many_clauses_cost_a_clock_no_more_to_plan_than_one(customer: Service) -> None:
    """A text for each clock took a tenth of a second for one rule, and four seconds for twenty."""
    clocks = [
        pb.PoolRule.Clock(kind="NO_FOLLOW_UP", days=9, working_days=True),
        pb.PoolRule.Clock(kind="NO_DEAL", days=60),
    ]
    said = pb.PoolRule.Clause(key="T", when=pb.PoolRule.Condition(tags=[uuid4().hex]), clocks=clocks)
    plans: list[int] = []
    for many in (1, 20):
        rules = [
            PoolRule(
                id=uuid4(), pool=f"pools/{n}", segment="", clauses=[said] * 3, grace_days=0, effective_time=datetime.now(UTC),
                claim=pb.PoolRule.ClaimRule(first_follow_up_hours=48),
            )
            for n in range(many)
        ]  # fmt: skip
        async with customer.running.system_call("test", None) as call:
            seen = compiled(rules, call)
            asked = f"EXPLAIN SELECT d.due, d.why, {seen.shown} FROM sea_states s{seen.joins}"
            statement, texts = bound(asked, after=0)
            lines = [row[0] for row in await (await driver(call.db)).fetch(statement, *texts)]
        plans.append(sum("SubPlan" in line and "->" not in line for line in lines))
    assert plans[0] == plans[1] < 30, plans


@pytest.mark.capability("c.sea")
async def test_many_that_are_due_at_midnight_all_return_whatever_stays_before_them(
    customer: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ROUND", 20)
    tag, many = uuid4().hex, 30
    told = {"kind": "NO_FOLLOW_UP", "days": 4}
    _, rule = await pool_with(
        customer,
        {"clauses": [
            clause("T-N", f"{tag}stay", told, action="NOTIFY"), clause("T-R", f"{tag}go", {**told, "days": 3}),
        ]},
    )  # fmt: skip
    names: dict[str, list[str]] = {}
    for kind in ("stay", "go"):
        names[kind] = []
        while len(names[kind]) < many:
            made = await asyncio.gather(*(account(customer.sales1, tags=[tag + kind]) for _ in range(10)))
            names[kind] += [one.name for one in made]
    # Ten days ago the rule came and the customers were made; what only is told was due before what goes.
    await sql(
        customer, "UPDATE pool_rules SET effective_time = now() - interval '10 days' WHERE id = CAST(:id AS uuid)",
        id=rule.name.rpartition("/")[2],
    )  # fmt: skip
    now = datetime.now(UTC)
    async with customer.running.system_call("test", None) as call:
        from uuid import UUID

        from customer.sea.states import reckon

        for kind, days in (("stay", 9), ("go", 7)):
            ids = [UUID(name.rpartition("/")[2]) for name in names[kind]]
            await call.db.execute(
                text("UPDATE sea_states SET owned_time = :t, from_time = :t WHERE account = ANY (:ids)"),
                {"t": now - timedelta(days=days), "ids": ids},
            )
            await reckon(call, ids)

    async def gone() -> bool:
        # What the service's own round holds, or has gone past, waits for the next one.
        await at(customer, now, jobs.return_to_the_sea)
        pooled = f'state = POOLED AND tags:"{tag}go"'
        return [row.count for row in (await customer.admin.AggregateAccounts(filter=pooled)).rows] == [
            f"{many}"
        ]

    # The run behind the first round waits for the runs that other stories have queued.
    await customer.eventually(gone, 120)
    told_once = await customer.facts("crm.customer.v1.SeaDueSoon", names["stay"][-1])
    assert [fact.get("step", 0) for fact in told_once] == [0]
    for name in (names["stay"][0], names["stay"][-1]):
        assert (await customer.admin.GetAccount(name=name)).state == pb.Account.ACTIVE
    # Other tests' rounds are at other times.
    await sql(
        customer,
        "UPDATE sea_states SET state = 'ARCHIVED' WHERE account IN (SELECT id FROM accounts WHERE tags && ARRAY[:tag])",
        tag=f"{tag}stay",
    )
    await sql(customer, "UPDATE accounts SET sea_due_time = NULL WHERE tags && ARRAY[:tag]", tag=f"{tag}stay")


@pytest.mark.capability("c.sea")
async def test_simulating_the_version_in_force_finds_the_returns_that_it_made(customer: Service) -> None:
    tag = uuid4().hex
    _, rule = await pool_with(
        customer, {"clauses": [clause("T-3", tag, {"kind": "NO_FOLLOW_UP", "days": 3})]}
    )
    made = [await account(customer.sales1, tags=[tag]) for _ in range(3)]
    kept = await account(customer.sales1, tags=[tag])
    # Ten days ago the rule came and the customers were made; since then three went.
    await sql(
        customer, "UPDATE pool_rules SET effective_time = now() - interval '10 days' WHERE id = CAST(:id AS uuid)",
        id=rule.name.rpartition("/")[2],
    )  # fmt: skip
    for one in [*made, kept]:
        await owned_since(customer, one.name, datetime.now(UTC) - timedelta(days=9))
    key = kept.name.rpartition("/")[2]
    await sql(customer, "UPDATE sea_states SET follow_up = now() WHERE account = CAST(:id AS uuid)", id=key)
    now = datetime.now(UTC)
    # A fact that was handled while the round had already begun, so that its state begins after the return.
    await observed(
        customer, made[0].name, now + timedelta(milliseconds=400), order_time=now - timedelta(days=30)
    )

    await swept(customer, now, *(one.name for one in made))
    replayed = await simulated(customer, rule.name, days=30)
    result = replayed.simulation
    assert (result.returns, result.only_here, result.only_active) == (3, 0, 0)
    found = (
        await customer.admin.ListSimulatedReturns(filter=f'rule = "{rule.name}" AND tonight = false')
    ).simulated_returns
    assert {one.account for one in found} == {one.name for one in made}
    assert {one.difference for one in found} == {pb.SimulatedReturn.SAME}


@pytest.mark.capability("c.sea")
async def test_clauses_ask_for_product_lines_and_a_contract_in_approval_pauses_for_thirty_days_at_most(
    customer: Service,
) -> None:
    tag = uuid4().hex
    asked = {"tags": [tag], "productLines": ["SPARES"]}
    days = {"kind": "NO_FOLLOW_UP", "days": 10}
    _, rule = await pool_with(
        customer,
        {"clauses": [{"key": "P", "when": asked, "clocks": [days], "keepRead": True}], "graceDays": 1},
    )
    other = await account(customer.sales1, tags=[tag], productLines=["CRANES"])
    made = await account(customer.sales1, tags=[tag], productLines=["SPARES", "CRANES"])
    assert (other.sea_clause, made.sea_clause) == ("", "P")
    contract = f"contracts/{uuid4()}"
    resource = {"name": contract, "account": made.name, "state": "IN_APPROVAL"}
    told = datetime.now(UTC)
    await customer.tell(
        "crm.orders.v1.ResourceChanged",
        {"name": contract, "action": "CREATED", "resource": resource},
        contract,
    )

    async def paused() -> Any:
        seen = await customer.sales1.GetAccount(name=made.name)
        return seen if seen.sea_due_time.ToDatetime(UTC) > told + timedelta(days=29) else None

    due = (await customer.eventually(paused)).sea_due_time.ToDatetime(UTC)
    assert due <= datetime.now(UTC) + timedelta(days=30)
    # Whoever worked with the customer reads on where the clause says so.
    reader = customer.person("everything2").employee
    await customer.admin.UpdateAccount(
        account={"name": made.name, "collaborators": [reader]}, updateMask="collaborators"
    )
    await swept(customer, due + timedelta(seconds=1), made.name)
    gone = await customer.admin.GetAccount(name=made.name)
    assert gone.state == pb.Account.POOLED and [(c.employee, c.access) for c in gone.collaborations] == [
        (reader, "READ")
    ]
    # A simulation counts for seven days.
    draft = await customer.admin.CreatePoolRule(poolRule={"pool": rule.pool, "graceDays": 2})
    await simulated(customer, draft.name)
    await sql(
        customer,
        "UPDATE pool_rules SET simulation = jsonb_set(simulation, '{time}', to_jsonb(CAST(:t AS text)))"
        " WHERE id = CAST(:id AS uuid)",
        t=(datetime.now(UTC) - timedelta(days=8)).isoformat().replace("+00:00", "Z"), id=draft.name.rpartition("/")[2],
    )  # fmt: skip
    with pytest.raises(Refused) as refused:
        await customer.admin.ActivatePoolRule(name=draft.name)
    assert refused.value.reason == "POOL_RULE_NOT_SIMULATED"


@pytest.mark.capability("c.sea")
async def test_a_pool_of_a_segment_holds_its_customers_and_its_people_claim(
    customer: Service, segments: None
) -> None:
    tag = uuid4().hex
    everybody = [customer.person(name).employee for name in ("sales1", "sales2")]
    with pytest.raises(Refused) as refused:
        await customer.admin.CreatePool(pool={"displayName": "不是板块", "segment": XS1})
    assert refused.value.violations == {"pool.segment": "UNKNOWN_VALUE"}
    made = {"displayName": "华东公海", "segment": EAST, "memberEmployees": everybody}
    pool = await customer.admin.CreatePool(pool=made)
    await in_force(customer, pool.name, {"clauses": [clause("S", tag, {"kind": "NO_FOLLOW_UP", "days": 9})]})
    east, north = await account(customer.sales1, tags=[tag]), await account(customer.sales2, tags=[tag])
    # The rule of a segment is about its customers alone.
    assert (east.sea_clause, north.sea_clause) == ("S", "")
    with pytest.raises(Refused) as refused:
        await customer.sales2.ReleaseAccount(name=north.name, pool=pool.name, reason="暂不跟进")
    assert refused.value.reason in ("POOL_NOT_ALLOWED", "NOT_FOUND", "UNKNOWN_REFERENCE")
    await customer.sales1.ReleaseAccount(name=east.name, pool=pool.name, reason="暂不跟进")
    # Named among the members, and of another segment all the same.
    assert not (await customer.sales2.ListPoolItems(filter=f'pool = "{pool.name}"')).pool_items
    with pytest.raises(Refused) as refused:
        await customer.sales2.ClaimAccount(name=east.name)
    assert refused.value.reason == "NOT_FOUND"
    assert (await customer.sales1.ListPoolItems(filter=f'pool = "{pool.name}"')).pool_items
    assert (await customer.sales1.ClaimAccount(name=east.name)).owner == customer.person("sales1").employee


@pytest.mark.capability("c.sea")
async def test_half_a_million_accounts_over_ninety_days_are_replayed_within_five_minutes(
    customer: Service,
) -> None:
    """By a part of them: the cost is one statement for every twenty thousand, however many there are."""
    part, whole, minutes = 20_000, 500_000, 5
    tag = uuid4().hex
    pool = await customer.admin.CreatePool(
        pool={"displayName": f"规模公海{tag[:6]}", "memberDepartments": [XS1]}
    )
    draft = await customer.admin.CreatePoolRule(
        poolRule={
            "pool": pool.name,
            "clauses": [clause(f"K{n}", f"{tag}{n}", {"kind": "NO_FOLLOW_UP", "days": 20 + n}, {"kind": "NO_DEAL", "days": 200})
                        for n in range(5)],
        }
    )  # fmt: skip
    owner, department = customer.person("sales1").employee, XS1
    # Six states of each in ninety days, as follow-ups and facts leave them.
    await sql(
        customer,
        "INSERT INTO sea_states (account, from_time, to_time, state, owner, department, tags, owned_time, follow_up)"
        " SELECT md5(:tag || n)::uuid, now() - make_interval(days => 15 * (6 - s), hours => n % 24),"
        " CASE WHEN s = 5 THEN 'infinity' ELSE now() - make_interval(days => 15 * (5 - s), hours => n % 24) END,"
        " 'ACTIVE', :owner, :department, ARRAY[:tag || n % 5], now() - interval '100 days',"
        " CASE WHEN n % 3 = 0 THEN now() - make_interval(days => 15 * (6 - s)) END"
        " FROM generate_series(1, :part) n, generate_series(0, 5) s",
        tag=tag, owner=owner, department=department, part=part,
    )  # fmt: skip
    try:
        began = datetime.now(UTC)
        await customer.admin.SimulatePoolRule(name=draft.name, days=90)

        async def done() -> Any:
            rule = await customer.admin.GetPoolRule(name=draft.name)
            return rule if rule.simulation.state == pb.PoolRule.Simulation.DONE else None

        result = (await customer.eventually(done, minutes * 60)).simulation
        assert result.returns >= part // 2
        took = (datetime.now(UTC) - began).total_seconds()
        assert took * whole / part < minutes * 60 * PATIENCE, f"{took} s for {part} accounts"
    finally:
        await sql(
            customer,
            "DELETE FROM sea_states WHERE tags && ARRAY(SELECT :tag || n FROM generate_series(0, 4) n)",
            tag=tag,
        )
        await sql(customer, "DELETE FROM simulated_returns WHERE rule = :rule", rule=draft.name)


@pytest.mark.capability("c.sea")
async def test_what_came_with_a_converted_lead_is_its_claimants_to_see(customer: Service) -> None:
    me, seller = customer.person("stranger").employee, customer.person("sales2")
    stranger, lead = customer.client("stranger"), f"leads/{uuid4()}"
    pool, _ = await pool_with(customer, {}, [me])
    made = await account(customer.admin, pool=pool.name)
    fact = {
        "lead": {"name": lead, "owner": seller.employee, "department": seller.department, "account": made.name,
                 "displayName": "展会线索"},
        "account": made.name,
    }  # fmt: skip
    await customer.tell("crm.sales.v1.LeadConverted", fact, lead)

    async def told() -> bool:
        lines = (await customer.admin.ListTimeline(filter=f'account = "{made.name}"')).timeline
        return any(line.ref == lead for line in lines)

    await customer.eventually(told)
    assert not (await stranger.ListTimeline(filter=f'account = "{made.name}"')).timeline
    await stranger.ClaimAccount(name=made.name)

    async def seen() -> bool:
        lines = (await stranger.ListTimeline(filter=f'account = "{made.name}"')).timeline
        return any(line.ref == lead for line in lines)

    await customer.eventually(seen)
