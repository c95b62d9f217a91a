"""Departments, employees and roles through the front door, and what all services know of them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Refused, Service


async def test_a_new_database_begins_with_the_shipped_roles_and_the_named_company(
    workspace: Service, office: Any
) -> None:
    roles = (await workspace.admin.ListRoles(pageSize=100)).roles
    assert {"administrator", "sales_manager", "finance", "partner", "customer"} <= {
        role.code for role in roles
    }
    admin = workspace.person("admin")
    employee = await workspace.admin.GetEmployee(name=admin.employee)
    assert (employee.username, list(employee.roles)) == ("admin", ["administrator"])
    department = await workspace.admin.GetDepartment(name=workspace.person("sales1").department)
    assert department.path == "关系科技/华东分公司/销售一部"


async def department(workspace: Service, name: str, **fields: Any) -> Any:
    return await workspace.admin.CreateDepartment(department={"displayName": name, **fields})


async def test_the_tree_has_no_cycle_and_an_end(workspace: Service, office: Any) -> None:
    top = await department(workspace, "循环一", code="XH1")
    below = await department(workspace, "循环二", parent=top.name)
    assert below.path == "关系科技/循环一/循环二"
    assert (
        await office.refusal(workspace.admin.MoveDepartment(name=top.name, parent=below.name))
        == "DEPARTMENT_CYCLE"
    )
    assert (
        await office.refusal(workspace.admin.MoveDepartment(name=top.name, parent=top.name))
        == "DEPARTMENT_CYCLE"
    )
    deepest = below
    for level in range(4, 13):
        deepest = await department(workspace, f"第{level}层", parent=deepest.name)
    assert await office.refusal(department(workspace, "太深", parent=deepest.name)) == "DEPARTMENT_TOO_DEEP"
    elsewhere = await department(workspace, "另一处")
    moved = await workspace.admin.MoveDepartment(name=below.name, parent=top.name)
    assert moved.parent == top.name
    assert (
        await office.refusal(workspace.admin.MoveDepartment(name=top.name, parent=elsewhere.name))
        == "DEPARTMENT_TOO_DEEP"
    )
    assert (await workspace.admin.GetDepartment(name=top.name)).path == "关系科技/循环一"


async def test_a_rename_reaches_the_paths_beneath(workspace: Service, office: Any) -> None:
    top = await department(workspace, "旧名")
    below = await department(workspace, "下级", parent=top.name)
    await workspace.admin.UpdateDepartment(
        department={"name": top.name, "displayName": "新名"}, updateMask="displayName"
    )
    assert (await workspace.admin.GetDepartment(name=below.name)).path == "关系科技/新名/下级"


async def test_siblings_differ_in_name_and_departments_in_code(workspace: Service, office: Any) -> None:
    await department(workspace, "同名", code="TM")
    assert await office.refusal(department(workspace, "同名")) == "ALREADY_EXISTS"
    assert await office.refusal(department(workspace, "异名", code="TM")) == "ALREADY_EXISTS"


async def test_a_department_with_people_is_not_closed(workspace: Service, office: Any) -> None:
    made = await department(workspace, "要关闭")
    employee = await workspace.admin.CreateEmployee(
        employee={"displayName": "末位员工", "department": made.name, "username": "last.one"}
    )
    with pytest.raises(Refused) as refused:
        await workspace.admin.CloseDepartment(name=made.name)
    assert refused.value.reason == "DEPARTMENT_NOT_EMPTY"
    assert refused.value.info.metadata["people"] == "1"
    elsewhere = workspace.person("sales1").department
    await workspace.admin.UpdateEmployee(
        employee={"name": employee.name, "department": elsewhere}, updateMask="department"
    )
    assert (await workspace.admin.CloseDepartment(name=made.name)).state == pb.Department.CLOSED
    assert await office.refusal(workspace.admin.CloseDepartment(name=made.name)) == "ILLEGAL_TRANSITION"
    assert await office.refusal(department(workspace, "其下", parent=made.name)) == "DEPARTMENT_CLOSED"
    assert (await workspace.admin.ReopenDepartment(name=made.name)).state == pb.Department.ACTIVE


async def test_a_department_is_deleted_only_where_nothing_hangs_on_it(
    workspace: Service, office: Any
) -> None:
    admin = workspace.admin
    made, other = [await department(workspace, f"要删除{number}") for number in range(2)]
    below = await department(workspace, "已关闭的下级", parent=made.name)
    await admin.CloseDepartment(name=below.name)
    assert await office.refusal(admin.DeleteDepartment(name=made.name)) == "DEPARTMENT_HAS_HISTORY"
    await admin.DeleteDepartment(name=below.name)
    # A record of another service, by the last that was told of it.
    record = {
        "name": f"leads/{uuid4()}",
        "displayName": "线索",
        "department": made.name,
        "owner": "employees/x",
        "etag": "1",
    }
    told = {"name": record["name"], "action": "CREATED", "actor": "system/test", "resource": record}
    await workspace.tell("crm.sales.v1.ResourceChanged", told, record["name"])
    assert await office.refusal(admin.DeleteDepartment(name=made.name)) == "DEPARTMENT_HAS_HISTORY"
    await workspace.tell(
        "crm.sales.v1.ResourceChanged", {**told, "action": "DELETED"}, record["name"], version=2
    )
    await admin.DeleteDepartment(name=made.name)
    # Who has left may come back.
    person = await office.hire(f"left.{uuid4().hex[:6]}", [], department=other.name)
    await admin.OffboardEmployee(name=person.name, successor=workspace.person("admin").employee)
    assert await office.refusal(admin.DeleteDepartment(name=other.name)) == "DEPARTMENT_HAS_HISTORY"


async def test_an_employee_is_refused_for_what_is_wrong(workspace: Service, office: Any) -> None:
    with pytest.raises(Refused) as refused:
        await workspace.admin.CreateEmployee(employee={"displayName": "无部门", "username": "有空 格"})
    assert refused.value.violations == {
        "employee.username": "WRONG_FORMAT",
        "employee.department": "REQUIRED",
    } or refused.value.violations == {"employee.username": "WRONG_FORMAT"}
    assert await office.refusal(office.hire("wrong.role", ["no_such_role"])) == "ROLE_UNKNOWN"
    await office.hire("mail.one", [], email="One@Example.com")
    assert await office.refusal(office.hire("mail.two", [], email="one@example.com")) == "ALREADY_EXISTS"
    assert await office.refusal(office.hire("mail.one", [])) == "ALREADY_EXISTS"


async def test_nobody_is_his_own_superior(workspace: Service, office: Any) -> None:
    manager, sales1 = workspace.person("manager"), workspace.person("sales1")
    with pytest.raises(Refused) as refused:
        await workspace.admin.UpdateEmployee(
            employee={"name": manager.employee, "superior": sales1.employee}, updateMask="superior"
        )
    assert refused.value.violations == {"employee.superior": "CYCLE"}


async def test_a_role_is_made_of_known_permissions_that_its_maker_has(
    workspace: Service, office: Any
) -> None:
    role = {"code": "clerk", "displayName": "文员", "permissions": ["workspace.tasks.*"], "scope": "OWN"}
    await workspace.admin.CreateRole(role=role)
    unknown = {**role, "code": "unknown", "permissions": ["sales.unicorns.ride"]}
    assert await office.refusal(workspace.admin.CreateRole(role=unknown)) == "PERMISSION_UNKNOWN"
    assert (
        await office.refusal(workspace.sales1.CreateRole(role={**role, "code": "mine"}))
        == "PERMISSION_DENIED"
    )
    keeper = {**role, "code": "keeper", "permissions": ["workspace.roles.*", "workspace.employees.*"]}
    await workspace.admin.CreateRole(role=keeper)
    person = await office.hire("role.keeper", ["keeper"])
    client = await office.client_of(person)
    greedy = {**role, "code": "greedy", "permissions": ["billing.invoices.read"]}
    assert await office.refusal(client.CreateRole(role=greedy)) == "GRANT_EXCEEDS_GRANTER"
    update = {"name": person.name, "roles": ["keeper", "administrator"]}
    assert (
        await office.refusal(client.UpdateEmployee(employee=update, updateMask="roles"))
        == "GRANT_EXCEEDS_GRANTER"
    )


async def test_a_role_in_use_is_not_retired_and_a_fixed_one_not_changed(
    workspace: Service, office: Any
) -> None:
    role = await workspace.admin.CreateRole(
        role={"code": "in_use", "displayName": "在用", "permissions": ["workspace.tasks.read"]}
    )
    person = await office.hire("holder", ["in_use"])
    assert await office.refusal(workspace.admin.RetireRole(name=role.name)) == "ROLE_IN_USE"
    await workspace.admin.UpdateEmployee(employee={"name": person.name}, updateMask="roles")
    assert (await workspace.admin.RetireRole(name=role.name)).state == pb.Role.RETIRED
    assert await office.refusal(office.hire("late", ["in_use"])) == "ROLE_UNKNOWN"
    fixed = (await workspace.admin.ListRoles(filter='code = "administrator"')).roles[0]
    change = {"name": fixed.name, "permissions": ["workspace.tasks.read"]}
    assert (
        await office.refusal(workspace.admin.UpdateRole(role=change, updateMask="permissions"))
        == "ROLE_IS_SYSTEM"
    )


async def test_the_last_administrator_stays(workspace: Service, office: Any) -> None:
    admin = workspace.person("admin").employee
    reason = "不再需要这个账号"
    assert (
        await office.refusal(workspace.admin.FreezeEmployee(name=admin, reason=reason))
        == "LAST_ADMINISTRATOR"
    )
    other = workspace.person("zong").employee
    assert (
        await office.refusal(workspace.admin.OffboardEmployee(name=admin, successor=other))
        == "LAST_ADMINISTRATOR"
    )
    change = {"name": admin, "roles": ["finance"]}
    assert (
        await office.refusal(workspace.admin.UpdateEmployee(employee=change, updateMask="roles"))
        == "LAST_ADMINISTRATOR"
    )
    second = await office.hire("second.admin", ["administrator"])
    client = await office.client_of(second)
    # Each takes the other's access away in the same moment: one of them must stay.
    outcomes = await asyncio.gather(
        workspace.admin.FreezeEmployee(name=second.name, reason=reason),
        client.FreezeEmployee(name=admin, reason=reason),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes].count(Refused) == 1
    people = (await workspace.client("zong").ListEmployees(filter='roles:"administrator"')).employees
    assert [person.state for person in people].count(pb.Employee.ACTIVE) == 1
    if (await workspace.client("zong").GetEmployee(name=admin)).state == pb.Employee.FROZEN:
        await client.UnfreezeEmployee(name=admin)
        key = f"employee.{admin.partition('/')[2]}"
        await workspace.eventually(lambda: not workspace.running.config.get(key)["disabled"])
        await workspace.admin.FreezeEmployee(name=second.name, reason=reason)
