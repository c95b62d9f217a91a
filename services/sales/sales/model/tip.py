"""The tip: what a salesperson tells or asks the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crm.sales.v1 import pb
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, NotFound, PermissionDenied
from crmkit.mapping import to_timestamp
from crmkit.resource import Resource
from crmkit.scope import predicate
from sales.model.base import Base
from sales.model.course_completion import CourseCompletion
from sales.model.opportunity import Opportunity
from sqlalchemy import ColumnElement, and_, cast, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped
from sqlalchemy.types import Text

MODERATES = "sales.tips.hide"
SHOWN = 3
# Of those who know about a skill so many are named.
KNOWN = 50


class Tip(Resource, Base):
    """Advice, a question, a case or a course. A hidden one stays with its author and the moderators."""

    __message__ = pb.Tip

    display_name: Mapped[str]
    kind: Mapped[str]
    text: Mapped[str]
    skills: Mapped[list[str]]
    stages: Mapped[list[str]]
    products: Mapped[list[str]]
    comments: Mapped[Any]
    marks: Mapped[list[str]]
    accepted_comment: Mapped[str]
    accepted_author: Mapped[str]
    for_partners: Mapped[bool]
    hide_reason: Mapped[str]
    state: Mapped[str]

    @classmethod
    def readable(cls, caller: Caller) -> ColumnElement[bool] | None:
        """What is hidden its author and the moderators see; partners see what is for them."""
        if caller.account:
            return and_(cls.state != "HIDDEN", cls.for_partners)
        if caller.may(MODERATES):
            return None
        return or_(cls.state != "HIDDEN", cls.creator == caller.actor)

    async def creating(self, call: Call) -> None:
        """Completes the record."""
        self.kind, self.state = self.kind or "TIP", "PUBLISHED"

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Its author changes it, or a moderator."""
        self._own(call)

    async def deleting(self, call: Call) -> None:
        """Its author takes it away, or a moderator."""
        self._own(call)

    def comment(self, text: str, call: Call) -> None:
        """Answers it."""
        self.check_state("PUBLISHED")
        said = pb.Tip.Comment(
            key=str(len(self.comments) + 1),
            text=text,
            author=call.caller.employee,
            time=to_timestamp(call.now),
        )
        self.comments = [*self.comments, said]

    def mark(self, call: Call) -> None:
        """Says that it is useful, or takes that back."""
        self.check_state("PUBLISHED")
        me = call.caller.employee
        self.marks = [one for one in self.marks if one != me] if me in self.marks else [*self.marks, me]

    def accept(self, key: str, call: Call) -> None:
        """Its author says which answer helped."""
        self.check_state("PUBLISHED")
        if self.kind != "QUESTION":
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.kind)
        if self.creator != call.caller.actor:
            raise PermissionDenied("PERMISSION_DENIED", permission="sales.tips.comment")
        comment = next((one for one in self.comments if one.key == key), None)
        if comment is None:
            raise NotFound()
        self.accepted_comment, self.accepted_author = key, comment.author

    async def finish(self, call: Call) -> CourseCompletion:
        """Notes that the caller has finished the course; the first time counts."""
        if self.kind != "COURSE":
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.kind)
        self.check_state("PUBLISHED")
        me = call.caller.employee
        await call.one_at_a_time([f"{self.name} {me}"])
        mine = CourseCompletion.owner == me, CourseCompletion.course == self.name
        known = await call.find(CourseCompletion, *mine)
        return known or await call.add(CourseCompletion(course=self.name, owner=me, finish_time=call.now))

    def hide(self, reason: str) -> None:
        """Hides it, with a word to its author."""
        self.check_state("PUBLISHED")
        self.state, self.hide_reason = "HIDDEN", reason

    def _own(self, call: Call) -> None:
        if self.creator != call.caller.actor and not call.caller.may(MODERATES):
            raise PermissionDenied("PERMISSION_DENIED", permission=MODERATES)


async def experts(skill: str, call: Call) -> pb.ListExpertsResponse:
    """Who knows about a skill: by accepted answers, then by what they wrote."""
    fits = and_(Tip.state == "PUBLISHED", Tip.skills.contains([skill]), predicate(Tip, call.caller))
    # Nobody makes an expert of himself by accepting his own answer.
    accepted = await _counted(
        Tip.accepted_author, and_(fits, Tip.accepted_author != "", Tip.accepted_author != Tip.creator), call
    )
    written = await _counted(
        Tip.creator, and_(fits, Tip.kind != "QUESTION", Tip.creator.startswith("employees/")), call
    )
    people = sorted({*accepted, *written}, key=lambda one: (-accepted[one], -written[one], one))[:KNOWN]
    return pb.ListExpertsResponse(
        experts=[
            pb.ListExpertsResponse.Expert(employee=one, accepted=accepted[one], tips=written[one])
            for one in people
        ]
    )


async def _counted(person: Any, fits: ColumnElement[bool], call: Call) -> Counter[str]:
    """How many tips that fit name each person."""
    rows = await call.db.execute(select(person, func.count()).where(fits).group_by(person))
    return Counter({str(name): int(many) for name, many in rows})


async def beside(deal: Opportunity, call: Call) -> list[Tip]:
    """Tips that fit the stage, and the products where they name some; at most three."""
    names = [line.product for line in deal.lines if line.product]
    fits = or_(func.cardinality(Tip.products) == 0, Tip.products.overlap(cast(names, ARRAY(Text))))
    statement = (
        select(Tip)
        .where(Tip.state == "PUBLISHED", Tip.stages.contains([deal.stage]), fits, predicate(Tip, call.caller))
        .order_by(func.cardinality(Tip.products).desc(), func.cardinality(Tip.marks).desc(), Tip.id.desc())
    )
    return list(await call.db.scalars(statement.limit(SHOWN)))
