"""Customers keep their own data: what counts at once, what waits for a code, what waits for us."""

import json
import re
from typing import Any

import obstore
import pytest
from crm.customer.v1 import pb
from crmkit.testing import Client, Refused, Service
from sqlalchemy import text

State = pb.ProfileChange.State


class Portal:
    """A customer's own account, and its user in the portal."""

    def __init__(self, customer: Service, account: Any, contact: Any) -> None:
        self.customer, self.account, self.contact = customer, account, contact
        self.user: Client = customer.client("customer", account=account.name, contact=contact.name)

    async def ask(self, **change: Any) -> Any:
        return await self.user.CreateProfileChange(profileChange=change)

    async def now(self) -> Any:
        return await self.user.GetAccount(name=self.account.name)


@pytest.fixture
async def portal(customer: Service, request: pytest.FixtureRequest) -> Portal:
    account = await customer.sales1.CreateAccount(
        account={
            "displayName": f"自助{request.node.name[-12:]}有限公司",
            "phones": [{"number": "021-62782336"}],
        }
    )
    contact = await customer.sales1.CreateContact(contact={"displayName": "门自助", "account": account.name})
    return Portal(customer, account, contact)


async def codes(customer: Service, address: str) -> list[str]:
    """The codes that were sent to the address, oldest first."""
    found: list[str] = []
    for batch in customer.running.store.list(prefix="messages/"):
        for meta in sorted(batch, key=lambda one: one["path"]):
            stored = await obstore.get_async(customer.running.store, meta["path"])
            message = json.loads(bytes(await stored.bytes_async()))
            if message["to"] == address:
                found += re.findall(r"\d{6}", message["text"])[:1]
    return found


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


@pytest.mark.capability("c.selfprofile")
async def test_a_customer_reads_and_asks_for_its_own_account_alone(customer: Service, portal: Portal) -> None:
    other = await customer.sales1.CreateAccount(account={"displayName": "自助旁人木业有限公司"})
    assert await refusal(portal.user.GetAccount(name=other.name)) == "NOT_FOUND"
    assert [a.name for a in (await portal.user.ListAccounts()).accounts] == [portal.account.name]
    # Whatever account is said, it is the own one.
    made = await portal.ask(account=portal.account.name, patch={"website": "https://自助.example"})
    assert (State.Name(made.state), list(made.applied_fields)) == ("APPLIED", ["website"])
    assert (await portal.now()).website == "https://自助.example"
    assert await refusal(portal.ask(account=other.name, patch={"website": "x"})) == "UNKNOWN_REFERENCE"
    stranger = await customer.sales1.CreateContact(contact={"displayName": "旁人", "account": other.name})
    assert await refusal(portal.ask(contact=stranger.name, patch={"title": "x"})) == "UNKNOWN_REFERENCE"
    mine = await portal.ask(
        contact=portal.contact.name, patch={"title": "设备科长", "preferredChannel": "WECHAT"}
    )
    assert State.Name(mine.state) == "APPLIED"
    assert (await portal.user.GetContact(name=portal.contact.name)).title == "设备科长"
    for patch in ({"level": "A"}, {}, {"owner": "employees/x"}, {"website": {"a": 1}}, {"nosuch": "x"}):
        assert await refusal(portal.ask(patch=patch)) == "VALIDATION", patch
    assert await refusal(portal.user.UpdateAccount(account={"name": portal.account.name, "level": "A"}, updateMask="level")) == "PERMISSION_DENIED"  # fmt: skip
    theirs = Portal(customer, other, stranger)
    assert await refusal(theirs.user.GetProfileChange(name=made.name)) == "NOT_FOUND"
    given = {"subject": portal.account.name, "channel": "EMAIL", "purpose": "MARKETING", "decision": "WITHDRAWN", "source": "PORTAL"}  # fmt: skip
    consent = await portal.user.CreateConsent(consent=given)
    assert [c.name for c in (await portal.user.ListConsents()).consents] == [consent.name]
    assert await refusal(theirs.user.CreateConsent(consent=given)) == "NOT_FOUND"


@pytest.mark.capability("c.selfprofile")
async def test_what_staff_note_about_a_customer_is_not_shown_to_the_customer_on_any_path(
    customer: Service, portal: Portal
) -> None:
    noted = {
        "level": "A",
        "background": "付款拖延，报价留余地",
        "tags": ["难缠"],
        "website": "https://a.example",
    }
    account = await customer.sales1.UpdateAccount(
        account={"name": portal.account.name, **noted}, updateMask="level,background,tags,website"
    )
    assert (account.background, list(account.tags)) == ("付款拖延，报价留余地", ["难缠"])
    role = {"name": portal.contact.name, "decisionRole": "DECIDER"}
    told = await customer.sales1.UpdateContact(contact=role, updateMask="decisionRole")
    assert told.decision_role

    (listed,) = (await portal.user.ListAccounts()).accounts
    (batch,) = (await portal.user.BatchGetAccounts(names=[account.name])).accounts
    for seen in (await portal.now(), listed, batch):
        assert (seen.website, seen.display_name) == ("https://a.example", account.display_name)
        assert not (
            seen.level or seen.background or seen.tags or seen.owner_how or seen.HasField("owner_time")
        )
    for contact in (
        await portal.user.GetContact(name=portal.contact.name),
        *(await portal.user.ListContacts()).contacts,
    ):
        assert not contact.decision_role
    # Nor may it be guessed.
    for asked in ({"filter": 'level = "A"'}, {"orderBy": "level"}):
        with pytest.raises(Refused):
            await portal.user.ListAccounts(**asked)


@pytest.mark.capability("c.selfprofile")
async def test_what_may_do_harm_waits_for_review_and_for_nobody_else_to_have_changed_it(
    customer: Service, portal: Portal
) -> None:
    asked = await portal.ask(patch={"legalName": "自助新名股份有限公司", "language": "en"}, note="已更名")
    assert (State.Name(asked.state), list(asked.waiting_fields)) == ("SUBMITTED", ["legal_name"])
    assert pb.ProfileChange.Risk.Name(asked.risk) == "HIGH"
    account = await portal.now()
    assert (account.legal_name, account.language) == ("", "en")
    assert await refusal(portal.user.ApplyProfileChange(name=asked.name)) == "PERMISSION_DENIED"
    # The clerk who sees the account decides; others do not see it.
    assert await refusal(customer.client("stranger").ApplyProfileChange(name=asked.name)) == "NOT_FOUND"
    applied = await customer.manager.ApplyProfileChange(name=asked.name)
    assert State.Name(applied.state) == "APPLIED"
    assert (await portal.now()).legal_name == "自助新名股份有限公司"

    late = await portal.ask(patch={"legalName": "自助再改股份有限公司"})
    await customer.sales1.UpdateAccount(account={"name": portal.account.name, "legalName": "我方改名有限公司"}, updateMask="legalName")  # fmt: skip
    with pytest.raises(Refused) as refused:
        await customer.manager.ApplyProfileChange(name=late.name)
    assert refused.value.reason == "PROFILE_CHANGED_MEANWHILE"
    shown = refused.value.info.metadata
    assert (shown["now"], shown["wanted"]) == ("我方改名有限公司", "自助再改股份有限公司")
    rejected = await customer.manager.RejectProfileChange(name=late.name, reason="以执照为准")
    assert (State.Name(rejected.state), rejected.reason) == ("REJECTED", "以执照为准")
    assert (await portal.now()).legal_name == "我方改名有限公司"
    assert await refusal(customer.manager.ApplyProfileChange(name=late.name)) == "ILLEGAL_TRANSITION"
    assert await refusal(portal.ask(patch={"taxId": "91350100M000100Y4Z"})) == "VALIDATION"


@pytest.mark.capability("c.selfprofile")
async def test_a_new_address_counts_once_its_code_is_given_back(customer: Service, portal: Portal) -> None:
    mobile, mail = "+8613911112222", f"new{portal.account.name[-6:]}@example.com"
    asked = await portal.ask(patch={"phones": [{"number": "139 1111 2222"}], "emails": [{"address": mail}]})
    assert {(c.channel, c.address, c.confirmed) for c in asked.confirmations} == {
        ("SMS", mobile, False),
        ("EMAIL", mail, False),
    }
    account = await portal.now()
    assert (account.phones[0].number, len(account.emails)) == ("+862162782336", 0)
    assert not any(
        "code" in key for fact in await customer.facts("crm.customer.v1.ProfileCodeRequested") for key in fact
    )
    (code,) = await customer.eventually(lambda: codes(customer, mobile))
    wrong = f"{(int(code) + 1) % 10**6:06}"

    async def confirm(address: str, given: str) -> Any:
        return await portal.user.ConfirmProfileChange(name=asked.name, address=address, code=given)

    assert await refusal(confirm(mobile, wrong)) == "CODE_WRONG"
    assert await refusal(confirm("+8613900000000", code)) == "NOT_FOUND"
    assert await refusal(customer.manager.ApplyProfileChange(name=asked.name)) == "CODE_NOT_CONFIRMED"
    half = await confirm(mobile, code)
    assert (State.Name(half.state), list(half.waiting_fields)) == ("SUBMITTED", ["emails"])
    assert [p.number for p in (await portal.now()).phones] == [mobile]

    # Five wrong ones lock the code, also the right one; another code counts again, for fifteen minutes.
    (first,) = await customer.eventually(lambda: codes(customer, mail))
    bad = f"{(int(first) + 1) % 10**6:06}"
    assert [await refusal(confirm(mail, bad)) for _ in range(5)] == ["CODE_WRONG"] * 5
    assert await refusal(confirm(mail, first)) == "CODE_LOCKED"
    await portal.user.ResendProfileChange(name=asked.name)

    async def second() -> str:
        found = await codes(customer, mail)
        return found[-1] if len(found) > 1 else ""

    latest = await customer.eventually(second)
    async with customer.running.sessions() as session:
        late = "UPDATE profile_codes SET expire_time = expire_time - interval '15 min' WHERE address = :mail"
        await session.execute(text(late), {"mail": mail})
        await session.commit()
    assert await refusal(confirm(mail, latest)) == "CODE_EXPIRED"
    async with customer.running.sessions() as session:
        back = "UPDATE profile_codes SET expire_time = expire_time + interval '15 min' WHERE address = :mail"
        await session.execute(text(back), {"mail": mail})
        await session.commit()
    assert State.Name((await confirm(mail, latest)).state) == "APPLIED"
    assert [e.address for e in (await portal.now()).emails] == [mail]
