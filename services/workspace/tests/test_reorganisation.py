"""The company is reshaped while it runs: what a change would concern, what follows it, and what the past keeps."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Refused, Service
from sqlalchemy import text


class Structure:
    """Departments of one test, told to all services."""

    def __init__(self, workspace: Service) -> None:
        self.workspace, self.mark = workspace, uuid4().hex[:6]

    async def department(self, name: str, **fields: Any) -> Any:
        body = {"displayName": f"{name}{self.mark}", **fields}
        made = await self.workspace.admin.CreateDepartment(department=body)
        key = f"department.{made.name.partition('/')[2]}"
        await self.workspace.eventually(lambda: self.workspace.running.config.get(key), 30)
        return made


@pytest.fixture
def structure(workspace: Service) -> Structure:
    return Structure(workspace)


async def crowd(workspace: Service, like: str, size: int) -> None:
    """So many more people beside one, and no more."""
    places = {"like": like.partition("/")[2], "size": size}
    async with workspace.running.system_call("crowd", None) as call:
        await call.db.execute(text("DELETE FROM employees WHERE username LIKE 'crowd-%'"))
        await call.db.execute(
            text(
                "INSERT INTO employees SELECT (jsonb_populate_record(one, jsonb_build_object("
                "'id', gen_random_uuid(), 'username', 'crowd-' || n, 'number', 'CROWD-' || n, 'subject', ''))).*"
                " FROM employees one, generate_series(1, :size) AS n WHERE one.id = :like"
            ),
            places,
        )


async def custom_role(workspace: Service, office: Any, mark: str, permissions: list[str]) -> Any:
    code = f"reorganiser_{mark}"
    await workspace.admin.CreateRole(
        role={"code": code, "displayName": code, "permissions": permissions, "scope": "ALL"}
    )
    return await office.client_of(await office.hire(f"re.{mark}", [code]))


@pytest.mark.capability("a.org")
async def test_a_merge_takes_people_records_grants_and_children_along(
    workspace: Service, office: Any, structure: Structure
) -> None:
    admin, mark = workspace.admin, structure.mark
    old, goes_on = await structure.department("旧"), await structure.department("新")
    child = await structure.department("子", parent=old.name)
    person = await office.hire(f"in.{mark}", ["finance"], department=old.name)
    second = await office.hire(f"post.{mark}", [], department=goes_on.name, posts=[old.name])
    client = await office.client_of(person)
    task = await client.CreateTask(task={"displayName": f"随部门走{mark}"})
    assert task.department == old.name
    grant = {"collection": "customer.accounts", "level": "DEPARTMENTS", "departments": [old.name]}
    role = await admin.CreateRole(
        role={"code": f"names_{mark}", "displayName": mark, "permissions": ["customer.accounts.read"],
              "grants": [grant]}
    )  # fmt: skip

    async def previewed() -> Any:
        found = await admin.PreviewDepartment(name=old.name, target=goes_on.name)
        # The task is known once its fact has come; the people's own records lie there as well.
        return found if found.records >= 1 else None

    preview = await workspace.eventually(previewed, 30)
    assert (preview.departments, preview.people, preview.roles) == (2, 1, 1)
    assert await office.refusal(admin.MergeDepartment(name=old.name, into=child.name)) == "DEPARTMENT_CYCLE"

    merged = await admin.MergeDepartment(name=old.name, into=goes_on.name)
    assert (merged.state, merged.merged_into) == (pb.Department.CLOSED, goes_on.name)
    assert (await admin.GetDepartment(name=child.name)).parent == goes_on.name
    assert (await admin.GetEmployee(name=person.name)).department == goes_on.name
    assert list((await admin.GetEmployee(name=second.name)).posts) == []

    async def followed() -> bool:
        grants = (await admin.GetRole(name=role.name)).grants
        return (
            list(grants[0].departments) == [goes_on.name]
            and (await client.GetTask(name=task.name)).department == goes_on.name
        )

    await workspace.eventually(followed, 60)
    changes = await workspace.facts("crm.workspace.v1.ResourceChanged", task.name)
    assert changes[-1]["before"]["department"] == old.name
    reopened = await admin.ReopenDepartment(name=old.name)
    assert (reopened.merged_into, reopened.parent) == ("", goes_on.name)
    entity = await structure.department("法人", legalEntity=True)
    refusal = await office.refusal(admin.MergeDepartment(name=entity.name, into=goes_on.name))
    assert refusal == "DEPARTMENT_IS_LEGAL_ENTITY"


@pytest.mark.capability("a.org")
async def test_only_head_office_hangs_departments_into_another_segment(
    workspace: Service, office: Any, structure: Structure
) -> None:
    east = await structure.department("东板块", kind="SEGMENT")
    west = await structure.department("西板块", kind="SEGMENT")
    team = await structure.department("班组", parent=east.name, kind="TEAM")
    near = await structure.department("近处", parent=east.name)
    client = await custom_role(
        workspace, office, structure.mark,
        ["workspace.departments.read", "workspace.departments.update", "workspace.departments.move",
         "workspace.departments.merge"],
    )  # fmt: skip
    assert (await client.PreviewDepartment(name=team.name, target=west.name)).crosses_segment
    assert not (await client.PreviewDepartment(name=team.name, target=near.name)).crosses_segment
    for crossing in (
        client.MoveDepartment(name=team.name, parent=west.name),
        client.MergeDepartment(name=team.name, into=west.name),
        client.MergeDepartment(name=east.name, into=west.name),
        client.UpdateDepartment(department={"name": east.name, "kind": "DEPARTMENT"}, updateMask="kind"),
    ):
        with pytest.raises(Refused) as refused:
            await crossing
        assert (refused.value.code, refused.value.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "SEGMENT_CROSSING",
        )
    assert (await client.GetDepartment(name=team.name)).parent == east.name
    assert (await client.MoveDepartment(name=team.name, parent=near.name)).parent == near.name
    moved = await workspace.admin.MoveDepartment(name=team.name, parent=west.name)
    assert moved.path.endswith(f"西板块{structure.mark}/班组{structure.mark}")


@pytest.mark.capability("a.org")
async def test_a_move_is_seen_by_everybody_and_the_past_keeps_its_tree(
    workspace: Service, office: Any, structure: Structure
) -> None:
    admin, mark = workspace.admin, structure.mark
    north, south = await structure.department("北"), await structure.department("南")
    team = await structure.department("队", parent=north.name)
    heads = f"heads_{mark}"
    await admin.CreateRole(
        role={"code": heads, "displayName": heads, "permissions": ["workspace.tasks.read"], "scope": "BELOW"}
    )
    clients = [
        await office.client_of(await office.hire(f"head{place}.{mark}", [heads], department=where.name))
        for place, where in enumerate((north, south))
    ]
    member = await office.hire(f"member.{mark}", ["finance"], department=team.name)
    task = await (await office.client_of(member)).CreateTask(task={"displayName": f"随队{mark}"})
    await crowd(workspace, member.name, 5_000)

    async def seen() -> list[bool]:
        pages = [(await client.ListTasks(filter=f'display_name = "随队{mark}"')).tasks for client in clients]
        return [any(one.name == task.name for one in page) for page in pages]

    assert await seen() == [True, False]
    assert (await admin.PreviewDepartment(name=team.name, target=south.name)).people == 5_001
    before = datetime.now(UTC)
    await admin.MoveDepartment(name=team.name, parent=south.name)

    async def moved() -> bool:
        return await seen() == [False, True]

    await workspace.eventually(moved, 60)
    await crowd(workspace, member.name, 0)

    async def parent_at(time: datetime) -> str:
        tree = (await admin.ListDepartmentsAsOf(time=time.isoformat())).departments
        return next((one.parent for one in tree if one.name == team.name), "")

    async def kept() -> bool:
        return await parent_at(datetime.now(UTC)) == south.name and await parent_at(before) == north.name

    await workspace.eventually(kept, 30)


@pytest.mark.capability("a.org")
async def test_a_deputy_decides_while_the_head_is_away(
    workspace: Service, office: Any, structure: Structure
) -> None:
    admin, mark = workspace.admin, structure.mark
    people = [await office.hire(f"p{number}.{mark}", []) for number in range(8)]
    names = [person.name for person in people]
    with pytest.raises(Refused) as refused:
        await structure.department("太多副职", deputies=names[:6])
    assert refused.value.violations == {"department.deputies": "TOO_MANY"}
    led = await structure.department("有副职", manager=names[0], deputies=names[1:3])
    asker = await office.hire(f"asker.{mark}", [], department=led.name)
    for person in people[:2]:
        await admin.FreezeEmployee(name=person.name, reason="休假期间停用")
    policy = await admin.CreateApprovalPolicy(
        approvalPolicy={
            "displayName": f"副职{mark}", "action": "workspace.tasks.create",
            "condition": f'display_name = "要批{mark}"',
            "steps": [{"approvers": [{"source": "DEPARTMENT_HEAD"}]}],
        }
    )  # fmt: skip
    path = await admin.SimulateApprovalPolicy(name=policy.name, requester=asker.name, record={})
    assert [list(one.approvers) for one in path.steps] == [[names[2]]]


@pytest.mark.capability("a.org")
async def test_an_organisation_is_taken_over_from_a_table_all_or_nothing(
    workspace: Service, office: Any, structure: Structure
) -> None:
    admin, mark = workspace.admin, structure.mark
    head = await office.hire(f"leads.{mark}", [])

    def row(code: str, name: str, parent: str = "", **more: Any) -> dict[str, Any]:
        above = f"{parent}-{mark}" if parent else ""
        return {"code": f"{code}-{mark}", "displayName": f"{name}{mark}", "parentCode": above, **more}

    # Children may stand before their parents.
    rows = [
        row("T1", "一队", "E", kind="TEAM"),
        row("E", "东区", "G", managerUsername=head.username),
        row("G", "集团", kind="BRANCH", legalEntity=True),
        row("W", "西区", "G"),
    ]
    tried = await admin.ImportDepartments(rows=rows, dryRun=True)
    assert (tried.created, tried.written, list(tried.problems)) == (4, False, [])
    made = await admin.ImportDepartments(rows=rows)
    assert (made.created, made.written) == (4, True)

    async def found(code: str) -> Any:
        return (await admin.ListDepartments(filter=f'code = "{code}-{mark}"')).departments[0]

    team, east = await found("T1"), await found("E")
    assert (team.parent, team.kind, east.manager) == (east.name, pb.Department.TEAM, head.name)
    assert team.path.endswith(f"集团{mark}/东区{mark}/一队{mark}")

    # The table again, with a move and a new name: only what differs is done.
    rows[0]["parentCode"], rows[3]["displayName"] = f"W-{mark}", f"西部{mark}"
    again = await admin.ImportDepartments(rows=rows)
    assert (again.created, again.moved, again.changed, again.unchanged) == (0, 1, 1, 2)
    assert (await found("T1")).path.endswith(f"西部{mark}/一队{mark}")

    async def problems(*wrong: dict[str, Any]) -> list[tuple[int, str]]:
        answer = await admin.ImportDepartments(rows=[row("N", "新", "W"), *wrong])
        assert not answer.written
        assert not (await admin.ListDepartments(filter=f'code = "N-{mark}"')).departments
        return [(one.row, one.reason) for one in answer.problems]

    assert await problems(row("X", "甲", "Y"), row("Y", "乙", "X")) == [
        (1, "DEPARTMENT_CYCLE"), (2, "DEPARTMENT_CYCLE")
    ]  # fmt: skip
    assert await problems(row("X", "甲", "没有")) == [(1, "UNKNOWN_REFERENCE")]
    assert await problems(row("X", "甲", managerUsername="no.such.user")) == [(1, "UNKNOWN_REFERENCE")]
    assert await problems(row("N", "同码", "W")) == [(1, "DUPLICATE")]
    assert await problems(row("X", "同名", "W"), row("Z", "同名", "W")) == [(2, "ALREADY_EXISTS")]
    # An old department under one that stands beneath it.
    assert await problems(row("G", "集团", "T1", kind="BRANCH", legalEntity=True)) == [
        (1, "DEPARTMENT_CYCLE")
    ]
    deep = [row(f"D{level}", "深", f"D{level - 1}" if level else "W") for level in range(10)]
    assert (10, "DEPARTMENT_TOO_DEEP") in await problems(*deep)


async def test_a_segments_administrator_keeps_the_people_of_that_segment_alone(
    workspace: Service, office: Any, structure: Structure
) -> None:
    mark = structure.mark
    east = await structure.department("东", kind="SEGMENT")
    west = await structure.department("西", kind="SEGMENT")
    team = await structure.department("组", parent=east.name)
    keeper = await office.hire(f"keeper.{mark}", ["segment_administrator"], department=east.name)
    client = await office.client_of(keeper)
    mine = await client.CreateEmployee(
        employee={"displayName": "本板块", "username": f"mine.{mark}", "department": team.name}
    )
    theirs = await office.hire(f"theirs.{mark}", [], department=west.name)
    head = await office.hire(f"head.{mark}", [])
    assert (await client.GetEmployee(name=theirs.name)).display_name == theirs.display_name
    for person in (theirs, head, await workspace.admin.GetEmployee(name=workspace.person("admin").employee)):
        change = {"name": person.name, "displayName": "改名"}
        for call in (
            client.UpdateEmployee(employee=change, updateMask="displayName"),
            client.FreezeEmployee(name=person.name, reason="不是本板块的人"),
            client.AssignEmployeeRole(name=person.name, role="segment_administrator"),
            client.OffboardEmployee(name=person.name, successor=mine.name),
        ):
            assert await office.refusal(call) == "PERMISSION_DENIED"
    for where in ({"department": west.name}, {"department": team.name, "posts": [west.name]}):
        made = client.CreateEmployee(
            employee={"displayName": "别处", "username": f"else{len(where)}.{mark}", **where}
        )
        assert await office.refusal(made) == "SEGMENT_CROSSING"
    away = {"name": mine.name, "department": west.name}
    moved = client.UpdateEmployee(employee=away, updateMask="department")
    assert await office.refusal(moved) == "SEGMENT_CROSSING"
    near = {"name": mine.name, "department": east.name}
    assert (await client.UpdateEmployee(employee=near, updateMask="department")).department == east.name
    renamed = {"name": west.name, "displayName": f"西改{mark}"}
    assert (
        await office.refusal(client.UpdateDepartment(department=renamed, updateMask="displayName"))
        == "PERMISSION_DENIED"
    )
    made = client.CreateDepartment(department={"displayName": f"西下{mark}", "parent": west.name})
    assert await office.refusal(made) == "SEGMENT_CROSSING"
    below = await client.CreateDepartment(department={"displayName": f"东下{mark}", "parent": team.name})
    assert below.parent == team.name
    assert (await client.FreezeEmployee(name=mine.name, reason="本板块的人")).state == pb.Employee.FROZEN
