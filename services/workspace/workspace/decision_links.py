"""Decisions by the link of a mail: for one person and one step of one request, as it was then, for a while, once.

The link is a sealed text that nobody stores; it is made when the mail leaves. That it counts once is the vote's own
doing: who has voted on a step votes no more, and a step or revision that came later is another one. To open a link
decides nothing, for mail programs open links by themselves.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from crm.workspace.v1 import pb
from crmkit import withholding
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, PermissionDenied
from crmkit.mapping import to_timestamp
from crmkit.sealing import seal, unseal

from workspace.model.approval import Approval

PURPOSE = "decision link"
KEPT = timedelta(days=7)


@dataclass(frozen=True)
class Link:
    """What a link says."""

    approval: str
    person: str
    digest: str
    step: int
    revision: int
    expire_time: datetime

    def check(self, approval: Approval) -> None:
        """Refuses what was decided, given to somebody else or changed since."""
        if approval.state != "PENDING":
            raise FailedPrecondition("APPROVAL_CLOSED")
        if approval.current != self.step:
            raise FailedPrecondition("ALREADY_DECIDED")
        approval.check_seen(self.digest)
        if approval.revision != self.revision or not approval.waits_for(self.person):
            voted = any(one.approver == self.person and one.vote for one in approval.decisions)
            raise FailedPrecondition("ALREADY_DECIDED") if voted else PermissionDenied("NOT_AN_APPROVER")


async def lines(person: str, told: dict[str, Any], call: Call) -> str:
    """What a mail to an approver says beside its words; nothing where the person decides nothing."""
    settings = call.running.settings
    target = str(told.get("target", ""))
    if not settings.public_url or told.get("kind") != "approval" or not target.startswith("approvals/"):
        return ""
    approval = await call.named(Approval, target)
    if approval is None or approval.state != "PENDING" or not approval.waits_for(person):
        return ""
    until = call.now + KEPT
    said = [approval.name, person, approval.digest, approval.current, approval.revision, until.isoformat()]
    token = seal(json.dumps(said), PURPOSE, settings.secret)
    day = until.strftime("%Y-%m-%d")
    return (
        f"\n\n审批链接（{day} 前一次有效）/ Decide by this link, once, before {day}:\n"
        f"{settings.public_url.rstrip('/')}/decide/{token}"
    )


def opened(token: str, call: Call) -> Link:
    """What a link says. LINK_EXPIRED for what is bent or over."""
    try:
        approval, person, digest, step, revision, until = json.loads(
            unseal(token, PURPOSE, call.running.settings.secret)
        )
    except ValueError:
        raise FailedPrecondition("LINK_EXPIRED") from None
    link = Link(approval, person, digest, step, revision, datetime.fromisoformat(until))
    if link.expire_time <= call.now or call.running.directory.explained(link.person) is None:
        raise FailedPrecondition("LINK_EXPIRED")
    return link


async def load(link: Link, call: Call, lock: bool = False) -> Approval:
    """The approval of a link."""
    approval = await call.named(Approval, link.approval, lock=lock)
    if approval is None:
        raise FailedPrecondition("LINK_EXPIRED")
    return approval


def shown(link: Link, approval: Approval, call: Call) -> pb.ReadDecisionLinkResponse:
    """What whoever opens it is told."""

    def called(name: str) -> str:
        entry = call.entry(name)
        return str(entry.get("displayName", ""))

    changes = pb.Approval(changes=approval.changes).changes
    if (reader := call.running.directory.explained(link.person)) is not None:
        withholding.withhold_changes(changes, approval.target, reader)
    return pb.ReadDecisionLinkResponse(
        display_name=approval.display_name, requester=called(approval.requester), approver=called(link.person),
        changes=changes, state=cast("Any", approval.state),
        expire_time=to_timestamp(link.expire_time.astimezone(UTC)),
    )  # fmt: skip
