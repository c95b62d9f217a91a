"""What a role takes from single fields holds on every path: read, write, filter, order, sum, search and export."""

import io
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit import blobs
from crmkit.testing import Client, Refused, Service
from crmkit.testing.jobs import job, lines

PERMISSIONS = [
    "customer.accounts.*", "customer.contacts.*", "customer.imports.*", "workspace.bulkJobs.*", "workspace.files.*",
]  # fmt: skip
TAKEN = [
    {"collection": "customer.accounts", "field": "legal_name", "level": "HIDDEN"},
    {"collection": "customer.accounts", "field": "tax_id", "level": "MASKED"},
    {"collection": "customer.accounts", "field": "website", "level": "READ_ONLY"},
    {"collection": "customer.accounts", "field": "phones", "level": "MASKED"},
    {"collection": "customer.accounts", "field": "custom.secret", "level": "HIDDEN"},
    {"collection": "customer.accounts", "field": "custom.fixed", "level": "READ_ONLY"},
]
FLAG = 'legal_name != "x" AND custom.secret != "x"'
CUSTOM = [
    {"key": "secret", "kind": "TEXT", "label": {"zh": "秘密", "en": "Secret"}, "searchable": True},
    {"key": "fixed", "kind": "TEXT", "label": {"zh": "固定", "en": "Fixed"}},
    # What is reckoned from a hidden field would tell of it.
    {
        "key": "tells",
        "kind": "FORMULA",
        "label": {"zh": "推得", "en": "Tells"},
        "formula": f"IF({FLAG}, 1, 0)",
    },
]


class Office:
    """A seller with everything, and one from whom a second role takes fields."""

    def __init__(self, customer: Service) -> None:
        self.mark = uuid4().hex[:8]
        self.employees = [f"employees/{uuid4()}" for _ in range(2)]
        self.whole, self.kept = (
            customer.client("sales1", employee=name, sub=name, roles=[]) for name in self.employees
        )


@pytest.fixture
async def office(customer: Service) -> AsyncIterator[Office]:
    made, config = Office(customer), customer.running.config
    department = customer.person("sales1").department
    person = {"department": department, "departments": [], "disabled": False, "displayName": "x"}
    give, take = f"gives{made.mark}", f"takes{made.mark}"
    wanted = {
        f"role.{give}": {"permissions": PERMISSIONS, "scope": "ALL"},
        f"role.{take}": {"permissions": [], "scope": "OWN", "fields": TAKEN},
        f"employee.{made.employees[0][10:]}": {**person, "roles": [give]},
        f"employee.{made.employees[1][10:]}": {**person, "roles": [give, take]},
        "customField.accounts": {"fields": CUSTOM},
    }
    async with customer.parts.configuration() as bucket:
        for key, value in wanted.items():
            await bucket.put(key, value)
        await customer.eventually(lambda: all(config.get(key) == value for key, value in wanted.items()), 30)
        yield made
        await bucket.delete("customField.accounts")
        await customer.eventually(lambda: config.get("customField.accounts") is None, 30)


async def violations(call: Any) -> dict[str, str]:
    with pytest.raises(Refused) as refused:
        await call
    return dict(refused.value.violations)


async def reason(call: Any) -> str:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.reason


async def test_what_a_role_takes_from_a_field_leaks_on_no_path(
    customer: Service, office: Office, tax_id: Callable[[], str]
) -> None:
    whole, kept, mark, taxed = office.whole, office.kept, office.mark, tax_id()
    account = {
        "displayName": f"可见{mark}公司",
        "legalName": f"隐藏{mark}法名",
        "taxId": taxed,
        "website": f"https://{mark}.example",
        "phones": [{"number": "13812345678"}],
        "custom": {"secret": f"密{mark}", "fixed": "一"},
    }
    made = await whole.CreateAccount(account=account)
    full = await whole.GetAccount(name=made.name)
    assert full.custom["tells"] == "1"
    assert (full.legal_name, full.tax_id, full.custom["secret"]) == (
        account["legalName"], taxed, f"密{mark}"
    )  # fmt: skip

    masked = taxed[:3] + 12 * "*" + taxed[-3:]
    named = f'display_name = "{account["displayName"]}"'
    for shown in (
        await kept.GetAccount(name=made.name),
        (await kept.BatchGetAccounts(names=[made.name])).accounts[0],
        (await kept.ListAccounts(filter=named)).accounts[0],
        (await kept.ListAccounts(q=account["displayName"])).accounts[0],
        await kept.UpdateAccount(account={"name": made.name, "hobbies": "钓鱼"}, updateMask="hobbies"),
    ):
        assert (shown.legal_name, shown.tax_id, shown.website) == ("", masked, account["website"])
        assert not {"secret", "tells"} & {*shown.custom} and shown.custom["fixed"] == "一"
        assert "12345678" not in shown.phones[0].number and shown.phones[0].number.startswith("+86")

    # By what is hidden or masked nothing is found, ordered or counted.
    for condition in (
        "legal_name:*",
        f'tax_id = "{taxed}"',
        "phones:*",
        f'custom.secret = "密{mark}"',
        "custom.tells = 1",
    ):
        assert await reason(kept.ListAccounts(filter=condition)) == "FILTER_INVALID", condition
        assert await reason(kept.AggregateAccounts(filter=condition)) == "FILTER_INVALID", condition
    for field in ("legal_name", "tax_id", "custom.secret", "custom.tells"):
        assert await reason(kept.ListAccounts(orderBy=field)) == "ORDER_BY_INVALID", field
        assert await reason(kept.AggregateAccounts(groupBy=[field])) == "ORDER_BY_INVALID", field
    for words in (account["legalName"], f"密{mark}", "13812345678", f"yincang{mark}"):
        assert made.name in {one.name for one in (await whole.ListAccounts(q=words)).accounts}, words
        assert made.name not in {one.name for one in (await kept.ListAccounts(q=words)).accounts}, words
        counted = await kept.AggregateAccounts(filter=named, q=words)
        assert not [row for row in counted.rows if row.count != "0"], words
    found = await kept.ListAccounts(q=f"kejian{mark}", filter=named)
    assert [one.name for one in found.accounts] == [made.name]

    # What is not shown, or is shown only, is not changed; sending back what one was shown is no change.
    seen = await kept.GetAccount(name=made.name)
    for path, value in (("legalName", "另名"), ("taxId", "1"), ("website", "https://x.example")):
        body = {"name": made.name, path: value}
        wrong = await violations(kept.UpdateAccount(account=body, updateMask=path))
        assert list(wrong.values()) == ["FIELD_READ_ONLY"], path
    assert await violations(
        kept.UpdateAccount(account={"name": made.name, "custom": {"fixed": "二"}}, updateMask="custom.fixed")
    ) == {"account.custom.fixed": "FIELD_READ_ONLY"}
    back = {"name": made.name, "taxId": seen.tax_id, "website": seen.website, "custom": {}, "needs": "云"}
    await kept.UpdateAccount(account=back, updateMask="taxId,website,custom,needs")
    after = await whole.GetAccount(name=made.name)
    assert (after.tax_id, after.legal_name, after.needs) == (taxed, account["legalName"], "云")
    assert (after.custom["secret"], after.custom["fixed"]) == (f"密{mark}", "一")
    assert await violations(kept.CreateAccount(account={"displayName": f"新{mark}", "taxId": taxed})) == {
        "account.tax_id": "FIELD_READ_ONLY"
    }

    explained = {
        one.field: one.role for one in (await kept.ExplainAccountAccess(name=made.name)).hidden_fields
    }
    assert explained.keys() >= {"legalName", "taxId", "custom.secret"} and "website" not in explained
    assert explained["legalName"] == f"takes{mark}"

    asked = {"filter": named, "format": "CSV"}
    done = await job(customer, "EXPORT", owner=office.employees[1], collection="accounts", options=asked)
    header, row = await lines(customer, done["resultFile"])
    assert "法定名称" not in header and "秘密" not in header and {"网站", "固定"} <= {*header}
    assert row[header.index("统一社会信用代码")] == masked
    assert not any(word in "".join(row) for word in (account["legalName"], f"密{mark}", taxed, "12345678"))


async def test_a_file_writes_no_column_that_its_importer_may_not_write(
    customer: Service, office: Office, tax_id: Callable[[], str]
) -> None:
    kept, mark, taxed = office.kept, office.mark, tax_id()
    named = (f"甲{mark}公司", f"乙{mark}公司", f"丙{mark}公司")
    rows = [
        ("客户名称", "网站", "固定", "统一社会信用代码"),
        (named[0], "", "", ""), (named[1], "https://x.example", "一", ""), (named[2], "", "", taxed),
    ]  # fmt: skip
    text = "\n".join(",".join(row) for row in rows).encode()
    sha256, size = await blobs.keep(customer.running.store, io.BytesIO(text))
    file = {
        "name": f"files/{uuid4()}",
        "displayName": "客户.csv",
        "sha256": sha256,
        "size": str(size),
        "etag": "1",
    }
    file |= {"owner": office.employees[1], "department": customer.person("sales1").department}
    change = {"name": file["name"], "action": "CREATED", "actor": office.employees[1], "resource": file}
    await customer.tell("crm.workspace.v1.ResourceChanged", change, file["name"])
    made = await kept.CreateImport(**{"import": {"file": file["name"], "kind": "ACCOUNTS"}})

    async def settled() -> Any:
        state = (now := await kept.GetImport(name=made.name)).state
        return now if state in (pb.Import.CHECKED, pb.Import.DONE, pb.Import.FAILED) else None

    await kept.CheckImport(name=made.name)
    found = await customer.eventually(settled, 60)
    wrong = [(one.line, one.column, one.reason) for one in found.errors]
    assert wrong == [
        (3, "网站", "FIELD_READ_ONLY"), (3, "固定", "FIELD_READ_ONLY"), (4, "统一社会信用代码", "FIELD_READ_ONLY"),
    ], (found.failure, wrong)  # fmt: skip
    await kept.RunImport(name=found.name, requestId=uuid4().hex, skipErrors=True)
    done = await customer.eventually(settled, 60)
    assert (done.created, done.failed) == (1, 2), done.failure
    there = (await office.whole.ListAccounts(filter=f'display_name = "*{mark}公司"')).accounts
    assert [one.display_name for one in there] == [named[0]]
    # The general import of any collection goes through the create method, and says the same.
    ended = await job(
        customer, "DRY_RUN", [rows[0], *rows[2:]], owner=office.employees[1], collection="accounts", options={"skipErrors": "true"},
    )  # fmt: skip
    _, *refused = await lines(customer, ended["errorFile"])
    assert [row[0] for row in refused] == list(named[1:]), refused
    assert all("不能修改该字段" in row[-1] for row in refused)


async def test_the_time_line_and_a_merge_tell_of_a_record_what_its_own_page_would_show(
    customer: Service, office: Office
) -> None:
    mark, config = office.mark, customer.running.config
    key = f"role.takes{mark}"
    more = [
        *TAKEN,
        {"collection": "sales.opportunities", "field": "amount", "level": "HIDDEN"},
        {"collection": "customer.contacts", "field": "phones", "level": "MASKED"},
    ]
    give = {**config.get(f"role.gives{mark}")}
    give["permissions"] = [
        *PERMISSIONS,
        "customer.timeline.read",
        "sales.opportunities.read",
        "customer.merges.*",
    ]
    async with customer.parts.configuration() as bucket:
        await bucket.put(key, {**config.get(key), "fields": more})
        await bucket.put(f"role.gives{mark}", give)
        await customer.eventually(
            lambda: config.get(key)["fields"] == more and config.get(f"role.gives{mark}") == give, 30
        )
    whole, kept = office.whole, office.kept
    one, other = [
        await whole.CreateAccount(account={"displayName": f"{part}{mark}公司"}) for part in ("留", "并")
    ]
    deal = {
        "name": f"opportunities/{uuid4()}", "displayName": f"商机{mark}", "account": one.name, "owner": office.employees[0],
        "department": customer.person("sales1").department, "amount": {"currencyCode": "CNY", "amount": "8.00"},
    }  # fmt: skip
    await customer.tell("crm.sales.v1.OpportunityOpened", {"opportunity": deal}, deal["name"])

    async def told(client: Client) -> Any:
        return list((await client.ListTimeline(filter=f'ref = "{deal["name"]}"')).timeline)

    (entry,) = await customer.eventually(lambda: told(whole), 30)
    (less,) = await told(kept)
    assert (entry.amount.amount, entry.summary) == ("8.00", f"商机{mark}")
    assert less.summary == entry.summary and not less.HasField("amount")
    assert not (await kept.GetTimelineEntry(name=entry.name)).HasField("amount")
    assert await reason(kept.ListTimeline(filter="amount > 1")) == "FILTER_INVALID"
    assert await reason(kept.AggregateTimeline(sum=["amount"])) == "ORDER_BY_INVALID"
    assert (await whole.AggregateTimeline(sum=["amount"], filter=f'ref = "{deal["name"]}"')).rows[0].sums

    for account in (one, other):
        person = {"displayName": f"王{account.display_name}", "account": account.name}
        await whole.CreateContact(contact={**person, "phones": [{"number": "13812340000"}]})
    merge = {"survivor": one.name, "losers": [other.name]}
    choice = [{"field": "legal_name", "source": other.name}]
    assert await violations(kept.CreateMerge(merge={**merge, "choices": choice})) == {
        "merge.choices[0].field": "FIELD_READ_ONLY"
    }
    made = await kept.CreateMerge(merge=merge)
    assert not (await kept.PreviewMerge(name=made.name)).proposed_pairs
    assert len((await whole.GetMerge(name=made.name)).proposed_pairs) == 1
    assert not (await kept.GetMerge(name=made.name)).proposed_pairs
