"""Companies that sell for us: the agreement, their people, and who hears of it."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.listing import ZONE
from crmkit.testing import Refused, Service, local_date
from workspace.model.known_record import KnownRecord
from workspace.model.partner import warn_of_agreements

Partner = pb.Partner


def day(days: int) -> dict[str, int]:
    """A day from today on, as a date of the protos."""
    found = local_date() + timedelta(days=days)
    return {"year": found.year, "month": found.month, "day": found.day}


@pytest.fixture
async def company(workspace: Service) -> str:
    """A company that workspace has heard of."""
    name = f"accounts/{uuid4()}"
    manager = workspace.person("manager")
    resource = {
        "name": name, "displayName": "远帆渠道", "owner": manager.employee, "department": manager.department,
    }  # fmt: skip
    told = {"name": name, "action": "CREATED", "actor": "system/test", "resource": resource}
    await workspace.tell("crm.customer.v1.ResourceChanged", told, name)
    return name


async def apply(workspace: Service, company: str, **fields: Any) -> Any:
    """An application with an agreement of this year."""
    body = {
        "displayName": f"渠道 {uuid4().hex[:6]}", "account": company, "kind": "DEALER", "startDate": day(-10),
        "endDate": day(300), "regions": ["310000"], "productLines": ["SORTER"], **fields,
    }  # fmt: skip
    return await workspace.manager.CreatePartner(partner=body)


async def reason(call: Any) -> str:
    """Why it is refused."""
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_a_partner_is_taken_on_by_its_agreement_rests_goes_on_and_ends(
    workspace: Service, company: str
) -> None:
    manager = workspace.manager
    made = await apply(workspace, company, endDate=day(-1))
    assert (made.state, made.number[:3], made.owner) == (
        Partner.APPLIED,
        "PT-",
        workspace.person("manager").employee,
    )
    # One at a time for one company.
    assert await reason(apply(workspace, company)) == "PARTNER_EXISTS"
    # An agreement that is over takes nobody on, and none runs backwards.
    assert await reason(manager.ApprovePartner(name=made.name)) == "PARTNER_NO_AGREEMENT"
    backwards = {"name": made.name, "endDate": day(-11)}
    with pytest.raises(Refused) as refused:
        await manager.UpdatePartner(partner=backwards, updateMask="endDate")
    assert refused.value.violations == {"partner.end_date": "WRONG_ORDER"}
    await manager.UpdatePartner(partner={"name": made.name, "endDate": day(300)}, updateMask="endDate")
    active = await manager.ApprovePartner(name=made.name)
    assert active.state == Partner.ACTIVE
    assert await reason(manager.ApprovePartner(name=made.name)) == "ILLEGAL_TRANSITION"
    assert await reason(manager.DeletePartner(name=made.name)) == "ILLEGAL_TRANSITION"
    assert (await manager.SetPartnerGrade(name=made.name, grade="GOLD")).grade == "GOLD"
    assert await reason(manager.SuspendPartner(name=made.name, reason="no")) == "REASON_REQUIRED"
    rests = await manager.SuspendPartner(name=made.name, reason="拖欠货款已久")
    assert (rests.state, rests.state_reason) == (Partner.SUSPENDED, "拖欠货款已久")
    assert (await manager.ResumePartner(name=made.name)).state == Partner.ACTIVE
    # Deals that are open are closed before, or said to go on.
    deal = f"opportunities/{uuid4()}"
    open_deal = {"name": deal, "displayName": "渠道单", "channelPartner": company, "state": "OPEN"}
    told = {"name": deal, "action": "CREATED", "actor": "system/test", "resource": open_deal}
    await workspace.tell("crm.sales.v1.ResourceChanged", told, deal)

    async def counted() -> bool:
        async with workspace.running.system_call("look", None) as call:
            return await call.db.get(KnownRecord, deal) is not None

    await workspace.eventually(counted)
    assert await reason(manager.EndPartner(name=made.name, reason="协议到期不续")) == "PARTNER_HAS_OPEN_DEALS"
    ended = await manager.EndPartner(name=made.name, reason="协议到期不续", leaveDeals=True)
    assert ended.state == Partner.ENDED
    for refusing in (
        manager.ResumePartner(name=made.name),
        manager.SetPartnerGrade(name=made.name, grade="GOLD"),
        manager.UpdatePartner(partner={"name": made.name, "endDate": day(900)}, updateMask="endDate"),
    ):
        assert await reason(refusing) == "ILLEGAL_TRANSITION"
    # Every move was told once, with the partner as it was.
    for fact, times in (("PartnerActivated", 2), ("PartnerSuspended", 1), ("PartnerEnded", 1)):
        told_facts = await workspace.facts(f"crm.workspace.v1.{fact}", made.name)
        assert len(told_facts) == times
        assert told_facts[0]["partner"]["account"] == company
    # The company may begin anew.
    assert (await apply(workspace, company)).state == Partner.APPLIED


async def test_people_of_a_partner_who_rests_are_out_within_seconds_and_come_in_again(
    workspace: Service, company: str
) -> None:
    manager = workspace.manager
    made = await apply(workspace, company)
    await manager.ApprovePartner(name=made.name)
    login = f"agent-{uuid4().hex[:8]}"
    invited = await manager.InvitePartnerUser(name=made.name, displayName="韩冰", username=login)
    [user] = invited.users
    # Whoever is first lets the others in.
    assert user.administrator
    person = await workspace.admin.GetEmployee(name=user.employee)
    assert (person.account, list(person.roles), person.kind) == (
        company,
        ["partner"],
        pb.Employee.PARTNER_USER,
    )
    key = await workspace.admin.CreateApiKey(
        apiKey={
            "displayName": "渠道接口",
            "permissions": ["sales.leads.read"],
            "scope": "OWN",
            "account": company,
        }
    )

    def told(state: bool) -> Any:
        async def same() -> bool:
            config = workspace.running.config
            entries = [
                config.get(f"employee.{user.employee.partition('/')[2]}"),
                config.get(f"apiKey.{key.name.partition('/')[2]}"),
                config.get(f"apiKey.{key.key_id}"),
            ]
            return all(entry is not None and entry["disabled"] is state for entry in entries)

        return same

    await workspace.eventually(told(False))
    await manager.SuspendPartner(name=made.name, reason="拖欠货款已久")
    await workspace.eventually(told(True), 5)
    await manager.ResumePartner(name=made.name)
    await workspace.eventually(told(False), 5)
    await manager.EndPartner(name=made.name, reason="协议到期不续")
    await workspace.eventually(told(True), 5)


async def test_a_partner_looks_after_its_own_people_and_the_last_administrator_stays(
    workspace: Service,
) -> None:
    person, manager = workspace.person("partner"), workspace.manager
    who = workspace.person("manager")
    resource = {
        "name": person.account, "displayName": "蓝海渠道", "owner": who.employee, "department": who.department,
    }  # fmt: skip
    told = {"name": person.account, "action": "CREATED", "actor": "system/test", "resource": resource}
    await workspace.tell("crm.customer.v1.ResourceChanged", told, person.account)
    made = await apply(workspace, person.account or "")
    # Whoever came in before there was a record looks after it.
    assert [(one.employee, one.administrator) for one in made.users] == [(person.employee, True)]
    await manager.ApprovePartner(name=made.name)
    partner = workspace.client("partner")
    # A partner sees its own partnership and no other's, and says nothing of what was agreed.
    assert [one.name for one in (await partner.ListPartners()).partners] == [made.name]
    assert await reason(partner.SetPartnerGrade(name=made.name, grade="GOLD")) == "PERMISSION_DENIED"
    grown = await partner.InvitePartnerUser(
        name=made.name, displayName="齐悦", username=f"agent-{uuid4().hex[:8]}"
    )
    colleague = grown.users[1]
    assert not colleague.administrator
    last = partner.RemovePartnerUser(name=made.name, employee=person.employee, reason="换岗到其他公司")
    assert await reason(last) == "LAST_PARTNER_ADMIN"
    gone = await partner.RemovePartnerUser(
        name=made.name, employee=colleague.employee, reason="已从该公司离职"
    )
    assert [one.employee for one in gone.users] == [person.employee]
    assert (await workspace.admin.GetEmployee(name=colleague.employee)).state == pb.Employee.FROZEN
    again = partner.RemovePartnerUser(name=made.name, employee=colleague.employee, reason="已从该公司离职")
    assert await reason(again) == "NOT_FOUND"
    # Who is no administrator of it lets nobody in.
    second = await manager.InvitePartnerUser(
        name=made.name, displayName="管理员", username=f"agent-{uuid4().hex[:8]}", administrator=True
    )
    await manager.RemovePartnerUser(name=made.name, employee=person.employee, reason="不再负责用户")
    assert second.users[1].administrator
    await workspace.admin.UnfreezeEmployee(name=person.employee)

    async def refused() -> bool:
        try:
            await partner.InvitePartnerUser(
                name=made.name, displayName="x", username=f"agent-{uuid4().hex[:8]}"
            )
        except Refused as refusal:
            return refusal.reason == "NOT_A_PARTNER_ADMIN"
        return False

    await workspace.eventually(refused)


async def test_the_end_of_an_agreement_is_told_sixty_thirty_and_seven_days_before_and_once(
    workspace: Service, company: str
) -> None:
    made = await apply(workspace, company, endDate=day(70))
    await workspace.manager.ApprovePartner(name=made.name)

    async def told_on(days: int) -> int:
        morning = datetime.combine(local_date() + timedelta(days=days), time(8), ZONE).astimezone(UTC)
        for _ in range(2):
            async with workspace.running.call("test", system("workspace")) as call:
                await warn_of_agreements(morning, call)
        found = await workspace.manager.ListNotifications(filter=f'target = "{made.name}"', pageSize=50)
        # What nobody has read about the same record is one line that counts.
        return sum(max(one.count, 1) for one in found.notifications)

    # 70 days before: not yet; at 60, 30 and 7: once each, and once where a day was missed; afterwards no more.
    assert [await told_on(days) for days in (0, 10, 20, 45, 63, 71)] == [0, 1, 1, 2, 3, 3]
