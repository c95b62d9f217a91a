"""Lists, batches and figures: complete, in order, without doubles, and only of what the caller may see."""

from typing import Any
from uuid import uuid4

import grpc
import pytest
from crmkit.testing import Client, Refused, Service


def mark() -> str:
    return f"列表{uuid4().hex[:10]}"


async def create(client: Client, prefix: str, **fields: Any) -> Any:
    return await client.CreateAccount(account={"displayName": f"{prefix}{uuid4().hex}", **fields})


async def pages(client: Client, size: int, **asked: Any) -> list[str]:
    """Names over all pages, in the order in which they came."""
    names: list[str] = []
    token = ""
    while True:
        page = await client.ListAccounts(pageSize=size, pageToken=token, **asked)
        assert len(page.accounts) <= size
        names += [account.name for account in page.accounts]
        if not (token := page.next_page_token):
            return names


@pytest.mark.parametrize("direction", ["", " desc"])
@pytest.mark.parametrize("field", ["annual_revenue", "last_interaction_time", "employee_count", "industry"])
async def test_an_order_in_which_values_are_absent_pages_completely(
    customer: Service, field: str, direction: str
) -> None:
    prefix = mark()
    made: set[str] = set()
    for amount in (None, "5.00", None, "-0.00", "5.00", None):
        money = {"annualRevenue": {"currencyCode": "CNY", "amount": amount}} if amount else {}
        made.add((await create(customer.sales1, prefix, **money, industry="X" if amount else "")).name)
    asked = {"filter": f'display_name = "{prefix}*"', "orderBy": f"{field}{direction}"}
    for size in (1, 2, 5):
        names = await pages(customer.sales1, size, **asked)
        assert len(names) == 6
        assert set(names) == made


async def test_three_grounds_to_see_a_record_give_it_once_and_in_order(customer: Service) -> None:
    """The manager owns some, collaborates on some, and sees the department's: each page is one union."""
    prefix = mark()
    manager = customer.person("manager").employee
    made = [
        (await create(customer.manager, prefix, collaborators=[manager])).name,
        (await create(customer.sales1, prefix, collaborators=[manager])).name,
        (await create(customer.sales1, prefix)).name,
        (await create(customer.sales2, prefix, collaborators=[manager])).name,
        (await create(customer.manager, prefix)).name,
    ]
    await create(customer.sales2, prefix)
    asked = {"filter": f'display_name = "{prefix}*"'}
    for size in (1, 2, 10):
        assert await pages(customer.manager, size, **asked) == list(reversed(made))
        assert await pages(customer.manager, size, **asked, orderBy="create_time") == made
    figures = await customer.manager.AggregateAccounts(**asked)
    assert [row.count for row in figures.rows] == ["5"]


async def test_a_batch_changes_all_or_nothing_and_names_the_one_that_failed(customer: Service) -> None:
    prefix = mark()
    mine = [await create(customer.sales1, prefix) for _ in range(3)]
    foreign = await create(customer.sales2, prefix)

    def requests(*names: str, **more: Any) -> list[dict[str, Any]]:
        return [
            {"account": {"name": n, "website": "new.example", **more}, "updateMask": "website"} for n in names
        ]

    with pytest.raises(Refused) as refused:
        await customer.sales1.BatchUpdateAccounts(requests=requests(mine[0].name, mine[1].name, foreign.name))
    assert (refused.value.code, refused.value.info.metadata["index"]) == (grpc.StatusCode.NOT_FOUND, "2")
    with pytest.raises(Refused) as refused:
        await customer.sales1.BatchUpdateAccounts(
            requests=requests(mine[0].name) + requests(mine[1].name, etag="7")
        )
    assert refused.value.reason == "ETAG_MISMATCH"
    unchanged = await customer.sales1.BatchGetAccounts(names=[account.name for account in mine])
    assert [(a.etag, a.website) for a in unchanged.accounts] == [("1", "")] * 3
    changed = await customer.sales1.BatchUpdateAccounts(requests=requests(*(a.name for a in reversed(mine))))
    assert [a.name for a in changed.accounts] == [a.name for a in reversed(mine)]
    assert {(a.etag, a.website) for a in changed.accounts} == {("2", "new.example")}


@pytest.mark.parametrize("count", [0, 101])
async def test_a_batch_has_a_size(customer: Service, count: int) -> None:
    with pytest.raises(Refused) as refused:
        await customer.sales1.BatchGetAccounts(names=[f"accounts/{uuid4()}"] * count)
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_sums_are_split_by_currency_and_groups_are_by_date(customer: Service) -> None:
    prefix = mark()
    for amount, currency in (("0.10", "CNY"), ("0.20", "CNY"), ("7.00", "USD"), (None, None)):
        money = {"annualRevenue": {"currencyCode": currency, "amount": amount}} if amount else {}
        await create(
            customer.sales1, prefix, **money, employeeCount=3, level="A" if currency == "CNY" else "B"
        )
    asked = {"filter": f'display_name = "{prefix}*"'}
    figures = await customer.sales1.AggregateAccounts(
        **asked, sum=["annual_revenue", "employee_count"], average=["annual_revenue"]
    )
    (row,) = figures.rows
    assert row.count == "4"
    assert dict(row.sums) == {"annual_revenue:CNY": "0.3", "annual_revenue:USD": "7", "employee_count": "12"}
    assert dict(row.averages) == {"annual_revenue:CNY": "0.15", "annual_revenue:USD": "7"}
    by_level = await customer.sales1.AggregateAccounts(**asked, groupBy=["level"], sum=["annual_revenue"])
    assert {tuple(r.group): (r.count, dict(r.sums)) for r in by_level.rows} == {
        ("A",): ("2", {"annual_revenue:CNY": "0.3"}),
        ("B",): ("2", {"annual_revenue:USD": "7"}),
    }
    by_month = await customer.sales1.AggregateAccounts(**asked, groupBy=["create_time:month"])
    (month,) = by_month.rows
    assert month.count == "4"
    assert month.group[0].endswith("-01")
    for bent in ({"groupBy": ["create_time"]}, {"groupBy": ["custom"]}, {"sum": ["display_name"]}):
        with pytest.raises(Refused) as refused:
            await customer.sales1.AggregateAccounts(**asked, **bent)
        assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_may_not_be_read_is_nowhere(customer: Service) -> None:
    """A field with a permission of its own: not in replies, filters, orders or figures."""
    prefix = mark()
    person, insider = customer.person("everything"), customer.client("everything")
    account = await create(insider, prefix)
    body = {"displayName": f"{prefix}人", "account": account.name, "worries": "预算", "attitude": 2}
    made = await insider.CreateContact(contact=body)
    assert (made.worries, made.attitude) == ("预算", 2)
    config = customer.running.config
    blind = sorted(p for p in customer.running.directory._known if p != "customer.contacts.read_sensitive")
    async with customer.parts.configuration() as bucket:
        await bucket.put("role.blind", {"permissions": blind, "scope": "OWN"})
        key = f"employee.{person.employee.partition('/')[2]}"
        entry = config.get(key)
        await bucket.put(key, {**entry, "roles": ["blind"]})
        await customer.eventually(lambda: config.get(key)["roles"] == ["blind"] and config.get("role.blind"))
        try:
            found = await insider.GetContact(name=made.name)
            assert (found.worries, found.attitude, found.display_name) == ("", 0, f"{prefix}人")
            (listed,) = (await insider.ListContacts(filter=f'name = "{made.name}"')).contacts
            assert (listed.worries, listed.attitude) == ("", 0)
            (batch,) = (await insider.BatchGetContacts(names=[made.name])).contacts
            assert batch.worries == ""
            changed = await insider.UpdateContact(
                contact={"name": made.name, "title": "经理"}, updateMask="title"
            )
            assert changed.worries == ""
            for asked, reason in (
                ({"filter": 'worries:"预算"'}, "FILTER_INVALID"),
                ({"filter": "attitude > 0"}, "FILTER_INVALID"),
                ({"orderBy": "attitude"}, "ORDER_BY_INVALID"),
            ):
                with pytest.raises(Refused) as refused:
                    await insider.ListContacts(**asked)
                assert refused.value.reason == reason
            for asked in ({"sum": ["attitude"]}, {"groupBy": ["worries"]}, {"filter": "attitude > 0"}):
                with pytest.raises(Refused) as refused:
                    await insider.AggregateContacts(**asked)
                assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
        finally:
            await bucket.put(key, entry)
            await bucket.delete("role.blind")
    await customer.eventually(lambda: config.get(key)["roles"] == entry["roles"])
    assert (await insider.GetContact(name=made.name)).worries == "预算"


async def test_access_is_explained_by_its_grounds(customer: Service) -> None:
    sales1, manager = customer.person("sales1").employee, customer.person("manager").employee
    account = await create(customer.sales1, mark(), collaborators=[manager])

    async def grounds(client: Client, **more: Any) -> set[str]:
        answer = await client.ExplainAccountAccess(name=account.name, **more)
        kinds = {ground.kind for ground in answer.grounds}
        assert answer.visible == (kinds != {"NONE"})
        assert all(ground.text for ground in answer.grounds)
        return kinds

    assert "OWNER" in await grounds(customer.sales1)
    assert {"COLLABORATOR", "DEPARTMENT"} <= await grounds(customer.manager)
    assert "OWNER" in await grounds(customer.admin, employee=sales1)
    assert await grounds(customer.admin, employee=customer.person("sales2").employee) == {"NONE"}
    with pytest.raises(Refused) as refused:
        await customer.sales2.ExplainAccountAccess(name=account.name)
    assert refused.value.reason == "NOT_FOUND"
    with pytest.raises(Refused) as refused:
        await customer.sales1.ExplainAccountAccess(name=account.name, employee=manager)
    assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED
