"""What people are told: by rules, once, at their hours, by ways that work, of what they may see."""

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from crmkit.auth import system
from crmkit.events import Fact
from crmkit.testing import Service
from sqlalchemy import text
from workspace import jobs, mail, reminders, rules
from workspace.model.notification import quiet_until

RULE = {
    "trigger": "FACT", "collection": "contracts", "fact": "crm.orders.v1.ContractSigned",
    "recipients": [{"who": "OWNER"}], "titleZh": "合同“{displayName}”已签", "titleEn": "{displayName} is signed",
}  # fmt: skip


async def rule(workspace: Service, **more: Any) -> Any:
    """An active rule."""
    made = await workspace.admin.CreateNotificationRule(
        notificationRule={**RULE, "displayName": f"规则{uuid4().hex[:6]}", **more}
    )
    return await workspace.admin.ActivateNotificationRule(name=made.name)


async def colleague(workspace: Service, office: Any, **more: Any) -> tuple[Any, Any]:
    boss = workspace.person("manager").employee
    unique = uuid4().hex[:8]
    made = await office.hire(f"told{unique}", ["sales_representative"], superior=boss, **more)
    return made, await office.client_of(made)


def contract(owner: Any, **more: Any) -> dict[str, Any]:
    unique = uuid4()
    return {
        "name": f"contracts/{unique}", "displayName": f"框架协议{unique.hex[:8]}", "owner": owner.name,
        "department": owner.department, **more,
    }  # fmt: skip


async def changed(workspace: Service, record: dict[str, Any], version: int = 1, **more: Any) -> None:
    """The record's change is known."""
    payload = {
        "name": record["name"],
        "action": "CREATED" if version == 1 else "UPDATED",
        "resource": record,
        **more,
    }
    area = {"contracts": "orders", "contacts": "customer"}[record["name"].partition("/")[0]]
    await workspace.tell(f"crm.{area}.v1.ResourceChanged", payload, record["name"], version)

    async def known() -> Any:
        async with workspace.running.sessions() as session:
            query = text("SELECT 1 FROM known_records WHERE name = :name AND version >= :version")
            return (await session.execute(query, {"name": record["name"], "version": version})).one_or_none()

    await workspace.eventually(known, 30)


async def sql(workspace: Service, statement: str, **values: Any) -> None:
    async with workspace.running.call("test", system("workspace")) as call:
        await call.db.execute(text(statement), values)


async def notices(client: Any, target: str = "", kind: str = "") -> list[Any]:
    wanted = " AND ".join(
        f'{key} = "{value}"' for key, value in (("target", target), ("kind", kind)) if value
    )
    return list((await client.ListNotifications(filter=wanted)).notifications)


def fact(subject: str, payload: dict[str, Any], aggregate: str) -> Fact:
    return Fact(subject, uuid4(), datetime.now(UTC), "system/test", aggregate, 1, payload)


@pytest.mark.capability("w.remind")
async def test_a_fact_tells_each_person_once_by_each_way_and_a_dead_way_gives_way_to_the_next(
    workspace: Service, office: Any, postbox: Any, adapter: Any
) -> None:
    address = f"{uuid4().hex[:8]}@guanxi.example"
    person, client = await colleague(workspace, office, email=address, phone="+8613800000001")
    stranger = workspace.person("sales2").employee
    made = await rule(
        workspace, channels=["IN_APP", "SMS", "MAIL"], bodyZh="{number} {gross}",
        recipients=[{"who": "OWNER"}, {"who": "MANAGER", "level": 1}, {"who": "EMPLOYEE", "value": stranger}],
    )  # fmt: skip
    adapter.answers["/sms"] = 503
    record = contract(person, number="HT-1")
    try:
        told = fact("crm.orders.v1.ContractSigned", {"contract": record}, record["name"])
        # Delivered twice, and tried again behind a crash: the same fact is told once.
        for _ in range(3):
            async with workspace.running.call("test", system("workspace")) as call:
                await rules.on_facts([told], call)

        async def dead() -> Any:
            await sql(
                workspace, "UPDATE mails SET next_time = now() WHERE person = :p AND state = 'WAITING'", p=person.name
            )  # fmt: skip
            async with workspace.running.call("test", system("workspace")) as call:
                await mail.start_waiting(call)
            return postbox.of(address)

        (sent,) = await workspace.eventually(dead, 30)
    finally:
        adapter.answers.clear()
    assert sent["Subject"] == f"合同“{record['displayName']}”已签" and "HT-1" in sent.get_content()
    tries = adapter.of("/sms", record["displayName"])
    assert len(tries) == mail.TRIES and tries[0]["to"] == "+8613800000001"
    (notice,) = await notices(client, record["name"])
    assert (notice.count, notice.display_name) == (1, f"合同“{record['displayName']}”已签")

    async def remembered() -> Any:
        (found,) = await notices(client, record["name"])
        return [(one.channel, one.state) for one in found.deliveries] == [(3, "FAILED"), (2, "SENT")]

    await workspace.eventually(remembered, 30)
    # The superior sees it and is told; who may not see the record is told nothing of it.
    assert len(await notices(workspace.manager, record["name"])) == 1
    assert not await notices(workspace.sales2, record["name"])
    await workspace.admin.PauseNotificationRule(name=made.name)
    assert len(postbox.of(address)) == 1


@pytest.mark.capability("w.remind")
async def test_text_messages_push_and_robots_are_given_signed_once(
    workspace: Service, office: Any, adapter: Any
) -> None:
    person, client = await colleague(workspace, office, phone="+8613800000002")
    for way, path in (("SMS", "/sms"), ("PUSH", "/push"), ("CHAT_BOT", "/bot")):
        made = await rule(workspace, channels=[way])
        record = contract(person)
        told = fact("crm.orders.v1.ContractSigned", {"contract": record}, record["name"])
        for _ in range(2):
            async with workspace.running.call("test", system("workspace")) as call:
                await rules.on_facts([told], call)
        (given,) = await workspace.eventually(lambda: adapter.of(path, record["displayName"]), 30)  # noqa: B023
        assert not await notices(client, record["name"])
        await workspace.admin.PauseNotificationRule(name=made.name)
        if path != "/bot":
            assert given["target"] == record["name"]
    head = next(headers for _, body, headers in adapter.got if body == given)
    payload = json.dumps(given, ensure_ascii=False).encode()
    secret = workspace.running.settings.secret
    assert head[
        "X-Guanxi-Signature"
    ] == f"sha256={hmac.new(secret, payload, 'sha256').hexdigest()}" and given["text"][
        "mentioned_mobile_list"
    ] == ["+8613800000002"]


@pytest.mark.capability("w.remind")
async def test_quiet_hours_delay_all_but_what_is_critical_and_kinds_can_be_unsubscribed(
    workspace: Service, office: Any
) -> None:
    zone = "Asia/Shanghai"
    night = datetime(2026, 12, 1, 15, 30, tzinfo=UTC)  # 23:30 on a Tuesday
    assert quiet_until(night, zone, [("22:00", "07:00")], False) == datetime(2026, 12, 1, 23, tzinfo=UTC)
    assert quiet_until(night, zone, [("12:00", "13:00")], False) is None
    # Friday night: Saturday and Sunday are off, and Monday begins at seven.
    friday = datetime(2026, 12, 4, 15, 30, tzinfo=UTC)
    assert quiet_until(friday, zone, [("22:00", "07:00")], True) == datetime(2026, 12, 6, 23, tzinfo=UTC)
    person, client = await colleague(workspace, office)
    wish = await client.SetNotificationPreference(quietFrom="00:00", quietTo="23:59")
    assert (await client.SetNotificationPreference(quietFrom="00:00", quietTo="23:59")).name == wish.name
    assert await office.refusal(workspace.admin.GetNotificationPreference(name=wish.name)) == "NOT_FOUND"
    plain, grave = await rule(workspace), await rule(workspace, importance="CRITICAL")
    record = contract(person)
    told = fact("crm.orders.v1.ContractSigned", {"contract": record}, record["name"])

    async def fire() -> None:
        async with workspace.running.call("test", system("workspace")) as call:
            await rules.on_facts([told], call)

    await fire()
    (notice,) = await notices(client, record["name"])
    assert notice.importance == 3
    await client.MarkReadNotification(name=notice.name)
    # When the quiet is over, what waited is there, once.
    await fire()
    await sql(
        workspace, "UPDATE mails SET next_time = now() WHERE person = :p AND channel = 'IN_APP'", p=person.name
    )  # fmt: skip
    async with workspace.running.call("test", system("workspace")) as call:
        await mail.start_waiting(call)

    async def both() -> bool:
        return len(await notices(client, record["name"])) == 2

    await workspace.eventually(both, 30)
    await client.SetNotificationPreference(mutedKinds=["rule"])
    other = contract(person)
    told = fact("crm.orders.v1.ContractSigned", {"contract": other}, other["name"])
    await fire()
    assert [one.importance for one in await notices(client, other["name"])] == [3]
    for made in (plain, grave):
        await workspace.admin.PauseNotificationRule(name=made.name)
    for bad in ({"quietFrom": "25:00", "quietTo": "07:00"}, {"quietFrom": "22:00"}):
        assert await office.refusal(client.SetNotificationPreference(**bad)) == "VALIDATION"


@pytest.mark.capability("w.remind")
async def test_unread_ones_of_a_group_show_as_one_and_can_be_put_off_and_laid_aside(
    workspace: Service, office: Any
) -> None:
    person, client = await colleague(workspace, office)
    ticket = f"tickets/{uuid4()}"
    warned = {
        "ticket": {
            "name": ticket,
            "number": "T-9",
            "assignee": person.name,
            "owner": person.name,
            "department": person.department,
        }
    }
    for _ in range(3):
        await workspace.tell("crm.servicedesk.v1.SlaWarned", warned, ticket)

    async def three() -> Any:
        found = await notices(client, ticket)
        return found if found and found[0].count == 3 else None

    (notice,) = await workspace.eventually(three, 30)
    assert (await client.MarkReadNotification(name=notice.name)).HasField("read_time")
    await workspace.tell("crm.servicedesk.v1.SlaWarned", warned, ticket)

    async def fresh() -> Any:
        return [one for one in await notices(client, ticket) if not one.HasField("read_time")]

    (second,) = await workspace.eventually(fresh, 30)
    assert (second.count, second.name != notice.name) == (1, True)
    past = datetime.now(UTC) - timedelta(hours=1)
    assert await office.refusal(client.SnoozeNotification(name=second.name, until=stamp(past))) == (
        "VALIDATION"
    )
    later = await client.SnoozeNotification(
        name=second.name, until=stamp(datetime.now(UTC) + timedelta(hours=1))
    )
    assert later.HasField("snooze_time")
    assert (await client.MarkAllNotificationsRead()).marked == 0
    async with workspace.running.call("test", system("workspace")) as call:
        await jobs.end_snoozes(datetime.now(UTC) + timedelta(hours=2), call)
    back = await client.GetNotification(name=second.name)
    assert not back.HasField("snooze_time") and not back.HasField("read_time")
    assert (await client.ArchiveNotification(name=second.name)).HasField("archive_time")
    assert (
        await office.refusal(workspace.sales2.SnoozeNotification(name=second.name, until=stamp(past)))
        == "NOT_FOUND"
    )


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.mark.capability("w.remind")
async def test_due_reminders_come_in_time_and_those_of_an_outage_as_one_list(
    workspace: Service, office: Any
) -> None:
    _, client = await colleague(workspace, office)
    now = datetime.now(UTC)
    for index in range(2):
        for days in (2, 3):
            await client.CreateNote(
                note={"displayName": f"很久以前{index}", "remindTime": stamp(now - timedelta(days=days))}
            )
    for index in range(40):
        await client.CreateNote(
            note={"displayName": f"现在{index}", "remindTime": stamp(now - timedelta(seconds=1))}
        )
    # The job has not run for four days.
    await sql(
        workspace,
        "INSERT INTO reminder_marks VALUES ('remind', now() - interval '4 days')"
        " ON CONFLICT (name) DO UPDATE SET covered_time = excluded.covered_time",
    )
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await reminders.remind(call)
    found = list((await client.ListNotifications(filter='kind = "reminder"', pageSize=100)).notifications)
    missed = [one for one in found if "错过" in one.display_name]
    assert [(one.count, one.display_name) for one in missed] == [(4, "错过的提醒：4 条")]
    assert missed[0].body.count("很久以前") == 4
    due = [one for one in found if one not in missed]
    assert len(due) == 40
    late = sorted((one.create_time.ToDatetime(UTC) - one.due_time.ToDatetime(UTC)) for one in due)
    # One run tells all that is due, and runs are no more than half a minute apart.
    assert late[-1] < timedelta(seconds=60)
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    assert jobs.remind.after(moment) - moment <= timedelta(seconds=30)


@pytest.mark.capability("w.remind")
async def test_days_conditions_silence_and_schedules_set_rules_off(workspace: Service, office: Any) -> None:
    person, client = await colleague(workspace, office)
    today = datetime.now(UTC) + timedelta(hours=8)
    ends = (today + timedelta(days=15)).date()
    record = contract(
        person, state="ACTIVE", endDate={"year": ends.year, "month": ends.month, "day": ends.day}
    )
    other = contract(person, state="DRAFT", endDate=record["endDate"])
    for one in (record, other):
        await changed(workspace, one)
    common = {"condition": f'owner = "{person.name}"', "clock": f"{today:%H:%M}"}
    dated = await rule(
        workspace, **{**common, "condition": f'{common["condition"]} AND state = "ACTIVE"'}, trigger="DATE",
        dateField="endDate", offsetDays=-15, titleZh="{displayName} 还有 {days} 天到期（{endDate}）", actions=["NOTIFY", "CREATE_TASK"],
    )  # fmt: skip
    silent = await rule(
        workspace, **common, trigger="SILENCE", silentDays=7, titleZh="{displayName} 一周没有动静"
    )
    listed = await rule(workspace, **common, trigger="SCHEDULE", titleZh="{displayName}")
    begun = await rule(
        workspace,
        trigger="CONDITION",
        condition='state = "TERMINATED"',
        titleZh="{displayName} 已终止（{state}）",
    )
    await sql(
        workspace, "UPDATE known_records SET touch_time = now() - interval '8 days' WHERE name = :n", n=other["name"]
    )  # fmt: skip
    await sql(
        workspace,
        "UPDATE notification_rules SET covered_time = now() - interval '10 minutes',"
        " activate_time = now() - interval '10 minutes' WHERE id = ANY(:ids)",
        ids=[UUID(one.name.partition("/")[2]) for one in (dated, silent, listed)],
    )
    for _ in range(2):
        async with workspace.running.call("test", system("workspace")) as call:
            await rules.start_due(datetime.now(UTC) + timedelta(minutes=1), call)

    async def all_told() -> Any:
        found = await notices(client, kind="rule")
        return found if len(found) == 3 and any(one.count == 2 for one in found) else None

    found = {one.display_name for one in await workspace.eventually(all_told, 30)}
    assert found == {
        f"{record['displayName']} 还有 15 天到期（{ends}）",
        f"{other['displayName']} 一周没有动静",
        f"{listed.display_name}：2 条",
    }
    (task,) = (await client.ListTasks(filter=f'source:"{dated.name}"')).tasks
    assert (task.owner, list(task.links)) == (person.name, [record["name"]])
    ended = {**record, "state": "TERMINATED"}
    change = {"before": {"state": "ACTIVE"}, "after": {"state": "TERMINATED"}}
    await changed(workspace, ended, 2, **change)
    await changed(
        workspace,
        {**ended, "displayName": "改名"},
        3,
        before={"displayName": record["displayName"]},
        after={"displayName": "改名"},
    )

    async def over() -> Any:
        return [one for one in await notices(client, record["name"], "rule") if "终止" in one.display_name]

    (told,) = await workspace.eventually(over, 30)
    assert told.display_name.startswith(f"{record['displayName']} 已终止（") and told.count == 1
    for one in (dated, silent, listed, begun):
        await workspace.admin.PauseNotificationRule(name=one.name)


@pytest.mark.capability("w.remind")
async def test_a_rule_is_tried_on_a_record_previewed_and_refused_where_it_cannot_be(
    workspace: Service, office: Any
) -> None:
    person, client = await colleague(workspace, office)
    admin = workspace.admin
    record = contract(person)
    await changed(workspace, record)
    stranger = workspace.person("sales2").employee
    people = [{"who": "OWNER"}, {"who": "EMPLOYEE", "value": stranger}]
    made = await admin.CreateNotificationRule(
        notificationRule={**RULE, "displayName": "试用", "recipients": people}
    )
    tried = await admin.TestNotificationRule(name=made.name, record=record["name"])
    assert (tried.title_en, tried.matches) == (f"{record['displayName']} is signed", True)
    assert (list(tried.recipients), list(tried.unseen_by)) == ([person.name], [stranger])
    assert len(await office.notices(admin, record["name"])) == 1
    assert not await notices(client, record["name"])
    assert (
        await office.refusal(admin.TestNotificationRule(name=made.name, record=f"contracts/{uuid4()}"))
        == "NOT_FOUND"
    )

    async def refused(**more: Any) -> str:
        body = {**RULE, "displayName": "不行", **more}
        draft = await admin.CreateNotificationRule(notificationRule=body)
        return await office.refusal(admin.ActivateNotificationRule(name=draft.name))

    assert await refused(titleZh="{secretPlan}") == "TEMPLATE_INVALID"
    assert await refused(titleZh="{displayName") == "TEMPLATE_INVALID"
    assert await refused(recipients=[]) == "RECIPIENT_NONE"
    assert await refused(recipients=[{"who": "ROLE", "value": "nobody_has_it"}]) == "RECIPIENT_NONE"
    assert (
        await refused(trigger="CONDITION", collection="notifications", condition='kind = "x"') == "RULE_LOOP"
    )
    assert (
        await refused(
            trigger="CONDITION", collection="tasks", condition='state = "OPEN"', actions=["CREATE_TASK"]
        )
        == "RULE_LOOP"
    )
    for wrong in ({"fact": "crm.orders.v1.Nothing"}, {"trigger": "DATE", "dateField": "state"}):
        body = {**RULE, "displayName": "错", **wrong}
        assert await office.refusal(admin.CreateNotificationRule(notificationRule=body)) == "VALIDATION"
    assert (
        await office.refusal(
            admin.CreateNotificationRule(
                notificationRule={**RULE, "displayName": "错", "condition": "a = = 1"}
            )
        )
        == "FILTER_INVALID"
    )
    assert await office.refusal(client.CreateNotificationRule(notificationRule=RULE)) == "PERMISSION_DENIED"
    soon = datetime.now(UTC) + timedelta(days=2)
    note = await client.CreateNote(note={"displayName": "三天内", "remindTime": stamp(soon)})
    await client.CreateNote(
        note={"displayName": "以后", "remindTime": stamp(datetime.now(UTC) + timedelta(days=20))}
    )
    task = await client.CreateTask(task={"displayName": "交方案", "dueTime": stamp(soon)})
    coming = (await client.PreviewReminders(days=3)).coming
    assert [one.target for one in coming] == [task.name, note.name]
    assert not (await workspace.sales2.PreviewReminders(days=3)).coming


async def test_the_facts_of_customers_make_notices_and_to_dos(workspace: Service, office: Any) -> None:
    person, client = await colleague(workspace, office)
    account = {
        "name": f"accounts/{uuid4()}",
        "displayName": "华东机械",
        "owner": person.name,
        "department": person.department,
    }
    soon = {"account": account, "owner": person.name, "step": 3}
    await workspace.tell("crm.customer.v1.SeaDueSoon", soon, account["name"])
    gone = {"account": {**account, "owner": ""}, "employee": person.name, "count": 1}
    await workspace.tell("crm.customer.v1.ClaimLapsed", gone, account["name"])

    async def lapsed() -> Any:
        found = await notices(client, account["name"], "sea")
        return found if found and found[0].count == 2 else None

    (notice,) = await workspace.eventually(lapsed, 30)
    assert notice.display_name.startswith("领取的客户“华东机械”")
    case = {"name": f"duplicateCases/{uuid4()}", "displayName": "华东机械 / 华东机械厂"}
    found = {"case": case, "waitingFor": person.name, "deadline": "2027-01-05T10:00:00Z"}
    await workspace.tell("crm.customer.v1.CollisionFound", found, case["name"], times=2)

    async def tasks() -> Any:
        return list((await client.ListTasks(filter=f'source:"{case["name"]}"')).tasks)

    (task,) = await workspace.eventually(tasks, 30)
    assert (task.display_name, task.due_time.ToJsonString()) == (
        "处理撞单：华东机械 / 华东机械厂",
        "2027-01-05T10:00:00Z",
    )
    await workspace.tell("crm.customer.v1.CollisionDecided", {"case": case, "verdict": "KEEP"}, case["name"])

    async def closed() -> bool:
        return (await client.GetTask(name=task.name)).state == 4

    await workspace.eventually(closed, 30)
    care = {
        "name": f"careOccurrences/{uuid4()}",
        "displayName": "王总生日",
        "owner": person.name,
        "account": account["name"],
    }
    await workspace.tell("crm.customer.v1.CareTaskDue", {"occurrence": care, "channel": "CALL"}, care["name"])

    async def cared() -> Any:
        return list((await client.ListTasks(filter=f'source:"{care["name"]}"')).tasks)

    (call,) = await workspace.eventually(cared, 30)
    assert (call.display_name, list(call.links)) == ("客户关怀：王总生日", [care["name"], account["name"]])
    job = {
        "name": f"salesTasks/{uuid4()}",
        "displayName": "拜访三家老客户",
        "dueTime": "2027-01-08T10:00:00Z",
    }
    given = {"salesTask": job, "people": [person.name]}
    await workspace.tell("crm.sales.v1.SalesTaskAssigned", given, job["name"])

    async def assigned() -> Any:
        return list((await client.ListTasks(filter=f'source:"{job["name"]}" AND state = "OPEN"')).tasks)

    (call,) = await workspace.eventually(assigned, 30)
    assert (call.display_name, call.due_time.ToJsonString()) == ("拜访三家老客户", job["dueTime"])
    await workspace.tell("crm.sales.v1.SalesTaskFinished", {"salesTask": job}, job["name"])

    async def finished() -> bool:
        return not await assigned()

    await workspace.eventually(finished, 30)
