"""Claiming out of a pool, and what a member may still do there (SEA-9 … SEA-12)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, NotFound, ResourceExhausted
from crmkit.resource import parse_name
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from customer import ownership
from customer.model.account import Account
from customer.model.pool import Pool, PoolClaim, PoolItem, PoolView
from customer.model.pool_rule import DEFAULT_VIEWS, PoolRule
from customer.sea.states import ZONE

IDLE_RETURNS = 3
IDLE_WITHIN = timedelta(days=30)
SUSPENDED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class _Days:
    """The claimant's local day and month."""

    today: datetime
    month: datetime


async def claim(name: str, call: Call) -> Account:
    """The account, now the caller's. Of all who press at once one gets it; the others hear ALREADY_CLAIMED."""
    me = call.caller.employee
    if not me:
        raise NotFound()
    key = parse_name(name, "accounts")
    found = await call.find(Account, Account.id == key)
    if found is None:
        raise NotFound()
    pool = await _pool(found.pool or await _last_pool(found, call), call)
    if pool is None or not (pool.has_member(call.caller) or pool.managed_by(call.caller)):
        raise NotFound()
    if found.state != "POOLED":
        raise FailedPrecondition("ALREADY_CLAIMED")
    if not pool.has_member(call.caller):
        raise FailedPrecondition("NOT_POOL_MEMBER")
    # Whoever is slower waits for an answer instead of hearing that it collides.
    patience = f"{5 * call.running.settings.patience:.0f}s"
    await (await driver(call.db)).execute("SELECT set_config('lock_timeout', $1, true)", patience)
    # Claims of one person go one after another, so that quotas hold; those of different people do not wait.
    await call.one_at_a_time([f"claims:{me}"])
    async with call.everybody():
        present = await call.db.scalar(select(Account.state).where(Account.id == key))
    if present != "POOLED":
        raise FailedPrecondition("ALREADY_CLAIMED")
    rule = await rule_of(pool, call)
    await _check(found, rule, me, call)
    call.db.expunge(found)
    # Waits for whoever was faster, and then finds nothing.
    account = await call.find(
        Account, Account.id == key, Account.state == "POOLED", Account.owner == "", lock=True
    )
    if account is None:
        raise FailedPrecondition("ALREADY_CLAIMED")
    change = ownership.Change("CLAIM", pool=pool.name, rule=rule.name if rule else "")
    await ownership.give(account, me, change, call)
    return account


async def quota(pool: Pool, call: Call) -> dict[str, Any]:
    """What the caller may still do in the pool."""
    me, rule = call.caller.employee, await rule_of(pool, call)
    claims = rule.claim if rule else None
    days = _days(me, call)
    room = await ownership.capacity_left(me, call)
    until = await suspended_until(me, call)
    answer: dict[str, Any] = {
        "pool": pool.name,
        "member": pool.has_member(call.caller),
        "claims_today": _left(claims.per_day if claims else 0, await _claims(me, days.today, call)),
        "claims_this_month": _left(claims.per_month if claims else 0, await _claims(me, days.month, call)),
        "views_today": _left(_views_allowed(rule), await _views(me, days, pool, call)),
        "capacity": -1 if room is None else max(0, room[0]),
    }
    return answer | ({"suspended_until": until} if until else {})


async def open_item(item: PoolItem, pool: Pool, call: Call) -> pb.Account:
    """The account without what the pool hides; counted once per person, account and day."""
    account = await call.named(Account, item.account)
    if account is None:
        raise NotFound()
    me, rule = call.caller.employee, await rule_of(pool, call)
    days = _days(me, call)
    await call.one_at_a_time([f"views:{me}"])
    day = days.today.isoformat()
    known = await call.db.scalar(
        select(PoolView.day).where(
            PoolView.employee == me, PoolView.day == day, PoolView.account == account.name
        )
    )
    if known is None and not pool.managed_by(call.caller):
        if await _views(me, days, pool, call) >= _views_allowed(rule):
            raise ResourceExhausted("POOL_VIEW_QUOTA", limit=_views_allowed(rule))
        view = insert(PoolView).values(employee=me, day=day, account=account.name, pool=pool.name)
        await call.db.execute(view.on_conflict_do_nothing())
    return masked(account, pool, call)


def masked(account: Account, pool: Pool, call: Call) -> pb.Account:
    """The account's message without what the pool hides from everybody but its managers."""
    message: pb.Account = call.message_of(account)
    if pool.managed_by(call.caller):
        return message
    hidden = {
        "displayName": ("display_name", "aliases", "family_name", "given_name"), "legalName": ("legal_name", "tax_id"),
        "phone": ("phones",), "email": ("emails",), "website": ("website",), "address": ("addresses",),
        "industry": ("industry",), "level": ("level",), "source": ("source",),
    }  # fmt: skip
    for name in pool.hidden_fields:
        for field in hidden.get(name, ()):
            message.ClearField(field)
        if name == "displayName":
            message.display_name = account.number
    # Free text may repeat whatever is hidden.
    if pool.hidden_fields:
        for field in ("background", "needs", "preferences", "custom"):
            message.ClearField(field)
    return message


async def rule_of(pool: Pool, call: Call) -> PoolRule | None:
    """The version in force."""
    return await call.find(PoolRule, PoolRule.pool == pool.name, PoolRule.state == "ACTIVE")


async def suspended_until(employee: str, call: Call) -> datetime | None:
    """Until when the person may not claim: seven days after the third idle return within thirty."""
    idle = select(PoolClaim.time).where(
        PoolClaim.kind == "IDLE", getattr(PoolClaim, "from") == employee,
        PoolClaim.time > call.now - IDLE_WITHIN - SUSPENDED_FOR,
    )  # fmt: skip
    async with call.everybody():
        times = list(await call.db.scalars(idle.order_by(PoolClaim.time)))
    ends = [
        time + SUSPENDED_FOR
        for n, time in enumerate(times)
        if n + 1 >= IDLE_RETURNS and time - times[n + 1 - IDLE_RETURNS] <= IDLE_WITHIN
    ]
    return max((end for end in ends if end > call.now), default=None)


async def _check(account: Account, rule: PoolRule | None, me: str, call: Call) -> None:
    """In the order of the page: suspended, previous owner, newcomer, quotas; capacity is checked by `give`."""
    if until := await suspended_until(me, call):
        raise FailedPrecondition("CLAIM_SUSPENDED", until=_local(until))
    claims = rule.claim if rule else None
    if claims is None:
        return
    since = account.owner_time or account.create_time
    if claims.previous_owner_days:
        wait = since + timedelta(days=claims.previous_owner_days)
        if wait > call.now and await _former(account, call) == me:
            raise FailedPrecondition("CLAIM_TOO_SOON", until=_local(wait))
    if claims.newcomer_hours and (wait := since + timedelta(hours=claims.newcomer_hours)) > call.now:
        raise FailedPrecondition("CLAIM_TOO_SOON", until=_local(wait))
    days = _days(me, call)
    for limit, start in ((claims.per_day, days.today), (claims.per_month, days.month)):
        if limit and await _claims(me, start, call) >= limit:
            raise ResourceExhausted("CLAIM_QUOTA_EXCEEDED", limit=limit)


async def _former(account: Account, call: Call) -> str:
    """Whose it was before it came into the sea."""
    former = getattr(PoolClaim, "from")
    statement = select(former).where(PoolClaim.account == account.name, former != "")
    async with call.everybody():
        return await call.db.scalar(statement.order_by(PoolClaim.time.desc()).limit(1)) or ""


async def _last_pool(account: Account, call: Call) -> str:
    """The pool that it was claimed out of, for those who come too late."""
    statement = select(PoolClaim.pool).where(PoolClaim.account == account.name, PoolClaim.kind == "CLAIM")
    async with call.everybody():
        return await call.db.scalar(statement.order_by(PoolClaim.time.desc()).limit(1)) or ""


async def _pool(name: str, call: Call) -> Pool | None:
    return await call.named(Pool, name)


async def _claims(employee: str, since: datetime, call: Call) -> int:
    statement = select(func.count()).where(
        PoolClaim.employee == employee, PoolClaim.kind == "CLAIM", PoolClaim.time >= since
    )
    async with call.everybody():
        return await call.db.scalar(statement) or 0


async def _views(employee: str, days: _Days, pool: Pool, call: Call) -> int:
    statement = select(func.count()).where(
        PoolView.employee == employee, PoolView.day == days.today.isoformat(), PoolView.pool == pool.name
    )
    return await call.db.scalar(statement) or 0


def _views_allowed(rule: PoolRule | None) -> int:
    return (rule.view_per_day if rule else 0) or DEFAULT_VIEWS


def _left(limit: int, used: int) -> int:
    return max(0, limit - used) if limit else -1


def _days(employee: str, call: Call) -> _Days:
    """The beginnings of the day and the month where the person works."""
    person = call.entry(employee)
    place = call.entry(person.get("department") or "")
    local = call.now.astimezone(ZoneInfo(place.get("timeZone") or ZONE))
    today = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return _Days(today, today.replace(day=1))


def _local(moment: datetime) -> str:
    return moment.astimezone(ZoneInfo(ZONE)).strftime("%Y-%m-%d %H:%M")
