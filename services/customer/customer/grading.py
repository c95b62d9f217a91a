"""Customers by classes: graded by the rule in force, by hand until a day, and every change kept (c.class).

Every change of a level ends in `settle`: it writes the history, tells the fact, and brings the clocks of the sea and the
cycles of care along in the same transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit import listing, runs
from crmkit.amounts import plain
from crmkit.auth import system
from crmkit.call import Call
from crmkit.company import today
from crmkit.driver import driver
from crmkit.errors import InvalidArgument, Problem, Validation, Violation
from crmkit.mapping import read_date, to_date
from crmkit.runs import Kind, Run
from crmkit.schedule import cron
from sqlalchemy import select

from customer.care import change_cycles
from customer.model.account import Account
from customer.model.grading import MONTHS, AccountGrade, GradingRule
from customer.sea.states import watch

BY_HAND = timedelta(days=90)
LONGEST = timedelta(days=366)
AT_ONCE = 200
CHUNK = 2_000
_GRADE = "GradeAccounts"
_ORDERS = "f.collection = 'orders' AND f.state NOT IN ('', 'DRAFT', 'CANCELLED', 'REJECTED', 'FAILED')"
_PAID = "f.collection = 'allocations' AND f.state <> 'REVERSED'"
_BACK = "f.collection = 'refunds'"
_TICKETS = "f.collection = 'tickets' AND f.state NOT IN ('CLOSED', 'REJECTED', 'CANCELLED')"
_DEALS = "f.collection = 'opportunities' AND f.state = 'OPEN'"


async def activate(rule: GradingRule, call: Call) -> None:
    """In force now; every customer is graded in the background."""
    rule.check_state("DRAFT")
    before = await call.find(GradingRule, GradingRule.state == "ACTIVE", lock=True)
    if before is not None:
        before.retire()
        await call.flush()
    rule.state, rule.activate_time = "ACTIVE", call.now
    await _begin(rule, call)


@cron("0 3 * * *", collapse=True)
async def grade_everybody(as_of: datetime, call: Call) -> None:
    """Facts and days go on: every night every customer is graded anew."""
    rule = await _in_force(call)
    if rule is not None:
        await _begin(rule, call)


async def grading(account: Account, call: Call) -> dict[str, Any]:
    """How the rule in force grades the customer now, fact by fact."""
    answer: dict[str, Any] = {"name": account.name, "level": account.level}
    if account.level_until_date:
        answer["until_date"] = to_date(account.level_until_date)
    rule = await _in_force(call)
    if rule is None or account.id not in await _graded(rule, [account.id], call):
        return answer
    results = (await _measured(rule, [account.id], call))[account.id]
    points = sum(result.points for result in results)
    by_rule = rule.level_of(points)
    return {**answer, "rule": rule.name, "by_rule": by_rule, "points": points, "results": results}


async def set_level(account: Account, request: pb.SetAccountLevelRequest, call: Call) -> None:
    """A person's decision wins until the day."""
    account.check_state("ACTIVE", "POOLED", "FROZEN")
    account.check_settled()
    until = read_date(request.until_date) or today(call) + BY_HAND
    if not today(call) <= until <= today(call) + LONGEST:
        zh, en = "有效期应在一年之内。", "Within a year from today."
        raise Validation(Violation("until_date", "OUT_OF_RANGE", zh, en))
    before, account.level = account.level, request.level
    await by_hand(account, before, until, request.reason, call)


async def by_hand(account: Account, before: str, until: date | None, reason: str, call: Call) -> None:
    """Writes down what a person has decided."""
    account.level_until_date = until or today(call) + BY_HAND
    change = AccountGrade(origin="MANUAL", until_date=account.level_until_date, reason=reason)
    await settle(account, before, change, call)


async def settle(account: Account, before: str, change: AccountGrade, call: Call) -> None:
    """The one end of every change of a level."""
    change.account, change.before, change.level, change.time = account.name, before, account.level, call.now
    change.owner, change.department, change.creator = account.owner, account.department, call.caller.actor
    await call.add(change)
    if account.level == before:
        return
    call.emit(
        events.AccountLevelChanged, account=account, before=before, level=account.level, origin=change.origin,
        rule=change.rule, points=change.points, time=call.now,
    )  # fmt: skip
    watch(account, call)
    await change_cycles(account, before, call)


async def tag(request: pb.TagAccountsRequest, call: Call) -> dict[str, Any]:
    """Gives tags to many and takes others away, as if each had been changed alone."""
    if len(request.names) > AT_ONCE:
        raise InvalidArgument("MALFORMED", detail=f"names > {AT_ONCE}")
    found = {name: await call.load(Account, name) for name in sorted(set(request.names))}
    for account in found.values():
        kept = [one for one in account.tags if one not in request.remove]
        # What is given again is the latest of its group.
        wanted = [*(one for one in kept if one not in request.add), *dict.fromkeys(request.add)]
        if wanted != account.tags:
            account.tags = wanted
            await account.updating(call, frozenset(["tags"]))
    return {"accounts": [found[name] for name in request.names]}


async def _begin(rule: GradingRule, call: Call) -> None:
    await runs.start(call, _GRADE, rule.name, {}, f"system/{call.running.app.name}")


async def _work(run: Run) -> None:
    """Grades chunk by chunk; a rule that is out of force meanwhile grades nobody any more."""
    while run.phase != "ENDED":
        async with run.chunk() as call:
            rule = await call.db.get(GradingRule, UUID(run.about.partition("/")[2]))
            last = UUID(run.tally.get("last", str(UUID(int=0))))
            ids = select(Account.id).where(Account.id > last).order_by(Account.id).limit(CHUNK)
            found = list(await call.db.scalars(ids))
            if rule is None or rule.state != "ACTIVE" or not found:
                run.next_phase("ENDED")
                continue
            await _grade(rule, found, call)
            run.tally["last"], run.position = str(found[-1]), run.position + 1


async def _grade(rule: GradingRule, ids: Sequence[UUID], call: Call) -> None:
    results = await _measured(rule, await _graded(rule, ids, call), call)
    wanted = {key: rule.level_of(sum(one.points for one in found)) for key, found in results.items()}
    free = select(Account.id, Account.level).where(
        Account.id.in_([key for key, level in wanted.items() if level]), Account.merging == "",
        (Account.level_until_date.is_(None)) | (Account.level_until_date < today(call)),
    )  # fmt: skip
    for key, level in (await call.db.execute(free.order_by(Account.id))).all():
        if level == wanted[key]:
            continue
        account = await call.find(Account, Account.id == key, lock=True)
        if account is None:
            continue
        before, account.level, account.level_until_date = account.level, wanted[key], None
        points = sum(one.points for one in results[key])
        change = AccountGrade(origin="RULE", rule=rule.name, points=points, results=results[key])
        await settle(account, before, change, call)
        await call.flush()


async def _graded(rule: GradingRule, ids: Sequence[UUID], call: Call) -> list[UUID]:
    """Those of the accounts that the rule is for."""
    condition = listing.where(Account, rule.filter, system(call.running.app.name), call.now)
    live = Account.state.in_(["ACTIVE", "POOLED", "FROZEN"])
    async with call.everybody():
        return list(await call.db.scalars(select(Account.id).where(Account.id.in_(ids), live, condition)))


async def _measured(
    rule: GradingRule, ids: Sequence[UUID], call: Call
) -> Mapping[UUID, list[pb.GradingResult]]:
    """What each factor gives each account, by one statement."""
    if not ids:
        return {}
    pairs = [_expressions(factor) for factor in rule.factors]
    columns = ", ".join(f"({value}) AS v{n}, ({facts}) AS n{n}" for n, (value, facts) in enumerate(pairs))
    statement = (
        f"SELECT a.id, {columns} FROM accounts a LEFT JOIN figures f ON f.account = 'accounts/' || a.id"
        " AND f.state <> 'DELETED' WHERE a.id = ANY ($1) AND $2::text IS NOT NULL AND $3::date IS NOT NULL GROUP BY a.id"
    )
    async with call.everybody():
        rows = await (await driver(call.db)).fetch(statement, list(ids), rule.currency, today(call))
    return {row["id"]: [_result(rule, n, row) for n in range(len(rule.factors))] for row in rows}


def _result(rule: GradingRule, number: int, row: Any) -> pb.GradingResult:
    value: Decimal | None = None if row[f"v{number}"] is None else Decimal(row[f"v{number}"])
    shown = plain(value)
    points = rule.points_of(number, value)
    measure = rule.factors[number].measure
    return pb.GradingResult(measure=measure, value=shown, points=points, facts=row[f"n{number}"] or 0)


def _expressions(factor: Any) -> tuple[str, str]:
    """Value and number of facts of a factor; $2 is the currency and $3 today."""
    since = f"f.day >= $3::date - make_interval(months => {int(factor.months) or MONTHS})"
    kind = pb.GradingRule.Measure.Name(factor.measure)
    amount = "f.currency = $2::text"
    match kind:
        case "COLLECTED":
            paid, back = f"{_PAID} AND {amount} AND {since}", f"{_BACK} AND {amount} AND {since}"
            total = f"coalesce(sum(f.amount) FILTER (WHERE {paid}), 0) - coalesce(sum(f.amount) FILTER (WHERE {back}), 0)"
            count = f"count(*) FILTER (WHERE ({paid}) OR ({back}))"
            return f"CASE WHEN {count} > 0 THEN {total} END", count
        case "ORDERED":
            where = f"{_ORDERS} AND {amount} AND {since}"
            return f"sum(f.amount) FILTER (WHERE {where})", f"count(*) FILTER (WHERE {where})"
        case "ORDER_COUNT":
            where = f"{_ORDERS} AND {since}"
            return f"count(*) FILTER (WHERE {where})", f"count(*) FILTER (WHERE {where})"
        case "DAYS_SINCE_ORDER":
            return f"$3::date - max(f.day) FILTER (WHERE {_ORDERS})", f"count(*) FILTER (WHERE {_ORDERS})"
        case "PIPELINE":
            where = f"{_DEALS} AND {amount}"
            return f"sum(f.amount) FILTER (WHERE {where})", f"count(*) FILTER (WHERE {where})"
        case "OPEN_TICKETS":
            return f"count(*) FILTER (WHERE {_TICKETS})", f"count(*) FILTER (WHERE {_TICKETS})"
        case "FOLLOW_UPS":
            moment = f"i.start_time >= $3::date - make_interval(months => {int(factor.months) or MONTHS})"
            count = f"SELECT count(*) FROM interactions i WHERE i.account = 'accounts/' || a.id AND {moment}"
            return count, count
        case "EMPLOYEES":
            return "nullif(a.employee_count, 0)", "(a.employee_count > 0)::int"
        case _:
            own = "CASE WHEN a.annual_revenue_currency = $2::text THEN a.annual_revenue_amount END"
            return own, f"(({own}) IS NOT NULL)::int"


async def _in_force(call: Call) -> GradingRule | None:
    return await call.find(GradingRule, GradingRule.state == "ACTIVE")


async def _cannot(run: Run, problem: Problem, call: Call) -> None:
    """The next night grades everybody again."""


RUNS = {_GRADE: Kind(_work, _cannot)}
