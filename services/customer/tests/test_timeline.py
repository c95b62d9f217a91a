"""Every business fact about an account is on its time line, for those who may open its source."""

from typing import Any

from crmkit.testing import Client, Service


async def entries(client: Client, account: str) -> list[Any]:
    page = await client.ListTimeline(filter=f'account = "{account}"', orderBy="occur_time desc")
    return list(page.timeline)


async def test_facts_of_this_and_other_services_appear_once(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "时间线样例公司甲"})

    async def told() -> list[Any]:
        return await entries(customer.sales1, account.name)

    first = await customer.eventually(told)
    assert [entry.kind for entry in first] == ["crm.customer.v1.AccountCreated"]
    assert first[0].summary == "时间线样例公司甲"
    await customer.sales1.CreateInteraction(
        interaction={
            "account": account.name, "channel": "CALL", "startTime": "2026-01-05T08:00:00Z",
            "summary": "介绍了新产品线并约定下周回访", "result": "有意向",
        }
    )  # fmt: skip
    await customer.eventually(lambda: _count(customer, account.name, 2))
    kinds = [entry.kind for entry in await told()]
    assert kinds.count("crm.customer.v1.InteractionLogged") == 1
    assert (await customer.sales1.GetAccount(name=account.name)).HasField("last_interaction_time")


async def test_an_entry_is_shown_to_those_who_may_open_its_source(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "时间线样例公司乙"})
    await customer.eventually(lambda: _count(customer, account.name, 1))
    assert not await entries(customer.sales2, account.name)
    assert len(await entries(customer.manager, account.name)) == 1


async def _count(customer: Service, account: str, at_least: int) -> bool:
    return len(await entries(customer.sales1, account)) >= at_least
