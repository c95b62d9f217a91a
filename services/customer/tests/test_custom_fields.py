"""Fields that an administrator has defined: checked, filtered, ordered and grouped like any other."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Refused, Service
from google.protobuf import json_format

FIELDS = [
    {"key": "grade", "kind": "CHOICE", "choices": ["A", "B"]},
    {"key": "seats", "kind": "NUMBER"},
    {"key": "since", "kind": "DATE"},
    {"key": "note", "kind": "TEXT", "maxLength": 5},
    {"key": "tags", "kind": "MULTI_CHOICE", "choices": ["x", "y"]},
    {"key": "active", "kind": "BOOL"},
]


@pytest.fixture
async def defined(customer: Service) -> AsyncIterator[None]:
    """The fields, as workspace publishes them."""
    config = customer.running.config
    async with customer.parts.configuration() as bucket:
        await bucket.put("customField.accounts", {"fields": FIELDS})
        await customer.eventually(lambda: config.get("customField.accounts") is not None)
        yield
        await bucket.delete("customField.accounts")
        await customer.eventually(lambda: config.get("customField.accounts") is None)


async def create(customer: Service, mark: str = "", **custom: Any) -> pb.Account:
    body = {"displayName": f"自定义{mark}{uuid4().hex}", "custom": custom}
    return await customer.sales1.CreateAccount(account=body)


async def test_without_a_definition_nothing_is_taken(customer: Service) -> None:
    with pytest.raises(Refused) as refused:
        await create(customer, grade="A")
    assert refused.value.violations == {"account.custom.grade": "CUSTOM_FIELD_UNKNOWN"}


@pytest.mark.usefixtures("defined")
async def test_what_fits_is_kept_as_it_was_given(customer: Service) -> None:
    given = {
        "grade": "A",
        "seats": 12.5,
        "since": "2026-02-28",
        "note": "五个字",
        "tags": ["x"],
        "active": False,
    }
    made = await create(customer, **given)
    found = await customer.sales1.GetAccount(name=made.name)
    assert json_format.MessageToDict(found.custom) == given


@pytest.mark.usefixtures("defined")
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("other", 1, "CUSTOM_FIELD_UNKNOWN"),
        ("grade", "C", "WRONG_TYPE"),
        ("grade", 1, "WRONG_TYPE"),
        ("seats", "many", "WRONG_TYPE"),
        ("seats", True, "WRONG_TYPE"),
        ("since", "2026-02-30", "WRONG_TYPE"),
        ("note", "六个字太长了", "WRONG_TYPE"),
        ("note", "a\x00b", "TEXT_CONTROL_CHARACTER"),
        ("note", ["a"], "WRONG_TYPE"),
        ("tags", ["z"], "WRONG_TYPE"),
        ("tags", "x", "WRONG_TYPE"),
        ("active", "yes", "WRONG_TYPE"),
    ],
)
async def test_what_does_not_fit_is_refused_at_its_key(
    customer: Service, key: str, value: Any, reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        await create(customer, **{key: value})
    assert refused.value.violations == {f"account.custom.{key}": reason}


async def test_a_required_field_is_asked_for(customer: Service, defined: None) -> None:
    config = customer.running.config
    required = [*FIELDS, {"key": "must", "kind": "TEXT", "required": True}]
    async with customer.parts.configuration() as bucket:
        await bucket.put("customField.accounts", {"fields": required})
        await customer.eventually(lambda: len(config.get("customField.accounts")["fields"]) == len(required))
    with pytest.raises(Refused) as refused:
        await create(customer, grade="A")
    assert refused.value.violations == {"account.custom.must": "REQUIRED"}
    assert (await create(customer, must="x")).name


@pytest.mark.usefixtures("defined")
async def test_an_update_of_one_key_leaves_the_others(customer: Service) -> None:
    made = await create(customer, grade="A", seats=1)
    changed = await customer.sales1.UpdateAccount(
        account={"name": made.name, "custom": {"seats": 2}}, updateMask="custom.seats"
    )
    assert json_format.MessageToDict(changed.custom) == {"grade": "A", "seats": 2.0}


@pytest.mark.usefixtures("defined")
async def test_lists_filter_and_order_by_them(customer: Service) -> None:
    mark = uuid4().hex[:8]
    seats = {
        n: (await create(customer, mark, seats=n, grade="A" if n < 10 else "B")).name for n in (9, 10, 2)
    }
    bare = (await create(customer, mark)).name
    mine = f'display_name = "自定义{mark}*"'

    async def names(**asked: Any) -> list[str]:
        return [row.name for row in (await customer.sales1.ListAccounts(**asked)).accounts]

    assert set(await names(filter=f"{mine} AND custom.seats > 2")) == {seats[9], seats[10]}
    assert await names(filter=f'{mine} AND custom.grade = "B"') == [seats[10]]
    assert (await names(filter=mine, orderBy="custom.seats"))[-3:] == [seats[2], seats[9], seats[10]]
    assert len(await names(filter=mine, orderBy="custom.seats desc")) == 4
    paged: list[str] = []
    token = ""
    while True:
        page = await customer.sales1.ListAccounts(
            filter=mine, orderBy="custom.seats", pageSize=1, pageToken=token
        )
        paged += [row.name for row in page.accounts]
        if not (token := page.next_page_token):
            break
    assert sorted(paged) == sorted([*seats.values(), bare])


async def test_a_portal_has_the_fields_that_are_for_it_and_no_others(customer: Service) -> None:
    config, sales, mark = customer.running.config, customer.sales1, uuid4().hex
    fields = [
        {"key": "inner", "kind": "TEXT", "searchable": True},
        {"key": "shown", "kind": "TEXT", "portal": "READ"},
        {"key": "asked", "kind": "TEXT", "portal": "EDIT"},
    ]
    async with customer.parts.configuration() as bucket:
        keys = ("customField.accounts", "customField.consents")
        for key in keys:
            await bucket.put(key, {"fields": fields})
        await customer.eventually(lambda: all(config.get(key) is not None for key in keys))
        try:
            given = {"inner": f"内部{mark}", "shown": f"给看{mark}", "asked": f"可改{mark}"}
            made = await create(customer, **given)
            person = await sales.CreateContact(contact={"displayName": "门户人", "account": made.name})
            claims = {"account": made.name, "contact": person.name}
            user = customer.client("customer", **claims)
            seen = json_format.MessageToDict((await user.GetAccount(name=made.name)).custom)
            assert seen == {"shown": given["shown"], "asked": given["asked"]}
            own = await user.ListAccounts(filter=f'custom.shown = "给看{mark}"')
            assert [one.name for one in own.accounts] == [made.name]
            with pytest.raises(Refused):
                await user.ListAccounts(filter=f'custom.inner = "内部{mark}"')
            # Search finds nothing by what it does not show.
            assert not (await user.ListAccounts(q=f"内部{mark}")).accounts
            assert (await sales.ListAccounts(q=f"内部{mark}")).accounts
            # What he makes himself has what is for him to say, and nothing else.
            said = {
                "subject": made.name, "channel": "EMAIL", "purpose": "MARKETING", "decision": "WITHDRAWN",
                "source": "PORTAL",
            }  # fmt: skip
            for key, reason in (("shown", "FIELD_READ_ONLY"), ("inner", "CUSTOM_FIELD_UNKNOWN")):
                with pytest.raises(Refused) as refused:
                    await user.CreateConsent(consent={**said, "custom": {key: "别的"}})
                assert refused.value.violations == {f"consent.custom.{key}": reason}
            consent = await user.CreateConsent(consent={**said, "custom": {"asked": "新"}})
            assert json_format.MessageToDict(consent.custom) == {"asked": "新"}
        finally:
            for key in keys:
                await bucket.delete(key)
            await customer.eventually(lambda: all(config.get(key) is None for key in keys))
