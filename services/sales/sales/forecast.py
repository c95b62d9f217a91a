"""What may come, and what past deals say about one that is open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import sqrt
from typing import Any

from crm.sales.v1 import pb
from crmkit.amounts import check_currency
from crmkit.call import Call
from crmkit.company import today, with_beneath
from crmkit.errors import Validation, required
from crmkit.exchange import rate_of
from crmkit.listing import ZONE
from crmkit.mapping import read_date, to_date
from crmkit.scope import predicate
from crmkit.values import Money, zero
from sqlalchemy import ColumnElement, DateTime, Text, and_, case, func, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONPATH

from sales.model.opportunity import Opportunity
from sales.model.pipeline import RUNNING

FEWEST = 20
DAY = 24 * 60 * 60  # s
# Of the normal distribution, for an interval that holds nine times in ten.
Z = 1.6448536269514722


@dataclass
class Sum:
    """Deals, their amounts, and these weighted."""

    deals: int = 0
    amount: Decimal = Decimal(0)
    weighted: Decimal = Decimal(0)

    def join(self, other: Sum) -> None:
        """Takes in another sum."""
        self.deals, self.amount = self.deals + other.deals, self.amount + other.amount
        self.weighted += other.weighted


async def sums(
    start: date, end: date, day: date, call: Call, *which: ColumnElement[bool]
) -> dict[tuple[str, str], Sum]:
    """Open deals and those won in the period, by category and currency, each in exactly one."""
    deal: Any = Opportunity
    begins, ends = (datetime.combine(one, time(), ZONE) for one in (start, end + timedelta(days=1)))
    won = and_(deal.state == "WON", deal.close_time >= begins, deal.close_time < ends)
    due = deal.expected_close_date
    category = case(
        (deal.state == "WON", "CLOSED"),
        (due.is_(None), "UNDATED"),
        (due < day, "SLIPPED"),
        (due > end, "LATER"),
        (due < start, "EARLIER"),
        (deal.forecast_category == "", "PIPELINE"),
        else_=deal.forecast_category,
    ).label("bucket")
    table = deal.__table__.c
    # Weighted amounts are rounded deal by deal; the sum is never rounded again.
    asked = (
        select(
            category,
            func.coalesce(table.amount_currency, "").label("money"),
            func.count(),
            func.coalesce(func.sum(table.amount_amount), 0),
            func.coalesce(func.sum(table.weighted_amount_amount), 0),
        )
        .where(or_(deal.state.in_(RUNNING), won), *which)
        .group_by("bucket", "money")
    )
    return {(row[0], row[1]): Sum(*row[2:]) for row in await call.db.execute(asked)}


async def forecast(request: pb.EvaluateForecastRequest, call: Call) -> pb.EvaluateForecastResponse:
    """Every open deal in exactly one bucket, and what was won in the period."""
    start, end = read_date(request.from_date), read_date(request.to_date)
    if start is None or end is None:
        raise Validation(required("from_date" if start is None else "to_date"))
    day = today(call)
    which = [predicate(Opportunity, call.caller)]
    if request.department:
        which.append(Opportunity.department.in_(with_beneath([request.department], call)))
    buckets = await sums(start, end, day, call, *which)
    whole: dict[str, Sum] = defaultdict(Sum)
    for (category, currency), one in buckets.items():
        if category != "CLOSED":
            whole[currency].join(one)
    reply = pb.EvaluateForecastResponse(
        buckets=[_bucket(category, currency, one) for (category, currency), one in sorted(buckets.items())],
        open=[_bucket("", currency, one) for currency, one in sorted(whole.items())],
    )
    if request.currency:
        _convert(reply, buckets, request.currency, call)
    return reply


def _bucket(category: str, currency: str, one: Sum) -> Any:
    told = pb.EvaluateForecastResponse.Bucket(category=category, currency=currency, deals=one.deals)
    if currency:
        told.amount.CopyFrom(Money(one.amount, currency).message())
        told.weighted.CopyFrom(Money(one.weighted, currency).message())
    return told


def _convert(
    reply: pb.EvaluateForecastResponse, buckets: dict[tuple[str, str], Sum], currency: str, call: Call
) -> None:
    """Converts what is due in the period by the rates of today; what has no rate is left out and counted."""
    check_currency(currency, "currency")
    amount, weighted, oldest = zero(currency), zero(currency), None
    for (category, own), one in buckets.items():
        if category not in ("PIPELINE", "BEST_CASE", "COMMIT") or not own:
            continue
        rate = rate_of(own, currency, today(call), call)
        if rate is None:
            reply.unconverted += one.deals
            continue
        amount += Money(one.amount * rate.value, currency).rounded()
        weighted += Money(one.weighted * rate.value, currency).rounded()
        if rate.day is not None:
            oldest = min(filter(None, (oldest, rate.day)))
    reply.converted_amount.CopyFrom(amount.message())
    reply.converted_weighted.CopyFrom(weighted.message())
    if oldest is not None:
        reply.rate_date.CopyFrom(to_date(oldest))


async def outlook(deal: Opportunity, call: Call) -> pb.GetOpportunityOutlookResponse:
    """How long won deals of the pipeline still took from this stage, and how often they were won.

    Everybody's deals count: the figures tell of nobody's. To a partner his own alone: how we sell is not told.
    """
    visit = func.jsonb_path_query_first(
        Opportunity.stage_history,
        sql_cast("$[*] ? (@.stage == $stage)", JSONPATH),
        func.jsonb_build_object("stage", sql_cast(deal.stage, Text)),
    )
    entered = sql_cast(visit.op("->>")("enterTime"), DateTime(timezone=True))
    days = func.greatest(func.floor(func.extract("epoch", Opportunity.close_time - entered) / DAY), 0)
    won = Opportunity.state == "WON"
    asked = select(
        func.count().label("passed"),
        func.count().filter(won).label("won"),
        func.percentile_cont(0.5).within_group(days).filter(won).label("days"),
    ).where(
        Opportunity.pipeline == deal.pipeline,
        Opportunity.state.in_(("WON", "LOST")),
        Opportunity.close_time.is_not(None),
        entered.is_not(None),
    )
    if call.caller.account:
        asked = asked.where(predicate(Opportunity, call.caller))
    async with call.everybody():
        closed = (await call.db.execute(asked)).one()
    last = deal.stage_history[-1].enter_time.ToDatetime(call.now.tzinfo) if deal.stage_history else call.now
    reply = pb.GetOpportunityOutlookResponse(
        won=closed.won, closed=closed.passed, days_in_stage=(call.now - last).days
    )
    if closed.won >= FEWEST:
        reply.basis, reply.days_needed = True, round(closed.days)
    if closed.passed:
        low, high = wilson(closed.won, closed.passed)
        reply.win_percent = _percent(closed.won / closed.passed)
        reply.lowest_percent, reply.highest_percent = _percent(low), _percent(high)
    return reply


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 90 % interval of a share."""
    share = successes / trials
    middle = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z * sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials)) / (1 + Z * Z / trials)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"
