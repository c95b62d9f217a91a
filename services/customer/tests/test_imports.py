"""Customers brought in from files, through the front door."""

import asyncio
import csv
import io
import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.customer.v1 import pb
from crmkit import blobs, sheets
from crmkit.auth import system
from crmkit.mapping import mapper
from crmkit.testing import Client, Refused, Service
from customer.importing import kept
from customer.importing.plan import Plan
from customer.model.account import Account
from customer.model.importation import Import, ImportLines
from sqlalchemy import select, text, update

# Public data lie beside the repository, never in it.
DATA = Path(__file__).parents[4] / "shared" / "data"
State = pb.Import.State
LASTING = ("CHECKED", "DONE", "FAILED", "REVERTED")


async def upload(customer: Service, content: bytes, name: str = "客户.csv", who: str = "sales1") -> str:
    """The file in the store, told of as the workspace service does."""
    sha256, size = await blobs.keep(customer.running.store, io.BytesIO(content))
    file, person = f"files/{uuid4()}", customer.person(who)
    resource = {
        "name": file, "displayName": name, "sha256": sha256, "size": str(size), "owner": person.employee,
        "department": person.department, "etag": "1",
    }  # fmt: skip
    payload = {"name": file, "action": "CREATED", "actor": person.employee, "resource": resource}
    await customer.tell("crm.workspace.v1.ResourceChanged", payload, file)
    return file


async def settled(client: Client, customer: Service, name: str, seconds: float = 60) -> Any:
    """The import once nothing works on it."""

    async def look() -> Any:
        found = await client.GetImport(name=name)
        return found if State.Name(found.state) in LASTING else None

    return await customer.eventually(look, seconds)


async def checked(
    customer: Service, client: Client, content: bytes, name: str = "客户.csv", **fields: Any
) -> Any:
    """An import whose check has ended."""
    who = "sales1" if client is customer.sales1 else "manager"
    file = await upload(customer, content, name, who)
    made = await client.CreateImport(**{"import": {"file": file, "kind": "ACCOUNTS", **fields}})
    await client.CheckImport(name=made.name)
    return await settled(client, customer, made.name)


async def ran(customer: Service, client: Client, found: Any, skip_errors: bool = False) -> Any:
    """The import once its run has ended."""
    await client.RunImport(name=found.name, requestId=uuid4().hex, skipErrors=skip_errors)
    return await settled(client, customer, found.name)


def table(*rows: tuple[str, ...], encoding: str = "utf-8") -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode(encoding)


async def accounts(client: Client, q: str) -> list[str]:
    return sorted(account.display_name for account in (await client.ListAccounts(q=q, pageSize=200)).accounts)


BAD_MIDDLE = table(
    ("客户名称", "员工人数", "电话"),
    ("润丰甲精密机械有限公司", "120", "021-6888 0001"),
    ("润丰乙化工有限公司", "很多", "021-6888 0002"),
    ("润丰丙食品有限公司", "30", "021-6888 0003"),
)


async def test_a_bad_row_in_the_middle_is_named_and_nothing_is_written(customer: Service) -> None:
    found = await checked(customer, customer.sales1, BAD_MIDDLE)
    assert State.Name(found.state) == "CHECKED", found.failure
    assert (found.total, found.failed) == (3, 1)
    error = found.errors[0]
    assert (error.line, error.column, error.reason) == (3, "员工人数", "NOT_AN_INTEGER")
    assert [(m.column, m.field) for m in found.mapping] == [
        ("客户名称", "display_name"), ("员工人数", "employee_count"), ("电话", "phones"),
    ]  # fmt: skip
    assert not await accounts(customer.sales1, "润丰")
    with pytest.raises(Refused) as refused:
        await customer.sales1.RunImport(name=found.name, requestId=uuid4().hex)
    assert refused.value.reason == "IMPORT_HAS_ERRORS"
    assert not await accounts(customer.sales1, "润丰")


@pytest.mark.capability("c.import")
async def test_the_good_rows_are_kept_only_if_asked(customer: Service) -> None:
    found = await checked(customer, customer.sales1, BAD_MIDDLE)
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (State.Name(done.state), done.created, done.failed, done.done) == ("DONE", 2, 1, 3), done.failure
    assert await accounts(customer.sales1, "润丰") == ["润丰丙食品有限公司", "润丰甲精密机械有限公司"]
    stored = [
        fact["file"]
        for fact in await customer.facts("crm.customer.v1.FileStored")
        if fact["file"]["name"] == done.error_file
    ]
    async with blobs.fetched(customer.running.store, stored[0]["sha256"]) as file:
        rows = list(csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline="")))
    assert rows[0] == ["客户名称", "员工人数", "电话", "错误"]
    assert rows[1][:3] == ["润丰乙化工有限公司", "很多", "021-6888 0002"]
    assert "员工人数" in rows[1][3]


async def test_an_imported_account_is_like_one_typed_in(customer: Service) -> None:
    content = table(
        ("客户名称", "电话", "邮箱", "地址", "年营业额", "标签", "统一社会信用代码"),
        (
            "同质光学仪器有限公司",
            "13800139911",
            "a@tongzhi-optics.cn",
            "上海市徐汇区1号",
            "1200万",
            "重点、老客户",
            "",
        ),
    )
    done = await ran(customer, customer.sales1, await checked(customer, customer.sales1, content))
    assert done.created == 1, done.failure
    (account,) = (await customer.sales1.ListAccounts(q="同质光学")).accounts
    assert account.number.startswith("C-")
    assert account.owner == customer.person("sales1").employee
    assert account.department == customer.person("sales1").department
    assert account.creator == account.owner
    assert (account.phones[0].number, account.phones[0].valid) == ("+8613800139911", True)
    assert (account.annual_revenue.amount, account.annual_revenue.currency_code) == ("12000000.00", "CNY")
    assert list(account.tags) == ["重点", "老客户"]
    assert account.completeness > 40
    assert [found.name for found in (await customer.sales1.ListAccounts(q="13800139911")).accounts] == [
        account.name
    ]
    (changed,) = await customer.facts("crm.customer.v1.ResourceChanged", account.name)
    (created,) = await customer.facts("crm.customer.v1.AccountCreated", account.name)
    assert changed["resource"] == created["account"]
    assert (changed["action"], changed["actor"]) == ("CREATED", account.owner)
    typed = await customer.sales1.CreateAccount(account={"displayName": "同质对照有限公司"})
    (fact,) = await customer.facts("crm.customer.v1.ResourceChanged", typed.name)
    assert {*fact} - {*changed} <= {"address"}
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": "同质光学仪器有限公司"})
    assert refused.value.reason == "ACCOUNT_COLLISION"


@pytest.mark.capability("c.import")
async def test_the_same_file_again_creates_nothing(customer: Service) -> None:
    content = table(
        ("客户名称",), *((f"再来{n}号纺织有限公司",) for n in "甲乙丙丁"), ("再来甲号纺织有限责任公司",)
    )
    found = await checked(customer, customer.sales1, content)
    assert [(d.line, d.earlier_line, d.level) for d in found.duplicates] == [(6, 2, "STRONG")]
    first = await ran(customer, customer.sales1, found)
    assert (first.created, first.skipped) == (4, 1), first.failure
    found = await checked(customer, customer.sales1, content)
    assert found.duplicate_count == 5
    again = await ran(customer, customer.sales1, found)
    assert (again.created, again.skipped) == (0, 5)
    assert len(await accounts(customer.sales1, "再来")) == 4


@pytest.mark.capability("c.import")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
async def test_chinese_is_read_in_every_usual_encoding(customer: Service, encoding: str) -> None:
    name = f"编码{encoding.replace('-', '')}仪表有限公司"
    content = table(("客户名称", "行业"), (name, "仪器仪表"), encoding=encoding)
    done = await ran(customer, customer.sales1, await checked(customer, customer.sales1, content))
    assert (done.created, done.failed) == (1, 0), done.failure
    assert await accounts(customer.sales1, name[:-2]) == [name]


async def test_a_workbook_is_read_like_a_table(customer: Service) -> None:
    file = io.BytesIO()
    sheets.write_xlsx(file, ["客户名称", "员工人数"], [["簿册印务有限公司", 88], ["簿册包装有限公司", "x"]])
    found = await checked(customer, customer.sales1, file.getvalue(), "客户.xlsx")
    assert (found.total, found.failed, found.errors[0].line) == (2, 1, 3), found.failure
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (done.created, done.failed) == (1, 1)


async def test_naughty_strings_come_in_as_they_are(customer: Service) -> None:
    path = DATA / "blns" / "blns.json"
    if not path.exists():
        pytest.skip("the list of naughty strings is not here")
    from crmkit.text import clean_name

    lines = [line for line in json.loads(path.read_text()) if line.strip()]
    buffer = io.BytesIO()
    sheets.write_csv(
        buffer, ["客户名称", "背景"], [[f"{n}号 {line}"[:200], line] for n, line in enumerate(lines)]
    )
    found = await checked(customer, customer.sales1, buffer.getvalue())
    assert State.Name(found.state) == "CHECKED", found.failure
    assert {error.reason for error in found.errors} <= {"TOO_LONG"}
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert State.Name(done.state) == "DONE", done.failure
    assert done.created + done.skipped + done.failed == len(lines)
    assert done.created > 0.8 * len(lines)
    for n in (5, 100, 200, 300, 400):
        for account in (await customer.sales1.ListAccounts(q=f"{n}号", pageSize=50)).accounts:
            if account.display_name.startswith(f"{n}号 "):
                assert clean_name(account.display_name) == account.display_name


MAVEN = DATA / "crm-sales-opportunities" / "accounts.csv"
SECTORS = ("technology", "medical", "retail", "software", "entertainment", "marketing", "telecommunications", "finance",
           "employment", "services")  # fmt: skip


@pytest.mark.skipif(not MAVEN.exists(), reason="the data of the Maven file is not here")
async def test_the_maven_accounts_come_in_with_their_parents_and_a_misspelt_sector_is_offered(
    customer: Service,
) -> None:
    entries = [{"key": key, "label": {"zh": "", "en": key.title()}} for key in SECTORS]
    async with customer.parts.configuration() as config:
        await config.put("dictionary.industries", {"entries": entries})
        await customer.eventually(lambda: customer.running.config.get("dictionary.industries"))
        try:
            await _maven(customer)
        finally:
            await config.put("dictionary.industries", {"entries": []})


async def _maven(customer: Service) -> None:
    manager = customer.manager
    found = await checked(customer, manager, MAVEN.read_bytes(), "accounts.csv")
    assert State.Name(found.state) == "CHECKED", found.failure
    fields = {m.column: m.field for m in found.mapping}
    assert fields == {
        "account": "display_name", "sector": "industry", "year_established": "", "revenue": "annual_revenue",
        "employees": "employee_count", "office_location": "addresses", "subsidiary_of": "parent",
    }  # fmt: skip
    assert (found.total, found.failed) == (85, 12)
    assert [(p.text, p.value, p.rows) for p in found.proposals] == [("technolgy", "technology", 12)] or [
        (p.text, p.value, p.rows) for p in found.proposals
    ] == [("technolgy", "Technology", 12)]
    mapping = [
        {
            "column": m.column, "field": m.field,
            "replacements": [{"text": "technolgy", "value": found.proposals[0].value}] if m.column == "sector" else [],
        }
        for m in found.mapping
    ]  # fmt: skip
    changed = await manager.UpdateImport(
        **{"import": {"name": found.name, "mapping": mapping}, "updateMask": "mapping"}
    )
    assert State.Name(changed.state) == "UPLOADED"
    with pytest.raises(Refused) as refused:
        await manager.RunImport(name=found.name, requestId=uuid4().hex)
    assert refused.value.reason == "IMPORT_NOT_CHECKED"
    await manager.CheckImport(name=found.name)
    again = await settled(manager, customer, found.name)
    assert (again.failed, again.duplicate_count) == (0, 0), again
    done = await ran(customer, manager, again)
    assert (State.Name(done.state), done.created, done.failed) == ("DONE", 85, 0), done.failure
    page = await manager.ListAccounts(filter='industry = "technology"', pageSize=200)
    assert len([a for a in page.accounts if a.creator == customer.person("manager").employee]) == 12
    ours = f'creator = "{done.creator}" AND kind = PARENT_OF'
    assert len((await manager.ListAccountRelations(filter=ours, pageSize=200)).account_relations) == 15
    (finished,) = [
        f for f in await customer.facts("crm.customer.v1.ImportFinished") if f["import"]["name"] == found.name
    ]
    assert finished["import"]["created"] == 85
    await manager.RevertImport(name=found.name, requestId=uuid4().hex)
    back = await settled(manager, customer, found.name)
    assert (State.Name(back.state), back.left) == ("REVERTED", 0), list(back.errors)
    assert not list((await manager.ListAccounts(q="Acme Corporation")).accounts)


async def test_account_and_contact_come_in_one_row(customer: Service) -> None:
    content = table(
        ("客户名称", "联系人姓名", "联系人职务", "联系人电话"),
        ("合行一号物流有限公司", "赵合行", "经理", "13700137001"),
        ("合行一号物流有限公司", "钱合行", "会计", "13700137002"),
        ("合行二号物流有限公司", "", "", ""),
    )
    found = await checked(customer, customer.sales1, content, kind="MIXED")
    assert [m.field for m in found.mapping] == [
        "display_name", "contact.display_name", "contact.title", "contact.phones",
    ]  # fmt: skip
    done = await ran(customer, customer.sales1, found)
    assert (done.created, done.skipped, done.failed) == (4, 1, 0), done.failure
    (account,) = list((await customer.sales1.ListAccounts(q="合行一号")).accounts)
    contacts = (await customer.sales1.ListContacts(filter=f'account = "{account.name}"')).contacts
    assert sorted((c.display_name, c.title) for c in contacts) == [("赵合行", "经理"), ("钱合行", "会计")]
    assert contacts[0].affiliations[0].account == account.name
    again = await ran(
        customer, customer.sales1, await checked(customer, customer.sales1, content, kind="MIXED")
    )
    assert again.created == 0


async def test_contacts_and_interactions_find_their_account_by_number_name_or_resource_name(
    customer: Service,
) -> None:
    account = await customer.sales1.CreateAccount(account={"displayName": "寻户制药有限公司"})
    other = await customer.sales2.CreateAccount(account={"displayName": "他户制药有限公司"})
    contacts = table(
        ("客户", "姓名", "手机"),
        ("寻户制药有限公司", "周寻户", "13600136001"),
        (account.number, "吴寻户", "13600136002"),
        (account.name, "郑寻户", "13600136003"),
        (other.number, "王他户", "13600136004"),
        ("没有这家公司", "冯无户", "13600136005"),
    )
    found = await checked(customer, customer.sales1, contacts, kind="CONTACTS")
    assert [(e.line, e.reason) for e in found.errors] == [(5, "UNKNOWN_REFERENCE"), (6, "UNKNOWN_REFERENCE")]
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (done.created, done.failed) == (3, 2), done.failure
    made = (await customer.sales1.ListContacts(filter=f'account = "{account.name}"')).contacts
    assert len(made) == 3
    notes = table(
        ("客户", "方式", "发生时间", "内容"),
        ("寻户制药有限公司", "电话", "2026-03-05 14:30", "谈了第三季度的采购计划和样品"),
        ("寻户制药有限公司", "拜访", "2026年3月8日", "参观了新厂房"),
        ("寻户制药有限公司", "喊话", "2026-03-09", "没有这种方式"),
    )
    found = await checked(customer, customer.sales1, notes, kind="INTERACTIONS")
    assert [(e.line, e.column, e.reason) for e in found.errors] == [(4, "方式", "UNKNOWN_CHOICE")]
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (done.created, done.failed) == (2, 1), done.failure
    logged = (await customer.sales1.ListInteractions(filter=f'account = "{account.name}"')).interactions
    assert sorted(i.start_time.ToJsonString() for i in logged) == [
        "2026-03-05T06:30:00Z",
        "2026-03-07T16:00:00Z",
    ]
    assert {i.why_not for i in logged} == {"IMPORT"}
    found = await checked(customer, customer.sales1, notes, kind="INTERACTIONS")
    assert (await ran(customer, customer.sales1, found, skip_errors=True)).created == 0


async def test_two_accounts_of_one_name_are_an_ambiguous_reference(customer: Service) -> None:
    for city in ("甲", "乙"):
        await customer.manager.CreateAccount(
            account={"displayName": "王两可", "kind": "INDIVIDUAL", "background": city}
        )
    content = table(("客户", "姓名"), ("王两可", "陈两可"))
    found = await checked(customer, customer.manager, content, kind="CONTACTS")
    assert found.errors[0].reason == "AMBIGUOUS_REFERENCE"
    assert "2" in found.errors[0].text


@pytest.mark.capability("c.import")
async def test_update_fills_in_what_the_row_says_and_revert_gives_the_old_values_back(
    customer: Service,
) -> None:
    old = await customer.sales1.CreateAccount(
        account={"displayName": "补齐家具有限公司", "website": "https://old.buqi.cn", "level": "C"}
    )
    content = table(
        ("客户名称", "网站", "客户级别", "标签"),
        ("补齐家具有限公司", "https://new.buqi.cn", "", "展会"),
        ("补齐新户有限公司", "", "B", ""),
    )
    found = await checked(customer, customer.sales1, content, duplicatePolicy="UPDATE")
    done = await ran(customer, customer.sales1, found)
    assert (done.created, done.updated) == (1, 1), done.failure
    now = await customer.sales1.GetAccount(name=old.name)
    assert (now.website, now.level, list(now.tags)) == ("https://new.buqi.cn", "C", ["展会"])
    touched = await customer.sales1.UpdateAccount(
        account={"name": old.name, "tags": ["展会", "重要"]}, updateMask="tags"
    )
    await customer.sales1.RevertImport(name=found.name, requestId=uuid4().hex)
    back = await settled(customer.sales1, customer, found.name)
    assert (State.Name(back.state), back.left) == ("REVERTED", 1)
    assert (back.errors[0].line, back.errors[0].reason) == (2, "CHANGED_SINCE")
    now = await customer.sales1.GetAccount(name=old.name)
    assert (now.website, list(now.tags)) == ("https://old.buqi.cn", list(touched.tags))
    assert not await accounts(customer.sales1, "补齐新户")


async def test_a_record_in_use_or_touched_survives_the_revert(customer: Service) -> None:
    names = [f"留下{n}号广告有限公司" for n in "甲乙丙"]
    done = await ran(
        customer,
        customer.sales1,
        await checked(customer, customer.sales1, table(("客户名称",), *((n,) for n in names))),
    )
    first, second, _ = sorted(
        (await customer.sales1.ListAccounts(q="留下")).accounts, key=lambda a: a.display_name
    )
    await customer.sales1.UpdateAccount(account={"name": first.name, "level": "A"}, updateMask="level")
    await customer.sales1.CreateContact(contact={"displayName": "留某", "account": second.name})
    await customer.sales1.RevertImport(name=done.name, requestId=uuid4().hex)
    back = await settled(customer.sales1, customer, done.name)
    assert back.left == 2
    assert {error.reason for error in back.errors} == {"CHANGED_SINCE", "IN_USE"}
    assert len(await accounts(customer.sales1, "留下")) == 2
    async with customer.running.call("Test", system("customer")) as call:
        nobodys = "SELECT count(*) FROM match_keys WHERE account NOT IN (SELECT id FROM accounts)"
        assert await call.db.scalar(text(nobodys)) == 0


async def test_a_file_that_is_another_since_its_check_and_a_late_revert_are_refused(
    customer: Service,
) -> None:
    sales = customer.sales1
    found = await checked(customer, sales, table(("客户名称",), ("晚撤印务有限公司",)))
    file, person = (await sales.GetImport(name=found.name)).file, customer.person("sales1")
    async with customer.running.call("Test", system("customer")) as call:
        before = await call.copy(file)
    sha256, size = await blobs.keep(customer.running.store, io.BytesIO(table(("客户名称",), ("换过",))))
    for version, resource in ((2, {**before, "sha256": sha256, "size": str(size)}), (3, before)):
        payload = {"name": file, "action": "UPDATED", "actor": person.employee, "resource": resource}
        await customer.tell("crm.workspace.v1.ResourceChanged", payload, file, version)
        if version == 2:
            with pytest.raises(Refused) as refused:
                await sales.RunImport(name=found.name, requestId=uuid4().hex)
            assert refused.value.reason == "IMPORT_FILE_CHANGED"
    done = await ran(customer, sales, found)
    assert (done.state, done.created) == (State.DONE, 1)
    async with customer.running.call("Test", system("customer")) as call:
        mine = Import.id == UUID(done.name.partition("/")[2])
        await call.db.execute(update(Import).where(mine).values(revert_until_time=call.now))
    with pytest.raises(Refused) as refused:
        await sales.RevertImport(name=done.name, requestId=uuid4().hex)
    assert refused.value.reason == "REVERT_EXPIRED"
    assert await accounts(sales, "晚撤印务") == ["晚撤印务有限公司"]


async def test_create_makes_another_one_only_where_the_match_is_possible(customer: Service) -> None:
    await customer.sales1.CreateAccount(account={"displayName": "重建灯具有限公司"})
    content = table(("客户名称",), ("重建灯具有限公司",), ("重建玩具有限公司",))
    found = await checked(customer, customer.sales1, content, duplicatePolicy="CREATE")
    assert [(e.line, e.reason) for e in found.errors] == [(2, "ACCOUNT_COLLISION")]
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (done.created, done.failed) == (1, 1)


async def test_another_persons_customer_is_left_out_and_never_shown(customer: Service) -> None:
    taken = await customer.sales2.CreateAccount(account={"displayName": "隐户矿业有限公司"})
    content = table(("客户名称",), ("隐户矿业有限公司",))
    found = await checked(customer, customer.sales1, content)
    assert [(d.level, d.account) for d in found.duplicates] == [("STRONG", "")]
    assert (await ran(customer, customer.sales1, found)).skipped == 1
    found = await checked(customer, customer.sales1, content, duplicatePolicy="UPDATE")
    assert [(e.reason, e.line) for e in found.errors] == [("ACCOUNT_COLLISION", 2)]
    assert (await customer.sales2.GetAccount(name=taken.name)).etag == "1"


async def test_a_file_that_cannot_be_read_fails_with_its_line_and_may_be_checked_again(
    customer: Service,
) -> None:
    found = await checked(customer, customer.sales1, '客户名称,电话\n"没有闭合,1\n'.encode())
    assert State.Name(found.state) == "FAILED"
    assert "第 2 行" in found.failure
    with pytest.raises(Refused) as refused:
        await customer.sales1.RunImport(name=found.name, requestId=uuid4().hex)
    assert refused.value.reason == "ILLEGAL_TRANSITION"


async def test_a_file_over_the_limit_is_refused(customer: Service) -> None:
    file, person = f"files/{uuid4()}", customer.person("sales1")
    resource = {"name": file, "displayName": "大.csv", "sha256": "0" * 64, "size": str(201 << 20), "owner": person.employee,
                "department": person.department, "etag": "1"}  # fmt: skip
    payload = {"name": file, "action": "CREATED", "actor": person.employee, "resource": resource}
    await customer.tell("crm.workspace.v1.ResourceChanged", payload, file)
    made = await customer.sales1.CreateImport(**{"import": {"file": file, "kind": "ACCOUNTS"}})
    with pytest.raises(Refused) as refused:
        await customer.sales1.CheckImport(name=made.name)
    assert refused.value.reason == "IMPORT_TOO_LARGE"


@pytest.mark.capability("a.dict")
async def test_an_unknown_label_goes_into_the_error_file_and_makes_no_value(customer: Service) -> None:
    """What people call an entry in either language is found; what nobody has defined is an error of its line."""
    mark, config = uuid4().hex[:8], customer.running.config
    known = {
        "entries": [
            {"key": "STEEL", "label": {"zh": "钢铁", "en": "Steel mills"}},
            {"key": "OVER", "label": {"zh": "已过期", "en": "Over"}, "validTo": "2020-01-01"},
            {
                "key": "THEIRS",
                "label": {"zh": "别家", "en": "Theirs"},
                "departments": [f"departments/{uuid4()}"],
            },
        ]
    }
    before = config.get("dictionary.industries")
    async with customer.parts.configuration() as bucket:
        await bucket.put("dictionary.industries", known)
        await customer.eventually(lambda: config.get("dictionary.industries") == known)
        rows = [
            (f"字{mark}第{n}号行", label)
            for n, label in enumerate(("钢铁", "steel mills", "没有这个行业", "已过期", "别家"))
        ]
        found = await checked(customer, customer.sales1, table(("客户名称", "行业"), *rows))
        assert [(e.line, e.column, e.reason) for e in found.errors] == [
            (4, "行业", "UNKNOWN_CHOICE"),
            (5, "行业", "DICTIONARY_ITEM_RETIRED"),
            (6, "行业", "DICTIONARY_ITEM_ELSEWHERE"),
        ]
        done = await ran(customer, customer.sales1, found, skip_errors=True)
        assert (done.created, done.failed, bool(done.error_file)) == (2, 3, True), done.failure
        made = (await customer.sales1.ListAccounts(q=f"字{mark}")).accounts
        assert [account.industry for account in made] == ["STEEL", "STEEL"]
        assert config.get("dictionary.industries") == known
        if before is None:
            await bucket.delete("dictionary.industries")
        else:
            await bucket.put("dictionary.industries", before)
        await customer.eventually(lambda: config.get("dictionary.industries") == before)


@pytest.mark.capability("c.import")
async def test_a_run_killed_in_the_middle_ends_as_if_nothing_had_happened(customer: Service) -> None:
    names = [f"断续第{n}号器械有限公司" for n in range(1, 2601)]
    rows = [(name, f"{n % 97}", names[n // 2] if n % 50 == 7 else "") for n, name in enumerate(names)]
    found = await checked(customer, customer.sales1, table(("客户名称", "员工人数", "上级客户"), *rows))
    assert (found.total, found.failed, found.duplicate_count) == (2600, 0, 0), found
    await customer.sales1.RunImport(name=found.name, requestId=uuid4().hex)
    loop = next(task for task in customer.running._tasks if task.get_name() == "customer runs")
    kills = 0
    while kills < 4:
        before = (await customer.sales1.GetImport(name=found.name)).done
        await customer.eventually(_further(customer, found.name, before), 30)
        # Between any two statements: what the chunk has written so far is lost with its transaction.
        await asyncio.sleep(0.02 * (kills + 1))
        loop.cancel()
        await asyncio.wait([loop])
        kills += 1
        loop = asyncio.create_task(customer.running.runs.run(), name="customer runs")
        customer.running._tasks.append(loop)
    done = await settled(customer.sales1, customer, found.name)
    assert (State.Name(done.state), done.created, done.skipped, done.failed) == ("DONE", 2600, 0, 0), (
        done.failure
    )
    told = [fact["account"] for fact in await customer.facts("crm.customer.v1.AccountCreated")]
    mine = [account for account in told if account["displayName"].startswith("断续第")]
    assert len(mine) == len({a["displayName"] for a in mine}) == len({a["number"] for a in mine}) == 2600
    async with customer.running.sessions() as session:
        related = await session.execute(
            text(
                "SELECT count(*) FROM outbox WHERE type = 'crm.customer.v1.AccountRelationChanged'"
                " AND aggregate_id IN (SELECT name FROM bulk_rows JOIN bulk_runs ON bulk_runs.id = run WHERE about = :about)"
            ),
            {"about": found.name},
        )
        assert related.scalar_one() == 52


VARIED = (
    ("客户名称", "类型", "税号", "联系电话", "邮箱", "简称", "上级客户", "员工人数", "行业"),
    ("留存甲（上海）实业有限公司苏州分公司", "公司", "{tax_id}", "13800138000；021-62345678转80",
     "a@liucun.cn", "留存", "", "", ""),
    ("留存乙贸易有限公司", "", "", "+1 650-253-0000", "", "", "留存甲（上海）实业有限公司苏州分公司", "", ""),
    ("张留存", "个人", "", "13900139000", "", "", "", "", ""),
    ("留存丙股份有限公司", "", "", "打不通", "", "", "", "很多", ""),
)  # fmt: skip


async def test_the_run_takes_over_what_the_check_has_read(
    customer: Service, tax_id: Callable[[], str]
) -> None:
    varied = table(*VARIED).replace(b"{tax_id}", tax_id().encode())
    found = await checked(customer, customer.sales1, varied)
    assert (found.total, found.failed) == (4, 1), found.errors
    async with customer.running.call("Test", system("customer")) as call:
        row = (await call.db.scalars(select(Import).where(Import.id == UUID(found.name[8:])))).one()
        (there,) = (await call.db.scalars(select(ImportLines).where(ImportLines.import_ == row.id))).all()
    sheet = sheets.rows(io.BytesIO(varied), "csv")
    plan = Plan.of(row, sheet.columns, customer.running.config.get, system("customer"))
    assert there.stamp == kept.stamp(plan, row.digest)
    assert pickle.loads(pickle.dumps(plan)) == plan
    entries = list(sheet.entries)
    for line, told in zip(plan.lines(entries), kept.decode(there.lines), strict=True):
        assert told is not None
        assert (told.number, told.problems, told.given) == (line.number, line.problems, line.given)
        assert told.identity == line.identity
        assert line.account is not None and told.account is not None
        assert mapper(Account).message(told.account).SerializeToString(
            deterministic=True
        ) == _but_for_its_name(line.account, told.account)
    # Another choice in a dictionary, another plan.
    changed = Plan.of(
        row,
        sheet.columns,
        lambda key: {"entries": [{"key": "X"}]} if key.startswith("dictionary.") else None,
        system("customer"),
    )
    assert kept.stamp(changed, row.digest) != there.stamp
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert (State.Name(done.state), done.created, done.failed) == ("DONE", 3, 1), done.failure
    assert len(await accounts(customer.sales1, "liucun")) == 2
    async with customer.running.sessions() as session:
        assert not (await session.scalars(select(ImportLines).where(ImportLines.import_ == row.id))).all()


def _but_for_its_name(line: Account, told: Account) -> bytes:
    line.id = told.id
    return mapper(Account).message(line).SerializeToString(deterministic=True)


async def test_lines_that_were_read_by_another_plan_are_read_again(customer: Service) -> None:
    rows = [(f"旧读第{n}号仪器有限公司", str(n)) for n in range(3)]
    found = await checked(customer, customer.sales1, table(("客户名称", "员工人数"), *rows))
    async with customer.running.sessions() as session, session.begin():
        mine = update(ImportLines).where(ImportLines.import_ == UUID(found.name[8:]))
        await session.execute(mine.values(stamp="of other code", lines=b"no lines"))
    done = await ran(customer, customer.sales1, found)
    assert (State.Name(done.state), done.created) == ("DONE", 3), done.failure
    assert len(await accounts(customer.sales1, "旧读第")) == 3


def _further(customer: Service, name: str, before: int) -> Any:
    async def look() -> bool:
        found = await customer.sales1.GetImport(name=name)
        return found.done > before or State.Name(found.state) == "DONE"

    return look


async def test_a_column_that_is_to_fill_what_is_no_field_is_refused(customer: Service) -> None:
    file = await upload(customer, table(("客户名称", "电话"), ("映射有限公司", "")))
    for wrong in ("phonez", "contact.display_name", "state", "custom.nothing"):
        mapping = [{"column": "客户名称", "field": "display_name"}, {"column": "电话", "field": wrong}]
        with pytest.raises(Refused) as refused:
            await customer.sales1.CreateImport(
                **{"import": {"file": file, "kind": "ACCOUNTS", "mapping": mapping}}
            )
        assert refused.value.violations == {"import.mapping[1].field": "UNKNOWN_FIELD"}
    made = await customer.sales1.CreateImport(**{"import": {"file": file, "kind": "MIXED"}})
    mapping = [
        {"column": "客户名称", "field": "display_name"},
        {"column": "电话", "field": "contact.display_name"},
    ]
    asked = {"import": {"name": made.name, "mapping": mapping}, "updateMask": "mapping"}
    assert len((await customer.sales1.UpdateImport(**asked)).mapping) == 2
    mapping[0]["field"] = "displayName"
    with pytest.raises(Refused) as refused:
        await customer.sales1.UpdateImport(**asked)
    assert refused.value.violations == {"import.mapping[0].field": "UNKNOWN_FIELD"}


async def test_an_equal_create_during_the_run_is_one_customer(customer: Service) -> None:
    names = [f"争先第{n}号阀门有限公司" for n in range(600)]
    found = await checked(customer, customer.sales1, table(("客户名称",), *((n,) for n in names)))
    await customer.sales1.RunImport(name=found.name, requestId=uuid4().hex)

    # Each waits with a connection for the chunk that has its name, and the service has not thirty of them.
    few = asyncio.Semaphore(8)

    async def create(name: str) -> int:
        try:
            async with few:
                await customer.sales2.CreateAccount(account={"displayName": name})
        except Refused as refused:
            assert refused.reason in ("ACCOUNT_COLLISION", "CONFLICT"), refused
            return 0
        return 1

    made = sum(await asyncio.gather(*(create(name) for name in names[::20])))
    done = await settled(customer.sales1, customer, found.name)
    assert done.created + made == 600
    assert done.skipped == made


@pytest.mark.slow
async def test_rows_come_in_at_the_pace_of_a_hundred_thousand_in_ten_minutes(
    customer: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    chars = [chr(0x4E00 + n) for n in range(3000)]
    names = [
        f"{chars[n * 7 % 3000]}{chars[n * 13 % 2999]}{chars[n % 2998]}精密机械{n}有限公司"
        for n in range(6000)
    ]
    rows = [(name, str(n), f"138{n:08}", "机械") for n, name in enumerate(names)]
    found = await checked(customer, customer.manager, table(("客户名称", "员工人数", "电话", "行业"), *rows))
    assert found.failed == 0
    begun = time.monotonic()
    done = await ran(customer, customer.manager, found)
    seconds = time.monotonic() - begun
    assert (done.created, done.failed) == (6000, 0), done.failure
    with capsys.disabled():
        print(f"\n{6000 / seconds:.0f} rows/s, load {os.getloadavg()[0]:.1f}")
    assert 6000 / seconds > 167


async def test_a_run_rests_when_told_and_goes_on_to_the_same_end(customer: Service) -> None:
    rows = [("客户名称", "背景"), *((f"停续{number:04}号钢构有限公司", "停续") for number in range(3000))]
    found = await checked(customer, customer.sales1, table(*rows))
    with pytest.raises(Refused) as refused:
        await customer.sales1.PauseImport(name=found.name)
    assert refused.value.reason == "ILLEGAL_TRANSITION"
    await customer.sales1.RunImport(name=found.name, requestId=uuid4().hex)
    paused = await customer.sales1.PauseImport(name=found.name)
    assert State.Name(paused.state) == "PAUSED"
    await asyncio.sleep(1.5)
    rests = await customer.sales1.GetImport(name=found.name)
    await asyncio.sleep(1.5)
    assert (await customer.sales1.GetImport(name=found.name)).done == rests.done < 3000
    await customer.sales1.ResumeImport(name=found.name)
    done = await settled(customer.sales1, customer, found.name)
    assert (State.Name(done.state), done.created, done.done) == ("DONE", 3000, 3000)
    counted = await customer.sales1.AggregateAccounts(filter='background = "停续"')
    assert counted.rows[0].count == "3000"


async def test_what_a_key_began_goes_on_with_the_rights_of_the_key(customer: Service) -> None:
    entry = {
        "permissions": ["customer.accounts.*"], "scope": "DEPARTMENT", "disabled": False, "expires": "",
        "department": customer.person("sales1").department,
    }  # fmt: skip
    async with customer.parts.configuration() as config:
        await config.put("apiKey.import01", entry)
        caller = await customer.eventually(lambda: customer.running.directory.acting("apiKeys/import01"))
        assert caller.may("customer.accounts.create") and not caller.may("customer.contacts.create")
        assert caller.departments == (customer.person("sales1").department,)
        await config.put("apiKey.import01", {**entry, "expires": "2020-01-01T00:00:00+00:00"})
        await customer.eventually(lambda: customer.running.directory.acting("apiKeys/import01") is None)
        await config.put("apiKey.import01", {**entry, "disabled": True})
        await asyncio.sleep(0.2)
        assert customer.running.directory.acting("apiKeys/import01") is None
