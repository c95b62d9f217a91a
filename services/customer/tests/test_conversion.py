"""Leads that become accounts and contacts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from crm.customer.v1 import pb
from crmkit.listing import ZONE
from crmkit.testing import Service

SUBJECT = "crm.sales.v1.LeadConversionRequested"


async def resolved(customer: Service, lead: str, answers: int = 1) -> dict[str, Any]:
    async def look() -> Any:
        found = [f for f in await customer.facts("crm.customer.v1.LeadAccountResolved") if f["lead"] == lead]
        return found[-1] if len(found) >= answers else None

    return await customer.eventually(look)


def request(customer: Service, **fields: Any) -> dict[str, Any]:
    person = customer.person("sales1")
    lead = {"name": f"leads/{uuid4()}", "owner": person.employee, "department": person.department}
    return {"lead": lead, **fields}


async def test_a_lead_becomes_one_account_and_one_contact_however_often_it_is_told(customer: Service) -> None:
    wish = request(
        customer,
        accountDraft={
            "displayName": "转化重工有限公司",
            "kind": "COMPANY",
            "industry": "机械",
            "source": "WEB",
        },
        contactDraft={"displayName": "钱转化", "title": "采购", "phones": [{"number": "13900139001"}]},
    )
    for _ in range(3):
        await customer.tell(SUBJECT, wish, wish["lead"]["name"])
    answer = await resolved(customer, wish["lead"]["name"], answers=3)
    (account,) = (await customer.sales1.ListAccounts(q="转化重工")).accounts
    (contact,) = (await customer.sales1.ListContacts(filter=f'account = "{account.name}"')).contacts
    assert (answer["account"], answer["contact"]) == (account.name, contact.name)
    assert account.owner == contact.owner == customer.person("sales1").employee
    assert account.department == customer.person("sales1").department
    assert (account.source, contact.phones[0].number) == ("WEB", "+8613900139001")


async def test_a_lead_is_linked_to_the_chosen_account_and_to_the_person_who_is_there(
    customer: Service,
) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "选定客户电子有限公司"})
    contact = await customer.sales1.CreateContact(contact={"displayName": "孙选定", "account": account.name})
    wish = request(customer, account=account.name, contactDraft={"displayName": "孙选定"})
    await customer.tell(SUBJECT, wish, wish["lead"]["name"])
    answer = await resolved(customer, wish["lead"]["name"])
    assert (answer["account"], answer["contact"]) == (account.name, contact.name)


async def test_somebody_elses_customer_is_answered_with_level_and_department_and_the_lead_goes_on(
    customer: Service,
) -> None:
    taken = await customer.sales2.CreateAccount(account={"displayName": "别家客户船舶有限公司"})
    wish = request(
        customer, accountDraft={"displayName": "别家客户船舶有限公司"}, contactDraft={"displayName": "李别家"}
    )
    lead = wish["lead"]["name"]
    await customer.tell(SUBJECT, wish, lead)
    answer = await resolved(customer, lead)
    assert (answer["reason"], answer["level"]) == ("ACCOUNT_COLLISION", "STRONG")
    assert answer["department"] == taken.department
    assert "account" not in answer
    assert not (await customer.sales1.ListContacts(q="李别家")).contacts
    await customer.tell(SUBJECT, {"lead": wish["lead"], "account": taken.name}, lead)
    assert (await resolved(customer, lead, answers=2))["account"] == taken.name


async def test_a_draft_that_cannot_be_an_account_is_answered_with_the_reason(customer: Service) -> None:
    wish = request(customer, accountDraft={"displayName": "税号不对有限公司", "taxId": "91310000MA1FL0000X"})
    await customer.tell(SUBJECT, wish, wish["lead"]["name"])
    assert (await resolved(customer, wish["lead"]["name"]))["reason"] == "VALIDATION"


async def test_what_was_said_to_a_lead_becomes_interactions_of_its_account_once(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "跟进随行仪表有限公司"})
    person = customer.person("sales1")
    said = {"time": "2026-03-02T02:00:00Z", "employee": person.employee}
    follow_ups = [
        {**said, "channel": "CALL", "summary": "首次电话"},
        {
            **said,
            "channel": "PIGEON",
            "summary": "见面",
            "nextStep": "寄样品",
            "nextTime": "2026-03-09T02:00:00Z",
        },
    ]
    lead = {"name": f"leads/{uuid4()}", "owner": person.employee, "department": person.department}
    fact = {"lead": {**lead, "followUps": follow_ups}, "account": account.name}
    await customer.tell("crm.sales.v1.LeadConverted", fact, lead["name"], times=2)

    async def logged() -> Any:
        page = await customer.sales1.ListInteractions(filter=f'account = "{account.name}"', orderBy="summary")
        return page.interactions if len(page.interactions) >= 2 else None

    found = await customer.eventually(logged, 30)
    assert sorted((one.summary, pb.Interaction.Channel.Name(one.channel)) for one in found) == [
        ("见面", "OTHER"),
        ("首次电话", "CALL"),
    ]
    assert {tuple(one.subjects) for one in found} == {(lead["name"],)}
    assert {one.next_step.text for one in found} == {"", "寄样品"}


async def test_a_partners_deal_becomes_one_protected_customer_or_a_case(customer: Service) -> None:
    person, subject = customer.person("sales1"), "crm.sales.v1.DealRegistrationApproved"
    last = datetime.now(ZONE).date() + timedelta(days=60)
    word = uuid4().hex[:10]

    def registration(company: str, who: Any) -> dict[str, Any]:
        return {
            "name": f"dealRegistrations/{uuid4()}", "number": f"DR-{uuid4().hex[:6]}", "companyName": company,
            "owner": who.employee, "department": who.department, "need": "两条灌装线", "contactName": "报备联系人",
            "phone": f"139{uuid4().int % 10**8:08}", "state": "APPROVED",
            "protectUntilDate": {"year": last.year, "month": last.month, "day": last.day},
        }  # fmt: skip

    deal = registration(f"报备{word}有限公司", person)
    for _ in range(2):
        await customer.tell(subject, {"dealRegistration": deal}, deal["name"])

    async def made() -> Any:
        found = (await customer.sales1.ListAccounts(filter=f'display_name = "报备{word}有限公司"')).accounts
        return found[0] if len(found) == 1 else None

    account = await customer.eventually(made)
    assert (account.owner, account.source, account.needs) == (person.employee, "PARTNER", "两条灌装线")
    assert account.protected_until_time.ToDatetime(UTC).astimezone(ZONE).date() == last + timedelta(days=1)
    assert account.protection_reason == deal["number"]
    (contact,) = (await customer.sales1.ListContacts(filter=f'account = "{account.name}"')).contacts
    assert (contact.display_name, contact.owner) == ("报备联系人", person.employee)
    # Somebody else's customer stays so; what was asked for stands in a case of the one who asked.
    again = registration(f"报备{word}有限责任公司", customer.person("sales2"))
    await customer.tell(subject, {"dealRegistration": again}, again["name"])

    async def kept() -> Any:
        cases = (
            await customer.sales2.ListDuplicateCases(filter="state = OPEN", pageSize=200)
        ).duplicate_cases
        return [case for case in cases if case.candidate.display_name == again["companyName"]]

    (case,) = await customer.eventually(kept)
    assert case.level == "STRONG" and account.name not in str(case)
    assert (await customer.sales1.GetAccount(name=account.name)).owner == person.employee
