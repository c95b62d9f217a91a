"""Bulk jobs of workspace over a service's resources: brought in, written out, taken back."""

import csv
import io
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit import blobs
from crmkit.tables import HeldAction
from crmkit.testing import Service
from crmkit.testing.jobs import Table, job, lines
from sqlalchemy import select

CONTACTS: Table = [
    ("姓名", "客户", "职务", "态度"),
    ("一号批量", "批量客户印染有限公司", "经理", "1"),
    ("二号批量", "没有这家客户", "会计", "1"),
    ("三号批量", "批量客户印染有限公司", "厂长", "很好"),
    ("", "批量客户印染有限公司", "无名", ""),
    ("五号批量", "批量客户印染有限公司", "出纳", ""),
]


@pytest.fixture(scope="module")
async def account(customer: Service) -> Any:
    return await customer.sales1.CreateAccount(account={"displayName": "批量客户印染有限公司"})


async def names(customer: Service) -> list[str]:
    return sorted(c.display_name for c in (await customer.sales1.ListContacts(q="号批量")).contacts)


async def test_a_trial_writes_nothing_and_says_what_is_wrong_where(customer: Service, account: Any) -> None:
    done = await job(customer, "DRY_RUN", CONTACTS, collection="contacts")
    assert (done["state"], done["total"], done["failed"]) == ("DONE_WITH_ERRORS", 5, 3)
    errors = await lines(customer, done["errorFile"])
    assert errors[0] == ["姓名", "客户", "职务", "态度", "错误"]
    assert [row[2] for row in errors[1:]] == ["会计", "厂长", "无名"]
    assert [row[4].partition("：")[0] for row in errors[1:]] == ["客户", "态度", "姓名"]
    assert await names(customer) == []


async def test_rows_with_errors_keep_all_out_unless_they_are_skipped(customer: Service, account: Any) -> None:
    done = await job(customer, "IMPORT", CONTACTS, collection="contacts")
    assert (done["state"], done["reason"]) == ("FAILED", "VALIDATION")
    assert await names(customer) == []
    done = await job(customer, "IMPORT", CONTACTS, collection="contacts", options={"skipErrors": "true"})
    assert (done["state"], done["total"], done["failed"]) == ("DONE_WITH_ERRORS", 5, 3)
    assert await names(customer) == ["一号批量", "五号批量"]
    (made, _) = (await customer.sales1.ListContacts(q="号批量", orderBy="display_name")).contacts
    assert (made.account, made.owner) == (account.name, customer.person("sales1").employee)
    (fact,) = await customer.facts("crm.customer.v1.ResourceChanged", made.name)
    assert (fact["action"], fact["actor"]) == ("CREATED", made.owner)
    await customer.sales1.UpdateContact(contact={"name": made.name, "wechat": "touched"}, updateMask="wechat")
    back = await job(customer, "REVERT", collection="contacts", reverts=done["job"])
    assert (back["state"], back["failed"]) == ("DONE_WITH_ERRORS", 1)
    assert await names(customer) == [made.display_name]


async def test_rows_that_a_policy_holds_wait_like_those_from_the_screen(
    customer: Service, account: Any
) -> None:
    key, config = f"approvalPolicy.{uuid4()}", customer.running.config
    rule = {"action": "customer.contacts.create", "condition": 'title = "厂长"', "priority": 1}
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, rule)
        await customer.eventually(lambda: config.get(key) is not None)
        company = CONTACTS[1][1]
        rows: Table = [CONTACTS[0], ("七号批量甲", company, "厂长", ""), ("七号批量乙", company, "会计", "")]
        done = await job(customer, "IMPORT", rows, collection="contacts")
        typed = await customer.sales1.CreateContact(
            contact={"displayName": "七号批量丙", "account": account.name, "title": "厂长"}
        )
        await bucket.delete(key)
        await customer.eventually(lambda: config.get(key) is None)
    assert done["state"] == "DONE"
    assert typed.pending_approval.startswith("customer.contacts.create#")
    found = await customer.sales1.ListContacts(q="七号批量")
    assert [one.display_name for one in found.contacts] == ["七号批量乙"]
    async with customer.running.sessions() as session:
        waiting = select(HeldAction).where(HeldAction.method == "CreateContact", HeldAction.state == "HELD")
        held = [pb.CreateContactRequest.FromString(one.request) for one in await session.scalars(waiting)]
    assert {one.contact.display_name for one in held} == {"七号批量甲", "七号批量丙"}


async def test_the_owner_of_the_job_decides_what_comes_in_and_goes_out(
    customer: Service, account: Any
) -> None:
    done = await job(customer, "IMPORT", CONTACTS[:2], who="sales2", collection="contacts")
    assert (done["state"], done["failed"]) == ("FAILED", 1)
    done = await job(customer, "IMPORT", CONTACTS[:2], who="nobody", collection="contacts")
    assert (done["state"], done["reason"]) == ("FAILED", "PERMISSION_DENIED")
    done = await job(customer, "EXPORT", who="sales2", collection="accounts", options={"q": "批量客户"})
    assert (done["state"], done["total"]) == ("DONE", 0)


@pytest.mark.parametrize("format", ["CSV", "XLSX"])
async def test_what_goes_out_comes_in_again_and_no_formula_runs(customer: Service, format: str) -> None:
    name = f"=出口{format}纺机有限公司"
    await customer.sales1.CreateAccount(
        account={
            "displayName": name, "kind": "COMPANY", "phones": [{"number": "13811138111"}], "tags": ["甲", "乙"],
            "annualRevenue": {"currencyCode": "USD", "amount": "1200.50"}, "employeeCount": 7,
        }
    )  # fmt: skip
    options = {
        "filter": f'display_name = "{name}"', "format": format,
        "fields": "number,displayName,kind,phones,tags,annualRevenue,employeeCount",
    }  # fmt: skip
    # Telephones in clear want a permission of their own.
    done = await job(customer, "EXPORT", collection="accounts", options=options)
    assert (await lines(customer, done["resultFile"]))[1][3] == "+86********111"
    done = await job(customer, "EXPORT", who="admin", collection="accounts", options=options)
    assert (done["state"], done["total"]) == ("DONE", 1)
    head, row = await lines(customer, done["resultFile"])
    assert head == ["编号", "客户名称", "客户类别", "电话", "标签", "年营业额", "员工人数"]
    assert row[1:] == [name, "企业", "+8613811138111", "甲；乙", "USD 1200.50", "7"]
    raw = b""
    async with blobs.fetched(customer.running.store, done["resultFile"]["sha256"]) as stored:
        raw = stored.read()
    if format == "CSV":
        assert f"'{name}".encode() in raw
    again = [tuple(head), (row[0], name.replace("纺机", "再入"), *row[2:])]
    done = await job(customer, "IMPORT", again, collection="accounts")
    assert done["state"] == "DONE", done
    (account,) = (await customer.sales1.ListAccounts(q=f"出口{format}再入")).accounts
    assert (account.annual_revenue.currency_code, list(account.tags)) == ("USD", ["甲", "乙"])


async def test_an_export_leaves_out_what_its_owner_may_not_read(customer: Service, account: Any) -> None:
    done = await job(
        customer, "EXPORT", who="sales1", collection="contacts", options={"fields": "displayName,worries"}
    )
    wanted = customer.running.directory.explained(customer.person("sales1").employee)
    expected = ["姓名", "顾虑"] if wanted and wanted.may("customer.contacts.read_sensitive") else ["姓名"]
    assert (await lines(customer, done["resultFile"]))[0] == expected


async def test_a_cancelled_job_stops(customer: Service) -> None:
    rows: Table = [("姓名",), *((f"停{n}某",) for n in range(3000))]
    name = f"bulkJobs/{uuid4()}"
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    sha256, _ = await blobs.keep(customer.running.store, io.BytesIO(text.getvalue().encode()))
    payload: dict[str, Any] = {
        "bulkJob": {
            "name": name,
            "mode": "IMPORT",
            "collection": "contacts",
            "owner": customer.person("sales1").employee,
        },
        "file": {"displayName": "表.csv", "sha256": sha256},
    }
    await customer.tell("crm.workspace.v1.BulkRequested", payload, name)

    async def progressed() -> bool:
        return any(f["job"] == name for f in await customer.facts("crm.customer.v1.BulkProgressed"))

    await customer.eventually(progressed)
    await customer.tell("crm.workspace.v1.BulkCancelled", payload, name)

    async def stopped() -> bool:
        from sqlalchemy import text as sql

        async with customer.running.sessions() as session:
            state = await session.scalar(
                sql("SELECT state FROM bulk_runs WHERE about = :about"), {"about": name}
            )
        return state == "CANCELLED"

    await customer.eventually(stopped)
    assert not any(f["job"] == name for f in await customer.facts("crm.customer.v1.BulkFinished"))
    assert not (await customer.sales1.ListContacts(q="停1某")).contacts
