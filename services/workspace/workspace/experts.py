"""Who knows what: people by what they say they know, by certificates, by positions, and by what they have written."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.listing import parse_term
from crmkit.mapping import read_date
from crmkit.scope import predicate
from crmkit.search import SearchTerm, found_by, search_condition
from sqlalchemy import or_, select

from workspace.model.employee import Employee
from workspace.model.post import Post

Kind = pb.FindExpertsResponse.Ground.Kind
Ground = pb.FindExpertsResponse.Ground
# What each sign counts: what others can see of it counts more than what people say of themselves.
WEIGHTS = {Kind.CERTIFICATE: 5, Kind.ANSWER: 4, Kind.POST: 3, Kind.SKILL: 3, Kind.POSITION: 1}
MOST, MOST_GROUNDS, MOST_POSTS, MOST_PEOPLE = 50, 10, 500, 1000


async def find(request: pb.FindExpertsRequest, call: Call) -> pb.FindExpertsResponse:
    """Who works here and shows signs of knowing it; of posts those that the caller may read."""
    term = parse_term(request.q)
    skills = [request.skill] if request.skill else _named("skills", term, call)
    grounds: dict[str, list[Ground]] = defaultdict(list)
    # Where a skill is asked for, words narrow nothing: they find what no dictionary names.
    certificates = {*skills, *_named("certificates", term, call)}
    await _by_person(skills, certificates, _named("positions", term, call), grounds, call)
    await _by_posts(skills, term, grounds, call)
    people = {
        row.name: row
        for row in await call.db.scalars(
            select(Employee).where(
                Employee.sql_name().in_(grounds),
                Employee.state == "ACTIVE",
                Employee.kind == "STAFF",
            )
        )
    }
    ranked = sorted(
        people.values(), key=lambda one: (-sum(WEIGHTS[g.kind] for g in grounds[one.name]), one.display_name)
    )
    return pb.FindExpertsResponse(
        experts=[
            pb.FindExpertsResponse.Expert(
                employee=one.name, display_name=one.display_name, department=one.department,
                position=one.position,
                grounds=sorted(grounds[one.name], key=lambda g: -WEIGHTS[g.kind])[:MOST_GROUNDS],
            )
            for one in ranked[:MOST]
        ]
    )  # fmt: skip


def _named(dictionary: str, term: SearchTerm | None, call: Call) -> list[str]:
    """The entries of a dictionary that the words find by their labels."""
    if term is None:
        return []
    entries: dict[str, Any] = call.running.directory.custom.dictionary(dictionary)
    return [key for key, entry in entries.items() if found_by(term, (entry.get("label") or {}).values(), ())]


async def _by_person(
    skills: Sequence[str],
    certificates: Iterable[str],
    positions: Sequence[str],
    grounds: dict[str, list[Ground]],
    call: Call,
) -> None:
    held = [
        Employee.certificates.contains([pb.Employee.Certificate(item=item)]) for item in sorted(certificates)
    ]
    ways = [Employee.skills.overlap(skills), Employee.position.in_(positions), *held]
    for one in await call.db.scalars(
        select(Employee).where(predicate(Employee, call.caller), or_(*ways)).limit(MOST_PEOPLE)
    ):
        found = [Ground(kind=Kind.SKILL, text=skill) for skill in skills if skill in one.skills]
        for certificate in one.certificates:
            ends = read_date(certificate.expires)
            if certificate.item in certificates and (ends is None or ends >= today(call)):
                found.append(Ground(kind=Kind.CERTIFICATE, text=certificate.item))
        if one.position in positions:
            found.append(Ground(kind=Kind.POSITION, text=one.position))
        if found:
            grounds[one.name] += found


async def _by_posts(
    skills: Sequence[str], term: SearchTerm | None, grounds: dict[str, list[Ground]], call: Call
) -> None:
    search = Post.search_table
    assert search is not None
    ways = [Post.skills.overlap(skills)] if skills else []
    if term is not None:
        ways.append(Post.id.in_(select(search.c.id).where(search_condition(term, search))))
    if not ways:
        return
    rows = select(Post).where(
        predicate(Post, call.caller), Post.state.in_(["PUBLISHED", "ARCHIVED"]), or_(*ways)
    )
    for post in await call.db.scalars(rows.order_by(Post.publish_time.desc()).limit(MOST_POSTS)):
        if post.kind in ("EXPERIENCE", "TRAINING"):
            grounds[post.owner].append(Ground(kind=Kind.POST, text=post.display_name, record=post.name))
        if post.answered_by:
            ground = Ground(kind=Kind.ANSWER, text=post.display_name, record=post.name)
            grounds[post.answered_by].append(ground)
