"""Comments are read by exactly those who may read the record that they are about, of any service."""

from typing import Any
from uuid import uuid4

import pytest
from crmkit.testing import Client, Refused, Service


async def tell(workspace: Service, name: str, owner: str, version: int, **fields: Any) -> None:
    """What the service of a record says of it."""
    person = workspace.person(owner)
    resource = {"name": name, "owner": person.employee, "department": person.department, "etag": str(version)}
    action = fields.pop("action", "CREATED" if version == 1 else "UPDATED")
    payload = {"name": name, "action": action, "resource": {**resource, **fields}}
    await workspace.tell("crm.sales.v1.ResourceChanged", payload, name, version)


async def write(client: Client, record: str, body: str = "看一下", **fields: Any) -> Any:
    return await client.CreateComment(comment={"record": record, "body": body, **fields})


async def readers(comment: Any, people: dict[str, Client]) -> set[str]:
    """Who of these reads it; list, get and figures say the same."""
    found: set[str] = set()
    for who, client in people.items():
        mine = f'record = "{comment.record}" AND name = "{comment.name}"'
        listed = (await client.ListComments(filter=mine)).comments
        rows = (await client.AggregateComments(filter=mine)).rows
        try:
            await client.GetComment(name=comment.name)
            found.add(who)
        except Refused as refused:
            assert refused.reason == "NOT_FOUND"
        assert bool(listed) == (bool(rows) and rows[0].count == "1") == (who in found), who
    return found


async def become(workspace: Service, comment: Any, people: dict[str, Client], wanted: set[str]) -> None:
    async def are() -> bool:
        pages = [await one.ListComments(filter=f'name = "{comment.name}"') for one in people.values()]
        return {who for who, page in zip(people, pages, strict=True) if page.comments} == wanted

    await workspace.eventually(are, 30)
    assert await readers(comment, people) == wanted


@pytest.mark.capability("w.share")
async def test_a_comment_is_read_by_exactly_those_who_read_the_record_wherever_that_goes(
    workspace: Service, office: Any
) -> None:
    people = {who: workspace.client(who) for who in ("sales1", "sales2", "manager", "stranger")}
    deal = f"opportunities/{uuid4()}"
    refused = write(people["sales1"], deal)
    assert await office.refusal(refused) == "UNKNOWN_REFERENCE"
    await tell(workspace, deal, "sales1", 1, displayName="大单")

    async def known() -> Any:
        try:
            return await write(people["sales1"], deal)
        except Refused as refused:
            assert refused.reason == "UNKNOWN_REFERENCE"
            return None

    comment = await workspace.eventually(known, 30)
    assert await readers(comment, people) == {"sales1", "manager"}
    # Who may not read the record writes nothing about it, and learns not that it is there.
    assert await office.refusal(write(people["sales2"], deal)) == "UNKNOWN_REFERENCE"
    # The record goes to somebody else, its comments with it: also for who wrote them.
    await tell(workspace, deal, "sales2", 2, displayName="大单")
    before = await readers(comment, people)
    assert before in ({"sales1", "manager"}, {"sales2", "manager"}, {"sales2"})
    seen = (
        {"sales2"}
        if workspace.person("sales2").department != workspace.person("sales1").department
        else {"sales2", "manager"}
    )
    await become(workspace, comment, people, seen)
    assert await office.refusal(people["sales1"].DeleteComment(name=comment.name)) == "NOT_FOUND"
    shared = workspace.person("sales1").employee
    await tell(workspace, deal, "sales2", 3, displayName="大单", collaborators=[shared])
    await become(workspace, comment, people, {*seen, "sales1"})
    # What is heard late changes nothing; what is gone is read by nobody.
    await tell(workspace, deal, "stranger", 2, displayName="大单")
    await tell(workspace, deal, "sales2", 4, action="DELETED")
    await become(workspace, comment, people, set())


async def test_comments_follow_records_of_workspace_itself_and_are_changed_by_their_authors(
    workspace: Service, office: Any
) -> None:
    people = {who: workspace.client(who) for who in ("sales1", "sales2", "manager")}
    me, manager = people["sales1"], people["manager"]
    task = await me.CreateTask(task={"displayName": "准备演示"})

    async def known() -> Any:
        record = (await me.ListTasks(filter=f'name = "{task.name}"')).tasks
        return record and await write(me, task.name)

    comment = await workspace.eventually(known, 30)
    await become(workspace, comment, people, {"sales1", "manager"})
    answer = await write(manager, task.name, "周三前", replyTo=comment.name)
    (notice,) = [one for one in await office.notices(me, task.name) if one.kind == "comment"]
    assert "准备演示" in notice.display_name and notice.body == "周三前"
    elsewhere = await me.CreateTask(task={"displayName": "别的"})
    wrong = write(me, elsewhere.name, replyTo=answer.name)
    assert await office.refusal(wrong) == "COMMENT_ELSEWHERE"
    changed = await me.UpdateComment(comment={"name": comment.name, "body": "请看一下"}, updateMask="body")
    assert changed.edit_time.seconds and changed.body == "请看一下"
    assert (
        await office.refusal(
            manager.UpdateComment(comment={"name": comment.name, "body": "x"}, updateMask="body")
        )
        == "NOT_FOUND"
    )
    assert await office.refusal(manager.DeleteComment(name=comment.name)) == "NOT_FOUND"
    # What somebody has answered stays.
    assert await office.refusal(me.DeleteComment(name=comment.name)) == "IN_USE"
    await manager.DeleteComment(name=answer.name)
    await me.DeleteComment(name=comment.name)
    # Files are read beyond their scope: comments ask the file itself.
    file = await me.CreateFile(file={"displayName": "a.txt", "sha256": uuid4().hex * 2})
    on_file = await write(me, file.name)
    assert await readers(on_file, people) == {"sales1", "manager"}
    note = await me.CreateNote(note={"displayName": "私人"})

    async def noted() -> Any:
        try:
            return await write(me, note.name)
        except Refused:
            return None

    private = await workspace.eventually(noted, 30)
    await become(workspace, private, people, {"sales1"})


@pytest.mark.capability("w.share")
async def test_a_mention_tells_who_may_read_the_record_and_warns_of_who_may_not(
    workspace: Service, office: Any
) -> None:
    me, other = workspace.sales1, workspace.client("sales2")
    seeing, blind = workspace.person("manager").employee, workspace.person("sales2").employee
    task = await me.CreateTask(task={"displayName": f"提及{uuid4().hex[:6]}"})

    async def mentioned() -> Any:
        try:
            return await write(me, task.name, mentions=[seeing])
        except Refused as refused:
            assert refused.reason in ("MENTION_OUTSIDE_AUDIENCE", "UNKNOWN_REFERENCE")
            return None

    comment = await workspace.eventually(mentioned, 30)
    (notice,) = await office.notices(workspace.manager, task.name)
    assert (notice.kind, notice.body) == ("mention", "看一下")
    for _ in range(2):
        warned = me.UpdateComment(
            comment={"name": comment.name, "mentions": [seeing, blind]}, updateMask="mentions"
        )
        assert await office.refusal(warned) == "MENTION_OUTSIDE_AUDIENCE"
    assert await office.refusal(write(me, task.name, mentions=[blind])) == "MENTION_OUTSIDE_AUDIENCE"
    await write(me, task.name, mentions=[blind, seeing], acceptUnseen=True)
    assert (
        len((await workspace.manager.ListNotifications(filter=f'target = "{task.name}"')).notifications) == 2
    )
    assert not (await other.ListNotifications(filter=f'target = "{task.name}"')).notifications
    # Customers and partners read no comments.
    portal = workspace.client("customer", account=f"accounts/{uuid4()}")
    refused = await office.refusal(portal.GetComment(name=comment.name))
    assert refused in ("NOT_FOUND", "PERMISSION_DENIED")


async def test_comments_on_records_that_row_rules_narrow_are_read_by_who_reads_these_records(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:8]
    rules = {
        "amount": "amount >= 1000", "number": "probability >= 50", "text": 'stage = "会面"', "state": 'state = "OPEN"',
        "day": 'expected_close_date >= "2026-06-01"', "long": 'need != "无"',
    }  # fmt: skip
    people: dict[str, Client] = {"sales1": workspace.sales1}
    for key, rule in rules.items():
        grant = {"collection": "sales.opportunities", "level": "ALL", "rule": rule}
        role = {
            "code": f"{key}_{mark}", "displayName": key, "scope": "ALL", "grants": [grant],
            "permissions": ["sales.opportunities.read", "workspace.comments.read", "workspace.comments.create"],
        }  # fmt: skip
        await workspace.admin.CreateRole(role=role)
        people[key] = await office.client_of(await office.hire(f"{key}.{mark}", [f"{key}_{mark}"]))
    deal = f"opportunities/{uuid4()}"
    fields: dict[str, Any] = {
        "displayName": "大单", "state": "OPEN", "stage": "会面", "need": "短", "probability": "60",
        "amount": {"currencyCode": "CNY", "amount": "2000"},
        "expectedCloseDate": {"year": 2026, "month": 7, "day": 1},
    }  # fmt: skip
    await tell(workspace, deal, "sales1", 1, **fields)

    async def known() -> Any:
        try:
            return await write(people["sales1"], deal)
        except Refused as refused:
            assert refused.reason == "UNKNOWN_REFERENCE"
            return None

    comment = await workspace.eventually(known, 30)
    await become(workspace, comment, people, {*people})
    for key in rules:
        await write(people[key], deal, "我也看到了")
    # The record changes, and with it who passes the rules; what JSON leaves out is asked as what it is.
    await tell(workspace, deal, "sales1", 2, displayName="大单", need="短")
    await become(workspace, comment, people, {"sales1", "long"})
    assert await office.refusal(write(people["text"], deal)) == "UNKNOWN_REFERENCE"
    # What is too long to be known here lets nobody in.
    await tell(workspace, deal, "sales1", 3, **{**fields, "need": "长" * 400})
    await become(workspace, comment, people, {*people} - {"long"})
