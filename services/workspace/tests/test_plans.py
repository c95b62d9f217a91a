"""Plans and summaries, filled by what really happened, and the record of one's own work."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Service, local_date


def day(value: date) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


def iso(message: Any) -> str:
    return date(message.year, message.month, message.day).isoformat()


async def hired(workspace: Service, office: Any, **more: Any) -> tuple[str, Any]:
    """A new colleague whose superior is the manager."""
    boss = workspace.person("manager").employee
    made = await office.hire(f"plan{uuid4().hex[:8]}", ["sales_representative"], superior=boss, **more)
    return made.name, await office.client_of(made)


async def visited(workspace: Service, person: str, account: str, when: datetime) -> str:
    """A visit was made, told twice as a broker may."""
    name = f"visits/{uuid4()}"
    visit = {
        "name": name,
        "owner": person,
        "account": account,
        "checkIn": {"serverTime": when.isoformat().replace("+00:00", "Z")},
    }
    await workspace.tell("crm.sales.v1.VisitCompleted", {"visit": visit}, name, times=2)
    return name


@pytest.mark.capability("w.plan")
async def test_a_plan_is_filled_by_facts_agreed_to_and_its_rest_carried_over(
    workspace: Service, office: Any
) -> None:
    person, client = await hired(workspace, office)
    now = datetime.now(UTC)
    account = f"accounts/{uuid4()}"
    empty = await client.CreateWorkPlan(workPlan={"period": "DAY", "startDate": day(date(2027, 1, 4))})
    assert await office.refusal(client.SubmitWorkPlan(name=empty.name)) == "PLAN_EMPTY"
    items = [
        {"text": "拜访三家", "measure": "VISITS", "planned": 3},
        {"text": "拜访这家", "measure": "VISITS", "planned": 1, "target": account},
        {"text": "写方案"},
    ]
    plan = await client.CreateWorkPlan(
        workPlan={"period": "WEEK", "startDate": day(local_date()), "items": items}
    )
    assert plan.approver == workspace.person("manager").employee
    again = {"period": "WEEK", "startDate": plan_day(plan)}
    assert await office.refusal(client.CreateWorkPlan(workPlan=again)) == "PLAN_PERIOD_TAKEN"
    last = {"period": "WEEK", "startDate": day(date(9999, 12, 31))}
    assert await office.refusal(client.CreateWorkPlan(workPlan=last)) == "VALIDATION"
    await client.SubmitWorkPlan(name=plan.name)
    assert await office.refusal(client.ApproveWorkPlan(name=plan.name)) in {
        "NOT_AN_APPROVER",
        "PERMISSION_DENIED",
    }
    assert await office.refusal(workspace.sales2.ApproveWorkPlan(name=plan.name)) == "NOT_FOUND"
    back = await workspace.manager.ReturnWorkPlan(name=plan.name, reason="再加一家客户")
    assert (back.state, back.remark) == (pb.WorkPlan.RETURNED, "再加一家客户")
    await client.SubmitWorkPlan(name=plan.name)
    approved = await workspace.manager.ApproveWorkPlan(name=plan.name, remark="同意")
    assert approved.state == pb.WorkPlan.APPROVED
    (told,) = await workspace.facts("crm.workspace.v1.WorkPlanApproved", plan.name)
    assert told["workPlan"]["items"][0]["planned"] == 3

    await visited(workspace, person, account, now)
    await visited(workspace, person, f"accounts/{uuid4()}", now)

    async def filled() -> list[int]:
        found = [item.actual for item in (await client.GetWorkPlan(name=plan.name)).items]
        return found if found[0] >= 2 else []

    assert await workspace.eventually(filled) == [2, 1, 0]
    following = await client.CarryOverWorkPlan(name=plan.name)
    twice = await client.CarryOverWorkPlan(name=plan.name)
    assert twice.name == following.name
    assert [(item.text, item.planned) for item in twice.items] == [("拜访三家", 1), ("写方案", 0)]
    assert iso(following.start_date) == (now_monday(plan) + timedelta(days=7)).isoformat()


def plan_day(plan: Any) -> dict[str, int]:
    """The Sunday of the plan's week: another day of the same period."""
    return day(now_monday(plan) + timedelta(days=6))


def now_monday(plan: Any) -> date:
    return date.fromisoformat(iso(plan.start_date))


@pytest.mark.capability("w.plan")
async def test_a_year_of_53_weeks_has_53_plans(workspace: Service, office: Any) -> None:
    _, client = await hired(workspace, office)
    monday, titles = date(2025, 12, 29), list[str]()
    for week in range(53):
        first = monday + timedelta(weeks=week)
        # Any day of the week may be given.
        plan = await client.CreateWorkPlan(
            workPlan={"period": "WEEK", "startDate": day(first + timedelta(days=week % 7))}
        )
        assert (iso(plan.start_date), iso(plan.end_date)) == (
            first.isoformat(),
            (first + timedelta(days=6)).isoformat(),
        )
        titles.append(plan.display_name)
    assert (titles[0], titles[-1], len(set(titles))) == ("2026年第1周", "2026年第53周", 53)
    behind = await client.CreateWorkPlan(
        workPlan={"period": "WEEK", "startDate": day(monday + timedelta(weeks=53))}
    )
    assert behind.display_name == "2027年第1周"


@pytest.mark.capability("w.plan")
async def test_who_is_on_leave_is_excused_and_not_missing(workspace: Service, office: Any) -> None:
    when = date(2027, 2, 15)
    away, absent = await hired(workspace, office)
    lazy, _ = await hired(workspace, office)
    diligent, client = await hired(workspace, office)
    leave = {
        "displayName": "年假",
        "kind": "LEAVE",
        "startDate": day(when),
        "endDate": day(when + timedelta(days=4)),
    }
    await absent.CreateCalendarEvent(calendarEvent=leave)
    plan = await client.CreateWorkPlan(
        workPlan={"period": "WEEK", "startDate": day(when), "items": [{"text": "回访"}]}
    )
    assert not (await client.SubmitWorkPlan(name=plan.name)).late
    found = await workspace.manager.ReadSubmissions(period="WEEK", day=when.isoformat())
    (entry,) = [d for d in found.departments if d.department == workspace.person("sales1").department]
    assert diligent in entry.submitted and lazy in entry.missing and away in entry.excused
    assert not {away, diligent} & set(entry.missing)
    assert entry.rate == 100 * len(entry.submitted) // (len(entry.submitted) + len(entry.missing))
    own = await client.ReadSubmissions(period="WEEK", day=when.isoformat())
    assert [list(d.submitted) for d in own.departments] == [[diligent]]
    past = await client.CreateWorkPlan(
        workPlan={"period": "WEEK", "startDate": day(date(2026, 3, 2)), "items": [{"text": "补交"}]}
    )
    assert (await client.SubmitWorkPlan(name=past.name)).late


@pytest.mark.capability("w.plan")
async def test_a_summary_has_its_figures_and_the_superior_marks_it(workspace: Service, office: Any) -> None:
    person, client = await hired(workspace, office)
    now = datetime.now(UTC)
    await visited(workspace, person, f"accounts/{uuid4()}", now)
    body = {
        "period": "MONTH",
        "startDate": day(local_date()),
        "accomplished": "签了一单",
        "problems": "缺样品",
    }
    summary = await client.CreateWorkSummary(workSummary=body)
    assert await office.refusal(client.CreateWorkSummary(workSummary=body)) == "SUMMARY_PERIOD_TAKEN"

    async def counted() -> Any:
        return list((await client.GetWorkSummary(name=summary.name)).activity)

    (activity,) = await workspace.eventually(counted)
    assert (activity.measure, activity.count) == (pb.VISITS, 1)
    await client.SubmitWorkSummary(name=summary.name)
    change = {"name": summary.name, "accomplished": "改写"}
    assert (
        await office.refusal(client.UpdateWorkSummary(workSummary=change, updateMask="accomplished"))
        == "ILLEGAL_TRANSITION"
    )
    reviewed = await workspace.manager.ReviewWorkSummary(name=summary.name, score=88, comment="继续保持")
    assert (reviewed.state, reviewed.score, reviewed.comments[0].text) == (
        pb.WorkSummary.REVIEWED,
        88,
        "继续保持",
    )
    assert len(await workspace.facts("crm.workspace.v1.WorkSummarySubmitted", summary.name)) == 1


@pytest.mark.capability("w.visitrec")
async def test_the_record_of_work_equals_the_facts_behind_it(workspace: Service, office: Any) -> None:
    person, client = await hired(workspace, office)
    # 23:30 on the 10th in Shanghai, entered now: it counts for the 10th and is marked late.
    names = [
        await visited(workspace, person, f"accounts/{uuid4()}", datetime(2026, 11, 10, 15, 30, tzinfo=UTC))
        for _ in range(3)
    ]
    call = f"interactions/{uuid4()}"
    logged = {
        "name": call,
        "owner": person,
        "channel": "CALL",
        "account": f"accounts/{uuid4()}",
        "startTime": "2026-11-10T02:00:00Z",
    }
    await workspace.tell("crm.customer.v1.InteractionLogged", {"interaction": logged}, call)
    made = f"interactions/{uuid4()}"
    of_visit = {**logged, "name": made, "channel": "VISIT", "sourceKey": names[0]}
    await workspace.tell("crm.customer.v1.InteractionLogged", {"interaction": of_visit}, made)

    async def record() -> Any:
        found = await client.ReadWorkRecord(period="DAY", day="2026-11-10")
        counts = {pb.Measure.Name(c.measure): (c.count, c.late) for c in found.periods[0].counts}
        return found if counts["VISITS"][0] == 3 and counts["CALLS"][0] == 1 else None

    found = await workspace.eventually(record)
    counts = {pb.Measure.Name(c.measure): c for c in found.periods[0].counts}
    assert (counts["VISITS"].late, counts["INTERACTIONS"].count) == (3, 0)
    assert [p.start_day for p in found.periods] == [f"2026-11-{n:02}" for n in (10, 9, 8, 7, 6)]
    facts = (await client.ListWorkFacts(fromDay="2026-11-10", toDay="2026-11-10")).facts
    assert sorted(f.source for f in facts) == sorted([*names, call])
    assert {f.day for f in facts} == {"2026-11-10"}
    drilled = await client.ListWorkFacts(fromDay="2026-11-10", toDay="2026-11-10", measure="VISITS")
    assert len(drilled.facts) == counts["VISITS"].count
    # Page by page nothing is missing and nothing twice; a page of other days goes on nowhere.
    asked: dict[str, Any] = {"fromDay": "2026-11-10", "toDay": "2026-11-10", "pageSize": 3}
    page = await client.ListWorkFacts(**asked)
    rest = await client.ListWorkFacts(**asked, pageToken=page.next_page_token)
    assert [len(page.facts), len(rest.facts), rest.next_page_token] == [3, 1, ""]
    assert [f.source for f in (*page.facts, *rest.facts)] == [f.source for f in facts]
    other = client.ListWorkFacts(**{**asked, "toDay": "2026-11-11"}, pageToken=page.next_page_token)
    assert await office.refusal(other) == "PAGE_TOKEN_INVALID"
    # A department's median stands only where it hides everybody; here are five and more.
    alone = await office.hire(
        f"alone{uuid4().hex[:6]}", ["sales_representative"], department=await lonely(workspace)
    )
    solitary = await (await office.client_of(alone)).ReadWorkRecord(period="DAY", day="2026-11-10")
    assert {c.department_median for c in solitary.periods[0].counts} == {-1}
    # Machines in the department hide nobody.
    for _ in range(4):
        await office.hire(f"robot{uuid4().hex[:8]}", [], department=alone.department, kind="SERVICE")
    beside = await (await office.client_of(alone)).ReadWorkRecord(period="DAY", day="2026-11-10")
    assert {c.department_median for c in beside.periods[0].counts} == {-1}
    for _ in range(4):
        await hired(workspace, office)
    shared = await client.ReadWorkRecord(period="DAY", day="2026-11-10")
    assert min(c.department_median for c in shared.periods[0].counts) >= 0
    # Superiors read it, peers do not.
    assert (await workspace.manager.ReadWorkRecord(employee=person, period="DAY", day="2026-11-10")).periods
    _, peer = await hired(workspace, office)
    assert (
        await office.refusal(peer.ReadWorkRecord(employee=person, period="DAY", day="2026-11-10"))
        == "NOT_FOUND"
    )
    assert (
        await office.refusal(peer.ListWorkFacts(employee=person, fromDay="2026-11-10", toDay="2026-11-10"))
        == "NOT_FOUND"
    )


async def test_mail_counts_for_who_has_sent_it_is_never_late_and_what_customers_send_is_nobodys_work(
    workspace: Service, office: Any
) -> None:
    person, client = await hired(workspace, office)

    async def told(**more: Any) -> str:
        name = f"interactions/{uuid4()}"
        logged = {
            "name": name, "owner": person, "account": f"accounts/{uuid4()}", "startTime": "2026-11-10T02:00:00Z", **more,
        }  # fmt: skip
        await workspace.tell("crm.customer.v1.InteractionLogged", {"interaction": logged}, name)
        return name

    def mail() -> str:
        return f"mailRecords/{uuid4()}"

    await told(channel="EMAIL", direction="INBOUND", sourceKey=mail())
    await told(channel="OTHER", direction="INBOUND", sourceKey=f"submissions/{uuid4()}")
    await told(channel="MEETING", sourceKey=f"gatherings/{uuid4()}")
    sent = await told(channel="EMAIL", direction="OUTBOUND", sourceKey=mail())
    answered = await told(channel="CALL", direction="INBOUND", sourceKey=uuid4().hex)
    # Somebody has written down a mail of the customer: that is work, and late.
    noted = await told(channel="EMAIL", direction="INBOUND")

    async def all_heard() -> Any:
        facts = (await client.ListWorkFacts(fromDay="2026-11-10", toDay="2026-11-10")).facts
        return facts if noted in {fact.source for fact in facts} else None

    facts = await workspace.eventually(all_heard)
    assert {fact.source: fact.late for fact in facts} == {sent: False, answered: False, noted: True}
    (now, *_) = (await client.ReadWorkRecord(period="DAY", day="2026-11-10")).periods
    counts = {pb.Measure.Name(c.measure): (c.count, c.late) for c in now.counts if c.count}
    assert counts == {"MAILS": (2, 1), "CALLS": (1, 0)}


@pytest.mark.capability("w.visitrec")
async def test_deals_moved_documents_answers_and_kept_plans_count_for_who_did_them(
    workspace: Service, office: Any
) -> None:
    person, client = await hired(workspace, office)
    other, _ = await hired(workspace, office)
    when = local_date()

    async def told(fact: str, place: str, actor: str = person, **record: Any) -> str:
        name = record.pop("name", f"{place}s/{uuid4()}")
        await workspace.tell(fact, {place: {"name": name, "owner": other, **record}}, name, actor=actor)
        return name

    # A deal of somebody else's that was moved twice: two moves of who moved it.
    deal = await told("crm.sales.v1.OpportunityStageChanged", "opportunity")
    await told("crm.sales.v1.OpportunityStageChanged", "opportunity", name=deal)
    await told("crm.sales.v1.OpportunityStageChanged", "opportunity", actor="system/sales")
    documents = [
        await told("crm.sales.v1.QuoteSent", "quote"), await told("crm.orders.v1.ContractSubmitted", "contract"),
        await told("crm.workspace.v1.FileUploaded", "file"),
    ]  # fmt: skip
    # What a mailbox has kept was nobody's work.
    await told("crm.workspace.v1.FileUploaded", "file", actor="system/workspace")
    # The first answer took 25 minutes from when the lead was the person's, whatever it had waited before.
    answered = datetime.now(UTC) - timedelta(minutes=1)
    moves = [
        {"to": other, "time": instant(answered - timedelta(hours=9))},
        {"to": person, "time": instant(answered - timedelta(minutes=25))},
    ]
    lead = {"createTime": instant(answered - timedelta(days=2)), "owner": person, "moves": moves}
    await told("crm.sales.v1.LeadStateChanged", "lead", **lead, state="WAITING")
    first = await told("crm.sales.v1.LeadStateChanged", "lead", **lead, firstResponseTime=instant(answered))
    await told(
        "crm.sales.v1.LeadStateChanged", "lead", **lead, firstResponseTime=instant(answered), name=first
    )
    items = [{"text": "拜访客户", "done": True}, {"text": "写方案"}]
    plan = await client.CreateWorkPlan(workPlan={"period": "WEEK", "startDate": day(when), "items": items})
    plan = await client.SubmitWorkPlan(name=plan.name)

    async def record() -> dict[str, Any]:
        (now, *_) = (await client.ReadWorkRecord(period="MONTH", day=iso(plan.end_date))).periods
        (then, *_) = (await client.ReadWorkRecord(period="MONTH", day=when.isoformat())).periods
        return {pb.Measure.Name(one.measure): one for one in (*then.counts, *now.counts) if one.count}

    async def heard() -> Any:
        found = await record()
        return found if len(found) == 3 and found["DOCUMENTS"].count == 3 else None

    found = await workspace.eventually(heard)
    assert {name: one.count for name, one in found.items()} == {
        "DEALS_MOVED": 2,
        "DOCUMENTS": 3,
        "LEADS_ANSWERED": 1,
    }
    assert (found["LEADS_ANSWERED"].median_minutes, found["DOCUMENTS"].median_minutes) == (25, -1)
    asked = {"fromDay": (when - timedelta(days=1)).isoformat(), "toDay": iso(plan.end_date)}
    facts = (await client.ListWorkFacts(**asked)).facts
    assert sorted(fact.source for fact in facts) == sorted([deal, deal, *documents, first])
    paged, token = [], ""
    while token or not paged:
        page = await client.ListWorkFacts(**asked, pageSize=1, pageToken=token)
        paged, token = [*paged, *page.facts], page.next_page_token
    assert [fact.source for fact in paged] == [fact.source for fact in facts]
    # A plan is kept once all of it is done, and no more where that is taken back.
    for done in (True, False, True):
        said = [{"key": one.key, "text": one.text, "done": done} for one in plan.items]
        await client.UpdateWorkPlan(workPlan={"name": plan.name, "items": said}, updateMask="items")
        assert (await record()).keys() - found.keys() == ({"PLANS_KEPT"} if done else set())
    await workspace.manager.ReturnWorkPlan(name=plan.name, reason="目标太少，请重写")
    assert "PLANS_KEPT" not in await record()


def instant(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def lonely(workspace: Service) -> str:
    """A department of nobody."""
    root = (await workspace.admin.ListDepartments(filter='parent = ""')).departments[0]
    made = await workspace.admin.CreateDepartment(
        department={
            "displayName": f"新部门{uuid4().hex[:6]}",
            "parent": root.name,
            "kind": "DEPARTMENT",
            "code": uuid4().hex[:8],
        }
    )
    await workspace.eventually(
        lambda: workspace.running.config.get(f"department.{made.name.partition('/')[2]}")
    )
    return str(made.name)
