"""What is posted on boards is read by its audience and nobody else, and it is known who has acknowledged it."""

import time
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit import blobs, bulk
from crmkit.auth import system
from crmkit.testing import Refused, Service
from sqlalchemy import text
from workspace.model.employee import Employee

State = pb.Post.State
PEOPLE = 1000


async def draft(client: Any, **fields: Any) -> Any:
    return await client.CreatePost(post={"displayName": "通知", "board": "FORUM", "body": "正文", **fields})


async def publish(client: Any, **fields: Any) -> Any:
    post = await draft(client, **fields)
    return await client.PublishPost(name=post.name)


async def reads(client: Any, post: Any) -> bool:
    """Whether somebody reads a post; list, get, figures and search say the same."""
    listed = bool((await client.ListPosts(filter=f'name = "{post.name}"')).posts)
    rows = (await client.AggregatePosts(filter=f'name = "{post.name}"')).rows
    assert listed == (bool(rows) and rows[0].count == "1")
    try:
        await client.GetPost(name=post.name)
    except Refused as refused:
        assert refused.reason == "NOT_FOUND" and not listed
        return False
    assert listed
    return True


async def become(workspace: Service, client: Any, post: Any, seen: bool) -> None:
    """Waits until somebody reads a post, or no more; then all paths say so."""

    async def is_so() -> bool:
        return bool((await client.ListPosts(filter=f'name = "{post.name}"')).posts) == seen

    await workspace.eventually(is_so, 30)
    assert await reads(client, post) == seen


@pytest.mark.capability("w.share")
async def test_a_post_is_read_by_its_audience_alone_and_by_who_comes_to_it(
    workspace: Service, office: Any
) -> None:
    mark = uuid4().hex[:8]
    people = {who: workspace.client(who) for who in ("sales1", "sales2", "manager", "stranger", "finance")}
    here, admin = workspace.person("sales1").department, workspace.admin
    above = (await admin.GetDepartment(name=here)).parent
    team = await admin.CreateDepartment(department={"displayName": f"组{mark}", "parent": here})
    author = people["sales1"]

    post = await draft(author, audienceDepartments=[team.name], displayName=f"内部{mark}")
    assert {who for who, client in people.items() if await reads(client, post)} == {"sales1"}
    # Nobody would read it yet.
    assert await office.refusal(author.PublishPost(name=post.name)) == "AUDIENCE_EMPTY"
    member = await office.hire(f"m.{mark}", ["sales_representative"], department=team.name)
    inside = await office.client_of(member)

    post = await author.PublishPost(name=post.name)
    assert post.state == State.PUBLISHED and post.publish_time.seconds
    people["inside"] = inside
    assert {who for who, client in people.items() if await reads(client, post)} == {"sales1", "inside"}
    assert [one.name for one in (await inside.ListPosts(q=f"部{mark[:4]}")).posts] == [post.name]
    assert not (await people["manager"].ListPosts(q=f"部{mark[:4]}")).posts
    # Reading is not changing.
    for verb in ("ArchivePost", "PublishPost"):
        assert await office.refusal(getattr(inside, verb)(name=post.name)) == "NOT_FOUND"
    changed = inside.UpdatePost(post={"name": post.name, "body": "x"}, updateMask="body")
    assert await office.refusal(changed) == "NOT_FOUND"
    assert await office.refusal(inside.DeletePost(name=post.name)) == "NOT_FOUND"
    member_of = {"name": post.name, "collaborators": [member.name]}
    await author.UpdatePost(post=member_of, updateMask="collaborators")
    assert await office.refusal(inside.ArchivePost(name=post.name)) == "NOT_THE_OWNER"
    await author.UpdatePost(post={**member_of, "collaborators": []}, updateMask="collaborators")

    # Who comes to the department reads it, who leaves it no more.
    late = await office.hire(f"l.{mark}", ["sales_representative"], department=team.name)
    latecomer = await office.client_of(late)
    await become(workspace, latecomer, post, True)
    await admin.UpdateEmployee(employee={"name": member.name, "department": above}, updateMask="department")
    await become(workspace, inside, post, False)
    # The tree moves, and with it those beneath.
    whole = await publish(author, audienceDepartments=[here], displayName=f"部门{mark}")
    assert await reads(latecomer, whole) and await reads(people["sales1"], whole)
    await admin.MoveDepartment(name=team.name, parent=above)
    await become(workspace, latecomer, whole, False)

    # For everybody who works here; neither for customers nor, once it is hidden, for anybody else.
    company = await publish(author, everyone=True, displayName=f"公司{mark}")
    assert {who for who, client in people.items() if await reads(client, company)} == set(people)
    portal = workspace.client("customer", account=f"accounts/{uuid4()}")
    assert await office.refusal(portal.GetPost(name=company.name)) in ("NOT_FOUND", "PERMISSION_DENIED")
    assert (
        await office.refusal(inside.HidePost(name=company.name, reason="不合适的内容")) == "PERMISSION_DENIED"
    )
    assert (
        await office.refusal(people["manager"].HidePost(name=company.name, reason="x")) == "REASON_REQUIRED"
    )
    hidden = await people["manager"].HidePost(name=company.name, reason="不合适的内容")
    assert hidden.state == State.HIDDEN and not await reads(inside, company)
    assert (await author.GetPost(name=company.name)).hide_reason == "不合适的内容"
    # No change fact shows it to anybody but its author: that is all the wall of the others knows of.
    (fact, *_) = await workspace.facts("crm.workspace.v1.PostPublished", whole.name)
    assert fact


@pytest.mark.capability("w.share")
async def test_an_announcement_reaches_a_thousand_people_who_are_followed_until_they_have_acknowledged(
    workspace: Service, office: Any
) -> None:
    mark, admin = uuid4().hex[:8], workspace.admin
    parent = workspace.person("sales1").department
    team = await admin.CreateDepartment(department={"displayName": f"千人{mark}", "parent": parent})
    async with workspace.running.call("test", system("workspace")) as call:
        rows = [
            Employee(
                display_name=f"员工{number}", username=f"k{number}.{mark}", department=team.name, kind="STAFF",
                state="ACTIVE", locale="en" if number % 2 else "zh-CN", time_zone="Asia/Shanghai",
                roles=["sales_representative"], subject=str(uuid4()),
            )
            for number in range(PEOPLE - 1)
        ]  # fmt: skip
        # Nobody but this service need know them.
        await bulk.create_many(call, rows, told=False)
    last = await office.hire(f"last.{mark}", ["sales_representative"], department=team.name, locale="en")
    people = [*(row.name for row in rows), last.name]

    manager = workspace.manager
    said = {
        "kind": "ANNOUNCEMENT",
        "board": "NOTICES",
        "audienceDepartments": [team.name],
        "ackRequired": True,
    }
    # Announcing is for those who may.
    assert await office.refusal(draft(workspace.sales1, **said)) == "PERMISSION_DENIED"
    post = await publish(manager, displayName=f"放假{mark}", **said)
    started = time.monotonic()

    async def told() -> int:
        async with workspace.running.call("test", system("workspace")) as call:
            found = await call.db.scalar(
                text("SELECT count(*) FROM notifications WHERE target = :post"), {"post": post.name}
            )
            return int(found or 0) >= PEOPLE

    await workspace.eventually(told, 300)
    took = time.monotonic() - started
    reader = await office.client_of(last)
    (notice,) = await office.notices(reader, post.name)
    assert notice.display_name == f"Announcement: 放假{mark}"
    # Within half a minute, and nobody twice.
    assert took <= 30
    async with workspace.running.call("test", system("workspace")) as call:
        counted = await call.db.execute(
            text("SELECT count(*), count(DISTINCT owner) FROM notifications WHERE target = :post"),
            {"post": post.name},
        )
        assert tuple(counted.one()) == (PEOPLE, PEOPLE)

    standing = await manager.ListPostReaders(name=post.name, missing=True, pageSize=1000)
    assert (standing.total, standing.acknowledged, len(standing.readers)) == (PEOPLE, 0, PEOPLE)
    assert [one.name for one in (await reader.ReadInformationCentre()).to_acknowledge] == [post.name]
    for _ in range(2):
        await reader.AcknowledgePost(name=post.name)
    standing = await manager.ListPostReaders(name=post.name, missing=True, pageSize=600)
    rest = await manager.ListPostReaders(
        name=post.name, missing=True, pageSize=600, pageToken=standing.next_page_token
    )
    left = [one.employee for one in (*standing.readers, *rest.readers)]
    assert (standing.total, standing.acknowledged) == (PEOPLE, 1) and not rest.next_page_token
    assert sorted(left) == sorted(set(people) - {last.name})
    assert len(await workspace.facts("crm.workspace.v1.PostAcknowledged", post.name)) == 1
    # Others are told how many, not who.
    mine = await reader.ListPostReaders(name=post.name)
    assert (mine.total, mine.acknowledged, list(mine.readers)) == (PEOPLE, 1, []) and mine.my_acknowledge_time
    centre = await reader.ReadInformationCentre()
    assert not centre.to_acknowledge
    newest = next(board.posts[0] for board in centre.boards if board.board == "NOTICES")
    assert newest.name == post.name
    # What they have acknowledged stays as it was.
    changed = manager.UpdatePost(post={"name": post.name, "body": "另一个"}, updateMask="body")
    assert await office.refusal(changed) == "POST_TO_ACKNOWLEDGE"
    await manager.ArchivePost(name=post.name)
    assert await office.refusal(reader.AcknowledgePost(name=post.name)) == "POST_CLOSED"


@pytest.mark.capability("w.share")
async def test_a_mention_of_somebody_outside_the_audience_warns_before_publishing(
    workspace: Service, office: Any
) -> None:
    me, other = workspace.sales1, workspace.client("sales2")
    inside, outside = workspace.person("manager").employee, workspace.person("sales2").employee
    post = await draft(
        me, audiencePeople=[inside, workspace.person("sales1").employee], mentions=[inside, outside]
    )
    with pytest.raises(Refused) as refused:
        await me.PublishPost(name=post.name)
    assert refused.value.reason == "MENTION_OUTSIDE_AUDIENCE"
    name = (await workspace.admin.GetEmployee(name=outside)).display_name
    assert refused.value.info.metadata["people"] == name
    assert (await me.GetPost(name=post.name)).state == State.DRAFT
    await me.PublishPost(name=post.name, acceptOutside=True)
    (notice,) = await office.notices(workspace.manager, post.name)
    assert "提到了您" in notice.display_name or "mentioned you" in notice.display_name
    assert not await reads(other, post)
    assert not (await other.ListNotifications(filter=f'target = "{post.name}"')).notifications


@pytest.mark.capability("w.share")
async def test_a_question_has_one_accepted_answer_and_posts_are_liked(
    workspace: Service, office: Any
) -> None:
    asker, expert = workspace.sales1, workspace.client("sales2")
    question = await publish(asker, kind="QUESTION", board="QUESTIONS", everyone=True, skills=["PRICING"])
    answer = await expert.CreateComment(comment={"record": question.name, "body": "先报三年总价"})
    (notice,) = await office.notices(asker, question.name)
    assert notice.kind == "comment"
    assert (
        await office.refusal(expert.AcceptPostAnswer(name=question.name, comment=answer.name)) == "NOT_FOUND"
    )
    elsewhere = await publish(asker, everyone=True)
    other = await expert.CreateComment(comment={"record": elsewhere.name, "body": "别处"})
    for post, comment in ((question, other), (elsewhere, other)):
        refused = asker.AcceptPostAnswer(name=post.name, comment=comment.name)
        assert await office.refusal(refused) == "COMMENT_ELSEWHERE"
    accepted = await asker.AcceptPostAnswer(name=question.name, comment=answer.name)
    assert (accepted.accepted_answer, accepted.answered_by) == (
        answer.name,
        workspace.person("sales2").employee,
    )
    assert [one.kind for one in await office.notices(expert, question.name)] == ["accepted_answer"]
    assert await office.refusal(expert.DeleteComment(name=answer.name)) == "POST_CLOSED"

    await expert.ReactPost(name=question.name)
    standing = await expert.ListPostReaders(name=question.name)
    assert (standing.likes, standing.liked) == (1, True)
    await expert.ReactPost(name=question.name)
    assert (await asker.ListPostReaders(name=question.name)).likes == 0
    await asker.ArchivePost(name=question.name)
    late = expert.CreateComment(comment={"record": question.name, "body": "迟到"})
    assert await office.refusal(late) == "POST_CLOSED"
    assert await office.refusal(asker.DeletePost(name=question.name)) == "ILLEGAL_TRANSITION"
    thrown = await draft(asker)
    await asker.DeletePost(name=thrown.name)


async def test_the_files_of_a_post_are_read_by_its_audience(workspace: Service, office: Any) -> None:
    me, people = workspace.sales1, {who: workspace.client(who) for who in ("sales2", "finance", "manager")}
    sha256, size = await blobs.keep(workspace.running.store, BytesIO(uuid4().bytes))
    file = await me.CreateFile(file={"displayName": "制度.pdf", "sha256": sha256, "size": str(size)})
    post = await publish(
        me,
        files=[file.name],
        audiencePeople=[workspace.person(who).employee for who in ("sales2", "finance")],
    )

    async def readers() -> set[str]:
        found = {
            who: await client.ListFiles(filter=f'name = "{file.name}"') for who, client in people.items()
        }
        return {who for who, page in found.items() if page.files}

    async def are(wanted: set[str]) -> None:
        async def so() -> bool:
            return await readers() == wanted

        await workspace.eventually(so, 30)

    await are({"sales2", "finance"})
    # The audience is another one from now on, and so are the readers of its files.
    narrower = {"name": post.name, "audiencePeople": [workspace.person("manager").employee]}
    await me.UpdatePost(post=narrower, updateMask="audiencePeople")
    await are({"manager"})


async def test_training_is_acknowledged_by_who_answers_its_questions_rightly(
    workspace: Service, office: Any
) -> None:
    author, reader = workspace.manager, workspace.sales1
    quiz = [
        {"text": "报价有效期？", "choices": ["30 天", "60 天"]},
        {"text": "谁批准折扣？", "choices": ["经理", "本人"]},
    ]
    said = {"kind": "TRAINING", "ackRequired": True, "everyone": True, "quiz": quiz}
    for wrong in ([], ["30 天"], ["30 天", "没有人"]):
        post = await draft(author, **said, rightAnswers=wrong)
        assert await office.refusal(author.PublishPost(name=post.name)) == "QUIZ_INCOMPLETE"
    post = await draft(author, **said, rightAnswers=["30 天", "经理"])
    await author.PublishPost(name=post.name)
    # What is right is told by nobody: not to the author, not in facts.
    assert not (await author.GetPost(name=post.name)).right_answers
    seen = await reader.GetPost(name=post.name)
    assert [list(one.choices) for one in seen.quiz] == [one["choices"] for one in quiz]
    for fact in await workspace.facts("crm.workspace.v1.ResourceChanged", post.name):
        assert "rightAnswers" not in str(fact)
    for answers in ([], ["30 天"], ["60 天", "经理"]):
        with pytest.raises(Refused) as refused:
            await reader.AcknowledgePost(name=post.name, answers=answers)
        right = str(sum(given in ("30 天", "经理") for given in answers))
        assert refused.value.reason == "QUIZ_FAILED" and refused.value.info.metadata["right"] == right
    assert (await author.ListPostReaders(name=post.name)).acknowledged == 0
    await reader.AcknowledgePost(name=post.name, answers=["30 天", "经理"])
    assert (await author.ListPostReaders(name=post.name)).acknowledged == 1
    changed = author.UpdatePost(post={"name": post.name, "quiz": []}, updateMask="quiz")
    assert await office.refusal(changed) == "POST_TO_ACKNOWLEDGE"


async def test_a_moderator_takes_the_text_of_a_comment_from_its_readers(
    workspace: Service, office: Any
) -> None:
    author, moderator, reader = workspace.sales1, workspace.manager, workspace.client("sales2")
    post = await publish(author, everyone=True)
    comment = await author.CreateComment(comment={"record": post.name, "body": "不合适的话"})
    hide = {"name": comment.name, "reason": "违反社区规范"}
    assert await office.refusal(reader.HideComment(**hide)) == "PERMISSION_DENIED"
    assert await office.refusal(moderator.HideComment(name=comment.name, reason="x")) == "REASON_REQUIRED"
    await moderator.HideComment(**hide)
    for client in (author, reader):
        seen = await client.GetComment(name=comment.name)
        assert (seen.body, seen.hide_reason) == ("", "违反社区规范")
    assert await office.refusal(moderator.HideComment(**hide)) == "ILLEGAL_TRANSITION"
    again = author.UpdateComment(comment={"name": comment.name, "body": "又来"}, updateMask="body")
    assert await office.refusal(again) == "ILLEGAL_TRANSITION"
    await author.DeleteComment(name=comment.name)


@pytest.mark.capability("w.share")
async def test_a_proof_is_decided_by_its_customer_on_exactly_what_was_seen(
    workspace: Service, office: Any
) -> None:
    me, account = workspace.sales1, f"accounts/{uuid4()}"
    person = workspace.person("sales1")
    told = {"name": account, "owner": person.employee, "department": person.department, "etag": "1"}
    payload = {"name": account, "action": "CREATED", "resource": {**told, "displayName": "客户"}}
    await workspace.tell("crm.customer.v1.ResourceChanged", payload, account, 1)
    customer = workspace.client("customer", account=account)
    stranger = workspace.client("customer", account=f"accounts/{uuid4()}")
    sha256, size = await blobs.keep(workspace.running.store, BytesIO(uuid4().bytes))
    file = await me.CreateFile(file={"displayName": "画册.pdf", "sha256": sha256, "size": str(size)})
    said = {"kind": "PROOF", "subject": account, "shared": True}
    bare = await draft(me, **said)
    assert await office.refusal(me.PublishPost(name=bare.name)) == "PROOF_EMPTY"
    drafted = await draft(me, **said, files=[file.name])
    assert await office.refusal(customer.GetPost(name=drafted.name)) == "NOT_FOUND"

    async def presented() -> Any:
        try:
            return await me.PublishPost(name=drafted.name)
        except Refused as refused:
            # The customer is not known yet.
            assert refused.reason == "PROOF_EMPTY"
            return None

    post = await workspace.eventually(presented, 30)
    assert post.account == account and len(post.digest) == 64
    # The customer reads the proof and its file; nobody else does.
    seen = await customer.GetPost(name=post.name)
    assert [one.name for one in (await customer.ListPosts()).posts] == [post.name]
    for other in (stranger, workspace.client("sales2")):
        assert await office.refusal(other.GetPost(name=post.name)) == "NOT_FOUND"

    async def given() -> bool:
        return bool((await customer.ListFiles(filter=f'name = "{file.name}"')).files)

    await workspace.eventually(given, 30)
    assert not (await stranger.ListFiles(filter=f'name = "{file.name}"')).files
    said_of = {"name": post.name, "verdict": "APPROVED", "signer": "王经理", "digest": seen.digest}
    assert await office.refusal(me.DecidePost(**said_of)) == "NOT_AN_APPROVER"
    assert await office.refusal(stranger.DecidePost(**said_of)) == "NOT_FOUND"
    # What was seen is not what there is now.
    await me.UpdatePost(post={"name": post.name, "body": "换一版"}, updateMask="body")
    assert await office.refusal(customer.DecidePost(**said_of)) == "PROOF_CHANGED"
    said_of["digest"] = (await customer.GetPost(name=post.name)).digest
    refused = {**said_of, "verdict": "REFUSED"}
    assert await office.refusal(customer.DecidePost(**refused)) == "REASON_REQUIRED"
    decided = await customer.DecidePost(**said_of)
    decision = decided.decision
    assert (decision.verdict, decision.signer, decision.digest) == (
        pb.Post.Decision.APPROVED,
        "王经理",
        said_of["digest"],
    )
    assert decision.actor and decision.time.seconds
    (notice,) = await office.notices(me, post.name)
    assert "王经理" in notice.display_name
    # Once, and what was decided on stays.
    assert await office.refusal(customer.DecidePost(**said_of)) == "ILLEGAL_TRANSITION"
    changed = me.UpdatePost(post={"name": post.name, "body": "又一版"}, updateMask="body")
    assert await office.refusal(changed) == "ILLEGAL_TRANSITION"
    forum = await publish(me, everyone=True)
    assert await office.refusal(customer.GetPost(name=forum.name)) == "NOT_FOUND"
    not_one = {"name": forum.name, "verdict": "APPROVED", "signer": "x", "digest": "x"}
    assert await office.refusal(workspace.manager.DecidePost(**not_one)) == "ILLEGAL_TRANSITION"
