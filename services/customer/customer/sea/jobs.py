"""Timed work of the sea. Late or twice it does what it would have done in time, once."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import FailedPrecondition, Problem
from crmkit.runs import Kind, Run, start
from crmkit.schedule import cron, every
from crmkit.workdays import is_working_day
from sqlalchemy import Uuid, cast, func, or_, select, update

from customer import ownership
from customer.model.account import UNTIL_A_DAY, Account
from customer.model.pool import Pool, PoolClaim, PoolItem
from customer.model.pool_rule import DEFAULT_WARNINGS, PoolRule
from customer.model.sea import WorkingDay
from customer.sea.claims import IDLE_WITHIN, suspended_until
from customer.sea.clauses import IDLE, Compiled, active_rules, bound, compiled, quoted, returning
from customer.sea.states import ZONE, reckon

AT_ONCE = 300
_ZONE = ZoneInfo(ZONE)
_FIRST = datetime(2000, 1, 1, tzinfo=_ZONE)
RECKON = "ReckonSea"
RECKON_CHUNK = 1_000
# As many in a transaction, which keeps them from everybody else for seconds.
ROUND = 300
RETURN = "ReturnToTheSea"
_DUE = (
    "SELECT id, sea_due_time FROM accounts WHERE sea_due_time <= $1 AND state = 'ACTIVE' AND merging = ''"
    " AND (sea_due_time, id) > ($2::timestamptz, $3::uuid) ORDER BY sea_due_time, id LIMIT $4 FOR UPDATE SKIP LOCKED"
)
_UNDER_WAY = "SELECT EXISTS (SELECT 1 FROM bulk_runs WHERE kind = $1 AND state IN ('QUEUED', 'RUNNING'))"
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
    """Returns what is overdue, in due order: the first at once, and where many are, the others by a run behind it."""
    last = await return_round(None, call)
    if last is not None and not await (await driver(call.db)).fetchval(_UNDER_WAY, RETURN):
        await start(call, RETURN, "", {"after": last}, requester=f"system/{call.running.app.name}")


async def _return_others(run: Run) -> None:
    run.tally.setdefault("after", run.spec["after"])
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = await return_round(run.tally["after"], call)
            if last is None:
                run.next_phase("ENDED")
            else:
                run.tally["after"], run.position = last, run.position + 1


async def return_round(after: Sequence[str] | None, call: Call) -> list[str] | None:
    """Returns some of what is overdue behind a time and an id, after looking at every clock again in the same
    transaction; gives those of the last one, or nothing where no more is.

    What stays, having no open pool to go to or only a notice, keeps nobody else from going.
    """
    rules = compiled(await active_rules(call), call)
    connection = await driver(call.db)
    time, key = (datetime.fromisoformat(after[0]), after[1]) if after else (_FIRST, str(UUID(int=0)))
    rows = await connection.fetch(_DUE, call.now, time, key, ROUND)
    if not rows:
        return None
    ids = [row["id"] for row in rows]
    await reckon(call, ids)
    statement, texts = bound(
        f"SELECT s.account, c.clause, d.due, d.why, s.owned_from FROM sea_states s{rules.joins}"
        " WHERE s.account = ANY ($1) AND s.to_time = 'infinity' AND s.owner <> '' AND s.state = 'ACTIVE'"
        f" AND d.due <= $2 AND (c.clause IN ({returning(rules)}) OR NOT EXISTS (SELECT 1 FROM sea_warnings w"
        " WHERE w.account = s.account AND w.due_time = d.due AND w.step = 0)) ORDER BY d.due, s.account",
        after=2,
    )
    targets: dict[str, Pool | None] = {}
    for row in await connection.fetch(statement, ids, call.now, *texts):
        clause = rules.clauses[row["clause"] - 1] if row["clause"] > 0 else None
        name = clause.pool if clause else row["owned_from"]
        if name not in targets:
            targets[name] = await _target(name, call)
        notice = clause is not None and clause.message.action == pb.PoolRule.NOTIFY
        pool = targets[name]
        if pool is None and not notice:
            continue
        account = await call.find(Account, Account.id == row["account"], lock=True)
        if account is None:
            continue
        if pool is None or notice:
            if await connection.fetchval(_WARNED, account.id, row["due"], 0):
                call.emit(
                    events.SeaDueSoon, account=account, owner=account.owner, due_time=row["due"], step=0
                )
        elif clause is None:
            await _lapse(account, pool, row["why"], call)
        else:
            change = ownership.Change("RECYCLE", rule=clause.rule, clause=clause.key, evidence=row["why"])
            await ownership.put_into_pool(account, pool, change, call, keep_read=clause.message.keep_read)
        await call.flush()
    return [rows[-1]["sea_due_time"].isoformat(), str(ids[-1])] if len(rows) == ROUND else None


async def _lapse(account: Account, pool: Pool, why: str, call: Call) -> None:
    """Claimed or given, and nobody spoke with the customer: back where it came from (SEA-10)."""
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
    target = await _target(pool.parent, call)
    if target is None or target is pool:
        return
    waiting = (
        select(Account)
        .join(PoolItem, Account.id == cast(func.substr(PoolItem.account, len("accounts/") + 1), Uuid))
        .where(
            PoolItem.pool == pool.name, PoolItem.pooled_time <= before, Account.state == "POOLED", Account.merging == "",
            or_(Account.last_interaction_time.is_(None), Account.last_interaction_time <= before),
        )
        .order_by(PoolItem.pooled_time)
        .limit(AT_ONCE)
        .with_for_update(of=Account, skip_locked=True)
    )  # fmt: skip
    for account in (await call.db.scalars(waiting)).all():
        change = ownership.Change("POOL", clause="SECOND", evidence=f"{pool.name} {pool.parent_after_days} d")
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
            # Locked before their clocks are read: what somebody tells of an account meanwhile would be lost.
            rows = await (await driver(call.db)).fetch(
                "SELECT id FROM accounts WHERE id > $1::uuid ORDER BY id LIMIT $2 FOR NO KEY UPDATE",
                last,
                RECKON_CHUNK,
            )
            if rows:
                await reckon(call, [row["id"] for row in rows])
                run.tally["last"], run.position = str(rows[-1]["id"]), run.position + 1
            else:
                run.next_phase("ENDED")


async def _could_not(run: Run, problem: Problem, call: Call) -> None:
    """The sweep comes again and looks at every clock anyway; the next version reckons all of them."""


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


RUNS = {RECKON: Kind(_reckon_all, _could_not), RETURN: Kind(_return_others, _could_not)}
