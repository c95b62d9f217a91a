"""Methods of approval policies and approvals."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Problem
from crmkit.standard import Standard
from google.protobuf.json_format import MessageToDict

from workspace import decision_links
from workspace.asking import ask
from workspace.hindsight import simulate_history
from workspace.model.approval import Approval, hand_to_delegate
from workspace.model.deciders import employee
from workspace.model.employee import Employee
from workspace.model.offline_decision import check_signature, register
from workspace.model.policy import ApprovalPolicy
from workspace.model.policy import simulate as path_of
from workspace.telling import notify

MOST_AT_ONCE = 100


class ApprovalMethods:
    """What waits for whose decision, and what was decided."""

    approval_policies = Standard(ApprovalPolicy)
    approvals = Standard(Approval)

    async def ApproveApproval(self, request: pb.ApproveApprovalRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        await ask(approval, await approval.approve(request.digest, request.comment, call), call)
        return approval

    async def BatchDecideApprovals(
        self, request: pb.BatchDecideApprovalsRequest, call: Call
    ) -> pb.BatchDecideApprovalsResponse:
        if not 0 < len(request.items) <= MOST_AT_ONCE:
            raise InvalidArgument("MALFORMED", detail=f"items: 1 to {MOST_AT_ONCE}")
        answer = pb.BatchDecideApprovalsResponse()
        for item in request.items:
            try:
                async with call.db.begin_nested():
                    approval = await call.load(Approval, item)
                    await self._decide(approval, item.digest, request, call)
                    await call.flush()
                answer.items.add(name=item.name, state=approval.state)
            except Problem as problem:
                text = problem.text(call.caller.locale, "workspace")
                answer.items.add(name=item.name, reason=problem.reason, text=text)
        return answer

    async def _decide(self, approval: Approval, digest: str, request: Any, call: Call) -> None:
        vote = request.vote if isinstance(request.vote, str) else pb.Approval.Vote.Name(request.vote)
        match vote:
            case "AGREED":
                await ask(approval, await approval.approve(digest, request.reason, call), call)
            case "REFUSED":
                approval.check_seen(digest)
                approval.reject(request.reason, call)
            case "GAVE_BACK":
                approval.check_seen(digest)
                approval.give_back(request.reason, call)
            case _:
                raise InvalidArgument("MALFORMED", detail="vote")

    async def ReadDecisionLink(
        self, request: pb.ReadDecisionLinkRequest, call: Call
    ) -> pb.ReadDecisionLinkResponse:
        link = decision_links.opened(request.token, call)
        async with call.everybody():
            approval = await decision_links.load(link, call)
            link.check(approval)
            return decision_links.shown(link, approval, call)

    async def DecideByLink(self, request: pb.DecideByLinkRequest, call: Call) -> pb.ReadDecisionLinkResponse:
        link = decision_links.opened(request.token, call)
        person = call.running.directory.acting(link.person)
        if person is None or not person.may("workspace.approvals.approve"):
            raise PermissionDenied("PERMISSION_DENIED", permission="workspace.approvals.approve")
        # As the person whom the mail was for, by the rights of now.
        async with call.running.acting(call, person, call.method) as own:
            approval = await decision_links.load(link, own, lock=True)
            link.check(approval)
            await self._decide(approval, link.digest, request, own)
            approval.mark_decision(link.person, by_mail=True)
            await own.flush()
            return decision_links.shown(link, approval, own)

    async def RegisterDecisionKey(
        self, request: pb.RegisterDecisionKeyRequest, call: Call
    ) -> pb.RegisterDecisionKeyResponse:
        return pb.RegisterDecisionKeyResponse(key=await register(request.public_key, request.device, call))

    async def ReplayDecisions(
        self, request: pb.ReplayDecisionsRequest, call: Call
    ) -> pb.ReplayDecisionsResponse:
        if not 0 < len(request.items) <= MOST_AT_ONCE:
            raise InvalidArgument("MALFORMED", detail=f"items: 1 to {MOST_AT_ONCE}")
        answer = pb.ReplayDecisionsResponse()
        for item in request.items:
            try:
                async with call.db.begin_nested():
                    time = await check_signature(item, call)
                    approval = await call.load(Approval, item.name)
                    await self._decide(approval, item.digest, item, call)
                    approval.signed_offline(time, call)
                    await call.flush()
                answer.items.add(name=item.name, counted=True)
            except Problem as problem:
                text = problem.text(call.caller.locale, "workspace")
                answer.items.add(name=item.name, reason=problem.reason, text=text)
                if problem.reason not in ("SIGNATURE_INVALID", "NOT_FOUND", "NOT_AN_APPROVER"):
                    await self._too_late(item, text, call)
        return answer

    async def _too_late(self, item: Any, text: str, call: Call) -> None:
        """A signed decision that counts no more is kept as a comment, and its author is told."""
        approval = await call.load(Approval, item.name)
        await call.db.refresh(approval)
        words = f"{item.time} {item.vote} ({text}) {item.reason}"[:1000]
        approval.remark(words, call)
        await call.flush()
        zh, en = (
            f"离线审批未生效：{approval.display_name}",
            f"Your offline decision came too late: {approval.display_name}",
        )
        key = f"offline:{item.name}:{item.time}"
        await notify(call, [call.caller.employee], "approval", key, approval.name, zh, en, words)

    async def ChooseApprovers(self, request: pb.ChooseApproversRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        approval.choose(list(request.approvers), call)
        await ask(approval, await approval.advance(call), call)
        return approval

    async def ReassignApproval(self, request: pb.ReassignApprovalRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        approval.reassign(await self._decider(request, call), call)
        await ask(approval, [request.approver], call)
        return approval

    async def AddApprovalSigner(self, request: pb.AddApprovalSignerRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        approval.add_signer(await self._decider(request, call), request.before, call)
        await ask(approval, [request.approver], call)
        return approval

    async def _decider(self, request: Any, call: Call) -> Employee:
        await call.check_references(request, "", ["approver"])
        person = await employee(request.approver, call)
        if person is None:
            raise FailedPrecondition("EMPLOYEE_INACTIVE")
        return person

    async def CommentApproval(self, request: pb.CommentApprovalRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        approval.remark(request.text, call)
        return approval

    async def RemindApproval(self, request: Any, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        await ask(approval, approval.remind(call), call, f":{call.now.isoformat()}")
        return approval

    async def SimulateApprovalPolicy(
        self, request: pb.SimulateApprovalPolicyRequest, call: Call
    ) -> pb.SimulateApprovalPolicyResponse:
        policy = await call.load(ApprovalPolicy, request, lock=False)
        await call.check_references(request, "", ["requester"])
        return await path_of(policy, request.requester, MessageToDict(request.record), call)

    async def SimulateApprovalPolicyHistory(
        self, request: pb.SimulateApprovalPolicyHistoryRequest, call: Call
    ) -> pb.SimulateApprovalPolicyHistoryResponse:
        policy = await call.load(ApprovalPolicy, request, lock=False)
        return await simulate_history(policy, request.days, call)

    async def DelegateEmployee(self, request: pb.DelegateEmployeeRequest, call: Call) -> Employee:
        if request.name != call.caller.employee and not call.caller.may("workspace.employees.update"):
            raise PermissionDenied("PERMISSION_DENIED", permission="workspace.employees.update")
        person = await call.load(Employee, request)
        await call.check_references(request, "", ["delegate"] if request.delegate else [])
        await person.delegate(request, call)
        for approval in await hand_to_delegate(person, call):
            await ask(approval, [one.approver for one in approval.open_decisions()], call)
        return person

    async def ReturnApproval(self, request: pb.ReasonRequest, call: Call) -> Approval:
        approval = await call.load(Approval, request)
        approval.give_back(request.reason, call)
        return approval
