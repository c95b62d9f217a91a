"""Tasks that wait for each other, come again and are due by whoever's clock; notes that stay private."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Refused, Service, local_date


def day(text: str) -> dict[str, int]:
    year, month, number = (int(part) for part in text.split("-"))
    return {"year": year, "month": month, "day": number}


def iso(message: Any) -> str:
    return date(message.year, message.month, message.day).isoformat()


@pytest.mark.capability("w.task")
async def test_a_task_is_not_done_before_its_checklist_and_what_it_depends_on(
    workspace: Service, office: Any
) -> None:
    sales1, boss = workspace.sales1, workspace.person("manager").employee
    items = [{"text": "盖章", "required": True}, {"text": "存档"}]
    first = await sales1.CreateTask(task={"displayName": "准备合同", "checklist": items})
    second = await sales1.CreateTask(
        task={"displayName": "寄合同", "dependsOn": [first.name], "parent": first.name}
    )
    assert await office.refusal(sales1.CompleteTask(name=second.name)) == "TASK_BLOCKED_BY"
    with pytest.raises(Refused) as refused:
        await sales1.CompleteTask(name=first.name)
    assert (refused.value.reason, refused.value.info.metadata["items"]) == ("TASK_CHECKLIST_OPEN", "盖章")
    cycle = {"name": first.name, "dependsOn": [second.name]}
    assert await office.refusal(sales1.UpdateTask(task=cycle, updateMask="dependsOn")) == "TASK_CYCLE"
    cycle = {"name": first.name, "parent": second.name}
    assert await office.refusal(sales1.UpdateTask(task=cycle, updateMask="parent")) == "TASK_CYCLE"
    self_made = {"name": first.name, "dependsOn": [first.name]}
    assert await office.refusal(sales1.UpdateTask(task=self_made, updateMask="dependsOn")) == "TASK_CYCLE"
    items[0]["done"] = True
    await sales1.UpdateTask(task={"name": first.name, "checklist": items}, updateMask="checklist")
    done = await sales1.CompleteTask(name=first.name)
    assert (done.state, done.progress) == (pb.Task.DONE, 100)
    # What is not to be done any more holds nothing up.
    dropped = await sales1.CreateTask(task={"displayName": "不做了"})
    held = {"name": second.name, "dependsOn": [first.name, dropped.name]}
    await sales1.UpdateTask(task=held, updateMask="dependsOn")
    assert await office.refusal(sales1.CompleteTask(name=second.name)) == "TASK_BLOCKED_BY"
    await sales1.CancelTask(name=dropped.name, reason="客户不再需要")
    assert (await sales1.CompleteTask(name=second.name)).state == pb.Task.DONE
    assert await office.refusal(sales1.StartTask(name=second.name)) == "ILLEGAL_TRANSITION"
    assert await office.refusal(sales1.DeclineTask(name=second.name, reason="已经完成了")) == "TASK_CLOSED"
    assert (await sales1.ReopenTask(name=second.name)).state == pb.Task.OPEN
    assert await office.refusal(sales1.BlockTask(name=second.name, reason="等")) == "REASON_REQUIRED"
    blocked = await sales1.BlockTask(name=second.name, reason="等客户回复")
    assert (blocked.state, blocked.reason) == (pb.Task.BLOCKED, "等客户回复")
    assert (await sales1.StartTask(name=second.name)).state == pb.Task.IN_PROGRESS
    # Given back to who made it; who helps sees it too.
    given = await workspace.manager.CreateTask(
        task={
            "displayName": "协助",
            "owner": workspace.person("sales1").employee,
            "assignees": [workspace.person("sales2").employee],
        }
    )
    assert (await workspace.sales2.GetTask(name=given.name)).display_name == "协助"
    await office.notices(workspace.sales2, given.name)
    back = await sales1.DeclineTask(name=given.name, reason="不是我负责的客户")
    assert (back.owner, back.reason) == (boss, "不是我负责的客户")
    assert await office.refusal(sales1.GetTask(name=given.name)) == "NOT_FOUND"


@pytest.mark.capability("w.task")
async def test_a_monthly_task_of_the_31st_falls_on_the_last_day_of_shorter_months(workspace: Service) -> None:
    sales1 = workspace.sales1
    body = {
        "displayName": f"月报 {uuid4().hex[:6]}",
        "dueDate": day("2027-01-31"),
        "repeat": "MONTHS",
        "repeatUntil": day("2027-05-30"),
    }
    task = first = await sales1.CreateTask(task=body)
    found = [iso(task.due_date)]
    while True:
        await sales1.CompleteTask(name=task.name)
        live = (await sales1.ListTasks(filter=f'source = "{task.name}#again"')).tasks
        if not live:
            break
        task = live[0]
        found.append(iso(task.due_date))
    assert found == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"]
    # Done once more after it was opened again, it does not come twice.
    await sales1.ReopenTask(name=first.name)
    assert (await sales1.CompleteTask(name=first.name)).state == pb.Task.DONE
    assert len((await sales1.ListTasks(filter=f'source = "{first.name}#again"')).tasks) == 1
    for wrong in (-1, 367, 2**31 - 1):
        with pytest.raises(Refused) as refused:
            await sales1.CreateTask(task={**body, "repeatEvery": wrong})
        assert "task.repeat_every" in refused.value.violations


@pytest.mark.capability("w.task")
async def test_a_link_that_the_assignee_may_not_see_is_named_and_labelled(
    workspace: Service, office: Any
) -> None:
    sales1, sales2 = workspace.person("sales1"), workspace.person("sales2")
    account = f"accounts/{uuid4()}"
    record = {
        "name": account,
        "displayName": "华东机械",
        "owner": sales1.employee,
        "department": sales1.department,
    }
    await workspace.tell(
        "crm.customer.v1.ResourceChanged", {"name": account, "action": "CREATED", "resource": record}, account
    )

    async def known() -> Any:
        made = await workspace.admin.CreateTask(
            task={
                "displayName": "看客户",
                "owner": sales2.employee,
                "assignees": [sales1.employee],
                "links": [account],
            }
        )
        return made if made.link_labels else None

    task = await workspace.eventually(known)
    (label,) = task.link_labels
    assert (label.name, label.label, list(label.unseen_by)) == (account, "华东机械", [sales2.employee])
    assert (await workspace.sales2.GetTask(name=task.name)).link_labels[0].label == "华东机械"
    handed = await workspace.admin.AssignTask(name=task.name, owner=sales1.employee)
    assert not handed.link_labels[0].unseen_by


@pytest.mark.capability("w.task")
async def test_a_task_is_overdue_from_midnight_on_in_the_zone_of_who_has_it(
    workspace: Service, office: Any
) -> None:
    # Between these two zones lies more than a day, so that their dates always differ.
    late, early = "Pacific/Pago_Pago", "Pacific/Kiritimati"
    today = datetime.now(UTC).astimezone(ZoneInfo(late)).date()
    found: dict[str, Any] = {}
    for zone in (late, early):
        hired = await office.hire(f"zone{uuid4().hex[:8]}", ["sales_representative"], timeZone=zone)
        client = await office.client_of(hired)
        await client.CreateTask(task={"displayName": "今天的事", "dueDate": day(today.isoformat())})
        await client.CreateTask(task={"displayName": "以后的事", "dueDate": day("2099-01-01")})
        found[zone] = await client.ReadMyDay()
    assert ([t.display_name for t in found[late].due_today], list(found[late].overdue)) == (["今天的事"], [])
    assert ([t.display_name for t in found[early].overdue], list(found[early].due_today)) == (
        ["今天的事"],
        [],
    )
    assert found[late].today == today.isoformat()


async def test_a_private_note_is_in_no_list_search_report_or_export_of_others(
    workspace: Service, office: Any
) -> None:
    secret = f"底价{uuid4().hex[:8]}"
    note = await workspace.sales1.CreateNote(
        note={
            "displayName": "谈判备忘",
            "body": f"客户的{secret}",
            "notebook": "华东",
            "pinned": True,
            "colour": "#fff7cc",
        }
    )
    for other in (workspace.admin, workspace.client("zong"), workspace.manager):
        assert await office.refusal(other.GetNote(name=note.name)) == "NOT_FOUND"
        assert not (await other.ListNotes(q=secret)).notes
        assert not [row for row in (await other.AggregateNotes(q=secret)).rows if row.count != "0"]
    purpose = {"purpose": "OTHER", "purposeText": "看看别人的便签里写了什么", "format": "CSV"}
    export = await workspace.admin.CreateExport(export={"collection": "notes", **purpose})

    async def ended() -> Any:
        found = await workspace.admin.GetExport(name=export.name)
        return found if found.state in (pb.Export.READY, pb.Export.FAILED) else None

    exported = await workspace.eventually(ended)
    if exported.sha256:
        path = workspace.parts.directory / "files" / "sha256" / exported.sha256[:2] / exported.sha256
        assert secret not in path.read_text("utf-8", errors="replace")
    # Two characters find it.
    assert [
        found.name
        for found in (await workspace.sales1.ListNotes(q=secret[:2])).notes
        if found.name == note.name
    ]
    with pytest.raises(Refused) as refused:
        await workspace.sales1.CreateNote(note={"displayName": "太长", "body": "x" * 65536 + "y"})
    assert refused.value.violations == {"note.body": "TOO_LONG"}
    with pytest.raises(Refused) as refused:
        await workspace.sales1.CreateNote(note={"displayName": "太长", "body": "长" * 21846})
    assert refused.value.violations == {"note.body": "TOO_LONG"}
    await workspace.sales1.CreateNote(note={"displayName": "刚好", "body": "x" * 65536})


async def test_a_note_is_shared_taken_back_and_made_a_task(workspace: Service, office: Any) -> None:
    sales2 = workspace.person("sales2").employee
    note = await workspace.sales1.CreateNote(note={"displayName": "周五演示", "body": "带样品"})
    await workspace.sales1.ShareNote(name=note.name, employees=[sales2])
    assert (await workspace.sales2.GetNote(name=note.name)).body == "带样品"
    refused = workspace.sales2.ShareNote(name=note.name, employees=[workspace.person("manager").employee])
    assert await office.refusal(refused) == "NOT_THE_OWNER"
    # Each makes a task of one's own of it, and sees nothing of the other's.
    other = await workspace.sales2.MakeTaskOfNote(name=note.name)
    assert (await workspace.sales2.MakeTaskOfNote(name=note.name)).name == other.name
    await workspace.sales1.UnshareNote(name=note.name)
    assert await office.refusal(workspace.sales2.GetNote(name=note.name)) == "NOT_FOUND"
    task = await workspace.sales1.MakeTaskOfNote(name=note.name)
    assert (task.display_name, task.description) == ("周五演示", "带样品")
    assert task.name != other.name
    assert (await workspace.sales1.MakeTaskOfNote(name=note.name)).name == task.name
    # The address book finds colleagues by the sound of their names.
    person = workspace.person("sales1")
    assert person.employee in {
        found.name for found in (await workspace.sales2.ListEmployees(q=person.zh)).employees
    }


async def test_tasks_dates_and_files_of_a_lead_go_along_when_it_is_converted(workspace: Service) -> None:
    sales1, lead, account = workspace.sales1, f"leads/{uuid4()}", f"accounts/{uuid4()}"
    task = await sales1.CreateTask(task={"displayName": "寄样品", "links": [lead]})
    day = local_date() + timedelta(days=40)
    event = await sales1.CreateCalendarEvent(
        calendarEvent={
            "displayName": "演示", "links": [lead],
            "start": f"{day}T10:00", "end": f"{day}T11:00",
        }
    )  # fmt: skip
    file = await sales1.CreateFile(
        file={"displayName": "方案.pdf", "sha256": uuid4().hex * 2, "attachedTo": [lead], "size": "3"}
    )
    fact = {"lead": {"name": lead}, "account": account}
    await workspace.tell("crm.sales.v1.LeadConverted", fact, lead, times=2)

    async def gone_along() -> Any:
        found = await sales1.GetFile(name=file.name)
        return found if account in found.attached_to else None

    assert list((await workspace.eventually(gone_along, 30)).attached_to) == [lead, account]
    assert list((await sales1.GetTask(name=task.name)).links) == [lead, account]
    assert list((await sales1.GetCalendarEvent(name=event.name)).links) == [lead, account]
