"""`:simulate`: the stored past replayed against a version, in the background, without a trace outside (SEA-6).

`sea_states` holds every account as it was at every time. A row under which a clock runs out before the row ends is a
return; each ownership has at most one. Nothing is asked of accounts one by one: twenty thousand a statement.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.driver import driver
from crmkit.errors import InvalidArgument, Problem
from crmkit.mapping import to_timestamp
from crmkit.runs import Kind, Run, start
from sqlalchemy import select

from customer.model.pool_rule import PoolRule
from customer.sea.clauses import Compiled, bound, compiled, names, returning
from customer.sea.states import ZONE

CHUNK = 20_000
DEFAULT_DAYS = 90
LONGEST_DAYS = 365
SWEEP = "10 minutes"
KIND = "SimulatePoolRule"
_FIRST = UUID(int=0)
_UPPER = "SELECT id FROM accounts WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1"
_DELETE = (
    "DELETE FROM simulated_returns WHERE id IN (SELECT id FROM simulated_returns WHERE rule = $1 LIMIT 50000)"
)


async def begin(rule: PoolRule, days: int, call: Call) -> None:
    """Queues the simulation; it stands on the rule."""
    if not 0 <= days <= LONGEST_DAYS:
        raise InvalidArgument("MALFORMED", detail="days")
    days = days or DEFAULT_DAYS
    rule.simulation = pb.PoolRule.Simulation(
        digest=rule.digest, days=days, time=to_timestamp(call.now), state=pb.PoolRule.Simulation.RUNNING
    )
    spec = {"days": days, "now": call.now.isoformat(), "digest": rule.digest}
    # As the service: what a version does to everybody's customers is nobody's data scope.
    await start(call, KIND, rule.name, spec, requester=f"system/{call.running.app.name}")


async def _work(run: Run) -> None:
    while run.phase == "":
        async with run.chunk() as call:
            deleted = await (await driver(call.db)).execute(_DELETE, run.about)
            run.position += 1
            if deleted == "DELETE 0":
                run.next_phase("REPLAY")
                run.tally = {"last": str(_FIRST), "digest": ""}
    while run.phase == "REPLAY":
        async with run.chunk() as call:
            await _replay(run, call)
    while run.phase == "SUM":
        async with run.chunk() as call:
            await _finish(run, call)
            run.next_phase("ENDED")


async def _replay(run: Run, call: Call) -> None:
    connection = await driver(call.db)
    await connection.execute("SET LOCAL statement_timeout = '25s'")
    low = UUID(run.tally["last"])
    high = await connection.fetchval(_UPPER, low, CHUNK - 1)
    upper = high or UUID(int=(1 << 128) - 1)
    rule = await _rule(run, call)
    now = datetime.fromisoformat(run.spec["now"])
    since = now - timedelta(days=run.spec["days"])
    same_pool = select(PoolRule.id).where(PoolRule.pool == rule.pool)
    versions = [f"poolRules/{key}" for key in await call.db.scalars(same_pool)]
    values = (low, upper, since, now, rule.name, versions, rule.pool)
    statement, texts = bound(_statement(rule, now, since, call), after=len(values))
    counted = await connection.fetchrow(statement, *values, *texts)
    run.count(accounts=counted["accounts"], returns=counted["returns"], tonight=counted["tonight"])
    run.count(here=counted["here"], active=counted["active"])
    run.tally["digest"] = sha256((run.tally["digest"] + (counted["digest"] or "")).encode()).hexdigest()
    run.tally["last"], run.position = str(upper), run.position + 1
    if high is None:
        run.next_phase("SUM")


async def _finish(run: Run, call: Call) -> None:
    rule = await _rule(run, call)
    result = pb.PoolRule.Simulation()
    result.CopyFrom(rule.simulation)
    result.state = pb.PoolRule.Simulation.DONE
    result.accounts, result.returns = run.tally.get("accounts", 0), run.tally.get("returns", 0)
    result.tonight, result.result_digest = run.tally.get("tonight", 0), run.tally["digest"]
    result.only_here, result.only_active = run.tally.get("here", 0), run.tally.get("active", 0)
    rule.simulation = result


async def _fail(run: Run, problem: Problem, call: Call) -> None:
    rule = await _rule(run, call)
    result = pb.PoolRule.Simulation()
    result.CopyFrom(rule.simulation)
    result.state = pb.PoolRule.Simulation.FAILED
    rule.simulation = result


async def _rule(run: Run, call: Call) -> PoolRule:
    rule = await call.named(PoolRule, run.about, lock=True)
    if rule is None:
        raise Problem("NOT_FOUND")
    return rule


def _statement(rule: PoolRule, now: datetime, since: datetime, call: Call) -> str:
    """Replays accounts in ($1, $2] from $3 to $4 for the version $5, stores what it finds and counts it.

    What was made in truth are the returns by versions $6 of the pool $7.
    """
    tried = _tried(rule, since, call)
    # What would go tonight if it came into force now: the clocks alone, as people asked, without the grace.
    bare = compiled([rule], call, grace=False)
    tonight = now.astimezone(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(
        days=1
    )
    active = "true" if rule.state == "ACTIVE" else "false"
    return f"""
WITH replayed AS (
  SELECT DISTINCT ON (s.account, s.owned_time) s.account, s.owned_time, s.owner, s.department, s.zone,
    greatest(d.due, s.from_time) AS time, n.key, d.why, s.to_time
  FROM sea_states s{tried.joins} JOIN {names(tried)} ON n.number = c.clause
  WHERE s.account > $1 AND s.account <= $2 AND s.to_time > $3 AND s.from_time < $4
    AND s.owner <> '' AND s.state = 'ACTIVE' AND c.clause IN ({returning(tried)})
    AND d.due IS NOT NULL AND greatest(d.due, s.from_time) < least(s.to_time, $4) AND d.due >= $3
  ORDER BY s.account, s.owned_time, s.from_time
), made AS (
  SELECT s.account, s.owned_time, s.owner, s.department, s.zone, l.time, l.clause, l.rule
  FROM sea_states s JOIN pool_claims l
    ON l.account = 'accounts/' || s.account AND l.time > s.from_time AND l.time <= s.to_time
  WHERE s.account > $1 AND s.account <= $2 AND s.to_time > $3 AND l.time > $3 AND l.time <= $4 AND s.owner <> ''
    AND (l.kind = 'RECYCLE' AND l.rule = ANY ($6) OR l.kind = 'IDLE' AND l.pool = $7)
), paired AS (
  SELECT coalesce(r.account, m.account) AS account, coalesce(r.owner, m.owner) AS owner,
    coalesce(r.department, m.department) AS department, coalesce(r.zone, m.zone) AS zone,
    coalesce(r.time, m.time) AS time, coalesce(r.key, m.clause) AS clause,
    CASE WHEN m.account IS NULL THEN 'ONLY_HERE' WHEN r.account IS NULL THEN 'ONLY_ACTIVE' ELSE 'SAME' END AS difference,
    CASE WHEN r.account IS NULL THEN 'MADE_BY ' || m.rule || ' ' || m.clause
      WHEN m.account IS NULL AND {active} AND r.time > $4 - interval '{SWEEP}' THEN 'SWEEP_PENDING: ' || r.why
      WHEN m.account IS NULL AND {active} AND r.to_time - r.time < interval '{SWEEP}' THEN 'FACT_BEFORE_SWEEP: ' || r.why
      WHEN m.account IS NULL AND {active} THEN 'RULE_OR_STATE_CHANGED: ' || r.why
      ELSE r.why END AS reason
  FROM replayed r FULL JOIN made m ON m.account = r.account AND m.owned_time IS NOT DISTINCT FROM r.owned_time
), soon AS (
  SELECT s.account, s.owner, s.department, s.zone, d.due AS time, n.key AS clause, d.why AS reason
  FROM sea_states s{bare.joins} JOIN {names(bare)} ON n.number = c.clause
  WHERE s.account > $1 AND s.account <= $2 AND s.to_time = 'infinity' AND s.owner <> '' AND s.state = 'ACTIVE'
    AND c.clause IN ({returning(bare)}) AND d.due <= '{tonight.astimezone(UTC).isoformat()}'
), stored AS (
  INSERT INTO simulated_returns (id, rule, account, time, day, clause, difference, reason, tonight, owner, department,
    creator, create_time, update_time, version)
  SELECT gen_random_uuid(), $5, 'accounts/' || account, time, (time AT TIME ZONE zone)::date, clause, difference, reason,
    tonight, owner, department, 'system/customer', $4, $4, 1
  FROM (SELECT account, time, zone, clause, difference, reason, false AS tonight, owner, department FROM paired
    UNION ALL SELECT account, time, zone, clause, 'ONLY_HERE', reason, true, owner, department FROM soon) found
  RETURNING account, time, clause, difference, tonight
)
SELECT count(*) FILTER (WHERE NOT tonight AND difference <> 'ONLY_ACTIVE')::int AS returns,
  count(*) FILTER (WHERE tonight)::int AS tonight,
  count(*) FILTER (WHERE NOT tonight AND difference = 'ONLY_HERE')::int AS here,
  count(*) FILTER (WHERE NOT tonight AND difference = 'ONLY_ACTIVE')::int AS active,
  md5(string_agg(account || time || clause || difference || tonight, ',' ORDER BY account, time, tonight)) AS digest,
  (SELECT count(*) FROM accounts WHERE id > $1 AND id <= $2)::int AS accounts
FROM stored"""


def _tried(rule: PoolRule, since: datetime, call: Call) -> Compiled:
    """The version as it is in force, or one that is not: as if it had come into force when the window began."""
    if rule.state == "ACTIVE":
        return compiled([rule], call)
    return compiled([rule], call, effective=since)


RUNS = {KIND: Kind(_work, _fail)}
