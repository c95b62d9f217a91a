"""Pipelines, forecasts, competitors and deals of another system, through the front door."""

import asyncio
import csv
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import process_time
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.schedule import Job
from crmkit.tables import HeldAction
from crmkit.testing import Refused, Service, local_date
from sales import jobs
from sales.app import app
from sales.forecast import wilson
from sales.jobs import list_incumbents, snapshot_forecasts, tell_of_stuck_deals
from sales.model.opportunity import Opportunity
from sqlalchemy import Text, cast, func, select, update
from sqlalchemy.dialects.postgresql import array

Made = Callable[..., Awaitable[Any]]
DATA = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
MAVEN = DATA / "crm-sales-opportunities"


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


def day(value: date) -> dict[str, int]:
    return {"year": value.year, "month": value.month, "day": value.day}


@pytest.fixture
def pipeline(sales: Service) -> Made:
    """A pipeline in use with three stages and gates."""

    async def make(**fields: Any) -> Any:
        stages = [
            {"key": "A", "displayName": "接洽", "probability": "10", "forecastCategory": "PIPELINE", "exitFields": ["strategy"],
             "checklist": ["确认预算", "确认决策人"], "method": "SPIN", "tools": ["提纲"], "guide": "先听"},
            {"key": "B", "displayName": "方案", "probability": "25", "forecastCategory": "BEST_CASE", "entryFields": ["expected_close_date"],
             "strategyAbove": cny("100000.00")},
            {"key": "C", "displayName": "签约", "probability": "90", "forecastCategory": "COMMIT"},
        ]  # fmt: skip
        made = await sales.admin.CreatePipeline(
            pipeline={"displayName": "大客户", "stages": stages, **fields}
        )
        return await sales.admin.ActivatePipeline(name=made.name)

    return make


@pytest.mark.capability("s.process")
@pytest.mark.capability("s.support")
async def test_a_stage_is_left_when_everything_is_there_and_every_gap_is_told_at_once(
    sales: Service, pipeline: Made, account: Made
) -> None:
    flow = await pipeline()
    body = {
        "displayName": "新线",
        "account": await account(),
        "pipeline": flow.name,
        "amount": cny("100000.00"),
        "need": "提速",
        "expectedCloseDate": day(date(2027, 5, 1)),
    }
    made = await sales.sales1.CreateOpportunity(opportunity=body)
    with pytest.raises(Refused) as refused:
        await sales.sales1.AdvanceOpportunity(name=made.name)
    assert refused.value.reason == "STAGE_CRITERIA_MISSING"
    named = refused.value.info.metadata["missing"]
    for gap in ("销售策略", "确认预算", "确认决策人", "策略表"):
        assert gap in named
    assert set(refused.value.violations) == {
        "opportunity.strategy", "opportunity.checked", "opportunity.strategy_sheet",
    }  # fmt: skip
    assert (await sales.sales1.GetOpportunity(name=made.name)).stage == "A"
    filled = {
        "name": made.name, "strategy": "先试用", "checked": ["A/确认预算", "A/确认决策人"],
        "strategySheet": {"goal": "独家", "powerMap": "厂长决定", "nextSteps": ["试用"]},
    }  # fmt: skip
    await sales.sales1.UpdateOpportunity(opportunity=filled, updateMask="strategy,checked,strategySheet")
    moved = await sales.sales1.AdvanceOpportunity(name=made.name)
    assert (moved.stage, moved.probability) == ("B", "25")
    await sales.sales1.UpdateOpportunity(
        opportunity={"name": made.name, "probability": "40"}, updateMask="probability"
    )
    assert (await sales.sales1.AdvanceOpportunity(name=made.name)).probability == "40"
    with pytest.raises(Refused) as refused:
        await sales.sales1.RetreatOpportunity(name=made.name)
    assert refused.value.violations == {"reason": "REQUIRED"}
    back = await sales.sales1.RetreatOpportunity(name=made.name, reason="预算被砍")
    assert [(visit.stage, visit.reason) for visit in back.stage_history] == [
        ("A", ""), ("B", ""), ("C", ""), ("B", "预算被砍"),
    ]  # fmt: skip
    assert all(visit.HasField("leave_time") for visit in back.stage_history[:3])
    follows = {"name": made.name, "probabilitySource": "STAGE"}
    assert (
        await sales.sales1.UpdateOpportunity(opportunity=follows, updateMask="probabilitySource")
    ).probability == "25"
    assert (await sales.sales1.WinOpportunity(name=made.name)).probability == "100"


@pytest.mark.capability("s.process")
@pytest.mark.capability("s.support")
async def test_files_follow_ups_courses_and_approvals_stand_at_the_gates(
    sales: Service, pipeline: Made, deal: Made
) -> None:
    course = await sales.manager.CreateTip(tip={"displayName": "投标规范", "text": "必读", "kind": "COURSE"})
    flow = await pipeline(
        stages=[
            {"key": "A", "displayName": "接洽", "leastFiles": 1, "leastActivities": 2},
            {"key": "B", "displayName": "投标", "courses": [course.name]},
            {"key": "C", "displayName": "签约", "approval": True},
        ]
    )
    made = await deal(pipeline=flow.name)

    async def refusal() -> Refused:
        with pytest.raises(Refused) as refused:
            await sales.sales1.AdvanceOpportunity(name=made.name)
        return refused.value

    all_gone = await refusal()
    assert all_gone.info.metadata["missing"] == "1 个附件, 2 次跟进, 课程“投标规范”"
    assert set(all_gone.violations) == {
        "opportunity.files", "opportunity.activities", "opportunity.courses",
    }  # fmt: skip
    at = datetime.now(UTC) + timedelta(seconds=1)
    for place in range(2):
        talk = {
            "name": f"interactions/{uuid4()}", "subjects": [made.name, "tickets/x"],
            "startTime": (at - timedelta(days=30 * place)).isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        await sales.tell("crm.customer.v1.InteractionLogged", {"interaction": talk}, talk["name"], times=2)
    file = {
        "name": f"files/{uuid4()}", "attachedTo": [made.name], "createTime": at.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    await sales.tell("crm.workspace.v1.FileUploaded", {"file": file}, file["name"])
    finished = await sales.sales1.FinishCourse(name=course.name)
    assert (await sales.sales1.FinishCourse(name=course.name)).name == finished.name
    assert finished.owner == sales.person("sales1").employee
    with pytest.raises(Refused):
        await sales.sales2.GetCourseCompletion(name=finished.name)

    async def one_talk_is_missing() -> bool:
        # The talk of last month was before the deal came into the stage.
        return (await refusal()).info.metadata["missing"] == "1 次跟进"

    await sales.eventually(one_talk_is_missing)
    last = {
        "name": f"interactions/{uuid4()}", "subjects": [made.name], "startTime": at.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    await sales.tell("crm.customer.v1.InteractionLogged", {"interaction": last}, last["name"])

    async def moved() -> str:
        try:
            return (await sales.sales1.AdvanceOpportunity(name=made.name)).stage
        except Refused:
            return ""

    assert await sales.eventually(moved) == "B"
    assert (await refusal()).reason == "STAGE_NEEDS_APPROVAL"
    async with sales.parts.configuration() as config:
        rule = {"action": "sales.opportunities.advance", "condition": 'stage = "C"', "priority": 1}
        await config.put("approvalPolicy.stage", rule)
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.stage"))
        held = await sales.sales1.AdvanceOpportunity(name=made.name)
        await config.delete("approvalPolicy.stage")
        await sales.eventually(lambda: sales.running.config.get("approvalPolicy.stage") is None)
    assert held.stage == "B"
    approval = {"name": "approvals/s", "heldAction": held.pending_approval.partition("#")[2]}
    await sales.tell("crm.workspace.v1.ApprovalApproved", {"approval": approval}, "approvals/s")

    async def decided() -> bool:
        return (await sales.sales1.GetOpportunity(name=made.name)).stage == "C"

    await sales.eventually(decided)


@pytest.mark.capability("a.approval")
async def test_deals_of_a_file_that_a_policy_wants_decided_are_held_row_by_row(
    sales: Service, pipeline: Made, account: Made
) -> None:
    mark = uuid4().hex[:8]
    flow = await pipeline(stages=[{"key": "A", "displayName": "A"}])
    await account("admin", displayName=f"审批客户{mark}")
    rows = [
        {"externalId": f"{mark}-{n}", "account": f"审批客户{mark}", "amount": amount, "state": state}
        for n, (amount, state) in enumerate((("1", "OPEN"), ("9000", "WON"), ("2", "OPEN"), ("8000", "OPEN")))
    ]
    asked = {"rows": rows, "currency": "CNY", "pipeline": flow.name}
    key = f"approvalPolicy.{uuid4()}"
    async with sales.parts.configuration() as config:
        condition = f'pipeline = "{flow.name}" AND probability >= 0 AND (external_id = "{mark}-1" OR external_id = "{mark}-3")'
        await config.put(key, {"action": "sales.opportunities.create", "condition": condition, "priority": 1})
        await sales.eventually(lambda: sales.running.config.get(key))
        reply = await sales.admin.ImportOpportunities(**asked)
        assert (reply.created, reply.held, list(reply.refusals)) == (2, 2, [])
        # The same file again asks nobody twice.
        again = await sales.admin.ImportOpportunities(**asked)
        assert (again.created, again.held, again.known) == (0, 0, 4)
        await config.delete(key)
        await sales.eventually(lambda: sales.running.config.get(key) is None)
    async with sales.running.sessions() as session:
        statement = (
            select(HeldAction).where(HeldAction.policy == key.partition(".")[2]).order_by(HeldAction.id)
        )
        won, other = await session.scalars(statement)
    for one, how in ((won, "Approved"), (other, "Rejected"), (won, "Approved")):
        approval = {"name": f"approvals/{uuid4()}", "heldAction": str(one.id)}
        await sales.tell(f"crm.workspace.v1.Approval{how}", {"approval": approval}, approval["name"])

    async def deals() -> Any:
        page = await sales.admin.ListOpportunities(filter=f'pipeline = "{flow.name}"', orderBy="external_id")
        return page.opportunities if len(page.opportunities) == 3 else None

    found = await sales.eventually(deals)
    assert [one.external_id for one in found] == [f"{mark}-0", f"{mark}-1", f"{mark}-2"]
    assert (found[1].name, found[1].state, found[1].amount.amount) == (
        won.target,
        pb.Opportunity.WON,
        "9000.00",
    )


@pytest.mark.capability("s.process")
async def test_a_new_version_leaves_running_deals_where_they_are_or_takes_them_along(
    sales: Service, pipeline: Made, account: Made
) -> None:
    flow = await pipeline()
    customer = await account()
    body = {
        "displayName": "在途", "account": customer, "pipeline": flow.name, "need": "x", "amount": cny("1.00"),
        "expectedCloseDate": day(date(2027, 5, 1)),
    }  # fmt: skip
    stays = await sales.sales1.CreateOpportunity(opportunity=body)
    second = await sales.admin.NewPipelineVersion(name=flow.name)
    await sales.admin.ActivatePipeline(name=second.name)
    assert (await sales.sales1.GetOpportunity(name=stays.name)).pipeline == flow.name
    assert (await sales.admin.GetPipeline(name=flow.name)).state == pb.Pipeline.RETIRED
    comes = await sales.sales1.CreateOpportunity(opportunity={**body, "pipeline": second.name})
    third = await sales.admin.NewPipelineVersion(name=second.name)
    stages = [
        {"key": "X", "displayName": "商机", "probability": "15"},
        {"key": "C", "displayName": "签约", "probability": "90"},
    ]
    await sales.admin.UpdatePipeline(pipeline={"name": third.name, "stages": stages}, updateMask="stages")
    with pytest.raises(Refused) as refused:
        await sales.admin.ActivatePipeline(name=third.name, moveDeals=True)
    assert (refused.value.reason, refused.value.info.metadata["stage"]) == ("STAGE_IN_USE", "接洽")
    mapping = [{"fromStage": "A", "toStage": "X"}]
    await sales.admin.ActivatePipeline(name=third.name, moveDeals=True, mappings=mapping)
    moved = await sales.sales1.GetOpportunity(name=comes.name)
    assert (moved.pipeline, moved.stage, moved.probability) == (third.name, "X", "15")
    assert [visit.stage for visit in moved.stage_history] == ["A", "X"]


@pytest.mark.capability("s.process")
async def test_a_stage_that_both_versions_have_goes_on_and_the_deal_follows_what_it_says_now(
    sales: Service, pipeline: Made, deal: Made
) -> None:
    flow = await pipeline(
        stages=[{"key": "A", "displayName": "A", "probability": "20", "forecastCategory": "PIPELINE"}]
    )
    follows, typed = await deal(pipeline=flow.name), await deal(pipeline=flow.name, probability="66")
    second = await sales.admin.NewPipelineVersion(name=flow.name)
    stages = [{"key": "A", "displayName": "A", "probability": "35", "forecastCategory": "COMMIT"}]
    await sales.admin.UpdatePipeline(pipeline={"name": second.name, "stages": stages}, updateMask="stages")
    await sales.admin.ActivatePipeline(name=second.name, moveDeals=True)
    for before, probability, weighted in ((follows, "35", "17500.00"), (typed, "66", "33000.00")):
        moved = await sales.sales1.GetOpportunity(name=before.name)
        assert (moved.pipeline, moved.probability, moved.forecast_category) == (
            second.name,
            probability,
            pb.Pipeline.COMMIT,
        )
        assert moved.weighted_amount.amount == weighted
        assert moved.stage_history == before.stage_history


@pytest.mark.capability("s.process")
async def test_each_visit_of_a_stage_tells_its_days_and_who_brought_the_deal_there(
    sales: Service, pipeline: Made, deal: Made
) -> None:
    flow = await pipeline(stages=[{"key": key, "displayName": key} for key in "AB"])
    made = await deal(pipeline=flow.name)
    await _stays_since(sales, made, timedelta(days=2, hours=1))
    await sales.manager.AdvanceOpportunity(name=made.name)
    await _stays_since(sales, made, timedelta(hours=23))
    await sales.sales1.RetreatOpportunity(name=made.name, reason="换了负责人")
    await _stays_since(sales, made, timedelta(days=5))
    won = await sales.sales1.WinOpportunity(name=made.name)
    mine, superior = (sales.person(name).employee for name in ("sales1", "manager"))
    assert [(visit.stage, visit.days, visit.actor) for visit in won.stage_history] == [
        ("A", 2, mine), ("B", 0, superior), ("A", 5, mine),
    ]  # fmt: skip
    told = await sales.facts("crm.sales.v1.OpportunityStageChanged", made.name)
    assert [fact.get("days", 0) for fact in told] == [2, 0]


@pytest.mark.capability("s.process")
async def test_whose_deal_stands_still_is_past_its_date_or_has_rested_is_told_once(
    sales: Service, pipeline: Made, deal: Made
) -> None:
    stages = [{"key": "A", "displayName": "A", "maxDays": 30}, {"key": "B", "displayName": "B"}]
    flow, today = await pipeline(stages=stages), local_date()
    still, ahead, rests = [
        await deal(pipeline=flow.name, expectedCloseDate=day(today + timedelta(days=away)))
        for away in (90, 10, 90)
    ]
    await sales.sales1.AdvanceOpportunity(name=ahead.name)
    await sales.sales1.SuspendOpportunity(name=rests.name, until=day(today + timedelta(days=40)))

    async def told(deal: Any) -> list[str]:
        notices = await sales.facts("crm.sales.v1.NoticeRaised", deal.name)
        assert all(one["employees"] == [sales.person("sales1").employee] for one in notices)
        return [one["dedupeKey"].split(":")[1] for one in notices]

    async def morning(days: int) -> None:
        async with sales.running.call("test", system("sales")) as call:
            await tell_of_stuck_deals(datetime.now(UTC) + timedelta(days=days), call)

    for days, expected in ((10, ([], [], [])), (11, ([], ["SLIPPED"], [])), (30, ([], ["SLIPPED"], [])),
                           (31, (["STUCK"], ["SLIPPED"], [])), (40, (["STUCK"], ["SLIPPED"], ["RESUME"]))):  # fmt: skip
        for _ in range(2):
            await morning(days)
        assert (await told(still), await told(ahead), await told(rests)) == expected
    # Another date is another matter; who left the stage and came back has its days anew.
    later = {"name": ahead.name, "expectedCloseDate": day(today + timedelta(days=45))}
    await sales.sales1.UpdateOpportunity(opportunity=later, updateMask="expectedCloseDate")
    await _stays_since(sales, still, timedelta(days=-20))
    await morning(46)
    assert (await told(still), await told(ahead)) == (["STUCK"], ["SLIPPED", "SLIPPED"])
    await morning(51)
    assert await told(still) == ["STUCK", "STUCK"]


async def _stays_since(sales: Service, deal: Any, past: timedelta) -> None:
    """The deal came into its present stage so long ago."""
    key, history = deal.name.partition("/")[2], Opportunity.stage_history
    at = (datetime.now(UTC) - past).isoformat()
    entered = func.jsonb_set(history, array(["-1", "enterTime"]), func.to_jsonb(cast(at, Text)))
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(update(Opportunity).where(Opportunity.id == key).values(stage_history=entered))


@pytest.mark.capability("s.process")
async def test_the_path_of_a_deal_shows_the_stages_that_it_visited_and_its_end(
    sales: Service, pipeline: Made, deal: Made
) -> None:
    flow = await pipeline(
        allowSkip=True, stages=[{"key": key, "displayName": key, "probability": "20"} for key in "ABCD"]
    )
    made = await deal(pipeline=flow.name)
    moved = await sales.sales1.AdvanceOpportunity(name=made.name, stage="C")
    assert ([visit.stage for visit in moved.stage_history], moved.stage) == (["A", "C"], "C")
    lost = await sales.sales1.LoseOpportunity(name=made.name, reason="PRICE")
    assert [visit.stage for visit in lost.stage_history] == ["A", "C"]
    assert all(visit.HasField("leave_time") for visit in lost.stage_history)
    assert (lost.state, lost.probability, lost.HasField("close_time")) == (pb.Opportunity.LOST, "0", True)


@pytest.mark.capability("s.opp")
async def test_a_board_of_two_thousand_open_deals_shows_its_columns_page_by_page(
    sales: Service, pipeline: Made, account: Made
) -> None:
    keys, customer = "ABCDE", f"看板客户{uuid4().hex[:6]}"
    flow = await pipeline(stages=[{"key": key, "displayName": key} for key in keys])
    await account("admin", displayName=customer)
    rows = [
        {"externalId": f"{flow.name}-{n}", "account": customer, "stage": keys[n % 5], "amount": "1.00"}
        for n in range(2000)
    ]
    for some in (rows[:1000], rows[1000:]):

        async def brought(some: list[Any] = some) -> int:
            asked = {"rows": some, "currency": "CNY", "pipeline": flow.name}
            try:
                reply = await sales.admin.ImportOpportunities(**asked)
            except Refused:
                # On a slow machine the answer may come too late; what was taken in is known then.
                return 0
            return reply.created + reply.known

        assert await sales.eventually(brought, 90) == 1000
    columns = [f'pipeline = "{flow.name}" AND state = "OPEN" AND stage = "{key}"' for key in keys]
    spent: list[float] = []
    for _ in range(5):
        start = process_time()
        pages = await asyncio.gather(
            *(
                sales.admin.ListOpportunities(filter=one, orderBy="updateTime desc", pageSize=50)
                for one in columns
            )
        )
        spent.append(process_time() - start)
    assert [len(page.opportunities) for page in pages] == [50] * 5
    assert min(spent) < 1
    seen = {one.name for one in pages[0].opportunities}
    more = await sales.admin.ListOpportunities(
        filter=columns[0], orderBy="updateTime desc", pageSize=50, pageToken=pages[0].next_page_token
    )
    assert len(more.opportunities) == 50
    assert not seen & {one.name for one in more.opportunities}
    card = pages[0].opportunities[0]
    moved = await sales.admin.AdvanceOpportunity(name=card.name)
    assert (moved.stage, moved.state) == ("B", pb.Opportunity.OPEN)


@pytest.mark.capability("s.process")
async def test_in_a_customer_centred_process_a_quote_needs_no_opportunity(
    sales: Service, pipeline: Made, account: Made, product: Made
) -> None:
    flow = await pipeline(mode="CUSTOMER_CENTRED")
    assert flow.mode == pb.Pipeline.CUSTOMER_CENTRED
    lines = [{"product": (await product()).name, "quantity": "1"}]
    made = await sales.sales1.CreateQuote(
        quote={"account": await account(), "currency": "CNY", "lines": lines}
    )
    await sales.sales1.SubmitQuote(name=made.name)
    assert (await sales.sales1.AcceptQuote(name=made.name, digest=made.digest)).state == pb.Quote.ACCEPTED


@pytest.mark.capability("s.compete")
async def test_competitors_are_known_counted_and_attacked_in_time(
    sales: Service, deal: Made, account: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first print of a process reads the fonts.
    monkeypatch.setattr("crmkit.testing.DEADLINE", 90.0)
    news = [{"text": "降价一成", "source": "行业周刊", "date": day(date(2026, 10, 1))}]
    products = [{"displayName": "X9", "advantages": "便宜", "failureFactors": "交期"}]
    rival = await sales.manager.CreateCompetitor(
        competitor={
            "displayName": f"竞品{uuid4().hex[:6]}",
            "news": news,
            "products": products,
            "battleCard": "讲服务",
        }
    )
    for place in range(5):
        made = await deal(competitors=[{"competitor": rival.name, "price": cny("100.00")}])
        if place < 3:
            await sales.sales1.WinOpportunity(name=made.name)
        else:
            await sales.sales1.LoseOpportunity(name=made.name, reason="COMPETITOR", competitor=rival.name)
    one = await sales.manager.CreateCompetitor(competitor={"displayName": f"小{uuid4().hex[:6]}"})
    seldom = await deal(competitors=[{"competitor": one.name}])
    await sales.sales1.WinOpportunity(name=seldom.name)
    with pytest.raises(Refused) as refused:
        await sales.sales1.LoseOpportunity(name=(await deal()).name, reason="COMPETITOR")
    assert refused.value.violations == {"competitor": "REQUIRED"}
    rates = {rate.competitor: rate for rate in (await sales.sales1.ListWinRates()).rates}
    mine = rates[rival.name]
    assert (mine.deals, mine.won, mine.lost_to_them, mine.win_percent, mine.few) == (5, 3, 2, "60.0", False)
    assert [(reason.reason, reason.count) for reason in mine.reasons] == [("COMPETITOR", 2)]
    assert (rates[one.name].deals, rates[one.name].few) == (1, True)
    card = await sales.sales1.RenderBattleCard(name=rival.name)
    assert card.content[:5] == b"%PDF-"
    assert (await sales.sales1.GetCompetitor(name=rival.name)).news[0].source == "行业周刊"
    cards = await sales.sales1.ListBattleCards()
    [mine] = [one for one in cards.cards if one.competitor == rival.name]
    assert (mine.battle_card, mine.products[0].display_name, mine.news[0].source) == (
        "讲服务",
        "X9",
        "行业周刊",
    )
    same = await sales.sales1.ListBattleCards(digest=cards.digest)
    assert (same.unchanged, len(same.cards)) == (True, 0)
    await sales.manager.UpdateCompetitor(
        competitor={"name": rival.name, "battleCard": "讲交期"}, updateMask="battleCard"
    )
    fresh = await sales.sales1.ListBattleCards(digest=cards.digest)
    assert "讲交期" in {one.battle_card for one in fresh.cards}
    today = local_date()
    far = {
        "account": await account(),
        "competitor": rival.name,
        "contractEndDate": day(today + timedelta(days=200)),
    }
    mark = await sales.admin.CreateIncumbency(incumbency=far)
    assert not mark.on_attack_list

    async def run(at: datetime) -> int:
        async with sales.running.call("list_incumbents", system("sales")) as call:
            await list_incumbents(at, call)
            await call.flush()
        return len(await sales.facts("crm.sales.v1.NoticeRaised", mark.name))

    now = datetime.now(UTC)
    assert await run(now) == 0
    assert await run(now + timedelta(days=21)) == 1
    assert await run(now + timedelta(days=22)) == 1
    assert (await sales.admin.GetIncumbency(name=mark.name)).on_attack_list
    await run(now + timedelta(days=210))
    assert not (await sales.admin.GetIncumbency(name=mark.name)).on_attack_list


@pytest.mark.capability("s.forecast")
async def test_every_open_deal_is_in_one_bucket_and_weighted_amounts_are_rounded_before_they_are_summed(
    sales: Service, pipeline: Made, account: Made
) -> None:
    flow, customer = await pipeline(), await account()
    today, sales2 = local_date(), sales.client("sales2")
    customer2 = await account("sales2")
    assert customer != customer2

    async def deal(due: date, **fields: Any) -> Any:
        body = {
            "displayName": "预测",
            "account": customer2,
            "pipeline": flow.name,
            "stage": "B",
            "amount": cny("1234.50"),
            "need": "x",
        }
        return await sales2.CreateOpportunity(
            opportunity={
                **body,
                "checked": ["A/确认预算", "A/确认决策人"],
                "expectedCloseDate": day(due),
                **fields,
            }
        )

    end = today + timedelta(days=30)
    period = {"fromDate": day(today), "toDate": day(end)}
    before = await _buckets(sales2, period)
    for _ in range(2):
        await deal(today + timedelta(days=3))
    await deal(today - timedelta(days=2))
    await deal(end + timedelta(days=2))
    await deal(today + timedelta(days=3), amount={"currencyCode": "USD", "amount": "100.00"})
    won = await deal(today)
    await sales2.WinOpportunity(name=won.name)
    after = await _buckets(sales2, period)
    grown = {
        key: tuple(now - then for now, then in zip(value, before.get(key, (0, 0, 0)), strict=True))
        for key, value in after.items()
    }
    assert grown["BEST_CASE", "CNY"] == (2, Decimal("2469.00"), Decimal("617.26"))
    assert grown["SLIPPED", "CNY"][0] == grown["LATER", "CNY"][0] == grown["CLOSED", "CNY"][0] == 1
    assert grown["BEST_CASE", "USD"][0] == 1
    mine = await sales2.EvaluateForecast(**period, department=sales.person("sales2").department)
    assert {(one.category, one.currency): one.deals for one in mine.buckets} == {
        key: value[0] for key, value in after.items()
    }
    reply = await sales2.EvaluateForecast(**period, currency="CNY")
    for whole in reply.open:
        parts = [
            bucket
            for bucket in reply.buckets
            if bucket.currency == whole.currency and bucket.category != "CLOSED"
        ]
        assert sum(part.deals for part in parts) == whole.deals
        assert sum(Decimal(part.amount.amount or 0) for part in parts) == Decimal(whole.amount.amount or 0)
    assert reply.unconverted >= 1


@pytest.mark.capability("s.forecast")
async def test_sums_of_several_currencies_are_converted_by_the_rates_of_the_day(
    sales: Service, pipeline: Made, account: Made
) -> None:
    flow, customer, today = await pipeline(), await account("sales2"), local_date()
    sales2 = sales.client("sales2")

    async def deal(currency: str, amount: str) -> Any:
        body = {
            "displayName": "外币", "account": customer, "pipeline": flow.name, "need": "x",
            "amount": {"currencyCode": currency, "amount": amount}, "expectedCloseDate": day(today + timedelta(days=2)),
        }  # fmt: skip
        return await sales2.CreateOpportunity(opportunity=body)

    open_deal = await deal("CHF", "100.00")
    await deal("NOK", "23.00")
    await deal("ISK", "5000")
    rates = {
        "CHF-SEK": [["2020-01-01", "9"], [(today - timedelta(days=3)).isoformat(), "11.5"], ["2999-01-01", "99"]],
        "SEK-NOK": [["2020-01-01", "0.92"]],
    }  # fmt: skip
    async with sales.parts.configuration() as bucket:
        for pair, known in rates.items():
            await bucket.put(f"currencyRate.{pair}", {"rates": known})
        await sales.eventually(
            lambda: all(sales.running.config.get(f"currencyRate.{pair}") for pair in rates)
        )
        period = {"fromDate": day(today - timedelta(days=1)), "toDate": day(today + timedelta(days=5))}
        reply = await sales2.EvaluateForecast(**period, currency="SEK")
        for pair in rates:
            await bucket.delete(f"currencyRate.{pair}")
    # 100.00 CHF at 11.5 are 1,150.00 SEK; 23.00 NOK at 1/0.92 are 25.00 SEK.
    assert (reply.converted_amount.amount, reply.converted_weighted.amount) == ("1175.00", "117.50")
    assert (reply.rate_date.year, reply.rate_date.month, reply.rate_date.day) == (2020, 1, 1)
    due = {"PIPELINE", "BEST_CASE", "COMMIT"}
    left_out = [
        one for one in reply.buckets if one.category in due and one.currency not in ("CHF", "NOK", "SEK", "")
    ]
    assert reply.unconverted == sum(one.deals for one in left_out) >= 1
    seen = await sales2.GetOpportunityOutlook(name=open_deal.name)
    assert (seen.basis, seen.won, seen.closed, seen.days_needed) == (False, 0, 0, 0)


@pytest.mark.capability("s.forecast")
async def test_a_snapshot_is_adjusted_frozen_and_measured_by_what_came(
    sales: Service, pipeline: Made, account: Made
) -> None:
    flow, customer = await pipeline(), await account()
    body = {
        "displayName": "快照", "account": customer, "pipeline": flow.name, "stage": "C", "amount": cny("500.00"), "need": "x",
        "checked": ["A/确认预算", "A/确认决策人"], "expectedCloseDate": day(local_date() + timedelta(days=1)),
    }  # fmt: skip
    made = await sales.sales1.CreateOpportunity(opportunity=body)
    now = datetime.now(UTC)
    node = f'node = "{sales.person("sales1").department}"'

    async def snapshot(at: datetime) -> list[Any]:
        for _ in range(2):
            async with sales.running.call("snapshot_forecasts", system("sales")) as call:
                await snapshot_forecasts(at, call)
                await call.flush()
        return list((await sales.admin.ListForecasts(filter=node, orderBy="week_date desc")).forecasts)

    [first] = await snapshot(now)
    assert first.state == pb.Forecast.OPEN
    adjusted = await sales.admin.AdjustForecast(name=first.name, amount=cny("-100.00"), note="客户在犹豫")
    assert adjusted.adjustments[0].amount.amount == "-100.00"
    assert (await sales.admin.SubmitForecast(name=first.name)).state == pb.Forecast.SUBMITTED
    await sales.sales1.WinOpportunity(name=made.name)
    later = await snapshot(now + timedelta(days=7))
    assert len(later) == 2
    frozen = await sales.admin.GetForecast(name=first.name)
    assert (frozen.state, frozen.figures) == (pb.Forecast.FROZEN, first.figures)
    for change in (
        sales.admin.AdjustForecast(name=first.name, amount=cny("1.00"), note="x"),
        sales.admin.SubmitForecast(name=first.name),
    ):
        with pytest.raises(Refused) as refused:
            await change
        assert refused.value.reason == "FORECAST_FROZEN"
    [row] = [
        one for one in (await sales.admin.GetForecastAccuracy(name=first.name)).rows if one.currency == "CNY"
    ]
    expected = sum(
        Decimal(one.amount.amount)
        for one in first.figures
        if one.category in ("CLOSED", "COMMIT") and one.amount.currency_code == "CNY"
    )
    assert Decimal(row.expected.amount) == expected - 100
    assert Decimal(row.actual.amount) >= 500
    assert row.percent


async def _buckets(
    client: Any, period: dict[str, Any]
) -> dict[tuple[str, str], tuple[int, Decimal, Decimal]]:
    reply = await client.EvaluateForecast(**period)
    return {
        (one.category, one.currency): (
            one.deals,
            Decimal(one.amount.amount or 0),
            Decimal(one.weighted.amount or 0),
        )
        for one in reply.buckets
    }


@pytest.mark.capability("s.forecast")
def test_the_interval_of_a_share_is_that_of_wilson() -> None:
    low, high = wilson(4238, 6711)
    assert (f"{low:.4f}", f"{high:.4f}") == ("0.6218", "0.6411")
    assert wilson(0, 3)[0] == 0.0
    assert wilson(3, 3)[1] == pytest.approx(1.0)


@pytest.mark.skipif(not MAVEN.exists(), reason="the data are not here")
@pytest.mark.capability("s.opp")
@pytest.mark.capability("s.forecast")
async def test_the_maven_deals_come_in_with_their_totals_and_the_rest_with_reasons(
    sales: Service, account: Made, pipeline: Made
) -> None:
    flow = await pipeline()
    rows = _rows("sales_pipeline.csv")
    run = uuid4().hex[:6]
    for name in sorted({row["account"] for row in rows if row["account"]}):
        await account("admin", displayName=name)
    for row in _rows("products.csv"):
        body = {
            "displayName": row["product"],
            "code": f"{run}-{row['product']}",
            "listPrice": {"currencyCode": "USD", "amount": row["sales_price"]},
        }
        await sales.admin.CreateProduct(product=body)
    named = {row["account"] for row in rows if row["account"]}

    async def arrived() -> bool:
        from crmkit.tables import Copy
        from sqlalchemy import func

        async with sales.running.sessions() as session:
            title = Copy.payload["displayName"].astext
            return await session.scalar(select(func.count(title.distinct())).where(title.in_(named))) == len(
                named
            )

    await sales.eventually(arrived, 30)
    sent = [_row(row, run) for row in rows]

    async def bring(**mapping: Any) -> tuple[int, int, list[Any]]:
        created = known = 0
        refusals: list[Any] = []
        for first in range(0, len(sent), 1000):
            reply = await sales.admin.ImportOpportunities(
                rows=sent[first : first + 1000],
                currency="USD",
                pipeline=flow.name,
                firstLine=first + 2,
                **mapping,
            )
            created, known = created + reply.created, known + reply.known
            refusals += reply.refusals
        return created, known, refusals

    # What is only checked says the same, and makes nothing.
    for asked in ({"dryRun": True}, {}):
        created, known, refusals = await bring(**asked)
        assert (len(sent), created, known, len(refusals)) == (8800, 6117, 0, 2683)
    without = [one for one in refusals if "ACCOUNT_MISSING" in one.reasons]
    strange = [one for one in refusals if "PRODUCT_UNKNOWN" in one.reasons]
    assert (len(without), len(strange), len([one for one in without if one in strange])) == (1425, 1480, 222)
    assert {one.value for one in strange} == {"GTXPro"}
    assert rows[refusals[0].line - 2]["opportunity_id"] == refusals[0].external_id.partition("-")[2]
    created, known, refusals = await bring(products=[{"fromText": "GTXPro", "toText": "GTX Pro"}])
    assert (created, known, len(refusals)) == (7375 - 6117, 6117, 1425)
    assert (await bring(products=[{"fromText": "GTXPro", "toText": "GTX Pro"}]))[:2] == (0, 7375)
    mine = f'pipeline = "{flow.name}"'
    counted = await sales.admin.AggregateOpportunities(filter=mine, groupBy=["state"], sum=["amount"])
    figures = {next(iter(row.group)): (int(row.count), dict(row.sums)) for row in counted.rows}
    assert (figures["WON"][0], figures["LOST"][0]) == (4238, 2473)
    assert Decimal(figures["WON"][1]["amount:USD"]) == Decimal(10005534)
    probe = await sales.admin.ListOpportunities(filter=f'{mine} AND state = "OPEN"', pageSize=1)
    seen = await sales.admin.GetOpportunityOutlook(name=probe.opportunities[0].name)
    assert (seen.won, seen.closed, seen.win_percent, seen.basis) == (4238, 6711, "63.15", True)
    assert (seen.lowest_percent, seen.highest_percent) == ("62.18", "64.11")


def _row(row: dict[str, str], run: str) -> dict[str, Any]:
    states = {"Won": "WON", "Lost": "LOST"}
    told: dict[str, Any] = {
        "externalId": f"{run}-{row['opportunity_id']}", "account": row["account"], "product": row["product"],
        "state": states.get(row["deal_stage"], "OPEN"), "amount": row["close_value"], "agent": row["sales_agent"],
    }  # fmt: skip
    for field, column in (("openDate", "engage_date"), ("closeDate", "close_date")):
        if row[column]:
            told[field] = day(datetime.strptime(row[column], "%m/%d/%Y").replace(tzinfo=UTC).date())
    return told


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((MAVEN / name).read_text(encoding="utf-8").splitlines()))


def test_all_timed_work_is_on_the_table_of_contents() -> None:
    assert {work for work in vars(jobs).values() if isinstance(work, Job)} == set(app().schedules)
