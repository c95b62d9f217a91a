"""Every kind of custom field through every path: form, list, filter, order, search, import, export, facts."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service
from crmkit.testing.jobs import job, lines
from google.protobuf import json_format


def field(key: str, kind: str, label: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "kind": kind, "label": {"zh": label, "en": key.capitalize()}, **more}


FIELDS = [
    field("words", "TEXT", "短语", searchable=True),
    field("story", "LONG_TEXT", "经历", maxLength=20000),
    field("weight", "NUMBER", "体重"),
    field("budget", "MONEY", "预算"),
    field("met", "DATE", "相识日", default="today"),
    field("vip", "BOOL", "贵宾", default=False),
    field("grade", "CHOICE", "等级", dictionary="grades"),
    field("likes", "MULTI_CHOICE", "喜好", dictionary="grades"),
    field("mentor", "REFERENCE", "引荐人", references="employees"),
    field("proof", "FILE", "证明"),
    field("papers", "FILES", "附件"),
    field("guide", "EMPLOYEE", "向导"),
    field("office", "DEPARTMENT", "部门"),
    field("badge", "TEXT", "工牌", unique=True),
    field("secret", "TEXT", "内部评语", roles=["sales_manager"]),
    field("old", "TEXT", "旧字段"),
    field("site", "URL", "个人主页"),
    field("mail", "EMAIL", "备用邮箱", searchable=True),
    field("line", "PHONE", "热线"),
    field("share", "PERCENT", "份额", maximum="100"),
    field("moment", "INSTANT", "时刻"),
    field("quiet", "TEXT", "隐藏的", hidden=True, required=True),
    field("part", "FORMULA", "应得", formula="IF(custom.vip, 2, 1) * custom.weight * custom.share / 100"),
    field("twice", "FORMULA", "应得两倍", formula="custom.part * 2"),
]
ENTRIES = [
    {"key": "GOLD", "label": {"zh": "金", "en": "Gold"}},
    {"key": "SILVER", "label": {"zh": "银", "en": "Silver"}},
    {"key": "TIN", "label": {"zh": "锡", "en": "Tin"}},
]


async def publish(customer: Service, fields: list[dict[str, Any]], entries: list[dict[str, Any]]) -> None:
    """The fields and their dictionary, as workspace publishes them."""
    config = customer.running.config
    wanted = {"customField.contacts": {"fields": fields}, "dictionary.grades": {"entries": entries}}
    async with customer.parts.configuration() as bucket:
        for key, value in wanted.items():
            await bucket.put(key, value)
        await customer.eventually(lambda: all(config.get(key) == value for key, value in wanted.items()), 30)


@pytest.fixture
async def account(customer: Service) -> AsyncIterator[Any]:
    await publish(customer, FIELDS, ENTRIES)
    name = f"字段种类{uuid4().hex[:8]}有限公司"
    yield await customer.sales1.CreateAccount(account={"displayName": name})
    async with customer.parts.configuration() as bucket:
        for key in ("customField.contacts", "dictionary.grades"):
            await bucket.delete(key)
        await customer.eventually(lambda: customer.running.config.get("customField.contacts") is None, 30)


def custom(contact: Any) -> dict[str, Any]:
    return json_format.MessageToDict(contact.custom)


@pytest.mark.usefixtures("account")
async def test_every_kind_is_kept_filtered_ordered_searched_and_counted(
    customer: Service, account: Any
) -> None:
    sales, mine = customer.sales1, f'account = "{account.name}"'
    employee, file = customer.person("sales1").employee, f"files/{uuid4()}"
    department = customer.person("sales1").department
    stored = {"name": file, "displayName": "证明.pdf", "owner": employee, "etag": "1"}
    change = {"name": file, "action": "CREATED", "actor": employee, "resource": stored}
    await customer.tell("crm.workspace.v1.ResourceChanged", change, file)
    given = {
        "words": "稀有词语", "story": "长" * 5000, "weight": 65.5,
        "budget": {"currencyCode": "CNY", "amount": "9.50"}, "met": "2026-03-05", "vip": True, "grade": "GOLD",
        "likes": ["GOLD", "TIN"], "mentor": employee, "proof": file, "badge": uuid4().hex,
        "papers": [file], "guide": employee, "office": department,
        "site": "https://例子.中国/路?a=1", "mail": "jia.rare@example.com", "line": "+862112345678", "share": 12.5,
        "moment": "2026-03-05T01:30:00Z",
    }  # fmt: skip
    body = {"account": account.name, "displayName": "甲全字段", "custom": given}
    first = await sales.CreateContact(contact=body)
    assert custom(first) == given | {"part": "16.375", "twice": "32.75"}
    more = {"weight": "7.125", "budget": {"currencyCode": "CNY", "amount": "10000.00"}, "met": "2026-01-01"}
    # A telephone number and a moment are kept in one spelling, however they were written.
    written = {"line": "021-6123 4567", "moment": "2026-03-05T10:00:00+08:00", "share": "7.25"}
    second = await sales.CreateContact(
        contact={"account": account.name, "displayName": "乙少字段", "custom": {**more, **written}}
    )
    more |= {"line": "+862161234567", "moment": "2026-03-05T02:00:00Z", "share": "7.25"}
    assert custom(second) == {**more, "vip": False, "part": "0.516563", "twice": "1.033126"}
    third = await sales.CreateContact(contact={"account": account.name, "displayName": "丙无字段"})
    assert custom(third).keys() == {"met", "vip"}

    async def found(text: str, **asked: Any) -> list[str]:
        page = await sales.ListContacts(filter=f"{mine} AND {text}" if text else mine, **asked)
        return [contact.display_name[0] for contact in page.contacts]

    for text, wanted in {
        'custom.words = "稀有*"': "甲", "custom.weight > 8": "甲", "custom.weight = 7.125": "乙",
        "custom.budget >= 100": "乙", 'custom.budget < "CNY 100"': "甲", 'custom.budget = "USD 9.50"': "",
        "custom.met < 2026-02-01": "乙", "custom.met = today": "丙", "custom.vip = true": "甲", "custom.grade = GOLD": "甲",
        "custom.likes:TIN": "甲", "custom.likes = null": "乙丙", f'custom.mentor = "{employee}"': "甲",
        "custom.mentor = me": "甲", f'custom.proof = "{file}"': "甲", f'custom.papers:"{file}"': "甲", "custom.guide = me": "甲",
        f'custom.office = "{department}"': "甲", "custom.papers = null": "乙丙", "custom.budget = null": "丙",
        "NOT custom.weight > 8": "乙丙", 'custom.site = "*例子*"': "甲", 'custom.mail = "jia.rare@example.com"': "甲",
        'custom.line = "+862161234567"': "乙", "custom.share > 10": "甲", "custom.part > 1": "甲", "custom.twice = null": "丙", "custom.share <= 7.25": "乙",
        'custom.moment > "2026-03-05T01:45:00Z"': "乙", "custom.moment = null": "丙",
    }.items():  # fmt: skip
        assert set(await found(text)) == set(wanted), text
    for order, wanted in {
        "custom.budget": "丙甲乙", "custom.budget desc": "乙甲丙", "custom.weight": "丙乙甲", "custom.met": "乙甲丙",
        "custom.share": "丙乙甲", "custom.twice desc": "甲乙丙", "custom.moment desc": "乙甲丙", "custom.vip desc, display_name": "甲丙乙", "custom.words desc, display_name": "甲丙乙",
    }.items():  # fmt: skip
        paged: list[str] = []
        token = ""
        while True:
            page = await sales.ListContacts(filter=mine, orderBy=order, pageSize=1, pageToken=token)
            paged += [contact.display_name[0] for contact in page.contacts]
            if not (token := page.next_page_token):
                break
        # 丙 is before 甲 and 乙 by neither spelling nor code point; where the field is equal, the name decides.
        assert len(paged) == 3 and (order.endswith("display_name") or "".join(paged) == wanted), (
            order,
            paged,
        )
    with pytest.raises(Refused) as refused:
        await sales.ListContacts(orderBy="custom.likes")
    assert refused.value.reason == "ORDER_BY_INVALID"
    for term in ("稀有词", "jia.rare"):
        hits = await sales.ListContacts(q=term)
        assert first.name in {contact.name for contact in hits.contacts}, term
    figures = await sales.AggregateContacts(filter=mine, groupBy=["custom.vip"], sum=["custom.budget"])
    assert sorted((row.count, dict(row.sums)) for row in figures.rows) == [
        ("1", {"custom.budget:CNY": "9.5"}),
        ("2", {"custom.budget:CNY": "10000"}),
    ]


async def test_what_is_none_of_its_kind_is_refused(customer: Service, account: Any) -> None:
    cases: list[tuple[str, Any, str]] = [
        ("budget", 12, "WRONG_TYPE"),
        ("budget", {"currencyCode": "CNY", "amount": "1.234"}, "WRONG_TYPE"),
        ("budget", {"currencyCode": "XXQ", "amount": "1"}, "WRONG_TYPE"),
        ("budget", {"currencyCode": "CNY", "amount": "1", "more": 1}, "WRONG_TYPE"),
        ("weight", "1e5000", "WRONG_TYPE"),
        ("weight", "NaN", "WRONG_TYPE"),
        ("met", "20260230", "WRONG_TYPE"),
        ("grade", "PLATINUM", "WRONG_TYPE"),
        ("likes", ["GOLD", "PLATINUM"], "WRONG_TYPE"),
        ("mentor", f"employees/{uuid4()}", "UNKNOWN_REFERENCE"),
        ("mentor", f"accounts/{uuid4()}", "UNKNOWN_REFERENCE"),
        ("proof", "report.pdf", "UNKNOWN_REFERENCE"),
        ("papers", ["report.pdf"], "UNKNOWN_REFERENCE"),
        ("papers", "report.pdf", "WRONG_TYPE"),
        ("papers", [f"files/{uuid4()}" for _ in range(21)], "WRONG_TYPE"),
        ("guide", f"departments/{uuid4()}", "UNKNOWN_REFERENCE"),
        ("office", f"employees/{uuid4()}", "UNKNOWN_REFERENCE"),
        ("story", "长" * 20001, "WRONG_TYPE"),
        ("site", "javascript:alert(1)", "WRONG_TYPE"),
        ("site", "ftp://files.example", "WRONG_TYPE"),
        ("site", "https://a b", "WRONG_TYPE"),
        ("mail", "nobody", "WRONG_TYPE"),
        ("line", "12", "WRONG_TYPE"),
        ("line", 13900000000, "WRONG_TYPE"),
        ("share", "100.01", "TOO_LARGE"),
        ("share", "half", "WRONG_TYPE"),
        ("moment", "2026-03-05T10:00:00", "WRONG_TYPE"),
        ("moment", "soon", "WRONG_TYPE"),
        ("nothing", "1", "CUSTOM_FIELD_UNKNOWN"),
    ]
    for key, value, reason in cases:
        with pytest.raises(Refused) as refused:
            await customer.sales1.CreateContact(
                contact={"account": account.name, "displayName": "错", "custom": {key: value}}
            )
        assert refused.value.violations == {f"contact.custom.{key}": reason}, (key, value)


async def test_a_hidden_field_is_asked_of_nobody_and_goes_on(customer: Service, account: Any) -> None:
    sales = customer.sales1
    body = {"account": account.name, "displayName": "有隐藏"}
    assert (await sales.CreateContact(contact=body)).name
    made = await sales.CreateContact(contact={**body, "custom": {"quiet": "程序写的"}})
    assert custom(made)["quiet"] == "程序写的"
    found = await sales.ListContacts(filter=f'account = "{account.name}" AND custom.quiet = "程序写的"')
    assert [one.name for one in found.contacts] == [made.name]
    # Neither an export of everything nor the columns of an import speak of it.
    done = await job(
        customer, "EXPORT", collection="contacts", options={"filter": f'account = "{account.name}"'}
    )
    heads = (await lines(customer, done["resultFile"]))[0]
    assert "短语" in heads and "隐藏的" not in heads


async def test_no_two_records_have_the_same_unique_value(customer: Service, account: Any) -> None:
    sales, badge = customer.sales1, f"B{uuid4().hex}"

    async def make(value: str) -> Any:
        body = {"account": account.name, "displayName": "唯一", "custom": {"badge": value}}
        return await sales.CreateContact(contact=body)

    first = await make(badge)
    with pytest.raises(Refused) as refused:
        await make(badge.lower())
    assert refused.value.violations == {"contact.custom.badge": "NOT_UNIQUE"}
    other = await make(f"{badge}2")
    taken = {"name": other.name, "custom": {"badge": badge}}
    with pytest.raises(Refused):
        await sales.UpdateContact(contact=taken, updateMask="custom.badge")
    await sales.UpdateContact(contact={"name": first.name, "wechat": "w"}, updateMask="wechat")
    await sales.UpdateContact(contact={"name": first.name, "custom": {}}, updateMask="custom.badge")
    await sales.UpdateContact(contact=taken, updateMask="custom.badge")
    await customer.admin.DeleteContact(name=other.name)
    assert (await make(badge)).name


async def test_a_field_of_some_roles_is_there_for_these_alone(customer: Service, account: Any) -> None:
    sales, manager = customer.sales1, customer.manager
    made = await sales.CreateContact(
        contact={"account": account.name, "displayName": "有评语", "custom": {"words": "甲"}}
    )
    said = {"name": made.name, "custom": {"secret": "爱压价"}}
    with pytest.raises(Refused) as refused:
        await sales.UpdateContact(contact=said, updateMask="custom.secret")
    assert refused.value.violations == {"contact.custom.secret": "CUSTOM_FIELD_UNKNOWN"}
    told = await manager.UpdateContact(contact=said, updateMask="custom.secret")
    assert custom(told)["secret"] == "爱压价"
    assert "secret" not in custom(await sales.GetContact(name=made.name))
    assert custom(await manager.GetContact(name=made.name))["secret"] == "爱压价"
    listed = await sales.ListContacts(filter=f'account = "{account.name}"')
    assert all("secret" not in custom(contact) for contact in listed.contacts)
    for asked in (
        {"filter": 'custom.secret = "爱压价"'},
        {"orderBy": "custom.secret"},
        {"filter": "custom:secret"},
    ):
        with pytest.raises(Refused):
            await sales.ListContacts(**asked)
    # Who does not know of it does not take it away by writing all that he knows.
    await sales.UpdateContact(contact={"name": made.name, "custom": {"words": "乙"}}, updateMask="custom")
    kept = custom(await manager.GetContact(name=made.name))
    assert (kept["words"], kept["secret"]) == ("乙", "爱压价")
    change = (await customer.facts("crm.customer.v1.ResourceChanged", made.name))[1]
    assert "secret" not in change["resource"]["custom"] and "爱压价" not in str(change["after"])
    (part,) = [part for part in change["guarded"] if part["permission"] == "custom.contacts.secret"]
    assert part["resource"]["custom"] == {"secret": "爱压价"}
    for who, expected in (("sales1", ["姓名"]), ("manager", ["姓名", "内部评语"])):
        asked = {"fields": "displayName,custom.secret", "filter": f'account = "{account.name}"'}
        done = await job(customer, "EXPORT", who=who, collection="contacts", options=asked)
        assert (await lines(customer, done["resultFile"]))[0] == expected


async def test_a_retired_field_keeps_its_data_and_takes_no_more(customer: Service, account: Any) -> None:
    sales = customer.sales1
    body = {"account": account.name, "displayName": "旧值", "custom": {"old": "留着", "grade": "TIN"}}
    made = await sales.CreateContact(contact=body)
    fields = [{**one, "retired": True} if one["key"] == "old" else one for one in FIELDS]
    await publish(customer, fields, [*ENTRIES[:2], {**ENTRIES[2], "retired": True}])
    changed = await sales.UpdateContact(
        contact={"name": made.name, "custom": {"words": "新", "grade": "TIN"}}, updateMask="custom"
    )
    assert (custom(changed)["old"], custom(changed)["grade"], custom(changed)["words"]) == (
        "留着",
        "TIN",
        "新",
    )
    for key, value, reason in (("old", "改", "RETIRED"), ("likes", ["TIN"], "DICTIONARY_ITEM_RETIRED")):
        with pytest.raises(Refused) as refused:
            await sales.UpdateContact(
                contact={"name": made.name, "custom": {key: value}}, updateMask=f"custom.{key}"
            )
        assert refused.value.violations == {f"contact.custom.{key}": reason}
    kept = await sales.ListContacts(filter=f'account = "{account.name}" AND custom.old = "留着"')
    assert [contact.name for contact in kept.contacts] == [made.name]
    await publish(customer, FIELDS, ENTRIES)
    again = await sales.UpdateContact(
        contact={"name": made.name, "custom": {"old": "再用"}}, updateMask="custom.old"
    )
    assert custom(again)["old"] == "再用"


async def test_a_formula_follows_its_fields_and_nobody_writes_it(customer: Service, account: Any) -> None:
    sales = customer.sales1
    body = {"account": account.name, "displayName": "按比例", "custom": {"weight": 60, "share": 50}}
    made = await sales.CreateContact(contact=body)
    assert custom(made)["twice"] == "60"
    for given in ({"custom": {"part": "99"}}, {"custom": {"twice": 1}}):
        with pytest.raises(Refused) as refused:
            await sales.UpdateContact(
                contact={"name": made.name, **given}, updateMask="custom." + next(iter(given["custom"]))
            )
        assert set(refused.value.violations.values()) == {"FIELD_READ_ONLY"}
    # A form sends back all that it was shown.
    shown = custom(made) | {"vip": True}
    changed = await sales.UpdateContact(contact={"name": made.name, "custom": shown}, updateMask="custom")
    assert (custom(changed)["part"], custom(changed)["twice"]) == ("60", "120")
    gone = await sales.UpdateContact(contact={"name": made.name, "custom": {}}, updateMask="custom.weight")
    assert not {"part", "twice"} & custom(gone).keys()
    table = [("姓名", "客户", "体重", "份额"), ("进口的", account.display_name, "10", "10")]
    done = await job(customer, "IMPORT", table, collection="contacts", options={})
    assert (done["total"], done["failed"]) == (1, 0)
    asked = f'account = "{account.name}" AND display_name = "进口的"'
    (brought,) = (await sales.ListContacts(filter=asked)).contacts
    assert custom(brought)["twice"] == "2"
    asked = {"fields": "displayName,custom.twice", "filter": asked}
    done = await job(customer, "EXPORT", collection="contacts", options=asked)
    assert await lines(customer, done["resultFile"]) == [["姓名", "应得两倍"], ["进口的", "2"]]


async def test_a_new_formula_is_reckoned_for_all_records_there_are(customer: Service, account: Any) -> None:
    sales = customer.sales1
    names = [
        (
            await sales.CreateContact(
                contact={"account": account.name, "displayName": f"旧{n}", "custom": {"weight": n}}
            )
        ).name
        for n in range(3)
    ]
    formula = "custom.weight + 100"
    await publish(customer, [*FIELDS, field("late", "FORMULA", "后来的", formula=formula)], ENTRIES)
    asked = {
        "customField": f"customFields/{uuid4()}",
        "collection": "contacts",
        "key": "late",
        "kind": "FORMULA",
        "formula": formula,
    }
    await customer.tell("crm.workspace.v1.CustomFieldRecastAsked", asked, asked["customField"])

    async def reckoned() -> bool:
        found = [custom(await sales.GetContact(name=name)).get("late") for name in names]
        return found == ["100", "101", "102"]

    await customer.eventually(reckoned, 30)
    last = (await customer.facts("crm.customer.v1.ResourceChanged", names[2]))[-1]
    assert last["after"]["custom"]["late"] == "102"


async def test_what_goes_out_comes_in_again(customer: Service, account: Any) -> None:
    sales, name = customer.sales1, customer.person("sales1").display_name
    given = {
        "words": "一", "weight": 1.5, "budget": {"currencyCode": "USD", "amount": "3.00"}, "met": "2026-03-05", "vip": True,
        "grade": "GOLD", "likes": ["GOLD", "SILVER"], "mentor": customer.person("sales1").employee,
        "site": "https://example.com/", "mail": "a@b.example", "line": "+8613900000000", "share": 12.5,
        "moment": "2026-03-05T01:30:00Z",
    }  # fmt: skip
    await sales.CreateContact(contact={"account": account.name, "displayName": "出口甲", "custom": given})
    keys = ",".join(f"custom.{key}" for key in given)
    options = {"fields": f"displayName,account,{keys}", "filter": f'account = "{account.name}"'}
    done = await job(customer, "EXPORT", collection="contacts", options=options)
    head, row = await lines(customer, done["resultFile"])
    assert head[2:] == [
        "短语",
        "体重",
        "预算",
        "相识日",
        "贵宾",
        "等级",
        "喜好",
        "引荐人",
        "个人主页",
        "备用邮箱",
        "热线",
        "份额",
        "时刻",
    ]
    assert row[2:5] == ["一", "1.5", "USD 3.00"] and row[7:9] == ["金", "金；银"]
    assert row[10:14] == ["https://example.com/", "a@b.example", "+8613900000000", "12.5"]
    row[13] = "12.5 %"
    wrong = [*row[:7], "没有", *row[8:]]
    table = [tuple(head), ("进口甲", *row[1:9], name, *row[10:]), ("进口乙", *wrong[1:])]
    done = await job(customer, "IMPORT", table, collection="contacts", options={"skipErrors": "true"})
    assert (done["total"], done["failed"]) == (2, 1), [
        row[-1] for row in await lines(customer, done["errorFile"])
    ]
    assert (await lines(customer, done["errorFile"]))[1][-1].startswith("等级")
    asked = f'account = "{account.name}" AND display_name = "进口甲"'
    (made,) = (await sales.ListContacts(filter=asked)).contacts
    assert custom(made) == given | {"part": "0.375", "twice": "0.75"}
