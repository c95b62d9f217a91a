"""One box for every record, seen by those who may open it."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crmkit import listing, scope
from crmkit.search import SearchTerm
from crmkit.testing import Client, Refused, plans
from insight.model.search_document import SearchDocument
from sqlalchemy import text
from uuid_utils.compat import uuid7


async def found(client: Client, q: str, **fields: Any) -> list[str]:
    """The records that a search finds, best first."""
    return [one.target for one in (await client.ListSearchDocuments(q=q, **fields)).search_documents]


async def test_a_record_is_found_by_characters_pinyin_number_and_phone(insight: Any) -> None:
    account = await insight.told("accounts", "customer",
        {"displayName": "重庆长江机械", "number": "C-778899", "phones": [{"number": "+8613911112222"}], **insight.of("sales1")},
    )  # fmt: skip
    await insight.eventually(lambda: found(insight.sales1, "长江"))
    for q in ("重", "重庆长江", "chongqing", "cqcj", "C-7788", "13911112222", "2222"):
        assert account in await found(insight.sales1, q), q
    document = (await insight.sales1.ListSearchDocuments(q="C-778899")).search_documents[0]
    assert (document.title, document.collection, document.keys[0]) == ("重庆长江机械", "accounts", "C-778899")


async def test_a_record_is_seen_by_those_who_may_open_it(insight: Any) -> None:
    mark = f"范围样例{uuid4().hex[:8]}"
    own = await insight.told("accounts", "customer", {"displayName": mark, **insight.of("sales1")})
    shared = await insight.told("products", "sales", {"displayName": mark})
    private = await insight.told("notes", "workspace", {"displayName": mark, **insight.of("sales2")})
    deal = await insight.told("opportunities", "sales",
        {"displayName": mark, **insight.of("sales2"), "collaborators": [insight.person("sales1").employee]},
    )  # fmt: skip
    await insight.eventually(lambda: insight.has(deal))

    async def seen(username: str) -> set[str]:
        return set(await found(insight.client(username), mark))

    assert await seen("sales1") == {own, shared, deal}
    assert await seen("manager") == {own, shared}
    assert await seen("sales2") == {shared, deal, private}
    assert await seen("admin") == {own, shared, deal}
    # The service desk serves every customer; deals and products are not its business.
    assert await seen("agent") == {own}
    figures = await insight.client("manager").AggregateSearchDocuments(q=mark)
    assert [row.count for row in figures.rows] == ["2"]


async def test_a_portal_customer_finds_its_own_account_alone(insight: Any) -> None:
    mark = f"门户样例{uuid4().hex[:8]}"
    account = insight.person("customer").account
    own = await insight.told(
        "contacts", "customer", {"displayName": mark, "account": account, **insight.of("sales1")}
    )
    other = f"accounts/{uuid7()}"
    deal = await insight.told(
        "contacts", "customer", {"displayName": mark, "account": other, **insight.of("sales1")}
    )
    await insight.eventually(lambda: insight.has(deal))
    assert await found(insight.client("customer"), mark) == [own]


async def test_a_partner_finds_what_it_sells_and_nothing_that_is_for_others(insight: Any) -> None:
    mark, partner = f"渠道样例{uuid4().hex[:8]}", insight.person("partner").account
    customer, rival = f"accounts/{uuid7()}", f"accounts/{uuid7()}"
    of = insight.of("sales1")
    sold = [
        await insight.told(
            "quotes", "sales", {"number": f"{mark}-1", "account": customer, "channelPartner": partner, **of}
        ),
        await insight.told(
            "orders", "orders", {"number": f"{mark}-2", "account": customer, "channelPartner": partner, **of}
        ),
    ]
    theirs = await insight.told(
        "quotes", "sales", {"number": f"{mark}-3", "account": customer, "channelPartner": rival, **of}
    )
    # No permission of partners, though it is tied to the partner.
    contract = await insight.told(
        "contracts", "orders", {"displayName": mark, "account": customer, "channelPartner": partner, **of}
    )
    product = await insight.told("products", "sales", {"displayName": mark})
    # Which of these are for partners only sales knows.
    staff = [
        await insight.told(collection, "sales", {"displayName": mark})
        for collection in ("priceBooks", "tips", "pipelines", "callScripts")
    ]
    for name in (*sold, theirs, contract, product, *staff):
        await insight.eventually(lambda name=name: insight.has(name))
    assert set(await found(insight.client("partner"), mark)) == {*sold, product}
    assert {*sold, theirs, product, *staff} <= set(await found(insight.client("admin"), mark))
    # The database says the same by itself.
    person = insight.running.directory.explained(insight.person("sales1").employee)
    portal = replace(person, account=partner, employee="")
    rows = text("SELECT target FROM search_documents WHERE title LIKE :mark")
    async with insight.running.sessions() as session, session.begin():
        await scope.enter(session, portal)
        shown = set(await session.scalars(rows, {"mark": f"{mark}%"}))
    assert shown == {*sold, product, contract}


async def test_what_waits_in_pools_and_hidden_tips_are_not_found_by_those_who_may_not_read_them(
    insight: Any,
) -> None:
    mark, author = f"隐藏样例{uuid4().hex[:8]}", insight.person("sales1").employee
    tip = {"displayName": mark, "creator": author, "state": "PUBLISHED"}
    name = await insight.told("tips", "sales", tip)
    await insight.eventually(lambda: insight.has(name))
    assert await found(insight.sales2, mark) == [name]
    await insight.told("tips", "sales", {**tip, "name": name, "state": "HIDDEN"}, 2, "UPDATED")
    # Members alone see what waits in a pool; the title would tell everybody whose lead or customer it was.
    waiting = {
        await insight.told("leadPoolItems", "sales", {"displayName": mark}),
        await insight.told("poolItems", "customer", {"displayName": mark}),
    }
    after = await insight.told("products", "sales", {"displayName": mark})
    await insight.eventually(lambda: insight.has(after))

    async def hidden() -> bool:
        return await found(insight.sales2, mark) == [after]

    await insight.eventually(hidden)
    assert set(await found(insight.sales1, mark)) == {name, after}
    assert not [one for one in waiting if await insight.has(one)]
    # The database says the same by itself.
    rows = text("SELECT target FROM search_documents WHERE title = :mark")
    async with insight.running.sessions() as session, session.begin():
        await scope.enter(session, insight.running.directory.explained(insight.person("sales2").employee))
        assert set(await session.scalars(rows, {"mark": mark})) == {after}


async def test_what_came_twice_or_late_changes_nothing_and_what_is_gone_stays_gone(insight: Any) -> None:
    mark = uuid4().hex[:10]
    record = {"displayName": f"新名{mark}", **insight.of("sales1")}
    name = await insight.told("accounts", "customer", record, version=3, action="UPDATED")
    await insight.eventually(lambda: found(insight.sales1, f"新名{mark}"))
    for _ in range(2):
        await insight.told(
            "accounts", "customer", {**record, "name": name, "displayName": f"旧名{mark}"}, version=2
        )
    last = await insight.told("accounts", "customer", {"displayName": f"末尾{mark}", **insight.of("sales1")})
    await insight.eventually(lambda: insight.has(last))
    assert not await found(insight.sales1, f"旧名{mark}")
    await insight.told("accounts", "customer", {**record, "name": name}, version=4, action="DELETED")
    await insight.told("accounts", "customer", {**record, "name": name}, version=3, action="UPDATED")

    async def gone() -> bool:
        return not await found(insight.sales1, f"新名{mark}")

    await insight.eventually(gone)
    page = await insight.sales1.ListSearchDocuments(filter=f'target = "{name}"')
    assert not page.search_documents


async def test_a_record_whose_state_alone_changed_is_found_by_the_same_words_until_they_change(
    insight: Any,
) -> None:
    mark = uuid4().hex[:10]
    record = {"displayName": f"先前{mark}", "state": "ACTIVE", **insight.of("sales1")}
    name = await insight.told("accounts", "customer", record, version=1, action="CREATED")
    await insight.eventually(lambda: found(insight.sales1, f"先前{mark}"))
    await insight.told("accounts", "customer", {**record, "name": name, "state": "INACTIVE"}, version=2)

    async def inactive() -> bool:
        page = await insight.sales1.ListSearchDocuments(filter=f'target = "{name}"')
        return page.search_documents[0].state == "INACTIVE"

    await insight.eventually(inactive)
    assert await found(insight.sales1, f"先前{mark}")
    await insight.told(
        "accounts", "customer", {**record, "name": name, "displayName": f"后来{mark}"}, version=3
    )
    await insight.eventually(lambda: found(insight.sales1, f"后来{mark}"))
    assert not await found(insight.sales1, f"先前{mark}")


async def test_a_query_is_neither_empty_nor_endless(insight: Any) -> None:
    for q, reason in (("， 。", "QUERY_TOO_SHORT"), ("长" * 201, "QUERY_TOO_LONG")):
        with pytest.raises(Refused) as refused:
            await insight.sales1.ListSearchDocuments(q=q)
        assert refused.value.reason == reason


async def test_a_field_that_not_every_reader_sees_finds_nothing(insight: Any) -> None:
    mark = uuid4().hex[:10]
    name = await insight.told(
        "contacts",
        "customer",
        {"displayName": f"敏感{mark}", "worries": f"忧虑{mark}", **insight.of("sales1")},
    )
    await insight.eventually(lambda: insight.has(name))
    assert not await found(insight.admin, f"忧虑{mark}")


async def test_the_database_holds_the_scope_by_itself(insight: Any) -> None:
    mark = uuid4().hex[:10]
    name = await insight.told("accounts", "customer", {"displayName": f"二墙{mark}", **insight.of("sales1")})
    await insight.eventually(lambda: insight.has(name))
    count = text("SELECT count(*) FROM search_documents WHERE target = :name")
    directory, people = insight.running.directory, {}
    for username in ("sales1", "sales2", "manager"):
        people[username] = directory.explained(insight.person(username).employee)
    for username, expected in (("sales1", 1), ("sales2", 0), ("manager", 1)):
        async with insight.running.sessions() as session, session.begin():
            await scope.enter(session, people[username])
            assert await session.scalar(count, {"name": name}) == expected, username


async def test_who_may_not_read_a_field_finds_by_the_others_and_is_shown_those_alone(insight: Any) -> None:
    mark, employees = uuid4().hex[:8], [f"employees/{uuid4()}" for _ in range(2)]
    taken = [
        {"collection": "customer.accounts", "field": "tax_id", "level": "HIDDEN"},
        {"collection": "customer.accounts", "field": "phones", "level": "MASKED"},
        {"collection": "sales.opportunities", "field": "amount", "level": "HIDDEN"},
    ]
    may = ["insight.*.read", "customer.accounts.read", "sales.opportunities.read"]
    wanted: dict[str, Any] = {
        f"role.reads{mark}": {"permissions": may, "scope": "ALL"},
        f"role.takes{mark}": {"permissions": [], "scope": "OWN", "fields": taken},
    }
    department = insight.person("sales1").department
    for employee, roles in zip(employees, ([f"reads{mark}"], [f"reads{mark}", f"takes{mark}"]), strict=True):
        person = {"department": department, "departments": [], "disabled": False, "displayName": "x"}
        wanted[f"employee.{employee[10:]}"] = {**person, "roles": roles}
    async with insight.parts.configuration() as bucket:
        for key, value in wanted.items():
            await bucket.put(key, value)
        config = insight.running.config
        await insight.eventually(lambda: all(config.get(key) == value for key, value in wanted.items()), 30)
    whole, kept = (insight.client("sales1", employee=name, sub=name, roles=[]) for name in employees)
    number, phone, tax_id = f"C-{mark}", f"+86139{int(mark, 16) % 10**8:08}", f"税{mark}"
    account = await insight.told("accounts", "customer", {
        "displayName": f"寻得{mark}公司", "number": number, "taxId": tax_id, "phones": [{"number": phone}],
        "legalName": f"法名{mark}", **insight.of("sales2"),
    })  # fmt: skip
    won = {"name": f"opportunities/{uuid4()}", "displayName": f"金额{mark}", **insight.of("sales2")}
    won["amount"] = {"currencyCode": "CNY", "amount": "8.00"}
    await insight.tell("crm.sales.v1.OpportunityWon", {"opportunity": won}, won["name"])
    await insight.eventually(lambda: found(whole, tax_id), 30)
    for q, shown in (
        (f"寻得{mark}", True), (f"xunde{mark}", True), (number, True),
        (tax_id, False), (phone, False), (phone[-6:], False),
    ):  # fmt: skip
        assert account in await found(whole, q), q
        assert (account in await found(kept, q)) == shown, q
        counted = await kept.AggregateSearchDocuments(q=q, filter=f'target = "{account}"')
        assert sum(int(row.count) for row in counted.rows) == shown, q
    (mine,) = (await kept.ListSearchDocuments(filter=f'target = "{account}"')).search_documents
    (all_of_it,) = (await whole.ListSearchDocuments(filter=f'target = "{account}"')).search_documents
    assert {phone, tax_id, number} <= {*all_of_it.keys} and mine.title == all_of_it.title
    assert number in mine.keys and not {phone, tax_id} & {*mine.keys}
    assert {one.field for one in all_of_it.sources} - {one.field for one in mine.sources} == {
        "phones",
        "tax_id",
    }
    for asked in (f'keys:"{tax_id}"', f'texts:"{tax_id}"'):
        with pytest.raises(Refused) as refused:
            await kept.ListSearchDocuments(filter=asked)
        assert refused.value.reason == "FILTER_INVALID"

    named = f'record = "{won["name"]}"'
    (fact,) = await insight.eventually(lambda: _facts(whole, named), 30)
    assert fact.amount.amount == "8.00"
    (less,) = await _facts(kept, named)
    assert less.title == fact.title and not less.HasField("amount")
    with pytest.raises(Refused) as refused:
        await kept.AggregateFacts(sum=["amount"])
    assert refused.value.reason == "ORDER_BY_INVALID"


async def _facts(client: Client, named: str) -> list[Any]:
    return list((await client.ListFacts(filter=named)).facts)


DIRECTORY = " OR ".join(f'collection = "{name}"' for name in ("accounts", "contacts", "leads", "employees"))


@pytest.mark.capability("s.telesales")
async def test_the_telephone_directory_finds_customers_people_leads_and_colleagues(insight: Any) -> None:
    mark, digits = uuid4().hex[:6], f"{uuid4().int % 10**8:08}"
    numbers = [f"+861{n}{digits}" for n in (30, 31, 32)]
    mine, theirs = insight.of("sales1"), insight.of("sales2")
    told = {
        "accounts": await insight.told("accounts", "customer",
            {"displayName": f"翡翠{mark}", "phones": [{"number": numbers[0], "valid": True}], **mine}),
        "contacts": await insight.told("contacts", "customer",
            {"displayName": f"翡翠{mark}", "phones": [{"number": numbers[1], "valid": True}], **mine}),
        "leads": await insight.told("leads", "sales",
            {"displayName": f"翡翠{mark}", "phones": [{"number": numbers[2], "valid": True}], **mine}),
        "employees": await insight.told("employees", "workspace", {"displayName": f"翡翠{mark}", "phone": f"139 {digits[:4]} {digits[4:]}"}),
    }  # fmt: skip
    product = await insight.told("products", "sales", {"displayName": f"翡翠{mark}"})
    hidden = await insight.told("leads", "sales",
        {"displayName": f"翡翠{mark}", "phones": [{"number": f"+86138{digits}"}], **theirs},
    )  # fmt: skip
    for name in (*told.values(), product, hidden):
        await insight.eventually(lambda name=name: insight.has(name))
    # Two characters, the initials, the end of a number, a number with or without its signs.
    for q in (f"翡翠{mark}", f"fc{mark}", digits[-5:], digits):
        assert set(await found(insight.sales1, q, filter=DIRECTORY, pageSize=200)) >= {*told.values()}, q
        assert not {product, hidden} & set(await found(insight.sales1, q, filter=DIRECTORY, pageSize=200)), q
    assert set(await found(insight.sales1, "翡翠", filter=DIRECTORY, pageSize=200)) >= {*told.values()}
    assert await found(insight.sales1, f"139-{digits[:4]}-{digits[4:]}", filter=DIRECTORY) == [
        told["employees"]
    ]
    for collection, number in zip(told, numbers, strict=False):
        assert await found(insight.sales1, number[3:], filter=DIRECTORY) == [told[collection]]
    # By how it begins and ends, not by what stands in its middle: that would be asked of every tenth document.
    assert not await found(insight.sales1, digits[:-1], filter=DIRECTORY)


@pytest.mark.capability("s.telesales")
async def test_the_directory_of_many_is_asked_through_its_indexes(insight: Any) -> None:
    """What it takes with 500,000 numbers is measured by `python -m tests.load.directory`."""
    # No other number begins with the last four, as all do with 8613, and no date has their pairs, as it has 9020's.
    digits = f"{uuid4().int % 10**4:04}9" + "".join(random.choices("45678", k=3))
    lead = await insight.told("leads", "sales",
        {"displayName": "名录样例", "phones": [{"number": f"+86133{digits}"}], **insight.of("sales1")},
    )  # fmt: skip
    await insight.eventually(lambda: insight.has(lead))
    key = await insight.scalar("SELECT id FROM search_documents WHERE target = :name", name=lead)
    async with plans.multiplied(insight.parts.admin_url, "insight", SearchDocument, key) as connection:
        for who, caller in plans.callers():
            condition = listing.where(SearchDocument, DIRECTORY, caller, datetime.now(UTC))
            for q, there in ((plans.WORD, plans.SPARSE), (digits, 1), (digits[-4:], 1)):
                term = SearchTerm.parse(q)
                assert term is not None
                statement = listing.search_statement(SearchDocument, term, condition, [], 20, 0, caller)
                read, shown, plan = await plans.read_and_shown(connection, SearchDocument, statement, caller)
                assert "ix_search_documents_search_" in plan, (who, q, plan)
                assert read <= plans.READ_FOR_ONE * there, (who, q, plan)
                assert shown == there or who != "everything", (who, q)
