"""Posts on boards, and who has read them."""

import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import runs
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, check_reason
from crmkit.mapping import to_timestamp
from sqlalchemy import ColumnElement, Index, Text, Uuid, delete, func, inspect, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model import audience, known_record
from workspace.model.audience import AudienceMember, Shown
from workspace.model.base import Base, check_owner
from workspace.model.file import File
from workspace.model.names import check_names
from workspace.telling import notify

ANNOUNCE, MODERATE = "workspace.posts.announce", "workspace.posts.moderate"
# The run that tells people of a post: `workspace.board_news`.
TELL = "TellPost"
AUDIENCE = {"everyone", "audience_departments", "audience_people"}
WORDS = {"display_name", "body", "files", "quiz", "right_answers"}
MOST_CHOICES = 10


class PostLike(Base):
    """Somebody likes a post."""

    __tablename__ = "post_likes"

    post: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    employee: Mapped[str] = mapped_column(Text, primary_key=True)


class Post(Shown, Base):
    """Something for the whole company or a group. Nobody but its author reads it before it is published."""

    __message__ = pb.Post
    handed_over = False
    __table_args__ = (
        *audience.show_indexes("posts"),
        Index("posts_board_index", "board", "publish_time"),
    )

    display_name: Mapped[str]
    kind: Mapped[str]
    board: Mapped[str]
    body: Mapped[str]
    skills: Mapped[list[str]]
    files: Mapped[list[str]]
    everyone: Mapped[bool]
    audience_departments: Mapped[list[str]]
    audience_people: Mapped[list[str]]
    mentions: Mapped[list[str]]
    pinned: Mapped[bool]
    ack_required: Mapped[bool]
    state: Mapped[str]
    publish_time: Mapped[datetime | None]
    accepted_answer: Mapped[str]
    answered_by: Mapped[str]
    hide_reason: Mapped[str]
    subject: Mapped[str]
    shared: Mapped[bool]
    account: Mapped[str]
    digest: Mapped[str]
    decision: Mapped[Any]
    quiz: Mapped[Any]
    # The right choices; no field of the message, so that no answer and no fact can hold them.
    quiz_answers: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))

    @property
    def right_answers(self) -> list[str]:
        """Taken, never told."""
        return []

    @right_answers.setter
    def right_answers(self, value: list[str]) -> None:
        self.quiz_answers = list(value)

    @classmethod
    def ways(cls, caller: Caller, own: list[ColumnElement[bool]] | None) -> list[ColumnElement[bool]] | None:
        """A customer or partner reads the proofs that were made for him, and nothing else."""
        return [cls.account == caller.account] if caller.account else super().ways(caller, own)

    @classmethod
    def further_policies(cls) -> list[str]:
        """The second wall says the same."""
        return [
            *super().further_policies(),
            "DROP POLICY IF EXISTS given ON posts",
            "CREATE POLICY given ON posts FOR SELECT USING ((SELECT current_setting('crm.scope', true)) = 'ACCOUNT'"
            " AND account <> '' AND account = (SELECT current_setting('crm.account', true)))",
        ]

    async def creating(self, call: Call) -> None:
        """A draft of who writes it."""
        if self.subject:
            check_names([self.subject], "post.subject")
        self.owner, self.state, self.kind = call.caller.employee, "DRAFT", self.kind or "DISCUSSION"
        self._check_announces(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """Its author's alone to change; what people are to acknowledge stays as it was published."""
        check_owner(self, call)
        self._check_announces(call)
        if self.state == "DRAFT":
            return
        self.check_open()
        if self.kind == "PROOF":
            self._check_undecided()
            self.digest = await self._digest(call)
        if self.ack_required and changed & WORDS:
            raise FailedPrecondition("POST_TO_ACKNOWLEDGE")
        if changed & AUDIENCE:
            await self._show(call)

    async def deleting(self, call: Call) -> None:
        """A draft alone: what was published is archived."""
        check_owner(self, call)
        self.check_state("DRAFT")

    def check_open(self) -> None:
        """POST_CLOSED where it is not published, or closed."""
        if self.state != "PUBLISHED":
            raise FailedPrecondition("POST_CLOSED")

    def _check_announces(self, call: Call) -> None:
        """Announcements, and what stands first, are for those who may announce."""
        announces = self.kind == "ANNOUNCEMENT" or self.pinned or self.ack_required
        touched = not inspect(self).persistent or any(
            getattr(inspect(self).attrs, name).history.has_changes() for name in ("pinned", "ack_required")
        )
        if announces and touched and not call.caller.may(ANNOUNCE):
            raise PermissionDenied("PERMISSION_DENIED", permission=ANNOUNCE)

    async def publish(self, accept_outside: bool, call: Call) -> None:
        """Shows it to its audience. AUDIENCE_EMPTY; MENTION_OUTSIDE_AUDIENCE unless that may stay."""
        check_owner(self, call)
        self.check_state("DRAFT")
        if self.kind == "ANNOUNCEMENT" and not call.caller.may(ANNOUNCE):
            raise PermissionDenied("PERMISSION_DENIED", permission=ANNOUNCE)
        self._check_quiz()
        said = (self.everyone, self.audience_departments, self.audience_people)
        others = [name for name in self.mentions if name != self.owner]
        missing = [] if accept_outside else await audience.outside(said, others, call)
        if missing:
            people = [str(call.entry(name).get("displayName") or name) for name in missing]
            raise FailedPrecondition("MENTION_OUTSIDE_AUDIENCE", people="、".join(people))
        if self.kind == "PROOF":
            await self._present(call)
        self.state, self.publish_time = "PUBLISHED", call.now
        await self._show(call)
        call.emit(events.PostPublished, post=self)

    async def _show(self, call: Call) -> None:
        people = await audience.keep(
            self.name, self.everyone, self.audience_departments, self.audience_people, call
        )
        if not people and not self.account:
            raise FailedPrecondition("AUDIENCE_EMPTY")
        self.shown_to_all, self.shown_as = self.everyone, self.name
        await runs.start(call, TELL, self.name, {}, "system/workspace")

    async def _present(self, call: Call) -> None:
        """Makes a proof of it: for whom it is, and what exactly is decided on. PROOF_EMPTY."""
        known = (await known_record.records([self.subject], call)).get(self.subject)
        described = known_record.described_as(self.subject.partition("/")[0])
        # Nobody shows a record's customer what is about a record that he may not read himself.
        if known is None or described is None or not call.caller.may(described.permission("read")):
            raise FailedPrecondition("PROOF_EMPTY")
        if not known_record.reads(call.caller, described, known):
            raise FailedPrecondition("PROOF_EMPTY")
        if self.shared:
            of_account = described.collection == "accounts"
            field = described.rule.account_field
            self.account = self.subject if of_account else str(known.scope.get(field) or "")
        if not self.files or (self.shared and not self.account):
            raise FailedPrecondition("PROOF_EMPTY")
        self.digest = await self._digest(call)

    async def _digest(self, call: Call) -> str:
        contents = [(name, file.sha256) for name in self.files if (file := await call.named(File, name))]
        told = json.dumps([self.display_name, self.body, contents], ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()

    def _check_undecided(self) -> None:
        if self.decision is not None and self.decision.verdict:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state="DECIDED")

    async def decide(self, request: pb.DecidePostRequest, caller: Caller, call: Call) -> None:
        """Somebody for whom it was made says whether it is right, once. PROOF_CHANGED, REASON_REQUIRED."""
        if self.kind != "PROOF":
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.kind)
        self.check_open()
        self._check_undecided()
        if caller.employee and caller.employee == self.owner:
            raise PermissionDenied("NOT_AN_APPROVER")
        # What counts is what there is now: a file may have become another one.
        if request.digest != await self._digest(call):
            raise FailedPrecondition("PROOF_CHANGED")
        if request.verdict == pb.Post.Decision.REFUSED:
            check_reason(request.comment)
        self.decision = pb.Post.Decision(
            verdict=request.verdict, signer=request.signer, actor=caller.actor, time=to_timestamp(call.now),
            address=caller.address, digest=request.digest, comment=request.comment,
        )  # fmt: skip
        right = request.verdict == pb.Post.Decision.APPROVED
        zh = f"{request.signer}{'同意' if right else '不同意'}校样“{self.display_name}”"
        en = f"{request.signer} has {'approved' if right else 'refused'} the proof {self.display_name}"
        await notify(call, [self.owner], "proof", f"proof:{self.name}", self.name, zh, en, request.comment)

    def _check_quiz(self) -> None:
        whole = len(self.quiz_answers) == len(self.quiz) and all(
            2 <= len(question.choices) <= MOST_CHOICES and right in question.choices
            for question, right in zip(self.quiz, self.quiz_answers, strict=True)
        )
        if not whole:
            raise FailedPrecondition("QUIZ_INCOMPLETE")

    async def acknowledge(self, answers: list[str], call: Call) -> None:
        """The caller has read it, and answers its questions rightly; the first time counts. QUIZ_FAILED."""
        self.check_open()
        me, total = call.caller.employee, len(self.quiz_answers)
        right = sum(given == wanted for given, wanted in zip(answers, self.quiz_answers, strict=False))
        if right < total:
            raise FailedPrecondition("QUIZ_FAILED", right=right, total=total)
        if me and await audience.acknowledge(self.name, me, call):
            call.emit(events.PostAcknowledged, self, post=self.name, employee=me)

    async def react(self, call: Call) -> None:
        """The caller likes it, or likes it no more."""
        self.check_open()
        if not call.caller.employee:
            raise PermissionDenied("NOT_THE_OWNER")
        row = {"post": self.id, "employee": call.caller.employee}
        made = insert(PostLike).values(**row).on_conflict_do_nothing().returning(PostLike.post)
        if await call.db.scalar(made) is None:
            await call.db.execute(delete(PostLike).filter_by(**row))

    def archive(self, call: Call) -> None:
        """It is read still; nobody comments any more."""
        check_owner(self, call)
        self.check_state("PUBLISHED")
        self.state = "ARCHIVED"

    def hide(self, reason: str) -> None:
        """Takes it from its audience."""
        self.check_state("PUBLISHED", "ARCHIVED")
        self.hide_reason, self.state = check_reason(reason), "HIDDEN"
        self.shown_to_all, self.shown_as, self.account = False, "", ""

    async def standing(self, request: pb.ListPostReadersRequest, call: Call) -> dict[str, Any]:
        """Who has acknowledged it; the people to its author and to moderators alone."""
        from workspace.model.employee import Employee

        me, member = call.caller.employee, AudienceMember
        of_this = (member.record == self.name, member.current)
        counted = select(func.count(), func.count(member.acknowledge_time)).where(*of_this)
        total, acknowledged = (await call.db.execute(counted)).one()
        mine = await call.db.get(member, (self.name, me))
        likes = set(await call.db.scalars(select(PostLike.employee).where(PostLike.post == self.id)))
        answer: dict[str, Any] = {
            "total": total, "acknowledged": acknowledged, "likes": len(likes), "liked": me in likes,
            "my_acknowledge_time": mine.acknowledge_time if mine is not None else None,
        }  # fmt: skip
        if me != self.owner and not call.caller.may(MODERATE):
            return answer
        size = min(request.page_size or 100, 1000)
        people = (
            select(member.employee, member.acknowledge_time, Employee.display_name, Employee.department)
            .join(Employee, member.employee == Employee.sql_name())
            .where(*of_this, member.employee > request.page_token)
            .order_by(member.employee)
            .limit(size)
        )
        if request.missing:
            people = people.where(member.acknowledge_time.is_(None))
        answer["readers"] = [row._asdict() for row in await call.db.execute(people)]
        if len(answer["readers"]) == size:
            answer["next_page_token"] = answer["readers"][-1]["employee"]
        return answer
