"""Leads find their people by rule, through the front door."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.common.v1 import common_pb2
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.model.lead import Lead

Made = Callable[..., Awaitable[Any]]
FOUR = ("sales1", "sales2", "manager", "everything")


@pytest.fixture
async def rule(sales: Service) -> AsyncIterator[Made]:
    """A rule in force for a product line of its own; it ends with the test."""
    made: list[str] = []

    async def make(line: str, members: list[dict[str, Any]], **fields: Any) -> Any:
        body = {"displayName": "轮转", "productLines": [line], "members": members, **fields}
        rule = await sales.manager.CreateAssignmentRule(assignmentRule=body)
        made.append(rule.name)
        return await sales.manager.ActivateAssignmentRule(name=rule.name)

    yield make
    for name in made:
        await sales.manager.RetireAssignmentRule(name=name)


async def _captured(sales: Service, line: str, count: int) -> Counter[str]:
    """So many leads come in from the web site; who got how many."""
    owners: Counter[str] = Counter()
    async with sales.running.call("test", system("sales")) as call:
        for number in range(count):
            lead = Lead(display_name=f"网站 {number}", channel="WEB", external_id=f"{line}-{uuid4()}")
            lead.interests = [pb.Lead.Interest(product_line=line)]
            found = await lead.capture(call)
            owners[found.owner] += 1
    return owners


async def test_leads_go_round_by_weight_and_pass_over_who_is_away_or_full(sales: Service, rule: Made) -> None:
    people = {name: sales.person(name).employee or "" for name in FOUR}
    line = uuid4().hex[:10]
    members = [
        {"employee": people["sales1"], "weight": 2}, {"employee": people["sales2"], "weight": 1},
        {"employee": people["manager"], "weight": 1}, {"employee": people["everything"], "weight": 0},
    ]  # fmt: skip
    await rule(line, members, method="WEIGHTED")
    owners = await _captured(sales, line, 40)
    owners += await _captured(sales, line, 40)
    assert owners == {people["sales1"]: 40, people["sales2"]: 20, people["manager"]: 20}
    away = uuid4().hex[:10]
    absent = {"year": 2020, "month": 1, "day": 1}
    members = [
        {"employee": people["sales1"], "awayFrom": absent}, {"employee": people["sales2"], "max30Days": 20},
        {"employee": people["manager"]}, {"employee": people["everything"], "maxOpen": 3},
    ]  # fmt: skip
    made = await rule(away, members)
    assert await _captured(sales, away, 9) == {people["manager"]: 6, people["everything"]: 3}
    back = {"name": made.name, "members": [{"employee": people["sales1"]}, {"employee": people["manager"]}]}
    await sales.manager.UpdateAssignmentRule(assignmentRule=back, updateMask="members")
    # No catching up: whoever was away gets his turn, and no more.
    assert await _captured(sales, away, 4) == {people["sales1"]: 2, people["manager"]: 2}


async def test_whose_calendar_says_leave_gets_no_lead_until_it_ends(sales: Service, rule: Made) -> None:
    line = uuid4().hex[:10]
    one, two = (sales.person(name).employee or "" for name in ("sales1", "sales2"))
    made = await rule(line, [{"employee": one}, {"employee": two}])
    now = datetime.now(UTC)
    leave = {
        "name": f"calendarEvents/{uuid4()}", "kind": "LEAVE", "owner": one, "state": "SCHEDULED",
        "startTime": (now - timedelta(hours=1)).isoformat(), "endTime": (now + timedelta(days=2)).isoformat(),
    }  # fmt: skip
    await sales.tell("crm.workspace.v1.CalendarEventScheduled", {"calendarEvent": leave}, leave["name"], 1)
    lead = await sales.manager.CreateLead(lead={"displayName": "试", "interests": [{"productLine": line}]})

    async def passed_over() -> bool:
        dry = await sales.manager.TestAssignment(lead=lead.name)
        return (made.name, one, "AWAY") in [(why.rule, why.employee, why.reason) for why in dry.reasons]

    await sales.eventually(passed_over)
    assert await _captured(sales, line, 4) == {two: 4}
    back = {"calendarEvent": {**leave, "state": "CANCELLED"}}
    await sales.tell("crm.workspace.v1.CalendarEventCancelled", back, leave["name"], 2)

    async def is_back() -> bool:
        return not await passed_over()

    await sales.eventually(is_back)
    assert await _captured(sales, line, 4) == {one: 2, two: 2}


async def test_a_lead_whose_number_a_customer_has_goes_to_whoever_has_the_customer(
    sales: Service, rule: Made, account: Made, contact: Made
) -> None:
    line = uuid4().hex[:10]
    two = sales.person("sales2").employee
    numbers = [f"+86138{uuid4().int % 10**8:08}" for _ in range(3)]
    phones = [[{"number": number}] for number in numbers]
    company = await account("sales2", phones=phones[0])
    await contact("sales1", account=company, phones=phones[1])
    made = await rule(line, [], method="ACCOUNT_OWNER", position=-1)
    following = await rule(line, [{"employee": sales.person("manager").employee}])

    async def taker(place: int) -> Any:
        body = {"displayName": "来电", "interests": [{"productLine": line}], "phones": phones[place]}
        lead = await sales.manager.CreateLead(lead=body)
        dry = await sales.manager.TestAssignment(lead=lead.name)
        await sales.manager.DisqualifyLead(name=lead.name, reason="NO_BUDGET")
        return dry

    for place in (0, 1):

        async def found(place: int = place) -> bool:
            dry = await taker(place)
            return (dry.rule, dry.employee) == (made.name, two)

        await sales.eventually(found)
    dry = await taker(2)
    assert (dry.rule, [(why.rule, why.reason) for why in dry.reasons if why.rule == made.name]) == (
        following.name, [(made.name, "NO_ACCOUNT")],
    )  # fmt: skip
    async with sales.running.call("test", system("sales")) as call:
        lead = Lead(display_name="再来", channel="PHONE", external_id=uuid4().hex)
        lead.phones = [common_pb2.Phone(number=numbers[0])]
        lead.interests = [pb.Lead.Interest(product_line=line)]
        assert (await lead.capture(call)).owner == two


async def test_whoever_has_left_gets_nothing_and_a_dry_run_says_so(sales: Service, rule: Made) -> None:
    line, config = uuid4().hex[:10], sales.running.config
    gone, stays = sales.person("everything").employee or "", sales.person("sales2").employee or ""
    made = await rule(line, [{"employee": gone}, {"employee": stays}])
    key = f"employee.{gone.partition('/')[2]}"
    entry = config.get(key)
    async with sales.parts.configuration() as bucket:
        await bucket.put(key, {**entry, "disabled": True})
        await sales.eventually(lambda: config.get(key)["disabled"])
        try:
            assert await _captured(sales, line, 3) == {stays: 3}
            body = {"displayName": "试", "interests": [{"productLine": line}]}
            lead = await sales.manager.CreateLead(lead=body)
            dry = await sales.manager.TestAssignment(lead=lead.name)
            assert (dry.rule, dry.employee) == (made.name, stays)
            assert (made.name, gone, "INACTIVE") in [
                (one.rule, one.employee, one.reason) for one in dry.reasons
            ]
        finally:
            await bucket.put(key, entry)
            await sales.eventually(lambda: not config.get(key).get("disabled"))
    [told] = [fact for fact in await sales.facts("crm.sales.v1.LeadAssigned") if fact["rule"] == made.name][
        :1
    ]
    assert told["to"] == stays
    draft = {"displayName": "空", "method": "WEIGHTED", "members": [{"employee": stays}]}
    empty = await sales.manager.CreateAssignmentRule(assignmentRule=draft)
    with pytest.raises(Refused) as refused:
        await sales.manager.ActivateAssignmentRule(name=empty.name)
    assert refused.value.reason == "RULE_HAS_NO_MEMBER"


async def test_the_one_with_the_fewest_open_leads_is_next(sales: Service, rule: Made) -> None:
    line = uuid4().hex[:10]
    busy, idle = sales.person("sales1").employee or "", sales.person("nobody").employee or ""
    await rule(line, [{"employee": busy}, {"employee": idle}], method="LEAST_OPEN")
    await sales.sales1.CreateLead(lead={"displayName": "在办"})
    assert await _captured(sales, line, 1) == {idle: 1}


async def test_only_the_head_office_moves_a_lead_to_another_segment(sales: Service) -> None:
    made = await sales.sales1.CreateLead(lead={"displayName": "板块"})
    config, employee = sales.running.config, (sales.person("sales1").employee or "").partition("/")[2]
    entry = config.get(f"employee.{employee}")
    rights = ["sales.leads.read", "sales.leads.assign", "sales.leads.update"]
    async with sales.parts.configuration() as bucket:
        await bucket.put("role.desk", {"permissions": rights, "scope": "OWN"})
        await bucket.put(f"employee.{employee}", {**entry, "roles": ["desk"]})
        await sales.eventually(
            lambda: config.get("role.desk") and config.get(f"employee.{employee}")["roles"] == ["desk"]
        )
        try:
            assert (await sales.sales1.AllocateLead(name=made.name, segment="INDUSTRY")).segment == "INDUSTRY"
            changed = {"name": made.name, "segment": "ENERGY"}
            for way in (
                sales.sales1.AllocateLead(name=made.name, segment="ENERGY"),
                sales.sales1.UpdateLead(lead=changed, updateMask="segment"),
            ):
                with pytest.raises(Refused) as refused:
                    await way
                assert (refused.value.code.name, refused.value.reason) == (
                    "PERMISSION_DENIED",
                    "SEGMENT_CROSSING",
                )
            same = await sales.sales1.UpdateLead(
                lead={"name": made.name, "segment": "INDUSTRY", "need": "扩产"}, updateMask="segment,need"
            )
            assert (same.segment, same.need) == ("INDUSTRY", "扩产")
        finally:
            await bucket.put(f"employee.{employee}", entry)
            await bucket.delete("role.desk")
            await sales.eventually(lambda: config.get(f"employee.{employee}")["roles"] == entry["roles"])
    assert (await sales.admin.AllocateLead(name=made.name, segment="ENERGY")).segment == "ENERGY"


async def test_an_ended_lead_is_copied_into_a_new_one(sales: Service) -> None:
    phone = {"number": f"+86139{uuid4().int % 10**8:08}"}
    made = await sales.sales1.CreateLead(
        lead={"displayName": "再来", "companyName": "华东机械", "phones": [phone]}
    )
    with pytest.raises(Refused) as refused:
        await sales.sales1.CopyLead(name=made.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await sales.sales1.DisqualifyLead(name=made.name, reason="NO_BUDGET")
    again = await sales.sales1.CopyLead(name=made.name)
    assert (again.name != made.name, again.company_name, again.state) == (True, "华东机械", pb.Lead.WORKING)
    assert again.phones[0].number == made.phones[0].number
    assert (await sales.sales1.GetLead(name=made.name)).state == pb.Lead.DISQUALIFIED
