"""What a custom field may be, and what every service is told of it."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.testing import Refused, Service
from google.protobuf import json_format
from sqlalchemy import text


async def test_a_field_that_cannot_be_is_refused_with_its_reason(workspace: Service, office: Any) -> None:
    admin = workspace.admin

    async def reason(key: str, kind: str = "TEXT", **more: Any) -> str:
        field = {"collection": "accounts", "key": key, "displayName": "字段", "kind": kind, **more}
        return await office.refusal(admin.CreateCustomField(customField=field))

    # Whatever way it is written, a built-in name is not given away.
    for taken in ("display_name", "displayname", "owner", "custom", "etag", "id", "phones", "number"):
        assert await reason(taken) == "FIELD_KEY_TAKEN", taken
    assert await reason("9lives") == "FIELD_KEY_INVALID"
    assert await reason("a", "LONG_TEXT", unique=True) == "FIELD_INVALID"
    assert await reason("a", unique=True, defaultValue="x") == "FIELD_INVALID"
    assert await reason("a", "NUMBER", searchable=True) == "FIELD_INVALID"
    assert await reason("a", searchable=True, roles=["sales_manager"]) == "FIELD_INVALID"
    assert await reason("a", roles=["nobody_has_it"]) == "ROLE_UNKNOWN"
    assert await reason("a", roles=["sales_manager"], portal="READ") == "FIELD_INVALID"
    assert await reason("a", "URL", pattern="https://.*") == "FIELD_INVALID"
    assert await reason("a", "REFERENCE", references="unicorns") == "COLLECTION_UNKNOWN"
    assert await reason("a", maxLength=20001) == "FIELD_INVALID"
    for formula, refusal in (
        ("", "VALIDATION"), ("display_name * 2", "FORMULA_INVALID"), ("custom.not_there", "FORMULA_INVALID"),
        ("1 +", "FORMULA_INVALID"), ("owner", "FORMULA_INVALID"), ("custom.a + 1", "FORMULA_CYCLE"),
    ):  # fmt: skip
        assert await reason("a", "FORMULA", formula=formula) == refusal, formula
    assert await reason("a", "FORMULA", formula="1", required=True) == "FIELD_INVALID"
    assert await reason("a", "FORMULA", formula="1", portal="EDIT") == "FIELD_INVALID"
    for kind, limits in (
        ("TEXT", {"minValue": "1"}),
        ("NUMBER", {"minValue": "many"}),
        ("NUMBER", {"minValue": "10", "maxValue": "9"}),
        ("DATE", {"maxValue": "2026-02-30"}),
        ("NUMBER", {"pattern": "[0-9]+"}),
        ("TEXT", {"pattern": "("}),
        ("TEXT", {"pattern": r"(a)\1"}),
        ("TEXT", {"visibleIf": {"field": "custom.not_there", "values": ["A"]}}),
        ("TEXT", {"visibleIf": {"field": "custom.a", "values": ["A"]}}),
        ("TEXT", {"visibleIf": {"field": "phones", "values": ["A"]}}),
        ("TEXT", {"visibleIf": {"field": "number", "values": ["A"]}}),
    ):
        assert await reason("a", kind, **limits) == "FIELD_INVALID", (kind, limits)
    assert await reason("a", "NUMBER", minValue="10", defaultValue="9") == "VALIDATION"
    for wrong, path in (
        ({"kind": "CHOICE"}, "choices"),
        ({"kind": "CHOICE", "dictionary": "no_such"}, "dictionary"),
        ({"kind": "REFERENCE"}, "references"),
        ({"kind": "NUMBER", "defaultValue": "many"}, "default_value"),
        ({"kind": "DATE", "defaultValue": "soon"}, "default_value"),
        ({"kind": "CHOICE", "dictionary": "industries", "defaultValue": "没有这行业"}, "default_value"),
    ):
        with pytest.raises(Refused) as refused:
            await admin.CreateCustomField(
                customField={"collection": "accounts", "key": "b", "displayName": "字段", **wrong}
            )
        assert list(refused.value.violations) == [f"custom_field.{path}"], wrong


async def test_every_service_is_told_all_of_a_field(workspace: Service, office: Any) -> None:
    admin, config = workspace.admin, workspace.running.config
    made: dict[str, Any] = {}
    for position, (key, kind, more) in enumerate(
        [
            ("told_money", "MONEY", {"defaultValue": "USD 1,200.50"}),
            ("told_date", "DATE", {"defaultValue": "today", "required": True}),
            ("told_choice", "MULTI_CHOICE", {"dictionary": "industries"}),
            ("told_secret", "TEXT", {"roles": ["sales_manager"], "englishName": "Secret"}),
            ("told_unique", "TEXT", {"unique": True, "searchable": True}),
        ]
    ):
        field = {
            "collection": "leads",
            "key": key,
            "displayName": key,
            "kind": kind,
            "position": 9 - position,
            **more,
        }
        made[key] = await admin.CreateCustomField(customField=field)
        await admin.ActivateCustomField(name=made[key].name)
    entry = await workspace.eventually(
        lambda: (
            len((config.get("customField.leads") or {"fields": []})["fields"]) == 5
            and config.get("customField.leads")
        ),
        30,
    )
    by_key = {field["key"]: field for field in entry["fields"]}
    assert list(by_key) == list(reversed(made))
    assert by_key["told_money"]["default"] == {"currencyCode": "USD", "amount": "1200.50"}
    assert (by_key["told_date"]["default"], by_key["told_date"]["required"]) == ("today", True)
    assert by_key["told_choice"]["dictionary"] == "industries"
    assert (by_key["told_secret"]["roles"], by_key["told_secret"]["label"]["en"]) == (
        ["sales_manager"],
        "Secret",
    )
    assert by_key["told_unique"]["unique"] and by_key["told_unique"]["searchable"]
    twice = {"collection": "leads", "key": "told_money", "displayName": "再来", "kind": "TEXT"}
    assert await office.refusal(admin.CreateCustomField(customField=twice)) == "FIELD_KEY_TAKEN"
    with pytest.raises(Refused) as refused:
        change = {"name": made["told_unique"].name, "unique": False}
        await admin.UpdateCustomField(customField=change, updateMask="unique")
    assert refused.value.violations == {"custom_field.unique": "IMMUTABLE"}
    # The holder of a role has what the role's fields ask for; others, and customers, have not.
    directory = workspace.running.directory
    manager = directory.explained(workspace.person("manager").employee)
    seller = directory.explained(workspace.person("sales1").employee)
    assert manager and manager.may("custom.leads.told_secret") and manager.may("custom.staff")
    assert seller and not seller.may("custom.leads.told_secret") and seller.may("custom.staff")
    for one in made.values():
        await admin.RetireCustomField(name=one.name)


async def test_a_field_is_hidden_and_shown_again(workspace: Service, office: Any) -> None:
    admin, fields = workspace.admin, workspace.running.directory.custom

    def told() -> Any:
        return fields.of("notes").get("hide_me")

    field = {"collection": "notes", "key": "hide_me", "displayName": "隐藏", "kind": "TEXT", "portal": "READ"}
    made = await admin.CreateCustomField(customField=field)
    assert await office.refusal(admin.HideCustomField(name=made.name)) == "ILLEGAL_TRANSITION"
    await admin.ActivateCustomField(name=made.name)
    hidden = await admin.HideCustomField(name=made.name)
    assert hidden.state == pb.CustomField.HIDDEN
    await workspace.eventually(lambda: told() and told().hidden and told().portal == "READ", 30)
    assert (await admin.ActivateCustomField(name=made.name)).state == pb.CustomField.ACTIVE
    await workspace.eventually(lambda: not told().hidden, 30)
    await admin.HideCustomField(name=made.name)
    assert (await admin.RetireCustomField(name=made.name)).state == pb.CustomField.RETIRED


async def test_a_record_keeps_the_limits_the_pattern_and_the_condition_of_its_fields(
    workspace: Service,
) -> None:
    admin, sales = workspace.admin, workspace.sales1
    made: list[Any] = []
    for key, kind, more in (
        ("lim_kind", "CHOICE", {"choices": [{"key": "GIFT"}, {"key": "TRIP"}]}),
        ("lim_people", "NUMBER", {"minValue": "1", "maxValue": "9.5"}),
        ("lim_budget", "MONEY", {"maxValue": "5000"}),
        ("lim_day", "DATE", {"minValue": "2026-01-01"}),
        ("lim_code", "TEXT", {"pattern": "[A-Z]{2}[0-9]{4}"}),
        (
            "lim_city",
            "TEXT",
            {"required": True, "visibleIf": {"field": "custom.lim_kind", "values": ["TRIP"]}, "position": 0},
        ),
    ):
        field = {"collection": "notes", "key": key, "displayName": key, "kind": kind, **more}
        made.append(await admin.CreateCustomField(customField=field))
        await admin.ActivateCustomField(name=made[-1].name)
    try:
        await workspace.eventually(lambda: "lim_city" in workspace.running.directory.custom.of("notes"), 30)
        body = {"displayName": "有限制", "body": "正文"}
        fits: dict[str, Any] = {
            "lim_people": 9.5,
            "lim_budget": {"currencyCode": "USD", "amount": "5000"},
            "lim_day": "2026-01-01",
            "lim_code": "AB1234",
        }
        note = await sales.CreateNote(note={**body, "custom": fits})
        for key, value, expected in (
            ("lim_people", 0, "TOO_SMALL"),
            ("lim_people", "9.51", "TOO_LARGE"),
            ("lim_budget", {"currencyCode": "CNY", "amount": "5000.01"}, "TOO_LARGE"),
            ("lim_day", "2025-12-31", "TOO_SMALL"),
            ("lim_code", "xAB1234", "WRONG_FORMAT"),
            ("lim_code", "AB1234\n", "WRONG_FORMAT"),
        ):
            with pytest.raises(Refused) as refused:
                await sales.CreateNote(note={**body, "custom": {key: value}})
            assert refused.value.violations == {f"note.custom.{key}": expected}, (key, value)
        # It is asked for only where it is shown, also when the other field changes later.
        assert (await sales.CreateNote(note={**body, "custom": {"lim_kind": "GIFT"}})).name
        with pytest.raises(Refused) as refused:
            change = {"name": note.name, "custom": {"lim_kind": "TRIP"}}
            await sales.UpdateNote(note=change, updateMask="custom.limKind")
        assert refused.value.violations == {"note.custom.lim_city": "REQUIRED"}
        change = {"name": note.name, "custom": {"lim_kind": "TRIP", "lim_city": "三亚"}}
        changed = await sales.UpdateNote(note=change, updateMask="custom.limKind,custom.limCity")
        assert changed.custom["lim_city"] == "三亚"
        # What decides over another is always shown itself.
        with pytest.raises(Refused) as refused:
            condition = {"field": "custom.lim_code", "values": ["AB1234"]}
            await admin.UpdateCustomField(
                customField={"name": made[0].name, "visibleIf": condition}, updateMask="visibleIf"
            )
        assert refused.value.reason == "FIELD_INVALID"
    finally:
        for one in made:
            await admin.RetireCustomField(name=one.name)


async def test_a_field_in_use_changes_its_kind_and_the_values_of_records_follow(
    workspace: Service, office: Any
) -> None:
    admin, sales = workspace.admin, workspace.sales1
    fields = workspace.running.directory.custom

    async def change(name: str, kind: str) -> Any:
        return await admin.UpdateCustomField(customField={"name": name, "kind": kind}, updateMask="kind")

    colours = {"choices": [{"key": "red"}, {"key": "blue"}]}
    kinds = {
        "turn_choice": "CHOICE", "turn_long": "LONG_TEXT", "turn_number": "NUMBER", "turn_money": "MONEY", "turn_bool": "BOOL",
        "turn_many": "MULTI_CHOICE", "turn_one": "CHOICE", "turn_unique": "NUMBER",
    }  # fmt: skip
    made: dict[str, Any] = {}
    for key, kind in kinds.items():
        field = {
            "collection": "notes",
            "key": key,
            "displayName": key,
            "kind": kind,
            "unique": key == "turn_unique",
        }
        made[key] = await admin.CreateCustomField(customField=field | (colours if "CHOICE" in kind else {}))
    # Nobody has a value of a draft.
    assert (await change(made["turn_number"].name, "BOOL")).kind == pb.CustomField.BOOL
    assert (await change(made["turn_number"].name, "NUMBER")).kind == pb.CustomField.NUMBER
    for one in made.values():
        await admin.ActivateCustomField(name=one.name)
    try:
        await workspace.eventually(lambda: made.keys() <= fields.of("notes").keys(), 30)
        given = {
            "turn_choice": "red", "turn_long": "长" * 2500, "turn_number": 7.5, "turn_bool": True, "turn_many": ["red", "blue"],
            "turn_money": {"currencyCode": "CNY", "amount": "9.50"}, "turn_one": "blue",
        }  # fmt: skip
        note = await sales.CreateNote(note={"displayName": "换类型", "custom": given})
        for key, kind in (
            ("turn_unique", "TEXT"),
            ("turn_choice", "LONG_TEXT"),
            ("turn_long", "DATE"),
            ("turn_number", "MONEY"),
            ("turn_many", "CHOICE"),
        ):
            assert await office.refusal(change(made[key].name, kind)) == "FIELD_TYPE_CHANGE", (key, kind)
        for key in given:
            await change(made[key].name, "MULTI_CHOICE" if key == "turn_one" else "TEXT")
        wanted = {
            "turn_choice": "red", "turn_long": given["turn_long"], "turn_number": "7.5", "turn_bool": "true",
            "turn_many": "red; blue", "turn_money": "CNY 9.50", "turn_one": ["blue"],
        }  # fmt: skip

        async def followed() -> bool:
            return json_format.MessageToDict((await sales.GetNote(name=note.name)).custom) == wanted

        await workspace.eventually(followed, 30)
        for condition in ('custom.turn_choice = "red"', 'custom.turn_number = "7.5"', "custom.turn_one:blue"):
            found = await sales.ListNotes(filter=condition)
            assert [one.name for one in found.notes] == [note.name], condition
        change_both = {"name": note.name, "custom": {"turn_choice": "随便", "turn_long": "长" * 2501}}
        changed = await sales.UpdateNote(note=change_both, updateMask="custom.turnChoice,custom.turnLong")
        assert changed.custom["turn_choice"] == "随便"
    finally:
        for one in made.values():
            await admin.RetireCustomField(name=one.name)


async def test_the_values_of_a_field_are_purged_ninety_days_after_nothing_needs_it_any_more(
    workspace: Service, office: Any
) -> None:
    admin, sales = workspace.admin, workspace.sales1
    config = workspace.running.config

    def told() -> Any:
        return workspace.running.directory.custom.of("notes").get("gone")

    field = {"collection": "notes", "key": "gone", "displayName": "要清除", "kind": "TEXT"}
    made = await admin.CreateCustomField(customField={**field, "unique": True, "searchable": True})
    await admin.ActivateCustomField(name=made.name)
    await workspace.eventually(told, 30)
    mark = uuid4().hex
    notes = [
        await sales.CreateNote(note={"displayName": "有值", "body": "正文", "custom": {"gone": f"{mark}{n}"}})
        for n in range(3)
    ]
    assert (await sales.ListNotes(q=mark)).notes

    async def left() -> list[Any]:
        async with workspace.running.call("test", system("workspace")) as call:
            return [
                await call.db.scalar(text(f"SELECT count(*) FROM {table}"))
                for table in ("notes WHERE custom ? 'gone'", "custom_values WHERE key = 'gone'")
            ]

    assert await left() == [3, 3]
    view = {"collection": "notes", "displayName": "按它筛选", "filter": 'custom.gone = "x"'}
    needs = await sales.CreateSavedView(savedView=view)
    assert await office.refusal(admin.PurgeCustomField(name=made.name)) == "ILLEGAL_TRANSITION"
    assert (await admin.RetireCustomField(name=made.name)).HasField("retire_time")
    assert await office.refusal(admin.PurgeCustomField(name=made.name)) == "FIELD_NOT_PURGEABLE"
    async with workspace.running.call("test", system("workspace")) as call:
        earlier = "UPDATE custom_fields SET retire_time = retire_time - interval '91 days' WHERE id = :id"
        await call.db.execute(text(earlier), {"id": UUID(made.name.partition("/")[2])})
    with pytest.raises(Refused) as refused:
        await admin.PurgeCustomField(name=made.name)
    assert refused.value.reason == "FIELD_NOT_PURGEABLE" and needs.name in str(refused.value)
    await sales.DeleteSavedView(name=needs.name)
    assert (await admin.PurgeCustomField(name=made.name)).state == pb.CustomField.PURGING

    async def purged() -> Any:
        found = await admin.GetCustomField(name=made.name)
        return found if found.state == pb.CustomField.PURGED else None

    found = await workspace.eventually(purged)
    assert found.purged_records == 3 and found.HasField("purge_time")
    (proof,) = await workspace.facts("crm.workspace.v1.CustomFieldPurged")
    assert (proof["customField"], proof["records"]) == (made.name, 3)
    for note in notes:
        assert "gone" not in (await sales.GetNote(name=note.name)).custom
        change = (await workspace.facts("crm.workspace.v1.ResourceChanged", note.name))[-1]
        assert "gone" not in change["resource"].get("custom", {})
    assert not (await sales.ListNotes(q=mark)).notes
    assert await left() == [0, 0]
    # Then it is as if it had never been, and its key may be given again.
    await workspace.eventually(lambda: told() is None, 30)
    assert config.get("customField.notes") is None or "gone" not in str(config.get("customField.notes"))
    await admin.DeleteCustomField(name=made.name)
    again = await admin.CreateCustomField(customField={**field, "kind": "NUMBER"})
    await admin.DeleteCustomField(name=again.name)


async def test_formulas_need_no_other_that_needs_them_and_what_they_need_stays(
    workspace: Service, office: Any
) -> None:
    admin, run = workspace.admin, uuid4().hex[:6]

    async def make(key: str, kind: str, **more: Any) -> Any:
        body = {"collection": "contacts", "key": f"{key}_{run}", "displayName": key, "kind": kind, **more}
        made = await admin.CreateCustomField(customField=body)
        return await admin.ActivateCustomField(name=made.name)

    area, _ = await make("area", "NUMBER"), await make("price", "MONEY")
    total = await make("total", "FORMULA", formula=f"custom.area_{run} * custom.price_{run}")
    asked = (await workspace.facts("crm.workspace.v1.CustomFieldRecastAsked", total.name))[-1]
    assert (asked["collection"], asked["formula"]) == ("contacts", total.formula)
    more = await make("more", "FORMULA", formula=f"custom.total_{run} + 1")

    async def change(row: Any, **values: Any) -> Any:
        return await admin.UpdateCustomField(
            customField={"name": row.name, **values}, updateMask=",".join(values)
        )

    assert await office.refusal(change(total, formula=f"custom.more_{run}")) == "FORMULA_CYCLE"
    # Who may not read a field must not learn it from what is reckoned from it.
    assert await office.refusal(change(area, roles=["sales_manager"])) == "FORMULA_INVALID"
    assert await office.refusal(change(more, portal="READ")) == "FORMULA_INVALID"
    assert await office.refusal(change(area, kind="TEXT")) == "FORMULA_INVALID"
    changed = await change(total, formula=f"custom.area_{run} * 2")
    asked = (await workspace.facts("crm.workspace.v1.CustomFieldRecastAsked", total.name))[-1]
    assert asked["formula"] == changed.formula
    # What it has made stays where it becomes a number that people write.
    assert (await change(more, kind="NUMBER")).formula == ""
