"""Every business fact about an account is on its time line, for those who may open its source."""

import os
import time
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from crmkit.auth import system
from crmkit.catalog import business_facts
from crmkit.events import Fact
from crmkit.scope import enter
from crmkit.testing import Client, Refused, Service
from customer.timeline import SILENT, on_any_fact
from google.api import resource_pb2
from google.protobuf.descriptor import Descriptor
from sqlalchemy import text
from uuid_utils.compat import uuid7

# Tests run with as much more patience.
PATIENCE = int(os.environ.get("PATIENCE", "1"))


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


async def rows(customer: Service, account: str) -> list[Any]:
    """Every column of the account's entries."""
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        found = await session.execute(
            text("SELECT * FROM timeline WHERE account = :account ORDER BY id"), {"account": account}
        )
        return [tuple(row) for row in found]


async def deal(
    customer: Service, account: str, name: str, who: str, etag: int = 1, **fact: Any
) -> dict[str, Any]:
    person = customer.person(who)
    return {
        "name": name, "displayName": "时间线商机", "account": account, "owner": person.employee,
        "department": person.department, "amount": {"currencyCode": "CNY", "amount": "8.00"}, "etag": str(etag), **fact,
    }  # fmt: skip


@pytest.mark.capability("c.360")
async def test_an_entry_follows_its_source_and_a_rebuild_gives_the_same_entries(customer: Service) -> None:
    made = await customer.sales1.CreateAccount(account={"displayName": "时间线随源公司"})
    account, name = made.name, f"opportunities/{uuid4()}"
    opened = {"opportunity": await deal(customer, account, name, "sales2")}
    await customer.tell("crm.sales.v1.OpportunityOpened", opened, name, times=2)
    await customer.tell("crm.sales.v1.OpportunityOpened", opened, name)
    late = {"opportunity": await deal(customer, account, name, "sales2"), "time": "2020-01-01T00:00:00Z"}
    await customer.tell("crm.sales.v1.OpportunityLost", late, name)
    await customer.eventually(lambda: _all(customer, account, 4))
    # The deal is another department's: its entries are not for the account's owner, but for those of the deal.
    assert [e.kind for e in await entries(customer.sales1, account)] == ["crm.customer.v1.AccountCreated"]
    seen = [(e.kind, e.amount.amount) for e in await entries(customer.sales2, account)]
    assert seen == [("crm.sales.v1.OpportunityOpened", "8.00")] * 2 + [
        ("crm.sales.v1.OpportunityLost", "8.00")
    ]

    # The same fact twice is one entry; another fact of the same thing is another entry.
    assert len(await rows(customer, account)) == 4

    # Who may open the record now sees what happened to it before.
    moved = await deal(customer, account, name, "sales1", etag=2)
    change = {
        "name": name,
        "action": "UPDATED",
        "before": {"owner": "x", "department": "y"},
        "resource": moved,
    }
    await customer.tell("crm.sales.v1.ResourceChanged", change, name, 2)
    await customer.eventually(lambda: _count(customer, account, 4))
    assert not await entries(customer.sales2, account)

    counts = await customer.sales1.GetAccountOverview(name=account)
    tabs = {tab.filter: tab.count for tab in counts.tabs}
    for filter_text, count in tabs.items():
        assert len((await customer.sales1.ListTimeline(filter=filter_text)).timeline) == count
    assert sorted(tabs.values()) == [0, 0, 1, 3]
    path = {step.step: step.HasField("time") for step in counts.path}
    assert path == {"LEAD": False, "INTENT": True, "FIRST_PURCHASE": False, "SIGNED": False}

    before = await rows(customer, account)
    assert (await customer.admin.RebuildTimeline(account=account)).entries == 4
    assert await rows(customer, account) == before
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        await session.execute(text("DELETE FROM timeline WHERE account = :account"), {"account": account})
        await session.commit()
    await customer.admin.RebuildTimeline()

    async def same() -> bool:
        return await rows(customer, account) == before

    await customer.eventually(same, 60)
    with pytest.raises(Refused) as refused:
        await customer.sales1.RebuildTimeline(account=account)
    assert refused.value.reason == "PERMISSION_DENIED"

    # What is gone nobody opens.
    gone = {"name": name, "action": "DELETED", "resource": moved}
    await customer.tell("crm.sales.v1.ResourceChanged", gone, name, 3)

    async def only_the_account() -> bool:
        return [e.kind for e in await entries(customer.admin, account)] == ["crm.customer.v1.AccountCreated"]

    await customer.eventually(only_the_account)


@pytest.mark.capability("c.360")
async def test_ten_thousand_entries_are_paged_at_once_and_stay_in_place_while_others_arrive(
    customer: Service,
) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "时间线万条公司"})).name
    person = customer.person("sales1")
    await customer.eventually(lambda: _count(customer, account, 1))
    many = text(
        "INSERT INTO timeline (id, account, occur_time, kind, phase, ref, summary, requires, owner, department,"
        " create_time, update_time, version) SELECT gen_random_uuid(), :account,"
        " timestamptz '2020-01-01Z' + n * interval '1 min', 'crm.sales.v1.QuoteSent',"
        " 'PRESALE', 'quotes/x', 'q' || n, CASE n % 2 WHEN 0 THEN 'sales.quotes.read' ELSE 'x.y.read' END,"
        " :owner, :department, now(), now(), 1 FROM generate_series(1, 20000) n"
    )
    scope = {"account": account, "owner": person.employee, "department": person.department}
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        await session.execute(many, scope)
        await session.commit()
    query = {"filter": f'account = "{account}"', "orderBy": "occur_time desc", "pageSize": 50}
    took: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        first = await customer.sales1.ListTimeline(**query)
        took.append(time.perf_counter() - began)
    # The quickest counts: others work on the same machine.
    assert min(took) < 0.3, took
    newer = {"opportunity": await deal(customer, account, f"opportunities/{uuid4()}", "sales1")}
    await customer.tell("crm.sales.v1.OpportunityOpened", newer, newer["opportunity"]["name"])

    async def arrived() -> bool:
        newest = await customer.sales1.ListTimeline(**query)
        return newest.timeline[0].kind == "crm.sales.v1.OpportunityOpened"

    await customer.eventually(arrived)
    second = await customer.sales1.ListTimeline(**query, pageToken=first.next_page_token)
    numbers = [
        int(entry.summary[1:])
        for page in (first, second)
        for entry in page.timeline
        if entry.summary[:1] == "q"
    ]
    assert numbers == list(range(20000, 20000 - 2 * len(numbers), -2))
    assert (await customer.sales1.GetAccountOverview(name=account)).tabs[0].count == 1000


async def _all(customer: Service, account: str, at_least: int) -> bool:
    return len(await rows(customer, account)) >= at_least


async def test_mail_stands_with_the_customer_as_far_as_its_mailbox_shares_it(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": f"邮件客户{uuid4().hex[:6]}"})
    secret, name = f"机密报价{uuid4().hex[:6]}", f"mailRecords/{uuid4()}"
    me = customer.person("sales1")
    record = {
        "name": name, "displayName": secret, "sharing": "SUBJECT", "direction": "INBOUND", "account": account.name,
        "occurTime": "2026-11-16T02:00:00Z", "owner": me.employee, "department": me.department,
        "sender": {"address": "w@example.com"},
    }  # fmt: skip
    await customer.tell("crm.workspace.v1.MailReceived", {"mailRecord": record}, name)
    where = f'account = "{account.name}"'

    async def shown() -> tuple[list[str], list[str]]:
        log = (await customer.sales1.ListInteractions(filter=where)).interactions
        lines = await entries(customer.sales1, account.name)
        mail = [entry.summary for entry in lines if "Mail" in entry.kind or "Interaction" in entry.kind]
        return [one.summary for one in log], mail

    async def told() -> bool:
        return await shown() == ([secret], [secret, secret])

    await customer.eventually(told)
    less = {**record, "displayName": "", "sharing": "METADATA"}
    await customer.tell("crm.workspace.v1.MailRecordChanged", {"mailRecord": less}, name, version=2)

    async def reduced() -> bool:
        log, lines = await shown()
        return log == ["（邮件）"] and sorted(lines) == ["", "（邮件）"]

    await customer.eventually(reduced)
    await customer.admin.RebuildTimeline(account=account.name)
    assert secret not in str(await shown()) and secret not in str(
        await entries(customer.sales1, account.name)
    )
    gone = {"mailRecord": {"name": name, "account": account.name}, "withdrawn": True}
    await customer.tell("crm.workspace.v1.MailRecordChanged", gone, name, version=3)

    async def withdrawn() -> bool:
        return (await shown())[0] == ["（私人邮件）"]

    await customer.eventually(withdrawn)


def way_to_an_account(message: Descriptor, account: str, depth: int = 6) -> dict[str, Any] | None:
    """The least that a message of the kind says of an account, as JSON; None where it never names one."""
    deeper: list[tuple[str, bool, Descriptor]] = []
    for field in message.fields:
        reference = field.GetOptions().Extensions[resource_pb2.resource_reference].type
        many = field.is_repeated
        if reference == "crm.customer/Account" or (field.name == "account" and not field.message_type):
            return {field.json_name: [account] if many else account}
        if field.message_type is not None and field.message_type.full_name.startswith("crm."):
            if field.message_type.full_name == "crm.customer.v1.Account":
                return {field.json_name: [{"name": account}] if many else {"name": account}}
            deeper.append((field.json_name, many, field.message_type))
    for name, many, inner in deeper if depth > 1 else ():
        if (found := way_to_an_account(inner, account, depth - 1)) is not None:
            return {name: [found] if many else found}
    return None


@pytest.mark.capability("c.360")
async def test_every_fact_of_the_eight_services_that_names_an_account_is_on_its_time_line(
    customer: Service,
) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": "时间线全事实公司"})).name
    told: list[Fact] = []
    for subject in set(business_facts()) - set(SILENT):
        package, _, kind = subject.rpartition(".")
        module = import_module(f"{package}.events_pb2")
        payload = way_to_an_account(module.DESCRIPTOR.message_types_by_name[kind], account)
        if payload is not None:
            told.append(Fact(subject, uuid7(), datetime.now(UTC), "system/test", "", 1, payload))
    areas = {fact.subject.split(".")[1] for fact in told}
    # Those of marketing and insight are about leads, campaigns and models.
    assert areas >= {"customer", "sales", "orders", "billing", "servicedesk", "workspace"}
    assert len(told) > 90
    # Told twice, and twice at once.
    for _ in range(2):
        async with customer.running.system_call("test", None) as call:
            await on_any_fact([*told, *told], call)
    found = await rows(customer, account)
    created = "crm.customer.v1.AccountCreated"
    await customer.eventually(lambda: _all(customer, account, len(told) + 1))
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        kinds = await session.execute(
            text("SELECT kind, count(*) FROM timeline WHERE account = :account GROUP BY kind"),
            {"account": account},
        )
        counts: dict[str, int] = {row[0]: row[1] for row in kinds}
    assert found and counts.pop(created) == 1 + (created in {fact.subject for fact in told})
    assert counts == {fact.subject: 1 for fact in told if fact.subject != created}


@pytest.mark.capability("c.360")
async def test_service_reads_of_sales_and_sales_of_service_as_far_as_each_may_open_it(
    customer: Service,
) -> None:
    account = (await customer.sales1.CreateAccount(account={"displayName": f"两边{uuid4().hex[:6]}"})).name
    desk = customer.person("agent")
    mine = await deal(customer, account, f"opportunities/{uuid4()}", "sales1")
    await customer.tell("crm.sales.v1.OpportunityOpened", {"opportunity": mine}, mine["name"])
    order = {**mine, "name": f"orders/{uuid4()}"}
    began = time.monotonic()
    await customer.tell("crm.orders.v1.OrderPlaced", {"order": order}, order["name"])
    ticket = {
        **mine, "name": f"tickets/{uuid4()}", "owner": desk.employee, "department": desk.department,
    }  # fmt: skip
    await customer.tell("crm.servicedesk.v1.TicketOpened", {"ticket": ticket}, ticket["name"])
    await customer.eventually(lambda: _all(customer, account, 4))
    assert time.monotonic() - began < 5 * PATIENCE
    seen = {
        who: sorted(e.kind.rpartition(".")[2] for e in await entries(customer.client(who), account))
        for who in ("sales1", "agent", "service", "manager", "sales2", "admin")
    }
    everything = ["AccountCreated", "OpportunityOpened", "OrderPlaced", "TicketOpened"]
    # Customers and orders are open to the desk, other people's deals are not: whatever the reach of the time line.
    assert seen["agent"] == seen["service"] == ["AccountCreated", "OrderPlaced", "TicketOpened"]
    assert seen["sales1"] == ["AccountCreated", "OpportunityOpened", "OrderPlaced"]
    assert (seen["sales2"], seen["manager"], seen["admin"]) == ([], everything, everything)
    for who, kinds in seen.items():
        if not kinds:
            continue
        tabs = (await customer.client(who).GetAccountOverview(name=account)).tabs
        assert sum(tab.count for tab in tabs) == len(kinds)
    # The second wall says the same where the first is forgotten.
    for who, kinds in seen.items():
        caller = customer.running.directory.explained(customer.person(who).employee or "")
        assert caller is not None
        async with customer.running.sessions() as session, session.begin():
            await enter(session, caller)
            count = await session.scalar(
                text("SELECT count(*) FROM timeline WHERE account = :account"), {"account": account}
            )
        assert len(kinds) <= count <= len(everything)
        assert who not in ("agent", "service", "sales2") or count == len(kinds)
