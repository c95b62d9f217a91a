"""What administrators change counts in every service within five seconds."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.auth import system
from crmkit.errors import NotFound
from crmkit.keys import ApiKey
from crmkit.mapping import mapper
from crmkit.testing import SECRET, Refused, Service
from sqlalchemy import text
from workspace.model.api_key import warn_of_keys
from workspace.model.task import Task

# Five seconds are promised; a machine that others use too gets three times as long.
WITHIN = 15.0


class Elsewhere:
    """The bucket as another service sees it."""

    def __init__(self, workspace: Service, config: Any) -> None:
        self.workspace, self.config = workspace, config

    async def has(self, key: str, **wanted: Any) -> Any:
        """The entry, once it has these values; it must not take longer than promised."""
        started = time.monotonic()

        def found() -> Any:
            entry = self.config.get(key)
            return (
                entry if entry and all(entry.get(name) == value for name, value in wanted.items()) else None
            )

        entry = await self.workspace.eventually(found)
        assert time.monotonic() - started < WITHIN
        return entry

    async def lacks(self, key: str) -> None:
        """The entry is gone."""
        await self.workspace.eventually(lambda: self.config.get(key) is None)


@pytest.fixture
async def elsewhere(workspace: Service) -> Any:
    async with workspace.parts.configuration() as config:
        yield Elsewhere(workspace, config)


async def test_a_change_of_a_role_counts_everywhere(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    role = await workspace.admin.CreateRole(
        role={
            "code": "reader",
            "displayName": "查看",
            "permissions": ["workspace.tasks.read"],
            "scope": "DEPARTMENT",
        }
    )
    entry = await elsewhere.has("role.reader", scope="DEPARTMENT")
    assert entry == {
        "permissions": ["workspace.tasks.read"],
        "scope": "DEPARTMENT",
        "label": {"zh": "查看", "en": "查看"},
    }
    person = await office.hire("reader.one", ["reader"])
    client = await office.client_of(person)
    assert await office.refusal(client.ListRoles()) == "PERMISSION_DENIED"
    change = {"name": role.name, "permissions": ["workspace.roles.read"]}
    await workspace.admin.UpdateRole(role=change, updateMask="permissions")
    await elsewhere.has("role.reader", permissions=["workspace.roles.read"])
    started = time.monotonic()

    async def allowed() -> bool:
        try:
            return bool(await client.ListRoles())
        except Refused:
            return False

    # The token is the one of before.
    await workspace.eventually(allowed)
    assert time.monotonic() - started < WITHIN


async def test_who_is_frozen_is_out_within_five_seconds(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    person = await office.hire("frozen.one", ["sales_representative"])
    client = await office.client_of(person)
    await client.ListTasks()
    assert (
        await office.refusal(workspace.admin.FreezeEmployee(name=person.name, reason="走"))
        == "REASON_REQUIRED"
    )
    frozen = await workspace.admin.FreezeEmployee(name=person.name, reason="可能离职的员工")
    assert frozen.state == pb.Employee.FROZEN
    assert (
        await office.refusal(workspace.admin.FreezeEmployee(name=person.name, reason="再次冻结他"))
        == "ILLEGAL_TRANSITION"
    )
    await elsewhere.has(f"employee.{person.subject}", disabled=True)
    assert await office.refusal(client.ListTasks()) == "EMPLOYEE_FROZEN"
    assert len(await workspace.facts("crm.workspace.v1.EmployeeFrozen", person.name)) == 1
    await workspace.admin.UnfreezeEmployee(name=person.name)
    await elsewhere.has(f"employee.{person.subject}", disabled=False)
    await client.ListTasks()


async def test_departments_move_everywhere(workspace: Service, elsewhere: Elsewhere) -> None:
    one = await workspace.admin.CreateDepartment(department={"displayName": "发布一"})
    two = await workspace.admin.CreateDepartment(department={"displayName": "发布二"})
    key = f"department.{two.name.partition('/')[2]}"
    await elsewhere.has(key, displayName="发布二")
    await workspace.admin.MoveDepartment(name=two.name, parent=one.name)
    await elsewhere.has(key, parent=one.name)
    await workspace.admin.DeleteDepartment(name=two.name)
    await elsewhere.lacks(key)


async def test_a_dictionary_counts_when_it_is_published(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    admin = workspace.admin
    entries = [
        {"key": "RED", "label": {"zh": "红", "en": "Red"}},
        {"key": "DARK", "label": {"zh": "深红"}, "parent": "RED"},
    ]
    made = await admin.CreateDictionary(
        dictionary={"key": "colours", "displayName": "颜色", "entries": entries}
    )
    assert not any(entry.published for entry in made.entries)
    assert workspace.running.config.get("dictionary.colours") is None
    await admin.PublishDictionary(name=made.name)
    entry = await elsewhere.has("dictionary.colours")
    assert [(e["key"], e["label"]["zh"], e["parent"]) for e in entry["entries"]] == [
        ("RED", "红", ""),
        ("DARK", "深红", "RED"),
    ]
    shorter = {"name": made.name, "entries": entries[:1]}
    gone = admin.UpdateDictionary(dictionary=shorter, updateMask="entries")
    assert await office.refusal(gone) == "DICTIONARY_ITEM_PUBLISHED"
    cycle = {"name": made.name, "entries": [{**entries[0], "parent": "DARK"}, entries[1]]}
    assert (
        await office.refusal(admin.UpdateDictionary(dictionary=cycle, updateMask="entries"))
        == "DICTIONARY_ITEM_CYCLE"
    )
    await admin.RetireDictionaryEntry(name=made.name, key="DARK")
    assert (
        await office.refusal(admin.RetireDictionaryEntry(name=made.name, key="PINK"))
        == "DICTIONARY_ITEM_UNKNOWN"
    )
    await workspace.eventually(
        lambda: elsewhere.config.get("dictionary.colours")["entries"][1]["retired"], WITHIN
    )
    renamed = {
        "name": made.name,
        "entries": [{**entries[0], "label": {"zh": "大红"}, "published": False}, entries[1]],
    }
    kept = await admin.UpdateDictionary(dictionary=renamed, updateMask="entries")
    assert [(entry.published, entry.retired) for entry in kept.entries] == [(True, False), (True, True)]
    industries = (await admin.ListDictionaries(filter='key = "industries"')).dictionaries[0]
    assert await office.refusal(admin.DeleteDictionary(name=industries.name)) == "DICTIONARY_IS_SYSTEM"


async def test_a_number_rule_in_force_makes_the_numbers(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    admin = workspace.admin

    def rule(pattern: str) -> Any:
        return admin.CreateNumberRule(numberRule={"collection": "employees", "pattern": pattern})

    for bad in ("E-{year}-{seq}", "E-{yyyy}", "{seq}{seq:4}", "E-{seq"):
        assert await office.refusal(rule(bad)) == "NUMBER_PATTERN_INVALID"
    first = await rule("E-{seq:3}")
    assert first.example == "E-042"
    await admin.ActivateNumberRule(name=first.name)
    await elsewhere.has("numberRule.employees", pattern="E-{seq:3}")
    second = await admin.ActivateNumberRule(name=(await rule("P-{seq:4}")).name)
    await elsewhere.has("numberRule.employees", pattern="P-{seq:4}", gapFree=False)
    assert (await admin.GetNumberRule(name=first.name)).state == pb.NumberRule.RETIRED
    await workspace.eventually(
        lambda: workspace.running.config.get("numberRule.employees")["pattern"] == "P-{seq:4}"
    )
    assert (await office.hire("numbered", [])).number.startswith("P-")
    change = {"name": second.name, "pattern": "X-{seq}"}
    assert (
        await office.refusal(admin.UpdateNumberRule(numberRule=change, updateMask="pattern"))
        == "ILLEGAL_TRANSITION"
    )
    await admin.RetireNumberRule(name=second.name)
    await elsewhere.lacks("numberRule.employees")
    unknown = {"collection": "unicorns", "pattern": "U-{seq}"}
    assert await office.refusal(admin.CreateNumberRule(numberRule=unknown)) == "COLLECTION_UNKNOWN"


async def test_a_custom_field_is_checked_from_the_moment_it_counts(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    admin = workspace.admin
    field = {"collection": "tasks", "key": "colour", "displayName": "颜色", "kind": "CHOICE"}
    with pytest.raises(Refused) as refused:
        await admin.CreateCustomField(customField=field)
    assert refused.value.violations == {"custom_field.choices": "REQUIRED"}
    assert (
        await office.refusal(admin.CreateCustomField(customField={**field, "key": "Big", "kind": "TEXT"}))
        == "FIELD_KEY_INVALID"
    )
    choices = [{"key": "red", "label": {"zh": "红"}}, {"key": "blue", "label": {"zh": "蓝"}}]
    made = await admin.CreateCustomField(customField={**field, "choices": choices})
    task = {"displayName": "有颜色", "custom": {"colour": "red"}}
    assert await office.refusal(workspace.sales1.CreateTask(task=task)) == "VALIDATION"
    await admin.ActivateCustomField(name=made.name)
    await elsewhere.has("customField.tasks")
    await workspace.eventually(lambda: workspace.running.config.get("customField.tasks"))
    assert (await workspace.sales1.CreateTask(task=task)).custom["colour"] == "red"
    wrong = {"displayName": "错颜色", "custom": {"colour": "green"}}
    with pytest.raises(Refused) as refused:
        await workspace.sales1.CreateTask(task=wrong)
    assert refused.value.violations == {"task.custom.colour": "WRONG_TYPE"}
    await admin.RetireCustomField(name=made.name)
    entry = await elsewhere.has("customField.tasks")
    await workspace.eventually(lambda: elsewhere.config.get("customField.tasks")["fields"][0]["retired"])
    assert entry["fields"][0]["kind"] == "CHOICE"


async def test_a_key_is_shown_once_and_works_as_the_gateway_reads_it(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    admin = workspace.admin
    body = {"displayName": "网店接口", "permissions": ["sales.leads.*"], "cidrs": ["10.0.0.0/8"], "rate": 20}
    request_id = uuid4().hex
    made = await admin.CreateApiKey(apiKey=body, requestId=request_id)
    key = ApiKey.parse(made.secret)
    assert key and key.id == made.key_id
    entry = await elsewhere.has(f"apiKey.{made.key_id}")
    assert entry["hash"] == key.digest(SECRET)
    assert {name: entry[name] for name in ("name", "permissions", "cidrs", "rate", "disabled")} == {
        "name": made.name, "permissions": ["sales.leads.*"], "cidrs": ["10.0.0.0/8"], "rate": 20, "disabled": False,
    }  # fmt: skip
    # Services look the key up by the name in the gateway's token.
    await elsewhere.has(f"apiKey.{made.name.partition('/')[2]}", disabled=False)
    assert not (await admin.GetApiKey(name=made.name)).secret
    # The whole key stands nowhere: not in a repeated answer, not in what is told.
    assert not (await admin.CreateApiKey(apiKey=body, requestId=request_id)).secret
    facts = await workspace.facts("crm.workspace.v1.ResourceChanged", made.name)
    assert made.secret not in str(facts) and entry["hash"] not in str(facts)
    assert (await admin.RevokeApiKey(name=made.name)).state == pb.ApiKey.REVOKED
    await elsewhere.has(f"apiKey.{made.key_id}", disabled=True)
    assert await office.refusal(admin.RevokeApiKey(name=made.name)) == "ILLEGAL_TRANSITION"


async def test_the_end_of_a_key_is_told_thirty_seven_and_one_day_before_and_once(
    workspace: Service, office: Any
) -> None:
    end = datetime.now(UTC) + timedelta(days=40)
    body = {"displayName": "将到期", "permissions": ["sales.leads.*"], "expireTime": end.isoformat()}
    made = await workspace.admin.CreateApiKey(apiKey=body)

    async def told_before(days: int) -> int:
        for _ in range(2):
            async with workspace.running.call("test", system("workspace")) as call:
                await warn_of_keys(end - timedelta(days=days), call)
        found = await workspace.admin.ListNotifications(filter=f'target = "{made.name}"', pageSize=50)
        return sum(max(one.count, 1) for one in found.notifications)

    assert [await told_before(days) for days in (40, 31, 29, 12, 5, 1, 0)] == [0, 0, 1, 1, 2, 3, 3]
    await workspace.admin.RevokeApiKey(name=made.name)


async def test_a_key_reaches_no_further_than_its_maker(workspace: Service, office: Any) -> None:
    admin = workspace.admin
    role = {
        "code": "key_maker",
        "displayName": "密钥",
        "permissions": ["workspace.apiKeys.*"],
        "scope": "DEPARTMENT",
    }
    await admin.CreateRole(role=role)
    person = await office.hire("key.maker", ["key_maker"])
    client = await office.client_of(person)

    def key(**fields: Any) -> Any:
        return {"displayName": "越界", "permissions": ["workspace.apiKeys.read"], **fields}

    assert (
        await office.refusal(client.CreateApiKey(apiKey=key(permissions=["billing.*"])))
        == "GRANT_EXCEEDS_GRANTER"
    )
    assert (
        await office.refusal(client.CreateApiKey(apiKey=key(permissions=["no.such.thing"])))
        == "PERMISSION_UNKNOWN"
    )
    assert await office.refusal(client.CreateApiKey(apiKey=key(scope="ALL"))) == "SCOPE_EXCEEDS_OWNER"
    assert (
        await office.refusal(client.CreateApiKey(apiKey=key(expireTime="2037-01-01T00:00:00Z")))
        == "KEY_LIFETIME"
    )
    assert await office.refusal(client.CreateApiKey(apiKey=key(cidrs=["anywhere"]))) == "CIDR_INVALID"
    assert await office.refusal(workspace.sales1.CreateApiKey(apiKey=key())) == "PERMISSION_DENIED"


async def test_a_key_shows_nothing_that_its_owners_roles_take(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    """Fields, row rules, and both as they are at the moment of the call."""
    admin, mark = workspace.admin, uuid4().hex[:6]
    may = ["workspace.tasks.read", "workspace.tasks.create", "workspace.apiKeys.*"]
    grant = {"collection": "workspace.tasks", "action": "READ", "level": "ALL", "rule": 'priority != "HIGH"'}
    role = {
        "code": f"key_{mark}", "displayName": "密钥", "permissions": may, "scope": "ALL", "grants": [grant],
        "fields": [{"collection": "workspace.tasks", "field": "description", "level": "HIDDEN"}],
    }  # fmt: skip
    made_role = await admin.CreateRole(role=role)
    person = await office.hire(f"key.{mark}", [f"key_{mark}"])
    client = await office.client_of(person)
    body = {"displayName": "看任务", "permissions": ["workspace.tasks.read"], "scope": "ALL"}
    made = await client.CreateApiKey(apiKey=body)
    key_id = made.key_id
    await elsewhere.has(f"apiKey.{key_id}", owner=person.name, disabled=False)
    # For somebody whose roles take less he makes none.
    for_another = {**body, "owner": workspace.person("manager").employee}
    assert await office.refusal(client.CreateApiKey(apiKey=for_another)) in {
        "SCOPE_EXCEEDS_OWNER",
        "PERMISSION_DENIED",
    }
    told = {"displayName": f"任务{mark}", "description": f"内情{mark}"}
    shown = await admin.CreateTask(task=told)
    ruled_out = await admin.CreateTask(task={**told, "priority": "HIGH"})
    # As the gateway has it: the claims of the token that it mints for the key.
    config = workspace.running.config
    entry = await workspace.eventually(lambda: config.get(f"apiKey.{key_id}"))
    claims = {
        "iss": "guanxi-gateway", "sub": f"apiKeys/{key_id}", "permissions": entry["permissions"],
        "scope_level": entry["scope"], "account": "",
    }  # fmt: skip

    async def seen() -> dict[str, str]:
        caller = workspace.running.directory.caller(claims, "zh-CN", "")
        found: dict[str, str] = {}
        for name in (shown.name, ruled_out.name):
            request = pb.GetTaskRequest(name=name)
            with suppress(NotFound):
                async with workspace.running.call("test", caller, read_only=True) as call:
                    row = await call.load(Task, request, lock=False)
                    message: Any = mapper(Task).message(row, caller)
                    found[name] = message.description
        return found

    assert await seen() == {shown.name: ""}
    listed = {"name": made_role.name, "fields": [], "grants": []}
    await admin.UpdateRole(role=listed, updateMask="fields,grants")

    async def everything() -> bool:
        return await seen() == {shown.name: f"内情{mark}", ruled_out.name: f"内情{mark}"}

    await workspace.eventually(everything)


async def test_keys_end_with_who_made_them(workspace: Service, office: Any, elsewhere: Elsewhere) -> None:
    role = {
        "code": "key_owner",
        "displayName": "密钥主",
        "permissions": ["workspace.apiKeys.*"],
        "scope": "DEPARTMENT",
    }
    await workspace.admin.CreateRole(role=role)
    person = await office.hire("key.owner", ["key_owner"])
    client = await office.client_of(person)
    made = await client.CreateApiKey(
        apiKey={"displayName": "随人", "permissions": ["workspace.apiKeys.read"]}
    )
    await elsewhere.has(f"apiKey.{made.key_id}", disabled=False)
    await workspace.admin.FreezeEmployee(name=person.name, reason="密钥随人停用")
    await elsewhere.has(f"apiKey.{made.key_id}", disabled=True)


async def test_what_the_bucket_has_lost_or_never_should_have_had_is_mended(
    workspace: Service, elsewhere: Elsewhere
) -> None:
    from crmkit.auth import system
    from workspace.publishing import reconcile

    async with workspace.running.call("test", system("workspace")) as call:
        # What other tests left under way.
        await reconcile(call)
    await elsewhere.config.delete("role.finance")
    await elsewhere.config.put("role.intruder", {"permissions": ["*"], "scope": "ALL"})
    config = workspace.running.config
    await workspace.eventually(lambda: config.get("role.finance") is None and config.get("role.intruder"))
    async with workspace.running.call("test", system("workspace")) as call:
        assert await reconcile(call) == 2
    await elsewhere.has("role.finance", scope="DEPARTMENT")
    await elsewhere.lacks("role.intruder")


async def test_who_is_hired_while_the_bucket_is_compared_stays_known(workspace: Service, office: Any) -> None:
    from crmkit.auth import system
    from workspace.publishing import reconcile

    async def compare() -> int:
        async with workspace.running.call("test", system("workspace")) as call:
            return await reconcile(call)

    await compare()
    async with workspace.running.engine.begin() as holder:
        # The comparison has read the people and waits for this table, which comes later.
        await holder.execute(text("LOCK TABLE approval_policies IN ACCESS EXCLUSIVE MODE"))
        comparing = asyncio.create_task(compare())
        await asyncio.sleep(0.5)
        person = await office.hire("hired.meanwhile", ["sales_representative"])
    assert await comparing == 0
    assert workspace.running.config.get(f"employee.{person.subject}")
    await (await office.client_of(person)).ListTasks()


async def test_who_has_read_a_person_before_a_change_tells_nothing_old_after_it(
    workspace: Service, office: Any, elsewhere: Elsewhere
) -> None:
    from crmkit.auth import system
    from workspace.model.employee import Employee
    from workspace.publishing import publish_changed

    person = await office.hire("changed.meanwhile", ["sales_representative"])
    await elsewhere.has(f"employee.{person.subject}", roles=["sales_representative"])
    async with workspace.running.call("test", system("workspace")) as call:
        # The comparison of every minute reads all people first.
        assert (await call.named(Employee, person.name)).roles == ["sales_representative"]
        change = {"name": person.name, "roles": ["sales_manager"]}
        await workspace.admin.UpdateEmployee(employee=change, updateMask="roles")
        await elsewhere.has(f"employee.{person.subject}", roles=["sales_manager"])
        await publish_changed(person.name, {}, call)
    await asyncio.sleep(1)
    assert elsewhere.config.get(f"employee.{person.subject}")["roles"] == ["sales_manager"]
