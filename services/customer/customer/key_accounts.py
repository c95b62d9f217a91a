"""Key accounts: who they are, what a plan changes for them, and who meets whom (c.keyacct)."""

from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crmkit.call import Call
from crmkit.company import today
from crmkit.exchange import rate_of
from crmkit.listing import ZONE
from crmkit.mapping import to_date, to_timestamp
from crmkit.notices import raise_notice
from crmkit.schedule import cron
from crmkit.scope import predicate
from crmkit.values import Money
from sqlalchemy import Text, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from customer import ownership
from customer.figures import collected
from customer.model.account import Account
from customer.model.account_plan import IN_FORCE, SERVING, AccountPlan
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.orgchart import org_chart
from customer.sea.states import watch

SHARE = 80
CURRENCY = "CNY"


async def candidates(
    request: pb.ListKeyAccountCandidatesRequest, call: Call
) -> pb.ListKeyAccountCandidatesResponse:
    """The fewest customers of the reader's scope that brought the share; equal ones by number."""
    own, day = request.currency or CURRENCY, today(call)
    paid = collected(_a_year_before(day), day).subquery()
    mine = (
        select(Account.id, Account.number, Account.display_name, paid.c.currency, paid.c.amount)
        .join(paid, paid.c.account == Account.sql_name())
        .where(predicate(Account, call.caller))
    )
    rows = (await call.db.execute(mine)).all()
    worth = _Worth(own, day, call)
    money: dict[UUID, Decimal] = defaultdict(Decimal)
    for row in rows:
        money[row.id] += worth.of(row.amount, row.currency)
    known = {row.id: row for row in rows if money[row.id] > 0}
    ranked = sorted(known.values(), key=lambda row: (-money[row.id], len(row.number), row.number))
    total = sum((money[key] for key in known), Decimal())
    wanted, sofar = total * (request.share_percent or SHARE) / 100, Decimal()
    answer = pb.ListKeyAccountCandidatesResponse(
        unconverted=sorted(worth.lost), total=Money(total, own).message()
    )
    for row in ranked:
        if sofar >= wanted:
            break
        sofar += money[row.id]
        answer.candidates.add(
            account=f"accounts/{row.id}", number=row.number, display_name=row.display_name,
            collected=Money(money[row.id], own).message(), cumulative_percent=_percent(sofar, total),
        )  # fmt: skip
    plans = await _plans([one.account for one in answer.candidates], day.year, call)
    for one in answer.candidates:
        one.plan = plans.get(one.account, "")
    return answer


class _Worth:
    """Amounts in one currency at the rates of a day; what has no rate is worth nothing and said to be lost."""

    def __init__(self, own: str, day: date, call: Call) -> None:
        self._own, self._day, self._call = own, day, call
        self.lost: set[str] = set()

    def of(self, amount: Decimal, currency: str) -> Decimal:
        rate = rate_of(currency or self._own, self._own, self._day, self._call)
        if rate is None:
            self.lost.add(currency)
            return Decimal()
        return amount * rate.value


async def follow(plan: AccountPlan, call: Call) -> None:
    """What a plan that begins, changes or ends means for its account: the tier, the sea and who works on it."""
    account = await call.named(Account, plan.account, lock=True)
    if account is None or account.state == "MERGED":
        return
    await keep(account, call, plan.name)
    team = {one.employee for one in plan.team} | {plan.owner} if plan.state in SERVING else set()
    for one in list(account.collaborations):
        if one.cause == plan.name and one.employee not in team:
            await ownership.unshare(account, one.employee, call)
    for employee in sorted(team - {account.owner, "", *account.collaborators}):
        await ownership.share(account, employee, "WORK", None, plan.name, call)


async def keep(account: Account, call: Call, cause: str = "") -> None:
    """Says anew by which tier the account is served and whether it is a key account: by the plan that runs for it."""
    running = await _running(account.name, call)
    tier = running.service_tier if running else ""
    if account.service_tier != tier:
        before, account.service_tier = account.service_tier, tier
        plan = cause or (running.name if running else "")
        call.emit(events.ServiceTierChanged, account=account, **{"from": before, "to": tier, "plan": plan})
    watch(account, call, key_account=running is not None)


async def look_back(plan: AccountPlan, findings: str, call: Call) -> Any:
    """What the review finds beside what people say: money, how well we know the deciders, meetings missed."""
    own = next((one.target.currency_code for one in plan.objectives if one.HasField("target")), CURRENCY)
    day = today(call)
    paid = collected(date(plan.year, 1, 1), min(day, date(plan.year, 12, 31))).where(
        Figure.account == plan.account
    )
    worth = _Worth(own, day, call)
    money = sum([worth.of(row.amount, row.currency) for row in await call.db.execute(paid)], Decimal())
    account = await call.named(Account, plan.account)
    chart = await org_chart(account, call) if account is not None else None
    review = pb.AccountPlan.Review(
        employee=call.caller.employee, findings=findings, coverage_percent=chart.coverage_percent if chart else "",
        collected=Money(money, own).message(),
        overdue_meetings=sum(pair.overdue for pair in (await meetings(plan, call)).pairs),
    )  # fmt: skip
    review.time.CopyFrom(to_timestamp(call.now))
    return review


async def meetings(plan: AccountPlan, call: Call) -> pb.ListMeetingsResponse:
    """Each pair with when they last spoke, as it was logged, and whether that is too long ago."""
    answer = pb.ListMeetingsResponse()
    if not plan.meetings:
        return answer
    contacts = sorted({one.contact for one in plan.meetings})
    spoken = (
        select(Interaction.owner, Interaction.start_time, func.unnest(Interaction.contacts).label("who"))
        .where(
            Interaction.account == plan.account,
            Interaction.contacts.op("&&")(literal(contacts, ARRAY(Text))),
        )
        .subquery()
    )
    latest = select(spoken.c.who, spoken.c.owner, func.max(spoken.c.start_time)).group_by(
        spoken.c.who, spoken.c.owner
    )
    async with call.everybody():
        last = {(who, owner): time for who, owner, time in await call.db.execute(latest)}
    day, begun = today(call), plan.create_time
    rows: list[tuple[date, Any]] = []
    for one in plan.meetings:
        time: datetime | None = last.get((one.contact, one.employee))
        due = (time or begun).astimezone(ZONE).date() + timedelta(days=one.every_days)
        pair = pb.ListMeetingsResponse.Pair(
            contact=one.contact,
            employee=one.employee,
            every_days=one.every_days,
            overdue=due < day,
            due_date=to_date(due),
        )
        if time is not None:
            pair.last_time.CopyFrom(to_timestamp(time))
        rows.append((due, pair))
    answer.pairs.extend(
        pair for _, pair in sorted(rows, key=lambda row: (row[0], row[1].contact, row[1].employee))
    )
    return answer


def tell_review(plan: AccountPlan, actions: list[Any], call: Call) -> None:
    """The review with what is to be done; who it is on is the manager where nobody is named."""
    named = []
    for one in actions:
        copy = pb.AccountPlan.Action()
        copy.CopyFrom(one)
        copy.employee = one.employee or plan.owner
        named.append(copy)
    call.emit(events.AccountPlanReviewed, plan=plan, actions=named)


@cron("0 8 * * *", collapse=True)
async def mind_plans(as_of: datetime, call: Call) -> None:
    """Begins the plans whose year has come, and reminds once of each review that is due."""
    day = today(call)
    waiting = select(AccountPlan).where(AccountPlan.state == "APPROVED", AccountPlan.year <= day.year)
    for plan in await call.db.scalars(waiting.with_for_update(skip_locked=True)):
        await plan.begin(call)
    due = select(AccountPlan).where(AccountPlan.state == "RUNNING", AccountPlan.review_date <= day)
    for plan in await call.db.scalars(due):
        zh, en = f"请回顾大客户计划：{plan.display_name}", f"Review the account plan {plan.display_name}"
        key = f"accountPlan:{plan.id}:{plan.review_date}"
        raise_notice("planReview", zh, en, call, key=key, employees=[plan.owner], subjects=[plan.name])


async def _running(account: str, call: Call) -> AccountPlan | None:
    """The plan by which the account is served: of two years the later one's."""
    statement = select(AccountPlan).where(AccountPlan.account == account, AccountPlan.state.in_(SERVING))
    async with call.everybody():
        return await call.db.scalar(statement.order_by(AccountPlan.year.desc()).limit(1))


async def _plans(accounts: list[str], year: int, call: Call) -> dict[str, str]:
    statement = select(AccountPlan).where(
        AccountPlan.account.in_(accounts), AccountPlan.year == year, AccountPlan.state.in_(IN_FORCE),
        predicate(AccountPlan, call.caller),
    )  # fmt: skip
    return {plan.account: plan.name for plan in await call.db.scalars(statement)}


def _a_year_before(day: date) -> date:
    return (
        day.replace(year=day.year - 1, day=28)
        if (day.month, day.day) == (2, 29)
        else day.replace(year=day.year - 1)
    )


def _percent(part: Decimal, whole: Decimal) -> str:
    return str((100 * part / whole).quantize(Decimal("0.1"), ROUND_HALF_UP)) if whole else "0.0"
