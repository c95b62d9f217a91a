"""How somebody signed in counts: second factor, network, groups of the identity provider, accounts for emergencies."""

import re
import time
from typing import Any
from uuid import uuid4

import crmprotos
import pytest
from crm.options.v1 import options_pb2
from crm.workspace.v1 import pb
from crmkit.auth import STEP_UP_MINUTES
from crmkit.testing import Service


def tasks_from(client: Any, address: str) -> Any:
    """The person's tasks, asked for from there."""
    return client.send("ListTasks", pb.ListTasksRequest(), {"x-forwarded-for": address})


def test_nothing_that_purges_restores_gives_rights_or_makes_keys_goes_without_a_second_factor() -> None:
    """Whatever is added to the protos, now or later."""
    sensitive = re.compile(
        r"Purge|Restore.*Backup|Backup.*Restore|(Create|Update|Delete|Copy|Retire)Role|EmployeeRole$"
        r"|(Create|Rotate|Revoke)ApiKey|DownloadExport"
    )
    harmless = re.compile(r"^(Withdraw|List|Get|BatchGet|Aggregate|Explain)")
    # The generated stubs know extensions under another type.
    step_up: Any = options_pb2.step_up
    asked = {
        method.name: bool(method.options.Extensions[step_up])
        for file in crmprotos.load().file
        for service in file.service
        for method in service.method
        if sensitive.search(method.name) and not harmless.search(method.name)
    }
    assert {"CreateRole", "AssignEmployeeRole", "CreateApiKey", "DownloadExport"} <= asked.keys()
    assert [name for name, strong in asked.items() if not strong] == []


@pytest.mark.capability("a.role")
async def test_what_is_sensitive_wants_a_second_factor_given_a_moment_ago(
    workspace: Service, office: Any
) -> None:
    mark, now = uuid4().hex[:6], int(time.time())
    role = {"code": f"step_{mark}", "displayName": "敏感", "permissions": ["workspace.tasks.read"]}
    person = await office.hire(f"step.{mark}", [])
    clients = {
        "fresh": workspace.client("admin", acr="2", auth_time=now - 60),
        "old": workspace.client("admin", acr="2", auth_time=now - STEP_UP_MINUTES * 60 - 30),
        "password": workspace.client("admin", acr="1", auth_time=now),
        "unsaid": workspace.client("admin", acr=None, auth_time=None),
    }
    made = await clients["fresh"].CreateRole(role=role)
    export = await workspace.admin.CreateExport(
        export={"collection": "tasks", "purpose": "REPORT", "purposeText": "年度工作总结需要任务清单"}
    )
    for which in ("old", "password", "unsaid"):
        weak = clients[which]
        for call in (
            weak.CreateRole(role={**role, "code": f"no_{mark}"}),
            weak.UpdateRole(role={"name": made.name, "permissions": ["*"]}, updateMask="permissions"),
            weak.DeleteRole(name=made.name),
            weak.CopyRole(name=made.name, code=f"no_{mark}", displayName="副"),
            weak.RetireRole(name=made.name),
            weak.AssignEmployeeRole(name=person.name, role=made.code),
            weak.RevokeEmployeeRole(name=person.name, role=made.code),
            weak.UpdateEmployee(employee={"name": person.name, "roles": [made.code]}, updateMask="roles"),
            weak.CreateApiKey(apiKey={"displayName": "钥"}),
            weak.DownloadExport(name=export.name),
        ):
            assert await office.refusal(call) == "STEP_UP_REQUIRED", which
        # What is not sensitive goes on.
        await weak.ListRoles()
        await weak.UpdateEmployee(
            employee={"name": person.name, "englishName": which}, updateMask="englishName"
        )
    assert list((await workspace.admin.GetRole(name=made.name)).permissions) == ["workspace.tasks.read"]
    assert await office.refusal(clients["fresh"].DownloadExport(name=export.name)) == "ILLEGAL_TRANSITION"


@pytest.mark.capability("a.security")
async def test_a_role_can_want_a_second_factor_and_a_network(workspace: Service, office: Any) -> None:
    mark = uuid4().hex[:6]
    role = {
        "code": f"strong_{mark}", "displayName": "严格", "permissions": ["workspace.tasks.read"], "secondFactor": True,
        "ipRanges": ["10.1.0.0/16", "2001:db8::/32"],
    }  # fmt: skip
    refused = workspace.admin.CreateRole(role={**role, "ipRanges": ["10.1.0.1/16"]})
    assert await office.refusal(refused) == "VALIDATION"
    await workspace.admin.CreateRole(role=role)
    person = await office.hire(f"strong.{mark}", [f"strong_{mark}"])
    strong = await office.client_of(person)
    await workspace.eventually(lambda: workspace.running.config.get(f"role.strong_{mark}"))
    for address, well in (("10.1.2.3", True), ("2001:db8::7", True), ("10.2.0.1", False), ("fe80::1", False)):
        if well:
            await tasks_from(strong, address)
        else:
            assert await office.refusal(tasks_from(strong, address)) == "IP_NOT_ALLOWED", address
    weak = await office.client_of(person, acr="1")
    assert await office.refusal(weak.ListTasks()) == "SECOND_FACTOR_REQUIRED"


@pytest.mark.capability("a.security")
async def test_a_portal_is_entered_from_its_networks_alone(workspace: Service, office: Any) -> None:
    """What the role of a portal says counts for every partner and customer who has it."""
    code = f"portal_{uuid4().hex[:6]}"
    await workspace.admin.CreateRole(
        role={
            "code": code, "displayName": "门户", "permissions": ["workspace.files.read"], "portal": True,
            "ipRanges": ["203.0.113.0/24"],
        }
    )  # fmt: skip
    await workspace.eventually(lambda: workspace.running.config.get(f"role.{code}"))
    # A customer is no employee: the roles of the token count.
    customer = workspace.client("customer", roles=[code])

    def files_from(address: str) -> Any:
        return customer.send("ListFiles", pb.ListFilesRequest(), {"x-forwarded-for": address})

    await files_from("203.0.113.9")
    for address in ("203.0.114.9", "10.1.2.3", "2001:db8::7"):
        assert await office.refusal(files_from(address)) == "IP_NOT_ALLOWED", address


@pytest.mark.capability("a.role")
async def test_groups_of_the_identity_provider_bring_and_take_roles_at_sign_in(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:6]
    brought = {f"east_{mark}": f"/sales/{mark}", f"west_{mark}": f"realm-{mark}"}
    for code, group in brought.items():
        await workspace.admin.CreateRole(
            role={
                "code": code, "displayName": code, "permissions": ["workspace.departments.read"],
                "identityGroup": group,
            }
        )  # fmt: skip
    person = await office.hire(f"grouped.{mark}", ["finance"])
    client = await office.client_of(person)

    async def signs_in(*groups: str) -> set[str]:
        fact = {"person": person.name, "method": "browser", "groups": list(groups)}
        await workspace.tell("crm.gateway.v1.SignedIn", fact, person.name)
        wanted = {one for one, group in brought.items() if group in groups}
        key = f"employee.{person.name.partition('/')[2]}"
        held = {"finance", *wanted}
        await workspace.eventually(lambda: set(workspace.running.config.get(key)["roles"]) == held)
        now = await workspace.admin.GetEmployee(name=person.name)
        assert list(now.roles) == ["finance"]
        return set(now.identity_roles)

    assert await signs_in(f"/sales/{mark}", "/other", f"realm-{mark}") == {f"east_{mark}", f"west_{mark}"}
    await client.ListDepartments()
    said = await workspace.admin.ListEmployeePermissions(name=person.name)
    assert {one.role: one.source for one in said.roles} == {
        "finance": "GIVEN", f"east_{mark}": "IDENTITY", f"west_{mark}": "IDENTITY"
    }  # fmt: skip
    assert await signs_in(f"realm-{mark}") == {f"west_{mark}"}
    assert await signs_in() == set()


@pytest.mark.capability("a.role")
async def test_two_accounts_are_for_emergencies_and_their_use_is_told_at_once(
    workspace: Service, office: Any
) -> None:
    mark, admin = uuid4().hex[:6], workspace.admin
    helper = await office.client_of(await office.hire(f"helper.{mark}", ["system_administrator"]))
    sealed = [await office.hire(f"sealed{number}.{mark}", ["administrator"]) for number in (1, 2, 3)]

    def mark_as(person: Any, emergency: bool, client: Any = admin) -> Any:
        body = {"name": person.name, "emergency": emergency}
        return client.UpdateEmployee(employee=body, updateMask="emergency")

    try:
        assert await office.refusal(mark_as(sealed[0], True, helper)) == "GRANT_EXCEEDS_GRANTER"
        await mark_as(sealed[0], True)
        await mark_as(sealed[1], True)
        assert await office.refusal(mark_as(sealed[2], True)) == "EMERGENCY_LIMIT"
        key = f"employee.{sealed[0].name.partition('/')[2]}"
        await workspace.eventually(lambda: (workspace.running.config.get(key) or {}).get("emergency"))

        async def alerts(person: Any) -> list[Any]:
            found = await workspace.facts("crm.workspace.v1.SecurityAlertRaised", "")
            return [one for one in found if one.get("subject") == person.name]

        assert not await alerts(sealed[0])
        await workspace.tell("crm.gateway.v1.SignedIn", {"person": sealed[0].name}, sealed[0].name)
        (told,) = await workspace.eventually(lambda: alerts(sealed[0]))
        assert told["kind"] == "EMERGENCY_ACCOUNT"
        used = await office.client_of(sealed[1])
        await used.CreateNote(note={"displayName": "断电了"})
        await workspace.eventually(lambda: alerts(sealed[1]), 30)
    finally:
        # Others count who is left to look after everything.
        for person in sealed:
            await admin.FreezeEmployee(name=person.name, reason="信封重新封存")
