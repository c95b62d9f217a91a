"""Values of dictionaries in records: retired ones are kept and not chosen, merged ones become the other."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Refused, Service
from google.protobuf import json_format
from sqlalchemy import text


async def told(customer: Service, retired: bool, merged: bool = False) -> None:
    """The dictionary of industries and a field that chooses from it, as workspace publishes them."""
    config = customer.running.config
    entries = [
        {
            "key": "OLD_TRADE",
            "label": {"zh": "旧行业", "en": "Old"},
            "retired": retired,
            **({"mergedInto": "NEW_TRADE"} if merged else {}),
        },
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


# A hundred thousand take as many chunks more; `MERGED_ROWS=100000` runs it with them.
MERGED = int(os.environ.get("MERGED_ROWS", "2000"))


@pytest.mark.capability("a.dict")
@pytest.mark.usefixtures("dictionary")
async def test_a_merge_killed_in_the_middle_goes_on_and_old_links_find_what_became_of_it(
    customer: Service,
) -> None:
    """Thousands of records, the run killed three times; a filter of before finds all of them at every moment."""
    sales, mark = customer.sales1, f"并{uuid4().hex[:8]}"
    first = await sales.CreateAccount(account={"displayName": f"{mark}首家商行", "industry": "OLD_TRADE"})
    copied = text(
        "INSERT INTO accounts SELECT (jsonb_populate_record(a, jsonb_build_object('id', gen_random_uuid(),"
        " 'number', a.number || '-' || n, 'display_name', a.display_name || n))).*"
        " FROM accounts AS a, generate_series(CAST(:first AS int), CAST(:last AS int)) AS n WHERE a.id = :id"
    )
    for begin in range(2, MERGED + 1, 5000):
        part = {"first": begin, "last": min(begin + 4999, MERGED), "id": first.name.partition("/")[2]}
        async with customer.running.system_call("test", None) as call:
            await call.db.execute(copied, part)
    old_link = f'display_name = "{mark}*" AND industry = "OLD_TRADE"'

    async def found(filter: str) -> int:
        rows = (await sales.AggregateAccounts(filter=filter)).rows
        return int(rows[0].count) if rows else 0

    assert await found(old_link) == MERGED
    await told(customer, retired=True, merged=True)
    payload = {"dictionary": "industries", "entry": "OLD_TRADE", "into": "NEW_TRADE"}
    loop = next(task for task in customer.running._tasks if task.get_name() == "customer runs")
    await customer.tell("crm.workspace.v1.DictionaryItemMerged", payload, f"dictionaries/{uuid4()}")
    new = f'display_name = "{mark}*" AND industry = "NEW_TRADE"'
    for kill in range(3):
        before = await found(f'{new} AND industry != "OLD_TRADE"')

        async def further(least: int = before) -> bool:
            return await found(new) > least

        await customer.eventually(further, 60)
        # Between any two statements: what the chunk has written so far is lost with its transaction.
        await asyncio.sleep(0.03 * kill)
        loop.cancel()
        await asyncio.wait([loop])
        assert await found(old_link) == MERGED
        loop = asyncio.create_task(customer.running.runs.run(), name="customer runs")
        customer.running._tasks.append(loop)

    async def all_of_them() -> bool:
        return await found(new) == MERGED

    begun = time.monotonic()
    await customer.eventually(all_of_them, max(300, MERGED / 100))
    print(f"{MERGED} rows, of which the last run rewrote what was left in {time.monotonic() - begun:.0f} s")
    assert await found(old_link) == MERGED
    assert await found(f'display_name = "{mark}*" AND NOT industry = "OLD_TRADE"') == 0


@pytest.mark.usefixtures("dictionary")
async def test_an_entry_of_a_department_is_for_its_records_and_stays_where_it_is(customer: Service) -> None:
    """By the record's department, whoever writes it: fields of the service's own, lists of fields of its administrators."""
    home, config = customer.person("sales1").department, customer.running.config
    entries = [
        {"key": "HERE", "label": {"zh": "本部"}, "departments": [home]},
        {"key": "THERE", "label": {"zh": "他部"}, "departments": [f"departments/{uuid4()}"]},
        {"key": "OLD_TRADE", "label": {"zh": "旧"}},
    ]

    async def live() -> None:
        async with customer.parts.configuration() as bucket:
            await bucket.put("dictionary.industries", {"entries": entries})
            await customer.eventually(lambda: config.get("dictionary.industries") == {"entries": entries}, 30)

    await live()
    name = f"部{uuid4().hex[:8]}第一商行"
    custom = {"trades": ["HERE", "OLD_TRADE"]}
    made = await customer.sales1.CreateAccount(
        account={"displayName": name, "industry": "HERE", "custom": custom}
    )
    for body in ({"industry": "THERE"}, {"custom": {"trades": ["THERE"]}}):
        with pytest.raises(Refused) as refused:
            await customer.sales1.CreateAccount(account={"displayName": f"{name}二", **body})
        assert set(refused.value.violations.values()) == {"DICTIONARY_ITEM_ELSEWHERE"}
    # It moves elsewhere: what has the entry keeps it, and what else there is changes.
    entries[0]["departments"] = [f"departments/{uuid4()}"]
    await live()
    change = {"name": made.name, "industry": "HERE", "background": "x", "custom": {"trades": ["HERE"]}}
    kept = await customer.sales1.UpdateAccount(account=change, updateMask="industry,background")
    assert (kept.industry, kept.background) == ("HERE", "x")
    found = await customer.sales1.ListAccounts(filter=f'display_name = "{name}" AND industry = "HERE"')
    assert len(found.accounts) == 1
    change["industry"] = "THERE"
    with pytest.raises(Refused) as refused:
        await customer.sales1.UpdateAccount(account=change, updateMask="industry")
    assert refused.value.violations == {"account.industry": "DICTIONARY_ITEM_ELSEWHERE"}


@pytest.mark.usefixtures("dictionary")
async def test_uses_of_entries_are_counted_wherever_a_field_holds_them(customer: Service) -> None:
    name = f"用{uuid4().hex[:8]}第一商行"
    before = await uses(customer)
    both = {"trades": ["OLD_TRADE", "NEW_TRADE"], "trade": "OLD_TRADE"}
    await customer.sales1.CreateAccount(
        account={"displayName": name, "industry": "NEW_TRADE", "custom": both}
    )
    after = await uses(customer)
    more = {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}
    assert more == {
        ("NEW_TRADE", "accounts", "industry"): 1,
        ("NEW_TRADE", "accounts", "custom.trades"): 1,
        ("OLD_TRADE", "accounts", "custom.trades"): 1,
        ("OLD_TRADE", "accounts", "custom.trade"): 1,
    }


async def uses(customer: Service) -> dict[tuple[str, str, str], int]:
    """What the service tells when it is asked how the industries are used."""
    subject, asked = "crm.customer.v1.DictionaryUsesCounted", datetime.now(UTC).isoformat()
    known = len(await customer.facts(subject))
    await customer.tell(
        "crm.workspace.v1.DictionaryUsesAsked", {"dictionary": "industries", "askedTime": asked}
    )

    async def answered() -> Any:
        facts = await customer.facts(subject)
        return facts[-1] if len(facts) > known else None

    answer = await customer.eventually(answered, 60)
    assert answer["service"] == "customer"
    return {(one["entry"], one["collection"], one["field"]): one["count"] for one in answer.get("uses", [])}
