"""The portrait of a customer: what was said beats what was seen, and that what was concluded."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Refused, Service

Told = Callable[..., Awaitable[str]]
Origin = pb.Trait.Origin


def ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")


async def trait(customer: Service, account: str, key: str, value: str, origin: str, **fields: Any) -> Any:
    body = {"account": account, "key": key, "value": value, "origin": origin, **fields}
    return await customer.sales1.CreateTrait(trait=body)


async def portrait(customer: Service, account: str, contact: str = "") -> dict[str, Any]:
    found = await customer.sales1.GetAccountPersona(name=account, contact=contact)
    return {line.key: line for line in found.lines}


async def refusal(awaitable: Any) -> str:
    with pytest.raises(Refused) as refused:
        await awaitable
    return refused.value.reason


@pytest.mark.capability("c.persona")
async def test_every_trait_says_why_and_the_declared_one_counts(customer: Service, told: Told) -> None:
    made = await customer.sales1.CreateAccount(
        account={"displayName": "画像甲乳业有限公司", "needs": "冷链包装"}
    )
    account = made.name
    seen = {"evidence": [{"ref": account, "text": "三次询价都压到底价"}]}
    inferred = await trait(customer, account, "price", "对价格敏感", "INFERRED", **seen)
    assert await refusal(trait(customer, account, "price", "x", "OBSERVED")) == "VALIDATION"
    assert await refusal(trait(customer, account, "price", "x", "INFERRED", evidence=[{}])) == "VALIDATION"
    lines = await portrait(customer, account)
    assert (lines["price"].value, lines["price"].trait) == ("对价格敏感", inferred.name)
    assert (lines["price"].evidence[0].ref, lines["price"].HasField("time")) == (account, True)
    assert (lines["needs"].value, Origin.Name(lines["needs"].origin)) == ("冷链包装", "DECLARED")
    assert lines["needs"].evidence[0].ref == account

    await trait(customer, account, "price", "看重交期", "DECLARED", time=ago(400))
    await trait(customer, account, "price", "看重交期", "OBSERVED", **seen)
    best = (await portrait(customer, account))["price"]
    assert (best.value, Origin.Name(best.origin)) == ("看重交期", "DECLARED")
    assert [(c.value, Origin.Name(c.origin)) for c in best.contradictions] == [("对价格敏感", "INFERRED")]

    # What is older than 180 days fades: it is shown as such and contradicts nothing.
    await trait(customer, account, "growth", "正在扩产", "INFERRED", time=ago(181), **seen)
    await trait(customer, account, "risk", "换过供应商", "INFERRED", time=ago(181), **seen)
    await trait(customer, account, "risk", "稳定", "OBSERVED", time=ago(300), **seen)
    lines = await portrait(customer, account)
    assert (lines["growth"].faded, lines["risk"].faded, lines["risk"].value) == (True, False, "稳定")
    assert not lines["risk"].contradictions

    # Habits are read off the records themselves.
    for days in (1, 2, 3):
        await customer.sales1.CreateInteraction(
            interaction={"account": account, "channel": "WECHAT", "summary": "问库存", "startTime": ago(days)}
        )
    for month in (1, 2, 3):
        await told("orders", account, state="COMPLETED", placeTime=f"2026-0{month}-01T00:00:00Z")

    async def habits() -> Any:
        found = await portrait(customer, account)
        return found if "orderEveryDays" in found else None

    lines = await customer.eventually(habits)
    assert (lines["channel"].value, len(lines["channel"].evidence)) == ("WECHAT", 3)
    assert lines["channel"].evidence[0].ref.startswith("interactions/")
    assert (lines["orderEveryDays"].value, lines["orderEveryDays"].evidence[0].ref.partition("/")[0]) == (
        "30",
        "orders",
    )
    assert await refusal(customer.sales2.GetAccountPersona(name=account)) == "NOT_FOUND"


@pytest.mark.capability("c.persona")
async def test_nothing_is_concluded_of_a_person_who_has_not_agreed(customer: Service) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "画像乙茶业有限公司"})).name
    contact = (
        await customer.sales1.CreateContact(contact={"displayName": "画像人", "account": account})
    ).name
    seen = {"contact": contact, "evidence": [{"text": "常在晚上回复"}]}

    async def consent(decision: str) -> None:
        given = {
            "subject": contact,
            "channel": "OTHER",
            "purpose": "PROFILING",
            "decision": decision,
            "source": "FORM",
        }
        await customer.sales1.CreateConsent(consent=given)

    assert (
        await refusal(trait(customer, account, "hours", "晚上", "INFERRED", **seen))
        == "PROFILING_NOT_ALLOWED"
    )
    await trait(customer, account, "tea", "喜欢岩茶", "DECLARED", contact=contact)
    assert set(await portrait(customer, account, contact)) == {"tea"}
    await consent("GRANTED")
    made = await trait(customer, account, "hours", "晚上", "INFERRED", **seen)
    assert set(await portrait(customer, account, contact)) == {"tea", "hours"}
    await consent("WITHDRAWN")
    assert set(await portrait(customer, account, contact)) == {"tea"}
    assert await refusal(customer.sales1.GetTrait(name=made.name)) == "NOT_FOUND"
    other = (await customer.sales1.CreateAccount(account={"displayName": "画像丙竹业有限公司"})).name
    assert (
        await refusal(trait(customer, other, "tea", "x", "DECLARED", contact=contact))
        == "CONTACT_NOT_OF_ACCOUNT"
    )
    person = await customer.sales1.CreateAccount(account={"displayName": "画像个人", "kind": "INDIVIDUAL"})
    alone = trait(customer, person.name, "hours", "x", "INFERRED", evidence=[{"text": "y"}])
    assert await refusal(alone) == "PROFILING_NOT_ALLOWED"
