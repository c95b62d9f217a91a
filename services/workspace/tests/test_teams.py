"""The page of a team shows its people and what is for it; who knows what is found by what there is to see of it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from crm.workspace.v1 import pb
from crmkit.testing import Client, Service, local_date

Kind = pb.FindExpertsResponse.Ground.Kind


async def published(client: Client, **fields: Any) -> Any:
    body = {"displayName": "帖子", "board": "FORUM", "everyone": True, **fields}
    return await client.PublishPost(name=(await client.CreatePost(post=body)).name)


async def experts(client: Client, **asked: Any) -> dict[str, list[str]]:
    """Who is found, the first first, and by which signs."""
    found = (await client.FindExperts(**asked)).experts
    return {one.employee: [Kind.Name(ground.kind) for ground in one.grounds] for one in found}


@pytest.mark.capability("w.share")
async def test_a_team_has_a_page_with_its_people_its_posts_and_its_documents(
    workspace: Service, office: Any
) -> None:
    mark, admin = uuid4().hex[:8], workspace.admin
    here = workspace.person("sales1").department
    team = await admin.CreateDepartment(department={"displayName": f"队{mark}", "parent": here})
    beneath = await admin.CreateDepartment(department={"displayName": f"下{mark}", "parent": team.name})
    hired = [
        await office.hire(f"{letter}.{mark}", ["sales_representative"], department=team.name)
        for letter in "ab"
    ]
    await admin.UpdateDepartment(
        department={"name": team.name, "manager": hired[1].name}, updateMask="manager"
    )
    member = await office.client_of(hired[0])
    await member.SetEmployeeSkills(name=hired[0].name, skills=["PRICING"])
    post = await published(workspace.sales1, everyone=False, audienceDepartments=[team.name])
    folder = await workspace.sales1.CreateFolder(
        folder={"displayName": f"资料{mark}", "audienceDepartments": [team.name]}
    )
    page = await member.ReadTeam(name=team.name)
    assert [(one.employee, one.leads, list(one.skills)) for one in page.members] == [
        (hired[1].name, True, []),
        (hired[0].name, False, ["PRICING"]),
    ]
    assert [one.name for one in page.posts] == [post.name]
    assert [one.name for one in page.folders] == [folder.name]
    assert list(page.departments) == [beneath.name]
    # Others see who works there, and nothing that is not for them.
    theirs = await workspace.client("sales2").ReadTeam(name=team.name)
    assert len(theirs.members) == 2 and not theirs.posts and not theirs.folders


@pytest.mark.capability("w.share")
async def test_who_knows_what_is_found_by_skills_certificates_positions_posts_and_accepted_answers(
    workspace: Service, office: Any
) -> None:
    mark, admin, asker = uuid4().hex[:8], workspace.admin, workspace.sales1
    yesterday, tomorrow = (local_date() + timedelta(days=days) for days in (-1, 1))
    skill = f"SKILL{mark.upper()}"
    for key in ("skills", "certificates"):
        (dictionary,) = (await admin.ListDictionaries(filter=f'key = "{key}"')).dictionaries
        kept = [
            {"key": one.key, "label": {"zh": one.label.zh, "en": one.label.en}} for one in dictionary.entries
        ]
        entries = [*kept, {"key": skill, "label": {"zh": f"焊接{mark}", "en": f"Welding {mark}"}}]
        await admin.UpdateDictionary(
            dictionary={"name": dictionary.name, "entries": entries}, updateMask="entries"
        )
        await admin.PublishDictionary(name=dictionary.name)
        await workspace.eventually(
            lambda key=key: skill in str(workspace.running.config.get(f"dictionary.{key}")), 30
        )

    async def somebody(letter: str, **fields: Any) -> tuple[str, Client]:
        one = await office.hire(f"{letter}{mark}", ["sales_representative"], **fields)
        return one.name, await office.client_of(one)

    def until(day: Any) -> Any:
        return [{"item": skill, "expires": {"year": day.year, "month": day.month, "day": day.day}}]

    says, me = await somebody("s")
    await me.SetEmployeeSkills(name=says, skills=[skill])
    assert await office.refusal(asker.SetEmployeeSkills(name=says, skills=[])) == "NOT_THE_OWNER"
    certified, _ = await somebody("c", certificates=until(tomorrow))
    lapsed, _ = await somebody("l", certificates=until(yesterday))
    writes, author = await somebody("w")
    await published(author, kind="EXPERIENCE", skills=[skill], displayName="焊接心得")
    answers, expert = await somebody("x")
    question = await published(asker, kind="QUESTION", skills=[skill])
    comment = await expert.CreateComment(comment={"record": question.name, "body": "先预热"})
    await asker.AcceptPostAnswer(name=question.name, comment=comment.name)

    expected = {
        certified: ["CERTIFICATE"], answers: ["ANSWER"], says: ["SKILL"], writes: ["POST"],
    }  # fmt: skip
    found = await experts(asker, skill=skill)
    assert found == expected and list(found)[:2] == [certified, answers]
    assert lapsed not in found
    # By the words of its label, in either language, and by those of a post.
    assert await experts(asker, q=f"焊接{mark}") == expected
    assert await experts(asker, q=f"welding {mark}") == expected
    assert writes in await experts(asker, q="焊接心得")
    assert not await experts(asker) and not await experts(asker, q=uuid4().hex)
    # What somebody may not read tells him of nobody.
    hidden, _ = await somebody("h")
    quiet = await office.client_of(await admin.GetEmployee(name=hidden))
    await published(quiet, kind="EXPERIENCE", skills=[skill], everyone=False, audiencePeople=[writes])
    assert hidden not in await experts(asker, skill=skill)
    assert hidden in await experts(author, skill=skill)
    boss, _ = await somebody("p", position="ENGINEER")
    assert await experts(asker, q="工程师") and boss in await experts(asker, q="工程师")
    # Who has left is asked no more.
    await admin.FreezeEmployee(name=says, reason="离职前冻结")
    assert says not in await experts(asker, skill=skill)
