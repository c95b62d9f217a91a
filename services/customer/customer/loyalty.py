"""How loyal customers are: five indicators, each of facts of its period; and what happens when a degree falls (c.loyal)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from crm.customer.v1 import pb
from crm.options.v1 import options_pb2
from crmkit import runs
from crmkit.amounts import plain
from crmkit.auth import Caller
from crmkit.call import Call
from crmkit.company import today
from crmkit.errors import Problem
from crmkit.events import Fact, listens
from crmkit.mapping import to_date, to_timestamp
from crmkit.options import option
from crmkit.runs import Kind, Run
from crmkit.schedule import cron
from crmkit.values import Money
from sqlalchemy import case, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from customer.model.account import BROUGHT, Account
from customer.model.care import CareOccurrence
from customer.model.figure import Figure
from customer.model.loyalty import Loyalty
from customer.overview import openable

DEGREES = {"LOYAL": 75, "STABLE": 50, "WAVERING": 25, "DISTANT": 0}
ENOUGH = 2
REASONS = 3
CARE_WITHIN = timedelta(days=30)
YEAR = timedelta(days=365)
CHUNK = 500
_RUN = "ReckonLoyalty"
_DEAD = ("DRAFT", "CANCELLED", "REJECTED", "FAILED", "DELETED")
_HUNDRED = Decimal(100)
# No points are left at this discount.
_DEAREST = Decimal(30)


@dataclass(frozen=True)
class Scale:
    """What an indicator weighs, of how many months its facts are, and what a reader must be allowed to read."""

    weight: int
    months: int
    reads: tuple[str, ...]


SCALES = {
    "REPEAT_PURCHASE": Scale(30, 24, ("orders.orders.read",)),
    "SHARE_OF_WALLET": Scale(20, 12, ("sales.opportunities.read",)),
    "SATISFACTION": Scale(20, 12, ()),
    "PRICE_TOLERANCE": Scale(15, 24, ("sales.quotes.read",)),
    "REFERRAL": Scale(15, 36, ("customer.accounts.read", "orders.orders.read")),
}


@dataclass(frozen=True)
class Known:
    """What is known of one indicator: its value, what that is worth, and of how many facts it is."""

    value: Decimal
    points: int
    facts: int


Indicators = Mapping[str, Known]


async def loyalty(account: Account, call: Call) -> pb.AccountLoyalty:
    """The degree of an account now, with what it is made of as far as the reader may read it."""
    known = (await measured([account.name], call))[account.name]
    degree, score = degree_of(known)
    row = await call.db.get(Loyalty, account.id)
    last = row.degree if row is not None and row.degree else "UNKNOWN"
    answer = pb.AccountLoyalty(name=account.name, degree=degree, score=score, reckoned=last)
    for measure, scale in SCALES.items():
        answer.indicators.append(_shown(measure, scale, known.get(measure), call))
    answer.contribution.extend(await _contribution(account.name, call))
    if row is not None and row.since is not None:
        answer.reckoned_since.CopyFrom(to_date(row.since))
    if row is not None and row.churn is not None and row.churn_time is not None:
        answer.churn.CopyFrom(_churn(row, row.churn_time, call.caller))
    return answer


def degree_of(known: Indicators) -> tuple[Any, int]:
    """The degree and its points: the weighted mean of what is known; UNKNOWN with fewer than two indicators."""
    if len(known) < ENOUGH:
        return "UNKNOWN", 0
    whole = sum(SCALES[measure].weight for measure in known)
    score = round(sum(SCALES[measure].weight * one.points for measure, one in known.items()) / whole)
    return next(degree for degree, least in DEGREES.items() if score >= least), score


async def measured(accounts: Sequence[str], call: Call) -> dict[str, Indicators]:
    """The indicators of accounts of which something is known, from the facts of their periods."""
    day = today(call)
    found: dict[str, dict[str, list[Figure]]] = {name: defaultdict(list) for name in accounts}
    longest = since(day, max(scale.months for scale in SCALES.values()))
    kinds = ("orders", "opportunities", "quotes", "surveyResponses")
    figures = select(Figure).where(
        Figure.account.in_(accounts),
        Figure.collection.in_(kinds),
        Figure.day >= longest,
        Figure.state.not_in(_DEAD),
    )
    for row in await call.db.scalars(figures):
        found[row.account][row.collection].append(row)
    cared, brought = await _cared(accounts, day, call), await _brought(accounts, day, call)
    answer: dict[str, Indicators] = {}
    for name, rows in found.items():
        given = {
            "REPEAT_PURCHASE": _repeat(_within(rows["orders"], "REPEAT_PURCHASE", day)),
            "SHARE_OF_WALLET": _wallet(_within(rows["opportunities"], "SHARE_OF_WALLET", day)),
            "SATISFACTION": _satisfaction(_within(rows["surveyResponses"], "SATISFACTION", day), cared[name]),
            "PRICE_TOLERANCE": _tolerance(_within(rows["quotes"], "PRICE_TOLERANCE", day)),
            "REFERRAL": _referral(brought[name]),
        }
        answer[name] = {measure: one for measure, one in given.items() if one is not None}
    return answer


def since(day: date, months: int) -> date:
    """The first day of a period of so many months that ends today."""
    month = day.year * 12 + day.month - 1 - months
    first = date(month // 12, month % 12 + 1, 1)
    return first + timedelta(days=min(day.day, 28) - 1)


def _within(rows: Sequence[Figure], measure: str, day: date) -> list[Figure]:
    first = since(day, SCALES[measure].months)
    return [row for row in rows if row.day is not None and row.day >= first]


def _repeat(orders: Sequence[Figure]) -> Known | None:
    count = len(orders)
    return Known(Decimal(count), min(100, 25 * (count - 1)), count) if count else None


def _wallet(deals: Sequence[Figure]) -> Known | None:
    """Of the deals in the currency in which most were decided."""
    decided = [row for row in deals if row.state in ("WON", "LOST") and row.amount]
    by_currency: dict[str, list[Figure]] = defaultdict(list)
    for row in decided:
        by_currency[row.currency].append(row)
    if not decided:
        return None
    most = max(sorted(by_currency), key=lambda currency: len(by_currency[currency]))
    rows = by_currency[most]
    won = sum((row.amount or Decimal(0) for row in rows if row.state == "WON"), Decimal(0))
    percent = _percent(won, sum((row.amount or Decimal(0) for row in rows), Decimal(0)))
    return Known(percent, round(percent), len(rows))


def _tolerance(quotes: Sequence[Figure]) -> Known | None:
    """By the list price of each line, as a dear line says more than a cheap one."""
    whole, off, accepted = Decimal(0), Decimal(0), 0
    for quote in quotes:
        if quote.state != "ACCEPTED":
            continue
        lines = [
            (Decimal(str(line["unitPrice"]["amount"])) * Decimal(str(line.get("quantity") or 0)), line)
            for line in quote.detail.get("lines", [])
            if (line.get("unitPrice") or {}).get("amount")
        ]
        accepted += bool(sum(listed for listed, _ in lines))
        for listed, line in lines:
            whole += listed
            off += listed * Decimal(str(line.get("discountPercent") or 0)) / _HUNDRED
    if not whole:
        return None
    percent = _percent(off, whole)
    return Known(percent, max(0, round(_HUNDRED - percent * _HUNDRED / _DEAREST)), accepted)


def _referral(brought: int) -> Known | None:
    return Known(Decimal(brought), min(100, 40 + 20 * brought), brought) if brought else None


def _satisfaction(answers: Sequence[Figure], cared: Sequence[int]) -> Known | None:
    shares = [
        Decimal(str(row.detail["score"])) / Decimal(str(row.detail["maximum"]))
        for row in answers
        if row.detail.get("maximum") and row.detail.get("score") is not None
    ]
    shares += [Decimal(one) / 5 for one in cared]
    if not shares:
        return None
    percent = (sum(shares, Decimal(0)) / len(shares) * _HUNDRED).quantize(Decimal("0.1"))
    return Known(percent, max(0, min(100, round(percent))), len(shares))


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    return (part / whole * _HUNDRED).quantize(Decimal("0.1"))


async def _cared(accounts: Sequence[str], day: date, call: Call) -> dict[str, list[int]]:
    """What customers answered when they were cared for."""
    found: dict[str, list[int]] = defaultdict(list)
    statement = select(CareOccurrence.account, CareOccurrence.satisfaction).where(
        CareOccurrence.account.in_(accounts), CareOccurrence.state == "DONE", CareOccurrence.satisfaction > 0,
        CareOccurrence.due_date >= since(day, SCALES["SATISFACTION"].months),
    )  # fmt: skip
    async with call.everybody():
        for account, given in await call.db.execute(statement):
            found[account].append(given)
    return found


async def _brought(accounts: Sequence[str], day: date, call: Call) -> dict[str, int]:
    """How many customers each has brought that have paid an order, the first of them in the period."""
    found: dict[str, int] = defaultdict(int)
    named = select(Account.id, Account.source).where(
        Account.source.in_(accounts), text(f"accounts.{BROUGHT}"), Account.state != "MERGED"
    )
    async with call.everybody():
        sources = {f"accounts/{key}": source for key, source in await call.db.execute(named)}
    if not sources:
        return found
    paid = select(Figure.account, Figure.day).where(
        Figure.account.in_(list(sources)), Figure.collection == "orders", Figure.state.not_in(_DEAD),
        Figure.detail["paymentState"].astext == "PAID", Figure.day.is_not(None),
    )  # fmt: skip
    first: dict[str, date] = {}
    for account, when in await call.db.execute(paid):
        if when is not None:
            first[account] = min(first.get(account, when), when)
    for account, when in first.items():
        if when >= since(day, SCALES["REFERRAL"].months):
            found[sources[account]] += 1
    return found


async def _contribution(account: str, call: Call) -> list[Any]:
    """Money that came in within a year less what went back, of what the reader could open."""
    back = Figure.collection == "refunds"
    sums = (
        select(Figure.currency, func.sum(case((back, -Figure.amount), else_=Figure.amount)))
        .where(
            Figure.account == account, Figure.collection.in_(["allocations", "refunds"]),
            Figure.state.not_in(["REVERSED", "DELETED"]), Figure.day >= today(call) - YEAR,
            Figure.amount.is_not(None), openable(call.caller),
        )
        .group_by(Figure.currency)
        .order_by(Figure.currency)
    )  # fmt: skip
    return [Money(amount, currency).message() for currency, amount in await call.db.execute(sums)]


def _shown(measure: str, scale: Scale, known: Known | None, call: Call) -> Any:
    day = today(call)
    line = pb.AccountLoyalty.Indicator(
        measure=measure, weight=scale.weight, from_date=to_date(since(day, scale.months)),
        to_date=to_date(day),
    )  # fmt: skip
    if not all(call.caller.may(permission) for permission in scale.reads):
        line.withheld = True
    elif known is not None:
        line.value, line.points, line.facts = plain(known.value), known.points, known.facts
    return line


def _churn(row: Loyalty, time: datetime, reader: Caller) -> Any:
    language = "zh" if reader.locale.startswith("zh") else "en"
    churn = pb.AccountLoyalty.Churn(value=row.churn, band=row.churn_band, model=row.churn_model)
    churn.time.CopyFrom(to_timestamp(time))
    for factor in row.churn_factors[:REASONS]:
        words: dict[str, str] = factor.get("text") or {}
        churn.reasons.add(
            code=factor.get("code", ""), text=words.get(language, ""), points=int(factor.get("points") or 0)
        )
    return churn


@listens("crm.insight.v1.ScoreChanged")
async def on_score_changed(event: Fact, call: Call) -> None:
    """The latest score of churn, whichever comes first."""
    told = event.payload
    target = str(told.get("target", ""))
    if told.get("kind") != "CHURN" or not target.startswith("accounts/"):
        return
    factors = sorted(told.get("factors", []), key=lambda one: -int(one.get("points") or 0))
    row = {
        "id": UUID(target.partition("/")[2]), "churn": int(told.get("value") or 0), "churn_band": told.get("band", ""),
        "churn_factors": factors, "churn_model": told.get("model", ""), "churn_time": event.time,
    }  # fmt: skip
    statement = insert(Loyalty).values(row)
    fresh = {key: statement.excluded[key] for key in row if key != "id"}
    newer = Loyalty.churn_time.is_(None) | (Loyalty.churn_time < statement.excluded.churn_time)
    await call.db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=fresh, where=newer))


async def after_merge(call: Call, merge: str, redirects: Mapping[str, str], undone: bool) -> None:
    """Of merged accounts nothing is kept; if they come back, insight tells their risk again and the night the rest."""
    losers = [UUID(name.partition("/")[2]) for name in redirects if name.startswith("accounts/")]
    await call.db.execute(delete(Loyalty).where(Loyalty.id.in_(losers)))


@cron("30 3 * * *", collapse=True)
async def reckon_loyalty(as_of: datetime, call: Call) -> None:
    """Every night the degree of every customer is reckoned; where it has fallen, somebody cares."""
    await runs.start(call, _RUN, "loyalties/-", {}, f"system/{call.running.app.name}")


async def _work(run: Run) -> None:
    while run.phase != "ENDED":
        async with run.chunk() as call:
            last = UUID(run.tally.get("last", str(UUID(int=0))))
            live = Account.state.in_(["ACTIVE", "FROZEN"]) & (Account.merging == "") & (Account.owner != "")
            statement = select(Account).where(Account.id > last, live).order_by(Account.id).limit(CHUNK)
            async with call.everybody():
                accounts = list(await call.db.scalars(statement))
            if not accounts:
                run.next_phase("ENDED")
                continue
            await reckon(accounts, call)
            run.tally["last"], run.position = str(accounts[-1].id), run.position + 1


async def reckon(accounts: Sequence[Account], call: Call) -> None:
    """The degrees of the accounts now; one that is lower than the last known opens a call, once in thirty days."""
    order, day = list(DEGREES), today(call)
    by_name = {account.name: account for account in accounts}
    found = await measured(list(by_name), call)
    degrees = {name: degree_of(known)[0] for name, known in found.items()}
    rows = select(Loyalty).where(Loyalty.id.in_([account.id for account in accounts])).order_by(Loyalty.id)
    known = {f"accounts/{row.id}": row for row in await call.db.scalars(rows.with_for_update())}
    for name, degree in sorted(degrees.items()):
        row = known.get(name)
        if degree == "UNKNOWN" or (row is not None and row.degree == degree):
            continue
        before = row.degree if row is not None else ""
        fresh = {"degree": degree, "since": day}
        statement = insert(Loyalty).values(id=by_name[name].id, **fresh)
        await call.db.execute(statement.on_conflict_do_update(index_elements=["id"], set_=fresh))
        if before and order.index(degree) > order.index(before):
            account = by_name[name]
            words = {value.name: value for value in pb.AccountLoyalty.Degree.DESCRIPTOR.values}
            title = f"忠诚度下降：{account.display_name}（{_zh(words[before])} → {_zh(words[degree])}）"
            await CareOccurrence.open_call(account, "LOYALTY_FELL", title, CARE_WITHIN, call)
    await call.flush()


def _zh(value: Any) -> str:
    return option(value, options_pb2.text).zh


async def _cannot(run: Run, problem: Problem, call: Call) -> None:
    """The next night reckons everybody again."""


RUNS = {_RUN: Kind(_work, _cannot)}
