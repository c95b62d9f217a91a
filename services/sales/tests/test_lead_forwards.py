"""Leads that are offered to partners: to the first, to the next once, then they are back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.sales.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sales.jobs import lapse_forwards

Made = Callable[..., Awaitable[Any]]
Forward = pb.LeadForward
BRIEF = "华东一家食品厂要两台分拣机"


@pytest.fixture
async def partner(sales: Service, agreed: Any) -> str:
    """The account of the demo company's partner, with an agreement in force."""
    who, manager = sales.person("partner"), sales.person("manager")
    resource = {
        "name": who.account, "displayName": "蓝海渠道", "owner": manager.employee, "department": manager.department,
    }  # fmt: skip
    told = {"name": who.account, "action": "CREATED", "actor": "system/test", "resource": resource}
    await sales.tell("crm.customer.v1.ResourceChanged", told, who.account)
    await agreed(who.account or "").told(users=[{"employee": who.employee}])
    return who.account or ""


async def a_lead(sales: Service) -> Any:
    """A lead of sales1 with a person and a number."""
    phone = f"+86139{uuid4().int % 10**8:08d}"
    body = {
        "displayName": f"分拣机 {uuid4().hex[:6]}", "companyName": "鲜达食品", "personName": "程远",
        "phones": [{"number": phone, "type": "MOBILE"}], "divisionCode": "310115",
    }  # fmt: skip
    return await sales.sales1.CreateLead(lead=body)


async def offered(sales: Service, lead: str, *partners: str, **fields: Any) -> Any:
    """The offer, once sales knows the partners."""

    async def made() -> Any:
        try:
            return await sales.manager.ForwardLead(name=lead, partners=list(partners), brief=BRIEF, **fields)
        except Refused as refused:
            assert refused.reason == "UNKNOWN_REFERENCE"
            return None

    return await sales.eventually(made)


async def offers(sales: Service, lead: str) -> list[Any]:
    """All offers of a lead, oldest first."""
    found = await sales.sales1.ListLeadForwards(filter=f'lead = "{lead}"', orderBy="create_time")
    return list(found.lead_forwards)


async def pass_by(sales: Service, hours: float) -> None:
    """So many hours later the timed work is done, twice."""
    for _ in range(2):
        async with sales.running.call("lapse_forwards", system("sales")) as call:
            await lapse_forwards(datetime.now(UTC) + timedelta(hours=hours), call)


async def test_a_partner_sees_whom_it_is_about_once_it_has_accepted(
    sales: Service, partner: str, account: Made
) -> None:
    theirs, lead = sales.client("partner"), await a_lead(sales)
    offer = await offered(sales, lead.name, partner)
    assert (offer.state, offer.hours, offer.region) == (Forward.OFFERED, 24, "310115")
    # The partner is told and reads what is wanted; of who wants it, on no path, anything.
    [notice] = [
        one
        for one in await sales.facts("crm.sales.v1.NoticeRaised")
        if offer.name in one["subjects"] and one["kind"] == "leadForward"
    ]
    assert notice["employees"] == [sales.person("partner").employee]
    seen = await theirs.GetLeadForward(name=offer.name)
    assert (seen.display_name, seen.next_partner) == (BRIEF, "")
    for secret in ("鲜达", "程远", lead.phones[0].number[-8:]):
        assert secret not in str(seen)
    with pytest.raises(Refused) as refused:
        await theirs.GetLead(name=lead.name)
    assert refused.value.reason == "NOT_FOUND"
    assert not (await theirs.ListLeads(filter=f'name = "{lead.name}"')).leads
    # Nobody forwards it a second time meanwhile.
    with pytest.raises(Refused) as refused:
        await sales.manager.ForwardLead(name=lead.name, partners=[partner], brief=BRIEF)
    assert refused.value.reason == "LEAD_FORWARDED"
    answers = await asyncio.gather(
        *(theirs.AcceptLeadForward(name=offer.name) for _ in range(3)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in answers) == 1
    taken = await theirs.GetLead(name=lead.name)
    assert (taken.person_name, taken.phones[0].number) == ("程远", lead.phones[0].number)
    assert taken.channel_partner == partner
    # It is the partner's: time passes, and nothing goes on.
    await pass_by(sales, 25)
    assert [one.state for one in await offers(sales, lead.name)] == [Forward.ACCEPTED]


async def test_a_lead_that_nobody_accepts_goes_to_the_next_partner_once_and_then_back(
    sales: Service, partner: str, account: Made, agreed: Any
) -> None:
    first, lead = await account(displayName="甲渠道"), await a_lead(sales)
    await agreed(first).told()
    await offered(sales, lead.name, first, partner)
    await pass_by(sales, 23.9)
    assert len(await offers(sales, lead.name)) == 1
    await pass_by(sales, 24.1)
    lapsed, second = await offers(sales, lead.name)
    assert (lapsed.state, lapsed.partner) == (Forward.LAPSED, first)
    assert (second.state, second.partner, second.next_partner) == (Forward.OFFERED, partner, "")
    # The second one sees nothing of the first, and has hours of its own.
    theirs = sales.client("partner")
    mine = (await theirs.ListLeadForwards(filter=f'lead = "{lead.name}"')).lead_forwards
    assert [one.name for one in mine] == [second.name]
    with pytest.raises(Refused) as refused:
        await theirs.GetLeadForward(name=lapsed.name)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await theirs.DeclineLeadForward(name=second.name, reason="否")
    assert refused.value.reason == "REASON_REQUIRED"
    await theirs.DeclineLeadForward(name=second.name, reason="近期产能已满")
    assert [one.state for one in await offers(sales, lead.name)] == [Forward.LAPSED, Forward.DECLINED]
    back = [
        one
        for one in await sales.facts("crm.sales.v1.NoticeRaised")
        if one["kind"] == "leadForward" and lead.name in one["subjects"]
    ]
    assert [one["employees"] for one in back] == [[sales.person("sales1").employee]]
    found = await sales.sales1.GetLead(name=lead.name)
    assert (found.owner, found.channel_partner) == (sales.person("sales1").employee, "")
    # It may be offered anew.
    assert (await offered(sales, lead.name, partner, hours=2)).hours == 2


async def test_only_who_has_an_agreement_is_asked(
    sales: Service, partner: str, account: Made, agreed: Any
) -> None:
    ended, lead = await account(displayName="旧渠道"), await a_lead(sales)
    agreement = agreed(ended)
    await agreement.told(state="ENDED")

    async def refused() -> bool:
        try:
            await sales.manager.ForwardLead(name=lead.name, partners=[ended], brief=BRIEF)
        except Refused as refusal:
            return refusal.reason == "PARTNER_NO_AGREEMENT"
        return False

    await sales.eventually(refused)
    # Whose agreement ends before it is its turn is passed over: the lead is back.
    await agreement.told(state="ACTIVE")
    await offered_to_both(sales, lead.name, partner, ended)
    await agreement.told(state="SUSPENDED")

    async def rests() -> bool:
        other = await a_lead(sales)
        try:
            await sales.manager.ForwardLead(name=other.name, partners=[ended], brief=BRIEF)
        except Refused as refusal:
            return refusal.reason == "PARTNER_NO_AGREEMENT"
        return False

    await sales.eventually(rests)
    await pass_by(sales, 24.1)
    assert [one.state for one in await offers(sales, lead.name)] == [Forward.LAPSED]


async def offered_to_both(sales: Service, lead: str, first: str, second: str) -> None:
    """Offered once the second one's agreement is known to be in force again."""

    async def made() -> bool:
        try:
            await sales.manager.ForwardLead(name=lead, partners=[first, second], brief=BRIEF)
        except Refused as refusal:
            assert refusal.reason in ("PARTNER_NO_AGREEMENT", "UNKNOWN_REFERENCE")
            return False
        return True

    await sales.eventually(made)
