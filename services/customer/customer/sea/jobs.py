"""Timed work of the sea. Late or twice it does what it would have done in time, once."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, Problem
from crmkit.runs import Kind, Run, start
from crmkit.schedule import cron, every
from crmkit.workdays import is_working_day
from sqlalchemy import select, update

from customer import ownership
from customer.model.account import UNTIL_A_DAY, Account
from customer.model.pool import Pool, PoolClaim, PoolItem
from customer.model.pool_rule import DEFAULT_WARNINGS, PoolRule
from customer.model.sea import WorkingDay
from customer.sea.claims import IDLE_WITHIN, suspended_until
from customer.sea.clauses import IDLE, Compiled, active_rules, bound, compiled, quoted
from customer.sea.states import ZONE, reckon

AT_ONCE = 300
_ZONE = ZoneInfo(ZONE)
RECKON = "ReckonSea"
RECKON_CHUNK = 5_000
_DUE = (
    "SELECT id FROM accounts WHERE sea_due_time <= $1 AND state = 'ACTIVE' ORDER BY sea_due_time, id LIMIT $2"
    " FOR UPDATE SKIP LOCKED"
)
_WARN_NEW = (
    "SELECT a.id, a.sea_due_time AS due, g.step FROM accounts a"
    " JOIN sea_states s ON s.account = a.id AND s.to_time = 'infinity'{joins} CROSS JOIN LATERAL"
    " (SELECT min(w.step) AS step FROM unnest({steps}) AS w(step)"
    " WHERE a.sea_due_time <= $1::timestamptz + make_interval(days => w.step)) g"
    " WHERE a.state = 'ACTIVE' AND a.sea_due_time > $1 AND a.sea_due_time <= $1::timestamptz + make_interval(days => $2)"
    " AND g.step IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sea_warnings w WHERE w.account = a.id AND"
    " w.due_time = a.sea_due_time AND w.step <= g.step) ORDER BY a.sea_due_time, a.id LIMIT $3"
)
_WARNED = "INSERT INTO sea_warnings (account, due_time, step) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1"


@every("1m", collapse=True)
async def return_to_the_sea(as_of: datetime, call: Call) -> None:
    """Returns what is overdue, in due order, after looking at every clock again in the same transaction."""
    rules = compiled(await active_rules(call), call)
    connection = await driver(call.db)
    ids = [row["id"] for row in await connection.fetch(_DUE, call.now, AT_ONCE)]
    if not ids:
        return
    await reckon(call, ids)
    statement, texts = bound(
        f"SELECT s.account, c.clause, d.due, d.why FROM sea_states s{rules.joins} WHERE s.account = ANY ($1)"
        " AND s.to_time = 'infinity' AND s.owner <> '' AND s.state = 'ACTIVE' AND d.due <= $2 ORDER BY d.due, s.account",
        after=2,
    )
    checked = await connection.fetch(statement, ids, call.now, *texts)
    for row in checked:
        account = await call.find(Account, Account.id == row["account"], lock=True)
        if account is None:
            continue
        if row["clause"] < 0:
            await _lapse(account, row["why"], call)
        else:
            await _return(account, rules.clauses[row["clause"] - 1], row["why"], row["due"], call)
        await call.flush()


async def _return(account: Account, clause: Any, why: str, due: datetime, call: Call) -> None:
    if clause.message.action == pb.PoolRule.NOTIFY:
        if await (await driver(call.db)).fetchval(_WARNED, account.id, due, 0):
            call.emit(events.SeaDueSoon, account=account, owner=account.owner, due_time=due, step=0)
        return
    pool = await _target(clause.pool, call)
    if pool is not None:
        change = ownership.Change("RECYCLE", rule=clause.rule, clause=clause.key, evidence=why)
        await ownership.put_into_pool(account, pool, change, call, keep_read=clause.message.keep_read)


async def _lapse(account: Account, why: str, call: Call) -> None:
    """Claimed or given, and nobody spoke with the customer: back where it came from (SEA-10)."""
    pool = await _target(account.owner_from, call)
    if pool is None:
        return
    employee = account.owner
    await ownership.put_into_pool(account, pool, ownership.Change("IDLE", clause=IDLE, evidence=why), call)
    await call.flush()
    lately = select(PoolClaim.id).where(
        PoolClaim.kind == "IDLE",
        getattr(PoolClaim, "from") == employee,
        PoolClaim.time > call.now - IDLE_WITHIN,
    )
    count = len((await call.db.scalars(lately)).all())
    until = await suspended_until(employee, call)
    call.emit(
        events.ClaimLapsed, account=account, employee=employee, count=count,
        **({"suspended_until": until} if until else {}),
    )  # fmt: skip


async def _target(name: str, call: Call) -> Pool | None:
    """The pool, or where it is out of use the one above it."""
    for _ in range(10):
        pool = await call.named(Pool, name)
        if pool is None or pool.state == "OPEN":
            return pool
        name = pool.parent
    return None


@every("15m", collapse=True)
async def warn_owners(as_of: datetime, call: Call) -> None:
    """Tells owners what goes soon: once per step, and after a downtime the latest step alone (SEA-5)."""
    rules = await active_rules(call)
    seen = compiled(rules, call)
    statement, texts = bound(_WARN_NEW.format(joins=seen.joins, steps=_steps(rules, seen)), after=3)
    earliest = max([*DEFAULT_WARNINGS, *(day for rule in rules for day in rule.warnings)])
    connection = await driver(call.db)
    while True:
        found = await connection.fetch(statement, call.now, earliest, AT_ONCE, *texts)
        for row in found:
            await connection.fetchval(_WARNED, row["id"], row["due"], row["step"])
            account = await call.find(Account, Account.id == row["id"])
            if account is not None:
                call.emit(
                    events.SeaDueSoon,
                    account=account,
                    owner=account.owner,
                    due_time=row["due"],
                    step=row["step"],
                )
        if len(found) < AT_ONCE:
            return


def _steps(rules: Sequence[PoolRule], seen: Compiled) -> str:
    """The days of the rule that an account falls under; of its pool's, where nobody has spoken since a claim."""
    days = {rule.name: f"ARRAY{rule.warnings}::int[]" for rule in rules}
    default = f"ARRAY{list(DEFAULT_WARNINGS)}::int[]"
    clauses = "".join(f" WHEN {n} THEN {days[one.rule]}" for n, one in enumerate(seen.clauses, start=1))
    pools = "".join(f" WHEN {quoted(rule.pool)} THEN {days[rule.name]}" for rule in rules)
    idle = f"CASE s.owned_from{pools} ELSE {default} END" if pools else default
    return f"CASE c.clause{clauses} WHEN -1 THEN {idle} ELSE {default} END"


@every("5m", collapse=True)
async def keep_dates(as_of: datetime, call: Call) -> None:
    """Brings scheduled versions into force, ends collaborations, and moves what nobody touched up a pool."""
    scheduled = select(PoolRule).where(PoolRule.state == "SCHEDULED", PoolRule.effective_time <= call.now)
    for rule in await call.db.scalars(scheduled.with_for_update()):
        await come_into_force(rule, call)
    for pool in await call.db.scalars(select(Pool).where(Pool.state == "OPEN")):
        pool.spread(call)
        if pool.parent and pool.parent_after_days:
            await _second_recycling(pool, call)
    ended = await (await driver(call.db)).fetch(
        f"SELECT id FROM accounts WHERE {UNTIL_A_DAY} AND EXISTS (SELECT 1 FROM jsonb_array_elements(collaborations)"
        " c WHERE c ? 'untilDate' AND make_date((c -> 'untilDate' ->> 'year')::int, (c -> 'untilDate' ->> 'month')::int,"
        " (c -> 'untilDate' ->> 'day')::int) < ($1::timestamptz AT TIME ZONE 'Asia/Shanghai')::date)"
        " LIMIT $2 FOR UPDATE SKIP LOCKED",
        call.now,
        AT_ONCE,
    )
    today = call.now.astimezone(_ZONE).date()
    for row in ended:
        account = await call.find(Account, Account.id == row["id"], lock=True)
        for one in list(account.collaborations) if account else ():
            until = one.until_date
            if account and until.year and date(until.year, until.month, until.day) < today:
                await ownership.unshare(account, one.employee, call)


async def _second_recycling(pool: Pool, call: Call) -> None:
    before = call.now - timedelta(days=pool.parent_after_days)
    waiting = select(PoolItem.account).where(PoolItem.pool == pool.name, PoolItem.pooled_time <= before)
    target = await _target(pool.parent, call)
    if target is None or target is pool:
        return
    for key in (await call.db.scalars(waiting.order_by(PoolItem.pooled_time).limit(AT_ONCE))).all():
        account = await call.find(
            Account, Account.id == key.rpartition("/")[2], Account.state == "POOLED", lock=True
        )
        touched = account is not None and account.last_interaction_time
        if account is not None and not (touched and touched > before):
            change = ownership.Change(
                "POOL", clause="SECOND", evidence=f"{pool.name} {pool.parent_after_days} d"
            )
            await ownership.put_into_pool(account, target, change, call)
            await call.flush()


async def come_into_force(rule: PoolRule, call: Call) -> None:
    """The version replaces the one before; every account is reckoned anew in the background."""
    old = await call.find(PoolRule, PoolRule.pool == rule.pool, PoolRule.state == "ACTIVE", lock=True)
    if old is not None and old.id != rule.id:
        old.state, old.retire_time = "RETIRED", call.now
        await call.flush()
    rule.state, rule.effective_time = "ACTIVE", call.now
    await start(call, RECKON, rule.name, {}, requester=f"system/{call.running.app.name}")


async def activate(rule: PoolRule, at: datetime | None, call: Call) -> None:
    """Brings a simulated version into force, now or later."""
    rule.check_state("DRAFT")
    rule.check_simulated(call.now)
    await _check_overlap(rule, call)
    if at is not None and at > call.now:
        await call.db.execute(
            update(PoolRule)
            .where(PoolRule.pool == rule.pool, PoolRule.state == "SCHEDULED", PoolRule.id != rule.id)
            .values(state="DRAFT", effective_time=None)
        )
        rule.state, rule.effective_time = "SCHEDULED", at
        return
    await come_into_force(rule, call)


async def _check_overlap(rule: PoolRule, call: Call) -> None:
    """One customer must not fall under the rules of two pools."""
    mine = compiled([rule], call)
    for other in await active_rules(call):
        if other.pool == rule.pool or not other.clauses or not mine.clauses:
            continue
        theirs = compiled([other], call)
        statement, texts = bound(
            "SELECT count(*) FROM sea_states s WHERE s.to_time = 'infinity' AND s.owner <> ''"
            f" AND ({mine.fits}) > 0 AND ({theirs.fits}) > 0",
            after=0,
        )
        count = await (await driver(call.db)).fetchval(statement, *texts)
        if count:
            pool = await call.named(Pool, other.pool)
            raise FailedPrecondition(
                "POOL_RULE_OVERLAP", count=count, pool=pool.display_name if pool else other.pool
            )


async def _reckon_all(run: Run) -> None:
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = run.tally.get("last", "00000000-0000-0000-0000-000000000000")
            rows = await (await driver(call.db)).fetch(
                "SELECT id FROM accounts WHERE id > $1::uuid ORDER BY id LIMIT $2", last, RECKON_CHUNK
            )
            if rows:
                await reckon(call, [row["id"] for row in rows])
                run.tally["last"], run.position = str(rows[-1]["id"]), run.position + 1
            else:
                run.next_phase("ENDED")


async def _could_not(run: Run, problem: Problem, call: Call) -> None:
    """The sweep looks at every clock again anyway; the next version reckons all of them."""


async def fill_working_days(call: Call) -> None:
    """The calendar as a table, so that the database counts working days as everybody does."""
    last = await call.db.scalar(select(WorkingDay.day).order_by(WorkingDay.day.desc()).limit(1))
    until = date(call.now.year + 3, 12, 31)
    if last is not None and last >= until - timedelta(days=7):
        return
    day, ordinal, rows = date(2015, 1, 1), 0, []
    while day <= until:
        if is_working_day(day):
            ordinal += 1
            rows.append((day, ordinal))
        day += timedelta(days=1)
    connection = await driver(call.db)
    await connection.execute("LOCK TABLE working_days")
    await connection.execute("DELETE FROM working_days")
    await connection.executemany("INSERT INTO working_days (day, ordinal) VALUES ($1, $2)", rows)


@cron("20 3 * * *", collapse=True)
async def lengthen_calendar(as_of: datetime, call: Call) -> None:
    """A service that runs for years never runs out of working days."""
    await fill_working_days(call)


RUNS = {RECKON: Kind(_reckon_all, _could_not)}
