"""What a role takes from single fields holds on every path: read, write, filter, order, sum, search and export."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service
from crmkit.testing.jobs import job, lines

PERMISSIONS = ["customer.accounts.*", "customer.contacts.*", "workspace.bulkJobs.*"]
TAKEN = [
    {"collection": "customer.accounts", "field": "legal_name", "level": "HIDDEN"},
    {"collection": "customer.accounts", "field": "tax_id", "level": "MASKED"},
    {"collection": "customer.accounts", "field": "website", "level": "READ_ONLY"},
    {"collection": "customer.accounts", "field": "phones", "level": "MASKED"},
    {"collection": "customer.accounts", "field": "custom.secret", "level": "HIDDEN"},
    {"collection": "customer.accounts", "field": "custom.fixed", "level": "READ_ONLY"},
]
CUSTOM = [
    {"key": "secret", "kind": "TEXT", "label": {"zh": "秘密", "en": "Secret"}, "searchable": True},
    {"key": "fixed", "kind": "TEXT", "label": {"zh": "固定", "en": "Fixed"}},
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
        assert "secret" not in shown.custom and shown.custom["fixed"] == "一"
        assert "12345678" not in shown.phones[0].number and shown.phones[0].number.startswith("+86")

    # By what is hidden or masked nothing is found, ordered or counted.
    for condition in ("legal_name:*", f'tax_id = "{taxed}"', "phones:*", f'custom.secret = "密{mark}"'):
        assert await reason(kept.ListAccounts(filter=condition)) == "FILTER_INVALID", condition
        assert await reason(kept.AggregateAccounts(filter=condition)) == "FILTER_INVALID", condition
    for field in ("legal_name", "tax_id", "custom.secret"):
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
