"""Customers that are there twice: found by their keys alone, and decided many at once (COL-9)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crmkit import listing, runs
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import InvalidArgument, PermissionDenied, Problem, Validation, required
from crmkit.notices import raise_notice
from crmkit.runs import Kind, Run
from crmkit.schedule import cron
from crmkit.scope import predicate
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from customer import collision, disputes
from customer.matching import Level
from customer.model.account import Account
from customer.model.duplicate_case import DuplicateCase, ScanMark
from customer.normalising import public_domains

AT_ONCE = 200
MOST = 5_000
CHUNK = 200
_SCAN, _DECIDE = "ScanDuplicates", "DecideDuplicateCases"
_DECIDES = "customer.duplicateCases.decide"
# Customers with a key that is new and one that somebody else has; all others cost nothing more.
SHARING = (
    "SELECT DISTINCT mine.account FROM match_keys mine WHERE mine.time > $1 AND mine.time <= $2 AND mine.account > $3"
    " AND EXISTS (SELECT 1 FROM match_keys all_mine JOIN match_keys other ON other.kind = all_mine.kind"
    " AND other.value = all_mine.value AND other.account <> all_mine.account WHERE all_mine.account = mine.account)"
    f" ORDER BY mine.account LIMIT {CHUNK}"
)


@cron("30 2 * * *", collapse=True)
async def scan(as_of: datetime, call: Call) -> None:
    """Compares what changed since the last scan with all the rest, in the background: one case a pair."""
    mark = await call.db.get(ScanMark, "keys")
    # What was written before the last scan may have been committed after it.
    since = mark.time - disputes.OVERLAP if mark else datetime(2000, 1, 1, tzinfo=UTC)
    spec = {"since": since.isoformat(), "until": call.now.isoformat()}
    await runs.start(call, _SCAN, "duplicateCases/-", spec, f"system/{call.running.app.name}")


async def decide_many(request: pb.BatchDecideDuplicateCasesRequest, call: Call) -> dict[str, Any]:
    """Those named at once, all or none; those of a filter in the background, and who decided hears how it ended."""
    if not request.names and not request.filter:
        raise Validation(required("names"))
    if request.names:
        names = sorted(set(request.names))
        if len(names) > AT_ONCE:
            raise InvalidArgument("MALFORMED", detail=f"names > {AT_ONCE}")
        cases = {name: await call.load(DuplicateCase, name) for name in names}
        for case in cases.values():
            await disputes.decide(case, request, call)
        return {"duplicate_cases": [cases[name] for name in request.names]}
    wanted = listing.where(DuplicateCase, request.filter, call.caller, call.now)
    found = select(DuplicateCase.id).where(
        wanted, predicate(DuplicateCase, call.caller), DuplicateCase.state == "OPEN"
    )
    oldest = found.order_by(DuplicateCase.create_time, DuplicateCase.id).limit(MOST)
    names = [f"duplicateCases/{key}" for key in await call.db.scalars(oldest)]
    verdict = pb.DuplicateCase.Verdict.Name(request.verdict)
    spec = {"names": names, "verdict": verdict, "answer": request.answer}
    await runs.start(call, _DECIDE, "duplicateCases/-", spec)
    return {"queued": len(names)}


async def _scan(run: Run) -> None:
    """Goes through the customers in the order of their ids; what a scan before it found stays one case."""
    since, until = (datetime.fromisoformat(run.spec[key]) for key in ("since", "until"))
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = UUID(run.tally.get("last", str(UUID(int=0))))
            found = await (await driver(call.db)).fetch(SHARING, since, until, last)
            for row in found:
                await _look(row["account"], call)
            if found:
                run.tally["last"] = str(found[-1]["account"])
                run.position += len(found)
                continue
            statement = insert(ScanMark).values(name="keys", time=until)
            await call.db.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"time": until})
            )
            run.next_phase("ENDED")


async def _look(key: UUID, call: Call) -> None:
    account = await call.find(Account, Account.id == key)
    if account is None or account.state in ("MERGED", "ARCHIVED"):
        return
    identity = account.identity(public_domains(call.config))
    for hit in await collision.find_hits(account, identity, call):
        if hit.match.level in (Level.CERTAIN, Level.STRONG, Level.BRANCH_OF):
            await collision.open_pair(account, hit, "SCAN", call)
            await call.flush()


async def _decide(run: Run) -> None:
    """Decides case by case; what has changed meanwhile stays as it is and is counted."""
    names: list[str] = run.spec["names"]
    verdict: str = run.spec["verdict"]
    while run.phase != "ENDED":
        async with run.chunk() as call:
            if not call.caller.may(_DECIDES):
                raise PermissionDenied("PERMISSION_DENIED", permission=_DECIDES)
            for name in names[run.position : run.position + CHUNK]:
                request = pb.DecideDuplicateCaseRequest(name=name, verdict=verdict, answer=run.spec["answer"])
                try:
                    async with call.db.begin_nested():
                        await disputes.decide(await call.load(DuplicateCase, request), request, call)
                        await call.flush()
                    run.count(decided=1)
                except Problem:
                    run.count(left=1)
            run.position += CHUNK
            if run.position >= len(names):
                _told(run, call)
                run.next_phase("ENDED")


async def _stopped(run: Run, problem: Problem, call: Call) -> None:
    """The cases behind the last chunk stay open; the next night scans anew."""
    if run.kind == _DECIDE:
        _told(run, call)


def _told(run: Run, call: Call) -> None:
    done = int(run.tally.get("decided", 0))
    left = len(run.spec["names"]) - done
    zh = f"批量裁决完成：{done} 件已裁决，{left} 件保持原状。"
    en = f"{done} cases are decided, {left} stay as they are."
    raise_notice("casesDecided", zh, en, call, key=f"casesDecided:{run.id}", employees=[run.requester])


RUNS = {_SCAN: Kind(_scan, _stopped), _DECIDE: Kind(_decide, _stopped)}
