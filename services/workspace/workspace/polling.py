"""Servers of others that are asked again and again: each alone, and less often the longer one does not answer."""

from datetime import timedelta
from uuid import UUID

from crmkit import runs
from crmkit.call import Call
from crmkit.errors import Problem
from crmkit.runs import Run
from crmkit.tables import BulkRun
from sqlalchemy import exists, select

from workspace.model.polled import Polled
from workspace.telling import notify

LONGEST_PAUSE = timedelta(hours=1)
PATIENCE = timedelta(hours=24)
# Should the process die, it is due again once the run's lease is over for sure.
LEASE = timedelta(minutes=5)
WORDS = {
    "MAIL_AUTH_FAILED": ("用户名或密码（授权码）被拒绝", "the user name or password is refused"),
    "MAIL_UNREACHABLE": ("服务器无法连接", "the server cannot be reached"),
    "MAIL_FOLDER_UNKNOWN": ("文件夹不存在", "a folder is missing"),
    "HOST_NOT_ALLOWED": ("不允许连接该服务器", "the server is not allowed"),
    "EMPLOYEE_INACTIVE": ("所有者已停用", "its owner does not work here"),
    "CALENDAR_AUTH_FAILED": ("用户名或密码（授权码）被拒绝", "the user name or password is refused"),
    "CALENDAR_UNREACHABLE": ("服务器无法连接", "the server cannot be reached"),
    "CALENDAR_MISSING": ("该地址没有日历", "there is no calendar at the address"),
}


async def start_due(model: type[Polled], kind: str, call: Call) -> None:
    """Begins with those whose time has come."""
    due = select(model).where(model.state == "ACTIVE", model.next_time <= call.now)
    for row in list(
        await call.db.scalars(due.with_for_update(skip_locked=True).order_by(model.next_time).limit(200))
    ):
        under_way = exists().where(
            BulkRun.about == row.name, BulkRun.kind == kind, BulkRun.state.in_(["QUEUED", "RUNNING"])
        )
        if await call.db.scalar(select(under_way)):
            continue
        row.next_time = call.now + LEASE
        await runs.start(call, kind, row.name, {}, requester="system/workspace")


async def not_read(run: Run, model: type[Polled], problem: Problem, pause: timedelta, title: str) -> None:
    """A server that does not answer is asked later; a password that is refused is not tried again. Ends the run."""
    async with run.chunk() as call:
        row = await locked(run, model, call)
        if row is not None:
            detail = (
                f"{problem.reason}: {problem.metadata.get('detail') or problem.metadata.get('folder', '')}"
            )
            row.failures += 1
            begun = row.failing_since = row.failing_since or call.now
            if problem.reason.endswith("_UNREACHABLE") and call.now - begun < PATIENCE:
                row.problem = detail[:500]
                row.next_time = call.now + min(pause * 2 ** min(row.failures - 1, 10), LONGEST_PAUSE)
            else:
                await fail(row, problem.reason, detail, title, call)
        run.next_phase("ENDED")


async def fail(row: Polled, reason: str, detail: str, title: str, call: Call) -> None:
    """It cannot be used, and its owner is told."""
    if row.state != "ACTIVE":
        return
    row.state, row.problem = "FAILING", (detail or reason)[:500]
    row.failing_since = row.failing_since or call.now
    zh, en = WORDS[reason]
    await notify(
        call, [row.owner], row.told_as, f"{row.name}:failing:{call.now.isoformat()}", row.name,
        f"{title} 无法同步：{zh}", f"{title} does not work: {en}", row.problem,
    )  # fmt: skip


async def give_up(run: Run, model: type[Polled], pause: timedelta, call: Call) -> None:
    """What keeps it from being read for a reason of our own is tried again later."""
    row = await locked(run, model, call)
    if row is not None:
        row.failures += 1
        row.next_time = call.now + min(pause * 2 ** min(row.failures, 10), LONGEST_PAUSE)


async def locked(run: Run, model: type[Polled], call: Call) -> Polled | None:
    """The row that a run is about."""
    return await call.find(model, model.id == UUID(run.about.partition("/")[2]), lock=True)
