"""The methods of rules of use."""

from datetime import timedelta

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.standard import Standard

from workspace import using
from workspace.judging import judge
from workspace.model.usage import UsageFinding, UsageRule

SIMULATED = timedelta(days=90)
SHOWN = 200


class UsageMethods:
    """How the system is to be used, and how it is."""

    usage_rules = Standard(UsageRule)
    usage_findings = Standard(UsageFinding)

    async def SimulateUsageRule(
        self, request: pb.SimulateUsageRuleRequest, call: Call
    ) -> pb.SimulateUsageRuleResponse:
        rule = await call.load(UsageRule, request.name, lock=False)
        last = today(call) - timedelta(days=1)
        async with call.everybody():
            people = await using.everybody(rule, call)
            found = await judge(rule, people, last - SIMULATED, last, call)
        found.sort(key=lambda one: (one.last, one.employee))
        shown = [
            pb.SimulateUsageRuleResponse.Found(
                employee=one.employee, start_day=one.first.isoformat(), end_day=one.last.isoformat(), evidence=one.evidence
            )
            for one in found[-SHOWN:]
        ]  # fmt: skip
        return pb.SimulateUsageRuleResponse(people=len(people), count=len(found), findings=shown)
