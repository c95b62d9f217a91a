"""Tells people of a post: everybody in the audience of an announcement, and those whom a text mentions.

A run in chunks: who has been told once is never told again, whatever happens in between.
"""

from typing import Any

from crmkit import bulk
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Kind, Run
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from workspace.model.audience import AudienceMember
from workspace.model.employee import Employee
from workspace.model.notification import LONGEST_BODY, Notification, NotificationPreference, Told
from workspace.model.post import TELL, Post
from workspace.telling import Manner, notify

CHUNK = 250


async def work(run: Run) -> None:
    """First those mentioned, then everybody by name."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            post = await call.named(Post, run.about)
            if post is None or post.state != "PUBLISHED":
                run.next_phase("ENDED")
                return
            if run.phase != "EVERYBODY":
                await _mentioned(post, call)
                run.next_phase("EVERYBODY" if post.kind == "ANNOUNCEMENT" else "ENDED")
                continue
            last = await _announce(post, str(run.tally.get("last", "")), call)
            run.tally["last"] = last
            run.position += 1
            if not last:
                run.next_phase("ENDED")


async def _mentioned(post: Post, call: Call) -> None:
    """Those who may read it; the others were agreed to."""
    members = select(AudienceMember.employee).where(
        AudienceMember.record == post.name,
        AudienceMember.current,
        AudienceMember.employee.in_([name for name in post.mentions if name != post.owner]),
    )
    author = str(call.entry(post.owner).get("displayName", ""))
    zh = f"{author}在“{post.display_name}”中提到了您"
    en = f"{author} mentioned you in {post.display_name}"
    people = list(await call.db.scalars(members))
    await notify(call, people, "mention", f"mention:{post.name}", post.name, zh, en, manner=Manner(group=""))


async def _announce(post: Post, after: str, call: Call) -> str:
    """Tells the next of the audience; the last of them, or nothing where there are no more."""
    name = Employee.sql_name()
    people = (
        select(AudienceMember.employee, Employee, NotificationPreference.id)
        .join(Employee, name == AudienceMember.employee)
        .outerjoin(NotificationPreference, NotificationPreference.owner == AudienceMember.employee)
        .where(AudienceMember.record == post.name, AudienceMember.current, AudienceMember.employee > after)
        .order_by(AudienceMember.employee)
        .limit(CHUNK)
    )
    rows = (await call.db.execute(people)).all()
    key, kind = f"post:{post.name}", "announcement"
    title = {"en": f"Announcement: {post.display_name}", "zh": f"公告：{post.display_name}"}
    importance = "HIGH" if post.ack_required else "NORMAL"
    # Whoever has wishes of his own is told in his way; all others at once.
    wishing = [employee for employee, _, wish in rows if wish is not None and employee != post.owner]
    manner = Manner(importance=importance, group="")
    await notify(call, wishing, kind, key, post.name, title["zh"], title["en"], post.body[:200], manner)
    plain: dict[str, Employee] = {
        employee: person for employee, person, wish in rows if wish is None and employee != post.owner
    }
    if plain:
        told = [{"owner": employee, "key": key} for employee in plain]
        first = insert(Told).values(told).on_conflict_do_nothing().returning(Told.owner)
        new: list[Any] = [
            Notification(
                owner=employee, department=plain[employee].department, kind=kind, target=post.name,
                display_name=title["en" if plain[employee].locale == "en" else "zh"][:400],
                body=post.body[:LONGEST_BODY], dedupe_key=key, importance=importance, count=1, due_time=call.now,
            )
            for employee in await call.db.scalars(first)
        ]  # fmt: skip
        await bulk.create_many(call, new)
    return rows[-1][0] if len(rows) == CHUNK else ""


async def fail(run: Run, problem: Problem, call: Call) -> None:
    """Who was told stays told."""


RUNS = {TELL: Kind(work, fail)}
