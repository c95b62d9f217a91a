"""Approvals: what was held, and what was decided."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, cast

from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import withholding
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied, check_reason
from crmkit.fieldlevels import Levels
from crmkit.mapping import Reader, to_timestamp
from crmkit.resource import Resource
from google.protobuf import json_format
from sqlalchemy import Index, select, text
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.deciders import administrators, deciders, delegate_of, employee, stand_in
from workspace.model.employee import Employee
from workspace.model.policy import Policy, fits, path_of

VOTES: tuple[Any, ...] = tuple(pb.Approval.Vote.Value(vote) for vote in ("AGREED", "REFUSED", "GAVE_BACK"))
AGREED, REFUSED, GAVE_BACK = VOTES
MOST_SIGNERS, DEEPEST_SIGNER = 50, 3
RETRY_HOURS = 72
REMIND_HOURS = 4
SILENT = frozenset(["etag", "updateTime", "pendingApproval"])


class Approval(Resource, Base):
    """A held verb and the votes on it. It is decided once."""

    __message__ = pb.Approval
    handed_over = False
    # They carry another record's values; nobody filters by them from whom a role hides any.
    quotes = frozenset(["request", "facts", "changes", "since_approved"])
    __table_args__ = (Index("approvals_held_action_key", "held_action", unique=True),)

    display_name: Mapped[str]
    target: Mapped[str]
    action: Mapped[str]
    request: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    digest: Mapped[str]
    policy: Mapped[str]
    held_action: Mapped[str]
    requester: Mapped[str]
    mode: Mapped[str]
    decisions: Mapped[Any]
    state: Mapped[str]
    outcome: Mapped[str]
    end_time: Mapped[datetime | None]
    steps: Mapped[Any]
    changes: Mapped[Any]
    remarks: Mapped[Any]
    remind_time: Mapped[datetime | None]
    self_approval: Mapped[str]
    duplicates: Mapped[str]
    withdrawal: Mapped[str]
    policy_edition: Mapped[int]
    revision: Mapped[int]
    since_approved: Mapped[Any]
    outcome_time: Mapped[datetime | None]
    resubmission: Mapped[str]
    copied: Mapped[list[str]]

    @classmethod
    def withhold(cls, message: Any, reader: Reader) -> None:
        """Who decides sees of the record what its own page would show."""
        for part in (message.request, message.facts):
            if part.fields:
                shown = withholding.without(json_format.MessageToDict(part), message.target, reader)
                part.Clear()
                part.update(shown)
        for changed in (message.changes, message.since_approved):
            withholding.withhold_changes(changed, message.target, reader)

    async def begin(self, policy: Any, call: Call) -> list[str]:
        """Takes the path of the policy's edition, and its first step; returns whom to tell."""
        path = path_of(policy) if policy is not None else [Policy.Step(mode=Policy.ANY)]
        self.decisions = [one for one in self.decisions if one.vote]
        self.steps = [
            pb.Approval.Progress(step=step, state="WAITING", from_revision=self.revision) for step in path
        ]
        if policy is not None:
            self.self_approval = (
                Policy.SelfApproval.Name(policy.self_approval) if policy.self_approval else ""
            )
            self.duplicates = Policy.Duplicates.Name(policy.duplicates) if policy.duplicates else ""
            self.withdrawal = Policy.Withdrawal.Name(policy.withdrawal) if policy.withdrawal else ""
            self.resubmission = Policy.Resubmission.Name(policy.resubmission) if policy.resubmission else ""
            readers = Policy.Step(approvers=policy.copied)
            found = await deciders(
                readers, Policy.SKIP, self.requester, self.facts, call, every_candidate=True
            )
            self.copied = list(found)
            self.collaborators = list(dict.fromkeys([*self.collaborators, *found]))
        return await self.advance(call)

    async def renew(self, policy: Any, call: Call) -> list[str]:
        """Goes on with the changed request; what was decided about the one before counts as the policy says."""
        open_now = self.state == "PENDING"
        returned = next((i for i, one in enumerate(self.steps) if one.state == "RETURNED"), None)
        self.state, self.outcome, self.end_time = "PENDING", "", None
        if open_now:
            if self.current >= 0 and self.steps[self.current].step.reconfirm_on_edit:
                self._open_again(0)
                return await self.advance(call)
            return []
        if self.resubmission == "FROM_RETURNED" and returned is not None:
            self._open_again(returned)
            return await self.advance(call)
        return await self.begin(policy, call)

    def _open_again(self, first: int) -> None:
        """Steps from this one on are decided anew."""
        self.decisions = [one for one in self.decisions if one.vote or one.step < first]
        self.steps = [
            pb.Approval.Progress(step=one.step, state="WAITING", from_revision=self.revision)
            if place >= first
            else one
            for place, one in enumerate(self.steps)
        ]

    def choose(self, people: list[str], call: Call) -> None:
        """The requester says who decides the step that waits for that."""
        self._check_requester(call)
        index = next((i for i, one in enumerate(self.steps) if one.state == "CHOOSING"), None)
        if self.state != "PENDING" or index is None:
            raise FailedPrecondition("APPROVAL_CLOSED")
        candidates = {name for way in self.steps[index].step.approvers for name in way.candidates}
        if not people or not candidates.issuperset(people):
            raise FailedPrecondition("NOT_A_CANDIDATE")
        progress = pb.Approval.Progress()
        progress.CopyFrom(self.steps[index])
        progress.state, progress.chosen[:] = "WAITING", people
        self.steps = [progress if i == index else one for i, one in enumerate(self.steps)]

    def _check_requester(self, call: Call) -> None:
        if self.requester != call.caller.actor:
            raise PermissionDenied("NOT_THE_REQUESTER")

    def revise(self, content: Any, call: Call) -> None:
        """Who decides changes what the step lets him; nothing holds before the owner of the record has tried it."""
        mine = self._mine(call)
        editable = set(self.steps[mine.step].step.editable)
        kept = withholding.taken_of(self.target.partition("/")[0], call.caller)
        for field in _leaves(content):
            if field not in editable or {field, field.partition(".")[2]} & {*_json_names(self.target, kept)}:
                raise FailedPrecondition("FIELD_NOT_EDITABLE", field=field)
        call.emit(events.ApprovalRevised, approval=self, content=content, revision=self.revision + 1)

    def resubmit(self, content: Any, call: Call) -> None:
        """The requester asks again, with or without changes."""
        self._check_requester(call)
        if self.state in ("PENDING", "APPROVED"):
            raise FailedPrecondition("APPROVAL_OPEN")
        self.check_state("RETURNED", "STALE", "FAILED")
        secrets = _secrets(self.target.partition("/")[0])
        for field in _leaves(content):
            # A decision tells what it is about; the secret that was sent stays with the held action, sealed.
            if field.rpartition(".")[2] in secrets:
                raise FailedPrecondition("FIELD_NOT_EDITABLE", field=field)
        call.emit(events.ApprovalRevised, approval=self, content=content, revision=self.revision + 1)

    def retry(self, call: Call) -> None:
        """Has the failed action tried again."""
        self._check_requester(call)
        self.check_state("FAILED")
        failed = self.outcome_time or self.end_time or call.now
        if call.now - failed > timedelta(hours=RETRY_HOURS):
            raise FailedPrecondition("RETRY_TOO_LATE", limit=RETRY_HOURS)
        self.state = "APPROVED"
        call.emit(events.ApprovalRetried, approval=self)

    async def advance(self, call: Call) -> list[str]:
        """Goes to the next step that somebody must decide, or to the end; returns whom to tell."""
        while self.state == "PENDING":
            index = next(
                (i for i, one in enumerate(self.steps) if one.state in ("WAITING", "CHOOSING")), None
            )
            if index is None:
                self._end("APPROVED", "", call)
                call.emit(events.ApprovalApproved, approval=self)
                break
            asked = await self._enter(index, call)
            if self.state == "PENDING" and self.steps[index].state == "CHOOSING":
                return [self.requester]
            if self.state == "PENDING" and self.steps[index].state == "ACTIVE":
                return asked
        return []

    async def _enter(self, index: int, call: Call) -> list[str]:
        step = self.steps[index].step
        if step.condition.strip() and not fits(step.condition, self.facts, call):
            self._step(index, state="PASSED", why="condition")
            return []
        rule = Policy.SelfApproval.Value(self.self_approval) if self.self_approval else 0
        chosen = list(self.steps[index].chosen)
        if not chosen and any(way.source == Policy.CHOICE for way in step.approvers):
            self._step(index, state="CHOOSING")
            return []
        found = await deciders(step, rule, self.requester, self.facts, call, chosen)
        if not found and step.nobody == Policy.PASS:
            self._step(index, state="PASSED", why="nobody found")
            return []
        if not found and step.nobody == Policy.NAMED:
            named = Policy.Step(approvers=[Policy.Approver(source=Policy.EMPLOYEE, employee=step.stand_in)])
            by_name = await deciders(named, Policy.SKIP, self.requester, self.facts, call)
            found = {name: f"nobody found, {why}" for name, why in by_name.items()}
        if not found and step.nobody != Policy.REFUSE:
            found = await administrators(self.requester, call)
        if not found:
            self.close_unreachable(call)
            return []
        earlier = self._agreed_before(index)
        asked = [
            pb.Approval.Decision(approver=name, why=why, step=index, revision=self.revision)
            for name, why in found.items()
        ]
        for decision in asked:
            if decision.approver in earlier:
                decision.vote, decision.repeated_vote = AGREED, True
                decision.time.CopyFrom(to_timestamp(call.now))
        self.decisions = [*self.decisions, *asked]
        self.collaborators = list(dict.fromkeys([*self.collaborators, *found]))
        self._step(index, state="ACTIVE", start=call.now)
        self._settle(index, "", call)
        return [one.approver for one in self.open_decisions()]

    def _agreed_before(self, index: int) -> set[str]:
        if self.duplicates == "EVERY":
            return set()
        steps = {index - 1} if self.duplicates == "CONSECUTIVE" else set(range(index))
        # What was decided about another content stands for nothing here.
        agreed = (one for one in self.decisions if one.vote == AGREED and one.revision == self.revision)
        return {one.approver for one in agreed if one.step in steps}

    def _of(self, index: int) -> list[Any]:
        """The decisions that count for a step."""
        if index < 0:
            return []
        since = self.steps[index].from_revision
        return [one for one in self.decisions if one.step == index and one.revision >= since]

    @property
    def current(self) -> int:
        """The step under way; -1 where there is none."""
        return next((i for i, one in enumerate(self.steps) if one.state == "ACTIVE"), -1)

    def open_decisions(self) -> list[Any]:
        """The decisions of the step under way that are waited for now."""
        index = self.current
        waiting = [one for one in self._of(index) if not one.vote]
        sequence = index >= 0 and self.steps[index].step.mode == Policy.SEQUENCE
        return waiting[:1] if sequence else waiting

    def _settle(self, index: int, comment: str, call: Call) -> None:
        """Ends the step, or the whole, as soon as the votes decide it."""
        step = self.steps[index].step
        votes = [one.vote for one in self._of(index)]
        agreed, refused = votes.count(AGREED), votes.count(REFUSED)
        needed = len(votes)
        if step.mode in (Policy.ANY, Policy.MODE_UNSPECIFIED):
            needed = 1
        elif step.mode == Policy.QUORUM:
            needed = min(step.quorum or ceil(step.quorum_percent * len(votes) / 100), len(votes))
        if agreed >= needed:
            self._step(index, state="AGREED")
        elif len(votes) - refused < needed:
            self._end("REJECTED", comment, call)
            call.emit(events.ApprovalRejected, approval=self)

    def _step(
        self, index: int, state: str, why: str = "", start: datetime | None = None, rungs: int = 0
    ) -> None:
        progress = pb.Approval.Progress()
        progress.CopyFrom(self.steps[index])
        progress.state, progress.why, progress.rungs = state, why or progress.why, rungs or progress.rungs
        if start is not None:
            progress.start_time.CopyFrom(to_timestamp(start))
        self.steps = [progress if i == index else one for i, one in enumerate(self.steps)]

    def reassign(self, person: Employee, call: Call) -> None:
        """Gives one's decision to somebody else."""
        mine = self._mine(call)
        given = pb.Approval.Decision(
            approver=self._new_approver(person), why="reassigned", replaced=mine.approver, step=mine.step,
            revision=mine.revision, depth=mine.depth,
        )  # fmt: skip
        self.decisions = [given if one is mine else one for one in self.decisions]

    def add_signer(self, person: Employee, before: bool, call: Call) -> None:
        """Asks somebody more in one's own step, in front of oneself or behind."""
        mine = self._mine(call)
        if len(self._of(mine.step)) >= MOST_SIGNERS:
            raise FailedPrecondition("SIGNER_LIMIT", limit=MOST_SIGNERS)
        if mine.depth >= DEEPEST_SIGNER:
            raise FailedPrecondition("SIGNER_LIMIT", limit=DEEPEST_SIGNER)
        name = self._new_approver(person)
        given = pb.Approval.Decision(
            approver=name, why=f"asked by {mine.approver}", step=mine.step, revision=mine.revision,
            depth=mine.depth + 1,
        )  # fmt: skip
        place = self.decisions.index(mine) + (0 if before else 1)
        self.decisions = [*self.decisions[:place], given, *self.decisions[place:]]

    def remark(self, words: str, call: Call) -> None:
        """Keeps what somebody says."""
        said = pb.Approval.Remark(author=call.caller.actor, text=words)
        said.time.CopyFrom(to_timestamp(call.now))
        self.remarks = [*self.remarks, said]

    def remind(self, call: Call) -> list[str]:
        """Whom the requester reminds, once in a while."""
        self._check_requester(call)
        if self.state != "PENDING":
            raise FailedPrecondition("APPROVAL_CLOSED")
        if self.remind_time is not None and call.now - self.remind_time < timedelta(hours=REMIND_HOURS):
            raise FailedPrecondition("REMIND_TOO_SOON", limit=REMIND_HOURS)
        self.remind_time = call.now
        return [one.approver for one in self.open_decisions()]

    async def climb(self, rung: Any, call: Call) -> list[str]:
        """Does what a rung of the ladder says, once; returns whom to tell."""
        index, waiting = self.current, self.open_decisions()
        self._step(index, state="ACTIVE", rungs=self.steps[index].rungs + 1)
        match rung.act:
            case Policy.REMIND:
                return [one.approver for one in waiting]
            case Policy.ESCALATE | Policy.REPLACE:
                return await self._hand_up(waiting, rung.act == Policy.REPLACE, call)
            case Policy.APPROVE:
                self._step(index, state="AGREED", why="timeout")
                return await self.advance(call)
            case _:
                self._end("REJECTED", "超时 / timeout", call)
                call.emit(events.ApprovalRejected, approval=self)
                return []

    async def _hand_up(self, waiting: list[Any], instead: bool, call: Call) -> list[str]:
        told: list[str] = []
        for decision in waiting:
            person = await employee(decision.approver, call)
            superior = await stand_in(person, call) if person else None
            asked = {one.approver for one in self._of(decision.step)}
            if superior is None or superior.name in asked or superior.name == self.requester:
                continue
            given = pb.Approval.Decision(
                approver=self._new_approver(superior),
                why="timeout",
                replaced=decision.approver,
                step=decision.step,
                revision=decision.revision,
            )
            kept = [one for one in self.decisions if not (instead and one is decision)]
            self.decisions = [*kept, given]
            told.append(superior.name)
        return told

    def _new_approver(self, person: Employee) -> str:
        asked = {one.approver for one in self._of(self.current)}
        if person.state != "ACTIVE" or person.name in asked or person.name == self.requester:
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        self.collaborators = list(dict.fromkeys([*self.collaborators, person.name]))
        return person.name

    def _mine(self, call: Call) -> Any:
        """The caller's open decision; the reason why there is none."""
        me = call.caller.employee
        mine = [one for one in self.decisions if one.approver == me] if me else []
        if not mine:
            raise PermissionDenied("NOT_AN_APPROVER")
        if self.state in {"WITHDRAWN", "STALE"}:
            raise FailedPrecondition("APPROVAL_CLOSED")
        open_now = [one for one in self.open_decisions() if one.approver == me]
        if self.state == "PENDING" and open_now:
            return open_now[0]
        if self.state == "PENDING" and not any(one.vote for one in mine):
            # Somebody else comes first in the sequence.
            raise PermissionDenied("NOT_AN_APPROVER")
        raise FailedPrecondition("ALREADY_DECIDED")

    async def approve(self, digest: str, comment: str, call: Call) -> list[str]:
        """Agrees. The action runs when the last step has; returns whom to tell next."""
        self._mine(call)
        self.check_seen(digest)
        index = self._vote(AGREED, comment, call)
        self._settle(index, comment, call)
        if self.steps[index].state == "AGREED":
            return await self.advance(call)
        sequence = self.steps[index].step.mode == Policy.SEQUENCE
        return [one.approver for one in self.open_decisions()] if sequence else []

    def signed_offline(self, time: datetime, call: Call) -> None:
        """The caller's decision was made then, on a device."""
        self.mark_decision(call.caller.employee, offline=True, time=to_timestamp(time))

    def mark_decision(self, person: str, **marks: Any) -> None:
        """Says more of the decision that somebody has made just now."""
        mine = max(
            (one for one in self.decisions if one.approver == person and one.vote),
            key=lambda one: one.time.ToDatetime(UTC),
        )
        marked = pb.Approval.Decision()
        marked.CopyFrom(mine)
        for field in marks:
            marked.ClearField(cast("Any", field))
        marked.MergeFrom(pb.Approval.Decision(**marks))
        self.decisions = [marked if one is mine else one for one in self.decisions]

    def check_seen(self, digest: str) -> None:
        """Refuses a decision about an older content, and says what the content is now."""
        if digest and digest != self.digest:
            now = [json_format.MessageToDict(one) for one in self.changes]
            raise FailedPrecondition(
                "SNAPSHOT_STALE", digest=self.digest, changes=json.dumps(now, ensure_ascii=False)
            )

    def reject(self, reason: str, call: Call) -> None:
        """Refuses. It is refused as a whole as soon as nobody can make up for it."""
        self._settle(self._vote(REFUSED, check_reason(reason), call), reason, call)

    def give_back(self, reason: str, call: Call) -> None:
        """Gives it back to be changed."""
        index = self._vote(GAVE_BACK, check_reason(reason), call)
        self._step(index, state="RETURNED")
        self._end("RETURNED", reason, call)
        call.emit(events.ApprovalReturned, approval=self)

    def withdraw(self, call: Call) -> None:
        """The requester takes it back before anybody has decided."""
        self._check_requester(call)
        if self.state != "PENDING":
            raise FailedPrecondition("APPROVAL_CLOSED")
        decided = any(decision.vote for decision in self.decisions)
        if self.withdrawal == "NEVER" or (decided and self.withdrawal != "WHILE_OPEN"):
            raise FailedPrecondition("WITHDRAW_CLOSED")
        self._end("WITHDRAWN", "", call)
        call.emit(events.ApprovalWithdrawn, approval=self)

    def close_unreachable(self, call: Call) -> None:
        """Nobody is left who could decide: refused, and the requester is told why."""
        self._end("REJECTED", "没有可以审批的人 / nobody is left to decide", call)
        call.emit(events.ApprovalRejected, approval=self)

    def executed(self, outcome: str, reason: str, call: Call) -> bool:
        """What became of the held action; True where that is news. Facts may come twice."""
        if outcome == "UNCHANGED":
            # A change that would not work: what was asked for stays, and everybody can read why.
            self.outcome = reason
            return True
        if self.state != "APPROVED" or outcome not in {"EXECUTED", "FAILED", "STALE"}:
            return False
        self.state, self.outcome, self.outcome_time = outcome, reason, call.now
        return True

    def replace(self, leaver: str, approvers: dict[str, str], delegated: bool = False) -> None:
        """Others decide in place of somebody who cannot; a vote that was given stays."""
        index = self.current
        asked = {one.approver for one in self._of(index)}
        kept = [one for one in self.decisions if one.approver != leaver or one.vote]
        new = [
            pb.Approval.Decision(
                approver=name,
                why=why,
                replaced=leaver,
                step=index,
                revision=self.revision,
                delegated=delegated,
            )
            for name, why in approvers.items()
            if name not in asked
        ]
        self.decisions = [*kept, *new]
        deciding = [decision.approver for decision in self.decisions]
        self.collaborators = list(dict.fromkeys([*deciding, *self.copied]))

    def waits_for(self, employee: str) -> bool:
        """True where this person has yet to vote."""
        return any(one.approver == employee and not one.vote for one in self._of(self.current))

    def _vote(self, vote: Any, comment: str, call: Call) -> int:
        """Keeps the caller's vote; returns its step."""
        mine = self._mine(call)
        voted = pb.Approval.Decision()
        voted.CopyFrom(mine)
        voted.vote, voted.comment = vote, comment
        voted.time.CopyFrom(to_timestamp(call.now))
        self.decisions = [voted if decision is mine else decision for decision in self.decisions]
        return voted.step

    def _end(self, state: str, outcome: str, call: Call) -> None:
        self.state, self.outcome, self.end_time = state, outcome, call.now


async def since_approved(target: str, action: str, facts: Mapping[str, Any], call: Call) -> list[Any]:
    """What differs from the record as it was approved the last time; nothing where it never was."""
    earlier = (
        select(Approval)
        .where(
            Approval.target == target, Approval.action == action, Approval.state.in_(["APPROVED", "EXECUTED"])
        )
        .order_by(Approval.end_time.desc())
        .limit(1)
    )
    last = await call.db.scalar(earlier)
    return changes(last.facts, facts) if last is not None else []


async def replace_approver(leaver: Employee, call: Call, successor: Employee | None = None) -> list[Approval]:
    """Finds others for every decision that waits for somebody who has lost access."""
    waiting = select(Approval).where(
        Approval.state == "PENDING", Approval.collaborators.contains([leaver.name])
    )
    replaced: list[Approval] = []
    for approval in list(await call.db.scalars(waiting.with_for_update())):
        if not approval.waits_for(leaver.name):
            continue
        if successor is not None and successor.name != approval.requester:
            others = {successor.name: "successor"}
        else:
            deputy = await delegate_of(leaver, call.now, call) or await stand_in(leaver, call)
            others = {deputy.name: "superior"} if deputy and deputy.name != approval.requester else {}
        approval.replace(leaver.name, others or await administrators(approval.requester, call))
        if not any(not decision.vote for decision in approval.decisions):
            approval.close_unreachable(call)
        replaced.append(approval)
    return replaced


async def hand_to_delegate(person: Employee, call: Call) -> list[Approval]:
    """What already waits for somebody goes to the one who decides in his place now."""
    await call.flush()
    delegate = await delegate_of(person, call.now, call)
    if delegate is None:
        return []
    waiting = select(Approval).where(
        Approval.state == "PENDING", Approval.collaborators.contains([person.name])
    )
    moved: list[Approval] = []
    async with call.everybody():
        found = list(await call.db.scalars(waiting.with_for_update()))
    for approval in found:
        mine = any(one.approver == person.name for one in approval.open_decisions())
        if mine and delegate.name != approval.requester:
            approval.replace(person.name, {delegate.name: f"for {person.display_name}"}, delegated=True)
            moved.append(approval)
    return moved


async def hand_back(call: Call) -> list[Approval]:
    """What went to a delegate and waits still returns once the time of the delegation is over."""
    waiting = select(Approval).where(
        Approval.state == "PENDING", text("jsonb_path_exists(decisions, '$[*] ? (@.delegated == true)')")
    )
    back: list[Approval] = []
    for approval in list(await call.db.scalars(waiting.with_for_update(skip_locked=True).limit(500))):
        for decision in [one for one in approval.open_decisions() if one.delegated]:
            person = await employee(decision.replaced, call)
            if person is None or person.state != "ACTIVE":
                continue
            if await delegate_of(person, call.now, call) is None:
                approval.replace(decision.approver, {person.name: "delegation ended"})
                back.append(approval)
    return back


def _json_names(target: str, taken: Levels) -> list[str]:
    """The fields as requests call them."""
    described = withholding.described_of(target)
    fields = described.fields if described is not None else {}
    return [fields[name].json_name if name in fields else name for name in taken]


def _secrets(target: str) -> set[str]:
    """The fields of the collection that nobody reads again, as requests call them."""
    described = withholding.described_of(target)
    fields = described.fields.values() if described is not None else ()
    return {field.json_name for field in fields if field.rule.secret}


def _leaves(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The paths of all that a change says, such as "quote.terms"."""
    found: list[str] = []
    for key, value in content.items():
        path = f"{prefix}{key}"
        found += _leaves(value, f"{path}.") if isinstance(value, Mapping) else [path]
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Any]:
    """What the action changes, field by field."""
    names = [name for name in after if name not in SILENT and after.get(name) != before.get(name)]
    return [
        pb.Approval.Change(
            field=name,
            before=json.dumps(before.get(name), ensure_ascii=False) if name in before else "",
            after=json.dumps(after[name], ensure_ascii=False),
        )
        for name in names
    ]
