"""Approvals: which verb waits for whose decision, and what was decided."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Any

import crmprotos
from crm.options.v1 import options_pb2
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.auth import ZONE
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.filters import And, Comparison, FilterError, Not, Or
from crmkit.filters.values import snake
from crmkit.mapping import to_timestamp
from crmkit.options import option
from crmkit.resource import Resource
from google.api import annotations_pb2
from sqlalchemy import Index, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.deciders import administrators, deciders, delegate_of, employee, stand_in
from workspace.model.employee import Employee, check_reason

VOTES: tuple[Any, ...] = tuple(pb.Approval.Vote.Value(vote) for vote in ("AGREED", "REFUSED", "GAVE_BACK"))
AGREED, REFUSED, GAVE_BACK = VOTES
Policy = pb.ApprovalPolicy
MOST_STEPS = 20
MOST_SIGNERS = 50
REMIND_HOURS = 4
# Nobody decides these for himself, and no clock does.
GRAVE = ("billing.", "pay", "refund", "delete", "export", "role", "Role")
SILENT = frozenset(["etag", "updateTime", "pendingApproval"])


class ApprovalPolicy(Resource, Base):
    """A policy over one verb. In force it must be readable and reach somebody."""

    __message__ = pb.ApprovalPolicy

    display_name: Mapped[str]
    action: Mapped[str]
    condition: Mapped[str]
    priority: Mapped[int]
    superior_levels: Mapped[int]
    roles: Mapped[list[str]]
    approvers: Mapped[list[str]]
    mode: Mapped[str]
    state: Mapped[str]
    steps: Mapped[Any]
    self_approval: Mapped[str]
    duplicates: Mapped[str]
    withdrawal: Mapped[str]

    async def creating(self, call: Call) -> None:
        """Begins as a draft that can be read."""
        self.state = "DRAFT"
        self.mode = self.mode or "ANY"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """A policy in force is retired before it is changed: open approvals must stay explainable."""
        self.check_state("DRAFT", "RETIRED")
        self.mode = self.mode or "ANY"
        self._check(call)

    async def deleting(self, call: Call) -> None:
        """Only what was never in force goes."""
        self.check_state("DRAFT")

    async def activate(self, call: Call) -> None:
        """Lets it hold its action."""
        self.check_state("DRAFT", "RETIRED")
        self._check(call)
        for step in self.path():
            if not await self._reaches_somebody(step, call):
                raise FailedPrecondition("POLICY_NO_APPROVER")
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def path(self) -> list[Any]:
        """The steps; a policy without any is one step of superiors, roles and named people."""
        if self.steps:
            return list(self.steps)
        ways = (
            [Policy.Approver(source=Policy.CHAIN, level=self.superior_levels)] if self.superior_levels else []
        )
        ways += [Policy.Approver(source=Policy.ROLE, role=role) for role in self.roles]
        ways += [Policy.Approver(source=Policy.EMPLOYEE, employee=name) for name in self.approvers]
        return [Policy.Step(approvers=ways, mode=self.mode)]

    async def _reaches_somebody(self, step: Any, call: Call) -> bool:
        """Whom a requester's place or the record decides is known later; the others must be there now."""
        if any(way.source not in (Policy.EMPLOYEE, Policy.ROLE) for way in step.approvers):
            return True
        return bool(step.approvers and await deciders(step, Policy.ALLOW, "", {}, call))

    def _check(self, call: Call) -> None:
        self._check_steps()
        collection = verbs().get(self.action)
        if collection is None or self.action.startswith("workspace.approvals."):
            raise FailedPrecondition("POLICY_INVALID", detail=self.action)
        try:
            node = filters.parse(self.condition) if self.condition.strip() else None
        except FilterError as error:
            raise FailedPrecondition(
                "POLICY_INVALID", detail=call.text(error.detail_zh, error.detail_en)
            ) from None
        described = next((found for found in resources().values() if found.collection == collection), None)
        for field in _fields(node) if node else ():
            # The gate compares names with what is there: a misspelt one would never hold anything.
            if described is None or snake(field) not in described.fields:
                raise FailedPrecondition("POLICY_INVALID", detail=field)

    def _check_steps(self) -> None:
        grave = any(word in self.action for word in GRAVE)
        if len(self.steps) > MOST_STEPS or (grave and self.self_approval == "ALLOW"):
            raise FailedPrecondition("POLICY_INVALID", detail="self_approval" if grave else "steps")
        for index, step in enumerate(self.steps):
            at = f"steps[{index}]"
            quorum = step.mode == Policy.QUORUM
            if quorum != bool(step.quorum or step.quorum_percent) or step.quorum_percent > 100:
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.quorum")
            if grave and any(rung.act == Policy.APPROVE for rung in step.ladder):
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.ladder")
            for way in step.approvers:
                needs = {
                    Policy.ROLE: way.role, Policy.EMPLOYEE: way.employee, Policy.FIELD: way.field
                }  # fmt: skip
                if not way.source or not needs.get(way.source, "x"):
                    raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.approvers")
            try:
                if step.condition.strip():
                    filters.parse(step.condition)
            except FilterError:
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.condition") from None


class Approval(Resource, Base):
    """A held verb and the votes on it. It is decided once."""

    __message__ = pb.Approval
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

    async def begin(self, policy: ApprovalPolicy | None, call: Call) -> list[str]:
        """Takes the policy's path as it is now, and its first step; returns whom to tell."""
        path = policy.path() if policy else [Policy.Step(mode=Policy.ANY)]
        self.steps = [pb.Approval.Progress(step=step, state="WAITING") for step in path]
        self.decisions = []
        if policy is not None:
            self.self_approval, self.duplicates = policy.self_approval, policy.duplicates
            self.withdrawal = policy.withdrawal
        return await self.advance(call)

    async def advance(self, call: Call) -> list[str]:
        """Goes to the next step that somebody must decide, or to the end; returns whom to tell."""
        while self.state == "PENDING":
            index = next((i for i, one in enumerate(self.steps) if one.state == "WAITING"), None)
            if index is None:
                self._end("APPROVED", "", call)
                call.emit(events.ApprovalApproved, approval=self)
                break
            asked = await self._enter(index, call)
            if self.state == "PENDING" and self.steps[index].state == "ACTIVE":
                return asked
        return []

    async def _enter(self, index: int, call: Call) -> list[str]:
        step = self.steps[index].step
        if step.condition.strip() and not _fits(step.condition, self.facts, call):
            self._step(index, state="PASSED", why="condition")
            return []
        rule = Policy.SelfApproval.Value(self.self_approval) if self.self_approval else 0
        found = await deciders(step, rule, self.requester, self.facts, call)
        if not found and step.nobody == Policy.PASS:
            self._step(index, state="PASSED", why="nobody found")
            return []
        if not found and step.nobody != Policy.REFUSE:
            found = await administrators(self.requester, call)
        if not found:
            self.close_unreachable(call)
            return []
        earlier = self._agreed_before(index)
        asked = [pb.Approval.Decision(approver=name, why=why, step=index) for name, why in found.items()]
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
        return {one.approver for one in self.decisions if one.step in steps and one.vote == AGREED}

    @property
    def current(self) -> int:
        """The step under way; -1 where there is none."""
        return next((i for i, one in enumerate(self.steps) if one.state == "ACTIVE"), -1)

    def open_decisions(self) -> list[Any]:
        """The decisions of the step under way that are waited for now."""
        index = self.current
        waiting = [one for one in self.decisions if one.step == index and not one.vote]
        sequence = index >= 0 and self.steps[index].step.mode == Policy.SEQUENCE
        return waiting[:1] if sequence else waiting

    def _settle(self, index: int, comment: str, call: Call) -> None:
        """Ends the step, or the whole, as soon as the votes decide it."""
        step = self.steps[index].step
        votes = [one.vote for one in self.decisions if one.step == index]
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
            approver=self._new_approver(person), why="reassigned", replaced=mine.approver, step=mine.step
        )
        self.decisions = [given if one is mine else one for one in self.decisions]

    def add_signer(self, person: Employee, before: bool, call: Call) -> None:
        """Asks somebody more in one's own step, in front of oneself or behind."""
        mine = self._mine(call)
        here = [one for one in self.decisions if one.step == mine.step]
        if len(here) >= MOST_SIGNERS:
            raise FailedPrecondition("SIGNER_LIMIT", limit=MOST_SIGNERS)
        name = self._new_approver(person)
        given = pb.Approval.Decision(approver=name, why=f"asked by {mine.approver}", step=mine.step)
        place = self.decisions.index(mine) + (0 if before else 1)
        self.decisions = [*self.decisions[:place], given, *self.decisions[place:]]

    def remark(self, words: str, call: Call) -> None:
        """Keeps what somebody says."""
        said = pb.Approval.Remark(author=call.caller.actor, text=words)
        said.time.CopyFrom(to_timestamp(call.now))
        self.remarks = [*self.remarks, said]

    def remind(self, call: Call) -> list[str]:
        """Whom the requester reminds, once in a while."""
        if self.requester != call.caller.actor:
            raise PermissionDenied("NOT_THE_REQUESTER")
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
            asked = {one.approver for one in self.decisions if one.step == decision.step}
            if superior is None or superior.name in asked or superior.name == self.requester:
                continue
            given = pb.Approval.Decision(
                approver=self._new_approver(superior),
                why="timeout",
                replaced=decision.approver,
                step=decision.step,
            )
            kept = [one for one in self.decisions if not (instead and one is decision)]
            self.decisions = [*kept, given]
            told.append(superior.name)
        return told

    def _new_approver(self, person: Employee) -> str:
        asked = {one.approver for one in self.decisions if one.step == self.current}
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
        """Agrees. The verb runs when the last step has; returns whom to tell next."""
        index = self._vote(AGREED, comment, call)
        if digest and digest != self.digest:
            raise FailedPrecondition("SNAPSHOT_STALE")
        self._settle(index, comment, call)
        if self.steps[index].state == "AGREED":
            return await self.advance(call)
        sequence = self.steps[index].step.mode == Policy.SEQUENCE
        return [one.approver for one in self.open_decisions()] if sequence else []

    def reject(self, reason: str, call: Call) -> None:
        """Refuses. It is refused as a whole as soon as nobody can make up for it."""
        self._settle(self._vote(REFUSED, check_reason(reason), call), reason, call)

    def give_back(self, reason: str, call: Call) -> None:
        """Gives it back to be changed."""
        self._vote(GAVE_BACK, check_reason(reason), call)
        self._end("RETURNED", reason, call)
        call.emit(events.ApprovalReturned, approval=self)

    def withdraw(self, call: Call) -> None:
        """The requester takes it back before anybody has decided."""
        if self.requester != call.caller.actor:
            raise PermissionDenied("NOT_THE_REQUESTER")
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

    def executed(self, outcome: str, reason: str) -> None:
        """What became of the held verb. Facts may come twice."""
        if self.state == "APPROVED" and outcome in {"EXECUTED", "FAILED", "STALE"}:
            self.state = outcome
            self.outcome = reason or self.outcome

    def replace(self, leaver: str, approvers: dict[str, str]) -> None:
        """Others decide in place of somebody who cannot; a vote that was given stays."""
        index = self.current
        asked = {one.approver for one in self.decisions if one.step == index}
        kept = [one for one in self.decisions if one.approver != leaver or one.vote]
        new = [
            pb.Approval.Decision(approver=name, why=why, replaced=leaver, step=index)
            for name, why in approvers.items()
            if name not in asked
        ]
        self.decisions = [*kept, *new]
        self.collaborators = list(dict.fromkeys(decision.approver for decision in self.decisions))

    def waits_for(self, employee: str) -> bool:
        """True where this person has yet to vote."""
        return any(decision.approver == employee and not decision.vote for decision in self.decisions)

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


async def replace_approver(leaver: Employee, call: Call) -> list[Approval]:
    """Finds others for every decision that waits for somebody who has lost access."""
    waiting = select(Approval).where(
        Approval.state == "PENDING", Approval.collaborators.contains([leaver.name])
    )
    replaced: list[Approval] = []
    for approval in list(await call.db.scalars(waiting.with_for_update())):
        if not approval.waits_for(leaver.name):
            continue
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
            approval.replace(person.name, {delegate.name: f"for {person.display_name}"})
            moved.append(approval)
    return moved


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


def _fits(condition: str, record: Mapping[str, Any], call: Call) -> bool:
    """Whether the step is taken; a condition that cannot be read leaves no step out."""
    try:
        return filters.matches(
            filters.parse(condition), record, me=call.caller.actor, now=call.now, zone=ZONE
        )
    except FilterError:
        return True


async def simulate(
    policy: ApprovalPolicy, requester: str, record: Mapping[str, Any], call: Call
) -> pb.SimulateApprovalPolicyResponse:
    """The path that a request would take, and why."""
    answer = pb.SimulateApprovalPolicyResponse()
    rule = Policy.SelfApproval.Value(policy.self_approval) if policy.self_approval else 0
    for step in policy.path():
        taken = not step.condition.strip() or _fits(step.condition, record, call)
        found = await deciders(step, rule, requester, record, call) if taken else {}
        answer.steps.add(label=step.label, taken=taken, approvers=list(found), why=list(found.values()))
    return answer


@lru_cache(maxsize=1)
def verbs() -> dict[str, str]:
    """Every permission that a verb asks for, with the collection that the verb is on."""
    found: dict[str, str] = {}
    for file in crmprotos.load().file:
        for service in file.service:
            for method in service.method:
                http = option(method, annotations_pb2.http)
                permission: str = option(method, options_pb2.permission)
                if not option(method, options_pb2.standard) and "/{name=" in http.post:
                    found[permission] = http.post.partition("{name=")[2].partition("/")[0]
    return found


def _fields(node: Any) -> Iterator[str]:
    match node:
        case Comparison(path):
            yield path[0]
        case Not(inner):
            yield from _fields(inner)
        case And(parts) | Or(parts):
            for part in parts:
                yield from _fields(part)
        case _:
            return
