"""Whose customer is this, since when, and why: the one function in which every change of an owner ends.

Claim, assign, release, recycling, handover, territory, verdict and merge all come here. It moves the contacts in the
same transaction, writes the only history, tells the fact and starts the clocks anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import listing
from crmkit.auth import Caller, Scope
from crmkit.call import Call
from crmkit.company import employed, today, upward
from crmkit.errors import FailedPrecondition
from crmkit.mapping import to_date
from sqlalchemy import func, inspect, select

from customer.model.account import Account
from customer.model.contact import Contact
from customer.model.pool import Pool, PoolClaim, PoolItem
from customer.model.pool_rule import PoolRule
from customer.model.transfer import Transfer
from customer.sea.states import begin_state, watch

POOLED_BY = {"CREATE", "RELEASE", "RECYCLE", "IDLE", "POOL", "TRANSFER"}


@dataclass(frozen=True)
class Change:
    """How an owner changes and what it rests on."""

    how: str
    pool: str = ""
    rule: str = ""
    clause: str = ""
    cause: str = ""
    reason: str = ""
    evidence: str = ""
    open_business: str = ""
    actor: str = ""


def check_active(employee: str, call: Call) -> dict[str, Any]:
    """The entry of an employee who works; EMPLOYEE_INACTIVE for anybody else."""
    if not employed(employee, call):
        raise FailedPrecondition("EMPLOYEE_INACTIVE")
    return call.entry(employee)


async def begin_ownership(account: Account, call: Call) -> None:
    """A new account has its first owner, or waits in a pool; the account itself is that line of the history."""
    account.owner_time, account.owner_how = call.now, "CREATE"
    if account.pool:
        await call.number(account)
        await _put_into(account, Change("CREATE", pool=account.pool), call)
        watch(account, call)
    else:
        await begin_state(account, call)


async def history(account: Account, call: Call) -> list[PoolClaim]:
    """Every owner of the account, the latest first; the last line is how it was made."""
    async with call.everybody():
        statement = select(PoolClaim).where(PoolClaim.account == account.name)
        lines = list(await call.db.scalars(statement.order_by(PoolClaim.time.desc(), PoolClaim.id.desc())))
    first = PoolClaim(
        id=account.id, account=account.name, kind="CREATE", time=account.create_time, actor=account.creator,
        employee=getattr(lines[-1], "from") if lines else account.owner,
        pool=lines[-1].pool if lines and lines[-1].kind in ("CLAIM", "POOL") else "" if lines else account.pool,
    )  # fmt: skip
    return [*lines, first]


async def give(account: Account, to: str, change: Change, call: Call, *, before: str | None = None) -> None:
    """Makes an employee the owner. `before` is the owner before where the row has the new one already."""
    if change.how != "MERGE":
        account.check_settled()
    entry = check_active(to, call)
    department = entry.get("department") or account.department
    await check_capacity(to, call, besides=account)
    former = await _move(account, to, department, change, call, before)
    call.emit(
        events.AccountOwnerChanged,
        account=account,
        **{
            "from": former, "to": to, "how": change.how, "time": call.now, "cause": change.cause,
            "reason": change.reason,
        },
    )  # fmt: skip


async def put_into_pool(
    account: Account, pool: Pool, change: Change, call: Call, *, keep_read: bool = False
) -> None:
    """Clears the owner: the customer waits in the pool for the next one."""
    account.check_settled()
    pool.check_open()
    if account.department:
        pool.check_segment(account.department, call)
    change = replace(change, pool=pool.name)
    department = account.department
    if keep_read:
        kept = [*account.collaborators]
        account.collaborations = [
            *(c for c in account.collaborations if c.employee not in kept),
            *(pb.Account.Collaboration(employee=e, access="READ", cause=pool.name) for e in kept),
        ]
    else:
        account.collaborators, account.collaborations = [], []
    former = await _move(account, "", "", change, call, None)
    call.emit(
        events.AccountReturnedToPool,
        account=account,
        **{
            "from": former, "how": change.how, "pool": pool.name, "rule": change.rule,
            "clause": change.clause, "evidence": change.evidence, "open_business": change.open_business,
            "time": call.now, "from_department": department,
        },
    )  # fmt: skip


async def hand_over(account: Account, to: str, pool: str, cause: str, call: Call) -> None:
    """Goes to another owner, or into a pool, by a handover; whoever had it may read it for a while."""
    transfer = await call.db.get(Transfer, UUID(cause.partition("/")[2]))
    assert transfer is not None
    former = account.owner
    change = Change(
        "TRANSFER", cause=cause, reason=transfer.number, actor=transfer.actor, open_business="KEEP"
    )
    if not to:
        target = await call.named(Pool, pool)
        if target is None:
            raise FailedPrecondition("POOL_NOT_ALLOWED")
        await put_into_pool(account, target, change, call)
        return
    await give(account, to, change, call)
    if former and (until := transfer.reads_until(today(call))) is not None:
        await share(account, former, "READ", until, cause, call)


async def thaw(account: Account, call: Call) -> None:
    """The customer has somebody again: whoever stood in meanwhile does no more."""
    account.state = "ACTIVE"
    for one in list(account.collaborations):
        if one.cause.startswith("transfers/") and one.access == "WORK":
            await unshare(account, one.employee, call)


async def check_capacity(employee: str, call: Call, *, besides: Account | None = None, more: int = 1) -> None:
    """CAPACITY_EXCEEDED where the person would own more than the rules of all pools let them."""
    if (room := await capacity_left(employee, call, besides=besides)) is not None and room[0] < more:
        raise FailedPrecondition("CAPACITY_EXCEEDED", limit=room[1])


async def capacity_left(
    employee: str, call: Call, *, besides: Account | None = None
) -> tuple[int, int] | None:
    """How many more accounts the person may own and the limit behind that; None without one."""
    rule = await call.find(PoolRule, PoolRule.pool == "", PoolRule.state == "ACTIVE")
    if rule is None:
        return None
    entry = call.entry(employee)
    scopes = {"*", employee, *(f"roles/{role}" for role in entry.get("roles", ())), *_above(entry, call)}
    tightest: tuple[int, int] | None = None
    for one in rule.capacity:
        if one.scope not in scopes:
            continue
        # Counted as the service sees it, so that nobody's scope hides what fills the measure.
        everybody = Caller(actor=call.caller.actor, scope=Scope.ALL, permissions=frozenset("*"))
        condition = listing.where(Account, one.count_when, everybody, call.now)
        statement = select(func.count()).select_from(Account).where(Account.owner == employee, condition)
        statement = statement.where(Account.state.in_(["ACTIVE", "FROZEN"]))
        if besides is not None:
            statement = statement.where(Account.id != besides.id)
        async with call.everybody():
            count = await call.db.scalar(statement) or 0
        left = one.limit - count
        if tightest is None or left < tightest[0]:
            tightest = (left, one.limit)
    return tightest


async def share(account: Account, employee: str, access: str, until: Any, cause: str, call: Call) -> None:
    """Lets somebody read or work on the account and use its contacts, until a day or without end."""
    rest = [c for c in account.collaborations if c.employee != employee]
    one = pb.Account.Collaboration(employee=employee, access=access, cause=cause)
    if until:
        one.until_date.CopyFrom(to_date(until))
    account.collaborations = [*rest, one]
    if employee not in account.collaborators:
        account.collaborators = [*account.collaborators, employee]
    await contacts_follow(account, call)


async def unshare(account: Account, employee: str, call: Call) -> None:
    """Ends that."""
    account.collaborations = [c for c in account.collaborations if c.employee != employee]
    account.collaborators = [one for one in account.collaborators if one != employee]
    await contacts_follow(account, call)


async def contacts_follow(account: Account, call: Call) -> None:
    """Who works together on an account sees its contacts, and ceases to with the account."""
    history = inspect(account).attrs.collaborators.history
    if not history.has_changes():
        return
    before = set(history.deleted[0] if history.deleted else ())
    now = list(account.collaborators)
    for contact in await contacts_of(account, call):
        own = [one for one in contact.collaborators if one not in before]
        if (wanted := list(dict.fromkeys([*own, *now]))) != contact.collaborators:
            contact.collaborators = wanted


async def contacts_of(account: Account, call: Call) -> Sequence[Contact]:
    """The account's contacts, locked, whoever may see them."""
    async with call.everybody():
        mine = select(Contact).where(Contact.account == account.name, Contact.state.in_(["ACTIVE", "LEFT"]))
        return (await call.db.scalars(mine.order_by(Contact.id).with_for_update())).all()


def works_on(account: Account, employee: str) -> bool:
    """Whether the person may do more than read."""
    if employee == account.owner:
        return True
    limited = next((c for c in account.collaborations if c.employee == employee), None)
    return employee in account.collaborators and (limited is None or limited.access == "WORK")


def may_change(account: Account, call: Call) -> bool:
    """False for those who see the account as collaborators that only read."""
    me, reach = call.caller, call.caller.reach("accounts", "update")
    if reach.everything or account.department in reach.departments or account.owner == me.employee:
        return True
    limited = next((c for c in account.collaborations if c.employee == me.employee), None)
    return limited is None or limited.access == "WORK"


async def _move(
    account: Account, to: str, department: str, change: Change, call: Call, before: str | None
) -> str:
    """Moves the account with its contacts and writes the history; gives the owner before."""
    former, from_department = account.owner if before is None else before, account.department
    left = account.pool
    account.owner, account.department = to, department
    account.owner_time, account.owner_how = call.now, change.how
    account.owner_from = left
    account.pool = "" if to else change.pool
    if account.state == "FROZEN":
        await thaw(account, call)
    account.state = "ACTIVE" if to else "POOLED"
    if to:
        await unshare(account, to, call)
    else:
        await contacts_follow(account, call)
    if left:
        async with call.everybody():
            for item in await call.db.scalars(select(PoolItem).where(PoolItem.account == account.name)):
                await call.db.delete(item)
    for contact in await contacts_of(account, call):
        contact.owner, contact.department = to, department
    await _record(account, former, from_department, replace(change, pool=change.pool or left), call)
    if not to:
        # Out of the one pool before it comes into the other: an account is in one at a time.
        await call.flush()
        await _put_into(account, change, call)
    watch(account, call)
    return former


async def _put_into(account: Account, change: Change, call: Call) -> None:
    pool = await call.named(Pool, change.pool)
    if pool is None:
        raise FailedPrecondition("POOL_NOT_ALLOWED")
    pool.check_open()
    item = PoolItem(account=account.name, pool=pool.name, pooled_time=call.now, how=change.how)
    item.show(account, pool)
    await call.add(item)


async def show_in_pool(account: Account, call: Call) -> None:
    """Brings what members see of a waiting customer up to date."""
    pool = await call.named(Pool, account.pool)
    item = await call.find(PoolItem, PoolItem.account == account.name, lock=True)
    if pool is not None and item is not None:
        item.show(account, pool)


async def _record(account: Account, former: str, department: str, change: Change, call: Call) -> None:
    line = PoolClaim(
        account=account.name, kind=change.how, employee=account.owner, pool=change.pool, rule=change.rule,
        clause=change.clause, time=call.now, reason=change.reason, evidence=change.evidence, cause=change.cause,
        actor=change.actor or call.caller.actor, from_department=department, owner=account.owner or former,
        department=account.department or department,
    )  # fmt: skip
    setattr(line, "from", former)
    line.collaborators = sorted({former, call.caller.employee} - {"", line.owner})
    await call.add(line)


def _above(entry: dict[str, Any], call: Call) -> set[str]:
    """The person's department and all above it."""
    return {name for name, _ in upward(entry.get("department") or "", call)}
