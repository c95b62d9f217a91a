"""Key accounts: who they are, what a plan changes for them, and who meets whom (c.keyacct)."""

from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from crm.common.v1 import common_pb2
from crm.customer.v1 import events_pb2 as events
from crm.customer.v1 import pb
from crm.options.v1 import options_pb2
from crmkit.call import Call
from crmkit.company import today
from crmkit.exchange import rate_of
from crmkit.listing import ZONE
from crmkit.mapping import to_date, to_timestamp
from crmkit.schedule import cron
from crmkit.scope import predicate
from sqlalchemy import Text, case, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from customer import ownership
from customer.model.account import Account
from customer.model.account_plan import IN_FORCE, AccountPlan
from customer.model.figure import Figure
from customer.model.interaction import Interaction
from customer.orgchart import org_chart
from customer.sea.states import watch

SHARE = 80
CURRENCY = "CNY"
_UNPAID = ("DRAFT", "CANCELLED", "REJECTED", "FAILED")


async def candidates(
    request: pb.ListKeyAccountCandidatesRequest, call: Call
) -> pb.ListKeyAccountCandidatesResponse:
    """The fewest customers of the reader's scope that brought the share; equal ones by number."""
    own = request.currency or CURRENCY
    day = today(call)
    money, lost = await collected(_a_year_before(day), own, day, call)
    ids = [name.rpartition("/")[2] for name in money]
    mine = select(Account.id, Account.number, Account.display_name).where(
        Account.id.in_(ids), predicate(Account, call.caller)
    )
    rows = [(f"accounts/{key}", number, name) for key, number, name in await call.db.execute(mine)]
    ranked = sorted((row for row in rows if money[row[0]] > 0), key=lambda row: (-money[row[0]], row[1]))
    total = sum((money[name] for name, _, _ in ranked), Decimal())
    plans = await _plans([name for name, _, _ in ranked], day.year, call)
    answer = pb.ListKeyAccountCandidatesResponse(unconverted=sorted(lost), total=_money(total, own))
    wanted, sofar = total * (request.share_percent or SHARE) / 100, Decimal()
    for name, number, shown in ranked:
        if sofar >= wanted:
            break
        sofar += money[name]
        answer.candidates.add(
            account=name, number=number, display_name=shown, collected=_money(money[name], own),
            cumulative_percent=_percent(sofar, total), plan=plans.get(name, ""),
        )  # fmt: skip
    return answer


async def collected(
    since: date, own: str, day: date, call: Call, account: str = ""
) -> tuple[dict[str, Decimal], set[str]]:
    """Money that came in since a day, net of refunds, by account; and the currencies that have no rate."""
    came = (Figure.collection == "allocations") & (Figure.state != "REVERSED")
    went = (Figure.collection == "paymentRefunds") & Figure.state.not_in(_UNPAID)
    signed = func.sum(case((Figure.collection == "allocations", Figure.amount), else_=-Figure.amount))
    statement = select(Figure.account, Figure.currency, signed).where(
        came | went,
        Figure.state != "DELETED",
        Figure.day >= since,
        Figure.day <= day,
        Figure.amount.is_not(None),
    )
    if account:
        statement = statement.where(Figure.account == account)
    found: dict[str, Decimal] = {}
    lost: set[str] = set()
    for name, currency, amount in await call.db.execute(statement.group_by(Figure.account, Figure.currency)):
        rate = rate_of(currency or own, own, day, call)
        if rate is None:
            lost.add(currency)
        else:
            found[name] = found.get(name, Decimal()) + amount * rate.value
    return found, lost


async def follow(plan: AccountPlan, call: Call) -> None:
    """What a plan that begins, changes or ends means for its account: the tier, the sea and who works on it."""
    account = await call.find(Account, Account.id == plan.account.rpartition("/")[2], lock=True)
    if account is None or account.state == "MERGED":
        return
    running = await call.find(
        AccountPlan, AccountPlan.account == account.name, AccountPlan.state.in_(("RUNNING", "REVIEWED"))
    )
    tier = running.service_tier if running else ""
    if account.service_tier != tier:
        before, account.service_tier = account.service_tier, tier
        call.emit(
            events.ServiceTierChanged, account=account, **{"from": before, "to": tier, "plan": plan.name}
        )
    team = (
        {one.employee for one in plan.team} | {plan.owner} if plan.state in ("RUNNING", "REVIEWED") else set()
    )
    for one in [
        c.employee for c in account.collaborations if c.cause == plan.name and c.employee not in team
    ]:
        await ownership.unshare(account, one, call)
    for one in sorted(team - {account.owner, "", *account.collaborators}):
        await ownership.share(account, one, "WORK", None, plan.name, call)
    watch(account, call, key_account=running is not None)


async def keep(account: Account, call: Call) -> None:
    """Says anew whether the account is a key account, where its plans came from another one."""
    running = await call.find(
        AccountPlan, AccountPlan.account == account.name, AccountPlan.state.in_(("RUNNING", "REVIEWED"))
    )
    if running is not None:
        await follow(running, call)
    else:
        watch(account, call, key_account=False)


async def look_back(plan: AccountPlan, findings: str, call: Call) -> Any:
    """What the review finds beside what people say: money, how well we know the deciders, meetings missed."""
    own = next((one.target.currency_code for one in plan.objectives if one.HasField("target")), CURRENCY)
    day = today(call)
    money, _ = await collected(date(plan.year, 1, 1), own, day, call, plan.account)
    account = await call.find(Account, Account.id == plan.account.rpartition("/")[2])
    chart = await org_chart(account, call) if account is not None else None
    review = pb.AccountPlan.Review(
        employee=call.caller.employee, findings=findings, coverage_percent=chart.coverage_percent if chart else "",
        collected=_money(money.get(plan.account, Decimal()), own),
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
    who = func.unnest(Interaction.contacts).column_valued("who")
    spoken = (
        select(Interaction.owner, who, func.max(Interaction.start_time))
        .where(
            Interaction.account == plan.account,
            Interaction.contacts.op("&&")(literal(contacts, ARRAY(Text))),
        )
        .group_by(who, Interaction.owner)
    )
    async with call.everybody():
        last = {(contact, owner): time for owner, contact, time in await call.db.execute(spoken)}
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
        notice = common_pb2.NoticeRaised(
            kind="planReview", subjects=[plan.name], employees=[plan.owner],
            dedupe_key=f"accountPlan:{plan.id}:{plan.review_date}",
            text=options_pb2.Text(zh=f"请回顾大客户计划：{plan.display_name}", en=f"Review the account plan {plan.display_name}"),
        )  # fmt: skip
        call.tell("crm.customer.v1.NoticeRaised", notice, None)


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


def _money(amount: Decimal, currency: str) -> common_pb2.Money:
    return common_pb2.Money(
        currency_code=currency, amount=str(amount.quantize(Decimal("0.01"), ROUND_HALF_UP))
    )


def _percent(part: Decimal, whole: Decimal) -> str:
    return str((100 * part / whole).quantize(Decimal("0.1"), ROUND_HALF_UP)) if whole else "0.0"
