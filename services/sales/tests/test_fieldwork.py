"""Visits and tips, through the front door."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.positions import metres
from crmkit.testing import Refused, Service
from sales.jobs import miss_visits
from sales.model.visit import Visit, route

Made = Callable[..., Awaitable[Any]]
NOW = datetime.now(UTC)
# People's Square and the Bund in Shanghai: about 1.6 km.
SQUARE = {"latitude": 31.2304, "longitude": 121.4737}
BUND = {"latitude": 31.2397, "longitude": 121.4900}


def stamp(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


@pytest.fixture
def visit(sales: Service, account: Made) -> Made:
    async def make(**fields: Any) -> Any:
        if "account" not in fields:
            fields["account"] = await account(addresses=[SQUARE])
        return await sales.sales1.CreateVisit(visit={"purpose": "回访", **fields})

    return make


@pytest.mark.capability("s.visit")
async def test_a_visit_is_checked_in_once_told_about_and_reviewed(sales: Service, visit: Made) -> None:
    made = await visit(
        plannedTime=stamp(NOW + timedelta(hours=1)), companions=[sales.person("sales2").employee]
    )
    assert (made.state, made.unplanned, made.position.latitude) == (pb.Visit.PLANNED, False, 31.2304)
    assert len(await sales.facts("crm.sales.v1.VisitPlanned", made.name)) == 1
    assert (await sales.sales2.GetVisit(name=made.name)).name == made.name
    arrived = {
        "name": made.name,
        "device": "phone-1",
        "deviceTime": stamp(datetime.now(UTC)),
        "position": SQUARE,
        "accuracy": 20,
        "photo": "files/x",
    }
    first = await sales.sales1.CheckInVisit(**arrived)
    again = await sales.sales1.CheckInVisit(**arrived)
    assert (list(first.check_in.flags), first.check_in.distance) == ([], 0)
    assert again.check_in.server_time == first.check_in.server_time
    assert len(await sales.facts("crm.sales.v1.VisitCheckedIn", made.name)) == 1
    with pytest.raises(Refused) as refused:
        await sales.sales1.CheckInVisit(**{**arrived, "device": "phone-2"})
    assert refused.value.reason == "ALREADY_CHECKED_IN"
    with pytest.raises(Refused) as refused:
        await sales.sales1.CompleteVisit(name=made.name, result=" ")
    assert refused.value.reason == "RESULT_MISSING"
    done = await sales.sales1.CompleteVisit(name=made.name, result="同意试用", position=BUND)
    assert (done.state, done.result, done.check_out.flags[0]) == (pb.Visit.COMPLETED, "同意试用", "FAR")
    [told] = await sales.facts("crm.sales.v1.VisitCompleted", made.name)
    assert (told["visit"]["account"], told["visit"]["result"]) == (made.account, "同意试用")
    reviewed = await sales.manager.ReviewVisit(name=made.name, review="跟进样品")
    assert reviewed.reviewer == sales.person("manager").employee


@pytest.mark.capability("s.visit")
async def test_what_looks_odd_is_flagged_and_never_refused(sales: Service, visit: Made) -> None:
    for fields, flags in (
        ({"position": BUND, "accuracy": 20}, ["FAR"]),
        ({"position": SQUARE, "accuracy": 201}, ["INACCURATE"]),
        ({"noPositionReason": "地下车库"}, ["NO_POSITION"]),
        ({"position": SQUARE, "deviceTime": stamp(NOW - timedelta(minutes=30))}, ["CLOCK"]),
    ):
        made = await visit()
        assert made.unplanned
        there = await sales.sales1.CheckInVisit(name=made.name, device="p", **fields)
        assert (there.state, list(there.check_in.flags)) == (pb.Visit.CHECKED_IN, flags)
    nowhere = await visit()
    with pytest.raises(Refused) as refused:
        await sales.sales1.CheckInVisit(name=nowhere.name, device="p")
    assert refused.value.violations == {"no_position_reason": "REQUIRED"}
    assert 1600 < metres(tuple(SQUARE.values()), tuple(BUND.values())) < 2000


@pytest.mark.capability("s.visit")
async def test_what_is_just_within_the_bounds_is_not_flagged_and_both_clocks_are_kept(
    sales: Service, visit: Made
) -> None:
    near = {"latitude": SQUARE["latitude"] + 0.0044, "longitude": SQUARE["longitude"]}
    made = await visit()
    at = datetime.now(UTC) - timedelta(minutes=9)
    there = await sales.sales1.CheckInVisit(
        name=made.name, device="p", position=near, accuracy=200, deviceTime=stamp(at), photo="files/door"
    )
    assert (list(there.check_in.flags), there.check_in.accuracy, there.check_in.photo) == (
        [],
        200,
        "files/door",
    )
    assert 480 <= there.check_in.distance <= 500
    assert there.check_in.device_time.ToDatetime(UTC) == at
    assert there.check_in.server_time.ToDatetime(UTC) >= NOW
    # One talk of it, however often it is ended.
    await sales.sales1.CompleteVisit(name=made.name, result="已签收")
    with pytest.raises(Refused) as refused:
        await sales.sales1.CompleteVisit(name=made.name, result="再次")
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    assert len(await sales.facts("crm.sales.v1.VisitCompleted", made.name)) == 1


@pytest.mark.capability("s.visit")
async def test_a_check_in_that_comes_from_offline_after_the_day_was_missed_still_counts(
    sales: Service, visit: Made
) -> None:
    made = await visit(plannedTime=stamp(NOW - timedelta(days=1)))
    async with sales.running.call("miss_visits", system("sales")) as call:
        await miss_visits(NOW, call)
    arrived = {
        "name": made.name,
        "device": "phone-1",
        "position": SQUARE,
        "deviceTime": stamp(NOW - timedelta(days=1)),
    }
    first = await sales.sales1.CheckInVisit(**arrived)
    assert (first.state, list(first.check_in.flags)) == (pb.Visit.CHECKED_IN, ["CLOCK"])
    assert (await sales.sales1.CheckInVisit(**arrived)).etag == first.etag
    assert (await sales.sales1.CompleteVisit(name=made.name, result="补录")).state == pb.Visit.COMPLETED


@pytest.mark.capability("s.visit")
async def test_a_visit_that_nobody_checked_in_at_is_missed_once(sales: Service, visit: Made) -> None:
    yesterday = await visit(plannedTime=stamp(NOW - timedelta(days=2)))
    later = await visit(plannedTime=stamp(NOW + timedelta(days=2)))
    for _ in range(2):
        async with sales.running.call("miss_visits", system("sales")) as call:
            await miss_visits(NOW, call)
            await call.flush()
    missed = await sales.sales1.GetVisit(name=yesterday.name)
    assert (missed.state, missed.etag) == (pb.Visit.MISSED, "2")
    assert (await sales.sales1.CancelVisit(name=later.name, reason="改期")).end_reason == "改期"


@pytest.mark.capability("s.visit")
async def test_the_way_goes_to_the_nearest_next_and_overlaps_are_named(
    sales: Service, visit: Made, account: Made
) -> None:
    near = {"latitude": 31.2310, "longitude": 121.4750}
    places = [BUND, near, {"latitude": 31.3, "longitude": 121.6}]
    made = [await visit(position=place, plannedTime=stamp(NOW + timedelta(hours=3))) for place in places]
    asked = await sales.sales1.PlanVisitRoute(visits=[one.name for one in made], start=SQUARE)
    assert [stop.visit for stop in asked.stops] == [made[1].name, made[0].name, made[2].name]
    assert asked.distance == sum(stop.distance for stop in asked.stops)
    assert len(asked.conflicts) == 3
    # Somebody else is elsewhere at the same time, unless he comes along.
    at = {
        "plannedTime": stamp(NOW + timedelta(hours=3)),
        "account": await account("sales2"),
        "purpose": "回访",
    }
    theirs = await sales.sales2.CreateVisit(visit=at)
    both = [made[0].name, theirs.name]
    assert not (await sales.admin.PlanVisitRoute(visits=both)).conflicts
    along = {"name": made[0].name, "companions": [theirs.owner]}
    await sales.sales1.UpdateVisit(visit=along, updateMask="companions")
    assert set((await sales.admin.PlanVisitRoute(visits=both)).conflicts[0].split()) == set(both)
    many = [
        Visit(planned_time=NOW, position=pb.Visit.Position(latitude=31 + n / 50, longitude=121 + n % 7 / 50))
        for n in range(20)
    ]
    start = process_time()
    assert len(route(many, None).stops) == 20
    assert process_time() - start < 1


@pytest.mark.capability("s.tips")
async def test_tips_are_found_answered_ranked_and_stand_beside_the_deal(
    sales: Service, product: Made, deal: Made
) -> None:
    skill, goods = f"谈判{uuid4().hex[:6]}", await product()
    body = {
        "displayName": f"临门一脚{skill}",
        "text": "沉默也是回答",
        "skills": [skill],
        "stages": ["CONTACT"],
        "products": [goods.name],
    }
    tip = await sales.sales1.CreateTip(tip=body)
    question = await sales.sales1.CreateTip(
        tip={**body, "kind": "QUESTION", "displayName": "怎么还价", "products": [], "stages": []}
    )
    for filter in (f'skills:"{skill}"', f'skills:"{skill}" AND stages:"CONTACT"', f'products:"{goods.name}"'):
        assert tip.name in [one.name for one in (await sales.sales2.ListTips(filter=filter)).tips], filter
    assert tip.name in [one.name for one in (await sales.sales2.ListTips(q="沉默", pageSize=200)).tips]
    answered = await sales.sales2.CommentTip(name=question.name, text="先问预算")
    with pytest.raises(Refused) as refused:
        await sales.sales2.AcceptTipComment(name=question.name, comment=answered.comments[0].key)
    assert refused.value.reason == "PERMISSION_DENIED"
    accepted = await sales.sales1.AcceptTipComment(name=question.name, comment=answered.comments[0].key)
    assert accepted.accepted_author == sales.person("sales2").employee
    ranked = (await sales.manager.ListExperts(skill=skill)).experts
    assert [(one.employee, one.accepted, one.tips) for one in ranked] == [
        (sales.person("sales2").employee, 1, 0), (sales.person("sales1").employee, 0, 1),
    ]  # fmt: skip
    # Nobody ranks himself by accepting what he said himself.
    again = await sales.sales1.CreateTip(tip={**body, "kind": "QUESTION", "products": [], "stages": []})
    own = await sales.sales1.CommentTip(name=again.name, text="我知道")
    await sales.sales1.AcceptTipComment(name=again.name, comment=own.comments[0].key)
    assert (await sales.manager.ListExperts(skill=skill)).experts == ranked
    made = await deal(lines=[{"product": goods.name, "quantity": "1"}])
    for _ in range(3):
        await sales.sales1.CreateTip(tip={**body, "displayName": f"更多{uuid4().hex}", "products": []})
    beside = (await sales.sales1.SuggestTips(name=made.name)).tips
    assert (len(beside), beside[0].name) == (3, tip.name)
    assert (await sales.sales2.MarkTip(name=tip.name)).marks == [sales.person("sales2").employee]
    assert not (await sales.sales2.MarkTip(name=tip.name)).marks
    hidden = await sales.admin.HideTip(name=tip.name, reason="泄露客户信息")
    assert hidden.state == pb.Tip.HIDDEN
    seen = await sales.sales1.GetTip(name=tip.name)
    assert (seen.state, seen.hide_reason) == (pb.Tip.HIDDEN, "泄露客户信息")
    with pytest.raises(Refused) as refused:
        await sales.sales1.MarkTip(name=tip.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    with pytest.raises(Refused) as refused:
        await sales.sales2.GetTip(name=tip.name)
    assert refused.value.reason == "NOT_FOUND"
    assert tip.name not in [
        one.name for one in (await sales.sales2.ListTips(filter=f'skills:"{skill}"')).tips
    ]
