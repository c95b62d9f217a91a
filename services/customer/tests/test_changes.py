"""Changed rows are written by text in one round trip with what is told of them, and by the ORM where that cannot be."""

from typing import Any
from uuid import uuid4

import pytest
from crmkit.rpc import problem_of
from crmkit.testing import Service
from customer.model.account import Account
from sqlalchemy.orm.exc import StaleDataError

CHANGED = "crm.customer.v1.ResourceChanged"


async def account_of(customer: Service) -> Any:
    return await customer.sales1.CreateAccount(account={"displayName": f"改写{uuid4().hex[:8]}"})


@pytest.mark.parametrize("nested", [False, True], ids=["by text", "by the ORM"])
async def test_who_changes_what_another_has_changed_meanwhile_changes_and_tells_nothing(
    customer: Service, nested: bool
) -> None:
    made = await account_of(customer)
    with pytest.raises(StaleDataError) as refused:
        async with customer.running.system_call("test", None) as call:
            row = await call.named(Account, made.name)
            assert row is not None
            await customer.sales1.UpdateAccount(
                account={"name": made.name, "background": "先到"}, updateMask="background"
            )
            row.background = "后到"
            if nested:
                async with call.db.begin_nested():
                    await call.flush()
    assert problem_of(refused.value).reason == "ETAG_MISMATCH"
    assert (await customer.sales1.GetAccount(name=made.name)).background == "先到"
    told = await customer.facts(CHANGED, made.name)
    assert [one["resource"].get("background") for one in told] == [None, "先到"]


async def test_who_changes_what_is_gone_meanwhile_tells_nothing(customer: Service) -> None:
    made = await account_of(customer)
    with pytest.raises(StaleDataError) as refused:
        async with customer.running.system_call("test", None) as call:
            row = await call.named(Account, made.name)
            assert row is not None
            await customer.admin.DeleteAccount(name=made.name)
            row.background = "后到"
    assert problem_of(refused.value).reason == "ETAG_MISMATCH"
    assert [one["action"] for one in await customer.facts(CHANGED, made.name)] == ["CREATED", "DELETED"]


async def test_a_row_changed_twice_in_one_call_has_two_versions_and_its_last_values(
    customer: Service,
) -> None:
    made = await account_of(customer)
    async with customer.running.system_call("test", None) as call:
        row = await call.named(Account, made.name, lock=True)
        assert row is not None
        for background in ("一", "二"):
            row.background = background
            await call.flush()
        # What is set to what it was is no change.
        row.background = "二"
    now = await customer.sales1.GetAccount(name=made.name)
    assert (now.background, now.etag) == ("二", "3")
    told = await customer.facts(CHANGED, made.name)
    assert [(one["action"], one.get("before")) for one in told[1:]] == [
        ("UPDATED", {"background": None}),
        ("UPDATED", {"background": "一"}),
    ]
