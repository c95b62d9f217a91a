"""Rules of use propose customers for the public sea; managers of the pool decide, nothing returns by itself."""

from collections.abc import Sequence

from crm.workspace.v1 import events_pb2 as workspace
from crmkit.call import Call
from crmkit.errors import FailedPrecondition, check_reason
from crmkit.notices import raise_notice
from sqlalchemy import select

from customer.model.account import Account
from customer.model.figure import Figure
from customer.model.pool import Pool
from customer.model.recycle import RecycleProposal
from customer.ownership import Change, put_into_pool

KEPT = ("ACTIVE", "FROZEN")


async def on_usage_recycle_proposed(event: workspace.UsageRecycleProposed, call: Call) -> None:
    """One proposal for each customer that the finding speaks of and that is still the person's; its pool's managers hear."""
    finding = event.usage_finding
    for name in await _accounts([one.record for one in finding.evidence], call):
        account = await call.named(Account, name)
        if account is None or account.state not in KEPT or account.owner != finding.owner:
            continue
        pool = await _pool_for(account, call)
        known = RecycleProposal.finding == finding.name, RecycleProposal.account == name
        if pool is None or await call.find(RecycleProposal, *known) is not None:
            continue
        proposal = await call.add(
            RecycleProposal(
                display_name=f"{account.display_name}：{finding.display_name}"[:400], account=name, pool=pool.name,
                employee=account.owner, finding=finding.name, state="OPEN", owner=account.owner,
                department=account.department, collaborators=[one for one in pool.managers if one != account.owner],
            )
        )  # fmt: skip
        zh, en = (
            f"建议回收客户“{account.display_name}”",
            f"{account.display_name} is proposed for the public sea",
        )
        people, subjects = pool.managers, [proposal.name, name]
        raise_notice("sea", zh, en, call, key=f"recycle:{proposal.id}", employees=people, subjects=subjects)


async def accept(proposal: RecycleProposal, call: Call) -> None:
    """The customer goes into the pool; its open deals stay with the owner. Too late where it has changed hands."""
    pool = await _decide(proposal, call)
    account = await call.named(Account, proposal.account, lock=True)
    if account is None or account.owner != proposal.employee or account.state not in KEPT:
        proposal.state = "LAPSED"
        return
    proposal.state = "ACCEPTED"
    change = Change(
        "RECYCLE", cause=proposal.finding, reason=proposal.display_name[:500], open_business="KEEP"
    )
    await put_into_pool(account, pool, change, call)


async def decline(proposal: RecycleProposal, reason: str, call: Call) -> None:
    """The owner keeps the customer."""
    await _decide(proposal, call)
    proposal.state, proposal.reason = "DECLINED", check_reason(reason)


async def _decide(proposal: RecycleProposal, call: Call) -> Pool:
    proposal.check_state("OPEN")
    pool = await call.named(Pool, proposal.pool)
    if pool is None or not pool.managed_by(call.caller):
        raise FailedPrecondition("NOT_POOL_MANAGER")
    proposal.decider, proposal.decide_time = call.caller.employee, call.now
    return pool


async def _accounts(records: Sequence[str], call: Call) -> list[str]:
    """The customers that are named, and those of the deals that are."""
    named = {one for one in records if one.startswith("accounts/")}
    deals = select(Figure.account).where(
        Figure.source.in_([one for one in records if one.startswith("opportunities/")])
    )
    return sorted(named | set(await call.db.scalars(deals)))


async def _pool_for(account: Account, call: Call) -> Pool | None:
    """The pool that takes the owner's customers and has somebody who decides; the oldest of several."""
    open_ = select(Pool).where(Pool.state == "OPEN", Pool.managers != []).order_by(Pool.create_time, Pool.id)
    segment = call.running.directory.organisation.segment(account.department)
    async with call.everybody():
        pools = list(await call.db.scalars(open_))
    fitting = (pool for pool in pools if pool.segment in ("", segment) and pool.takes_from(account, call))
    return next(fitting, None)
