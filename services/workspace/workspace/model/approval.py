"""Approvals: which verb waits for whose decision, and what was decided."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

import crmprotos
from crm.options.v1 import options_pb2
from crm.workspace.v1 import events_pb2 as events
from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.filters import And, Comparison, FilterError, Not, Or
from crmkit.filters.values import snake
from crmkit.mapping import to_timestamp
from crmkit.options import option
from crmkit.resource import Resource, parse_name
from google.api import annotations_pb2
from sqlalchemy import Index, select
from sqlalchemy.orm import Mapped

from workspace.model.base import Base
from workspace.model.employee import Employee, check_reason, superiors

AGREED, REFUSED, GAVE_BACK = (pb.Approval.Vote.Value(vote) for vote in ("AGREED", "REFUSED", "GAVE_BACK"))
ADMINISTRATOR = "administrator"


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
        if not self.superior_levels and not await approvers_of(self, "", call):
            raise FailedPrecondition("POLICY_NO_APPROVER")
        self.state = "ACTIVE"

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def _check(self, call: Call) -> None:
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

    def ask(self, approvers: dict[str, str]) -> None:
        """Puts the question to the people; the reason why each of them is asked is kept."""
        self.decisions = [pb.Approval.Decision(approver=name, why=why) for name, why in approvers.items()]
        self.collaborators = list(approvers)

    def approve(self, digest: str, comment: str, call: Call) -> None:
        """Agrees. The verb runs when enough have."""
        self._vote(AGREED, comment, call)
        if digest and digest != self.digest:
            raise FailedPrecondition("SNAPSHOT_STALE")
        if self.mode == "ANY" or all(decision.vote == AGREED for decision in self.decisions):
            self._end("APPROVED", comment, call)
            call.emit(events.ApprovalApproved, approval=self)

    def reject(self, reason: str, call: Call) -> None:
        """Refuses. It is refused as a whole as soon as nobody can make up for it."""
        self._vote(REFUSED, check_reason(reason), call)
        if self.mode == "ALL" or all(decision.vote == REFUSED for decision in self.decisions):
            self._end("REJECTED", reason, call)
            call.emit(events.ApprovalRejected, approval=self)

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
        if any(decision.vote for decision in self.decisions):
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
        asked = {decision.approver for decision in self.decisions}
        kept = [decision for decision in self.decisions if decision.approver != leaver or decision.vote]
        new = [
            pb.Approval.Decision(approver=name, why=why, replaced=leaver)
            for name, why in approvers.items()
            if name not in asked
        ]
        self.decisions = [*kept, *new]
        self.collaborators = [decision.approver for decision in self.decisions]

    def waits_for(self, employee: str) -> bool:
        """True where this person has yet to vote."""
        return any(decision.approver == employee and not decision.vote for decision in self.decisions)

    def _vote(self, vote: Any, comment: str, call: Call) -> None:
        mine = [decision for decision in self.decisions if decision.approver == call.caller.employee]
        if not mine or not call.caller.employee:
            raise PermissionDenied("NOT_AN_APPROVER")
        if self.state in {"WITHDRAWN", "STALE"}:
            raise FailedPrecondition("APPROVAL_CLOSED")
        if self.state != "PENDING" or mine[0].vote:
            raise FailedPrecondition("ALREADY_DECIDED")
        voted = pb.Approval.Decision()
        voted.CopyFrom(mine[0])
        voted.vote, voted.comment = vote, comment
        voted.time.CopyFrom(to_timestamp(call.now))
        self.decisions = [voted if decision is mine[0] else decision for decision in self.decisions]

    def _end(self, state: str, outcome: str, call: Call) -> None:
        self.state, self.outcome, self.end_time = state, outcome, call.now


async def approvers_of(policy: ApprovalPolicy, requester: str, call: Call) -> dict[str, str]:
    """Who decides, each with the reason why; never the requester, never somebody who is away for good."""
    asked: list[tuple[Employee, str]] = []
    if requester.startswith("employees/"):
        chain = (await superiors(requester, call))[1 : policy.superior_levels + 1]
        asked += [(person, "superior") for person in chain]
    for role in policy.roles:
        holders = await call.db.scalars(
            select(Employee).where(Employee.roles.contains([role]), Employee.state == "ACTIVE").limit(50)
        )
        asked += [(person, f"role {role}") for person in holders]
    for name in policy.approvers:
        person = await call.find(Employee, Employee.id == parse_name(name, "employees"))
        asked += [(person, "named")] if person else []
    found: dict[str, str] = {}
    for person, why in asked:
        able = person if person.state == "ACTIVE" else await stand_in(person, call)
        if able is not None and able.name != requester:
            found.setdefault(
                able.name, why if able is person else f"{why}, in place of {person.display_name}"
            )
    return found


async def stand_in(person: Employee, call: Call) -> Employee | None:
    """The nearest superior who works here now."""
    chain = (await superiors(person.superior, call)) if person.superior else []
    return next((superior for superior in chain if superior.state == "ACTIVE"), None)


async def administrators(requester: str, call: Call) -> dict[str, str]:
    """Who decides where nobody else can."""
    holders = await call.db.scalars(
        select(Employee).where(Employee.roles.contains([ADMINISTRATOR]), Employee.state == "ACTIVE").limit(50)
    )
    return {person.name: "nobody else can decide" for person in holders if person.name != requester}


async def replace_approver(leaver: Employee, call: Call) -> list[Approval]:
    """Finds others for every decision that waits for somebody who has lost access."""
    waiting = select(Approval).where(
        Approval.state == "PENDING", Approval.collaborators.contains([leaver.name])
    )
    replaced: list[Approval] = []
    for approval in list(await call.db.scalars(waiting.with_for_update())):
        if not approval.waits_for(leaver.name):
            continue
        deputy = await stand_in(leaver, call)
        others = {deputy.name: "superior"} if deputy and deputy.name != approval.requester else {}
        approval.replace(leaver.name, others or await administrators(approval.requester, call))
        if not any(not decision.vote for decision in approval.decisions):
            approval.close_unreachable(call)
        replaced.append(approval)
    return replaced


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
