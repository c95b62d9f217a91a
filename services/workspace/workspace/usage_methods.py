"""The methods of rules of use."""

from datetime import date, timedelta

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import Validation, Violation
from crmkit.standard import Standard

from workspace import using
from workspace.judging import judge
from workspace.model.usage import UsageFinding, UsageRule
from workspace.usage_board import board

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

    async def GetUsageBoard(self, request: pb.GetUsageBoardRequest, call: Call) -> pb.UsageBoard:
        last = read_day(request.end_day, "end_day") or today(call)
        first = read_day(request.start_day, "start_day") or last - SIMULATED
        return await board(first, last, call)


def read_day(text: str, field: str) -> date | None:
    """A day of a request; None where nothing is said."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        zh, en = "日期格式应为 2026-03-01", "A day is written like 2026-03-01."
        raise Validation(Violation(field, "WRONG_FORMAT", zh, en)) from None
