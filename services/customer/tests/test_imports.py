"""Customers brought in from files, through the front door."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit import blobs, sheets
from crmkit.testing import Client, Refused, Service

DATA = Path("/work/shared/data") if Path("/work/shared/data").exists() else Path("data")
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
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(encoding)


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
    text = io.BytesIO()
    sheets.write_csv(
        text, ["客户名称", "背景"], [[f"{n}号 {line}"[:200], line] for n, line in enumerate(lines)]
    )
    found = await checked(customer, customer.sales1, text.getvalue())
    assert State.Name(found.state) == "CHECKED", found.failure
    assert {error.reason for error in found.errors} <= {"BAD_CHARACTER", "TOO_LONG", "BAD_TEXT"}
    done = await ran(customer, customer.sales1, found, skip_errors=True)
    assert State.Name(done.state) == "DONE", done.failure
    assert done.created + done.skipped + done.failed == len(lines)
    assert done.created > 0.8 * len(lines)
    for n in (5, 100, 200, 300, 400):
        for account in (await customer.sales1.ListAccounts(q=f"{n}号", pageSize=50)).accounts:
            if account.display_name.startswith(f"{n}号 "):
                assert clean_name(account.display_name) == account.display_name
