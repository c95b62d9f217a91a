"""Dictionaries: what ships, what merges, what stays."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from crmkit.auth import ZONE
from crmkit.catalog import resources
from crmkit.testing import Refused, Service
from google.protobuf.json_format import MessageToDict


async def test_every_dictionary_that_a_field_names_is_there(workspace: Service) -> None:
    named = {
        field.rule.dictionary
        for described in resources().values()
        for field in described.fields.values()
        if field.rule.dictionary
    }
    page = await workspace.admin.ListDictionaries(pageSize=200)
    shipped = {dictionary.key: dictionary for dictionary in page.dictionaries}
    assert named - shipped.keys() == set()
    codes = {entry.key: entry for entry in shipped["resolutionCodes"].entries}
    assert codes["SOLVED_ON_SITE"].parent == "SOLVED" and codes["SOLVED"].label.en == "Solved"


async def test_an_entry_is_merged_into_another_one(workspace: Service, office: Any) -> None:
    admin = workspace.admin
    entries = [
        {"key": key, "label": {"zh": key}, "parent": parent}
        for key, parent in (("A", ""), ("A1", "A"), ("A2", "A"), ("B", ""), ("C", ""))
    ]
    made = await admin.CreateDictionary(
        dictionary={"key": "merging", "displayName": "合并", "entries": entries}
    )
    await admin.PublishDictionary(name=made.name)

    async def refused(key: str, into: str) -> str:
        return await office.refusal(admin.MergeDictionaryEntry(name=made.name, key=key, into=into))

    assert await refused("A", "A1") == "DICTIONARY_ITEM_CYCLE"
    assert await refused("A", "A") == "DICTIONARY_ITEM_CYCLE"
    assert await refused("A", "Z") == "DICTIONARY_ITEM_UNKNOWN"
    await admin.MergeDictionaryEntry(name=made.name, key="A2", into="A1")
    merged = await admin.MergeDictionaryEntry(name=made.name, key="A", into="B")
    by_key = {entry.key: entry for entry in merged.entries}
    assert (by_key["A"].retired, by_key["A"].merged_into) == (True, "B")
    assert (by_key["A1"].parent, by_key["A2"].merged_into) == ("B", "A1")
    assert await refused("C", "A") == "DICTIONARY_ITEM_RETIRED"
    assert await refused("A", "C") == "DICTIONARY_ITEM_RETIRED"
    # What became the entry follows it.
    await admin.MergeDictionaryEntry(name=made.name, key="A1", into="C")
    again = await admin.GetDictionary(name=made.name)
    assert {entry.key: entry.merged_into for entry in again.entries}["A2"] == "C"
    facts = await workspace.facts("crm.workspace.v1.DictionaryItemMerged", made.name)
    assert [(fact["entry"], fact["into"]) for fact in facts] == [("A2", "A1"), ("A", "B"), ("A1", "C")]
    entry = await workspace.eventually(
        lambda: (
            (found := workspace.running.config.get("dictionary.merging"))
            and any(one.get("mergedInto") == "C" for one in found["entries"])
            and found
        ),
        30,
    )
    assert [one["key"] for one in entry["entries"] if not one["retired"]] == ["B", "C"]
    assert await office.refusal(admin.DeleteDictionary(name=made.name)) == "DICTIONARY_IN_USE"


async def test_a_dictionary_that_a_field_chooses_from_stays(workspace: Service, office: Any) -> None:
    admin = workspace.admin
    made = await admin.CreateDictionary(dictionary={"key": "chosen_from", "displayName": "被选"})
    field = {
        "collection": "tasks", "key": "choosing", "displayName": "选", "kind": "CHOICE", "dictionary": "chosen_from",
    }  # fmt: skip
    user = await admin.CreateCustomField(customField=field)
    assert await office.refusal(admin.DeleteDictionary(name=made.name)) == "DICTIONARY_IN_USE"
    await admin.DeleteCustomField(name=user.name)
    await admin.DeleteDictionary(name=made.name)


async def test_an_entry_is_chosen_only_while_it_is_valid_and_stays_on_old_records(
    workspace: Service, office: Any
) -> None:
    today = datetime.now(ZONE).date()

    def day(days: int) -> dict[str, int]:
        found = today + timedelta(days=days)
        return {"year": found.year, "month": found.month, "day": found.day}

    admin = workspace.admin
    dictionary = next(
        one
        for one in (await admin.ListDictionaries(pageSize=200)).dictionaries
        if one.key == "export_purposes"
    )
    before = [MessageToDict(entry) for entry in dictionary.entries]
    more = [
        {"key": "PAST", "label": {"zh": "过去"}, "validTo": day(-1)},
        {"key": "TO_COME", "label": {"zh": "将来"}, "validFrom": day(1)},
        {"key": "TODAY", "label": {"zh": "今天"}, "validFrom": day(0), "validTo": day(0)},
    ]

    async def change(entries: list[Any]) -> Any:
        body = {"name": dictionary.name, "entries": entries}
        return await admin.UpdateDictionary(dictionary=body, updateMask="entries")

    twisted = {"key": "TWISTED", "label": {"zh": "反"}, "validFrom": day(2), "validTo": day(1)}
    assert await office.refusal(change([*before, twisted])) == "VALIDATION"
    await change([*before, *more])
    await admin.PublishDictionary(name=dictionary.name)
    await workspace.eventually(
        lambda: any(
            entry["key"] == "TODAY"
            for entry in workspace.running.config.get("dictionary.export_purposes")["entries"]
        )
    )
    export = {"collection": "tasks", "purposeText": "季度销售分析会使用的材料"}
    for key in ("PAST", "TO_COME"):
        with pytest.raises(Refused) as refused:
            await workspace.sales1.CreateExport(export={**export, "purpose": key})
        assert refused.value.violations == {"export.purpose": "DICTIONARY_ITEM_RETIRED"}
    made = await workspace.sales1.CreateExport(export={**export, "purpose": "TODAY"})
    # What has been published once may stand in any record, so it does not go; it ends.
    assert await office.refusal(change(before)) == "DICTIONARY_ITEM_PUBLISHED"
    await change([*before, *more[:2], {**more[2], "validFrom": day(-9), "validTo": day(-1)}])
    assert (await workspace.sales1.GetExport(name=made.name)).purpose == "TODAY"
    page = await workspace.sales1.ListExports(filter='purpose = "TODAY"')
    assert [one.name for one in page.exports] == [made.name]
