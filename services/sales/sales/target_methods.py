"""What concerns more than one target: its parts, its facts, how it stands."""

from typing import Any

from crm.sales.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.mapping import read_date
from crmkit.standard import Standard

from sales.model.sales_task import SalesTask
from sales.model.target import Target, TargetFact, serving


class TargetMethods:
    """Targets, what was achieved, and the tasks that serve them."""

    sales_tasks = Standard(SalesTask)

    targets = Standard(Target)
    target_facts = Standard(TargetFact)

    async def DistributeTarget(self, request: pb.DistributeTargetRequest, call: Call) -> dict[str, Any]:
        target = await call.load(Target, request)
        period = pb.Target.Period.Name(request.period) if request.period else ""
        method = pb.DistributeTargetRequest.Method.Name(request.method)
        parts = await target.distribute(period, list(request.subjects), method, list(request.weights), call)
        return {"targets": parts}

    async def CheckTarget(self, request: pb.CheckTargetRequest, call: Call) -> pb.Target.Standing:
        target = await call.load(Target, request.name, lock=False)
        return await target.standing(read_date(request.day) or today(call), call)

    async def ListAchievements(self, request: pb.ListAchievementsRequest, call: Call) -> dict[str, Any]:
        target = await call.load(Target, request.name, lock=False)
        page = await call.page(TargetFact, request, *target.measured_by(call))
        return {"target_facts": page.rows, "next_page_token": page.next_page_token}

    async def AcceptSalesTask(self, request: Any, call: Call) -> SalesTask:
        """What a review of a target has asked for is done with its task."""
        task = await call.load(SalesTask, request)
        task.accept(call)
        if task.about.startswith("targets/"):
            about = await call.named(Target, task.about)
            async with call.everybody():
                for target in await call.db.scalars(serving(about)) if about else ():
                    target.task_done(task.name)
                await call.flush()
        return task

    async def ReturnSalesTask(self, request: pb.SalesTaskReasonRequest, call: Call) -> SalesTask:
        task = await call.load(SalesTask, request)
        task.give_back(request.reason, call)
        return task
