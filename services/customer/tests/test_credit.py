"""Credit: granted by people, used by what billing says."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.auth import system
from crmkit.scope import enter
from crmkit.testing import Refused, Service, local_date
from customer.credit import end_credit_of_yesterday

Told = Callable[..., Awaitable[str]]
State = pb.CreditProfile.State


def yuan(amount: str, currency: str = "CNY") -> dict[str, str]:
    return {"currencyCode": currency, "amount": amount}


def day(when: date) -> dict[str, int]:
    return {"year": when.year, "month": when.month, "day": when.day}


async def graded(customer: Service, name: str, limit: str = "1000.00") -> Any:
    account = await customer.sales1.CreateAccount(account={"displayName": name})
    profile = await customer.manager.CreateCreditProfile(creditProfile={"account": account.name})
    assert State.Name(profile.state) == "UNDER_REVIEW"
    return await customer.manager.GradeCreditProfile(
        name=profile.name, grade="A", limit=yuan(limit), termDays=30,
        scorecard=[{"factor": "回款", "weight": "60", "score": "90"}, {"factor": "规模", "weight": "40", "score": "55.5"}],
    )  # fmt: skip


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


async def tonight(customer: Service) -> None:
    async with customer.running.call("test", system("customer")) as call:
        await end_credit_of_yesterday(datetime.now(UTC), call)


@pytest.mark.capability("c.credit")
async def test_what_is_used_follows_billing_and_nothing_else(customer: Service, told: Told) -> None:
    profile = await graded(customer, "信用甲钢材有限公司")
    assert (State.Name(profile.state), profile.score, profile.term_days) == ("ACTIVE", "76.2", 30)
    assert (profile.available.amount, profile.used.amount) == ("1000.00", "0.00")
    balance = await told("accountBalances", profile.account, balance=yuan("400.00"))

    async def available(amount: str) -> Any:
        async def look() -> Any:
            found = await customer.manager.GetCreditProfile(name=profile.name)
            return found if found.available.amount == amount else None

        return await customer.eventually(look)

    found = await available("600.00")
    assert found.used.amount == "400.00"
    # An older word about the same balance changes nothing; what people write into it neither.
    await told("accountBalances", profile.account, name=balance, etag=3, balance=yuan("700.00"))
    await available("300.00")
    await told("accountBalances", profile.account, name=balance, etag=2, balance=yuan("1.00"))
    await customer.manager.UpdateCreditProfile(
        creditProfile={"name": profile.name, "used": yuan("0.00"), "remarks": "老客户"},
        updateMask="used,remarks",
    )
    assert (await available("300.00")).remarks == "老客户"

    # Below what is used: negative, nothing cancelled, said once.
    lower = await customer.manager.GradeCreditProfile(name=profile.name, grade="B", limit=yuan("500.00"))
    assert (lower.available.amount, State.Name(lower.state)) == ("-200.00", "ACTIVE")
    await told("accountBalances", profile.account, name=balance, etag=4, balance=yuan("800.00"))
    await available("-300.00")
    notices = [
        n
        for n in await customer.facts("crm.customer.v1.NoticeRaised")
        if profile.name in n.get("subjects", ())
    ]
    assert len(notices) == 1
    assert (notices[0]["employees"], notices[0]["roles"]) == (
        [customer.person("sales1").employee],
        ["finance"],
    )
    changed = await customer.facts("crm.customer.v1.CreditProfileChanged", profile.name)
    assert changed[-1]["profile"]["available"]["amount"] == "-300.00"
    assert await refusal(customer.manager.GradeCreditProfile(name=profile.name, grade="B", limit=yuan("5.00", "USD"))) == "CREDIT_CURRENCY_LOCKED"  # fmt: skip


@pytest.mark.capability("c.credit")
async def test_a_raise_needs_proof_and_ends_with_its_last_day(customer: Service) -> None:
    profile = await graded(customer, "信用乙纸业有限公司")
    person, file = customer.person("manager"), f"files/{uuid4()}"
    resource = {"name": file, "displayName": "保函.pdf", "owner": person.employee, "department": person.department, "etag": "1"}  # fmt: skip
    payload = {"name": file, "action": "CREATED", "actor": person.employee, "resource": resource}
    await customer.tell("crm.workspace.v1.ResourceChanged", payload, file)
    until = local_date() + timedelta(days=5)

    def more(**fields: Any) -> Any:
        wish = {"amount": yuan("300.00"), "untilDate": day(until), "evidence": [file], **fields}
        return customer.manager.RaiseCreditProfile(name=profile.name, **wish)

    assert await refusal(more(evidence=[])) == "CREDIT_EVIDENCE_MISSING"
    assert await refusal(more(amount=yuan("1.00", "USD"))) == "CURRENCY_MISMATCH"
    assert await refusal(more(untilDate=day(until - timedelta(days=30)))) == "VALIDATION"
    assert (await more()).available.amount == "1300.00"
    await tonight(customer)
    assert (await customer.manager.GetCreditProfile(name=profile.name)).available.amount == "1300.00"
    async with customer.running.sessions() as session:
        from sqlalchemy import text

        await enter(session, system("customer"))
        past = "UPDATE credit_profiles SET temporary_limit = jsonb_set(temporary_limit, '{untilDate,year}', '2020') WHERE id = :id"
        await session.execute(text(past), {"id": profile.name.partition("/")[2]})
        await session.commit()
    for _ in range(2):
        await tonight(customer)
    found = await customer.manager.GetCreditProfile(name=profile.name)
    assert (found.available.amount, found.HasField("temporary_limit")) == ("1000.00", False)


@pytest.mark.capability("c.credit")
async def test_holds_checks_and_days_decide_whether_a_grade_counts(
    customer: Service, told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    profile = await graded(customer, "信用丙矿业有限公司")
    held = await customer.manager.HoldCreditProfile(name=profile.name, reason="票据拒付")
    assert (State.Name(held.state), held.reason) == ("ON_HOLD", "票据拒付")
    assert (await customer.facts("crm.customer.v1.CreditProfileChanged", profile.name))[-1]["hold"] is True
    assert (
        await refusal(customer.manager.HoldCreditProfile(name=profile.name, reason="再次"))
        == "ILLEGAL_TRANSITION"
    )
    assert State.Name((await customer.manager.ReleaseCreditProfile(name=profile.name)).state) == "ACTIVE"

    register = tmp_path / "register.csv"
    register.write_text("taxId,name,status,evidence\n,信用丙矿业有限公司,吊销,公示系统 2026-11\n", "utf-8")
    settings = customer.running.settings.model_copy(update={"register_file": str(register)})
    monkeypatch.setattr(customer.running, "settings", settings)
    checked = await customer.manager.CheckCreditProfile(name=profile.name)
    assert (State.Name(checked.state), checked.checks[0].status) == ("UNDER_REVIEW", "吊销")
    assert checked.checks[0].HasField("time")
    await customer.manager.GradeCreditProfile(name=profile.name, grade="C", limit=yuan("1.00"))
    by_hand = await customer.manager.CheckCreditProfile(name=profile.name, source="法院公告", status="存续")
    assert (State.Name(by_hand.state), len(by_hand.checks)) == ("ACTIVE", 2)

    # Who orders, has a contract or owes needs a valid grade; who has none is named.
    without = (await customer.sales1.CreateAccount(account={"displayName": "信用丁无档案有限公司"})).name
    idle = (await customer.sales1.CreateAccount(account={"displayName": "信用戊无往来有限公司"})).name
    hidden = (await customer.sales2.CreateAccount(account={"displayName": "信用己北方有限公司"})).name
    await told("orders", profile.account, state="COMPLETED")
    await told("contracts", without, state="ACTIVE")
    await told("orders", idle, state="DRAFT")
    await told("orders", hidden, state="COMPLETED")

    async def missing() -> Any:
        found = await customer.manager.GetCreditCoverage()
        return found if without in {m.account for m in found.missing} else None

    found = await customer.eventually(missing)
    assert {m.account: m.why for m in found.missing}[without] == "NO_PROFILE"
    assert not {idle, hidden, profile.account} & {m.account for m in found.missing}
    assert found.covered + len(found.missing) == found.accounts
    async with customer.running.sessions() as session:
        from sqlalchemy import text

        await enter(session, system("customer"))
        past = "UPDATE credit_profiles SET valid_until_date = current_date - 2 WHERE id = :id"
        await session.execute(text(past), {"id": profile.name.partition("/")[2]})
        await session.commit()
    for _ in range(2):
        await tonight(customer)
    assert State.Name((await customer.manager.GetCreditProfile(name=profile.name)).state) == "EXPIRED"
    expired = {m.account: m.why for m in (await customer.manager.GetCreditCoverage()).missing}
    assert expired[profile.account] == "EXPIRED"
    facts = await customer.facts("crm.customer.v1.CreditProfileChanged", profile.name)
    assert [f["profile"]["state"] for f in facts].count("EXPIRED") == 1
    twice = customer.manager.CreateCreditProfile(creditProfile={"account": profile.account})
    assert await refusal(twice) == "ALREADY_EXISTS"
    bad = [{"factor": "x", "weight": "50"}]
    assert await refusal(customer.manager.GradeCreditProfile(name=profile.name, grade="A", limit=yuan("1.00"), scorecard=bad)) == "VALIDATION"  # fmt: skip
