"""Where leads wait, how soon somebody must answer, and when they go back; through the front door."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.mapping import to_timestamp
from crmkit.testing import Refused, Service
from sales.jobs import AT_ONCE, sweep_leads
from sales.model.lead import Lead
from sales.model.lead_pool import LeadMoment
from sales.worktime import later
from sqlalchemy import func, or_, select, update

Made = Callable[..., Awaitable[Any]]
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def pool(sales: Service) -> Made:
    """A pool of the eastern branch."""

    async def make(**fields: Any) -> Any:
        body = {"displayName": "华东线索池", "memberEmployees": [sales.person("sales1").employee], **fields}
        return await sales.manager.CreateLeadPool(leadPool=body)

    return make


@pytest.fixture
def rule(sales: Service) -> Made:
    """A version of a pool's rules, simulated and in force."""

    async def make(pool: str, **fields: Any) -> Any:
        draft = await sales.manager.CreateLeadPoolRule(leadPoolRule={"pool": pool, **fields})
        return await in_force(sales, draft.name)

    return make


async def in_force(sales: Service, name: str) -> Any:
    await sales.manager.SimulateLeadPoolRule(name=name, days=30)

    async def simulated() -> Any:
        found = await sales.manager.GetLeadPoolRule(name=name)
        return found if found.simulation.state == pb.LeadPoolRule.Simulation.DONE else None

    await sales.eventually(simulated, 30)
    return await sales.manager.ActivateLeadPoolRule(name=name)


async def aged(sales: Service, lead: str, days: float) -> None:
    """Lets everything of the lead have happened so many days earlier."""
    key, back = UUID(lead.partition("/")[2]), timedelta(days=days)
    async with sales.running.call("test", system("sales")) as call:
        row = (await call.db.scalars(select(Lead).where(Lead.id == key))).one()
        for name in ("owner_time", "state_time", "last_follow_up_time", "response_start_time", "next_response_time",
                     "first_response_due_time", "return_due_time", "return_check_time"):  # fmt: skip
            if (value := getattr(row, name)) is not None:
                setattr(row, name, value - back)
        moved = update(LeadMoment).where(LeadMoment.lead == key).values(time=LeadMoment.time - back)
        await call.db.execute(moved)


async def swept(sales: Service, at: datetime | None = None) -> None:
    """Until nothing is due: a run takes a few hundred, and other tests have leads too."""
    at = at or datetime.now(UTC)
    due = or_(Lead.next_response_time <= at, Lead.return_check_time <= at)
    for _ in range(20):
        async with sales.running.call("test", system("sales")) as call:
            left = await call.db.scalar(select(func.count()).select_from(Lead).where(due))
            await sweep_leads(at, call)
        if (left or 0) <= AT_ONCE:
            return
    pytest.fail("the sweep does not come to its end")


async def told(sales: Service, fact: str, lead: str) -> list[dict[str, Any]]:
    return await sales.facts(f"crm.sales.v1.{fact}", lead)


def test_working_time_leaves_out_nights_weekends_and_holidays() -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)

    assert later(at("2026-03-04 10:00"), 30) == at("2026-03-04 10:30")
    assert later(at("2026-03-04 17:45"), 30) == at("2026-03-05 09:15")
    # Friday evening goes on on Monday.
    assert later(at("2026-03-06 19:00"), 30) == at("2026-03-09 09:30")
    assert later(at("2026-03-06 17:00"), 60 * 10, 9, 18) == at("2026-03-09 18:00")
    assert later(at("2025-09-30 17:50"), 30) == at("2025-10-09 09:20")


async def test_members_claim_out_of_a_pool_what_it_hides_from_them_until_then(
    sales: Service, pool: Made, rule: Made
) -> None:
    with pytest.raises(Refused) as refused:
        await pool(hiddenFields=["secret"])
    assert refused.value.violations == {"lead_pool.hidden_fields": "UNKNOWN_FIELD"}
    made = await pool(hiddenFields=["phone", "personName"])
    await rule(made.name, claimsPerDay=2, previousOwnerDays=30)
    leads = []
    for number in range(3):
        phone = {"number": f"139{uuid4().int % 10**8:08}"}
        body = {"displayName": f"池中{number}", "personName": "王五", "phones": [phone]}
        lead = await sales.client("manager").CreateLead(lead=body)
        leads.append(lead.name)
    # A manager's own goes where he says, if he could claim it there.
    with pytest.raises(Refused) as refused:
        await sales.manager.ReleaseLead(name=leads[0], pool=made.name, reason="太多")
    assert refused.value.reason == "NOT_POOL_MEMBER"
    members = [sales.person("sales1").employee, sales.person("manager").employee]
    await sales.manager.UpdateLeadPool(
        leadPool={"name": made.name, "memberEmployees": members}, updateMask="memberEmployees"
    )
    for name in leads:
        back = await sales.manager.ReleaseLead(name=name, pool=made.name, reason="太多")
        assert (back.owner, back.state, back.pool) == ("", pb.Lead.NEW, made.name)
        assert [move.how for move in back.moves] == ["CREATE", "RELEASE"]
    [fact] = await told(sales, "LeadReturnedToPool", leads[0])
    assert (fact["how"], fact["from"]) == ("RELEASE", sales.person("manager").employee)

    mine = f'pool = "{made.name}"'
    items = (await sales.sales1.ListLeadPoolItems(filter=mine, orderBy="createTime")).lead_pool_items
    assert [(item.display_name, item.person_name, item.phone) for item in items] == [
        (f"池中{number}", "", "") for number in range(3)
    ]
    assert not (await sales.sales2.ListLeadPoolItems(filter=mine)).lead_pool_items
    with pytest.raises(Refused) as refused:
        await sales.sales2.ClaimLead(name=leads[0])
    assert refused.value.code.name == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await sales.manager.CloseLeadPool(name=made.name)
    assert refused.value.reason == "POOL_NOT_EMPTY"

    with pytest.raises(Refused) as refused:
        await sales.manager.ClaimLead(name=leads[0])
    assert refused.value.reason == "CLAIM_TOO_SOON"
    answers = await asyncio.gather(
        *(sales.sales1.ClaimLead(name=name) for name in leads), return_exceptions=True
    )
    claimed = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert [lead.phones[0].number[:6] for lead in claimed] == ["+86139"] * 2
    assert [answer.reason for answer in answers if isinstance(answer, Refused)] == ["CLAIM_QUOTA_EXCEEDED"]
    items = (await sales.sales1.ListLeadPoolItems(filter=mine)).lead_pool_items
    assert len(items) == 1
    # Whoever gets the last one by hand takes it out too, and then the pool can close.
    await sales.manager.AssignLead(name=items[0].lead, owner=sales.person("sales1").employee)
    assert (await sales.manager.CloseLeadPool(name=made.name)).state == pb.LeadPool.CLOSED
    with pytest.raises(Refused) as refused:
        await sales.sales1.ReleaseLead(name=claimed[0].name, reason="不要了")
    assert refused.value.reason == "POOL_CLOSED"


async def test_a_manager_gives_many_waiting_leads_to_people_in_turn(sales: Service, pool: Made) -> None:
    one, two = (sales.person(who).employee or "" for who in ("sales1", "sales2"))
    made = await pool(managers=[sales.person("manager").employee])
    leads: list[str] = []
    for number in range(5):
        lead = await sales.sales1.CreateLead(
            lead={"displayName": f"批量{number}", "companyName": uuid4().hex}
        )
        await sales.sales1.ReleaseLead(name=lead.name, pool=made.name, reason="分出去")
        leads.append(lead.name)
    key = {"requestId": str(uuid4())}
    with pytest.raises(Refused) as refused:
        await sales.sales1.AssignLeadPoolItems(name=made.name, employees=[two], requestId=str(uuid4()))
    assert refused.value.code.name == "PERMISSION_DENIED"
    # The longest waiting first, each as many as is said; once, however often it is asked for.
    for _ in range(2):
        await sales.manager.AssignLeadPoolItems(name=made.name, employees=[one, two], each=1, **key)
    owners = [(await sales.admin.GetLead(name=name)).owner for name in leads]
    assert owners == [one, two, "", "", ""]
    with pytest.raises(Refused) as refused:
        await sales.manager.AssignLeadPoolItems(
            name=made.name, employees=[two], leads=[leads[0], leads[2]], requestId=str(uuid4())
        )
    assert refused.value.code.name == "NOT_FOUND"
    await sales.manager.AssignLeadPoolItems(
        name=made.name, employees=[two, one], leads=leads[2:], requestId=str(uuid4())
    )
    owners = [(await sales.admin.GetLead(name=name)).owner for name in leads]
    assert owners == [one, two, two, one, two]
    assert not (await sales.admin.ListLeadPoolItems(filter=f'pool = "{made.name}"')).lead_pool_items


async def test_a_person_with_enough_open_leads_claims_no_more(sales: Service, pool: Made, rule: Made) -> None:
    made = await pool()
    await rule(made.name, maxOpen=1)
    lead = await sales.sales1.CreateLead(lead={"displayName": "在办"})
    await sales.sales1.ReleaseLead(name=lead.name, pool=made.name, reason="试")
    await sales.sales1.CreateLead(lead={"displayName": "还有一个"})
    with pytest.raises(Refused) as refused:
        await sales.sales1.ClaimLead(name=lead.name)
    assert (refused.value.reason, refused.value.info.metadata["limit"]) == ("CAPACITY_EXCEEDED", "1")


async def test_a_rule_comes_into_force_only_as_it_was_simulated_on_the_past(
    sales: Service, pool: Made
) -> None:
    made = await pool()
    quiet = await sales.sales1.CreateLead(lead={"displayName": "没人跟"})
    await sales.sales1.ReleaseLead(name=quiet.name, pool=made.name, reason="试")
    await sales.sales1.ClaimLead(name=quiet.name)
    await sales.sales1.FollowUpLead(name=quiet.name, summary="首次响应")
    busy = await sales.sales1.CreateLead(lead={"displayName": "有人跟"})
    await sales.sales1.ReleaseLead(name=busy.name, pool=made.name, reason="试")
    await sales.sales1.ClaimLead(name=busy.name)
    await aged(sales, quiet.name, 20)
    await aged(sales, busy.name, 20)
    await sales.sales1.FollowUpLead(name=busy.name, summary="电话谈过", channel="CALL")
    await aged(sales, busy.name, 8)

    clause = {"key": "A-15", "clock": "NO_FOLLOW_UP", "days": 15}
    draft = await sales.manager.CreateLeadPoolRule(
        leadPoolRule={
            "pool": made.name,
            "clauses": [clause, {"key": "B", "clock": "STAGE_STUCK", "days": 90}],
        }
    )
    assert (draft.revision, draft.display_name) == (1, "V1")
    with pytest.raises(Refused) as refused:
        await sales.manager.ActivateLeadPoolRule(name=draft.name)
    assert refused.value.reason == "POOL_RULE_NOT_SIMULATED"
    active = await in_force(sales, draft.name)
    simulation = active.simulation
    # The one was last spoken with 20 days ago; the other was taken 28 days ago and spoken with 20 days later.
    assert (simulation.leads, simulation.returns, simulation.today) == (2, 2, 1)
    assert {(one.lead, one.clause) for one in simulation.examples} == {
        (quiet.name, "A-15"),
        (busy.name, "A-15"),
    }
    changed = {"name": draft.name, "clauses": [clause | {"days": 5}]}
    with pytest.raises(Refused) as refused:
        await sales.manager.UpdateLeadPoolRule(leadPoolRule=changed, updateMask="clauses")
    assert refused.value.reason == "RULE_IMMUTABLE"

    # Nothing goes back at once: whoever would be overdue has seven days of grace.
    async def wound() -> Any:
        found = await sales.sales1.GetLead(name=quiet.name)
        return found if found.HasField("return_due_time") else None

    due = (await sales.eventually(wound, 30)).return_due_time.ToDatetime(UTC)
    assert timedelta(days=6, hours=23) < due - datetime.now(UTC) <= timedelta(days=7)
    await swept(sales)
    assert (await sales.sales1.GetLead(name=quiet.name)).owner
    second = await sales.manager.CreateLeadPoolRule(leadPoolRule={"pool": made.name, "clauses": [clause]})
    assert (await in_force(sales, second.name)).revision == 2
    assert (await sales.manager.GetLeadPoolRule(name=draft.name)).state == pb.LeadPoolRule.RETIRED


async def test_owners_are_warned_once_a_step_and_then_the_lead_goes_back(
    sales: Service, pool: Made, rule: Made
) -> None:
    made = await pool()
    clauses = [
        {"key": "HOT", "ratings": ["HOT"], "clock": "NO_FOLLOW_UP", "days": 5, "action": "NOTIFY"},
        {"key": "REST", "clock": "NO_FOLLOW_UP", "days": 10},
    ]
    await rule(made.name, clauses=clauses)
    lead = await sales.sales1.CreateLead(lead={"displayName": "等回收"})
    hot = await sales.sales1.CreateLead(lead={"displayName": "只提醒", "rating": "HOT"})
    for one in (lead, hot):
        await sales.sales1.ReleaseLead(name=one.name, pool=made.name, reason="试")
        await sales.sales1.ClaimLead(name=one.name)
        await sales.sales1.FollowUpLead(name=one.name, summary="首次响应")
    await aged(sales, lead.name, 8)
    for _ in range(2):
        await swept(sales)
    [warned] = await told(sales, "LeadReturnWarned", lead.name)
    assert warned["days"] == 1
    # A follow-up winds the clock anew, and the owner is warned again before the next end.
    fresh = await sales.sales1.FollowUpLead(name=lead.name, summary="谈过")
    assert fresh.return_due_time.ToDatetime(UTC) - datetime.now(UTC) > timedelta(days=9)
    await aged(sales, lead.name, 11)
    await aged(sales, hot.name, 11)
    for _ in range(2):
        await swept(sales)
    back = await sales.admin.GetLead(name=lead.name)
    assert (back.owner, back.state, back.moves[-1].how, back.moves[-1].reason) == (
        "",
        pb.Lead.NEW,
        "RECYCLE",
        "REST",
    )
    assert len(await told(sales, "LeadReturnedToPool", lead.name)) == 2
    kept = await sales.sales1.GetLead(name=hot.name)
    assert kept.owner == sales.person("sales1").employee
    assert [fact.get("days", 0) for fact in await told(sales, "LeadReturnWarned", hot.name)][-1] == 0
    again = await sales.sales1.ClaimLead(name=lead.name)
    assert (again.owner, again.state) == (sales.person("sales1").employee, pb.Lead.WORKING)


async def test_nobody_answers_owner_then_superior_then_somebody_else_then_the_pool(
    sales: Service, pool: Made
) -> None:
    made, line = await pool(memberRoles=["sales_representative"]), uuid4().hex[:10]
    intake = {
        "displayName": "QQ",
        "channels": ["QQ"],
        "position": -1000,
        "pool": made.name,
        "firstResponseMinutes": 30,
    }
    with pytest.raises(Refused) as refused:
        await sales.manager.CreateLeadIntake(leadIntake={**intake, "superiorDays": 6})
    assert refused.value.violations == {"lead_intake.pool_days": "OUT_OF_RANGE"}
    settings = await sales.manager.CreateLeadIntake(leadIntake=intake)
    other = sales.person("sales2").employee
    rule = await sales.manager.CreateAssignmentRule(
        assignmentRule={"displayName": "转派", "productLines": [line], "members": [{"employee": other}]}
    )
    mine, boss = sales.person("sales1").employee, sales.person("manager").employee
    try:
        body = {"displayName": "QQ来客", "channel": "QQ", "interests": [{"productLine": line}]}
        lead = await sales.client("marketer").CreateLead(lead=body)
        # Nobody's: it waits in the pool of its channel.
        assert (lead.owner, lead.pool, lead.state) == ("", made.name, pb.Lead.NEW)
        lead = await sales.sales1.ClaimLead(name=lead.name)
        start = lead.owner_time.ToDatetime(UTC)
        assert lead.first_response_due_time == to_timestamp(later(start, 30))
        due = lead.first_response_due_time.ToDatetime(UTC)
        await sales.manager.ActivateAssignmentRule(name=rule.name)
        # Steps come not before the first one, whose night or holidays may be long.
        steps = [max(due, start + timedelta(days=day)) for day in (3, 5, 7)]
        await swept(sales, due - timedelta(seconds=1))
        assert not await told(sales, "LeadResponseOverdue", lead.name)
        await swept(sales, due)
        await swept(sales, due + timedelta(minutes=1))
        await swept(sales, steps[0])
        await swept(sales, steps[1])
        given = await sales.admin.GetLead(name=lead.name)
        assert (given.owner, given.moves[-1].how) == (other, rule.name)
        await swept(sales, steps[2])
        await swept(sales, steps[2] + timedelta(days=30))
        facts = await told(sales, "LeadResponseOverdue", lead.name)
        assert [(fact["step"], fact["recipients"]) for fact in facts] == [
            ("OWNER", [mine]),
            ("SUPERIOR", [mine, boss]),
            ("REASSIGN", [mine, boss, other]),
            ("RECYCLE", [other, sales_superior(sales, "sales2")]),
        ]
        back = await sales.admin.GetLead(name=lead.name)
        assert (back.owner, back.response_step, back.moves[-1].how) == ("", "RECYCLE", "RESPONSE")

        # A late run does the latest step alone, and whoever has answered hears nothing.
        late, answered = [
            await sales.sales1.CreateLead(lead={"displayName": name, "channel": "QQ"})
            for name in ("晚", "快")
        ]
        await sales.sales1.FollowUpLead(name=answered.name, summary="已回电")
        await swept(sales, steps[0] + timedelta(hours=1))
        assert [fact["step"] for fact in await told(sales, "LeadResponseOverdue", late.name)] == ["SUPERIOR"]
        assert not await told(sales, "LeadResponseOverdue", answered.name)
        assert (await sales.sales1.GetLead(name=answered.name)).HasField("first_response_time")
    finally:
        await sales.manager.RetireAssignmentRule(name=rule.name)
        await sales.manager.DeleteLeadIntake(name=settings.name)


def sales_superior(sales: Service, username: str) -> str:
    """The superior as the configuration has it."""
    key = (sales.person(username).employee or "").partition("/")[2]
    return sales.running.config.get(f"employee.{key}")["superior"]
