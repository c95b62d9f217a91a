"""Values of dictionaries in records: retired ones are kept and not chosen, merged ones become the other."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service
from google.protobuf import json_format


async def told(customer: Service, retired: bool) -> None:
    """The dictionary of industries and a field that chooses from it, as workspace publishes them."""
    config = customer.running.config
    entries = [
        {"key": "OLD_TRADE", "label": {"zh": "旧行业", "en": "Old"}, "retired": retired},
        {"key": "NEW_TRADE", "label": {"zh": "新行业", "en": "New"}},
    ]
    fields = [
        {"key": "trades", "kind": "MULTI_CHOICE", "dictionary": "industries"},
        {"key": "trade", "kind": "CHOICE", "dictionary": "industries"},
    ]
    wanted = {"dictionary.industries": {"entries": entries}, "customField.accounts": {"fields": fields}}
    async with customer.parts.configuration() as bucket:
        for key, value in wanted.items():
            await bucket.put(key, value)
        await customer.eventually(lambda: all(config.get(key) == value for key, value in wanted.items()), 30)


@pytest.fixture
async def dictionary(customer: Service) -> AsyncIterator[None]:
    before = customer.running.config.get("dictionary.industries")
    await told(customer, retired=False)
    yield
    async with customer.parts.configuration() as bucket:
        await bucket.delete("customField.accounts")
        if before is None:
            await bucket.delete("dictionary.industries")
        else:
            await bucket.put("dictionary.industries", before)
        await customer.eventually(lambda: customer.running.config.get("dictionary.industries") == before, 30)


@pytest.mark.usefixtures("dictionary")
async def test_a_merged_entry_becomes_the_other_in_every_record(customer: Service) -> None:
    sales, mark = customer.sales1, uuid4().hex[:8]

    async def make(number: int, **fields: Any) -> Any:
        return await sales.CreateAccount(account={"displayName": f"并{mark}第{number}号商行", **fields})

    both = {"trades": ["OLD_TRADE", "NEW_TRADE"], "trade": "OLD_TRADE"}
    first = await make(1, industry="OLD_TRADE", custom=both)
    second = await make(2, industry="OLD_TRADE")
    other = await make(3, industry="NEW_TRADE", background="OLD_TRADE")
    await told(customer, retired=True)
    with pytest.raises(Refused) as refused:
        await make(4, industry="OLD_TRADE")
    assert refused.value.violations == {"account.industry": "DICTIONARY_ITEM_RETIRED"}
    # Who has it keeps it, and changes what else there is.
    kept = await sales.UpdateAccount(
        account={"name": second.name, "industry": "OLD_TRADE", "background": "r"},
        updateMask="industry,background",
    )
    assert kept.industry == "OLD_TRADE"
    payload = {"dictionary": "industries", "entry": "OLD_TRADE", "into": "NEW_TRADE"}
    await customer.tell("crm.workspace.v1.DictionaryItemMerged", payload, f"dictionaries/{uuid4()}")

    async def rewritten() -> bool:
        page = await sales.ListAccounts(filter=f'display_name = "并{mark}*" AND industry = "NEW_TRADE"')
        return len(page.accounts) == 3

    await customer.eventually(rewritten, 30)

    async def custom() -> Any:
        found = json_format.MessageToDict((await sales.GetAccount(name=first.name)).custom)
        return found if found.get("trade") == "NEW_TRADE" and found["trades"] == ["NEW_TRADE"] else None

    await customer.eventually(custom, 30)
    changes = await customer.facts("crm.customer.v1.ResourceChanged", second.name)
    assert changes[-1]["before"]["industry"] == "OLD_TRADE" and changes[-1]["actor"] == "system/customer"
    assert (await sales.GetAccount(name=other.name)).etag == other.etag
