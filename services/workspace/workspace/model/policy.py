"""Policies of approval: which action waits for whose decision."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import crmprotos
from crm.options.v1 import options_pb2 as options
from crm.workspace.v1 import pb
from crmkit import filters
from crmkit.auth import ZONE
from crmkit.call import Call
from crmkit.catalog import resources
from crmkit.errors import FailedPrecondition
from crmkit.filters import And, Comparison, FilterError, Not, Or
from crmkit.filters.values import snake
from crmkit.mapping import mapper
from crmkit.options import option
from crmkit.resource import Resource
from google.api import annotations_pb2
from google.protobuf import json_format
from sqlalchemy import Integer, Uuid, insert
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from workspace.model.base import Base
from workspace.model.deciders import deciders

Policy = pb.ApprovalPolicy
MOST_STEPS = 20
# Nobody decides these for himself, and no clock does.
GRAVE = ("billing.", "pay", "refund", "delete", "export", "role", "Role")
KNOWN_NOW = (Policy.EMPLOYEE, Policy.ROLE, Policy.CHOICE)
HELD = (options.CREATE, options.UPDATE, options.DELETE)


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
    watched_fields: Mapped[list[str]]
    resubmission: Mapped[str]
    edition: Mapped[int]
    copied: Mapped[Any]

    async def creating(self, call: Call) -> None:
        """Begins as a draft that can be read."""
        self.state = "DRAFT"
        self.mode = self.mode or "ANY"
        self._check(call)

    async def updating(self, call: Call, changed: frozenset[str]) -> None:
        """What is in force comes into force otherwise at once; open approvals keep to the edition that held them."""
        self.mode = self.mode or "ANY"
        self._check(call)
        if self.state == "ACTIVE":
            await self._come_into_force(call)

    async def deleting(self, call: Call) -> None:
        """Only what was never in force goes."""
        self.check_state("DRAFT")
        if self.edition:
            raise FailedPrecondition("ILLEGAL_TRANSITION", state=self.state)

    async def activate(self, call: Call) -> None:
        """Lets it hold its action."""
        self.check_state("DRAFT", "RETIRED")
        self._check(call)
        await self._come_into_force(call)
        self.state = "ACTIVE"

    async def _come_into_force(self, call: Call) -> None:
        for step in path_of(self.definition()):
            if not await self._reaches_somebody(step, call):
                raise FailedPrecondition("POLICY_NO_APPROVER")
        await self.keep_edition(call)

    async def keep_edition(self, call: Call) -> None:
        """Counts the edition up, and keeps it for the approvals that it will hold."""
        self.edition += 1
        edition = {
            "policy": self.id,
            "edition": self.edition,
            "definition": call.running.json_of(self.definition()),
        }
        await call.db.execute(insert(PolicyEdition).values(edition))

    def retire(self) -> None:
        """Takes it out of force."""
        self.check_state("ACTIVE")
        self.state = "RETIRED"

    def definition(self) -> Any:
        """The policy as message."""
        return mapper(ApprovalPolicy).message(self)

    def entry(self) -> dict[str, Any]:
        """What the gates of all services know of it."""
        action, fields = split_action(self.action)
        return {
            "action": action,
            "fields": fields,
            "condition": self.condition,
            "priority": self.priority,
            "watched": list(self.watched_fields),
            "version": self.edition,
        }

    async def _reaches_somebody(self, step: Any, call: Call) -> bool:
        """Whom a requester's place or the record decides is known later; the others must be there now."""
        if any(way.source not in KNOWN_NOW for way in step.approvers):
            return True
        return bool(step.approvers and await deciders(step, Policy.ALLOW, "", {}, call, every_candidate=True))

    def _check(self, call: Call) -> None:
        self._check_steps()
        action, fields = split_action(self.action)
        collection = actions().get(action)
        if collection is None or action.startswith("workspace.approvals."):
            raise FailedPrecondition("POLICY_INVALID", detail=self.action)
        try:
            node = filters.parse(self.condition) if self.condition.strip() else None
        except FilterError as error:
            raise FailedPrecondition(
                "POLICY_INVALID", detail=call.text(error.detail_zh, error.detail_en)
            ) from None
        described = next((found for found in resources().values() if found.collection == collection), None)
        named = [*(_fields(node) if node else ()), *fields, *self.watched_fields]
        for field in named:
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
            if (step.nobody == Policy.NAMED) != bool(step.stand_in):
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.stand_in")
            if quorum != bool(step.quorum or step.quorum_percent) or step.quorum_percent > 100:
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.quorum")
            if grave and any(rung.act == Policy.APPROVE for rung in step.ladder):
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.ladder")
            for way in step.approvers:
                needs = {
                    Policy.ROLE: way.role, Policy.EMPLOYEE: way.employee, Policy.FIELD: way.field,
                    Policy.CHOICE: way.candidates,
                }  # fmt: skip
                limits = [Decimal(limit) for limit in way.limits]
                if limits and (way.source != Policy.CHAIN or not way.field or limits != sorted(limits)):
                    raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.limits")
                if not way.source or not needs.get(way.source, "x"):
                    raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.approvers")
            try:
                if step.condition.strip():
                    filters.parse(step.condition)
            except FilterError:
                raise FailedPrecondition("POLICY_INVALID", detail=f"{at}.condition") from None


class PolicyEdition(Base):
    """A policy as it was in force: a running approval keeps to it."""

    __tablename__ = "approval_policy_editions"

    policy: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    edition: Mapped[int] = mapped_column(Integer, primary_key=True)
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)


async def policy_of(key: str, edition: int, call: Call) -> Any:
    """The policy as it was in that edition; as it is now where that is not said; None where there is none."""
    try:
        identity = UUID(key)
    except ValueError:
        return None
    kept = await call.db.get(PolicyEdition, (identity, edition)) if edition else None
    if kept is not None:
        return json_format.ParseDict(kept.definition, pb.ApprovalPolicy(), ignore_unknown_fields=True)
    row = await call.find(ApprovalPolicy, ApprovalPolicy.id == identity)
    return row.definition() if row is not None else None


def path_of(policy: Any) -> list[Any]:
    """The steps; a policy without any is one step of superiors, roles and named people."""
    if policy.steps:
        return list(policy.steps)
    ways = (
        [Policy.Approver(source=Policy.CHAIN, level=policy.superior_levels)] if policy.superior_levels else []
    )
    ways += [Policy.Approver(source=Policy.ROLE, role=role) for role in policy.roles]
    ways += [Policy.Approver(source=Policy.EMPLOYEE, employee=name) for name in policy.approvers]
    return [Policy.Step(approvers=ways, mode=policy.mode)]


def split_action(action: str) -> tuple[str, list[str]]:
    """The permission and the fields of an action such as "customer.accounts.update:owner,department"."""
    permission, _, fields = action.partition(":")
    return permission.strip(), [snake(field.strip()) for field in fields.split(",") if field.strip()]


def fits(condition: str, record: Mapping[str, Any], call: Call) -> bool:
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
    definition = policy.definition()
    rule = definition.self_approval
    for step in path_of(definition):
        taken = not step.condition.strip() or fits(step.condition, record, call)
        found = await deciders(step, rule, requester, record, call, every_candidate=True) if taken else {}
        answer.steps.add(label=step.label, taken=taken, approvers=list(found), why=list(found.values()))
    return answer


@lru_cache(maxsize=1)
def actions() -> dict[str, str]:
    """Every permission that the gate can hold, with the collection that it is on."""
    found: dict[str, str] = {}
    for file in crmprotos.load().file:
        for service in file.service:
            for method in service.method:
                http = option(method, annotations_pb2.http)
                permission: str = option(method, options.permission)
                standard = option(method, options.standard)
                if permission.endswith(".read"):
                    continue
                if standard in HELD:
                    found[permission] = permission.split(".")[1]
                elif not standard and "/{name=" in http.post:
                    found.setdefault(permission, http.post.partition("{name=")[2].partition("/")[0])
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
