"""Campaigns through the front door: the tree, the machine, and what they brought."""

from typing import Any

import pytest
from crm.marketing.v1 import pb
from crmkit.testing import Client, Refused, Service
from uuid_utils.compat import uuid7

YEAR = {"startDate": {"year": 2026, "month": 1, "day": 1}, "endDate": {"year": 2099, "month": 12, "day": 31}}
STATES = ("DRAFT", "APPROVED", "RUNNING", "PAUSED", "FINISHED", "EVALUATED", "CANCELLED")
VERBS: dict[str, dict[str, Any]] = {
    "SubmitCampaign": {}, "LaunchCampaign": {}, "PauseCampaign": {}, "ResumeCampaign": {}, "FinishCampaign": {},
    "EvaluateCampaign": {"evaluation": "值得再办"}, "CancelCampaign": {"reason": "预算取消"},
}  # fmt: skip
MOVES = {
    ("DRAFT", "SubmitCampaign"): "APPROVED",
    ("APPROVED", "LaunchCampaign"): "RUNNING",
    ("RUNNING", "PauseCampaign"): "PAUSED",
    ("PAUSED", "ResumeCampaign"): "RUNNING",
    ("RUNNING", "FinishCampaign"): "FINISHED",
    ("PAUSED", "FinishCampaign"): "FINISHED",
    ("FINISHED", "EvaluateCampaign"): "EVALUATED",
    **{(state, "CancelCampaign"): "CANCELLED" for state in ("DRAFT", "APPROVED", "RUNNING", "PAUSED")},
}
START = ["SubmitCampaign", "LaunchCampaign"]
WAY = {
    "DRAFT": [], "APPROVED": START[:1], "RUNNING": START, "PAUSED": [*START, "PauseCampaign"],
    "FINISHED": [*START, "FinishCampaign"], "EVALUATED": [*START, "FinishCampaign", "EvaluateCampaign"],
    "CANCELLED": ["CancelCampaign"],
}  # fmt: skip


async def made(client: Client, **more: Any) -> pb.Campaign:
    return await client.CreateCampaign(campaign={"displayName": "春季研讨会", **YEAR, **more})


async def running(client: Client, **more: Any) -> pb.Campaign:
    campaign = await made(client, **more)
    for verb in START:
        campaign = await getattr(client, verb)(name=campaign.name)
    return campaign


def cny(amount: str) -> dict[str, str]:
    return {"currencyCode": "CNY", "amount": amount}


@pytest.mark.parametrize("state", STATES)
async def test_listed_moves_are_made_and_all_others_refused(marketing: Service, state: str) -> None:
    marketer = marketing.client("marketer")
    for verb, fields in VERBS.items():
        campaign = await made(marketer)
        for step in WAY[state]:
            campaign = await getattr(marketer, step)(name=campaign.name, **VERBS[step])
        if to := MOVES.get((state, verb)):
            moved = await getattr(marketer, verb)(name=campaign.name, etag=campaign.etag, **fields)
            assert pb.Campaign.State.Name(moved.state) == to
        else:
            with pytest.raises(Refused) as refused:
                await getattr(marketer, verb)(name=campaign.name, **fields)
            assert refused.value.reason == "ILLEGAL_TRANSITION", (state, verb)
            assert await marketer.GetCampaign(name=campaign.name) == campaign


async def test_launching_finishing_and_evaluating_are_told_once(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await running(marketer)
    await marketer.FinishCampaign(name=campaign.name)
    await marketer.EvaluateCampaign(name=campaign.name, evaluation="到场率高")
    for fact in ("CampaignLaunched", "CampaignFinished", "CampaignEvaluated"):
        assert len(await marketing.facts(f"crm.marketing.v1.{fact}", campaign.name)) == 1


async def test_what_must_be_said_or_is_too_late_is_refused(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await running(marketer)
    with pytest.raises(Refused) as refused:
        await marketer.CancelCampaign(name=campaign.name)
    assert refused.value.reason == "REASON_REQUIRED"
    await marketer.FinishCampaign(name=campaign.name)
    with pytest.raises(Refused) as refused:
        await marketer.EvaluateCampaign(name=campaign.name, evaluation=" ")
    assert refused.value.reason == "EVALUATION_REQUIRED"
    with pytest.raises(Refused) as refused:
        await made(marketer, endDate={"year": 2025, "month": 12, "day": 31})
    assert refused.value.reason == "DATE_RANGE_INVALID"
    past = await made(marketer, endDate={"year": 2026, "month": 1, "day": 2})
    await marketer.SubmitCampaign(name=past.name)
    with pytest.raises(Refused) as refused:
        await marketer.LaunchCampaign(name=past.name)
    assert refused.value.reason == "CAMPAIGN_PERIOD_OVER"


async def test_a_tree_has_no_cycle_and_six_levels_at_most(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    chain = [await made(marketer)]
    for _ in range(5):
        chain.append(await made(marketer, parent=chain[-1].name))
    with pytest.raises(Refused) as refused:
        await made(marketer, parent=chain[-1].name)
    assert refused.value.reason == "CAMPAIGN_TOO_DEEP"
    with pytest.raises(Refused) as refused:
        await marketer.UpdateCampaign(
            campaign={"name": chain[0].name, "parent": chain[2].name}, updateMask="parent"
        )
    assert refused.value.reason == "CAMPAIGN_CYCLE"
    over = await made(marketer)
    await marketer.CancelCampaign(name=over.name, reason="不办了")
    with pytest.raises(Refused) as refused:
        await made(marketer, parent=over.name)
    assert refused.value.reason == "PARENT_CLOSED"
    parent = await running(marketer)
    await running(marketer, parent=parent.name)
    with pytest.raises(Refused) as refused:
        await marketer.FinishCampaign(name=parent.name)
    assert refused.value.reason == "CHILDREN_RUNNING"


async def test_the_budgets_of_the_parts_fit_into_the_whole_in_one_currency(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    whole = await made(marketer, budget=cny("1000.00"))
    part = await made(marketer, parent=whole.name, budget=cny("600.00"))
    with pytest.raises(Refused) as refused:
        await made(marketer, parent=whole.name, budget=cny("400.01"))
    assert refused.value.reason == "BUDGET_EXCEEDS_PARENT"
    assert (await made(marketer, parent=whole.name, budget=cny("400.00"))).parent == whole.name
    with pytest.raises(Refused) as refused:
        await marketer.UpdateCampaign(
            campaign={"name": whole.name, "budget": cny("999.99")}, updateMask="budget"
        )
    assert refused.value.reason == "BUDGET_EXCEEDS_PARENT"
    with pytest.raises(Refused) as refused:
        await marketer.UpdateCampaign(
            campaign={"name": part.name, "budget": {"currencyCode": "USD", "amount": "1.00"}},
            updateMask="budget",
        )
    assert refused.value.reason == "CURRENCY_MISMATCH"


async def test_a_copy_is_a_draft_without_results(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await made(marketer, budget=cny("10.00"), endDate={"year": 2026, "month": 1, "day": 10})
    copy = await marketer.CopyCampaign(name=campaign.name, displayName="明年再办")
    assert (copy.state, copy.start_date.year, copy.end_date.year, copy.end_date.day) == (
        pb.Campaign.DRAFT,
        2027,
        2027,
        10,
    )
    assert (copy.budget.amount, copy.number != campaign.number) == ("10.00", True)


async def test_who_is_in_a_campaign_is_in_it_once_and_answers_once(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await running(marketer)
    contact = await person(marketing, "周明")
    member = await marketer.CreateCampaignMember(
        campaignMember={"campaign": campaign.name, "contact": contact}
    )
    assert member.display_name == "周明"
    with pytest.raises(Refused) as refused:
        await marketer.CreateCampaignMember(campaignMember={"campaign": campaign.name, "contact": contact})
    assert refused.value.reason == "ALREADY_EXISTS"
    with pytest.raises(Refused) as refused:
        await marketer.CreateCampaignMember(campaignMember={"campaign": campaign.name})
    assert refused.value.reason == "MEMBER_REQUIRED"
    await marketer.RespondCampaignMember(name=member.name, response="愿意参加")
    with pytest.raises(Refused) as refused:
        await marketer.RespondCampaignMember(name=member.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    seen = await marketer.GetCampaign(name=campaign.name)
    assert (seen.member_count, seen.responded_count) == (1, 1)
    await marketer.FinishCampaign(name=campaign.name)
    with pytest.raises(Refused) as refused:
        await marketer.CreateCampaignMember(
            campaignMember={"campaign": campaign.name, "contact": await person(marketing, "吴芳")}
        )
    assert refused.value.reason == "CAMPAIGN_CLOSED"


async def test_a_member_becomes_lead_and_customer_whatever_comes_twice_or_first(marketing: Service) -> None:
    marketer = marketing.client("marketer")
    campaign = await running(marketer)
    phone = f"+8613{str(uuid7().int)[-9:]}"
    contact = await person(marketing, "郑强", phones=[{"number": phone}])
    member = await marketer.CreateCampaignMember(
        campaignMember={"campaign": campaign.name, "contact": contact}
    )
    lead = {
        "name": f"leads/{uuid7()}", "displayName": "郑强咨询", "campaign": campaign.name, "state": "NEW", "etag": "1",
        "phones": [{"number": phone}],
    }  # fmt: skip
    deal = {
        "name": f"opportunities/{uuid7()}", "displayName": "郑强采购", "campaign": campaign.name, "lead": lead["name"],
        "amount": cny("500.50"), "state": "OPEN", "etag": "1",
    }  # fmt: skip
    won = {**deal, "state": "WON", "etag": "3"}
    for subject, payload in (
        ("OpportunityWon", {"opportunity": won}),
        ("OpportunityOpened", {"opportunity": deal}),
        ("LeadCreated", {"lead": lead}),
        ("OpportunityWon", {"opportunity": won}),
        ("LeadCreated", {"lead": lead}),
    ):
        await marketing.tell(f"crm.sales.v1.{subject}", payload, str(uuid7()))

    async def complete() -> Any:
        seen = await marketer.GetCampaign(name=campaign.name)
        return seen if (seen.member_count, seen.lead_count, seen.won_count) == (1, 1, 1) else None

    seen = await marketing.eventually(complete)
    assert [(money.currency_code, money.amount) for money in seen.won_amounts] == [("CNY", "500.50")]
    found = await marketer.GetCampaignMember(name=member.name)
    assert (found.state, found.lead, found.opportunity) == (
        pb.CampaignMember.CUSTOMER,
        lead["name"],
        deal["name"],
    )
    again = {**deal, "etag": "4"}
    await marketing.tell("crm.sales.v1.OpportunityReopened", {"opportunity": again}, deal["name"])

    async def open_again() -> bool:
        seen = await marketer.GetCampaign(name=campaign.name)
        return (seen.opportunity_count, seen.won_count, len(seen.won_amounts)) == (1, 0, 0)

    await marketing.eventually(open_again)


async def test_a_campaign_belongs_to_its_department(marketing: Service) -> None:
    campaign = await made(marketing.client("marketer"))
    for stranger in (marketing.sales1, marketing.sales2):
        with pytest.raises(Refused):
            await stranger.GetCampaign(name=campaign.name)
    with pytest.raises(Refused) as refused:
        await marketing.sales1.LaunchCampaign(name=campaign.name)
    assert refused.value.reason == "PERMISSION_DENIED"


async def person(service: Service, display_name: str, **more: Any) -> str:
    """A contact as the customer service tells it, owned by the marketer."""
    name, owner = f"contacts/{uuid7()}", service.person("marketer")
    resource = {
        "name": name, "displayName": display_name, "state": "ACTIVE", "owner": owner.employee,
        "department": owner.department, **more,
    }  # fmt: skip
    payload = {"name": name, "action": "CREATED", "actor": "employees/x", "resource": resource}
    await service.tell("crm.customer.v1.ResourceChanged", payload, name)
    return name
