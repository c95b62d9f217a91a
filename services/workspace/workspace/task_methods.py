"""The methods of tasks and notes."""

from typing import Any

from crm.workspace.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard

from workspace.model.task import Task, my_day
from workspace.model.work import Note


class TaskMethods:
    """What people are to do, and what they write down for themselves."""

    tasks = Standard(Task)
    notes = Standard(Note)

    async def AssignTask(self, request: pb.AssignTaskRequest, call: Call) -> Task:
        task = await call.load(Task, request)
        await call.check_references(request, "", ["owner"])
        await task.assign(request.owner, call)
        return task

    async def ReadMyDay(self, request: pb.ReadMyDayRequest, call: Call) -> dict[str, Any]:
        today, overdue, due, coming = await my_day(call.caller.employee, call)
        return {"today": today.isoformat(), "overdue": overdue, "due_today": due, "coming": coming}

    async def ShareNote(self, request: pb.ShareRequest, call: Call) -> Note:
        note = await call.load(Note, request)
        await call.check_references(request, "", ["employees"])
        await note.share(request.employees, call)
        return note

    async def MakeTaskOfNote(self, request: Any, call: Call) -> Task:
        note = await call.load(Note, request)
        return await note.task(call)
