"""Customers that wait in a pool, and a pool that is taken out of use with what is in it."""

from crmkit.call import Call
from crmkit.errors import FailedPrecondition, InvalidArgument, NotFound, Problem
from crmkit.notices import raise_notice
from crmkit.resource import parse_name
from crmkit.runs import Kind, Run, start
from sqlalchemy import func, select

from customer import ownership
from customer.model.account import Account
from customer.model.pool import Pool, PoolItem

AT_ONCE = 200
EMPTY = "EmptyPool"


async def close(pool: Pool, target: str, call: Call) -> None:
    """Takes the pool out of use; what is in it goes to the target, where that is much by a run behind this.

    POOL_NOT_EMPTY where nobody says where to, POOL_CLOSED where that is out of use or this one.
    """
    mine = select(func.count()).select_from(PoolItem).where(PoolItem.pool == pool.name)
    async with call.everybody():
        count = await call.db.scalar(mine) or 0
    if count and not target:
        raise FailedPrecondition("POOL_NOT_EMPTY", count=count)
    pool.state = "CLOSED"
    if count:
        await _move(pool, target, call)
    if count > AT_ONCE:
        await start(
            call,
            EMPTY,
            pool.name,
            {"target": target, "actor": call.caller.actor, "employee": call.caller.employee},
            f"system/{call.running.app.name}",
        )


async def waiting(pool: Pool, names: list[str], wanted: int, call: Call) -> list[Account]:
    """The named accounts of the pool, or those that wait the longest, locked."""
    if len(names) > AT_ONCE:
        raise InvalidArgument("MALFORMED", detail=f"accounts > {AT_ONCE}")
    items = (
        select(PoolItem.account).where(PoolItem.pool == pool.name).order_by(PoolItem.pooled_time, PoolItem.id)
    )
    if names:
        items = items.where(PoolItem.account.in_(names))
    found = await call.db.scalars(items.limit(min(wanted, AT_ONCE + 1)))
    keys = [parse_name(name, "accounts") for name in found]
    if names and len(keys) != len(set(names)):
        raise NotFound()
    async with call.everybody():
        statement = select(Account).where(Account.id.in_(keys), Account.state == "POOLED").with_for_update()
        here = {account.id: account for account in await call.db.scalars(statement)}
    return [here[key] for key in keys if key in here]


async def _move(pool: Pool, target: str, call: Call, actor: str = "") -> int:
    into = await call.load(Pool, target, lock=False)
    into.check_open()
    found = await waiting(pool, [], AT_ONCE, call)
    for account in found:
        await ownership.put_into_pool(account, into, ownership.Change("POOL", actor=actor), call)
    return len(found)


async def _empty(run: Run) -> None:
    while run.phase != "ENDED":
        async with run.chunk() as call:
            pool = await call.named(Pool, run.about)
            if pool is None or not await _move(pool, run.spec["target"], call, run.spec["actor"]):
                run.next_phase("ENDED")
            run.position += 1


async def _left_over(run: Run, problem: Problem, call: Call) -> None:
    """What is left is still shown in the pool: whoever closed it, and its managers, hear of it."""
    pool = await call.named(Pool, run.about)
    if pool is not None:
        zh = f"公海“{pool.display_name}”已关闭，但还有客户未能移出"
        en = f"The pool “{pool.display_name}” is closed, and customers are left in it"
        people = [run.spec["employee"], *pool.managers]
        raise_notice("sea", zh, en, call, key=f"closed:{run.id}", employees=people, subjects=[pool.name])


RUNS = {EMPTY: Kind(_empty, _left_over)}
