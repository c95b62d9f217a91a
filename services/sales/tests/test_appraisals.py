"""How people did in a month: reckoned from facts, published, appealed against and corrected."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.listing import ZONE
from crmkit.testing import Refused, Service
from sales.jobs import settle_appraisals
from sales.model.absence import Absence
from sales.model.appraisal import Appraisal
from sales.model.appraisal_standard import AppraisalStandard
from sales.model.target import TargetFact, achieve
from sales.performance import draft_appraisals
from sqlalchemy import select, text, update
from uuid_utils.compat import uuid7

Made = Callable[..., Awaitable[Any]]
State, Metric = pb.Appraisal.State, pb.AppraisalStandard.Metric
# April 2024 had 22 working days: two holidays, and two Sundays that made up for them.
MONTH, NEXT = "2024-04", datetime(2024, 5, 1, 5, tzinfo=ZONE)


async def achieved(sales: Service, who: str, metric: str, *values: int, currency: str = "") -> None:
    """Achievements in the middle of the month."""
    async with sales.running.call("test", system("sales")) as call:
        await achieve(
            [
                TargetFact(
                    metric=metric, day=date(2024, 4, 15), value=Decimal(value), currency=currency,
                    employee=sales.person(who).employee, source=(source := f"visits/{uuid7()}"), key=source,
                )
                for value in values
            ],
            call,
        )  # fmt: skip


async def drafted(sales: Service) -> None:
    """The drafts of the month are made; twice makes none twice."""
    for _ in range(2):
        async with sales.running.call("draft_appraisals", system("sales")) as call:
            await draft_appraisals(NEXT, call)

    async def over() -> bool:
        async with sales.running.sessions() as session:
            left = "SELECT count(*) FROM bulk_runs WHERE kind = 'DraftAppraisals' AND state <> 'DONE'"
            return not (await session.execute(text(left))).scalar_one()

    await sales.eventually(over)


async def sheet_of(sales: Service, who: str, reader: str) -> Any:
    """The sheet of somebody, as somebody sees it; None where he does not."""
    asked = f'employee = "{sales.person(who).employee}" AND month = "{MONTH}"'
    found = (await getattr(sales, reader).ListAppraisals(filter=asked)).appraisals
    return found[0] if found else None


async def sum_of_facts(sales: Service, reader: str, item: Any) -> Decimal:
    """What the facts behind an item add up to, as the person lists them."""
    found = await getattr(sales, reader).ListTargetFacts(filter=item.facts_filter, pageSize=100)
    return sum((Decimal(fact.value) for fact in found.target_facts), Decimal(0))


@pytest.fixture
async def standard(sales: Service) -> Any:
    """By what everybody is examined."""
    body = {
        "displayName": "销售代表考核", "currency": "CNY", "rankShown": True,
        "items": [
            {"metric": "COLLECTED", "weight": "60", "target": "50000", "capPercent": "150"},
            {"metric": "VISITS", "weight": "30"},
            {"metric": "WIN_RATE", "weight": "5", "target": "50"},
        ],
        "incentives": [{"fromPoints": "70", "title": "季度之星"}, {"fromPoints": "50", "title": "鼓励奖"}],
    }  # fmt: skip
    made = await sales.admin.CreateAppraisalStandard(appraisalStandard=body)
    with pytest.raises(Refused) as refused:
        await sales.admin.ActivateAppraisalStandard(name=made.name)
    assert refused.value.reason == "WEIGHTS_NOT_100"
    body["items"].append({"metric": "TASKS_IN_TIME", "weight": "5", "target": "100"})  # pyright: ignore
    changed = {"name": made.name, "items": body["items"]}
    await sales.admin.UpdateAppraisalStandard(appraisalStandard=changed, updateMask="items")
    # Who judges the people of a branch sets no standard for the company.
    with pytest.raises(Refused) as refused:
        await sales.manager.ActivateAppraisalStandard(name=made.name)
    assert refused.value.reason == "PERMISSION_DENIED"
    return await sales.admin.ActivateAppraisalStandard(name=made.name)


@pytest.mark.capability("s.perf")
async def test_a_month_is_reckoned_published_appealed_against_and_corrected(
    sales: Service, standard: Any
) -> None:
    me = sales.person("sales1").employee
    target = await sales.manager.CreateTarget(target={
        "subject": me, "period": "MONTH", "fromDate": {"year": 2024, "month": 4, "day": 1}, "metric": "VISITS",
        "base": "4", "actions": [{"text": "每周一访"}],
    })  # fmt: skip
    await sales.manager.ApproveTarget(name=target.name)
    await achieved(sales, "sales1", "COLLECTED", 30000, 11000, currency="CNY")
    await achieved(sales, "sales1", "VISITS", 1, 1, 1)
    await achieved(sales, "sales2", "COLLECTED", 60000, currency="CNY")
    # A day and a half on leave; the word that comes late is the older one.
    leave = {"name": f"calendarEvents/{uuid7()}", "kind": "LEAVE", "owner": me, "state": "SCHEDULED"}
    half = {**leave, "name": f"calendarEvents/{uuid7()}", "startTime": "2024-04-11T01:00:00Z", "endTime": "2024-04-11T05:30:00Z"}  # fmt: skip
    whole = {**leave, "startTime": "2024-04-09T16:00:00Z", "endTime": "2024-04-10T16:00:00Z"}
    wrong = {**leave, "startTime": "2024-04-01T16:00:00Z", "endTime": "2024-04-25T16:00:00Z"}
    for subject, event, version in (("Moved", whole, 2), ("Scheduled", wrong, 1), ("Scheduled", half, 1)):
        payload = {"calendarEvent": event}
        await sales.tell(f"crm.workspace.v1.CalendarEvent{subject}", payload, event["name"], version)

    async def known() -> bool:
        async with sales.running.sessions() as session:
            asked = select(Absence.event).where(Absence.event.in_([half["name"], whole["name"]]))
            return len(list(await session.scalars(asked))) == 2

    await sales.eventually(known)
    await drafted(sales)

    # The draft is the superiors'.
    assert await sheet_of(sales, "sales1", "sales1") is None
    draft = await sheet_of(sales, "sales1", "manager")
    assert (draft.state, draft.standard) == (State.DRAFT, standard.name)
    items = {Metric.Name(item.metric): item for item in draft.items}
    # 41,000 of 50,000 are 82 % of 60 points; three of four visits are 75 % of 30.
    assert [(items[m].actual, items[m].target, items[m].points) for m in ("COLLECTED", "VISITS")] == [
        ("41000", "50000", "49.2"), ("3", "4", "22.5"),
    ]  # fmt: skip
    assert items["COLLECTED"].formula == "60 × min(41000 ÷ 50000, 150%) = 49.2"
    assert Decimal(draft.points) == Decimal("71.7")
    assert draft.incentive.title == "季度之星"
    efficiency = draft.efficiency
    assert (efficiency.working_days, efficiency.absence_days, efficiency.per_day) == ("22", "1.5", "2000")
    await sales.manager.UpdateAppraisal(
        appraisal={"name": draft.name, "comment": "客户拜访要跟上"}, updateMask="comment"
    )
    published = await sales.manager.PublishAppraisal(name=draft.name)
    [told] = await sales.facts("crm.sales.v1.AppraisalPublished", draft.name)
    assert told["people"] == [me]

    # The person sees formulas and facts; the facts add up; what comes later changes nothing.
    mine = await sheet_of(sales, "sales1", "sales1")
    assert mine.comment == "客户拜访要跟上"
    assert [await sum_of_facts(sales, "sales1", item) for item in mine.items[:2]] == [41000, 3]
    await achieved(sales, "sales1", "COLLECTED", 9000, currency="CNY")
    assert [await sum_of_facts(sales, "sales1", item) for item in mine.items[:2]] == [41000, 3]
    for change in (
        sales.manager.UpdateAppraisal(appraisal={"name": draft.name, "comment": "-"}, updateMask="comment"),
        sales.manager.ReckonAppraisal(name=draft.name),
        sales.manager.PublishAppraisal(name=draft.name),
    ):
        with pytest.raises(Refused) as refused:
            await change
        assert refused.value.reason == "ILLEGAL_TRANSITION"

    # An appeal is the person's; a correction is a new line; whoever is judged decides nothing himself.
    with pytest.raises(Refused) as refused:
        await sales.manager.AppealAppraisal(name=draft.name, text="-")
    assert refused.value.reason == "NOT_YOUR_APPRAISAL"
    await sales.sales1.AppealAppraisal(name=draft.name, text="4 月 30 日回款未计入")
    with pytest.raises(Refused) as refused:
        await sales.sales1.CorrectAppraisal(name=draft.name, metric="COLLECTED", points="10", reason="-")
    assert refused.value.reason == "PERMISSION_DENIED"
    with pytest.raises(Refused) as refused:
        await sales.sales1.ConfirmAppraisal(name=draft.name)
    assert refused.value.reason == "OWN_APPRAISAL"
    corrected = await sales.manager.CorrectAppraisal(
        name=draft.name, metric="COLLECTED", points="-3.7", reason="扣除退款"
    )
    assert list(corrected.items) == list(published.items)
    assert (Decimal(corrected.points), corrected.incentive.title) == (Decimal("68"), "鼓励奖")
    [line] = corrected.corrections
    assert (line.points, line.reason) == ("-3.7", "扣除退款")
    settled = await sales.manager.ConfirmAppraisal(name=draft.name, text="退款已核对")
    assert (settled.state, settled.answer) == (State.CONFIRMED, "退款已核对")

    # Each sees his own; the place among the others is shown without names.
    assert await sheet_of(sales, "sales2", "manager") is None
    theirs = await sheet_of(sales, "sales2", "admin")
    await sales.admin.PublishAppraisal(name=theirs.name)
    assert await sheet_of(sales, "sales1", "sales2") is None
    place = await sales.sales1.GetAppraisalRank(name=draft.name)
    assert (place.rank, place.people, list(place.points)) == (2, 2, ["72.00", "68.00"])
    async with sales.running.call("test", system("sales")) as call:
        kept = update(AppraisalStandard).where(AppraisalStandard.id == standard.name.partition("/")[2])
        await call.db.execute(kept.values(rank_shown=False))
    with pytest.raises(Refused) as refused:
        await sales.sales1.GetAppraisalRank(name=draft.name)
    assert refused.value.reason == "RANK_NOT_SHOWN"
    # After ten days there is no appeal, and the sheet stands.
    async with sales.running.call("test", system("sales")) as call:
        await call.db.execute(
            update(Appraisal).where(Appraisal.id == theirs.name.partition("/")[2]).values(appeal_until_date=date(2024, 5, 11))
        )  # fmt: skip
    with pytest.raises(Refused) as refused:
        await sales.sales2.AppealAppraisal(name=theirs.name, text="晚了")
    assert refused.value.reason == "APPEAL_TOO_LATE"
    async with sales.running.call("settle_appraisals", system("sales")) as call:
        await settle_appraisals(datetime.now(UTC), call)
    assert (await sheet_of(sales, "sales2", "sales2")).state == State.CONFIRMED


@pytest.mark.capability("s.perf")
async def test_how_a_month_goes_is_seen_at_any_time_with_what_could_be_better(
    sales: Service, standard: Any, deal: Made
) -> None:
    lost = await deal()
    await sales.sales1.LoseOpportunity(name=lost.name, reason="PRICE")
    open_one = await deal(expectedCloseDate={"year": 2026, "month": 1, "day": 5})
    now = await sales.sales1.GetPerformance()
    rate = next(item for item in now.items if item.metric == Metric.WIN_RATE)
    assert lost.name in [one.record for one in rate.evidence]
    findings = {finding.kind: finding for finding in now.findings}
    assert "PRICE" in findings["DEALS_LOST"].text
    assert findings["DEALS_SLIPPED"].count >= 1
    assert open_one.name in findings["DEALS_SLIPPED"].records or findings["DEALS_SLIPPED"].count > 20
    # Superiors see their people, others do not.
    me = sales.person("sales1").employee
    assert (await sales.manager.GetPerformance(employee=me)).employee == me
    with pytest.raises(Refused) as refused:
        await sales.sales2.GetPerformance(employee=me)
    assert refused.value.reason == "NOT_FOUND"
    # A newer standard takes the place of the one before, and shows no ranks if it does not say so.
    other = await sales.admin.CreateAppraisalStandard(appraisalStandard={
        "displayName": "新标准", "currency": "CNY",
        "items": [{"metric": "PIPELINE", "weight": "100", "target": "25000"}],
    })  # fmt: skip
    await sales.admin.ActivateAppraisalStandard(name=other.name)
    before = await sales.admin.GetAppraisalStandard(name=standard.name)
    assert before.state == pb.AppraisalStandard.RETIRED
    with pytest.raises(Refused) as refused:
        await sales.admin.UpdateAppraisalStandard(
            appraisalStandard={"name": other.name, "displayName": "-"}, updateMask="displayName"
        )
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    now = await sales.sales1.GetPerformance()
    [pipeline] = now.items
    assert sum(Decimal(one.value) for one in pipeline.evidence) == Decimal(pipeline.actual) > 0
